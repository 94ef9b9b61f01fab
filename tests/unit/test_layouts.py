"""Conversion between layouts."""

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE

PAIRINGS = [("half", "interleaved"), ("interleaved", "half")]


def convert(x, source, target, **options):
    return rope_xp.convert_layout(x, source=source, target=target, **options)


@pytest.mark.eager
def test_by_hand(lib):
    x = lib.array(range(6), "float32")
    half = convert(x, "interleaved", "half", head_dim=6)
    np.testing.assert_array_equal(lib.numpy(half), [0, 2, 4, 1, 3, 5])
    back = convert(x, "half", "interleaved", head_dim=6)
    np.testing.assert_array_equal(lib.numpy(back), [0, 3, 1, 4, 2, 5])


def test_head_by_head_and_the_rest_stays(lib):
    """Two heads of 6, of which features 1 … 4 are rotated."""
    x = lib.array([range(12)], "float32")
    got = convert(x, "interleaved", "half", head_dim=6, rotary_dim=4, rotary_start=1)
    np.testing.assert_array_equal(lib.numpy(got), [[0, 1, 3, 2, 4, 5, 6, 7, 9, 8, 10, 11]])


@pytest.mark.parametrize(("source", "target"), PAIRINGS)
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("part", [{}, {"rotary_dim": 4}, {"rotary_dim": 2, "rotary_start": 3}])
def test_there_and_back(lib, rng, source, target, axis, part):
    x = rng.standard_normal((12, 18)).astype(np.float32)
    there = convert(lib.array(x), source, target, head_dim=6, axis=axis, **part)
    back = convert(there, target, source, head_dim=6, axis=axis, **part)
    np.testing.assert_array_equal(lib.numpy(back), x)
    assert there.dtype == lib.dtype("float32")
    same = convert(lib.array(x), source, source, head_dim=6, axis=axis, **part)
    np.testing.assert_array_equal(lib.numpy(same), x)


@pytest.mark.eager
@pytest.mark.parametrize(("source", "target"), PAIRINGS)
@pytest.mark.parametrize("part", [{}, {"rotary_dim": 4}, {"rotary_dim": 4, "rotary_start": 2}])
def test_rotating_and_converting_commute(lib, rng, source, target, part):
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    one, other = RoPE(8, layout=source, **part), RoPE(8, layout=target, **part)
    first = convert(one(lib.array(x), offset=3), source, target, head_dim=8, **part)
    second = other(convert(lib.array(x), source, target, head_dim=8, **part), offset=3)
    np.testing.assert_array_equal(lib.numpy(first), lib.numpy(second))


def test_converted_weights_give_the_same_scores(lib, rng):
    """Meta's interleaved weights and biases, converted for a model with half layout."""
    hidden = rng.standard_normal((5, 12)).astype(np.float32)
    weight = rng.standard_normal((2, 16, 12)).astype(np.float32)  # q and k: (heads * 8, in)
    bias = rng.standard_normal((2, 16)).astype(np.float32)

    def scores(layout, weight, bias):
        q, k = (
            np.reshape(hidden @ w.T + b, (5, 2, 8)).swapaxes(0, 1)
            for w, b in zip(weight, bias, strict=True)
        )
        q, k = RoPE(8, layout=layout)(lib.array(q), lib.array(k))
        return lib.numpy(q) @ lib.numpy(k).swapaxes(-1, -2)

    options = {"source": "interleaved", "target": "half", "head_dim": 8}
    half_weight = [
        lib.numpy(rope_xp.convert_layout(lib.array(w), axis=0, **options)) for w in weight
    ]
    half_bias = [lib.numpy(rope_xp.convert_layout(lib.array(b), **options)) for b in bias]
    stored = scores("interleaved", weight, bias)
    np.testing.assert_allclose(scores("half", half_weight, half_bias), stored, atol=2e-4)
    assert np.abs(scores("half", weight, bias) - stored).max() > 1  # without the conversion


def test_any_dtype(lib):
    got = convert(lib.array(range(4), "int32"), "half", "interleaved", head_dim=4)
    np.testing.assert_array_equal(lib.numpy(got), [0, 2, 1, 3])
