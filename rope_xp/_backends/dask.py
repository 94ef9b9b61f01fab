"""Dask: lazy arrays made of blocks, without devices.

Queries and keys may be larger than memory, and so may tables of their length. Positions and tables have
the chunks of ``x``, which is not rechunked for them, and Dask fuses what makes them with the rotation:
one task for each chunk of ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import isnan
from operator import itemgetter
from typing import Any

import array_api_compat
import numpy as np

from rope_xp._backends import numpy
from rope_xp._backends.library import Array, Blocks, Dtype, Library, Namespace
from rope_xp._backends.numpy import is_dtype

Pair = tuple[Array, Array]


def load() -> Namespace:
    import array_api_compat.dask.array as xp

    return xp


def count(x: Array, axis: int, first: Any, dtype: Dtype) -> Array:
    import dask.array as da
    from dask.base import tokenize
    from dask.blockwise import blockwise
    from dask.highlevelgraph import HighLevelGraph
    from dask.layers import ArraySliceDep

    function = partial(_count_block, dtype=dtype)
    rows: tuple[int, ...] = ()
    arrays, chunks = [], [x.chunks[axis]]
    if isinstance(first, int):
        function = partial(function, first=first)
    else:
        rows = (0,)[: first.ndim]
        arrays = [_align(first, x, rows)]
        chunks = [*arrays[0].chunks, *chunks]
    name = f"positions-{tokenize(function, x.chunks[axis], *arrays)}"
    operands = [part for array in arrays for part in (array.name, rows)]
    with _shared(x, (*rows, axis)):  # da.blockwise of Dask 2024 takes no such slices
        layer = blockwise(
            function,
            name,
            (*rows, axis),
            ArraySliceDep((x.chunks[axis],)),
            (axis,),
            *operands,
            numblocks={array.name: array.numblocks for array in arrays},
        )
        graph = HighLevelGraph.from_collections(name, layer, dependencies=arrays)
    return da.Array(graph, name, chunks, dtype=dtype, meta=np.empty((0,) * len(chunks), dtype))


def _count_block(along: tuple[slice], first: Any, *, dtype: Dtype) -> Array:
    start, stop = along[0].start, along[0].stop
    if isinstance(first, int):  # no sum of a number that the dtype lacks
        return np.arange(stop - start, dtype=dtype) + (first + start)
    xp = array_api_compat.array_namespace(first)
    return first[..., None].astype(dtype) + xp.arange(start, stop, dtype=dtype)


def _align(array: Array, x: Array, axes: Sequence[int | None]) -> Array:
    """``array``, Dask's or NumPy's, in the chunks of ``x`` along ``axes``; whole where they say None."""
    import dask.array as da

    wanted = [
        (n,) if axis is None or n == 1 else x.chunks[axis]
        for n, axis in zip(array.shape, axes, strict=True)
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
            f"`positions` and tables of unknown length must have as many blocks as the array that "
            f"rotates has there, {(*map(len, wanted),)}, got {array.numblocks}"
        )
        raise ValueError(msg)
    return array


def tables(
    make: Callable[[Array], Pair], positions: Array, n_pairs: int, dtype: Dtype, *, n_lead: int
) -> Pair:
    if n_lead:
        positions = positions.rechunk({0: -1})
    pair = _pair(make, positions, range(-n_lead, positions.ndim - n_lead), n_pairs, dtype)
    return _member(pair, 0), _member(pair, 1)


def _pair(
    make: Callable[[Array], Pair], positions: Array, axes: Sequence[int], n_pairs: int, dtype: Dtype
) -> Array:
    """cos and sin of positions along ``axes``, negative where they end: each block is a tuple of both."""
    import dask.array as da

    pairs = max(axes, default=0) + 1
    out = (*(axis for axis in axes if axis >= 0), pairs)
    return da.blockwise(
        partial(_make_of_axes, make) if len(out) == positions.ndim else make,
        out,
        positions,
        tuple(axes),
        new_axes={pairs: n_pairs},
        align_arrays=False,
        dtype=dtype,
        meta=np.empty((0,) * len(out), dtype),
    )


def _member(pair: Array, i: int) -> Array:
    import dask.array as da

    axes = tuple(range(pair.ndim))
    return da.blockwise(itemgetter(i), axes, pair, axes, dtype=pair.dtype, meta=pair._meta)


def rotate(
    turn: Callable[..., Array], x: Array, arrays: Sequence[Array], axes: Sequence[int]
) -> Array:
    import dask.array as da
    from dask.array.utils import meta_from_array

    if x.numblocks[-1] > 1:
        x = x.rechunk({x.ndim - 1: -1})
    arrays = [_align(array, x, (*axes, None)) for array in arrays]
    operands = [part for array in arrays for part in (array, (*axes, x.ndim - 1))]
    out, meta = tuple(range(x.ndim)), meta_from_array(x)
    if len(arrays) == 1:
        turn = partial(_turn_by_pair, turn)
    options = {"dtype": x.dtype, "meta": meta, "align_arrays": False}
    return da.blockwise(turn, out, x, out, *operands, **options)


def _make_of_axes(make: Callable[[Array], Pair], positions: list[Array]) -> Pair:
    return make(positions[0])  # of the axis that ends here, one block


def _turn_by_pair(turn: Callable[..., Array], x: Array, pair: Pair) -> Array:
    return turn(x, *pair)


def rotate_to(
    turn: Callable[..., Array],
    make: Callable[[Array], Pair],
    x: Array,
    positions: Array,
    axes: Sequence[int],
    *,
    n_pairs: int,
    dtype: Dtype,
    n_lead: int,
) -> Array:
    positions = _align(positions, x, (*(None,) * n_lead, *axes))
    along = [a for a, n in zip(axes, positions.shape[n_lead:], strict=True) if n != 1]
    with _shared(x, along):
        pair = _pair(make, positions, (*range(-n_lead, 0), *axes), n_pairs, dtype)
    return rotate(turn, x, [pair], axes)


def _shared(x: Array, axes: Sequence[int]) -> AbstractContextManager[None]:
    """Has what is made here made once, where several chunks of ``x`` need it: it has only ``axes``.

    Tables take longer than a rotation of eight heads. Dask would fuse them with each of these, but for
    an annotation that the rotations do not have.
    """
    import dask

    several = any(n > 1 for axis, n in enumerate(x.numblocks[:-1]) if axis not in axes)
    context: AbstractContextManager[None] = dask.annotate(**{"shared": True} if several else {})
    return context


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
    blocks=Blocks(count=count, tables=tables, rotate=rotate, rotate_to=rotate_to),
    unsupported=unsupported,
    missing_dtypes=lambda device: frozenset(),
    is_dtype=is_dtype,
)
