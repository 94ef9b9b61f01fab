"""The figures that move: data computed by rope_xp for ``_static/figures.js``, and a static drawing of each.

A function returns a `Moving`, which a notebook shows as the static drawing, a description in words,
and the data; the script replaces the drawing by the figure. The script looks up numbers and draws
them; every number is computed here, by the library.
"""

from __future__ import annotations

import html
import json
import math

import numpy as np

import plots
from rope_xp import RoPE, analysis, cos_sin, sinusoidal
from rope_xp.attention import KVCache
from rope_xp.axes import Axial, InterleavedSections, Sections, golden_directions
from rope_xp.positions import grid_positions
from rope_xp.scaling import NTK, Linear, Llama3, YaRN


class Moving:
    """A figure that moves: its name in figures.js, its data, and its static drawing with a description."""

    def __init__(self, name: str, data: dict, static: plots.Plot) -> None:
        self.name, self.data, self.static = name, data, static

    def _repr_html_(self) -> str:
        data = json.dumps(_plain(self.data), separators=(",", ":")).replace("</", "<\\/")
        alt = html.escape(self.static.alt)
        return (
            f'<div class="moving" data-figure="{self.name}" data-alt="{alt}">'
            f'<script type="application/json">{data}</script>'
            f'<div class="static">{self.static._repr_html_()}</div>'
            f"<details><summary>In words</summary><p>{alt}</p></details></div>"
        )


def _plain(value):
    """Arrays as lists, and floats with five digits, more than a screen shows."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _angles(positions, inv_freq):
    """Exact angles modulo one turn, in (−π, π], shape (..., n_pairs)."""
    cos, sin = cos_sin(np.asarray(positions), inv_freq, dtype=np.float64)
    return np.arctan2(sin, cos)


def _spread(first, last, count):
    """All integers below `first`, then `count` up to `last`, each larger by the same ratio."""
    return np.unique(np.r_[np.arange(first), np.geomspace(first, last, count).round()]).astype(int)


def sinusoid():
    """Two rows of the sinusoidal encoding, p and p + k: the shift turns each pair by k·θ."""
    positions, shifts = np.arange(65), np.arange(33)
    inv_freq = RoPE(16, layout="interleaved").frequencies().inv_freq  # those of `sinusoidal`
    rows = sinusoidal(np.arange(97), 16, dtype=np.float64)
    data = {
        "rows": rows.round(4),
        "angles": np.arctan2(rows[:, 0::2], rows[:, 1::2]),  # of (cos, sin)
        "shifts": shifts[:, None] * inv_freq / (2 * math.pi),  # in turns
        "products": [(rows[p + shifts] @ rows[p]).round(3) for p in positions],
    }
    return Moving("sinusoid", data, plots.static_sinusoid(data, p=5, k=3))


def turn():
    """One pair: q at m and k at n, which turn together."""
    theta = math.pi / 8
    cos, sin = cos_sin(np.arange(64), [theta], dtype=np.float64)
    data = {"cos": cos[:, 0], "angles": np.arctan2(sin, cos)[:, 0]}
    return Moving("turn", data, plots.turn(cos[:, 0], sin[:, 0], m=3, n=1))


def pairs():
    """All pairs of a head as clocks."""
    inv_freq = RoPE(32, layout="half").frequencies().inv_freq
    positions = _spread(64, 4096, 97)
    data = {
        "positions": positions,
        "angles": _angles(positions, inv_freq),
        "turns": np.stack([analysis.turns(inv_freq, m) for m in positions.tolist()]),
        "wavelengths": analysis.wavelengths(inv_freq),
    }
    return Moving("pairs", data, plots.static_pairs(data, m=64))


def base():
    """Wavelengths of all pairs against the context, for any base."""
    steps = [1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8]
    bases = [step * 10**power for power in range(2, 8) for step in steps] + [1e8]
    contexts = {"2k": 2**11, "8k": 2**13, "128k": 2**17, "1M": 2**20}
    schedules = [RoPE(128, layout="half", base=b).frequencies().inv_freq for b in bases]
    data = {
        "bases": bases,
        "contexts": contexts,
        "wavelengths": [analysis.wavelengths(f) for f in schedules],
        "slowest": [round(analysis.wavelengths(f)[-1]) for f in schedules],
        "turning": {
            name: [int(np.sum(analysis.turns(f, length) >= 1)) for f in schedules]
            for name, length in contexts.items()
        },
    }
    return Moving("base", data, plots.static_base(data, base=10000, context="8k"))


def decay():
    """The partial sums as a walk, the mean of their sizes, and the sum of cosines."""
    inv_freq = RoPE(128, layout="half").frequencies().inv_freq
    distances = _spread(64, 20000, 70)
    cos, sin = cos_sin(distances, inv_freq, dtype=np.float64)
    every = np.arange(distances[-1] + 1)
    curves = {
        "bound": analysis.decay_bound(every, inv_freq),
        "advantage": analysis.advantage(every, inv_freq),
    }
    # The curves rise and fall between two distances that are shown: the least and greatest value there.
    data = {
        "distances": distances,
        "x": cos.cumsum(axis=-1).round(2),  # of S_1 ... S_64
        "y": sin.cumsum(axis=-1).round(2),
        "first": analysis.context_bound(inv_freq),
        **{name: curve[distances] for name, curve in curves.items()},
        **{
            f"{name}_{end}": extreme.reduceat(curve, distances)
            for name, curve in curves.items()
            for end, extreme in (("low", np.minimum), ("high", np.maximum))
        },
    }
    return Moving("decay", data, plots.static_decay(data, distance=20))


def precision():
    """One score at distance 5 and the angles' error, exact and with float32 angles."""
    exact, rounded = (RoPE(128, layout="half", precision=p) for p in ("exact", "float32"))
    positions = _spread(1, 10_000_000, 160)[1:]
    tables = [rope.cos_sin(positions, dtype=np.float64) for rope in (exact, rounded)]
    (cos, sin), (cos32, sin32) = tables
    errors = np.abs(np.arctan2(sin32 * cos - cos32 * sin, cos32 * cos + sin32 * sin))
    worst = errors.argmax(axis=-1)
    rows = np.arange(len(positions))
    q, k = np.random.default_rng(0).standard_normal((2, 1, 128))  # one query, one key

    def scores(rope):
        q_at, k_at = (np.tile(x, (len(positions), 1)) for x in (q, k))  # at every position
        turned = rope(q_at, positions=positions + 5), rope(k_at, positions=positions)
        return np.sum(turned[0] * turned[1], axis=-1)

    data = {
        "positions": positions,
        "errors": errors.max(axis=-1),
        "worst": worst,
        "hands": [np.arctan2(s[rows, worst], c[rows, worst]) for c, s in tables],
        "exact": scores(exact).round(6),
        "float32": scores(rounded).round(6),
    }
    return Moving("precision", data, plots.static_precision(data))


