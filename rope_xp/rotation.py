r"""Turning the pairs: the one place that has the rotation formula.

A layout says which two features make a pair. Both layouts are slices of the same
array: ``"half"`` pairs feature i with i + n_pairs, ``"interleaved"`` pairs 2i with 2i + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from rope_xp import _backends
from rope_xp._backends import A, Array, Axes, Blocks, Namespace, Operand, Result
from rope_xp._kernels import (
    Operands,
    RotationPlan,
    below_kernel_size,
    evaluate,
    forced_kernel,
    kernels_for,
    rotation_for_small,
    takes_small_arrays,
    write_into,
)
from rope_xp._validation import as_int, is_known, is_listable, quote, require_bool
from rope_xp.layouts._pairs import Layout, pair_slices, require_layout
from rope_xp.positions._alignment import hint_seq_axis

__all__ = ["rotate"]

Shape = tuple[int, ...]


def turn(a: Array, b: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    """The pair (a, b) turned counter-clockwise by the angle of cos and sin."""
    return a * cos - b * sin, a * sin + b * cos


def rotate(
    x: A,
    cos: Array,
    sin: Array,
    *,
    layout: Layout,
    seq_axis: int = -2,
    rotary_start: int = 0,
    inverse: bool = False,
    blocks: tuple[int, ...] | None = None,
    out: A | None = None,
) -> A:
    r"""Rotate feature pairs of ``x`` by the angles of ``cos`` and ``sin``.

    Pair :math:`(a, b)` becomes :math:`(a\cos\phi - b\sin\phi,\ a\sin\phi + b\cos\phi)`.

    Parameters
    ----------
    x : array, shape (..., seq, head_dim), float16, bfloat16, float32 or float64
        Queries or keys.
    cos, sin : array, shape (n_pairs,), (seq, n_pairs), (batch, seq, n_pairs) or as many axes as x
        From `cos_sin`, same library and device as ``x``; beside a DTensor, tables of all tokens, plain or
        as DTensors that are split as ``x`` is or less. Axes are matched by meaning: ``batch`` is the
        first axis of ``x`` and ``seq`` its ``seq_axis``, whatever is between them; a table with as
        many axes as ``x`` broadcasts as arrays do. Never repeated to ``head_dim``; a table
        narrower than ``head_dim // 2`` is a partial rotation.
    layout : {"half", "interleaved"}
        Pair i is features (i, i + n_pairs), or (2i, 2i + 1), counted from ``rotary_start``.
    seq_axis : int
        Axis of ``x`` along which tokens follow each other: -2, or -3 for (batch, seq, heads, head_dim).
    rotary_start : int
        First rotated feature. Features before it and after the last pair are returned unchanged.
    inverse : bool
        Rotate by −θ instead. A factor in the tables is applied again: this is the transpose, and the
        gradient.
    blocks : tuple of int, optional
        Widths of parts of the rotated features that are paired independently; their sum is
        2 · n_pairs. Default: one part.
    out : array, optional
        Where to write, shape and dtype of ``x``; ``out=x`` rotates in place. Not for JAX and Dask;
        for a DTensor, one with its placements.

    Returns
    -------
    array, shape and dtype of ``x``
        Computed in float32 at least, in float64 if ``x`` or the tables are.

    Raises
    ------
    ValueError
        For an unknown ``layout``, tables that are too wide or do not line up with ``x``, an
        impossible ``seq_axis`` or ``rotary_start``, another device, or an ``out`` of another shape.
    TypeError
        If an argument is not a floating array or of another library, or ``out`` is not writable.

    Notes
    -----
    Norms are kept, and scores of two rotated vectors depend on the difference of their angles.
    Under ``jax.jit`` XLA rounds products and sums once where single operations round twice. Of one pair
    :math:`(a, b)` the two results differ by at most :math:`2^{-22} (|a| + |b|)`, and in 16 bits, where
    that moves a number to the other side of a tie, by one more unit of the last place.
    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2, there with cos and sin repeated.
    Book: :eq:`eq-rotation-pair`, :eq:`eq-half`, :eq:`eq-interleaved`.

    Examples
    --------
    >>> import numpy as np
    >>> cos, sin = np.asarray([[0.0]]), np.asarray([[1.0]])  # a quarter turn
    >>> rotate(np.asarray([[1.0, 0.0]]), cos, sin, layout="half")
    array([[0., 1.]])
    """
    plain = out is None or type(out) is type(x)
    plain = plain and (blocks is None or _has_no_equals(blocks))
    xp = _backends.shared_namespace(x, cos, sin) if plain else None
    if xp is not None:
        try:
            plan, index = _known_plan(
                xp,
                x.shape,
                cos.shape,
                sin.shape,
                x.dtype,
                cos.dtype,
                sin.dtype,
                layout,
                seq_axis,
                rotary_start,
                inverse,
                blocks,
            )
        except TypeError:  # a mistake, explained below; or sizes that are traced and have no hash
            xp = None
    if xp is None:
        xp = _backends.namespace(x=x) if out is None else _backends.namespace(x=x, out=out)
        may_stay = _backends.is_lazy(x)
        cos, sin = _backends.beside("x", x, xp, rounded=True, may_stay=may_stay, cos=cos, sin=sin)
        if out is not None:
            _require_out(x, out)
        options = (layout, seq_axis, rotary_start, inverse, blocks)
        plan, index = _plan(xp, _shapes_and_dtypes(x, cos, sin), options)
        parts = _backends.blocks_of(x)
        if parts is not None:
            turn_part = partial(
                rotate,
                layout=layout,
                seq_axis=seq_axis,
                rotary_start=rotary_start,
                inverse=inverse,
                blocks=blocks,
            )
            axes = (*_axes_of(cos.ndim, x.ndim, index), None)
            mapped: A = _rotate_parts(parts, turn_part, x, axes, out=out, cos=cos, sin=sin)
            return mapped
    elif out is not None:
        _backends.namespace(x=x, out=out)
        _require_out(x, out)
    if index is not None:
        cos, sin = cos[index], sin[index]
    # Small results are copied to ``out``: whether it overlaps with what is read takes longer to find out.
    if plan.rotate_small is not None and forced_kernel() is None and (out is None or plan.small):
        rotated: A | None = plan.rotate_small(x, cos, sin)
        if rotated is not None:
            return rotated if out is None else write_into(out, rotated)
    result: A = evaluate(plan, Operands(x, cos, sin, out), xp)
    return result


def _rotate_parts(
    parts: Blocks,
    function: Callable[..., Array],
    x: Array,
    axes: Axes,
    *,
    out: Array | None,
    **tables: Array,
) -> Array:
    """``function(x, cos, sin)`` of each part of ``x``, with tables that have these axes of it."""
    whole = _backends.features_whole("x", x)
    if out is not None and parts.is_split_alike is not None:
        other = _backends.features_whole("out", out)
        if not parts.is_split_alike(whole, other, range(x.ndim - 1)):
            msg = f"`out` must have the placements of `x`, {x.placements}, got {out.placements}"
            raise ValueError(msg)
    operands = [whole]
    for name, table in tables.items():
        operands.append(Operand(name, _backends.place("x", x, axes, **{name: table}), axes))
    (rotated,) = parts.map(function, operands, [Result(x.shape, whole.axes, x.dtype)])
    return rotated if out is None else write_into(out, rotated)


def _shapes_and_dtypes(x: Array, cos: Array, sin: Array) -> tuple[Any, ...]:
    return x.shape, cos.shape, sin.shape, x.dtype, cos.dtype, sin.dtype


def _plan(
    xp: Namespace, arrays: tuple[Any, ...], options: tuple[Any, ...]
) -> tuple[RotationPlan, tuple[slice | None, ...] | None]:
    """The plan, and the index that aligns tables with ``x``: all that shapes and dtypes decide."""
    x_shape, shape, sin_shape, *dtypes = arrays
    layout, seq_axis, rotary_start, inverse, blocks = options
    layout = require_layout("layout", layout)
    inverse = require_bool("inverse", inverse)
    names = {
        _backends.require_dtype(*each) for each in zip(("x", "cos", "sin"), dtypes, strict=True)
    }
    rotary_start = as_int("rotary_start", rotary_start)
    _require_width(x_shape, shape, sin_shape, rotary_start)
    n_pairs = shape[-1]
    if blocks is not None:
        blocks = _require_blocks(blocks, n_pairs)
    if blocks is None or layout == "interleaved":
        blocks = (2 * n_pairs,)  # interleaved pairs are the same whatever the blocks
    parts, start, column = [], rotary_start, 0
    for width in blocks:
        n = width // 2
        parts.append((*pair_slices(layout, start, n), slice(column, column + n)))
        start, column = start + width, column + n
    compute = xp.float64 if "float64" in names else xp.float32
    same = all(dtype == compute for dtype in dtypes)
    plan = RotationPlan(
        turn,
        tuple(parts),
        start=rotary_start,
        end=start,
        interleaved=layout == "interleaved",
        inverse=inverse,
        compute=dtypes[0] if same else compute,
        needs_cast=not same,
        kernels=kernels_for(xp),
    )
    return plan, _line_up(shape, x_shape, seq_axis)


# Typed: 1 == 1.0 == True, and only one of them is an int.
@lru_cache(maxsize=1024, typed=True)
def _known_plan(xp: Namespace, *arrays_and_options: Any) -> Any:
    """Memoized, keyed on all that it depends on: a decode step is as short as finding it out."""
    arrays, options = arrays_and_options[:6], arrays_and_options[6:]
    plan, index = _plan(xp, arrays, options)
    shape = arrays[0]
    small = below_kernel_size(shape) and not takes_small_arrays(xp)
    rotate_small = rotation_for_small(plan, shape, xp)
    return plan._replace(size=math.prod(shape), small=small, rotate_small=rotate_small), index


def _has_no_equals(blocks: Any) -> bool:
    """Whether no widths of other types are equal to these."""
    return type(blocks) is tuple and {*map(type, blocks)} == {int}


def _line_up(shape: Shape, x_shape: Shape, seq_axis: int) -> tuple[slice | None, ...] | None:
    """The index that gives tables an axis of size 1 for each axis that only ``x`` has.

    None if they broadcast as they are.
    """
    seq_axis = resolve_seq_axis("x", x_shape, seq_axis)
    ndim = len(x_shape)
    known = {1: [], 2: [seq_axis], 3: [0, seq_axis]}.get(len(shape))  # axes of x but the last
    if len(shape) == ndim:
        known = list(range(ndim - 1))
    elif known is None or len(shape) > ndim or len(set(known)) < len(known):
        msg = (
            f"`cos` must have shape (seq, n_pairs), (batch, seq, n_pairs) or as many axes as `x`, "
            f"got {tuple(shape)} for `x` of shape {tuple(x_shape)} with seq_axis={seq_axis}"
        )
        raise ValueError(msg)
    for axis, size in zip(known, shape, strict=False):
        wanted = x_shape[axis]
        if size not in (1, wanted) and is_known(size) and is_known(wanted):
            msg = (
                f"`cos` must line up with `x` of shape {tuple(x_shape)}: along axis {axis} of `x` "
                f"it must have size {'1' if wanted == 1 else f'{wanted} or 1'}, got {size}"
            )
            if axis == seq_axis and len(shape) < ndim:
                msg += hint_seq_axis("x", x_shape, axis, size)
            raise ValueError(msg)
    if not known or known[0] == ndim - len(shape):
        return None
    return (*(slice(None) if i in known else None for i in range(ndim - 1)), slice(None))


def _axes_of(ndim: int, x_ndim: int, index: tuple[slice | None, ...] | None) -> Axes:
    """The axes of ``x`` that tables with ``ndim`` axes have before their last, by what aligns them."""
    if index is None:
        return tuple(range(x_ndim - ndim, x_ndim - 1))
    return tuple(axis for axis, part in enumerate(index[:-1]) if part is not None)


def require_width(name: str, table: Array, n_pairs: int, head_dim: int) -> None:
    """ValueError unless a table has n_pairs columns, TypeError if it has no shape at all."""
    try:
        fits = not _backends.is_array(table) or table.shape[-1:] == (n_pairs,)
    except Exception:  # noqa: BLE001 - nested tensors and others have none
        fits = False
    if not fits:
        _backends.namespace(**{name: table})  # says so
        msg = (
            f"`{name}` must have width n_pairs={n_pairs} for head_dim={head_dim}, "
            f"got {table.shape[-1] if table.ndim else 'a scalar'}; "
            f"tables are not repeated to head_dim here"
        )
        raise ValueError(msg)


def resolve_seq_axis(name: str, shape: Shape, seq_axis: int) -> int:
    """``seq_axis`` counted from the front; ValueError if there is no such axis before the last."""
    axis: int = as_int("seq_axis", seq_axis)
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis < len(shape) - 1:
        msg = (
            f"`seq_axis` must be an axis of `{name}` other than its last, got {quote(seq_axis)} for shape "
            f"{tuple(shape)}"
        )
        raise ValueError(msg)
    return axis


def _require_width(x_shape: Shape, shape: Shape, sin_shape: Shape, rotary_start: int) -> None:
    if len(x_shape) < 2 or len(shape) == 0:
        msg = (
            f"`x` must have shape (..., seq, head_dim) and `cos` (..., seq, n_pairs), "
            f"got {tuple(x_shape)} and {tuple(shape)}"
        )
        raise ValueError(msg)
    if tuple(shape) != tuple(sin_shape) and all(map(is_known, (*shape, *sin_shape))):
        msg = f"`sin` must have the shape of `cos` {tuple(shape)}, got {tuple(sin_shape)}"
        raise ValueError(msg)
    head_dim, n_pairs = x_shape[-1], shape[-1]
    if not 0 <= rotary_start < head_dim:
        msg = f"`rotary_start` must be in [0, head_dim={head_dim}), got {quote(rotary_start)}"
        raise ValueError(msg)
    most = (head_dim - rotary_start) // 2
    if not 0 < n_pairs <= most:
        start = f" from rotary_start={rotary_start} on" if rotary_start else ""
        msg = (
            f"`cos` must have width n_pairs={most} for head_dim={head_dim}{start}, got {n_pairs}; "
            f"tables are not repeated to head_dim here, narrower ones turn fewer pairs"
        )
        raise ValueError(msg)


def _require_blocks(blocks: tuple[int, ...], n_pairs: int) -> tuple[int, ...]:
    if not is_listable(blocks):
        msg = f"`blocks` must be a sequence of int, got {quote(blocks)}"
        raise TypeError(msg)
    blocks = tuple(as_int("blocks", width) for width in blocks)
    if any(width <= 0 or width % 2 for width in blocks) or sum(blocks) != 2 * n_pairs:
        rule = f"even, positive, and sum to 2 n_pairs={2 * n_pairs}"
        msg = f"`blocks` must be {rule}, got {quote(blocks)}"
        raise ValueError(msg)
    return blocks


def _require_out(x: Array, out: Array) -> None:
    if not _backends.is_writable(out):
        msg = f"`out` must be writable, got {_backends.describe(out)}"
        raise TypeError(msg)
    if tuple(out.shape) != tuple(x.shape) or out.dtype != x.dtype:
        msg = (
            f"`out` must have the shape and dtype of `x`, {tuple(x.shape)} {x.dtype}, "
            f"got {tuple(out.shape)} {out.dtype}"
        )
        raise ValueError(msg)
    if _backends.has_internal_overlap(out):
        strides = _backends.strides(out)
        view = "broadcast view" if 0 in strides else f"view with strides {strides}"
        msg = f"`out` must not have overlapping elements, got a {view} of shape {tuple(out.shape)}"
        raise ValueError(msg)
