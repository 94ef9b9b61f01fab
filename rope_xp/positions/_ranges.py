"""Schemes whose distances depend on the range that they are in: a few rotations, and where each counts."""

# Without ``from __future__ import annotations``: the field types of `Range` are then types, not text
# that would be looked up in the package that it says it comes from.
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._validation import (
    as_int,
    as_seq_len,
    as_size,
    quote,
    require_context_length,
    require_integer,
    require_scale_factor,
    settle_fields,
)
from rope_xp.positions._difference import integer_difference, require_positions
from rope_xp.positions._range import as_signed, bounds

_MOST = 2**31 - 1  # of the narrowest default integers


class Range(NamedTuple):
    """Positions to rotate queries and keys to, and for which scores they count.

    Parameters
    ----------
    q_positions, k_positions : array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)
        Integer, or real where a step is a fraction.
    where : array of bool, shape (q_len, k_len) or (batch, 1, q_len, k_len), or None
        True for the scores that these positions give. None, of the first range: for all others.
    """

    q_positions: Array
    k_positions: Array
    where: Array | None


@dataclass(frozen=True)
class SelfExtend:
    r"""Self-Extend: beyond a window of neighbors, distances between groups of tokens.

    Distances below ``window`` are kept. From there on they are those of group numbers,
    :math:`\lfloor m/G \rfloor - \lfloor n/G \rfloor`, moved by :math:`w - \lfloor w/G \rfloor` so
    that they go on where the window ends. With the longest distance of training :math:`L`, the context is
    about :math:`(L - w) G + w` tokens long.

    Parameters
    ----------
    group_size : int
        Tokens in a group, :math:`G`; 1: all distances are kept.
    window : int
        Distances that are kept, :math:`w`.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range. Of the call: if positions are not integer, their shapes do not
        fit, or the library's default integer dtype does not hold them (elsewhere than in eager arrays
        on the CPU, such positions become the largest one of that dtype).

    Notes
    -----
    The call ``scheme(q_positions, k_positions)`` returns a tuple of `Range`, for
    `rope_xp.attention.rotate_ranges`. A cache needs keys that are rotated to n and to ⌊n/G⌋, or
    keys that are not rotated. Later keys, which causal attention masks, have the plain distance.

    Source: Jin et al. 2024, arXiv:2401.01325, algorithm 1; compared with the authors' code (datamllab/LongLM,
    ``group_size_1`` and ``group_size_2``), which leaves out the move while all positions are in the window
    and no score has it.
    Book: :eq:`eq-relative-score`.

    Examples
    --------
    >>> import numpy as np
    >>> near, far = SelfExtend(group_size=2, window=4)(np.arange(8), np.arange(8))
    >>> distance = [r.q_positions[:, None] - r.k_positions for r in (near, far)]
    >>> np.where(far.where, *distance[::-1])[-1]  # of the last token to each
    array([5, 5, 4, 4, 3, 2, 1, 0])
    """

    group_size: int
    window: int

    def __post_init__(self) -> None:
        settle_fields(self, group_size=_as_size, window=_as_size)

    def __call__(self, q_positions: Array, k_positions: Array) -> tuple[Range, ...]:
        xp, m, n = _resolve(q_positions, k_positions)
        move = self.window - self.window // self.group_size
        far = Range(
            m // self.group_size + move, n // self.group_size, _is_far(m, n, self.window, xp)
        )
        return Range(m, n, None), far


@dataclass(frozen=True)
class ReRoPE:
    r"""ReRoPE and Leaky ReRoPE: beyond a window, distances that stay, or grow more slowly.

    A distance d below ``window`` is kept. From there on it is :math:`w` (ReRoPE), or with ``factor``
    :math:`w + (d - w)/k` (Leaky ReRoPE).

    Parameters
    ----------
    window : int
        Distances that are kept, :math:`w`.
    factor : float, optional
        Tokens to a step beyond the window, :math:`k`, at least 1; 1: all distances are kept. Default: the
        distance does not grow.

    Raises
    ------
    ValueError, TypeError
        As `SelfExtend`.

    Notes
    -----
    Called and used as `SelfExtend`. A cache needs keys that are rotated to n and to 0, with ``factor`` to
    n/k, or keys that are not rotated. Positions n/k are float64 where the library has it; elsewhere
    they are exact below 2²⁴ steps of a ``factor`` that is a power of two, and rounded to float32 otherwise.

    The authors' code also multiplies queries by the logarithm of their position to the base of the
    training length, but not by less than 1: `rope_xp.scaling.LogScale` (training length, offset=1).

    Source: Su 2023, kexue.fm/archives/9708; compared with the author's code (bojone/rerope), in which
    ``scaling_factor`` is :math:`k`.
    Book: :eq:`eq-relative-score`.

    Examples
    --------
    >>> import numpy as np
    >>> near, far = ReRoPE(window=3, factor=2)(np.asarray([6]), np.arange(7))
    >>> far.q_positions[:, None] - far.k_positions, far.where
    (array([[4.5, 4. , 3.5, 3. , 2.5, 2. , 1.5]]), array([[ True,  True,  True,  True, False, False, False]]))
    """

    window: int
    factor: float | None = None

    def __post_init__(self) -> None:
        settle_fields(self, window=_as_size, factor=require_scale_factor)

    def __call__(self, q_positions: Array, k_positions: Array) -> tuple[Range, ...]:
        xp, m, n = _resolve(q_positions, k_positions)
        where = _is_far(m, n, self.window, xp)
        if self.factor is None:
            far = Range(xp.full_like(m, self.window), xp.zeros_like(n), where)
        else:
            real = _backends.widest(m, xp)
            slow = [_backends.cast(each, real, xp) / self.factor for each in (m, n)]
            far = Range(slow[0] + (self.window - self.window / self.factor), slow[1], where)
        return Range(m, n, None), far


