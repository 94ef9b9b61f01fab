"""Machine code made of the formula: when it is compiled, for what, and what it may write to."""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import rope_xp
from rope_xp import rotation
from rope_xp._kernels import Operands, concat, force_kernel, llvm_cpu

machine_code = pytest.importorskip("rope_xp._kernels.machine_code")
pytestmark = [
    pytest.mark.backend("numpy"),
    pytest.mark.skipif(not llvm_cpu.is_available(), reason="no llvmlite, or ROPE_XP_FAST=0"),
]
LAYOUTS = ("half", "interleaved")


@pytest.fixture
def compiled(monkeypatch):
    """What is compiled from now on, as if nothing had been before."""
    loops, make = [], machine_code.MachineCode

    def count(loop):
        loops.append(loop)
        return make(loop)

    monkeypatch.setattr(machine_code, "MachineCode", count)
    machine_code.compiled.cache_clear()
    yield loops
    machine_code.compiled.cache_clear()


def made(rng, shape=(2, 3, 5, 40), n_pairs=20, dtype="float32"):
    cos, sin = rng.standard_normal((2, shape[-2], n_pairs))
    tables = (t.astype("float64" if dtype == "float64" else "float32") for t in (cos, sin))
    return rng.standard_normal(shape).astype(dtype), *tables


def plan_of(arrays, xp=np, layout="half"):
    shapes = rotation._shapes_and_dtypes(*arrays)
    return rotation._plan(xp, shapes, (layout, -2, 0, False, None))[0]


def in_new_process(code, tmp_path, **environment):
    """What it prints."""
    root = Path(rope_xp.__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    start = f"import numpy as np, rope_xp, sys, os\nx = np.ones((4, 64, 512), np.float32)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", start],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ROTATES = "y = rope_xp.rotate(x, x[0, :, :256], 0 * x[0, :, :256], layout='half')\n"


def test_the_first_rotation_does_not_import_numba(tmp_path):
    """That takes longer than all of it."""
    code = "print(np.array_equal(x, y), 'llvmlite' in sys.modules, 'numba' in sys.modules)"
    assert in_new_process(ROTATES + code, tmp_path) == "True True False"


def test_nothing_is_kept_on_disk(tmp_path):
    folders = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TMPDIR"), str(tmp_path))
    in_new_process(ROTATES, tmp_path, PYTHONDONTWRITEBYTECODE="1", **folders)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_use_what_was_compiled_and_compile_more(tmp_path):
    code = f"""
{ROTATES}
child = os.fork()
for dtype in (np.float32, np.float64):
    t = x[0, :, :256].astype(dtype)
    y = rope_xp.rotate(x.astype(dtype), t, 0 * t, layout='half')
    assert np.array_equal(x, y)
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert in_new_process(code, tmp_path) == "0"


def test_what_is_compiled(rng, compiled):
    """Once for each formula, layout and pair of dtypes; shapes, strides, parts and directions are arguments."""
    with force_kernel("llvm_cpu"):
        for layout, dtype in itertools.product(LAYOUTS, ("float32", "float64")):
            for shape, n_pairs in (((2, 3, 5, 40), 20), ((7, 6), 2), ((2, 1, 1, 3, 2, 10), 3)):
                x, cos, sin = made(rng, shape, n_pairs, dtype)
                for inverse, out in itertools.product((False, True), (None, x)):
                    rope_xp.rotate(x, cos, sin, layout=layout, inverse=inverse, out=out)
                rope_xp.rotate(np.flip(x, 0), cos, sin, layout=layout)
            with force_kernel("concat"):
                rope_xp.rotate(x, cos, sin, layout=layout)
    found = [(loop.interleaved, loop.dtype) for loop in compiled]
    assert found == [*itertools.product((False, True), ("float32", "float64"))]


def test_another_formula_does_not_meet_the_code_of_this_one(rng, compiled):
    def other(a, b, cos, sin):
        return a * sin + b * cos, b * sin - a * cos

    x, cos, sin = made(rng)
    plan = plan_of((x, cos, sin))
    for turn in (plan.turn, other, plan.turn):
        changed, arrays = plan._replace(turn=turn), Operands(x, cos, sin)
        found = llvm_cpu.rotate(changed, arrays, np)
        np.testing.assert_array_equal(found, concat.rotate(changed, arrays, np))
    assert [loop.turn for loop in compiled] == [plan.turn, other]


def test_several_threads_that_are_the_first(rng, compiled):
    x, cos, sin = made(rng, (3, 64, 128), 64)
    expected = rope_xp.rotate(x, cos, sin, layout="half")
    together, results = threading.Barrier(4), []

    def rotate():
        together.wait()
        with force_kernel("llvm_cpu"):
            results.append(rope_xp.rotate(x, cos, sin, layout="half"))

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for action in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            action(thread)
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


# -- results that bypass the caches ----------------------------------------------------------------


def aligned(shape, dtype, offset=0):
    """Memory that starts at a multiple of 64 bytes, and ``offset`` bytes behind one."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.full(size + 128, 7, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    return raw[start : start + size].view(dtype).reshape(shape)


