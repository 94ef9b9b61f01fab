"""Two-range schemes: against their distances in plain Python, and through attention and a cache."""

import math

import numpy as np
import pytest
import reference

from rope_xp import RoPE
from rope_xp.attention import KVCache, attention, causal_mask, rotate_ranges
from rope_xp.positions import DualChunk, ReRoPE, SelfExtend, packed_positions
from rope_xp.scaling import YaRN

# -- the distances of the papers, for each query m and key n ≤ m ------------------------------------


def distance(scheme, m, n):
    d = m - n
    if isinstance(scheme, SelfExtend):  # Jin et al. 2024: floors, moved to where the window ends
        group, window = scheme.group_size, scheme.window
        return d if d < window else m // group - n // group + window - window // group
    if isinstance(scheme, ReRoPE):  # Su 2023, eq. 4 and 3
        window, factor = scheme.window, scheme.factor or math.inf
        return d if d < window else window + (d - window) / factor
    # An et al. 2024, eq. 2 to 8, with c − 1 = chunk_size and w − 1 = local_size.
    longest, length = scheme.chunk_size, scheme.chunk_size - scheme.local_size
    apart = m // length - n // length
    if apart == 0:
        return m % length - n % length
    if apart == 1:
        return min(m % length + length, longest) - n % length
    return min(2 * length - 1, longest) - n % length


SCHEMES = [
    SelfExtend(2, 4),
    SelfExtend(3, 5),  # the window is no multiple of the group
    SelfExtend(8, 3),
    SelfExtend(1, 4),
    ReRoPE(4),
    ReRoPE(1),
    ReRoPE(5, 2.0),
    ReRoPE(3, 8),
    ReRoPE(4, 1),
    DualChunk(9, 3),
    DualChunk(5, 0),
    DualChunk(6, 5),  # chunks of one token
    DualChunk(7, 2),
    DualChunk(64, 8),  # all tokens in one chunk
]
LENGTH = 23


