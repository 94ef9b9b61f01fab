"""`read`: from a config to a plain description of every layer.

The rules follow transformers 5.24.0, with one difference: what it ignores or fills in silently is
refused here, in a sentence that names the key.
"""

from __future__ import annotations

from dataclasses import replace

from rope_xp._config_reader.axes import extra_keys_of, scheme_of
from rope_xp._config_reader.entries import Entries, base_of, is_list_per_layer, rope_parameters_of
from rope_xp._config_reader.layer_rules import Rotation, rotation_of
from rope_xp._config_reader.meanings import InUse
from rope_xp._config_reader.model import ModelConfig, model_config
from rope_xp._config_reader.parts import PARTS
from rope_xp._config_reader.query_scales import query_scale_of
from rope_xp._config_reader.ranges import dual_chunk_of
from rope_xp._config_reader.schedules import (
    Context,
    RopeParameters,
    require_keys,
    rope_type_of,
    schedule,
)
from rope_xp._config_reader.sizes import head_dim_of, partial_rotary_factor_of, rotary_dim_of
from rope_xp._config_reader.spec import Layer, LayerSpec, ModelSpec
from rope_xp._config_reader.unread import misspelt, unread
from rope_xp._config_reader.values import get_int, lookup
from rope_xp._config_reader.vocabulary import BASE_KEYS, NO_ATTENTION, Direction, Rotary
from rope_xp._validation import quote, require_one_of
from rope_xp.layouts._pairs import require_layout
from rope_xp.scaling import FrequencyFactors, Negated, Schedule


def read(config: object, *, layout: str | None = None, part: str = "text") -> ModelSpec:
    """All that follows from a config. Parameters and errors as in `rope_xp.configs.layer_ropes`."""
    if layout is not None:
        require_layout("layout", layout)
    model = model_config(config, layout, require_one_of("part", part, PARTS))
    entries = rope_parameters_of(model)
    has_layer_count = model.n_layers is not None
    labels: tuple[str | None, ...] | None = model.layer_types
    if labels is None:
        labels = (None,) * (model.n_layers or 1)
        has_layer_count = has_layer_count and not model.family.hybrid
    rotations = [rotation_of(model, label, i, len(labels)) for i, label in enumerate(labels)]
    kinds = [*zip(labels, rotations, strict=True)]
    # Layers of one kind are read once, however many there are.
    made = {kind: _layer_of(model, entries, *kind) for kind in dict.fromkeys(kinds)}
    layers = tuple(made[kind] for kind in kinds)
    _reject_unread_keys(model, [each.spec for each in made.values() if each.spec is not None])
    n_unrotated = get_int(model.values, "qk_nope_head_dim", minimum=0)
    return ModelSpec(
        model.model_type, model.family, layers, has_layer_count, model.max_positions, n_unrotated
    )


def _layer_of(
    model: ModelConfig, entries: Entries, label: str | None, rotation: Rotation | None
) -> Layer:
    """What the config says about a layer that it calls ``label``."""
    spec = None if rotation is None else _spec_of(model, entries, label, rotation)
    parameters = entries.get(None if None in entries else label)
    query_scale = query_scale_of(model, label, parameters, rotates=spec is not None)
    if spec is not None:
        spec = replace(spec, query_scale=query_scale, ranges=dual_chunk_of(model.values))
    softmax_factor = 1.0
    if spec is None and model.family.mscale_softmax and label not in NO_ATTENTION:
        rotating = _spec_of(model, entries, label, Rotation(label))
        if rotating is not None and callable(rotating.scaling):
            sizes = rotating.rotary_dim, rotating.base
            made = rotating.scaling(*sizes, seq_len=None, precision="exact")
            softmax_factor = made.softmax_factor
    return Layer(label, spec, query_scale, softmax_factor)


