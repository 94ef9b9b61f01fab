"""How far from the definition a kernel may be, derived for each number of its result."""

from __future__ import annotations

import numpy as np

from rope_xp.rope import RoPE
from rope_xp.testing._definition import ROUNDING, TABLE_ROUNDINGS, Definition

#: float16 has subnormal numbers everywhere; GPUs may take those of the others for zero.
_SMALLEST = {
    "float16": 2.0**-25,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}

#: The largest number of each dtype.
LARGEST = {"float16": 65504.0, "bfloat16": 2.0**127, "float32": 2.0**127, "float64": 2.0**1023}


class Pairs:
    """Which features make a pair, found by rotating.

    Attributes
    ----------
    turns : numpy.ndarray of bool, shape (head_dim,)
        Whether a feature is in the rotated part.
    pair, partner : numpy.ndarray of int
        Of each feature that turns.
    """

    def __init__(self, rope: RoPE) -> None:
        n = rope.n_pairs
        zeros, ones = np.zeros((1, n)), np.ones((1, n))
        count = np.arange(1.0, n + 1)[None]
        whole = np.ones((1, rope.head_dim))
        index = np.arange(1.0, rope.head_dim + 1)[None]
        self.turns = rope.rotate(whole, zeros, zeros)[0] == 0
        self.pair = rope.rotate(whole, count, zeros)[0].astype(int) - 1
        self.partner = np.abs(rope.rotate(index, zeros, ones)[0]).astype(int) - 1

    def repeated(self, table: np.ndarray) -> np.ndarray:
        """A table (..., n_pairs) with the column of its pair for each feature that turns."""
        return np.asarray(table[..., self.pair[self.turns]])


def beside(table: np.ndarray, seq_axis: int) -> np.ndarray:
    """A table (seq, n_pairs) or (batch, seq, n_pairs), to broadcast with x of four axes."""
    at = -2 if seq_axis == -3 else -3
    return np.expand_dims(table, at) if table.ndim == 3 or seq_axis == -3 else table


class Tolerance:
    """The largest error of each number of a result; `cases` explains it.

    Parameters
    ----------
    definition : Definition
    seq_axis : {-2, -3}
    rounds_once : bool
        As in `cases`.
    """

    def __init__(self, definition: Definition, seq_axis: int, rounds_once: bool) -> None:
        self.definition, self.pairs = definition, Pairs(definition.rope)
        self.seq_axis, self.rounds_once = seq_axis, rounds_once

    def __call__(
        self,
        x: np.ndarray,
        tables: tuple[np.ndarray, np.ndarray],
        expected: np.ndarray,
        *,
        positions: np.ndarray | None,
        dtype: str,
    ) -> np.ndarray:
        """Shape of ``x``; ``positions`` are None for a kernel that gets its tables."""
        turns, pair = self.pairs.turns, self.pairs.pair[self.pairs.turns]
        cos, sin = self.of_features(tables)
        a, b = np.abs(x[..., turns]), np.abs(x[..., self.pairs.partner[turns]])
        products, want = a * cos + b * sin, np.abs(expected[..., turns])
        unit, single = ROUNDING[dtype], ROUNDING["float32"]
        if dtype in ("float16", "bfloat16") and self.rounds_once:
            error = single * (2 * products + want) + unit * want
        else:
            error = unit * (2 * products + want)
        if dtype == "float64":
            error *= 2  # what it is compared with has this dtype, too
        if positions is not None:
            angles = beside(self.definition.angle_errors(positions), self.seq_axis)[..., pair]
            table = np.minimum(TABLE_ROUNDINGS * single + angles, 2.0)
            error = error + abs(self.definition.factor) * (a + b) * table
        made = np.zeros(x.shape)
        made[..., turns] = error * (1 + 4 * unit) + _SMALLEST[dtype] * (a + b + 3)
        return made

    def of_features(self, tables: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes of cos and sin for each feature that turns, to broadcast with x."""
        columns = self.pairs.pair[self.pairs.turns]
        cos, sin = (np.abs(beside(t, self.seq_axis))[..., columns] for t in tables)
        return cos, sin
