"""Reference attention with a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rope_xp import _backends
from rope_xp._backends import A, Array, Dtype, Namespace
from rope_xp._validation import (
    MAX_FACTOR,
    is_known,
    quote,
    require_bool,
    require_number,
)
from rope_xp.attention._shapes import grouped_product, require_shapes


def attention(
    q: A,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    bias: Array | None = None,
    scale: float | None = None,
    query_scale: Array | None = None,
    ranges: Sequence[tuple[Array, Array, Array]] = (),
) -> A:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(s\,q k^\top + B)\,v`.

    Parameters
    ----------
    q : array, shape (..., heads, q_len, head_dim), floating
        Rotated queries.
    k, v : array, shape (..., kv_heads, k_len, head_dim) and (..., kv_heads, k_len, v_dim)
        Rotated keys, and values. ``heads`` is a multiple of ``kv_heads``: query head h reads
        key head h // (heads // kv_heads).
    causal : bool
        Mask later keys. The last query is aligned with the last key, as with a cache.
    bias : array, optional
        Broadcasts to (..., heads, q_len, k_len). A floating bias is added to the scores; a boolean
        one is True where a query may attend to a key.
    scale : float, optional
        Default: ``head_dim ** -0.5``. Where a model has a ``softmax_factor``, that times the factor.
    query_scale : array, shape (q_len,), (batch, q_len) or (..., heads, q_len), optional
        Factors on the queries, as `rope_xp.scaling.QueryScale` returns them for their positions. With
        fewer axes than the last form has, ``batch`` is the first axis of ``q``, whatever is between.
    ranges : sequence of (q, k, where), optional
        Other queries and keys, of the shapes of ``q`` and ``k``, for the scores where the boolean array
        ``where``, which broadcasts to the scores, is True; the last True one counts. From
        `rotate_ranges`, for schemes such as `rope_xp.positions.SelfExtend`.

    Returns
    -------
    array, shape (..., heads, q_len, v_dim), dtype of ``q``
        Computed in float32 at least. Zeros for a query that may attend to no key.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If an array is not floating (``bias``: floating or boolean), or libraries are mixed.

    Notes
    -----
    A reference implementation, which needs memory for all scores at once. ``torch.autocast`` rounds
    its matrix products, too.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; shared key heads: Ainslie et al.
    2023, arXiv:2305.13245.
    Book: :eq:`eq-permutation`.

    Examples
    --------
    >>> import numpy as np
    >>> q = k = np.eye(2)
    >>> attention(q, k, np.asarray([[1.0], [2.0]]), causal=True, scale=0.0)
    array([[1. ],
           [1.5]])
    """
    xp = _backends.namespace(q=q, k=k, v=v)
    if bias is not None:
        (bias,) = _backends.beside("q", q, xp, rounded=True, bias=bias)
    if query_scale is not None:
        (query_scale,) = _backends.beside("q", q, xp, rounded=True, query_scale=query_scale)
        _backends.require_floating(query_scale=query_scale)
    _backends.require_floating(q=q, k=k, v=v)
    require_shapes(q, k, v)
    *rows, q_len, head_dim = q.shape
    k_len = k.shape[-2]
    ranges = _require_ranges(ranges, q, k, xp)
    is_mask = bias is not None and _backends.is_boolean(bias)
    if not is_mask:
        _backends.require_floating(bias=bias)
    causal = require_bool("causal", causal)
    others = [array for each in ranges for array in each[:2]]
    result, compute = q.dtype, _backends.compute_dtype(xp, q, k, v, *others)
    v = _backends.cast(v, compute, xp)
    factor: float | Array = _resolve_scale(scale, head_dim)
    if query_scale is not None:
        factors = _line_up(query_scale, (*rows, q_len))
        factors = _place(q, query_scale=factors)
        factor *= _backends.cast(factors, compute, xp)[..., None]
    if bias is not None:
        _require_bias("bias", tuple(bias.shape), (*rows, q_len, k_len))
        bias = _place(q, (None,) if bias.ndim else (), bias=bias)
    if any(is_known(n) and n == 0 for n in (*rows, q_len, k_len)):
        # Scores without elements have no maximum, and a sum over no keys is 0.
        zeros: A = xp.zeros((*rows, q_len, v.shape[-1]), dtype=result, device=_backends.device(q))
        return zeros
    scores = _scores(q, k, factor, compute, xp)
    for q_there, k_there, where in ranges:
        scores = xp.where(where, _scores(q_there, k_there, factor, compute, xp), scores)
    never = xp.asarray(-math.inf, dtype=compute, device=_backends.device(q))
    if causal:
        lengths = [_backends.size_along(x, -2) for x in (q, k)]
        if any(n is None for n in lengths):
            msg = f"`q` and `k` must have known lengths where `causal` is True, got {q_len} and {k_len}"
            raise ValueError(msg)
        queries, keys = (xp.arange(n, device=_backends.device(q)) for n in lengths)
        mask = keys <= queries[:, None] + (lengths[1] - lengths[0])
        mask = _place(q, (None,), causal=mask)
        scores = xp.where(mask, scores, never)
    if is_mask:
        scores = xp.where(bias, scores, never)
    elif bias is not None:
        scores = scores + _backends.cast(bias, compute, xp)

    peak = xp.max(scores, axis=-1, keepdims=True)
    # A row of −∞ has no key; one with ∞ is NaN, also where NumPy would warn of ∞ − ∞.
    peak = xp.where(peak == never, xp.zeros_like(peak), xp.where(peak == -never, math.nan, peak))
    weights = xp.exp(scores - peak)
    total = xp.sum(weights, axis=-1, keepdims=True)
    weights = weights / xp.where(total == 0, xp.ones_like(total), total)
    output: A = _backends.cast(grouped_product(weights, v, xp), result, xp)
    return output


