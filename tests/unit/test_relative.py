"""ALiBi, clipped vectors, T5's buckets and Transformer-XL's scores, against plain loops."""

import math

import numpy as np
import pytest
import reference

from rope_xp import _backends, relative
from rope_xp.attention import attention


def buckets(lib, distances, **options):
    if lib.name == "strict" and not lib.has_float64:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    return relative.t5_bucket(distances, **options)


@pytest.mark.eager
@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 8, 12, 16, 20, 71, 112])
def test_slopes(lib, n_heads):
    got = relative.alibi_slopes(n_heads, xp=lib.xp, device=lib.device)
    assert tuple(got.shape) == (n_heads,)
    assert got.dtype == lib.dtype("float32")
    wanted = np.asarray(reference.alibi_slopes(n_heads), dtype=np.float32)
    np.testing.assert_array_equal(lib.numpy(got), wanted)  # the same bits for all libraries


def test_slopes_by_hand():
    eight = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    np.testing.assert_array_equal(relative.alibi_slopes(8, dtype=np.float64), eight)
    six = [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]
    np.testing.assert_array_equal(relative.alibi_slopes(6), six)
    assert relative.alibi_slopes(6, dtype=np.float16).dtype == np.float16


@pytest.mark.eager
@pytest.mark.parametrize("bias_max", [8, 16, 4.5])
@pytest.mark.parametrize("n_heads", [1, 4, 6, 16, 40, 71])
def test_slopes_of_another_bias_max(lib, n_heads, bias_max):
    """MPT's `alibi_bias_max`, and its own order: every other slope of the next power of two first."""
    upper = 2 ** math.ceil(math.log2(n_heads))
    mpt = [2.0 ** (-bias_max * k / upper) for k in range(1, upper + 1)]
    mpt = mpt if upper == n_heads else (mpt[1::2] + mpt[::2])[:n_heads]
    wanted = np.asarray(mpt, dtype=np.float32)
    got = relative.alibi_slopes(n_heads, bias_max=bias_max, xp=lib.xp, device=lib.device)
    np.testing.assert_array_equal(lib.numpy(got), wanted)
    np.testing.assert_array_equal(reference.alibi_slopes(n_heads, bias_max), mpt)


HEADS = [range(4, 8), slice(4, None), slice(None, 3), slice(None, None, 2), [7, 0, 3], (5,)]
HEADS += [np.asarray([2, 6]), range(7, -1, -1), slice(-2, None), [1, 1]]


@pytest.mark.parametrize("heads", HEADS, ids=repr)
@pytest.mark.parametrize("form", ["distance", "key"])
def test_heads_of_a_rank(lib, heads, form):
    """What one rank computes of its heads is what one machine computes of all."""
    rows = np.arange(8)[heads if isinstance(heads, slice) else [*heads]]
    all_heads = np.asarray(reference.alibi_slopes(8, 16), dtype=np.float32)
    slopes = relative.alibi_slopes(8, bias_max=16, heads=heads)
    np.testing.assert_array_equal(slopes, all_heads[rows])
    q, k = lib.array([6, 2]), lib.array(np.arange(7))
    whole = lib.numpy(relative.alibi_bias(q, k, 8, bias_max=16, form=form))
    got = relative.alibi_bias(q, k, 8, bias_max=16, heads=heads, form=form)
    np.testing.assert_array_equal(lib.numpy(got), whole[rows])
    own = relative.alibi_bias(
        q, k, 8, slopes=lib.array(all_heads, "float32"), heads=heads, form=form
    )
    np.testing.assert_array_equal(lib.numpy(own), whole[rows])


@pytest.mark.parametrize("form", ["distance", "key"])
@pytest.mark.parametrize("kind", ["list", "numpy", "library"])
def test_slopes_of_ones_own(lib, kind, form):
    values = [0.3, 0.0, -0.25, 2.0]
    slopes = {
        "list": values,
        "numpy": np.asarray(values),
        "library": lib.array(values, "float32"),
    }[kind]
    q, k = np.asarray([[4, 0], [9, 2]]), np.arange(5)
    got = relative.alibi_bias(lib.array(q), lib.array(k), 4, slopes=slopes, form=form)
    far = np.abs(k - q[:, None, :, None]) if form == "distance" else -k[None]  # (batch, 1, q, k)
    wanted = np.asarray(values, np.float32)[:, None, None] * -far.astype(np.float32)
    assert got.dtype == lib.dtype("float32")
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(lib.numpy(got), wanted)


