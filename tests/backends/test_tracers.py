"""Programs that are traced: sizes that are no numbers yet, and how often a compiler starts anew."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, attention, axes, positions, scaling

ROPE = RoPE(8, layout="half")
DYNAMIC = RoPE(8, layout="half", scaling=scaling.DynamicNTK(4.0, 8))
LONG = RoPE(8, layout="half", scaling=scaling.LongRoPE((1.0,) * 4, (2.0,) * 4, 8, factor=4.0))

# Functions of q (batch, heads, seq, 8), whose batch and length are traced.
OF_QUERIES = {
    "default positions": ROPE,
    "an offset": lambda q: ROPE(q, offset=3),
    "an offset of its size": lambda q: ROPE(q, offset=q.shape[2]),
    "q and k": lambda q: ROPE(q, q[:, :1]),
    "tokens before heads": lambda q: ROPE(q, seq_axis=-3),
    "interleaved": RoPE(8, layout="interleaved", rotary_dim=4, rotary_start=2),
    "text on several axes": RoPE(8, layout="half", axes=axes.Sections((2, 1, 1))),
    "a shift": lambda q: ROPE.shift(q, -3),
    "a length that does not matter": lambda q: ROPE(q, seq_len=q.shape[2]),
    "attention": lambda q: attention.attention(q, q, q),
    "causal attention": lambda q: attention.attention(q, q[:, :1], q[:, :1], causal=True),
    "linear attention": lambda q: attention.linear_attention(q, q, q, rope=ROPE),
    "causal linear attention": lambda q: attention.linear_attention(
        q, q, q, rope=ROPE, causal=True
    ),
}


def of_sizes(xp):
    """Functions of the sizes."""
    return {
        "tokens": lambda q: positions.token_positions(q.shape[2], offset=2, xp=xp),
        "packed": lambda q: positions.packed_positions(
            xp.asarray([0, 1, 2], device="cpu" if xp.__name__ == "torch" else None), q.shape[2]
        ),
        "a grid": lambda q: positions.grid_positions(q.shape[0], q.shape[2], xp=xp),
    }


def queries(batch, seq):
    return np.random.default_rng(seq).standard_normal((batch, 2, seq, 8)).astype(np.float32)


SHAPES = ((3, 5), (2, 70))


# -- jax.export ------------------------------------------------------------------------------------


@pytest.fixture
def jax():
    return pytest.importorskip("jax", reason="jax is not installed")


def exported_by_jax(jax, function):
    b, s = jax.export.symbolic_shape("b, s")
    spec = jax.ShapeDtypeStruct((b, 2, s, 8), np.float32)
    return jax.export.export(jax.jit(function))(spec)


@pytest.mark.backend("jax")
@pytest.mark.parametrize("name", [*OF_QUERIES, "tokens", "packed", "a grid"])
def test_jax_export(jax, name):
    function = {**OF_QUERIES, **of_sizes(jax.numpy)}[name]
    program = exported_by_jax(jax, function)
    for shape in SHAPES:
        q = jax.numpy.asarray(queries(*shape))
        for got, wanted in zip(*map(jax.tree.leaves, (program.call(q), function(q))), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.backend("jax")
def test_jax_export_of_lengths_that_matter(jax):
    for rope, name in ((DYNAMIC, "DynamicNTK"), (LONG, "LongRoPE")):
        message = f"`seq_len` must be an int for a {name}, .*got the symbolic size s"
        with pytest.raises(ValueError, match=message):
            exported_by_jax(jax, lambda q, rope=rope: rope(q, seq_len=q.shape[2]))


@pytest.mark.backend("jax")
def test_jax_export_of_caches(jax):
    xp, specs = jax.numpy, jax.ShapeDtypeStruct
    b, s = jax.export.symbolic_shape("b, s")

    def step(k, v, length, new):
        made = attention.KVCache(k, v, length).append(new, new).drop(1, ROPE)
        return made.k, made.v, made.length

    def arrays(batch, seq):
        new = xp.asarray(queries(batch, seq))
        return xp.zeros((batch, 2, 90, 8)), xp.zeros((batch, 2, 90, 8)), xp.int32(3), new

    cache = specs((b, 2, 90, 8), np.float32)
    types = cache, cache, specs((), np.int32), specs((b, 2, s, 8), np.float32)
    program = jax.export.export(jax.jit(step))(*types)
    for shape in SHAPES:
        got, wanted = program.call(*arrays(*shape)), step(*arrays(*shape))
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    cache = specs((b, 2, s, 8), np.float32)
    with pytest.raises(ValueError, match=r"`k` must have a known capacity where .* dropped, got s"):
        jax.eval_shape(lambda k: attention.KVCache(k, k, xp.int32(3)).drop(2, ROPE), cache)


@pytest.mark.backend("jax")
def test_jax_export_of_positions(jax):
    b, s = jax.export.symbolic_shape("b, s")
    at = jax.ShapeDtypeStruct((b, s), np.int32)
    for function in (
        lambda p: rope_xp.sinusoidal(p, 8),
        ROPE.cos_sin,
        lambda p: attention.causal_mask(p, p),
    ):
        program = jax.export.export(jax.jit(lambda p, f=function: f(p)))(at)
        for shape in SHAPES:
            p = jax.numpy.arange(np.prod(shape), dtype=np.int32).reshape(shape)
            pairs = zip(*map(jax.tree.leaves, (program.call(p), function(p))), strict=True)
            for got, wanted in pairs:
                np.testing.assert_allclose(got, wanted, atol=1e-5)


# -- Keras on JAX ----------------------------------------------------------------------------------


@pytest.mark.backend("jax")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_with_lengths_that_are_not_known(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="keras is not installed")

    class Attention(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.projection = keras.layers.Dense(3 * 16, use_bias=False)

        def build(self, shape):
            self.projection.build(shape)

        def call(self, x):
            parts = keras.ops.split(self.projection(x), 3, axis=-1)
            n = x.shape[1]
            q, k, v = (keras.ops.reshape(part, (-1, n, 2, 8)) for part in parts)
            q, k = ROPE(q, k, seq_axis=-3)
            q, k, v = (keras.ops.transpose(each, (0, 2, 1, 3)) for each in (q, k, v))
            mixed = attention.attention(q, k, v, causal=True)
            return keras.ops.reshape(keras.ops.transpose(mixed, (0, 2, 1, 3)), (-1, n, 16))

    class Rotated(keras.layers.Layer):
        def call(self, x):
            return ROPE(x)

    ends = keras.Input((None, 8))
    model = keras.Model(ends, Rotated()(ends))
    assert model.output_shape == (None, None, 8)
    for batch, seq in SHAPES:
        x = queries(batch, seq)[:, 0]
        np.testing.assert_allclose(model.predict(x, verbose=0), ROPE(x), atol=1e-5)
    with pytest.raises(TypeError, match=r"`q` must be an array of .*, got KerasTensor"):
        ROPE(ends)

    ends = keras.Input((None, 16))
    model = keras.Model(ends, Attention()(ends))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).standard_normal((4, 5, 16)).astype(np.float32)
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Attention": Attention})
    for length in (5, 9):
        x = np.random.default_rng(length).standard_normal((2, length, 16)).astype(np.float32)
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
        )


@pytest.mark.backend("jax")
def test_jax_export_of_what_cannot_be_known(jax):
    with pytest.raises(ValueError, match=r"`offset` must keep positions .* for s tokens"):
        exported_by_jax(jax, lambda q: ROPE(q, offset=2**31 - 100))
    b, s, t = jax.export.symbolic_shape("b, s, t")
    q, k = (jax.ShapeDtypeStruct((b, 2, n, 8), np.float32) for n in (s, t))

    def masked(q, k):
        return attention.linear_attention(q, k, k, causal=True)

    with pytest.raises(ValueError, match=r"`q` and `k` must have lengths that compare .* s and t"):
        jax.eval_shape(masked, q, k)
    with pytest.raises(ValueError, match="`k` must have the sequence length of `q`, s, got t"):
        jax.eval_shape(ROPE, q, k)


# -- torch.jit.trace and torch.export --------------------------------------------------------------


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, and of comparisons of sizes
        yield torch


def assert_close(got, wanted):
    one, other = ((x,) if not isinstance(x, tuple) else x for x in (got, wanted))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=1e-5)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", [*OF_QUERIES, "tokens", "packed", "a grid"])
def test_jit_trace(torch, name):
    function = {**OF_QUERIES, **of_sizes(torch)}[name]
    program = torch.jit.trace(lambda q: function(q), torch.ones(1, 2, 7, 8), check_trace=False)
    for shape in SHAPES:
        q = torch.asarray(queries(*shape))
        assert_close(program(q), function(q))


@pytest.mark.backend("torch")
def test_jit_trace_of_lengths_that_matter(torch):
    """Frequencies of the example's length would be those of any length."""
    for rope, name in ((DYNAMIC, "DynamicNTK"), (LONG, "LongRoPE")):
        with pytest.raises(ValueError, match=f"`seq_len` must be an int for a {name}"):
            torch.jit.trace(lambda q, r=rope: r(q, seq_len=q.shape[2]), torch.ones(1, 2, 9, 8))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "name", ["q and k", "an offset", "causal attention", "causal linear attention", "a mask", "NTK"]
)
def test_export_with_dynamic_sizes(torch, name, strict):
    more = {
        "a mask": lambda q: attention.causal_mask(*[torch.arange(q.shape[2])] * 2),
        "NTK": lambda q: DYNAMIC(q, seq_len=q.shape[2]),
    }
    function, dim = {**OF_QUERIES, **more}[name], torch.export.Dim

    class Layer(torch.nn.Module):
        def forward(self, q):
            return function(q)

    sizes = ({0: dim("b"), 2: dim("s")},)
    program = torch.export.export(
        Layer(), (torch.ones(2, 2, 7, 8),), dynamic_shapes=sizes, strict=strict
    ).module()
    for shape in SHAPES:
        q = torch.asarray(queries(*shape))
        assert_close(program(q), function(q))


