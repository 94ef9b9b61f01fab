"""Which family a config belongs to, and what ``families.json`` knows of it."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from rope_xp._config_reader import values as reading
from rope_xp._config_reader.values import Config

Family = dict[str, Any]

PARTS = ("text_config", "thinker_config", "llm_config", "language_config", "decoder_config")
FIELDS = ("hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings")


def find(config: object, layout: str | None) -> tuple[Config, str, Family, str | None]:
    """The part of a config that tells of positions, its model_type, family and pairing.

    Raises
    ------
    ValueError
        If the family is not covered, or not known and no ``layout`` is given.
    TypeError
        If ``config`` is neither a mapping nor a path.
    """
    loaded = reading.load(config)
    if "general.architecture" in loaded:
        loaded = reading.from_gguf(loaded)
        layout = layout or loaded["gguf_layout"]
        model_type = f"gguf {loaded['gguf_architecture']}"
        return loaded, model_type, _generic(loaded, model_type, layout), layout
    loaded, model_type, inner = _part(loaded)
    family = table()["models"].get(model_type) or _generic(loaded, model_type, layout)
    inner = inner or family.get("part", False)
    return _canonical(loaded, family, inner), model_type, family, layout


@functools.cache  # a constant of the package, not state
def table() -> dict[str, Any]:
    """``families.json``, with every model type's own keys and its group's under ``models``."""
    held: dict[str, Any] = json.loads(
        resources.files("rope_xp._config_reader")
        .joinpath("families.json")
        .read_text(encoding="utf-8")
    )
    held["models"] = {
        name: {**{k: v for k, v in group.items() if k != "models"}, **own}
        for group in held["groups"]
        for name, own in group["models"].items()
    }
    return held


def _part(config: Config) -> tuple[Config, str, bool]:
    """The part of a config that tells of positions, its model_type, and whether it was inside.

    Of a composite that is the part of the language model. A vision part that stands alone can bear
    the name of its composite: it is the one that has patches.
    """
    families = table()
    inner = False
    model_type = config.get("model_type")
    while True:
        if model_type is not None and not isinstance(model_type, str):
            msg = f"`model_type` must be a string, got {model_type!r}"
            raise ValueError(msg)
        if model_type in families["models"]:
            return config, str(model_type), inner
        part = next((p for p in PARTS if reading.require_mapping(p, config.get(p))), None)
        below = families["text_part_of"].get(model_type)
        if part is None and "patch_size" in config and "vision_config" not in config:
            below = families["vision_part_of"].get(model_type, below)
        if part is None:
            # Old files of some composites have the keys of the text part at the top.
            return config, below or model_type or "", inner
        config = dict(config[part])
        model_type, inner = config.get("model_type") or below, True


def _generic(config: Config, model_type: str, layout: str | None) -> Family:
    """The rule of Llama for a family that is not in the table; its pairing must be told."""
    for reason, names in table()["left_out"].items():
        if model_type in names:
            msg = f"`model_type` must be of a covered family, got {model_type!r}: {reason}"
            raise ValueError(msg)
    if not model_type and "patch_size" in config:  # a pairing would not be enough: it has axes
        msg = "`model_type` must name the vision tower where there is a patch_size, got nothing"
        raise ValueError(msg)
    if layout is None:
        told = f"got unknown {model_type!r}" if model_type else "got nothing"
        msg = (
            f"`model_type` must tell the pairing of q and k, {told}: "
            'pass layout="half" or layout="interleaved"'
        )
        raise ValueError(msg)
    mla = config.get("qk_rope_head_dim") is not None
    return {"layout": layout, "rotary": "mla" if mla else "generic", "nested": None, "defaults": {}}


def _canonical(config: Config, family: Family, inner: bool) -> Config:
    """The config with its family's other names put right, and inside of a composite with defaults."""
    for old, new in family.get("aliases", {}).items():
        value = reading.agreed(new, {f"as {new}": config.get(new), f"as {old}": config.get(old)})
        if value is not None:
            config[new] = value
    # A part of a composite is often written without what its class has by default, a model's own
    # file is not: there a missing size is a mistake.
    for key, value in family["defaults"].items():
        if inner or key not in FIELDS:
            config.setdefault(key, value)
    return config
