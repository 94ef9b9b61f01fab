"""The language model of the book: SmolLM2, as ``examples/llm.py`` runs it, and its queries and keys."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from array_api_compat import array_namespace

from rope_xp import convert_layout

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import llm

llm.tqdm = lambda tensors, **_: tensors  # a page is not a terminal


@cache
def read():
    """Metadata and tensors.

    The vocabulary is read in a million slices, and those of a memmap are slow: 6 seconds instead of
    1.5 over a plain array.
    """
    mapped = np.memmap
    with patch.object(np, "memmap", lambda *args, **options: np.asarray(mapped(*args, **options))):
        return llm.read_file(llm.find_model())


def load(backend="numpy", layout="half"):
    """The model's config, weights and tokenizer."""
    fields, tensors = read()
    config = llm.read_config(fields, layout)
    xp, _, where = llm.find_backend(backend)
    return config, llm.load_weights(tensors, config, xp, where), llm.read_tokenizer(fields)


class Listener:
    """Passes every call to a model's RoPE and stores the vectors before they are rotated."""

    def __init__(self, rope):
        self.rope, self.seen = rope, []
        self.head_dim, self.cos_sin = rope.head_dim, rope.cos_sin

    def rotate(self, x, cos, sin):
        """`RoPE.rotate`, with ``x`` stored."""
        self.seen.append(x)
        return self.rope.rotate(x, cos, sin)


def queries_and_keys(config, weights, tokens):
    """Before rotation, each (layers, heads, seq, head_dim); keys repeated for the heads that share."""
    listener = Listener(config.rope)
    caches = llm.empty_caches(config, len(tokens), np)
    llm.forward(config._replace(rope=listener), weights, tokens, caches)
    k, q = (np.stack(listener.seen[i::2]) for i in (0, 1))  # a layer rotates its keys first
    return q, np.repeat(k, q.shape[1] // k.shape[1], axis=1)


def context_length():
    """Length of the context that the model was made for, from its file."""
    return read()[0]["llama.context_length"]


def chat(tokenizer, prompt):
    """The tokens of a question in the form that the model was trained to answer."""
    return tokenizer.encode(llm.render_chat(read()[0], prompt)).ids


def answer(config, weights, prompt, n):
    """The likeliest tokens, at most ``n``, on NumPy."""
    caches = llm.empty_caches(config, len(prompt) + n, np, batch=1)
    end = read()[0]["tokenizer.ggml.eos_token_id"]
    step = partial(llm.next_logits, config)
    return [token for (token,) in llm.generate(step, weights, [prompt], caches, n, end=end)]


def on(xp, config, weights, tokens, compiled=lambda step: step):
    """`logits`, by another library."""

    def moved(part):
        if isinstance(part, dict):
            return {name: moved(inner) for name, inner in part.items()}
        return [moved(inner) for inner in part] if isinstance(part, list) else xp.asarray(part)

    return logits(config, moved(weights), xp.asarray(tokens), compiled)


def converted(config, weights, layout):
    """Config and weights of the same model with its pairs in the other layout."""
    rope = dataclasses.replace(config.rope, layout=layout)
    sizes = {"source": config.rope.layout, "target": layout, "head_dim": rope.head_dim, "axis": 0}
    parts = ("attn_q", "attn_k")
    layers = [
        layer | {part: convert_layout(layer[part], **sizes) for part in parts}
        for layer in weights["layers"]
    ]
    return config._replace(rope=rope), weights | {"layers": layers}


def empty_caches(config, tokens):
    return llm.empty_caches(config, len(tokens), array_namespace(tokens))


def logits(config, weights, tokens, compiled=lambda step: step):
    """Logits of the token after ``tokens``, as a NumPy array whatever library computed them."""
    step = compiled(partial(llm.next_logits, config))
    return np.asarray(step(weights, tokens, empty_caches(config, tokens))[0])


def losses(config, weights, tokens, rotated_values=False):
    """Negative log-likelihood of each token but the first, given those before it (NumPy)."""
    caches = empty_caches(config, tokens[:-1])
    if rotated_values:
        caches = [TurnsValues(cache, config.rope) for cache in caches]
    x, _ = llm.forward(config, weights, tokens[:-1], caches)
    scores = x @ weights["output"].T  # (seq, vocabulary)
    scores -= np.max(scores, axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, tokens[1:, None], axis=-1)[:, 0]
    return np.log(np.sum(np.exp(scores), axis=-1)) - chosen


class WithPositions:
    """A RoPE that changes every position first."""

    def __init__(self, rope, change):
        self.change, self.rope = change, rope
        self.head_dim, self.rotate = rope.head_dim, rope.rotate

    def cos_sin(self, positions):
        return self.rope.cos_sin(self.change(positions))


class TurnsValues:
    """A cache that also rotates the values, which is wrong."""

    def __init__(self, cache, rope):
        self.next_positions, self.cache, self.rope = cache.next_positions, cache, rope

    def append(self, k, v, counts=None):
        return self.cache.append(k, self.rope(v, offset=self.next_positions), counts=counts)
