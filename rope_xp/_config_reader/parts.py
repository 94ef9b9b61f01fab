"""The part of a config that is asked for: its language model, or its vision tower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rope_xp._config_reader.table import (
    family_name,
    is_known,
    known_family,
    part_of,
    tables,
    why_left_out,
)
from rope_xp._config_reader.values import Config, get_mapping
from rope_xp._validation import quote

PARTS = ("text", "vision")
# Where a composite has the config of its language model, or of a composite that has it.
TEXT_PARTS = (
    "text_config",
    "thinker_config",
    "llm_config",
    "language_config",
    "decoder_config",
    "llm_cfg",
    "text_cfg",
    "language_model",
    "talker_config",
    "vlm_config",
    "decoder",
)
VISION_PARTS = ("vision_config", "visual", "vision_cfg", "vision_tower_cfg", "vit_config")
# What only a vision tower has, and what only a text model has.
TOWER_KEYS = frozenset(
    {
        "patch_size",
        "spatial_patch_size",
        "temporal_patch_size",
        "spatial_merge_size",
        "image_size",
        "max_image_size",
        "in_chans",
        "in_channels",
        "num_channels",
    }
)
TEXT_KEYS = frozenset({"vocab_size", "max_position_embeddings", "rope_theta", "rope_scaling"})
SIZES = frozenset({"hidden_size", "num_attention_heads", "num_hidden_layers", "head_dim"})
# Composites of composites have a depth of 3; a mapping that contains itself has no end.
MAX_DEPTH = 8


class Part(NamedTuple):
    """A part of a config, what it is called in sentences, and the name of its family in the tables.

    ``is_inside`` says whether it was found inside of another config.
    """

    config: Config
    model_type: str
    name: str
    is_inside: bool


def find_part(config: Config, part: str) -> Part:
    """The text part or the vision part of a config; of one that is no composite, all of it.

    Raises
    ------
    ValueError
        If there is no such part, or it has no rotary encoding.
    """
    return _vision_part(config) if part == "vision" else _text_part(config)


def is_tower(config: Config) -> bool:
    """Whether a config without a family of its own is that of a vision tower."""
    keys = {*config}
    is_composite = keys & {*TEXT_PARTS, *VISION_PARTS}
    return bool(keys & TOWER_KEYS) and not keys & TEXT_KEYS and not is_composite


def _text_part(config: Config) -> Part:
    model_type, name, values = "", "", config
    for model_type, values in _levels(config):
        name = family_name(model_type, values)
        if is_known(name):
            break
    is_inside = values is not config
    if is_known(name):
        return Part(values, model_type, name, is_inside)
    if is_tower(values) and (part_of(name, "text") or part_of(name, "vision")):
        # A vision part by itself can have the name of its composite.
        return _tower(values, model_type, name)
    text = part_of(name, "text")
    if text is None:
        return Part(values, model_type, name, is_inside)
    if {*values} & {*VISION_PARTS, "audio_config"} and not {*values} & SIZES:
        return Part(_with_defaults(name, {}), text, text, is_inside=True)
    # Old files of some composites have the keys of the text part at the top.
    return Part(values, text, text, is_inside)


def _levels(config: Config) -> Iterator[tuple[str, Config]]:
    """A config and, one after another, the text parts inside of it, each with its model_type."""
    model_type, values = _model_type_of(config), config
    for _ in range(MAX_DEPTH):
        yield model_type, values
        found = _inner(values)
        if found is None:
            return
        composite, values = family_name(model_type, values), _with_defaults(model_type, found)
        model_type = _model_type_of(values) or part_of(composite, "text") or ""
    msg = f"`config` must not have parts inside of parts {MAX_DEPTH} deep, got more"
    raise ValueError(msg)


def _inner(config: Config) -> Config | None:
    """The text part of a config; None if it has none."""
    for key in TEXT_PARTS:
        # Only those of transformers are parts whatever is there; others can be the name of a model.
        is_part = key.endswith("_config") or isinstance(config.get(key), Mapping)
        found = get_mapping(config, key) if is_part else None
        if found is not None:
            return found
    return None


def _with_defaults(composite: str, part: Config) -> Config:
    """The text part of a composite with what the composite's class says of it."""
    defaults: dict[str, Any] = {}
    for table in tables():
        defaults |= table.text_defaults.get(composite, {})
        defaults |= {} if part else table.absent_text.get(composite, {})
    if part.get("rope_parameters") is not None:
        defaults.pop("rope_theta", None)
    return {**defaults, **part}


def _vision_part(config: Config) -> Part:
    for model_type, values in _levels(config):
        name = family_name(model_type, values)
        key = next((key for key in VISION_PARTS if isinstance(values.get(key), Mapping)), None)
        if key is not None:
            part: Config = values[key]
            return _tower(part, _model_type_of(part), name)
        if is_known(name) and known_family(name).n_axes > 1 and known_family(name).is_component:
            return Part(values, model_type, name, is_inside=False)
        if is_tower(values) or (part_of(name, "vision") and _inner(values) is None):
            return _tower(values if is_tower(values) else {}, model_type, name)
    msg = f"`part` must be 'text' for model_type {quote(model_type)}, which has no vision_config"
    raise ValueError(msg)


def _tower(config: Config, model_type: str, composite: str) -> Part:
    """A vision part, by its own name, or by that of its composite, which it can have, too."""
    own = family_name(model_type, config)
    name = own if is_known(own) else part_of(own, "vision")
    reason = why_left_out(own)
    if name is None and part_of(own, "text") is None and reason is None:
        name = part_of(composite, "vision")
    if name is not None:
        return Part(config, model_type or name, name, is_inside=True)
    called = f"model_type {quote(model_type or composite)}"
    if not model_type and not composite:
        msg = no_name_of_tower(config)
    elif reason is not None and model_type:
        msg = f"`model_type` must be of a covered family, got {quote(model_type)}: {reason}"
    else:
        msg = f"the vision tower of {called} has no rotary encoding, or none that is covered"
    raise ValueError(msg)


def no_name_of_tower(config: Config) -> str:
    """A sentence for a vision_config by itself that does not say whose it is: which names serve."""
    names = dict.fromkeys(name for table in tables() for name in table.vision_part_of.values())
    shared = {name: _shared_keys(config, name) for name in names}
    fitting = [name for name in names if shared[name] == max(shared.values()) > 0]
    return (
        "`model_type` is required for a vision tower, a config with patch_size: pass the whole config with "
        'part="vision", or write the model_type of the composite or of its tower'
        + (f": {', '.join(fitting)}" if fitting else "")
    )


def _shared_keys(config: Config, name: str) -> int:
    """How many keys of sizes that a tower reads by names of its own a config has; 0 if one is missing."""
    family = known_family(name)
    keys = {family.hidden_size_key, *family.aliases} - {"hidden_size"}
    return len(keys) if keys <= {*config} else 0


def _model_type_of(config: Config) -> str:
    model_type = config.get("model_type")
    if model_type is not None and not isinstance(model_type, str):
        msg = f"`model_type` must be a string, got {quote(model_type)}"
        raise ValueError(msg)
    return model_type or ""
