"""Guards of `_backends` and `_kernels`: one test for each, with the wrong result that it prevents.

Each has its row in ``tests/tools/mutant_rows.py``: without the guard its test fails.
"""

from types import SimpleNamespace

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, _backends, attention, positions, relative, rotation
from rope_xp._backends import torch as torch_facts
from rope_xp._kernels import Operands, force_kernel, llvm_cpu
from rope_xp._kernels.evaluate import select_kernel

on_torch = pytest.mark.backend("torch")
needs_llvmlite = pytest.mark.skipif(
    not llvm_cpu.is_available(), reason="no llvmlite, or ROPE_XP_FAST=0"
)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def kernel_for(x, table, layout):
    """The name of the kernel that rotates ``x`` with this table for cos and sin."""
    plan, _ = rotation._plan(
        _backends.namespace(x=x),
        rotation._shapes_and_dtypes(x, table, table),
        (layout, -2, 0, False, None),
    )
    return select_kernel(plan, Operands(x, table, table)).__name__.rpartition(".")[2]


# -- torch: what is not memory that kernels may read and write -------------------------------------


def subclass(torch, look):
    """Its operations may mean something else than torch's."""

    class Tagged(torch.Tensor):
        pass

    look(torch.ones(8).as_subclass(Tagged))


def recorded(torch, look):
    """What is written behind a mode's back is missing in its graph: it would return empty memory."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    x = torch.ones(8)
    with Recorder():
        look(x)


def traced(torch, look):
    """As above; the numbers of the example would become constants of the graph."""
    torch.jit.trace(lambda x: look(x) + 0, torch.ones(8), check_trace=False)


def compiled(torch, look):
    """Addresses cannot be compiled: with ``fullgraph=True`` an error, else a slow break."""
    torch.compile(lambda x: look(x) + 0, backend="eager", fullgraph=True)(torch.ones(8))


def mapped(torch, look):
    """Each call sees one row; the memory is of all rows."""
    torch.vmap(look)(torch.ones(2, 8))


def differentiated_forward(torch, look):
    """The tangent would be lost: derivatives of zero."""
    with torch.autograd.forward_ad.dual_level():
        look(torch.autograd.forward_ad.make_dual(torch.ones(8), torch.ones(8)))


def differentiated_backward(torch, look):
    """The result would have no gradient."""
    look(torch.ones(8, requires_grad=True))


def functionalized(torch, look):
    """Fresh tensors have no memory there."""
    torch.func.functionalize(lambda x: look(x) + 0)(torch.ones(8))


def functionalized_around(torch, look):
    """Nor do they for arguments that come from outside."""
    x = torch.ones(8)
    torch.func.functionalize(lambda y: y + look(x).sum())(torch.ones(8))


def minus_put_off(torch, look):
    """The memory has the numbers without their minus sign."""
    look(torch._neg_view(torch.ones(8)))


def without_memory(torch, look):
    look(torch.empty(8, device="meta"))


REFUSED = [
    subclass,
    recorded,
    traced,
    compiled,
    mapped,
    differentiated_forward,
    differentiated_backward,
    functionalized,
    functionalized_around,
    minus_put_off,
    without_memory,
]


@on_torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, and of what is made of it
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_accessible(torch, case):
    """Neither kernels nor tables in blocks write there: `case` says why."""
    seen = []

    def look(x):
        seen.append((torch_facts.is_accessible(x), torch_facts.cache_block_bytes(x)))
        return x

    case(torch, look)
    assert seen == [(False, 0)]


@on_torch
@pytest.mark.parametrize("n", [5, 5000])  # tokens: tables from NumPy, or in blocks
def test_what_is_counted_has_the_bits_that_it_has_without(torch, n):
    """Collectives are counted under such a mode, beside results that must be right."""
    from torch.utils.flop_counter import FlopCounterMode

    counters = [FlopCounterMode(display=False)]
    if torch.distributed.is_available():
        from torch.distributed.tensor.debug import CommDebugMode

        counters.append(CommDebugMode())
    rope, x = RoPE(8, layout="interleaved"), torch.randn(2, n, 8)
    wanted = rope(x, positions=torch.arange(n)), rope(x, offset=10**6)
    for counter in counters:
        with counter:
            found = rope(x, positions=torch.arange(n)), rope(x, offset=10**6)
        for y, w in zip(found, wanted, strict=True):
            assert torch.equal(y, w)


@on_torch
@pytest.mark.parametrize("context", ["no_grad", "inference_mode"])
def test_what_is_accessible(torch, context):
    """Models are served from parameters: new arrays for each rotation would take twice the time."""
    with getattr(torch, context)():
        for x in (torch.ones(8), torch.nn.Parameter(torch.ones(8))):
            assert torch_facts.is_accessible(x)


@on_torch
def test_other_layouts_are_not_plain(torch):
    """A sparse tensor has no address, as a mapped one: it would be taken for that."""
    assert torch_facts.is_plain(torch.eye(8))
    assert not torch_facts.is_plain(torch.eye(8).to_sparse())


@on_torch
def test_memory_of_other_devices_is_not_read(torch, monkeypatch):
    """An address on a GPU is no address here: the process would end. Needs no GPU: a stub."""
    for name in ("is_plain", "is_memory"):
        monkeypatch.setattr(torch_facts, name, lambda *tensors: True)
    for kind in ("cpu", "cuda"):
        stub = SimpleNamespace(device=SimpleNamespace(type=kind), requires_grad=False)
        assert torch_facts.is_accessible(stub) == (kind == "cpu")


def forbidden_outs(torch):
    """Tensors that torch does not let one write here, and what of the sentence says why."""
    yield torch.zeros(2, 5, 8, requires_grad=True), "a leaf Variable that requires grad"
    yield torch.zeros(4, 5, 8, requires_grad=True)[:2], "a view of a leaf Variable"
    yield (torch.zeros(3, 2, 5, 8, requires_grad=True) * 1).unbind(0)[0], "multiple views"
    with torch.no_grad():
        yield torch.zeros(4, 5, 8, requires_grad=True)[:2], "created in no_grad mode"
    with torch.inference_mode():
        made = torch.zeros(2, 5, 8)
    yield made, "made in inference mode"


@on_torch
def test_out_that_torch_does_not_let_one_write(torch):
    rope = RoPE(8, layout="half")
    x, tables = torch.randn(2, 5, 8), rope.cos_sin(torch.arange(5))
    wanted = rope.rotate(x, *tables)
    for out, why in forbidden_outs(torch):
        with (
            torch.enable_grad(),
            pytest.raises(TypeError, match=rf"`out` must be writable, .*{why}"),
        ):
            rope.rotate(x, *tables, out=out)
        with torch.inference_mode():
            torch.testing.assert_close(rope.rotate(x, *tables, out=out).clone(), wanted)
    large = torch.randn(2, 5, 8192, 8)  # kernels write memory without asking torch
    with torch.inference_mode():
        made = torch.zeros_like(large)
    with pytest.raises(TypeError, match=r"`out` must be writable, .*made in inference mode"):
        rope.rotate(large, *rope.cos_sin(torch.arange(8192)), out=made)


# -- torch: rotations ------------------------------------------------------------------------------


@on_torch
def test_tables_on_another_device_are_named(torch):
    """The quick check must not let them through: torch's own error names neither argument."""
    x, table = torch.ones(4, 8), torch.ones(4, 4, device="meta")
    with pytest.raises(ValueError, match=r"`cos` must be on the same device as `x` \(cpu\)"):
        rope_xp.rotate(x, table, table, layout="half")


