"""Positions of patches: grids of any number of axes, as the product of their axes.

An axis is a size n, for the coordinates 0 … n − 1, or a sequence of Python numbers, its coordinates. The
functions named ``…_axis`` make such sequences; ``range`` and lists are accepted, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    quote,
    require_bool,
    require_number,
    require_one_of,
    require_positive,
    to_float32,
)
from rope_xp.positions._range import (
    LARGEST,
    MOST_PATCHES,
    as_length,
    count,
    require_finite_in,
    require_fit,
    resolve_dtype,
)

Axis = int | Sequence[int] | Sequence[float]


def grid_positions(
    *shape: Axis,
    indexing: str = "ij",
    offset: float | Sequence[float] = 0,
    merge: int = 1,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Positions of the patches of a grid, row by row, with one coordinate for every axis.

    Parameters
    ----------
    *shape : int, or sequence of numbers
        One for each axis: its size n, for the coordinates 0 … n − 1, or its coordinates.
    indexing : {"ij", "xy"}
        As in ``numpy.meshgrid``. With ``"ij"`` the last axis varies fastest, so the axes of an image
        are (rows, columns). With ``"xy"`` the first two axes are swapped in the order of patches, so
        the axes of an image are (columns, rows), and patches still come row by row.
    offset : number, or one for each axis
        Added to the coordinates (1 in Llama 4's vision tower).
    merge : int
        If larger than 1, patches come in blocks of ``merge`` × ``merge``: block after block, and row by
        row within a block (the order of Qwen-VL's vision towers). Blocks extend over the last two axes
        in the order of patches; earlier axes (time) vary more slowly.
    xp : namespace, optional
        Array library of the result; default: NumPy.
    dtype, device : optional
        Dtype and device of the result. Default dtype: the library's integer dtype if all coordinates
        and offsets are integers, else its real floating dtype: float32 for torch, whatever
        ``torch.set_default_dtype`` says. Integer coordinates can also be returned as float32 or
        float64.

    Returns
    -------
    array, shape (n_axes, product of the sizes)

    Raises
    ------
    ValueError
        If there is no axis, an axis is empty, the number of offsets is not that of axes, ``merge``
        does not divide both of its axes, a size is more than memory can hold, a coordinate is not
        finite, or the dtype of the result does not hold an integer coordinate.
    TypeError
        If a size is not an int, a coordinate is not a number, or ``dtype`` is an integer dtype for
        real coordinates, or bfloat16 or float16, which skip integers from 257 and 2049 on, or one that
        the library has switched off.

    Notes
    -----
    timm takes the shape as (rows, columns) for either ``grid_indexing``: its ``"xy"`` with shape (h, w)
    is ``grid_positions(w, h, indexing="xy")`` here.

    Examples
    --------
    >>> grid_positions(2, 3)
    array([[0, 0, 0, 1, 1, 1],
           [0, 1, 2, 0, 1, 2]])
    >>> grid_positions(2, centered_axis(3))
    array([[ 0,  0,  0,  1,  1,  1],
           [-2, -1,  0, -2, -1,  0]])
    >>> grid_positions(2, 4, merge=2)[1]
    array([0, 1, 0, 1, 2, 3, 2, 3])
    """
    axes = _axes(shape)
    steps = _offsets(offset, len(axes))
    require_one_of("indexing", indexing, ("ij", "xy"))
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    integral = all(_is_integral(axis) for axis in axes) and all(isinstance(o, int) for o in steps)
    made = _result_dtype(dtype, integral, xp, device)
    lines = [
        _coordinates(
            f"shape[{i}]", axis, step, xp, dtype=made, default=dtype is None, device=device
        )  # (size,)
        for i, (axis, step) in enumerate(zip(axes, steps, strict=True))
    ]
    grid = xp.stack(list(xp.meshgrid(*lines, indexing=indexing)))  # (n_axes, ..., rows, columns)
    if require_merge(merge, grid.shape[1:]) > 1:
        *lead, rows, columns = grid.shape
        n = len(lead)
        grid = xp.reshape(grid, (*lead, rows // merge, merge, columns // merge, merge))
        grid = xp.permute_dims(grid, (*range(n), n, n + 2, n + 1, n + 3))
    return xp.reshape(grid, (len(axes), -1))  # (n_axes, prod(shape))


def centered_axis(n: int, *, symmetric: bool = False) -> tuple[int, ...] | tuple[float, ...]:
    """``n`` coordinates around 0: −⌈n/2⌉ … ⌊n/2⌋ − 1, or if symmetric −(n − 1)/2 … (n − 1)/2.

    Symmetric coordinates are floats, the others integers (diffusers' Qwen-Image with
    ``scale_rope=True``).

    Examples
    --------
    >>> centered_axis(5), centered_axis(2, symmetric=True)
    ((-3, -2, -1, 0, 1), (-0.5, 0.5))
    """
    n = as_length("n", n, least=1, most=MOST_PATCHES)
    if require_bool("symmetric", symmetric):
        return tuple(k - (n - 1) / 2 for k in range(n))
    return tuple(range(n // 2 - n, n // 2))


def normalized_axis(n: int, *, length: float | None = None) -> tuple[float, ...]:
    """Midpoints of ``n`` patches along an axis that spans [−1, 1]: 2 (k + ½) / length − 1.

    ``length`` is ``n`` by default (DINOv3's ``"separate"``). Patches are as high as they are wide if
    both axes have the same ``length``, the longer or the shorter side of the grid (``"max"``,
    ``"min"``).

    Examples
    --------
    >>> normalized_axis(4)
    (-0.75, -0.25, 0.25, 0.75)
    >>> normalized_axis(2, length=4)
    (-0.75, -0.25)
    """
    n = as_length("n", n, least=1, most=MOST_PATCHES)
    length = n if length is None else length
    length = require_positive("length", length)
    return _line("length", length, n, lambda k: (2 * k + 1) / length - 1)


def rescaled_axis(
    n: int, reference: float, *, offset: float = 0, floor: bool = False
) -> tuple[int, ...] | tuple[float, ...]:
    """Coordinates of ``n`` patches over the range of ``reference`` patches: (k + offset) · reference / n.

    A model that was trained on ``reference`` patches then gets no position beyond these (timm's
    ``ref_feat_shape`` and ``grid_offset``). ``floor=True`` rounds down to integers (diffusers'
    CogView4), and requires ``reference`` and ``offset`` to be ints.

    Examples
    --------
    >>> rescaled_axis(4, 2), rescaled_axis(3, 4, floor=True)
    ((0.0, 0.5, 1.0, 1.5), (0, 1, 2))
    """
    n = as_length("n", n, least=1, most=MOST_PATCHES)
    if require_bool("floor", floor):
        reference, offset = as_int("reference", reference), as_int("offset", offset)
    else:
        reference, offset = (
            require_positive("reference", reference),
            require_number("offset", offset),
        )
    require_positive("reference", reference)
    if floor:
        return tuple((k + offset) * reference // n for k in range(n))
    return _line("reference", reference, n, lambda k: (k + offset) * reference / n)


def time_axis(
    n: int, step: float, *, rate: float | None = None, truncate: bool = False
) -> tuple[int, ...] | tuple[float, ...]:
    """Times k · step of ``n`` frames, where ``step`` is the time between two of them.

    For a video, ``step`` is a rate per second divided by the frames per second (Cosmos: 24 / fps).
    ``truncate=True`` rounds ``step`` and the product to float32 and drops the fraction, as Qwen2.5-VL
    does with ``tokens_per_second`` · ``second_per_grid_ts``. With ``rate``, in positions per second,
    ``step`` is in seconds, and k · step · rate is rounded to float32 after each product:
    ``second_per_grids`` and ``position_id_per_seconds`` of Qwen3-Omni, and with ``truncate=True`` of
    Qwen2.5-Omni.

    Examples
    --------
    >>> time_axis(4, 1.5), time_axis(4, 1.5, truncate=True)
    ((0.0, 1.5, 3.0, 4.5), (0, 1, 3, 4))
    >>> time_axis(3, 0.5, rate=13), time_axis(3, 0.5, rate=25, truncate=True)
    ((0.0, 6.5, 13.0), (0, 12, 25))
    """
    n = as_length("n", n, least=1, most=MOST_PATCHES)
    step = require_positive("step", step)
    truncate = require_bool("truncate", truncate)
    if rate is None and not truncate:
        return _line("step", step, n, lambda k: k * float(step))
    per_second = 1.0 if rate is None else require_positive("rate", rate)
    if max(step, per_second, step * per_second) * max(n - 1, 1) > LARGEST["float32"]:
        msg = f"`step` must give coordinates that float32 holds, got {quote(step)}"
        raise ValueError(msg)
    # The product of two float32 is exact in Python, so each rounds once.
    step, per_second = to_float32(step), to_float32(per_second)
    times = tuple(to_float32(to_float32(k * step) * per_second) for k in range(n))
    return tuple(map(int, times)) if truncate else times


def _line(name: str, value: float, n: int, at: Callable[[int], float]) -> tuple[float, ...]:
    """``at(0)`` … ``at(n − 1)``; ValueError if ``value``, the argument ``name``, makes them too large."""
    try:
        line = tuple(at(k) for k in range(n))
        known = math.isfinite(line[0]) and math.isfinite(line[-1])
    except OverflowError:
        known = False
    if not known:
        msg = f"`{name}` must give finite coordinates, got {quote(value)}"
        raise ValueError(msg)
    return line


def _axes(shape: tuple[Any, ...]) -> list[int | tuple[float, ...]]:
    """Every axis as a size or a tuple of Python numbers."""
    if not shape:
        msg = "`shape` must have at least one axis, got ()"
        raise ValueError(msg)
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        # Coordinates of a single axis need no grid, so this is probably a shape that was not unpacked.
        msg = f"`shape` must be sizes one by one, as in grid_positions(2, 3), got {quote(shape[0])}"
        raise TypeError(msg)
    return [as_axis(f"shape[{i}]", axis) for i, axis in enumerate(shape)]


def as_axis(name: str, axis: Any) -> Any:
    """``axis`` as a positive int, or as a tuple of at least one finite int or float."""
    if _backends.is_traced_size(axis):
        return axis
    if not _backends.is_array(axis) and hasattr(type(axis), "__index__"):
        return as_length(name, axis, least=1)
    is_vector = isinstance(axis, np.ndarray) and axis.ndim == 1
    if isinstance(axis, str) or not (is_vector or isinstance(axis, Sequence)):
        what = _backends.describe(axis) if _backends.is_array(axis) else quote(axis)
        msg = f"`{name}` must be a size or a sequence of Python numbers, got {what}"
        raise TypeError(msg)
    values = tuple(axis.tolist() if isinstance(axis, np.ndarray) else axis)
    if not values:
        msg = f"`{name}` must have at least one coordinate, got {quote(axis)}"
        raise ValueError(msg)
    for i, value in enumerate(values):
        require_number(f"{name}[{i}]", value)
    return tuple(map(_as_python, values))


def _is_integral(axis: int | tuple[float, ...]) -> bool:
    return not isinstance(axis, tuple) or all(isinstance(value, int) for value in axis)


def _as_python(value: float) -> float:
    """A Python or NumPy number as an int or a float."""
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _offsets(offset: float | Sequence[float], n_axes: int) -> tuple[float, ...]:
    """``offset`` as one Python number for each axis."""
    per_axis = isinstance(offset, tuple | list)
    offsets: Any = offset if per_axis else (offset,) * n_axes
    if len(offsets) != n_axes:
        msg = f"`offset` must be a number or one for each of {n_axes} axes, got {quote(offset)}"
        raise ValueError(msg)
    for i, value in enumerate(offsets):
        require_number(f"offset[{i}]" if per_axis else "offset", value)
    return tuple(map(_as_python, offsets))


def require_merge(merge: int, sizes: Sequence[int]) -> int:
    """``merge`` as an int; ValueError unless it divides the last two ``sizes`` of a grid."""
    merge = as_length("merge", merge, least=1)
    if merge == 1:
        return merge
    if len(sizes) < 2:
        msg = f"`merge` must be 1 for a grid of one axis, got {quote(merge)}"
        raise ValueError(msg)
    if sizes[-2] % merge or sizes[-1] % merge:
        msg = f"`merge` must divide both sides of the grid {sizes[-2]} x {sizes[-1]}, got {quote(merge)}"
        raise ValueError(msg)
    return merge


def _result_dtype(
    dtype: Dtype | None, integral: bool, xp: Namespace, device: Device | None
) -> Dtype:
    """``dtype``, or the default; TypeError if it does not suit the coordinates."""
    if dtype is None and integral:
        return _backends.default_integer_dtype(xp, device)
    if dtype is None:
        return _backends.default_real_dtype(xp, device)
    name = _backends.dtype_name(resolve_dtype(dtype, dtype, xp, device))
    if name not in ("float32", "float64") and not (integral and name in _backends.INTEGER):
        kinds = "an integer dtype, float32 or float64" if integral else "float32 or float64"
        msg = f"`dtype` must be {kinds} for these coordinates, got {name}"
        raise TypeError(msg)
    return dtype


def _coordinates(
    name: str,
    axis: int | tuple[float, ...],
    step: float,
    xp: Namespace,
    *,
    dtype: Dtype,
    default: bool,
    device: Device | None,
) -> Array:
    """The coordinates of one axis plus ``step``, shape (size,)."""
    if not (isinstance(step, int) and _is_integral(axis)):
        values = axis if isinstance(axis, tuple) else range(axis)
        coordinates = [float(value + step) for value in values]
        require_finite_in(name, max(map(abs, coordinates)), dtype)
        return xp.asarray(coordinates, dtype=dtype, device=device)
    if isinstance(axis, tuple):
        first, last = int(min(axis) + step), int(max(axis) + step)
        require_fit(name, first, last, dtype, default=default)
        return xp.asarray([value + step for value in axis], dtype=dtype, device=device)
    require_fit(name, step, step + axis - 1, dtype, default=default)
    return count(step, axis, xp, dtype, device)
