"""The kernel for CUDA without a GPU: its text on the machine's processor, its launches, and NVRTC.

`cuda_twin` compiles the text with the C compiler and runs it on the memory of NumPy's arrays and torch's
tensors: all of the path but the GPU. What this cannot see: whether a GPU computes the same (its arithmetic
is IEEE's as well, with the options that the last tests look for), and how fast.
"""

import ctypes
import itertools
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backends import cuda_twin
from backends.test_kernels import LAYOUTS, TORCH, assert_same, kind, tables_for, views  # noqa: F401

import rope_xp
from rope_xp import rotation
from rope_xp._backends import cuda_driver
from rope_xp._kernels import Operands, cuda, cuda_source, force_kernel
from rope_xp._kernels.cuda_source import ITEMSIZE, VECTOR, Variant

DTYPES = tuple(ITEMSIZE)
needs_compiler = pytest.mark.skipif(
    cuda_twin.COMPILER is None, reason="there is no C compiler (CC, cc, gcc, clang)"
)


@pytest.fixture
def launches(monkeypatch):
    """The kernel for CUDA on memory of NumPy and torch; the launches that were made."""
    made = []

    def launch(kernel, grid, arrays, numbers):
        made.append(dict(zip(cuda_source.NUMBERS, numbers, strict=True)))
        cuda_twin.launch(kernel, grid, arrays, numbers)

    libraries = ["numpy", *(["torch"] if "torch" in sys.modules else [])]
    for library in libraries:
        cuda_twin.install(monkeypatch, library, launch)
    return made


def expected_of(x, cos, sin, **options):
    with force_kernel("concat"), np.errstate(over="ignore", invalid="ignore"):
        return rope_xp.rotate(x, cos, sin, **options)


