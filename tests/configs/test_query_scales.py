"""What configs say about scores beside the rotation: query scales and softmax factors, layer by layer."""

import math

import numpy as np
import pytest
from message_cases import assert_refused

from rope_xp import RoPE, configs
from rope_xp._config_reader.checks import family_of
from rope_xp._config_reader.table import read_table
from rope_xp.scaling import FloorLogScale, LearnedLogScale, LogScale, PowerScale

YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0}
YARN |= {"original_max_position_embeddings": 16384}


def ministral3(**parameters):
    return {
        "model_type": "ministral3",
        "num_hidden_layers": 2,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_parameters": {**YARN, **parameters},
    }


def llama4(**keys):
    return {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128, **keys}


STEPS = FloorLogScale(16384, 0.1)
TUNED = FloorLogScale(8192, 0.1, offset=1)
MISTRAL4 = {"model_type": "mistral4", "num_hidden_layers": 2, "qk_rope_head_dim": 64}
MISTRAL4 |= {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2}}
CASES = {
    "ministral 3": (ministral3(llama_4_scaling_beta=0.1), [STEPS] * 2),
    "without beta": (ministral3(), [None] * 2),
    "beta 0": (ministral3(llama_4_scaling_beta=0), [None] * 2),
    "beta null": (ministral3(llama_4_scaling_beta=None), [None] * 2),
    "the defaults": ({"model_type": "ministral3", "num_hidden_layers": 1}, [STEPS]),
    "old style": (
        {"model_type": "ministral3", "num_hidden_layers": 1, "rope_theta": 1e6}
        | {"rope_scaling": {**YARN, "llama_4_scaling_beta": 0.1}},
        [STEPS],
    ),
    "another schedule": (
        ministral3(rope_type="linear", llama_4_scaling_beta=0.1),
        [STEPS] * 2,
    ),
    "a composite": (
        {"model_type": "mistral3", "text_config": ministral3(llama_4_scaling_beta=0.1)},
        [STEPS] * 2,
    ),
    "mistral 4": (MISTRAL4, [FloorLogScale(16384, 0.2)] * 2),
    "llama 4": (llama4(), [None, None, None, TUNED]),
    "llama 4, switched off": (llama4(attn_temperature_tuning=False), [None] * 4),
    "llama 4, an old file": (llama4(attn_temperature_tuning=4), [None, None, None, TUNED]),
    "llama 4, zero": (llama4(attn_temperature_tuning=0), [None] * 4),
    "llama 4, other numbers": (
        llama4(floor_scale=4096, attn_scale=0.25, no_rope_layers=[0, 1, 1, 1]),
        [FloorLogScale(4096, 0.25, offset=1), None, None, None],
    ),
    "beam": (
        {"model_type": "beam", "num_hidden_layers": 7},
        [None] * 5 + [PowerScale(2048, 0.1, offset=1)] * 2,
    ),
    "mistral large 4": (
        {"model_type": "mistral_large4_text", "num_hidden_layers": 4},
        [LearnedLogScale()] * 4,
    ),
    "a family that has none": (
        {"model_type": "qwen3", "num_hidden_layers": 2, "head_dim": 64, "floor_scale": 8192},
        [None] * 2,
    ),
}


@pytest.mark.parametrize(("config", "wanted"), CASES.values(), ids=CASES)
def test_query_scales(config, wanted):
    ropes = configs.layer_ropes(config)
    assert ropes.query_scales == tuple(wanted)
    for rope, scale in zip(ropes, wanted, strict=True):
        assert rope is None or rope.query_scale == scale
    if len({*ropes} - {None}) == 1:
        assert RoPE.from_config(config) in ropes


def test_the_number_that_was_missing():
    """Ministral 3 at position 60,000: three whole lengths of 16,384."""
    rope = RoPE.from_config(ministral3(llama_4_scaling_beta=0.1))
    (factor,) = rope.query_scale(np.asarray([60_000]))
    assert factor == pytest.approx(1 + 0.1 * math.log(4), rel=1e-6)


def test_softmax_factors_also_of_layers_that_do_not_rotate():
    given = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
    model = {"model_type": "mistral_large4_text", "num_hidden_layers": 4, "rope_parameters": given}
    ropes = configs.layer_ropes(model)
    assert ropes[3] is None
    assert ropes.softmax_factors == pytest.approx([(0.1 * math.log(16) + 1) ** 2] * 4)
    assert ropes[0].frequencies().softmax_factor == ropes.softmax_factors[0]
    assert configs.layer_ropes(ministral3(mscale=1.0, mscale_all_dim=1.0)).softmax_factors == (1, 1)
    assert configs.layer_ropes(llama4()).softmax_factors == (1.0,) * 4


