"""A cache of rotated keys and values."""

# Without ``from __future__ import annotations``: the field types of `KVCache` are then types, not
# text that would be looked up in the package that it says it comes from.
from typing import Any, NamedTuple, Self

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Dtype, Namespace
from rope_xp._validation import as_int, quote, require_features, require_integer
from rope_xp.attention import _slots
from rope_xp.attention._masks import causal_mask
from rope_xp.attention._slots import Turn, as_lengths, as_turn, numbers, spread
from rope_xp.positions._alignment import SeqLen, require_line_up
from rope_xp.positions._range import bounds
from rope_xp.rope import RoPE


class _Fields(NamedTuple):
    """What a `KVCache` is made of, with other names than its properties: some compilers read fields."""

    stored_k: Array
    v: Array
    length: int | Array = 0
    slot_positions: Array | None = None  # None: slot i is position i
    rotated_to: Array | None = None  # where each stored key was rotated to; None: to its position
    turn: Turn | None = None  # what moves keys from there to their positions


class KVCache(_Fields):
    """Rotated keys and values of ``length`` tokens, in arrays with a fixed capacity.

    Every method returns a new cache. `append` writes the new tokens behind the old ones, in the memory
    that both caches share: of caches that follow from one another, append to the newest only. Nothing
    else writes. Shapes never change, so one compiled step serves every length. As a named tuple, a cache
    can be passed through ``jax.jit`` and ``torch.compile`` as it is.

    Parameters
    ----------
    k, v : array, shape (..., capacity, head_dim) and (..., capacity, v_dim)
        Slot i contains the i-th token, which is at position i unless other positions were given. Slots
        from ``length`` on are empty and must be masked in attention, as `mask` does, and `causal_mask`
        over all `positions`.
    length : int or integer array, shape () or (batch,)
        Number of tokens in the cache, or in each row of it; ``batch`` is then the first axis of ``k``
        and ``v``. NumPy's integers are ints. An array that is traced (under ``jax.jit``) cannot be
        checked against the capacity: tokens beyond it are left out, and ``length`` counts them.

    Raises
    ------
    ValueError, TypeError
        Of each method, if ``length`` is no number of tokens between 0 and the capacity. The cache then
        stays as it was.

    Notes
    -----
    Memory is written in place in NumPy, CuPy and torch, eager and under ``torch.compile``, unless a
    gradient is recorded or a transform (``torch.func``) sees the arrays; in JAX if the cache is donated,
    ``jax.jit(step, donate_argnums=…)``. Other libraries copy it.

    Keys are rounded when they are appended, and never again: where tokens were dropped, `k` turns the
    stored keys once, by their net displacement, whenever it is read.

    Examples
    --------
    >>> import numpy as np
    >>> cache = KVCache.empty((1, 4, 2))  # (heads, capacity, head_dim)
    >>> cache = cache.append(np.ones((1, 3, 2)), np.ones((1, 3, 2)))
    >>> cache.length, cache.k[0, :, 0]
    (3, array([1., 1., 1., 0.], dtype=float32))
    >>> cache.mask([2])
    array([[ True,  True,  True, False]])
    """

    __slots__ = ()

    def __new__(cls, k: Array, v: Array, length: int | Array = 0, *moved: Any) -> Self:
        return super().__new__(cls, k, v, length, *moved)

    @classmethod
    def empty(
        cls,
        shape: tuple[int, ...],
        *,
        v_dim: int | None = None,
        xp: Namespace | None = None,
        dtype: Dtype | None = None,
        device: Device | None = None,
    ) -> "KVCache":
        """A cache of ``shape`` (..., capacity, head_dim); default: in NumPy and float32.

        ``v_dim`` is the width of the values, if it differs from that of the keys. Raises
        ValueError or TypeError if ``shape`` is none.
        """
        return cls(*_slots.empty_arrays(shape, v_dim, xp, dtype, device))

    @property
    def k(self) -> Array:
        """Keys rotated to their `positions`, shape (..., capacity, head_dim)."""
        if self.turn is None or self.rotated_to is None:
            return self.stored_k
        xp = _backends.namespace(k=self.stored_k)
        return self.turn.shift(self.stored_k, self._slot_positions(xp) - self.rotated_to, xp)

    @property
    def positions(self) -> Array:
        """Where the tokens are, integers of shape (capacity,) or (batch, capacity).

        Empty slots are later than every token: a causal mask hides them.
        """
        xp = self._require_arrays()
        if self.slot_positions is None:
            return numbers(self.stored_k.shape[-2], self.stored_k, xp)
        length, _ = self._length()
        last = bounds(self.slot_positions.dtype)[1]
        last = xp.full_like(self.slot_positions, last)
        return xp.where(self._is_used(length, xp), self.slot_positions, last)

    @property
    def next_positions(self) -> int | Array:
        """Position of the next token, or of that of each row (int, or integers of shape () or (batch,))."""
        xp = self._require_arrays()
        length, _ = self._length()
        if self.slot_positions is None:
            return length
        none = xp.full_like(self.slot_positions, bounds(self.slot_positions.dtype)[0])
        last = xp.max(xp.where(self._is_used(length, xp), self.slot_positions, none), axis=-1)
        return xp.where(last == none[..., 0], xp.zeros_like(last), last + 1)

    def append(
        self,
        k: Array,
        v: Array,
        *,
        positions: Array | None = None,
        counts: Array | None = None,
    ) -> "KVCache":
        """The cache with the tokens of ``k`` and ``v`` at its end, or at the end of each row.

        Parameters
        ----------
        k, v : array, shape (..., seq, head_dim) and (..., seq, v_dim)
            Rotated keys, and values, of the dtypes of the cache, or floating as it is.
        positions : integer array, shape (seq,) or (batch, seq), optional
            Where the keys were rotated to, if not at `next_positions` and after; so for the tokens of a
            tree of drafts, which are at their depths.
        counts : integer array, shape (batch,), optional
            Number of tokens in each row; those after them are padding and are left out.

        Raises
        ------
        ValueError
            If shapes do not fit, or tokens, of any row, do not fit into the cache.
        TypeError
            If dtypes do not fit.
        """
        xp = self._require_arrays()
        old_k, old_v = self.stored_k, self.v
        seq = _slots.require_tokens(k, v, old_k, old_v)
        length, used = self._length()
        new, n_new = (seq, seq) if counts is None else self._as_rows("counts", counts, seq)
        self._require_fit(used, n_new, seq)
        given = None if positions is None else self._as_positions(positions, k, xp)
        if seq == 0:
            return self._replace(length=length)
        index, valid = self._new_slots(length, used, new, seq, xp)
        length_after = _slots.like(self.length, length + new, old_k.shape[-2], xp)
        tables = self._tables(given, index, valid, seq, xp)
        fresh = [_backends.cast(x, old.dtype, xp) for x, old in ((k, old_k), (v, old_v))]
        k, v = _slots.write((old_k, old_v), index, fresh, valid, xp)
        return KVCache(k, v, length_after, *tables, self.turn)

    def crop(self, length: int | Array) -> "KVCache":
        """The cache without the tokens from ``length`` on, an int or (batch,) integers.

        Nothing is copied. Raises ValueError if ``length`` is above the present one, TypeError if it is
        no integer.
        """
        xp = self._require_arrays()
        _, used = self._length()
        length, wanted = self._as_rows("length", length, self.stored_k.shape[-2])
        if used is not None and wanted is not None and np.any(np.asarray(wanted) > used):
            msg = f"`length` must be at most that of the cache, {used}, got {wanted}"
            raise ValueError(msg)
        return self._replace(length=_slots.like(self.length, length, self.stored_k.shape[-2], xp))

    def drop(self, n: int, rope: RoPE, *, keep: int = 0, seq_len: SeqLen = None) -> "KVCache":
        """The cache without the ``n`` tokens after the first ``keep``; later tokens move up by ``n``.

        With ``keep`` > 0 this is a sliding window with attention sinks (Xiao et al. 2023,
        arXiv:2309.17453); `WindowCache` is one that does not move its window. ``rope`` is the encoding that rotated
        the keys.

        Raises ValueError if the cache, or a row of it, does not have these tokens, TypeError if
        ``rope`` is no `RoPE`.

        Book: :eq:`eq-cache-shift`.
        """
        n, keep = as_int("n", n), as_int("keep", keep)
        xp = self._require_arrays()
        turn = self._as_turn(rope, seq_len)
        length, used = self._length()
        capacity = self.stored_k.shape[-2]
        used = capacity if used is None else min(used) if isinstance(used, list) else used
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
        cache = self._settled(turn)
        slots = numbers(capacity, cache.stored_k, xp)
        source = xp.where((slots < keep) | (slots >= capacity - n), slots, slots + n)
        at, rotated_to = cache.slot_positions, cache.rotated_to
        if rotated_to is None:
            rotated_to = cache._slot_positions(xp)
        rotated_to = _take(rotated_to, source, xp)
        if at is not None:
            at = _take(at, source, xp) - (source - slots)  # as far as the token moves up
        left = _slots.like(self.length, length - n, capacity, xp)
        k, v = cache._select(source, length - n, xp)
        return KVCache(k, v, left, at, rotated_to, turn)

    def keep(
        self, indices: Array, rope: RoPE | None = None, *, seq_len: SeqLen = None
    ) -> "KVCache":
        """The cache with only the tokens in the slots ``indices``, in this order.

        Parameters
        ----------
        indices : integer array, shape (n,) or (batch, n)
            Of any order: those that attention needs, if others are evicted; the path that was accepted
            in a tree of drafts. Rows that keep fewer tokens are padded with any, and cropped after.
        rope : RoPE, optional
            The encoding that rotated the keys: tokens then move to the positions 0 … n − 1. Without it
            they keep their positions.
        seq_len : int or a tuple of them, optional
            As in `RoPE.shift`.

        Raises
        ------
        ValueError
            If shapes do not fit, or an index is at hand that is not below the length.
        TypeError
            If ``indices`` are no integers, or ``rope`` is no `RoPE`.
        """
        xp = self._require_arrays()
        turn = None if rope is None else self._as_turn(rope, seq_len)
        _, used = self._length()
        (indices,) = _backends.beside("k", self.stored_k, xp, indices=indices)
        require_integer("indices", indices)
        capacity, batch = self.stored_k.shape[-2], self._batch()
        n = indices.shape[-1] if indices.ndim > 0 else None
        if indices.ndim not in (1, 2) or (indices.ndim == 2 and indices.shape[0] != batch):
            shape = "(n,)" if batch is None else f"(n,) or (batch={batch}, n)"
            msg = f"`indices` must have shape {shape}, got {tuple(indices.shape)}"
            raise ValueError(msg)
        if n > capacity:
            msg = f"`indices` must be at most {capacity}, the capacity, got {n}"
            raise ValueError(msg)
        values = _backends.host_values(indices)
        if values is not None and used is not None and values.size > 0:
            end = np.asarray(used)
            outside = (values < 0) | (values >= (end[:, None] if end.ndim else end))
            if np.any(outside):
                wrong = np.broadcast_to(values, outside.shape)[outside].flat[0]
                msg = f"`indices` must be in [0, length), {used}, got {wrong}"
                raise ValueError(msg)
        cache = self if turn is None else self._settled(turn)
        integer = _backends.default_integer_dtype(xp, _backends.device(self.stored_k))
        indices = _backends.cast(indices, integer, xp)
        rest = xp.zeros(
            (*indices.shape[:-1], capacity - n), dtype=integer, device=_backends.device(indices)
        )
        source = xp.concat((indices, rest), axis=-1)
        at = _take(cache._slot_positions(xp), source, xp)
        rotated_to = None if cache.rotated_to is None else _take(cache.rotated_to, source, xp)
        if turn is not None:
            at, rotated_to = None, at if rotated_to is None else rotated_to
        k, v = cache._select(source, n, xp)
        return KVCache(k, v, n, at, rotated_to, cache.turn if turn is None else turn)

    def mask(
        self,
        q_positions: Array,
        *,
        tree: Array | None = None,
        window: int | None = None,
        sinks: int = 0,
    ) -> Array:
        """Which slots queries may attend to, for the ``bias`` of `attention`.

        Parameters
        ----------
        q_positions : integer array, shape (q_len,) or (batch, q_len)
            Of tokens that were appended before.
        tree : array of bool, shape (q_len, n), (batch, q_len, n) or (batch, 1, q_len, n), optional
            Which of the n newest tokens each query sees, as `tree_mask` has it.
        window, sinks
            As in `causal_mask`.

        Returns
        -------
        array of bool, shape (q_len, capacity) or (batch, 1, q_len, capacity)

        Raises
        ------
        ValueError, TypeError
            As `causal_mask`; also if ``tree`` does not fit.
        """
        xp = self._require_arrays()
        (q_positions,) = _backends.beside("k", self.stored_k, xp, q_positions=q_positions)
        visible = causal_mask(q_positions, self.positions, window=window, sinks=sinks)
        if tree is None:
            return visible
        (tree,) = _backends.beside("k", self.stored_k, xp, tree=tree)
        if not _backends.is_boolean(tree):
            msg = f"`tree` must be boolean, got {_backends.dtype_name(tree.dtype)}"
            raise TypeError(msg)
        q_len, capacity = q_positions.shape[-1], self.stored_k.shape[-2]
        if tree.ndim == 4 and tree.shape[1] == 1:
            tree = tree[:, 0, :, :]
        if tree.ndim not in (2, 3) or tree.shape[-2] != q_len or tree.shape[-1] > capacity:
            msg = (
                f"`tree` must have shape (q_len={q_len}, n), (batch, q_len, n) or (batch, 1, q_len, n), "
                f"n at most {capacity}, got {tuple(tree.shape)}"
            )
            raise ValueError(msg)
        n = tree.shape[-1]
        length, _ = self._length()
        # Of each slot, which of the newest tokens it has; products with 0 and 1 pick its column.
        which = numbers(capacity, tree, xp) - spread(length) + n  # (..., capacity)
        one_hot = _backends.cast(
            which[..., None, :] == numbers(n, tree, xp)[:, None], xp.float32, xp
        )
        drafts = (_backends.cast(tree, xp.float32, xp) @ one_hot) > 0.5
        new = (which >= 0)[..., None, :]
        if drafts.ndim == 3 or visible.ndim == 4:
            drafts = drafts[..., None, :, :] if drafts.ndim == 3 else drafts
            new = new[..., None, :, :] if new.ndim == 3 else new
        return xp.where(new, drafts, visible)

    def _require_arrays(self) -> Namespace:
        return _slots.require_slots(self.stored_k, self.v)

    def _batch(self) -> Any:
        return _slots.batch_of(self.stored_k, self.v)

    def _length(self) -> tuple[Any, Any]:
        """The length and its values, as `as_lengths` has them."""
        length, capacity = self.length, self.stored_k.shape[-2]
        if type(length) is int and type(capacity) is int and 0 <= length <= capacity:
            return length, length  # most often
        return self._as_rows("length", length, capacity)

    def _as_rows(self, name: str, given: Any, most: int) -> tuple[Any, Any]:
        return as_lengths(name, given, self.stored_k, most=most, batch=self._batch())

    def _slot_positions(self, xp: Namespace) -> Array:
        """The positions of all slots, whatever those of empty ones are."""
        if self.slot_positions is not None:
            return self.slot_positions
        return numbers(self.stored_k.shape[-2], self.stored_k, xp)

    def _is_used(self, length: Any, xp: Namespace) -> Array:
        return numbers(self.stored_k.shape[-2], self.stored_k, xp) < spread(length)

    def _as_turn(self, rope: RoPE, seq_len: SeqLen) -> Turn:
        turn = as_turn(rope, seq_len)
        _backends.require_floating(k=self.stored_k)
        require_features("k", self.stored_k, rope.head_dim)
        return turn

    def _settled(self, turn: Turn) -> "KVCache":
        """The cache, with stored keys at their positions if something else than ``turn`` moves them."""
        if self.turn is None or self.turn == turn:
            return self
        return KVCache(self.k, self.v, self.length, self.slot_positions)

    def _require_fit(self, used: Any, new: Any, seq: Any) -> None:
        """ValueError unless the tokens of each row fit, as far as is known."""
        capacity = self.stored_k.shape[-2]
        where, got = "", seq
        used, new = (0 if n is None else n for n in (used, new))
        if isinstance(used, list) or isinstance(new, list):
            of_rows = [
                n if isinstance(n, list) else [n] * int(self._batch() or 1) for n in (used, new)
            ]
            total = [sum(both) for both in zip(*of_rows, strict=True)]
            row = total.index(max(total))
            used, got = (n[row] for n in of_rows)
            fits, where = max(total) <= capacity and seq <= capacity, f" in row {row}"
        else:
            # Not a size that is traced: the program would depend on it.
            fits = not (isinstance(seq, int) and max(seq, used + new) > capacity)
        if not fits:
            msg = (
                f"`k` must fit into the cache of {capacity} tokens ({used} used{where}), got {got}"
            )
            raise ValueError(msg)

    def _as_positions(self, positions: Any, k: Array, xp: Namespace) -> Array:
        (positions,) = _backends.beside("k", k, xp, positions=positions)
        require_integer("positions", positions)
        require_line_up("positions", positions, "k", k, k.ndim - 2)
        integer = _backends.default_integer_dtype(xp, _backends.device(k))
        return _backends.cast(positions, integer, xp)

    def _new_slots(
        self, length: Any, used: Any, new: Any, seq: Any, xp: Namespace
    ) -> tuple[Any, Array | None]:
        """Which slots get the new tokens, and which tokens are to be written; None is all."""
        common = not _backends.is_array(new)  # as many for all rows
        if common and not _backends.is_array(length):
            return length, None
        if common and isinstance(used, int):
            return used, None
        if common and used is not None and isinstance(seq, int) and seq == 1:
            return spread(length), None  # most often: a decode step
        capacity, steps = self.stored_k.shape[-2], numbers(seq, self.stored_k, xp)
        at = spread(length) + steps
        if common and used is not None:
            return at, None
        valid = (at >= 0) & (at < capacity)
        if _backends.is_array(new):
            valid = valid & (steps < spread(new))
        # Slots of tokens that are left out are different ones, too.
        index = at % capacity
        return xp.broadcast_to(index, valid.shape), valid

    def _tables(
        self, given: Array | None, index: Any, valid: Array | None, seq: Any, xp: Namespace
    ) -> tuple[Array | None, Array | None]:
        """Positions of slots and where their keys were rotated to, with those of the new tokens."""
        at, rotated_to = self.slot_positions, self.rotated_to
        if given is not None:
            at = self._slot_positions(xp)
        elif at is None and rotated_to is None:
            return None, None
        else:
            given = spread(self.next_positions) + numbers(seq, self.stored_k, xp)
        by_row = given.ndim == 2 or (_backends.is_array(index) and index.ndim == 2)

        def write(table: Array | None) -> Array | None:
            if table is None:
                return None
            fresh, slots, which = _backends.cast(given, table.dtype, xp), index, valid
            if by_row and table.ndim == 1:  # in memory of its own
                table = xp.stack([table] * (self._batch() or 1))
            if table.ndim == 2:
                shape = (table.shape[0], seq)
                fresh = xp.broadcast_to(fresh, shape)
                if _backends.is_array(index):
                    slots = xp.broadcast_to(index, shape)
                    which = None if valid is None else xp.broadcast_to(valid, shape)
            (made,) = _slots.write((table[..., None],), slots, (fresh[..., None],), which, xp)
            return made[..., 0]

        return write(at), write(rotated_to)

    def _select(self, source: Array, length: Any, xp: Namespace) -> tuple[Array, Array]:
        """Keys and values of the slots ``source``; zeros from ``length`` on, as in new caches."""
        used, made = self._is_used(length, xp), []
        for array in (self.stored_k, self.v):
            taken = _slots.read(array, source, xp)
            made.append(xp.where(_slots.line_up(used, array), taken, xp.zeros_like(taken)))
        return made[0], made[1]


def _take(table: Array, source: Array, xp: Namespace) -> Array:
    """Integers of the slots ``source``, of shape (capacity,) or (batch, capacity)."""
    if source.ndim == 2 and table.ndim == 1:
        return xp.reshape(xp.take(table, xp.reshape(source, (-1,)), axis=0), source.shape)
    return _slots.read(table[..., None], source, xp)[..., 0]
