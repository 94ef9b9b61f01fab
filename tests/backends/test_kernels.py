"""The kernels: each gives the result of `concat`, and costs what it says."""

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import rope_xp
from rope_xp import _backends, rotation
from rope_xp._kernels import (
    Operands,
    both_halves,
    complex_pairs,
    dispatch,
    force_kernel,
    llvm_cpu,
    memory,
    plan,
    tiled,
    torch_small,
)
from rope_xp._kernels.evaluate import select_kernel

pytestmark = pytest.mark.backend("numpy", "torch")
NUMPY, TORCH = (pytest.param(n, marks=pytest.mark.backend(n)) for n in ("numpy", "torch"))
needs_llvmlite = pytest.mark.skipif(
    not llvm_cpu.is_available(), reason="no llvmlite, or ROPE_XP_FAST=0"
)
LAYOUTS = ("half", "interleaved")
# Every kernel that writes into memory, on NumPy and on torch. That for CUDA: test_cuda_source.py.
KERNELS = [
    pytest.param(name, marks=needs_llvmlite if name == "llvm_cpu" else ())
    for name in dict.fromkeys(
        kernel.__name__.rpartition(".")[2]
        for kernel in (*dispatch.PREFERENCE["numpy"], *dispatch.PREFERENCE["torch"])
        if not hasattr(kernel, "DELEGATES") and not hasattr(kernel, "takes_small_arrays")
    )
]


@pytest.fixture(autouse=True)
def _complex_pairs_without_llvmlite(request, monkeypatch):
    """With llvmlite, NumPy's arrays are not left to `complex_pairs`."""
    if (
        getattr(request.node, "callspec", None)
        and "complex_pairs" in request.node.callspec.params.values()
    ):
        monkeypatch.setattr(llvm_cpu, "is_available", lambda: False)


@pytest.fixture(params=[NUMPY, TORCH])
def kind(request):
    """A function that makes an array, and one that goes back to NumPy."""
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


def is_exact(kernel, x):
    return kernel != "complex_pairs" or not isinstance(x, np.ndarray)


def views(make, rng, dtype):
    """Arrays of 40 features with all the strides that occur."""

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
            repeated.expand(2, 3, 5, 40)
            if hasattr(repeated, "expand")
            else np.broadcast_to(repeated, (2, 3, 5, 40))
        ),
    )
    yield "no tokens", array(2, 3, 0, 40)
    if not hasattr(repeated, "expand"):  # torch has no negative strides
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


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_kernel_gives_the_result_of_concat(kind, rng, kernel, layout, dtype):
    """Whatever the strides, the tables' shape, the rotated part, the direction."""
    table_dtype = "float64" if dtype == "float64" else "float32"
    for (what, x), n_pairs in itertools.product(views(kind, rng, dtype), (20, 16, 3)):
        for number, (cos, sin) in enumerate(tables_for(kind, rng, x, n_pairs, table_dtype)):
            options = {"layout": layout, "rotary_start": (0, 3, 40 - 2 * n_pairs)[number % 3]}
            options["rotary_start"] = min(options["rotary_start"], 40 - 2 * n_pairs)
            options["inverse"] = number % 2 == 1
            with force_kernel("concat"):
                expected = rope_xp.rotate(x, cos, sin, **options)
            with force_kernel(kernel):
                found = rope_xp.rotate(x, cos, sin, **options)
            try:
                assert_same(found, expected, exact=is_exact(kernel, x))
            except AssertionError as error:
                error.add_note(f"{what}, n_pairs={n_pairs}, tables {tuple(cos.shape)}, {options}")
                raise


