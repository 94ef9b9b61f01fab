"""The ways of evaluating a rotation: each gives what the plain one gives, and costs what it says."""

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest

import rope_xp
from rope_xp import _backends
from rope_xp._kernels import dispatch, numba_cpu

pytestmark = pytest.mark.skipif(
    not {"numpy", "torch"} & set(__import__("conftest").chosen()),
    reason="these ways are for NumPy and torch",
)
needs_numba = pytest.mark.skipif(not numba_cpu.available(), reason="numba is not installed")
LAYOUTS = ("half", "interleaved")
WAYS = ["tiles", "complex", pytest.param("compiled", marks=needs_numba)]


@pytest.fixture(params=["numpy", "torch"])
def kind(request):
    """A function that makes an array, and one that goes back to NumPy."""
    if request.param not in __import__("conftest").chosen():
        pytest.skip(f"{request.param} was not asked for")
    if request.param == "numpy":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        names = {"bfloat16": ml_dtypes.bfloat16}
        return lambda a, dtype: a.astype(names.get(dtype, dtype))
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return lambda a, dtype: torch.asarray(np.ascontiguousarray(a)).to(getattr(torch, dtype))


def numbers(array):
    """Bits to compare: −0 is not 0, but a NaN has no sign."""
    wide = array.astype(np.float64) if isinstance(array, np.ndarray) else array.double().numpy()
    wide = np.where(np.isnan(wide), np.nan, wide)
    return np.copysign(1, wide), wide


def assert_same(found, expected, *, exact=True):
    assert found.dtype == expected.dtype
    assert tuple(found.shape) == tuple(expected.shape)
    for one, other in zip(numbers(found), numbers(expected), strict=True):
        if exact:
            np.testing.assert_array_equal(one, other)
    if not exact:
        # One rounding of a product less: half an ulp of the larger product, here below 8.
        ulp = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}
        size = ulp[_backends.dtype_name(found.dtype)]
        np.testing.assert_allclose(
            numbers(found)[1], numbers(expected)[1], rtol=size, atol=8 * size
        )


def is_exact(way, x):
    return way != "complex" or not isinstance(x, np.ndarray)


def views(make, rng, dtype):
    """Arrays of 40 features that stand in memory in all the ways that occur."""

    def array(*shape):
        return make(rng.standard_normal(shape), dtype)

    yield "contiguous", array(2, 3, 5, 40)
    yield "two axes", array(7, 40)
    yield "six axes", array(2, 1, 2, 3, 4, 40)
    yield "heads before tokens", array(2, 5, 3, 40).swapaxes(1, 2)
    yield "a slice of features", array(2, 3, 5, 50)[..., 6:46]
    yield "a slice from an odd feature on", array(2, 3, 5, 50)[..., 3:43]
    yield "every other token", array(2, 3, 10, 40)[:, :, ::2]
    yield "every other feature", array(2, 3, 5, 80)[..., ::2]
    yield "features first", array(2, 3, 40, 5).swapaxes(-1, -2)
    yield "one of q, k and v", array(2, 5, 3, 3, 40)[:, :, 1].swapaxes(1, 2)
    repeated = array(2, 1, 5, 40)
    yield (
        "repeated heads",
        (
            np.broadcast_to(repeated, (2, 3, 5, 40))
            if isinstance(repeated, np.ndarray)
            else repeated.expand(2, 3, 5, 40)
        ),
    )
    yield "no tokens", array(2, 3, 0, 40)
    if isinstance(repeated, np.ndarray):
        yield "backwards", array(2, 3, 5, 40)[:, ::-1, ::-1]
        yield "features backwards", array(2, 3, 5, 40)[..., ::-1]


