"""A model's config.json, or GGUF metadata, to the `RoPE` of each of its layers; and what it means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rope_xp import analysis
from rope_xp._config_reader.layers import Layer, Model, read
from rope_xp.rope import RoPE

__all__ = ["explain", "from_config", "layer_ropes", "plot"]


def layer_ropes(
    config: Mapping[str, Any] | str | Path, *, layout: str | None = None, precision: str = "exact"
) -> tuple[RoPE | None, ...]:
    """The rotary encoding of every layer of a model.

    Parameters
    ----------
    config : mapping or path
        A ``config.json`` of transformers as a mapping (old style with ``rope_theta`` and
        ``rope_scaling``, or new with ``rope_parameters``), its path or its folder; or GGUF metadata,
        ``{name: field.contents()}`` of gguf's reader.
    layout : {"half", "interleaved"}, optional
        The pairing, instead of the one that the family has: needed for a ``model_type`` that is not
        in ``families.json``, or where weights were permuted.
    precision : {"exact", "float32"}
        As in `RoPE`.

    Returns
    -------
    tuple of RoPE or None
        One per layer; None where a layer does not rotate.

    Raises
    ------
    ValueError
        If a key is unknown, missing, contradictory or out of range, or the family is unknown.
    TypeError
        If ``config`` is neither a mapping nor a path.

    Notes
    -----
    Of a composite (text with images) it is the part of the language model that is read. Where that
    has positions with several axes, time, row and column, the result has ``axes``, and called without
    positions it turns text as an encoding of one axis does.

    Hand the ``vision_config`` for the vision tower: its positions are row and column, and with three
    axes time, row and column. They begin at 0, but for Llama 4 at 1, with the class token, the last
    one, at (0, 0); DINOv3's are the centres of patches in [−1, 1].

    Examples
    --------
    >>> config = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}
    >>> [rope is not None for rope in layer_ropes(config)]
    [True, True, True, False]
    """
    model = read(config, layout=layout, precision=precision)
    if not model.counted:
        key = "layer_types" if model.family.get("hybrid") else "num_hidden_layers"
        msg = f"`{key}` must be given to tell the layers apart, got nothing"
        raise ValueError(msg)
    return tuple(layer.rope for layer in model.layers)


def from_config(
    config: Mapping[str, Any] | str | Path,
    *,
    layer_type: str | None = None,
    layout: str | None = None,
    precision: str = "exact",
) -> RoPE:
    """The one rotary encoding of a model, or of its layers of one type: see `RoPE.from_config`."""
    model = read(config, layout=layout, precision=precision)
    labels = sorted({layer.label for layer in model.layers if layer.label})
    layers: Iterable[Layer] = model.layers
    kind = f"model_type {model.model_type!r}"
    if layer_type is not None:
        if layer_type not in labels:
            known = ", ".join(labels) or f"none, for all layers of {kind} are alike"
            msg = f"unknown layer_type {layer_type!r}; known: {known}"
            raise ValueError(msg)
        layers = [layer for layer in layers if layer.label == layer_type]
    found = {layer.rope for layer in layers if layer.rope is not None}
    if not found:
        switch = model.family.get("switch")
        why = f": `{switch[0]}` must be {switch[1]!r} for that" if switch else ""
        msg = f"`{layer_type or 'model_type'}` must rotate, but {kind} has no rotary encoding there{why}"
        raise ValueError(msg)
    if len(found) > 1 and layer_type is None and len(labels) > 1:
        msg = f"`layer_type` must be given for {kind}, whose layers differ: {', '.join(labels)}"
        raise ValueError(msg)
    if len(found) > 1:
        msg = f"`layer_type` must name layers that agree, got {layer_type!r} of {kind}: use layer_ropes"
        raise ValueError(msg)
    return found.pop()


def explain(
    config: Mapping[str, Any] | str | Path, seq_len: int | None = None, *, layout: str | None = None
) -> str:
    """What a config says about positions, as text: one table per kind of layer.

    Parameters
    ----------
    config, layout
        As in `layer_ropes`.
    seq_len : int, optional
        The length in use; matters only to schedules that depend on it. Default: within the original
        context.

    Returns
    -------
    str
        Which layers, pairing, rotated part, base, schedule, of several axes which pairs each drives
        and how far one turn is along it, factors on cos and sin and on the softmax
        scale, wavelengths in tokens per turn, how many pairs complete a turn within the original and
        the extended context, and what the schedule changed.

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
    model = read(config, layout=layout, precision="exact")
    title = model.model_type + (f": {len(model.layers)} layers" if model.counted else "")
    parts = [title]
    for layer, numbers in _kinds(model):
        where = f"layers {_ranges(numbers)}" if model.counted else "layers"
        if len(numbers) == len(model.layers):
            where = "all layers"
        head = where if layer.label is None or where == "all layers" else f"{layer.label}: {where}"
        rows = {"rotation": "none"} if layer.rope is None else _rows(layer.rope, model, seq_len)
        parts.append("\n".join([head, *(f"  {name:<17} {told}" for name, told in rows.items())]))
    if "note" in model.family:
        parts.append(f"note: {model.family['note']}")
    return "\n\n".join(parts)


