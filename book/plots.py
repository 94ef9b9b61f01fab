"""Every drawing of the book. The values are computed by rope_xp; this module only draws them.

A function returns a `Plot`, which a notebook shows as SVG inside the page: text takes the colour of
the page and lines those of ``_static/book.css``, so one drawing serves light and dark. Each has a
description in words, for those who cannot see it.
"""

from __future__ import annotations

import functools
import html
import io
import itertools
import re
from collections import Counter

import matplotlib as mpl
import matplotlib.ticker
import ml_dtypes
import mpmath
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from rope_xp import RoPE, analysis, cos_sin, scaling
from rope_xp.analysis import turns
from rope_xp.attention import linear_attention

# Placeholders that matplotlib draws with, for the colours of the style sheet.
INK = "#010203"
COLOURS = {
    "blue": "#0072b2",
    "orange": "#c26a00",
    "green": "#00805f",
    "red": "#c14a00",
    "purple": "#a8508a",
    "sky": "#2f8fc4",
    "grey": "#767676",
    "faint": "#d0d0d0",
}
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, FAINT = COLOURS.values()
CYCLE = [BLUE, RED, GREEN, PURPLE, ORANGE, SKY]
DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]  # colour is never alone

mpl.rcParams.update(
    {
        "axes.prop_cycle": mpl.cycler(color=CYCLE, linestyle=DASHES),
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "font.size": 10,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "mathtext.fontset": "cm",
        "svg.fonttype": "path",
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)

_serial = itertools.count(1)


class Plot:
    """A drawing and its description: shown by a notebook as SVG inside the page.

    It is drawn twice: as wide as the page, and for phones with its panels one below the other. The
    style sheet shows one of them.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure, self.alt = figure, " ".join(alt.split())

    def svg(self) -> str:
        """The wide drawing with the page's colours."""
        return self._drawings[0]

    def _repr_html_(self) -> str:
        return '<div class="plots">' + "".join(self._drawings) + "</div>"

    @functools.cached_property
    def _drawings(self):
        wide = self._draw("wide", self.alt)
        _stack(self.figure)
        alt = re.sub(r"\bLeft\b(?=[,:])", "Above", self.alt)
        return wide, self._draw("narrow", re.sub(r"\bRight\b(?=[,:])", "Below", alt))

    def _draw(self, name, alt):
        """Its ids are unique, since a page has several."""
        with mpl.rc_context({"svg.hashsalt": "rope_xp"}):
            written = io.StringIO()
            self.figure.savefig(
                written,
                format="svg",
                transparent=True,
                bbox_inches="tight",
                metadata={"Date": None},
            )
        text = written.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        prefix = f"plot{next(_serial)}-"
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", text)
        text = text.replace(INK, "currentColor")
        for colour_name, colour in COLOURS.items():
            # A notebook has no style sheet of the book: it takes the colour behind the comma.
            text = text.replace(colour, f"var(--{colour_name}, {colour})")
        width = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', text)[1]) * 4 / 3
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        label = html.escape(alt)
        style = f"max-width: {width:.0f}px" + "; display: none" * (name == "narrow")
        start = f'<svg class="plot {name}" role="img" aria-label="{label}" style="{style}"'
        return text.replace("<svg", start, 1)


def save_preview(figure, path):
    """A figure as a picture of 1200 by 630 pixels on white, the size of a link's preview."""
    figure.set_size_inches(8, 4.2)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


def _stack(figure, width=3.5):
    """Make a figure as narrow as a phone: panels one below the other, each with its legend below.

    Square panels, of which there were more than four in a row, are four in a row.
    """
    panels = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    first, last = panels[0], panels[-1]
    rows, columns = first.get_subplotspec().get_gridspec().get_geometry()
    wide, height = figure.get_size_inches()
    if columns > 1:
        square = first.get_aspect() != "auto"
        across = 4 if square and columns > 4 else 1
        down = -(-len(panels) // across)
        grid = figure.add_gridspec(down, across)
        share_x = last in first.get_shared_x_axes().get_siblings(first)
        for spec, ax in zip(grid, panels, strict=True):
            ax.set_subplotspec(spec)
            ax.tick_params(labelbottom=True, labelleft=True)
            ax.set_ylabel(ax.get_ylabel() or first.get_ylabel())
            if share_x:
                ax.set_xlabel(last.get_xlabel())
        each = 0.95 * width if square else max(1.8, 0.7 * height / rows)
        height = down * (each if across == 1 else height / rows)
    for ax in panels:
        legend = ax.get_legend()
        if legend is not None:
            lines = [text.get_text() for text in legend.get_texts()]
            size = legend.get_texts()[0].get_fontsize()
            columns = 2 if size * max(map(len, lines)) < 230 else 1
            below = (0.5, -0.55 * len(panels) / height)
            place = {"loc": "upper center", "bbox_to_anchor": below}
            ax.legend(legend.legend_handles, lines, ncols=columns, fontsize=size, **place)
            height += 0.2 * len(lines) / columns
    names = [label.get_text() for label in first.get_yticklabels()]
    if any(len(name) > 20 and "$" not in name for name in names):  # names, above their rows
        for y, name in enumerate(names):
            at = {"transform": first.get_yaxis_transform(), "in_layout": False}
            first.text(0, y - 0.42, name, fontsize=8, **at)
        first.set_yticks([])
        first.set_ylim(len(names) - 0.5, -0.9)
        height = 0.42 * len(names) + 1.2
    figure.set_size_inches(min(width, wide), height)


def axes(rows=1, columns=1, *, width=6.4, height=3.2, **options):
    """A figure of the book's size and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


# --- moving.py: a static drawing of each figure that moves ---------------------------------------


def _clock(ax, *angles, wedge=None):
    """A circle with a hand for each angle: the first blue and solid, the second red and dashed."""
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GREY))
    if wedge is not None:
        ax.add_patch(Wedge((0, 0), 0.6, *np.degrees(wedge), facecolor=GREY, alpha=0.35))
    for angle, colour, dash in zip(angles, (BLUE, RED), ("-", "--"), strict=False):
        ax.plot([0, np.cos(angle)], [0, np.sin(angle)], color=colour, linestyle=dash)
        ax.plot(np.cos(angle), np.sin(angle), "o", color=colour, markersize=3)
    ax.set_aspect("equal")
    ax.axis("off")


def static_sinusoid(data, *, p, k):
    """Each pair of rows p and p + k as a clock with two hands."""
    figure, panels = axes(1, 8, height=1.2)
    for i, ax in enumerate(panels):
        start, turned = data["angles"][p, i], 2 * np.pi * data["shifts"][k, i]
        _clock(ax, start, start + turned, wedge=(start, start + turned))
        ax.set_title(f"$i = {i}$", fontsize=9)
    return Plot(
        figure,
        f"""Eight clocks, one for each pair of a sinusoidal encoding with 16 features. Each has two
        hands: a solid one for row p and a dashed one for row p + k, here p = {p} and k = {k}, and
        the sector between them is filled. Sliders move p from 0 to 64 and k from 0 to 32. Moving p
        turns both hands of a clock together and does not change the sectors. Moving k changes the
        sectors. Their angle, k times the pair's frequency, is given in degrees under each clock: about
        {360 * data["shifts"][k, 0]:.0f} degrees in the first clock and
        {360 * data["shifts"][k, 7]:.2f} in the last. Bars below show the pair's sine and cosine in
        both rows.""",
    )


def static_pairs(data, *, m):
    """All pairs as clocks; those that have completed a turn are filled."""
    figure, panels = axes(2, 8, height=2.2)
    at = data["positions"].tolist().index(m)
    for i, ax in enumerate(panels.flat):
        angle, turns = data["angles"][at, i], data["turns"][at, i]
        done = turns >= 1
        _clock(ax, angle, wedge=(0, 2 * np.pi) if done else (0, 2 * np.pi * turns))
        ax.set_title(f"$i = {i}$\n{turns:.2f}", fontsize=8)
    return Plot(
        figure,
        f"""Sixteen clocks, one for each pair of a head with 32 features and base 10000. Each has
        one hand at the angle of the pair at position m. The number beside a clock is the number of
        turns since position 0. A slider moves m from 0 to 4096. Fast pairs spin, and slow pairs
        barely move. The disc of a pair that has completed a turn is filled. In the other discs, only
        the part that the hand has passed is filled. At m = {m}, {np.sum(data["turns"][at] >= 1)} of
        16 pairs have completed a turn. At m = 4096, {np.sum(data["turns"][-1] >= 1)} have: the first
        pair has completed {np.floor(data["turns"][-1, 0]):.0f} turns, and the last has made
        {data["turns"][-1, 15]:.2f} of a turn.""",
    )


def static_base(data, *, base, context):
    """Wavelength of each pair against one context."""
    figure, ax = axes()
    at, length = data["bases"].index(base), data["contexts"][context]
    waves = data["wavelengths"][at]
    i, turning = np.arange(len(waves)), data["turning"][context][at]
    ax.semilogy(i[:turning], waves[:turning], "o", color=BLUE, markersize=3)
    ax.semilogy(i[turning:], waves[turning:], "s", color=RED, markersize=4, fillstyle="none")
    ax.axhline(length, color=GREY, linestyle="--")
    ax.set(xlabel="pair $i$", ylabel="wavelength (tokens)")
    return Plot(
        figure,
        f"""The wavelength of each of 64 pairs (128 features) on a logarithmic axis. The points lie on
        a rising straight line, and a dashed line marks the context length. Filled circles below the
        dashed line are pairs that complete a turn within the context. Open squares above it are pairs
        that do not. A slider moves the base from 100 to 100 million, which tilts the line of points
        about its first point, at 6.28 tokens. A menu chooses the context: 2k, 8k, 128k or 1M. With
        base {base} and context {context}, {turning} of 64 pairs complete a turn, and the slowest
        pair has a wavelength of {waves[-1]:.0f} tokens.""",
    )


def static_decay(data, *, distance):
    """The walk of the partial sums at one distance, and two curves over all distances."""
    figure, (walk, curve) = axes(2, height=4.6, height_ratios=[2, 3])
    at = data["distances"].tolist().index(distance)
    walk.plot([0, *data["x"][at]], [0, *data["y"][at]], color=BLUE, marker=".")
    walk.add_patch(Circle((0, 0), data["bound"][at], fill=False, edgecolor=GREEN, linestyle="--"))
    walk.set(xlim=(-34, 66), ylim=(-18, 18), aspect="equal", xlabel="Re $S_j$", ylabel="Im $S_j$")
    for name, label, colour, dash in (
        ("bound", "$D(r)$", GREEN, "-"),
        ("advantage", "$A(r)$", RED, "--"),
    ):
        low, high = data[f"{name}_low"], data[f"{name}_high"]
        curve.fill_between(
            data["distances"], low, high, step="post", color=colour, alpha=0.25, linewidth=0
        )
        curve.plot(data["distances"], data[name], color=colour, linestyle=dash, label=label)
    curve.axvline(distance, color=GREY, linestyle=":")
    curve.set_xscale("symlog", linthresh=2)
    curve.set(xlabel="distance $r$ (positions)", xlim=(0, data["distances"][-1]))
    curve.legend()
    return Plot(
        figure,
        f"""Two panels and a slider for the distance from 0 to 20000; 128 features, base 10000.
        First, the partial sums S_1 to S_64 as a walk in the complex plane: 64 steps of length 1,
        each turned by its own angle. At distance 0 it is a straight line to 64; as the distance
        grows it curls up, the fast pairs first. A dashed circle about the origin has the mean of
        the sums' sizes as its radius; the walk's end, a square, has the sum of the cosines as its
        real part. Second, two curves over the distance, with a marker: D, the mean of the sizes,
        from 32.5 at 0, up and down on its way, to {data["bound_low"].min():.1f} at the least; and
        A, the sum of the cosines, from 64 at 0 to below zero for the first time at {data["first"]}.
        Pale bands show the range between two distances that the slider stops at.""",
    )


def static_precision(data):
    """One score at distance 5 with exact and float32 angles, and the error of the angles."""
    figure, (score, error) = axes(2, height=4.2, sharex=True)
    score.semilogx(data["positions"], data["float32"], "x", color=RED, markersize=4)
    score.plot(data["positions"], data["exact"], color=BLUE)
    score.set(ylabel="score")
    error.loglog(data["positions"], data["errors"], "x", color=RED, markersize=4)
    error.plot(data["positions"], data["positions"] * 2.0**-24, color=GREY, linestyle=":")
    error.set(xlabel="position of the key (tokens)", ylabel="angle error (rad)")
    off = np.abs(data["float32"] - data["exact"])
    return Plot(
        figure,
        f"""Two panels over the position of the key, from 1 to 10 million on a logarithmic axis,
        with a slider that moves a marker along. First, the score of one query and one key that
        are 5 apart. With exact phases it is {data["exact"][0]:.3f} everywhere, a horizontal line.
        With float32 angles, drawn as crosses, it agrees to the eye up to about a hundred thousand
        tokens and then scatters, by up to {off.max():.2f} at those shown. Second, the largest
        error of an angle among the 64 pairs, on a logarithmic axis: it grows roughly in proportion
        to the position, near the dotted line position times 2 to the power -24, to
        {data["errors"].max():.2f} rad. A small clock shows the pair that is furthest off: a solid
        hand where it should point, and a dashed one where the float32 angle makes it point.""",
    )


def static_schedule(data, *, factor):
    """Ratio of new to old frequency for each pair, all schedules at one factor."""
    figure, ax = axes()
    at = data["factors"].index(factor)
    for name, waves in data["wavelengths"].items():
        if name != "NTK by parts":
            label = "YaRN, NTK by parts" if name == "YaRN" else name
            ax.semilogy(data["own"] / waves[at], label=label)
    for end in data["ends"]:
        ax.axvline(end, color=GREY, linestyle=":", linewidth=1)
    ax.set(xlabel="pair $i$", ylabel="new / old frequency")
    parts = [2**n for n in range(6) if 2**n <= factor]
    ax.set_yticks([1 / part for part in parts], ["1", *(f"1/{part}" for part in parts[1:])])
    ax.minorticks_off()
    ax.legend()
    return Plot(
        figure,
        f"""What a schedule does to each of 64 pairs (128 features, base 10000, original context
        {data["original"]}). A menu chooses Linear, NTK, NTK by parts, YaRN or Llama 3, a slider the
        factor s from 1 to 32. First panel: the ratio of the new to the old frequency, from 1 down
        to 1/s, with dotted lines at the pairs that make 32, 4 and 1 turns within the original
        context. Linear divides every pair by s; NTK slows each pair more than the one before, the
        first not at all and the last by s; NTK by parts and YaRN keep pairs with more than 32
        turns, divide those with less than 1 and go from one to the other on a ramp; Llama 3 does so
        between 4 turns and 1. Second panel: the wavelengths, old as open circles and new as filled
        ones, against two dashed lines, the original context and s times it.""",
    )


def static_cache(data, *, keep, drop):
    """A cache before and after some of its tokens are dropped."""
    figure, ax = axes(height=1.8)
    n_keys = data["n_keys"]
    for i in range(n_keys):
        gone = keep <= i < keep + drop
        colour = BLUE if i < keep else RED if gone else GREEN
        ax.text(i, 1, i, ha="center", va="center", color=colour, bbox=_box(colour, gone))
        if not gone:
            to = i if i < keep else i - drop
            ax.plot([i, to], [0.78, 0.22], "-", color=colour, linewidth=1)
            ax.text(to, 0, to, ha="center", va="center", color=colour, bbox=_box(colour, False))
    ax.set(xlim=(-0.7, n_keys - 0.3), ylim=(-0.35, 1.35))
    ax.axis("off")
    worst = max(max(row) for row in data["gap"])
    return Plot(
        figure,
        f"""A cache of {n_keys} keys as a row of boxes with their positions, and below it the cache
        after {drop} tokens behind the first {keep} were dropped; lines lead from the old to the new
        places. Sliders choose how many tokens to keep at the front, 0 to 8, and how many behind
        them to drop, 0 to 8. Dropped boxes are dashed. Each box contains a small hand: one pair of the
        key, turned by its position; keys that move up are turned back by as many steps as were
        dropped. A third row compares the scores of the next query: with the moved keys they equal
        those of a fresh computation, to {worst:.0e} or better in all 81 cases; keys that were
        moved without turning, drawn as crosses, give other scores.""",
    )


def _patches(ax, values, n, **options):
    """A square of patches as an image has them: row 0 at the top."""
    ax.grid(visible=False)
    steps = np.arange(n)
    drawn = ax.pcolormesh(steps, steps, values, rasterized=True, **options)
    ax.set(xlabel="column", ylabel="row", aspect="equal")
    ax.set(xticks=range(0, n, 2), yticks=range(0, n, 2))
    ax.invert_yaxis()
    return drawn


def _four_lines(table, n):
    """From the middle of a table of offsets along its row, its column and both diagonals."""
    steps, middle = np.arange(n), n - 1
    steps_of = {"row": (0, 1), "column": (1, 0), "diagonal, down": (1, 1), "diagonal, up": (-1, 1)}
    return {
        name: table[middle + a * steps, middle + b * steps] for name, (a, b) in steps_of.items()
    }


def static_axes(data, *, scheme, row, column):
    """The mean cosine of all pairs between one patch and every other."""
    figure, (ax, curves) = axes(1, 2, height=3.0)
    n, table = data["n"], data["tables"][scheme]
    here = table[n - 1 - row : 2 * n - 1 - row, n - 1 - column : 2 * n - 1 - column]
    drawn = _patches(ax, here, n, vmin=data["least"], vmax=1, cmap="viridis")
    ax.plot(column, row, "s", color=RED, fillstyle="none", markersize=11)
    figure.colorbar(drawn, ax=ax, pad=0.02, shrink=0.8)
    lines = _four_lines(table, n)
    for (name, values), dash in zip(lines.items(), DASHES, strict=False):
        curves.plot(values, linestyle=dash, label=name)
    added = lines["row"] + lines["column"] - 1
    curves.plot(added, "o", color=GREY, fillstyle="none", markersize=4, label="row + column − 1")
    curves.set(xlabel="steps from the query", ylabel="mean cosine", ylim=(data["lowest"], 1.02))
    curves.legend(fontsize=8)
    numbers = "; ".join(
        f"{name}: {t[n - 1, -1]:.3f} along the row, {t[-1, n - 1]:.3f} along the column, "
        f"{t[-1, -1]:.3f} and {t[0, -1]:.3f} along the diagonals"
        for name, t in data["tables"].items()
    )
    return Plot(
        figure,
        f"""A square of {n} by {n} patches. A menu chooses one of five schemes, sliders the row and
        the column of a query. Each patch is colored by the mean, over all pairs, of the cosine of
        the angle between it and the query: 1 at the query itself, less elsewhere. A second panel shows that
        mean against the steps from the query along a row, along a column and along the two
        diagonals, and small circles at the values that a sum of the row's and the column's part would have
        on a diagonal. In all schemes but the golden directions both diagonals lie on the circles.
        With golden directions they do not; the largest difference from such a sum, at any offset, is
        {data["mixed"]["golden directions"]:.2f}.
        After {n - 1} steps the values are, {numbers}. With sections the whole square has nearly one
        color.""",
    )


def static_directions(data, *, scheme, pair, row, column):
    """One pair's stripes over the patches, and the directions of all pairs."""
    figure, (ax, rose) = axes(1, 2, height=3.0)
    n, angles = data["n"], data["angles"][scheme]
    _patches(ax, np.cos(angles[pair]).reshape(n, n), n, vmin=-1, vmax=1, cmap="RdBu")
    ax.plot(column, row, "o", color=INK, markersize=5)
    for i, (down, right) in enumerate(data["arrows"][scheme]):
        chosen = i == pair
        colour = RED if chosen else BLUE
        rose.plot([0, right], [0, down], color=colour, linestyle="--" if chosen else "-")
        rose.plot(right, down, "o", color=colour, markersize=6 if chosen else 3)
    rose.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GREY))
    rose.set(xlim=(-1.1, 1.1), ylim=(1.1, -1.1), aspect="equal")
    rose.axis("off")
    return Plot(
        figure,
        f"""A square of {n} by {n} patches, a rose of arrows, and sixteen clocks. A menu chooses one
        of five schemes, and sliders choose a pair, a row and a column. The square is colored by the cosine of
        the chosen pair's angle, which makes stripes across the direction in which the pair turns. The
        rose has an arrow for each pair. The arrow has the pair's direction in the image, and is longer for faster
        pairs. The clocks show the angles of all pairs at the chosen row and column. In axial
        schemes and sections, arrows point only to the right and downwards, so the stripes are
        vertical or horizontal; pairs of the time axis have no arrow and no stripes. Golden directions
        point all around, and the stripes are oblique.""",
    )


