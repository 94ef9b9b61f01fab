"""Sinusoidal encodings."""

import numpy as np
import pytest
import reference

import rope_xp


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
    """The shift of a sinusoid is linear: the additive ancestor already carried the rotation."""
    frequencies = reference.inv_freq(8)
    table = rope_xp.sinusoidal(lib.array([7, 10]), 8, order="cos_sin")
    turned = rope_xp.rotate(
        table[:1, :], *rope_xp.cos_sin(lib.array([3]), frequencies), layout="half"
    )
    np.testing.assert_allclose(lib.numpy(turned)[0], lib.numpy(table)[1], rtol=0, atol=3e-7)


def test_dtype(lib):
    assert rope_xp.sinusoidal(lib.array([1]), 4, dtype=lib.dtype("float32")).dtype == lib.dtype(
        "float32"
    )
    if lib.has_float64:
        table = rope_xp.sinusoidal(lib.array([2**30]), 4, dtype=lib.dtype("float64"))
        cos, sin = reference.exact_cos_sin(2**30, 1.0)
        np.testing.assert_allclose(lib.numpy(table)[0, :2], [float(sin), float(cos)], atol=1e-15)
