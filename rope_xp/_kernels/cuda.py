"""One launch on a CUDA device, which reads and writes each feature once: for CuPy and torch.

Off unless ``ROPE_XP_CUDA=1`` is in the environment when rope_xp is imported: no commit has run on a GPU
yet. What needs none is tested: NVRTC compiles every variant, and the same text, compiled for the
machine's processor, gives the bits of `concat`.

The kernel compiles when a variant is first needed (`cuda_source.Variant`), in tens of milliseconds. Blocks
of features that are paired independently take one launch each. Left to other kernels are arrays with
2³¹ features or more (or with such strides), of more than four axes that cannot be merged, 16-bit numbers
with float64 tables, and an ``out`` that overlaps with what is still to be read.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any, NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Cuda, Namespace
from rope_xp._kernels import concat, cuda_source
from rope_xp._kernels.cuda_source import AXES, BLOCK, ITEMSIZE, NAME, VECTOR, Variant
from rope_xp._kernels.plan import Operands, RotationPlan

#: In bytes, of the largest vectors: 16 float64 numbers are more than any.
ALIGNMENT = 128
ENABLED = os.environ.get("ROPE_XP_CUDA") == "1"


class Launch(NamedTuple):
    variant: Variant
    blocks: int
    numbers: tuple[int, ...]  # `cuda_source.NUMBERS`


class Layout(NamedTuple):
    """Where an array is, as far as it matters to how a kernel goes through it."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    misalignment: int  # of its address: the rest of the division by ALIGNMENT


def takes_small_arrays() -> bool:
    # What launches take is most of their time.
    return ENABLED


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    if not ENABLED:
        return False
    cuda = _backends.library_of(arrays.x).cuda
    # In this order: sizes must not be asked of what a compiler traces.
    return (
        cuda is not None
        and cuda.is_accessible(*arrays)
        and 0 not in arrays.x.shape
        and (arrays.out is None or _is_alias_safe(cuda, arrays))
    )


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, out = arrays
    cuda: Any = _backends.library_of(x).cuda
    result = cuda.empty(x) if out is None else out
    given = x, result, cos, sin
    known = tuple((a.dtype, a.shape, cuda.strides(a), cuda.address(a) % ALIGNMENT) for a in given)
    # Parts follow each other, so that their last columns say all; slices have no hash.
    stops = tuple(columns.stop for *_, columns in plan.parts)
    launches = _launches(stops, plan.start, plan.interleaved, plan.inverse, out is x, known)
    if launches is None:
        return concat.rotate(plan, arrays, xp)
    for variant, blocks, numbers in launches:
        kernel = cuda_source.source(plan.turn, variant), NAME
        cuda.launch(kernel, (blocks, BLOCK), given, numbers)
    if out is not None:
        cuda.mark_written(out)
    return result


def _is_alias_safe(cuda: Cuda, arrays: Operands) -> bool:
    """Whether ``out`` shares memory with none of the others, or is ``x`` itself; in doubt False."""
    x, cos, sin, out = arrays
    itself = cuda.address(x) == cuda.address(out) and cuda.strides(x) == cuda.strides(out)
    low, high = _span(cuda, out)
    others = [_span(cuda, other) for other in (cos, sin, *(() if itself else (x,)))]
    return all(high <= other_low or other_high <= low for other_low, other_high in others)


def _span(cuda: Cuda, array: Array) -> tuple[int, int]:
    """The addresses from the first byte of an array to the one after its last."""
    reach = [
        (n - 1) * step for n, step in zip(array.shape, cuda.strides(array), strict=True) if n > 1
    ]
    itemsize, start = array.dtype.itemsize, cuda.address(array)
    low, high = (sum(step for step in reach if (step > 0) == up) for up in (False, True))
    return start + low * itemsize, start + (high + 1) * itemsize


