"""PyTorch's DTensor: one tensor whose parts are on the devices of a mesh.

What is computed for one token of one head needs nothing of the others, so every device computes on its part
and nothing is sent. What is aligned with the part (positions, tables) is cut as it is: a device makes tables
of its own tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rope_xp._backends import torch
from rope_xp._backends.library import Array, Distributed

# Which axis of all arguments each axis is. None: it is whole on every device.
Axes = tuple[int | None, ...]
# Of each axis that is split: where this device's part starts, its length, and that of the whole.
Parts = dict[int, tuple[int, int, int]]


class Operand(NamedTuple):
    """An argument of what is computed on every device."""

    name: str
    array: Array
    axes: Axes


def map_parts(
    function: Callable[..., Any],
    operands: Sequence[Operand],
    shape: Sequence[int],
    axes: Axes,
) -> Any:
    """``function`` of what each device has: one array or several, of this shape and these axes.

    The first operand is a DTensor, and the results are split as it is. Others are whole on every device, or
    DTensors that are split as the first one or less.
    """
    lead = operands[0]
    mesh = lead.array.device_mesh
    splits = _splits(lead)
    parts = _parts(lead, splits, mesh)
    made = function(*(_local(each, lead, splits, parts) for each in operands))
    placements = _placements(splits, axes)
    if isinstance(made, tuple):
        return tuple(_wrap(each, mesh, placements, shape) for each in made)
    return _wrap(made, mesh, placements, shape)


def map_blocks(
    function: Callable[..., Array], x: Array, cos: Array, sin: Array, *, out: Array | None = None
) -> Array:
    """``function(x, cos, sin, out=out)`` on every device.

    Tables have the axes of ``x``, of the same size or 1, but for the last, which is whole.
    """
    axes = _features_whole(x)
    named = zip(("x", "cos", "sin"), (x, cos, sin), strict=True)
    operands = [Operand(name, array, axes) for name, array in named]
    if out is None:
        rotated: Array = map_parts(function, operands, x.shape, axes)
        return rotated
    import torch as xp

    if torch.is_differentiated(x, cos, sin, out):
        msg = "`out` must be None where a DTensor has a gradient, got one: what is written there has none"
        raise TypeError(msg)
    if not is_distributed(out) or out.placements != x.placements:
        msg = f"`out` must be a DTensor with the placements of `x`, {x.placements}, got {_describe(out)}"
        raise TypeError(msg)
    operands.append(Operand("out", out, axes))
    with xp.no_grad():
        map_parts(lambda *parts: function(*parts[:3], out=parts[3]), operands, x.shape, axes)
    torch.mark_written(out)
    return out


def map_positions(
    function: Callable[..., tuple[Array, Array]], positions: Array, n_axes: int, n_pairs: int
) -> tuple[Array, Array]:
    """Tables ``function(positions)``, (..., n_pairs), of what each device has of ``positions``.

    The first ``n_axes`` axes of positions are not those of tokens, 0 or 1 of them.
    """
    tokens = tuple(range(n_axes, positions.ndim))
    operand = Operand("positions", positions, (*(None,) * n_axes, *tokens))
    shape = (*positions.shape[n_axes:], n_pairs)
    made: tuple[Array, Array] = map_parts(function, [operand], shape, (*tokens, None))
    return made


def place(name: str, x: Array, steps_name: str, steps: Array, axes: Axes) -> Array:
    """``steps`` (positions, of any kind) as a DTensor that is split as ``x`` along their common axes.

    ``axes`` are those of ``x`` that the axes of ``steps`` belong to; None: no axis of it.
    """
    lead = Operand(name, x, _features_whole(x))
    splits = _splits(lead)
    parts = _parts(lead, splits, x.device_mesh)
    local = _local(Operand(steps_name, steps, axes), lead, splits, parts)
    pairs = zip(axes, steps.shape, strict=True)
    common = {a for a, size in pairs if a in parts and size == parts[a][-1]}
    placements = _placements([s if s in common else None for s in splits], axes)
    return _wrap(local, x.device_mesh, placements, tuple(steps.shape))


def is_distributed(array: Array) -> bool:
    return type(array).__module__ == "torch.distributed.tensor"


def is_split_alike(q: Array, k: Array, axes: Axes) -> bool:
    """Whether each device has the same of ``q`` and ``k`` along ``axes``; TypeError unless both are DTensors."""
    if not is_distributed(k):
        msg = (
            f"`k` must be a DTensor, as `q` is, got {_describe(k)}: make it one with DTensor.from_local, "
            f"or pass what this device has of `q`, its to_local()"
        )
        raise TypeError(msg)
    if q.ndim != k.ndim or q.device_mesh != k.device_mesh:
        return False
    of_q, of_k = (
        [axis if axis in axes else None for axis in _splits(Operand(name, x, _features_whole(x)))]
        for name, x in (("q", q), ("k", k))
    )
    return of_q == of_k


def _features_whole(x: Array) -> Axes:
    return (*range(x.ndim - 1), None)


def _describe(array: Array) -> str:
    if is_distributed(array):
        return f"one with placements {array.placements}"
    return f"a {type(array).__name__}"


def _splits(operand: Operand) -> list[int | None]:
    """For each axis of the mesh the axis of the arguments that it splits, if any."""
    from torch.distributed.tensor import Replicate, Shard

    name, array, axes = operand
    found: list[int | None] = []
    for placement in array.placements:
        if type(placement) is Replicate:
            found.append(None)
            continue
        if type(placement) is not Shard:
            msg = (
                f"`{name}` must be placed by Shard and Replicate only, got {array.placements}: "
                f"redistribute it first, `{name}.redistribute(placements=...)`"
            )
            raise TypeError(msg)
        dim = placement.dim % array.ndim
        axis = axes[dim]
        if axis is None:
            what = "whole heads" if dim == array.ndim - 1 else f"the whole of axis {dim}"
            msg = (
                f"`{name}` must have {what} on every device, got {array.placements} for shape "
                f"{tuple(array.shape)}: redistribute it along batch, heads or sequence first, "
                f"`{name}.redistribute(placements=...)`"
            )
            raise ValueError(msg)
        found.append(axis)
    return found


def _parts(operand: Operand, splits: Sequence[int | None], mesh: Any) -> Parts:
    """What this device has along the axes that are split: as torch.chunk cuts them, last ones short."""
    sizes = {
        axis: operand.array.shape[i] for i, axis in enumerate(operand.axes) if axis is not None
    }
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # this process is not in the mesh: it has nothing of anything
        return {axis: (0, 0, size) for axis, size in sizes.items()}
    parts: Parts = {}
    for i, axis in enumerate(splits):
        if axis is None:
            continue
        start, length, whole = parts.get(axis, (0, sizes[axis], sizes[axis]))
        most = -(-length // mesh.size(i))
        first = min(most * coordinate[i], length)
        parts[axis] = (start + first, min(most, length - first), whole)
    return parts


def _local(operand: Operand, lead: Operand, splits: Sequence[int | None], parts: Parts) -> Array:
    """What this device needs of an operand, beside its part of the first one."""
    name, array, axes = operand
    if not is_distributed(array):
        if torch.is_differentiated(array) and any(s is not None for s in splits):
            msg = (
                f"`{name}` must be a DTensor where it has a gradient, of which each device has only a part, "
                f"got a plain tensor beside `{lead.name}` with placements {lead.array.placements}: use "
                f"distribute_tensor, or DTensor.from_local"
            )
            raise TypeError(msg)
        return _cut(array, array.shape, axes, parts, {})
    if array.device_mesh != lead.array.device_mesh:
        msg = (
            f"`{name}` must be on the mesh of `{lead.name}`, {lead.array.device_mesh}, "
            f"got {array.device_mesh}"
        )
        raise ValueError(msg)
    own = splits if operand is lead else _splits(operand)
    if operand is not lead:
        _require_fewer_splits(operand, own, lead, splits)
    local = array.to_local(grad_placements=_gradient_placements(own, splits, axes))
    if array.device_mesh.get_coordinate() is None:
        return local.new_empty(
            [n if a is None else 0 for n, a in zip(array.shape, axes, strict=True)]
        )
    if own == splits:
        return local
    return _cut(local, array.shape, axes, parts, _parts(operand, own, array.device_mesh))


def _require_fewer_splits(
    operand: Operand, own: Sequence[int | None], lead: Operand, splits: Sequence[int | None]
) -> None:
    """ValueError unless every device has at least what it needs of the operand."""
    for axis in {*own} - {None}:
        mine = [i for i, a in enumerate(own) if a == axis]
        wanted = [i for i, a in enumerate(splits) if a == axis]
        size, whole = (o.array.shape[o.axes.index(axis)] for o in (operand, lead))
        if mine != wanted[: len(mine)] or size != whole:
            msg = (
                f"`{operand.name}` must be split as `{lead.name}` is, with placements "
                f"{lead.array.placements} of axes {lead.axes}, or replicated, got "
                f"{operand.array.placements} for shape {tuple(operand.array.shape)}: redistribute one of them"
            )
            raise ValueError(msg)


def _cut(array: Array, shape: Sequence[int], axes: Axes, parts: Parts, own: Parts) -> Array:
    """``parts`` of an array of this shape, of which ``array`` is this device's ``own`` part, or all."""
    index = []
    for axis, size in zip(axes, shape, strict=True):
        start, length, whole = (0, size, size) if axis is None else parts.get(axis, (0, size, size))
        if axis in own:
            start -= own[axis][0]
        # What has size 1 where the first operand has more is the same for all of it.
        index.append(slice(start, start + length) if size == whole else slice(None))
    return array[tuple(index)]


