"""Dask: lazy arrays made of blocks, without devices.

Queries and keys may be larger than memory, and so may tables of their length. Positions and tables are in
the chunks of ``x``, which is not rechunked for them, and Dask fuses what makes them with the rotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isnan
from operator import itemgetter
from typing import Any

import numpy as np

from rope_xp._backends import numpy
from rope_xp._backends.library import Array, Blocks, Dtype, Library, Namespace, Operand, Result
from rope_xp._backends.numpy import is_dtype


def load() -> Namespace:
    import array_api_compat.dask.array as xp

    return xp


def map_blocks(
    function: Callable[..., Any], operands: Sequence[Operand], results: Sequence[Result]
) -> list[Array]:
    """``function`` block by block: one task each, also where sizes are unknown."""
    import dask.array as da

    arrays = [_in_one_block(each) for each in operands]
    first, last = arrays[0], operands[0].array.ndim
    # An axis that goes with none is one block, as that of the result is which goes with none.
    labels = [tuple(last if axis is None else axis for axis in each.axes) for each in operands]
    result = results[0]
    out = tuple(last if axis is None else axis for axis in result.axes)
    width = {last: result.shape[-1]}
    made = da.blockwise(
        function,
        out,
        *(part for pair in zip(arrays, labels, strict=True) for part in pair),
        **({"adjust_chunks": width} if last in labels[0] else {"new_axes": width}),
        align_arrays=False,
        dtype=result.dtype,
        meta=_empty(first, len(out), result.dtype),
    )
    if len(results) == 1:
        return [made]
    # Each block is a tuple of all results.
    return [
        da.blockwise(itemgetter(i), out, made, out, dtype=made.dtype, meta=made._meta)
        for i in range(len(results))
    ]


def _in_one_block(operand: Operand) -> Array:
    """The array, in one block along axes that go with none."""
    array, axes = operand.array, operand.axes
    whole = [i for i, axis in enumerate(axes) if axis is None and array.numblocks[i] > 1]
    return array.rechunk(dict.fromkeys(whole, -1)) if whole else array


def _empty(like: Array, ndim: int, dtype: Dtype) -> Array:
    """What tells Dask of which library blocks are."""
    from dask.array.utils import meta_from_array

    return meta_from_array(like, ndim=ndim, dtype=dtype)


def indices(x: Array, axis: int, first: int, dtype: Dtype) -> Array:
    import dask.array as da

    return da.map_blocks(
        partial(_indices_of_block, first=first, dtype=dtype),
        chunks=(x.chunks[axis],),
        dtype=dtype,
        meta=_empty(x, 1, dtype),
    )


def _indices_of_block(*, first: int, dtype: Dtype, block_info: Any = None) -> Any:
    ((start, stop),) = block_info[None]["array-location"]
    return np.arange(stop - start, dtype=dtype) + (first + start)  # a number that the dtype has


def place(operand: Operand, like: Operand, _few: int) -> Array:
    """An array, Dask's or NumPy's, in the chunks of another along the axes that both have."""
    import dask.array as da

    array, x = operand.array, like.array
    wanted = [
        (n,) if axis is None or n == 1 else x.chunks[axis]
        for n, axis in zip(array.shape, operand.axes, strict=True)
    ]
    if isinstance(array, np.ndarray):
        unknown = any(isnan(n) for chunks in wanted for n in chunks)
        array = da.from_array(array, chunks=-1 if unknown else tuple(wanted))
    other = {
        i: chunks
        for i, chunks in enumerate(wanted)
        if chunks != array.chunks[i] and not any(map(isnan, (*chunks, *array.chunks[i])))
    }
    if other:
        array = array.rechunk(other)
    if array.numblocks != (*map(len, wanted),):
        msg = (
            f"`{operand.name}` of unknown length must have as many blocks as `{like.name}` has there, "
            f"{(*map(len, wanted),)}, got {array.numblocks}"
        )
        raise ValueError(msg)
    return array


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
    place=place,
    blocks=Blocks(map=map_blocks, indices=indices),
    unsupported=unsupported,
    missing_dtypes=lambda device: frozenset(),
    is_dtype=is_dtype,
)
