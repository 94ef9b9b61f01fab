"""Angles of pairs at positions, as far as they grow with them, and the frequencies that they grow by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rope_xp.testing._black_box import RefusedError
from rope_xp.testing._measure import MOST_IN_ORDER, POSITIONS, Probe

_SHORT, _LONG = len(POSITIONS) + 4, 96  # positions of a call


class Turns(NamedTuple):
    """The entries of each pair's block at positions, each (n_positions, n_pairs).

    Rows are outputs, columns inputs: ``first_first`` is cos, ``second_first`` sin, of a rotation.
    """

    positions: np.ndarray
    first_first: np.ndarray
    first_second: np.ndarray
    second_first: np.ndarray
    second_second: np.ndarray

    @property
    def angles(self) -> np.ndarray:
        made: np.ndarray = np.arctan2(self.second_first, self.first_first)
        return made

    def take(self, which: np.ndarray) -> Turns:
        return Turns(*(part[which] for part in self))

    def after(self, count: int) -> Turns:
        """Without the first ``count`` positions."""
        return Turns(*(part[count:] for part in self))

    def join(self, other: Turns) -> Turns:
        return Turns(*(np.concatenate(parts) for parts in zip(self, other, strict=True)))


def turns(
    probe: Probe,
    pairs: Sequence[tuple[int, int]],
    outputs: Sequence[tuple[int, int]],
    at: list[int],
) -> Turns:
    """What becomes of all first features of pairs, and of all second ones.

    Raises
    ------
    RefusedError
        If ``fn`` refuses a position, or what it returns is not finite.
    """
    ends, results = np.asarray(pairs), np.asarray(outputs)
    vectors = np.zeros((2, probe.box.head_dim))
    vectors[0, ends[:, 0]] = vectors[1, ends[:, 1]] = 1.0
    # Few sizes, because each can be a program to compile.
    size = next(n for n in (_SHORT, _LONG, len(at)) if n >= len(at))
    found = probe(vectors, [*at, *(at[-1:] * (size - len(at)))])[:, : len(at)]
    if not np.all(np.isfinite(found)):
        msg = "it returned numbers that are not finite"
        raise RefusedError(msg)
    return Turns(
        np.asarray(at, dtype=np.float64),
        found[0][:, results[:, 0]],
        found[1][:, results[:, 0]],
        found[0][:, results[:, 1]],
        found[1][:, results[:, 1]],
    )


Call = Callable[[list[int]], Turns]


class Longer(NamedTuple):
    """What changes if a call has a position beyond some length.

    Parameters
    ----------
    original : int
        The length up to which nothing changes.
    length : int
        A longer one.
    inv_freq : numpy.ndarray of float64, shape (n_pairs,)
        Frequencies at that length, signed.
    factor : float
        What cos and sin are multiplied by there.
    """

    original: int
    length: int
    inv_freq: np.ndarray
    factor: float


class Angles(NamedTuple):
    """Angles at many positions, and the frequencies that they grow by.

    Parameters
    ----------
    turns : Turns
    inv_freq : numpy.ndarray of float64, shape (n_pairs,)
        Signed, in (−π, π].
    start : numpy.ndarray of float64, shape (n_pairs,)
        The angles at position 0.
    last : int
        The last position up to which angles grow with it.
    remarks : tuple of str
        Why no further.
    longer : tuple of Longer
        Two lengths beyond which frequencies change, if they do.
    """

    turns: Turns
    inv_freq: np.ndarray
    start: np.ndarray
    last: int
    remarks: tuple[str, ...]
    longer: tuple[Longer, ...] = ()


def wrap(angles: np.ndarray) -> np.ndarray:
    """Angles in [−π, π)."""
    made: np.ndarray = (angles + np.pi) % (2 * np.pi) - np.pi
    small = np.abs(angles) < np.pi / 2  # without the rounding errors of the sum
    return np.where(small, angles, made)


def follow(
    probe: Probe,
    pairs: Sequence[tuple[int, int]],
    outputs: Sequence[tuple[int, int]],
    limit: int,
) -> Angles:
    """Angles at 0, 1, 2, 4, … up to ``limit``, each of which says where the next is to within a turn."""

    def call(at: list[int]) -> Turns:
        return turns(probe, pairs, outputs, at)

    near = call([*POSITIONS])
    count, start = len(near.positions), near.angles[0]
    inv_freq = wrap(near.angles[1] - start)
    found, last, remarks = near, 1, []
    longer: tuple[Longer, ...] = ()
    limit = min(limit, MOST_IN_ORDER - 1) if probe.in_order else limit
    place = 2
    while place <= limit:
        around = (place - 1, place + 1, place + place // 2)
        others = [p for p in around if place > 8 and p <= limit]
        try:
            far = _call_as_far(call, place, others)
        except RefusedError as refused:
            end = _last_taken(call, last, place)
            remarks.append(f"positions up to {end} are taken ({refused} at position {place})")
            if end > last:
                far = call([*POSITIONS, end])
                if _goes_on(far, inv_freq, start, end):
                    found, last = found.join(far.after(count)), end
            break
        if _changes(far, near):
            beyond = int(far.positions.max())
            end = bisect(lambda p: not _changes(call([*POSITIONS, p]), near), last, beyond)
            remarks.append(
                "angles depend on the other positions of a call: those of positions 0 to 13 change "
                f"when position {end + 1} is there"
            )
            with contextlib.suppress(RefusedError):
                farther = call([*POSITIONS, min(2 * beyond, limit)])
                longer = tuple(_longer(each, count, end) for each in (farther, far))
            last = end
            break
        if not _goes_on(far, inv_freq, start, place, count):
            end, remark = _what_ends(call, inv_freq, start, last, place)
            remarks.append(remark)
            last = end
            break
        turned = far.angles[count] - start
        whole = np.round((place * inv_freq - turned) / (2 * np.pi))
        inv_freq = (turned + 2 * np.pi * whole) / place
        found = found.join(far.after(count))
        last, place = place, place * 2
    keep = found.positions <= max(last, POSITIONS[-1])
    return Angles(found.take(keep), inv_freq, start, last, tuple(remarks), longer)


def _longer(far: Turns, count: int, end: int) -> Longer:
    """Frequencies and factor of the first ``count`` positions, in a call with one that is far."""
    near = far.take(np.arange(len(far.positions)) < count)
    start = near.angles[0]
    inv_freq = wrap(near.angles[1] - start)
    for place, angles in zip(near.positions[2:], near.angles[2:], strict=True):
        inv_freq = inv_freq + wrap(angles - start - place * inv_freq) / place
    factor = float(np.median(np.hypot(near.first_first[0], near.second_first[0])))
    return Longer(end + 1, int(far.positions.max()) + 1, inv_freq, factor)


def _call_as_far(call: Call, place: int, others: Sequence[int]) -> Turns:
    """With other positions around it, unless they are refused."""
    try:
        return call([*POSITIONS, place, *others])
    except RefusedError:
        return call([*POSITIONS, place])


def _goes_on(
    far: Turns, inv_freq: np.ndarray, start: np.ndarray, place: int, index: int = -1
) -> bool:
    """Whether angles at ``place`` are where those before it say, up to rounding."""
    off = np.abs(wrap(far.angles[index] - start - place * inv_freq))
    return bool(np.all(off <= 1.0))


def _changes(far: Turns, near: Turns) -> bool:
    """Whether positions near 0 are rotated otherwise than without those that are far."""
    angles = far.angles[: len(near.positions)]
    return bool(np.max(np.abs(wrap(angles - near.angles))) > 1e-6)


def bisect(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last number for which ``holds``, which does so for ``low`` and not for ``high``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _last_taken(call: Call, low: int, high: int) -> int:
    """The last position that ``fn`` takes, between one that it takes and one that it refuses."""

    def is_taken(position: int) -> bool:
        try:
            call([0, position])
        except RefusedError:
            return False
        return True

    return bisect(is_taken, low, high)


def _what_ends(
    call: Call, inv_freq: np.ndarray, start: np.ndarray, low: int, high: int
) -> tuple[int, str]:
    """The last position before which all is well, and what happens to those after it."""
    fast = 0.3 * min(1.0, float(np.max(np.abs(inv_freq))))

    def is_well(position: int) -> bool:
        off = wrap(call([0, position]).angles[-1] - start - position * inv_freq)
        return bool(np.max(np.abs(off)) <= fast)

    try:
        last = bisect(is_well, low, high)
        ends = call([0, 1, 2, last, last + 1, last + 2, last + 3, high]).angles
    except RefusedError:
        return low, f"angles do not grow with positions beyond {low}"
    if np.max(np.abs(wrap(ends[4:] - ends[3]))) < 1e-6:
        return last, f"positions from {last + 1} on are clamped to {last}, the end of a table"
    if np.max(np.abs(wrap(ends[4:7] - ends[:3]))) < 1e-6:
        return last, f"positions from {last + 1} on start again at 0: they wrap around"
    return low, f"angles do not grow with positions beyond {low}"


def more_turns(
    probe: Probe,
    pairs: Sequence[tuple[int, int]],
    outputs: Sequence[tuple[int, int]],
    last: int,
) -> Turns:
    """At many more positions up to ``last``, among them those that narrow dtypes do not have."""
    fixed = [*range(14, 40), 100, 129, 255, 256, 257, 258, 259, 300, 511, 513, 1000, 1023, 1025]
    random = np.exp(np.random.default_rng(3).uniform(0, np.log(max(last, 2)), 40)).astype(int)
    wanted = sorted({p for p in [*fixed, *random.tolist()] if p <= last})
    return turns(probe, pairs, outputs, [*POSITIONS, *wanted])
