"""What the chapter on stretching draws of long_context.json: a long text, read by several methods."""

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from plots import BLUE, CYCLE, FAINT, GREY, Plot, axes

PLAIN = "none"


def _panels(n, columns, xlabel, ylabel, **options):
    """Panels in rows; those that are left over are taken away."""
    rows = -(-n // columns)
    figure, grid = axes(rows, columns, sharex=True, sharey=True, **options)
    for ax in grid.flat[n:]:
        figure.delaxes(ax)
    panels = grid.flat[:n]
    for ax in panels[::columns]:
        ax.set_ylabel(ylabel)
    for ax in panels[-columns:]:
        ax.set_xlabel(xlabel)
        ax.tick_params(labelbottom=True)
    return figure, panels


def loss_by_position(losses, size, trained):
    """Mean loss of each ``size`` positions: (texts, bins) of each method, against no schedule."""
    others = [name for name in losses if name != PLAIN]
    figure, panels = _panels(len(others), 3, "position", "nats per token", width=8.4, height=4.6)
    ends = size * np.arange(1, losses[PLAIN].shape[1] + 1)
    at = ends - size / 2
    for panel, name, color in zip(panels, others, CYCLE, strict=False):
        for each, shade, dash in ((losses[PLAIN], GREY, "--"), (losses[name], color, "-")):
            low, high = each.min(0), each.max(0)
            panel.fill_between(at, low, high, color=shade, alpha=0.25, linewidth=0)
            panel.plot(at, each.mean(0), color=shade, linestyle=dash)
            alone = np.isfinite(low) & (ends > trained) & ~np.isfinite(np.roll(low, 1))
            panel.vlines(at[alone], low[alone], high[alone], color=shade, linestyle="-")
            panel.plot(at[alone], each.mean(0)[alone], "o", color=shade, markersize=3)
        panel.axvline(trained, color=GREY, linewidth=0.8, linestyle="-")
        panel.set_title(name, fontsize=9)
        panel.set(ylim=(0, None), xlim=(0, ends[-1]), xticks=[0, trained, ends[-1]])
        panel.set_xticklabels(["0", f"{trained:,}", f"{ends[-1]:,}"], fontsize=8)
    shown = [end for end in (2048, 4096, 8192, 10_240, 12_288, 16_384) if end in ends]
    columns = [list(ends).index(end) for end in shown]
    values = "; ".join(
        f"{name}: " + ", ".join(f"{value:.1f}" for value in rows.mean(0)[columns])
        for name, rows in losses.items()
    )
    return Plot(
        figure,
        f"""{len(others)} panels, one for each method: the mean loss of {len(losses[PLAIN])} texts by position, with the
        range of the texts, and for comparison, dashed, without a method. In the {size} positions up to
        {", ".join(map(str, shown))} the means are, {values}. A vertical line is at {trained}.""",
    )


def shares(asked, lengths):
    """Share of digits that are right: (depths, lengths), the mean of all texts; NaN: not asked."""
    depths = max(len({at for _, at, _ in text}) for text in asked)
    found = np.full((len(asked), depths, len(lengths)), np.nan)
    for text, rows in zip(found, asked, strict=True):
        order = sorted({at for _, at, _ in rows})
        for n, at, right in rows:
            text[order.index(at), lengths.index(n)] = right / 5
    return found.mean(axis=0)


def _squares(panel, where, **style):
    """As one path, which is short in a page."""
    squares = [
        Path(np.add([column, row], [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)]))
        for row, column in np.argwhere(where)
    ]
    panel.add_patch(PathPatch(Path.make_compound_path(*squares), linewidth=0, **style))


def passkeys(keys, lengths, trained):
    """A square for each length and depth, the fuller the more digits are right."""
    figure, panels = _panels(
        len(keys), 4, "tokens read", "position of the key", width=8.4, height=5.4
    )
    lines = []
    for panel, (name, asked) in zip(panels, keys.items(), strict=True):
        found = shares(asked, lengths)
        panel.grid(visible=False)
        _squares(panel, np.isfinite(found), facecolor=FAINT, alpha=0.35)
        for share in np.unique(found[found > 0]):
            _squares(panel, found == share, facecolor=BLUE, alpha=share)
        panel.axvline(lengths.index(trained) + 1, color=GREY, linewidth=0.8, linestyle="-")
        panel.set_title("no schedule" if name == PLAIN else name, fontsize=9)
        panel.set(xlim=(0, len(lengths)), ylim=(len(found), 0))
        marked = [0, lengths.index(trained), len(lengths) - 1]
        panel.set_xticks([i + 0.5 for i in marked], [f"{lengths[i]:,}" for i in marked], fontsize=8)
        rows = range(0, len(found), 5)
        panel.set_yticks([i + 0.5 for i in rows], [f"{1000 * i + 500:,}" for i in rows], fontsize=8)
        means = [column[np.isfinite(column)] for column in found.T]
        of_all = ", ".join(f"{m.mean():.2f}" if m.size else "not asked" for m in means)
        lines.append(f"{panel.get_title()}: {of_all}")
    return Plot(
        figure,
        f"""{len(keys)} panels, one for each method: a square for each length and each key that lies before it, the
        fuller its color the more of the five digits are the likeliest token. The means over all keys at
        {", ".join(map(str, lengths))} tokens are, {"; ".join(lines)}. A vertical line is behind {trained} tokens.""",
    )
