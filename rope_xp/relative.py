"""Relative position encodings to compare RoPE with: ALiBi, Shaw's, T5's and Transformer-XL's.

They change the scores, whereas RoPE rotates queries and keys. All depend only on key position − query
position. Learned parameters are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    is_listable,
    quote,
    require_bool,
    require_floating_dtype,
    require_integer,
    require_leading_axes,
    require_one_of,
    require_positive,
    require_real,
    to_float32,
)
from rope_xp.positions._difference import (
    are_integers,
    integer_difference,
    real_difference,
    require_positions,
)
from rope_xp.positions._range import as_signed

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "clipped_index",
    "relative_positions",
    "shaw_score",
    "t5_bucket",
    "transformer_xl_score",
]

Form = Literal["distance", "key"]
FORMS = get_args(Form)
BIAS_MAX = 8.0  # what the paper has, and all models but some of MPT's

# From there on float16 has infinity: halfway between its largest number and the next power of two.
FLOAT16_END = 65520.0


def relative_positions(q_positions: Array, k_positions: Array) -> Array:
    """Key position − query position, n − m, of every query and key.

    Parameters
    ----------
    q_positions, k_positions : integer or real array, shape (q_len,), (k_len,) or with (batch,) before
        The integer dtypes may differ, and may be unsigned.

    Returns
    -------
    array, shape (q_len, k_len) or (batch, q_len, k_len)
        In the library's default integer dtype, which has 64 bits where the library has them. If a
        position is real: float64 if one is float64, else float32, rounded once from a difference that
        is computed in float64 where the device has it; NaN for NaN and for infinity − infinity.

    Raises
    ------
    ValueError
        If shapes do not fit, or a difference of integers is beyond the dtype of the result, where
        values are at hand: in eager arrays on the CPU. Elsewhere it is the end of that dtype.
    TypeError
        If positions are neither integer nor real, or libraries are mixed.

    Examples
    --------
    >>> import numpy as np
    >>> relative_positions(np.asarray([1], dtype=np.uint8), np.asarray([0, 1, 2]))
    array([[-1,  0,  1]])
    """
    xp, q_positions, k_positions = _backends.join(q_positions=q_positions, k_positions=k_positions)
    require_positions(q_positions, k_positions)
    if are_integers(q_positions, k_positions):
        return integer_difference(q_positions, k_positions, xp, exact=True)
    dtype = _backends.compute_dtype(xp, q_positions, k_positions)
    return real_difference(q_positions, k_positions, dtype, xp)


def alibi_slopes(
    n_heads: int,
    *,
    bias_max: float = BIAS_MAX,
    heads: range | slice | Sequence[int] | None = None,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    r"""How steeply the bias of each head falls with the distance: :math:`2^{-bk/n}` for head k = 1 … n.

    If n is not a power of two, the first heads have the slopes of the next lower power of two, and
    the rest every other slope of twice that power.

    Parameters
    ----------
    n_heads : int
        Heads of the model, n.
    bias_max : float
        b, MPT's ``alibi_bias_max``: the last of n = 2ᵃ heads has the slope 2⁻ᵇ.
    heads : range, slice or sequence of int, optional
        Which heads the slopes are for, as those of one rank in tensor parallelism; default: all.
    xp, dtype, device : optional
        Array library, dtype and device of the result; default: NumPy and float32.

    Returns
    -------
    array, shape (heads,)
        Computed on the host and rounded once, so the same for every library.

    Raises
    ------
    ValueError
        If ``n_heads`` is not in [1, 65536], ``bias_max`` is not positive, or ``heads`` are not in
        [0, n_heads).
    TypeError
        If ``n_heads`` or one of ``heads`` is not an int, ``bias_max`` is not a number, or ``dtype`` is
        not floating.

    Notes
    -----
    Source: Press et al. 2022, arXiv:2108.12409, section 3, and its code for n that are not powers of
    two. Compared with transformers 5.24.0: BLOOM, Falcon and MPT, whose code takes every other slope of
    the next power of two first, which is the same order. Baichuan-13B and Jina BERT v2 have these
    slopes, too.

    Examples
    --------
    >>> alibi_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ], dtype=float32)
    """
    slopes = _slopes(n_heads, bias_max, heads)
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    dtype = xp.float32 if dtype is None else dtype
    require_floating_dtype(dtype, xp, device)
    return xp.asarray(slopes, dtype=dtype, device=device)


def alibi_bias(
    q_positions: Array,
    k_positions: Array,
    n_heads: int,
    *,
    slopes: Array | Sequence[float] | None = None,
    bias_max: float = BIAS_MAX,
    heads: range | slice | Sequence[int] | None = None,
    form: Form = "distance",
    dtype: Dtype | None = None,
) -> Array:
    r"""Attention with linear biases, :math:`-\text{slope}_h\,|m - n|`, for the ``bias`` of `attention`.

    Parameters
    ----------
    q_positions, k_positions : integer or real array, shape (q_len,), (k_len,) or with (batch,) before
    n_heads : int
        Heads of the model.
    slopes : real array, shape (n_heads,), or sequence of float, optional
        Slopes of your own, which may be learned: they keep their gradient. Default: `alibi_slopes`.
    bias_max, heads
        As in `alibi_slopes`; ``heads`` also choose among ``slopes``.
    form : {"distance", "key"}
        ``"distance"``: as above. ``"key"``: slope · n, as in BLOOM and Falcon. It lacks the query's
        term, to which softmax is invariant. After the softmax the two are therefore equal where
        every later key is hidden, and only there.
    dtype : floating dtype, optional
        Default: float64 if a position is float64, else float32. Computed in float32 at least.

    Returns
    -------
    array, shape (heads, q_len, k_len) or (batch, heads, q_len, k_len)
        With ``form="key"`` the axis of q_len has size 1 and broadcasts. Right to rounding for positions
        of every dtype; NaN where a position is NaN. What is below float16, from −65520 on (a distance
        of 131040 for the steepest of 8 heads), is −∞ there: beside the query's own key, such a key has
        no weight in any dtype.

    Raises
    ------
    ValueError
        As `alibi_slopes`; if ``form`` is unknown, shapes do not fit, ``slopes`` are given together with
        ``bias_max``; or, where values are at hand, if ``slopes`` are not finite, or the bias is above
        float16, where it would be +∞ and make the softmax NaN.
    TypeError
        As `relative_positions` and `alibi_slopes`; or if ``slopes`` are not real.

    Notes
    -----
    Falcon's code rounds the slopes to bfloat16 and scales the bias as it does the scores, so its
    ``slopes`` are those of `alibi_slopes` in bfloat16, divided by :math:`\sqrt{d}`.

    Source: Press et al. 2022, arXiv:2108.12409, section 3. Compared with transformers 5.24.0: MPT
    (distance), BLOOM and Falcon (key).
    Book: :eq:`eq-alibi`.

    Examples
    --------
    >>> import numpy as np
    >>> alibi_bias(np.asarray([2]), np.arange(3), 2)[:, 0]
    array([[-0.125     , -0.0625    ,  0.        ],
           [-0.0078125 , -0.00390625,  0.        ]], dtype=float32)
    """
    require_one_of("form", form, FORMS)
    given = {"q_positions": q_positions, "k_positions": k_positions}
    numbers = _slopes(n_heads, bias_max, heads) if slopes is None else []
    if slopes is None or _backends.is_host_constant(slopes):
        xp, q_positions, k_positions = _backends.join(**given)
    else:
        xp, slopes, q_positions, k_positions = _backends.join(slopes=slopes, **given)
    if slopes is not None:
        (made,) = _backends.beside("q_positions", q_positions, xp, rounded=True, slopes=slopes)
        made = _checked_slopes(made, n_heads, bias_max, heads, xp)
    require_positions(q_positions, k_positions)
    if dtype is None:
        dtype = _backends.compute_dtype(xp, q_positions, k_positions)
    require_floating_dtype(dtype, xp, _backends.device(q_positions))
    compute = _backends.compute_dtype(xp, dtype=dtype)
    if form == "distance":
        # 0 at no distance, not −0.
        along = 0 - xp.abs(real_difference(q_positions, k_positions, compute, xp))
    else:
        along = _backends.cast(k_positions[..., None, :], compute, xp)
    along = along[..., None, :, :]  # (..., 1, q_len or 1, k_len)
    if slopes is None:
        made = xp.asarray(numbers, dtype=compute, device=_backends.device(along))
    bias = _backends.cast(made, compute, xp)[:, None, None] * along
    return bias if dtype == compute else _in_narrow(bias, dtype, form, xp)


def clipped_index(q_positions: Array, k_positions: Array, max_distance: int) -> Array:
    """Row in a table of relative vectors of every query and key: clip(n − m, −K, K) + K, in 0 … 2K.

    Parameters
    ----------
    q_positions, k_positions : integer array, shape (q_len,), (k_len,) or with (batch,) before
    max_distance : int
        K. All larger distances share one vector in each direction.

    Returns
    -------
    array, shape (q_len, k_len) or (batch, q_len, k_len), the library's default integer dtype

    Raises
    ------
    ValueError
        If ``max_distance`` is not in [0, 2³⁰), or shapes do not fit.
    TypeError
        If positions or ``max_distance`` are not integers, or libraries are mixed.

    Notes
    -----
    Source: Shaw et al. 2018, arXiv:1803.02155, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> clipped_index(np.asarray([3]), np.arange(7), 2)
    array([[0, 0, 1, 2, 3, 4, 4]])
    """
    far = as_int("max_distance", max_distance)
    if not 0 <= far < 2**30:
        msg = f"`max_distance` must be in [0, 2**30), got {quote(far)}"
        raise ValueError(msg)
    xp, q_positions, k_positions = _backends.join(q_positions=q_positions, k_positions=k_positions)
    require_integer("q_positions", q_positions)
    require_integer("k_positions", k_positions)
    require_positions(q_positions, k_positions)
    return xp.clip(integer_difference(q_positions, k_positions, xp), -far, far) + far


def shaw_score(q: Array, k: Array, key_table: Array, index: Array) -> Array:
    r"""Scores with a learned vector for each clipped distance, :math:`q_i \cdot (k_j + a_{ij})`.

    Parameters
    ----------
    q, k : array, shape (..., heads, q_len, head_dim) and (..., heads, k_len, head_dim), floating
    key_table : array, shape (2K + 1, head_dim), floating
        The vectors a, which all heads share.
    index : integer array, shape (q_len, k_len), or (batch, q_len, k_len) if q has four axes
        From `clipped_index`: rows of the table. Values that are at hand are checked.

    Returns
    -------
    array, shape (..., heads, q_len, k_len), dtype of ``q``
        Not yet scaled. Computed in float32 at least.

    Raises
    ------
    ValueError
        If shapes do not fit, or an index is at hand that is no row of the table.
    TypeError
        If an array is not floating (``index``: integer), or libraries are mixed.

    Notes
    -----
    A reference implementation, which needs memory for q_len · k_len vectors of head_dim numbers.
    Source: Shaw et al. 2018, arXiv:1803.02155, equation 4.
    Book: :eq:`eq-shaw`.

    Examples
    --------
    >>> import numpy as np
    >>> q, k = np.ones((1, 1, 2)), np.zeros((1, 3, 2))
    >>> index = clipped_index(np.asarray([1]), np.arange(3), 1)
    >>> shaw_score(q, k, np.asarray([[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]]), index)
    array([[[ 3.,  0., 10.]]])
    """
    xp = _backends.namespace(q=q, k=k)
    (key_table,) = _backends.beside("q", q, xp, rounded=True, key_table=key_table)
    (index,) = _backends.beside("q", q, xp, index=index)
    _backends.require_floating(q=q, k=k, key_table=key_table)
    _require_scores(q, k)
    width, lengths = q.shape[-1], (q.shape[-2], k.shape[-2])
    if key_table.ndim != 2 or key_table.shape[1] != width or key_table.shape[0] % 2 == 0:
        msg = f"`key_table` must have shape (2K + 1, {width}), got {tuple(key_table.shape)}"
        raise ValueError(msg)
    require_integer("index", index)
    if not 2 <= index.ndim < q.ndim or tuple(index.shape[-2:]) != lengths:
        msg = f"`index` must have shape (..., q_len, k_len) = (..., {lengths[0]}, {lengths[1]}), "
        msg += f"got {tuple(index.shape)} for `q` of shape {tuple(q.shape)}"
        raise ValueError(msg)
    require_leading_axes("index", index.shape[:-2], q.shape[:-3])
    values = _backends.host_values(index)
    if values is not None and values.size > 0:
        wrong = values[(values < 0) | (values >= key_table.shape[0])]
        if wrong.size > 0:
            msg = f"`index` must be in [0, {key_table.shape[0]}), rows of `key_table`, got {wrong.flat[0]}"
            raise ValueError(msg)
    result, compute = q.dtype, _backends.compute_dtype(xp, q, k, key_table)
    q, k, key_table = (_backends.cast(array, compute, xp) for array in (q, k, key_table))
    if 0 in index.shape:  # Dask cannot flatten it
        return _backends.cast(q @ xp.matrix_transpose(k), result, xp)
    vectors = xp.take(key_table, xp.reshape(index, (-1,)), axis=0)
    vectors = xp.reshape(vectors, (*index.shape, width))  # (..., q_len, k_len, head_dim)
    # One product for each query and all heads: (heads, head_dim) times (head_dim, k_len).
    relative = xp.moveaxis(q, -3, -2) @ xp.matrix_transpose(vectors)
    scores = q @ xp.matrix_transpose(k) + xp.moveaxis(relative, -2, -3)
    return _backends.cast(scores, result, xp)


def t5_bucket(
    relative_position: Array,
    *,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Array:
    """Bucket of T5's learned biases: one distance each for near keys, logarithmically wider for far ones.

    Parameters
    ----------
    relative_position : integer array, any shape
        Key position − query position, from `relative_positions`.
    bidirectional : bool
        Whether half of the buckets are for later keys. Otherwise these share bucket 0 with the key at
        the query's own position.
    num_buckets : int
        Even if ``bidirectional``. Half of the buckets of each direction contain one distance each.
    max_distance : int
        All distances from there on share the last bucket.

    Returns
    -------
    array of the shape and dtype of ``relative_position``, values in [0, num_buckets)
        The same for every library, and equal to what transformers computes in float32 on a CPU.

    Raises
    ------
    ValueError
        If ``num_buckets`` is odd, too small or too large, or ``max_distance`` is not larger than the
        distances that have a bucket of their own.
    TypeError
        If ``relative_position``, ``num_buckets`` or ``max_distance`` is not integer.

    Notes
    -----
    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1, and its code.
    Book: :eq:`eq-t5`.

    Examples
    --------
    >>> import numpy as np
    >>> t5_bucket(np.asarray([-200, -8, -1, 0, 1, 8, 200]))
    array([15,  8,  1,  0, 17, 24, 31])
    """
    xp, relative_position = _backends.join(relative_position=relative_position)
    require_integer("relative_position", relative_position)
    num_buckets, far = as_int("num_buckets", num_buckets), as_int("max_distance", max_distance)
    bidirectional = require_bool("bidirectional", bidirectional)
    least = 4 if bidirectional else 2
    if not least <= num_buckets <= 2**16 or (bidirectional and num_buckets % 2):
        even = "even and " if bidirectional else ""
        msg = f"`num_buckets` must be {even}in [{least}, 65536], got {quote(num_buckets)}"
        raise ValueError(msg)
    if num_buckets - 1 > xp.iinfo(relative_position.dtype).max:
        name = _backends.dtype_name(relative_position.dtype)
        msg = f"`num_buckets` must fit the dtype of `relative_position`, {name}, got {num_buckets}"
        raise ValueError(msg)
    per_direction = num_buckets // 2 if bidirectional else num_buckets
    if not per_direction // 2 < far < 2**31:
        msg = f"`max_distance` must be in ({per_direction // 2}, 2**31), got {quote(far)}"
        raise ValueError(msg)

    # The bucket is a step function of the relative position: where it steps, and its values.
    first = _first_distances(per_direction, far)
    steps = [1 - distance for distance in reversed(first)]
    values = list(range(per_direction))[::-1]
    if bidirectional:
        steps += first
        values += range(per_direction + 1, 2 * per_direction)
    device = _backends.device(relative_position)
    dtype = _backends.default_integer_dtype(xp, device)
    at = xp.reshape(as_signed(relative_position, dtype, xp), (-1,))
    at = xp.clip(at, -far, far)  # also a contiguous copy: torch's searchsorted warns without one
    found = xp.searchsorted(xp.asarray(steps, dtype=dtype, device=device), at, side="right")
    bucket = xp.take(xp.asarray(values, dtype=dtype, device=device), found, axis=0)
    bucket = xp.reshape(bucket, relative_position.shape)
    return _backends.cast(bucket, relative_position.dtype, xp)


def transformer_xl_score(q: Array, k: Array, r: Array, u: Array, v: Array) -> Array:
    r"""Transformer-XL's scores, :math:`(q_i + u) \cdot k_j + (q_i + v) \cdot r_{i-j}`.

    Parameters
    ----------
    q, k : array, shape (..., heads, q_len, head_dim) and (..., heads, k_len, head_dim), floating
        The last query is aligned with the last key, as with a memory.
    r : array, shape (..., rows, head_dim), floating
        A vector for each distance, query position − key position, in descending order from k_len − 1:
        down to 0 (k_len rows, as in the paper; the scores of later keys are then meaningless and must
        be masked), or down to −(q_len − 1) (k_len + q_len − 1 rows). In a model it is the projected
        sinusoidal encoding of the distance, with an axis of heads before the rows.
    u, v : array, shape (heads, head_dim), floating
        Global content and position biases, which are learned.

    Returns
    -------
    array, shape (..., heads, q_len, k_len), dtype of ``q``
        Not yet scaled. Computed in float32 at least.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If an array is not floating, or libraries are mixed.

    Notes
    -----
    Source: Dai et al. 2019, arXiv:1901.02860, section 3.3 and appendix B. XLNet's r begins with one
    more row, for distance k_len, which is never used.
    Book: :eq:`eq-transformer-xl`.

    Examples
    --------
    >>> import numpy as np
    >>> q, k, zero = np.ones((1, 2, 1)), np.zeros((1, 2, 1)), np.zeros((1, 1))
    >>> transformer_xl_score(q, k, np.asarray([[1.0], [0.0], [-1.0]]), zero, zero)  # the distances
    array([[[ 0., -1.],
            [ 1.,  0.]]])
    """
    xp = _backends.namespace(q=q, k=k)
    r, u, v = _backends.beside("q", q, xp, rounded=True, r=r, u=u, v=v)
    _backends.require_floating(q=q, k=k, r=r, u=u, v=v)
    _require_scores(q, k)
    heads, q_len, head_dim = q.shape[-3:]
    for name, array in (("u", u), ("v", v)):
        if tuple(array.shape) != (heads, head_dim):
            wanted = f"(heads, head_dim) = {(heads, head_dim)}"
            msg = f"`{name}` must have shape {wanted}, got {tuple(array.shape)}"
            raise ValueError(msg)
    if not 2 <= r.ndim <= q.ndim or r.shape[-1] != head_dim:
        msg = f"`r` must have shape (..., rows, head_dim={head_dim}), got {tuple(r.shape)}"
        raise ValueError(msg)
    k_len, rows = k.shape[-2], r.shape[-2]
    if rows not in (k_len, k_len + q_len - 1):
        known = f"k_len or k_len + q_len - 1, {k_len} or {k_len + q_len - 1}"
        msg = f"`r` must have a row for each distance, {known}, got {rows}"
        raise ValueError(msg)
    require_leading_axes("r", r.shape[:-2], q.shape[:-2])
    result, compute = q.dtype, _backends.compute_dtype(xp, q, k, r, u, v)
    q, k, r, u, v = (_backends.cast(array, compute, xp) for array in (q, k, r, u, v))
    if isinstance(q_len, int) and q_len == 0:  # rows cannot be one element shorter than no rows
        return _backends.cast(q @ xp.matrix_transpose(k), result, xp)
    content = (q + u[:, None, :]) @ xp.matrix_transpose(k)
    distance = (q + v[:, None, :]) @ xp.matrix_transpose(r)  # (..., q_len, rows)
    return _backends.cast(content + _relative_shift(distance, k_len, xp), result, xp)


def _relative_shift(x: Array, k_len: int, xp: Namespace) -> Array:
    """Columns of distances to columns of keys: ``result[..., i, j] = x[..., i, q_len - 1 - i + j]``.

    Each row starts one column further left than the row above it. That is the same memory read with
    rows that are one element shorter, so nothing is gathered. Missing columns count as zeros.
    """
    *before, q_len, rows = x.shape
    width = k_len + q_len
    pad = xp.zeros((*before, q_len, width - rows), dtype=x.dtype, device=_backends.device(x))
    flat = xp.reshape(xp.concat((x, pad), axis=-1), (*before, q_len * width))
    flat = flat[..., q_len - 1 : q_len * width - 1]
    return xp.reshape(flat, (*before, q_len, width - 1))[..., :k_len]


def _slopes(n_heads: int, bias_max: float, heads: Any) -> list[float]:
    """The slopes of ``heads``, or of all n_heads."""
    n_heads, bias_max = _as_n_heads(n_heads), require_positive("bias_max", bias_max)
    lower = 1 << n_heads.bit_length() - 1  # the next lower power of two
    parts = [k / lower for k in range(1, lower + 1)]
    parts += [(2 * k + 1) / (2 * lower) for k in range(n_heads - lower)]
    slopes = [2.0 ** (-bias_max * part) for part in parts]
    return slopes if heads is None else [slopes[h] for h in _as_heads(heads, n_heads)]


def _as_n_heads(n_heads: Any) -> int:
    made: int = as_int("n_heads", n_heads)
    if not 0 < made <= 2**16:
        msg = f"`n_heads` must be in [1, 65536], got {quote(made)}"
        raise ValueError(msg)
    return made


def _as_heads(heads: Any, n_heads: int) -> list[int]:
    """``heads`` as indices of at least one of n_heads."""
    if isinstance(heads, slice):
        ends = [end for end in (heads.start, heads.stop) if end is not None]
        beyond = any(not -n_heads <= as_int("heads", end) <= n_heads for end in ends)
        chosen: list[int] = [] if beyond else [*range(n_heads)[heads]]
    elif is_listable(heads):
        chosen = [as_int(f"heads[{i}]", head) for i, head in enumerate(heads)]
    else:
        msg = f"`heads` must be a range, a slice or a sequence of int, got {quote(heads)}"
        raise TypeError(msg)
    if not chosen or not all(0 <= head < n_heads for head in chosen):
        msg = f"`heads` must be in [0, n_heads={n_heads}), at least one, got {quote(heads)}"
        raise ValueError(msg)
    return chosen


def _checked_slopes(
    slopes: Array, n_heads: int, bias_max: float, heads: Any, xp: Namespace
) -> Array:
    """The user's slopes, (n_heads,), of ``heads``."""
    require_real("slopes", slopes)
    n_heads = _as_n_heads(n_heads)
    if bias_max != BIAS_MAX:
        msg = f"`bias_max` must be left out where `slopes` are given, got {quote(bias_max)}"
        raise ValueError(msg)
    if tuple(slopes.shape) != (n_heads,):
        msg = f"`slopes` must have shape (n_heads,) = ({n_heads},), got {tuple(slopes.shape)}"
        msg += "" if heads is None else ": `heads` chooses among those of all heads"
        raise ValueError(msg)
    values = _backends.host_values(slopes)
    if values is not None and not (-math.inf < values.min() and values.max() < math.inf):
        msg = f"`slopes` must be finite, got {quote(values)}"
        raise ValueError(msg)
    if heads is None:
        return slopes
    device = _backends.device(slopes)
    dtype = _backends.default_integer_dtype(xp, device)
    chosen = xp.asarray(_as_heads(heads, n_heads), dtype=dtype, device=device)
    return xp.take(slopes, chosen, axis=0)


