"""Dask: lazy arrays made of blocks, without devices."""

from __future__ import annotations

from collections.abc import Callable

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


LIBRARY = Library(
    "dask",
    load,
    device=lambda array: None,
    is_writable=lambda array: False,  # it could be, but only by rebuilding its graph
    map_blocks=map_blocks,
    is_dtype=is_dtype,
)
