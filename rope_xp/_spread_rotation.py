"""Rotation to positions of arrays in several pieces: on devices, or in chunks that are computed later."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from rope_xp import _backends, rotation
from rope_xp._backends import Array, Dtype, Operand, Result
from rope_xp._host_phases import FEW
from rope_xp.positions._alignment import axes_of, on_every_axis, place_along, require_batch_of
from rope_xp.positions._range import are_few
from rope_xp.scaling import Frequencies


class Place(NamedTuple):
    """Positions or steps, the name of that argument, the scheme of which they have axes, and tokens' axis."""

    name: str
    positions: Array
    scheme: Any  # None: they are the same on every axis
    axis: int  # of tokens, in the first array
    seq_axis: int  # the same, as it was given
    few: int  # positions that may stay on the host


def rotate_spread(
    rope: Any,
    arrays: dict[str, Array],
    place: Place,
    frequencies: Frequencies,
    dtype: Dtype,
    *,
    inverse: bool = False,
) -> tuple[tuple[Array, ...], Array]:
    """Arrays, by their names, at positions, each block with tables of its own; and the positions.

    If tables can be shared there is no array yet, and the positions are where they are needed.
    """
    given, positions, scheme, first_axis, seq_axis, few = place
    if not _make_own_tables(arrays, first_axis):
        first = next(iter(arrays))
        at = {given: positions}
        return (), place_along(first, arrays[first], first_axis, scheme, few=few, **at)
    seq = positions.shape if scheme is None else positions.shape[1:]
    turn = partial(
        _rotate_block,
        rope=rope,
        scheme=scheme,
        seq_axis=seq_axis,
        inverse=inverse,
        frequencies=frequencies,
        dtype=dtype,
        few=are_few(seq, FEW // rope.n_pairs),
    )
    turned: list[Array] = []
    for name, x in arrays.items():
        require_batch_of(x, positions if scheme is None else positions[0, ...], given)
        axis = rotation.resolve_seq_axis(name, x.shape, seq_axis)
        whole = _backends.features_whole(name, x)
        at = place_along(name, x, axis, scheme, **{given: positions})
        operands = [whole, Operand(given, at, axes_of(at, axis, scheme))]
        blocks: Any = _backends.blocks_of(x)
        turned += blocks.map(turn, operands, [Result(x.shape, whole.axes, x.dtype)])
    return tuple(turned), positions


def _make_own_tables(arrays: dict[str, Array], axis: int) -> bool:
    """Whether blocks of these arrays, the first of which has tokens along ``axis``, need tables of their own.

    Those which are computed later had better need nothing of others; of arrays on several devices, each
    device may have tokens of one that it has not of the other.
    """
    first, *others = arrays
    blocks = _backends.blocks_of(arrays[first])
    if blocks is None:
        return False
    alike = blocks.is_split_alike
    if alike is None:
        return True
    q = _backends.features_whole(first, arrays[first])
    return not all(alike(q, _backends.features_whole(k, arrays[k]), (0, axis)) for k in others)


def _rotate_block(
    x: Array,
    positions: Array,
    *,
    rope: Any,
    scheme: Any,
    seq_axis: int,
    inverse: bool,
    **options: Any,
) -> Array:
    xp = _backends.namespace(x=x)
    positions = on_every_axis(rope.axes, scheme, positions, xp)
    cos, sin = rope._tables(x, positions, xp=xp, **options)
    return rope._rotate(x, cos, sin, seq_axis=seq_axis, inverse=inverse)
