"""The book in other languages: a Sphinx extension with the links between them, and the program that builds them.

A page is translated if ``locale/LANGUAGE/LC_MESSAGES`` has its catalogue, with each paragraph of the
English page and its translation. A paragraph that changes loses its translation until the catalogue
is updated, and is shown in English.

    python book/editions.py update  # the catalogues, from the English pages
    python book/editions.py build   # _build/html/LANGUAGE, after the English book; executes nothing
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

BOOK = Path(__file__).parent
LOCALE = BOOK / "locale"
NAMES = {"zh_CN": ("zh", "中文")}  # of a language: its folder among the pages, its own name
WORDS = {  # that are options of Sphinx, and not in a catalogue
    "zh_CN": {
        "numfig_format": {"figure": "图 %s", "table": "表 %s"},
        "nb_code_prompt_show": "显示代码",
        "nb_code_prompt_hide": "隐藏代码",
    }
}


def translated(language):
    """The names of the pages that have a catalogue."""
    return sorted(path.stem for path in LOCALE.glob(f"{language}/LC_MESSAGES/*.po"))


# --- links between the languages -----------------------------------------------------------------


def _link(app, pagename, templatename, context, doctree):
    context["metatags"] = context.get("metatags", "")
    for language, (folder, name) in NAMES.items():
        if pagename not in translated(language):
            continue
        there = app.config.language == language
        url, text = (
            (f"../{pagename}.html", "English") if there else (f"{folder}/{pagename}.html", name)
        )
        code = "en" if there else language.replace("_", "-")
        link = f'<a class="language" lang="{code}" hreflang="{code}" href="{url}">{text}</a>'
        context["body"] = f"{link}\n{context['body']}"
        context["metatags"] += f'<link rel="alternate" hreflang="{code}" href="{url}" />\n'


def _prepare(app):
    """Search finds the pages that are written, and figures have the words of the language."""
    if app.config.language in NAMES:
        app.builder.load_indexer = lambda docnames: None  # else Sphinx misses the other pages
        words = (LOCALE / app.config.language / "figures.json").read_text()
        app.add_js_file(None, body=f"window.figureWords = {json.dumps(json.loads(words))};")


def setup(app):
    app.connect("builder-inited", _prepare)
    app.connect("html-page-context", _link, priority=1000)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# --- building ------------------------------------------------------------------------------------


def sphinx(builder, home, pages=None, **options):
    """The book by a builder of Sphinx, with warnings as errors and outputs of the English book."""
    from jupyter_book.sphinx import build_sphinx  # noqa: PLC0415  the extension does without

    out = Path(home, builder)
    options |= {"nb_execution_mode": "cache", "nb_execution_cache_path": cached(f"{home}/cache")}
    options |= {"gettext_compact": False, "gettext_location": False}
    done = build_sphinx(
        str(BOOK),
        str(out),
        noconfig=True,  # no conf.py
        path_config=BOOK / "_config.yml",
        confoverrides={"latex_individualpages": False, "nitpicky": True, **options},
        doctreedir=f"{home}/doctrees",
        filenames=[str(BOOK / f"{page}.md") for page in pages or ()],
        builder=builder,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if done:
        sys.exit(f"the book could not be built by {builder}: {done}")
    return out


def update(language):
    """Write new and changed paragraphs of the English pages into the catalogues."""
    from sphinx_intl.basic import update as into_catalogues  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as home:
        out = sphinx("gettext", home)
        for path in out.glob("*.pot"):
            if path.stem not in translated(language):
                path.unlink()
        into_catalogues(str(LOCALE), str(out), [language], line_width=0)


def cached(folder):
    """A cache of cells with the outputs of the English book."""
    from jupyter_cache import get_cache  # noqa: PLC0415

    cache = get_cache(folder)
    for path in sorted((BOOK / "_build" / "jupyter_execute").glob("*.ipynb")):
        uri = str(path.with_suffix(".md"))
        cache.cache_notebook_file(str(path), uri, check_validity=False, overwrite=True)
    return folder


def build(language):
    """The translated pages, below those of the English book, whose files they use."""
    folder, _ = NAMES[language]
    html = BOOK / "_build" / "html"
    with tempfile.TemporaryDirectory() as home:
        options = {"language": language, "locale_dirs": ["locale"], "html_extra_path": []}
        options |= {"translation_progress_classes": "untranslated", **WORDS[language]}
        out = sphinx("html", home, translated(language), **options)
        take(out, html, html / folder, translated(language))
    translate_contents(html / folder, language)


def take(out, html, home, pages):
    """Copy pages into ``home``, with what differs there from the files of ``html``."""
    shutil.rmtree(home, ignore_errors=True)
    files = [f"{page}.html" for page in pages] + ["index.html", "search.html", "searchindex.js"]
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        same = html / name
        is_static = name.parts[0] == "_static" and path.is_file()
        if is_static and not (same.exists() and same.read_bytes() == path.read_bytes()):
            files.append(name)
    shutil.copy(html / "index.html", out)  # leads to the first page
    for name in files:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / name, home / name)
    for path in home.glob("*.html"):
        path.write_text(
            re.sub(r'\b(href|src)="([^"]+)"', lambda m: moved(m, home), path.read_text())
        )


def translate_contents(home, language):
    """The titles of the parts: jupyter-book makes them after Sphinx has translated the pages."""
    from babel.messages.pofile import read_po  # noqa: PLC0415

    with (LOCALE / language / "LC_MESSAGES" / "intro.po").open("rb") as file:
        known = {m.id: m.string for m in read_po(file) if isinstance(m.id, str) and m.string}
    pattern = r'(?<=<span class="caption-text">)[^<]+'
    for path in home.glob("*.html"):
        text = re.sub(pattern, lambda m: known.get(m[0], m[0]), path.read_text())
        path.write_text(text)


def moved(found, home):
    """A link that leads to the English book where its target is there."""
    attribute, url = found.groups()
    parts = urlsplit(url)
    if parts.scheme or not parts.path or url.startswith("../"):
        return found[0]
    if (home / parts.path).exists():
        return found[0]
    if (home.parent / parts.path).exists():
        return f'{attribute}="../{url}"'
    msg = f"{url} is in no edition of the book"
    raise FileNotFoundError(msg)


if __name__ == "__main__":
    for each in NAMES:
        {"update": update, "build": build}[sys.argv[1]](each)
