"""Key position − query position, and which is later, for every pair of dtypes: nothing wraps.

Integers of 64 bits (32, where a library has no more) have differences of up to 66. They saturate here at
the ends of the library's default integer dtype, which keeps their order and all smaller ones. Where
dtypes, or values that are at hand, tell that no difference is that large, it is one subtraction.
"""

from __future__ import annotations

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._exact_phases import digit_exponents, split_digits
from rope_xp._validation import is_known, require_real
from rope_xp.positions._range import as_signed, bounds


def require_positions(q_positions: Array, k_positions: Array) -> None:
    """TypeError unless both are integer or real, ValueError unless their shapes fit."""
    require_order("q_positions", q_positions)
    require_order("k_positions", k_positions)
    if q_positions.ndim == k_positions.ndim == 2:
        batch, got = q_positions.shape[0], k_positions.shape[0]
        if 1 not in (batch, got) and batch != got and is_known(batch) and is_known(got):
            msg = f"`k_positions` must have the batch of `q_positions`, {batch}, or 1, got {got}"
            raise ValueError(msg)


def require_order(name: str, positions: Array) -> None:
    """TypeError unless ``positions`` are integer or real, ValueError unless they have one position axis."""
    require_real(name, positions)
    if positions.ndim not in (1, 2):
        msg = f"`{name}` must have shape (seq,) or (batch, seq), got {tuple(positions.shape)}"
        raise ValueError(msg)


def are_integers(q_positions: Array, k_positions: Array) -> bool:
    return _backends.is_integer(q_positions) and _backends.is_integer(k_positions)


def integer_difference(
    q_positions: Array, k_positions: Array, xp: Namespace, *, exact: bool = False
) -> Array:
    """Of integers, (..., q_len, k_len) in the default integer dtype, saturated at its ends.

    If ``exact``, ValueError where values are at hand that have larger differences.
    """
    return _integer_steps(*outer(q_positions, k_positions), xp, exact=exact)


