"""A user's program passes ``mypy --strict``: what comes back has a type, and typing errors are found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_a_users_program_is_typed():
    pytest.importorskip("mypy", reason="nox -s types has it")
    options = ["--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={os.devnull}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(HERE / "user_types.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(HERE.parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
