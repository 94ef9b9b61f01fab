"""Positions of tokens: whole, continued, packed, padded and sharded sequences, and padded grids."""

from __future__ import annotations

from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    require_integer_dtype,
    require_position_range,
    require_positive,
)

__all__ = [
    "mask_grid_positions",
    "mask_positions",
    "packed_positions",
    "token_positions",
    "zigzag_positions",
]


def token_positions(
    n: int,
    *,
    offset: int | Array = 0,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Positions ``offset + 0 … n − 1`` of ``n`` tokens that follow ``offset`` earlier ones.

    Parameters
    ----------
    n : int
        Number of tokens.
    offset : int or integer array, shape () or (batch,)
        Tokens before the first one, for each row of the batch if it is an array.
    xp : namespace, optional
        The array library; default: that of ``offset`` if it is an array, else NumPy.
    dtype, device : optional
        Of the result. The dtype is an integer one, the library's default if not given.

    Returns
    -------
    array, shape (n,) or (batch, n)

    Raises
    ------
    ValueError
        If ``n`` is negative, ``offset`` has more than one axis, or an int ``offset`` leaves
        [−2³¹, 2³¹).
    TypeError
        If ``n`` or ``offset`` is not integral, ``dtype`` not an integer dtype, or ``offset`` an
        array of another library than ``xp``.

    Examples
    --------
    >>> token_positions(3, offset=7)
    array([7, 8, 9])
    >>> token_positions(2, offset=np.asarray([0, 5]))
    array([[0, 1],
           [5, 6]])
    """
    n = as_int("n", n)
    if n < 0:
        msg = f"`n` must be non-negative, got {n}"
        raise ValueError(msg)
    require_integer_dtype(dtype)
    offset = as_offset("offset", offset)
    if not _backends.is_array(offset):
        xp = _backends.compat_namespace(xp)
        require_position_range("offset", offset, n)
        return xp.arange(offset, offset + n, dtype=dtype, device=device)

    found = _backends.namespace(offset=offset)
    if xp is not None and _backends.compat_namespace(xp) is not found:
        msg = f"`offset` must be an int or an array of {xp.__name__}, got {found.__name__}"
        raise TypeError(msg)
    device = _backends.device(offset) if device is None else device
    steps = found.arange(n, dtype=dtype, device=device)
    return _backends.cast(offset[..., None], steps.dtype, found) + steps  # (n,) or (batch, n)


def packed_positions(cu_seqlens: Array, total: int) -> Array:
    """Positions of sequences laid end to end: each starts again at 0.

    Parameters
    ----------
    cu_seqlens : integer array, shape (n_sequences + 1,)
        Where sequences start: 0, then the running sum of their lengths, which may be 0.
    total : int
        Number of tokens. What is past ``cu_seqlens[-1]`` (padding) counts on from 0.

    Returns
    -------
    array, shape (total,), dtype of ``cu_seqlens``

    Raises
    ------
    ValueError
        If ``cu_seqlens`` has not one axis or is empty, or ``total`` is negative.
    TypeError
        If ``cu_seqlens`` is not an integer array or ``total`` not an int.

    Notes
    -----
    The format of flash-attention's and TransformerEngine's variable-length kernels.

    Examples
    --------
    >>> packed_positions(np.asarray([0, 3, 5]), 6)
    array([0, 1, 2, 0, 1, 0])
    """
    xp = _backends.namespace(cu_seqlens=cu_seqlens)
    require_integer("cu_seqlens", cu_seqlens)
    if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] == 0:
        msg = f"`cu_seqlens` must have shape (n_sequences + 1,), got {tuple(cu_seqlens.shape)}"
        raise ValueError(msg)
    total = as_int("total", total)
    if total < 0:
        msg = f"`total` must be non-negative, got {total}"
        raise ValueError(msg)
    tokens = xp.arange(total, dtype=cu_seqlens.dtype, device=_backends.device(cu_seqlens))
    sequence = xp.searchsorted(cu_seqlens, tokens, side="right") - 1  # (total,)
    return tokens - xp.take(cu_seqlens, sequence, axis=0)


def mask_positions(mask: Array) -> Array:
    """Positions of the real tokens in padded rows, wherever the padding stands.

    Parameters
    ----------
    mask : bool or integer array, shape (..., seq)
        True or 1 at tokens, False or 0 at padding.

    Returns
    -------
    array, shape (..., seq), the library's default integer dtype
        0, 1, 2, … along the tokens of each row. Padding repeats the position before it (0 at the
        start): it is masked in attention, so its position does not matter.

    Raises
    ------
    TypeError
        If ``mask`` is neither boolean nor integer.
    ValueError
        If it has no axis.

    Examples
    --------
    >>> mask_positions(np.asarray([[0, 0, 1, 1], [1, 1, 1, 0]]))
    array([[0, 0, 0, 1],
           [0, 1, 2, 2]])
    """
    seen, xp = _counted(mask, 1)
    return xp.where(seen[0] > 0, seen[0] - 1, seen[0])


def mask_grid_positions(
    mask: Array, *, n_axes: int = 2, scale: float | None = None, dtype: Dtype | None = None
) -> Array:
    r"""Positions on padded grids: what is real is counted along each axis, from 1 (DETR).

    Parameters
    ----------
    mask : bool or integer array, shape (..., rows, columns)
        True or 1 at patches, False or 0 at padding.
    n_axes : int
        How many of the last axes of ``mask`` are the grid's: 2, or 3 with time.
    scale : float, optional
        Divide the counts along each line by its last one (plus 1e-6) and multiply them by this, so
        that every image spans the same: 2π in DETR. Default: plain counts.
    dtype : floating dtype, optional
        Of the result with ``scale``; default float32.

    Returns
    -------
    array, shape (n_axes, ..., rows, columns)
        The library's default integer dtype; with ``scale`` floating. Padding repeats the count
        before it, 0 at the start.

    Raises
    ------
    TypeError
        If ``mask`` is neither boolean nor integer, or ``dtype`` not floating.
    ValueError
        If ``mask`` has fewer axes than the grid or one of size 0, ``n_axes`` is not positive,
        ``scale`` not positive and finite, or ``dtype`` comes without it.

    Notes
    -----
    Source: Carion et al. 2020, arXiv:2005.12872; compared with transformers 5.23.0.
    `rope_xp.sinusoidal` makes the encoding of it, (..., rows, columns, dim), channels last.

    Examples
    --------
    >>> mask_grid_positions(np.asarray([[1, 1, 0], [1, 1, 0]]))
    array([[[1, 1, 0],
            [2, 2, 0]],
    <BLANKLINE>
           [[1, 2, 2],
            [1, 2, 2]]])
    """
    if as_int("n_axes", n_axes) <= 0:
        msg = f"`n_axes` must be positive, got {n_axes}"
        raise ValueError(msg)
    counts, xp = _counted(mask, n_axes)
    if 0 in mask.shape[-n_axes:]:
        msg = f"`mask` must have no axis of size 0 in its grid, got {tuple(mask.shape)}"
        raise ValueError(msg)
    if scale is None:
        if dtype is not None:
            msg = f"`dtype` must be None without `scale`, where positions are integers, got {dtype}"
            raise ValueError(msg)
        return xp.stack(counts, axis=0)
    require_positive("scale", scale)
    dtype = xp.float32 if dtype is None else dtype
    compute = xp.float64 if _backends.require_dtype("dtype", dtype) == "float64" else xp.float32
    counts = [_backends.cast(count, compute, xp) for count in counts]
    lasts = [
        count[(..., slice(-1, None), *(slice(None),) * after)]
        for after, count in zip(reversed(range(n_axes)), counts, strict=True)
    ]
    spans = [
        count / (last + 1e-6) * float(scale) for count, last in zip(counts, lasts, strict=True)
    ]
    return _backends.cast(xp.stack(spans, axis=0), dtype, xp)


def _counted(mask: Array, n_axes: int) -> tuple[list[Array], Namespace]:
    """How many are real so far along each of the last axes of ``mask``, and the namespace."""
    xp = _backends.namespace(mask=mask)
    if not (_backends.is_integer(mask) or "bool" in _backends.dtype_name(mask.dtype)):
        msg = f"`mask` must be boolean or integer, got {_backends.dtype_name(mask.dtype)}"
        raise TypeError(msg)
    if mask.ndim < n_axes:
        wanted = "(..., seq)" if n_axes == 1 else f"(..., and n_axes={n_axes} axes of the grid)"
        msg = f"`mask` must have shape {wanted}, got {tuple(mask.shape)}"
        raise ValueError(msg)
    integer = xp.arange(0, device=_backends.device(mask)).dtype
    ones = xp.astype(mask, integer)
    return [_backends.cumulative_sum(ones, integer, xp, axis) for axis in range(-n_axes, 0)], xp


def zigzag_positions(
    seq_len: int,
    rank: int,
    world_size: int,
    *,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Positions of the tokens that one of ``world_size`` devices holds in context parallelism.

    The sequence is cut into 2 · world_size chunks, and device ``rank`` holds chunks ``rank`` and
    2 · world_size − 1 − ``rank``, an early and a late one: so under a causal mask all devices have
    the same work. Together the devices hold each position once.

    Parameters
    ----------
    seq_len : int
        Length of the whole sequence, a multiple of 2 · world_size.
    rank, world_size : int
        Which device of how many.
    xp : namespace, optional
        The array library; default: NumPy.
    dtype, device : optional
        Of the result. The dtype is an integer one, the library's default if not given.

    Returns
    -------
    array, shape (seq_len / world_size,)

    Raises
    ------
    ValueError
        If 2 · world_size does not divide ``seq_len``, which must be positive, or ``rank`` is not in
        [0, world_size).
    TypeError
        If an argument is not an int, or ``dtype`` not an integer dtype.

    Notes
    -----
    The split of Megatron-Core's context parallelism and of zigzag ring attention.

    Examples
    --------
    >>> zigzag_positions(8, 0, 2), zigzag_positions(8, 1, 2)
    (array([0, 1, 6, 7]), array([2, 3, 4, 5]))
    """
    seq_len, rank = as_int("seq_len", seq_len), as_int("rank", rank)
    world_size = as_int("world_size", world_size)
    if world_size <= 0:
        msg = f"`world_size` must be positive, got {world_size}"
        raise ValueError(msg)
    if seq_len <= 0 or seq_len % (2 * world_size):
        msg = f"`seq_len` must be a positive multiple of 2 * world_size = {2 * world_size}, got {seq_len}"
        raise ValueError(msg)
    if not 0 <= rank < world_size:
        msg = f"`rank` must be in [0, world_size={world_size}), got {rank}"
        raise ValueError(msg)
    n = seq_len // (2 * world_size)
    options = {"xp": _backends.compat_namespace(xp), "dtype": dtype, "device": device}
    early = token_positions(n, offset=rank * n, **options)
    late = token_positions(n, offset=(2 * world_size - 1 - rank) * n, **options)
    return _backends.compat_namespace(xp).concat((early, late))


def as_offset(name: str, offset: int | Array) -> Any:
    """An int for Python and NumPy integers, else an integer array of shape () or (batch,)."""
    if isinstance(offset, np.ndarray) and offset.ndim == 0:
        offset = offset[()]  # NumPy's 0-d arrays are integers here, whatever the library of x
    if not _backends.is_array(offset):
        return as_int(name, offset)
    require_integer(name, offset)
    if offset.ndim > 1:
        msg = f"`{name}` must be an int or have shape () or (batch,), got {tuple(offset.shape)}"
        raise ValueError(msg)
    return offset


def require_integer(name: str, array: Array) -> None:
    """TypeError unless ``array`` has an integer dtype (bool is none)."""
    if not _backends.is_integer(array):
        msg = f"`{name}` must be integer, got {_backends.dtype_name(array.dtype)}"
        raise TypeError(msg)
