"""Exact phases of all that an array can hold: every integer, real numbers, NaN; and their gradients."""

import math

import mpmath
import numpy as np
import pytest
import reference

import rope_xp
from rope_xp import RoPE, _exact_phases, phases

FREQUENCIES = (*reference.inv_freq(64)[::5], 1 / 3, 17.25, -0.7, 1e-9, 1e-30, 0.0)
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.fixture(params=["few", "many"])
def how_many(request, monkeypatch):
    """Few positions at hand are computed on the host, others with the library: both are tried."""
    monkeypatch.setattr(phases, "FEW", 2**12 if request.param == "few" else 0)


def worst_error(lib, tables, positions, frequencies=FREQUENCIES):
    """The largest error of cos and of sin, for ``positions`` that are Python numbers."""
    cos, sin = map(lib.numpy, tables)
    worst = 0.0
    for row, position in enumerate(positions):
        for pair, frequency in enumerate(frequencies):
            true_cos, true_sin = reference.exact_cos_sin(position, frequency)
            for table, true in ((cos, true_cos), (sin, true_sin)):
                worst = max(worst, float(abs(mpmath.mpf(float(table[row, pair])) - true)))
    return worst


def integers(lib, dtype, rng):
    """Positions over the whole range of a dtype, as Python ints and as an array of exactly those."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, 24, dtype=dtype, endpoint=True).tolist()
    values += [info.min, info.min + 1, info.max // 2, info.max // 2 + 1, info.max - 1, info.max, 1]
    if lib.name == "dask":
        return values, lib.xp.from_array(np.asarray(values, dtype=dtype), chunks=7)
    return values, lib.xp.asarray(np.asarray(values, dtype=dtype), device=lib.device)


def skip_without(lib, dtype):
    if not lib.has_float64 and dtype in ("int64", "uint64", "float64"):
        pytest.skip(f"{lib.name} without 64 bits")
    if lib.name == "torch" and not hasattr(lib.xp, dtype):
        pytest.skip(f"this torch has no {dtype}")


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_exact_over_the_whole_range_of_their_dtype(lib, rng, how_many, dtype):
    skip_without(lib, dtype)
    values, positions = integers(lib, dtype, rng)
    tables = rope_xp.cos_sin(positions, FREQUENCIES, dtype=lib.dtype("float32"))
    assert worst_error(lib, tables, values) < 1e-7
    if lib.has_float64:
        tables = rope_xp.cos_sin(positions, FREQUENCIES, dtype=lib.dtype("float64"))
        assert worst_error(lib, tables, values) < 1e-15


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["uint32", "int64", "uint64"])
def test_integers_are_exact_under_jit(lib, rng, dtype):
    """Where no values are at hand, all digits that the dtype can have are used."""
    skip_without(lib, dtype)
    values, positions = integers(lib, dtype, rng)
    tables = rope_xp.cos_sin(positions, FREQUENCIES, dtype=lib.dtype("float32"))
    assert worst_error(lib, tables, values) < 1e-7


@pytest.mark.parametrize(
    ("dtype", "values", "exponents"),
    [
        ("int8", [0], (0, 16)),
        ("int64", [-(2**31), 2**31 - 1], (0, 16)),
        ("int64", [2**31], (0, 16, 32, 48)),
        ("int64", [-(2**31) - 1], (0, 16, 32, 48)),
        ("uint32", [2**31 - 1], (0, 16)),
        ("uint32", [2**31], (0, 16, 32)),
        ("uint64", [2**31], (0, 16, 32, 48, 64)),
        ("int64", [], (0, 16)),
        ("float32", [2.0**31, math.nan, math.inf], (-16, 0, 16)),
        ("float64", [2.0**32], (-16, 0, 16, 32, 48)),
    ],
)
def test_ordinary_positions_have_two_digits(dtype, values, exponents):
    assert _exact_phases.digit_exponents(np.asarray(values, dtype=dtype), 1.0) == exponents


def test_fast_pairs_have_more_digits_behind_the_point():
    """What is left behind the last digit turns no pair by more than 2**15 units of 2**-30 of a turn."""
    for fastest in (0.0, 1.0, 17.0, 1e4, 2.0**60):
        first, *_ = _exact_phases.digit_exponents(np.asarray([0.5]), fastest)
        (units,) = _exact_phases.units_per_step((fastest,), first)
        assert units / 2 <= 2**15


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 999.0, 2.0**24, 2.0**31])
def test_real_positions_are_exact(lib, rng, how_many, dtype, size):
    skip_without(lib, dtype)
    if dtype == "float16" and (size > 1000 or lib.name == "strict"):
        pytest.skip("float16 ends at 65504, and array-api-strict has none")
    values = [*(rng.uniform(-1, 1, 20) * size), 0.5, -1.5, size, -size, 1e-30, size / 3]
    values = np.asarray(values, dtype=dtype)
    positions = lib.array(values.astype(np.float64 if dtype == "float64" else np.float32), dtype)
    exact = values.astype(float).tolist()
    tables = rope_xp.cos_sin(positions, FREQUENCIES, dtype=lib.dtype("float32"))
    assert worst_error(lib, tables, exact) < 1e-7
    if lib.has_float64:
        tables = rope_xp.cos_sin(positions, FREQUENCIES, dtype=lib.dtype("float64"))
        assert worst_error(lib, tables, exact) < 1e-15


@pytest.mark.parametrize("size", [2.0**31, 2.0**40, 2.0**62])
def test_larger_reals_are_exact_where_they_are_at_hand(size, rng, how_many):
    values = rng.uniform(-1, 1, 20) * size
    assert np.abs(values).max() > size / 2
    tables = rope_xp.cos_sin(values, FREQUENCIES)
    worst = 0.0
    for table, which in zip(tables, (0, 1), strict=True):
        for row, value in enumerate(values.tolist()):
            for pair, w in enumerate(FREQUENCIES):
                true = reference.exact_cos_sin(value, w)[which]
                worst = max(worst, float(abs(mpmath.mpf(float(table[row, pair])) - true)))
    assert worst < 1e-15


@pytest.mark.parametrize("fast", [3e3, 1e6, 2.0**60])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reals_times_fast_frequencies(lib, rng, how_many, dtype, fast):
    """Fourier features: positions within ±1, and pairs that turn thousands of times in one step."""
    skip_without(lib, dtype)
    values = rng.uniform(-1, 1, 12).astype(dtype)
    tables = rope_xp.cos_sin(lib.array(values, dtype), [fast], dtype=lib.dtype("float32"))
    assert worst_error(lib, tables, values.astype(float).tolist(), [fast]) < 1e-7


@pytest.mark.eager
def test_nan_and_infinity_give_nan(lib, how_many):
    cos, sin = rope_xp.cos_sin(
        lib.array([math.nan, 1.0, math.inf, -math.inf], "float32"), [1.0, 0.0]
    )
    for table in (cos, sin):
        assert np.isnan(lib.numpy(table)).tolist() == [[True] * 2, [False] * 2] + [[True] * 2] * 2


@pytest.mark.eager
def test_nan_and_infinity_give_nan_with_rounded_products(lib):
    at = lib.array([math.nan, 1.0, math.inf], "float32")
    learned = lib.array([1.0, 0.5], "float32")
    for cos, _ in (
        rope_xp.cos_sin(at, [1.0, 0.5], precision="float32"),
        rope_xp.cos_sin(at, learned),
    ):
        assert np.isnan(lib.numpy(cos)).tolist() == [[True] * 2, [False] * 2, [True] * 2]


@pytest.mark.backend("jax")
def test_reals_without_a_phase_give_nan_under_jit():
    import jax
    import jax.numpy as jnp

    at = jnp.asarray([2.0**31, 2.0**32])
    cos, _ = jax.jit(lambda p: rope_xp.cos_sin(p, [1.0]))(at)
    assert np.isnan(np.asarray(cos)).tolist() == [[False], [True]]
    assert abs(float(cos[0, 0]) - float(mpmath.cos(2**31))) < 1e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_and_many_positions_agree(monkeypatch, rng, dtype):
    positions = rng.integers(-(2**40), 2**40, 50)
    few = rope_xp.cos_sin(positions, FREQUENCIES, dtype=np.dtype(dtype))
    monkeypatch.setattr(phases, "FEW", 0)
    many = rope_xp.cos_sin(positions, FREQUENCIES, dtype=np.dtype(dtype))
    for a, b in zip(few, many, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * np.finfo(dtype).eps)


def test_few_tables_are_contiguous_whatever_the_order_of_the_positions():
    at = np.asfortranarray(np.arange(6).reshape(2, 3))
    for table in rope_xp.cos_sin(at, FREQUENCIES):
        assert table.flags.c_contiguous


def test_scores_do_not_depend_on_the_origin_of_the_clock(lib, rng):
    """The same five events, in milliseconds since 1970 and since the first of them."""
    rope = RoPE(8, layout="half")
    q = lib.array(rng.standard_normal((1, 5, 8)), "float32")
    since_first = np.asarray([0, 1, 250, 1000, 86_400_000])

    def scores(origin, dtype):
        x = lib.numpy(rope(q, positions=lib.array(origin + since_first, dtype)))
        return x @ x.swapaxes(-1, -2)

    origin = 1_700_000_000_000 if lib.has_float64 else 2**30
    expected = scores(0, "int64")
    np.testing.assert_allclose(scores(origin, "int64"), expected, rtol=0, atol=3e-6)
    seconds = np.asarray([0, 2**-10, 0.25, 1])  # float32 has them, and 2**12 later
    events = [lib.array(start + seconds, "float32") for start in (0, 2**12)]
    first, second = (lib.numpy(rope(q[:, :4, :], positions=at)) for at in events)
    np.testing.assert_allclose(
        first @ first.swapaxes(-1, -2), second @ second.swapaxes(-1, -2), rtol=0, atol=3e-6
    )


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize("offset", [2**31 - 3, 2**31 - 2, 2**40, -(2**50), 2**63 - 3])
def test_offsets_beyond_int32(lib, rng, offset):
    rope = RoPE(8, layout="half")
    q = lib.array(rng.standard_normal((2, 3, 8)), "float32")
    if not lib.has_float64 and not -(2**31) <= offset <= 2**31 - 3:
        with pytest.raises(ValueError, match=r"`offset` must keep positions in the range of int32"):
            rope(q, offset=offset)
        return
    dtype = "int64" if lib.has_float64 else "int32"
    at = lib.array(np.arange(3) + offset, dtype)
    expected = lib.numpy(rope(q, positions=at))
    np.testing.assert_allclose(lib.numpy(rope(q, offset=offset)), expected, rtol=0, atol=1e-6)
    as_array = lib.array([offset], dtype)
    np.testing.assert_allclose(lib.numpy(rope(q, offset=as_array)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [2**63 - 2, -(2**63) - 1, 2**70])
def test_offsets_beyond_int64_are_refused(offset):
    q = np.ones((2, 3, 8), np.float32)
    with pytest.raises(ValueError, match=r"`offset` must keep positions in the range of int64"):
        RoPE(8, layout="half")(q, offset=offset)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_array_offsets_do_not_wrap(rng, dtype):
    """The last positions that a dtype of offsets allows for, and what comes after them."""
    rope = RoPE(8, layout="half")
    q = rng.standard_normal((2, 3, 8)).astype(np.float32)
    most = min(np.iinfo(dtype).max, 2**63 - 3)
    got = rope(q, offset=np.asarray([most, 0], dtype=dtype))
    at = np.asarray([[most + i for i in range(3)], [0, 1, 2]], dtype=np.int64)
    np.testing.assert_allclose(got, rope(q, positions=at), rtol=0, atol=1e-6)


@pytest.mark.backend("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own jvp of round
def test_gradients_to_real_positions_in_torch(rng):
    """First and second order, at positions where float32 angles would be wrong in every digit."""
    import torch

    frequencies = (1.0, 0.3, 17.25, 1e-4)
    w = torch.tensor(frequencies, dtype=torch.float64)
    for size in (1.0, 1e6, 2.0**30):
        at = torch.tensor(rng.uniform(-size, size, 7), dtype=torch.float64, requires_grad=True)

        for which in (0, 1):

            def total(p, which=which):
                return rope_xp.cos_sin(p, frequencies)[which].sum(-1)

            cos, sin = rope_xp.cos_sin(at.detach(), frequencies)
            slope = (-sin * w).sum(-1) if which == 0 else (cos * w).sum(-1)
            bend = -((cos if which == 0 else sin) * w * w).sum(-1)
            (one,) = torch.autograd.grad(total(at).sum(), at, create_graph=True)
            (two,) = torch.autograd.grad(one.sum(), at)
            torch.testing.assert_close(one.detach(), slope, rtol=0, atol=1e-12)
            torch.testing.assert_close(two, bend, rtol=0, atol=1e-9)
            forward = torch.func.jvp(total, (at.detach(),), (torch.ones_like(at),))
            torch.testing.assert_close(forward[1], slope, rtol=0, atol=1e-12)


@pytest.mark.backend("torch")
def test_gradients_of_float32_positions_in_torch():
    import torch

    at = torch.tensor([0.25, 999.5, 2.0**24 + 2], requires_grad=True)
    cos, sin = rope_xp.cos_sin(at, [1.0, 0.01])
    (slope,) = torch.autograd.grad(cos.sum(), at)
    expected = -(sin * torch.tensor([1.0, 0.01])).sum(-1)
    torch.testing.assert_close(slope, expected, rtol=0, atol=2e-7)


@pytest.mark.backend("jax")
def test_gradients_to_real_positions_in_jax():
    import jax
    import jax.numpy as jnp

    w = (1.0, 0.3, 17.25)
    at = jnp.asarray([0.25, 999.5, 2.0**24 + 2])
    cos, sin = rope_xp.cos_sin(at, w)
    first = jax.vmap(jax.grad(lambda p: rope_xp.cos_sin(p[None], w)[0].sum()))
    second = jax.vmap(jax.grad(jax.grad(lambda p: rope_xp.cos_sin(p[None], w)[0].sum())))
    rows = jnp.asarray(w)
    for f, expected, atol in (
        (first, -(sin * rows).sum(-1), 4e-6),
        (second, -(cos * rows * rows).sum(-1), 1e-4),
    ):
        np.testing.assert_allclose(f(at), expected, rtol=0, atol=atol)
        np.testing.assert_allclose(jax.jit(f)(at), expected, rtol=0, atol=atol)
