"""Keys that could change the rotation and that nothing reads: which, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rope_xp._config_reader.meanings import HEAD, LAYERS, MEANINGS, ON, InUse
from rope_xp._config_reader.values import Config, is_list
from rope_xp._config_reader.vocabulary import ATTENTION, BASE_KEYS
from rope_xp._validation import quote

# What the rule for unknown families reads, or checks elsewhere.
READ = frozenset(
    {
        *BASE_KEYS,
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "qk_rope_head_dim",
        "rope_parameters",
        "rope_scaling",
        "rotary_dim",
    }
)
# Names of rotary encodings, at the borders of words: "property" has none.
ROPE_LIKE = re.compile(r"rotary|theta|yarn|mscale|(?<![a-z])[a-z]{0,2}rope(?![a-z])", re.IGNORECASE)
# … and of how code stores or evaluates them.
IMPLEMENTATION = re.compile(r"dtype|fp32|float32|fus(?:ed|ion)|cache|max_len|_impl$|backend|kernel")
# Mappings that are about something else than the attention of the text.
OTHER_MAPPINGS = re.compile(
    r"vision|visual|vit|image|audio|speech|video|talker|diffusion|projector|adapter|adaptor|quant|"
    r"draft|mtp|spec|auto_map|task|generation|label|lora|peft|^rope_(?:scaling|parameters)$"
)
# What known families read; a typing error in one of them would be passed over.
NAMES = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rotary_emb_base",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "rotary_dim",
    "rotary_pct",
    "no_rope_layers",
    "layer_rope_theta",
    "max_position_embeddings",
    "original_max_position_embeddings",
)
CORRECT = frozenset(
    {*NAMES, *READ, *MEANINGS, "partial_rotary_factors", "no_rope_layer_interval", "rope_thetas"}
)
HINTS = re.compile(r"ro[tp]|theta|positi|rpoe")
# Ratios of difflib: rope_thetha and rope_theta have 0.95, rope_ratio and rope_theta 0.7.
CUTOFF = 0.87
# Longer names are alike sooner: num_position_embeddings of Qwen 3 VL's tower has 0.91.
CUTOFF_OF_POSITIONS = 0.95


def misspelt(config: Config, known: Iterable[str]) -> str | None:
    """A sentence for a key that is nearly one of `NAMES`; None if there is none."""
    for key, value in config.items():
        if value is None or key in CORRECT or key in known or not HINTS.search(str(key)):
            continue
        import difflib  # noqa: PLC0415 - takes a tenth of the time of a config

        cutoff = CUTOFF_OF_POSITIONS if "position" in key else CUTOFF
        nearest = difflib.get_close_matches(key, NAMES, 1, cutoff)
        if nearest:
            return (
                f"`{key}` must be called {nearest[0]}, or be absent if it is another key: nothing reads it, "
                f"got {quote(value)}"
            )
    return None


def unread(config: Config, found: InUse) -> Iterator[tuple[str, str]]:
    """Each key that could change the rotation and that the rule for unknown families does not read.

    Yields
    ------
    key : str
        With a dot where it is inside of a mapping.
    remedy : str
        What would make the config acceptable.
    """
    yield from _among(config, "", found)
    for name, value in config.items():
        if isinstance(value, Mapping) and not OTHER_MAPPINGS.search(str(name)):
            yield from _among(value, f"{name}.", found)
    layer_types: Any = config.get("layer_types")
    rope_parameters = config.get("rope_parameters")
    by_type = isinstance(rope_parameters, Mapping) and any(
        isinstance(value, Mapping) for value in rope_parameters.values()
    )
    listed = layer_types if is_list(layer_types) else []
    kinds = sorted({name for name in listed if isinstance(name, str)} & ATTENTION)
    if len(kinds) > 1 and not by_type:
        yield (
            "layer_types",
            "write rope_parameters with a mapping, or null for no rotation, for each of "
            + ", ".join(kinds),
        )


def _is_rope_like(key: str, value: Any) -> bool:
    is_switched_off = value is False or (isinstance(value, Mapping) and not value)
    return bool(ROPE_LIKE.search(key)) and not (is_switched_off or IMPLEMENTATION.search(key))


def _among(config: Config, prefix: str, found: InUse) -> Iterator[tuple[str, str]]:
    has_layer_types = "layer_types" in config
    is_mla = config.get("qk_rope_head_dim") is not None
    for key, value in config.items():
        if value is None or not isinstance(key, str):
            continue
        meaning = MEANINGS.get(key)
        if prefix and key in BASE_KEYS:
            if value not in found.bases:
                yield prefix + key, "write the base as rope_theta at the top level"
        elif meaning is ON and isinstance(value, Mapping):
            yield (
                prefix + key,
                "write what it says as rope_theta, rope_scaling and partial_rotary_factor",
            )
        elif meaning is not None:
            # With latent attention the slice is described, and these are about the whole head.
            is_elsewhere = (meaning is LAYERS and has_layer_types) or (meaning is HEAD and is_mla)
            if not is_elsewhere and not meaning.agrees(value, found):
                yield prefix + key, meaning.remedy
        elif _is_rope_like(key, value) and (prefix or key not in READ):
            yield (
                prefix + key,
                "write what it means with the keys of transformers, or leave it out if it changes nothing",
            )
