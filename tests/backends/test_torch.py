"""What only torch has: compilers, autograd, export, autocast."""

import warnings
from functools import partial

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, _backends, attention, axes, phases, positions, relative, scaling
from rope_xp.axes import Axial
from rope_xp.positions import DualChunk, ReRoPE, SelfExtend

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.backend("torch")

ROPE = RoPE(8, layout="interleaved", rotary_dim=6, rotary_start=1)


@pytest.fixture(autouse=True)
def fresh():
    with warnings.catch_warnings():  # inductor's own imports warn of torch's own deprecations
        warnings.simplefilter("ignore")
        import torch._inductor.compile_fx
        import torch.utils.mkldnn
    torch.manual_seed(0)
    torch._dynamo.reset()


def compiled(function, backend="inductor"):
    """In one graph. Generating C++ takes seconds: "aot_eager" where only tracing is at stake."""
    return torch.compile(function, fullgraph=True, backend=backend)


def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_out_with_a_gradient_or_a_minus_sign_put_off():
    x, tables = torch.randn(2, 5, 8, requires_grad=True), ROPE.cos_sin(torch.arange(5))
    g, wanted = torch.randn(2, 5, 8), ROPE.rotate(x.detach(), *tables)
    transposed = ROPE.rotate(g, *tables, inverse=True)
    for out in (torch.zeros(2, 5, 8), torch.zeros(2, 5, 8, requires_grad=True) * 1, x * 1):
        y = ROPE.rotate(x, *tables, out=out)
        assert y is out
        close(torch.autograd.grad(y, x, g)[0], transposed)
    with torch.no_grad():
        close(ROPE.rotate(x, *tables, out=torch.zeros(2, 5, 8, requires_grad=True)), wanted)
    out = torch.zeros(2, 5, 8, dtype=torch.complex64).conj().imag
    assert out.is_neg()
    close(ROPE.rotate(x.detach(), *tables, out=out), wanted)


def test_compile_with_out():
    """For any sizes, and refused where elements overlap."""
    step = torch.compile(
        lambda x, cos, sin, out: ROPE.rotate(x, cos, sin, out=out),
        fullgraph=True,
        backend="aot_eager",
        dynamic=True,
    )
    for seq in (5, 9, 17):
        x, tables = torch.randn(3, seq, 8), ROPE.cos_sin(torch.arange(seq))
        with torch._dynamo.config.patch(error_on_recompile=seq > 5):
            close(step(x, *tables, torch.zeros_like(x)), ROPE.rotate(x, *tables))
    x, tables = torch.randn(4, 8), ROPE.cos_sin(torch.arange(4))
    with pytest.raises(Exception, match=r"must not have overlapping elements"):
        step(x, *tables, torch.zeros(16).unfold(0, 8, 1)[:4])


@torch._dynamo.config.patch(error_on_recompile=True)
def test_compile_in_one_graph_without_recompiling_when_positions_change():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8, dtype=torch.bfloat16)
    step = compiled(lambda q, k, p: ROPE(q, k, positions=p))
    for start in (0, 7, 1_000_000, 2**31 - 5, -(2**31)):
        at = torch.arange(5) + start
        for got, wanted in zip(step(q, k, at), ROPE(q, k, positions=at), strict=True):
            close(got, wanted)


@torch._dynamo.config.patch(error_on_recompile=True)
def test_compile_with_an_offset_that_changes():
    q = torch.randn(2, 4, 5, 8)
    step = compiled(lambda q, offset: ROPE(q, offset=offset))
    for offset in ([0, 1], [5, 1_000_000]):
        close(step(q, torch.tensor(offset)), ROPE(q, offset=torch.tensor(offset)))


def test_compile_with_python_offsets():
    """The second makes a graph for every offset; a third needs no more."""
    q = torch.randn(2, 4, 5, 8)
    step = compiled(lambda q, offset: ROPE(q, offset=offset))
    for offset in (3, 1_000_000, 77_777):
        close(step(q, offset), ROPE(q, offset=offset))


