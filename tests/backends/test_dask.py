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


# -- graphs ----------------------------------------------------------------------------------------


def zeros(chunks, seq=60, heads=4):
    """(2, heads, seq, 8), made in the tasks that need it."""
    return da.zeros((2, heads, seq, 8), chunks=chunks, dtype=np.float16)


def tasks(*arrays):
    """The tasks that are left when Dask has optimized the graph."""
    import dask

    made = {key: task for a in dask.optimize(*arrays) for key, task in dict(a.dask).items()}
    # Where blocks are, of which older versions make a value of its own: no task.
    return {key: task for key, task in made.items() if not str(key[0]).startswith("block-info")}


def rechunked(y):
    return [name for name in y.dask.layers if "rechunk" in name]


SEQ_CHUNKS = [30, 25, (7, 50, 3)]


@pytest.mark.parametrize("seq", SEQ_CHUNKS, ids=str)
@pytest.mark.parametrize("others", [(2, 4), (1, 4), (2, 1), (1, 2)])
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_a_chunk_is_one_task(seq, others, precision):
    x, rope = zeros((*others, seq, 8)), RoPE(8, layout="half", precision=precision)
    several = RoPE(8, layout="half", axes=axes.Sections((2, 1, 1)), precision=precision)
    for y in (rope(x), rope(x, offset=2**40), rope.inverse(x, offset=-5), several(x)):
        assert rechunked(y) == []
        assert len(tasks(y)) == x.npartitions
        assert y.chunks == x.chunks


def test_a_chunk_of_queries_or_keys_is_one_task():
    q, k = zeros((1, 2, 25, 8)), zeros((1, 1, 25, 8), heads=2)
    for y, x in zip(RoPE(8, layout="half")(q, k), (q, k), strict=True):
        assert len(tasks(y)) == x.npartitions


def test_tables_that_chunks_share_are_made_once():
    x = zeros((1, 1, 25, 8))
    at = da.arange(60, chunks=25)
    y = RoPE(8, layout="half").rotate(x, *RoPE(8, layout="half").cos_sin(at))
    made = {key[0] for key in tasks(y)} - {y.name}
    assert sum(key[0] in made for key in tasks(y)) <= 4 * x.numblocks[2]
    assert len([key for key in tasks(y) if key[0] == y.name]) == x.npartitions


