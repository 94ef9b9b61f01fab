"""Eager arrays of JAX, in one compiled call: it starts a slice alone as slowly as thirty products."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rope_xp._backends import Array, Namespace
from rope_xp._backends.jax import is_traced, materialize_under_compile
from rope_xp._kernels import concat
from rope_xp._kernels.plan import Operands, RotationPlan


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    eager = not any(map(is_traced, arrays[:3]))
    return eager and all(device.platform == "cpu" for device in arrays.x.devices())


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    parts: Any = tuple(tuple((s.start, s.stop, s.step) for s in part) for part in plan.parts)
    result: Array = _compiled(plan._replace(parts=parts, kernels=()), xp)(*arrays[:3])
    return result


@lru_cache(maxsize=256)
def _compiled(plan: Any, xp: Namespace) -> Any:
    """`concat` of a plan whose slices are tuples, which have a hash."""
    import jax

    parts = tuple(tuple(slice(*s) for s in part) for part in plan.parts)
    turn = plan.turn
    plan = plan._replace(parts=parts, turn=lambda *operands: turn(*map(_Rounded, operands)))
    return jax.jit(lambda *arrays: concat.rotate(plan, Operands(*arrays), xp))


class _Rounded:
    """An operand of the formula whose products are rounded before they are summed.

    XLA would round once, so products are kept in memory, where sums are another loop.
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    def __mul__(self, other: _Rounded) -> _Rounded:
        return _Rounded(materialize_under_compile(self.array * other.array))

    def __add__(self, other: _Rounded) -> Array:
        return self.array + other.array

    def __sub__(self, other: _Rounded) -> Array:
        return self.array - other.array
