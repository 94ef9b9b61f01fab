"""Broken configs, each refused in a sentence that names the key."""

import math

import pytest
from config_cases import DEEPSEEK_V3, GEMMA3, GEMMA3_NEW, LLAMA, LLAMA31, YARN, llama, multi, scaled

from rope_xp import RoPE, configs


def rope(config=LLAMA, **parameters):
    return {**config, "rope_parameters": parameters}


def without(key, config=LLAMA31):
    inside = {k: v for k, v in config["rope_scaling"].items() if k != key}
    return {**{k: v for k, v in config.items() if k != key}, "rope_scaling": inside}


LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 8192, "factor": 4.0}
DYNAMIC = llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
YARNED = {**LLAMA, "rope_scaling": {**YARN, "beta_fast": 32, "beta_slow": 1}}
NESTED = GEMMA3_NEW["rope_parameters"]
# A broken config, and the words that its sentence must have.
BROKEN = {
    "endless factors": (
        rope(**LONGROPE, short_factor=[1.0] * 2**16, long_factor=[1.0]),
        "`short_factor` in rope_parameters must have a number for each rotated pair, got 65536",
    ),
    "no model_type": (
        {k: v for k, v in LLAMA.items() if k != "model_type"},
        "`model_type` is required: pass layout=",
    ),
    "unknown model_type": (llama("lama"), "^unknown model_type 'lama': pass layout="),
    "model_type of another kind": (llama(7), "`model_type` must be a string, got 7"),
    "a family without rotary": (llama("bert"), "`model_type`.*'bert'"),
    "a family that turns hidden states": (llama("wav2vec2-bert"), "`model_type`.*projections"),
    "empty": ({}, "^`model_type` is required"),
    "absurdly many layers": (
        {**llama("llama"), "num_hidden_layers": 10**400},
        r"`num_hidden_layers` must be at most 10000, got 2\*\*1328 or more",
    ),
    "absurd base": ({**llama("llama"), "rope_theta": 10**400}, "`rope_theta` must be a positive"),
    "odd layer numbers": (
        {**llama("embedding_gemma2_text"), "per_layer_config": {"x": {}}},
        "`per_layer_config` must map layer numbers to mappings, got 'x'",
    ),
    "unknown rope_type": (scaled(rope_type="lama3"), "unknown rope_type 'lama3'.*known: default"),
    "rope_type of another kind": (scaled(rope_type=3), "`rope_type` in rope_scaling.*3"),
    "names that differ": (
        scaled(type="yarn"),
        "`rope_type` has conflicting values: 'llama3' as rope_type in rope_scaling but 'yarn' as type",
    ),
    "unknown key": (scaled(facto=8), "unknown key 'facto' in rope_scaling"),
    "a key of another type": (scaled(beta_fast=32), "unknown key 'beta_fast'.*'llama3'"),
    "default with a factor": (rope(rope_type="default", factor=8.0), "unknown key 'factor'"),
    "missing factor": (
        without("factor"),
        "`factor` is required in rope_scaling for rope_type 'llama3'",
    ),
    "missing low": (without("low_freq_factor"), "`low_freq_factor` is required"),
    "missing high": (without("high_freq_factor"), "`high_freq_factor` is required"),
    "missing original": (
        without("original_max_position_embeddings"),
        "`original_max_position_embeddings` is required",
    ),
    "yarn without original": (
        llama(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        "`original_max_position_embeddings` is required",
    ),
    "linear without factor": (
        rope(rope_type="linear"),
        "`factor` is required in rope_parameters",
    ),
    "dynamic without factor": (rope(rope_type="dynamic"), "`factor` is required"),
    "dynamic without a maximum": (
        DYNAMIC,
        "`max_position_embeddings` is required for rope_type 'dynamic'",
    ),
    "longrope without lists": (rope(**LONGROPE), "`long_factor` is required"),
    "factor below 1": (scaled(factor=0.5), "`factor` in rope_scaling must be at least 1, got 0.5"),
    "factor zero": (scaled(factor=0), "`factor` in rope_scaling"),
    "factor negative": (scaled(factor=-8.0), "`factor` in rope_scaling.*-8"),
    "factor as text": (scaled(factor="8"), "`factor` in rope_scaling.*'8'"),
    "factor true": (scaled(factor=True), "`factor` in rope_scaling.*True"),
    "factor null": (scaled(factor=None), "`factor` is required in rope_scaling"),
    "factor not a number": (scaled(factor=math.nan), "`factor` in rope_scaling.*nan"),
    "factor without end": (scaled(factor=math.inf), "`factor` in rope_scaling.*inf"),
    "factor as a list": (scaled(factor=[8.0]), "`factor` in rope_scaling"),
    "high below low": (scaled(high_freq_factor=0.5), "`high_freq_factor` in rope_scaling"),
    "low negative": (scaled(low_freq_factor=-1.0), "`low_freq_factor` in rope_scaling"),
    "original zero": (
        scaled(original_max_position_embeddings=0),
        "`original_max_position_embeddings` in rope_scaling",
    ),
    "original with a fraction": (
        scaled(original_max_position_embeddings=8192.5),
        "`original_max_position_embeddings` in rope_scaling",
    ),
    "original as text": (
        scaled(original_max_position_embeddings="8192"),
        "`original_max_position_embeddings` in rope_scaling",
    ),
    "original in two places": (
        {**LLAMA31, "original_max_position_embeddings": 4096},
        "`original_max_position_embeddings` has conflicting values: 4096 at the top level but 8192 in",
    ),
    "beta_fast below beta_slow": (
        {**YARNED, "rope_scaling": {**YARNED["rope_scaling"], "beta_fast": 0.5}},
        "`beta_fast` in rope_scaling",
    ),
    "beta as text": (
        {**YARNED, "rope_scaling": {**YARNED["rope_scaling"], "beta_slow": "1"}},
        "`beta_slow` in rope_scaling",
    ),
    "truncate as text": (
        {**YARNED, "rope_scaling": {**YARNED["rope_scaling"], "truncate": "yes"}},
        "`truncate` in rope_scaling",
    ),
    "attention_factor negative": (
        {**YARNED, "rope_scaling": {**YARNED["rope_scaling"], "attention_factor": -1.0}},
        "`attention_factor` in rope_scaling",
    ),
    "a name that misses letters": (
        {**YARNED, "rope_scaling": {**YARNED["rope_scaling"], "attn_factor": 1.0}},
        "unknown key 'attn_factor'",
    ),
    "short list": (
        rope(**LONGROPE, short_factor=[1.0] * 63, long_factor=[1.0] * 64),
        "`(short|long)_factor`.*6[34].*6[34]",
    ),
    "both lists too short": (
        rope(**LONGROPE, short_factor=[1.0] * 63, long_factor=[1.0] * 63),
        "`short_factor`.*64.*63",
    ),
    "list with text": (
        rope(**LONGROPE, short_factor=["1"] * 64, long_factor=[1.0] * 64),
        r"`short_factor\[0\]` in rope_parameters.*'1'",
    ),
    "list with zero": (
        rope(**LONGROPE, short_factor=[1.0] * 64, long_factor=[0.0] * 64),
        r"`long_factor\[0\]` in rope_parameters.*0.0",
    ),
    "a number for a list": (
        rope(**LONGROPE, short_factor=1.0, long_factor=[1.0] * 64),
        "`short_factor` in rope_parameters must be a list",
    ),
    "two schedules": (
        {**LLAMA31, "rope_parameters": {"rope_type": "linear", "factor": 8.0}},
        "has conflicting values: .* in rope_scaling but .* in rope_parameters",
    ),
    "two factors": (
        {**LLAMA31, "rope_parameters": {**LLAMA31["rope_scaling"], "factor": 4.0}},
        "`factor` has conflicting values: 8.0 in rope_scaling but 4.0 in rope_parameters",
    ),
    "two bases": (
        rope(rope_theta=1e4),
        "`rope_theta` has conflicting values: 10000.0 in rope_parameters but 500000.0 as rope_theta at",
    ),
    "base negative": ({**LLAMA, "rope_theta": -1.0}, "`rope_theta` must be a positive number"),
    "base zero": ({**LLAMA, "rope_theta": 0}, "`rope_theta` must be a positive number, got 0"),
    "base as text": ({**LLAMA, "rope_theta": "1e4"}, "`rope_theta`.*'1e4'"),
    "base true": ({**LLAMA, "rope_theta": True}, "`rope_theta`.*True"),
    "base as a list": ({**LLAMA, "rope_theta": [1e4, 1e6]}, "`rope_theta`"),
    "base of an unknown family": (
        lambda: RoPE.from_config(llama("x"), layout="half"),
        "rope_theta",
    ),
    "a base the family does not read": (
        {"model_type": "gemma4_text", "num_hidden_layers": 6, "rope_theta": 5e5},
        "`rope_theta` is not read for model_type 'gemma4_text'",
    ),
    "a fixed base": (llama("gptj", rope_theta=5e5), "`rope_theta` is not read"),
    "another family's name of the base": ({**LLAMA, "rotary_emb_base": 1e6}, "`rotary_emb_base`"),
    "a local base where there is none": ({**LLAMA, "rope_local_base_freq": 1.0}, "rope_local_base"),
    "rope_scaling as a list": (
        {**LLAMA, "rope_scaling": [8.0]},
        "`rope_scaling` must be a mapping",
    ),
    "rope_scaling as text": ({**LLAMA, "rope_scaling": "yarn"}, "`rope_scaling` must be a mapping"),
    "rope_parameters as a number": ({**LLAMA, "rope_parameters": 1e4}, "`rope_parameters` must be"),
    "odd head": ({**LLAMA, "head_dim": 127}, "must.*even.*127"),
    "head zero": ({**LLAMA, "head_dim": 0}, "`head_dim` must be a positive integer, got 0"),
    "head as text": ({**LLAMA, "head_dim": "128"}, "`head_dim`.*'128'"),
    "width no multiple of heads": ({**LLAMA, "num_attention_heads": 33}, "`hidden_size`.*33.*4096"),
    "no sizes": ({"model_type": "llama"}, "`hidden_size` is required where there is no head_dim"),
    "no heads": ({"model_type": "llama", "hidden_size": 64}, "`num_attention_heads` is required"),
    "heads negative": ({**LLAMA, "num_attention_heads": -32}, "`num_attention_heads`.*-32"),
    "a head the family does not read": (
        llama("falcon", head_dim=64),
        "`head_dim` must be.*128.*64",
    ),
    "two sizes of the rotated slice": ({**DEEPSEEK_V3, "head_dim": 128}, "`head_dim` must be"),
    "partial above 1": (llama("phi", partial_rotary_factor=1.5), "`partial_rotary_factor`.*1.5"),
    "partial zero": (llama("phi", partial_rotary_factor=0.0), "`partial_rotary_factor`"),
    "partial where heads are whole": (
        {**LLAMA, "partial_rotary_factor": 0.5},
        "rotates whole heads",
    ),
    "partial in two places": (
        rope(llama("phi", partial_rotary_factor=0.5), partial_rotary_factor=0.25),
        "`partial_rotary_factor` has conflicting values: 0.25 in rope_parameters but 0.5",
    ),
    "partial that gives an odd number": (
        {"model_type": "glm4", "head_dim": 42, "partial_rotary_factor": 0.5},
        "`partial_rotary_factor` must give an even number.*21",
    ),
    "partial by another family's name": ({**LLAMA, "rotary_pct": 0.25}, "`rotary_pct` is not read"),
    "too few layer_types": (
        {**GEMMA3_NEW, "num_hidden_layers": 13},
        "`layer_types` must have num_hidden_layers=13 entries, got 12",
    ),
    "unknown layer type": (
        {**GEMMA3_NEW, "layer_types": ["sliding"] * 12},
        "unknown layer type 'sliding' in layer_types",
    ),
    "layer_types as text": ({**GEMMA3_NEW, "layer_types": "full"}, "`layer_types` must be a list"),
    "unknown block type": (
        llama("recurrent_gemma", block_types=["recurrent", "atention"]),
        "unknown block type 'atention' in block_types; known: attention, recurrent",
    ),
    "a dense prefix without layer_types": (
        {"model_type": "cohere2_moe", "first_k_dense_replace": 1},
        "`layer_types` is required for model_type 'cohere2_moe' with first_k_dense_replace",
    ),
    "truncate in two places": (
        {
            "model_type": "gemma4_text",
            "layer_types": ["full_attention"],
            "truncate": False,
            "rope_parameters": {"full_attention": {**YARN, "rope_theta": 1e4, "truncate": True}},
        },
        r"`truncate` in rope_parameters\['full_attention'\] must be False, the top-level value",
    ),
    "yarn without a factor and without a maximum": (
        llama(rope_scaling={**YARN, "factor": None}),
        "`max_position_embeddings` is required for rope_type 'yarn'",
    ),
    "a list of bases beside rope parameters that differ": (
        {
            "model_type": "step3p5",
            "layer_types": ["full_attention"],
            "rope_theta": [1e6],
            "rope_parameters": {"full_attention": {"rope_theta": 1e4}},
        },
        r"`rope_theta` has conflicting values: 10000.0 in rope_parameters\['full.* but 1000000.0 as",
    ),
    "a list of parts beside rope parameters that differ": (
        {
            "model_type": "step3p5",
            "layer_types": ["full_attention"],
            "partial_rotary_factors": [0.5],
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}
            },
        },
        "`partial_rotary_factor` has conflicting values: 1.0 in .* but 0.5 in partial_rotary_fac",
    ),
    "a part that is not known for a layer type": (
        {
            "model_type": "neomme",
            "layer_types": ["chunked_attention"],
            "rope_parameters": {"chunked_attention": {"rope_theta": 1e4}},
        },
        r"`partial_rotary_factor` is required in rope_parameters\['chunked_attention'\]",
    ),
    "layers negative": ({**LLAMA, "num_hidden_layers": -1}, "`num_hidden_layers`.*-1"),
    "a kind of layer without parameters": (
        {**GEMMA3_NEW, "rope_parameters": {"full_attention": NESTED["full_attention"]}},
        "`rope_parameters` must have a mapping or null for 'sliding_attention'",
    ),
    "a flat mapping where layers differ": (
        {**GEMMA3_NEW, "rope_parameters": {"rope_type": "linear", "factor": 8.0}},
        "`rope_parameters` must be one mapping per layer type",
    ),
    "a key beside the kinds of layers": (
        {**GEMMA3_NEW, "rope_parameters": {**NESTED, "rope_theta": 1e6}},
        "unknown key 'rope_theta' in rope_parameters beside",
    ),
    "a mapping per layer type where layers are alike": (
        {**LLAMA, "rope_parameters": NESTED},
        "`rope_parameters` must be one mapping for model_type 'llama'",
    ),
    "a broken kind of layer": (
        {**GEMMA3_NEW, "rope_parameters": {**NESTED, "full_attention": {"rope_type": "linaer"}}},
        r"unknown rope_type 'linaer' in rope_parameters\['full_attention'\]",
    ),
    "an old name that the family ignores": (
        {**GEMMA3, "rope_scaling": {"type": "linear", "factor": 8.0}},
        "`type` in rope_scaling must be called rope_type",
    ),
    "rope_scaling where it has no place": (
        {"model_type": "gemma4_text", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "`rope_scaling` must be absent",
    ),
    "layers that differ": (
        GEMMA3,
        "`layer_type` is required for model_type 'gemma3_text', whose layers differ: full_attention, sl",
    ),
    "a schedule the family refuses": (
        {"model_type": "recurrent_gemma", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "`rope_type` in rope_scaling must be one of default for model_type 'recurrent_gemma'",
    ),
    "no_rope_layers too short": (
        llama("smollm3", num_hidden_layers=4, no_rope_layers=[1, 1]),
        "`no_rope_layers` must have num_hidden_layers=4",
    ),
    "a model without rotation": (
        llama("falcon", alibi=True),
        "^model_type 'falcon' has no rotary encoding unless `alibi` is False$",
    ),
    "sections that do not sum": (
        multi([16, 24, 20]),
        r"`mrope_section` in rope_scaling must sum to n_pairs=64, got \[16, 24, 20\] with sum 60",
    ),
    "sections that do not sum, interleaved": (
        multi([24, 20, 21], "qwen3_vl_text"),
        r"`mrope_section` in rope_scaling must sum to n_pairs=64, got .* with sum 65",
    ),
    "two sections": (
        multi([32, 32]),
        r"`mrope_section` in rope_scaling must have 3 numbers, one per axis, got \[32, 32\]",
    ),
    "four sections": (multi([16, 16, 16, 16]), "`mrope_section`.*must have 3 numbers.*16, 16, 16"),
    "sections as a number": (multi(64), "`mrope_section`.*must be a list of .*integers, got 64"),
    "sections as text": (multi("16,24,24"), "`mrope_section`.*must be a list.*got '16,24,24'"),
    "a section with a fraction": (multi([16.0, 24, 24]), "`mrope_section`.*integers.*16.0"),
    "a negative section": (multi([80, -8, -8]), "`mrope_section`.*non-negative integers.*-8"),
    "no sections, and heads that those of the class do not fit": (
        {**llama("qwen2_vl_text"), "head_dim": 64},
        r"`mrope_section` is required in rope_parameters: \[16, 24, 24\] of .* sums to 64, not to n_pairs=32",
    ),
    "rows and columns that cannot take turns": (
        multi([24, 20, 20], "ernie4_5_vl_moe_text"),
        r"`mrope_section`.*must be equal for axes \[1, 2\].*got \[24, 20, 20\]",
    ),
    "interleaved where sections follow each other": (
        multi([16, 24, 24], mrope_interleaved=True),
        "`mrope_interleaved` in rope_scaling must be false or absent for .*qwen2_vl.*got true",
    ),
    "sections that follow each other where they interleave": (
        multi([24, 20, 20], "qwen3_vl_text", mrope_interleaved=False),
        "`mrope_interleaved`.*must be true or absent.*got false",
    ),
    "interleaved as text": (multi([16, 24, 24], mrope_interleaved="no"), "true or false, got 'no'"),
    "sections for one axis": (
        multi([16, 24, 24], "llama"),
        r"`mrope_section`.*must be absent for .*'llama', which has positions with one axis, got \[16",
    ),
    "sections for an unknown family": (
        lambda: RoPE.from_config(multi([16, 24, 24], "brand_new"), layout="half"),
        "`mrope_section` in rope_scaling must be absent",
    ),
    "sections for a vision tower": (
        multi([16, 24, 24], "qwen3_vl_vision"),
        "`mrope_section`.*must be absent .*'qwen3_vl_vision', which has 2 axes of fixed parts",
    ),
    "an odd number of pairs for two axes": (
        {"model_type": "neomme", "num_hidden_layers": 1, "head_dim": 8},
        "pairs of model_type 'neomme' must be a multiple of its 2 axes, got 1",
    ),
    "heads that two axes cannot share": (
        {"model_type": "qwen3_vl_vision", "hidden_size": 72, "num_heads": 4},
        "`rotary_dim` must be a multiple of 4 for 2 equal axes, got 18",
    ),
    "a schedule for a vision tower": (
        rope(llama("pixtral"), rope_type="linear", factor=2.0),
        "`rope_type` in rope_parameters must be one of axial, default for model_type 'pixtral', got 'linear'",
    ),
    "a partial vision tower": (
        rope(llama("pixtral"), partial_rotary_factor=0.5),
        "`partial_rotary_factor`.*rotates whole heads, got 0.5",
    ),
    "a vision part without a name": (
        lambda: RoPE.from_config({"patch_size": 14, "hidden_size": 64}, layout="half"),
        "`model_type` is required for a vision tower, a config with patch_size",
    ),
    "a vision tower without sizes of its own": (
        {"model_type": "dinov3_vit"},
        "`hidden_size` is required where there is no head_dim",
    ),
    "a width that heads do not divide, under its own name": (
        {"model_type": "qwen2_vl_vision", "embed_dim": 100, "num_heads": 16},
        "`embed_dim` must be a multiple of num_attention_heads=16, got 100",
    ),
    "unknown architecture in GGUF": (
        {"general.architecture": "new", "new.embedding_length": 64},
        "^unknown model_type 'gguf new': pass layout=",
    ),
    "unknown scaling in GGUF": (
        {"general.architecture": "llama", "llama.rope.scaling.type": "su"},
        "rope.scaling.type 'su'; known: none, linear, yarn, longrope",
    ),
    "a text part of another kind": (
        {"model_type": "llava", "text_config": "llama"},
        "`text_config`",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configs_are_refused_with_a_sentence(name):
    config, words = BROKEN[name]
    with pytest.raises(ValueError, match=words) as caught:
        config() if callable(config) else RoPE.from_config(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [None, 7, [LLAMA31], LLAMA31.items()], ids=repr)
def test_what_is_no_config(config):
    with pytest.raises(TypeError, match="`config` must be a mapping, a config object, a path"):
        RoPE.from_config(config)


def test_arguments():
    types = "one of 'full_attention', 'sliding_attention'"
    with pytest.raises(ValueError, match=f"`layer_type` must be {types}, got 'full'"):
        RoPE.from_config(GEMMA3, layer_type="full")
    with pytest.raises(ValueError, match="`layer_type` must be None for model_type 'llama', whose"):
        RoPE.from_config(LLAMA31, layer_type="full_attention")
    with pytest.raises(ValueError, match="`num_hidden_layers` is required for one encoding per"):
        configs.layer_ropes({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"})
    with pytest.raises(ValueError, match="`layer_types` is required for one encoding per layer"):
        configs.layer_ropes(llama("lfm2_moe", num_hidden_layers=4))


@pytest.mark.parametrize("read", [RoPE.from_config, configs.layer_ropes])
@pytest.mark.parametrize("argument", [{"layout": "rows"}, {"precision": "double"}])
def test_arguments_that_are_not_from_the_config(read, argument):
    """Without "(from rope_scaling)", which is for what the config says."""
    (name, value), *_ = argument.items()
    with pytest.raises(ValueError, match=name) as caught:
        read(LLAMA31, **argument)
    assert value in str(caught.value)
    assert "rope_scaling" not in str(caught.value)


def test_what_a_rope_refuses_is_said_with_its_source():
    lists = {"short_factor": [1.0] * 63, "long_factor": [1.0] * 63}
    with pytest.raises(ValueError, match=r"n_pairs=64.*got 63 \(from rope_parameters\)$"):
        RoPE.from_config(rope(**LONGROPE, **lists))