@lru_cache(maxsize=4096)
def _launches(  # noqa: PLR0917 - positional for a quick memo
    stops: tuple[int, ...],
    start: int,
    interleaved: bool,
    inverse: bool,
    in_place: bool,
    arrays: tuple[tuple[Any, ...], ...],
) -> tuple[Launch, ...] | None:
    """The launches of a rotation, None for one that the kernel cannot do. ``arrays``: x, out, cos, sin."""
    layouts = tuple(Layout(_backends.dtype_name(dtype), *rest) for dtype, *rest in arrays)
    (dtype, shape, *_), _, (table_dtype, *_), (other_dtype, *_) = layouts
    if not {dtype, table_dtype} <= set(ITEMSIZE) or table_dtype != other_dtype:
        return None
    if ITEMSIZE[dtype] == 2 and table_dtype == "float64":  # others round to float32 in between
        return None
    axes = _merge_axes(shape[:-1], layouts)
    aligned = all(each.misalignment % ITEMSIZE[each.dtype] == 0 for each in layouts)
    if not aligned or len(axes) > AXES or math.prod(shape) >= 2**31:
        return None
    axes = [(1, (0,) * len(layouts))] * (AXES - len(axes)) + axes
    end = start + 2 * stops[-1]
    found: list[Launch] = []
    for column, stop in zip((0, *stops), stops, strict=False):
        n_pairs, first = stop - column, start + 2 * column
        second = first + (1 if interleaved else n_pairs)
        # The first launch copies the features that have no pair.
        copies = not in_place and not found
        before, skipped, after = (start, end - start, shape[-1] - end) if copies else (0, 0, 0)
        per_column = 2 if interleaved else 1  # features of a vector for each column of the tables
        features = (first, n_pairs * per_column, skipped, after)
        width = _vector_width(layouts, axes, per_column, features, column)
        pairs = max(1, width // per_column)
        groups = n_pairs // pairs
        items = groups + (before + after) // width
        threads = items * math.prod(n for n, _ in axes)
        numbers = [threads, items, groups, before, skipped, first, second, column, int(inverse)]
        numbers += [n for n, _ in axes[1:]]
        for array, layout in enumerate(layouts):
            numbers += [*(steps[array] for _, steps in axes), layout.strides[-1]]
        if max(map(abs, numbers)) >= 2**31:
            return None
        variant = Variant(dtype, table_dtype, interleaved, pairs, width)
        found.append(Launch(variant, -(-threads // BLOCK), tuple(numbers)))
    return tuple(found)


def _merge_axes(
    rows: tuple[int, ...], layouts: tuple[Layout, ...]
) -> list[tuple[int, tuple[int, ...]]]:
    """Size and strides (of x, out, cos, sin) of each axis of rows; axes that continue each other as one."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(rows):
        if n == 1:
            continue
        steps = tuple(_broadcast_stride(layout, axis - len(rows)) for layout in layouts)
        if axes and axes[-1][1] == tuple(n * step for step in steps):
            axes[-1] = (axes[-1][0] * n, steps)
        else:
            axes.append((n, steps))
    return axes


def _broadcast_stride(layout: Layout, axis: int) -> int:
    """The stride along an axis of rows, counted from the last: 0 where the array has none or one row."""
    *rows, _ = layout.shape
    return layout.strides[axis - 1] if -axis <= len(rows) and rows[axis] > 1 else 0


def _vector_width(
    layouts: tuple[Layout, ...],
    axes: list[tuple[int, tuple[int, ...]]],
    per_column: int,
    features: tuple[int, ...],
    column: int,
) -> int:
    """How many features move at once: all vectors must be adjacent in memory, aligned and complete."""
    if any(layout.strides[-1] != 1 and layout.shape[-1] > 1 for layout in layouts):
        return 1
    width = math.gcd(VECTOR // ITEMSIZE[layouts[0].dtype], *features, per_column * column)
    for array, layout in enumerate(layouts):
        scale = per_column if array >= 2 else 1
        offset = layout.misalignment // ITEMSIZE[layout.dtype]
        width = math.gcd(width, *(scale * steps[array] for _, steps in axes), scale * offset)
    return width
