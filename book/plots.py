"""Every drawing of the book. What is drawn is computed by rope_xp; here it only gets its lines.

A function returns a `Plot`, which a notebook shows as SVG inside the page: text takes the colour of
the page and lines those of ``_static/book.css``, so one drawing serves light and dark. Each tells in
words, for those who cannot see it, what it shows.
"""

from __future__ import annotations

import html
import io
import itertools
import re

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rope_xp import RoPE, analysis
from rope_xp.attention import linear_attention

# Stand-ins for the colours of the style sheet, under which matplotlib knows them.
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
    """A drawing and its words: shown by a notebook as SVG inside the page."""

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure, self.alt = figure, " ".join(alt.split())

    def svg(self) -> str:
        """The drawing with the page's colours; ids are its own, since a page holds several."""
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
        for name, colour in COLOURS.items():
            text = text.replace(colour, f"var(--{name})")
        width = float(re.search(r'<svg[^>]* width="([\d.]+)pt"', text)[1]) * 4 / 3
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        label = html.escape(self.alt)
        return text.replace(
            "<svg",
            f'<svg class="plot" role="img" aria-label="{label}" style="max-width: {width:.0f}px"',
            1,
        )

    def _repr_html_(self) -> str:
        return self.svg()


def axes(rows=1, columns=1, *, width=6.4, height=3.2, **options):
    """A figure of the book's size and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


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
        f"""Two bands of stripes over the positions 0 to {len(bits) - 1}. Above, the six binary digits
        of the position: the lowest changes at every step, each next one half as often, the highest
        once, at 32. Below, the sines of six pairs: the first goes through a period in about 6 steps,
        each next one takes twice as long, and the sixth completes about a third of one. The
        stripes above have sharp edges, those below are smooth.""",
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
        f"""Left, a map of {dim} features over {n} positions, from -1 to 1. The first features go up and
        down every few positions, later ones more and more slowly, and from about half way down
        features hardly change: sines stay near 0, cosines near 1, in alternating rows. Right, the
        product of the encodings of two positions over the number of steps between them: 1 at zero,
        falling steeply within 10 steps, then rippling between {far.min():.2f} and {far.max():.2f} up
        to {steps[-1]} steps; the same on both sides.""",
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
        """Steps of bucket numbers against the position of the key minus that of the query, from -160
        to 160. With both directions, earlier keys have buckets 0 to 15 and later keys 17 to 31; near
        the query each distance up to 7 has its own, farther out the steps widen, and from 91 on all is
        one bucket, 15 or 31. With earlier keys only, distances up to 15 have their own, bucket 31 begins
        at 113 steps, and all later keys are in bucket 0.""",
    )


def slopes(distances, biases):
    """ALiBi's bias over the distance, a line per head."""
    figure, ax = axes(height=2.8)
    heads = len(biases)
    for head in (0, 1, 2, 3, 5, 7):
        if head < heads:
            ax.plot(distances, biases[head], label=f"head {head + 1}")
    ax.set(xlabel="distance, $m - n$", ylabel="bias of the score", ylim=(-8, 0.3))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return Plot(
        figure,
        f"""Straight lines that start at 0 and fall with the distance, one a head: the first of {heads}
        heads loses {-biases[0][1]:g} a step and is at -8 after {8 / -biases[0][1]:.0f} steps, each head
        falls half as steeply as the one before, and the last loses {-biases[-1][1]:g} a step.""",
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
        same number of steps turns the whole picture and leaves that angle as it is.""",
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
                ax.text(column + 0.5, row + 0.5, f"{value:.1f}", color=colour, **centre)
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
        f"""Two 8 by 8 matrices with four 2 by 2 rotations each. Interleaved, the rotations are squares
        along the diagonal: rows and columns 0 and 1, 2 and 3, 4 and 5, 6 and 7. Half, each is spread
        over rows and columns i and i + 4: cosines along the diagonal, minus the sine four to the
        right of it, plus the sine four below. The first pair has cosine {matrices[0][0, 0]:.2f} and
        sine {matrices[0][1, 0]:.2f}, the last {matrices[0][6, 6]:.2f} and
        {matrices[0][7, 6]:.2f}. All other entries are zero.""",
    )


# --- frequencies.md ------------------------------------------------------------------------------


def wavelengths(bases, inv_freqs, *, contexts):
    """Wavelength against pair, one line per base, with contexts as horizontal lines."""
    figure, ax = axes()
    said = []
    for base, inv_freq in zip(bases, inv_freqs, strict=True):
        lengths = analysis.wavelengths(inv_freq)
        ax.plot(lengths, label=f"$b$ = {base:,.0f}")
        said.append(f"{lengths[-1]:,.0f} for base {base:,.0f}")
    last = len(lengths) - 1
    for number, context in enumerate(contexts):
        ax.axhline(context, color=GREY, linewidth=0.8)
        at = (1 + 6 * (number % 2), context * 1.1)  # side by side, as lines may be close
        ax.annotate(f"{context:,}", at, fontsize=8)
    ax.set(yscale="log", xlabel="pair $i$", xlim=(0, last), ylabel="positions per turn")
    ax.legend(loc="lower right")
    return Plot(
        figure,
        f"""Wavelength in positions per turn, on a logarithmic scale, against the pair, 0 to {last}. Every
        base gives a straight line that starts at 6.28; the larger the base, the steeper. They end at
        {"; ".join(said)}. Horizontal lines mark contexts of
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
    far.plot(distances, values, linewidth=0.4, rasterized=True)
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
    """Mean score by distance of some heads of a model, each less its mean over distances."""
    figure, panels = axes(2, 3, width=7.2, height=4.0, sharex=True)
    centred = means - np.mean(means, axis=-1, keepdims=True)
    slope = np.mean(centred[..., :16], axis=-1) - np.mean(centred[..., -64:], axis=-1)
    order = np.argsort(slope, axis=None)
    chosen = [order[i] for i in (-1, -40, -100, 100, 10, 0)]
    for panel, index in zip(panels.flat, chosen, strict=True):
        layer, head = np.unravel_index(index, slope.shape)
        panel.plot(centred[layer, head] / 8)  # scores are scaled by head_dim ** -0.5
        panel.text(0.97, 0.9, f"layer {layer}, head {head}", transform=panel.transAxes, ha="right")
    for panel in panels[-1]:
        panel.set_xlabel("distance (positions)")
    for panel in panels[:, 0]:
        panel.set_ylabel("score")
    return Plot(
        figure,
        """Six small curves of the mean score against distances up to 512, one head each, ordered from
        the head that most prefers near keys to the one that most prefers far keys. The first falls
        from a peak near 0; those in the middle are nearly flat with ripples; the last ones rise with
        distance.""",
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


# --- stretching.md -------------------------------------------------------------------------------


# --- practice.md ---------------------------------------------------------------------------------


# --- linear_attention.md -------------------------------------------------------------------------


def linear_weights():
    """Weights of rotated linear attention with constant features, and their sum by length."""
    rope = RoPE(64, layout="half")

    def mixed(values):
        """The last query's mean of ``values``, one row a key."""
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
        {weights.min():.2f}; a dashed line at 1 stands for no rotation. Right, the sum of the weights
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
        {len(ends)} changes to the encoding. All start at 0. Most rise steadily, the changed base far less.
        Sums at the last token, in nats: {numbers}.""",
    )


# --- errata.md -----------------------------------------------------------------------------------


# --- comparison.md -------------------------------------------------------------------------------
