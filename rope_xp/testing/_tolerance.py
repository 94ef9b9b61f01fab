"""How far from the definition a kernel may be, derived for each number of its result."""

from __future__ import annotations

import numpy as np

from rope_xp.testing._definition import TABLE_ROUNDINGS, Definition
from rope_xp.testing._rounding import NARROW, ROUNDING

#: float16 has subnormal numbers everywhere; GPUs may take those of the others for zero.
_SMALLEST = {
    "float16": 2.0**-25,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}

#: The largest number of each dtype.
LARGEST = {"float16": 65504.0, "bfloat16": 2.0**127, "float32": 2.0**127, "float64": 2.0**1023}


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
        self.definition, self.seq_axis, self.rounds_once = definition, seq_axis, rounds_once
        self.turns = ~definition.static
        # Of the features that turn.
        self.columns = definition.pair[self.turns]
        self.partner = definition.partner[self.turns]

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
        turns = self.turns
        cos, sin = self.of_features(tables)
        a, b = np.abs(x[..., turns]), np.abs(x[..., self.partner])
        products, want = a * cos + b * sin, np.abs(expected[..., turns])
        unit, single = ROUNDING[dtype], ROUNDING["float32"]
        if dtype in NARROW and self.rounds_once:
            error = single * (2 * products + want) + unit * want
        else:
            error = unit * (2 * products + want)
        if dtype == "float64":
            error *= 2  # what it is compared with has this dtype, too
        if positions is not None:
            angles = beside(self.definition.angle_errors(positions), self.seq_axis)[
                ..., self.columns
            ]
            table = np.minimum(TABLE_ROUNDINGS * single + angles, 2.0)
            error = error + abs(self.definition.factor) * (a + b) * table
        made = np.zeros(x.shape)
        made[..., turns] = error * (1 + 4 * unit) + _SMALLEST[dtype] * (a + b + 3)
        return made

    def of_features(self, tables: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes of cos and sin for each feature that turns, to broadcast with x."""
        cos, sin = (np.abs(beside(t, self.seq_axis))[..., self.columns] for t in tables)
        return cos, sin
