"""Cells that run in the page: a Sphinx extension, and what the page needs for it, from two archives.

A cell gets a button if it imports nothing but NumPy, rope_xp and a few modules of the standard
library, and uses no name from a cell that imports more. Python itself is Pyodide, NumPy a wheel
for it. All of it is put below ``_extra/in_page``, by ``nox -s book``, as scripts with base64 in
them: a page that is opened as a file can load scripts and nothing else. They are loaded when the
reader first asks. Without the wheel the book is built without buttons.

    python book/in_page.py FOLDER book/_extra/in_page  # FOLDER: what npm and pip download
"""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import importlib.util
import io
import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from rope_xp import configs
from rope_xp._config_reader.table import tables

MODULES = {"numpy", "rope_xp", "math", "cmath", "dataclasses", "functools", "itertools", "json"}
MODULES |= {"textwrap", "timeit"}
SCRIPTS = ("pyodide.js", "pyodide.asm.js")
PARTS = ("pyodide.asm.wasm", "python_stdlib.zip")
PART = 3 * 2**18  # bytes in a script, a multiple of three: base64 of the parts is that of the whole


# --- which cells ---------------------------------------------------------------------------------


def runnable(sources):
    """Of the cells of a page, in order, whether each can run with what `MODULES` has.

    A cell cannot if it imports another module, opens a file, or uses a name that such a cell made or changed.
    """
    spoiled, found = set(), []
    for source in sources:
        try:
            nodes = [*ast.walk(ast.parse(source))]
        except SyntaxError:  # a magic of IPython
            found.append(False)
            continue
        used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        imported, modules = set(), set()
        for node in nodes:
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
                imported |= {(a.asname or a.name).partition(".")[0] for a in node.names}
            if isinstance(node, ast.ImportFrom):
                modules.add((node.module or "").partition(".")[0])
                imported |= {alias.asname or alias.name for alias in node.names}
        runs = modules <= MODULES and not used & (spoiled | {"open"})  # there are no files
        if runs:
            spoiled -= made | imported
        else:
            spoiled |= made | imported | changed(nodes)
        found.append(runs)
    return found


def changed(nodes):
    """The names whose objects are changed: by a method as a statement, an item, an attribute."""
    found = set()
    for node in nodes:
        target = node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            target = node.value.func
        elif not isinstance(getattr(node, "ctx", None), ast.Store):
            continue
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


# --- what the page loads -------------------------------------------------------------------------


def numpy_wheel(lock, archive):
    """The name and bytes of the wheel of NumPy that Pyodide's lock file names, from a zip archive.

    Where the archive comes from does not matter: the lock file has the hash of the wheel.

    Raises
    ------
    ValueError
        If there is no such wheel in it, or its hash is another.
    """
    name, expected = (lock["packages"]["numpy"][key] for key in ("file_name", "sha256"))
    with zipfile.ZipFile(archive) as opened:
        members = [m for m in opened.namelist() if m.rpartition("/")[2] == name]
        if len(members) != 1:
            msg = f"{Path(archive).name} must have one {name}, got {len(members)}"
            raise ValueError(msg)
        wheel = opened.read(members[0])
    found = hashlib.sha256(wheel).hexdigest()
    if found != expected:
        msg = f"the sha256 of {name} must be {expected}, got {found}"
        raise ValueError(msg)
    return name, wheel


