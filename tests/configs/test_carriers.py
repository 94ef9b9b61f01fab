"""Configs of litgpt, torchtune and mlx-lm; ``tests/parity/carriers.py`` compares them with these packages."""

import pytest
from config_cases import LLAMA31, llama

from rope_xp import RoPE, configs
from rope_xp._config_reader.carriers.torchtune import read_table
from rope_xp.scaling import Linear, Llama3

PYTHIA = {
    "name": "pythia-160m",
    "block_size": 2048,
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "head_size": 64,
    "rotary_percentage": 0.25,
    "rope_base": 10000,
    "rope_condense_ratio": 1,
    "rope_adjustments": None,
    "rope_interleave": False,
    "norm_class_name": "LayerNorm",
}
RULE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_seq_len": 8192,
}
WHOLE = {**PYTHIA, "n_embd": 4096, "n_head": 32, "head_size": 128, "rotary_percentage": 1.0}
GEMMA3 = {
    **WHOLE,
    "n_layer": 7,
    "rope_base": 1000000,
    "rope_adjustments": {"factor": 8.0},
    "rope_local_base_freq": 10000,
    "rope_indices": [0 if (i + 1) % 6 == 0 else 1 for i in range(7)],
}
MLA = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128}
LLAMA3_RULE = Llama3(8.0, 1.0, 4.0, 8192)
FULL = RoPE(128, layout="half", base=1e6, scaling=Linear(8.0))
LOCAL = RoPE(128, layout="half")
LITGPT = {
    "pythia": (PYTHIA, [RoPE(64, layout="half", rotary_dim=16)] * 12),
    "without a size of a head": (
        {key: value for key, value in PYTHIA.items() if key != "head_size"},
        [RoPE(64, layout="half", rotary_dim=16)] * 12,
    ),
    "llama 3.1": (
        {**WHOLE, "rope_base": 500000, "rope_adjustments": RULE},
        [RoPE(128, layout="half", base=5e5, scaling=LLAMA3_RULE)] * 12,
    ),
    "longchat": (
        {**WHOLE, "rope_condense_ratio": 8},
        [RoPE(128, layout="half", scaling=Linear(8.0))] * 12,
    ),
    "stretched twice": (
        {**WHOLE, "rope_condense_ratio": 2, "rope_adjustments": {"factor": 8.0}},
        [RoPE(128, layout="half", scaling=Linear(16.0))] * 12,
    ),
    "gemma 3": (GEMMA3, [LOCAL] * 5 + [FULL, LOCAL]),
    "gemma 3, all local": ({**GEMMA3, "rope_indices": None}, [LOCAL] * 7),
    "latent attention": (
        {**WHOLE, "latent_attention": MLA, "rope_interleave": True},
        [RoPE(64, layout="interleaved")] * 12,
    ),
}


@pytest.mark.parametrize("name", LITGPT)
def test_litgpt(name):
    config, ropes = LITGPT[name]
    assert configs.layer_ropes(config) == tuple(ropes)


ODD = "`rotary_percentage` must give an even number of the 64 features of a head"
BROKEN_LITGPT = {
    "an odd number": ({**PYTHIA, "rotary_percentage": 0.27}, ODD),
    "nothing": ({**PYTHIA, "rotary_percentage": 0.01}, ODD),
    "more than all": ({**PYTHIA, "rotary_percentage": 1.5}, ODD),
    "a width no multiple of heads": (
        {**PYTHIA, "head_size": None, "n_head": 7},
        "`n_embd` must be a multiple of n_head=7, got 768",
    ),
    "another number in the object": ({**PYTHIA, "rope_n_elem": 32}, "`rope_n_elem` must give"),
    "yarn": (
        {**WHOLE, "rope_adjustments": {**RULE, "beta_fast": 32}},
        "`beta_fast` in rope_adjustments must be absent: litgpt 0.5.13 blends YaRN's frequencies the oth",
    ),
    "an unknown key": (
        {**WHOLE, "rope_adjustments": {"factr": 2.0}},
        "unknown key 'factr' in rope_adjustments; known: factor",
    ),
    "half of a rule": (
        {**WHOLE, "rope_adjustments": {"factor": 2.0, "low_freq_factor": 1.0}},
        "`high_freq_factor` is required in rope_adjustments",
    ),
    "two schedules": (
        {**WHOLE, "rope_adjustments": RULE, "rope_condense_ratio": 2},
        "`rope_condense_ratio` must be 1 beside rope_adjustments, got 2",
    ),
    "indices without a base": (
        {**PYTHIA, "rope_indices": [0] * 12},
        "`rope_local_base_freq` is req",
    ),
    "too few indices": (
        {**GEMMA3, "rope_indices": [0, 1]},
        "`rope_indices` must have n_layer=7 numbers 0 or 1",
    ),
    "a ratio below 1": (
        {**PYTHIA, "rope_condense_ratio": 0.5},
        "`rope_condense_ratio` must be at least 1, got 0.5",
    ),
    "another key": ({**PYTHIA, "rope_style": 1}, "unknown key 'rope_style' in a Config of litgpt"),
}


@pytest.mark.parametrize("name", BROKEN_LITGPT)
def test_broken_litgpt(name):
    config, words = BROKEN_LITGPT[name]
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(config)


