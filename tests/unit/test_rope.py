"""RoPE: the value, and rotation through it."""

import dataclasses
import math
import types

import numpy as np
import pytest
import reference

from rope_xp import RoPE, scaling

ROPE = RoPE(8, layout="half", base=100.0)


def expected(x, positions, rope=ROPE):
    """By the oracle; positions (seq,), x (..., seq, head_dim)."""
    frequencies = reference.inv_freq(rope.rotary_dim, rope.base)
    return np.asarray(
        reference.rotate(x.tolist(), positions, frequencies, rope.layout, rope.rotary_start)
    )


def close(lib, got, wanted, atol=1e-6):
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=atol)


# -- the value -------------------------------------------------------------------------------------


def test_holds_python_values_only():
    rope = RoPE(np.int64(64), layout="half", base=np.float32(10000.0), rotary_dim=np.int32(32))
    for value in (rope.head_dim, rope.base, rope.rotary_dim, rope.n_pairs):
        assert type(value) in (int, float)


@dataclasses.dataclass(frozen=True)
class Odd:
    """A schedule with numbers of NumPy, in a result of its own class."""

    kind: str

    def __call__(self, rotary_dim, base, *, seq_len, precision):
        inv_freq = np.asarray(scaling.inverse_frequencies(rotary_dim, base), dtype=np.float32)
        made = {
            "array": inv_freq,
            "list": list(inv_freq),
            "generator": (w for w in inv_freq),
            "integers": [1, 0, -1, 2],
        }
        return types.SimpleNamespace(
            inv_freq=made[self.kind], attention_factor=np.float32(1.5), softmax_factor=np.int64(2)
        )


@pytest.mark.parametrize("kind", ["array", "list", "generator", "integers"])
def test_a_schedule_may_return_numbers_of_any_kind(kind):
    """They become Python floats, and those of a call are those of the first one."""
    rope = RoPE(8, layout="half", scaling=Odd(kind))
    for found in (rope.frequencies(), rope.frequencies(9)):
        assert found.inv_freq.dtype == np.float64
        assert [type(factor) for factor in found[1:]] == [float, float]
        assert found[1:] == (1.5, 2.0)
        np.testing.assert_array_equal(found.inv_freq, rope.frequencies().inv_freq)
    assert rope(np.ones((3, 8), np.float32)).shape == (3, 8)


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """A scheme with no more than `rope_xp.axes.Axes` requires, and a matrix of NumPy."""

    n_axes: int = 2

    def blocks(self, rotary_dim):
        return (rotary_dim,)

    def __call__(self, rotary_dim, frequencies):
        return np.asarray([frequencies(rotary_dim)] * 2)


def test_a_scheme_needs_three_members(rng):
    rope, x = RoPE(8, layout="half", axes=Diagonal()), rng.standard_normal((3, 8))
    turned = rope(x, positions=np.asarray([[1, 2, 3], [4, 5, 6]]))
    np.testing.assert_allclose(turned, RoPE(8, layout="half")(x, positions=np.asarray([5, 7, 9])))
    assert hash(rope) == hash(RoPE(8, layout="half", axes=Diagonal()))


def test_frequencies():
    inv_freq, attention_factor, softmax_factor = RoPE(8, layout="half").frequencies()
    assert inv_freq.dtype == np.float64
    np.testing.assert_allclose(inv_freq, [1.0, 0.1, 0.01, 0.001], rtol=1e-15)
    assert (attention_factor, softmax_factor) == (1.0, 1.0)


@pytest.mark.parametrize("seq_len", [None, 9])
def test_frequencies_are_a_new_array_each_time(seq_len):
    """A caller who writes into them changes no other result."""
    rope = RoPE(8, layout="half", base=100.0)
    before = rope.frequencies(seq_len).inv_freq.copy()
    rope.frequencies(seq_len).inv_freq[:] = 0
    np.testing.assert_array_equal(rope.frequencies(seq_len).inv_freq, before)


def test_frequencies_of_a_partial_rotation_count_the_rotated_part():
    np.testing.assert_allclose(
        RoPE(64, layout="half", rotary_dim=4).frequencies().inv_freq, [1.0, 0.01], rtol=1e-15
    )


# -- rotating --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("partial", [{}, {"rotary_dim": 4}, {"rotary_dim": 6, "rotary_start": 1}])
def test_q_and_k_with_their_own_heads(lib, rng, layout, partial):
    rope = RoPE(8, layout=layout, base=100.0, **partial)
    q = rng.standard_normal((2, 4, 5, 8)).astype(np.float32)
    k = rng.standard_normal((2, 2, 5, 8)).astype(np.float32)
    rotated_q, rotated_k = rope(lib.array(q), lib.array(k))
    close(lib, rotated_q, expected(q, range(5), rope))
    close(lib, rotated_k, expected(k, range(5), rope))
    close(lib, rope(lib.array(q)), expected(q, range(5), rope))


