"""The book's sources, without building it: form, references, and forbidden code in cells."""

import ast
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
PAGES = {path.stem: path.read_text() for path in sorted(BOOK.glob("*.md"))}
CONTENTS = re.findall(r"(?:file|root): (\w+)", (BOOK / "_toc.yml").read_text())
REFERENCE = ["intro", "errata", "comparison", "peers", "decoder", "api", "glossary", "bibliography"]
API = [name for name in CONTENTS if name.startswith("api_")]  # written by autodoc
CHAPTERS = [name for name in CONTENTS if name not in REFERENCE + API]
NOT_WRITTEN_YET = []  # pages that have only a title so far; empty in a release
ALL = [name for name in CONTENTS if name not in NOT_WRITTEN_YET]
WRITTEN = [name for name in CHAPTERS if name not in NOT_WRITTEN_YET]

# A comment is not part of the page.
PAGES = {name: re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL) for name, text in PAGES.items()}


def cells(name):
    """The code cells of a page: options and code."""
    found = re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```$", PAGES[name], re.MULTILINE | re.DOTALL
    )
    for cell in found:
        whole = re.fullmatch(r"(---\n.*?\n---\n|(?::[^\n]*\n)+)?(.*)", cell, re.DOTALL)
        yield whole[1] or "", whole[2]


def prose(name):
    """A page without its front matter, code and displayed formulas."""
    text = re.sub(r"\A---\n.*?\n---\n", "", PAGES[name], flags=re.DOTALL)
    text = re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)


def trees(name):
    for _, code in cells(name):
        lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))]
        yield ast.parse("\n".join(lines))


def test_every_page_is_in_the_contents():
    assert sorted(CONTENTS) == sorted(PAGES)
    assert set(NOT_WRITTEN_YET) <= set(CONTENTS)


@pytest.mark.parametrize("name", ALL)
def test_a_page_has_one_title_and_something_to_say(name):
    assert len(re.findall(r"^# ", prose(name), re.MULTILINE)) == 1
    if name != "bibliography" and name not in API:
        assert len(prose(name)) > 1500, f"{name}.md is a placeholder"


@pytest.mark.parametrize("name", WRITTEN)
def test_the_form_of_a_chapter(name):
    text = prose(name)
    question = re.search(r"^# [^\n]+\n\n\*\*([^*]+)\*\*", text, re.MULTILINE)
    assert question, f"{name}.md does not begin with its question in bold"
    assert question[1].rstrip().endswith("?")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for section in ("In the library", "Take-aways", "Problems", "Sources"):
        assert sections.count(section) == 1, f"{name}.md has no section {section}"
    assert sections[-3:] == ["Take-aways", "Problems", "Sources"]
    parts = dict(zip(sections, re.split(r"^## .+$", text, flags=re.MULTILINE)[1:], strict=True))
    assert 2 <= len(re.findall(r"^- ", parts["Take-aways"], re.MULTILINE)) <= 6
    problems = re.findall(r"^\d+\. ", parts["Problems"], re.MULTILINE)
    answers = re.findall(r"^ *(?:````?|:::)\{dropdown\} Answer$", parts["Problems"], re.MULTILINE)
    assert 2 <= len(problems) <= 5
    assert len(answers) == len(problems), (
        f"{name}.md: {len(problems)} problems, {len(answers)} answers"
    )
    assert "{cite:" in parts["Sources"]


# --- references ----------------------------------------------------------------------------------

LABELS = Counter(
    label
    for text in PAGES.values()
    for label in re.findall(r"^\$\$ \(([^)]+)\)", text, re.MULTILINE)
)
BIBLIOGRAPHY = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
CITED = {
    key.strip()
    for text in PAGES.values()
    for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", text)
    for key in keys.split(",")
}


def test_equations_have_one_place_each():
    assert [label for label, count in LABELS.items() if count > 1] == []


@pytest.mark.parametrize("name", ALL)
def test_equations_that_a_page_refers_to_exist(name):
    assert set(re.findall(r"\{eq\}`([^`<>]+)`", PAGES[name])) <= set(LABELS)


def labels_in_docstrings(package):
    """The labels of equations that the files of a package refer to, and where."""
    return {
        label: path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        for label in re.findall(r":eq:`([^`]+)`", path.read_text())
    }


def test_equations_that_docstrings_refer_to_exist():
    found = labels_in_docstrings(ROOT / "rope_xp")
    assert len(found) > 10
    assert {label: path for label, path in found.items() if label not in LABELS} == {}


def test_docstrings_of_packages_are_read(tmp_path):
    (tmp_path / "scaling").mkdir()
    (tmp_path / "scaling" / "_yarn.py").write_text('"""See :eq:`eq-nowhere`."""\n')
    assert labels_in_docstrings(tmp_path) == {"eq-nowhere": "scaling/_yarn.py"}


def test_every_entry_is_cited_and_every_citation_has_an_entry():
    assert len(set(BIBLIOGRAPHY)) == len(BIBLIOGRAPHY)
    assert set(BIBLIOGRAPHY) == CITED


def public_modules(package):
    """The public modules and packages right below ``rope_xp``."""
    found = {path.stem for path in package.glob("*.py")}
    found |= {path.parent.name for path in package.glob("*/__init__.py")}
    return sorted(name for name in found if not name.startswith("_"))


def test_every_module_has_a_page_of_the_library():
    import rope_xp

    names = public_modules(ROOT / "rope_xp")
    assert {"rope", "scaling"} <= {*names}  # a module and a package
    assert {*API} == {"api_rope_xp", *(f"api_{name}" for name in names)}
    for name in names:
        assert f"automodule:: rope_xp.{name}\n" in PAGES[f"api_{name}"]
        assert f"{{mod}}`rope_xp.{name}`" in PAGES["api"], f"api.md does not name {name}"
    for name in {*rope_xp.__all__} - {*names}:
        assert f":: rope_xp.{name}\n" in PAGES["api_rope_xp"], f"api_rope_xp.md lacks {name}"


# --- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_lines_of_code_fit_the_page(name):
    wide = [line for _, code in cells(name) for line in code.splitlines() if len(line) > 79]
    assert wide == []


FORBIDDEN = {
    "today": "a date",
    "now": "a date",
    "perf_counter": "a time",
    "default_timer": "a time",
    "RandomState": "another generator than default_rng",
    "outer": "an outer product, which the tables are: call cos_sin",
    "urlopen": "another host",
    "urlretrieve": "another host",
}


@pytest.mark.parametrize("name", ALL)
def test_cells_call_the_library_and_give_the_same_every_time(name):
    import rope_xp

    public = {n for n in rope_xp.__all__ if not inspect.ismodule(getattr(rope_xp, n))}
    for module in public_modules(ROOT / "rope_xp"):
        public |= set(getattr(importlib.import_module(f"rope_xp.{module}"), "__all__", ()))
    for tree in trees(name):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in public, f"{name}.md defines {node.name} anew"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                called = called or getattr(node.func, "id", "")
                assert called not in FORBIDDEN, f"{name}.md: {called} is {FORBIDDEN[called]}"
                where = ast.unparse(node.func)
                seeded = called != "default_rng" or node.args
                assert seeded, f"{name}.md draws random numbers without a seed"
                if "torch.manual_seed(" in PAGES[name]:
                    where = where.replace("torch.", "seeded.")
                drawn = re.fullmatch(
                    r"(np|numpy)\.random\.(?!default_rng)\w+|random\.\w+|torch\.rand\w*", where
                )
                assert not drawn, f"{name}.md draws random numbers with {where}"


# No cell repeats what the library computes: the rotation, the frequencies, Llama's tables.
AGAIN = {
    r"\*\s*(np\.)?cos\w*\s*-\s*[^\n]*\*\s*(np\.)?sin": "the rotation",
    r"\*\*\s*\(?\s*-\s*\(?\s*(2|np\.arange)[^\n]*/": "the frequencies",
    r"1(\.0)?\s*/\s*\(?\s*(10_?000|base|b)\.?0?\s*\*\*": "the frequencies",
    r"np\.(cos|sin)\([^\n]*\*[^\n]*inv_freq": "the tables",
    r"def rotate_half": "rotate_half",
}
# But for the one cell of the front page that shows all of it without the library, and asserts that it agrees.
WITHOUT_THE_LIBRARY = {"intro": "def encode("}
ERRORS_ON_SHOW = {"frequencies": "halved = 10_000.0 ** -(np.arange(64) / 128)"}


@pytest.mark.parametrize("name", [n for n in ALL if n != "errata"])
def test_cells_do_not_compute_again_what_the_library_has(name):
    for _, code in cells(name):
        bare = "\n".join(line.partition("#")[0] for line in code.splitlines())
        bare = bare.replace(ERRORS_ON_SHOW.get(name, "\0"), "")
        if WITHOUT_THE_LIBRARY.get(name, "\0") in bare:
            continue
        for pattern, what in AGAIN.items():
            found = re.search(pattern, bare)
            assert not found, f"{name}.md computes {what} again: {found[0]}"


@pytest.mark.parametrize("name", ALL)
def test_figures_have_names_and_captions(name):
    for options, code in cells(name):
        if "figure:" in options:
            assert re.search(r"^ +name: fig-[\w-]+$", options, re.MULTILINE)
            assert len(re.search(r"caption:(.*)", options, re.DOTALL)[1].split()) >= 8
            assert "hide-input" in options
        elif re.search(r"^(plots|moving)\.\w+\(", code, re.MULTILINE):
            pytest.fail(f"{name}.md shows a drawing without a caption: {code}")
    assert not re.search(r"!\[\]\(", PAGES[name]), f"{name}.md has a picture without alt text"


def test_every_figure_has_a_name_of_its_own():
    names = [
        n for t in PAGES.values() for n in re.findall(r"^ +name: (fig-[\w-]+)$", t, re.MULTILINE)
    ]
    assert len(names) == len(set(names))
    for name, text in PAGES.items():
        missing = set(re.findall(r"\{(?:num)?ref\}`(?:[^`<]*<)?(fig-[\w-]+)>?`", text)) - set(names)
        assert not missing, f"{name}.md refers to {missing}"


def test_a_figure_has_a_second_drawing_for_phones(monkeypatch):
    monkeypatch.syspath_prepend(BOOK)
    plots = importlib.import_module("plots")
    figure, panels = plots.axes(1, 2, sharex=True)
    panels[0].set(ylabel="left")
    panels[1].set(xlabel="both")
    panels[1].plot([1, 2], label="a line")
    panels[1].legend(bbox_to_anchor=(1, 1), loc="upper left")
    page = plots.Plot(figure, "Left, nothing. Right, a line.")._repr_html_()
    wide, narrow = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert 'aria-label="Left, nothing. Right, a line."' in wide
    assert 'aria-label="Above, nothing. Below, a line."' in narrow
    assert "display: none" in narrow
    assert "display: none" not in wide.split(">")[0]
    assert [ax.get_subplotspec().get_geometry()[:2] for ax in panels] == [(2, 1)] * 2
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in panels] == [("both", "left")] * 2
    size = [int(re.search(r"max-width: (\d+)px", svg)[1]) for svg in (wide, narrow)]
    assert size[1] < 350 < size[0]


# --- notebooks -----------------------------------------------------------------------------------


def test_a_page_becomes_a_notebook_that_needs_no_other_file(tmp_path, monkeypatch):
    pytest.importorskip("myst_nb", reason="the book's builder is not installed")
    monkeypatch.syspath_prepend(BOOK)
    notebooks = importlib.import_module("notebooks")
    (tmp_path / "drawn.py").write_text("import matplotlib\n")
    (tmp_path / "page.md").write_text(
        "---\nkernelspec: {name: python3}\n---\n\n# A page\n\nBy {eq}`eq-a`, {cite:t}`su` and {doc}`other`:\n\n"
        "$$ a = b $$ (eq-a)\n\n```{code-cell} python\nimport drawn\nimport torch\n```\n\n"
        "1. Why?\n\n   ```{dropdown} Answer\n   So.\n   ```\n"
    )
    known = {"eq-a": "7"}, {"su": "Su et al. 2021"}, {"other": "Another page"}
    cells = notebooks.notebook(tmp_path / "page.md", *known).cells
    assert 'pip install . "torch==2.13.*" matplotlib' in cells[0].source
    assert cells[1].source == "%%writefile drawn.py\nimport matplotlib\n"
    assert "By (7), Su et al. 2021 and *Another page*:" in cells[2].source
    assert "\\tag{7}" in cells[2].source
    assert "<details><summary>Answer</summary>" in cells[-1].source
    assert cells[3].source == "import drawn\nimport torch"


# --- offline -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_page_loads_nothing_from_elsewhere(name):
    assert not re.search(
        r"!\[[^\]]*\]\(https?:|<(script|img|iframe|link)\b|```\{(image|figure)\} http", PAGES[name]
    )


@pytest.mark.parametrize("path", sorted((BOOK / "_static").glob("*.[cjs]*s")), ids=lambda p: p.name)
def test_style_and_scripts_load_nothing_from_elsewhere(path):
    assert not re.search(r"https?://(?!www\.w3\.org/)|@import", path.read_text())
