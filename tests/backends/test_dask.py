"""What only Dask has: laziness, blocks, unknown lengths."""

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, analysis, attention, axes

da = pytest.importorskip("dask.array", reason="dask is not installed")
pytestmark = pytest.mark.backend("dask")


class Computed(Exception):
    pass


@pytest.fixture
def lazy():
    """Any computation is an error."""
    import dask

    def refuse(*_, **__):
        raise Computed

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("chunks", [(1, 2, 3, 8), (2, 4, 6, 4), (2, 1, 4, 3), -1])
def test_stays_lazy_and_agrees_with_numpy(x, layout, chunks, lazy):
    rope = RoPE(8, layout=layout, rotary_dim=6, rotary_start=1)
    q, k = rope(da.from_array(x, chunks=chunks), da.from_array(x[:, :2], chunks=2), offset=5)
    moved = rope.shift(k, da.from_array(np.asarray([[3], [-4]])))
    assert (q.dtype, q.shape, moved.shape) == (x.dtype, x.shape, (2, 2, 6, 8))
    wanted_q, wanted_k = rope(x, x[:, :2], offset=5)
    np.testing.assert_allclose(q.compute(scheduler="sync"), wanted_q, atol=1e-6)
    np.testing.assert_allclose(
        moved.compute(scheduler="sync"), rope.shift(wanted_k, np.asarray([[3], [-4]])), atol=1e-6
    )


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("partial", [{}, {"rotary_dim": 4, "rotary_start": 2}])
def test_an_unknown_length_with_positions_is_trusted(x, layout, partial, lazy):
    rope = RoPE(8, layout=layout, **partial)
    keep = np.asarray([True, False, True, True, False, True])
    chosen = da.from_array(x, chunks=(1, 2, 3, 8))[:, :, da.from_array(keep, chunks=3)]
    at = da.arange(6, chunks=3)[da.from_array(keep, chunks=3)]
    y = rope(chosen, positions=at)
    assert np.isnan(y.shape[2])
    wanted = rope(x[:, :, keep], positions=np.asarray([0, 2, 3, 5]))
    np.testing.assert_allclose(y.compute(scheduler="sync"), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "scheme",
    [
        axes.Axial((2, 4, 2), split=True),
        axes.Sections((2, 1, 1)),
        axes.golden_directions(3, 4, slowest=0.1, fastest=2.0),
    ],
    ids=lambda scheme: type(scheme).__name__,
)
@pytest.mark.parametrize("chunks", [(3, 1, 4), (1, 2, 3), (2, 1, 6)])
def test_several_axes_stay_lazy(x, rng, scheme, chunks, lazy):
    """Positions (n_axes, batch, seq) in any blocks; a shift; an unknown length."""
    rope = RoPE(8, layout="half", axes=scheme)
    at = rng.integers(0, 10**6, (3, 2, 6))
    blocks, lazy_at = da.from_array(x, chunks=(1, 2, 3, 5)), da.from_array(at, chunks=chunks)
    y = rope(blocks, positions=lazy_at)
    moved = rope.shift(y, lazy_at)
    keep = np.asarray([True, False, True, True, False, True])
    mask = da.from_array(keep, chunks=3)
    some = rope(blocks[:, :, mask], positions=lazy_at.rechunk((3, 2, 3))[:, :, mask])
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    wanted = rope(x, positions=at)
    for got, expected in (
        (y, wanted),
        (moved, rope(x, positions=2 * at)),
        (some, wanted[:, :, keep]),
    ):
        np.testing.assert_allclose(got.compute(scheduler="sync"), expected, atol=1e-6)


def test_an_unknown_length_without_positions_is_refused(x):
    unknown = da.from_array(x)[:, :, da.from_array(np.ones(6, bool))]
    with pytest.raises(ValueError, match=r"`positions` must be given where the sequence length"):
        RoPE(8, layout="half")(unknown)


def test_analysis_stays_lazy_and_agrees_with_numpy(x, lazy):
    inv_freq = RoPE(8, layout="half").frequencies().inv_freq
    q = x.astype(np.float64)
    blocks, at = da.from_array(q, chunks=(1, 2, 3, 5)), np.arange(6)
    chunked = da.from_array(at, chunks=4)
    for function, arrays, plain in (
        (analysis.decay_bound, (chunked,), (at,)),
        (analysis.advantage, (chunked,), (at,)),
        (lambda q, m: analysis.abel_bound(q, q, m, inv_freq, "half"), (blocks, chunked), (q, at)),
        (lambda q, m: analysis.score_curve(q, q, m, inv_freq, "half"), (blocks, 3), (q, 3)),
    ):
        rest = () if len(arrays) == 2 else (inv_freq,)
        got, wanted = function(*arrays, *rest), function(*plain, *rest)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(got.compute(scheduler="sync"), wanted, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunks", [(1, 2, 30, 8), (2, 4, 70, 3), -1])
def test_linear_attention_stays_lazy(rng, chunks, causal, lazy):
    x = rng.standard_normal((2, 4, 70, 8)).astype(np.float32)
    q, k = da.from_array(x, chunks=chunks), da.from_array(x[:, :2], chunks=chunks)
    rope = RoPE(8, layout="half")
    y = attention.linear_attention(q, k, k, rope=rope, causal=causal)
    wanted = attention.linear_attention(x, x[:, :2], x[:, :2], rope=rope, causal=causal)
    np.testing.assert_allclose(y.compute(scheduler="sync"), wanted, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_attention_of_unknown_length_is_refused(x, causal):
    unknown = da.from_array(x)[:, :, da.from_array(np.ones(6, bool))]
    with pytest.raises(ValueError, match=r"`q` and `k` must have known lengths, got nan and nan"):
        attention.linear_attention(unknown, unknown, unknown, causal=causal)


def test_threads_compute_the_same(x):
    """Dask's default; the other tests compute in one thread."""
    rope = RoPE(8, layout="interleaved")
    y = rope(da.from_array(x, chunks=(1, 1, 2, 4)), offset=7)
    np.testing.assert_allclose(y.compute(scheduler="threads"), rope(x, offset=7), atol=1e-6)


def test_one_task_a_block(x):
    blocks = da.from_array(x, chunks=(1, 1, 6, 8))
    tables = rope_xp.cos_sin(np.arange(6), [1.0, 0.1])
    y = rope_xp.rotate(blocks, *map(da.from_array, tables), layout="half")
    layers = [layer for name, layer in y.dask.layers.items() if name.startswith("rotate")]
    assert len(layers) == 1
    assert len(layers[0]) == 8
