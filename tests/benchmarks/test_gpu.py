"""The same on a GPU, against a copy, which is the limit, and kernels written for it. Skips without one.

``nox -s gpu`` runs this with ``ROPE_XP_CUDA=1``. Time is what the GPU's own events say: of ten calls at a
time, so that starting them is not what is measured, except of a single token, where it is.
"""

from functools import partial

import pytest

from benchmarks import measure, peers
from benchmarks.peers import DECODE, FIRST, LARGEST, Problem
from benchmarks.test_torch import both, half_peer, tensors, to_numpy
from rope_xp import rotate
from rope_xp._kernels import cuda, force_kernel

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
LAYOUTS = pytest.mark.parametrize("layout", ["half", "interleaved"])
# A quarter or half a GiB: more than any cache.
PREFILL = Problem((8, 32, 4096, 128), 64)
SIZES = pytest.mark.parametrize("problem", [DECODE, FIRST, LARGEST], ids=peers.name)
BIG = pytest.mark.parametrize("problem", [LARGEST, PREFILL], ids=peers.name)
HOW = "our kernel" if cuda.ENABLED else "without ROPE_XP_CUDA=1"
CALLS, ROUNDS = 10, 31


@pytest.fixture
def torch(need, report):
    torch = need("torch-cuda", "torch")
    if not torch.cuda.is_available():
        report.leave_out("torch-cuda", "torch finds no GPU")
        pytest.skip("torch finds no GPU")
    torch.manual_seed(0)
    with torch.no_grad():
        yield torch


@pytest.fixture
def cupy(need, report):
    cupy = need("CuPy", "cupy")
    try:
        cupy.zeros(1)
    except Exception as error:  # noqa: BLE001 - whatever the driver says
        reason = f"no GPU for cupy: {str(error).splitlines()[0]}"
        report.leave_out("CuPy", reason)
        pytest.skip(reason)
    return cupy


def torch_clock(torch, function):
    def one_round():
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(CALLS):
            function()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3 / CALLS

    return one_round


def cupy_clock(cupy, function):
    def one_round():
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        for _ in range(CALLS):
            function()
        stop.record()
        stop.synchronize()
        return cupy.cuda.get_elapsed_time(start, stop) / 1e3 / CALLS

    return one_round


@pytest.fixture
def race(compare_clocks, timed):
    """Ours against a peer: the same numbers first, unless the peer only copies; then which is faster."""

    def run(clock, numpy, case, against, *, ours, peer, problem, dtype="float32", same=True, **how):
        def arrays(result):
            return tuple(map(numpy, result if isinstance(result, tuple) else (result,)))

        if same:
            measure.assert_same(arrays(ours()), arrays(peer()), dtype)
        else:
            ours(), peer()
        clocks = {"ours": clock(ours), "peer": clock(peer)}
        how = {"problem": problem, "dtype": dtype, "rounds": ROUNDS if timed else 1, **how}
        compare_clocks(case, against, **clocks, **how)

    return run


# -- the limit -------------------------------------------------------------------------------------


@DTYPES
@LAYOUTS
@BIG
@pytest.mark.parametrize("in_place", [False, True], ids=["", "in-place"])
def test_torch_against_a_copy(race, torch, timed, problem, layout, dtype, in_place):
    """One read and one write: what a copy takes. The same bits as other kernels, on the GPU itself."""
    problem = problem if timed else problem.small()
    x = torch.randn(problem.shape, device="cuda").to(getattr(torch, dtype))
    cos, sin = (torch.from_numpy(table).cuda() for table in problem.tables())
    with force_kernel("concat"):
        expected = rotate(x, cos, sin, layout=layout)
    assert torch.equal(rotate(x, cos, sin, layout=layout), expected)
    other = torch.empty_like(x)
    race(
        partial(torch_clock, torch),
        to_numpy,
        f"torch-cuda, {layout}{', in place' if in_place else ''}, {HOW}",
        "copy",
        ours=partial(rotate, x, cos, sin, layout=layout, out=x if in_place else None),
        peer=partial(other.copy_, x),
        problem=problem,
        dtype=dtype,
        same=False,
        limit=1.15 if cuda.ENABLED else None,
    )


@LAYOUTS
@BIG
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cupy_against_a_copy(race, cupy, timed, problem, layout, dtype):
    problem = problem if timed else problem.small()
    x = cupy.random.standard_normal(problem.shape, dtype=cupy.float32).astype(dtype)
    cos, sin = map(cupy.asarray, problem.tables())
    with force_kernel("concat"):
        expected = rotate(x, cos, sin, layout=layout)
    assert bool((rotate(x, cos, sin, layout=layout) == expected).all())
    race(
        partial(cupy_clock, cupy),
        cupy.asnumpy,
        f"CuPy, {layout}, {HOW}",
        "copy",
        ours=partial(rotate, x, cos, sin, layout=layout),
        peer=x.copy,
        problem=problem,
        dtype=dtype,
        same=False,
        limit=1.15 if cuda.ENABLED else None,
    )


# -- peers -----------------------------------------------------------------------------------------


