"""A few positions whose values are at hand: cos and sin from NumPy, whatever library they are of.

The sixty small operations of exact phases cost more there than what they compute. One product of 64-bit
integers that wraps at one turn is the reduction; and where a product in float64 is off by less than
float32 can tell, none is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._exact_phases import require_known_reals, turns_per_step

#: As many numbers are sooner computed here than sixty operations of a library are started.
FEW = 2**12

# Angles up to here, as float64 products, are off by less than 1/32 of a float32's last bit.
_MOST_RADIANS = 2.0**24

_WRAPPING_UNIT = 2 * math.pi / 2.0**64


class HostTables(NamedTuple):
    """How far each pair turns in one step along each axis."""

    radians: tuple[np.ndarray, ...]
    # In 2⁻⁶⁴ of a turn as integers of 64 bits, whose products wrap at one turn, and the rest of
    # that in radians.
    wrapping: tuple[tuple[np.ndarray, np.ndarray], ...]
    fastest: tuple[float, ...]  # radians of the fastest pair


@lru_cache(maxsize=256)  # a memo of a pure function, keyed on all that it depends on
def _known_tables(rows: tuple[tuple[float, ...], ...]) -> HostTables:
    """The numbers of frequencies, a row for each axis."""
    wrapping = []
    for row in rows:
        turns, rests = zip(*(turns_per_step(frequency, 0, 64) for frequency in row), strict=True)
        wrapped = [(turn + 2**63) % 2**64 - 2**63 for turn in turns]
        wrapping.append((np.asarray(wrapped, np.int64), np.asarray(rests) * _WRAPPING_UNIT))
    radians = tuple(np.asarray(row, np.float64) for row in rows)
    return HostTables(radians, tuple(wrapping), tuple(max(map(abs, row)) for row in rows))


def few_cos_sin(
    positions: Array,
    inv_freq: Any,
    dtype: Dtype,
    attention_factor: float,
    xp: Namespace,
) -> tuple[Array, Array] | None:
    """cos, sin of positions, (...,) or (n_axes, ...), where they are at hand, else None."""
    values = _backends.host_values(positions)
    if values is None:
        return None
    one_axis = not isinstance(inv_freq[0], tuple)
    tables = _known_tables((inv_freq,) if one_axis else inv_freq)
    names = _backends.dtype_name(dtype), _backends.dtype_name(positions.dtype)
    wide = "float64" in names
    if names[1] in _backends.FLOATING:
        # What is behind the point must be small there, as an angle.
        if max(tables.fastest) > (1 if wide else 2**20):
            return None
        require_known_reals(positions)
    if not values.flags.c_contiguous:  # the result would have the order of their axes in memory
        values = np.ascontiguousarray(values)
    cos, sin = _cos_sin((values,) if one_axis else values, tables, wide=wide)
    if attention_factor != 1.0:
        cos, sin = cos * attention_factor, sin * attention_factor
    if values is positions:
        return cos.astype(dtype, copy=False), sin.astype(dtype, copy=False)
    if not wide:
        cos, sin = cos.astype(np.float32), sin.astype(np.float32)  # sooner than elsewhere
    cos, sin = _backends.from_host(cos, positions, xp), _backends.from_host(sin, positions, xp)
    if _backends.may_be_spread(positions):
        axes = (*range(0 if one_axis else 1, positions.ndim), None)
        cos = _backends.place("positions", positions, axes, cos=cos)
        sin = _backends.place("positions", positions, axes, sin=sin)
    return _backends.cast(cos, dtype, xp), _backends.cast(sin, dtype, xp)


def _cos_sin(
    positions: Sequence[np.ndarray], tables: HostTables, *, wide: bool
) -> tuple[np.ndarray, np.ndarray]:
    """cos, sin in float64 of the positions on each axis, with exact phases.

    Right to 1e-15; if not ``wide`` only as far as float32 can tell.
    """
    if not wide:
        most = 0.0
        for row, fastest in zip(positions, tables.fastest, strict=True):
            most += _largest(row) * fastest
        if most < _MOST_RADIANS:  # so no NaN is among them
            angle = positions[0][..., None] * tables.radians[0]
            for row, radians in zip(positions[1:], tables.radians[1:], strict=True):
                angle += row[..., None] * radians
            return np.cos(angle), np.sin(angle)
    turn: Any = None
    rest: Any = None
    turns = [radians != 0 for radians in tables.radians]
    for a, (row, radians, (per_step, residual)) in enumerate(
        zip(positions, tables.radians, tables.wrapping, strict=True)
    ):
        position = row[..., None]
        if position.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # NaN and infinity: what is left is NaN
                whole = np.rint(position)
                behind = (position - whole) * radians
                if len(turns) > 1:  # NaN only for pairs that this axis drives
                    idle = ~turns[a] & (np.any(turns, axis=0) | (a > 0))
                    behind = np.where(idle, 0.0, behind)
                position = whole.astype(np.int64)
            rest = behind if rest is None else rest + behind
        # An unsigned integer is the signed one with the same bits, but for the rest.
        product, left = position.astype(np.int64, copy=False) * per_step, position * residual
        turn = product if turn is None else turn + product
        rest = left if rest is None else rest + left
    if not wide:
        angle = turn * _WRAPPING_UNIT
        angle += rest
        return np.cos(angle), np.sin(angle)
    # The nearest quarter turn: what is within an eighth of a turn of it has more digits.
    quarter = (turn + 2**61) >> 62
    angle = (turn - (quarter << 62)) * _WRAPPING_UNIT
    angle += rest
    cos, sin = np.cos(angle), np.sin(angle)
    odd, sign = quarter & 1, 1 - (quarter & 2)
    return np.where(odd, -sin, cos) * sign, np.where(odd, cos, sin) * sign


def _largest(values: np.ndarray) -> float:
    """The largest magnitude; NaN if one value is, 0 of none."""
    if values.size == 1:  # most often: a decode step
        return abs(float(values.item()))
    return max(abs(float(values.min())), abs(float(values.max()))) if values.size else 0.0
