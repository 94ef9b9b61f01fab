"""The program of ``nox -s gpu``, without a GPU: what it says, and what it would write."""

import json

import pytest
from tools import gpu

TESTS = """
import pytest, time
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
    """After each step; a step that takes too long is stopped, and counted as far as it came."""
    (tmp_path / "test_first.py").write_text(TESTS)
    (tmp_path / "test_slow.py").write_text(TESTS + "def test_slow(): time.sleep(100)")
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    steps = {
        "first": (60, [*options, str(tmp_path / "test_first.py")], {}),
        "slow": (6, [*options, str(tmp_path / "test_slow.py")], {}),
    }
    monkeypatch.setattr(gpu, "STEPS", steps)
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "machine", lambda: {"commit": "abc", "device": ["a GPU"]})
    monkeypatch.delenv("ROPE_XP_CUDA", raising=False)
    path = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match=r"not all of it passed: .*gpu\.json says what"):
        gpu.main(str(path))
    monkeypatch.delenv("ROPE_XP_CUDA")
    found = json.loads(path.read_text())
    assert (found["commit"], found["device"]) == ("abc", ["a GPU"])
    for name, finished in (("first", True), ("slow", False)):
        step = found["tests"][name]
        assert step["finished"] == finished
        assert step["failed"][0].endswith("::test_wrong")
        assert step["skipped"] == 1
        assert step["passed"] >= 1


def test_bandwidth_counts_each_byte_read_and_written():
    found = gpu.bandwidth({**RATIO, "shape": "1×32×1000×128, 32 pairs"})
    assert (found["copy_gb_per_s"], found["ours_gb_per_s"]) == (66, 33)
