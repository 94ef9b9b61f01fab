"""The two layouts, and conversion of weights and activations from one to the other."""

from __future__ import annotations

from typing import Literal, get_args

from rope_xp import _backends
from rope_xp._backends import A
from rope_xp._kernels import interleave, replace_features
from rope_xp._validation import as_int, as_size, quote, require_one_of

Layout = Literal["half", "interleaved"]
LAYOUTS = get_args(Layout)


def convert_layout(
    x: A,
    *,
    source: Layout,
    target: Layout,
    head_dim: int,
    rotary_dim: int | None = None,
    rotary_start: int = 0,
    axis: int = -1,
) -> A:
    """Reorder the features of each head from one layout to the other.

    Rotating the result with layout ``target`` gives the same as rotating ``x`` with layout
    ``source`` and then reordering, so scores do not change. A model's projection weights can be
    converted once, instead of its activations at every step.

    Parameters
    ----------
    x : array
        Activations of shape ``(..., heads * head_dim)`` or ``(..., head_dim)``; a projection weight
        of shape (heads * head_dim, in_features) with ``axis=0``; or a bias. Any dtype.
    source, target : {"half", "interleaved"}
        Pair i is features (i, i + n_pairs), or (2i, 2i + 1).
    head_dim : int
        Features per head. The length of ``axis`` must be a multiple of it.
    rotary_dim, rotary_start : int
        The rotated part of each head, as in `RoPE`. The other features keep their place.
    axis : int
        The axis of ``x`` that contains the features of all heads.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ValueError
        If a layout or a size of ``x`` is unknown, ``axis`` does not exist, its length is not a multiple of
        ``head_dim``, or the rotated part does not fit into the head.
    TypeError
        If ``x`` is not an array or a size is not an int.

    Notes
    -----
    Meta's checkpoints and GGUF files of Llama models are interleaved; those of transformers are half.
    Book: :eq:`eq-convert`.

    Examples
    --------
    >>> import numpy as np
    >>> convert_layout(np.arange(6), source="interleaved", target="half", head_dim=6)
    array([0, 2, 4, 1, 3, 5])
    """
    source = require_layout("source", source)
    target = require_layout("target", target)
    xp = _backends.namespace(x=x)
    head_dim, rotary_start = as_int("head_dim", head_dim), as_int("rotary_start", rotary_start)
    rotary_dim = head_dim - rotary_start if rotary_dim is None else as_int("rotary_dim", rotary_dim)
    axis = as_int("axis", axis)
    if not -x.ndim <= axis < x.ndim:
        msg = f"`axis` must be an axis of `x`, got {quote(axis)} for shape {tuple(x.shape)}"
        raise ValueError(msg)
    if None in x.shape:
        msg = f"`x` must have sizes that are known, got shape {tuple(x.shape)}"
        raise ValueError(msg)
    if head_dim <= 0 or x.shape[axis] % head_dim:
        msg = (
            f"`head_dim` must divide axis {axis} of `x`, of length {x.shape[axis]}, "
            f"got {quote(head_dim)}"
        )
        raise ValueError(msg)
    as_size("head_dim", head_dim)  # all divide an axis of length 0
    if rotary_dim <= 0 or rotary_dim % 2:
        msg = f"`rotary_dim` must be even and positive, got {quote(rotary_dim)}"
        raise ValueError(msg)
    if rotary_start < 0 or rotary_start + rotary_dim > head_dim:
        msg = (
            f"`rotary_dim` must fit into head_dim={head_dim} from rotary_start={quote(rotary_start)} "
            f"on, got {quote(rotary_dim)}"
        )
        raise ValueError(msg)
    if source == target:
        return x

    last = xp.moveaxis(x, axis, -1)
    heads = xp.reshape(last, (*last.shape[:-1], last.shape[-1] // head_dim, head_dim))
    first, second = pair_slices(source, rotary_start, rotary_dim // 2)
    parts = [heads[..., first], heads[..., second]]  # each (..., heads, n_pairs)
    if target == "interleaved":
        parts = [interleave(parts[0], parts[1], xp)]
    heads = replace_features(heads, parts, rotary_start, rotary_start + rotary_dim, xp)
    moved: A = xp.moveaxis(xp.reshape(heads, last.shape), -1, axis)
    return moved


def pair_slices(layout: str, start: int, n_pairs: int) -> tuple[slice, slice]:
    """Slices of the features that are first in their pair, and of those that are second."""
    end = start + 2 * n_pairs
    if layout == "half":
        return slice(start, start + n_pairs), slice(start + n_pairs, end)
    return slice(start, end, 2), slice(start + 1, end, 2)


def pair_features(layout: str, start: int, blocks: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The first and the second feature of each pair, block by block."""
    features, pairs = range(start + sum(blocks)), []
    for width in blocks:
        first, second = (features[part] for part in pair_slices(layout, start, width // 2))
        pairs += [*zip(first, second, strict=True)]
        start += width
    return tuple(pairs)


def require_layout(name: str, layout: object) -> Layout:
    return require_one_of(name, layout, LAYOUTS)
