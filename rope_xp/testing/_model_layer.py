"""One attention of a model: how its queries and keys turn, and where its config says something else."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rope_xp.configs._compare import blocks_of, n_axes_of
from rope_xp.configs._explain import short_repr
from rope_xp.configs._summary import Layer
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE
from rope_xp.testing import _turns
from rope_xp.testing._mistakes import rounded
from rope_xp.testing._model_runs import Run
from rope_xp.testing._turns import Pairs

# The relative error of a query or key: what a chain of layers leaves of float32, and one rounding.
_NOISE = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
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
    """What was seen of a layer, and what is said of it."""

    facts: Facts
    differences: list[str]
    remarks: list[str]


class Said(NamedTuple):
    """Sentences."""

    differences: list[str]
    remarks: list[str]


class Order(NamedTuple):
    """In which order a function returns the features of a head, and by what it multiplies them.

    ``source[j]`` is the feature that it returns as feature j; others keep their places.
    """

    source: dict[int, int]
    factor: float


def look(name: str, layer: Layer, runs: list[Run], of_slice: str) -> Seen:
    """What the attention ``name`` does, and where that is not what ``layer`` says."""
    scored = next(s for s in runs[0].scored if s.name == name)
    noise = _NOISE.get(scored.dtype, _FLOAT32)
    head_dim = scored.k.shape[-1]
    broken = [
        s.name for s in runs[0].scored if not (np.isfinite(s.q).all() and np.isfinite(s.k).all())
    ]
    if name in broken:
        text = "its queries and keys are not finite, so nothing can be seen of them"
        if name != broken[0]:  # in the order in which they ran
            return Seen(Facts(None, head_dim=head_dim), [], [f"{text}, after those of {broken[0]}"])
        return Seen(Facts(None, head_dim=head_dim), [text], [])
    turns = _turns.find_turns(scored.k, noise)
    if turns.unclear:
        text = (
            f"its keys change with the position otherwise than by turning pairs (features "
            f"{_listed(turns.unclear)} of {head_dim}), so its rotation could not be seen"
        )
        return Seen(Facts(None, head_dim=head_dim), [], [text])
    said = _scale_differences(name, layer, runs, noise)
    differences = said.differences
    if not turns.pairs:
        if layer.rope is not None:
            differences.insert(0, "it does not rotate, the config says that it does")
        return Seen(Facts(False, head_dim=head_dim), differences, said.remarks)
    return _compare(name, layer.rope, runs, turns.pairs, head_dim, noise, said, of_slice)


def _compare(
    name: str,
    rope: RoPE | None,
    runs: list[Run],
    pairs: Pairs,
    head_dim: int,
    noise: float,
    said: Said,
    of_slice: str,
) -> Seen:
    run = runs[0]
    scored = next(s for s in run.scored if s.name == name)
    differences, remarks = said
    shift = 0 if rope is None else _shift(rope, head_dim, pairs)
    order = _order(name, run, pairs, head_dim, rope, shift)
    wanted = () if rope is None else _wanted(rope, shift)
    returned = _returned(wanted, order)
    turned = (
        None if rope is None or not returned else _missing_turn(pairs, returned, rope, run, noise)
    )
    has_pairs = turned is not None and not turned
    # As the config has them, with those that turn too slowly to be seen.
    used = returned if has_pairs else pairs
    angle, _ = _turns.angles(scored.k, used)
    inv_freq = _turns.rate(angle, run.positions)
    inputs = wanted if has_pairs else _inputs(used, order)
    layout = rope.layout if rope is not None and has_pairs else _turns.name_layout(inputs)
    flips = [pair[0] > pair[1] for pair in inputs]
    direction = -1 if inv_freq[np.argmax(np.abs(inv_freq))] * (-1 if all(flips) else 1) < 0 else 1
    inv_freq = inv_freq * direction
    factor, how = _factor(name, run, order, used, angle)
    features = sorted(feature for pair in inputs for feature in pair)
    rotary_dim, rotary_start = len(features), features[0]
    if rope is not None and has_pairs:
        rotary_dim, rotary_start = rope.rotary_dim, rope.rotary_start + shift
    facts = Facts(
        True,
        layout,
        layout if used == inputs else _turns.name_layout(used),
        direction,
        head_dim,
        rotary_dim,
        rotary_start,
        tuple(map(float, inv_freq)),
        _turns.geometric_base(inv_freq),
        factor,
    )
    if rope is None:
        return Seen(facts, ["it rotates, the config says that it does not", *differences], remarks)
    if shift and not of_slice:
        remarks.append(
            f"heads have {head_dim} features, of which the config describes the last {rope.head_dim}"
        )
    if not has_pairs:
        differences.append(_other_pairs(facts, rope, inputs, wanted, shift, head_dim))
    if direction < 0:
        differences.append("it turns backwards: angles are negative")
    if len(used) == rope.n_pairs:
        differences += _frequency_differences(name, rope, runs, used, direction, noise)
    if factor is None:
        remarks.append(how)
    else:
        says = rope.frequencies(run.seq_len).attention_factor
        if abs(factor - says) > max(4 * noise, 1e-4) * says:
            differences.append(f"attention factor {factor:.6g}, the config says {says:.6g}")
    return Seen(facts, differences, remarks)


def _shift(rope: RoPE, head_dim: int, pairs: Pairs) -> int:
    """Where the features that the config describes begin in a head: at the end, with latent attention."""
    first = min(feature for pair in pairs for feature in pair)
    last = max(feature for pair in pairs for feature in pair)
    end = head_dim - rope.head_dim
    if end <= 0 or last < rope.head_dim:
        return 0
    return end if first >= end else 0


def _wanted(rope: RoPE, shift: int) -> Pairs:
    return _turns.layout_pairs(rope.layout, rope.rotary_start + shift, blocks_of(rope))


def _order(
    name: str, run: Run, pairs: Pairs, head_dim: int, rope: RoPE | None, shift: int
) -> Order | None:
    """The order in which the function that rotates returns keys; None: none was seen."""
    keys = next(s.k[0] for s in run.scored if s.name == name)
    found = [each for each in run.applied if each.name == name]
    # That which made these keys, if they are as they were returned; else the last, for keys come after queries.
    for _, _, before, after in sorted(found[::-1], key=lambda each: not _is_part(each.after, keys)):
        width = before.shape[-1]
        made = _turns.reordered(before, after)
        if made is None or width > head_dim:
            continue
        start = 0
        if width < head_dim:
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
    if order is None:
        return pairs
    place = {source: j for j, source in order.source.items()}
    return tuple((place.get(a, a), place.get(b, b)) for a, b in pairs)


def _inputs(pairs: Pairs, order: Order | None) -> Pairs:
    """Where features of pairs were before the function."""
    if order is None:
        return pairs
    return tuple((order.source.get(a, a), order.source.get(b, b)) for a, b in pairs)


def _missing_turn(
    pairs: Pairs, returned: Pairs, rope: RoPE, run: Run, noise: float
) -> set[tuple[int, ...]]:
    """Pairs of one side that the other lacks, unless they turn too slowly to be seen."""
    found, says = ({tuple(sorted(p)) for p in each} for each in (pairs, returned))
    speed = np.abs(_text_frequencies(rope, run.seq_len))
    slow = {
        tuple(sorted(pair))
        for pair, w in zip(returned, speed, strict=True)
        if w * run.positions[-1] < 64 * noise
    }
    return (found - says) | (says - found - slow)


def _text_frequencies(rope: RoPE, seq_len: int | None) -> np.ndarray:
    matrix = np.atleast_2d(rope.frequencies(seq_len).inv_freq)
    return np.asarray(matrix.sum(axis=0))


def _other_pairs(
    facts: Facts, rope: RoPE, inputs: Pairs, wanted: Pairs, shift: int, head_dim: int
) -> str:
    start = rope.rotary_start + shift
    if facts.layout is not None and facts.layout != rope.layout:
        texts = {
            layout: f"{layout} ({'i with i + ' + str(n // 2) if layout == 'half' else '2i with 2i + 1'})"
            for layout, n in ((facts.layout, facts.rotary_dim), (rope.layout, rope.rotary_dim))
        }
        return f"the pairs are {texts[facts.layout]}, the config says {texts[rope.layout]}"
    if (facts.rotary_dim, facts.rotary_start) != (rope.rotary_dim, start):
        return (
            f"{facts.rotary_dim} of {head_dim} features rotate, from {facts.rotary_start} on, the config says "
            f"{rope.rotary_dim} from {start} on"
        )
    return f"the pairs are {_listed(inputs)}, the config says {_listed(wanted)}"


def _factor(
    name: str, run: Run, order: Order | None, pairs: Pairs, angle: np.ndarray
) -> tuple[float | None, str]:
    """The attention factor: of the function that rotates, or else of the table with the same angles."""
    if order is not None:
        return order.factor, ""
    for table in run.tables:
        turned = np.angle(np.exp(1j * np.arctan2(table.sin, table.cos)))
        if turned.shape[-1] not in (len(pairs), 2 * len(pairs)):
            continue
        columns = turned[:, : len(pairs)]
        if np.abs(np.angle(np.exp(1j * (np.abs(columns) - np.abs(angle))))).max() < 0.05:
            return float(np.sqrt(np.mean(table.cos[0] ** 2 + table.sin[0] ** 2))), ""
    return None, (
        "the attention factor could not be seen, nor whether features are reordered before they rotate: "
        "no function that rotates was found by its name"
    )


def _scale_differences(name: str, layer: Layer, runs: list[Run], noise: float) -> Said:
    """Whether the lengths of queries depend on the position as the query scale says."""
    said = Said([], [])
    for run in runs:
        scored = next((s for s in run.scored if s.name == name), None)
        if scored is None or run.axis is not None:
            continue
        lengths = np.sqrt(np.sum(scored.q**2, axis=(1, 2)))
        found = lengths / (lengths[0] or 1.0)
        says = np.ones(len(found))
        if layer.query_scale is not None:
            says = np.asarray(layer.query_scale(run.positions), dtype=np.float64)
            says = says / says[0]
        bound = max(8 * noise, 1e-4)
        off = np.abs(found - says) / says
        if off.max() <= bound:
            continue
        if np.abs(found - 1).max() <= bound:
            text = "queries do not grow with position_ids, the config says that they do with the position"
            said.remarks.append(
                f"{text}: a model that counts tokens instead can not be told from one without"
            )
            break
        i = int(np.argmax(off))
        said.differences.append(
            f"queries at position {run.positions[i]:,} are {found[i]:.5g} times those at 0, the config "
            f"says {says[i]:.5g}"
        )
        break
    return said


def _frequency_differences(
    name: str, rope: RoPE, runs: list[Run], pairs: Pairs, direction: int, noise: float
) -> list[str]:
    """Of keys in each run, and of queries in comparison with them."""
    differences: list[str] = []
    for run in runs:
        scored = next((s for s in run.scored if s.name == name), None)
        if scored is None or (run.axis is not None and run.axis >= n_axes_of(rope)):
            continue
        where = "" if run.seq_len is None else f"at {run.seq_len:,} tokens: "
        where = where if run.axis is None else f"on axis {run.axis}: "
        if run.axis is not None and n_axes_of(rope) == 1:
            continue
        angle = direction * _turns.angles(scored.k, pairs)[0]
        text = _frequency_difference(rope, run, angle, noise)
        if text and not any(each.endswith(text) for each in differences):
            differences.append(where + text)
        if scored.q.shape[-1] == scored.k.shape[-1]:
            queries = direction * _turns.angles(scored.q, pairs)[0]
            apart = np.abs(np.angle(np.exp(1j * (queries - angle))))
            if apart.max() > 32 * noise:
                row, pair = np.unravel_index(int(np.argmax(apart)), apart.shape)
                differences.append(
                    f"{where}queries and keys turn by different angles: pair {pair} by {queries[row, pair]:.4g} "
                    f"and {angle[row, pair]:.4g} radians at position {run.positions[row]:,}"
                )
    return differences


def _frequency_difference(rope: RoPE, run: Run, angle: np.ndarray, noise: float) -> str:
    """What differs in the angles of a run; empty if nothing does."""

    def at(made: RoPE) -> np.ndarray:
        if run.axis is None:
            return _text_frequencies(made, run.seq_len)
        return np.asarray(made.frequencies(run.seq_len).inv_freq[run.axis])

    def off(inv_freq: np.ndarray) -> np.ndarray:
        bound = _turns.allowed(run.positions, inv_freq, 8 * noise)
        return np.abs(_turns.apart(angle, run.positions, inv_freq)) / bound

    says = at(rope)
    if off(says).max() <= 1:
        return ""
    found = _turns.rate(angle, run.positions)
    scale = np.maximum(np.abs(found), np.abs(says))
    relative = np.abs(found - says) / np.where(scale > 0, scale, 1.0)
    clear = off(says).max(axis=0) > 1
    pair = int(np.argmax(np.where(clear, relative, -1.0)))
    turns = (
        f"pair {pair} turns by {found[pair]:.6g} radians a step, the config says {says[pair]:.6g}"
    )
    for dtype in ("bfloat16", "float16"):
        if off(rounded(says, dtype)).max() <= 1:
            return f"inv_freq was rounded to {dtype}: {turns}"
    if rope.scaling is not None and off(at(replace(rope, scaling=None))).max() <= 1:
        return f"the schedule {_schedule(rope)} is not applied: {turns}"
    base = _turns.geometric_base(found) if run.axis is None else None
    if base is not None and abs(base - rope.base) > 1e-3 * rope.base:
        schedule = "" if rope.scaling is None else f" and {_schedule(rope)}"
        return f"base {base:,.10g}, the config says {rope.base:,.10g}{schedule}: {turns}"
    ratio = np.divide(found, says, out=np.ones_like(found), where=says != 0)
    middle = float(np.median(ratio))
    if abs(middle - 1) > 1e-3 and off(says * middle).max() <= 1:
        return f"all pairs turn {middle:.6g} times as fast as the config says: {turns}"
    return f"{np.count_nonzero(clear)} of {len(says)} pairs turn at other rates: {turns}"


def _schedule(rope: RoPE) -> str:
    many = isinstance(rope.scaling, tuple)
    return ", ".join(map(short_repr, rope.scaling)) if many else short_repr(rope.scaling)


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values[:4])) + (", …" if len(values) > 4 else "")