@pytest.mark.backend("torch")
def test_export_a_step_of_a_cache(torch):
    class Step(torch.nn.Module):
        def forward(self, k, v, length, new):
            return tuple(attention.KVCache(k, v, length).append(new, new)[:3])

    b = torch.export.Dim("b")
    cache, new = torch.zeros(2, 2, 10, 8), torch.randn(3, 2, 1, 8)
    arguments = (cache, cache, torch.tensor(3), new[:2])
    sizes = ({0: b}, {0: b}, None, {0: b})
    program = torch.export.export(Step(), arguments, dynamic_shapes=sizes).module()
    arguments = (torch.zeros(3, 2, 10, 8), torch.zeros(3, 2, 10, 8), torch.tensor(7), new)
    assert_close(program(*arguments), Step()(*arguments))


@pytest.mark.backend("torch")
def test_functionalize(torch):
    """torch.func.functionalize does not know all operations in place."""
    from torch.fx.experimental.proxy_tensor import make_fx

    q, at = torch.randn(2, 2, 5, 8), torch.arange(5)
    for function, x in (
        (ROPE, q),
        (lambda p: ROPE.cos_sin(p), at + 2**40),
        (lambda p: ROPE.cos_sin(p), at / 3),
        (OF_QUERIES["causal linear attention"], q),
    ):
        wanted, functional = function(x), torch.func.functionalize(function)
        assert_close(functional(x), wanted)
        assert_close(make_fx(functional)(x)(x), wanted)


