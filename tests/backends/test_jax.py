"""What only JAX has: jit, grad, vmap, static arguments, 32 bits by default."""

import sys
from functools import partial

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, attention, axes, positions, relative
from rope_xp._kernels import force_kernel, jax_eager

jax = pytest.importorskip("jax", reason="jax is not installed")
import under_jit

jnp = jax.numpy
pytestmark = pytest.mark.backend("jax")

ROPE = RoPE(8, layout="half", rotary_dim=6, rotary_start=1)


def close(a, b, atol=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol)


def test_jit_with_the_encoding_as_a_static_argument_compiles_once():
    traced = []

    @partial(jax.jit, static_argnums=0)
    def step(rope, q, at):
        traced.append(rope)
        return rope(q, positions=at)

    q = jnp.ones((2, 3, 5, 8))
    for start in (0, 7, 1_000_000, 2**31 - 5):
        at = jnp.arange(5) + start
        close(step(ROPE, q, at), ROPE(q, positions=at))
        step(RoPE(8, layout="half", rotary_dim=6, rotary_start=1), q, at)  # equal by value
    assert len(traced) == 1


def test_jit_with_traced_offsets():
    q = jnp.ones((2, 3, 5, 8))
    step = jax.jit(lambda q, offset: ROPE(q, offset=offset))
    close(step(q, jnp.asarray(9)), ROPE(q, offset=9))
    close(step(q, jnp.asarray([9, 2])), ROPE(q, offset=jnp.asarray([9, 2])))


def test_jitted_phases_are_exact_in_32_bits():
    assert not jax.config.jax_enable_x64
    at = np.random.default_rng(0).integers(-(2**31), 2**31, 4000)
    exact = ROPE.cos_sin(at, dtype=np.float64)
    for got, wanted in zip(jax.jit(ROPE.cos_sin)(jnp.asarray(at)), exact, strict=True):
        assert got.dtype == jnp.float32
        assert np.abs(np.asarray(got, dtype=np.float64) - wanted).max() < 1e-7


