"""What stands in a model's config: files, keys and numbers, each refused in a sentence when wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rope_xp import scaling
from rope_xp.scaling import Schedule

Config = dict[str, Any]

# Per rope_type: the keys that must be there, and those that may.
KEYS: dict[str, tuple[set[str], set[str]]] = {
    "default": (set(), set()),
    "linear": ({"factor"}, set()),
    "dynamic": ({"factor"}, set()),
    "yarn": (
        {"factor", "original_max_position_embeddings"},
        {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    ),
    "longrope": (
        {"short_factor", "long_factor", "original_max_position_embeddings"},
        {"attention_factor", "factor"},
    ),
    "llama3": (
        {
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        },
        set(),
    ),
    "proportional": (set(), {"factor"}),
}
# No size of a model is larger, and a typing error must not ask for as many layers.
MOST = 2**31
ANYWHERE = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}

# GGUF: which pairing a file of this architecture has. Its converter permutes the q and k weights of
# the Llama line, so there the pairs are adjacent although the original model has halves.
GGUF_LAYOUTS = {
    **dict.fromkeys(("llama", "granite", "arcee", "olmo", "command-r", "chatglm"), "interleaved"),
    **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi2", "phi3"), "half"),
    **dict.fromkeys(("gemma", "gemma2", "gptneox", "falcon", "stablelm", "starcoder2"), "half"),
    **dict.fromkeys(("olmo2", "olmoe", "nemotron", "bitnet", "dbrx"), "half"),
}


class RopeDict(NamedTuple):
    """One rope_parameters or rope_scaling, of one kind of layer, and how to call it in a sentence."""

    where: str
    values: Config


def load(config: object) -> Config:
    """The mapping itself, or what a file, a folder or a config object holds.

    Raises
    ------
    ValueError
        If the file cannot be read or holds no JSON mapping.
    TypeError
        If ``config`` is none of these.
    """
    if isinstance(config, str | Path):
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"`config` must be a readable config.json, got {str(path)!r}: {error.strerror}"
            raise ValueError(msg) from None
        except ValueError as error:
            msg = f"`config` must be a JSON file, got {str(path)!r}: {error}"
            raise ValueError(msg) from None
        if not isinstance(loaded, dict):
            msg = f"`config` must hold a mapping, got {type(loaded).__name__} in {str(path)!r}"
            raise ValueError(msg)
        return loaded
    if not isinstance(config, Mapping) and hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        msg = (
            "`config` must be a mapping, a path to a config.json or its folder, "
            f"got {type(config).__name__}"
        )
        raise TypeError(msg)
    return dict(config)


def integer(config: Mapping[str, Any], key: str, where: str = "", *, least: int = 1) -> int | None:
    """The integer under ``key``; None if there is none."""
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        rule = "a positive integer" if least == 1 else f"an integer of at least {least}"
        msg = f"`{key}`{where} must be {rule}, got {value!r}"
        raise ValueError(msg)
    if value > MOST:
        power = int(value).bit_length() - 1
        msg = f"`{key}`{where} must be at most 2**31, got 2**{power} or more"
        raise ValueError(msg)
    return int(value)


def number(config: Mapping[str, Any], key: str, where: str = "") -> float | None:
    """The positive, finite number under ``key``; None if there is none."""
    value = config.get(key)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.number)
        or not 0 < value < 2.0**1023
    ):
        msg = f"`{key}`{where} must be a positive number, got {value!r}"
        raise ValueError(msg)
    return float(value)


def flag(config: Mapping[str, Any], key: str, where: str = "", *, default: bool) -> bool:
    """The true or false under ``key``."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        msg = f"`{key}`{where} must be true or false, got {value!r}"
        raise ValueError(msg)
    return value


