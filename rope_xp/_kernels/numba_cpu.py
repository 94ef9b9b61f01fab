"""The rotation compiled by numba: extra ``fast``. For NumPy arrays and what can be seen as one.

The kernel is made of the formula that it is handed, goes through the array row by row, and turns each
row where it stands in the result. Rows are the reason for the pointers: numba takes an array whose
leading axes have any strides for one whose last axis has any stride too, and then emits no vector
instructions. Nothing is fused into one rounding, so results are bit for bit those of `_evaluation`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

Kernel = Callable[..., None]


@functools.cache
def available() -> bool:
    """Whether numba is there; ``ROPE_XP_FAST=0`` in the environment says not to use it."""
    from importlib.util import find_spec

    return os.environ.get("ROPE_XP_FAST") != "0" and find_spec("numba") is not None


def can_take(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, out: np.ndarray) -> bool:
    """Whether features are neighbours in memory, and of a kind that machines compute with."""
    known = {"float32": ("float32", "float64"), "float64": ("float64",), "uint16": ("float32",)}
    return (
        cos.dtype.name in known.get(x.dtype.name, ())
        and cos.dtype == sin.dtype
        and all(
            a.dtype.isnative and a.flags.aligned and a.strides[-1] == a.itemsize
            for a in (x, cos, sin, out)
        )
    )


def rotate_rows(
    turn: Callable[..., Any],
    x: np.ndarray,  # (..., head_dim); uint16 is bfloat16
    cos: np.ndarray,  # (..., n_pairs), as many axes as x, each of its size or 1
    sin: np.ndarray,
    out: np.ndarray,  # shape and dtype of x; x itself, or other memory
    *,
    start: int,
    neighbours: bool,
    inverse: bool,
) -> None:
    """Rotate ``x`` into ``out``; features that have no pair are copied."""
    if x.size == 0:
        return
    kernel = _kernel(turn, x.dtype == np.uint16)
    copy = out.ctypes.data != x.ctypes.data
    options = (start, neighbours, copy, cos.dtype.type(-1 if inverse else 1))
    arrays = [array[(None,) * (4 - array.ndim)] for array in (x, cos, sin, out)]
    if neighbours and 2 * cos.shape[-1] == x.shape[-1] and x.dtype != np.uint16:
        arrays = _long_rows(arrays)
    for index in np.ndindex(arrays[0].shape[:-4]):
        kernel(*(_at(array, index) for array in arrays), *options)


def _long_rows(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Rows that stand one behind the other as one row: neighbours are neighbours in it as well."""
    rows = arrays[0].shape[-2]
    if all(a.shape[-2] == rows and a.strides[-2] == a.shape[-1] * a.itemsize for a in arrays):
        return [a.reshape(*a.shape[:-2], 1, rows * a.shape[-1]) for a in arrays]
    return arrays


def _at(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """The part of ``array`` at ``index``; what has one element along an axis has it everywhere."""
    part: np.ndarray = array[
        tuple(i if n > 1 else 0 for i, n in zip(index, array.shape, strict=False))
    ]
    return part


@functools.cache
def _kernel(turn: Callable[..., Any], bfloat16: bool) -> Kernel:
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
        x: Any, cos: Any, sin: Any, out: Any, start: int, neighbours: bool, copy: bool, sign: Any
    ) -> None:  # (a, b, seq, head_dim) or (..., n_pairs)
        head_dim, n_pairs = x.shape[3], cos.shape[3]
        # A table's axis of size 1 is for all: there its index stays 0.
        i_, j_, k_ = int(cos.shape[0] > 1), int(cos.shape[1] > 1), int(cos.shape[2] > 1)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                for k in range(x.shape[2]):
                    y = row(out, i, j, k)
                    at = i * i_, j * j_, k * k_
                    c, s = row(cos, *at), row(sin, *at)
                    if copy:
                        source = row(x, i, j, k)
                        if neighbours and 2 * n_pairs == head_dim and not bfloat16:
                            for p in range(n_pairs):
                                a, b = source[2 * p], source[2 * p + 1]
                                a, b = formula(read(a), read(b), c[p], sign * s[p])
                                y[2 * p], y[2 * p + 1] = write(a), write(b)
                            continue
                        # A row that is copied first is in the nearest cache, and turned where it
                        # stands it has one address less to be told apart from the others.
                        for p in range(head_dim):
                            y[p] = source[p]
                    if start:
                        y = y[start:]
                    if neighbours:
                        for p in range(n_pairs):
                            a, b = formula(read(y[2 * p]), read(y[2 * p + 1]), c[p], sign * s[p])
                            y[2 * p], y[2 * p + 1] = write(a), write(b)
                    else:
                        for p in range(n_pairs):
                            a, b = formula(read(y[p]), read(y[n_pairs + p]), c[p], sign * s[p])
                            y[p], y[n_pairs + p] = write(a), write(b)

    compiled: Kernel = kernel
    return compiled
