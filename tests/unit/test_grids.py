"""Positions of patches."""

import random
from fractions import Fraction

import numpy as np
import pytest
import reference

import rope_xp
from rope_xp import positions
from rope_xp.positions import (
    centered_axis,
    grid_positions,
    normalized_axis,
    rescaled_axis,
    time_axis,
)


def made(lib, *shape, **options):
    return grid_positions(*shape, xp=lib.xp, device=lib.device, **options)


def integral(lib, array):
    """The values of an array of the library's default integer dtype, on its device."""
    assert array.dtype == positions.token_positions(1, xp=lib.xp, device=lib.device).dtype
    if lib.device is not None:
        assert array.device == lib.device
    return lib.numpy(array).tolist()


@pytest.mark.x64
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((3,), {}, [[0, 1, 2]]),
        ((2, 3), {}, [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]),
        ((2, 3), {"indexing": "xy"}, [[0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2]]),
        ((3,), {"indexing": "xy"}, [[0, 1, 2]]),
        ((2, 2), {"offset": 1}, [[1, 1, 2, 2], [1, 2, 1, 2]]),
        ((2, 2), {"offset": (0, -5)}, [[0, 0, 1, 1], [-5, -4, -5, -4]]),
        ((2, 4), {"merge": 2}, [[0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 2, 3, 2, 3]]),
        ((4, 2), {"merge": 2, "indexing": "xy"}, [[0, 1, 0, 1, 2, 3, 2, 3], [0, 0, 1, 1, 0, 0, 1, 1]]),
        ((range(1, 3), [7, 5]), {}, [[1, 1, 2, 2], [7, 5, 7, 5]]),
        ((np.asarray([4, 9]), (2,)), {"offset": 1}, [[5, 10], [3, 3]]),
        ((2, 1, 2), {}, [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]]),
        ((np.int64(1), 1), {"offset": np.int32(3), "merge": 1}, [[3], [3]]),
    ],
)  # fmt: skip
def test_worked_examples(lib, shape, options, expected):
    assert integral(lib, made(lib, *shape, **options)) == expected


def test_drawn_grids_are_the_oracles(lib):
    draw = random.Random(20211)
    for _ in range(4 if lib.name in ("dask", "jax") else 30):
        merge = draw.randrange(1, 4)
        shape = [draw.randrange(1, 4) for _ in range(draw.randrange(3))]
        shape += [merge * draw.randrange(1, 4) for _ in range(2)]
        offset = tuple(draw.randrange(-9, 9) for _ in shape)
        axes = [range(o, o + n) for o, n in zip(offset, shape, strict=True)]
        got = made(lib, *shape, offset=offset, merge=merge)
        assert integral(lib, got) == reference.grid(*axes, merge=merge)


@pytest.mark.parametrize("indexing", ["ij", "xy"])
@pytest.mark.parametrize("shape", [(4,), (2, 5), (3, 2, 4), (2, 3, 1, 2)])
def test_order_is_that_of_meshgrid(shape, indexing):
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing=indexing)
    expected = np.stack([grid.ravel() for grid in grids])
    np.testing.assert_array_equal(grid_positions(*shape, indexing=indexing), expected)


@pytest.mark.eager
@pytest.mark.x64
def test_real_coordinates(lib):
    got = made(lib, normalized_axis(2), 2, offset=(0, 0.25))
    assert "float" in str(got.dtype)
    expected = [[-0.5, -0.5, 0.5, 0.5], [0.25, 1.25, 0.25, 1.25]]
    np.testing.assert_array_equal(lib.numpy(got), expected)
    for name in ["float32"] + ["float64"] * lib.has_float64:
        for shape in ((2, 2), (normalized_axis(3), 2)):
            assert made(lib, *shape, dtype=lib.dtype(name)).dtype == lib.dtype(name)
    small = made(lib, 2, 100, offset=(0, 28), dtype=lib.dtype("int8"))
    assert small.dtype == lib.dtype("int8")
    assert lib.numpy(small).max() == 127


def test_real_coordinates_are_rounded_once():
    got = grid_positions(rescaled_axis(7, 10, offset=0.5), 1, offset=3, dtype=np.float32)[0]
    exact = [Fraction(2 * k + 1, 2) * 10 / 7 + 3 for k in range(7)]
    np.testing.assert_array_equal(got, np.asarray([float(x) for x in exact], np.float32))


