"""Which keys a query may attend to: by order, window, document, image, and in trees of drafts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._validation import as_int, is_known, quote, require_bool, require_integer
from rope_xp.positions._difference import is_not_later, is_within, require_order
from rope_xp.positions._range import as_signed, bounds
from rope_xp.positions._token_fields import DECIDING, Tokens, field_of, require_one_axis
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

    Positions do not determine which tokens belong together. Those of packed sequences start anew in
    each, so pass documents (`rope_xp.positions.packed_documents`). Siblings in a tree of drafts have the
    same position, so combine the mask of the drafts with `tree_mask`.

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
    if (q_documents is None) != (k_documents is None):
        name = "q_documents" if k_documents is None else "k_documents"
        msg = f"`q_documents` and `k_documents` must be given together, got only `{name}`"
        raise ValueError(msg)
    sides = [{"order": ("q_positions", q_positions)}, {"order": ("k_positions", k_positions)}]
    if q_documents is not None:
        sides[0]["documents"] = ("q_documents", q_documents)
        sides[1]["documents"] = ("k_documents", k_documents)
    return _mask(*_prepare(*sides, causal=True, window=window, sinks=sinks))


def attention_mask(
    q_tokens: Tokens | Array,
    k_tokens: Tokens | Array | None = None,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
) -> Array:
    """Which keys a query may attend to, by all that is known of the tokens.

    A query sees a key of the same document that is not after it, or in the same image; of these, those
    within the window; and of drafts, those that are its ancestors.

    Parameters
    ----------
    q_tokens, k_tokens : rope_xp.positions.Tokens, or array of positions as for `causal_mask`
        Default for ``k_tokens``: those of the queries. Where only one of them has a
        field, the other has the default of `Tokens`.
    causal : bool
        Whether a query sees no later key, unless in the same image.
    window : int, optional
        A query sees the ``window`` last places, its own included, and unless ``causal`` as many after it,
        also in an image. Default: all.
    sinks : int
        With a window: keys at places below ``sinks`` of the same document stay visible.

    Returns
    -------
    array of bool, shape (q_len, k_len) or (batch, 1, q_len, k_len)
        For the ``bias`` of `attention`. A token of a negative document, padding, sees nothing, and
        nothing sees it.

    Raises
    ------
    ValueError, TypeError
        As `causal_mask`.

    Notes
    -----
    Compared with the masks of transformers 5.24.0: packed sequences (``masking_utils``), images and
    windows in Gemma 3, the prompt in PaliGemma. A window in both directions has the keys at distances
    up to ``sliding_window`` there, so it is ``window=sliding_window + 1`` here. In PaliGemma 2's layers
    with a window the prompt sees itself beyond it: that mask | the one of the same tokens without it,
    where both are in the prompt.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp.positions import Tokens
    >>> text_with_an_image = Tokens.sequence(5)._replace(images=np.asarray([-1, 0, 0, 0, -1]))
    >>> attention_mask(text_with_an_image, window=3).astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 1, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 1, 1]])
    >>> cache, drafts = Tokens.sequence(2), Tokens.tree([-1, 0, 0], offset=2)
    >>> attention_mask(drafts, cache.join(drafts)).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 1, 0, 1]])
    """
    return _mask(*_prepare(*_named(q_tokens, k_tokens), causal=causal, window=window, sinks=sinks))


def flex_mask_mod(
    q_tokens: Tokens | Array,
    k_tokens: Tokens | Array | None = None,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
) -> Callable[[Any, Any, Any, Any], Any]:
    """`attention_mask` as a ``mask_mod`` for torch's FlexAttention, which makes no array of all pairs.

    Parameters
    ----------
    q_tokens, k_tokens, causal, window, sinks
        As for `attention_mask`, with torch's tensors.

    Returns
    -------
    callable
        ``mask_mod(b, h, q_idx, kv_idx)``, for ``create_block_mask(mask_mod, B, None, q_len, k_len)`` of
        ``torch.nn.attention.flex_attention``. B is None where no field has a batch.

    Raises
    ------
    ValueError, TypeError
        As `attention_mask`.

    Examples
    --------
    >>> import numpy as np
    >>> mask_mod = flex_mask_mod(np.arange(8), window=2)
    >>> mask_mod(0, 0, 5, np.arange(8)).astype(int)
    array([0, 0, 0, 0, 1, 1, 0, 0])
    """
    sides = _named(q_tokens, k_tokens)
    query, key, xp, rule = _prepare(*sides, causal=causal, window=window, sinks=sinks)

    def mask_mod(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:  # noqa: ARG001 - of all heads
        return _is_visible(_at(query, b, q_idx), _at(key, b, kv_idx), xp, **rule)

    return mask_mod


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


def _with_heads(mask: Array) -> Array:
    return mask if mask.ndim == 2 else mask[..., None, :, :]


#: Of queries or of keys, what decides which tokens see each other: order, documents, images, and when a
#: walk enters and leaves what is below a draft. Each (seq,) or (batch, seq), or None.
_Side = tuple[Any, ...]

#: The fields that are given of one side, each with its name in messages.
_Named = dict[str, tuple[str, Array]]


def _is_visible(
    query: _Side, key: _Side, xp: Namespace, *, causal: bool, window: int | None, sinks: int
) -> Array:
    """Whether ``query`` may attend to ``key``, elementwise: the one rule of all masks."""
    order, documents, images, enter, _ = query
    k_order, k_documents, k_images, k_enter, k_leave = key
    seen = is_not_later(order, k_order, xp)
    if not causal:
        seen = xp.ones_like(seen)
    if images is not None:
        seen = seen | _is_same(images, k_images, xp)
    if window is not None:
        near = is_within(order, k_order, window, xp, causal=causal)
        seen = seen & (near | _is_sink(k_order, sinks, xp) if sinks else near)
    if enter is not None:
        seen = seen & (k_enter <= enter) & (enter < k_leave)
    if documents is not None:
        seen = seen & _is_same(documents, k_documents, xp)
    return seen


def _mask(query: _Side, key: _Side, xp: Namespace, rule: dict[str, Any]) -> Array:
    """Of all queries and keys."""
    query = tuple(x if x is None else x[..., :, None] for x in query)
    key = tuple(x if x is None else x[..., None, :] for x in key)
    return _with_heads(_is_visible(query, key, xp, **rule))


def _at(side: _Side, b: Any, index: Any) -> _Side:
    """Of the tokens at ``index`` in row ``b``."""
    return tuple(
        x if x is None else x[index] if x.ndim == 1 else x[b if x.shape[0] != 1 else 0, index]
        for x in side
    )


def _prepare(
    query: _Named, key: _Named, *, causal: bool, window: int | None, sinks: int
) -> tuple[_Side, _Side, Namespace, dict[str, Any]]:
    """Both sides, the namespace and the rule, checked, by the names that the caller of this package knows."""
    causal = require_bool("causal", causal)
    given = {name: array for side in (query, key) for name, array in side.values()}
    xp, *arrays = _backends.join(**given)
    given = dict(zip(given, arrays, strict=True))
    sides, fields = [], [name for name in DECIDING if name in query or name in key]
    for side in (query, key):
        found = {field: given[name] for field, (name, _) in side.items()}
        order = side["order"][0]
        require_order(order, found["order"])
        for field, (name, _) in side.items():
            if field != "order":
                _require_beside(name, found[field], order, found["order"], field == "walk")
        tokens = Tokens(found["order"], **found)
        made = {name: field_of(tokens, name, xp) for name in fields}
        walk = made.pop("walk", None)
        both = (None, None) if walk is None else (walk[0, ...], walk[1, ...])
        sides.append((*map(made.get, DECIDING[:3]), *both))
    _require_one_batch(given)
    window, sinks = _require_window(window, sinks, sides[0][0], xp)
    return sides[0], sides[1], xp, {"causal": causal, "window": window, "sinks": sinks}


def _named(q_tokens: Tokens | Array, k_tokens: Tokens | Array | None) -> list[_Named]:
    """The fields of both, with their names."""
    sides: list[_Named] = []
    for name, tokens in (("q_tokens", q_tokens), ("k_tokens", k_tokens)):
        if tokens is None and name == "k_tokens":
            sides.append(sides[0])
            continue
        if not isinstance(tokens, Tokens):
            sides.append({"order": (name, tokens)})
            continue
        fields = {field: (f"{name}.{field}", getattr(tokens, field)) for field in DECIDING}
        if tokens.order is None:
            require_one_axis(f"{name}.order", tokens)
            fields["order"] = (f"{name}.positions", tokens.positions)
        sides.append({field: pair for field, pair in fields.items() if pair[1] is not None})
    return sides


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


def _require_beside(name: str, field: Array, order_name: str, order: Array, is_walk: bool) -> None:
    """ValueError or TypeError unless ``field`` has an integer for each token, or two if ``is_walk``."""
    require_integer(name, field)
    seq, lead = order.shape[-1], (2,) if is_walk else ()
    fits = field.ndim - len(lead) in (1, 2) and tuple(field.shape[: len(lead)]) == lead
    if not fits or (field.shape[-1] != seq and is_known(seq) and is_known(field.shape[-1])):
        shapes = "(2, seq) or (2, batch, seq)" if is_walk else "(seq,) or (batch, seq)"
        msg = (
            f"`{name}` must have shape {shapes} with seq={seq} as `{order_name}`, "
            f"got {tuple(field.shape)}"
        )
        raise ValueError(msg)


def _require_one_batch(given: dict[str, Array]) -> None:
    """ValueError unless all that have a batch, an axis in front of tokens, have the same, or 1."""
    batches = {name: array.shape[-2] for name, array in given.items() if array.ndim > 1}
    for name in [name for name in batches if name.endswith(".walk") and given[name].ndim == 2]:
        del batches[name]
    known = {name: n for name, n in batches.items() if is_known(n) and n != 1}
    for name, n in known.items():
        first = next(iter(known))
        if n != known[first]:
            msg = f"`{name}` must have the batch of `{first}`, {known[first]}, or 1, got {n}"
            raise ValueError(msg)
