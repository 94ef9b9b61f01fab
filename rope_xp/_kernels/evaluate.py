"""The loop that takes the first kernel that supports the arrays."""

from __future__ import annotations

from rope_xp._backends import Array, Namespace
from rope_xp._kernels import concat
from rope_xp._kernels.plan import Kernel, Operands, RotationPlan, forced_kernel, kernel_name


def select_kernel(plan: RotationPlan, arrays: Operands) -> Kernel:
    """The first of the plan's kernels that supports the arrays, else `concat`."""
    if plan.small and forced_kernel() is None:
        return concat
    for kernel in plan.kernels:
        if kernel.supports(plan, arrays) and _is_allowed(kernel):
            return kernel
    return concat


def evaluate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    """``arrays.x`` rotated; in ``arrays.out`` if that is given."""
    return select_kernel(plan, arrays).rotate(plan, arrays, xp)


def _is_allowed(kernel: Kernel) -> bool:
    """Whether no other kernel is forced. One that delegates precedes any."""
    forced = forced_kernel()
    if forced in (None, kernel_name(kernel)):
        return True
    return forced != "concat" and hasattr(kernel, "DELEGATES")
