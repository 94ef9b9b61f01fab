"""examples/sharded_dask.py: a worker is killed, a chunk is damaged, a file cannot be written."""

import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rope_xp import RoPE

pytestmark = pytest.mark.backend("dask")

EXAMPLE = Path(__file__).parents[2] / "examples" / "sharded_dask.py"
INSTALL = 'pip install "dask[array,distributed]" zarr tqdm'
for package in ("distributed", "zarr", "tqdm"):
    if "CI" in os.environ:  # there it is a mistake if one is missing
        importlib.import_module(package)
    pytest.importorskip(package, reason=f"examples/sharded_dask.py needs {package}: {INSTALL}")

TOKENS = 4 * 2**14 - 1000  # of 2048 bytes; the last chunk is smaller


def run(folder, *arguments, prepare=None):
    command = [
        sys.executable,
        EXAMPLE,
        "--folder",
        folder,
        "--gib",
        str(TOKENS / 2**19),
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", preexec_fn=prepare
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run in which a worker was killed, and its folder."""
    folder = tmp_path_factory.mktemp("killed")
    return run(folder, "--kill"), folder


@pytest.fixture
def folder(killed, tmp_path):
    """A folder that has keys already."""
    shutil.copytree(killed[1] / "keys.zarr", tmp_path / "keys.zarr")
    return tmp_path


def test_a_worker_is_killed_and_the_run_finishes(killed):
    import zarr

    done, folder = killed
    assert done.returncode == 0, done.stderr
    assert "killed a worker after 1 of 4 chunks" in done.stdout
    assert re.search(
        r"^0\.13 GB, .* GB/s, [0-3]\.\d\d GiB; 4 chunks right$", done.stdout, re.MULTILINE
    )
    assert names(folder) == ["keys.zarr", "rotated.zarr"]
    assert not [*folder.rglob("*.partial")]
    x, y = (zarr.open_array(folder / name, mode="r") for name in names(folder))
    assert x.shape == y.shape == (8, TOKENS, 128)
    assert y.nchunks_initialized == 4
    rope = RoPE(128, layout="half", base=500000.0)
    for part in (slice(2**14 - 2, 2**14 + 2), slice(TOKENS - 2, TOKENS)):
        wanted = rope(x[:, part], positions=np.arange(TOKENS)[part])
        np.testing.assert_allclose(y[:, part], wanted, atol=2.0**-9)


def test_a_damaged_chunk_is_named_and_leaves_no_output(folder):
    chunk = folder / "keys.zarr" / "c" / "0" / "2" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    chunk.write_bytes(damaged)
    failed = run(folder)
    assert failed.returncode == 1
    ending = failed.stderr.splitlines()[-1]
    assert ending.startswith("rotating: chunk 2 failed: RuntimeError("), ending
    assert "Zstd decompression error" in ending
    assert names(folder) == ["keys.zarr"]


def test_what_cannot_be_written_leaves_no_output(folder):
    """The system refuses files above 8 MiB, as a full disk refuses any; keys in a chunk have 0.6 MB."""
    failed = run(folder, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**23, 2**23)))
    assert failed.returncode == 1
    ending = failed.stderr.splitlines()[-1]
    assert re.search(r"^rotating: chunk \d failed: OSError\(27, 'File too large'\)$", ending), (
        ending
    )
    assert names(folder) == ["keys.zarr"]


def test_an_output_that_exists_stays(folder):
    (folder / "rotated.zarr").mkdir()
    failed = run(folder)
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        "rotated.zarr exists already: remove it, or choose another --folder\n"
    )
    assert names(folder) == ["keys.zarr", "rotated.zarr"]