def recipe(name, **arguments):
    return {"model": {"_component_": f"torchtune.models.{name}", **arguments}, "seed": None}


SIZES = {"num_layers": 4, "num_heads": 32, "embed_dim": 4096, "max_seq_len": 131072}
RULE_3_1 = RoPE(128, layout="interleaved", base=5e5, scaling=LLAMA3_RULE)
TORCHTUNE = {
    "llama3_1.llama3_1_8b": (recipe("llama3_1.llama3_1_8b"), 32, RULE_3_1),
    "with LoRA": (
        recipe("llama3_1.qlora_llama3_1_8b", lora_attn_modules=["q_proj"], lora_rank=8),
        32,
        RULE_3_1,
    ),
    "of other sizes": (recipe("llama3_1.llama3_1", **SIZES), 4, RULE_3_1),
    "llama3_2.llama3_2_1b": (
        recipe("llama3_2.llama3_2_1b"),
        16,
        RoPE(64, layout="interleaved", base=5e5, scaling=Llama3(32.0, 1.0, 4.0, 8192)),
    ),
    "code_llama2.code_llama2_7b": (
        recipe("code_llama2.code_llama2_7b"),
        32,
        RoPE(128, layout="interleaved", base=1e6),
    ),
    "gemma.gemma_2b": (recipe("gemma.gemma_2b"), 18, RoPE(256, layout="interleaved")),
    "qwen2.qwen2_7b": (recipe("qwen2.qwen2_7b"), 28, RoPE(128, layout="half", base=1e6)),
    "phi3.phi3_mini": (recipe("phi3.phi3_mini"), 32, RoPE(96, layout="half")),
    "PPO": (
        {"policy_model": recipe("mistral.mistral_7b")["model"], "reward_and_value_model": {}},
        32,
        RoPE(128, layout="interleaved"),
    ),
    "the model alone": (recipe("mistral.mistral_7b")["model"], 32, RoPE(128, layout="interleaved")),
}


@pytest.mark.parametrize("name", TORCHTUNE)
def test_torchtune(name):
    config, n_layers, rope = TORCHTUNE[name]
    assert configs.layer_ropes(config) == (rope,) * n_layers


@pytest.mark.parametrize("name", read_table().models)
def test_every_model_of_torchtune(name):
    assert len({*configs.layer_ropes(recipe(f"x.{name}"))}) == 1


def test_what_torchtune_leaves_out():
    lora = recipe("code_llama2.lora_code_llama2_7b")
    assert RoPE.from_config(lora).base == 1e6
    assert "torchtune 0.6.1 builds code_llama2 with LoRA with 10000" in configs.explain(lora)


BROKEN_TORCHTUNE = {
    "an unknown builder": (
        recipe("llama9.llama9_8b"),
        "unknown `_component_` 'torchtune.models.llama9.llama9_8b': no builder of a language model",
    ),
    "another package": (
        {"_component_": "mine.llama2_7b"},
        "unknown `_component_` 'mine.llama2_7b': no builder",
    ),
    "no string": ({"_component_": 7}, "`_component_` must be a string, got 7"),
    "no sizes": (recipe("llama2.llama2"), "`embed_dim` is required"),
    "an argument of the component": (
        recipe("llama2.llama2_7b", rope_base=1000000),
        "unknown key 'rope_base' in llama2_7b",
    ),
    "layers as text": (
        recipe("llama2.llama2", **{**SIZES, "num_layers": "4"}),
        "`num_layers` must be a positive integer, got '4'",
    ),
}


@pytest.mark.parametrize("name", BROKEN_TORCHTUNE)
def test_broken_torchtune(name):
    config, words = BROKEN_TORCHTUNE[name]
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(config)


def test_mlx_says_the_pairing():
    assert RoPE.from_config({**LLAMA31, "rope_traditional": True}).layout == "interleaved"
    assert RoPE.from_config({**LLAMA31, "rope_traditional": False}).layout == "half"
    quantized = {**LLAMA31, "quantization": {"group_size": 64, "bits": 4}}
    assert RoPE.from_config(quantized) == RoPE.from_config(LLAMA31)
    glm = llama("glm4", rope_traditional=False)
    assert RoPE.from_config(glm).layout == "half"
    unknown = {**LLAMA31, "model_type": "plamo", "rope_traditional": False}
    assert RoPE.from_config(unknown) == RoPE.from_config(LLAMA31)


def test_what_mlx_does_not_read():
    with pytest.raises(
        ValueError, match="`rope_traditional` must agree with layout='half', got true"
    ):
        RoPE.from_config({**LLAMA31, "rope_traditional": True}, layout="half")
    qwen3 = llama("qwen3", rope_traditional=True)
    with pytest.raises(
        ValueError, match="is not read by mlx-lm for model_type 'qwen3', whose pairs"
    ):
        RoPE.from_config(qwen3)
    assert RoPE.from_config(qwen3, layout="interleaved").layout == "interleaved"
    assert RoPE.from_config({**qwen3, "rope_traditional": False}).layout == "half"
    with pytest.raises(ValueError, match="`rope_traditional` must be true or false, got 'no'"):
        RoPE.from_config({**LLAMA31, "rope_traditional": "no"})
