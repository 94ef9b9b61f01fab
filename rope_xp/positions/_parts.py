"""What a sequence of text, images, videos and audio consists of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

from rope_xp import _backends
from rope_xp._validation import as_int, quote, require_bool
from rope_xp.positions._grids import as_axis, require_merge
from rope_xp.positions._range import as_length

Times = int | Sequence[int] | Sequence[float]
Grid = tuple[Times, int, int]
Part = int | tuple[Literal["audio"], int] | Grid | tuple[Times, int, int, int]


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
        0 for text, 1 for a token of an image, 2 for one of a video, 3 for audio (transformers'
        ``mm_token_type_ids`` of one row, without padding), as Python or NumPy integers.
    images, videos : iterables of (t, h, w)
        Their grids in order, in patches before merging. A sequence of numbers instead of t gives times.
    merge : int
        Patches along each side that make one token.
    frames_apart : bool
        Whether there is text between the frames of a video (Qwen3-VL).

    Returns
    -------
    tuple of int, ("audio", n), (t, h, w) and (t, h, w, n)
        Parts for the same number of tokens. Where tokens of a video and audio are not apart, the video
        is one with sound, and the two tokens before and after it belong to it.

    Raises
    ------
    ValueError
        If a type is not 0, 1, 2 or 3, grids do not fill a run of tokens, grids are left over, a grid
        has a size of zero or sides that ``merge`` does not divide, or a video with sound is not one
        grid between two tokens of text.
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
        for i, grid in enumerate(as_iterable(names[kind], given)):
            times, h, w = grid_of(f"{names[kind]}[{i}]", grid, merge)
            if frames_apart and kind == 2:
                grids[kind] += [((1, grid[1], grid[2]), h * w)] * len(times)
            else:
                grids[kind].append((grid, len(times) * h * w))

    parts: list[Part] = []
    at, taken = 0, 0  # taken: tokens of text that belong to the video before
    types = [
        as_int(f"token_types[{i}]", kind)
        for i, kind in enumerate(as_iterable("token_types", token_types))
    ]
    for kind, run in groupby(types, lambda kind: 2 if kind == 3 else kind):
        tokens = list(run)
        n_sound = tokens.count(3)
        n = len(tokens) - n_sound
        text = _less(n if kind == 0 else 0, taken, at)
        if kind == 0:
            parts.append(text)
        elif kind not in names:
            msg = (
                f"`token_types[{at}]` must be 0 (text), 1 (image), 2 (video) or 3 (audio), "
                f"got {quote(kind)}"
            )
            raise ValueError(msg)
        elif n == 0:
            parts.append(("audio", n_sound))
        else:
            first, filled = len(parts), 0
            while filled < n and grids[kind]:
                grid, size = grids[kind].pop(0)
                parts.append(grid)
                filled += size
            if filled != n or (n_sound and len(parts) > first + 1):
                what = f"the {n} tokens of type {kind} from token {at} on"
                rule = "be one that fills" if n_sound else "fill"
                msg = f"`{names[kind]}` must {rule} {what}, got grids of {filled} tokens"
                raise ValueError(msg)
            if n_sound:
                parts[first - 1 :] = [
                    _less(parts[first - 1] if first else 0, 2, at),
                    (*grid, n_sound),
                ]
        taken = 2 if n and n_sound else 0
        at += len(tokens)
    _less(0, taken, at)
    for kind, left in grids.items():
        if left:
            msg = f"`{names[kind]}` must all have tokens of type {kind}, got {len(left)} without"
            raise ValueError(msg)
    return tuple(parts)


def _less(text: Any, taken: int, at: int) -> Any:
    """``text`` tokens without those that begin or end a video with sound."""
    if taken and (not isinstance(text, int) or text < taken):
        msg = (
            "`token_types` must have two tokens of text before and after a video with sound, "
            f"got fewer at token {at}"
        )
        raise ValueError(msg)
    return text - taken


def as_iterable(name: str, values: Iterable[Any]) -> Iterable[Any]:
    try:
        return iter(values)
    except TypeError:
        msg = f"`{name}` must be an iterable, got {quote(values)}"
        raise TypeError(msg) from None


def text_length(name: str, n: Any) -> int:
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


def grid_of(
    name: str, grid: Any, merge: int, real: bool = True
) -> tuple[tuple[Any, ...], int, int]:
    """The times of the frames of a grid, and the numbers of its rows and columns of tokens."""
    if not isinstance(grid, tuple | list) or len(grid) != 3:
        msg = f"`{name}` must be a grid (t, h, w), got {quote(grid)}"
        raise TypeError(msg)
    times = as_axis(f"{name}[0]", grid[0])
    times = times if isinstance(times, tuple) else tuple(range(times))
    if not real and not all(isinstance(time, int) for time in times):
        msg = (
            f"`{name}[0]` must have integer times, got {quote(grid[0])}; "
            "others require a `dtype` of float32 or float64"
        )
        raise TypeError(msg)
    h, w = (as_length(f"{name}[{i}]", grid[i], least=1) for i in (1, 2))
    merge = require_merge(merge, (h, w))
    return times, h // merge, w // merge
