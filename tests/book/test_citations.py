"""Labels of the bibliography are those of the text."""

import importlib.util
from pathlib import Path

import pytest

pybtex = pytest.importorskip("pybtex.database", reason="pybtex comes with the book's packages")
BOOK = Path(__file__).parents[2] / "book"


def test_labels_have_names_and_a_year_and_are_different():
    spec = importlib.util.spec_from_file_location("citations", BOOK / "citations.py")
    citations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(citations)
    entries = pybtex.parse_file(BOOK / "references.bib").entries
    labels = [*citations.AuthorYearLabels().format_labels([*entries.values()])]
    found = dict(zip(entries, labels, strict=True))
    assert found["su2021"] == "Su et al., 2021"
    assert found["horn2012"] == "Horn and Johnson, 2012"
    assert len(set(labels)) == len(labels)


def test_every_entry_has_a_link():
    entries = pybtex.parse_file(BOOK / "references.bib").entries
    without = [k for k, e in entries.items() if not {"eprint", "url", "doi"} & {*e.fields}]
    assert without == []
