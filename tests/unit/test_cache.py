"""Caches: what attention reads from them is what it computes from the tokens, in plain Python."""

import math

import numpy as np
import pytest
import reference

from rope_xp import RoPE
from rope_xp.attention import KVCache, WindowCache, attention
from rope_xp.axes import Sections
from rope_xp.scaling import DynamicNTK

HEADS, DIM, V_DIM = 2, 8, 3
ROPE = RoPE(DIM, layout="half", base=100.0)
FREQUENCIES = reference.inv_freq(DIM, 100.0)


class Row:
    """The tokens of one row: keys that are not rotated, values, and positions."""

    def __init__(self, tokens=()):
        self.tokens = list(tokens)  # (key (heads, dim), value (heads, v_dim), position)

    def next(self):
        return max((at for *_, at in self.tokens), default=-1) + 1

    def append(self, k, v, positions=None):
        first = self.next()
        for i in range(k.shape[-2]):
            at = first + i if positions is None else int(positions[i])
            self.tokens.append((k[:, i], v[:, i], at))

    def drop(self, n, keep=0):
        moved = [(k, v, at - n) for k, v, at in self.tokens[keep + n :]]
        self.tokens = self.tokens[:keep] + moved

    def keep(self, indices, *, moves):
        kept = [self.tokens[i] for i in indices]
        self.tokens = [(k, v, i if moves else at) for i, (k, v, at) in enumerate(kept)]

    def attend(self, q, positions, visible=None):
        """From scratch: q (heads, q_len, dim), not rotated, at ``positions``; which tokens each sees."""
        out = np.zeros((HEADS, len(positions), V_DIM))
        for head in range(HEADS):
            for i, at in enumerate(positions):
                query = reference.rotate_vector(q[head, i].tolist(), at, FREQUENCIES, "half")
                seen = [
                    (k[head], v[head], where)
                    for j, (k, v, where) in enumerate(self.tokens)
                    if (where <= at if visible is None else visible[i][j])
                ]
                scores = [
                    np.dot(query, reference.rotate_vector(k.tolist(), where, FREQUENCIES, "half"))
                    / math.sqrt(DIM)
                    for k, _, where in seen
                ]
                weights = np.exp(np.asarray(scores) - max(scores))
                out[head, i] = weights @ np.asarray([v for _, v, _ in seen]) / weights.sum()
        return out


def empty(lib, batch, capacity, dtype="float32", **options):
    return KVCache.empty(
        (batch, HEADS, capacity, DIM),
        v_dim=V_DIM,
        xp=lib.xp,
        dtype=lib.dtype(dtype),
        device=lib.device,
        **options,
    )


def fresh(rng, batch, seq):
    k = rng.standard_normal((batch, HEADS, seq, DIM)).astype(np.float32)
    return k, rng.standard_normal((batch, HEADS, seq, V_DIM)).astype(np.float32)


def append(lib, cache, rows, rng, seq, counts=None):
    """The same tokens in the cache and in the rows."""
    k, v = fresh(rng, len(rows), seq)
    first = cache.next_positions
    rotated = ROPE(lib.array(k), offset=first)
    given = None if counts is None else lib.array(counts)
    cache = cache.append(rotated, lib.array(v), counts=given)
    for i, row in enumerate(rows):
        n = seq if counts is None else counts[i]
        row.append(k[i, :, :n], v[i, :, :n])
    return cache


def check(lib, cache, rows, rng, visible=None, at=None, **options):
    """Attention of a query at the last token of each row, or of queries ``at`` positions."""
    at = [[row.next() - 1] for row in rows] if at is None else at
    q = rng.standard_normal((len(rows), HEADS, len(at[0]), DIM)).astype(np.float32)
    where = lib.array(np.asarray(at))
    mask = cache.mask(where, **options)
    got = attention(ROPE(lib.array(q), positions=where), cache.k, cache.v, bias=mask)
    wanted = [
        row.attend(q[i], at[i], None if visible is None else visible[i])
        for i, row in enumerate(rows)
    ]
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=3e-6)


def once_is_enough(lib, chosen):
    """Of variants that differ in NumPy's shapes only."""
    if lib.name in ("jax", "dask") and not chosen:
        pytest.skip(f"{lib.name} takes long to trace")


