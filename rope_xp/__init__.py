"""Rotary and sinusoidal position encodings, written once for every array library.

A rotary encoding is a linear map from positions to angles, and a rotation by those angles. The
data flows through the rooms in this order, and so do the imports:

=============== ================================================================================
`grids`         where patches are: images and video, grids of any number of axes
`vision_text`   where both are: text with images and video in one sequence
`positions`     where tokens are: offsets, packed sequences, masks, shards; hands on the two above
`scaling`       how fast pairs turn: schedules of frequencies
`axes`          which position axis drives which pair: grids, video, text with images
`phases`        positions × frequencies → cos, sin; decides precision
`rotation`      turning the pairs; the two layouts are two ways of slicing the same array
`rope`          `RoPE`, the one object that ties the rooms above together
`additive`      `sinusoidal`, the additive ancestor, from the same phases
`relative`      the relatives it is compared with: ALiBi, clipped, T5, Transformer-XL
`attention`     what it is for: reference and linear attention, a cache that can shift
`layouts`       weights and activations from one pairing to the other
`analysis`      what follows from the math: wavelengths, turns, bounds
`configs`       a model's config.json → `RoPE`, one per layer; strict; and `explain`
`_alignment`    positions lined up with the axes of queries and keys, for `rope`
`_checks`       plain values: sentences for mistakes, rounding to float32
`_evaluation`   how the rotation is evaluated: ways that differ in speed, not in the result
`_compiled`     one of them, compiled by numba: extra ``fast``
`_ways`         which of them is taken, and what they have to know of each library
`_backend`      the only room that knows array libraries by name; `_ways` is its annex
`_config_reading`, `_families`, `_sizes`, `_axes_reading` and `_layers` are the cellar of `configs`
=============== ================================================================================
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from rope_xp import analysis, attention, axes, positions, relative, scaling
from rope_xp.additive import sinusoidal
from rope_xp.layouts import convert_layout
from rope_xp.phases import cos_sin, xpos_scale
from rope_xp.rope import RoPE
from rope_xp.rotation import rotate

if TYPE_CHECKING:
    from rope_xp import configs

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
    "xpos_scale",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """`configs` on first use: with its cellar it takes longer to load than the other rooms need."""
    if name == "configs":
        return importlib.import_module("rope_xp.configs")
    msg = f"module 'rope_xp' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
