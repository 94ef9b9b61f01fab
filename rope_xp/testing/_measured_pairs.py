"""Frequencies as they were measured, and the bases that geometric parts of a list allow."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rope_xp.scaling import Schedule, inverse_frequencies

#: Bases of published models.
USUAL_BASES = (1e4, 5e5, 1e6, 1e5, 5e6, 1e7, 1.5e5, 1e8, 1e3, 1e2)
#: What a formula raises where there is no such schedule.
NO_SCHEDULE = (ValueError, TypeError, ArithmeticError)

Found = tuple[float, Schedule | None]


class Pairs(NamedTuple):
    """Frequencies and what they can be wrong by, and the exponents that the definition gives them.

    Parameters
    ----------
    inv_freq, errors : numpy.ndarray of float64, shape (n_pairs,)
        Not negative; errors are relative.
    rotary_dim : int
    attention_factor : float
    """

    inv_freq: np.ndarray
    errors: np.ndarray
    rotary_dim: int
    attention_factor: float

    @property
    def exponents(self) -> np.ndarray:
        return 2 * np.arange(len(self.inv_freq)) / self.rotary_dim

    def agree(self, base: float, scaling: Schedule | None) -> bool:
        """Whether the schedule gives all of them."""
        found = frequencies_of(scaling, self.rotary_dim, base)
        if found is None:
            return False
        bound = 2 * self.errors * np.abs(self.inv_freq)
        return bool(np.all(np.abs(found - self.inv_freq) <= bound))


def frequencies_of(scaling: Schedule | None, rotary_dim: int, base: float) -> np.ndarray | None:
    """What a schedule gives within the original context; None where it does not exist."""
    try:
        if scaling is None:
            return np.asarray(inverse_frequencies(rotary_dim, base))
        made = scaling(rotary_dim, base, seq_len=None, precision="exact")
    except NO_SCHEDULE:
        return None
    return np.asarray(made.inv_freq)


def roundest(low: float, high: float) -> float:
    """The number between ``low`` and ``high`` with the fewest digits."""
    middle = low + (high - low) / 2
    for digits in range(17):
        found = float(f"{middle:.{digits}e}")
        if low <= found <= high:
            return found
    return middle


def round_length(low: float, high: float) -> int | None:
    """The roundest length in [``low``, ``high``): a power of two if there is one."""
    low = max(low, 2.0)
    if not low < high:
        return None
    power = 2 ** math.ceil(math.log2(low))
    if power < high and power <= 2**40:
        return int(power)
    found = roundest(low, high)
    found = found if found == int(found) else math.ceil(low)
    return int(found) if low <= found < high else None


def digits_of(value: float) -> int:
    """How many significant digits a number has."""
    return next(n for n in range(1, 18) if float(f"{value:.{n - 1}e}") == value or n == 17)


def _slopes(pairs: Pairs, first: int, others: Any) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``others`` the least and the largest ln base that it and pair ``first`` allow."""
    others = np.asarray(others)
    x, y = pairs.exponents, np.log(np.where(pairs.inv_freq > 0, pairs.inv_freq, 1.0))
    error = pairs.errors[others] + pairs.errors[first]
    steps = x[others] - x[first]
    slope = (y[first] - y[others]) / steps
    return slope - error / np.abs(steps), slope + error / np.abs(steps)


def _common(low: np.ndarray, high: np.ndarray) -> tuple[int, float, float]:
    """How many of the intervals, from the first on, have a number in common; and these numbers."""
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
    count = int(np.sum(low <= high))
    return count, float(low[count - 1]), float(high[count - 1])


def _bases_between(low: float, high: float) -> list[float]:
    """Numbers that an interval of ln base allows: the roundest, and those in its middle."""
    found = []
    for part in (1.0, 0.25, 0.0):
        middle, half = (low + high) / 2, part * (high - low) / 2
        try:
            base = roundest(math.exp(middle - half), math.exp(middle + half))
        except OverflowError:
            continue
        if 0 < base < math.inf and base not in found:
            found.append(base)
    is_whole = bool(found) and found[0] == int(found[0]) and (high - low) * found[0] < 0.1
    if (
        found and digits_of(found[0]) > 4 and not is_whole
    ):  # no number that somebody chose: the middle is more precise
        return [*found[1:], found[0]]
    return found


def from_the_first(pairs: Pairs) -> tuple[int, list[float]]:
    """How many pairs, from the first on, are those of a base without scaling; and bases."""
    n = int(np.sum(np.cumprod(pairs.inv_freq > 0)))
    if not n or abs(math.log(pairs.inv_freq[0])) > 2 * pairs.errors[0]:
        return 0, []
    if n == 1:
        return 1, []
    exact = pairs._replace(
        inv_freq=np.concatenate([[1.0], pairs.inv_freq[1:n]]),
        errors=np.concatenate([[0.0], pairs.errors[1:n]]),
    )
    count, low, high = _common(*_slopes(exact, 0, range(1, n)))
    return count + 1, _bases_between(low, high)


def base_of(inv_freq: np.ndarray, error: float) -> float | None:
    """The roundest base that gives frequencies within a relative error; None: they follow none."""
    n = len(inv_freq)
    count, bases = from_the_first(Pairs(inv_freq, np.full(n, error), 2 * n, 1.0))
    return bases[0] if count == n > 1 else None


def to_the_last(pairs: Pairs, last: int) -> tuple[int, list[float]]:
    """How many pairs, up to ``last``, follow one base, whatever their factor; and bases."""
    if last < 1 or not np.all(pairs.inv_freq[: last + 1] > 0):
        return 1, []
    count, low, high = _common(*_slopes(pairs, last, range(last - 1, -1, -1)))
    return count + 1, _bases_between(low, high)


def stretch(pairs: Pairs, base: float, which: slice) -> float:
    """By what the frequencies are smaller than those of the base, the roundest number."""
    own = np.exp(-pairs.exponents[which] * math.log(base))
    ratio, error = own / pairs.inv_freq[which], pairs.errors[which]
    low, high = np.max(ratio * (1 - error)), np.min(ratio * (1 + error))
    return roundest(low, high) if low <= high else float(ratio[np.argmin(error)])