def test_offset_is_where_the_cache_ends(lib, rng):
    x = rng.standard_normal((2, 3, 4, 8)).astype(np.float32)
    at_7 = expected(x, range(7, 11))
    close(lib, ROPE(lib.array(x), offset=7), at_7)
    close(lib, ROPE(lib.array(x), offset=np.int64(7)), at_7)
    close(lib, ROPE(lib.array(x), offset=np.asarray(7)), at_7)
    close(lib, ROPE(lib.array(x), offset=lib.array(7, "int32")), at_7)
    rows = ROPE(lib.array(x), offset=lib.array([7, 2_000_000_000], "int32"))
    close(lib, rows[0, ...], at_7[0])
    close(lib, rows[1, ...], expected(x[1], range(2_000_000_000, 2_000_000_004)))


def test_offsets_of_a_small_dtype_do_not_overflow(lib, rng):
    x = rng.standard_normal((2, 3, 60, 8)).astype(np.float32)
    rows = ROPE(lib.array(x), offset=lib.array([100, 120], "int8"))
    close(lib, rows[1, ...], expected(x[1], range(120, 180)))


@pytest.mark.x64
@pytest.mark.parametrize("seq_axis", [-2, -3])
@pytest.mark.parametrize("batch", [1, 3])
def test_positions_per_row(lib, rng, seq_axis, batch):
    """Also with batch == heads, and with one row for all."""
    x = rng.standard_normal((3, 3, 5, 8)).astype(np.float32)  # (batch, heads, seq, head_dim)
    positions = rng.integers(-(10**9), 10**9, (batch, 5))
    moved = np.moveaxis(x, -2, seq_axis)
    y = ROPE(lib.array(moved), positions=lib.array(positions), seq_axis=seq_axis)
    for row in range(3):
        wanted = expected(x[row], positions[row % batch])
        close(lib, y[row, ...], np.moveaxis(wanted, -2, seq_axis))


@pytest.mark.eager
def test_tokens_first_without_batch_or_heads(lib, rng):
    x = rng.standard_normal((5, 8)).astype(np.float32)
    close(
        lib, ROPE(lib.array(x), positions=lib.array([9, 8, 7, 6, 5])), expected(x, [9, 8, 7, 6, 5])
    )


def test_real_positions(lib, rng):
    x = rng.standard_normal((2, 8)).astype(np.float32)
    y = ROPE(lib.array(x), positions=lib.array([0.5, 1.5], "float32"))
    whole = expected(expected(x, [0, 1]), [1, 1])  # 0.5 = 0 + ½, of which two make 1
    close(lib, ROPE(y, positions=lib.array([0.5, 0.5], "float32")), whole, atol=2e-6)


@pytest.mark.x64
def test_each_keeps_its_dtype(lib, rng):
    if not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    q = lib.array(rng.standard_normal((2, 3, 8)), "float64")
    k = lib.array(rng.standard_normal((2, 3, 8)), "float32")
    rotated_q, rotated_k = ROPE(q, k, offset=1_000_000)
    assert (rotated_q.dtype, rotated_k.dtype) == (q.dtype, k.dtype)
    # float64 tables for a float64 q
    close(lib, rotated_q, expected(lib.numpy(q), range(1_000_000, 1_000_003)), atol=1e-14)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_inverse_undoes(lib, rng, layout):
    rope = RoPE(8, layout=layout, rotary_dim=6, rotary_start=2)
    q, k = rng.standard_normal((2, 2, 3, 5, 8)).astype(np.float32)
    there = rope(lib.array(q), lib.array(k), offset=12345)
    back = rope.inverse(*there, offset=12345)
    for got, wanted in zip(back, (q, k), strict=True):
        close(lib, got, wanted)


@dataclasses.dataclass(frozen=True)
class Loud:
    """A schedule with an attention factor, as YaRN has."""

    factor: float = 2.0

    def __call__(self, rotary_dim, base, *, seq_len=None, precision="exact"):
        inv_freq = scaling.inverse_frequencies(rotary_dim, base, precision=precision)
        slower = self.factor if seq_len is not None and seq_len > 100 else 1.0
        return scaling.Frequencies(tuple(f / slower for f in inv_freq), 1.25, 1.5)


def test_the_attention_factor_is_in_the_tables_undone_by_inverse_and_not_repeated_by_shift(
    lib, rng
):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    rope = RoPE(8, layout="half", base=100.0, scaling=Loud())
    assert rope.frequencies().attention_factor == 1.25
    assert rope.frequencies().softmax_factor == 1.5
    y = rope(lib.array(x), offset=9)
    close(lib, y, 1.25 * expected(x, range(9, 12)), atol=2e-6)
    close(lib, rope.inverse(y, offset=9), x, atol=2e-6)
    close(lib, rope.shift(y, -9), 1.25 * expected(x, range(3)), atol=3e-6)


