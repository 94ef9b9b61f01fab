"""A Sphinx extension: the pages request nothing from other hosts and run no useless script.

sphinx-thebe, which jupyter-book always loads, writes its scripts into every page even where it is
switched off: one names a CDN, one does not parse.
"""

from docutils import nodes


def _without_scripts(app, pagename, templatename, context, doctree):
    context["script_files"] = [s for s in context["script_files"] if "thebe" not in _text(s)]


def _text(script):
    return f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', '')}"


def _without_nodes(app, doctree, docname):
    for node in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in node.astext() or "kernelName" in node.astext():
            node.parent.remove(node)


def setup(app):
    app.connect("html-page-context", _without_scripts, priority=900)
    app.connect("doctree-resolved", _without_nodes, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
