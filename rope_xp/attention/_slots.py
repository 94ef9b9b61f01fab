"""Slots of caches: lengths of rows, which slot a token gets, and how slots are read and written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, as_seq_len, is_known, quote, require_integer
from rope_xp.axes._base import as_ints, settle_lengths
from rope_xp.positions._alignment import SeqLen
from rope_xp.positions._range import as_length, bounds, resolve_dtype
from rope_xp.rope import RoPE


@dataclass(frozen=True)
class Turn:
    """The encoding that moves keys when they are read, and the length that its frequencies are for."""

    rope: RoPE
    seq_len: SeqLen = None

    def shift(self, k: Array, steps: Array, xp: Namespace) -> Array:
        """Rotated keys moved by ``steps``, integers of shape (seq,), (batch, 1) or (batch, seq)."""
        if self.rope.axes is not None:  # as text has them: the same on every axis
            steps = xp.broadcast_to(steps[None, ...], (self.rope.axes.n_axes, *steps.shape))
        return self.rope.shift(k, steps, seq_len=self.seq_len)


_backends.register_values((Turn,))


def as_turn(rope: RoPE, seq_len: SeqLen) -> Turn:
    """The `Turn`; a wrong ``seq_len`` is refused here, not when keys are read."""
    if not isinstance(rope, RoPE):
        msg = f"`rope` must be a RoPE, got {type(rope).__name__}"
        raise TypeError(msg)
    seq_len = settle_lengths(seq_len, rope.axes)
    if not (seq_len is None or isinstance(seq_len, tuple) or _backends.is_traced_size(seq_len)):
        seq_len = as_seq_len("seq_len", seq_len)
    return Turn(rope, seq_len)


def empty_arrays(
    shape: tuple[int, ...],
    v_dim: int | None,
    xp: Namespace | None,
    dtype: Dtype | None,
    device: Device | None,
) -> tuple[Array, Array]:
    """Keys and values of a cache without tokens."""
    shape = as_ints("shape", shape)
    if len(shape) < 2 or min(shape) < 0:
        msg = f"`shape` must be (..., capacity, head_dim), non-negative, got {quote(shape)}"
        raise ValueError(msg)
    as_length("shape", math.prod(shape))
    v_dim = shape[-1] if v_dim is None else as_length("v_dim", v_dim)
    as_length("v_dim", math.prod(shape[:-1]) * v_dim)
    xp = _backends.compat_namespace(xp)
    device = _backends.require_device(xp, device)
    dtype = resolve_dtype(dtype, xp.float32, xp, device)
    k, v = (xp.zeros((*shape[:-1], n), dtype=dtype, device=device) for n in (shape[-1], v_dim))
    return k, v


def require_slots(k: Array, v: Array) -> Namespace:
    """The namespace of a cache; ValueError unless its arrays have the same slots."""
    xp = _backends.namespace(k=k, v=v)
    for name, array in (("k", k), ("v", v)):
        if array.ndim < 2 or array.shape[-2] != k.shape[-2]:
            capacity = "capacity" if k.ndim < 2 else f"capacity={k.shape[-2]}"
            msg = f"`{name}` must have shape (..., {capacity}, head_dim), got {tuple(array.shape)}"
            raise ValueError(msg)
    return xp


def as_lengths(
    name: str, length: Any, k: Array, *, most: Any, batch: int | None
) -> tuple[Any, Any]:
    """Numbers of tokens as an int or in the default integer dtype, () or (batch,), and their values.

    NumPy's integers are ints. The values are an int or a list of ints, None where they are not at hand.
    ValueError or TypeError unless these are numbers of tokens, of 0 to ``most``, for ``batch`` rows.
    """
    # NumPy's arrays without axes count as integers beside arrays of any library.
    if isinstance(length, np.ndarray) and length.ndim == 0 and not _backends.is_compiling():
        length = length.item()
    used: Any = None
    if _backends.is_host_array(length):
        (length,) = _backends.beside("k", k, _backends.namespace(k=k), **{name: length})
    if not _backends.is_array(length):
        used = length = as_int(name, length)
    else:
        xp = _backends.namespace(**{"k": k, name: length})
        require_integer(name, length)
        fits = length.ndim == 0 or (length.ndim == 1 and batch is not None)
        if not fits or (length.ndim == 1 and _differ(length.shape[0], batch)):
            shape = "()" if batch is None else f"(batch={batch},)"
            msg = f"`{name}` must be an int or have shape {shape}, got {tuple(length.shape)}"
            raise ValueError(msg)
        values = _backends.host_values(length)
        used = None if values is None or values.size == 0 else values.tolist()
        if _backends.dtype_name(length.dtype) not in ("int32", "int64"):  # which others count with
            integer = _backends.default_integer_dtype(xp, _backends.device(length))
            length = _backends.cast(length, integer, xp)
    if used is not None:
        least, largest = (min(used), max(used)) if isinstance(used, list) else (used, used)
        if not 0 <= least <= largest <= most:
            why = ", the capacity" if name == "length" and most == k.shape[-2] else ""
            msg = f"`{name}` must be in [0, {most}]{why}, got {quote(least if least < 0 else largest)}"
            raise ValueError(msg)
    return length, used


def _differ(one: Any, other: Any) -> bool:
    return is_known(one) and is_known(other) and bool(one != other)


def like(given: Any, length: Any, most: int, xp: Namespace) -> Any:
    """A new ``length`` in the dtype of the one that was ``given``."""
    if type(given) is not type(length) or not _backends.is_array(given):
        return length  # a number, or a host constant
    if given.dtype == length.dtype:
        return length
    if bounds(given.dtype)[1] < most:
        kind = _backends.dtype_name(given.dtype)
        msg = f"`length` must have a dtype that holds {most}, got {kind}"
        raise TypeError(msg)
    return _backends.cast(length, given.dtype, xp)


def require_tokens(k: Array, v: Array, old_k: Array, old_v: Array) -> Any:
    """How many tokens there are; ValueError or TypeError unless they are for these caches."""
    _backends.namespace(cache=old_k, k=k, v=v)
    seq = k.shape[-2] if k.ndim > 1 else None
    for name, new, old in (("k", k, old_k), ("v", v, old_v)):
        expected = (*old.shape[:-2], "seq" if seq is None else seq, old.shape[-1])
        if tuple(new.shape) != expected:
            wanted = ", ".join(map(str, expected))
            msg = f"`{name}` must have shape ({wanted}), got {tuple(new.shape)}"
            raise ValueError(msg)
        if new.dtype == old.dtype:
            continue
        if not (_backends.is_floating(new) and _backends.is_floating(old)):
            msg = (
                f"`{name}` must have the dtype of the cache, {_backends.dtype_name(old.dtype)}, or "
                f"both must be floating, got {_backends.dtype_name(new.dtype)}"
            )
            raise TypeError(msg)
    return seq


def numbers(n: Any, x: Array, xp: Namespace) -> Array:
    """0 … n − 1 beside ``x``."""
    return xp.arange(n, device=_backends.device(x))


def spread(per_row: Any) -> Any:
    """Numbers of rows, (batch,), as (batch, 1); an int or an array without axes as it is."""
    rows = _backends.is_array(per_row) and per_row.ndim == 1
    return per_row[:, None] if rows else per_row


def batch_of(k: Array, v: Array) -> Any:
    """The number of rows of a cache; None if its arrays have no axis for them."""
    rows = k.ndim > 2 and v.ndim > 2 and k.shape[0] == v.shape[0]
    return k.shape[0] if rows else None


def line_up(of_slots: Array, array: Array) -> Array:
    """What is (n,) or (batch, n), so that it broadcasts to an array (..., n, width)."""
    between = array.ndim - 2 - (of_slots.ndim - 1)
    batch = (slice(None),) * (of_slots.ndim - 1)
    return of_slots[(*batch, *(None,) * between, slice(None), None)]


def read(array: Array, index: Array, xp: Namespace) -> Array:
    """The slots ``index``, (n,) or (batch, n), of an array (..., capacity, width)."""
    if index.ndim == 1:
        return xp.take(array, index, axis=-2)
    if hasattr(xp, "take_along_axis"):
        shape = (index.shape[0], *(1,) * (array.ndim - 3), index.shape[1], 1)
        place = xp.broadcast_to(
            xp.reshape(index, shape), (*array.shape[:-2], index.shape[1], array.shape[-1])
        )
        return xp.take_along_axis(array, place, axis=-2)
    rows = (xp.take(array[i, ...], index[i, :], axis=-2) for i in range(index.shape[0]))
    return xp.stack(list(rows))


def write(
    arrays: Sequence[Array],
    index: Any,
    values: Sequence[Array],
    valid: Array | None,
    xp: Namespace,
) -> Sequence[Array]:
    """``arrays`` with the tokens ``values`` in their slots ``index``, in their memory if possible.

    As `Library.write_slots` says, which see. Not in place where two arrays are the same.
    """
    alone = len(arrays) == 1 or arrays[0] is not arrays[1]
    written = _backends.write_slots(arrays, index, values, valid) if alone else None
    if written is not None:
        return written
    pairs, seq = list(zip(arrays, values, strict=True)), values[0].shape[-2]
    if not _backends.is_array(index):
        return [
            xp.concat((old[..., :index, :], fresh, old[..., index + seq :, :]), axis=-2)
            for old, fresh in pairs
        ]
    slots = numbers(arrays[0].shape[-2], arrays[0], xp)
    found = slots[:, None] == index[..., None, :]  # (..., capacity, seq)
    if valid is not None:
        found = found & valid[..., None, :]
    # Which token is in a slot, the first one if none; argmax would need int64.
    tokens = numbers(seq, arrays[0], xp)
    source = xp.max(xp.where(found, tokens, xp.zeros_like(tokens)), axis=-1)
    new = xp.any(found, axis=-1)
    return [xp.where(line_up(new, old), read(fresh, source, xp), old) for old, fresh in pairs]
