"""Phases: exact at every position, or rounded as others round them."""

import json
import math
import tracemalloc
from pathlib import Path

import mpmath
import numpy as np
import pytest
import reference

import rope_xp
from rope_xp import _backends, _exact_phases, phases

FREQUENCIES = [
    *reference.inv_freq(128)[::9],
    *reference.inv_freq(64, 500000.0)[::7],
    1 / 3,
    math.pi / 8,
    1e-9,
    17.25,
    -0.7,
    0.0,
]


def sample_positions(rng):
    """Random positions of every size up to 31 bits, both signs, and the edges."""
    positions = [0]
    for bits in range(31):
        positions += rng.integers(2**bits, 2 ** (bits + 1), 6).tolist()
        positions += [2**bits, 2 ** (bits + 1) - 1]
    return [*positions, *(-p for p in positions), -(2**31)]


def errors(lib, cos, sin, positions, frequencies):
    """Largest |cos − true| and |sin − true|, and largest relative error of sin."""
    cos, sin = lib.numpy(cos), lib.numpy(sin)
    worst, relative = mpmath.mpf(0), mpmath.mpf(0)
    for row, position in enumerate(positions):
        for pair, frequency in enumerate(frequencies):
            true_cos, true_sin = reference.exact_cos_sin(position, frequency)
            wrong = abs(mpmath.mpf(sin[row, pair]) - true_sin)
            worst = max(worst, wrong, abs(mpmath.mpf(cos[row, pair]) - true_cos))
            if true_sin != 0:
                relative = max(relative, wrong / abs(true_sin))
    return float(worst), float(relative)


def test_constants():
    """The two literal constants, from π with 1200 bits."""
    with mpmath.workprec(1200):
        turns = mpmath.floor(mpmath.mpf(2) ** 512 / (2 * mpmath.pi))
        low = 2 * mpmath.pi / 2**30 - mpmath.mpf(_exact_phases._UNIT_HIGH)
        assert int(turns) == _exact_phases._TURNS_PER_RADIAN
        assert float(low) == _exact_phases._UNIT_LOW
        assert _exact_phases._UNIT_HIGH * 2**39 < 2**12


@pytest.mark.eager
@pytest.mark.x64
def test_exact_in_float32_at_every_position(lib, rng):
    positions = sample_positions(rng)
    cos, sin = rope_xp.cos_sin(lib.array(positions), FREQUENCIES)
    assert cos.dtype == lib.dtype("float32")
    worst, relative = errors(lib, cos, sin, positions, FREQUENCIES)
    assert worst < 1e-7
    assert relative < 2e-6  # small sines keep their digits; next to a multiple of π a few are lost


@pytest.mark.x64
def test_exact_in_float64_at_every_position(lib, rng):
    if not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    positions = sample_positions(rng)
    cos, sin = rope_xp.cos_sin(lib.array(positions), FREQUENCIES, dtype=lib.dtype("float64"))
    assert cos.dtype == lib.dtype("float64")
    worst, _ = errors(lib, cos, sin, positions, FREQUENCIES)
    assert worst < 3e-16  # asked for: 1e-12 below 2**20


def test_float32_angles_are_as_wrong_as_they_are_said_to_be():
    """What the exact path is for: errors of the usual angles, to one digit."""
    frequencies = reference.inv_freq(128)
    for position, expected in ((131_072, 4e-3), (1_000_000, 3e-2), (10_000_000, 0.2)):
        around = np.arange(position - 500, position + 500)
        rounded = rope_xp.cos_sin(around, frequencies, precision="float32")
        exact = rope_xp.cos_sin(around, frequencies, dtype=np.float64)
        wrong = max(np.abs(r - e).max() for r, e in zip(rounded, exact, strict=True))
        assert expected < wrong < 4 * expected


