"""Dask: lazy arrays made of blocks, without devices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rope_xp._backends import numpy
from rope_xp._backends.library import Array, Library, Namespace
from rope_xp._backends.numpy import is_dtype


def load() -> Namespace:
    import array_api_compat.dask.array as xp

    return xp


def map_blocks(function: Callable[..., Array], x: Array, *tables: Array) -> Array:
    """``function(x, *tables)`` block by block: one task each, also where sizes are unknown.

    Tables have the axes of ``x``, of the same size or 1, but for the last, which is whole.
    """
    import dask.array as da
    from dask.array.utils import meta_from_array

    if x.numblocks[-1] > 1:
        x = x.rechunk({x.ndim - 1: -1})
    axes = tuple(range(x.ndim))
    operands = [part for table in tables for part in (table, (*axes[:-1], x.ndim))]
    meta = meta_from_array(x)
    return da.blockwise(
        function, axes, x, axes, *operands, concatenate=True, dtype=x.dtype, meta=meta
    )


def unsupported(array: Array) -> str | None:
    blocks = array._meta
    library = type(blocks).__module__.partition(".")[0]
    wrong = numpy.unsupported(blocks) if isinstance(blocks, np.ndarray) else None
    if wrong is None and (isinstance(blocks, np.ndarray) or library == "cupy"):
        return None
    name = f"{library}'s {type(blocks).__name__}"
    return f"a Dask array whose blocks are NumPy's or CuPy's arrays, got blocks that are {name}"


LIBRARY = Library(
    "dask",
    load,
    device=lambda array: None,
    read_only=lambda array: "it is lazy",  # it could be, but only by rebuilding its graph
    map_blocks=map_blocks,
    unsupported=unsupported,
    missing_dtypes=lambda device: frozenset(),
    is_dtype=is_dtype,
    is_near_host=lambda array: True,
)