def table(lib, scheme, q_positions, k_positions):
    """The distances that the ranges give, (..., q_len, k_len)."""
    found = None
    for q, k, where in scheme(lib.array(q_positions), lib.array(k_positions)):
        apart = lib.numpy(q)[..., :, None] - lib.numpy(k)[..., None, :]
        if where is None:
            found = apart.astype(np.float64)
        else:
            mask = lib.numpy(where)
            found = np.where(mask if mask.ndim == 2 else mask[:, 0], apart, found)
    return found


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_distances(lib, scheme, dtype):
    tokens = np.arange(LENGTH, dtype=dtype)
    got = table(lib, scheme, tokens, tokens)
    for m in range(LENGTH):
        for n in range(m + 1):
            assert got[m, n] == pytest.approx(distance(scheme, m, n), abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_distances_with_positions_of_each_row(lib, scheme):
    queries, keys = np.asarray([[20, 21], [3, 9]]), np.arange(22)
    got = table(lib, scheme, queries, keys)
    for row in range(2):
        for i, m in enumerate(queries[row]):
            wanted = [distance(scheme, m, n) for n in range(m + 1)]
            np.testing.assert_allclose(got[row, i, : m + 1], wanted, atol=1e-6)


def test_no_distance_is_longer_than_in_training():
    """What these schemes are for: a context of 4,096 read up to 16,384, and to any length."""
    lengths = {
        SelfExtend(4, 1024): 16384 - 3 * 1024,
        ReRoPE(1024): 60000,
        DualChunk(4095, 255): 60000,
    }
    for scheme, length in lengths.items():
        tokens = range(0, length, 501)
        longest = max(
            distance(scheme, m, n) for m in (*tokens, length - 1) for n in tokens if n <= m
        )
        assert longest <= 4095


# -- figures and matrices that are printed ----------------------------------------------------------


def lower_triangle(text):
    """Rows of a printed matrix, each up to its diagonal."""
    return [[*map(int, row.split())] for row in text.strip().splitlines()]


@pytest.mark.parametrize(
    ("scheme", "matrix"),
    [
        pytest.param(
            SelfExtend(2, 4),
            """
            0
            1 0
            2 1 0
            3 2 1 0
            4 3 2 1 0
            4 4 3 2 1 0
            5 5 4 3 2 1 0
            5 5 4 4 3 2 1 0
            6 6 5 5 4 3 2 1 0
            6 6 5 5 4 4 3 2 1 0
            """,
            id="LongLM, img/self_ext.jpg: SelfExtend",
        ),
        pytest.param(
            DualChunk(9, 3),
            """
            0
            1 0
            2 1 0
            3 2 1 0
            4 3 2 1 0
            5 4 3 2 1 0
            6 5 4 3 2 1 0
            7 6 5 4 3 2 1 0
            8 7 6 5 4 3 2 1 0
            9 8 7 6 5 4 3 2 1 0
            9 8 7 6 5 4 4 3 2 1 0
            9 8 7 6 5 4 5 4 3 2 1 0
            """,
            id="dual chunk attention, figure 2c: s = 6, c = 10, w = 4",
        ),
    ],
)
def test_printed_matrices(scheme, matrix):
    rows = lower_triangle(matrix)
    tokens = np.arange(len(rows))
    got = table(NUMPY, scheme, tokens, tokens)
    assert [row[: m + 1].tolist() for m, row in enumerate(got)] == rows


def test_printed_positions_of_dual_chunks():
    """Section 3 of the paper: those of keys, and of queries within, in the next and in later chunks."""
    tokens = np.arange(12)
    within, successive, inter = DualChunk(9, 3)(tokens, tokens)
    assert within.k_positions.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert within.q_positions.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert successive.q_positions.tolist() == [6, 7, 8, 9, 9, 9] * 2
    assert inter.q_positions.tolist() == [9] * 12


def test_matrices_of_rerope():
    """Equations of the article, for w = 3 and k = 2: …, w − 1, then w, w, … or w, w + 1/k, w + 2/k, …"""
    tokens = np.arange(7)
    assert table(NUMPY, ReRoPE(3), tokens, tokens)[6].tolist() == [3, 3, 3, 3, 2, 1, 0]
    leaky = table(NUMPY, ReRoPE(3, 2), tokens, tokens)
    assert leaky[6].tolist() == [4.5, 4, 3.5, 3, 2, 1, 0]


def test_scores_of_dual_chunks_grow_with_the_length():
    """vLLM 0.10: clip(1 + 0.1 ln(length / original), 1), on queries and on keys."""
    scheme = DualChunk(262144, 8192, 262144)
    assert [scheme.softmax_factor(n) for n in (1, 262144)] == [1, 1]
    assert scheme.softmax_factor(1010000) == pytest.approx(
        (1 + 0.1 * math.log(1010000 / 2**18)) ** 2
    )
    assert DualChunk(262144, 8192).softmax_factor(10**6) == 1


class NUMPY:
    array = staticmethod(np.asarray)
    numpy = staticmethod(np.asarray)


# -- attention --------------------------------------------------------------------------------------


def attend(scheme, rope, q, k, v, queries, *, causal=True, factor=1.0):
    """One head, query by query and key by key: the score at the scheme's distance."""
    frequencies = rope.frequencies().inv_freq
    rows = []
    for query, m in zip(q, queries, strict=True):
        keys = [n for n in range(len(k)) if n <= m or not causal]
        products = [
            factor
            * reference.score(query, k[n], distance(scheme, m, n), 0, frequencies, rope.layout)
            for n in keys
        ]
        weights = np.exp(np.asarray(products) * len(query) ** -0.5)
        rows.append(weights @ v[keys] / weights.sum())
    return np.stack(rows)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s in SCHEMES[1::2]], ids=repr)