def test_length_matters_only_where_it_is_given(lib, rng):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    rope = RoPE(8, layout="half", base=100.0, scaling=Loud())
    assert rope.frequencies(seq_len=200).inv_freq[0] == 0.5
    long = rope(lib.array(x), offset=8, seq_len=200)
    close(lib, rope.inverse(long, offset=8, seq_len=200), x, atol=2e-6)
    np.testing.assert_allclose(
        lib.numpy(rope.cos_sin(lib.array([2]), seq_len=101)[0]),
        lib.numpy(rope.cos_sin(lib.array([1]))[0]),
        atol=1e-7,
    )
    # Nothing is remembered from the long call.
    close(lib, rope(lib.array(x), offset=8), 1.25 * expected(x, range(8, 11)), atol=2e-6)


@pytest.mark.parametrize(
    ("delta", "moved"),
    [
        (3, [[3] * 5] * 2),
        (-1_000_000, [[-1_000_000] * 5] * 2),
        (np.int64(3), [[3] * 5] * 2),
        ([[3], [-4]], [[3] * 5, [-4] * 5]),
        ([7], [[7] * 5] * 2),
        ([1, 2, -3, 4, 0], [[1, 2, -3, 4, 0]] * 2),
        ([[1, 2, -3, 4, 0]], [[1, 2, -3, 4, 0]] * 2),
        ([[1, 2, 3, 4, 5], [0, 0, -1, 7, 7]], [[1, 2, 3, 4, 5], [0, 0, -1, 7, 7]]),
    ],
)
@pytest.mark.parametrize("seq_axis", [-2, -3])
def test_shift(lib, rng, delta, moved, seq_axis):
    """R(m) then R(δ) is R(m + δ), per row and per token too; one axis is that of tokens."""
    k = rng.standard_normal((2, 2, 5, 8)).astype(np.float32)
    rotated = ROPE(lib.array(np.moveaxis(k, -2, seq_axis)), offset=10, seq_axis=seq_axis)
    delta = lib.array(delta, "int32") if isinstance(delta, list) else delta
    shifted = ROPE.shift(rotated, delta, seq_axis=seq_axis)
    for row in range(2):
        wanted = expected(k[row], [10 + i + moved[row][i] for i in range(5)])
        close(lib, shifted[row, ...], np.moveaxis(wanted, -2, seq_axis), atol=2e-6)


@pytest.mark.parametrize("n_heads", [2, 4])
@pytest.mark.parametrize("seq_axis", [-2, -3])
def test_shift_reads_one_axis_as_tokens_where_the_batch_is_as_long(lib, rng, n_heads, seq_axis):
    """Keys that an eviction keeps move to where they go, whatever has as many entries."""
    keep = np.asarray([0, 1, 4, 5])
    k = rng.standard_normal((4, n_heads, 6, 8)).astype(np.float32)
    kept = expected(k[:, :, keep], keep)
    delta = lib.array(np.arange(4) - keep, "int32")
    moved = ROPE.shift(lib.array(np.moveaxis(kept, 2, seq_axis)), delta, seq_axis=seq_axis)
    close(lib, moved, np.moveaxis(expected(k[:, :, keep], range(4)), 2, seq_axis), atol=2e-6)


@pytest.mark.eager
def test_shift_by_a_scalar_array(lib, rng):
    k = rng.standard_normal((2, 5, 8)).astype(np.float32)
    shifted = ROPE.shift(ROPE(lib.array(k)), lib.array(4, "int32"))
    close(lib, shifted, expected(k, range(4, 9)), atol=2e-6)


def test_tables_made_once_serve_every_layer(lib, rng):
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    cos, sin = ROPE.cos_sin(lib.array(np.arange(5) + 100))
    assert tuple(cos.shape) == (5, 4)
    close(lib, ROPE.rotate(lib.array(x), cos, sin), expected(x, range(100, 105)))
    undone = ROPE.rotate(ROPE.rotate(lib.array(x), cos, sin), cos, sin, inverse=True)
    close(lib, undone, x)


def test_scores_depend_on_the_difference_only(lib, rng):
    """At position zero, at one million and at two billion alike: the point of exact phases."""
    q, k = rng.standard_normal((2, 8)).astype(np.float32)
    both = np.stack([q, k])
    wanted = reference.score(q, k, 5, 0, reference.inv_freq(8, 100.0), "half")
    for far in (0, 1_000_000, 2_000_000_000):
        y = lib.numpy(ROPE(lib.array(both), positions=lib.array([far + 5, far])))
        assert abs(y[0] @ y[1] - wanted) < 2e-6


def test_float32_scores_do_not(rng):
    """The same with the usual angles drifts, which is what the exact path is for."""
    rope = RoPE(8, layout="half", base=100.0, precision="float32")
    both = np.stack(rng.standard_normal((2, 8)).astype(np.float32))
    scores = []
    for far in (0, 30_000_000):
        y = rope(both, positions=np.asarray([far + 5, far]))
        scores.append(y[0] @ y[1])
    assert abs(scores[0] - scores[1]) > 1e-2
    assert math.isfinite(scores[1])