@pytest.mark.backend("torch")
def test_vmap_over_positions(torch):
    at = torch.arange(5)
    for positions_ in (torch.stack((at, at * 2**33)), torch.stack((at, at * 2**20)) / 3):
        got = torch.func.vmap(lambda p: ROPE.cos_sin(p))(positions_)
        assert_close(got, ROPE.cos_sin(positions_))
        q = torch.randn(2, 2, 5, 8)
        got = torch.func.vmap(lambda q, p: ROPE(q, positions=p))(q, positions_)
        assert_close(got, ROPE(q, positions=positions_))


@pytest.mark.backend("torch")
def test_the_older_onnx_exporter(torch, monkeypatch):
    """It traces; its own error is about a bitwise operation somewhere in here."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    q = torch.ones(1, 2, 7, 8)
    with pytest.raises(ValueError, match=r"`precision` must be 'float32' .* or .* dynamo=True, or"):
        torch.jit.trace(lambda q: ROPE(q), q)
    torch.jit.trace(RoPE(8, layout="half", precision="float32").__call__, q)


# -- torch.compile ---------------------------------------------------------------------------------


def graphs(torch, function, calls, dynamic=None):
    """How many graphs the calls need, each of which gives the eager result."""
    count = []

    def backend(graph, _):
        count.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=dynamic)
    for arguments in calls:
        assert_close(compiled(*arguments), function(*arguments))
    return len(count)


@pytest.mark.backend("torch")
def test_compile_with_parameters_anywhere(torch):
    parameter = torch.nn.Parameter
    x, at = torch.randn(1, 2, 4, 8), torch.arange(4)
    cos, sin = ROPE.cos_sin(at)
    learned = parameter(torch.rand(4))
    for function, arguments in {
        "x": (ROPE, (parameter(x),)),
        "k": (ROPE, (x, parameter(x))),
        "positions": (lambda q, p: ROPE(q, positions=p), (x, parameter(at.float()))),
        "integers": (lambda q, p: ROPE(q, positions=p), (x, parameter(at, requires_grad=False))),
        "tables": (ROPE.rotate, (x, parameter(cos), parameter(sin))),
        "one table": (ROPE.rotate, (x, cos, parameter(sin))),
        "frequencies": (rope_xp.cos_sin, (at, learned)),
        "keys": (attention.attention, (x, parameter(x), parameter(x))),
        "a bias": (
            lambda q, b: attention.attention(q, q, q, bias=b),
            (x, parameter(torch.ones(4, 4))),
        ),
        "linear": (attention.linear_attention, (x, parameter(x), parameter(x))),
        "sinusoids": (lambda p: rope_xp.sinusoidal(p, 8), (parameter(at.float()),)),
    }.values():
        assert graphs(torch, function, [arguments] * 2) == 1


@pytest.mark.backend("torch")
def test_compile_at_lengths_that_change(torch):
    """No more graphs than sets of frequencies; the first call of all knows its length only."""
    q = torch.randn(1, 2, 4, 8)

    def calls(*numbers):
        return [(q, n) for n in numbers]

    lengths = calls(9, 10, 11, 4, 5, 30)
    assert graphs(torch, lambda q, n: LONG(q, seq_len=n), lengths) == 3
    assert graphs(torch, lambda q, n: ROPE(q, seq_len=n), lengths) == 2
    lengths += calls(*range(31, 36))  # torch stops after 8 graphs
    rounded = RoPE(8, layout="half", scaling=DYNAMIC.scaling, precision="float32")
    for rope in (DYNAMIC, rounded):
        for function in (rope, rope.inverse, lambda q, r=rope, **o: r.shift(q, -3, **o)):
            assert graphs(torch, lambda q, n, f=function: f(q, seq_len=n), lengths) == 2
    assert graphs(torch, lambda q, n: DYNAMIC(q, seq_len=n), lengths, dynamic=True) == 1

    def linear(q, n):
        return attention.linear_attention(q, q, q, rope=DYNAMIC, seq_len=n)

    assert graphs(torch, linear, lengths) == 2
    assert graphs(torch, lambda q, n: ROPE(q, offset=n), calls(3, 4, 1000, 77)) == 2
    assert graphs(torch, lambda q, n: ROPE.shift(q, n), calls(3, 4, 1000, 77)) == 2


@pytest.mark.backend("torch")
def test_compile_with_numbers_of_numpy(torch):
    """They are arrays to torch.compile, and data: one graph for all."""
    q, at = torch.randn(2, 2, 4, 8), range(3, 9)
    numbers = [(q, np.int64(n)) for n in at], [(q, np.asarray(n, np.int32)) for n in at]
    for calls in numbers:
        assert graphs(torch, lambda q, n: ROPE(q, offset=n), calls) == 1
        assert graphs(torch, lambda q, n: ROPE.shift(q, n), calls) == 1
    inside = graphs(torch, lambda q: ROPE(q, offset=np.int64(3)), [(q,)])
    assert inside == graphs(torch, lambda q: ROPE(q, positions=np.arange(4)), [(q,)]) == 1
    rows = [(q, np.arange(n, n + 4)) for n in at]
    assert graphs(torch, lambda q, p: ROPE(q, positions=p / 2), rows) == 1

    def step(q, n):
        cache = torch.zeros(2, 2, 20, 8)
        return tuple(attention.KVCache(cache, cache, n).append(q, q)[:2])

    assert graphs(torch, step, numbers[0]) == 1
    message = "`seq_len` must be an int where torch.compile traces"
    with pytest.raises(torch._dynamo.exc.Unsupported, match=message):
        torch.compile(lambda q, n: DYNAMIC(q, seq_len=n), fullgraph=True)(q, np.int64(9))


@pytest.mark.backend("torch")
def test_compile_gradients_at_lengths_that_change(torch):
    q, at = torch.randn(1, 2, 4, 8), torch.arange(4) / 3

    def total(p, n):
        return (DYNAMIC(q, positions=p, seq_len=n) ** 3).sum()

    torch._dynamo.reset()
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    for n in (9, 10, 40):
        p = at.clone().requires_grad_()
        got, wanted = (torch.autograd.grad(f(p, n), p)[0] for f in (compiled, total))
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.backend("torch")
def test_compile_layers_one_by_one(torch):
    """One graph for each base; torch's own limit is on the function, whatever is in it."""
    x, count = torch.randn(1, 2, 4, 8), []

    def backend(graph, _):
        count.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda q, rope: rope(q), fullgraph=True, backend=backend)
    ropes = [RoPE(8, layout="half", base=1000.0 * (i % 12 + 1)) for i in range(24)]
    with torch._dynamo.config.patch(recompile_limit=12):
        for rope in ropes * 2:
            assert_close(compiled(x, rope), rope(x))
    assert len(count) == 12


