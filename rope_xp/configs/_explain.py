"""What a config says about positions, as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from rope_xp import analysis
from rope_xp.configs._compare import blocks_of
from rope_xp.configs._summary import (
    ConfigOrRopes,
    Part,
    Summary,
    contexts,
    effective_inv_freq,
    read_kinds,
    unscaled,
)
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE

AXIS_NAMES = {2: ("row", "column"), 3: ("time", "row", "column")}


def explain(
    config_or_ropes: ConfigOrRopes,
    seq_len: int | None = None,
    *,
    layout: Layout | None = None,
    part: Part = "text",
) -> str:
    """What a config specifies about positions, as text: one table per kind of layer.

    Parameters
    ----------
    config_or_ropes : mapping, config object, path, RoPE, or sequence of RoPE or None
        A config as in `layer_ropes`, or encodings: one, or what `layer_ropes` returns.
    layout, part
        As in `layer_ropes`, for a config.
    seq_len : int, optional
        The length in use; matters only to schedules that depend on it. Default: within the original
        context.

    Returns
    -------
    str
        Which layers, pairing, rotated part, base, schedule, with several axes which pairs each drives
        and how far one turn is along it, factors on cos and sin and on the softmax scale, wavelengths
        in tokens per turn, how many pairs complete a turn within the original and the extended
        context, and what the schedule changed.

    Raises
    ------
    ValueError, TypeError
        As `layer_ropes`.

    Examples
    --------
    >>> print(explain({"model_type": "qwen3", "max_position_embeddings": 40960, "rope_theta": 1e6}))
    qwen3
    <BLANKLINE>
    all layers
      pairing           half: feature i turns with i + 64
      rotated part      the whole head, 128 features
      base              1,000,000
      schedule          default
      attention factor  1
      softmax factor    1
      wavelengths       6.28 to 5.06e+06 tokens per turn
      whole turns       41 of 64 pairs within 40,960 tokens
    """
    summary = read_kinds(config_or_ropes, layout, part)
    parts = [title(summary)] if summary.name or summary.has_layer_count else []
    n_layers = len(summary.layers)
    for label, (rope, query_scale, softmax_factor), numbers, reason in summary.kinds:
        where = f"layers {ranges(numbers)}" if summary.has_layer_count else "layers"
        if len(numbers) == n_layers:
            where = "all layers"
        name = where if label is None or where == "all layers" else f"{label}: {where}"
        rows = {"rotation": f"none: {reason}" if reason else "none"}
        if rope is not None:
            rows = _rows(rope, summary, seq_len)
        elif softmax_factor != 1:
            rows["softmax factor"] = f"{softmax_factor:.6g}"
        if query_scale is not None:
            rows["query scale"] = f"by position, {short_repr(query_scale)}"
        if rope is not None and rope.ranges is not None:
            rows["ranges"] = f"by distance, {short_repr(rope.ranges)}"
        parts.append("\n".join([name, *(f"  {name:<17} {text}" for name, text in rows.items())]))
    if summary.note is not None:
        parts.append(f"note: {summary.note}")
    return "\n\n".join(parts)


def title(summary: Summary) -> str:
    """The model, and how many layers it has."""
    if not summary.has_layer_count:
        return summary.name
    n_layers = len(summary.layers) // summary.attentions_per_layer
    count = f"{n_layers} layer" + "s" * (n_layers > 1)
    if summary.attentions_per_layer > 1:
        count += f" of {summary.attentions_per_layer} attentions each, {len(summary.layers)} in all"
    return f"{summary.name}: {count}" if summary.name else count


def ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 4] → '0-2, 4 (4)'; a long list is cut."""
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b != a + 1)]
    ends = [*(a for a, b in pairwise(numbers) if b != a + 1), numbers[-1]]
    ranges = [f"{a}-{b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    if len(ranges) > 8:
        ranges = [*ranges[:4], "…", ranges[-1]]
    return f"{', '.join(ranges)} ({len(numbers)})"


def _rows(rope: RoPE, summary: Summary, seq_len: int | None) -> dict[str, str]:
    frequencies = rope.frequencies(seq_len)
    matrix = np.asarray(frequencies.inv_freq)
    inv_freq = effective_inv_freq(matrix)
    lengths = analysis.wavelengths(inv_freq)
    unit = "tokens" if rope.axes is None else "steps"
    rows = {
        "pairing": pairing(rope),
        "rotated part": rotated_part(rope, summary.slice),
        "base": format_number(rope.base),
        "schedule": schedule_text(rope),
        **_axis_rows(rope, matrix),
        "attention factor": f"{frequencies.attention_factor:.6g}",
        "softmax factor": f"{frequencies.softmax_factor:.6g}",
        "wavelengths": f"{_span(lengths)} {unit} per turn",
    }
    original, extended = contexts(rope, summary.max_positions)
    ends = {"original": original, "extended": extended, "given": seq_len}
    if original == extended:  # no schedule, or one that does not say what it stretches
        ends = {"context": original, "given": seq_len}
    found = {name: length for name, length in ends.items() if length is not None}
    for name, length in found.items():
        whole = sum(analysis.turns(inv_freq, length) >= 1)
        key = "whole turns" if len(found) == 1 else f"turns, {name}"
        rows[key] = f"{whole} of {rope.n_pairs} pairs within {length:,} tokens"
    if rope.scaling is not None:
        rows["changed"] = _changes(rope, seq_len)
    return rows


def schedule_text(rope: RoPE) -> str:
    """The schedule as it prints."""
    return "default" if rope.scaling is None else short_repr(rope.scaling)


def pairing(rope: RoPE) -> str:
    """Which two features are a pair."""
    blocks = blocks_of(rope)
    pair = f"i turns with i + {blocks[0] // 2}" if rope.layout == "half" else "2i turns with 2i + 1"
    within = ", within the features of each axis" if len(blocks) > 1 else ""
    return f"{rope.layout}: feature {pair}{within}"


def rotated_part(rope: RoPE, of_slice: str = "") -> str:
    """Which features rotate; with latent attention, of which slice of the head."""
    if of_slice and rope.rotary_dim == rope.head_dim:
        return f"{rope.head_dim} features {of_slice}"
    if rope.rotary_dim == rope.head_dim:
        return f"the whole head, {rope.head_dim} features"
    return f"{rope.rotary_dim} of {rope.head_dim} features, from {rope.rotary_start} on"


def _axis_rows(rope: RoPE, matrix: np.ndarray) -> dict[str, str]:
    """With several axes: the scheme, and for each axis its pairs and how far one turn is along it."""
    if rope.axes is None:
        return {}
    shared = np.any(np.count_nonzero(matrix, axis=0) > 1)
    several = ", of which several drive a pair" if shared else ""
    rows = {"axes": f"{len(matrix)}{several}, by {short_repr(rope.axes)}"}
    names = AXIS_NAMES.get(len(matrix))
    for axis, pairs in enumerate(_pairs_of_axes(rope, matrix)):
        text = "no pairs"
        if pairs:
            span = _span(analysis.wavelengths(matrix[axis, pairs]))
            text = f"pairs {ranges(pairs)}, {span} steps per turn"
        rows[f"axis {axis}, {names[axis]}" if names else f"axis {axis}"] = text
    return rows


def _pairs_of_axes(rope: RoPE, matrix: np.ndarray) -> list[list[int]]:
    """The pairs of each axis, those that do not turn included where the scheme says whose they are."""
    axis_of_pair = getattr(rope.axes, "axis_of_pair", None)
    owners = None if axis_of_pair is None else axis_of_pair(rope.rotary_dim)
    if owners is None:
        return [[int(pair) for pair in np.flatnonzero(row)] for row in matrix]
    return [[i for i, owner in enumerate(owners) if owner == axis] for axis in range(len(matrix))]


def _span(lengths: np.ndarray) -> str:
    return f"{format_number(min(lengths))} to {format_number(max(lengths))}"


def format_number(value: float) -> str:
    """A base or a wavelength."""
    if math.isinf(value):
        return "without end"
    return f"{value:,.10g}" if value >= 100 and value == int(value) else f"{value:.3g}"


def short_repr(value: object) -> str:
    """A schedule or scheme as it prints, with its long lists cut and without what was not given."""
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        return repr(value)
    arguments = []
    for name in fields:
        argument = getattr(value, name)
        if isinstance(argument, tuple) and len(argument) > 3:
            arguments.append(f"{name}=({argument[0]:.4g}, …, {argument[-1]:.4g})")
        elif argument != fields[name].default:
            arguments.append(f"{name}={argument!r}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def _changes(rope: RoPE, seq_len: int | None) -> str:
    """How many pairs the schedule leaves, slows fully, slows in between, stops, or turns back."""
    before = [float(w) for w in unscaled(rope)]
    after = [abs(float(w)) for w in effective_inv_freq(rope.frequencies(seq_len).inv_freq)]
    slowed = [a / b for a, b in zip(before, after, strict=True) if b]
    most = max(slowed, default=1.0)
    same = sum(abs(s - 1) < 1e-9 for s in slowed)
    full = 0 if most - 1 < 1e-9 else sum(abs(s / most - 1) < 1e-9 for s in slowed)
    between = [s for s in slowed if abs(s - 1) >= 1e-9 and (abs(s / most - 1) >= 1e-9 or not full)]
    # A schedule for each axis has levels of its own, and blends nothing.
    less = "slowed less" if isinstance(rope.scaling, tuple) else "blended"
    counts = {
        f"{same} unchanged": same,
        f"{len(between)} {less}": len(between),
        f"{full} interpolated by {most:.4g}": full,
        f"{len(after) - len(slowed)} stopped": len(after) - len(slowed),
    }
    if between and full < 2:  # no level that pairs share: each has a factor of its own
        own = [*between, most] if full else between
        least, most = min(own), max(own)
        counts = {f"{same} unchanged": same, f"{len(own)} slowed by {least:.4g} to {most:.4g}": 1}
    return "pairs: " + ", ".join(text for text, count in counts.items() if count)
