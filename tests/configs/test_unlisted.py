"""Families that are in no table: what `layout=` answers, and what it does not."""

import math
import re

import pytest
from config_cases import LLAMA, YARN, llama

from rope_xp import RoPE, configs
from rope_xp.scaling import Linear

NEW = llama("brand_new", num_hidden_layers=4, rope_theta=1e4)

# Keys that could change the rotation, with a value that does, and the words of the way out.
REFUSED = {
    "rotary_pct": (0.25, "partial_rotary_factor"),
    "rope_pct": (0.25, "partial_rotary_factor"),
    "rotary_percentage": (0.5, "partial_rotary_factor"),
    "rotary_emb_fraction": (0.5, "partial_rotary_factor"),
    "rope_ratio": (50, "rope_theta"),
    "rope_scaling_factor": (2.0, "rope_scaling"),
    "kv_channels": (64, "head_dim"),
    "d_kv": (64, "head_dim"),
    "qk_head_dim": (64, "head_dim"),
    "position_embedding_base": (5e5, "rope_theta"),
    "max_wavelength": (5e5, "rope_theta"),
    "seq_len_interpolation_factor": (2.0, "rope_scaling"),
    "rope_dim": (64, "rotary_dim"),
    "use_dynamic_ntk": (True, "false or absent"),
    "use_logn_attn": (True, "false or absent"),
    "rotary_emb_interleaved": (True, "layout='interleaved'"),
    "is_neox_style": (False, "layout='half'"),
    "no_rope_layers": ([1, 1, 1, 0], "layer_types"),
    "block_configs": ([{}] * 4, "layer_types"),
    "sliding_window_pattern": (6, "layer_types"),
    "rope_local_base_freq": (1e3, "rope_parameters"),
    "global_rope_theta": (1e6, "rope_parameters"),
    "layer_types": (
        ["full_attention", "sliding_attention"] * 2,
        "full_attention, sliding_attention",
    ),
    "position_embedding_type": ("alibi", "'rope'"),
    "position_embedding": ("alibi", "'rope'"),
    "pos_emb": ("learned", "'rope'"),
    "alibi": (True, "false or absent"),
    "logn_attn": (True, "false or absent"),
    "gptj_style": (True, "layout='interleaved'"),
    "use_rope": (False, "true or absent"),
    "rotary": ({"base": 5e5, "type": "dynamic"}, "rope_theta"),
    "mrope_section": ([16, 24, 24], "several axes"),
    "xdrope_section": ([16, 16, 16, 16], "several axes"),
    "my_rope_setting": (3, "keys of transformers"),
    "yarn_factor": (4.0, "keys of transformers"),
    "attention_mscale": (1.2, "keys of transformers"),
    "inv_theta": ("x", "keys of transformers"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_could_change_the_rotation_is_refused_by_name(key):
    value, words = REFUSED[key]
    with pytest.raises(ValueError, match=f"^`{key}`.*{re.escape(words)}") as caught:
        RoPE.from_config({**NEW, key: value}, layout="half")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [key for key in REFUSED if key != "layer_types"])
def test_null_counts_as_absent(key):
    assert RoPE.from_config({**NEW, key: None}, layout="half") == RoPE(128, layout="half")


@pytest.mark.parametrize(
    ("nested", "named"),
    [
        ({"attn_config": {"rope_theta": 5e5}}, "attn_config.rope_theta"),
        ({"attn_config": {"alibi": True}}, "attn_config.alibi"),
        ({"attention": {"rotary_percentage": 0.5}}, "attention.rotary_percentage"),
        ({"ssm_cfg": {"my_yarn": 3}}, "ssm_cfg.my_yarn"),
    ],
)
def test_a_key_inside_of_a_mapping_is_refused_by_name(nested, named):
    with pytest.raises(ValueError, match=f"^`{re.escape(named)}` could change the rotation"):
        RoPE.from_config({**NEW, **nested}, layout="half")


# Keys that say what is read anyway, or that are about something else.
HARMLESS = [
    {"rotary_pct": 1.0},
    {"rotary_emb_fraction": 1},
    {"rope_ratio": 1.0},
    {"rope_scaling_factor": 1.0},
    {"kv_channels": 128},
    {"d_kv": 128, "max_wavelength": 1e4, "pos_emb": "rotary", "gptj_style": False},
    {"qk_rope_head_dim": 128, "qk_nope_head_dim": 64, "qk_head_dim": 192},
    {"rope_dim": 128},
    {"rotary_emb_interleaved": False},
    {"is_neox_style": True},
    {"position_embedding_type": "rope"},
    {"alibi": False, "use_rope": True, "use_mrope": False, "use_dynamic_ntk": False},
    {"layer_types": ["full_attention"] * 4, "sliding_window_pattern": 1},
    {"rope_base": 1e4, "rope_local_base_freq": 1e4},
    {"attn_config": {"rope_theta": 1e4, "alibi": False}},
    {"vision_config": {"rope_theta": 3.0}, "quantization_config": {"skip_rope": True}},
    {"rope_dtype": "float32", "use_fused_rope": True, "rotary_cache_len": 3},
    {
        "unsloth_version": "2024.9",
        "_name_or_path": "x",
        "property_of": 3,
        "transformers_version": "4",
    },
    {"rope_scaling": None, "rope_parameters": None},
    {"rope_scaling": {"rope_type": "default", "factor": None}},
]


@pytest.mark.parametrize("keys", HARMLESS, ids=str)
def test_a_key_that_changes_nothing_is_passed_over(keys):
    assert RoPE.from_config({**NEW, **keys}, layout="half") == RoPE(128, layout="half")


def test_a_fraction_that_agrees_with_what_is_read():
    keys = {"rotary_pct": 0.5, "rope_dim": 64, "partial_rotary_factor": 0.5}
    rope = RoPE.from_config({**NEW, **keys}, layout="interleaved")
    assert rope == RoPE(128, layout="interleaved", rotary_dim=64)


def test_layers_that_differ_are_not_made_alike_but_read_by_type():
    bases = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": None}
    types = ["full_attention", "sliding_attention", "linear_attention", "full_attention"]
    config = {k: v for k, v in NEW.items() if k != "rope_theta"}
    config |= {"layer_types": types, "rope_parameters": bases, "sliding_window_pattern": 2}
    full = RoPE(128, layout="half", base=1e6)
    assert configs.layer_ropes(config, layout="half") == (full, None, None, full)
    without = {**NEW, "layer_types": ["linear_attention", "full_attention"] * 2}
    plain = RoPE(128, layout="half")
    assert configs.layer_ropes(without, layout="half") == (None, plain) * 2


def test_other_names_of_sizes_and_of_the_base():
    config = {"model_type": "x", "n_embd": 2048, "n_head": 16, "n_layer": 3, "rotary_emb_base": 5e5}
    assert configs.layer_ropes(config, layout="half") == (RoPE(128, layout="half", base=5e5),) * 3
    for key in ("num_layers", "n_layers", "num_transformer_layers"):
        config = {"model_type": "x", "head_dim": 64, "rope_theta": 1e4, key: 2}
        assert len(configs.layer_ropes(config, layout="half")) == 2
    dynamic = {"max_seq_len": 2048, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    rope = RoPE.from_config({**NEW, **dynamic}, layout="half")
    assert rope.scaling.max_position_embeddings == 2048
    with pytest.raises(ValueError, match=r"`n_head` must be a positive integer, got '16'"):
        RoPE.from_config({**config, "n_head": "16"}, layout="half")
    with pytest.raises(
        ValueError, match=r"conflicting values: 10000.0 as rope_theta at the top level but"
    ):
        RoPE.from_config({**NEW, "rotary_emb_base": 5e5}, layout="half")


def test_latent_attention_keeps_its_factor_on_the_scores():
    config = llama("my_deepseek", qk_rope_head_dim=64, rope_theta=1e4)
    config["rope_scaling"] = {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    found = RoPE.from_config(config, layout="interleaved").frequencies()
    assert found.softmax_factor == pytest.approx((0.1 * math.log(40) + 1) ** 2)
    assert found.attention_factor == 1.0
    with pytest.raises(ValueError, match=r"`rope_interleave` could change.*layout='interleaved'"):
        RoPE.from_config({**config, "rope_interleave": False}, layout="interleaved")
    # Without it, it is Llama's rule.
    heads = llama("my_deepseek", qk_rope_head_dim=0, use_mla=False, rope_theta=1e4)
    assert RoPE.from_config(heads, layout="half") == RoPE(128, layout="half")


def test_what_an_unknown_model_type_is_answered():
    with pytest.raises(ValueError, match=r"base 10000.0 \(rope_theta\), the whole head"):
        RoPE.from_config(NEW)
    own = {"auto_map": {"AutoModel": "modeling_x.XModel"}, "rope_ratio": 2, "alibi": True}
    words = "its own code says how it rotates, in auto_map: .*modeling_x.*: rope_ratio, alibi$"
    with pytest.raises(ValueError, match=words):
        RoPE.from_config({**NEW, **own})
    with pytest.raises(ValueError, match=r"^unknown model_type 'lama': .*or write 'llama'"):
        RoPE.from_config(llama("lama"))
    for keys, words in (
        ({"qk_rope_head_dim": 64}, r"64 features \(qk_rope_head_dim\)"),
        ({"head_dim": 96}, r"the whole head of 96 \(head_dim\)"),
        ({"partial_rotary_factor": 0.5}, "a part of the head"),
        ({"rope_scaling": {"rope_type": "linear"}}, ", rope_scaling$"),
    ):
        with pytest.raises(ValueError, match=words):
            RoPE.from_config({**NEW, **keys})
    with pytest.raises(ValueError, match=r"no base \(rope_theta is missing\)"):
        RoPE.from_config(llama("brand_new"))
    with pytest.raises(ValueError, match=r"no rotary .* own code \(auto_map\)"):
        RoPE.from_config(llama("bert", auto_map={"AutoModel": "x"}))


MISSPELT = [
    "rope_thetha",
    "rop_theta",
    "rope_scalling",
    "partial_rotary_facter",
    "max_position_embedding",
]


@pytest.mark.parametrize("key", MISSPELT)
@pytest.mark.parametrize("config", [LLAMA, NEW], ids=["known", "unknown"])
def test_a_near_miss_of_a_key_is_named(key, config):
    with pytest.raises(ValueError, match=f"`{key}` must be called (rope|partial|max)_"):
        RoPE.from_config({**config, key: 5e5}, layout="half")
    assert RoPE.from_config({**config, key: None}, layout="half").head_dim == 128


def test_a_key_that_only_looks_like_another_is_none():
    tower = {"model_type": "qwen3_vl_vision", "hidden_size": 1152, "num_heads": 16}
    assert RoPE.from_config({**tower, "num_position_embeddings": 2304}).head_dim == 72
    assert RoPE.from_config({**LLAMA, "rope_ratio": 1, "max_window_layers": 3}).head_dim == 128


@pytest.mark.parametrize(
    "key", ["rotary_base", "rope_freq_base", "rope_base_freq", "rotary_emb_base"]
)
def test_another_name_of_the_base_must_agree(key):
    assert RoPE.from_config({**LLAMA, key: 500000.0}).base == 500000.0
    with pytest.raises(ValueError, match=f"`{key}` is not read for model_type 'llama'"):
        RoPE.from_config({**LLAMA, key: 1e6})


# -- keys inside of the rope parameters that change nothing -----------------------------------------


def test_remarks_in_rope_scaling():
    yarn = {**YARN, "finetuned": True}
    assert RoPE.from_config({**LLAMA, "rope_scaling": yarn}).scaling.factor == 4.0
    linear = {"rope_type": "linear", "factor": 2.0, "beta_fast": None}
    assert RoPE.from_config({**LLAMA, "rope_scaling": linear}).scaling == Linear(2.0)
    sections = {"mrope_section": [24, 20, 20], "mrope_interleaved": True, "interleaved": True}
    text = {"model_type": "qwen3_omni_moe_text", "head_dim": 128, "rope_theta": 1e6}
    assert RoPE.from_config({**text, "rope_scaling": sections}).axes is not None
    for wrong in ({**sections, "interleaved": False}, {"interleaved": True}):
        with pytest.raises(
            ValueError, match=r"unknown key 'interleaved'.*known: mrope_interleaved, mro"
        ):
            RoPE.from_config({**text, "rope_scaling": wrong})


# -- switches ---------------------------------------------------------------------------------------

FALCON = {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71}
ESM = {"model_type": "esm", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
SMOLLM3 = llama("smollm3", num_hidden_layers=4)


def pattern(config):
    return [rope is not None for rope in configs.layer_ropes(config)]


def test_switches_that_are_null_or_lists_of_true_and_false():
    assert pattern({**FALCON, "num_hidden_layers": 2, "alibi": None}) == [True, True]
    assert pattern({**SMOLLM3, "no_rope_layers": [True, False, 1, 0]}) == [True, False, True, False]
    assert pattern({**SMOLLM3, "no_rope_layers": []}) == [True, True, True, False]
    assert pattern({**ESM, "position_embedding_type": "rotary"}) == [True]
    assert pattern({**ESM, "position_embedding_type": "relative_key"}) == [False]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**FALCON, "alibi": "false"}, "`alibi` must be true or false, got 'false'"),
        (
            {"model_type": "clvp_encoder", "use_rotary_embedding": "yes"},
            "`use_rotary_embedding` must be true or false, got 'yes'",
        ),
        (
            {**ESM, "position_embedding_type": "rotray"},
            "unknown position_embedding_type 'rotray'; known: rotary, absolute, relative_key",
        ),
        (
            {**SMOLLM3, "no_rope_layers": ["no", -3, math.nan, {}]},
            "`no_rope_layers` must be a list of 0 and 1, got 'no' in it",
        ),
        ({**SMOLLM3, "no_rope_layers": [1, 1, 2, 0]}, "`no_rope_layers`.*0 and 1, got 2 in it"),
        ({**SMOLLM3, "no_rope_layers": [1, 1, 1.0, 0]}, "`no_rope_layers`.*0 and 1, got 1.0 in it"),
        (
            llama("mllama_text_model", num_hidden_layers=2, cross_attention_layers=["1"]),
            "`cross_attention_layers` must be a list of numbers of layers, got '1' in it",
        ),
        (
            {"model_type": "muse_glimmer_text", "num_hidden_layers": 1, "layer_rope_theta": ["no"]},
            "`layer_rope_theta` must be a positive number, got 'no'",
        ),
    ],
)
def test_switches_that_are_neither_on_nor_off(config, words):
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(config)


