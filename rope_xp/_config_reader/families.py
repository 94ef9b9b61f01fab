"""Which family a config belongs to, and which part of it says how positions are encoded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rope_xp._config_reader import files
from rope_xp._config_reader.carriers import mlx
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.parts import find_part
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.table import is_known, known_family
from rope_xp._config_reader.unlisted import unlisted_family
from rope_xp._config_reader.values import Config, get_int, lookup, require_consistent
from rope_xp._config_reader.vocabulary import SIZE_KEYS
from rope_xp._validation import quote

# What a model's own file must say; a part of a composite is often written without it.
REQUIRED = frozenset(
    {"hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings"}
)
INTEGERS = SIZE_KEYS - {"layer_types"}


# The kinds of file other than transformers' config.json: a key that each has, and the module whose ``find``
# returns None for a mapping of another kind all the same. Some transformers of diffusers have the keys of
# a params.json as well. A module is imported where its key is: together they take longer than a config.
CARRIERS = (
    ("general.architecture", "gguf.translate"),
    ("_class_name", "carriers.diffusers"),
    ("dim", "carriers.params"),
    ("n_embd", "carriers.litgpt"),
    ("_component_", "carriers.torchtune"),
    ("model", "carriers.torchtune"),
    ("policy_model", "carriers.torchtune"),
)


def find(config: object, layout: str | None, part: str = "text") -> Found:
    """The part of a config that says how positions are encoded, with its model_type and family.

    Raises
    ------
    ValueError
        If the family is not covered, or not known and no ``layout`` is given, or there is no such part.
    TypeError
        If ``config`` is neither a mapping nor a path.
    """
    loaded = files.load(config)
    for key, module in CARRIERS:
        if key not in loaded:
            continue
        carrier = import_module(f"{__package__}.{module}")
        read: Found | None = carrier.find(loaded, layout)
        if read is not None and part != "text":
            msg = f"`part` must be 'text' for a file without parts, got {quote(part)}"
            raise ValueError(msg)
        if read is not None:
            return read
    values, model_type, name, is_inside = find_part(loaded, part)
    family = known_family(name) if is_known(name) else None
    own = None if family is None else family.layout.value
    layout = mlx.layout_of(values, model_type, layout, own)
    if family is None:
        family = unlisted_family(values, model_type, layout, name=name)
    has_defaults = is_inside or family.is_component
    values = _canonical(values, family, model_type, has_defaults=has_defaults)
    return Found(values, model_type, family, layout)


def _canonical(
    config: Config, family: Family, model_type: str, *, has_defaults: bool
) -> dict[str, Any]:
    """The config with the usual names of its keys, and with defaults where they may be left out."""
    found = dict(config)
    for old, new in family.aliases.items():
        given = lookup(config, old)
        if new in INTEGERS:
            get_int({old: given}, old)  # refused by the name that it has in the file
        value = require_consistent(new, {f"as {new}": found.get(new), f"as {old}": given})
        if value is not None:
            found[new] = value
    _require_values(found, family, model_type)
    flat = _flat_schedule(found, family)
    if flat is not None:
        found["rope_scaling"] = flat
    defaults = {k: v for k, v in family.defaults.items() if has_defaults or k not in REQUIRED}
    return {**defaults, **found}


def _require_values(config: Config, family: Family, model_type: str) -> None:
    """ValueError for a switch of published code that is on another position than the one that is read."""
    for key, wanted in family.required_values.items():
        value = lookup(config, key)
        if value is not None and (
            value != wanted or isinstance(value, bool) != isinstance(wanted, bool)
        ):
            only = "absent" if wanted is None else f"{quote(wanted)} or absent"
            msg = f"`{key}` must be {only} for model_type {quote(model_type)}, got {quote(value)}"
            raise ValueError(msg)


def _flat_schedule(config: Config, family: Family) -> dict[str, Any] | None:
    """The rope_scaling of a config that has the parameters of its schedule as keys of its own."""
    rule = family.flat_schedule
    if rule is None or config.get("rope_scaling") or config.get("rope_parameters"):
        return None
    switch = lookup(config, rule.key)
    switch = rule.default if switch is None else switch
    if rule.rope_types and switch is not None and switch not in rule.rope_types:
        known = ", ".join(map(str, rule.rope_types))
        msg = f"unknown {rule.key} {quote(switch)}; known: {known}"
        raise ValueError(msg)
    rope_type = rule.rope_types.get(str(switch)) if rule.rope_types else rule.rope_type
    if not switch or rope_type in (None, "default"):
        return None
    given = {name: lookup(config, key) for name, key in rule.keys.items()}
    given = {name: value for name, value in given.items() if value is not None}
    return {"rope_type": rope_type, **rule.values, **given}
