"""A cache in constant memory for streams without end: a window, with attention sinks."""

# Without ``from __future__ import annotations``, as in `_cache`.
from collections.abc import Sequence
from typing import Any, NamedTuple

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, quote, require_features
from rope_xp.attention import _slots
from rope_xp.attention._masks import causal_mask
from rope_xp.attention._slots import Turn, as_turn, numbers, spread
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE


class WindowCache(NamedTuple):
    r"""Rotated keys and values of the first tokens of a stream, and of its newest ones.

    The first ``sinks`` tokens stay, the others leave when the window is full (StreamingLLM). Keys are
    rotated at positions that only grow, and those in the window never move: a new token takes the slot
    of the oldest. Attention sees the positions of tokens within the cache, because it depends on
    distances alone: only the sinks are moved, to where they would be right before the window.

    Every method returns a new cache, in the memory of the old one where the library can write: use the
    newest only. It can be passed through ``jax.jit`` and ``torch.compile`` as it is.

    Parameters
    ----------
    k, v : array, shape (..., capacity, head_dim) and (..., capacity, v_dim)
        Keys rotated to `positions`, and values. Make them with `empty`.
    length : int or integer array, shape () or (batch,)
        Number of tokens that were ever appended, or of each row: where the next one is rotated to.
    first_k : array, shape (..., sinks, head_dim)
        Keys of the sinks, as they were appended.
    turn : object
        The encoding that moves the sinks.

    Raises
    ------
    ValueError, TypeError
        Of each method, if ``length`` is no number of tokens below 2**31. The cache is then what it was.

    Notes
    -----
    Angles of large positions are exact, unless ``rope.precision`` is ``"float32"``.

    Keys in the window are rounded once, sinks once more. `KVCache.drop` and `KVCache.append` give the
    same result, but each step costs as much as the whole window.

    Source: Xiao et al. 2023, arXiv:2309.17453, section 3.2: positions are those within the cache.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> rope = RoPE(2, layout="half")
    >>> cache = WindowCache.empty((1, 4, 2), rope, sinks=1)  # (heads, capacity, head_dim)
    >>> for token in range(9):
    ...     k = rope(np.ones((1, 1, 2)), offset=cache.length)
    ...     cache = cache.append(k, k)
    >>> cache.positions  # of tokens 0, 7, 8, 6
    array([5, 7, 8, 6])
    """

    k: Array
    v: Array
    length: int | Array
    first_k: Array
    turn: Turn

    @classmethod
    def empty(
        cls,
        shape: tuple[int, ...],
        rope: RoPE,
        *,
        sinks: int = 4,
        v_dim: int | None = None,
        seq_len: SeqLen = None,
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> "WindowCache":
        """A cache of ``shape`` (..., capacity, head_dim), of which ``sinks`` slots are for the first tokens.

        ``rope`` is the encoding that rotates the keys, ``seq_len`` as in calling it; the others as in
        `KVCache.empty`. Raises ValueError or TypeError if these do not fit.
        """
        k, v = _slots.empty_arrays(shape, v_dim, xp, dtype, device)
        sinks = as_int("sinks", sinks)
        if not 0 <= sinks < k.shape[-2]:
            msg = f"`sinks` must be in [0, {k.shape[-2]}), the capacity, got {quote(sinks)}"
            raise ValueError(msg)
        turn = as_turn(rope, seq_len)
        _backends.require_floating(dtype=k)
        if k.shape[-1] != rope.head_dim:
            msg = f"`shape` must end in head_dim={rope.head_dim} of `rope`, got {k.shape[-1]}"
            raise ValueError(msg)
        # Memory of its own, as all that is written.
        return cls(k, v, 0, _backends.namespace(k=k).zeros_like(k[..., :sinks, :]), turn)

    @property
    def positions(self) -> Array:
        """Where the tokens are for later queries, integers of shape (capacity,) or (batch, capacity).

        Empty slots are later than every token: a causal mask hides them.
        """
        xp = self._require_arrays()
        length, _ = self._length()
        capacity, sinks = self.k.shape[-2], self.first_k.shape[-2]
        slots = numbers(capacity, self.k, xp)
        last = spread(length) - sinks - 1  # number of the newest token behind the sinks
        token = last - (last - (slots - sinks)) % (capacity - sinks)
        ring = xp.where(token >= 0, token + sinks, slots)
        return xp.where(slots < sinks, slots + self._moved(length, xp), ring)

    @property
    def next_positions(self) -> int | Array:
        """Where the next token, or that of each row, is rotated to (the length)."""
        self._require_arrays()
        return self._length()[0]

    def append(self, k: Array, v: Array, *, counts: Array | None = None) -> "WindowCache":
        """The cache with the tokens of ``k`` and ``v``; as many of the oldest behind the sinks leave.

        Parameters
        ----------
        k, v : array, shape (..., seq, head_dim) and (..., seq, v_dim)
            Keys rotated to `next_positions` and after, and values. ``seq`` is at most the capacity
            without the sinks.
        counts : integer array, shape (batch,), optional
            As in `KVCache.append`.

        Raises
        ------
        ValueError
            If shapes do not fit, or these are more tokens than the window has slots.
        TypeError
            If dtypes do not fit.
        """
        xp = self._require_arrays()
        seq = _slots.require_tokens(k, v, self.k, self.v)
        length, used = self._length()
        new = seq
        if counts is not None:
            new, _ = self._as_rows("counts", counts, seq)
        capacity, sinks = self.k.shape[-2], self.first_k.shape[-2]
        window = capacity - sinks
        if isinstance(seq, int) and seq > window:
            msg = f"`k` must have at most {window} tokens, as the window has, got {seq}"
            raise ValueError(msg)
        if seq == 0:
            return self._replace(length=length)
        after = length + new
        k, v = (_backends.cast(x, old.dtype, xp) for x, old in ((k, self.k), (v, self.v)))
        known = (
            isinstance(used, int) and not _backends.is_array(new) and not _backends.is_compiling()
        )
        if known:
            made = self._write_runs((k, v), used, xp)
        else:
            steps = numbers(seq, self.k, xp)
            at = spread(length) + steps
            index = xp.where((at >= 0) & (at < sinks), at, sinks + (at - sinks) % window)
            valid = None
            if _backends.is_array(new):
                index = xp.broadcast_to(index, (new.shape[0], seq)) if new.ndim == 1 else index
                valid = xp.broadcast_to(steps < spread(new), index.shape)
            made = _slots.write((self.k, self.v), index, (k, v), valid, xp)
        span = (used, used + seq) if known else (length, after)
        first, k = self._turn_sinks(made[0], *span, known, xp)
        after = _slots.like(self.length, after, 2**31 - 1, xp)
        return WindowCache(k, made[1], after, first, self.turn)

    def mask(self, q_positions: Array) -> Array:
        """Which slots queries may attend to, for the ``bias`` of `attention`.

        Parameters
        ----------
        q_positions : integer array, shape (q_len,) or (batch, q_len)
            Of tokens that were appended last: where these were rotated to.

        Returns
        -------
        array of bool, shape (q_len, capacity) or (batch, 1, q_len, capacity)

        Raises
        ------
        ValueError, TypeError
            As `causal_mask`.
        """
        xp = self._require_arrays()
        (q_positions,) = _backends.beside("k", self.k, xp, q_positions=q_positions)
        return causal_mask(q_positions, self.positions)

    def _require_arrays(self) -> Namespace:
        xp = _slots.require_slots(self.k, self.v)
        if not isinstance(self.turn, Turn):
            msg = f"`turn` must be what `WindowCache.empty` makes of a RoPE, got {quote(self.turn)}"
            raise TypeError(msg)
        require_features("k", self.k, self.turn.rope.head_dim)
        _backends.namespace(k=self.k, first_k=self.first_k)
        shape, (*lead, capacity, head_dim) = tuple(self.first_k.shape), self.k.shape
        kinds = [_backends.dtype_name(array.dtype) for array in (self.k, self.first_k)]
        fits = kinds[0] == kinds[1] and len(shape) == self.k.ndim
        if not fits or (*shape[:-2], shape[-1]) != (*lead, head_dim) or shape[-2] >= capacity:
            wanted = ", ".join(map(str, (*lead, "sinks", head_dim)))
            msg = f"`first_k` must be as `k`, of shape ({wanted}), got {quote(self.first_k)}"
            raise ValueError(msg)
        return xp

    def _length(self) -> tuple[Any, Any]:
        return self._as_rows("length", self.length, 2**31 - 1)

    def _as_rows(self, name: str, length: Any, most: int) -> tuple[Any, Any]:
        batch = _slots.batch_of(self.k, self.v)
        return _slots.as_lengths(name, length, self.k, most=most, batch=batch)

    def _moved(self, length: Any, xp: Namespace) -> Any:
        """How far the sinks are from where they were rotated to: int, () or (batch, 1)."""
        beyond = spread(length) - self.k.shape[-2]
        if not _backends.is_array(beyond):
            return max(0, beyond)
        return xp.where(beyond > 0, beyond, xp.zeros_like(beyond))

    def _write_runs(
        self, values: tuple[Array, Array], start: int, xp: Namespace
    ) -> Sequence[Array]:
        """Keys and values with the tokens from number ``start`` on, in runs of consecutive slots."""
        capacity, sinks = self.k.shape[-2], self.first_k.shape[-2]
        arrays: Sequence[Array] = (self.k, self.v)
        done, seq = 0, values[0].shape[-2]
        while done < seq:
            token = start + done
            among_sinks = token < sinks
            slot = token if among_sinks else sinks + (token - sinks) % (capacity - sinks)
            n = min(seq - done, (sinks if among_sinks else capacity) - slot)
            piece = [x[..., done : done + n, :] for x in values]
            arrays = _slots.write(arrays, slot, piece, None, xp)
            done += n
        return arrays

    def _turn_sinks(
        self, k: Array, before: Any, after: Any, known: bool, xp: Namespace
    ) -> tuple[Array, Array]:
        """Keys of the sinks as they were appended, and ``k`` with these moved to right before the window."""
        first, sinks = self.first_k, self.first_k.shape[-2]
        moved = self._moved(after, xp)
        if sinks == 0 or (known and before >= sinks and moved == 0):
            return first, k
        if not known or before < sinks:
            slots = numbers(sinks, k, xp)
            new = (slots >= spread(before)) & (slots < spread(after))  # (sinks,) or (batch, sinks)
            first = xp.where(_slots.line_up(new, k), k[..., :sinks, :], first)
        if not _backends.is_array(moved):
            moved = xp.asarray(moved, device=_backends.device(k))
        (k,) = _slots.write((k,), 0, (self.turn.shift(first, moved, xp),), None, xp)
        return first, k
