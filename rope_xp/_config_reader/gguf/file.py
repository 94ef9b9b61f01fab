"""A GGUF file or a reader of one → its metadata, with the tensors that say how positions are encoded.

Only the header of a file is read, without its lists of tokens, and of its tensors the one or two that
matter; nothing has to be installed. (``gguf.GGUFReader`` reads every token of the tokenizer, which
takes seconds.)
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rope_xp._config_reader.gguf.metadata import TENSORS
from rope_xp._validation import quote

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# The types of values: the format of those of fixed size, in the order of their numbers.
FORMATS = ("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")
STRING, ARRAY = 8, 9
# No file has more keys, tensors or dimensions, no list of a model more numbers, no text more bytes, and
# all lists together not more tokens.
MAX_ENTRIES, MAX_DIMENSIONS, MAX_NUMBERS, MAX_TEXT, MAX_STRINGS = 2**16, 8, 2**16, 2**24, 2**21
# Headers have some megabytes, most of them tokens: as much is read as they need.
HEADER_SIZES = (2**20, 2**23, 2**26)
FLOATS = {0: "f4", 1: "f2"}  # ggml's types of tensors: F32, F16
# Keys whose values are not kept: lists of tokens and the like.
SKIPPED = "tokenizer."


def is_gguf(path: Path) -> bool:
    """Whether a file begins as one of GGUF."""
    try:
        if not path.is_file():  # a pipe would wait
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def in_folder(path: Path) -> Path | None:
    """The one GGUF file of a folder, the first of its parts; None if there is none."""
    found = sorted(one for one in path.glob("*.gguf") if not one.name.startswith("mmproj"))
    first = [one for one in found if _part_of(one)[0] in (None, 1)]
    if len(first) > 1:
        names = ", ".join(one.name for one in first[:3])
        msg = f"`config` must name one GGUF file, got a folder with {len(first)}: {names}"
        raise ValueError(msg)
    return first[0] if first else None


def metadata_of(source: Path) -> dict[str, Any]:
    """The metadata of a file, with the tensors of `TENSORS`; None: not there.

    Raises
    ------
    ValueError
        If the file cannot be read, is broken, or is not the first part of a model.
    """
    header = _read(source)
    found, missing = {**header.metadata, **header.tensors}, set(TENSORS) - {*header.tensors}
    for part in _other_parts(source, header.metadata):
        if not missing:
            break
        if not part.exists():
            return found  # what is not known must be handed in if it can matter
        tensors = _read(part).tensors
        found.update(tensors)
        missing -= {*tensors}
    return {**dict.fromkeys(missing), **found}


def metadata_of_reader(reader: Any) -> dict[str, Any]:
    """The same of a ``gguf.GGUFReader``."""
    found = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith(SKIPPED)
    }
    tensors: dict[str, Any] = dict.fromkeys(TENSORS)
    for tensor in reader.tensors:
        if tensor.name in tensors:
            _require_float(tensor.name, int(tensor.tensor_type))
            tensors[tensor.name] = np.asarray(tensor.data).ravel()
    is_part = found.get("split.count", 1) > 1
    return {
        **{name: one for name, one in tensors.items() if one is not None or not is_part},
        **found,
    }


def _part_of(path: Path) -> tuple[int | None, str, str]:
    """The number of a part, and the name before and after it: ``x-00001-of-00003.gguf``."""
    stem, _, count = path.stem.rpartition("-of-")
    before, _, number = stem.rpartition("-")
    is_part = before and number.isdecimal() and count.isdecimal()
    return (int(number), before, count) if is_part else (None, path.stem, "")


def _other_parts(path: Path, metadata: Mapping[str, Any]) -> list[Path]:
    count = metadata.get("split.count", 1)
    _, before, n_digits = _part_of(path)
    if not isinstance(count, int) or count > MAX_ENTRIES:
        msg = f"`split.count` must be a number of files, got {quote(count)}"
        raise ValueError(msg)
    width = len(n_digits) or 5
    names = (f"{before}-{i:0{width}}-of-{count:0{width}}.gguf" for i in range(2, count + 1))
    return [path.with_name(name) for name in names]


class _Header(NamedTuple):
    metadata: dict[str, Any]
    tensors: dict[str, Any]


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open; a device or a pipe, from which reading may never end, is not opened."""
    if not stat.S_ISREG(path.stat().st_mode):
        msg = f"`config` must be a regular file, got {quote(str(path))}"
        raise ValueError(msg)
    return path.open("rb")


def _read(path: Path) -> _Header:
    named = f"`config` must be a whole GGUF file, got {quote(str(path))}"
    try:
        file = open_regular(path)
    except OSError as error:
        msg = f"`config` must be a readable file, got {quote(str(path))}: {error.strerror}"
        raise ValueError(msg) from None
    try:
        with file:
            return _header_of(file)
    except OSError as error:
        msg = f"`config` must be a readable file, got {quote(str(path))}: {error.strerror}"
    except (_EndError, UnicodeDecodeError):
        msg = f"{named}: it ends, or is broken, within its header"
    except ValueError as error:
        msg = f"{named}: {error}"
    raise ValueError(msg)


