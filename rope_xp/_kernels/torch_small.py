"""Small tensors of torch: `concat` with the fewest calls, because starting them is what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable

from rope_xp._backends import Array
from rope_xp._kernels.plan import RotationPlan, below_kernel_size

#: Elements from which on products belong in the memory of the result.
MAX_SIZE = 2**19


def for_shape(plan: RotationPlan, shape: tuple[int, ...]) -> Callable[..., Array | None] | None:
    """What rotates ``x`` of this shape by cos and sin; None for a rotation of another kind.

    Its result is None for a tensor that another kernel is for.
    """
    if plan.needs_cast or plan.inverse or not plan.is_two_halves(shape):
        return None
    if math.prod(shape) >= MAX_SIZE:
        return None
    import torch

    turn, is_small = plan.turn, below_kernel_size(shape)

    def rotate(x: Array, cos: Array, sin: Array) -> Array | None:
        if not is_small and x.requires_grad:
            return None  # for `torch_autograd`
        a, b = x.chunk(2, -1)
        return torch.cat(turn(a, b, cos, sin), -1)

    return rotate
