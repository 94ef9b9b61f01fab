"""Query scales: against their formulas in plain Python, on every library, and what uses them."""

import math
import pickle

import numpy as np
import pytest
import reference

from rope_xp import RoPE
from rope_xp.attention import attention
from rope_xp.configs import LayerRopes, layer_ropes
from rope_xp.scaling import FloorLogScale, LearnedLogScale, LogScale, PowerScale, YaRN

# -- the formulas, in plain Python ------------------------------------------------------------------


def formula(scale, position):
    at = position + scale.offset
    if isinstance(scale, FloorLogScale):
        return 1 + scale.beta * math.log(1 + max(math.floor(at / scale.length), 0))
    if isinstance(scale, LogScale):
        beta = 1 / math.log(scale.length) if scale.beta is None else scale.beta
        return 1 + beta * math.log(max(at / scale.length, 1))
    return (1 + max(at / scale.length, 0)) ** scale.beta


SCALES = [
    *(FloorLogScale(length, 0.1, offset) for length in (8192, 3) for offset in (0, 1)),
    LogScale(8192, 0.25, 1),
    LogScale(2048, offset=1),  # logn
    LogScale(1024),
    PowerScale(2048, 0.1, 1),
]
# Before, at and after steps; and negative ones, as padding can have.
NEAR = [-5, -2, -1, 0, 1, 2, 3, 1023, 1024, 2046, 2047, 2048, 8190, 8191, 8192, 16383, 16384, 60000]
FAR = [3 * 2**20 - 1, 3 * 2**20, 8192 * 3000 - 1, 8192 * 3000, 2**31 - 2, 2**31 - 1]


@pytest.mark.parametrize("scale", SCALES, ids=repr)
def test_integers(lib, scale):
    """Products and logarithms in float32: a few units in the last place. Steps are exact."""
    for dtype in ("int32", "int64"):
        got = scale(lib.array(np.asarray(NEAR + FAR), dtype))
        assert got.dtype == lib.dtype("float32")
        wanted = [formula(scale, p) for p in NEAR + FAR]
        np.testing.assert_allclose(lib.numpy(got), wanted, rtol=6e-7)


@pytest.mark.parametrize("scale", SCALES, ids=repr)
def test_shapes(lib, scale):
    at = np.asarray(NEAR).reshape(2, 9)
    for positions in (at, at[0], at[0, 0]):
        got = lib.numpy(scale(lib.array(positions, "int32")))
        assert got.shape == positions.shape
    wanted = [[formula(scale, p) for p in row] for row in at.tolist()]
    np.testing.assert_allclose(lib.numpy(scale(lib.array(at, "int32"))), wanted, rtol=6e-7)