def test_positions_of_any_kind_take_the_chunks_of_x(x, rng, lazy):
    """Of NumPy or of Dask, for all rows, for each, or for one; x stays as it is."""
    rope = RoPE(8, layout="interleaved", rotary_dim=6)
    at = rng.integers(0, 10**6, (2, 6))
    rows = np.asarray([3, 10**6])
    given = [({"positions": p}, {"positions": p}) for p in (at, at[0], at[:1], at + 0.25)]
    given += [({"positions": at[0].tolist()}, {"positions": at[0]}), ({"offset": rows},) * 2]
    numpys = len(given)
    given += [({"positions": da.from_array(p, chunks=4)}, {"positions": p}) for p in (at, at[0])]
    given += [({"offset": da.from_array(rows, chunks=1)}, {"offset": rows})]
    given += [({"offset": da.asarray(np.asarray(5))}, {"offset": 5})]
    for chunks in ((1, 2, (1, 3, 2), 8), (2, 4, 4, 8), (1, 4, 6, 8)):
        for dtype, rounding in ((np.float16, 2.0**-9), (np.float32, 1e-6), (np.float64, 1e-14)):
            values = x.astype(dtype)
            blocks = da.from_array(values, chunks=chunks)
            for i, (options, plain) in enumerate(given):
                y = rope(blocks, **options)
                assert blocks.name in y.dask.dependencies[y.name]
                assert i >= numpys or not rechunked(y)
                wanted = rope(values, **plain)
                got = y.compute(scheduler="sync")
                np.testing.assert_allclose(got, wanted, atol=rounding, rtol=rounding)
                moved = rope(da.moveaxis(blocks, 1, 2), seq_axis=-3, **options)
                got = np.moveaxis(moved.compute(scheduler="sync"), 2, 1)
                np.testing.assert_allclose(got, wanted, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("seq", [60, 600])  # of 4 pairs: made on the host, and not
@pytest.mark.parametrize("chunks", [(2, 4, 25, 8), (1, 1, 7, 8)])
def test_the_bits_are_those_of_numpy(rng, seq, chunks):
    """Whatever the chunks: how many positions there are in all decides how tables are made."""
    x = rng.standard_normal((2, 4, seq, 8)).astype(np.float32)
    rope, at = RoPE(8, layout="half"), rng.integers(0, 10**6, (2, seq))
    blocks = da.from_array(x, chunks=chunks)
    for options in ({"offset": 10**6}, {"positions": at}, {"offset": at[:, 0]}):
        wanted = rope(x, **options)
        np.testing.assert_array_equal(rope(blocks, **options).compute(scheduler="sync"), wanted)
    for mine, table in zip(
        rope.cos_sin(da.from_array(at, chunks=(1, 25))), rope.cos_sin(at), strict=True
    ):
        np.testing.assert_array_equal(mine.compute(scheduler="sync"), table)


@pytest.mark.parametrize("chunks", [(3, 25), (1, 25)])
def test_tables_of_several_axes_have_the_chunks_of_tokens(rng, chunks):
    rope, at = RoPE(8, layout="half", axes=axes.Sections((2, 1, 1))), rng.integers(0, 99, (3, 60))
    for table, wanted in zip(
        rope.cos_sin(da.from_array(at, chunks=chunks)), rope.cos_sin(at), strict=True
    ):
        assert table.chunks == ((25, 25, 10), (4,))
        np.testing.assert_array_equal(table.compute(scheduler="sync"), wanted)


def test_positions_of_numpy_may_change_afterwards(x):
    at = np.arange(6)
    y = RoPE(8, layout="half")(da.from_array(x, chunks=(1, 4, 4, 8)), positions=at)
    at += 1000
    np.testing.assert_allclose(y.compute(), RoPE(8, layout="half")(x), atol=1e-6)


@pytest.mark.parametrize("chunks", [(1, 2, 2, 8), (2, 4, 6, 3)])
def test_tables_in_other_chunks_than_x(x, chunks, lazy):
    """x is rechunked for nothing but its features."""
    at = np.arange(5, 11)
    wanted = RoPE(8, layout="half")(x, offset=5)
    blocks = da.from_array(x, chunks=chunks)
    for tables in (
        rope_xp.cos_sin(at, RoPE(8, layout="half").frequencies().inv_freq),
        RoPE(8, layout="half").cos_sin(da.from_array(at, chunks=(1, 4, 1))),
        map(da.from_array, RoPE(8, layout="half").cos_sin(at)),
    ):
        y = RoPE(8, layout="half").rotate(blocks, *tables)
        assert y.chunks[:-1] == blocks.chunks[:-1]
        assert y.numblocks[-1] == 1
        assert blocks.numblocks[-1] > 1 or blocks.name in y.dask.dependencies[y.name]
        np.testing.assert_allclose(y.compute(scheduler="sync"), wanted, atol=1e-6)


@pytest.mark.parametrize("others", [(2, 4), (1, 2)])
def test_graphs_grow_with_chunks_not_with_tokens(others):
    import pickle

    rope, sizes, counts = RoPE(8, layout="half"), [], []
    for n in (10, 100, 1000):
        for tokens in (2, 10**5):
            x = zeros((*others, tokens, 8), seq=n * tokens)
            y = rope(x, offset=7)
            sizes.append(len(pickle.dumps(y.dask)) - len(pickle.dumps(x.dask)))
            counts.append(len(tasks(y)) / x.npartitions)
    assert len(set(counts)) == 1  # as many tasks for each chunk, whatever their number
    for (few, many), n in zip((sizes[:2], sizes[2:4], sizes[4:]), (10, 100, 1000), strict=True):
        assert many - few <= 16 * n + 64  # the sizes of chunks, and no array of positions
        assert many <= 10_000 + 64 * n


def test_the_same_call_has_the_same_keys():
    """What Dask computes once, if it is asked for twice."""
    x = zeros((1, 2, 25, 8))
    rope = RoPE(8, layout="half")
    assert rope(x).name == RoPE(8, layout="half")(x).name
    others = (rope(x, offset=1), rope.inverse(x), RoPE(8, layout="interleaved")(x))
    assert len({y.name for y in (rope(x), *others, RoPE(8, layout="half", base=10.0)(x))}) == 5


def test_blocks_of_unknown_lengths_must_be_as_many(x):
    mask = da.from_array(np.ones(6, bool), chunks=3)
    unknown = da.from_array(x, chunks=(1, 2, 3, 8))[:, :, mask]
    wanted = r"`positions` of unknown length must have as many blocks as `q` has there, \(2,\), got \(1,\)"
    with pytest.raises(ValueError, match=wanted):
        RoPE(8, layout="half")(unknown, positions=np.arange(6))


@pytest.mark.parametrize("function", ["packed_positions", "packed_documents"])
@pytest.mark.parametrize("chunks", [-1, 2])
def test_packed_positions_of_many_blocks(function, chunks, lazy):
    import dask

    cu_seqlens = np.asarray([0, 3, 3, 11, 50])
    function = getattr(rope_xp.positions, function)
    with dask.config.set({"array.chunk-size": "136B"}):  # 17 positions
        y = function(da.from_array(cu_seqlens, chunks=chunks), 60)
    assert y.chunks == ((17, 17, 17, 9),)
    np.testing.assert_array_equal(y.compute(scheduler="sync"), function(cu_seqlens, 60))
    x = np.ones((2, 60, 8), np.float32)
    rope = RoPE(8, layout="half")
    blocks = rope(da.from_array(x, chunks=(1, 25, 8)), positions=y)
    if function is rope_xp.positions.packed_positions:
        wanted = rope(x, positions=function(cu_seqlens, 60))
        np.testing.assert_allclose(blocks.compute(scheduler="sync"), wanted, atol=1e-6)


def test_mask_positions_keep_their_chunks(rng, lazy):
    values = rng.integers(0, 2, (2, 23)).astype(bool)
    counts = []
    for n in (1, 10):
        mask = da.from_array(np.tile(values, n), chunks=(1, 5))
        y = rope_xp.positions.mask_positions(mask)
        assert y.chunks == mask.chunks
        assert rechunked(y) == []
        counts.append(len(tasks(y)) / mask.npartitions)
        wanted = rope_xp.positions.mask_positions(np.tile(values, n))
        np.testing.assert_array_equal(y.compute(scheduler="sync"), wanted)
    assert counts[1] <= counts[0] + 1
