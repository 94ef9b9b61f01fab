"""`family_of`: a line of ``families.json`` → a `Family`, with the rules that join several keys.

An unknown key, a value of another type, a name that is not in its vocabulary and keys that contradict
each other are each an error that says which line and which key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.schedules import (
    Context,
    RopeParameters,
    require_keys,
    rope_type_of,
    schedule,
)
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import get_positive
from rope_xp._config_reader.vocabulary import (
    ALIASED_KEYS,
    COMPRESS,
    LAYER_TYPES,
    MAIN,
    NO_ATTENTION,
    LayerRule,
    LayerTypesFrom,
    Rotary,
)
from rope_xp.axes import Axial


def family_of(model_type: str, entry: Mapping[str, Any], file: str = "families.json") -> Family:
    """The `Family` of one line of a table; ``file`` is its name for sentences.

    Raises
    ------
    ValueError
        If a key is unknown, missing or of another type, or names something unknown.
    """
    try:
        if not entry.get("source"):
            _refuse("`source` is required")
        family: Family = convert(Family, entry, "")
        for check in CHECKS:
            check(family)
    except ValueError as error:
        msg = f"{file}, {model_type!r}: {error}"
        raise ValueError(msg) from None
    return family


def _check_sizes(family: Family) -> None:
    if family.rotary is Rotary.GENERIC:
        _refuse("`rotary` must not be 'generic', which is for unknown model_types")
    sizes = {family.hidden_size_key, family.head_dim_divisor_key}
    _known("key", family.defaults, {*ALIASED_KEYS, *sizes} - {None}, "defaults")
    key = "qk_rope_head_dim" if family.rotary is Rotary.MLA else "head_dim"
    heads = {family.hidden_size_key, "num_attention_heads"} <= {*family.defaults}
    if key not in family.defaults and (key == "qk_rope_head_dim" or not heads):
        _refuse(f"`{key}` is required in defaults")
    if family.rotary is Rotary.AXES and not isinstance(family.axes, Axial):
        _refuse(f"`axes` must be of kind 'Axial' for rotary 'axes', got {family.axes}")
    fixed = family.rotary not in {Rotary.PARTIAL, Rotary.MLA}
    if fixed and family.partial_rotary_factor != 1:
        _refuse(f"`partial_rotary_factor` must be absent for rotary {family.rotary.value!r}")


def _check_layer_types(family: Family) -> None:
    cycle = family.layer_cycle
    for name in ("first_layers", "last_layer", "layer_cycle_key", "layer_cycle_from_end"):
        if getattr(family, name) and not cycle:
            _refuse(f"`layer_cycle` is required for {name}")
    if family.layer_types_from is LayerTypesFrom.BLOCK_TYPES and not cycle:
        _refuse("`layer_cycle` is required for layer_types_from 'block_types'")
    if family.layer_cycle_key and cycle and min(len({*cycle[1:]}), len({*cycle[:-1]})) > 1:
        # A cycle of another length has its one layer at the start or at the end.
        _refuse(f"`layer_cycle` must be one layer type and another repeated, got {cycle}")
    sliding = {
        LayerRule.SLIDING_ONLY,
        LayerRule.SLIDING_ONLY_IF_WINDOWED,
        LayerRule.SLIDING_OR_DENSE_PREFIX,
    }
    if family.layers in sliding and "sliding_attention" not in (cycle or ()):
        _refuse(f"`layer_cycle` must have sliding_attention for layers {family.layers.value!r}")


def _check_layers_alike(family: Family) -> None:
    """Where the rope parameters are one mapping for all layers."""
    if family.per_layer_type:
        return
    if family.base is None:
        _refuse("`base` is required where per_layer_type is false")
    for name in ("rope_scaling_layer_types", "lists_per_layer"):
        if getattr(family, name):
            _refuse(f"`{name}` must be absent where per_layer_type is false")
    for name in ("base_keys", "partial_rotary_factor"):
        if isinstance(getattr(family, name), Mapping):
            _refuse(f"`{name}` must not be a mapping where per_layer_type is false")
    base = (family.rope_parameters or {}).get("rope_theta", family.base)
    if base != family.base:
        _refuse(f"`base` must be that of rope_parameters, {base!r}, got {family.base}")


def _check_layers_that_differ(family: Family) -> None:
    """Where there are rope parameters for each layer type."""
    if not family.per_layer_type:
        return
    if family.base is not None:
        _refuse("`base` must be absent where per_layer_type is true: it is in rope_parameters")
    if family.rope_parameters is None:
        _refuse("`rope_parameters` is required where per_layer_type is true")
    if isinstance(family.base_keys, tuple):
        _refuse("`base_keys` must be a mapping of layer types where per_layer_type is true")
    is_main = family.layers is LayerRule.MAIN_OR_COMPRESS
    names = {MAIN, COMPRESS} if is_main else LAYER_TYPES
    _known("layer type", family.rope_parameters, names, "rope_parameters")
    for name in ("base_keys", "partial_rotary_factor", "rope_scaling_layer_types"):
        value = getattr(family, name)
        if isinstance(value, Mapping | tuple):
            _known("layer type", value, family.rope_parameters, name)
    last = () if family.last_layer is None else (family.last_layer,)
    called = {*(family.layer_cycle or ()), *family.first_layers, *last} - NO_ATTENTION
    missing = sorted((names if is_main else called) - {*family.rope_parameters})
    if missing:
        _refuse(f"`rope_parameters` must have each layer type, got none for {missing[0]!r}")


def _check_rope_parameters(family: Family) -> None:
    if family.rope_parameters is None:
        return
    if not family.per_layer_type:
        _check_entry(family, "rope_parameters", family.rope_parameters)
        return
    for layer_type, values in family.rope_parameters.items():
        source = f"rope_parameters[{layer_type!r}]"
        if values is not None:
            _check_entry(family, source, convert(Mapping[str, Any], values, source))


def _check_entry(family: Family, source: str, values: Mapping[str, Any]) -> None:
    """Rope parameters that a family has by default must be right as those of a config."""
    parameters = RopeParameters(source, values)
    rope_type = rope_type_of(parameters, family.rope_type_aliases)
    if rope_type not in family.rope_types:
        _refuse(f"`rope_type` in {source} must be one of rope_types, got {rope_type!r}")
    context = Context(parameters, family.defaults, is_per_layer_type=family.per_layer_type)
    require_keys(context, rope_type, family.extra_keys)
    schedule(context, rope_type)
    for key in ("rope_theta", "partial_rotary_factor"):
        get_positive(values, key, f" in {source}")
    if "rope_theta" not in values:
        _refuse(f"`rope_theta` is required in {source}")


def _refuse(msg: str) -> NoReturn:
    raise ValueError(msg)


def _known(what: str, found: Iterable[str], names: Iterable[Any], where: str) -> None:
    for name in found:
        if name not in names:
            known = ", ".join(sorted(names))
            _refuse(f"unknown {what} {name!r} in {where}; known: {known}")


CHECKS = (
    _check_sizes,
    _check_layer_types,
    _check_layers_alike,
    _check_layers_that_differ,
    _check_rope_parameters,
)
