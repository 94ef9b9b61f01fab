"""Which layers rotate, and which of them by what: one case for each `LayerRule`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, assert_never

from rope_xp._config_reader.model import ModelConfig
from rope_xp._config_reader.values import (
    get_bool,
    get_flags,
    get_int,
    get_list,
    get_numbers,
    get_positive,
)
from rope_xp._config_reader.vocabulary import COMPRESS, MAIN, NO_ATTENTION, LayerRule
from rope_xp._validation import quote


class Rotation(NamedTuple):
    """How a layer rotates: by which rope parameters, with which base if not theirs, scaled or not."""

    layer_type: str | None
    base: float | None = None
    is_scaled: bool = True


def rotation_of(model: ModelConfig, label: str | None, i: int, n: int) -> Rotation | None:
    """Whether and how layer ``i`` of ``n`` rotates; see `LayerRule`."""
    if label in NO_ATTENTION or not _is_enabled(model):
        return None
    config, n_layers = model.values, model.n_layers
    is_sliding = label == "sliding_attention"
    every = Rotation(label)
    match model.family.layers:
        case LayerRule.EVERY_LAYER:
            return every
        case LayerRule.SLIDING_ONLY:
            return every if is_sliding else None
        case LayerRule.SLIDING_ONLY_IF_WINDOWED:
            has_window = config.get("sliding_window", 0) is not None
            return every if is_sliding or not has_window else None
        case LayerRule.SLIDING_OR_DENSE_PREFIX:
            return every if is_sliding or _is_dense_prefix(model, i) else None
        case LayerRule.NO_ROPE_LAYERS:
            interval = get_int(config, "no_rope_layer_interval") or 4
            flags = get_flags(config, "no_rope_layers", n_layers)
            return every if (flags[i] if flags else (i + 1) % interval) else None
        case LayerRule.NONZERO_LAYER_ROPE_THETA:
            bases = get_list(config, "layer_rope_theta", n_layers)
            rotates = _base_in(bases[i]) is not None if bases else (n - 1 - i) % 4
            return every if rotates else None
        case LayerRule.LAYER_ROPE_THETA:
            bases = get_list(config, "layer_rope_theta", n_layers)
            if not bases:
                return every
            base = _base_in(bases[i])
            return None if base is None else every._replace(base=base)
        case LayerRule.NO_CROSS_ATTENTION:
            numbers = get_numbers(config, "cross_attention_layers")
            return every if i not in (range(3, 40, 5) if numbers is None else numbers) else None
        case LayerRule.ROPE_SCALING_LAYERS:
            numbers = get_numbers(config, "rope_scaling_layers")
            return every._replace(is_scaled=numbers is None or i in numbers)
        case LayerRule.BLOCK_CONFIGS:
            return every if _has_attention(model, i) else None
        case LayerRule.MAIN_OR_COMPRESS:
            return Rotation(MAIN if is_sliding else COMPRESS)
        case _:
            assert_never(model.family.layers)


def _is_enabled(model: ModelConfig) -> bool:
    rule = model.family.enabled_if
    if rule is None:
        return True
    if isinstance(rule.equals, bool):
        return get_bool(model.values, rule.key, default=bool(rule.default)) == rule.equals
    found = model.values.get(rule.key)
    found = rule.default if found is None else found
    known = [name for name in (rule.equals, rule.default, *rule.others) if name is not None]
    if found is not None and found not in known:
        msg = f"unknown {rule.key} {quote(found)}; known: {', '.join(map(str, known))}"
        raise ValueError(msg)
    return bool(found == rule.equals)


def _base_in(value: Any) -> float | None:
    """A number of layer_rope_theta: the base, or None for 0, which stops the rotation."""
    is_zero = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
    if value is None or is_zero:
        return None
    return get_positive({"layer_rope_theta": value}, "layer_rope_theta")


def _has_attention(model: ModelConfig, i: int) -> bool:
    """What block_configs of Nemotron-NAS says of layer ``i``."""
    blocks = get_list(model.values, "block_configs", model.n_layers)
    if blocks is None:
        msg = f"`block_configs` is required for model_type {quote(model.model_type)}"
        raise ValueError(msg)
    block = blocks[i] if isinstance(blocks[i], Mapping) else {}
    attention = block.get("attention")
    if not isinstance(attention, Mapping):
        msg = f"`block_configs[{i}]` must have a mapping under attention, got {quote(blocks[i])}"
        raise ValueError(msg)
    where = f" in block_configs[{i}].attention"
    without = ("no_op", "replace_with_linear")
    return not any(get_bool(attention, key, where, default=False) for key in without)


def _is_dense_prefix(model: ModelConfig, i: int) -> bool:
    kinds = get_list(model.values, "mlp_layer_types", model.n_layers)
    every = get_int(model.values, "prefix_dense_sliding_window_pattern") or 1
    return kinds is not None and kinds[i] == "dense" and every == 1
