"""book/in_page.py: which cells can run in the page, and what is accepted for them."""

import hashlib
import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "book"
SPEC = importlib.util.spec_from_file_location("in_page", BOOK / "in_page.py")
in_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(in_page)

WHEEL = "numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl"
CONTENT = b"what NumPy's wheel would be"


def lock(content=CONTENT):
    entry = {"file_name": WHEEL, "sha256": hashlib.sha256(content).hexdigest()}
    return {"info": {"version": "0.27.7"}, "packages": {"numpy": entry, "scipy": {}}}


def write_pyodide(folder, locked):
    files = {name: name.encode() for name in (*in_page.SCRIPTS, *in_page.PARTS)}
    files["pyodide-lock.json"] = json.dumps(locked).encode()
    with tarfile.open(folder / "pyodide-0.27.7.tgz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_package(folder, *names, content=CONTENT):
    path = folder / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return path


def test_the_wheel_is_the_one_of_the_lock_file(tmp_path):
    path = write_package(tmp_path, f"package/assets/{WHEEL}", "package/other.whl")
    assert in_page.numpy_wheel(lock(), path) == (WHEEL, CONTENT)


def test_a_wheel_with_another_hash_is_refused(tmp_path):
    path = write_package(tmp_path, WHEEL, content=b"something else")
    with pytest.raises(ValueError, match=f"the sha256 of {WHEEL} must be .*, got "):
        in_page.numpy_wheel(lock(), path)


@pytest.mark.parametrize("names", [(), (f"a/{WHEEL}", f"b/{WHEEL}")])
def test_a_package_with_no_wheel_or_two_is_refused(names, tmp_path):
    path = write_package(tmp_path, "package/other.whl", *names)
    with pytest.raises(ValueError, match=f"must have one {WHEEL}, got {len(names)}"):
        in_page.numpy_wheel(lock(), path)


def test_what_is_fetched_becomes_scripts(tmp_path):
    write_pyodide(tmp_path, lock())
    write_package(tmp_path, WHEEL)
    home = tmp_path / "in_page"
    assert in_page.fetched(tmp_path, home).startswith("Cells of the book can run in their pages")
    assert {"parts.js", "examples.js", "pyodide.js"} < {path.name for path in home.iterdir()}
    data = "".join(path.read_text() for path in home.glob("data*.js"))
    assert f'inPage.part("{WHEEL}", "' in data
    examples = (home / "examples.js").read_text().removeprefix("inPage.examples = ")
    examples = json.loads(examples.removesuffix(";\n"))
    assert len(examples) > 100
    assert examples["qwen3"]["model_type"] == "qwen3"
    assert (
        examples["kimi_k2"]["qk_rope_head_dim"] == 64
    )  # of deepseek_v3, which it shares a line with
    assert examples["aya_vision"]["text_config"]["model_type"] == "cohere2"
    assert not [name for name in examples if " " in name]


@pytest.mark.parametrize("is_there", [False, True])
def test_without_the_right_wheel_there_are_no_scripts_and_a_sentence(is_there, tmp_path):
    write_pyodide(tmp_path, lock())
    if is_there:
        write_package(tmp_path, WHEEL, content=b"something else")
    home = tmp_path / "in_page"
    home.mkdir()
    (home / "parts.js").write_text("of an earlier build")
    printed = in_page.fetched(tmp_path, home)
    assert printed.startswith("No cell of the book can run in its page: ")
    assert ("sha256" in printed) is is_there
    assert not home.exists()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["import numpy as np\nfrom rope_xp.axes import Axial", "np.ones(3)"], [True, True]),
        (["import torch", "x = 1", "torch.ones(x)"], [False, True, False]),
        (
            ["import plots", "y = plots.draw()", "y", "y = 2", "y"],
            [False, False, False, True, True],
        ),
        (["rows = []", "import plots\nrows.append(1)", "rows"], [True, False, False]),
        (["d = {}", "import jax\nd['a'] = 1", "print(d)"], [True, False, False]),
        (["def f():\n    import torch\n    return 1", "f()"], [False, False]),
        (["%timeit 1", "1"], [False, True]),
        (["from . import plots"], [False]),
    ],
)
def test_which_cells_can_run(cells, expected):
    assert in_page.runnable(cells) == expected