def real_difference(q_positions: Array, k_positions: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Of any positions, (..., q_len, k_len) in a floating ``dtype``, right to its rounding."""
    return _real_steps(*outer(q_positions, k_positions), dtype, xp)


def outer(q_positions: Array, k_positions: Array) -> tuple[Array, Array]:
    """(..., q_len, 1) and (..., 1, k_len): each query beside each key."""
    return q_positions[..., :, None], k_positions[..., None, :]


def is_not_later(query: Array, key: Array, xp: Namespace) -> Array:
    """Whether key ≤ query, elementwise; False for NaN."""
    q_name, k_name = (_backends.dtype_name(a.dtype) for a in (query, key))
    if q_name != k_name or q_name.startswith("uint"):
        if are_integers(query, key):
            dtype = _backends.default_integer_dtype(xp, _backends.device(query))
            query, key = _comparable(query, key, dtype, xp)
            return key <= query
        widest = _backends.widest(query, xp)
        if _backends.is_integer(query) or _backends.is_integer(key):
            return _real_steps(query, key, widest, xp) <= 0
        query, key = (_backends.cast(a, widest, xp) for a in (query, key))
    return key <= query


def is_within(query: Array, key: Array, window: int, xp: Namespace, *, causal: bool) -> Array:
    """Whether query − key < ``window``, elementwise; unless ``causal``, key − query as well.

    Integers are exact; the distance of real numbers is rounded to the widest dtype of the library.
    """
    if are_integers(query, key):
        steps = _integer_steps(query, key, xp)
    else:
        steps = _real_steps(query, key, _backends.widest(query, xp), xp)
    return steps > -window if causal else (steps > -window) & (steps < window)


def _integer_steps(query: Array, key: Array, xp: Namespace, *, exact: bool = False) -> Array:
    dtype = _backends.default_integer_dtype(xp, _backends.device(query))
    if _fits(query, key, dtype, exact=exact):
        return _subtract(query, key, dtype, xp)
    return _saturated(query, key, dtype, xp)


def _real_steps(query: Array, key: Array, dtype: Dtype, xp: Namespace) -> Array:
    if are_integers(query, key):
        integer = _backends.default_integer_dtype(xp, _backends.device(query))
        if _fits(query, key, integer):
            return _backends.cast(_subtract(query, key, integer, xp), dtype, xp)
        steps = _saturated(query, key, integer, xp)
        low, high = bounds(integer)
        far = _subtract(query, key, dtype, xp)  # far enough to lose nothing in it
        return xp.where((steps == low) | (steps == high), far, _backends.cast(steps, dtype, xp))
    compute = _backends.compute_dtype(xp, query, key, dtype=dtype)
    if _backends.is_integer(query) or _backends.is_integer(key):
        compute = _backends.widest(query, xp)
    if all(_is_exact_in(a, compute) for a in (query, key)):
        found = _subtract(query, key, compute, xp)
    elif _backends.is_integer(key):
        found = _minus_real(key, _backends.cast(query, compute, xp), compute, xp)
    else:
        found = -_minus_real(query, _backends.cast(key, compute, xp), compute, xp)
    return _backends.cast(found, dtype, xp)


def _fits(query: Array, key: Array, dtype: Dtype, *, exact: bool = False) -> bool:
    """Whether dtypes or values tell that the differences of integers can be subtracted in ``dtype``."""
    low, high = bounds(dtype)
    (q_low, q_high), (k_low, k_high) = bounds(query.dtype), bounds(key.dtype)
    if low <= k_low - q_high and k_high - q_low <= high:
        return True
    found = _extremes(query)
    others = found and _extremes(key)
    if found is None or others is None:
        return False
    (q_low, q_high), (k_low, k_high) = found, others
    if exact and not (low <= k_low - q_high and k_high - q_low <= high):
        msg = (
            f"`k_positions` must differ from `q_positions` by no more than "
            f"{_backends.dtype_name(dtype)} holds, got differences from {k_low - q_high} to "
            f"{k_high - q_low}"
        )
        raise ValueError(msg)
    return low // 2 <= min(q_low, k_low) and max(q_high, k_high) <= high // 2


def _extremes(positions: Array) -> tuple[int, int] | None:
    """Where values are at hand the smallest and the largest position, or what these are within."""
    values = _backends.host_values(positions)
    if values is None or values.size == 0:
        return None
    # Negative numbers have the upper bit. One pass instead of two, and of NumPy's quickest.
    bits = int(np.bitwise_or.reduce(values, axis=None))
    return (0, bits) if 0 <= bits < 2**30 else (int(values.min()), int(values.max()))


def _is_exact_in(positions: Array, dtype: Dtype) -> bool:
    """Whether a floating ``dtype`` holds what ``positions`` are, as far as is known."""
    low, high = bounds(dtype)
    if bounds(positions.dtype)[1] <= high:
        return True
    extremes = _extremes(positions)
    return extremes is not None and low <= extremes[0] and extremes[1] <= high


def _subtract(query: Array, key: Array, dtype: Dtype, xp: Namespace) -> Array:
    query, key = (_backends.cast(a, dtype, xp) for a in (query, key))
    return key - query


def _saturated(query: Array, key: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Differences of integers in a signed ``dtype``, the default one, saturated at its ends."""
    low, high = bounds(dtype)
    query, key = _comparable(query, key, dtype, xp)
    # What is beyond these has a difference beyond the ends.
    least = xp.clip(key, -1, None) - high
    most = xp.clip(key, None, -1) - low
    return key - xp.minimum(xp.maximum(query, least), most)


def _comparable(query: Array, key: Array, dtype: Dtype, xp: Namespace) -> tuple[Array, Array]:
    """Queries and keys in a signed ``dtype``.

    Order and differences are theirs, but for differences that are beyond the ends of the dtype.
    """
    low, high = bounds(dtype)
    large = [bounds(array.dtype)[1] > high for array in (query, key)]
    if not any(large):
        return _backends.cast(query, dtype, xp), _backends.cast(key, dtype, xp)
    # Both minus half of the unsigned range: with the upper bit turned, and a signed one is ≥ 0 then.
    shifted = [_backends.cast(array, dtype, xp) ^ low for array in (query, key)]
    if all(large):
        return shifted[0], shifted[1]
    signed = _backends.cast(key if large[0] else query, dtype, xp)
    plain = [as_signed(array, dtype, xp) for array in (query, key)]
    query, key = (
        xp.where(signed >= 0, below, above) for below, above in zip(shifted, plain, strict=True)
    )
    return query, key


def _minus_real(integers: Array, reals: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Integers minus reals, where the integers have more digits than a real ``dtype`` has.

    From the upper of their digits of 16 bits on: what cancels does so without rounding.
    """
    exponents = digit_exponents(integers, 1.0)
    digits, _ = split_digits(integers, exponents, xp)
    found = -reals
    for exponent, digit in reversed([*zip(exponents, digits, strict=True)]):
        found = found + _backends.cast(digit, dtype, xp) * 2.0**exponent
    return found
