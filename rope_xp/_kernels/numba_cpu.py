"""Rows, by a loop that numba compiles: extra ``fast``. For NumPy arrays and what can be viewed as one.

The loop is made of the formula in the plan, goes through the array row by row, and rotates each row in
the result's memory. Rows are the reason for the pointers: numba takes an array whose leading axes have
any strides for one whose last axis has any stride too, and then emits no vector instructions. No two
operations are fused into one rounding, so results are bit for bit those of `concat`.

The first large rotation of a process compiles for about a second. ``ROPE_XP_FAST=0`` in the environment
switches the kernel off.
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


@functools.cache
def _failures() -> list[str]:
    """Why numba cannot be used, found out once; empty if it can."""
    if os.environ.get("ROPE_XP_FAST") == "0":
        return ["ROPE_XP_FAST=0"]
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises
        _warn(f"numba cannot be imported, rotations do without: {error}")
        return [str(error)]
    return []


def _warn(message: str) -> None:
    import logging  # takes longer to load than the kernels

    logging.getLogger(__name__).warning(message)


def is_available() -> bool:
    """Whether numba is there and works."""
    return not _failures()


def supports(plan: RotationPlan, arrays: Operands) -> bool:
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
            functools.partial(_fill, plan), views, known.threads(), MIN_BYTES_PER_THREAD
        )
    except _numba_errors() as error:  # while compiling, so before anything was written
        _warn(f"numba cannot compile the rotation, other kernels take over: {error}")
        _failures().append(str(error))
        return evaluate(plan, arrays, xp)
    known.mark_written(whole.out)
    return whole.out


def _numba_errors() -> tuple[type[BaseException], ...]:
    from numba.core.errors import NumbaError

    return (NumbaError,)


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
    kernel = _compiled(plan.turn, x.dtype == np.uint16)
    copy = out.ctypes.data != x.ctypes.data
    options = (start, plan.interleaved, copy, cos.dtype.type(-1 if plan.inverse else 1))
    views = [array[(None,) * (4 - array.ndim)] for array in arrays]
    if plan.interleaved and 2 * cos.shape[-1] == x.shape[-1] and x.dtype != np.uint16:
        views = _merge_rows(views)
    for index in np.ndindex(views[0].shape[:-4]):
        kernel(*(_broadcast_index(view, index) for view in views), *options)


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
