"""Which RoPE a black box is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rope_xp._backends import Device, Namespace
from rope_xp._validation import as_size
from rope_xp.configs._explain import format_number, short_repr
from rope_xp.rope import RoPE
from rope_xp.scaling import Custom, LongRoPE, Negated, Schedule, YaRN
from rope_xp.testing._black_box import BlackBox, Implementation, RefusedError
from rope_xp.testing._match import exponent_mistakes, frequencies_of, match, roundest
from rope_xp.testing._match_axes import match_axes
from rope_xp.testing._measure import (
    EPS,
    POSITIONS,
    Angles,
    Layout,
    Probe,
    Structure,
    Turns,
    follow,
    layout_of,
    more_turns,
    probe,
    structure,
    wrap,
)
from rope_xp.testing._precision import UNITS, classify, float32_bound, narrow_dtype, rounded

_LIMIT = 2**20
_NOTHING = 1e-13  # radians per step

PairList = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What `diagnose` found out; prints as a table that ends in the `RoPE`, if there is one.

    Parameters
    ----------
    head_dim : int
    layout : "half", "interleaved", a tuple of pairs of features, or None
        Which features make a pair; None: none do.
    output_layout : "half", "interleaved", a tuple of pairs, or None
        The places of the features in the result, where they are not those that they have in x.
    rotary_dim, rotary_start : int
    direction : {1, -1}
        -1: pairs turn by −pθ.
    inv_freq : numpy.ndarray of float64, shape (n_pairs,), with axes (n_axes, n_pairs)
        Radians per step, as measured.
    base : float or None
        None where the frequencies follow no base.
    scaling : rope_xp.scaling.Schedule, a tuple of them, or None
        None: no scaling.
    attention_factor : float
    precision : str
        "exact", "float32", or what is rounded: "bfloat16 positions", "float16 tables", …
    angle_error : float
        The largest error of an angle up to ``max_position``, in radians.
    max_position : int
        The last position that was measured, and up to which angles grow with it.
    axes : rope_xp.axes.Axes or None
    rope : RoPE or None
        None where no RoPE does the same.
    remarks : tuple of str
        What else is unusual or wrong, in sentences.
    """

    head_dim: int
    layout: str | PairList | None = None
    output_layout: str | PairList | None = None
    rotary_dim: int = 0
    rotary_start: int = 0
    direction: int = 1
    inv_freq: np.ndarray = field(default_factory=lambda: np.zeros(0))
    base: float | None = None
    scaling: Schedule | tuple[Schedule | None, ...] | None = None
    attention_factor: float = 1.0
    precision: str = "unknown"
    angle_error: float = math.nan
    max_position: int = 0
    axes: Any = None
    rope: RoPE | None = None
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [*self._rows(), *(("remark", each) for each in self.remarks)]
        lines = [f"{name:<17} {text}" for name, text in rows]
        return "\n".join([*lines, repr(self.rope) if self.rope else "no RoPE does the same"])

    __repr__ = __str__

    def _rows(self) -> Iterator[tuple[str, str]]:
        if self.layout is None:
            yield "pairs", "none"
            return
        yield "pairs", _describe_pairs(self.layout, self.rotary_dim)
        if self.output_layout is not None:
            yield "pairs, result", _describe_pairs(self.output_layout, self.rotary_dim)
        if self.rotary_dim == self.head_dim:
            yield "rotated part", f"the whole head, {self.head_dim} features"
        else:
            part = f"{self.rotary_dim} of {self.head_dim} features, from {self.rotary_start} on"
            yield "rotated part", part
        yield "direction", f"{self.direction:+d}"
        turning = np.abs(self.inv_freq[self.inv_freq != 0])
        if turning.size:
            span = f"{turning.max():.6g} to {turning.min():.6g} radians per step"
            yield "frequencies", span
        if self.axes is not None:
            yield "axes", short_repr(self.axes)
        yield "base", "none" if self.base is None else format_number(self.base)
        each = self.scaling if isinstance(self.scaling, tuple) else (self.scaling,)
        yield "schedule", ", ".join("default" if s is None else short_repr(s) for s in each)
        yield "attention factor", f"{self.attention_factor:.9g}"
        reach = f"angles within {self.angle_error:.1e} up to position {self.max_position:,}"
        yield "precision", f"{self.precision}: {reach}"