def _in_narrow(bias: Array, dtype: Dtype, form: Form, xp: Namespace) -> Array:
    """``bias`` rounded to 16 bits; beyond float16 it is −∞, or refused where values are at hand."""
    if _backends.dtype_name(dtype) != "float16":
        return _backends.cast(bias, dtype, xp)
    values = _backends.host_values(bias)
    if values is not None and values.size and values.max() >= FLOAT16_END:
        instead = "float32 or bfloat16" + (", or form='distance'" if form == "key" else "")
        msg = f"`dtype` must hold a bias of {values.max():.6g}, got float16: pass {instead}"
        raise ValueError(msg)
    # As the cast rounds, of which NumPy would warn.
    end = xp.asarray(math.inf, dtype=bias.dtype, device=_backends.device(bias))
    bias = xp.where(bias <= -FLOAT16_END, -end, xp.where(bias >= FLOAT16_END, end, bias))
    return _backends.cast(bias, dtype, xp)


def _first_distances(buckets: int, far: int) -> list[int]:
    """The first distance of each bucket except bucket 0, in one direction.

    On a boundary between buckets, the last bit of a logarithm decides. This function therefore takes
    the same logarithm as transformers, and rounds every operation to float32 as it does. The bucket
    grows with the distance, so bisection finds the boundaries.
    """
    exact = buckets // 2
    r = to_float32
    scale = r(math.log(far / exact))

    def reaches(distance: int, step: int) -> bool:
        ratio = r(math.log(r(r(distance) / exact)))
        return r(r(ratio / scale) * (buckets - exact)) >= step

    first = list(range(1, exact + 1))
    for step in range(1, buckets - exact):
        below, found = first[-1] - 1, far
        while found - below > 1:
            middle = (below + found) // 2
            below, found = (below, middle) if reaches(middle, step) else (middle, found)
        first.append(found)
    return first


def _require_scores(q: Array, k: Array) -> None:
    if q.ndim != k.ndim or q.ndim < 3 or q.shape[-1] != k.shape[-1]:
        msg = (
            f"`q` and `k` must have shape (..., heads, seq, head_dim) with the same head_dim, "
            f"got {tuple(q.shape)}, {tuple(k.shape)}"
        )
        raise ValueError(msg)
    require_leading_axes("k", k.shape[:-2], q.shape[:-2])
