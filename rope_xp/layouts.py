"""Weights and activations from one pairing to the other."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array
from rope_xp._kernels import interleave, replace_features
from rope_xp._validation import as_int

__all__ = ["convert_layout"]

LAYOUTS = ("half", "interleaved")


def convert_layout(
    x: Array,
    *,
    source: str,
    target: str,
    head_dim: int,
    rotary_dim: int | None = None,
    rotary_start: int = 0,
    axis: int = -1,
) -> Array:
    """Reorder features, head by head, from one pairing to the other.

    Rotating the result with ``target`` is the reordered result of rotating ``x`` with ``source``,
    and scores are the same. Projection weights are converted once and for all instead of every
    activation.

    Parameters
    ----------
    x : array
        Activations ``(..., heads * head_dim)`` or ``(..., head_dim)``; a projection weight of
        shape (heads * head_dim, in_features) with ``axis=0``; a bias. Any dtype.
    source, target : {"half", "interleaved"}
        Pair i is features (i, i + n_pairs), or (2i, 2i + 1).
    head_dim : int
        Features per head; the length of ``axis`` is a multiple.
    rotary_dim, rotary_start : int
        The rotated part of each head, as in `RoPE`; the rest stays where it is.
    axis : int
        Along which the features of all heads stand.

    Returns
    -------
    array, shape and dtype of ``x``

    Raises
    ------
    ValueError
        For an unknown layout or axis, a length that is no multiple of ``head_dim``, or an
        impossible rotated part.
    TypeError
        If ``x`` is no array or a size no int.

    Notes
    -----
    Meta's checkpoints and GGUF files of Llama models are interleaved; transformers' are half.
    Book: :eq:`eq-convert`.

    Examples
    --------
    >>> import numpy as np
    >>> convert_layout(np.arange(6), source="interleaved", target="half", head_dim=6)
    array([0, 2, 4, 1, 3, 5])
    """
    require_layout("source", source)
    require_layout("target", target)
    xp = _backends.namespace(x=x)
    head_dim, rotary_start = as_int("head_dim", head_dim), as_int("rotary_start", rotary_start)
    rotary_dim = head_dim - rotary_start if rotary_dim is None else as_int("rotary_dim", rotary_dim)
    axis = as_int("axis", axis)
    if not -x.ndim <= axis < x.ndim:
        msg = f"`axis` must be an axis of `x`, got {axis} for shape {tuple(x.shape)}"
        raise ValueError(msg)
    if head_dim <= 0 or x.shape[axis] % head_dim:
        msg = (
            f"`head_dim` must divide axis {axis} of `x`, of length {x.shape[axis]}, got {head_dim}"
        )
        raise ValueError(msg)
    if rotary_dim <= 0 or rotary_dim % 2:
        msg = f"`rotary_dim` must be even and positive, got {rotary_dim}"
        raise ValueError(msg)
    if rotary_start < 0 or rotary_start + rotary_dim > head_dim:
        msg = (
            f"`rotary_dim` must fit into head_dim={head_dim} from rotary_start={rotary_start} on, "
            f"got {rotary_dim}"
        )
        raise ValueError(msg)
    if source == target:
        return x

    moved = xp.moveaxis(x, axis, -1)
    heads = xp.reshape(moved, (*moved.shape[:-1], moved.shape[-1] // head_dim, head_dim))
    first, second = pair_slices(source, rotary_start, rotary_dim // 2)
    parts = [heads[..., first], heads[..., second]]
    if target == "interleaved":
        parts = [interleave(parts[0], parts[1], xp)]
    heads = replace_features(heads, parts, rotary_start, rotary_start + rotary_dim, xp)
    return xp.moveaxis(xp.reshape(heads, moved.shape), -1, axis)


def pair_slices(layout: str, start: int, n_pairs: int) -> tuple[slice, slice]:
    """The features that are first in their pair, and those that are second."""
    end = start + 2 * n_pairs
    if layout == "half":
        return slice(start, start + n_pairs), slice(start + n_pairs, end)
    return slice(start, end, 2), slice(start + 1, end, 2)


def require_layout(name: str, layout: str) -> None:
    if layout not in LAYOUTS:
        msg = f"`{name}` must be one of {', '.join(map(repr, LAYOUTS))}, got {layout!r}"
        raise ValueError(msg)
