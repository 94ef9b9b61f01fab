"""`to_config`: what it writes is read as what it was made from, or is refused."""

import copy
import json
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from config_cases import DEEPSEEK_V3, GEMMA3, GEMMA4, GPT_OSS, LLAMA, LLAMA31, PHI3, llama, multi

from rope_xp import RoPE, axes, scaling
from rope_xp._config_reader.table import known_family, read_table
from rope_xp.configs import LayerRopes, layer_ropes, to_config
from rope_xp.configs._compare import is_same

ROPE = RoPE(128, layout="half", base=5e5)
# Defaults of a class that do not fit each other: its module fails, too, or its head size is another key.
FITTING = {
    "qwen3_omni_moe_text": {"head_dim": 128},
    "glm4_moe": {"head_dim": 128},
    "glm4v_moe_text": {"head_dim": 128},
    "glm4v_text": {"head_dim": 64},
    "glm_image_text": {"head_dim": 64},
    "cohere_compass_text": {"layer_types": ["sliding_attention"] * 40},
}
# Families whose encodings only their own keys or their own model_type can say.
FAMILY_ONLY = {
    "nanochat": "scaling=Negated",
    "deepseek_v4": "rotary_start=448",
    **dict.fromkeys(("ministral3", "mistral4", "mistral_large4_text"), "query_scale"),
    **dict.fromkeys(("llama4_text", "beam"), "query_scale"),
}


def default_config(model_type):
    """A config that says nothing but the sizes that its class has by default."""
    family = known_family(model_type)
    config = {**family.defaults, "model_type": model_type, **FITTING.get(model_type, {})}
    if family.attentions_per_layer_key is not None:
        config[family.attentions_per_layer_key] = 3
    if family.hybrid:  # which layers have attention is no rule of the class
        n_layers = config["num_hidden_layers"]
        config["layer_types"] = (["linear_attention", "full_attention"] * n_layers)[:n_layers]
    if family.enabled_if is not None:
        config[family.enabled_if.key] = family.enabled_if.equals
    return config


def sizes(config):
    """What a family needs that does not read head_dim."""
    family = known_family(config["model_type"])
    keys = () if family.reads_head_dim else (family.hidden_size_key, "num_attention_heads")
    return {key: config[key] for key in keys}


@pytest.mark.parametrize("model_type", read_table().lines)
def test_every_family_is_read_back(model_type):
    config = default_config(model_type)
    ropes = layer_ropes(config)
    made = to_config(ropes, model_type=model_type, layer_types=config.get("layer_types"))
    assert layer_ropes({**sizes(config), **json.loads(json.dumps(made))}) == ropes


@pytest.mark.parametrize("model_type", read_table().lines)
def test_every_family_is_read_back_without_its_name(model_type):
    ropes = layer_ropes(default_config(model_type))
    first = next(rope for rope in ropes if rope is not None)
    reason = FAMILY_ONLY.get(model_type, "axes" if first.axes is not None else None)
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            to_config(ropes)
        return
    assert layer_ropes(to_config(ropes), layout=first.layout) == ropes


CONFIGS = [LLAMA31, GEMMA3, GEMMA4, PHI3, GPT_OSS, DEEPSEEK_V3, multi([16, 24, 24])]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["model_type"])
def test_published_configs_are_read_back(config):
    config = {"num_hidden_layers": 2, **config}
    ropes = layer_ropes(config)
    assert layer_ropes(to_config(ropes, model_type=config["model_type"])) == ropes