def test_grad_is_the_transpose():
    x, g = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8)), jnp.float32)
    at = jnp.asarray([1, 10**6, 10**9])
    grad = jax.grad(lambda x: jnp.sum(ROPE(x, positions=at) * g))(x)
    close(grad, ROPE.inverse(g, positions=at))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_jit_joins_otherwise_and_gives_the_same(layout, start, dtype):
    """Padded parts, summed: features that pass keep their bits, −0 its sign, infinity its place."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 12), dtype=dtype)
    x = x.at[0, 0].set(-0.0).at[0, 1, :3].set(jnp.inf)
    cos, sin = rope_xp.cos_sin(jnp.arange(3), [1.0, 0.1, 0.01, 0.0])

    def rotate(x):
        return rope_xp.rotate(x, cos, sin, layout=layout, rotary_start=start)

    slow, fast = rotate(x), jax.jit(rotate)(x)
    wide = [np.asarray(y, dtype=np.float32) for y in (slow, fast)]
    np.testing.assert_array_equal(np.signbit(wide[0][0, 0]), np.signbit(wide[1][0, 0]))
    np.testing.assert_allclose(
        wide[1], wide[0], rtol=2**-7 if dtype == "bfloat16" else 1e-6, atol=1e-6
    )
    passed = [*range(start), *range(start + 8, 12)]
    np.testing.assert_array_equal(wide[1][..., passed], np.asarray(x, np.float32)[..., passed])
    gradients = jax.jit(jax.grad(lambda x: rotate(x)[1].sum()))(x)
    np.testing.assert_allclose(
        np.asarray(gradients[1], np.float32),
        np.asarray(
            rope_xp.rotate(
                jnp.ones_like(x), cos, sin, layout=layout, rotary_start=start, inverse=True
            )[1],
            np.float32,
        ),
        atol=2**-7 if dtype == "bfloat16" else 1e-6,
    )


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("inverse", [False, True])
def test_eager_arrays_are_rounded_as_by_single_operations(layout, dtype, inverse):
    x = jax.random.normal(jax.random.key(0), (2, 64, 12), dtype=dtype)
    tables = rope_xp.cos_sin(jnp.arange(64) + 99, [1.0, 0.1, 0.01, 0.3])
    options = {"layout": layout, "rotary_start": 3, "inverse": inverse, "blocks": (2, 6)}
    got = []
    for name in ("concat", "jax_eager"):
        with force_kernel(name):
            got.append(np.asarray(rope_xp.rotate(x, *tables, **options)))
    assert got[0].tobytes() == got[1].tobytes()


def test_an_eager_rotation_is_one_compiled_call(monkeypatch):
    called = []
    monkeypatch.setattr(jax_eager, "_compiled", lambda *key: lambda *x: called.append(len(x)))
    q, tables = jnp.ones((3, 8)), ROPE.cos_sin(jnp.arange(3))
    ROPE.rotate(q, *tables)
    assert called == [3]
    jax.jit(ROPE.rotate)(q, *tables)
    assert called == [3]


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_jit_is_off_by_what_the_docstring_says(layout, dtype):
    rope = RoPE(64, layout=layout)
    x = jax.random.normal(jax.random.key(0), (8, 512, 64), dtype=dtype)
    slow, fast = (np.asarray(y, np.float64) for y in (rope(x), jax.jit(rope)(x)))
    first, second = (
        (slice(0, 32), slice(32, 64)) if layout == "half" else (slice(0, 64, 2), slice(1, 64, 2))
    )
    size = np.abs(np.asarray(x, np.float64))
    size = size[..., first] + size[..., second]
    unit = {"bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]  # of the last place, of a power of two
    least = {"bfloat16": 2.0**-133, "float16": 2.0**-24}[dtype]
    for features in (first, second):
        a, b = slow[..., features], fast[..., features]
        larger = np.maximum(np.abs(a), np.abs(b))
        place = np.maximum(2.0 ** np.floor(np.log2(np.maximum(larger, least))) * unit, least)
        assert (np.abs(a - b) <= 2**-22 * size + place).all()


def once(q, k, rotate):
    return rotate(q, k)


def layers(q, k, rotate):
    for _ in range(3):
        q, k = (jnp.tanh(x) for x in rotate(q, k))
    return q, k


def scan(q, k, rotate):
    return jax.lax.scan(lambda x, _: (layers(*x, rotate), None), (q, k), None, length=3)[0]


def gradient(q, k, rotate, program=layers):
    return jax.grad(lambda x: sum(jnp.sum(y**2) for y in program(*x, rotate)))((q, k))


def counts(*instructions, of):
    text = of.compile().as_text()
    return [text.count(f" {each}(") for each in instructions]


@pytest.mark.parametrize("given", ["nothing", "offset", "positions"])
@pytest.mark.parametrize(
    "program",
    [once, layers, scan, gradient, partial(gradient, program=scan)],
    ids=["once", "layers", "scan", "gradient", "gradient of scan"],
)
def test_compiled_programs_make_tables_once(program, given):
    """Whatever the heads and layers: shifts of bits are as many as in a program of the tables alone."""
    rope = RoPE(8, layout="half")
    at = jnp.arange(1100) + jnp.arange(2)[:, None]  # more than what becomes a constant
    options = {"nothing": {}, "offset": {"offset": at[:, 7]}, "positions": {"positions": at}}[given]
    q, k = jnp.ones((2, 4, 1100, 8)), jnp.ones((2, 2, 1100, 8))
    step = jax.jit(lambda q, k, options: program(q, k, partial(rope, **options)))
    (got,) = counts("shift-right-arithmetic", of=step.lower(q, k, options))
    (wanted,) = counts("shift-right-arithmetic", of=jax.jit(rope.cos_sin).lower(at))
    assert 0 < got <= wanted


@pytest.mark.parametrize("learned", [False, True])
def test_tables_of_rounded_products_are_made_once(learned):
    def rotate(q, k, at, w):
        w = w if learned else [1.0, 0.1, 0.01, 0.001]
        tables = rope_xp.cos_sin(at, w, precision="float32", attention_factor=1.5)
        return [rope_xp.rotate(x, *tables, layout="half") for x in (q, k)]

    q, k, at, w = jnp.ones((4, 600, 8)), jnp.ones((2, 600, 8)), jnp.arange(600), jnp.ones(4)
    assert counts("cosine", "sine", of=jax.jit(rotate).lower(q, k, at, w)) == [1, 1]


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_compiled_programs_are_exported_for_any_size(platform):
    from jax import export

    batch, seq = export.symbolic_shape("batch, seq")
    shape = jax.ShapeDtypeStruct((batch, 3, seq, 8), jnp.float32)
    made = export.export(jax.jit(ROPE), platforms=[platform])(shape)
    assert ("inlineable" in made.mlir_module()) == (platform == "cpu")
    if platform == "cpu":
        q = jnp.ones((2, 3, 5, 8))
        close(made.call(q), ROPE(q))


def test_grad_of_learned_frequencies():
    at = jnp.asarray([0.0, 1.0, 2.0])
    grad = jax.grad(lambda w: jnp.sum(rope_xp.cos_sin(at, w)[1]))(jnp.asarray([0.3]))
    close(grad, [np.sum([m * np.cos(0.3 * m) for m in range(3)])])


def test_vmap_over_rows_with_their_offsets():
    q = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3, 5, 8)), jnp.float32)
    offset = jnp.asarray([0, 5, 70, 10**6])
    close(jax.vmap(lambda q, o: ROPE(q, offset=o))(q, offset), ROPE(q, offset=offset))


def largest(jaxpr):
    """Elements of the largest array that a program makes, those inside its calls included."""
    sizes = [int(np.prod(v.aval.shape)) for eqn in jaxpr.eqns for v in eqn.outvars]
    inner = [
        largest(getattr(part, "jaxpr", part))
        for eqn in jaxpr.eqns
        for value in eqn.params.values()
        for part in (value if isinstance(value, list | tuple) else [value])
        if hasattr(getattr(part, "jaxpr", part), "eqns")
    ]
    return max(sizes + inner, default=0)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_attention_makes_no_array_of_length_squared(causal):
    """Nothing is computed: shapes only. `attention` shows that the count sees what it should."""

    def most(function, seq, **options):
        x = jax.ShapeDtypeStruct((seq, 8), jnp.float32)
        program = jax.make_jaxpr(lambda *x: function(*x, causal=causal, **options))(x, x, x)
        return largest(program.jaxpr)

    rope = RoPE(8, layout="half")
    assert most(attention.attention, 4096) >= 4096**2
    for seq in (4096, 4100):
        assert most(attention.linear_attention, seq, rope=rope) < seq**2 / 32
    small = most(attention.linear_attention, 4096, rope=rope)
    assert most(attention.linear_attention, 8192, rope=rope) == 2 * small


@pytest.mark.parametrize("causal", [False, True])
def test_grad_of_linear_attention(causal):
    q, k, v = jnp.asarray(np.random.default_rng(0).standard_normal((3, 66, 8)), jnp.float32)
    rope = RoPE(8, layout="half")

    def loss(q, k, v):
        return jnp.sum(attention.linear_attention(q, k, v, rope=rope, causal=causal) ** 2)

    step = 1e-2
    for i, grad in enumerate(jax.grad(loss, argnums=(0, 1, 2))(q, k, v)):
        ahead, behind = (
            loss(*(x + s * step * grad * (i == j) for j, x in enumerate((q, k, v))))
            for s in (1, -1)
        )
        slope = float(jnp.sum(grad**2))
        assert abs(float(ahead - behind) / (2 * step) - slope) < 0.02 * slope


def test_the_cache_goes_through_jit():
    step = jax.jit(lambda cache, k: cache.append(k, k))
    cache = attention.KVCache.empty((2, 8, 4), xp=jnp)._replace(length=jnp.asarray(0))
    for value in (1.0, 2.0):
        cache = step(cache, jnp.full((2, 3, 4), value))
    assert int(cache.length) == 6
    close(cache.k[0, :, 0], [1, 1, 1, 2, 2, 2, 0, 0])


def test_bfloat16_in_and_out():
    q = jnp.ones((5, 8), dtype=jnp.bfloat16)
    y = ROPE(q, offset=1_000_000)
    assert y.dtype == jnp.bfloat16
    close(y.astype(jnp.float32), ROPE(q.astype(jnp.float32), offset=1_000_000), atol=2**-8)


SEVERAL = [axes.Axial((2, 4, 2), split=True), axes.golden_directions(3, 4, slowest=0.1, fastest=2)]


@pytest.mark.parametrize("scheme", SEVERAL)
def test_jit_grad_and_vmap_with_several_axes(scheme):
    rng = np.random.default_rng(0)
    rope = RoPE(8, layout="half", axes=scheme)
    q, g = jnp.asarray(rng.standard_normal((2, 4, 2, 5, 8)), jnp.float32)
    at = jnp.asarray(rng.integers(-(2**31), 2**31, (3, 4, 5)))
    step = partial(jax.jit, static_argnums=0)(lambda rope, q, at: rope(q, positions=at))
    wanted = rope(q, positions=at)
    close(step(rope, q, at), wanted)
    close(jax.vmap(lambda q, at: rope(q, positions=at), in_axes=(0, 1))(q, at), wanted)
    grad = jax.grad(lambda q: jnp.sum(rope(q, positions=at) * g))(q)
    close(grad, rope.inverse(g, positions=at))
    exact = rope.cos_sin(np.asarray(at), dtype=np.float64)
    for got, true in zip(jax.jit(rope.cos_sin)(at), exact, strict=True):
        assert np.abs(np.asarray(got, dtype=np.float64) - true).max() < 1e-7


def test_grad_of_learned_directions():
    """sin of a sum of two products: its gradient is cos times the coordinates."""
    rng = np.random.default_rng(0)
    w, at = jnp.asarray(rng.standard_normal((2, 3, 1, 4))), jnp.asarray(rng.integers(0, 9, (2, 5)))
    grad = jax.jit(jax.grad(lambda w: jnp.sum(rope_xp.cos_sin(at, w)[1])))(w)
    cos, _ = rope_xp.cos_sin(at, w)  # (3, 5, 4)
    close(grad, jnp.einsum("hsi,as->ahi", cos, at)[:, :, None], atol=1e-4)


def test_mixed_with_numpy():
    """NumPy's arrays are host constants; q is none, and k must be of its library."""
    q = jnp.ones((5, 8))
    np.testing.assert_array_equal(ROPE(q, positions=np.arange(5)), ROPE(q))
    with pytest.raises(TypeError, match=r"`k` must be .* same library as `q` \(jax"):
        ROPE(q, np.ones((5, 8)))


