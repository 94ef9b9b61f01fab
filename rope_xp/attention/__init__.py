"""What the rotation is for: reference attention, linear attention, a cache that can shift."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, is_known
from rope_xp.rope import RoPE

__all__ = ["KVCache", "attention", "causal_mask", "linear_attention"]

#: Tokens that causal linear attention compares pair by pair; earlier ones come as one sum.
_CHUNK = 64


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    bias: Array | None = None,
    scale: float | None = None,
) -> Array:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(s\,q k^\top + B)\,v`, written plainly.

    Parameters
    ----------
    q : array, shape (..., heads, q_len, head_dim), floating
        Rotated queries.
    k, v : array, shape (..., kv_heads, k_len, head_dim) and (..., kv_heads, k_len, v_dim)
        Rotated keys, and values. ``heads`` is a multiple of ``kv_heads``: query head h reads
        key head h // (heads // kv_heads).
    causal : bool
        Hide later keys. The last query stands at the last key, as with a cache.
    bias : array, optional
        Broadcasts to (..., heads, q_len, k_len): floats are added to the scores, booleans tell
        where a query may look.
    scale : float, optional
        Default ``head_dim ** -0.5``.

    Returns
    -------
    array, shape (..., heads, q_len, v_dim), dtype of ``q``
        Computed in float32 at least. A query that may look at no key gives zeros.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If an array is not floating (``bias``: or boolean), or libraries are mixed.

    Notes
    -----
    A reference: it holds all scores at once. ``torch.autocast`` rounds matrix products, these too.
    Source: Vaswani et al. 2017, arXiv:1706.03762,
    section 3.2.1; shared key heads: Ainslie et al. 2023, arXiv:2305.13245.
    Book: :eq:`eq-permutation`.

    Examples
    --------
    >>> import numpy as np
    >>> q = k = np.eye(2)
    >>> attention(q, k, np.asarray([[1.0], [2.0]]), causal=True, scale=0.0)
    array([[1. ],
           [1.5]])
    """
    xp = _backends.namespace(q=q, k=k, v=v, bias=bias)
    _backends.require_floating(q=q, k=k, v=v)
    _require_shapes(q, k, v)
    names = {_backends.dtype_name(array.dtype) for array in (q, k, v)}
    compute = xp.float64 if "float64" in names else xp.float32
    result = q.dtype
    q, k, v = (_backends.cast(array, compute, xp) for array in (q, k, v))

    q_len, k_len = q.shape[-2], k.shape[-2]
    rows = q.shape[:-2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = _per_group(q * scale, k, xp) @ xp.matrix_transpose(_shared(q, k))
    scores = xp.reshape(scores, (*rows, q_len, k_len))
    never = xp.asarray(-math.inf, dtype=compute, device=_backends.device(q))
    if causal:
        steps = xp.arange(max(q_len, k_len), device=_backends.device(q))
        mask = steps[None, :k_len] <= steps[:q_len, None] + (k_len - q_len)
        scores = xp.where(mask, scores, never)
    if bias is not None and "bool" in _backends.dtype_name(bias.dtype):
        scores = xp.where(bias, scores, never)
    elif bias is not None:
        _backends.require_floating(bias=bias)
        scores = scores + _backends.cast(bias, compute, xp)

    peak = xp.max(scores, axis=-1, keepdims=True)
    weights = xp.exp(scores - xp.where(peak == never, xp.zeros_like(peak), peak))
    total = xp.sum(weights, axis=-1, keepdims=True)
    weights = weights / xp.where(total == 0, xp.ones_like(total), total)
    mixed = _per_group(weights, v, xp) @ _shared(weights, v)
    return _backends.cast(xp.reshape(mixed, (*rows, q_len, v.shape[-1])), result, xp)


def linear_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    rope: RoPE | None = None,
    causal: bool = False,
    q_positions: Array | None = None,
    k_positions: Array | None = None,
    seq_len: int | None = None,
    feature_map: Callable[[Array], Array] | None = None,
) -> Array:
    r"""Attention whose time and memory grow with the length, not with its square.

    .. math:: o_m = \frac{\sum_n \langle R_m \varphi(q_m), R_n \varphi(k_n) \rangle\, v_n}
                         {\sum_n \langle \varphi(q_m), \varphi(k_n) \rangle}

    Parameters
    ----------
    q : array, shape (..., heads, q_len, head_dim), floating
        Queries, not rotated: the rotation comes after the feature map.
    k, v : array, shape (..., kv_heads, k_len, head_dim) and (..., kv_heads, k_len, v_dim)
        Keys, not rotated, and values. ``heads`` is a multiple of ``kv_heads``, as in `attention`.
    rope : RoPE, optional
        Its ``head_dim`` is the width of the features. None: no rotation.
    causal : bool
        Hide later keys, by their place in the array. The last query stands at the last key.
    q_positions, k_positions : array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)
        Given together, as for `RoPE`. Default: keys at 0 … k_len − 1, the last query at the last
        key, ``causal`` or not. Only distances matter, so there is no offset.
    seq_len : int, optional
        As in `RoPE`: only for schedules that depend on length.
    feature_map : callable, optional
        From an array (..., seq, head_dim) in float32 or float64 to features (..., seq, any width)
        of the same dtype, which must be non-negative (not checked). Default: elu(x) + 1.

    Returns
    -------
    array, shape (..., heads, q_len, v_dim), dtype of ``q``
        Computed in float32 at least. Zeros where the denominator is zero: for a query that may
        look at no key, or whose features share no support with theirs (not with elu + 1).

    Raises
    ------
    ValueError
        If shapes do not fit, positions come alone or without ``rope``, or the length of a lazy
        array is unknown.
    TypeError
        If an array is not floating, libraries are mixed, or ``rope`` or ``feature_map`` is none.

    Notes
    -----
    The denominator is not rotated, so it stays positive; the numerator's weights may be negative
    and need not sum to 1. A schedule's attention factor (YaRN) is divided out: it is a temperature
    of the softmax, and here would only scale the output.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.3, eq. 19; feature map: Katharopoulos et
    al. 2020, arXiv:2006.16236, section 3.2.
    Book: :eq:`eq-linear-attention`, :eq:`eq-linear-rope`, :eq:`eq-running-sum`.

    Examples
    --------
    >>> import numpy as np
    >>> q = k = np.zeros((2, 4))
    >>> v = np.asarray([[1.0], [2.0]])
    >>> linear_attention(q, k, v, causal=True)
    array([[1. ],
           [1.5]])
    >>> linear_attention(q, k, v, causal=True, rope=RoPE(4, layout="half")).round(3)
    array([[1.   ],
           [1.385]])
    """
    xp = _backends.namespace(q=q, k=k, v=v, q_positions=q_positions, k_positions=k_positions)
    _backends.require_floating(q=q, k=k, v=v)
    _require_shapes(q, k, v)
    _require_positions(rope, q_positions, k_positions)
    q_len, k_len = q.shape[-2], k.shape[-2]
    if not (is_known(q_len) and is_known(k_len)):
        msg = f"`q` and `k` must have known lengths, got {q_len} and {k_len}"
        raise ValueError(msg)
    names = {_backends.dtype_name(array.dtype) for array in (q, k, v)}
    compute = xp.float64 if "float64" in names else xp.float32
    result = q.dtype
    q, k = (_features(name, x, compute, feature_map, xp) for name, x in (("q", q), ("k", k)))
    v = _backends.cast(v, compute, xp)

    norm = _mixed(q, k, xp.ones_like(v[..., :1]), causal, xp)  # (..., heads, q_len, 1)
    if rope is not None:
        norm = norm * rope.frequencies(seq_len).attention_factor ** 2
        if q_positions is None:
            q = rope(q, offset=k_len - q_len, seq_len=seq_len)
            k = rope(k, seq_len=seq_len)
        else:
            q = rope(q, positions=q_positions, seq_len=seq_len)
            k = rope(k, positions=k_positions, seq_len=seq_len)
    mixed = _mixed(q, k, v, causal, xp)
    # Not only the division is undefined there: rotated features may share support where plain ones
    # do not, so the numerator need not be zero.
    empty = norm == 0
    mixed = mixed / xp.where(empty, xp.ones_like(norm), norm)
    return _backends.cast(xp.where(empty, xp.zeros_like(mixed), mixed), result, xp)


