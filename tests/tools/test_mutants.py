"""The runner of mutants on a package of two functions."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tools import mutants
from tools.mutants import Row

CODE = '''"""Small."""

LIMIT = 3


def clip(n):
    if n > LIMIT:
        return LIMIT
    return n


def sign(n):
    return (n > 0) - (
        n < 0
    )
'''
TESTS = """from tiny.numbers import clip, sign


def test_clip():
    assert [clip(n) for n in range(6)] == [0, 1, 2, 3, 3, 3]


def test_sign():
    assert sign(5) == 1
"""


@pytest.fixture
def package(tmp_path):
    """``tiny.numbers`` is a folder."""
    folder = tmp_path / "tiny"
    (folder / "numbers").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "numbers" / "__init__.py").write_text("from tiny.numbers.core import clip, sign\n")
    (folder / "numbers" / "core.py").write_text(CODE)
    return folder


def test_a_row_is_found_wherever_its_text_is(package):
    row = Row("numbers", "n > LIMIT", "n < LIMIT")
    assert mutants.find(row, package) == Path("numbers/core.py")
    (package / "numbers" / "core.py").rename(package / "numbers" / "moved.py")
    assert mutants.find(row, package) == Path("numbers/moved.py")
    (package / "numbers" / "moved.py").rename(package / "numbers.py")
    assert mutants.find(row, package) == Path("numbers.py")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("numbers", "return 0", "return 1"), "must occur once in 'numbers', got none"),
        (Row("numbers", "return", "yield"), "must occur once in 'numbers', got 3 in core.py"),
        (Row("digits", "return n", "return 1"), "must occur once in 'digits', got no file"),
        (Row("numbers", "LIMIT = 3", "LIMIT ="), "core.py cannot be read with the new text"),
    ],
)
def test_a_row_that_names_no_one_place_is_broken(package, row, message):
    (sentence,) = mutants.broken([Row("numbers", "LIMIT = 3", "LIMIT = 4"), row], package)
    assert message in sentence


def test_probes_note_the_rows_that_are_reached(package, monkeypatch):
    """A row within a statement of several lines counts as that; one that importing runs has none."""
    rows = [
        Row("numbers", "n > LIMIT", ""),
        Row("numbers", "        return LIMIT", "        return 0"),
        Row("numbers", "n < 0", "0"),
        Row("numbers", "LIMIT = 3", "LIMIT = 4"),
    ]
    monkeypatch.setattr(mutants, "find", lambda row, package: Path("numbers/core.py"))
    mutants.add_probes(rows, package)
    code = runpy.run_path(str(package / "numbers" / "core.py"))
    monkeypatch.setattr(sys, "reached", set(), raising=False)
    for name, argument, reached in (("clip", 2, {0}), ("clip", 4, {0, 1}), ("sign", 1, {2})):
        sys.reached.clear()
        code[name](argument)
        assert sys.reached == reached


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {tools!r})
import mutants
mutants.ROOT, mutants.PACKAGE, mutants.TESTS = Path({root!r}), Path({root!r}, "tiny"), {{"numpy": ["tests"]}}
mutants.WARM = ["pytest", "hypothesis"]
mutants.CAUGHT_BY = Path({root!r}, "caught_by.json")
sys.exit(mutants.run_library("numpy", [mutants.Row(*row) for row in {rows!r}], 2, record=True))
"""


def run(package, *rows):
    root = package.parent
    (root / "tests").mkdir(exist_ok=True)
    (root / "tests" / "test_tiny.py").write_text(TESTS)
    code = RUN.format(tools=str(Path(mutants.__file__).parent), root=str(root), rows=rows)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_run(package):
    done = run(
        package,
        ("numbers", "n > LIMIT", "n > LIMIT + 1"),
        ("numbers", "LIMIT = 3", "LIMIT = 4"),
        ("numbers", "n < 0", "n > 9"),
    )
    assert done.returncode == 1, done.stderr  # the survivors
    lines = done.stdout.splitlines()
    assert (
        sum(line.startswith("caught") and "test_tiny.py::test_clip" in line for line in lines) == 2
    )
    assert lines[-2].startswith("numpy: 2 of 3 mutants caught")
    assert lines[-1] == "  survived: numbers: 'n < 0' -> 'n > 9'"


def test_what_is_recorded_runs_first_and_hides_nothing(package):
    """A record that is wrong, or of a test that is gone, costs a second run and nothing else."""
    rows = [("numbers", "n > LIMIT", f"n > LIMIT + {n}") for n in (1, 2, 3)]
    clip, sign = (f"tests/test_tiny.py::test_{name}" for name in ("clip", "sign"))
    record = package.parent / "caught_by.json"
    tests = dict(zip((str(Row(*row)) for row in rows), (clip, sign, f"{clip}ped"), strict=True))
    record.write_text(json.dumps({"numpy": tests, "torch": {"a": "b"}}))
    done = run(package, *rows, ("numbers", "n < 0", "n > 9"))
    lines = done.stdout.splitlines()
    assert str(Row(*rows[0])) in lines[0]  # the one whose record was right, before the others
    assert lines[-2].startswith("numpy: 3 of 4 mutants caught"), done.stderr
    found = json.loads(record.read_text())
    assert found == {"numpy": dict.fromkeys(tests, clip), "torch": {"a": "b"}}


def test_tests_that_fail_anyway_catch_nothing(package):
    (package / "numbers" / "core.py").write_text(CODE.replace("LIMIT = 3", "LIMIT = 5"))
    done = run(package, ("numbers", "n < 0", "n > 9"))
    assert done.returncode == 1
    assert done.stderr.startswith("Tests fail without a mutant.")
    assert "test_clip" in done.stderr
