"""`cases`, `assert_rotates` and the adapters: expected values, tolerances, and what is refused."""

import dataclasses
import re

import numpy as np
import pytest
import reference

from rope_xp import RoPE, axes, scaling
from rope_xp.testing import (
    RotationError,
    assert_rotates,
    cases,
    check,
    from_offset,
    from_sequence,
)

HALF = RoPE(8, layout="half")
PARTIAL = RoPE(10, layout="interleaved", rotary_dim=6, rotary_start=2, base=100.0)
SCALED = RoPE(8, layout="half", scaling=scaling.YaRN(4.0, 64, attention_factor=1.5))
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


def of(lib, **options):
    return cases(options.pop("rope", HALF), xp=lib.xp, device=lib.device, **options)


# -- what is expected --------------------------------------------------------------------------------


@pytest.mark.parametrize("rope", [HALF, PARTIAL], ids=["half", "partial"])
def test_expected_values_are_those_of_the_definition(rope):
    for case in cases(rope, dtypes=["float64"], max_position=10_000):
        if case.x.size > 1000:
            continue
        places = np.broadcast_to(case.positions, (case.x.shape[0], case.x.shape[2]))
        inv_freq = reference.inv_freq(rope.rotary_dim, rope.base)
        for sign, x, wanted in (
            (1, case.x, case.expected),
            (-1, case.grad_out, case.expected_grad),
        ):
            want = [
                reference.rotate(row.tolist(), sign * at, inv_freq, rope.layout, rope.rotary_start)
                for row, at in zip(x, places, strict=True)
            ]
            np.testing.assert_allclose(wanted, want, rtol=0, atol=2e-12 * np.abs(want).max())


def test_the_gradient_is_multiplied_by_the_factor():
    for case in cases(SCALED, takes="tables", dtypes=["float64"], max_position=100):
        # ⟨R x, g⟩ = ⟨x, Rᵀ g⟩ for every g.
        left = (case.expected * case.grad_out).sum()
        assert left == pytest.approx((case.x * case.expected_grad).sum(), rel=1e-12)
        np.testing.assert_allclose(
            np.linalg.norm(case.expected_grad), 1.5 * np.linalg.norm(case.grad_out), rtol=1e-12
        )


def test_of_tables_it_is_their_rounded_values(lib):
    if lib.name == "dask":
        pytest.skip("a lazy library has no kernels")
    low = [d for d in ("float16", "bfloat16") if hasattr(lib.xp, d)] or ["float32"]
    for case in of(lib, takes="tables", dtypes=["float32"], table_dtype=low[0]):
        x, cos, sin = (lib.numpy(a) for a in (case.x, case.cos, case.sin))
        cos, sin = (t[:, None] if t.ndim == 3 else t for t in (cos, sin))
        want = x[..., :4] * cos - x[..., 4:] * sin
        np.testing.assert_allclose(case.expected[..., :4], want, rtol=0, atol=1e-14)


@pytest.mark.eager
def test_the_library_is_within_the_tolerance(lib):
    eager_jax = lib.name == "jax"  # compiles each operation for each shape
    for rope in (PARTIAL,) if eager_jax else (HALF, PARTIAL, SCALED):
        rows = False if eager_jax else None
        made = of(lib, rope=rope, takes="tables", rounds_once=True, rows=rows)
        assert len({case.dtype for case in made}) >= (3 if lib.name == "numpy" else 1)
        for case in made:
            got = lib.numpy(rope.rotate(case.x, case.cos, case.sin))
            assert (np.abs(got - case.expected) <= case.tolerance).all(), case
            got = lib.numpy(rope.rotate(case.grad_out, case.cos, case.sin, inverse=True))
            assert (np.abs(got - case.expected_grad) <= case.grad_tolerance).all(), case


@pytest.mark.eager
def test_the_library_rotates_to_positions(lib):
    if lib.name == "jax":
        pytest.skip("XLA compiles for a second for each shape")
    for rope in (HALF, dataclasses.replace(SCALED, precision="float32")):
        for case in of(lib, rope=rope):
            got = lib.numpy(rope(case.x, positions=case.positions))
            assert (np.abs(got - case.expected) <= case.tolerance).all(), case