def causal_mask(q_positions: Array, k_positions: Array) -> Array:
    """Where a query may look: at keys whose position is not after its own.

    Parameters
    ----------
    q_positions, k_positions : array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)

    Returns
    -------
    array of bool, shape (q_len, k_len) or (batch, 1, q_len, k_len)
        For the ``bias`` of `attention`.

    Examples
    --------
    >>> import numpy as np
    >>> causal_mask(np.asarray([1]), np.asarray([0, 1, 2]))
    array([[ True,  True, False]])
    """
    _backends.namespace(q_positions=q_positions, k_positions=k_positions)
    mask = k_positions[..., None, :] <= q_positions[..., :, None]  # (..., q_len, k_len)
    return mask if mask.ndim == 2 else mask[..., None, :, :]


class KVCache(NamedTuple):
    """Rotated keys and values of ``length`` tokens, in arrays that hold up to ``capacity``.

    A value: every method returns a new cache. Shapes never change, so one compiled step serves
    every length; as a named tuple it passes through ``jax.jit`` and ``torch.compile`` as it is.

    Parameters
    ----------
    k, v : array, shape (..., capacity, head_dim)
        Slot i holds the token at position i; slots from ``length`` on are empty. Attention must
        not see those: `causal_mask` over all slots hides them.
    length : int or integer array, shape ()
        Tokens held. As an array (under ``jax.jit``) it cannot be checked against the capacity.

    Examples
    --------
    >>> import numpy as np
    >>> cache = KVCache.empty((1, 4, 2))  # (heads, capacity, head_dim)
    >>> cache = cache.append(np.ones((1, 3, 2)), np.ones((1, 3, 2)))
    >>> cache.length, cache.k[0, :, 0]
    (3, array([1., 1., 1., 0.], dtype=float32))
    """

    k: Array
    v: Array
    length: int | Array = 0

    @classmethod
    def empty(
        cls,
        shape: tuple[int, ...],
        *,
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> KVCache:
        """A cache of ``shape`` (..., capacity, head_dim); float32 in NumPy unless told otherwise."""
        xp = _backends.compat_namespace(xp)
        dtype = xp.float32 if dtype is None else dtype
        k, v = (xp.zeros(shape, dtype=dtype, device=device) for _ in "kv")
        return cls(k, v)

    def append(self, k: Array, v: Array) -> KVCache:
        """The cache with the tokens of ``k`` and ``v``, shape (..., seq, head_dim), at its end.

        Raises ValueError if they do not fit.
        """
        xp = _backends.namespace(cache=self.k, k=k, v=v)
        capacity, seq = self.k.shape[-2], k.shape[-2]
        for name, new, old in (("k", k, self.k), ("v", v, self.v)):
            expected = (*old.shape[:-2], seq, old.shape[-1])
            if tuple(new.shape) != tuple(expected):
                msg = f"`{name}` must have shape {tuple(expected)}, got {tuple(new.shape)}"
                raise ValueError(msg)
        free = capacity - self.length
        if seq > capacity or (isinstance(free, int) and seq > free):
            msg = (
                f"`k` must fit into the cache of {capacity} tokens ({self.length} used), got {seq}"
            )
            raise ValueError(msg)
        steps = xp.arange(capacity, device=_backends.device(k)) - self.length
        new = (steps >= 0) & (steps < seq)  # (capacity,)
        source = xp.clip(steps, 0, seq - 1)
        k, v = (
            xp.where(
                new[:, None], xp.take(_backends.cast(fresh, old.dtype, xp), source, axis=-2), old
            )
            for fresh, old in ((k, self.k), (v, self.v))
        )
        return KVCache(k, v, self.length + seq)

    def drop(self, n: int, rope: RoPE, *, keep: int = 0, seq_len: int | None = None) -> KVCache:
        """The cache without ``n`` tokens after the first ``keep``; later keys move up by ``n``.

        With ``keep`` > 0 this is a sliding window with attention sinks (Xiao et al. 2023,
        arXiv:2309.17453). ``rope`` is the encoding that rotated the keys.

        Raises ValueError if there are no such tokens.

        Book: :eq:`eq-cache-shift`.
        """
        n, keep = as_int("n", n), as_int("keep", keep)
        held = self.length if isinstance(self.length, int) else self.k.shape[-2]
        if n < 0 or keep < 0 or keep + n > held:
            msg = f"`n` and `keep` must be within the {held} tokens held, got {n} and {keep}"
            raise ValueError(msg)
        xp = _backends.namespace(cache=self.k)
        moved = rope.shift(self.k[..., keep + n :, :], -n, seq_len=seq_len)
        k = xp.concat((self.k[..., :keep, :], moved, xp.zeros_like(self.k[..., :n, :])), axis=-2)
        v = self.v
        v = xp.concat(
            (v[..., :keep, :], v[..., keep + n :, :], xp.zeros_like(v[..., :n, :])), axis=-2
        )
        return KVCache(k, v, self.length - n)


def _mixed(q: Array, k: Array, v: Array, causal: bool, xp: Namespace) -> Array:
    """Sums over the keys that a query sees of (q·k) v, without all q·k at once."""
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = _per_group(q, k, xp), _shared(q, k), _shared(q, v)
    mixed = _mixed_causal(q, k, v, xp) if causal else q @ (xp.matrix_transpose(k) @ v)
    return xp.reshape(mixed, shape)


def _mixed_causal(q: Array, k: Array, v: Array, xp: Namespace) -> Array:
    """`_mixed` up to each query's own place: pairs within a chunk, a running sum before it."""
    blind, past = max(q.shape[-2] - k.shape[-2], 0), max(k.shape[-2] - q.shape[-2], 0)
    start = xp.matrix_transpose(k[..., :past, :]) @ v[..., :past, :]  # before the first query
    seq = q.shape[-2] - blind
    chunk = max(min(seq, _CHUNK), 1)
    n_chunks = max(-(-seq // chunk), 1)
    q, k, v = (
        _chunked(x, chunk, n_chunks, xp)
        for x in (q[..., blind:, :], k[..., past:, :], v[..., past:, :])
    )  # (..., n_chunks, chunk, width)

    steps = xp.arange(chunk, device=_backends.device(q))
    scores = q @ xp.matrix_transpose(k)  # (..., n_chunks, chunk, chunk)
    scores = xp.where(steps <= steps[:, None], scores, xp.zeros_like(scores))
    states = xp.matrix_transpose(k) @ v  # (..., n_chunks, width of k, width of v)
    states = xp.concat((start[..., None, :, :], states[..., :-1, :, :]), axis=-3)
    states = _backends.cumulative_sum(states, states.dtype, xp, axis=-3)  # of all earlier chunks
    mixed = scores @ v + q @ states

    mixed = xp.reshape(mixed, (*mixed.shape[:-3], n_chunks * chunk, mixed.shape[-1]))
    return _padded(mixed[..., :seq, :], blind, 0, xp)


def _chunked(x: Array, chunk: int, n_chunks: int, xp: Namespace) -> Array:
    """(..., seq, width) as (..., n_chunks, chunk, width), with zeros at the end."""
    x = _padded(x, 0, n_chunks * chunk - x.shape[-2], xp)
    return xp.reshape(x, (*x.shape[:-2], n_chunks, chunk, x.shape[-1]))


def _padded(x: Array, before: int, after: int, xp: Namespace) -> Array:
    """Rows of zeros around (..., seq, width)."""
    if before == after == 0:
        return x
    first, last = (
        xp.zeros((*x.shape[:-2], n, x.shape[-1]), dtype=x.dtype, device=_backends.device(x))
        for n in (before, after)
    )
    return xp.concat((first, x, last), axis=-2)


def _features(
    name: str, x: Array, compute: Dtype, feature_map: Callable[[Array], Array] | None, xp: Namespace
) -> Array:
    """elu(x) + 1, or what the user's map makes of ``x``."""
    x = _backends.cast(x, compute, xp)
    if feature_map is None:
        low = xp.where(x > 0, xp.zeros_like(x), x)  # exp of what is large would spoil gradients
        return xp.where(x > 0, x + 1, xp.exp(low))
    if not callable(feature_map):
        msg = f"`feature_map` must be callable or None, got {feature_map!r}"
        raise TypeError(msg)
    features = feature_map(x)
    _backends.namespace(**{name: x, f"feature_map({name})": features})
    if features.shape[:-1] != x.shape[:-1]:
        msg = (
            f"`feature_map` must keep all axes but the last, "
            f"got {tuple(features.shape)} from {tuple(x.shape)}"
        )
        raise ValueError(msg)
    return _backends.cast(features, compute, xp)


def _per_group(rows: Array, shared: Array, xp: Namespace) -> Array:
    """(..., heads, q_len, d) as (..., kv_heads, group, q_len, d) where heads are shared."""
    if rows.ndim < 3 or rows.shape[-3] == shared.shape[-3]:
        return rows
    kv_heads = shared.shape[-3]
    group = rows.shape[-3] // kv_heads
    return xp.reshape(rows, (*rows.shape[:-3], kv_heads, group, *rows.shape[-2:]))


def _shared(rows: Array, shared: Array) -> Array:
    """The partner of `_per_group`: an axis of size 1 for the group where heads are shared."""
    if rows.ndim < 3 or rows.shape[-3] == shared.shape[-3]:
        return shared
    return shared[..., None, :, :]


def _require_shapes(q: Array, k: Array, v: Array) -> None:
    got = f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
    if not (q.ndim == k.ndim == v.ndim >= 2):
        msg = f"`q`, `k` and `v` must have the same number of axes, at least 2, {got}"
        raise ValueError(msg)
    if k.shape[:-1] != v.shape[:-1]:
        msg = f"`k` and `v` must agree but for their last axis, {got}"
        raise ValueError(msg)
    if q.shape[-1] != k.shape[-1]:
        msg = f"`q` and `k` must have the same last axis (head_dim), {got}"
        raise ValueError(msg)
    if q.ndim > 2 and (k.shape[-3] == 0 or q.shape[-3] % k.shape[-3]):
        msg = f"the heads of `q` must be a multiple of those of `k`, {got}"
        raise ValueError(msg)


def _require_positions(
    rope: RoPE | None, q_positions: Array | None, k_positions: Array | None
) -> None:
    if not (rope is None or isinstance(rope, RoPE)):
        msg = f"`rope` must be a RoPE or None, got {rope!r}"
        raise TypeError(msg)
    given = [
        name
        for name, positions in (("q_positions", q_positions), ("k_positions", k_positions))
        if positions is not None
    ]
    if given and rope is None:
        msg = f"`{given[0]}` must be None without a `rope` that rotates, got an array"
        raise ValueError(msg)
    if len(given) == 1:
        msg = f"`q_positions` and `k_positions` must be given together, got only `{given[0]}`"
        raise ValueError(msg)
