"""``families.json``, and which of its families a config belongs to.

A line of the file is checked and made a `Family` when a config needs it, not before: the tests make
all of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from rope_xp._config_reader import files, gguf
from rope_xp._config_reader.checks import family_of
from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import Config, get_mapping, require_consistent
from rope_xp._config_reader.vocabulary import Layout, Rotary

# Where a composite has the config of its language model.
TEXT_PARTS = ("text_config", "thinker_config", "llm_config", "language_config", "decoder_config")
# What a model's own file must say; a part of a composite is often written without it.
REQUIRED = frozenset(
    {"hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings"}
)


@dataclass(frozen=True)
class Table:
    """The file: what a family is, line by line, and which model_types are none.

    Parameters
    ----------
    about, version : str
        What the file is, and the version of transformers that it is about.
    groups : tuple of mapping
        Keys of families, and under ``models`` by model_type what is a model's own.
    text_part_of, vision_part_of : mapping
        A composite's model_type → that of its part, where the part does not say.
    left_out : mapping
        A reason → the model_types that are not covered for it.
    """

    about: str
    version: str
    groups: tuple[Mapping[str, Any], ...]
    text_part_of: Mapping[str, str]
    vision_part_of: Mapping[str, str]
    left_out: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def lines(self) -> dict[str, dict[str, Any]]:
        """Of every model_type the keys of its group and its own."""
        lines: dict[str, dict[str, Any]] = {}
        for group in self.groups:
            shared = {key: value for key, value in group.items() if key != "models"}
            for model_type, own in _models_of(group).items():
                if model_type in lines:
                    msg = f"families.json: {model_type!r} must be in one group, got two"
                    raise ValueError(msg)
                lines[model_type] = {**shared, **own}
        return lines


class Found(NamedTuple):
    """The part of a config that says how positions are encoded, and whose it is."""

    config: Config
    model_type: str
    family: Family
    layout: str | None
    frequency_factors: tuple[float, ...] | None


def parse(text: str) -> Table:
    """The table in the text of a ``families.json``; its lines are not checked yet.

    Raises
    ------
    ValueError
        If a key is there twice, unknown, missing or of another type.
    """
    table: Table = _convert(Table, json.loads(text, object_pairs_hook=_without_duplicates), "")
    return table


def _models_of(group: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    models: Mapping[str, Mapping[str, Any]] = _convert(
        Mapping[str, Mapping[str, Any]], group.get("models"), "models"
    )
    return models


def _convert(annotation: Any, value: Any, where: str) -> Any:
    try:
        return convert(annotation, value, where)
    except ValueError as error:
        msg = f"families.json: {error}"
        raise ValueError(msg) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json itself would let the second of two equal keys win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        msg = f"families.json: {twice!r} must be there once, got it twice"
        raise ValueError(msg)
    return found


@functools.cache  # a constant of the package, not state
def table() -> Table:
    """The table of the package."""
    path = resources.files("rope_xp._config_reader").joinpath("families.json")
    return parse(path.read_text(encoding="utf-8"))


@functools.cache
def family(model_type: str) -> Family:
    """The family of a model_type that is in the table."""
    return family_of(model_type, table().lines[model_type])


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
    if gguf.is_gguf(loaded):
        read = gguf.from_gguf(loaded)
        model_type = f"gguf {read.architecture}"
        layout = layout or read.layout
        unlisted = _unlisted_family(read.config, model_type, layout)
        return Found(read.config, model_type, unlisted, layout, read.frequency_factors)
    part, model_type, is_inside = _text_part(loaded)
    if model_type in table().lines:
        found = family(model_type)
    else:
        found = _unlisted_family(part, model_type, layout)
    part = _canonical(part, found, has_defaults=is_inside or found.is_component)
    return Found(part, model_type, found, layout, None)


def _text_part(config: Config) -> tuple[Config, str, bool]:
    """The part of a config that is looked for, its model_type, and whether it was inside of another.

    Of a composite that is the part of the language model. A vision part by itself can have the name of
    its composite: it is the one that has patches.
    """
    is_inside = False
    model_type = config.get("model_type")
    while True:
        if model_type is not None and not isinstance(model_type, str):
            msg = f"`model_type` must be a string, got {model_type!r}"
            raise ValueError(msg)
        if model_type in table().lines:
            return config, str(model_type), is_inside
        part = next(filter(None, (get_mapping(config, key) for key in TEXT_PARTS)), None)
        part_type = table().text_part_of.get(model_type or "")
        if part is None and "patch_size" in config and "vision_config" not in config:
            part_type = table().vision_part_of.get(model_type or "") or part_type
        if part is None:
            # Old files of some composites have the keys of the text part at the top.
            return config, part_type or model_type or "", is_inside
        config, is_inside = part, True
        model_type = config.get("model_type") or part_type


def _unlisted_family(config: Config, model_type: str, layout: str | None) -> Family:
    """The rule of Llama for a family that is not in the table, whose pairing must be given."""
    for reason, names in table().left_out.items():
        if model_type in names:
            msg = f"`model_type` must be of a covered family, got {model_type!r}: {reason}"
            raise ValueError(msg)
    if not model_type and "patch_size" in config:  # a pairing would not be enough: it has axes
        msg = "`model_type` is required for a vision tower, a config with patch_size"
        raise ValueError(msg)
    if layout is None:
        unknown = f"unknown model_type {model_type!r}" if model_type else "`model_type` is required"
        msg = f'{unknown}: pass layout="half" or layout="interleaved"'
        raise ValueError(msg)
    is_mla = config.get("qk_rope_head_dim") is not None
    return Family(
        layout=Layout(layout),
        rotary=Rotary.MLA if is_mla else Rotary.GENERIC,
        per_layer_type=False,
        source="",
    )


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
