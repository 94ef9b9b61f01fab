r"""Positions times frequencies, as cos and sin. The only room that decides precision.

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
from typing import Any

import numpy as np

from rope_xp import _backend
from rope_xp._backend import Array, Dtype, Namespace

__all__ = ["cos_sin"]

PRECISIONS = ("exact", "float32")

# floor(2**256 / 2π): in a product with a double, the fraction of a turn is right to 2**-200.
_TURNS_PER_RADIAN = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7AEF158

# Radians in 2**-30 of a turn, as 12 leading bits and the rest: products of the leading bits with
# 12-bit integers are exact in float32.
_UNIT = 2 * math.pi / 2**30
_UNIT_HIGH = 0xC91 / 2**39
_UNIT_LOW = -1.659413838155854e-14  # 2π/2**30 − _UNIT_HIGH, from 2π in full

_FACTORIALS = tuple(math.factorial(n) for n in range(20))


def cos_sin(
    positions: Array,
    inv_freq: Any,
    *,
    dtype: Dtype | None = None,
    precision: str = "exact",
    attention_factor: float = 1.0,
) -> tuple[Array, Array]:
    r"""Cosine and sine of positions times frequencies: make once, use in every layer.

    Parameters
    ----------
    positions : array, shape (...,), integer or real floating
        Integers in [−2³¹, 2³¹), or real numbers.
    inv_freq : sequence of float or array, shape (n_pairs,)
        Radians per step. Python or NumPy floats are exact constants; an array of the positions'
        library is data, to which gradients flow (learned frequencies). A NumPy array is taken as
        floats whatever the library.
    dtype : floating dtype, optional
        Of the result; default float64 if ``positions`` are float64, else float32.
    precision : {"exact", "float32"}
        ``"exact"``: integer positions and float frequencies give the cos and sin of the angle as a
        product of real numbers, within 1e-7 in float32 and 1e-15 in float64 at every position.
        ``"float32"``: float32(position) · float32(inv_freq), rounded, is the angle. That is what
        transformers and most trained models compute; it is off by 0.004 at position 131,072.
        Real positions and learned frequencies have rounded products either way.
    attention_factor : float
        Multiplies both results.

    Returns
    -------
    cos, sin : array, shape (..., n_pairs)

    Raises
    ------
    TypeError
        If ``positions`` are neither integer nor floating, ``dtype`` is not floating, or
        ``inv_freq`` comes from another library than ``positions``.
    ValueError
        If ``inv_freq`` has not one axis, is not finite, or is on another device; if ``precision``
        is unknown.

    Notes
    -----
    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2.
    Book: :eq:`eq-angle-error`, :eq:`eq-exact-phase`.

    Examples
    --------
    >>> cos, sin = cos_sin(np.asarray([1, 3]), [math.pi / 8])
    >>> bool(abs(cos[0, 0] * sin[1, 0] - sin[0, 0] * cos[1, 0] - 2**-0.5) < 1e-7)
    True
    """
    require_precision(precision)
    xp = _backend.namespace(positions=positions)
    integer = _backend.is_integer(positions)
    if not (integer or _backend.is_floating(positions)):
        found = _backend.dtype_name(positions.dtype)
        msg = f"`positions` must be integer or real floating, got {found}"
        raise TypeError(msg)
    if dtype is not None:
        _backend.require_dtype("dtype", dtype)
    elif _backend.dtype_name(positions.dtype) == "float64":
        dtype = xp.float64
    else:
        dtype = xp.float32

    constant = isinstance(inv_freq, list | tuple | np.ndarray)
    if constant:
        inv_freq = _as_floats(inv_freq)
    else:
        _backend.namespace(positions=positions, inv_freq=inv_freq)
        _backend.require_floating(inv_freq=inv_freq)
        _require_one_axis(tuple(inv_freq.shape))

    known = [positions.dtype, dtype] if constant else [positions.dtype, dtype, inv_freq.dtype]
    wide = precision == "exact" and "float64" in map(_backend.dtype_name, known)
    form = _exact if precision == "exact" and integer and constant else _rounded
    cos, sin = form(positions, inv_freq, xp.float64 if wide else xp.float32, xp)
    if attention_factor != 1.0:
        cos, sin = cos * attention_factor, sin * attention_factor
    return _backend.cast(cos, dtype, xp), _backend.cast(sin, dtype, xp)


def _rounded(
    positions: Array, inv_freq: tuple[float, ...] | Array, dtype: Dtype, xp: Namespace
) -> tuple[Array, Array]:
    """cos, sin of the rounded product. Elementwise: autocast and TF32 would round a matmul more."""
    if isinstance(inv_freq, tuple):
        inv_freq = xp.asarray(inv_freq, dtype=dtype, device=_backend.device(positions))
    angles = _backend.cast(positions, dtype, xp)[..., None] * _backend.cast(inv_freq, dtype, xp)
    return xp.cos(angles), xp.sin(angles)


def _exact(
    positions: Array, inv_freq: tuple[float, ...], dtype: Dtype, xp: Namespace
) -> tuple[Array, Array]:
    """cos, sin of the true product of integers and floats, rounded as if once."""
    # Balanced 16-bit digits, position = 2**16 high + low, so that −m mirrors m to the last bit.
    position = _backend.computed_once(_backend.cast(positions, xp.int32, xp))[..., None]
    low = ((position & 0xFFFF) ^ 0x8000) - 0x8000
    high = (position >> 16) + ((position >> 15) & 1)

    def table(values: list[Any], dtype: Dtype) -> Array:
        return xp.asarray(values, dtype=dtype, device=_backend.device(positions))  # (n_pairs,)

    # The turn modulo one, (..., n_pairs): 15 bits, 15 bits, and the rest in units of 2**-30.
    turn, middle, rest = 0, 0, 0
    for digit, steps in ((low, 1), (high, 2**16)):
        upper, lower, finer = _turns(inv_freq, steps=steps)
        turn = turn + digit * table(upper, xp.int32)  # within ±2**30
        middle = middle + digit * table(lower, xp.int32)  # within ±2**30
        rest = rest + xp.astype(digit, dtype) * table(finer, dtype)  # within ±2**15
    turn = (((turn & 0x7FFF) << 15) + middle) & 0x3FFF_FFFF

    # The nearest quarter turn, and what is within ±1/8 of a turn of it as 12 bits and 15 finer.
    nearest = turn + 0x800_0000
    quarter = nearest >> 28  # 0 … 4
    within = (nearest & 0xFFF_FFFF) + 0x4000
    coarse = xp.astype((within & -0x8000) - 0x800_0000, dtype)
    fine = xp.astype((within & 0x7FFF) - 0x4000, dtype) + rest

    # To radians, rounded once.
    angle = coarse * _UNIT_HIGH + (coarse * _UNIT_LOW + fine * _UNIT)

    # cos and sin of what is within, by their series: torch's compiled ones are off by 1.2e-7.
    square = angle * angle
    cos = 1 + square * _series(square, 0, dtype)
    sin = angle + angle * square * _series(square, 1, dtype)

    # An odd number of quarters swaps the two. By 0 and 1: `where` is slow on NumPy.
    odd = xp.astype(quarter & 1, dtype)
    even = 1 - odd
    cos_sign = xp.astype(1 - ((quarter + 1) & 2), dtype)
    sin_sign = xp.astype(1 - (quarter & 2), dtype)
    cos, sin = cos_sign * (even * cos + odd * sin), sin_sign * (even * sin + odd * cos)
    return _backend.computed_once(cos), _backend.computed_once(sin)


def _series(square: Array, odd: int, dtype: Dtype) -> Array:
    """Σ (−1)^k square^(k−1) / (2k + odd)! from k = 1, Horner's way.

    ``1 + square · series`` is cos and ``angle + angle · square · series`` is sin. Within an eighth
    of a turn, what is left out is below 1/50 of the last bit.
    """
    terms = 9 if _backend.dtype_name(dtype) == "float64" else 5
    total, *rest = ((-1) ** k / _FACTORIALS[2 * k + odd] for k in range(terms, 0, -1))
    for coefficient in rest:
        total = total * square + coefficient
    return total


def _turns(inv_freq: tuple[float, ...], *, steps: int) -> tuple[list[int], list[int], list[float]]:
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


def _as_floats(inv_freq: Any) -> tuple[float, ...]:
    if isinstance(inv_freq, np.ndarray):
        _require_one_axis(inv_freq.shape)
    floats = tuple(float(f) for f in inv_freq)
    if not floats or not all(math.isfinite(f) for f in floats):
        msg = f"`inv_freq` must be finite numbers, at least one, got {inv_freq!r}"
        raise ValueError(msg)
    return floats


def _require_one_axis(shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        msg = f"`inv_freq` must have shape (n_pairs,), got {shape}"
        raise ValueError(msg)


def require_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        msg = f"unknown precision {precision!r}; known: {', '.join(map(repr, PRECISIONS))}"
        raise ValueError(msg)
