"""Values sent to other processes, and the same bits in each."""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import workloads

from rope_xp import RoPE, axes, positions, scaling
from rope_xp.attention import KVCache, WindowCache
from rope_xp.configs import layer_ropes

HERE = Path(__file__).parents[1]
ROPES = [
    RoPE(64, layout="half", base=500_000.0, scaling=scaling.YaRN(4.0, 4096)),
    RoPE(48, layout="interleaved", axes=axes.Sections((8, 8, 8))),
    RoPE(64, layout="half", query_scale=scaling.FloorLogScale(8192, 0.1)),
    RoPE(64, layout="half", ranges=positions.SelfExtend(8, 16)),
]


def values():
    """Of each kind one."""
    k = workloads.numbers((1, 2, 3, 64))
    return [
        *ROPES,
        layer_ropes(workloads.CONFIG),
        positions.Tokens(np.arange(4), documents=np.asarray([0, 0, 1, -1])),
        KVCache.empty((1, 2, 8, 64)).append(k, k).drop(1, ROPES[0]),
        WindowCache.empty((1, 2, 8, 64), ROPES[0]).append(k, k),
    ]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_values_go_to_processes_and_come_back(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    context = multiprocessing.get_context(method)
    given = values()
    # Not a Pool, which waits for ever for a process that cannot read what it is sent.
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = [*pool.map(workloads.received, given)]
    for value, (there, computed, back) in zip(given, found, strict=True):
        assert there == workloads.bits(value) == workloads.bits(back)
        assert type(back) is type(value)
        if isinstance(value, RoPE):
            assert back == value
            assert hash(back) == hash(value)
            assert computed == workloads.received(value)[1]


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_twins_contain_the_same(twin):
    for value in values():
        assert workloads.bits(twin(value)) == workloads.bits(value)


def test_runs_have_the_same_bits(lib):
    """Whatever the hashes of strings are, in which sets are ordered."""
    if lib.name == "jax" and lib.has_float64:
        pytest.skip("the program chooses no 64-bit types")
    found = []
    for seed in ("0", "42"):
        done = subprocess.run(
            [sys.executable, str(HERE / "workloads.py"), lib.name],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": python_path(), "PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]


def python_path():
    root = [] if "PYTHONSAFEPATH" in os.environ else [str(HERE.parent)]  # see mutants.py
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(HERE), *root, *given])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_while_threads_rotate_can_rotate():
    code = """
import os, sys, threading
import numpy as np, workloads
from rope_xp import RoPE
rope, x = RoPE(128, layout="half"), workloads.numbers((2, 4, 300, 128))
stop = threading.Event()
def work():
    while not stop.is_set():
        RoPE(64, layout="half", base=1e4 + np.random.default_rng().random())(x[..., :64], offset=3)
        rope(x, offset=7)
threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
expected, codes = rope(x, offset=7).tobytes(), []
for _ in range(5):
    child = os.fork()
    if child == 0:
        import signal
        signal.alarm(60)
        os._exit(rope(x, offset=7).tobytes() != expected)
    codes.append(os.waitpid(child, 0)[1])
stop.set()
for thread in threads:
    thread.join()
print(codes)
"""
    env = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.stdout.strip() == str([0] * 5), done.stdout + done.stderr


INTERRUPTED = """
import contextlib, importlib, json, signal, sys
import workloads, rope_xp
seconds, *others = sys.argv[1:]
for name in others:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
class Stop(KeyboardInterrupt): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, float(seconds))
try:
    workloads.digests("numpy")
except Stop:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
import warnings
warnings.simplefilter("ignore")  # llvmlite that was interrupted is done without, and says so
found = workloads.digests("numpy")
print(json.dumps([found, [name for name in sys.modules if not name.startswith("rope_xp")]]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no signal interrupts here")
def test_an_interrupted_first_call_leaves_nothing_half_made():
    """Ctrl-C at some moment of it: the next call computes what it always does."""
    wanted, others = interrupted(600)
    # Without the extra `fast`, large interleaved arrays can differ in the last bit.
    expected = [wanted, interrupted(600, ROPE_XP_FAST="0")[0]]
    for seconds in (0.003, 0.03, 0.1, 0.2):
        # With all modules of others imported: some can not be imported again after Ctrl-C.
        assert interrupted(seconds, *others)[0] in expected


def interrupted(seconds, *modules, **env):
    """Digests of a process that was interrupted after some seconds, and the modules that it has."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(seconds), *modules],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path(), **env},
    )
    assert done.returncode == 0, (seconds, done.stderr)
    return json.loads(done.stdout)
