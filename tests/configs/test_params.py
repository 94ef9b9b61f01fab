"""The params.json of Meta's, Mistral's and DeepSeek's own code.

Where the same model is also published with a config.json, both must come out alike but for the pairing:
its converter permutes the weights, and the slice of latent attention is interleaved in both.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from config_cases import DEEPSEEK_V3, LLAMA31

from rope_xp import RoPE, configs
from rope_xp.scaling import FloorLogScale

LLAMA = {"dim": 4096, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "multiple_of": 256}
LLAMA3 = {**LLAMA, "rope_theta": 500000.0, "vocab_size": 128256, "n_kv_heads": 8}
LLAMA4 = {
    "dim": 5120,
    "n_heads": 40,
    "n_layers": 48,
    "norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "nope_layer_interval": 4,
    "attention_chunk_size": 8192,
    "vocab_size": 202048,
}
MISTRAL = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "vocab_size": 32000,
}
MINISTRAL3 = {
    **MISTRAL,
    "rope_theta": 1e6,
    "max_position_embeddings": 262144,
    "vocab_size": 131072,
    "yarn": {
        "factor": 16.0,
        "original_max_position_embeddings": 16384,
        "beta": 32.0,
        "alpha": 1.0,
        "apply_scale": False,
    },
    "llama_4_scaling": {"original_max_position_embeddings": 16384, "beta": 0.1},
}
DEEPSEEK = {
    "dim": 7168,
    "inter_dim": 18432,
    "n_layers": 61,
    "n_heads": 128,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


def as_interleaved(config, **changes):
    return replace(RoPE.from_config({**config, **changes}), layout="interleaved")


LLAMA31_RULE = LLAMA31["rope_scaling"]
PLAIN = {"model_type": "llama", "head_dim": 128}
# A params.json, and the same from the config.json of the model, or by hand.
CASES = {
    "llama 1": ({**LLAMA, "vocab_size": -1}, RoPE(128, layout="interleaved", base=1e4)),
    "llama 2": ({**LLAMA, "vocab_size": 32000}, RoPE(128, layout="interleaved", base=1e4)),
    "code llama": ({**LLAMA, "rope_theta": 1e6}, RoPE(128, layout="interleaved", base=1e6)),
    "llama 3": (LLAMA3, RoPE(128, layout="interleaved", base=5e5)),
    "llama 3, as its code has it": (
        {**LLAMA, "vocab_size": 128256},
        RoPE(128, layout="interleaved", base=5e5),
    ),
    "llama 3.1": ({**LLAMA3, "use_scaled_rope": True}, as_interleaved(LLAMA31)),
    "llama 3.2": (
        {**LLAMA3, "dim": 2048, "use_scaled_rope": True},
        as_interleaved(LLAMA31, hidden_size=2048, rope_scaling={**LLAMA31_RULE, "factor": 32.0}),
    ),
    "a factor in the file": (
        {**LLAMA3, "dim": 2048, "use_scaled_rope": True, "rope_scaling_factor": 8.0},
        as_interleaved(LLAMA31, hidden_size=2048),
    ),
    "mistral 0.1": ({**MISTRAL, "sliding_window": 4096}, RoPE(128, layout="interleaved", base=1e4)),
    "mistral 0.2": (MISTRAL, RoPE(128, layout="interleaved", base=1e6)),
    "mixtral": (
        {**MISTRAL, "rope_theta": 1e6, "moe": {"num_experts": 8, "num_experts_per_tok": 2}},
        RoPE(128, layout="interleaved", base=1e6),
    ),
    "deepseek v3": (DEEPSEEK, RoPE.from_config(DEEPSEEK_V3)),
    "deepseek, short": (
        {**DEEPSEEK, "max_seq_len": 4096},
        RoPE(64, layout="interleaved", base=1e4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_the_other_publication(name, tmp_path):
    config, rope = CASES[name]
    found = configs.layer_ropes(config)
    assert len(found) == config["n_layers"]
    assert {*found} == {rope}
    (tmp_path / "params.json").write_text(json.dumps(config))
    assert configs.layer_ropes(tmp_path) == found


def test_the_rule_of_llama_3_1():
    """As ``apply_scaling`` in models/llama3/model.py writes it: wavelengths 2048 and 8192, factor 8."""
    own = [500000.0 ** (-i / 64) for i in range(64)]
    expected = []
    for f in own:
        turns = 8192 * f / (2 * math.pi)
        share = min(max((turns - 1) / 3, 0.0), 1.0)
        expected.append((1 - share) * f / 8 + share * f)
    found = RoPE.from_config({**LLAMA3, "use_scaled_rope": True}).frequencies()
    np.testing.assert_allclose(found.inv_freq, expected, rtol=1e-12)


def test_every_fourth_layer_of_llama_4_does_not_rotate():
    found = configs.layer_ropes(LLAMA4)
    assert [rope is None for rope in found] == [False, False, False, True] * 12
    assert {rope for rope in found if rope} == {RoPE(128, layout="interleaved", base=5e5)}
    assert None not in configs.layer_ropes({**LLAMA4, "nope_layer_interval": None})
    rope = RoPE.from_config(
        {
            **LLAMA4,
            "use_scaled_rope": True,
            "rope_scaling_factor": 8.0,
            "rope_high_freq_factor": 4.0,
        }
    )
    assert rope == as_interleaved(LLAMA31)


def test_yarn_of_mistral():
    rope = RoPE.from_config(MINISTRAL3)
    assert (rope.frequencies().attention_factor, rope.frequencies().softmax_factor) == (1.0, 1.0)
    published = {**MINISTRAL3["yarn"], "beta_fast": 32.0, "beta_slow": 1.0, "rope_theta": 1e6}
    published |= {"rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 1.0}
    for key in ("beta", "alpha", "apply_scale"):
        del published[key]
    hf = RoPE.from_config(
        {"model_type": "ministral3", "head_dim": 128, "rope_parameters": published}
    )
    np.testing.assert_array_equal(rope.frequencies().inv_freq, hf.frequencies().inv_freq)
    applied = {**MINISTRAL3["yarn"], "apply_scale": True}
    found = RoPE.from_config({**MINISTRAL3, "yarn": applied}).frequencies().attention_factor
    assert found == pytest.approx(0.1 * math.log(16) + 1)
    assert rope.query_scale == FloorLogScale(16384, 0.1)
    large = {**MINISTRAL3, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128}
    assert (RoPE.from_config(large).head_dim, RoPE.from_config(large).layout) == (64, "interleaved")


BROKEN = {
    "no base": (LLAMA, "`rope_theta` is required where there is no vocab_size"),
    "odd width": ({**LLAMA3, "n_heads": 33}, "`dim` must be a multiple of n_heads=33, got 4096"),
    "no width": ({**LLAMA3, "dim": None}, "`dim` is required"),
    "layers as text": ({**LLAMA3, "n_layers": "32"}, "`n_layers` must be a positive integer, got"),
    "another rule": (
        {**LLAMA3, "rope_scale": 2.0},
        "unknown key 'rope_scale' in params.json llama",
    ),
    "a flag as text": (
        {**LLAMA3, "use_scaled_rope": "yes"},
        "`use_scaled_rope` must be true or false",
    ),
    "a head that the code does not read": (
        {**LLAMA4, "head_dim": 64},
        "`head_dim` must be hidden_size // num_attention_heads = 128",
    ),
    "no attention": (
        {"model_type": "mamba", "dim": 4096, "n_layers": 64},
        "with attention, got 'm",
    ),
    "unknown key of yarn": (
        {**MINISTRAL3, "yarn": {**MINISTRAL3["yarn"], "gamma": 1.0}},
        "unknown key 'gamma' in yarn; known: factor",
    ),
    "yarn without a factor": (
        {**MINISTRAL3, "yarn": {"beta": 32.0}},
        "`factor` and `original_max_position_embeddings` are required in yarn",
    ),
    "another length for the query": (
        {**MINISTRAL3, "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1}},
        "`original_max_position_embeddings` in llama_4_scaling must be that in yarn, 16384, got 8192",
    ),
    "factors of latent attention": (
        {
            **MINISTRAL3,
            "qk_rope_head_dim": 64,
            "yarn": {**MINISTRAL3["yarn"], "apply_scale": True},
        },
        "`apply_scale` in yarn must be false with latent attention",
    ),
    "another deepseek": (
        {**DEEPSEEK, "compress_ratios": [4, 128]},
        "unknown key 'compress_ratios' in params.json deepseek",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_params(name):
    config, words = BROKEN[name]
    with pytest.raises(ValueError, match=words):
        configs.layer_ropes(config)


def test_a_config_of_transformers_that_has_these_keys_is_no_params_json():
    distilbert = {"dim": 768, "n_heads": 12, "n_layers": 6, "hidden_dim": 3072}
    for model_type in ({"model_type": "distilbert"}, {}):
        with pytest.raises(ValueError, match="`model_type`"):
            configs.layer_ropes({**distilbert, **model_type})
