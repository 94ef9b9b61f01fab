"""A cache of rotated keys and values."""

# Without ``from __future__ import annotations``: the field types of `KVCache` are then types, not
# text that would be looked up in the package that it says it comes from.
import math
from typing import Any, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, quote, require_integer
from rope_xp.axes._base import as_ints
from rope_xp.positions._range import as_length, resolve_dtype
from rope_xp.rope import RoPE


class KVCache(NamedTuple):
    """Rotated keys and values of ``length`` tokens, in arrays with a fixed capacity.

    Every method returns a new cache. Shapes never change, so one compiled step serves every length.
    As a named tuple, a cache can be passed through ``jax.jit`` and ``torch.compile`` as it is.

    Parameters
    ----------
    k, v : array, shape (..., capacity, head_dim)
        Slot i contains the token at position i. Slots from ``length`` on are empty and must be masked
        in attention, as `causal_mask` over all slots does.
    length : int or integer array, shape ()
        Number of tokens in the cache. NumPy's integers are ints. An array that is traced (under
        ``jax.jit``) cannot be checked against the capacity.

    Raises
    ------
    ValueError, TypeError
        Of each method, if ``length`` is no number of tokens between 0 and the capacity.

    Examples
    --------
    >>> import numpy as np
    >>> cache = KVCache.empty((1, 4, 2))  # (heads, capacity, head_dim)
    >>> cache = cache.append(np.ones((1, 3, 2)), np.ones((1, 3, 2)))
    >>> cache.length, cache.k[0, :, 0]
    (3, array([1., 1., 1., 0.], dtype=float32))
    """

    k: Array
    v: Array
    length: int | Array = 0

    @classmethod
    def empty(
        cls,
        shape: tuple[int, ...],
        *,
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> "KVCache":
        """A cache of ``shape`` (..., capacity, head_dim); default: in NumPy and float32.

        Raises ValueError or TypeError if ``shape`` is none.
        """
        shape = as_ints("shape", shape)
        if len(shape) < 2 or min(shape) < 0:
            msg = f"`shape` must be (..., capacity, head_dim), non-negative, got {quote(shape)}"
            raise ValueError(msg)
        as_length("shape", math.prod(shape))
        xp = _backends.compat_namespace(xp)
        device = _backends.require_device(xp, device)
        dtype = resolve_dtype(dtype, xp.float32, xp, device)
        k, v = (xp.zeros(shape, dtype=dtype, device=device) for _ in "kv")
        return cls(k, v)

    def append(self, k: Array, v: Array) -> "KVCache":
        """The cache with the tokens of ``k`` and ``v``, shape (..., seq, head_dim), at its end.

        Raises ValueError if they do not fit, TypeError if their dtype is neither that of the cache nor
        floating as it is.
        """
        xp = self._require_arrays()
        _backends.namespace(cache=self.k, k=k, v=v)
        length, used = self._length()
        capacity, seq = self.k.shape[-2], k.shape[-2] if k.ndim > 1 else None
        for name, new, old in (("k", k, self.k), ("v", v, self.v)):
            expected = (*old.shape[:-2], "seq" if seq is None else seq, old.shape[-1])
            if tuple(new.shape) != expected:
                wanted = ", ".join(map(str, expected))
                msg = f"`{name}` must have shape ({wanted}), got {tuple(new.shape)}"
                raise ValueError(msg)
            both_floating = _backends.is_floating(new) and _backends.is_floating(old)
            if new.dtype != old.dtype and not both_floating:
                msg = (
                    f"`{name}` must have the dtype of the cache, {_backends.dtype_name(old.dtype)}, or "
                    f"both must be floating, got {_backends.dtype_name(new.dtype)}"
                )
                raise TypeError(msg)
        if seq is None or (isinstance(seq, int) and seq > capacity - used):
            msg = f"`k` must fit into the cache of {capacity} tokens ({used} used), got {seq}"
            raise ValueError(msg)
        if seq == 0:
            return KVCache(self.k, self.v, length)
        steps = xp.arange(capacity, device=_backends.device(k)) - length
        new = (steps >= 0) & (steps < seq)  # (capacity,)
        source = xp.where(new, steps, xp.zeros_like(steps))
        k, v = (
            xp.where(
                new[:, None], xp.take(_backends.cast(fresh, old.dtype, xp), source, axis=-2), old
            )
            for fresh, old in ((k, self.k), (v, self.v))
        )
        return KVCache(k, v, length + seq)

    def drop(self, n: int, rope: RoPE, *, keep: int = 0, seq_len: int | None = None) -> "KVCache":
        """The cache without the ``n`` tokens after the first ``keep``; later keys move up by ``n``.

        With ``keep`` > 0 this is a sliding window with attention sinks (Xiao et al. 2023,
        arXiv:2309.17453). ``rope`` is the encoding that rotated the keys.

        Raises ValueError if the cache does not have these tokens, TypeError if ``rope`` is no `RoPE`.

        Book: :eq:`eq-cache-shift`.
        """
        n, keep = as_int("n", n), as_int("keep", keep)
        if not isinstance(rope, RoPE):
            msg = f"`rope` must be a RoPE, got {type(rope).__name__}"
            raise TypeError(msg)
        xp = self._require_arrays()
        length, used = self._length(unknown_is_full=True)
        try:
            fits = n >= 0 and keep >= 0 and not keep + n > used
        except Exception as error:  # of a library that traces sizes and cannot compare these
            msg = f"`k` must have a known capacity where tokens are dropped, got {used}"
            raise ValueError(msg) from error
        if not fits:
            msg = (
                f"`n` and `keep` must be within the {used} tokens of the cache, got {quote(n)} and "
                f"{quote(keep)}"
            )
            raise ValueError(msg)
        moved = rope.shift(self.k[..., keep + n :, :], -n, seq_len=seq_len)
        k = xp.concat((self.k[..., :keep, :], moved, xp.zeros_like(self.k[..., :n, :])), axis=-2)
        v = self.v
        v = xp.concat(
            (v[..., :keep, :], v[..., keep + n :, :], xp.zeros_like(v[..., :n, :])), axis=-2
        )
        return KVCache(k, v, length - n)

    def _require_arrays(self) -> Namespace:
        """The namespace of the cache; ValueError unless its arrays have the same slots."""
        xp = _backends.namespace(k=self.k, v=self.v)
        for name, array in (("k", self.k), ("v", self.v)):
            if array.ndim < 2 or array.shape[-2] != self.k.shape[-2]:
                capacity = "capacity" if self.k.ndim < 2 else f"capacity={self.k.shape[-2]}"
                msg = f"`{name}` must have shape (..., {capacity}, head_dim), got {tuple(array.shape)}"
                raise ValueError(msg)
        return xp

    def _length(self, *, unknown_is_full: bool = False) -> tuple[Any, int]:
        """The length, NumPy's integers as int, and its value, 0 or the capacity where not at hand."""
        length, capacity = self.length, self.k.shape[-2]
        # NumPy's arrays without axes count as integers beside arrays of any library.
        if _backends.is_compiling() and isinstance(length, np.ndarray):
            xp = _backends.namespace(k=self.k)
            (length,) = _backends.beside("k", self.k, xp, length=length)
        elif isinstance(length, np.ndarray) and length.ndim == 0:
            length = length.item()
        if not _backends.is_array(length):
            used = length = as_int("length", length)
        else:
            require_integer("length", length)
            if length.ndim > 0:
                msg = f"`length` must be an int or have shape (), got {tuple(length.shape)}"
                raise ValueError(msg)
            _backends.namespace(k=self.k, length=length)
            value = _backends.host_values(length)
            used = (capacity if unknown_is_full else 0) if value is None else int(value)
        if not 0 <= used <= capacity:
            msg = f"`length` must be in [0, {capacity}], the capacity, got {quote(used)}"
            raise ValueError(msg)
        return length, used