def test_layers_without_attention_have_neither():
    """By a planted rule: no family has both yet."""
    line = read_table().lines["qwen3_next"]
    rule = {"kind": "LogScale", "length": 100}
    family = family_of("qwen3_next", {**line, "query_scale": rule})
    ropes = with_family(family, {"num_hidden_layers": 4})
    assert ropes.query_scales == (None, None, None, LogScale(100))


def with_family(family, config):
    """`layer_ropes` of a config of a planted family."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rope_xp._config_reader.families.known_family", lambda _: family)
        return configs.layer_ropes({"model_type": "qwen3_next", **config})


def test_a_rule_for_logarithms_to_the_base_of_a_length():
    """As Qwen 1 has it, whose modules are not transformers' own."""
    line = read_table().lines["qwen3"]
    rule = {"kind": "LogScale", "length_key": "seq_length", "offset": 1}
    rule |= {"enabled_key": "use_logn_attn", "enabled": False}
    family = family_of("qwen3", {**line, "query_scale": rule})
    config = {"model_type": "qwen3", "num_hidden_layers": 1, "seq_length": 2048}
    assert with_family(family, config).query_scales == (None,)
    (scale,) = with_family(family, {**config, "use_logn_attn": True}).query_scales
    assert scale == LogScale(2048, offset=1)
    np.testing.assert_allclose(scale([100, 4095]), [1, math.log(4096, 2048)], rtol=1e-6)


REFUSED = {
    "negative": (
        ministral3(llama_4_scaling_beta=-0.1),
        "`llama_4_scaling_beta` must be positive and finite, got -0.1",
    ),
    "text": (
        ministral3(llama_4_scaling_beta="0.1"),
        "`llama_4_scaling_beta` must be a number, got '0.1'",
    ),
    "true": (ministral3(llama_4_scaling_beta=True), "`llama_4_scaling_beta` must be a number"),
    "two values": (
        {**ministral3(llama_4_scaling_beta=0.1), "llama_4_scaling_beta": 0.2},
        "`llama_4_scaling_beta` has conflicting values: 0.2 at the top level but 0.1 in rope_parameters",
    ),
    "no length": (
        ministral3()
        | {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "llama_4_scaling_beta": 0.1,
            }
        },
        "is required in rope_parameters for 'ministral3' where llama_4_scaling_beta is given",
    ),
    "length": (llama4(floor_scale=0.5), "`floor_scale` must be an int, got 0.5"),
    "length 1": (llama4(floor_scale=1), "`floor_scale` must be an int greater than 1"),
    "switch": (
        llama4(attn_temperature_tuning="yes"),
        "`attn_temperature_tuning` must be true or false, got 'yes'",
    ),
}


@pytest.mark.parametrize(("config", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_by_its_key(config, sentence):
    assert_refused(lambda: configs.layer_ropes(config), ValueError, sentence)


UNKNOWN = {"model_type": "my_model", "num_hidden_layers": 1, "head_dim": 8, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("key", "value"),
    [("attn_temperature_len", 1024), ("attn_temperature_tuning", True), ("log_scaling_alpha", 0.1)],
)
def test_an_unknown_family_with_such_a_key_is_refused(key, value):
    def read(value):
        return configs.layer_ropes({**UNKNOWN, key: value}, layout="half")

    assert_refused(lambda: read(value), ValueError, f"`{key}` could change")
    assert read(type(value)()) == read(None)


PLANTED = {
    "kind": (
        {"kind": "LnScale", "length": 5},
        "unknown query_scale.kind 'LnScale'; known: FloorLogScale",
    ),
    "layers": (
        {"kind": "LogScale", "length": 5, "layers": "rotating"},
        "unknown query_scale.layers 'rotating'; known: all, without_rotation",
    ),
    "no length": ({"kind": "LogScale"}, "`length` or `length_key` is required for kind 'LogScale'"),
    "no beta": (
        {"kind": "PowerScale", "length": 5},
        "`beta` or `beta_key` is required for kind 'PowerScale'",
    ),
    "length of weights": (
        {"kind": "LearnedLogScale", "length": 5},
        "`length` must be absent for kind 'LearnedLogScale'",
    ),
}


@pytest.mark.parametrize(("rule", "sentence"), PLANTED.values(), ids=PLANTED)
def test_a_typing_error_in_a_rule_is_named(rule, sentence):
    line = {**read_table().lines["qwen3"], "query_scale": rule}
    assert_refused(lambda: family_of("qwen3", line), ValueError, sentence)


def test_explain_says_it():
    text = configs.explain(llama4())
    assert "query scale       by position, FloorLogScale(length=8192, beta=0.1, offset=1)" in text
    assert text.count("query scale") == 1
    assert text.index("rotation          none") < text.index("query scale")
    assert "query scale" not in configs.explain(llama4(attn_temperature_tuning=False))
    assert "FloorLogScale(length=16384, beta=0.1)" in configs.explain(
        ministral3(llama_4_scaling_beta=0.1)
    )
