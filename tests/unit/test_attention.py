"""Reference attention, linear attention and the cache."""

import math
import pickle
import tracemalloc
from typing import Any, get_type_hints

import numpy as np
import pytest
import reference

from rope_xp import RoPE
from rope_xp.attention import KVCache, attention, causal_mask, linear_attention
from rope_xp.axes import Axial
from rope_xp.positions import token_positions
from rope_xp.scaling import DynamicNTK, Linear, YaRN


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
    plain = attention(*arrays)  # adding a constant to all scores changes nothing
    np.testing.assert_allclose(lib.numpy(shifted), lib.numpy(plain), atol=1e-6)


@pytest.mark.parametrize(("batch", "q_len", "k_len"), [(1, 0, 3), (0, 2, 3), (1, 2, 0)])
def test_scores_without_elements(lib, batch, q_len, k_len):
    """No queries and no rows have no result; without keys it is zero."""
    q = lib.array(np.ones((batch, 4, q_len, 8), np.float32))
    k, v = (lib.array(np.ones((batch, 2, k_len, n), np.float32)) for n in (8, 5))
    out = attention(q, k, v)
    assert out.dtype == q.dtype
    np.testing.assert_array_equal(lib.numpy(out), np.zeros((batch, 4, q_len, 5)))


@pytest.mark.eager
def test_a_query_that_sees_nothing_gives_zeros(lib):
    one = lib.array(np.ones((3, 2)), "float32")
    got = attention(one, one[:1, :], one[:1, :], causal=True)  # only the last query has a key
    np.testing.assert_array_equal(lib.numpy(got), [[0, 0], [0, 0], [1, 1]])