def _describe_pairs(layout: str | PairList, rotary_dim: int) -> str:
    if layout == "half":
        return f"half: feature i turns with i + {rotary_dim // 2}"
    if layout == "interleaved":
        return "interleaved: feature 2i turns with 2i + 1"
    some = ", ".join(map(str, layout[:4]))
    return f"{some}{', …' if len(layout) > 4 else ''}"


def diagnose(
    fn: Implementation,
    head_dim: int,
    *,
    xp: Namespace | None = None,
    device: Device | None = None,
    n_axes: int | None = None,
    max_position: int | None = None,
) -> Diagnosis:
    """Which RoPE an implementation is, from what it makes of basis vectors.

    Parameters
    ----------
    fn : callable
        ``fn(x, positions)`` returns the rotated x: x of shape (batch, heads, seq, head_dim), positions
        integers of shape (seq,) or (batch, seq), with axes (n_axes, seq) or (n_axes, batch, seq).
    head_dim : int
        Features per head.
    xp, device : optional
        The library of the arrays that it gets, and where they are. Default: NumPy, or else the first
        library that is imported and that it takes.
    n_axes : int, optional
        Number of position axes; default: positions have none.
    max_position : int, optional
        The last position to try. Default: 2²⁰, or what ``fn`` takes.

    Returns
    -------
    Diagnosis
        Frequencies are right to 1e-6, or to what the rounding of the implementation allows. Base and
        schedule are the simplest that give all of them. Whatever returns finite numbers of the shape of
        x has a diagnosis; where no RoPE does the same, ``rope`` is None and ``remarks`` say why.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.
    RotationError
        If ``fn`` takes no x of this size, or does not return an array of its shape.

    Notes
    -----
    A frequency of more than π radians per step looks like one that is smaller by 2π. A pair of which
    both features never move looks like features that do not rotate.

    Examples
    --------
    >>> from rope_xp import RoPE
    >>> rope = RoPE(64, layout="half", base=500000.0)
    >>> diagnose(lambda x, positions: rope(x, positions=positions), 64).rope
    RoPE(64, layout='half', base=500000.0)
    """
    limit = _LIMIT if max_position is None else as_size("max_position", max_position)
    box = BlackBox(fn, head_dim, n_axes=n_axes, xp=xp, device=device)
    try:
        with np.errstate(all="ignore"):
            return _diagnose(box, limit)
    except RefusedError as refused:
        return Diagnosis(box.head_dim, remarks=(f"it could not be measured: {refused}",))


def _diagnose(box: BlackBox, limit: int) -> Diagnosis:
    probed = probe(box)
    remarks = [*probed.remarks]
    probes = [probed.probe]
    for axis in range(1, box.n_axes or 1):
        probes.append(
            Probe(box, axis, arrangement=probed.probe.arrangement, in_order=probed.probe.in_order)
        )
    matrices = [probed.matrices, *(each.matrices(POSITIONS) for each in probes[1:])]
    if not np.all(np.isfinite(matrices)):
        return Diagnosis(box.head_dim, remarks=(*remarks, "results are not finite"))
    if probes[0].dtype != "float32":
        remarks.append(f"x of float32 comes back as {probes[0].dtype}")
    found = structure(np.concatenate(matrices))
    remarks += found.remarks
    remarks += _features_alone(found, matrices)
    if not found.pairs:
        if not remarks:
            remarks.append("nothing is rotated: x comes back as it is")
        return Diagnosis(box.head_dim, remarks=tuple(remarks))
    layout, outputs = _complete(found, box.head_dim)
    measured = [follow(each, layout.pairs, outputs, limit) for each in probes]
    last = min(each.last for each in measured)
    remarks += dict.fromkeys(remark for each in measured for remark in each.remarks)
    for i, each in enumerate(probes):
        more = more_turns(each, layout.pairs, outputs, last)
        measured[i] = measured[i]._replace(turns=measured[i].turns.join(more))
    again = probes[0].matrices(POSITIONS)
    if np.max(np.abs(again - matrices[0])) > 1e-6:
        remarks.append("the result depends on earlier calls")
    return _describe(box, layout, outputs, measured, last, remarks, found)


