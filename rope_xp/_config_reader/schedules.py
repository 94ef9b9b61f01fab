"""What each ``rope_type`` of a config is: its keys and its schedule. `ROPE_TYPES` is the one registry.

A further rope_type is one entry there: a class of `rope_xp.scaling` whose fields have the names that
config.json uses, the keys that must be given and those that may, and, where the class needs more than
these keys, a function that says where the rest comes from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rope_xp import scaling
from rope_xp._config_reader.values import (
    MAX_HEAD_DIM,
    Config,
    get_bool,
    get_int,
    is_list,
    require_consistent,
)
from rope_xp._validation import quote
from rope_xp.scaling import Schedule

COMMON_KEYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
ORIGINAL = "original_max_position_embeddings"


class RopeParameters(NamedTuple):
    """The rope_parameters or rope_scaling of one layer type.

    Parameters
    ----------
    source : str
        What it is called in a sentence: ``"rope_scaling"``, ``"rope_parameters['full_attention']"``.
    values : mapping
        Its keys.
    is_legacy : bool
        Whether it is a rope_scaling, the old spelling, whose base is beside it.
    """

    source: str
    values: Config
    is_legacy: bool = False


@dataclass(frozen=True)
class Context:
    """What a schedule is made from: rope parameters, and what may be outside of them.

    Parameters
    ----------
    parameters : RopeParameters
        Those that name the schedule.
    config : mapping
        The config, whose top level has some keys of schedules.
    is_per_layer_type : bool
        Whether the rope parameters are those of one layer type; transformers then reads other keys
        from the top level than where all layers are alike.
    partial_rotary_factor : float
        The rotated fraction of the head.
    mscale_softmax, yarn_attention_factor
        As in `rope_xp._config_reader.schema.Family`.
    """

    parameters: RopeParameters
    config: Config
    is_per_layer_type: bool
    partial_rotary_factor: float = 1.0
    mscale_softmax: bool = False
    yarn_attention_factor: float | None = None

    def original_max_positions(self) -> int | None:
        """``original_max_position_embeddings`` at the top level, where it is read."""
        return None if self.is_per_layer_type else get_int(self.config, ORIGINAL)

    def max_positions(self, rope_type: str) -> int:
        """``max_position_embeddings``, which ``rope_type`` needs."""
        found = get_int(self.config, "max_position_embeddings")
        if found is None:
            msg = f"`max_position_embeddings` is required for rope_type {quote(rope_type)}"
            raise ValueError(msg)
        return found


Fields = dict[str, Any]
Complete = Callable[[Fields, Context], None]


@dataclass(frozen=True)
class RopeType:
    """One rope_type.

    Parameters
    ----------
    schedule : callable, optional
        The class in `rope_xp.scaling`, or a function that returns an instance; None: no scaling.
    required, optional : collection of str
        Keys that a config must give, and that it may give, besides `COMMON_KEYS`.
    nullable : collection of str
        Required keys that may be null.
    complete : callable, optional
        Called with a copy of the rope parameters' values and the `Context`; puts into the copy what
        ``schedule`` needs besides. What ``schedule`` has no parameter for is left out afterwards.
    """

    schedule: Callable[..., Schedule] | None
    required: Collection[str] = ()
    optional: Collection[str] = ()
    nullable: Collection[str] = field(default=(), kw_only=True)
    complete: Complete | None = field(default=None, kw_only=True)


def rope_type_of(
    parameters: RopeParameters, aliases: Mapping[str, str], *, reads_type: bool = True
) -> str:
    """The name in `ROPE_TYPES`, whether a config has it under ``rope_type`` or ``type``.

    Raises
    ------
    ValueError
        If it is unknown, if both keys are there and differ, or if transformers does not read ``type``
        for this family.
    """
    found = {}
    for key in ("rope_type", "type"):
        name = parameters.values.get(key)
        if name is None:
            continue
        if not isinstance(name, str):
            msg = f"`{key}` in {parameters.source} must be a string, got {quote(name)}"
            raise ValueError(msg)
        found[key] = aliases.get(name, name)
        if found[key] not in ROPE_TYPES:
            known = ", ".join([*ROPE_TYPES, *aliases])
            msg = f"unknown {key} {quote(name)} in {parameters.source}; known: {known}"
            raise ValueError(msg)
    if "type" in found and "rope_type" not in found and not reads_type:
        msg = (
            f"`type` in {parameters.source} must be called rope_type for this model_type, got type="
            f"{quote(found['type'])}: transformers 5.24.0 ignores the old name here"
        )
        raise ValueError(msg)
    places = {f"as {key} in {parameters.source}": name for key, name in found.items()}
    return require_consistent("rope_type", places) or "default"


def require_keys(context: Context, rope_type: str, extra: Collection[str] = ()) -> None:
    """ValueError for a key that ``rope_type`` does not have, or a required one that is missing.

    ``extra`` keys are known besides.
    """
    source, values = context.parameters.source, context.parameters.values
    entry = ROPE_TYPES[rope_type]
    known = {*entry.required, *entry.optional, *COMMON_KEYS, *extra}
    for key, value in values.items():
        if key not in known and not _is_harmless(key, value, values):
            msg = (
                f"unknown key {quote(key)} in {source} for rope_type {quote(rope_type)}; "
                f"known: {', '.join(sorted(known))}"
            )
            raise ValueError(msg)
    for key in sorted(entry.required):
        is_null = key in entry.nullable and key in values
        is_outside = key == ORIGINAL and context.original_max_positions() is not None
        if values.get(key) is None and not (is_null or is_outside):
            msg = f"`{key}` is required in {source} for rope_type {quote(rope_type)}"
            raise ValueError(msg)


def _is_harmless(key: str, value: Any, values: Config) -> bool:
    """Whether a key that is not known changes nothing.

    That is null; YaRN's remark that a model was trained with it; and what Qwen 3 Omni and Qwen 3 ASR
    have beside mrope_interleaved, if it says the same.
    """
    if value is None or (key == "finetuned" and isinstance(value, bool)):
        return True
    return key == "interleaved" and value is not None and value == values.get("mrope_interleaved")


def schedule(context: Context, rope_type: str) -> Schedule | None:
    """The schedule that rope parameters describe, whose keys `require_keys` has checked."""
    source, fields = context.parameters.source, dict(context.parameters.values)
    entry = ROPE_TYPES[rope_type]
    if entry.schedule is None:
        return None
    if ORIGINAL in entry.required:
        inside = get_int(fields, ORIGINAL, f" in {source}")
        places = {"at the top level": context.original_max_positions(), f"in {source}": inside}
        fields[ORIGINAL] = require_consistent(ORIGINAL, places)
    if entry.complete is not None:
        entry.complete(fields, context)
    names = inspect.signature(entry.schedule).parameters
    given = {name: fields[name] for name in names if fields.get(name) is not None}
    try:
        return entry.schedule(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(_with_source(str(error), source)) from None


def _with_source(sentence: str, source: str) -> str:
    """``sentence`` with the place after the key that it begins with: "`factor` in rope_scaling must …"."""
    if sentence.startswith("`"):
        return sentence.replace("` ", f"` in {source} ", 1)
    return f"{sentence} in {source}"


def _dynamic_ntk(
    factor: float,
    max_position_embeddings: int = 0,
    alpha: float | None = None,
    stepped_from: int | None = None,
) -> Schedule:
    """With HunYuan's ``alpha``, a stretch that does not depend on the length; Qwen 1's grows in steps."""
    if stepped_from:
        return scaling.SteppedNTK(stepped_from)
    return scaling.NTK(alpha) if alpha else scaling.DynamicNTK(factor, max_position_embeddings)


def _complete_dynamic(fields: Fields, context: Context) -> None:
    if not fields.get("alpha") and not fields.get("stepped_from"):
        fields["max_position_embeddings"] = context.max_positions("dynamic")


def _complete_yarn(fields: Fields, context: Context) -> None:
    where = f" in {context.parameters.source}"
    if fields["factor"] is None:
        fields["factor"] = context.max_positions("yarn") / fields[ORIGINAL]
    if context.is_per_layer_type:
        outside = get_bool(context.config, "truncate", default=True)
        fields["truncate"] = get_bool(fields, "truncate", where, default=outside)
        if fields["truncate"] != outside:
            msg = (
                f"`truncate`{where} must be {outside}, the top-level value, "
                f"got {fields['truncate']}"
            )
            raise ValueError(msg)
    if fields.get("mscale_all_dim") and not context.mscale_softmax:
        fields["mscale_softmax"] = False
    if context.yarn_attention_factor and context.parameters.is_legacy:
        fields["attention_factor"] = fields.get("attention_factor") or context.yarn_attention_factor


def _complete_longrope(fields: Fields, context: Context) -> None:
    for key in ("short_factor", "long_factor"):
        if not is_list(fields[key]):
            msg = f"`{key}` in {context.parameters.source} must be a list of numbers, got {quote(fields[key])}"
            raise ValueError(msg)
        if len(fields[key]) > MAX_HEAD_DIM // 2:
            msg = (
                f"`{key}` in {context.parameters.source} must have a number for each rotated pair, "
                f"got {len(fields[key])}"
            )
            raise ValueError(msg)
        fields[key] = tuple(fields[key])
    given = fields.get("factor") is not None or fields.get("attention_factor") is not None
    fields["max_position_embeddings"] = None if given else context.max_positions("longrope")


def _complete_proportional(fields: Fields, context: Context) -> None:
    fields["partial_rotary_factor"] = context.partial_rotary_factor


ROPE_TYPES: Mapping[str, RopeType] = {
    "default": RopeType(None),
    "linear": RopeType(scaling.Linear, {"factor"}),
    "dynamic": RopeType(_dynamic_ntk, {"factor"}, complete=_complete_dynamic),
    "yarn": RopeType(
        scaling.YaRN,
        {"factor", ORIGINAL},
        {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
        nullable={"factor"},
        complete=_complete_yarn,
    ),
    "longrope": RopeType(
        scaling.LongRoPE,
        {"short_factor", "long_factor", ORIGINAL},
        {"attention_factor", "factor"},
        complete=_complete_longrope,
    ),
    "llama3": RopeType(scaling.Llama3, {"factor", "low_freq_factor", "high_freq_factor", ORIGINAL}),
    "proportional": RopeType(scaling.Proportional, (), {"factor"}, complete=_complete_proportional),
}
