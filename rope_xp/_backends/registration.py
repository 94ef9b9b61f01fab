"""Classes of `rope_xp` that libraries have to know, whichever of the two is imported first.

Neither JAX nor torch looks for anything in a class that was not registered. A library that is imported
later therefore gets them at the end of its import; nothing is imported for this.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
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
    """Call ``callback()`` once the module ``name`` is imported: now, if it is.

    Threads may import both at once. The one that imports ``name`` has its lock, and waits for modules
    that callbacks import: so nobody who imports such a module waits for ``name``, but leaves the
    callback to that thread.
    """
    for finder in [*sys.meta_path]:  # two finders of one module would ask each other
        if isinstance(finder, _Notifier) and finder.name == name:
            if not finder.leave(callback):
                callback()
            return
    if name in sys.modules:
        import_module(name)  # another thread may be at it, and will not call back
        callback()
        return
    sys.meta_path.insert(0, _Notifier(name, callback))


class _Notifier:
    """A finder that leaves finding to the others, and calls back after the import of one module.

    It stays where it is: of a list that gets shorter, a thread that goes through it leaves out a finder.
    """

    def __init__(self, name: str, callback: Callable[[], Any]) -> None:
        self.name = name
        self.callbacks = deque([callback])
        self.lock = allocate_lock()
        self.done = False

    def leave(self, callback: Callable[[], Any]) -> bool:
        """Whether the thread that imports the module will call, or is to: False once it has ended."""
        with self.lock:
            if not self.done:
                self.callbacks.append(callback)
            return not self.done

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self.done or self not in sys.meta_path:
            return None
        others = (finder for finder in [*sys.meta_path] if finder is not self)
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
                self._call_back()

        loader.exec_module = exec_module

    def _call_back(self) -> None:
        """What was left here, and what others leave meanwhile."""
        while True:
            with self.lock:
                self.done = not self.callbacks
                if self.done:
                    return
                callback = self.callbacks.popleft()
            callback()