def random_views(rng, values):
    """The same values with other strides: axes in another order, with gaps, backwards."""
    order = rng.permutation(values.ndim)
    steps = rng.choice([-2, -1, 1, 1, 2], values.ndim)
    starts = rng.integers(0, 5, values.ndim)
    shape = [
        start + abs(step) * n for start, step, n in zip(starts, steps, values.shape, strict=True)
    ]
    shape = [shape[axis] for axis in order]
    memory = np.full(shape, 9, values.dtype).transpose(np.argsort(order))
    index = (slice(start, None, abs(step)) for start, step in zip(starts, steps, strict=True))
    view = memory[tuple(index)][tuple(slice(None, None, np.sign(step)) for step in steps)]
    view = view[tuple(slice(n) for n in values.shape)]
    view[...] = values
    return view


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_text_gives_the_bits_of_concat(kind, launches, rng, layout, dtype):  # noqa: F811
    """On all views and tables on which other kernels are tested, into new arrays and into ``out``."""
    table_dtype = "float64" if dtype == "float64" else "float32"
    for (what, x), n_pairs in itertools.product(views(kind, rng, dtype), (20, 16, 3)):
        for number, (cos, sin) in enumerate(tables_for(kind, rng, x, n_pairs, table_dtype)):
            start = min((0, 3, 40 - 2 * n_pairs)[number % 3], 40 - 2 * n_pairs)
            options = {"layout": layout, "rotary_start": start, "inverse": number % 2 == 1}
            expected = expected_of(x, cos, sin, **options)
            launches.clear()
            found = rope_xp.rotate(x, cos, sin, **options)
            assert len(launches) == (0 if 0 in x.shape else 1), what
            try:
                assert_same(found, expected)
            except AssertionError as error:
                error.add_note(f"{what}, n_pairs={n_pairs}, tables {tuple(cos.shape)}, {options}")
                raise


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table_dtype", DTYPES)
def test_random_strides(launches, rng, layout, dtype, table_dtype):
    """Of x, cos, sin and out each; any widths; tables of any dtype; parts; in place."""
    names = {"bfloat16": pytest.importorskip("ml_dtypes", reason="no ml_dtypes").bfloat16}
    dtype, table_dtype = (np.dtype(names.get(name, name)) for name in (dtype, table_dtype))
    for number in range(16):
        rows = tuple(rng.integers(1, 5, rng.integers(1, 4)))
        n_pairs, start, rest = rng.choice([1, 2, 3, 4, 8, 12]), *rng.choice([0, 1, 4, 8], 2)
        shape = (*rows, start + 2 * n_pairs + rest)
        axes = rng.integers(1, len(rows) + 1)
        shapes = {1: (n_pairs,), 2: (rows[-1], n_pairs)}
        table_shape = shapes.get(axes, (*(rng.choice([1, n]) for n in rows), n_pairs))
        x = rng.standard_normal(shape).astype(dtype)
        cos, sin = (rng.standard_normal(table_shape).astype(table_dtype) for _ in range(2))
        out = np.empty_like(x)
        if number % 3:
            x, cos, sin = (random_views(rng, array) for array in (x, cos, sin))
            out = random_views(rng, out)
        options = {"layout": layout, "rotary_start": int(start), "inverse": bool(number % 2)}
        if layout == "half" and n_pairs > 2:
            options["blocks"] = (2, 2 * int(n_pairs) - 2)
        expected = expected_of(x, cos, sin, **options)
        known = not (dtype.itemsize == 2 and table_dtype == np.float64)
        for target in (None, out, x):
            launches.clear()
            found = rope_xp.rotate(x, cos, sin, out=target, **options)
            assert len(launches) == (len(options.get("blocks", (0,))) if known else 0)
            assert_same(found, expected)


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_numbers_of_16_bits(kind, launches, rng, layout, dtype):  # noqa: F811
    """Read, rounded to even, to numbers without an exponent of their own, to infinity; and no numbers."""
    bits = np.arange(2**16, dtype=np.uint16)
    if dtype == "float16":
        wide = bits.view(np.float16).astype(np.float32)
    else:
        wide = (bits.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        x = kind(wide.reshape(512, 128), dtype)
    for scale in (1.0, 2.0**-12, 1.5 * 2.0**-24, 3.0, 2.0**15):
        cos, sin = (kind(scale * rng.uniform(-1, 1, (512, 64)), "float32") for _ in range(2))
        found = rope_xp.rotate(x, cos, sin, layout=layout)
        assert_same(found, expected_of(x, cos, sin, layout=layout))
        one = kind(np.full((512, 64), scale), "float32")  # ties
        found = rope_xp.rotate(x, one, 0 * one, layout=layout)
        assert_same(found, expected_of(x, one, 0 * one, layout=layout))
    assert launches


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_no_number_stays_none(launches, dtype):
    """Rounding carries into the exponent, and would carry CUDA's NaN over into −0."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.ones((2, 8), ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    table = np.full((2, 4), 0x7FFFFFFF, dtype=np.uint32).view(np.float32)
    assert np.isnan(rope_xp.rotate(x, table, table, layout="half").astype(np.float32)).all()
    assert launches


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_features_without_a_pair_keep_their_bits(launches, dtype):
    """Whatever they are; −0 and numbers that signal, too."""
    width = 8 * ITEMSIZE[dtype]
    integer = {2: np.uint16, 4: np.uint32, 8: np.uint64}[ITEMSIZE[dtype]]
    name = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    most = 2**width - 1
    bits = np.asarray([0, 1 << (width - 1), most, most ^ (1 << (width - 10))], integer)
    x = np.tile(bits, (3, 6)).view(name)
    table = np.ones((3, 4), np.float64 if dtype == "float64" else np.float32)
    with np.errstate(invalid="ignore"):
        y = rope_xp.rotate(x, table, table, layout="half", rotary_start=8)
    for features in (slice(8), slice(16, None)):
        np.testing.assert_array_equal(x[:, features].view(integer), y[:, features].view(integer))
    assert launches


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "n_pairs", "start"),
    [
        ((1, 2), 1, 0),
        ((3, 7, 11), 3, 2),  # nothing is a multiple of anything
        ((2, 5, 24), 8, 4),  # vectors, and features to copy before and after
        ((2, 1, 3, 64), 32, 0),
    ],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_each_feature_is_written_by_one_thread(
    monkeypatch, rng, layout, shape, n_pairs, start, in_place
):
    """Thread by thread, those behind the end of the last block included."""
    launches = []
    cuda_twin.install(monkeypatch, "numpy", lambda *arguments: launches.append(arguments))
    x = rng.standard_normal(shape, dtype=np.float32)
    cos, sin = rng.standard_normal((2, shape[-2], n_pairs), dtype=np.float32)
    out = x if in_place else np.empty_like(x)
    blocks = (2, 2 * n_pairs - 2) if layout == "half" and n_pairs > 2 else None
    rope_xp.rotate(x, cos, sin, layout=layout, rotary_start=start, blocks=blocks, out=out)
    writes = np.zeros(shape, int)
    for (source, _), (n_blocks, threads), arrays, numbers in launches:
        total = numbers[cuda_source.NUMBERS.index("threads")]
        assert (n_blocks - 1) * threads < total <= n_blocks * threads
        for at in itertools.product(range(n_blocks), range(threads)):
            written = np.zeros(shape, bool)
            for sentinel in (np.float32(123), np.float32(321)):  # which no result can be, both
                target = np.full(shape, sentinel)
                given = (x.copy() if in_place else x, target, *arrays[2:])
                addresses = tuple(array.ctypes.data for array in given)
                cuda_twin.run(source, n_blocks, threads, addresses, numbers, at=at)
                written |= target != sentinel
            writes += written
    wanted = np.ones(shape, int)
    if in_place:
        wanted[..., :start] = wanted[..., start + 2 * n_pairs :] = 0
    np.testing.assert_array_equal(writes, wanted)


def test_as_wide_as_memory_allows(launches, monkeypatch, rng):
    """16 bytes at once where all is adjacent and aligned, less where it is not: never misaligned."""

    def width(x, cos, sin, **options):
        launches.clear()
        rope_xp.rotate(x, cos, sin, **{"layout": "half", **options})
        (numbers,) = launches
        return x.shape[-1] // 2 // numbers["items"]  # pairs of a thread

    if cuda_twin.COMPILER is None:
        monkeypatch.setattr(cuda_twin, "run", lambda *_, **__: None)
    memory = np.zeros(2**12, np.float64)
    memory = memory[-memory.ctypes.data // 8 % 8 :]  # at a multiple of 64 bytes
    single, x64, table64 = memory.view(np.float32), memory[:512], memory[1024:1152].reshape(4, 32)
    x, table = single[:512].reshape(2, 4, 64), single[1024:1152].reshape(4, 32)
    assert width(x, table, table) == 4
    assert width(x, table, table, layout="interleaved") == 2
    assert width(x.view(np.float16)[..., :64], table, table) == 8
    assert width(x64.reshape(2, 4, 64), table64, table64) == 2
    assert width(x, table64, table64) == 4
    assert width(single[1:513].reshape(2, 4, 64), table, table) == 1
    assert width(single[2:514].reshape(2, 4, 64), table, table) == 2
    assert width(x, single[1025:1153].reshape(4, 32), table) == 1
    assert width(single[: 8 * 66].reshape(2, 4, 66)[..., :64], table, table) == 2
    assert width(x, single[1024 : 1024 + 4 * 33].reshape(4, 33)[:, :32], table) == 1
    assert width(x, table[::-1], table) == 4
    assert width(x, table[:, ::-1], table) == 1
    launches.clear()  # the second part begins at an even feature, and at an odd column
    part = {"blocks": (2, 16), "layout": "half"}
    rope_xp.rotate(single[:144].reshape(2, 4, 18), table[:, :9], table[:, :9], **part)
    assert [numbers["items"] for numbers in launches] == [1, 8]
    launches.clear()  # rows of 16, of which 8 are turned and 5 copied
    x, out = (single[at : at + 128].reshape(2, 4, 16)[..., :13] for at in (0, 256))
    rope_xp.rotate(x, table[:, :4], table[:, :4], layout="half", out=out)
    assert [numbers["items"] for numbers in launches] == [4 + 5]


@needs_compiler
@pytest.mark.parametrize("params", [TORCH])
def test_the_gradient_is_the_kernel_turned_back(launches, rng, params):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.randn(2, 3, 256, 64, dtype=torch.float64, requires_grad=True)
    cos, sin = (torch.randn(256, 16, dtype=torch.float64) for _ in range(2))
    y = rope_xp.rotate(x, cos, sin, layout="half")
    g = torch.randn_like(y)
    y.backward(g)
    assert [each["inverse"] for each in launches] == [0, 1]
    assert_same(x.grad, expected_of(g, cos, sin, layout="half", inverse=True))


@needs_compiler
def test_when_it_is_used(kind, launches, monkeypatch, rng):  # noqa: F811
    """For arrays of any size; not where ``out`` overlaps with what is still to be read, and no more."""

    def used(x, table, **options):
        expected = expected_of(x, table, table, **{"layout": "half", **options, "out": None})
        launches.clear()
        found = rope_xp.rotate(x, table, table, **{"layout": "half", **options})
        assert_same(found, expected)
        return len(launches)

    table = kind(rng.standard_normal((4, 8)), "float32")
    x = kind(rng.standard_normal((3, 4, 16)), "float32")
    assert used(x, table) == 1
    assert used(x, table, blocks=(8, 8)) == 2
    assert used(x, table, out=x) == 1
    buffer = kind(rng.standard_normal((5, 4, 16)), "float32")
    assert used(buffer[:3], table, out=buffer[1:4]) == 0
    assert used(buffer[:2], table, out=buffer[2:4]) == 1
    both = kind(rng.standard_normal((3, 4, 16)), "float32")
    assert used(both, both[0, :, :8], out=both) == 0
    assert used(kind(rng.standard_normal((3, 4, 16)), "bfloat16"), table) == 1
    wide = kind(rng.standard_normal((4, 8)), "float64")
    assert used(kind(rng.standard_normal((3, 4, 16)), "float16"), wide) == 0
    many = kind(rng.standard_normal((4, 4, 4, 4, 4, 32)), "float32")
    assert used(many, table) == 1  # all axes but the last of rows continue each other
    assert used(many[::2, ::2, ::2, ::2, :, ::2], table) == 0
    assert used(x, table) == 1
    monkeypatch.setattr(cuda, "ENABLED", False)
    assert used(x, table) == 0


def test_arrays_that_32_bits_cannot_count(launches):
    table = np.zeros((1, 8), np.float32)
    for rows, known in ((2**27 - 1, True), (2**27, False)):
        x = np.broadcast_to(np.zeros(16, np.float32), (rows, 16))
        layouts = tuple((a.dtype, a.shape, (1, 1), 0) for a in (x, x, table, table))
        assert (cuda._launches((8,), 0, False, False, False, layouts) is not None) == known


def test_tables_of_two_dtypes(launches, rng):
    x, cos = (rng.standard_normal(shape, dtype=np.float32) for shape in ((4, 16), (4, 8)))
    sin = rng.standard_normal((4, 8))
    expected = expected_of(x, cos, sin, layout="half")
    assert_same(rope_xp.rotate(x, cos, sin, layout="half"), expected)
    assert not launches


@needs_compiler
@pytest.mark.parametrize("params", [TORCH])
def test_torch_counts_what_was_written(launches, params):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, table = torch.ones(3, 4, 16), torch.ones(4, 8)
    before = x._version
    rope_xp.rotate(x, table, table, layout="half", out=x)
    assert launches
    assert x._version > before


def test_what_overlaps(rng):
    """As NumPy says it of the bounds of memory, for each of the arrays alone, in any direction."""
    memory = np.zeros(400, np.float32)

    def view():
        start, step = rng.integers(100, 300), rng.choice([-2, -1, 1, 2])
        return memory[start:][:32].reshape(2, 16)[::step, :: rng.choice([-1, 1])]

    elsewhere = np.zeros((2, 8), np.float32)
    for _ in range(300):
        one, out = view(), view()
        apart = not np.may_share_memory(one, out)
        for arrays in ((one, elsewhere, elsewhere), (out, one, elsewhere), (out, elsewhere, one)):
            itself = arrays[0] is one and cuda_twin.address(one) == cuda_twin.address(out)
            itself = itself and one.strides == out.strides
            safe = cuda._is_alias_safe(cuda_twin.ON_NUMPY, Operands(*arrays, out))
            assert safe == (apart or itself)


def test_off_unless_asked_for():
    code = "from rope_xp._kernels import cuda; print(cuda.ENABLED)"
    root = str(Path(rope_xp.__file__).parent.parent)
    for value, enabled in ((None, "False"), ("0", "False"), ("1", "True")):
        env = {k: v for k, v in os.environ.items() if k != "ROPE_XP_CUDA"} | {"PYTHONPATH": root}
        env |= {} if value is None else {"ROPE_XP_CUDA": value}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == enabled


# -- how the libraries launch ----------------------------------------------------------------------


def parameters(pointers):
    """The values that CUDA's driver would read for the kernel's parameters."""
    types = [ctypes.c_uint64] * len(cuda_source.ARRAYS) + [ctypes.c_int32] * len(
        cuda_source.NUMBERS
    )
    return [ctypes.cast(pointers[i], ctypes.POINTER(each))[0] for i, each in enumerate(types)]


@needs_compiler
@pytest.mark.parametrize("params", [TORCH])
def test_torch_launches_by_the_driver(monkeypatch, rng, params):
    """A function in place of the driver's runs the text with the parameters that it finds at the pointers."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from rope_xp._backends import torch_cuda

    calls = []

    def start(function, gx, gy, gz, bx, by, bz, shared, stream, pointers, extra):
        found = parameters(pointers)
        calls.append((gy.value, gz.value, by.value, bz.value, shared.value, stream.value, extra))
        cuda_twin.run(function, gx.value, bx.value, found[:4], found[4:])
        return 0

    contexts = []  # of this thread, which has none yet

    def current(pointer):
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_void_p))[0] = 1 if contexts else None
        return 0

    driver = SimpleNamespace(
        cuLaunchKernel=start,
        cuCtxGetCurrent=current,
        cuDeviceGet=lambda handle, device: 0,
        cuDevicePrimaryCtxRetain=lambda context, device: 0,
        cuCtxSetCurrent=lambda context: contexts.append(context) or 0,
    )
    monkeypatch.setattr(cuda_driver, "driver", lambda: driver)
    monkeypatch.setattr(torch_cuda, "_function", lambda source, name, device: source)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    stream = SimpleNamespace(cuda_stream=0x7FFF12345678)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    cuda_twin.install(monkeypatch, "torch", torch_cuda.launch)
    x = torch.randn(2, 5, 300, 64)[:, :, 1:]
    cos, sin = torch.randn(2, 299, 24)
    found = rope_xp.rotate(x, cos, sin, layout="half", rotary_start=8)
    assert_same(found, expected_of(x, cos, sin, layout="half", rotary_start=8))
    assert calls == [(1, 1, 1, 1, 0, 0x7FFF12345678, None)]
    assert len(contexts) == 1
    rope_xp.rotate(x, cos, sin, layout="half")
    assert len(contexts) == 1
    driver.cuLaunchKernel = lambda *_: 700
    with pytest.raises(RuntimeError, match="CUDA fails with error 700"):
        torch_cuda.launch(("", ""), (1, 1), (x,), (1,))


