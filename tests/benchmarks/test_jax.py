"""jax.jit: ours beside the usual formulas, compiled."""

import itertools
from functools import partial

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import DECODE, DECODE_BOTH, LARGEST, PROBLEMS, Problem
from rope_xp import RoPE, rotate

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.fixture
def jax(need):
    return need("jax", "jax")


def arrays(jax, problem, dtype):
    x, _, cos, sin = map(jax.numpy.asarray, problem.arrays())
    return x.astype(dtype), cos, sin


def jitted(jax, function, *arguments):
    """A call that returns when the result is computed; it runs on every core."""
    compiled = jax.jit(function)

    def call():
        result = compiled(*arguments)
        for array in result if isinstance(result, tuple) else (result,):
            array.block_until_ready()
        return result

    return call


def named(jax, what, limit=None):
    """The name of a case and its limit, which is for CPUs: on a GPU, times are for information."""
    if jax.default_backend() == "cpu":
        return f"jax.jit, {what}", limit
    return f"jax-{jax.default_backend()} jit, {what}", None


def to_numpy(array):
    return np.asarray(array.astype("float32"))


@DTYPES
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_half(compare, jax, timed, problem, dtype):
    problem = problem if timed else problem.small()
    x, cos, sin = arrays(jax, problem, dtype)
    tables = [t.astype(dtype) for t in peers.full_width(jax.numpy, cos, sin)]
    peer = peers.on_first(jax.numpy, peers.concatenating(jax.numpy), 2 * problem.n_pairs)
    case, limit = named(jax, "half", 1.0 if problem.shape[-1] == 64 else 0.65)
    compare(
        case,
        "concatenating form",
        ours=jitted(jax, partial(rotate, layout="half"), x, cos, sin),
        peer=jitted(jax, peer, x, *tables),
        problem=problem,
        dtype=dtype,
        limit=limit,
        passes=2,
        numpy=to_numpy,
    )


@DTYPES
def test_copy(compare, jax, timed, dtype):
    problem = LARGEST if timed else LARGEST.small()
    x, cos, sin = arrays(jax, problem, dtype)
    wanted = peers.by_halves(jax.numpy)(x.astype("float32"), cos, sin).astype(dtype)
    case, limit = named(jax, "half", 1.2)
    compare(
        case,
        "jitted copy",
        ours=jitted(jax, partial(rotate, layout="half"), x, cos, sin),
        peer=jitted(jax, jax.numpy.copy, x),
        expected=lambda: wanted,
        problem=problem,
        dtype=dtype,
        limit=limit,
        passes=2,
        numpy=to_numpy,
    )


@DTYPES
@pytest.mark.parametrize("problem", PROBLEMS, ids=peers.name)
def test_interleaved(compare, jax, timed, problem, dtype):
    problem = problem if timed else problem.small()
    x, cos, sin = arrays(jax, problem, dtype)
    peer = peers.on_first(jax.numpy, peers.stacking(jax.numpy), 2 * problem.n_pairs)
    case, limit = named(jax, "interleaved", 1.0)
    compare(
        case,
        "stacking form",
        ours=jitted(jax, partial(rotate, layout="interleaved"), x, cos, sin),
        peer=jitted(jax, peer, x, cos.astype(dtype), sin.astype(dtype)),
        problem=problem,
        dtype=dtype,
        limit=limit,
        passes=2,
        numpy=to_numpy,
    )


def test_decode_step(compare, jax):
    x, cos, sin = arrays(jax, DECODE, "float32")
    compare(
        named(jax, "decode step")[0],
        "formula by hand",
        ours=jitted(jax, partial(rotate, layout="half"), x, cos, sin),
        peer=jitted(jax, peers.by_halves(jax.numpy), x, cos, sin),
        problem=DECODE,
        use="decode",
        passes=2,
        numpy=to_numpy,
    )


