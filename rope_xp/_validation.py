"""Checks that several modules share, with one wording for each, and float32 rounding in Python."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array

#: Frequencies are smaller in magnitude: float32 has no larger numbers, and exact phases no more digits.
MAX_FREQUENCY = 2.0**128

#: Factors on cos and sin are between 1 / MAX_FACTOR and MAX_FACTOR: float32 then has their squares, too.
MAX_FACTOR = 2.0**63

#: No head and no encoding is wider, and a typing error must not ask for as many frequencies.
MAX_FEATURES = 2**20

#: Lengths are smaller: int64 has no larger numbers.
MAX_LENGTH = 2**63

S = TypeVar("S", bound=str)
Precision = Literal["exact", "float32"]
_PRECISIONS = get_args(Precision)
_LINE = 100  # characters of a value that a message quotes


class _Short(reprlib.Repr):
    """Reprs of nested values that cost and print little however large the values are."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = _LINE

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        # Python refuses to print an int of 4300 digits.
        return repr(x) if x.bit_length() <= 256 else f"an int of {x.bit_length()} bits"

    def repr_instance(self, x: Any, level: int) -> str:
        return _describe(x) if _backends.is_array(x) else super().repr_instance(x, level)


_short = _Short()


def quote(value: object) -> str:
    """``value`` for a message: its repr, or of all but small arrays the kind, in at most a line."""
    text = _describe(value) if _backends.is_array(value) else _short.repr(value)
    return shorten(text)


def shorten(text: str) -> str:
    """``text`` in at most a line of a message."""
    text = " ".join(text.splitlines())
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def _describe(array: Array) -> str:
    if isinstance(array, np.ndarray) and array.size <= 8 and array.dtype.kind in "iufb":
        return repr(array)
    kind = type(array)
    dtype = f" and dtype {array.dtype}" if hasattr(array, "dtype") else ""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__} of shape {array.shape}{dtype}"


def settle_fields(made: Any, **rules: Callable[[str, Any], Any]) -> None:
    """Each field of a frozen dataclass becomes what its rule, ``rule(name, value)``, makes of it.

    Objects with equal fields of other types are then the same: NumPy's numbers are Python's, and lists
    are tuples. A field that is None by default may be None.
    """
    for name, rule in rules.items():
        value = getattr(made, name)
        if value is not None or made.__dataclass_fields__[name].default is not None:
            object.__setattr__(made, name, rule(name, value))


class GivenFields(dict[str, Any]):
    """The fields of a `rope_xp.RoPE`, as `dataclasses` finds them: of an object, without what was not given.

    `dataclasses.replace` gives a new object what the old one has as attributes; so a ``rotary_dim``
    that follows from ``head_dim`` would no longer follow.
    """

    def __get__(self, rope: Any, _: type) -> dict[str, Any]:
        derives = rope is not None and rope._derives_rotary_dim
        return {n: field for n, field in self.items() if not derives or n != "rotary_dim"}


def as_int(name: str, value: Any) -> Any:
    """``value`` if it is a Python or NumPy integer, else TypeError.

    A size that a compiler traces is an integer, too. It is returned as it is, because ``int`` would
    turn it into a constant.
    """
    if type(value) is int:
        return value
    if _backends.is_compiling() and isinstance(value, np.ndarray):
        msg = f"`{name}` must be an int where torch.compile traces, got a number of NumPy's"
        raise TypeError(msg)
    if isinstance(value, np.integer) and not isinstance(value, np.timedelta64):
        return int(value)
    # What has no arithmetic, but ``__index__``, can be an index and no size.
    is_number = hasattr(type(value), "__index__") and hasattr(type(value), "__add__")
    if isinstance(value, bool | np.generic) or _backends.is_array(value) or not is_number:
        msg = f"`{name}` must be an int, got {quote(value)}"
        raise TypeError(msg)
    return value


def as_int_or_traced(name: str, value: Any) -> Any:
    """As `as_int`; also a size that a library traces and that is no int to Python, as it is."""
    return value if _backends.is_traced_size(value) else as_int(name, value)


