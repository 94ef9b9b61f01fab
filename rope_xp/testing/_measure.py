"""What an implementation does at each position, as matrices.

An implementation is linear in x, so at a position it is a matrix. What it makes of basis vectors are the
columns of this matrix; which entries are not zero says which features turn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rope_xp.testing._black_box import BlackBox, RefusedError

#: Where matrices are measured: small, no two differences alike, not all even.
POSITIONS = (0, 1, 2, 3, 5, 8, 13)
_ARRANGEMENTS = ("heads", "rows", "one by one")
MOST_IN_ORDER = 2**14  # positions of an implementation that knows its own only


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
        self.dtype = "float32"  # of x
        self.dtypes: dict[str, str] = {}  # of results, by that of x
        self.overwrites = False  # whether x was changed in place

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
        made: np.ndarray = found[:, wanted] if self.in_order else found
        return made

    def answer(self, x: np.ndarray, at: np.ndarray) -> np.ndarray:
        """What becomes of ``x`` (batch, heads, seq, head_dim) at positions (seq,) or (batch, seq)."""
        at = np.asarray(at)
        if at.ndim == 1 and not self.box.takes_shared:
            at = np.broadcast_to(at, (x.shape[0], at.shape[0]))
        if self.box.n_axes is not None:
            places = np.zeros((self.box.n_axes, *at.shape), dtype=np.int64)
            places[self.axis] = at
            at = places
        answer = self.box(x, at, dtype=self.dtype)
        self.dtypes[self.dtype] = answer.dtype
        self.overwrites |= not np.array_equal(answer.left, answer.given)
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
