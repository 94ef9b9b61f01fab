"""book/social.py: a preview has whole addresses, or none."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

nodes = pytest.importorskip("docutils.nodes", reason="docutils comes with the book's packages")
BOOK = Path(__file__).parents[2] / "book"


def tags(monkeypatch, language="en"):
    monkeypatch.syspath_prepend(str(BOOK))
    monkeypatch.delitem(sys.modules, "social", raising=False)
    import social

    config = SimpleNamespace(html_title="A book", language=language)
    page = nodes.document(None, None, "", nodes.paragraph("", "", nodes.strong("", "Why?")))
    context = {"title": "Euler", "metatags": ""}
    social._tags(SimpleNamespace(config=config), "euler", "page.html", context, page)
    return context["metatags"]


def test_without_an_address_there_is_no_picture(monkeypatch):
    monkeypatch.delenv("ROPE_XP_BOOK_URL", raising=False)
    found = tags(monkeypatch)
    assert 'property="og:description" content="Why?"' in found
    assert "og:image" not in found


def test_with_an_address_picture_and_page_are_whole(monkeypatch):
    monkeypatch.setenv("ROPE_XP_BOOK_URL", "https://example.org/book/")
    assert 'content="https://example.org/book/_static/clocks.png"' in tags(monkeypatch)
    assert 'content="https://example.org/book/euler.html"' in tags(monkeypatch)
    assert 'content="https://example.org/book/zh/euler.html"' in tags(monkeypatch, "zh_CN")
