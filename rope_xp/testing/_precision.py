"""How angles are rounded: the simplest rounding that gives all angles that were measured."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from rope_xp.testing._angles import Turns, wrap
from rope_xp.testing._rounding import EPS, NARROW, ROUNDING, angle_roundings, rounded

# Of what is measured through float32 x, a few of its last places.
_READING = 16 * EPS
_PARTS = ("positions", "frequencies", "angles")


class Precision(NamedTuple):
    """The name of a rounding, the largest error of an angle, in radians, and if no rounding makes it."""

    name: str
    error: float
    is_wrong: bool = False


def narrow_dtype(values: np.ndarray) -> str | None:
    """The narrow dtype that all ``values`` have been in, if they are not all 0 and ±1."""
    values = np.abs(values[np.isfinite(values)])
    if np.unique(values).size < 8:
        return None
    return next((name for name in NARROW if np.all(rounded(values, name) == values)), None)


def float32_bound(positions: np.ndarray, inv_freq: np.ndarray) -> np.ndarray:
    """What float32 positions, frequencies and products are off by, `angle_roundings` of each."""
    size = np.abs(inv_freq)
    bound: np.ndarray = np.abs(positions)[:, None] * size * EPS * angle_roundings(size)
    return bound


def classify(turns: Turns, start: np.ndarray, inv_freq: np.ndarray, factor: float) -> Precision:
    """What rounding gives the angles of ``turns``, for frequencies as they should be."""
    positions, angles = turns.positions, turns.angles - start
    ideal = positions[:, None] * inv_freq
    error = np.abs(wrap(angles - ideal))
    largest = float(np.max(error))
    tables = narrow_dtype(turns.first_first) or narrow_dtype(turns.first_first / factor)
    slack = np.full_like(ideal, _READING)
    if tables:  # a rounded cos and a rounded sin
        slack += 1.2 * ROUNDING[tables] * np.abs(np.sin(2 * turns.angles)) + ROUNDING[tables] ** 2
        slack += 1.2 * ROUNDING[tables] * np.abs(np.sin(2 * start))
    if np.all(error <= slack):
        return Precision(f"{tables} tables" if tables else "exact", largest)
    single = 2 * float32_bound(positions, inv_freq) + slack
    if np.all(error <= single):
        return Precision(f"{tables} tables" if tables else "float32", largest)
    for dtype in NARROW:
        for rounds in sorted(product((False, True), repeat=3), key=sum):
            made = _rounded_angles(rounds, dtype, positions, inv_freq)
            # All but a few, of which the rounding is decided by what float32 is off by.
            known = np.isfinite(made)
            off = np.abs(wrap(np.where(known, angles - np.where(known, made, 0.0), 0.0)))
            if any(rounds) and np.mean(off <= single) > 0.97:
                return Precision(_name(rounds, dtype, tables), largest)
    relative = float(np.max(error / (np.abs(ideal) + 1)))
    name = f"angles within {relative:.1g} of their size"
    return Precision(name, largest, is_wrong=relative > 2.0**-6)


def _rounded_angles(
    rounds: tuple[bool, ...], dtype: str, positions: np.ndarray, inv_freq: np.ndarray
) -> np.ndarray:
    """Positions times frequencies, of which these are rounded, and the product, if that is."""
    parts = [
        rounded(part, dtype) if is_rounded else part
        for part, is_rounded in zip((positions, inv_freq), rounds[:2], strict=True)
    ]
    made = parts[0][:, None] * parts[1]
    return rounded(made, dtype) if rounds[2] else made


def _name(rounds: tuple[bool, ...], dtype: str, tables: str | None) -> str:
    # Where angles are rounded, what they are a product of hardly matters.
    parts = ["angles"] if rounds[2] else [p for p, used in zip(_PARTS, rounds, strict=True) if used]
    name = f"{dtype} {' and '.join(parts)}"
    return f"{name}, {tables} tables" if tables else name
