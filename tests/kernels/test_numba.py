"""A kernel in numba that takes positions and makes its own tables; and mistakes in it."""

import math

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp.testing import RotationError, assert_rotates, check

numba = pytest.importorskip("numba", reason="numba is not installed")

ROPE = RoPE(8, layout="interleaved", base=500.0)
INV_FREQ = ROPE.frequencies().inv_freq


@numba.njit
def kernel(x, positions, inv_freq, direction, y):
    batch, heads, seq, head_dim = x.shape
    for b in range(batch):
        for h in range(heads):
            for s in range(seq):
                for i in range(head_dim // 2):
                    angle = positions[b % positions.shape[0], s] * inv_freq[i] * direction
                    c, t = math.cos(angle), math.sin(angle)
                    first, second = x[b, h, s, 2 * i], x[b, h, s, 2 * i + 1]
                    y[b, h, s, 2 * i] = first * c - second * t
                    y[b, h, s, 2 * i + 1] = first * t + second * c


def rotate(x, positions, direction=1.0, inv_freq=INV_FREQ):
    positions = np.atleast_2d(positions)
    y = np.empty_like(x)
    wide = x.astype(np.float32) if x.dtype == np.float16 else x  # numba has no float16
    made = np.empty(x.shape, dtype=wide.dtype)
    kernel(wide, positions, inv_freq, direction, made)
    y[...] = made
    return y


def undo(grad_out, positions):
    return rotate(grad_out, positions, -1.0)


def test_the_kernel_rotates():
    assert_rotates(rotate, ROPE, gradient=undo, rounds_once=True)
    check(rotate, ROPE)


def test_tokens_before_heads():
    def swapped(x, positions):
        return np.swapaxes(rotate(np.swapaxes(x, 1, 2), positions), 1, 2)

    assert_rotates(swapped, ROPE, seq_axis=-3)
    with pytest.raises(RotationError, match="row"):
        assert_rotates(rotate, ROPE, seq_axis=-3, rows=True)


MISTAKES = {
    "the first row's positions": (
        lambda x, p: rotate(x, p if p.ndim == 1 else p[:1]),
        undo,
        "'an offset for each row, float32'.*Errors are only in rows 1 to 2 of 3",
    ),
    "angles in float32": (
        lambda x, p: rotate(x, p.astype(np.float32), np.float32(1), INV_FREQ.astype(np.float32)),
        undo,
        "angles rounded to float32",
    ),
    "a gradient in the same direction": (
        rotate,
        rotate,
        "`gradient` is not .*sin has the other sign in a gradient",
    ),
    "x in float16": (
        lambda x, p: rotate(x.astype(np.float16), p).astype(x.dtype),
        undo,
        "those of arithmetic in float16",
    ),
    "float16 that float32 comes out of": (
        lambda x, p: rotate(x.astype(np.promote_types(x.dtype, np.float32)), p),
        undo,
        "of dtype float32 for x of dtype float16",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name):
    fn, gradient, text = MISTAKES[name]
    with pytest.raises(RotationError, match=text) as found:
        assert_rotates(fn, ROPE, gradient=gradient)
    print(found.value)
