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

from rope_xp import RoPE, cos_sin

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


# --- stretching.md -------------------------------------------------------------------------------


# --- practice.md ---------------------------------------------------------------------------------


# --- linear_attention.md -------------------------------------------------------------------------


# --- written_once.md -----------------------------------------------------------------------------


# --- errata.md -----------------------------------------------------------------------------------


# --- comparison.md -------------------------------------------------------------------------------