def lengths(lib, cache):
    return cache.length if isinstance(cache.length, int) else lib.numpy(cache.length).tolist()


@pytest.mark.parametrize("start", [0, "0-d", "rows"])
def test_tokens_one_by_one_and_in_packs(lib, rng, start):
    cache, rows = empty(lib, 2, 9), [Row(), Row()]
    length = {0: 0, "0-d": lib.array(0), "rows": lib.array([0, 0])}[start]
    cache = cache._replace(length=length)
    for seq in (3, 1, 2, 3):
        cache = append(lib, cache, rows, rng, seq)
        check(lib, cache, rows, rng)
    assert np.all(np.asarray(lengths(lib, cache)) == 9)


def test_rows_of_different_lengths(lib, rng):
    """Each row writes at its own length, and padding at the end of a row is left out."""
    cache, rows = empty(lib, 3, 10), [Row(), Row(), Row()]
    for seq, counts in ((4, [1, 4, 2]), (1, None), (3, [3, 0, 2]), (2, None)):
        cache = append(lib, cache, rows, rng, seq, counts)
        if min(len(row.tokens) for row in rows):
            check(lib, cache, rows, rng)
    assert lengths(lib, cache) == [7, 7, 7]
    cache = cache.crop(lib.array([2, 7, 5]))
    for row, n in zip(rows, (2, 7, 5), strict=True):
        row.tokens = row.tokens[:n]
    cache = append(lib, cache, rows, rng, 3, [3, 3, 1])
    check(lib, cache, rows, rng)
    assert lengths(lib, cache) == [5, 10, 6]
    # Windows of their own over several rows: a drop as far as the shortest allows.
    cache = cache.drop(3, ROPE, keep=1)
    for row in rows:
        row.drop(3, keep=1)
    cache = append(lib, cache, rows, rng, 1)
    check(lib, cache, rows, rng)
    assert lengths(lib, cache) == [3, 8, 4]


@pytest.mark.parametrize("length", [6, [6, 6]])
def test_rollback_and_again(lib, rng, length):
    cache, rows = empty(lib, 2, 8), [Row(), Row()]
    cache = append(lib, cache, rows, rng, 8)
    cache = cache.crop(length if isinstance(length, int) else lib.array(length))
    for row in rows:
        row.tokens = row.tokens[:6]
    check(lib, cache, rows, rng)
    cache = append(lib, cache, rows, rng, 2)
    check(lib, cache, rows, rng)


def test_windows_that_move_again_and_again(lib, rng):
    cache, rows = empty(lib, 2, 6), [Row(), Row()]
    cache = append(lib, cache, rows, rng, 6)
    for n, keep, seq in ((2, 1, 2), (1, 2, 1), (3, 0, 2), (1, 0, 1)):
        cache = cache.drop(n, ROPE, keep=keep)
        for row in rows:
            row.drop(n, keep)
        check(lib, cache, rows, rng)
        cache = append(lib, cache, rows, rng, seq)
        check(lib, cache, rows, rng)
    cache = cache.crop(3)
    for row in rows:
        row.tokens = row.tokens[:3]
    cache = append(lib, cache, rows, rng, 3)
    check(lib, cache, rows, rng)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("of_rows", [False, True])
def test_eviction_of_inner_tokens(lib, rng, moves, of_rows):
    once_is_enough(lib, of_rows)
    cache, rows = empty(lib, 2, 8), [Row(), Row()]
    cache = append(lib, cache, rows, rng, 7)
    for kept in ([[6, 0, 2, 3], [1, 2, 5, 6]], [[0, 2, 3], [3, 1, 2]]):
        kept = kept if of_rows else kept[:1] * 2
        indices = lib.array(np.asarray(kept if of_rows else kept[0]))
        cache = cache.keep(indices, ROPE) if moves else cache.keep(indices)
        for row, these in zip(rows, kept, strict=True):
            row.keep(these, moves=moves)
        assert lengths(lib, cache) == len(kept[0])
        check(lib, cache, rows, rng)
        cache = append(lib, cache, rows, rng, 2)
        check(lib, cache, rows, rng)
    cache = cache.drop(2, ROPE, keep=1)  # of tokens that were moved, or have gaps between them
    for row in rows:
        row.drop(2, 1)
    check(lib, cache, rows, rng)
    assert not np.any(lib.numpy(cache.k)[:, :, cache.length :])


