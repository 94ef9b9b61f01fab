"""Write llama_tables.json: cos and sin as transformers' Llama computes them.

pip install "torch==2.13.*" transformers==5.24.0; python tests/goldens/make_llama_tables.py
"""

import json
from pathlib import Path

import torch
import transformers
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

POSITIONS = [0, 1, 2, 100, 4095, 4096, 131_072, 999_999, 1_000_000, 10_000_000]
CASES = [
    (64, 10000.0),
    (96, 10000.0),
    (128, 10000.0),
    (64, 100000.0),
    (128, 500000.0),
    (256, 1000000.0),
]


def case(head_dim, base):
    config = LlamaConfig(
        hidden_size=head_dim,
        num_attention_heads=1,
        head_dim=head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    rotary = LlamaRotaryEmbedding(config)
    with torch.no_grad():
        cos, sin = rotary(torch.zeros(1, dtype=torch.float32), torch.tensor([POSITIONS]))
    n_pairs = head_dim // 2
    return {
        "head_dim": head_dim,
        "base": base,
        "inv_freq": rotary.inv_freq.double().tolist(),
        "cos": cos[0, :, :n_pairs].double().tolist(),
        "sin": sin[0, :, :n_pairs].double().tolist(),
    }


if __name__ == "__main__":
    golden = {
        "source": f"transformers {transformers.__version__} LlamaRotaryEmbedding, "
        f"torch {torch.__version__.partition('+')[0]}",
        "positions": POSITIONS,
        "cases": [case(*c) for c in CASES],
    }
    path = Path(__file__).with_name("llama_tables.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
