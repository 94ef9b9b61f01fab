"""An implementation on trial: how it is called and compared, and what has been found."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from rope_xp.testing._angles import bisect
from rope_xp.testing._black_box import BlackBox, Call, RefusedError, RotationError
from rope_xp.testing._definition import Definition
from rope_xp.testing._diagnose import diagnose_box
from rope_xp.testing._symptoms import describe_difference, looks_like

#: The largest position that is tried, unless another is asked for.
FARTHEST = 1_000_000


@dataclass(frozen=True)
class Law:
    """One law that was tried.

    Parameters
    ----------
    name : str
    error, bound : float
        The largest error and its bound, where the error was largest in proportion to the bound.
    tried : str
        On what.
    """

    name: str
    error: float
    bound: float
    tried: str


@dataclass(frozen=True)
class Report:
    """What `check` tried; prints as a table.

    Parameters
    ----------
    library : str
        The library of the arrays that the implementation got.
    laws : tuple of Law
    not_tried : tuple of str
        What the implementation refuses, one sentence for each.
    """

    library: str
    laws: tuple[Law, ...]
    not_tried: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(law.name) for law in self.laws)
        rows = [
            f"{law.name:<{width}}  {law.error:8.1e}  {law.bound:8.1e}  {law.tried}"
            for law in self.laws
        ]
        head = f"{f'arrays of {self.library}':<{width}}  {'error':>8}  {'bound':>8}"
        return "\n".join([head, *rows, *(f"not tried: {each}" for each in self.not_tried)])


class Trial:
    """The implementation, the definition, and what has been found."""

    def __init__(
        self,
        box: BlackBox,
        definition: Definition,
        random: np.random.Generator,
        max_position: int | None,
    ) -> None:
        self.box, self.definition, self.random = box, definition, random
        self.is_default = max_position is None
        self.asked = FARTHEST if max_position is None else max_position
        self.found: dict[str, Law] = {}
        self.skipped = [f"{what}: {why}" for what, why in box.refusals.items()]
        self.earlier = [np.arange(1, 6)]  # positions of calls that were made
        # Before any call with large positions, which an implementation may remember.
        self.first = self.call(
            "the first call", self.x(2, 3, 5), self.place(np.array([3, 1, 4, 2, 5]), 2)
        )
        self.dtypes = ["float32", *box.dtypes()]
        self.after_dtypes: dict[str, Call] = {}
        for i, dtype in enumerate(self.dtypes[1:]):
            positions = self.place(64 * 2**i + np.arange(4))  # tables that grow are made now
            if positions.max() <= self.asked:
                with contextlib.suppress(RefusedError):
                    box(self.x(1, 2, 4), positions, dtype=dtype)
                    answer = box(self.x(1, 2, 4), positions)
                    self.after_dtypes[dtype] = Call(positions, answer, "float32")

    @cached_property
    def reach(self) -> int:
        """The largest position that can be tried."""
        if not self.is_default or self._goes_to(self.asked):
            return self.asked
        return bisect(self._goes_to, 5, self.asked)  # the black box has called it with 1 … 5

    def _goes_to(self, position: int) -> bool:
        try:
            self.box(self.x(1, 1, 1), self.place(np.array([position])))
        except RefusedError as refused:
            self.skipped = [s for s in self.skipped if not s.startswith("positions from")]
            self.skipped.append(f"positions from {position} on: {refused}")
            return False
        return True

    def x(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal((*shape, self.definition.rope.head_dim))

    def place(self, positions: np.ndarray, batch: int = 1) -> np.ndarray:
        """Positions (seq,) in a shape that the implementation takes; axes get different ones."""
        if not self.box.takes_shared:
            positions = np.broadcast_to(positions, (batch, *positions.shape))
        return self.rows(positions)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Positions (seq,) or (batch, seq), with axes."""
        if self.box.n_axes is None:
            return positions
        return np.stack([np.roll(positions, a, axis=-1) for a in range(self.box.n_axes)])

    def scattered(self, n: int) -> np.ndarray:
        """Positions out of order, with gaps and one twice, none at 0."""
        most = min(self.reach, 4000)
        positions = self.random.choice(np.arange(1, most + 1), size=n, replace=n > most)
        positions[-1] = positions[0]
        return positions

    def call(self, law: str, x: np.ndarray, positions: np.ndarray, **options: Any) -> Call:
        """Call it; RotationError if it refuses what it must take."""
        try:
            answer = self.box(x, positions, **options)
        except RefusedError as refused:
            self.refused(law, x, positions, refused)
        self.earlier.append(positions)
        return Call(positions, answer, options.get("dtype", "float32"))

    def attempt(
        self, what: str, x: np.ndarray, positions: np.ndarray, **options: Any
    ) -> Call | None:
        """Call it as it need not take; None, and "not tried", if it refuses."""
        try:
            answer = self.box(x, positions, **options)
        except RefusedError as refused:
            self.skipped.append(f"{what}: {refused}")
            return None
        return Call(positions, answer, options.get("dtype", "float32"))

    def refused(
        self, law: str, x: np.ndarray, positions: np.ndarray, refused: RefusedError
    ) -> NoReturn:
        self.fail(law, f"With x of shape {x.shape} and positions {_text(positions)} {refused}")

    def keeps_its_results(self, law: str) -> None:
        """RotationError if a call changes what an earlier one returned."""
        box, positions = self.box, self.box.positions(self.first.positions)
        x, other = box.array(self.first.answer.given), box.array(self.x(2, 3, 5))
        with np.errstate(**box.numpy_errors):
            result = box.fn(x, positions)
        before = box.values(result)
        with np.errstate(**box.numpy_errors):
            box.fn(other, positions)
        if not np.array_equal(before, box.values(result), equal_nan=True):
            text = "The result of one call is changed by the next: both are the same memory, one buffer."
            self.fail(law, text)

    def look_at_chance(self) -> None:
        """Tables (batch, seq, n_pairs) fit (batch, heads, seq, n_pairs) where batch is heads: by chance."""
        positions = self.rows(self.scattered(12).reshape(3, 4))
        with contextlib.suppress(RefusedError):
            answer = self.box(self.x(3, 3, 4), positions)
            error = np.abs(answer.values - self.definition(answer.given, positions))
            if not (error <= self.definition.bounds(answer.given, positions, "float32")).all():
                self.skipped.append(
                    "positions of shape (batch, seq) with as many rows as heads: it takes them, and the result "
                    "is wrong. It should refuse them, as it does with other numbers of heads"
                )

    def compare(self, law: str, call: Call, tried: str) -> None:
        """RotationError unless each number is within its bound of the definition."""
        given = call.answer.given
        want = self.definition(given, call.positions)
        bounds = self.definition.bounds(given, call.positions, call.dtype)
        got = call.answer.values
        error = np.where(got == want, 0.0, np.abs(got - want))  # infinite numbers, too
        self.record(law, error, bounds, tried)
        if not (error <= bounds).all():
            texts = [describe_difference(self.definition, call)]
            more = self.more_calls() if call.dtype == "float32" else []
            found = looks_like(self.definition, call, more, self.earlier)
            if found is None and call.dtype == "float32":  # with which a diagnosis is made
                found = self.diagnosis()
            texts.append(found or "")
            text = " ".join(filter(None, texts))
            self.fail(law, f"{tried}: {text}")

    def diagnosis(self) -> str:
        """What it is, if no mistake that is known gives the same."""
        found = diagnose_box(self.box, self.reach)
        parts = list(found.remarks)
        if found.rope is not None and found.rope != self.definition.rope:
            parts.insert(0, f"it looks like {found.rope!r}")
        return f"Diagnosis: {'; '.join(parts)}." if parts else ""

    def more_calls(self) -> list[Call]:
        """Further evidence, by which mistakes are distinguished that give the same in one call."""
        n = max(2, min(6, self.reach - 6))
        tried = [(2, 3, 5 + np.arange(n)), (1, 2, np.arange(n)[::-1] + 3)]
        if self.box.takes_rows:
            tried.append((3, 2, 2 + np.arange(3)[:, None] * 2 + np.arange(2)[::-1]))
        calls = []
        for batch, heads, positions in tried:
            shape = (batch, heads, positions.shape[-1])
            placed = self.rows(positions) if positions.ndim == 2 else self.place(positions, batch)
            with contextlib.suppress(RefusedError):
                calls.append(Call(placed, self.box(self.x(*shape), placed), "float32"))
        return calls

    def record(self, name: str, error: np.ndarray, bounds: np.ndarray, tried: str) -> None:
        ratio = np.where(error > 0, error / np.maximum(bounds, 5e-324), 0.0)
        at = np.unravel_index(np.argmax(ratio), ratio.shape)
        new = Law(name, float(error[at]), float(np.broadcast_to(bounds, error.shape)[at]), tried)
        old = self.found.get(name)
        if old is None or new.error * max(old.bound, 5e-324) > old.error * max(new.bound, 5e-324):
            self.found[name] = new

    def fail(self, law: str, text: str) -> NoReturn:
        msg = f"`fn` is not {self.definition.rope!r}: {law}. {text}"
        raise RotationError(msg)


def _text(positions: np.ndarray) -> str:
    values = ", ".join(map(str, positions.flat[:8]))
    return f"{values}{', …' if positions.size > 8 else ''} of shape {positions.shape}"
