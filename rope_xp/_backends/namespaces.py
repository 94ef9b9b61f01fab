"""Which library an array comes from, and the array API namespace that goes with it.

The library is found from the name of the array's type: the general lookup of array-api-compat costs
more than a decode step can give away and does not trace under ``torch.compile``. Types that are not
in the table (tensor subclasses, libraries that bring a standard namespace of their own) go through
that lookup.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeGuard

import array_api_compat
import numpy as np

from rope_xp._backends import cupy, dask, jax, ndonnx, numpy, torch, torch_distributed
from rope_xp._backends.dtypes import dtype_name
from rope_xp._backends.library import (
    Array,
    Axes,
    Blocks,
    Device,
    Dtype,
    Library,
    Namespace,
    Operand,
)

LIBRARIES = {
    module.LIBRARY.name: module.LIBRARY for module in (numpy, torch, jax, cupy, dask, ndonnx)
} | {"jaxlib": jax.LIBRARY, "torch.distributed.tensor": torch_distributed.LIBRARY}


def library_of(array: Array) -> Library:
    """What is known about the library of ``array``; of others no more than the standard."""
    module = type(array).__module__
    found = LIBRARIES.get(module)
    if found is None:  # jaxlib._jax, cupy._core.core, …
        if is_compiling():  # which knows types only as far as it needs them
            return torch.LIBRARY
        name = module.partition(".")[0]
        found = LIBRARIES.get(name)
    return found or _OTHERS.get(type(array)) or _other_library(name, array)


# Libraries that are not in the table, by the types of their arrays: what is known is made once.
_OTHERS: dict[type, Library] = {}


def _other_library(name: str, array: Array) -> Library:
    try:
        xp = array_api_compat.array_namespace(array)
    except TypeError:
        return Library(name, lambda: array_api_compat.array_namespace(array))  # raises it again
    return _OTHERS.setdefault(type(array), Library(name, lambda: xp))


def namespace(**arrays: Array) -> Namespace:
    """The one array API namespace of all ``arrays``, which are given by their argument names.

    Raises TypeError for what is no array, None included, and for arrays of different libraries,
    ValueError for arrays on different devices.
    """
    first_name, xp, where = "", None, None
    first: Any = None
    for name, array in arrays.items():
        if xp is None:
            first_name, first, xp, where = name, array, _namespace(name, array), device(array)
        elif type(array) is type(first) and (where is None or array.device == where):
            require_supported(name, array)  # most often
        elif _namespace(name, array) is not xp:
            msg = (
                f"`{name}` must be an array of the same library as `{first_name}` "
                f"({library_of(first).name}), got {library_of(array).name}"
            )
            raise TypeError(msg)
        elif is_distributed(array) and not is_distributed(first):
            msg = (
                f"`{name}` must be on one device, as `{first_name}` is, got a {type(array).__name__}: pass "
                f"what this device has of it, its to_local(), or `{first_name}` as one, too"
            )
            raise TypeError(msg)
        elif device(array) != where:
            msg = f"`{name}` must be on the same device as `{first_name}` ({where}), got {device(array)}"
            raise ValueError(msg)
    return xp


def _namespace(name: str, array: Array) -> Namespace:
    # Tensors without values have no shape that can be asked for, but always a dtype.
    if hasattr(array, "dtype") and hasattr(type(array), "shape"):
        library = library_of(array)
        try:
            xp = library.load()
        except TypeError:
            pass  # the error below says more
        else:
            # A subclass may be of another module than its library.
            require_supported(name, array, LIBRARIES.get(library_name(xp), library))
            return xp
    msg = (
        f"`{name}` must be an array of a library that follows the array API standard "
        f"(numpy, torch, jax, cupy, dask, …), got {type(array).__name__}"
    )
    raise TypeError(msg)


def require_supported(name: str, array: Array, library: Library | None = None) -> None:
    """TypeError if ``array`` is of a kind that nothing can be computed with."""
    wrong = (library_of(array) if library is None else library).unsupported(array)
    if wrong is not None:
        msg = f"`{name}` must be {wrong}"
        raise TypeError(msg)


def missing_dtypes(xp: Namespace, where: Device | None) -> frozenset[str]:
    """The 64-bit dtypes that arrays of this library cannot have there."""
    library = LIBRARIES.get(library_name(xp))
    if library is not None and library.missing_dtypes is not None:
        missing: frozenset[str] = library.missing_dtypes(where)
        return missing
    found = xp.__array_namespace_info__().dtypes(device=where)
    wide = ("int64", "uint64", "float64")
    return frozenset(name for name in wide if name not in found)


def require_available(name: str, dtype: Dtype, xp: Namespace, where: Device | None) -> None:
    """TypeError if arrays of this library cannot have ``dtype`` there: some give another silently."""
    found = dtype_name(dtype)
    if found in missing_dtypes(xp, where):
        library = library_name(xp)
        advice = LIBRARIES[library].missing_dtypes_advice if library in LIBRARIES else ""
        msg = f"`{name}` must be a dtype that {library} has here{advice and ': '}{advice}, got {found}"
        raise TypeError(msg)


def shared_namespace(first: Array, second: Array, third: Array) -> Namespace | None:
    """The namespace of three eager arrays that plainly belong together; None for all others."""
    return library_of(first).shared_namespace(first, second, third)


def compat_namespace(xp: Namespace | None) -> Namespace:
    """The standard namespace of a module that a user names (``torch``, ``numpy``, …)."""
    if xp is not None and not (hasattr(xp, "__name__") and hasattr(xp, "asarray")):
        msg = f"`xp` must be a module of array functions (numpy, torch, …), got {repr(xp)[:100]}"
        raise TypeError(msg)
    library = LIBRARIES.get("numpy" if xp is None else library_name(xp))
    return xp if library is None else library.load()


def load_namespace(name: str) -> Namespace:
    """The namespace of a library that is known here by its name, or any other module."""
    library = LIBRARIES.get(name)
    return import_module(name) if library is None else library.load()


def imported_libraries() -> list[Namespace]:
    """The namespaces of other libraries than NumPy that are known here and have been imported."""
    others = {each.name: each for each in LIBRARIES.values() if each is not numpy.LIBRARY}
    found = []
    for name, library in others.items():
        if name in sys.modules:
            with contextlib.suppress(ImportError):  # of dask, the part that has arrays
                found.append(library.load())
    return found


def require_device(xp: Namespace, device: Device | None) -> Device | None:
    """``device``, as the library's arrays have it; ValueError if it has no such device."""
    if device is None or is_compiling():
        return device
    try:
        made = xp.empty(0, device=device)
    except Exception as error:  # each library has its own for this
        msg = (
            f"`device` must be a device that {library_name(xp)} has here, got {repr(device)[:100]}"
        )
        raise ValueError(msg) from error
    found = library_of(made).device(made)
    return device if found is None else found


