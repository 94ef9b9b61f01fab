"""Which RoPE a black box is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np

from rope_xp._backends import Device, Namespace
from rope_xp._validation import as_size
from rope_xp.rope import RoPE
from rope_xp.scaling import Custom, LongRoPE, Negated, YaRN
from rope_xp.scaling._yarn import gain_of
from rope_xp.testing import _defects
from rope_xp.testing._angles import Angles, Turns, follow, more_turns, turns, wrap
from rope_xp.testing._black_box import BlackBox, Implementation, RefusedError, RotationError
from rope_xp.testing._diagnosis import Diagnosis, PairList
from rope_xp.testing._match import Match, exponent_mistakes, match
from rope_xp.testing._match_axes import match_axes
from rope_xp.testing._match_length import match_length
from rope_xp.testing._measure import POSITIONS, Probe, probe
from rope_xp.testing._measured_pairs import frequencies_of
from rope_xp.testing._precision import classify, float32_bound, narrow_dtype
from rope_xp.testing._rounding import EPS, NARROW, ROUNDING, angle_roundings, rounded
from rope_xp.testing._structure import Layout, Structure, layout_of, structure

_LIMIT = 2**20
_NOTHING = 1e-13  # radians per step


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
    with np.errstate(all="ignore"):
        box = BlackBox(fn, head_dim, n_axes=n_axes, xp=xp, device=device)
    return diagnose_box(box, limit)


def diagnose_box(box: BlackBox, limit: int) -> Diagnosis:
    """The diagnosis of an implementation that takes positions up to ``limit``, whatever it does."""
    try:
        with np.errstate(all="ignore"):
            return _diagnose(box, limit)
    except (RefusedError, RotationError) as error:
        return Diagnosis(box.head_dim, remarks=(f"it could not be measured: {error}",))


def _diagnose(box: BlackBox, limit: int) -> Diagnosis:
    remembers = _remembers(Probe(box))
    probed = probe(box)
    wrong = ["the result depends on earlier calls"] if remembers else [*probed.remarks]
    probes = [replace_axis(probed.probe, axis) for axis in range(box.n_axes or 1)]
    matrices = [probed.matrices, *(each.matrices(POSITIONS) for each in probes[1:])]
    if not np.all(np.isfinite(matrices)):
        return Diagnosis(box.head_dim, remarks=(*wrong, "results are not finite"))
    found = structure(np.concatenate(matrices))
    wrong += [*found.remarks, *_defects.features_alone(found, matrices)]
    notes: list[str] = []
    if not found.pairs:
        none = [] if wrong else ["nothing is rotated: x comes back as it is"]
        return Diagnosis(box.head_dim, remarks=(*wrong, *none, *notes))
    layout, outputs = _complete(found, box.head_dim)
    made = Diagnosis(
        box.head_dim,
        layout=layout.name or layout.pairs,
        output_layout=_defects.output_layout(layout.pairs, outputs, box.head_dim),
        rotary_dim=2 * len(layout.pairs),
        rotary_start=layout.start,
    )
    near = turns(probes[0], layout.pairs, outputs, [*POSITIONS])
    mixed = _defects.mixed_tables(near, layout, outputs)
    if mixed and box.n_axes is None:
        return replace(
            made,
            inv_freq=mixed[1],
            base=_defects.base_of_mixed(mixed[1]),
            remarks=(mixed[0], *wrong, *notes),
        )
    measured = [follow(each, layout.pairs, outputs, limit) for each in probes]
    last = min(each.last for each in measured)
    notes += dict.fromkeys(remark for each in measured for remark in each.remarks)
    for i, one in enumerate(probes):
        more = more_turns(one, layout.pairs, outputs, last)
        measured[i] = measured[i]._replace(turns=measured[i].turns.join(more))
    if not remembers and _differ(probes[0].matrices(POSITIONS), matrices[0]):
        wrong.append("the result depends on earlier calls")
    notes += _other_dtypes(probes[0], layout.pairs, outputs, last)
    notes += ["x is changed in place"] if any(each.overwrites for each in probes) else []
    made = replace(made, max_position=last)
    together = measured[0].turns
    for each in measured[1:]:
        together = together.join(each.turns)
    wrong += _defects.not_rotations(together, layout.pairs)
    factor = _defects.attention_factor(near)
    wrong += _defects.changing_norms(together, factor)
    made = replace(made, attention_factor=factor)
    finish = _finish if box.n_axes is None else _finish_axes
    return finish(made, layout, measured, wrong, notes)


def replace_axis(probe: Probe, axis: int) -> Probe:
    return Probe(probe.box, axis, arrangement=probe.arrangement, in_order=probe.in_order)


def _other_dtypes(probe: Probe, pairs: PairList, outputs: PairList, last: int) -> Iterator[str]:
    """Dtypes of x that come back as others, or whose angles are not those of float32."""
    at = [p for p in (*POSITIONS, 255, 257, 1023, 2051) if p <= last]
    wanted = turns(probe, pairs, outputs, at)
    size = float(np.max(np.abs(np.stack(wanted[1:]))))
    for dtype in ("float32", *probe.box.dtypes()):
        other = Probe(probe.box, arrangement=probe.arrangement, in_order=probe.in_order)
        other.dtype = dtype
        try:
            found = turns(other, pairs, outputs, at)
        except RefusedError:
            continue
        if other.dtypes[dtype] != dtype:
            yield f"x of {dtype} comes back as {other.dtypes[dtype]}"
        off = float(np.max(np.abs(np.stack(found[1:]) - np.stack(wanted[1:]))))
        if off > 4 * max(ROUNDING[dtype], 2.0**-12) * size:
            yield f"x of {dtype} is rotated otherwise than x of float32: cos and sin are off by {off:.2g}"


def _remembers(probe: Probe) -> bool:
    """Whether two calls that are alike give different results."""
    x = np.random.default_rng(0).standard_normal((2, 3, len(POSITIONS), probe.box.head_dim))
    once, again = (probe.answer(x, np.asarray(POSITIONS)) for _ in range(2))
    return _differ(once, again)


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.max(np.abs(a - b)) > 1e-6 * max(1.0, float(np.max(np.abs(a)))))


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


def _finish(
    made: Diagnosis, layout: Layout, measured: list[Angles], wrong: list[str], notes: list[str]
) -> Diagnosis:
    """Base, schedule and precision of one axis."""
    (angles,) = measured
    signed = np.where(np.abs(angles.inv_freq) < _NOTHING, 0.0, angles.inv_freq)
    direction = -1 if np.all(signed <= 0) and np.any(signed) else 1
    wrong += _defects.moved_positions(angles.start, signed)
    own, factor = signed * direction, made.attention_factor
    found = _match(own, _errors(angles, own), made.max_position, factor, angles.turns)
    notes += found.remarks
    if angles.longer:
        longer = [each._replace(inv_freq=direction * each.inv_freq) for each in angles.longer]
        follows = match_length(found.base, own, longer, factor)
        found = found if follows is None else found._replace(scaling=follows)
    ideal = frequencies_of(found.scaling, made.rotary_dim, found.base or 1e4)
    ideal = own if ideal is None else ideal
    precision = classify(angles.turns, angles.start, direction * ideal, factor)
    if precision.is_wrong:
        wrong.append(
            f"angles are not positions times frequencies: they are off by {precision.error:.3g}"
        )
    if found.base is not None and found.scaling is None and len(own) > 1:
        notes += exponent_mistakes(found.base, made.rotary_dim, made.head_dim)
    if isinstance(found.scaling, YaRN) and math.isclose(
        factor, gain_of(found.scaling.factor, 1.0) ** 2, rel_tol=1e-6
    ):
        notes.append("the attention factor is the square of YaRN's: it is applied twice")
    made = replace(
        made,
        direction=direction,
        inv_freq=own,
        base=found.base,
        scaling=found.scaling,
        precision=precision.name,
        angle_error=precision.error,
    )
    nearest = None
    if layout.name is not None:
        nearest = _rope(made)
        if nearest is None:
            wrong.append(f"no schedule has these frequencies and the factor {factor:.9g}")
    return _with_rope(made, nearest, wrong, notes)


def _with_rope(
    made: Diagnosis, nearest: RoPE | None, wrong: list[str], notes: list[str]
) -> Diagnosis:
    if isinstance(made.output_layout, tuple):
        wrong.append("features of the result are in another order than those of x")
    elif made.output_layout is not None:
        notes.append(f"features of x are {made.layout}, those of the result {made.output_layout}")
    rope = None if wrong else nearest
    return replace(made, rope=rope, nearest=nearest, remarks=(*wrong, *notes))


def _errors(angles: Angles, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of frequencies whose angles are exact, and of those of float32."""
    size = np.where(own != 0, np.abs(own), 1.0)
    turned = angles.last * size
    read = 2.0**-22 / turned
    if not np.any(angles.start):  # a small sine is as precise as a large one
        read = np.minimum(read, 2.0**-22)
    single = EPS * angle_roundings(size) + read
    return (read + 1e-13 if _is_exact(angles) else single), single


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
) -> Match:
    """Base and schedule by the smallest errors of frequencies that leave a base."""
    width = 2 * len(own)
    if np.any(own < 0):
        return Match(
            None,
            Custom(tuple(map(float, own))),
            ("pairs turn in both directions, or by more than π a step",),
        )
    tables = narrow_dtype(turns.first_first) or narrow_dtype(turns.first_first / factor)
    loose, size = errors[1], np.where(own > 0, own, 1.0)
    if tables:
        loose = loose + 4 * ROUNDING[tables] * np.minimum(1.0, 1 / (last * size))
    else:
        for each in errors:
            found = match(own, each, width, factor)
            if found.base is not None:
                return found
    for dtype in NARROW:
        steps = rounded(own, dtype)
        if np.any(own) and np.all(np.abs(steps - own) <= 2 * loose * own):
            near = match(own, np.full(len(own), 2 * ROUNDING[dtype]), width, factor)
            made = None if near.base is None else frequencies_of(near.scaling, width, near.base)
            if made is not None and np.mean(rounded(made, dtype) == steps) > 0.9:
                return near
    return match(own, loose, width, factor)


