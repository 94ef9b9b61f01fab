"""The relatives RoPE is compared with: they change scores, where RoPE turns queries and keys.

All depend on key position − query position alone. What a model learns is an argument.
"""

from __future__ import annotations

import math

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, is_known, to_float32
from rope_xp.positions._tokens import require_integer

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "clipped_index",
    "relative_positions",
    "shaw_score",
    "t5_bucket",
    "transformer_xl_score",
]

FORMS = ("distance", "key")


def relative_positions(q_positions: Array, k_positions: Array) -> Array:
    """Key position − query position, n − m, of every pair.

    Parameters
    ----------
    q_positions, k_positions : integer or real array, shape (q_len,), (k_len,) or with (batch,) before
        Of any integer dtype, unsigned too, and not of the same.

    Returns
    -------
    array, shape (q_len, k_len) or (batch, q_len, k_len)
        The library's default integer dtype, 64 bits where it has them, so that nothing wraps;
        float32 at least if a position is real.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If positions are neither integer nor real, or libraries are mixed.

    Examples
    --------
    >>> import numpy as np
    >>> relative_positions(np.asarray([1], dtype=np.uint8), np.asarray([0, 1, 2]))
    array([[-1,  0,  1]])
    """
    xp = _backends.namespace(q_positions=q_positions, k_positions=k_positions)
    both = {"q_positions": q_positions, "k_positions": k_positions}
    for name, array in both.items():
        if not (_backends.is_integer(array) or _backends.is_floating(array)):
            found = _backends.dtype_name(array.dtype)
            msg = f"`{name}` must be integer or real floating, got {found}"
            raise TypeError(msg)
        if array.ndim not in (1, 2):
            msg = f"`{name}` must have shape (seq,) or (batch, seq), got {tuple(array.shape)}"
            raise ValueError(msg)
    if q_positions.ndim == k_positions.ndim == 2:
        rows = (q_positions.shape[0], k_positions.shape[0])
        if 1 not in rows and rows[0] != rows[1] and all(map(is_known, rows)):
            msg = f"`k_positions` must have the batch of `q_positions`, {rows[0]}, or 1, got {rows[1]}"
            raise ValueError(msg)
    if any(map(_backends.is_floating, both.values())):
        dtype = _compute_dtype(xp, q_positions, k_positions)
    else:
        dtype = _default_integer(q_positions, xp)
    query, key = (_backends.cast(array, dtype, xp) for array in both.values())
    return key[..., None, :] - query[..., :, None]


def alibi_slopes(
    n_heads: int,
    *,
    xp: Namespace | None = None,
    dtype: Dtype | None = None,
    device: Device | None = None,
) -> Array:
    r"""How steeply each head's bias falls with the distance: :math:`2^{-8k/n}` for head k = 1 … n.

    For n not a power of two: the slopes of the next lower power of two, then every other one of
    twice that.

    Parameters
    ----------
    n_heads : int
    xp, dtype, device : optional
        Of the result; float32 in NumPy unless told otherwise.

    Returns
    -------
    array, shape (n_heads,)
        Computed on the host and rounded once, so the same on every library.

    Raises
    ------
    ValueError
        If ``n_heads`` is not in [1, 65536].
    TypeError
        If ``n_heads`` is not integral or ``dtype`` not floating.

    Notes
    -----
    Source: Press et al. 2022, arXiv:2108.12409, section 3, and its code for other n.

    Examples
    --------
    >>> alibi_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ], dtype=float32)
    """
    slopes = _slopes(n_heads)
    xp = _backends.compat_namespace(xp)
    dtype = xp.float32 if dtype is None else dtype
    _backends.require_dtype("dtype", dtype)
    return xp.asarray(slopes, dtype=dtype, device=device)


