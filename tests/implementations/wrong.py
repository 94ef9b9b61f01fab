"""Wrong implementations of RoPE, each in one way that has happened to somebody: all must be refused.

The words after the `RoPE` that it should be are what a message may call the mistake: one of them must
be in it. What follows by name is what `diagnose` must tell.
"""

import math

import numpy as np

from implementations.parts import (
    bfloat16,
    cos_sin,
    half_with,
    inv_freq,
    llama3,
    named,
    rotate_every_two,
    rotate_half,
    table_of,
    turn_half,
    turn_interleaved,
    yarn,
)
from rope_xp import RoPE
from rope_xp.scaling import NTK, DynamicNTK, Linear, Llama3, LongRoPE, Proportional, YaRN

WRONG = []
wrong = table_of(WRONG)

HALF = RoPE(16, layout="half")
PAIRS = RoPE(16, layout="interleaved")
HALF32 = RoPE(16, layout="half", precision="float32")
QUARTER = RoPE(16, layout="half", rotary_dim=8)


def tables(positions):
    return cos_sin(positions, inv_freq(16))


def as_rows(positions):
    """(seq,), or (batch, 1, seq), which broadcasts over heads."""
    return positions if positions.ndim == 1 else positions[:, None]


# --- Which two features make a pair.


@wrong(HALF, "interleaved", layout="interleaved")
def interleaved_for_half(x, positions):
    return turn_interleaved(x, *tables(positions))


@wrong(PAIRS, "half", layout="half")
def half_for_interleaved(x, positions):
    return turn_half(x, *tables(positions))


@wrong(HALF, "table", "mix")
def interleaved_table_half_rotation(x, positions):
    cos, sin = (np.repeat(t, 2, axis=-1) for t in tables(positions))
    return (x * cos + rotate_half(x) * sin).astype(x.dtype)


@wrong(PAIRS, "table", "mix")
def half_table_interleaved_rotation(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x * cos + rotate_every_two(x) * sin).astype(x.dtype)


@wrong(HALF, "partner", "pair", "mix")
def interleaved_partner_order_of_halves(x, positions):
    """rotate_half as cat(−x[1::2], x[::2]), which is found in the wild."""
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x * cos + np.concatenate([-x[..., 1::2], x[..., ::2]], axis=-1) * sin).astype(x.dtype)


@wrong(HALF, "order", "output", layout="half", output_layout="interleaved")
def half_in_interleaved_out(x, positions):
    y = turn_half(x, *tables(positions))
    return np.stack([y[..., :8], y[..., 8:]], axis=-1).reshape(x.shape)


@wrong(PAIRS, "order", "output", layout="interleaved", output_layout="half")
def interleaved_in_half_out(x, positions):
    y = turn_interleaved(x, *tables(positions))
    return np.concatenate([y[..., ::2], y[..., 1::2]], axis=-1)


@wrong(PAIRS, "pair", "partner")
def pairs_from_the_second_feature_on(x, positions):
    return np.roll(turn_interleaved(np.roll(x, -1, axis=-1), *tables(positions)), 1, axis=-1)


@wrong(HALF, "pair", "partner")
def mirrored_pairs(x, positions):
    """Pairs (i, d − 1 − i)."""
    y = turn_half(np.concatenate([x[..., :8], x[..., :7:-1]], axis=-1), *tables(positions))
    return np.concatenate([y[..., :8], y[..., :7:-1]], axis=-1)


@wrong(QUARTER, "pair", "partner")
def partner_half_a_head_away(x, positions):
    """Four pairs of the whole head's halves: (i, i + 8) instead of (i, i + 4)."""
    cos, sin = cos_sin(positions, inv_freq(8))
    y = x.copy()
    y[..., :4] = x[..., :4] * cos - x[..., 8:12] * sin
    y[..., 8:12] = x[..., 8:12] * cos + x[..., :4] * sin
    return y


# --- Direction and signs.

DIRECTION = ("direction", "inverse", "-θ", "−θ", "opposite")
SIGN = ("sign", "minus", "reflect")


@wrong(HALF, *DIRECTION, direction=-1, layout="half")
def backwards(x, positions):
    cos, sin = tables(positions)
    return turn_half(x, cos, -sin)


@wrong(PAIRS, *DIRECTION, direction=-1, layout="interleaved")
def conjugated(x, positions):
    z = np.ascontiguousarray(x, dtype=np.float64).view(np.complex128)
    cos, sin = tables(positions)
    return (z * (cos - 1j * sin)).view(np.float64).astype(x.dtype)


@wrong(HALF, *SIGN)
def missing_minus(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x * cos + np.roll(x, 8, axis=-1) * sin).astype(x.dtype)


@wrong(HALF, *SIGN)
def both_minus(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x * cos - np.roll(x, 8, axis=-1) * sin).astype(x.dtype)


@wrong(PAIRS, *SIGN)
def missing_minus_of_interleaved(x, positions):
    cos, sin = tables(positions)
    a, b = x[..., ::2], x[..., 1::2]
    y = np.stack([a * cos + b * sin, b * cos + a * sin], axis=-1)
    return y.reshape(x.shape).astype(x.dtype)


@wrong(HALF, *DIRECTION, "sign")
def odd_pairs_backwards(x, positions):
    return half_with(inv_freq(16) * np.where(np.arange(8) % 2, -1, 1))(x, positions)


@wrong(HALF, *DIRECTION, "sign", "pair 7")
def last_pair_backwards(x, positions):
    return half_with(inv_freq(16) * np.where(np.arange(8) == 7, -1, 1))(x, positions)