def test_minus_m_mirrors_m(lib, rng):
    positions = rng.integers(0, 2**31, 200)
    cos, sin = rope_xp.cos_sin(lib.array(positions), FREQUENCIES)
    back_cos, back_sin = rope_xp.cos_sin(lib.array(-positions), FREQUENCIES)
    np.testing.assert_allclose(lib.numpy(cos), lib.numpy(back_cos), rtol=0, atol=1e-7)
    np.testing.assert_allclose(lib.numpy(sin), -lib.numpy(back_sin), rtol=0, atol=1e-7)


def test_the_table_of_the_llama_text(lib):
    """precompute_freqs_cis(8, 3) as printed in the source text (seed 003, section 3.1)."""
    printed = [
        [1.0000 + 0.0000j, 1.0000 + 0.0000j, 1.0000 + 0.0000j, 1.0000 + 0.0000j],
        [0.5403 + 0.8415j, 0.9950 + 0.0998j, 0.9999 + 0.0100j, 1.0000 + 0.0010j],
        [-0.4161 + 0.9093j, 0.9801 + 0.1987j, 0.9998 + 0.0200j, 1.0000 + 0.0020j],
    ]
    cos, sin = rope_xp.cos_sin(lib.array(range(3)), reference.inv_freq(8))
    np.testing.assert_allclose(lib.numpy(cos), np.real(printed), rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(lib.numpy(sin), np.imag(printed), rtol=0, atol=5.1e-5)


@pytest.mark.x64
def test_float32_forms_the_rounded_product(lib, rng):
    positions = rng.integers(0, 2**22, 300)
    cos, sin = rope_xp.cos_sin(lib.array(positions), FREQUENCIES, precision="float32")
    angles = positions.astype(np.float32)[:, None] * np.asarray(FREQUENCIES, dtype=np.float32)
    np.testing.assert_allclose(lib.numpy(cos), np.cos(angles.astype(float)), rtol=0, atol=1.2e-7)
    np.testing.assert_allclose(lib.numpy(sin), np.sin(angles.astype(float)), rtol=0, atol=1.2e-7)
    if lib.has_float64:  # a wider result does not make the angles any better
        wide = {"dtype": lib.dtype("float64"), "precision": "float32"}
        again, _ = rope_xp.cos_sin(lib.array(positions), FREQUENCIES, **wide)
        np.testing.assert_array_equal(lib.numpy(again), lib.numpy(cos))


def test_float32_is_what_transformers_computes(lib):
    """Tables of LlamaRotaryEmbedding (goldens/make_llama_tables.py), up to position ten million.

    torch's float32 power is not always the nearest float32: of 368 frequencies two differ from
    ours, in their last bit. Their angles are compared no further.
    """
    golden = json.loads((Path(__file__).parents[1] / "goldens" / "llama_tables.json").read_text())
    assert golden["source"].startswith("transformers 5.24.0")
    differ = 0
    for case in golden["cases"]:
        rope = rope_xp.RoPE(case["head_dim"], layout="half", base=case["base"], precision="float32")
        ours, theirs = rope.frequencies().inv_freq, np.asarray(case["inv_freq"])
        np.testing.assert_allclose(ours, theirs, rtol=2.0**-23, atol=0)
        same = ours == theirs
        differ += np.sum(~same)
        cos, sin = rope.cos_sin(lib.array(golden["positions"]))
        for table, expected in ((cos, case["cos"]), (sin, case["sin"])):
            expected = np.asarray(expected)[:, same]
            np.testing.assert_allclose(lib.numpy(table)[:, same], expected, rtol=0, atol=1.2e-7)
    assert differ == 2


@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_real_positions(lib, precision):
    """Between integers, too."""
    positions = [0.0, 0.5, 2.0, -3.25]
    cos, sin = rope_xp.cos_sin(
        lib.array(positions, "float32"), [1.0, 0.25, 0.001], precision=precision
    )
    for row, position in enumerate(positions):
        for pair, frequency in enumerate([1.0, 0.25, 0.001]):
            assert abs(lib.numpy(cos)[row, pair] - math.cos(position * frequency)) < 2e-7
            assert abs(lib.numpy(sin)[row, pair] - math.sin(position * frequency)) < 2e-7


def test_learned_frequencies_are_rounded_with_precision_float32(rng):
    """Angles are float32 products there, even if positions, frequencies and result are float64."""
    at, learned = rng.integers(0, 1000, (2, 5)) * 1.0, rng.uniform(0.1, 1, (2, 3, 1, 4))
    cos, sin = rope_xp.cos_sin(at, learned, precision="float32")
    first, second = (
        at[a].astype(np.float32)[:, None] * learned[a].astype(np.float32) for a in range(2)
    )
    assert cos.dtype == sin.dtype == np.float64
    np.testing.assert_array_equal(cos, np.cos(first + second))
    np.testing.assert_array_equal(sin, np.sin(first + second))


def test_learned_frequencies(lib):
    """An array of the positions' library is data: same values, on the floating path."""
    frequencies = [1.0, 0.25, 0.001]
    cos, _ = rope_xp.cos_sin(lib.array([3, -7]), lib.array(frequencies, "float32"))
    assert cos.dtype == lib.dtype("float32")
    expected = np.cos(np.outer([3, -7], frequencies))
    np.testing.assert_allclose(lib.numpy(cos), expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)])