@dataclass(frozen=True)
class DualChunk:
    r"""Dual chunk attention: positions within chunks, and queries that are moved by the chunk of a key.

    Tokens are counted from 0 in each chunk of :math:`s` = ``chunk_size`` − ``local_size``, :math:`n \bmod s`.
    In its own chunk, a query has this position, too. To keys of the chunk before it is at
    :math:`s + \min(m \bmod s, l)`, so that the last :math:`l` = ``local_size`` tokens have their own
    distance; to all earlier ones at :math:`s + \min(s - 1, l)`, the largest of these.

    Parameters
    ----------
    chunk_size : int
        The longest distance.
    local_size : int
        Distances that are kept across the border of two chunks; less than ``chunk_size``, or 0.
    original_max_position_embeddings : int, optional
        Length from which on scores are scaled, :math:`L`; default: they never are.

    Raises
    ------
    ValueError, TypeError
        As `SelfExtend`.

    Notes
    -----
    Called and used as `SelfExtend`. All three ranges have the same keys, so a cache needs them once,
    rotated to :math:`n \bmod s`. Up to ``chunk_size`` + 1 tokens, all distances are the plain ones. For
    causal attention: the distances of keys in later chunks have no meaning.

    Qwen2.5-1M has these numbers in its config, under ``dual_chunk_attention_config``, which vLLM reads and
    transformers does not: it goes on with the plain distances, which the model has not seen.

    Source: An et al. 2024, arXiv:2402.17463, section 3; compared with the authors' code (HKUNLP/ChunkLlama)
    and vLLM 0.10, in which the longest distance is ``chunk_size``. The paper's, c − 1 for a
    pretraining length c and a local window w, are ``DualChunk(c - 1, w - 1)``.
    Book: :eq:`eq-relative-score`.

    Examples
    --------
    >>> import numpy as np
    >>> ranges = DualChunk(chunk_size=9, local_size=3)(np.asarray([12]), np.arange(13))
    >>> [r.q_positions.tolist() for r in ranges], ranges[0].k_positions
    ([[0], [6], [9]], array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]))
    """

    chunk_size: int
    local_size: int
    original_max_position_embeddings: int | None = None

    def __post_init__(self) -> None:
        settle_fields(
            self,
            chunk_size=_as_size,
            local_size=as_int,
            original_max_position_embeddings=require_context_length,
        )
        if not 0 <= self.local_size < self.chunk_size:
            msg = f"`local_size` must be in [0, chunk_size={self.chunk_size}), got {quote(self.local_size)}"
            raise ValueError(msg)

    def __call__(self, q_positions: Array, k_positions: Array) -> tuple[Range, ...]:
        xp, m, n = _resolve(q_positions, k_positions)
        length = self.chunk_size - self.local_size
        before = -_for_heads(
            integer_difference(m // length, n // length, xp)
        )  # chunks before that of the query
        within, keys = m % length, n % length
        successive = length + xp.clip(within, None, self.local_size)
        inter = xp.full_like(m, length + min(length - 1, self.local_size))
        return (
            Range(within, keys, None),
            Range(successive, keys, before == 1),
            Range(inter, keys, before > 1),
        )

    def softmax_factor(self, seq_len: int) -> float:
        r"""Factor on the scale of attention at a length: :math:`\max(1 + 0.1 \ln (n / L), 1)^2`.

        YaRN's, with ``scale=head_dim**-0.5 * scheme.softmax_factor(seq_len)``. vLLM multiplies queries and
        keys by its root; for keys, the length is that at which they were appended to the cache.
        """
        length = self.original_max_position_embeddings
        if length is None:
            return 1.0
        return float(max(1 + 0.1 * math.log(as_seq_len("seq_len", seq_len) / length), 1.0) ** 2)


def _as_size(name: str, value: Any) -> Any:
    return as_size(name, value, maximum=_MOST)


def _resolve(q_positions: Array, k_positions: Array) -> tuple[Namespace, Array, Array]:
    """The namespace, and both in the default integer dtype, which holds what is made of them."""
    xp, q_positions, k_positions = _backends.join(q_positions=q_positions, k_positions=k_positions)
    require_positions(q_positions, k_positions)
    dtype = _backends.default_integer_dtype(xp, _backends.device(q_positions))
    made = []
    for name, array in (("q_positions", q_positions), ("k_positions", k_positions)):
        require_integer(name, array)
        most = bounds(dtype)[1]
        values = _backends.host_values(array) if bounds(array.dtype)[1] > most else None
        if values is not None and values.size and int(values.max()) > most:
            kind, got = _backends.dtype_name(dtype), int(values.max())
            msg = f"`{name}` must be integers that {kind} holds, got {got}"
            raise ValueError(msg)
        made.append(as_signed(array, dtype, xp))
    return xp, made[0], made[1]


def _is_far(m: Array, n: Array, window: int, xp: Namespace) -> Array:
    """Where a key is at least ``window`` before a query."""
    return _for_heads(integer_difference(m, n, xp) <= -window)


def _for_heads(array: Array) -> Array:
    """(batch, q_len, k_len) with an axis for heads."""
    return array if array.ndim == 2 else array[..., None, :, :]


_SCHEMES = (DualChunk, ReRoPE, SelfExtend)
for _each in (*_SCHEMES, Range):
    _each.__module__ = __package__
_backends.register_values(_SCHEMES)
# doctest looks for them in the package, which does not have them before they are used.
__test__ = {_each.__name__: _each for _each in _SCHEMES}
