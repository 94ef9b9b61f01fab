"""Configs of diffusers' transformers: published ones, every class of the table, and broken ones.

``tests/parity/diffusers_configs.py`` compares each class with its own module.
"""

import json
import re

import numpy as np
import pytest

from rope_xp import RoPE, configs
from rope_xp._config_reader.carriers.diffusers import read_table, transformer
from rope_xp.axes import Axial, AxisPerPair, InterleavedSections
from rope_xp.scaling import Linear


def config(name, **keys):
    return {"_class_name": name, "_diffusers_version": "0.42.1", **keys}


COGVIDEOX = config(
    "CogVideoXTransformer3DModel",
    num_attention_heads=48,
    attention_head_dim=64,
    num_layers=42,
    use_rotary_positional_embeddings=True,
)
SU = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "type": "su"}
# A config as published, cut to what is read; the number of layers; the encoding.
PUBLISHED = {
    "flux": (
        config(
            "FluxTransformer2DModel",
            attention_head_dim=128,
            axes_dims_rope=[16, 56, 56],
            num_layers=19,
            num_single_layers=38,
        ),
        57,
        RoPE(128, layout="interleaved", axes=Axial((16, 56, 56))),
    ),
    "an older file of flux": (
        config("FluxTransformer2DModel", num_layers=19, num_single_layers=38),
        57,
        RoPE(128, layout="interleaved", axes=Axial((16, 56, 56))),
    ),
    "flux 2": (
        config("Flux2Transformer2DModel", rope_theta=2000, axes_dims_rope=[32, 32, 32, 32]),
        56,
        RoPE(128, layout="interleaved", base=2000.0, axes=Axial((32, 32, 32, 32))),
    ),
    "wan": (
        config(
            "WanTransformer3DModel", attention_head_dim=128, num_layers=30, rope_max_seq_len=1024
        ),
        30,
        RoPE(128, layout="interleaved", axes=Axial((44, 42, 42))),
    ),
    "hunyuan video": (
        config("HunyuanVideoTransformer3DModel", rope_theta=256.0, rope_axes_dim=[16, 56, 56]),
        60,
        RoPE(128, layout="interleaved", base=256.0, axes=Axial((16, 56, 56))),
    ),
    "cogvideox": (COGVIDEOX, 42, RoPE(64, layout="interleaved", axes=Axial((16, 24, 24)))),
    "cogview 4": (
        config("CogView4Transformer2DModel", attention_head_dim=128, num_layers=28),
        28,
        RoPE(128, layout="half", axes=Axial(2)),
    ),
    "z-image": (  # with the keys of Meta's params.json
        config(
            "ZImageTransformer2DModel",
            dim=3840,
            n_layers=30,
            n_heads=30,
            norm_eps=1e-05,
            axes_dims=[32, 48, 48],
            rope_theta=256.0,
        ),
        30,
        RoPE(128, layout="interleaved", base=256.0, axes=Axial((32, 48, 48))),
    ),
    "lumina 2": (
        config(
            "Lumina2Transformer2DModel", hidden_size=2304, num_attention_heads=24, num_layers=26
        ),
        26,
        RoPE(96, layout="interleaved", axes=Axial((32, 32, 32))),
    ),
    "hidream": (
        config("HiDreamImageTransformer2DModel", axes_dims_rope=[64, 32, 32]),
        48,
        RoPE(128, layout="interleaved", axes=Axial((64, 32, 32))),
    ),
    "hidream, half": (
        config("HiDreamImageTransformer2DModel"),
        48,
        RoPE(128, layout="interleaved", rotary_dim=64, axes=Axial((32, 32))),
    ),
    "allegro": (
        config("AllegroTransformer3DModel", attention_head_dim=96, num_layers=32),
        32,
        RoPE(
            96,
            layout="half",
            axes=Axial(3, split=True),
            scaling=(Linear(2.2), Linear(2.0), Linear(2.0)),
        ),
    ),
    "kandinsky 6": (
        config("Kandinsky6Transformer3DModel", scale_factor=[1.0, 2.0, 2.0]),
        60,
        RoPE(
            128,
            layout="interleaved",
            axes=Axial((32, 48, 48)),
            scaling=(None, Linear(2.0), Linear(2.0)),
        ),
    ),
    "ideogram 4": (
        config("Ideogram4Transformer2DModel"),
        34,
        RoPE(
            256,
            layout="half",
            base=5e6,
            axes=AxisPerPair(tuple(i % 3 if i < 60 else 0 for i in range(128))),
        ),
    ),
    "cosmos 3": (
        config("Cosmos3OmniTransformer", rope_axes_dim=[24, 20, 20]),
        36,
        RoPE(128, layout="half", base=5e6, axes=InterleavedSections((24, 20, 20))),
    ),
    "stable audio": (
        config("StableAudioDiTModel", attention_head_dim=64, num_layers=24),
        24,
        RoPE(64, layout="half", rotary_dim=32),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs(name, tmp_path):
    file, n_layers, rope = PUBLISHED[name]
    assert configs.layer_ropes(file) == (rope,) * n_layers
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(file))
    index = {"_class_name": "Pipeline", "transformer": ["diffusers", file["_class_name"]]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert configs.layer_ropes(tmp_path) == (rope,) * n_layers


def test_bases_of_cosmos():
    """A factor s for an axis of w features: base times s ** (w / (w − 2))."""
    rope = RoPE.from_config(config("CosmosTransformer3DModel", rope_scale=[2.0, 1.0, 4.0]))
    assert rope.axes.widths == (44, 42, 42)
    expected = 1e4 * np.array([2 ** (44 / 42), 1, 4 ** (42 / 40)])
    np.testing.assert_allclose(rope.axes.bases, expected)


@pytest.mark.parametrize("name", ["LTXVideoTransformer3DModel", "LTX2VideoTransformer3DModel"])
def test_ltx_turns_the_whole_width(name):
    """From π/2 to 10000 π/2 in equal ratios, both included, for each of three axes in turn."""
    rope = RoPE.from_config(config(name, num_attention_heads=2, attention_head_dim=64))
    assert (rope.head_dim, rope.rotary_start, rope.rotary_dim) == (128, 2, 126)
    expected = 1e4 ** np.linspace(0, 1, 21) * np.pi / 2
    found = rope.frequencies().inv_freq
    for axis, largest in enumerate([20, 2048, 2048]):
        # The class turns by 2 p / largest − 1.
        np.testing.assert_allclose(found[axis, axis::3], expected * 2 / largest, rtol=1e-9)
    assert np.count_nonzero(found) == 63
    assert "row and column in pixels" in configs.explain(config(name))


AXIS_FACTORS = {
    "AllegroTransformer3DModel": [f"interpolation_scale_{axis}" for axis in "thw"],
    "Kandinsky6Transformer3DModel": ["scale_factor"],
    "Kandinsky6SRTransformer3DModel": ["scale_factor"],
    "LTX2VideoTransformer3DModel": ["pos_embed_max_pos", "base_height", "base_width"],
    "SanaWMLTX2RefinerTransformer3DModel": ["pos_embed_max_pos", "base_height", "base_width"],
}


@pytest.mark.parametrize("name", AXIS_FACTORS)
def test_divisors_of_single_axes(name):
    """Positions divided by a number for each axis, from the config, are the schedules of the axes."""

    def read(*factors):
        keys = AXIS_FACTORS[name]
        values = [list(factors)] if len(keys) == 1 else factors
        return RoPE.from_config(config(name, **dict(zip(keys, values, strict=True))))

    assert read(1, 3, 2.5).scaling == (None, Linear(3.0), Linear(2.5))
    assert read(4, 4, 4).scaling == Linear(4.0)
    assert read(1, 1.0, 1).scaling is None
    at = np.stack(np.meshgrid(range(3), range(2), range(4), indexing="ij")).reshape(3, -1)
    x = np.random.default_rng(0).standard_normal((24, read(1, 1, 1).head_dim))
    text = configs.explain(read(1, 3, 2.5))
    assert re.search(r"pairs: \d+ unchanged, \d+ slowed less, \d+ interpolated by 3$", text)
    divided = read(1, 1, 1)(x, positions=at / np.array([[1.5], [3], [2]]))
    np.testing.assert_allclose(read(1.5, 3, 2)(x, positions=at), divided, atol=1e-9)


def test_omnigen_has_longrope():
    rope = RoPE.from_config(config("OmniGenTransformer2DModel", rope_scaling=SU))
    assert (rope.head_dim, rope.layout, rope.base) == (96, "half", 1e4)
    factor = np.sqrt(1 + np.log(32) / np.log(4096))
    np.testing.assert_allclose(rope.frequencies().attention_factor, factor)
    np.testing.assert_allclose(rope.frequencies(5000).inv_freq[0], 0.5)


@pytest.mark.parametrize("name", read_table().classes)
def test_every_class(name):
    """What a class has by default is enough, but for LongRoPE's lists, and it says where tokens are."""
    keys = {"rope_scaling": SU} if name.startswith("OmniGen") else {}
    keys |= {"use_rotary_positional_embeddings": True} if name[:5] in {"CogVi", "Consi"} else {}
    if name.startswith("CogView"):
        keys = {}
    ropes = configs.layer_ropes(config(name, **keys))
    assert len({*ropes}) == 1
    assert None not in ropes
    one_axis = ropes[0].axes is None
    assert one_axis or "positions are" in transformer(name).note
    assert f"{len(ropes)} layers" in configs.explain(config(name, **keys))


LEFT_OUT = [(name, reason) for reason, names in read_table().left_out.items() for name in names]


@pytest.mark.parametrize(("name", "reason"), LEFT_OUT)
def test_classes_that_do_not_rotate(name, reason):
    with pytest.raises(
        ValueError, match=re.escape(f"class that rotates q and k, got '{name}': {reason}")
    ):
        RoPE.from_config(config(name))


BROKEN = {
    "an unknown class": (
        config("FluxTransformer3DModel"),
        "unknown `_class_name` 'FluxTransformer3DModel': no transformer of diffusers 0.42.1; similar: F",
    ),
    "a pipeline": (config("FluxPipeline"), "got the index of a 'FluxPipeline': pass its folder"),
    "a class as a number": (config(7), "`_class_name` must be a string, got 7"),
    "an unknown key": (
        config("FluxTransformer2DModel", rope_theta=500),
        "unknown key 'rope_theta' in FluxTransformer2DModel; known: attention_head_dim, axes_dims_rope",
    ),
    "widths of another head": (
        config("FluxTransformer2DModel", axes_dims_rope=[16, 56]),
        r"`axes_dims_rope` must sum to the size of a head, 128, got \[16, 56\]",
    ),
    "odd widths": (
        config("FluxTransformer2DModel", axes_dims_rope=[15, 57, 56]),
        r"`axes_dims_rope` must give each axis an even number of features, got \[15, 57, 56\]",
    ),
    "widths as text": (
        config("FluxTransformer2DModel", axes_dims_rope=["16", 112]),
        "`axes_dims_rope` must be a list of positive even integers, one for each axis",
    ),
    "a head that three axes cannot share": (
        config("WanTransformer3DModel", attention_head_dim=5),
        "`attention_head_dim` must give each axis an even number of features",
    ),
    "without rotation": (
        config("CogVideoXTransformer3DModel"),
        "has no rotary encoding unless `use_rotary_positional_embeddings` is True",
    ),
    "a factor too few": (
        config("CosmosTransformer3DModel", rope_scale=[2.0, 1.0]),
        "`rope_scale` must have a number for each of 3 axes",
    ),
    "no factors": (
        config("CosmosTransformer3DModel", rope_scale=None),
        "`rope_scale` must have a number for each of 3 axes, got None",
    ),
    "heads that are too small for its base": (
        config("CosmosTransformer3DModel", attention_head_dim=6),
        r"`attention_head_dim` must give each axis more than 2 features, got \[2, 2, 2\]",
    ),
    "one factor for all axes": (
        config("Kandinsky6Transformer3DModel", scale_factor=2.0),
        "`scale_factor` must have a number for each of 3 axes, got 2.0",
    ),
    "factors for three of two axes": (
        config("Kandinsky6Transformer3DModel", axes_dims=[64, 64]),
        r"`scale_factor` must have a number for each of 2 axes, got \[1.0, 2.0, 2.0\]",
    ),
    "a factor below 1": (
        config("Kandinsky6SRTransformer3DModel", scale_factor=[1.0, 0.5, 0.5]),
        r"`scale_factor\[1\]` must be at least 1, got 0.5",
    ),
    "a factor of one axis below 1": (
        config("AllegroTransformer3DModel", interpolation_scale_h=0.5),
        "`interpolation_scale_h` must be at least 1, got 0.5",
    ),
    "a factor that is null": (
        config("AllegroTransformer3DModel", interpolation_scale_t=None),
        "`interpolation_scale_t` must be a positive number, got None",
    ),
    "a factor as text": (
        config("LTX2VideoTransformer3DModel", base_height="2048"),
        "`base_height` must be a positive number, got '2048'",
    ),
    "frequencies of each head": (
        config("LTX2VideoTransformer3DModel", rope_type="split"),
        "`rope_type` must be 'interleaved', got 'split': its heads have different frequencies",
    ),
    "a width no multiple of heads": (
        config("Lumina2Transformer2DModel", num_attention_heads=25),
        "`hidden_size` must be a multiple of num_attention_heads=25, got 2304",
    ),
    "no lists": (config("OmniGenTransformer2DModel"), "`short_factor` is required in rope_scaling"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configs(name):
    file, words = BROKEN[name]
    with pytest.raises(ValueError, match=words):
        RoPE.from_config(file)
