"""Reference attention and the cache."""

import math

import numpy as np
import pytest
import reference

from rope_xp import RoPE
from rope_xp.attention import KVCache, attention, causal_mask
from rope_xp.positions import token_positions


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize(("q_len", "k_len"), [(5, 5), (2, 5)])
def test_against_the_oracle(lib, rng, causal, heads, kv_heads, q_len, k_len):
    q = rng.standard_normal((2, heads, q_len, 8)).astype(np.float32)
    k = rng.standard_normal((2, kv_heads, k_len, 8)).astype(np.float32)
    v = rng.standard_normal((2, kv_heads, k_len, 3)).astype(np.float32)
    got = lib.numpy(attention(lib.array(q), lib.array(k), lib.array(v), causal=causal))
    assert got.shape == (2, heads, q_len, 3)
    for batch in range(2):
        for head in range(heads):
            shared = head // (heads // kv_heads)
            wanted = reference.attention(
                q[batch, head].tolist(),
                k[batch, shared].tolist(),
                v[batch, shared].tolist(),
                causal=causal,
                scale=8**-0.5,
            )
            np.testing.assert_allclose(got[batch, head], wanted, rtol=0, atol=2e-6)


def test_bias_and_mask(lib, rng):
    q, k, v = rng.standard_normal((3, 2, 4, 8)).astype(np.float32)
    arrays = [lib.array(a) for a in (q, k, v)]
    mask = np.tril(np.ones((4, 4), bool))
    causal = lib.numpy(attention(*arrays, causal=True))
    masked = attention(*arrays, bias=lib.array(mask))
    added = attention(*arrays, bias=lib.array(np.where(mask, 0.0, -np.inf), "float32"))
    np.testing.assert_allclose(lib.numpy(masked), causal, atol=1e-6)
    np.testing.assert_allclose(lib.numpy(added), causal, atol=1e-6)
    shifted = attention(*arrays, bias=lib.array(np.full((2, 4, 4), 3.0), "float32"))
    plain = attention(*arrays)  # the same number on every score changes nothing
    np.testing.assert_allclose(lib.numpy(shifted), lib.numpy(plain), atol=1e-6)


def test_a_query_that_sees_nothing_gives_zeros(lib):
    one = lib.array(np.ones((3, 2)), "float32")
    got = attention(one, one[:1, :], one[:1, :], causal=True)  # only the last query has a key
    np.testing.assert_array_equal(lib.numpy(got), [[0, 0], [0, 0], [1, 1]])


def test_scale_and_dtype(lib):
    q = lib.array([[1.0, 0.0]], "float32")
    k = lib.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    got = attention(q, k, k, scale=math.log(3.0))
    np.testing.assert_allclose(lib.numpy(got), [[0.75, 0.25]], atol=1e-6)
    assert got.dtype == q.dtype


def test_causal_mask(lib):
    mask = causal_mask(lib.array([2, 0]), lib.array([0, 1, 2]))
    np.testing.assert_array_equal(lib.numpy(mask), [[1, 1, 1], [1, 0, 0]])
    rows = causal_mask(lib.array([[1], [2]]), lib.array([[0, 1, 2], [0, 1, 2]]))
    assert tuple(rows.shape) == (2, 1, 1, 3)
    np.testing.assert_array_equal(lib.numpy(rows)[:, 0, 0], [[1, 1, 0], [1, 1, 1]])


def cached(lib, rope, q, k, v, chunks, capacity):
    """Attention of the whole, fed to a cache in chunks."""
    cache = KVCache.empty(
        (*k.shape[:-2], capacity, k.shape[-1]),
        xp=lib.xp,
        dtype=lib.dtype("float32"),
        device=lib.device,
    )
    slots = token_positions(capacity, xp=lib.xp, device=lib.device)
    parts, start = [], 0
    for size in chunks:
        span = slice(start, start + size)
        at = token_positions(size, offset=cache.length, xp=lib.xp, device=lib.device)
        cos, sin = rope.cos_sin(at)
        rotated = rope.rotate(lib.array(k[:, span]), cos, sin)
        cache = cache.append(rotated, lib.array(v[:, span]))
        query = rope.rotate(lib.array(q[:, span]), cos, sin)
        part = attention(query, cache.k, cache.v, bias=causal_mask(at, slots))
        parts.append(lib.numpy(part))
        start += size
    return cache, np.concatenate(parts, axis=-2)


@pytest.mark.parametrize("chunks", [[6], [1] * 6, [3, 1, 2]])
def test_chunks_through_the_cache_are_the_whole(lib, rng, chunks):
    rope = RoPE(8, layout="half")
    q, k, v = rng.standard_normal((3, 2, 6, 8)).astype(np.float32)
    cache, got = cached(lib, rope, q, k, v, chunks, capacity=9)
    rotated = rope(lib.array(q), lib.array(k))
    whole = attention(*rotated, lib.array(v), causal=True)
    np.testing.assert_allclose(got, lib.numpy(whole), rtol=0, atol=2e-6)
    assert cache.length == 6
    assert not np.any(lib.numpy(cache.k)[:, 6:])


@pytest.mark.parametrize("keep", [0, 2])
def test_dropping_tokens_moves_the_later_ones(lib, rng, keep):
    """As if the dropped tokens had never been there, without rotating the kept ones again."""
    rope = RoPE(8, layout="interleaved", rotary_dim=4)
    q, k, v = rng.standard_normal((3, 2, 6, 8)).astype(np.float32)
    cache, _ = cached(lib, rope, q, k, v, [6], capacity=8)
    shorter = cache.drop(3, rope, keep=keep)
    left = [*range(keep), *range(keep + 3, 6)]
    direct, _ = cached(lib, rope, q[:, left], k[:, left], v[:, left], [3], capacity=8)
    assert shorter.length == direct.length == 3
    np.testing.assert_allclose(lib.numpy(shorter.k), lib.numpy(direct.k), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(lib.numpy(shorter.v), lib.numpy(direct.v))