def _complete(found: Structure, head_dim: int) -> tuple[Layout, PairList]:
    """The layout, with pairs that do not turn; and the places of all its pairs in the result."""
    layout = layout_of(found.pairs, head_dim)
    places = dict(zip(found.pairs, found.outputs, strict=True))
    alone = dict(found.alone)
    for a, b in layout.pairs:
        if (a, b) not in places and not (a in alone and b in alone):
            layout = Layout(None, min(min(p) for p in places), tuple(sorted(places)))
            break
        places.setdefault((a, b), (alone.get(a, a), alone.get(b, b)))
    return layout, tuple(places[pair] for pair in layout.pairs)


def _features_alone(found: Structure, matrices: Sequence[np.ndarray]) -> Iterator[str]:
    """What is wrong with features that are not in a pair."""
    gains = np.concatenate(
        [each[:, [o for _, o in found.alone], [i for i, _ in found.alone]] for each in matrices]
    )
    if not gains.size:
        return
    varies = np.flatnonzero(np.max(np.abs(gains - gains[0]), axis=0) > 1e-6)
    if varies.size:
        feature = found.alone[varies[0]][0]
        yield (
            f"feature {feature} is multiplied by a number that changes with the position, "
            "without a partner that it turns with"
        )
        return
    first = gains[0]
    off = np.flatnonzero(np.abs(first - 1) > 1e-6)
    if off.size:
        yield (
            f"{off.size} features that do not rotate are multiplied by {first[off[0]]:.6g}, "
            f"the first of them feature {found.alone[off[0]][0]}"
        )


def _describe(
    box: BlackBox,
    layout: Layout,
    outputs: PairList,
    measured: list[Angles],
    last: int,
    remarks: list[str],
    found: Structure,
) -> Diagnosis:
    pairs = layout.pairs
    signed = np.stack([each.inv_freq for each in measured])  # (n_axes, n_pairs)
    signed = np.where(np.abs(signed) < _NOTHING, 0.0, signed)
    start = measured[0].start
    wrong = [*_not_rotations(measured, pairs)]
    factor = _attention_factor(measured[0].turns)
    size = np.concatenate([_norms(each.turns) for each in measured])
    if not wrong and np.max(np.abs(size / factor - 1)) > 2.0**-7:
        wrong.append(
            "the norm of pairs changes: they are multiplied by numbers that differ between pairs or "
            f"positions, from {size.min():.6g} to {size.max():.6g}"
        )
    direction = -1 if np.sum(signed) < 0 else 1
    own = signed * direction
    shared = {
        "layout": layout.name or pairs,
        "output_layout": _output_layout(pairs, outputs, box.head_dim),
        "rotary_dim": 2 * len(pairs),
        "rotary_start": min(a for a, _ in pairs) if layout.name is None else layout.start,
        "direction": direction,
        "attention_factor": factor,
        "max_position": last,
    }
    shift = _shift(start, signed)
    if shift:
        remarks.append(
            f"positions are counted from {shift:g}: position p is rotated by (p {shift:+g})θ"
        )
    elif np.max(np.abs(start)) > 1e-4:
        remarks.append("position 0 is rotated, and not as by a position")
    if shared["output_layout"] is not None:
        remarks.append("features of the result are in another order than those of x")
    tight, single = _errors(measured, own, last, start)
    if box.n_axes is not None:
        return _with_axes(box, layout, measured, own, (tight, single), shared, [*remarks, *wrong])

    base, scaling, more = _match(own[0], (tight[0], single[0]), last, factor, measured[0].turns)
    if base is not None and scaling is None and len(pairs) > 1:
        more += exponent_mistakes(base, shared["rotary_dim"], box.head_dim)
    remarks += more
    ideal = frequencies_of(scaling, shared["rotary_dim"], base or 1e4)
    known = scaling is None or not isinstance(scaling, Custom)
    ideal = ideal if known and ideal is not None else own[0]
    precision = classify(measured[0].turns, start, direction * ideal, factor)
    rope = None
    if not wrong and not found.remarks and layout.name is not None:
        rope = _rope(box.head_dim, shared, base, scaling, factor, precision.name)
        if rope is None:
            remarks.append(f"no schedule has these frequencies and the factor {factor:.9g}")
    return Diagnosis(
        box.head_dim,
        **shared,
        inv_freq=own[0],
        base=base,
        scaling=scaling,
        precision=precision.name,
        angle_error=precision.error,
        rope=rope,
        remarks=(*remarks, *wrong),
    )


