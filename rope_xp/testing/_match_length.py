"""Frequencies that change with the length of a call → the schedule that follows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rope_xp.scaling import DynamicNTK, LongRoPE, Schedule, SteppedNTK
from rope_xp.testing._angles import Longer
from rope_xp.testing._measured_pairs import NO_SCHEDULE, frequencies_of, roundest

_ERROR = 2.0**-21  # of frequencies from positions 0 to 13


def match_length(
    base: float | None, own: np.ndarray, longer: Sequence[Longer], attention_factor: float
) -> Schedule | None:
    """The schedule that gives ``own`` (n_pairs,) up to a length and ``longer`` beyond; or None."""
    width, base = 2 * len(own), 1e4 if base is None else base
    plain = frequencies_of(None, width, base)
    if plain is None or not all(np.all(w > 0) for w in (own, *(each.inv_freq for each in longer))):
        return None
    at = [(None, own, attention_factor), *((e.length, e.inv_freq, e.factor) for e in longer)]
    try:
        stepped = SteppedNTK(longer[0].original)
        candidates = (stepped, _dynamic(base, width, longer[0]), _long(plain, at, longer[0]))
        for schedule in candidates:
            made = [schedule(width, base, seq_len=n, precision="exact") for n, _, _ in at]
            if all(
                np.allclose(found.inv_freq, inv_freq, rtol=4 * _ERROR, atol=0)
                and math.isclose(found.attention_factor, factor, rel_tol=1e-5)
                for found, (_, inv_freq, factor) in zip(made, at, strict=True)
            ):
                return schedule
    except NO_SCHEDULE:
        pass
    return None


def _dynamic(base: float, width: int, longer: Longer) -> Schedule:
    # By what the last pair is slower, s n / n₀ − (s − 1).
    stretch = base ** (2 / width - 1) / float(longer.inv_freq[-1])
    factor = (stretch - 1) / (longer.length / longer.original - 1)
    error = 4 * _ERROR * stretch / max(abs(stretch - 1), _ERROR)
    return DynamicNTK(
        max(1.0, roundest(factor * (1 - error), factor * (1 + error))), longer.original
    )


def _long(plain: np.ndarray, at: Sequence[Any], longer: Longer) -> Schedule:
    def divisors(inv_freq: np.ndarray) -> tuple[float, ...]:
        ratio = plain / inv_freq
        return tuple(roundest(r * (1 - _ERROR), r * (1 + _ERROR)) for r in ratio.tolist())

    (_, own, factor), _, _ = at
    lists = divisors(own), divisors(longer.inv_freq), longer.original
    if math.isclose(factor, longer.factor, rel_tol=1e-6):
        return LongRoPE(*lists, attention_factor=factor)
    return LongRoPE(*lists, short_mscale=factor, long_mscale=longer.factor)
