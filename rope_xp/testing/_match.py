"""Measured frequencies → base and schedule: the simplest that gives all of them within their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

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
)
from rope_xp.testing._match_bands import llama3, yarn
from rope_xp.testing._measured_pairs import (
    NO_SCHEDULE,
    USUAL_BASES,
    Found,
    Pairs,
    digits_of,
    from_the_first,
    roundest,
    stretch,
    to_the_last,
)


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
    bands = (yarn, llama3) if attention_factor != 1 else (llama3, yarn)
    for candidates in (_default, _linear, _proportional, *bands, _riflex):
        try:
            found = next((each for each in candidates(pairs) if pairs.agree(*each)), None)
        except NO_SCHEDULE:  # frequencies of no schedule lead a formula out of its range
            continue
        if found is not None:
            return Match(*found, tuple(_remarks(pairs, *found)))
    return Match(None, _custom(pairs), tuple(_unmatched(pairs)))


def _custom(pairs: Pairs) -> Custom:
    return Custom(tuple(map(float, pairs.inv_freq)))


def _default(pairs: Pairs) -> Iterator[Found]:
    count, bases = from_the_first(pairs)
    if count < len(pairs.inv_freq):
        return
    if not bases or digits_of(bases[0]) <= 4:
        yield from ((base, None) for base in bases or [1e4])
        return
    for base in bases:
        yield from _ntk(pairs, base)
    yield from ((base, None) for base in bases)


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
    count, bases = to_the_last(pairs, n - 1)
    if count == n and np.all(pairs.inv_freq > 0):
        for base in bases or [1e4]:
            factor = stretch(pairs, base, slice(0, n))
            if factor > 1:
                yield base, Linear(factor)


def _proportional(pairs: Pairs) -> Iterator[Found]:
    n, turning = len(pairs.inv_freq), int(np.sum(pairs.inv_freq > 0))
    if turning == n or not np.all(pairs.inv_freq[:turning] > 0):
        return
    count, bases = to_the_last(pairs, turning - 1)
    if count == turning:
        fractions = sorted((turning / n, (turning + 0.5) / n), key=digits_of)
        for base, fraction in product(bases or [1e4], fractions):
            factor = max(1.0, stretch(pairs, base, slice(0, turning)))
            yield base, Proportional(fraction, factor)


def _riflex(pairs: Pairs) -> Iterator[Found]:
    n = len(pairs.inv_freq)
    if n < 4 or not np.all(pairs.inv_freq > 0):
        return
    for odd in range(n):
        wide = pairs.errors.copy()
        wide[odd] = 100.0  # whatever it is
        count, bases = from_the_first(pairs._replace(errors=wide))
        length, error = 0.9 * 2 * math.pi / pairs.inv_freq[odd], pairs.errors[odd]
        found = roundest(length * (1 - error), length * (1 + error))
        if count == n and digits_of(found) <= 6:
            yield from ((base, RIFLEx(odd + 1, found)) for base in bases)


def _remarks(pairs: Pairs, base: float, scaling: Schedule | None) -> Iterator[str]:
    """Other descriptions of the same frequencies, where theirs has an unusual base."""
    if base < 1:
        other = match(pairs.inv_freq[::-1], pairs.errors[::-1], pairs.rotary_dim)
        if other.scaling is None:
            yield f"the frequencies are those of base={other.base} in reverse order"
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
    count, bases = to_the_last(pairs, n - 1)
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
