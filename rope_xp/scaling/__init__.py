"""How fast pairs turn: schedules of frequencies; and factors on queries that follow their position.

A schedule is a small frozen dataclass with the fields of a model's config and one formula. Called
with the rotated size, the base and a length it returns `Frequencies`: Python floats, computed on the
host, the same for every array library. A schedule of your own needs what `Schedule` lists.

Every formula is written once for both precisions: with ``precision="float32"`` each step is rounded
as transformers 5.24.0 rounds it, so that 99 of 100 of its frequencies are reproduced to the last bit
(the others differ because torch's float32 power is not always the nearest float). Where
implementations differ, the schedules follow transformers, and the docstring names the others.

A query scale, `QueryScale`, is such a dataclass, too, but works on arrays: called with positions it
returns the factors on their queries.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rope_xp._exports import set_public_module
from rope_xp.scaling._base import Default, Frequencies, Schedule, inverse_frequencies
from rope_xp.scaling._llama3 import Llama3
from rope_xp.scaling._ntk import NTK, DynamicNTK, Linear, SteppedNTK
from rope_xp.scaling._per_pair import (
    Custom,
    FrequencyFactors,
    LongRoPE,
    Negated,
    Proportional,
    RIFLEx,
)
from rope_xp.scaling._yarn import NTKByParts, YaRN

if TYPE_CHECKING:
    from rope_xp.scaling._query_scale import (
        FloorLogScale,
        LearnedLogScale,
        LogScale,
        PowerScale,
        QueryScale,
    )

__all__ = [
    "NTK",
    "Custom",
    "Default",
    "DynamicNTK",
    "FloorLogScale",
    "Frequencies",
    "FrequencyFactors",
    "LearnedLogScale",
    "Linear",
    "Llama3",
    "LogScale",
    "LongRoPE",
    "NTKByParts",
    "Negated",
    "PowerScale",
    "Proportional",
    "QueryScale",
    "RIFLEx",
    "Schedule",
    "SteppedNTK",
    "YaRN",
    "inverse_frequencies",
]

_QUERY_SCALES = frozenset(name for name in __all__ if name.endswith("Scale"))

set_public_module(__name__, {*__all__} - _QUERY_SCALES)


def __getattr__(name: str) -> Any:
    """Load the query scales on first use: few models have one."""
    if name in _QUERY_SCALES:
        return getattr(importlib.import_module("rope_xp.scaling._query_scale"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
