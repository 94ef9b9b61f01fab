"""A path, a folder or a config object → the mapping in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class SupportsToDict(Protocol):
    """A config object, as those of transformers: what its ``to_dict()`` returns is read."""

    def to_dict(self) -> Mapping[str, Any]: ...


from rope_xp._config_reader import gguf_file
from rope_xp._validation import quote


def load(config: object) -> dict[str, Any]:
    """The mapping itself, or what is in a file, a folder or a config object.

    Raises
    ------
    ValueError
        If the file cannot be read or has no JSON mapping in it.
    TypeError
        If ``config`` is none of these.
    """
    found = gguf_file.load(config)
    if found is not None:
        return found
    if isinstance(config, str | Path):
        return _from_file(Path(config))
    if not isinstance(config, Mapping) and hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        msg = (
            "`config` must be a mapping, a config object, a path to a config.json or its folder, "
            f"got {type(config).__name__}"
        )
        raise TypeError(msg)
    return dict(config)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        path = path / "config.json" if path.is_dir() else path
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"`config` must be a readable config.json, got {quote(str(path))}: {error.strerror}"
        raise ValueError(msg) from None
    except ValueError as error:
        msg = f"`config` must be a JSON file, got {quote(str(path))}: {error}"
        raise ValueError(msg) from None
    if not isinstance(loaded, dict):
        msg = f"`config` must be a JSON mapping, got {type(loaded).__name__} in {quote(str(path))}"
        raise ValueError(msg)
    return loaded
