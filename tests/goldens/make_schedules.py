"""Write schedules.json: frequencies and attention factors of transformers' schedules.

pip install "torch==2.13.*" transformers==5.24.0; python tests/goldens/make_schedules.py
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LISTS = {
    "short_factor": [1 + i / 32 for i in range(32)],
    "long_factor": [1 + i**2 / 16 for i in range(32)],
}
# rope_type, head_dim, base, max_position_embeddings, seq_len, the other parameters of the config
CASES = [
    ("linear", 128, 10000.0, 2048, None, {"factor": 8.0}),
    ("dynamic", 128, 10000.0, 2048, None, {"factor": 10.0}),
    ("dynamic", 128, 10000.0, 2048, 16384, {"factor": 10.0}),
    ("yarn", 128, 10000.0, 20480, None, {"factor": 10.0, "original_max_position_embeddings": 2048}),
    (
        "yarn",
        64,
        150000.0,
        131072,
        None,
        {"factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False},
    ),
    (
        "yarn",
        64,
        10000.0,
        163840,
        None,
        {
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 0.707,
            "mscale_all_dim": 1.0,
        },
    ),
    (
        "llama3",
        128,
        500000.0,
        131072,
        None,
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    ("longrope", 64, 10000.0, 131072, 4096, {"original_max_position_embeddings": 4096, **LISTS}),
    ("longrope", 64, 10000.0, 131072, 4097, {"original_max_position_embeddings": 4096, **LISTS}),
    ("proportional", 64, 1e6, 4096, None, {"partial_rotary_factor": 0.25, "factor": 2.0}),
]


def case(rope_type, head_dim, base, max_positions, seq_len, parameters):
    config = LlamaConfig(
        hidden_size=head_dim,
        num_attention_heads=1,
        head_dim=head_dim,
        max_position_embeddings=max_positions,
        rope_parameters={"rope_type": rope_type, "rope_theta": base, **parameters},
    )
    inv_freq, attention_factor = ROPE_INIT_FUNCTIONS[rope_type](
        config, torch.device("cpu"), seq_len=seq_len
    )
    return {
        "rope_type": rope_type,
        "head_dim": head_dim,
        "base": base,
        "max_position_embeddings": max_positions,
        "seq_len": seq_len,
        "parameters": parameters,
        "inv_freq": inv_freq.double().tolist(),
        "attention_factor": attention_factor,
    }


if __name__ == "__main__":
    golden = {
        "source": f"transformers {transformers.__version__} ROPE_INIT_FUNCTIONS, "
        f"torch {torch.__version__.partition('+')[0]}",
        "cases": [case(*c) for c in CASES],
    }
    path = Path(__file__).with_name("schedules.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
