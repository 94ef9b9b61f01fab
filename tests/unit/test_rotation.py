"""The rotation: values against the oracle, alignment of tables, layouts, in-place, gradients' sign."""

import math

import numpy as np
import pytest
import reference

import rope_xp

LAYOUTS = ["half", "interleaved"]


def tables(lib, positions, frequencies, dtype="float32"):
    return rope_xp.cos_sin(lib.array(positions), frequencies, dtype=lib.dtype(dtype))


@pytest.mark.eager
def test_a_quarter_turn_by_hand(lib):
    """Half: (1, 3) and (2, 4) are pairs. Interleaved: (1, 2) and (3, 4). (a, b) becomes (−b, a)."""
    x = lib.array([[1.0, 2.0, 3.0, 4.0]], "float32")
    cos, sin = lib.array([[0.0, 0.0]], "float32"), lib.array([[1.0, 1.0]], "float32")
    half = rope_xp.rotate(x, cos, sin, layout="half")
    interleaved = rope_xp.rotate(x, cos, sin, layout="interleaved")
    np.testing.assert_array_equal(lib.numpy(half), [[-3, -4, 1, 2]])
    np.testing.assert_array_equal(lib.numpy(interleaved), [[-2, 1, -4, 3]])


def test_the_worked_number_of_the_source_texts(lib):
    """x = [1, 0], θ = π/8, positions 1 and 3: the score is cos(π/4) = 0.7071 (seed 002, section 5)."""
    x = lib.array([[1.0, 0.0], [1.0, 0.0]], "float32")
    y = lib.numpy(rope_xp.rotate(x, *tables(lib, [1, 3], [math.pi / 8]), layout="half"))
    assert abs(y[0] @ y[1] - 0.7071) < 5e-5
    np.testing.assert_allclose(y[0], [0.92388, 0.38268], atol=1e-5)


@pytest.mark.eager
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start", [0, 3])
def test_against_the_oracle(lib, rng, layout, start):
    x = rng.standard_normal((2, 3, 4, 10)).astype(np.float32)
    positions, frequencies = [0, 5, 70_000, 2**31 - 1], [1.0, 0.1, 0.003]
    y = rope_xp.rotate(
        lib.array(x), *tables(lib, positions, frequencies), layout=layout, rotary_start=start
    )
    assert y.dtype == lib.dtype("float32")
    assert tuple(y.shape) == x.shape
    expected = np.asarray(reference.rotate(x.tolist(), positions, frequencies, layout, start))
    np.testing.assert_allclose(lib.numpy(y), expected, rtol=0, atol=1e-6)
    passed = [*range(start), *range(start + 6, 10)]
    np.testing.assert_array_equal(lib.numpy(y)[..., passed], x[..., passed])


@pytest.mark.x64
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "ulp"),
    [("float16", 2**-10), ("bfloat16", 2**-7), ("float32", 2**-23), ("float64", 2**-52)],
)
def test_dtype_of_x_out_and_arithmetic_in_float32_at_least(lib, rng, layout, dtype, ulp):
    """The result is that of wide arithmetic, rounded once to the dtype of x."""
    if dtype == "float64" and not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    if dtype in ("float16", "bfloat16") and lib.name == "strict":
        pytest.skip("array-api-strict has neither float16 nor bfloat16")
    if dtype == "bfloat16" and lib.name in ("dask", "cupy"):
        pytest.skip(f"{lib.name} has no bfloat16")
    x = lib.array(rng.standard_normal((5, 8)), dtype)
    positions, frequencies = [0, 1, 10, 1000, 100_000], reference.inv_freq(8)
    table = "float64" if dtype == "float64" else "float32"
    y = rope_xp.rotate(x, *tables(lib, positions, frequencies, table), layout=layout)
    assert y.dtype == x.dtype
    expected = np.asarray(reference.rotate(lib.numpy(x).tolist(), positions, frequencies, layout))
    # Half an ulp of the result, and the roundings of float32 (float64) before it.
    bound = ulp * np.maximum(np.abs(expected), 2.0**-14) / 2 + (
        4 * (ulp if table == "float64" else 2**-23) * np.abs(lib.numpy(x)).max()
    )
    assert np.all(np.abs(lib.numpy(y) - expected) <= bound)