def _box(colour, dashed):
    return {"facecolor": "none", "edgecolor": colour, "linestyle": "--" if dashed else "-"}


# --- why_position.md -----------------------------------------------------------------------------


def digits(bits, sines):
    """Binary digits of positions above the sines of pairs whose periods double too."""
    figure, (above, below) = axes(2, 1, height=3.6, sharex=True)
    for ax, rows, least, name in ((above, bits, 0, "digit"), (below, sines, -1, "pair $i$")):
        ax.grid(visible=False)
        steps, numbers = range(rows.shape[-2]), range(rows.shape[-1])
        drawn = ax.pcolormesh(
            steps, numbers, rows.T, vmin=least, vmax=1, cmap="viridis", rasterized=True
        )
        ax.set(ylabel=name, yticks=list(numbers))
        ax.invert_yaxis()
        figure.colorbar(drawn, ax=ax, ticks=[least, 1] if least == 0 else [-1, 0, 1], pad=0.01)
    below.set_xlabel("position")
    return Plot(
        figure,
        f"""Two panels of stripes over the positions 0 to {len(bits) - 1}, one below the other. The
        first has the six binary digits of the position. The lowest digit changes at every step, each
        next digit half as often, and the highest once, at 32. The second has the sines of six pairs.
        The first sine completes a period in about 6 steps, each next one takes twice as long, and the
        sixth completes about a third of its period. The first panel has two colors and sharp edges,
        and in the second the colors change gradually.""",
    )


