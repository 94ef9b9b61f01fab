"""Right calls that tests/fuzz found to give wrong numbers, warnings, or another library's error."""

import math

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, analysis, axes, relative


def has_bfloat16(lib):
    if lib.name in {"strict", "dask"}:
        pytest.skip(f"{lib.name} has no bfloat16")
    return lib.dtype("bfloat16")


@pytest.mark.eager
@pytest.mark.parametrize("n", [2, 5000])
def test_bfloat16_positions_are_no_integers(lib, n):
    has_bfloat16(lib)
    at = np.resize([0.8671875, -2.453125], n)
    cos, sin = rope_xp.cos_sin(lib.array(at, "bfloat16"), [1.0, 0.5])
    np.testing.assert_allclose(lib.numpy(cos), np.cos(at[:, None] * [1.0, 0.5]), atol=2e-7)
    np.testing.assert_allclose(lib.numpy(sin), np.sin(at[:, None] * [1.0, 0.5]), atol=2e-7)


def test_tables_in_bfloat16(lib):
    dtype = has_bfloat16(lib)
    rope = RoPE(4, layout="half")
    cos, sin = rope.cos_sin(lib.array(np.arange(3, dtype="int32")), dtype=dtype)
    assert cos.dtype == sin.dtype == dtype


@pytest.mark.eager
@pytest.mark.parametrize("n", [1, 5000])
def test_nan_on_one_axis_is_nan_for_the_pairs_of_that_axis(lib, n):
    rope = RoPE(4, layout="half", axes=axes.Axial(2))
    at = np.stack([np.full(n, math.nan), np.ones(n)]).astype(np.float32)
    cos, _ = rope.cos_sin(lib.array(at))
    np.testing.assert_allclose(lib.numpy(cos), np.tile([math.nan, math.cos(1)], (n, 1)), atol=2e-7)


@pytest.mark.eager
@pytest.mark.parametrize("learned", [False, True])
def test_infinity_is_nan_without_a_warning(lib, learned):
    positions, inv_freq = lib.array([math.inf, -math.inf, 1.0], "float32"), [1.0, 0.0]
    inv_freq = lib.array(inv_freq, "float32") if learned else inv_freq
    cos, _ = rope_xp.cos_sin(positions, inv_freq, precision="float32")
    assert np.isnan(lib.numpy(cos)).tolist() == [[True] * 2, [True] * 2, [False] * 2]


def test_scores_of_no_queries(lib):
    q, k = lib.array(np.ones((2, 0, 4))), lib.array(np.ones((2, 3, 4)))
    r, u = lib.array(np.ones((3, 4))), lib.array(np.ones((2, 4)))
    assert relative.transformer_xl_score(q, k, r, u, u).shape == (2, 0, 3)

    index = lib.array(np.ones((0, 3), dtype="int32"))
    assert relative.shaw_score(q, k, r, index).shape == (2, 0, 3)


def test_curves_of_frequencies_that_are_data(lib):
    """Numbers beside an array of frequencies are constants, as everywhere."""
    inv_freq = lib.array([1.0, 0.5])
    for distance in ([0, 1], np.asarray([0, 1])):
        found = analysis.advantage(distance, inv_freq)
        assert type(found) is type(inv_freq)
        np.testing.assert_allclose(lib.numpy(found), [2, math.cos(1) + math.cos(0.5)], atol=1e-6)


@pytest.mark.backend("numpy")
def test_a_distance_in_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 from ml_dtypes")
    found = analysis.advantage(ml_dtypes.bfloat16(0.5), [1.0])
    assert rope_xp.cos_sin(ml_dtypes.bfloat16(0.5), [1.0])[0] == np.float32(math.cos(0.5))
    np.testing.assert_allclose(found, math.cos(0.5), atol=1e-15)


@pytest.mark.backend("numpy")
def test_many_frequencies_need_little_memory():
    assert analysis.context_bound([0.5] * 10**5, limit=5) == 4


@pytest.mark.backend("torch")
def test_uint64_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    subclass = type("Subclass", (torch.Tensor,), {})  # its values are not looked at
    offset = torch.tensor([29], dtype=torch.uint64).as_subclass(subclass)
    rope, q = RoPE(4, layout="half"), torch.ones(1, 3, 4)
    assert torch.allclose(rope(q, offset=offset).as_subclass(torch.Tensor), rope(q, offset=29))
    # 2**63 is of another type to NumPy than uint64, with the same name.
    rotated = rope(q, positions=[2**63, 2**63 + 1, 2**63 + 2])
    expected = RoPE(4, layout="half")(q.numpy(), positions=[2**63, 2**63 + 1, 2**63 + 2])
    np.testing.assert_allclose(rotated.numpy(), expected, atol=1e-6)


@pytest.mark.backend("torch")
def test_strided_sums_do_not_make_torch_warn():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    sums = torch.tensor([0, 9, 2, 9, 5, 9])[::2]
    torch.set_warn_always(True)  # else once for each process
    try:
        found = rope_xp.positions.packed_positions(sums, 6)
    finally:
        torch.set_warn_always(False)
    assert found.tolist() == [0, 1, 0, 1, 2, 0]


@pytest.mark.backend("numpy")
def test_numbers_of_numpy_are_numbers():
    """They are not computed with: −np.uint8(2) is 254, and float32 rounds."""
    mask = np.ones((2, 3), dtype=bool)
    at = rope_xp.positions
    assert at.mask_grid_positions(mask, n_axes=np.uint8(2)).shape == (2, 2, 3)
    assert at.normalized_axis(2, length=np.float32(3)) == at.normalized_axis(2, length=3)
    assert at.rescaled_axis(3, np.float32(4)) == at.rescaled_axis(3, 4)
    assert at.time_axis(3, np.float32(0.5)) == (0.0, 0.5, 1.0)
    for line in (at.normalized_axis(2, length=np.float32(3)), at.rescaled_axis(3, np.float16(4))):
        assert {*map(type, line)} == {float}


def test_an_index_that_is_no_row_of_the_table():
    """Neither the library's own IndexError nor, below 0, another row."""
    q, table = np.ones((2, 1, 4)), np.ones((5, 4))
    for wrong in (5, -1, 2**40, -(2**63)):
        with pytest.raises(ValueError, match=rf"`index` must be in \[0, 5\), .*, got {wrong}$"):
            relative.shaw_score(q, q, table, np.full((1, 1), wrong))
    assert relative.shaw_score(q, q, table, np.full((1, 1), 4)).tolist() == [[[8.0]], [[8.0]]]


@pytest.mark.eager
def test_infinite_scores_are_nan_without_a_warning(lib):
    q, v = lib.array(np.ones((2, 4)), "float32"), lib.array(np.eye(2), "float32")
    bias = lib.array([[0.0, math.inf], [0.0, -math.inf]], "float32")
    found = lib.numpy(rope_xp.attention.attention(q, q, v, bias=bias))
    np.testing.assert_array_equal(found, [[math.nan, math.nan], [1.0, 0.0]])


@pytest.mark.parametrize("n", [2**21, 2**63, 2**70])
def test_heads_of_no_features(lib, n):
    """Every size divides an axis of length 0."""
    with pytest.raises(ValueError, match=r"^`head_dim` must be at most 1048576, got"):
        rope_xp.convert_layout(
            lib.array(np.ones(0)), source="half", target="interleaved", head_dim=n
        )
