"""Positions of text with images, videos and audio, on three axes: (time, row, column).

Text and audio have the same coordinate on all three axes, so that they are encoded as on one axis; the
patches of an image or a video have different ones. The sequence is described by Python values, so shapes
are known and no device has to be waited for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    as_size,
    quote,
    require_integer_dtype,
    require_number,
    require_one_of,
    to_float32,
)
from rope_xp.positions._parts import Part, as_iterable, grid_of, text_length
from rope_xp.positions._range import as_length, require_fit, resolve_dtype


def text_image_positions(
    parts: Iterable[Part],
    *,
    merge: int = 1,
    advance: Literal["side", "max"] = "side",
    chunk: int | None = None,
    offset: float = 0,
    padding: tuple[int, int] = (0, 0),
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> tuple[Array, float]:
    """Positions of text with images, videos and audio in it, and the position after them.

    A run of text or audio that starts at p has positions p, p + 1, … on all axes. A grid of t × h × w
    patches that starts at p has one token for every merge × merge patches, with positions (p + time,
    p + row, p + column). In a video with its sound, where both start at p, the tokens of one are among
    those of the other.

    Parameters
    ----------
    parts : iterable of int, ("audio", n), (t, h, w) and (t, h, w, n)
        The sequence in order. An int is the number of tokens of a run of text, n that of audio; (t, h,
        w) is the grid of an image or a video in patches, before merging. A sequence of numbers instead
        of t gives the times of the frames. (t, h, w, n) is a video with its sound, between two tokens
        that begin it and two that end it, which belong to the part.
    merge : int
        Patches along each side that make one token (``spatial_merge_size``); divides h and w.
    advance : {"side", "max"}
        Where the part after a grid starts. ``"side"``: at p plus the longer of its two sides, in tokens
        (transformers 5). ``"max"``: after the largest position in it, times included (Qwen2-VL's
        paper, Qwen-Omni). The two differ for videos whose times exceed both sides.
    chunk : int, optional
        How a video and its sound are mixed. Default: in order of time, a frame before the audio of its
        time. With ``chunk``: in chunks of that many positions, of each first the frames and then the
        audio; and the two tokens that begin them share a position, as do the two that end them.
    offset : int
        Position of the first token; with a floating ``dtype`` a number.
    padding : (int, int)
        Number of padding tokens before and after, at position 0 (transformers).
    xp : namespace, optional
        Array library of the result; default: NumPy.
    dtype, device : optional
        Dtype and device of the result. Default dtype: the library's integer dtype. Times that are not
        integers require float32 or float64; positions are then summed in float32, as Qwen3-Omni does.

    Returns
    -------
    positions : array, shape (3, seq)
        Rows: time, row, column.
    after : int, or float with a floating ``dtype``
        Position of the next token to be generated: one more than the largest so far.
        transformers' ``rope_deltas`` is ``after`` minus the number of tokens without padding.

    Raises
    ------
    ValueError
        If there are no parts, a run or a padding is negative, a grid has a size of zero or sides that
        ``merge`` does not divide, times of a video with sound are negative or decrease, ``advance`` is
        unknown, a length is more than memory can hold, or the dtype of the result does not hold the
        positions.
    TypeError
        If a part is not one of the above, a size is not an int, a time is not an int and ``dtype`` is
        no floating dtype, or ``dtype`` is bfloat16 or float16 or one that the library has switched off.

    See Also
    --------
    text_image_types : which of the tokens are text, of images or videos, and audio.

    Notes
    -----
    Parts for a video in different models:

    - Qwen2-VL (arXiv:2409.12191, section 2.1) and PaddleOCR-VL count frames: (t, h, w).
      Ernie 4.5 VL counts pairs of frames: (t / 2, h, w).
    - Qwen2.5-VL (arXiv:2502.13923, section 2.1.2) places frames by time:
      ``(time_axis(t, tokens_per_second * second_per_grid, truncate=True), h, w)``.
    - Qwen3-VL, Qwen3.5, GLM-4V and Cosmos 3 write times as text between the frames, so each frame is a
      separate part (1, h, w).
    - Hy4-VL has a token at the end of each row, and starts every frame anew: (1, h, w + merge) each.
    - Qwen2.5-Omni (arXiv:2503.20215, section 2.2) has ``advance="max"``, ``chunk`` =
      ``position_id_per_seconds`` · ``seconds_per_chunk`` and times ``time_axis(t, second_per_grid,
      rate=position_id_per_seconds, truncate=True)``.
    - Qwen3-Omni (arXiv:2509.17765) has ``advance="max"``, ``dtype=float32`` and the same times with
      fractions: ``time_axis(t, second_per_grid, rate=position_id_per_seconds)``.

    Compared with ``get_rope_index`` of each model in transformers 5.24.0; of Qwen-Omni also the talker
    has it. What follows a video with sound starts after the largest coordinate of its last token, even if
    other tokens of it, rows or columns have larger ones. For a batch, stack the positions of the rows along axis 1.

    Examples
    --------
    >>> positions, after = text_image_positions([2, (1, 4, 6), 1], merge=2)
    >>> positions
    array([[0, 1, 2, 2, 2, 2, 2, 2, 5],
           [0, 1, 2, 2, 2, 3, 3, 3, 5],
           [0, 1, 2, 3, 4, 2, 3, 4, 5]])
    >>> after
    6

    A video of two frames, half a second apart, with sound:

    >>> times = time_axis(2, 0.5, rate=4, truncate=True)
    >>> text_image_positions([1, (times, 1, 2, 3), 1], advance="max")[0]
    array([[0, 1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7, 8],
           [0, 1, 2, 3, 3, 3, 4, 3, 3, 5, 6, 7, 8],
           [0, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 7, 8]])
    """
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
    name = _backends.dtype_name(made)
    real = name in ("float32", "float64")
    if not real and name not in _backends.INTEGER:
        msg = f"`dtype` must be an integer dtype, float32 or float64, got {name}"
        raise TypeError(msg)
    lengths = _padding(padding)
    found = _Sequence(advance, offset, real=real)
    found.require_fit("offset", made, default=dtype is None)
    found.extend(parts, merge, chunk, made, default=dtype is None)
    before, after = (np.zeros((3, n), dtype=found.kept) for n in lengths)
    host = np.concatenate([before, *found.pieces, after], axis=1).astype(name)  # (3, seq)
    return xp.asarray(host, dtype=made, device=device), found.after


def text_image_types(
    parts: Iterable[Part],
    *,
    merge: int = 1,
    advance: Literal["side", "max"] = "side",
    chunk: int | None = None,
    offset: float = 0,
    padding: tuple[int, int] = (0, 0),
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Which tokens of `text_image_positions` are text, of images or videos, and audio.

    Embeddings of frames and audio go to their tokens in this order.

    Parameters
    ----------
    parts, merge, advance, chunk, offset, padding
        As in `text_image_positions`. Where times have fractions, the order in a video with sound can
        depend on how its positions are rounded to float32, so on what is before it.
    xp, dtype, device : optional
        Array library, integer dtype and device of the result.

    Returns
    -------
    array, shape (seq,)
        0 for text, padding, and what begins and ends a video with sound; 1 for a token of a grid of one
        frame, 2 for one of several frames or with sound, and 3 for audio: transformers'
        ``mm_token_type_ids``, if no video has only one frame.

    Raises
    ------
    ValueError, TypeError
        As `text_image_positions`.

    Examples
    --------
    >>> text_image_types([1, (1, 1, 2), ("audio", 1), ((0, 2), 1, 1, 3)])
    array([0, 1, 1, 3, 0, 0, 2, 3, 3, 2, 3, 0, 0])
    """
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    require_integer_dtype(dtype)
    made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
    parts = list(as_iterable("parts", parts))
    real = isinstance(offset, float | np.floating) or any(map(_has_fractions, parts))
    found = _Sequence(advance, offset, real=real)
    found.extend(parts, merge, chunk)
    before, after = (np.zeros(n, dtype="int8") for n in _padding(padding))
    host = np.concatenate([before, *found.types, after]).astype(_backends.dtype_name(made))
    return xp.asarray(host, dtype=made, device=device)


