"""The real model of the book: SmolLM2, as ``examples/llm.py`` runs it, and its queries and keys."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

os.environ["TQDM_DISABLE"] = "1"  # before the example imports it: a page is no terminal
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import llm


def load(backend="numpy", layout="half"):
    """The model's config, weights and tokenizer."""
    fields, tensors = llm.read_file(llm.find_model())
    config = llm.read_config(fields, layout)
    xp, _, where = llm.find_backend(backend)
    return config, llm.load_weights(tensors, config, xp, where), llm.read_tokenizer(fields)


class Listener:
    """Hands everything on to a model's RoPE and keeps the vectors that it is about to rotate."""

    def __init__(self, rope):
        self.rope, self.seen = rope, []
        self.head_dim, self.cos_sin = rope.head_dim, rope.cos_sin

    def rotate(self, x, cos, sin):
        """`RoPE.rotate`, overheard."""
        self.seen.append(x)
        return self.rope.rotate(x, cos, sin)


def queries_and_keys(config, weights, tokens):
    """Before rotation, each (layers, heads, seq, head_dim); keys repeated for the heads that share."""
    listener = Listener(config.rope)
    caches = llm.empty_caches(config, len(tokens), np)
    llm.forward(config._replace(rope=listener), weights, tokens, caches)
    k, q = (np.stack(listener.seen[i::2]) for i in (0, 1))  # a layer rotates its keys first
    return q, np.repeat(k, q.shape[1] // k.shape[1], axis=1)
