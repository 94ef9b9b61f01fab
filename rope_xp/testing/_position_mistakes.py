"""Mistakes with positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rope_xp.testing._black_box import Call
from rope_xp.testing._definition import Definition
from rope_xp.testing._mistakes import Mistake
from rope_xp.testing._rounding import rounded


def position_mistakes(
    definition: Definition, call: Call, earlier: Sequence[np.ndarray]
) -> Iterator[Mistake]:
    positions = call.positions
    batch, heads, seq = call.answer.given.shape[:3]

    def mistake(text: str, change: Callable[..., np.ndarray]) -> Mistake:
        return Mistake("positions", text, change)

    def along(p: np.ndarray, axis: int) -> np.ndarray:
        shape = (-1, *(1,) * (-1 - axis))
        return p * 0 + np.arange(p.shape[axis]).reshape(shape)

    yield mistake("no rotation at all: every position is taken for 0", lambda p: p * 0)
    yield mistake(
        "the offset is ignored: tokens are at 0, 1, 2, … whatever their positions are",
        lambda p: along(p, -1),
    )
    yield mistake(
        "only the first position is used, as an offset: the others are counted from it",
        lambda p: p[..., :1] + along(p, -1),
    )
    yield mistake(
        "only the first position of the first row is used, as an offset",
        lambda p: p[..., :1, :1, :1] + along(p, -1),
    )
    yield mistake(
        "all rows have the positions of row 0 (offsets per row are ignored)",
        lambda p: p * 0 + p[..., :1, :, :],
    )
    yield mistake(
        "all rows have the positions of the last row", lambda p: p * 0 + p[..., -1:, :, :]
    )
    yield mistake(
        "positions are counted from the first one: the offset is ignored", lambda p: p - p[..., :1]
    )
    yield mistake("positions are offset by the number of the row", lambda p: p + along(p, -3))
    yield mistake("all tokens have the position of the first token", lambda p: p * 0 + p[..., :1])
    yield mistake("all tokens have the position of the last token", lambda p: p * 0 + p[..., -1:])
    yield mistake("positions are taken in reverse order", lambda p: p[..., ::-1])
    yield mistake(
        "the positions of the first call of this length: a table that is kept, whatever the positions are",
        lambda p: _first_of_length(p, earlier, definition.inv_freq.ndim - 1),
    )
    yield mistake("positions are sorted", lambda p: np.sort(p, axis=-1))
    yield mistake(
        "positions are replaced by their order (argsort)", lambda p: np.argsort(p, axis=-1) + 0.0
    )
    yield mistake(
        "positions are replaced by their ranks", lambda p: np.argsort(np.argsort(p)) + 0.0
    )
    yield mistake(
        "positions are counted along the heads, not along the sequence", lambda p: along(p, -2)
    )
    yield mistake(
        "positions are counted along the rows, not along the sequence", lambda p: along(p, -3)
    )
    if heads == batch and heads > 1:
        yield mistake(
            "the positions of row i are used for head i: the axis of rows is taken for that of heads",
            lambda p: np.swapaxes(p, -3, -2) if p.shape[-3] == p.shape[-2] else p,
        )
    if heads == seq and heads > 1:
        yield mistake(
            "positions vary along the heads, not along the sequence",
            lambda p: np.swapaxes(p, -2, -1) if p.shape[-2] == p.shape[-1] else p,
        )
    yield mistake("positions are off by one: p + 1 in the place of p", lambda p: p + 1)
    yield mistake("positions are off by one: p - 1 in the place of p", lambda p: p - 1)
    yield mistake("the other direction (the inverse rotation, by -θ)", lambda p: -p)
    yield mistake("x is rotated twice, or by twice the angle (2θ)", lambda p: 2 * p)
    yield mistake("by half of the angle", lambda p: p / 2)
    yield mistake("angles in degrees taken for radians", lambda p: p * (math.pi / 180))
    yield mistake("angles in radians taken for degrees", lambda p: p * (180 / math.pi))
    yield mistake(
        "frequencies in turns per step taken for radians (2π)", lambda p: p * (2 * math.pi)
    )
    for dtype, text in (
        ("bfloat16", "256 and 257 coincide"),
        ("float16", "2048 and 2049 coincide, and from 65520 on they are infinite"),
    ):
        yield Mistake(
            "positions",
            f"positions rounded to {dtype}: {text}",
            lambda p, d=dtype: rounded(p, d),
            dtype,
        )
    for bits in (8, 16):
        half = 2.0 ** (bits - 1)
        yield mistake(f"positions wrapped to int{bits}", lambda p, h=half: (p + h) % (2 * h) - h)
        yield mistake(f"positions wrapped to uint{bits}", lambda p, h=half: p % (2 * h))
        yield mistake(
            f"positions clamped to the range of int{bits}", lambda p, h=half: np.minimum(p, h - 1)
        )
    largest = int(positions.max())
    ends = (
        {2**k for k in range(2, 20)}
        | {10**k for k in range(1, 6)}
        | {3 * 2**k for k in range(10)}
        | {40960}
    )
    ends |= set(map(int, np.unique(positions))) | {int(p) + 1 for p in np.unique(positions)}
    for end in sorted(e for e in ends if 1 < e <= largest):
        yield mistake(
            f"a table of {end} positions that ends: later ones are clamped to the last, {end - 1}",
            lambda p, e=end: np.minimum(p, e - 1),
        )
        yield mistake(
            f"a table of {end} positions: later ones wrap around (modulo {end})",
            lambda p, e=end: p % e,
        )
    if definition.inv_freq.ndim > 1:
        yield mistake("the axes of positions are exchanged", lambda p: p[::-1])
        yield mistake("all axes have the positions of the first", lambda p: p[:1] + 0 * p)


def earlier_positions(
    definition: Definition, call: Call, earlier: Sequence[np.ndarray]
) -> Iterator[Mistake]:
    """A table that is kept under a key which other positions have, too: their sum, their ends."""
    axes = definition.inv_freq.ndim - 1
    known = {other.tobytes(): other for other in earlier if other.shape == call.positions.shape}
    for other in known.values():
        at = other[..., None, None, :] if other.ndim == 1 + axes else other[..., :, None, :]
        row = ", ".join(map(str, other.reshape(-1, other.shape[-1])[0, :6]))
        yield Mistake(
            "positions",
            f"the positions of an earlier call, {row}{', …' if other.size > 6 else ''}: a table that is "
            "kept, and found again for others",
            lambda p, at=at: p * 0 + at,
        )


def _first_of_length(p: np.ndarray, earlier: Sequence[np.ndarray], axes: int) -> np.ndarray:
    """Positions of the first earlier call with as many tokens, for all rows."""
    for other in earlier:
        if other.shape[-1] == p.shape[-1]:
            row = other if other.ndim == 1 + axes else other[..., 0, :]
            return np.asarray(p * 0 + row[..., None, None, :])
    return p
