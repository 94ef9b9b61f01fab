"""Parts as wide as the whole, summed: XLA makes one loop of it, but one for each joined part."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._backends.jax import is_traced
from rope_xp._kernels.concat import rotated_pairs
from rope_xp._kernels.plan import Operands, RotationPlan


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    # Padding pays where XLA compiles it; 16-bit interleaved pairs are the exception.
    narrow = plan.interleaved and arrays.x.dtype.itemsize < 4
    return is_traced(arrays.x) and not narrow


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, _ = arrays
    width = x.shape[-1]
    pieces = [
        (features, _backends.cast(x[..., features], plan.compute, xp))
        for features in (slice(0, plan.start), slice(plan.end, width))
        if features.start < features.stop
    ]
    pairs = rotated_pairs(plan, x, cos, sin, xp)
    for (*halves, _), rotated in zip(plan.parts, pairs, strict=True):
        pieces += zip(halves, rotated, strict=True)
    total, *rest = (_pad(piece, features, width) for features, piece in pieces)
    for piece in rest:
        total = total + piece
    # Narrow only here: XLA's loops over 16-bit numbers are many times slower.
    return _backends.cast(total, x.dtype, xp)


def _pad(array: Array, features: slice, width: int) -> Array:
    """The last axis spread over ``features`` of ``width``.

    With −0, the neutral element of sums: +0 would turn −0 around.
    """
    import jax

    step = features.step or 1
    low, end = features.start, features.start + (array.shape[-1] - 1) * step + 1
    config = [(0, 0, 0)] * (array.ndim - 1) + [(low, width - end, step - 1)]
    return jax.lax.pad(array, jax.numpy.asarray(-0.0, array.dtype), config)