def alibi_bias(
    q_positions: Array,
    k_positions: Array,
    n_heads: int,
    *,
    form: str = "distance",
    dtype: Dtype | None = None,
) -> Array:
    r"""Attention with linear biases, :math:`-\text{slope}_h\,|m - n|`, for the ``bias`` of `attention`.

    Parameters
    ----------
    q_positions, k_positions : integer or real array, shape (q_len,), (k_len,) or with (batch,) before
    n_heads : int
    form : {"distance", "key"}
        ``"distance"``: as above. ``"key"``: slope · n, without the query's term, which softmax does
        not see: after it the two are equal where every later key is hidden, and only there.
        BLOOM's and Falcon's form.
    dtype : floating dtype, optional
        Default float64 if a position is float64, else float32. Computed in float32 at least.

    Returns
    -------
    array, shape (n_heads, q_len, k_len) or (batch, n_heads, q_len, k_len)
        With ``form="key"`` of size 1 in place of q_len: it broadcasts.

    Raises
    ------
    ValueError
        If ``n_heads`` is not in [1, 65536], ``form`` unknown, or shapes do not fit.
    TypeError
        As `relative_positions`, or if ``dtype`` is not floating.

    Notes
    -----
    Source: Press et al. 2022, arXiv:2108.12409, section 3.
    Book: :eq:`eq-alibi`.

    Examples
    --------
    >>> import numpy as np
    >>> alibi_bias(np.asarray([2]), np.arange(3), 2)[:, 0]
    array([[-0.125     , -0.0625    ,  0.        ],
           [-0.0078125 , -0.00390625,  0.        ]], dtype=float32)
    """
    if form not in FORMS:
        msg = f"`form` must be one of {', '.join(map(repr, FORMS))}, got {form!r}"
        raise ValueError(msg)
    slopes = _slopes(n_heads)
    steps = relative_positions(q_positions, k_positions)  # (..., q_len, k_len)
    xp = _backends.namespace(steps=steps)
    if dtype is None:
        dtype = _compute_dtype(xp, q_positions, k_positions)
    _backends.require_dtype("dtype", dtype)
    compute = xp.float64 if _backends.dtype_name(dtype) == "float64" else xp.float32
    along = -xp.abs(steps) if form == "distance" else k_positions[..., None, :]
    along = _backends.cast(along, compute, xp)[..., None, :, :]  # (..., 1, q_len, k_len)
    falls = xp.asarray(slopes, dtype=compute, device=_backends.device(steps))[:, None, None]
    return _backends.cast(falls * along, dtype, xp)


