"""The ways of evaluating a rotation: each gives what the plain one gives, and costs what it says."""

import itertools

import numpy as np
import pytest

import rope_xp
from rope_xp import _backend, _compiled, _ways

pytestmark = pytest.mark.skipif(
    not {"numpy", "torch"} & set(__import__("conftest").chosen()),
    reason="these ways are for NumPy and torch",
)
needs_numba = pytest.mark.skipif(not _compiled.available(), reason="numba is not installed")
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
    """Bits to compare: −0 is not 0."""
    wide = array.astype(np.float64) if isinstance(array, np.ndarray) else array.double().numpy()
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
        size = ulp[_backend.dtype_name(found.dtype)]
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
            with _ways.using("whole"):
                expected = rope_xp.rotate(x, cos, sin, **options)
            with _ways.using(way):
                found = rope_xp.rotate(x, cos, sin, **options)
            try:
                assert_same(found, expected, exact=is_exact(way, x))
            except AssertionError as error:
                error.add_note(f"{what}, n_pairs={n_pairs}, tables {tuple(cos.shape)}, {options}")
                raise
