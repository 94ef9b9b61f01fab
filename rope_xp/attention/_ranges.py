"""Queries and keys that are rotated once for each range of distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rope_xp._backends import Array
from rope_xp._validation import quote
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE

if TYPE_CHECKING:
    from rope_xp.positions import Range


def rotate_ranges(
    rope: RoPE, q: Array, k: Array, ranges: Sequence[Range], *, seq_len: SeqLen = None
) -> tuple[Array, Array, tuple[tuple[Array, Array, Array], ...]]:
    """Rotate queries and keys for each range of distances: what `attention` takes.

    Parameters
    ----------
    rope : RoPE
    q, k : array, shape (..., heads, q_len, head_dim) and (..., kv_heads, k_len, head_dim)
        Queries and keys that are not rotated.
    ranges : sequence of rope_xp.positions.Range
        From `rope_xp.positions.SelfExtend`, `~rope_xp.positions.ReRoPE` or
        `~rope_xp.positions.DualChunk`.
    seq_len : int or a tuple of them, optional
        As in `RoPE.frequencies`.

    Returns
    -------
    q, k : array
        Rotated to the positions of the first range.
    ranges : tuple of (q, k, where)
        The others, for the ``ranges`` of `attention`.

    Raises
    ------
    ValueError, TypeError
        If ``rope`` or ``ranges`` is none, and as in calling ``rope``.

    Notes
    -----
    Each range costs a rotation of the queries, and one of the keys where they have other positions. Either a
    cache contains keys that are not rotated (do not use `KVCache.drop` then, which would rotate them), or
    each set of rotated keys has a cache: one for `~rope_xp.positions.DualChunk`, two for the others.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> from rope_xp.positions import SelfExtend
    >>> rope, tokens = RoPE(4, layout="half"), np.arange(6)
    >>> q = k = v = np.ones((1, 6, 4))  # (heads, seq, head_dim)
    >>> q, k, ranges = rotate_ranges(rope, q, k, SelfExtend(2, window=2)(tokens, tokens))
    >>> attention(q, k, v, ranges=ranges, causal=True).shape
    (1, 6, 4)
    """
    if not isinstance(rope, RoPE):
        msg = f"`rope` must be a RoPE, got {quote(rope)}"
        raise TypeError(msg)
    if not (isinstance(ranges, tuple | list) and ranges) or not all(
        hasattr(each, "k_positions") for each in ranges
    ):
        scheme = "a scheme of rope_xp.positions"
        if callable(ranges):
            scheme = f"{quote(ranges)}(q_positions, k_positions)"
        msg = f"`ranges` must be positions of ranges, as {scheme} returns them, got {quote(ranges)}"
        raise TypeError(msg)
    made: list[tuple[Array, Array, Array]] = []
    for i, (q_positions, k_positions, where) in enumerate(ranges):
        queries = rope(q, positions=q_positions, seq_len=seq_len)
        if i and k_positions is ranges[i - 1].k_positions:
            keys = made[-1][1]
        else:
            keys = rope(k, positions=k_positions, seq_len=seq_len)
        made.append((queries, keys, where))
    (first_q, first_k, _), *others = made
    return first_q, first_k, tuple(others)