def _kinds(model: Model) -> list[tuple[Layer, list[int]]]:
    """Layers that are alike, and their numbers."""
    kinds: dict[Layer, list[int]] = {}
    for i, layer in enumerate(model.layers):
        kinds.setdefault(layer, []).append(i)
    return list(kinds.items())


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 4] → '0-2, 4'; a long list is cut."""
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b != a + 1)]
    ends = [*(a for a, b in pairwise(numbers) if b != a + 1), numbers[-1]]
    told = [f"{a}-{b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    if len(told) > 8:
        told = [*told[:4], "…", told[-1]]
    return f"{', '.join(told)} ({len(numbers)})"


def _rows(rope: RoPE, model: Model, seq_len: int | None) -> dict[str, str]:
    frequencies = rope.frequencies(seq_len)
    blocks = (rope.rotary_dim,) if rope.axes is None else rope.axes.blocks(rope.rotary_dim)
    pair = f"i turns with i + {blocks[0] // 2}" if rope.layout == "half" else "2i turns with 2i + 1"
    if len(blocks) > 1:
        pair += ", within the features of each axis"
    part = f"{rope.rotary_dim} of {rope.head_dim} features, from {rope.rotary_start} on"
    if rope.rotary_dim == rope.head_dim:
        part = f"the whole head, {rope.head_dim} features"
    inv_freq = driven(frequencies.inv_freq)
    lengths = analysis.wavelengths(inv_freq)
    unit = "tokens" if rope.axes is None else "steps"
    rows = {
        "pairing": f"{rope.layout}: feature {pair}",
        "rotated part": part,
        "base": _count(rope.base),
        "schedule": "default" if rope.scaling is None else _shortened(rope.scaling),
        **_axis_rows(rope, frequencies.inv_freq),
        "attention factor": f"{frequencies.attention_factor:.6g}",
        "softmax factor": f"{frequencies.softmax_factor:.6g}",
        "wavelengths": f"{_count(min(lengths))} to {_count(max(lengths))} {unit} per turn",
    }
    original, extended = contexts(rope, model.max_positions)
    for name, length in (("original", original), ("extended", extended), ("given", seq_len)):
        if length is None:
            continue
        whole = sum(analysis.turns(inv_freq, length) >= 1)
        alone = original == extended and seq_len is None
        key = "whole turns" if alone else f"turns, {name}"
        rows.setdefault(key, f"{whole} of {rope.n_pairs} pairs within {length:,} tokens")
    if rope.scaling is not None:
        rows["changed"] = _changes(rope, seq_len)
    return rows


def _axis_rows(rope: RoPE, matrix: Any) -> dict[str, str]:
    """With several axes: the scheme, and of each axis its pairs and how far one turn is along it."""
    axes: Any = rope.axes  # each scheme that a config can name has `axis_of_pair`
    if axes is None:
        return {}
    rows = {"axes": f"{axes.n_axes}, by {_shortened(axes)}"}
    owners = axes.axis_of_pair(rope.rotary_dim)
    for axis, name in enumerate(("time", "row", "column")[-axes.n_axes :]):
        pairs = [i for i, owner in enumerate(owners) if owner == axis]
        told = "no pairs"
        if pairs:
            lengths = analysis.wavelengths(matrix[axis, pairs])
            far = f"{_count(min(lengths))} to {_count(max(lengths))} steps per turn"
            told = f"pairs {_ranges(pairs)}, {far}"
        rows[f"axis {axis}, {name}"] = told
    return rows


def driven(inv_freq: Any) -> Any:
    """The one frequency of each pair, (n_pairs,), also where each is driven by one of several axes."""
    return inv_freq if inv_freq.ndim == 1 else inv_freq.sum(axis=0)


def _count(value: float) -> str:
    if math.isinf(value):
        return "without end"
    return f"{value:,.10g}" if value >= 100 and value == int(value) else f"{value:.3g}"


def _shortened(scaling: object) -> str:
    """The schedule as it prints, with its long lists cut and without what was not given."""
    fields = getattr(scaling, "__dataclass_fields__", {})
    told = []
    for name in fields:
        value = getattr(scaling, name)
        if isinstance(value, tuple) and len(value) > 3:
            told.append(f"{name}=({value[0]:.4g}, …, {value[-1]:.4g})")
        elif value != fields[name].default:
            told.append(f"{name}={value!r}")
    return f"{type(scaling).__name__}({', '.join(told)})"


def contexts(rope: RoPE, max_positions: int | None) -> tuple[int | None, int | None]:
    """The length that the frequencies were made for, and the one that the schedule stretches it to."""
    scaling = rope.scaling
    original = getattr(scaling, "original_max_position_embeddings", max_positions)
    factor = getattr(scaling, "factor", None) or 1.0
    if original is None or not hasattr(scaling, "original_max_position_embeddings"):
        # What a linear or dynamic schedule calls the maximum differs between files: one length.
        return max_positions, max_positions
    return original, max(max_positions or 0, round(original * factor))


def unscaled(rope: RoPE) -> Sequence[float]:
    """The frequencies before the schedule."""
    return tuple(float(w) for w in driven(replace(rope, scaling=None).frequencies().inv_freq))


def _changes(rope: RoPE, seq_len: int | None) -> str:
    """How many pairs the schedule leaves, slows fully, slows in between, stops, or turns back."""
    now = [abs(float(w)) for w in driven(rope.frequencies(seq_len).inv_freq)]
    slowed = [a / b for a, b in zip(unscaled(rope), now, strict=True) if b]
    most = max(slowed, default=1.0)
    same = sum(abs(s - 1) < 1e-9 for s in slowed)
    full = 0 if most - 1 < 1e-9 else sum(abs(s / most - 1) < 1e-9 for s in slowed)
    between = len(slowed) - same - full
    told = {
        f"{same} unchanged": same,
        f"{between} blended": between,
        f"{full} interpolated by {most:.4g}": full,
        f"{len(now) - len(slowed)} stopped": len(now) - len(slowed),
    }
    return "pairs: " + ", ".join(text for text, count in told.items() if count)


def plot(
    config: Mapping[str, Any] | str | Path,
    path: str | Path,
    seq_len: int | None = None,
    *,
    layout: str | None = None,
) -> None:
    """Draw the wavelengths before and after scaling against the context, one panel per kind of layer.

    Parameters
    ----------
    config, seq_len, layout
        As in `explain`.
    path : str or Path
        The picture to write; its ending says which kind.

    Raises
    ------
    ValueError, TypeError
        As `explain`.
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only who draws needs it
    except ImportError:
        msg = "`plot` needs matplotlib: pip install matplotlib, or rope_xp[plot]"
        raise ImportError(msg) from None
    model = read(config, layout=layout, precision="exact")
    ropes: dict[RoPE, str] = {}
    for layer, _ in _kinds(model):
        if layer.rope is not None:
            ropes.setdefault(layer.rope, layer.label or "all layers")
    if not ropes:
        msg = f"`config` must have layers that rotate to be drawn, got {model.model_type!r}"
        raise ValueError(msg)
    figure = Figure(figsize=(5.5 * len(ropes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(ropes), squeeze=False, sharey=True)[0]
    for panel, (rope, label) in zip(panels, ropes.items(), strict=True):
        after = analysis.wavelengths(driven(rope.frequencies(seq_len).inv_freq))
        before = analysis.wavelengths(unscaled(rope))
        panel.plot(before, color="0.6", marker="o", markersize=4, mfc="white", lw=1, label="before")
        panel.plot(after, color="black", marker=".", markersize=4, lw=1.2, label="after scaling")
        original, extended = contexts(rope, model.max_positions)
        lines = {"original context": (original, "--"), "extended context": (extended, ":")}
        if original == extended:
            lines = {"context": (original, "--")}
        for name, (length, style) in lines.items():
            if length is not None:
                panel.axhline(length, color="0.25", ls=style, lw=1.2, label=f"{name}, {length:,}")
        panel.set_yscale("log")
        panel.set_xlabel("pair")
        panel.set_title(label, fontsize=10)
        panel.legend(fontsize=8, frameon=False, loc="upper left")
    unit = "tokens" if all(rope.axes is None for rope in ropes) else "steps"
    panels[0].set_ylabel(f"wavelength ({unit} per turn)")
    schedules = {"default" if r.scaling is None else type(r.scaling).__name__ for r in ropes}
    figure.suptitle(f"{model.model_type}: {', '.join(sorted(schedules))}", fontsize=11)
    figure.savefig(path, dpi=150)