def test_attention(lib, rng, scheme, heads, kv_heads):
    rope = RoPE(8, layout="interleaved", base=50.0)
    tokens = np.arange(LENGTH)
    q = rng.standard_normal((1, heads, LENGTH, 8)).astype(np.float32)
    k, v = (rng.standard_normal((1, kv_heads, LENGTH, n)).astype(np.float32) for n in (8, 3))
    ranges = scheme(lib.array(tokens), lib.array(tokens))
    rotated_q, rotated_k, others = rotate_ranges(rope, lib.array(q), lib.array(k), ranges)
    got = attention(rotated_q, rotated_k, lib.array(v), ranges=others, causal=True)
    assert got.dtype == rotated_q.dtype
    for head in range(heads):
        shared = head // (heads // kv_heads)
        wanted = attend(scheme, rope, q[0, head], k[0, shared], v[0, shared], tokens)
        np.testing.assert_allclose(lib.numpy(got)[0, head], wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("scheme", [SelfExtend(1, 4), ReRoPE(4, 1), DualChunk(64, 8)], ids=repr)
def test_parameters_that_change_nothing(lib, rng, scheme):
    rope = RoPE(8, layout="half", scaling=YaRN(4.0, 32))
    x = lib.array(rng.standard_normal((1, 2, 12, 8)).astype(np.float32))
    tokens = lib.array(np.arange(12))
    q, k, ranges = rotate_ranges(rope, x, x, scheme(tokens, tokens))
    got = attention(q, k, x, ranges=ranges, causal=True)
    plain = rope(x, positions=tokens)
    wanted = attention(plain, plain, x, causal=True)
    np.testing.assert_allclose(lib.numpy(got), lib.numpy(wanted), rtol=0, atol=2e-6)


def test_scale_factors_and_the_attention_factor_are_those_of_all_scores(lib, rng):
    rope = RoPE(8, layout="half", scaling=YaRN(4.0, 4))
    tokens = np.arange(9)
    q, k, v = rng.standard_normal((3, 1, 2, 9, 8)).astype(np.float32)
    scheme, factors = ReRoPE(3), np.full(9, 1.5, np.float32)
    ranges = scheme(lib.array(tokens), lib.array(tokens))
    q_there, k_there, others = rotate_ranges(rope, lib.array(q), lib.array(k), ranges)
    got = attention(
        q_there,
        k_there,
        lib.array(v),
        ranges=others,
        causal=True,
        scale=2 * 8**-0.5,
        query_scale=lib.array(factors),
    )
    factor = 3 * rope.frequencies().attention_factor ** 2
    for head in range(2):
        wanted = attend(scheme, rope, q[0, head], k[0, head], v[0, head], tokens, factor=factor)
        np.testing.assert_allclose(lib.numpy(got)[0, head], wanted, rtol=0, atol=5e-6)


@pytest.mark.parametrize("scheme", [SelfExtend(2, 3), ReRoPE(3, 2), DualChunk(4, 1)], ids=repr)
def test_packed_documents_are_each_alone(lib, rng, scheme):
    """Positions begin anew, so the distances do; a mask keeps documents apart."""
    rope = RoPE(8, layout="half")
    starts = [0, 9, 16]
    positions = lib.array(packed_positions(np.asarray(starts), 16))
    documents = np.searchsorted(starts, np.arange(16), side="right")
    q, k, v = rng.standard_normal((3, 1, 2, 16, 8)).astype(np.float32)
    same = lib.array(documents[:, None] == documents)
    ranges = scheme(positions, positions)
    there = rotate_ranges(rope, lib.array(q), lib.array(k), ranges)
    got = lib.numpy(attention(*there[:2], lib.array(v), ranges=there[2], bias=same, causal=True))
    for first, last in zip(starts, starts[1:], strict=False):
        part = slice(first, last)
        wanted = attend(
            scheme, rope, q[0, 1, part], k[0, 1, part], v[0, 1, part], range(last - first)
        )
        np.testing.assert_allclose(got[0, 1, part], wanted, rtol=0, atol=3e-6)


def test_rows_with_positions_of_their_own(lib, rng):
    """A decode step of two rows with as many tokens in the cache as each has."""
    rope, scheme = RoPE(8, layout="half"), DualChunk(6, 2)
    q = rng.standard_normal((2, 2, 1, 8)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, 2, 15, 8)).astype(np.float32)
    at = np.asarray([[14], [7]])
    slots = lib.array(np.arange(15))
    there = rotate_ranges(rope, lib.array(q), lib.array(k), scheme(lib.array(at), slots))
    mask = causal_mask(lib.array(at), slots)
    got = lib.numpy(attention(*there[:2], lib.array(v), ranges=there[2], bias=mask))
    for row in range(2):
        wanted = attend(scheme, rope, q[row, 0], k[row, 0], v[row, 0], at[row])
        np.testing.assert_allclose(got[row, 0], wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    "scheme", [SelfExtend(2, 3), ReRoPE(3), ReRoPE(3, 4), DualChunk(5, 2)], ids=repr
)
def test_steps_through_a_cache_are_the_whole(lib, rng, scheme):
    """Keys that are not rotated are kept; those of the cache are rotated when they are read."""
    rope = RoPE(8, layout="half")
    q, k, v = rng.standard_normal((3, 2, 12, 8)).astype(np.float32)
    cache = KVCache.empty((2, 14, 8), xp=lib.xp, dtype=lib.dtype("float32"), device=lib.device)
    slots, got = lib.array(np.arange(14)), []
    for first, last in ((0, 7), (7, 8), (8, 12)):
        part = np.s_[:, first:last]
        cache = cache.append(lib.array(k[part]), lib.array(v[part]))
        at = lib.array(np.arange(first, last))
        there = rotate_ranges(rope, lib.array(q[part]), cache.k, scheme(at, slots))
        mask = causal_mask(at, slots)
        out = attention(*there[:2], cache.v, ranges=there[2], bias=mask)
        got.append(lib.numpy(out))
    for head in range(2):
        wanted = attend(scheme, rope, q[head], k[head], v[head], range(12))
        found = np.concatenate(got, axis=1)[head]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


