"""Which keys a query may attend to: by order, window, document, image, and in trees of drafts."""

from __future__ import annotations

from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._validation import as_int, is_known, quote, require_integer
from rope_xp.positions._difference import is_not_later, is_within, require_positions
from rope_xp.positions._range import as_signed, bounds
from rope_xp.positions._token_fields import Tokens
from rope_xp.positions._trees import ancestors, require_parents


def causal_mask(
    q_positions: Array,
    k_positions: Array,
    *,
    q_documents: Array | None = None,
    k_documents: Array | None = None,
    window: int | None = None,
    sinks: int = 0,
) -> Array:
    """Which keys a query may attend to: those whose position is not after its own.

    Positions alone do not tell which tokens belong together: those of packed sequences start anew at
    each, so give documents (`rope_xp.positions.packed_documents`), and siblings in a tree of drafts have
    the same position, so join the mask of the drafts with `tree_mask`.

    Parameters
    ----------
    q_positions, k_positions : array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)
        Integer or real, of any dtypes: they are compared as numbers.
    q_documents, k_documents : integer array, shape (q_len,), (k_len,) or (batch, q_len), (batch, k_len)
        Both or neither: the document of each token. Tokens of different documents do not see each other,
        and a token of a negative document is padding: it sees nothing, and nothing sees it. Where
        padding has a document of its own instead, as 0 in T5X and MaxText, it sees itself only, and no
        other token changes.
    window : int, optional
        A query sees the ``window`` last positions, its own included. Default: all.
    sinks : int
        With a window: keys at positions below ``sinks`` stay visible (Xiao et al. 2023,
        arXiv:2309.17453).

    Returns
    -------
    array of bool, shape (q_len, k_len) or (batch, 1, q_len, k_len)
        For the ``bias`` of `attention`. False where a position is NaN.

    Raises
    ------
    ValueError
        If shapes do not fit, only one of the documents is given, ``window`` is not positive or
        ``sinks`` is negative.
    TypeError
        If positions are neither integer nor real, documents are not integer, or libraries are mixed.

    Notes
    -----
    Windows and documents are those of transformers 5.24.0 (``masking_utils``). The distance of real
    positions is rounded to the widest floating dtype of the library.

    Examples
    --------
    >>> import numpy as np
    >>> causal_mask(np.asarray([1]), np.asarray([0, 1, 2]))
    array([[ True,  True, False]])
    >>> causal_mask(np.asarray([5]), np.arange(6), window=2, sinks=1)
    array([[ True, False, False, False,  True,  True]])
    """
    documents = {"q_documents": q_documents, "k_documents": k_documents}
    documents = {name: array for name, array in documents.items() if array is not None}
    if len(documents) == 1:
        msg = (
            f"`q_documents` and `k_documents` must be given together, got only `{[*documents][0]}`"
        )
        raise ValueError(msg)
    given = {"q_positions": q_positions, "k_positions": k_positions, **documents}
    xp, *arrays = _backends.join(**given)
    q_positions, k_positions, *both = arrays
    require_positions(q_positions, k_positions)
    for name, array, positions in zip(documents, both, arrays, strict=False):
        _require_beside(name, array, f"{name[0]}_positions", positions)
    _require_one_batch(**dict(zip(given, arrays, strict=True)))
    q_documents, k_documents = both or (None, None)
    window, sinks = _require_window(window, sinks, q_positions, xp)
    return _mask(
        Tokens(q_positions, q_positions, q_documents),
        Tokens(k_positions, k_positions, k_documents),
        xp,
        causal=True,
        window=window,
        sinks=sinks,
    )


def tree_mask(parents: Array) -> Array:
    """Which tokens of a tree of drafts see each other: each sees itself and its ancestors.

    Parameters
    ----------
    parents : integer array, shape (n,) or (batch, n)
        Index of the draft token that each one follows, −1 for those that follow the last token before the
        drafts. Parents come before their children.

    Returns
    -------
    array of bool, shape (n, n) or (batch, 1, n, n)
        Of the drafts among themselves. All of them see the tokens before the drafts.

    Raises
    ------
    ValueError
        If ``parents`` has another shape, or a parent is not an earlier draft token nor −1, where values
        are at hand. Elsewhere they are trusted.
    TypeError
        If ``parents`` is not an integer array.

    Notes
    -----
    Tree attention of SpecInfer (Miao et al. 2023, arXiv:2305.09781) and Medusa (Cai et al. 2024,
    arXiv:2401.10774). `rope_xp.positions.tree_positions` has the positions of the drafts.

    Examples
    --------
    >>> import numpy as np
    >>> tree_mask(np.asarray([-1, 0, 0])).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 0, 1]])
    """
    xp, parents = require_parents(parents)
    return _with_heads(ancestors(parents, xp))