def clipped_index(q_positions: Array, k_positions: Array, max_distance: int) -> Array:
    """Rows of a table of relative vectors, clip(n − m, −K, K) + K: 0 … 2K.

    Parameters
    ----------
    q_positions, k_positions : integer array, shape (q_len,), (k_len,) or with (batch,) before
    max_distance : int
        K: beyond it all distances share a vector.

    Returns
    -------
    array, shape (q_len, k_len) or (batch, q_len, k_len), the library's default integer dtype

    Raises
    ------
    ValueError
        If ``max_distance`` is not in [0, 2³⁰), or shapes do not fit.
    TypeError
        If positions or ``max_distance`` are not integral, or libraries are mixed.

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
        msg = f"`max_distance` must be in [0, 2**30), got {far}"
        raise ValueError(msg)
    steps = relative_positions(q_positions, k_positions)
    require_integer("q_positions", q_positions)
    require_integer("k_positions", k_positions)
    return _backends.namespace(steps=steps).clip(steps, -far, far) + far


def shaw_score(q: Array, k: Array, key_table: Array, index: Array) -> Array:
    r"""Scores with a learned vector per clipped distance, :math:`q_i \cdot (k_j + a_{ij})`.

    Parameters
    ----------
    q, k : array, shape (..., heads, q_len, head_dim) and (..., heads, k_len, head_dim), floating
    key_table : array, shape (2K + 1, head_dim), floating
        The vectors a, shared by the heads.
    index : integer array, shape (q_len, k_len), or (batch, q_len, k_len) for q of four axes
        From `clipped_index`. Its values are trusted to be rows of the table.

    Returns
    -------
    array, shape (..., heads, q_len, k_len), dtype of ``q``
        Before the scale. Computed in float32 at least.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If an array is not floating (``index``: integer), or libraries are mixed.

    Notes
    -----
    A reference: it holds (q_len, k_len, head_dim) vectors at once. Source: Shaw et al. 2018,
    arXiv:1803.02155, equation 4.
    Book: :eq:`eq-shaw`.

    Examples
    --------
    >>> import numpy as np
    >>> q, k = np.ones((1, 1, 2)), np.zeros((1, 3, 2))
    >>> index = clipped_index(np.asarray([1]), np.arange(3), 1)
    >>> shaw_score(q, k, np.asarray([[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]]), index)
    array([[[ 3.,  0., 10.]]])
    """
    xp = _backends.namespace(q=q, k=k, key_table=key_table, index=index)
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
    _require_before("index", index.shape[:-2], q.shape[:-3])
    result, compute = q.dtype, _compute_dtype(xp, q, k, key_table)
    q, k, key_table = (_backends.cast(array, compute, xp) for array in (q, k, key_table))
    vectors = xp.take(key_table, xp.reshape(index, (-1,)), axis=0)
    vectors = xp.reshape(vectors, (*index.shape, width))  # (..., q_len, k_len, head_dim)
    # One product for each query, shared by the heads: (heads, head_dim) times (head_dim, k_len).
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
    """The bucket of T5's learned biases: exact for near keys, logarithmically wider for far ones.

    Parameters
    ----------
    relative_position : integer array, any shape
        Key position − query position, from `relative_positions`.
    bidirectional : bool
        Half of the buckets for later keys; without it they share bucket 0 with the query's own.
    num_buckets : int
        Even if ``bidirectional``. Half of those of a direction hold one distance each.
    max_distance : int
        From there on all distances share the last bucket.

    Returns
    -------
    array of the shape and dtype of ``relative_position``, values in [0, num_buckets)
        The same on every library, and as transformers computes in float32 on a CPU.

    Raises
    ------
    ValueError
        If ``num_buckets`` is odd, too small or too large, or ``max_distance`` not beyond the
        distances that have a bucket of their own.
    TypeError
        If ``relative_position``, ``num_buckets`` or ``max_distance`` is not integral.

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
    xp = _backends.namespace(relative_position=relative_position)
    require_integer("relative_position", relative_position)
    num_buckets, far = as_int("num_buckets", num_buckets), as_int("max_distance", max_distance)
    least = 4 if bidirectional else 2
    if not least <= num_buckets <= 2**16 or (bidirectional and num_buckets % 2):
        even = "even and " if bidirectional else ""
        msg = f"`num_buckets` must be {even}in [{least}, 65536], got {num_buckets}"
        raise ValueError(msg)
    if num_buckets - 1 > xp.iinfo(relative_position.dtype).max:
        name = _backends.dtype_name(relative_position.dtype)
        msg = f"`num_buckets` must fit the dtype of `relative_position`, {name}, got {num_buckets}"
        raise ValueError(msg)
    each = num_buckets // 2 if bidirectional else num_buckets  # of a direction
    if not each // 2 < far < 2**31:
        msg = f"`max_distance` must be in ({each // 2}, 2**31), got {far}"
        raise ValueError(msg)

    # A step function of the relative position: where it steps, and to what.
    first = _first_distances(each, far)
    steps = [1 - distance for distance in reversed(first)]
    values = list(range(each))[::-1]
    if bidirectional:
        steps += first
        values += range(each + 1, 2 * each)
    dtype, device = _default_integer(relative_position, xp), _backends.device(relative_position)
    at = xp.reshape(_backends.cast(relative_position, dtype, xp), (-1,))
    at = xp.clip(at, -far, far)  # torch warns where it searches for what is not contiguous
    found = xp.searchsorted(xp.asarray(steps, dtype=dtype, device=device), at, side="right")
    bucket = xp.take(xp.asarray(values, dtype=dtype, device=device), found, axis=0)
    bucket = xp.reshape(bucket, relative_position.shape)
    return _backends.cast(bucket, relative_position.dtype, xp)


