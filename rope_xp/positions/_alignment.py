"""Positions of queries and keys, aligned with their axes by meaning instead of as arrays broadcast."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Axes, Device, Dtype, Namespace
from rope_xp._validation import is_known, quote, require_integer, require_real
from rope_xp.positions._tokens import as_offset, count_from

# Along every axis, or for each.
SeqLen = int | None | tuple[int | None, ...]


class Placement(TypedDict, total=False):
    """The options of calling a `RoPE` and of its inverse."""

    positions: Array | None
    offset: int | Array
    seq_len: SeqLen
    seq_axis: int


def resolve_positions(
    q: Array,
    axis: int,
    positions: Array | None,
    offset: int | Array,
    *,
    scheme: Any = None,
    few: int = 0,
    xp: Namespace | None = None,
) -> Array:
    """``positions``, or by default those that follow ``offset``; checked against the shape of ``q``.

    ``scheme`` is that of which given ``positions`` have axes. ``xp`` is the namespace of ``q`` and
    ``positions``, looked up if None. Up to ``few`` positions are NumPy's, where what is made of them is
    sooner copied to ``q`` than made there.
    """
    # In this order: compiled programs would depend on a comparison with what they trace.
    if positions is None and few and type(offset) is int and _backends.is_near_host(q):
        seq = q.shape[axis]
        if type(seq) is int and seq <= few and 0 <= offset <= 2**30:
            return np.arange(offset, offset + seq, dtype=np.int32)  # most often: a decode step
    offset = as_offset("offset", offset)
    if positions is not None:
        if _backends.is_array(offset) or offset != 0:
            msg = f"`offset` must be 0 when `positions` are given, got {quote(offset)}"
            raise ValueError(msg)
        require_positions_along("positions", positions, "q", q, axis, axes=scheme)
        return positions
    seq = _backends.size_along(q, axis)
    if seq is None:
        msg = "`positions` must be given where the sequence length of a lazy `q` is unknown"
        raise ValueError(msg)
    xp = _backends.namespace(q=q) if xp is None else xp
    if _backends.is_array(offset):
        if not isinstance(offset, np.ndarray):
            _backends.namespace(q=q, offset=offset)
        if offset.ndim == 1:
            require_batch("offset", offset, "q", q, axis)
    dtype = _dtype_after("offset", offset, seq, xp, _backends.device(q))
    blocks = _backends.blocks_of(q)
    if blocks is None or blocks.indices is None:
        return count_from(offset, seq, xp, dtype, _backends.device(q))  # (seq,) or (batch, seq)
    if not _backends.is_array(offset):
        return blocks.indices(q, axis, offset, dtype)
    offset = _backends.place("q", q, (0,)[: offset.ndim], offset=offset)
    return _backends.cast(offset, dtype, xp)[..., None] + blocks.indices(q, axis, 0, dtype)


def place_along(
    name: str, x: Array, axis: int, scheme: Any, *, few: int = 0, **positions: Array
) -> Array:
    """Positions, by their name, where their tokens of ``x`` (an argument ``name``) are.

    So tables are made where they are used, and none for the tokens of another device; but those of up to
    ``few`` positions on the host.
    """
    ((positions_name, array),) = positions.items()
    axes = axes_of(array, axis, scheme)
    few = few if scheme is None else few * scheme.n_axes
    return _backends.place(name, x, axes, few=few, **{positions_name: array})


def axes_of(positions: Array, axis: int, scheme: Any) -> Axes:
    """The axes of an array, with tokens along ``axis``, that positions have; None is that of the scheme."""
    of_scheme = () if scheme is None else (None,)
    return (*of_scheme, *((), (axis,), (0, axis))[positions.ndim - len(of_scheme)])


def on_every_axis(wanted: Any, scheme: Any, positions: Array, xp: Namespace) -> Array:
    """Positions with the axes of the ``wanted`` scheme: on each the same, as of text, if they had none."""
    if scheme is not None or wanted is None:
        return positions
    xp = _backends.compat_namespace(None) if isinstance(positions, np.ndarray) else xp
    return xp.broadcast_to(positions[None, ...], (wanted.n_axes, *positions.shape))


def as_steps(name: str, delta: Any, of: str, x: Array, xp: Namespace) -> Array:
    """Steps to move by as integers beside ``x``; NumPy's where only NumPy has them."""
    if _backends.is_host_array(delta):
        (delta,) = _backends.beside(of, x, xp, may_stay=True, **{name: delta})
    if not _backends.is_array(delta) or (isinstance(delta, np.ndarray) and delta.ndim == 0):
        delta, device = as_offset(name, delta), _backends.device(x)
        delta = xp.full((), delta, dtype=_dtype_after(name, delta, 1, xp, device), device=device)
    require_integer(name, delta)
    if not isinstance(delta, np.ndarray):
        _backends.namespace(**{of: x, name: delta})
    return delta