def as_constant(value: Any) -> Any:
    """``value`` as a float that stays a constant while a compiler traces.

    Frequencies must be constants. A compiler that treats a float argument as data treats
    ``float(argument)`` as data, too.
    """
    return value.__float__()


def as_size(name: str, value: Any, *, maximum: int = MAX_FEATURES) -> Any:
    """``value`` as `as_int`; ValueError unless it is in [1, ``maximum``]."""
    size = as_int(name, value)
    if size <= 0:
        msg = f"`{name}` must be positive, got {quote(size)}"
        raise ValueError(msg)
    if size > maximum:
        msg = f"`{name}` must be at most {maximum}, got {quote(size)}"
        raise ValueError(msg)
    return size


def as_seq_len(name: str, value: Any) -> Any:
    """``value`` as `as_int`; ValueError unless it is positive and below `MAX_LENGTH`."""
    return as_size(name, value, maximum=MAX_LENGTH - 1)


def as_number(name: str, value: Any) -> Any:
    """``value`` as a Python int or float; ValueError unless it is finite and a float can hold it."""
    number = _as_real(name, value)
    if not -math.inf < number < math.inf:  # a number that a compiler traces has no isfinite
        msg = f"`{name}` must be finite, got {number}"
        raise ValueError(msg)
    return number


def _as_real(name: str, value: Any) -> Any:
    """``value`` of any real type as a Python int or float; TypeError for what is no real number."""
    if type(value) is float:
        return value
    real = isinstance(value, Real) and not isinstance(value, bool | np.timedelta64)
    if not real and isinstance(value, np.generic):  # ml_dtypes' numbers are not registered
        real = _backends.dtype_name(value.dtype) in _backends.FLOATING
    if not real:
        msg = f"`{name}` must be a number, got {quote(value)}"
        raise TypeError(msg)
    if type(value) is int and -(2**1023) < value < 2**1023:
        return value
    try:
        number = float(value)
    except OverflowError:
        msg = f"`{name}` must be a number that a float can hold, got {quote(value)}"
        raise ValueError(msg) from None
    return int(value) if isinstance(value, Integral) else number


def require_number(name: str, value: Any) -> float:
    """``value`` as a finite Python float."""
    return float(as_number(name, value))


def require_positive(name: str, value: Any) -> float:
    """``value`` as a positive and finite Python float."""
    number = _as_real(name, value)
    if not 0 < number < math.inf:
        msg = f"`{name}` must be positive and finite, got {float(number)}"
        raise ValueError(msg)
    return float(number)


def require_bool(name: str, value: Any) -> bool:
    """``value`` as a Python bool; TypeError unless it is one or NumPy's."""
    if type(value) is not bool and not isinstance(value, np.bool_):
        msg = f"`{name}` must be True or False, got {quote(value)}"
        raise TypeError(msg)
    return bool(value)


def require_scale_factor(name: str, value: Any) -> float:
    """``value`` as a Python float of at least 1."""
    number = as_number(name, value)
    if number < 1:
        msg = f"`{name}` must be at least 1, got {quote(number)}"
        raise ValueError(msg)
    return float(number)


def require_factor(name: str, value: Any) -> float:
    """``value``, a factor on cos and sin, as a positive Python float that float32 has, squared or not."""
    number = require_positive(name, value)
    if not 1 / MAX_FACTOR <= number <= MAX_FACTOR:
        msg = f"`{name}` must be in [2**-63, 2**63], got {number}"
        raise ValueError(msg)
    return number


def require_attention_factor(value: Any) -> float:
    """``value`` as a finite Python float that float32 has, squared or not; of either sign, or 0."""
    if type(value) is float and 2.0**-63 <= value <= MAX_FACTOR:
        return value  # most often
    factor = require_number("attention_factor", value)
    if factor and not 1 / MAX_FACTOR <= abs(factor) <= MAX_FACTOR:
        msg = f"`attention_factor` must be 0 or in [2**-63, 2**63] in magnitude, got {factor}"
        raise ValueError(msg)
    return factor


