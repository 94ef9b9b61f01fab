"""The metadata of a GGUF file → a mapping with the keys of config.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from rope_xp._config_reader.found import Found
from rope_xp._config_reader.unlisted import unlisted_family
from rope_xp._config_reader.values import Config
from rope_xp._validation import quote, require_list

# Which pairing a file of this architecture has. Its converter permutes the q and k weights of the
# Llama line, so there pairs are adjacent although the original model has halves.
LAYOUTS = {
    **dict.fromkeys(("llama", "granite", "arcee", "olmo", "command-r", "chatglm"), "interleaved"),
    **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi2", "phi3"), "half"),
    **dict.fromkeys(("gemma", "gemma2", "gptneox", "falcon", "stablelm", "starcoder2"), "half"),
    **dict.fromkeys(("olmo2", "olmoe", "nemotron", "bitnet", "dbrx"), "half"),
}

# Keys after the architecture's name, and what config.json calls them.
SIZES = {
    "attention.key_length": "head_dim",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "rope.dimension_count": "rotary_dim",
}
SCALING = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
    "type": None,
    "finetuned": None,
}
SCALING_TYPES = ("none", "linear", "yarn")
# Keys that make layers or axes differ. The rest of their names is a layer type or a list of sizes.
NOT_READ = ("rope.freq_base_", "rope.dimension_sections", "rope.dimension_count_")


def find(metadata: Config, layout: str | None) -> Found | None:
    """GGUF metadata with the keys of config.json; None for another mapping.

    Raises
    ------
    ValueError
        If a key is missing or of the wrong kind, or layers differ and the file does not say how.
    """
    if "general.architecture" not in metadata:
        return None
    architecture = metadata["general.architecture"]
    if not isinstance(architecture, str):
        msg = f"`general.architecture` must be a string, got {quote(architecture)}"
        raise ValueError(msg)
    prefix = f"{architecture}."
    values = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    for key in sorted(values):
        if key.startswith(NOT_READ):
            msg = (
                f"`{prefix}{key}` must be absent: layers or axes that differ are not read from GGUF"
            )
            raise ValueError(msg)
    _require_even_count(values, prefix)
    config = {new: values[old] for old, new in SIZES.items() if old in values}
    scaling = _rope_scaling(values, prefix)
    if scaling is not None:
        config["rope_scaling"] = scaling
    factors = metadata.get("rope_freqs.weight")
    model_type = f"gguf {architecture}"
    layout = layout or LAYOUTS.get(architecture)
    return Found(
        config,
        model_type,
        unlisted_family(config, model_type, layout),
        layout,
        None if factors is None else require_list("rope_freqs.weight", factors),
    )


def _require_even_count(values: Config, prefix: str) -> None:
    """ValueError unless the number of rotated features is even, if it is an integer."""
    count = values.get("rope.dimension_count")
    if isinstance(count, int | np.integer) and count % 2:
        msg = f"`{prefix}rope.dimension_count` must be even, got {quote(count)}"
        raise ValueError(msg)


def _rope_scaling(values: Config, prefix: str) -> dict[str, Any] | None:
    rope_type = values.get("rope.scaling.type", "none")
    if rope_type not in SCALING_TYPES:
        known = ", ".join(SCALING_TYPES)
        msg = f"unknown {prefix}rope.scaling.type {quote(rope_type)}; known: {known}"
        raise ValueError(msg)
    scaling: dict[str, Any] = {"rope_type": rope_type}
    for key, value in values.items():
        short = key.removeprefix("rope.scaling.")
        if key == short:
            continue
        if short not in SCALING:
            known = ", ".join(SCALING)
            msg = f"unknown key {quote(prefix + key)}; known under rope.scaling: {known}"
            raise ValueError(msg)
        name = SCALING[short]
        if name is not None:
            scaling[name] = value
    return None if rope_type == "none" else scaling
