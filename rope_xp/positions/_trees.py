"""Trees of draft tokens, each of which follows the one that is its parent."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._validation import is_known, require_integer
from rope_xp.positions._tokens import token_positions


def tree_positions(parents: Array, *, offset: int | Array = 0) -> Array:
    """Positions of a tree of draft tokens: each is one after that of its parent.

    Parameters
    ----------
    parents : integer array, shape (n,) or (batch, n)
        Index of the draft token that each one follows, −1 for those that follow the last token before the
        drafts. Parents come before their children.
    offset : int or integer array, shape () or (batch,)
        Number of tokens before the drafts.

    Returns
    -------
    array, shape (n,) or (batch, n), the library's default integer dtype
        ``offset`` plus the number of ancestors. Siblings have the same position, so
        `rope_xp.attention.tree_mask` tells which drafts see each other.

    Raises
    ------
    ValueError
        If shapes do not fit, the dtype does not hold the positions, or a parent is not an earlier draft
        token nor −1, where values are at hand. Elsewhere they are trusted.
    TypeError
        If an argument is not integer, or libraries are mixed.

    Examples
    --------
    >>> import numpy as np
    >>> tree_positions(np.asarray([-1, 0, 0, 2]), offset=7)
    array([7, 8, 8, 9])
    """
    xp, parents = require_parents(parents)
    return tree_positions_after(offset, ancestors(parents, xp), xp)


def require_parents(parents: Array) -> tuple[Namespace, Array]:
    """The namespace and the array of ``parents``; ValueError or TypeError if they are none."""
    xp, parents = _backends.join(parents=parents)
    require_integer("parents", parents)
    if parents.ndim not in (1, 2) or not is_known(parents.shape[-1]):
        msg = f"`parents` must have shape (n,) or (batch, n), got {tuple(parents.shape)}"
        raise ValueError(msg)
    values = _backends.host_values(parents)
    if values is not None and values.size:
        for i, column in enumerate(values.reshape(-1, values.shape[-1]).T):
            for parent in (column.min(), column.max()):
                if not -1 <= parent < i:
                    msg = (
                        f"`parents` must be -1 or the index of an earlier draft token, got {parent} "
                        f"for token {i}"
                    )
                    raise ValueError(msg)
    return xp, parents


def ancestors(parents: Array, xp: Namespace) -> Array:
    """Whether draft token k is q or one of its ancestors, bool (..., n, n).

    Paths of up to 1, 2, 4, … steps, each by two of half the length: the powers of a matrix.
    """
    n, device = parents.shape[-1], _backends.device(parents)
    integer = _backends.default_integer_dtype(xp, device)
    at = xp.arange(n, dtype=integer, device=device)
    step = _backends.cast(parents, integer, xp)[..., :, None] == at  # (..., n, n)
    # A sum of positive numbers is positive, however a device rounds products.
    paths = _backends.cast(step | (at[:, None] == at), xp.float32, xp)
    for _ in range(max(n - 1, 0).bit_length()):
        paths = _backends.cast(paths @ paths > 0, xp.float32, xp)
    return paths > 0


def tree_positions_after(offset: int | Array, seen: Array, xp: Namespace) -> Array:
    """``offset`` plus the number of ancestors of each draft token."""
    device = _backends.device(seen)
    integer = _backends.default_integer_dtype(xp, device)
    first = token_positions(seen.shape[-1] + 1, offset=offset, xp=xp, device=device)[..., :1]
    sizes = [x.shape[0] for x, axes in ((seen, 3), (first, 2)) if x.ndim == axes]
    if len(sizes) == 2 and 1 not in sizes and sizes[0] != sizes[1] and all(map(is_known, sizes)):
        msg = f"`offset` must have the batch of `parents`, {sizes[0]}, or 1, got {sizes[1]}"
        raise ValueError(msg)
    depth = xp.sum(_backends.cast(seen, integer, xp), axis=-1, dtype=integer) - 1
    return _backends.cast(_backends.cast(first, integer, xp) + depth, first.dtype, xp)


def walk(parents: Array, seen: Array, xp: Namespace) -> Array:
    """When a walk from parents to children comes to each draft token, and leaves it, (2, ..., n).

    It counts from 1: before all drafts it is where the tokens before them are.
    """
    integer = _backends.default_integer_dtype(xp, _backends.device(parents))
    parents = _backends.cast(parents, integer, xp)
    seen = _backends.cast(seen, integer, xp)  # (..., n, n): [q, k]
    size = xp.sum(seen, axis=-2, dtype=integer)  # (..., n): a token and its descendants
    at = xp.arange(parents.shape[-1], device=_backends.device(parents))
    older = (parents[..., :, None] == parents[..., None, :]) & (at < at[:, None])
    past = xp.sum(_backends.cast(older, integer, xp) * size[..., None, :], axis=-1, dtype=integer)
    # Before a token come its ancestors, and what is below older siblings of these and of itself.
    enter = xp.sum(seen * (1 + past[..., None, :]), axis=-1, dtype=integer)
    return xp.stack((enter, enter + size))
