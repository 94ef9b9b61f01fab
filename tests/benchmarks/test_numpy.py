"""NumPy: with nothing else installed, and with the extra `fast`."""

import itertools
import math
import statistics
from functools import partial

import numpy as np
import pytest

from benchmarks import measure, peers
from benchmarks.conftest import without_fast
from benchmarks.peers import DECODE, DECODE_BOTH, LARGEST, PROBLEMS
from rope_xp import RoPE, rotate

LAYOUTS = ("half", "interleaved")


def formula(layout):
    return peers.concatenating(np) if layout == "half" else peers.stacking(np)


def by_hand(problem, layout, x, cos, sin):
    tables = peers.full_width(np, cos, sin) if layout == "half" else (cos, sin)
    return peers.on_first(np, formula(layout), 2 * problem.n_pairs)(x, *tables)


@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_half(compare, choose, timed, problem):
    problem = problem if timed else problem.small()
    x, _, cos, sin = problem.arrays()
    tables = peers.full_width(np, cos, sin)
    peer = peers.on_first(np, peers.concatenating(np), 2 * problem.n_pairs)
    with choose("NumPy, half", fast=False):
        compare(
            "NumPy, half",
            "rotate_half in NumPy",
            ours=lambda: rotate(x, cos, sin, layout="half"),
            peer=lambda: peer(x, *tables),
            problem=problem,
            limit=0.45,
            fast=False,
            passes=2,
        )


