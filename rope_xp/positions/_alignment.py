"""Positions of queries and keys, aligned with their axes by meaning instead of as arrays broadcast."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import is_known
from rope_xp.positions._tokens import as_offset, count_from


def resolve_positions(
    q: Array,
    axis: int,
    positions: Array | None,
    offset: int | Array,
    n_axes: int | None = None,
    *,
    xp: Namespace | None = None,
) -> Array:
    """``positions``, or by default those that follow ``offset``; checked against the shape of ``q``.

    With several axes, ``positions`` are those of one axis, and ``n_axes`` is for error messages. ``xp``
    is the namespace of ``q`` and ``positions``, looked up if None.
    """
    offset = as_offset("offset", offset)
    if positions is not None:
        if _backends.is_array(offset) or offset != 0:
            msg = f"`offset` must be 0 when `positions` are given, got {offset!r}"
            raise ValueError(msg)
        require_line_up("positions", positions, "q", q, axis, n_axes=n_axes)
        return positions
    seq = _backends.size_along(q, axis)
    if seq is None:
        msg = "`positions` must be given where the sequence length of a lazy `q` is unknown"
        raise ValueError(msg)
    xp = _backends.namespace(q=q) if xp is None else xp
    if _backends.is_array(offset):
        _backends.namespace(q=q, offset=offset)
        if offset.ndim == 1:
            require_batch("offset", offset, "q", q, axis)
    dtype = _dtype_after(offset, seq, xp, _backends.device(q))
    return count_from(offset, seq, xp, dtype, _backends.device(q))  # (seq,) or (batch, seq)


def _dtype_after(offset: int | Array, n: int, xp: Namespace, device: Device | None) -> Dtype:
    """A dtype for ``n`` positions after ``offset``: int32 if they fit, because two digits are fewest.

    ValueError if the library has none that holds them.
    """
    if _backends.is_array(offset):
        values = _backends.host_values(offset)
        if values is None or not values.size:
            name = _backends.dtype_name(offset.dtype)
            if name not in ("uint32", "int64", "uint64"):
                return xp.int32
            integer = _backends.default_integer_dtype(xp, device)
            return integer if name != "uint64" and _is_int64(integer) else offset.dtype
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
            f"`offset` must keep positions in the range of int{bits}, the widest integers here, "
            f"[-2**{bits - 1}, 2**{bits - 1}), got {last if last > 0 else first} for {n} tokens"
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
            f"`{of}`), got {_shape(positions, n_axes)}"
        )
        raise ValueError(msg)
    if positions.ndim == 2:
        require_batch(name, positions, of, x, axis, n_axes=n_axes)


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


def _shape(positions: Array, n_axes: int | None) -> tuple[int, ...]:
    """The shape that the user gave."""
    return tuple(positions.shape) if n_axes is None else (n_axes, *positions.shape)
