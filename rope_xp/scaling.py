"""How fast pairs turn: schedules of frequencies.

A schedule is a small frozen dataclass with the fields of a model's config and one formula. Called
with the rotated size, the base and a length it gives `Frequencies`: Python floats, computed on the
host, the same for every array library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Default", "Frequencies", "Schedule", "inverse_frequencies"]


class Frequencies(NamedTuple):
    """What a schedule gives.

    Attributes
    ----------
    inv_freq : sequence of float, shape (n_pairs,)
        Radians per step of each pair.
    attention_factor : float
        Multiplies cos and sin, so scores by its square.
    softmax_factor : float
        Multiplies the scale of the softmax, outside of the rotation.
    """

    inv_freq: Sequence[float] | np.ndarray
    attention_factor: float = 1.0
    softmax_factor: float = 1.0


class Schedule(Protocol):
    """What `rope_xp.RoPE` asks of its ``scaling``: hashable, equal by value, and this one call."""

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None, precision: str
    ) -> Frequencies: ...


@dataclass(frozen=True)
class Default:
    r"""No scaling: :math:`\theta_i = b^{-2i/d_r}`.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.

    Examples
    --------
    >>> Default()(4, 10000.0).inv_freq
    (1.0, 0.01)
    """

    def __call__(
        self,
        rotary_dim: int,
        base: float,
        *,
        seq_len: int | None = None,  # noqa: ARG002 - one signature for all schedules
        precision: str = "exact",
    ) -> Frequencies:
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


def inverse_frequencies(
    rotary_dim: int, base: float, *, precision: str = "exact"
) -> tuple[float, ...]:
    r"""The geometric frequencies :math:`b^{-2i/d_r}`, :math:`i = 0 … d_r/2 - 1`, in radians per step.

    With ``precision="float32"`` exponent, power and reciprocal are each rounded to float32, as in
    transformers 5.23.0: its frequencies differ from the exact ones in the last bit or two, which
    at position 100,000 is an angle of 0.01.

    Examples
    --------
    >>> inverse_frequencies(4, 100.0)
    (1.0, 0.1)
    """
    exponents = [2 * i / rotary_dim for i in range(rotary_dim // 2)]
    if precision == "exact":
        return tuple(base**-e for e in exponents)
    return tuple(to_float32(1 / to_float32(base ** to_float32(e))) for e in exponents)


def to_float32(value: float) -> float:
    """``value`` rounded to the nearest float32 (normal range), in plain Python, which compilers fold."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def require_base(base: float) -> float:
    """``base`` as a Python float; TypeError if it is no number, ValueError if not positive."""
    if isinstance(base, bool) or not isinstance(base, Real):
        msg = f"`base` must be a number, got {base!r}"
        raise TypeError(msg)
    base = float(base)  # NumPy's too
    if not 0 < base < math.inf:
        msg = f"`base` must be positive and finite, got {base}"
        raise ValueError(msg)
    return base