# -- bounds -----------------------------------------------------------------------------------------


def test_many_layers_of_one_kind_are_read_once():
    ropes = configs.layer_ropes({**LLAMA, "num_hidden_layers": 10_000})
    assert len(ropes) == 10_000
    assert len(set(map(id, ropes))) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_hidden_layers": 10_001}, "`num_hidden_layers` must be at most 10000, got 10001"),
        ({"num_hidden_layers": 2_000_000_000}, "`num_hidden_layers` must be at most 10000"),
        ({"head_dim": 2**31 - 2}, "`head_dim` must be at most 65536, got 2147483646"),
        (
            {"hidden_size": 2**30, "num_attention_heads": 1},
            "`hidden_size // num_attention_heads` must be at most 65536",
        ),
        (
            {"num_hidden_layers": None, "layer_types": ["full_attention"] * 10_001},
            "`layer_types` must have at most 10000 entries, got 10001",
        ),
        (
            {"model_type": "gemma3_text", "sliding_window_pattern": 10**9},
            "`sliding_window_pattern` must be at most 10000",
        ),
    ],
)
def test_sizes_that_no_model_has_are_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        RoPE.from_config({**LLAMA, **keys})


# -- layers of which some do not rotate ---------------------------------------------------------------


def test_from_config_says_that_some_layers_do_not_rotate():
    words = "'smollm3', whose layers have no types; some do not rotate: use layer_ropes"
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(SMOLLM3, layer_type="full_attention")
    differ = {"model_type": "molmo2_text", "num_hidden_layers": 2, "rope_scaling_layers": [1]}
    differ["rope_scaling"] = {"rope_type": "linear", "factor": 2.0}
    with pytest.raises(ValueError, match=r"^its layers rotate differently .*: use layer_ropes"):
        RoPE.from_config(differ)


def test_glm_5_has_a_head_dim_that_says_nothing_about_its_slice():
    config = {"model_type": "glm_moe_dsa", "head_dim": 192, "qk_nope_head_dim": 192}
    config |= {"qk_rope_head_dim": 64, "rope_parameters": {"rope_theta": 8e6}}
    assert RoPE.from_config(config) == RoPE(64, layout="interleaved", base=8e6)


def test_llama_4_scout_as_published():
    scaling = {"rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    config = {"model_type": "llama4_text", "head_dim": 128, "num_hidden_layers": 8}
    config |= {"no_rope_layers": [], "rope_theta": 5e5, "rope_scaling": scaling}
    assert pattern(config) == [True, True, True, False] * 2
    found = RoPE.from_config(config).frequencies().inv_freq
    plain = [5e5 ** (-i / 64) for i in range(64)]
    expected = [f / 16 if 2 * math.pi / f > 8192 else f for f in plain]
    assert list(found) == pytest.approx(expected, rel=1e-12)