PARENTS = [-1, -1, 0, 0, 2]  # a tree of drafts: two beginnings, siblings 2 and 3
DEPTHS = [0, 0, 1, 1, 2]


def ancestors():
    seen = np.eye(len(PARENTS), dtype=bool)
    for i, parent in enumerate(PARENTS):
        if parent >= 0:
            seen[i] |= seen[parent]
    return seen


@pytest.mark.parametrize("form", [2, 3, 4])
@pytest.mark.parametrize("ragged", [False, True])
def test_a_tree_of_drafts(lib, rng, form, ragged):
    """Siblings do not see each other; of the accepted path, no token moves."""
    once_is_enough(lib, form == 4)
    cache, rows = empty(lib, 2, 12), [Row(), Row()]
    cache = append(lib, cache, rows, rng, 4, [4, 2] if ragged else None)
    k, v = fresh(rng, 2, 5)
    at = np.asarray([[row.next() + depth for depth in DEPTHS] for row in rows])
    given = lib.array(at if ragged else at[0])
    cache = cache.append(ROPE(lib.array(k), positions=given), lib.array(v), positions=given)
    tree = ancestors()
    visible = []
    for i, row in enumerate(rows):
        visible.append([[True] * len(row.tokens) + list(seen) for seen in tree])
        row.append(k[i], v[i], at[i])
    shape = {2: (5, 5), 3: (1, 5, 5), 4: (2, 1, 5, 5)}[form]
    mask = lib.array(np.broadcast_to(tree, shape))
    check(lib, cache, rows, rng, visible, at.tolist(), tree=mask)
    path = [0, 2, 4]
    kept = [[*range(n), *(n + j for j in path)] for n in (4, 2 if ragged else 4)]
    if ragged:  # padded with any, and cropped
        kept[1] += [0, 0]
    cache = cache.keep(lib.array(np.asarray(kept)))
    if ragged:
        cache = cache.crop(lib.array([7, 5]))
    for row, these, n in zip(rows, kept, (7, 5 if ragged else 7), strict=True):
        row.keep(these[:n], moves=False)
    check(lib, cache, rows, rng)
    got = lib.numpy(cache.positions)
    for i, row in enumerate(rows):
        n = len(row.tokens)
        np.testing.assert_array_equal(got[i, :n], range(n))
        assert np.all(got[i, n:] > n)
    cache = append(lib, cache, rows, rng, 2)
    check(lib, cache, rows, rng)


@pytest.mark.parametrize("as_length", ["int8", "uint8", "uint16", "int32", "uint64"])
def test_lengths_of_any_integers(lib, rng, as_length):
    if lib.name == "strict" and not lib.has_float64 and as_length == "uint64":
        pytest.skip("this device has no 64 bits")
    cache, rows = empty(lib, 2, 6), [Row(), Row()]
    length = lib.array([0, 0], as_length)
    cache = append(lib, cache._replace(length=length), rows, rng, 3, [3, 1])
    assert cache.length.dtype == length.dtype
    cache = append(lib, cache, rows, rng, 2)
    check(lib, cache, rows, rng)
    assert lengths(lib, cache) == [5, 3]


@pytest.mark.parametrize("seq_len", [(64, 64, 9), [64, None, 9], 64])
def test_a_length_for_each_axis(lib, rng, seq_len):
    """Dropping and keeping turn keys by the frequencies that they were rotated by."""
    rope = RoPE(16, layout="half", axes=Sections((4, 2, 2)), scaling=DynamicNTK(2.0, 8))
    x = rng.standard_normal((1, 6, 16)).astype(np.float32)

    def rotated(x):
        at = np.tile(np.arange(x.shape[-2]), (3, 1))
        return rope(lib.array(x), positions=lib.array(at), seq_len=seq_len)

    cache = KVCache.empty((1, 6, 16), xp=lib.xp, dtype=lib.dtype("float32"), device=lib.device)
    cache = cache.append(rotated(x), lib.array(x))
    dropped = cache.drop(2, rope, keep=1, seq_len=seq_len)
    kept = cache.keep(lib.array([0, 3, 4, 5]), rope, seq_len=seq_len)
    left = lib.numpy(rotated(x[:, [0, 3, 4, 5]]))
    for each in (dropped, kept):
        np.testing.assert_allclose(lib.numpy(each.k)[:, :4], left, rtol=0, atol=3e-6)


