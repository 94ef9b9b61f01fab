"""A path or a folder → the mapping in it: of a regular file, within bounds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rope_xp._config_reader.gguf import file as gguf_file
from rope_xp._config_reader.values import MAX_DEPTH, is_list
from rope_xp._validation import quote, shorten

# A config has kilobytes, one that lists every quantized tensor some megabytes. JSON of this size is at
# most some hundred MB in memory, and takes some seconds.
MAX_BYTES = 16 * 2**20
MAX_YAML_BYTES = 2**18  # which takes fifty times as long to read

# The files of a folder that say how a model is made, the first one that is there.
NAMES = ("config.json", "params.json", "lit_config.json", "model_config.yaml")
# A pipeline of diffusers: its parts are folders.
PIPELINE = "model_index.json"


def read_path(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What is in the file, or in the file of the folder that says how the model is made."""
    text = str(path)
    if not text or "\0" in text:
        msg = f"`config` must be a path, got {quote(text)}"
        raise ValueError(msg)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        msg = f"`config` must be a path, got the address {quote(text)}: download the file first"
        raise ValueError(msg)
    try:
        file = _file_of(Path(path))
        is_gguf = file.suffix == ".gguf" or gguf_file.is_gguf(file)
        return gguf_file.metadata_of(file) if is_gguf else _from_file(file)
    except FileNotFoundError as error:
        why = f"{error.strerror}{_advice(text)}"
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or "no name of a file"
    msg = f"`config` must be a readable config.json, got {quote(text)}: {why}"
    raise ValueError(msg)


def _advice(text: str) -> str:
    """After "No such file", for what looks like a model on a hub."""
    is_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", text) and Path(text).suffix != ".json"
    return (
        "; if it is the name of a model on a hub, download its config.json first" if is_name else ""
    )


def _file_of(path: Path) -> Path:
    """``path``, or the file in the folder that says how the model is made."""
    if not path.is_dir():
        return path
    for name in NAMES:
        if (path / name).exists():
            return path / name
    found = gguf_file.in_folder(path)
    if found is not None:
        return found
    if (path / PIPELINE).exists():
        return _part_of_pipeline(path)
    msg = f"`config` must be a folder with a {', '.join(NAMES)}, {PIPELINE} or GGUF file, got {quote(str(path))}"
    raise ValueError(msg)


def _part_of_pipeline(path: Path) -> Path:
    """The config of the one transformer that a pipeline of diffusers has."""
    parts = [
        name
        for name, value in _from_file(path / PIPELINE).items()
        if is_list(value) and re.fullmatch(r"[\w-]*transformer[\w-]*", name)
    ]
    found = [name for name in parts if (path / name / NAMES[0]).exists()]
    if len(found) == 1:
        return path / found[0] / NAMES[0]
    listed = (
        f"has {shorten(', '.join(found))}" if found else "has no transformer with a config.json"
    )
    msg = f"`config` must be the folder of one transformer, got {quote(str(path))}, which {listed}"
    raise ValueError(msg)


def _from_file(path: Path) -> Mapping[str, Any]:
    """The mapping in a JSON or YAML file."""
    is_yaml = path.suffix in {".yaml", ".yml"}
    data = _read(path, MAX_YAML_BYTES if is_yaml else MAX_BYTES)
    kind = "YAML" if is_yaml else "JSON"
    try:
        text = data.decode("utf-8-sig")
        loaded = _parse_yaml(text) if is_yaml else json.loads(text, object_pairs_hook=_as_mapping)
    except RecursionError:
        msg = f"`config` must be nested at most {MAX_DEPTH} deep, got a deeper one in {quote(str(path))}"
        raise ValueError(msg) from None
    except ValueError as error:
        what = "text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"a {kind} file"
        msg = f"`config` must be {what}, got {quote(str(path))}: {shorten(str(error))}"
        raise ValueError(msg) from None
    if not isinstance(loaded, Mapping):
        msg = (
            f"`config` must be a {kind} mapping, got {type(loaded).__name__} in {quote(str(path))}"
        )
        raise ValueError(msg)
    return loaded


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file, at most ``most`` of them; a device or a pipe is not opened."""
    with gguf_file.open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        msg = f"`config` must be a file of at most {most // 2**10:,} KiB, got {quote(str(path))}"
        raise ValueError(msg)
    return data


def _as_mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; json itself would let the last of several values of one key win."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            msg = f"{quote(key)} has conflicting values: {quote(found[key])} and {quote(value)}"
            raise ValueError(msg)
        found[key] = value
    return found


def _parse_yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - YAML alone needs it
    except ImportError:
        msg = "YAML needs PyYAML: pip install pyyaml, or pass the mapping in it"
        raise ValueError(msg) from None

    def construct_mapping(self: Any, node: Any, deep: bool = True) -> dict[Any, Any]:
        return _as_mapping(
            [tuple(self.construct_object(n, deep) for n in pair) for pair in node.value]
        )

    # PyYAML's own would let the last of several values of one key win.
    loader = type("Loader", (yaml.SafeLoader,), {"construct_mapping": construct_mapping})
    try:
        return yaml.load(text, loader)
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - PyYAML lets IndexError, AttributeError and others out
        raise ValueError(str(error)) from None