def _spec_of(
    model: ModelConfig, entries: Entries, label: str | None, rotation: Rotation
) -> LayerSpec | None:
    """What the config says about how such a layer rotates; None if its type does not."""
    layer_type = None if None in entries else rotation.layer_type
    if layer_type is None and None not in entries:
        msg = f"`layer_types` is required for model_type {quote(model.model_type)}"
        raise ValueError(msg)
    if layer_type not in entries:
        msg = f"`rope_parameters` must have a mapping or null for {quote(layer_type)} of layer_types, got none"
        raise ValueError(msg)
    parameters = entries[layer_type]
    if parameters is None:
        return None
    family = model.family
    rope_type = _rope_type_of(model, parameters)
    context = Context(
        parameters,
        model.values,
        is_per_layer_type=layer_type is not None,
        mscale_softmax=family.mscale_softmax,
        yarn_attention_factor=family.yarn_attention_factor,
    )
    require_keys(context, rope_type, extra_keys_of(model, parameters))
    base = base_of(model, parameters, layer_type)
    head_dim = head_dim_of(model, label)
    factor = partial_rotary_factor_of(model, parameters, layer_type, rope_type)
    rotary_dim = rotary_dim_of(model, head_dim, factor, rope_type)
    scaling = schedule(replace(context, partial_rotary_factor=factor), rope_type)
    return LayerSpec(
        head_dim,
        layout=model.layout,
        base=base if rotation.base is None else rotation.base,
        rotary_dim=rotary_dim,
        rotary_start=head_dim - rotary_dim if family.rotary_at_end else 0,
        scaling=_adapted(model, layer_type, scaling, is_scaled=rotation.is_scaled),
        axes=scheme_of(model, parameters, rotary_dim // 2),
        source=parameters.source,
    )


def _rope_type_of(model: ModelConfig, parameters: RopeParameters) -> str:
    """The rope_type, which must be one that the family accepts."""
    family, aliases = model.family, model.family.rope_type_aliases
    rope_type = rope_type_of(parameters, aliases, reads_type=family.reads_type)
    if rope_type not in family.rope_types:
        known = [alias for alias, name in aliases.items() if name in family.rope_types]
        msg = (
            f"`rope_type` in {parameters.source} must be one of "
            f"{', '.join([*known, *family.rope_types])} for model_type {quote(model.model_type)}, "
            f"got {quote(rope_type)}"
        )
        raise ValueError(msg)
    return rope_type


def _adapted(
    model: ModelConfig, layer_type: str | None, scaling: Schedule | None, *, is_scaled: bool
) -> Schedule | tuple[Schedule | None, ...] | None:
    """The schedule of one layer: not that of the config in some layers, or turned the other way."""
    if model.axis_schedules is not None:
        return model.axis_schedules
    factors = (model.frequency_factors or {}).get(layer_type)
    if factors is not None:
        scaling = FrequencyFactors(factors, scaling)
    scaling = scaling if is_scaled else None
    return Negated(scaling) if model.family.direction is Direction.NEGATIVE else scaling


def _reject_unread_keys(model: ModelConfig, specs: list[LayerSpec]) -> None:
    """ValueError for a base or a rotated part that the family does not read and that differs."""
    family = model.family
    sentence = misspelt(model.values, family.aliases)
    if sentence is not None:
        raise ValueError(sentence)
    if not specs:
        return
    first = specs[0]
    if not family.is_listed:
        _reject_unknown_meanings(model, specs)
    for key in BASE_KEYS:
        value = model.values.get(key)
        is_read = key in family.top_level_base_keys or is_list_per_layer(model, key)
        if value is not None and not is_read and value not in [spec.base for spec in specs]:
            msg = (
                f"`{key}` is not read for model_type {quote(model.model_type)} and must be absent or the "
                f"base in use, {first.base}, got {quote(value)}: write it into rope_parameters"
            )
            raise ValueError(msg)
    if family.rotary in {Rotary.SPECIAL_GPTJ, Rotary.SPECIAL_CLVP, Rotary.GENERIC}:
        return
    read = {*family.ignored_keys, family.partial_rotary_factor_key, family.rotary_dim_key}
    in_use = {"rotary_dim": first.rotary_dim, "rotary_pct": first.rotary_dim / first.head_dim}
    for key, used in in_use.items():
        value = model.values.get(key)
        if value is not None and key not in read and value != used:
            msg = (
                f"`{key}` is not read for model_type {quote(model.model_type)} and must be absent or "
                f"{used}, got {quote(value)}"
            )
            raise ValueError(msg)


def _reject_unknown_meanings(model: ModelConfig, specs: list[LayerSpec]) -> None:
    """ValueError for a key of an unknown family that nothing reads and that could change the rotation."""
    first = specs[0]
    bases = tuple(spec.base for spec in specs)
    found = InUse(first.layout, bases, first.head_dim, first.rotary_dim)
    for key, remedy in unread(model.values, found):
        msg = (
            f"`{key}` could change the rotation, and is not read for the unknown model_type "
            f"{quote(model.model_type)}, got {quote(lookup(model.values, key))}: {remedy}"
        )
        raise ValueError(msg)
