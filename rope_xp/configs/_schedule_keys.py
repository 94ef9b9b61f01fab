"""A schedule → the keys of ``rope_parameters`` that describe it."""

from __future__ import annotations

from typing import Any

from rope_xp import scaling
from rope_xp._validation import quote
from rope_xp.rope import RoPE
from rope_xp.scaling._base import larger_base

Keys = dict[str, Any]

# LongRoPE needs one, and with one list for all lengths it changes nothing.
ANY_CONTEXT = 4096


def schedule_keys(rope: RoPE) -> tuple[Keys, Keys]:
    """What describes base and schedule: the keys of ``rope_parameters``, and those at the top level.

    Raises
    ------
    ValueError
        If no rope_type describes the schedule.
    """
    base, found, top = rope.base, rope.scaling, {}
    if isinstance(found, scaling.Negated):  # the family says so, not its config
        found = found.scaling
    match found:
        case None | scaling.Default():
            keys: Keys = {"rope_type": "default"}
        case scaling.Linear():
            keys = {"rope_type": "linear", "factor": found.factor}
        case scaling.NTK():
            keys = {"rope_type": "default"}
            base = base_of_ntk(rope, found)
        case scaling.DynamicNTK():
            keys = {"rope_type": "dynamic", "factor": found.factor}
            top = {"max_position_embeddings": found.max_position_embeddings}
        case scaling.YaRN():
            keys = {"rope_type": "yarn", **_fields(found, "mscale_softmax")}
        case scaling.NTKByParts():
            keys = {"rope_type": "yarn", **_fields(found), "attention_factor": 1.0}
        case scaling.Llama3():
            keys = {"rope_type": "llama3", **_fields(found)}
        case scaling.LongRoPE():
            keys = {"rope_type": "longrope", **_fields(found, "max_position_embeddings")}
            if found.factor is None and found.attention_factor is None:
                if found.max_position_embeddings is None:
                    keys["factor"] = 1.0
                else:
                    top = {"max_position_embeddings": found.max_position_embeddings}
        case scaling.FrequencyFactors(scaling=None):
            # One list for all lengths is a LongRoPE whose two lists are equal.
            keys = {"rope_type": "longrope"}
            keys |= {key: [*found.factors] for key in ("short_factor", "long_factor")}
            keys |= {"original_max_position_embeddings": ANY_CONTEXT, "attention_factor": 1.0}
        case scaling.Proportional():
            keys = {"rope_type": "proportional", **_fields(found)}
        case _:
            msg = f"`ropes` must have a schedule that a rope_type describes, got {quote(found)}"
            raise ValueError(msg)
    return {**keys, "rope_theta": base}, top


def _fields(schedule: Any, *without: str) -> Keys:
    """The fields of a schedule as JSON has them, without those that are not set."""
    values = {name: getattr(schedule, name) for name in schedule.__dataclass_fields__}
    return {
        name: [*value] if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and name not in without
    }


def base_of_ntk(rope: RoPE, schedule: scaling.NTK) -> float:
    """The base that turns as this schedule does, without one."""
    return larger_base(rope.base, schedule.factor, rope.rotary_dim, float, schedule.factor)