@pytest.mark.x64
def test_float64_tables_keep_their_digits_for_float32_x(lib):
    if not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    x = lib.array([[1.0, 1e-3]], "float32")
    y = rope_xp.rotate(x, *tables(lib, [1], [1.0], "float64"), layout="half")
    assert y.dtype == lib.dtype("float32")
    expected = np.float32(math.cos(1) - np.float64(np.float32(1e-3)) * math.sin(1))
    assert lib.numpy(y)[0, 0] == expected


@pytest.mark.eager
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inverse_turns_back(lib, rng, layout):
    x = rng.standard_normal((4, 8)).astype(np.float32)
    cos, sin = tables(lib, [3, 1, 4, 159], reference.inv_freq(8))
    there = rope_xp.rotate(lib.array(x), cos, sin, layout=layout)
    back = rope_xp.rotate(there, cos, sin, layout=layout, inverse=True)
    np.testing.assert_allclose(lib.numpy(back), x, rtol=0, atol=1e-6)
    assert np.abs(lib.numpy(there) - x).max() > 0.1


def test_inverse_is_the_transpose_and_keeps_the_factor(lib, rng):
    """⟨R x, y⟩ = ⟨x, Rᵀ y⟩, also with a factor in the tables."""
    x, y = rng.standard_normal((2, 4, 8)).astype(np.float32)
    cos, sin = rope_xp.cos_sin(
        lib.array([3, 1, 4, 159]), reference.inv_freq(8), attention_factor=1.5
    )
    forward = lib.numpy(rope_xp.rotate(lib.array(x), cos, sin, layout="half"))
    transposed = lib.numpy(rope_xp.rotate(lib.array(y), cos, sin, layout="half", inverse=True))
    np.testing.assert_allclose((forward * y).sum(-1), (x * transposed).sum(-1), rtol=1e-5)


# -- tables line up by meaning ---------------------------------------------------------------------

BATCH, HEADS, SEQ = 3, 3, 5  # batch == heads, which trailing broadcasting would confuse


@pytest.mark.parametrize(
    ("shape", "seq_axis"),
    [
        ((BATCH, HEADS, SEQ, 4), -2),
        ((BATCH, HEADS, SEQ, 4), 2),
        ((BATCH, SEQ, HEADS, 4), -3),
        ((BATCH, 2, HEADS, SEQ, 4), -2),
        ((BATCH, SEQ, 4), -2),
    ],
)
def test_batched_tables_belong_to_batch_and_seq(lib, rng, shape, seq_axis):
    x = rng.standard_normal(shape).astype(np.float32)
    positions = rng.integers(0, 1000, (BATCH, SEQ))
    y = rope_xp.rotate(
        lib.array(x), *tables(lib, positions, [1.0, 0.1]), layout="half", seq_axis=seq_axis
    )
    for row in range(BATCH):  # each row alone, tokens brought to the front of the features
        alone = np.moveaxis(x[row : row + 1], seq_axis, -2)
        expected = np.asarray(reference.rotate(alone.tolist(), positions[row], [1.0, 0.1], "half"))
        got = np.moveaxis(lib.numpy(y)[row : row + 1], seq_axis, -2)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "seq_axis"),
    [((SEQ, 4), -2), ((2, HEADS, SEQ, 4), -2), ((2, SEQ, HEADS, 4), -3), ((SEQ, 2, HEADS, 4), 0)],
)
def test_one_table_for_all(lib, rng, shape, seq_axis):
    x = rng.standard_normal(shape).astype(np.float32)
    positions = rng.integers(0, 1000, SEQ)
    y = rope_xp.rotate(
        lib.array(x), *tables(lib, positions, [1.0, 0.1]), layout="interleaved", seq_axis=seq_axis
    )
    moved = np.moveaxis(x, seq_axis, -2)
    expected = np.asarray(reference.rotate(moved.tolist(), positions, [1.0, 0.1], "interleaved"))
    np.testing.assert_allclose(np.moveaxis(lib.numpy(y), seq_axis, -2), expected, atol=1e-6)


