"""JAX: arrays that cannot be written, eager or traced.

New arrays move to their partners by themselves, a tracer has no device, and mixed devices are refused
by JAX with a ValueError of its own.
"""

from __future__ import annotations

from rope_xp._backends.library import Array, Library, Namespace


def load() -> Namespace:
    import jax.numpy as xp

    return xp


def is_traced(array: Array) -> bool:
    """Whether XLA will compile what is done with ``array``."""
    import jax

    return isinstance(array, jax.core.Tracer)


LIBRARY = Library("jax", load, device=lambda array: None, is_writable=lambda array: False)