def test_compile_at_a_length():
    """Frequencies of a length are constants, too, and the memo that keeps them is not traced."""
    q, ones = torch.randn(2, 4, 5, 8), (1.0,) * 4
    rope = RoPE(8, layout="half", scaling=scaling.LongRoPE(ones, (2.0,) * 4, 8, factor=4.0))
    step = compiled(lambda q, seq_len: rope(q, seq_len=seq_len), "aot_eager")
    for seq_len in (8, 9, 20):
        close(step(q, seq_len), rope(q, seq_len=seq_len))


def test_compile_one_layer_with_several_encodings():
    """Layers that share code and differ in base, as Gemma's local and global ones do."""
    q = torch.randn(2, 5, 8)
    layer = compiled(lambda rope, q: rope(q, offset=3), "aot_eager")
    for base, rotary_dim in ((10000.0, 8), (1e6, 8), (5e5, 8), (5e5, 4)):
        rope = RoPE(8, layout="half", base=base, rotary_dim=rotary_dim)
        close(layer(rope, q), rope(q, offset=3))


def test_compile_ranges():
    def step(scheme, x, at):
        q, k, ranges = attention.rotate_ranges(ROPE, x, x, scheme(at, at))
        return attention.attention(q, k, x, ranges=ranges, causal=True)

    x, at = torch.randn(2, 5, 8), torch.arange(5)
    for scheme in (SelfExtend(2, 3), ReRoPE(2, 2.5), DualChunk(3, 1)):
        close(compiled(partial(step, scheme), "eager")(x, at), step(scheme, x, at))


def test_compile_everything_else():
    k = torch.randn(2, 5, 8)
    at = torch.arange(5) + 10**9
    for function, arguments in (
        (lambda k, d: ROPE.shift(k, d), (k, torch.tensor([[1], [-2]]))),
        (lambda k: ROPE.shift(k, -4), (k,)),
        (lambda k: ROPE.inverse(k, offset=2), (k,)),
        (lambda k, at: ROPE.rotate(k, *ROPE.cos_sin(at)), (k, at)),
        (lambda k: attention.attention(*ROPE(k, k), k, causal=True), (k,)),
        (lambda k: attention.linear_attention(k, k, k, rope=RoPE(8, layout="half")), (k,)),
        (
            lambda k: attention.linear_attention(
                k[:, -66:], k, k, rope=RoPE(8, layout="half"), causal=True
            ),
            (torch.randn(2, 70, 8),),
        ),
        (lambda at: rope_xp.sinusoidal(at, 8), (at,)),
        (lambda at: rope_xp.cos_sin(at, [1.0, 0.1], precision="float32"), (torch.arange(5),)),
        (lambda c: positions.packed_positions(c, 7), (torch.tensor([0, 3, 5]),)),
        (lambda m: positions.mask_positions(m), (torch.tensor([0, 1, 1]),)),
        (
            lambda m: rope_xp.sinusoidal(
                positions.mask_grid_positions(m, scale=6.28), 8, axes=Axial(2, split=True)
            ),
            (torch.ones(2, 3, 4, dtype=torch.bool),),
        ),
        (
            lambda w: rope_xp.convert_layout(w, source="half", target="interleaved", head_dim=8),
            (k,),
        ),
        (lambda k: RoPE(8, layout="half")(k), (k,)),
    ):
        torch._dynamo.reset()
        close(compiled(function, "aot_eager")(*arguments), function(*arguments))


def test_compile_one_function_with_several_encodings():
    """Floats that differ between calls, or are data from the first on, still make constants."""
    at = torch.arange(5)
    for dynamic in (None, True):
        torch._dynamo.reset()
        fast = torch.compile(
            rope_xp.sinusoidal, fullgraph=True, dynamic=dynamic, backend="aot_eager"
        )
        for base, shift in ((10000.0, 0.0), (100.0, 0.5), (77.5, 1.0)):
            options = {"base": base, "shift": shift}
            close(fast(at, 8, **options), rope_xp.sinusoidal(at, 8, **options))