def test_tables_with_the_axes_of_x_broadcast_as_arrays(lib, rng):
    x = rng.standard_normal((2, HEADS, SEQ, 4)).astype(np.float32)
    positions = rng.integers(0, 1000, (HEADS, SEQ))  # each head its own positions
    cos, sin = tables(lib, positions[None], [1.0, 0.1])  # (1, HEADS, SEQ, 2)
    y = lib.numpy(rope_xp.rotate(lib.array(x), cos, sin, layout="half"))
    for head in range(HEADS):
        expected = reference.rotate(x[:, head].tolist(), positions[head], [1.0, 0.1], "half")
        np.testing.assert_allclose(y[:, head], np.asarray(expected), rtol=0, atol=1e-6)


def test_a_table_of_one_position_is_for_every_token(lib, rng):
    x = rng.standard_normal((2, SEQ, 4)).astype(np.float32)
    y = rope_xp.rotate(lib.array(x), *tables(lib, 7, [1.0, 0.1]), layout="half")
    expected = reference.rotate(x.tolist(), [7] * SEQ, [1.0, 0.1], "half")
    np.testing.assert_allclose(lib.numpy(y), np.asarray(expected), rtol=0, atol=1e-6)


@pytest.mark.eager
def test_an_empty_sequence(lib):
    if lib.name == "dask":
        pytest.skip("dask makes no blocks of size 0")
    x = lib.array(np.zeros((2, 0, 4)), "float32")
    y = rope_xp.rotate(x, *tables(lib, np.zeros(0, int), [1.0, 0.1]), layout="interleaved")
    assert tuple(y.shape) == (2, 0, 4)


# -- out -------------------------------------------------------------------------------------------


@pytest.mark.eager
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start", [0, 1])
def test_out(lib, rng, layout, start):
    x = lib.array(rng.standard_normal((2, 3, 7)), "float32")
    cos, sin = tables(lib, [0, 1, 50], [1.0, 0.1])
    expected = rope_xp.rotate(x, cos, sin, layout=layout, rotary_start=start)
    other = lib.array(np.full((2, 3, 7), 9.0), "float32")
    options = {"layout": layout, "rotary_start": start}
    if lib.name in ("jax", "dask"):
        for out in (x, other):
            with pytest.raises(
                TypeError, match=r"`out` must be writable, got a read-only array of"
            ):
                rope_xp.rotate(x, cos, sin, out=out, **options)
        return
    assert rope_xp.rotate(x, cos, sin, out=other, **options) is other
    np.testing.assert_array_equal(lib.numpy(other), lib.numpy(expected))
    assert rope_xp.rotate(x, cos, sin, out=x, **options) is x
    np.testing.assert_array_equal(lib.numpy(x), lib.numpy(expected))


def test_numpy_that_cannot_be_written():
    x = np.ones((3, 4), dtype=np.float32)
    x.flags.writeable = False
    cos, sin = rope_xp.cos_sin(np.arange(3), [1.0, 0.1])
    with pytest.raises(TypeError, match=r"`out` must be writable, got a read-only array of numpy"):
        rope_xp.rotate(x, cos, sin, layout="half", out=x)
    assert rope_xp.rotate(x, cos, sin, layout="half").flags.writeable


def overlapping(lib):
    """Arrays (4, 8) whose elements share places in memory: windows, broadcast, and their slices."""
    flat = lib.array(np.zeros(64), "float32")
    if lib.name == "torch":
        yield from (flat.unfold(0, 8, 1)[:4], flat.unfold(0, 8, 7)[:4], flat[:8].expand(4, 8))
        yield flat.as_strided((4, 8), (1, 4)).as_strided((4, 8), (2, 2))
        return
    windows = np.lib.stride_tricks.sliding_window_view(flat, 8, writeable=True)
    yield from (windows[:4], windows[:28:7], windows[3::-1], windows[:8, :4].T)
    for strides in ((0, 4), (4, 4), (2, 4), (12, 8), (32, 3), (-28, -4)):
        yield np.lib.stride_tricks.as_strided(flat[32:], (4, 8), strides)


def separate(lib):
    """Views (4, 8) without overlap."""
    flat = lib.array(np.zeros(512), "float32")
    dense = lib.xp.reshape(flat[:32], (8, 4))
    yield from (
        dense.T,
        lib.xp.reshape(flat, (16, 32))[::5, ::4],
        lib.xp.reshape(flat[:32], (4, 8)),
    )
    yield lib.xp.reshape(flat, (4, 4, 32))[:, 2, 3:11]
    if lib.name == "numpy":
        yield from (dense[::-1, ::-1].T, np.zeros((4, 8), np.complex64).imag)
        pairs = np.zeros((4, 8), [("a", "f4"), ("b", "i2")])
        yield pairs["a"]


