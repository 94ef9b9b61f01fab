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
import ml_dtypes
import mpmath
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rope_xp import RoPE, cos_sin, scaling
from rope_xp.analysis import turns

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


# --- relative.md ---------------------------------------------------------------------------------


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


# --- frequencies.md ------------------------------------------------------------------------------


# --- decay.md ------------------------------------------------------------------------------------


# --- precision.md --------------------------------------------------------------------------------


def precision_error():
    """Error of cos and sin against position, four ways."""
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
        "float32": ("float32 angles", (15, 3e-5), BLUE, "-"),
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
        million. Bfloat16 positions: no error up to 256, then at once about 1, and from a few
        thousand on 2, the largest possible. Float32 angles: 1e-6 at the start, then rising along
        the line position times 2 to the -24, 0.06 at a million and 0.8 at ten million. The exact
        phase is flat: below 1e-7 in float32 and below 2e-16 in float64 at every position.""",
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
    """Loss of a paragraph at its second reading against the distance from the first."""
    figure, ax = axes(height=3.4)
    ax.axvline(length, color=GREY, linewidth=0.8, linestyle="-")
    ax.annotate("trained context", (length * 0.97, 6.1), color=GREY, ha="right")
    ax.axhline(unseen, color=GREY, linewidth=0.8, linestyle="-")
    ax.annotate("never read before", (gaps[-1], unseen - 0.35), color=GREY, ha="right")
    colours = [RED, BLUE, GREEN, PURPLE, SKY]
    dashes = [":", "-", "--", "-.", DASHES[4]]
    for (name, row), colour, dash in zip(measured.items(), colours, dashes, strict=False):
        ax.plot(gaps, row, color=colour, linestyle=dash, marker="o", markersize=3, label=name)
    ax.set(xlabel="gap in tokens", ylabel="loss, nats per token", ylim=(0, None))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    values = "; ".join(
        f"{name}: " + ", ".join(f"{value:.1f}" for value in row) for name, row in measured.items()
    )
    return Plot(
        figure,
        f"""Loss of a paragraph that is read for the second time, against the gap in positions to
        the first reading, for five schedules. At gaps of {", ".join(map(str, gaps))} tokens the
        losses are, {values}. Without the first reading it is {unseen:.1f}. The trained context
        ends at {length}.""",
    )


# --- practice.md ---------------------------------------------------------------------------------


# --- linear_attention.md -------------------------------------------------------------------------


# --- written_once.md -----------------------------------------------------------------------------


# --- errata.md -----------------------------------------------------------------------------------


# --- comparison.md -------------------------------------------------------------------------------
