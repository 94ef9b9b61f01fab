"""The `RoPE` of each layer → the metadata and tensors of a GGUF file that describe them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rope_xp import scaling
from rope_xp._config_reader.gguf.metadata import LONG, ROPE_FREQS, SHORT, TENSORS
from rope_xp._config_reader.gguf.table import Architecture, RopeFreqs, Rotates, architecture_of
from rope_xp._validation import quote
from rope_xp.configs._schedule_keys import base_of_ntk
from rope_xp.rope import RoPE

Keys = dict[str, Any]
Layers = Sequence[RoPE | None]

# The divisor of a pair that does not turn, as in the files of Gemma 4.
STOPPED = 1e30


def gguf_keys(
    layers: Layers,
    name: Any,
    layer_types: Sequence[str] | None,
    sliding_window: int | None,
    *,
    is_one: bool,
) -> Keys:
    """Metadata by the names that gguf-py has for them, and the tensors of the rotation."""
    architecture = architecture_of(name) if isinstance(name, str) else None
    if architecture is None:
        msg = f"`architecture` must be the name of one that llama.cpp has, got {quote(name)}"
        raise ValueError(msg)
    _require_pairing(next(rope for rope in layers if rope is not None), architecture)
    if architecture.compress:
        msg = f"{quote(name)} has ratios of compression for its layers, which encodings do not have"
        raise ValueError(msg)
    rotating = [rope for rope in layers if rope is not None]
    window = architecture.window
    kinds = [*dict.fromkeys(rotating)]
    if len(kinds) > 2 or (len(kinds) == 2 and window is None):
        msg = (
            f"layers must be alike, as llama.cpp has them for {quote(name)}, got {len(kinds)} kinds"
        )
        raise ValueError(msg)
    windowed = None
    if window is not None and not is_one:
        windowed = _windowed(layers, kinds, architecture)
        if layer_types is not None:
            windowed = [one in {"sliding_attention", window.name} for one in layer_types]
    main = kinds[0]
    if windowed is not None and not all(windowed):
        main = next((r for r, w in zip(layers, windowed, strict=True) if r and not w), main)
    keys = _of_kind(main, architecture)
    if not is_one:
        keys["block_count"] = len(layers)
    if sliding_window is not None:
        keys["attention.sliding_window"] = sliding_window
    if window is not None and windowed is not None and any(windowed):
        if sliding_window is None:
            msg = (
                f"pass sliding_window=: for {quote(name)} layers with a window differ from the others, "
                "and encodings do not have its size"
            )
            raise ValueError(msg)
        keys["attention.sliding_window_pattern"] = windowed
        inside = next((r for r, w in zip(layers, windowed, strict=True) if r and w), None)
        if inside is not None and window.reads_base:
            keys["rope.freq_base_swa"] = inside.base
        if inside is not None and window.reads_rotary_dim:
            keys["rope.dimension_count_swa"] = inside.rotary_dim
        if inside is not None and window.head_key is not None:
            keys[window.head_key] = inside.head_dim
    elif window is not None and window.reads_base:
        keys["rope.freq_base_swa"] = main.base  # not another that llama.cpp has without the key
    rotates = [rope is not None for rope in layers]
    if architecture.rotates is Rotates.ROPE_PATTERN and not is_one:
        keys["attention.rope_pattern"] = rotates
    by_flags = architecture.attention is not None and architecture.attention.period is not None
    if by_flags and not is_one:
        keys["attention.recurrent_layers"] = [not one for one in rotates]
    tensors = {key: keys.pop(key, None) for key in TENSORS}
    prefixed = {f"{name}.{key}": value for key, value in keys.items()}
    return {"general.architecture": name, **prefixed, **tensors}


def _require_pairing(rope: RoPE, architecture: Architecture) -> None:
    """ValueError unless the pairing is what llama.cpp has, and latent attention has its whole head."""
    layout = architecture.layout.value if rope.axes is None else "half"
    if rope.layout != layout:
        msg = (
            f"llama.cpp has layout={layout!r} there, got {rope.layout!r}: reorder the weights with "
            f"convert_layout, and write dataclasses.replace(rope, layout={layout!r})"
        )
        raise ValueError(msg)
    if architecture.at_end and rope.rotary_dim == rope.head_dim:
        msg = (
            f"it has the size of the whole head, of which the last features rotate, got {rope}, the "
            "slice: write dataclasses.replace(rope, head_dim=…, rotary_start=…)"
        )
        raise ValueError(msg)


def _windowed(layers: Layers, kinds: list[RoPE], architecture: Architecture) -> list[bool] | None:
    """Which layers have a window, as far as it follows from how they rotate; None: it does not."""
    by_window = {Rotates.WINDOWED, Rotates.WINDOWED_IF_ANY, Rotates.WINDOWED_OR_LEADING_DENSE}
    if architecture.rotates in by_window:
        return [rope is not None for rope in layers] if None in layers else None
    if len(kinds) < 2:
        return None
    # llama.cpp scales the others: what the schedule is for has no window; else the larger base.
    unscaled = [rope for rope in kinds if rope.scaling is None]
    inside = unscaled[0] if len(unscaled) == 1 else min(kinds, key=lambda rope: rope.base)
    return [rope == inside for rope in layers]


def _of_kind(rope: RoPE, architecture: Architecture) -> Keys:
    """Sizes, base, axes and schedule of the layers without a window, or of all."""
    keys: Keys = {
        architecture.head_key or "attention.key_length": rope.head_dim,
        "rope.dimension_count": rope.rotary_dim,
        "rope.freq_base": rope.base,
    }
    sections = getattr(rope.axes, "sections", None)
    if rope.axes is not None and sections is None:
        msg = f"axes must be Sections or InterleavedSections, got {type(rope.axes).__name__}"
        raise ValueError(msg)
    if sections is not None:
        keys["rope.dimension_sections"] = [*sections, 0, 0, 0, 0][: max(4, len(sections))]
    if architecture.full_layers_rotate_half:
        keys["rope.dimension_count"] *= 2
    scale, rule = rope.query_scale, architecture.query_scale
    if scale is not None and rule is not None:
        of_scale = {rule.length_key: "length", rule.beta_key: "beta"}
        keys |= {key: getattr(scale, name) for key, name in of_scale.items() if key is not None}
    return keys | _schedule_keys(rope, architecture)


def _schedule_keys(rope: RoPE, architecture: Architecture) -> Keys:
    found, factor = rope.scaling, "rope.scaling.factor"
    kind, original = "rope.scaling.type", "rope.scaling.original_context_length"
    match found:
        case None:
            return {kind: "none"}
        case scaling.Linear():
            return {kind: "linear", factor: found.factor}
        case scaling.NTK():
            return {kind: "none", "rope.freq_base": base_of_ntk(rope, found)}
        case scaling.YaRN() | scaling.NTKByParts():
            keys: Keys = {kind: "yarn", factor: found.factor}
            keys[original] = found.original_max_position_embeddings
            if architecture.yarn.reads_betas:
                keys["rope.scaling.yarn_beta_fast"] = found.beta_fast
                keys["rope.scaling.yarn_beta_slow"] = found.beta_slow
            return keys | _gain_keys(rope, architecture)
        case scaling.LongRoPE():
            made = rope.frequencies()
            return {
                kind: "longrope",
                original: found.original_max_position_embeddings,
                "rope.scaling.attn_factor": made.attention_factor,
                SHORT: np.asarray(found.short_factor, dtype=np.float32),
                LONG: np.asarray(found.long_factor, dtype=np.float32),
            }
        case scaling.FrequencyFactors() if found.scaling is not None:
            inner = _schedule_keys(replace(rope, scaling=found.scaling), architecture)
            return inner | {ROPE_FREQS: np.asarray(found.factors, dtype=np.float32)}
        case scaling.Llama3() | scaling.FrequencyFactors() | scaling.Proportional():
            if architecture.rope_freqs is RopeFreqs.NEVER:
                msg = f"llama.cpp reads no {ROPE_FREQS} there, which {type(found).__name__} needs"
                raise ValueError(msg)
            return {ROPE_FREQS: _divisors(rope)}
    msg = f"GGUF has no keys for the schedule {quote(found)}"
    raise ValueError(msg)


def _gain_keys(rope: RoPE, architecture: Architecture) -> Keys:
    """What YaRN's factor on cos and sin is besides 0.1 ln(factor) + 1."""
    found: Any = rope.scaling
    rules = architecture.yarn
    usual = scaling.YaRN(found.factor, found.original_max_position_embeddings)
    own = rope.frequencies().attention_factor
    ratio = own / replace(rope, scaling=usual).frequencies().attention_factor
    all_dims = getattr(found, "mscale_all_dim", None)
    if ratio == 1 or rules.attention_factor is not None:
        return {}
    if rules.log_divisor is not None and all_dims:
        return {"rope.scaling.yarn_log_multiplier": all_dims * rules.log_divisor}
    return {"rope.scaling.attn_factor": ratio}


def _divisors(rope: RoPE) -> np.ndarray:
    """What divides each of the frequencies without a schedule, in float32 as the tensor is."""
    own = replace(rope, scaling=None, axes=None).frequencies().inv_freq
    scaled = replace(rope, axes=None).frequencies().inv_freq
    divisors = np.full(len(own), STOPPED)
    np.divide(own, scaled, out=divisors, where=scaled != 0)
    return divisors.astype(np.float32)