@pytest.mark.parametrize("params", [TORCH])
def test_torch_without_nvrtc_says_so(monkeypatch, params):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from rope_xp._backends import torch_cuda

    def is_available():
        return torch_cuda.is_available.__wrapped__()

    monkeypatch.setattr(cuda_driver, "load", lambda *names: None)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.warns(RuntimeWarning, match="ROPE_XP_CUDA=1 needs CUDA's NVRTC and driver"):
        assert not is_available()
    monkeypatch.setattr(cuda_driver, "load", lambda *names: object())
    assert is_available()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not is_available()


@needs_compiler
@pytest.mark.backend("cupy")
def test_cupy_launches_a_raw_kernel(monkeypatch, rng):
    """With what ``cupy.RawKernel`` is documented to take: arrays and NumPy's integers of 32 bits."""
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    from rope_xp._backends import cupy as cupy_facts

    class RawKernel:
        def __init__(self, *args, **kwargs):
            real(*args, **kwargs)  # takes the same, and compiles later
            self.source = args[0]

        def __call__(self, grid, block, args):
            arrays, numbers = args[:4], args[4:]
            assert {type(number) for number in numbers} == {np.int32}
            addresses = tuple(array.ctypes.data for array in arrays)
            cuda_twin.run(self.source, *grid, *block, addresses, numbers)

    real = cupy.RawKernel
    monkeypatch.setattr(cupy, "RawKernel", RawKernel)
    cupy_facts._raw_kernel.cache_clear()
    cuda_twin.install(monkeypatch, "numpy", cupy_facts.launch)
    x = rng.standard_normal((2, 5, 300, 64), dtype=np.float32)
    cos, sin = rng.standard_normal((2, 300, 24), dtype=np.float32)
    found = rope_xp.rotate(x, cos, sin, layout="interleaved", rotary_start=8)
    cupy_facts._raw_kernel.cache_clear()
    assert_same(found, expected_of(x, cos, sin, layout="interleaved", rotary_start=8))


