"""What each layer is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import (
    MAX_LAYERS,
    Config,
    get_flags,
    get_int,
    get_list,
    get_numbers,
)
from rope_xp._config_reader.vocabulary import (
    LAYER_TYPES,
    OLD_LAYER_TYPES,
    LayerRule,
    LayerTypesFrom,
)
from rope_xp._validation import quote

LayerTypes = tuple[str, ...]


def layer_types_of(
    config: Config, family: Family, model_type: str, n_layers: int | None
) -> LayerTypes | None:
    """The type of each layer; one of each kind if ``n_layers`` is None; None if all layers are alike.

    Raises
    ------
    ValueError
        If a type is unknown, or a list has not ``n_layers`` entries.
    """
    listed = get_list(config, "layer_types", n_layers)
    if listed is not None:
        found = [OLD_LAYER_TYPES.get(name, name) for name in listed if isinstance(name, str)]
        _require_known(
            listed if len(found) < len(listed) else found, LAYER_TYPES, "layer type", "layer_types"
        )
        return tuple(found)
    return (
        _by_ratio(config, family, n_layers)
        or _by_key(config, family, n_layers)
        or _by_cycle(config, family, model_type, n_layers)
    )


def _require_known(found: Iterable[Any], names: frozenset[str], what: str, key: str) -> None:
    for name in found:
        if not isinstance(name, str) or name not in names:
            msg = f"unknown {what} {quote(name)} in {key}; known: {', '.join(sorted(names))}"
            raise ValueError(msg)


def _by_ratio(config: Config, family: Family, n_layers: int | None) -> LayerTypes | None:
    names = family.layer_type_of_ratio
    ratios = get_list(config, "compress_ratios") if names else None
    if not names or ratios is None:
        return None
    for ratio in ratios:
        if str(ratio) not in names:
            msg = f"unknown ratio {quote(ratio)} in compress_ratios; known: {', '.join(names)}"
            raise ValueError(msg)
    if n_layers is not None and len(ratios) < n_layers:
        msg = f"`compress_ratios` must have num_hidden_layers={n_layers} entries, got {len(ratios)}"
        raise ValueError(msg)
    return tuple(
        names[str(ratio)] for ratio in ratios[:n_layers]
    )  # some files go on, for later layers


def _by_key(config: Config, family: Family, n_layers: int | None) -> LayerTypes | None:
    """By the key that a family has instead of layer_types."""
    key = family.layer_types_from
    if key is LayerTypesFrom.BLOCK_TYPES:
        cycle = family.layer_cycle or ()
        block = tuple(get_list(config, key.value) or cycle)
        _require_known(block, frozenset(cycle), "block type", key.value)
        return tuple(block[i % len(block)] for i in range(n_layers or len(block)))
    if key is None or n_layers is None or key.value not in config:
        return None
    if key is LayerTypesFrom.ATTN_TYPE_LIST:
        flags = get_flags(config, key.value, n_layers) or []
        return tuple("full_attention" if flag else "linear_attention" for flag in flags) or None
    numbers = get_numbers(config, key.value) or []
    return tuple("full_attention" if i in numbers else "linear_attention" for i in range(n_layers))


def _by_cycle(
    config: Config, family: Family, model_type: str, n_layers: int | None
) -> LayerTypes | None:
    cycle = family.layer_cycle
    if cycle is None:
        return None
    if config.get("first_k_dense_replace") and family.layers is LayerRule.SLIDING_OR_DENSE_PREFIX:
        msg = f"`layer_types` is required for model_type {quote(model_type)} with first_k_dense_replace"
        raise ValueError(msg)
    key = family.layer_cycle_key
    length = get_int(config, key, maximum=MAX_LAYERS) if key else None
    if length is not None:
        cycle = _cycle_of_length(cycle, length)
    count = n_layers or len(cycle)
    found = [cycle[i % len(cycle)] for i in range(count)]
    if family.layer_cycle_from_end:
        found = found[::-1]
    first = family.first_layers[:count]
    found[: len(first)] = first
    if family.last_layer is not None:
        found[-1] = family.last_layer
    return tuple(found)


def _cycle_of_length(cycle: LayerTypes, length: int) -> LayerTypes:
    """A cycle of another length, with one layer of its own type where ``cycle`` has it."""
    if cycle[0] != cycle[1]:
        return (cycle[0],) + (cycle[1],) * (length - 1)
    return (cycle[0],) * (length - 1) + (cycle[-1],)
