"""What `to_config` writes, read by transformers: the frequencies and factors of every rope_type.

    python tests/parity/to_config.py

transformers computes in float32, so numbers agree within a few of its roundings.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from transformers import Gemma3TextConfig, LlamaConfig, StableLmConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.stablelm.modeling_stablelm import StableLmRotaryEmbedding

from rope_xp import RoPE, scaling
from rope_xp.configs import to_config

ROPE = RoPE(128, layout="half", base=5e5)
PAIRS = tuple(1.0 + i / 8 for i in range(64))
SCHEDULES = (
    None,
    scaling.Linear(4.0),
    scaling.NTK(4.0),
    scaling.DynamicNTK(4.0, 4096),
    scaling.YaRN(4.0, 4096, 16.0, 2.0, truncate=False),
    scaling.YaRN(4.0, 4096, attention_factor=1.5),
    scaling.YaRN(4.0, 4096, mscale=0.5, mscale_all_dim=0.25, mscale_softmax=False),
    scaling.NTKByParts(4.0, 4096),
    scaling.Llama3(8.0, 1.0, 4.0, 8192),
    scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, max_position_embeddings=131072),
    scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, factor=3.0),
    scaling.LongRoPE(PAIRS, PAIRS[::-1], 4096, attention_factor=1.25),
    scaling.FrequencyFactors(PAIRS),
    scaling.Proportional(0.25, 2.0),
)
TOLERANCE = 3e-6  # a power and a few products, each rounded to float32


def largest(made, rope, length):
    """The largest relative difference of an angle at position 1, or of the factor on cos and sin.

    ``made`` is a rotary module of transformers, called with positions up to ``length``.
    """
    cos, sin = made(torch.zeros(1, 1), torch.tensor([[0, 1, length - 1]]))
    wanted = rope.frequencies(length)
    half = rope.n_pairs
    # At position 1 every angle is below half a turn, so the tables say which it is.
    factor = float(cos[0, 0, 0])
    angles = np.arctan2(sin[0, 1, :half].double().numpy(), cos[0, 1, :half].double().numpy())
    of_angles = np.abs(angles - wanted.inv_freq) / np.maximum(wanted.inv_freq, 1e-30)
    unrotated = wanted.inv_freq == 0
    of_angles[unrotated] = np.abs(angles[unrotated])
    return max(float(of_angles.max()), abs(factor / wanted.attention_factor - 1))


def main():
    worst, tried = 0.0, 0
    for schedule in SCHEDULES:
        rope = replace(ROPE, scaling=schedule)
        for length in (2048, 16384):
            config = LlamaConfig(**to_config([rope], model_type="llama"))
            made = LlamaRotaryEmbedding(config)
            found = largest(made, rope, length)
            print(f"{schedule!r:.60} at {length}: {found:.1e}")
            worst, tried = max(worst, found), tried + 1
    partial = replace(ROPE, rotary_dim=32)
    config = StableLmConfig(
        **to_config([partial], model_type="stablelm"), hidden_size=128 * 4, num_attention_heads=4
    )
    found = largest(StableLmRotaryEmbedding(config), partial, 2048)
    print(f"a part of the head: {found:.1e}")
    worst = max(worst, found)
    local, whole = replace(ROPE, base=1e4), replace(ROPE, scaling=scaling.Linear(8.0))
    ropes = [local] * 5 + [whole]
    config = Gemma3TextConfig(**to_config(ropes, model_type="gemma3_text"))
    made = Gemma3RotaryEmbedding(config)
    for name, rope in zip(config.layer_types, ropes, strict=True):
        found = largest(lambda x, at, name=name: made(x, at, name), rope, 2048)
        print(f"gemma 3, {name}: {found:.1e}")
        worst = max(worst, found)
    print(f"{tried + 7} encodings, largest relative difference {worst:.1e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