def sinusoid(table, steps, products):
    """The encoding as a map, and its products at a distance, in parts of their greatest value."""
    figure, (left, right) = axes(1, 2, height=3.0, width_ratios=[1.5, 1])
    figure.get_layout_engine().set(wspace=0.08)
    n, dim = table.shape
    left.grid(visible=False)
    drawn = left.pcolormesh(
        range(n), range(dim), table.T, vmin=-1, vmax=1, cmap="RdBu_r", rasterized=True
    )
    left.set(xlabel="position $p$", ylabel="feature")
    left.invert_yaxis()
    figure.colorbar(drawn, ax=left, ticks=[-1, 0, 1], pad=0.02)
    right.plot(steps, products)
    right.set(xlabel="steps $k$", ylabel="product, in parts of $d/2$", ylim=(-0.05, 1.05))
    far = products[abs(steps) >= 10]
    return Plot(
        figure,
        f"""Left, a map of {dim} features over {n} positions, from -1 to 1. The first features rise and
        fall every few positions, and later features more and more slowly. In the lower half of the
        map, features change little: in alternating rows, sines stay near 0 and cosines near 1. Right,
        the product of the encodings of two positions against the number of steps between them. It is
        1 at zero, falls steeply within 10 steps, and then varies between {far.min():.2f} and
        {far.max():.2f} up to {steps[-1]} steps. It is the same for positive and negative steps.""",
    )


