"""The program of ``nox -s gpu``, without a GPU: what it says, and what it would write."""

import json

import pytest
from tools import gpu

TESTS = """
import pytest
def test_right(): pass
def test_wrong(): assert 0
def test_left_out(): pytest.skip("no reason")
"""
RATIO = {
    "case": "torch-cuda",
    "against": "copy",
    "dtype": "bfloat16",
    "ours_ms": 0.5,
    "peer_ms": 0.25,
}


def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"no nvidia-smi, so no GPU .* nothing was run or written"):
        gpu.main(str(tmp_path / "gpu.json"))
    assert not list(tmp_path.iterdir())


def test_what_it_writes(monkeypatch, tmp_path):
    (tmp_path / "test_first.py").write_text(TESTS)
    first = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path / "test_first.py")]
    monkeypatch.setattr(gpu, "STEPS", {"first": (600, first, {})})
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "machine", lambda: {"commit": "abc", "device": ["a GPU"]})
    monkeypatch.setenv("ROPE_XP_CUDA", "0")  # which is undone afterwards
    path = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match=r"not all of it passed: .*gpu\.json says what"):
        gpu.main(str(path))
    found = json.loads(path.read_text())
    assert (found["commit"], found["device"]) == ("abc", ["a GPU"])
    step = found["tests"]["first"]
    assert (step["passed"], step["skipped"], step["finished"]) == (1, 1, True)
    assert [name.rpartition("::")[2] for name in step["failed"]] == ["test_wrong"]


def test_a_step_that_takes_too_long_is_interrupted(monkeypatch, tmp_path):
    signals = []

    class Process:
        returncode = 2

        def __init__(self, *_, **__):
            pass

        def wait(self, seconds):
            if not signals:
                raise gpu.subprocess.TimeoutExpired(["pytest"], seconds)

        def send_signal(self, which):
            signals.append(which)
            (tmp_path / "junit.xml").write_text(
                "<testsuite><testcase classname='a' name='b'/></testsuite>"
            )

    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    step = gpu.run(1, [], {}, tmp_path)
    assert signals == [gpu.signal.SIGINT]
    assert (step["finished"], step["passed"], step["failed"]) == (False, 1, [])


def test_bandwidth_counts_each_byte_read_and_written():
    found = gpu.bandwidth({**RATIO, "shape": "1×32×1000×128, 32 pairs"})
    assert (found["copy_gb_per_s"], found["ours_gb_per_s"]) == (66, 33)
