"""Rows, by machine code that LLVM makes of the formula: extra ``fast``, which is llvmlite.

For NumPy arrays and what can be viewed as one, bfloat16 and float16 included. The result is bit for bit
that of `concat`.

The first large rotation of a process imports llvmlite and compiles: a tenth of a second. A further one of
another dtype or layout, or of results that are written past the caches, compiles for a third of that. To
have it behind you, rotate once what you are going to rotate: an array of 2¹⁶ elements or more, 8 MiB for
``out``. Nothing is kept on disk, and numba is not used, whose import alone takes longer.

``ROPE_XP_FAST=0`` in the environment switches the kernel off. An llvmlite that is installed and cannot be
used (its import fails or is interrupted, a version that cannot compile this) means other kernels, and a
RuntimeWarning once for a process.
"""

from __future__ import annotations

import functools
import itertools
import math
import os

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._kernels import memory
from rope_xp._kernels.evaluate import evaluate
from rope_xp._kernels.machine_code import (
    ALIGNMENT,
    Loop,
    MachineCode,
    compiled,
    converts_float16,
)
from rope_xp._kernels.plan import MIN_KERNEL_SIZE, Operands, RotationPlan, forced_kernel

MIN_BYTES_PER_THREAD = 2**22
# Elements below which a library's own operations take no longer, if they are threaded.
MIN_SIZE_BESIDE_THREADS = 2**19
# Results that are larger are not expected to stay in the caches until they are read.
MIN_BYPASS_BYTES = 2**23
# Larger memory comes from the system at each call, and is in the caches once it was cleared; what is
# smaller, allocators keep.
FRESH_BYTES = 2**25


class _Status:
    """Whether llvmlite can be used: found out once for a process."""

    def __init__(self) -> None:
        from threading import Lock

        self.tried = False
        self.failure: str | None = None  # why it cannot be used
        self.reported = True  # whether the user knows
        self.lock = Lock()

    def fail(self, why: object) -> None:
        first, *_ = [line.strip() for line in str(why).splitlines() if line.strip()] or [repr(why)]
        self.failure, self.reported = first[:200], False

    def report(self) -> None:
        if self.reported:
            return
        self.reported = True
        import warnings

        warnings.warn(
            f"llvmlite cannot be used, rotations of large arrays do without and take longer: "
            f"{self.failure}. ROPE_XP_FAST=0 in the environment does without, too, and does not warn",
            RuntimeWarning,
            stacklevel=2,
        )


@functools.cache
def _status() -> _Status:
    return _Status()


def is_available() -> bool:
    """Whether llvmlite is there and works; the first time that it is there and does not, a warning."""
    status = _status()
    if not status.tried:
        with status.lock:  # another thread may be about to find out
            if not status.tried:
                _try_import(status)
    status.report()
    return status.failure is None


def is_known_missing() -> bool:
    """Whether it was found out, and reported, that llvmlite cannot be used."""
    status = _status()
    return status.tried and status.reported and status.failure is not None


def _try_import(status: _Status) -> None:
    # What Ctrl-C leaves behind: llvmlite half imported, for good.
    status.fail("its import was interrupted")
    try:
        if os.environ.get("ROPE_XP_FAST") == "0":
            status.failure, status.reported = "ROPE_XP_FAST=0", True
            return
        import llvmlite
        import llvmlite.binding  # noqa: F401 - needed later, tried now

        status.failure, status.reported = None, True
    except ModuleNotFoundError as error:
        status.fail(error)
        status.reported = error.name == "llvmlite"  # not installed
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises
        status.fail(f"{type(error).__name__}: {error}")
    finally:
        status.tried = True


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    if plan.size is not None and is_known_missing():  # sooner known than the rest
        return False
    known = _backends.library_of(arrays.x).memory
    if known is None:
        return False
    least = MIN_SIZE_BESIDE_THREADS if known.operations_are_threaded else MIN_KERNEL_SIZE
    if plan.size is not None and plan.size < least and forced_kernel() is None:
        return False
    if not memory.is_accessible(arrays, least) or not is_available():
        return False
    as_numpy = known.as_numpy
    return _has_known_strides_and_dtypes(*(as_numpy(a) for a in arrays if a is not None))


