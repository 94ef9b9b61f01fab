"""Rows, by a loop that numba compiles: extra ``fast``. For NumPy arrays and what can be viewed as one.

The loop is made of the formula in the plan, goes through the array row by row, and rotates each row in
the result's memory. Rows are the reason for the pointers: numba takes an array whose leading axes have
any strides for one whose last axis has any stride too, and then emits no vector instructions. No two
operations are fused into one rounding, so results are bit for bit those of `concat`.

The first large rotation of a process imports numba and compiles for about a second, again for each
combination of dtypes and of contiguous or strided arrays. To have that behind you, rotate once an array
of the kind you use that has 2¹⁶ elements or more. Machine code is not kept on disk: it is made of the
formula of this very version, and numba knows a closure over it again in the same process only.
So nothing is written, and ``NUMBA_CACHE_DIR`` changes nothing.

``ROPE_XP_FAST=0`` in the environment switches the kernel off. A numba that is installed and cannot be
used (its import fails or is interrupted, ``NUMBA_DISABLE_JIT``, a version that cannot compile this) means
other kernels, and a RuntimeWarning once for a process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from rope_xp._backends import Array, Namespace
from rope_xp._kernels import memory
from rope_xp._kernels.evaluate import evaluate
from rope_xp._kernels.plan import Operands, RotationPlan

MIN_BYTES_PER_THREAD = 2**20


class _Status:
    """Whether numba can be used: found out once for a process."""

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
            f"numba cannot be used, rotations of large arrays do without and take longer: "
            f"{self.failure}. ROPE_XP_FAST=0 in the environment does without, too, and does not warn",
            RuntimeWarning,
            stacklevel=2,
        )


@functools.cache
def _status() -> _Status:
    return _Status()


def is_available() -> bool:
    """Whether numba is there and works; the first time that it is there and does not, a warning."""
    status = _status()
    if not status.tried:
        with status.lock:  # another thread may be about to find out
            if not status.tried:
                _try_import(status)
    status.report()
    return status.failure is None


def is_known_missing() -> bool:
    """Whether it was found out, and reported, that numba cannot be used."""
    status = _status()
    return status.tried and status.reported and status.failure is not None


def _try_import(status: _Status) -> None:
    # What Ctrl-C leaves behind: numba half imported, for good.
    status.fail("its import was interrupted")
    try:
        if os.environ.get("ROPE_XP_FAST") == "0":
            status.failure, status.reported = "ROPE_XP_FAST=0", True
            return
        import numba

        if numba.config.DISABLE_JIT:
            status.fail("NUMBA_DISABLE_JIT is set")
        else:
            status.failure, status.reported = None, True
    except ModuleNotFoundError as error:
        status.fail(error)
        status.reported = error.name == "numba"  # not installed
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises
        status.fail(f"{type(error).__name__}: {error}")
    finally:
        status.tried = True


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    if plan.size is not None and is_known_missing():  # sooner known than the rest
        return False
    if not memory.is_accessible(arrays) or not is_available():
        return False
    as_numpy = memory.memory_of(arrays.x).as_numpy
    return _has_known_strides_and_dtypes(*(as_numpy(a) for a in arrays if a is not None))


def _has_known_strides_and_dtypes(
    x: np.ndarray, cos: np.ndarray, sin: np.ndarray, *out: np.ndarray
) -> bool:
    """Whether features are adjacent in memory, and of a kind that processors compute with."""
    known = {"float32": ("float32", "float64"), "float64": ("float64",), "uint16": ("float32",)}
    return (
        cos.dtype.name in known.get(x.dtype.name, ())
        and cos.dtype == sin.dtype
        and all(
            a.dtype.isnative and a.flags.aligned and a.strides[-1] == a.itemsize
            for a in (x, cos, sin, *out)
        )
    )


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    known = memory.memory_of(arrays.x)
    whole = memory.broadcast_tables(arrays)
    views = Operands(*map(known.as_numpy, whole))
    try:
        memory.in_threads(
            functools.partial(_fill, plan), views, known.threads, MIN_BYTES_PER_THREAD
        )
    except _CannotCompileError as error:  # so before anything was written
        _status().fail(error)
        result = evaluate(plan, arrays, xp)  # by other kernels
        _status().report()
        return result
    known.mark_written(whole.out)
    return whole.out


class _CannotCompileError(Exception):
    pass


def _fill(plan: RotationPlan, arrays: Operands) -> None:
    x, cos, sin, out = arrays
    for first, _, columns in plan.parts:
        _rotate_rows(
            plan, Operands(x, cos[..., columns], sin[..., columns], out), start=first.start
        )
        x = out  # whole rows were copied


def _rotate_rows(plan: RotationPlan, arrays: Operands, *, start: int) -> None:
    """Rotate ``x`` into ``out``; features that have no pair are copied.

    ``x`` and ``out`` are (..., head_dim), uint16 being bfloat16; tables (..., n_pairs) have as many
    axes, each of the size of ``x`` or 1.
    """
    x, cos, _, out = arrays
    if x.size == 0:
        return
    copy = out.ctypes.data != x.ctypes.data
    options = (start, plan.interleaved, copy, cos.dtype.type(-1 if plan.inverse else 1))
    views = [array[(None,) * (4 - array.ndim)] for array in arrays]
    if plan.interleaved and 2 * cos.shape[-1] == x.shape[-1] and x.dtype != np.uint16:
        views = _merge_rows(views)
    for index in np.ndindex(views[0].shape[:-4]):
        parts = [_broadcast_index(view, index) for view in views]
        try:
            _compiled(plan.turn, x.dtype == np.uint16)(*parts, *options)
        except Exception as error:  # the loop itself raises nothing
            msg = f"{type(error).__name__} while it compiles: {error}"
            raise _CannotCompileError(msg) from error


def _merge_rows(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Rows that follow each other in memory as one row: interleaved pairs are pairs in it as well."""
    rows = arrays[0].shape[-2]
    if all(a.shape[-2] == rows and a.strides[-2] == a.shape[-1] * a.itemsize for a in arrays):
        return [a.reshape(*a.shape[:-2], 1, rows * a.shape[-1]) for a in arrays]
    return arrays


