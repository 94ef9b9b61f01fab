r"""Exact phases: cos and sin of positions times float frequencies, in fixed-point arithmetic.

An angle :math:`m\theta` is needed modulo one turn, and that reduction is where precision is lost:
at position one million a float32 angle has an ulp of 0.06. Integers have no such trouble. With the
position as digits of 16 bits, and what each pair turns in one step of a digit as a fixed-point
fraction of a turn, products of small integers give the angle in units of 2⁻³⁰ of a turn, and masking
bits *is* the reduction. What is finer than the unit is carried beside it as a small float. Real
positions have digits behind the point as well, and what is left of them is such a small float: it
carries their gradient. Nothing here needs an integer of 64 bits or a float of more precision than the
result, and no product overflows: C++ that torch generates takes signed overflow for impossible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace

Constants = Callable[[Any, Dtype], Array]  # values and dtype → array on the positions' device
Step = tuple[list[int], list[int], list[float]]  # upper 15 bits, lower 15 bits, residual; per pair

#: Real positions beyond have no exact phases where their values are not at hand: they give NaN.
REAL_LIMIT = 2.0**31

# floor(2**512 / 2π): in a product with a double below 2**128 and a digit of 64 bits, the fraction of a
# turn is right to 2**-200.
_TURNS_PER_RADIAN = int(
    "28be60db9391054a7f09d5f47d4d377036d8a5664f10e4107f9458eaf7aef158"
    "6dc91b8e909374b801924bba827464873f877ac72c4a69cfba208d7d4baed121",
    16,
)
_TURN_BITS = 512

# Radians in 2**-30 of a turn, as 12 leading bits and the rest: products of the leading bits with
# 12-bit integers are exact in float32.
_UNIT = 2 * math.pi / 2**30
_UNIT_HIGH = 0xC91 / 2**39
_UNIT_LOW = -1.659413838155854e-14  # 2π/2**30 − _UNIT_HIGH, from 2π in full

_FACTORIALS = tuple(math.factorial(n) for n in range(20))


def exact_cos_sin(
    digits: list[tuple[Array, tuple[Array, ...]]],
    remainders: list[tuple[Array, Array]],
    dtype: Dtype,
    xp: Namespace,
) -> tuple[Array, Array]:
    """cos, sin of the true sum of products of positions and frequencies, rounded as if once.

    ``digits`` has each digit of each position, (..., 1) or (..., n_pairs), with its three rows of
    `digit_tables`; ``remainders`` what is left of real positions, with units per step.

    What was made here is worked on in place: a third less time on NumPy, which looks for new memory
    at every step. Where gradients flow, from ``rest`` on, nothing changes that they need.
    """
    # The sum modulo one turn, (..., n_pairs): in units of 2⁻³⁰ of a turn, and the rest of a unit.
    (first, (upper, lower, residual)), *further = digits
    turn = first * upper  # within ±2**29, as each of these products
    rest = xp.astype(first, dtype) * residual  # within ±2**14
    for i, (digit, (upper, _, _)) in enumerate(further):
        if i % 2:
            turn = _and(turn, 0x7FFF)
        turn += digit * upper
    turn = _and(turn, 0x7FFF)
    turn *= 0x8000
    turn += first * lower
    for i, (digit, (_, lower, residual)) in enumerate(further):
        if i % 2:
            turn = _and(turn, 0x3FFF_FFFF)  # no sum reaches 2**31
        turn += digit * lower
        rest += xp.astype(digit, dtype) * residual
    turn = _and(turn, 0x3FFF_FFFF)
    for remainder, units in remainders:
        rest = rest + _backends.cast(remainder, dtype, xp) * units  # within ±2**15

    # The nearest quarter turn, and what is within ±1/8 of a turn of it as 12 bits and 15 finer.
    turn += 0x800_0000
    quarter = turn >> 28  # 0 … 4
    turn = _and(turn, 0xFFF_FFFF)
    turn += 0x4000
    coarse = turn & -0x8000
    coarse -= 0x800_0000
    coarse = xp.astype(coarse, dtype)
    turn = _and(turn, 0x7FFF)
    turn -= 0x4000
    rest += xp.astype(turn, dtype)

    # To radians, rounded once.
    rest *= _UNIT
    rest += coarse * _UNIT_LOW
    angle = coarse * _UNIT_HIGH
    angle += rest

    # cos and sin of what is within, by their series: torch's compiled ones are off by 1.2e-7.
    square = angle * angle
    cos = _series(square, 0, dtype)
    cos *= square
    cos += 1
    sin = _series(square, 1, dtype)
    if remainders:  # gradients need the square
        sin *= square * angle
    else:
        square *= angle
        sin *= square
    sin += angle

    # Quarters turn the two: even is their cosine, odd minus their sine. `where` is slow on NumPy.
    sign = quarter & 2
    sign -= 1
    quarter = _and(quarter, 1)
    quarter *= sign
    odd = xp.astype(quarter, dtype)
    quarter -= sign
    even = xp.astype(quarter, dtype)
    swapped = cos * odd
    cos *= even
    if remainders:
        cos += odd * sin
    else:
        odd *= sin
        cos += odd
    sin *= even
    sin -= swapped
    return cos, sin


def _and(integers: Array, mask: int) -> Array:
    """``integers & mask``, in place on NumPy: torch.func.functionalize does not know that of torch."""
    if isinstance(integers, np.ndarray):
        integers &= mask
        return integers
    return integers & mask


def _series(square: Array, odd: int, dtype: Dtype) -> Array:
    """Σ (−1)^k square^(k−1) / (2k + odd)! from k = 1, Horner's way.

    ``1 + square · series`` is cos and ``angle + angle · square · series`` is sin. Within an eighth
    of a turn, what is left out is below 1/50 of the last bit.
    """
    terms = 9 if _backends.dtype_name(dtype) == "float64" else 5
    first, second, *rest = ((-1) ** k / _FACTORIALS[2 * k + odd] for k in range(terms, 0, -1))
    total = square * first
    total += second
    for coefficient in rest:
        total *= square
        total += coefficient
    return total


# -- positions as digits ---------------------------------------------------------------------------


def digit_exponents(positions: Array, fastest: float) -> tuple[int, ...]:
    """The digits that positions have: digit d at exponent e is d · 2^e.

    As many as their dtype can need, or fewer where their values are at hand and need fewer. Real
    positions have digits behind the point, more of them if a pair is fast: ``fastest`` is the largest
    frequency. ValueError for real positions that are known to be too large.
    """
    name = _backends.dtype_name(positions.dtype)
    if _backends.is_integer(positions):
        if "64" not in name and name != "uint32":
            return (0, 16)
        values = _backends.host_values(positions)
        if values is not None and _within_int32(values):
            return (0, 16)
        signed = range(0, 32 if name == "uint32" else 64, 16)
        return (*signed, signed.stop) if name.startswith("u") else tuple(signed)
    ordinary = require_known_reals(positions) <= REAL_LIMIT
    whole = range(0, 32 if ordinary else 64, 16)
    behind = max(1, math.ceil((math.log2(fastest or 1) + 12) / 16))
    return (*range(-16 * behind, 0, 16), *whole)


def require_known_reals(positions: Array, name: str = "positions") -> float:
    """The largest of real positions where it is known, else 0; ValueError if no integer of 64 bits is."""
    values = _backends.host_values(positions)
    if values is None or not values.size:
        return 0.0
    finite = np.abs(values[np.isfinite(values)], dtype=np.float64)
    largest = float(finite.max(initial=0.0))
    if largest > 2.0**63:
        msg = f"`{name}` must be within ±2**63, got {largest}"
        raise ValueError(msg)
    return largest


def _within_int32(values: np.ndarray) -> bool:
    return not values.size or (values.min() >= -(2**31) and values.max() < 2**31)


def split_digits(
    positions: Array, exponents: tuple[int, ...], xp: Namespace
) -> tuple[list[Array], Array | None]:
    """Positions as int32 digits within ±2¹⁵, one for each exponent, and what is left of real ones.

    Digits are balanced around 0, so that −m mirrors m to the last bit. What is left is in steps of the
    last digit, within ±½; NaN where a real position has no phase.
    """
    if _backends.is_integer(positions):
        return _integer_digits(positions, exponents, xp), None
    positions = _backends.cast(positions, _backends.compute_dtype(xp, positions), xp)
    known = xp.abs(positions) <= 2.0 ** (exponents[-1] + 15)  # False for NaN, too
    left = xp.where(known, positions, xp.zeros_like(positions))
    digits: list[Array] = []
    for exponent in reversed(exponents):
        digit = xp.round(left * 2.0**-exponent)
        left = left - digit * 2.0**exponent
        digits.insert(0, xp.astype(digit, xp.int32))
    left = left * 2.0 ** -exponents[0]
    return digits, xp.where(known, left, xp.full_like(left, math.nan))


def _integer_digits(positions: Array, exponents: tuple[int, ...], xp: Namespace) -> list[Array]:
    # An unsigned integer is the signed one with the same bits, and a last digit for what that lacks.
    has_last = len(exponents) % 2
    left = _backends.cast(positions, xp.int64 if len(exponents) > 3 else xp.int32, xp)
    left = _backends.materialize_under_compile(left)
    last = [xp.astype(left < 0, xp.int32)] if has_last else []
    digits = []
    for _ in exponents[has_last + 1 :]:
        low = left & 0xFFFF
        digits.append(_backends.cast((low ^ 0x8000) - 0x8000, xp.int32, xp))
        left = (left >> 16) + (low >> 15)
    return [*digits, _backends.cast(left, xp.int32, xp), *last]


def steps_from(center: int, positions: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Integers minus an integer, rounded once: from the upper digits on, what cancels is exact."""
    exponents = digit_exponents(positions, 1.0)
    digits, _ = split_digits(positions, exponents, xp)
    others = []
    for _ in exponents[1:]:
        low = ((center & 0xFFFF) ^ 0x8000) - 0x8000
        others.append(low)
        center = (center - low) >> 16
    steps: Any = 0.0
    for digit, other in zip(reversed(digits), (center, *reversed(others)), strict=True):
        steps = steps * 2.0**16 + (_backends.cast(digit, dtype, xp) - float(other))
    return steps


