"""Several axes: which axis drives which pair, by hand, by the oracle, and by law."""

import dataclasses
import itertools
import math
import pickle

import mpmath
import numpy as np
import pytest
import reference
from values import SCHEMES, SHARED

import rope_xp
from rope_xp import RoPE, configs, scaling
from rope_xp.attention import linear_attention
from rope_xp.axes import (
    Axial,
    AxisPerPair,
    Directions,
    InterleavedSections,
    Sections,
    golden_directions,
)
from rope_xp.scaling import Linear, YaRN

GOLDEN = golden_directions(3, 6, slowest=0.01, fastest=2.0)
LAYOUTS = ["half", "interleaved"]


def matrix(axes, rotary_dim, base=10000.0):
    return RoPE(rotary_dim, layout="half", base=base, axes=axes).frequencies().inv_freq


def close(lib, got, wanted, atol=1e-6):
    np.testing.assert_allclose(lib.numpy(got), wanted, rtol=0, atol=atol)


# -- which axis drives which pair, by hand ---------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "rotary_dim", "driving"),
    [
        (Axial(1), 8, (0, 0, 0, 0)),
        (Axial(2), 8, (0, 0, 1, 1)),
        (Axial((2, 4)), 6, (0, 1, 1)),
        (Axial((4, 6, 6)), 16, (0, 0, 1, 1, 1, 2, 2, 2)),
        (Axial(2, arrangement="alternating"), 8, (0, 1, 0, 1)),
        (Axial(2, axis_order=(1, 0)), 8, (1, 1, 0, 0)),
        (Axial((2, 4), axis_order=(1, 0)), 6, (1, 1, 0)),
        (Axial(2, arrangement="alternating", axis_order=(1, 0)), 8, (1, 0, 1, 0)),
        (Axial(3, frequencies="shared", arrangement="alternating"), 12, (0, 1, 2, 0, 1, 2)),
        (AxisPerPair((0, 1, 1, 0, 2)), 10, (0, 1, 1, 0, 2)),
        (Sections((2, 1, 1)), 8, (0, 0, 1, 2)),
        (Sections((0, 2, 2)), 8, (1, 1, 2, 2)),
        (InterleavedSections((2, 2, 2)), 12, (0, 1, 2, 0, 1, 2)),
        (InterleavedSections((4, 1, 1)), 12, (0, 1, 2, 0, 0, 0)),
        (InterleavedSections((2, 1)), 6, (0, 1, 0)),
        # Qwen3-VL's own, and one whose turns end with the pairs: 11 + 11 + 10, not 8 + 12 + 12.
        (InterleavedSections((24, 20, 20)), 128, (0, 1, 2) * 20 + (0,) * 4),
        (InterleavedSections((8, 12, 12)), 64, ((0, 1, 2) * 11)[:32]),
    ],
)
def test_axis_of_pair(axes, rotary_dim, driving):
    assert axes.axis_of_pair(rotary_dim) == driving
    found = matrix(axes, rotary_dim)
    assert found.shape == (axes.n_axes, rotary_dim // 2)
    assert tuple(np.argmax(found, axis=0)) == driving
    assert np.count_nonzero(found) == rotary_dim // 2


@pytest.mark.parametrize(
    ("axes", "base", "rows"),
    [
        (Axial(2), 100, [[1, 0.1, 0, 0], [0, 0, 1, 0.1]]),
        (Axial((2, 6)), 1000, [[1, 0, 0, 0], [0, 1, 0.1, 0.01]]),
        (Axial(2, frequencies="shared"), 1e4, [[1, 0.01, 0, 0], [0, 0, 0.1, 0.001]]),
        (
            Axial(2, frequencies="shared", arrangement="alternating"),
            1e4,
            [[1, 0, 0.01, 0], [0, 0.1, 0, 0.001]],
        ),
        (
            Axial(2, frequencies="shared", axis_order=(1, 0)),
            1e4,
            [[0, 0, 0.1, 0.001], [1, 0.01, 0, 0]],
        ),
        (Axial(2, arrangement="alternating"), 100, [[1, 0, 0.1, 0], [0, 1, 0, 0.1]]),
        (Axial(2, scale=2.0), 100, [[2, 0.2, 0, 0], [0, 0, 2, 0.2]]),
        (Axial(2, bases=(100, 4)), 7, [[1, 0.1, 0, 0], [0, 0, 1, 0.5]]),
        (Axial(2, bases=(100, 4), axis_order=(1, 0)), 7, [[0, 0, 1, 0.1], [1, 0.5, 0, 0]]),
        (Sections((2, 1, 1)), 1e4, [[1, 0.1, 0, 0], [0, 0, 0.01, 0], [0, 0, 0, 0.001]]),
        (InterleavedSections((2, 1, 1)), 1e4, [[1, 0, 0, 0.001], [0, 0.1, 0, 0], [0, 0, 0.01, 0]]),
        (AxisPerPair((1, 0, 0, 1)), 1e4, [[0, 0.1, 0.01, 0], [1, 0, 0, 0.001]]),
        (Directions([[1, 2, 3, 4], [5, 6, 7, 8]]), 1e4, [[1, 2, 3, 4], [5, 6, 7, 8]]),
    ],
)
def test_matrices_by_hand(axes, base, rows):
    np.testing.assert_allclose(matrix(axes, 8, base), rows, rtol=1e-15)


@pytest.mark.eager
def test_a_grid_by_hand(lib):
    """Two axes, two pairs: the first turns with the row, the second with the column."""
    rope = RoPE(4, layout="interleaved", axes=Axial(2, scale=math.pi / 2))
    at = lib.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # (row, column)
    x = lib.array([[1.0, 0, 1, 0]] * 4, "float32")
    close(lib, rope(x, positions=at), [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]])


