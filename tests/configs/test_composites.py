"""Configs that contain configs: which part is read, and by whose defaults."""

import pytest
from config_cases import LLAMA, llama

from rope_xp import RoPE, configs
from rope_xp._config_reader.parts import VISION_PARTS
from rope_xp._config_reader.table import tables
from rope_xp.axes import Axial, Sections

TOWER = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "in_chans": 3, "patch_size": 14}
TOWER |= {"out_hidden_size": 3584, "spatial_merge_size": 2, "temporal_patch_size": 2}
# As published: the keys of the text at the top, and a vision part without a name.
QWEN25_VL = llama(
    "qwen2_5_vl",
    hidden_size=3584,
    num_attention_heads=28,
    num_hidden_layers=2,
    vocab_size=152064,
    rope_theta=1e6,
    rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]},
    vision_config=TOWER,
)
OMNI = {
    "model_type": "qwen2_5_omni",
    "thinker_config": {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": {"model_type": "qwen2_5_omni_text"},
        "vision_config": {"model_type": "qwen2_5_omni_vision_encoder", **TOWER},
    },
    "talker_config": {"model_type": "qwen2_5_omni_talker"},
}


def test_text_and_vision_of_one_file():
    text = RoPE(128, layout="half", base=1e6, axes=Sections((16, 24, 24)))
    tower = RoPE(80, layout="half", axes=Axial(2))
    assert RoPE.from_config(QWEN25_VL) == RoPE.from_config(QWEN25_VL, part="text") == text
    assert RoPE.from_config(QWEN25_VL, part="vision") == tower
    assert configs.layer_ropes(QWEN25_VL, part="vision") == (tower,) * 32
    assert "qwen2_5_vl_vision: 32 layers" in configs.explain(QWEN25_VL, part="vision")
    assert RoPE.from_config(OMNI, part="vision") == tower
    assert RoPE.from_config(OMNI).axes == Sections((16, 24, 24))
    # What is a tower by itself is its own vision part.
    for model_type in ("qwen2_5_vl", "qwen2_5_vl_vision"):
        alone = {**TOWER, "model_type": model_type}
        assert RoPE.from_config(alone) == RoPE.from_config(alone, part="vision") == tower


@pytest.mark.parametrize("key", VISION_PARTS)
def test_other_names_of_the_vision_part(key):
    config = {"model_type": "qwen2_5_vl", key: TOWER}
    assert RoPE.from_config(config, part="vision") == RoPE(80, layout="half", axes=Axial(2))


@pytest.mark.parametrize(
    "key", ["text_config", "llm_config", "language_config", "llm_cfg", "text_cfg", "language_model"]
)
def test_other_names_of_the_text_part(key):
    config = {"model_type": "llava_llama", key: {"model_type": "qwen2", "rope_theta": 1e6}}
    assert RoPE.from_config(config) == RoPE(128, layout="half", base=1e6)


def test_a_name_of_a_model_is_no_part():
    assert RoPE.from_config({**LLAMA, "language_model": "some/model"}).head_dim == 128
    with pytest.raises(ValueError, match=r"`text_config` must be a mapping"):
        RoPE.from_config({"model_type": "llava", "text_config": "llama"})


def test_a_talker_by_itself():
    rope = RoPE.from_config({"talker_config": OMNI["talker_config"]})
    assert rope == RoPE.from_config({"model_type": "qwen2_5_omni_talker"})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LLAMA, "`part` must be 'text' for model_type 'llama', which has no vision_config"),
        (
            {"model_type": "llava", "vision_config": {"patch_size": 14}},
            "tower of model_type 'llava' has",
        ),
        (
            # A tower of a known kind, in a composite whose own tower would rotate.
            {"model_type": "qwen2_5_vl", "vision_config": {"model_type": "siglip_vision_model"}},
            "got 'siglip_vision_model': no rotary position encoding",
        ),
        (
            {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}},
            "got 'clip_vision_model': no rotary position encoding",
        ),
    ],
)
def test_a_vision_part_that_does_not_rotate_or_is_not_there(config, words):
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(config, part="vision")


def test_parts_that_there_are():
    with pytest.raises(ValueError, match=r"`part` must be one of 'text', 'vision', got 'audio'"):
        RoPE.from_config(LLAMA, part="audio")


# Composites that have a text part that rotates and no vision part that does.
WITHOUT = sorted(
    {name for table in tables() for name in table.text_part_of}
    - {name for table in tables() for name in table.vision_part_of}
)


