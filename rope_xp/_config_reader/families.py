"""Which family a config belongs to, and which part of it says how positions are encoded."""

from __future__ import annotations

from collections.abc import Callable

from rope_xp._config_reader import diffusers, files, gguf, litgpt, mlx, params, torchtune
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.table import known_family, read_table
from rope_xp._config_reader.unlisted import unlisted_family
from rope_xp._config_reader.values import Config, get_mapping, require_consistent
from rope_xp._validation import quote

# Where a composite has the config of its language model.
TEXT_PARTS = ("text_config", "thinker_config", "llm_config", "language_config", "decoder_config")
# What a model's own file must say; a part of a composite is often written without it.
REQUIRED = frozenset(
    {"hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings"}
)


# The kinds of file other than transformers' config.json. Each returns None for a mapping of another kind;
# some transformers of diffusers have the keys of a params.json as well.
CARRIERS: tuple[Callable[[Config, str | None], Found | None], ...] = (
    gguf.find,
    diffusers.find,
    params.find,
    litgpt.find,
    torchtune.find,
)


def find(config: object, layout: str | None) -> Found:
    """The part of a config that says how positions are encoded, with its model_type and family.

    Raises
    ------
    ValueError
        If the family is not covered, or not known and no ``layout`` is given.
    TypeError
        If ``config`` is neither a mapping nor a path.
    """
    loaded = files.load(config)
    for find_in in CARRIERS:
        read = find_in(loaded, layout)
        if read is not None:
            return read
    part, model_type, is_inside = _text_part(loaded)
    is_known = model_type in read_table().lines
    own = known_family(model_type).layout.value if is_known else None
    layout = mlx.layout_of(part, model_type, layout, own)
    found = known_family(model_type) if is_known else unlisted_family(part, model_type, layout)
    part = _canonical(part, found, has_defaults=is_inside or found.is_component)
    return Found(part, model_type, found, layout)


def _text_part(config: Config) -> tuple[Config, str, bool]:
    """The part of a config that is looked for, its model_type, and whether it was inside of another.

    Of a composite that is the part of the language model. A vision part by itself can have the name of
    its composite: it is the one that has patches.
    """
    is_inside = False
    model_type = config.get("model_type")
    while True:
        if model_type is not None and not isinstance(model_type, str):
            msg = f"`model_type` must be a string, got {quote(model_type)}"
            raise ValueError(msg)
        if model_type in read_table().lines:
            return config, str(model_type), is_inside
        part = next(filter(None, (get_mapping(config, key) for key in TEXT_PARTS)), None)
        part_type = read_table().text_part_of.get(model_type or "")
        if part is None and "patch_size" in config and "vision_config" not in config:
            part_type = read_table().vision_part_of.get(model_type or "") or part_type
        if part is None:
            # Old files of some composites have the keys of the text part at the top.
            return config, part_type or model_type or "", is_inside
        config, is_inside = part, True
        model_type = config.get("model_type") or part_type


def _canonical(config: Config, family: Family, *, has_defaults: bool) -> Config:
    """The config with the usual names of its keys, and with defaults where they may be left out."""
    found = dict(config)
    for old, new in family.aliases.items():
        places = {f"as {key}": found.get(key) for key in (new, old)}
        value = require_consistent(new, places)
        if value is not None:
            found[new] = value
    defaults = {k: v for k, v in family.defaults.items() if has_defaults or k not in REQUIRED}
    return {**defaults, **found}
