"""Implementations that take less than any positions, as ``fn(x, positions)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array
from rope_xp._validation import as_int, as_size, quote, require_bool
from rope_xp.testing._black_box import Implementation


def from_sequence(
    fn: Callable[[Array], Array], *, max_length: int = 8192, seq_axis: int = -2
) -> Implementation:
    """``fn(x)``, which rotates x to positions 0 … seq − 1, as ``fn(x, positions)``.

    Tokens are put where their positions are, into a sequence that ends with the last of them; tokens at
    the same position are in separate calls.

    Parameters
    ----------
    fn : callable
    max_length : int
        The longest sequence that ``fn`` gets; larger positions are refused with a ValueError, and so are
        negative ones.
    seq_axis : {-2, -3}
        -3 for x of shape (batch, seq, heads, head_dim).

    Returns
    -------
    callable
        Of x and positions of shape (seq,) or (batch, seq).

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> rope = RoPE(4, layout="half")
    >>> at_any = from_sequence(lambda x: rope(x))
    >>> x = np.ones((1, 1, 2, 4), dtype=np.float32)
    >>> bool((at_any(x, np.asarray([7, 2])) == rope(x, positions=[7, 2])).all())
    True
    """
    _require_callable("from_sequence", "x", fn)
    max_length, seq_axis = as_size("max_length", max_length), _as_seq_axis(seq_axis)

    def rotated(x: Array, positions: Array) -> Array:
        xp = _backends.namespace(x=x)
        axis = x.ndim + seq_axis
        if axis < 0:
            msg = f"`x` must have shape (batch, heads, seq, head_dim), got {tuple(x.shape)}"
            raise ValueError(msg)
        places = _places(positions, x.shape[axis])
        if places.size and not 0 <= places.min() <= places.max() < max_length:
            msg = (
                f"`positions` must be in [0, max_length={max_length}), got {places.min()} to "
                f"{places.max()}"
            )
            raise ValueError(msg)

        integer = _backends.default_integer_dtype(xp, _backends.device(x))

        def take(array: Array, index: np.ndarray) -> Array:
            index = index.astype(_backends.dtype_name(integer))
            return xp.take(array, xp.asarray(index, device=_backends.device(x)), axis=axis)

        def row(part: Array, at: np.ndarray) -> Array:
            found: Array = None
            for tokens in _without_repetition(at):
                # Where no token is, the first one takes the place.
                source = np.full(at.max() + 1, tokens[0])
                source[at[tokens]] = tokens
                made = take(fn(take(part, source)), at)
                mine = np.isin(np.arange(len(at)), tokens)
                shape = (-1, *(1,) * (x.ndim - axis - 1))
                where = xp.asarray(mine.reshape(shape), device=_backends.device(x))
                found = made if found is None else xp.where(where, made, found)
            return found

        if len(places) == 1:
            return row(x, places[0])
        return xp.concat([row(x[i : i + 1, ...], at) for i, at in enumerate(places)], axis=0)

    return rotated


def from_offset(
    fn: Callable[[Array, Array], Array], *, rows: bool = False, seq_axis: int = -2
) -> Implementation:
    """``fn(x, offset)``, which rotates x to offset … offset + seq − 1, as ``fn(x, positions)``.

    It is called with each run of positions that follow each other.

    Parameters
    ----------
    fn : callable
        ``offset`` is a Python int.
    rows : bool
        ``offset`` is an integer array of shape (batch,) instead, of the library of x: each row has its own.
    seq_axis : {-2, -3}
        -3 for x of shape (batch, seq, heads, head_dim).

    Returns
    -------
    callable
        Of x and positions of shape (seq,) or (batch, seq).

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> rope = RoPE(4, layout="half")
    >>> at_any = from_offset(lambda x, offset: rope(x, offset=offset))
    >>> x = np.ones((1, 1, 3, 4), dtype=np.float32)
    >>> bool((at_any(x, np.asarray([7, 8, 2])) == rope(x, positions=[7, 8, 2])).all())
    True
    """
    _require_callable("from_offset", "x, offset", fn)
    rows, seq_axis = require_bool("rows", rows), _as_seq_axis(seq_axis)

    def rotated(x: Array, positions: Array) -> Array:
        xp = _backends.namespace(x=x)
        axis = x.ndim + seq_axis
        places = _places(positions, x.shape[axis])
        before = (slice(None),) * axis
        if rows:
            places = np.broadcast_to(places, (x.shape[0], places.shape[1]))
            dtype = _backends.default_integer_dtype(xp, _backends.device(x))
            made = []
            for start, stop in _runs(places):
                offset = xp.asarray(
                    places[:, start].astype(_backends.dtype_name(dtype)), device=_backends.device(x)
                )
                made.append(fn(x[(*before, slice(start, stop), ...)], offset))
            return xp.concat(made, axis=axis)

        def row(part: Array, at: np.ndarray) -> Array:
            made = [
                fn(part[(*before, slice(start, stop), ...)], int(at[start]))
                for start, stop in _runs(at[None])
            ]
            return made[0] if len(made) == 1 else xp.concat(made, axis=axis)

        if len(places) == 1:
            return row(x, places[0])
        return xp.concat([row(x[i : i + 1, ...], at) for i, at in enumerate(places)], axis=0)

    return rotated


def _require_callable(adapter: str, arguments: str, fn: object) -> None:
    if not callable(fn):
        msg = f"`fn` must be callable as fn({arguments}) for `{adapter}`, got {quote(fn)}"
        raise TypeError(msg)


def _as_seq_axis(seq_axis: int) -> int:
    found: int = as_int("seq_axis", seq_axis)
    if found not in (-2, -3):
        msg = f"`seq_axis` must be -2 or -3, got {quote(seq_axis)}"
        raise ValueError(msg)
    return found


def _places(positions: Array, seq: int) -> np.ndarray:
    """Positions on the host, (1 or batch, seq)."""
    places = np.asarray(_backends.to_host(positions)).astype(np.int64)
    if places.ndim not in (1, 2) or places.shape[-1] != seq:
        msg = (
            f"`positions` must have shape (seq,) or (batch, seq) with seq={seq}, got {places.shape}"
        )
        raise ValueError(msg)
    return np.atleast_2d(places)


def _without_repetition(at: np.ndarray) -> Iterator[np.ndarray]:
    """The tokens in groups, in each of which no position occurs twice."""
    left = np.arange(len(at))
    while len(left):
        _, first = np.unique(at[left], return_index=True)
        yield left[np.sort(first)]
        left = np.delete(left, first)


def _runs(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where positions (rows, seq) follow each other in all rows: start and stop."""
    breaks = np.flatnonzero((np.diff(places, axis=-1) != 1).any(axis=0)) + 1
    yield from zip([0, *breaks.tolist()], [*breaks.tolist(), places.shape[-1]], strict=True)
