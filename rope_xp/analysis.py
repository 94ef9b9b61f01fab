r"""Analysis of frequencies: wavelengths and turns, bounds on scores, and the context that a base allows.

A score is a sum of one term per pair, :math:`g(q, k, m-n) = \mathrm{Re} \sum_j h_j e^{i(m-n)\theta_j}`
with :math:`h_j = q_j \bar k_j`, where :math:`q_j` is pair j as a complex number. Everything here follows
from that sum, and is computed in real arithmetic. Results are meant for reading, not for training: they
are float64 where the library and the device have it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._exact_phases import require_known_reals
from rope_xp._validation import (
    MAX_LENGTH,
    as_frequencies,
    as_int,
    as_number,
    is_listable,
    quote,
    require_floating_dtype,
    require_real,
)
from rope_xp.layouts._pairs import Layout, pair_slices, require_layout
from rope_xp.phases import cos_sin
from rope_xp.positions._range import bounds
from rope_xp.rotation import turn

__all__ = [
    "abel_bound",
    "advantage",
    "context_bound",
    "decay_bound",
    "score_curve",
    "turns",
    "wavelengths",
]


def wavelengths(inv_freq: Any) -> np.ndarray:
    r"""Positions per turn of each pair, :math:`2\pi / |\theta|`.

    Parameters
    ----------
    inv_freq : sequence of float or NumPy array, shape (n_pairs,) or (n_axes, n_pairs)
        Radians per step, as from ``rope.frequencies().inv_freq``.

    Returns
    -------
    NumPy array of float64, shape of ``inv_freq``
        inf for a pair that does not turn.

    Raises
    ------
    ValueError
        If there are no frequencies, or one is not finite.
    TypeError
        If ``inv_freq`` is neither a sequence nor a NumPy array.

    Notes
    -----
    The longest is :math:`2\pi b^{(d-2)/d}`, which is less than :math:`2\pi b`. Source: Peng et al. 2023,
    arXiv:2309.00071, where wavelengths are denoted :math:`\lambda_d`.
    Book: :eq:`eq-wavelength`.

    Examples
    --------
    >>> wavelengths([1.0, 0.01, 0.0]).round(2)
    array([  6.28, 628.32,    inf])
    """
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(2 * math.pi / np.abs(_as_floats(inv_freq)))


def turns(inv_freq: Any, length: float) -> np.ndarray:
    r"""Number of turns of each pair within ``length`` positions, :math:`L |\theta| / 2\pi`.

    Parameters
    ----------
    inv_freq : sequence of float or NumPy array, shape (n_pairs,) or (n_axes, n_pairs)
        Radians per step.
    length : int or float
        Number of positions, non-negative; for example the context in training.

    Returns
    -------
    NumPy array of float64, shape of ``inv_freq``
        Below 1 for a pair that does not reach all angles within ``length``.

    Raises
    ------
    ValueError
        If ``length`` is negative or not finite, and as `wavelengths`.
    TypeError
        If ``length`` is not a number, and as `wavelengths`.

    Notes
    -----
    Source: Liu et al. 2023, arXiv:2310.05209, where twice the number of pairs that complete a turn is
    called the critical dimension.
    Book: :eq:`eq-turns`.

    Examples
    --------
    >>> turns([1.0, 0.01, 0.0], 1000).round(2)
    array([159.15,   1.59,   0.  ])
    """
    length = as_number("length", length)
    if not 0 <= length <= MAX_LENGTH:
        rule = "non-negative" if length < 0 else "at most 2**63"
        msg = f"`length` must be {rule}, got {quote(length)}"
        raise ValueError(msg)
    return np.asarray(length * np.abs(_as_floats(inv_freq)) / (2 * math.pi))


def decay_bound(distance: Any, inv_freq: Any, *, dtype: Dtype | None = None) -> Array:
    r"""RoFormer's decay curve: the mean of :math:`|S_j|` over j, :math:`S_j = \sum_{i<j} e^{im\theta_i}`.

    Parameters
    ----------
    distance : int, float, sequence, or array, shape (...,)
        :math:`m`: integers or real numbers, with exact phases. For numbers and
        sequences the result is a NumPy array.
    inv_freq : sequence of float or array, shape (n_pairs,)
        Radians per step, in the order of the pairs; see `rope_xp.cos_sin`.
    dtype : floating dtype, optional
        Of the result; default: float64, or float32 where the library or the device has no float64.

    Returns
    -------
    array, shape (...,)
        (n_pairs + 1) / 2 at distance 0. Even in ``distance``.

    Raises
    ------
    ValueError, TypeError
        As `rope_xp.cos_sin`.

    Notes
    -----
    This is one factor of a bound (see `abel_bound`). By itself it bounds no score, and it is not
    monotone. Source: Su et al. 2021, arXiv:2104.09864, section 3.4.3 and figure 2.
    Book: :eq:`eq-decay-bound`.

    Examples
    --------
    >>> decay_bound([0, 1, 2], [math.pi, math.pi])  # 1 and 2; −1 and −2; 1 and 2
    array([1.5, 1.5, 1.5])
    >>> decay_bound([0, 1, 2], [0.0, math.pi]).round(12)
    array([1.5, 0.5, 1.5])
    """
    distance, xp, compute, dtype = _prepare(distance, inv_freq, dtype)
    sums = _partial_sums(*_tables(distance, inv_freq, compute), xp)
    return _backends.cast(xp.mean(sums, axis=-1), dtype, xp)


def abel_bound(
    q: Array, k: Array, distance: Any, inv_freq: Any, layout: Layout, *, dtype: Dtype | None = None
) -> Array:
    r"""RoFormer's upper bound of a score, :math:`\max_j |h_{j+1} - h_j| \cdot \sum_j |S_{j+1}|`.

    Parameters
    ----------
    q, k : array, shape (..., head_dim), floating
        Not rotated; ``head_dim`` is twice the number of frequencies.
    distance : int, float, sequence, or array, shape (...,)
        Position of the query minus that of the key. Broadcasts with the leading axes of ``q`` and
        ``k``.
    inv_freq : sequence of float or array, shape (n_pairs,)
        Radians per step.
    layout : {"half", "interleaved"}
        Pair i is features (i, i + n_pairs), or (2i, 2i + 1).
    dtype : floating dtype, optional
        Of the result; default: float64, or float32 where the library or the device has no float64.

    Returns
    -------
    array, the broadcast shape of ``distance`` and the leading axes of ``q`` and ``k``
        Never below :math:`|\langle R(m) q, R(n) k \rangle|`, up to rounding.

    Raises
    ------
    ValueError
        If ``q`` or ``k`` does not have two features per frequency, ``layout`` is unknown, and as
        `rope_xp.cos_sin`.
    TypeError
        If ``q`` or ``k`` is not floating, or libraries are mixed.

    Notes
    -----
    With :math:`h_n = 0` for n pairs, summation by parts gives
    :math:`\sum_j h_j e^{im\theta_j} = -\sum_j S_{j+1} (h_{j+1} - h_j)`. The bound is smaller than the
    trivial one, :math:`\sum_j |h_j|`, only if h changes slowly from pair to pair; for independent random
    features it is many times larger. Source: Su et al. 2021, arXiv:2104.09864, section 3.4.3.
    Book: :eq:`eq-abel-bound`.

    Examples
    --------
    >>> q = k = np.asarray([1.0, 0.5, 0.0, 0.0])  # h = 1, 1/4
    >>> float(abel_bound(q, k, 0, [1.0, 0.1], "half"))  # 3/4 · (1 + 2)
    2.25
    """
    h, tables, xp, dtype = _prepare_scores(q, k, distance, inv_freq, layout, dtype=dtype)
    real, imaginary = (  # h_{j+1} − h_j, (..., n_pairs)
        xp.concat((part[..., 1:], xp.zeros_like(part[..., :1])), axis=-1) - part for part in h
    )
    largest = xp.max(xp.hypot(real, imaginary), axis=-1)
    total = xp.sum(_partial_sums(*tables, xp), axis=-1)
    return _backends.cast(largest * total, dtype, xp)


def score_curve(
    q: Array, k: Array, distance: Any, inv_freq: Any, layout: Layout, *, dtype: Dtype | None = None
) -> Array:
    r"""The score :math:`\langle R(m) q, R(n) k \rangle` as a function of the distance m − n.

    Parameters
    ----------
    q, k, distance, inv_freq, layout, dtype
        As in `abel_bound`: ``q`` and ``k`` are not rotated, and ``distance`` is query minus key.

    Returns
    -------
    array, the broadcast shape of ``distance`` and the leading axes of ``q`` and ``k``
        :math:`\mathrm{Re} \sum_j h_j e^{i(m-n)\theta_j}`, without the attention and softmax factors.

    Raises
    ------
    ValueError, TypeError
        As `abel_bound`.

    Notes
    -----
    If some features are not rotated, the score is that of the rotated part plus the dot product of the
    others.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.4.3.
    Book: :eq:`eq-pairs-score`.

    Examples
    --------
    >>> q = k = np.asarray([1.0, 0.0])
    >>> score_curve(q, k, [0, 1, 2], [math.pi], "half")
    array([ 1., -1.,  1.])
    """
    h, tables, xp, dtype = _prepare_scores(q, k, distance, inv_freq, layout, dtype=dtype)
    real, _ = turn(*h, *tables)  # (..., n_pairs)
    return _backends.cast(xp.sum(real, axis=-1), dtype, xp)


def advantage(distance: Any, inv_freq: Any, *, dtype: Dtype | None = None) -> Array:
    r"""How much more a similar key scores than a random one: :math:`\sum_i \cos(m\theta_i)`.

    Parameters
    ----------
    distance, inv_freq, dtype
        As in `decay_bound`.

    Returns
    -------
    array, shape (...,)
        In units of twice the variance of a feature; n_pairs at distance 0, its maximum.

    Raises
    ------
    ValueError, TypeError
        As `rope_xp.cos_sin`.

    Notes
    -----
    For a query of independent, identically distributed features, this is the expected score of a key
    that is the query plus noise, minus that of an independent key. Source: Men et al. 2024,
    arXiv:2405.14591, where it is denoted :math:`B_{m,\theta}`.
    Book: :eq:`eq-advantage`.

    Examples
    --------
    >>> advantage([0, 1, 2], [math.pi / 2, 0.0]).round(12)
    array([2., 1., 0.])
    """
    distance, xp, compute, dtype = _prepare(distance, inv_freq, dtype)
    cos, _ = _tables(distance, inv_freq, compute)
    return _backends.cast(xp.sum(cos, axis=-1), dtype, xp)


def context_bound(inv_freq: Any, *, limit: int = 2**20) -> int | None:
    r"""The first distance at which a random key is expected to score more than a similar one.

    Parameters
    ----------
    inv_freq : sequence of float or NumPy array, shape (n_pairs,)
        Radians per step. A pair that does not turn counts as a frequency of 0: append one 0 for every
        two features that are not rotated.
    limit : int
        Only distances below it are searched; at most 2³¹, because the time grows with it. Memory does
        not, because the search goes block by block.

    Returns
    -------
    int or None
        The first m ≥ 1 where `advantage` is negative; None if there is none below ``limit``.

    Raises
    ------
    ValueError
        If ``limit`` is not in [1, 2³¹], and as `wavelengths`.
    TypeError
        If ``limit`` is not an int, and as `wavelengths`.

    Notes
    -----
    According to Men et al. 2024, arXiv:2405.14591, a longer context needs a larger base. However, the
    bound is not monotone in the base, and there is none if half of the features are not rotated.
    A sum that is negative only by rounding, at most 1e-14 per pair, counts as zero.
    Book: :eq:`eq-context-bound`.

    Examples
    --------
    >>> context_bound([10000 ** (-i / 64) for i in range(64)])
    1707
    >>> context_bound([1.0, 0.0]) is None
    True
    """
    limit = as_int("limit", limit)
    if not 1 <= limit <= 2**31:
        msg = f"`limit` must be in [1, 2**31], got {quote(limit)}"
        raise ValueError(msg)
    inv_freq = _as_floats(inv_freq)
    # cos(a + b) = cos a cos b − sin a sin b: a block of distances is one small matrix product.
    width, rows = min(4096, max(64, 2**22 // len(inv_freq))), 64
    cos, sin = _tables(np.arange(width), inv_freq, np.float64)
    columns = np.concatenate((cos, -sin), axis=-1).T  # (2 n_pairs, width)
    slack = 1e-14 * len(inv_freq)
    for start in range(0, limit, rows * width):
        begins = np.arange(start, min(start + rows * width, limit), width)
        block = np.concatenate(_tables(begins, inv_freq, np.float64), axis=-1) @ columns
        negative = np.flatnonzero(block < -slack)
        if negative.size:
            found = start + int(negative[0])
            return found if found < limit else None
    return None


def _tables(distance: Array, inv_freq: Any, dtype: Dtype) -> tuple[Array, Array]:
    """Tables of cos and sin for a distance along one axis."""
    made = _backends.host_array("inv_freq", inv_freq)
    shape = tuple(made.shape) if _backends.is_array(made) else ()
    if len(shape) != 1:
        msg = f"`inv_freq` must have shape (n_pairs,), got {shape}"
        raise ValueError(msg)
    return cos_sin(distance, inv_freq, dtype=dtype)


def _as_floats(inv_freq: Any) -> np.ndarray:
    if not isinstance(inv_freq, list | tuple | np.ndarray):
        msg = f"`inv_freq` must be a list or a NumPy array, got {type(inv_freq).__name__}"
        raise TypeError(msg)
    if _backends.is_array(inv_freq):
        _backends.namespace(inv_freq=inv_freq)
    is_matrix = is_listable(inv_freq) and len(inv_freq) > 0 and all(map(is_listable, inv_freq))
    if is_matrix:
        rows = [as_frequencies(f"inv_freq[{a}]", row) for a, row in enumerate(inv_freq)]
    else:
        rows = [as_frequencies("inv_freq", inv_freq)]
    if not rows[0]:
        msg = f"`inv_freq` must be finite numbers, at least one, got {quote(inv_freq)}"
        raise ValueError(msg)
    if len({*map(len, rows)}) > 1:
        msg = f"`inv_freq` must have rows of one length, got {quote([*map(len, rows)])}"
        raise ValueError(msg)
    return np.asarray(rows if is_matrix else rows[0], dtype=np.float64)


def _prepare(
    distance: Any, inv_freq: Any, dtype: Dtype | None, **others: Array
) -> tuple[Array, Namespace, Dtype, Dtype]:
    """``distance`` as an array, the namespace, and the dtypes of the computation and of the result."""
    if _backends.is_array(inv_freq) and not _backends.is_host_constant(inv_freq):
        others = {**others, "inv_freq": inv_freq}
    xp = _backends.namespace(**others) if others else _backends.compat_namespace(None)
    name, like = next(iter(others.items()), ("", None))
    if not _backends.is_array(distance):
        distance = _as_array(distance, like, xp)
    elif like is None:
        xp = _backends.namespace(distance=distance)
    else:
        (distance,) = _backends.beside(name, like, xp, rounded=True, distance=distance)
    require_real("distance", distance)
    if _backends.is_floating(distance):
        require_known_reals(distance, "distance")
    compute = _backends.widest(distance, xp)
    if dtype is not None:
        require_floating_dtype(dtype, xp, _backends.device(distance))
    return distance, xp, compute, compute if dtype is None else dtype


def _as_array(distance: Any, like: Array | None, xp: Namespace) -> Array:
    """Numbers as an array of the library and on the device of ``like``, or else of NumPy."""
    try:
        values = np.asarray(distance)
    except ValueError:  # rows of several lengths
        values = np.asarray(None)
    if _backends.dtype_name(values.dtype) == "bfloat16":  # not NumPy's own
        values = values.astype(np.float32)
    if values.dtype.kind == "O" and isinstance(distance, int):
        as_number("distance", distance)  # what int64 does not have may be too large for a float
        values = np.asarray(float(distance))
    if values.dtype.kind not in "iuf":
        is_large = values.dtype.kind == "O" and all(isinstance(n, int) for n in values.flat)
        rule = "within [-2**63, 2**64)" if is_large else "integers or real numbers"
        msg = f"`distance` must be {rule}, got {quote(distance)}"
        raise (ValueError if is_large else TypeError)(msg)
    if like is None:
        return values
    device = _backends.device(like)
    if values.dtype.kind == "f":
        return xp.asarray(values.tolist(), dtype=_backends.widest(like, xp), device=device)
    # int32 has the fewest digits; what is beyond int64, or int32 without 64 bits, is unsigned.
    default = _backends.default_integer_dtype(xp, device)
    bits = _backends.dtype_name(default).removeprefix("int")
    dtypes = [xp.int32, default, getattr(xp, f"uint{bits}")]
    first, last = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in dtypes:
        if bounds(dtype)[0] <= first and last <= bounds(dtype)[1]:
            return xp.asarray(values.tolist(), dtype=dtype, device=device)
    msg = f"`distance` must be within one integer dtype of {bits} bits, got {quote(distance)}"
    raise ValueError(msg)


def _prepare_scores(
    q: Array, k: Array, distance: Any, inv_freq: Any, layout: Layout, *, dtype: Dtype | None
) -> tuple[tuple[Array, Array], tuple[Array, Array], Namespace, Dtype]:
    """The real and imaginary parts of h, cos and sin, the namespace, and the dtype of the result."""
    require_layout("layout", layout)
    distance, xp, compute, dtype = _prepare(distance, inv_freq, dtype, q=q, k=k)
    _backends.require_floating(q=q, k=k)
    tables = _tables(distance, inv_freq, compute)  # (..., n_pairs)
    n_pairs = tables[0].shape[-1]
    parts = []
    for name, x in (("q", q), ("k", k)):
        if x.ndim == 0 or x.shape[-1] != 2 * n_pairs:
            msg = (
                f"`{name}` must have shape (..., head_dim={2 * n_pairs}), two features for each of "
                f"{n_pairs} frequencies, got {tuple(x.shape)}"
            )
            raise ValueError(msg)
        for features in pair_slices(layout, 0, n_pairs):
            parts.append(_backends.cast(x[..., features], compute, xp))
    a, b, c, d = parts
    return turn(a, b, c, -d), tables, xp, dtype  # (a, b) times the conjugate of (c, d)


def _partial_sums(cos: Array, sin: Array, xp: Namespace) -> Array:
    """|S_1| … |S_n| for n pairs, shape (..., n_pairs)."""
    real, imaginary = (_backends.cumulative_sum(part, part.dtype, xp) for part in (cos, sin))
    return xp.hypot(real, imaginary)
