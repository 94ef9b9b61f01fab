"""How large heads are and how much of them rotates: the keys that say so, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from rope_xp._config_reader.entries import listed_value
from rope_xp._config_reader.model import ModelConfig
from rope_xp._config_reader.schedules import RopeParameters
from rope_xp._config_reader.schema import HeadDim
from rope_xp._config_reader.values import (
    MAX_HEAD_DIM,
    Config,
    get_int,
    get_mapping,
    get_positive,
    require_consistent,
)
from rope_xp._config_reader.vocabulary import Rotary
from rope_xp._validation import quote

WHOLE_HEADS = {Rotary.WHOLE, Rotary.AXES, Rotary.SPECIAL_GPTJ, Rotary.SPECIAL_CLVP}


def head_dim_of(model: ModelConfig, layer_type: str | None) -> int:
    """Features per head of one layer type; for latent attention, of the slice that rotates.

    Raises
    ------
    ValueError
        If a size is missing, or two contradict each other.
    """
    key = "qk_rope_head_dim" if model.family.rotary is Rotary.MLA else "head_dim"
    size = _head_dim_of_layer_type(model, key, layer_type)
    if size is None:
        size = _slice(model) if model.family.rotary is Rotary.MLA else _whole_head(model)
    if size > MAX_HEAD_DIM:
        named = key if model.values.get(key) is not None else "hidden_size // num_attention_heads"
        msg = f"`{named}` must be at most {MAX_HEAD_DIM}, got {size}"
        raise ValueError(msg)
    return size


def _slice(model: ModelConfig) -> int:
    rotated = get_int(model.values, "qk_rope_head_dim")
    if rotated is None:
        msg = f"`qk_rope_head_dim` is required for model_type {quote(model.model_type)}"
        raise ValueError(msg)
    whole = get_int(model.values, "head_dim")
    if whole not in (None, rotated) and not model.family.head_dim_is_composed:
        msg = f"`head_dim` must be qk_rope_head_dim={rotated} or absent, got {whole}"
        raise ValueError(msg)
    return rotated


def _whole_head(model: ModelConfig) -> int:
    config, family = model.values, model.family
    head_dim = get_int(config, "head_dim")
    if head_dim is not None and family.reads_head_dim:
        return head_dim
    key = family.hidden_size_key
    hidden_size, n_heads = (get_int(config, k) for k in (key, "num_attention_heads"))
    if hidden_size is None or n_heads is None:
        missing = key if hidden_size is None else "num_attention_heads"
        msg = f"`{missing}` is required where there is no head_dim"
        raise ValueError(msg)
    if family.head_dim_divisor_key is not None:
        n_heads *= get_int(config, family.head_dim_divisor_key) or 1
    if hidden_size % n_heads:
        msg = f"`{key}` must be a multiple of num_attention_heads={n_heads}, got {hidden_size}"
        raise ValueError(msg)
    if head_dim not in (None, hidden_size // n_heads):
        msg = (
            f"`head_dim` must be {key} // num_attention_heads = {hidden_size // n_heads} for "
            f"model_type {quote(model.model_type)}, got {head_dim}"
        )
        raise ValueError(msg)
    return hidden_size // n_heads


def _head_dim_of_layer_type(model: ModelConfig, key: str, layer_type: str | None) -> int | None:
    """Of a layer type whose heads are wider or narrower than the others'; None for the others."""
    if model.values.get("per_layer_config") is not None:
        return _head_dim_in_per_layer_config(model, key, layer_type)
    rule = model.family.head_dim_of_layer_type.get(layer_type or "")
    return None if rule is None else _size(model.values, rule)


def _size(config: Config, rule: HeadDim) -> int:
    default = rule.default
    if rule.default_difference is not None:
        whole, rest = (get_int(config, s.key) or s.default for s in rule.default_difference)
        default = whole - rest
    return get_int(config, rule.key) or default


def _head_dim_in_per_layer_config(
    model: ModelConfig, key: str, layer_type: str | None
) -> int | None:
    by_number: dict[int, Mapping[str, object]] = {}
    for number, values in (get_mapping(model.values, "per_layer_config") or {}).items():
        if not str(number).isdigit() or not (values is None or isinstance(values, Mapping)):
            msg = f"`per_layer_config` must map layer numbers to mappings, got {quote(number)}: {quote(values)}"
            raise ValueError(msg)
        by_number[int(number)] = values or {}
    found = {
        get_int(by_number.get(i, {}), key, f" in per_layer_config[{i}]")
        for i, name in enumerate(model.layer_types or ())
        if name == layer_type
    }
    if len(found) > 1:
        msg = f"`{key}` in per_layer_config must be the same for all layers of type {quote(layer_type)}"
        raise ValueError(msg)
    return found.pop() if found else None


