"""One step of torch's graph, whose gradient is the transpose: it keeps the tables and nothing else.

The transforms of ``torch.func`` and forward-mode differentiation pass through it too: the arithmetic is
done by the next kernel that supports the arrays at the bottom of them.
"""

from __future__ import annotations

import functools
from typing import Any

from rope_xp._backends import Array, Namespace
from rope_xp._backends import torch as torch_facts
from rope_xp._kernels import concat
from rope_xp._kernels.evaluate import evaluate
from rope_xp._kernels.plan import Operands, RotationPlan, below_kernel_size, forced_kernel

DELEGATES = True


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    x, cos, sin, out = arrays
    if plan.size is not None and not (x.requires_grad or torch_facts.is_transformed(x)):
        return False  # sooner known than the rest
    # Tables that are differentiated or mapped over, too, are left to torch.
    return (
        out is None
        and torch_facts.is_plain(x, cos, sin)
        and (forced_kernel() is not None or not below_kernel_size(x.shape))
        and (torch_facts.is_differentiated(x) or torch_facts.is_transformed(x))
        and all(torch_facts.is_memory(t) and not t.requires_grad for t in (cos, sin))
    )


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, _ = arrays
    # Without this kernel: what is below a transform may look like what is above it.
    others = tuple(k for k in plan.kernels if not hasattr(k, "DELEGATES"))
    try:
        return _function().apply(
            x,
            cos,
            sin,
            plan._replace(kernels=others, size=None, small=False, rotate_small=None),
            xp,
        )
    except RuntimeError as error:
        if "custom_function_call" not in str(error):
            raise
        # torch.func.functionalize around a transform: it has no rule for steps like this one.
        return concat.rotate(plan, arrays, xp)


@functools.cache
def _function() -> Any:
    import torch

    class Rotation(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(x: Array, cos: Array, sin: Array, plan: RotationPlan, xp: Namespace) -> Array:
            return evaluate(plan, Operands(x, cos, sin), xp)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
            _, cos, sin, ctx.plan, ctx.xp = inputs
            ctx.save_for_backward(cos, sin)
            ctx.save_for_forward(cos, sin)

        @staticmethod
        def backward(ctx: Any, gradient: Array) -> tuple[Array | None, ...]:
            cos, sin = ctx.saved_tensors
            if torch_facts.is_batched_gradient(gradient):
                transposed = _plain_gradient(ctx.plan, gradient, cos, sin, ctx.xp)
            else:
                plan = ctx.plan._replace(inverse=not ctx.plan.inverse)
                transposed = Rotation.apply(gradient, cos, sin, plan, ctx.xp)
            return transposed, *(None,) * 4

        @staticmethod
        def jvp(ctx: Any, tangent: Array, *_: Any) -> Array:
            return Rotation.apply(tangent, *ctx.saved_tensors, ctx.plan, ctx.xp)

        @staticmethod
        def vmap(
            _info: Any, in_dims: tuple[int | None, ...], x: Array, *rest: Any
        ) -> tuple[Array, int | None]:
            (dim, *_), moved = in_dims, x
            if dim is not None:
                moved = x.movedim(dim, 0)  # tables broadcast from the last axis on
            return Rotation.apply(moved, *rest), None if dim is None else 0

    return Rotation


def _plain_gradient(
    plan: RotationPlan, gradient: Array, cos: Array, sin: Array, xp: Namespace
) -> Array:
    """What autograd makes of `concat`: of operations that its batching of gradients knows."""
    import torch

    with torch.enable_grad():
        zero = torch.zeros((), dtype=gradient.dtype, device=gradient.device)
        x = zero.expand(gradient.shape).requires_grad_()
        y = concat.rotate(plan, Operands(x, cos, sin), xp)
    (transposed,) = torch.autograd.grad(y, x, gradient, create_graph=torch.is_grad_enabled())
    return transposed