@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_interleaved(compare, choose, timed, problem):
    problem = problem if timed else problem.small()
    x, _, cos, sin = problem.arrays()
    with choose("NumPy, interleaved", fast=False):
        compare(
            "NumPy, interleaved",
            "x.copy()",
            ours=lambda: rotate(x, cos, sin, layout="interleaved"),
            peer=x.copy,
            expected=lambda: by_hand(problem, "interleaved", x, cos, sin),
            problem=problem,
            limit=1.4,
            fast=False,
            passes=2,
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_into_an_existing_array(compare, choose, need, timed, layout, problem):
    case = f"NumPy fast, {layout}, into an array"
    need(case, "onnx", "onnxruntime")
    problem = problem if timed else problem.small()
    x, _, cos, sin = problem.arrays()
    out, theirs = np.empty_like(x), np.empty_like(x)
    with choose(case, fast=True):
        compare(
            case,
            "onnxruntime",
            ours=lambda: rotate(x, cos, sin, layout=layout, out=out),
            peer=peers.onnxruntime(problem, layout, x, cos, sin, theirs),
            problem=problem,
            limit=0.7,
            fast=True,
            passes=2,
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_in_place(compare, choose, timed, layout, problem):
    problem = problem if timed else problem.small()
    x, _, cos, sin = problem.arrays()
    wanted, out = by_hand(problem, layout, x, cos, sin), np.empty_like(x)
    source = x.copy()
    case = f"NumPy fast, {layout}, in place"
    with choose(case, fast=True):
        compare(
            case,
            "np.copyto",
            ours=lambda: rotate(x, cos, sin, layout=layout, out=x),  # norms do not change
            peer=lambda: np.copyto(out, source),
            expected=lambda: wanted,
            problem=problem,
            limit=1.0,
            fast=True,
            passes=2,
        )


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_decode_step(compare, choose, fast):
    x, _, cos, sin = DECODE.arrays()
    bare = peers.by_halves(np)
    case = f"NumPy{' fast' if fast else ''}, decode step"
    with choose(case, fast):
        compare(
            case,
            "formula by hand",
            ours=lambda: rotate(x, cos, sin, layout="half"),
            peer=lambda: bare(x, cos, sin),
            problem=DECODE,
            limit=1.3,
            fast=fast,
            use="decode",
            passes=2,
        )


def test_one_position(compare):
    rope = RoPE(128, layout="half")
    plain, at = peers.float64_phases(rope.frequencies().inv_freq), np.asarray([100_003])
    compare(
        "NumPy, cos_sin of one position",
        "float64 product, cos, sin",
        ours=lambda: rope.cos_sin(at),
        peer=lambda: plain(at),
        problem="1×64",
        use="decode",
        limit=5,
    )


def test_one_token(compare):
    """A new position at each call, and everything that follows from it."""
    rope = RoPE(128, layout="half")
    plain, formula = peers.float64_phases(rope.frequencies().inv_freq), peers.by_halves(np)
    ours_at, peer_at = itertools.count(1000), itertools.count(1000)
    q, k = DECODE_BOTH.q_and_k()

    def by_hand():
        n = next(peer_at)
        cos, sin = (t.astype(np.float32) for t in plain(np.arange(n, n + 1)))
        return formula(q, cos, sin), formula(k, cos, sin)

    compare(
        "NumPy, rope(q, k) of one token",
        "by hand, float64 angles",
        ours=lambda: rope(q, k, offset=next(ours_at)),
        peer=by_hand,
        problem=DECODE_BOTH,
        use="decode",
        limit=2,
        passes=2,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes(compare_all, need, layout, sized):
    """From less than a token to a gigabyte: is there a size at which the cost steps up?"""
    need("NumPy by size", "onnx", "onnxruntime", "llvmlite")
    x, cos, sin = sized.large_arrays()
    out, theirs = np.empty_like(x), np.empty_like(x)
    usual = "three plain lines" if layout == "half" else "split and stacked"
    rotated = partial(rotate, x, cos, sin, layout=layout)
    compare_all(
        "NumPy",
        layout,
        sized,
        {
            usual: partial(by_hand, sized, layout, x, cos, sin),
            "rotate": (without_fast, rotated),
            "rotate, fast": rotated,
            "rotate, fast, into an array": lambda: rotated(out=out),
            "onnxruntime, into an array": peers.onnxruntime(sized, layout, x, cos, sin, theirs),
            "copy": x.copy,
        },
        copy="copy",
        limits={
            ("rotate", usual): 0.45 if sized.nbytes >= 2**23 and layout == "half" else 1.0,
            ("rotate, fast", usual): 1.0,
        },
    )


@pytest.mark.parametrize("where", ["fresh", "in place"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_peak_memory(benchmark, choose, remember_memory, timed, fast, layout, where):
    problem = LARGEST if timed else LARGEST.small()
    x, _, cos, sin = problem.arrays()
    out, limit = (None, 1 + 1 / 16) if where == "fresh" else (x, 1 / 16)
    case = f"NumPy{' fast' if fast else ''}, {layout}, {where}, peak"
    with choose(case, fast):
        rotate(x[:, :1], cos, sin, layout=layout)  # compiled
        call = partial(rotate, x, cos, sin, layout=layout, out=out)
        benchmark.pedantic(call)
        if not timed:
            return
        found = measure.peak_bytes(call)
        remember_memory(case, "bytes of x", problem, "float32", limit, found, x.nbytes)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["batch", "heads", "length"])
def test_cost_grows_linearly(benchmark, report, timed, axis):
    """Time per element into an existing array, while one axis grows fourfold."""
    most = 2**28 if timed else 2**16
    shape = [1, 4, 384, 128] if timed else [1, 1, 16, 128]
    steps = []
    while 4 * math.prod(shape) <= most:
        problem = peers.Problem(tuple(shape), 64)
        # Ones, because pages count as memory only when they have been written.
        x, out = np.ones(shape, np.float32), np.ones(shape, np.float32)
        one = measure.clock(partial(rotate, x, *problem.tables(), layout="half", out=out))
        seconds = [one() for _ in range(9)]
        ns = measure.digits(1e9 * statistics.median(seconds) / x.size)
        steps.append({"shape": str(problem), "mib": x.nbytes / 2**20, "ns": ns})
        shape[axis] *= 4
    benchmark.pedantic(one)
    if timed:
        name = ("batch", "heads", "length")[axis]
        report.growth.append({"case": "NumPy, half, into an array", "axis": name, "steps": steps})
