"""The only room that knows array libraries by name.

Everything else works through the namespace that `namespace` returns. It is found from the name of
the array's type, because the general lookup of array-api-compat costs more than a decode step can
give away and does not trace under ``torch.compile``; for types that are not in the table (tensor
subclasses, libraries that bring their own standard namespace) it falls back to that lookup.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

import array_api_compat
import numpy as np

from rope_xp import _compiled

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
                f"`{name}` must be an array of the same library as `{first_name}` ({_root(first)}), "
                f"got {_root(array)}"
            )
            raise TypeError(msg)
        elif device(array) != where:
            msg = f"`{name}` must be on the same device as `{first_name}` ({where}), got {device(array)}"
            raise ValueError(msg)
    return xp


def _namespace(name: str, array: Array) -> Namespace:
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        xp = _named(_root(array))
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


def standard(xp: Namespace | None) -> Namespace:
    """The standard namespace behind a module that a user names (``torch``, ``numpy``, …)."""
    if xp is None:
        return _named("numpy")
    return _named(xp.__name__.removeprefix("array_api_compat.").partition(".")[0]) or xp


def _root(array: Array) -> str:
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
    return None if _root(array) in ("jax", "jaxlib", "dask") else array.device


def can_write(array: Array) -> bool:
    """Whether elements of ``array`` can be assigned. Dask could, but only by rebuilding its graph."""
    if isinstance(array, np.ndarray):
        return array.flags.writeable
    return _root(array) not in ("jax", "jaxlib", "dask")


def block_bytes(array: Array) -> int:
    """How large arrays should be at most while something is made of ``array``; 0: whole is best.

    Some fit the cache of a processor. Only what is eager and can be written is made in blocks, so
    nothing that a compiler traces, that has a gradient or that ``vmap`` wraps.
    """
    if type(array) is np.ndarray:
        return 2**17
    if _root(array) == "torch":
        import torch

        if (
            not torch.compiler.is_compiling()
            and _is_plain(array)
            and array.device.type == "cpu"
            and not array.requires_grad
        ):
            threads: int = torch.get_num_threads()
            return 2**18 * threads  # the cache of each has its share
    return 0


def is_array(value: Any) -> TypeGuard[Array]:
    """Arrays, but not NumPy's scalars, nor the sizes that a compiler traces."""
    return not isinstance(value, int | np.generic) and hasattr(value, "shape")


def describe(array: Array) -> str:
    """An array's library, shape and writability, for messages."""
    state = "" if can_write(array) else " (not writable)"
    return f"an array of {_root(array)}{state}"


def is_chunked(array: Array) -> bool:
    """Whether ``array`` is lazy and made of blocks (Dask)."""
    return _root(array) == "dask"


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
    return getattr(dtype, "name", None) or name or str(dtype).removeprefix("torch.")


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


def computed_once(array: Array) -> Array:
    """``array``, and under ``torch.compile`` a hint to keep it in memory.

    Inductor repeats cheap elementwise code in every use: without the hint, tables for positions that
    it counts by itself take a minute to compile instead of seconds.
    """
    if _root(array) == "torch":
        import torch

        if torch.compiler.is_dynamo_compiling():
            return torch.as_strided(array, array.shape, array.stride())
    return array


# -- ways of evaluating the rotation ---------------------------------------------------------------

WAYS = ("whole", "padded", "tiles", "complex", "compiled")
# Elements from which on other ways than new arrays pay for being set up.
LARGE = 2**16
# Bytes that are worth a thread. What goes through Python for every tile waits there for the others.
WORTH_A_THREAD = {"compiled": 2**20, "complex": 2**23, "tiles": 2**25}

_asked: ContextVar[str | None] = ContextVar("asked", default=None)


@contextmanager
def using(way: str) -> Iterator[None]:
    """Evaluate rotations this way where the arrays allow it: for tests and measurements."""
    if way not in WAYS:
        msg = f"unknown way {way!r}; known: {', '.join(map(repr, WAYS))}"
        raise ValueError(msg)
    token = _asked.set(way)
    try:
        yield
    finally:
        _asked.reset(token)


