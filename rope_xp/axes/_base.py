"""What every axis scheme is built on: the protocol, its checks, and the matrix."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from rope_xp import _backends
from rope_xp._validation import (
    as_frequencies,
    as_int,
    as_seq_len,
    call_checked,
    is_listable,
    quote,
    require_base,
    require_value,
)
from rope_xp.scaling._base import (
    FACTORS,
    Default,
    Frequencies,
    Schedule,
    checked_frequencies,
    require_pairs,
    require_rotary_dim,
    require_schedule,
)

Matrix = tuple[tuple[float, ...], ...]  # (n_axes, n_pairs)
# Of each width, base, and axis if each has a schedule or a length of its own.
Made = dict[tuple[int, float, int | None], Frequencies]

# The schedule's frequencies for a width, for a base if it is not that of the encoding, and for the axis
# that they are for: ``frequencies(width, base=None, axis=None)``, (width // 2,).
FrequencyFunction = Callable[..., Sequence[float]]


class Axes(Protocol):
    """What `rope_xp.RoPE` requires of its ``axes``: these members, a hash, and equality by value.

    A frozen dataclass whose fields are numbers and tuples has the last two. `rope_xp.RoPE` checks the
    number of axes, the blocks and the matrix when it is made.

    A scheme whose rows sum to the schedule's frequencies encodes text as without axes: positions that
    are equal on all axes are its default. All others have none, as those of images.

    A scheme that names the ``axis`` whenever it asks for frequencies also takes a schedule for each
    axis, as `rope_xp.RoPE` describes it.

    A scheme in which one axis drives each pair can also have a method ``axis_of_pair(rotary_dim)``
    that returns these axes, n_pairs ints; `rope_xp.configs.explain` prints them. It is optional,
    because a dense matrix has no such axes.
    """

    @property
    def n_axes(self) -> int:
        """Number of position axes."""

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """Widths of the parts that are paired independently; mostly one, ``rotary_dim``."""

    def __call__(self, rotary_dim: int, frequencies: FrequencyFunction) -> Matrix:
        """The matrix, (n_axes, n_pairs), from ``frequencies(width, base=None, axis=None)``."""


def require_axes(axes: Any) -> None:
    """TypeError or ValueError unless ``axes`` is None or has the members that `Axes` lists."""
    if axes is None:
        return
    missing = [] if hasattr(axes, "n_axes") else ["n_axes"]
    missing += [] if callable(getattr(axes, "blocks", None)) else ["blocks(rotary_dim)"]
    missing += [] if callable(axes) else ["__call__(rotary_dim, frequencies)"]
    require_value("axes", axes, missing)
    if type(axes.n_axes) is not int or axes.n_axes < 1:
        msg = (
            f"`n_axes` must be a positive int, got {quote(axes.n_axes)} from {type(axes).__name__}"
        )
        raise ValueError(msg)


def require_pairing(axes: Any, rotary_dim: int) -> None:
    """ValueError unless the blocks, and ``axis_of_pair`` if there is one, fit ``rotary_dim``."""
    name, n_pairs = type(axes).__name__, rotary_dim // 2
    blocks = call_checked("blocks", "(rotary_dim)", axes.blocks, rotary_dim)
    even = _is_ints(blocks) and all(width > 0 and width % 2 == 0 for width in blocks)
    if not even or sum(blocks) != rotary_dim:
        msg = (
            f"`blocks` must be a tuple of even positive ints with sum rotary_dim={rotary_dim}, "
            f"got {quote(blocks)} from {name}"
        )
        raise ValueError(msg)
    if not hasattr(axes, "axis_of_pair"):
        return
    owners = call_checked("axis_of_pair", "(rotary_dim)", axes.axis_of_pair, rotary_dim)
    known = _is_ints(owners) and all(0 <= axis < axes.n_axes for axis in owners)
    if not known or len(owners) != n_pairs:
        msg = (
            f"`axis_of_pair` must be a tuple of n_pairs={n_pairs} ints below n_axes={axes.n_axes}, "
            f"got {quote(owners)} from {name}"
        )
        raise ValueError(msg)


def checked_matrix(axes: Any, rotary_dim: int, frequencies: FrequencyFunction) -> Matrix:
    """What ``axes`` returns, as Python floats.

    Raises
    ------
    ValueError, TypeError
        If it does not take these arguments, or returns anything but n_axes rows of n_pairs finite
        numbers.
    """
    made = call_checked("axes", "(rotary_dim, frequencies)", axes, rotary_dim, frequencies)
    shape = f"(n_axes={axes.n_axes}, n_pairs={rotary_dim // 2})"
    try:
        rows = as_sequence("matrix", made)
        rows = tuple(as_frequencies(f"matrix[{a}]", row) for a, row in enumerate(rows))
    except (TypeError, ValueError) as error:
        msg = f"{error} from {type(axes).__name__}"
        raise type(error)(msg) from None
    lengths = [len(row) for row in rows]
    if lengths != [rotary_dim // 2] * axes.n_axes:
        msg = (
            f"`axes` must return a matrix of shape {shape}, got rows of {quote(lengths)} numbers "
            f"from {type(axes).__name__}"
        )
        raise ValueError(msg)
    return rows


def call_frequencies(
    frequencies: FrequencyFunction, width: int, base: float | None, axis: int
) -> tuple[float, ...]:
    """What ``frequencies`` returns for a width, (width // 2,), a base, None for the usual, and an axis."""
    width = require_rotary_dim(width)
    parameters = "(width, base=None, axis=None)"
    made = call_checked("frequencies", parameters, frequencies, width, base, axis=axis)
    values = as_frequencies("frequencies", made)
    require_pairs("frequencies", values, width)
    return values


def products(rows: Any) -> list[tuple[list[int] | None, tuple[float, ...]]]:
    """The axis that drives each pair, and the frequencies, (n_pairs,), whose products are summed.

    In most schemes one axis drives each pair: one term, with the position along that axis. Only a
    dense matrix needs as many terms as there are axes.
    """
    driving = [[a for a, row in enumerate(rows) if row[i]] or [0] for i in range(len(rows[0]))]
    terms: list[tuple[list[int] | None, tuple[float, ...]]] = []
    for k in range(max(map(len, driving))):
        axes = [axes[k] if k < len(axes) else 0 for axes in driving]
        frequencies = (rows[axes[k]][i] if k < len(axes) else 0.0 for i, axes in enumerate(driving))
        terms.append((axes, tuple(frequencies)))
    return terms


def settle_schedules(scaling: Any, axes: Any) -> Any:
    """``scaling`` as `RoPE` keeps it: None, a schedule, or a tuple of them, one or None for each axis.

    Equal schedules on all axes are one.
    """
    if callable(scaling) or not isinstance(scaling, list | tuple):
        require_schedule(scaling)
        return None if type(scaling) is Default else scaling
    if axes is None:
        msg = f"`scaling` must be one schedule or None without `axes`, got {quote(scaling)}"
        raise ValueError(msg)
    if len(scaling) != axes.n_axes:
        msg = (
            f"`scaling` must have a schedule or None for each of n_axes={axes.n_axes} axes, "
            f"got {quote(scaling)}"
        )
        raise ValueError(msg)
    for axis, schedule in enumerate(scaling):
        require_schedule(schedule, f"scaling[{axis}]")
    each = tuple(None if type(schedule) is Default else schedule for schedule in scaling)
    return each[0] if len({*each}) == 1 else each


def settle_lengths(seq_len: Any, axes: Any) -> Any:
    """A length in use for each axis: a tuple, or what all are. What is no sequence stays."""
    if not isinstance(seq_len, list | tuple):
        return seq_len
    if axes is None:
        msg = f"`seq_len` must be an int without `axes`, got {quote(seq_len)}"
        raise TypeError(msg)
    if len(seq_len) != axes.n_axes:
        msg = (
            f"`seq_len` must be an int, or an int or None for each of n_axes={axes.n_axes} axes, "
            f"got {quote(seq_len)}"
        )
        raise ValueError(msg)
    each = tuple(
        n if n is None or _backends.is_traced_size(n) else as_seq_len(f"seq_len[{axis}]", n)
        for axis, n in enumerate(seq_len)
    )
    return each[0] if all(n is each[0] or n == each[0] for n in each) else each


def combined_frequencies(
    schedule: Schedule | tuple[Schedule | None, ...] | None,
    axes: Any,
    rotary_dim: int,
    base: float,
    *,
    seq_len: int | tuple[int | None, ...] | None,
    precision: str,
    made: Made | None = None,
) -> Frequencies:
    """The schedule's frequencies; with axes, their matrix, and the factors of the last width.

    ``schedule`` and ``seq_len`` are for all axes, or tuples with one for each. What the scheme asks
    the schedules for is added to ``made``.
    """
    has_own = isinstance(schedule, tuple) or isinstance(seq_len, tuple)

    def call(width: int, base: float, axis: Any) -> Frequencies:
        own: Any = schedule[axis] if isinstance(schedule, tuple) else schedule
        length: Any = seq_len[axis] if isinstance(seq_len, tuple) else seq_len
        own = Default() if own is None else own
        return checked_frequencies(own, width, base, seq_len=length, precision=precision)

    if axes is None:
        return call(rotary_dim, base, None)
    made = {} if made is None else made
    default_base = base

    def frequencies(width: int, base: float | None = None, axis: int | None = None) -> Any:
        base = default_base if base is None else require_base(base)
        key = (as_int("width", width), base, _as_axis(axis, axes) if has_own else None)
        if key not in made:
            if key[0] < 2 or key[0] % 2:
                msg = f"`width` must be even and positive, got {width} from {axes!r}"
                raise ValueError(msg)
            made[key] = call(*key)
        return made[key].inv_freq

    matrix: Any = checked_matrix(axes, rotary_dim, frequencies)
    if not made and schedule is not None:
        msg = (
            f"`scaling` must be None with `axes` that bring their own frequencies, got {schedule!r}"
        )
        raise ValueError(msg)
    if has_own:
        _require_common_factors(made)
    _, *factors = next(reversed(made.values()), Frequencies(()))
    return Frequencies(matrix, *factors)


def _as_axis(axis: Any, axes: Any) -> int:
    """The axis that a scheme asks for, where each has a schedule or a length of its own."""
    if axis is None:
        msg = (
            "`axes` must call frequencies(width, base=None, axis=None) with an axis where `scaling` or "
            f"`seq_len` has one for each, got none from {quote(axes)}: pass one for all axes"
        )
        raise ValueError(msg)
    made: int = as_int("axis", axis)
    if not 0 <= made < axes.n_axes:
        msg = f"`axis` must be in [0, n_axes={axes.n_axes}), got {quote(made)} from {quote(axes)}"
        raise ValueError(msg)
    return made


def _require_common_factors(made: Made) -> None:
    """ValueError unless the schedules of all axes have the same factors, which are for all pairs."""
    for name in FACTORS:
        found = {axis: getattr(each, name) for (_, _, axis), each in made.items()}
        if len({*found.values()}) > 1:
            instead = "attention_factor=1.0" if name == FACTORS[0] else "mscale_softmax=False"
            got = ", ".join(f"{found[axis]:.6g} for axis {axis}" for axis in sorted(found, key=str))
            msg = (
                f"`scaling` must have one {name} for all axes, got {got}: "
                f"pass {instead} to the schedule that has one of its own"
            )
            raise ValueError(msg)


def refuse_default(name: str, axes: Any) -> NoReturn:
    """ValueError: tokens of images have rows and columns, and cannot be counted."""
    n = axes.n_axes
    msg = (
        f"`{name}` must be given, shape (n_axes={n}, seq) or (n_axes={n}, batch, seq), for "
        f"{type(axes).__name__}, where equal coordinates would be the diagonal of a grid; "
        "rope_xp.positions.grid_positions makes them"
    )
    raise ValueError(msg)


def encodes_text(rope: Any, rows: Any, made: Made) -> bool:
    """Whether equal coordinates on all axes give the encoding of one axis.

    How fast a single axis is says nothing about that: what counts is the scheme without schedules.
    """
    if isinstance(rope.scaling, tuple):
        return bool(replace(rope, scaling=None)._encodes_text)
    one_axis: Any = made.get((rope.rotary_dim, rope.base, None), Frequencies(())).inv_freq
    return len(rows) == 1 or sums_to(one_axis, rows)


def sums_to(frequencies: Sequence[float], matrix: Sequence[Sequence[float]]) -> bool:
    """Whether equal coordinates on all axes give the angles of one axis with these frequencies."""
    sums = [math.fsum(column) for column in zip(*matrix, strict=True)]
    return len(sums) == len(frequencies) and all(map(_is_close, sums, frequencies))


def one_axis_per_pair(n_axes: int, axes: Sequence[int], values: Sequence[float]) -> Matrix:
    """The matrix, (n_axes, n_pairs), of the axis and the frequency of each pair."""
    pairs = list(zip(axes, values, strict=True))
    return tuple(tuple(w if a == axis else 0.0 for a, w in pairs) for axis in range(n_axes))


def as_ints(name: str, values: Any) -> tuple[int, ...]:
    return tuple(as_int(name, value) for value in as_sequence(name, values, of="int"))


def as_sequence(name: str, values: Any, *, of: str = "rows") -> tuple[Any, ...]:
    if not is_listable(values):
        msg = f"`{name}` must be a sequence of {of}, got {quote(values)}"
        raise TypeError(msg)
    return tuple(values)


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9)


def _is_ints(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int for value in values)
