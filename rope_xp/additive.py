"""Sinusoidal position encodings, RoPE's additive predecessor, from the same frequencies and phases."""

from __future__ import annotations

from typing import Any, Literal, get_args

from rope_xp import _backends
from rope_xp._backends import Array, Dtype
from rope_xp._kernels import interleave
from rope_xp._validation import (
    MAX_FREQUENCY,
    as_constant,
    as_number,
    as_size,
    quote,
    require_base,
    require_one_of,
)
from rope_xp.axes._base import checked_matrix, require_axes, require_pairing
from rope_xp.phases import cos_sin

__all__ = ["sinusoidal"]

Order = Literal["interleaved", "sin_cos", "cos_sin"]
ORDERS = get_args(Order)


def sinusoidal(
    positions: Array,
    dim: int,
    *,
    base: float = 10000.0,
    order: Order = "interleaved",
    shift: float = 0.0,
    axes: Any = None,
    dtype: Dtype | None = None,
) -> Array:
    r"""Sines and cosines of positions, to be added to an embedding of tokens, patches or timesteps.

    Feature pair i turns by :math:`b^{-i/(n - s)}` radians per step, for n pairs and shift s. With
    several axes, a scheme says which axis drives which pair, as for `RoPE`.

    Parameters
    ----------
    positions : integer or real array, shape (...,); with axes (n_axes, ...)
        Integers of any dtype, or real numbers (diffusion timesteps), as in `cos_sin`.
    dim : int
        Size of the encoding, even; ``n_pairs = dim // 2`` frequencies.
    base : float
        Base of the geometric frequencies, which is also the largest period over 2π.
    order : {"interleaved", "sin_cos", "cos_sin"}
        Sines at even and cosines at odd features (Vaswani et al.), all sines before all cosines, or
        all cosines before all sines.
    shift : float
        The exponent's denominator is ``n_pairs - shift``. It is 0 in Vaswani et al., and 1 in
        tensor2tensor and by default in diffusers, where the slowest frequency is 1 / base.
    axes : scheme, optional
        From `rope_xp.axes`, with ``dim`` for its ``rotary_dim``; default: one axis. Where an axis has
        frequencies of its own, n is the number of its pairs. With ``split=True`` the order applies to
        each axis separately, instead of to all of them together.
    dtype : floating dtype, optional
        Default: float64 if ``positions`` are float64, else float32.

    Returns
    -------
    array, shape (..., dim)

    Raises
    ------
    ValueError
        If ``dim`` is odd, not positive, or does not suit ``axes``, ``order`` is unknown, ``shift`` is
        not below ``n_pairs``, ``base`` is not positive and finite, or ``positions`` do not have
        n_axes.
    TypeError
        As `cos_sin`, and if ``axes`` is not a scheme.

    Notes
    -----
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. The following give the encodings of
    other libraries for positions (rows, columns) or (times, rows, columns), with ``order="sin_cos"``
    except for DETR:

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

    The caller prepends rows of zeros for class tokens, and appends the zero with which tensor2tensor
    and diffusers complete an encoding of size ``dim - 1`` where ``dim`` is odd.

    Book: :eq:`eq-sinusoidal`, :eq:`eq-shift`.

    Examples
    --------
    >>> import numpy as np
    >>> sinusoidal(np.asarray([0, 1]), 4).round(5)
    array([[0.     , 1.     , 0.     , 1.     ],
           [0.84147, 0.5403 , 0.01   , 0.99995]], dtype=float32)

    A diffusion timestep as in Stable Diffusion and Flux, where it is diffusers'
    ``get_timestep_embedding(t, 4, flip_sin_to_cos=True, downscale_freq_shift=0, scale=1000)``.

    >>> t = np.asarray([0.25])
    >>> sinusoidal(1000 * t, 4, order="cos_sin", shift=0).round(5)
    array([[ 0.24099, -0.80114, -0.97053,  0.59847]])

    The patches of a 1 × 2 grid, with the sines and cosines of rows before those of columns:

    >>> from rope_xp.axes import Axial
    >>> rows_columns = np.asarray([[0, 0], [0, 1]])
    >>> sinusoidal(rows_columns, 4, order="sin_cos", axes=Axial(2, split=True)).round(5)
    array([[0.     , 1.     , 0.     , 1.     ],
           [0.     , 1.     , 0.84147, 0.5403 ]], dtype=float32)
    """
    xp, positions = _backends.join(positions=positions)
    dim, base = as_size("dim", dim), as_constant(require_base(base))
    shift = as_number("shift", shift)
    if dim % 2:
        msg = f"`dim` must be even and positive, got {dim}"
        raise ValueError(msg)
    require_one_of("order", order, ORDERS)
    require_axes(axes)
    if axes is not None:
        require_pairing(axes, dim)

    def frequencies(
        width: int,
        axis_base: float | None = None,
        axis: int | None = None,  # noqa: ARG001 - one signature for all
    ) -> tuple[float, ...]:
        n_pairs, b = width // 2, base if axis_base is None else axis_base
        if not shift < n_pairs:
            msg = f"`shift` must be below n_pairs={n_pairs}, got {quote(shift)}"
            raise ValueError(msg)
        span = as_constant(n_pairs - shift)
        try:
            made = tuple(b ** (-i / span) for i in range(n_pairs))
        except OverflowError:
            made = (MAX_FREQUENCY,)
        if max(made) >= MAX_FREQUENCY:
            msg = (
                f"`shift` and `base` must keep frequencies below 2**128, got {quote(shift)} and {b} "
                f"for n_pairs={n_pairs}"
            )
            raise ValueError(msg)
        return made

    inv_freq = frequencies(dim) if axes is None else checked_matrix(axes, dim, frequencies)
    cos, sin = cos_sin(positions, inv_freq, dtype=dtype)  # (..., n_pairs)
    if order == "interleaved":
        return interleave(sin, cos, xp)  # the same for any blocks
    first, second = (cos, sin) if order == "cos_sin" else (sin, cos)
    blocks, start, parts = (dim,) if axes is None else axes.blocks(dim), 0, []
    for width in blocks:
        pairs = slice(start, start + width // 2)
        parts += [first[..., pairs], second[..., pairs]]
        start += width // 2
    return xp.concat(parts, axis=-1)
