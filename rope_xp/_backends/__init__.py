"""The only room that knows array libraries by name, but for its annex `_ways`.

Everything else works through the namespace that `namespace` returns. It is found from the name of
the array's type, because the general lookup of array-api-compat costs more than a decode step can
give away and does not trace under ``torch.compile``; for types that are not in the table (tensor
subclasses, libraries that bring their own standard namespace) it falls back to that lookup.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeGuard

import array_api_compat
import numpy as np

Array = Any
Namespace = Any
Dtype = Any
Device = Any

FLOATING = ("float16", "bfloat16", "float32", "float64")
_INTEGER = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def namespace(**arrays: Array) -> Namespace:
    """The one array API namespace of all ``arrays``, which are given by their argument names.

    Arguments that are None are left out. Raises TypeError for what is no array and for arrays of
    different libraries, ValueError for arrays on different devices.
    """
    first_name, xp, where = "", None, None
    first: Any = None
    for name, array in arrays.items():
        if array is None:
            continue
        if xp is None:
            first_name, first, xp, where = name, array, _namespace(name, array), device(array)
        elif type(array) is type(first) and (where is None or array.device == where):
            continue  # most often
        elif _namespace(name, array) is not xp:
            msg = (
                f"`{name}` must be an array of the same library as `{first_name}` ({library_of(first)}), "
                f"got {library_of(array)}"
            )
            raise TypeError(msg)
        elif device(array) != where:
            msg = f"`{name}` must be on the same device as `{first_name}` ({where}), got {device(array)}"
            raise ValueError(msg)
    return xp


def common_namespace(first: Array, second: Array, third: Array) -> Namespace | None:
    """The namespace of arrays that plainly belong together: for those that are used most often.

    None for all others, and while torch compiles.
    """
    kind = type(first)
    if type(second) is not kind or type(third) is not kind:
        return None
    if kind is np.ndarray:
        return _named("numpy")
    if kind.__module__ == "torch":
        import torch

        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if kind is torch.Tensor and not tracing:
            same = first.device == second.device == third.device
            return _named("torch") if same else None
    return None


def _namespace(name: str, array: Array) -> Namespace:
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        xp = _named(library_of(array))
        if xp is not None:
            return xp
        try:
            return array_api_compat.array_namespace(array)
        except TypeError:
            pass  # told better below
    msg = (
        f"`{name}` must be an array of a library that follows the array API standard "
        f"(numpy, torch, jax, cupy, dask, …), got {type(array).__name__}"
    )
    raise TypeError(msg)


def compat_namespace(xp: Namespace | None) -> Namespace:
    """The standard namespace behind a module that a user names (``torch``, ``numpy``, …)."""
    if xp is None:
        return _named("numpy")
    return _named(xp.__name__.removeprefix("array_api_compat.").partition(".")[0]) or xp


def library_of(array: Array) -> str:
    return type(array).__module__.partition(".")[0]


# Imports stand inside so that nobody pays for a library that their arrays do not come from.
def _named(root: str) -> Namespace | None:
    if root == "numpy":
        import array_api_compat.numpy as xp
    elif root == "torch":
        import array_api_compat.torch as xp
    elif root in ("jax", "jaxlib"):
        import jax.numpy as xp
    elif root == "cupy":
        import array_api_compat.cupy as xp
    elif root == "dask":
        import array_api_compat.dask.array as xp
    else:
        return None
    return xp


def device(array: Array) -> Device | None:
    """Where new arrays that meet ``array`` must be made; None where the library decides by itself.

    JAX moves new arrays to their partners, has no device on a tracer, and refuses mixed devices
    with a ValueError of its own; Dask has no devices.
    """
    return None if library_of(array) in ("jax", "jaxlib", "dask") else array.device


def is_writable(array: Array) -> bool:
    """Whether elements of ``array`` can be assigned. Dask could, but only by rebuilding its graph."""
    if isinstance(array, np.ndarray):
        return array.flags.writeable
    return library_of(array) not in ("jax", "jaxlib", "dask")


def is_eager_memory(*arrays: Array | None) -> bool:
    """Whether torch tensors are memory that can be read and written here and now.

    Not so for subclasses, under transforms of ``torch.func``, and while something records or fakes
    operations: there only torch's own new arrays are right.
    """
    import torch

    return (
        all(
            type(a) in (torch.Tensor, torch.nn.Parameter)
            and a.layout is torch.strided
            and not a.is_neg()
            for a in arrays
            if a is not None
        )
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
        and not torch.jit.is_tracing()
    )


def cache_block_bytes(array: Array) -> int:
    """How large arrays should be at most while something is made of ``array``; 0: whole is best.

    Some fit the cache of a processor. Only what is eager and can be written is made in blocks, so
    nothing that a compiler traces, that has a gradient or that ``vmap`` wraps.
    """
    if type(array) is np.ndarray:
        return 2**17
    if library_of(array) == "torch":
        import torch

        if (
            not torch.compiler.is_compiling()
            and is_eager_memory(array)
            and array.device.type == "cpu"
            and not array.requires_grad
        ):
            threads: int = torch.get_num_threads()
            return 2**18 * threads  # the cache of each has its share
    return 0


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` traces this call: a memo would make it warn."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def is_array(value: Any) -> TypeGuard[Array]:
    """Arrays, but not NumPy's scalars, nor the sizes that a compiler traces."""
    return not isinstance(value, int | np.generic) and hasattr(value, "shape")


