"""How a rotation is evaluated: kernels that differ in speed and memory, not in what they compute.

A rotation does almost no arithmetic. Its cost is that of moving the array through memory, and each
kernel keeps that low for some arrays:

================ ===================================================================================
`concat`         new arrays, joined: any library, and compilers, which fuse it
`pad`            parts as wide as the whole, summed: XLA makes one loop of it
`jax_eager`      eager arrays of JAX, taken apart and joined by one compiled call each
`both_halves`    one product with each table for both halves of the pairs: NumPy
`tiled`          tiles that stay in the cache, written where they belong: torch
`complex_pairs`  the same with interleaved pairs as complex numbers: one multiplication
`llvm_cpu`       rows, by `machine_code` that LLVM makes of the formula
`cuda`           one launch on a CUDA device, of a text made from the formula; off by default
`numpy_small`    the formula in the fewest operations: below the size for any choice
`torch_small`    the same for torch
`torch_autograd` one step of torch's graph, evaluated by one of the above
================ ===================================================================================

A kernel is a module with ``supports(plan, arrays)`` and ``rotate(plan, arrays, xp)``; `dispatch` lists
those of each library in order of preference, and `evaluate` takes the first that supports the arrays.
The formula comes with the plan, from `rope_xp.rotation`. All kernels give eager arrays the same bits, except
that NumPy rounds a complex product once less: `complex_pairs` on large arrays, without llvmlite.
"""

from rope_xp._kernels.concat import interleave, replace_features, write_into
from rope_xp._kernels.dispatch import (
    force_kernel,
    kernels_for,
    rotation_for_small,
    takes_small_arrays,
)
from rope_xp._kernels.evaluate import evaluate
from rope_xp._kernels.plan import Operands, RotationPlan, below_kernel_size, forced_kernel

__all__ = [
    "Operands",
    "RotationPlan",
    "below_kernel_size",
    "evaluate",
    "force_kernel",
    "forced_kernel",
    "interleave",
    "kernels_for",
    "replace_features",
    "rotation_for_small",
    "takes_small_arrays",
    "write_into",
]