# --- relative.md ---------------------------------------------------------------------------------


def buckets(distances, found):
    """T5's bucket of each distance; ``found`` maps a name to buckets."""
    figure, ax = axes(height=3.0)
    for name, values in found.items():
        ax.step(distances, values, where="mid", label=name)
    ax.set(xlabel="key position − query position, $n - m$", ylabel="bucket", ylim=(-1, 33))
    ax.legend(loc="center right")
    return Plot(
        figure,
        """Bucket numbers, as two step curves, against the position of the key minus that of the query,
        from -160 to 160. In the curve for both directions, keys up to the query have buckets 0 to 15
        and later keys have buckets 17 to 31. Each distance up to 7 has its own bucket. Farther out the
        steps widen, and all distances from 91 on share one bucket in each direction, 15 or 31. In the
        curve for earlier keys only, each distance up to 15 has its own bucket, bucket 31 begins at a
        distance of 113, and all later keys are in bucket 0.""",
    )


def slopes(distances, biases):
    """ALiBi's bias over the distance, one line per head."""
    figure, ax = axes(height=2.8)
    heads = len(biases)
    for head in (0, 1, 2, 3, 5, 7):
        if head < heads:
            ax.plot(distances, biases[head], label=f"head {head + 1}")
    ax.set(xlabel="distance, $m - n$", ylabel="bias of the score", ylim=(-8, 0.3))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return Plot(
        figure,
        f"""Straight lines that start at 0 and fall with the distance, for six of {heads} heads. The line
        of the first head falls by {-biases[0][1]:g} per step and reaches -8 after
        {8 / -biases[0][1]:.0f} steps. From each head to the next, the slope is halved, and the line of
        the last head falls by {-biases[-1][1]:g} per step.""",
    )


# --- euler.md ------------------------------------------------------------------------------------


def turn(cos, sin, *, m, n):
    """The vector (1, 0) as q at m and k at n on the circle."""
    figure, ax = axes(width=3.2, height=3.2)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=FAINT))
    for name, at, colour, dash in (("q", m, BLUE, "-"), ("k", n, RED, "--")):
        ax.plot([0, cos[at]], [0, sin[at]], color=colour, linestyle=dash, linewidth=2.5)
        ax.plot(cos[at], sin[at], "o", color=colour)
        ax.annotate(f"${name}$ at {at}", (1.12 * cos[at] - 0.1, 1.12 * sin[at]), color=colour)
    ax.set_aspect("equal")
    ax.axis("off")
    return Plot(
        figure,
        f"""A circle with two arrows of length 1 that start at its centre: k, turned to position {n},
        and q, turned to position {m}. The angle between them is {m - n} steps. Moving both by the
        same number of steps, with the first slider, turns the whole picture and leaves that angle
        as it is; the second slider changes the distance m - n, and with it the angle. Beside the
        circle is the product of the two vectors over the distance, a cosine that starts at 1, is
        -1 at a distance of 8 steps and 1 again at 16; a ring marks the present distance.""",
    )


# --- planes.md -----------------------------------------------------------------------------------