def describe(array: Array) -> str:
    """An array's library, shape and writability, for messages."""
    state = "" if is_writable(array) else " (not writable)"
    return f"an array of {library_of(array)}{state}"


def is_lazy_chunked(array: Array) -> bool:
    """Whether ``array`` is lazy and made of blocks (Dask)."""
    return library_of(array) == "dask"


def map_blocks(function: Callable[..., Array], x: Array, *tables: Array) -> Array:
    """``function(x, *tables)`` block by block: one task each, also where sizes are unknown.

    Tables have the axes of ``x``, of the same size or 1, but for the last, which is whole.
    """
    import dask.array as da

    if x.numblocks[-1] > 1:
        x = x.rechunk({x.ndim - 1: -1})
    axes = tuple(range(x.ndim))
    operands = [part for table in tables for part in (table, (*axes[:-1], x.ndim))]
    return da.blockwise(
        function, axes, x, axes, *operands, concatenate=True, dtype=x.dtype, meta=x._meta
    )


def dtype_name(dtype: Dtype) -> str:
    """``"float32"`` for NumPy's, torch's, JAX's, … own spelling of it.

    Names, because bfloat16 is not in the standard: ``isdtype`` does not know it everywhere.
    """
    # The scalar type that a NumPy dtype carries knows its name at once; dtype.name composes it.
    name: str | None = getattr(getattr(dtype, "type", dtype), "__name__", None)
    if name is not None and name in FLOATING + _INTEGER:
        return name
    return getattr(dtype, "name", None) or name or str(dtype).rpartition(".")[2]


def is_floating(array: Array) -> bool:
    return dtype_name(array.dtype) in FLOATING


def is_integer(array: Array) -> bool:
    return dtype_name(array.dtype) in _INTEGER


def require_floating(**arrays: Array) -> set[str]:
    """The names of the arrays' dtypes; TypeError unless all are real floating, bfloat16 included.

    Arrays that are None are left out.
    """
    names, known = set(), ""  # not None, which NumPy takes for float64
    for name, array in arrays.items():
        if array is None or array.dtype is known:
            continue
        known = array.dtype
        names.add(dtype_name(known))
        if not is_floating(array):
            msg = f"`{name}` must be one of {', '.join(FLOATING)}, got {dtype_name(array.dtype)}"
            raise TypeError(msg)
    return names


def require_dtype(name: str, dtype: Dtype) -> str:
    """The name of a floating ``dtype``; TypeError for any other."""
    if dtype_name(dtype) not in FLOATING:
        msg = f"`{name}` must be one of {', '.join(FLOATING)}, got {dtype_name(dtype)}"
        raise TypeError(msg)
    return dtype_name(dtype)


def cast(array: Array, dtype: Dtype, xp: Namespace) -> Array:
    """``array`` in ``dtype``: itself if it has it (``xp.astype`` would copy)."""
    same = array.dtype is dtype or array.dtype == dtype  # the first is the quicker one
    return array if same else xp.astype(array, dtype, copy=False)


def compute_dtype(xp: Namespace, *arrays: Array | None) -> Dtype:
    """float64 if one of the ``arrays`` is, else float32: nothing is computed in less."""
    wide = any(a is not None and dtype_name(a.dtype) == "float64" for a in arrays)
    return xp.float64 if wide else xp.float32


def default_integer_dtype(xp: Namespace, device: Device | None) -> Dtype:
    """The dtype of ``arange`` there: int64, or int32 where 64 bits are switched off."""
    return xp.arange(0, device=device).dtype


def widest(array: Array, xp: Namespace) -> Dtype:
    """float64 where the library and the device of ``array`` have it, else float32."""
    kinds = xp.__array_namespace_info__().dtypes(device=device(array), kind="real floating")
    return xp.float64 if "float64" in kinds else xp.float32


def cumulative_sum(array: Array, dtype: Dtype, xp: Namespace, axis: int = -1) -> Array:
    """Along ``axis``, in ``dtype``; by its older name where there is one.

    array-api-compat's wrapper makes ``torch.compile`` warn of a cached lookup.
    """
    function = xp.cumsum if hasattr(xp, "cumsum") else xp.cumulative_sum
    return function(array, axis=axis, dtype=dtype)


def materialize_under_compile(array: Array) -> Array:
    """``array``, and under ``torch.compile`` a hint to keep it in memory.

    Inductor repeats cheap elementwise code in every use: without the hint, tables for positions that
    it counts by itself take a minute to compile instead of seconds.
    """
    if library_of(array) == "torch":
        import torch

        if torch.compiler.is_dynamo_compiling():
            return torch.as_strided(array, array.shape, array.stride())
    return array
