"""`Tokens`: where tokens are, and what decides which of them see each other, in one value."""

# Without ``from __future__ import annotations``: the field types of `Tokens` are then types, not text
# that would be looked up in the package that it says it comes from.
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, as_number, is_known, require_bool, require_integer
from rope_xp.positions._packed import packed_documents, packed_positions
from rope_xp.positions._range import as_length, as_signed, bounds
from rope_xp.positions._text_image import text_image_positions
from rope_xp.positions._tokens import mask_positions, positions_after, require_mask, token_positions
from rope_xp.positions._trees import ancestors, require_parents, tree_positions_after, walk

#: The fields that decide which tokens see each other.
DECIDING = ("order", "documents", "images", "walk")


class Tokens(NamedTuple):
    """Where tokens are, and what decides which of them see each other.

    ``positions`` are for `RoPE`, all else for `rope_xp.attention.attention_mask`. Fields are arrays of one
    library, with tokens along the last axis, or None; as a named tuple, the value can be passed through
    ``jax.jit`` and ``torch.compile`` as it is, and ``tokens._replace(documents=…)`` replaces a field.

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
        positions, after = _count("offset", offset, n, xp=xp, dtype=dtype, device=device)
        return cls(positions, next_position=after)

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
        merge: int = 1,
        advance: Literal["side", "max"] = "side",
        chunk: int | None = None,
        offset: float = 0,
        padding: tuple[int, int] = (0, 0),
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> "Tokens":
        """Text with images, videos and audio, on three axes.

        Parameters
        ----------
        parts, merge, advance, chunk, offset, padding, xp, dtype, device
            Those of `text_image_positions`.
        earlier : int
            Number of tokens before these. (``offset`` is the position after them, which is less where
            there are images among them.)
        bidirectional : bool
            Whether the tokens of an image or a video without sound see each other in both directions. In
            Qwen-VL they do not; in Gemma 3 they do, where positions have one axis.

        Raises
        ------
        ValueError, TypeError
            As `text_image_positions`, or if ``earlier`` is no number of tokens.
        """
        bidirectional = require_bool("bidirectional", bidirectional)
        earlier = as_length("earlier", earlier)
        with suppress(TypeError):  # which `text_image_positions` tells better
            parts = tuple(parts)
        grids: dict[str, Any] = {"merge": merge, "advance": advance, "chunk": chunk, "dtype": dtype}
        positions, after = text_image_positions(
            parts, offset=offset, padding=padding, xp=xp, device=device, **grids
        )
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
                end = start + text_image_positions([part], xp=xp, **grids)[0].shape[1]
                if isinstance(part, tuple | list) and len(part) == 3:
                    images[start:end] = start - before + earlier  # the number of no other one
                start = end
        integer = _backends.default_integer_dtype(xp, device)
        made = {
            name: xp.asarray(
                array.astype(_backends.dtype_name(integer)), dtype=integer, device=device
            )
            for name, array in fields.items()
        }
        return cls(positions, **made, next_position=after)

    @classmethod
    def tree(cls, parents: Array, *, offset: int | Array = 0) -> "Tokens":
        """Drafts of a tree; arguments and errors are those of `tree_positions`."""
        xp, parents = require_parents(parents)
        seen = ancestors(parents, xp)
        return cls(tree_positions_after(offset, seen, xp), walk=walk(parents, seen, xp))

    def take(self, indices: Array) -> "Tokens":
        """The tokens at ``indices`` (integers of shape (n,)), such as those of `shard_indices`.

        Raises ValueError or TypeError if they are no indices of these tokens.
        """
        xp = self._namespace()
        (indices,) = _backends.beside("positions", self.positions, xp, indices=indices)
        require_integer("indices", indices)
        if indices.ndim != 1:
            msg = f"`indices` must have shape (n,), got {tuple(indices.shape)}"
            raise ValueError(msg)
        integer = _backends.default_integer_dtype(xp, _backends.device(indices))
        indices = as_signed(indices, integer, xp)
        seq, values = self.positions.shape[-1], _backends.host_values(indices)
        if values is not None and values.size and is_known(seq):
            for value in (int(values.min()), int(values.max())):
                if not 0 <= value < seq:
                    msg = f"`indices` must be in [0, {seq}), the number of tokens, got {value}"
                    raise ValueError(msg)
        try:
            fields = {
                name: _take(x, indices, xp)
                for name, x in self._asdict().items()
                if x is not None and name != "next_position"
            }
        except IndexError as error:  # of values that were not at hand
            msg = f"`indices` must be in [0, {seq}), the number of tokens, got others"
            raise ValueError(msg) from error
        return self._replace(**fields)

    def join(self, other: "Tokens") -> "Tokens":
        """These tokens and those of ``other`` after them: a prefix and drafts, a cache and new tokens.

        Documents and images with the same number are the same ones.

        Raises ValueError or TypeError if their arrays do not fit together, or if these are drafts: of
        two trees, nothing relates the drafts. Take the drafts that were accepted, and replace ``walk``
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
        xp = self._namespace()
        _backends.namespace(positions=self.positions, **{"other.positions": other.positions})
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
        xp, first = self._namespace(), self.next_position
        device, dtype = _backends.device(self.positions), self.positions.dtype
        if _backends.is_floating(self.positions):  # of times that are no integers
            steps = xp.arange(as_length("n", n), dtype=dtype, device=device)
            if _backends.is_array(first):
                first = _backends.cast(first, dtype, xp)
            else:
                first = xp.full((), as_number("next_position", first), dtype=dtype, device=device)
            positions, after = first[..., None] + steps, first + n
        else:
            positions, after = _count("next_position", first, n, xp=xp, dtype=None, device=device)
        if self.order is None:
            return Tokens(positions, next_position=after)
        order = self.order
        if self.documents is not None:
            order = xp.where(self.documents < 0, xp.full_like(order, -1), order)
        if self.positions.ndim > order.ndim:
            positions = xp.stack([positions] * self.positions.shape[0])
        last = xp.max(order, axis=-1)
        return Tokens(positions, token_positions(n, offset=last + 1), next_position=after)

    def _namespace(self) -> Namespace:
        """That of the arrays; ValueError if they have no tokens."""
        xp = _backends.namespace(positions=self.positions)
        if self.positions.ndim == 0:
            msg = "`positions` must have tokens along its last axis, got shape ()"
            raise ValueError(msg)
        return xp


def _count(name: str, offset: int | Array, n: int, **where: Any) -> tuple[Array, Any]:
    """Positions of ``n`` tokens after ``offset``, and that of the next one."""
    n = as_length("n", n)
    if isinstance(offset, np.ndarray) and offset.ndim == 0:
        offset = offset[()]
    if not (_backends.is_array(offset) or _backends.is_host_array(offset)):
        positions = positions_after(name, offset, n, **where)
        return positions, as_int(name, offset) + n
    # One more, which no library has to add to what it does not compute with.
    positions = positions_after(name, offset, n + 1, **where)
    return positions[..., :n], positions[..., n]


def _take(x: Array, indices: Array, xp: Namespace) -> Array:
    """Of any integer dtype, where a library may take from few."""
    if not _backends.dtype_name(x.dtype).startswith("uint"):
        return xp.take(x, indices, axis=-1)
    integer = _backends.default_integer_dtype(
        xp, _backends.device(x)
    )  # of as many bits, if not more
    return _backends.cast(xp.take(_backends.cast(x, integer, xp), indices, axis=-1), x.dtype, xp)


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
