"""The metadata of a GGUF file → a mapping with the keys of config.json, and the family that it is read by.

What llama.cpp does with a file is what the file means: `table` has it by architecture, `layers` layer
by layer, `scaling` for the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from rope_xp._config_reader import schema
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.gguf.layers import COMPRESSED, FULL, Layers, count_layers, layers_of
from rope_xp._config_reader.gguf.metadata import ROPE_FREQS, Metadata
from rope_xp._config_reader.gguf.scaling import (
    DEFAULT_BASE,
    base_of,
    original_context_of,
    rope_parameters_of,
    unread_of,
)
from rope_xp._config_reader.gguf.table import (
    Architecture,
    LongFactors,
    RopeFreqs,
    Sections,
    Window,
    architecture_of,
)
from rope_xp._config_reader.gguf.tensors import require_tensors
from rope_xp._config_reader.schema import Family, HeadDim
from rope_xp._config_reader.unlisted import unlisted_family
from rope_xp._config_reader.values import Config, fraction_of
from rope_xp._config_reader.vocabulary import LayerRule, Layout, Rotary
from rope_xp._validation import as_size, quote

# Keys have it before them.
MAX_NAME = 64
# Keys that make layers differ, of which an unknown architecture can have none.
OF_KNOWN = (
    "rope.freq_base_swa",
    "rope.dimension_count_swa",
    "rope.dimension_sections",
    "attention.key_length_swa",
    "attention.key_length_mla",
    "attention.sliding_window_pattern",
    "attention.rope_pattern",
    "attention.compress_ratios",
    "attention.recurrent_layers",
)


class Kind(NamedTuple):
    """Layers that are alike: their base, sizes of a head, and rope parameters."""

    base: float
    head_dim: int
    rotary_dim: int
    parameters: dict[str, Any]
    frequency_factors: tuple[float, ...] | None


def find(values: Config, layout: str | None) -> Found | None:
    """GGUF metadata with the keys of config.json; None for another mapping.

    Raises
    ------
    ValueError
        If the architecture is not covered, a key is missing, unknown or of the wrong kind, or the
        schedule can be in a tensor that was not handed in.
    """
    if "general.architecture" not in values:
        return None
    name = values["general.architecture"]
    if not isinstance(name, str):
        msg = f"`general.architecture` must be a string, got {quote(name)}"
        raise ValueError(msg)
    if not name.isprintable() or len(name) > MAX_NAME:
        msg = f"`general.architecture` must be a name in one line, got {quote(name)}"
        raise ValueError(msg)
    _require_model(values)
    metadata, model_type = Metadata(values, f"{name}."), f"gguf {name}"
    known = architecture_of(name)
    if known is None:
        unlisted_family({}, model_type, layout)  # refuses without a layout
    architecture = known or Architecture(
        source="",
        layout=Layout(layout or "half"),
        rope_freqs=RopeFreqs.RARE,
        long_factors=LongFactors.IF_LONGROPE,
    )
    metadata.require_known_keys()
    if known is None:
        _require_absent(metadata)
    require_tensors(metadata, architecture)
    layers = layers_of(metadata, architecture)
    kinds = _kinds_of(metadata, architecture, layers)
    sections = _sections_of(metadata, architecture, next(iter(kinds.values())).rotary_dim // 2)
    pairing = Layout.HALF if sections is not None else architecture.layout
    family = _family_of(metadata, architecture, layers, kinds)
    if sections is not None:
        family = replace(family, layout=pairing, axes=_axes_of(architecture, sections))
    return Found(
        _config_of(metadata, layers, kinds),
        model_type,
        family,
        layout or pairing.value,
        {label: kind.frequency_factors for label, kind in kinds.items()},
    )


def _require_model(values: Config) -> None:
    kind = values.get("general.type", "model")
    if kind != "model":
        msg = f"`general.type` must be 'model', got {quote(kind)}: take the file of the language model"
        raise ValueError(msg)
    number = values.get("split.no", 0)
    if number != 0:
        msg = (
            "`split.no` must be 0, got "
            f"{quote(number)}: the first of the parts of a model has its metadata"
        )
        raise ValueError(msg)


def _require_absent(metadata: Metadata) -> None:
    for key in OF_KNOWN:
        if metadata.has(key):
            msg = (
                f"`{metadata.prefix}{key}` must be absent for an architecture that is not known: "
                "what its layers or axes do is not known"
            )
            raise ValueError(msg)


def _kinds_of(
    metadata: Metadata, architecture: Architecture, layers: Layers
) -> dict[str | None, Kind]:
    """The layers that are alike, by what they are called; under None if all are."""
    window = layers.window
    types = set(layers.types or ())
    full = _kind(metadata, architecture, None)
    if architecture.compress:
        compressed = metadata.positive("attention.compress_rope_freq_base")
        if compressed is None:
            msg = f"`{metadata.prefix}attention.compress_rope_freq_base` is required"
            raise ValueError(msg)
        plain = full._replace(parameters={})
        return {COMPRESSED: full._replace(base=compressed), "sliding_attention": plain}
    _require_read(metadata, architecture, window, full)
    if window is None or window.name not in types:
        return {None: full}
    if FULL not in types:
        return {None: _kind(metadata, architecture, window)}
    windowed = _kind(metadata, architecture, window)
    return {None: full} if windowed == full else {FULL: full, window.name: windowed}


def _kind(metadata: Metadata, architecture: Architecture, window: Window | None) -> Kind:
    """Layers with ``window``, or those without."""
    head_dim = _head_dim_of(metadata, architecture, window)
    rotary_dim = metadata.count("rope.dimension_count") or head_dim
    key = "rope.dimension_count"
    if window is not None and window.reads_rotary_dim and metadata.has(f"{key}_swa"):
        key = f"{key}_swa"
        rotary_dim = metadata.count(key) or rotary_dim
    if window is None and architecture.full_layers_rotate_half:
        rotary_dim //= 2
    if rotary_dim % 2 or rotary_dim > head_dim:
        rule = "even" if rotary_dim % 2 else f"at most the size of a head, {head_dim}"
        msg = f"`{metadata.prefix}{key}` must be {rule}, got {rotary_dim}"
        raise ValueError(msg)
    if architecture.whole_head and rotary_dim != head_dim:
        msg = (
            f"`{metadata.prefix}{key}` must be the size of a head, {head_dim}, for this architecture, "
            f"got {rotary_dim}"
        )
        raise ValueError(msg)
    base = base_of(metadata)
    if window is not None:
        base = window.base or base
        if window.reads_base:
            base = metadata.positive("rope.freq_base_swa") or base
    has_factors = architecture.rope_freqs_in in (None, FULL if window is None else window.name)
    factors = None
    if has_factors:
        is_padded = architecture.rope_freqs_in is not None
        factors = metadata.tensor(ROPE_FREQS, rotary_dim // 2, is_padded=is_padded)
    parameters = rope_parameters_of(
        metadata, architecture, rotary_dim // 2, has_rope_freqs=factors is not None
    )
    if architecture.fixed and (parameters or base != DEFAULT_BASE):
        msg = (
            f"`{metadata.prefix}rope.freq_base` must be absent or 10000, without a schedule: llama.cpp "
            f"reads neither for this architecture, got {base} and {quote(parameters)}"
        )
        raise ValueError(msg)
    if window is not None and not window.scaled:
        if (metadata.positive("rope.scaling.attn_factor") or 1.0) != 1:
            msg = (
                f"`{metadata.prefix}rope.scaling.attn_factor` must be absent or 1 where layers with a "
                "window have no schedule: what it does in them is not described"
            )
            raise ValueError(msg)
        parameters = {}
    return Kind(base, head_dim, rotary_dim, parameters, factors)


def _head_dim_of(metadata: Metadata, architecture: Architecture, window: Window | None) -> int:
    keys = ["attention.key_length"]
    if architecture.head_key:
        keys.insert(0, architecture.head_key)
    if window is not None and window.head_key:
        keys.insert(0, window.head_key)
    for key in keys:
        size = metadata.count(key, minimum=0)
        if size:
            return int(as_size(metadata.prefix + key, size))
    width = metadata.count("embedding_length")
    counts = metadata.numbers("attention.head_count") or [
        metadata.count("attention.head_count") or 0
    ]
    n_heads = next(filter(None, counts), 0)
    if width is None or not 0 < n_heads <= width:
        missing = "embedding_length" if width is None else "attention.head_count"
        rule = "" if width is None or not n_heads else f" and at most embedding_length={width}"
        msg = (
            f"`{metadata.prefix}{missing}` is required{rule} where there is no "
            f"{metadata.prefix}attention.key_length"
        )
        raise ValueError(msg)
    return int(as_size(f"{metadata.prefix}embedding_length", width // n_heads))  # as llama.cpp


def _require_read(
    metadata: Metadata, architecture: Architecture, window: Window | None, full: Kind
) -> None:
    """ValueError for a key of layers with a window that llama.cpp does not read here."""
    used = {
        "rope.freq_base_swa": window is not None and window.reads_base,
        "rope.dimension_count_swa": window is not None and window.reads_rotary_dim,
        "attention.key_length_swa": window is not None
        and window.head_key == "attention.key_length_swa",
    }
    values = (full.base, full.rotary_dim, full.head_dim)
    for (key, is_used), value in zip(used.items(), values, strict=True):
        if not is_used and metadata.has(key) and metadata.positive(key) != value:
            why = "llama.cpp does not read it for this architecture"
            if architecture.window is not None and window is None:
                why = f"without `{metadata.prefix}attention.sliding_window` no layer has a window"
            msg = (
                f"`{metadata.prefix}{key}` must be absent or {value}, as for layers without a window: "
                f"{why}, got {quote(metadata.values[metadata.prefix + key])}"
            )
            raise ValueError(msg)


def _sections_of(
    metadata: Metadata, architecture: Architecture, n_pairs: int
) -> tuple[int, ...] | None:
    """The pairs of each axis; None for one axis."""
    key, rule = "rope.dimension_sections", architecture.sections
    sections = metadata.numbers(key)
    if sections is None and metadata.has(key):
        msg = f"`{metadata.prefix}{key}` must be a list of integers, got {quote(metadata.values[metadata.prefix + key])}"
        raise ValueError(msg)
    if sections is None:
        if rule in {Sections.REQUIRED, Sections.INTERLEAVED}:
            msg = f"`{metadata.prefix}{key}` is required, the pairs of each axis"
            raise ValueError(msg)
        return None
    sections = sections + [0] * (3 - len(sections))
    if rule is Sections.NOT_USED or (rule is Sections.OPTIONAL and not all(sections[:2])):
        return None
    if rule is Sections.NONE:
        if any(sections[1:]):
            msg = (
                f"`{metadata.prefix}{key}` must be absent: llama.cpp has one axis for this "
                f"architecture, got {quote(sections)}"
            )
            raise ValueError(msg)
        return None
    if len(sections) > 4 or sum(sections) != n_pairs:
        msg = (
            f"`{metadata.prefix}{key}` must be at most 4 numbers with the sum {n_pairs}, the number of "
            f"rotated pairs, got {quote(sections)}"
        )
        raise ValueError(msg)
    return tuple(sections[:3] if len(sections) == 4 and not sections[3] else sections)


def _config_of(
    metadata: Metadata, layers: Layers, kinds: Mapping[str | None, Kind]
) -> dict[str, Any]:
    """The keys of config.json that say the same."""
    first = next(iter(kinds.values()))
    config: dict[str, Any] = {
        "head_dim": first.head_dim,
        "num_hidden_layers": count_layers(metadata),
        "max_position_embeddings": metadata.count("context_length"),
        "layer_types": layers.types,
        "no_rope_layers": layers.rotates,
    }
    if None in kinds:
        config["rope_parameters"] = {**first.parameters, "rope_theta": first.base}
        config["rotary_dim"] = first.rotary_dim
    else:
        config["rope_parameters"] = {
            label: {
                **kind.parameters,
                "rope_theta": kind.base,
                "partial_rotary_factor": fraction_of(kind.rotary_dim, kind.head_dim),
            }
            for label, kind in kinds.items()
        }
    return {key: value for key, value in config.items() if value is not None}


def _family_of(
    metadata: Metadata,
    architecture: Architecture,
    layers: Layers,
    kinds: Mapping[str | None, Kind],
) -> Family:
    differ = None not in kinds
    unread = unread_of(metadata, architecture)
    note = f"llama.cpp does not read {', '.join(unread)} for this architecture" if unread else None
    return Family(
        layout=architecture.layout,
        rotary=Rotary.GENERIC,
        per_layer_type=differ,
        source=architecture.source,
        base=None if differ else DEFAULT_BASE,
        extra_keys=("alpha",) if architecture.reads_alpha else (),
        mscale_softmax=architecture.yarn.scales_softmax,
        layers=LayerRule.EVERY_LAYER if layers.rotates is None else LayerRule.NO_ROPE_LAYERS,
        head_dim_of_layer_type={
            str(label): HeadDim("", kind.head_dim) for label, kind in kinds.items() if differ
        },
        rotary_at_end=architecture.at_end,
        query_scale=_query_scale_of(metadata, architecture, layers),
        note=note,
    )


def _query_scale_of(
    metadata: Metadata, architecture: Architecture, layers: Layers
) -> schema.QueryScaleRule | None:
    """The rule with the numbers of the file; None where it has none."""
    rule = architecture.query_scale
    if rule is None or rule.length_key is None or rule.beta_key is None:
        return None if layers.window is None else rule  # llama4.cpp:9
    beta = metadata.positive_or_zero(rule.beta_key)
    if not beta:
        return None
    is_original = rule.length_key == "rope.scaling.original_context_length"
    length = original_context_of(metadata) if is_original else metadata.count(rule.length_key)
    if length is None:
        msg = f"`{metadata.prefix}{rule.length_key}` is required beside {metadata.prefix}{rule.beta_key}"
        raise ValueError(msg)
    return replace(rule, length=length, length_key=None, beta=beta, beta_key=None)


def _axes_of(architecture: Architecture, sections: tuple[int, ...]) -> schema.AxesRule:
    if architecture.sections is Sections.INTERLEAVED:
        return schema.InterleavedSections(sections)
    return schema.Sections(sections)