def transformer_xl_score(q: Array, k: Array, r: Array, u: Array, v: Array) -> Array:
    r"""Transformer-XL's scores, :math:`(q_i + u) \cdot k_j + (q_i + v) \cdot r_{i-j}`.

    Parameters
    ----------
    q, k : array, shape (..., heads, q_len, head_dim) and (..., heads, k_len, head_dim), floating
        The last query stands at the last key, as with a memory.
    r : array, shape (..., rows, head_dim), floating
        A vector for each distance, query position − key position, from k_len − 1 downwards: to 0
        (k_len rows, as in the paper; what later keys get is then of no use: hide them) or to
        −(q_len − 1) (k_len + q_len − 1 rows). In a model the sinusoidal encoding of the distance,
        projected, with an axis of heads before the rows.
    u, v : array, shape (heads, head_dim), floating
        Learned queries that stand nowhere, for content and for distance.

    Returns
    -------
    array, shape (..., heads, q_len, k_len), dtype of ``q``
        Before the scale. Computed in float32 at least.

    Raises
    ------
    ValueError
        If shapes do not fit.
    TypeError
        If an array is not floating, or libraries are mixed.

    Notes
    -----
    Source: Dai et al. 2019, arXiv:1901.02860, section 3.3 and appendix B. XLNet's r has one row
    more at its beginning, for distance k_len, which is never used.
    Book: :eq:`eq-transformer-xl`.

    Examples
    --------
    >>> import numpy as np
    >>> q, k, none = np.ones((1, 2, 1)), np.zeros((1, 2, 1)), np.zeros((1, 1))
    >>> transformer_xl_score(q, k, np.asarray([[1.0], [0.0], [-1.0]]), none, none)  # distances
    array([[[ 0., -1.],
            [ 1.,  0.]]])
    """
    xp = _backends.namespace(q=q, k=k, r=r, u=u, v=v)
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
    _require_before("r", r.shape[:-2], q.shape[:-2])
    result, compute = q.dtype, _compute_dtype(xp, q, k, r, u, v)
    q, k, r, u, v = (_backends.cast(array, compute, xp) for array in (q, k, r, u, v))
    content = (q + u[:, None, :]) @ xp.matrix_transpose(k)
    distance = (q + v[:, None, :]) @ xp.matrix_transpose(r)  # (..., q_len, rows)
    return _backends.cast(content + _relative_shift(distance, k_len, xp), result, xp)


def _relative_shift(x: Array, k_len: int, xp: Namespace) -> Array:
    """Columns of distances to columns of keys: ``result[..., i, j] = x[..., i, q_len - 1 - i + j]``.

    Each row starts one column further left than the row above it. In memory those are the same
    numbers, read with rows that are one shorter: no gather. Missing columns count as zeros.
    """
    *before, q_len, rows = x.shape
    width = k_len + q_len
    pad = xp.zeros((*before, q_len, width - rows), dtype=x.dtype, device=_backends.device(x))
    flat = xp.reshape(xp.concat((x, pad), axis=-1), (*before, q_len * width))
    flat = flat[..., q_len - 1 : q_len * width - 1]
    return xp.reshape(flat, (*before, q_len, width - 1))[..., :k_len]


def _slopes(n_heads: int) -> list[float]:
    n_heads = as_int("n_heads", n_heads)
    if not 0 < n_heads <= 2**16:
        msg = f"`n_heads` must be in [1, 65536], got {n_heads}"
        raise ValueError(msg)
    lower = 1 << n_heads.bit_length() - 1  # the next lower power of two
    parts = [k / lower for k in range(1, lower + 1)]
    parts += [(2 * k + 1) / (2 * lower) for k in range(n_heads - lower)]
    return [2.0 ** (-8 * part) for part in parts]


def _first_distances(buckets: int, far: int) -> list[int]:
    """The first distance of each bucket but bucket 0, in one direction.

    Where transformers takes a logarithm, so does this, rounding each step to float32 as it does: on
    a boundary, the last bit decides. The steps are monotonic, so a bisection finds the boundaries.
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


def _compute_dtype(xp: Namespace, *arrays: Array) -> Dtype:
    names = {_backends.dtype_name(array.dtype) for array in arrays}
    return xp.float64 if "float64" in names else xp.float32


def _default_integer(array: Array, xp: Namespace) -> Dtype:
    return xp.arange(0, device=_backends.device(array)).dtype


def _require_scores(q: Array, k: Array) -> None:
    if q.ndim != k.ndim or q.ndim < 3 or q.shape[-1] != k.shape[-1]:
        got = f"got {tuple(q.shape)}, {tuple(k.shape)}"
        msg = f"`q` and `k` must be (..., heads, seq, head_dim) with the same head_dim, {got}"
        raise ValueError(msg)
    _require_before("k", k.shape[:-2], q.shape[:-2])


def _require_before(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """ValueError unless the leading axes broadcast to those of `q`."""
    if len(found) > len(wanted) or any(
        size not in (1, full) for size, full in zip(found[::-1], wanted[::-1], strict=False)
    ):
        msg = (
            f"`{name}` must have the leading axes of `q`, {tuple(wanted)}, or 1, got {tuple(found)}"
        )
        raise ValueError(msg)