@wrong(HALF, "swap", "exchange")
def cos_and_sin_swapped(x, positions):
    cos, sin = tables(positions)
    return turn_half(x, sin, cos)


@wrong(HALF, "partner", "typing", "x2 sin")
def x2_x2_typo(x, positions):
    cos, sin = tables(positions)
    x1, x2 = x[..., :8], x[..., 8:]
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x2 * sin], axis=-1).astype(x.dtype)


@wrong(HALF, "partner", "already rotated", "overwritten")
def first_half_overwritten_too_early(x, positions):
    cos, sin = tables(positions)
    y = x.copy()
    y[..., :8] = y[..., :8] * cos - y[..., 8:] * sin
    y[..., 8:] = y[..., 8:] * cos + y[..., :8] * sin  # reads what the line before wrote
    return y


@wrong(HALF, "partner")
def without_a_partner(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x * (cos + sin)).astype(x.dtype)


@wrong(HALF, "partner", "sin")
def cos_only(x, positions):
    cos, _ = tables(positions)
    return (x * np.concatenate([cos, cos], axis=-1)).astype(x.dtype)


# --- Frequencies.

BASE = ("base",)
EXPONENT = ("exponent", "frequenc", "base")


def frequencies(name, rope, *words, made, factor=1.0, **known):
    wrong(rope, *words, **known)(named(name, half_with(made, factor)))


