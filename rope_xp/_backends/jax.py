"""JAX: arrays that cannot be written, eager or traced.

New arrays move to their partners by themselves, a tracer has no device, and mixed devices are refused
by JAX with a ValueError of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from typing import Any

from rope_xp._backends.library import Array, Device, Library, Namespace
from rope_xp._backends.numpy import is_dtype


def load() -> Namespace:
    import jax.numpy as xp

    return xp


def is_traced(array: Array) -> bool:
    """Whether XLA will compile what is done with ``array``."""
    import jax

    return isinstance(array, jax.core.Tracer)


def missing_dtypes(_device: Device | None) -> frozenset[str]:
    import jax

    return frozenset() if jax.config.jax_enable_x64 else frozenset(("int64", "uint64", "float64"))


def register_values(classes: tuple[type, ...]) -> None:
    from jax.tree_util import register_static

    for each in classes:
        with contextlib.suppress(ValueError):  # registered already: rope_xp was reloaded
            register_static(each)


def is_traced_size(value: Any) -> bool:
    import jax.export

    return bool(jax.export.is_symbolic_dim(value))


def host_values(array: Array) -> Any:
    import numpy as np

    if is_traced(array) or not array.is_fully_addressable:
        return None
    on_cpu = all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if on_cpu else None


def materialize_under_compile(array: Array) -> Array:
    # Positions that are integers cost less than a call.
    return _materialize()(array) if is_traced(array) and array.dtype.kind != "i" else array


@cache
def _materialize() -> Callable[[Array], Array]:
    """The identity, as a call that XLA does not inline on CPUs, so that it makes the array first.

    There it fuses cheap elementwise code into every loop that uses it: tables were made again for each
    head and layer. It removes `optimization_barrier` before it fuses; here that is there because a call
    without any operation would be removed, too.
    """
    import jax
    from jax.experimental.xla_metadata import set_xla_metadata

    barrier = jax.jit(jax.lax.optimization_barrier)

    def call(array: Array) -> Array:
        with set_xla_metadata(inlineable="false"):
            return barrier(array)

    return jax.jit(
        lambda array: jax.lax.platform_dependent(array, cpu=call, default=lambda array: array)
    )


LIBRARY = Library(
    "jax",
    load,
    device=lambda array: None,
    missing_dtypes=missing_dtypes,
    missing_dtypes_advice="jax_enable_x64 switches 64-bit dtypes on",
    register_values=register_values,
    read_only=lambda array: "arrays of JAX never change",
    is_dtype=is_dtype,
    materialize_under_compile=materialize_under_compile,
    host_values=host_values,
    is_near_host=lambda array: True,
    is_traced_size=is_traced_size,
)
