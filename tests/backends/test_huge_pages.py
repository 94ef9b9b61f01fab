"""Huge pages for large fresh results: advice, with an opt-out."""

import pytest

from rope_xp._backends import huge_pages


@pytest.fixture(autouse=True)
def _looked_up_anew():
    lookup = huge_pages._madvise
    lookup.cache_clear()
    yield
    lookup.cache_clear()


def test_the_opt_out(monkeypatch):
    monkeypatch.setenv("ROPE_XP_HUGE_PAGES", "0")
    assert huge_pages._madvise() is None
    huge_pages.advise_huge_pages(2**20, huge_pages.SMALLEST)


def test_systems_that_know_no_huge_pages(monkeypatch):
    monkeypatch.delattr("mmap.MADV_HUGEPAGE", raising=False)
    assert huge_pages._madvise() is None


def test_small_results_are_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(huge_pages, "_madvise", lambda: lambda *args: asked.append(args))
    huge_pages.advise_huge_pages(2**20, huge_pages.SMALLEST - 1)
    assert asked == []
    huge_pages.advise_huge_pages(2**20, huge_pages.SMALLEST)
    assert asked == [(2**20, huge_pages.SMALLEST)]
