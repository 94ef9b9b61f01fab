"""`diagnose`: what a black box is, found out from what it does; implementations here are written by hand."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from values import SCALED, SCHEMES

import rope_xp
from rope_xp import RoPE, testing
from rope_xp.__main__ import main
from rope_xp.axes import Axial, AxisPerPair, Directions, InterleavedSections, Sections
from rope_xp.scaling import (
    NTK,
    Custom,
    Default,
    DynamicNTK,
    FrequencyFactors,
    Linear,
    Llama3,
    LongRoPE,
    Negated,
    NTKByParts,
    Proportional,
    RIFLEx,
    SteppedNTK,
    YaRN,
)
from rope_xp.testing import diagnose


def black_box(rope):
    return lambda x, positions: rope(x, positions=positions)


# -- what RoPE can be ------------------------------------------------------------------------------

RECOVERED = [
    None,
    Linear(4.0),
    Linear(3.7),
    NTK(4.0),
    YaRN(4.0, 2048),
    YaRN(40.0, 4096),
    YaRN(32.0, 4096, truncate=False),
    YaRN(4.0, 2048, attention_factor=1.25),
    NTKByParts(4.0, 2048),
    NTKByParts(4.0, 2048, truncate=False),
    Llama3(8.0, 1.0, 4.0, 8192),
    Llama3(16.0, 1.0, 1.0, 8192),
    Llama3(8.0, 1.0, 6.0, 8192),
    Proportional(0.25),
    Proportional(0.25, 2.0),
    RIFLEx(4, 66),
    Negated(),
    Negated(Linear(4.0)),
]


@pytest.mark.parametrize("scaling", RECOVERED, ids=repr)
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_a_rope_is_recovered(scaling, precision):
    rope = RoPE(64, layout="half", scaling=scaling, precision=precision)
    found = diagnose(black_box(rope), 64)
    assert found.rope == rope
    assert found.precision == precision
    assert found.direction == (-1 if isinstance(scaling, Negated) else 1)
    own = np.abs(rope.frequencies().inv_freq)
    np.testing.assert_allclose(found.inv_freq, own, rtol=1e-6)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("part", [{}, {"rotary_dim": 12}, {"rotary_start": 6}, (10, 4)], ids=str)
@pytest.mark.parametrize("base", [100.0, 500000.0, 2.0**21 + 1])
def test_layout_and_part_are_recovered(layout, part, base):
    part = {"rotary_dim": part[0], "rotary_start": part[1]} if isinstance(part, tuple) else part
    rope = RoPE(18, layout=layout, base=base, **part)
    found = diagnose(black_box(rope), 18)
    assert found.rope == rope
    assert (found.layout, found.output_layout) == (layout, None)
    assert (found.rotary_dim, found.rotary_start) == (rope.rotary_dim, rope.rotary_start)
    assert found.base == base


@pytest.mark.parametrize("scaling", SCALED, ids=repr)
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_every_schedule_has_a_rope_that_does_the_same(scaling, layout):
    rope = RoPE(32, layout=layout, scaling=scaling)
    found = diagnose(black_box(rope), 32).rope
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 32))
    at = np.asarray([0, 1, 77, 4096, 100_000])
    np.testing.assert_allclose(found(x, positions=at), rope(x, positions=at), rtol=0, atol=1e-6)


def test_schedules_that_say_the_same_are_the_simplest():
    def scaling_of(scaling):
        return diagnose(black_box(RoPE(32, layout="half", scaling=scaling)), 32).scaling

    assert scaling_of(FrequencyFactors([3] * 16)) == Linear(3.0)
    assert scaling_of(Custom(Default()(32, 10000.0).inv_freq)) is None
    assert scaling_of(DynamicNTK(4.0, 2048)) is None  # at the length that is not given
    assert scaling_of(YaRN(1.0, 2048)) is None
    assert scaling_of(LongRoPE([2] * 16, [4] * 16, 2048, factor=4.0)) == Linear(2.0)


def test_an_attention_factor_without_a_schedule_of_its_own():
    factor = math.sqrt(1 + math.log(4) / math.log(2048))  # LongRoPE's
    rope = RoPE(32, layout="half", scaling=LongRoPE([2] * 16, [4] * 16, 2048, factor=4.0))
    found = diagnose(black_box(rope), 32)
    assert math.isclose(found.attention_factor, factor, rel_tol=1e-6)
    assert isinstance(found.rope.scaling, LongRoPE)
    zeros = RoPE(32, layout="half", scaling=FrequencyFactors([1] * 16, Proportional(0.5)))
    assert diagnose(black_box(zeros), 32).scaling == Proportional(0.5)


def random_rope(seed):
    rng = np.random.default_rng(seed)
    base = float(np.exp(rng.uniform(np.log(1e3), np.log(1e8))))
    head_dim = int(rng.choice([16, 32, 64, 80, 96, 128, 256]))
    rotary_dim = head_dim if rng.random() < 0.5 else 2 * int(rng.integers(6, head_dim // 2 + 1))
    start = int(rng.integers(0, head_dim - rotary_dim + 1))
    factor = round(float(np.exp(rng.uniform(np.log(1.5), np.log(64)))), int(rng.integers(0, 6)))
    length = int(rng.choice([2048, 4096, 8192, int(rng.integers(500, 20000))]))
    scaling = [
        None,
        Linear(factor),
        YaRN(factor, length, truncate=bool(rng.random() < 0.5)),
        Llama3(factor, 1.0, 4.0, length),
        NTKByParts(factor, length, float(rng.integers(8, 64))),
    ][rng.integers(5)]
    layout = ["half", "interleaved"][rng.integers(2)]
    return RoPE(
        head_dim,
        layout=layout,
        base=base,
        rotary_dim=rotary_dim,
        rotary_start=start,
        scaling=scaling,
        precision=["exact", "float32"][seed % 2],
    )


@pytest.mark.parametrize("seed", range(24))
def test_random_parameters_are_recovered(seed):
    rope = random_rope(seed)
    found = diagnose(black_box(rope), rope.head_dim)
    own = rope.frequencies().inv_freq
    np.testing.assert_allclose(found.inv_freq, own, rtol=1e-6)
    np.testing.assert_allclose(found.rope.frequencies().inv_freq, own, rtol=2e-6)
    exact = rope.precision == "exact"
    assert math.isclose(found.base, rope.base, rel_tol=1e-6 if exact else 4e-6)
    plain = RoPE(rope.head_dim, layout="half", base=rope.base, rotary_dim=rope.rotary_dim)
    changes = not np.allclose(plain.frequencies().inv_freq, own, rtol=1e-6, atol=0)
    assert type(found.scaling) is (type(rope.scaling) if changes else type(None))
    assert found.precision == rope.precision


@pytest.mark.eager
def test_arrays_of_every_library(lib):
    if lib.name == "strict" and not lib.has_float64:
        pytest.skip("NumPy does not take arrays of this device")
    rope = RoPE(16, layout="interleaved", base=500000.0, rotary_dim=8)
    found = diagnose(black_box(rope), 16, xp=lib.xp, device=lib.device, max_position=5000)
    assert found.rope == rope
    assert not [remark for remark in found.remarks if "dtype" in remark]


# -- implementations by hand: NumPy only, and nothing of rope_xp ---------------------------------------

D = 32


def inv_freq(dim=D, base=10000.0, over=None):
    return base ** (-np.arange(0, dim, 2) / (over or dim))


def angles_of(positions, w):
    angles = positions[..., None].astype(np.float64) * w
    return angles if positions.ndim == 1 else angles[:, None]


def turn_half(x, cos, sin):
    n = cos.shape[-1]
    a, b = x[..., :n], x[..., n : 2 * n]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., 2 * n :]], -1).astype(
        x.dtype
    )


def turn_interleaved(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape).astype(x.dtype)


def swap_half(x):
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([-b, a], axis=-1)


def swap_interleaved(x):
    return np.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)


def by_hand(
    w=None, turn=turn_half, at=lambda p: p, angle=lambda a: a, table=lambda t: t, factor=1.0
):
    w = inv_freq() if w is None else w

    def fn(x, positions):
        angles = angle(angles_of(at(positions), w))
        return turn(x, factor * table(np.cos(angles)), factor * table(np.sin(angles)))

    return fn


def bfloat16(values):
    """By the definition: the nearest with 8 significant bits, ties to even."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 256), exponent - 8)


