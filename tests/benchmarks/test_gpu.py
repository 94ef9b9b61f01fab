"""The same on a GPU, against kernels written for it. Everything here skips without one."""

from functools import partial

import pytest

from benchmarks import peers
from benchmarks.peers import FIRST, LARGEST
from benchmarks.test_torch import both, half_peer, tensors, to_numpy
from rope_xp import rotate

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
BIG = pytest.mark.parametrize("problem", [FIRST, LARGEST], ids=peers.name)


@pytest.fixture
def torch(need, report):
    torch = need("torch-cuda", "torch")
    if not torch.cuda.is_available():
        report.leave_out("torch-cuda", "torch finds no GPU")
        pytest.skip("torch finds no GPU")
    return torch


def waiting(torch, function):
    """``function``, and then until the GPU has done it."""

    def call():
        result = function()
        torch.cuda.synchronize()
        return result

    return call


@DTYPES
@BIG
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_torch(compare, need, torch, timed, problem, dtype, compiled):
    need("torch-cuda against transformers", "transformers")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype, "cuda")
    peer = half_peer(torch, apply_rotary_pos_emb, cos, sin, q.dtype, 2 * problem.n_pairs)
    ours = partial(both, "half")
    if compiled:
        torch.compiler.reset()
        ours, peer = (torch.compile(f, dynamic=False) for f in (ours, peer))
    with torch.no_grad():
        compare(
            f"torch-cuda, half{', compiled' if compiled else ''}",
            f"transformers{', compiled' if compiled else ''}",
            ours=waiting(torch, lambda: ours(q, k, cos, sin)),
            peer=waiting(torch, lambda: peer(q, k)),
            problem=problem,
            dtype=dtype,
            numpy=to_numpy,
        )


@DTYPES
@BIG
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_flash_attention(compare, need, torch, timed, problem, dtype, layout):
    case = f"torch-cuda compiled, {layout}"
    kernel = need(f"{case}, beside flash-attention", "flash_attn.layers.rotary")
    problem = problem if timed else problem.small()
    q, _, cos, sin = tensors(torch, problem, dtype, "cuda")
    q = q.transpose(1, 2).contiguous()  # (batch, seq, heads, head_dim), as its kernel has them
    torch.compiler.reset()
    ours = torch.compile(partial(rotate, layout=layout, seq_axis=-3), dynamic=False)
    interleaved = layout == "interleaved"
    with torch.no_grad():
        compare(
            case,
            "flash-attention",
            ours=waiting(torch, lambda: ours(q, cos, sin)),
            peer=waiting(
                torch, lambda: kernel.apply_rotary_emb(q, cos, sin, interleaved=interleaved)
            ),
            problem=problem,
            dtype=dtype,
            numpy=to_numpy,
        )


@DTYPES
@BIG
def test_liger(compare, need, torch, timed, problem, dtype):
    case = "torch-cuda compiled, half, q and k"
    kernel = need(f"{case}, beside Liger", "liger_kernel.transformers.rope")
    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype, "cuda")
    tables = [t[None].to(q.dtype) for t in peers.full_width(torch, cos, sin)]
    # As from a model's projections, (batch, seq, heads, head_dim) in memory: its kernel then writes in
    # place, and would copy first otherwise. Repeated rotations preserve norms.
    q, k = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k))
    theirs = q.clone(), k.clone()
    torch.compiler.reset()
    ours = torch.compile(partial(both, "half"), dynamic=False)
    with torch.no_grad():
        compare(
            case,
            "Liger, in place",
            ours=waiting(torch, lambda: ours(q, k, cos, sin)),
            peer=waiting(torch, lambda: kernel.liger_rotary_pos_emb(*theirs, *tables)),
            expected=lambda: kernel.liger_rotary_pos_emb(q.clone(), k.clone(), *tables),
            problem=problem,
            dtype=dtype,
            numpy=to_numpy,
        )


@BIG
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_cupy(compare, need, report, timed, problem, layout):
    cupy = need("CuPy", "cupy")
    try:
        cupy.zeros(1)
    except Exception as error:  # noqa: BLE001 - whatever the driver says
        reason = f"no GPU for cupy: {str(error).splitlines()[0]}"
        report.leave_out("CuPy", reason)
        pytest.skip(reason)
    problem = problem if timed else problem.small()
    x, _, cos, sin = map(cupy.asarray, problem.arrays())
    tables = peers.full_width(cupy, cos, sin) if layout == "half" else (cos, sin)
    peer = peers.concatenating(cupy) if layout == "half" else peers.stacking(cupy)

    def waiting_for(function):
        def call():
            result = function()
            cupy.cuda.get_current_stream().synchronize()
            return result

        return call

    compare(
        f"CuPy, {layout}",
        "concatenating form" if layout == "half" else "stacking form",
        ours=waiting_for(lambda: rotate(x, cos, sin, layout=layout)),
        peer=waiting_for(lambda: peer(x, *tables)),
        problem=problem,
        numpy=cupy.asnumpy,
    )


def test_jax(report, need):
    """test_jax.py runs on the GPU where JAX has one; this only reports that there is none."""
    jax = need("jax-gpu", "jax")
    if jax.default_backend() != "gpu":
        report.leave_out("jax-gpu", "JAX finds no GPU")
        pytest.skip("JAX finds no GPU")
