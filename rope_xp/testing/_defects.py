"""What matrices at positions do that no rotation does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rope_xp.testing._angles import Turns, wrap
from rope_xp.testing._measured_pairs import base_of, roundest
from rope_xp.testing._rounding import EPS
from rope_xp.testing._structure import Layout, Structure, layout_of

Pairs = Sequence[tuple[int, int]]


def features_alone(found: Structure, matrices: Sequence[np.ndarray]) -> Iterator[str]:
    """What is wrong with features that are in no pair, from matrices (n, head_dim, head_dim) of each axis."""
    if not found.alone:
        return
    inputs, results = map(list, zip(*found.alone, strict=True))
    gains = np.concatenate([each[:, results, inputs] for each in matrices])
    varies = np.flatnonzero(np.max(np.abs(gains - gains[0]), axis=0) > 1e-6)
    if varies.size:
        yield (
            f"feature {inputs[varies[0]]} is multiplied by a number that changes with the position, "
            "and has no partner that it turns with"
        )
        return
    off = np.flatnonzero(np.abs(gains[0] - 1) > 1e-6)
    if off.size:
        yield (
            f"{off.size} features that do not rotate are multiplied by {gains[0, off[0]]:.6g}, "
            f"the first of them feature {inputs[off[0]]}"
        )
    moved = next((pair for pair in found.alone if pair[0] != pair[1]), None)
    if moved and not found.pairs:
        yield f"feature {moved[0]} of x is feature {moved[1]} of the result"


def norms(turns: Turns) -> np.ndarray:
    """What the first features of pairs are multiplied by, (n_positions, n_pairs)."""
    made: np.ndarray = np.hypot(turns.first_first, turns.second_first)
    return made


def attention_factor(turns: Turns) -> float:
    """What cos and sin are multiplied by, from position 0."""
    factor = float(np.median(norms(turns)[0]))
    if abs(factor - 1) < 1e-6 or not factor > 0:
        return 1.0
    return roundest(factor * (1 - 4 * EPS), factor * (1 + 4 * EPS))


def changing_norms(turns: Turns, factor: float) -> Iterator[str]:
    """Factors that are not the same for all pairs and positions."""
    size = norms(turns)
    if np.max(np.abs(size / factor - 1)) > 2.0**-7:
        yield (
            "pairs are multiplied by numbers that differ between pairs or positions, from "
            f"{size.min():.6g} to {size.max():.6g}"
        )


def _blocks(turns: Turns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each pair has one cos, sines of opposite signs, and sines of the same sign."""
    bound = 1e-5 * max(float(np.max(np.abs(turns.first_first))), 1e-30)
    same_cos = np.max(np.abs(turns.first_first - turns.second_second), axis=0) <= bound
    opposite = np.max(np.abs(turns.second_first + turns.first_second), axis=0) <= bound
    same_sign = np.max(np.abs(turns.second_first - turns.first_second), axis=0) <= bound
    return same_cos, opposite, same_sign


def not_rotations(turns: Turns, pairs: Pairs) -> Iterator[str]:
    """How pairs fail to turn, with the first pair that does."""
    same_cos, opposite, same_sign = _blocks(turns)
    if np.all(same_cos & opposite):
        return
    first, second = pairs[int(np.argmin(same_cos & opposite))]
    where = f"features {first} and {second} are not rotated"
    if np.all(same_cos & (opposite | same_sign)):
        yield f"{where}: both sines have the same sign, a minus is missing"
    else:
        yield f"{where}: what becomes of them is no rotation times a factor"


def mixed_tables(turns: Turns, layout: Layout, outputs: Pairs) -> tuple[str, np.ndarray] | None:
    """What is wrong if the features of a pair turn by different angles; and one list of frequencies.

    That is what cos and sin do that are repeated for the other layout.
    """
    same_cos, opposite, _ = _blocks(turns)
    first = np.hypot(turns.first_first, turns.first_second)
    second = np.hypot(turns.second_second, turns.second_first)
    spread = max(
        float(np.ptp(first)) / float(first.max()), float(np.ptp(second)) / float(second.max())
    )
    if np.all(same_cos) or not spread < 2.0**-6:
        return None
    angles = [
        np.arctan2(-turns.first_second, turns.first_first),
        np.arctan2(turns.second_first, turns.second_second),
    ]
    steps = [wrap(each[1] - each[0]) for each in angles]
    grows = np.max(np.abs(wrap(angles[0][2] - angles[0][0] - 2 * steps[0]))) <= 2.0**-5
    if not grows or np.max(np.abs(wrap(steps[0] - steps[1]))) < 1e-3:
        return None
    i = int(np.argmin(same_cos & opposite))
    a, b = layout.pairs[i]
    remark = (
        f"features {a} and {b} are turned by different angles, {steps[0][i]:.6g} and "
        f"{steps[1][i]:.6g} radians at position 1"
    )
    results = np.asarray(outputs)
    by_feature = np.zeros(int(results.max()) + 1)
    by_feature[results[:, 0]], by_feature[results[:, 1]] = steps
    rotated = by_feature[np.sort(results.ravel())]
    n = len(layout.pairs)
    forms = {"half": (rotated[:n], rotated[n:]), "interleaved": (rotated[::2], rotated[1::2])}
    for name, (one, other) in forms.items():
        if np.max(np.abs(one - other)) <= 1e-5:
            return f"{remark}: the rotation is {layout.name}, cos and sin are for {name}", one
    return f"{remark}: cos and sin of a pair are those of two pairs", steps[0]


def base_of_mixed(inv_freq: np.ndarray) -> float | None:
    """The base of frequencies that were measured at position 1 only."""
    return base_of(np.abs(inv_freq), 2.0**-16)


def output_layout(
    pairs: Pairs, outputs: Pairs, head_dim: int
) -> str | tuple[tuple[int, int], ...] | None:
    """Where features are in the result, if not where they were."""
    if tuple(pairs) == tuple(outputs):
        return None
    named = layout_of(outputs, head_dim)
    return named.name if named.name and named.pairs == tuple(outputs) else tuple(outputs)


def moved_positions(start: np.ndarray, inv_freq: np.ndarray) -> Iterator[str]:
    """What position 0 is rotated by, if not by 0."""
    if np.max(np.abs(start)) <= 1e-4:
        return
    if np.min(np.abs(start)) > 3.14:
        yield "pairs are multiplied by -1"
        return
    for shift in (*range(1, 17), *range(-1, -17, -1)):
        if np.max(np.abs(wrap(start - shift * inv_freq))) < 1e-2:
            yield f"positions are off by {shift}: position p is rotated as p {'+-'[shift < 0]} {abs(shift)}"
            return
    yield f"position 0 is rotated, by up to {np.max(np.abs(start)):.6g} radians"