def _dtype_after(
    name: str, offset: int | Array, n: int, xp: Namespace, device: Device | None
) -> Dtype:
    """A dtype for ``n`` positions after ``offset``: int32 if they fit, because two digits are fewest.

    ValueError if the library has none that holds them.
    """
    if _backends.is_array(offset):
        values = _backends.host_values(offset)
        if values is None or not values.size:
            kind = _backends.dtype_name(offset.dtype)
            if kind not in ("uint32", "int64", "uint64"):
                return xp.int32
            integer = _backends.default_integer_dtype(xp, device)
            return integer if kind != "uint64" and _is_int64(integer) else offset.dtype
        first, last = int(values.min()), int(values.max())
    elif isinstance(offset, int):
        first = last = offset
    else:  # a size that is traced
        return xp.int32
    most = n if isinstance(n, int) else 2**30  # what is traced does not compare
    # No sequence that starts below 2**30 leaves int32, and a comparison with a traced ``n`` would make
    # the compiled program depend on it.
    if first >= -(2**31) and (last <= 2**30 or last + most <= 2**31):
        return xp.int32
    integer = _backends.default_integer_dtype(xp, device)
    bits = 64 if _is_int64(integer) else 32
    if first < -(2 ** (bits - 1)) or last + most > 2 ** (bits - 1):
        msg = (
            f"`{name}` must keep positions in the range of int{bits}, the widest integers here, "
            f"[-2**{bits - 1}, 2**{bits - 1}), got {quote(last if last > 0 else first)}"
            f"{'' if n == 1 else f' for {n} tokens'}"
        )
        raise ValueError(msg)
    return integer


def _is_int64(dtype: Dtype) -> bool:
    return _backends.dtype_name(dtype) == "int64"


def require_same_length(q: Array, q_axis: int, k: Array, k_axis: int) -> None:
    seq, got = q.shape[q_axis], k.shape[k_axis]
    if seq != got and is_known(seq) and is_known(got):
        msg = (
            f"`k` must have the sequence length of `q`, {seq}, got {got} (axis {k_axis} of shape "
            f"{tuple(k.shape)}); rotate them in two calls, each with its positions"
        )
        if min(q.ndim, k.ndim) > 2 and q.shape[-3] == k.shape[-3] and q_axis == q.ndim - 2:
            msg += ", or pass seq_axis=-3 if they are (..., seq, heads, head_dim)"
        raise ValueError(msg)


def require_line_up(
    name: str, positions: Array, of: str, x: Array, axis: int, *, n_axes: int | None = None
) -> None:
    """ValueError unless ``positions`` have shape (seq,), or (batch, seq) with the batch of ``x`` or 1."""
    seq = x.shape[axis]
    fits = positions.ndim in (1, 2)
    got = positions.shape[-1] if fits else seq
    if not fits or (got != seq and is_known(got) and is_known(seq)):
        axes = "" if n_axes is None else f"n_axes={n_axes}, "
        one = "(seq,)" if n_axes is None else f"({axes}seq)"
        msg = (
            f"`{name}` must have shape {one} or ({axes}batch, seq) with seq={seq} (axis {axis} of "
            f"`{of}`), got {_shape(positions, n_axes)}{hint_seq_axis(of, x.shape, axis, got)}"
        )
        raise ValueError(msg)
    if positions.ndim == 2:
        require_batch(name, positions, of, x, axis, n_axes=n_axes)


