"""CuPy: NumPy's interface on CUDA devices."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rope_xp._backends import cuda_driver
from rope_xp._backends.library import Array, Cuda, Library, Namespace
from rope_xp._backends.numpy import is_dtype, write_into


def load() -> Namespace:
    import array_api_compat.cupy as xp

    return xp


def is_accessible(*arrays: Array | None) -> bool:
    import cupy

    given = [array for array in arrays if array is not None]
    # Subclasses may give operators another meaning. Memory and streams are those of the current device.
    return all(
        type(array) is cupy.ndarray and not any(step % array.itemsize for step in array.strides)
        for array in given
    ) and {array.data.device_id for array in given} == {cupy.cuda.runtime.getDevice()}


def empty(x: Array) -> Array:
    import cupy

    return cupy.empty(x.shape, x.dtype)


def launch(
    kernel: tuple[str, str],
    grid: tuple[int, int],
    arrays: tuple[Array, ...],
    numbers: tuple[int, ...],
) -> None:
    blocks, threads = grid
    _raw_kernel(*kernel)((blocks,), (threads,), (*arrays, *np.asarray(numbers, np.int32)))


@functools.cache
def _raw_kernel(source: str, name: str) -> Any:
    import cupy

    return cupy.RawKernel(source, name, options=cuda_driver.OPTIONS)


def write_slots(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None
) -> Sequence[Array] | None:
    import cupy

    return write_into(arrays, index, values, valid, cupy) if is_accessible(*arrays) else None


LIBRARY = Library(
    "cupy",
    load,
    missing_dtypes=lambda device: frozenset(),
    is_dtype=is_dtype,
    to_host=lambda array: array.get(),
    write_slots=write_slots,
    cuda=Cuda(
        is_accessible=is_accessible,
        empty=empty,
        address=lambda array: int(array.data.ptr),
        strides=lambda array: tuple(step // array.itemsize for step in array.strides),
        launch=launch,
        mark_written=lambda out: None,
    ),
)
