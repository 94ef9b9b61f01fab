"""One attention of a model: how its queries and keys turn, and where its config says something else."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from rope_xp._backends.torch_modules import Scored
from rope_xp.configs._compare import blocks_of, n_axes_of
from rope_xp.configs._explain import short_repr
from rope_xp.configs._summary import Layer
from rope_xp.layouts._pairs import Layout, pair_features
from rope_xp.rope import RoPE
from rope_xp.testing import _turns
from rope_xp.testing._angles import wrap
from rope_xp.testing._measured_pairs import base_of
from rope_xp.testing._model_runs import Run
from rope_xp.testing._rounding import NARROW, ROUNDING, rounded
from rope_xp.testing._structure import layout_of
from rope_xp.testing._turns import Pairs

# The relative error of a query or key: what a chain of layers leaves of float32, and one rounding.
_NOISE = {dtype: ROUNDING[dtype] for dtype in NARROW}
_FLOAT32 = 2.0**-18


class Facts(NamedTuple):
    """The fields of `LayerDiagnosis` that are seen, in its order."""

    rotates: bool | None
    layout: Layout | None = None
    output_layout: Layout | None = None
    direction: int = 1
    head_dim: int = 0
    rotary_dim: int = 0
    rotary_start: int = 0
    inv_freq: tuple[float, ...] = ()
    base: float | None = None
    attention_factor: float | None = None


class Seen(NamedTuple):
    """What was seen of a layer, and what is findings of it."""

    facts: Facts
    differences: list[str]
    remarks: list[str]


class Subject(NamedTuple):
    """The attention that is looked at.

    Parameters
    ----------
    name : str
    runs : list of Run
        The first one is within the original context.
    head_dim : int
    noise : float
        The relative error of a query or key.
    """

    name: str
    runs: list[Run]
    head_dim: int
    noise: float

    def scored(self, run: Run) -> Scored:
        """Its queries and keys in a run."""
        return next(each for each in run.scored if each.name == self.name)


class Findings(NamedTuple):
    """Sentences."""

    differences: list[str]
    remarks: list[str]


class Order(NamedTuple):
    """In which order a function returns the features of a head, and by what it multiplies them.

    ``source[j]`` is the feature that it returns as feature j; others keep their places.
    """

    source: dict[int, int]
    factor: float


def look(name: str, layer: Layer, runs: list[Run]) -> Seen:
    """What the attention ``name`` does, and where that is not what ``layer`` says."""
    first = next(s for s in runs[0].scored if s.name == name)
    noise = _NOISE.get(first.dtype, _FLOAT32)
    head_dim = first.k.shape[-1]
    subject = Subject(
        name, [r for r in runs if name in {s.name for s in r.scored}], head_dim, noise
    )
    unseen = Facts(None, head_dim=head_dim)
    broken = [s.name for s in runs[0].scored if not np.isfinite([s.q.sum(), s.k.sum()]).all()]
    if name in broken:
        text = "its queries and keys are not finite, so nothing can be seen of them"
        if name != broken[0]:  # in the order in which they ran
            return Seen(unseen, [], [f"{text}, after those of {broken[0]}"])
        return Seen(unseen, [text], [])
    if not (first.k.any() and first.q.any()):
        which = "queries" if first.k.any() else "keys"
        return Seen(unseen, [], [f"its {which} are all zero, so nothing can be seen of them"])
    turns = _turns.find_turns(first.k, noise)
    if turns.unclear:
        text = (
            "its keys change with the position otherwise than by turning pairs (features "
            f"{_listed(turns.unclear)} of {head_dim}), so its rotation could not be seen"
        )
        return Seen(unseen, [], [text])
    findings = _scales(subject, layer)
    if turns.pairs:
        return _compare(subject, layer.rope, turns.pairs, findings)
    if layer.rope is not None:
        findings.differences.insert(0, "it does not rotate, the config says that it does")
    return Seen(Facts(False, head_dim=head_dim), *findings)


def _compare(subject: Subject, rope: RoPE | None, pairs: Pairs, findings: Findings) -> Seen:
    """What the pairs that turn are, and where that is not what the config says."""
    run, head_dim = subject.runs[0], subject.head_dim
    differences, remarks = findings
    shift = 0 if rope is None else _shift(rope, head_dim, pairs)
    order = _order(subject, pairs, rope, shift)
    wanted = () if rope is None else _wanted(rope, shift)
    returned = _returned(wanted, order)
    is_same = rope is not None and _is_same_pairs(subject, pairs, returned, rope)
    # As the config has them, with those that turn too slowly to be seen.
    used, inputs = (returned, wanted) if is_same else (pairs, _inputs(pairs, order))
    angle = _turns.angles(subject.scored(run).k, used)
    inv_freq = _turns.rate(angle, run.positions)
    direction = _sign(inv_freq) * (-1 if all(a > b for a, b in inputs) else 1)
    layout = rope.layout if rope is not None and is_same else _name(inputs, head_dim)
    features = sorted(feature for pair in inputs for feature in pair)
    factor = order.factor if order is not None else _factor_of_table(run, angle)
    facts = Facts(
        True,
        layout,
        layout if used == inputs else _name(used, head_dim),
        direction,
        head_dim,
        len(features) if rope is None or not is_same else rope.rotary_dim,
        features[0] if rope is None or not is_same else rope.rotary_start + shift,
        tuple(map(float, inv_freq * direction)),
        base_of(inv_freq * direction, 1e-3),
        factor,
    )
    if order is None:
        remarks.append(
            "no function that rotates was found by its name, so it could not be seen whether features are "
            "in another order before" + ("; nor the attention factor" if factor is None else "")
        )
    if rope is None:
        differences.insert(0, "it rotates, the config says that it does not")
        return Seen(facts, differences, remarks)
    if not is_same:
        differences.append(_other_pairs(facts, rope, (inputs, wanted), shift))
    frequencies = rope.frequencies(run.seq_len)
    turns_back = direction != _sign(_text_frequencies(rope, run.seq_len))
    if turns_back:
        differences.append("it turns backwards, by the negative of each angle")
    if len(used) == rope.n_pairs:
        differences += _frequency_differences(subject, rope, used, -1 if turns_back else 1)
    says = frequencies.attention_factor
    if factor is not None and abs(factor - says) > max(4 * subject.noise, 1e-4) * says:
        differences.append(f"attention factor {factor:.5g}, the config says {says:.5g}")
    return Seen(facts, differences, remarks)


def _name(pairs: Pairs, head_dim: int) -> Layout | None:
    """The layout that has these pairs, of which the features may be exchanged."""
    return cast("Layout | None", layout_of([(min(p), max(p)) for p in pairs], head_dim).name)


def _sign(inv_freq: np.ndarray) -> int:
    return -1 if inv_freq[np.argmax(np.abs(inv_freq))] < 0 else 1


def _shift(rope: RoPE, head_dim: int, pairs: Pairs) -> int:
    """Where the features that the config describes begin in a head: at the end, with latent attention."""
    end = head_dim - rope.head_dim
    return end if 0 < end <= min(feature for pair in pairs for feature in pair) else 0


def _wanted(rope: RoPE, shift: int) -> Pairs:
    return pair_features(rope.layout, rope.rotary_start + shift, blocks_of(rope))


def _order(subject: Subject, pairs: Pairs, rope: RoPE | None, shift: int) -> Order | None:
    """The order in which the function that rotates returns keys; None: none was seen."""
    run = subject.runs[0]
    keys = subject.scored(run).k[0]
    found = [each for each in run.applied[::-1] if each.name == subject.name]
    # Keys come after queries. That which made these keys, if they are as they were returned.
    for each in sorted(found, key=lambda each: not _is_part(each.after, keys)):
        width = each.before.shape[-1]
        made = _turns.reordered(each.before, each.after)
        if made is None or width > subject.head_dim:
            continue
        start = 0
        if width < subject.head_dim:
            start = min(feature for pair in pairs for feature in pair)
            if rope is not None and width == rope.head_dim:
                start = shift
        source = {start + j: start + feature for j, feature in enumerate(made[0])}
        return Order(source, made[1])
    return None


def _is_part(after: np.ndarray, keys: np.ndarray) -> bool:
    """Whether features of ``keys``, next to each other, are what a function returned."""
    width = after.shape[-1]
    bound = 1e-3 * np.abs(after).max()
    return any(
        bool((np.abs(keys[:, i : i + width] - after[0]).max(axis=1) <= bound).any())
        for i in range(keys.shape[-1] - width + 1)
    )


def _returned(pairs: Pairs, order: Order | None) -> Pairs:
    """Where features of pairs are after the function."""
    place = {} if order is None else {source: j for j, source in order.source.items()}
    return tuple((place.get(a, a), place.get(b, b)) for a, b in pairs)


def _inputs(pairs: Pairs, order: Order | None) -> Pairs:
    """Where features of pairs were before the function."""
    source = {} if order is None else order.source
    return tuple((source.get(a, a), source.get(b, b)) for a, b in pairs)


def _is_same_pairs(subject: Subject, pairs: Pairs, returned: Pairs, rope: RoPE) -> bool:
    """Whether those that turn are those of the config, but for what turns too slowly to be seen."""
    run = subject.runs[0]
    found, says = ({tuple(sorted(p)) for p in each} for each in (pairs, returned))
    speed = np.abs(_text_frequencies(rope, run.seq_len))
    slow = {
        tuple(sorted(pair))
        for pair, w in zip(returned, speed, strict=True)
        if w * run.positions[-1] < 64 * subject.noise
    }
    return found <= says and says - found <= slow


def _text_frequencies(rope: RoPE, seq_len: int | None) -> np.ndarray:
    matrix = np.atleast_2d(rope.frequencies(seq_len).inv_freq)
    return np.asarray(matrix.sum(axis=0))


def _other_pairs(facts: Facts, rope: RoPE, pairs: tuple[Pairs, Pairs], shift: int) -> str:
    found, wanted = pairs
    start = rope.rotary_start + shift
    if facts.layout is not None and facts.layout != rope.layout:
        texts = {
            "half": f"half (i with i + {facts.rotary_dim // 2})",
            "interleaved": "interleaved (2i with 2i + 1)",
        }
        if rope.layout == "half":
            texts["half"] = f"half (i with i + {blocks_of(rope)[0] // 2})"
        return f"the pairs are {texts[facts.layout]}, the config says {texts[rope.layout]}"
    if (facts.rotary_dim, facts.rotary_start) != (rope.rotary_dim, start):
        return (
            f"{facts.rotary_dim} of {facts.head_dim} features rotate, from {facts.rotary_start} on, the "
            f"config says {rope.rotary_dim} from {start} on"
        )
    return f"the pairs are {_listed(found)}, the config says {_listed(wanted)}"


def _factor_of_table(run: Run, angle: np.ndarray) -> float | None:
    """The attention factor of the table that has the same angles; None: there is none."""
    n = angle.shape[1]
    for table in run.tables:
        turned = np.arctan2(table.sin, table.cos)
        if turned.shape[-1] not in (n, 2 * n):
            continue
        for columns in (turned[:, :n], turned[:, :: turned.shape[-1] // n]):
            apart = np.abs(wrap(np.abs(columns) - np.abs(angle)))
            if apart.max() < 0.05:
                return float(np.sqrt(np.mean(table.cos**2 + table.sin**2)))
    return None


def _scales(subject: Subject, layer: Layer) -> Findings:
    """Whether the lengths of queries depend on the position as the query scale says."""
    for run in subject.runs:
        if run.axis is not None:
            continue
        lengths = np.sqrt(np.sum(subject.scored(run).q ** 2, axis=(1, 2)))
        found = lengths / (lengths[0] or 1.0)
        says = np.ones(len(found))
        if layer.query_scale is not None:
            says = np.asarray(layer.query_scale(run.positions), dtype=np.float64)
            says = says / says[0]
        bound = max(8 * subject.noise, 1e-4)
        off = np.abs(found - says) / says
        if off.max() <= bound:
            continue
        if np.abs(found - 1).max() <= bound:
            text = (
                "the query scale of the config could not be seen: queries are the same at all position_ids, "
                "as where a model counts tokens instead"
            )
            return Findings([], [text])
        i = int(np.argmax(off))
        text = (
            f"queries at position {run.positions[i]:,} are {found[i]:.4g} times those at 0, the config "
            f"says {says[i]:.4g}"
        )
        return Findings([text], [])
    return Findings([], [])


def _frequency_differences(subject: Subject, rope: RoPE, pairs: Pairs, direction: int) -> list[str]:
    """Of keys in each run, and of queries in comparison with them."""
    differences: list[str] = []
    for run in subject.runs:
        where = "" if run.seq_len is None else f"at {run.seq_len:,} tokens: "
        if run.axis is not None:
            if run.axis >= n_axes_of(rope) or rope.axes is None:
                continue
            where = f"on axis {run.axis}: "
        scored = subject.scored(run)
        angle = direction * _turns.angles(scored.k, pairs)
        text = _frequency_difference(rope, run, angle, subject.noise)
        if text and not any(each.endswith(text) for each in differences):
            differences.append(where + text)
        if scored.q.shape[-1] == scored.k.shape[-1]:
            queries = direction * _turns.angles(scored.q, pairs)
            apart = np.abs(wrap(queries - angle))
            if apart.max() > 32 * subject.noise:
                row, pair = np.unravel_index(int(np.argmax(apart)), apart.shape)
                differences.append(
                    f"{where}queries and keys turn by different angles: pair {pair} by "
                    f"{queries[row, pair]:.4g} and {angle[row, pair]:.4g} radians at position "
                    f"{run.positions[row]:,}"
                )
    return differences


def _frequency_difference(rope: RoPE, run: Run, angle: np.ndarray, noise: float) -> str:
    """What differs in the angles of a run; empty if nothing does."""

    def at(made: RoPE) -> np.ndarray:
        if run.axis is None:
            return _text_frequencies(made, run.seq_len)
        return np.asarray(made.frequencies(run.seq_len).inv_freq[run.axis])

    def off(inv_freq: np.ndarray, positions: np.ndarray = run.positions) -> np.ndarray:
        bound = _turns.allowed(run.positions, inv_freq, 8 * noise)
        apart: np.ndarray = np.abs(_turns.apart(angle, positions, inv_freq)) / bound
        return apart

    says = at(rope)
    if off(says).max() <= 1:
        return ""
    found = _turns.rate(angle, run.positions)
    scale = np.maximum(np.abs(found), np.abs(says))
    relative = np.abs(found - says) / np.where(scale > 0, scale, 1.0)
    clear = off(says).max(axis=0) > 1
    # The first of those that differ most, so that layers that are alike have the same sentence.
    pair = int(np.argmax(clear & (relative >= 0.8 * np.max(relative[clear]))))
    turns = (
        f"pair {pair} turns by {found[pair]:.4g} radians a step, the config says {says[pair]:.4g}"
    )
    for dtype in NARROW:
        coarse = _rounded(run.positions.astype(np.float64), dtype)
        if (coarse != run.positions).any() and off(says, coarse).max() <= 1:
            row = int(np.argmax(off(says).max(axis=1)))
            return f"positions are rounded to {dtype}: {run.positions[row]:,} to {coarse[row]:,.0f}"
        if off(_rounded(says, dtype)).max() <= 1:
            return f"inv_freq was rounded to {dtype}: {turns}"
    if rope.scaling is not None and off(at(replace(rope, scaling=None))).max() <= 1:
        return f"the schedule {_schedule(rope)} is not applied: {turns}"
    base = base_of(found, 1e-3) if run.axis is None else None
    if base is not None and abs(base - rope.base) > 1e-3 * rope.base:
        schedule = "" if rope.scaling is None else f" and {_schedule(rope)}"
        return f"base {base:,.10g}, the config says {rope.base:,.10g}{schedule}: {turns}"
    ratio = np.divide(found, says, out=np.ones_like(found), where=says != 0)
    middle = float(np.median(ratio))
    if abs(middle - 1) > 1e-3 and off(says * middle).max() <= 1:
        return f"all pairs turn {middle:.6g} times as fast as the config says: {turns}"
    return f"{np.count_nonzero(clear)} of {len(says)} pairs turn at other rates: {turns}"


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values in ``dtype``; those that are beyond its range stay as they are."""
    made = rounded(values, dtype)
    return np.where(np.isfinite(made), made, values)


def _schedule(rope: RoPE) -> str:
    made = rope.scaling if isinstance(rope.scaling, tuple) else (rope.scaling,)
    return ", ".join(map(short_repr, made))


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values[:4])) + (", …" if len(values) > 4 else "")