@on_torch
def test_a_compiled_rotation_remembers_no_plan(torch):
    """Plans of sizes that are traced would be kept, and never found again; Dynamo warns of it."""
    x, table = torch.randn(4, 8), torch.randn(4, 4)
    rotate = torch.compile(rope_xp.rotate, backend="eager", fullgraph=True)
    found = rotate(x, table, table, layout="half")
    torch.testing.assert_close(found, rope_xp.rotate(x, table, table, layout="half"))


@on_torch
def test_compiled_tables_are_kept_in_memory(torch):
    """Without the hint Inductor computes them anew in every use, and compiles for a minute."""
    targets = []

    def backend(graph, _):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    tables = torch.compile(rope_xp.cos_sin, backend=backend, fullgraph=True)
    tables(torch.arange(4), (1.0, 0.1))
    assert any("as_strided" in target for target in targets)


@on_torch
def test_pairs_in_rows_of_odd_length(torch):
    """Every other row begins within a pair of complex numbers."""
    x = torch.randn(3, 4, 17)[..., :16]
    cos, sin = torch.randn(2, 4, 8)
    found = []
    for kernel in ("complex_pairs", "concat"):
        with force_kernel(kernel):
            found.append(rope_xp.rotate(x, cos, sin, layout="interleaved"))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@on_torch
def test_threads_that_take_part_of_a_vector(torch):
    """What is left over behind torch's vectors is rounded otherwise: no result may depend on it."""
    x, table = torch.randn(8195, 16), torch.randn(8195, 8)  # 8 · 8195 pairs, in two threads
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with force_kernel("complex_pairs"):
                found.append(rope_xp.rotate(x, table, table, layout="interleaved"))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@on_torch
def test_batched_gradients_have_gradients(torch):
    """``create_graph=True`` must reach what the batched gradient is made of."""
    x, tables = torch.randn(2, 4, 8, dtype=torch.float64), torch.randn(2, 4, 4, dtype=torch.float64)
    found = []
    for kernel in ("tiled", "concat"):
        leaf = x.clone().requires_grad_()
        with force_kernel(kernel):
            y = rope_xp.rotate(leaf, *tables, layout="half") ** 3
            (slopes,) = torch.autograd.grad(
                y, leaf, torch.stack((x, 2 * x)), is_grads_batched=True, create_graph=True
            )
            found += torch.autograd.grad((slopes**2).sum(), leaf)
    torch.testing.assert_close(*found)


