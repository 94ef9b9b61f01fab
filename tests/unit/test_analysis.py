"""Analysis of frequencies, against loops over complex numbers and numbers from papers."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from rope_xp import RoPE, analysis

LAYOUTS = ["half", "interleaved"]
INV_FREQ = reference.inv_freq(128)
DISTANCES = [0, 1, -1, 7, 1000, -54_321, 2**31 - 1, -(2**31)]


def result_of(lib, dtype=None):
    """The name of the result dtype, and the tolerance of a sum of terms of size 1, per term."""
    name = dtype or ("float64" if lib.has_float64 else "float32")
    return name, {"float64": 4e-15, "float32": 4e-7}[name]


@pytest.mark.eager
@pytest.mark.x64
def test_distances_of_any_range(lib):
    """Beside arrays in the smallest dtype that holds them, beside none in NumPy's."""
    far = [[2**31 - 1, -(2**31)], [2**31, 0]]
    far += [[2**62 + 1, -(2**63)], [2**64 - 1, 2**63]] if lib.has_float64 else [[2**32 - 1]]
    q, k = lib.array([1.0, 0.0], "float32"), lib.array([0.0, 1.0], "float32")
    for distances in far:
        wanted = [reference.decay_bound(m, [1.0, 0.3]) for m in distances]
        np.testing.assert_allclose(analysis.decay_bound(distances, [1.0, 0.3]), wanted, rtol=1e-13)
        score = [float(reference.exact_cos_sin(m, 1.0)[1]) for m in distances]
        got = lib.numpy(analysis.score_curve(q, k, distances, [1.0], "half"))
        np.testing.assert_allclose(np.abs(got), np.abs(score), rtol=1e-6)
    if not lib.has_float64:
        with pytest.raises(
            ValueError, match="`distance` must be within one integer dtype of 32 bits"
        ):
            analysis.score_curve(q, k, [2**32], [1.0], "half")


# Wavelengths and turns


def test_wavelengths_by_hand():
    got = analysis.wavelengths([math.pi, -math.pi / 2, 0.0, 5e-324])
    np.testing.assert_array_equal(got, [2, 4, np.inf, np.inf])
    assert got.dtype == np.float64
    assert analysis.wavelengths(np.ones((3, 2), np.float32)).shape == (3, 2)


def test_turns_by_hand():
    got = analysis.turns(np.asarray([[math.pi, 0.0], [-math.pi / 2, 1.0]]), 6)
    np.testing.assert_allclose(got, [[3, 0], [1.5, 6 / (2 * math.pi)]], rtol=1e-15)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(analysis.turns((1.0, 2.0), 0), [0, 0])


def test_the_longest_wavelength():
    lengths = analysis.wavelengths(RoPE(128, layout="half").frequencies().inv_freq)
    assert round(max(lengths)) == 54_410
    np.testing.assert_allclose(max(lengths), 2 * math.pi * 1e4 ** (126 / 128), rtol=1e-14)
    assert max(lengths) < 2 * math.pi * 1e4


@pytest.mark.parametrize(("base", "length", "pairs"), [(1e4, 4096, 18), (5e5, 8192, 29)])
def test_pairs_that_never_complete_a_turn(base, length, pairs):
    """Llama 2 and 3; the critical dimension is twice the number of the other pairs."""
    inv_freq = RoPE(128, layout="half", base=base).frequencies().inv_freq
    assert np.sum(analysis.turns(inv_freq, length) < 1) == pairs


# Curves


@pytest.mark.x64
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_curves_against_the_oracle(lib, dtype):
    at = lib.array(np.reshape(DISTANCES, (2, 4)))
    asked = None if dtype is None else lib.dtype(dtype)
    name, unit = result_of(lib, dtype)
    for function, oracle in (
        (analysis.decay_bound, reference.decay_bound),
        (analysis.advantage, lambda m, w: sum(map(math.cos, angles(m, w)))),
    ):
        got = function(at, INV_FREQ, dtype=asked)
        assert got.dtype == lib.dtype(name)
        assert tuple(got.shape) == (2, 4)
        wanted = np.reshape([oracle(m, INV_FREQ) for m in DISTANCES], (2, 4))
        np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=64 * unit)


def angles(m, frequencies):
    """Within one turn, from the exact product."""
    exact = [reference.exact_cos_sin(m, w) for w in frequencies]
    return [math.atan2(float(sin), float(cos)) for cos, sin in exact]


def test_numbers_and_sequences_give_numpy():
    for distance in (5, [5, 6], np.int64(5), 2.5, np.asarray(5)):
        got = analysis.decay_bound(distance, INV_FREQ)
        assert isinstance(got, np.ndarray | np.float64)
        assert got.shape == np.shape(distance)
        assert got.dtype == np.float64
        assert analysis.decay_bound(distance, INV_FREQ, dtype=np.float32).dtype == np.float32
    real = sum(map(abs, np.cumsum(np.exp(2.5j * np.asarray(INV_FREQ))))) / 64
    np.testing.assert_allclose(analysis.decay_bound(2.5, INV_FREQ), real, rtol=1e-14)


