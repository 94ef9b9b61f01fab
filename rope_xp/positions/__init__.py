"""Positions of tokens: plain, packed and padded sequences, shards, grids, and text with images and audio.

Positions are integers of any dtype, or real numbers. Their shape is ``(seq,)`` or ``(batch, seq)``, with
several axes ``(n_axes, seq)`` or ``(n_axes, batch, seq)``. Functions that make positions refuse a dtype that
does not hold them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rope_xp._exports import set_public_module
from rope_xp.positions._grids import (
    centered_axis,
    grid_positions,
    normalized_axis,
    rescaled_axis,
    time_axis,
)
from rope_xp.positions._packed import packed_documents, packed_positions
from rope_xp.positions._parts import text_image_parts
from rope_xp.positions._shards import shard_indices, zigzag_positions
from rope_xp.positions._text_image import text_image_positions, text_image_types
from rope_xp.positions._token_fields import Tokens
from rope_xp.positions._tokens import (
    mask_grid_positions,
    mask_positions,
    token_positions,
)
from rope_xp.positions._trees import tree_positions

if TYPE_CHECKING:
    from rope_xp.positions._ranges import DualChunk, Range, ReRoPE, SelfExtend

__all__ = [
    "DualChunk",
    "Range",
    "ReRoPE",
    "SelfExtend",
    "Tokens",
    "centered_axis",
    "grid_positions",
    "mask_grid_positions",
    "mask_positions",
    "normalized_axis",
    "packed_documents",
    "packed_positions",
    "rescaled_axis",
    "shard_indices",
    "text_image_parts",
    "text_image_positions",
    "text_image_types",
    "time_axis",
    "token_positions",
    "tree_positions",
    "zigzag_positions",
]

_RANGES = frozenset({"DualChunk", "Range", "ReRoPE", "SelfExtend"})

set_public_module(__name__, {*__all__} - _RANGES)


def __getattr__(name: str) -> Any:
    """Load the schemes with several ranges on first use: few models have one."""
    if name in _RANGES:
        return getattr(importlib.import_module("rope_xp.positions._ranges"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
