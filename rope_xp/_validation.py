"""Checks that several modules share, with one wording for each, and float32 rounding in Python."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array

#: Positions p with POSITION_RANGE[0] <= p < POSITION_RANGE[1] have exact phases.
POSITION_RANGE = (-(2**31), 2**31)


def as_int(name: str, value: Any) -> Any:
    """``value`` if it is a Python or NumPy integer, else TypeError.

    A size that a compiler traces is an integer, too. It is returned as it is, because ``int`` would
    turn it into a constant.
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


def as_size(name: str, value: Any) -> Any:
    """As `as_int`; also a size that a library traces and that is no int to Python, as it is."""
    return value if _backends.is_traced_size(value) else as_int(name, value)


def as_constant(value: Any) -> Any:
    """``value`` as a float that stays a constant while a compiler traces.

    Frequencies must be constants. A compiler that treats a float argument as data treats
    ``float(argument)`` as data, too.
    """
    return value.__float__()


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


def require_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        msg = f"`{name}` must be True or False, got {value!r}"
        raise TypeError(msg)


def require_scale_factor(name: str, value: float) -> None:
    require_number(name, value)
    if value < 1:
        msg = f"`{name}` must be at least 1, got {value}"
        raise ValueError(msg)


def require_context_length(name: str, value: int) -> None:
    if as_int(name, value) <= 1:
        msg = f"`{name}` must be an int greater than 1, got {value}"
        raise ValueError(msg)


def require_list(name: str, values: Sequence[float], *, positive: bool = True) -> tuple[float, ...]:
    """``values`` as a hashable tuple of Python floats."""
    if not is_listable(values):
        msg = f"`{name}` must be a list of numbers, got {values!r}"
        raise TypeError(msg)
    values = tuple(values)
    for i, value in enumerate(values):
        (require_positive if positive else require_number)(f"{name}[{i}]", value)
    return tuple(float(value) for value in values)


def is_listable(values: Any) -> bool:
    """Not a scalar, an array without axes, or text."""
    scalar = not hasattr(values, "__iter__") or getattr(values, "shape", None) == ()
    return not scalar and not isinstance(values, str)


def as_floats(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as a tuple of finite Python floats: `require_list`, fast for what is one already."""
    if type(values) is tuple and {*map(type, values)} == {float}:
        floats: tuple[float, ...] = tuple(map(as_constant, values))
        if all(map(math.isfinite, floats)):
            return floats
    return require_list(name, values, positive=False)


def require_base(base: float) -> float:
    """``base`` as a Python float; TypeError if it is no number, ValueError if not positive."""
    require_positive("base", base)
    return float(base)  # NumPy's too


def require_one_of(name: str, value: object, choices: Iterable[str]) -> None:
    """ValueError unless ``value`` is one of the strings ``choices``."""
    if not isinstance(value, str) or value not in choices:
        msg = f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}"
        raise ValueError(msg)


def require_value(name: str, value: object, missing: list[str]) -> None:
    """TypeError unless ``value`` is hashable and equal by value, and no member is ``missing``.

    ``name`` is the argument and the package with values for it: scaling or axes.
    """
    wrong = f"which has no {', '.join(f'`{member}`' for member in missing)}" if missing else ""
    if isinstance(value, type):
        wrong = "a class, not a value of it"
    if wrong:
        msg = f"`{name}` must be None or a value from rope_xp.{name}, got {value!r}, {wrong}"
        raise TypeError(msg)
    advice = f"`{name}` must be hashable and equal by value, as a frozen dataclass of numbers is"
    if type(value).__eq__ is object.__eq__:
        msg = f"{advice}, got {value!r}, which is equal to itself only"
        raise TypeError(msg)
    try:
        hash(value)
    except TypeError as error:
        msg = f"{advice}, got {value!r}: {error}"
        raise TypeError(msg) from None


def call_checked(
    name: str, parameters: str, function: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    """``function(*args, **options)``; TypeError if it does not take these ``parameters``."""
    try:
        return function(*args, **options)
    except TypeError:
        try:
            inspect.signature(function).bind(*args, **options)
        except (TypeError, ValueError) as error:  # ValueError: a builtin without a signature
            msg = f"`{name}` must take the parameters {parameters}, got {function!r}: {error}"
            raise TypeError(msg) from None
        raise


def require_position_range(name: str, first: int, n: int = 1) -> None:
    """ValueError unless ``first`` and the ``n`` − 1 positions after it are in `POSITION_RANGE`."""
    if not (isinstance(first, int) and isinstance(n, int)):
        return  # traced: not known before the program runs
    # No sequence that starts below 2**30 reaches the end, and a comparison with a traced ``n`` would
    # make the compiled program depend on it.
    if first < POSITION_RANGE[0] or (first > 2**30 and first + n > POSITION_RANGE[1]):
        msg = f"`{name}` must keep positions in [-2**31, 2**31), got {first} for {n} tokens"
        raise ValueError(msg)


def require_integer_dtype(dtype: Any) -> None:
    """TypeError unless ``dtype`` is an integer dtype or None."""
    if dtype is not None and "int" not in _backends.dtype_name(dtype):
        msg = f"`dtype` must be an integer dtype, got {_backends.dtype_name(dtype)}"
        raise TypeError(msg)


def require_integer(name: str, array: Array) -> None:
    """TypeError unless ``array`` has an integer dtype, which bool is not."""
    if not _backends.is_integer(array):
        msg = f"`{name}` must be integer, got {_backends.dtype_name(array.dtype)}"
        raise TypeError(msg)


def require_real(name: str, array: Array) -> None:
    """TypeError unless ``array`` has an integer or a real floating dtype."""
    if not (_backends.is_integer(array) or _backends.is_floating(array)):
        msg = f"`{name}` must be integer or real floating, got {_backends.dtype_name(array.dtype)}"
        raise TypeError(msg)


def to_float32(value: float) -> float:
    """``value`` rounded to the nearest float32, for values in the normal range.

    In plain Python, because compilers evaluate that while they trace.
    """
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def is_known(size: float | None) -> bool:
    """False for the unknown sizes of lazy arrays, which are NaN or None."""
    return size is not None and size == size  # noqa: PLR0124 - a traced size has no isnan