def test_the_decay_curve_is_even_and_starts_at_the_mean_of_its_counts():
    m = np.arange(300)
    curve = analysis.decay_bound(m, INV_FREQ)
    np.testing.assert_array_equal(curve, analysis.decay_bound(-m, INV_FREQ))
    assert curve[0] == 32.5  # of 1 … 64


def test_the_decay_curve_is_not_monotone():
    """RoFormer's figure 2 shows distances to 256; up to there the curve increases 115 times."""
    curve = analysis.decay_bound(np.arange(20_001), INV_FREQ)
    assert np.sum(np.diff(curve[:256]) > 0) == 115
    assert np.argmin(curve) == 19_306
    assert round(float(curve[19_306]), 2) == 1.33
    assert round(float(curve[19_999]), 1) == 4.4


# Scores and their bound


@pytest.mark.x64
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_the_score_curve_is_the_score_of_rotated_vectors(lib, rng, layout, name):
    """Distance is query minus key. The rotation rounds more than the curve."""
    if name == "bfloat16" and lib.name in ("strict", "dask"):
        pytest.skip("has no bfloat16")
    rope = RoPE(8, layout=layout, base=100.0)
    inv_freq = rope.frequencies().inv_freq
    q, k = (lib.array(x, name) for x in rng.standard_normal((2, 3, 4, 8)))
    ms, ns = np.asarray([0, 5, 2, 100_000]), np.asarray([0, 2, 5, 3])
    got = analysis.score_curve(q, k, lib.array(ms - ns), inv_freq, layout)
    assert got.dtype == lib.dtype(result_of(lib)[0])
    assert tuple(got.shape) == (3, 4)
    a = lib.numpy(rope(q, positions=lib.array(ms)))
    b = lib.numpy(rope(k, positions=lib.array(ns)))
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}[name]
    eps = max(eps, result_of(lib)[1])
    sizes = np.sum(np.abs(lib.numpy(q)), -1) * np.sum(np.abs(lib.numpy(k)), -1)
    assert np.all(np.abs(lib.numpy(got) - np.sum(a * b, -1)) <= 4 * eps * sizes)


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_and_bounds_against_the_oracle(lib, rng, layout):
    frequencies = reference.inv_freq(6, 50.0)
    q, k = rng.standard_normal((2, 2, 1, 6))
    if not lib.has_float64:
        q, k = q.astype(np.float32).astype(float), k.astype(np.float32).astype(float)
    at = np.asarray([0, 1, -3, 40])
    for function, oracle in (
        (analysis.score_curve, lambda q, k, m, *rest: reference.score(q, k, int(m), 0, *rest)),
        (analysis.abel_bound, lambda q, k, m, *rest: reference.abel_bound(q, k, int(m), *rest)),
    ):
        got = function(lib.array(q), lib.array(k), lib.array(at), frequencies, layout)
        rows = [(a[0], b[0]) for a, b in zip(q, k, strict=True)]
        wanted = [[oracle(a, b, m, frequencies, layout) for m in at] for a, b in rows]
        name, unit = result_of(lib)
        assert got.dtype == lib.dtype(name)
        np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=100 * unit)
        plain = function(lib.array(q), lib.array(k), [0, 1, -3, 40], frequencies, layout)
        np.testing.assert_array_equal(lib.numpy(plain), lib.numpy(got))
        one = function(lib.array(q), lib.array(k), 40, frequencies, layout)
        np.testing.assert_array_equal(lib.numpy(one)[:, 0], lib.numpy(got)[:, 3])


FEATURES = st.floats(-100, 100, allow_subnormal=False)


@st.composite
def scores(draw):
    n_pairs = draw(st.integers(1, 6))
    vectors = st.lists(FEATURES, min_size=2 * n_pairs, max_size=2 * n_pairs)
    angles = st.lists(st.floats(-7, 7), min_size=n_pairs, max_size=n_pairs)
    q = np.asarray(draw(vectors))
    k = q if draw(st.booleans()) else np.asarray(draw(vectors))
    return q, k, draw(angles), draw(st.sampled_from(LAYOUTS))


