"""Frequencies along several axes → scheme, base and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from rope_xp.axes import Axial, AxisPerPair, Directions, InterleavedSections, Sections
from rope_xp.configs._compare import blocks_of
from rope_xp.layouts._pairs import LAYOUTS, pair_features
from rope_xp.rope import RoPE
from rope_xp.testing._match import match

_REFUSED = (ValueError, TypeError, ArithmeticError)


def pairs_of(rope: RoPE) -> tuple[tuple[int, int], ...]:
    """The two features of each pair."""
    return pair_features(rope.layout, rope.rotary_start, blocks_of(rope))


def match_axes(
    matrix: np.ndarray,
    errors: np.ndarray,
    pairs: tuple[tuple[int, int], ...],
    head_dim: int,
    attention_factor: float,
) -> RoPE | None:
    """The encoding with these pairs and these frequencies (n_axes, n_pairs), the simplest; or None."""
    options: dict[str, Any] = {"rotary_start": min(chain(*pairs)), "rotary_dim": 2 * len(pairs)}
    if options == {"rotary_start": 0, "rotary_dim": head_dim}:
        options = {}
    for layout in LAYOUTS:
        for fields in _candidates(matrix, errors, attention_factor):
            try:
                rope = RoPE(head_dim, layout=layout, **options, **fields)
            except _REFUSED:
                continue
            if pairs_of(rope) != tuple(pairs):
                continue
            found = rope.frequencies()
            same = np.abs(np.asarray(found.inv_freq) - matrix) <= 2 * errors * np.abs(matrix)
            if np.all(same) and abs(found.attention_factor - attention_factor) < 1e-6:
                return rope
    return None


def _candidates(
    matrix: np.ndarray, errors: np.ndarray, attention_factor: float
) -> Iterator[dict[str, Any]]:
    n_axes, n_pairs = matrix.shape
    dense = {"axes": Directions(tuple(tuple(map(float, row)) for row in matrix))}
    if np.any(matrix < 0) or np.any(np.count_nonzero(matrix, axis=0) > 1):
        yield dense
        return
    owners = [int(np.argmax(column)) for column in matrix.T]
    total, error = matrix.sum(axis=0), errors[owners, np.arange(n_pairs)]
    whole = match(total, error, 2 * n_pairs, attention_factor)
    counts = tuple(owners.count(axis) for axis in range(n_axes))
    if whole.base is not None:
        for scheme in (Sections, InterleavedSections):
            if scheme(counts).axis_of_pair(2 * n_pairs) == tuple(owners):
                yield {"axes": scheme(counts), "base": whole.base, "scaling": whole.scaling}
        if all(counts):
            axes = AxisPerPair(tuple(owners))
            yield {"axes": axes, "base": whole.base, "scaling": whole.scaling}
    if all(counts):
        yield from _axial(matrix, error, owners, counts, attention_factor)
    yield dense


def _axial(
    matrix: np.ndarray,
    error: np.ndarray,
    owners: list[int],
    counts: tuple[int, ...],
    attention_factor: float,
) -> Iterator[dict[str, Any]]:
    n_axes = len(counts)
    own = [np.flatnonzero(np.asarray(owners) == axis) for axis in range(n_axes)]
    order = tuple(dict.fromkeys(owners))
    widths: Any = n_axes if len({*counts}) == 1 else tuple(2 * n for n in counts)
    arrangement = "blocks" if owners == sorted(owners, key=order.index) else "alternating"
    fields: dict[str, Any] = {"arrangement": arrangement}
    if order != tuple(range(n_axes)):
        fields["axis_order"] = order
    if len({*counts}) == 1:  # one list that the axes share
        shared = np.zeros(matrix.shape[1])
        for place, axis in enumerate(order):
            shared[place::n_axes] = matrix[axis, own[axis]]
        whole = match(shared, np.full(len(shared), float(error.max())), 2 * len(shared))
        if whole.base is not None:
            axes = Axial(widths, **fields, frequencies="shared")
            yield {"axes": axes, "base": whole.base, "scaling": whole.scaling}
    for scale in (1.0, float(matrix.max())):
        found = [
            match(matrix[axis, which] / scale, error[which], 2 * len(which), attention_factor)
            for axis, which in enumerate(own)
        ]
        bases = [each.base for each in found]
        if any(base is None for base in bases):
            continue
        # A single pair turns by 1 whatever the base.
        known = [base for base, which in zip(bases, own, strict=True) if len(which) > 1]
        base = (known or bases)[0]
        bases = [b if len(which) > 1 else base for b, which in zip(bases, own, strict=True)]
        more: dict[str, Any] = {"bases": tuple(bases)} if len({*bases}) > 1 else {}
        schedules: Any = tuple(each.scaling for each in found)
        for split in (False, True):
            axes = Axial(widths, **fields, **more, split=split, scale=scale)
            yield {"axes": axes, "base": base, "scaling": schedules}
