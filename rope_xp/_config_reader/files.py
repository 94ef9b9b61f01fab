"""A path, a folder or a config object → the mapping in it, within bounds: not deep, not large."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol

from rope_xp._config_reader.values import MAX_DEPTH, is_list
from rope_xp._validation import quote

MAX_PARTS = 2**16
# Longer lists hold numbers or names, as the vocabulary in the metadata of a GGUF file: they are not
# looked through for mappings.
MAX_LIST = 4096


class SupportsToDict(Protocol):
    """A config object, as those of transformers: what its ``to_dict()`` returns is read."""

    def to_dict(self) -> Mapping[str, Any]: ...


class SupportsFieldsAndTensors(Protocol):
    """A ``gguf.GGUFReader``."""

    @property
    def fields(self) -> Any: ...

    @property
    def tensors(self) -> Any: ...


Config = Mapping[str, Any] | SupportsToDict | SupportsFieldsAndTensors | str | os.PathLike[str]


def load(config: object) -> dict[str, Any]:
    """The mapping itself, or what is in a file, a folder or a config object.

    Raises
    ------
    ValueError
        If the file cannot be read, is too large, or has no mapping in it; if a mapping contains itself.
    TypeError
        If ``config`` is none of these.
    """
    if isinstance(config, str | os.PathLike):
        from rope_xp._config_reader.paths import read_path  # noqa: PLC0415 - a mapping needs none

        config = read_path(config)
    elif hasattr(config, "fields") and hasattr(config, "tensors"):  # a gguf.GGUFReader
        from rope_xp._config_reader.gguf.file import metadata_of  # noqa: PLC0415

        config = metadata_of(config)
    elif not isinstance(config, Mapping) and hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        msg = (
            "`config` must be a mapping, a config object, a path to a config.json or its folder, "
            f"got {type(config).__name__}"
        )
        raise TypeError(msg)
    _require_bounded(config)
    return dict(config)


def _require_bounded(config: Mapping[Any, Any]) -> None:
    """ValueError if a mapping is nested too deep, as one that contains itself, or is too large."""
    for key in config:
        if not isinstance(key, str):
            msg = f"the keys of `config` must be strings, got {quote(key)}"
            raise ValueError(msg)
    parts: list[Any] = [config]
    count = 0
    for _ in range(MAX_DEPTH):
        inside = (
            value
            for part in parts
            for value in (part.values() if isinstance(part, Mapping) else part)
            if isinstance(value, Mapping) or (is_list(value) and len(value) <= MAX_LIST)
        )
        parts = list(islice(inside, MAX_PARTS))
        count += len(parts)
        if not parts:
            return
        if count >= MAX_PARTS:
            msg = f"`config` must have fewer than {MAX_PARTS:,} mappings and lists in it, got more"
            raise ValueError(msg)
    msg = f"`config` must be nested at most {MAX_DEPTH} deep, got a deeper one"
    raise ValueError(msg)
