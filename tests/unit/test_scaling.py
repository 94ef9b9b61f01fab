"""Schedules: by hand, against transformers' numbers, and the laws that tie them to the default."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from values import NEUTRAL, ONES, SCALED

from rope_xp import RoPE
from rope_xp.scaling import (
    NTK,
    Custom,
    Default,
    DynamicNTK,
    FrequencyFactors,
    Linear,
    Llama3,
    LongRoPE,
    NTKByParts,
    Proportional,
    RIFLEx,
    SteppedNTK,
    YaRN,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "schedules.json").read_text())
DEFAULT = np.asarray(Default()(32, 10000.0).inv_freq)


@pytest.mark.parametrize("schedule", NEUTRAL, ids=repr)
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_neutral_parameters_are_the_default(schedule, precision):
    wanted = Default()(32, 10000.0, precision=precision)
    got = schedule(32, 10000.0, precision=precision)
    rtol = 3e-16 if precision == "exact" else 1.2e-7
    np.testing.assert_allclose(got.inv_freq, wanted.inv_freq, rtol=rtol)
    assert (got.attention_factor, got.softmax_factor) == (1.0, 1.0)


@pytest.mark.parametrize("schedule", SCALED, ids=repr)
def test_scaling_slows_and_never_speeds_up(schedule):
    got = np.asarray(schedule(32, 10000.0).inv_freq)
    assert np.all(got <= DEFAULT * (1 + 1e-15))
    assert np.any(got < DEFAULT)


def from_golden(case):
    kind, parameters = case["rope_type"], case["parameters"]
    longest = {"max_position_embeddings": case["max_position_embeddings"]}
    if kind == "longrope":
        return LongRoPE(**parameters, **longest)
    if kind == "dynamic":
        return DynamicNTK(**parameters, **longest)
    classes = {"linear": Linear, "yarn": YaRN, "llama3": Llama3, "proportional": Proportional}
    return classes[kind](**parameters)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['rope_type']}-{c['seq_len']}")
def test_transformers(case):
    """goldens/make_schedules.py. In float32 to the last bit or two, exact to a few parts in 10⁶."""
    assert GOLDEN["source"].startswith("transformers 5.24.0")
    schedule, theirs = from_golden(case), np.asarray(case["inv_freq"])
    options = {"seq_len": case["seq_len"]}
    rounded = schedule(case["head_dim"], case["base"], precision="float32", **options)
    exact = schedule(case["head_dim"], case["base"], **options)
    np.testing.assert_allclose(rounded.inv_freq, theirs, rtol=2.5e-7, atol=0)
    assert np.mean(np.asarray(rounded.inv_freq) == theirs) > 0.9
    np.testing.assert_allclose(exact.inv_freq, theirs, rtol=4e-6, atol=0)
    assert rounded.attention_factor == exact.attention_factor == case["attention_factor"]


# -- by hand ---------------------------------------------------------------------------------------


def test_linear_divides_every_pair():
    np.testing.assert_allclose(Linear(4.0)(32, 10000.0).inv_freq, DEFAULT / 4, rtol=1e-15)


@pytest.mark.parametrize("schedule", [NTK(8.0), DynamicNTK(8.0, 1000)], ids=repr)
def test_ntk_keeps_the_first_pair_and_slows_the_last_by_the_factor(schedule):
    """Dynamic NTK stretches by 8 n/n0 − 7: by 8 at n = 1.875 n0."""
    got = schedule(32, 10000.0, seq_len=1875).inv_freq
    assert got[0] == 1.0
    assert math.isclose(got[-1], DEFAULT[-1] / 8, rel_tol=1e-12)


def test_dynamic_ntk_remembers_nothing():
    schedule = DynamicNTK(4.0, 2048)
    long = schedule(32, 10000.0, seq_len=10_000).inv_freq
    just_over = schedule(32, 10000.0, seq_len=2049).inv_freq
    assert long[-1] < just_over[-1] < DEFAULT[-1]
    for seq_len in (None, 1, 2048):
        np.testing.assert_array_equal(schedule(32, 10000.0, seq_len=seq_len).inv_freq, DEFAULT)


def test_ntk_of_a_single_pair():
    assert NTK(8.0)(2, 10000.0).inv_freq == (1.0,)


def test_yarn_ramp_of_gpt_oss():
    """head_dim 64, base 150000, factor 32, original 4096 (facts: 8.09 and 17.40; 8 and 18 truncated)."""
    untruncated = YaRN(32.0, 4096, truncate=False)
    np.testing.assert_allclose(
        untruncated.ramp(64, 150000.0), (8.092779115512402, 17.39802450158856), rtol=1e-14
    )
    assert YaRN(32.0, 4096).ramp(64, 150000.0) == (8, 18)
    assert untruncated(64, 150000.0).attention_factor == 1.3465735902799727


def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones():
    own = Default()(64, 150000.0).inv_freq
    got = YaRN(32.0, 4096)(64, 150000.0).inv_freq
    assert got[:9] == own[:9]
    np.testing.assert_allclose(got[18:], np.asarray(own[18:]) / 32, rtol=1e-15)
    assert got[13] == pytest.approx((own[13] + own[13] / 32) / 2)  # half way up the ramp


@pytest.mark.parametrize(
    ("options", "attention", "softmax"),
    [
        ({}, 0.1 * math.log(40) + 1, 1.0),
        ({"attention_factor": 1.5}, 1.5, 1.0),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0, (0.1 * math.log(40) + 1) ** 2),
        ({"mscale": 0.707}, 0.1 * math.log(40) + 1, 1.0),  # as transformers; vLLM: g(0.707)
        (
            {"mscale": 1.0, "mscale_all_dim": 0.5},
            (0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1),
            (0.05 * math.log(40) + 1) ** 2,
        ),
        ({"mscale": 1.0, "mscale_all_dim": 1.0, "mscale_softmax": False}, 1.0, 1.0),
    ],
)
def test_yarn_factors(options, attention, softmax):
    got = YaRN(40.0, 4096, **options)(64, 10000.0)
    assert got.attention_factor == pytest.approx(attention, rel=1e-15)
    assert got.softmax_factor == pytest.approx(softmax, rel=1e-15)


def test_by_parts_is_yarn_without_its_factor():
    yarn, parts = YaRN(8.0, 2048)(64, 10000.0), NTKByParts(8.0, 2048)(64, 10000.0)
    assert parts.inv_freq == yarn.inv_freq
    assert parts.attention_factor == 1.0 < yarn.attention_factor


def test_longrope_switches_past_the_original_context():
    schedule = LongRoPE([2] * 16, [8] * 16, 4096, max_position_embeddings=131072)
    for seq_len, divisor in ((None, 2), (4096, 2), (4097, 8)):
        np.testing.assert_allclose(
            schedule(32, 10000.0, seq_len=seq_len).inv_freq, DEFAULT / divisor, rtol=1e-15
        )
    factor = schedule(32, 10000.0).attention_factor
    assert factor == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)), rel=1e-15)


def test_longrope_with_two_factors_on_the_scores():
    schedule = LongRoPE(ONES, ONES, 4096, short_mscale=1.25, long_mscale=1.5)
    assert schedule(32, 10000.0).attention_factor == 1.25
    assert schedule(32, 10000.0, seq_len=5000).attention_factor == 1.5


def test_llama3_bands():
    """Wavelengths below 8192/4 stay, above 8192/1 are stretched by 8."""
    own = np.asarray(Default()(128, 500000.0).inv_freq)
    got = np.asarray(Llama3(8.0, 1.0, 4.0, 8192)(128, 500000.0).inv_freq)
    waves = 2 * math.pi / own
    np.testing.assert_array_equal(got[waves < 2048], own[waves < 2048])
    np.testing.assert_allclose(got[waves > 8192], own[waves > 8192] / 8, rtol=1e-15)
    between = (waves > 2048) & (waves < 8192)
    assert np.all((got < own)[between] & (got > own / 8)[between])
    assert between.sum() > 3


def test_llama3_with_equal_factors_is_a_step():
    """Llama 4 Scout: wavelengths above 8192 are stretched by 16, the others stay."""
    own = np.asarray(Default()(128, 500000.0).inv_freq)
    got = np.asarray(Llama3(16.0, 1.0, 1.0, 8192)(128, 500000.0).inv_freq)
    stretched = 2 * math.pi / own > 8192
    np.testing.assert_allclose(got, np.where(stretched, own / 16, own), rtol=1e-15)
    assert 0 < stretched.sum() < 64
    # A pair whose wavelength is exactly the limit: base 1 makes all wavelengths 2π; n0 / low is 2π, too.
    at_the_limit = Llama3(16.0, 1 / math.pi, 1 / math.pi, 2)(4, 1.0)
    assert at_the_limit.inv_freq == (1.0, 1.0)


@pytest.mark.parametrize(
    ("seq_len", "stretch"),
    [(None, 1), (8192, 1), (8193, 3), (16384, 3), (16385, 7), (32768, 7), (10**6, 255)],
)
def test_stepped_ntk(seq_len, stretch):
    """2^⌈log2(n / n0) + 1⌉ − 1, at least 1, as Qwen 1 has it."""
    if seq_len is not None:
        assert max(2 ** math.ceil(math.log2(seq_len / 8192) + 1) - 1, 1) == stretch
    got = SteppedNTK(8192)(128, 10000.0, seq_len=seq_len).inv_freq
    base = 10000.0 * stretch ** (128 / 126)
    np.testing.assert_allclose(got, base ** (-np.arange(0, 128, 2) / 128), rtol=1e-13)


def test_proportional_is_not_a_partial_rotation():
    got = Proportional(0.25)(32, 10000.0).inv_freq
    np.testing.assert_array_equal(got[:4], DEFAULT[:4])  # exponents of the whole head
    assert got[4:] == (0.0,) * 12
    x = np.arange(32, dtype=np.float32)[None]
    y = RoPE(32, layout="half", scaling=Proportional(0.25))(x, offset=5)
    static = [*range(4, 16), *range(20, 32)]
    np.testing.assert_array_equal(y[0, static], x[0, static])


def test_negative_frequencies_turn_the_other_way():
    """nanochat rotates by −θ."""
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    rope = RoPE(8, layout="half")
    mirrored = RoPE(8, layout="half", scaling=Custom((-rope.frequencies().inv_freq).tolist()))
    np.testing.assert_allclose(mirrored(x, offset=3), rope.inverse(x, offset=3), atol=1e-6)


# -- mistakes --------------------------------------------------------------------------------------


def test_frequency_factors_divide_another_schedule():
    """ggml divides angles by them, then interpolates: both schedules hold, at every length."""
    factors = (1.0, 2.0, 4.0, 8.0)
    yarn = YaRN(4.0, 64, mscale_all_dim=1.0)
    made, inner = FrequencyFactors(factors, yarn)(8, 100.0), yarn(8, 100.0)
    np.testing.assert_allclose(made.inv_freq, np.asarray(inner.inv_freq) / factors)
    assert made[1:] == inner[1:]
    longrope = LongRoPE([1] * 4, [2] * 4, 64)
    scaled = FrequencyFactors(factors, longrope)
    for seq_len in (None, 64, 65):
        expected = np.asarray(longrope(8, 100.0, seq_len=seq_len).inv_freq) / factors
        np.testing.assert_allclose(scaled(8, 100.0, seq_len=seq_len).inv_freq, expected)
    rounded = scaled(8, 100.0, precision="float32").inv_freq
    assert all(f == np.float32(f) for f in rounded)


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (lambda: Linear(0.5), ValueError, "`factor` must be at least 1, got 0.5"),
        (lambda: Linear("8"), TypeError, "`factor` must be a number, got '8'"),
        (lambda: Linear(True), TypeError, "`factor` must be a number, got True"),
        (lambda: Linear(math.nan), ValueError, "`factor` must be finite, got nan"),
        (lambda: NTK(-1), ValueError, "`factor` must be at least 1, got -1"),
        (lambda: DynamicNTK(2.0, 0), ValueError, "`max_position_embeddings` must be an int greater than 1, got 0"),
        (lambda: DynamicNTK(2.0, 2048.0), TypeError, "`max_position_embeddings` must be an int"),
        (lambda: YaRN(2.0, 2048, beta_fast=0.5), ValueError, "`beta_fast` must be at least beta_slow=1.0, got 0.5"),
        (lambda: YaRN(2.0, 2048, beta_slow=0), ValueError, "`beta_slow` must be positive and finite, got 0.0"),
        (lambda: YaRN(2.0, 2048, attention_factor=-1), ValueError, "`attention_factor` must be positive"),
        (lambda: YaRN(2.0, 2048, truncate="no"), TypeError, "`truncate` must be True or False, got 'no'"),
        (lambda: YaRN(2.0, 2048, mscale="1"), TypeError, "`mscale` must be a number, got '1'"),
        (lambda: YaRN(2.0, 2048)(8, 1.0), ValueError, "`base` must not be 1 for a ramp"),
        (lambda: NTKByParts(0.5, 2048), ValueError, "`factor` must be at least 1, got 0.5"),
        (lambda: LongRoPE([1] * 4, [1] * 3, 2048), ValueError, "`long_factor` must be as long as short_factor, 4, got 3"),
        (lambda: LongRoPE([1, 0], [1, 1], 2048), ValueError, "`short_factor[1]` must be positive and finite, got 0.0"),
        (lambda: LongRoPE("ab", [1, 1], 2048), TypeError, "`short_factor` must be a list of numbers, got 'ab'"),
        (lambda: LongRoPE([1], [1], 2048, short_mscale=1.0), ValueError, "`short_mscale` and `long_mscale` must be given together"),
        (lambda: LongRoPE([1] * 3, [1] * 3, 2048)(8, 1e4), ValueError, "`short_factor` must have n_pairs=4 numbers for rotary_dim=8, got 3"),
        (lambda: Llama3(8.0, 4.0, 3.5, 8192), ValueError, "`high_freq_factor` must be at least low_freq_factor=4.0, got 3.5"),
        (lambda: Proportional(1.5), ValueError, "`partial_rotary_factor` must be at most 1, got 1.5"),
        (lambda: Proportional(0.0), ValueError, "`partial_rotary_factor` must be positive"),
        (lambda: Custom([1.0])(8, 1e4), ValueError, "`inv_freq` must have n_pairs=4 numbers for rotary_dim=8, got 1"),
        (lambda: RIFLEx(0, 66), ValueError, "`k` must be positive, got 0"),
        (lambda: RIFLEx(4, 0), ValueError, "`L_test` must be positive and finite, got 0.0"),
        (lambda: RIFLEx(4, 1e-38), ValueError, "`L_test` must keep frequencies below 2**128, got 1e-38"),
        (lambda: RIFLEx(5, 66)(8, 1e4), ValueError, "`k` must be at most n_pairs=4, got 5"),
        (lambda: Custom([math.inf]), ValueError, "`inv_freq[0]` must be finite, got inf"),
        (lambda: FrequencyFactors([0.0]), ValueError, "`factors[0]` must be positive"),
        (lambda: RoPE(8, layout="half", scaling=FrequencyFactors([1, 2])), ValueError, "`factors` must have n_pairs=4"),
        (lambda: FrequencyFactors([1, 2], Linear(2.0))(8, 1e4), ValueError, "`factors` must have n_pairs=4"),
        (lambda: FrequencyFactors([1e-300] * 4, Linear(2.0))(8, 1e4), ValueError, "`factors` must keep frequencies below 2**128"),
        (lambda: FrequencyFactors([1.0], Linear), TypeError, "`scaling` must be None or a value"),
        (lambda: RoPE(8, layout="half", scaling=Linear), TypeError, "`scaling` must be None or a value"),
    ],
)  # fmt: skip
def test_messages(make, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        make()


def test_riflex_by_hand():
    """Pair k counts from 1; 0.9 of a turn within L_test; the others, and every factor, as they are."""
    got = RIFLEx(2, 100)(8, 10000.0)
    np.testing.assert_allclose(got.inv_freq, [1, 0.018 * math.pi, 0.01, 0.001], rtol=1e-15)
    assert (got.attention_factor, got.softmax_factor) == (1.0, 1.0)
    rounded = RIFLEx(2, 100)(8, 10000.0, precision="float32").inv_freq
    assert rounded[1] == np.float32(0.018 * math.pi)
    assert rounded[2] == np.float32(0.01)