def test_shapes(lib, shape):
    cos, sin = rope_xp.cos_sin(lib.array(np.ones(shape, int)), [1.0, 0.5])
    assert tuple(cos.shape) == tuple(sin.shape) == (*shape, 2)


@pytest.mark.eager
@pytest.mark.x64
@pytest.mark.parametrize(
    ("positions", "dtype", "expected"),
    [
        ("int32", None, "float32"),
        ("uint8", None, "float32"),
        ("float32", None, "float32"),
        ("float64", None, "float64"),
        ("float64", "float32", "float32"),
        ("int64", "float64", "float64"),
        ("int64", "float16", "float16"),
        ("int64", "bfloat16", "bfloat16"),
        ("float16", None, "float32"),
    ],
)
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_dtypes(lib, positions, dtype, expected, precision):
    needed = {positions, dtype, expected}
    if "float64" in needed and not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    if needed & {"float16", "bfloat16"} and lib.name == "strict":
        pytest.skip("array-api-strict has neither float16 nor bfloat16")
    if "bfloat16" in needed and lib.name in ("dask", "cupy"):
        pytest.skip(f"{lib.name} has no bfloat16")
    at = lib.array([0, 1, 100], positions)
    dtype = None if dtype is None else lib.dtype(dtype)
    cos, sin = rope_xp.cos_sin(at, [1.0, 0.1], dtype=dtype, precision=precision)
    assert cos.dtype == sin.dtype == lib.dtype(expected)
    bits = {"float16": 11, "bfloat16": 8, "float32": 23, "float64": 50}[expected]
    if precision == "float32":
        bits = min(bits, 16)  # 100 · float32(0.1) is off by 1e-7
    np.testing.assert_allclose(
        lib.numpy(cos), np.cos(np.outer([0, 1, 100], [1.0, 0.1])), rtol=0, atol=2.0**-bits
    )


@pytest.mark.x64
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
def test_any_integer_dtype_gives_the_same(lib, dtype):
    if lib.name == "torch" and dtype in ("uint16", "uint32"):
        cos, _ = rope_xp.cos_sin(lib.array([0, 100], "int64").to(lib.dtype(dtype)), [1.0, 0.1])
    else:
        cos, _ = rope_xp.cos_sin(lib.array([0, 100], dtype), [1.0, 0.1])
    expected, _ = rope_xp.cos_sin(np.asarray([0, 100]), [1.0, 0.1])
    np.testing.assert_allclose(lib.numpy(cos), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.longlong, np.uintc, ">i4"])
