"""A Sphinx extension: what a link to a page shows in social networks, and the picture for it."""

import html
import os
import re
import sys
from pathlib import Path

from docutils import nodes

from editions import NAMES

PICTURE = "_static/clocks.png"


def _tags(app, pagename, templatename, context, doctree):
    if doctree is None:
        return
    title = re.sub("<.*?>", "", context["title"])
    values = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": html.unescape(title),
        "og:description": _description(doctree),
    }
    base = os.environ.get("ROPE_XP_BOOK_URL", "").rstrip("/")
    if base:  # the addresses of a page and of its picture must be whole
        folder = NAMES.get(app.config.language, ("", ""))[0]
        values["og:url"] = "/".join(part for part in (base, folder, f"{pagename}.html") if part)
        values["og:image"] = f"{base}/{PICTURE}"
        values["og:image:alt"] = "Clocks, one for each pair of a rotary encoding, at position 64"
    tags = [f'<meta property="{k}" content="{html.escape(v)}" />' for k, v in values.items()]
    tags.append(f'<meta name="description" content="{html.escape(values["og:description"])}" />')
    tags.append('<meta name="twitter:card" content="summary_large_image" />')
    context["metatags"] += "\n".join(tags)


def _description(doctree):
    """The bold question of a chapter, or the first paragraph."""
    paragraph = next(iter(doctree.findall(nodes.paragraph)), None)
    if paragraph is None:
        return "Rotary position encodings"
    first = paragraph[0]
    text = (first if isinstance(first, nodes.strong) else paragraph).astext()
    return " ".join(text.split())[:300]


def _draw(app, exception):
    """The clocks of the chapter on frequencies, on the white ground that a preview needs."""
    if exception or app.builder.format != "html":
        return
    sys.path.insert(0, str(app.srcdir))
    try:
        import moving  # noqa: PLC0415 - draws only where the book is built
        import plots  # noqa: PLC0415
    finally:
        sys.path.remove(str(app.srcdir))
    figure = moving.pairs().static.figure
    plots.save_preview(figure, Path(app.outdir, PICTURE))


def setup(app):
    app.connect("html-page-context", _tags, priority=900)
    app.connect("build-finished", _draw)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