def test_compiled_constants():
    """Signed overflow, which C++ takes for impossible, once made these wrong from offset 1000 on."""
    q = torch.randn(2, 5, 8)
    for function in (
        lambda q: ROPE.shift(q, -1000),
        lambda q: ROPE(q, offset=1_000_000),
        lambda q: ROPE(q, offset=2**31 - 5),
    ):
        torch._dynamo.reset()
        close(compiled(function)(q), function(q))


def test_compile_the_cache():
    def step(cache, k):
        return cache.append(k, k)

    cache = attention.KVCache.empty((2, 8, 4), xp=torch)._replace(length=torch.tensor(0))
    fast, slow = compiled(step, "aot_eager"), cache
    for size in (3, 1, 1):
        k = torch.randn(2, size, 4)
        cache, slow = fast(cache, k), step(slow, k)
        close(cache.k, slow.k)
        assert int(cache.length) == int(slow.length)


def test_compiled_phases_are_exact():
    rng = np.random.default_rng(0)
    at = rng.integers(-(2**31), 2**31, 4000)
    exact = ROPE.cos_sin(at, dtype=np.float64)
    for got, wanted in zip(compiled(ROPE.cos_sin)(torch.asarray(at)), exact, strict=True):
        assert np.abs(got.numpy() - wanted).max() < 1e-7


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_a_dynamic_length(strict):
    class Layer(torch.nn.Module):
        def forward(self, q, k, at):
            return *ROPE(q, k, positions=at), ROPE(q, offset=2)

    seq = torch.export.Dim("seq")
    arguments = (torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.arange(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own
        program = torch.export.export(
            Layer(), arguments, dynamic_shapes=({2: seq}, {2: seq}, {0: seq}), strict=strict
        ).module()
    q, k, at = torch.randn(2, 4, 9, 8), torch.randn(2, 2, 9, 8), torch.arange(9) + 10**8
    for got, wanted in zip(program(q, k, at), Layer()(q, k, at), strict=True):
        close(got, wanted)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_gradients(layout):
    rope = RoPE(8, layout=layout, rotary_dim=4, rotary_start=2)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    at = torch.tensor([1, 10**6, 10**9])
    assert torch.autograd.gradcheck(lambda x: rope(x, positions=at), x)
    assert torch.autograd.gradcheck(lambda x: rope.inverse(x, positions=at), x)
    assert torch.autograd.gradcheck(lambda x: rope.shift(x, 5), x)
    assert torch.autograd.gradgradcheck(lambda x: rope(x, positions=at).square(), x)
    assert torch.autograd.gradcheck(
        lambda x: attention.attention(*rope(x, x, positions=at), x, causal=True), x
    )


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_linear_attention(causal):
    rope = RoPE(4, layout="half")
    q, k, v = (
        torch.randn(heads, seq, 4, dtype=torch.float64, requires_grad=True)
        for heads, seq in ((2, 66), (1, 67), (1, 67))
    )
    assert torch.autograd.gradcheck(
        lambda *x: attention.linear_attention(*x, rope=rope, causal=causal),
        (q, k, v),
        fast_mode=True,
    )
    large = torch.tensor([[-1e4, 0.0, 1e4, 1.0]], requires_grad=True)
    attention.linear_attention(large, large, large, rope=rope, causal=causal).sum().backward()
    assert torch.isfinite(large.grad).all()


def test_gradients_of_frequencies_and_real_positions():
    x = torch.randn(3, 8, dtype=torch.float64)
    at = torch.tensor([0.5, 1.25, 7.0], dtype=torch.float64, requires_grad=True)
    learned = torch.rand(4, dtype=torch.float64, requires_grad=True)

    def rotated(at, learned):
        return rope_xp.rotate(x, *rope_xp.cos_sin(at, learned), layout="half")

    assert torch.autograd.gradcheck(rotated, (at, learned))
    assert torch.autograd.gradcheck(lambda at: RoPE(8, layout="half")(x, positions=at), at)


def test_the_gradient_is_the_transpose():
    x = torch.randn(3, 8, requires_grad=True)
    g = torch.randn(3, 8)
    cos, sin = ROPE.cos_sin(torch.arange(3) + 9)
    ROPE.rotate(x, cos, sin).backward(g)
    close(x.grad, ROPE.rotate(g, cos, sin, inverse=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_default_dtype_change_nothing(dtype):
    q = torch.randn(2, 5, 8)
    wanted = ROPE(q, offset=1_000_000)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(ROPE(q, offset=1_000_000), wanted)
    try:
        torch.set_default_dtype(dtype)
        assert torch.equal(ROPE(q, offset=1_000_000), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_model_cast_to_bfloat16_keeps_its_positions():
    """The most repeated bug of all: 4096 positions in bfloat16 are 769 different ones."""
    module = torch.nn.Linear(8, 8)
    module.rope = RoPE(8, layout="half")
    module.to(torch.bfloat16)
    q = torch.ones(4096, 8, dtype=torch.bfloat16)
    cos, sin = module.rope.cos_sin(torch.arange(4096))
    assert torch.unique(torch.stack([cos, sin], -1)[:, 0], dim=0).shape[0] == 4096
    assert module.rope(q).dtype == torch.bfloat16


def test_mixed_with_numpy():
    q = torch.randn(5, 8)
    close(ROPE(q, positions=np.arange(5)), ROPE(q))  # so are positions: host constants
    close(ROPE(q, offset=np.asarray(3)), ROPE(q, offset=3))  # a NumPy integer is an integer


def test_mixed_devices():
    q = torch.randn(5, 8)
    with pytest.raises(
        ValueError, match=r"`positions` must be on the same device as `q` \(cpu\), got meta"
    ):
        ROPE(q, positions=torch.arange(5, device="meta"))


def test_meta_and_fake_tensors():
    """Shapes only: nothing is asked of contents."""
    y = ROPE(torch.empty(2, 5, 8, device="meta"), offset=3)
    assert y.device.type == "meta"
    assert y.shape == (2, 5, 8)


def test_subclasses():
    parameter = torch.nn.Parameter(torch.randn(5, 8))
    close(ROPE(parameter), ROPE(parameter.detach()))

    class Tagged(torch.Tensor):
        pass

    close(ROPE(torch.randn(5, 8).as_subclass(Tagged)).shape, torch.Size([5, 8]))


SEVERAL = {
    "axial": axes.Axial((2, 4, 2)),
    "split": axes.Axial((2, 4, 2), split=True),
    "sections": axes.InterleavedSections((2, 1, 1)),
    "dense": axes.golden_directions(3, 4, slowest=0.01, fastest=2.0),
}


@pytest.mark.parametrize("name", SEVERAL)
@torch._dynamo.config.patch(error_on_recompile=True)
def test_compile_with_several_axes(name):
    """In one graph, compiled once, and exact."""
    rope = RoPE(8, layout="half", axes=SEVERAL[name])
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    backend = "inductor" if name == "dense" else "aot_eager"
    step = compiled(lambda q, k, p: rope(q, k, positions=p), backend)
    for _ in range(3):
        at = torch.randint(-(2**31), 2**31, (3, 2, 5))
        for got, wanted in zip(step(q, k, at), rope(q, k, positions=at), strict=True):
            close(got, wanted)


def test_compile_layers_with_several_axes():
    """Encodings that share code and differ in their frequencies; default positions; a shift."""
    q = torch.randn(2, 5, 8)
    text = compiled(lambda rope, q: rope(q, offset=3), "aot_eager")
    layer = compiled(lambda rope, q, d: rope.shift(q, d), "aot_eager")
    for scheme in SEVERAL.values():
        for base in (10000.0, 5e5):
            rope, delta = RoPE(8, layout="half", base=base, axes=scheme), torch.tensor([3, -4, 5])
            close(layer(rope, q, delta), rope.shift(q, delta))
            if hasattr(scheme, "sections"):
                close(text(rope, q), rope(q, offset=3))


def test_compile_learned_directions_and_xpos():
    learned, at = torch.randn(2, 3, 1, 4), torch.randint(0, 50, (2, 5))
    for function, arguments in (
        (lambda at, w: rope_xp.cos_sin(at, w), (at, learned)),
        (lambda at: rope_xp.phases.xpos_scale(at, 4, center=20), (at[0],)),
    ):
        torch._dynamo.reset()
        close(compiled(function, "aot_eager")(*arguments), function(*arguments), 1e-5)


@pytest.mark.parametrize("name", SEVERAL)
def test_gradients_with_several_axes(name):
    rope = RoPE(8, layout="half", axes=SEVERAL[name])
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    at = torch.randint(-(2**31), 2**31, (3, 5))
    assert torch.autograd.gradcheck(lambda x: rope(x, positions=at), x)
    real = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, at: rope(x, positions=at), (x, real))


def test_gradients_of_learned_directions():
    """Of every head: (n_axes, heads, 1, n_pairs)."""
    learned = torch.randn(2, 3, 1, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    real = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)

    def turned(x, w, at):
        cos, sin = rope_xp.cos_sin(at, w)
        return rope_xp.rotate(x, cos[None], sin[None], layout="half")

    assert torch.autograd.gradcheck(turned, (x, learned, real))
    whole = torch.randint(0, 9, (2, 5))
    assert torch.autograd.gradcheck(
        lambda w: rope_xp.cos_sin(whole, w, dtype=torch.float64), learned
    )


def test_vmap_over_images_with_their_positions():
    rope = RoPE(8, layout="half", axes=SEVERAL["split"])
    q, at = torch.randn(6, 4, 5, 8), torch.randint(0, 99, (3, 6, 5))
    got = torch.vmap(lambda q, at: rope(q, positions=at), in_dims=(0, 1))(q, at)
    close(got, rope(q, positions=at))


def test_vmap_and_func_grad():
    q = torch.randn(3, 5, 8)
    close(torch.vmap(lambda q: ROPE(q, offset=2))(q), ROPE(q, offset=2))
    grad = torch.func.grad(lambda q: ROPE(q, offset=2).square().sum())(q)
    close(grad, 2 * q, atol=2e-6)  # norms are kept


def test_grids_compile_in_one_graph():
    def where(x):
        h, w = x.shape
        middles = positions.grid_positions(
            positions.normalized_axis(h), positions.time_axis(w, 0.3, truncate=True), xp=torch
        )
        text, after = positions.text_image_positions([3, (2, h, w), 1], merge=2, xp=torch)
        parts = [("audio", h), (positions.time_axis(3, 0.5, rate=3), h, w, 9)]
        sound, _ = positions.text_image_positions(parts, xp=torch, dtype=torch.float32)
        types = positions.text_image_types(parts, chunk=2, xp=torch)
        return middles, text, sound, types, positions.zigzag_positions(8, 1, 2, xp=torch) + after

    x = torch.empty(4, 6)
    for got, wanted in zip(compiled(where, "eager")(x), where(x), strict=True):
        assert got.dtype == wanted.dtype
        close(got, wanted)


@torch._dynamo.config.patch(error_on_recompile=True)
def test_grids_compile_with_sizes_that_are_traced():
    def where(x):
        return positions.grid_positions(*x.shape, merge=2, offset=1, xp=torch)

    step = compiled(where, "eager")
    for shape in ((4, 6), (8, 10), (6, 16)):
        x = torch.empty(shape)
        torch._dynamo.mark_dynamic(x, [0, 1])
        close(step(x), where(x))


def test_large_tables_are_the_same_in_blocks(monkeypatch):
    """Eager ones on the CPU are made in blocks; what has a gradient, is mapped or traced is not."""
    monkeypatch.setattr(phases, "FEW", 0)
    frequencies = [0.7, -1e-3, 1 / 3]
    at = torch.randint(-(2**31), 2**31, (2, 3, 50))
    real = torch.randn(2, 150, requires_grad=True)

    def tables(at):
        return torch.stack(rope_xp.cos_sin(at, frequencies, attention_factor=1.3))

    with monkeypatch.context() as patched:
        patched.setattr(_backends, "cache_block_bytes", lambda array: 0)
        whole, whole_real = tables(at), tables(real)
        dense = rope_xp.cos_sin(at, [frequencies, [0.0, 1.0, 0.5]], dtype=torch.bfloat16)
        (slope,) = torch.autograd.grad(whole_real.sum(), real)
    allowed = _backends.cache_block_bytes
    assert allowed(at) >= 2**18
    monkeypatch.setattr(_backends, "cache_block_bytes", lambda array: allowed(array) and 64)
    assert torch.equal(tables(at), whole)
    assert torch.equal(tables(at.permute(2, 0, 1)), whole.permute(0, 3, 1, 2, 4))
    assert torch.equal(tables(real.detach()), whole_real)
    blocks = rope_xp.cos_sin(at, [frequencies, [0.0, 1.0, 0.5]], dtype=torch.bfloat16)
    assert all(map(torch.equal, blocks, dense))
    close(torch.autograd.grad(tables(real).sum(), real)[0], slope)
    close(torch.vmap(tables, out_dims=1)(at), whole)
    close(torch.func.jacrev(tables)(real.detach()).sum((0, 1, 2, 3)), slope)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and of the shape that becomes constant
        close(torch.jit.trace(tables, (at[:1, :1, :9],))(at), whole)
    close(compiled(tables, "aot_eager")(at), whole)


def test_the_default_dtype_changes_no_positions():
    """bfloat16 skips integers from 257 on."""
    wanted = [float(2 * k) for k in range(300)]
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            grid = positions.grid_positions(positions.rescaled_axis(300, 600.0), 1, xp=torch)
        finally:
            torch.set_default_dtype(torch.float32)
        assert grid.dtype == torch.float32
        assert grid[0].tolist() == wanted


def test_builders_in_a_compiled_program():
    """Of lengths that it does not know, padded sums, and positions whose differences would wrap."""

    def build(x, sums, late, early):
        n = x.shape[0]
        return (
            positions.token_positions(n, xp=torch),
            positions.token_positions(n, offset=early, dtype=torch.uint64),
            positions.packed_positions(sums, n),
            relative.clipped_index(early, late, 3),
            attention.causal_mask(late, early),
        )

    step = torch.compile(build, fullgraph=True, backend="aot_eager", dynamic=True)
    late = torch.from_numpy(np.asarray([2**64 - 1, 2**63, 0], np.uint64))
    early = torch.tensor([-(2**63), 2])
    for n in (7, 9):
        with torch._dynamo.config.patch(error_on_recompile=True):
            got = step(torch.ones(n), torch.tensor([0, 3, 5, -1, 0]), late, early)
        tokens, rows, packed, index, mask = got
        assert tokens.tolist() == list(range(n))
        assert rows.dtype == torch.uint64
        assert rows[1].tolist() == list(range(2, n + 2))
        assert packed.tolist() == [0, 1, 2, 0, 1, *range(n - 5)]
        assert index.tolist() == [[6, 6, 6], [6, 6, 1]]
        assert mask.tolist() == [[True, True], [True, True], [True, False]]


def test_masks_of_tokens_in_a_compiled_program():
    """Tokens go in and out as they are, and shards of a pack follow from traced sums."""

    def build(tokens, sums, parents):
        drafts = positions.Tokens.tree(parents, offset=tokens.next_position)
        both = tokens.join(drafts)
        mask = attention.attention_mask(drafts, both, window=4, sinks=1)
        shard = positions.shard_indices(8, 1, 2, cu_seqlens=sums)
        return both, mask, positions.Tokens.packed(sums, 8).take(shard)

    arguments = (
        positions.Tokens.sequence(5, xp=torch),
        torch.tensor([0, 4, 8]),
        torch.tensor([-1, 0, 0, 2]),
    )
    got = torch.compile(build, fullgraph=True, backend="aot_eager")(*arguments)
    wanted = build(*arguments)
    assert isinstance(got[0], positions.Tokens)
    for a, b in zip(
        (*got[0][:5], got[1], *got[2]), (*wanted[0][:5], wanted[1], *wanted[2]), strict=True
    ):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("rule", [{}, {"window": 9, "sinks": 3}])
def test_flex_attention(rule):
    """Packed texts with an image, a padded row, and drafts after a prefix."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n, x = 140, torch.randn(2, 2, 140, 16)
    packed = positions.Tokens.packed(torch.tensor([0, 90, 130]), n)
    packed = packed._replace(
        images=torch.where((packed.positions > 30) & (packed.positions < 50), 0, -1)
    )
    rows = positions.Tokens.padded(torch.arange(n) >= torch.tensor([[20], [0]]))
    drafts = positions.Tokens.tree(torch.tensor([-1, 0, 0, 2]), offset=n - 4)
    both = positions.Tokens.sequence(n - 4, xp=torch).join(drafts)
    for query, key, batch in ((packed, None, None), (rows, None, 2), (drafts, both, None)):
        mask_mod = attention.flex_mask_mod(query, key, **rule)
        q = x[:, :, -query.positions.shape[-1] :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the program is not compiled
            blocks = create_block_mask(mask_mod, batch, None, q.shape[2], n, device="cpu")
            got = flex_attention(q, x, x, block_mask=blocks)
        mask = attention.attention_mask(query, key, **rule)
        close(got, attention.attention(q, x, x, bias=mask), atol=2e-6)


def test_export_of_a_length_that_is_not_known():
    class Build(torch.nn.Module):
        def forward(self, x, sums):
            n = x.shape[0]
            return positions.token_positions(n, xp=torch), positions.packed_positions(sums, n)

    arguments = torch.ones(6), torch.tensor([0, 3, 5, -1])
    shapes = {"x": {0: torch.export.Dim("n")}, "sums": None}
    program = torch.export.export(Build(), arguments, dynamic_shapes=shapes).module()
    tokens, packed = program(torch.ones(8), torch.tensor([0, 2, 2, -1]))
    assert tokens.tolist() == list(range(8))
    assert packed.tolist() == [0, 1, 0, 1, 2, 3, 4, 5]


def test_quantized_integers_are_no_dtype_of_positions():
    for make in (positions.token_positions, positions.grid_positions):
        with pytest.raises(TypeError, match=r"`dtype` must be .*, got quint8"):
            make(3, xp=torch, dtype=torch.quint8)


def test_compile_with_a_schedule_for_each_axis():
    """Lengths and schedules by axis are constants; an object that is made inside is one, too."""
    dynamic, options = scaling.DynamicNTK(4.0, 16), {"layout": "half", "axes": Axial(3)}
    ropes = [
        RoPE(24, scaling=(dynamic, None, scaling.RIFLEx(2, 66)), **options),
        RoPE(24, layout="half", axes=axes.Sections((4, 4, 4)), scaling=(dynamic, None, None)),
    ]
    x, at, seq_len = torch.randn(2, 5, 24), torch.randint(0, 50, (3, 5)), (64, None, None)
    step = compiled(lambda r: r(x, positions=at, seq_len=seq_len), backend="aot_eager")
    for rope in ropes:
        close(step(rope), rope(x, positions=at, seq_len=seq_len))
    make = compiled(
        lambda x: RoPE(24, scaling=[dynamic, None, None], **options)(x, positions=at),
        backend="aot_eager",
    )
    close(make(x), RoPE(24, scaling=(dynamic, None, None), **options)(x, positions=at))


def test_compile_alibi_with_learned_slopes():
    at = torch.arange(7)
    slopes = [torch.nn.Parameter(torch.linspace(0.1, 0.8, 8)) for _ in range(2)]
    step = compiled(
        lambda s: relative.alibi_bias(at, at, 8, slopes=s, heads=slice(4, 8)), backend="aot_eager"
    )
    found, wanted = (
        step(slopes[0]),
        relative.alibi_bias(at, at, 8, slopes=slopes[1], heads=range(4, 8)),
    )
    close(found, wanted)
    found.sum().backward()
    wanted.sum().backward()
    close(slopes[0].grad, slopes[1].grad)
    assert torch.count_nonzero(slopes[0].grad) == 4