def test_other_spellings_of_numpy_integers(dtype):
    got = rope_xp.cos_sin(np.asarray([0, 100], dtype=dtype), [1.0, 0.1])
    expected = rope_xp.cos_sin(np.asarray([0, 100]), [1.0, 0.1])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("few", [0, 2**12])
def test_attention_factor(lib, monkeypatch, few):
    monkeypatch.setattr(phases, "FEW", few)
    plain = rope_xp.cos_sin(lib.array([0, 5]), [1.0, 0.1])
    scaled = rope_xp.cos_sin(lib.array([0, 5]), [1.0, 0.1], attention_factor=1.25)
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(1.25 * lib.numpy(a), lib.numpy(b), rtol=1e-7, atol=0)


def test_numpy_frequencies_are_constants_for_every_library(lib):
    cos, _ = rope_xp.cos_sin(lib.array([1_000_000]), np.asarray([0.3, 0.7]))
    expected, _ = rope_xp.cos_sin(np.asarray([1_000_000]), (0.3, 0.7))
    np.testing.assert_allclose(lib.numpy(cos), expected, rtol=0, atol=1e-7)


def in_one_piece(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patched:
        patched.setattr(_backends, "cache_block_bytes", lambda array: 0)
        return rope_xp.cos_sin(*args, **kwargs)


def assert_same_tables(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.flags.c_contiguous
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_blocks_are_the_whole(monkeypatch, rng, dtype, precision):
    """Bit for bit, with blocks so small that every shape has many, and a last one that is not full."""
    monkeypatch.setattr(_backends, "cache_block_bytes", lambda array: 8 * 5 * 3)
    monkeypatch.setattr(phases, "FEW", 0)
    how = {"dtype": np.dtype(dtype), "precision": precision, "attention_factor": 1.3}
    frequencies = [0.7, -1e-3, 1 / 3, 2.5, 0.0]
    dense = [frequencies, frequencies[::-1]]
    by_axis = [[0.7, 0.0, 0.1, 0.0, 0.5], [0.0, 0.2, 0.0, 1.0, 0.0]]
    big = rng.integers(-(2**31), 2**31, (2, 3, 14, 4))
    for positions in (
        *(big[0, 0, 0, :n] for n in range(5)),
        big[0, 0].reshape(-1)[:55:5],  # strided
        big[0, 0].astype(np.int32)[::-1],
        big[:, :, ::3, 1],
        big[1].T,  # in Fortran's order
        np.broadcast_to(big[0, 0, :, :1], (14, 6)),
        big[..., :0],
        big[0].astype(np.float32) / 2**20,
        (big[0] % 200).astype(np.uint8),
    ):
        before = positions.copy()
        expected = in_one_piece(monkeypatch, np.ascontiguousarray(positions), frequencies, **how)
        assert_same_tables(rope_xp.cos_sin(positions, frequencies, **how), expected)
        np.testing.assert_array_equal(positions, before)
    for positions in (big, big[:, 0, :, 0], big[:, 0, 0, 0], big.astype(np.int32)[:, ::2]):
        for matrix in (dense, by_axis):
            expected = in_one_piece(monkeypatch, np.ascontiguousarray(positions), matrix, **how)
            assert_same_tables(rope_xp.cos_sin(positions, matrix, **how), expected)


@pytest.mark.parametrize("n", [511, 512, 513, 1024, 1025])
def test_blocks_of_the_real_size(monkeypatch, n):
    monkeypatch.setattr(phases, "FEW", 0)
    expected = in_one_piece(monkeypatch, np.arange(n), reference.inv_freq(128))
    assert_same_tables(rope_xp.cos_sin(np.arange(n), reference.inv_freq(128)), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_tables_need_little_more_memory_than_they_are(dtype):
    positions, frequencies = np.arange(40_000), reference.inv_freq(128)
    tracemalloc.start()
    try:
        cos, sin = rope_xp.cos_sin(positions, frequencies, dtype=np.dtype(dtype))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < cos.nbytes + sin.nbytes + 4e6  # as a whole, five times as much
