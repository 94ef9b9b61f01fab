"""What a wrong result looks like: where it differs, and which known mistake gives the same numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rope_xp.testing._black_box import Answer, Call
from rope_xp.testing._definition import Definition
from rope_xp.testing._frequency_mistakes import frequency_mistakes
from rope_xp.testing._mistakes import Mistake, rotated_with
from rope_xp.testing._position_mistakes import earlier_positions, position_mistakes
from rope_xp.testing._rotation_mistakes import rotation_mistakes, table_mistakes

#: Mistakes are tried on no more tokens and heads of a call than these.
_MOST = 48


def describe_difference(definition: Definition, call: Call) -> str:
    """Where a call is wrong, both numbers, and where it is not; sentences."""
    given, got = call.answer.given, call.answer.values
    want = definition(given, call.positions)
    bounds = definition.bounds(given, call.positions, call.dtype)
    error = np.where(got == want, 0.0, np.abs(got - want))
    wrong = ~(error <= bounds)
    worst = _worst(definition, call, want, error, bounds)
    return " ".join([worst, *_pattern(definition, call, wrong, want)])


def looks_like(
    definition: Definition, call: Call, more: Sequence[Call], earlier: Sequence[np.ndarray]
) -> str | None:
    """A sentence on the known mistake that gives the same numbers, in ``more`` calls, too.

    ``earlier`` are positions of calls before.
    """
    want = definition(call.answer.given, call.positions)
    bounds = definition.bounds(call.answer.given, call.positions, call.dtype)
    wrong = ~(np.abs(call.answer.values - want) <= bounds)
    return _looks_like(definition, [_wrong_part(call, wrong), *more], earlier)


def _worst(
    definition: Definition, call: Call, want: np.ndarray, error: np.ndarray, bounds: np.ndarray
) -> str:
    ratio = np.nan_to_num(error, nan=np.inf) / np.maximum(bounds, 1e-300)
    at = np.unravel_index(np.argmax(ratio), ratio.shape)
    row, head, token, feature = map(int, at)
    position = _positions_of(call.positions, definition)[..., row % _rows(call, definition), token]
    where = ", ".join(str(p) for p in np.ravel(position))
    pair = int(definition.pair[feature])
    text = f"row {row}, head {head}, token {token}, position {where}, "
    got, given = call.answer.values, call.answer.given
    if pair < 0:
        text += f"feature {feature}, which does not rotate: got {got[at]:.9g}, x is {given[at]:.9g}"
    else:
        both = [int(definition.first[pair]), int(definition.second[pair])]
        a, b, c = (_both(values[row, head, token], both) for values in (given, got, want))
        text += (
            f"pair {pair} (features {both[0]} and {both[1]}): from {a} it computes {b}, "
            f"the definition gives {c}"
        )
    return f"{text}; difference {error[at]:.2g}, bound {bounds[at]:.1g}."


def _both(token: np.ndarray, features: list[int]) -> str:
    return "({})".format(", ".join(f"{token[f]:.7g}" for f in features))


def _positions_of(positions: np.ndarray, definition: Definition) -> np.ndarray:
    """(batch or 1, seq), with axes before."""
    axes = definition.inv_freq.ndim - 1
    return positions[..., None, :] if positions.ndim == 1 + axes else positions


def _rows(call: Call, definition: Definition) -> int:
    return int(_positions_of(call.positions, definition).shape[-2])


def _pattern(
    definition: Definition, call: Call, wrong: np.ndarray, want: np.ndarray
) -> Iterator[str]:
    """Along which axes the wrong numbers are few, and whether they were not rotated at all."""
    got, given = call.answer.values, call.answer.given
    found: list[str] = []
    one_at_a_time = np.count_nonzero(given) < given.size / 2  # then heads are features of x
    for axis, name in enumerate(("row", "head", "token", "feature")):
        others = tuple(a for a in range(4) if a != axis)
        bad = np.flatnonzero(wrong.any(axis=others))
        size = wrong.shape[axis]
        if axis == 3:
            found += _pairs(definition, bad)
        elif len(bad) < size and not (one_at_a_time and name == "head"):
            found.append(f"{name}{'s' if len(bad) > 1 else ''} {_ranges(bad)} of {size}")
    if found:
        yield f"Errors are only in {', '.join(found)}."
    moved = np.broadcast_to((want != given).any(axis=-1, keepdims=True), wrong.shape) & wrong
    if moved.any() and (got == given)[moved].all():
        yield "There x comes back unchanged: it is not rotated."
    if not np.isfinite(got[wrong]).all():
        yield "Some are not finite (NaN or infinity)."
    yield from _by_position(definition, call, wrong)


def _pairs(definition: Definition, bad: np.ndarray) -> Iterator[str]:
    n_pairs = definition.rope.n_pairs
    found = np.unique(definition.pair[bad])
    if (found < 0).all():
        yield f"features {_ranges(bad)}, which do not rotate (the part outside of rotary_dim)"
        return
    found = found[found >= 0]
    if len(found) < n_pairs:
        yield f"pair{'s' if len(found) > 1 else ''} {_ranges(found)} of {n_pairs}"


def _by_position(definition: Definition, call: Call, wrong: np.ndarray) -> Iterator[str]:
    """From which position on it is wrong, if it is right before."""
    positions = _positions_of(call.positions, definition)
    if definition.inv_freq.ndim > 1 or wrong.shape[2] < 8:
        return
    bad = wrong.any(axis=(1, 3))  # (batch, seq)
    at = np.broadcast_to(positions, bad.shape)
    if not bad.all() and at[~bad].max() < at[bad].min():
        yield f"It is right up to position {at[~bad].max()} and wrong from {at[bad].min()} on."


def _ranges(numbers: np.ndarray) -> str:
    """``0, 3 to 7``."""
    runs: list[list[int]] = []
    for n in map(int, numbers):
        if runs and runs[-1][-1] == n - 1:
            runs[-1][1:] = [n]
        else:
            runs.append([n])
    parts = [str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs]
    return ", ".join(parts[:6]) + (", …" if len(parts) > 6 else "")


def _wrong_part(call: Call, wrong: np.ndarray) -> Call:
    """The call with its wrong tokens and heads, and a few that are right."""
    answer, positions = call.answer, call.positions
    for axis in (1, 2):
        others = tuple(a for a in range(4) if a != axis)
        bad = np.flatnonzero(wrong.any(axis=others))
        size = wrong.shape[axis]
        keep = bad[np.linspace(0, len(bad) - 1, min(len(bad), _MOST)).astype(int)]
        keep = np.union1d(keep, np.arange(min(4, size))) if size > _MOST else np.arange(size)
        values, given, left = (np.take(v, keep, axis=axis) for v in answer[:3])
        answer = Answer(values, given, left, answer.dtype)
        wrong = np.take(wrong, keep, axis=axis)
        positions = positions[..., keep] if axis == 2 else positions
    return Call(positions, answer, call.dtype)


class _Evidence(NamedTuple):
    """A call, what it should have returned, and how far from it that may be."""

    call: Call
    want: np.ndarray
    bounds: np.ndarray
    may_be_right: bool

    @classmethod
    def of(cls, definition: Definition, call: Call, *, may_be_right: bool) -> _Evidence:
        x, positions = call.answer.given, call.positions
        bounds = definition.bounds(x, positions, call.dtype)
        return cls(call, definition(x, positions), bounds, may_be_right)


def _looks_like(
    definition: Definition, calls: Sequence[Call], earlier: Sequence[np.ndarray]
) -> str | None:
    """The mistake that gives the same numbers in all calls."""
    first = _Evidence.of(definition, calls[0], may_be_right=False)
    # In the other calls a mistake can be without consequence, but what it gives must be there.
    more = [_Evidence.of(definition, call, may_be_right=True) for call in calls[1:]]
    known = [*rotation_mistakes(definition), *position_mistakes(definition, first.call, earlier)]
    if definition.inv_freq.ndim == 1:
        known += frequency_mistakes(definition)
    known += table_mistakes(definition)
    fitting = _fitting(definition, known, first, more) or _fitting(
        definition, [*earlier_positions(definition, first.call, earlier)], first, ()
    )
    rounded = _float32(definition)
    if rounded is not None and all(_is_within(rounded, call) for call in calls):
        # Far from 0, errors are as large as those of numbers that are rounded to 16 bits.
        fitting = [m for m in fitting if not m.rounds_to]
    if fitting:
        texts = list(dict.fromkeys(m.text for m in fitting))[:2]
        return f"This looks like {'; or like '.join(texts)}."
    largest = np.abs(first.call.answer.values).max()
    clipped = np.clip(first.want, -largest, largest)
    if (np.abs(first.call.answer.values - clipped) <= first.bounds).all():
        return f"This looks like values clipped to [-{largest:.6g}, {largest:.6g}]."
    scale = _scale(first)
    if scale is not None:
        return (
            f"Everything that is wrong is multiplied by {scale:.6g}: an attention factor of "
            f"{definition.factor * scale:.6g}, not of {definition.factor:.6g}."
        )
    if rounded is not None and all(_is_within(rounded, call) for call in calls):
        return (
            "The errors are those of angles rounded to float32: in proportion to the position. If that "
            "is wanted, ask for it with precision='float32'."
        )
    for several in _roundings(known):
        if _fits(definition, first, *several) and all(_fits(definition, c, *several) for c in more):
            dtype = several[0].rounds_to
            stages = ", ".join(m.stage for m in several)
            coincide = {"bfloat16": "256 and 257", "float16": "2048 and 2049"}[dtype]
            return (
                f"This looks like {stages} rounded to {dtype}: positions {coincide} coincide in the "
                "fastest pair."
            )
    dtype = first.call.dtype
    if dtype in ("float16", "bfloat16"):
        return f"Angles, positions or frequencies may be rounded to {dtype} because x is."
    return None


def _fitting(
    definition: Definition, known: Sequence[Mistake], first: _Evidence, more: Sequence[_Evidence]
) -> list[Mistake]:
    """Those that give what came out, in all calls if there are any."""
    fitting = [m for m in known if _fits(definition, first, m)]
    return [m for m in fitting if all(_fits(definition, c, m) for c in more)] or fitting


def _float32(definition: Definition) -> Definition | None:
    """With angles in float32, if they should be exact."""
    if definition.rope.precision != "exact":
        return None
    rope = dataclasses.replace(definition.rope, precision="float32")
    return Definition(rope, definition.seq_len)


def _scale(evidence: _Evidence) -> float | None:
    """By what everything that is wrong was multiplied."""
    got, want = evidence.call.answer.values, evidence.want
    wrong = ~(np.abs(got - want) <= evidence.bounds)
    if not np.isfinite(got[wrong]).all() or not want[wrong].any():
        return None
    if np.count_nonzero(wrong) < 4:
        return None
    scale = float((got[wrong] * want[wrong]).sum() / (want[wrong] ** 2).sum())
    error = np.abs(got - scale * want)[wrong]
    near = 4 * abs(scale) * evidence.bounds[wrong] + 1e-6
    return scale if scale > 0 and (error <= near).all() else None


def _roundings(known: Sequence[Mistake]) -> Iterator[tuple[Mistake, ...]]:
    """Several stages that round to one dtype."""
    for dtype in ("bfloat16", "float16"):
        found = [m for m in known if m.rounds_to == dtype and m.stage != "rotation"]
        for count in (2, 3, 4):
            yield from combinations(found, count)


def _is_within(definition: Definition, call: Call) -> bool:
    want = definition(call.answer.given, call.positions)
    bounds = definition.bounds(call.answer.given, call.positions, call.dtype)
    return bool((np.abs(call.answer.values - want) <= bounds).all())


def _fits(definition: Definition, evidence: _Evidence, *tried: Mistake) -> bool:
    """Whether an implementation with these mistakes would return what came out."""
    call, want, bounds, may_be_right = evidence
    x, got = call.answer.given, call.answer.values
    with np.errstate(all="ignore"):
        guess = rotated_with(definition, x, call.positions, *tried)
    # The mistake may be made in float32.
    near = 4 * bounds + 1e-5 * np.abs(x).max() * definition.factor
    same = (np.abs(got - guess) <= near) | (got == guess) | (np.isnan(got) & np.isnan(guess))
    differs = np.abs(guess - want) > bounds
    if not differs.any():
        return may_be_right and bool(same.all())
    # Of numbers in the middle between two of a dtype, float32 may round some to the other one.
    enough = 0.9 if any(m.rounds_to for m in tried) else 1.0
    return bool(same[differs].mean() >= enough and same.mean() >= enough)
