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


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("dtype", INTEGERS)
def test_positions_up_to_the_ends_of_a_dtype(lib, dtype):
    """And not beyond: they would wrap."""
    bits, unsigned = int(dtype.lstrip("uint")), dtype.startswith("u")
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    options = {"xp": lib.xp, "device": lib.device, "dtype": lib.dtype(dtype)}
    if bits == 64 and not lib.has_float64:
        for make in (positions.token_positions, positions.grid_positions):
            with pytest.raises(TypeError, match=r"`dtype` must be a dtype that .* got u?int64"):
                make(3, **options)
        return
    for first in (low, high - 2, high // 2 - 1, 0):
        wanted = [first, first + 1, first + 2]
        got = positions.token_positions(3, offset=first, **options)
        assert got.dtype == lib.dtype(dtype)
        assert lib.numpy(got).tolist() == wanted
        assert lib.numpy(positions.grid_positions(3, offset=first, **options)).tolist() == [wanted]
        listed = positions.grid_positions(range(3), offset=first, **options)
        assert lib.numpy(listed).tolist() == [wanted]
        got, after = positions.text_image_positions([1, (1, 1, 2)], offset=first, **options)
        assert lib.numpy(got)[2].tolist() == wanted
        assert after == first + 3
    last = positions.zigzag_positions(high + 1 & -4, 0, 2 * (high // 8 + 1) // 2, **options)
    assert lib.numpy(last)[0] == 0
    refused = [
        lambda first: positions.token_positions(3, offset=first, **options),
        lambda first: positions.grid_positions(3, offset=first, **options),
        lambda first: positions.grid_positions(range(0, 3, 2), offset=first, **options),
        lambda first: positions.text_image_positions([3], offset=first, **options),
        lambda first: positions.text_image_positions([((0, 2), 1, 1)], offset=first, **options),
    ]
    for call in refused:
        for first in (low - 1, high - 1, 2**70):
            with pytest.raises(
                ValueError, match=f"`dtype` must represent the positions .*, got {dtype}"
            ):
                call(first)


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("dtype", INTEGERS)
def test_offsets_of_rows_do_not_wrap(lib, dtype):
    """The default dtype holds what comes after the last offset of small dtypes; others are looked at."""
    bits, unsigned = int(dtype.lstrip("uint")), dtype.startswith("u")
    if bits == 64 and not lib.has_float64:
        pytest.skip("no 64-bit integers")
    high = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    offset = (
        lib.xp.asarray(
            np.asarray([high - 2, 0], dtype) if lib.name != "strict" else [high - 2, 0],
            dtype=lib.dtype(dtype),
            **({} if lib.device is None else {"device": lib.device}),
        )
        if lib.name != "dask"
        else lib.xp.from_array(np.asarray([high - 2, 0], dtype), chunks=1)
    )
    got = positions.token_positions(3, offset=offset)
    assert lib.numpy(got).tolist() == [[high - 2, high - 1, high], [0, 1, 2]]
    if bits < (64 if lib.has_float64 else 32):
        longer = positions.token_positions(5, offset=offset)
        assert lib.numpy(longer)[0].tolist() == [*range(high - 2, high + 3)]
    elif lib.name in ("numpy", "torch", "jax"):  # the values are at hand
        with pytest.raises(ValueError, match="`offset` must keep positions in"):
            positions.token_positions(4, offset=offset)


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


@pytest.mark.x64
@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([0, 3, 5, -1, -1], [0, 1, 2, 0, 1, 0, 1]),  # NeMo
        ([0, 3, 5, 0, 0], [0, 1, 2, 0, 1, 0, 1]),
        ([0, 3, 5, 5, 5], [0, 1, 2, 0, 1, 0, 1]),  # Megatron-Core
        ([0, 3, 5, 5, 0, -1], [0, 1, 2, 0, 1, 0, 1]),
        ([0, 0, 0, 3, -1], [0, 1, 2, 0, 1, 2, 3]),  # two sequences of no tokens come first
        ([0, 0, 0], [0, 1, 2, 3, 4, 5, 6]),
        ([0, -1, -1], [0, 1, 2, 3, 4, 5, 6]),
        ([0, 3, 9, -1], [0, 1, 2, 0, 1, 2, 3]),  # the first tokens of more
    ],
)
def test_packed_positions_of_padded_sums(lib, starts, expected):
    """The same where values are looked at and where they are not, as under ``jax.jit``."""
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    for dtype in ("int32", "int64"):
        got = positions.packed_positions(lib.array(starts, dtype), 7)
        np.testing.assert_array_equal(lib.numpy(got), expected)


@pytest.mark.x64
@pytest.mark.parametrize("dtype", INTEGERS)
def test_packed_positions_of_any_integer_type(lib, dtype):
    """Sums of a small dtype are counted on from in one that holds the tokens."""
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    starts = lib.array([0, 100], dtype)
    wanted = [*range(100), *range(200)]
    got = positions.packed_positions(starts, 300)
    np.testing.assert_array_equal(lib.numpy(got), wanted)
    default = positions.token_positions(1, xp=lib.xp, device=lib.device).dtype
    assert got.dtype == (default if dtype.endswith("t8") else starts.dtype)
    assert positions.packed_positions(starts, 128).dtype == starts.dtype


@pytest.mark.x64
@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([0, 3, 5], [0, 0, 0, 1, 1, -1, -1]),
        ([0, 3, 5, -1, -1], [0, 0, 0, 1, 1, -1, -1]),
        ([0, 3, 5, 0], [0, 0, 0, 1, 1, -1, -1]),
        ([0, 3, 5, 5, 5], [0, 0, 0, 1, 1, -1, -1]),
        ([0, 0, 2, 2, 7], [1, 1, 3, 3, 3, 3, 3]),  # sequences of no tokens are counted
        ([0], [-1] * 7),
        ([0, 3, 2**31 - 1], [0, 0, 0, 1, 1, 1, 1]),  # the first tokens of more
    ],
)
def test_packed_documents(lib, starts, expected):
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    for dtype in ("int32", "int64", "uint32"):
        got = positions.packed_documents(
            lib.array(starts, dtype if min(starts) >= 0 else "int32"), 7
        )
        np.testing.assert_array_equal(lib.numpy(got), expected)
    small = positions.packed_documents(lib.array([0, 100], "uint8"), 300)
    np.testing.assert_array_equal(lib.numpy(small), [0] * 100 + [-1] * 200)


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