def _scores(q: Array, k: Array, factor: float | Array, compute: Dtype, xp: Namespace) -> Array:
    """Products of queries × ``factor`` with keys, (..., heads, q_len, k_len), in ``compute``."""
    q, k = (_backends.cast(array, compute, xp) for array in (q, k))
    return grouped_product(q * factor, xp.matrix_transpose(k), xp)


def _place(q: Array, last: _backends.Axes = (), **named: Array) -> Array:
    """An array, by its name, where queries are, along their last axes before the features, and ``last``."""
    ((_, array),) = named.items()
    n = array.ndim - len(last)
    return _backends.place("q", q, (*range(q.ndim - 1 - n, q.ndim - 1), *last), **named)


def _require_ranges(ranges: Any, q: Array, k: Array, xp: Namespace) -> list[tuple[Array, ...]]:
    """``ranges`` as a list; ValueError or TypeError unless they fit to queries and keys."""
    if not isinstance(ranges, tuple | list):
        msg = f"`ranges` must be a sequence of (q, k, where), got {quote(ranges)}"
        raise TypeError(msg)
    made = []
    for i, entry in enumerate(ranges):
        if not isinstance(entry, tuple | list) or len(entry) != 3:
            msg = f"`ranges[{i}]` must be (q, k, where), got {quote(entry)}"
            raise TypeError(msg)
        if hasattr(entry, "k_positions"):
            msg = f"`ranges[{i}]` must be (q, k, where), as `rotate_ranges` returns them, got positions"
            raise TypeError(msg)
        *names, name = (f"ranges[{i}][{n}]" for n in range(3))
        for each, array, (of, other) in zip(names, entry, (("q", q), ("k", k)), strict=False):
            _backends.namespace(q=q, **{each: array})
            _backends.require_floating(**{each: array})
            _require_same_shape(each, tuple(array.shape), of, tuple(other.shape))
        (where,) = _backends.beside("q", q, xp, **{name: entry[2]})
        if not _backends.is_boolean(where):
            msg = f"`{name}` must be boolean, got {_backends.dtype_name(where.dtype)}"
            raise TypeError(msg)
        _require_bias(name, tuple(where.shape), (*q.shape[:-1], k.shape[-2]))
        made.append((entry[0], entry[1], where))
    return made


def _require_same_shape(name: str, got: tuple[int, ...], of: str, shape: tuple[int, ...]) -> None:
    if len(got) != len(shape) or any(
        is_known(a) and is_known(b) and a != b for a, b in zip(got, shape, strict=True)
    ):
        msg = f"`{name}` must have the shape of `{of}`, {quote(shape)}, got {quote(got)}"
        raise ValueError(msg)


def _resolve_scale(scale: float | None, head_dim: int) -> float:
    if scale is None:
        if head_dim == 0:
            msg = "`scale` must be given where head_dim is 0, got None"
            raise ValueError(msg)
        return float(head_dim**-0.5)
    number = require_number("scale", scale)
    if abs(number) > MAX_FACTOR:
        msg = f"`scale` must be in [-2**63, 2**63], got {number}"
        raise ValueError(msg)
    return number


def _line_up(query_scale: Array, wanted: tuple[int, ...]) -> Array:
    """Factors as arrays broadcast to ``wanted``, (..., heads, q_len); ValueError if they do not."""
    shape, n_axes = tuple(query_scale.shape), len(wanted)
    axes = {1: (n_axes - 1,), 2: (0, n_axes - 1)}.get(len(shape), tuple(range(n_axes)))
    fits = len(shape) == len(set(axes)) and all(
        size in (1, wanted[axis]) or not (is_known(size) and is_known(wanted[axis]))
        for size, axis in zip(shape, axes, strict=True)
    )
    if not fits:
        msg = (
            f"`query_scale` must have shape (q_len,), (batch, q_len) or (..., heads, q_len) for queries of "
            f"shape {quote(wanted)}, got {quote(shape)}"
        )
        raise ValueError(msg)
    if len(shape) == 2 and n_axes > 2:
        return query_scale[:, *(None,) * (n_axes - 2), :]
    return query_scale


def _require_bias(name: str, shape: tuple[int, ...], scores: tuple[int, ...]) -> None:
    """ValueError unless ``shape`` broadcasts to that of the ``scores``."""
    fits = len(shape) <= len(scores) and all(
        size in (1, full) or not (is_known(size) and is_known(full))
        for size, full in zip(shape[::-1], scores[::-1], strict=False)
    )
    if not fits:
        msg = (
            f"`{name}` must broadcast to the scores (..., heads, q_len, k_len), {quote(scores)}, "
            f"got {quote(shape)}"
        )
        raise ValueError(msg)