class _Run(NamedTuple):
    """Tokens with a common start, to which coordinates are relative."""

    coordinates: Any  # (3, seq) or (1, seq)
    types: Any  # (seq,)
    last: float  # the largest coordinate of the last token
    side: int | None = None  # tokens along the longer side of a grid


class _Sequence:
    """Positions and types of the tokens so far.

    Real positions are summed in float32, as Qwen3-Omni does, and integers modulo 2**64, which is right
    in every dtype that holds the positions.
    """

    def __init__(self, advance: str, offset: float, *, real: bool) -> None:
        require_one_of("advance", advance, ("side", "max"))
        self.by_side = advance == "side"
        self.real, self.kept = real, np.dtype("float32" if real else "int64")
        start = to_float32(require_number("offset", offset)) if real else as_int("offset", offset)
        self.start: Any = start
        self.lowest = self.after = start  # after: one more than the largest position so far
        self.pieces: list[Any] = []  # (3, n) each
        self.types: list[Any] = []  # (n,) each

    def require_fit(self, name: str, dtype: Dtype | None, *, default: bool) -> None:
        """ValueError unless positions are in the range of ``dtype``; None has all."""
        first: Any = self.lowest
        last: Any = max(first, self.after - 1)
        if not self.real and dtype is not None:
            require_fit(name, first, last, dtype, default=default)
        elif self.real and not -(2**24) < first <= self.after < 2**24:
            what = "the next one too, between -2**24 and 2**24, where float32 skips no integer"
            got = f"{quote(first)} to {quote(self.after)}"
            msg = f"`{name}` must keep positions, {what}, got {got}"
            raise ValueError(msg)

    def plus(self, a: float, b: float) -> Any:
        return to_float32(a + b) if self.real else a + b

    def extend(
        self,
        parts: Iterable[Part],
        merge: int,
        chunk: int | None,
        dtype: Dtype | None = None,
        *,
        default: bool = False,
    ) -> None:
        """Append ``parts``; ValueError unless ``dtype`` holds their positions."""
        chunk = None if chunk is None else as_size("chunk", chunk)

        def reach(lowest: float, highest: float) -> None:
            # Before anything of that length is made.
            self.lowest = min(self.lowest, self.start + lowest)
            self.after = max(self.after, self.plus(self.plus(self.start, highest), 1))
            self.require_fit("parts", dtype, default=default)

        i = -1
        for i, part in enumerate(as_iterable("parts", parts)):
            name = f"parts[{i}]"
            if not isinstance(part, tuple | list):
                n = text_length(name, part)
                reach(0, n - 1)
                self._append(self._line(n, 0))
            elif part and isinstance(part[0], str):
                if len(part) != 2 or part[0] != "audio":
                    msg = f"`{name}` must be ('audio', n) or a grid (t, h, w), got {quote(part)}"
                    raise TypeError(msg)
                n = as_length(f"{name}[1]", part[1])
                reach(0, n - 1)
                self._append(self._line(n, 3))
            else:
                times, h, w = grid_of(name, part[:3] if len(part) == 4 else part, merge, self.real)
                highest = max(*times, h - 1, w - 1)
                if len(part) == 3:
                    reach(min(times), highest)
                    self._append(self._patches(times, h, w))
                    continue
                n = as_length(f"{name}[3]", part[3], least=1)
                if times[0] < 0 or any(later < time for time, later in pairwise(times)):
                    rule = "must have times from 0 on that do not decrease"
                    msg = f"`{name}[0]` {rule}, got {quote(part[0])}"
                    raise ValueError(msg)
                around = self._line(2, 0)
                if chunk is not None:  # both at one position
                    around = around._replace(coordinates=np.zeros((1, 2), self.kept), last=0)
                self._append(around)
                reach(0, max(highest, n - 1))
                self._append(self._with_sound(times, h, w, n, chunk))
                reach(0, around.last)
                self._append(around)
        if i < 0:
            msg = "`parts` must have at least one part, got none"
            raise ValueError(msg)

    def _append(self, run: _Run) -> None:
        first = np.asarray(self.start if self.real else _wrapped(self.start), dtype=self.kept)
        self.pieces.append(np.broadcast_to(run.coordinates + first, (3, len(run.types))))
        self.types.append(run.types)
        if run.side is not None and self.by_side:
            self.start = self.plus(self.start, run.side)
        else:
            self.start = self.plus(self.plus(self.start, run.last), 1)

    def _line(self, n: int, kind: int) -> _Run:
        """``n`` tokens of text or audio."""
        return _Run(np.arange(n, dtype=self.kept)[None, :], np.full(n, kind, "int8"), n - 1)

    def _patches(self, times: tuple[Any, ...], h: int, w: int) -> _Run:
        """The tokens of a grid."""
        exact = times if self.real else map(_wrapped, times)
        lines = [np.asarray(list(line), self.kept) for line in (exact, range(h), range(w))]
        coordinates = np.reshape(np.meshgrid(*lines, indexing="ij"), (3, -1))
        types = np.full(coordinates.shape[1], 1 if len(times) == 1 else 2, "int8")
        return _Run(coordinates, types, max(*times, h - 1, w - 1), max(h, w))

    def _with_sound(
        self, times: tuple[Any, ...], h: int, w: int, n: int, chunk: int | None
    ) -> _Run:
        """The tokens of a video and of ``n`` of its sound in one order."""
        frames, sound = self._patches(times, h, w), self._line(n, 3)
        keys: list[float] = [time for time in times for _ in range(h * w)]
        n_frames = len(keys)
        if chunk is None:
            keys = [self.plus(self.start, time) for time in (*keys, *range(n))]
        else:
            # A token begins one chunk at most: of a frame that is chunks later, some are in between.
            at = 0
            for i, time in enumerate(keys):
                at += time >= (at + 1) * chunk
                keys[i] = at
            keys += [i // chunk for i in range(n)]
        order = sorted(range(n_frames + n), key=lambda i: keys[i])  # of equal keys frames first
        coordinates = (frames.coordinates, np.broadcast_to(sound.coordinates, (3, n)))
        types = np.concatenate([np.full(n_frames, 2, "int8"), sound.types])
        last = frames.last if order[-1] < n_frames else sound.last
        return _Run(np.concatenate(coordinates, axis=1)[:, order], types[order], last)


def _has_fractions(part: Any) -> bool:
    times = part[0] if isinstance(part, tuple | list) and part else ()
    return isinstance(times, tuple | list | np.ndarray) and any(
        isinstance(time, float | np.floating) for time in times
    )


def _wrapped(n: int) -> int:
    """The integer of 64 bits that is ``n`` modulo 2**64."""
    return (n + 2**63) % 2**64 - 2**63


def _padding(padding: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(padding, tuple | list) or len(padding) != 2:
        msg = f"`padding` must be two numbers of tokens, before and after, got {quote(padding)}"
        raise TypeError(msg)
    if any(as_int(f"padding[{i}]", n) < 0 for i, n in enumerate(padding)):
        msg = f"`padding` must be non-negative, got {quote(padding)}"
        raise ValueError(msg)
    before, after = (as_length(f"padding[{i}]", n) for i, n in enumerate(padding))
    return before, after
