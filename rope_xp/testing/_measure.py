"""What an implementation does at each position: matrices, which features make pairs, and their angles.

An implementation is linear in x, so at a position it is a matrix. What it makes of basis vectors are the
columns of this matrix; which entries are not zero says which features turn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rope_xp.testing._black_box import BlackBox, RefusedError

#: Where matrices are measured: small, no two differences alike, not all even.
POSITIONS = (0, 1, 2, 3, 5, 8, 13)
_ARRANGEMENTS = ("heads", "rows", "one by one")
MOST_IN_ORDER = 2**14  # positions of an implementation that knows its own only
EPS = 2.0**-24


class Probe:
    """``fn`` on one axis: what it makes of vectors at positions.

    Parameters
    ----------
    box : BlackBox
    axis : int
        The axis along which positions are; the others are 0.
    arrangement : {"heads", "rows", "one by one"}
        Where the vectors are in x.
    in_order : bool
        Whether to ask for all positions from 0 on, and to take those that are wanted.
    """

    def __init__(
        self, box: BlackBox, axis: int = 0, *, arrangement: str = "heads", in_order: bool = False
    ) -> None:
        self.box, self.axis = box, axis
        self.arrangement, self.in_order = arrangement, in_order
        self.dtype = "float32"

    def __call__(self, vectors: np.ndarray, at: Sequence[int]) -> np.ndarray:
        """(n_vectors, n_positions, head_dim) of vectors (n_vectors, head_dim)."""
        wanted = np.asarray(at)
        if self.in_order:
            if wanted.max() >= MOST_IN_ORDER:
                msg = f"positions from {MOST_IN_ORDER} on were not tried"
                raise RefusedError(msg)
            asked = np.arange(max(wanted.max() + 1, 2))
        else:
            asked = wanted
        if self.arrangement == "heads":
            x = np.repeat(vectors[None, :, None, :], len(asked), axis=2)
            found = self.answer(x, asked)[0]
        elif self.arrangement == "rows":
            x = np.repeat(vectors[:, None, None, :], len(asked), axis=2)
            found = self.answer(x, asked)[:, 0]
        else:
            x = np.repeat(vectors[:, None, None, None, :], len(asked), axis=3)
            found = np.stack([self.answer(each, asked)[0, 0] for each in x])
        return found[:, wanted] if self.in_order else found

    def answer(self, x: np.ndarray, at: np.ndarray) -> np.ndarray:
        """What becomes of ``x`` (batch, heads, seq, head_dim) at positions (seq,) or (batch, seq)."""
        at = np.asarray(at)
        if at.ndim == 1 and not self.box.takes_shared:
            at = np.broadcast_to(at, (x.shape[0], at.shape[0]))
        if self.box.n_axes is not None:
            places = np.zeros((self.box.n_axes, *at.shape), dtype=np.int64)
            places[self.axis] = at
            at = places
        answer = self.box(x, at)
        self.dtype = answer.dtype
        return answer.values

    def matrices(self, at: Sequence[int]) -> np.ndarray:
        """(n_positions, head_dim, head_dim), rows are features of the output."""
        return self(np.eye(self.box.head_dim), at).transpose(1, 2, 0)


class Probed(NamedTuple):
    """A way to call ``fn`` by which each token is on its own, and what was wrong with others."""

    probe: Probe
    matrices: np.ndarray  # at POSITIONS
    remarks: tuple[str, ...]


def probe(box: BlackBox) -> Probed:
    """Basis vectors in different heads, or where heads are not alike, rows, or one after the other.

    Raises
    ------
    RefusedError
        If ``fn`` takes none.
    """
    found: list[Probed] = []
    problem = RefusedError("it was not called")
    for arrangement in _ARRANGEMENTS:
        each = Probe(box, arrangement=arrangement)
        try:
            remarks = []
            in_order = _takes_order_for_positions(each)
            if in_order:
                each.in_order = True
                remarks.append(in_order)
            matrices = each.matrices(POSITIONS)
            remarks += _differences(each, matrices)
        except RefusedError as refused:
            problem = refused
            continue
        if not remarks:
            return Probed(each, matrices, ())
        found.append(Probed(each, matrices, tuple(remarks)))
    if not found:
        raise problem
    # Where nothing makes all tokens alike, the first token of one row and one head is what is measured.
    alone = [probed for probed in found if probed.probe.arrangement == "one by one"]
    fewest = min(len(probed.remarks) for probed in found)
    return next(each for each in [*alone, *found] if len(each.remarks) == fewest)


def _takes_order_for_positions(probe: Probe) -> str:
    """What is wrong if the order of the tokens counts instead of their positions, or with them."""
    vectors = np.random.default_rng(1).standard_normal((3, probe.box.head_dim))
    low = probe(vectors, (0, 1, 2, 3))
    if _same(low, np.repeat(low[:, :1], 4, axis=1)):
        return ""  # nothing turns
    if _same(probe(vectors, (4, 5, 6, 7)), low):
        return "positions are ignored: token k is rotated to position k wherever it is"
    mixed = probe(vectors, (5, 0, 3))
    if not _same(mixed[:, 0], mixed[:, 1]) and _same(mixed, probe(vectors, (5, 6, 7))):
        return "only the position of the first token counts: those after it are numbered on from it"
    return ""


def _differences(probe: Probe, matrices: np.ndarray) -> list[str]:
    """Where the matrices do not say what becomes of x: rows, heads, and sums."""
    d = probe.box.head_dim
    x = np.random.default_rng(2).standard_normal((2, 3, len(POSITIONS), d))
    wanted = np.einsum("pij,bhpj->bhpi", matrices, x.astype(np.float32).astype(np.float64))
    asked = np.asarray(POSITIONS)
    if probe.in_order:
        wide = np.zeros((2, 3, asked.max() + 1, d))
        wide[:, :, asked] = x
        got = probe.answer(wide, np.arange(asked.max() + 1))[:, :, asked]
    else:
        got = probe.answer(x, asked)
    size = np.max(np.abs(wanted)) or 1.0
    wrong = np.max(np.abs(got - wanted), axis=(2, 3)) > 2.0**-6 * size  # (rows, heads)
    if not np.any(wrong) and not probe.in_order and probe.box.takes_rows:
        order = np.stack([np.arange(len(asked)), np.arange(len(asked))[::-1]])
        rows = np.stack([got[0], np.zeros_like(got[1])])
        rows[1] = np.einsum("pij,hpj->hpi", matrices[::-1], x[1].astype(np.float32))
        found = probe.answer(x, asked[order])
        if np.max(np.abs(found - rows)) > 2.0**-6 * size:
            first = np.einsum("pij,hpj->hpi", matrices, x[1].astype(np.float32))
            if np.max(np.abs(found[1] - first)) <= 2.0**-6 * size:
                return ["row 1 of a batch is rotated to the positions of row 0"]
            return [
                "rows of a batch with positions of their own are rotated otherwise than one row"
            ]
        return []
    if not np.any(wrong):
        return []
    if not wrong[0, 0]:
        if np.all(~wrong[:, 0]):
            return [f"head {int(np.argmax(wrong[0]))} is rotated otherwise than head 0"]
        if np.all(~wrong[0]):
            return ["row 1 of a batch is rotated otherwise than row 0"]
        return ["rows and heads are not rotated alike"]
    return [
        "it is not linear in x: the result is not the sum of what becomes of each feature of a token on its own"
    ]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.max(np.abs(a - b)) <= 1e-6 * max(1.0, float(np.max(np.abs(a)))))


# -- which features make a pair --------------------------------------------------------------------------


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


# -- angles --------------------------------------------------------------------------------------------


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
        return np.arctan2(self.second_first, self.first_first)

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
    at: Sequence[int],
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
    found = probe(vectors, at)
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


Call = Callable[[Sequence[int]], Turns]


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
    """

    turns: Turns
    inv_freq: np.ndarray
    start: np.ndarray
    last: int
    remarks: tuple[str, ...]


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

    def call(at: Sequence[int]) -> Turns:
        return turns(probe, pairs, outputs, at)

    near = call(POSITIONS)
    count, start = len(near.positions), near.angles[0]
    inv_freq = wrap(near.angles[1] - start)
    found, last, remarks = near, 1, []
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
            end = _bisect(lambda p: not _changes(call([*POSITIONS, p]), near), last, place)
            remarks.append(
                "angles depend on the other positions of a call: those of positions 0 to 13 change "
                f"when position {end + 1} is there"
            )
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
    return Angles(found.take(keep), inv_freq, start, last, tuple(remarks))


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
    return bool(np.max(np.abs(wrap(angles - near.angles))) > 1e-4)


def _bisect(holds: Callable[[int], bool], low: int, high: int) -> int:
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

    return _bisect(is_taken, low, high)


def _what_ends(
    call: Call, inv_freq: np.ndarray, start: np.ndarray, low: int, high: int
) -> tuple[int, str]:
    """The last position before which all is well, and what happens to those after it."""
    fast = 0.3 * min(1.0, float(np.max(np.abs(inv_freq))))

    def is_well(position: int) -> bool:
        off = wrap(call([0, position]).angles[-1] - start - position * inv_freq)
        return bool(np.max(np.abs(off)) <= fast)

    try:
        last = _bisect(is_well, low, high)
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
