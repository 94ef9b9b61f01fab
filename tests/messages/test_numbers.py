"""Numbers, flags and options of every kind: taken and made Python's, or a sentence about the argument."""

import math
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from message_cases import F32, ROPE, X, assert_refused, convert, rotate

import rope_xp
from rope_xp import RoPE, analysis, attention, axes, positions, relative, scaling
from rope_xp._validation import MAX_FREQUENCY, quote
from rope_xp.axes import Axial, Directions, golden_directions

AT = np.arange(3)
HUGE = 10**400
LLAMA = {"model_type": "llama", "head_dim": 64}


def rope(**options):
    return RoPE(8, **{"layout": "half", **options})


def frequencies(schedule, **options):
    return rope(scaling=schedule, **options).frequencies(200)


def yarn(**options):
    return frequencies(
        scaling.YaRN(**{"factor": 4.0, "original_max_position_embeddings": 128, **options})
    )


def longrope(**options):
    lists = {"short_factor": (1.0,) * 4, "long_factor": (2.0,) * 4}
    return frequencies(
        scaling.LongRoPE(**lists, **{"original_max_position_embeddings": 100, **options})
    )


def llama3(**options):
    given = {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return frequencies(
        scaling.Llama3(**{**given, "original_max_position_embeddings": 100, **options})
    )


def golden(**options):
    return golden_directions(2, 4, **{"slowest": 0.1, "fastest": 0.2, **options}).matrix


def config(**parameters):
    given = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    return RoPE.from_config({**LLAMA, "rope_scaling": {**given, **parameters}}).frequencies()


# Arguments that are real numbers, and what is made of them.
REALS = {
    "base": lambda v: rope(base=v).frequencies(),
    "base float32": lambda v: rope(base=v, precision="float32").frequencies(),
    "factor of Linear": lambda v: frequencies(scaling.Linear(v)),
    "factor of NTK": lambda v: frequencies(scaling.NTK(v)),
    "factor of DynamicNTK": lambda v: frequencies(scaling.DynamicNTK(v, 100)),
    "factor of DynamicNTK float32": lambda v: frequencies(
        scaling.DynamicNTK(v, 100), precision="float32"
    ),
    "factor of NTKByParts": lambda v: frequencies(scaling.NTKByParts(v, 100)),
    "beta_fast of NTKByParts": lambda v: frequencies(scaling.NTKByParts(2.0, 100, v)),
    **{
        f"{name} of YaRN": lambda v, name=name: yarn(**{name: v})
        for name in ("factor", "beta_fast", "beta_slow", "attention_factor", "mscale_all_dim")
    },
    "mscale of YaRN": lambda v: yarn(mscale=v, mscale_all_dim=1.0),
    "beta_slow of float32": lambda v: frequencies(
        scaling.YaRN(4.0, 128, beta_slow=v, truncate=False), precision="float32"
    ),
    **{
        f"{name} of LongRoPE": lambda v, name=name: longrope(**{name: v})
        for name in ("factor", "attention_factor")
    },
    "short_mscale": lambda v: longrope(short_mscale=v, long_mscale=v),
    "short_factor[0]": lambda v: frequencies(scaling.LongRoPE((v, 1.0, 1.0, 1.0), (1.0,) * 4, 100)),
    **{
        f"{name} of Llama3": lambda v, name=name: llama3(**{name: v})
        for name in ("factor", "low_freq_factor", "high_freq_factor")
    },
    "factor of Proportional": lambda v: frequencies(scaling.Proportional(0.5, v)),
    "partial_rotary_factor": lambda v: frequencies(scaling.Proportional(v)),
    "L_test": lambda v: frequencies(scaling.RIFLEx(2, v)),
    "inv_freq[0] of Custom": lambda v: frequencies(scaling.Custom([v, 1.0, 1.0, 1.0])),
    "factors[0]": lambda v: frequencies(scaling.FrequencyFactors([v, 1.0, 1.0, 1.0])),
    "factors[0] float32": lambda v: frequencies(
        scaling.FrequencyFactors([v, 1.0, 1.0, 1.0]), precision="float32"
    ),
    "scale of Axial": lambda v: rope(axes=Axial(2, scale=v)).frequencies(),
    "bases[1]": lambda v: rope(axes=Axial(2, bases=(1e4, v))).frequencies(),
    "matrix[0][1]": lambda v: rope(axes=Directions([[1.0, v, 0.0, 0.0]])).frequencies(),
    "slowest": lambda v: golden(slowest=v),
    "fastest": lambda v: golden(fastest=v),
    "inv_freq[0]": lambda v: rope_xp.cos_sin(AT, [v]),
    "inv_freq[0] of a matrix": lambda v: rope_xp.cos_sin(np.ones((2, 3)), [[v], [1.0]]),
    "attention_factor": lambda v: rope_xp.cos_sin(AT, [1.0], attention_factor=v),
    "base of sinusoidal": lambda v: rope_xp.sinusoidal(AT, 8, base=v),
    "shift": lambda v: rope_xp.sinusoidal(AT, 8, shift=v),
    "shift below 1": lambda v: rope_xp.sinusoidal(AT, 8, base=1e-5, shift=v),
    "scale_base": lambda v: rope_xp.xpos_scale(AT, 4, scale_base=v),
    "center": lambda v: rope_xp.xpos_scale(AT, 4, center=v),
    "center of reals": lambda v: rope_xp.xpos_scale(AT.astype(F32), 4, center=v),
    "length": lambda v: analysis.turns([1.0], v),
    "inv_freq[0] of turns": lambda v: analysis.turns([v], 100),
    "scale of attention": lambda v: attention.attention(X, X, X, scale=v),
    "base of inverse_frequencies": lambda v: scaling.inverse_frequencies(8, v),
    "divisors": lambda v: scaling.inverse_frequencies(8, 1e4, divisors=v),
    "beta": lambda v: scaling.FloorLogScale(8, v)(AT),
    "beta of LogScale": lambda v: scaling.LogScale(2, 0.5 if v is None else v)(AT),
    "beta of PowerScale": lambda v: scaling.PowerScale(2, v)(AT),
    "factor in a config": lambda v: config(factor=v),
    "rope_theta": lambda v: RoPE.from_config({**LLAMA, "rope_theta": v}).frequencies(),
}
INTS = {
    "head_dim": lambda v: RoPE(v, layout="half").frequencies(),
    "rotary_dim": lambda v: rope(rotary_dim=v).frequencies(),
    "rotary_start": lambda v: rope(rotary_start=v).frequencies(),
    "seq_len": lambda v: (
        frequencies(scaling.DynamicNTK(2.0, 100))
        and rope(scaling=scaling.DynamicNTK(2.0, 100)).frequencies(v)
    ),
    "max_position_embeddings": lambda v: frequencies(scaling.DynamicNTK(2.0, v)),
    "k": lambda v: frequencies(scaling.RIFLEx(v, 66)),
    "max_position_embeddings of SteppedNTK": lambda v: frequencies(scaling.SteppedNTK(v)),
    "original_max_position_embeddings of YaRN": lambda v: yarn(original_max_position_embeddings=v),
    "original_max_position_embeddings of Llama3": lambda v: llama3(
        original_max_position_embeddings=v
    ),
    "original_max_position_embeddings": lambda v: longrope(
        original_max_position_embeddings=v, max_position_embeddings=1000
    ),
    "widths": lambda v: rope(axes=Axial(v)).frequencies(),
    "widths of two": lambda v: rope(axes=Axial((v, 4))).frequencies(),
    "pairs": lambda v: axes.AxisPerPair((0, v)).axis_of_pair(4),
    "sections": lambda v: axes.Sections((2, v)).axis_of_pair(8),
    "n_axes": lambda v: golden_directions(v, 4, slowest=0.1, fastest=0.2).matrix,
    "n_pairs": lambda v: golden_directions(2, v, slowest=0.1, fastest=0.2).matrix,
    "first": lambda v: golden(first=v),
    "dim": lambda v: rope_xp.sinusoidal(AT, v),
    "n_pairs of xpos_scale": lambda v: rope_xp.xpos_scale(AT, v),
    "head_dim of convert_layout": lambda v: convert(head_dim=v),
    "axis": lambda v: convert(axis=v),
    "seq_axis": lambda v: rotate(seq_axis=v),
    "rotary_start of rotate": lambda v: rotate(rotary_start=v),
    "limit": lambda v: analysis.context_bound([1.0], limit=v),
    "max_distance": lambda v: relative.clipped_index(AT, AT, v),
    "num_buckets": lambda v: relative.t5_bucket(AT, num_buckets=v),
    "max_distance of t5_bucket": lambda v: relative.t5_bucket(AT, max_distance=v),
    "n_heads": lambda v: relative.alibi_slopes(v),
    "length of FloorLogScale": lambda v: scaling.FloorLogScale(v, 0.1)(AT),
    "offset": lambda v: scaling.LogScale(100, offset=v)(AT),
    "offset of LearnedLogScale": lambda v: scaling.LearnedLogScale(v)(AT, [0.1], [0.2]),
    "rotary_dim of inverse_frequencies": lambda v: scaling.inverse_frequencies(v, 1e4),
}
FLAGS = {
    "causal": lambda v: attention.attention(X, X, X, causal=v),
    "causal of linear_attention": lambda v: attention.linear_attention(X, X, X, causal=v),
    "bidirectional": lambda v: relative.t5_bucket(AT, bidirectional=v),
    "inverse": lambda v: rotate(inverse=v),
    "inverse of a RoPE": lambda v: ROPE.rotate(X, *ROPE.cos_sin(np.arange(5)), inverse=v),
    "split": lambda v: rope(axes=Axial(2, split=v)).frequencies(),
    "truncate": lambda v: yarn(truncate=v),
    "truncate of NTKByParts": lambda v: frequencies(scaling.NTKByParts(4.0, 128, truncate=v)),
    "truncate of time_axis": lambda v: positions.time_axis(3, 1.0, truncate=v),
    "floor": lambda v: positions.rescaled_axis(3, 4, floor=v),
    "symmetric": lambda v: positions.centered_axis(3, symmetric=v),
    "frames_apart": lambda v: positions.text_image_parts(
        [2, 2], videos=[(2, 1, 1)], frames_apart=v
    ),
    "mscale_softmax": lambda v: yarn(mscale_softmax=v),
}
EXTREME = [
    HUGE, -HUGE, 2**1023, 2**63, -(2**63), 2**31, 2**25, 0, 1e308, -1e308, 2.0**128, -(2.0**127), 1e38,
    5e-324, -5e-324, 1e-300, 1 + 2**-52, 4 - 2**-50, math.inf, math.nan, Fraction(1, HUGE), Fraction(HUGE),
]  # fmt: skip


def name_of(argument):
    return f"`{argument.partition(' ')[0]}`"


def outcome(call):
    """What ``call`` returns, and None; or None and its sentence."""
    try:
        return call(), None
    except (ValueError, TypeError) as error:
        return None, error


def is_finite(result):
    if isinstance(result, tuple | list):
        return all(map(is_finite, result))
    return result is None or bool(np.all(np.isfinite(result)))


@pytest.mark.parametrize("argument", [*REALS, *INTS])
def test_extreme_numbers_give_finite_results_or_a_sentence(argument):
    make = {**REALS, **INTS}[argument]
    for value in EXTREME:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            result, error = outcome(lambda value=value: make(value))
        if error is None:
            assert is_finite(result), (value, result)
            continue
        no_int = argument in INTS and not isinstance(value, int)
        assert isinstance(error, TypeError if no_int else ValueError), (value, error)
        assert "`" in str(error), (value, error)
        assert len(str(error)) < 500, (value, error)


NO_NUMBERS = [
    "2", b"2", True, np.True_, 2j, np.complex64(2), Decimal(2), np.datetime64("2020"), np.timedelta64(2, "s"),
    [2.0], (2,), {}, np.asarray(2.0), np.ones(1000), object(), type, np.str_("2"),
]  # fmt: skip


@pytest.mark.parametrize("argument", [*REALS, *INTS])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_a_type_error_that_names_the_argument(argument, value):
    make = {**REALS, **INTS}[argument]
    allowed = {"widths": (list, tuple), "divisors": (list, tuple, np.ndarray)}.get(argument, ())
    if argument in ("inv_freq[0]", "inv_freq[0] of turns"):  # a matrix
        allowed = (list, tuple, np.ndarray)
    if isinstance(value, allowed):
        return
    from_config = argument in (
        "factor in a config",
        "rope_theta",
    )  # there every mistake is in a file
    with pytest.raises(ValueError if from_config else TypeError) as caught:
        make(value)
    sentence = str(caught.value)
    assert name_of(argument).split("[")[0].strip("`") in sentence
    assert sentence.startswith("`")
    assert "got " in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("argument", FLAGS)
def test_flags_are_true_or_false(argument):
    make = FLAGS[argument]
    for flag in (True, False):
        np.testing.assert_equal(make(np.bool_(flag)), make(flag))
    for value in (0, 1, "false", None, np.ones(2, bool), np.asarray(True), 1.0, [], "x" * 10**6):
        assert_refused(
            lambda value=value: make(value),
            TypeError,
            f"{name_of(argument)} must be True or False, got",
        )


# Each with the fields that are numbers.
OBJECTS = {
    "Linear": lambda f, i: scaling.Linear(f(4)),
    "NTK": lambda f, i: scaling.NTK(f(3.5)),
    "DynamicNTK": lambda f, i: scaling.DynamicNTK(f(3.5), i(100)),
    "SteppedNTK": lambda f, i: scaling.SteppedNTK(i(100)),
    "YaRN": lambda f, i: scaling.YaRN(
        f(4), i(128), f(32), f(1), mscale=f(1), mscale_all_dim=f(0.5)
    ),
    "NTKByParts": lambda f, i: scaling.NTKByParts(f(3.5), i(128), f(32), f(1)),
    "LongRoPE": lambda f, i: scaling.LongRoPE([f(1)] * 4, [f(2)] * 4, i(100), f(3.5), i(350)),
    "mscales": lambda f, i: scaling.LongRoPE(
        [f(1)] * 4, [f(2)] * 4, i(100), short_mscale=f(1), long_mscale=f(1.5)
    ),
    "Llama3": lambda f, i: scaling.Llama3(f(2), f(1), f(4), i(100)),
    "Proportional": lambda f, i: scaling.Proportional(f(0.5), f(2)),
    "Custom": lambda f, i: scaling.Custom([f(0.5)] * 4),
    "RIFLEx": lambda f, i: scaling.RIFLEx(i(4), f(66.5)),
    "FrequencyFactors": lambda f, i: scaling.FrequencyFactors([f(1.5)] * 4),
    "Axial": lambda f, i: Axial((i(4), i(4)), scale=f(0.5), bases=(f(100), f(50))),
    "axis_order": lambda f, i: Axial(i(2), axis_order=[i(1), i(0)]),
    "AxisPerPair": lambda f, i: axes.AxisPerPair([i(0), i(1), i(0), i(1)]),
    "Sections": lambda f, i: axes.Sections([i(3), i(1)]),
    "Directions": lambda f, i: Directions([[f(0.5)] * 4]),
}
KINDS = {
    "float32": (np.float32, np.int64),
    "float16": (np.float16, np.int32),
    "float64": (np.float64, np.uint16),
    "longdouble": (np.longdouble, np.uint64),
    "Fraction": (Fraction, int),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", OBJECTS)
def test_numbers_of_any_type_are_pythons(made, kind):
    plain, given = OBJECTS[made](float, int), OBJECTS[made](*KINDS[kind])
    assert given == plain
    assert hash(given) == hash(plain)
    assert repr(given) == repr(plain)
    for field in fields(given):
        value = getattr(given, field.name)
        for number in value if isinstance(value, tuple) else [value]:
            assert type(number) in (float, int, bool, str, tuple, type(None)), field.name
    place = "scaling" if hasattr(scaling, type(plain).__name__) else "axes"
    for seq_len in (None, 1000):
        ours, theirs = (rope(**{place: each}).frequencies(seq_len) for each in (given, plain))
        np.testing.assert_array_equal(ours.inv_freq, theirs.inv_freq)
        assert ours[1:] == theirs[1:]


def test_bfloat16_is_a_number():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert scaling.Linear(ml_dtypes.bfloat16(4)) == scaling.Linear(4.0)


def test_configs_may_have_numpys_numbers_and_flags():
    numbers = {"factor": np.float32(4), "beta_fast": np.float16(16), "truncate": np.False_}
    given = RoPE.from_config(
        {**LLAMA, "head_dim": np.int64(64), "rope_theta": np.float32(5e5),
         "rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": np.int32(128), **numbers}}
    )  # fmt: skip
    scheme = scaling.YaRN(4.0, 128, 16.0, truncate=False)
    assert given == RoPE(64, layout="half", base=5e5, scaling=scheme)
    assert type(given.head_dim) is int
    assert type(given.base) is float


def test_strings_of_other_types_are_plain():
    given = RoPE(8, layout=np.str_("half"), precision=np.str_("exact"))
    assert type(given.layout) is type(given.precision) is str
    assert repr(given) == "RoPE(8, layout='half')"


@pytest.mark.parametrize("value", [np.asarray(["half", "half"]), b"half", None, 3, ["half"]])
def test_options_are_strings(value):
    for call, name in [
        (lambda: RoPE(8, layout=value), "layout"),
        (lambda: RoPE(8, layout="half", precision=value), "precision"),
        (lambda: rotate(layout=value), "layout"),
        (lambda: convert(source=value), "source"),
        (lambda: rope_xp.sinusoidal(AT, 8, order=value), "order"),
        (lambda: rope_xp.cos_sin(AT, [1.0], precision=value), "precision"),
        (lambda: Axial(2, arrangement=value), "arrangement"),
        (lambda: Axial(2, frequencies=value), "frequencies"),
        (lambda: relative.alibi_bias(AT, AT, 2, form=value), "form"),
        (lambda: scaling.Linear(2.0)(8, 1e4, precision=value), "precision"),
    ]:
        assert_refused(call, ValueError, f"`{name}` must be one of '")


def test_frequencies_are_below_a_bound_wherever_they_enter():
    largest = math.nextafter(MAX_FREQUENCY, 0)
    for call in (
        lambda w: rope_xp.cos_sin(AT, [w]),
        lambda w: rope_xp.cos_sin(AT, np.asarray([w])),
        lambda w: rope_xp.cos_sin(np.ones((1, 3), int), [[w]]),
        lambda w: scaling.Custom((w,)),
        lambda w: Directions(((-w,),)),
        lambda w: analysis.wavelengths([w]),
        lambda w: analysis.turns(np.asarray([[w]]), 3),
    ):
        call(largest)
        for wrong in (MAX_FREQUENCY, -MAX_FREQUENCY):
            with pytest.raises(ValueError, match="must be below 2\\*\\*128 in magnitude, got"):
                call(wrong)


LONG = {
    "list": [0.5] * 10**6,
    "nested": [[[0.5] * 100] * 100] * 100,
    "str": "x" * 10**6,
    "bytes": b"x" * 10**6,
    "dict": {str(i): i for i in range(10**5)},
    "int": 10**5000,
    "array": np.zeros((1000, 1000)),
    "strings": ["y" * 1000] * 1000,
    "lines": "line\n" * 1000,
}


@pytest.mark.parametrize("kind", LONG)
def test_messages_quote_a_line(kind):
    value = LONG[kind]
    assert len(quote(value)) <= 100
    assert "\n" not in quote(value)
    calls = [
        *(lambda make=make: make(value) for make in (*REALS.values(), *INTS.values(), *FLAGS.values())),
        lambda: RoPE(8, layout=value),
        lambda: RoPE(8, layout="half", scaling=value),
        lambda: RoPE(8, layout="half", axes=value),
        lambda: rope_xp.cos_sin(value, [1.0]),
        lambda: rope_xp.cos_sin(AT, [1.0], dtype=value),
        lambda: rope_xp.sinusoidal(AT, 8, order=value),
        lambda: rotate(blocks=value),
        lambda: ROPE(X, offset=value),
        lambda: scaling.LongRoPE(value, (1.0,), 100),
        lambda: Axial(2, axis_order=value),
        lambda: axes.Sections(value),
        lambda: axes.AxisPerPair(value),
        lambda: Directions(value),
        lambda: attention.attention(X, X, X, bias=value),
        lambda: attention.linear_attention(X, X, X, rope=value),
        lambda: attention.linear_attention(X, X, X, feature_map=value),
        lambda: relative.alibi_slopes(4, dtype=value),
        lambda: relative.alibi_slopes(4, xp=value),
        lambda: relative.alibi_bias(AT, AT, 2, form=value),
        lambda: analysis.decay_bound(value, [[1.0]]),
        lambda: analysis.wavelengths(value),
        lambda: RoPE.from_config(LLAMA, layout=value),
        lambda: RoPE.from_config(LLAMA, layer_type=value),
        lambda: RoPE.from_config({**LLAMA, "rope_scaling": value}),
        lambda: RoPE.from_config({"model_type": value}),
        lambda: RoPE.from_config({**LLAMA, "rope_scaling": {"rope_type": value}}),
        lambda: RoPE.from_config({**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": value}}),
        lambda: RoPE.from_config({**LLAMA, "num_hidden_layers": value}),
        lambda: RoPE.from_config({**LLAMA, "layer_types": value}),
    ]  # fmt: skip
    for call in calls:
        _, error = outcome(call)
        assert len(str(error)) < 500, error


def test_quotes():
    assert quote([1.0, "half"]) == "[1.0, 'half']"
    assert quote(np.asarray(0.5)) == "array(0.5)"
    assert quote(np.zeros((2, 100), F32)) == "numpy.ndarray of shape (2, 100) and dtype float32"
    assert quote(-(10**100)) == "an int of 333 bits"
    assert quote([10**400]) == "[an int of 1329 bits]"
    assert "..." in quote("a" * 1000)
    assert quote([(0.125,) * 10] * 3).endswith("…")


class Index:
    """What can be an index, and is no number."""

    def __index__(self):
        return 2


BATCH = np.ones((2, 2, 3, 8), F32)
CASES = [
    pytest.param(
        lambda: ROPE(BATCH, BATCH[0, 0], positions=np.ones((2, 3), int)),
        ValueError,
        "`k` must have the batch of `positions`, 2, as axis 0, got shape (3, 8)",
        id="k has no batch",
    ),
    pytest.param(
        lambda: ROPE(BATCH, BATCH[:1], positions=np.ones((2, 3), int)),
        ValueError,
        "`k` must have the batch of `positions`, 2, as axis 0, got shape (1, 2, 3, 8)",
        id="k of another batch",
    ),
    pytest.param(
        lambda: ROPE.inverse(BATCH, BATCH[:1], offset=np.asarray([1, 2])),
        ValueError,
        "`k` must have the batch of `offset`, 2, as axis 0, got shape (1, 2, 3, 8)",
        id="k of another batch than offset",
    ),
    pytest.param(
        lambda: rope(axes=axes.Sections((2, 2)))(
            BATCH, BATCH[:1], positions=np.ones((2, 2, 3), int)
        ),
        ValueError,
        "`k` must have the batch of `positions`, 2, as axis 0, got shape (1, 2, 3, 8)",
        id="k of another batch with axes",
    ),
    pytest.param(
        lambda: rotate(x=X[:1], cos=np.ones((2, 5, 4), F32), sin=np.ones((2, 5, 4), F32)),
        ValueError,
        "along axis 0 of `x` it must have size 1, got 2",
        id="one or one",
    ),
    pytest.param(
        lambda: attention.attention(BATCH, BATCH, BATCH, bias=np.zeros((3, 1, 1, 3, 3))),
        ValueError,
        "`bias` must broadcast to the scores (..., heads, q_len, k_len), (2, 2, 3, 3), got (3, 1, 1, 3, 3)",
        id="bias",
    ),
    pytest.param(
        lambda: attention.attention(BATCH, BATCH, BATCH, bias=np.zeros((2, 3), bool)),
        ValueError,
        "`bias` must broadcast to the scores (..., heads, q_len, k_len), (2, 2, 3, 3), got (2, 3)",
        id="mask",
    ),
    pytest.param(
        lambda: attention.attention(BATCH, *[np.ones((3, 1, 3, 8), F32)] * 2),
        ValueError,
        "`k` must have the leading axes of `q`, (2,), or 1, got (3,)",
        id="batches",
    ),
    pytest.param(
        lambda: attention.linear_attention(BATCH, *[np.ones((3, 1, 3, 8), F32)] * 2),
        ValueError,
        "`k` must have the leading axes of `q`, (2,), or 1, got (3,)",
        id="batches of linear attention",
    ),
    pytest.param(
        lambda: attention.attention(*[np.ones((1, 2, 0), F32)] * 2, np.ones((1, 2, 3), F32)),
        ValueError,
        "`scale` must be given where head_dim is 0, got None",
        id="no features",
    ),
    pytest.param(
        lambda: attention.linear_attention(
            X, X, X, rope=ROPE, q_positions=np.arange(4), k_positions=np.arange(5)
        ),
        ValueError,
        "`q_positions` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `q`), got (4,)",
        id="q_positions",
    ),
    pytest.param(
        lambda: rope(scaling=ROPE),
        TypeError,
        "`scaling` must take the parameters (rotary_dim, base, *, seq_len, precision), got RoPE(8, "
        "layout='half'): got an unexpected keyword argument 'precision'; values are in rope_xp.scaling",
        id="a RoPE as scaling",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(AT, [None]),
        TypeError,
        "`inv_freq[0]` must be a number, got None",
        id="no frequency",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(AT, np.asarray([[True]])),
        TypeError,
        "`inv_freq[0][0]` must be a number, got np.True_",
        id="boolean frequencies",
    ),
    pytest.param(
        lambda: ROPE(X, offset=Index()), TypeError, "`offset` must be an int, got <", id="an index"
    ),
    pytest.param(
        lambda: RoPE.from_config(
            {
                "general.architecture": "llama",
                "llama.attention.key_length": 64,
                "llama.rope.freq_base": 1e4,
                "llama.rope.dimension_count": 63,
            }
        ),
        ValueError,
        "`llama.rope.dimension_count` must be even, got 63",
        id="an odd count in GGUF",
    ),
    pytest.param(
        lambda: scaling.DynamicNTK(1e308, 100)(8, 1e4, seq_len=200),
        ValueError,
        "`factor` must keep the base finite, got 1e+308 at seq_len=200 for base=10000.0",
        id="a base that overflows",
    ),
    pytest.param(
        lambda: scaling.YaRN(math.e, 128, mscale=1.0, mscale_all_dim=-10.0)(8, 1e4),
        ValueError,
        "`mscale_all_dim` must give a positive gain that float32 has, 0.1 * mscale_all_dim * ln(factor) + 1, "
        "got -10.0, which gives 0.0 for factor=2.718281828459045",
        id="no gain",
    ),
    pytest.param(
        lambda: rope_xp.xpos_scale(AT, 4, center=2**30),
        ValueError,
        "`center` must be at most 35965 after the first position, where multipliers overflow, "
        "got 1073741824 with positions from 0 on",
        id="a center far away",
    ),
    pytest.param(
        lambda: RoPE(2**20 + 2, layout="half"),
        ValueError,
        "`head_dim` must be at most 1048576, got 1048578",
        id="a head that is too wide",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)


@pytest.mark.backend("torch")
def test_a_dtype_is_one_of_the_library():
    torch = pytest.importorskip("torch")
    for call in (
        lambda dtype: rope_xp.cos_sin(AT, [1.0], dtype=dtype),
        lambda dtype: ROPE.cos_sin(AT, dtype=dtype),
        lambda dtype: rope_xp.sinusoidal(AT, 8, dtype=dtype),
        lambda dtype: rope_xp.xpos_scale(AT, 4, dtype=dtype),
        lambda dtype: relative.alibi_slopes(4, dtype=dtype),
        lambda dtype: relative.alibi_bias(AT, AT, 4, dtype=dtype),
        lambda dtype: analysis.advantage([1], [1.0], dtype=dtype),
    ):
        assert_refused(
            lambda call=call: call(torch.float32),
            TypeError,
            "`dtype` must be a dtype of numpy, got torch.float32",
        )
        call(np.float32)
    assert_refused(
        lambda: rope_xp.cos_sin(torch.arange(3), [1.0], dtype=np.float32),
        TypeError,
        "`dtype` must be a dtype of torch, got <class 'numpy.float32'>",
    )
