"""`configs`: what real config files say, what broken ones get told, and how it is explained."""

import copy
import importlib.util
import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, configs
from rope_xp._config_reader.families import table
from rope_xp.axes import Axial, AxisPerPair, InterleavedSections, Sections
from rope_xp.scaling import (
    NTK,
    DynamicNTK,
    FrequencyFactors,
    Linear,
    Llama3,
    LongRoPE,
    Negated,
    Proportional,
    YaRN,
)

LLAMA31 = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
LLAMA = {k: v for k, v in LLAMA31.items() if k != "rope_scaling"}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
GEMMA3 = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "num_hidden_layers": 12,
    "head_dim": 256,
    "rope_theta": 1e6,
    "rope_local_base_freq": 10000.0,
    "sliding_window_pattern": 6,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}
GEMMA3_NEW = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 12,
    "head_dim": 256,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
    "rope_theta": 10000,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
}
SHORT, LONG = [1.0 + 0.1 * i for i in range(48)], [1.0 + i for i in range(48)]
PHI3 = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rope_scaling": {"short_factor": SHORT, "long_factor": LONG, "type": "longrope"},
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "head_dim": 64,
    "num_hidden_layers": 36,
    "max_position_embeddings": 131072,
    "rope_theta": 150000,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
}
GEMMA4 = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 6,
    "head_dim": 256,
    "global_head_dim": 512,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1e6,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}


def llama(model_type="llama", **keys):
    return {"model_type": model_type, "hidden_size": 4096, "num_attention_heads": 32, **keys}