def test_grids_under_jit():
    def where(x):
        h, w = x.shape
        patches = positions.grid_positions(h, w, merge=2, offset=1, xp=jnp)
        text, after = positions.text_image_positions([3, (2, h, w), 1], merge=2, xp=jnp)
        return patches, text, positions.zigzag_positions(8, 1, 2, xp=jnp) + after

    x = jnp.zeros((4, 6))
    for got, wanted in zip(jax.jit(where)(x), where(x), strict=True):
        assert got.dtype == wanted.dtype
        close(got, wanted)


def test_tests_with_lib_call_compiled_programs(monkeypatch):
    """`under_jit`: arrays are traced, all else goes in and comes out as it is."""
    under_jit.replace(monkeypatch, sys.modules[__name__])
    x = jnp.ones((3, 8))
    with pytest.raises(jax.errors.TracerBoolConversionError):
        attention.linear_attention(x, x, x, feature_map=lambda x: x if x[0, 0] > 0 else -x)
    cos, sin = ROPE.cos_sin(jnp.arange(3))
    assert all(isinstance(a, jax.Array) and not isinstance(a, jax.core.Tracer) for a in (cos, sin))
    where, after = positions.text_image_positions([2, (1, 2, 2)], xp=jnp)
    assert (where.shape, type(after), after) == ((3, 6), int, 4)
    cache = attention.KVCache.empty((8, 8), xp=jnp).append(x, x)
    assert (type(cache), type(cache.length), cache.length) == (attention.KVCache, int, 3)
    with pytest.raises(ValueError, match="`k` must fit into the cache of 8 tokens"):
        cache.append(jnp.ones((6, 8)), jnp.ones((6, 8)))


