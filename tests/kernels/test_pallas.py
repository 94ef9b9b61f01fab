"""A Pallas kernel with ``interpret=True``: blocks of tokens, tables for each row; and mistakes in it."""

from functools import partial

import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

import jax.numpy as jnp
from jax.experimental import pallas as pl

from rope_xp import RoPE
from rope_xp.testing import RotationError, assert_rotates

ROPE = RoPE(8, layout="half")
BLOCK = 4


def kernel(x, cos, sin, y, *, sign):
    first, second = jnp.split(x[...].astype(jnp.float32), 2, axis=-1)
    c, t = cos[...].astype(jnp.float32), sin[...].astype(jnp.float32) * sign
    made = jnp.concatenate([first * c - second * t, first * t + second * c], axis=-1)
    y[...] = made.astype(y.dtype)


@partial(jax.jit, static_argnames=("sign", "last", "rows"))
def rotate(x, cos, sin, sign=1.0, *, last=True, rows=True):
    batch, heads, seq, d = x.shape
    cos, sin = (jnp.broadcast_to(t, (batch, *t.shape[-2:])) for t in (cos, sin))
    blocks = seq // BLOCK + (1 if last and seq % BLOCK else 0)
    if not blocks:
        return x
    tokens = pl.BlockSpec((None, None, BLOCK, d), lambda b, h, s: (b, h, s, 0))
    table = pl.BlockSpec((None, BLOCK, d // 2), lambda b, h, s: (b if rows else 0, s, 0))
    call = pl.pallas_call(
        partial(kernel, sign=sign),
        grid=(batch, heads, blocks),
        in_specs=[tokens, table, table],
        out_specs=tokens,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        interpret=True,
    )
    made = call(x, cos, sin)
    return made if last else made.at[:, :, blocks * BLOCK :].set(x[:, :, blocks * BLOCK :])


@jax.custom_vjp
def differentiable(x, cos, sin):
    return rotate(x, cos, sin)


def backward(sign, saved, grad_out):
    return rotate(grad_out, *saved, sign), None, None


differentiable.defvjp(lambda x, c, s: (rotate(x, c, s), (c, s)), partial(backward, -1.0))
wrong = jax.custom_vjp(lambda x, c, s: rotate(x, c, s))
wrong.defvjp(lambda x, c, s: (rotate(x, c, s), (c, s)), partial(backward, 1.0))

OPTIONS = {"takes": "tables", "xp": jnp, "dtypes": ["float32"]}


def test_the_kernel_rotates():
    options = {**OPTIONS, "dtypes": ["float32", "bfloat16"]}
    assert_rotates(differentiable, ROPE, gradient="autodiff", rounds_once=True, **options)


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (partial(rotate, last=False), "Errors are only in token 16 of 17"),
        (partial(rotate, rows=False), "'an offset for each row, float32'.*rows 1 to 2 of 3"),
        (partial(rotate, sign=-1.0), "the other direction"),
    ],
)
def test_a_mistake_is_found(fn, text):
    with pytest.raises(RotationError, match=text) as found:
        assert_rotates(fn, ROPE, **OPTIONS)
    print(found.value)


def test_a_gradient_in_the_same_direction_is_found():
    with pytest.raises(RotationError, match="sin has the other sign in a gradient"):
        assert_rotates(wrong, ROPE, gradient="autodiff", **OPTIONS)
