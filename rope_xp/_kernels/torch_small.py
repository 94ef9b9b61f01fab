"""Small tensors of torch: `concat` with the fewest calls, because starting them is what it costs."""

from __future__ import annotations

from collections.abc import Callable

from rope_xp._backends import Array
from rope_xp._kernels.plan import RotationPlan


def for_shape(plan: RotationPlan, shape: tuple[int, ...]) -> Callable[..., Array] | None:
    """What rotates ``x`` of this shape by cos and sin; None for a rotation of another kind."""
    if plan.needs_cast or plan.inverse or not plan.is_two_halves(shape):
        return None
    import torch

    turn = plan.turn

    def rotate(x: Array, cos: Array, sin: Array) -> Array:
        a, b = x.chunk(2, -1)
        return torch.cat(turn(a, b, cos, sin), -1)

    return rotate