def test_out_whose_elements_overlap_is_refused(lib, rng):
    if lib.name not in ("numpy", "torch"):
        pytest.skip(f"{lib.name} has no such views")
    x = lib.array(rng.standard_normal((4, 8)), "float32")
    cos, sin = tables(lib, range(4), reference.inv_freq(8))
    wanted = lib.numpy(rope_xp.rotate(x, cos, sin, layout="half"))
    for out in overlapping(lib):
        for source in (x, out):
            with pytest.raises(
                ValueError, match=r"`out` must not have overlapping elements, got a .*view"
            ):
                rope_xp.rotate(source, cos, sin, layout="half", out=out)
    for out in separate(lib):
        assert rope_xp.rotate(x, cos, sin, layout="half", out=out) is out
        np.testing.assert_array_equal(lib.numpy(out), wanted)


@pytest.mark.parametrize("shape", [(2, 0, 8), (0, 3, 8), (1, 0, 8)])
def test_out_without_elements(lib, shape):
    if lib.name in ("jax", "dask"):
        pytest.skip(f"{lib.name} cannot be written")
    x = lib.array(np.ones(shape), "float32")
    cos, sin = tables(lib, np.arange(shape[-2]), reference.inv_freq(8))
    assert rope_xp.rotate(x, cos, sin, layout="half", out=x) is x


@pytest.mark.parametrize("rows", [4, 4096])
def test_out_that_shares_memory_with_others(lib, rng, rows):
    """What is read is not overwritten before, in small arrays and in those that kernels rotate."""
    if lib.name not in ("numpy", "torch"):
        pytest.skip(f"{lib.name} has no such views")
    memory = rng.standard_normal((rows + 3, 32)).astype(np.float32)
    cos, sin = rope_xp.cos_sin(np.arange(rows), reference.inv_freq(32))
    wanted = rope_xp.rotate(memory[3:].copy(), cos, sin, layout="half")
    for start in (0, 1, 2, 3):
        shared = lib.array(memory.copy())
        out = shared[start : start + rows, :]
        rope_xp.rotate(shared[3:, :], lib.array(cos), lib.array(sin), layout="half", out=out)
        np.testing.assert_array_equal(lib.numpy(out), wanted)
    shared = lib.array(np.concatenate([cos, sin], axis=-1))
    out, x = shared, lib.array(memory[3:])
    rope_xp.rotate(x, shared[:, :16], shared[:, 16:], layout="half", out=out)
    np.testing.assert_array_equal(lib.numpy(out), wanted)


def test_memory_maps(tmp_path, rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    cos, sin = rope_xp.cos_sin(np.arange(3), [1.0, 0.1])
    x.tofile(tmp_path / "x")
    wanted = rope_xp.rotate(x, cos, sin, layout="half")
    for mode in ("r", "r+", "c"):
        out = np.memmap(tmp_path / "x", np.float32, mode, shape=(3, 4))
        if mode == "r":
            with pytest.raises(TypeError, match=r"read-only array of numpy \(read-only memory\)"):
                rope_xp.rotate(out, cos, sin, layout="half", out=out)
        else:
            out[...] = x
            np.testing.assert_array_equal(
                rope_xp.rotate(out, cos, sin, layout="half", out=out), wanted
            )


def test_strided_views_and_other_byte_orders():
    """Slices, transposed and reversed arrays, and big-endian data, without a copy by the user."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal((4, 6, 2, 16)).astype(np.float32)
    cos, sin = rope_xp.cos_sin(np.arange(6), reference.inv_freq(8))
    for view in (
        base[:, :, :, ::2].transpose(0, 2, 1, 3),
        base[::-1, :, :, 4:12].transpose(2, 0, 1, 3),
        base[:, :, :, :8].transpose(0, 2, 1, 3).astype(">f4"),
    ):
        for layout in LAYOUTS:
            y = rope_xp.rotate(view, cos, sin, layout=layout)
            expected = rope_xp.rotate(np.ascontiguousarray(view, "f4"), cos, sin, layout=layout)
            np.testing.assert_array_equal(y, expected)
            assert y.dtype == view.dtype
