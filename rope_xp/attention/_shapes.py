"""Shapes of queries, keys and values, and heads that share keys (grouped-query attention)."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._validation import require_leading_axes


def require_shapes(q: Array, k: Array, v: Array) -> None:
    """ValueError unless the shapes fit together as those of queries, keys and values."""
    got = f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
    if not (q.ndim == k.ndim == v.ndim >= 2):
        msg = f"`q`, `k` and `v` must have the same number of axes, at least 2, {got}"
        raise ValueError(msg)
    if k.shape[:-1] != v.shape[:-1]:
        msg = f"`k` and `v` must have the same shape except for the last axis, {got}"
        raise ValueError(msg)
    if q.shape[-1] != k.shape[-1]:
        msg = f"`q` and `k` must have the same last axis (head_dim), {got}"
        raise ValueError(msg)
    if q.ndim > 2 and (k.shape[-3] == 0 or q.shape[-3] % k.shape[-3]):
        msg = f"`q` must have a multiple of the heads of `k`, {got}"
        raise ValueError(msg)
    if q.ndim > 2 and q.shape[-3] != k.shape[-3] and None in (*q.shape, *k.shape):
        msg = f"`q` and `k` must have known sizes where heads share keys, {got}"
        raise ValueError(msg)
    require_leading_axes("k", k.shape[:-3], q.shape[:-3])


def grouped_product(rows: Array, shared: Array, xp: Namespace) -> Array:
    """Rows of each head times the matrix of its key head, (..., heads, q_len, n).

    Heads that share keys are rows of one product: with an axis for the group, torch copies the keys.
    """
    if not _is_grouped(rows, shared):
        return rows @ shared
    grouped = split_groups(rows, shared, xp)
    if any(map(_backends.is_traced_size, rows.shape)):  # torch.export cannot merge axes of these
        product = grouped @ broadcast_kv(rows, shared)
    else:
        *lead, group, q_len, width = grouped.shape  # in two steps, because Dask does no more in one
        product = xp.reshape(grouped, (*lead, group * q_len, width)) @ shared
        product = xp.reshape(product, (*lead, group, q_len, shared.shape[-1]))
    return xp.reshape(product, (*rows.shape[:-1], shared.shape[-1]))


def split_groups(rows: Array, shared: Array, xp: Namespace) -> Array:
    """(..., heads, q_len, d) as (..., kv_heads, group, q_len, d) if heads share keys."""
    if not _is_grouped(rows, shared):
        return rows
    kv_heads = shared.shape[-3]
    group = rows.shape[-3] // kv_heads
    return xp.reshape(rows, (*rows.shape[:-3], kv_heads, group, *rows.shape[-2:]))


def broadcast_kv(rows: Array, shared: Array) -> Array:
    """Keys or values with an axis of size 1 for the group, to match `split_groups`."""
    return shared[..., None, :, :] if _is_grouped(rows, shared) else shared


def _is_grouped(rows: Array, shared: Array) -> bool:
    # Of ndonnx, None: not known. Then `require_shapes` has seen as many heads in both.
    grouped: bool = rows.ndim > 2 and rows.shape[-3] not in (None, shared.shape[-3])
    return grouped