def _has_known_strides_and_dtypes(
    x: np.ndarray, cos: np.ndarray, sin: np.ndarray, *out: np.ndarray
) -> bool:
    """Whether features are adjacent in memory, and of a kind that processors compute with."""
    known = {"float32": ("float32", "float64"), "float64": ("float64",), "uint16": ("float32",)}
    dtype = _backends.dtype_name(x.dtype)
    if dtype == "float16" and converts_float16():
        known["float16"] = ("float32",)
    return (
        _backends.dtype_name(cos.dtype) in known.get(dtype, ())
        and cos.dtype == sin.dtype
        and all(
            a.dtype.isnative and a.flags.aligned and a.strides[-1] == a.itemsize
            for a in (x, cos, sin, *out)
        )
    )


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    known = memory.memory_of(arrays.x)
    x, cos, sin, out = arrays
    out = known.empty(x) if out is None else out
    # NumPy's views of views cost less than those of other libraries.
    views = memory.broadcast_tables(Operands(*map(known.as_numpy, (x, cos, sin, out))))
    loop = Loop(
        plan.turn,
        _backends.dtype_name(views.x.dtype),
        _backends.dtype_name(views.cos.dtype),
        plan.interleaved,
        _bypasses_caches(plan, views, fresh=arrays.out is None),
    )
    try:
        code = compiled(loop)
    except Exception as error:  # noqa: BLE001 - whatever LLVM raises, before anything is written
        _status().fail(f"{type(error).__name__} while it compiles: {error}")
        result = evaluate(plan, arrays, xp)  # by other kernels
        _status().report()
        return result
    rotate_rows = functools.partial(_rotate_rows, plan, code)
    # Behind operations that are threaded, threads of theirs are still awake for a while.
    share = MIN_BYTES_PER_THREAD * (4 if known.operations_are_threaded else 1)
    memory.in_threads(rotate_rows, views, known.threads, share)
    known.mark_written(out)
    return out


def _bypasses_caches(plan: RotationPlan, arrays: Operands, *, fresh: bool) -> bool:
    """Whether the result goes to memory at once.

    Elsewhere the processor first reads what is overwritten: half as much traffic again.
    """
    x, _, _, out = arrays
    if not MIN_BYPASS_BYTES <= out.nbytes < (FRESH_BYTES if fresh else math.inf):
        return False
    features = {plan.end, *(first.start for first, *_ in plan.parts)}
    if not plan.interleaved:
        features |= {second.start for _, second, _ in plan.parts}
    places = (out.ctypes.data, *out.strides[:-1], *(n * out.itemsize for n in features))
    return out.ctypes.data != x.ctypes.data and not any(place % ALIGNMENT for place in places)


def _rotate_rows(plan: RotationPlan, code: MachineCode, arrays: Operands) -> None:
    """Rotate ``x`` into ``out``; features that have no pair are copied.

    Tables have as many axes as ``x`` and ``out``, each of the size of ``x`` or 1.
    """
    x = arrays.x
    if x.size == 0:
        return
    addresses = [array.ctypes.data for array in arrays]
    unpaired = [(0, plan.start), (plan.end, x.shape[-1] - plan.end)]
    runs = [] if addresses[0] == addresses[3] else [run for run in unpaired if run[1]]
    parts = [
        (first.start, second.start, columns.start, columns.stop - columns.start)
        for first, second, columns in plan.parts
    ]
    rest = [*itertools.chain(*runs, *parts)]
    missing = max(0, 4 - x.ndim)  # axes
    sizes = (1,) * missing + x.shape
    strides = [
        [0] * missing + [step if n > 1 else 0 for step, n in zip(a.strides, a.shape, strict=True)]
        for a in arrays
    ]
    for index in itertools.product(*map(range, sizes[:-4])):
        integers = [plan.inverse, len(runs), len(parts), *sizes[-4:-1]]
        for address, steps in zip(addresses, strides, strict=True):
            start = address + sum(i * step for i, step in zip(index, steps, strict=False))
            integers += (start, *steps[-4:-1])
        code(*integers, *rest)
