"""The additive ancestor: sinusoidal position encodings, from the same frequencies and phases."""

from __future__ import annotations

from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Dtype
from rope_xp._kernels.evaluate import join_neighbours
from rope_xp._validation import as_int, require_base
from rope_xp.axes._base import checked_matrix, require_axes, require_pairing
from rope_xp.phases import cos_sin

__all__ = ["sinusoidal"]

ORDERS = ("interleaved", "sin_cos", "cos_sin")


def sinusoidal(
    positions: Array,
    dim: int,
    *,
    base: float = 10000.0,
    order: str = "interleaved",
    shift: float = 0.0,
    axes: Any = None,
    dtype: Dtype | None = None,
) -> Array:
    r"""Sines and cosines of positions, to be added to an embedding: of tokens, patches, timesteps.

    Feature pair i turns at :math:`b^{-i/(n - s)}` radians per step, n pairs and shift s. With
    several axes a scheme says which axis drives which pair, as for `RoPE`.

    Parameters
    ----------
    positions : integer or real array, shape (...,); with axes (n_axes, ...)
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
    axes : scheme, optional
        From `rope_xp.axes`, with ``dim`` for its ``rotary_dim``; default: one axis. Where an axis has
        frequencies of its own, n counts its pairs. ``split=True`` makes the order that of each axis
        by itself, instead of all of them together.
    dtype : floating dtype, optional
        Default float64 if ``positions`` are float64, else float32.

    Returns
    -------
    array, shape (..., dim)

    Raises
    ------
    ValueError
        If ``dim`` is odd, not positive, or does not suit ``axes``; ``order`` unknown, ``shift`` not
        below ``n_pairs``, or ``base`` not positive and finite; if ``positions`` have no n_axes.
    TypeError
        As `cos_sin`; if ``axes`` is no scheme.

    Notes
    -----
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. On positions (rows, columns) or
    (times, rows, columns), with ``order="sin_cos"`` but for DETR:

    ============================================ ==================================================
    MAE; transformers' 2-D tables                ``axes=Axial(2, split=True)``
    timm's ``build_sincos2d_pos_embed``          ``axes=Axial(2)``; the same with ``split=True`` if
                                                 it has ``interleave_sin_cos=True``
    DiT, PixArt, Stable Diffusion 3 (diffusers)  ``axes=Axial(2, split=True, axis_order=(1, 0))``
    CogVideoX, d features (diffusers)            ``axes=Axial((d // 4, 3 * d // 8, 3 * d // 8),
                                                 split=True, axis_order=(0, 2, 1))``
    DETR                                         ``axes=Axial(2)``, ``order="interleaved"``, on
                                                 `positions.mask_grid_positions`
    ============================================ ==================================================

    Rows of zeros for class tokens are the caller's to prepend, and so is the zero that tensor2tensor
    and diffusers append to the encoding of size ``dim - 1`` where ``dim`` is odd.

    Book: :eq:`eq-sinusoidal`, :eq:`eq-shift`.

    Examples
    --------
    >>> import numpy as np
    >>> sinusoidal(np.asarray([0, 1]), 4).round(5)
    array([[0.     , 1.     , 0.     , 1.     ],
           [0.84147, 0.5403 , 0.01   , 0.99995]], dtype=float32)

    A diffusion timestep as Stable Diffusion and Flux have it: diffusers'
    ``get_timestep_embedding(t, 4, flip_sin_to_cos=True, downscale_freq_shift=0, scale=1000)``.

    >>> t = np.asarray([0.25])
    >>> sinusoidal(1000 * t, 4, order="cos_sin", shift=0).round(5)
    array([[ 0.24099, -0.80114, -0.97053,  0.59847]])

    The patches of a 1 × 2 grid, the sines and cosines of rows before those of columns:

    >>> from rope_xp.axes import Axial
    >>> rows_columns = np.asarray([[0, 0], [0, 1]])
    >>> sinusoidal(rows_columns, 4, order="sin_cos", axes=Axial(2, split=True)).round(5)
    array([[0.     , 1.     , 0.     , 1.     ],
           [0.     , 1.     , 0.84147, 0.5403 ]], dtype=float32)
    """
    xp = _backends.namespace(positions=positions)
    # Frequencies are constants: compilers that take floats for data take float(base) for data too.
    dim, base = as_int("dim", dim), require_base(base).__float__()
    if dim <= 0 or dim % 2:
        msg = f"`dim` must be even and positive, got {dim}"
        raise ValueError(msg)
    if order not in ORDERS:
        msg = f"`order` must be one of {', '.join(map(repr, ORDERS))}, got {order!r}"
        raise ValueError(msg)
    require_axes(axes)
    if axes is not None:
        require_pairing(axes, dim)

    def frequencies(width: int, other: float | None = None) -> tuple[float, ...]:
        n_pairs, b = width // 2, base if other is None else other
        if not shift < n_pairs:
            msg = f"`shift` must be below n_pairs={n_pairs}, got {shift}"
            raise ValueError(msg)
        span = (n_pairs - shift).__float__()
        return tuple(b ** (-i / span) for i in range(n_pairs))

    inv_freq = frequencies(dim) if axes is None else checked_matrix(axes, dim, frequencies)
    cos, sin = cos_sin(positions, inv_freq, dtype=dtype)  # (..., n_pairs)
    if order == "interleaved":
        return join_neighbours(sin, cos, xp)  # neighbours, whatever the blocks
    first, second = (cos, sin) if order == "cos_sin" else (sin, cos)
    blocks, start, parts = (dim,) if axes is None else axes.blocks(dim), 0, []
    for width in blocks:
        pairs = slice(start, start + width // 2)
        parts += [first[..., pairs], second[..., pairs]]
        start += width // 2
    return xp.concat(parts, axis=-1)