def library():
    """rope_xp and array-api-compat, as they are installed here, in one zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("rope_xp", "array_api_compat"):
            home = Path(importlib.util.find_spec(package).origin).parent
            for path in sorted(home.rglob("*")):
                if path.suffix in (".py", ".json"):
                    archive.write(path, path.relative_to(home.parent))
    return made.getvalue()


def examples():
    """Of every model_type in rope_xp's tables a config: the defaults of the model's class, and ``llama3``."""
    lines = {name: line for table in tables() for name, line in table.lines.items()}
    made = {name: defaults(name, line) for name, line in lines.items() if " " not in name}
    for table in tables():
        for name, other in table.same_as.items():
            made[name] = defaults(name, lines[other])
        for name, part in table.text_part_of.items():
            made[name] = {"model_type": name, "text_config": defaults(part, lines.get(part, {}))}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3["original_max_position_embeddings"] = 8192
    made["llama3"] = {"model_type": "llama", "num_hidden_layers": 32, "head_dim": 128}
    made["llama3"] |= {"max_position_embeddings": 131072, "rope_theta": 500000.0}
    made["llama3"]["rope_scaling"] = llama3
    return {name: config for name, config in sorted(made.items()) if is_complete(config)}


def defaults(model_type, line):
    """A config with what a line of the tables has."""
    config = {"model_type": model_type, **line.get("defaults", {})}
    if "rope_parameters" in line:
        config["rope_parameters"] = line["rope_parameters"]
    return config


def is_complete(config):
    """Whether the library can read it: the defaults of some classes are not enough."""
    try:
        configs.explain(config)
    except (ValueError, TypeError):
        return False
    return True


def bundle(pyodide, archive, home):
    """Write the scripts of a page into ``home``: those of Pyodide's npm package, and data."""
    home.mkdir(parents=True)
    with tarfile.open(pyodide) as opened:
        read = {
            name: opened.extractfile(f"package/{name}").read()
            for name in (*SCRIPTS, *PARTS, "pyodide-lock.json")
        }
    lock = json.loads(read["pyodide-lock.json"])
    name, wheel = numpy_wheel(lock, archive)
    lock["packages"] = {"numpy": lock["packages"]["numpy"]}
    for script in SCRIPTS:
        (home / script).write_bytes(read[script])
    data = {part: read[part] for part in PARTS} | {name: wheel, "library.zip": library()}
    data["pyodide-lock.json"] = json.dumps(lock).encode()
    parts = []
    for file, content in data.items():
        packed = gzip.compress(content, mtime=0)
        for start in range(0, len(packed), PART):
            text = base64.b64encode(packed[start : start + PART]).decode()
            parts.append(f"data{len(parts):02}.js")
            (home / parts[-1]).write_text(f'inPage.part("{file}", "{text}");\n')
    (home / "parts.js").write_text(f"inPage.parts = {json.dumps([*parts, *SCRIPTS[::-1]])};\n")
    (home / "examples.js").write_text(f"inPage.examples = {json.dumps(examples())};\n")


def fetched(folder, home):
    """`bundle` with what lies in a folder; without the wheel nothing, and a sentence that says so."""
    shutil.rmtree(home, ignore_errors=True)
    archives = [*folder.glob("*.whl")]
    if not archives:
        return (
            "No cell of the book can run in its page: there is no package with NumPy for Pyodide."
        )
    try:
        bundle(next(folder.glob("pyodide-*.tgz")), archives[0], home)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        shutil.rmtree(home, ignore_errors=True)
        return f"No cell of the book can run in its page: {error}."
    size = sum(path.stat().st_size for path in home.iterdir())
    return f"Cells of the book can run in their pages, with {size / 1e6:.1f} MB of scripts."


# --- the Sphinx extension ------------------------------------------------------------------------


def _mark(app, doctree, docname):
    """Give a class to the cells that can run, and to the place of the decoder."""
    from docutils import nodes  # noqa: PLC0415  only the book has Sphinx, not the tests

    if not (Path(app.srcdir) / "_extra" / "in_page" / "parts.js").exists():
        return
    containers = [*doctree.findall(nodes.container)]
    cells = [node for node in containers if node.get("nb_element") == "cell_code"]
    sources = [next(iter(cell.findall(nodes.literal_block))).astext() for cell in cells]
    for cell, runs in zip(cells, runnable(sources), strict=True):
        if runs:
            cell["classes"].append("in-page")
    for node in containers:
        if "decoder" in node["classes"]:
            node["classes"].append("in-page")


def setup(app):
    app.connect("doctree-resolved", _mark)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    print(fetched(*map(Path, sys.argv[1:3])))