def schedule():
    """What each schedule does to each pair, for any factor."""
    original, factors = 4096, range(1, 33)
    makers = {
        "Linear": Linear,
        "NTK": NTK,
        "NTK by parts": lambda s: YaRN(s, original, attention_factor=1.0),
        "YaRN": lambda s: YaRN(s, original),
        "Llama 3": lambda s: Llama3(s, 1.0, 4.0, original),
    }
    own = RoPE(128, layout="half").frequencies().inv_freq
    turns = analysis.turns(own, original)
    made = {
        name: [RoPE(128, layout="half", scaling=make(float(s))).frequencies() for s in factors]
        for name, make in makers.items()
    }
    data = {
        "original": original,
        "factors": list(factors),
        "own": analysis.wavelengths(own),
        "ends": np.interp(-np.log([32, 4, 1]), -np.log(turns), np.arange(64)),
        "wavelengths": {
            name: [analysis.wavelengths(f.inv_freq) for f in given] for name, given in made.items()
        },
        "slowest": {
            name: [round(analysis.wavelengths(f.inv_freq)[-1]) for f in given]
            for name, given in made.items()
        },
        "attention": {name: [f.attention_factor for f in given] for name, given in made.items()},
        "turning": {
            name: [
                int(np.sum(analysis.turns(f.inv_freq, s * original) >= 1))
                for s, f in zip(factors, given, strict=True)
            ]
            for name, given in made.items()
        },
    }
    return Moving("schedule", data, plots.static_schedule(data, factor=8))


