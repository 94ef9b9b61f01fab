"""examples/sharded_jax.py in small, in a process of its own: devices are made before JAX is imported."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend("jax")
if importlib.util.find_spec("jax") is None:
    pytest.skip("jax is not installed", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(EXAMPLES), *sys.path))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_in_small():
    done = run("import sharded_jax; sharded_jax.main(seq=64, heads=2)")
    assert done.returncode == 0, done.stderr
    assert "contiguous: 36, 100, 164, 228, 292, 356, 420, 484 scores" in done.stdout
    assert f"zigzag: {', '.join(['260'] * 8)} scores" in done.stdout
    assert "none in the rotation, 21 permutations in the ring" in done.stdout


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        ("sharded_jax.causal_mask = lambda q, k: causal_mask(q, q)", "off <= bound"),
        (
            "sharded_jax.shard_indices = lambda *a, order: shard_indices(*a, order='contiguous')",
            "len(set(work)) == 1",
        ),
    ],
)
def test_mistakes_are_noticed(mistake, line):
    done = run(f"""
import sharded_jax
from rope_xp.attention import causal_mask
from rope_xp.positions import shard_indices
{mistake}
sharded_jax.main(seq=64, heads=1)""")
    assert done.returncode == 1
    assert re.search(rf"assert {re.escape(line)}\s+.*AssertionError", done.stderr, re.DOTALL)


def test_without_jax_it_says_what_it_needs():
    done = run("import sys; sys.modules['jax'] = None; import sharded_jax")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs a JAX with jax.shard_map: pip install -U jax" in done.stderr
