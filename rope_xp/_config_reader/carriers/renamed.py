"""Keys of other kinds of file → those of config.json, checked by the names that the file has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from rope_xp._config_reader.values import Config, get_int
from rope_xp._validation import quote

# A key with one of these in its name says how positions are encoded.
ROPE_LIKE = re.compile(r"rope|rotary|theta|yarn|freq|nope|alibi|pos_emb|position|condense|compress")


def require_read(config: Config, read: Collection[str], kind: str) -> None:
    """ValueError for a key that sounds like rotation and that nothing reads, unless it is null."""
    for key in config:
        if key not in read and ROPE_LIKE.search(key) and config[key] is not None:
            msg = f"unknown key {quote(key)} in {kind}; known: {', '.join(sorted(read))}"
            raise ValueError(msg)


def sizes(config: Config, names: Mapping[str, str]) -> dict[str, Any]:
    """The integers under the keys ``names``, by the names that config.json has for them.

    Raises
    ------
    ValueError
        If one is no positive integer, or heads do not divide the width where there is no size of a head.
    """
    found = {new: get_int(config, old) for old, new in names.items()}
    old_names = {new: old for old, new in names.items()}
    width, heads = found.get("hidden_size"), found.get("num_attention_heads")
    if found.get("head_dim") is None:
        for key, value in (("hidden_size", width), ("num_attention_heads", heads)):
            if value is None:
                msg = f"`{old_names[key]}` is required"
                raise ValueError(msg)
        if width and heads and width % heads:
            msg = (
                f"`{old_names['hidden_size']}` must be a multiple of "
                f"{old_names['num_attention_heads']}={heads}, got {width}"
            )
            raise ValueError(msg)
    return {key: value for key, value in found.items() if value is not None}


def llama3(factor: float, high_freq_factor: float = 4.0) -> dict[str, Any]:
    """The rope parameters of Llama 3.1's schedule, of which other code has constants but for these."""
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": high_freq_factor,
        "original_max_position_embeddings": 8192,
    }
