"""The kernel for CUDA on a GPU, against `concat` there and on the processor. Skips without one.

``nox -s gpu`` runs these with ``ROPE_XP_CUDA=1``; no commit has passed them yet. What needs no GPU is in
test_cuda_source.py.
"""

import itertools

import numpy as np
import pytest
from backends import cuda_twin
from backends.test_kernels import LAYOUTS, assert_same, tables_for, views
from conftest import no_gpu

import rope_xp
from rope_xp._kernels import cuda, force_kernel
from rope_xp._kernels.cuda_source import ITEMSIZE

DTYPES = tuple(ITEMSIZE)


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.backend(n)) for n in ("cupy", "torch")])
def device(request, monkeypatch):
    """A function that makes an array on the GPU, and one that copies it to NumPy or to torch's CPU."""
    if request.param == "cupy":
        cupy = pytest.importorskip("cupy", reason="cupy is not installed")
        if reason := no_gpu():
            pytest.skip(reason)
        found = (lambda a, dtype: cupy.asarray(a).astype(dtype)), cupy.asnumpy
    else:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("torch finds no GPU")

        def make(a, dtype):
            return torch.asarray(np.ascontiguousarray(a)).to("cuda", getattr(torch, dtype))

        found = make, lambda t: t.detach().cpu()
    cuda_twin.enable(monkeypatch)
    return request.param, *found


@pytest.fixture
def count(monkeypatch):
    """How often the kernel was used."""
    calls = []
    rotate = cuda.rotate
    monkeypatch.setattr(cuda, "rotate", lambda *args: calls.append(args) or rotate(*args))
    return calls


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_of_concat(device, count, rng, layout, dtype):
    name, make, to_host = device
    if name == "cupy" and dtype == "bfloat16":
        pytest.skip("CuPy's bfloat16 is that of ml_dtypes, experimental")
    table_dtype = "float64" if dtype == "float64" else "float32"
    for (what, x), n_pairs in itertools.product(views(make, rng, dtype), (20, 16, 3)):
        for number, (cos, sin) in enumerate(tables_for(make, rng, x, n_pairs, table_dtype)):
            start = min((0, 3, 40 - 2 * n_pairs)[number % 3], 40 - 2 * n_pairs)
            options = {"layout": layout, "rotary_start": start, "inverse": number % 2 == 1}
            with force_kernel("concat"):
                there = rope_xp.rotate(x, cos, sin, **options)
                here = rope_xp.rotate(*map(to_host, (x, cos, sin)), **options)
            count.clear()
            found = to_host(rope_xp.rotate(x, cos, sin, **options))
            assert len(count) == (0 if 0 in x.shape else 1), what
            try:
                assert_same(found, to_host(there))
                assert_same(found, here)
            except AssertionError as error:
                error.add_note(f"{what}, n_pairs={n_pairs}, tables {tuple(cos.shape)}, {options}")
                raise


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_in_place_and_overlapping(device, rng, layout, dtype):
    _, make, to_host = device
    table = make(rng.uniform(-4, 4, (5, 16)), "float32")
    buffer = make(rng.standard_normal((4, 5, 40)), dtype)
    for x, out in ((buffer[:3], buffer[1:]), (buffer, buffer)):
        with force_kernel("concat"):
            expected = to_host(rope_xp.rotate(x, table, table, layout=layout, rotary_start=3))
        assert rope_xp.rotate(x, table, table, layout=layout, rotary_start=3, out=out) is out
        assert_same(to_host(out), expected)


def test_all_numbers_of_16_bits(device, rng):
    _, make, to_host = device
    wide = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    for scale in (1.0, 2.0**-12, 3.0):
        x = make(wide.reshape(512, 128), "float16")
        cos, sin = (make(scale * rng.uniform(-1, 1, (512, 64)), "float32") for _ in range(2))
        with force_kernel("concat"):
            expected = rope_xp.rotate(x, cos, sin, layout="half")
        assert_same(to_host(rope_xp.rotate(x, cos, sin, layout="half")), to_host(expected))


def test_parts_and_large_arrays(device, count, rng):
    """One launch for each part; more blocks than run at a time."""
    _, make, to_host = device
    x = make(rng.standard_normal((2, 32, 2000, 128)), "float32")
    cos, sin = (make(rng.uniform(-4, 4, (2000, 64)), "float32") for _ in range(2))
    for blocks in (None, (32, 96)):
        with force_kernel("concat"):
            expected = to_host(rope_xp.rotate(x, cos, sin, layout="half", blocks=blocks))
        found = rope_xp.rotate(x, cos, sin, layout="half", blocks=blocks)
        assert_same(to_host(found), expected)
    assert len(count) == 2


@pytest.mark.backend("torch")
def test_gradients_streams_and_graphs(device, count, rng):
    name, make, to_host = device
    if name != "torch":
        pytest.skip("of torch")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = make(rng.standard_normal((2, 3, 300, 64)), "float32")
    cos, sin = (make(rng.uniform(-4, 4, (300, 32)), "float32") for _ in range(2))
    with force_kernel("concat"):
        expected = rope_xp.rotate(x, cos, sin, layout="half")
        back = rope_xp.rotate(x, cos, sin, layout="half", inverse=True)
    leaf = x.clone().requires_grad_()
    rope_xp.rotate(leaf, cos, sin, layout="half").backward(x)
    assert len(count) == 2
    assert_same(to_host(leaf.grad), to_host(back))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = rope_xp.rotate(x, cos, sin, layout="half")
    stream.synchronize()
    assert_same(to_host(y), to_host(expected))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = rope_xp.rotate(x, cos, sin, layout="half")
    graph.replay()
    assert_same(to_host(y), to_host(expected))