def _header_of(file: BinaryIO) -> _Header:
    data = b""
    for size in HEADER_SIZES:
        data += file.read(size - len(data))
        if data[: len(MAGIC)] != MAGIC:
            msg = "it does not begin with the letters GGUF"
            raise ValueError(msg)
        try:
            cursor = _Cursor(data)
            metadata, places = cursor.header()
        except _EndError:
            if len(data) < size:  # of the file
                raise
            continue
        return _Header(metadata, {name: _tensor(file, *at) for name, at in places.items()})
    msg = f"its header must have at most {HEADER_SIZES[-1] // 2**20} MiB, got more"
    raise ValueError(msg)


def _tensor(file: BinaryIO, dtype: np.dtype[Any], size: int, start: int) -> np.ndarray:
    n_bytes = size * dtype.itemsize
    if start + n_bytes > os.fstat(file.fileno()).st_size:
        raise _EndError
    file.seek(start)
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise _EndError
    return np.frombuffer(data, dtype).astype(float)


class _EndError(Exception):
    """Past the end of what was read."""


# The tensors that matter: dtype, number of elements, place in the file.
_Places = dict[str, tuple[np.dtype[Any], int, int]]


class _Cursor:
    """A place in the header of a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.order, self.n_strings = data, len(MAGIC), "<", 0
        if self.number("I") & 0xFFFF == 0:  # a version in the other order of bytes
            self.order = ">"
        self.at = len(MAGIC)
        version = self.number("I")
        if version not in VERSIONS:
            msg = f"its version must be one of {', '.join(map(str, VERSIONS))}, got {version}"
            raise ValueError(msg)

    def number(self, form: str) -> Any:
        start = self.at
        self.skip(struct.calcsize("<" + form))
        return struct.unpack_from(self.order + form, self.data, start)[0]

    def count(self, what: str, maximum: int) -> int:
        found = int(self.number("Q"))
        if found > maximum:
            msg = f"{what} must be at most {maximum}, got {found}"
            raise ValueError(msg)
        return found

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise _EndError

    def text(self) -> str:
        size = self.count("the length of a text", MAX_TEXT)
        start = self.at
        self.skip(size)
        return self.data[start : self.at].decode("utf-8")

    def header(self) -> tuple[dict[str, Any], _Places]:
        n_tensors = self.count("the number of its tensors", MAX_ENTRIES)
        metadata: dict[str, Any] = {}
        for _ in range(self.count("the number of its keys", MAX_ENTRIES)):
            key = self.text()
            value = self.value(self.number("I"), is_kept=not key.startswith(SKIPPED))
            if key in metadata:
                msg = f"{quote(key)} must be there once, got it twice"
                raise ValueError(msg)
            if value is not None:
                metadata[key] = value
        found: dict[str, tuple[int, int, int]] = {}
        for _ in range(n_tensors):
            name, size = self.text(), 1
            n_dimensions = self.number("I")
            if n_dimensions > MAX_DIMENSIONS:
                msg = f"a tensor must have at most {MAX_DIMENSIONS} dimensions, got {n_dimensions}"
                raise ValueError(msg)
            for _ in range(n_dimensions):
                size *= self.number("Q")
            kind, offset = self.number("I"), self.number("Q")
            if name in TENSORS:
                found[name] = (size, kind, offset)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            msg = f"`general.alignment` must be a positive integer, got {quote(alignment)}"
            raise ValueError(msg)
        start = -(-self.at // alignment) * alignment
        return metadata, {name: self.place(name, start, *at) for name, at in found.items()}

    def value(self, kind: int, *, is_kept: bool) -> Any:
        """A value; None for one that is passed over."""
        if kind == ARRAY:
            return self.array(is_kept=is_kept)
        if kind == STRING:
            return self.text()
        return self.number(_format_of(kind))

    def array(self, *, is_kept: bool) -> list[Any] | None:
        kind = self.number("I")
        if kind == STRING:
            unpack = struct.Struct(self.order + "Q").unpack_from
            data, at, end = self.data, self.at + 8, len(self.data)
            n = self.count("the length of a list of texts", MAX_STRINGS - self.n_strings)
            self.n_strings += n
            for _ in range(n):
                if at + 8 > end:
                    raise _EndError
                at += 8 + unpack(data, at)[0]
            self.skip(at - self.at)
            return None
        form = _format_of(kind)
        length = self.number("Q")
        start, size = self.at, struct.calcsize("<" + form)
        self.skip(length * size)
        if not is_kept or length > MAX_NUMBERS:
            return None
        return list(struct.unpack_from(f"{self.order}{length}{form}", self.data, start))

    def place(
        self, name: str, start: int, size: int, kind: int, offset: int
    ) -> tuple[np.dtype[Any], int, int]:
        _require_float(name, kind)
        if size > MAX_NUMBERS:
            msg = f"`{name}` must have at most {MAX_NUMBERS} numbers, got {size}"
            raise ValueError(msg)
        return np.dtype(self.order + FLOATS[kind]), size, start + offset


def _format_of(kind: int) -> str:
    form = FORMATS[kind] if kind < len(FORMATS) else None
    if form is None:
        msg = f"the type of a value must be one of GGUF, below {len(FORMATS)}, got {kind}"
        raise ValueError(msg)
    return form


def _require_float(name: str, kind: int) -> None:
    if kind not in FLOATS:
        msg = f"`{name}` must be of type F32 or F16, got ggml's type {kind}"
        raise ValueError(msg)
