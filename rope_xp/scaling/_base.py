"""What every schedule is built on: the result, the protocol, the default, and the checks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from rope_xp import _backends
from rope_xp._validation import (
    MAX_FREQUENCY,
    as_constant,
    as_frequencies,
    as_seq_len,
    as_size,
    call_checked,
    is_listable,
    quote,
    require_base,
    require_factor,
    require_list,
    require_positive,
    require_precision,
    require_value,
    to_float32,
)

Rounding = Callable[[float], float]

FACTORS = ("attention_factor", "softmax_factor")

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
    as in transformers 5.24.0: its frequencies differ from the exact ones in the last bit or two, which
    at position 100,000 is an angle of 0.01.

    Raises
    ------
    ValueError
        If ``rotary_dim`` is not even and positive, ``base`` or a divisor not positive and finite, there
        are not n_pairs ``divisors``, ``precision`` is unknown, or a frequency reaches 2¹²⁸.
    TypeError
        If ``rotary_dim`` is no int, or another argument no number.

    Examples
    --------
    >>> inverse_frequencies(4, 100.0)
    (1.0, 0.1)
    """
    return divided_frequencies(rotary_dim, base, "divisors", divisors, precision)


def divided_frequencies(
    rotary_dim: int, base: float, name: str, divisors: float | Sequence[float], precision: str
) -> tuple[float, ...]:
    """`inverse_frequencies`, whose ``divisors`` messages call ``name``."""
    r = rounding(precision)
    base = require_base(base)
    if not r(base) < math.inf:
        msg = f"`base` must be below 2**128 for precision='float32', got {base}"
        raise ValueError(msg)
    if is_listable(divisors):
        divisors = require_list(name, divisors)
        require_pairs(name, divisors, rotary_dim)
    else:
        divisors = (require_positive(name, divisors),) * (require_rotary_dim(rotary_dim) // 2)

    exponents = [2 * i / rotary_dim for i in range(rotary_dim // 2)]
    try:
        if precision == "exact":
            made = tuple(base**-e / c for e, c in zip(exponents, divisors, strict=True))
        else:
            made = tuple(
                r(1 / r(r(c) * r(r(base) ** r(e))))
                for e, c in zip(exponents, divisors, strict=True)
            )
        if max(made) < MAX_FREQUENCY:
            return made
    except (OverflowError, ZeroDivisionError):
        pass
    if -exponents[-1] * math.log2(base) < math.log2(MAX_FREQUENCY):
        msg = f"`{name}` must keep frequencies below 2**128, got {min(divisors)} for base={base}"
    else:
        msg = f"`base` must keep frequencies below 2**128, got {base} for rotary_dim={rotary_dim}"
    raise ValueError(msg)


def larger_base(
    base: float,
    stretch: float,
    rotary_dim: int,
    r: Rounding,
    factor: float,
    *,
    seq_len: int | None = None,
) -> float:
    """The base b · s^(d / (d − 2)), which slows the last pair by the stretch s.

    A single pair turns by 1 whatever the base. Raises ValueError if the result is infinite; ``factor``
    and ``seq_len`` are what made the stretch so large.
    """
    base = require_base(base)
    rotary_dim = require_rotary_dim(rotary_dim)
    exponent = rotary_dim / (rotary_dim - 2) if rotary_dim > 2 else 0.0
    try:
        larger = r(r(base) * r(stretch**exponent))
    except OverflowError:
        larger = math.inf
    if not larger < math.inf:
        # Only here: torch.compile cannot put a length that it traces into a sentence.
        at = "" if seq_len is None else f" at seq_len={seq_len}"
        msg = f"`factor` must keep the base finite, got {factor}{at} for base={base}"
        raise ValueError(msg)
    return larger


def rounding(precision: str) -> Rounding:
    """What rounds each step of a formula: to float32, or not at all."""
    return float if require_precision(precision) == "exact" else to_float32


def is_longer(seq_len: int | None, length: int) -> bool:
    """Whether a length is given, and beyond ``length``."""
    return seq_len is not None and bool(as_seq_len("seq_len", seq_len) > length)


def require_rotary_dim(rotary_dim: int) -> int:
    size: int = as_size("rotary_dim", rotary_dim)
    if size % 2:
        msg = f"`rotary_dim` must be even and positive, got {size}"
        raise ValueError(msg)
    return size


def require_pairs(name: str, values: Sequence[float], rotary_dim: int) -> None:
    n_pairs = require_rotary_dim(rotary_dim) // 2
    if len(values) != n_pairs:
        msg = (
            f"`{name}` must have n_pairs={n_pairs} numbers for rotary_dim={rotary_dim}, "
            f"got {len(values)}"
        )
        raise ValueError(msg)


def require_schedule(schedule: Any, name: str = "scaling") -> None:
    """TypeError unless ``schedule`` is None, or callable, hashable and equal by value."""
    if schedule is not None:
        missing = [] if callable(schedule) else [f"__call__{_PARAMETERS}"]
        require_value(name, schedule, missing, package="scaling")


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
    name, n_pairs = type(schedule).__name__, rotary_dim // 2
    try:
        made: Any = call_checked(
            "scaling", _PARAMETERS, schedule, rotary_dim, base, seq_len=seq_len, precision=precision
        )
    except ArithmeticError as error:  # of somebody's own schedule
        msg = f"`scaling` must return finite frequencies for base={base}, got {error!r} from {name}"
        raise ValueError(msg) from error
    if not (isinstance(made, Frequencies) or all(hasattr(made, f) for f in Frequencies._fields)):
        msg = f"`scaling` must return Frequencies, got {quote(made)} from {name}"
        raise TypeError(msg)
    try:
        inv_freq = as_frequencies("inv_freq", made.inv_freq)
        factors = [require_factor(name, getattr(made, name)) for name in FACTORS]
    except (TypeError, ValueError) as error:
        msg = f"{error} from {name}"
        raise type(error)(msg) from None
    if len(inv_freq) != n_pairs:
        msg = (
            f"`scaling` must return n_pairs={n_pairs} frequencies for rotary_dim={rotary_dim}, "
            f"got {len(inv_freq)} from {name}"
        )
        raise ValueError(msg)
    return Frequencies(inv_freq, *map(as_constant, factors))


def parse_text(text: str, n_pairs: int | None) -> Frequencies:
    """Factors and frequencies, written as text, as numbers; with ``n_pairs`` as a matrix, (n_axes, n_pairs)."""
    attention_factor, softmax_factor, *flat = (float(n) for n in text.split())
    inv_freq: Any = tuple(flat)
    if n_pairs is not None:
        inv_freq = tuple(inv_freq[i : i + n_pairs] for i in range(0, len(flat), n_pairs))
    return Frequencies(inv_freq, attention_factor, softmax_factor)


def is_traced_length(seq_len: Any) -> bool:
    """Whether a length, or that of an axis, is no number before the traced program runs."""
    each = seq_len if isinstance(seq_len, tuple) else (seq_len,)
    return any(map(_backends.is_traced_size, each))


def call_at_traced_length(
    call: Callable[[Any], Frequencies], schedule: Any, seq_len: Any
) -> Frequencies:
    """``call(seq_len)`` for what `is_traced_length`.

    ValueError if the frequencies depend on it: they are constants of the program.
    """
    # A traced array would compare as the example does: an object compares with nothing.
    each = seq_len if isinstance(seq_len, tuple) else (seq_len,)
    unknown: Any = tuple(object() if _backends.is_array(n) else n for n in each)
    try:
        return call(unknown if isinstance(seq_len, tuple) else unknown[0])
    except Exception as error:
        name = "schedule" if isinstance(schedule, tuple) else type(schedule).__name__
        msg = (
            f"`seq_len` must be an int for a {name}, whose frequencies follow it "
            f"and must be constants of what is traced, got the symbolic size {seq_len}"
        )
        raise ValueError(msg) from error
