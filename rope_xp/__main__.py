"""``python -m rope_xp``: a thin command line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import rope_xp
from rope_xp import _backends

EXAMPLE = """\
  import numpy as np, rope_xp                           # or torch, jax, cupy, dask arrays
  rope = rope_xp.RoPE(64, layout="half", base=10000.0)  # head_dim, pairing, base
  q, k = rope(q, k, offset=0)                           # (batch, heads, seq, head_dim)"""


# What a file or an argument can be wrong in; a traceback would say nothing that the sentence does not.
ERRORS = (ValueError, TypeError, ArithmeticError, ImportError, OSError, RecursionError, MemoryError)


def main(argv: list[str] | None = None) -> None:
    """Say what the library can do, explain a config, or diagnose an implementation."""
    parser = argparse.ArgumentParser(
        prog="python -m rope_xp",
        description=(rope_xp.__doc__ or "").partition("\n")[0],
        epilog=overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rope_xp {rope_xp.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command")
    explain = commands.add_parser(
        "explain", help="a model's rotary encoding, layer type by layer type, from its config.json"
    )
    explain.add_argument("config", nargs="?", help="a config.json, a .gguf file, or their folder")
    explain.add_argument("--seq-len", type=int, help="length, for schedules that depend on it")
    explain.add_argument(
        "--layout", choices=["half", "interleaved"], help="pairing, for unknown families"
    )
    explain.add_argument(
        "--part", choices=["text", "vision"], default="text", help="of text with images, which part"
    )
    explain.add_argument("--plot", metavar="FILE", help="draw wavelengths before and after scaling")
    explain.add_argument(
        "--diff",
        nargs=2,
        metavar=("A", "B"),
        help="what differs between two files; exit status 0: the same encodings, 1: not",
    )
    diagnose = commands.add_parser(
        "diagnose", help="which rotary encoding an implementation is, from what it does"
    )
    diagnose.add_argument(
        "function",
        help="module:function, of x (batch, heads, seq, head_dim) and positions (seq,); "
        "modules of the current directory can be imported",
    )
    diagnose.add_argument("--head-dim", type=int, default=64, help="features per head; default 64")
    diagnose.add_argument(
        "--xp", metavar="MODULE", help="of the arrays that it gets: numpy, torch, …"
    )
    diagnose.add_argument("--n-axes", type=int, help="number of position axes; default: none")
    diagnose.add_argument("--max-position", type=int, help="last position to try")
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return
    if args.command == "diagnose":
        _run(diagnose.prog, _diagnose, args)
        return
    if (args.config is None) == (args.diff is None):
        explain.error("one of CONFIG and --diff A B is required, and not both")
    if args.diff is not None and args.plot is not None:
        explain.error("--plot must be absent with --diff")
    _run(explain.prog, _explain, args)


def _run(name: str, command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> None:
    """Exit with the status of a command, with 2 and a sentence for what the user can put right."""
    try:
        status = command(args)
    except ERRORS as error:
        sentence = " ".join(str(error).split())
        if isinstance(error, MemoryError | RecursionError):
            sentence = f"`config` must be a file that fits into memory, got {type(error).__name__}"
        _write(f"{name}: {sentence}", sys.stderr)
        status = 2
    if status:
        sys.exit(status)


def _explain(args: argparse.Namespace) -> int:
    """Print what is asked for; the exit status."""
    for path in args.diff or [args.config]:
        if not path:
            msg = "`config` must be a path, got ''"
            raise ValueError(msg)
    options = {"layout": args.layout, "part": args.part}
    if args.diff is not None:
        from rope_xp.configs._explain_difference import compare  # noqa: PLC0415 - as late as rope_xp.configs

        a, b = args.diff
        found = compare(a, b, args.seq_len, **options)
        _write(found.text, sys.stdout)
        return int(not found.is_same)
    _write(rope_xp.configs.explain(args.config, args.seq_len, **options), sys.stdout)
    if args.plot is not None:
        rope_xp.configs.plot(args.config, args.plot, args.seq_len, **options)
    return 0


def _diagnose(args: argparse.Namespace) -> int:
    """Print what an implementation is."""
    fn = _load("function", args.function)
    xp = None if args.xp is None else _import("xp", args.xp, _backends.load_namespace)
    try:
        found = rope_xp.testing.diagnose(
            fn, args.head_dim, xp=xp, n_axes=args.n_axes, max_position=args.max_position
        )
    except rope_xp.testing.RotationError as error:
        raise ValueError(str(error)) from error
    _write(str(found), sys.stdout)
    return 0


def _load(name: str, path: str) -> Any:
    """What ``module:function`` names."""
    module, colon, attributes = path.partition(":")
    if not (module and colon and attributes):
        msg = f"`{name}` must be module:function, got {path!r}"
        raise ValueError(msg)
    found = _import(name, module)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            msg = f"`{name}` must be in {module}, got {attributes!r}, which is not there"
            raise ValueError(msg)
        found = getattr(found, attribute)
    return found


def _import(name: str, module: str, load: Callable[[str], Any] = importlib.import_module) -> Any:
    """A module, also one of the current directory, as in ``python -m``."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return load(module)
    except Exception as error:  # whatever the module does
        kind = type(error).__name__
        msg = f"`{name}` must name a module that can be imported, got {module!r}: {kind}: {error}"
        raise ValueError(msg) from error


def _write(text: str, file: TextIO) -> None:
    """``text`` as a line; a character that the terminal does not have as its number."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file)


def overview() -> str:
    """The first line of every public name's docstring, and an example."""
    lines = []
    for name in rope_xp.__all__:
        summary = (getattr(rope_xp, name).__doc__ or "").strip().partition("\n")[0]
        lines.append(f"  {name:<15} {summary}")
    return "\n".join(["public names:", *lines, "", "example:", EXAMPLE])


if __name__ == "__main__":
    main()