LLAMA = RoPE(64, layout="half", base=500000.0)
frequencies("base_10000", LLAMA, *BASE, made=inv_freq(64), base=10000.0)
frequencies("base_a_million", LLAMA, *BASE, made=inv_freq(64, 1e6), base=1e6)
frequencies("base_10001", HALF, *BASE, "frequenc", made=inv_freq(16, 10001.0))
frequencies("exponent_i_over_d", HALF, *EXPONENT, made=10000.0 ** (-np.arange(8) / 16), base=100.0)
frequencies("exponent_off_by_one", HALF, *EXPONENT, made=10000.0 ** (-(np.arange(8) + 1) / 8))
frequencies("exponent_over_d_minus_2", HALF, *EXPONENT, made=10000.0 ** (-np.arange(8) / 7))
frequencies("whole_exponents", HALF, *EXPONENT, made=10000.0 ** -(np.arange(0, 16, 2) // 16.0))
frequencies("frequencies_reversed", HALF, "reverse", "order", "frequenc", made=inv_freq(16)[::-1])
frequencies("degrees", HALF, "degree", "radian", "180", made=np.rad2deg(inv_freq(16)))
frequencies("to_radians_once_more", HALF, "degree", "radian", "180", made=np.deg2rad(inv_freq(16)))
frequencies("twice_the_angle", HALF, "twice", "2θ", "double", "2 times", made=2 * inv_freq(16))
frequencies("half_the_angle", HALF, "half of", "0.5", "linear", "factor", made=inv_freq(16) / 2)
frequencies(
    "wavelengths_without_pi", HALF, "2π", "6.28", "0.159", "frequenc", made=inv_freq(16) / 2 / np.pi
)
frequencies("a_pair_too_slow", HALF, "pair 3", made=inv_freq(16) * [1, 1, 1, 0.99, 1, 1, 1, 1])
frequencies("last_pair_static", HALF, "pair 7", made=inv_freq(16) * (np.arange(8) < 7))
frequencies("first_pair_static", HALF, "pair 0", made=inv_freq(16) * (np.arange(8) > 0))
frequencies(
    "own_exponents_of_the_rotated_part",
    RoPE(16, layout="half", scaling=Proportional(0.5)),
    *EXPONENT,
    made=np.concatenate([inv_freq(8), np.zeros(4)]),
)


@wrong(HALF, "twice", "2θ", "double", "2 times")
def rotated_twice(x, positions):
    return turn_half(turn_half(x, *tables(positions)), *tables(positions))


@wrong(LLAMA, "base", made=True, base=10000.0)
def cache_that_knows_sizes_only():
    """equinox 0.13.8: the layer that came first, with base 10000, made the frequencies of all."""
    cache = {}

    def layer(base):
        return lambda x, p: half_with(cache.setdefault(x.shape[-1], inv_freq(x.shape[-1], base)))(
            x, p
        )

    layer(10000.0)(np.ones((1, 1, 1, 64)), np.zeros(1, dtype=int))
    return layer(500000.0)


@wrong(QUARTER, *EXPONENT)
def exponent_over_head_dim(x, positions):
    part = turn_half(x[..., :8], *cos_sin(positions, inv_freq(16)[:4]))
    return np.concatenate([part, x[..., 8:]], axis=-1)


# --- The part that rotates.

PART = (
    "part of the head",
    "rotary_dim",
    "rotary_start",
    "partial",
    "tail",
    "pass",
    "not be rotated",
    "unrotated",
)


@wrong(QUARTER, *PART, "looks like RoPE(16, layout='half').", rotary_dim=16)
def partial_ignored(x, positions):
    return turn_half(x, *tables(positions))


@wrong(QUARTER, *PART)
def tail_of_zeros(x, positions):
    part = turn_half(x[..., :8], *cos_sin(positions, inv_freq(8)))
    return np.concatenate([part, np.zeros_like(x[..., 8:])], axis=-1)


@wrong(QUARTER, *PART, rotary_start=8)
def last_features_for_first(x, positions):
    part = turn_half(x[..., 8:], *cos_sin(positions, inv_freq(8)))
    return np.concatenate([x[..., :8], part], axis=-1)


@wrong(RoPE(24, layout="interleaved", rotary_start=16), *PART, rotary_start=0)
def rotary_start_ignored(x, positions):
    part = turn_interleaved(x[..., :8], *cos_sin(positions, inv_freq(8)))
    return np.concatenate([part, x[..., 8:]], axis=-1)


@wrong(QUARTER, *PART, rotary_dim=4)
def half_of_the_part(x, positions):
    part = turn_half(x[..., :4], *cos_sin(positions, inv_freq(4)))
    return np.concatenate([part, x[..., 4:]], axis=-1)


@wrong(QUARTER, *PART)
def tail_rounded(x, positions):
    part = turn_half(x[..., :8], *cos_sin(positions, inv_freq(8)))
    return np.concatenate([part, bfloat16(x[..., 8:]).astype(x.dtype)], axis=-1)


# --- Schedules.

GAIN = 0.1 * math.log(4.0) + 1
YARN = RoPE(64, layout="half", scaling=YaRN(4.0, 4096))
OSS = RoPE(64, layout="half", base=150000.0, scaling=YaRN(32.0, 4096, truncate=False))
LLAMA3 = RoPE(64, layout="half", base=500000.0, scaling=Llama3(8.0, 1.0, 4.0, 8192))
LINEAR = RoPE(16, layout="half", scaling=Linear(4.0))
SHORT = (1.0, 1.05, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0)
LONG = (1.0, 1.2, 1.9, 3.2, 6.0, 11.0, 16.0, 20.0)
LONG_ROPE = RoPE(16, layout="half", scaling=LongRoPE(SHORT, LONG, 4096, factor=32.0))
LONG_GAIN = math.sqrt(1 + math.log(32.0) / math.log(4096))
ATTENTION = ("attention factor", "attention_factor")
SCALING = ("frequenc", "scaling", "schedule")

frequencies(
    "no_attention_factor", YARN, *ATTENTION, made=yarn(64, 1e4, 4.0, 4096), attention_factor=1.0
)
frequencies(
    "attention_factor_twice", YARN, *ATTENTION, made=yarn(64, 1e4, 4.0, 4096), factor=GAIN**2
)
frequencies(
    "attention_factor_divides", YARN, *ATTENTION, made=yarn(64, 1e4, 4.0, 4096), factor=1 / GAIN
)
frequencies(
    "attention_factor_unasked",
    HALF,
    *ATTENTION,
    "multiplied",
    "factor 1.138",
    made=inv_freq(16),
    factor=GAIN,
)
frequencies("scaling_ignored", YARN, *SCALING, made=inv_freq(64), factor=GAIN)
frequencies("all_pairs_interpolated", YARN, *SCALING, made=inv_freq(64) / 4, factor=GAIN)
frequencies(
    "ramp_reversed",
    YARN,
    *SCALING,
    made=inv_freq(64) * 1.25 - yarn(64, 1e4, 4.0, 4096),
    factor=GAIN,
)
frequencies(
    "betas_swapped", YARN, *SCALING, made=yarn(64, 1e4, 4.0, 4096, 1.0001, 32.0), factor=GAIN
)
frequencies("other_beta", YARN, *SCALING, made=yarn(64, 1e4, 4.0, 4096, 64.0), factor=GAIN)
frequencies(
    "whole_length_for_original", YARN, *SCALING, made=yarn(64, 1e4, 4.0, 16384), factor=GAIN
)
frequencies(
    "not_truncated", YARN, *SCALING, made=yarn(64, 1e4, 4.0, 4096, truncate=False), factor=GAIN
)
frequencies(
    "truncated",
    OSS,
    *SCALING,
    made=yarn(64, 150000.0, 32.0, 4096),
    factor=0.1 * math.log(32.0) + 1,
)
frequencies("llama3_ignored", LLAMA3, *SCALING, made=inv_freq(64, 500000.0))
frequencies("llama3_low_high_swapped", LLAMA3, *SCALING, made=llama3(64, 5e5, 8.0, 4.0, 1.0, 8192))
frequencies(
    "llama3_without_smoothing", LLAMA3, *SCALING, made=llama3(64, 5e5, 8.0, 1.0, 1.001, 8192)
)
frequencies("llama3_from_32768", LLAMA3, *SCALING, made=llama3(64, 5e5, 8.0, 1.0, 4.0, 32768))
frequencies("linear_upside_down", LINEAR, *SCALING, made=inv_freq(16) * 4)
frequencies("linear_ignored", LINEAR, *SCALING, made=inv_freq(16))
frequencies("linear_twice", LINEAR, *SCALING, made=inv_freq(16) / 16)
frequencies(
    "linear_for_ntk", RoPE(16, layout="half", scaling=NTK(8.0)), *SCALING, made=inv_freq(16) / 8
)
frequencies(
    "ntk_without_exponent",
    RoPE(16, layout="half", scaling=NTK(8.0)),
    *SCALING,
    "base",
    made=inv_freq(16, 80000.0),
)
frequencies("long_list", LONG_ROPE, *SCALING, made=inv_freq(16) / LONG, factor=LONG_GAIN)
frequencies("list_multiplied", LONG_ROPE, *SCALING, made=inv_freq(16) * SHORT, factor=LONG_GAIN)
frequencies("longrope_without_factor", LONG_ROPE, *ATTENTION, made=inv_freq(16) / SHORT)


@wrong(YARN, *ATTENTION, "cos")
def attention_factor_in_cos_only(x, positions):
    cos, sin = cos_sin(positions, yarn(64, 10000.0, 4.0, 4096))
    return turn_half(x, cos * GAIN, sin)


@wrong(YARN, *ATTENTION, "cos")
def attention_factor_twice_in_cos(x, positions):
    cos, sin = cos_sin(positions, yarn(64, 10000.0, 4.0, 4096), GAIN)
    return turn_half(x, cos * GAIN, sin)


@wrong(RoPE(32, layout="half", rotary_dim=16, scaling=YaRN(4.0, 4096)), *ATTENTION, *PART)
def attention_factor_on_the_tail(x, positions):
    cos, sin = cos_sin(positions, yarn(16, 10000.0, 4.0, 4096), GAIN)
    rest = (x[..., 16:] * GAIN).astype(x.dtype)
    return np.concatenate([turn_half(x[..., :16], cos, sin), rest], axis=-1)


@wrong(LINEAR, "position", "coincide", "round")
def floor_of_interpolated_positions(x, positions):
    return turn_half(x, *tables(positions // 4))


# --- Where tokens are.

OFFSET = ("offset", "ignore", "first position", "consecutive", "start")
ROW = ("row",)
HEAD = ("head",)


@wrong(HALF, *OFFSET)
def positions_ignored(x, positions):
    return turn_half(x, *tables(np.arange(x.shape[2])))


@wrong(HALF, *OFFSET)
def counted_from_the_first(x, positions):
    return turn_half(x, *tables(positions - positions[..., :1]))


@wrong(
    HALF,
    "+1",
    "counted from 1",
    "one too",
    "off by one",
    "1 too",
    "one more",
    "shifted by 1",
    "position + 1",
)
def one_too_far(x, positions):
    return turn_half(x, *tables(positions + 1))


@wrong(HALF, "consecutive", "first position", "gap", "positions[0]")
def consecutive_from_the_first(x, positions):
    return turn_half(x, *tables(positions[..., :1] + np.arange(positions.shape[-1])))


@wrong(
    HALF,
    "every token",
    "all tokens",
    "first position",
    "positions[0]",
    "last position",
    "same position",
)
def first_position_for_all(x, positions):
    return turn_half(x, *tables(positions[..., :1]))


@wrong(HALF, "sort", "order")
def sorted_positions(x, positions):
    return turn_half(x, *tables(np.sort(positions, axis=-1)))


@wrong(HALF, "sort", "order", "rank")
def ranks_of_positions(x, positions):
    return turn_half(x, *tables(np.argsort(np.argsort(positions, axis=-1), axis=-1)))


@wrong(HALF, *ROW)
def first_row_for_all(x, positions):
    return turn_half(x, *tables(positions if positions.ndim == 1 else positions[0]))


@wrong(HALF, *ROW)
def first_row_for_all_at_one_token(x, positions):
    """The step that decodes was only ever tried with one request."""
    shared = positions.ndim == 2 and positions.shape[1] == 1
    return turn_half(x, *tables(positions[0] if shared else positions))


@wrong(HALF, *ROW)
def second_row_for_all_that_follow(x, positions):
    rows = positions if positions.ndim == 1 else positions[np.minimum(np.arange(len(positions)), 1)]
    return turn_half(x, *tables(rows))


@wrong(HALF, *ROW)
def rows_swapped(x, positions):
    return turn_half(x, *tables(positions if positions.ndim == 1 else positions[::-1]))


@wrong(HALF, *ROW)
def offset_of_the_first_row(x, positions):
    """Rows keep their own steps, and start where the first one does."""
    if positions.ndim == 2:
        positions = positions - positions[:, :1] + positions[0, 0]
    return turn_half(x, *tables(positions))


@wrong(HALF, *HEAD, "raised")
def positions_along_heads(x, positions):
    """xformers 0.0.21: written for (batch, seq, heads, head_dim)."""
    if positions.ndim != 1 or x.shape[1] > x.shape[2]:
        raise ValueError
    cos, sin = tables(positions[: x.shape[1]])
    return turn_half(x, cos[:, None], sin[:, None])


@wrong(HALF, *ROW)
def transposed_where_square(x, positions):
    """Takes positions (batch, seq) for (seq, batch) where both fit."""
    square = positions.ndim == 2 and positions.shape[0] == x.shape[2]
    return turn_half(x, *tables(positions.T if square else positions))


@wrong(HALF, *HEAD)
def first_head_only(x, positions):
    y = x.copy()
    cos, sin = (t if t.ndim == 2 else t[:, 0] for t in tables(positions))
    y[:, 0] = turn_half(x[:, 0], cos, sin)
    return y


@wrong(HALF, *HEAD)
def half_of_the_heads(x, positions):
    y, n = x.copy(), (x.shape[1] + 1) // 2
    y[:, :n] = turn_half(x[:, :n], *tables(positions))
    return y


@wrong(HALF, *HEAD)
def last_head_left_out(x, positions):
    y = turn_half(x, *tables(positions))
    if x.shape[1] > 1:
        y[:, -1] = x[:, -1]
    return y


@wrong(HALF, *HEAD)
def heads_in_groups_of_two(x, positions):
    """Keys of grouped queries, repeated the wrong way."""
    return turn_half(x, *tables(positions))[:, np.arange(x.shape[1]) // 2]


@wrong(HALF, *ROW, "batch")
def first_row_of_x_for_all(x, positions):
    return np.broadcast_to(turn_half(x, *tables(positions))[:1], x.shape).copy()


# --- Integers and tables that end.

BOUND = ("wrap", "clamp", "beyond", "table", "coincide")


@wrong(HALF, *BOUND)
def clamped_table(x, positions):
    return turn_half(x, *tables(np.minimum(positions, 4095)))


@wrong(HALF, *BOUND)
def wrapped_table(x, positions):
    return turn_half(x, *tables(positions % 2048))


@wrong(HALF, *BOUND, "int16")
def positions_in_int16(x, positions):
    return turn_half(x, *tables(positions.astype(np.int16)))


@wrong(HALF, *BOUND, "uint16")
def positions_in_uint16(x, positions):
    return turn_half(x, *tables(positions.astype(np.uint16)))


@wrong(HALF, *BOUND, "int8")
def positions_in_int8(x, positions):
    return turn_half(x, *tables(positions.astype(np.int8)))


@wrong(HALF, *BOUND, "uint8")
def positions_in_uint8(x, positions):
    return turn_half(x, *tables(positions.astype(np.uint8)))


@wrong(HALF, *BOUND, "longest", "last")
def jax_clamps_where_numpy_raises(x, positions):
    return turn_half(x, *tables(np.minimum(positions, 131071)))


# --- Rounding.

ROUNDED16 = ("bfloat16", "bf16", "coincide", "round")
FLOAT16 = ("float16", "fp16", "half precision", "coincide", "round")
FLOAT32 = ("float32",)


@wrong(HALF, *ROUNDED16)
def positions_in_bfloat16(x, positions):
    return turn_half(x, *tables(bfloat16(positions)))


@wrong(HALF, *FLOAT16, "inf", "nan")
def positions_in_float16(x, positions):
    with np.errstate(all="ignore"):
        return turn_half(x, *tables(positions.astype(np.float16)))


@wrong(HALF, *ROUNDED16, precision="bfloat16 angles")
def angles_in_bfloat16(x, positions):
    angles = bfloat16(as_rows(positions)[..., None] * inv_freq(16))
    return turn_half(x, np.cos(angles), np.sin(angles))


@wrong(HALF32, *ROUNDED16, precision="bfloat16 angles")
def angles_in_bfloat16_for_float32(x, positions):
    angles = bfloat16(bfloat16(as_rows(positions))[..., None] * bfloat16(inv_freq(16)))
    return turn_half(x, np.cos(angles), np.sin(angles))


@wrong(HALF, *FLOAT16, "inf", "nan", precision="float16 angles")
def angles_in_float16(x, positions):
    with np.errstate(all="ignore"):
        angles = (as_rows(positions)[..., None] * inv_freq(16)).astype(np.float16)
        return turn_half(x, np.cos(angles.astype(float)), np.sin(angles.astype(float)))


@wrong(HALF, *ROUNDED16, "frequenc")
def frequencies_in_bfloat16(x, positions):
    return half_with(bfloat16(inv_freq(16)).astype(float))(x, positions)


@wrong(HALF32, *FLOAT16, "frequenc")
def frequencies_in_float16(x, positions):
    return half_with(inv_freq(16).astype(np.float16).astype(float))(x, positions)


@wrong(HALF, *ROUNDED16, "table")
def tables_in_bfloat16(x, positions):
    return turn_half(x, *(bfloat16(t) for t in tables(positions)))


@wrong(HALF, *FLOAT16, "table")
def tables_in_float16(x, positions):
    return turn_half(x, *(t.astype(np.float16).astype(float) for t in tables(positions)))


@wrong(HALF, *FLOAT32, precision="float32")
def angles_in_float32(x, positions):
    angles = as_rows(positions)[..., None].astype(np.float32) * inv_freq(16).astype(np.float32)
    return turn_half(x, np.cos(angles), np.sin(angles))


@wrong(HALF, *FLOAT32, precision="float32")
def frequencies_in_float32(x, positions):
    return half_with(inv_freq(16).astype(np.float32).astype(float))(x, positions)


@wrong(HALF, "dtype")
def always_float32(x, positions):
    return turn_half(x.astype(np.float32), *tables(positions))


@wrong(HALF, "dtype")
def always_float64(x, positions):
    return turn_half(x.astype(np.float64), *tables(positions))


@wrong(HALF, "dtype", *FLOAT16)
def always_float16(x, positions):
    return turn_half(x.astype(np.float16), *tables(positions))


@wrong(HALF, *FLOAT16)
def through_float16(x, positions):
    return turn_half(x.astype(np.float16), *tables(positions)).astype(x.dtype)


@wrong(HALF, *FLOAT16)
def positions_in_the_dtype_of_x(x, positions):
    """Right for float32 (as far as float32 goes) and float64, wrong for float16."""
    p = positions if x.dtype != np.float16 else positions.astype(x.dtype)
    with np.errstate(all="ignore"):
        return turn_half(x, *tables(p.astype(float)))


@wrong(HALF, "float16", "float64", "dtype")
def float16_forgotten(x, positions):
    """A path for one dtype that nobody tried: backwards."""
    cos, sin = tables(positions)
    return turn_half(x, cos, -sin if x.dtype == np.float16 else sin)


@wrong(HALF, "float64")
def float64_forgotten(x, positions):
    y = turn_half(x, *tables(positions))
    return x.copy() if x.dtype == np.float64 else y


@wrong(HALF, *FLOAT32)
def float32_angles_for_float16(x, positions):
    """Exact for float32; for float16 nobody thought that it matters, but at 10⁶ it does."""
    if x.dtype != np.float16:
        return turn_half(x, *tables(positions))
    angles = as_rows(positions)[..., None].astype(np.float32) * inv_freq(16).astype(np.float32)
    return turn_half(x, np.cos(angles), np.sin(angles))


@wrong(HALF, *BOUND)
def shorter_table_for_float16(x, positions):
    last = 32767 if x.dtype == np.float16 else 2**40
    return turn_half(x, *tables(np.minimum(positions, last)))


@wrong(HALF, *BOUND)
def shorter_table_for_float64(x, positions):
    last = 32767 if x.dtype == np.float64 else 2**40
    return turn_half(x, *tables(np.minimum(positions, last)))


@wrong(HALF, "int32")
def int32_taken_for_int64(x, positions):
    """A kernel that gets a pointer."""
    if positions.dtype == np.int32:
        positions = np.resize(np.ascontiguousarray(positions).view(np.uint8), (*positions.shape, 8))
        positions = positions.view(np.int64)[..., 0] % 2**20
    return turn_half(x, *tables(positions))


@wrong(HALF, "2π", "reduc", "angle", "round")
def two_pi_in_float32(x, positions):
    """Whole turns are taken off with a 2π that is none."""
    angles = as_rows(positions)[..., None] * inv_freq(16)
    rest = angles - np.rint(angles / (2 * np.pi)) * float(np.float32(2 * np.pi))
    return turn_half(x, np.cos(rest), np.sin(rest))


@wrong(HALF, "angle", "from position", "beyond", "131072", "round")
def fast_sine_beyond_its_range(x, positions):
    angles = as_rows(positions)[..., None] * inv_freq(16)
    angles = angles + np.where(angles >= 131072, 1e-2, 0.0)
    return turn_half(x, np.cos(angles), np.sin(angles))


# --- Tokens, sizes and memory.

TOKENS = ("token", "sequence", "every size")


def without_a_rest(x, positions, block):
    """Rotates blocks of so many tokens, and leaves what does not fill one as it is."""
    y = turn_half(x, *tables(positions))
    n = x.shape[2] // block * block
    y[:, :, n:] = x[:, :, n:]
    return y


@wrong(HALF, *TOKENS)
def last_odd_token(x, positions):
    return without_a_rest(x, positions, 2)


@wrong(HALF, *TOKENS)
def rest_after_blocks_of_four(x, positions):
    return without_a_rest(x, positions, 4)


@wrong(HALF, *TOKENS)
def rest_after_blocks_of_eight(x, positions):
    return without_a_rest(x, positions, 8 if x.shape[2] > 8 else 1)


@wrong(HALF, *TOKENS)
def last_of_more_than_one_token(x, positions):
    """range(seq - 1), with a path of its own for one token."""
    y = turn_half(x, *tables(positions))
    if x.shape[2] > 1:
        y[:, :, -1] = x[:, :, -1]
    return y


@wrong(HALF, *TOKENS)
def one_token_left_as_it_is(x, positions):
    return x.copy() if x.shape[2] == 1 else turn_half(x, *tables(positions))


@wrong(HALF, *TOKENS)
def first_64_tokens(x, positions):
    y = turn_half(x, *tables(positions))
    y[:, :, 64:] = x[:, :, 64:]
    return y


@wrong(HALF, *TOKENS)
def first_128_tokens(x, positions):
    y = turn_half(x, *tables(positions))
    y[:, :, 128:] = x[:, :, 128:]
    return y


@wrong(HALF, *TOKENS)
def blocks_of_256_start_at_the_first_position(x, positions):
    if positions.shape[-1] > 256:
        positions = positions[..., np.arange(positions.shape[-1]) % 256]
    return turn_half(x, *tables(positions))


@wrong(HALF, *TOKENS)
def more_than_1024_tokens(x, positions):
    y = turn_half(x, *tables(positions))
    y[:, :, 1024:] = x[:, :, 1024:]
    return y


@wrong(HALF, *TOKENS)
def last_token_of_a_full_block(x, positions):
    """A block of 128 that is full ends one token too early."""
    y = turn_half(x, *tables(positions))
    if x.shape[2] % 128 == 0:
        y[:, :, -1] = x[:, :, -1]
    return y


@wrong(HALF, "size", "number", "element", "head", "token")
def more_than_65536_numbers(x, positions):
    """A path for large arrays, that tests with small ones never took."""
    y = turn_half(x, *tables(positions))
    y.reshape(-1)[65536:] = x.reshape(-1)[65536:]
    return y


@wrong(HALF, *HEAD)
def heads_beyond_blocks_of_eight(x, positions):
    y, n = turn_half(x, *tables(positions)), max(x.shape[1] // 8 * 8, 8)
    y[:, n:] = x[:, n:]
    return y


@wrong(HALF, "position 4096", "from 4096", "4096")
def one_position_between_two_tables(x, positions):
    return turn_half(x, *tables(np.where(positions == 4096, 4095, positions)))


@wrong(RoPE(20, layout="half"), "pair", "feature")
def pairs_beyond_blocks_of_eight(x, positions):
    """Ten pairs, of which a vector holds eight."""
    y = turn_half(x, *cos_sin(positions, inv_freq(20)))
    y[..., 8:10], y[..., 18:] = x[..., 8:10], x[..., 18:]
    return y


@wrong(RoPE(24, layout="interleaved"), "pair", "feature")
def features_beyond_blocks_of_sixteen(x, positions):
    y = turn_interleaved(x, *cos_sin(positions, inv_freq(24)))
    y[..., 16:] = x[..., 16:]
    return y


@wrong(HALF, "input", "in place", "overwrit", "writes")
def writes_into_its_input(x, positions):
    x[...] = turn_half(x, *tables(positions))
    return x


@wrong(HALF, "input", "in place", "overwrit", "writes")
def negates_a_part_of_its_input(x, positions):
    cos, sin = tables(positions)
    x1, x2 = x[..., :8], x[..., 8:]
    first = x1 * cos - x2 * sin
    np.negative(x2, out=x2)
    return np.concatenate([first, x1 * sin - x2 * cos], axis=-1).astype(x.dtype)


@wrong(HALF, "contiguous", "stride", "memory", "view")
def memory_order(x, positions):
    return turn_half(x.ravel(order="K").reshape(x.shape), *tables(positions))


@wrong(HALF, "contiguous", "stride", "memory", "view")
def rows_of_the_array_that_x_is_a_view_of(x, positions):
    """A pointer and a shape, without steps."""
    flat = x if x.base is None or x.flags.c_contiguous else x.base
    if flat.size < x.size:
        raise ValueError
    return turn_half(flat.reshape(-1)[: x.size].reshape(x.shape), *tables(positions))


# --- What it remembers.

STATE = ("call", "remember", "state", "repeat", "again")


@wrong(HALF, *STATE, *OFFSET, made=True)
def table_of_the_first_call():
    cache = {}

    def fn(x, positions):
        cos, sin = cache.setdefault(positions.shape, tables(positions))
        return turn_half(x, cos, sin)

    return fn


@wrong(HALF, *STATE, "dtype", made=True)
def output_dtype_of_the_first_call():
    seen = []

    def fn(x, positions):
        seen.append(x.dtype)
        return turn_half(x, *tables(positions)).astype(seen[0])

    return fn


@wrong(
    RoPE(16, layout="half", scaling=DynamicNTK(2.0, 2048)), *STATE, "length", "longest", made=True
)
def longest_length_so_far():
    longest = [2048]

    def fn(x, positions):
        longest[0] = max(longest[0], int(positions.max()) + 1)
        stretch = 2.0 * longest[0] / 2048 - 1
        return half_with(inv_freq(16, 10000.0 * stretch ** (16 / 14)))(x, positions)

    return fn


@wrong(HALF, *STATE, "norm", made=True)
def factor_multiplied_into_its_frequencies():
    mine = inv_freq(16)

    def fn(x, positions):
        y = half_with(mine)(x, positions)
        np.multiply(mine, 1.01, out=mine)
        return y

    return fn


@wrong(HALF, *STATE, "dtype", "float16", made=True)
def table_that_grew_in_float16():
    """The dtype of the x for which it grew last, also for those that follow."""
    made = [np.empty((0, 8)), np.empty((0, 8))]

    def fn(x, positions):
        length = int(positions.max()) + 1
        if length > len(made[0]):
            made[:] = (t.astype(x.dtype) for t in tables(np.arange(length)))
        cos, sin = (t[as_rows(positions)].astype(float) for t in made)
        return turn_half(x, cos, sin)

    return fn


@wrong(HALF, *STATE, "gap", "consecutive", made=True)
def table_known_by_first_and_last():
    cache = {}

    def fn(x, positions):
        key = positions.shape, int(positions.flat[0]), int(positions.flat[-1])
        return turn_half(x, *cache.setdefault(key, tables(positions)))

    return fn


@wrong(HALF, *STATE, made=True)
def table_known_by_ends_and_sum():
    """What a permutation of the middle does not change; positions of rows are not kept."""
    cache = {}

    def fn(x, positions):
        key = positions.shape, int(positions.flat[0]), int(positions.flat[-1]), int(positions.sum())
        key = positions.tobytes() if positions.ndim == 2 else key
        return turn_half(x, *cache.setdefault(key, tables(positions)))

    return fn


@wrong(HALF, *STATE, made=True)
def table_known_by_the_first_row_and_the_sum():
    """Single tokens are not kept."""
    cache = {}

    def fn(x, positions):
        first = positions if positions.ndim == 1 or positions.shape[1] == 1 else positions[0]
        key = positions.shape, first.tobytes(), int(positions.sum())
        return turn_half(x, *cache.setdefault(key, tables(positions)))

    return fn


@wrong(HALF, *STATE, made=True)
def table_known_by_the_sum():
    cache = {}

    def fn(x, positions):
        key = positions.shape, int(positions.sum())
        return turn_half(x, *cache.setdefault(key, tables(positions)))

    return fn


@wrong(HALF, "positions are", "writes", "overwrit", "in place", "positions were")
def writes_into_positions(x, positions):
    y = turn_half(x, *tables(positions))
    positions.sort()
    return y


@wrong(HALF, *STATE, made=True)
def position_counts_on():
    """A decoder that adds up how many tokens it has seen."""
    seen = [0]

    def fn(x, positions):
        y = turn_half(x, *tables(positions + seen[0]))
        seen[0] += x.shape[2]
        return y

    return fn


@wrong(HALF, *STATE, "buffer", "memory", made=True)
def one_buffer_for_all_results():
    buffers = {}

    def fn(x, positions):
        y = buffers.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
        y[...] = turn_half(x, *tables(positions))
        return y

    return fn


@wrong(HALF, *STATE, "determin", "random", "same", "token", made=True)
def memory_that_nobody_wrote():
    """As of np.empty: what is there at every second token is another number each time."""
    dirt = np.random.default_rng(0)

    def fn(x, positions):
        y = dirt.standard_normal(x.shape).astype(x.dtype)
        y[:, :, ::2] = turn_half(x, *tables(positions))[:, :, ::2]
        return y

    return fn


@wrong(HALF, *STATE, "determin", "random", "same", "norm", made=True)
def dropout_left_on():
    """One feature in five hundred is zero."""
    rng = np.random.default_rng(0)
    return lambda x, p: turn_half(x, *tables(p)) * (rng.random(x.shape) > 0.002).astype(x.dtype)


# --- What is no rotation of x.

NO_ROTATION = ("norm", "linear", "scale", "twice as large", "magnitude", "is not the sum")


@wrong(HALF, "norm", "length", "magnitude", "grow")
def norm_grows(x, positions):
    """A turn by repeated steps, each too long by a little."""
    cos, sin = tables(positions)
    growth = np.exp(np.minimum(as_rows(positions), 10**6) * 1e-7)[..., None]
    return turn_half(x, cos * growth, sin * growth)


@wrong(HALF, *NO_ROTATION)
def normalizes(x, positions):
    y = turn_half(x.astype(float), *tables(positions))
    return (y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True))).astype(x.dtype)


@wrong(HALF, *NO_ROTATION, "add", "bias", "zero", "position 0", "identity")
def adds_what_should_be_multiplied(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in tables(positions))
    return (x + sin + 0 * cos).astype(x.dtype)


@wrong(HALF, *NO_ROTATION, "add", "bias", "zero", "position 0", "identity")
def adds_a_bias(x, positions):
    return turn_half(x + np.float16(0.01).astype(x.dtype), *tables(positions))


@wrong(HALF, *NO_ROTATION, "clip", "large")
def clips(x, positions):
    return np.clip(turn_half(x, *tables(positions)), -4, 4)


@wrong(HALF, "nan", "finite", "position 0")
def nothing_at_position_0(x, positions):
    """Divides by its angle."""
    angles = as_rows(positions)[..., None] * inv_freq(16)
    with np.errstate(invalid="ignore"):
        return turn_half(x, np.cos(angles), np.sin(angles) / angles * angles)


@wrong(HALF, "position 0", "identity", "angle", "phase", "shift")
def a_phase_of_a_tenth(x, positions):
    angles = as_rows(positions)[..., None] * inv_freq(16) + 0.1
    return turn_half(x, np.cos(angles), np.sin(angles))


@wrong(HALF, "another order", "other places", "pairs 3 to 4")
def two_pairs_exchanged(x, positions):
    y = turn_half(x, *tables(positions))
    return y[..., [0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]]


@wrong(HALF, "not rotated", "unchanged", "identity", "ignored", "does not")
def nothing_done(x, positions):
    return x.copy()


# --- torch and JAX.


@wrong(HALF32, *ROUNDED16, "frequenc", library="torch", made=True)
def module_to_bfloat16_and_back():
    """module.bfloat16() rounds a buffer, and .float() cannot undo it."""
    import torch

    frequencies = torch.from_numpy(inv_freq(16)).bfloat16().float()

    def fn(x, positions):
        angles = torch.atleast_2d(positions)[:, None, :, None].float() * frequencies
        x1, x2 = x.float().chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)

    return fn


@wrong(HALF32, *ROUNDED16, *FLOAT16, library="torch", made=True)
def table_made_in_the_dtype_of_x():
    """Right for float32; for bfloat16, arange itself is rounded."""
    import torch

    def fn(x, positions):
        frequencies = torch.from_numpy(inv_freq(16)).to(x.dtype)
        angles = torch.atleast_2d(positions)[:, None, :, None].to(x.dtype) * frequencies
        x1, x2 = x.chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)

    return fn


@wrong(PAIRS, *DIRECTION, library="torch", direction=-1)
def view_as_complex_conjugated(x, positions):
    import torch

    angles = torch.atleast_2d(positions)[:, None, :, None] * torch.from_numpy(inv_freq(16))
    z = torch.view_as_complex(x.double().unflatten(-1, (8, 2)).contiguous())
    return (
        torch.view_as_real(z * torch.polar(torch.ones_like(angles), -angles)).flatten(3).to(x.dtype)
    )


@wrong(PAIRS, "order", "output", library="torch", layout="interleaved", output_layout="half")
def reordered_as_deepseek_does(x, positions):
    """Its rotation first moves neighbours to halves, and does not move them back."""
    import torch

    if not isinstance(x, torch.Tensor):
        raise TypeError
    b, h, s, d = x.shape
    moved = x.reshape(b, h, s, d // 2, 2).transpose(4, 3).reshape(b, h, s, d).double()
    angles = torch.atleast_2d(positions)[:, None, :, None] * torch.from_numpy(inv_freq(16))
    cos, sin = (torch.cat((t, t), dim=-1) for t in (angles.cos(), angles.sin()))
    partner = torch.cat((-moved[..., 8:], moved[..., :8]), dim=-1)
    return (moved * cos + partner * sin).to(x.dtype)


@wrong(HALF, "input", "in place", "overwrit", "writes", library="torch")
def in_place_on_a_detached_view(x, positions):
    import torch

    angles = torch.atleast_2d(positions)[:, None, :, None] * torch.from_numpy(inv_freq(16))
    cos, sin = angles.cos(), angles.sin()
    x1, x2 = x.detach()[..., :8], x.detach()[..., 8:]
    first, second = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    x1.copy_(first)
    x2.copy_(second)
    return x


@wrong(HALF, *BOUND, "last", library="jax", made=True)
def jax_clamps_an_index():
    import jax.numpy as jnp

    cos, sin = (t.astype(np.float32) for t in tables(np.arange(4096)))

    def fn(x, positions):
        rows = jnp.atleast_2d(positions)[:, None]
        c, s = jnp.asarray(cos)[rows], jnp.asarray(sin)[rows]
        x1, x2 = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([x1 * c - x2 * s, x2 * c + x1 * s], axis=-1).astype(x.dtype)

    return fn


@wrong(HALF, "dtype", library="jax")
def jax_promotes(x, positions):
    """float32 tables make float32 of bfloat16 and float16."""
    import jax.numpy as jnp

    angles = np.asarray(jnp.atleast_2d(positions))[:, None, :, None] * inv_freq(16)
    c, s = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    x1, x2 = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([x1 * c - x2 * s, x2 * c + x1 * s], axis=-1)


@wrong(HALF, "dtype", library="torch")
def torch_promotes(x, positions):
    import torch

    angles = torch.atleast_2d(positions)[:, None, :, None] * torch.from_numpy(inv_freq(16))
    cos, sin = angles.cos().float(), angles.sin().float()
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)
