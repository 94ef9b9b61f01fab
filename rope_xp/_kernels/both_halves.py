"""Both halves of NumPy's pairs at once: a product with each table and a sum, tile by tile.

As an array of shape (..., 2, n_pairs) the rotated pairs are ``x * cos + x[..., ::-1, :] * sin``, with the
signs in ``sin`` that the formula gives it in each half: three operations instead of six and a
concatenation. Signs and order change no rounding, so the bits are those of `concat`. A formula that is
not of this kind is left to other kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rope_xp._backends import Array, Namespace
from rope_xp._kernels import memory
from rope_xp._kernels.plan import Operands, RotationPlan

# Python starts every operation of every tile, and a thread waits there for the others.
MIN_BYTES_PER_THREAD = 2**23

#: Elements of ``x`` and of eight tables from which on tiles, in memory of their own, pay. Without them
#: tables that no heads share are as large as the result again.
MIN_TILED_SIZE = 2**20

Signs = tuple[Any, Any]  # the half where products with sin are subtracted, and the other one

FIRST, SECOND = (..., 0, slice(None)), (..., 1, slice(None))
BOTH = (..., None, slice(None))
BACKWARDS = (..., slice(None, None, -1), slice(None))


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    is_numpy = isinstance(arrays.x, np.ndarray)
    return is_numpy and _is_sum_of_products(plan.turn) and memory.is_accessible(arrays)


def for_shape(plan: RotationPlan, shape: tuple[int, ...]) -> Callable[..., Array] | None:
    """What rotates ``x`` of this shape by cos and sin; None for a rotation of another kind."""
    if plan.needs_cast or plan.interleaved or not plan.is_one_part(shape):
        return None
    if not _is_sum_of_products(plan.turn):
        return None
    signs = _signs(plan.turn, plan.inverse)
    halves = (*shape[:-1], 2, shape[-1] // 2)

    def rotate(x: Array, cos: Array, sin: Array) -> Array:
        out = np.empty(shape, x.dtype)
        _rotate_halves(x.reshape(halves), out.reshape(halves), cos, sin, signs)
        return out

    return rotate


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, out = arrays
    if plan.needs_cast or x.size + 8 * sin.size >= MIN_TILED_SIZE:
        return memory.write_result(plan, arrays, partial(_fill, plan, xp), MIN_BYTES_PER_THREAD)
    if out is None:
        out = np.empty(x.shape, x.dtype)
    if out is not x and plan.end - plan.start < x.shape[-1]:
        memory.copy_features(plan, x, out)
    signs = _signs(plan.turn, plan.inverse)
    for part in plan.parts:
        pairs, turned = _halves(plan, part, x, out)
        _rotate_halves(pairs, turned, cos[..., part[2]], sin[..., part[2]], signs)
    return out


def _rotate_halves(pairs: Array, out: Array, cos: Array, sin: Array, signs: Signs) -> None:
    """All at once. ``out`` may be ``pairs``: it is written when what is swapped was read."""
    if 2 * sin.size >= pairs.size:  # a signed table takes longer than signs of the products
        swapped = np.multiply(pairs[BACKWARDS], sin[BOTH])
        subtracted = swapped[signs[0]]
        np.negative(subtracted, subtracted)
    else:
        signed = np.empty((*sin.shape[:-1], 2, sin.shape[-1]), sin.dtype)
        _write_signed(sin, signed, signs)
        swapped = np.multiply(pairs[BACKWARDS], signed)
    np.multiply(pairs, cos[BOTH], out)
    np.add(out, swapped, out)


def _fill(plan: RotationPlan, xp: Namespace, arrays: Operands) -> None:
    x, cos, sin, out = arrays
    signs = _signs(plan.turn, plan.inverse)
    for part in plan.parts:
        pairs, target = _halves(plan, part, x, out)
        c, s = cos[..., part[2]], sin[..., part[2]]
        shape = (*x.shape[:-1], 2 * c.shape[-1])
        scratch = memory.Scratch(4 if plan.needs_cast else 3, x, plan.compute, xp)
        current = None
        for at, at_table in memory.tiles(shape, c.shape, scratch.size):
            if at_table != current:
                current = at_table
                c_tile = c[at_table][BOTH]  # (..., 1, n_pairs)
                c_both, s_both, *_ = scratch.views((*c_tile.shape[:-2], 2, c_tile.shape[-1]))
                c_both[...] = c_tile
                _write_signed(s[at_table], s_both, signs)
            tile = pairs[at]
            result = written = target[at]
            _, _, turned, *copies = scratch.views(tile.shape)
            for copy in copies:
                copy[...] = tile
                tile = result = copy
            np.multiply(tile[BACKWARDS], s_both, turned)
            np.multiply(tile, c_both, result)
            np.add(result, turned, result)
            if copies:
                written[...] = result


def _halves(
    plan: RotationPlan, part: tuple[slice, ...], x: Array, out: Array
) -> tuple[Array, Array]:
    """The features of one part in both arrays, as views of shape (..., 2, n_pairs)."""
    start, stop = part[0].start, part[1].stop
    if stop - start < x.shape[-1]:
        x, out = x[..., start:stop], out[..., start:stop]
    if plan.interleaved:
        shape = (*x.shape[:-1], (stop - start) // 2, 2)
        return x.reshape(shape).swapaxes(-1, -2), out.reshape(shape).swapaxes(-1, -2)
    shape = (*x.shape[:-1], 2, (stop - start) // 2)
    return x.reshape(shape), out.reshape(shape)


def _write_signed(sin: Array, out: Array, signs: Signs) -> None:
    """``sin`` for both halves, (..., 2, n_pairs), negative in the one where it is subtracted."""
    negative, positive = signs
    out[positive] = sin
    np.negative(sin, out[negative])


def _signs(turn: Callable[..., Any], inverse: bool) -> Signs:
    """The half where the formula subtracts products with sin, and the one where it adds them."""
    minus_first = (_on_units(turn)[3] == (-1, 0)) is not inverse
    return (FIRST, SECOND) if minus_first else (SECOND, FIRST)


def _is_sum_of_products(turn: Callable[..., Any]) -> bool:
    """Whether the formula is what this module computes, but for its signs: it is linear, so units tell."""
    return _on_units(turn) in (
        ((1, 0), (0, 1), (0, 1), (-1, 0)),
        ((1, 0), (0, 1), (0, -1), (1, 0)),
    )


@functools.cache
def _on_units(turn: Callable[..., Any]) -> tuple[tuple[int, int], ...]:
    units = ((1, 0, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1))  # a, b, cos, sin
    return tuple(tuple(turn(*unit)) for unit in units)