def tables_for(make, rng, x, n_pairs, dtype):
    """Tables of all shapes that line up with ``x`` by seq_axis=-2."""
    seq, batch = x.shape[-2], x.shape[0]
    shapes = [(n_pairs,), (seq, n_pairs), (1, n_pairs), (*(1,) * (x.ndim - 2), seq, n_pairs)]
    shapes.append((*x.shape[:-1], n_pairs))
    if x.ndim > 2:
        shapes += [(batch, seq, n_pairs), (1, seq, n_pairs)]
    for shape in shapes:
        angles = rng.uniform(-4, 4, shape)
        yield make(np.cos(angles), dtype), make(np.sin(angles), dtype)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_way_is_the_plain_one(kind, rng, way, layout, dtype):
    """Whatever the strides, the tables' shape, the rotated part, the direction."""
    table_dtype = "float64" if dtype == "float64" else "float32"
    for (what, x), n_pairs in itertools.product(views(kind, rng, dtype), (20, 16, 3)):
        for number, (cos, sin) in enumerate(tables_for(kind, rng, x, n_pairs, table_dtype)):
            options = {"layout": layout, "rotary_start": (0, 3, 40 - 2 * n_pairs)[number % 3]}
            options["rotary_start"] = min(options["rotary_start"], 40 - 2 * n_pairs)
            options["inverse"] = number % 2 == 1
            with dispatch.using("whole"):
                expected = rope_xp.rotate(x, cos, sin, **options)
            with dispatch.using(way):
                found = rope_xp.rotate(x, cos, sin, **options)
            try:
                assert_same(found, expected, exact=is_exact(way, x))
            except AssertionError as error:
                error.add_note(f"{what}, n_pairs={n_pairs}, tables {tuple(cos.shape)}, {options}")
                raise


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_way_writes_where_it_is_told(kind, rng, way, layout, dtype):
    """To other memory, to x itself, and to memory that overlaps with what is still to be read."""
    cos, sin = (kind(f(rng.uniform(-4, 4, (5, 16))), "float32") for f in (np.cos, np.sin))
    buffer = kind(rng.standard_normal((3, 7, 40)), dtype)
    options = {"layout": layout, "rotary_start": 2}
    with dispatch.using(way):
        x = buffer[:, :5]
        expected = rope_xp.rotate(x, cos, sin, **options)
        other = kind(np.full((3, 5, 50), 9.0), dtype)[..., 5:45]
        assert rope_xp.rotate(x, cos, sin, out=other, **options) is other
        assert_same(other, expected)
        with dispatch.using("whole"):
            plain = rope_xp.rotate(x, cos, sin, **options)
        shifted = buffer[:, 2:]  # shares most of its memory
        assert rope_xp.rotate(x, cos, sin, out=shifted, **options) is shifted
        assert_same(shifted, plain)
        alone = kind(rng.standard_normal((3, 5, 40)), dtype)
        expected = rope_xp.rotate(alone, cos, sin, **options)
        assert rope_xp.rotate(alone, cos, sin, out=alone[:], **options) is not alone
        assert_same(alone, expected)


@pytest.mark.parametrize("way", WAYS)
def test_tables_that_share_memory_with_the_result(kind, rng, way):
    """Tables in the first head of the very array that is written, for all heads."""
    x = kind(rng.uniform(-1, 1, (3, 64, 16)), "float32")
    cos, sin = x[0, :, :8], x[0, :, 8:]
    with dispatch.using(way):
        expected = rope_xp.rotate(x, cos, sin, layout="half")
        rope_xp.rotate(x, cos, sin, layout="half", out=x)
    assert_same(x, expected)


