"""Which features make a pair: from the entries of matrices that are not zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Structure(NamedTuple):
    """Which features turn together.

    Parameters
    ----------
    pairs, outputs : tuple of pairs of int
        Features of x, the smaller first, and those of the result that they become.
    alone : tuple of (int, int)
        Features that are with no other: of x, and of the result.
    remarks : tuple of str
        Where features are neither.
    """

    pairs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    alone: tuple[tuple[int, int], ...]
    remarks: tuple[str, ...]


def structure(matrices: np.ndarray) -> Structure:
    """Features that matrices (n, head_dim, head_dim) connect at some position."""
    best = None
    size = np.max(np.abs(matrices)) or 1.0
    for tolerance in (
        1e-13,
        1e-6,
        1e-3,
    ):  # rounding errors are smaller than what slow pairs turn by
        best = _structure(np.any(np.abs(matrices) > tolerance * size, axis=0), matrices[0])
        if not best.remarks:
            return best
    return _structure(np.any(np.abs(matrices) > 1e-13 * size, axis=0), matrices[0])


def _structure(linked: np.ndarray, first: np.ndarray) -> Structure:
    d = len(linked)
    reach = (linked.T.astype(np.float32) @ linked.astype(np.float32)) > 0
    reach |= np.eye(d, dtype=bool)
    for _ in range(d.bit_length()):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    pairs, outputs, alone, larger, lost = [], [], [], [], []
    for i in range(d):
        inputs = np.flatnonzero(reach[i])
        if inputs[0] != i:
            continue
        results = np.flatnonzero(np.any(linked[:, inputs], axis=1))
        if len(inputs) == 1 and len(results) == 1:
            alone.append((i, int(results[0])))
        elif len(inputs) == 2 and len(results) == 2:
            a, b = map(int, inputs)
            c, e = map(int, results)
            moved = {a, b} != {c, e} and np.abs(first[e, a]) > np.abs(first[c, a])
            pairs.append((a, b))
            outputs.append((e, c) if moved else (c, e))
        elif not len(results):
            lost.append(i)
        else:
            larger.append([*map(int, inputs)])
    remarks = []
    if larger:
        some = ", ".join(map(str, larger[0][:6])) + (", …" if len(larger[0]) > 6 else "")
        remarks.append(f"not pairs: {len(larger[0])} features are mixed with each other ({some})")
    if lost:
        remarks.append(f"feature {lost[0]} of x has no effect on the result")
    return Structure(tuple(pairs), tuple(outputs), tuple(alone), tuple(remarks))


class Layout(NamedTuple):
    """A name for pairs, and all that it names: those that do not turn included."""

    name: str | None
    start: int
    pairs: tuple[tuple[int, int], ...]


def layout_of(pairs: Sequence[tuple[int, int]], head_dim: int) -> Layout:
    """The layout that has these pairs: half, interleaved, or another, which has no name."""
    pairs = sorted(pairs)
    if not pairs:
        return Layout(None, 0, ())
    start, apart = pairs[0][0], pairs[0][1] - pairs[0][0]
    if all(b - a == apart for a, b in pairs):
        if apart * 2 + start <= head_dim and pairs[-1][0] < start + apart:
            named = tuple((start + i, start + i + apart) for i in range(apart))
            if len(pairs) > 1 or apart > 1 or head_dim == 2:
                return Layout("half", start, named)
        if apart == 1 and all((a - start) % 2 == 0 for a, _ in pairs):
            named = tuple((a, a + 1) for a in range(start, pairs[-1][0] + 1, 2))
            return Layout("interleaved", start, named)
    return Layout(None, start, tuple(pairs))