def _mask(query: Tokens, key: Tokens, xp: Namespace, **rule: Any) -> Array:
    """`_is_visible` of each query and each key."""
    query = Tokens(*(None if x is None else x[..., :, None] for x in query[:5]))
    key = Tokens(*(None if x is None else x[..., None, :] for x in key[:5]))
    return _with_heads(_is_visible(query, key, xp, **rule))


def _with_heads(mask: Array) -> Array:
    return mask if mask.ndim == 2 else mask[..., None, :, :]


def _is_visible(
    query: Tokens, key: Tokens, xp: Namespace, *, causal: bool, window: int | None, sinks: int
) -> Array:
    """Whether ``query`` may attend to ``key``, elementwise: the one rule of all masks."""
    seen = is_not_later(query.order, key.order, xp)
    if not causal:
        seen = xp.ones_like(seen)
    if query.images is not None:
        seen = seen | _is_same(query.images, key.images, xp)
    if window is not None:
        near = is_within(query.order, key.order, window, xp, causal=causal)
        seen = seen & (near | _is_sink(key.order, sinks, xp) if sinks else near)
    if query.tree is not None:
        (first, _), (k_first, k_last) = query.tree, key.tree
        seen = seen & (k_first <= first) & (first < k_last)
    if query.documents is not None:
        seen = seen & _is_same(query.documents, key.documents, xp)
    return seen


def _is_same(query: Array, key: Array, xp: Namespace) -> Array:
    """Whether numbers of groups are equal, and none is negative."""
    integer = _backends.default_integer_dtype(xp, _backends.device(query))
    # Unsigned ones that are larger than this dtype keep their bits, so they stay different.
    q_number, k_number = (_backends.cast(each, integer, xp) for each in (query, key))
    same = q_number == k_number
    for group, number in ((query, q_number), (key, k_number)):
        if bounds(group.dtype)[0] < 0:
            same = same & (number >= 0)
    return same


def _is_sink(order: Array, sinks: int, xp: Namespace) -> Array:
    if _backends.is_integer(order):
        order = as_signed(order, _backends.default_integer_dtype(xp, _backends.device(order)), xp)
    else:
        order = _backends.cast(order, _backends.widest(order, xp), xp)
    return order < sinks


def _require_window(
    window: int | None, sinks: int, order: Array, xp: Namespace
) -> tuple[int | None, int]:
    """Both as ints; ValueError unless they are numbers of tokens."""
    most = bounds(_backends.default_integer_dtype(xp, _backends.device(order)))[1]
    if window is not None:
        window = as_int("window", window)
        if not 1 <= window <= most:
            msg = f"`window` must be in [1, {most}], or None for no window, got {quote(window)}"
            raise ValueError(msg)
    sinks = as_int("sinks", sinks)
    if not 0 <= sinks <= most:
        msg = f"`sinks` must be in [0, {most}], got {quote(sinks)}"
        raise ValueError(msg)
    return window, sinks


def _require_beside(name: str, field: Array, of: str, positions: Array) -> None:
    """ValueError or TypeError unless ``field`` has an integer for each token of ``positions``."""
    require_integer(name, field)
    seq = positions.shape[-1]
    fits = field.ndim in (1, 2)
    if not fits or (field.shape[-1] != seq and is_known(seq) and is_known(field.shape[-1])):
        msg = (
            f"`{name}` must have shape (seq,) or (batch, seq) with seq={seq} as `{of}`, "
            f"got {tuple(field.shape)}"
        )
        raise ValueError(msg)


def _require_one_batch(**arrays: Array) -> None:
    """ValueError unless all that have a batch have the same, or 1."""
    batches = {name: a.shape[0] for name, a in arrays.items() if a.ndim == 2}
    known = {name: n for name, n in batches.items() if is_known(n) and n != 1}
    (first, batch), *others = known.items() if known else [("", 1)]
    for name, n in others:
        if n != batch:
            msg = f"`{name}` must have the batch of `{first}`, {batch}, or 1, got {n}"
            raise ValueError(msg)