def test_keys_of_dual_chunks_are_rotated_once(lib):
    rope, x = RoPE(8, layout="half"), lib.array(np.ones((1, 9, 8), np.float32))
    tokens = np.arange(9)
    ranges = DualChunk(5, 2)(tokens, tokens)
    _, k, others = rotate_ranges(rope, x, x, ranges)
    for _, key, _ in others:
        np.testing.assert_array_equal(lib.numpy(key), lib.numpy(k))


def test_half_precision(lib, rng):
    if lib.name in ("strict", "dask"):
        pytest.skip("float16 is not in the standard")
    rope, tokens = RoPE(8, layout="half"), lib.array(np.arange(12))
    x = rng.standard_normal((2, 12, 8)).astype(np.float16).astype(np.float32)
    here = lib.array(x, "float16")
    q, k, ranges = rotate_ranges(rope, here, here, SelfExtend(2, 4)(tokens, tokens))
    got = attention(q, k, here, ranges=ranges, causal=True)
    assert got.dtype == lib.dtype("float16")
    wanted = attend(SelfExtend(2, 4), rope, *[x[0].astype(np.float64)] * 3, range(12))
    np.testing.assert_allclose(lib.numpy(got)[0], wanted, rtol=0, atol=4e-3)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16"])
def test_small_dtypes_do_not_wrap(lib, kind):
    """What positions are moved by need not fit into their dtype."""
    tokens = np.asarray([0, 100, 127])
    for scheme in (SelfExtend(2, 1000), ReRoPE(1000), DualChunk(3000, 7), SelfExtend(3, 40)):
        got = table(lib, scheme, tokens.astype(kind), tokens.astype(kind))
        for i, m in enumerate(tokens.tolist()):
            wanted = [distance(scheme, m, n) for n in tokens[: i + 1].tolist()]
            assert got[i, : i + 1].tolist() == wanted


@pytest.mark.parametrize(
    "scheme",
    [SelfExtend(7, 2**31 - 1), SelfExtend(2, 5), ReRoPE(2**31 - 1), DualChunk(2**31 - 1, 9)],
)
def test_the_largest_positions(lib, scheme):
    tokens = np.asarray([0, 1, 2**30, 2**31 - 2, 2**31 - 1])
    first, *others = scheme(lib.array(tokens, "int32"), lib.array(tokens, "int32"))
    assert first.where is None
    for each in others:
        for positions in each[:2]:
            assert lib.numpy(positions).min() >= 0
    got = table(lib, scheme, tokens.astype("int32"), tokens.astype("int32"))
    for i, m in enumerate(tokens.tolist()):
        wanted = [distance(scheme, m, n) for n in tokens[: i + 1].tolist()]
        assert got[i, : i + 1].tolist() == wanted