# -- tolerances --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_tolerance_is_what_the_docstring_says(dtype):
    u, t = ROUNDING[dtype], {"float16": 2.0**-25, "float32": 2.0**-126, "float64": 0}[dtype]
    for case in cases(HALF, takes="tables", dtypes=[dtype])[:4]:
        x = case.x.astype(np.float64)
        cos, sin = (a.astype(np.float64) for a in (case.cos, case.sin))
        a, b = x[..., :4], x[..., 4:]
        y = np.abs(a * cos - b * sin)
        want = u * (2 * np.abs(a * cos) + 2 * np.abs(b * sin) + y) * (1 + 4 * u)
        want = want * (2 if dtype == "float64" else 1) + t * (np.abs(a) + np.abs(b) + 3)
        np.testing.assert_allclose(case.tolerance[..., :4], want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_at_every_step_is_allowed_and_more_is_not(dtype):
    pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 from ml_dtypes")

    def rotate(x, cos, sin, twice=False):
        cos, sin = (t[:, None] if t.ndim == 3 else t for t in (cos, sin))
        cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
        if twice:  # tables that are the sum of two rounded ones
            cos, sin = (t * x.dtype.type(1.01) / x.dtype.type(1.01) for t in (cos, sin))
        a, b = x[..., :4], x[..., 4:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    options = {"takes": "tables", "dtypes": [dtype]}
    assert_rotates(rotate, HALF, **options)
    with pytest.raises(RotationError, match=f"rounded to {dtype} each"):
        assert_rotates(rotate, HALF, rounds_once=True, **options)


def test_features_outside_of_the_rotated_part_have_no_tolerance():
    for case in cases(PARTIAL):
        static = [0, 1, 8, 9]
        assert not case.tolerance[..., static].any()
        np.testing.assert_array_equal(case.expected[..., static], case.x[..., static])
        assert (case.tolerance[..., 2:8] > 0).all()


def test_angles_of_float32_are_allowed_where_they_are_asked_for():
    rounded = dataclasses.replace(HALF, precision="float32")

    def rotate(x, positions):
        return rounded(x, positions=positions)

    assert_rotates(rotate, rounded)
    with pytest.raises(RotationError, match="angles rounded to float32"):
        assert_rotates(rotate, HALF)


def test_numbers_that_a_dtype_does_not_have_are_left_out():
    large = RoPE(8, layout="half", scaling=scaling.YaRN(4.0, 64, attention_factor=2.0**20))
    assert {case.dtype for case in cases(large)} == {"float32", "float64"}


# -- the grid ----------------------------------------------------------------------------------------


def test_what_is_tried():
    made = cases(HALF)
    assert {case.x.shape[0] for case in made} == {1, 3}
    assert {case.x.shape[1] for case in made} == {1, 3, 5}
    assert {case.x.shape[2] for case in made} == {1, 3, 7, 17, 131}
    assert max(int(case.positions.max()) for case in made) == 1_000_000
    assert len({case.name for case in made}) == len(made)
    # One token in each of several rows, at positions of their own.
    assert any(case.x.shape[0] > 1 == case.x.shape[2] < case.positions.ndim for case in made)
    assert str(made[0]) == repr(made[0]) == made[0].name


def test_views_and_what_is_around_them(lib):
    made = of(lib, dtypes=["float32"])
    if lib.name not in ("numpy", "torch", "cupy"):
        assert all(case.memory is None and case.outside is None for case in made)
        assert len(made) == 9
        return
    assert len(made) == 14
    strides = set()
    for case in made:
        memory, x = lib.numpy(case.memory), lib.numpy(case.x)
        assert (memory[case.outside] == 5).all()
        if not case.expanded:
            assert np.count_nonzero(~case.outside) == x.size
            np.testing.assert_array_equal(np.sort(memory[~case.outside]), np.sort(x.ravel()))
            case.memory[...] = 0
            assert not lib.numpy(case.x).any()
        steps = case.x.stride() if lib.name == "torch" else case.x.strides
        strides.add(tuple(np.argsort(steps, kind="stable")))
    assert sum(case.expanded for case in made) == 1
    assert len(strides) >= 3
    assert len(of(lib, dtypes=["float32"], views=False)) == 9


@pytest.mark.parametrize(
    ("options", "ndims"), [({}, {1, 2}), ({"rows": True}, {2}), ({"rows": False}, {1})]
)
def test_shapes_of_positions(options, ndims):
    made = cases(HALF, **options)
    assert {case.positions.ndim for case in made} == ndims
    for case in made:
        assert case.positions.shape[-1] == case.x.shape[2]


def test_positions_stay_below_the_largest():
    made = cases(HALF, max_position=20)
    assert max(int(case.positions.max()) for case in made) == 20


def test_axes_get_positions_of_their_own():
    rope = RoPE(12, layout="half", axes=axes.Axial((4, 8)))
    for case in cases(rope):
        assert case.positions.shape[0] == 2
        assert (case.positions[0] != case.positions[1]).any()
    assert_rotates(lambda x, positions: rope(x, positions=positions), rope)
    with pytest.raises(RotationError):
        assert_rotates(lambda x, positions: rope(x, positions=positions[::-1]), rope)


def test_tokens_before_heads():
    for case in cases(PARTIAL, seq_axis=-3, takes="tables"):
        got = PARTIAL.rotate(case.x, case.cos, case.sin, seq_axis=-3)
        assert (np.abs(got - case.expected) <= case.tolerance).all(), case


@pytest.mark.parametrize("rope", [HALF, PARTIAL], ids=["half", "interleaved"])
def test_tables_as_wide_as_the_rotated_part(rope):
    narrow = cases(rope, takes="tables")
    for case, wide in zip(narrow, cases(rope, takes="tables", repeated=True), strict=True):
        n = rope.n_pairs
        at = slice(0, n) if rope.layout == "half" else slice(0, None, 2)
        other = slice(n, None) if rope.layout == "half" else slice(1, None, 2)
        assert wide.cos.shape[-1] == rope.rotary_dim
        for part in (at, other):
            np.testing.assert_array_equal(wide.sin[..., part], case.sin)
        np.testing.assert_array_equal(wide.expected, case.expected)


# -- assert_rotates ----------------------------------------------------------------------------------


def in_place(x, cos, sin, inverse=False):
    HALF.rotate(x, cos, sin, inverse=inverse, out=x)


def undo(grad_out, cos, sin):
    return HALF.rotate(grad_out, cos, sin, inverse=True)


def test_right_ones_pass():
    assert_rotates(HALF.rotate, HALF, takes="tables", gradient=undo)
    assert_rotates(in_place, HALF, takes="tables", in_place=True, gradient=undo)
    assert_rotates(in_place, HALF, takes="tables", in_place=True)
    assert_rotates(
        lambda x, p: SCALED(x, positions=p),
        SCALED,
        gradient=lambda g, p: SCALED.inverse(g, positions=p) * g.dtype.type(2.25),
    )


@pytest.mark.backend("torch")
def test_the_gradient_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    options = {"takes": "tables", "gradient": "autodiff", "xp": torch}
    assert_rotates(SCALED.rotate, SCALED, **options)
    with pytest.raises(RotationError, match="does not depend on x to autograd"):
        assert_rotates(lambda x, c, s: SCALED.rotate(x.detach(), c, s), SCALED, **options)

    def wrong(x, cos, sin):  # the right numbers, and x as its own gradient
        return x + (SCALED.rotate(x, cos, sin) - x).detach()

    with pytest.raises(RotationError, match="a gradient that is not rotated"):
        assert_rotates(wrong, SCALED, dtypes=["float64"], **options)


@pytest.mark.backend("jax")
def test_the_gradient_of_jax():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    options = {"takes": "tables", "gradient": "autodiff", "xp": jax.numpy, "dtypes": ["float32"]}
    assert_rotates(HALF.rotate, HALF, rows=False, max_position=8, **options)


def changes(*, what):
    def rotate(x, cos, sin):
        y = HALF.rotate(x, cos, sin)
        {"x": x, "tables": cos}[what][...] = 0.5
        return y

    return rotate


def writes_too_much(x, cos, sin):
    in_place(x, cos, sin)
    memory = x if x.base is None else x.base
    memory.reshape(-1)[-1:] *= 2


def forgets(count):
    """A gradient that is right as often as ``count``."""
    calls = []

    def gradient(g, c, s):
        calls.append(1)
        return undo(g, c, s) if len(calls) <= count else g

    return gradient


def rows_of_the_first(x, cos, sin):
    return HALF.rotate(x, *(t[:1] if t.ndim == 3 else t for t in (cos, sin)))


MISTAKES = {
    "another layout": (
        RoPE(8, layout="interleaved").rotate,
        {},
        (
            r"Case 'positions from 0 on, float32': x \(1, 5, 17, 8\), positions \(17,\). row 0, .* difference .*"
            "interleaved pairing"
        ),
    ),
    "nothing": (lambda x, c, s: None, {}, "returned None; .*pass in_place=True"),
    "another library": (lambda x, c, s: "x", {}, "returned 'x' for an array of numpy"),
    "a shape": (lambda x, c, s: x[..., :4], {}, r"of shape \(1, 5, 17, 4\) for x of shape"),
    "a dtype": (
        lambda x, c, s: HALF.rotate(x.astype(float), c, s),
        {},
        "of dtype float64 for x of dtype float32",
    ),
    "x changed": (changes(what="x"), {}, "It changed x; .*pass in_place=True"),
    "tables changed": (changes(what="tables"), {}, "It changed the tables"),
    "memory around": (writes_too_much, {"in_place": True}, "It wrote outside of x: of the 4096"),
    "not in place": (HALF.rotate, {"in_place": True}, "not rotated"),
    "an error": (lambda x, c, s: 1 / 0, {}, "raised ZeroDivisionError: .*dtypes=, rows="),
    "the first row": (rows_of_the_first, {}, "'an offset for each row.*rows 1 to 2 of 3"),
    "a gradient": (HALF.rotate, {"gradient": HALF.rotate}, "sin has the other sign"),
    "a gradient, zero": (
        HALF.rotate,
        {"gradient": lambda g, c, s: undo(g, c, s) * 0},
        "looks like zeros",
    ),
    "no inverse": (HALF.rotate, {"gradient": forgets(1)}, "`gradient` .*It must undo `fn`"),
    "a few digits": (
        lambda x, c, s: HALF.rotate(x.astype("f2"), c, s).astype(x.dtype),
        {},
        "those of arithmetic in float16",
    ),
    "not a number": (lambda x, c, s: HALF.rotate(x, c, s) * np.float32("nan"), {}, "not finite"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", MISTAKES)
def test_wrong_ones_are_named(name):
    fn, options, text = MISTAKES[name]
    with pytest.raises(RotationError, match=text):
        assert_rotates(fn, HALF, takes="tables", dtypes=["float32"], **options)


def test_the_inverse_is_no_gradient_where_there_is_a_factor():
    with pytest.raises(RotationError, match="the gradient multiplies by it"):
        assert_rotates(
            lambda x, p: SCALED(x, positions=p),
            SCALED,
            gradient=lambda g, p: SCALED.inverse(g, positions=p),
        )


def test_strides_that_are_ignored():
    def contiguous(x, cos, sin):
        memory = x if x.base is None else x.base
        if memory.ndim > 1:  # as a kernel that computes addresses from shapes
            x = memory.reshape(-1)[: x.size].reshape(x.shape)
        return HALF.rotate(x, cos, sin)

    with pytest.raises(RotationError, match=r"swapped in memory.*This looks like strides of x"):
        assert_rotates(contiguous, HALF, takes="tables", dtypes=["float32"])
    assert_rotates(contiguous, HALF, takes="tables", dtypes=["float32"], views=False)


MESSAGES = [
    ({"takes": "x"}, ValueError, "`takes` must be one of 'positions', 'tables', got 'x'"),
    ({"dtypes": []}, TypeError, "`dtypes` must be a sequence of floating dtypes"),
    ({"dtypes": ["int32"]}, TypeError, "`dtypes[0]` must be one of float16, bfloat16, float32"),
    ({"table_dtype": "int8"}, TypeError, "`table_dtype` must be one of float16, bfloat16, float32"),
    ({"seq_axis": -1}, ValueError, "`seq_axis` must be -2 or -3, got -1"),
    ({"max_position": 7}, ValueError, "`max_position` must be in [8, 2**31), got 7"),
    ({"seed": -1}, ValueError, "`seed` must be at least 0, got -1"),
    ({"rows": 1}, TypeError, "`rows` must be True or False, got 1"),
    ({"views": None}, TypeError, "`views` must be True or False, got None"),
    ({"repeated": "x"}, TypeError, "`repeated` must be True or False, got 'x'"),
    ({"rounds_once": 0}, TypeError, "`rounds_once` must be True or False, got 0"),
]


@pytest.mark.parametrize(("options", "error", "text"), MESSAGES, ids=lambda v: str(v)[:20])
def test_what_the_arguments_must_be(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        cases(HALF, **options)
    with pytest.raises(error, match=re.escape(text)):
        assert_rotates(HALF.rotate, HALF, **options)


def test_what_assert_rotates_must_get():
    with pytest.raises(TypeError, match="`rope` must be a RoPE, got 8"):
        cases(8)
    with pytest.raises(TypeError, match=r"`fn` must be callable as fn\(x, positions\), got 1"):
        assert_rotates(1, HALF)
    with pytest.raises(TypeError, match=r"`fn` must be callable as fn\(x, cos, sin\), got 1"):
        assert_rotates(1, HALF, takes="tables")
    with pytest.raises(TypeError, match="`gradient` must be a function, 'autodiff' or None, got 1"):
        assert_rotates(HALF.rotate, HALF, gradient=1)
    with pytest.raises(ValueError, match="arrays of numpy, which has no derivatives"):
        assert_rotates(HALF.rotate, HALF, gradient="autodiff")
    with pytest.raises(ValueError, match="`gradient` must be a function or None with in_place"):
        assert_rotates(HALF.rotate, HALF, gradient="autodiff", in_place=True)


# -- adapters ----------------------------------------------------------------------------------------

ADAPTED = {
    "sequence": from_sequence(lambda x: HALF(x)),
    "offset": from_offset(lambda x, offset: HALF(x, offset=offset)),
    "offsets": from_offset(lambda x, offset: HALF(x, offset=offset), rows=True),
}


@pytest.mark.eager
@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize(
    "positions",
    [[3, 4, 5, 6], [6, 2, 2, 0], [[0, 1, 2, 3], [7, 8, 1, 1]], [[4, 5, 6, 7], [1, 2, 3, 4]]],
    ids=["run", "repeated", "rows", "runs"],
)
def test_adapters_rotate_to_any_positions(lib, rng, name, positions):
    values = rng.standard_normal((2, 3, 4, 8))
    x, positions = lib.array(values, "float32"), np.asarray(positions)
    got = lib.numpy(ADAPTED[name](x, lib.array(positions)))
    want = [
        reference.rotate(row.tolist(), at, reference.inv_freq(8), "half")
        for row, at in zip(lib.numpy(x), np.broadcast_to(positions, (2, 4)), strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", ["sequence", "offset"])
def test_adapters_take_tokens_before_heads(name):
    made = {
        "sequence": from_sequence(lambda x: HALF(x, seq_axis=-3), seq_axis=-3),
        "offset": from_offset(lambda x, o: HALF(x, offset=o, seq_axis=-3), seq_axis=-3),
    }
    assert_rotates(made[name], HALF, seq_axis=-3, max_position=2000, dtypes=["float32"])


def test_an_offset_is_a_number_or_one_for_each_row():
    seen = []

    def fn(x, offset):
        seen.append(offset)
        return x

    x = np.zeros((2, 1, 4, 8))
    from_offset(fn)(x, np.array([3, 4, 9, 10]))
    assert seen == [3, 9]
    assert {type(offset) for offset in seen} == {int}
    seen.clear()
    from_offset(fn, rows=True)(x, np.array([[3, 4, 5, 6], [0, 1, 2, 3]]))
    np.testing.assert_array_equal(seen, [[3, 0]])


def test_check_takes_adapted_ones():
    report = check(ADAPTED["sequence"], HALF)
    assert any("max_length=8192" in text for text in report.not_tried)
    with pytest.raises(RotationError):
        check(from_sequence(lambda x: HALF(x, offset=1)), HALF)


def test_what_adapters_refuse():
    x = np.zeros((1, 1, 2, 8))
    for text, positions in {
        r"`positions` must be in \[0, max_length=8192\), got -1 to 0": [-1, 0],
        r"`positions` must be in \[0, max_length=8192\), got 0 to 8192": [0, 8192],
        r"`positions` must have shape \(seq,\) or \(batch, seq\) with seq=2, got \(3,\)": [0, 1, 2],
        r"with seq=2, got \(1, 1, 2\)": [[[0, 1]]],
    }.items():
        with pytest.raises(ValueError, match=text):
            ADAPTED["sequence"](x, np.array(positions))
    with pytest.raises(ValueError, match="`x` must have shape"):
        ADAPTED["sequence"](np.zeros(8), np.array([0]))
    with pytest.raises(TypeError, match=r"`fn` must be callable as fn\(x\) for `from_sequence`"):
        from_sequence(1)
    with pytest.raises(TypeError, match=r"`fn` must be callable as fn\(x, offset\)"):
        from_offset(None)
    with pytest.raises(ValueError, match="`seq_axis` must be -2 or -3, got 0"):
        from_offset(lambda x, offset: x, seq_axis=0)
    with pytest.raises(ValueError, match="`max_length` must be positive, got 0"):
        from_sequence(lambda x: x, max_length=0)
