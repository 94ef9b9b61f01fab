"""torch on the CPU: eager, compiled, training, and decoding."""

import itertools
import shutil
from functools import lru_cache, partial

import pytest

from benchmarks import measure, peers
from benchmarks.conftest import without_fast
from benchmarks.peers import DECODE, DECODE_BOTH, FIRST, LARGEST, PROBLEMS
from rope_xp import RoPE, rotate

FAST = pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
LAYOUTS = pytest.mark.parametrize("layout", ["half", "interleaved"])
COMPILED = [PROBLEMS[0], PROBLEMS[2], PROBLEMS[3]]


@pytest.fixture
def torch(need):
    torch = need("torch", "torch")
    torch.set_num_threads(measure.n_threads())
    return torch


@pytest.fixture
def transformers_rope(need):
    need("torch against transformers", "transformers")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    return apply_rotary_pos_emb


def to_numpy(tensor):
    return tensor.detach().float().cpu().numpy()


def tensors(torch, problem, dtype, device="cpu"):
    """q and k in ``dtype``, our tables in float32."""
    q, k, cos, sin = (torch.from_numpy(a).to(device) for a in problem.arrays())
    return q.to(getattr(torch, dtype)), k.to(getattr(torch, dtype)), cos, sin


def both(layout, q, k, cos, sin):
    return rotate(q, cos, sin, layout=layout), rotate(k, cos, sin, layout=layout)


def half_peer(torch, apply, cos, sin, dtype, width):
    """transformers, with tables as in its models: full width, dtype of the model, a batch axis."""
    tables = [t[None].to(dtype) for t in peers.full_width(torch, cos, sin)]

    def call(q, k):
        if q.shape[-1] == width:
            return apply(q, k, *tables)
        turned = apply(q[..., :width], k[..., :width], *tables)  # partial, as GPT-NeoX and Phi do
        rest = q[..., width:], k[..., width:]
        return tuple(torch.cat(pair, -1) for pair in zip(turned, rest, strict=True))

    return call


def interleaved_peer(torch, cos, sin, width):
    """Meta's complex form, for q and k."""
    turns = torch.complex(cos, sin)
    one = peers.on_first(torch, peers.meta, width)
    return lambda q, k: (one(q, turns), one(k, turns))


@FAST
@DTYPES
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_eager_half(compare, choose, timed, torch, transformers_rope, problem, dtype, fast):
    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype)
    peer = half_peer(torch, transformers_rope, cos, sin, q.dtype, 2 * problem.n_pairs)
    case = f"torch{' fast' if fast else ''}, half"
    with choose(case, fast), torch.no_grad():
        compare(
            case,
            "transformers",
            ours=lambda: both("half", q, k, cos, sin),
            peer=lambda: peer(q, k),
            problem=problem,
            dtype=dtype,
            limit=0.3 if fast else 0.6,
            fast=fast,
            passes=4,
            numpy=to_numpy,
        )


@FAST
@DTYPES
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_eager_interleaved(compare, choose, timed, torch, problem, dtype, fast):
    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype)
    peer = interleaved_peer(torch, cos, sin, 2 * problem.n_pairs)
    case = f"torch{' fast' if fast else ''}, interleaved"
    with choose(case, fast), torch.no_grad():
        compare(
            case,
            "Meta's complex form",
            ours=lambda: both("interleaved", q, k, cos, sin),
            peer=lambda: peer(q, k),
            problem=problem,
            dtype=dtype,
            limit=1.0,
            fast=fast,
            passes=4,
            numpy=to_numpy,
        )


