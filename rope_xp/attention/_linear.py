"""Linear attention: cost that grows with the length, with rotated queries and keys."""

from __future__ import annotations

from collections.abc import Callable

from rope_xp import _backends
from rope_xp._backends import A, Array, Dtype, Namespace
from rope_xp._validation import is_known, quote, require_bool
from rope_xp.attention._shapes import broadcast_kv, require_shapes, split_groups
from rope_xp.axes._base import refuse_default
from rope_xp.positions._alignment import SeqLen, require_positions_along
from rope_xp.rope import RoPE

#: Tokens that causal attention compares pair by pair. Earlier ones enter as one sum.
_CHUNK = 64


def linear_attention(
    q: A,
    k: Array,
    v: Array,
    *,
    rope: RoPE | None = None,
    causal: bool = False,
    q_positions: Array | None = None,
    k_positions: Array | None = None,
    seq_len: SeqLen = None,
    feature_map: Callable[[Array], Array] | None = None,
) -> A:
    r"""Attention whose time and memory grow linearly with the length, not quadratically.

    .. math:: o_m = \frac{\sum_n \langle R_m \varphi(q_m), R_n \varphi(k_n) \rangle\, v_n}
                         {\sum_n \langle \varphi(q_m), \varphi(k_n) \rangle}

    Parameters
    ----------
    q : array, shape (..., heads, q_len, head_dim), floating
        Queries, not rotated: the rotation comes after the feature map.
    k, v : array, shape (..., kv_heads, k_len, head_dim) and (..., kv_heads, k_len, v_dim)
        Keys, not rotated, and values. ``heads`` is a multiple of ``kv_heads``, as in `attention`.
    rope : RoPE, optional
        Its ``head_dim`` is the width of the features. Default: no rotation.
    causal : bool
        Mask keys with a larger index. The last query is aligned with the last key.
    q_positions, k_positions : array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)
        Both or neither, as for `RoPE`. Default: keys at 0 … k_len − 1, and the last query at the
        position of the last key, whether ``causal`` or not. Only distances matter, so there is no
        offset.
    seq_len : int or a tuple of them, optional
        As in `RoPE`: only for schedules that depend on length.
    feature_map : callable, optional
        Takes an array (..., seq, head_dim) in float32 or float64 and returns features (..., seq, any
        width) of the same dtype, which must be non-negative (not checked). Default: elu(x) + 1.

    Returns
    -------
    array, shape (..., heads, q_len, v_dim), dtype of ``q``
        Computed in float32 at least. Zeros where the denominator is zero: for a query that may
        attend to no key, or whose features have no support in common with those of the keys (which
        does not happen with elu + 1).

    Raises
    ------
    ValueError
        If shapes do not fit, only one of the positions is given or they are given without ``rope``, both
        are missing for a scheme of images, or the length of a lazy array is unknown.
    TypeError
        If an array is not floating, libraries are mixed, ``rope`` is not a `RoPE`, or
        ``feature_map`` is not callable.

    Notes
    -----
    The denominator is not rotated, so it stays positive. The weights of the numerator may be negative
    and need not sum to 1. The attention factor of a schedule (YaRN) is divided out: it is a
    temperature of the softmax, and would only scale the output here.

    Under ``torch.export`` causal attention compares all pairs of tokens: its memory is quadratic there.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.3, eq. 19; feature map: Katharopoulos et
    al. 2020, arXiv:2006.16236, section 3.2.
    Book: :eq:`eq-linear-attention`, :eq:`eq-linear-rope`, :eq:`eq-running-sum`.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> q = k = np.zeros((2, 4))
    >>> v = np.asarray([[1.0], [2.0]])
    >>> linear_attention(q, k, v, causal=True)
    array([[1. ],
           [1.5]])
    >>> linear_attention(q, k, v, causal=True, rope=RoPE(4, layout="half")).round(3)
    array([[1.   ],
           [1.385]])
    """
    xp = _backends.namespace(q=q, k=k, v=v)
    _backends.require_floating(q=q, k=k, v=v)
    require_shapes(q, k, v)
    causal = require_bool("causal", causal)
    _require_positions(rope, q_positions, k_positions)
    if q_positions is not None:
        q_positions, k_positions = _backends.beside(
            "q", q, xp, may_stay=True, q_positions=q_positions, k_positions=k_positions
        )
    q_len, k_len = q.shape[-2], k.shape[-2]
    if not (is_known(q_len) and is_known(k_len)):
        msg = f"`q` and `k` must have known lengths, got {q_len} and {k_len}"
        raise ValueError(msg)
    result, compute = q.dtype, _backends.compute_dtype(xp, q, k, v)
    q, k = (_features(name, x, compute, feature_map, xp) for name, x in (("q", q), ("k", k)))
    v = _backends.cast(v, compute, xp)

    norm = _weighted_sum(q, k, xp.ones_like(v[..., :1]), causal, xp)  # (..., heads, q_len, 1)
    if rope is not None:
        _require_fit(rope, q, k, q_positions, k_positions)
        norm = norm * rope._schedule(seq_len).attention_factor ** 2
        if q_positions is None:
            q = rope(q, offset=k_len - q_len, seq_len=seq_len)
            k = rope(k, seq_len=seq_len)
        else:
            q = rope(q, positions=q_positions, seq_len=seq_len)
            k = rope(k, positions=k_positions, seq_len=seq_len)
    output = _weighted_sum(q, k, v, causal, xp)
    # The numerator need not be zero there: rotated features may have support in common where plain
    # ones have none.
    empty = norm == 0
    output = output / xp.where(empty, xp.ones_like(norm), norm)
    rounded: A = _backends.cast(xp.where(empty, xp.zeros_like(output), output), result, xp)
    return rounded


