"""The additive ancestor: sinusoidal position encodings, from the same frequencies and phases."""

from __future__ import annotations

from rope_xp import _backend
from rope_xp._backend import Array, Dtype
from rope_xp._checks import as_int
from rope_xp.phases import cos_sin
from rope_xp.rotation import join_pairs
from rope_xp.scaling import require_base

__all__ = ["sinusoidal"]

ORDERS = ("interleaved", "sin_cos", "cos_sin")


def sinusoidal(
    positions: Array,
    dim: int,
    *,
    base: float = 10000.0,
    order: str = "interleaved",
    shift: float = 0.0,
    dtype: Dtype | None = None,
) -> Array:
    r"""Sines and cosines of positions, to be added to an embedding.

    Feature pair i turns at :math:`b^{-i/(n - s)}` radians per step, n pairs and shift s.

    Parameters
    ----------
    positions : integer or real array, shape (...,)
        Integers in [−2³¹, 2³¹), with exact phases, or real numbers (diffusion timesteps).
    dim : int
        Size of the encoding, even; ``n_pairs = dim // 2`` frequencies.
    base : float
        Of the geometric frequencies; the largest period over 2π.
    order : {"interleaved", "sin_cos", "cos_sin"}
        Sine at even and cosine at odd features (Vaswani et al.), or all sines and then all cosines,
        or the other way round.
    shift : float
        The exponent's denominator is ``n_pairs - shift``: 0 in Vaswani et al., 1 in tensor2tensor
        and by default in diffusers, where the slowest frequency is 1 / base.
    dtype : floating dtype, optional
        Default float64 if ``positions`` are float64, else float32.

    Returns
    -------
    array, shape (..., dim)

    Raises
    ------
    ValueError
        If ``dim`` is odd or not positive, ``order`` unknown, ``shift`` not below ``n_pairs``, or
        ``base`` not positive and finite.
    TypeError
        As `cos_sin`.

    Notes
    -----
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    Book: :eq:`eq-sinusoidal`, :eq:`eq-shift`.

    Examples
    --------
    >>> import numpy as np
    >>> sinusoidal(np.asarray([0, 1]), 4).round(5)
    array([[0.     , 1.     , 0.     , 1.     ],
           [0.84147, 0.5403 , 0.01   , 0.99995]], dtype=float32)
    """
    xp = _backend.namespace(positions=positions)
    dim, base = as_int("dim", dim), require_base(base)
    if dim <= 0 or dim % 2:
        msg = f"`dim` must be even and positive, got {dim}"
        raise ValueError(msg)
    if order not in ORDERS:
        msg = f"`order` must be one of {', '.join(map(repr, ORDERS))}, got {order!r}"
        raise ValueError(msg)
    n_pairs = dim // 2
    if not shift < n_pairs:
        msg = f"`shift` must be below n_pairs={n_pairs}, got {shift}"
        raise ValueError(msg)

    inv_freq = [base ** (-i / (n_pairs - shift)) for i in range(n_pairs)]
    cos, sin = cos_sin(positions, inv_freq, dtype=dtype)  # (..., n_pairs)
    if order == "cos_sin":
        return join_pairs(cos, sin, "half", xp)
    return join_pairs(sin, cos, "interleaved" if order == "interleaved" else "half", xp)