# -- NVRTC -----------------------------------------------------------------------------------------


def variants():
    """All that `cuda` can ask for."""
    for x, table, interleaved in itertools.product(DTYPES, DTYPES, (False, True)):
        if ITEMSIZE[x] == 2 and table == "float64":
            continue
        for width in (w for w in (1, 2, 4, 8) if w * ITEMSIZE[x] <= VECTOR):
            pairs = max(1, width // 2) if interleaved else width
            yield Variant(x, table, interleaved, pairs, width)


@pytest.fixture(scope="module")
def nvrtc():
    """The library of the package nvidia-cuda-nvrtc, which needs no GPU, or an installed one."""
    from importlib.metadata import PackageNotFoundError, files

    names = []
    for major in ("12", "13"):
        try:
            found = files(f"nvidia-cuda-nvrtc-cu{major}" if major == "12" else "nvidia-cuda-nvrtc")
        except PackageNotFoundError:
            found = []
        names += [str(f.locate()) for f in found if f.name == f"libnvrtc.so.{major}"]
        names.append(f"libnvrtc.so.{major}")
    library = cuda_driver.load_nvrtc(*names)
    if library is None:
        pytest.skip("there is no NVRTC: pip install nvidia-cuda-nvrtc-cu12")
    return library


@pytest.mark.backend("cupy")
def test_nvrtc_compiles_every_variant(nvrtc):
    *others, last = variants()
    for variant, architecture in (
        *((v, "sm_80") for v in others),
        (last, "sm_75"),
        (last, "sm_90"),
    ):
        source = cuda_source.source(rotation.turn, variant)
        code = cuda_driver.compile_source(nvrtc, source, architecture)
        assert code[:4] == b"\x7fELF"
        assert cuda_source.NAME.encode() in code


@pytest.mark.backend("cupy")
def test_what_nvrtc_does_not_compile(nvrtc):
    with pytest.raises(RuntimeError, match="identifier"):
        cuda_driver.compile_source(nvrtc, "int f() { return unknown; }", "sm_80")


@pytest.mark.backend("cupy")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
def test_cupy_compiles_without_contraction_and_moves_16_bytes(nvrtc, dtype, interleaved):
    """As CuPy calls NVRTC: no product and sum with one rounding, and instructions for vectors."""
    pytest.importorskip("cupy", reason="cupy is not installed")
    from cupy.cuda import nvrtc as cupy_nvrtc

    width = VECTOR // ITEMSIZE[dtype]
    table = "float64" if dtype == "float64" else "float32"
    pairs = width // 2 if interleaved else width
    source = cuda_source.source(rotation.turn, Variant(dtype, table, interleaved, pairs, width))
    contracted = []
    for options in (cuda_driver.OPTIONS, ()):
        program = cupy_nvrtc.createProgram(source, "rope_xp.cu", [], [])
        cupy_nvrtc.compileProgram(program, ("--gpu-architecture=compute_80", *options))
        ptx = cupy_nvrtc.getPTX(program).decode()
        cupy_nvrtc.destroyProgram(program)
        contracted.append("fma.rn" in ptx)
        stores = [word for word in ptx.split() if word.startswith("st.global.")]
        loads = [word for word in ptx.split() if word.startswith("ld.global.v")]
        assert len(loads) == len(stores) == (2 if interleaved else 3)  # of pairs; of others
        assert {store.partition(".global")[2] for store in stores} <= {
            ".v4.u32",
            ".v4.f32",
            ".v2.f64",
        }
        name = {"float16": "f16", "bfloat16": "bf16"}.get(dtype)
        assert name is None or ptx.count(f"cvt.rn.{name}.f32") == 2 * pairs
    assert contracted == [False, True]