def _norms(turns: Turns) -> np.ndarray:
    norms: np.ndarray = np.hypot(turns.first_first, turns.second_first)
    return norms


def _attention_factor(turns: Turns) -> float:
    factor = float(np.median(_norms(turns)[0]))
    if abs(factor - 1) < 1e-6 or not factor > 0:
        return 1.0
    return roundest(factor * (1 - 4 * EPS), factor * (1 + 4 * EPS))


def _not_rotations(measured: list[Angles], pairs: PairList) -> Iterator[str]:
    """How the pairs fail to turn, with the first pair that does."""
    parts = [np.concatenate(each) for each in zip(*(m.turns[1:] for m in measured), strict=True)]
    cos, minus_sin, sin, other_cos = parts
    bound = 1e-5 * np.max(np.abs(cos))
    same_cos = np.max(np.abs(cos - other_cos), axis=0) <= bound
    same_sin = np.max(np.abs(sin + minus_sin), axis=0) <= bound
    if np.all(same_cos & same_sin):
        return
    i = int(np.argmin(same_cos & same_sin))
    pair = f"features {pairs[i][0]} and {pairs[i][1]}"
    no_minus = np.max(np.abs(sin - minus_sin), axis=0) <= bound
    if np.all(same_cos & (same_sin | no_minus)):
        yield f"{pair} are not rotated: both sines have the same sign, a minus is missing"
        return
    first, second = np.hypot(cos, minus_sin), np.hypot(other_cos, sin)
    if (
        np.max(np.abs(first / first[0] - 1)) < 2.0**-7
        and np.max(np.abs(second / second[0] - 1)) < 2.0**-7
    ):
        one, two = (np.arctan2(-minus_sin, cos)[1, i], np.arctan2(sin, other_cos)[1, i])
        yield (
            f"{pair} are turned by different angles, {one:.6g} and {two:.6g} at position 1: "
            "cos and sin are in another layout than the rotation"
        )
        return
    yield f"{pair} are not rotated: what becomes of them is no rotation times a factor"


def _output_layout(pairs: PairList, outputs: PairList, head_dim: int) -> str | PairList | None:
    if all(set(a) == set(b) and a == b for a, b in zip(pairs, outputs, strict=True)):
        return None
    named = layout_of(outputs, head_dim)
    return named.name if named.name and named.pairs == outputs else outputs


def _shift(start: np.ndarray, signed: np.ndarray) -> float:
    """By how many positions all are off, an integer."""
    fastest = int(np.argmax(np.abs(signed[0])))
    for shift in (*range(1, 17), *range(-1, -17, -1)):
        if abs(wrap(start[fastest : fastest + 1] - shift * signed[0, fastest])[0]) < 1e-2:
            if np.max(np.abs(wrap(start - shift * signed[0]))) < 1e-2 and np.any(start):
                return float(shift)
    return 0.0


