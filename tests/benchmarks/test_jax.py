"""jax.jit: ours beside the usual formulas, compiled."""

from functools import partial

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import DECODE, LARGEST, PROBLEMS
from rope_xp import rotate

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
    return lambda: compiled(*arguments).block_until_ready()


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
        numpy=to_numpy,
    )
