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
@pytest.mark.parametrize("name", ["default positions", "an offset", "causal attention"])
def test_export_with_dynamic_sizes(torch, name):
    function, dim = OF_QUERIES[name], torch.export.Dim

    class Layer(torch.nn.Module):
        def forward(self, q):
            return function(q)

    program = torch.export.export(
        Layer(), (torch.ones(2, 2, 7, 8),), dynamic_shapes=({0: dim("b"), 2: dim("s")},)
    ).module()
    for shape in SHAPES:
        q = torch.asarray(queries(*shape))
        assert_close(program(q), function(q))


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
    assert graphs(torch, lambda q, n: DYNAMIC(q, seq_len=n), lengths) == 5
    assert graphs(torch, lambda q, n: DYNAMIC(q, seq_len=n), lengths, dynamic=True) == 5
    assert graphs(torch, lambda q, n: ROPE(q, offset=n), calls(3, 4, 1000, 77)) == 2
    assert graphs(torch, lambda q, n: ROPE.shift(q, n), calls(3, 4, 1000, 77)) == 2


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
