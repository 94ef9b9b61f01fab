"""Classes of `rope_xp` that libraries have to know, whichever of the two is imported first.

Neither JAX nor torch looks for anything in a class that was not registered. A library that is imported
later therefore gets them at the end of its import; nothing is imported for this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from rope_xp._backends import torch
from rope_xp._backends.namespaces import LIBRARIES


def register_values(classes: tuple[type, ...]) -> None:
    """Make frozen dataclasses known to each library, now or when it is imported."""
    for library in {id(each): each for each in LIBRARIES.values()}.values():
        if library.register_values is not None:
            when_imported(library.name, partial(library.register_values, classes))


def register_values_of(module: str) -> None:
    """The same for classes of a module that is imported on first use, or with such a library."""
    for library in {id(each): each for each in LIBRARIES.values()}.values():
        if library.register_values is not None:
            when_imported(library.name, partial(import_module, module))


def register_rows_at_length(function: Callable[..., Any]) -> None:
    """Make a function of the host an operation of programs that torch compiles."""
    when_imported("torch", partial(torch.register_rows_at_length, function))


def when_imported(name: str, callback: Callable[[], Any]) -> None:
    """Call ``callback()`` once the module ``name`` is imported: now, if it is."""
    if name in sys.modules:
        callback()
        return
    for finder in sys.meta_path:  # two finders of one module would ask each other
        if isinstance(finder, _Notifier) and finder.name == name:
            finder.callbacks.append(callback)
            return
    sys.meta_path.insert(0, _Notifier(name, callback))


class _Notifier:
    """A finder that leaves finding to the others, and calls back after the import of one module."""

    def __init__(self, name: str, callback: Callable[[], Any]) -> None:
        self.name = name
        self.callbacks = [callback]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self not in sys.meta_path:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        """Call back after this loader has run the module: whoever only looks for it does not."""

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            loader.exec_module(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                for callback in self.callbacks:
                    callback()

        loader.exec_module = exec_module
