"""One public path for each name: what a package exports says that it comes from the package."""

import sys
from collections.abc import Iterable


def set_public_module(package: str, names: Iterable[str] | None = None) -> None:
    """Set ``__module__`` of ``names``, or of all in the ``__all__`` of ``package``, to ``package``.

    Pickles, reprs and documentation then name ``rope_xp.scaling.YaRN``, as users do, and not the
    private file that defines it. NumPy and pandas do the same.
    """
    module = sys.modules[package]
    for name in module.__all__ if names is None else names:
        getattr(module, name).__module__ = package
