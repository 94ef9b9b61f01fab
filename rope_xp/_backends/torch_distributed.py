"""PyTorch's DTensor: one tensor whose parts are on the devices of a mesh.

What is computed for one token of one head needs nothing of the others, so every device computes on its part
and nothing is sent. What is aligned with the part (positions, tables) is cut as it is: a device makes tables
of its own tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rope_xp._backends import torch
from rope_xp._backends.library import Array, Axes, Blocks, Operand, Result

# Of each axis that is split: where this device's part starts, its length, and that of the whole.
Parts = dict[int, tuple[int, int, int]]


def map_parts(
    function: Callable[..., Any], operands: Sequence[Operand], results: Sequence[Result]
) -> list[Array]:
    """``function`` of what each device has of DTensors. Results are split as the first operand is."""
    lead = operands[0]
    splits = _splits(lead)
    made = function(*(_local(each, splits) for each in operands))
    parts = made if isinstance(made, tuple) else (made,)
    return [
        _wrap(part, lead.array.device_mesh, _placements(splits, result.axes), result.shape)
        for part, result in zip(parts, results, strict=True)
    ]


def place(operand: Operand, like: Operand, _few: int) -> Array:
    """A tensor, of which every process has all, or a DTensor that is split as ``like`` is or less."""
    if isinstance(operand.array, np.ndarray):
        return operand.array
    splits, mesh = _splits(like), like.array.device_mesh
    parts = _parts(like, splits, mesh)
    sizes = zip(operand.axes, operand.array.shape, strict=True)
    # What has size 1 where the other has more is the same for all of it.
    common = {axis for axis, size in sizes if axis in parts and size == parts[axis][-1]}
    wanted = [axis if axis in common else None for axis in splits]
    if not is_distributed(operand.array):
        _require_no_gradient(operand, like, splits)
        part = _cut(operand, parts, {})
    else:
        _require_mesh(operand, like)
        own = _splits(operand)
        _require_fewer_splits(operand, own, like, splits)
        if own == wanted:
            return operand.array
        part = _cut(
            operand._replace(array=_local(operand, wanted)), parts, _parts(operand, own, mesh)
        )
    return _wrap(part, mesh, _placements(wanted, operand.axes), operand.array.shape)


def is_distributed(array: Array) -> bool:
    return type(array).__module__ == "torch.distributed.tensor"


def is_split_alike(operand: Operand, other: Operand, axes: Sequence[int]) -> bool:
    """TypeError unless both are DTensors."""
    if not is_distributed(other.array):
        msg = (
            f"`{other.name}` must be a DTensor, as `{operand.name}` is, got a "
            f"{type(other.array).__name__}: make it one with DTensor.from_local, or pass what this device "
            f"has of `{operand.name}`, its to_local()"
        )
        raise TypeError(msg)
    mine, theirs = (
        [axis if axis in axes else None for axis in _splits(each)] for each in (operand, other)
    )
    one_mesh = operand.array.device_mesh == other.array.device_mesh
    return one_mesh and operand.array.ndim == other.array.ndim and mine == theirs


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


def _local(operand: Operand, splits: Sequence[int | None]) -> Array:
    """What this device has of a DTensor that is used beside one with these ``splits``."""
    array, axes = operand.array, operand.axes
    local = array.to_local(grad_placements=_gradient_placements(_splits(operand), splits, axes))
    if array.device_mesh.get_coordinate() is not None:
        return local
    return local.new_empty([n if a is None else 0 for n, a in zip(array.shape, axes, strict=True)])


def _cut(operand: Operand, parts: Parts, own: Parts) -> Array:
    """``parts`` of a tensor of which this device has its ``own`` parts, or all."""
    index = []
    for axis, size in zip(operand.axes, operand.array.shape, strict=True):
        cut = slice(None)
        if axis is not None and axis in parts:
            start, length, whole = parts[axis]
            before, _, all_of_it = own.get(axis, (0, size, size))
            if all_of_it == whole:
                cut = slice(start - before, start - before + length)
        index.append(cut)
    return operand.array[tuple(index)]


def _require_no_gradient(operand: Operand, like: Operand, splits: Sequence[int | None]) -> None:
    """TypeError if a plain tensor has a gradient of which each device would have only a part."""
    if torch.is_differentiated(operand.array) and any(s is not None for s in splits):
        msg = (
            f"`{operand.name}` must be a DTensor where it has a gradient, of which each device has only a "
            f"part, got a plain tensor beside `{like.name}` with placements {like.array.placements}: use "
            f"distribute_tensor, or DTensor.from_local"
        )
        raise TypeError(msg)


def _require_mesh(operand: Operand, like: Operand) -> None:
    mesh, got = like.array.device_mesh, operand.array.device_mesh
    if got != mesh:
        msg = f"`{operand.name}` must be on the mesh of `{like.name}`, {mesh}, got {got}"
        raise ValueError(msg)


def _require_fewer_splits(
    operand: Operand, own: Sequence[int | None], like: Operand, splits: Sequence[int | None]
) -> None:
    """ValueError unless every device has at least what it needs of the operand."""
    for axis in {*own} - {None}:
        mine = [i for i, a in enumerate(own) if a == axis]
        wanted = [i for i, a in enumerate(splits) if a == axis]
        size, whole = (o.array.shape[o.axes.index(axis)] for o in (operand, like))
        if mine != wanted[: len(mine)] or size != whole:
            msg = (
                f"`{operand.name}` must be split as `{like.name}` is, with placements "
                f"{like.array.placements} of axes {like.axes}, or replicated, got "
                f"{operand.array.placements} for shape {tuple(operand.array.shape)}: redistribute one of them"
            )
            raise ValueError(msg)


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
    place=place,
    blocks=Blocks(map=map_parts, is_split_alike=is_split_alike),
)
