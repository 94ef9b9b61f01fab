"""examples/train_tiny.py, in very small: what it trains learns, and what it records is there."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend("jax")
if "CI" in os.environ:  # there it is a mistake if one is missing
    importlib.import_module("optax")
pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="examples/train_tiny.py needs optax: pip install optax")

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_tiny.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "found.json"
    command = [sys.executable, EXAMPLE, "--steps", "20", "--seeds", "1", "--out", path]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_encoding_learns(found):
    losses = {run["encoding"]: run["loss"] for run in found["runs"]}
    assert len(losses) == 7
    assert all(2 < loss[0] < 4 for loss in losses.values())  # ln 128 is 4.85


def test_what_rotates_is_scaled_and_learned_frequencies_are_recorded(found):
    runs = {run["encoding"]: run for run in found["runs"]}
    assert [name for name, run in runs.items() if "scaled" in run] == ["rope", "linear, rope"]
    assert {*runs["rope"]["scaled"]} == {"linear", "NTK", "YaRN"}
    assert len(runs["rope, learned frequencies"]["inv_freq"]) == 8


def test_the_recording_of_the_book_is_complete():
    found = json.loads((EXAMPLE.parents[1] / "book/train_tiny.json").read_text(encoding="utf-8"))
    assert len(found["runs"]) == 7 * found["seeds"] == 21
