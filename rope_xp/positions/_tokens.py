"""Positions of tokens: of whole, continued and padded sequences, and of padded grids."""

from __future__ import annotations

from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    as_int_or_traced,
    quote,
    require_integer,
    require_integer_dtype,
    require_positive,
)
from rope_xp.positions._range import (
    as_length,
    bounds,
    count,
    is_static,
    require_finite_in,
    require_fit,
    resolve_dtype,
)


def token_positions(
    n: int,
    *,
    offset: int | Array = 0,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    """Positions ``offset + 0 … n − 1`` of ``n`` tokens after ``offset`` earlier ones.

    Parameters
    ----------
    n : int
        Number of tokens.
    offset : int or integer array, shape () or (batch,)
        Number of earlier tokens; an array of shape (batch,) gives that of each row.
    xp : namespace, optional
        Array library of the result; default: that of ``offset`` if it is an array, else NumPy.
    dtype, device : optional
        Integer dtype and device of the result; default: the library's, or the dtype of an unsigned
        ``offset`` that has larger numbers than that.

    Returns
    -------
    array, shape (n,) or (batch, n)

    Raises
    ------
    ValueError
        If ``n`` is negative or more than memory can hold, ``offset`` has more than one axis, or the
        dtype of the result does not hold the positions. The values of an array ``offset`` are looked
        at where they are at hand, in eager arrays on the CPU; elsewhere they are trusted.
    TypeError
        If ``n`` or ``offset`` is not an integer, ``dtype`` is not an integer dtype or one that the
        library has switched off, or ``offset`` is an array of another library than ``xp``.

    Examples
    --------
    >>> import numpy as np
    >>> token_positions(3, offset=7)
    array([7, 8, 9])
    >>> token_positions(2, offset=np.asarray([0, 5]))
    array([[0, 1],
           [5, 6]])
    """
    return positions_after("offset", offset, n, xp=xp, dtype=dtype, device=device)


def positions_after(
    name: str,
    offset: int | Array,
    n: int,
    *,
    xp: Namespace | None,
    dtype: Dtype | None,
    device: Device | None,
) -> Array:
    """`token_positions` after an ``offset`` that the caller of this package knows by another name."""
    n = as_length("n", n)
    require_integer_dtype(dtype)
    if _backends.is_host_array(offset):
        offset = _backends.host_array(name, offset)
        if xp is not None:
            home = _backends.compat_namespace(xp)
            device = _backends.require_device(home, device)
            like = home.zeros(0, dtype=home.int32, device=device)
            (offset,) = _backends.beside("xp", like, home, **{name: offset})
    offset = as_offset(name, offset)
    if not _backends.is_array(offset):
        xp = _backends.compat_namespace(xp)
        device = _backends.require_device(xp, device)
        made = resolve_dtype(dtype, _backends.default_integer_dtype(xp, device), xp, device)
        _require_counted(name if offset else "n", offset, offset, n, made, default=dtype is None)
        return count(offset, n, xp, made, device)

    found = _backends.namespace(**{name: offset})
    if xp is not None and _backends.compat_namespace(xp) is not found:
        msg = f"`{name}` must be an int or an array of {xp.__name__}, got {found.__name__}"
        raise TypeError(msg)
    here = _backends.device(offset)
    device = _backends.require_device(found, device) if device is not None else here
    if here is not None and device != here:
        msg = f"`device` must be that of `{name}`, {here}, got {device}"
        raise ValueError(msg)
    wide = _backends.default_integer_dtype(found, device)
    large = bounds(offset.dtype)[1] > bounds(wide)[1]
    made = resolve_dtype(dtype, offset.dtype if large else wide, found, device)
    values = _backends.host_values(offset)
    if values is not None and values.size:
        lowest, highest = int(values.min()), int(values.max())
        _require_counted(name, lowest, highest, n, made, default=dtype is None)
    return count_from(offset, n, found, made, device)


def _require_counted(
    name: str, lowest: int, highest: int, n: int, dtype: Dtype, *, default: bool
) -> None:
    """`require_fit` for ``n`` positions from ``lowest`` … ``highest`` on."""
    if not isinstance(highest, int):
        return  # what is traced does not compare
    # A compiled program would depend on a comparison with a traced ``n``, which never is as large as
    # half of what the default dtype holds.
    if not is_static(n) and (default or not isinstance(n, int)):
        n = 1
    require_fit(name, lowest, highest + max(n - 1, 0), dtype, default=default)


def count_from(
    offset: int | Array, n: int, xp: Namespace, dtype: Dtype, device: Device | None
) -> Array:
    """`token_positions` of arguments that have been checked."""
    if not _backends.is_array(offset):
        return count(offset, n, xp, dtype, device)
    if _backends.dtype_name(dtype).startswith("uint"):
        # As signed integers with the same bits, as in `count`.
        signed = _backends.default_integer_dtype(xp, device)
        return _backends.cast(count_from(offset, n, xp, signed, device), dtype, xp)
    steps = xp.arange(n, dtype=dtype, device=device)
    first = _backends.cast(offset[..., None], steps.dtype, xp)  # (1,) or (batch, 1)
    steps = _backends.place("offset", first, (None,), steps=steps)
    return first + steps  # (n,) or (batch, n)


def mask_positions(mask: Array) -> Array:
    """Positions of the tokens in padded rows, with padding anywhere.

    Parameters
    ----------
    mask : bool or integer array, shape (..., seq)
        True or 1 for tokens, False or 0 for padding.

    Returns
    -------
    array, shape (..., seq), the library's default integer dtype
        0, 1, 2, … for the tokens of each row. Padding repeats the position before it (0 at the
        start). It is masked in attention, so its position does not matter.

    Raises
    ------
    TypeError
        If ``mask`` is neither boolean nor integer.
    ValueError
        If it has no axis, or other values than 0 and 1 where they are at hand. Elsewhere, all but 0 is
        a token.

    Notes
    -----
    A count along a sequence that is sharded needs all of it: XLA and PyTorch's DTensor gather the rows,
    and with an explicit mesh axis JAX raises an error. Nothing is sent if the mask is sharded along its
    other axes only, or if the positions are made first and sharded with the tokens.

    Examples
    --------
    >>> import numpy as np
    >>> mask_positions(np.asarray([[0, 0, 1, 1], [1, 1, 1, 0]]))
    array([[0, 0, 0, 1],
           [0, 1, 2, 2]])
    """
    xp, mask = require_mask(mask, 1)
    (seen,) = _running_counts(mask, 1, xp)
    return xp.where(seen > 0, seen - 1, seen)


def mask_grid_positions(
    mask: Array, *, n_axes: int = 2, scale: float | None = None, dtype: Dtype | None = None
) -> Array:
    """Positions on padded grids: patches are counted from 1 along each axis, without padding (DETR).

    Parameters
    ----------
    mask : bool or integer array, shape (..., rows, columns)
        True or 1 for patches, False or 0 for padding.
    n_axes : int
        Number of grid axes, the last ones of ``mask``: 2, or 3 with time.
    scale : float, optional
        The counts along each line are divided by the last of them (plus 1e-6) and multiplied by
        ``scale``, so that all images span the same range: 2π in DETR. Default: plain counts.
    dtype : floating dtype, optional
        Of the result with ``scale``; default: float32.

    Returns
    -------
    array, shape (n_axes, ..., rows, columns)
        The library's default integer dtype, or a floating one with ``scale``. Padding repeats the
        count before it (0 at the start).

    Raises
    ------
    TypeError
        If ``mask`` is neither boolean nor integer, or ``dtype`` is not floating.
    ValueError
        If ``mask`` has fewer axes than the grid, a grid axis of size 0, or other values than 0 and 1
        where they are at hand; if ``n_axes`` is not positive, ``scale`` is not positive and finite or
        beyond ``dtype``, or ``dtype`` is given without ``scale``.

    Notes
    -----
    Source: Carion et al. 2020, arXiv:2005.12872; compared with transformers 5.24.0.
    `rope_xp.sinusoidal` turns these positions into encodings (..., rows, columns, dim), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> mask_grid_positions(np.asarray([[1, 1, 0], [1, 1, 0]]))
    array([[[1, 1, 0],
            [2, 2, 0]],
    <BLANKLINE>
           [[1, 2, 2],
            [1, 2, 2]]])
    """
    n_axes = as_int("n_axes", n_axes)
    if n_axes <= 0:
        msg = f"`n_axes` must be positive, got {quote(n_axes)}"
        raise ValueError(msg)
    xp, mask = require_mask(mask, n_axes)
    if 0 in mask.shape[-n_axes:]:
        msg = f"`mask` must have no grid axis of size 0, got {tuple(mask.shape)}"
        raise ValueError(msg)
    counts = _running_counts(mask, n_axes, xp)
    if scale is None:
        if dtype is not None:
            msg = f"`dtype` must be None without `scale`, where positions are integers, got {dtype}"
            raise ValueError(msg)
        return xp.stack(counts, axis=0)
    require_positive("scale", scale)
    dtype = resolve_dtype(dtype, xp.float32, xp, _backends.device(mask))
    _backends.require_dtype("dtype", dtype)
    require_finite_in("scale", float(scale), dtype)
    compute = _backends.compute_dtype(xp, dtype=dtype)
    counts = [_backends.cast(count, compute, xp) for count in counts]
    lasts = [
        count[(..., slice(-1, None), *(slice(None),) * after)]
        for after, count in zip(reversed(range(n_axes)), counts, strict=True)
    ]
    spans = [
        count / (last + 1e-6) * float(scale) for count, last in zip(counts, lasts, strict=True)
    ]
    return _backends.cast(xp.stack(spans, axis=0), dtype, xp)


def require_mask(mask: Array, n_axes: int) -> tuple[Namespace, Array]:
    """The namespace and the array of ``mask``: boolean or integer, with ``n_axes`` axes at least."""
    xp, mask = _backends.join(mask=mask)
    if not (_backends.is_integer(mask) or _backends.is_boolean(mask)):
        msg = f"`mask` must be boolean or integer, got {_backends.dtype_name(mask.dtype)}"
        raise TypeError(msg)
    if mask.ndim < n_axes:
        wanted = "(..., seq)" if n_axes == 1 else f"(..., *grid) with n_axes={n_axes} grid axes"
        msg = f"`mask` must have shape {wanted}, got {tuple(mask.shape)}"
        raise ValueError(msg)
    values = None if _backends.is_boolean(mask) else _backends.host_values(mask)
    if values is not None and values.size:
        for value in (values.min(), values.max()):
            if value not in (0, 1):
                msg = f"`mask` must be 1 for tokens and 0 for padding, got {value}"
                raise ValueError(msg)
    return xp, mask


def _running_counts(mask: Array, n_axes: int, xp: Namespace) -> list[Array]:
    """How many tokens ``mask`` has up to each place, along each of its last ``n_axes`` axes."""
    integer = _backends.default_integer_dtype(xp, _backends.device(mask))
    ones = xp.astype(_backends.cast(mask, xp.bool, xp), integer)
    return [_backends.cumulative_sum(ones, integer, xp, axis) for axis in range(-n_axes, 0)]


def as_offset(name: str, offset: int | Array) -> Any:
    """``offset`` as an int, or unchanged if it is an integer array of shape () or (batch,)."""
    if isinstance(offset, np.ndarray) and offset.ndim == 0:
        offset = offset[()]  # NumPy's 0-d arrays count as integers beside arrays of any library
    if not _backends.is_array(offset):
        return as_int_or_traced(name, offset)
    _backends.require_supported(name, offset)
    require_integer(name, offset)
    if offset.ndim > 1:
        msg = f"`{name}` must be an int or have shape () or (batch,), got {tuple(offset.shape)}"
        raise ValueError(msg)
    return offset