def layouts(matrices):
    """R(m) for both layouts as squares of colour: interleaved left, half right."""
    figure, panels = axes(1, 2, width=6.4, height=3.0)
    names = ("interleaved", "half")
    for ax, name, matrix in zip(panels, names, matrices, strict=True):
        entries = np.ma.masked_equal(matrix, 0)  # zeros take the colour of the page
        image = ax.pcolormesh(entries, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True)
        for (row, column), value in np.ndenumerate(matrix):
            if value:
                colour = "white" if abs(value) > 0.6 else "black"
                centre = {"ha": "center", "va": "center", "fontsize": 7}
                # The id marks a text whose background is the cell, not the page.
                gid = f"on-cell-{row}-{column}"
                ax.text(column + 0.5, row + 0.5, f"{value:.1f}", color=colour, gid=gid, **centre)
        ticks = np.arange(len(matrix))
        ax.set(xlabel=f"feature of $x$, {name}", aspect="equal")
        ax.set_xticks(ticks + 0.5, ticks)
        ax.set_yticks(ticks + 0.5, ticks)
        ax.set_xticks(ticks[1:], minor=True)
        ax.set_yticks(ticks[1:], minor=True)
        ax.tick_params(which="both", length=0)
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.grid(visible=True, which="minor")
    panels[0].set_ylabel("feature of the result")
    figure.colorbar(image, ax=panels, shrink=0.8, label="entry of $R(3)$")
    return Plot(
        figure,
        f"""Two 8 by 8 matrices with four 2 by 2 rotations each. In the interleaved layout, the rotations
        are squares along the diagonal, in rows and columns 0 and 1, 2 and 3, 4 and 5, 6 and 7. In the
        half layout, each rotation occupies rows and columns i and i + 4: cosines are on the diagonal,
        negated sines four columns to the right of it, and sines four rows below it. The first pair has
        cosine {matrices[0][0, 0]:.2f} and sine {matrices[0][1, 0]:.2f}, and the last has
        {matrices[0][6, 6]:.2f} and {matrices[0][7, 6]:.2f}. All other entries are zero.""",
    )


# --- frequencies.md ------------------------------------------------------------------------------


def wavelengths(bases, inv_freqs, *, contexts):
    """Wavelength against pair, one line per base, with contexts as horizontal lines."""
    figure, ax = axes()
    longest = []
    for base, inv_freq in zip(bases, inv_freqs, strict=True):
        lengths = analysis.wavelengths(inv_freq)
        ax.plot(lengths, label=f"$b$ = {base:,.0f}")
        longest.append(f"{lengths[-1]:,.0f} for base {base:,.0f}")
    last = len(lengths) - 1
    for number, context in enumerate(contexts):
        ax.axhline(context, color=GREY, linewidth=0.8)
        at = (1 + 6 * (number % 2), context * 1.1)  # side by side, as lines may be close
        ax.annotate(f"{context:,}", at, fontsize=8)
    ax.set(yscale="log", xlabel="pair $i$", xlim=(0, last), ylabel="positions per turn")
    ax.legend(loc="lower right")
    return Plot(
        figure,
        f"""Wavelength in positions per turn, on a logarithmic scale, against the pair, 0 to {last}. Each
        base gives a straight line that starts at 6.28. A larger base gives a steeper line. The lines
        end at {"; ".join(longest)}. Horizontal lines mark contexts of
        {", ".join(f"{context:,}" for context in contexts)} positions.""",
    )


# --- decay.md ------------------------------------------------------------------------------------


def decay_curve(inv_freq):
    """The mean of the partial sums' lengths against distance, near and far."""
    figure, (near, far) = axes(1, 2, width=7.2, height=2.8)
    distances = np.arange(257)
    near.plot(distances, analysis.decay_bound(distances, inv_freq))
    near.set_xlabel("distance $r$ (positions)")
    near.set_ylabel("$D(r)$")
    distances = np.arange(0, 20_001)
    values = analysis.decay_bound(distances, inv_freq)
    each = values[:-1].reshape(
        -1, 20
    )  # the lowest and the highest of 20: all would be a large file
    ends = np.stack([each.min(1), each.max(1)], -1).ravel()
    far.plot(np.repeat(distances[:-1:20], 2), ends, linewidth=0.4)
    far.set_xlabel("distance $r$ (positions)")
    far.xaxis.set_major_locator(mpl.ticker.MultipleLocator(5000))
    low = int(np.argmin(values))
    return Plot(
        figure,
        f"""Two curves of D against distance. Left, up to 256: from {values[0]} at distance 0 it falls
        steeply to about {values[20]:.0f} at 20 and then, with many small bumps, to {values[256]:.1f} at
        256. Right, up to 20,000: noisy, lowest {values[low]:.2f} at {low:,}, and back at
        {values[20_000 - 1]:.1f} at 19,999.""",
    )


