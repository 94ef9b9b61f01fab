"""Mistakes with tables and with the rotation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rope_xp.configs._compare import blocks_of
from rope_xp.layouts._pairs import pair_features, pair_slices
from rope_xp.testing._definition import Definition
from rope_xp.testing._mistakes import Mistake, combine, turn
from rope_xp.testing._rounding import rounded


def table_mistakes(definition: Definition) -> Iterator[Mistake]:
    factor = definition.factor
    for name in ("bfloat16", "float16"):
        yield Mistake(
            "angles",
            f"angles rounded to {name}{_AGAIN[name]}",
            lambda a, d=name: rounded(a, d),
            rounds_to=name,
        )
    for name in ("bfloat16", "float16"):
        yield Mistake(
            "tables",
            f"tables (cos, sin) rounded to {name}",
            lambda c, s, d=name: (rounded(c, d), rounded(s, d)),
            rounds_to=name,
        )
    yield Mistake("tables", "cos and sin are exchanged", lambda c, s: (s, c))
    if factor != 1.0:
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is missing",
            lambda c, s: (c / factor, s / factor),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied twice",
            lambda c, s: (c * factor, s * factor),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied the wrong way (divided)",
            lambda c, s: (c / factor**2, s / factor**2),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied to cos only",
            lambda c, s: (c, s / factor),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied to sin only",
            lambda c, s: (c / factor, s),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied twice to cos",
            lambda c, s: (c * factor, s),
        )
        yield Mistake(
            "tables",
            f"the attention factor {factor:.6g} is applied twice to sin",
            lambda c, s: (c, s * factor),
        )
        root = math.sqrt(factor)
        yield Mistake(
            "tables",
            f"the square root of the attention factor {factor:.6g} is applied",
            lambda c, s: (c / root, s / root),
        )


_AGAIN = {
    "bfloat16": ": positions 256 and 257 coincide in the fastest pair",
    "float16": ": positions 2048 and 2049 coincide in the fastest pair",
}


def rotation_mistakes(definition: Definition) -> Iterator[Mistake]:
    rope = definition.rope
    layout, start, n = rope.layout, rope.rotary_start, rope.n_pairs
    other = "interleaved" if layout == "half" else "half"
    names = {
        "half": "the half pairing (i, i + n_pairs)",
        "interleaved": "the interleaved pairing (2i, 2i + 1)",
    }
    # (2, n_pairs): first and second features
    here, there = (
        np.asarray(pair_features(each, start, blocks_of(rope))).T for each in (layout, other)
    )

    def mistake(text: str, change: Any) -> Mistake:
        return Mistake("rotation", text, change)

    yield mistake(names[other], lambda x, c, s: turn(rope, x, c, s, layout=other))
    yield from _part_mistakes(definition, mistake)
    for name in ("bfloat16", "float16"):
        yield Mistake(
            "rotation",
            f"x is rounded to {name} before it is rotated",
            lambda x, c, s, d=name: turn(rope, rounded(x, d), c, s),
            name,
        )
        yield Mistake(
            "rotation",
            f"the result is rounded to {name}",
            lambda x, c, s, d=name: rounded(turn(rope, x, c, s), d),
            name,
        )

    def reordered(x: np.ndarray, source: Any, target: Any) -> np.ndarray:
        y = np.array(x)
        for a, b in zip(source, target, strict=True):
            y[..., b] = x[..., a]
        return y

    yield mistake(
        f"the output's features are in {other} order: pairs are right, but come out at other places "
        "(transformers' DeepSeek V3 does so; scores are the same if q and k both are)",
        lambda x, c, s: reordered(turn(rope, x, c, s), here, there),
    )
    yield mistake(
        f"x is reordered to {other} before and not back after",
        lambda x, c, s: turn(rope, reordered(x, here, there), c, s),
    )

    def mixed(x: np.ndarray, c: np.ndarray, s: np.ndarray, by: str) -> np.ndarray:
        """Tables repeated for one layout, the rotation of the other."""
        wide = [_spread(t, by) for t in (c, s)]
        partner = _partner(x, start, n, other if by == layout else layout)
        y = np.array(x)
        part = slice(start, start + 2 * n)
        y[..., part] = x[..., part] * wide[0] + partner * wide[1]
        return y

    yield mistake(
        f"mixed layouts: tables of the {layout} layout, rotation of the {other} layout",
        lambda x, c, s: mixed(x, c, s, layout),
    )
    yield mistake(
        f"mixed layouts: tables of the {other} layout, rotation of the {layout} layout",
        lambda x, c, s: mixed(x, c, s, other),
    )

    def signs(text: str, products: Any) -> Mistake:
        return mistake(
            text, lambda x, c, s: combine(x, here[0], here[1], lambda u, v: products(u, v, c, s))
        )

    yield signs(
        "a minus is missing: x1 cos + x2 sin, x2 cos + x1 sin",
        lambda u, v, c, s: (u * c, -v * s, v * c, u * s),
    )
    yield signs(
        "a minus too many: x1 cos - x2 sin, x2 cos - x1 sin",
        lambda u, v, c, s: (u * c, v * s, v * c, -u * s),
    )
    yield signs(
        "a reflection: x1 cos + x2 sin, x1 sin - x2 cos",
        lambda u, v, c, s: (u * c, -v * s, -v * c, u * s),
    )
    yield signs(
        "both outputs have the wrong sign", lambda u, v, c, s: (-u * c, -v * s, -v * c, -u * s)
    )
    yield signs(
        "the second output uses the first one, already rotated",
        lambda u, v, c, s: (u * c, v * s, v * c, (u * c - v * s) * s),
    )
    yield signs(
        "x cos + x sin: the rotated partner is missing",
        lambda u, v, c, s: (u * c, -u * s, v * c, v * s),
    )
    yield signs(
        "a typing error: x2 sin in the place of x1 sin",
        lambda u, v, c, s: (u * c, v * s, v * c, v * s),
    )
    yield signs(
        "a typing error: x1 sin in the place of x2 sin",
        lambda u, v, c, s: (u * c, u * s, v * c, u * s),
    )
    yield signs(
        "a typing error: x1 cos in the place of x2 cos",
        lambda u, v, c, s: (u * c, v * s, u * c, u * s),
    )
    yield signs(
        "only cos is applied: the sine term is missing",
        lambda u, v, c, s: (u * c, 0 * s, v * c, 0 * s),
    )
    yield signs(
        "only sin is applied: the cosine term is missing",
        lambda u, v, c, s: (0 * c, v * s, 0 * c, u * s),
    )
    yield signs(
        "the outputs of a pair are exchanged", lambda u, v, c, s: (v * c, -u * s, u * c, -v * s)
    )


def _spread(table: np.ndarray, layout: str) -> np.ndarray:
    """A table repeated to the width of x, as the layout needs it."""
    return (
        np.repeat(table, 2, axis=-1)
        if layout == "interleaved"
        else np.concatenate([table, table], -1)
    )


def _partner(x: np.ndarray, start: int, n: int, layout: str) -> np.ndarray:
    """-x2 in the place of x1, x1 in that of x2; (..., 2 n)."""
    first, second = pair_slices(layout, 0, n)
    part = x[..., start : start + 2 * n]
    y = np.empty_like(part)
    y[..., first], y[..., second] = -part[..., second], part[..., first]
    return y


def _part_mistakes(definition: Definition, mistake: Any) -> Iterator[Mistake]:
    """Of the rotated part: which features are rotated, and what becomes of the others."""
    rope, factor, static = definition.rope, definition.factor, definition.static
    layout, n, width = rope.layout, rope.n_pairs, rope.head_dim
    if static.any():
        if width % 2 == 0:
            whole = dataclasses.replace(rope, rotary_dim=width, rotary_start=0)
            yield Mistake(
                "all",
                "the whole head is rotated: rotary_dim is ignored",
                Definition(whole, definition.seq_len),
            )
        yield mistake(
            "the features that do not rotate are set to zero",
            lambda x, c, s: np.where(static, 0.0, turn(rope, x, c, s)),
        )
        if factor != 1.0:
            yield mistake(
                f"the attention factor {factor:.6g} is applied to the features that do not rotate, too",
                lambda x, c, s: np.where(static, factor * x, turn(rope, x, c, s)),
            )
        others = {
            0: "the first features are rotated",
            width - 2 * n: "the last features are rotated",
        }
        for start, text in others.items():
            if start != rope.rotary_start:
                yield mistake(
                    f"another part of the head (rotary_start): {text}, from feature {start} on",
                    lambda x, c, s, a=start: turn(rope, x, c, s, start=a),
                )
        if layout == "half" and width % 2 == 0 and rope.rotary_start == 0:
            yield mistake(
                "pairs of the whole head, (i, i + head_dim/2), of which the first n_pairs are rotated",
                lambda x, c, s: _across_head(x, c, s, width),
            )


def _across_head(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, width: int) -> np.ndarray:
    n, half = cos.shape[-1], width // 2
    y = np.array(x)
    first, second = slice(0, n), slice(half, half + n)
    u, v = x[..., first], x[..., second]
    z = u + 1j * v
    z = z * (cos + 1j * sin)
    y[..., first], y[..., second] = z.real, z.imag
    return y