def test_axes():
    assert centered_axis(1) == (-1,)
    assert centered_axis(4) == (-2, -1, 0, 1)
    assert centered_axis(5) == (-3, -2, -1, 0, 1)  # −(n − n // 2) … n // 2 − 1
    assert centered_axis(4, symmetric=True) == (-1.5, -0.5, 0.5, 1.5)
    assert centered_axis(3, symmetric=True) == (-1.0, 0.0, 1.0)
    assert normalized_axis(1) == (0.0,)
    assert normalized_axis(4) == (-0.75, -0.25, 0.25, 0.75)
    assert normalized_axis(2, length=4) == (-0.75, -0.25)
    assert normalized_axis(4, length=2) == (-0.5, 0.5, 1.5, 2.5)
    assert rescaled_axis(4, 16) == (0, 4, 8, 12)
    assert rescaled_axis(4, 2, offset=1) == (0.5, 1.0, 1.5, 2.0)
    assert rescaled_axis(48, 256, floor=True) == tuple(i * 256 // 48 for i in range(48))
    assert rescaled_axis(2, 3, offset=1, floor=True) == (1, 3)
    assert time_axis(3, 0.5) == (0.0, 0.5, 1.0)
    assert time_axis(3, 2, truncate=True) == (0, 2, 4)
    assert time_axis(4, 0.75, truncate=True) == (0, 0, 1, 2)
    for integers in (
        centered_axis(4),
        rescaled_axis(4, 9, floor=True),
        time_axis(3, 0.7, truncate=True),
    ):
        assert all(type(value) is int for value in integers)


def test_times_at_a_rate_are_rounded_after_each_product():
    assert time_axis(3, 0.5, rate=13) == (0.0, 6.5, 13.0)
    for step, rate in ((2 / 29.97, 13), (2 / 0.7, 25), (2 / 3, 13.0), (0.1, 0.7)):
        wanted = np.arange(300, dtype=np.float32) * np.float32(step) * np.float32(rate)
        assert time_axis(300, step, rate=rate) == tuple(wanted.tolist())
        assert time_axis(300, step, rate=rate, truncate=True) == tuple(wanted.astype(int).tolist())
    with_fractions = time_axis(300, 2 / 29.97, rate=13)
    assert any(each != np.float32(k * (2 / 29.97 * 13)) for k, each in enumerate(with_fractions))


def test_times_are_truncated_as_float32_products():
    for step in (0.1, 1 / 3, 2 / 29.97, 2.1, 50.0):
        wanted = (np.arange(300, dtype=np.float32) * np.float32(step)).astype(np.int64)
        np.testing.assert_array_equal(time_axis(300, step, truncate=True), wanted)
    # At 25 frames per second the product rounds up to 2 in float32; float64 would truncate to 1.
    step = float(np.float32(2 / 25))
    assert (time_axis(26, step, truncate=True)[25], int(25 * step)) == (2, 1)


def test_normalized_sides_keep_the_shape_of_patches():
    h, w = 3, 8
    separate = grid_positions(normalized_axis(h), normalized_axis(w))
    np.testing.assert_allclose(separate.min(axis=1), [-1 + 1 / 3, -1 + 1 / 8])
    long = grid_positions(normalized_axis(h, length=8), normalized_axis(w, length=8))
    steps = [np.unique(np.diff(np.unique(axis).round(12)).round(12)) for axis in long]
    assert steps == [[0.25], [0.25]]


def test_equal_coordinates_on_a_grid_have_exact_phases(lib):
    """`RoPE` with axes accepts grid positions."""
    rope = rope_xp.RoPE(8, layout="half", axes=rope_xp.axes.Axial(2))
    cos, _ = rope.cos_sin(made(lib, 2, 3, offset=2**20))
    inv_freq = rope.frequencies().inv_freq
    wanted = [
        [
            float(reference.exact_cos_sin(2**20 + (row, column)[axis], float(f))[0])
            for axis, f in zip(np.argmax(inv_freq != 0, axis=0), inv_freq.max(axis=0), strict=True)
        ]
        for row in range(2)
        for column in range(3)
    ]
    np.testing.assert_allclose(lib.numpy(cos), wanted, rtol=0, atol=2.0**-24)


CASES = {
    "no axis": (lambda: grid_positions(), ValueError, "`shape` must have at least one axis, got ()"),
    "zero": (lambda: grid_positions(0, 3), ValueError, "`shape[0]` must be positive, got 0"),
    "negative": (lambda: grid_positions(3, -1), ValueError, "`shape[1]` must be positive, got -1"),
    "bool": (lambda: grid_positions(True, 3), TypeError, "`shape[0]` must be an int, got True"),
    "float": (lambda: grid_positions(2.0, 3), TypeError, "`shape[0]` must be a size or a sequence of Python numbers, got 2.0"),
    "text": (lambda: grid_positions("34", 3), TypeError, "`shape[0]` must be a size or a sequence of Python numbers, got '34'"),
    "matrix": (lambda: grid_positions(np.ones((2, 2)), 3), TypeError, "`shape[0]` must be a size or a sequence of Python numbers, got an array of numpy"),
    "packed": (lambda: grid_positions((4, 6)), TypeError, "`shape` must be sizes one by one, as in grid_positions(2, 3), got (4, 6)"),
    "empty": (lambda: grid_positions(2, []), ValueError, "`shape[1]` must have at least one coordinate, got []"),
    "coordinate": (lambda: grid_positions(2, [1, True]), TypeError, "`shape[1][1]` must be a number, got True"),
    "nan": (lambda: grid_positions(2, [float("nan")]), ValueError, "`shape[1][0]` must be finite, got nan"),
    "indexing": (lambda: grid_positions(2, 3, indexing="yx"), ValueError, "`indexing` must be one of 'ij', 'xy', got 'yx'"),
    "offsets": (lambda: grid_positions(2, 3, offset=(1, 2, 3)), ValueError, "`offset` must be a number or one for each of 2 axes, got (1, 2, 3)"),
    "offset": (lambda: grid_positions(2, 3, offset=True), TypeError, "`offset` must be a number, got True"),
    "offset of an axis": (lambda: grid_positions(2, 3, offset=(0, "1")), TypeError, "`offset[1]` must be a number, got '1'"),
    "merge": (lambda: grid_positions(5, 4, merge=2), ValueError, "`merge` must divide both sides of the grid 5 x 4, got 2"),
    "merge columns": (lambda: grid_positions(2, 4, 5, merge=2), ValueError, "`merge` must divide both sides of the grid 4 x 5, got 2"),
    "merge first": (lambda: grid_positions(3, 4, 2, merge=2, indexing="xy"), ValueError, "`merge` must divide both sides of the grid 3 x 2, got 2"),
    "merge zero": (lambda: grid_positions(4, 4, merge=0), ValueError, "`merge` must be positive, got 0"),
    "merge line": (lambda: grid_positions(4, merge=2), ValueError, "`merge` must be 1 for a grid of one axis, got 2"),
    "far": (lambda: grid_positions(2, 3, offset=2**63 - 2), ValueError, "`shape[1]` must keep positions in int64, the default integer dtype here, got 9223372036854775806 to 9223372036854775808"),
    "far coordinate": (lambda: grid_positions(2, [0, 2**63]), ValueError, "`shape[1]` must keep positions in int64, the default integer dtype here, got 0 to 9223372036854775808"),
    "no memory": (lambda: grid_positions(2**63, 2), ValueError, "`shape[0]` must be at most 2**48, which no memory holds, got 9223372036854775808"),
    "float64": (lambda: grid_positions(2, 3, offset=2**53, dtype=np.float64), ValueError, "`dtype` must represent the positions 9007199254740992 to 9007199254740993 of `shape[0]`, got float64"),
    "beyond float32": (lambda: grid_positions(2, [0.0, -1e39], dtype=np.float32), ValueError, "`dtype` must represent the numbers of `shape[1]`, up to 1e+39, got float32"),
    "beyond floats": (lambda: grid_positions([1.7e308], 1, offset=1.7e308), ValueError, "`dtype` must represent the numbers of `shape[0]`, up to inf, got float64"),
    "narrow": (lambda: grid_positions(2, 200, dtype=np.int8), ValueError, "`dtype` must represent the positions 0 to 199 of `shape[1]`, got int8"),
    "unsigned": (lambda: grid_positions(2, centered_axis(2), dtype=np.uint32), ValueError, "`dtype` must represent the positions -1 to 0 of `shape[1]`, got uint32"),
    "float32": (lambda: grid_positions(2, 3, offset=2**24, dtype=np.float32), ValueError, "`dtype` must represent the positions 16777216 to 16777217 of `shape[0]`, got float32"),
    "half": (lambda: grid_positions(2, 3, dtype=np.float16), TypeError, "`dtype` must be an integer dtype, float32 or float64 for these coordinates, got float16"),
    "real": (lambda: grid_positions(2, [0.5], dtype=np.int32), TypeError, "`dtype` must be float32 or float64 for these coordinates, got int32"),
    "real offset": (lambda: grid_positions(2, 2, offset=0.5, dtype=np.int32), TypeError, "`dtype` must be float32 or float64 for these coordinates, got int32"),
    "n": (lambda: centered_axis(0), ValueError, "`n` must be positive, got 0"),
    "n float": (lambda: normalized_axis(2.5), TypeError, "`n` must be an int, got 2.5"),
    "length": (lambda: normalized_axis(2, length=0), ValueError, "`length` must be positive and finite, got 0.0"),
    "reference": (lambda: rescaled_axis(2, -1), ValueError, "`reference` must be positive and finite, got -1.0"),
    "reference floor": (lambda: rescaled_axis(2, 2.5, floor=True), TypeError, "`reference` must be an int, got 2.5"),
    "shift floor": (lambda: rescaled_axis(2, 2, offset=0.5, floor=True), TypeError, "`offset` must be an int, got 0.5"),
    "step": (lambda: time_axis(2, 0), ValueError, "`step` must be positive and finite, got 0.0"),
    "length tiny": (lambda: normalized_axis(2, length=1e-320), ValueError, "`length` must give finite coordinates, got 1e-320"),
    "reference huge": (lambda: rescaled_axis(3, 1e308), ValueError, "`reference` must give finite coordinates, got 1e+308"),
    "step huge": (lambda: time_axis(3, 1e308), ValueError, "`step` must give finite coordinates, got 1e+308"),
    "step float32": (lambda: time_axis(3, 1e39, truncate=True), ValueError, "`step` must give coordinates that float32 holds, got 1e+39"),
    "n huge": (lambda: centered_axis(10**5000), ValueError, "`n` must be at most 2**24, got an int of 16610 bits"),
    "far offset": (lambda: grid_positions(2, offset=-(2**200)), ValueError, "`shape[0]` must keep positions in int64, the default integer dtype here, got -16069380442589902"),
    "rate": (lambda: time_axis(2, 1, rate=0), ValueError, "`rate` must be positive and finite, got 0.0"),
    "rate huge": (lambda: time_axis(3, 1e30, rate=1e30), ValueError, "`step` must give coordinates that float32 holds, got 1e+30"),
    "step bool": (lambda: time_axis(2, True), TypeError, "`step` must be a number, got True"),
    "seq_len": (lambda: positions.zigzag_positions(6, 0, 2), ValueError, "`seq_len` must be a positive multiple of 2 * world_size = 4, got 6"),
    "seq_len zero": (lambda: positions.zigzag_positions(0, 0, 2), ValueError, "`seq_len` must be a positive multiple of 2 * world_size = 4, got 0"),
    "seq_len bool": (lambda: positions.zigzag_positions(True, 0, 2), TypeError, "`seq_len` must be an int, got True"),
    "seq_len far": (lambda: positions.zigzag_positions(2**65, 0, 2**63), ValueError, "`seq_len` must keep positions in int64, the default integer dtype here, got 0 to 36893488147419103231"),
    "seq_len narrow": (lambda: positions.zigzag_positions(1000, 0, 2, dtype=np.int8), ValueError, "`dtype` must represent the positions 0 to 999 of `seq_len`, got int8"),
    "seq_len no memory": (lambda: positions.zigzag_positions(2**62, 0, 2), ValueError, "`seq_len` must be at most 2**48, which no memory holds, got"),
    "rank": (lambda: positions.zigzag_positions(8, 2, 2), ValueError, "`rank` must be in [0, world_size=2), got 2"),
    "rank negative": (lambda: positions.zigzag_positions(8, -1, 2), ValueError, "`rank` must be in [0, world_size=2), got -1"),
    "world": (lambda: positions.zigzag_positions(8, 0, 0), ValueError, "`world_size` must be positive, got 0"),
    "world float": (lambda: positions.zigzag_positions(8, 0, 2.0), TypeError, "`world_size` must be an int, got 2.0"),
    "zigzag dtype": (lambda: positions.zigzag_positions(8, 0, 2, dtype=np.float32), TypeError, "`dtype` must be an integer dtype, got float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, kind, sentence = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    assert sentence in str(caught.value)


@pytest.mark.backend("strict")
def test_arrays_are_no_axes():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict beside NumPy")
    with pytest.raises(TypeError, match="got an array of array_api_strict"):
        grid_positions(xp.arange(3), 2)
