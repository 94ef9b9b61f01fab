"""Positions of a text with an image in it, as in Qwen3-VL, and the scores that RoPE gives there.

python examples/text_image.py
python examples/text_image.py --image 4 16

The size of the image is in patches, 2 × 2 of which make one token. Each word counts as one token,
because positions depend only on the number of tokens.
"""

import argparse

import numpy as np

from rope_xp import RoPE
from rope_xp.positions import text_image_positions

CONFIG = {"model_type": "qwen3_vl_text", "head_dim": 128, "num_attention_heads": 32}
CONFIG |= {"rope_theta": 5_000_000.0}
CONFIG |= {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20]}}
MERGE = 2  # patches along each side of a token
BEFORE = ["What", "is", "this", "?", "<start>"]
AFTER = ["<end>", "Answer", "in", "one", "word", "."]


def place(*images):
    """Positions (3, seq) of the text with images of (h, w) patches in it, and the next position."""
    grids = [(1, h, w) for h, w in images]  # an image has one time
    return text_image_positions([len(BEFORE), *grids, len(AFTER)], merge=MERGE)


def print_sequence(positions, after, shape):
    rows, columns = shape
    n, end = len(BEFORE), len(BEFORE) + rows * columns
    print(f"{'token':<10}(time, row, column)\n")
    for word, at in zip(BEFORE, positions[:, :n].T, strict=True):
        print(f"{word:<10}{show(at)}")
    block = np.reshape(positions[:, n:end], (3, rows, columns))
    for row in range(rows):
        line = " ".join(show(block[:, row, column]) for column in range(columns))
        print(f"{'' if row else 'image':<10}{line}")
    for word, at in zip(AFTER, positions[:, end:].T, strict=True):
        print(f"{word:<10}{show(at)}")
    print(f"{'…':<10}{show([after] * 3)}  the next token to be generated")

    size = f"The image takes {rows * columns} tokens ({rows} rows, {columns} columns)"
    print(f"\n{size}, but only {max(rows, columns)} positions, its longer side.")


def show(at):
    return "({:>2},{:>2},{:>2})".format(*at)


def print_axes(rope):
    axes = "".join("thw"[axis] for axis in rope.axes.axis_of_pair(rope.rotary_dim))
    counts = ", ".join(f"{axes.count(a)} {a}" for a in "thw")
    print(f"\n{rope}\nThe axis of each pair, fast pairs first ({counts}):\n\n{axes}")


def print_text(rope, positions, q):
    """Text has equal coordinates, so it does not matter which axis drives which pair."""
    plain = RoPE(rope.head_dim, layout=rope.layout, base=rope.base)
    text = np.flatnonzero(np.ptp(positions, axis=0) == 0)
    x = np.broadcast_to(q, (len(text), rope.head_dim))
    apart = rope(x, positions=positions[:, text]) - plain(x, positions=positions[0, text])
    print(f"\n{len(text)} tokens have equal coordinates: the text, and the first of the image.")
    print(
        f"RoPE with one axis is the same there: the largest difference is {np.max(np.abs(apart))}."
    )


def print_around(rope, q, k, image):
    """The same two words with images of different sizes between them."""
    plain = RoPE(rope.head_dim, layout=rope.layout, base=rope.base)
    h, w = image
    print(f"\nThe score of {AFTER[0]!r} and {BEFORE[-1]!r}, with an image between them:\n")
    print(f"{'patches':>9}{'tokens':>8}{'positions':>11}{'score':>10}", end="")
    print(f"{'same distance in text':>24}{'counting tokens':>21}")
    for images in dict.fromkeys([(), ((h, w),), ((w, h),), ((2 * h, 2 * w),)]):  # each once
        positions, _ = place(*images)
        key, query = len(BEFORE) - 1, positions.shape[1] - len(AFTER)
        tokens, apart = query - key - 1, positions[0, query] - positions[0, key]
        size = "{} × {}".format(*images[0]) if images else "none"
        found = score(rope, q, k, positions[:, [query, key]])
        text = [score(plain, q, k, np.asarray([n, 0])) for n in (apart, tokens + 1)]
        print(f"{size:>9}{tokens:>8}{apart:>11}{found:>10.4f}{text[0]:>24.4f}{text[1]:>21.4f}")


def print_image(rope, positions, q, k, shape):
    """Scores of a word after the image with its tokens, if these differed only in their positions."""
    n, query = len(BEFORE), positions.shape[1] - len(AFTER)
    scores = [score(rope, q, k, positions[:, [query, key]]) for key in range(n, query)]
    print(f"\nThe score of {AFTER[0]!r} and one key, at each token of the image:\n")
    for row in np.reshape(scores, shape):
        print("".join(f"{value:>9.4f}" for value in row))


def score(rope, q, k, positions):
    """The score of a query and a key, (head_dim,), at two positions, (3, 2) or (2,)."""
    y = rope(np.stack([q, k]), positions=positions)
    return float(y[0] @ y[1]) / rope.head_dim**0.5


def main():
    parser = argparse.ArgumentParser(description="Positions of a text with an image in it.")
    parser.add_argument("--image", type=int, nargs=2, default=(6, 10), metavar=("H", "W"))
    image = tuple(parser.parse_args().image)
    try:
        positions, after = place(image)
    except ValueError as error:
        parser.error("--image {} {} has no place: {}".format(*image, error))
    shape = tuple(n // MERGE for n in image)  # in tokens
    rope = RoPE.from_config(CONFIG)
    rng = np.random.default_rng(0)
    q, noise = rng.standard_normal((2, rope.head_dim))
    k = q + 0.5 * noise  # similar, so that the score depends on the distance

    print_sequence(positions, after, shape)
    print_axes(rope)
    print_text(rope, positions, q)
    print_around(rope, q, k, image)
    print_image(rope, positions, q, k, shape)


if __name__ == "__main__":
    main()
