"""Broken files: `make_file` writes one, or a folder, into the current folder."""

import contextlib
import json
import os
import shutil
import struct
from pathlib import Path

import config_mutations  # noqa: F401 - finds the tests
from test_gguf_files import FREQS, OTHER, written

#: What JSON has that Python's dictionaries have not.
TEXTS = (
    '{"model_type": NaN}', '{"model_type": "llama", "rope_theta": Infinity}', "[" * 10**5, "{" * 10**5,
    '{"a":' * 10**5, '{"rope_theta": ' + "9" * 10**5 + "}", '{"model_type": "llama", "rope_theta": 1e999}',
    '{"model_type": "\\ud800"}', '{"\\ud800": 1}', '{"a": 1, "a": 2}', "", "null", "7", '"config.json"', "[]", "{}",
    "\ufeff{}", "{'a': 1}", '{"a": 1,}', '{"a": 1} {"b": 2}', "// a\n{}", "\0", '{"model_type": "llama\\u0000"}',
    '{"text_config": "/etc/passwd"}', '{"auto_map": {"AutoConfig": "x--y.Z"}, "model_type": "x"}',
    '{"_name_or_path": "/etc/passwd", "model_type": "x"}', '{"model_type": "llama", "\\n": 1, "rope_\\u2028": 2}',
)  # fmt: skip
YAML = (
    "!!python/object/apply:os.system ['touch planted']", "!!python/name:os.system {}", "a: &a [*a]",
    "a: &a {b: *a}", "&x [*x, *x]", "{a: !!binary zzz}", "? {a: 1}\n: 2", "a: !!timestamp x", "1: 2", "a: 0o17",
    "a: 1_000", "a: 190:20:30", "<<: {a: 1}\nmodel_type: llama", "<<: [1]", "%YAML 9.9\n---\na", "--- a\n--- b",
    "a: !!set {b, c}", "a: .nan", "a: " + "9" * 10**5, "!!map [1]", "? ? ? a", "a:\n\tb", "\x07",
    "x0: &x0 [a, a, a, a, a, a, a, a, a]\n" + "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 9)),
    "!include /etc/passwd", "a: !!python/object/new:type {}", "!!omap [a: 1]", "!!float x: 1", "!!int '': 1",
)  # fmt: skip
SPECIAL = (
    "folder", "empty folder", "pipe", "pipe.gguf", "device", "device.gguf", "loop", "link to a folder", "link out",
    "no name", "huge", "huge.gguf", "zeros.gguf", "texts.gguf", "strings.gguf", "part", "parts of pipes", "index",
    "index to a pipe", "folder of a pipe", "config.json is a folder", "socket", "unreadable", "long name",
    "yaml pipe", "grows",
)  # fmt: skip


def changed(m, data):
    """Bytes that are cut, overwritten, or have others put in."""
    data = bytearray(data)
    for _ in range(int(m.rng.integers(1, 4))):
        i = int(m.rng.integers(len(data) + 1))
        match int(m.rng.integers(6)):
            case 0:
                del data[i:]
            case 1:
                data[i : i + 1] = bytes([int(m.rng.integers(256))])
            case 2:
                data[i : i + 8] = struct.pack(
                    "<Q", m.pick((2**63, 2**64 - 1, 2**40, 2**31, 2**20, 0, 9, 8))
                )
            case 3:
                data[i : i + 4] = struct.pack(
                    "<I", m.pick((2**32 - 1, 2**31, 2**20, 0, 8, 9, 10, 13))
                )
            case 4:
                del data[i : i + int(m.rng.integers(1, 20))]
            case _:
                data[i:i] = data[int(m.rng.integers(len(data) + 1)) :][: int(m.rng.integers(1, 40))]
    return bytes(data)


def of_gguf(m, config):
    """The bytes of a GGUF file of what of a config it can have."""

    def fits(value):
        if isinstance(value, (bool, str)):
            return not isinstance(value, str) or value.isprintable()
        if isinstance(value, int):
            return 0 <= value < 2**32
        return isinstance(value, float) and abs(value) < 1e38

    kept = {k: v for k, v in config.items() if fits(v) and k.isprintable()}
    lists = {
        k: v
        for k, v in config.items()
        if type(v) is list and v and len({*map(type, v)}) == 1 and all(map(fits, v))
    }
    data = written(
        {"general.architecture": "llama", **kept, **lists}, m.pick(((), (FREQS,), (OTHER, FREQS)))
    )
    return changed(m, data) if m.chance(0.8) else data