def way_for(x: Array, cos: Array, sin: Array, out: Array | None, *, neighbours: bool) -> str:
    """The way of `_evaluation` that suits the arrays; "recorded": torch needs the gradient of one."""
    root = _root(x)
    if root in ("jax", "jaxlib"):
        return _way_for_jax(x, neighbours=neighbours)
    if root == "torch":
        import torch

        if torch.compiler.is_compiling():
            return "whole"
    elif root != "numpy":
        return "whole"
    asked = _asked.get()
    small = asked is None and math.prod(x.shape) < LARGE
    if small and (root == "torch" or not neighbours):
        return "whole"

    if root == "torch":
        if not _is_plain(x, cos, sin, out):
            return "whole"
        tables = cos.requires_grad or sin.requires_grad
        if torch.is_grad_enabled() and (x.requires_grad or tables or out is not None):
            return "recorded" if x.requires_grad and not tables and out is None else "whole"
        if x.device.type != "cpu":
            return "whole"
    elif any(type(array) not in (np.ndarray, np.memmap) for array in (x, cos, sin)):
        return "whole"
    fast = _compiled.available() and not small
    if root == "torch" and neighbours and asked in (None, "complex"):
        seen = x.dtype == cos.dtype and x.dtype.itemsize > 2
        if is_even(x, cos.shape[-1]) and (seen or not fast):
            return "complex"
    if fast and asked in (None, "compiled") and _can_compile(x, cos, sin, out):
        return "compiled"
    # On NumPy for all sizes or none, because it shows in the last bit.
    if root == "numpy" and neighbours and (asked == "complex" or not _compiled.available()):
        return "complex"
    return "tiles" if asked in (None, "tiles") and not small else "whole"


