"""Positions of text with images and videos, on three axes: (time, row, column).

Text has the same coordinate on all three axes, so that it is encoded as on one axis; the patches of an
image or a video have different ones. The sequence is described by Python values, so shapes are known
and no device has to be waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    quote,
    require_bool,
    require_integer_dtype,
    require_one_of,
)
from rope_xp.positions._grids import as_axis, require_merge
from rope_xp.positions._range import as_length, require_fit, resolve_dtype

Grid = tuple[int | Sequence[int], int, int]
Part = int | Grid


def text_image_positions(
    parts: Iterable[Part],
    *,
    merge: int = 1,
    advance: Literal["side", "max"] = "side",
    offset: int = 0,
    padding: tuple[int, int] = (0, 0),
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> tuple[Array, int]:
    """Positions of text with images and videos in it (Qwen-VL), and the position after them.

    A run of text that starts at p has positions p, p + 1, … on all axes. A grid of t × h × w patches
    that starts at p has one token for every merge × merge patches, with positions (p + time, p + row,
    p + column).

    Parameters
    ----------
    parts : iterable of int and (t, h, w)
        The sequence in order. An int is the number of tokens of a run of text; (t, h, w) is the grid
        of an image or a video in patches, before merging. A sequence of int instead of t gives the
        times of the frames.
    merge : int
        Patches along each side that make one token (``spatial_merge_size``); divides h and w.
    advance : {"side", "max"}
        Where the part after a grid starts. ``"side"``: at p plus the longer of its two sides, in tokens
        (transformers 5). ``"max"``: after the largest position in it, times included (Qwen2-VL's
        paper). The two differ for videos whose times exceed both sides.
    offset : int
        Position of the first token.
    padding : (int, int)
        Number of padding tokens before and after, at position 0 (transformers).
    xp : namespace, optional
        Array library of the result; default: NumPy.
    dtype, device : optional
        Integer dtype and device of the result; default: the library's.

    Returns
    -------
    positions : array, shape (3, seq)
        Rows: time, row, column.
    after : int
        Position of the next token to be generated: one more than the largest so far.
        transformers' ``rope_deltas`` is ``after`` minus the number of tokens without padding.

    Raises
    ------
    ValueError
        If there are no parts, a run or a padding is negative, a grid has a size of zero or sides that
        ``merge`` does not divide, ``advance`` is unknown, a length is more than memory can hold, or
        the dtype of the result does not hold the positions.
    TypeError
        If a part is neither an int nor three values, a size or a time is not an int, or ``dtype`` is
        not an integer dtype or one that the library has switched off.

    Notes
    -----
    Parts for a video in different models:

    - Qwen2-VL (arXiv:2409.12191, section 2.1) and PaddleOCR-VL count frames: (t, h, w).
      Ernie 4.5 VL counts pairs of frames: (t / 2, h, w).
    - Qwen2.5-VL (arXiv:2502.13923, section 2.1.2) places frames by time:
      ``(time_axis(t, tokens_per_second * second_per_grid, truncate=True), h, w)``.
    - Qwen3-VL, Qwen3.5 and GLM-4V write times as text between the frames, so each frame is a separate
      part (1, h, w).
    - Hy4-VL has a token at the end of each row, and starts every frame anew: (1, h, w + merge) each.

    Compared with ``get_rope_index`` of each model in transformers 5.24.0. For a batch, stack the
    positions of the rows along axis 1.

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
    require_one_of("advance", advance, ("side", "max"))
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    require_integer_dtype(dtype)
    made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
    n_before, n_after = _padding(padding)
    start = as_int("offset", offset)
    default = dtype is None
    require_fit("offset", start, start, made, default=default)

    lowest, after = start, start  # after: one more than the largest position so far
    # Modulo 2**64, which is right in every dtype that holds the positions.
    pieces = [np.zeros((3, n_before), dtype=np.int64)]
    for i, part in enumerate(_as_iterable("parts", parts)):
        if not isinstance(part, tuple | list):
            sizes: Any = (_text_length(f"parts[{i}]", part),)
            end = start + sizes[0]
        else:
            times, h, w = sizes = _grid(f"parts[{i}]", part, merge)
            lowest = min(lowest, start + min(times))
            end = start + max(max(times) + 1, h, w)
        after = max(after, end)
        require_fit("parts", lowest, max(lowest, after - 1), made, default=default)
        lines = [
            np.asarray([_wrapped(time) for time in size], dtype=np.int64)
            if isinstance(size, tuple)
            else np.arange(size, dtype=np.int64)
            for size in sizes
        ]
        grid = np.reshape(np.meshgrid(*lines, indexing="ij"), (len(sizes), -1))
        pieces.append(np.broadcast_to(grid + _wrapped(start), (3, grid.shape[1])))
        start = end if advance == "max" or len(sizes) == 1 else start + max(h, w)
    if len(pieces) == 1:
        msg = "`parts` must have at least one part, got none"
        raise ValueError(msg)
    pieces.append(np.zeros((3, n_after), dtype=np.int64))
    host = np.concatenate(pieces, axis=1).astype(_backends.dtype_name(made))  # (3, seq)
    return xp.asarray(host, dtype=made, device=device), after