def require_steps(
    name: str, steps: Array, of: str, x: Array, axis: int, *, n_axes: int | None = None
) -> None:
    """ValueError unless ``steps`` line up as positions do, or have size 1 where tokens are."""
    if steps.ndim == 0 or (steps.ndim == 1 and steps.shape[0] == 1):
        return
    if steps.ndim == 2 and steps.shape[1] == 1:
        require_batch(name, steps, of, x, axis, n_axes=n_axes)
        return
    seq = x.shape[axis]
    if steps.ndim == 1 and is_known(seq) and steps.shape[0] == x.shape[0] != seq:
        axes = "" if n_axes is None else f"n_axes={n_axes}, "
        one, index = ("(seq,)", ":") if n_axes is None else (f"({axes}seq)", "...")
        msg = (
            f"`{name}` must have shape {one} with seq={seq} (axis {axis} of `{of}`), or "
            f"({axes}batch, 1) for steps of each row, `{name}[{index}, None]`, "
            f"got {_shape(steps, n_axes)}"
        )
        raise ValueError(msg)
    require_line_up(name, steps, of, x, axis, n_axes=n_axes)


def require_steps_along(
    name: str, steps: Array, of: str, x: Array, axis: int, *, scheme: Any
) -> None:
    """ValueError unless ``steps`` are some of tokens along ``axis`` of ``x``, or of its rows."""
    if scheme is None:
        require_steps(name, steps, of, x, axis)
        return
    require_n_axes(name, steps, scheme)
    require_steps(name, steps[0, ...], of, x, axis, n_axes=scheme.n_axes)


def hint_seq_axis(of: str, shape: tuple[int, ...], axis: int, got: int | None) -> str:
    """What to do where ``got`` tokens are not along ``axis`` of an array, but along the usual other one."""
    other = {-2: -3, -3: -2}.get(axis - len(shape))
    if got is None or other is None or len(shape) < 3 or shape[other] != got:
        return ""
    return f"; pass seq_axis={other} if tokens are along axis {other + len(shape)} of `{of}`"


def require_batch(
    name: str, positions: Array, of: str, x: Array, axis: int, *, n_axes: int | None = None
) -> None:
    """ValueError unless the first axis of ``positions`` is the batch axis of ``x`` or has size 1."""
    if x.ndim < 3 or axis == 0:
        msg = (
            f"`{name}` must not have a batch axis, got shape {_shape(positions, n_axes)}: "
            f"`{of}` of shape {tuple(x.shape)} has none in front of axis {axis}"
        )
        raise ValueError(msg)
    batch, got = x.shape[0], positions.shape[0]
    if got not in (1, batch) and is_known(got) and is_known(batch):
        msg = (
            f"`{name}` must have batch={batch} (axis 0 of `{of}`) or 1 as its "
            f"{'first' if n_axes is None else 'second'} axis, got shape {_shape(positions, n_axes)}"
        )
        raise ValueError(msg)


def require_positions_along(
    name: str, positions: Array, of: str, x: Array, axis: int, *, axes: Any
) -> None:
    """ValueError or TypeError unless ``positions`` are some of tokens along ``axis`` of ``x``."""
    require_real(name, positions)
    if axes is None:
        require_line_up(name, positions, of, x, axis)
        return
    require_n_axes(name, positions, axes)
    require_line_up(name, positions[0, ...], of, x, axis, n_axes=axes.n_axes)


def require_n_axes(name: str, positions: Array, axes: Any) -> None:
    """ValueError unless ``positions`` have a first axis of n_axes."""
    if positions.ndim == 0 or positions.shape[0] != axes.n_axes:
        msg = (
            f"`{name}` must have shape (n_axes={axes.n_axes}, ...) for {quote(axes)}, "
            f"got {tuple(positions.shape)}"
        )
        raise ValueError(msg)


def require_batch_of(k: Array, positions: Array, name: str) -> None:
    """ValueError unless `k` has the batch of ``positions``, which ``name`` says or leads to."""
    if positions.ndim != 2:
        return
    batch = positions.shape[0]
    if k.ndim < 3 or batch not in (1, k.shape[0]):
        msg = f"`k` must have the batch of `{name}`, {batch}, as axis 0, got shape {tuple(k.shape)}"
        raise ValueError(msg)


def _shape(positions: Array, n_axes: int | None) -> tuple[int, ...]:
    """The shape that the user gave."""
    return tuple(positions.shape) if n_axes is None else (n_axes, *positions.shape)
