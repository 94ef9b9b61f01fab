"""What the page on broken rotations draws, of break_model.json and model_positions.json."""

import numpy as np

from moving import Moving
from plots import BLUE, GREY, RED, Plot, axes

RIGHT = {  # of each mistake the value that is none
    "layout of pairs": "half",
    "base": 10**5,
    "direction": "+mθ",
    "values": "not rotated",
    "positions times": 1.0,
    "queries moved by": 0,
    "positions in bfloat16, from": 0,
    "positions in float16, from": 0,
    "float32 angles, from": 0,
}


def named(value):
    """A value as the page shows it."""
    if isinstance(value, str):
        return value
    if value >= 10**6 and value == 10 ** round(np.log10(value)):
        return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(round(np.log10(value))))
    return f"{value:,}".replace("-", "−")


def of_paragraphs(losses):
    """Mean, lowest and highest of losses (values, paragraphs)."""
    losses = np.asarray(losses)
    return np.stack([losses.mean(1), losses.min(1), losses.max(1)], -1)  # (values, 3)


def table(recorded):
    """Of each mistake its values, and mean, lowest and highest loss of eight paragraphs for each."""
    return {
        name: (each["values"], of_paragraphs(each["means"]))
        for name, each in recorded["mistakes"].items()
    }


def broken(recorded, gaps, loss_at_gaps):
    """The figure that moves: a menu of mistakes and a slider of their values."""
    rows = {
        name: {
            "labels": [named(value) for value in values],
            "losses": losses.round(3),
            "right": values.index(RIGHT[name]),
            "tokens": recorded["mistakes"][name]["tokens"],
        }
        for name, (values, losses) in table(recorded).items()
    }
    for name, each in loss_at_gaps.items():
        label = f"gap, {'no schedule' if name == 'none' else name}"
        rows[label] = {
            "labels": [named(gap) for gap in gaps],
            "losses": of_paragraphs(np.transpose(each)).round(3),
            "right": 0,
        }
    data = {"tokens": recorded["tokens"], "mistakes": rows}
    return Moving("broken", data, worst(rows))


def worst(rows):
    """Of each mistake the value with the highest mean loss."""
    figure, ax = axes(width=6.4, height=4.8)
    names = list(rows)
    highest = {name: int(np.argmax(row["losses"][:, 0])) for name, row in rows.items()}
    ends = np.asarray([rows[name]["losses"][i] for name, i in highest.items()])
    own = np.asarray([row["losses"][row["right"]][0] for row in rows.values()])
    at = np.arange(len(names))
    ax.hlines(at, ends[:, 1], ends[:, 2], color=RED, linewidth=1.5)
    ax.plot(ends[:, 0], at, "o", color=RED, linestyle="", label="at its worst")
    ax.plot(own, at, "s", color=BLUE, linestyle="", markersize=4, label="without the mistake")
    labels = [f"{name} {rows[name]['labels'][i]}" for name, i in highest.items()]
    ax.set_yticks(at, labels, fontsize=9)
    ax.invert_yaxis()
    ax.set_xlabel("nats per token")
    ax.axvline(own[0], color=GREY, linewidth=0.8)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    words = "; ".join(
        f"{label}: {mean:.2f} ({low:.2f} to {high:.2f})"
        for label, (mean, low, high) in zip(labels, ends, strict=True)
    )
    return Plot(
        figure,
        f"""One row for each mistake: its mean loss at the value that is worst, with a line from the lowest to the
        highest of eight paragraphs, beside the loss without it. {words}. Without a mistake: {own[0]:.2f}.""",
    )
