"""Packed sequences: several one after another along one axis, with the sums of their lengths."""

from __future__ import annotations

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._validation import require_integer
from rope_xp.positions._range import BOUNDS, as_length, as_signed, bounds, is_static


def packed_positions(cu_seqlens: Array, total: int) -> Array:
    """Positions of packed sequences: each sequence is numbered from 0.

    Parameters
    ----------
    cu_seqlens : integer array, shape (n_sequences + 1,)
        Start of each sequence: 0, then the cumulative sum of their lengths, which may be 0. It may be
        padded at the end, with the last sum again, with 0 or with −1.
    total : int
        Number of tokens. Those after the last sum are padding, numbered from 0. A smaller total gives
        the first positions.

    Returns
    -------
    array, shape (total,)
        In the dtype of ``cu_seqlens``, or in the library's default integer dtype if that one cannot
        count to ``total``.

    Raises
    ------
    ValueError
        If ``cu_seqlens`` does not have exactly one axis or is empty, ``total`` is negative or more
        than memory can hold, or ``cu_seqlens`` does not begin with 0 or decreases: it may have been
        given lengths. Its values are looked at where they are at hand, in eager arrays on the CPU;
        elsewhere they are trusted.
    TypeError
        If ``cu_seqlens`` is not an integer array or ``total`` is not an int.

    Notes
    -----
    ``cu_seqlens`` has the format of the variable-length kernels of flash-attention and
    TransformerEngine. NeMo pads it with −1, Megatron-Core with the last sum.

    Where tokens are sharded, every device needs all sums and numbers its own tokens: under ``jax.jit`` XLA
    sends nothing, and `rope_xp.RoPE` cuts plain positions as a DTensor is. In a process that has one shard,
    index them with `shard_indices`.

    Examples
    --------
    >>> import numpy as np
    >>> packed_positions(np.asarray([0, 3, 5]), 6)
    array([0, 1, 2, 0, 1, 0])
    """
    pack = unpack(cu_seqlens, total)
    return _backends.cast(pack.positions(), pack.dtype, pack.xp)


def packed_documents(cu_seqlens: Array, total: int) -> Array:
    """Which of the packed sequences each token is in: 0, 1, …, and −1 for padding.

    Parameters
    ----------
    cu_seqlens, total
        As for `packed_positions`. Sequences of no tokens are counted.

    Returns
    -------
    array, shape (total,)
        Index of the sequence of each token; −1 for those after the last sum, which
        `rope_xp.attention.causal_mask` lets neither see nor be seen. In the dtype of ``cu_seqlens`` if
        that is signed and counts to ``total``, or in the library's default integer dtype.

    Raises
    ------
    ValueError, TypeError
        As `packed_positions`.

    Examples
    --------
    >>> import numpy as np
    >>> packed_documents(np.asarray([0, 3, 5]), 6)
    array([ 0,  0,  0,  1,  1, -1])
    """
    pack = unpack(cu_seqlens, total)
    xp, sequence, dtype = pack.xp, pack.sequence, pack.dtype
    documents = xp.where(pack.tokens < pack.end, sequence, xp.full_like(sequence, -1))
    if _backends.dtype_name(dtype).startswith("uint"):
        dtype = pack.tokens.dtype
    return _backends.cast(documents, dtype, xp)


class Pack:
    """Packed sequences: the tokens 0 … total − 1, in a dtype that holds sums and tokens."""

    def __init__(self, starts: Array, end: Array, total: int, dtype: Dtype, xp: Namespace) -> None:
        self.starts = starts  # (n_sequences + 1,); where sums are padded, starts that no token has
        self.end = end  # of the last sequence, shape ()
        self.dtype = dtype  # for positions
        self.xp = xp
        self.tokens = xp.arange(total, dtype=starts.dtype, device=_backends.device(starts))
        # Of each token; padding is in one more.
        self.sequence = xp.searchsorted(starts, self.tokens, side="right") - 1  # (total,)

    def positions(self) -> Array:
        return self.tokens - self.xp.take(self.starts, self.sequence, axis=0)

    def lengths(self) -> Array:
        """The length of the sequence of each token, (total,)."""
        xp, total = self.xp, self.tokens.shape[0]
        ends = xp.concat(
            (xp.clip(self.starts[1:], None, total), xp.full_like(self.starts[:1], total))
        )
        return xp.take(ends - xp.clip(self.starts, None, total), self.sequence, axis=0)


def unpack(cu_seqlens: Array, total: int) -> Pack:
    xp, cu_seqlens = _backends.join(cu_seqlens=cu_seqlens)
    _backends.require_one_device("they are sums of all sequences", cu_seqlens=cu_seqlens)
    sums = require_sums(cu_seqlens)
    is_padded = sums is None or len(sums) < cu_seqlens.shape[0]
    total = as_length("total", total)

    device = _backends.device(cu_seqlens)
    wide = _backends.default_integer_dtype(xp, device)
    name, dtype = _backends.dtype_name(cu_seqlens.dtype), cu_seqlens.dtype
    large = name.endswith(("32", "64"))
    if not (large and not is_static(total)) and total - 1 > BOUNDS[name][1]:
        dtype = wide
    # Sums and tokens are compared in a dtype that holds both and in which every library computes.
    compute = dtype if dtype == cu_seqlens.dtype and name in ("int32", "int64") else wide
    starts = as_signed(cu_seqlens, compute, xp)
    end = xp.max(starts)
    if is_padded:
        # No token is after the starts that padding then has. A sequence of no tokens may begin at 0.
        seen = _backends.cumulative_sum(xp.astype(starts > 0, compute), compute, xp)
        padding = (starts < 0) | ((starts == 0) & (seen > 0))
        starts = xp.where(padding, xp.full_like(starts, bounds(compute)[1]), starts)
    else:
        starts = starts + 0  # contiguous: torch's searchsorted warns otherwise
    return Pack(starts, end, total, dtype, xp)


def require_sums(cu_seqlens: Array) -> np.ndarray | None:
    """The sums without their padding with 0 or −1 where values are at hand; ValueError if they are none."""
    require_integer("cu_seqlens", cu_seqlens)
    if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] == 0:
        msg = f"`cu_seqlens` must have shape (n_sequences + 1,), got {tuple(cu_seqlens.shape)}"
        raise ValueError(msg)
    values: np.ndarray | None = _backends.host_values(cu_seqlens)
    if values is None:
        return None
    others = np.flatnonzero((values != 0) & (values != -1))
    sums = values[: int(others[-1]) + 1 if others.size else 1]
    if sums[0] != 0:
        msg = f"`cu_seqlens` must begin with 0, as cumulative sums of lengths do, got {sums[0]}"
        raise ValueError(msg)
    falls = np.flatnonzero(sums[1:] < sums[:-1])
    if falls.size:
        i = int(falls[0])
        msg = (
            f"`cu_seqlens` must be cumulative sums of lengths, which never decrease, "
            f"got {sums[i + 1]} after {sums[i]} at index {i + 1}"
        )
        raise ValueError(msg)
    return sums
