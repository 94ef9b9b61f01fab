"""Rotary and sinusoidal position encodings, written once for every array library.

A rotary encoding is a linear map from positions to angles, and a rotation by those angles. Data
flows down this list, and so do imports:

================ ===============================================================================
`_backends`      what is known about each array library: namespaces, dtypes, devices
`_exports`       one public path for each name: `__module__` of what packages export
`_validation`    checks that several modules share, and their wording
`_kernels`       how a rotation is evaluated: kernels that differ in speed, not in the result
`_exact_phases`  the fixed-point arithmetic of exact angles
`_host_phases`   the same for a few positions whose values are at hand, from NumPy
`layouts`        which two features make a pair; weights from one pairing to the other, or which they have
`positions`      where tokens are: packs, drafts, shards, grids, text with images and audio; `Tokens`
`scaling`        how fast each pair turns: frequency schedules
`axes`           which position axis drives which pair: grids, video, text with images
`_traced_length` frequencies that follow a length which torch traces
`phases`         positions × frequencies → cos, sin; decides precision
`rotation`       turning the pairs: the formula
`_spread_rotation` both, of arrays in several pieces: on devices, or in chunks of Dask
`additive`       `sinusoidal`, from the same frequencies and phases
`relative`       what RoPE is compared with: ALiBi, clipped, T5, Transformer-XL
`_config_reader` a model's config → a plain description of each layer
`rope`           `RoPE`, the one object that ties the modules above together
`attention`      reference and linear attention, masks, and caches of keys and values
`analysis`       what follows from the math: wavelengths, turns, bounds
`configs`        a model's config → the `RoPE` of each layer, and back; `explain`
`testing`        anybody's implementation, tried against the definition
================ ===============================================================================
"""

import importlib
from dataclasses import is_dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from rope_xp import _backends, analysis, axes, positions, relative, scaling
from rope_xp.additive import sinusoidal
from rope_xp.layouts import convert_layout
from rope_xp.phases import cos_sin, xpos_scale
from rope_xp.rope import RoPE
from rope_xp.rotation import rotate

if TYPE_CHECKING:
    from rope_xp import attention, configs, testing

__all__ = [
    "RoPE",
    "analysis",
    "attention",
    "axes",
    "configs",
    "convert_layout",
    "cos_sin",
    "positions",
    "relative",
    "rotate",
    "scaling",
    "sinusoidal",
    "testing",
    "xpos_scale",
]

__version__ = "0.1.0"

# Values that JAX passes through, and that torch.load takes from a file.
_PUBLIC = (*vars(axes).values(), *vars(scaling).values())
_backends.register_values(
    (RoPE, *(each for each in _PUBLIC if isinstance(each, type) and is_dataclass(each)))
)
_backends.register_values_of("rope_xp.scaling._query_scale")
_backends.register_values_of("rope_xp.positions._ranges")
_backends.register_values_of("rope_xp.attention")


def __getattr__(name: str) -> ModuleType:
    """Load what is not needed to rotate on first use; `configs` takes longer than all others together."""
    if name in {"attention", "configs", "testing"}:
        return importlib.import_module(f"rope_xp.{name}")
    msg = f"module 'rope_xp' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