def test_values_of_another_width_and_without_heads(lib, rng):
    """As of latent attention: a rotated slice of keys that all heads share, and latent values."""
    rope = RoPE(12, layout="half", rotary_start=8, rotary_dim=4)
    cache = KVCache.empty(
        (2, 6, 12), v_dim=5, xp=lib.xp, dtype=lib.dtype("float32"), device=lib.device
    )
    k = rng.standard_normal((2, 6, 12)).astype(np.float32)
    v = rng.standard_normal((2, 6, 5)).astype(np.float32)
    cache = cache.append(rope(lib.array(k)), lib.array(v), counts=lib.array([6, 4]))
    cache = cache.drop(2, rope, keep=1)
    left = rope(lib.array(k[:, [0, 3, 4, 5]]))
    np.testing.assert_allclose(lib.numpy(cache.k)[0, :4], lib.numpy(left)[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(lib.numpy(cache.k)[1, :2], lib.numpy(left)[1, :2], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(lib.numpy(cache.v)[1, :3], [*v[1, [0, 3]], np.zeros(5)])
    # Leading axes of the two may differ: (batch, 1, seq, …) and (batch, seq, …).
    apart = KVCache(lib.array(np.zeros((2, 1, 6, 12))), lib.array(np.zeros((2, 6, 5))))
    apart = apart.append(lib.array(k[:, None]), lib.array(v), counts=[1, 3])
    np.testing.assert_array_equal(
        lib.numpy(apart.k)[1, 0, :4], [*k[1, :3].astype(np.float64), np.zeros(12)]
    )
    np.testing.assert_array_equal(
        lib.numpy(apart.v)[0, :2], [v[0, 0].astype(np.float64), np.zeros(5)]
    )


@pytest.mark.eager
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keys_do_not_drift(lib, rng, dtype):
    """However often the window moves: one rounding more than of a fresh rotation."""
    if dtype in {"strict": ("float16", "bfloat16"), "dask": ("bfloat16", "float16", "float32")}.get(
        lib.name, ()
    ):
        pytest.skip(f"{lib.name} has no {dtype}, or takes long for many steps")
    steps, window, sinks = 100, 16, 2
    keys = rng.standard_normal((1, 1, steps, DIM)).astype(np.float32)
    one = lib.array(keys, dtype)
    cache = KVCache.empty((1, 1, window, DIM), xp=lib.xp, dtype=lib.dtype(dtype), device=lib.device)
    for t in range(steps):
        if cache.length == window:
            cache = cache.drop(1, ROPE, keep=sinks)
        k = ROPE(one[:, :, t : t + 1, :], offset=cache.length)
        cache = cache.append(k, k)
    left = [*range(sinks), *range(steps - window + sinks, steps)]
    wanted = lib.numpy(ROPE(lib.array(lib.numpy(one)[:, :, left], "float32")))
    got = lib.numpy(cache.k)
    unit = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    # Two roundings of numbers as large as a pair, whatever turns; float32 has those of the rotation, too.
    largest = np.max(np.hypot(keys[..., : DIM // 2], keys[..., DIM // 2 :]))
    factor = 6 if dtype == "float32" else 2.5
    assert np.max(np.abs(got - wanted)) <= factor * unit * largest


def streamed(lib, cache, rows, rng, seq, capacity, sinks, counts=None):
    """As `append`, where the oldest behind the sinks leave a row that is full."""
    k, v = fresh(rng, len(rows), seq)
    rotated = ROPE(lib.array(k), offset=cache.next_positions)
    cache = cache.append(
        rotated, lib.array(v), counts=None if counts is None else lib.array(counts)
    )
    for i, row in enumerate(rows):
        n = seq if counts is None else counts[i]
        row.drop(max(0, len(row.tokens) + n - capacity), sinks)
        row.append(k[i, :, :n], v[i, :, :n])
    return cache


def check_stream(lib, cache, rows, rng, seq, totals):
    """Queries of the newest ``seq`` tokens: positions within the window, from scratch, are the same."""
    q = rng.standard_normal((len(rows), HEADS, seq, DIM)).astype(np.float32)
    at = np.asarray([range(n - seq, n) for n in totals])
    where = lib.array(at)
    got = attention(ROPE(lib.array(q), positions=where), cache.k, cache.v, bias=cache.mask(where))
    wanted = [
        row.attend(x, range(row.next() - seq, row.next())) for row, x in zip(rows, q, strict=True)
    ]
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=3e-6)


def window_cache(lib, batch, capacity, sinks, dtype="float32", rope=ROPE):
    return WindowCache.empty(
        (batch, HEADS, capacity, DIM),
        rope,
        sinks=sinks,
        v_dim=V_DIM,
        xp=lib.xp,
        dtype=lib.dtype(dtype),
        device=lib.device,
    )


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("start", [0, "0-d", "rows"])
def test_a_stream_through_a_window(lib, rng, sinks, start):
    cache, rows = window_cache(lib, 2, 6, sinks), [Row(), Row()]
    cache = cache._replace(length={0: 0, "0-d": lib.array(0), "rows": lib.array([0, 0])}[start])
    total = 0
    for seq in (1, 3, 4, 1, 2, 3):  # over the end of the ring, and to it
        cache, total = streamed(lib, cache, rows, rng, seq, 6, sinks), total + seq
        check_stream(lib, cache, rows, rng, seq, [total] * 2)
    assert np.all(np.asarray(lengths(lib, cache)) == total)


def test_streams_of_different_lengths(lib, rng):
    cache, rows = window_cache(lib, 3, 6, 2), [Row(), Row(), Row()]
    totals = np.zeros(3, int)
    for seq, counts in ((4, [1, 4, 2]), (1, None), (3, [3, 0, 2]), (4, [4, 1, 0]), (2, None)):
        cache = streamed(lib, cache, rows, rng, seq, 6, 2, counts)
        totals += seq if counts is None else counts
        check_stream(lib, cache, rows, rng, 1, totals)
    assert lengths(lib, cache) == totals.tolist()


def test_a_window_and_a_cache_that_drops_are_the_same(lib, rng):
    """Slots have another order, and positions another start."""
    ring, cache = window_cache(lib, 1, 5, 2), empty(lib, 1, 5)
    for _ in range(9):
        k, v = (lib.array(x) for x in fresh(rng, 1, 1))
        if cache.length == 5:
            cache = cache.drop(1, ROPE, keep=2)
        cache = cache.append(ROPE(k, offset=cache.length), v)
        ring = ring.append(ROPE(k, offset=ring.length), v)
    back = ROPE.shift(ring.k, 5 - ring.length)
    order = np.argsort(lib.numpy(ring.positions))
    np.testing.assert_allclose(lib.numpy(back)[:, :, order], lib.numpy(cache.k), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(lib.numpy(ring.v)[:, :, order], lib.numpy(cache.v))


@pytest.mark.eager
def test_a_stream_at_large_positions(lib, rng):
    """A million tokens on, the window is as exact as at its start."""
    start, rope = 10**6, RoPE(DIM, layout="interleaved")
    cache = window_cache(lib, 1, 4, 1, rope=rope)
    k, v = fresh(rng, 1, 1)
    cache = cache.append(rope(lib.array(k)), lib.array(v))._replace(length=start)
    more, values = fresh(rng, 1, 3)
    cache = cache.append(rope(lib.array(more), offset=start), lib.array(values))
    back = lib.numpy(rope.shift(cache.k, 4 - (start + 3)))
    order = np.argsort(lib.numpy(cache.positions))
    wanted = rope(lib.array(np.concatenate((k, more), axis=-2)))
    np.testing.assert_allclose(back[:, :, order], lib.numpy(wanted), rtol=0, atol=2e-6)


def test_moves_by_two_encodings(lib, rng):
    """What one has moved is moved before the other one does."""
    cache, rows = empty(lib, 1, 5), [Row()]
    cache = append(lib, cache, rows, rng, 5)
    other = RoPE(DIM, layout="interleaved", rotary_dim=4)
    moved = cache.drop(1, ROPE).drop(1, other).k
    wanted = other.shift(ROPE.shift(cache.k[:, :, 2:, :], -1), -1)
    np.testing.assert_allclose(lib.numpy(moved)[:, :, :3], lib.numpy(wanted), rtol=0, atol=2e-6)


@pytest.mark.eager
def test_errors_leave_the_cache_as_it_was(lib, rng):
    cache, rows = empty(lib, 2, 6), [Row(), Row()]
    cache = append(lib, cache, rows, rng, 5, [5, 3])
    before = lib.numpy(cache.k), lib.numpy(cache.v)
    k, v = (lib.array(x) for x in fresh(rng, 2, 2))
    short = lib.array(np.zeros((2, HEADS, 1, V_DIM)), "float32")
    for call in (
        lambda: cache.append(k, short),
        lambda: cache.append(k, v, positions=lib.array([1, 2, 3])),
        lambda: cache.append(k, v, counts=lib.array([1, 2, 3])),
        lambda: cache._replace(length=-1).append(k, v),
        lambda: cache._replace(length=5).append(k, v),
    ):
        with pytest.raises(ValueError, match="must"):
            call()
    for old, now in zip(before, (cache.k, cache.v), strict=True):
        np.testing.assert_array_equal(old, lib.numpy(now))


@pytest.mark.parametrize("start", [0, [1, 0]])
def test_memory_is_made_once(lib, rng, start):
    """And nothing that an old cache has is written."""
    if lib.name not in ("numpy", "torch"):
        pytest.skip(f"{lib.name} cannot write, or is asked in a file of its own")
    cache = empty(lib, 2, 6)
    cache = cache._replace(length=start if isinstance(start, int) else lib.array(start))
    memory = [x.ctypes.data if lib.name == "numpy" else x.data_ptr() for x in cache[:2]]
    at = np.asarray([3, 4])
    for options in ({}, {"counts": [1, 2]}, {"positions": lib.array(at)}, {}):
        k, v = (lib.array(x) for x in fresh(rng, 2, 1 if not options else 2))
        if options.get("positions") is not None:
            cache = cache.crop(2) if isinstance(start, int) else cache.crop(lib.array([2, 1]))
        old, kept = cache, lib.numpy(cache.k).copy()
        cache = cache.append(k, v, **options)
        used = np.arange(6) < lib.numpy(lib.array(old.length)).reshape(-1, 1)
        shown = np.broadcast_to(used[:, None, :, None], kept.shape)
        np.testing.assert_array_equal(lib.numpy(old.k)[shown], kept[shown])
    assert memory == [x.ctypes.data if lib.name == "numpy" else x.data_ptr() for x in cache[:2]]


@pytest.mark.backend("numpy")
def test_memory_of_numpy_that_cannot_be_written_is_copied():
    locked = np.zeros((1, 4, 8))
    locked.flags.writeable = False
    one = np.ones((1, 1, 8))
    made = KVCache(locked, locked.copy(), 1).append(one, one)
    np.testing.assert_array_equal(made.k[0, :, 0], [0, 1, 0, 0])
    same = np.zeros((1, 4, 8))  # keys and values in the same place
    made = KVCache(same, same).append(one, 2 * one)
    assert (made.k[0, 0, 0], made.v[0, 0, 0], same[0, 0, 0]) == (1, 2, 0)


def test_rows_to_which_nothing_is_appended(lib):
    """Also where slots are found by comparing, which has no largest of no tokens."""
    slots = lib.array(np.ones((2, 1, 4, 8)))
    none = lib.array(np.zeros((2, 1, 0, 8)))
    cache = KVCache(slots, slots, lib.array([1, 3], "int32"))
    again = cache.append(none, none, counts=lib.array([0, 0], "int32"))
    assert lib.numpy(again.length).tolist() == [1, 3]
    np.testing.assert_array_equal(lib.numpy(again.k), lib.numpy(slots))
