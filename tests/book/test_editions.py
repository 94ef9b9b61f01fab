"""Translations have the numbers, formulas, code and references of their originals, and none is missing.

Each paragraph of an English page must be in the catalogue: a change is seen without a build. The built
pages are looked at as well, where there are any.
"""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import pytest

pofile = pytest.importorskip("babel.messages.pofile", reason="babel comes with the book's packages")
BOOK = Path(__file__).parents[2] / "book"
CATALOGUES = sorted((BOOK / "locale").glob("*/LC_MESSAGES/*.po"))
BUILT = BOOK / "_build" / "html"

spec = importlib.util.spec_from_file_location("editions", BOOK / "editions.py")
editions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(editions)


def kept(text):
    """What a translation must not change: roles, formulas, code, links, numbers."""
    found = []
    text = re.sub(r"(\{\w+\})`[^`<]+<([^`>]+)>`", r"\1`\2`", text)  # a role's own words
    for pattern in (r"\{[\w:]+\}`[^`]+`", r"`[^`]+`", r"\$[^$]+\$", r"\]\([^)]+\)"):
        found += re.findall(pattern, text)
        text = re.sub(pattern, " ", text)
    return Counter(found + re.findall(r"\d+(?:[.,]\d+)*", text))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_translations_keep_what_is_no_language(path):
    with path.open("rb") as file:
        messages = [m for m in pofile.read_po(file) if m.id and m.string]
    assert len(messages) > 30
    assert [m.id for m in messages if m.fuzzy] == []
    other = {m.string: (kept(m.id), kept(m.string)) for m in messages}
    assert {text: both for text, both in other.items() if both[0] != both[1]} == {}


def test_a_changed_number_is_found():
    assert kept("At 8,192 tokens $d$ of {eq}`a`") == kept("{eq}`a` 的 $d$：8,192 个 token")
    assert kept("At 8,192 tokens") != kept("8,191 个 token")
    assert kept("{doc}`euler`") != kept("{doc}`decay`")
    assert kept("$m - n$") != kept("$n - m$")


@pytest.mark.parametrize("path", sorted((BOOK / "locale").glob("*/figures.json")))
def test_words_of_figures_are_in_the_figures(path):
    words = json.loads(path.read_text())
    code = "\n".join((BOOK / name).read_text() for name in ("_static/figures.js", "moving.py"))
    assert len(words) > 30
    assert [each for each in words if f'"{each}"' not in code and f">{each}<" not in code] == []


def differences(page, known):
    """Words of an English page that its catalogue lacks, and paragraphs of the catalogue that the page lacks."""

    def on_one_line(text):
        return " ".join(text.split())

    captions = re.findall(r"^    caption: \|\n((?:^      .*\n)+)", page, re.MULTILINE)
    prose = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.DOTALL)
    cells = r"^(\s*)```(?:\{(?:code-cell|container)\}|\w+\n).*?^\1```$"
    prose = re.sub(cells, "", prose, flags=re.DOTALL | re.MULTILINE)
    text = on_one_line("\n\n".join([prose, *captions]))
    gone = [part for part in map(on_one_line, known) if part not in text]
    for part in sorted(map(on_one_line, known), key=len, reverse=True):
        text = text.replace(part, "\n")
    text = re.sub(r"\([\w-]+\)=|\{\w+\}|\$\$ \(eq-[\w-]+\)", "\n", text)  # labels, directives
    return [part for part in text.split("\n") if re.search(r"[^\W\d_]", part)], gone


def test_a_changed_paragraph_is_found():
    page = "---\na: b\n---\n\n(here)=\n# One\n\nTwo *or\nthree*.\n\n```{code-cell}\nfour()\n```\n"
    assert differences(page, ["One", "Two *or three*."]) == ([], [])
    assert differences(page, ["One", "Two."]) == ([" Two *or three*."], ["Two."])
    assert differences(page, ["One", "Two *or three*.", "Four."]) == ([], ["Four."])


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_catalogues_have_the_paragraphs_of_the_english_pages(path):
    with path.open("rb") as file:
        messages = [m for m in pofile.read_po(file) if m.id]
    page = (BOOK / f"{path.stem}.md").read_text()
    parts = re.findall(r"caption: (.+)", (BOOK / "_toc.yml").read_text())
    known = [m.id for m in messages if path.stem != "intro" or m.id not in parts]
    assert differences(page, known) == ([], [])
    assert [m.id for m in messages if not m.string and not m.id.startswith("\n")] == []


def without_translation(text):
    """The parts of a page that are shown in English; formulas and what is named the same are not meant."""
    marked = re.findall(r'<[^>]*class="[^"]*\buntranslated\b[^"]*"[^>]*>[^\n]{0,80}', text)
    return [part for part in marked if "math" not in part]


def test_a_paragraph_without_translation_is_found():
    page = '<p class="untranslated">New.</p>\n<div class="untranslated math notranslate">x</div>'
    assert without_translation(page) == ['<p class="untranslated">New.</p>']


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_every_paragraph_has_a_translation(path):
    folder, _ = editions.NAMES[path.parents[1].name]
    page = BUILT / folder / f"{path.stem}.html"
    if not BUILT.exists():
        pytest.skip("the book is not built: nox -s book builds it")
    assert without_translation(page.read_text()) == []


def test_links_lead_to_the_english_page_where_there_is_no_other(tmp_path):
    home = tmp_path / "zh"
    home.mkdir()
    for page in (home / "euler.html", tmp_path / "euler.html", tmp_path / "planes.html"):
        page.touch()

    def moved(link):
        return re.sub(
            r'\b(href|src)="([^"]+)"', lambda m: editions.moved(m, home), f'<a href="{link}">'
        )

    assert moved("euler.html#here") == '<a href="euler.html#here">'
    assert moved("planes.html#eq") == '<a href="../planes.html#eq">'
    assert moved("#eq") == '<a href="#eq">'
    assert moved("https://example.org/x") == '<a href="https://example.org/x">'
    with pytest.raises(FileNotFoundError, match="nowhere"):
        moved("nowhere.html")
