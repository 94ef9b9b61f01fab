"""What the queries of a layer are multiplied by: a family's ``query_scale`` and a config's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rope_xp import scaling
from rope_xp._config_reader.model import ModelConfig
from rope_xp._config_reader.schedules import RopeParameters
from rope_xp._config_reader.schema import QueryScaleRule
from rope_xp._config_reader.values import require_consistent
from rope_xp._config_reader.vocabulary import NO_ATTENTION, ScaledLayers
from rope_xp._validation import quote
from rope_xp.scaling import QueryScale


def query_scale_of(
    model: ModelConfig, label: str | None, parameters: RopeParameters | None, *, rotates: bool
) -> QueryScale | None:
    """The query scale of a layer that the config calls ``label``; None: queries are left as they are.

    Raises
    ------
    ValueError
        If the config has no length and the family neither, or a number is out of range.
    """
    rule = model.family.query_scale
    if rule is None or label in NO_ATTENTION or not _is_enabled(model, rule):
        return None
    if rotates and rule.layers is ScaledLayers.WITHOUT_ROTATION:
        return None
    keys = {"length": rule.length_key, "beta": rule.beta_key}
    found = {name: _value(model, parameters, key) for name, key in keys.items()}
    fields = {name: value for name, value in found.items() if value is not None}
    fields = {name: getattr(rule, name) for name in keys} | fields
    if rule.beta_key is not None and not fields["beta"]:
        return None
    if rule.length_key is not None and fields["length"] is None:
        where = "" if parameters is None else f" in {parameters.source}"
        only = "" if rule.beta_key is None else f" where {rule.beta_key} is given"
        msg = f"`{rule.length_key}` is required{where} for {quote(model.model_type)}{only}"
        raise ValueError(msg)
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        made: QueryScale = getattr(scaling, rule.kind.value)(**given, offset=rule.offset)
    except (TypeError, ValueError) as error:
        sentence = str(error)
        for name, key in keys.items():
            if key is not None:
                sentence = sentence.replace(f"`{name}`", f"`{key}`")
        raise ValueError(sentence) from None
    return made


def _is_enabled(model: ModelConfig, rule: QueryScaleRule) -> bool:
    if rule.enabled_key is None:
        return rule.enabled
    value = model.values.get(rule.enabled_key)
    if value is None:
        return rule.enabled
    if not isinstance(value, bool | int | np.integer | np.bool):  # old files of Llama 4 have 4
        msg = f"`{rule.enabled_key}` must be true or false, got {quote(value)}"
        raise ValueError(msg)
    return bool(value)


def _value(model: ModelConfig, parameters: RopeParameters | None, key: str | None) -> Any:
    """What is under ``key`` in the rope parameters of the layer, or at the top level."""
    if key is None:
        return None
    places = {"at the top level": model.values.get(key)}
    if parameters is not None:
        places[f"in {parameters.source}"] = parameters.values.get(key)
    return require_consistent(key, places)
