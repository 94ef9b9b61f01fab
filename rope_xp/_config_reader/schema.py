"""`Family`: every key that a line of ``families.json`` may have, its type and what it means.

The annotations are the schema: what JSON has under a key must fit the annotation of the field. Rules
that join several fields are in `rope_xp._config_reader.checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, assert_never

from rope_xp._config_reader.convert import Known, Tagged
from rope_xp._config_reader.schedules import ROPE_TYPES
from rope_xp._config_reader.vocabulary import (
    ALIASED_KEYS,
    BASE_KEYS,
    LAYER_TYPES,
    PARTIAL_KEYS,
    AxesKind,
    Direction,
    LayerRule,
    LayerTypesFrom,
    Layout,
    QueryScaleKind,
    Rotary,
    ScaledLayers,
)
from rope_xp.axes import Axial

MROPE_KEYS = ("mrope_section", "mrope_interleaved")


LayerType = Annotated[str, Known(LAYER_TYPES)]
RopeType = Annotated[str, Known(ROPE_TYPES)]
BaseKey = Annotated[str, Known(BASE_KEYS)]
AliasedKey = Annotated[str, Known(ALIASED_KEYS)]
PartialKey = Annotated[str, Known(PARTIAL_KEYS)]


@dataclass(frozen=True)
class SizeOrDefault:
    """A size of a config: its key, and the value where the config does not have it."""

    key: str
    default: int


@dataclass(frozen=True)
class HeadDim:
    """Head size of one layer type: its key, and the value, or the two whose difference is the value."""

    key: str
    default: int = 0
    default_difference: tuple[SizeOrDefault, SizeOrDefault] | None = None

    def __post_init__(self) -> None:
        if bool(self.default) == bool(self.default_difference):
            msg = f"`default` or `default_difference` is required for {self.key!r}, and not both"
            raise ValueError(msg)


@dataclass(frozen=True)
class EnabledIf:
    """A model rotates only if the config has ``equals`` under ``key``; ``default`` where it is absent.

    A name must be ``equals``, ``default`` or one of ``others``.
    """

    key: str
    equals: str | bool
    default: str | bool | None
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.default is not None and type(self.default) is not type(self.equals):
            msg = f"`default` must be of the type of equals={self.equals!r}, got {self.default!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class FlatSchedule:
    """A schedule whose parameters are keys of a config instead of a mapping; a dot leads into mappings.

    What the config has under ``key``, or else ``default``, is a name in ``rope_types``; without
    ``rope_types`` it means ``rope_type``, unless it is null, false or 0. ``keys`` says where each rope
    parameter is, ``values`` what it is where there is none.
    """

    key: str
    rope_type: RopeType | None = None
    rope_types: Mapping[str, RopeType] = field(default_factory=dict)
    default: str | bool | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.rope_type) == bool(self.rope_types):
            msg = f"`rope_type` or `rope_types` is required for {self.key!r}, and not both"
            raise ValueError(msg)


@dataclass(frozen=True)
class Sections:
    """``mrope_section`` of a model whose config has none: pairs of each axis, one axis after another."""

    mrope_section: tuple[int, ...]


@dataclass(frozen=True)
class InterleavedSections:
    """``mrope_section`` of a model whose config has none: pairs of each axis, the axes taking turns."""

    mrope_section: tuple[int, ...]


@dataclass(frozen=True)
class AxisPerPair:
    """The order of the sections: the axes of a run take turns, ``[[1, 2], [0]]``.

    Without ``mrope_section`` there is one run, whose axes share all pairs.
    """

    runs: tuple[tuple[int, ...], ...]
    mrope_section: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        axes = sorted(axis for run in self.runs for axis in run)
        if not axes or axes != list(range(len(axes))):
            msg = f"`runs` must name each of the axes 0, 1, … once, got {self.runs}"
            raise ValueError(msg)
        if self.mrope_section is None and len(self.runs) != 1:
            msg = f"`mrope_section` is required for more than one run, got {self.runs}"
            raise ValueError(msg)
        if self.mrope_section is not None and len(self.mrope_section) != len(axes):
            msg = f"`mrope_section` must have one number for each axis, got {self.mrope_section}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class QueryScaleRule:
    """What queries are multiplied by: a class of `rope_xp.scaling`, and where its arguments come from.

    ``length`` and ``beta`` are the values where a config has nothing under their keys, which are in
    the rope parameters or at the top level. Without the beta of a ``beta_key``, or with 0, queries are
    left as they are; without a ``beta_key`` it is ``beta``, or what the class has by default.
    """

    kind: QueryScaleKind
    layers: ScaledLayers = ScaledLayers.ALL
    length: int | None = None
    length_key: str | None = None
    beta: float | None = None
    beta_key: str | None = None
    offset: int = 0
    #: Key of what switches it, true or a number other than 0, and the value where a config has none.
    enabled_key: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        has_length = self.length is not None or self.length_key is not None
        if has_length == (self.kind is QueryScaleKind.LEARNED_LOG):
            rule = "must be absent" if has_length else "or `length_key` is required"
            msg = f"`length` {rule} for kind {self.kind.value!r}"
            raise ValueError(msg)
        needs_beta = self.kind in {QueryScaleKind.FLOOR_LOG, QueryScaleKind.POWER}
        if needs_beta and self.beta is None and self.beta_key is None:
            msg = f"`beta` or `beta_key` is required for kind {self.kind.value!r}"
            raise ValueError(msg)


AXES_CLASSES = {
    AxesKind.AXIAL: Axial,
    AxesKind.SECTIONS: Sections,
    AxesKind.INTERLEAVED_SECTIONS: InterleavedSections,
    AxesKind.AXIS_PER_PAIR: AxisPerPair,
}
AxesRule = Annotated[
    Axial | Sections | InterleavedSections | AxisPerPair, Tagged("kind", AXES_CLASSES)
]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one model_type rotates q and k: a line of ``families.json`` with the keys of its group.

    "Key" in what follows is a key of a model's config.
    """

    #: Which two features are a pair.
    layout: Layout
    #: Which part of a head rotates.
    rotary: Rotary
    #: Whether rope parameters are one mapping per layer type.
    per_layer_type: bool
    #: Where the rotation is, as file:line in ``transformers/models`` or as repository/file of the
    #: published code; empty for an unknown family.
    source: str
    #: What the class has where a config has nothing. Sizes of a head and of the model only inside of
    #: a composite, whose parts are often written without them.
    defaults: Mapping[str, int] = field(default_factory=dict)
    #: Base where a config has none; with per_layer_type it is in rope_parameters.
    base: float | None = None
    #: Keys of the base at the top level; with per_layer_type the key of each layer type. Default:
    #: rope_theta, with per_layer_type none.
    base_keys: tuple[BaseKey, ...] | Mapping[str, BaseKey] | None = None
    #: Rope parameters where a config has none; with per_layer_type a mapping or null by layer type.
    rope_parameters: Mapping[str, Any] | None = None
    #: Other names of keys; a dot leads into a mapping.
    aliases: Mapping[str, AliasedKey] = field(default_factory=dict)
    #: What these keys, a dot leads into mappings, must have where a config has them; null: nothing.
    required_values: Mapping[str, Any] = field(default_factory=dict)
    #: Key of a number that multiplies the base.
    base_factor_key: str | None = None
    #: Where the schedule is, if it is not in rope_scaling or rope_parameters.
    flat_schedule: FlatSchedule | None = None

    #: The rope_types that the family accepts; default: all.
    rope_types: tuple[RopeType, ...] = tuple(ROPE_TYPES)
    #: Other names of rope_types.
    rope_type_aliases: Mapping[str, RopeType] = field(default_factory=dict)
    #: What its rope parameters may have besides the keys of their rope_type.
    extra_keys: tuple[str, ...] = ()
    #: Whether transformers reads ``type``, the old name of rope_type.
    reads_type: bool = True
    #: The layer types that an old rope_scaling belongs to; with per_layer_type.
    rope_scaling_layer_types: tuple[str, ...] = ()
    #: Whether rope_theta and partial_rotary_factors may be lists with a number for each layer.
    lists_per_layer: bool = False
    #: YaRN's mscale_all_dim multiplies the softmax scale, too, as DeepSeek has it.
    mscale_softmax: bool = False
    #: YaRN's factor on cos and sin where an old rope_scaling has none.
    yarn_attention_factor: float | None = None

    #: Which layers rotate, of those with attention.
    layers: LayerRule = LayerRule.EVERY_LAYER
    #: The key that names the layers where there is no layer_types.
    layer_types_from: LayerTypesFrom | None = None
    #: Layer types by the numbers in the key compress_ratios.
    layer_type_of_ratio: Mapping[str, LayerType] | None = None
    #: Layer types where nothing else says: repeated, from the last layer on if layer_cycle_from_end.
    layer_cycle: tuple[LayerType, ...] | None = None
    layer_cycle_from_end: bool = False
    #: Key of the length of the cycle, which is one layer of a type and several of another.
    layer_cycle_key: str | None = None
    #: What the first layers and the last one are called instead.
    first_layers: tuple[LayerType, ...] = ()
    last_layer: LayerType | None = None
    #: Some layers have no attention, and only layer_types says which.
    hybrid: bool = False
    #: The model rotates only if its config says so.
    enabled_if: EnabledIf | None = None
    #: Key of a number of layers that have two attentions each.
    attentions_per_layer_key: str | None = None

    #: Whether the key head_dim is read; else it may only say what follows from the other sizes.
    reads_head_dim: bool = True
    #: Keys of the width of the model, and of a divisor of it.
    hidden_size_key: str = "hidden_size"
    head_dim_divisor_key: str | None = None
    #: Layer types whose heads are of another size than the others.
    head_dim_of_layer_type: Mapping[LayerType, HeadDim] = field(default_factory=dict)
    #: With latent attention: head_dim may be another part than the slice that rotates, or the whole head.
    head_dim_is_composed: bool = False
    #: With latent attention: partial_rotary_factor is a fraction of the slice.
    partial_of_slice: bool = False
    #: Fraction of the head where a config has none; with per_layer_type also by layer type.
    partial_rotary_factor: float | Mapping[str, float] = 1.0
    #: Another name of partial_rotary_factor at the top level.
    partial_rotary_factor_key: str | None = None
    #: Key of the number of rotated features.
    rotary_dim_key: str | None = None
    #: Keys of the rotated part that configs have and the family does not read.
    ignored_keys: tuple[PartialKey, ...] = ()
    #: The last features of a head rotate, not the first.
    rotary_at_end: bool = False
    #: Key of a flag: interleaved, else half. Default: layout.
    interleaved_key: str | None = None
    #: Which way pairs turn.
    direction: Direction = Direction.POSITIVE

    #: Which position axis drives which pair; None: one axis.
    axes: AxesRule | None = None
    #: What queries are multiplied by, besides the softmax factor of the schedule.
    query_scale: QueryScaleRule | None = None
    #: A part of a composite: its config has what its class has by default wherever it is found.
    is_component: bool = False
    #: What `rope_xp.configs.explain` adds.
    note: str | None = None

    @property
    def is_listed(self) -> bool:
        """Whether it is a line of a table and not the rule for unknown model_types."""
        return bool(self.source)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        match self.axes:
            case None:
                return 1
            case Axial():
                return self.axes.n_axes
            case AxisPerPair():
                return sum(map(len, self.axes.runs))
            case Sections() | InterleavedSections():
                return len(self.axes.mrope_section)
            case _:
                assert_never(self.axes)

    @property
    def top_level_base_keys(self) -> tuple[str, ...]:
        """Every key of the base at the top level of a config."""
        if self.base_keys is None:
            return () if self.per_layer_type else ("rope_theta",)
        return tuple(
            self.base_keys.values() if isinstance(self.base_keys, Mapping) else self.base_keys
        )

    def base_keys_of(self, layer_type: str | None) -> tuple[str, ...]:
        """Those of one entry of the rope parameters; None: of all layers."""
        if isinstance(self.base_keys, Mapping):
            return tuple(key for name, key in self.base_keys.items() if name == layer_type)
        return self.top_level_base_keys

    def default_partial(self, layer_type: str | None) -> float | None:
        """The fraction of a head that rotates where a config has none, if that is known."""
        if isinstance(self.partial_rotary_factor, Mapping):
            return self.partial_rotary_factor.get(layer_type or "")
        return self.partial_rotary_factor
