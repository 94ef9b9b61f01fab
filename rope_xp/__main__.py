"""``python -m rope_xp``: a thin command line."""

from __future__ import annotations

import argparse
import sys

import rope_xp

EXAMPLE = """\
  import numpy as np, rope_xp                           # or torch, jax, cupy, dask arrays
  rope = rope_xp.RoPE(64, layout="half", base=10000.0)  # head_dim, pairing, base
  q, k = rope(q, k, offset=0)                           # (batch, heads, seq, head_dim)"""


def main(argv: list[str] | None = None) -> None:
    """Say what the library can do, or explain a config."""
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
    explain.add_argument("config", help="a config.json, or the folder that it is in")
    explain.add_argument("--seq-len", type=int, help="length, for schedules that depend on it")
    explain.add_argument(
        "--layout", choices=["half", "interleaved"], help="pairing, for unknown families"
    )
    explain.add_argument("--plot", metavar="FILE", help="draw wavelengths before and after scaling")
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return
    try:
        print(rope_xp.configs.explain(args.config, args.seq_len, layout=args.layout))
        if args.plot is not None:
            rope_xp.configs.plot(args.config, args.plot, args.seq_len, layout=args.layout)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"{parser.prog} explain: {error}", file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """The first line of every public name's docstring, and an example."""
    lines = []
    for name in rope_xp.__all__:
        summary = (getattr(rope_xp, name).__doc__ or "").strip().partition("\n")[0]
        lines.append(f"  {name:<15} {summary}")
    return "\n".join(["public names:", *lines, "", "example:", EXAMPLE])


if __name__ == "__main__":
    main()
