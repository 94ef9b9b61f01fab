"""What real config files say: one encoding for a model."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from config_cases import DEEPSEEK_V3, GPT_OSS, LLAMA, LLAMA31, LONG, PHI3, SHORT, YARN, llama

import rope_xp
from rope_xp import RoPE, configs
from rope_xp.axes import Axial, AxisPerPair, InterleavedSections, Sections
from rope_xp.scaling import NTK, DynamicNTK, FrequencyFactors, Llama3, LongRoPE, Negated, YaRN

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
    "minimax m3, whose rotary_dim transformers does not read": (
        {"model_type": "minimax_m3_vl_text", "head_dim": 128, "rotary_dim": 64, "rope_theta": 5e6},
        RoPE(128, layout="half", rotary_dim=64, base=5e6),
    ),
    "hy4, whose pairs are adjacent": (
        {"model_type": "hy_v4", "qk_rope_head_dim": 64, "head_dim": 64, "rope_theta": 1e7},
        RoPE(64, layout="interleaved", base=1e7),
    ),
    "exaone 3, with its old name of the layers": (
        {"model_type": "exaone", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 32}
        | {"max_position_embeddings": 4096, "rope_theta": 5e5},
        RoPE(128, layout="half", base=5e5),
    ),
    "sarvam, its own name of YaRN and the head of a compressed cache": (
        {"model_type": "sarvam_mla", "head_dim": 576, "qk_rope_head_dim": 64, "rope_theta": 1e4}
        | {"rope_scaling": {"type": "deepseek_yarn", "factor": 40.0, "mscale": 1.0}}
        | {"original_max_position_embeddings": 4096},
        RoPE(64, layout="interleaved", scaling=YaRN(40.0, 4096, mscale=1.0)),
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
    "hunyuan without a maximum, which its schedule does not need": (
        llama("hunyuan_v1_dense", rope_scaling={"alpha": 50.0, "factor": 1.0, "type": "dynamic"}),
        RoPE(128, layout="half", scaling=NTK(50.0)),
    ),
    "yarn without a factor: the maximum over the original context": (
        llama(
            max_position_embeddings=8192,
            rope_scaling={**YARN, "factor": None, "original_max_position_embeddings": 2048},
        ),
        RoPE(128, layout="half", scaling=YaRN(4.0, 2048)),
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
        RoPE(64, layout="half", base=100.0, axes=Axial(2, axis_order=(1, 0), split=True)),
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
        RoPE(32, layout="interleaved", axes=Axial(2, axis_order=(1, 0))),
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