def has_compiler():
    """Whether torch.compile finds one for C++."""
    return any(map(shutil.which, ("g++", "clang++")))


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("problem", COMPILED, ids=peers.name)
def test_compiled(compare, timed, report, torch, transformers_rope, problem, dtype, layout):
    case = f"torch.compile, {layout}"
    if not has_compiler():
        report.leave_out(case, "no C++ compiler, which torch.compile needs")
        pytest.skip(f"{case}: no C++ compiler, which torch.compile needs")
    if not timed and (problem, dtype) != (COMPILED[-1], "float32"):
        pytest.skip("compiled once per layout when the clock does not count")
    problem = problem if timed else problem.small()
    q, k, cos, sin = tensors(torch, problem, dtype)
    width = 2 * problem.n_pairs
    if layout == "half":
        peer = half_peer(torch, transformers_rope, cos, sin, q.dtype, width)
    else:
        peer = interleaved_peer(torch, cos, sin, width)
    torch.compiler.reset()
    ours, peer = (
        torch.compile(partial(both, layout), dynamic=False),
        torch.compile(peer, dynamic=False),
    )
    with torch.no_grad():
        compare(
            case,
            "transformers, compiled" if layout == "half" else "Meta's complex form, compiled",
            ours=lambda: ours(q, k, cos, sin),
            peer=lambda: peer(q, k),
            problem=problem,
            dtype=dtype,
            limit=0.6,
            numpy=to_numpy,
            passes=4,
        )


def training(torch, problem, dtype, apply):
    """Forward and backward through both: ours and the peer, as functions without arguments."""
    q, k, cos, sin = tensors(torch, problem, dtype)
    peer = half_peer(torch, apply, cos, sin, q.dtype, 2 * problem.n_pairs)
    torch.manual_seed(0)
    given = torch.randn_like(q), torch.randn_like(k)
    leaves = q.requires_grad_(), k.requires_grad_()

    def ours():
        return torch.autograd.grad(both("half", q, k, cos, sin), leaves, given)

    return ours, lambda: torch.autograd.grad(peer(q, k), leaves, given)


@FAST
@DTYPES
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_training_step(compare, choose, timed, torch, transformers_rope, problem, dtype, fast):
    problem = problem if timed else problem.small()
    ours, peer = training(torch, problem, dtype, transformers_rope)
    case = f"torch{' fast' if fast else ''}, training step"
    with choose(case, fast):
        compare(
            case,
            "transformers",
            ours=ours,
            peer=peer,
            problem=problem,
            dtype=dtype,
            use="training",
            limit=0.4,
            fast=fast,
            passes=8,
            numpy=to_numpy,
        )


@DTYPES
def test_training_memory(benchmark, timed, torch, transformers_rope, remember_memory, dtype):
    """The peak of a whole step as the operating system sees it, and what is kept for backward."""
    problem = LARGEST if timed else LARGEST.small()
    ours, peer = training(torch, problem, dtype, transformers_rope)
    ours(), peer()
    benchmark.pedantic(ours)
    if timed:
        found, theirs = measure.peak_bytes(ours), measure.peak_bytes(peer)
        case = "torch, training step, peak"
        remember_memory(case, "transformers", problem, dtype, 1.0, found, theirs)
    kept, theirs = kept_bytes(torch, ours), kept_bytes(torch, peer)
    case = "torch, training step, kept"
    remember_memory(case, "transformers", problem, dtype, 1.0, kept, theirs)


@FAST
@LAYOUTS
@DTYPES
def test_memory_in_place(benchmark, choose, timed, torch, remember_memory, dtype, layout, fast):
    """Gradients are enabled, and nothing needs one."""
    problem = LARGEST if timed else LARGEST.small()
    q, _, cos, sin = tensors(torch, problem, dtype)
    case = f"torch{' fast' if fast else ''}, {layout}, in place, peak"
    with choose(case, fast), torch.enable_grad():
        rotate(q[:, :1].clone(), cos, sin, layout=layout)  # compiled
        call = partial(rotate, q, cos, sin, layout=layout, out=q)
        benchmark.pedantic(call)
        if timed:
            found = measure.peak_bytes(call)
            remember_memory(case, "bytes of x", problem, dtype, 1 / 16, found, q.nbytes)


