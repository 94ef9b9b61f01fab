"""Text with images and vision towers: which position axis drives which pair."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp._config_reader.table import known_family, read_table
from rope_xp.axes import AxisPerPair

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
    "split, columns first": ("gemma4_vision", None, [5, 0.05, 3, 0.03]),
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


WITH_SECTIONS = [
    name
    for name in read_table().lines
    if getattr(known_family(name).axes, "mrope_section", None) is not None
]


@pytest.mark.parametrize("name", WITH_SECTIONS)
def test_text_is_turned_as_by_one_axis(name):
    family = known_family(name)
    pairs = sum(family.axes.mrope_section)
    head_dim = round(2 * pairs / family.default_partial(None))
    layer_types = {"layer_types": ["sliding_attention"]} if family.per_layer_type else {}
    rope = RoPE.from_config({"model_type": name, "head_dim": head_dim, **layer_types})
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
    parts = one(x[:, :4], positions=columns), one(x[:, 4:], positions=rows)
    np.testing.assert_allclose(rope(x, positions=np.stack((rows, columns))), np.hstack(parts))