@DTYPES
@SIZES
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_transformers(race, need, torch, timed, problem, dtype, compiled):
    need("torch-cuda against transformers", "transformers")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype, "cuda")
    peer = half_peer(torch, apply_rotary_pos_emb, cos, sin, q.dtype, 2 * problem.n_pairs)
    ours = partial(both, "half")
    if compiled:
        torch.compiler.reset()
        ours, peer = (torch.compile(f, dynamic=False) for f in (ours, peer))
    race(
        partial(torch_clock, torch),
        to_numpy,
        f"torch-cuda, half, q and k, {'compiled' if compiled else HOW}",
        f"transformers{', compiled' if compiled else ''}",
        ours=lambda: ours(q, k, cos, sin),
        peer=lambda: peer(q, k),
        problem=problem,
        dtype=dtype,
    )


@DTYPES
@LAYOUTS
@SIZES
def test_torch_compile(race, torch, timed, problem, dtype, layout):
    """Our kernel beside what torch's compiler makes of the formula."""
    problem = problem if timed else problem.small()
    x, _, cos, sin = tensors(torch, problem, dtype, "cuda")
    torch.compiler.reset()
    compiled = torch.compile(partial(rotate, layout=layout), dynamic=False)
    race(
        partial(torch_clock, torch),
        to_numpy,
        f"torch-cuda, {layout}, {HOW}",
        "torch.compile",
        ours=lambda: rotate(x, cos, sin, layout=layout),
        peer=lambda: compiled(x, cos, sin),
        problem=problem,
        dtype=dtype,
    )


@DTYPES
@LAYOUTS
@SIZES
def test_flash_attention(race, need, torch, timed, problem, dtype, layout):
    case = f"torch-cuda, {layout}, {HOW}"
    kernel = need(f"{case}, beside flash-attention", "flash_attn.layers.rotary")
    problem = problem if timed else problem.small()
    q, _, cos, sin = tensors(torch, problem, dtype, "cuda")
    q = q.transpose(1, 2).contiguous()  # (batch, seq, heads, head_dim), as its kernel has them
    interleaved = layout == "interleaved"
    race(
        partial(torch_clock, torch),
        to_numpy,
        case,
        "flash-attention",
        ours=lambda: rotate(q, cos, sin, layout=layout, seq_axis=-3),
        peer=lambda: kernel.apply_rotary_emb(q, cos, sin, interleaved=interleaved),
        problem=problem,
        dtype=dtype,
        limit=1.0 if cuda.ENABLED else None,
    )


@DTYPES
@SIZES
def test_liger(race, need, torch, timed, problem, dtype):
    case = f"torch-cuda, half, q and k in place, {HOW}"
    kernel = need(f"{case}, beside Liger", "liger_kernel.transformers.rope")
    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype, "cuda")
    tables = [t[None].to(q.dtype) for t in peers.full_width(torch, cos, sin)]
    # As from a model's projections, (batch, seq, heads, head_dim) in memory: its kernel then writes in
    # place, and would copy first otherwise. Repeated rotations preserve norms.
    q, k = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k))
    expected = both("half", q, k, cos, sin)
    theirs = kernel.liger_rotary_pos_emb(q.clone(), k.clone(), *tables)
    measure.assert_same(*(tuple(map(to_numpy, pair)) for pair in (expected, theirs)), dtype)
    copies = q.clone(), k.clone()

    def ours():
        for x in (q, k):
            rotate(x, cos, sin, layout="half", out=x)

    race(
        partial(torch_clock, torch),
        to_numpy,
        case,
        "Liger, in place",
        ours=ours,
        peer=lambda: kernel.liger_rotary_pos_emb(*copies, *tables),
        problem=problem,
        dtype=dtype,
        same=False,
        limit=1.0 if cuda.ENABLED else None,
    )


@DTYPES
@pytest.mark.parametrize("problem", [LARGEST], ids=peers.name)
def test_training_step(race, need, torch, timed, problem, dtype):
    """Forward and backward of q and k."""
    need("torch-cuda training against transformers", "transformers")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype, "cuda")
    apply = half_peer(torch, apply_rotary_pos_emb, cos, sin, q.dtype, 2 * problem.n_pairs)
    grads = torch.randn_like(q), torch.randn_like(k)
    leaves = q.requires_grad_(), k.requires_grad_()

    def step(function):
        with torch.enable_grad():
            return torch.autograd.grad(function(*leaves), leaves, grads)

    race(
        partial(torch_clock, torch),
        to_numpy,
        f"torch-cuda training step, half, q and k, {HOW}",
        "transformers",
        ours=lambda: step(lambda q, k: both("half", q, k, cos, sin)),
        peer=lambda: step(apply),
        problem=problem,
        dtype=dtype,
    )


@SIZES
@LAYOUTS
def test_cupy(race, cupy, timed, problem, layout):
    problem = problem if timed else problem.small()
    x, _, cos, sin = map(cupy.asarray, problem.arrays())
    tables = peers.full_width(cupy, cos, sin) if layout == "half" else (cos, sin)
    peer = peers.concatenating(cupy) if layout == "half" else peers.stacking(cupy)
    race(
        partial(cupy_clock, cupy),
        cupy.asnumpy,
        f"CuPy, {layout}, {HOW}",
        "concatenating form" if layout == "half" else "stacking form",
        ours=lambda: rotate(x, cos, sin, layout=layout),
        peer=lambda: peer(x, *tables),
        problem=problem,
    )


def test_jax(report, need):
    """test_jax.py runs on the GPU where JAX has one; this only reports that there is none."""
    jax = need("jax-gpu", "jax")
    if jax.default_backend() != "gpu":
        report.leave_out("jax-gpu", "JAX finds no GPU")
        pytest.skip("JAX finds no GPU")