def kept_bytes(torch, step):
    """Bytes that autograd saves between forward and backward, each storage counted once."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storages.values())


@FAST
@LAYOUTS
def test_decode_step(compare, choose, torch, layout, fast):
    q, _, cos, sin = tensors(torch, DECODE, "float32")
    bare = peers.by_halves(torch) if layout == "half" else peers.stacking(torch)
    case = f"torch{' fast' if fast else ''}, decode step, {layout}"
    with choose(case, fast), torch.no_grad():
        compare(
            case,
            "formula by hand",
            ours=lambda: rotate(q, cos, sin, layout=layout),
            peer=lambda: bare(q, cos, sin),
            problem=DECODE,
            use="decode",
            limit=1.3,
            fast=fast,
            passes=2,
            numpy=to_numpy,
        )


def test_one_position(compare, torch):
    rope = RoPE(128, layout="half")
    inv_freq = torch.from_numpy(rope.frequencies().inv_freq)
    at = torch.tensor([100_003])

    def by_hand():
        angles = at[:, None] * inv_freq
        return angles.cos(), angles.sin()

    compare(
        "torch, cos_sin of one position",
        "float64 product, cos, sin",
        ours=lambda: rope.cos_sin(at),
        peer=by_hand,
        problem="1×64",
        use="decode",
        limit=3.75,
        numpy=to_numpy,
    )


def test_one_token(compare, torch):
    """A new position at each call, and everything that follows from it."""
    rope = RoPE(128, layout="half")
    inv_freq = torch.from_numpy(rope.frequencies().inv_freq)
    ours_at, peer_at = itertools.count(1000), itertools.count(1000)
    q, k = map(torch.from_numpy, DECODE_BOTH.q_and_k())
    formula = peers.by_halves(torch)

    def by_hand():
        n = next(peer_at)
        angles = torch.arange(n, n + 1)[:, None] * inv_freq
        cos, sin = angles.cos().float(), angles.sin().float()
        return formula(q, cos, sin), formula(k, cos, sin)

    with torch.no_grad():
        compare(
            "torch, rope(q, k) of one token",
            "by hand, float64 angles",
            ours=lambda: rope(q, k, offset=next(ours_at)),
            peer=by_hand,
            problem=DECODE_BOTH,
            use="decode",
            limit=2,
            passes=2,
            numpy=to_numpy,
        )


@lru_cache
def usual_formula(torch, layout):
    """Its name, the function, and ours and it, compiled for every length."""
    name = "transformers' formula" if layout == "half" else "Meta's complex form"
    usual = peers.concatenating(torch) if layout == "half" else peers.meta
    ours = partial(rotate, layout=layout)
    return name, usual, *(torch.compile(f, dynamic=True) for f in (ours, usual))


@LAYOUTS
def test_sizes(compare_all, need, timed, torch, layout, sized):
    """From less than a token to a gigabyte: is there a size at which the cost steps up?"""
    need("torch by size", "llvmlite")
    x, cos, sin = map(torch.from_numpy, sized.large_arrays())
    half = layout == "half"
    tables = peers.full_width(torch, cos, sin) if half else (torch.complex(cos, sin),)
    name, usual, ours_compiled, usual_compiled = usual_formula(torch, layout)
    rotated = partial(rotate, x, cos, sin, layout=layout)
    contenders = {
        name: partial(usual, x, *tables),
        "rotate": (without_fast, rotated),
        "rotate, fast": rotated,
    }
    if timed and has_compiler():
        contenders["rotate, compiled"] = partial(ours_compiled, x, cos, sin)
        contenders[f"{name}, compiled"] = partial(usual_compiled, x, *tables)
    with torch.no_grad():
        compare_all(
            "torch",
            layout,
            sized,
            contenders | {"copy": x.clone},
            copy="copy",
            limits={("rotate", name): 1.0, ("rotate, fast", name): 1.0},
            numpy=to_numpy,
        )


@DTYPES
def test_rotary_embedding_torch(compare, need, timed, torch, dtype):
    """It computes cos and sin in each call, from float32 angles."""
    case = "torch, interleaved"
    peer = need("rotary-embedding-torch", "rotary_embedding_torch")
    problem = FIRST if timed else FIRST.small()
    q, *_ = tensors(torch, problem, dtype)
    cos, sin = map(torch.from_numpy, problem.tables(precision="float32"))
    turning = peer.RotaryEmbedding(problem.shape[-1])
    angles = turning(torch.arange(problem.shape[-2]))
    with torch.no_grad():
        compare(
            case,
            "rotary-embedding-torch",
            ours=lambda: rotate(q, cos, sin, layout="interleaved"),
            peer=lambda: peer.apply_rotary_emb(angles, q),
            problem=problem,
            dtype=dtype,
            passes=2,
            numpy=to_numpy,
            # Its frequencies are rounded differently: half an eps of an angle.
            slack=problem.shape[-2] * measure.EPS["float32"],
        )
