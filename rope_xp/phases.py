"""Positions times frequencies, as cos and sin. The only module that decides precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace, Operand, Result
from rope_xp._exact_phases import (
    Constants,
    digit_exponents,
    digit_tables,
    exact_cos_sin,
    require_known_reals,
    split_digits,
    steps_from,
    steps_per_digit,
    units_per_step,
)
from rope_xp._host_phases import FEW, few_cos_sin
from rope_xp._traced_length import AtLength, arrays_at_length
from rope_xp._validation import (
    Precision,
    as_frequencies,
    as_number,
    as_size,
    quote,
    require_attention_factor,
    require_floating_dtype,
    require_positive,
    require_precision,
    require_real,
    to_float32,
)
from rope_xp.axes._base import products
from rope_xp.positions._range import are_few

__all__ = ["cos_sin", "xpos_scale"]

Rows = list[tuple[float, ...]]
Phases = Callable[[list[Array]], tuple[Array, Array]]  # positions per row of frequencies → cos, sin

# Memos of pure functions, keyed on all that they depend on; torch.compile would warn of them.
_known_steps_per_digit = lru_cache(maxsize=256)(steps_per_digit)

_LISTS = (tuple, list, np.ndarray)


def cos_sin(
    positions: Array,
    inv_freq: Any,
    *,
    dtype: Dtype | None = None,
    precision: Precision = "exact",
    attention_factor: float = 1.0,
) -> tuple[Array, Array]:
    r"""Cosine and sine of positions times frequencies: make once, use in every layer.

    Parameters
    ----------
    positions : array, shape (...,), or (n_axes, ...) with several axes; integer or real floating
        Integers of any dtype over its whole range, or real numbers within ±2³¹ (within ±2⁶³ where
        their values are at hand). NaN, infinity and, where no values are at hand, larger real numbers
        give NaN.
    inv_freq : sequence of float or array, shape (n_pairs,) or (n_axes, n_pairs)
        Radians per step. Python or NumPy floats are exact constants; an array of the positions'
        library is data, to which gradients flow (learned frequencies). A NumPy array is taken as
        floats whatever the library. With several axes the angle is the sum over them; an array
        may then be (n_axes, ..., 1, n_pairs), where ``...`` broadcasts with the positions':
        (n_axes, heads, 1, n_pairs) gives every head its own, (heads, seq, n_pairs). `rotate`
        takes three axes for (batch, seq, n_pairs): pass it ``cos[None, ...]``.
    dtype : floating dtype, optional
        Of the result; default float64 if ``positions`` are float64, else float32.
    precision : {"exact", "float32"}
        ``"exact"``: the cos and sin of position times float frequency as a product of real numbers,
        within 1e-7 in float32 and 1e-15 in float64 at every position. The last bit may depend on
        how many positions are asked for at once.
        ``"float32"``: float32(position) · float32(inv_freq), rounded, is the angle. That is what
        transformers and most trained models compute; it is off by 0.004 at position 131,072.
        Learned frequencies have rounded products either way.
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
        device; if ``precision`` is unknown; if real positions are known to be beyond ±2⁶³.

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
    attention_factor = require_attention_factor(attention_factor)
    constant = isinstance(inv_freq, _LISTS)
    if isinstance(inv_freq, np.ndarray):
        _backends.namespace(inv_freq=inv_freq)
        constant = inv_freq.ndim <= 2  # else directions of every head
    if constant:
        xp, positions = _backends.join(positions=positions)
        dtype = result_dtype(positions, dtype, xp)
        one_axis = not _is_matrix(inv_freq)
        rows = _as_rows(inv_freq, one_axis=one_axis)
        if not one_axis:
            _require_axes((len(rows), len(rows[0])), positions)
        return constant_cos_sin(
            positions,
            rows[0] if one_axis else rows,
            dtype=dtype,
            precision=precision,
            attention_factor=attention_factor,
            xp=xp,
        )
    if _backends.is_host_constant(inv_freq):
        xp, positions = _backends.join(positions=positions)
        (inv_freq,) = _backends.beside("positions", positions, xp, rounded=True, inv_freq=inv_freq)
    else:
        xp, positions, inv_freq = _backends.join(positions=positions, inv_freq=inv_freq)
    dtype = result_dtype(positions, dtype, xp)
    _backends.require_one_device("`inv_freq` is learned", positions=positions)
    _backends.require_floating(inv_freq=inv_freq)
    _require_axes(tuple(inv_freq.shape), positions)
    names = map(_backends.dtype_name, (positions.dtype, dtype, inv_freq.dtype))
    wide = precision == "exact" and "float64" in names
    angles = _learned_angles(positions, inv_freq, xp.float64 if wide else xp.float32, xp)
    return _finalize(xp.cos(angles), xp.sin(angles), attention_factor, dtype, xp)