ONE = {
    "llama 3.1": (
        LLAMA31,
        RoPE(
            128,
            layout="half",
            base=500000.0,
            scaling=Llama3(8.0, 1.0, 4.0, original_max_position_embeddings=8192),
        ),
    ),
    "llama 2, whose file has no base": (llama(), RoPE(128, layout="half")),
    "qwen2.5 with yarn": (
        llama("qwen2", rope_theta=1e6, max_position_embeddings=32768, rope_scaling=YARN),
        RoPE(128, layout="half", base=1e6, scaling=YaRN(4.0, 32768)),
    ),
    "qwen3, whose heads do not follow from the width": (
        {"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16, "rope_theta": 1e6},
        RoPE(128, layout="half", base=1e6),
    ),
    "qwen3, new style": (
        {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        RoPE(128, layout="half", base=1e6),
    ),
    "deepseek v3": (
        DEEPSEEK_V3,
        RoPE(64, layout="interleaved", scaling=YaRN(40, 4096, mscale=1.0, mscale_all_dim=1.0)),
    ),
    "deepseek v3 with halves": (
        {**DEEPSEEK_V3, "rope_interleave": False, "rope_scaling": None},
        RoPE(64, layout="half"),
    ),
    "gpt-oss": (
        GPT_OSS,
        RoPE(64, layout="half", base=150000.0, scaling=YaRN(32.0, 4096, truncate=False)),
    ),
    "phi 3": (
        PHI3,
        RoPE(
            96,
            layout="half",
            scaling=LongRoPE(tuple(SHORT), tuple(LONG), 4096, max_position_embeddings=131072),
        ),
    ),
    "glm 4": (
        {"model_type": "glm4", "head_dim": 128, "partial_rotary_factor": 0.5},
        RoPE(128, layout="interleaved", rotary_dim=64),
    ),
    "gpt-neox": (
        llama(
            "gpt_neox",
            hidden_size=6144,
            num_attention_heads=64,
            rotary_pct=0.25,
            rotary_emb_base=10000,
        ),
        RoPE(96, layout="half", rotary_dim=24),
    ),
    "gpt-j": (
        {"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "rotary_dim": 64},
        RoPE(256, layout="interleaved", rotary_dim=64),
    ),
    "falcon": (llama("falcon", hidden_size=4544, num_attention_heads=71), RoPE(64, layout="half")),
    "minimax m2": (
        {"model_type": "minimax_m2", "head_dim": 128, "rotary_dim": 64, "rope_theta": 5e6},
        RoPE(128, layout="half", rotary_dim=64, base=5e6),
    ),
    "phi": (
        llama("phi", hidden_size=2560, partial_rotary_factor=0.4),
        RoPE(80, layout="half", rotary_dim=32),
    ),
    "persimmon, half of the head by default": (
        llama("persimmon", num_attention_heads=64, rope_theta=25000.0),
        RoPE(64, layout="half", rotary_dim=32, base=25000.0),
    ),
    "mistral with a dynamic schedule": (
        llama(
            "mistral",
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        ),
        RoPE(128, layout="half", scaling=DynamicNTK(2.0, 4096)),
    ),
    "hunyuan": (
        llama(
            "hunyuan_v1_dense",
            head_dim=128,
            max_position_embeddings=262144,
            rope_scaling={"alpha": 1000.0, "factor": 1.0, "type": "dynamic", "mscale": 1.0},
        ),
        RoPE(128, layout="half", scaling=NTK(1000.0)),
    ),
    "cohere 2": (
        llama("cohere2", num_hidden_layers=8, rope_theta=50000),
        RoPE(128, layout="interleaved", base=50000.0),
    ),
    "llama 4": (
        {"model_type": "llama4_text", "num_hidden_layers": 8, "head_dim": 128, "rope_theta": 5e5},
        RoPE(128, layout="interleaved", base=500000.0),
    ),
    "nanochat turns backwards": (
        {"model_type": "nanochat", "hidden_size": 768, "num_attention_heads": 6},
        RoPE(128, layout="half", scaling=Negated()),
    ),
    "deepseek v4, compressed layers": (
        {"model_type": "deepseek_v4", "layer_types": ["heavily_compressed_attention"]},
        RoPE(512, layout="interleaved", rotary_dim=64, rotary_start=448, base=160000.0),
    ),
    "llava, whose text part leaves out what its class has": (
        {"model_type": "llava", "text_config": {"model_type": "llama", "rope_theta": 1e4}},
        RoPE(128, layout="half"),
    ),
    "qwen2-vl with its old name of the schedule, keys at the top": (
        llama(
            "qwen2_vl",
            rope_theta=1e6,
            rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]},
        ),
        RoPE(128, layout="half", base=1e6, axes=Sections((16, 24, 24))),
    ),
    "qwen3-vl, the text part of a composite": (
        {
            "model_type": "qwen3_vl",
            "text_config": {
                "model_type": "qwen3_vl_text",
                "head_dim": 32,
                "rope_parameters": {
                    "rope_theta": 5e6,
                    "mrope_section": [6, 5, 5],
                    "mrope_interleaved": True,
                },
            },
            "vision_config": {"model_type": "qwen3_vl_vision", "patch_size": 16},
        },
        RoPE(32, layout="half", base=5e6, axes=InterleavedSections((6, 5, 5))),
    ),
    "qwen3.5, whose sections are those of its class": (
        {"model_type": "qwen3_5_text"},
        RoPE(256, layout="half", rotary_dim=64, axes=InterleavedSections((11, 11, 10))),
    ),
    "qwen3-vl without sections, and other heads than its class": (
        {"model_type": "qwen3_vl_text", "head_dim": 8},
        RoPE(8, layout="half", base=5e5, axes=AxisPerPair((0, 1, 2, 0))),
    ),
    "qwen3-vl without sections, and wider heads": (
        {"model_type": "qwen3_vl_text", "head_dim": 144},
        RoPE(144, layout="half", base=5e5, axes=AxisPerPair((0, 1, 2) * 20 + (0,) * 12)),
    ),
    "glm-4v, half of the head, adjacent pairs": (
        llama("glm4v_text", partial_rotary_factor=0.5, rope_scaling={"mrope_section": [8, 12, 12]}),
        RoPE(128, layout="interleaved", rotary_dim=64, axes=Sections((8, 12, 12))),
    ),
    "ernie 4.5 vl, rows and columns in turns, then time": (
        llama("ernie4_5_vl_moe_text"),
        RoPE(128, layout="interleaved", base=5e5, axes=AxisPerPair((1, 2) * 22 + (0,) * 20)),
    ),
    "qwen2-vl's vision part, with the name of the composite": (
        {"model_type": "qwen2_vl", "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16}
        | {"patch_size": 14, "depth": 32},
        RoPE(80, layout="half", axes=Axial(2)),
    ),
    "pixtral": (
        {"model_type": "pixtral", "hidden_size": 1024, "num_attention_heads": 16}
        | {"rope_theta": 5e3},
        RoPE(64, layout="half", base=5e3, axes=Axial(2, frequencies="shared")),
    ),
    "gemma 4, vision": (
        {"model_type": "gemma4_vision"},
        RoPE(64, layout="half", base=100.0, axes=Axial(2, split=True)),
    ),
    "llama 4, vision": (
        {"model_type": "llama4_vision_model", "rope_parameters": {"rope_theta": 1e4}},
        RoPE(48, layout="interleaved", axes=Axial(2, axis_order=(1, 0))),
    ),
    "dinov3": (
        {"model_type": "dinov3_vit", "hidden_size": 384, "num_attention_heads": 6},
        RoPE(64, layout="half", base=100.0, axes=Axial(2, scale=2 * math.pi)),
    ),
    "minimax m3, vision: three axes leave two features": (
        {"model_type": "minimax_m3_vl_vision", "rope_parameters": {"rope_type": "axial"}},
        RoPE(80, layout="half", rotary_dim=78, axes=Axial(3)),
    ),
    "sam 2, the memory attention": (
        {"model_type": "sam2_video", "memory_attention_hidden_size": 256}
        | {"memory_attention_downsample_rate": 2, "memory_attention_num_attention_heads": 4},
        RoPE(32, layout="interleaved", axes=Axial(2)),
    ),
    "both spellings that agree": (
        {**LLAMA31, "rope_parameters": {**LLAMA31["rope_scaling"], "rope_theta": 500000.0}},
        RoPE(128, layout="half", base=500000.0, scaling=Llama3(8.0, 1.0, 4.0, 8192)),
    ),
}


@pytest.mark.parametrize("name", ONE)
def test_one_rope_for_a_model(name):
    config, rope = ONE[name]
    before = copy.deepcopy(config)
    found = RoPE.from_config(config)
    assert found == rope
    assert config == before, "the config was changed"
    assert hash(found) == hash(rope)
    assert pickle.loads(pickle.dumps(found)) == found
    classes = (Llama3, YaRN, LongRoPE, DynamicNTK, NTK, Negated, RoPE)
    classes += (AxisPerPair, Axial, InterleavedSections, Sections)
    names = {c.__name__: c for c in classes}
    assert eval(repr(found), names) == rope
    assert RoPE.from_config(config, precision="float32").precision == "float32"


def test_deepseek_multiplies_the_softmax_scale_and_qwen_the_tables():
    mscale = 0.1 * math.log(40) + 1
    assert RoPE.from_config(DEEPSEEK_V3).frequencies().softmax_factor == pytest.approx(mscale**2)
    assert RoPE.from_config(DEEPSEEK_V3).frequencies().attention_factor == 1.0
    qwen = RoPE.from_config(ONE["qwen2.5 with yarn"][0]).frequencies()
    assert (qwen.attention_factor, qwen.softmax_factor) == (0.1 * math.log(4) + 1, 1.0)
    flat = llama(rope_scaling={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0})
    assert RoPE.from_config(flat).frequencies().softmax_factor == 1.0


def pattern(config):
    """One letter per layer: its distinct RoPE as a letter, '.' for none."""
    letters = {}
    return "".join(
        "." if rope is None else letters.setdefault(rope, "abcdef"[len(letters)])
        for rope in configs.layer_ropes(config)
    )


LAYERS = {
    "all alike": (LLAMA | {"num_hidden_layers": 4}, "aaaa"),
    "gemma 3": (GEMMA3, "aaaaabaaaaab"),
    "gemma 3, new style": (GEMMA3_NEW, "aaaaabaaaaab"),
    "gemma 4": (GEMMA4, "aaaaab"),
    "cohere 2": (ONE["cohere 2"][0], "aaa.aaa."),
    "llama 4": (ONE["llama 4"][0], "aaa.aaa."),
    "smollm 3": (llama("smollm3", num_hidden_layers=8, no_rope_layer_interval=4), "aaa.aaa."),
    "smollm 3, listed": (
        llama("smollm3", num_hidden_layers=4, no_rope_layers=[0, 1, 1, 0]),
        ".aa.",
    ),
    "modernbert": (
        {
            "model_type": "modernbert",
            "hidden_size": 768,
            "num_attention_heads": 12,
            "num_hidden_layers": 7,
            "global_attn_every_n_layers": 3,
            "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0,
        },
        "abbabba",
    ),
    "qwen 3 next": ({"model_type": "qwen3_next", "num_hidden_layers": 8}, "...a...a"),
    "exaone 4 without a window": (
        llama("exaone4", num_hidden_layers=4, sliding_window=None),
        "aaaa",
    ),
    "exaone 4": (llama("exaone4", num_hidden_layers=4, sliding_window=4096), "aaa."),
    "granite with bases per layer": (
        llama("granite_swa", num_hidden_layers=4, layer_rope_theta=[0, 1e4, 5e5, 1e4]),
        ".aba",
    ),
    "molmo 2": (
        {
            "model_type": "molmo2_text",
            "num_hidden_layers": 3,
            "max_position_embeddings": 4096,
            "rope_scaling_layers": [1],
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        },
        "aba",
    ),
    "null means no rotation": (
        {
            "model_type": "beam",
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {"sliding_attention": {"rope_theta": 1e4}, "full_attention": None},
        },
        "a.",
    ),
    "falcon with alibi": (llama("falcon", num_hidden_layers=2, alibi=True), ".."),
    "lfm 3, vision: convolutions between": (
        {"model_type": "lfm3_vl_vision", "num_hidden_layers": 3}
        | {"layer_types": ["conv", "conv", "full_attention"]},
        "..a",
    ),
    "mllama": (
        llama("mllama_text_model", num_hidden_layers=3, cross_attention_layers=[1]),
        "a.a",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_rope_for_each_layer(name):
    config, letters = LAYERS[name]
    assert pattern(config) == letters


def test_gemma_3_has_one_base_per_kind_of_layer_in_both_styles():
    full = RoPE(256, layout="half", base=1e6, scaling=Linear(8.0))
    for config in (GEMMA3, GEMMA3_NEW):
        assert RoPE.from_config(config, layer_type="full_attention") == full
        assert RoPE.from_config(config, layer_type="sliding_attention") == RoPE(256, layout="half")


def test_gemma_4_has_wider_full_layers():
    full = RoPE(512, layout="half", base=1e6, scaling=Proportional(0.25))
    assert RoPE.from_config(GEMMA4, layer_type="full_attention") == full
    assert RoPE.from_config(GEMMA4, layer_type="sliding_attention") == RoPE(256, layout="half")


def test_layout_is_for_families_that_are_not_known_and_goes_first():
    config = llama("brand_new", rope_theta=1e4)
    assert RoPE.from_config(config, layout="interleaved") == RoPE(128, layout="interleaved")
    assert RoPE.from_config(LLAMA, layout="interleaved").layout == "interleaved"
    partial = RoPE.from_config({**config, "partial_rotary_factor": 0.5}, layout="half")
    assert partial == RoPE(128, layout="half", rotary_dim=64)


def test_gguf():
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 8192,
        "llama.embedding_length": 576,
        "llama.attention.head_count": 9,
        "llama.rope.freq_base": 100000.0,
        "llama.rope.dimension_count": 64,
    }
    assert RoPE.from_config(metadata) == RoPE(64, layout="interleaved", base=100000.0)
    assert len(configs.layer_ropes(metadata)) == 2
    yarn = {
        **{k.replace("llama", "qwen2"): v for k, v in metadata.items()},
        "general.architecture": "qwen2",
        "qwen2.rope.scaling.type": "yarn",
        "qwen2.rope.scaling.factor": 4.0,
        "qwen2.rope.scaling.original_context_length": 32768,
    }
    assert RoPE.from_config(yarn).scaling == YaRN(4.0, 32768)
    assert RoPE.from_config(yarn).layout == "half"
    factors = {**metadata, "rope_freqs.weight": [1.0] * 16 + [8.0] * 16}
    assert RoPE.from_config(factors).scaling == FrequencyFactors((1.0,) * 16 + (8.0,) * 16)


def test_from_files(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA31))
    rope = RoPE.from_config(LLAMA31)
    assert RoPE.from_config(path) == RoPE.from_config(str(path)) == rope
    assert RoPE.from_config(tmp_path) == rope
    for text in ("[1]", "{", '"llama"'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^`config` must"):
            RoPE.from_config(path)
    with pytest.raises(ValueError, match="`config` must be a readable"):
        RoPE.from_config(tmp_path / "nothing")


def test_the_numbers_that_transformers_tests_publish():
    config = {**LLAMA, "head_dim": 128, "rope_theta": 10000.0, "max_position_embeddings": 2048}
    plain = RoPE.from_config(config).frequencies().inv_freq
    np.testing.assert_allclose(plain[:4], [1.0, 0.86596, 0.74989, 0.64938], atol=1e-5)
    scaled = {"rope_type": "dynamic", "factor": 10.0}
    dynamic = RoPE.from_config({**config, "rope_scaling": scaled})
    np.testing.assert_array_equal(dynamic.frequencies(1024).inv_freq, plain)
    assert dynamic.frequencies(16384).inv_freq[-1] < plain[-1] / 10


def test_every_family_of_the_table_has_its_group_and_its_source():
    held = table()
    assert len(held["models"]) >= 239
    assert set(held["vision_part_of"].values()) <= set(held["models"])
    assert not set(held["vision_part_of"]) & set(held["models"])
    left_out = [name for names in held["left_out"].values() for name in names]
    assert not set(left_out) & set(held["models"])
    assert set(held["text_part_of"].values()) <= set(held["models"])
    for name, family in held["models"].items():
        assert family["layout"] in ("half", "interleaved"), name
        assert "modeling_" in family["source"], name


def scaled(**keys):
    return {**LLAMA31, "rope_scaling": {**LLAMA31["rope_scaling"], **keys}}


def without(key, config=LLAMA31):
    inside = {k: v for k, v in config["rope_scaling"].items() if k != key}
    return {**{k: v for k, v in config.items() if k != key}, "rope_scaling": inside}


def rope(config=LLAMA, **parameters):
    return {**config, "rope_parameters": parameters}


def multi(sections, model_type="qwen2_vl_text", **keys):
    return llama(model_type, rope_scaling={"mrope_section": sections, **keys})


LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 8192, "factor": 4.0}
DYNAMIC = llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
YARNED = {**LLAMA, "rope_scaling": {**YARN, "beta_fast": 32, "beta_slow": 1}}
NESTED = GEMMA3_NEW["rope_parameters"]

# A broken config, and the words that its sentence must have.
BROKEN = {
    "no model_type": ({k: v for k, v in LLAMA.items() if k != "model_type"}, "model_type"),
    "unknown model_type": (llama("lama"), "`model_type`.*'lama'.*layout="),
    "model_type of another kind": (llama(7), "`model_type` must be a string, got 7"),
    "a family without rotary": (llama("bert"), "`model_type`.*'bert'"),
    "a family that turns hidden states": (llama("wav2vec2-bert"), "`model_type`.*projections"),
    "empty": ({}, "model_type"),
    "absurdly many layers": (
        {**llama("llama"), "num_hidden_layers": 10**400},
        r"`num_hidden_layers` must be at most 2\*\*31, got 2\*\*1328 or more",
    ),
    "absurd base": ({**llama("llama"), "rope_theta": 10**400}, "`rope_theta` must be a positive"),
    "odd layer numbers": (
        {**llama("embedding_gemma2_text"), "per_layer_config": {"x": {}}},
        "`per_layer_config` must map layer numbers to mappings, got 'x'",
    ),
    "unknown rope_type": (scaled(rope_type="lama3"), "unknown rope_type 'lama3'.*known: default"),
    "rope_type of another kind": (scaled(rope_type=3), "`rope_type` in rope_scaling.*3"),
    "names that differ": (scaled(type="yarn"), "`rope_type` and `type`.*'llama3' and 'yarn'"),
    "unknown key": (scaled(facto=8), "unknown key 'facto' in rope_scaling"),
    "a key of another type": (scaled(beta_fast=32), "unknown key 'beta_fast'.*'llama3'"),
    "default with a factor": (rope(rope_type="default", factor=8.0), "unknown key 'factor'"),
    "missing factor": (without("factor"), "`factor` must be given in rope_scaling"),
    "missing low": (without("low_freq_factor"), "`low_freq_factor` must be given"),
    "missing high": (without("high_freq_factor"), "`high_freq_factor` must be given"),
    "missing original": (without("original_max_position_embeddings"), "`original_max_position_emb"),
    "yarn without original": (
        llama(rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        "`original_max_position_embeddings` must be given",
    ),
    "linear without factor": (
        rope(rope_type="linear"),
        "`factor` must be given in rope_parameters",
    ),
    "dynamic without factor": (rope(rope_type="dynamic"), "`factor`"),
    "dynamic without a maximum": (DYNAMIC, "`max_position_embeddings` must be given"),
    "longrope without lists": (rope(**LONGROPE), "`long_factor` must be given"),
    "factor below 1": (scaled(factor=0.5), "`factor` in rope_scaling must be at least 1, got 0.5"),
    "factor zero": (scaled(factor=0), "`factor` in rope_scaling"),
    "factor negative": (scaled(factor=-8.0), "`factor` in rope_scaling.*-8"),
    "factor as text": (scaled(factor="8"), "`factor` in rope_scaling.*'8'"),
    "factor true": (scaled(factor=True), "`factor` in rope_scaling.*True"),
    "factor null": (scaled(factor=None), "`factor` in rope_scaling"),
    "factor not a number": (scaled(factor=math.nan), "`factor` in rope_scaling.*nan"),
    "factor without end": (scaled(factor=math.inf), "`factor` in rope_scaling.*inf"),
    "factor as a list": (scaled(factor=[8.0]), "`factor` in rope_scaling"),
    "high below low": (scaled(high_freq_factor=0.5), "`high_freq_factor` in rope_scaling"),
    "high equal to low": (scaled(high_freq_factor=1.0), "`high_freq_factor` in rope_scaling"),
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
        "`original_max_position_embeddings` must be the same.*4096.*8192",
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
        "must be the same in rope_scaling and rope_parameters",
    ),
    "two factors": (
        {**LLAMA31, "rope_parameters": {**LLAMA31["rope_scaling"], "factor": 4.0}},
        "`factor` must be the same in rope_scaling and rope_parameters, got 8.0 and 4.0",
    ),
    "two bases": (rope(rope_theta=1e4), "`rope_theta` must be the same.*10000.0.*500000.0"),
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
    "no sizes": ({"model_type": "llama"}, "`hidden_size` must be given"),
    "no heads": ({"model_type": "llama", "hidden_size": 64}, "`num_attention_heads` must be given"),
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
        "`partial_rotary_factor` must be the same",
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
    "layers that differ": (GEMMA3, "`layer_type` must be given.*full_attention, sliding_attention"),
    "a schedule the family refuses": (
        {"model_type": "recurrent_gemma", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "`rope_type` in rope_scaling must be of default",
    ),
    "no_rope_layers too short": (
        llama("smollm3", num_hidden_layers=4, no_rope_layers=[1, 1]),
        "`no_rope_layers` must have num_hidden_layers=4",
    ),
    "a model without rotation": (llama("falcon", alibi=True), "alibi"),
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
        r"`mrope_section` must be given .* sum to n_pairs=32, got nothing, and \[16, 24, 24\].*64",
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
        "`rope_type` in rope_parameters must be of axial, default for model_type 'pixtral', got 'linear'",
    ),
    "a partial vision tower": (
        rope(llama("pixtral"), partial_rotary_factor=0.5),
        "`partial_rotary_factor`.*rotates whole heads, got 0.5",
    ),
    "a vision part without a name": (
        lambda: RoPE.from_config({"patch_size": 14, "hidden_size": 64}, layout="half"),
        "`model_type` must name the vision tower where there is a patch_size, got nothing",
    ),
    "a vision tower without sizes of its own": (
        {"model_type": "dinov3_vit"},
        "`hidden_size` must be given",
    ),
    "a width that heads do not divide, under its own name": (
        {"model_type": "qwen2_vl_vision", "embed_dim": 100, "num_heads": 16},
        "`embed_dim` must be a multiple of num_attention_heads=16, got 100",
    ),
    "unknown architecture in GGUF": (
        {"general.architecture": "new", "new.embedding_length": 64},
        "`model_type`.*layout=",
    ),
    "unknown scaling in GGUF": (
        {"general.architecture": "llama", "llama.rope.scaling.type": "longrope"},
        "rope.scaling.type 'longrope'",
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
    with pytest.raises(TypeError, match="`config` must be a mapping, a path"):
        RoPE.from_config(config)


def test_arguments():
    with pytest.raises(ValueError, match="unknown layer_type 'full'; known: full_attention"):
        RoPE.from_config(GEMMA3, layer_type="full")
    with pytest.raises(ValueError, match="unknown layer_type 'full_attention'; known: none"):
        RoPE.from_config(LLAMA31, layer_type="full_attention")
    with pytest.raises(ValueError, match="layout"):
        RoPE.from_config(LLAMA31, layout="rows")
    with pytest.raises(ValueError, match="precision"):
        RoPE.from_config(LLAMA31, precision="double")
    with pytest.raises(ValueError, match="`num_hidden_layers` must be given"):
        configs.layer_ropes({k: v for k, v in LLAMA.items() if k != "num_hidden_layers"})


def test_explain_says_what_matters():
    told = configs.explain(LLAMA31)
    for words in (
        "llama: 32 layers",
        "half: feature i turns with i + 64",
        "500,000",
        "Llama3(factor=8.0",
        "29 unchanged, 6 blended, 29 interpolated by 8",
        "within 8,192 tokens",
        "within 131,072 tokens",
    ):
        assert words in told
    gemma = configs.explain(GEMMA3)
    assert "full_attention: layers 5, 11 (2)" in gemma
    assert "sliding_attention: layers 0-4, 6-10 (10)" in gemma
    assert "96 stopped" not in gemma
    assert "192 stopped" in configs.explain(GEMMA4)
    assert "rotation          none" in configs.explain(ONE["cohere 2"][0])
    assert "within 100,000 tokens" in configs.explain(PHI3, 100_000)
    assert "LongRoPE(short_factor=(1, …, 5.7)" in configs.explain(PHI3)
    assert configs.explain(PHI3, 100_000) != configs.explain(PHI3)


def test_a_layer_whose_pairs_all_stand_is_explained():
    config = copy.deepcopy(GEMMA4)
    config["rope_parameters"]["full_attention"]["partial_rotary_factor"] = 0.001
    told = configs.explain(config)
    assert "without end to without end tokens per turn" in told
    assert "256 stopped" in told


def test_wavelengths_and_turns_by_hand():
    config = {"model_type": "qwen3", "head_dim": 4, "rope_theta": 100.0}
    told = configs.explain({**config, "max_position_embeddings": 60})
    assert "6.28 to 62.8 tokens per turn" in told  # 2π and 2π · 10
    assert "1 of 2 pairs within 60 tokens" in told
    assert "2 of 2 pairs within 63 tokens" in configs.explain(config, 63)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "rope_xp", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA31))
    done = command("explain", path, "--seq-len", "8192")
    assert (done.returncode, done.stdout) == (0, configs.explain(LLAMA31, 8192) + "\n")
    path.write_text(json.dumps(scaled(factor=0.5)))
    done = command("explain", tmp_path)
    assert done.returncode == 2
    assert "`factor` in rope_scaling must be at least 1, got 0.5" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    done = command("explain", tmp_path / "nothing.json")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_plot(tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(ImportError, match="needs matplotlib"):
            configs.plot(LLAMA31, tmp_path / "out.png")
        return
    configs.plot(LLAMA31, tmp_path / "out.png")
    configs.plot(GEMMA4, tmp_path / "out.svg")
    configs.plot({"model_type": "pixtral"}, tmp_path / "axes.svg")
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "out.svg").read_text()
    with pytest.raises(ValueError, match="layers that rotate"):
        configs.plot(LAYERS["falcon with alibi"][0], tmp_path / "none.png")


# Text of three axes at time 2, row 3, column 5; images at row 3, column 5. Heads of 8 and base 1e4
# have frequencies 1, 0.1, 0.01, 0.001; half of them, of an axis by itself, 1 and 0.01.
ANGLES = {
    "sections": ("qwen2_vl_text", [1, 1, 2], [2, 0.3, 0.05, 0.005]),
    "interleaved": ("qwen3_vl_text", [2, 1, 1], [2, 0.3, 0.05, 0.002]),
    "turns, then time": ("ernie4_5_vl_moe_text", [1, 1, 2], [3, 0.5, 0.02, 0.002]),
    "own frequencies": ("qwen2_5_vl_vision", None, [3, 0.03, 5, 0.05]),
    "shared frequencies": ("pixtral", None, [3, 0.03, 0.5, 0.005]),
    "columns first": ("llama4_vision_model", None, [5, 0.05, 3, 0.03]),
    "alternating, columns first": ("kimi_k25_vision", None, [5, 3, 0.05, 0.03]),
    "split": ("gemma4_vision", None, [3, 0.03, 5, 0.05]),
}


@pytest.mark.parametrize("name", ANGLES)
def test_which_axis_turns_which_pair(name):
    model_type, sections, angles = ANGLES[name]
    config = {"model_type": model_type, "head_dim": 8, "rope_theta": 1e4}
    at = [[3], [5]]
    if sections:
        config["rope_scaling"], at = {"mrope_section": sections}, [[2], [3], [5]]
    cos, sin = RoPE.from_config(config).cos_sin(np.array(at))
    np.testing.assert_allclose(
        np.arctan2(sin, cos), [np.angle(np.exp(1j * np.array(angles)))], atol=1e-6
    )


def test_neomme_alternates_and_minimax_has_three_axes_and_dinov3_turns_per_unit():
    kinds = {"sliding_attention": {"rope_theta": 1e4}}
    config = {"model_type": "neomme", "layer_types": ["sliding_attention"], "head_dim": 8}
    rope = RoPE.from_config({**config, "rope_parameters": kinds})
    assert rope.axes == AxisPerPair((0, 1, 0, 1))
    np.testing.assert_allclose(rope.frequencies().inv_freq.sum(axis=0), [1, 0.1, 0.01, 0.001])

    rope = RoPE.from_config({"model_type": "minimax_m3_vl_vision", "head_dim": 14})
    found = rope.frequencies().inv_freq
    np.testing.assert_allclose(found.T @ [2, 3, 5], [2, 0.02, 3, 0.03, 5, 0.05])
    rope = RoPE.from_config({"model_type": "minimax_m3_vl_vision", "head_dim": 10})
    assert rope.rotary_dim == 6

    config = {"model_type": "dinov3_vit", "hidden_size": 16, "num_attention_heads": 2}
    found = RoPE.from_config(config).frequencies().inv_freq
    np.testing.assert_allclose(found.T @ [-0.5, 0.25] / math.pi, [-1, -0.1, 0.5, 0.05])


@pytest.mark.parametrize(
    "name", [n for n, f in table()["models"].items() if f.get("axes", {}).get("mrope_section")]
)
def test_text_is_turned_as_by_one_axis(name):
    family = table()["models"][name]
    pairs = sum(family["axes"]["mrope_section"])
    head_dim = round(2 * pairs / (family.get("partial", 1.0)))
    kind = {"layer_types": ["sliding_attention"]} if family["nested"] else {}
    rope = RoPE.from_config({"model_type": name, "head_dim": head_dim, **kind})
    one = replace(rope, axes=None)
    x = np.random.default_rng(0).standard_normal((2, 3, 7, head_dim)).astype(np.float32)
    np.testing.assert_array_equal(rope(x, offset=100), one(x, offset=100))
    np.testing.assert_array_equal(rope.shift(rope(x), 5), one.shift(one(x), 5))
    assert not np.array_equal(rope(x, positions=np.arange(21).reshape(3, 7)), one(x))


def test_gemma_4_pairs_the_features_of_each_axis_by_themselves():
    rope = RoPE.from_config({"model_type": "gemma4_vision", "head_dim": 8})
    x = np.random.default_rng(0).standard_normal((2, 8))
    one = RoPE(4, layout="half", base=100.0)
    rows, columns = np.array([1, 7]), np.array([3, 0])
    parts = one(x[:, :4], positions=rows), one(x[:, 4:], positions=columns)
    np.testing.assert_allclose(rope(x, positions=np.stack((rows, columns))), np.hstack(parts))


def test_several_axes_are_explained():
    told = configs.explain({**multi([16, 24, 24]), "max_position_embeddings": 131072})
    for words in (
        "3, by Sections(sections=(16, 24, 24))",
        "axis 0, time      pairs 0-15 (16), 6.28 to 160 steps per turn",
        "axis 2, column    pairs 40-63 (24), 3.53e+04 to ",
        " of 64 pairs within 131,072 tokens",
    ):
        assert words in told
    told = configs.explain({"model_type": "llama4_vision_model"})
    assert "2, by Axial(widths=2, axis_order=(1, 0))" in told
    assert "axis 0, row       pairs 12-23 (12), 6.28 to 2.92e+04 steps per turn" in told
    assert "the class token, the last one, stands at (0, 0)" in told
    told = configs.explain({"model_type": "gemma4_vision"})
    assert "feature i turns with i + 16, within the features of each axis" in told
    scaled = multi([16, 24, 24], rope_type="linear", factor=2.0)
    assert "pairs: 64 interpolated by 2" in configs.explain(scaled)
    nothing = configs.explain(multi([32, 0, 32]))
    assert "axis 1, row       no pairs" in nothing


@pytest.mark.backend("jax")
def test_static_under_jit():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    turn = jax.jit(lambda rope, x: rope(x), static_argnums=0)
    x = jax.numpy.ones((3, 64))
    config = DEEPSEEK_V3
    np.testing.assert_allclose(
        turn(RoPE.from_config(config), x), RoPE.from_config(config)(x), atol=1e-6
    )
    assert rope_xp.RoPE.from_config(config) is not RoPE.from_config(config)


LISTS = {
    "model_type": "step3p5",
    "num_hidden_layers": 2,
    "layer_types": ["full_attention", "sliding_attention"],
    "rope_theta": [1e6, 1e4, 1e4],
    "partial_rotary_factors": [0.5, 1.0, 1.0],
}


def test_bases_and_parts_that_stand_in_lists_per_layer():
    assert configs.layer_ropes(LISTS) == (
        RoPE(128, layout="half", base=1e6, rotary_dim=64),
        RoPE(128, layout="half"),
    )
    with pytest.raises(ValueError, match="`rope_theta` must be the same for all layers of type"):
        configs.layer_ropes({**LISTS, "layer_types": ["full_attention"] * 2})
    with pytest.raises(ValueError, match="`rope_theta` must have num_hidden_layers=2 entries"):
        configs.layer_ropes({**LISTS, "rope_theta": [1e4]})


def test_deepseek_v4_calls_its_layers_by_their_ratios():
    config = {"model_type": "deepseek_v4", "num_hidden_layers": 3, "compress_ratios": [0, 4, 128]}
    assert pattern(config) == "abb"
    with pytest.raises(ValueError, match="`compress_ratios` must be of 0, 4, 128, got 7"):
        pattern({**config, "compress_ratios": [7, 4, 128]})
