"""The rope parameters of each layer type, from the three spellings that configs have.

``rope_parameters`` is the new one: one mapping, or one for each layer type. ``rope_scaling`` is the
old one, with the base beside it; where layers differ it belongs to some layer types only, and the rest
comes from keys at the top level and from what the class of the family has by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rope_xp._config_reader.model import ModelConfig
from rope_xp._config_reader.schedules import RopeParameters
from rope_xp._config_reader.values import (
    get_mapping,
    get_positive,
    is_list,
    lookup,
    require_consistent,
)
from rope_xp._config_reader.vocabulary import ATTENTION, COMPRESS, MAIN
from rope_xp._validation import quote, shorten

# By layer type, or under None for all layers; None where a type does not rotate.
Entries = Mapping[str | None, RopeParameters | None]

BESIDE = {"type", "rope_theta", "partial_rotary_factor"}  # compared elsewhere


def rope_parameters_of(model: ModelConfig) -> Entries:
    """The rope parameters of each layer type, or of all layers.

    Raises
    ------
    ValueError
        If the spellings contradict each other, or the family has layers that differ and the config
        does not say how, or the other way round.
    """
    family, config = model.family, model.values
    new = get_mapping(config, "rope_parameters")
    old = get_mapping(config, "rope_scaling")
    by_type = _by_layer_type(model, new or {})
    if new is not None and old is not None:
        if by_type:
            msg = "`rope_scaling` must be absent beside a rope_parameters per layer type, got both"
            raise ValueError(msg)
        _require_same(old, new)
        new = {**old, **new}
    if by_type:
        return by_type
    if family.per_layer_type:
        if new is not None:
            names = ", ".join(family.rope_parameters or ())
            msg = (
                f"`rope_parameters` must be one mapping per layer type ({names}) for model_type "
                f"{quote(model.model_type)}, got keys {shorten(', '.join(map(str, new)))}"
            )
            raise ValueError(msg)
        return _legacy(model, old)
    if new is not None:
        return {None: RopeParameters("rope_parameters", new)}
    if old is not None:
        return {None: RopeParameters("rope_scaling", old, is_legacy=True)}
    if family.rope_parameters is not None:
        return {None: RopeParameters(_defaults_of(model), family.rope_parameters)}
    return {None: RopeParameters("rope_parameters", {})}


def _defaults_of(model: ModelConfig) -> str:
    return f"the defaults of {model.model_type}"


def _by_layer_type(model: ModelConfig, new: Mapping[str, Any]) -> Entries:
    """What in rope_parameters is for a layer type; empty where it is one mapping for all layers."""
    names = {*(model.layer_types or ()), *ATTENTION, MAIN, COMPRESS}
    found: dict[str | None, RopeParameters | None] = {}
    for name, value in new.items():
        if isinstance(value, Mapping):
            found[name] = RopeParameters(f"rope_parameters[{quote(name)}]", value)
        elif value is None and name in names:
            found[name] = None
    listed = shorten(", ".join(map(str, found)))
    if found and model.family.is_listed and not model.family.per_layer_type:
        msg = (
            f"`rope_parameters` must be one mapping for model_type {quote(model.model_type)}, "
            f"got one per layer type: {listed}"
        )
        raise ValueError(msg)
    for key in new:
        if found and key not in found:
            msg = f"unknown key {quote(key)} in rope_parameters beside {listed}"
            raise ValueError(msg)
    return found


def _require_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """ValueError if the two spellings differ.

    transformers lets rope_scaling replace rope_parameters; two that say the same do no harm.
    """

    def value(mapping: Mapping[str, Any], key: str) -> Any:
        return mapping.get(key, mapping.get("type") if key == "rope_type" else None)

    for key in sorted({*new, *old} - BESIDE):
        if value(old, key) != value(new, key):
            msg = (
                f"`{key}` has conflicting values: {quote(value(old, key))} in rope_scaling but "
                f"{quote(value(new, key))} in rope_parameters"
            )
            raise ValueError(msg)


def _legacy(model: ModelConfig, old: Mapping[str, Any] | None) -> Entries:
    """By layer type, from the defaults of the class, keys at the top level and rope_scaling."""
    family = model.family
    if old is not None and not family.rope_scaling_layer_types:
        msg = (
            f"`rope_scaling` must be absent for model_type {quote(model.model_type)}, got {quote(old)}: "
            "its layers differ, so write rope_parameters with one mapping per layer type"
        )
        raise ValueError(msg)
    found: dict[str | None, RopeParameters | None] = {}
    for name, default in (family.rope_parameters or {}).items():
        if default is None:
            found[name] = None
        elif old is not None and name in family.rope_scaling_layer_types:
            found[name] = RopeParameters("rope_scaling", old, is_legacy=True)
        else:
            given = {
                "rope_theta": any(top_level_bases(model, name).values()),
                "partial_rotary_factor": listed_value(model, "partial_rotary_factors", name),
            }
            values = {key: value for key, value in default.items() if not given.get(key)}
            found[name] = RopeParameters(_defaults_of(model), values)
    return found


def top_level_bases(model: ModelConfig, layer_type: str | None) -> dict[str, float | None]:
    """What each key of the base at the top level says of one layer type, by place."""
    family, config = model.family, model.values
    bases: dict[str, float | None] = {}
    for key in family.base_keys_of(layer_type):
        if not is_list_per_layer(model, key):
            aliases = (old for old, new in family.aliases.items() if new == key)
            named = next((old for old in aliases if lookup(config, old) is not None), None)
            place = f"as {key} at the top level" if named is None else f"as {named}"
            bases[place] = get_positive(config, key)
    base = listed_value(model, "rope_theta", layer_type)
    if base is not None:
        bases["as rope_theta at the top level"] = get_positive({"rope_theta": base}, "rope_theta")
    return bases


def listed_value(model: ModelConfig, key: str, layer_type: str | None) -> Any:
    """What a list with a number for each layer says of one layer type; None if there is no list.

    Raises
    ------
    ValueError
        If the list is too short, or differs between layers of one type.
    """
    if not is_list_per_layer(model, key):
        return None
    numbers, names = model.values[key], model.layer_types or ()
    if len(numbers) < len(names):
        msg = f"`{key}` must have num_hidden_layers={len(names)} entries, got {len(numbers)}"
        raise ValueError(msg)
    # Some files go on, for later layers.
    found = [n for n, name in zip(numbers, names, strict=False) if name == layer_type]
    for number in found:
        if number != found[0]:
            msg = (
                f"`{key}` must be the same for all layers of type {quote(layer_type)}, "
                f"got {quote(found[0])} and {quote(number)}"
            )
            raise ValueError(msg)
    return found[0] if found else None


def is_list_per_layer(model: ModelConfig, key: str) -> bool:
    return model.family.lists_per_layer and is_list(model.values.get(key))


def base_of(model: ModelConfig, parameters: RopeParameters, layer_type: str | None) -> float:
    """The base of one entry: in the rope parameters, at the top level, or the default of the class.

    Raises
    ------
    ValueError
        If two places differ, or there is none.
    """
    family = model.family
    places = {
        f"in {parameters.source}": get_positive(
            parameters.values, "rope_theta", f" in {parameters.source}"
        )
    }
    places |= top_level_bases(model, layer_type)
    if parameters.is_legacy and not family.per_layer_type and not family.top_level_base_keys:
        key = "rope_theta"  # read beside the old spelling only
        places[f"as {key} at the top level"] = get_positive(model.values, key)
    base = require_consistent("rope_theta", places)
    if base is None and layer_type is None:
        base = family.base
    elif base is None:
        default = (family.rope_parameters or {}).get(layer_type or "") or {}
        base = default.get("rope_theta")
    if base is None:
        msg = f"`rope_theta` is required for model_type {quote(model.model_type)}"
        raise ValueError(msg)
    factor = get_positive(model.values, family.base_factor_key) if family.base_factor_key else None
    return float(base) * (factor or 1.0)
