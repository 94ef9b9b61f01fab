r"""Exact phases: cos and sin of integer positions times float frequencies, in fixed-point arithmetic.

An angle :math:`m\theta` is needed modulo one turn, and that reduction is where precision is lost:
at position one million a float32 angle has an ulp of 0.06. Integers have no such trouble. With the
position as two 16-bit digits, and what each pair turns in one step of a digit as a fixed-point
fraction of a turn, products of small integers give the angle in units of 2⁻³⁰ of a turn, and masking
bits *is* the reduction. What is finer than the unit is carried beside it as a small float. Nothing
here needs an integer of 64 bits or a float of more precision than the result, and no product
overflows: C++ that torch generates takes signed overflow for impossible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace

Constants = Callable[[Any, Dtype], Array]  # values and dtype → array on the positions' device
Digits = tuple[
    list[int], list[int], list[float]
]  # upper 15 bits, lower 15 bits, residual; per pair

# floor(2**256 / 2π): in a product with a double, the fraction of a turn is right to 2**-200.
_TURNS_PER_RADIAN = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7AEF158

# Radians in 2**-30 of a turn, as 12 leading bits and the rest: products of the leading bits with
# 12-bit integers are exact in float32.
_UNIT = 2 * math.pi / 2**30
_UNIT_HIGH = 0xC91 / 2**39
_UNIT_LOW = -1.659413838155854e-14  # 2π/2**30 − _UNIT_HIGH, from 2π in full

_FACTORIALS = tuple(math.factorial(n) for n in range(20))


def exact_cos_sin(
    terms: list[tuple[Array, list[Array]]], dtype: Dtype, xp: Namespace
) -> tuple[Array, Array]:
    """cos, sin of the true products of integers and floats, rounded as if once.

    What was made here is worked on in place: a third less time on NumPy, which looks for new memory
    at every step.
    """
    turn, rest = _turn_of(*terms[0], dtype, xp)
    for term in terms[1:]:
        further, residual = _turn_of(*term, dtype, xp)
        turn += further
        turn &= 0x3FFF_FFFF
        rest += residual

    # The nearest quarter turn, and what is within ±1/8 of a turn of it as 12 bits and 15 finer.
    turn += 0x800_0000
    quarter = turn >> 28  # 0 … 4
    turn &= 0xFFF_FFFF
    turn += 0x4000
    coarse = turn & -0x8000
    coarse -= 0x800_0000
    coarse = xp.astype(coarse, dtype)
    turn &= 0x7FFF
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
    square *= angle
    sin *= square
    sin += angle

    # Quarters turn the two: even is their cosine, odd minus their sine. `where` is slow on NumPy.
    sign = quarter & 2
    sign -= 1
    quarter &= 1
    quarter *= sign
    odd = xp.astype(quarter, dtype)
    quarter -= sign
    even = xp.astype(quarter, dtype)
    swapped = cos * odd
    cos *= even
    odd *= sin
    cos += odd
    sin *= even
    sin -= swapped
    return _backends.materialize_under_compile(cos), _backends.materialize_under_compile(sin)


def digit_tables(
    steps: list[Digits], constants: Constants, dtype: Dtype, xp: Namespace
) -> list[Array]:
    """The numbers of `steps_per_digit` as arrays."""
    return [
        constants(part, kind)
        for digits in steps
        for part, kind in zip(digits, (xp.int32, xp.int32, dtype), strict=True)
    ]


def steps_per_digit(inv_freq: tuple[float, ...]) -> list[Digits]:
    """How far each pair turns in one step of the low digit of a position, and of the high one."""
    return [_turns(inv_freq, steps=1), _turns(inv_freq, steps=2**16)]


def _turn_of(
    position: Array, tables: list[Array], dtype: Dtype, xp: Namespace
) -> tuple[Array, Array]:
    """A product modulo one turn, (..., n_pairs): in units of 2⁻³⁰ of a turn, and the rest of a unit."""
    # Balanced 16-bit digits, position = 2**16 high + low, so that −m mirrors m to the last bit.
    position = _backends.materialize_under_compile(_backends.cast(position, xp.int32, xp))
    low = ((position & 0xFFFF) ^ 0x8000) - 0x8000
    high = (position >> 16) + ((position >> 15) & 1)
    upper, lower, residual, upper_high, lower_high, residual_high = tables

    turn = low * upper
    turn += high * upper_high  # within ±2**30
    turn &= 0x7FFF
    turn *= 0x8000
    turn += low * lower
    turn += high * lower_high
    turn &= 0x3FFF_FFFF
    rest = xp.astype(low, dtype) * residual
    rest += xp.astype(high, dtype) * residual_high  # within ±2**15
    return turn, rest


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


def _turns(inv_freq: tuple[float, ...], *, steps: int) -> Digits:
    """How far each pair turns in ``steps`` steps, modulo one turn, in units of 2⁻³⁰ of a turn.

    Upper and lower 15 bits, both balanced around 0, and the rest in [−½, ½): from Python's long
    integers, because with a 2π in float64 they would be wrong from 2⁵³ units on.
    """
    uppers, lowers, rests = [], [], []
    for frequency in inv_freq:
        numerator, denominator = frequency.as_integer_ratio()
        fixed = (numerator * steps * _TURNS_PER_RADIAN << 94) // (denominator << 256)  # units·2**64
        whole = (fixed + (1 << 63)) >> 64
        lower = (whole + 0x4000) % 0x8000 - 0x4000
        uppers.append((((whole - lower) >> 15) + 0x4000) % 0x8000 - 0x4000)
        lowers.append(lower)
        rests.append((fixed - (whole << 64)) / (1 << 64))
    return uppers, lowers, rests