def constant_cos_sin(
    positions: Array,
    inv_freq: Any,
    *,
    dtype: Dtype,
    precision: str,
    attention_factor: float,
    xp: Namespace | None = None,
    few: bool | None = None,
) -> tuple[Array, Array]:
    """`cos_sin` of frequencies that are Python floats, one tuple of them or one per axis.

    The caller has checked everything. ``few`` says whether these are, or are a part of, a few positions;
    None: their number says it.
    """
    xp = _backends.namespace(positions=positions) if xp is None else xp
    at_length = isinstance(inv_freq, AtLength)
    one_axis = at_length or not isinstance(inv_freq[0], tuple)
    n_pairs = inv_freq.n_pairs if at_length else len(inv_freq if one_axis else inv_freq[0])
    seq = positions.shape[0 if one_axis else 1 :]
    exact = precision == "exact"
    # Of ndonnx, sizes that are not known are None.
    tokens = None if any(size is None for size in seq) else math.prod(seq)
    few = are_few(seq, FEW // n_pairs) if few is None else few
    if exact and not at_length and few:
        made = few_cos_sin(positions, inv_freq, dtype, attention_factor, xp)
        if made is not None:
            return made
    blocks = _backends.blocks_of(positions)
    if blocks is not None:
        options: dict[str, Any] = {"precision": precision, "attention_factor": attention_factor}
        make = partial(constant_cos_sin, inv_freq=inv_freq, dtype=dtype, few=few, **options)
        lead = positions.ndim - len(seq)
        axes = (*(None,) * lead, *range(lead, positions.ndim))
        result = Result((*seq, n_pairs), (*axes[lead:], None), dtype)
        cos, sin = blocks.map(make, [Operand("positions", positions, axes)], [result, result])
        return cos, sin
    if exact and _backends.has_no_bits(positions):
        msg = (
            "`precision` must be 'float32' under torch's older ONNX exporter, which has no bitwise "
            "operations on integers, got 'exact'; or export with dynamo=True, or make the tables "
            "with `cos_sin` outside of the model and pass them to `rotate` as inputs"
        )
        raise ValueError(msg)
    wide = exact and _backends.compute_dtype(xp, positions, dtype=dtype) == xp.float64
    compute = xp.float64 if wide else xp.float32
    device = _backends.device(positions)

    def constants(values: Any, dtype: Dtype) -> Array:
        return xp.asarray(values, dtype=dtype, device=device)

    terms = [(None, inv_freq)] if one_axis else products(inv_freq)
    rows = [row for _, row in terms]
    if precision == "exact":
        function = _exact_function(positions, rows, constants, compute, xp)
    else:
        function = _rounded_function(positions, rows, constants, compute, xp)
    axes_per_term = [axes and constants(axes, xp.int32) for axes, _ in terms]

    def compute_at(positions: Array) -> tuple[Array, Array]:
        cos, sin = function([_positions_per_pair(positions, axes, xp) for axes in axes_per_term])
        return _finalize(cos, sin, attention_factor, dtype, xp)

    block = _backends.cache_block_bytes(positions) // (8 if wide else 4) // n_pairs
    if tokens is None or not 0 < block < tokens:
        return compute_at(positions)
    return _in_blocks(compute_at, positions, block, ((*seq, n_pairs), dtype, device), xp)


def cos_sin_beside(
    x: Array, positions: Array, inv_freq: Any, *, dtype: Dtype, xp: Namespace, **options: Any
) -> tuple[Array, Array]:
    """`constant_cos_sin` as arrays beside ``x``, of NumPy's positions, too, whatever ``x`` is."""
    if isinstance(x, np.ndarray) or not isinstance(positions, np.ndarray):
        return constant_cos_sin(positions, inv_freq, dtype=dtype, xp=xp, **options)
    dtype, home = getattr(np, _backends.dtype_name(dtype)), _backends.compat_namespace(None)
    cos, sin = constant_cos_sin(positions, inv_freq, dtype=dtype, xp=home, **options)
    return _backends.from_host(cos, x, xp), _backends.from_host(sin, x, xp)


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
        As in `cos_sin`.
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
    xp, positions = _backends.join(positions=positions)
    dtype = result_dtype(positions, dtype, xp)
    n_pairs = as_size("n_pairs", n_pairs)
    scale_base = require_positive("scale_base", scale_base)
    if scale_base < 2.0**-64:
        msg = f"`scale_base` must be at least 2**-64, got {scale_base}"
        raise ValueError(msg)
    center = as_number("center", center)
    _backends.require_one_device("they are exponents", positions=positions)
    if abs(center) > 2**63:
        msg = f"`center` must be in [-2**63, 2**63], got {quote(center)}"
        raise ValueError(msg)
    names = {_backends.dtype_name(d) for d in (positions.dtype, dtype)}
    compute = xp.float64 if "float64" in names else xp.float32
    fading = [math.log((i / n_pairs + 0.4) / 1.4) / scale_base for i in range(n_pairs)]
    device = _backends.device(positions)
    row = xp.asarray(fading, dtype=compute, device=device)
    _require_near(positions, center, fading[0], dtype)
    # What cancels must be exact, so what is subtracted is a number that the positions' dtype has.
    if _backends.is_integer(positions):
        whole = math.floor(center)
        steps = steps_from(whole, positions, compute, xp)
        rest = float(center - whole)
    else:
        upper = to_float32(float(center))
        steps = _backends.cast(positions, compute, xp) - upper
        rest = float(center - type(center)(upper))
    power = steps[..., None] * row
    if rest:  # not as one more step to subtract: XLA would add the two constants, rounded
        power = power - xp.asarray([rest * f for f in fading], dtype=compute, device=device)
    return _backends.cast(xp.exp(power), dtype, xp)


def _require_near(positions: Array, center: float, steepest: float, dtype: Dtype) -> None:
    """ValueError if a multiplier of positions that are at hand overflows."""
    values = _backends.host_values(positions)
    if values is None or not values.size:
        return
    before = center - float(values.min())  # steps before the center, where multipliers exceed 1
    largest = {"float16": 11.0, "float64": 709.0}.get(_backends.dtype_name(dtype), 88.0)
    if largest < before * -steepest < math.inf:
        msg = (
            f"`center` must be at most {math.floor(largest / -steepest)} after the first position, "
            f"where multipliers overflow, got {quote(center)} with positions from {values.min()} on"
        )
        raise ValueError(msg)


def result_dtype(positions: Array, dtype: Dtype | None, xp: Namespace) -> Dtype:
    """``dtype``, or the default; TypeError unless positions are numbers and ``dtype`` is floating."""
    require_real("positions", positions)
    if dtype is None:
        return _backends.compute_dtype(xp, positions)
    require_floating_dtype(dtype, xp, _backends.device(positions))
    return dtype


def _finalize(
    cos: Array, sin: Array, attention_factor: float, dtype: Dtype, xp: Namespace
) -> tuple[Array, Array]:
    if attention_factor != 1.0:
        cos, sin = cos * attention_factor, sin * attention_factor
    cos, sin = _backends.cast(cos, dtype, xp), _backends.cast(sin, dtype, xp)
    return _backends.materialize_under_compile(cos), _backends.materialize_under_compile(sin)


def _in_blocks(
    compute_at: Callable[[Array], tuple[Array, Array]],
    positions: Array,
    size: int,
    result: tuple[tuple[int, ...], Dtype, Device],
    xp: Namespace,
) -> tuple[Array, Array]:
    """``compute_at(positions)`` for ``size`` positions at a time, so that the cache holds them."""
    shape, dtype, device = result
    n = math.prod(shape[:-1])
    # glibc gives freed memory back to the system, and every block would have it mapped again, until
    # a piece was freed that is as large as all that a block needs.
    xp.empty((16 * size, shape[-1]), dtype=dtype, device=device)
    cos, sin = (xp.empty((n, shape[-1]), dtype=dtype, device=device) for _ in range(2))
    flat = xp.reshape(positions, (*positions.shape[: positions.ndim - len(shape) + 1], n))
    for start in range(0, n, size):
        block = slice(start, start + size)
        cos[block, :], sin[block, :] = compute_at(flat[..., block])
    return xp.reshape(cos, shape), xp.reshape(sin, shape)


def _positions_per_pair(positions: Array, axes: Array | None, xp: Namespace) -> Array:
    """The position that drives each pair, (..., 1) or (..., n_pairs)."""
    if axes is None:
        return positions[..., None]
    last = xp.permute_dims(positions, (*range(1, positions.ndim), 0))  # (..., n_axes)
    return xp.take(last, axes, axis=-1)


def _learned_angles(positions: Array, inv_freq: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Angles of frequencies that are data."""
    positions = _as_factors(positions, dtype, xp)
    inv_freq = _backends.cast(inv_freq, dtype, xp)
    if inv_freq.ndim == 1:
        return positions[..., None] * inv_freq
    total, *rest = (positions[a, ..., None] * inv_freq[a, ...] for a in range(inv_freq.shape[0]))
    for term in rest:
        total = total + term
    return total


def _exact_function(
    positions: Array, rows: Rows, constants: Constants, dtype: Dtype, xp: Namespace
) -> Phases:
    """cos, sin of exact products, of positions like these, for each row of frequencies."""
    if isinstance(rows[0], AtLength):
        exponents = digit_exponents(positions, 1.0)
        table, unit, _ = arrays_at_length(rows[0], exponents, dtype, positions)
        return _exact_products([table], [unit], exponents, dtype, xp)
    exponents = digit_exponents(positions, max(abs(f) for row in rows for f in row))
    steps = steps_per_digit if _backends.is_compiling() else _known_steps_per_digit
    tables = [digit_tables(steps(row, exponents), constants, dtype, xp) for row in rows]
    units = [constants(units_per_step(row, exponents[0]), dtype) for row in rows]
    return _exact_products(tables, units, exponents, dtype, xp)


def _exact_products(
    tables: list[list[tuple[Array, ...]]],
    units: list[Array],
    exponents: tuple[int, ...],
    dtype: Dtype,
    xp: Namespace,
) -> Phases:
    def function(per_pair: list[Array]) -> tuple[Array, Array]:
        digits: list[tuple[Array, tuple[Array, ...]]] = []
        remainders: list[tuple[Array, Array]] = []
        for position, table, unit in zip(per_pair, tables, units, strict=True):
            split, left = split_digits(position, exponents, xp)
            digits += zip(split, table, strict=True)
            if left is not None:
                remainders.append((left, unit))
        return exact_cos_sin(digits, remainders, dtype, xp)

    return function


def _as_factors(positions: Array, dtype: Dtype, xp: Namespace) -> Array:
    """Positions in a floating dtype, to be multiplied: NaN where they are infinite."""
    if _backends.is_floating(positions):
        require_known_reals(positions)
        nothing = xp.full_like(positions, math.nan)
        positions = xp.where(xp.isfinite(positions), positions, nothing)
    return _backends.cast(positions, dtype, xp)


def _rounded_function(
    positions: Array, rows: Rows, constants: Constants, dtype: Dtype, xp: Namespace
) -> Phases:
    """cos, sin of rounded products. Elementwise: autocast and TF32 would round a matmul more."""
    if isinstance(rows[0], AtLength):
        tables = [arrays_at_length(rows[0], (0,), dtype, positions)[-1]]
    else:
        fastest = max(abs(f) for row in rows for f in row)
        if fastest >= 2.0**64:
            msg = f"`inv_freq` must be below 2**64 for precision='float32', got {fastest}"
            raise ValueError(msg)
        tables = [constants(row, dtype) for row in rows]

    def function(per_pair: list[Array]) -> tuple[Array, Array]:
        angles: Any = None
        for position, table in zip(per_pair, tables, strict=True):
            product = _as_factors(position, dtype, xp) * table
            angles = product if angles is None else angles + product
        return xp.cos(angles), xp.sin(angles)

    return function


def _is_matrix(inv_freq: Any) -> bool:
    if isinstance(inv_freq, np.ndarray):
        return inv_freq.ndim != 1
    return len(inv_freq) > 0 and isinstance(inv_freq[0], _LISTS)


def _as_rows(inv_freq: Any, *, one_axis: bool) -> tuple[tuple[float, ...], ...]:
    """Frequencies of one axis or of several, a row for each."""
    if isinstance(inv_freq, np.ndarray) and inv_freq.ndim == 0:
        msg = "`inv_freq` must have shape (n_pairs,) or (n_axes, n_pairs), got ()"
        raise ValueError(msg)
    if one_axis:
        row = as_frequencies("inv_freq", inv_freq)
        rows: tuple[tuple[float, ...], ...] = (row,) if row else ()
    else:
        rows = tuple(as_frequencies(f"inv_freq[{a}]", row) for a, row in enumerate(inv_freq))
    if not rows or not rows[0]:
        msg = f"`inv_freq` must be finite numbers, at least one, got {quote(inv_freq)}"
        raise ValueError(msg)
    if not one_axis and len({len(row) for row in rows}) > 1:
        msg = f"`inv_freq` must have rows of one length, got {quote([len(row) for row in rows])}"
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
