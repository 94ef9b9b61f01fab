"""Tiles that stay in the cache, computed in scratch memory and written where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rope_xp._backends import Array, Namespace
from rope_xp._kernels import memory
from rope_xp._kernels.plan import Operands, RotationPlan

# Python starts every operation of every tile, and a thread waits there for the others.
MIN_BYTES_PER_THREAD = 2**25


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    return memory.is_accessible(arrays)


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    return memory.write_result(
        plan, arrays, lambda part: _fill(plan, part, xp), MIN_BYTES_PER_THREAD
    )


def _fill(plan: RotationPlan, arrays: Operands, xp: Namespace) -> None:
    x, cos, sin, out = arrays
    for first, second, columns in plan.parts:
        a, b, c, s = x[..., first], x[..., second], cos[..., columns], sin[..., columns]
        first_out, second_out = out[..., first], out[..., second]
        scratch = memory.Scratch(7, a, plan.compute, xp)
        current = None
        for at, at_table in memory.tiles(a.shape, c.shape, scratch.size):
            if at_table != current:
                current = at_table
                c_buf, s_buf, *_ = scratch.views(c[at_table].shape)
                c_buf[...], s_buf[...] = c[at_table], s[at_table]
                if plan.inverse:
                    xp.negative(s_buf, out=s_buf)
            a_tile = a[at]
            _, _, a_buf, b_buf, *free = scratch.views(a_tile.shape)
            a_buf[...], b_buf[...] = a_tile, b[at]
            operands = [_InPlaceOperand(buf, free, xp) for buf in (a_buf, b_buf, c_buf, s_buf)]
            rotated_a, rotated_b = plan.turn(*operands)
            first_out[at], second_out[at] = rotated_a.array, rotated_b.array


class _InPlaceOperand:
    """An operand of the formula whose products go to memory that is free ..."""

    __slots__ = ("array", "free", "xp")

    def __init__(self, array: Array, free: list[Array], xp: Namespace) -> None:
        self.array, self.free, self.xp = array, free, xp

    def __mul__(self, other: _InPlaceOperand) -> _InPlaceProduct:
        product = self.free.pop()
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
