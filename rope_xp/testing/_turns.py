"""Which features of queries and keys turn with the position, and by how much."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rope_xp.testing._angles import wrap
from rope_xp.testing._rounding import EPS, angle_roundings

Pairs = tuple[tuple[int, int], ...]


class Turns(NamedTuple):
    """The pairs of features that turn.

    Parameters
    ----------
    pairs : tuple of (int, int)
        In the order of their first features.
    unclear : tuple of int
        Features that change with the position otherwise than by turning with one other.
    """

    pairs: Pairs
    unclear: tuple[int, ...]


def find_turns(x: np.ndarray, noise: float) -> Turns:
    """The pairs that turn in ``x``, (n_positions, n, head_dim), from what it is at the first position.

    ``noise`` is the relative error of a feature.
    """
    start = x[0]
    scale = np.sqrt(np.mean(start**2)) or 1.0
    change = np.sqrt(np.mean((x - start) ** 2, axis=1)) / scale  # (n_positions, head_dim)
    most = np.argmax(change, axis=0)
    turning = change.max(axis=0) > 16 * noise
    partner, left = {}, {}
    for a in map(int, np.flatnonzero(turning)):
        partner[a], left[a] = _partner(start, x[most[a]], a, turning)
    pairs, unclear = [], []
    for a in sorted(partner):
        b = partner[a]
        loud = change[most[a], a] > 64 * noise
        if loud and left[a] > max(16 * noise, 0.1 * change[most[a], a]):
            unclear.append(a)
        elif partner.get(b) == a and a < b:
            pairs.append((a, b))
    inside = {feature for pair in pairs for feature in pair}
    unclear += [
        a
        for a in partner
        if a not in inside and change[most[a], a] > 64 * noise and a not in unclear
    ]
    return Turns(tuple(pairs), tuple(sorted(unclear)))


def _partner(start: np.ndarray, now: np.ndarray, a: int, turning: np.ndarray) -> tuple[int, float]:
    """The feature of which, with ``a`` itself, ``a`` is a combination now; and what is left, relative."""
    own = start[:, a]
    size = float(own @ own) or 1.0
    rest = now[:, a] - own * float(own @ now[:, a]) / size
    others = start - np.outer(own, (own @ start) / size)
    norms = np.einsum("nd,nd->d", others, others)
    share = (rest @ others) ** 2 / np.where(norms > 0, norms, np.inf)
    share = np.where(turning, share, -1.0)
    share[a] = -1.0
    b = int(np.argmax(share))
    left = math.sqrt(max(float(rest @ rest) - float(share[b]), 0.0) / len(start))
    return b, left / (math.sqrt(float(np.mean(start**2))) or 1.0)


def angles(x: np.ndarray, pairs: Pairs) -> np.ndarray:
    """By how much each pair has turned at each position, in (−π, π], (n_positions, n_pairs)."""
    a, b = (np.array(side, dtype=int) for side in zip(*pairs, strict=True))
    z = x[..., a] + 1j * x[..., b]
    turned: np.ndarray = np.angle(np.sum(z * np.conj(z[0]), axis=1))
    return turned


def rate(turned: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Radians per step, (n_pairs,), of angles that are known up to whole turns.

    ``positions`` increase from 0 to 1, and by factors of a few from there. Rates are below π.
    """
    found = np.zeros(turned.shape[1])
    for angle, position in zip(turned[1:], positions[1:], strict=True):
        wanted = found * float(position)
        found = (wanted + wrap(angle - wanted)) / float(position)
    return found


def apart(turned: np.ndarray, positions: np.ndarray, inv_freq: np.ndarray) -> np.ndarray:
    """Angles less those of frequencies, in (−π, π], (n_positions, n_pairs)."""
    return wrap(turned - np.outer(positions.astype(np.float64), inv_freq))


def allowed(positions: np.ndarray, inv_freq: np.ndarray, noise: float) -> np.ndarray:
    """The largest error of an angle in float32, in which frequencies are rounded, too."""
    speed = np.abs(inv_freq)
    return noise + np.outer(positions.astype(np.float64), speed * angle_roundings(speed)) * EPS


def reordered(before: np.ndarray, after: np.ndarray) -> tuple[list[int], float] | None:
    """Which feature each became at position 0, and the factor; None: not an order of the same numbers."""
    size = np.linalg.norm(before, axis=0) * np.ones(after.shape[1])
    norms = np.linalg.norm(after, axis=0)
    if (size == 0).any() or (norms == 0).any():
        return None
    alike = (after.T @ before) / np.outer(norms, size)
    order = np.argmax(alike, axis=1)
    factor = float(np.median(norms / size[order]))
    close = np.abs(after - factor * before[:, order]).max() < 0.02 * np.abs(after).max()
    return ([*map(int, order)], factor) if close and len({*order.tolist()}) == len(order) else None