def test_split_by_hand(lib):
    """Quarter turns of the rows only: pairs (0, 2), (1, 3), or with split (0, 1)."""
    x = lib.array([[1.0, 2, 3, 4]], "float32")
    at = lib.array([[1], [0]])
    whole, split = (
        RoPE(4, layout="half", axes=Axial(2, scale=math.pi / 2, split=s)) for s in (False, True)
    )
    close(lib, whole(x, positions=at), [[-3, 2, 1, 4]])
    close(lib, split(x, positions=at), [[-2, 1, 3, 4]])


# -- by the oracle ---------------------------------------------------------------------------------

ORACLES = {
    "equal": (Axial(3), 12, lambda lay: reference.axial((4, 4, 4), 100.0, lay)),
    "widths": (Axial((2, 4, 6)), 12, lambda lay: reference.axial((2, 4, 6), 100.0, lay)),
    "split": (
        Axial((2, 4, 6), split=True),
        12,
        lambda lay: reference.axial((2, 4, 6), 100.0, lay, split=True),
    ),
    "axis per pair": (
        AxisPerPair((2, 0, 1, 1, 0)),
        10,
        lambda lay: reference.assigned((2, 0, 1, 1, 0), 3, 100.0, lay),
    ),
    "sections": (
        Sections((2, 1, 3)),
        12,
        lambda lay: reference.assigned((0, 0, 1, 2, 2, 2), 3, 100.0, lay),
    ),
    "interleaved": (
        InterleavedSections((2, 2, 1)),
        10,
        lambda lay: reference.assigned((0, 1, 2, 0, 1), 3, 100.0, lay),
    ),
    "dense": (GOLDEN, 12, lambda lay: reference.dense(GOLDEN.matrix, lay)),
}


def expected(x, at, pairs_of, start):
    """x (heads, seq, head_dim), positions (n_axes, seq)."""
    pairs_of = [(a + start, b + start, w) for a, b, w in pairs_of]
    return np.asarray(
        [
            [
                reference.rotate_on_axes(v, at[:, t].tolist(), pairs_of)
                for t, v in enumerate(head.tolist())
            ]
            for head in x
        ]
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ORACLES)
def test_rotation_is_the_oracles(lib, rng, name, layout):
    axes, rotary_dim, oracle = ORACLES[name]
    rope = RoPE(
        rotary_dim + 3,
        layout=layout,
        base=100.0,
        rotary_dim=rotary_dim,
        rotary_start=2,
        axes=axes,
    )
    x = rng.standard_normal((2, 6, rotary_dim + 3)).astype(np.float32)
    at = rng.integers(-(2**31), 2**31, (3, 6))
    wanted = expected(x, at, oracle(layout), 2)
    q = lib.array(x, "float32")
    close(lib, rope(q, positions=lib.array(at)), wanted, 2e-6)
    close(lib, rope.inverse(rope(q, positions=lib.array(at)), positions=lib.array(at)), x, 2e-6)
    # A batch of positions: (n_axes, batch, seq) belongs to the first axis of x, not to the heads.
    both = np.stack([at, at[:, ::-1]], axis=1)
    y = rope(lib.array(np.stack([x, x]), "float32"), positions=lib.array(both))
    close(lib, y[0, ...], wanted, 2e-6)
    close(lib, y[1, ...], expected(x, at[:, ::-1], oracle(layout), 2), 2e-6)


