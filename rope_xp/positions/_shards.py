"""Shards of a sequence, one for each device in context parallelism."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, quote, require_integer_dtype, require_one_of
from rope_xp.positions._packed import require_sums, unpack
from rope_xp.positions._range import as_length, as_signed, count, require_fit, resolve_dtype


def shard_indices(
    seq_len: int,
    rank: int,
    world_size: int,
    *,
    order: Literal["zigzag", "contiguous"] = "zigzag",
    cu_seqlens: Array | None = None,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Which tokens one of ``world_size`` devices has in context parallelism.

    The sequence is cut into chunks of one length. In ``"zigzag"`` order device ``rank`` gets chunks
    ``rank`` and 2 · world_size − 1 − ``rank`` of 2 · world_size, an early and a late one, so that all
    devices have the same work under a causal mask; in ``"contiguous"`` order chunk ``rank`` of
    world_size. Each token is on exactly one device.

    Parameters
    ----------
    seq_len : int
        Length of the whole sequence, or of all packed ones together.
    rank, world_size : int
        Index of the device, and the number of devices.
    order : {"zigzag", "contiguous"}
        Which chunks a device has.
    cu_seqlens : integer array, shape (n_sequences + 1,), optional
        As for `packed_positions`: then each of the packed sequences is cut by itself, padding at the end
        like one more. The length of each is a multiple of the number of chunks.
    xp : namespace, optional
        Array library of the result; default: that of ``cu_seqlens``, or NumPy.
    dtype, device : optional
        Integer dtype and device of the result; default: the library's.

    Returns
    -------
    array, shape (seq_len / world_size,)
        Indices along the sequence, as for ``xp.take``: of tokens, and of what the builders of positions
        return for the whole (also `Tokens.take`).

    Raises
    ------
    ValueError
        If ``seq_len``, or the length of a packed sequence, is not a multiple of the number of chunks,
        ``rank`` is not in [0, world_size), ``order`` is unknown, or the dtype of the result does not hold
        the indices. The values of ``cu_seqlens`` are looked at where they are at hand, in eager arrays on
        the CPU; elsewhere they are trusted.
    TypeError
        If an argument is not an int, ``cu_seqlens`` is no integer array or one of another library than
        ``xp``, or ``dtype`` is not an integer dtype or one that the library has switched off.

    Notes
    -----
    Zigzag order is that of Megatron-Core's context parallelism and of zigzag ring attention; within each
    packed sequence that of ``thd_get_partitioned_indices`` in TransformerEngine 2 (where sequences are
    padded to a multiple first, and ``cu_seqlens`` are those of the padded ones).

    Examples
    --------
    >>> import numpy as np
    >>> shard_indices(8, 0, 2), shard_indices(8, 0, 2, order="contiguous")
    (array([0, 1, 6, 7]), array([0, 1, 2, 3]))
    >>> shard_indices(12, 0, 2, cu_seqlens=np.asarray([0, 4, 12]))
    array([ 0,  3,  4,  5, 10, 11])
    """
    require_one_of("order", order, ("zigzag", "contiguous"))
    seq_len, rank = as_int("seq_len", seq_len), as_int("rank", rank)
    world_size = as_int("world_size", world_size)
    if world_size <= 0:
        msg = f"`world_size` must be positive, got {quote(world_size)}"
        raise ValueError(msg)
    own = (rank, 2 * world_size - 1 - rank) if order == "zigzag" else (rank,)
    n_chunks = len(own) * world_size
    chunks = f"{'2 * ' * (len(own) - 1)}world_size = {n_chunks}"
    if seq_len <= 0 or seq_len % n_chunks:
        msg = f"`seq_len` must be a positive multiple of {chunks}, got {quote(seq_len)}"
        raise ValueError(msg)
    if not 0 <= rank < world_size:
        msg = f"`rank` must be in [0, world_size={world_size}), got {quote(rank)}"
        raise ValueError(msg)

    like = None  # what the result is beside
    if cu_seqlens is not None:
        found, cu_seqlens = _backends.join(cu_seqlens=cu_seqlens)
        sums = require_sums(cu_seqlens)
        if sums is not None:
            _require_multiples(sums, seq_len, n_chunks, chunks)
        if not isinstance(cu_seqlens, np.ndarray):
            like = cu_seqlens
            if xp is not None and _backends.compat_namespace(xp) is not found:
                msg = f"`cu_seqlens` must be an array of {xp.__name__}, got {found.__name__}"
                raise TypeError(msg)
            xp, device = found, _backends.device(like) if device is None else device
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    require_integer_dtype(dtype, xp, device)
    made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
    n = seq_len // n_chunks
    if cu_seqlens is None:
        require_fit("seq_len", own[0] * n, own[-1] * n + n - 1, made, default=dtype is None)
        as_length("seq_len", n)
        return xp.concat([count(chunk * n, n, xp, made, device) for chunk in own])
    require_fit("seq_len", 0, seq_len - 1, made, default=dtype is None)
    as_length("seq_len", seq_len)
    if like is None:
        host = _cut(cu_seqlens, seq_len, world_size, own, np)
        return xp.asarray(host.astype(_backends.dtype_name(made)), dtype=made, device=device)
    return _backends.cast(_cut(cu_seqlens, seq_len, world_size, own, xp), made, xp)


def zigzag_positions(
    seq_len: int,
    rank: int,
    world_size: int,
    *,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Positions of the tokens on one of ``world_size`` devices in context parallelism.

    For one sequence that is cut in zigzag order, where they are what `shard_indices` returns. For
    packed sequences, take `packed_positions` at these indices.

    Parameters
    ----------
    seq_len : int
        Length of the whole sequence, a multiple of 2 · world_size.
    rank, world_size, xp, dtype, device
        As for `shard_indices`.

    Returns
    -------
    array, shape (seq_len / world_size,)

    Raises
    ------
    ValueError, TypeError
        As `shard_indices`.

    Examples
    --------
    >>> zigzag_positions(8, 0, 2), zigzag_positions(8, 1, 2)
    (array([0, 1, 6, 7]), array([2, 3, 4, 5]))
    """
    return shard_indices(seq_len, rank, world_size, xp=xp, dtype=dtype, device=device)


def _require_multiples(sums: np.ndarray, seq_len: int, n_chunks: int, chunks: str) -> None:
    """ValueError unless each packed sequence, and padding after them, can be cut into chunks."""
    for i, end in enumerate(sums.tolist()):
        if end > seq_len:
            msg = f"`cu_seqlens` must end within `seq_len`, {seq_len}, got {end} at index {i}"
            raise ValueError(msg)
        if end % n_chunks:
            length = end - int(sums[i - 1])
            msg = (
                f"`cu_seqlens` must have sequences of lengths that are multiples of {chunks}, got {length} "
                f"tokens up to index {i}; pad each sequence"
            )
            raise ValueError(msg)


def _cut(cu_seqlens: Array, seq_len: int, world_size: int, own: tuple[int, ...], xp: Any) -> Array:
    """The tokens of the chunks ``own`` of each packed sequence, in the default integer dtype."""
    integer = _backends.default_integer_dtype(xp, _backends.device(cu_seqlens))
    # What one device has of the sequences is packed as they are.
    pack = unpack(as_signed(cu_seqlens, integer, xp) // world_size, seq_len // world_size)
    at, length = pack.positions(), pack.lengths()
    chunk = length // len(own)
    before = xp.where(at < chunk, own[0] * chunk, (own[-1] - len(own) + 1) * chunk)
    return (pack.tokens - at) * world_size + before + at