@pytest.mark.eager
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
    """Attention of a sequence that is appended to a cache in chunks."""
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
    """The result is as if the dropped tokens had never been in the cache."""
    rope = RoPE(8, layout="interleaved", rotary_dim=4)
    q, k, v = rng.standard_normal((3, 2, 6, 8)).astype(np.float32)
    cache, _ = cached(lib, rope, q, k, v, [6], capacity=8)
    shorter = cache.drop(3, rope, keep=keep)
    left = [*range(keep), *range(keep + 3, 6)]
    direct, _ = cached(lib, rope, q[:, left], k[:, left], v[:, left], [3], capacity=8)
    assert shorter.length == direct.length == 3
    np.testing.assert_allclose(lib.numpy(shorter.k), lib.numpy(direct.k), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(lib.numpy(shorter.v), lib.numpy(direct.v))


LENGTHS = [np.int8, np.int64, np.uint8, np.uint64, np.asarray, lambda n: np.asarray(n, "u1")]


@pytest.mark.parametrize("as_length", [int, *LENGTHS])
def test_integers_of_numpy_are_lengths(lib, as_length):
    """They are ints: checked against the capacity, and never negative."""
    rope = RoPE(8, layout="half")
    slots, one = lib.array(np.zeros((1, 4, 8))), lib.array(np.ones((1, 1, 8)))
    cache = KVCache(slots, slots, as_length(3))
    full = cache.append(one, one)
    assert (type(full.length), full.length) == (int, 4)
    np.testing.assert_array_equal(lib.numpy(full.k)[0, :, 0], [0, 0, 0, 1])
    shorter = cache.drop(2, rope)
    assert (type(shorter.length), shorter.length) == (int, 1)
    for call in (
        lambda: full.append(one, one),
        lambda: KVCache(slots, slots, as_length(4)).append(one, one),
        lambda: cache.drop(4, rope),
        lambda: KVCache(slots, slots, as_length(5)).append(one, one),
    ):
        with pytest.raises(ValueError, match=r"`k` must fit|`n` and `keep` must be|`length` must"):
            call()


@pytest.mark.parametrize("length", [0, 2, 4])
def test_no_tokens_append_nothing(lib, length):
    slots, none = lib.array(np.ones((1, 4, 8))), lib.array(np.zeros((1, 0, 8)))
    cache = KVCache(slots, slots, length)
    again = cache.append(none, none)
    assert again.length == length
    np.testing.assert_array_equal(lib.numpy(again.k), lib.numpy(slots))
    assert cache.drop(0, RoPE(8, layout="half")).length == length
    assert KVCache(none, none).append(none, none).length == 0


@pytest.mark.eager
def test_a_length_in_an_array_is_checked_where_its_value_is_at_hand(lib):
    if lib.name not in ("torch", "jax"):
        pytest.skip(f"values of {lib.name} are ints, or not at hand")
    slots, one = lib.array(np.zeros((1, 4, 8))), lib.array(np.ones((1, 1, 8)))
    cache = KVCache(slots, slots, lib.array(3, "int32"))
    assert int(cache.append(one, one).length) == 4
    for call in (
        lambda: cache.append(one, one).append(one, one),
        lambda: cache.drop(4, RoPE(8, layout="half")),
        lambda: cache._replace(length=lib.array(-1, "int32")).append(one, one),
    ):
        with pytest.raises(ValueError, match=r"`k` must fit|`n` and `keep` must be|`length` must"):
            call()


def test_the_cache_says_that_it_comes_from_the_package():
    assert KVCache.__module__ == attention.__module__ == "rope_xp.attention"
    hints = get_type_hints(KVCache)
    assert (*hints,) == KVCache._fields
    assert hints["length"] == int | Any
    cache = KVCache.empty((1, 2, 4))._replace(length=2).drop(1, RoPE(4, layout="half"))
    again = pickle.loads(pickle.dumps(cache))
    assert type(again) is KVCache
    assert (again.length, again.turn) == (1, cache.turn)


# Below, at and above a chunk of 64; fewer queries than keys, and more.
LENGTHS = [
    ("half", 5, 5),
    ("interleaved", 2, 5),
    ("half", 5, 2),
    ("interleaved", 63, 63),
    ("half", 64, 64),
    ("interleaved", 65, 65),
    ("half", 130, 130),
    ("interleaved", 70, 131),
    ("half", 1, 66),
]


def linear_oracle(q, k, v, rope=None, causal=False, at=None, phi=reference.elu_plus_one):
    """Each head of (heads, seq, width) with the key head that it shares."""
    if q.ndim > 2:
        group = q.shape[0] // k.shape[0]
        return np.stack(
            [
                linear_oracle(row, k[i // group], v[i // group], rope, causal, at, phi)
                for i, row in enumerate(q)
            ]
        )
    q_len, k_len = len(q), len(k)
    q_at, k_at = at or (range(k_len - q_len, k_len), range(k_len))
    rows = reference.linear_attention(
        q.tolist(),
        k.tolist(),
        v.tolist(),
        causal=causal,
        q_positions=q_at,
        k_positions=k_at,
        frequencies=reference.inv_freq(rope.rotary_dim, rope.base) if rope else [],
        layout=rope.layout if rope else "half",
        phi=phi,
    )
    return np.asarray(rows).reshape(q_len, v.shape[-1])


def tokens(rng, q_len, k_len, heads=(), kv_heads=None, dim=8, v_dim=3):
    kv_heads = heads if kv_heads is None else kv_heads
    shapes = ((*heads, q_len, dim), (*kv_heads, k_len, dim), (*kv_heads, k_len, v_dim))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("layout", "q_len", "k_len"), LENGTHS)
def test_linear_against_the_quadratic_oracle(lib, rng, causal, layout, q_len, k_len):
    rope = RoPE(8, layout=layout)
    q, k, v = tokens(rng, q_len, k_len)
    got = linear_attention(*map(lib.array, (q, k, v)), rope=rope, causal=causal)
    wanted = linear_oracle(q, k, v, rope, causal)
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_linear_with_heads(lib, rng, causal, heads, kv_heads):
    rope = RoPE(8, layout="half", base=100.0)
    q, k, v = tokens(rng, 2, 70, (2, heads), (2, kv_heads))
    got = lib.numpy(linear_attention(*map(lib.array, (q, k, v)), rope=rope, causal=causal))
    for batch in range(2):
        wanted = linear_oracle(q[batch], k[batch], v[batch], rope, causal)
        np.testing.assert_allclose(got[batch], wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_without_a_rotation(lib, rng, causal):
    """No encoding and equal positions give the same, and weights that sum to 1."""
    q, k, v = tokens(rng, 70, 70)
    arrays = [lib.array(a) for a in (q, k, v)]
    plain = lib.numpy(linear_attention(*arrays, causal=causal))
    np.testing.assert_allclose(plain, linear_oracle(q, k, v, causal=causal), rtol=0, atol=2e-6)
    here = lib.array(np.full(70, 7))
    rope = RoPE(8, layout="half")
    same = linear_attention(*arrays, rope=rope, causal=causal, q_positions=here, k_positions=here)
    np.testing.assert_allclose(lib.numpy(same), plain, rtol=0, atol=2e-6)
    ones = lib.array(np.ones((70, 1)), "float32")
    total = linear_attention(*arrays[:2], ones, causal=causal)
    np.testing.assert_allclose(lib.numpy(total), 1, rtol=0, atol=1e-6)


def test_linear_with_a_length_for_each_axis(lib, rng):
    rope = RoPE(12, layout="half", axes=Axial(3), scaling=(DynamicNTK(2.0, 8), Linear(2.0), None))
    q, k, v = rng.standard_normal((3, 7, 12)).astype(np.float32)
    at, seq_len = rng.integers(0, 40, (3, 7)), (40, 9, None)
    here = {"q_positions": lib.array(at), "k_positions": lib.array(at)}
    got = linear_attention(*map(lib.array, (q, k, v)), rope=rope, seq_len=seq_len, **here)
    q, k = (np.where(x > 0, x + 1, np.exp(x)).astype(np.float64) for x in (q, k))
    turned = [rope(x, positions=at, seq_len=seq_len) for x in (q, k)]
    wanted = turned[0] @ turned[1].T @ v / (q @ k.T).sum(-1, keepdims=True)
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_depends_on_distances_only(lib, rng, causal):
    rope = RoPE(8, layout="interleaved")
    q, k, v = tokens(rng, 3, 66, (2,))
    arrays = [lib.array(a) for a in (q, k, v)]
    wanted = lib.numpy(linear_attention(*arrays, rope=rope, causal=causal))
    for start in (0, -5, 10**6):
        at = {
            "q_positions": lib.array(np.arange(63, 66) + start),
            "k_positions": lib.array(np.arange(66) + start),
        }
        moved = linear_attention(*arrays, rope=rope, causal=causal, **at)
        np.testing.assert_allclose(lib.numpy(moved), wanted, rtol=0, atol=2e-6)
    at["k_positions"] = at["k_positions"] + 1
    moved = linear_attention(*arrays, rope=rope, causal=causal, **at)
    assert np.abs(lib.numpy(moved) - wanted).max() > 1e-3


def test_linear_with_positions_of_each_row(lib, rng):
    rope = RoPE(8, layout="half")
    q, k, v = tokens(rng, 2, 4, (2, 2))
    q_at, k_at = [[3, 9], [5, 5]], [[0, 3, 9, 1], [7, 0, 2, 5]]
    got = linear_attention(
        *map(lib.array, (q, k, v)),
        rope=rope,
        q_positions=lib.array(q_at),
        k_positions=lib.array(k_at),
    )
    for batch in range(2):
        wanted = linear_oracle(q[batch], k[batch], v[batch], rope, at=(q_at[batch], k_at[batch]))
        np.testing.assert_allclose(lib.numpy(got)[batch], wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_with_a_feature_map(lib, rng, causal):
    """Also one that changes the width: head_dim of the encoding is the width of the features."""
    q, k, v = tokens(rng, 66, 66)
    arrays = [lib.array(a) for a in (q, k, v)]
    rope = RoPE(8, layout="half")
    got = linear_attention(*arrays, rope=rope, causal=causal, feature_map=lambda x: x * x)
    wanted = linear_oracle(q, k, v, rope, causal, phi=lambda x: x * x)
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=1e-5)
    wide = linear_attention(
        *arrays,
        rope=RoPE(16, layout="half"),
        causal=causal,
        feature_map=lambda x: (
            lib.xp.concat((x * x, lib.xp.zeros_like(x)), axis=-1)
            if hasattr(lib.xp, "concat")
            else lib.xp.concatenate((x * x, lib.xp.zeros_like(x)), axis=-1)
        ),
    )
    assert tuple(wide.shape) == (66, 3)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_zeros_where_the_denominator_is_zero(lib, causal):
    """q and k have no feature in common, but R(1) q and k have."""
    q = lib.array([[1.0, 0.0], [1.0, 0.0]], "float32")
    k = lib.array([[0.0, 1.0], [0.0, 1.0]], "float32")
    rope = RoPE(2, layout="half")
    got = linear_attention(q, k, q, rope=rope, causal=causal, feature_map=lambda x: x)
    np.testing.assert_array_equal(lib.numpy(got), np.zeros((2, 2)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("q_len", "k_len"), [(0, 0), (0, 3), (3, 0)])
def test_linear_of_empty_sequences(lib, causal, q_len, k_len):
    q, k = (
        lib.array(np.ones((2, q_len, 4)), "float32"),
        lib.array(np.ones((2, k_len, 4)), "float32"),
    )
    got = linear_attention(q, k, k, rope=RoPE(4, layout="half"), causal=causal)
    np.testing.assert_array_equal(lib.numpy(got), np.zeros((2, q_len, 4)))


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_linear_computes_in_float32_at_least(lib, rng, dtype):
    if dtype in {"strict": ("float16", "bfloat16"), "dask": ("bfloat16",)}.get(lib.name, ()):
        pytest.skip(f"{lib.name} has no {dtype}")
    arrays = [lib.array(a, dtype) for a in tokens(rng, 66, 66)]
    got = linear_attention(*arrays, rope=RoPE(8, layout="half"), causal=True)
    assert got.dtype == arrays[0].dtype
    wanted = linear_oracle(*map(lib.numpy, arrays), RoPE(8, layout="half"), causal=True)
    precise = dtype == "float64" and lib.has_float64
    half = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0.0)  # rounding of the result
    tolerance = 1e-13 if precise else 2e-6
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=half, atol=tolerance)


def test_linear_leaves_the_attention_factor_out(lib, rng):
    """It would only scale the output: R_m and R_m are the identity where m = n."""
    yarn = YaRN(factor=4.0, original_max_position_embeddings=32)
    rope = RoPE(8, layout="half", scaling=yarn)
    assert rope.frequencies().attention_factor > 1.1
    q, k, v = (lib.array(a) for a in tokens(rng, 1, 1))
    got = linear_attention(q, k, v, rope=rope)
    np.testing.assert_allclose(lib.numpy(got), lib.numpy(v), rtol=1e-6)


def test_linear_at_a_length_that_the_schedule_depends_on(lib, rng):
    schedule = DynamicNTK(factor=2.0, max_position_embeddings=8)
    rope = RoPE(8, layout="half", scaling=schedule)
    for q_len in (5, 1):
        q, k, v = tokens(rng, q_len, 5)
        for seq_len in (None, 64):
            wanted = reference.linear_attention(
                q.tolist(),
                k.tolist(),
                v.tolist(),
                causal=False,
                q_positions=range(5 - q_len, 5),
                k_positions=range(5),
                frequencies=rope.frequencies(seq_len).inv_freq,
                layout="half",
                phi=reference.elu_plus_one,
            )
            arrays = [lib.array(a) for a in (q, k, v)]
            given = {
                "q_positions": lib.array(np.arange(5 - q_len, 5)),
                "k_positions": lib.array(np.arange(5)),
            }
            for at in ({}, given):
                got = linear_attention(*arrays, rope=rope, seq_len=seq_len, **at)
                np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_memory(causal, rng):
    """4096² scores would be 64 MiB; `attention` shows that tracemalloc sees NumPy's memory."""
    q, k, v = tokens(rng, 4096, 4096)

    def peak(function, **options):
        tracemalloc.start()
        function(q, k, v, causal=causal, **options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(attention) > 4096**2 * 4
    assert peak(linear_attention, rope=RoPE(8, layout="half")) < 4096**2 * 4 / 8
