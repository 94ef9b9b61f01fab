"""Where text and patches are that stand in one sequence: three axes, (time, row, column).

Text moves along all three axes at once, so that it keeps the encoding of one axis; an image or a video
spreads out in them. What decides is a description of the sequence in Python values, so shapes are
known and nothing waits for a device. `positions` hands on what is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, require_integer_dtype, require_position_range
from rope_xp.positions._grids import (
    as_axis,
    as_positive,
    grid_positions,
    require_held,
    require_merge,
)

__all__ = ["text_image_parts", "text_image_positions"]

Grid = tuple[int | Sequence[int], int, int]
Part = int | Grid

_ADVANCES = ("side", "max")


def text_image_positions(
    parts: Iterable[Part],
    *,
    merge: int = 1,
    advance: str = "side",
    offset: int = 0,
    padding: tuple[int, int] = (0, 0),
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> tuple[Array, int]:
    """Positions of text with images and videos in it (Qwen-VL's), and the position that follows.

    A run of text that starts at p has positions p, p + 1, … on all axes. A grid of t × h × w patches
    that starts at p has one token for every merge × merge patches, with positions (p + time, p + row,
    p + column).

    Parameters
    ----------
    parts : iterable of int and (t, h, w)
        The sequence in order: the number of tokens of a run of text, or the grid of an image or a
        video in patches, before merging. Instead of t, the integer times of the frames may stand.
    merge : int
        Patches along each side that make one token (``spatial_merge_size``); divides h and w.
    advance : {"side", "max"}
        Where what follows a grid starts: ``"side"``, at p plus the longer of its two sides, in tokens
        (transformers 5); ``"max"``, after the largest position in it, times included (Qwen2-VL's
        paper). They differ for videos whose times exceed both sides.
    offset : int
        Position of the first token.
    padding : (int, int)
        Tokens of padding before and after, at position 0 (transformers).
    xp : namespace, optional
        The array library; default: NumPy.
    dtype, device : optional
        Of the result. The dtype is an integer one, the library's default if not given.

    Returns
    -------
    positions : array, shape (3, seq)
        Rows: time, row, column.
    after : int
        The position of the next token to be generated: one more than the largest so far.
        transformers' ``rope_deltas`` is ``after`` minus the tokens that are no padding.

    Raises
    ------
    ValueError
        If there are no parts, a run or a padding is negative, a grid has a size of zero or sides that
        ``merge`` does not divide, ``advance`` is unknown, or positions leave [−2³¹, 2³¹) or ``dtype``.
    TypeError
        If a part is neither an int nor three values, a size or a time not an int, or ``dtype`` not an
        integer dtype.

    Notes
    -----
    What models make of a video:

    - Qwen2-VL (arXiv:2409.12191, section 2.1) counts its frames: (t, h, w); so does PaddleOCR-VL.
      Ernie 4.5 VL counts pairs of them: (t / 2, h, w).
    - Qwen2.5-VL (arXiv:2502.13923, section 2.1.2) places frames by time:
      ``(time_axis(t, tokens_per_second * second_per_grid, truncate=True), h, w)``.
    - Qwen3-VL, Qwen3.5 and GLM-4V write times as text between the frames, so that each is a part
      (1, h, w) of its own.

    Compared with each one's ``get_rope_index`` in transformers 5.23.0. The positions of the rows of a
    batch are stacked along axis 1.

    Examples
    --------
    >>> positions, after = text_image_positions([2, (1, 4, 6), 1], merge=2)
    >>> positions
    array([[0, 1, 2, 2, 2, 2, 2, 2, 5],
           [0, 1, 2, 2, 2, 3, 3, 3, 5],
           [0, 1, 2, 3, 4, 2, 3, 4, 5]])
    >>> after
    6
    """
    if advance not in _ADVANCES:
        msg = f"`advance` must be 'side' or 'max', got {advance!r}"
        raise ValueError(msg)
    xp = _backends.compat_namespace(xp)
    if dtype is None:
        dtype = xp.arange(1, device=device).dtype
    require_integer_dtype(dtype)
    before, behind = _padding(padding)
    start = as_int("offset", offset)
    require_position_range("offset", start)

    lowest, after = start, start  # after: one more than the largest position so far
    pieces = [np.zeros((3, before), dtype=np.int64)]
    for i, part in enumerate(parts):
        if not isinstance(part, tuple | list):
            n = _text(f"parts[{i}]", part)
            pieces.append(np.broadcast_to(np.arange(start, start + n), (3, n)))
            start += n
            after = max(after, start)
            continue
        times, h, w = _grid(f"parts[{i}]", part, merge)
        pieces.append(grid_positions(times, h, w, offset=start, dtype=np.int64))
        lowest = min(lowest, start + min(times))
        end = start + max(max(times) + 1, h, w)
        after = max(after, end)
        start = end if advance == "max" else start + max(h, w)
    if len(pieces) == 1:
        msg = "`parts` must have at least one part, got none"
        raise ValueError(msg)
    require_held("parts", lowest, max(lowest, after - 1), dtype)
    pieces.append(np.zeros((3, behind), dtype=np.int64))
    host = np.concatenate(pieces, axis=1).astype(_backends.dtype_name(dtype))  # (3, seq)
    return xp.asarray(host, dtype=dtype, device=device), after


def text_image_parts(
    token_types: Iterable[int],
    *,
    images: Iterable[Grid] = (),
    videos: Iterable[Grid] = (),
    merge: int = 1,
    frames_apart: bool = False,
) -> tuple[Part, ...]:
    """The parts of a sequence, from what kind each of its tokens is.

    Parameters
    ----------
    token_types : iterable of int, shape (seq,)
        0 for text, 1 for an image's token, 2 for a video's (transformers' ``mm_token_type_ids`` of
        one row, without padding), as Python or NumPy integers.
    images, videos : iterables of (t, h, w)
        Their grids, in order, in patches before merging. Instead of t, times may stand.
    merge : int
        Patches along each side that make one token.
    frames_apart : bool
        Whether the frames of a video stand apart, with text between them (Qwen3-VL).

    Returns
    -------
    tuple of int and (t, h, w)
        What `text_image_positions` takes. It makes positions for the same number of tokens.

    Raises
    ------
    ValueError
        If a type is not 0, 1 or 2, a run of tokens is not that of whole grids, grids are left over,
        or a grid has a size of zero or sides that ``merge`` does not divide.
    TypeError
        If a type or a size is not an int.

    Examples
    --------
    >>> text_image_parts([0, 0, 1, 1, 0, 2, 0, 2], images=[(1, 2, 4)], videos=[(2, 2, 2)],
    ...                  merge=2, frames_apart=True)
    (2, (1, 2, 4), 1, (1, 2, 2), 1, (1, 2, 2))
    """
    names = {1: "images", 2: "videos"}
    grids: dict[int, list[tuple[Grid, int]]] = {1: [], 2: []}  # with their numbers of tokens
    for kind, given in ((1, images), (2, videos)):
        for i, grid in enumerate(given):
            times, h, w = _grid(f"{names[kind]}[{i}]", grid, merge)
            if frames_apart and kind == 2:
                grids[kind] += [((1, grid[1], grid[2]), h * w)] * len(times)
            else:
                grids[kind].append((grid, len(times) * h * w))

    parts: list[Part] = []
    at = 0
    types = [as_int(f"token_types[{i}]", kind) for i, kind in enumerate(token_types)]
    for kind, run in groupby(types):
        n = len(list(run))
        if kind == 0:
            parts.append(n)
        elif kind in names:
            filled = 0
            while filled < n and grids[kind]:
                grid, tokens = grids[kind].pop(0)
                parts.append(grid)
                filled += tokens
            if filled != n:
                what = f"the {n} tokens of type {kind} from token {at} on"
                msg = f"`{names[kind]}` must fill {what}, got grids of {filled}"
                raise ValueError(msg)
        else:
            msg = f"`token_types[{at}]` must be 0 (text), 1 (image) or 2 (video), got {kind}"
            raise ValueError(msg)
        at += n
    for kind, left in grids.items():
        if left:
            msg = f"`{names[kind]}` must all have tokens of type {kind}, got {len(left)} without"
            raise ValueError(msg)
    return tuple(parts)


def _text(name: str, n: Any) -> int:
    """The length of a run of text."""
    if _backends.is_array(n) or not hasattr(type(n), "__index__"):
        what = _backends.describe(n) if _backends.is_array(n) else repr(n)
        msg = f"`{name}` must be a number of text tokens or a grid (t, h, w), got {what}"
        raise TypeError(msg)
    length: int = as_int(name, n)
    if length < 0:
        msg = f"`{name}` must be a number of text tokens, not negative, got {n}"
        raise ValueError(msg)
    return length


def _grid(name: str, grid: Any, merge: int) -> tuple[tuple[int, ...], int, int]:
    """The times of a grid's frames, and its rows and columns of tokens."""
    if not isinstance(grid, tuple | list) or len(grid) != 3:
        msg = f"`{name}` must be a grid (t, h, w), got {grid!r}"
        raise TypeError(msg)
    times = as_axis(f"{name}[0]", grid[0])
    times = times if isinstance(times, tuple) else tuple(range(times))
    if not all(isinstance(time, int) for time in times):
        msg = f"`{name}[0]` must have integer times, got {grid[0]!r}"
        raise TypeError(msg)
    h, w = (as_positive(f"{name}[{i}]", grid[i]) for i in (1, 2))
    merge = require_merge(merge, (h, w))
    return times, h // merge, w // merge


def _padding(padding: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(padding, tuple | list) or len(padding) != 2:
        msg = f"`padding` must be two numbers of tokens, before and after, got {padding!r}"
        raise TypeError(msg)
    before, behind = (as_int(f"padding[{i}]", n) for i, n in enumerate(padding))
    if before < 0 or behind < 0:
        msg = f"`padding` must not be negative, got {padding!r}"
        raise ValueError(msg)
    return before, behind
