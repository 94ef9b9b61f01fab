"""How the rotation is evaluated: ways that differ in speed and memory, not in what they compute.

A rotation does almost no arithmetic. What it costs is moving the array through memory, and each way
keeps that low for one kind of array; `dispatch.way_for` says which is for which.

======== ===========================================================================================
whole    new arrays, joined: any library, and compilers, which fuse it
padded   parts as wide as the whole, summed: XLA makes one loop of it, and one for each joined part
tiles    blocks that stay in the cache, written to where they belong
complex  the same with pairs of neighbours as complex numbers: one multiplication
compiled rows, by numba: `_compiled`
======== ===========================================================================================

The formula is handed in by `rotation`. All ways give the same bits but ``complex`` on NumPy, which
rounds a complex product one time less: large arrays of neighbours, without numba.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._kernels import dispatch, numba_cpu


class Rotation(NamedTuple):
    """What is to be computed, whatever the way."""

    turn: Callable[..., Any]  # the formula
    # Features that pair, and the columns of the tables that turn them.
    parts: tuple[tuple[slice, slice, slice], ...]
    start: int  # of the features that turn
    end: int
    neighbours: bool  # are pairs, so that there is one part
    inverse: bool
    compute: Dtype
    casts: bool  # whether some array has another dtype
    small: bool = False  # too small for anything but new arrays


def evaluate(
    task: Rotation, x: Array, cos: Array, sin: Array, *, out: Array | None, xp: Namespace
) -> Array:
    """``x`` rotated, written to ``out`` if that is given. Tables broadcast with ``x``."""
    way = dispatch.way_for(x, cos, sin, out, neighbours=task.neighbours, small=task.small)
    if way == "recorded":
        return dispatch.record_linear(_again, task, x, cos, sin)
    if out is None and way in _NEW:
        return _NEW[way](task, x, cos, sin, xp)
    cos, sin = (table[(*(None,) * (x.ndim - table.ndim), ...)] for table in (cos, sin))
    if out is None:
        out = dispatch.empty(x)
    elif way in _NEW or not dispatch.can_write_over(out, x, cos, sin):
        form: Callable[..., Array] = _NEW.get(way, _whole)
        out[...] = form(task, x, cos, sin, xp)
        return out
    if out is not x and way != "compiled":
        for others in (slice(0, task.start), slice(task.end, None)):
            out[..., others] = x[..., others]
    arrays = [x, cos, sin, out]
    if way == "compiled":
        arrays = [dispatch.as_numpy(array) for array in arrays]
    pieces = _split(arrays, dispatch.threads(x, way))
    _in_threads(lambda arrays: _INTO[way](task, arrays, xp), pieces)
    if way == "compiled":
        dispatch.tell_written(out)
    return out


def _again(task: Rotation, x: Array, cos: Array, sin: Array, *, transposed: bool) -> Array:
    task = task._replace(inverse=task.inverse != transposed, small=False)
    return evaluate(task, x, cos, sin, out=None, xp=_backends.namespace(x=x))


def _split(arrays: list[Array], count: int) -> list[list[Array]]:
    """``arrays`` in ``count`` pieces along the longest axis but the last, or as many as it has."""
    rows = arrays[0].shape[:-1]
    axis = max(range(len(rows)), key=lambda a: rows[a])
    count = max(1, min(count, rows[axis]))
    edges = [rows[axis] * i // count for i in range(count + 1)]
    before = (slice(None),) * axis
    return [
        [a[(*before, slice(*edge))] if a.shape[axis] > 1 else a for a in arrays]
        for edge in itertools.pairwise(edges)
    ]


def _in_threads(work: Callable[[list[Array]], None], pieces: list[list[Array]]) -> None:
    """``work`` on each of the pieces, the first of them in this thread.

    Threads that end with the call: a pool that stays would be lost in a forked process, and making
    one takes longer than its threads.
    """
    from threading import Thread

    errors: list[BaseException] = []

    def attempt(piece: list[Array]) -> None:
        try:
            work(piece)
        except BaseException as error:  # noqa: BLE001 - raised below, where the caller can see it
            errors.append(error)

    others = [Thread(target=attempt, args=(piece,)) for piece in pieces[1:]]
    for thread in others:
        thread.start()
    attempt(pieces[0])
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


# -- new arrays ------------------------------------------------------------------------------------


def _whole(task: Rotation, x: Array, cos: Array, sin: Array, xp: Namespace) -> Array:
    pieces: list[Array] = []
    for pair in _turned(task, x, cos, sin, xp):
        a, b = (_backends.cast(half, x.dtype, xp) for half in pair) if task.casts else pair
        pieces += (join_neighbours(a, b, xp),) if task.neighbours else (a, b)
    y = replace_features(x, pieces, task.start, task.end, xp)
    return _backends.cast(y, x.dtype, xp) if task.casts else y  # NumPy's other byte order is lost


def _padded(task: Rotation, x: Array, cos: Array, sin: Array, xp: Namespace) -> Array:
    width = x.shape[-1]
    pieces = [
        (features, _backends.cast(x[..., features], task.compute, xp))
        for features in (slice(0, task.start), slice(task.end, width))
        if features.start < features.stop
    ]
    for (*halves, _), turned in zip(task.parts, _turned(task, x, cos, sin, xp), strict=True):
        pieces += zip(halves, turned, strict=True)
    total, *rest = (dispatch.pad(piece, features, width) for features, piece in pieces)
    for piece in rest:
        total = total + piece
    # Narrow only here: XLA's loops over 16-bit numbers are many times slower.
    return _backends.cast(total, x.dtype, xp)


def _turned(
    task: Rotation, x: Array, cos: Array, sin: Array, xp: Namespace
) -> Iterator[tuple[Array, Array]]:
    """Of each part the first and the second features, turned."""
    if task.casts:
        cos, sin = _backends.cast(cos, task.compute, xp), _backends.cast(sin, task.compute, xp)
    if task.inverse:
        sin = -sin
    for first, second, columns in task.parts:
        if task.neighbours and not task.small:
            # Compilers see better what stands where than by slices with steps.
            pairs = x[..., task.start : task.end]
            pairs = xp.reshape(pairs, (*x.shape[:-1], cos.shape[-1], 2))
            a, b = pairs[..., 0], pairs[..., 1]
        else:
            a, b = x[..., first], x[..., second]
        if task.casts:
            a, b = _backends.cast(a, task.compute, xp), _backends.cast(b, task.compute, xp)
        if len(task.parts) > 1:
            yield task.turn(a, b, cos[..., columns], sin[..., columns])
        else:
            yield task.turn(a, b, cos, sin)


def join_neighbours(a: Array, b: Array, xp: Namespace) -> Array:
    """a₀ b₀ a₁ b₁ …: (..., n) twice to (..., 2 n)."""
    return xp.reshape(xp.stack((a, b), axis=-1), (*a.shape[:-1], 2 * a.shape[-1]))


def replace_features(x: Array, parts: list[Array], start: int, end: int, xp: Namespace) -> Array:
    """``x`` with its features from ``start`` to ``end`` replaced by ``parts``, others bit for bit."""
    if start:
        parts = [x[..., :start], *parts]
    if end != x.shape[-1]:
        parts = [*parts, x[..., end:]]
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)


# -- into memory -----------------------------------------------------------------------------------


def _tiles(task: Rotation, arrays: list[Array], xp: Namespace) -> None:
    x, cos, sin, out = arrays
    for first, second, columns in task.parts:
        a, b, c, s = x[..., first], x[..., second], cos[..., columns], sin[..., columns]
        first_out, second_out = out[..., first], out[..., second]
        memory = _Memory(7, a, task.compute, xp)
        known = None
        for at, at_table in _tiles_of(a.shape, c.shape, memory.size):
            if at_table != known:
                known = at_table
                held_c, held_s, *_ = memory.shaped(c[at_table].shape)
                held_c[...], held_s[...] = c[at_table], s[at_table]
                if task.inverse:
                    xp.negative(held_s, out=held_s)
            a_tile = a[at]
            _, _, held_a, held_b, *free = memory.shaped(a_tile.shape)
            held_a[...], held_b[...] = a_tile, b[at]
            operands = [_Factor(held, free, xp) for held in (held_a, held_b, held_c, held_s)]
            turned_a, turned_b = task.turn(*operands)
            first_out[at], second_out[at] = turned_a.array, turned_b.array


class _Factor:
    """An operand of the formula whose products go to memory that is free ..."""

    __slots__ = ("array", "free", "xp")

    def __init__(self, array: Array, free: list[Array], xp: Namespace) -> None:
        self.array, self.free, self.xp = array, free, xp

    def __mul__(self, other: _Factor) -> _Product:
        product = self.free.pop()
        self.xp.multiply(self.array, other.array, out=product)
        return _Product(product, self.free, self.xp)


class _Product(_Factor):
    """... and whose sums go to where the first product was, which frees the second."""

    __slots__ = ()

    def __add__(self, other: _Product) -> _Product:
        return self._joined(self.xp.add, other)

    def __sub__(self, other: _Product) -> _Product:
        return self._joined(self.xp.subtract, other)

    def _joined(self, function: Callable[..., Any], other: _Product) -> _Product:
        function(self.array, other.array, out=self.array)
        self.free.append(other.array)
        return self


def _complex(task: Rotation, arrays: list[Array], xp: Namespace) -> None:
    x, cos, sin, out = arrays
    x, out = x[..., task.start : task.end], out[..., task.start : task.end]
    source: Any = dispatch.as_complex(x, task.compute)
    target: Any = dispatch.as_complex(out, task.compute)
    # Pairs that cannot be seen as complex numbers where they stand are held where they can.
    held = None if source is not None and target is not None else _Memory(1, x, task.compute, xp)
    size = max(dispatch.tile_size(x, held=held is not None), x.shape[-1])
    known = None
    for at, at_table in _tiles_of(x.shape, cos.shape, size):
        if at_table != known:
            known = at_table
            c, s = (_backends.cast(t[at_table], task.compute, xp) for t in (cos, sin))
            s = -s if task.inverse else s
            table = dispatch.complex_of(c, s)
        if held is None:
            xp.multiply(source[at], table, out=target[at])
        else:
            (tile,) = held.shaped(x[at].shape)
            tile[...] = x[at]
            if dispatch.is_even(tile, cos.shape[-1]):
                pairs = dispatch.as_complex(tile, task.compute)
                xp.multiply(pairs, table, out=pairs)
            else:
                a, b = tile[..., 0::2], tile[..., 1::2]
                a[...], b[...] = task.turn(a, b, c, s)
            out[at] = tile


def _compiled_rows(task: Rotation, arrays: list[Array], _xp: Namespace) -> None:
    x, cos, sin, out = arrays
    for first, _, columns in task.parts:
        numba_cpu.rotate_rows(
            task.turn,
            x,
            cos[..., columns],
            sin[..., columns],
            out,
            start=first.start,
            neighbours=task.neighbours,
            inverse=task.inverse,
        )
        x = out  # whole rows were copied


class _Memory:
    """Arrays that hold the numbers of one tile after the other."""

    def __init__(self, count: int, like: Array, dtype: Dtype, xp: Namespace) -> None:
        self.size = max(dispatch.tile_size(like), like.shape[-1])  # a row at least
        self._flat = dispatch.scratch(count, self.size, dtype, like)
        self._shaped: dict[tuple[int, ...], list[Array]] = {}
        self._xp = xp

    def shaped(self, shape: tuple[int, ...]) -> list[Array]:
        found = self._shaped.get(shape)
        if found is None:
            size = math.prod(shape)
            found = [self._xp.reshape(flat[:size], shape) for flat in self._flat]
            self._shaped[shape] = found
        return found


def _tiles_of(
    shape: tuple[int, ...], table_shape: tuple[int, ...], size: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Where in ``x`` and where in the tables each tile of at most ``size`` elements stands.

    Whole axes from the last on. Axes that tables do not have vary fastest, so that most tiles find
    their table where the one before has left it.
    """
    rows, steps = shape[:-1], []
    count = size // shape[-1]
    for n in reversed(rows):
        steps.append(max(1, min(n, count)))
        count //= steps[-1]
    steps.reverse()
    shared = [n == 1 for n in table_shape[:-1]]
    order = sorted(range(len(rows)), key=lambda axis: shared[axis])
    at = [slice(None)] * len(rows)
    for starts in itertools.product(*(range(0, rows[axis], steps[axis]) for axis in order)):
        for axis, start in zip(order, starts, strict=True):
            at[axis] = slice(start, start + steps[axis])
        yield tuple(at), tuple(slice(None) if s else a for s, a in zip(shared, at, strict=True))


_NEW: dict[str, Callable[..., Array]] = {"whole": _whole, "padded": _padded}
_INTO: dict[str, Callable[..., None]] = {
    "tiles": _tiles,
    "complex": _complex,
    "compiled": _compiled_rows,
}
