"""``python -m rope_xp``: a thin command line over the rooms."""

from __future__ import annotations

import argparse

import rope_xp

EXAMPLE = """\
  import numpy as np, rope_xp                           # or torch, jax, cupy, dask arrays
  rope = rope_xp.RoPE(64, layout="half", base=10000.0)  # head_dim, pairing, base
  q, k = rope(q, k, offset=0)                           # (batch, heads, seq, head_dim)"""


def main(arguments: list[str] | None = None) -> None:
    """Say what the library can do."""
    parser = argparse.ArgumentParser(
        prog="python -m rope_xp",
        description=(rope_xp.__doc__ or "").partition("\n")[0],
        epilog=overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rope_xp {rope_xp.__version__}")
    parser.parse_args(arguments)
    parser.print_help()


def overview() -> str:
    """The first line of every public name's docstring, and an example."""
    lines = []
    for name in rope_xp.__all__:
        said = (getattr(rope_xp, name).__doc__ or "").strip().partition("\n")[0]
        lines.append(f"  {name:<15} {said}")
    return "\n".join(["what is in it:", *lines, "", "example:", EXAMPLE])


if __name__ == "__main__":
    main()