def head(n_tensors, n_keys):
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_keys)


def make_special(what, data):
    """A path of another kind than a file with a config in it; ``data`` is that of one."""
    path = Path(what.replace(" ", "-"))
    match what:
        case (
            "folder"
            | "empty folder"
            | "config.json is a folder"
            | "folder of a pipe"
            | "index"
            | "index to a pipe"
        ):
            path.mkdir()
            if what == "folder":
                (path / "config.json").write_bytes(data)
            elif what == "config.json is a folder":
                (path / "config.json").mkdir()
            elif what == "folder of a pipe":
                os.mkfifo(path / "model.gguf")
            elif what != "empty folder":
                names = {
                    "transformer": ["d", "T"],
                    "../transformer": ["d", "T"],
                    "x/transformer": [1],
                }
                (path / "model_index.json").write_text(json.dumps(names))
                (path / "transformer").mkdir()
                if what == "index":
                    (path / "transformer" / "config.json").write_bytes(data)
                else:
                    os.mkfifo(path / "transformer" / "config.json")
        case "pipe" | "pipe.gguf" | "yaml pipe":
            path = path.with_suffix(".yaml") if "yaml" in what else path
            os.mkfifo(path)
        case "device" | "device.gguf":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "link to a folder":
            path.symlink_to(".")
        case "link out":
            path.symlink_to("/etc/passwd")
        case "no name":
            path = Path(os.fsdecode(b"\xff\xfe.json"))
            path.write_bytes(data)
        case "huge" | "huge.gguf":
            path.write_bytes(b"GGUF" if "gguf" in what else b"")
            os.truncate(path, 2**40)
        case "zeros.gguf":
            path.write_bytes(head(2**16, 2**16))
            os.truncate(path, 2**36)
        case "texts.gguf":  # a list of 2**21 texts of nothing
            path.write_bytes(head(0, 9) + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 2**21))
            os.truncate(path, 2**40)
        case "strings.gguf":  # a text of 2**38 bytes
            path.write_bytes(head(0, 1) + struct.pack("<Q1sIQ", 1, b"a", 8, 2**38))
            os.truncate(path, 2**40)
        case "part" | "parts of pipes":
            path = Path("x-00001-of-00003.gguf")
            path.write_bytes(
                written({"general.architecture": "llama", "split.count": 3, "split.no": 0})
            )
            if what != "part":
                os.mkfifo("x-00002-of-00003.gguf")
        case "socket":
            import socket

            with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
                made.bind(str(path))
        case "unreadable":
            path.write_bytes(data)
            path.chmod(0)
        case "long name":
            path = Path("x" * 10**5)
        case "grows":
            path.write_bytes(data * 3)
    return path


def make_file(m, config):
    """The path of a file, and what it is."""
    for one in Path.cwd().iterdir():
        (shutil.rmtree if one.is_dir() and not one.is_symlink() else Path.unlink)(one)
    try:
        data = json.dumps(config).encode()
    except (TypeError, ValueError, RecursionError):
        data = b'{"model_type": "llama"}'
    kind = m.pick(
        ("json", "json", "json", "yaml", "gguf", "gguf", "gguf", "text", "yaml text", "special")
    )
    name = {
        "json": "config.json",
        "gguf": "model.gguf",
        "yaml": "model.yaml",
        "yaml text": "model.yaml",
    }
    path = Path(name.get(kind, "config.json"))
    if kind == "special":
        kind = m.pick(SPECIAL)
        return make_special(kind, data), kind
    match kind:
        case "json" | "yaml":  # which has JSON in it
            data = changed(m, data)
            if m.chance(0.2):
                data = data.decode("latin-1").encode(
                    m.pick(("utf-16", "utf-8-sig", "utf-32", "latin-1"))
                )
        case "gguf":
            data = of_gguf(m, config)
        case "text":
            data = m.pick(TEXTS).encode("utf-8", "surrogatepass")
        case _:
            data = m.pick(YAML).encode()
    path.write_bytes(data)
    return path, kind