PAIRS = tuple(1.0 + i / 8 for i in range(64))
SCHEDULES = {
    "linear": scaling.Linear(4.0),
    "dynamic": scaling.DynamicNTK(4.0, 4096),
    "yarn": scaling.YaRN(4.0, 4096, 16.0, 2.0, truncate=False),
    "yarn, factor given": scaling.YaRN(4.0, 4096, attention_factor=1.5),
    "yarn, mscale": scaling.YaRN(4.0, 4096, mscale=0.5, mscale_all_dim=0.25, mscale_softmax=False),
    "llama3": scaling.Llama3(8.0, 1.0, 4.0, 8192),
    "longrope": scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, max_position_embeddings=131072),
    "longrope, factor": scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, factor=3.0),
    "longrope, attention": scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, attention_factor=1.25),
    "proportional": scaling.Proportional(0.25, 2.0),
}
# Classes that have no rope_type of their own: another describes the same numbers.
ALIKE = {
    "ntk": scaling.NTK(4.0),
    "by parts": scaling.NTKByParts(4.0, 4096, truncate=False),
    "factors": scaling.FrequencyFactors(PAIRS),
    "longrope, neither": scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096),
    "yarn, mscale_softmax of nothing": scaling.YaRN(4.0, 4096, mscale_softmax=False),
}


@pytest.mark.parametrize("is_one", [True, False])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_read_back(name, is_one):
    rope = replace(ROPE, scaling=SCHEDULES[name])
    made = json.loads(json.dumps(to_config(rope if is_one else [rope, rope])))
    assert RoPE.from_config(made, layout="half") == rope
    other = replace(ROPE, base=1e4)
    mixed = to_config([rope, other, other, rope, other])
    assert layer_ropes(mixed, layout="half") == (rope, other, other, rope, other)


@pytest.mark.parametrize("name", ALIKE)
def test_a_schedule_that_another_describes(name):
    rope = replace(ROPE, scaling=ALIKE[name])
    found = RoPE.from_config(to_config(rope), layout="half")
    for length in (None, 4097, 100_000):
        ours, theirs = rope.frequencies(length), found.frequencies(length)
        np.testing.assert_array_equal(ours.inv_freq, theirs.inv_freq)
        assert ours[1:] == theirs[1:]


def test_every_schedule_of_the_library_is_tried():
    tried = {type(each).__name__ for each in (*SCHEDULES.values(), *ALIKE.values())}
    refused = {"Custom", "Negated", "RIFLEx", "SteppedNTK"}
    no_schedules = {"Default", "Schedule", "Frequencies"}
    names = {name for name in scaling.__all__ if name[0].isupper() and "Scale" not in name}
    assert tried | refused | no_schedules == names


def test_what_is_written():
    assert to_config(layer_ropes(LLAMA31), model_type="llama") == {
        "model_type": "llama",
        "head_dim": 128,
        "num_hidden_layers": 32,
        "rope_parameters": {**LLAMA31["rope_scaling"], "rope_theta": 5e5},
    }
    made = to_config(layer_ropes(GEMMA3), model_type="gemma3_text")
    assert made["layer_types"] == (["sliding_attention"] * 5 + ["full_attention"]) * 2
    assert made["rope_parameters"]["full_attention"] == {
        "rope_type": "linear",
        "factor": 8.0,
        "rope_theta": 1e6,
    }
    partial = to_config(RoPE(128, layout="half", rotary_dim=32))
    assert partial["rope_parameters"]["partial_rotary_factor"] == 0.25
    assert to_config([ROPE, ROPE])["num_hidden_layers"] == 2
    assert "num_hidden_layers" not in to_config(ROPE)


def test_which_layers_rotate_is_said_as_the_family_has_it():
    ropes = (ROPE, None, ROPE, ROPE)
    assert to_config(ropes, model_type="smollm3")["no_rope_layers"] == [1, 0, 1, 1]
    made = to_config(ropes, model_type="exaone4")
    assert made["layer_types"][:2] == ["sliding_attention", "full_attention"]
    bases = (ROPE, None, replace(ROPE, base=1e4))
    made = to_config(bases, model_type="granite_swa")
    assert made["layer_rope_theta"] == [5e5, 0.0, 1e4]
    assert layer_ropes(made) == bases
    scaled = replace(ROPE, scaling=scaling.Linear(2.0))
    made = to_config((ROPE, scaled), model_type="molmo2_text")
    assert made["rope_scaling_layers"] == [1]
    assert to_config([ROPE] * 3, model_type="exaone4")["sliding_window"] is None
    made = to_config([ROPE, None], model_type="lfm2", layer_types=["full_attention", "conv"])
    assert made["layer_types"] == ["full_attention", "conv"]


