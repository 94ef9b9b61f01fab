"""Positions of tokens: plain, packed and padded sequences, shards, grids, and text with images.

Positions are integers of any dtype, or real numbers. Their shape is ``(seq,)`` or ``(batch, seq)``, with
several axes ``(n_axes, seq)`` or ``(n_axes, batch, seq)``. What makes positions refuses a dtype that does
not hold them.
"""

from rope_xp._exports import set_public_module
from rope_xp.positions._grids import (
    centered_axis,
    grid_positions,
    normalized_axis,
    rescaled_axis,
    time_axis,
)
from rope_xp.positions._text_image import (
    text_image_parts,
    text_image_positions,
    text_image_types,
)
from rope_xp.positions._tokens import (
    mask_grid_positions,
    mask_positions,
    packed_positions,
    token_positions,
    zigzag_positions,
)

__all__ = [
    "centered_axis",
    "grid_positions",
    "mask_grid_positions",
    "mask_positions",
    "normalized_axis",
    "packed_positions",
    "rescaled_axis",
    "text_image_parts",
    "text_image_positions",
    "text_image_types",
    "time_axis",
    "token_positions",
    "zigzag_positions",
]

set_public_module(__name__)
