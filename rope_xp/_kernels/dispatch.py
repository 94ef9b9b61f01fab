"""The annex of `_backends`: what the ways of `_evaluation` have to know of each library.

Which way is taken is decided by `way_for`, from what the arrays are, and can be asked for by `using`.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype
from rope_xp._kernels import numba_cpu

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


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is done before any way but new arrays is set up."""
    return math.prod(shape) < LARGE


def way_for(
    x: Array, cos: Array, sin: Array, out: Array | None, *, neighbours: bool, small: bool
) -> str:
    """The way of `_evaluation` that suits the arrays; "recorded": torch needs the gradient of one.

    ``small`` is found out before, because it must not be asked of sizes that a compiler traces.
    """
    if small and _asked.get() is None:
        return "whole"
    root = _backends.library_of(x)
    if root in ("jax", "jaxlib"):
        return _way_for_jax(x, neighbours=neighbours)
    if root == "torch":
        import torch

        if torch.compiler.is_compiling():
            return "whole"
    elif root != "numpy":
        return "whole"
    asked = _asked.get()
    if asked == "whole":
        return asked
    if asked is None and is_small(x.shape):
        return "whole"

    if root == "torch":
        if not _backends.is_eager_memory(x, cos, sin, out):
            return "whole"
        tables = cos.requires_grad or sin.requires_grad
        if torch.is_grad_enabled() and (x.requires_grad or tables or out is not None):
            return "recorded" if x.requires_grad and not tables and out is None else "whole"
        if x.device.type != "cpu":
            return "whole"
    elif any(type(array) not in (np.ndarray, np.memmap) for array in (x, cos, sin)):
        return "whole"
    fast = numba_cpu.available()
    if root == "torch" and neighbours and asked in (None, "complex"):
        seen = x.dtype == cos.dtype and x.dtype.itemsize > 2
        if is_even(x, cos.shape[-1]) and (seen or not fast):
            return "complex"
    if fast and asked in (None, "compiled") and _can_compile(x, cos, sin, out):
        return "compiled"
    # NumPy's complex product shows in the last bit: what numba can do is not left to it.
    numpy_pairs = root == "numpy" and neighbours and x.size > 0  # no pairs, no strides
    if numpy_pairs and (asked == "complex" or (asked is None and not fast)):
        return "complex"
    return "tiles" if asked in (None, "tiles") else "whole"


def is_even(x: Array, n_pairs: int) -> bool:
    """Whether a complex product rounds all pairs of ``x`` alike.

    torch rounds otherwise what is left over behind its vectors, at the end of each row and of what
    each thread takes, which would make the result depend on their number.
    """
    if _backends.library_of(x) == "numpy":
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
    if _backends.library_of(x) == "numpy":
        return np.empty(x.shape, x.dtype)
    import torch

    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _ask_for_huge_pages(made.data_ptr(), made.nbytes)
    return made


def _ask_for_huge_pages(address: int, size: int) -> None:
    """What NumPy does for its arrays: the first touch of fresh pages takes longer than a rotation.

    Linux gives 2 MiB at a time to those who ask, else 4 KiB. Memory that was touched stays as it is.
    """
    import mmap

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

    NumPy: seven float32 numbers for each fit a core's cache, and take less than a sixteenth of the
    memory that has twice the elements of ``x``. torch: enough for its threads.
    """
    if _backends.library_of(x) == "numpy":
        most, share = (2**15, 64 if x.dtype.itemsize > 2 else 128) if held else (2**18, 64)
        share_of_x: int = math.prod(x.shape) // share
        return min(most, share_of_x)
    return 2**18 if held else math.prod(x.shape)


def scratch(count: int, size: int, dtype: Dtype, like: Array) -> list[Array]:
    """``count`` arrays of ``size`` numbers, each at the start of a cache line.

    NumPy's own arrays stand 16 bytes after it, and vector instructions on them take twice the time.
    """
    if _backends.library_of(like) != "numpy":
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
    if _backends.library_of(array) == "numpy":
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
    if _backends.library_of(real) == "numpy":
        made = np.empty(real.shape, np.result_type(real, np.complex64))
        made.real, made.imag = real, imag
        return made
    import torch

    return torch.complex(real, imag)


def as_numpy(array: Array) -> Any:
    """The same memory as a NumPy array; bfloat16 as uint16."""
    if _backends.library_of(array) == "torch":
        import torch

        array = array.detach()
        array = array.view(torch.uint16) if array.dtype == torch.bfloat16 else array
        return array.numpy()
    return array.view(np.uint16) if _backends.dtype_name(array.dtype) == "bfloat16" else array


def _can_compile(x: Array, cos: Array, sin: Array, out: Array | None) -> bool:
    return numba_cpu.can_take(*map(as_numpy, (x, cos, sin, x if out is None else out)))


def tell_written(out: Array) -> None:
    """Torch counts what is written to a tensor, to refuse gradients that would need what was there."""
    if _backends.library_of(out) == "torch" and not out.is_inference():
        import torch

        torch.autograd.graph.increment_version(out)


def threads(x: Array, way: str) -> int:
    """In how many threads to work: as many as its library has, if each has enough to do.

    For NumPy as for the libraries beneath it: one for each core, at most ``OMP_NUM_THREADS``.
    torch's own operations have their threads already.
    """
    size: int = math.prod(x.shape) * x.dtype.itemsize
    if _backends.library_of(x) == "torch":
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