def partial_rotary_factor_of(
    model: ModelConfig, parameters: RopeParameters, layer_type: str | None, rope_type: str
) -> float:
    """The fraction of the head that rotates, by partial_rotary_factor or the family's name of it.

    Raises
    ------
    ValueError
        If two places differ, it is above 1, or the family rotates whole heads.
    """
    family, config, source = model.family, model.values, parameters.source
    keys = sorted(
        {"partial_rotary_factor", family.partial_rotary_factor_key or "partial_rotary_factor"}
    )
    inside = get_positive(parameters.values, "partial_rotary_factor", f" in {source}")
    places = {f"in {source}": inside}
    places |= {f"as {key} at the top level": get_positive(config, key) for key in keys}
    listed = {"factor": listed_value(model, "partial_rotary_factors", layer_type)}
    places["in partial_rotary_factors"] = get_positive(
        listed, "factor", " in partial_rotary_factors"
    )
    factor = require_consistent("partial_rotary_factor", places)
    if factor is None:
        factor = family.default_partial(layer_type)
    if factor is None:
        msg = f"`partial_rotary_factor` is required in {source} for model_type {quote(model.model_type)}"
        raise ValueError(msg)
    named = f"`partial_rotary_factor` in {source}"
    if inside is None:
        named = next((f"`{key}`" for key in keys if key in config), named)
    if factor > 1:
        msg = f"{named} must be at most 1, got {factor}"
        raise ValueError(msg)
    if factor != 1 and rope_type != "proportional" and family.rotary in WHOLE_HEADS:
        msg = (
            f"{named} must be 1 or absent for model_type {quote(model.model_type)}, which rotates "
            f"whole heads, got {factor}"
        )
        raise ValueError(msg)
    return float(factor)


def rotary_dim_of(model: ModelConfig, head_dim: int, factor: float, rope_type: str) -> int:
    """How many of ``head_dim`` features rotate, with ``factor`` from `partial_rotary_factor_of`.

    Raises
    ------
    ValueError
        If that is no even number, or keys contradict each other.
    """
    config, family = model.values, model.family
    if rope_type == "proportional":
        return head_dim
    match family.rotary:
        case Rotary.AXES:
            return head_dim - head_dim % (2 * family.n_axes)
        case Rotary.MLA if not family.partial_of_slice:
            return _rotary_dim_of_slice(model, head_dim, factor)
        case Rotary.SPECIAL_CLVP:
            n_heads = get_int(config, "num_attention_heads") or 12
            return max((get_int(config, "projection_dim") or 768) // (2 * n_heads), 32)
        case Rotary.SPECIAL_GPTJ:
            return get_int(config, "rotary_dim", minimum=0) or head_dim
        case Rotary.WHOLE | Rotary.PARTIAL | Rotary.MLA | Rotary.GENERIC:
            return _rotary_dim_by_keys(model, head_dim, factor)
        case _:
            assert_never(family.rotary)


def _rotary_dim_of_slice(model: ModelConfig, head_dim: int, factor: float) -> int:
    if "partial_rotary_factor" in model.family.ignored_keys:  # it follows from the sizes
        return head_dim
    composed = head_dim + (get_int(model.values, "qk_nope_head_dim") or 0)
    whole = get_int(model.values, "head_dim") or 1
    if factor not in {1.0, head_dim / composed, head_dim / whole}:
        msg = f"`partial_rotary_factor` must be the share of qk_rope_head_dim, got {factor}"
        raise ValueError(msg)
    if head_dim % 2:
        msg = f"`qk_rope_head_dim` must be even, got {head_dim}"
        raise ValueError(msg)
    return head_dim


def _rotary_dim_by_keys(model: ModelConfig, head_dim: int, factor: float) -> int:
    config, family = model.values, model.family
    rotary_dim = int(head_dim * factor)
    key = family.rotary_dim_key
    if key is None and family.rotary is Rotary.GENERIC and factor == 1:
        key = "rotary_dim"
    given = None if key is None else get_int(config, key, minimum=0)
    if given:
        if "partial_rotary_factor" in config and given != rotary_dim:
            msg = f"`{key}` must be {rotary_dim}, by partial_rotary_factor, got {given}"
            raise ValueError(msg)
        if given % 2:
            msg = f"`{key}` must be even, got {given}"
            raise ValueError(msg)
        rotary_dim = given
    if factor == 1 and head_dim % 2:
        named = "head_dim" if "head_dim" in config else "hidden_size // num_attention_heads"
        msg = f"`{named}` must be even where the whole head rotates, got {head_dim}"
        raise ValueError(msg)
    if rotary_dim <= 0 or rotary_dim % 2:
        msg = (
            f"`partial_rotary_factor` must give an even number of features, got {factor} of "
            f"head_dim={head_dim}, which is {rotary_dim}"
        )
        raise ValueError(msg)
    return rotary_dim