def float16(values):
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float16).astype(np.float64)


def mixed(swap, repeat):
    def fn(x, positions):
        angles = repeat(angles_of(positions, inv_freq()))
        return (x * np.cos(angles) + swap(x) * np.sin(angles)).astype(x.dtype)

    return fn


MIXED_HALF = mixed(swap_half, lambda t: np.repeat(t, 2, axis=-1))
MIXED_INTERLEAVED = mixed(swap_interleaved, lambda t: np.concatenate([t, t], axis=-1))


def test_tables_of_the_other_layout():
    for fn, layout, other in (
        (MIXED_HALF, "half", "interleaved"),
        (MIXED_INTERLEAVED, "interleaved", "half"),
    ):
        found = diagnose(fn, D)
        assert (found.layout, found.rope, found.base) == (layout, None, 10000.0)
        assert f"the rotation is {layout}, cos and sin are for {other}" in found.remarks[0]
        np.testing.assert_allclose(found.inv_freq, inv_freq(), rtol=1e-6)


def test_deepseek_returns_halves_of_interleaved_pairs():
    def fn(x, positions):
        return by_hand()(np.concatenate([x[..., ::2], x[..., 1::2]], axis=-1), positions)

    found = diagnose(fn, D)
    assert (found.layout, found.output_layout, found.direction) == ("interleaved", "half", 1)
    assert found.rope == RoPE(D, layout="interleaved")
    assert found.remarks == ("features of x are interleaved, those of the result half",)


