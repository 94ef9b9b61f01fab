"""Values of every schedule and axis scheme, on which the tests of laws and values run.

A class that `rope_xp.scaling` or `rope_xp.axes` exports and nobody lists here fails a test.
"""

import math
import pkgutil
from importlib import import_module

from rope_xp import axes, scaling
from rope_xp.axes import (
    Axial,
    AxisPerPair,
    Directions,
    InterleavedSections,
    Sections,
    golden_directions,
)
from rope_xp.positions import DualChunk, ReRoPE, SelfExtend
from rope_xp.scaling import (
    NTK,
    Custom,
    Default,
    DynamicNTK,
    FloorLogScale,
    FrequencyFactors,
    LearnedLogScale,
    Linear,
    Llama3,
    LogScale,
    LongRoPE,
    Negated,
    NTKByParts,
    PowerScale,
    Proportional,
    RIFLEx,
    SteppedNTK,
    YaRN,
)

# -- schedules, for rotary_dim=32 and base 10000 ---------------------------------------------------

ONES = (1.0,) * 16

# With parameters that change nothing: at least one value of every schedule.
NEUTRAL = [
    Default(),
    Linear(1.0),
    NTK(1.0),
    DynamicNTK(1.0, 2048),
    DynamicNTK(4.0, 2048),  # within the original length
    SteppedNTK(2048),
    YaRN(1.0, 2048),
    NTKByParts(1.0, 2048),
    LongRoPE(ONES, ONES, 2048),
    Llama3(1.0, 1.0, 4.0, 2048),
    Proportional(),
    FrequencyFactors(ONES),
    FrequencyFactors(ONES, YaRN(1.0, 2048)),
    Custom(Default()(32, 10000.0).inv_freq),
    RIFLEx(1, 0.9 * 2 * math.pi),
    Negated(Negated()),
]

# With parameters that make pairs slower and none faster.
SCALED = [
    Linear(4.0),
    NTK(4.0),
    YaRN(4.0, 2048),
    NTKByParts(4.0, 2048, truncate=False),
    LongRoPE([2] * 16, [4] * 16, 2048, factor=4.0),
    Llama3(4.0, 1.0, 4.0, 2048),
    Proportional(0.25, 2.0),
    RIFLEx(4, 66),
    FrequencyFactors([3] * 16),
    FrequencyFactors([3] * 16, LongRoPE([2] * 16, [4] * 16, 2048, factor=4.0)),
]

# -- axis schemes, for rotary_dim=12 and three axes ------------------------------------------------

# One list of frequencies, with one axis for each pair.
SHARED = [
    AxisPerPair((2, 0, 1, 1, 0, 2)),
    Sections((2, 1, 3)),
    InterleavedSections((2, 2, 2)),
]

# At least one value of every scheme.
SCHEMES = [
    *SHARED,
    Axial(3),
    Axial((2, 4, 6), split=True),
    Axial((2, 4, 6), axis_order=(2, 0, 1), scale=0.5, bases=(3, 4.5, 100)),
    Directions(((1.0, 0.5, 0.0, 0.0, 0.1, 0.0), (0.0,) * 6, (0.0, 0.0, 0.25, -0.25, 0.1, 0.0))),
    golden_directions(3, 6, slowest=0.01, fastest=2.0),
]

# -- what queries are multiplied by, position by position --------------------------------------------

QUERY_SCALES = [
    FloorLogScale(8192, 0.1, offset=1),
    FloorLogScale(12, 0.5),
    LogScale(2048, offset=1),
    LogScale(100, 0.25),
    PowerScale(2048, 0.1, offset=1),
    LearnedLogScale(),
]

# -- distances of several ranges -------------------------------------------------------------------

RANGE_SCHEMES = [
    SelfExtend(8, 1024),
    ReRoPE(512),
    ReRoPE(512, 16.0),
    DualChunk(262144, 8192),
    DualChunk(8, 3, 4),
]

# Exported classes that are neither.
OTHERS = {scaling.Frequencies, scaling.Schedule, scaling.QueryScale, axes.Axes}
OTHERS |= {type(scale) for scale in QUERY_SCALES}


def exported_classes(package):
    """The schedules or schemes that ``package`` exports."""
    exports = [getattr(package, name) for name in package.__all__]
    return [value for value in exports if isinstance(value, type) and value not in OTHERS]


def unexported_classes(package):
    """For each public class of its files that ``package`` does not export, what to do."""
    for file in pkgutil.iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{file.name}")
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and not name.startswith("_"):
                yield f"export {name} of {module.__name__} from {package.__name__}"


def unlisted(package, values, where):
    """For each class that ``package`` exports, but of which ``values`` has no value, what to do."""
    listed = {type(value) for value in values}
    return [
        f"add {found.__name__} to {where} in tests/values.py"
        for found in exported_classes(package)
        if found not in listed
    ]