def require_dtype_of(xp: Namespace, name: str, dtype: Dtype) -> None:
    """TypeError unless ``dtype`` is one of the library of ``xp``."""
    library = LIBRARIES.get(library_name(xp))
    if library is None or library.is_dtype is None:
        # By their types first: a namespace has numbers, too, and array-api-strict warns of NumPy's dtypes.
        found = getattr(xp, dtype_name(dtype), None)
        comparable = type(found) is type(dtype) or isinstance(found, type)
        known = comparable and not isinstance(dtype, float) and bool(found == dtype)
    else:
        known = library.is_dtype(dtype)
    if not known:
        msg = f"`{name}` must be a dtype of {library_name(xp)}, got {repr(dtype)[:100]}"
        raise TypeError(msg)


def library_name(xp: Namespace) -> str:
    """``"torch"`` for torch and for array-api-compat's namespace of it."""
    name: str = xp.__name__
    return name.removeprefix("array_api_compat.").partition(".")[0]


def device(array: Array) -> Device | None:
    """Where arrays that meet ``array`` must be made; None where the library decides by itself."""
    return library_of(array).device(array)


def is_writable(array: Array) -> bool:
    """Whether elements of ``array`` can be assigned."""
    return not library_of(array).read_only(array)


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` traces this call: a memo would make it warn."""
    return "torch" in sys.modules and torch.is_compiling()


def is_exporting() -> bool:
    """Whether ``torch.export`` traces this call: for all sizes, not for those of the example."""
    return "torch" in sys.modules and torch.is_exporting()


def size_along(array: Array, axis: int) -> Any:
    """The size of an axis: an int, or what a library that does not know it yet computes with.

    None where it cannot.
    """
    size = array.shape[axis]
    unknown = size is None or size != size  # noqa: PLR0124 - NaN
    return library_of(array).count(array, axis) if unknown else size


def reshape(array: Array, shape: tuple[int, ...], xp: Namespace) -> Array:
    """The standard's; leading axes that do not change may have unknown sizes."""
    own = library_of(array).reshape
    return xp.reshape(array, shape) if own is None else own(array, shape)


def has_no_bits(array: Array) -> bool:
    """Whether what is done with ``array`` is exported to where integers have no bitwise operations."""
    return library_of(array).has_no_bits()


def is_traced_size(value: Any) -> bool:
    """Whether ``value`` is a size that its library traces, of a type that is no int to Python."""
    if value is None or isinstance(value, int):
        return False  # most often
    return library_of(value).is_traced_size(value)


_NO_ARRAYS = (int, np.generic, type, ModuleType)  # a tuple is sooner looked through than a union


def is_array(value: Any) -> TypeGuard[Array]:
    """Arrays, but not NumPy's scalars, nor the sizes that a compiler traces."""
    # Types of NumPy's scalars and modules of arrays have a `dtype`, too.
    no_array = isinstance(value, _NO_ARRAYS)
    return not no_array and hasattr(value, "dtype")


def describe(array: Array) -> str:
    """What ``array`` is, for messages."""
    library = library_of(array)
    why = library.read_only(array)
    return f"a read-only array of {library.name} ({why})" if why else f"an array of {library.name}"


def strides(array: Array) -> tuple[int, ...]:
    """Steps from one element to the next along each axis, in elements or bytes as its library does."""
    return tuple(array.strides if hasattr(array, "strides") else getattr(array, "stride", tuple)())


def has_internal_overlap(array: Array) -> bool:
    """Whether several elements may share a place in memory, as in broadcast views and windows.

    False only where each axis steps over all that the axes with smaller steps cover, as in all slices,
    transposes and reversals of arrays without overlap.
    """
    shape, steps = array.shape, strides(array)
    if 0 in shape:
        return False
    element = expected = array.dtype.itemsize if hasattr(array, "strides") else 1
    for step, n in zip(steps[::-1], shape[::-1], strict=False):
        if n > 1 and step != expected:
            break
        expected *= n
    else:
        return False  # most often: contiguous
    axes = [(abs(step), n) for step, n in zip(steps, shape, strict=False) if n > 1]
    # Without sorting them, which torch.compile cannot do with sizes that it traces.
    return any(
        step * n < element + sum(s * (m - 1) for s, m in axes if s <= step) for step, n in axes
    )


def default_real_dtype(xp: Namespace, device: Device | None) -> Dtype:
    """The dtype of new arrays of real numbers on ``device``, whatever a global setting says."""
    library = LIBRARIES.get(library_name(xp)) or Library(library_name(xp), lambda: xp)
    return library.real_dtype(xp, device)


def host_values(array: Array) -> Any:
    """The values of ``array`` as a NumPy array where they are at hand, else None; bfloat16 as float32."""
    values = library_of(array).host_values(array)
    if values is not None and values.dtype.kind == "V":  # not NumPy's own: to it no number
        return values.astype(np.float32)
    return values


def to_host(array: Array) -> Any:
    """A NumPy array in float64 of the values of ``array``, wherever they are."""
    # A user's subclass is copied as what it is derived from.
    names = (base.__module__.partition(".")[0] for base in type(array).__mro__)
    library = next((LIBRARIES[name] for name in names if name in LIBRARIES), library_of(array))
    return library.to_host(array).astype(np.float64)


def require_vjp(name: str, xp: Namespace) -> None:
    """ValueError unless the library differentiates."""
    library = LIBRARIES.get(library_name(xp))
    if library is None or library.vjp is None:
        msg = f"`{name}` must be a function for arrays of {library_name(xp)}, which has no derivatives"
        raise ValueError(msg)


def vjp(function: Callable[[Array], Array], x: Array, grad_out: Array) -> Array | None:
    """The gradient of ``x`` by the library's own derivative of ``function``; None where it has none."""
    differentiate = library_of(x).vjp
    return None if differentiate is None else differentiate(function, x, grad_out)


def is_near_host(array: Array) -> bool:
    """Whether a few numbers are sooner made on the host and copied to ``array`` than made beside it."""
    return library_of(array).is_near_host(array)


def cache_block_bytes(array: Array) -> int:
    """How large arrays should be at most while something is made of ``array``; 0: whole is best."""
    return library_of(array).cache_block_bytes(array)


def materialize_under_compile(array: Array) -> Array:
    """``array``, and where its library compiles a hint to keep it in memory."""
    return library_of(array).materialize_under_compile(array)


def write_slots(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None
) -> Sequence[Array] | None:
    """`Library.write_slots`, where the library has it and each element has its own place in memory."""
    write = library_of(arrays[0]).write_slots
    if write is None or any(map(has_internal_overlap, arrays)):
        return None
    return write(arrays, index, values, valid)


def blocks_of(array: Array) -> Blocks | None:
    """How to compute block by block, if ``array`` is made of blocks."""
    return library_of(array).blocks


def may_be_spread(array: Array) -> bool:
    """Whether arrays as ``array`` may be in several pieces, where others have to be placed beside them."""
    return library_of(array).place is not None


def is_lazy(array: Array) -> bool:
    """Whether ``array`` is made of blocks that are computed later."""
    blocks = library_of(array).blocks
    return blocks is not None and blocks.is_split_alike is None


def is_distributed(array: Array) -> bool:
    """Whether ``array`` has parts on several devices, each with its own process."""
    blocks = library_of(array).blocks
    return blocks is not None and blocks.is_split_alike is not None


def require_one_device(when: str, **arrays: Array) -> None:
    """TypeError if one of the arrays is distributed, ``when`` that has no result."""
    for name, array in arrays.items():
        if is_distributed(array):
            msg = (
                f"`{name}` must be on one device where {when}, got a {type(array).__name__}: pass what this "
                f"device has of it, its to_local()"
            )
            raise TypeError(msg)


def place(name: str, x: Array, axes: Axes, *, few: int = 0, **named: Array) -> Array:
    """An array, by its name, where ``x`` (an argument ``name``) is along ``axes``: `Library.place`."""
    ((array_name, array),) = named.items()
    function = library_of(x).place
    if function is None:
        return array
    return function(Operand(array_name, array, axes), features_whole(name, x), few)


def features_whole(name: str, x: Array) -> Operand:
    """``x`` (an argument ``name``) as an operand, each block of which has all features."""
    return Operand(name, x, (*range(x.ndim - 1), None))


def widest(array: Array, xp: Namespace) -> Dtype:
    """float64 where the library and the device of ``array`` have it, else float32."""
    kinds = xp.__array_namespace_info__().dtypes(device=device(array), kind="real floating")
    return xp.float64 if "float64" in kinds else xp.float32


def cumulative_sum(array: Array, dtype: Dtype, xp: Namespace, axis: int = -1) -> Array:
    """Along ``axis``, in ``dtype``; by its older name where there is one.

    array-api-compat's wrapper makes ``torch.compile`` warn of a cached lookup.
    """
    function = xp.cumsum if hasattr(xp, "cumsum") else xp.cumulative_sum
    # Along an axis counted from the end, a DTensor is silently summed on each device alone (torch 2.13).
    return function(array, axis=axis % array.ndim, dtype=dtype)
