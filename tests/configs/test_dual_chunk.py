"""Dual chunk attention in configs: read into `RoPE.ranges`, refused where it is wrong, and written back."""

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp.attention import attention, rotate_ranges
from rope_xp.configs import explain, explain_difference, layer_ropes, to_config
from rope_xp.positions import DualChunk, ReRoPE

KEY = "dual_chunk_attention_config"
# Qwen/Qwen2.5-7B-Instruct-1M, config.json.
QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "max_position_embeddings": 1010000,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rope_theta": 10000000.0,
    "sliding_window": 32768,
    "use_sliding_window": False,
    KEY: {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144},
}
SCHEME = DualChunk(262144, 8192, 262144)


def with_sizes(**sizes):
    return {**QWEN, KEY: sizes}


def test_it_is_read():
    assert RoPE.from_config(QWEN) == RoPE(128, layout="half", base=1e7, ranges=SCHEME)
    assert {rope.ranges for rope in layer_ropes(QWEN)} == {SCHEME}
    assert "ranges            by distance, DualChunk(chunk_size=262144" in explain(QWEN)
    plain = {key: value for key, value in QWEN.items() if key != KEY}
    assert RoPE.from_config(plain).ranges is None
    assert "  ranges            DualChunk" in explain_difference(QWEN, plain)


def test_in_the_language_model_of_a_composite():
    text = {**QWEN, "model_type": "qwen3"}
    assert RoPE.from_config({"model_type": "made_up", "text_config": text}).ranges == SCHEME


def test_it_is_what_attention_takes():
    rope = RoPE.from_config(with_sizes(chunk_size=5, local_size=2))
    x, tokens = np.ones((1, 12, 128), np.float32), np.arange(12)
    q, k, ranges = rotate_ranges(rope, x, x, rope.ranges(tokens, tokens))
    assert len(ranges) == 2
    assert attention(q, k, x, ranges=ranges, causal=True).shape == x.shape


@pytest.mark.parametrize("sizes", [None, {}])
def test_nothing(sizes):
    assert RoPE.from_config({**QWEN, KEY: sizes}).ranges is None


def test_what_is_not_about_positions_is_passed_over():
    """Sparse attention approximates; a length of 0 scales nothing in vLLM."""
    sizes = {"chunk_size": 8, "local_size": 2, "sparse_attention_enabled": True}
    rope = RoPE.from_config(with_sizes(**sizes, original_max_position_embeddings=0))
    assert rope.ranges == DualChunk(8, 2)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (8192, f"`{KEY}` must be a mapping, got 8192"),
        ({"chunk_size": 8}, f"`local_size` is required in {KEY}"),
        ({"local_size": 8}, f"`chunk_size` is required in {KEY}"),
        ({"chunk_size": 8, "local_size": 8}, r"`local_size` must be in \[0, chunk_size=8\), got 8"),
        ({"chunk_size": 0, "local_size": 0}, f"`chunk_size` in {KEY} must be a positive integer"),
        ({"chunk_size": 8, "local_siz": 2}, f"`local_siz` in {KEY} must be one of chunk_size, "),
    ],
)
def test_wrong_sizes(sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        RoPE.from_config({**QWEN, KEY: sizes})


@pytest.mark.parametrize("model_type", ["qwen2", None])
def test_written_back(model_type):
    ropes = layer_ropes(QWEN)
    made = to_config(ropes, model_type=model_type)
    assert made[KEY] == QWEN[KEY]
    assert layer_ropes(made, layout="half" if model_type is None else None) == ropes


@pytest.mark.parametrize(
    ("rope", "options"),
    [
        (
            RoPE(64, layout="half", ranges=DualChunk(8, 2)),
            {"form": "gguf", "architecture": "qwen2"},
        ),
        (RoPE(64, layout="half", ranges=ReRoPE(8)), {}),
    ],
)
def test_what_a_file_cannot_say(rope, options):
    with pytest.raises(ValueError, match=r"which would be read as RoPE\(64, layout='half'\)"):
        to_config(rope, **options)