@pytest.mark.x64
@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_exact_at_every_position(lib, rng, n_axes, dtype):
    """Dense axes to ±2³¹, signs alternating, terms that cancel: as right as one axis is."""
    if dtype == "float64" and not lib.has_float64:
        pytest.skip(f"{lib.name} without float64")
    columns = [
        [1.0, -1.0, 1.0],
        [1 / 3, -1 / 3 + 2**-40, 1 / 7],
        [math.pi / 8, 1e-9, -17.25],
        [-0.7, 0.7, 0.7],
        [0.0, 0.3, 0.0],
        *rng.standard_normal((6, 3)).tolist(),
    ]
    rows = [[c[a] for c in columns] for a in range(n_axes)]
    edges = list(itertools.product((-(2**31), -1, 2**31 - 1), repeat=n_axes))
    at = np.concatenate(
        [
            np.asarray(edges).T,
            rng.integers(-(2**31), 2**31, (n_axes, 100)),
            rng.integers(-100, 100, (n_axes, 20)),
        ],
        axis=1,
    )
    cos, sin = rope_xp.cos_sin(lib.array(at), rows, dtype=lib.dtype(dtype))
    assert cos.dtype == lib.dtype(dtype)
    cos, sin = lib.numpy(cos), lib.numpy(sin)
    worst = mpmath.mpf(0)
    for t, i in itertools.product(range(at.shape[1]), range(len(columns))):
        true = reference.exact_cos_sin_of_sum(at[:, t].tolist(), [row[i] for row in rows])
        worst = max(worst, abs(cos[t, i] - true[0]), abs(sin[t, i] - true[1]))
    assert worst < {"float32": 1e-7, "float64": 3e-16}[dtype]


def test_eight_axes_are_exact(rng):
    rows = rng.standard_normal((8, 5)).tolist()
    at = rng.integers(-(2**31), 2**31, (8, 50))
    cos, _ = rope_xp.cos_sin(at, rows)
    for t, i in itertools.product(range(50), range(5)):
        true, _ = reference.exact_cos_sin_of_sum(at[:, t].tolist(), [row[i] for row in rows])
        assert abs(cos[t, i] - true) < 1e-7


def test_rounded_angles_are_sums_of_rounded_products(lib, rng):
    at = rng.integers(0, 5000, (2, 9))
    rows = [[1.0, 0.3, 0.0], [0.7, 0.0, 0.01]]
    cos, _ = rope_xp.cos_sin(lib.array(at), rows, precision="float32")
    f32 = np.float32
    angles = sum(at[a].astype(f32)[:, None] * np.asarray(rows[a], f32) for a in (0, 1))
    close(lib, cos, np.cos(angles.astype(float)), 2e-7)
    real, _ = rope_xp.cos_sin(lib.array(at / 7, "float32"), rows)
    close(lib, real, np.cos((at / 7).T @ np.asarray(rows)), 2e-3)


# -- learned directions ----------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_every_head_has_directions_of_its_own(lib, rng, whole):
    """(2, heads, 1, n_pairs) and positions (2, seq) give tables (heads, seq, n_pairs)."""
    learned = rng.standard_normal((2, 3, 1, 4)).astype(np.float32)
    at = rng.integers(0, 30, (2, 5)) if whole else rng.standard_normal((2, 5)).astype(np.float32)
    cos, sin = rope_xp.cos_sin(lib.array(at), lib.array(learned, "float32"))
    assert tuple(cos.shape) == (3, 5, 4)
    angles = np.einsum("as,ahi->hsi", at, learned[:, :, 0])
    close(lib, cos, np.cos(angles), 1e-5)
    close(lib, sin, np.sin(angles), 1e-5)
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    y = rope_xp.rotate(lib.array(x, "float32"), cos[None, ...], sin[None, ...], layout="half")
    for head in range(3):
        wanted = rope_xp.rotate(
            x[:, head], np.cos(angles[head]), np.sin(angles[head]), layout="half"
        )
        close(lib, y[:, head, ...], wanted, 3e-5)


def test_a_batch_of_positions_and_directions_of_every_head(lib, rng):
    learned, at = rng.standard_normal((2, 3, 1, 4)), rng.standard_normal((2, 6, 1, 5))
    cos, _ = rope_xp.cos_sin(lib.array(at, "float32"), lib.array(learned, "float32"))
    assert tuple(cos.shape) == (6, 3, 5, 4)  # as x (batch, heads, seq, 8)
    angles = np.einsum("abs,ahi->bhsi", at[:, :, 0], learned[:, :, 0])
    close(lib, cos, np.cos(angles), 1e-5)


def test_learned_matrix_is_the_constant_one(lib, rng):
    at = lib.array(rng.standard_normal((3, 2, 5)).astype(np.float32))
    fixed, learned = GOLDEN.matrix, lib.array(np.asarray(GOLDEN.matrix, np.float32))
    for a, b in zip(rope_xp.cos_sin(at, fixed), rope_xp.cos_sin(at, learned), strict=True):
        close(lib, a, lib.numpy(b), 1e-6)


# -- laws ------------------------------------------------------------------------------------------


