"""``families.json`` as a table of families.

A line of the file is checked and made a `Family` when a config needs it, not before: the tests make
all of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rope_xp._config_reader.checks import family_of
from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.schema import Family


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
            models = _convert(Mapping[str, Any], group.get("models"), "models")
            for model_type, own in models.items():
                if not isinstance(own, Mapping):
                    msg = f"families.json: {model_type!r} must be a mapping, got {own!r}"
                    raise ValueError(msg)
                if model_type in lines:
                    msg = f"families.json: {model_type!r} must be in one group, got two"
                    raise ValueError(msg)
                lines[model_type] = {**shared, **own}
        return lines


def parse(text: str) -> Table:
    """The table in the text of a ``families.json``; its lines are not checked yet.

    Raises
    ------
    ValueError
        If a key is there twice, unknown, missing or of another type.
    """
    table: Table = _convert(Table, json.loads(text, object_pairs_hook=_without_duplicates), "")
    return table


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
def read_table() -> Table:
    """The table of the package."""
    path = resources.files("rope_xp._config_reader").joinpath("families.json")
    return parse(path.read_text(encoding="utf-8"))


@functools.cache
def known_family(model_type: str) -> Family:
    """The family of a model_type that is in the table."""
    return family_of(model_type, read_table().lines[model_type])