def test_without_64_bits_positions_stay_in_32():
    """`jnp.arange` would wrap, and ``dtype=int64`` would be int32 with a warning."""
    calls = [
        lambda **options: positions.token_positions(3, offset=2**31 - 2, **options),
        lambda **options: positions.grid_positions(3, offset=2**31 - 2, **options),
        lambda **options: positions.text_image_positions([3], offset=2**31 - 2, **options)[0],
        lambda **options: positions.zigzag_positions(2**40, 0, 2**38, **options),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match="must keep positions in int32, the default integer dtype"
        ):
            call(xp=jnp)
        with pytest.raises(
            TypeError, match=r"`dtype` must be a dtype that jax has here: jax_enable_x64"
        ):
            call(xp=jnp, dtype=jnp.int64)
    for call in calls[:3]:
        got = call(xp=jnp, dtype=jnp.uint32)
        assert got.dtype == jnp.uint32
        assert int(got.ravel()[-1]) == 2**31
    far = jnp.array([-(2**31)]), jnp.array([2**31 - 1])
    with pytest.raises(ValueError, match="got differences from 4294967295 to 4294967295"):
        relative.relative_positions(*far)
    assert jax.jit(relative.relative_positions)(*far) == 2**31 - 1
    assert relative.clipped_index(*far, 4) == 8
    assert relative.alibi_bias(*far, 1) == -(2.0**24)
