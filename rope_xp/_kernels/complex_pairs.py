"""Interleaved pairs as complex numbers in the same memory: one multiplication for each tile."""

from __future__ import annotations

import math
from typing import Any

from rope_xp import _backends
from rope_xp._backends import Array, Namespace
from rope_xp._kernels import llvm_cpu, memory
from rope_xp._kernels.plan import Operands, RotationPlan

MIN_BYTES_PER_THREAD = 2**23


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    x, cos, *_ = arrays
    if not plan.interleaved or not memory.is_accessible(arrays) or 0 in x.shape:
        return False
    known = memory.memory_of(x)
    if not known.rounds_uniformly(x, cos.shape[-1]):
        return False
    if known.complex_product_is_exact and x.dtype == cos.dtype and x.dtype.itemsize > 2:
        return True
    # With llvmlite nothing else is as fast, and nothing may differ from it in the last bit.
    return not llvm_cpu.is_available()


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    return memory.write_result(
        plan, arrays, lambda part: _fill(plan, part, xp), MIN_BYTES_PER_THREAD
    )


def _fill(plan: RotationPlan, arrays: Operands, xp: Namespace) -> None:
    x, cos, sin, out = arrays
    known = memory.memory_of(x)
    x, out = x[..., plan.start : plan.end], out[..., plan.start : plan.end]
    source: Any = known.as_complex(x, plan.compute)
    target: Any = known.as_complex(out, plan.compute)
    # Pairs that are no complex numbers in their own memory are copied to where they are.
    viewed = source is not None and target is not None
    scratch = None if viewed else memory.Scratch(1, x, plan.compute, xp)
    size = max(known.tile_size(x, scratch=not viewed), x.shape[-1])
    if viewed and size >= math.prod(x.shape) and not plan.needs_cast:
        xp.multiply(source, known.make_complex(cos, -sin if plan.inverse else sin), out=target)
        return
    current = None
    for at, at_table in memory.tiles(x.shape, cos.shape, size):
        if at_table != current:
            current = at_table
            c, s = (_backends.cast(t[at_table], plan.compute, xp) for t in (cos, sin))
            s = -s if plan.inverse else s
            table = known.make_complex(c, s)
        if scratch is None:
            xp.multiply(source[at], table, out=target[at])
            continue
        (tile,) = scratch.views(x[at].shape)
        tile[...] = x[at]
        if known.rounds_uniformly(tile, cos.shape[-1]):
            pairs = known.as_complex(tile, plan.compute)
            xp.multiply(pairs, table, out=pairs)
        else:
            a, b = tile[..., 0::2], tile[..., 1::2]
            a[...], b[...] = plan.turn(a, b, c, s)
        out[at] = tile