def cache():
    """A cache from which tokens are dropped: the keys behind them move up."""
    rope, n_keys, pair = RoPE(32, layout="half", base=100.0), 16, 3  # all pairs turn visibly
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((1, 32)), rng.standard_normal((n_keys, 32))
    keys = rope(k)
    full = KVCache.empty((n_keys, 32), dtype=np.float64).append(keys, keys)
    scores = {"moved": [], "fresh": [], "unmoved": []}
    for keep in range(9):
        for rows in scores.values():
            rows.append([])
        for drop in range(9):
            query = rope(q, offset=n_keys - drop)  # the next token
            left = [i for i in range(n_keys) if not keep <= i < keep + drop]
            shorter = full.drop(drop, rope, keep=keep)
            for name, turned in (
                ("moved", shorter.k[: shorter.length]),
                ("fresh", rope(k[left])),
                ("unmoved", keys[left]),
            ):
                scores[name][-1].append(np.sum(query * turned, axis=-1))

    def gap(one, other):
        return [
            [float(np.max(np.abs(a - b))) for a, b in zip(*rows, strict=True)]
            for rows in zip(scores[one], scores[other], strict=True)
        ]

    shown = np.concatenate([row for given in scores.values() for rows in given for row in rows])
    data = {
        "n_keys": n_keys,
        "range": [math.floor(shown.min()), math.ceil(shown.max())],
        "angles": _angles(range(n_keys), rope.frequencies().inv_freq)[:, pair],
        **{
            name: [[row.round(3) for row in rows] for rows in given]
            for name, given in scores.items()
        },
        "gap": gap("moved", "fresh"),
        "unmoved_gap": gap("unmoved", "fresh"),
    }
    return Moving("cache", data, plots.static_cache(data, keep=2, drop=4))


def _cos_sin(rope, positions):
    """Tables at (row, column); a scheme with a time axis has time 0 everywhere."""
    time = np.zeros((rope.axes.n_axes - 2, positions.shape[1]), dtype=positions.dtype)
    return rope.cos_sin(np.concatenate([time, positions]), dtype=np.float64)


def axes():
    """What position alone does to the score of a query with every patch, for five schemes."""
    n = 12
    speeds = {"slowest": 1e4 ** (-31 / 32), "fastest": 1.0}  # those of the first scheme
    schemes = {
        "axial": (1e4, Axial(2)),
        "axial, shared frequencies": (1e4, Axial(2, frequencies="shared")),
        "sections": (1e6, Sections((16, 24, 24))),
        "interleaved sections": (5e6, InterleavedSections((24, 20, 20))),
        "golden directions": (1e4, golden_directions(2, 64, **speeds)),
    }
    apart = grid_positions(range(1 - n, n), range(1 - n, n))  # rows and columns to the query
    tables = {}
    for name, (base, scheme) in schemes.items():
        cos, _ = _cos_sin(RoPE(128, layout="half", base=base, axes=scheme), apart)
        tables[name] = cos.mean(axis=-1).reshape(2 * n - 1, 2 * n - 1)
    mixed = {
        name: float(np.abs(t - t[:, n - 1 : n] - t[n - 1 : n] + 1).max())
        for name, t in tables.items()
    }
    added = min(t[n - 1].min() + t[:, n - 1].min() - 1 for t in tables.values())
    data = {
        "n": n,
        "least": math.floor(10 * min(table.min() for table in tables.values())) / 10,
        "lowest": math.floor(10 * added) / 10,  # of a sum of a row's and a column's part
        "tables": {name: table.round(4) for name, table in tables.items()},
        "mixed": {name: round(value, 3) for name, value in mixed.items()},
    }
    return Moving(
        "axes", data, plots.static_axes(data, scheme="golden directions", row=4, column=3)
    )


def directions():
    """Which direction each pair turns in: stripes of one, arrows and clocks of all."""
    n = 12
    schemes = {
        "axial": Axial(2),
        "axial, shared frequencies": Axial(2, frequencies="shared"),
        "sections": Sections((4, 6, 6)),
        "interleaved sections": InterleavedSections((6, 5, 5)),
        "golden directions": golden_directions(2, 16, slowest=100 ** (-7 / 8), fastest=1.0),
    }
    data = {"n": n, "angles": {}, "rates": {}, "arrows": {}}
    for name, scheme in schemes.items():
        rope = RoPE(32, layout="half", base=100.0, axes=scheme)
        cos, sin = _cos_sin(rope, grid_positions(n, n))
        data["angles"][name] = np.arctan2(sin, cos).T.round(3)  # (n_pairs, n * n)
        rates = rope.frequencies().inv_freq[-2:]
        speed = np.hypot(*rates)
        moves = speed > 0  # a pair of the time axis does not turn within an image
        length = np.interp(np.log(np.where(moves, speed, 1)), np.log([0.01, 1]), [0.1, 1])
        data["rates"][name] = rates.T
        data["arrows"][name] = (rates / np.where(moves, speed, 1) * length).T.round(4)
    static = plots.static_directions(data, scheme="golden directions", pair=12, row=2, column=8)
    return Moving("directions", data, static)
