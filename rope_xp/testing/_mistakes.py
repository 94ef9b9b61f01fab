"""Mistakes that implementations of RoPE make, each as a change of one stage of the computation.

The stages are those of the package: positions, frequencies, angles, tables, rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rope_xp.configs._compare import blocks_of
from rope_xp.layouts._pairs import pair_features
from rope_xp.rope import RoPE
from rope_xp.testing._definition import Definition


class Mistake(NamedTuple):
    """One change of one stage.

    Parameters
    ----------
    stage : {"positions", "frequencies", "angles", "tables", "rotation", "all"}
    text : str
        What it is, to follow "this looks like".
    change : callable
        Of what the stage makes: positions (..., batch or 1, heads or 1, seq); frequencies; angles or
        cos, sin (batch, heads, seq, n_pairs); or what replaces the rotation, of (x, cos, sin), or all, of
        (x, positions).
    rounds_to : str
        The dtype to which numbers are rounded, some of them maybe the other way.
    """

    stage: str
    text: str
    change: Callable[..., Any]
    rounds_to: str = ""


def rotated_with(
    definition: Definition, x: np.ndarray, positions: np.ndarray, *tried: Mistake
) -> np.ndarray:
    """``x`` rotated as by an implementation that makes these mistakes."""
    axes = definition.inv_freq.ndim - 1
    at = positions.astype(np.float64)
    at = at[..., None, None, :] if at.ndim == 1 + axes else at[..., :, None, :]
    at = np.broadcast_to(at, (*at.shape[:axes], *x.shape[:3]))  # (..., batch, heads, seq)
    theta = definition.inv_freq
    by_stage = {mistake.stage: mistake.change for mistake in tried}
    if "all" in by_stage:
        return np.asarray(by_stage["all"](x, positions))

    def apply(stage: str, *made: Any) -> Any:
        return by_stage[stage](*made) if stage in by_stage else made[0] if len(made) == 1 else made

    at, theta = apply("positions", at), apply("frequencies", theta)
    angles = at[..., None] * theta if not axes else np.einsum("a...,an->...n", at, theta)
    angles = apply("angles", angles)
    factor = definition.factor
    cos, sin = apply("tables", np.cos(angles) * factor, np.sin(angles) * factor)
    if "rotation" in by_stage:
        return np.asarray(by_stage["rotation"](x, cos, sin))
    return turn(definition.rope, x, cos, sin)


def turn(rope: RoPE, x: np.ndarray, cos: np.ndarray, sin: np.ndarray, **change: Any) -> np.ndarray:
    """The rotation itself, with another layout or part."""
    layout = change.get("layout", rope.layout)
    start = change.get("start", rope.rotary_start)
    first, second = np.asarray(pair_features(layout, start, blocks_of(rope))).T
    return combine(x, first, second, lambda u, v: (u * cos, v * sin, v * cos, u * sin))


def combine(x: np.ndarray, first: np.ndarray, second: np.ndarray, products: Any) -> np.ndarray:
    """``x`` with its pairs replaced by the difference and the sum of four products."""
    y = np.array(x)
    uc, vs, vc, us = products(x[..., first], x[..., second])
    y[..., first], y[..., second] = uc - vs, vc + us
    return y
