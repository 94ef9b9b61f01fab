"""`ModelConfig`: a config with its family and the types of its layers, which all readers take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rope_xp._config_reader import families
from rope_xp._config_reader.layer_types import LayerTypes, layer_types_of
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import MAX_LAYERS, Config, get_bool, get_int
from rope_xp._config_reader.vocabulary import Layout
from rope_xp.scaling import Schedule


@dataclass(frozen=True)
class ModelConfig:
    """One config, found, loaded and named.

    Parameters
    ----------
    values : mapping
        The keys of the part that says how positions are encoded, by their usual names.
    model_type : str
        Its own, or that of the part.
    family : Family
        The rules of the model_type.
    layout : {"half", "interleaved"}
        The pairing.
    frequency_factors, axis_schedules
        As in `rope_xp._config_reader.found.Found`.
    n_layers : int, optional
        How many layers there are, if the config says it.
    layer_types : tuple of str, optional
        The type of each layer; one of each kind if ``n_layers`` is None; None if all are alike.
    max_positions : int, optional
        The longest context that the config names.
    """

    values: Config
    model_type: str
    family: Family
    layout: str
    frequency_factors: Mapping[str | None, tuple[float, ...] | None] | None
    axis_schedules: tuple[Schedule | None, ...] | None
    n_layers: int | None
    layer_types: LayerTypes | None
    max_positions: int | None


def model_config(config: object, layout: str | None, part: str) -> ModelConfig:
    """The `ModelConfig` of a mapping, a path, a folder or a config object.

    Raises
    ------
    ValueError, TypeError
        As `rope_xp.configs.layer_ropes`.
    """
    found = families.find(config, layout, part)
    values, model_type, family = found.config, found.model_type, found.family
    n_layers = get_int(values, "num_hidden_layers", maximum=MAX_LAYERS)
    key = family.attentions_per_layer_key
    if n_layers is None and key is not None:
        n_layers = 2 * (get_int(values, key, maximum=MAX_LAYERS // 2) or 0) or None
    layer_types = layer_types_of(values, family, model_type, n_layers)
    if values.get("layer_types") is not None and layer_types is not None:
        n_layers = len(layer_types)
    return ModelConfig(
        values,
        model_type,
        family,
        found.layout or _layout_of(values, family),
        found.frequency_factors,
        found.axis_schedules,
        n_layers,
        layer_types,
        get_int(values, "max_position_embeddings"),
    )


def _layout_of(values: Config, family: Family) -> str:
    if family.interleaved_key is None:
        return family.layout.value
    default = family.layout is Layout.INTERLEAVED
    is_interleaved = get_bool(values, family.interleaved_key, default=default)
    return (Layout.INTERLEAVED if is_interleaved else Layout.HALF).value