def test_what_is_known_of_shapes_is_not_known_of_other_options(kind):
    """1 == 1.0 == True: what was found for one must not pass for the others."""
    x, table = (kind(np.ones(shape), "float32") for shape in ((2, 3, 8), (3, 3)))
    rope_xp.rotate(x, table, table, layout="half", seq_axis=1, rotary_start=1)
    for options in (
        {"seq_axis": 1.0, "rotary_start": 1.0},
        {"seq_axis": True, "rotary_start": True},
    ):
        with pytest.raises(TypeError, match="must be an int"):
            rope_xp.rotate(x, table, table, layout="half", **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_part_is_as_in_the_whole(kind, rng, layout, dtype):
    """Bit for bit, whatever else is rotated in the same call; one way on NumPy, but for a rounding."""
    x = kind(rng.standard_normal((2, 4, 300, 64)), dtype)  # large enough for every way
    angles = rng.uniform(-4, 4, (300, 32))
    cos, sin = kind(np.cos(angles), "float32"), kind(np.sin(angles), "float32")
    whole = rope_xp.rotate(x, cos, sin, layout=layout)
    for at in (0, 7, 299):
        part = x[1:, 2:3, at : at + 1]
        alone = rope_xp.rotate(part, cos[at : at + 1], sin[at : at + 1], layout=layout)
        rounds_less = isinstance(x, np.ndarray) and layout == "interleaved"
        exact = numba_cpu.available() or not rounds_less
        assert_same(whole[1:, 2:3, at : at + 1], alone, exact=exact)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_pairs", [20, 16, 5])
def test_threads_change_nothing(monkeypatch, kind, rng, layout, n_pairs):
    x = kind(rng.standard_normal((3, 5, 211, 40)), "float32")
    angles = rng.uniform(-4, 4, (211, n_pairs))
    cos, sin = kind(np.cos(angles), "float32"), kind(np.sin(angles), "float32")
    monkeypatch.setattr(dispatch, "WORTH_A_THREAD", dict.fromkeys(dispatch.WORTH_A_THREAD, 1))
    results = []
    for count in (1, 2, 3, 7):
        if isinstance(x, np.ndarray):
            monkeypatch.setattr("os.sched_getaffinity", lambda _, n=count: range(n), raising=False)
            monkeypatch.setenv("OMP_NUM_THREADS", "8")
            assert dispatch.threads(x, "compiled") == count
            results.append(rope_xp.rotate(x, cos, sin, layout=layout))
        else:
            torch = pytest.importorskip("torch", reason="torch is not installed")
            before = torch.get_num_threads()
            torch.set_num_threads(count)
            results.append(rope_xp.rotate(x, cos, sin, layout=layout))
            torch.set_num_threads(before)
    for result in results[1:]:
        assert_same(result, results[0])


def test_which_way_is_taken(monkeypatch, kind, rng):
    def way(x, n_pairs=32, *, neighbours=False, out=None):
        table = kind(np.zeros((x.shape[-2], n_pairs)), "float32")
        small = dispatch.is_small(x.shape)
        return dispatch.way_for(x, table, table, out, neighbours=neighbours, small=small)

    large, small = (kind(rng.standard_normal((n, 64, 64)), "float32") for n in (32, 1))
    is_numpy = isinstance(large, np.ndarray)
    assert way(small) == "whole"
    for fast in (False, *([True] if numba_cpu.available() else [])):
        monkeypatch.setattr(numba_cpu, "available", lambda fast=fast: fast)
        assert way(large) == ("compiled" if fast else "tiles")
        assert way(large[..., ::2], 16) == "tiles"  # features that are no neighbours in memory
        assert way(large, neighbours=True) == ("compiled" if fast and is_numpy else "complex")
        assert way(small, neighbours=True) == "whole"
        with dispatch.using("whole"):
            assert way(large) == "whole"
    if not is_numpy:
        assert way(large.requires_grad_()) == "recorded"


def test_ways_have_names():
    message = r"unknown way 'tile'; known: 'whole', 'padded', 'tiles'"
    with pytest.raises(ValueError, match=message), dispatch.using("tile"):
        pass


def test_without_numba(monkeypatch):
    monkeypatch.setenv("ROPE_XP_FAST", "0")
    numba_cpu.available.cache_clear()
    assert not numba_cpu.available()
    monkeypatch.undo()
    numba_cpu.available.cache_clear()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_memory_beyond_the_result(rng, layout, way, dtype):
    """The result and a sixteenth of x; in place, the sixteenth. With a table for each row, too."""
    if way == "complex" and layout == "half":
        pytest.skip("complex is for neighbours")
    if way == "compiled" and dtype == "float16":
        pytest.skip("numba has no float16")
    x = rng.standard_normal((4, 2048, 256), dtype=np.float32).astype(dtype)
    cos, sin = (rng.standard_normal((4, 2048, 128), dtype=np.float32) for _ in range(2))
    with dispatch.using(way):
        rope_xp.rotate(x, cos, sin, layout=layout)  # compiled, and imported, before
        for out, results in ((None, 1), (x, 0)):
            tracemalloc.start()
            rope_xp.rotate(x, cos, sin, layout=layout, out=out)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= results * x.nbytes + x.nbytes / 16


def test_a_place_for_every_element(kind, rng):
    x = kind(rng.standard_normal((3, 4, 8)), "float32")
    table = kind(np.ones((4, 4)), "float32")
    if isinstance(x, np.ndarray):
        out = np.lib.stride_tricks.as_strided(x, x.shape, (0, *x.strides[1:]), writeable=True)
    else:
        out = x[:1].expand(3, 4, 8)
    message = r"`out` must have a place for every element, got a broadcast array of \(3, 4, 8\)"
    with pytest.raises(ValueError, match=message):
        rope_xp.rotate(x, table, table, layout="half", out=out)


def test_memory_mapped_files(tmp_path, rng):
    """Weights on disk are arrays too: the result is in memory."""
    x = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=(8, 128, 128))
    x[...] = rng.standard_normal(x.shape)
    table = np.ones((128, 64), dtype=np.float32)
    for layout in LAYOUTS:
        y = rope_xp.rotate(x, table, 0 * table, layout=layout)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, x)


