"""Positions of tokens."""

import numpy as np
import pytest

from rope_xp import positions


@pytest.mark.eager
@pytest.mark.x64
def test_token_positions(lib):
    options = {"xp": lib.xp, "device": lib.device}
    np.testing.assert_array_equal(lib.numpy(positions.token_positions(4, **options)), [0, 1, 2, 3])
    after = positions.token_positions(2, offset=5, **options)
    np.testing.assert_array_equal(lib.numpy(after), [5, 6])
    assert "int" in str(after.dtype)
    small = positions.token_positions(2, offset=-3, dtype=lib.dtype("int32"), **options)
    assert small.dtype == lib.dtype("int32")
    np.testing.assert_array_equal(lib.numpy(small), [-3, -2])
    assert tuple(positions.token_positions(0, **options).shape) == (0,)


@pytest.mark.x64
def test_token_positions_after_each_row_of_a_batch(lib):
    rows = positions.token_positions(3, offset=lib.array([0, 10], "int32"))
    np.testing.assert_array_equal(lib.numpy(rows), [[0, 1, 2], [10, 11, 12]])
    narrow = positions.token_positions(
        3, offset=lib.array([0, 10], "int64"), dtype=lib.dtype("int16")
    )
    assert narrow.dtype == lib.dtype("int16")
    flat = positions.token_positions(3, offset=lib.array(10, "int32"))
    np.testing.assert_array_equal(lib.numpy(flat), [10, 11, 12])
    if lib.device is not None:
        assert rows.device == lib.device


def test_token_positions_are_numpy_by_default():
    assert isinstance(positions.token_positions(3), np.ndarray)


@pytest.mark.parametrize(
    ("starts", "total", "expected"),
    [
        ([0, 3, 5], 5, [0, 1, 2, 0, 1]),
        ([0, 3, 5], 8, [0, 1, 2, 0, 1, 0, 1, 2]),  # padding is numbered from 0
        ([0, 2, 2, 4], 4, [0, 1, 0, 1]),  # an empty sequence
        ([0], 2, [0, 1]),
        ([0, 4], 0, []),
    ],
)
def test_packed_positions(lib, starts, total, expected):
    if lib.name == "dask" and total == 0:
        pytest.skip("dask makes no blocks of size 0")
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    got = positions.packed_positions(lib.array(starts, "int32"), total)
    assert got.dtype == lib.dtype("int32")
    np.testing.assert_array_equal(lib.numpy(got), expected)


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 0, 0, 1], [0, 1, 2, 3]]),  # padded left
        ([[1, 1, 0, 0]], [[0, 1, 1, 1]]),  # padded right
        ([0, 1, 0, 1, 1], [0, 0, 0, 1, 2]),
        ([[0, 0]], [[0, 0]]),
    ],
)
@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8"])
def test_mask_positions(lib, mask, expected, dtype):
    got = positions.mask_positions(lib.array(mask, dtype))
    np.testing.assert_array_equal(lib.numpy(got), expected)


def test_a_long_uint8_mask_does_not_overflow(lib):
    got = positions.mask_positions(lib.array(np.ones(600), "uint8"))
    assert lib.numpy(got)[-1] == 599


@pytest.mark.x64
def test_zigzag_positions(lib):
    options = {"xp": lib.xp, "device": lib.device}
    first = positions.zigzag_positions(8, 0, 2, **options)
    assert first.dtype == positions.token_positions(1, **options).dtype
    np.testing.assert_array_equal(lib.numpy(first), [0, 1, 6, 7])
    second = positions.zigzag_positions(8, 1, 2, dtype=lib.dtype("int16"), **options)
    assert second.dtype == lib.dtype("int16")
    np.testing.assert_array_equal(lib.numpy(second), [2, 3, 4, 5])
    if lib.device is not None:
        assert first.device == second.device == lib.device


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_zigzag_shards_are_a_permutation_with_equal_work(world_size):
    seq_len = 10 * world_size
    shards = [positions.zigzag_positions(seq_len, r, world_size) for r in range(world_size)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shards)), np.arange(seq_len))
    # Under a causal mask a token at p looks at p + 1 tokens.
    assert len({int(shard.sum()) for shard in shards}) == 1


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8"])
def test_mask_grid_positions(lib, dtype):
    """Two images in one batch: 2 × 2 patches of 2 × 3, and all of them."""
    mask = [[[1, 1, 0], [1, 1, 0]], [[1, 1, 1], [1, 1, 1]]]
    rows = [[[1, 1, 0], [2, 2, 0]], [[1, 1, 1], [2, 2, 2]]]
    columns = [[[1, 2, 2], [1, 2, 2]], [[1, 2, 3], [1, 2, 3]]]
    got = positions.mask_grid_positions(lib.array(mask, dtype))
    np.testing.assert_array_equal(lib.numpy(got), [rows, columns])


@pytest.mark.x64
def test_mask_grid_positions_of_one_span(lib):
    """The last patch of every line is at the scale up to 1e-6; lines of padding are at 0."""
    mask = lib.array([[[1, 1, 0], [1, 1, 0]], [[1, 1, 1], [1, 1, 1]]])
    got = positions.mask_grid_positions(mask, scale=6.0)
    assert got.dtype == lib.dtype("float32")
    rows = [[[3, 3, 0], [6, 6, 0]], [[3, 3, 3], [6, 6, 6]]]
    columns = [[[3, 6, 6], [3, 6, 6]], [[2, 4, 6], [2, 4, 6]]]
    np.testing.assert_allclose(lib.numpy(got), [rows, columns], rtol=1.1e-6)
    if lib.has_float64:
        got = positions.mask_grid_positions(mask, scale=6.0, dtype=lib.dtype("float64"))
        exact = [n / (2 + 1e-6) * 6 for n in (1, 2)]
        np.testing.assert_allclose(lib.numpy(got)[0, 1, :, 0], exact, rtol=1e-15)


def test_mask_grid_positions_in_time(lib):
    mask = np.ones((2, 3, 4), bool)
    mask[1, 2:] = False
    got = lib.numpy(positions.mask_grid_positions(lib.array(mask), n_axes=3))
    assert got.shape == (3, 2, 3, 4)
    for axis in range(3):
        np.testing.assert_array_equal(got[axis], np.cumsum(mask, axis))
    spans = lib.numpy(positions.mask_grid_positions(lib.array(mask), n_axes=3, scale=1.0))
    np.testing.assert_allclose(spans[0, :, 0, 0], [0.5, 1.0], rtol=2e-6)
    np.testing.assert_allclose(spans[1, 1, :, 0], [0.5, 1.0, 1.0], rtol=2e-6)


def test_a_long_uint8_grid_mask_does_not_overflow(lib):
    got = positions.mask_grid_positions(lib.array(np.ones((1, 600)), "uint8"))
    assert lib.numpy(got)[1, 0, -1] == 600
