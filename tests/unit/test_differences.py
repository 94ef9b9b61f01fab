"""Differences and order of positions at the ends of every dtype, against Python's integers."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from rope_xp import _backends, positions, relative
from rope_xp.attention import causal_mask
from rope_xp.positions import _difference

SMALL = ["int8", "uint16", "int32", "uint32"]
LARGE = [*SMALL, "int64", "uint64"]


def ends(dtype):
    """Positions at and near the ends of a dtype, and in its middle."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    found = {low, low + 1, -2, -1, 0, 1, 7, high // 2, high // 2 + 1, high - 1, high}
    return sorted(n for n in found if low <= n <= high)


def array(lib, values, dtype):
    """As `lib.array`, which goes through int64."""
    if lib.name == "strict":
        return lib.xp.asarray(values, dtype=lib.dtype(dtype), device=lib.device)
    values = np.asarray(values, dtype)
    if lib.name == "dask":
        return lib.xp.from_array(values, chunks=3)
    return lib.xp.asarray(values, dtype=lib.dtype(dtype))


def pairs(lib):
    """Positions of queries and keys, as Python's and as the library's, for pairs of dtypes."""
    for q_dtype, k_dtype in itertools.product(LARGE if lib.has_float64 else SMALL, repeat=2):
        if lib.name in ("dask", "jax") and q_dtype[-2:] != k_dtype[-2:] and q_dtype != "int8":
            continue  # minutes of graphs
        q, k = ends(q_dtype), ends(k_dtype)
        yield q, k, array(lib, q, q_dtype), array(lib, k, k_dtype)


def wanted(q, k, function=lambda step: step):
    return [[function(n - m) for n in k] for m in q]


def saturated(lib):
    high = 2**63 - 1 if lib.has_float64 else 2**31 - 1
    return lambda step: min(max(step, -high - 1), high)


@pytest.fixture(params=["at hand", "not at hand"])
def values(request, monkeypatch, lib):
    """Whether the values of eager arrays are looked at."""
    if request.param == "not at hand":
        if lib.name not in ("numpy", "torch"):
            pytest.skip("they are not, or under jax.jit not")
        monkeypatch.setattr(_backends, "host_values", lambda array: None)
    return request.param


@pytest.mark.x64
def test_order(lib):
    for q, k, q_at, k_at in pairs(lib):
        got = causal_mask(q_at, k_at)
        assert lib.numpy(got).tolist() == wanted(q, k, lambda step: step <= 0)


@pytest.mark.x64
def test_clipped(lib, values):
    for q, k, q_at, k_at in pairs(lib):
        got = relative.clipped_index(q_at, k_at, 5)
        assert lib.numpy(got).tolist() == wanted(q, k, lambda step: min(max(step, -5), 5) + 5)


@pytest.mark.x64
def test_saturated(lib, values):
    """What `relative_positions` gives where it does not look at values."""
    for q, k, q_at, k_at in pairs(lib):
        got = _difference.integer_difference(q_at, k_at, _backends.namespace(q=q_at))
        assert lib.numpy(got).tolist() == wanted(q, k, saturated(lib))


@pytest.mark.eager
@pytest.mark.x64
def test_relative_positions(lib):
    """Exact where they fit, else refused or, where values are not at hand, saturated."""
    at_hand = lib.name in ("numpy", "torch", "jax")
    for q, k, q_at, k_at in pairs(lib):
        steps = wanted(q, k)
        if wanted(q, k, saturated(lib)) == steps or not at_hand:
            got = relative.relative_positions(q_at, k_at)
            assert lib.numpy(got).tolist() == wanted(q, k, saturated(lib))
        else:
            with pytest.raises(ValueError, match="`k_positions` must differ from `q_positions` by"):
                relative.relative_positions(q_at, k_at)