def _wrapped(n: int) -> int:
    """The integer of 64 bits that is ``n`` modulo 2**64."""
    return (n + 2**63) % 2**64 - 2**63


def text_image_parts(
    token_types: Iterable[int],
    *,
    images: Iterable[Grid] = (),
    videos: Iterable[Grid] = (),
    merge: int = 1,
    frames_apart: bool = False,
) -> tuple[Part, ...]:
    """Parts of a sequence, for `text_image_positions`, from the type of each of its tokens.

    Parameters
    ----------
    token_types : iterable of int, shape (seq,)
        0 for text, 1 for a token of an image, 2 for one of a video (transformers'
        ``mm_token_type_ids`` of one row, without padding), as Python or NumPy integers.
    images, videos : iterables of (t, h, w)
        Their grids in order, in patches before merging. A sequence of int instead of t gives times.
    merge : int
        Patches along each side that make one token.
    frames_apart : bool
        Whether there is text between the frames of a video (Qwen3-VL).

    Returns
    -------
    tuple of int and (t, h, w)
        Parts for the same number of tokens.

    Raises
    ------
    ValueError
        If a type is not 0, 1 or 2, grids do not fill a run of tokens, grids are left over, or a grid
        has a size of zero or sides that ``merge`` does not divide.
    TypeError
        If a type or a size is not an int.

    Examples
    --------
    >>> text_image_parts([0, 0, 1, 1, 0, 2, 0, 2], images=[(1, 2, 4)], videos=[(2, 2, 2)],
    ...                  merge=2, frames_apart=True)
    (2, (1, 2, 4), 1, (1, 2, 2), 1, (1, 2, 2))
    """
    frames_apart = require_bool("frames_apart", frames_apart)
    names = {1: "images", 2: "videos"}
    grids: dict[int, list[tuple[Grid, int]]] = {1: [], 2: []}  # with their numbers of tokens
    for kind, given in ((1, images), (2, videos)):
        for i, grid in enumerate(_as_iterable(names[kind], given)):
            times, h, w = _grid(f"{names[kind]}[{i}]", grid, merge)
            if frames_apart and kind == 2:
                grids[kind] += [((1, grid[1], grid[2]), h * w)] * len(times)
            else:
                grids[kind].append((grid, len(times) * h * w))

    parts: list[Part] = []
    at = 0
    types = [
        as_int(f"token_types[{i}]", kind)
        for i, kind in enumerate(_as_iterable("token_types", token_types))
    ]
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
                msg = f"`{names[kind]}` must fill {what}, got grids of {filled} tokens"
                raise ValueError(msg)
        else:
            msg = f"`token_types[{at}]` must be 0 (text), 1 (image) or 2 (video), got {quote(kind)}"
            raise ValueError(msg)
        at += n
    for kind, left in grids.items():
        if left:
            msg = f"`{names[kind]}` must all have tokens of type {kind}, got {len(left)} without"
            raise ValueError(msg)
    return tuple(parts)


def _as_iterable(name: str, values: Iterable[Any]) -> Iterable[Any]:
    try:
        return iter(values)
    except TypeError:
        msg = f"`{name}` must be an iterable, got {quote(values)}"
        raise TypeError(msg) from None


def _text_length(name: str, n: Any) -> int:
    """Number of tokens of a run of text."""
    if _backends.is_array(n) or not hasattr(type(n), "__index__"):
        what = _backends.describe(n) if _backends.is_array(n) else quote(n)
        msg = f"`{name}` must be a number of text tokens or a grid (t, h, w), got {what}"
        raise TypeError(msg)
    if as_int(name, n) < 0:
        msg = f"`{name}` must be a non-negative number of text tokens, got {quote(n)}"
        raise ValueError(msg)
    length: int = as_length(name, n)
    return length


def _grid(name: str, grid: Any, merge: int) -> tuple[tuple[int, ...], int, int]:
    """The times of the frames of a grid, and the numbers of its rows and columns of tokens."""
    if not isinstance(grid, tuple | list) or len(grid) != 3:
        msg = f"`{name}` must be a grid (t, h, w), got {quote(grid)}"
        raise TypeError(msg)
    times = as_axis(f"{name}[0]", grid[0])
    times = times if isinstance(times, tuple) else tuple(range(times))
    if not all(isinstance(time, int) for time in times):
        msg = f"`{name}[0]` must have integer times, got {quote(grid[0])}"
        raise TypeError(msg)
    h, w = (as_length(f"{name}[{i}]", grid[i], least=1) for i in (1, 2))
    merge = require_merge(merge, (h, w))
    return times, h // merge, w // merge


def _padding(padding: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(padding, tuple | list) or len(padding) != 2:
        msg = f"`padding` must be two numbers of tokens, before and after, got {quote(padding)}"
        raise TypeError(msg)
    if any(as_int(f"padding[{i}]", n) < 0 for i, n in enumerate(padding)):
        msg = f"`padding` must be non-negative, got {quote(padding)}"
        raise ValueError(msg)
    before, after = (as_length(f"padding[{i}]", n) for i, n in enumerate(padding))
    return before, after
