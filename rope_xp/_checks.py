"""Checks of plain values that several rooms make: a sentence with the name, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from rope_xp import _backend


def as_int(name: str, value: Any) -> Any:
    """``value`` if it is a Python or NumPy integer, else TypeError.

    A size that a compiler traces is an integer too, and stays what it is: converting would fix it.
    """
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, bool) or _backend.is_array(value) or not hasattr(type(value), "__index__"):
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


def require_stretch(name: str, value: float) -> None:
    require_number(name, value)
    if value < 1:
        msg = f"`{name}` must be at least 1, got {value}"
        raise ValueError(msg)


def require_length(name: str, value: int) -> None:
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
