"""A cache of rotated keys and values."""

# Without ``from __future__ import annotations``: the field types of `KVCache` are then types, not
# text that would be looked up in the package that it says it comes from.
from typing import NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int
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
        Number of tokens in the cache. An array (under ``jax.jit``) cannot be checked against the
        capacity.

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
        """A cache of ``shape`` (..., capacity, head_dim); default: in NumPy and float32."""
        xp = _backends.compat_namespace(xp)
        dtype = xp.float32 if dtype is None else dtype
        k, v = (xp.zeros(shape, dtype=dtype, device=device) for _ in "kv")
        return cls(k, v)

    def append(self, k: Array, v: Array) -> "KVCache":
        """The cache with the tokens of ``k`` and ``v``, shape (..., seq, head_dim), at its end.

        Raises ValueError if they do not fit.
        """
        xp = _backends.namespace(cache=self.k, k=k, v=v)
        capacity, seq = self.k.shape[-2], k.shape[-2]
        for name, new, old in (("k", k, self.k), ("v", v, self.v)):
            expected = (*old.shape[:-2], seq, old.shape[-1])
            if tuple(new.shape) != tuple(expected):
                msg = f"`{name}` must have shape {tuple(expected)}, got {tuple(new.shape)}"
                raise ValueError(msg)
        free = capacity - self.length
        known = isinstance(seq, int)
        if known and (seq > capacity or (isinstance(free, int) and seq > free)):
            msg = (
                f"`k` must fit into the cache of {capacity} tokens ({self.length} used), got {seq}"
            )
            raise ValueError(msg)
        steps = xp.arange(capacity, device=_backends.device(k)) - self.length
        new = (steps >= 0) & (steps < seq)  # (capacity,)
        source = xp.where(new, steps, xp.zeros_like(steps))
        k, v = (
            xp.where(
                new[:, None], xp.take(_backends.cast(fresh, old.dtype, xp), source, axis=-2), old
            )
            for fresh, old in ((k, self.k), (v, self.v))
        )
        return KVCache(k, v, self.length + seq)

    def drop(self, n: int, rope: RoPE, *, keep: int = 0, seq_len: int | None = None) -> "KVCache":
        """The cache without the ``n`` tokens after the first ``keep``; later keys move up by ``n``.

        With ``keep`` > 0 this is a sliding window with attention sinks (Xiao et al. 2023,
        arXiv:2309.17453). ``rope`` is the encoding that rotated the keys.

        Raises ValueError if the cache does not have these tokens.

        Book: :eq:`eq-cache-shift`.
        """
        n, keep = as_int("n", n), as_int("keep", keep)
        length = self.length if isinstance(self.length, int) else self.k.shape[-2]
        if n < 0 or keep < 0 or keep + n > length:
            msg = f"`n` and `keep` must be within the {length} tokens of the cache, got {n} and {keep}"
            raise ValueError(msg)
        xp = _backends.namespace(cache=self.k)
        moved = rope.shift(self.k[..., keep + n :, :], -n, seq_len=seq_len)
        k = xp.concat((self.k[..., :keep, :], moved, xp.zeros_like(self.k[..., :n, :])), axis=-2)
        v = self.v
        v = xp.concat(
            (v[..., :keep, :], v[..., keep + n :, :], xp.zeros_like(v[..., :n, :])), axis=-2
        )
        return KVCache(k, v, self.length - n)
