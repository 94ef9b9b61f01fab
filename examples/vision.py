"""Rotate the patches of a photograph as in DINOv3, and show the attention of one of them.

From a checkout::

    pip install ".[vision]"
    python examples/vision.py --plot vision.png
    python examples/vision.py --backend torch --patch 6 12

The photograph is ``china.jpg`` from scikit-learn. Its 26 × 40 patches of 16 × 16 pixels are at the
midpoints of a grid over [−1, 1] × [−1, 1], and `RoPE.from_config` reads a DINOv3 config. Pretrained
weights are not used: queries and keys are one fixed random projection of the pixels. Before rotation,
a score therefore says how similar two patches are, and what rotation changes depends only on their
positions. A real vision tower has class and register tokens before the patches, which are not rotated.
"""

import argparse
import sys
from importlib import import_module

import numpy as np
from array_api_compat import array_namespace

from rope_xp import RoPE
from rope_xp.attention import attention
from rope_xp.positions import grid_positions, normalized_axis

BACKENDS = {"numpy": "array_api_compat.numpy", "torch": "array_api_compat.torch"}
BACKENDS |= {"jax": "jax.numpy"}  # the only place that names libraries

CONFIG = {"model_type": "dinov3_vit", "hidden_size": 384, "num_attention_heads": 6}  # ViT-S/16
CONFIG |= {"patch_size": 16, "rope_theta": 100.0}
HEADS, SIDE = CONFIG["num_attention_heads"], CONFIG["patch_size"]
NEAR = 4  # patches


def load_picture():
    """The photograph, (height, width, 3), cropped to whole patches."""
    try:
        load = import_module("sklearn.datasets").load_sample_image
        picture = load("china.jpg")  # part of the package, read by Pillow
    except ImportError as error:
        sys.exit(f'the photograph is in scikit-learn: pip install ".[vision]" ({error})')
    height, width, _ = picture.shape
    return picture[: height - height % SIDE, : width - width % SIDE, :]


def cut(picture):
    """The patches row by row, (rows * columns, SIDE * SIDE * 3), and (rows, columns)."""
    height, width, colors = picture.shape
    rows, columns = height // SIDE, width // SIDE
    pixels = np.reshape(picture, (rows, SIDE, columns, SIDE, colors))
    pixels = np.transpose(pixels, (0, 2, 1, 3, 4))
    return np.reshape(pixels, (rows * columns, -1)), (rows, columns)


def project(patches, head_dim):
    """Queries, also used as keys, (HEADS, seq, head_dim), with nearly the dot products of the pixels."""
    x = patches - np.mean(patches, axis=0)
    x = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True))
    rng = np.random.default_rng(0)
    projection = rng.standard_normal((x.shape[1], HEADS * head_dim)) / np.sqrt(x.shape[1])
    q = np.reshape(x @ projection, (len(x), HEADS, head_dim))
    return np.transpose(q, (1, 0, 2)).astype(np.float32)


def weights_of(q, k):
    """Attention weights (q_len, k_len), averaged over heads: the output for the identity as values."""
    xp = array_namespace(q)
    identity = xp.eye(k.shape[1], dtype=k.dtype)
    return xp.mean(attention(q, k, xp.broadcast_to(identity, (HEADS, *identity.shape))), axis=0)


def score(rope, q, k, positions, at):
    """The score in head 0 of a query and a key, each (head_dim,), at the two patches ``at``."""
    xp = array_namespace(q)
    y = rope(xp.stack([q, k]), positions=xp.take(positions, xp.asarray(at), axis=1))
    return float(xp.sum(y[0, :] * y[1, :])) / rope.head_dim**0.5


def print_directions(rope):
    matrix = np.asarray(rope.frequencies().inv_freq)  # (n_axes, n_pairs)
    turns = matrix / np.pi  # over the picture, whose coordinates have a range of 2
    for name, along in zip(("down the rows", "along the columns"), turns, strict=True):
        pairs = np.flatnonzero(along)
        first, last = along[pairs[[0, -1]]]
        span = f"pairs {pairs[0]:>2} to {pairs[-1]:>2}"
        print(f"{span} turn {name:<18} {first:.2f} … {last:.2f} turns over the picture")


def print_attention(before, after, patch, shape):
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - patch[0], columns - patch[1])
    print(f"\nAttention of the patch in row {patch[0]}, column {patch[1]}:\n")
    print(f"{'':<27}{'before':>10}{'after rotation':>17}")
    lines = {
        "on itself": lambda w: f"{np.sum(w[distance == 0]):.1%}",
        f"at most {NEAR} patches away": lambda w: f"{np.sum(w[distance <= NEAR]):.1%}",
        "mean distance, in patches": lambda w: f"{np.sum(w * distance):.1f}",
    }
    for line, of in lines.items():
        print(f"{line:<27}{of(before):>10}{of(after):>17}")
    line = "largest, except itself, on"
    for one, other in zip(best(before, distance), best(after, distance), strict=True):
        print(f"{line:<27}{one:>10}{other:>17}")
        line = ""


def best(weights, distance, n=4):
    """The patches with the largest weights, except the patch itself."""
    order = np.argsort(np.where(distance == 0, 0, -weights), axis=None)[:n]
    return ["({}, {})".format(*np.unravel_index(i, weights.shape)) for i in order]


