"""`Tokens`: where tokens are, and what decides which of them see each other, in one value."""

# Without ``from __future__ import annotations``: the field types of `Tokens` are then types, not text
# that would be looked up in the package that it says it comes from.
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, is_known, quote, require_bool, require_integer
from rope_xp.positions._packed import packed_documents, packed_positions
from rope_xp.positions._range import bounds
from rope_xp.positions._text_image import text_image_positions
from rope_xp.positions._tokens import mask_positions, require_mask, token_positions
from rope_xp.positions._trees import ancestors, positions_after, require_parents, walk

#: The fields that decide which tokens see each other.
DECIDING = ("order", "documents", "images", "walk")


class Tokens(NamedTuple):
    """Where tokens are, and what decides which of them see each other.

    ``positions`` are for `RoPE`, all else for `rope_xp.attention.attention_mask`. Fields are arrays of one
    library, with tokens along the last axis, or None; as a named tuple, the value can be passed through
    ``jax.jit`` and ``torch.compile`` as it is, and ``tokens._replace(documents=…)`` has another field.

    Parameters
    ----------
    positions : array, shape (seq,), (batch, seq), (n_axes, seq) or (n_axes, batch, seq)
        What `RoPE` takes.
    order : array, shape (seq,) or (batch, seq), optional
        Place of each token in its document, by which a causal mask and windows are decided. Default:
        ``positions``, which must then have one axis.
    documents : integer array, shape (seq,) or (batch, seq), optional
        Document of each token; negative for padding, which sees nothing and is not seen. Default: all are
        in document 0.
    images : integer array, shape (seq,) or (batch, seq), optional
        Number of the image that a token is in, for models in which the tokens of an image see each other
        in both directions: Gemma 3, and PaliGemma, where the whole prompt has one number. Negative: in
        none, as all are by default.
    walk : integer array, shape (2, seq) or (2, batch, seq), optional
        For drafts of a tree: the number of each in a walk that visits a token before its children, and
        the number after the last of its descendants. Token k is q or an ancestor of q if
        walk[0, k] ≤ walk[0, q] < walk[1, k]. What is before the drafts has 0 and the largest integer, as
        all have by default.
    next_position : int or integer array, shape () or (batch,), optional
        Position of the token that follows, where there is one such position.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp.attention import attention_mask
    >>> tokens = Tokens.packed(np.asarray([0, 2, 4]), 4)
    >>> tokens.positions, tokens.documents
    (array([0, 1, 0, 1]), array([0, 0, 1, 1]))
    >>> attention_mask(tokens).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 1, 1]])
    """

    positions: Array
    order: Array | None = None
    documents: Array | None = None
    images: Array | None = None
    walk: Array | None = None
    next_position: int | Array | None = None

    @classmethod
    def sequence(
        cls,
        n: int,
        *,
        offset: int | Array = 0,
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> "Tokens":
        """``n`` tokens after ``offset`` earlier ones; arguments and errors are those of `token_positions`.

        >>> Tokens.sequence(2, offset=5)[0], Tokens.sequence(2, offset=5).next_position
        (array([5, 6]), 7)
        """
        positions = token_positions(n, offset=offset, xp=xp, dtype=dtype, device=device)
        if _backends.is_host_constant(offset) and np.ndim(offset) == 0:
            return cls(positions, next_position=as_int("offset", offset) + as_int("n", n))
        first = token_positions(1, offset=offset, xp=xp, device=device)[..., 0]
        return cls(positions, next_position=first + n)

    @classmethod
    def packed(cls, cu_seqlens: Array, total: int) -> "Tokens":
        """Packed sequences; arguments and errors are those of `packed_positions`."""
        return cls(
            packed_positions(cu_seqlens, total), documents=packed_documents(cu_seqlens, total)
        )

    @classmethod
    def padded(cls, mask: Array) -> "Tokens":
        """The tokens of rows with padding, ``mask`` of shape (seq,) or (batch, seq); as `mask_positions`.

        >>> Tokens.padded([[False, True, True], [True, False, False]]).next_position
        array([2, 1])
        """
        xp, mask = require_mask(mask, 1)
        if mask.ndim > 2:
            msg = f"`mask` must have shape (seq,) or (batch, seq), got {tuple(mask.shape)}"
            raise ValueError(msg)
        positions = mask_positions(mask)
        is_token = _backends.cast(mask, xp.bool, xp)
        none = xp.full_like(positions, -1)
        counts = xp.sum(xp.astype(is_token, positions.dtype), axis=-1, dtype=positions.dtype)
        return cls(
            positions,
            documents=xp.where(is_token, xp.zeros_like(positions), none),
            next_position=counts,
        )

    @classmethod
    def text_image(
        cls,
        parts: Iterable[Any],
        *,
        earlier: int = 0,
        bidirectional: bool = False,
        padding: tuple[int, int] = (0, 0),
        **options: Any,
    ) -> "Tokens":
        """Text with images and videos, on three axes.

        Parameters
        ----------
        parts, padding, **options
            Those of `text_image_positions`.
        earlier : int
            Number of tokens before these. (``offset`` is the position after them, which is less where
            there are images among them.)
        bidirectional : bool
            Whether the tokens of an image or a video see each other in both directions. Qwen-VL does not;
            Gemma 3 does, where all tokens count on one axis.

        Raises
        ------
        ValueError, TypeError
            As `text_image_positions`, or if ``earlier`` is negative.
        """
        bidirectional = require_bool("bidirectional", bidirectional)
        earlier = as_int("earlier", earlier)
        if earlier < 0:
            msg = f"`earlier` must be non-negative, got {quote(earlier)}"
            raise ValueError(msg)
        parts = list(parts) if isinstance(parts, Iterable) else parts
        positions, after = text_image_positions(parts, padding=padding, **options)
        xp, device = _backends.namespace(positions=positions), _backends.device(positions)
        before, behind = padding
        n = positions.shape[1]
        is_token = np.zeros(n, bool)
        is_token[before : n - behind] = True
        order = np.where(is_token, np.arange(n) - before + earlier, 0)
        fields: dict[str, Any] = {"order": order}
        if before or behind:
            fields["documents"] = np.where(is_token, 0, -1)
        if bidirectional:
            fields["images"] = images = np.full(n, -1)
            start = before
            for part in parts:
                end = start + text_image_positions([part], **{**options, "offset": 0})[0].shape[1]
                if isinstance(part, tuple | list) and not isinstance(part[0], str):
                    images[start:end] = start - before + earlier  # the number of no other one
                start = end
        dtype = _backends.default_integer_dtype(xp, device)
        made = {
            name: xp.asarray(array.astype(_backends.dtype_name(dtype)), dtype=dtype, device=device)
            for name, array in fields.items()
        }
        return cls(positions, **made, next_position=after)

    @classmethod
    def tree(cls, parents: Array, *, offset: int | Array = 0) -> "Tokens":
        """Drafts of a tree; arguments and errors are those of `tree_positions`."""
        xp, parents = require_parents(parents)
        seen = ancestors(parents, xp)
        return cls(positions_after(offset, seen, xp), walk=walk(parents, seen, xp))

    def take(self, indices: Array) -> "Tokens":
        """The tokens at ``indices`` (integers of shape (n,)), such as those of `shard_indices`.

        Raises ValueError or TypeError if they are no indices of these tokens.
        """
        xp = _backends.namespace(positions=self.positions)
        (indices,) = _backends.beside("positions", self.positions, xp, indices=indices)
        require_integer("indices", indices)
        seq, values = self.positions.shape[-1], _backends.host_values(indices)
        if indices.ndim != 1:
            msg = f"`indices` must have shape (n,), got {tuple(indices.shape)}"
            raise ValueError(msg)
        if values is not None and values.size and is_known(seq):
            for value in (int(values.min()), int(values.max())):
                if not 0 <= value < seq:
                    msg = f"`indices` must be in [0, {seq}), the number of tokens, got {value}"
                    raise ValueError(msg)
        indices = _backends.cast(
            indices, _backends.default_integer_dtype(xp, _backends.device(indices)), xp
        )
        fields = {
            name: xp.take(x, indices, axis=-1)
            for name, x in self._asdict().items()
            if x is not None and name != "next_position"
        }
        return self._replace(**fields)

    def join(self, other: "Tokens") -> "Tokens":
        """These tokens and those of ``other`` after them: a prefix and drafts, a cache and new tokens.

        Documents and images with the same number are the same ones.

        Raises ValueError or TypeError if their arrays do not fit together, or if these are drafts: of
        two trees, one does not know the other. Take the drafts that were accepted, and replace ``walk``
        by None.
        """
        if not isinstance(other, Tokens):
            msg = f"`other` must be Tokens, got {type(other).__name__}"
            raise TypeError(msg)
        if self.walk is not None:
            msg = (
                "`walk` must be None where other tokens follow, got that of drafts: take those that were "
                "accepted, and then `tokens._replace(walk=None)`"
            )
            raise ValueError(msg)
        xp = _backends.namespace(positions=self.positions, **{"other.positions": other.positions})
        fields = {"positions": _concat("positions", self.positions, other.positions, xp)}
        for name in DECIDING:
            if getattr(self, name) is not None or getattr(other, name) is not None:
                pair = [field_of(tokens, name, xp) for tokens in (self, other)]
                fields[name] = _concat(name, pair[0], pair[1], xp)
        return Tokens(**fields, next_position=other.next_position)

    def following(self, n: int = 1) -> "Tokens":
        """``n`` tokens of text that follow, from ``next_position`` on, in document 0.

        Raises ValueError if there is no such position.
        """
        if self.next_position is None:
            msg = "`next_position` must be given where tokens follow, got None"
            raise ValueError(msg)
        xp = _backends.namespace(positions=self.positions)
        options = {"xp": xp, "device": _backends.device(self.positions)}
        tokens = Tokens.sequence(n, offset=self.next_position, **options)
        if self.order is None:
            return tokens
        order = self.order
        if self.documents is not None:
            order = xp.where(self.documents < 0, xp.full_like(order, -1), order)
        last = xp.max(order, axis=-1)
        positions = tokens.positions
        if self.positions.ndim > order.ndim:
            positions = xp.stack([positions] * self.positions.shape[0])
        return tokens._replace(positions=positions, order=token_positions(n, offset=last + 1))


def require_one_axis(name: str, tokens: Tokens) -> None:
    """ValueError unless positions can be the order of ``tokens``."""
    if tokens.positions.ndim not in (1, 2):
        msg = (
            f"`{name}` must be given where positions have several axes, got None and positions of shape "
            f"{tuple(tokens.positions.shape)}"
        )
        raise ValueError(msg)


def field_of(tokens: Tokens, name: str, xp: Namespace) -> Array:
    """A field of ``tokens`` that decides who sees whom, or what it is by default."""
    field = getattr(tokens, name)
    if field is not None:
        return field
    if name == "order":
        require_one_axis("order", tokens)
        return tokens.positions
    like = field_of(tokens, "order", xp)
    integer = _backends.default_integer_dtype(xp, _backends.device(like))
    zeros = xp.zeros_like(like, dtype=integer)
    if name == "walk":
        return xp.stack((zeros, zeros + bounds(integer)[1]))
    return zeros if name == "documents" else zeros - 1


def _concat(name: str, first: Array, second: Array, xp: Namespace) -> Array:
    """Along the last axis; ValueError or TypeError if the other axes or the dtypes do not fit."""
    if first.dtype != second.dtype:
        integer = _backends.default_integer_dtype(xp, _backends.device(first))
        fits = all(
            _backends.is_integer(x) and bounds(x.dtype)[1] <= bounds(integer)[1]
            for x in (first, second)
        )
        if not fits:
            kinds = [_backends.dtype_name(x.dtype) for x in (first, second)]
            msg = f"`other.{name}` must have the dtype of `{name}`, {kinds[0]}, got {kinds[1]}"
            raise TypeError(msg)
        first, second = (_backends.cast(x, integer, xp) for x in (first, second))
    shapes = [tuple(x.shape) for x in (first, second)]
    n_axes = max(first.ndim, second.ndim)
    pair = [x[..., None, :] if x.ndim < n_axes else x for x in (first, second)]
    lead = tuple(b if a == 1 else a for a, b in zip(*(x.shape[:-1] for x in pair), strict=False))
    if any(
        x.ndim != n_axes or not all(n in (1, m) for n, m in zip(x.shape, lead, strict=False))
        for x in pair
    ):
        msg = f"`other.{name}` must have the axes of `{name}`, {shapes[0]}, except the last, got {shapes[1]}"
        raise ValueError(msg)
    pair = [xp.broadcast_to(x, (*lead, x.shape[-1])) for x in pair]
    return xp.concat(pair, axis=-1)