def listed(config: Mapping[str, Any], key: str, length: int | None) -> list[Any] | None:
    """The list under ``key``, one entry per layer; None if there is none."""
    value = config.get(key)
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str):
        msg = f"`{key}` must be a list, got {value!r}"
        raise ValueError(msg)
    if length is not None and len(value) != length:
        msg = f"`{key}` must have num_hidden_layers={length} entries, got {len(value)}"
        raise ValueError(msg)
    return list(value)


def agreed(key: str, stated: Mapping[str, Any]) -> Any:
    """The one value that all places state, None for a place that states none; ValueError if they differ."""
    told = {place: value for place, value in stated.items() if value is not None}
    if len(set(map(repr, told.values()))) > 1:
        places = " but ".join(f"{value!r} {place}" for place, value in told.items())
        msg = f"`{key}` must be the same wherever it stands, got {places}"
        raise ValueError(msg)
    return next(iter(told.values()), None)


def require_mapping(key: str, value: object) -> Config | None:
    """A copy of a mapping under ``key``; None for null or an empty one."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        msg = f"`{key}` must be a mapping or null, got {value!r}"
        raise ValueError(msg)
    return dict(value) or None


def rope_type(entry: RopeDict, aliases: Mapping[str, str], *, reads_type: bool = True) -> str:
    """The kind of schedule, whether it is called rope_type or type.

    Raises
    ------
    ValueError
        If it is unknown, if both names stand there and differ, or if transformers does not read
        ``type`` for this family.
    """
    told = {}
    for key in ("rope_type", "type"):
        name = entry.values.get(key)
        if name is None:
            continue
        if not isinstance(name, str):
            msg = f"`{key}` in {entry.where} must be a string, got {name!r}"
            raise ValueError(msg)
        told[key] = aliases.get(name, name)
        if told[key] not in KEYS:
            msg = f"unknown {key} {name!r} in {entry.where}; known: {', '.join(KEYS)}"
            raise ValueError(msg)
    if "type" in told and "rope_type" not in told and not reads_type:
        msg = (
            f"`type` in {entry.where} must be called rope_type for this model_type, got type="
            f"{told['type']!r}: transformers 5.23.0 ignores the old name here"
        )
        raise ValueError(msg)
    if len(set(told.values())) > 1:
        msg = (
            f"`rope_type` and `type` in {entry.where} must agree, got {told['rope_type']!r} and "
            f"{told['type']!r}"
        )
        raise ValueError(msg)
    return next(iter(told.values()), "default")


def require_keys(entry: RopeDict, kind: str, extra: Sequence[str], topped: set[str]) -> None:
    """ValueError for a key that ``kind`` does not know, or one that it misses.

    ``topped`` are required keys that stand at the top level of the config instead.
    """
    required, optional = KEYS[kind]
    for key in entry.values:
        if key not in required | optional | ANYWHERE | set(extra):
            known = ", ".join(sorted(required | optional | ANYWHERE))
            msg = f"unknown key {key!r} in {entry.where} for rope_type {kind!r}; known: {known}"
            raise ValueError(msg)
    for key in sorted(required - topped):
        if key not in entry.values or (entry.values[key] is None and key != "factor"):
            msg = f"`{key}` must be given in {entry.where} for rope_type {kind!r}, got nothing"
            raise ValueError(msg)


def schedule(
    entry: RopeDict, kind: str, *, max_positions: int | None, fields: Mapping[str, Any]
) -> Schedule | None:
    """The schedule that a rope dict describes; None for the default.

    ``fields`` are set from outside of the dict and go before what stands in it.
    """
    where = f" in {entry.where}"
    held = {**entry.values, **fields}
    if kind == "default":
        return None
    if held.get("factor") is None and kind in ("linear", "dynamic", "llama3"):
        msg = f"`factor`{where} must be a number, got None"
        raise ValueError(msg)
    if kind == "yarn" and held["factor"] is None:
        held["factor"] = _needed(max_positions) / held["original_max_position_embeddings"]
    classes = {
        "linear": scaling.Linear,
        "dynamic": scaling.NTK if held.get("alpha") else scaling.DynamicNTK,
        "yarn": scaling.YaRN,
        "longrope": scaling.LongRoPE,
        "llama3": scaling.Llama3,
        "proportional": scaling.Proportional,
    }
    made: Any = classes[kind]
    if made is scaling.NTK:
        held["factor"] = held["alpha"]
    if made is scaling.DynamicNTK:
        held["max_position_embeddings"] = _needed(max_positions)
    if kind == "longrope":
        if held.get("factor") is None and held.get("attention_factor") is None:
            held["max_position_embeddings"] = _needed(max_positions)
        else:
            held.pop("max_position_embeddings", None)
        for key in ("short_factor", "long_factor"):
            if not isinstance(held[key], Sequence) or isinstance(held[key], str):
                msg = f"`{key}`{where} must be a list of numbers, got {held[key]!r}"
                raise ValueError(msg)
            held[key] = tuple(held[key])
    names = made.__dataclass_fields__
    try:
        built: Schedule = made(**{k: v for k, v in held.items() if k in names and v is not None})
    except (TypeError, ValueError) as error:
        told = str(error)
        msg = told.replace("` ", f"`{where} ", 1) if told.startswith("`") else f"{told}{where}"
        raise ValueError(msg) from None
    return built


def _needed(max_positions: int | None) -> int:
    if max_positions is None:
        msg = "`max_position_embeddings` must be given for this rope_type, got nothing"
        raise ValueError(msg)
    return max_positions


def from_gguf(metadata: Mapping[str, Any]) -> Config:
    """GGUF metadata as a config.json of the generic kind, with its pairing under ``gguf_layout``.

    Raises
    ------
    ValueError
        If a key is missing or of the wrong kind, or layers differ in ways that the file does not say.
    """
    architecture = metadata["general.architecture"]
    if not isinstance(architecture, str):
        msg = f"`general.architecture` must be a string, got {architecture!r}"
        raise ValueError(msg)
    own = {
        key.removeprefix(architecture + "."): value
        for key, value in metadata.items()
        if key.startswith(architecture + ".")
    }
    for key in sorted(own):
        if key.startswith(("rope.freq_base_", "rope.dimension_sections", "rope.dimension_count_")):
            msg = f"`{architecture}.{key}` must be absent: layers or axes that differ are not read from GGUF"
            raise ValueError(msg)
    names = {
        "attention.key_length": "head_dim",
        "embedding_length": "hidden_size",
        "attention.head_count": "num_attention_heads",
        "block_count": "num_hidden_layers",
        "context_length": "max_position_embeddings",
        "rope.freq_base": "rope_theta",
        "rope.dimension_count": "rotary_dim",
    }
    config: Config = {new: own[old] for old, new in names.items() if old in own}
    config["gguf_layout"] = GGUF_LAYOUTS.get(architecture)
    config["gguf_architecture"] = architecture
    kind = own.get("rope.scaling.type", "none")
    if kind not in ("none", "linear", "yarn"):
        msg = f"unknown {architecture}.rope.scaling.type {kind!r}; known: none, linear, yarn"
        raise ValueError(msg)
    renamed = {
        "factor": "factor",
        "original_context_length": "original_max_position_embeddings",
        "yarn_beta_fast": "beta_fast",
        "yarn_beta_slow": "beta_slow",
        "type": None,
        "finetuned": None,
    }
    scaled: Config = {}
    for key, value in own.items():
        short = key.removeprefix("rope.scaling.")
        if key == short:
            continue
        if short not in renamed:
            msg = f"unknown key {architecture + '.' + key!r}; known under rope.scaling: {', '.join(renamed)}"
            raise ValueError(msg)
        if renamed[short]:
            scaled[str(renamed[short])] = value
    if kind != "none":
        config["rope_scaling"] = {"rope_type": kind, **scaled}
    if "rope_freqs.weight" in metadata:
        config["rope_freqs"] = metadata["rope_freqs.weight"]
    return config
