"""JAX: arrays that cannot be written, eager or traced.

New arrays move to their partners by themselves, a tracer has no device, and mixed devices are refused
by JAX with a ValueError of its own.
"""

from __future__ import annotations

from typing import Any

from rope_xp._backends.library import Array, Library, Namespace


def load() -> Namespace:
    import jax.numpy as xp

    return xp


def is_traced(array: Array) -> bool:
    """Whether XLA will compile what is done with ``array``."""
    import jax

    return isinstance(array, jax.core.Tracer)


def is_traced_size(value: Any) -> bool:
    import jax.export

    return bool(jax.export.is_symbolic_dim(value))


def host_values(array: Array) -> Any:
    import numpy as np

    if is_traced(array) or not array.is_fully_addressable:
        return None
    on_cpu = all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if on_cpu else None


LIBRARY = Library(
    "jax",
    load,
    device=lambda array: None,
    is_writable=lambda array: False,
    host_values=host_values,
    is_traced_size=is_traced_size,
)
