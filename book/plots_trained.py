"""What the chapter on small models trained from scratch draws, of train_tiny.json."""

import numpy as np

from plots import COLOURS, Plot, axes

ORDER = list(COLOURS.values())[:6]


def loss_by_length(table, lengths):
    """Mean loss at 1, 2 and 4 lengths, a group of bars for each encoding; lines are the range of seeds."""
    figure, ax = axes(width=6.4, height=4.4)
    names = list(table)
    for i, (length, color) in enumerate(zip(lengths, ORDER, strict=False)):
        runs = np.asarray([table[name][:, i] for name in names])  # (encodings, seeds)
        at = np.arange(len(names)) + 0.26 * (i - 1)
        ax.barh(at, runs.mean(1), height=0.24, color=color, label=f"{length} bytes")
        ax.hlines(at, runs.min(1), runs.max(1), color="#010203", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("nats per byte")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    ends = "; ".join(
        f"{name} {table[name].mean(0)[0]:.2f}, {table[name].mean(0)[-1]:.2f}" for name in names
    )
    return Plot(
        figure,
        f"""Horizontal bars, three for each encoding: the mean loss at {lengths[0]}, {lengths[1]} and {lengths[2]} bytes,
        with a line from the lowest to the highest seed. The first and the last of the three: {ends}.""",
    )