@pytest.fixture
def small_results_too(monkeypatch):
    monkeypatch.setattr(llvm_cpu, "MIN_BYPASS_BYTES", 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_results_that_bypass_the_caches(rng, compiled, small_results_too, dtype, layout):
    for n_pairs, start in itertools.product((36, 32, 16, 8), (0, 8, 16)):
        x, cos, sin = made(rng, (3, 5, 104), n_pairs, dtype)
        options = {"layout": layout, "rotary_start": start}
        with force_kernel("concat"):
            expected = rope_xp.rotate(x, cos, sin, **options)
        out = aligned(x.shape, dtype)
        with force_kernel("llvm_cpu"):
            rope_xp.rotate(x, cos, sin, out=out, **options)
        np.testing.assert_array_equal(out, expected)
    if dtype != "float16" or machine_code.converts_float16():
        assert any(loop.bypasses_caches for loop in compiled)


@pytest.mark.parametrize(
    ("what", "bypasses"),
    [
        ("aligned", True),
        ("in place", False),
        ("an address between", False),
        ("rows between", False),
        ("a part that starts between", False),
        ("pairs whose second half starts between", False),
        ("the same, interleaved", True),
        ("a part that ends between, interleaved", False),
        ("small", False),
        ("fresh and large", False),
    ],
)
def test_which_results_bypass_the_caches(monkeypatch, rng, small_results_too, what, bypasses):
    """Such stores fault between multiples of 16 bytes; in place, what they evict was just read."""
    width = 42 if what == "rows between" else 48
    n_pairs = 17 if "ends" in what else 18 if "interleaved" in what or "second" in what else 16
    x, cos, sin = made(rng, (3, 5, width), n_pairs)
    out = aligned(x.shape, "float32", 4 if what == "an address between" else 0)
    layout = "interleaved" if "interleaved" in what else "half"
    plan = plan_of((x, cos, sin), layout=layout)
    if what == "a part that starts between":
        shapes = rotation._shapes_and_dtypes(x, cos, sin)
        plan = rotation._plan(np, shapes, ("half", -2, 2, False, None))[0]
    if what == "small":
        monkeypatch.setattr(llvm_cpu, "MIN_BYPASS_BYTES", out.nbytes + 1)
    if what == "fresh and large":
        monkeypatch.setattr(llvm_cpu, "FRESH_BYTES", out.nbytes)
    if what == "in place":
        x = out
    arrays = Operands(x, cos, sin, out)
    assert llvm_cpu._bypasses_caches(plan, arrays, fresh="fresh" in what) == bypasses


def test_processors_that_do_not_convert_float16(monkeypatch, rng):
    """LLVM would call a function there that does not exist, and the process would end."""
    arrays = Operands(*made(rng, (32, 64, 64), 32, "float16"))
    plan = plan_of(arrays[:3])
    for converts in (False, True):
        monkeypatch.setattr(llvm_cpu, "converts_float16", lambda converts=converts: converts)
        assert llvm_cpu.supports(plan, arrays) == converts
