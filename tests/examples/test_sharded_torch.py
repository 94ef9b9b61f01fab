"""examples/sharded_torch.py, in small."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend("torch")
torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

EXAMPLE = Path(__file__).parents[2] / "examples" / "sharded_torch.py"


def run(*arguments):
    command = [sys.executable, EXAMPLE, *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment
    )


def test_it_prints_what_each_process_has():
    done = run("--seq", "64")
    assert done.returncode == 0, done.stderr
    found = re.findall(r"sharded over (\w+) +(\(.*\)) on each process, 0 collectives", done.stdout)
    assert found == [("heads", "(1, 1, 64, 64)"), ("sequence", "(1, 4, 16, 64)")]
    assert "process 0 has tokens 0 … 7 and\n  56 … 63" in done.stdout
    assert float(re.search(r"by (\S+) at most", done.stdout)[1]) < 1e-5


def test_it_refuses_other_lengths():
    done = run("--seq", "65")
    assert done.returncode == 2
    assert done.stderr.endswith("--seq must be a positive multiple of 8, got 65\n")