def is_even(x: Array, n_pairs: int) -> bool:
    """Whether a complex product rounds all pairs of ``x`` alike.

    torch rounds otherwise what is left over behind its vectors, at the end of each row and of what
    each thread takes, which would make the result depend on their number.
    """
    if _root(x) == "numpy":
        return True
    import torch

    count = math.prod(x.shape[:-1]) * n_pairs
    threads = max(1, min(torch.get_num_threads(), -(-count // 2**15)))
    return n_pairs % 8 == 0 and count % (8 * threads) == 0


def _way_for_jax(x: Array, *, neighbours: bool) -> str:
    """Padding pays where XLA compiles it; 16-bit neighbours are the exception."""
    import jax

    traced = isinstance(x, jax.core.Tracer)
    return "padded" if traced and not (neighbours and x.dtype.itemsize < 4) else "whole"


def _is_plain(*arrays: Array | None) -> bool:
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


def record_linear(
    function: Callable[..., Array], task: Any, x: Array, cos: Array, sin: Array
) -> Array:
    """``function(task, x, cos, sin, transposed=False)``, a linear map of ``x``, as one step of torch's
    graph whose gradient is the same with ``transposed=True``: tables are all that it keeps.
    """
    return _linear_step().apply(x, cos, sin, function, task, False)


@functools.cache
def _linear_step() -> Any:
    import torch

    class Linear(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Array, cos: Array, sin: Array, *rest: Any) -> Array:
            ctx.save_for_backward(cos, sin)
            ctx.rest = function, task, transposed = rest
            return function(task, x, cos, sin, transposed=transposed)

        @staticmethod
        def backward(ctx: Any, gradient: Array) -> tuple[Array | None, ...]:
            function, task, transposed = ctx.rest
            step = Linear.apply(gradient, *ctx.saved_tensors, function, task, not transposed)
            return step, None, None, None, None, None

    return Linear


def pad(array: Array, features: slice, width: int) -> Array:
    """A JAX array's last axis spread over ``features`` of ``width``, with −0, the neutral element of
    sums: +0 would turn −0 around.
    """
    import jax

    step = features.step or 1
    low, end = features.start, features.start + (array.shape[-1] - 1) * step + 1
    config = [(0, 0, 0)] * (array.ndim - 1) + [(low, width - end, step - 1)]
    return jax.lax.pad(array, jax.numpy.asarray(-0.0, array.dtype), config)


def empty(x: Array) -> Array:
    """Memory like ``x``, in the order of its axes."""
    if _root(x) == "numpy":
        return np.empty(x.shape, x.dtype)
    import torch

    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _ask_for_huge_pages(made.data_ptr(), made.nbytes)
    return made


def _ask_for_huge_pages(address: int, size: int) -> None:
    """What NumPy does for its arrays: the first touch of fresh pages takes longer than a rotation.

    Linux gives 2 MiB at a time to those who ask, else 4 KiB. Memory that was touched stays as it is.
    """
    if size < 2**22 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (address + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
    _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def tile_size(x: Array, *, held: bool = True) -> int:
    """Elements to work on at a time, with what goes with them ``held`` in memory or not.

    NumPy: seven float32 numbers for each fit a core's cache, and take less than a thirty-second of
    the memory that has twice the elements of ``x``. torch: enough for its threads.
    """
    if _root(x) == "numpy":
        most, share = (2**15, 128) if held else (2**18, 64)
        return min(most, math.prod(x.shape) // share)
    return 2**18 if held else math.prod(x.shape)


def scratch(count: int, size: int, dtype: Dtype, like: Array) -> list[Array]:
    """``count`` arrays of ``size`` numbers, each at the start of a cache line.

    NumPy's own arrays stand 16 bytes after it, and vector instructions on them take twice the time.
    """
    if _root(like) != "numpy":
        import torch

        return list(torch.empty((count, size), dtype=dtype, device=like.device))
    itemsize = np.dtype(dtype).itemsize
    line = 64 // itemsize
    stride = -(-size // line) * line
    raw = np.empty(count * stride + line, dtype)
    start = -raw.ctypes.data % 64 // itemsize
    return [raw[start + i * stride :][:size] for i in range(count)]


def as_complex(array: Array, dtype: Dtype) -> Array | None:
    """Neighbours of the last axis as complex numbers in the same memory; None where that is not free.

    That is, where they do not have this ``dtype``, or do not stand side by side.
    """
    if _root(array) == "numpy":
        if array.dtype != dtype or not array.dtype.isnative or array.strides[-1] != array.itemsize:
            return None
        return array.view(np.complex64 if array.itemsize == 4 else np.complex128)
    import torch

    pairs = array.unflatten(-1, (-1, 2))
    *strides, last = pairs.stride()
    if array.dtype != dtype or last != 1 or any(n % 2 for n in (*strides, array.storage_offset())):
        return None
    return torch.view_as_complex(pairs)


def complex_of(real: Array, imag: Array) -> Array:
    """``real`` + i ``imag``."""
    if _root(real) == "numpy":
        made = np.empty(real.shape, np.result_type(real, np.complex64))
        made.real, made.imag = real, imag
        return made
    import torch

    return torch.complex(real, imag)


def as_numpy(array: Array) -> Any:
    """The same memory as a NumPy array; bfloat16 as uint16."""
    if _root(array) == "torch":
        import torch

        array = array.detach()
        array = array.view(torch.uint16) if array.dtype == torch.bfloat16 else array
        return array.numpy()
    return array.view(np.uint16) if dtype_name(array.dtype) == "bfloat16" else array


def _can_compile(x: Array, cos: Array, sin: Array, out: Array | None) -> bool:
    return _compiled.can_take(*map(as_numpy, (x, cos, sin, x if out is None else out)))


def threads(x: Array, way: str) -> int:
    """In how many threads to work: as many as its library has, if each has enough to do.

    For NumPy as for the libraries beneath it: one for each core, at most ``OMP_NUM_THREADS``.
    torch's own operations have their threads already.
    """
    size = math.prod(x.shape) * x.dtype.itemsize
    if _root(x) == "torch":
        import torch

        return (
            min(int(torch.get_num_threads()), size // WORTH_A_THREAD[way])
            if way == "compiled"
            else 1
        )
    known = hasattr(os, "sched_getaffinity")
    cores: int = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        granted = os.environ.get(name, "")
        cores = min(cores, int(granted)) if granted.isdecimal() else cores
    return min(cores, size // WORTH_A_THREAD[way])


def can_write_over(out: Array, x: Array, cos: Array, sin: Array) -> bool:
    """Whether ``out`` shares memory with none of the others, or is ``x`` itself.

    Only if some of it is written before all is read does that matter; in doubt it is False.
    """
    out, x, cos, sin = map(as_numpy, (out, x, cos, sin))
    itself = out.ctypes.data == x.ctypes.data and out.strides == x.strides
    others = (cos, sin) if itself else (x, cos, sin)
    most: Any = 1000  # steps of a search that has no bound; NumPy's stubs know of none and all
    return not any(np.may_share_memory(out, other, max_work=most) for other in others)


def has_repeats(out: Array) -> bool:
    """Whether several elements stand in one place, as in a broadcast array."""
    strides = out.strides if hasattr(out, "strides") else getattr(out, "stride", tuple)()
    return any(n > 1 and not step for n, step in zip(out.shape, strides, strict=False))