@needs_numba
@pytest.mark.parametrize("bits", [0x7FC0, 0xFFC0, 0x7FFF, 0x7F81])
def test_no_number_in_bfloat16_stays_none(bits):
    """Rounding carries into the exponent, and would carry a NaN over into −0."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.full((2, 8), bits, dtype=np.uint16).view(ml_dtypes.bfloat16)
    weird = np.full((2, 4), 0x7FFFFFFF, dtype=np.uint32).view(np.float32)  # CUDA's NaN
    with dispatch.using("compiled"):
        for table in (np.ones((2, 4), dtype=np.float32), weird):
            y = rope_xp.rotate(x, table, table, layout="half")
            assert np.isnan(y.astype(np.float32)).all()
        y = rope_xp.rotate(np.ones_like(x), weird, weird, layout="half")
        assert np.isnan(y.astype(np.float32)).all()


@needs_numba
def test_bfloat16_rounds_to_even_over_all_numbers(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16).reshape(512, 128)
    x = np.where(np.isfinite(x.astype(np.float32)), x, ml_dtypes.bfloat16(1))
    cos, sin = rng.standard_normal((2, 512, 64), dtype=np.float32)
    with dispatch.using("compiled"):
        found = rope_xp.rotate(x, cos, sin, layout="half")
    with dispatch.using("whole"), np.errstate(over="ignore", invalid="ignore"):
        assert_same(found, rope_xp.rotate(x, cos, sin, layout="half"))


# -- gradients: one step of torch's graph ----------------------------------------------------------


@pytest.fixture
def large():
    """Queries that are large enough for the step, and tables for them."""
    if "torch" not in __import__("conftest").chosen():
        pytest.skip("torch was not asked for")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.randn(2, 3, 256, 64, dtype=torch.float64)
    cos, sin = rope_xp.cos_sin(torch.arange(256), [0.5**i for i in range(16)], dtype=x.dtype)
    return torch, x, 1.5 * cos, 1.5 * sin


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inverse", [False, True])
def test_the_step_is_what_autograd_makes_of_the_formula(large, layout, inverse):
    torch, x, cos, sin = large
    found = []
    for way in ("tiles", "whole"):
        q, g = x.clone().requires_grad_(), torch.ones_like(x).requires_grad_()
        with dispatch.using(way):
            y = rope_xp.rotate(q, cos, sin, layout=layout, inverse=inverse)
            assert (type(y.grad_fn).__name__ == "LinearBackward") == (way != "whole")
            (once,) = torch.autograd.grad(y, q, g, create_graph=True)
            (twice,) = torch.autograd.grad((once**2).sum(), g)
        found.append((y, once, twice))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)


def test_the_step_keeps_tables_and_no_more(large):
    torch, x, cos, sin = large
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rope_xp.rotate(x.requires_grad_(), cos, sin, layout="half")
    assert sum(t.nbytes for t in kept) == cos.nbytes + sin.nbytes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forward mode asks for torch.jit
def test_tables_that_learn_and_transforms_take_the_plain_way(large):
    torch, x, cos, sin = large

    def rotate(x, cos=cos):
        return rope_xp.rotate(x, cos, sin, layout="half")

    expected = rotate(x)
    learned = cos.clone().requires_grad_()
    rotate(x, learned).sum().backward()
    n = cos.shape[-1]
    torch.testing.assert_close(learned.grad, (x[..., :n] + x[..., n : 2 * n]).sum((0, 1)))
    torch.testing.assert_close(torch.vmap(rotate)(x), expected)
    torch.testing.assert_close(torch.func.jvp(rotate, (x,), (x,))[1], expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        tangent = torch.autograd.forward_ad.unpack_dual(rotate(dual)).tangent
    torch.testing.assert_close(tangent, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants
        traced = torch.jit.trace(rotate, (x,))
    torch.testing.assert_close(traced(2 * x), 2 * expected)
    leaf = x.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        rope_xp.rotate(leaf, cos, sin, layout="half", out=leaf)
    out = torch.empty_like(x)
    rope_xp.rotate(leaf, cos, sin, layout="half", out=out).sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("way", ["whole", *WAYS])
def test_torch_is_told_what_was_written(large, way):
    """A product that needs what is overwritten has no gradient, and must not get a wrong one."""
    torch, x, cos, sin = large
    weight = torch.ones_like(x, requires_grad=True)
    product = (weight * x).sum()
    with dispatch.using(way), torch.no_grad():
        rope_xp.rotate(x, cos, sin, layout="interleaved", out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with dispatch.using(way), torch.inference_mode():
        x = torch.randn_like(x)
        rope_xp.rotate(x, cos, sin, layout="interleaved", out=x)
