"""Rotation to positions: with tables, or block by block where arrays are lazy and made of blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rope_xp import _backends, phases, rotation
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp.scaling import Frequencies


def rotation_to(
    rope: Any,
    x: Array,
    positions: Array,
    frequencies: Frequencies,
    *,
    other: Array | None = None,
    xp: Namespace,
) -> Callable[..., Array]:
    """A function of ``x``, or of the ``other`` that has its tables, of ``seq_axis`` and ``inverse``."""
    dtype = _backends.compute_dtype(xp, x, other)
    if _backends.lazy_blocks(x) is not None:
        options = {"positions": positions, "frequencies": frequencies, "dtype": dtype}
        return partial(_rotate_blocks, rope, **options)
    cos, sin = rope._tables(x, positions, frequencies, dtype, xp)
    return partial(rope._rotate, cos=cos, sin=sin)


def _rotate_blocks(
    rope: Any,
    x: Array,
    *,
    positions: Array,
    frequencies: Frequencies,
    dtype: Dtype,
    seq_axis: int,
    inverse: bool = False,
) -> Array:
    make = phases.tables_of_block(
        frequencies.inv_freq,
        dtype=dtype,
        precision=rope.precision,
        attention_factor=frequencies.attention_factor,
    )
    n_lead = 0 if rope.axes is None else 1
    axis = rotation.resolve_seq_axis("x", x.shape, seq_axis)
    axes = (0, axis)[2 - positions.ndim + n_lead :]
    turn = partial(rope._rotate, seq_axis=seq_axis, inverse=inverse)
    sizes = {"n_pairs": rope.n_pairs, "dtype": dtype, "n_lead": n_lead}
    blocks: Any = _backends.lazy_blocks(x)
    return blocks.rotate_to(turn, make, x, positions, axes, **sizes)
