"""The rules of the layout that a parser can check, and a planted error of each kind.

A check takes the folder of the package and returns what is wrong, a sentence for each finding.
"""

import ast
import functools
import re
import shutil
from pathlib import Path

import pytest

import rope_xp

PACKAGE = Path(rope_xp.__file__).parent
LIBRARIES = {
    "array_api_compat",
    "cupy",
    "dask",
    "jax",
    "jaxlib",
    "llvmlite",
    "mlx",
    "ndonnx",
    "numba",
    "torch",
}
LIBRARIES |= {"array_api_strict", "sparse", "tensorflow", "triton"}
# NumPy is a dependency; which library an array comes from is for these packages alone.
LIBRARY_PACKAGES = {"_backends", "_kernels"}
MOST_LINES_OF_CODE = 330


def sources(package):
    return sorted(package.rglob("*.py"))


def tree(path):
    return parsed(path.read_text(encoding="utf-8"))


@functools.cache  # copies of the package have the same files, but for one
def parsed(text):
    return ast.parse(text)


def dotted(package, path):
    """``rope_xp.scaling._yarn``; a package by its own name."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(["rope_xp", *(p for p in parts if p != "__init__")])


def unit(package, path):
    """The module or package right below ``rope_xp`` that a file belongs to."""
    return path.relative_to(package).with_suffix("").parts[0]


def order(package):
    """The modules and packages in the order of the map in ``rope_xp.__doc__``."""
    doc = ast.get_docstring(tree(package / "__init__.py")) or ""
    return re.findall(r"^`(\w+)`", doc, re.MULTILINE)


def imports(package, path):
    """The dotted names that a file imports, wherever in it, as far as a parser can see."""
    here = dotted(package, path).split(".")
    here = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def internal(package):
    """For each file the other files of the package that it imports, by dotted names."""
    known = {dotted(package, path): path for path in sources(package)}
    graph = {}
    for name, path in known.items():
        # ``from rope_xp.scaling import YaRN`` imports the file of the package.
        found = {i if i in known else i.rpartition(".")[0] for i in imports(package, path)}
        graph[name] = (found & set(known)) - {name}
    return graph


def unlisted(package):
    listed = order(package)
    units = {unit(package, path) for path in sources(package)} - {"__init__", "__main__"}
    yield from (f"{name} is missing from the map" for name in sorted(units - {*listed}))
    yield from (f"the map names {name}, which is not there" for name in sorted({*listed} - units))
    yield from (f"{name} is twice in the map" for name in listed if listed.count(name) > 1)


def upward_imports(package):
    rank = {name: i for i, name in enumerate([*order(package), "__init__", "__main__"])}
    for path in sources(package):
        here = unit(package, path)
        if here in ("__init__", "__main__"):
            continue
        for name in imports(package, path):
            root, _, rest = name.partition(".")
            there = rest.partition(".")[0]
            if root == "rope_xp" and rank.get(there, -1) > rank.get(here, -1):
                yield f"{dotted(package, path)} imports {name}, which is above it"


def circles(package):
    graph, done = internal(package), set()

    def visit(name, trail):
        if name in trail:
            yield " -> ".join([*trail[trail.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                yield from visit(other, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, [])


def libraries_named_elsewhere(package):
    for path in sources(package):
        if unit(package, path) in LIBRARY_PACKAGES:
            continue
        for name in imports(package, path):
            if name.partition(".")[0] in LIBRARIES:
                yield f"{dotted(package, path)} imports {name}"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and node.value in LIBRARIES:
                yield f"{dotted(package, path)} names {node.value!r} in line {node.lineno}"


def second_formulas(package):
    found = [
        f"{dotted(package, path)} has {text!r}"
        for path in sources(package)
        for text in re.findall(r"[^=\n]*\* ?\w*cos\w* ?- ?[^=\n]*\* ?-?\w*sin\w*", path.read_text())
    ]
    yield from found[1:]
    if not found:
        yield "there is no formula"


def docstring_lines(parsed):
    """The numbers of the lines that are docstrings."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = set()
    for node in ast.walk(parsed):
        if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
            lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def long_files(package):
    for path in sources(package):
        doc = docstring_lines(tree(path))
        code = [
            line
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if number not in doc and line.strip() and not line.strip().startswith("#")
        ]
        if len(code) > MOST_LINES_OF_CODE:
            yield f"{dotted(package, path)} has {len(code)} lines of code"


def asserts(package):
    for path in sources(package):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assert):
                yield f"{dotted(package, path)} asserts in line {node.lineno}"


def public_files_in_packages(package):
    """What a package exports is in its ``__init__``; what implements it is in ``_files``."""
    for path in sources(package):
        inside = path.relative_to(package).parts
        private = any(part.startswith("_") for part in inside)
        if len(inside) > 1 and not private:
            yield f"{dotted(package, path)} would be a second path to what its package exports"


CHECKS = [
    unlisted,
    upward_imports,
    circles,
    libraries_named_elsewhere,
    second_formulas,
    long_files,
    asserts,
    public_files_in_packages,
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_package_keeps_to_its_layout(check):
    assert list(check(PACKAGE)) == []


PLANTED = [
    (unlisted, "extra.py", '"""Nobody knows of it."""\n'),
    (unlisted, "extra/__init__.py", '"""Nor of a package."""\n'),
    (upward_imports, "phases.py", "from rope_xp.rope import RoPE\n"),
    (upward_imports, "scaling/_extra.py", "def late():\n    from rope_xp import analysis\n"),
    (upward_imports, "scaling/_extra.py", "from ..rope import RoPE\n"),
    (upward_imports, "rope.py", "import importlib; importlib.import_module('rope_xp.configs')\n"),
    (circles, "scaling/_extra.py", "from rope_xp.scaling import _extra_too\n"),
    (libraries_named_elsewhere, "rope.py", "def late():\n    import torch.nn\n"),
    (libraries_named_elsewhere, "scaling/_extra.py", "from array_api_compat import numpy\n"),
    (libraries_named_elsewhere, "attention/_extra.py", "special = name == 'jax'\n"),
    (second_formulas, "_kernels/extra.py", "y = a * cos - b * sin\n"),
    (second_formulas, "attention/_extra.py", "y = x[..., 0] * c_cos - x[..., 1] * c_sin\n"),
    (long_files, "axes/_extra.py", "x = 1\n" * (MOST_LINES_OF_CODE + 1)),
    (asserts, "positions/_extra.py", "def f(x):\n    assert x\n"),
    (public_files_in_packages, "scaling/extra.py", "x = 1\n"),
]


@pytest.mark.parametrize(
    ("check", "file", "text"), PLANTED, ids=[f"{c.__name__}-{f}" for c, f, _ in PLANTED]
)
def test_a_planted_error_is_found(tmp_path, check, file, text):
    package = tmp_path / "rope_xp"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = list(check(package))
    path = package / file
    path.parent.mkdir(exist_ok=True)
    if check is circles:  # two files that need each other
        path.with_name("_extra_too.py").write_text("from rope_xp.scaling import _extra\n")
    path.write_text((path.read_text() if path.exists() else "") + text)
    found = [sentence for sentence in check(package) if sentence not in before]
    assert found, f"{check.__name__} does not see it"


def test_docstrings_are_no_code(tmp_path):
    package = tmp_path / "rope_xp"
    package.mkdir()
    (package / "long.py").write_text('"""' + "text\n" * 1000 + '"""\n# comment\n\nx = 1\n')
    assert list(long_files(package)) == []
