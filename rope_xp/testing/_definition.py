"""What a `RoPE` says of a call, in float64, and how far an implementation may be from it."""

from __future__ import annotations

import dataclasses

import numpy as np

from rope_xp.configs._compare import blocks_of
from rope_xp.layouts._pairs import pair_features
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE
from rope_xp.testing._rounding import NARROW, ROUNDING, angle_roundings

#: Of tables in float32: reducing the angle to [-π, π] rounds by 3 of these, cos and sin are good to 2
#: in every library, and what they return is rounded once.
TABLE_ROUNDINGS = 6

_SMALLEST = {"float16": 2.0**-23, "bfloat16": 2.0**-131, "float32": 2.0**-147, "float64": 0.0}


class Definition:
    r"""Rotated values, and their bounds.

    Parameters
    ----------
    rope : RoPE
    seq_len : int or tuple, optional
        As in `RoPE.frequencies`.

    Notes
    -----
    With ``precision="exact"`` the angle is that of float64 arithmetic: it may be wrong by
    :math:`|p θ| 2^{-53} (4 + 3 |\ln θ|)`, `angle_roundings`. With ``"float32"`` roundings are :math:`2^{-24}`.
    For numbers of 16 bits the tables, the products and the sum may each be rounded to the dtype.
    """

    def __init__(self, rope: RoPE, seq_len: SeqLen = None) -> None:
        self.rope, self.seq_len = rope, seq_len
        self.exact = dataclasses.replace(rope, precision="exact")
        found = self.exact.frequencies(seq_len)
        self.inv_freq = np.asarray(found.inv_freq)  # (n_pairs,) or (n_axes, n_pairs)
        self.factor = found.attention_factor
        features = pair_features(rope.layout, rope.rotary_start, blocks_of(rope))
        self.first, self.second = np.asarray(features).T  # (n_pairs,)
        # Of each feature, its pair and the other feature in it; -1: none.
        self.pair = np.full(rope.head_dim, -1)
        self.pair[self.first] = self.pair[self.second] = np.arange(rope.n_pairs)
        self.partner = np.full(rope.head_dim, -1)
        self.partner[self.first], self.partner[self.second] = self.second, self.first
        self.static = self.pair < 0

    def tables(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """cos, sin of shape (seq, n_pairs) or (batch, 1, seq, n_pairs), factor included."""
        cos, sin = self.exact.cos_sin(positions, seq_len=self.seq_len, dtype=np.float64)
        return (cos, sin) if cos.ndim == 2 else (cos[:, None], sin[:, None])

    def __call__(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """``x`` (batch, heads, seq, head_dim), rotated."""
        y: np.ndarray = self.exact.rotate(
            x, *self.exact.cos_sin(positions, seq_len=self.seq_len, dtype=np.float64)
        )
        return y

    def angle_errors(self, positions: np.ndarray) -> np.ndarray:
        """By how much an angle may be wrong, (..., seq, n_pairs), in radians."""
        theta = np.abs(self.inv_freq)
        unit = ROUNDING["float32" if self.rope.precision == "float32" else "float64"]
        relative = theta * angle_roundings(theta) * unit
        if theta.ndim == 1:
            return np.asarray(np.abs(positions)[..., None] * relative)
        return np.asarray(
            np.einsum("a...,an->...n", np.abs(positions).astype(np.float64), relative)
        )

    def bounds(self, x: np.ndarray, positions: np.ndarray, dtype: str) -> np.ndarray:
        """How far from ``__call__`` each number of the result may be, shape of ``x``."""
        cos, sin = (np.abs(table) for table in self.tables(positions))
        angle = self.angle_errors(positions)
        angle = angle if angle.ndim == 2 else angle[:, None]
        unit, low = ROUNDING[dtype], dtype in NARROW
        table = TABLE_ROUNDINGS * ROUNDING["float32"]
        error = self.factor * np.minimum(table + angle, 2.0)
        a, b = np.abs(x[..., self.first]), np.abs(x[..., self.second])
        want = np.abs(self(x, positions))
        bound = np.zeros(x.shape)
        if dtype == "float64":  # which many compute in float32
            bound[..., self.static] = np.abs(x[..., self.static]) * ROUNDING["float32"]
        for features, u, v in ((self.first, a, b), (self.second, b, a)):
            products = u * cos + v * sin
            bound[..., features] = (
                (u + v) * error + products * unit * (3 if low else 2) + want[..., features] * unit
            ) * 1.01 + _SMALLEST[dtype] * (1 + self.factor)
        return bound