def _errors(
    measured: list[Angles], own: np.ndarray, last: int, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of frequencies whose angles are exact, and of those of float32."""
    size = np.where(own != 0, np.abs(own), 1.0)
    turned = last * size
    read = 2.0**-22 * np.minimum(1.0, 1 / turned) if not np.any(start) else 2.0**-22 / turned
    single = EPS * (4 + np.abs(np.log(size))) + read
    tight = single
    if all(_is_exact(each) for each in measured):
        tight = read + 1e-13
    return tight, single


def _is_exact(angles: Angles) -> bool:
    """Whether angles are known to be more than float32's."""
    turns = angles.turns
    off = np.abs(wrap(turns.angles - angles.start - turns.positions[:, None] * angles.inv_freq))
    bound = float32_bound(turns.positions, angles.inv_freq)
    return bool(np.max(off) <= 16 * EPS and np.max(bound) > 64 * EPS)


def _match(
    own: np.ndarray,
    errors: tuple[np.ndarray, np.ndarray],
    last: int,
    factor: float,
    turns: Turns,
) -> tuple[float | None, Any, list[str]]:
    """Base, schedule and remarks, by the smallest errors of frequencies that leave a base."""
    width = 2 * len(own)
    if np.any(own < 0):
        return None, Custom(tuple(map(float, own))), ["pairs turn in both directions"]
    single = errors[1]
    for each in errors:
        found = match(own, each, width, factor)
        if found.base is not None:
            return found.base, found.scaling, [*found.remarks]
    for dtype, unit in UNITS.items():
        steps = rounded(own, dtype)
        if np.any(own) and np.all(np.abs(steps - own) <= 2 * single * own):
            near = match(own, np.full(len(own), 2 * unit), width, factor)
            made = None if near.base is None else frequencies_of(near.scaling, width, near.base)
            if made is not None and np.mean(rounded(made, dtype) == steps) > 0.9:
                return near.base, near.scaling, [*near.remarks]
    tables = narrow_dtype(turns.first_first) or narrow_dtype(turns.first_first / factor)
    if tables:
        size = np.where(own > 0, own, 1.0)
        loose = single + 4 * UNITS[tables] * np.minimum(1.0, 1 / (last * size))
        near = match(own, loose, width, factor)
        if near.base is not None:
            return near.base, near.scaling, [*near.remarks]
    return None, found.scaling, [*found.remarks]


def _with_axes(
    box: BlackBox,
    layout: Layout,
    measured: list[Angles],
    own: np.ndarray,
    errors: tuple[np.ndarray, np.ndarray],
    shared: dict[str, Any],
    remarks: list[str],
) -> Diagnosis:
    factor, direction = shared["attention_factor"], shared["direction"]
    start = measured[0].start
    rope = None
    for bound in errors:
        rope = rope or match_axes(own, bound, layout.pairs, box.head_dim, factor)
    ideal = own if rope is None else np.asarray(rope.frequencies().inv_freq)
    each = [
        classify(m.turns, start, direction * row, factor)
        for m, row in zip(measured, ideal, strict=True)
    ]
    worst = max(each, key=lambda precision: precision.error)
    if rope is not None:
        if rope.layout != layout.name:
            shared["layout"] = rope.layout if layout.name is None else layout.name
        if direction < 0:
            remarks.append("the direction is that of no axis scheme")
    return Diagnosis(
        box.head_dim,
        **shared,
        inv_freq=own,
        base=None if rope is None else rope.base,
        scaling=None if rope is None else rope.scaling,
        axes=None if rope is None else rope.axes,
        precision=worst.name,
        angle_error=worst.error,
        rope=None if direction < 0 else rope,
        remarks=tuple(remarks),
    )


def _rope(
    head_dim: int,
    shared: dict[str, Any],
    base: float | None,
    scaling: Any,
    factor: float,
    precision: str,
) -> RoPE | None:
    """The encoding with these fields; None where no schedule has the factor."""
    width, start = shared["rotary_dim"], shared["rotary_start"]
    base = 1e4 if base is None else base
    own = frequencies_of(scaling, width, base)
    made = (
        1.0
        if scaling is None
        else scaling(width, base, seq_len=None, precision="exact").attention_factor
    )
    if abs(made - factor) > 1e-6 * factor:
        if scaling is None and base != 1:
            scaling = YaRN(1.0, 2048, attention_factor=factor)
        elif own is not None and np.all(own > 0):
            plain = frequencies_of(None, width, base)
            divisors = tuple(map(float, plain / own))  # type: ignore[operator]
            scaling = LongRoPE(divisors, divisors, 2048, attention_factor=factor)
        else:
            return None
    if shared["direction"] < 0:
        scaling = Negated(scaling)
    options: dict[str, Any] = {"base": base}
    if width != head_dim - start:
        options["rotary_dim"] = width
    if start:
        options["rotary_start"] = start
    if precision == "float32":
        options["precision"] = precision
    return RoPE(head_dim, layout=shared["layout"], scaling=scaling, **options)