def _placements(splits: Sequence[int | None], axes: Axes) -> tuple[Any, ...]:
    from torch.distributed.tensor import Replicate, Shard

    return tuple(Replicate() if axis is None else Shard(axes.index(axis)) for axis in splits)


def _gradient_placements(
    own: Sequence[int | None], splits: Sequence[int | None], axes: Axes
) -> tuple[Any, ...]:
    """A device's gradient is of what it used: a part of the sum where others used other parts."""
    from torch.distributed.tensor import Partial

    pairs = zip(_placements(own, axes), own, splits, strict=True)
    return tuple(placement if mine == wanted else Partial() for placement, mine, wanted in pairs)


def _wrap(local: Array, mesh: Any, placements: tuple[Any, ...], shape: Sequence[int]) -> Array:
    """The DTensor of which each device has its ``local`` part."""
    from torch.distributed.tensor import DTensor

    strides: list[int] = []
    size = 1
    for length in reversed(shape):
        strides.insert(0, size)
        size *= max(length, 1)
    # Without its shape, that would be a multiple of what this device has.
    return DTensor.from_local(
        local.contiguous(),
        mesh,
        placements,
        run_check=False,
        shape=tuple(shape),
        stride=tuple(strides),
    )


LIBRARY = replace(
    torch.LIBRARY,
    map_blocks=map_blocks,
    distributed=Distributed(
        place=place, is_split_alike=is_split_alike, map_positions=map_positions
    ),
)