def require_context_length(name: str, value: Any) -> int:
    length: int = as_int(name, value)
    if not 1 < length < MAX_LENGTH:
        rule = "greater than 1" if length <= 1 else "below 2**63"
        msg = f"`{name}` must be an int {rule}, got {quote(length)}"
        raise ValueError(msg)
    return length


def require_list(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as a hashable tuple of positive Python floats."""
    return tuple(
        require_positive(f"{name}[{i}]", value) for i, value in enumerate(_as_tuple(name, values))
    )


def _as_tuple(name: str, values: Any) -> tuple[Any, ...]:
    if type(values) not in (list, tuple) and not is_listable(values):
        msg = f"`{name}` must be a list of numbers, got {quote(values)}"
        raise TypeError(msg)
    return tuple(values)


def is_listable(values: Any) -> bool:
    """Not a scalar, an array without axes or of another library, text, or a collection without order."""
    if _backends.is_array(values) and not isinstance(values, np.ndarray):
        return False  # its elements would be arrays, if it has an iterator at all
    # The type's: torch.compile does not know what attributes a number has that it traces.
    scalar = not hasattr(type(values), "__iter__") or getattr(values, "shape", None) == ()
    return not scalar and not isinstance(values, str | bytes | bytearray | AbstractSet | Mapping)


def as_frequencies(name: str, values: Any) -> tuple[float, ...]:
    """``values``, radians per step, as a tuple of finite Python floats below `MAX_FREQUENCY`."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind == "f":
        values = values.astype(np.float64) if values.dtype.itemsize < 8 else values
        values = values.tolist()  # Python floats at once, but for longdouble
    values = _as_tuple(name, values)
    if {*map(type, values)} <= {float}:  # most often, and then at once
        floats: tuple[float, ...] = values
    else:
        floats = tuple(require_number(f"{name}[{i}]", value) for i, value in enumerate(values))
    if _backends.is_compiling():
        floats = tuple(map(as_constant, floats))
        _require_frequencies(name, floats)
    else:
        _known_frequencies(name, floats)
    return floats


def _require_frequencies(name: str, floats: tuple[float, ...]) -> None:
    for i, value in enumerate(floats):
        require_frequency(f"{name}[{i}]", value)


# A memo of a check that passed; torch.compile would warn of it.
_known_frequencies = lru_cache(maxsize=256)(_require_frequencies)


def require_frequency(name: str, value: float) -> float:
    """``value``; ValueError unless it is finite and below `MAX_FREQUENCY` in magnitude."""
    if not abs(value) < MAX_FREQUENCY:
        rule = "below 2**128 in magnitude" if math.isfinite(value) else "finite"
        msg = f"`{name}` must be {rule}, got {value}"
        raise ValueError(msg)
    return value


def require_base(base: float) -> float:
    """``base`` as a Python float; TypeError if it is no number, ValueError if not positive."""
    return require_positive("base", base)


def require_one_of(name: str, value: object, choices: Iterable[S]) -> S:
    """The one of the strings ``choices`` that ``value`` is, else ValueError."""
    if isinstance(value, str):
        for choice in choices:
            if choice == value:  # a string of NumPy's, or of an enumeration
                return choice
    msg = f"`{name}` must be one of {', '.join(map(repr, choices))}, got {quote(value)}"
    raise ValueError(msg)


def require_precision(precision: object) -> Precision:
    found: Precision = require_one_of("precision", precision, _PRECISIONS)
    return found


def require_value(name: str, value: object, missing: list[str], *, package: str = "") -> None:
    """TypeError unless ``value`` is hashable and equal by value, and no member is ``missing``.

    ``name`` is the argument, and if there is no ``package`` that of the package with values for it.
    """
    wrong = f"which has no {', '.join(f'`{member}`' for member in missing)}" if missing else ""
    if isinstance(value, type):
        wrong = "a class, not a value of it"
    if wrong:
        msg = f"`{name}` must be None or a value from rope_xp.{package or name}, got {quote(value)}, {wrong}"
        raise TypeError(msg)
    advice = f"`{name}` must be hashable and equal by value, as a frozen dataclass of numbers is"
    if type(value).__eq__ is object.__eq__:
        msg = f"{advice}, got {quote(value)}, which is equal to itself only"
        raise TypeError(msg)
    try:
        hash(value)
    except TypeError as error:
        msg = f"{advice}, got {quote(value)}: {error}"
        raise TypeError(msg) from None


def require_call(name: str, value: object, arguments: str, *, package: str) -> None:
    """TypeError unless ``value`` is None, or callable, hashable and equal by value."""
    if value is not None:
        missing = [] if callable(value) else [f"__call__({arguments})"]
        require_value(name, value, missing, package=package)


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
            known = f"; values are in rope_xp.{name}" if name in {"scaling", "axes"} else ""
            got = f"got {quote(function)}: {shorten(str(error))}{known}"
            msg = f"`{name}` must take the parameters {parameters}, {got}"
            raise TypeError(msg) from None
        raise


def require_integer_dtype(dtype: Any, xp: Any = None, device: Any = None) -> None:
    """TypeError unless ``dtype`` is an integer dtype that ``xp`` has on ``device``, or None."""
    if dtype is None:
        return
    if _backends.dtype_name(dtype) not in _backends.INTEGER:
        msg = f"`dtype` must be an integer dtype, got {shorten(_backends.dtype_name(dtype))}"
        raise TypeError(msg)
    if xp is not None:
        _backends.require_dtype_of(xp, "dtype", dtype)
        _backends.require_available("dtype", dtype, xp, device)


def require_floating_dtype(dtype: Any, xp: Any, device: Any) -> None:
    """TypeError unless ``dtype`` is a floating dtype that ``xp`` has on ``device``."""
    _backends.require_dtype("dtype", dtype)
    _backends.require_dtype_of(xp, "dtype", dtype)
    _backends.require_available("dtype", dtype, xp, device)


def require_integer(name: str, array: Array) -> None:
    """TypeError unless ``array`` has an integer dtype, which bool is not."""
    if not _backends.is_integer(array):
        msg = f"`{name}` must be integer, got {_backends.dtype_name(array.dtype)}"
        raise TypeError(msg)


def require_features(name: str, x: Array, head_dim: int) -> None:
    """ValueError unless ``x`` has shape (..., seq, head_dim)."""
    if x.ndim < 2 or x.shape[-1] != head_dim:
        msg = f"`{name}` must have shape (..., seq, head_dim={head_dim}), got {tuple(x.shape)}"
        raise ValueError(msg)


def require_real(name: str, array: Array) -> None:
    """TypeError unless ``array`` has an integer or a real floating dtype."""
    if not (_backends.is_integer(array) or _backends.is_floating(array)):
        msg = f"`{name}` must be integer or real floating, got {_backends.dtype_name(array.dtype)}"
        raise TypeError(msg)


def require_leading_axes(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """ValueError unless the leading axes ``got`` broadcast to those of `q`, ``wanted``."""
    if len(got) > len(wanted) or any(
        size not in (1, full) and is_known(size) and is_known(full)
        for size, full in zip(got[::-1], wanted[::-1], strict=False)
    ):
        msg = f"`{name}` must have the leading axes of `q`, {tuple(wanted)}, or 1, got {tuple(got)}"
        raise ValueError(msg)


def to_float32(value: float) -> float:
    """``value`` rounded to the nearest float32; infinite beyond its range, exact below it.

    In plain Python, because compilers evaluate that while they trace.
    """
    if not -(2.0**128) < value < 2.0**128:  # NaN, too
        return value * math.inf
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def is_known(size: float | None) -> bool:
    """False for the unknown sizes of lazy arrays, which are NaN or None."""
    return size is not None and size == size  # noqa: PLR0124 - a traced size has no isnan