@pytest.mark.parametrize("kind", ["int8", "int16", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("scale", SCALES, ids=repr)
def test_every_integer_dtype_over_its_whole_range(lib, scale, kind):
    """Neither the offset nor the length need fit into the dtype."""
    if not lib.has_float64:  # 64 bits are those of 32
        kind = {"uint64": "uint32"}.get(kind, kind)
    limits = np.iinfo(kind)
    at = [0, 1, 2, limits.max // 2, limits.max // 2 + 1, limits.max - 1, limits.max]
    got = lib.numpy(scale(lib.array(np.asarray(at, kind), kind)))
    wanted = [formula(scale, p) for p in at]
    np.testing.assert_allclose(got, wanted, rtol=6e-7)


def test_an_offset_is_not_lost_in_the_largest_integers(lib):
    """The steps are those of integers, in which 2³¹ − 1 + 1 is no negative number."""
    scale = FloorLogScale(2**30, 10.0, offset=1)
    at = np.asarray([2**30 - 2, 2**30 - 1, 2**31 - 2, 2**31 - 1])
    wanted = 1 + 10 * np.log([1, 2, 2, 3])
    np.testing.assert_allclose(lib.numpy(scale(lib.array(at, "int32"))), wanted, rtol=6e-7)


@pytest.mark.parametrize("scale", SCALES, ids=repr)
def test_real_positions(lib, scale):
    whole = [p for p in (*NEAR, *FAR) if abs(p) < 2**24]
    small = "float16" if lib.name in ("torch", "jax", "numpy") else "float32"
    for positions, dtype in ((whole, "float32"), ([0.5, 2.5, 8191.5], "float32"), ([7.0], small)):
        got = scale(lib.array(np.asarray(positions, np.float32), dtype))
        assert got.dtype == lib.dtype("float32")
        wanted = [formula(scale, p) for p in positions]
        np.testing.assert_allclose(lib.numpy(got), wanted, rtol=6e-7)
    no_numbers = lib.array(np.asarray([np.nan, np.inf, -np.inf], np.float32))
    assert np.isnan(lib.numpy(scale(no_numbers))).all()


def test_multiples_of_a_length_whose_reciprocal_is_rounded(lib):
    """Compilers may multiply by the reciprocal instead of dividing: a step must not come one late."""
    for length in (3, 5, 7, 49, 10_000, 24_000):
        multiples = np.arange(1, min(2**24 // length, 3000)) * length
        for shift in (-1, 0):
            got = FloorLogScale(length, 1.0)(lib.array((multiples + shift).astype(np.float32)))
            steps = np.round(np.expm1(lib.numpy(got) - 1))
            np.testing.assert_array_equal(steps, multiples // length + shift)


@pytest.mark.x64
def test_float64_positions_give_float64(lib):
    if not lib.has_float64:
        pytest.skip("no float64 here")
    for scale in SCALES:
        got = scale(lib.array(np.asarray(NEAR, np.float64)))
        assert got.dtype == lib.dtype("float64")
        wanted = [formula(scale, p) for p in NEAR]
        np.testing.assert_allclose(lib.numpy(got), wanted, rtol=1e-14)


def test_learned(lib, rng):
    weight, bias = (rng.standard_normal(3).astype(np.float32) for _ in range(2))
    at = np.asarray([[0, 1, 2], [100, 5000, -3]])
    got = LearnedLogScale()(lib.array(at, "int32"), lib.array(weight), lib.array(bias))
    wanted = weight[:, None] * np.log(np.maximum(at, 0) + 1)[:, None, :] + bias[:, None]
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=1e-6, atol=1e-6)
    row = LearnedLogScale()(lib.array(at[0], "int32"), lib.array(weight), lib.array(bias))
    assert tuple(row.shape) == (1, 3, 3)  # with an axis for the batch: never (batch, seq)
    np.testing.assert_allclose(lib.numpy(row)[0], wanted[0], rtol=1e-6, atol=1e-6)


def test_sequences_and_numbers_are_numpys():
    assert FloorLogScale(4, 1.0)([0, 4, 12]).dtype == np.float32
    assert FloorLogScale(4, 1.0)(4).shape == ()


# -- who takes them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["(q_len,)", "(batch, q_len)", "(batch, heads, q_len)"])
def test_attention_multiplies_queries(lib, rng, axes):
    """With as many heads as rows of the batch, which arrays alone would confuse."""
    q, k, v = (rng.standard_normal((2, 2, 5, 4)).astype(np.float32) for _ in range(3))
    shape = {"(q_len,)": (5,), "(batch, q_len)": (2, 5)}.get(axes, (2, 2, 5))
    factors = rng.uniform(0.5, 2, shape).astype(np.float32)
    got = attention(*map(lib.array, (q, k, v)), causal=True, query_scale=lib.array(factors))
    each = factors[:, None] if len(shape) == 2 else factors
    each = np.broadcast_to(each, (2, 2, 5))
    for b in range(2):
        for h in range(2):
            queries = (q[b, h] * each[b, h][:, None]).tolist()
            wanted = reference.attention(
                queries, k[b, h].tolist(), v[b, h].tolist(), causal=True, scale=0.5
            )
            np.testing.assert_allclose(lib.numpy(got)[b, h], wanted, rtol=0, atol=2e-6)


def test_factors_of_each_row_fit_any_number_of_heads(lib, rng):
    q = lib.array(rng.standard_normal((2, 3, 5, 4)).astype(np.float32))
    rows = rng.uniform(0.5, 2, (2, 5)).astype(np.float32)
    got = attention(q, q, q, query_scale=lib.array(rows))
    of_heads = np.broadcast_to(rows[:, None], (2, 3, 5)).copy()
    wanted = attention(q, q, q, query_scale=lib.array(of_heads))
    np.testing.assert_array_equal(lib.numpy(got), lib.numpy(wanted))


def test_attention_takes_the_factors_before_the_bias(lib, rng):
    q, k, v = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3))
    bias = rng.standard_normal((3, 3)).astype(np.float32)
    factors = np.asarray([1.0, 2.0, 3.0], np.float32)
    got = attention(
        *map(lib.array, (q, k, v)), bias=lib.array(bias), query_scale=lib.array(factors)
    )
    scores = (q * factors[:, None]) @ k.T / 2 + bias
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(lib.numpy(got), weights @ v, rtol=0, atol=2e-6)


def test_half_precision_queries_are_scaled_in_float32(lib):
    """300 · 1.003 is 300.9 there, and 300 in bfloat16."""
    if lib.name in ("strict", "dask"):
        pytest.skip("no bfloat16 here")
    q = lib.array(np.full((1, 2), 16.0, np.float32), "bfloat16")
    k = lib.array(np.asarray([[16.0, 2.75], [0.0, 0.0]], np.float32), "bfloat16")
    v = lib.array(np.asarray([[1.0], [0.0]], np.float32), "bfloat16")
    bias, factor = (lib.array(np.asarray(n, np.float32)) for n in ([[0.0, 300.0]], [1.003]))
    got = lib.numpy(attention(q, k, v, bias=bias, scale=1.0, query_scale=factor))
    np.testing.assert_allclose(got, 1 / (1 + math.exp(-0.9)), rtol=2**-8)


def test_rope_describes_and_does_not_apply():
    scale = FloorLogScale(4, 1.0)
    plain, rope = RoPE(8, layout="half"), RoPE(8, layout="half", query_scale=scale)
    assert rope != plain
    assert rope == RoPE(8, layout="half", query_scale=FloorLogScale(4, 1))
    assert "query_scale" not in repr(plain)
    assert repr(rope) == f"RoPE(8, layout='half', query_scale={scale!r})"
    q = np.ones((9, 8), np.float32)
    np.testing.assert_array_equal(rope(q), plain(q))


@pytest.mark.backend("torch")
def test_torch_compiles_them_whole():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    layers = layer_ropes(LLAMA4 | {"head_dim": 8})

    def model(q, at):
        for rope, scale in zip(layers, layers.query_scales, strict=True):
            k = q if rope is None else rope(q, positions=at)
            factors = None if scale is None else scale(at)
            q = attention(k, k, q, causal=True, query_scale=factors)
        return q, [scale(at) for scale in SCALES]

    q, at = torch.randn(2, 2, 4, 8), torch.tensor([0, 8190, 8191, 60000])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    (got, factors), (wanted, expected) = compiled(q, at), model(q, at)
    torch.testing.assert_close(got, wanted)
    for each, other in zip(factors, expected, strict=True):
        assert torch.equal(each, other)


@pytest.mark.backend("jax")
def test_jax_takes_what_layer_ropes_gives_as_an_argument():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    layers = layer_ropes(LLAMA4)
    assert jax.tree.leaves(layers) == []
    found = jax.jit(lambda layers, at: layers.query_scales[3](at))(layers, jax.numpy.arange(9))
    assert found.shape == (9,)


# -- per layer --------------------------------------------------------------------------------------


LLAMA4 = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}


def test_layer_ropes_are_a_tuple_that_knows_more():
    ropes = layer_ropes(LLAMA4)
    assert isinstance(ropes, tuple)
    assert ropes == tuple(ropes)
    assert tuple(ropes) == ropes
    assert (ropes != tuple(ropes)) is False
    assert hash(ropes) == hash(tuple(ropes))
    assert ropes.query_scales == (None, None, None, FloorLogScale(8192, 0.1, 1))
    assert ropes.softmax_factors == (1.0,) * 4
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(ropes, protocol))
        assert again == ropes
        assert again.query_scales == ropes.query_scales
        assert type(again) is LayerRopes


def test_layers_that_scale_otherwise_are_others():
    ropes = layer_ropes(LLAMA4)
    off = layer_ropes({**LLAMA4, "attn_temperature_tuning": False})
    assert off.query_scales == (None,) * 4
    assert tuple(off) == tuple(ropes)
    assert off != ropes
    assert (off == ropes) is False
    assert LayerRopes(ropes, softmax_factors=[2.0] * 4) != LayerRopes(ropes)
    with pytest.raises(ValueError, match="`query_scales` must have one entry for each of 4 layers"):
        LayerRopes(ropes, [None])


def test_layer_ropes_by_hand_take_what_their_ropes_have():
    yarn = YaRN(4.0, 1024, mscale=1.0, mscale_all_dim=1.0)
    rope = RoPE(8, layout="half", query_scale=LogScale(100), scaling=yarn)
    made = LayerRopes([rope, None])
    assert made.query_scales == (LogScale(100), None)
    assert made.softmax_factors == (rope.frequencies().softmax_factor, 1.0)
    assert made.softmax_factors[0] == pytest.approx((0.1 * math.log(4) + 1) ** 2)
