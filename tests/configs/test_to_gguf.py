"""`to_config` with ``form="gguf"``: what it writes is read as what it was made from, or is refused."""

from dataclasses import replace

import numpy as np
import pytest
from config_cases import DEEPSEEK_V3, GEMMA3, LLAMA31, PHI3, multi

from rope_xp import RoPE, axes, scaling
from rope_xp._config_reader.gguf.table import RopeFreqs, Sections, architecture_of, read_table
from rope_xp.configs import explain_difference, layer_ropes, to_config
from rope_xp.configs._compare import is_same

TENSORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
SCHEDULES = {
    "plain": {},
    "linear": {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    "yarn": {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 1024,
    },
}


def metadata(name, **more):
    """Metadata of 32 layers, with a window in three of four where the architecture has one."""
    rule, n_layers = architecture_of(name), 32
    window, head_key = rule.window, rule.head_key or "attention.key_length"
    keys = {"context_length": 4096, "rope.dimension_count": 128, head_key: 128}
    if not rule.fixed:
        keys["rope.freq_base"] = 5e5
    if rule.at_end:
        keys |= {head_key: 192, "rope.dimension_count": 64}
    if window is not None:
        n_layers = window.n_layers or n_layers
        keys["attention.sliding_window"] = 1024
        if window.period is None:
            keys["attention.sliding_window_pattern"] = [i % 4 != 3 for i in range(n_layers)]
        if window.head_key is not None:
            keys[window.head_key] = keys[head_key]
        if window.reads_base:
            keys["rope.freq_base_swa"] = 1e4
    if rule.sections in {Sections.REQUIRED, Sections.INTERLEAVED}:
        keys["rope.dimension_sections"] = [24, 20, 20, 0]
    if rule.compress:
        keys |= {"attention.compress_ratios": [0, 4] * 16}
        keys |= {"attention.compress_rope_freq_base": 160000.0}
    made = {f"{name}.{key}": value for key, value in {**keys, **more}.items()}
    made |= {
        "general.architecture": name,
        f"{name}.block_count": n_layers,
        **dict.fromkeys(TENSORS),
    }
    if rule.rope_freqs is RopeFreqs.REQUIRED:
        made["rope_freqs.weight"] = np.asarray([1.0] * 32 + [1e30] * 32, dtype=np.float32)
    return made


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", read_table().lines)
def test_every_architecture_is_read_back(name, schedule):
    if schedule == "linear" and architecture_of(name).yarn.scales_softmax:
        return  # not described: see gguf/scaling.py
    if schedule != "plain" and architecture_of(name).fixed:
        return
    found = metadata(name, **SCHEDULES[schedule])
    ropes = layer_ropes(found)
    layer_types = None
    if name == "granite_swa":  # all layers turn alike, with a window and without
        pattern = found["granite_swa.attention.sliding_window_pattern"]
        layer_types = ["sliding_attention" if one else "full_attention" for one in pattern]
    options = {"sliding_window": 1024, "layer_types": layer_types}
    if name == "deepseek4":
        with pytest.raises(ValueError, match="ratios of compression"):
            to_config(ropes, form="gguf", architecture=name, **options)
        return
    assert layer_ropes(to_config(ropes, form="gguf", architecture=name, **options)) == ropes


def interleaved(config):
    """As the converter has it, which reorders the weights."""
    return [replace(rope, layout="interleaved") for rope in layer_ropes(config)]


def test_what_is_written():
    made = to_config(interleaved(LLAMA31), form="gguf", architecture="llama")
    factors = made.pop("rope_freqs.weight")
    assert made == {
        "general.architecture": "llama",
        "llama.attention.key_length": 128,
        "llama.rope.dimension_count": 128,
        "llama.rope.freq_base": 5e5,
        "llama.block_count": 32,
        "rope_factors_short.weight": None,
        "rope_factors_long.weight": None,
    }
    # As llama.cpp's converter computes them: 1, blended, and 8.
    assert (factors.dtype, factors[0], factors[-1]) == (np.float32, 1.0, 8.0)
    text = explain_difference(LLAMA31, made | {"rope_freqs.weight": factors})
    assert text.startswith("no difference")


def test_layers_with_a_window():
    ropes = layer_ropes(GEMMA3)
    with pytest.raises(ValueError, match="pass sliding_window="):
        to_config(ropes, form="gguf", architecture="gemma3")
    made = to_config(ropes, form="gguf", architecture="gemma3", sliding_window=1024)
    assert made["gemma3.rope.freq_base"] == 1e6
    assert made["gemma3.rope.freq_base_swa"] == 1e4
    assert made["gemma3.attention.sliding_window_pattern"] == ([True] * 5 + [False]) * 2
    assert made["gemma3.rope.scaling.factor"] == 8.0
    assert layer_ropes(made) == ropes


def test_longrope_is_two_tensors():
    config = {**PHI3, "num_hidden_layers": 2}
    made = to_config(layer_ropes(config), form="gguf", architecture="phi3")
    assert made["rope_factors_long.weight"].dtype == np.float32
    assert made["phi3.rope.scaling.attn_factor"] == pytest.approx(
        1.190238
    )  # sqrt(1 + ln 32 / ln 4096)
    assert explain_difference(config, made).startswith("no difference")


def test_latent_attention_needs_the_whole_head():
    slices = layer_ropes(DEEPSEEK_V3)
    with pytest.raises(ValueError, match="the size of the whole head"):
        to_config(slices, form="gguf", architecture="deepseek2")
    heads = [replace(rope, head_dim=192, rotary_start=128) for rope in slices]
    made = to_config(heads, form="gguf", architecture="deepseek2")
    assert made["deepseek2.attention.key_length_mla"] == 192
    assert made["deepseek2.rope.scaling.yarn_log_multiplier"] == pytest.approx(0.1)
    assert all(map(is_same, layer_ropes(made), heads))
    text = explain_difference(DEEPSEEK_V3, made)
    assert text.startswith("no difference")
    assert "as expected: a config describes the slice of latent attention that rotates" in text


def test_a_slice_is_expected_of_latent_attention_only():
    part, whole = RoPE(64, layout="half"), RoPE(192, layout="half", rotary_start=128)
    assert not explain_difference([part], [whole]).startswith("no difference")


def test_pairs_that_do_not_turn_are_divided_by_a_large_number():
    """As in the files of Gemma 4."""
    local = RoPE(256, layout="half")
    full = RoPE(512, layout="half", base=1e6, scaling=scaling.Proportional(0.25))
    options = {"form": "gguf", "architecture": "gemma4", "sliding_window": 1024}
    made = to_config([local] * 5 + [full], **options)
    assert made["rope_freqs.weight"].tolist() == [1.0] * 64 + [float(np.float32(1e30))] * 192
    assert made["gemma4.attention.key_length_swa"] == 256
    assert all(map(is_same, layer_ropes(made), [local] * 5 + [full]))


def test_query_scales():
    scale = scaling.FloorLogScale(8192, 0.1)
    yarn = scaling.YaRN(16.0, 8192, attention_factor=1.0)
    rope = RoPE(128, layout="interleaved", base=1e6, scaling=yarn, query_scale=scale)
    made = to_config([rope] * 2, form="gguf", architecture="mistral3")
    assert made["mistral3.attention.temperature_scale"] == 0.1
    assert all(map(is_same, layer_ropes(made), [rope] * 2))
    with pytest.raises(ValueError, match="query_scale=FloorLogScale"):
        to_config([rope] * 2, form="gguf", architecture="internlm2")


def test_sections():
    ropes = layer_ropes({**multi([16, 24, 24]), "num_hidden_layers": 2})
    made = to_config(ropes, form="gguf", architecture="qwen2vl")
    assert made["qwen2vl.rope.dimension_sections"] == [16, 24, 24, 0]
    assert layer_ropes(made) == ropes


ROPE = RoPE(128, layout="interleaved", base=5e5)
REFUSED = {
    "no architecture": (ROPE, {}, "`architecture` must be the name"),
    "unknown": (ROPE, {"architecture": "nothing"}, "`architecture` must be the name"),
    "left out": (ROPE, {"architecture": "bloom"}, "ALiBi"),
    "pairing": (replace(ROPE, layout="half"), {}, "convert_layout"),
    "part": (replace(ROPE, rotary_dim=64), {}, "must be the size of a head"),
    "axes": (replace(ROPE, axes=axes.Axial(2), layout="half"), {}, "axes must be Sections"),
    "frequencies": (replace(ROPE, scaling=scaling.Custom((0.5,) * 64)), {}, "no keys for"),
    "dynamic": (replace(ROPE, scaling=scaling.DynamicNTK(2.0, 4096)), {}, "no keys for"),
    "negated": (replace(ROPE, scaling=scaling.Negated()), {}, "no keys for"),
    "kinds": ([ROPE, replace(ROPE, base=1e4)], {}, "layers must be alike"),
    "no rotation": ([ROPE, None], {}, "would be read as"),
    "truncate": (replace(ROPE, scaling=scaling.YaRN(4.0, 4096, truncate=False)), {}, "would be"),
    "factors that are not read": (
        replace(ROPE, scaling=scaling.Llama3(8.0, 1.0, 4.0, 8192)),
        {"architecture": "command-r"},
        "reads no rope_freqs.weight",
    ),
    "model_type": (ROPE, {"model_type": "llama"}, "`model_type` must be None for form='gguf'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_cannot_describe_is_refused(name):
    ropes, options, words = REFUSED[name]
    options = {"architecture": None if name == "no architecture" else "llama"} | options
    with pytest.raises(ValueError, match=words):
        to_config(ropes, form="gguf", **options)


def test_forms():
    with pytest.raises(ValueError, match="`form` must be"):
        to_config(ROPE, form="ggml")
    for name, value in {"architecture": "llama", "sliding_window": 4096}.items():
        with pytest.raises(ValueError, match=f"`{name}` must be None for form='transformers'"):
            to_config(ROPE, **{name: value})
