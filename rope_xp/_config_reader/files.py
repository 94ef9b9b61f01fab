"""A path, a folder or a config object → the mapping in it, within bounds: not deep, not large."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np

from rope_xp import _backends
from rope_xp._backends import FLOATING
from rope_xp._config_reader.gguf.metadata import TENSORS
from rope_xp._config_reader.values import MAX_DEPTH, is_list
from rope_xp._validation import quote

# How many mappings and lists, and how many values in all of them: an object of one's own has no end.
MAX_PARTS, MAX_VALUES = 2**16, 2**19
# Longer lists hold numbers or names, as the vocabulary in the metadata of a GGUF file: they are not
# looked through for mappings.
MAX_LIST = 4096

PLAIN = frozenset({bool, float, int, str, type(None)})


class SupportsToDict(Protocol):
    """A config object, as those of transformers: what its ``to_dict()`` returns is read."""

    def to_dict(self) -> Mapping[str, Any]: ...


class SupportsFieldsAndTensors(Protocol):
    """A ``gguf.GGUFReader``."""

    @property
    def fields(self) -> Any: ...

    @property
    def tensors(self) -> Any: ...


Config = Mapping[str, Any] | SupportsToDict | SupportsFieldsAndTensors | str | os.PathLike[str]


def load(config: object) -> dict[str, Any]:
    """What is in a mapping, a file, a folder or a config object, as Python's own dicts, lists and numbers.

    Objects of other kinds are read once, here: what is asked of the result later cannot fail or change.

    Raises
    ------
    ValueError
        If the file cannot be read, is too large, or has no mapping in it; if a mapping contains itself,
        has no end, or raises an error of its own.
    TypeError
        If ``config`` is none of these.
    """
    found = config if type(config) is dict else _mapping_of(config)
    if not isinstance(found, Mapping):
        msg = (
            "`config` must be a mapping, a config object, a path to a config.json or its folder, "
            f"got {type(found).__name__}"
        )
        raise TypeError(msg)
    try:
        return _Copy().mapping(found, MAX_DEPTH)
    except _CopyError as error:
        raise ValueError(str(error)) from error.__cause__


def _mapping_of(config: object) -> object:
    """The mapping in a path or a config object; anything else as it is."""
    if isinstance(config, str | os.PathLike):
        from rope_xp._config_reader.paths import read_path  # noqa: PLC0415 - a mapping needs none

        return read_path(config)
    if isinstance(config, Mapping):
        return config
    try:
        if not (hasattr(config, "fields") and hasattr(config, "tensors")):
            return config.to_dict() if hasattr(config, "to_dict") else config
    except Exception as error:
        raise ValueError(_unreadable(config, error)) from error
    from rope_xp._config_reader.gguf.file import metadata_of_reader  # noqa: PLC0415 - a gguf.GGUFReader

    try:
        return metadata_of_reader(config)
    except ValueError:  # a sentence
        raise
    except Exception as error:
        raise ValueError(_unreadable(config, error)) from error


def _unreadable(config: object, error: Exception) -> str:
    """A sentence for an object whose own methods fail."""
    what = quote(error) if str(error) else type(error).__name__
    return f"`config` must be a mapping that can be read, got {type(config).__name__}, which raises {what}"


class _CopyError(Exception):
    """A sentence of `_Copy`."""


class _Opaque:
    """A value that no config has: messages quote it, and it is equal to nothing."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return quote(self.value)


def _name(key: object) -> str:
    """A key as text that fits into a sentence: others, as the numbers in id2label, nothing reads."""
    name = str.__str__(key) if isinstance(key, str) else ""
    return name if name and name.isprintable() else quote(key)


def _scalar(value: object) -> str | float | None:
    """A number or a text of another class, as NumPy's or an enum's, as Python's own; None: it is neither."""
    if isinstance(value, str):
        return str.__str__(value)
    try:
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, Integral) and not isinstance(value, np.timedelta64):
            return int.__index__(value) if isinstance(value, int) else int(value)
        if isinstance(value, float):
            return float.__float__(value)
        is_floating = (
            isinstance(value, np.generic) and _backends.dtype_name(value.dtype) in FLOATING
        )
        return float(value) if isinstance(value, Real) or is_floating else None  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - of a class that is no number after all
        return None


class _Copy:
    """Copies of mappings and lists, which count what is in them."""

    def __init__(self) -> None:
        self.n_parts = self.n_values = 0

    def mapping(self, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        self._count_part(depth)
        found: dict[str, Any] = {}
        for key, value in self._each(given, given.items):
            is_first = depth == MAX_DEPTH
            if is_first and not isinstance(key, str):
                msg = f"the keys of `config` must be strings, got {quote(key)}"
                raise _CopyError(msg)
            name = _name(key)
            is_tensor = is_first and name in TENSORS
            found[name] = value if is_tensor else self.value(value, depth - 1)
        return found

    def list(self, given: Any, depth: int) -> list[Any]:
        self._count_part(depth)
        if type(given) is list and {*map(type, given)} <= PLAIN:
            self._count_values(len(given))
            return given
        return [self.value(value, depth - 1) for value in self._each(given, lambda: given)]

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if kind is np.ndarray and value.ndim == 1 and value.dtype.kind in "biuf":
            value, kind = value.tolist(), list
        if is_list(value):
            is_short = kind is not list or len(value) <= MAX_LIST
            return self.list(value, depth) if is_short else value
        found = _scalar(value)
        return _Opaque(value) if found is None else found

    def _each(self, given: object, items: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """What is in a mapping or a list, counted; errors of its own become a sentence."""
        try:
            for item in items():
                self._count_values(1)
                yield item
        except _CopyError:
            raise
        except Exception as error:
            raise _CopyError(_unreadable(given, error)) from error

    def _count_values(self, n: int) -> None:
        self.n_values += n
        if self.n_values > MAX_VALUES:
            msg = f"`config` must have at most {MAX_VALUES:,} values in it, got more"
            raise _CopyError(msg)

    def _count_part(self, depth: int) -> None:
        if not depth:
            msg = f"`config` must be nested at most {MAX_DEPTH} deep, got a deeper one"
            raise _CopyError(msg)
        self.n_parts += 1
        if self.n_parts >= MAX_PARTS:
            msg = f"`config` must have fewer than {MAX_PARTS:,} mappings and lists in it, got more"
            raise _CopyError(msg)
