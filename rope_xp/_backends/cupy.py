"""CuPy: NumPy's interface on CUDA devices."""

from __future__ import annotations

from rope_xp._backends.library import Library, Namespace
from rope_xp._backends.numpy import is_dtype


def load() -> Namespace:
    import array_api_compat.cupy as xp

    return xp


LIBRARY = Library("cupy", load, missing_dtypes=lambda device: frozenset(), is_dtype=is_dtype)