@pytest.mark.backend("torch")
def test_compile_a_model_whose_layers_have_different_bases(torch):
    ropes = [RoPE(8, layout="half", base=1000.0 * (i + 1)) for i in range(32)]

    def model(q):
        for rope in ropes:
            q = rope(q)
        return q

    assert graphs(torch, model, [(torch.randn(1, 2, n, 8),) for n in (4, 5, 9)]) == 2


# -- ndonnx ----------------------------------------------------------------------------------------


def test_sizes_that_are_none(monkeypatch):
    """A library whose shapes do not tell sizes counts by other means, or positions must be given."""
    from rope_xp import _backends

    q = SimpleNamespace(shape=(None, 8))
    assert _backends.size_along(q, 0) is None
    assert _backends.size_along(q, 1) == 8


NDONNX = {
    "default positions": ROPE,
    "interleaved": RoPE(8, layout="interleaved", precision="float32"),
    "attention": lambda q: attention.attention(q, q, q, causal=True),
}


@pytest.mark.parametrize("name", NDONNX)
def test_ndonnx_with_sizes_that_are_not_known(name):
    ndonnx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    q = ndonnx.argument(shape=("b", 2, "s", 8), dtype=ndonnx.float32)
    model = ndonnx.build({"q": q}, {"y": NDONNX[name](q)})
    session = ort.InferenceSession(model.SerializeToString())
    for shape in SHAPES:
        x = queries(*shape)
        (got,) = session.run(None, {"q": x})
        np.testing.assert_allclose(got, NDONNX[name](x), atol=1e-5)


