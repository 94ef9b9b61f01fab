"""The kernels of each library, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._kernels import (
    both_halves,
    complex_pairs,
    concat,
    cuda,
    jax_eager,
    llvm_cpu,
    numpy_small,
    pad,
    plan,
    tiled,
    torch_autograd,
    torch_small,
)
from rope_xp._kernels.plan import Kernel, RotationPlan, kernel_name
from rope_xp._validation import require_one_of

PREFERENCE: dict[str, tuple[Kernel, ...]] = {
    "numpy": (llvm_cpu, complex_pairs, both_halves),
    "torch": (torch_autograd, cuda, complex_pairs, llvm_cpu, tiled),
    "cupy": (cuda,),
    "jax": (jax_eager, pad),
}  # and `concat`, which every library has


def kernels_for(xp: Namespace) -> tuple[Kernel, ...]:
    """The kernels to try on arrays of this namespace, before `concat`."""
    return PREFERENCE.get(_backends.library_name(xp), ())


def takes_small_arrays(xp: Namespace) -> bool:
    """Whether one of these kernels is worth it for arrays of any size."""
    return any(hasattr(k, "takes_small_arrays") and k.takes_small_arrays() for k in kernels_for(xp))


def rotation_for_small(
    plan: RotationPlan, shape: tuple[int, ...], xp: Namespace
) -> Callable[..., Array] | None:
    """What rotates x of this shape by cos and sin sooner than a kernel is selected; or None.

    Its result may be None: for a kernel.
    """
    kernel = {"numpy": numpy_small, "torch": torch_small}.get(_backends.library_name(xp))
    return None if kernel is None or takes_small_arrays(xp) else kernel.for_shape(plan, shape)


@contextmanager
def force_kernel(name: str) -> Iterator[None]:
    """Evaluate rotations with this kernel where it supports the arrays: for tests and measurements.

    Others are evaluated with `concat`.
    """
    listed = (kernel for kernels in PREFERENCE.values() for kernel in kernels)
    require_one_of("name", name, sorted({kernel_name(kernel) for kernel in (concat, *listed)}))
    token = plan.forced.set(name)
    try:
        yield
    finally:
        plan.forced.reset(token)
