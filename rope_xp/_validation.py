"""Plain values: the checks that several rooms make, each a sentence, and float32 rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from rope_xp import _backends

#: Positions p with POSITION_RANGE[0] <= p < POSITION_RANGE[1] have exact phases.
POSITION_RANGE = (-(2**31), 2**31)


def as_int(name: str, value: Any) -> Any:
    """``value`` if it is a Python or NumPy integer, else TypeError.

    A size that a compiler traces is an integer too, and stays what it is: converting would fix it.
    """
    if isinstance(value, np.integer):
        return int(value)
    if (
        isinstance(value, bool)
        or _backends.is_array(value)
        or not hasattr(type(value), "__index__")
    ):
        msg = f"`{name}` must be an int, got {value!r}"
        raise TypeError(msg)
    return value


def require_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"`{name}` must be a number, got {value!r}"
        raise TypeError(msg)
    if not math.isfinite(value):
        msg = f"`{name}` must be finite, got {value}"
        raise ValueError(msg)


def require_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"`{name}` must be a number, got {value!r}"
        raise TypeError(msg)
    if not 0 < value < math.inf:
        msg = f"`{name}` must be positive and finite, got {float(value)}"
        raise ValueError(msg)


def require_scale_factor(name: str, value: float) -> None:
    require_number(name, value)
    if value < 1:
        msg = f"`{name}` must be at least 1, got {value}"
        raise ValueError(msg)


def require_context_length(name: str, value: int) -> None:
    if as_int(name, value) <= 1:
        msg = f"`{name}` must be a number of tokens above 1, got {value}"
        raise ValueError(msg)


def require_list(name: str, values: Sequence[float], *, positive: bool = True) -> tuple[float, ...]:
    """``values`` as a hashable tuple of Python floats."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        msg = f"`{name}` must be a list of numbers, got {values!r}"
        raise TypeError(msg)
    for i, value in enumerate(values):
        (require_positive if positive else require_number)(f"{name}[{i}]", value)
    return tuple(float(value) for value in values)


def require_position_range(name: str, first: int, n: int = 1) -> None:
    """ValueError unless ``first`` and the ``n`` − 1 positions after it lie in the domain."""
    # From below 2**30 no sequence reaches the end, and comparing would bound a size being traced.
    if first < POSITION_RANGE[0] or (first > 2**30 and first + n > POSITION_RANGE[1]):
        msg = f"`{name}` must keep positions in [-2**31, 2**31), got {first} for {n} tokens"
        raise ValueError(msg)


def require_integer_dtype(dtype: Any) -> None:
    """TypeError for a ``dtype`` (None is left out) that is no integer one."""
    if dtype is not None and "int" not in _backends.dtype_name(dtype):
        msg = f"`dtype` must be an integer dtype, got {_backends.dtype_name(dtype)}"
        raise TypeError(msg)


def to_float32(value: float) -> float:
    """``value`` rounded to the nearest float32 (normal range), in plain Python, which compilers fold."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def is_known(size: float) -> bool:
    """Lazy arrays have NaN for sizes that they do not know yet."""
    return size == size  # noqa: PLR0124 - a traced size has no isnan
