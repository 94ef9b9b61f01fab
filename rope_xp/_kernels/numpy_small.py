"""Small arrays of NumPy: the formula in the fewest operations, because starting them is what it costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rope_xp._backends import Array
from rope_xp._kernels import both_halves
from rope_xp._kernels.plan import RotationPlan, below_kernel_size


def for_shape(
    plan: RotationPlan, shape: tuple[int, ...]
) -> Callable[[Array, Array, Array], Array] | None:
    """What rotates ``x`` of this shape by cos and sin; None for a rotation of another kind."""
    if plan.needs_cast or not below_kernel_size(shape):
        return None
    quickest = both_halves.for_shape(plan, shape)
    if quickest is not None:
        return quickest
    turn, inverse = plan.turn, plan.inverse
    parts = [tuple((..., features) for features in part) for part in plan.parts]
    is_whole = plan.end - plan.start == shape[-1]

    def rotate(x: Array, cos: Array, sin: Array) -> Array:
        out = np.empty(shape, x.dtype) if is_whole else x.copy()
        if inverse:
            sin = -sin
        for first, second, columns in parts:
            a, b = turn(x[first], x[second], cos[columns], sin[columns])
            out[first], out[second] = a, b
        return out

    return rotate
