"""Positions times frequencies, as cos and sin. The only module that decides precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._exact_phases import Constants, digit_tables, exact_cos_sin
from rope_xp._validation import as_int, require_number, require_one_of, require_positive

__all__ = ["cos_sin", "xpos_scale"]

PRECISIONS = ("exact", "float32")


def cos_sin(
    positions: Array,
    inv_freq: Any,
    *,
    dtype: Dtype | None = None,
    precision: str = "exact",
    attention_factor: float = 1.0,
) -> tuple[Array, Array]:
    r"""Cosine and sine of positions times frequencies: make once, use in every layer.

    Parameters
    ----------
    positions : array, shape (...,), or (n_axes, ...) with several axes; integer or real floating
        Integers in [−2³¹, 2³¹), or real numbers.
    inv_freq : sequence of float or array, shape (n_pairs,) or (n_axes, n_pairs)
        Radians per step. Python or NumPy floats are exact constants; an array of the positions'
        library is data, to which gradients flow (learned frequencies). A NumPy array is taken as
        floats whatever the library. With several axes the angle is the sum over them; an array
        may then be (n_axes, ..., 1, n_pairs), where ``...`` broadcasts with the positions':
        (n_axes, heads, 1, n_pairs) gives every head its own, (heads, seq, n_pairs). To `rotate`,
        three axes are (batch, seq, n_pairs): hand it ``cos[None, ...]``.
    dtype : floating dtype, optional
        Of the result; default float64 if ``positions`` are float64, else float32.
    precision : {"exact", "float32"}
        ``"exact"``: integer positions and float frequencies give the cos and sin of the angle as a
        product of real numbers, within 1e-7 in float32 and 1e-15 in float64 at every position.
        ``"float32"``: float32(position) · float32(inv_freq), rounded, is the angle. That is what
        transformers and most trained models compute; it is off by 0.004 at position 131,072.
        Real positions and learned frequencies have rounded products either way.
    attention_factor : float
        Multiplies both results.

    Returns
    -------
    cos, sin : array, shape (..., n_pairs)

    Raises
    ------
    TypeError
        If ``positions`` are neither integer nor floating, ``dtype`` is not floating, or
        ``inv_freq`` comes from another library than ``positions``.
    ValueError
        If ``inv_freq`` has no axis or does not fit the positions, is not finite, or is on another
        device; if ``precision`` is unknown.

    Notes
    -----
    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2.
    Book: :eq:`eq-angle-error`, :eq:`eq-exact-phase`, :eq:`eq-angle-matrix`.

    Examples
    --------
    >>> cos, sin = cos_sin(np.asarray([1, 3]), [math.pi / 8])
    >>> bool(abs(cos[0, 0] * sin[1, 0] - sin[0, 0] * cos[1, 0] - 2**-0.5) < 1e-7)
    True
    """
    require_precision(precision)
    xp = _backends.namespace(positions=positions)
    dtype = _result_dtype(positions, dtype, xp)
    constant = isinstance(inv_freq, list | tuple | np.ndarray)
    if isinstance(inv_freq, np.ndarray) and inv_freq.ndim > 2:
        constant = False  # directions of every head
    if constant:
        rows = _as_rows(inv_freq)
        shape: tuple[int, ...] = (
            (len(rows), len(rows[0])) if _is_matrix(inv_freq) else (len(rows[0]),)
        )
    else:
        _backends.namespace(positions=positions, inv_freq=inv_freq)
        _backends.require_floating(inv_freq=inv_freq)
        shape = tuple(inv_freq.shape)
    _require_axes(shape, positions)

    known = [positions.dtype, dtype] if constant else [positions.dtype, dtype, inv_freq.dtype]
    wide = precision == "exact" and "float64" in map(_backends.dtype_name, known)
    compute = xp.float64 if wide else xp.float32

    def finished(cos: Array, sin: Array) -> tuple[Array, Array]:
        if attention_factor != 1.0:
            cos, sin = cos * attention_factor, sin * attention_factor
        return _backends.cast(cos, dtype, xp), _backends.cast(sin, dtype, xp)

    if not constant:
        angles = _learned(positions, inv_freq, compute, xp)
        return finished(xp.cos(angles), xp.sin(angles))

    def constants(values: Any, dtype: Dtype) -> Array:
        return xp.asarray(values, dtype=dtype, device=_backends.device(positions))

    exact = precision == "exact" and _backends.is_integer(positions)
    form, tables = (exact_cos_sin, digit_tables) if exact else (_rounded, _rounded_table)
    terms = [
        (axes and constants(axes, xp.int32), tables(frequencies, constants, compute, xp))
        for axes, frequencies in _terms(rows, several=len(shape) > 1)
    ]

    def at(positions: Array) -> tuple[Array, Array]:
        driven = [(_driving(positions, axes, xp), table) for axes, table in terms]
        return finished(*form(driven, compute, xp))

    seq = positions.shape[len(shape) - 1 :]
    at_once = _backends.cache_block_bytes(positions) // (8 if wide else 4) // shape[-1]
    if not 0 < at_once < math.prod(seq):
        return at(positions)
    whole = ((*seq, shape[-1]), dtype, _backends.device(positions))
    return _in_blocks(at, positions, at_once, whole, xp)


def xpos_scale(
    positions: Array,
    n_pairs: int,
    *,
    scale_base: float = 512.0,
    center: float = 0,
    dtype: Dtype | None = None,
) -> Array:
    r"""xPos: multipliers :math:`\zeta_i^{(m - c)/b}` that make scores fade with distance.

    Tables for queries times the multipliers, and tables for keys over them, give scores that carry
    :math:`\zeta_i^{(m - n)/b}`, with :math:`\zeta_i = (i/n + 0.4) / 1.4 < 1` for n pairs: fast
    pairs, the first ones, fade first. It is for causal attention, where m ≥ n.

    Parameters
    ----------
    positions : array, shape (...,); integer or real floating
        As in `cos_sin`, integers within 2³¹ of ``center``.
    n_pairs : int
        Number of pairs, as the tables have.
    scale_base : float
        Positions after which a pair has faded to its :math:`\zeta_i`.
    center : int or float
        Position with multiplier 1. Scores do not depend on it; queries and keys must share it. One
        near the middle keeps the multipliers small: in float32 those for keys overflow 36,000
        positions after it.
    dtype : floating dtype, optional
        Of the result; default float64 if ``positions`` are float64, else float32.

    Returns
    -------
    array, shape (..., n_pairs)

    Raises
    ------
    TypeError
        If ``positions`` are neither integer nor floating, ``dtype`` is not floating, ``n_pairs`` no
        int, or ``scale_base`` or ``center`` no number.
    ValueError
        If ``n_pairs`` or ``scale_base`` is not positive.

    Notes
    -----
    Source: Sun et al. 2022, arXiv:2212.10554, section 2.2; compared with rotary-embedding-torch 0.9.1,
    whose center is ``seq // 2``.

    Examples
    --------
    >>> at = np.arange(3)
    >>> cos, sin = cos_sin(at, [1.0, 0.1])
    >>> scale = xpos_scale(at, 2)
    >>> for_queries, for_keys = (cos * scale, sin * scale), (cos / scale, sin / scale)
    >>> xpos_scale(np.asarray([0, 512]), 2).round(3)
    array([[1.   , 1.   ],
           [0.286, 0.643]], dtype=float32)
    """
    xp = _backends.namespace(positions=positions)
    dtype = _result_dtype(positions, dtype, xp)
    n_pairs = as_int("n_pairs", n_pairs)
    if n_pairs <= 0:
        msg = f"`n_pairs` must be positive, got {n_pairs}"
        raise ValueError(msg)
    require_positive("scale_base", scale_base)
    require_number("center", center)
    names = {_backends.dtype_name(d) for d in (positions.dtype, dtype)}
    compute = xp.float64 if "float64" in names else xp.float32
    fading = [math.log((i / n_pairs + 0.4) / 1.4) / scale_base for i in range(n_pairs)]
    row = xp.asarray(fading, dtype=compute, device=_backends.device(positions))
    if _backends.is_integer(positions) and isinstance(center, int):
        steps = _backends.cast(positions, xp.int32, xp) - center  # exact however far out
    else:
        steps = _backends.cast(positions, compute, xp) - float(center)
    power = _backends.cast(steps, compute, xp)[..., None]
    return _backends.cast(xp.exp(power * row), dtype, xp)


def _result_dtype(positions: Array, dtype: Dtype | None, xp: Namespace) -> Dtype:
    """``dtype``, or the default; TypeError unless positions are numbers and ``dtype`` is floating."""
    if not (_backends.is_integer(positions) or _backends.is_floating(positions)):
        found = _backends.dtype_name(positions.dtype)
        msg = f"`positions` must be integer or real floating, got {found}"
        raise TypeError(msg)
    if dtype is not None:
        _backends.require_dtype("dtype", dtype)
        return dtype
    return xp.float64 if _backends.dtype_name(positions.dtype) == "float64" else xp.float32


def _in_blocks(
    at: Callable[[Array], tuple[Array, Array]],
    positions: Array,
    at_once: int,
    whole: tuple[tuple[int, ...], Dtype, Device],
    xp: Namespace,
) -> tuple[Array, Array]:
    """``at(positions)``, so few positions at a time that the cache holds what they need."""
    shape, dtype, device = whole
    n = math.prod(shape[:-1])
    # glibc gives freed memory back to the system, and every block would have it mapped again, until
    # a piece was freed that is as large as all that a block needs.
    xp.empty((16 * at_once, shape[-1]), dtype=dtype, device=device)
    cos, sin = (xp.empty((n, shape[-1]), dtype=dtype, device=device) for _ in range(2))
    flat = xp.reshape(positions, (*positions.shape[: positions.ndim - len(shape) + 1], n))
    for start in range(0, n, at_once):
        block = slice(start, start + at_once)
        cos[block, :], sin[block, :] = at(flat[..., block])
    return xp.reshape(cos, shape), xp.reshape(sin, shape)


def _terms(
    rows: tuple[tuple[float, ...], ...], *, several: bool
) -> list[tuple[list[int] | None, tuple[float, ...]]]:
    """The axis that drives each pair, and the frequencies, (n_pairs,), whose products are summed.

    Most schemes have one axis drive each pair: one term, with the position of that axis. Only a
    dense matrix needs as many as there are axes.
    """
    if not several:
        return [(None, rows[0])]
    driving = [[a for a, row in enumerate(rows) if row[i]] or [0] for i in range(len(rows[0]))]
    terms: list[tuple[list[int] | None, tuple[float, ...]]] = []
    for k in range(max(map(len, driving))):
        axes = [axes[k] if k < len(axes) else 0 for axes in driving]
        frequencies = (rows[axes[k]][i] if k < len(axes) else 0.0 for i, axes in enumerate(driving))
        terms.append((axes, tuple(frequencies)))
    return terms


def _driving(positions: Array, axes: Array | None, xp: Namespace) -> Array:
    """The position that each pair turns by, (..., 1) or (..., n_pairs)."""
    if axes is None:
        return positions[..., None]
    last = xp.permute_dims(positions, (*range(1, positions.ndim), 0))  # (..., n_axes)
    return xp.take(last, axes, axis=-1)


def _learned(positions: Array, inv_freq: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Angles of frequencies that are data."""
    positions, inv_freq = (_backends.cast(a, dtype, xp) for a in (positions, inv_freq))
    if inv_freq.ndim == 1:
        return positions[..., None] * inv_freq
    total, *rest = (positions[a, ..., None] * inv_freq[a, ...] for a in range(inv_freq.shape[0]))
    for term in rest:
        total = total + term
    return total


