"""Schedules that leave fast pairs as they are and slow the others: Llama 3's bands and YaRN's ramp."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rope_xp.scaling import Llama3, NTKByParts, Schedule, YaRN
from rope_xp.scaling._yarn import gain_of
from rope_xp.testing._measured_pairs import (
    NO_SCHEDULE,
    USUAL_BASES,
    Found,
    Pairs,
    from_the_first,
    round_length,
    roundest,
    to_the_last,
)

# To be tried where the slowest pair may be blended itself.
_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 64.0, 128.0)


def _bases(pairs: Pairs) -> list[float]:
    """Bases that the fastest pairs allow, or the slowest, or else usual ones."""
    n, found = len(pairs.inv_freq), []
    if not np.all(pairs.inv_freq > 0) or n < 2:
        return []
    for count, bases in (from_the_first(pairs), to_the_last(pairs, n - 1)):
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
    slow = max(1, to_the_last(pairs, len(pairs.inv_freq) - 1)[0])
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


def llama3(pairs: Pairs) -> Iterator[Found]:
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


def yarn(pairs: Pairs) -> Iterator[Found]:
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
    except NO_SCHEDULE:
        return None