@pytest.fixture
def small_tiles(monkeypatch):
    """Many tiles in small arrays."""
    found = memory.memory_of

    def memory_of(array):
        return dataclasses.replace(
            found(array), tile_size=lambda x, *, scratch=True: math.prod(x.shape) // 16
        )

    monkeypatch.setattr(memory, "memory_of", memory_of)
    monkeypatch.setattr(both_halves, "MIN_TILED_SIZE", 0)
    monkeypatch.setattr(tiled, "MIN_TILED_SIZE", 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tiles_give_the_result_of_concat(kind, rng, kernel, layout, dtype, small_tiles):
    test_every_kernel_gives_the_result_of_concat(kind, rng, kernel, layout, dtype)


# Elements from which on another kernel, or another way of the same one, is worth its while.
THRESHOLDS = (
    plan.MIN_KERNEL_SIZE,
    torch_small.MAX_SIZE,
    both_halves.MIN_TILED_SIZE,
    tiled.MIN_TILED_SIZE,
)


@pytest.mark.parametrize("size", sorted({*THRESHOLDS}))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heads", [1, 8])
def test_results_around_thresholds(monkeypatch, kind, rng, size, layout, heads):
    """A row more or less changes no bit of the others, without llvmlite."""
    monkeypatch.setattr(llvm_cpu, "is_available", lambda: False)
    rows = size // heads // 64 + 1
    x = kind(rng.standard_normal((heads, rows, 64)), "float32")
    angles = rng.uniform(-4, 4, (rows, 32))
    cos, sin = kind(np.cos(angles), "float32"), kind(np.sin(angles), "float32")
    for n, inverse in itertools.product((rows - 2, rows - 1, rows), (False, True)):
        for n_pairs in (32, 13):
            arrays = x[:, :n], cos[:n, :n_pairs], sin[:n, :n_pairs]
            found = rope_xp.rotate(*arrays, layout=layout, inverse=inverse)
            with force_kernel("concat"):
                expected = rope_xp.rotate(*arrays, layout=layout, inverse=inverse)
            exact = layout == "half" or not isinstance(x, np.ndarray)
            assert_same(found, expected, exact=exact)


@pytest.mark.parametrize("small", [True, False])
def test_blocks_of_different_widths(kind, rng, small, small_tiles, monkeypatch):
    monkeypatch.setattr(both_halves, "MIN_TILED_SIZE", 2**20 if small else 0)
    x = kind(rng.standard_normal((2, 3, 9, 40)), "float32")
    cos, sin = (kind(rng.standard_normal((9, 15)), "float32") for _ in range(2))
    options = {"layout": "half", "rotary_start": 3, "blocks": (6, 14, 10), "inverse": True}
    with force_kernel("concat"):
        expected = rope_xp.rotate(x, cos, sin, **options)
    for kernel in ("both_halves", "tiled"):
        with force_kernel(kernel):
            assert_same(rope_xp.rotate(x, cos, sin, **options), expected)
            written = kind(np.zeros(x.shape), "float32")
            rope_xp.rotate(x, cos, sin, out=written, **options)
            assert_same(written, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_kernel_writes_into_out(kind, rng, kernel, layout, dtype):
    """To other memory, to x itself, and to memory that overlaps with what is still to be read."""
    cos, sin = (kind(f(rng.uniform(-4, 4, (5, 16))), "float32") for f in (np.cos, np.sin))
    buffer = kind(rng.standard_normal((3, 7, 40)), dtype)
    options = {"layout": layout, "rotary_start": 2}
    with force_kernel(kernel):
        x = buffer[:, :5]
        expected = rope_xp.rotate(x, cos, sin, **options)
        other = kind(np.full((3, 5, 50), 9.0), dtype)[..., 5:45]
        assert rope_xp.rotate(x, cos, sin, out=other, **options) is other
        assert_same(other, expected)
        with force_kernel("concat"):
            plain = rope_xp.rotate(x, cos, sin, **options)
        shifted = buffer[:, 2:]  # shares most of its memory
        assert rope_xp.rotate(x, cos, sin, out=shifted, **options) is shifted
        assert_same(shifted, plain)
        alone = kind(rng.standard_normal((3, 5, 40)), dtype)
        expected = rope_xp.rotate(alone, cos, sin, **options)
        assert rope_xp.rotate(alone, cos, sin, out=alone[:], **options) is not alone
        assert_same(alone, expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tables_that_share_memory_with_the_result(kind, rng, kernel):
    """Tables in the first head of the very array that is written, for all heads."""
    x = kind(rng.uniform(-1, 1, (3, 64, 16)), "float32")
    cos, sin = x[0, :, :8], x[0, :, 8:]
    with force_kernel(kernel):
        expected = rope_xp.rotate(x, cos, sin, layout="half")
        rope_xp.rotate(x, cos, sin, layout="half", out=x)
    assert_same(x, expected)


def test_what_is_known_of_shapes_is_not_known_of_other_options(kind):
    """1 == 1.0 == True: what was found for one must not pass for the others."""
    x, table = (kind(np.ones(shape), "float32") for shape in ((2, 3, 8), (3, 3)))
    for blocks in (None, (2, 4)):
        rope_xp.rotate(x, table, table, layout="half", seq_axis=1, rotary_start=1, blocks=blocks)
    for options in (
        {"seq_axis": 1.0, "rotary_start": 1.0},
        {"seq_axis": True, "rotary_start": True},
        {"seq_axis": 1, "rotary_start": 1, "blocks": (2.0, 4)},
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
        exact = llvm_cpu.is_available() or not rounds_less
        assert_same(whole[1:, 2:3, at : at + 1], alone, exact=exact)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_pairs", [20, 16, 5])
def test_threads_change_nothing(monkeypatch, kind, rng, layout, n_pairs):
    x = kind(rng.standard_normal((3, 5, 211, 40)), "float32")
    angles = rng.uniform(-4, 4, (211, n_pairs))
    cos, sin = kind(np.cos(angles), "float32"), kind(np.sin(angles), "float32")
    for kernel in (both_halves, tiled, complex_pairs, llvm_cpu):
        monkeypatch.setattr(kernel, "MIN_BYTES_PER_THREAD", 1)
    monkeypatch.setattr(both_halves, "MIN_TILED_SIZE", 0)
    monkeypatch.setattr(tiled, "MIN_TILED_SIZE", 0)
    results = []
    for count in (1, 2, 3, 7):
        if isinstance(x, np.ndarray):
            monkeypatch.setattr("os.sched_getaffinity", lambda _, n=count: range(n), raising=False)
            monkeypatch.setenv("OMP_NUM_THREADS", "8")
            assert memory.memory_of(x).threads() == count
            results.append(rope_xp.rotate(x, cos, sin, layout=layout))
        else:
            torch = pytest.importorskip("torch", reason="torch is not installed")
            before = torch.get_num_threads()
            torch.set_num_threads(count)
            results.append(rope_xp.rotate(x, cos, sin, layout=layout))
            torch.set_num_threads(before)
    for result in results[1:]:
        assert_same(result, results[0])


def test_which_kernel_is_selected(monkeypatch, kind, rng):
    def selected(x, n_pairs=32, *, layout="half", out=None):
        table = kind(np.zeros((x.shape[-2], n_pairs)), "float32")
        plan, _ = rotation._plan(
            _backends.namespace(x=x),
            rotation._shapes_and_dtypes(x, table, table),
            (layout, -2, 0, False, None),
        )
        return select_kernel(plan, Operands(x, table, table, out)).__name__.rpartition(".")[2]

    large, small = (kind(rng.standard_normal((n, 64, 64)), "float32") for n in (32, 1))
    is_numpy = isinstance(large, np.ndarray)
    slow = "both_halves" if is_numpy else "tiled"
    assert selected(small) == "concat"
    if not is_numpy and llvm_cpu.is_available():
        assert selected(large) != "llvm_cpu"  # torch's own operations use all cores
    monkeypatch.setattr(llvm_cpu, "MIN_SIZE_BESIDE_THREADS", 2**16)
    for fast in (False, *([True] if llvm_cpu.is_available() else [])):
        monkeypatch.setattr(llvm_cpu, "is_available", lambda fast=fast: fast)
        assert selected(large) == ("llvm_cpu" if fast else slow)
        assert selected(large[..., ::2], 16) == slow  # features that are not adjacent in memory
        best = "llvm_cpu" if fast and is_numpy else "complex_pairs"
        assert selected(large, layout="interleaved") == best
        assert selected(small, layout="interleaved") == "concat"
        assert selected(small, 16) == "concat"
        assert selected(large[..., :0, :], layout="interleaved") == "concat"
        assert selected(large, out=large[:]) == selected(large)
        shifted = kind(rng.standard_normal((33, 64, 64)), "float32")
        assert selected(shifted[1:], out=shifted[:-1]) == "concat"
        with force_kernel("concat"):
            assert selected(large) == "concat"
        with force_kernel(slow):
            assert selected(small) == slow
    if not is_numpy:
        assert selected(large.requires_grad_()) == "torch_autograd"


def test_kernels_have_names():
    message = r"`name` must be one of 'both_halves', 'complex_pairs', .* got 'tile'"
    with pytest.raises(ValueError, match=message), force_kernel("tile"):
        pass


@pytest.fixture
def llvmlite_anew(monkeypatch):
    """Whether llvmlite can be used is found out again, before and after."""
    monkeypatch.delenv("ROPE_XP_FAST", raising=False)
    llvm_cpu._status.cache_clear()
    yield
    llvm_cpu._status.cache_clear()


def test_llvmlite_can_be_switched_off(monkeypatch, llvmlite_anew):
    monkeypatch.setenv("ROPE_XP_FAST", "0")
    assert not llvm_cpu.is_available()


# What an llvmlite that cannot be used looks like, and what the warning says of it.
BROKEN_LLVMLITE = {
    "ImportError": ("raise ImportError('needs another glibc')", "needs another glibc"),
    "SystemError": ("raise SystemError('bad ABI\\nand more')", "SystemError: bad ABI"),
    "without what it needs": ("import library_that_is_missing", "library_that_is_missing"),
    "too old": ("", "AttributeError while it compiles"),
    "that exits": ("raise SystemExit(3)", "interrupted"),
    "cannot compile": (
        "def initialize_native_target(): raise RuntimeError('no such processor')",
        "RuntimeError while it compiles: no such processor",
    ),
}

ROTATES = """
import warnings
import numpy as np, rope_xp
x = np.ones((64, 64, 128), np.float32)
one = np.ones((64, 64), np.float32)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for layout in ("half", "interleaved", "half"):
        try:
            y = rope_xp.rotate(x, one, 0 * one, layout=layout)
        except SystemExit:
            continue
        assert np.array_equal(x, y)
print(*(f"{type(w.message).__name__}: {w.message}" for w in seen), sep="\\n")
"""


def warnings_of(tmp_path, **environment):
    """What a new process warns of that rotates three large arrays."""
    root = Path(rope_xp.__file__).parent.parent
    env = {k: v for k, v in os.environ.items() if k != "ROPE_XP_FAST"}
    env |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", **environment}
    done = subprocess.run(
        [sys.executable, "-c", ROTATES], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("name", BROKEN_LLVMLITE)
def test_a_broken_llvmlite_breaks_no_rotation(tmp_path, name):
    """Other kernels are used; once, a warning says why and how to silence it."""
    source, why = BROKEN_LLVMLITE[name]
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").touch()
    (tmp_path / "llvmlite" / "binding.py").write_text(source)
    (warning,) = warnings_of(tmp_path)
    assert warning.startswith("RuntimeWarning: llvmlite cannot be used")
    assert why in warning
    assert "ROPE_XP_FAST=0" in warning


def test_a_broken_llvmlite_that_is_switched_off_is_no_news(tmp_path):
    (tmp_path / "llvmlite.py").write_text("raise ImportError")
    assert warnings_of(tmp_path, ROPE_XP_FAST="0") == [""]


def test_an_llvmlite_that_is_not_installed_is_no_news(monkeypatch, llvmlite_anew):
    monkeypatch.setitem(sys.modules, "llvmlite", None)  # ModuleNotFoundError
    assert not llvm_cpu.is_available()


def test_a_warning_that_is_an_error_is_one_error(monkeypatch, llvmlite_anew, tmp_path):
    (tmp_path / "llvmlite.py").write_text("raise OSError('no disk')")
    for name in ("llvmlite", "llvmlite.binding"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeWarning, match="no disk"):
        llvm_cpu.is_available()
    assert not llvm_cpu.is_available()


@needs_llvmlite
@pytest.mark.parametrize("error", [TypeError, OSError, KeyboardInterrupt])
def test_an_llvmlite_that_cannot_compile_breaks_no_rotation(monkeypatch, llvmlite_anew, rng, error):
    """Ctrl-C reaches the caller, and the next call compiles."""

    def refuse(*_):
        message = "this version knows no vectors"
        raise error(message)

    x = rng.standard_normal((64, 64, 128), dtype=np.float32)
    cos, sin = rng.standard_normal((2, 64, 64), dtype=np.float32)
    with force_kernel("concat"):
        expected = rope_xp.rotate(x, cos, sin, layout="half")
    interrupted = error is KeyboardInterrupt
    for out in (None, np.zeros_like(x)):
        with monkeypatch.context() as patched:
            patched.setattr(llvm_cpu, "compiled", refuse)
            if interrupted:
                with pytest.raises(KeyboardInterrupt):
                    rope_xp.rotate(x, cos, sin, layout="half", out=out)
            elif out is None:
                with pytest.warns(RuntimeWarning, match="knows no vectors"):
                    assert_same(rope_xp.rotate(x, cos, sin, layout="half"), expected)
        assert_same(rope_xp.rotate(x, cos, sin, layout="half", out=out), expected)
    assert llvm_cpu.is_available() == interrupted


# -- threads ---------------------------------------------------------------------------------------


def run_pieces(pieces=5, work=lambda piece: None):
    """The pieces that were worked on by `run_in_threads`, in a list that grows as that happens."""
    done, lock = [], threading.Lock()

    def write(piece):
        work(piece)
        with lock:
            done.append(piece)

    def run():
        memory.run_in_threads(write, list(range(pieces)))

    return done, run


def test_each_piece_is_worked_on_once():
    done, run = run_pieces(work=lambda piece: time.sleep(0.001))
    run()
    assert sorted(done) == list(range(5))


@pytest.mark.parametrize("limit", [0, 2])
def test_pieces_of_threads_that_cannot_start_are_done_here(monkeypatch, limit):
    start, started = threading.Thread.start, []

    def limited(self):
        if len(started) == limit:
            message = "can't start new thread"
            raise RuntimeError(message)
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    done, run = run_pieces()
    run()
    assert sorted(done) == list(range(5))


needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it has no alarms")


@pytest.mark.parametrize(
    "where", ["start", "work", "join", pytest.param("wait", marks=needs_alarm)]
)
def test_no_thread_writes_after_an_interruption(monkeypatch, where):
    """Wherever Ctrl-C lands: all have ended when the caller sees it."""
    here, original, count = threading.current_thread(), {}, []
    for name in ("start", "join"):
        original[name] = getattr(threading.Thread, name)

    def interrupted(self, *args):
        count.append(self)
        if len(count) == (1 if where == "join" else 2):
            if where == "start":
                original[where](self)
            raise KeyboardInterrupt
        original[where](self, *args)

    def work(piece):
        time.sleep(0.02)
        if threading.current_thread() is not here:
            time.sleep(0.1)
        elif where == "work":
            raise KeyboardInterrupt
        elif (
            where == "wait"
        ):  # in the middle of ``join``, where Python 3.11 takes the thread for ended
            signal.setitimer(signal.ITIMER_REAL, 0.03)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = threading.active_count()
    done, run = run_pieces(2 if where == "wait" else 5, work)
    if where in ("start", "join"):
        monkeypatch.setattr(threading.Thread, where, interrupted)
    handler = signal.signal(signal.SIGALRM, interrupt) if where == "wait" else None
    with pytest.raises(KeyboardInterrupt):
        run()
    if where == "wait":
        signal.signal(signal.SIGALRM, handler)
    finished = list(done)
    assert threading.active_count() == before
    time.sleep(0.15)
    assert done == finished


def test_an_error_in_a_thread_is_raised_here():
    def work(piece):
        if threading.current_thread() is not threading.main_thread():
            message = "in a thread"
            raise ValueError(message)
        time.sleep(0.01)

    _, run = run_pieces(work=work)
    with pytest.raises(ValueError, match="in a thread"):
        run()


def test_errstate_applies_in_threads():
    """NumPy keeps it in the context, which threads do not inherit by themselves."""
    found = set()
    _, run = run_pieces(work=lambda _: (time.sleep(0.005), found.add(np.geterr()["over"])))
    with np.errstate(over="raise"):
        run()
    assert found == {"raise"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_memory_beyond_the_result(rng, layout, kernel, dtype):
    """The result and a sixteenth of x; in place, the sixteenth. With a table for each row, too."""
    if kernel == "complex_pairs" and layout == "half":
        pytest.skip("complex_pairs is for interleaved pairs")
    if kernel == "tiled":
        pytest.skip("tiled is for torch, whose memory nobody counts")
    x = rng.standard_normal((4, 2048, 256), dtype=np.float32).astype(dtype)
    cos, sin = (rng.standard_normal((4, 2048, 128), dtype=np.float32) for _ in range(2))
    with force_kernel(kernel):
        rope_xp.rotate(x, cos, sin, layout=layout)  # compiled, and imported, before
        for out, results in ((None, 1), (x, 0)):
            tracemalloc.start()
            rope_xp.rotate(x, cos, sin, layout=layout, out=out)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= results * x.nbytes + x.nbytes / 16


@pytest.mark.backend("torch")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grad_mode", [False, True])
def test_memory_of_torch_in_place(layout, grad_mode):
    """Scratch memory only, although gradients are recorded for tensors that need them."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, cos, sin = torch.ones(8, 4096, 128), torch.ones(4096, 64), torch.zeros(4096, 64)
    profiler = torch.autograd.profiler.profile(profile_memory=True)
    with torch.set_grad_enabled(grad_mode), profiler as profile:
        rope_xp.rotate(x, cos, sin, layout=layout, out=x)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())
    assert 0 < allocated < x.nbytes / 2


def test_out_must_not_overlap_with_itself(kind, rng):
    x = kind(rng.standard_normal((3, 4, 8)), "float32")
    table = kind(np.ones((4, 4)), "float32")
    if isinstance(x, np.ndarray):
        out = np.lib.stride_tricks.as_strided(x, x.shape, (0, *x.strides[1:]), writeable=True)
    else:
        out = x[:1].expand(3, 4, 8)
    message = r"`out` must not have overlapping elements, got a broadcast view of shape \(3, 4, 8\)"
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


@needs_llvmlite
@pytest.mark.parametrize("bits", [0x7FC0, 0xFFC0, 0x7FFF, 0x7F81])
def test_no_number_in_bfloat16_stays_none(bits):
    """Rounding carries into the exponent, and would carry a NaN over into −0."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.full((2, 8), bits, dtype=np.uint16).view(ml_dtypes.bfloat16)
    weird = np.full((2, 4), 0x7FFFFFFF, dtype=np.uint32).view(np.float32)  # CUDA's NaN
    with force_kernel("llvm_cpu"):
        for table in (np.ones((2, 4), dtype=np.float32), weird):
            y = rope_xp.rotate(x, table, table, layout="half")
            assert np.isnan(y.astype(np.float32)).all()
        y = rope_xp.rotate(np.ones_like(x), weird, weird, layout="half")
        assert np.isnan(y.astype(np.float32)).all()


@needs_llvmlite
def test_bfloat16_rounds_to_even_over_all_numbers(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16).reshape(512, 128)
    x = np.where(np.isfinite(x.astype(np.float32)), x, ml_dtypes.bfloat16(1))
    cos, sin = rng.standard_normal((2, 512, 64), dtype=np.float32)
    with force_kernel("llvm_cpu"):
        found = rope_xp.rotate(x, cos, sin, layout="half")
    with force_kernel("concat"), np.errstate(over="ignore", invalid="ignore"):
        assert_same(found, rope_xp.rotate(x, cos, sin, layout="half"))


# -- gradients: one step of torch's graph ----------------------------------------------------------


@pytest.fixture(params=[TORCH])
def large():
    """Queries that are large enough for the step, and tables for them."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.randn(2, 3, 256, 64, dtype=torch.float64)
    cos, sin = rope_xp.cos_sin(torch.arange(256), [0.5**i for i in range(16)], dtype=x.dtype)
    return torch, x, 1.5 * cos, 1.5 * sin


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inverse", [False, True])
def test_the_step_is_what_autograd_makes_of_the_formula(large, layout, inverse):
    torch, x, cos, sin = large
    found = []
    for kernel in ("tiled", "concat"):
        q, g = x.clone().requires_grad_(), torch.ones_like(x).requires_grad_()
        with force_kernel(kernel):
            y = rope_xp.rotate(q, cos, sin, layout=layout, inverse=inverse)
            assert (type(y.grad_fn).__name__ == "RotationBackward") == (kernel != "concat")
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
def test_tables_that_learn_transforms_and_traces(large):
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
    with pytest.raises(TypeError, match=r"`out` must be writable.* leaf"):
        rope_xp.rotate(leaf, cos, sin, layout="half", out=leaf)
    out = torch.empty_like(x)
    rope_xp.rotate(leaf, cos, sin, layout="half", out=out).sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("kernel", ["concat", *KERNELS])
def test_version_counters_count_what_was_written(large, kernel):
    """A product that needs what is overwritten has no gradient, and must not get a wrong one."""
    torch, x, cos, sin = large
    weight = torch.ones_like(x, requires_grad=True)
    product = (weight * x).sum()
    with force_kernel(kernel), torch.no_grad():
        rope_xp.rotate(x, cos, sin, layout="interleaved", out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with force_kernel(kernel), torch.inference_mode():
        x = torch.randn_like(x)
        rope_xp.rotate(x, cos, sin, layout="interleaved", out=x)


@pytest.mark.parametrize(
    ("turn", "known"),
    [
        (lambda a, b, c, s: (a * c + b * s, b * c - a * s), True),  # clockwise
        (lambda a, b, c, s: (a * c - b * s, a * s - b * c), False),  # a reflection
        (lambda a, b, c, s: (a * c, b * c + a * s), False),
    ],
)
def test_both_halves_follow_the_formula(rng, turn, known):
    """Its signs come from there; what it cannot do is left to others."""
    x = rng.standard_normal((3, 5, 8))
    cos, sin = rng.standard_normal((2, 5, 4))
    xp = _backends.namespace(x=x)
    shapes = rotation._shapes_and_dtypes(x, cos, sin)
    plan, _ = rotation._plan(xp, shapes, ("half", -2, 0, False, None))
    plan = plan._replace(turn=turn)
    small = both_halves.for_shape(plan, x.shape)
    with force_kernel("both_halves"):
        assert both_halves.supports(plan, Operands(x, cos, sin)) is known is (small is not None)
    if known:
        expected = np.concatenate(turn(x[..., :4], x[..., 4:], cos, sin), axis=-1)
        np.testing.assert_array_equal(small(x, cos, sin), expected)
        found = both_halves.rotate(plan, Operands(x, cos, sin), xp)
        np.testing.assert_array_equal(found, expected)


SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_pairs", [1, 3, 8, 32])
def test_small_arrays_give_the_result_of_concat(kind, rng, layout, inverse, dtype, n_pairs):
    """Of any strides, with numbers that products and sums treat in ways of their own."""
    numbers = rng.standard_normal((2, 6, 5, 2 * n_pairs + 1))
    numbers[0].flat[: len(SPECIAL) * 3 : 3] = SPECIAL
    whole = kind(numbers, dtype)
    tables = [kind(rng.standard_normal((5, n_pairs)), dtype) for _ in range(2)]
    views = whole[..., :-1], whole[..., 1:], whole[0, ..., :-1], whole[:, ::2, :, 1:]
    if layout == "interleaved":
        views += (kind(numbers[..., :-1].copy(), dtype), whole[:0, ..., :-1])
    for x, start in (*((view, 0) for view in views), (whole, 0), (whole, 1)):
        options = {"layout": layout, "inverse": inverse, "rotary_start": start}
        found = rope_xp.rotate(x, *tables, **options)
        with force_kernel("concat"):
            expected = rope_xp.rotate(x, *tables, **options)
        assert_same(found, expected)


def test_blocks_of_a_small_array(kind, rng):
    """Its halves are not those of the blocks."""
    x = kind(rng.standard_normal((3, 5, 12)), "float32")
    tables = [kind(rng.standard_normal((5, 6)), "float32") for _ in range(2)]
    found = rope_xp.rotate(x, *tables, layout="half", blocks=(4, 8))
    with force_kernel("concat"):
        expected = rope_xp.rotate(x, *tables, layout="half", blocks=(4, 8))
    assert_same(found, expected)