def test_one_token(compare, jax):
    """Without jit. A new position at each call, and everything that follows from it."""
    rope = RoPE(128, layout="half")
    plain, formula = peers.float64_phases(rope.frequencies().inv_freq), peers.by_halves(jax.numpy)
    ours_at, peer_at = itertools.count(1000), itertools.count(1000)
    q, k = map(jax.numpy.asarray, DECODE_BOTH.q_and_k())

    def by_hand():
        n = next(peer_at)
        cos, sin = (jax.numpy.asarray(t, dtype="float32") for t in plain(np.arange(n, n + 1)))
        return jax.block_until_ready((formula(q, cos, sin), formula(k, cos, sin)))

    compare(
        "JAX eager, rope(q, k) of one token",
        "by hand, float64 angles",
        ours=lambda: jax.block_until_ready(rope(q, k, offset=next(ours_at))),
        peer=by_hand,
        problem=DECODE_BOTH,
        use="decode",
        limit=2,
        passes=2,
        numpy=to_numpy,
    )


N_LAYERS = 8


def forward(turn):
    return turn


def with_gradient(turn):
    import jax

    def both(q, k, *tables):
        turned, gradient = jax.vjp(lambda q, k: turn(q, k, *tables), q, k)
        return *turned, *gradient((q, k))

    return both


def unrolled(turn):
    def layers(q, k, *tables):
        for _ in range(N_LAYERS):
            q, k = turn(q, k, *tables)
            q, k = 0.5 * q + 1, 0.5 * k + 1  # what else a layer does, so that rotations stay apart
        return q, k

    return layers


def scanned(turn):
    import jax

    def layers(q, k, *tables):
        def layer(carry, _):
            q, k = turn(*carry, *tables)
            return (0.5 * q + 1, 0.5 * k + 1), None

        return jax.lax.scan(layer, (q, k), None, length=N_LAYERS)[0]

    return layers


@pytest.mark.parametrize(
    ("what", "model"),
    [
        ("forward", forward),
        ("forward and gradient", with_gradient),
        (f"{N_LAYERS} layers", unrolled),
        (f"scan over {N_LAYERS} layers", scanned),
    ],
    ids=["forward", "gradient", "layers", "scan"],
)
def test_phases_inside_jit(compare, jax, timed, what, model):
    """rope(q, k) makes its tables inside of the compiled function; the peer gets them as arguments."""
    problem = Problem((1, 32 + 8, 1024, 128), 64)
    problem = problem if timed else Problem((1, 10, 16, 128), 64)
    rope = RoPE(128, layout="half")
    q, k = map(jax.numpy.asarray, problem.q_and_k())
    tables = rope.cos_sin(jax.numpy.arange(problem.shape[-2]))

    def with_tables(q, k, cos, sin):
        return rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)

    case, limit = named(jax, f"phases inside, {what}", 1.3)
    compare(
        case,
        "tables as arguments",
        ours=jitted(jax, model(rope), q, k),
        peer=jitted(jax, model(with_tables), q, k, *tables),
        problem=problem,
        use="training" if model is with_gradient else "prefill",
        limit=limit,
        passes={forward: 2, with_gradient: 4}.get(model, 2 * N_LAYERS),
        numpy=to_numpy,
        # A layer adds an error of its own, and one to its result.
        slack=2e-6 * N_LAYERS,
    )


def test_sizes(compare_all, jax, sized):
    """From less than a token to a gigabyte: is there a size at which the cost steps up?"""
    x, cos, sin = map(jax.numpy.asarray, sized.large_arrays())
    usual = peers.concatenating(jax.numpy)
    tables = peers.full_width(jax.numpy, cos, sin)
    name, alone, given = "usual formula", "rope, phases inside", "rotate, tables as arguments"
    compare_all(
        "JAX",
        "half",
        sized,
        {
            name: jitted(jax, usual, x, *tables),
            given: jitted(jax, partial(rotate, layout="half"), x, cos, sin),
            alone: jitted(jax, RoPE(128, layout="half"), x),
            "copy": jitted(jax, jax.numpy.copy, x),
        },
        copy="copy",
        limits={(given, name): 1.0, (alone, given): 1.3},
        numpy=to_numpy,
    )