@on_torch
@needs_llvmlite
@pytest.mark.parametrize(
    ("dtype", "table_dtype", "kernel"),
    [
        ("float32", "float32", "complex_pairs"),
        ("float32", "float64", "llvm_cpu"),
        ("bfloat16", "float32", "llvm_cpu"),
        ("bfloat16", "bfloat16", "tiled"),
    ],
)
def test_the_kernel_of_interleaved_pairs(torch, dtype, table_dtype, kernel):
    """Complex numbers where they are views: a copy of each tile takes longer than other kernels."""
    x = torch.ones(32, 128, 128, dtype=getattr(torch, dtype))
    table = torch.ones(128, 64, dtype=getattr(torch, table_dtype))
    assert kernel_for(x, table, "interleaved") == kernel


# -- JAX -------------------------------------------------------------------------------------------


@pytest.mark.backend("jax")
@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_jax_pads(layout, dtype):
    """What XLA compiles, but for interleaved pairs of 16 bits: padding these takes twice the time."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    seen, table = [], jax.numpy.ones((3, 4))

    def look(x):
        seen.append(kernel_for(x, table, layout))
        return x

    look(jax.numpy.ones((3, 8), dtype))
    jax.eval_shape(look, jax.ShapeDtypeStruct((3, 8), dtype))
    narrow = layout == "interleaved" and dtype == "bfloat16"
    assert seen == ["jax_eager", "concat" if narrow else "pad"]


# -- array-api-strict ------------------------------------------------------------------------------

MADE = {
    "alibi_slopes": lambda **where: relative.alibi_slopes(3, **where),
    "token_positions": lambda **where: positions.token_positions(3, **where),
    "zigzag_positions": lambda **where: positions.zigzag_positions(8, 0, 2, **where),
    "shards of a pack": lambda **where: positions.shard_indices(
        8, 0, 2, cu_seqlens=[0, 4, 8], **where
    ),
    "tokens with an image": lambda **where: (
        positions.Tokens.text_image(
            [1, (1, 1, 2)], bidirectional=True, padding=(1, 0), **where
        ).images
    ),
    "tokens that follow": lambda **where: (
        positions.Tokens.text_image([1], **where).following(2).order
    ),
    "grid_positions": lambda **where: positions.grid_positions(2, (0.5, 1.5), (1, 2), **where),
    "text_image_positions": lambda **where: positions.text_image_positions([3], **where)[0],
    "text_image_types": lambda **where: positions.text_image_types([3], **where),
    "KVCache": lambda **where: attention.KVCache.empty((2, 3, 4), **where).k,
}


@pytest.mark.backend("strict")
@pytest.mark.parametrize("name", MADE)
def test_new_arrays_are_made_on_the_device(name):
    """On the default device they could not meet the arrays that they were made for."""
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    device = xp.Device("device1")
    assert MADE[name](xp=xp, device=device).device == device


# -- NumPy with llvmlite ---------------------------------------------------------------------------


@needs_llvmlite
def test_the_other_byte_order_is_not_for_machine_code():
    """It would read the bytes in the order of the processor."""
    x, table = np.ones((64, 64, 128), dtype=np.float32), np.ones((64, 64), dtype=np.float32)
    swapped = x.astype(x.dtype.newbyteorder())
    assert kernel_for(x, table, "half") == "llvm_cpu"
    assert kernel_for(swapped, table, "half") == "both_halves"


@needs_llvmlite
def test_tables_of_two_dtypes_are_not_for_machine_code(rng):
    """It would read both as the dtype of one."""
    x = rng.standard_normal((5, 8), dtype=np.float32)
    cos, sin = rng.standard_normal((2, 5, 4))
    found = []
    for kernel in ("llvm_cpu", "concat"):
        with force_kernel(kernel):
            found.append(rope_xp.rotate(x, cos.astype(np.float32), sin, layout="half"))
    np.testing.assert_array_equal(*found)


@needs_llvmlite
def test_rows_with_gaps_are_not_merged(rng):
    """One row out of several needs a copy of these: the result would be in it, and not in ``out``."""
    x, (cos, sin) = rng.standard_normal((5, 8)), rng.standard_normal((2, 5, 4))
    out = np.zeros((5, 10))
    with force_kernel("llvm_cpu"):
        rope_xp.rotate(x, cos, sin, layout="interleaved", out=out[:, 1:9])
    with force_kernel("concat"):
        expected = rope_xp.rotate(x, cos, sin, layout="interleaved")
    np.testing.assert_array_equal(out, np.pad(expected, ((0, 0), (1, 1))))


@needs_llvmlite
def test_several_blocks_are_rotated_in_the_result(rng):
    """Each call copies whole rows: from ``x`` again, it would undo the blocks before."""
    x, (cos, sin) = rng.standard_normal((5, 10)), rng.standard_normal((2, 5, 4))
    found = []
    for kernel in ("llvm_cpu", "concat"):
        with force_kernel(kernel):
            found.append(rope_xp.rotate(x, cos, sin, layout="half", blocks=(2, 6), rotary_start=1))
    np.testing.assert_array_equal(*found)
