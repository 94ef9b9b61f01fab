"""A recipe of torchtune, whose model is the name of a builder and its arguments → a mapping like config.json.

``torchtune.json`` has the builders, read off torchtune 0.6.1: those of components, ``llama3_1`` with the
sizes as arguments, and those of single models, ``llama3_1_8b``, which call them. Builders with LoRA have
the prefix ``lora_`` or ``qlora_`` and the model of the same name without it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rope_xp._config_reader.carriers.renamed import llama3, require_read, sizes
from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.data import read_json
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import Config, get_positive
from rope_xp._config_reader.vocabulary import Layout, Rotary
from rope_xp._validation import quote

SIZES = {
    "embed_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "max_seq_len": "max_position_embeddings",
}
LORA = re.compile("q?lora_")


@dataclass(frozen=True)
class Component:
    """A builder of a decoder: its pairing, and its defaults, ``rope_base`` and ``scale_factor``."""

    layout: Layout
    source: str
    defaults: Mapping[str, float]


@dataclass(frozen=True)
class Model:
    """A builder of one model: the component's, and the arguments that it gives it."""

    component: str
    arguments: Mapping[str, int | float]
    source: str


@dataclass(frozen=True)
class Table:
    """The file."""

    about: str
    version: str
    components: Mapping[str, Component]
    models: Mapping[str, Model]


@functools.cache  # a constant of the package, not state
def read_table() -> Table:
    """The table of the package."""
    table: Table = convert(Table, read_json("carriers/torchtune.json"), "")
    return table


def find(config: Config, layout: str | None) -> Found | None:
    """The model of a recipe with the keys of config.json; None for another mapping.

    Raises
    ------
    ValueError
        If the builder is not known, or an argument is missing or of the wrong kind.
    """
    model = config if "_component_" in config else config.get("model", config.get("policy_model"))
    if not isinstance(model, Mapping) or "_component_" not in model:
        return None
    name = model["_component_"]
    if not isinstance(name, str):
        msg = f"`_component_` must be a string, got {quote(name)}"
        raise ValueError(msg)
    table = read_table()
    builder = LORA.sub("", name.rpartition(".")[2], count=1)
    of_model = table.models.get(builder)
    component = table.components.get(builder if of_model is None else of_model.component)
    if component is None or not name.startswith("torchtune.models."):
        msg = (
            f"unknown `_component_` {quote(name)}: no builder of a language model of torchtune "
            f"{table.version}; with those of a component, as torchtune.models.llama2.llama2, the sizes "
            "are arguments"
        )
        raise ValueError(msg)
    # Builders of single models do not take these arguments.
    read = {*component.defaults, *SIZES} if of_model is None else set()
    require_read(model, read, builder)
    arguments = of_model.arguments if of_model is not None else {k: model.get(k) for k in read}
    given = {**component.defaults, **{k: v for k, v in arguments.items() if v is not None}}
    base = get_positive(given, "rope_base") or 10000.0
    found = sizes(given, SIZES)
    found["rope_parameters"] = {"rope_theta": base}
    factor = get_positive(given, "scale_factor")
    if factor is not None:
        found["rope_parameters"] |= llama3(factor)
    family = Family(
        layout=component.layout,
        rotary=Rotary.WHOLE,
        per_layer_type=False,
        source=component.source,
        base=base,
        base_keys=(),
        note=_note(name),
    )
    return Found(found, f"torchtune {builder}", family, layout)


def _note(name: str) -> str | None:
    if "lora_code_llama2" not in name:
        return None
    return (
        "the base is that of the checkpoint; torchtune 0.6.1 builds code_llama2 with LoRA with 10000, "
        "since lora_llama2 takes no rope_base"
    )
