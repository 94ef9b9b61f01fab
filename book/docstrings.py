"""A Sphinx extension for the page that autodoc writes from the docstrings.

In a docstring, a name in single backticks is a link if the book documents it, and code if it is an
argument or a name without documentation.
"""

import inspect
import sys

from sphinx.domains.python import PyXRefRole


class NameRole(PyXRefRole):
    """``default_role``: `name`."""

    def process_link(self, env, refnode, has_explicit_title, title, target):
        title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["reftype"], refnode["may_be_code"] = "obj", True
        return title, target


def _link_or_code(app, env, node, contnode):
    """A name that the book does not document in full: one of the top level, or else it is code."""
    if not node.get("may_be_code"):
        return None
    names = env.domains["py"].objects
    full = f"rope_xp.{node['reftarget']}"
    if full in names:
        return env.domains["py"].resolve_xref(
            env, node["refdoc"], app.builder, "obj", full, node, contnode
        )
    return contnode


def _skip(app, what, name, obj, skip, options):  # noqa: PLR0917 - Sphinx calls it so
    """Skip the fields of a named tuple, which say "Alias for field number 0".

    What a module or a package shows is decided by its ``__all__``.
    """
    return True if type(obj).__name__ == "_tuplegetter" else None


def _source(app, modname, attribute):
    """The private file that defines what a package exports, for the link to the source.

    An exported object says that it comes from the package; its functions know their file.
    """
    value = sys.modules.get(modname)  # None for a name that a page declares itself
    for name in attribute.split("."):
        value = getattr(value, name, None)
    for member in (value, *getattr(value, "__dict__", {}).values()):
        names = getattr(inspect.unwrap(member), "__globals__", {})
        if names.get("__name__", "").startswith(f"{modname}."):
            return names["__name__"]
    return None


def setup(app):
    app.add_role_to_domain("py", "name", NameRole())
    app.connect("missing-reference", _link_or_code)
    app.connect("autodoc-skip-member", _skip)
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-follow-imported", _source)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
