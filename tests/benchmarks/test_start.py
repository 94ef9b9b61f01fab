"""The costs before the first rotation: the import, and the tables."""

import contextlib
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from benchmarks import measure, peers
from rope_xp import RoPE, rotate


def test_exact_tables(compare, timed):
    n = 131_072 if timed else 4096
    rope, positions = RoPE(128, layout="half"), np.arange(n)
    inv_freq = rope.frequencies().inv_freq

    def peer():
        angles = np.outer(positions, inv_freq)
        return np.cos(angles), np.sin(angles)

    compare(
        "exact tables",
        "float64 outer, cos, sin",
        ours=lambda: rope.cos_sin(positions),
        peer=peer,
        problem=f"{n}×64",
        limit=0.7,
        use="start",
    )


def importing(name):
    """Seconds that a fresh interpreter takes to import ``name``, without its own start."""
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"

    def run():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    return run


def test_first_import(compare_clocks):
    importing("rope_xp")(), importing("numpy")()  # writes bytecode, fills the disk's cache
    compare_clocks(
        "import rope_xp",
        "import numpy",
        ours=importing("rope_xp"),
        peer=importing("numpy"),
        use="start",
        limit=1.5,
    )


FIRST_ROTATION = """
import time
import numpy as np
from rope_xp import RoPE, rotate
x = np.ones((1, 32, 256, 128), np.float32)
cos, sin = RoPE(128, layout="half").cos_sin(np.arange(256))
start = time.perf_counter()
rotate(x, cos, sin, layout="half")
print(time.perf_counter() - start)
"""


def test_first_rotation(compare_clocks, need):
    """Seconds that the first large rotation of a new process takes; the peer is one second."""
    case = "first rotation, 4 MiB, fast"
    need(case, "llvmlite")

    def ours():
        command = [sys.executable, "-c", FIRST_ROTATION]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    compare_clocks(case, "a second", ours=ours, peer=lambda: 1.0, use="start", limit=0.15, rounds=5)


def test_verdicts():
    steady, wild = [1.0, 1.01, 1.0, 0.99, 1.0], [1.0, 2.0, 0.5, 3.0, 1.0]
    assert measure.judge(steady, [2.0] * 5, 0.6)["verdict"] == "ok"
    assert measure.judge(steady, [2.0] * 5, 0.4)["verdict"] == "over"
    assert measure.judge(steady, [2.0] * 5, None)["verdict"] == "for information"
    assert measure.judge(wild, [2.0] * 5, 0.4)["verdict"] == "too noisy"
    assert measure.judge(wild, [2.0] * 5, 9.0)["verdict"] == "ok"


def test_contenders_take_turns_each_in_its_context():
    log = []

    @contextlib.contextmanager
    def inside():
        log.append("enter")
        yield
        log.append("exit")

    def slow(name):
        log.append(name)
        time.sleep(measure.ROUND_SECONDS)

    contenders = {
        "a": (contextlib.nullcontext, partial(slow, "a")),
        "b": (inside, partial(slow, "b")),
    }
    times, a_round, rounds = measure.in_turn(contenders, seconds=0, fewest=3)
    assert rounds == 3
    log.clear()
    a_round()
    a_round()
    assert log == ["a", "enter", "b", "exit"] * 2
    assert all(len(each) == 2 and min(each) >= measure.ROUND_SECONDS for each in times.values())


def test_sizes_are_those_that_are_meant():
    assert [problem.nbytes for problem in peers.SIZES[:3]] == [2**10, 2**12, 2**14]
    assert str(peers.of_kib(16)) == "1×32×1×128"  # a token
    assert str(peers.of_kib(240)) == "1×32×15×128"
    assert peers.SIZES[-1].nbytes == 2**30
    x, cos, _ = peers.of_kib(2048).large_arrays()
    assert x.nbytes == 2**21
    assert cos.shape == (128, 64)
    assert peers.DECODE_BOTH.token_bytes("bfloat16") == 40 * 128 * 2


def test_a_wrong_rotation_is_noticed():
    x, _, cos, sin = peers.FIRST.small().arrays()
    right = rotate(x, cos, sin, layout="half")
    measure.assert_same(right, right.copy(), "float32")
    for wrong in (
        rotate(x, cos, sin, layout="half", inverse=True),
        rotate(x, cos, sin, layout="interleaved"),
        right + np.float32(1e-4),
    ):
        with pytest.raises(AssertionError, match="ours and the peer differ by"):
            measure.assert_same(wrong, right, "float32")