def test_learned_slopes_keep_their_gradient():
    torch = pytest.importorskip("torch", reason="learned slopes are compared in torch")
    slopes = torch.nn.Parameter(torch.tensor([0.5, 0.25, 0.125], dtype=torch.bfloat16))
    bias = relative.alibi_bias(np.asarray([3]), [0, 1], 3, slopes=slopes, heads=[2, 0])
    assert bias.dtype == torch.float32
    bias.sum().backward()
    assert slopes.grad.tolist() == [-5.0, 0.0, -5.0]


@pytest.mark.filterwarnings("error")
def test_a_bias_beyond_float16(lib):
    """Rounded as the cast rounds it, without a warning: −∞ from −65520 on, and no weight."""
    if lib.name == "strict":
        pytest.skip("array-api-strict has no float16")
    q, k = lib.array([131040, 131039]), lib.array([0, 131000])
    got = relative.alibi_bias(q, k, 8, dtype=lib.dtype("float16"))
    assert got.dtype == lib.dtype("float16")
    wanted = [[-np.inf, -20.0], [-65504.0, -19.5]]
    np.testing.assert_array_equal(lib.numpy(got)[0], wanted)
    np.testing.assert_array_equal(lib.numpy(got)[1], [[-32768, -10], [-32752, -9.75]])
    assert np.all(np.isfinite(lib.numpy(got)[1:]))
    v = lib.array(np.asarray([[[1.0], [2.0]]]), "float32")
    zero = lib.array(np.zeros((1, 2, 2)), "float32")
    out = lib.numpy(attention(zero, zero, v, bias=got[:1, ...]))
    np.testing.assert_array_equal(out, [[[2.0], [2.0]]])


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_positions_of_any_integer_type(lib, dtype):
    """Unsigned and small ones would wrap."""
    q, k = lib.array([0, 100, 3], dtype), lib.array([127, 0], dtype)
    got = lib.numpy(relative.relative_positions(q, k))
    np.testing.assert_array_equal(got, [[127, 0], [27, -100], [124, -3]])
    mixed = lib.numpy(relative.relative_positions(lib.array([2], "int16"), k))
    np.testing.assert_array_equal(mixed, [[125, -2]])
    bias = lib.numpy(relative.alibi_bias(q, k, 1))
    np.testing.assert_array_equal(bias, -np.abs(got)[None] / 256)
    np.testing.assert_array_equal(
        lib.numpy(relative.clipped_index(q, k, 30)), np.clip(got, -30, 30) + 30
    )
    key = lib.numpy(relative.alibi_bias(q, k, 1, form="key"))
    np.testing.assert_array_equal(key, np.asarray([[[127, 0]]]) / 256)


@pytest.mark.x64
def test_differences_of_the_whole_domain(lib):
    if not lib.has_float64:
        pytest.skip("no 64-bit integers")
    q, k = lib.array([2**31 - 1], "int32"), lib.array([-(2**31)], "int32")
    assert lib.numpy(relative.relative_positions(q, k)) == [[-(2**32) + 1]]


@pytest.mark.eager
@pytest.mark.x64
def test_batches_and_real_positions(lib):
    q, k = np.asarray([[0, 1], [5, 6]]), np.asarray([[0, 1, 2], [4, 5, 6]])
    got = relative.alibi_bias(lib.array(q), lib.array(k), 2)
    assert tuple(got.shape) == (2, 2, 2, 3)
    wanted = -np.abs(k[:, None, None, :] - q[:, None, :, None]) / [[[[16]], [[256]]]]
    np.testing.assert_array_equal(lib.numpy(got), wanted)
    shared = relative.alibi_bias(lib.array(q), lib.array(k[0]), 2)
    assert tuple(shared.shape) == (2, 2, 2, 3)
    np.testing.assert_array_equal(lib.numpy(shared)[0], wanted[0])

    half = lib.array([0.5], "float32")
    got = relative.alibi_bias(half, lib.array([0, 2]), 1)
    np.testing.assert_array_equal(lib.numpy(got), [[[-0.5 / 256, -1.5 / 256]]])
    assert got.dtype == lib.dtype("float32")
    if lib.has_float64:
        assert relative.alibi_bias(lib.array([0.5]), half, 1).dtype == lib.dtype("float64")
    if lib.name != "strict":  # which has no smaller type
        small = relative.alibi_bias(lib.array([9]), lib.array([0]), 1, dtype=lib.dtype("float16"))
        assert small.dtype == lib.dtype("float16")