@pytest.mark.parametrize("model_type", WITHOUT)
def test_a_tower_without_rotation_is_never_read_as_text(model_type):
    """Its vision_config can bear the name of the composite, in full or without what is default."""
    full = {"hidden_size": 1152, "image_size": 980, "num_attention_heads": 16, "patch_size": 14}
    for tower in (full, {"image_size": 980}, {"hidden_size": 1152, "num_channels": 3}):
        with pytest.raises(ValueError, match=r"the vision tower of model_type .* has no rotary"):
            RoPE.from_config({**tower, "model_type": model_type})


def test_old_files_with_the_keys_of_the_text_at_the_top():
    fuyu = {"model_type": "fuyu", "patch_size": 30, "image_size": 300, "vocab_size": 262144}
    fuyu |= {"hidden_size": 4096, "num_attention_heads": 64, "rope_theta": 25000.0}
    assert RoPE.from_config(fuyu) == RoPE(64, layout="half", rotary_dim=32, base=25000.0)
    llava = llama("llava_qwen", rope_theta=1e6, mm_vision_tower="x", image_aspect_ratio="pad")
    assert RoPE.from_config(llava) == RoPE(128, layout="half", base=1e6)


def test_a_stripped_tower_has_the_defaults_of_its_class():
    stripped = {"in_chans": 3, "model_type": "qwen2_vl", "spatial_patch_size": 14}
    tower = RoPE(80, layout="half", axes=Axial(2))
    assert RoPE.from_config(stripped) == tower
    assert RoPE.from_config({"model_type": "qwen2_vl"}, part="vision") == tower


def test_a_tower_without_a_name_is_answered_with_those_that_serve():
    words = 'pass the whole config with part="vision", or write the model_type .*: qwen2_vl_vision$'
    with pytest.raises(ValueError, match=words):
        RoPE.from_config({"embed_dim": 1280, "num_heads": 16, "depth": 32, "patch_size": 14})
    with pytest.raises(ValueError, match=r"tower: .*qwen2_5_vl_vision") as caught:
        RoPE.from_config(TOWER)
    assert "qwen2_vl_vision" not in str(caught.value)


def test_minimax_m3_calls_its_tower_clip():
    tower = {"model_type": "clip_vision_model", "hidden_size": 1280, "num_attention_heads": 16}
    rotates = {**tower, "patch_size": 14, "rope_mode": "3d", "rope_theta": 10000.0}
    rope = RoPE(80, layout="half", rotary_dim=78, axes=Axial(3))
    assert RoPE.from_config(rotates) == rope
    assert (
        RoPE.from_config({"model_type": "minimax_m3_vl", "vision_config": rotates}, part="vision")
        == rope
    )
    with pytest.raises(ValueError, match=r"no rotary position encoding"):
        RoPE.from_config({**tower, "patch_size": 14})


# Read off sub_configs_defaults in transformers 5.24.0, where also the merging can be seen.
def test_a_composite_s_own_defaults():
    voxtral = {"model_type": "voxtral", "text_config": {"num_attention_heads": 32}}
    rope = RoPE(128, layout="half", base=1e8)
    assert configs.layer_ropes(voxtral) == (rope,) * 30
    given = {"model_type": "voxtral", "text_config": {"rope_parameters": {"rope_theta": 1e6}}}
    assert RoPE.from_config(given) == RoPE(128, layout="half", base=1e6)
    # Where there is no text part at all; a text part that is there has the defaults of its own class.
    mistral = {"model_type": "mistral3", "vision_config": {"model_type": "pixtral"}}
    assert configs.layer_ropes(mistral) == (RoPE(128, layout="half", base=1e9),) * 40
    partial = {**mistral, "text_config": {"rope_theta": 1e6}}
    assert configs.layer_ropes(partial) == (RoPE(128, layout="half", base=1e6),) * 32
    llava = {"model_type": "llava", "vision_config": {"patch_size": 14}}
    assert RoPE.from_config(llava) == RoPE(128, layout="half")


def test_a_mapping_that_contains_itself_has_an_end():
    config = {"model_type": "x"}
    config["text_config"] = config
    for part in ("text", "vision"):
        with pytest.raises(ValueError, match=r"`config` must .* deep"):
            RoPE.from_config(config, part=part)
    config = LLAMA
    for _ in range(8):
        config = {"model_type": "x", "text_config": config}
    with pytest.raises(ValueError, match=r"parts inside of parts 8 deep"):
        RoPE.from_config(config)
