"""A `RoPE` for each layer: which layers rotate, and by what."""

import pytest
from config_cases import GEMMA3, GEMMA3_NEW, GEMMA4, LLAMA, llama

from rope_xp import RoPE, configs
from rope_xp.scaling import Linear, Proportional


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
    "cohere 2": (llama("cohere2", num_hidden_layers=8, rope_theta=50000), "aaa.aaa."),
    "llama 4": ({"model_type": "llama4_text", "num_hidden_layers": 8, "head_dim": 128}, "aaa.aaa."),
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
    "cohere 2 moe: dense layers rotate, too": (
        {
            "model_type": "cohere2_moe",
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "mlp_layer_types": ["dense", "dense", "sparse", "sparse"],
        },
        "aa.a",
    ),
    "cohere 2 moe with windows in the dense layers": (
        {
            "model_type": "cohere2_moe",
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "mlp_layer_types": ["dense", "dense", "sparse", "sparse"],
            "prefix_dense_sliding_window_pattern": 2,
        },
        ".a.a",
    ),
    "bamba, which numbers its attention layers": (
        llama("bamba", num_hidden_layers=3, attn_layer_indices=[1]),
        ".a.",
    ),
    "lfm 2, which numbers them by another key": (
        llama("lfm2", num_hidden_layers=3, full_attn_idxs=[0, 2]),
        "a.a",
    ),
    "recurrent gemma": (llama("recurrent_gemma", num_hidden_layers=6), "..a..a"),
    "recurrent gemma with other blocks": (
        llama("recurrent_gemma", num_hidden_layers=4, block_types=["attention", "recurrent"]),
        "a.a.",
    ),
    "muse glimmer, counted from the last layer": (
        {"model_type": "muse_glimmer_text", "num_hidden_layers": 6},
        "a.aaa.",
    ),
    "muse glimmer, listed": (
        {"model_type": "muse_glimmer_text", "num_hidden_layers": 4}
        | {"layer_rope_theta": [0, 1e4, 1e4, 0]},
        ".aa.",
    ),
    "longcat, with two attentions in a layer": (
        {"model_type": "longcat_flash", "num_layers": 2},
        "aaaa",
    ),
    "lfm 3: a first layer, then a cycle": (
        {"model_type": "lfm3", "num_hidden_layers": 5},
        "..a.b",
    ),
    "lara mini: windows rotate, the others have no positions": (
        {"model_type": "lara_mini", "num_hidden_layers": 7},
        ".a..a.a",
    ),
    "dory": ({"model_type": "dory", "num_hidden_layers": 5}, "aaaba"),
    "dory, with the entries for MLPs that its files have": (
        {"model_type": "dory", "num_hidden_layers": 4}
        | {"layer_types": ["sliding_attention", "mlp", "full_attention", "mlp"]},
        "a.b.",
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


LISTS = {
    "model_type": "step3p5",
    "num_hidden_layers": 2,
    "layer_types": ["full_attention", "sliding_attention"],
    "rope_theta": [1e6, 1e4, 1e4],
    "partial_rotary_factors": [0.5, 1.0, 1.0],
}


def test_bases_and_parts_in_lists_per_layer():
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
    with pytest.raises(ValueError, match="unknown ratio 7 in compress_ratios; known: 0, 4, 128"):
        pattern({**config, "compress_ratios": [7, 4, 128]})
    with pytest.raises(ValueError, match="`compress_ratios` must have num_hidden_layers=3 entries"):
        pattern({**config, "compress_ratios": [0, 4]})


def test_layer_types_that_rotate_alike_need_no_choice():
    """Wherever in the file each of them is described."""
    alike = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    nested = {"full_attention": alike, "sliding_attention": dict(alike)}
    rope = RoPE.from_config({**GEMMA3_NEW, "rope_parameters": nested})
    assert rope == RoPE(256, layout="half", base=1e6, scaling=Linear(8.0))


def test_layers_counted_from_the_last_are_called_so():
    config = {"model_type": "muse_glimmer_text", "num_hidden_layers": 6}
    sliding = RoPE.from_config(config, layer_type="sliding_attention")
    assert sliding == RoPE(128, layout="half")
    with pytest.raises(ValueError, match=r"no rotary encoding in layers of type 'full_attention'$"):
        RoPE.from_config(config, layer_type="full_attention")


def test_dots_3_has_slices_of_its_own_in_sliding_layers():
    config = {"model_type": "dots3_note_text", "num_hidden_layers": 3}
    assert [rope.head_dim for rope in configs.layer_ropes(config)] == [64, 64, 64]
    wider = {**config, "swa_head_dim": 320}  # 320 - 192 features without rotation
    assert [rope.head_dim for rope in configs.layer_ropes(wider)] == [64, 64, 128]
    given = {**config, "swa_qk_rope_head_dim": 32}
    assert [rope.head_dim for rope in configs.layer_ropes(given)] == [64, 64, 32]
    each = {**config, "per_layer_config": {"2": {"qk_rope_head_dim": 16}}}
    assert [rope.head_dim for rope in configs.layer_ropes(each)] == [64, 64, 16]
