"""Caches in JAX: in place where they are donated to a program, and gradients through them."""

from functools import partial

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp.attention import KVCache, WindowCache, attention

jax = pytest.importorskip("jax", reason="jax is not installed")
pytestmark = pytest.mark.backend("jax")
jnp = jax.numpy

ROPE = RoPE(8, layout="half")


def memory(cache):
    return cache[0].unsafe_buffer_pointer(), cache.v.unsafe_buffer_pointer()


@pytest.mark.parametrize("length", [0, 2, [1, 3]])
def test_a_donated_cache_is_written_in_place(length):
    @partial(jax.jit, donate_argnums=0)
    def step(cache, x):
        return cache.append(x, 2 * x)

    cache = KVCache.empty((2, 2, 7, 8), xp=jnp)._replace(length=jnp.asarray(length))
    cache = step(cache, jnp.ones((2, 2, 1, 8)))
    before = memory(cache)
    for value in (2, 3):
        cache = step(cache, jnp.full((2, 2, 1, 8), float(value)))
    assert memory(cache) == before
    for row, n in enumerate(np.broadcast_to(length, 2)):
        wanted = np.zeros(7)
        wanted[n : n + 3] = 1, 2, 3
        np.testing.assert_array_equal(cache.k[row, 1, :, 2], wanted)
        np.testing.assert_array_equal(cache.v[row, 1, :, 2], 2 * wanted)


def test_a_donated_stream_is_written_in_place():
    @partial(jax.jit, donate_argnums=0)
    def step(cache, x):
        return cache.append(ROPE(x, offset=cache.length), x)

    cache = WindowCache.empty((2, 2, 4, 8), ROPE, sinks=1, xp=jnp)
    slow = WindowCache.empty((2, 2, 4, 8), ROPE, sinks=1)
    before = memory(cache := step(cache, jnp.zeros((2, 2, 1, 8))))
    slow = slow.append(np.zeros((2, 2, 1, 8)), np.zeros((2, 2, 1, 8)))
    x = np.random.default_rng(0).standard_normal((6, 2, 2, 1, 8)).astype(np.float32)
    for each in x:
        cache = step(cache, jnp.asarray(each))
        slow = slow.append(ROPE(each, offset=slow.length), each)
    assert memory(cache) == before
    np.testing.assert_allclose(cache.k, slow.k, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(cache.positions, slow.positions)


def test_a_loop_in_a_program():
    """The structure stays: a scan appends, and windows move once they have moved before."""

    def step(cache, x):
        cache = cache.drop(1, ROPE, keep=1).append(x, x)
        return cache, cache.k[0, 0, :, 0]

    x = jnp.ones((5, 1, 1, 1, 8))
    full = KVCache.empty((1, 1, 4, 8), xp=jnp).append(*[jnp.ones((1, 1, 4, 8))] * 2)
    full = full._replace(length=jnp.asarray(4)).drop(0, ROPE)
    cache, seen = jax.lax.scan(step, full, x)
    assert (int(cache.length), seen.shape) == (4, (5, 4))


def test_tokens_beyond_the_capacity_overwrite_nothing():
    cache = KVCache.empty((2, 1, 4, 8), xp=jnp)
    cache = jax.jit(KVCache.append)(cache, *[jnp.ones((2, 1, 3, 8))] * 2)
    for length in (jnp.asarray(3), jnp.asarray([3, 1])):
        x = jnp.full((2, 1, 2, 8), 2.0)
        after = jax.jit(KVCache.append)(cache._replace(length=length), x, x)
        np.testing.assert_array_equal(after.k[0, 0, :, 0], [1, 1, 1, 2])
        with pytest.raises(ValueError, match=r"`length` must be in \[0, 4\], the capacity, got 5"):
            after.append(x, x)


def test_gradients_go_through_the_cache():
    rng = np.random.default_rng(0)
    k, v, x = (jnp.asarray(a) for a in rng.standard_normal((3, 2, 1, 4, 8)).astype(np.float32))
    q, x = x[:, :, :1], x[:, :, 1:3]

    def loss(k, v, x, length):
        cache = KVCache(k, v, length).append(x, 2 * x)
        return jnp.sum(attention(q, cache.k, cache.v) ** 2)

    def whole(k, v, x, length):
        at = np.asarray([1, 0])
        k, v = (
            jnp.stack(
                [
                    jnp.concat((a[i, :, :n], b[i], a[i, :, n + 2 :]), axis=-2)
                    for i, n in enumerate(at)
                ]
            )
            for a, b in ((k, x), (v, 2 * x))
        )
        return jnp.sum(attention(q, k, v) ** 2)

    length = jnp.asarray([1, 0])
    got = jax.jit(jax.grad(loss, (0, 1, 2)))(k, v, x, length)
    for one, other in zip(got, jax.grad(whole, (0, 1, 2))(k, v, x, length), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
