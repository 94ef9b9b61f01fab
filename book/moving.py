"""The figures that move: data computed by rope_xp for ``_static/figures.js``, and a still of each.

A function returns a `Moving`, which a notebook shows as the still drawing, a description in words,
and the data; the script replaces the still by the figure.
"""

from __future__ import annotations

import html
import json
import math

import numpy as np

import plots
from rope_xp import cos_sin


class Moving:
    """A figure that moves: its name in figures.js, its data, its still and its words."""

    def __init__(self, name: str, data: dict, still: plots.Plot) -> None:
        self.name, self.data, self.still = name, data, still

    def _repr_html_(self) -> str:
        data = json.dumps(self.data, default=_plain).replace("</", "<\\/")
        alt = html.escape(self.still.alt)
        return (
            f'<div class="moving" data-figure="{self.name}" data-alt="{alt}">'
            f'<script type="application/json">{data}</script>'
            f'<div class="still">{self.still.svg()}</div>'
            f"<details><summary>In words</summary><p>{alt}</p></details></div>"
        )


def _plain(value):
    """Arrays as lists of numbers with six digits, which is more than a screen shows."""
    return json.loads(json.dumps(np.round(np.asarray(value, dtype=np.float64), 6).tolist()))


def turn():
    """One pair: q at m and k at n, which turn together."""
    theta = math.pi / 8
    positions = np.arange(64)
    cos, sin = cos_sin(positions, [theta], dtype=np.float64)
    data = {"cos": cos[:, 0], "sin": sin[:, 0], "angles": positions * theta}
    still = plots.turn(cos[:, 0], sin[:, 0], m=3, n=1)
    return Moving("turn", data, still)