def test_both_forms_of_alibi_are_one_where_later_keys_are_hidden(lib, rng):
    q, k, v = (lib.array(a) for a in rng.standard_normal((3, 4, 5, 8)).astype(np.float32))
    at = lib.array(np.arange(5))
    results = {
        causal: [
            lib.numpy(
                attention(q, k, v, causal=causal, bias=relative.alibi_bias(at, at, 4, form=form))
            )
            for form in ("distance", "key")
        ]
        for causal in (True, False)
    }
    np.testing.assert_allclose(*results[True], rtol=0, atol=2e-6)
    assert np.abs(results[False][0] - results[False][1]).max() > 1e-3


@pytest.mark.parametrize("max_distance", [0, 1, 3, 100])
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_shaw(lib, rng, max_distance, batch):
    q = rng.standard_normal((2, 3, 2, 4)).astype(np.float32)
    k = rng.standard_normal((2, 3, 6, 4)).astype(np.float32)
    table = rng.standard_normal((2 * max_distance + 1, 4)).astype(np.float32)
    q_at, k_at = np.asarray([[1, 5], [2, 0]]), np.asarray([[0, 1, 2, 3, 4, 5], [9, 1, 2, 0, 3, 4]])
    q_at, k_at = (a[0] if batch is None else a[:batch] for a in (q_at, k_at))
    index = relative.clipped_index(lib.array(q_at), lib.array(k_at), max_distance)
    assert tuple(index.shape) == (2, 6) if batch is None else (batch, 2, 6)
    got = relative.shaw_score(lib.array(q), lib.array(k), lib.array(table), index)
    assert tuple(got.shape) == (2, 3, 2, 6)
    assert got.dtype == lib.dtype("float32")
    got, q_at, k_at = lib.numpy(got), np.atleast_2d(q_at), np.atleast_2d(k_at)
    for row in range(2):
        at = q_at[row % len(q_at)].tolist(), k_at[row % len(k_at)].tolist()
        for head in range(3):
            wanted = reference.shaw_score(q[row, head], k[row, head], table, *at, max_distance)
            np.testing.assert_allclose(got[row, head], wanted, rtol=0, atol=4e-6)


CASES = [
    (True, 32, 128),
    (False, 32, 128),
    (True, 32, 1000),
    (True, 4, 2),
    (True, 4, 2**31 - 1),
    (False, 2, 2),
    (False, 3, 7),
    (False, 65, 4096),
    (True, 66, 333),
    (True, 128, 33),
]