@pytest.mark.parametrize("precision", ["exact", "float32"])
@pytest.mark.parametrize("rank", [1, 2])
def test_ndonnx_with_positions_of_a_size_that_is_not_known(rank, precision):
    ndonnx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    rope = RoPE(8, layout="half", precision=precision)
    q = ndonnx.argument(shape=("b", "h", "s", 8), dtype=ndonnx.float32)
    at = ndonnx.argument(shape=("b", "s")[-rank:], dtype=ndonnx.int64)
    model = ndonnx.build({"q": q, "at": at}, {"y": rope(q, positions=at)})
    session = ort.InferenceSession(model.SerializeToString())
    x = queries(2, 3)
    positions = np.array([[7, 100_000, 0], [1, 2, 3]])[-rank:].reshape((2, 3)[-rank:])
    (got,) = session.run(None, {"q": x, "at": positions})
    np.testing.assert_allclose(got, rope(x, positions=positions), atol=1e-5)


def test_ndonnx_where_sizes_must_be_known():
    ndonnx = pytest.importorskip("ndonnx", reason="ndonnx is not installed")
    q = ndonnx.argument(shape=("b", 2, "s", 8), dtype=ndonnx.float32)
    k = q[:, :1, ...]
    with pytest.raises(ValueError, match="`q` and `k` must have known sizes where heads share"):
        attention.attention(q, k, k)
    with pytest.raises(ValueError, match=r"`x` must have sizes that are known, got .*\(None, 2"):
        rope_xp.convert_layout(q, source="half", target="interleaved", head_dim=8)
