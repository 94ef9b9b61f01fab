"""Measured frequencies → base and schedule: the simplest that gives all of them within their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rope_xp.scaling import (
    NTK,
    Custom,
    Linear,
    Llama3,
    NTKByParts,
    Proportional,
    RIFLEx,
    Schedule,
    YaRN,
    inverse_frequencies,
)
from rope_xp.scaling._yarn import gain_of

# Bases of published models: where the measured pairs leave the base open, and for the factor of NTK.
USUAL_BASES = (1e4, 5e5, 1e6, 1e5, 5e6, 1e7, 1.5e5, 1e8, 1e3, 1e2)
_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 64.0, 128.0)
_NO_SCHEDULE = (ValueError, TypeError, ArithmeticError)

Found = tuple[float, Schedule | None]


class Match(NamedTuple):
    """What gives the frequencies.

    Parameters
    ----------
    base : float or None
        None: they follow no base.
    scaling : Schedule or None
        None: no scaling.
    remarks : tuple of str
    """

    base: float | None
    scaling: Schedule | None
    remarks: tuple[str, ...] = ()


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
    except _NO_SCHEDULE:
        return None
    return np.asarray(made.inv_freq)


def match(
    inv_freq: np.ndarray, errors: np.ndarray, rotary_dim: int, attention_factor: float = 1.0
) -> Match:
    """The simplest base and schedule that give ``inv_freq`` within twice their relative ``errors``.

    Frequencies are not negative. Those that follow nothing are `Custom`, and have no base.
    """
    pairs = Pairs(inv_freq, errors, rotary_dim, attention_factor)
    if not np.any(inv_freq):
        return Match(None, _custom(pairs), ("no pair turns",))
    # A schedule that has a factor of its own explains more than one that leaves it over.
    bands = (_yarn, _llama3) if attention_factor != 1 else (_llama3, _yarn)
    for candidates in (_default, _linear, _proportional, *bands, _riflex):
        try:
            found = next((each for each in candidates(pairs) if pairs.agree(*each)), None)
        except _NO_SCHEDULE:  # frequencies of no schedule lead a formula out of its range
            continue
        if found is not None:
            return Match(*found, tuple(_remarks(pairs, *found)))
    return Match(None, _custom(pairs), tuple(_unmatched(pairs)))


def _custom(pairs: Pairs) -> Custom:
    return Custom(tuple(map(float, pairs.inv_freq)))


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


# -- geometric lists ---------------------------------------------------------------------------------


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
    if (
        found and digits_of(found[0]) > 4
    ):  # no number that somebody chose: the middle is more precise
        return [*found[1:], found[0]]
    return found


def _from_the_first(pairs: Pairs) -> tuple[int, list[float]]:
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


def _to_the_last(pairs: Pairs, last: int) -> tuple[int, list[float]]:
    """How many pairs, up to ``last``, follow one base, whatever their factor; and bases."""
    if last < 1 or not np.all(pairs.inv_freq[: last + 1] > 0):
        return 1, []
    count, low, high = _common(*_slopes(pairs, last, range(last - 1, -1, -1)))
    bases = _bases_between(low, high)
    # The line through all of them, which the most precise pairs determine.
    run = slice(last - count, last + 1)
    x, y, weight = pairs.exponents[run], np.log(pairs.inv_freq[run]), 1 / pairs.errors[run] ** 2
    x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = -np.sum(weight * (x - x_mean) * (y - y_mean)) / np.sum(weight * (x - x_mean) ** 2)
    if abs(slope) < 700:
        bases.insert(1, math.exp(slope))
    return count + 1, bases


def _stretch(pairs: Pairs, base: float, which: slice) -> float:
    """By what the frequencies are smaller than those of the base, the roundest number."""
    own = np.exp(-pairs.exponents[which] * math.log(base))
    ratio, error = own / pairs.inv_freq[which], pairs.errors[which]
    low, high = np.max(ratio * (1 - error)), np.min(ratio * (1 + error))
    return roundest(low, high) if low <= high else float(ratio[np.argmin(error)])


# -- candidates, each a generator of (base, schedule) ----------------------------------------------------


def _default(pairs: Pairs) -> Iterator[Found]:
    count, bases = _from_the_first(pairs)
    if count < len(pairs.inv_freq):
        return
    for base in bases:
        if digits_of(base) > 4:
            yield from _ntk(pairs, base)
    yield from ((base, None) for base in bases or [1e4])


def _ntk(pairs: Pairs, base: float) -> Iterator[Found]:
    """Common bases that a factor of few digits would enlarge to ``base``."""
    width = pairs.rotary_dim
    spread = 4 * max(float(np.max(pairs.errors)), 1e-12)
    for usual in USUAL_BASES:
        if base > usual and width > 2:
            factor = (base / usual) ** ((width - 2) / width)
            found = roundest(factor * (1 - spread), factor * (1 + spread))
            if found > 1 and digits_of(found) <= 3:
                yield usual, NTK(found)


def _linear(pairs: Pairs) -> Iterator[Found]:
    n = len(pairs.inv_freq)
    count, bases = _to_the_last(pairs, n - 1)
    if count == n and np.all(pairs.inv_freq > 0):
        for base in bases or [1e4]:
            factor = _stretch(pairs, base, slice(0, n))
            if factor > 1:
                yield base, Linear(factor)


def _proportional(pairs: Pairs) -> Iterator[Found]:
    n, turning = len(pairs.inv_freq), int(np.sum(pairs.inv_freq > 0))
    if turning == n or not np.all(pairs.inv_freq[:turning] > 0):
        return
    count, bases = _to_the_last(pairs, turning - 1)
    if count == turning:
        fractions = sorted((turning / n, (turning + 0.5) / n), key=digits_of)
        for base, fraction in product(bases or [1e4], fractions):
            factor = max(1.0, _stretch(pairs, base, slice(0, turning)))
            yield base, Proportional(fraction, factor)


def _riflex(pairs: Pairs) -> Iterator[Found]:
    n = len(pairs.inv_freq)
    if n < 4 or not np.all(pairs.inv_freq > 0):
        return
    for odd in range(n):
        wide = pairs.errors.copy()
        wide[odd] = 100.0  # whatever it is
        count, bases = _from_the_first(pairs._replace(errors=wide))
        length, error = 0.9 * 2 * math.pi / pairs.inv_freq[odd], pairs.errors[odd]
        found = roundest(length * (1 - error), length * (1 + error))
        if count == n and digits_of(found) <= 6:
            yield from ((base, RIFLEx(odd + 1, found)) for base in bases)


def _bases(pairs: Pairs) -> list[float]:
    """Bases that the fastest pairs allow, or the slowest, or else usual ones."""
    n, found = len(pairs.inv_freq), []
    if not np.all(pairs.inv_freq > 0) or n < 2:
        return []
    for count, bases in (_from_the_first(pairs), _to_the_last(pairs, n - 1)):
        found += [base for base in bases if count >= 2 and base > 1]
    return [*dict.fromkeys([*found, *USUAL_BASES])]


class _Bands(NamedTuple):
    """Fast pairs unchanged, slow ones divided by ``factor``, others between: how much each keeps."""

    base: float
    factor: float
    keep: np.ndarray
    own: np.ndarray
    blended: np.ndarray
    unchanged: int


def _bands(pairs: Pairs) -> Iterator[_Bands]:
    slow = max(1, _to_the_last(pairs, len(pairs.inv_freq) - 1)[0])
    for base in _bases(pairs):
        own = np.exp(-pairs.exponents * math.log(base))
        ratio = pairs.inv_freq / own
        if np.max(ratio * (1 - 4 * pairs.errors)) > 1 or ratio[-1] > 1 - 8 * pairs.errors[-1]:
            continue
        for factor in _stretches(pairs, own, ratio, slow):
            keep = (ratio - 1 / factor) / (1 - 1 / factor)
            blur = 8 * pairs.errors / (1 - 1 / factor) + 1e-10
            if np.all(keep >= -blur):
                blended = np.flatnonzero((keep > blur) & (keep < 1 - blur))
                unchanged = int(np.sum(np.cumprod(keep >= 1 - blur)))
                if np.all(np.diff(keep) <= blur[1:] + blur[:-1]):
                    yield _Bands(base, factor, keep, own, blended, unchanged)


def _stretches(pairs: Pairs, own: np.ndarray, ratio: np.ndarray, slow: int) -> list[float]:
    """Factors that the last pair, or the ``slow`` last, allow; larger ones, where these may be blended."""
    error = 2 * pairs.errors[-1]
    least = roundest((1 - error) / ratio[-1], (1 + error) / ratio[-1])
    others = list(_FACTORS)
    if pairs.attention_factor > 1:  # YaRN's default is 0.1 ln(factor) + 1
        gain = 10 * (pairs.attention_factor - 1)
        if gain < 20:
            spread = 20 * 2.0**-22
            others.insert(0, roundest(math.exp(gain - spread), math.exp(gain + spread)))
    if len(own) > 1:  # Llama 3's line, with low_freq_factor 1 and high_freq_factor 4
        slope = (ratio[-2] - ratio[-1]) / (own[-2] - own[-1])
        start = ratio[-1] - slope * own[-1] + 1 / 3
        if start > 0:
            middle = 4 / 3 / start
            spread = 20 * float(np.max(pairs.errors)) * middle / min(1.0, start)
            others.insert(0, roundest(middle * (1 - spread), middle * (1 + spread)))
    middle = 1 / float(np.median(ratio[-slow:]))
    return [*dict.fromkeys([least, middle, *(f for f in others if f > least)])]


def _llama3(pairs: Pairs) -> Iterator[Found]:
    for bands in _bands(pairs):
        base, factor, keep, own, blended, unchanged = bands
        turn = 2 * math.pi / own
        if len(blended) >= 2:
            first, last = blended[0], blended[-1]
            slope = (keep[first] - keep[last]) / (own[first] - own[last])
            start = keep[last] - slope * own[last]
            lengths = [2 * math.pi * 3 * slope]
            yield from _llama3_of(base, factor, (1.0, 4.0), lengths)
            if start < 0:
                width = -1 / start
                blur = 1e3 * float(np.max(pairs.errors))
                high = roundest((1 + width) * (1 - blur), (1 + width) * (1 + blur))
                for each in (high, 1 + width) if len(blended) > 2 else (high,):
                    length = 2 * math.pi * slope * (each - 1)
                    yield from _llama3_of(base, factor, (1.0, each), [length])
                low = 8192 * -start / (2 * math.pi * slope)
                high = 8192 * (1 - start) / (2 * math.pi * slope)
                if len(blended) > 2:  # else two numbers would be made of two
                    yield from _llama3_of(base, factor, (low, high), [8192])
        elif len(blended) == 1:
            i = blended[0]
            yield from _llama3_of(base, factor, (1.0, 4.0), [turn[i] * (3 * keep[i] + 1)])
        elif 0 < unchanged < len(own):
            least, most = turn[unchanged - 1], turn[unchanged]
            for high in (4.0, 1.0):
                length = round_length(high * least * (1 + 1e-9), most)
                yield from _llama3_of(base, factor, (1.0, high), [length] if length else [])


def _llama3_of(
    base: float, factor: float, bounds: tuple[float, float], lengths: list[Any]
) -> Iterator[Found]:
    low, high = bounds
    for length in lengths:
        if 2 <= round(length) < 2**40 and 0 < low <= high and factor >= 1:
            yield base, Llama3(factor, low, high, round(length))


def _yarn(pairs: Pairs) -> Iterator[Found]:
    width = pairs.rotary_dim
    for bands in _bands(pairs):
        base, factor, keep, own, blended, unchanged = bands
        along = 1 - keep
        ends: list[tuple[float, float]] = []
        if len(blended) >= 2:
            i, j = blended[0], blended[-1]
            slope = (along[j] - along[i]) / (j - i)
            ends.append((i - along[i] / slope, i + (1 - along[i]) / slope))
        elif len(blended) == 1:
            i = int(blended[0])
            blur = 64 * pairs.errors[i] / (1 - 1 / factor) + 1e-9
            ends += [
                (first, last)
                for first in range(i)
                for last in range(i + 1, width)
                if abs((i - first) / (last - first) - along[i]) <= blur
            ]
            whole = width * math.log(32) / (2 * math.log(base))
            ends.append((i - along[i] * whole, i + (1 - along[i]) * whole))
        elif 0 < unchanged < len(own):
            ends.append((unchanged - 1, unchanged))
        # Defaults are simplest; ends that no defaults give come after all that some do.
        for is_default in (True, False):
            for first, last in ends:
                for fields in _ramps(first, last, width, base, is_default=is_default):
                    yield base, _with_factor(pairs, factor, fields)


def _ramps(
    first: float, last: float, width: int, base: float, *, is_default: bool
) -> Iterator[dict[str, Any]]:
    """Lengths and turns whose ramp has these ends.

    They determine length / beta_fast and length / beta_slow only: the length is the roundest.
    """

    def length(pair: float, turns: float = 1.0) -> float:
        return 2 * math.pi * turns * math.exp(min(600.0, pair * 2 * math.log(base) / width))

    if not (math.isfinite(first) and math.isfinite(last)):
        return
    whole = round(first), round(last)
    if max(abs(first - whole[0]), abs(last - whole[1])) < 1e-3 and whole[0] < whole[1]:
        low, high = whole
        slow = length(high - 1), length(high) if high < width - 1 else math.inf
        low_turns = length(low) if low > 0 else 0.0
        if is_default:
            found = round_length(
                max(32 * low_turns, slow[0] * (1 + 1e-12)),
                min(length(low + 1, 32), slow[1] * (1 + 1e-12), 2.0**40),
            )
            if found is not None:
                yield {"original_max_position_embeddings": found}
        else:
            found = round_length(slow[0] * (1 + 1e-12), min(slow[1], 2.0**40))
            if found is not None:
                least = max(found / length(low + 1) * (1 + 1e-12), 1.0)
                most = found / low_turns if low > 0 else max(32.0, 2 * least)
                if least <= most:
                    fast = roundest(least, most)
                    yield {"original_max_position_embeddings": found, "beta_fast": fast}
    if last - first < 1e-6:
        return
    slow_length, fast_turns = length(last), length(last) / length(max(first, 0.0))
    made = {"original_max_position_embeddings": round(slow_length), "truncate": False}
    if not 2 <= slow_length < 2**40:
        return
    if is_default:
        yield made
    else:
        yield {**made, "beta_fast": roundest(fast_turns * (1 - 1e-6), fast_turns * (1 + 1e-6))}
        fixed = 4096
        yield {
            "original_max_position_embeddings": fixed,
            "truncate": False,
            "beta_fast": fixed / length(max(first, 0.0)),
            "beta_slow": fixed / length(last),
        }


def _with_factor(pairs: Pairs, factor: float, fields: dict[str, Any]) -> Schedule | None:
    own = pairs.attention_factor
    try:
        if math.isclose(own, gain_of(factor, 1.0), rel_tol=1e-6):
            return YaRN(factor, **fields)
        if own == 1:
            return NTKByParts(factor, **fields)
        return YaRN(factor, **fields, attention_factor=own)
    except _NO_SCHEDULE:
        return None


# -- what else gives the same -------------------------------------------------------------------------


def _remarks(pairs: Pairs, base: float, scaling: Schedule | None) -> Iterator[str]:
    """Other descriptions of the same frequencies, where theirs has an unusual base."""
    if len(pairs.inv_freq) == 1:
        yield "the base is open: a single pair turns by 1 whatever it is"
    elif isinstance(scaling, NTK):
        larger = base * scaling.factor ** (pairs.rotary_dim / (pairs.rotary_dim - 2))
        yield f"the same as base={larger:.6g} without scaling"
    elif isinstance(scaling, YaRN | NTKByParts | Llama3):
        yield (
            "of original_max_position_embeddings and the turns or factors beside it, the frequencies "
            "give the quotients only: they are the roundest that fit"
        )


def _unmatched(pairs: Pairs) -> Iterator[str]:
    n = len(pairs.inv_freq)
    if not np.all(pairs.inv_freq > 0) or n < 3:
        return
    count, bases = _to_the_last(pairs, n - 1)
    if count == n:
        first = pairs.inv_freq[0]
        yield f"all frequencies are {first:.9g} times those of base={bases[0]:.9g}"


def exponent_mistakes(base: float, rotary_dim: int, head_dim: int) -> Iterator[str]:
    """Exponents other than 2i/rotary_dim that give the frequencies of ``base`` from a usual base."""
    forms = [("i/rotary_dim", 2.0), ("4i/rotary_dim", 0.5)]
    if rotary_dim > 2:
        forms += [("2i/(rotary_dim - 2)", (rotary_dim - 2) / rotary_dim)]
    if rotary_dim != head_dim:
        forms = [(f"2i/head_dim, head_dim={head_dim},", head_dim / rotary_dim), *forms]
    for form, power in forms:
        for usual in USUAL_BASES[:7]:
            if math.isclose(power * math.log(base), math.log(usual), rel_tol=1e-7):
                yield f"the same frequencies as base={usual} with exponents {form} instead of 2i/rotary_dim"