@pytest.mark.eager
@pytest.mark.parametrize("axes", [*SHARED, Sections((4, 1, 1)), InterleavedSections((4, 1, 1))])
@pytest.mark.parametrize("precision", ["exact", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_coordinates_are_one_axis(lib, rng, axes, layout, precision):
    """To the bit: text keeps its positions. The default positions are equal coordinates."""
    several = RoPE(12, layout=layout, axes=axes, precision=precision)
    one = RoPE(12, layout=layout, precision=precision)
    x = lib.array(rng.standard_normal((2, 3, 5, 12)).astype(np.float32))
    at = rng.integers(-(2**31), 2**31, 5)
    y = several(x, positions=lib.array(np.stack([at] * 3)))
    np.testing.assert_array_equal(lib.numpy(y), lib.numpy(one(x, positions=lib.array(at))))
    for offset in (0, 7, lib.array([3, 10**6])):
        y, wanted = several(x, offset=offset), one(x, offset=offset)
        np.testing.assert_array_equal(lib.numpy(y), lib.numpy(wanted))


@pytest.mark.parametrize("scale", [scaling.YaRN(4.0, 64), scaling.DynamicNTK(4.0, 64)])
def test_schedules_go_through(scale):
    """Shared lists are the schedule's; axial ones are the schedule's for their widths."""
    one = RoPE(12, layout="half", scaling=scale)
    for seq_len in (None, 300):
        wanted = one.frequencies(seq_len)
        for axes in SHARED:
            found = RoPE(12, layout="half", scaling=scale, axes=axes).frequencies(seq_len)
            np.testing.assert_array_equal(found.inv_freq.sum(axis=0), wanted.inv_freq)
            assert found[1:] == wanted[1:]
        narrow = RoPE(6, layout="half", scaling=scale).frequencies(seq_len)
        found = RoPE(12, layout="half", scaling=scale, axes=Axial(2)).frequencies(seq_len)
        np.testing.assert_array_equal(found.inv_freq[0, :3], narrow.inv_freq)
        np.testing.assert_array_equal(found.inv_freq[1, 3:], narrow.inv_freq)
        assert found[1:] == narrow[1:]


@pytest.mark.eager
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", [False, True])
def test_one_axial_axis_is_one_axis(lib, rng, layout, split):
    x = lib.array(rng.standard_normal((2, 5, 8)).astype(np.float32))
    at = rng.integers(-(2**31), 2**31, 5)
    several = RoPE(8, layout=layout, axes=Axial(1, split=split))
    wanted = RoPE(8, layout=layout)(x, positions=lib.array(at))
    np.testing.assert_array_equal(
        lib.numpy(several(x, positions=lib.array(at[None]))), lib.numpy(wanted)
    )


@pytest.mark.parametrize("axes", [s for s in SCHEMES if hasattr(s, "axis_of_pair")], ids=repr)
def test_a_step_along_one_axis_changes_its_pairs_only(rng, axes):
    at = rng.integers(-1000, 1000, (3, 4))
    rope = RoPE(12, layout="half", axes=axes)
    before, _ = rope.cos_sin(at)
    for axis in range(3):
        moved = at.copy()
        moved[axis] += 1
        after, _ = rope.cos_sin(moved)
        changed = (before != after).any(axis=0)
        np.testing.assert_array_equal(changed, np.equal(axes.axis_of_pair(12), axis))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axes", SCHEMES, ids=repr)
def test_scores_depend_on_differences_of_coordinates(rng, axes, layout):
    rope = RoPE(12, layout=layout, axes=axes)
    q, k = rng.standard_normal((2, 1, 12))
    for _ in range(10):
        m, n, step = rng.integers(-(2**29), 2**29, (3, 3, 1))
        score = rope(q, positions=m) @ rope(k, positions=n).T
        shifted = rope(q, positions=m + step) @ rope(k, positions=n + step).T
        np.testing.assert_allclose(score, shifted, rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            rope.shift(rope(k, positions=n), step[:, 0]),
            rope(k, positions=n + step),
            rtol=0,
            atol=1e-13,
        )


def test_axis_order_permutes(rng):
    """Reordering axes is reordering the positions' axes."""
    at = rng.integers(0, 1000, (3, 5))
    for order in itertools.permutations(range(3)):
        for options in ({}, {"arrangement": "alternating"}, {"frequencies": "shared"}):
            rope = RoPE(12, layout="half", axes=Axial(3, axis_order=order, **options))
            plain = RoPE(12, layout="half", axes=Axial(3, **options))
            for a, b in zip(rope.cos_sin(at), plain.cos_sin(at[list(order)]), strict=True):
                np.testing.assert_array_equal(a, b)


def test_split_is_each_axis_rotated_alone(lib, rng):
    x = rng.standard_normal((2, 5, 14)).astype(np.float32)
    at = rng.integers(0, 1000, (3, 5))
    rope = RoPE(14, layout="half", rotary_start=1, rotary_dim=12, axes=Axial((2, 4, 6), split=True))
    q = lib.array(x, "float32")
    y = lib.numpy(rope(q, positions=lib.array(at)))
    start = 1
    for axis, width in enumerate((2, 4, 6)):
        alone = RoPE(width, layout="half")(x[..., start : start + width], positions=at[axis])
        np.testing.assert_allclose(y[..., start : start + width], alone, rtol=0, atol=1e-6)
        start += width
    np.testing.assert_array_equal(y[..., [0, 13]], x[..., [0, 13]])
    # With interleaved pairs there is nothing to split.
    same = [RoPE(12, layout="interleaved", axes=Axial(3, split=s)) for s in (False, True)]
    a, b = (lib.numpy(r(lib.array(x[..., :12]), positions=lib.array(at))) for r in same)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_writes_in_place(lib, rng, layout):
    if lib.name in ("jax", "dask"):
        pytest.skip(f"{lib.name} cannot be written")
    rope = RoPE(10, layout=layout, rotary_dim=8, rotary_start=1, axes=Axial(2, split=True))
    x = lib.array(rng.standard_normal((5, 10)).astype(np.float32))
    tables = rope.cos_sin(lib.array(rng.integers(0, 99, (2, 5))))
    wanted = lib.numpy(rope.rotate(x, *tables))
    out = lib.array(np.zeros((5, 10), np.float32))
    assert rope.rotate(x, *tables, out=out) is out
    np.testing.assert_array_equal(lib.numpy(out), wanted)
    rope.rotate(x, *tables, out=x)
    np.testing.assert_array_equal(lib.numpy(x), wanted)


def test_shift_moves_along_the_axes(lib, rng):
    rope = RoPE(8, layout="half", axes=Axial(2))
    x = lib.array(rng.standard_normal((3, 2, 5, 8)).astype(np.float32))
    at = rng.integers(0, 1000, (2, 5))
    k = rope(x, positions=lib.array(at))
    for delta in (
        [4, -7],
        [[[4], [5], [6]], [[-7], [0], [9]]],
        rng.integers(-9, 9, (2, 5)),
        rng.integers(-9, 9, (2, 3, 5)),
    ):
        delta = np.asarray(delta)
        by = delta.reshape(2, 1, -1) if delta.ndim < 3 else delta  # (2, batch, seq)
        moved = np.broadcast_to(at[:, None] + by, (2, 3, 5))
        wanted = lib.numpy(rope(x, positions=lib.array(moved)))
        close(lib, rope.shift(k, lib.array(delta)), wanted)
    for delta in (3, lib.array(3, "int32")):  # the same along every axis
        close(lib, rope.shift(k, delta), lib.numpy(rope(x, positions=lib.array(at + 3))))


@pytest.mark.parametrize(
    ("rope", "is_text"),
    [
        *((RoPE(12, layout="half", axes=scheme), scheme in SHARED) for scheme in SCHEMES),
        (RoPE(8, layout="half", axes=Axial(1, scale=2.0)), True),  # one axis has no diagonal
        (RoPE(8, layout="half", axes=Axial(2, scale=2.0)), False),
        (RoPE(8, layout="half", axes=Axial(2, frequencies="shared")), False),
        # The same pairs as in turns.
        (
            RoPE(
                8,
                layout="half",
                axes=Axial(2, arrangement="alternating", frequencies="shared"),
                scaling=YaRN(4.0, 2048),
                precision="float32",
            ),
            True,
        ),
        (RoPE(8, layout="half", axes=Sections((1, 3)), scaling=Linear(3.0)), True),
    ],
    ids=repr,
)
def test_only_text_has_default_positions(rope, is_text):
    """Where equal coordinates are text. In an image they are the diagonal, which nobody means."""
    x = np.ones((2, 5, rope.head_dim), np.float32)
    calls = [
        lambda: rope(x),
        lambda: rope(x, offset=3),
        lambda: rope.inverse(x),
        lambda: linear_attention(x, x, x, rope=rope),
    ]
    if is_text:
        assert [call().shape for call in calls] == [x.shape] * 4
        if type(rope.axes) is not Axial:
            one = dataclasses.replace(rope, axes=None)
            np.testing.assert_array_equal(rope(x, offset=3), one(x, offset=3))
        return
    for call in calls:
        with pytest.raises(ValueError, match=r"positions` must be given, shape \(n_axes=\d, seq\)"):
            call()


def test_tables_are_contiguous(rng):
    """Rotating with tables that came out pairs first took twice as long."""
    for axes in (Axial(3), GOLDEN):
        rope = RoPE(12, layout="half", axes=axes)
        for at in (rng.integers(0, 9, (3, 5)), rng.standard_normal((3, 2, 5))):
            assert all(table.flags.c_contiguous for table in rope.cos_sin(at))


# -- golden directions -----------------------------------------------------------------------------


def erfinv(x):
    return float(mpmath.erfinv(x))


@pytest.mark.parametrize("first", [0, 6])
@pytest.mark.parametrize("n_axes", [1, 2, 3, 4])
@pytest.mark.parametrize("still", [0.0, 0.3])
def test_golden_directions_are_those_of_the_source(n_axes, still, first):
    """The recipe of jerryxio.ng/posts/nd-rope step by step."""
    phi = 2.0
    for _ in range(10):
        phi = (1 + phi) ** (1 / (1 + n_axes))
    n_zero = round(still * 6)
    speeds = [0.0] * n_zero + list(0.2 * (50 / 0.2) ** np.linspace(0, 1, 6 - n_zero))
    found = golden_directions(n_axes, 6, slowest=0.2, fastest=50.0, still=still, first=first)
    for i, speed in enumerate(speeds):
        z = [(first + i + 1) * phi**-j % 1 for j in range(1, n_axes + 1)]
        direction = np.asarray([erfinv(2 * value - 1) for value in z])
        wanted = speed * direction / np.linalg.norm(direction)
        np.testing.assert_allclose([row[i] for row in found.matrix], wanted, rtol=0, atol=1e-12)


def test_golden_directions_are_spread_evenly():
    """In the plane: 64 directions leave no gap above twice the mean; each is one of a kind."""
    x, y = np.asarray(golden_directions(2, 64, slowest=1.0, fastest=1.0).matrix)
    np.testing.assert_allclose(np.hypot(x, y), 1.0)
    gaps = np.diff(np.sort(np.arctan2(y, x) % np.pi))
    assert gaps.max() < 4 * np.pi / 64
    assert len({*zip(x, y, strict=True)}) == 64


# -- the values ------------------------------------------------------------------------------------


def test_values_are_normalized():
    assert Axial([4, np.int64(6)], axis_order=[1, 0], scale=2) == Axial(
        (4, 6), axis_order=(1, 0), scale=2.0
    )
    assert Axial(np.int64(2)) == Axial(2)
    assert type(Axial(np.int64(2)).widths) is int
    assert Sections([1, 2]) == Sections((1, 2))
    assert Directions(np.ones((2, 3))) == Directions(((1.0,) * 3,) * 2)


def test_bases_of_axes_in_a_sinusoid():
    """A scheme asks whoever uses it for the frequencies of its bases."""
    at = np.asarray([[3, 0], [0, 5]])
    axes = Axial(2, split=True, bases=(100, 10000))
    found = rope_xp.sinusoidal(at, 8, order="sin_cos", axes=axes)
    one, other = (
        rope_xp.sinusoidal(at[a], 4, base=base, order="sin_cos") for a, base in ((0, 100), (1, 1e4))
    )
    np.testing.assert_allclose(found, np.concatenate([one, other], axis=-1), rtol=0, atol=1e-7)


def test_frequencies_are_made_once_for_a_width():
    """Each pair asks for its own; the schedule is not run each time."""
    widths = []

    class Counting(scaling.Linear):
        def __call__(self, rotary_dim, base, **options):
            widths.append(rotary_dim)
            return super().__call__(rotary_dim, base, **options)

    RoPE(128, layout="half", scaling=Counting(2.0), axes=Axial((16, 56, 56)))
    assert widths == [16, 56]


# -- xPos ------------------------------------------------------------------------------------------


def test_xpos_by_hand(lib):
    """ζ = (0 + 0.4) / 1.4 and (½ + 0.4) / 1.4, to the power of (m − c) / 512."""
    scale = rope_xp.phases.xpos_scale(lib.array([0, 512, -512, 256]), 2)
    assert scale.dtype == lib.dtype("float32")
    slow, fast = 0.9 / 1.4, 0.4 / 1.4
    wanted = [[1, 1], [fast, slow], [1 / fast, 1 / slow], [fast**0.5, slow**0.5]]
    np.testing.assert_allclose(lib.numpy(scale), wanted, rtol=1e-6)
    half = rope_xp.phases.xpos_scale(lib.array([10.5], "float32"), 2, scale_base=2, center=9.5)
    np.testing.assert_allclose(lib.numpy(half), [[fast**0.5, slow**0.5]], rtol=1e-6)


@pytest.mark.parametrize("center", [2**24 + 1, 2.0**24 + 1, 2**24 + 1.5, 2**30 + 1.0])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_xpos_around_a_center_that_float32_has_not(lib, center, dtype):
    """Positions of one clock are close to each other, not to 0; the center is not rounded."""
    at = np.asarray([0, 128, 640]) + (2**24 if center < 2**29 else 2**30)
    scale = rope_xp.phases.xpos_scale(lib.array(at, dtype), 2, center=center)
    wanted = np.asarray([0.4 / 1.4, 0.9 / 1.4]) ** ((at[:, None] - center) / 512)
    np.testing.assert_allclose(lib.numpy(scale), wanted, rtol=1e-6)


@pytest.mark.parametrize("far", [0, 2**30])
def test_xpos_scores_fade_with_the_distance(lib, rng, far):
    """ζ^((m−n)/b) in each pair's part of the score, wherever the two are, and exact however far out."""
    rope = RoPE(8, layout="half", base=100.0)
    q, k = rng.standard_normal((2, 6, 8)).astype(np.float32)
    at = lib.array(np.arange(6) * 50 + far)
    cos, sin = rope.cos_sin(at)
    scale = rope_xp.phases.xpos_scale(at, 4, center=far + 100)
    turned = lib.numpy(rope.rotate(lib.array(q), cos * scale, sin * scale))
    keys = lib.numpy(rope.rotate(lib.array(k), cos / scale, sin / scale))
    for m, n in itertools.product(range(6), repeat=2):
        wanted = sum(
            (
                complex(q[m, i], q[m, i + 4])
                * complex(k[n, i], k[n, i + 4]).conjugate()
                * np.exp(1j * 50 * (m - n) * 100 ** (-i / 4))
            ).real
            * ((i / 4 + 0.4) / 1.4) ** (50 * (m - n) / 512)
            for i in range(4)
        )
        assert abs(turned[m] @ keys[n] - wanted) < 2e-5


# -- a schedule for each axis ----------------------------------------------------------------------

BASE = 100.0
TIMES = (Linear(2.0), None, Linear(4.0))  # what divides the frequencies of an axis
DIVISORS = (2.0, 1.0, 4.0)
PER_AXIS = [scheme for scheme in SCHEMES if not isinstance(scheme, Directions)]


@dataclasses.dataclass(frozen=True)
class Sums:
    """Dense, of one's own: every axis drives every pair, as fast as its schedule says."""

    n_axes: int = 3

    def blocks(self, rotary_dim):
        return (rotary_dim,)

    def __call__(self, rotary_dim, frequencies):
        return [frequencies(rotary_dim, axis=axis) for axis in range(self.n_axes)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [name for name in ORACLES if name != "dense"])
def test_a_schedule_for_each_axis_is_the_oracles(lib, rng, name, layout):
    axes, rotary_dim, oracle = ORACLES[name]
    rope = RoPE(rotary_dim, layout=layout, base=BASE, axes=axes, scaling=TIMES)
    pairs = [
        (a, b, [w / divisor for w, divisor in zip(own, DIVISORS, strict=True)])
        for a, b, own in oracle(layout)
    ]
    x = rng.standard_normal((2, 6, rotary_dim)).astype(np.float32)
    at = rng.integers(-(2**31), 2**31, (3, 6))
    wanted = expected(x, at, pairs, 0)
    got = rope(lib.array(x, "float32"), positions=lib.array(at))
    close(lib, got, wanted, 2e-6)
    close(lib, rope.inverse(got, positions=lib.array(at)), x, 2e-6)


@pytest.mark.parametrize("axes", [*PER_AXIS, Sums()], ids=repr)
@pytest.mark.parametrize("schedule", [Linear(4.0), YaRN(4.0, 64), scaling.NTK(3.0)], ids=repr)
def test_schedules_of_axes_are_those_of_all_axes_row_by_row(axes, schedule):
    """The row of an axis is the one that its schedule gives where it is the schedule of all."""
    make = dataclasses.replace(RoPE(12, layout="half", axes=axes), base=BASE)
    schedule = (
        dataclasses.replace(schedule, attention_factor=1.0) if type(schedule) is YaRN else schedule
    )
    plain = make.frequencies().inv_freq
    slowed = dataclasses.replace(make, scaling=schedule).frequencies().inv_freq
    for axis in range(3):
        scaling_of = tuple(schedule if a == axis else None for a in range(3))
        got = dataclasses.replace(make, scaling=scaling_of)
        wanted = [slowed[a] if a == axis else plain[a] for a in range(3)]
        np.testing.assert_array_equal(got.frequencies().inv_freq, wanted)
        assert got != make


def test_equal_schedules_of_all_axes_are_one():
    make = dataclasses.replace(RoPE(12, layout="half", axes=Axial(3)), base=BASE)
    for each in ((None,) * 3, [scaling.Default()] * 3, (None, scaling.Default(), None)):
        assert dataclasses.replace(make, scaling=each) == make
    same = dataclasses.replace(make, scaling=YaRN(4.0, 64))
    assert dataclasses.replace(make, scaling=[YaRN(4, 64)] * 3) == same
    assert same.frequencies().attention_factor > 1
    neutral = dataclasses.replace(make, scaling=(Linear(1.0), None, scaling.NTK(1.0)))
    np.testing.assert_array_equal(neutral.frequencies().inv_freq, make.frequencies().inv_freq)


def test_schedules_of_axes_print_and_pickle():
    rope = RoPE(
        12, layout="half", axes=Sections((2, 1, 3)), scaling=[scaling.RIFLEx(2, 66), None, None]
    )
    names = {**vars(scaling), "RoPE": RoPE, "Sections": Sections}
    assert eval(repr(rope), names) == rope
    assert pickle.loads(pickle.dumps(rope)) == rope
    assert hash(pickle.loads(pickle.dumps(rope))) == hash(rope)
    assert "scaling=(RIFLEx(k=2, L_test=66.0), None, None)" in repr(rope)


def test_text_keeps_its_positions_with_a_schedule_for_an_axis(lib, rng):
    """In a scheme of text with images, equal coordinates are those of text whatever the schedules."""
    rope = RoPE(12, layout="half", axes=Sections((2, 1, 3)), scaling=TIMES)
    x = lib.array(rng.standard_normal((1, 4, 12)), "float32")
    at = lib.array(np.broadcast_to(np.arange(4), (3, 4)))
    close(lib, rope(x), lib.numpy(rope(x, positions=at)))


def test_riflex_in_time_only():
    """HunyuanVideo: its fourth pair of time stays below a turn within 66 frames, all else is as it was."""
    make = RoPE(128, layout="interleaved", base=256.0, axes=Axial((16, 56, 56)))
    got = dataclasses.replace(make, scaling=(scaling.RIFLEx(4, 66), None, None))
    got, wanted = got.frequencies().inv_freq, make.frequencies().inv_freq.copy()
    assert wanted[0, 3] == 256 ** (-6 / 16)
    wanted[0, 3] = 0.9 * 2 * math.pi / 66
    np.testing.assert_array_equal(got, wanted)
    own = scaling.Custom(tuple(wanted[0, :8].tolist()))
    own = dataclasses.replace(make, scaling=(own, None, None)).frequencies().inv_freq
    np.testing.assert_array_equal(own, wanted)


def test_a_length_for_each_axis(lib, rng):
    """A video has more frames than rows: each axis can have its length in use, and its schedule."""
    dynamic = scaling.DynamicNTK(4.0, 16)
    make = RoPE(24, layout="half", base=BASE, axes=Axial(3))
    rope = dataclasses.replace(make, scaling=(dynamic, None, dynamic))
    row = {n: dynamic(8, BASE, seq_len=n).inv_freq for n in (None, 64, 100)}
    plain = row[None]
    for seq_len, first, last in (
        (None, plain, plain),
        (64, row[64], row[64]),
        ((64, None, None), row[64], plain),
        ((64, 5, 100), row[64], row[100]),
        ([64, 64, 64], row[64], row[64]),
        ((8, 9, 16), plain, plain),
    ):
        got = rope.frequencies(seq_len).inv_freq
        np.testing.assert_array_equal(got[0, :4], first)
        np.testing.assert_array_equal(got[1, 4:8], plain)
        np.testing.assert_array_equal(got[2, 8:], last)
    one = dataclasses.replace(make, scaling=dynamic)
    np.testing.assert_array_equal(
        one.frequencies((64, None, 100)).inv_freq, rope.frequencies((64, None, 100)).inv_freq
    )
    x, at = rng.standard_normal((2, 5, 24)), rng.integers(0, 100, (3, 5))
    fixed = scaling.Custom(row[64])
    fixed = dataclasses.replace(make, scaling=(fixed, None, None))
    x, at = lib.array(x, "float32"), lib.array(at)
    got = rope(x, positions=at, seq_len=(64, None, None))
    close(lib, got, lib.numpy(fixed(x, positions=at)), 1e-7)
    moved = rope.shift(got, 3, seq_len=(64, None, None))
    close(lib, moved, lib.numpy(rope(x, positions=at + 3, seq_len=(64, None, None))), 3e-6)


def test_explain_says_a_schedule_for_each_axis():
    rope = RoPE(24, layout="half", axes=Axial(3), scaling=(Linear(2.0), None, None))
    text = configs.explain(rope)
    assert "schedule          (Linear(factor=2.0), None, None)" in text
    assert "8 unchanged, 4 interpolated by 2" in text
    other = dataclasses.replace(rope, scaling=(scaling.DynamicNTK(2.0, 16), None, None))
    assert "at 17 tokens" in configs.explain_difference(
        dataclasses.replace(rope, scaling=None), other
    )
    with pytest.raises(ValueError, match=r"a schedule that a rope_type describes, got \(Linear"):
        configs.to_config(rope)
