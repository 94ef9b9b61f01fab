"""Frequencies of a length that torch traces: data of the program, where other schedules are constants.

The program calls the host for them when it runs, so one program serves every length.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype
from rope_xp._exact_phases import steps_per_digit, units_per_step
from rope_xp._validation import as_frequencies, as_int
from rope_xp.scaling import DynamicNTK, Frequencies


class AtLength(NamedTuple):
    """Frequencies that are data of a program of torch's: those of a length that changes."""

    schedule: str  # a `DynamicNTK` and its arguments, as `rows_at_length` reads them
    seq_len: Any
    n_pairs: int


def schedule_text(rope: Any) -> str:
    """A schedule with other frequencies at every length as text, a constant to torch; "" for others."""
    made = rope.scaling
    if type(made) is not DynamicNTK or rope.axes is not None or rope.base < 1:
        return ""
    fields = (made.factor, made.max_position_embeddings, rope.rotary_dim, rope.base)
    return " ".join((*map(repr, fields), rope.precision))


def frequencies_at_length(schedule: str, seq_len: Any, n_pairs: int) -> Frequencies | None:
    """None where frequencies are constants."""
    if seq_len is None or not schedule or not _backends.is_compiling():
        return None
    at: Any = AtLength(schedule, as_int("seq_len", seq_len), n_pairs)
    return Frequencies(at)


def arrays_at_length(
    at: AtLength, exponents: tuple[int, ...], dtype: Dtype, positions: Array
) -> tuple[list[tuple[Array, ...]], Array, Array]:
    """`digit_tables`, `units_per_step` and the frequencies, where these are data."""
    device = _backends.device(positions)
    integers, reals = _backends.rows_at_length(*at, exponents, dtype, device)
    n = len(exponents)
    return [(integers[i], integers[n + i], reals[i]) for i in range(n)], reals[n], reals[n + 1]


@lru_cache(maxsize=256)  # every layer asks for the same
def rows_at_length(
    schedule: str, seq_len: int, exponents: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """What `arrays_at_length` needs of a ``schedule``: rows of int32 and of float64.

    torch's programs call it when they run.
    """
    factor, length, rotary_dim, base, precision = schedule.split()
    made = DynamicNTK(float(factor), int(length))(
        int(rotary_dim), float(base), seq_len=seq_len, precision=precision
    )
    row = as_frequencies("inv_freq", made.inv_freq)
    uppers, lowers, rests = zip(*steps_per_digit(row, exponents), strict=True)
    reals = [*rests, units_per_step(row, exponents[0]), row]
    return np.asarray([*uppers, *lowers], np.int32), np.asarray(reals, np.float64)


_backends.register_rows_at_length(rows_at_length)