def _weighted_sum(q: Array, k: Array, v: Array, causal: bool, xp: Namespace) -> Array:
    """The sum of (q·k) v over the keys that each query attends to, without all q·k at once."""
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = split_groups(q, k, xp), broadcast_kv(q, k), broadcast_kv(q, v)
    total = _causal_sum(q, k, v, xp) if causal else q @ (xp.matrix_transpose(k) @ v)
    return xp.reshape(total, shape)


def _causal_sum(q: Array, k: Array, v: Array, xp: Namespace) -> Array:
    """`_weighted_sum` up to each query: pair by pair within a chunk, a running sum before it."""
    further = k.shape[-2] - q.shape[-2]
    try:
        no_keys, past = max(-further, 0), max(further, 0)
    except Exception as error:  # of a library that traces sizes and cannot compare these
        msg = (
            "`q` and `k` must have lengths that compare where `causal` is True, "
            f"got {q.shape[-2]} and {k.shape[-2]}"
        )
        raise ValueError(msg) from error
    start = xp.matrix_transpose(k[..., :past, :]) @ v[..., :past, :]  # before the first query
    seq = q.shape[-2] - no_keys
    if _backends.is_exporting():
        # torch.export does not see that chunks hold all of any length.
        chunk, n_chunks = seq, 1
    elif isinstance(seq, int):
        chunk = max(min(seq, _CHUNK), 1)
        n_chunks = max(-(-seq // chunk), 1)
    else:  # a comparison with a size that is traced would make it a constant
        chunk, n_chunks = _CHUNK, -(-seq // _CHUNK)
    q, k, v = (
        _split_chunks(x, chunk, n_chunks, xp)
        for x in (q[..., no_keys:, :], k[..., past:, :], v[..., past:, :])
    )  # (..., n_chunks, chunk, width)

    steps = xp.arange(chunk, device=_backends.device(q))
    scores = q @ xp.matrix_transpose(k)  # (..., n_chunks, chunk, chunk)
    mask = _backends.place("q", q, (None, None), causal=steps <= steps[:, None])
    scores = xp.where(mask, scores, xp.zeros_like(scores))
    states = xp.matrix_transpose(k) @ v  # (..., n_chunks, width of k, width of v)
    states = xp.concat((start[..., None, :, :], states[..., :-1, :, :]), axis=-3)
    states = _backends.cumulative_sum(states, states.dtype, xp, axis=-3)  # of all earlier chunks
    total = scores @ v + q @ states

    total = xp.reshape(total, (*total.shape[:-3], n_chunks * chunk, total.shape[-1]))
    return _pad_rows(total[..., :seq, :], no_keys, 0, xp)


def _split_chunks(x: Array, chunk: int, n_chunks: int, xp: Namespace) -> Array:
    """(..., seq, width) as (..., n_chunks, chunk, width), with zeros at the end."""
    x = _pad_rows(x, 0, n_chunks * chunk - x.shape[-2], xp)
    return xp.reshape(x, (*x.shape[:-2], n_chunks, chunk, x.shape[-1]))


def _pad_rows(x: Array, before: int, after: int, xp: Namespace) -> Array:
    """(..., seq, width) with rows of zeros before and after."""
    if isinstance(before, int) and isinstance(after, int) and before == after == 0:
        return x
    axes = (*range(x.ndim - 2), None, None)
    first, last = (
        xp.zeros((*x.shape[:-2], n, x.shape[-1]), dtype=x.dtype, device=_backends.device(x))
        for n in (before, after)
    )
    first, last = (_backends.place("x", x, axes, zeros=zeros) for zeros in (first, last))
    return xp.concat((first, x, last), axis=-2)


def _features(
    name: str, x: Array, compute: Dtype, feature_map: Callable[[Array], Array] | None, xp: Namespace
) -> Array:
    """``feature_map(x)``, by default elu(x) + 1."""
    x = _backends.cast(x, compute, xp)
    if feature_map is None:
        negative = xp.where(x > 0, xp.zeros_like(x), x)  # exp of a large x would spoil gradients
        return xp.where(x > 0, x + 1, xp.exp(negative))
    if not callable(feature_map):
        msg = f"`feature_map` must be callable or None, got {quote(feature_map)}"
        raise TypeError(msg)
    features = feature_map(x)
    _backends.namespace(**{name: x, f"feature_map({name})": features})
    if features.shape[:-1] != x.shape[:-1]:
        msg = (
            f"`feature_map` must keep all axes except the last, "
            f"got {tuple(features.shape)} from {tuple(x.shape)}"
        )
        raise ValueError(msg)
    return _backends.cast(features, compute, xp)


def _require_positions(
    rope: RoPE | None, q_positions: Array | None, k_positions: Array | None
) -> None:
    if not (rope is None or isinstance(rope, RoPE)):
        msg = f"`rope` must be a RoPE or None, got {quote(rope)}"
        raise TypeError(msg)
    given = [
        name
        for name, positions in (("q_positions", q_positions), ("k_positions", k_positions))
        if positions is not None
    ]
    if given and rope is None:
        msg = f"`{given[0]}` must be None without a `rope` that rotates, got an array"
        raise ValueError(msg)
    if not given and rope is not None and not rope._encodes_text:
        refuse_default("q_positions` and `k_positions", rope.axes)
    if len(given) == 1:
        msg = f"`q_positions` and `k_positions` must be given together, got only `{given[0]}`"
        raise ValueError(msg)


def _require_fit(
    rope: RoPE, q: Array, k: Array, q_positions: Array | None, k_positions: Array | None
) -> None:
    """ValueError unless features and positions fit, by the names that the caller of this package knows."""
    width = q.shape[-1]
    if width != rope.head_dim and is_known(width):
        msg = f"`rope` must have head_dim={width}, the width of the features, got {quote(rope)}"
        raise ValueError(msg)
    for of, x, name, positions in (
        ("q", q, "q_positions", q_positions),
        ("k", k, "k_positions", k_positions),
    ):
        if positions is not None:
            require_positions_along(name, positions, of, x, x.ndim - 2, axes=rope.axes)