def print_scores(rope, q, k, positions, shape):
    rows, columns = shape
    print("\nOne query and one key at patches (row, column): equal steps give equal scores.\n")
    print(f"{'query':>10}{'key':>10}{'rows':>6}{'columns':>9}{'score':>11}")
    for down, along in ((3, 5), (5, 3), (0, 0)):
        bottom, right = rows - 1 - down, columns - 1 - along
        for row, column in ((0, 0), (bottom // 2, right // 3), (bottom, right)):
            start, end = (row, column), (row + down, column + along)
            at = [i * columns + j for i, j in (start, end)]
            found = score(rope, q, k, positions, at)
            print(f"{start!s:>10}{end!s:>10}{down:>6}{along:>9}{found:>11.5f}")


def draw(picture, rope, positions, maps, patch):
    """The attention, and cos of the angles of some pairs, with arrows in the direction they grow."""
    try:
        colors, figures = import_module("matplotlib.colors"), import_module("matplotlib.figure")
    except ImportError as error:
        sys.exit(f'--plot needs matplotlib: pip install ".[vision]" ({error})')
    matrix = np.asarray(rope.frequencies().inv_freq)  # (n_axes, n_pairs)
    cos = np.reshape(np.asarray(rope.cos_sin(positions)[0]), (*maps[0].shape, -1))
    place = np.asarray(positions)[:, patch[0] * cos.shape[1] + patch[1]]
    height, width, _ = picture.shape
    frame = {"extent": (-1, 1, 1, -1), "aspect": height / width}  # in coordinates
    gray = {"cmap": "gray", "vmin": 0, "vmax": 255, **frame}
    brightness = np.mean(picture, axis=2)

    figure = figures.Figure(figsize=(13, 7.7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    panels = above.subplots(1, 3, sharey=True)
    panels[0].imshow(picture, **frame)
    panels[0].set_title("the photograph, and the patch that looks")
    panels[0].set(xlabel="coordinate of the column", ylabel="coordinate of the row")
    norm = colors.PowerNorm(0.4, 0, max(np.max(w[w < w.max()]) for w in maps))  # without its own
    for panel, weights, when in zip(panels[1:], maps, ("before", "after"), strict=True):
        panel.imshow(brightness, **gray)
        shown = panel.imshow(weights, cmap="inferno", norm=norm, alpha=0.85, **frame)
        panel.set_title(f"where it looks {when} rotation")
    above.colorbar(shown, ax=panels[1:], label="attention", extend="max", format="{x:.1%}")
    for panel in panels:
        panel.plot(*place[::-1], "s", mfc="none", mec="black", mew=3.5, ms=11)
        panel.plot(*place[::-1], "s", mfc="none", mec="white", mew=1.5, ms=11)

    n = rope.n_pairs // 2
    grid = below.subplots(2, 4, sharex=True, sharey=True)
    for panel, i in zip(grid.flat, [p + j for p in (0, n) for j in (0, 3, 6, n - 1)], strict=True):
        panel.imshow(brightness, **gray)
        shown = panel.imshow(cos[:, :, i], cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.7, **frame)
        down, along = matrix[:, i] / (2 * np.pi)  # turns per unit: the gradient of the angle
        arrow = {"angles": "xy", "scale_units": "xy", "scale": 1.2, "width": 0.014}
        panel.quiver(0, 0, along, down, color="black", edgecolor="white", linewidth=0.7, **arrow)
        panel.set_title(f"pair {i}: {2 * np.hypot(down, along):.2f} turns", fontsize=10)
    below.colorbar(shown, ax=grid, label="cos of the angle")
    below.suptitle(
        "Angles of pairs that depend on the row (above) and on the column (below), from fast to slow; "
        "arrows point in the direction in which the angle grows.",
        fontsize=11,
    )
    return figure


def main():
    parser = argparse.ArgumentParser(description="RoPE over the patches of a photograph.")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy")
    parser.add_argument("--patch", type=int, nargs=2, default=(17, 25), metavar=("ROW", "COLUMN"))
    parser.add_argument("--plot", metavar="FILE", help="draw attention and angles over the picture")
    args = parser.parse_args()
    try:
        xp = import_module(BACKENDS[args.backend])
    except ImportError as error:
        sys.exit(f"the backend {args.backend} does not run on this machine: {error}")

    picture = load_picture()
    patches, shape = cut(picture)
    row, column = args.patch
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        parser.error(f"--patch must be in a grid of {shape[0]} × {shape[1]}, got {row} {column}")

    rope = RoPE.from_config(CONFIG)
    positions = grid_positions(*map(normalized_axis, shape), xp=xp)  # (2, seq)
    x = xp.asarray(project(patches, rope.head_dim))  # (HEADS, seq, head_dim)
    q, k = rope(x, x, positions=positions)
    print(f"{rope}\n{shape[0]} × {shape[1]} patches, on {args.backend}\n")
    print_directions(rope)

    i = row * shape[1] + column
    before, after = weights_of(x[:, i : i + 1, :], x), weights_of(q[:, i : i + 1, :], k)
    maps = [np.reshape(np.asarray(w), shape) for w in (before, after)]
    print_attention(*maps, (row, column), shape)
    print_scores(rope, x[0, i, :], x[0, i + 1 if column == 0 else i - 1, :], positions, shape)
    if args.plot:
        figure = draw(picture, rope, positions, maps, (row, column))
        try:
            figure.savefig(args.plot, dpi=120)
        except (OSError, ValueError) as error:
            sys.exit(f"{args.plot} cannot be written: {error}")
        print(f"\n{args.plot} shows it")


if __name__ == "__main__":
    main()
