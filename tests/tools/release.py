"""What would be published, tried as its users get it: ``python tests/tools/release.py`` (nox -s build).

Builds sdist and wheel into ``dist/``, twice, and the wheel a third time from the sdist: the same bytes.
Looks at what they contain, installs the wheel in a new environment and runs the quickstart from a copy,
in a folder where nothing else of this project is.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
# Of each package's files, some of those that no import statement names.
DATA = [
    "py.typed",
    "_config_reader/families.json",
    "_config_reader/published.json",
    "_config_reader/gguf/gguf.json",
    "_config_reader/carriers/diffusers.json",
]
NEVER = re.compile(
    r"__pycache__|\.pyc$|\.nox|\.(git|hypothesis|ruff_cache|mypy_cache)/|_build|/dist/"
)


def run(*command, cwd=ROOT, **env):
    """Its output; SystemExit with all of it if the command fails."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"{' '.join(map(str, command))}\n{done.stdout}"
        raise SystemExit(msg)
    return done.stdout


def commit_time():
    """Of the last commit: what a build may know of time. Without a repository, a day of 2020."""
    done = subprocess.run(
        ["git", "log", "-1", "--pretty=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "1577836800"


def build(folder, *what, source=ROOT):
    """Sdist, wheel, or both, by the tools that are installed here."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or commit_time()
    args = ("--no-isolation", "--outdir", folder, *what, source)
    run(sys.executable, "-m", "build", *args, SOURCE_DATE_EPOCH=epoch)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def require(condition, sentence):
    if not condition:
        raise SystemExit(sentence)


def tracked(*folders):
    """Files of the repository in these folders; where there is none, files."""
    done = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and done.stdout:
        return set(done.stdout.split())
    files = (p for f in folders for p in (ROOT / f).rglob("*") if p.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files}


def check_wheel(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith("/METADATA"))
    check_names(path, names)
    found = {name for name in names if name.startswith("rope_xp/")}
    there = {f for f in tracked("rope_xp") if (ROOT / f).exists()}
    require(found == there, f"{path.name}: not the package's files: {sorted(found ^ there)[:10]}")
    others = {n.partition("/")[0] for n in names} - {"rope_xp"}
    require(all(n.endswith(".dist-info") for n in others), f"{path.name} installs {sorted(others)}")
    for each in DATA:
        require(f"rope_xp/{each}" in names, f"{path.name}: rope_xp/{each} is missing")
    require(any(n.endswith("licenses/LICENSE") for n in names), f"{path.name}: LICENSE is missing")
    for line in ("License-Expression: BSD-3-Clause", "Requires-Python: >=3.11", "Name: rope_xp"):
        require(line in metadata, f"{path.name}: its metadata does not say {line!r}")


def check_sdist(path):
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    names = [member.name.partition("/")[2] for member in members]
    check_names(path, names)
    require(all(m.isfile() or m.isdir() for m in members), f"{path.name} contains links")
    wanted = tracked("rope_xp", "tests", "examples")
    wanted = {f for f in wanted if (ROOT / f).exists()}
    wanted |= {"pyproject.toml", "README.md", "LICENSE", "noxfile.py", "CHANGELOG.md"}
    require(wanted <= {*names}, f"{path.name}: missing are {sorted(wanted - {*names})[:10]}")


def check_names(path, names):
    wrong = [name for name in names if NEVER.search(name)]
    require(not wrong, f"{path.name} contains {wrong[:5]}")


QUICKSTART = """
import runpy, sys, sysconfig
from pathlib import Path
import rope_xp
inside = Path(sysconfig.get_path("purelib")).resolve()
assert Path(rope_xp.__file__).resolve().is_relative_to(inside), rope_xp.__file__
runpy.run_path("quickstart.py", run_name="__main__")
"""


def try_wheel(wheel, folder):
    """The quickstart with what pip installs, in a new environment and a folder of its own."""
    environment, elsewhere = folder / "environment", folder / "elsewhere"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin/python"
    run(python, "-m", "pip", "install", "-q", wheel)
    elsewhere.mkdir()
    shutil.copy(ROOT / "examples/quickstart.py", elsewhere)
    # -I: neither PYTHONPATH nor the current folder counts.
    out = run(python, "-I", "-W", "error", "-c", QUICKSTART, cwd=elsewhere)
    require("exact phases" in out, f"the quickstart printed\n{out}")
    run(python, "-m", "pip", "check")
    return run(python, "-m", "pip", "list", "--format=freeze")


def main():
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("again", "unpacked", "third"):
            (folder / part).mkdir()
        DIST.mkdir()
        first = build(DIST, "--sdist", "--wheel")
        require(len(first) == 2, f"built was {sorted(first)}")
        again = build(folder / "again", "--sdist", "--wheel")
        require(first == again, f"built twice, with other bytes: {first} and {again}")
        (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
        check_wheel(wheel)
        check_sdist(sdist)
        with tarfile.open(sdist) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (source,) = (folder / "unpacked").iterdir()
        third = build(folder / "third", "--wheel", source=source)
        require(third[wheel.name] == first[wheel.name], "from the sdist comes another wheel")
        print(run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist).strip())
        print(*try_wheel(wheel, folder).split(), sep=", ")
    for each in (sdist, wheel):
        print(f"{each.name}: {each.stat().st_size:,} bytes, sha256 {first[each.name]}")


if __name__ == "__main__":
    main()
