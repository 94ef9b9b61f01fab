"""Tiles that stay in the cache: torch's own operations, whose results go where they belong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rope_xp._backends import Array, Namespace
from rope_xp._kernels import memory
from rope_xp._kernels.plan import Operands, RotationPlan

# Python starts every operation of every tile, and a thread waits there for the others.
MIN_BYTES_PER_THREAD = 2**25

#: Elements below which one tile is enough: everything stays in the cache anyway.
MIN_TILED_SIZE = 2**21


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    return memory.is_accessible(arrays)


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    import torch  # by itself: array-api-compat's wrappers take longer than small operations

    xp, x, out = torch, arrays.x, arrays.out
    in_place = out is not None and memory.is_same_memory(x, out)
    if math.prod(x.shape) < MIN_TILED_SIZE and not (plan.needs_cast or in_place):
        return _rotate_whole(plan, arrays, xp)
    return memory.write_result(
        plan, arrays, lambda part: _fill(plan, part, xp), MIN_BYTES_PER_THREAD
    )


def _rotate_whole(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, out = arrays
    out = memory.memory_of(x).empty(x) if out is None else out
    memory.copy_features(plan, x, out)
    if plan.inverse:
        sin = -sin
    for first, second, columns in plan.parts:
        a, b = x[..., first], x[..., second]
        free = [out[..., first], xp.empty_like(a), out[..., second]]
        operands = (a, b, cos[..., columns], sin[..., columns])
        plan.turn(*(_InPlaceOperand(operand, free, xp) for operand in operands))
    return out


def _fill(plan: RotationPlan, arrays: Operands, xp: Namespace) -> None:
    x, cos, sin, out = arrays
    # Products in the memory of the result, unless that has another dtype or is still to be read.
    in_place = not plan.needs_cast and not memory.is_same_memory(x, out)
    for first, second, columns in plan.parts:
        a, b, c, s = x[..., first], x[..., second], cos[..., columns], sin[..., columns]
        count = 3 if in_place else 7 if plan.needs_cast else 5
        scratch = memory.Scratch(count, a, plan.compute, xp)
        current = None
        for at, at_table in memory.tiles(a.shape, c.shape, scratch.size):
            if at_table != current:
                current = at_table
                c_tile, s_tile = c[at_table], s[at_table]
                c_free, s_free, *_ = scratch.views(c_tile.shape)
                if plan.needs_cast:
                    c_tile = _copy(c_tile, c_free)
                if plan.needs_cast or plan.inverse:
                    s_tile = _copy(s_tile, s_free)
                if plan.inverse:
                    xp.negative(s_tile, out=s_tile)
            a_tile, b_tile, a_out, b_out = a[at], b[at], out[..., first][at], out[..., second][at]
            _, _, second_product, *others = scratch.views(a_tile.shape)
            free = [a_out, second_product, b_out]
            if others:
                free[0], free[2], *copies = others
                if plan.needs_cast:
                    a_tile, b_tile = _copy(a_tile, copies[0]), _copy(b_tile, copies[1])
            operands = [_InPlaceOperand(o, free, xp) for o in (a_tile, b_tile, c_tile, s_tile)]
            rotated_a, rotated_b = (rotated.array for rotated in plan.turn(*operands))
            if others:
                a_out[...], b_out[...] = rotated_a, rotated_b


def _copy(array: Array, out: Array) -> Array:
    out[...] = array
    return out


class _InPlaceOperand:
    """An operand of the formula whose products go to the first memory that is free ..."""

    __slots__ = ("array", "free", "xp")

    def __init__(self, array: Array, free: list[Array], xp: Namespace) -> None:
        self.array, self.free, self.xp = array, free, xp

    def __mul__(self, other: _InPlaceOperand) -> _InPlaceProduct:
        product = self.free.pop(0)
        self.xp.multiply(self.array, other.array, out=product)
        return _InPlaceProduct(product, self.free, self.xp)


class _InPlaceProduct(_InPlaceOperand):
    """... and whose sums go to the memory of the first product, which frees that of the second."""

    __slots__ = ()

    def __add__(self, other: _InPlaceProduct) -> _InPlaceProduct:
        return self._combine(self.xp.add, other)

    def __sub__(self, other: _InPlaceProduct) -> _InPlaceProduct:
        return self._combine(self.xp.subtract, other)

    def _combine(self, function: Callable[..., Any], other: _InPlaceProduct) -> _InPlaceProduct:
        function(self.array, other.array, out=self.array)
        self.free.append(other.array)
        return self