@given(scores(), st.integers(-(2**30), 2**30), st.integers(-(2**30), 2**30))
def test_the_bound_holds(made, m, n):
    """In exact arithmetic, and up to rounding in floats, because the score of one pair equals its bound.

    Each cos and sin has an error of at most 1e-15, and each operation a relative error of 2⁻⁵³. The
    score adds n_pairs terms whose sizes sum to Σ|h|, each rotated twice. The bound sums n_pairs moduli
    of at most n_pairs terms, times the largest difference, which is at most twice the largest |h|.
    The total error is below 1e-14 · n_pairs² · Σ|h|, or 1e-300 if products underflow.
    """
    q, k, inv_freq, layout = made
    n_pairs = len(inv_freq)
    (cm, sm), (cn, sn) = (reference_tables(at, inv_freq) for at in (m, n))
    a = np.asarray(turned(q, cm, sm, layout))
    b = np.asarray(turned(k, cn, sn, layout))
    pairs = reference.pairs(layout, n_pairs)
    sizes = sum(math.hypot(q[i], q[j]) * math.hypot(k[i], k[j]) for i, j in pairs)
    slack = 1e-14 * n_pairs**2 * sizes + 1e-300
    bound = analysis.abel_bound(q, k, m - n, inv_freq, layout)
    assert bound >= abs(a @ b) - slack
    score = analysis.score_curve(q, k, m - n, inv_freq, layout)
    assert abs(score - a @ b) <= slack
    assert bound >= abs(score) - slack


def reference_tables(at, inv_freq):
    exact = [reference.exact_cos_sin(at, w) for w in inv_freq]
    return [float(cos) for cos, _ in exact], [float(sin) for _, sin in exact]


def turned(x, cos, sin, layout):
    y = list(x)
    for c, s, (i, j) in zip(cos, sin, reference.pairs(layout, len(cos)), strict=True):
        z = complex(x[i], x[j]) * complex(c, s)
        y[i], y[j] = z.real, z.imag
    return y


def bound_over_trivial(h, distance):
    """For a q that makes h with a k of ones in the first features of the pairs."""
    q = np.concatenate((h.real, h.imag), axis=-1)
    k = np.concatenate((np.ones(64), np.zeros(64)))
    return analysis.abel_bound(q, k, distance, INV_FREQ, "half") / np.sum(np.abs(h), axis=-1)


def test_how_tight_the_bound_is(rng):
    """It is smaller than Σ|h| if h decreases slowly, and larger for constant or random h."""
    at = [0, 10, 100, 1000]
    taper = bound_over_trivial(1 - np.arange(64) / 64 + 0j, at)
    np.testing.assert_allclose(taper, [1.00, 0.55, 0.31, 0.14], atol=0.005)
    constant = bound_over_trivial(np.ones(64) + 0j, at)
    np.testing.assert_allclose(constant, [32.5, 17.95, 10.23, 4.47], atol=0.005)
    q, k = rng.standard_normal((2, 200, 1, 128))
    bound = analysis.abel_bound(q, k, at, INV_FREQ, "half")
    h = (q[..., :64] + 1j * q[..., 64:]) * (k[..., :64] - 1j * k[..., 64:])
    ratio = bound / np.sum(np.abs(h), axis=-1)
    assert np.min(ratio) > 10
    np.testing.assert_allclose(np.median(ratio, axis=0), [144, 80, 45, 20], rtol=0.1)


# The context that a base allows


@pytest.mark.parametrize(
    ("base", "first"),
    [(1e4, 1707), (5e5, 18_438), (6.3e5, 33_259), (6.4e5, 27_685), (1e6, 27_115)],
)
def test_the_context_bound_is_not_monotone_in_the_base(base, first):
    inv_freq = RoPE(128, layout="half", base=base).frequencies().inv_freq
    assert analysis.context_bound(inv_freq) == first
    values = analysis.advantage(np.arange(first + 1), inv_freq)
    assert np.all(values[:first] >= 0)
    assert values[first] < 0
    assert analysis.context_bound(inv_freq, limit=first) is None
    assert analysis.context_bound(inv_freq, limit=first + 1) == first


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4))
def test_the_context_bound_against_the_oracle(inv_freq):
    found, wanted = (
        f(inv_freq, limit=50) for f in (analysis.context_bound, reference.first_negative)
    )
    if found != wanted:  # where a sum is zero up to rounding
        at = min(m for m in (found, wanted) if m is not None)
        assert abs(analysis.advantage(at, inv_freq)) < 1e-13


def test_the_context_bound_across_blocks():
    """One slow pair, whose cos becomes negative near the ends of blocks."""
    for quarter in (4095, 4096, 4097, 64 * 4096 - 1, 64 * 4096, 700_000):
        inv_freq = [math.pi / 2 / (quarter - 0.5)]
        assert analysis.context_bound(inv_freq) == quarter


def test_sums_that_are_negative_only_by_rounding_count_as_zero():
    """Thirds of a turn: the sum is 0 at two of three distances, and −9e-16 in floats at m = 2."""
    third = 2 * math.pi / 3
    assert analysis.advantage(2, [third, third, 0.0]) < 0
    assert analysis.context_bound([third, third, 0.0], limit=20) is None


def test_half_of_the_features_unrotated_has_no_bound():
    rotated = list(RoPE(128, layout="half", rotary_dim=64).frequencies().inv_freq)
    assert analysis.context_bound(rotated) is not None
    assert analysis.context_bound([*rotated, *[0.0] * 32]) is None
    assert analysis.context_bound([1.0, 0.0], limit=2**23) is None  # cos gets within 1e-15 of −1
