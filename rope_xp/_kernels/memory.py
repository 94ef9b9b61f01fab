"""What kernels that write into memory share: when they may, tiles, scratch memory and threads."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Memory, Namespace
from rope_xp._kernels.plan import MIN_KERNEL_SIZE, Operands, RotationPlan, forced_kernel

if TYPE_CHECKING:
    from threading import Thread


def memory_of(array: Array) -> Memory:
    """What is known about the memory of an array that `is_accessible`."""
    memory = _backends.library_of(array).memory
    if memory is None:
        msg = f"`array` must be memory that kernels can write, got {_backends.describe(array)}"
        raise TypeError(msg)
    return memory


def is_accessible(arrays: Operands, min_size: int = MIN_KERNEL_SIZE) -> bool:
    """Whether the arrays can be read and written here and now, and have ``min_size`` elements."""
    memory = _backends.library_of(arrays.x).memory
    # In this order: sizes must not be asked of what a compiler traces.
    return (
        memory is not None
        and memory.is_accessible(*arrays)
        and (forced_kernel() is not None or math.prod(arrays.x.shape) >= min_size)
        and (arrays.out is None or is_alias_safe(memory, arrays))
    )


def is_alias_safe(memory: Memory, arrays: Operands) -> bool:
    """Whether ``out`` shares memory with none of the others, or is ``x`` itself.

    That matters if some of ``out`` is written before all is read; in doubt it is False.
    """
    x, cos, sin, out = (memory.as_numpy(array) for array in arrays)
    itself = _starts_alike(x, out)
    others = (cos, sin) if itself else (x, cos, sin)
    most: Any = 1000  # steps of a search without bound; NumPy's stubs know none and all
    return not any(np.may_share_memory(out, other, max_work=most) for other in others)


def is_same_memory(x: Array, out: Array) -> bool:
    """Whether ``out`` is ``x`` itself; if it `is_alias_safe`, they have nothing in common otherwise."""
    as_numpy = memory_of(x).as_numpy
    return out is x or _starts_alike(as_numpy(x), as_numpy(out))


def _starts_alike(x: np.ndarray, out: np.ndarray) -> bool:
    return out.ctypes.data == x.ctypes.data and out.strides == x.strides


def broadcast_tables(arrays: Operands) -> Operands:
    """The same with as many axes in the tables as in ``x``, and with an ``out``."""
    x, cos, sin, out = arrays
    cos, sin = (table[(*(None,) * (x.ndim - table.ndim), ...)] for table in (cos, sin))
    return Operands(x, cos, sin, memory_of(x).empty(x) if out is None else out)


def write_result(
    plan: RotationPlan,
    arrays: Operands,
    fill: Callable[[Operands], None],
    bytes_per_thread: int,
) -> Array:
    """The result, with the rotated features from ``fill``, which is given parts of the arrays."""
    memory = memory_of(arrays.x)
    x, _, _, out = arrays = broadcast_tables(arrays)
    if out is not x:
        copy_features(plan, x, out)
    if memory.operations_are_threaded:
        fill(arrays)
    else:
        in_threads(fill, arrays, memory.threads, bytes_per_thread)
    return out


def copy_features(plan: RotationPlan, x: Array, out: Array) -> None:
    """The features that are not rotated, from ``x`` to ``out``."""
    for features in (slice(0, plan.start), slice(plan.end, x.shape[-1])):
        if features.start < features.stop:
            out[..., features] = x[..., features]


def in_threads(
    work: Callable[[Operands], None],
    arrays: Operands,
    granted: Callable[[], int],
    bytes_per_thread: int,
) -> None:
    """``work`` on parts of the arrays, in as many threads as are granted and have enough to do."""
    count = math.prod(arrays.x.shape) * arrays.x.dtype.itemsize // bytes_per_thread
    if count > 1:
        count = min(count, granted())  # asking takes longer than rotating a small array
    if count > 1:
        run_in_threads(work, split(arrays, count))
    else:
        work(arrays)


def split(arrays: Operands, count: int) -> list[Operands]:
    """``arrays`` in ``count`` pieces along the longest axis but the last, or as many as it has."""
    rows = arrays.x.shape[:-1]
    axis = max(range(len(rows)), key=lambda a: rows[a])
    count = max(1, min(count, rows[axis]))
    edges = [rows[axis] * i // count for i in range(count + 1)]
    before = (slice(None),) * axis
    return [
        Operands(*(a[(*before, slice(*edge))] if a.shape[axis] > 1 else a for a in arrays))
        for edge in itertools.pairwise(edges)
    ]


def run_in_threads(work: Callable[[Operands], None], pieces: list[Operands]) -> None:
    """``work`` on each of the pieces, in this thread and in one more for each further piece.

    Threads that end with the call: a pool that stays would be lost in a forked process, and making
    one takes longer than its threads. Each takes pieces that nobody has taken: those of a thread that
    cannot start are done by the others, and after an error or Ctrl-C none is left to take. What the
    caller has set in its context (``numpy.errstate``) applies in all of them.
    """
    if len(pieces) == 1:
        work(pieces[0])
        return
    from threading import Thread  # most never need it

    todo = deque(pieces)
    working: list[None] = []  # one for each thread that may be at a piece
    errors: list[BaseException] = []

    def take_pieces() -> None:
        try:
            while True:
                try:
                    piece = todo.popleft()
                except IndexError:
                    return
                work(piece)
        except BaseException as error:  # noqa: BLE001 - raised below, where the caller can see it
            errors.append(error)
            todo.clear()

    def run() -> None:
        working.append(None)  # before it takes one
        try:
            take_pieces()
        finally:
            working.pop()

    threads = [Thread(target=copy_context().run, args=(run,)) for _ in pieces[1:]]
    try:
        for thread in threads:
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads
                break
        take_pieces()
    finally:
        todo.clear()
        _join(threads, working)
    if errors:
        raise errors[0]


def _join(threads: list[Thread], working: list[None]) -> None:
    """Wait until none of the threads writes any more; only then raise what interrupted that."""
    interruption: BaseException | None = None
    # A thread whose ``join`` was interrupted passes for one that has ended (Python 3.11).
    while working or any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                if thread.is_alive():
                    thread.join()
            if working:
                time.sleep(1e-3)
        except BaseException as error:  # noqa: BLE001 - raised below
            interruption = error
    if interruption is not None:
        raise interruption


class Scratch:
    """Arrays that receive the numbers of one tile after the other."""

    def __init__(self, count: int, like: Array, dtype: Dtype, xp: Namespace) -> None:
        memory = memory_of(like)
        self.size = max(memory.tile_size(like), like.shape[-1])  # a row at least
        self._flat = memory.scratch(count, self.size, dtype, like)
        self._views: dict[tuple[int, ...], list[Array]] = {}
        self._xp = xp

    def views(self, shape: tuple[int, ...]) -> list[Array]:
        """The arrays with this shape."""
        found = self._views.get(shape)
        if found is None:
            size = math.prod(shape)
            found = [self._xp.reshape(flat[:size], shape) for flat in self._flat]
            self._views[shape] = found
        return found


def tiles(
    shape: tuple[int, ...], table_shape: tuple[int, ...], size: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """The index into ``x`` and the index into the tables of each tile of at most ``size`` elements.

    Tiles are whole along the last axes. Axes that tables do not have vary fastest, so that most tiles
    find their table where the one before has left it.
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
