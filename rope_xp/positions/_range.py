"""Which integers a dtype holds, lengths that memory can hold, and consecutive positions."""

from __future__ import annotations

import math
import sys
from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int_or_traced, quote

#: The smallest and the largest integer of each dtype; of a floating one, those between which it skips none.
BOUNDS = {
    **{f"int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
    **{
        name: (-(1 << digits), 1 << digits)
        for name, digits in (("bfloat16", 8), ("float16", 11), ("float32", 24), ("float64", 53))
    },
}

#: The largest finite number of each floating dtype.
LARGEST = {
    "float16": 65504.0,
    "bfloat16": 0xFF * 2.0**120,
    "float32": 0xFFFFFF * 2.0**104,
    "float64": sys.float_info.max,
}

# No memory has as many elements, and no side of a grid as many patches.
_MOST = 2**48
MOST_PATCHES = 2**24


def bounds(dtype: Dtype) -> tuple[int, int]:
    return BOUNDS[_backends.dtype_name(dtype)]


def is_static(size: Any) -> bool:
    """Whether comparing ``size`` adds no condition to a program that a compiler traces."""
    return isinstance(size, int) and not _backends.is_compiling()


def are_few(shape: tuple[Any, ...], most: int) -> bool:
    """Whether an array of this shape has at most ``most`` elements, as far as is known here and now."""
    if any(size is None for size in shape):  # of ndonnx, sizes that are not known
        return False
    n = math.prod(shape)
    return is_static(n) and n <= most


def as_length(name: str, n: Any, *, least: int = 0, most: int = _MOST) -> Any:
    """``n`` as an int; ValueError unless it is a length that some memory can have."""
    n = as_int_or_traced(name, n)
    if isinstance(n, int) and n < least:
        msg = f"`{name}` must be {'positive' if least else 'non-negative'}, got {quote(n)}"
        raise ValueError(msg)
    if is_static(n) and n > most:
        why = ", which no memory holds" if most == _MOST else ""
        msg = f"`{name}` must be at most 2**{most.bit_length() - 1}{why}, got {quote(n)}"
        raise ValueError(msg)
    return n


def resolve_dtype(
    dtype: Dtype | None, default: Dtype, xp: Namespace, device: Device | None
) -> Dtype:
    """``dtype``, or the default; TypeError if the library does not have it on ``device``."""
    if dtype is None:
        return default
    _backends.require_dtype_of(xp, "dtype", dtype)
    _backends.require_available("dtype", dtype, xp, device)
    return dtype


def require_fit(name: str, first: int, last: int, dtype: Dtype, *, default: bool = False) -> None:
    """ValueError unless ``dtype`` holds the positions ``first`` to ``last`` of the argument ``name``."""
    if not (isinstance(first, int) and isinstance(last, int)):
        return  # what is traced does not compare
    low, high = bounds(dtype)
    if low <= first and last <= high:
        return
    kind = _backends.dtype_name(dtype)
    if default:
        msg = (
            f"`{name}` must keep positions in {kind}, the default integer dtype here, "
            f"got {quote(first)} to {quote(last)}"
        )
    else:
        wanted = f"the positions {quote(first)} to {quote(last)} of `{name}`"
        msg = f"`dtype` must represent {wanted}, got {kind}"
    raise ValueError(msg)


def require_finite_in(name: str, value: float, dtype: Dtype) -> None:
    """ValueError unless ``value`` is finite in a floating ``dtype``."""
    kind = _backends.dtype_name(dtype)
    if not abs(value) <= LARGEST[kind]:
        msg = f"`dtype` must represent the numbers of `{name}`, up to {value}, got {kind}"
        raise ValueError(msg)


def count(first: int, n: int, xp: Namespace, dtype: Dtype, device: Device | None) -> Array:
    """``first`` … ``first + n − 1`` in a dtype that holds them."""
    if not _backends.dtype_name(dtype).startswith("uint"):
        return _arange(first, n, xp, dtype, device)
    # As signed integers with the same bits: torch does little more with unsigned ones than cast them.
    signed = _backends.default_integer_dtype(xp, device)
    low, high = bounds(signed)
    if first <= high // 2 or first + n - 1 <= high:
        return _backends.cast(_arange(first, n, xp, signed, device), dtype, xp)
    return _backends.cast(_arange(first + low, n, xp, signed, device) ^ low, dtype, xp)


def _arange(first: int, n: int, xp: Namespace, dtype: Dtype, device: Device | None) -> Array:
    # What is behind the last may be no number of this dtype.
    if isinstance(first, int) and first > bounds(dtype)[1] // 2:
        return xp.arange(n, dtype=dtype, device=device) + first
    return xp.arange(first, first + n, dtype=dtype, device=device)


def as_signed(array: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Integers in a signed ``dtype``, which has no fewer bits; what it does not hold is its largest."""
    signed = _backends.cast(array, dtype, xp)
    if bounds(array.dtype)[1] <= bounds(dtype)[1]:
        return signed
    return xp.where(signed < 0, xp.full_like(signed, bounds(dtype)[1]), signed)
