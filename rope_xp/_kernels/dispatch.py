"""The kernels of each library, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from rope_xp import _backends
from rope_xp._backends import Namespace
from rope_xp._kernels import complex_pairs, numba_cpu, pad, tiled, torch_autograd
from rope_xp._kernels.plan import Kernel

PREFERENCE: dict[str, tuple[Kernel, ...]] = {
    "numpy": (numba_cpu, complex_pairs, tiled),
    "torch": (torch_autograd, complex_pairs, numba_cpu, tiled),
    "jax": (pad,),
}  # and `concat`, which every library has


def kernels_for(xp: Namespace) -> tuple[Kernel, ...]:
    """The kernels to try on arrays of this namespace, before `concat`."""
    return PREFERENCE.get(_backends.library_name(xp), ())
