"""Every kind of mistake fails the book's build: ``nox -s book`` runs this after the good build.

Tiny books have the real configuration and one mistake each, which the build must name. One without a
mistake must build: otherwise a broken configuration would look like a strict one.
"""

import concurrent.futures
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BOOK = Path(__file__).parents[2] / "book"
EXECUTED = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""
PAGE = """# A tiny book

$$ a = b $$ (eq-here)

By {eq}`eq-here` and {cite:p}`someone2000`, {func}`rope_xp.rotate` is right.

"""
TAIL = """
```{bibliography}
```

```{eval-rst}
.. py:function:: rope_xp.rotate(x)
```
"""
ENTRY = "@book{someone2000, title = {T}, author = {Someone, S.}, publisher = {P}, year = {2000}}\n"


def cell(code):
    return f"```{{code-cell}} python\n{code}\n```\n"


# What is written into the book, and what the build must say.
MISTAKES = {
    "no mistake": (cell("1 + 1"), None),
    "a failing cell": (cell("1 / 0"), "ZeroDivisionError|CellExecutionError"),
    "a cell that writes to stderr": (
        cell("import sys\nprint('careful', file=sys.stderr)"),
        "stderr",
    ),
    "a cell that warns": (cell("import warnings\nwarnings.warn('careful')"), "stderr"),
    "an equation that is not there": ("See {eq}`eq-nowhere`.\n", "eq-nowhere"),
    "a page that is not there": ("See {doc}`nowhere`.\n", "nowhere"),
    "a name that the library does not have": ("See {func}`rope_xp.nowhere`.\n", "rope_xp.nowhere"),
    "a citation that is not there": ("See {cite:p}`nobody1900`.\n", "nobody1900"),
    "a link that leads nowhere": ("See [there](nowhere.md).\n", "nowhere"),
    "an equation's name twice": ("$$ c = d $$ (eq-here)\n", "eq-here"),
}


def build(mistake, folder):
    """A sentence if the build does not react to the mistake as it should, or None."""
    text, expected = MISTAKES[mistake]
    folder.mkdir()
    for name in ("_config.yml", "offline.py", "docstrings.py", "in_page.py"):
        shutil.copy(BOOK / name, folder)
    shutil.copytree(BOOK / "_static", folder / "_static")
    (folder / "_extra").mkdir()
    (folder / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    (folder / "references.bib").write_text(ENTRY)
    (folder / "intro.md").write_text((EXECUTED if "code-cell" in text else "") + PAGE + text + TAIL)
    done = subprocess.run(
        ["jupyter-book", "build", folder, "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if expected is None:
        return f"the build fails:\n{done.stdout}" if done.returncode else None
    if done.returncode == 0:
        return "the build passes"
    warned = [line for line in done.stdout.splitlines() if re.search("WARNING|ERROR|Error", line)]
    if not re.search(expected, "\n".join(warned)):
        return f"the build fails, but does not mention {expected}:\n{done.stdout}"
    return None


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = {
            mistake: pool.submit(build, mistake, Path(folder, f"book{i}"))
            for i, mistake in enumerate(MISTAKES)
        }
        for mistake, result in found.items():
            wrong = result.result()
            failed += wrong is not None
            print(f"{mistake:<35} {wrong or 'as expected'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
