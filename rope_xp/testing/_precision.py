"""How angles are rounded: the simplest rounding that gives all angles that were measured."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from rope_xp.testing._measure import EPS, Turns, wrap

#: What rounding to the dtype changes, relative.
UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
# Of what is measured through float32 x, a few of its last places.
_READING = 16 * EPS
_PARTS = ("positions", "frequencies", "angles")


class Precision(NamedTuple):
    """The name of a rounding, the largest error of an angle, in radians, and if no rounding makes it."""

    name: str
    error: float
    is_wrong: bool = False


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float64 ``values`` as the nearest numbers of a narrow dtype, by way of float32."""
    single = np.asarray(values, dtype=np.float64).astype(np.float32)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return single.astype(np.float16).astype(np.float64)
    bits = single.view(np.uint32)
    kept = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    return kept.view(np.float32).astype(np.float64)


def narrow_dtype(values: np.ndarray) -> str | None:
    """The narrow dtype that all ``values`` have been in, if they are not all 0 and ±1."""
    values = np.abs(values[np.isfinite(values)])
    if np.unique(values).size < 8:
        return None
    return next((name for name in UNITS if np.all(rounded(values, name) == values)), None)


def float32_bound(positions: np.ndarray, inv_freq: np.ndarray) -> np.ndarray:
    """|p θ| 2⁻²⁴ (4 + |ln θ|): what float32 positions, frequencies and products are off by."""
    size = np.abs(inv_freq)
    logs = np.abs(np.log(np.where(size > 0, size, 1.0)))
    bound: np.ndarray = np.abs(positions)[:, None] * size * EPS * (4 + logs)
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
        slack += 1.2 * UNITS[tables] * np.abs(np.sin(2 * turns.angles)) + UNITS[tables] ** 2
        slack += 1.2 * UNITS[tables] * np.abs(np.sin(2 * start))
    if np.all(error <= slack):
        return Precision(f"{tables} tables" if tables else "exact", largest)
    single = 2 * float32_bound(positions, inv_freq) + slack
    if np.all(error <= single):
        return Precision(f"{tables} tables" if tables else "float32", largest)
    for dtype in UNITS:
        for rounds in sorted(product((False, True), repeat=3), key=sum):
            if any(rounds) and _explains(rounds, dtype, positions, inv_freq, angles, single):
                return Precision(_name(rounds, dtype, tables), largest)
    relative = float(np.max(error / (np.abs(ideal) + 1)))
    name = f"angles within {relative:.1g} of their size"
    return Precision(name, largest, is_wrong=relative > 2.0**-6)


def _explains(
    rounds: tuple[bool, ...],
    dtype: str,
    positions: np.ndarray,
    inv_freq: np.ndarray,
    angles: np.ndarray,
    bound: np.ndarray,
) -> bool:
    """Whether rounding these parts to ``dtype`` gives all angles but a few, which it rounds otherwise."""
    at, steps = positions, inv_freq
    if rounds[0]:
        at = rounded(at, dtype)
    if rounds[1]:
        steps = rounded(steps, dtype)
    made = at[:, None] * steps
    if rounds[2]:
        made = rounded(made, dtype)
    known = np.isfinite(made)
    off = np.abs(wrap(np.where(known, angles - np.where(known, made, 0.0), 0.0)))
    return bool(np.mean(off <= bound) > 0.97)


def _name(rounds: tuple[bool, ...], dtype: str, tables: str | None) -> str:
    # Where angles are rounded, what they are a product of hardly matters.
    parts = ["angles"] if rounds[2] else [p for p, used in zip(_PARTS, rounds, strict=True) if used]
    name = f"{dtype} {' and '.join(parts)}"
    return f"{name}, {tables} tables" if tables else name
