"""Shards of a sequence, one for each device in context parallelism."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, quote, require_integer_dtype
from rope_xp.positions._range import as_length, count, require_fit, resolve_dtype


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

    The sequence is cut into 2 · world_size chunks. Device ``rank`` gets chunks ``rank`` and
    2 · world_size − 1 − ``rank``, an early and a late one, so that all devices have the same work
    under a causal mask. Each position is on exactly one device.

    Parameters
    ----------
    seq_len : int
        Length of the whole sequence, a multiple of 2 · world_size.
    rank, world_size : int
        Index of the device, and the number of devices.
    xp : namespace, optional
        Array library of the result; default: NumPy.
    dtype, device : optional
        Integer dtype and device of the result; default: the library's.

    Returns
    -------
    array, shape (seq_len / world_size,)

    Raises
    ------
    ValueError
        If ``seq_len`` is not a positive multiple of 2 · world_size, ``rank`` is not in
        [0, world_size), or the dtype of the result does not hold the positions of the device.
    TypeError
        If an argument is not an int, or ``dtype`` is not an integer dtype or one that the library has
        switched off.

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
        msg = f"`world_size` must be positive, got {quote(world_size)}"
        raise ValueError(msg)
    if seq_len <= 0 or seq_len % (2 * world_size):
        msg = f"`seq_len` must be a positive multiple of 2 * world_size = {2 * world_size}, got {quote(seq_len)}"
        raise ValueError(msg)
    if not 0 <= rank < world_size:
        msg = f"`rank` must be in [0, world_size={world_size}), got {quote(rank)}"
        raise ValueError(msg)
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    require_integer_dtype(dtype, xp, device)
    n = seq_len // (2 * world_size)
    early, late = rank * n, (2 * world_size - 1 - rank) * n
    made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
    require_fit("seq_len", early, late + n - 1, made, default=dtype is None)
    as_length("seq_len", n)
    return xp.concat([count(start, n, xp, made, device) for start in (early, late)])
