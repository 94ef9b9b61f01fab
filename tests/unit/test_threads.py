"""Many threads at once, from the first import on: the bits of one thread, whatever is made on first use."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import workloads

ROOT = Path(__file__).parents[2]
SWITCH = "import sys; sys.setswitchinterval(1e-6)\n"


def run(*args, paths=(), **env):
    """What a new interpreter prints: nothing is imported, made or remembered in it."""
    paths = [str(ROOT / "tests"), *map(str, paths)]
    if (
        "PYTHONSAFEPATH" not in os.environ
    ):  # else a copy of the package is under test: see mutants.py
        paths.append(str(ROOT))
    paths += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env}
    command = [sys.executable, "-W", "error", *args]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def digests(name, threads=1, **env):
    return json.loads(run(str(ROOT / "tests/workloads.py"), name, str(threads), **env))


def test_first_calls_of_16_threads_have_the_bits_of_one(lib):
    if lib.name == "jax" and lib.has_float64:
        pytest.skip("the program chooses no 64-bit types")
    (alone,) = digests(lib.name)
    for together in digests(lib.name, 16):
        assert together == alone


def test_numbers_of_threads_change_no_bit(lib):
    if lib.name not in ("numpy", "torch"):
        pytest.skip("no operation of it is split between threads here")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    one, two, four = (digests(lib.name, 1, **dict.fromkeys(names, n)) for n in "124")
    assert one == two == four


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_a_library_may_be_imported_beside_ours(library):
    """Its thread calls back, with classes of modules that other threads import."""
    pytest.importorskip(library)
    code = f"""{SWITCH}
import importlib, workloads
names = ["rope_xp", "{library}", "rope_xp", "rope_xp.configs", "rope_xp"]

def load(i):
    names_here = names[i % 2:] if i % 2 else ["{library}", *names]
    for name in names_here:
        importlib.import_module(name)

workloads.in_threads(load, 8)
import rope_xp.attention
from rope_xp._backends.registration import _Notifier
mine = [f for f in sys.meta_path if isinstance(f, _Notifier) and f.name == "{library.partition(".")[0]}"]
print(all(f.done and not f.callbacks for f in mine))
"""
    assert run("-c", code).strip() == "True"


def test_values_are_known_to_a_library_that_another_thread_was_importing():
    pytest.importorskip("torch")
    code = f"""{SWITCH}
import threading
thread = threading.Thread(target=lambda: __import__("torch"))
thread.start()
while "torch" not in sys.modules:
    pass
import rope_xp
thread.join()
import io, torch
file = io.BytesIO()
torch.save(rope_xp.RoPE(8, layout="half"), file)
file.seek(0)
print(torch.load(file))
"""
    assert run("-c", code).strip() == "RoPE(8, layout='half')"


def test_a_finder_stays_where_other_threads_may_be_going_through_the_list(tmp_path):
    """Of a list that gets shorter, an iterator leaves out an element: there, that finds modules."""
    code = """
import sys
import rope_xp._backends.registration as registration
seen = []
registration.when_imported("made_up", lambda: seen.append(1))
before = list(sys.meta_path)
finders = iter(sys.meta_path)
next(finders)
import made_up
registration.when_imported("made_up", lambda: seen.append(2))
print(seen, list(finders) == before[1:])
"""
    (tmp_path / "made_up.py").write_text("")
    assert run("-c", code, paths=[tmp_path]).strip() == "[1, 2] True"


def test_memos_under_stress(monkeypatch):
    """Every memo, cleared and asked by all threads at once."""
    import functools

    from rope_xp import RoPE, scaling

    functools_memos = [
        value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "rope_xp"
        for value in list(vars(module).values())
        if isinstance(value, functools._lru_cache_wrapper)
    ]
    assert len(functools_memos) > 10
    before = sys.getswitchinterval()
    x = workloads.numbers((1, 2, 3, 32))
    ropes = [
        RoPE(32, layout=layout, base=base, scaling=scaling.YaRN(factor, 4096))
        for layout in ("half", "interleaved")
        for base in (1e4, 5e5)
        for factor in (2.0, 4.0)
    ]
    expected = [rope(x, offset=99_000).tobytes() for rope in ropes]

    def work(i):
        for n in range(20):
            if i == 0:
                for memo in functools_memos:
                    if memo.__module__ != "rope_xp._kernels.llvm_cpu":  # found out once, on purpose
                        memo.cache_clear()
            each = (i + n) % len(ropes)
            assert ropes[each](x, offset=99_000).tobytes() == expected[each]

    sys.setswitchinterval(1e-6)
    try:
        workloads.in_threads(work, 16)
    finally:
        sys.setswitchinterval(before)
    assert threading.active_count() >= 1
    np.testing.assert_equal(len(expected), 8)
