"""New arrays, joined: for every library, and for compilers, which fuse them."""

from __future__ import annotations

from collections.abc import Iterator

from rope_xp import _backends
from rope_xp._backends import A, Array, Namespace
from rope_xp._kernels.plan import Operands, RotationPlan


def supports(plan: RotationPlan, arrays: Operands) -> bool:
    return True


def rotate(plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
    x, cos, sin, out = arrays
    pieces: list[Array] = []
    for pair in rotated_pairs(plan, x, cos, sin, xp):
        a, b = (_backends.cast(half, x.dtype, xp) for half in pair) if plan.needs_cast else pair
        pieces += (interleave(a, b, xp),) if plan.interleaved else (a, b)
    y = replace_features(x, pieces, plan.start, plan.end, xp)
    if plan.needs_cast:
        y = _backends.cast(y, x.dtype, xp)  # NumPy's other byte order got lost
    return y if out is None else write_into(out, y)


def write_into(out: A, y: Array) -> A:
    """``out`` with the values of ``y``; TypeError where its library does not let one write."""
    try:
        out[...] = y
    except RuntimeError as error:  # what torch's gradients and transforms do not let one write
        reason = str(error).partition("\n")[0]
        msg = f"`out` must be writable, got {_backends.describe(out)}: {reason}"
        raise TypeError(msg) from error
    return out


def rotated_pairs(
    plan: RotationPlan, x: Array, cos: Array, sin: Array, xp: Namespace
) -> Iterator[tuple[Array, Array]]:
    """The first and the second features of each part, turned."""
    if plan.needs_cast:
        cos, sin = _backends.cast(cos, plan.compute, xp), _backends.cast(sin, plan.compute, xp)
    if plan.inverse:
        sin = -sin
    for first, second, columns in plan.parts:
        if plan.interleaved and not plan.small:
            # Compilers follow a reshape better than slices with steps.
            pairs = x[..., plan.start : plan.end]
            pairs = _backends.reshape(pairs, (*x.shape[:-1], cos.shape[-1], 2), xp)
            a, b = pairs[..., 0], pairs[..., 1]
        else:
            a, b = x[..., first], x[..., second]
        if plan.needs_cast:
            a, b = _backends.cast(a, plan.compute, xp), _backends.cast(b, plan.compute, xp)
        if len(plan.parts) > 1:
            yield plan.turn(a, b, cos[..., columns], sin[..., columns])
        else:
            yield plan.turn(a, b, cos, sin)


def interleave(a: Array, b: Array, xp: Namespace) -> Array:
    """a₀ b₀ a₁ b₁ …: (..., n) twice to (..., 2 n)."""
    pairs = xp.stack((a, b), axis=-1)
    return _backends.reshape(pairs, (*a.shape[:-1], 2 * a.shape[-1]), xp)


def replace_features(x: Array, parts: list[Array], start: int, end: int, xp: Namespace) -> Array:
    """``x`` with its features from ``start`` to ``end`` replaced by ``parts``, the others unchanged."""
    if start:
        parts = [x[..., :start], *parts]
    if end != x.shape[-1]:
        parts = [*parts, x[..., end:]]
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)
