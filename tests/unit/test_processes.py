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


def bits(value):
    """All that a value contains, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return type(value).__name__, tuple(map(bits, value))
    return repr(value)


def received(value):
    """In the other process: what has arrived, and what it computes there."""
    x = workloads.numbers((1, 2, 3, value.head_dim)) if isinstance(value, RoPE) else None
    computed = None if x is None or value.axes else value(x, offset=5).tobytes()
    return bits(value), computed, value


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_values_go_to_processes_and_come_back(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    context = multiprocessing.get_context(method)
    given = values()
    # Not a Pool, which waits for ever for a process that cannot read what it is sent.
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = [*pool.map(received, given)]
    for value, (there, computed, back) in zip(given, found, strict=True):
        assert there == bits(value) == bits(back)
        assert type(back) is type(value)
        if isinstance(value, RoPE):
            assert back == value
            assert hash(back) == hash(value)
            assert computed == received(value)[1]


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_twins_contain_the_same(twin):
    for value in values():
        assert bits(twin(value)) == bits(value)


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
import json, signal, sys
import numpy as np, workloads
class Stop(KeyboardInterrupt): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
import rope_xp
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
try:
    workloads.digests("numpy")
except Stop:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
import warnings
warnings.simplefilter("ignore")  # llvmlite that was interrupted is done without, and says so
print(json.dumps(workloads.digests("numpy")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no signal interrupts here")
def test_an_interrupted_first_call_leaves_nothing_half_made():
    """Ctrl-C at some moment of it: the next call computes what it always does."""
    # Without the extra `fast`, large interleaved arrays can differ in the last bit.
    expected = {digests(60), digests(60, ROPE_XP_FAST="0")}
    for seconds in (0.003, 0.03, 0.1, 0.2):
        assert digests(seconds) in expected


def digests(seconds, **env):
    """What a process prints that was interrupted after some seconds, or had come to its end."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path(), **env},
    )
    assert done.returncode == 0, (seconds, done.stderr)
    return done.stdout
