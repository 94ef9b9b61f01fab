"""The config.json of a transformer of diffusers → a mapping like that of transformers.

``diffusers.json`` has a line for each class, described by `Transformer`; `Scheme` lists how the axes of
positions share the features of a head. Where tokens are is not in a config: the note of a class says it.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from rope_xp._config_reader.carriers.renamed import require_read
from rope_xp._config_reader.convert import convert
from rope_xp._config_reader.data import read_json
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.schema import AxesRule, EnabledIf, Family, InterleavedSections
from rope_xp._config_reader.values import (
    MAX_LAYERS,
    Config,
    get_int,
    get_list,
    get_mapping,
    get_positive,
    is_list,
)
from rope_xp._config_reader.vocabulary import Layout, Rotary
from rope_xp._validation import quote
from rope_xp.axes import Axial
from rope_xp.scaling import Linear


class Scheme(StrEnum):
    """Which features of a head turn with which axis of the positions."""

    #: There is one axis.
    ONE_AXIS = "one_axis"
    #: The list under ``widths_key`` has the features of each axis.
    LISTED = "listed"
    #: Three axes of the same width, twice the number under ``widths_key``.
    ONE_WIDTH = "one_width"
    #: Rows and columns have 2 (d // 6) features of d, frames the rest, which come first.
    REST_AND_THIRDS = "rest_and_thirds"
    #: Frames have a quarter, rows and columns three eighths.
    QUARTER_AND_THREE_EIGHTHS = "quarter_and_three_eighths"
    #: That of the key ``axes``.
    AXES = "axes"
    #: The list under ``widths_key`` is an mrope_section; the axes take turns.
    INTERLEAVED_SECTIONS = "interleaved_sections"
    #: Heads together are one: three axes take turns, over frequencies from π to base · π, both
    #: included; what 6 does not divide comes first and does not rotate.
    WHOLE_WIDTH = "whole_width"


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """How one class rotates q and k; keys are those of its config, arguments of its ``__init__``."""

    #: Where the tables are made, as file:line in ``diffusers/models/transformers``.
    source: str
    layout: Layout
    #: Key of the size of a head, or of the width and of the number of heads; none: the axes' widths' sum.
    head_dim: tuple[str, ...]
    #: Keys whose sum is the number of layers.
    layers: tuple[str, ...]
    #: What the class has for the keys that are read where a config has nothing.
    defaults: Mapping[str, Any]
    #: The base, or its key.
    base: float | None = None
    base_key: str | None = None
    #: Share of the head that rotates, or the key of the number of features.
    rotary_share: float = 1.0
    rotary_dim_key: str | None = None
    scheme: Scheme = Scheme.ONE_AXIS
    widths_key: str | None = None
    #: The widths may also sum to half of a head, its first features.
    may_be_half: bool = False
    axes: AxesRule | None = None
    #: Key of a factor s for each axis of w features, whose base is times s ** (w / (w − 2)).
    ntk_key: str | None = None
    #: What the positions of each axis are divided by: numbers, their keys, or one key of a list.
    linear: tuple[float | str, ...] = ()
    #: LongRoPE by the keys rope_scaling, max_position_embeddings, original_max_position_embeddings.
    longrope: bool = False
    enabled_if: EnabledIf | None = None
    #: Keys that sound like rotation and change the length of tables, or where tokens are.
    ignored: tuple[str, ...] = ()
    #: Where tokens are, and what does not rotate.
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.base is None) == (self.base_key is None):
            msg = "`base` or `base_key` is required, and not both"
            raise ValueError(msg)
        if (self.scheme is Scheme.AXES) != (self.axes is not None):
            msg = "`axes` is required for scheme 'axes', and for no other"
            raise ValueError(msg)
        missing = {key for key in self.factor_keys if key not in self.defaults}
        if missing:
            msg = f"`defaults` must have {', '.join(sorted(missing))}"
            raise ValueError(msg)

    @property
    def factor_keys(self) -> set[str]:
        """Keys of the factors of single axes."""
        return {key for key in (self.ntk_key, *self.linear) if isinstance(key, str)}


@dataclass(frozen=True)
class Table:
    """The file: the classes that rotate, and by reason those that are left out."""

    about: str
    version: str
    classes: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@functools.cache  # a constant of the package, not state
def read_table() -> Table:
    """The table of the package."""
    table: Table = convert(Table, read_json("carriers/diffusers.json"), "")
    return table


@functools.cache
def transformer(name: str) -> Transformer:
    """The line of a class, checked."""
    try:
        made: Transformer = convert(Transformer, read_table().classes[name], "")
    except ValueError as error:
        msg = f"diffusers.json, {name!r}: {error}"
        raise ValueError(msg) from None
    return made


def find(config: Config, layout: str | None) -> Found | None:
    """The config of a transformer of diffusers with the keys of transformers; None for another mapping.

    Raises
    ------
    ValueError
        If the class does not rotate q and k or is not known, or a key is of the wrong kind.
    """
    name = config.get("_class_name")
    if name is None:
        return None
    model = _transformer_of(name)
    keys = {*model.defaults, *model.ignored, *model.head_dim, model.base_key, model.widths_key}
    keys |= {"rope_scaling"} if model.longrope else set()
    require_read(config, {str(key) for key in keys if key}, str(name))
    # A factor that is null is refused: the class does not replace it by its default.
    own = {k: v for k, v in config.items() if v is not None or k in model.factor_keys}
    given = {**model.defaults, **own}
    head_dim = _head_dim(given, model)
    base = model.base or get_positive(given, str(model.base_key)) or 10000.0
    axes, widths = _axes(given, model, head_dim, base)
    found: dict[str, Any] = {
        "head_dim": sum(widths) if head_dim is None else head_dim,
        "num_hidden_layers": _n_layers(given, model),
        "rope_parameters": {"rope_theta": base, **_longrope(given, model)},
    }
    found["rotary_dim"] = _rotary_dim(given, model, found["head_dim"], widths)
    if model.longrope:
        found["max_position_embeddings"] = get_int(given, "max_position_embeddings")
    if model.enabled_if is not None:
        found[model.enabled_if.key] = given.get(model.enabled_if.key)
    if model.scheme is Scheme.WHOLE_WIDTH:
        n = found["rotary_dim"] // 6
        base = base ** (-n / (n - 1))
        found["rope_parameters"] = {"rope_theta": base}
    family = Family(
        layout=model.layout,
        rotary=Rotary.PARTIAL,
        per_layer_type=False,
        source=model.source,
        base=base,
        base_keys=(),
        rotary_dim_key="rotary_dim",
        rotary_at_end=model.scheme is Scheme.WHOLE_WIDTH,
        axes=axes,
        enabled_if=model.enabled_if,
        note=model.note,
    )
    schedules = _schedules(given, model, family.n_axes)
    return Found(found, f"diffusers {name}", family, layout, axis_schedules=schedules)


def _transformer_of(name: object) -> Transformer:
    table = read_table()
    if not isinstance(name, str):
        msg = f"`_class_name` must be a string, got {quote(name)}"
        raise ValueError(msg)
    if name in table.classes:
        return transformer(name)
    for reason, names in table.left_out.items():
        if name in names:
            msg = f"`_class_name` must be of a class that rotates q and k, got {quote(name)}: {reason}"
            raise ValueError(msg)
    if name.endswith("Pipeline"):
        msg = (
            f"`config` must be that of a transformer, got the index of a {quote(name)}: pass its folder, "
            "or the config.json in the folder transformer"
        )
        raise ValueError(msg)
    similar = difflib.get_close_matches(name, table.classes)
    known = f"; similar: {', '.join(similar)}" if similar else ""
    msg = f"unknown `_class_name` {quote(name)}: no transformer of diffusers {table.version}{known}"
    raise ValueError(msg)


def _n_layers(given: Config, model: Transformer) -> int:
    n = sum(get_int(given, key, minimum=0, maximum=MAX_LAYERS) or 0 for key in model.layers)
    if not 0 < n <= MAX_LAYERS:
        keys = " + ".join(model.layers)
        msg = f"`{keys}` must be a positive number of layers, at most {MAX_LAYERS}, got {n}"
        raise ValueError(msg)
    return n


def _head_dim(given: Config, model: Transformer) -> int | None:
    """The size of a head; None: the sum of the widths of the axes."""
    sizes = [get_int(given, key) or 0 for key in model.head_dim]
    if len(sizes) < 2:
        return sizes[0] if sizes else None
    first, second = sizes
    if model.scheme is Scheme.WHOLE_WIDTH:
        return first * second
    if first % second:
        names = model.head_dim
        msg = f"`{names[0]}` must be a multiple of {names[1]}={second}, got {first}"
        raise ValueError(msg)
    return first // second


def _rotary_dim(given: Config, model: Transformer, head_dim: int, widths: tuple[int, ...]) -> int:
    if widths:
        return sum(widths)
    if model.rotary_dim_key is not None:
        return get_int(given, model.rotary_dim_key) or head_dim
    if model.scheme is Scheme.WHOLE_WIDTH:
        return head_dim - head_dim % 6
    return int(model.rotary_share * head_dim)


def _axes(
    given: Config, model: Transformer, head_dim: int | None, base: float
) -> tuple[AxesRule | None, tuple[int, ...]]:
    """The axes of the positions, and the features of each; none: all of the head together."""
    match model.scheme:
        case Scheme.ONE_AXIS:
            return None, ()
        case Scheme.AXES:
            return model.axes, ()
        case Scheme.WHOLE_WIDTH:
            return _whole_width(given, head_dim or 0, base), ()
        case Scheme.INTERLEAVED_SECTIONS:
            return InterleavedSections(_widths(given, model, even=False)), ()
        case Scheme.LISTED:
            widths = _widths(given, model)
            whole = (None, sum(widths), 2 * sum(widths) if model.may_be_half else None)
            if head_dim not in whole:
                msg = f"`{model.widths_key}` must sum to the size of a head, {head_dim}, got {quote(list(widths))}"
                raise ValueError(msg)
        case Scheme.ONE_WIDTH:
            widths = (2 * (get_int(given, str(model.widths_key)) or 1),) * 3
        case Scheme.REST_AND_THIRDS:
            third = 2 * ((head_dim or 0) // 6)
            widths = ((head_dim or 0) - 2 * third, third, third)
        case Scheme.QUARTER_AND_THREE_EIGHTHS:
            widths = ((head_dim or 0) // 4, *((head_dim or 0) // 8 * 3,) * 2)
        case _:
            assert_never(model.scheme)
    if any(width <= 0 or width % 2 for width in widths):
        key = model.widths_key or model.head_dim[0]
        msg = f"`{key}` must give each axis an even number of features, got {quote(list(widths))}"
        raise ValueError(msg)
    return Axial(widths, bases=_bases(given, model, widths, base)), widths


def _widths(given: Config, model: Transformer, *, even: bool = True) -> tuple[int, ...]:
    """The list under ``widths_key``."""
    key = str(model.widths_key)
    listed = get_list(given, key) or []
    if not listed or not all(type(width) is int and width > 0 for width in listed):
        rule = "positive even integers" if even else "positive integers"
        msg = f"`{key}` must be a list of {rule}, one for each axis, got {quote(listed)}"
        raise ValueError(msg)
    return tuple(listed)


def _bases(
    given: Config, model: Transformer, widths: tuple[int, ...], base: float
) -> tuple[float, ...] | None:
    """The base of each axis, if they differ."""
    if model.ntk_key is None:
        return None
    if min(widths) <= 2:
        msg = f"`{model.head_dim[0]}` must give each axis more than 2 features, got {quote(list(widths))}"
        raise ValueError(msg)
    factors = _factors(given, (model.ntk_key,), len(widths))
    return tuple(base * f ** (w / (w - 2)) for (_, f), w in zip(factors, widths, strict=True))


def _schedules(given: Config, model: Transformer, n_axes: int) -> tuple[Linear | None, ...] | None:
    """The schedule of each axis; None: they have none."""
    if not model.linear:
        return None
    factors = _factors(given, model.linear, n_axes)
    for name, factor in factors:
        if factor < 1:
            msg = f"`{name}` must be at least 1, got {factor}"
            raise ValueError(msg)
    return tuple(None if factor == 1 else Linear(factor) for _, factor in factors)


def _factors(
    given: Config, sources: tuple[float | str, ...], n_axes: int
) -> list[tuple[str, float]]:
    """The name of a factor for each axis, and the factor; ``sources`` are as `Transformer.linear`."""
    named = [(str(source), given.get(str(source), source)) for source in sources]
    if len(sources) == 1:
        key, listed = named[0]
        if not is_list(listed) or len(listed) != n_axes:
            msg = f"`{key}` must have a number for each of {n_axes} axes, got {quote(listed)}"
            raise ValueError(msg)
        named = [(f"{key}[{axis}]", value) for axis, value in enumerate(listed)]
    factors = []
    for name, value in named:
        factor = get_positive({name: value}, name)
        if factor is None:
            msg = f"`{name}` must be a positive number, got None"
            raise ValueError(msg)
        factors.append((name, factor))
    return factors


def _whole_width(given: Config, width: int, base: float) -> Axial:
    if given.get("rope_type", "interleaved") != "interleaved":
        msg = (
            f"`rope_type` must be 'interleaved', got {quote(given['rope_type'])}: its heads have different "
            "frequencies, which one encoding does not describe"
        )
        raise ValueError(msg)
    if width < 12 or width % 6 % 2 or base <= 1:
        msg = f"the width of all heads must be even and at least 12, got {width} with base {base}"
        raise ValueError(msg)
    return Axial(3, arrangement="alternating", scale=math.pi)


def _longrope(given: Config, model: Transformer) -> dict[str, Any]:
    if not model.longrope:
        return {}
    scaling = get_mapping(given, "rope_scaling") or {}
    lists = {key: get_list(scaling, key) for key in ("short_factor", "long_factor")}
    for key, value in lists.items():
        if value is None:
            msg = f"`{key}` is required in rope_scaling"
            raise ValueError(msg)
    original = get_int(given, "original_max_position_embeddings")
    return {"rope_type": "longrope", **lists, "original_max_position_embeddings": original}
