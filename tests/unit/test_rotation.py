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
