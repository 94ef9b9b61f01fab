"""The JSON files of this package, in which models are described as data."""

import functools
import json
import pkgutil
from typing import Any


def read_json(name: str) -> Any:
    """What is in a file, ``"gguf/gguf.json"``.

    `pkgutil`, because `importlib.resources` takes longer to import than a config takes to be read.
    """
    return parse_json((pkgutil.get_data(__package__, name) or b"").decode(), name)


def parse_json(text: str, name: str) -> Any:
    """JSON in which no object has a key twice; ``name`` is that of the file in sentences."""
    return json.loads(text, object_pairs_hook=functools.partial(_as_object, name))


def _as_object(name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json itself would let the second of two equal keys win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        msg = f"{name}: {twice!r} must be there once, got it twice"
        raise ValueError(msg)
    return found
