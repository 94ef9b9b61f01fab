"""What differs between two encodings, in numbers."""

from __future__ import annotations

import math
from dataclasses import astuple, is_dataclass
from typing import Any, NamedTuple

import numpy as np

from rope_xp._validation import MAX_LENGTH
from rope_xp.rope import RoPE
from rope_xp.scaling import QueryScale

# A file that keeps numbers in float32 changes a frequency by a few roundings of 2**-24 each.
TOLERANCE = 2.0**-22
# Radians per step that turn nothing at any position.
NOTHING = 1e-25
# Where the angles of two encodings are this far apart, in radians, they are two encodings.
FAR_APART = 0.1


class Distance(NamedTuple):
    """How far the frequencies and factors of two encodings are apart.

    Parameters
    ----------
    largest : float
        The largest relative difference; 0: equal bit for bit.
    pair : int
        Of which pair.
    position : int or None
        The first position at which an angle is off by more than 0.1; None: equal frequencies.
    factors : tuple of bool
        Whether the attention factors, and the softmax factors, are within the tolerance.
    """

    largest: float
    pair: int
    position: int | None
    factors: tuple[bool, bool]

    @property
    def is_turn_same(self) -> bool:
        """Whether the frequencies are the same within what a rounding to float32 changes."""
        return self.largest <= TOLERANCE

    @property
    def is_same(self) -> bool:
        """The same of frequencies and factors."""
        return self.is_turn_same and all(self.factors)


def distance(a: RoPE, b: RoPE, seq_len: int | None) -> Distance:
    """How far two encodings with as many pairs are apart at one length.

    Of different numbers of axes, coordinates that are equal on all are compared: text.
    """
    one, other = a.frequencies(seq_len), b.frequencies(seq_len)
    ours, theirs = np.atleast_2d(one.inv_freq), np.atleast_2d(other.inv_freq)
    if len(ours) != len(theirs):  # as text turns, if it can be
        ours, theirs = ours.sum(axis=0, keepdims=True), theirs.sum(axis=0, keepdims=True)
    apart = np.abs(ours - theirs)
    scale = np.maximum(np.abs(ours), np.abs(theirs))
    # GGUF divides by 1e30 what does not turn.
    relative = np.divide(apart, scale, out=np.zeros_like(apart), where=apart > NOTHING)
    pair = int(np.argmax(relative.max(axis=0)))
    most = float(apart.max())
    pairs = zip(one[1:], other[1:], strict=True)
    factors = [abs(x - y) <= TOLERANCE * max(x, y) for x, y in pairs]
    return Distance(
        float(relative.max()),
        pair,
        None if most <= NOTHING else math.floor(min(FAR_APART / most, float(MAX_LENGTH))) + 1,
        (factors[0], factors[1]),
    )


def blocks_of(rope: RoPE) -> tuple[int, ...]:
    """Widths of the parts that are paired independently."""
    return (rope.rotary_dim,) if rope.axes is None else tuple(rope.axes.blocks(rope.rotary_dim))


def n_axes_of(rope: RoPE) -> int:
    """Number of position axes."""
    return 1 if rope.axes is None else rope.axes.n_axes


def lengths_of(*ropes: RoPE) -> tuple[int | None, ...]:
    """Lengths in use that tell schedules apart: within the original context, and beyond that of each."""
    found: set[int] = set()
    for rope in ropes:
        schedules: list[Any] = (
            [*rope.scaling] if isinstance(rope.scaling, tuple) else [rope.scaling]
        )
        while schedules:
            schedule = schedules.pop()
            for name in ("original_max_position_embeddings", "max_position_embeddings"):
                length = getattr(schedule, name, None)
                if length is not None:
                    found |= {length + 1, 2 * length, 8 * length}
            inner = getattr(schedule, "scaling", None)  # of Negated
            schedules += [] if inner is None else [inner]
    return (None, *(length for length in sorted(found) if length <= MAX_LENGTH))


def is_same_scale(a: QueryScale | None, b: QueryScale | None) -> bool:
    """Whether two query scales have the same numbers, within a rounding to float32."""
    if type(a) is not type(b) or a is None or not is_dataclass(a):
        return a == b
    ours, theirs = astuple(a), astuple(b)
    return len(ours) == len(theirs) and all(
        x == y or (isinstance(x, float) and math.isclose(x, y, rel_tol=TOLERANCE))
        for x, y in zip(ours, theirs, strict=True)
    )


def is_same(a: RoPE | None, b: RoPE | None) -> bool:
    """Whether two encodings turn the same features by the same angles at every length.

    Equal values are; others are compared in numbers, for one schedule can have several descriptions.
    """
    if a is None or b is None or a == b:
        return a is b or a == b
    shapes = [
        (r.head_dim, r.rotary_start, r.layout, blocks_of(r), n_axes_of(r), r.precision)
        for r in (a, b)
    ]
    if shapes[0] != shapes[1] or not is_same_scale(a.query_scale, b.query_scale):
        return False
    if a.ranges != b.ranges:
        return False
    return all(distance(a, b, length).is_same for length in lengths_of(a, b))