def _rounded_table(
    frequencies: tuple[float, ...], constants: Constants, dtype: Dtype, _: Namespace
) -> Array:
    return constants(frequencies, dtype)


def _rounded(terms: list[tuple[Array, Array]], dtype: Dtype, xp: Namespace) -> tuple[Array, Array]:
    """cos, sin of rounded products. Elementwise: autocast and TF32 would round a matmul more."""
    angles: Any = None
    for position, row in terms:
        product = _backends.cast(position, dtype, xp) * row
        angles = product if angles is None else angles + product
    return xp.cos(angles), xp.sin(angles)


def _is_matrix(inv_freq: Any) -> bool:
    if isinstance(inv_freq, np.ndarray):
        return inv_freq.ndim != 1
    return len(inv_freq) > 0 and isinstance(inv_freq[0], list | tuple | np.ndarray)


def _as_rows(inv_freq: Any) -> tuple[tuple[float, ...], ...]:
    """Frequencies of one axis or of several, a row for each."""
    if isinstance(inv_freq, np.ndarray) and inv_freq.ndim == 0:
        msg = "`inv_freq` must have shape (n_pairs,) or (n_axes, n_pairs), got ()"
        raise ValueError(msg)
    rows = tuple(
        tuple(float(f) for f in row) for row in (inv_freq if _is_matrix(inv_freq) else [inv_freq])
    )
    if not all(map(math.isfinite, (f for row in rows for f in row))) or not rows or not rows[0]:
        msg = f"`inv_freq` must be finite numbers, at least one, got {inv_freq!r}"
        raise ValueError(msg)
    if len({len(row) for row in rows}) > 1:
        msg = f"`inv_freq` must have rows of one length, got {[len(row) for row in rows]}"
        raise ValueError(msg)
    return rows


def _require_axes(shape: tuple[int, ...], positions: Array) -> None:
    if not shape:
        msg = "`inv_freq` must have shape (n_pairs,) or (n_axes, n_pairs), got ()"
        raise ValueError(msg)
    if len(shape) > 1 and (positions.ndim == 0 or positions.shape[0] != shape[0]):
        msg = (
            f"`positions` must have shape (n_axes={shape[0]}, ...) for frequencies of shape {shape}, "
            f"got {tuple(positions.shape)}"
        )
        raise ValueError(msg)
    if len(shape) > 2 and shape[-2] != 1:
        msg = (
            f"`inv_freq` must have size 1 where tokens are, (n_axes, ..., 1, n_pairs), got {shape}"
        )
        raise ValueError(msg)


def require_precision(precision: str) -> None:
    require_one_of("precision", precision, PRECISIONS)
