"""Sinusoidal encodings."""

import numpy as np
import pytest
import reference

import rope_xp
from rope_xp.axes import Axial, AxisPerPair, Directions, Sections
from rope_xp.positions import mask_grid_positions


@pytest.mark.parametrize("order", ["interleaved", "sin_cos", "cos_sin"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_against_the_oracle(lib, order, shift, base):
    rows = [0, 1, 2, 5000]
    table = rope_xp.sinusoidal(lib.array(rows), 8, base=base, order=order, shift=shift)
    expected = [reference.sinusoidal(p, 8, base, order, shift) for p in rows]
    assert table.dtype == lib.dtype("float32")
    np.testing.assert_allclose(lib.numpy(table), expected, rtol=0, atol=2e-7)


def test_by_hand():
    """Vaswani et al.: sin(1), cos(1), sin(1/100), cos(1/100) at position 1 of four features."""
    got = rope_xp.sinusoidal(np.asarray([1]), 4)
    np.testing.assert_allclose(got, [[0.841471, 0.540302, 0.01, 0.99995]], atol=1e-6)


def test_a_shift_of_one_ends_at_one_over_base():
    table = rope_xp.sinusoidal(np.asarray([1.0]), 8, base=100.0, order="sin_cos", shift=1.0)
    np.testing.assert_allclose(table[0, 3], np.sin(1 / 100), rtol=1e-12)


def test_timesteps_and_leading_axes(lib):
    times = [[0.25, 999.5], [3.0, 4.0]]
    table = rope_xp.sinusoidal(lib.array(times, "float32"), 6, order="cos_sin")
    expected = [[reference.sinusoidal(t, 6, order="cos_sin") for t in row] for row in times]
    np.testing.assert_allclose(lib.numpy(table), expected, rtol=0, atol=1e-4)


def test_the_next_position_is_a_rotation_of_this_one(lib):
    """A shift of a sinusoidal encoding is a rotation of it."""
    frequencies = reference.inv_freq(8)
    table = rope_xp.sinusoidal(lib.array([7, 10]), 8, order="cos_sin")
    turned = rope_xp.rotate(
        table[:1, :], *rope_xp.cos_sin(lib.array([3]), frequencies), layout="half"
    )
    np.testing.assert_allclose(lib.numpy(turned)[0], lib.numpy(table)[1], rtol=0, atol=3e-7)


@pytest.mark.eager
@pytest.mark.x64
def test_dtype(lib):
    assert rope_xp.sinusoidal(lib.array([1]), 4, dtype=lib.dtype("float32")).dtype == lib.dtype(
        "float32"
    )
    if lib.has_float64:
        table = rope_xp.sinusoidal(lib.array([2**30]), 4, dtype=lib.dtype("float64"))
        cos, sin = reference.exact_cos_sin(2**30, 1.0)
        np.testing.assert_allclose(lib.numpy(table)[0, :2], [float(sin), float(cos)], atol=1e-15)


def grid(*shape):
    """Positions (n_axes, tokens) of a grid, row by row."""
    return np.reshape(np.indices(shape), (len(shape), -1))


def row(place, widths, order="sin_cos", shift=0.0, base=10000.0):
    """The concatenated encodings of the coordinates of a patch."""
    return [
        value
        for m, width in zip(place, widths, strict=True)
        for value in reference.sinusoidal(m, width, base, order, shift)
    ]


def sines_first(place, dim):
    """All sines, then all cosines, of a patch on two axes."""
    y, x = (reference.sinusoidal(m, dim // 2, order="sin_cos") for m in place)
    n = dim // 4
    return y[:n] + x[:n] + y[n:] + x[n:]


# For rows and columns, or times, rows and columns: shape, dim, keywords, the encoding of a patch.
GRIDS = {
    "MAE": ((3, 5), 16, {"axes": Axial(2, split=True)}, lambda p: row(p, (8, 8))),
    "timm": ((5, 2), 16, {"axes": Axial(2)}, lambda p: sines_first(p, 16)),
    "DiT": (
        (3, 4),
        16,
        {"axes": Axial(2, split=True, axis_order=(1, 0))},
        lambda p: row(p[::-1], (8, 8)),
    ),
    "CogVideoX": (
        (2, 3, 4),
        32,
        {"axes": Axial((8, 12, 12), split=True, axis_order=(0, 2, 1))},
        lambda p: row((p[0], p[2], p[1]), (8, 12, 12)),
    ),
    "DETR": (
        (3, 5),
        16,
        {"axes": Axial(2), "order": "interleaved", "base": 20.0},
        lambda p: row(p, (8, 8), "interleaved", base=20.0),
    ),
    "three axes, cosines first": (
        (2, 1, 3),
        24,
        {"axes": Axial(3, split=True), "order": "cos_sin", "shift": 1.0},
        lambda p: row(p, (8, 8, 8), "cos_sin", 1.0),
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_against_the_oracle(lib, name):
    shape, dim, keywords, expected = GRIDS[name]
    keywords = {"order": "sin_cos", **keywords}
    table = rope_xp.sinusoidal(lib.array(grid(*shape)), dim, **keywords)
    assert table.dtype == lib.dtype("float32")
    assert table.shape == (np.prod(shape), dim)
    rows = [expected(place) for place in np.ndindex(*shape)]
    np.testing.assert_allclose(lib.numpy(table), rows, rtol=0, atol=2e-7)


def test_a_grid_by_hand():
    """Row 1, column 2 in eight features: sines and cosines of 1, 1/100, then of 2, 2/100."""
    got = rope_xp.sinusoidal(
        np.asarray([[1.0], [2.0]]), 8, order="sin_cos", axes=Axial(2, split=True)
    )
    rows, columns = (
        [0.841471, 0.0099998, 0.540302, 0.99995],
        [0.909297, 0.0199987, -0.416147, 0.9998],
    )
    np.testing.assert_allclose(got, [rows + columns], atol=1e-6)


def test_real_coordinates_and_leading_axes(lib):
    """Patches at fractions of a reference grid, and a batch of them: (n_axes, batch, tokens)."""
    places = np.stack([grid(2, 3) * 0.75, grid(2, 3) * 1.5], axis=1)
    table = rope_xp.sinusoidal(
        lib.array(places, "float32"), 8, order="sin_cos", axes=Axial(2, split=True)
    )
    expected = [[row(p, (4, 4)) for p in image.T] for image in np.moveaxis(places, 1, 0)]
    np.testing.assert_allclose(lib.numpy(table), expected, rtol=0, atol=1e-6)


def test_a_padded_batch_of_images(lib):
    """DETR: every image spans 2π, for any size; channels last."""
    mask = np.zeros((2, 3, 4), bool)
    mask[0, :2, :3] = mask[1] = True
    places = mask_grid_positions(lib.array(mask), scale=2 * np.pi)
    table = lib.numpy(rope_xp.sinusoidal(places, 8, axes=Axial(2)))
    assert table.shape == (2, 3, 4, 8)
    for image, (n_rows, n_columns) in enumerate(((2, 3), (3, 4))):
        for y, x in np.ndindex(n_rows, n_columns):
            at = (y + 1) / n_rows * 2 * np.pi, (x + 1) / n_columns * 2 * np.pi
            expected = row(at, (4, 4), "interleaved")
            np.testing.assert_allclose(table[image, y, x], expected, rtol=0, atol=1e-5)


@pytest.mark.eager
def test_equal_coordinates_are_one_axis(lib):
    """Schemes for which rotations are those of one axis give the encoding of one axis, too."""
    at = lib.array([0, 3, 70])
    same = lib.array(np.asarray([[0, 3, 70]] * 3))
    for scheme in (Sections((2, 1, 1)), AxisPerPair((0, 1, 2, 1))):
        for order in ("interleaved", "sin_cos", "cos_sin"):
            table = rope_xp.sinusoidal(same, 8, order=order, axes=scheme)
            one = rope_xp.sinusoidal(at, 8, order=order)
            np.testing.assert_array_equal(lib.numpy(table), lib.numpy(one))


def test_random_directions(lib):
    """Fourier features (SAM): sines, then cosines, of a linear map of the coordinates."""
    matrix = np.asarray([[1.0, -2.0, 0.5], [0.25, 3.0, 1.0]])
    places = np.asarray([[0.5, -1.0], [0.25, 1.0]])  # (2, tokens)
    table = rope_xp.sinusoidal(
        lib.array(places, "float32"),
        6,
        order="sin_cos",
        axes=Directions(tuple(map(tuple, matrix.tolist()))),
    )
    angles = places.T @ matrix
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    np.testing.assert_allclose(lib.numpy(table), expected, rtol=0, atol=1e-6)


def test_grids_are_exact_far_out(lib):
    """Phases of large integer coordinates are exact, as on one axis."""
    table = rope_xp.sinusoidal(lib.array([[2**30], [-(2**31)]]), 4, axes=Axial(2))
    expected = [float(f) for m in (2**30, -(2**31)) for f in reference.exact_cos_sin(m, 1.0)[::-1]]
    np.testing.assert_allclose(lib.numpy(table)[0], expected, rtol=0, atol=2e-7)
