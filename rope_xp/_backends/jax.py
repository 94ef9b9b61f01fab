"""JAX: arrays that cannot be written, eager or traced.

New arrays move to their partners by themselves, a tracer has no device, and mixed devices are refused
by JAX with a ValueError of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from rope_xp._backends.library import Array, Device, Library, Namespace, Operand
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
    if is_traced(array) or not array.is_fully_addressable:
        return None
    on_cpu = all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if on_cpu else None


def place(operand: Operand, like: Operand, few: int) -> Array:
    array, other = operand.array, like.array
    if isinstance(array, np.ndarray):
        return array  # most often: a decode step
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    traced = is_traced(array)
    if traced != is_traced(other):
        return array  # of a gradient without `jax.jit`
    # The type of a traced array has the mesh axes that are explicit. The others are XLA's affair.
    # JAX 0.5 has no such types.
    sharding = getattr(other.aval, "sharding", None) if traced else other.sharding
    if not isinstance(sharding, NamedSharding):
        return array
    if not traced and (array.size <= few or array.committed):
        return array  # or on devices that somebody chose
    spec = (*sharding.spec, *(None,) * other.ndim)
    along = [
        None if axis is None or size == 1 else spec[axis]
        for axis, size in zip(operand.axes, array.shape, strict=True)
    ]
    target = NamedSharding(sharding.mesh, PartitionSpec(*along))
    if traced:
        return jax.sharding.reshard(array, target) if any(along) else array
    return jax.device_put(array, target)


def materialize_under_compile(array: Array) -> Array:
    # Making the integers of positions again costs less than a call.
    return _materialize()(array) if is_traced(array) and array.dtype.kind != "i" else array


@cache
def _materialize() -> Any:
    """The identity, on CPUs as a call that XLA does not inline, so that its argument is made before.

    XLA fuses cheap elementwise code into every loop that uses its result, which makes tables again for
    each head and layer. An `optimization_barrier` does not keep it from that, because the compiler for
    CPUs takes barriers out first; but it keeps the call, which JAX leaves out if it has no operation.
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


def write_slots(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None
) -> Sequence[Array]:
    # XLA does this in place where nothing else needs an array: in a program, and if it is donated.
    import jax

    if isinstance(index, int):
        return [
            array.at[..., index : index + fresh.shape[-2], :].set(fresh)
            for array, fresh in zip(arrays, values, strict=True)
        ]
    if valid is not None:  # what is outside is dropped, and no index is there twice
        outside = arrays[0].shape[-2] + jax.numpy.arange(index.shape[-1])
        index = jax.numpy.where(valid, index, outside)

    def write(row: Array, index: Array, fresh: Array) -> Array:
        return row.at[..., index, :].set(fresh, mode="drop", unique_indices=True)

    write_all = jax.vmap(write) if index.ndim == 2 else write
    return [write_all(array, index, fresh) for array, fresh in zip(arrays, values, strict=True)]


def vjp(function: Callable[[Array], Array], x: Array, grad_out: Array) -> Array | None:
    import jax

    return jax.vjp(function, x)[1](grad_out)[0]


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
    place=place,
    is_near_host=lambda array: True,
    is_traced_size=is_traced_size,
    write_slots=write_slots,
    vjp=vjp,
)