def _finish_axes(
    made: Diagnosis, layout: Layout, measured: list[Angles], wrong: list[str], notes: list[str]
) -> Diagnosis:
    """Scheme, base and schedule of several axes, and the worst precision of them."""
    signed = np.stack([each.inv_freq for each in measured])  # (n_axes, n_pairs)
    own = np.where(np.abs(signed) < _NOTHING, 0.0, signed)
    factor, start = made.attention_factor, measured[0].start
    wrong += _defects.moved_positions(start, own[0])
    both = [_errors(each, row) for each, row in zip(measured, own, strict=True)]
    rope = None
    for errors in zip(*both, strict=True):
        if rope is None:
            rope = match_axes(own, np.stack(errors), layout.pairs, made.head_dim, factor)
    ideal = own if rope is None else np.asarray(rope.frequencies().inv_freq)
    each = [
        classify(angles.turns, start, row, factor)
        for angles, row in zip(measured, ideal, strict=True)
    ]
    worst = max(each, key=lambda precision: precision.error)
    if worst.is_wrong:
        wrong.append(
            f"angles are not positions times frequencies: they are off by {worst.error:.3g}"
        )
    made = replace(
        made, inv_freq=own, precision=worst.name, angle_error=worst.error,
        direction=-1 if np.all(own <= 0) and np.any(own) else 1,
    )  # fmt: skip
    if rope is not None:
        if worst.name == "float32":
            rope = replace(rope, precision="float32")
        made = replace(
            made, layout=rope.layout, base=rope.base, scaling=rope.scaling, axes=rope.axes
        )
    return _with_rope(made, rope, wrong, notes)


def _rope(made: Diagnosis) -> RoPE | None:
    """The encoding with these fields; None where no schedule has the factor."""
    width, start, factor = made.rotary_dim, made.rotary_start, made.attention_factor
    base, scaling = 1e4 if made.base is None else made.base, cast(Any, made.scaling)
    own = frequencies_of(scaling, width, base)
    given = 1.0
    if scaling is not None:
        given = scaling(width, base, seq_len=None, precision="exact").attention_factor
    if abs(given - factor) > 1e-6 * factor:
        if scaling is None and base != 1:
            scaling = YaRN(1.0, 2048, attention_factor=factor)
        elif own is not None and np.all(own > 0):
            plain = np.asarray(frequencies_of(None, width, base))
            divisors = tuple(map(float, plain / own))
            scaling = LongRoPE(divisors, divisors, 2048, attention_factor=factor)
        else:
            return None
    if made.direction < 0:
        scaling = Negated(scaling)
    options: dict[str, Any] = {"base": base, "scaling": scaling}
    if width != made.head_dim - start:
        options["rotary_dim"] = width
    if start:
        options["rotary_start"] = start
    if made.precision == "float32":
        options["precision"] = made.precision
    return RoPE(made.head_dim, layout=cast(Any, made.layout), **options)
