"""The tables of families: ``families.json`` for transformers, ``published.json`` for published code.

A line of a file is checked and made a `Family` when a config needs it, not before: the tests make
all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rope_xp._config_reader.checks import family_of
from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.data import read_json
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import lookup


@dataclass(frozen=True)
class Variant:
    """Another family behind a model_type: if the config has ``equals``, or anything, under ``key``.

    A dot in ``key`` leads into a mapping.
    """

    key: str
    name: str
    equals: Any = None

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether it is the family of a config with its model_type."""
        value = lookup(config, self.key)
        return value is not None and self.equals in (None, value)


@dataclass(frozen=True)
class Table:
    """A file: what a family is, line by line, and which model_types are none.

    Parameters
    ----------
    about, version : str
        What the file is, and the version of transformers that it is about, or its date.
    groups : tuple of mapping
        Keys of families, and under ``models`` by model_type what is a model's own.
    text_part_of, vision_part_of : mapping
        A composite's model_type → that of its part, where the part does not say.
    left_out : mapping
        A reason → the model_types that are not covered for it.
    same_as : mapping
        A model_type → the one whose line it shares.
    variants : mapping
        A model_type → the other families that it can be; the first that fits is it.
    text_defaults : mapping
        A composite's model_type → what its text part has where it does not say, instead of the
        defaults of its class.
    absent_text : mapping
        The same, only for a composite without a text part.
    name : str
        The name of the file.
    """

    about: str
    version: str
    groups: tuple[Mapping[str, Any], ...]
    text_part_of: Mapping[str, str]
    vision_part_of: Mapping[str, str]
    left_out: Mapping[str, tuple[str, ...]]
    same_as: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, tuple[Variant, ...]] = field(default_factory=dict)
    text_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent_text: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = "families.json"

    @functools.cached_property
    def lines(self) -> dict[str, dict[str, Any]]:
        """Of every model_type the keys of its group and its own."""
        lines: dict[str, dict[str, Any]] = {}
        for group in self.groups:
            shared = {key: value for key, value in group.items() if key != "models"}
            models = _convert(Mapping[str, Any], group.get("models"), "models", self.name)
            for model_type, own in models.items():
                if not isinstance(own, Mapping):
                    msg = f"{self.name}: {model_type!r} must be a mapping, got {own!r}"
                    raise ValueError(msg)
                if model_type in lines:
                    msg = f"{self.name}: {model_type!r} must be in one group, got two"
                    raise ValueError(msg)
                lines[model_type] = {**shared, **own}
        return lines


def as_table(values: Any, name: str = "families.json") -> Table:
    """The table that a file of this name has; its lines are not checked yet.

    Raises
    ------
    ValueError
        If a key is unknown, missing or of another type.
    """
    table: Table = _convert(Table, values, "", name)
    return replace(table, name=name)


def _convert(annotation: Any, value: Any, where: str, name: str) -> Any:
    try:
        return convert(annotation, value, where)
    except ValueError as error:
        msg = f"{name}: {error}"
        raise ValueError(msg) from None


@functools.cache  # a constant of the package, not state
def read_table(name: str = "families.json") -> Table:
    """A table of the package."""
    return as_table(read_json(name), name)


def tables() -> tuple[Table, Table]:
    """That of transformers, and that of published code for what transformers does not have."""
    return read_table(), read_table("published.json")


def family_name(model_type: str, config: Mapping[str, Any]) -> str:
    """The name under which the tables have the family of a config, which may not be its model_type."""
    for table in tables():
        for variant in table.variants.get(model_type, ()):
            if variant.fits(config):
                return variant.name
    for table in tables():
        model_type = table.same_as.get(model_type, model_type)
    return model_type


def is_known(name: str) -> bool:
    """Whether a table has a line of this name."""
    return any(name in table.lines for table in tables())


@functools.cache
def known_family(name: str) -> Family:
    """The family of a line."""
    table = next(table for table in tables() if name in table.lines)
    return family_of(name, table.lines[name], table.name)


def part_of(composite: str, part: str) -> str | None:
    """The name of the family of a composite's part, "text" or "vision", where the part does not say."""
    for table in tables():
        found = table.vision_part_of if part == "vision" else table.text_part_of
        if composite in found:
            return found[composite]
    return None


def why_left_out(name: str) -> str | None:
    """Why a model_type is not covered, if that is known."""
    for table in tables():
        for reason, names in table.left_out.items():
            if name in names:
                return reason
    return None