def test_features_in_another_order_are_no_rope():
    found = diagnose(lambda x, p: by_hand()(x[..., ::-1], p), D)
    assert found.rope is None
    assert "features of the result are in another order than those of x" in found.remarks
    moved = by_hand(turn=turn_interleaved)
    pairs = diagnose(lambda x, p: np.roll(moved(np.roll(x, -1, -1), p), 1, -1), D)
    assert pairs.layout == ((0, 31), *((i, i + 1) for i in range(1, 31, 2)))
    assert pairs.rope is None


def test_results_that_are_exchanged():
    """Pairs (2i, 2i + 1), of which the second feature is returned in the first half."""

    def fn(x, positions):
        y = by_hand(turn=turn_interleaved)(x, positions)
        return np.concatenate([y[..., 1::2], y[..., ::2]], axis=-1)

    found = diagnose(fn, D)
    assert (found.layout, found.direction) == ("interleaved", 1)
    assert found.output_layout == tuple((D // 2 + i, i) for i in range(D // 2))
    assert found.rope is None


PRECISIONS = [
    ("exact", by_hand()),
    ("bfloat16 tables", by_hand(table=bfloat16)),
    ("float16 tables", by_hand(table=float16)),
    ("bfloat16 positions", by_hand(at=bfloat16)),
    ("float16 positions", by_hand(at=float16)),
    ("bfloat16 angles", by_hand(angle=bfloat16)),
    ("float16 angles", by_hand(angle=float16)),
    ("bfloat16 frequencies", by_hand(bfloat16(inv_freq()))),
    ("float16 frequencies", by_hand(float16(inv_freq()))),
    ("bfloat16 positions and frequencies", by_hand(bfloat16(inv_freq()), at=bfloat16)),
    (
        "bfloat16 angles, bfloat16 tables",
        by_hand(bfloat16(inv_freq()), at=bfloat16, angle=bfloat16, table=bfloat16),
    ),
]


@pytest.mark.parametrize(("precision", "fn"), PRECISIONS, ids=[name for name, _ in PRECISIONS])
def test_roundings_are_distinguished(precision, fn):
    found = diagnose(fn, D)
    assert found.precision == precision
    assert found.rope == RoPE(D, layout="half")
    assert (found.angle_error < 1e-6) == (precision == "exact")


def test_a_factor_is_explained_by_the_schedule():
    """Llama 3's bands have these frequencies, too, but no factor."""
    scaling = YaRN(2.0, 32768, beta_fast=16.0)
    rope = RoPE(16, layout="half", scaling=scaling, precision="float32")
    found = diagnose(lambda x, p: rope(x, positions=p), 16)
    assert isinstance(found.scaling, YaRN)
    np.testing.assert_allclose(
        found.rope.frequencies().inv_freq, rope.frequencies().inv_freq, rtol=1e-6
    )


def test_the_fewest_roundings_are_named():
    """Frequencies 0.75ⁱ are bfloat16 numbers: whether they were rounded, too, cannot be seen."""
    found = diagnose(by_hand(0.75 ** np.arange(4), at=bfloat16), 8)
    assert found.precision == "bfloat16 positions"


def test_float32_angles():
    def fn(x, positions):
        steps = (1 / 10000.0 ** (np.arange(0, D, 2, dtype=np.float32) / D)).astype(np.float32)
        angles = angles_of(positions, 1.0).astype(np.float32) * steps
        return turn_half(x, np.cos(angles), np.sin(angles))

    found = diagnose(fn, D)
    assert found.rope == RoPE(D, layout="half", precision="float32")
    assert 1e-3 < found.angle_error < 0.2  # at a million, by a part in ten million


EXPONENTS = [
    (by_hand(inv_freq(over=2 * D)), 100.0, "exponents i/rotary_dim"),
    (by_hand(inv_freq(over=D - 2)), 10000.0 ** (D / (D - 2)), "exponents 2i/(rotary_dim - 2)"),
    (by_hand(inv_freq(16, over=D)), 100.0, "exponents 2i/head_dim, head_dim=32"),
]


@pytest.mark.parametrize(("fn", "base", "remark"), EXPONENTS)
def test_mistaken_exponents(fn, base, remark):
    found = diagnose(fn, D)
    assert math.isclose(found.base, base, rel_tol=1e-6)
    assert any(f"base=10000.0 with {remark}" in each for each in found.remarks)


def test_frequencies_that_follow_nothing():
    w = np.random.default_rng(1).uniform(0.001, 1, 16)
    found = diagnose(by_hand(w), D)
    assert found.base is None
    assert isinstance(found.rope.scaling, Custom)
    np.testing.assert_allclose(found.rope.frequencies().inv_freq, w, rtol=1e-9)
    twice = diagnose(by_hand(2 * inv_freq()), D)
    assert twice.remarks == ("all frequencies are 2 times those of base=10000",)
    backwards = diagnose(by_hand(inv_freq()[::-1]), D)
    assert "the frequencies are those of base=10000.0 in reverse order" in backwards.remarks


def minus_missing(x, positions):
    angles = angles_of(positions, inv_freq())
    a, b = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos + b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def first_head_only(x, positions):
    y = x.copy()
    y[:, :1] = by_hand()(x[:, :1], positions)
    return y


def in_order(x, positions):
    return by_hand()(x, np.arange(x.shape[-2]))


def first_row_for_all(x, positions):
    return by_hand()(x, positions[0] if positions.ndim == 2 else positions)


def factor_on_all(x, positions):
    return np.concatenate(
        [by_hand(inv_freq(16), factor=1.25)(x[..., :16], positions), x[..., 16:] * 1.25], -1
    )


def grows(x, positions):
    angles = angles_of(positions, inv_freq())
    size = 1.001 ** np.minimum(angles_of(positions, np.ones(16)), 200)
    return turn_half(x, np.cos(angles) * size, np.sin(angles) * size)


class Remembers:
    def __init__(self):
        self.calls = 0

    def __call__(self, x, positions):
        self.calls += 1
        return by_hand()(x, positions + self.calls)


WRONG = [
    (minus_missing, "a minus is missing"),
    (first_head_only, "head 1 is rotated otherwise than head 0"),
    (in_order, "positions are ignored"),
    (first_row_for_all, "row 1 of a batch is rotated to the positions of row 0"),
    (factor_on_all, "16 features that do not rotate are multiplied by 1.25"),
    (grows, "numbers that differ between pairs or positions"),
    (Remembers(), "the result depends on earlier calls"),
    (by_hand(at=lambda p: p + 1), "positions are off by 1: position p is rotated as p + 1"),
    (by_hand(at=lambda p: p - 2), "positions are off by -2: position p is rotated as p - 2"),
    (by_hand(at=lambda p: p // 2), "angles are not positions times frequencies"),
    (by_hand(factor=-1.0), "pairs are multiplied by -1"),
    (lambda x, p: x * np.cos(angles_of(p, np.ones(D))).astype(x.dtype), "has no partner"),
    (lambda x, p: by_hand()(x * x, p), "not the sum of what becomes of each feature"),
    (lambda x, p: x, "nothing is rotated"),
    (lambda x, p: 0 * x, "has no effect"),
    (lambda x, p: x[..., ::-1] @ np.ones((D, D), x.dtype), "features are mixed with each other"),
    (lambda x, p: x * np.nan, "not finite"),
]


@pytest.mark.parametrize(("fn", "remark"), WRONG, ids=[remark for _, remark in WRONG])
def test_what_is_no_rope(fn, remark):
    found = diagnose(fn, D)
    assert found.rope is None
    assert any(remark in each for each in found.remarks), found.remarks
    assert "no RoPE does the same" in str(found)


def test_the_nearest_rope_is_without_the_mistake():
    assert diagnose(first_row_for_all, D).nearest == RoPE(D, layout="half")
    assert diagnose(by_hand(at=lambda p: p + 1), D).nearest == RoPE(D, layout="half")


def raises_from(length):
    def fn(x, positions):
        if positions.max() >= length:
            msg = f"index {positions.max()} is out of bounds"
            raise IndexError(msg)
        return by_hand()(x, positions)

    return fn


def not_finite_from(length):
    def fn(x, positions):
        return np.where(angles_of(positions, np.ones(D)) < length, by_hand()(x, positions), np.nan)

    return fn


def dynamic(x, positions):
    n = positions.max() + 1
    base = 10000.0 if n <= 2048 else 10000.0 * (4 * n / 2048 - 3) ** (D / (D - 2))
    return by_hand(inv_freq(base=base))(x, positions)


ENDS = [
    (raises_from(2048), 2047, "positions up to 2047 are taken (it raised IndexError"),
    (raises_from(9), None, "it could not be measured: it raised IndexError"),
    (
        not_finite_from(3000),
        2999,
        "positions up to 2999 are taken (it returned numbers that are not",
    ),
    (by_hand(at=lambda p: np.minimum(p, 2999)), 2999, "from 3000 on are clamped to 2999"),
    (by_hand(at=lambda p: p % 3000), 2999, "from 3000 on start again at 0: they wrap around"),
]


@pytest.mark.parametrize(("fn", "last", "remark"), ENDS)
def test_positions_end(fn, last, remark):
    found = diagnose(fn, D)
    assert remark in found.remarks[0]
    if last is not None:
        assert (found.max_position, found.precision) == (last, "exact")
        assert found.rope == RoPE(D, layout="half")


def by_length(rope):
    def fn(x, positions):
        return rope(x, positions=positions, seq_len=int(positions.max()) + 1)

    return fn


FOLLOW_LENGTH = [
    DynamicNTK(4.0, 2048),
    DynamicNTK(2.5, 3000),
    SteppedNTK(2048),
    LongRoPE([1.5] * 16, [4.0, *[3.0] * 15], 1000, attention_factor=1.25),
    LongRoPE([1.5] * 16, [4.0, *[3.0] * 15], 1000, short_mscale=1.25, long_mscale=1.5),
]


@pytest.mark.parametrize("scaling", FOLLOW_LENGTH, ids=repr)
def test_schedules_that_follow_the_length(scaling):
    rope = RoPE(32, layout="half", scaling=scaling)
    found = diagnose(by_length(rope), 32)
    assert found.rope == rope
    end = found.max_position
    assert f"change when position {end + 1} is there" in found.remarks[0]
    by_hand_too = diagnose(dynamic, D)
    assert by_hand_too.rope == RoPE(D, layout="half", scaling=DynamicNTK(4.0, 2048))


def test_a_length_that_no_schedule_follows():
    def fn(x, positions):
        w = inv_freq(base=10000.0 if positions.max() < 500 else 10000.0 + positions.max())
        return by_hand(w)(x, positions)

    found = diagnose(fn, D)
    assert (found.max_position, found.scaling) == (499, None)
    assert "change when position 500 is there" in found.remarks[0]


def test_max_position_is_the_last_that_is_tried():
    seen = []

    def fn(x, positions):
        seen.append(positions.max())
        return by_hand()(x, positions)

    assert diagnose(fn, D, max_position=700).max_position == 512
    assert max(seen) <= 700


def test_dtypes_and_memory_are_remarked():
    def wide(x, positions):
        return by_hand()(x.astype(np.float64), positions)

    assert "x of float32 comes back as float64" in diagnose(wide, D).remarks

    def narrow_positions(x, positions):
        return by_hand(at=lambda p: p.astype(x.dtype).astype(np.float64))(x, positions)

    (remark,) = diagnose(narrow_positions, D).remarks
    assert remark.startswith("x of float16 is rotated otherwise than x of float32")

    def in_place(x, positions):
        x[...] = by_hand()(x, positions)
        return x

    assert diagnose(in_place, D).remarks == ("x is changed in place",)


def test_a_factor_that_is_applied_twice():
    yarn = YaRN(4.0, 2048)
    w, factor, _ = yarn(64, 10000.0)
    found = diagnose(by_hand(np.asarray(w), factor=factor**2), 64)
    assert "the attention factor is the square of YaRN's: it is applied twice" in found.remarks
    assert math.isclose(found.attention_factor, factor**2, rel_tol=1e-6)


# -- several axes ----------------------------------------------------------------------------------

SEVERAL = [
    RoPE(64, layout="half", axes=Axial(2)),
    RoPE(64, layout="interleaved", axes=Axial(2), base=100.0),
    RoPE(64, layout="half", axes=Axial(2, split=True)),
    RoPE(64, layout="half", axes=Axial(2, frequencies="shared")),
    RoPE(128, layout="interleaved", axes=Axial((16, 56, 56)), base=256.0),
    RoPE(60, layout="half", axes=Axial(3, arrangement="alternating")),
    RoPE(48, layout="half", axes=Axial((16, 16, 16)), scaling=(NTK(2.0), None, None)),
    RoPE(64, layout="half", axes=Axial(2), rotary_dim=32, rotary_start=8),
    RoPE(128, layout="half", axes=Sections((16, 24, 24)), base=1e6),
    RoPE(64, layout="half", axes=Sections((8, 12, 12)), scaling=YaRN(4.0, 2048)),
    RoPE(128, layout="half", axes=InterleavedSections((24, 20, 20)), precision="float32"),
    RoPE(12, layout="half", axes=AxisPerPair((2, 0, 1, 1, 0, 2))),
]


@pytest.mark.parametrize("rope", SEVERAL, ids=repr)
def test_axes_are_recovered(rope):
    found = diagnose(black_box(rope), rope.head_dim, n_axes=rope.axes.n_axes)
    np.testing.assert_allclose(found.inv_freq, rope.frequencies().inv_freq, rtol=1e-6)
    assert found.axes == rope.axes or {*rope.axes.widths} == {16}
    assert (found.rope.scaling, found.rope.base) == (rope.scaling, rope.base)
    assert (found.rope.layout, found.precision) == (rope.layout, rope.precision)


@pytest.mark.parametrize("axes", SCHEMES, ids=repr)
def test_every_scheme_has_a_rope_that_does_the_same(axes):
    rope = RoPE(12, layout="half", axes=axes)
    found = diagnose(black_box(rope), 12, n_axes=3).rope
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 12))
    at = np.random.default_rng(1).integers(0, 1000, (3, 5))
    np.testing.assert_allclose(found(x, positions=at), rope(x, positions=at), rtol=0, atol=1e-6)


def test_a_dense_matrix_of_frequencies():
    rope = RoPE(8, layout="half", axes=Directions(((1.0, 0.5, 0.0, 0.1), (0.2, -0.5, 0.3, 0.0))))
    found = diagnose(black_box(rope), 8, n_axes=2)
    assert isinstance(found.axes, Directions)
    np.testing.assert_allclose(found.inv_freq, rope.frequencies().inv_freq, rtol=1e-9)


# -- anything --------------------------------------------------------------------------------------


def anything(seed, d):
    """A function that returns finite numbers of the right shape most of the time."""
    rng = np.random.default_rng(seed)
    n, c, end = d // 2, rng.uniform(-3, 3), int(rng.integers(2, 5000))
    w = np.abs(rng.normal(size=n)) ** rng.uniform(0.2, 4)
    order, matrix = rng.permutation(d), rng.normal(size=(d, d))
    plain = by_hand(w)
    kinds = [
        lambda x, p: plain(x, p)[..., order],
        lambda x, p: plain(x[..., order], p),
        lambda x, p: plain(x, p) @ matrix,
        lambda x, p: plain(x, p % end) * c,
        lambda x, p: plain(x, p) + c,
        lambda x, p: x * 1e30 * plain(x, p),
        lambda x, p: np.round(plain(x, p), 1),
        lambda x, p: plain(x, np.minimum(p, end)) * p.max(),
        lambda x, p: np.random.default_rng(int(p.sum()) % 99).normal(size=x.shape),
        lambda x, p: by_hand(w * (1 + p.max() / end))(x, p),
        lambda x, p: plain(x, np.sqrt(np.abs(p))),
        lambda x, p: np.tanh(plain(x, p)) * c,
        lambda x, p: np.where(np.arange(x.shape[-2])[:, None] % 2, plain(x, p), x),
    ]
    fn = kinds[seed % len(kinds)]
    return lambda x, p: fn(x, p).astype(x.dtype)


@pytest.mark.parametrize("seed", range(52))
def test_anything_has_a_diagnosis(seed):
    d = 1 + seed * 7 % 19
    limit = [1, 2, 13, 40, 3000, 2**20][seed % 6]
    with np.errstate(all="ignore"):
        found = diagnose(anything(seed, d), d, max_position=limit)
    assert isinstance(found, testing.Diagnosis)
    assert str(found)
    assert found.rope is not None or found.remarks


def test_mistakes_of_the_caller_are_refused():
    with pytest.raises(TypeError, match="`fn` must be callable"):
        diagnose(3, 64)
    with pytest.raises(ValueError, match="`head_dim` must be positive, got 0"):
        diagnose(by_hand(), 0)
    with pytest.raises(ValueError, match="`max_position` must be positive, got 0"):
        diagnose(by_hand(), D, max_position=0)
    with pytest.raises(testing.RotationError, match="`fn` must take x of shape"):
        diagnose(lambda x: x, D)


# -- how it prints ---------------------------------------------------------------------------------


def test_a_diagnosis_prints_as_a_table():
    rope = RoPE(64, layout="half", base=500000.0, rotary_dim=32, rotary_start=8)
    lines = str(diagnose(black_box(rope), 64)).splitlines()
    assert lines[:6] == [
        "pairs             half: feature i turns with i + 16",
        "rotated part      32 of 64 features, from 8 on",
        "direction         +1",
        "frequencies       1 to 4.54167e-06 radians per step",
        "base              500,000",
        "schedule          default",
    ]
    assert lines[7].startswith("precision         exact: angles within ")
    assert lines[-1] == repr(rope)


MODULE = """
import numpy as np

def fn(x, positions):
    w = 1e6 ** (-np.arange(0, 16, 2) / 16)
    angles = positions[..., None] * w
    cos, sin = np.cos(angles), np.sin(angles)
    if positions.ndim == 2:
        cos, sin = cos[:, None], sin[:, None]
    a, b = x[..., :8], x[..., 8:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)
"""


def test_the_command_line_takes_a_function_of_the_current_directory(tmp_path):
    (tmp_path / "somebodys.py").write_text(MODULE)
    command = [sys.executable, "-m", "rope_xp", "diagnose", "somebodys:fn", "--head-dim", "16"]
    path = [str(Path(rope_xp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "RoPE(16, layout='half', base=1000000.0)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["math"], "`function` must be module:function, got 'math'"),
        (["math:nothing"], "`function` must be in math, got 'nothing', which is not there"),
        (["no_such:fn"], "`function` must name a module that can be imported, got 'no_such'"),
        (["math:sqrt"], "`fn` must take x of shape (2, 3, 5, 64)"),
        (["math:pi"], "`fn` must be callable as fn(x, positions), got 3.14"),
        (["math:sqrt", "--xp", "no_such"], "`xp` must name a module that can be imported"),
        (["math:sqrt", "--head-dim", "-2"], "`head_dim` must be positive, got -2"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", *arguments])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m rope_xp diagnose: {sentence}")
    assert printed.count("\n") == 1