def test_without_a_family_the_rarest_kind_is_called_full_attention():
    other = replace(ROPE, base=1e4)
    made = to_config([other, other, ROPE, None, None, None])
    sliding, chunked = "sliding_attention", "chunked_attention"
    assert made["layer_types"] == [sliding, sliding, "full_attention", *[chunked] * 3]
    assert made["rope_parameters"][chunked] is None


def test_a_fraction_that_division_does_not_give_back():
    """int(head_dim * (rotary_dim / head_dim)) is one less than rotary_dim for some sizes."""
    for head_dim in range(2, 400):
        for rotary_dim in {2, head_dim // 2 // 2 * 2, head_dim // 2 * 2 - 2} - {0}:
            if 0 < rotary_dim < head_dim and int(head_dim * (rotary_dim / head_dim)) < rotary_dim:
                rope = RoPE(head_dim, layout="half", rotary_dim=rotary_dim)
                assert RoPE.from_config(to_config(rope), layout="half") == rope
                return
    pytest.fail("no such sizes")


REFUSED = {
    "frequencies": (
        replace(ROPE, scaling=scaling.Custom((0.5,) * 64)),
        {},
        "a rope_type describes",
    ),
    "steps": (replace(ROPE, scaling=scaling.SteppedNTK(4096)), {}, "a rope_type describes"),
    "published code": (ROPE, {"model_type": "qwen"}, "its own code reads other keys"),
    "negated": (replace(ROPE, scaling=scaling.Negated()), {}, "would be read as"),
    "float32": (replace(ROPE, precision="float32"), {}, "does not say how angles are rounded"),
    "axes": (replace(ROPE, axes=axes.Sections((16, 24, 24))), {}, "pass model_type="),
    "other axes": (
        replace(ROPE, axes=axes.Sections((16, 48))),
        {"model_type": "qwen2_vl_text"},
        "`mrope_section`",
    ),
    "axes that the model lacks": (
        replace(ROPE, axes=axes.Axial(2)),
        {"model_type": "llama"},
        "pass model_type=",
    ),
    "no axes": (ROPE, {"model_type": "pixtral"}, "would be read as"),
    "layout": (RoPE(64, layout="interleaved"), {"model_type": "llama"}, "would be read as"),
    "layouts": ([ROPE, replace(ROPE, layout="interleaved")], {}, "one layout"),
    "start": (RoPE(128, layout="half", rotary_start=64), {}, "would be read as"),
    "part": (RoPE(128, layout="half", rotary_dim=64), {"model_type": "llama"}, "would be read as"),
    "no rotation": ([None, None], {}, "a layer that rotates"),
    "layers alike": ([ROPE, None], {"model_type": "llama"}, "would be read as"),
    "layers that need names": ([ROPE, None], {"model_type": "lfm2"}, "`layer_types` is required"),
    "left out": (ROPE, {"model_type": "bert"}, "no rotary position encoding"),
    "names": ([ROPE, ROPE], {"layer_types": ["full_attention"]}, "a name for each of 2 layers"),
    "unknown name": ([ROPE], {"layer_types": ["nothing"]}, "unknown layer type 'nothing'"),
    "two maxima": (
        [replace(ROPE, scaling=scaling.DynamicNTK(2.0, n)) for n in (1024, 2048)],
        {},
        "`max_position_embeddings` must be one value",
    ),
    "mscale by length": (
        replace(
            ROPE, scaling=scaling.LongRoPE(PAIRS, PAIRS, 4096, short_mscale=1.5, long_mscale=2.0)
        ),
        {},
        "short_mscale",
    ),
    "empty": ([], {}, "at least one layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_config_cannot_describe_is_refused(name):
    ropes, options, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        to_config(ropes, **options)
    assert str(caught.value).startswith("`")


@pytest.mark.parametrize("ropes", [None, "llama", {"model_type": "llama"}, [ROPE, 1], 3])
def test_what_are_no_encodings(ropes):
    with pytest.raises(TypeError, match="`ropes` must be"):
        to_config(ropes)


def test_the_same_numbers_are_the_same_encoding():
    assert is_same(None, None)
    assert not is_same(ROPE, None)
    assert is_same(replace(ROPE, scaling=scaling.Linear(1.0)), ROPE)
    longer = [replace(ROPE, scaling=scaling.DynamicNTK(f, 4096)) for f in (2.0, 4.0)]
    assert not is_same(*longer)  # up to 4096 tokens they are alike
    assert not is_same(ROPE, replace(ROPE, layout="interleaved"))
    split = [RoPE(64, layout="half", axes=axes.Axial(2, split=s)) for s in (False, True)]
    assert not is_same(*split)
    scales = [scaling.LogScale(4096, beta) for beta in (0.1, float(np.float32(0.1)), 0.2)]
    one, rounded, other = (replace(ROPE, query_scale=scale) for scale in scales)
    assert is_same(one, rounded)
    assert not is_same(one, other)
    # GGUF divides by 1e30 what does not turn.
    stopped = [scaling.Proportional(0.5), scaling.FrequencyFactors((1.0,) * 32 + (1e30,) * 32)]
    assert is_same(*(replace(ROPE, scaling=each) for each in stopped))


def test_the_result_is_joined_with_the_rest_of_a_config():
    config = copy.deepcopy(LLAMA)
    rope = replace(ROPE, scaling=scaling.YaRN(4.0, 131072))
    joined = {**config, **to_config([rope] * 32, model_type="llama")}
    assert layer_ropes(joined) == (rope,) * 32
    assert layer_ropes({**llama(), **to_config([ROPE] * 2)}) == (ROPE, ROPE)


def test_what_else_scales_scores_is_written():
    config = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}
    ropes = layer_ropes({**config, "floor_scale": 4096, "attn_scale": 0.2})
    made = to_config(ropes, model_type="llama4_text")
    assert (made["floor_scale"], made["attn_scale"]) == (4096, 0.2)
    assert made["attn_temperature_tuning"] is True
    assert layer_ropes(made) == ropes
    without = layer_ropes({**config, "attn_temperature_tuning": False})
    made = to_config(without, model_type="llama4_text")
    assert made["attn_temperature_tuning"] is False
    # A plain tuple does not say it: what the family has by default is left alone.
    assert "attn_temperature_tuning" not in to_config(tuple(without), model_type="llama4_text")
    scaled = replace(ROPE, query_scale=scaling.LogScale(4096))
    others = LayerRopes([ROPE, None], query_scales=[None, scaling.LogScale(4096)])
    with pytest.raises(ValueError, match="got query_scale=LogScale"):
        to_config(others, model_type="smollm3")
    for model_type in (None, "llama"):
        with pytest.raises(ValueError, match="query_scale=LogScale"):
            to_config(scaled, model_type=model_type)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model_type": {1}}, TypeError, "`model_type` must be a string or None, got {1}"),
        (
            {"form": "gguf", "architecture": 3},
            TypeError,
            "`architecture` must be a string or None, got 3",
        ),
        ({"layer_types": 3}, TypeError, "`layer_types` must be a list of strings, got 3"),
        ({"layer_types": [1]}, TypeError, "`layer_types` must be a list of strings, got [1]"),
        (
            {"form": "gguf", "architecture": "qwen2", "sliding_window": -1},
            ValueError,
            "`sliding_window` must be positive, got -1",
        ),
    ],
)
def test_options_of_another_kind(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        to_config(RoPE(8, layout="half"), **options)


def test_memory_grows_with_the_number_of_layers():
    layers = layer_ropes({"model_type": "gemma3_text", "num_hidden_layers": 5000})
    tracemalloc.start()
    try:
        to_config(layers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24