def _broadcast_index(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """The part of ``array`` at ``index``, which is 0 along axes of size 1."""
    part: np.ndarray = array[
        tuple(i if n > 1 else 0 for i, n in zip(index, array.shape, strict=False))
    ]
    return part


@functools.cache
def _compiled(turn: Callable[..., Any], bfloat16: bool) -> Callable[..., None]:
    """The compiled loop over rows."""
    import numba
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(_: Any, address: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

        return types.CPointer(array.dtype)(types.intp, array), generate

    @numba.njit
    def row(array: Any, i: int, j: int, k: int) -> Any:
        return numba.carray(pointer(array[i, j, k].ctypes.data, array), array.shape[3])

    if bfloat16:  # the upper half of a float32

        @numba.njit
        def read(value: Any) -> Any:
            return np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)

        @numba.njit
        def write(value: Any) -> Any:
            bits = np.float32(value).view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)  # ties to even
            rounded = np.uint32(bits + np.uint32(0x7FFF) + odd)
            return np.uint16(
                (np.uint32(0x7FC00000) if np.isnan(value) else rounded) >> np.uint32(16)
            )

    else:

        @numba.njit
        def read(value: Any) -> Any:
            return value

        write = read

    formula = numba.njit(turn)

    @numba.njit(nogil=True)
    def kernel(
        x: Any, cos: Any, sin: Any, out: Any, start: int, interleaved: bool, copy: bool, sign: Any
    ) -> None:  # (a, b, seq, head_dim) or (..., n_pairs)
        head_dim, n_pairs = x.shape[3], cos.shape[3]
        # Tables broadcast: along an axis of size 1 their index stays 0.
        i_, j_, k_ = int(cos.shape[0] > 1), int(cos.shape[1] > 1), int(cos.shape[2] > 1)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                for k in range(x.shape[2]):
                    y = row(out, i, j, k)
                    at = i * i_, j * j_, k * k_
                    c, s = row(cos, *at), row(sin, *at)
                    if copy:
                        source = row(x, i, j, k)
                        if interleaved and 2 * n_pairs == head_dim and not bfloat16:
                            for p in range(n_pairs):
                                a, b = source[2 * p], source[2 * p + 1]
                                a, b = formula(read(a), read(b), c[p], sign * s[p])
                                y[2 * p], y[2 * p + 1] = write(a), write(b)
                            continue
                        # A row that was copied is in the nearest cache, and rotating it in place
                        # leaves the compiler one address less that may alias with the others.
                        for p in range(head_dim):
                            y[p] = source[p]
                    if start:
                        y = y[start:]
                    if interleaved:
                        for p in range(n_pairs):
                            a, b = formula(read(y[2 * p]), read(y[2 * p + 1]), c[p], sign * s[p])
                            y[2 * p], y[2 * p + 1] = write(a), write(b)
                    else:
                        for p in range(n_pairs):
                            a, b = formula(read(y[p]), read(y[n_pairs + p]), c[p], sign * s[p])
                            y[p], y[n_pairs + p] = write(a), write(b)

    compiled: Callable[..., None] = kernel
    return compiled
