"""The kernels of each library, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rope_xp import _backends
from rope_xp._backends import Namespace
from rope_xp._kernels import (
    complex_pairs,
    concat,
    jax_eager,
    numba_cpu,
    pad,
    plan,
    tiled,
    torch_autograd,
)
from rope_xp._kernels.plan import Kernel, kernel_name
from rope_xp._validation import require_one_of

PREFERENCE: dict[str, tuple[Kernel, ...]] = {
    "numpy": (numba_cpu, complex_pairs, tiled),
    "torch": (torch_autograd, complex_pairs, numba_cpu, tiled),
    "jax": (jax_eager, pad),
}  # and `concat`, which every library has


def kernels_for(xp: Namespace) -> tuple[Kernel, ...]:
    """The kernels to try on arrays of this namespace, before `concat`."""
    return PREFERENCE.get(_backends.library_name(xp), ())


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
