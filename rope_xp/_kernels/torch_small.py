"""Small tensors of torch: plain operations, in the fewest calls, because starting them is what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable

from rope_xp._backends import Array
from rope_xp._backends import torch as torch_facts
from rope_xp._kernels.plan import RotationPlan, below_kernel_size

#: Elements from which on products belong in the memory of the result.
MAX_SIZE = 2**19

Rotate = Callable[[Array, Array, Array], Array | None]


def for_shape(plan: RotationPlan, shape: tuple[int, ...]) -> Rotate | None:
    """What rotates ``x`` of this shape by cos and sin; None for a rotation of another kind.

    Its result is None for a tensor that another kernel is for.
    """
    if plan.needs_cast or not plan.is_one_part(shape) or math.prod(shape) >= MAX_SIZE:
        return None
    if plan.interleaved:
        return _complex_pairs(plan) if plan.compute.itemsize > 2 and 0 not in shape else None
    return None if plan.inverse else _halves(plan, is_small=below_kernel_size(shape))


def _halves(plan: RotationPlan, *, is_small: bool) -> Rotate:
    import torch

    turn = plan.turn

    def rotate(x: Array, cos: Array, sin: Array) -> Array | None:
        if not is_small and x.requires_grad:
            return None  # for `torch_autograd`
        a, b = x.chunk(2, -1)
        return torch.cat(turn(a, b, cos, sin), -1)

    return rotate


def _complex_pairs(plan: RotationPlan) -> Rotate:
    import torch

    def rotate(x: Array, cos: Array, sin: Array) -> Array | None:
        if x.requires_grad or cos.requires_grad or sin.requires_grad:
            return None
        # In this order: what a transform wraps has no strides of its own.
        if torch_facts.is_transformed(x) or not torch_facts.rounds_uniformly(x, cos.shape[-1]):
            return None
        pairs = torch_facts.as_complex(x, plan.compute)
        if pairs is None:
            return None
        table = torch.complex(cos, -sin if plan.inverse else sin)
        return torch.view_as_real(pairs * table).flatten(-2)

    return rotate
