"""NumPy: eager memory on the CPU, one thread for each operation."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rope_xp._backends.dtypes import dtype_name
from rope_xp._backends.library import Array, Dtype, Library, Memory, Namespace


@functools.cache
def load() -> Namespace:
    import array_api_compat.numpy as xp

    return xp


def shared_namespace(first: Array, second: Array, third: Array) -> Namespace | None:
    return load() if type(first) is type(second) is type(third) is np.ndarray else None


def is_accessible(*arrays: Array | None) -> bool:
    # Subclasses may give operators another meaning.
    return all(type(array) in (np.ndarray, np.memmap) for array in arrays if array is not None)


def empty(x: Array) -> Array:
    return np.empty(x.shape, x.dtype)


def scratch(count: int, size: int, dtype: Dtype, _like: Array) -> list[Array]:
    # Each at the start of a cache line: NumPy's own arrays begin 16 bytes after one, and vector
    # instructions take twice the time there.
    itemsize = np.dtype(dtype).itemsize
    line = 64 // itemsize
    stride = -(-size // line) * line
    raw = np.empty(count * stride + line, dtype)
    start = -raw.ctypes.data % 64 // itemsize
    return [raw[start + i * stride :][:size] for i in range(count)]


def tile_size(x: Array, *, scratch: bool = True) -> int:
    # Three float32 numbers for each element, and one more in 16 bits, fit a core's cache, and take
    # less than a sixteenth of a large ``x``. Smaller tiles take longer to start than to compute.
    most, share = (2**16, 64 if x.dtype.itemsize > 2 else 192) if scratch else (2**18, 64)
    return max(2**13, min(most, int(math.prod(x.shape)) // share))


def as_complex(array: Array, dtype: Dtype) -> Array | None:
    if array.dtype != dtype or not array.dtype.isnative or array.strides[-1] != array.itemsize:
        return None
    return array.view(np.complex64 if array.itemsize == 4 else np.complex128)


def make_complex(real: Array, imag: Array) -> Array:
    made = np.empty(real.shape, np.result_type(real, np.complex64))
    made.real, made.imag = real, imag
    return made


def as_numpy(array: Array) -> np.ndarray:
    bfloat16 = dtype_name(array.dtype) == "bfloat16"
    found: np.ndarray = array.view(np.uint16) if bfloat16 else array
    return found


def is_dtype(dtype: object) -> bool:
    try:
        np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return False
    return True


def host_values(array: Array) -> np.ndarray | None:
    return array if type(array) in (np.ndarray, np.memmap) else None


def unsupported(array: Array) -> str | None:
    if type(array) is np.ndarray:
        return None
    if isinstance(array, np.matrix):
        return "an array whose * is elementwise, got np.matrix: pass np.asarray of it"
    # NumPy loads masked arrays on first use.
    if isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())):
        return "an array without a mask, which would get lost, got a masked array: pass its data"
    return None


def threads() -> int:
    # As the libraries below NumPy do it: one for each core, at most OMP_NUM_THREADS.
    known = hasattr(os, "sched_getaffinity")
    cores: int = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        granted = os.environ.get(name, "")
        cores = min(cores, int(granted)) if granted.isdecimal() else cores
    return cores


def write_slots(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None
) -> Sequence[Array] | None:
    if not is_accessible(*arrays) or not all(array.flags.writeable for array in arrays):
        return None
    return write_into(arrays, index, values, valid, np)


def write_into(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None, xp: Any
) -> Sequence[Array]:
    """`write_slots` in memory that can be written, of NumPy's or CuPy's: ``xp``."""
    if isinstance(index, int):
        for array, fresh in zip(arrays, values, strict=True):
            array[..., index : index + fresh.shape[-2], :] = fresh
        return arrays
    # The indexed axes in front, next to each other.
    first = index.ndim - 1
    place = (xp.arange(len(index))[:, None], index) if first else index
    for array, given in zip(arrays, values, strict=True):
        slots, fresh = array.swapaxes(-2, first), given.swapaxes(-2, first)
        if valid is not None:
            which = valid[(..., *(None,) * (fresh.ndim - valid.ndim))]
            fresh = xp.where(which, fresh, slots[place])
        slots[place] = fresh
    return arrays


LIBRARY = Library(
    "numpy",
    load,
    shared_namespace=shared_namespace,
    # The cache of one core.
    cache_block_bytes=lambda array: 2**17 if type(array) is np.ndarray else 0,
    unsupported=unsupported,
    missing_dtypes=lambda device: frozenset(),
    is_dtype=is_dtype,
    host_values=host_values,
    is_near_host=lambda array: True,
    write_slots=write_slots,
    memory=Memory(
        is_accessible=is_accessible,
        empty=empty,
        scratch=scratch,
        tile_size=tile_size,
        as_complex=as_complex,
        make_complex=make_complex,
        complex_product_is_exact=False,  # one rounding less
        rounds_uniformly=lambda x, n_pairs: True,
        as_numpy=as_numpy,
        mark_written=lambda out: None,
        threads=threads,
        operations_are_threaded=False,
    ),
)
