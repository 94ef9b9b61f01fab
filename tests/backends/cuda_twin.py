"""In place of a GPU: the text of the kernel for CUDA, compiled by the machine's own C compiler.

``blockIdx`` and ``threadIdx`` are variables of two loops. What CUDA C++ has and C has not is defined
before the text, which is not changed.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from rope_xp import rotation
from rope_xp._backends import Cuda
from rope_xp._backends.namespaces import LIBRARIES
from rope_xp._kernels import cuda, cuda_source, dispatch

COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
OPTIONS = ["-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-shared", "-std=gnu11"]

BEFORE = """
#define __global__ static
#define __device__
#define __align__(n) __attribute__((aligned(n)))
static struct { unsigned x; } blockIdx, threadIdx;
static inline unsigned __float_as_uint(float value)
{ union { float f; unsigned u; } both = {.f = value}; return both.u; }
static inline float __uint_as_float(unsigned bits)
{ union { unsigned u; float f; } both = {.u = bits}; return both.f; }
"""

AFTER = """
void run(unsigned first_block, unsigned last_block, unsigned first_thread, unsigned last_thread,
         void *x, void *out, void *cos, void *sin, const int *n)
{
    for (blockIdx.x = first_block; blockIdx.x < last_block; blockIdx.x++)
        for (threadIdx.x = first_thread; threadIdx.x < last_thread; threadIdx.x++)
            %s(x, out, cos, sin, %s);
}
"""


@functools.cache
def folder():
    made = Path(tempfile.mkdtemp(prefix="rope_xp_twin"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@functools.cache
def compiled(source):
    """``run`` of this source."""
    numbers = ", ".join(f"n[{i}]" for i in range(len(cuda_source.NUMBERS)))
    text = BEFORE + source + AFTER % (cuda_source.NAME, numbers)
    path = folder() / hashlib.sha256(text.encode()).hexdigest()[:16]
    path.with_suffix(".c").write_text(text)
    command = [COMPILER, *OPTIONS, "-o", str(path), str(path.with_suffix(".c"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(path)).run


def run(source, blocks, threads, addresses, numbers, *, at=None):
    """All threads, or the one ``at`` (block, thread)."""
    ranges = (0, blocks, 0, threads) if at is None else (at[0], at[0] + 1, at[1], at[1] + 1)
    values = (ctypes.c_int32 * len(numbers))(*numbers)
    compiled(source)(*map(ctypes.c_uint, ranges), *map(ctypes.c_void_p, addresses), values)


def address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()


def launch(kernel, grid, arrays, numbers):
    source, name = kernel
    assert name == cuda_source.NAME
    run(source, *grid, tuple(map(address, arrays)), numbers)


def numpy_is_accessible(*arrays):
    given = [array for array in arrays if array is not None]
    return all(type(array) is np.ndarray and array.dtype.isnative for array in given)


ON_NUMPY = Cuda(
    is_accessible=numpy_is_accessible,
    empty=lambda x: np.empty(x.shape, x.dtype),
    address=address,
    strides=lambda array: tuple(step // array.itemsize for step in array.strides),
    launch=launch,
    mark_written=lambda out: None,
)


def install(monkeypatch, library, launch=launch):
    """The kernel for CUDA, enabled, on the memory of NumPy's arrays or of torch's tensors."""
    known = LIBRARIES[library]
    if library == "numpy":
        instead = replace(ON_NUMPY, launch=launch)
    else:
        is_accessible = known.memory.is_accessible
        instead = replace(known.cuda, is_accessible=is_accessible, launch=launch)
    monkeypatch.setitem(LIBRARIES, library, replace(known, cuda=instead))
    others = [kernel for kernel in dispatch.PREFERENCE[library] if kernel is not cuda]
    delegating = [kernel for kernel in others if hasattr(kernel, "DELEGATES")]
    kernels = (*delegating, cuda, *(kernel for kernel in others if kernel not in delegating))
    monkeypatch.setitem(dispatch.PREFERENCE, library, kernels)
    enable(monkeypatch)


def enable(monkeypatch):
    """Switch the kernel on. What was planned without it is not used, nor what is planned with it later."""
    monkeypatch.setattr(cuda, "ENABLED", True)
    anew = functools.lru_cache(typed=True)(rotation._known_plan.__wrapped__)
    monkeypatch.setattr(rotation, "_known_plan", anew)