def digit_tables(
    steps: list[Step], constants: Constants, dtype: Dtype, xp: Namespace
) -> list[tuple[Array, ...]]:
    """The numbers of `steps_per_digit` as arrays."""
    return [
        tuple(
            constants(part, kind)
            for part, kind in zip(step, (xp.int32, xp.int32, dtype), strict=True)
        )
        for step in steps
    ]


def steps_per_digit(inv_freq: tuple[float, ...], exponents: tuple[int, ...]) -> list[Step]:
    """How far each pair turns in one step of each digit.

    Modulo one turn, in units of 2⁻³⁰ of a turn: upper and lower 15 bits, both balanced around 0, and
    the rest in [−½, ½).
    """
    steps: list[Step] = []
    for exponent in exponents:
        uppers, lowers, rests = [], [], []
        for frequency in inv_freq:
            whole, rest = turns_per_step(frequency, exponent, 30)
            lower = (whole + 0x4000) % 0x8000 - 0x4000
            uppers.append((((whole - lower) >> 15) + 0x4000) % 0x8000 - 0x4000)
            lowers.append(lower)
            rests.append(rest)
        steps.append((uppers, lowers, rests))
    return steps


def units_per_step(inv_freq: tuple[float, ...], exponent: int) -> list[float]:
    """How far each pair turns in one step of a digit, in units of 2⁻³⁰ of a turn, unreduced."""
    return [frequency * 2.0**exponent / _UNIT for frequency in inv_freq]


def turns_per_step(frequency: float, exponent: int, bits: int) -> tuple[int, float]:
    """``frequency`` · 2^exponent in 2^-bits of a turn: the nearest integer, and the rest in [−½, ½).

    From Python's long integers, because with a 2π in float64 they would be wrong from 2⁵³ units on.
    """
    numerator, denominator = frequency.as_integer_ratio()
    shift = bits + 64 + exponent
    if shift < 0:
        denominator <<= -shift
    fixed = (numerator * _TURNS_PER_RADIAN << max(shift, 0)) // (denominator << _TURN_BITS)
    whole = (fixed + (1 << 63)) >> 64
    return whole, (fixed - (whole << 64)) / (1 << 64)