@pytest.mark.parametrize(("bidirectional", "num_buckets", "max_distance"), CASES)
def test_t5(lib, bidirectional, num_buckets, max_distance):
    far = np.asarray([-(2**31) + 1, -70_000, 70_000, 2**31 - 1])
    distances = np.concatenate((np.arange(-1500, 1501), far))
    got = buckets(
        lib,
        lib.array(distances),
        bidirectional=bidirectional,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    assert got.dtype == lib.array(distances).dtype
    options = (bidirectional, num_buckets, max_distance)
    wanted = [reference.t5_bucket(int(d), *options) for d in distances]
    clear = np.asarray([w is not None for w in wanted])
    assert np.mean(clear) > 0.99
    np.testing.assert_array_equal(lib.numpy(got)[clear], [w for w in wanted if w is not None])


def test_t5_at_boundaries(lib):
    """Where the logarithm is an integer, rounding to float32 decides, as in transformers 5.24.0."""
    distances = lib.array([-64, -32, -16, -15, 16, 32, 64, 127, 128])
    got = lib.numpy(buckets(lib, distances))
    np.testing.assert_array_equal(got, [14, 12, 10, 9, 26, 28, 30, 31, 31])
    options = {"bidirectional": False, "num_buckets": 36}
    for far, distance, wanted in ((32, -24, 27), (50, -30, 26)):  # float64: 26 and 27
        got = buckets(lib, lib.array([distance]), max_distance=far, **options)
        assert lib.numpy(got) == [wanted]


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"])
def test_t5_keeps_type_and_shape(lib, dtype):
    signed = not dtype.startswith("u")
    values = np.asarray([[-128, -1, 0], [1, 30, 127]]) if signed else np.asarray([[0, 1], [8, 200]])
    wanted = [[15, 1, 0], [17, 27, 31]] if signed else [[0, 17], [24, 31]]
    got = buckets(lib, lib.array(values, dtype))
    assert got.dtype == lib.array(values, dtype).dtype
    np.testing.assert_array_equal(lib.numpy(got), wanted)
    every_other = lib.array(values, dtype)[0, ::2]
    np.testing.assert_array_equal(lib.numpy(buckets(lib, every_other)), wanted[0][::2])
    scalar = buckets(lib, lib.array(1, dtype))
    assert tuple(scalar.shape) == ()


def test_t5_one_direction_has_no_later_keys(lib):
    got = lib.numpy(buckets(lib, lib.array([-2, 0, 1, 99]), bidirectional=False))
    np.testing.assert_array_equal(got, [2, 0, 0, 0])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize(("q_len", "k_len"), [(4, 4), (2, 5), (1, 3), (5, 3), (1, 1)])
def test_transformer_xl(lib, rng, q_len, k_len, per_head, causal):
    q = rng.standard_normal((2, 3, q_len, 4)).astype(np.float32)
    k = rng.standard_normal((2, 3, k_len, 4)).astype(np.float32)
    u, v = rng.standard_normal((2, 3, 4)).astype(np.float32)
    rows = k_len if causal else k_len + q_len - 1
    r = rng.standard_normal((3, rows, 4) if per_head else (rows, 4)).astype(np.float32)
    got = relative.transformer_xl_score(*(lib.array(a) for a in (q, k, r, u, v)))
    assert tuple(got.shape) == (2, 3, q_len, k_len)
    assert got.dtype == lib.dtype("float32")
    got = lib.numpy(got)
    for row in range(2):
        for head in range(3):
            vectors = r[head] if per_head else r
            vector = {k_len - 1 - t: vectors[t] for t in range(rows)}
            wanted = reference.transformer_xl_score(
                q[row, head], k[row, head], vector, u[head], v[head]
            )
            np.testing.assert_allclose(got[row, head], wanted, rtol=0, atol=4e-6)


def test_scores_keep_the_dtype_of_q(lib, rng):
    small, large = ("float32", "float64") if lib.name == "strict" else ("float16", "float32")
    q, k = (lib.array(a, small) for a in rng.standard_normal((2, 3, 2, 4)))
    r, u = lib.array(rng.standard_normal((3, 4)), large), lib.array(np.zeros((3, 4)), large)
    index = lib.array([[1, 2], [0, 1]])
    assert relative.transformer_xl_score(q, k, r, u, u).dtype == lib.dtype(small)
    assert relative.shaw_score(q, k, r, index).dtype == lib.dtype(small)


def everything(q, k, r, u, at):
    index = relative.clipped_index(at, at, 1)
    steps = relative.relative_positions(at, at)
    return (
        index,
        relative.shaw_score(q, k, r[:3, ...], index),
        relative.transformer_xl_score(q, k, r, u, u),
        relative.t5_bucket(steps),
        relative.t5_bucket(steps, bidirectional=False, num_buckets=7, max_distance=5),
        relative.alibi_bias(at, at, 3),
        relative.alibi_bias(at, at, 3, form="key"),
        relative.alibi_slopes(3, xp=_backends.namespace(at=at)),
    )


def test_compiled_and_lazy(lib, rng):
    """No values are inspected: jax.jit, torch.compile(fullgraph=True), Dask."""
    q, k = rng.standard_normal((2, 2, 3, 4, 8)).astype(np.float32)
    r, u = rng.standard_normal((7, 8)).astype(np.float32), np.ones((3, 8), np.float32)
    plain = q, k, r, u, np.arange(4) + 7
    arguments = [lib.array(a) for a in plain]
    if lib.name == "jax":
        import jax

        got = jax.jit(everything)(*arguments)
    elif lib.name == "torch":
        import torch

        torch._dynamo.reset()
        got = torch.compile(everything, fullgraph=True, backend="aot_eager")(*arguments)
    elif lib.name == "dask":
        import dask

        def refuse(*_, **__):
            pytest.fail("something was computed")

        with dask.config.set(scheduler=refuse):
            got = everything(*arguments)
    else:
        pytest.skip("this library neither compiles nor is lazy")
    for ours, wanted in zip(got, everything(*plain), strict=True):
        np.testing.assert_allclose(lib.numpy(ours), wanted, rtol=0, atol=2e-6)
