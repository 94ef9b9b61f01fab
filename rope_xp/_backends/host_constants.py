"""Host constants: NumPy arrays and Python numbers beside the arrays of another library.

Positions, tables, offsets and masks may be that, wherever the library accepts NumPy in functions of its
own. They become arrays of the library here, with the values that they have. An array on a device is none,
and never changes its library.
"""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

from rope_xp._backends import numpy, torch
from rope_xp._backends.dtypes import FLOATING, INTEGER, dtype_name
from rope_xp._backends.library import Array, Namespace
from rope_xp._backends.namespaces import (
    device,
    is_compiling,
    is_lazy,
    library_of,
    missing_dtypes,
    namespace,
    require_supported,
)

# Tuples of types: torch.compile does not know their unions.
SEQUENCES = (list, tuple, range)
CONSTANTS = (np.ndarray, np.generic, int, float, *SEQUENCES)


def join(**values: Any) -> tuple[Any, ...]:
    """The namespace of the first array of a library among ``values``, and all of them as its arrays.

    The others may be host constants: NumPy arrays and scalars, Python numbers, and nested sequences of
    them. If all are, they are NumPy's. None stays None. Errors are those of `namespace` and `beside`.
    """
    if {*map(type, values.values())} == {np.ndarray}:
        return numpy.load(), *values.values()  # most often
    if len(values) == 1:
        (value,) = values.values()
        if not is_host_constant(value):
            return namespace(**values), value
    leads = (name for name, value in values.items() if not is_host_constant(value))
    lead = next((name for name in leads if values[name] is not None), None)
    if lead is None:
        made = {name: host_array(name, value) for name, value in values.items()}
        return namespace(**made), *made.values()
    xp = namespace(**{lead: values[lead]})
    return xp, *beside(lead, values[lead], xp, **values)


def beside(
    first_name: str,
    first: Array,
    xp: Namespace,
    *,
    rounded: bool = False,
    may_stay: bool = False,
    **values: Any,
) -> tuple[Any, ...]:
    """Host constants as arrays of the library and on the device of ``first``; others are checked.

    Values stay what they are. What the library cannot represent is refused; real numbers may be
    ``rounded``, as tables are, and what ``may_stay`` in NumPy is computed with there.
    """
    made = []
    for name, value in values.items():
        if not is_host_constant(value):
            namespace(**{first_name: first, name: value})
            made.append(value)
            continue
        if is_compiling():
            # What is NumPy's here is torch's in disguise.
            made.append(torch.trace_constant(value, device(first)))
            continue
        constant = host_array(name, value)
        require_supported(name, constant, numpy.LIBRARY)
        if not isinstance(first, np.ndarray):
            constant = _from_host(name, constant, first, xp, rounded=rounded, may_stay=may_stay)
        made.append(constant)
    return tuple(made)


def is_host_constant(value: Any) -> bool:
    """Whether ``value`` is NumPy's, a Python number, or a sequence, which any library's arrays may meet."""
    return isinstance(value, CONSTANTS)


def is_host_array(value: Any) -> bool:
    """Whether ``value`` is a host constant with axes, or NumPy's where ``torch.compile`` traces."""
    if isinstance(value, np.ndarray):  # there a NumPy scalar is one, too
        return value.ndim > 0 or is_compiling()
    return isinstance(value, SEQUENCES)


def host_array(name: str, value: Any) -> Any:
    """A host constant as a NumPy array of numbers, without rounding; others as they are.

    TypeError for other members of a sequence, ValueError for integers of more than 64 bits and for
    rows of several lengths.
    """
    if isinstance(value, np.ndarray) or not is_host_constant(value):
        return value
    if isinstance(value, np.generic) and dtype_name(value.dtype) == "bfloat16":
        return np.asarray(value)  # of a type that NumPy does not count as a number
    kinds = _kinds(value)
    other = next((k for k in kinds if not issubclass(k, int | float | np.number | np.bool)), None)
    if other is not None:
        msg = f"`{name}` must be an array or a sequence of numbers, got one of {other.__name__}"
        raise TypeError(msg)
    try:
        made = np.asarray(value, dtype=None if kinds else np.int64)
    except ValueError:
        msg = f"`{name}` must have rows of one length, got {reprlib.repr(value)}"
        raise ValueError(msg) from None
    integral = any(issubclass(kind, int | np.integer) for kind in kinds)
    if made.dtype.kind == "O" or (made.dtype.kind == "f" and integral and _is_rounded(value, made)):
        msg = f"`{name}` must be numbers that one dtype of 64 bits represents, got {reprlib.repr(value)}"
        raise ValueError(msg)
    return made


def _is_rounded(value: Any, made: np.ndarray) -> bool:
    """Whether NumPy rounded integers, beside real numbers or signed ones beside those of 64 bits."""
    pairs = zip(np.asarray(value, dtype=object).flat, made.flat, strict=True)
    return any(int(a) != b.item() for a, b in pairs if isinstance(a, int | np.integer))


def _kinds(value: Any) -> set[type]:
    """The types of the numbers in a nested sequence."""
    if isinstance(value, np.ndarray):
        return {value.dtype.type}
    if not isinstance(value, SEQUENCES):
        return {type(value)}
    if isinstance(value, range):
        return {int}
    kinds = set(map(type, value))
    nested = {k for k in kinds if issubclass(k, (*SEQUENCES, np.ndarray))}
    return (kinds - nested).union(*(_kinds(v) for v in value if type(v) in nested))


def _from_host(
    name: str, values: Any, first: Array, xp: Namespace, *, rounded: bool, may_stay: bool
) -> Array:
    kind, where, library = dtype_name(values.dtype), device(first), library_of(first)
    if kind not in (*FLOATING, *INTEGER, "bool"):
        msg = f"`{name}` must be integer or real floating, got {kind}"
        raise TypeError(msg)
    if kind in ("float16", "bfloat16"):
        values = values.astype(np.float32)  # nothing is computed in less, and not all take these
    if may_stay and is_lazy(first):  # it will be placed in the blocks of another array
        return np.array(values, dtype=values.dtype.newbyteorder("="))
    if kind in missing_dtypes(xp, where):
        narrow = kind.replace("64", "32")
        with np.errstate(over="ignore"):
            narrowed = values.astype(narrow)
        floating = kind in FLOATING
        if not (rounded and floating) and not np.array_equal(narrowed, values, equal_nan=floating):
            if may_stay:
                return values
            msg = f"`{name}` must fit {narrow} where {library.name} has no {kind}"
            msg += f" ({library.missing_dtypes_advice})" if library.missing_dtypes_advice else ""
            wrong = values[(narrowed != values) & (values == values)].flat[0]  # noqa: PLR0124
            msg += f", got {wrong}"
            raise ValueError(msg)
        values = narrowed
    if library.from_host is not None:
        return library.from_host(values, where)
    # A copy: the constant may be changed before a lazy library looks at it. By the name of its dtype: in
    # any byte order, and 2**63 is an ulonglong, which not all know for a uint64.
    return xp.asarray(values.astype(values.dtype.name), device=where)


def from_host(values: Any, beside: Array, xp: Namespace) -> Array:
    """An array beside another one, of a NumPy array that nobody else has."""
    library = library_of(beside)
    if library.from_host is None:
        return xp.asarray(values, device=library.device(beside))
    return library.from_host(values, library.device(beside), copy=False)
