"""What every schedule is built on: the result, the protocol, the default, and the checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from rope_xp import _backends
from rope_xp._validation import (
    as_constant,
    as_floats,
    call_checked,
    require_positive,
    require_value,
    to_float32,
)

_PARAMETERS = "(rotary_dim, base, *, seq_len, precision)"


class Frequencies(NamedTuple):
    """The result of a schedule.

    Parameters
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
    """What `rope_xp.RoPE` requires of its ``scaling``: this call, a hash, and equality by value.

    A frozen dataclass whose fields are numbers and tuples has the last two. `rope_xp.RoPE` calls a
    schedule when it is made and checks the result: n_pairs finite frequencies and two positive
    factors. A schedule that depends on the length is called, and checked, again for each ``seq_len``.

    Parameters
    ----------
    rotary_dim : int
        Number of rotated features, twice n_pairs; with several axes the width that a scheme asks for.
    base : float
        Base of the geometric frequencies.
    seq_len : int or None
        Length in use; None: within the original context.
    precision : {"exact", "float32"}
        As in `inverse_frequencies`.

    Returns
    -------
    Frequencies
    """

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None, precision: str
    ) -> Frequencies: ...


@dataclass(frozen=True)
class Default:
    r"""No scaling: :math:`\theta_i = b^{-2i/d_r}`.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2. Book: :eq:`eq-inv-freq`.

    Examples
    --------
    >>> Default()(4, 10000.0).inv_freq
    (1.0, 0.01)
    """

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


def inverse_frequencies(
    rotary_dim: int,
    base: float,
    *,
    precision: str = "exact",
    divisors: float | Sequence[float] = 1.0,
) -> tuple[float, ...]:
    r"""The geometric frequencies :math:`b^{-2i/d_r} / c_i`, :math:`i = 0 … d_r/2 - 1`, radians per step.

    With ``precision="float32"`` exponent, power, product and reciprocal are each rounded to float32,
    as in transformers 5.23.0: its frequencies differ from the exact ones in the last bit or two, which
    at position 100,000 is an angle of 0.01.

    Examples
    --------
    >>> inverse_frequencies(4, 100.0)
    (1.0, 0.1)
    """
    n_pairs = rotary_dim // 2
    if isinstance(divisors, int | float):
        divisors = [divisors] * n_pairs
    exponents = [2 * i / rotary_dim for i in range(n_pairs)]
    if precision == "exact":
        return tuple(base**-e / c for e, c in zip(exponents, divisors, strict=True))
    r = to_float32
    return tuple(
        r(1 / r(r(c) * r(r(base) ** r(e)))) for e, c in zip(exponents, divisors, strict=True)
    )


def rounding(precision: str) -> Callable[[float], float]:
    """What rounds each step of a formula: to float32, or not at all."""
    return float if precision == "exact" else to_float32


def require_schedule(schedule: Any) -> None:
    """TypeError unless ``schedule`` is None, or callable, hashable and equal by value."""
    if schedule is not None:
        require_value("scaling", schedule, [] if callable(schedule) else [f"__call__{_PARAMETERS}"])


def checked_frequencies(
    schedule: Schedule, rotary_dim: int, base: float, *, seq_len: int | None, precision: str
) -> Frequencies:
    """What ``schedule`` returns, as Python floats.

    Raises
    ------
    ValueError, TypeError
        If it does not take these arguments, or returns anything but `Frequencies` with n_pairs finite
        numbers and two positive factors.
    """
    made: Any = call_checked(
        "scaling", _PARAMETERS, schedule, rotary_dim, base, seq_len=seq_len, precision=precision
    )
    name, n_pairs = type(schedule).__name__, rotary_dim // 2
    if not (isinstance(made, Frequencies) or all(hasattr(made, f) for f in Frequencies._fields)):
        msg = f"`scaling` must return Frequencies, got {made!r} from {name}"
        raise TypeError(msg)
    try:
        inv_freq = as_floats("inv_freq", made.inv_freq)
        for factor in ("attention_factor", "softmax_factor"):
            require_positive(factor, getattr(made, factor))
    except (TypeError, ValueError) as error:
        msg = f"{error} from {name}"
        raise type(error)(msg) from None
    if len(inv_freq) != n_pairs:
        msg = (
            f"`scaling` must return n_pairs={n_pairs} frequencies for rotary_dim={rotary_dim}, "
            f"got {len(inv_freq)} from {name}"
        )
        raise ValueError(msg)
    factors = (as_constant(float(f)) for f in (made.attention_factor, made.softmax_factor))
    return Frequencies(inv_freq, *factors)


def call_at_traced_length(
    call: Callable[[Any], Frequencies], schedule: Any, seq_len: Any
) -> Frequencies:
    """``call(seq_len)`` for a length that is no number before the traced program runs.

    ValueError if the frequencies depend on it: they are constants of the program.
    """
    # A traced array would compare as the example does: an object compares with nothing.
    unknown: Any = object() if _backends.is_array(seq_len) else seq_len
    try:
        return call(unknown)
    except Exception as error:
        msg = (
            f"`seq_len` must be an int for a {type(schedule).__name__}, whose frequencies follow it "
            f"and must be constants of what is traced, got the symbolic size {seq_len}"
        )
        raise ValueError(msg) from error