def heads(means):
    """Mean score by distance of some heads of a model, each minus its mean over distances."""
    figure, panels = axes(2, 3, width=7.2, height=4.0, sharex=True)
    centred = means - np.mean(means, axis=-1, keepdims=True)
    slope = np.mean(centred[..., :16], axis=-1) - np.mean(centred[..., -64:], axis=-1)
    order = np.argsort(slope, axis=None)
    chosen = [order[i] for i in (-1, -40, -100, 100, 10, 0)]
    for panel, index in zip(panels.flat, chosen, strict=True):
        layer, head = np.unravel_index(index, slope.shape)
        panel.plot(centred[layer, head] / 8)  # scores are scaled by head_dim ** -0.5
        panel.set_title(f"layer {layer}, head {head}", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("distance (positions)")
    for panel in panels[:, 0]:
        panel.set_ylabel("score")
    return Plot(
        figure,
        f"""Six small curves of the mean score against distances up to 512, one head each, ordered from
        the head that most prefers near keys to the one that most prefers far keys. The first falls
        from a peak near 0, the others by less and less; {sum(slope[np.unravel_index(i, slope.shape)] > 0 for i in chosen)}
        of the six are higher near than far, and the last rises with distance.""",
    )


def context_bounds():
    """The first distance at which the advantage turns negative, against the base."""
    bases = 10 ** np.arange(3.5, 6.5, 0.03)
    first = [
        analysis.context_bound(RoPE(128, layout="half", base=b).frequencies().inv_freq)
        for b in bases
    ]
    figure, ax = axes()
    ax.loglog(bases, first, "o", markersize=2.5)
    for length in (4096, 8192, 32768):
        ax.axhline(length, color=GREY, linestyle=":", linewidth=1)
        ax.annotate(f"{length:,}", (bases[0], length * 1.06), color=GREY)
    ax.set_xlabel("base $b$")
    ax.set_ylabel("first $r$ with $A(r) < 0$")
    return Plot(
        figure,
        f"""Dots on two logarithmic axes: the first distance at which the advantage is negative against
        the base, from {bases[0]:,.0f} to {bases[-1]:,.0f}. They rise from {first[0]:,} to
        {first[-1]:,}, in steps that often fall back.""",
    )


# --- precision.md --------------------------------------------------------------------------------


def precision_error():
    """Error of cos and sin against position, for four methods."""
    inv_freq = RoPE(128, layout="half").frequencies().inv_freq
    starts = np.unique(np.geomspace(1, 10_000_000, 57).astype(int))
    curves = {"bf16": [], "float32": [], "exact32": [], "exact64": []}
    for start in starts:
        m = np.arange(start, start + 24)
        true = np.asarray(cos_sin(m, inv_freq, dtype=np.float64))
        rounded = m.astype(ml_dtypes.bfloat16).astype(np.int64)
        tables = {
            "bf16": cos_sin(rounded, inv_freq, dtype=np.float64),
            "float32": cos_sin(m, inv_freq, precision="float32"),
            "exact32": cos_sin(m, inv_freq),
        }
        for name, table in tables.items():
            curves[name].append(np.max(np.abs(np.asarray(table) - true)))
        with mpmath.workprec(160):
            wrong = [
                abs(function(mpmath.mpf(int(m[0])) * float(frequency)) - float(value))
                for function, row in zip((mpmath.cos, mpmath.sin), true[:, 0], strict=True)
                for frequency, value in zip(inv_freq, row, strict=True)
            ]
        curves["exact64"].append(float(max(wrong)))

    figure, ax = axes(height=3.6)
    labels = {
        "bf16": ("bfloat16 positions", (3e4, 5), RED, ":"),
        "float32": ("float32 angles", (1.5, 1e-3), BLUE, "-"),
        "exact32": ("exact phase, float32", (2e4, 4e-9), GREEN, "--"),
        "exact64": ("exact phase, float64", (2e4, 1e-15), PURPLE, "-."),
    }
    ax.plot(starts, starts * 2.0**-24, color=GREY, linewidth=0.8, linestyle="-")
    for name, (label, at, colour, dash) in labels.items():
        known = np.asarray(curves[name])
        known[known == 0] = np.nan  # below 256 a bfloat16 position is right
        ax.plot(starts, known, color=colour, linestyle=dash)
        ax.annotate(label, at, color=colour)
    ax.set(xscale="log", yscale="log", xlim=(1, 1e7), ylim=(1e-17, 60))
    ax.set(xlabel="position", ylabel="largest error of cos, sin")
    return Plot(
        figure,
        """A log-log plot of the largest error of a cosine or sine against the position, from 1 to ten
        million. Bfloat16 positions: no error up to 256, then at once about 1, and from about a
        thousand on 2, the largest possible. Float32 angles: 1e-6 at the start, then rising along
        the line position times 2 to the -24, 0.06 at a million and 0.8 at ten million. The exact
        phase is flat: below 1e-7 in float32 and below 2e-16 in float64 at every position.""",
    )


# --- time_stamps.md ------------------------------------------------------------------------------


def clock_origin():
    """Largest change of a score against how much earlier the clock was started, in three ways."""
    second, year = 10**9, 365 * 86_400 * 10**9
    inv_freq = 2 * np.pi / np.geomspace(second, year, 32)
    rope = RoPE(64, layout="half", scaling=scaling.Custom(tuple(inv_freq)))
    events = np.cumsum([0, 10**6, second // 4, second, 60 * second])
    q, k = np.random.default_rng(0).standard_normal((2, 5, 64))

    def scores(cos, sin):
        return rope.rotate(q, cos, sin) @ rope.rotate(k, cos, sin).T

    origins = (10 ** np.linspace(6, 18.2, 49)).astype(np.int64)
    curves = {"exact": [], "float64": [], "float32": []}
    for origin in origins:
        at = events + origin
        stamps = np.float32(at / second)  # seconds
        angles = at[:, None] * inv_freq
        rounded = np.rint(stamps.astype(np.float64) * second).astype(np.int64)
        tables = {
            "exact": rope.cos_sin(at, dtype=np.float64),
            "float64": (np.cos(angles), np.sin(angles)),
            "float32": rope.cos_sin(rounded, dtype=np.float64),
        }
        for name, table in tables.items():
            at_zero = scores(*rope.cos_sin(events, dtype=np.float64))
            curves[name].append(np.abs(scores(*table) - at_zero).max())

    figure, ax = axes(height=3.6)
    labels = {
        "float32": ("float32 stamps, in seconds", (2e6, 60), RED, ":"),
        "float64": ("float64 angles", (3e12, 3e-11), BLUE, "-"),
        "exact": ("int64 nanoseconds, exact phases", (2e7, 3e-16), GREEN, "--"),
    }
    for name, (label, at, colour, dash) in labels.items():
        ax.plot(origins / second, curves[name], color=colour, linestyle=dash)
        ax.annotate(label, (at[0] / second * 1e3, at[1]), color=colour)
    ax.set(xscale="log", yscale="log", ylim=(1e-17, 1e3))
    ax.set(xlabel="seconds by which the clock was started earlier", ylabel="change of a score")
    return Plot(
        figure,
        f"""A log-log plot of the largest change of a score against how much earlier the clock was
        started, from a millisecond to fifty years. With float32 stamps in seconds the change is {curves["float32"][0]:.0e} at
        first, rises in steps from a few minutes on, and reaches up to {max(curves["float32"]):.0f}. With float64 angles it is about
        level up to a minute, then rises in proportion to the time, to {curves["float64"][-1]:.0e} at fifty years.
        With integer nanoseconds and exact phases it is level, at most {max(curves["exact"]):.0e}, the rounding of float64
        products.""",
    )


# --- stretching.md -------------------------------------------------------------------------------


def schedules(rope, *, factor, length):
    """What each schedule leaves of every frequency, and the turns that come of it."""
    known = {
        "linear": scaling.Linear(factor),
        "NTK-aware": scaling.NTK(factor),
        "by parts, YaRN": scaling.YaRN(factor, length),
        "Llama 3": scaling.Llama3(factor, 1, 4, length),
    }
    own = rope.frequencies().inv_freq
    trained = turns(own, length)
    pairs = np.arange(rope.n_pairs)

    figure, (above, below) = axes(2, 1, height=6.0, sharex=True)
    safe = np.where(trained < 1, trained, 1e5)
    below.fill_between(pairs, 1e-2, safe, step="mid", color=FAINT, alpha=0.5, linewidth=0)
    below.plot(pairs, trained * factor, color=GREY, linestyle="-", linewidth=1, label="none")
    for (name, schedule), colour, dash in zip(known.items(), CYCLE, DASHES, strict=False):
        scaled = RoPE(rope.head_dim, layout=rope.layout, base=rope.base, scaling=schedule)
        inv_freq = scaled.frequencies().inv_freq
        above.plot(pairs, inv_freq / own, color=colour, linestyle=dash, label=name)
        new = turns(inv_freq, factor * length)
        below.plot(pairs, new, color=colour, linestyle=dash)
    above.axhline(1, color=GREY, linewidth=1, linestyle="-", label="none")
    above.set(ylabel="frequency, new / old", ylim=(0, 1.06), yticks=[0, 1 / factor, 0.5, 1])
    above.set_yticklabels(["0", f"1/{factor}", "1/2", "1"])
    above.legend(loc="center left", bbox_to_anchor=(0.0, 0.4))
    below.set(ylabel=f"turns in {factor * length:,} tokens", yscale="log", ylim=(5e-2, 1e4))
    below.set(xlabel="pair, fast to slow", xlim=(0, pairs[-1]))
    return Plot(
        figure,
        f"""Two plots over the pairs, from the fastest, 0, to the slowest, {pairs[-1]}. Above, the new
        frequency as a part of the old: linear is 1/{factor} everywhere; NTK-aware falls smoothly
        from 1 to 1/{factor}; by parts is 1 up to pair 20, falls to 1/{factor} at pair 46; Llama 3
        is 1 up to pair 35 and falls to 1/{factor} at pair 46. Below, the turns within
        {factor * length:,} tokens on a log scale, with a shaded part of known angles: all of the
        pairs up to 45, and for the slower ones what they turned within {length:,} tokens. Without a
        schedule the slow pairs lie above it, NTK-aware touches it at the last pair only, the others
        lie on its edge.""",
    )


def gap(gaps, measured, unseen, length):
    """Loss of paragraphs at their second reading against the distance from the first: mean and range."""
    figure, panels = axes(1, len(measured), width=8.4, height=2.9, sharey=True)
    for panel, name, colour in zip(panels, measured, CYCLE, strict=False):
        rows = np.asarray(measured[name])  # (paragraphs, gaps)
        panel.axvline(length, color=GREY, linewidth=0.8, linestyle="-")
        panel.axhline(np.mean(unseen), color=GREY, linewidth=0.8, linestyle="--")
        panel.fill_between(gaps, rows.min(0), rows.max(0), color=colour, alpha=0.25, linewidth=0)
        panel.plot(gaps, rows.mean(0), color=colour, linestyle="-", marker="o", markersize=3)
        panel.set_title(name, fontsize=9)
        panel.set(xlabel="gap", ylim=(0, None), xticks=[0, length, 3 * length])
        panel.set_xticklabels(["0", f"{length:,}", f"{3 * length:,}"], fontsize=8)
    panels[0].set_ylabel("loss, nats per token")
    values = "; ".join(
        f"{name}: " + ", ".join(f"{value:.1f}" for value in np.mean(rows, axis=0))
        for name, rows in measured.items()
    )
    return Plot(
        figure,
        f"""Five panels, one for each schedule: the mean loss of {len(unseen)} paragraphs that are read for the second
        time, and the range from the lowest to the highest, against the gap in positions to the first
        reading. At gaps of {", ".join(map(str, gaps))} tokens the means are, {values}. Without the first reading
        the mean is {np.mean(unseen):.1f}, a dashed line. A vertical line is at {length}.""",
    )


def after_text(between, after):
    """Loss of paragraphs at their second reading against the tokens read in between: mean and range."""
    figure, ax = axes(height=3.2)
    named = {"no schedule" if name == "none" else name: rows for name, rows in after.items()}
    for (name, each), colour, dash in zip(named.items(), CYCLE, DASHES, strict=False):
        rows = np.asarray(each)  # (paragraphs, between)
        ax.fill_between(between, rows.min(0), rows.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(between, rows.mean(0), color=colour, linestyle=dash, marker="o", ms=3, label=name)
    ax.set(xlabel="tokens in between", ylabel="loss, nats per token", ylim=(0, None))
    ax.legend(loc="lower right")
    values = "; ".join(
        f"{name}: " + ", ".join(f"{value:.1f}" for value in np.mean(rows, axis=0))
        for name, rows in named.items()
    )
    return Plot(
        figure,
        f"""Three lines with their ranges: the mean loss of {len(after["none"])} paragraphs that are read for the
        second time against the number of tokens in between. At {", ".join(map(str, between))} tokens the means are,
        {values}.""",
    )


# --- practice.md ---------------------------------------------------------------------------------


# --- several_axes.md -----------------------------------------------------------------------------


def ridges(axial, dense, positions):
    """Scores of one query with equal keys all around it, under two schemes."""
    figure, panels = axes(1, 2, height=2.9, sharey=True)
    reach = int(np.abs(positions).max())
    steps = np.arange(-reach, reach + 1)
    for ax, scores in zip(panels, (axial, dense), strict=True):
        ax.grid(visible=False)
        square = scores.reshape(len(steps), len(steps)) / scores.max()
        drawn = ax.pcolormesh(steps, steps, square, vmin=0, vmax=1, cmap="viridis", rasterized=True)
        ax.set(xlabel="columns from the query", aspect="equal")
    panels[0].set(ylabel="rows from the query")
    panels[0].invert_yaxis()
    figure.colorbar(drawn, ax=panels, pad=0.01, label="score / largest")
    corners = [s.reshape(len(steps), -1)[[-1, 0], [-1, -1]] / s.max() for s in (axial, dense)]
    return Plot(
        figure,
        f"""Two squares of scores, from {-reach} to {reach} rows and columns around a query, divided
        by the largest. Left, axial: a peak in the middle and lower peaks above, below and on both sides of
        it. The pattern is symmetric from side to side and from top to bottom; at the end
        of both diagonals the score is {corners[0][0]:.2f}. Right, golden directions: one ridge along the diagonal from the upper
        left to the lower right, {corners[1][0]:.2f} at its end, and lower values on both sides of
        it; at the end of the other diagonal the score is {corners[1][1]:.2f}.""",
    )


# --- linear_attention.md -------------------------------------------------------------------------


def linear_weights():
    """Weights of rotated linear attention with constant features, and their sum by length."""
    rope = RoPE(64, layout="half")

    def mixed(values):
        """The last query's mean of ``values``, one row per key."""
        q, k = np.zeros((1, 64)), np.zeros((len(values), 64))
        return linear_attention(q, k, values, rope=rope)[0]

    n = 1024
    weights = n * mixed(np.eye(n))[::-1]  # by distance
    lengths = np.unique(np.geomspace(1, 2**16, 60).astype(int))
    sums = [mixed(np.ones((length, 1)))[0] for length in lengths]
    figure, (left, right) = axes(1, 2, height=2.8)
    left.plot(weights)
    left.axhline(1, color=GREY, linestyle="--", linewidth=1)
    left.axhline(0, color=INK, linestyle="-", linewidth=0.8)
    left.set_xlabel("distance (positions)")
    left.set_ylabel("weight times $n$")
    right.semilogx(lengths, sums)
    right.axhline(1, color=GREY, linestyle="--", linewidth=1)
    right.axhline(0, color=INK, linestyle="-", linewidth=0.8)
    right.set_xlabel("keys $n$")
    right.set_ylabel("sum of the weights")
    return Plot(
        figure,
        f"""Two panels. Left, the weight times n against the distance up to {n - 1}: it falls from
        {weights[0]:.0f} through {weights[64]:.2f} at distance 64, with ripples, and its lowest value is
        {weights.min():.2f}; a dashed line at 1 is the weight without rotation. Right, the sum of the weights
        against the number of keys on a logarithmic axis: it falls from {sums[0]:.0f} at one key to
        {sums[-1]:.2f} at {lengths[-1]:,}.""",
    )


# --- written_once.md -----------------------------------------------------------------------------


def losses(excess):
    """Excess loss of wrong encodings, by name, added up along a text."""
    figure, ax = axes(height=3.4)
    ends = {}
    for name, values in excess.items():
        total = np.cumsum(values)
        ax.plot(np.arange(1, len(total) + 1), total, label=name)
        ends[name] = total[-1]
    ax.axhline(0, color=INK, linewidth=0.8, linestyle="-")
    ax.set_xlabel("token")
    ax.set_ylabel("added loss (nats)")
    ax.legend(loc="upper left")
    numbers = "; ".join(f"{name}: {end:.0f}" for name, end in ends.items())
    return Plot(
        figure,
        f"""Curves of the added loss, summed from the first token to the last of {len(total)}, for
        {len(ends)} changes to the encoding. All start at 0 and stay near it for about 15 tokens, partly below. Then they
        rise, with a few small drops; the changed base rises far less than the others.
        The sums at the last token, in nats: {numbers}.""",
    )


# --- speed.md ------------------------------------------------------------------------------------


def speed(found, use):
    """Ratios of times, ours to the peer's, by case: a point for each shape and dtype, and limits."""
    cases = {}
    for row in found["ratios"]:
        if row["use"] == use and row["limit"] is not None:
            cases.setdefault(f"{row['case']} / {row['against']}", []).append(row)
    figure, ax = axes(height=0.26 * len(cases) + 0.9)
    for y, rows in enumerate(cases.values()):
        for limit in {row["limit"] for row in rows}:
            ax.plot([limit, limit], [y - 0.25, y + 0.25], color=INK, linestyle="-", linewidth=1.2)
        for verdict, (marker, colour, fill) in VERDICTS.items():
            ratios = [row["ratio"] for row in rows if row["verdict"] == verdict]
            face = colour if fill else "none"
            ax.plot(ratios, [y] * len(ratios), marker, color=colour, markerfacecolor=face)
    ax.set_xscale("log")
    ax.set_yticks(range(len(cases)), [*cases], fontsize=8)
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    ax.set_xlabel("time of the library / time of the peer (bar: limit)")
    for verdict, (marker, colour, fill) in VERDICTS.items():
        ax.plot(
            [], [], marker, color=colour, markerfacecolor=colour if fill else "none", label=verdict
        )
    figure.legend(loc="outside upper right", ncols=3)
    counts = Counter(row["verdict"] for rows in cases.values() for row in rows)
    numbers = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    worst = "; ".join(
        f"{case}: {max(row['ratio'] for row in rows):.2g}" for case, rows in cases.items()
    )
    return Plot(
        figure,
        f"""{len(cases)} rows of points on a logarithmic axis, one row for each case and peer, a point
        for each shape and dtype, and a bar at the limit that was set. Of all points: {numbers}.
        The largest ratio of each row: {worst}.""",
    )


VERDICTS = {"ok": ("o", BLUE, True), "over": ("s", RED, True), "too noisy": ("o", GREY, False)}


def sizes(found, library):
    """Time for each number against the size of the array: ours, the peers and a copy, by layout."""
    layouts = {}
    for point in found["sizes"]:
        if point["library"] == library:
            layouts.setdefault(point["layout"], []).append(point)
    figure, panels = axes(1, len(layouts), height=3.6, sharey=True, squeeze=False)
    described = []
    for ax, (layout, points) in zip(panels[0], layouts.items(), strict=True):
        kib = [point["kib"] for point in points]
        names = list(points[0]["ns"])
        for name in names:
            colour, dash, marker = LINES.get(name, (RED, "-", "s"))
            ns = [point["ns"][name] for point in points]
            ax.plot(kib, ns, color=colour, linestyle=dash, marker=marker, markersize=3, label=name)
        ax.set(xscale="log", yscale="log", xlabel="size of the array", title=f"layout {layout}")
        ax.set_xticks([2**n for n in (0, 4, 8, 12, 16, 20)])
        ax.set_xticklabels(["1 KiB", "16 KiB", "¼ MiB", "4 MiB", "64 MiB", "1 GiB"], fontsize=8)
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        ax.legend(fontsize=8)
        some = [points[i] for i in sorted({0, len(points) // 2, len(points) - 1})]
        at_some = {name: [f"{point['ns'][name]:.2g}" for point in some] for name in names}
        values = "; ".join(f"{name}: {', '.join(ns)}" for name, ns in at_some.items())
        at = ", ".join(f"{point['kib']:,.0f}" for point in some)
        described.append(f"Layout {layout}, in ns at {at} KiB: {values}.")
    panels[0][0].set_ylabel("ns for each number")
    return Plot(
        figure,
        f"""The time for each number on {library}, against the size of the array from 1 KiB to at most
        1 GiB, both axes logarithmic, with a panel for each layout and a line for each contender. Lines fall
        as long as the call costs more than the numbers. The copy rises again where arrays no longer fit
        into the cache of the processor.
        {" ".join(described)}""",
    )


LINES = {
    "rotate": (BLUE, "-", "o"),
    "rotate, fast": (GREEN, "-", "o"),
    "rotate, fast, into an array": (GREEN, "--", "o"),
    "rotate, compiled": (PURPLE, "-", "o"),
    "rotate, tables as arguments": (BLUE, "-", "o"),
    "rope, phases inside": (GREEN, "--", "o"),
    "onnxruntime, into an array": (ORANGE, "--", "s"),
    "transformers' formula, compiled": (ORANGE, "-", "s"),
    "Meta's complex form, compiled": (ORANGE, "-", "s"),
    "copy": (GREY, ":", ""),
}


# --- errata.md -----------------------------------------------------------------------------------


# --- comparison.md -------------------------------------------------------------------------------