@pytest.mark.eager
@pytest.mark.x64
def test_near_the_end_of_a_dtype(lib):
    """The same as at the start, with times since some origin."""
    dtype = "int64" if lib.has_float64 else "int32"
    for start in (np.iinfo(dtype).max - 3, np.iinfo(dtype).min, np.iinfo(dtype).max // 2):
        at = array(lib, [start + n for n in range(4)], dtype)
        near = lib.array(np.arange(4))
        assert lib.numpy(relative.relative_positions(at, at)).tolist() == wanted(range(4), range(4))
        np.testing.assert_array_equal(
            lib.numpy(relative.alibi_bias(at, at, 3)), lib.numpy(relative.alibi_bias(near, near, 3))
        )


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_biases(lib, values, dtype):
    if dtype == "float64" and not lib.has_float64:
        pytest.skip("no float64")
    for q, k, q_at, k_at in pairs(lib):
        got = lib.numpy(relative.alibi_bias(q_at, k_at, 1, dtype=lib.dtype(dtype)))
        exact = np.asarray(wanted(q, k, lambda step: float(-abs(Fraction(step, 256)))))
        np.testing.assert_allclose(got[0], exact, rtol=2 * np.finfo(dtype).eps)
        key = lib.numpy(relative.alibi_bias(q_at, k_at, 1, form="key", dtype=lib.dtype(dtype)))
        np.testing.assert_allclose(key[0, 0], [n / 256 for n in k], rtol=np.finfo(dtype).eps)


@pytest.mark.x64
def test_buckets(lib):
    if lib.name == "strict" and not lib.has_float64:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    for dtype in LARGE if lib.has_float64 else SMALL:
        at = ends(dtype)
        got = lib.numpy(relative.t5_bucket(array(lib, at, dtype))).tolist()
        exact = [reference.t5_bucket(n, True, 32, 128) for n in at]  # None on a boundary
        assert got == [b if e is None else e for e, b in zip(exact, got, strict=True)]


@pytest.mark.eager
@pytest.mark.x64
def test_integers_beside_reals(lib, values):
    """No integer is rounded to the dtype of a real position before they are compared."""
    width, real = ("int64", "float64") if lib.has_float64 else ("int32", "float32")
    high = np.iinfo(width).max
    q = [2**24 + 1, 2**24, 2**25 + 3, high, high - 1, -high - 1, -1, 0]
    q += [2**53 + 1, 2**40 - 1] if lib.has_float64 else []
    k = [float(2**24), 0.5, -0.25, float(high), float(-high), float(2**24 + 2), -math.inf, math.inf]
    k = [float(np.dtype(real).type(n)) for n in k]
    q_at, k_at = array(lib, q, width), array(lib, k, real)
    exact = [[n - m if math.isinf(n) else Fraction(n) - m for n in k] for m in q]
    assert lib.numpy(causal_mask(q_at, k_at)).tolist() == [[d <= 0 for d in row] for row in exact]
    assert lib.numpy(causal_mask(k_at, q_at)).tolist() == [
        [d >= 0 for d in column] for column in zip(*exact, strict=True)
    ]
    got = lib.numpy(relative.relative_positions(q_at, k_at))
    rounded = np.asarray([[float(d) for d in row] for row in exact])
    np.testing.assert_allclose(got, rounded, rtol=2 * np.finfo(real).eps)
    np.testing.assert_array_equal(lib.numpy(relative.relative_positions(k_at, q_at)), -got.T)
    # float32 positions: the difference is made in float64, where there is one, and rounded once.
    got = relative.relative_positions(
        array(lib, [2**24 + 1], width), array(lib, [2.0**24], "float32")
    )
    assert lib.numpy(got) == [[-1.0]]
    assert got.dtype == lib.dtype("float32")


@pytest.mark.eager
def test_nan_is_neither_before_nor_after(lib):
    nan, at = array(lib, [math.nan, 1.0], "float32"), lib.array([0, 1, 2])
    assert lib.numpy(causal_mask(nan, at)).tolist() == [[False] * 3, [True, True, False]]
    assert lib.numpy(causal_mask(at, nan)).tolist() == [
        [False, False],
        [False, True],
        [False, True],
    ]
    assert lib.numpy(causal_mask(nan, nan)).tolist() == [[False, False], [False, True]]
    for got in (
        relative.alibi_bias(nan, at, 1)[0, 0, :],
        relative.relative_positions(nan, at)[0, :],
    ):
        assert np.isnan(lib.numpy(got)).all()


def test_reals_of_two_dtypes(lib):
    if not lib.has_float64:
        pytest.skip("no float64")
    narrow, wide = array(lib, [0.1], "float32"), array(lib, [0.1], "float64")
    assert lib.numpy(causal_mask(narrow, wide)).tolist() == [[True]]  # float32(0.1) > 0.1
    assert lib.numpy(causal_mask(wide, narrow)).tolist() == [[False]]


@pytest.mark.parametrize("dtype", [bool, np.complex64])
def test_neither_integer_nor_real(dtype):
    name = np.dtype(dtype).name
    for call in (
        causal_mask,
        relative.relative_positions,
        lambda q, k: relative.alibi_bias(q, k, 2),
    ):
        with pytest.raises(
            TypeError, match=f"`q_positions` must be integer or real floating, got {name}"
        ):
            call(np.ones(2, dtype), np.arange(2))
        with pytest.raises(
            TypeError, match=f"`k_positions` must be integer or real floating, got {name}"
        ):
            call(np.arange(2), np.ones(2, dtype))


@given(st.data())
def test_drawn_positions(data):
    """Of any two dtypes, as exact fractions."""

    def draw(dtype):
        if dtype.startswith("float"):
            return st.floats(-(2.0**65), 2.0**65, width=int(dtype[-2:]))
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        near = [n + step for n in (low, 0, high, 2**24, 2**53) for step in (-1, 0, 1)]
        edges = [n for n in near if low <= n <= high]
        return st.one_of(st.integers(low, high), st.sampled_from(edges))

    names = st.sampled_from([*LARGE, "float32", "float64"])
    q_dtype, k_dtype = data.draw(names), data.draw(names)
    m, n = data.draw(draw(q_dtype)), data.draw(draw(k_dtype))
    q, k = np.asarray([m], q_dtype), np.asarray([n], k_dtype)
    exact = Fraction(n) - Fraction(m)
    assert causal_mask(q, k) == [[exact <= 0]]
    bias = relative.alibi_bias(q, k, 1, dtype=np.float64)
    assert bias[0, 0, 0] == pytest.approx(-abs(float(exact)) / 256, rel=4e-16, abs=0)


def test_times_do_not_depend_on_the_origin():
    """Nanoseconds since 1970 beside those since the first event."""
    events = np.asarray([0, 5, 1_000_003, 86_400_000_000_000])
    for origin in (0, 1_700_000_000_000_000_000, 2**63 - 2**50, -(2**63)):
        at = events + origin
        for call in (
            causal_mask,
            relative.relative_positions,
            lambda q, k: relative.alibi_bias(q, k, 4),
            lambda q, k: relative.clipped_index(q, k, 1000),
        ):
            np.testing.assert_array_equal(call(at, at), call(events, events))


def test_builders_of_several_dtypes():
    """What `token_positions` gives in uint64 can be compared with what it gives in int64."""
    late = positions.token_positions(3, offset=2**63 - 1, dtype=np.uint64)
    early = positions.token_positions(3, offset=2**63 - 3)
    got = relative.relative_positions(early, late)
    assert got.tolist() == [[2, 3, 4], [1, 2, 3], [0, 1, 2]]
