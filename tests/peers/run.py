"""`check` and `diagnose` on what others publish: ``python tests/peers/run.py``, in an environment with it.

Prints a table and fails if a finding is another than the one in book/peers.json; ``--record`` writes that
file. Names, or parts of them, as arguments choose peers.
"""

import dataclasses
import importlib
import json
import sys
import textwrap
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from peers.table import PEERS

from rope_xp.testing import RotationError, check, diagnose

RECORDED = ROOT / "book" / "peers.json"
FILES = ("with_torch", "with_jax", "with_onnx", "with_mlx")
# What depends on the processor: printed, not compared.
NOT_COMPARED = {"error", "sentences", "diagnosis"}


def verdict(peer, precision):
    """ "passes", or the law that is broken and what that looks like; and the whole sentence."""
    rope = dataclasses.replace(peer.rope, precision=precision)
    try:
        check(peer.make(), rope, xp=peer.xp)
    except RotationError as error:
        text = str(error).removeprefix(f"`fn` is not {rope!r}: ")
        law, looks = text.partition(". ")[0], ""
        for start in ("This looks like ", "The errors are those of ", "Diagnosis: "):
            if start in text:
                looks = start + text.partition(start)[2].partition(". ")[0].rstrip(".")
        return f"{law}. {looks}." if looks else f"{law}.", text
    return "passes", ""


def error_far_out(peer):
    """The largest error of a pair of length 1, up to the last position, in units of its length."""
    rng = np.random.default_rng(0)
    n_axes = None if peer.rope.axes is None else len(peer.rope.frequencies().inv_freq)
    at = rng.integers(peer.max_position * 7 // 8, peer.max_position, (n_axes or 1, 64))
    x = np.full((1, 1, 64, peer.rope.head_dim), np.sqrt(0.5), dtype=np.float32)
    xp = peer.xp
    positions = (at if n_axes else at[0]).astype(
        np.int32 if peer.library == "jax.numpy" else np.int64
    )
    try:
        got = np.asarray(peer.make()(xp.asarray(x), xp.asarray(positions)), dtype=np.float64)
    except TypeError:
        return None
    want = peer.rope(x.astype(np.float64), positions=positions)
    return float(np.abs(got - want).max() / peer.rope.frequencies().attention_factor)


def short(number):
    return None if number is None else float(f"{number:.8g}")


def diagnosed(peer):
    n_axes = None if peer.rope.axes is None else len(peer.rope.frequencies().inv_freq)
    try:
        found = diagnose(peer.make(), peer.rope.head_dim, xp=peer.xp, n_axes=n_axes)
    except RotationError as error:
        return {"refused": str(error)}
    first, n = found.rotary_start, found.rotary_dim
    return {
        "layout": found.layout,
        "output_layout": found.output_layout,
        "direction": found.direction,
        "rotary": f"{first} to {first + n - 1} of {found.head_dim}",
        "base": short(found.base),
        "scaling": None if found.scaling is None else textwrap.shorten(repr(found.scaling), 200),
        "attention_factor": short(found.attention_factor),
        "precision": found.precision,
        "rope": None if found.rope is None else textwrap.shorten(repr(found.rope), 200),
        "remarks": list(found.remarks),
    }


def finding(peer):
    exact, exact_text = verdict(peer, "exact")
    rounded, rounded_text = ("passes", "") if exact == "passes" else verdict(peer, "float32")
    return {
        "package": peer.package,
        "name": peer.name,
        "documented": repr(peer.rope),
        "max_position": peer.max_position,
        "error": error_far_out(peer),
        "exact": exact,
        "float32": rounded,
        "sentences": [exact_text, rounded_text],
        "diagnosis": diagnosed(peer),
    }


def show(row):
    found = row["diagnosis"]
    error = "" if row["error"] is None else f"{row['error']:.1e}"
    print(f"{row['package']} {row['version']}, {row['name']}: documented as {row['documented']}")
    print(f"  diagnosed: {found.get('rope') or found}")
    print(f"  largest error up to position {row['max_position'] - 1}: {error}")
    print(f"  exact:   {row['exact']}")
    if row["exact"] != "passes":
        print(f"  float32: {row['float32']}", flush=True)


def compared(row):
    flat = {**row, **row["diagnosis"]}
    return {key: value for key, value in flat.items() if key not in NOT_COMPARED}


def main(*arguments):
    for name in FILES:
        importlib.import_module(f"peers.{name}")
    parts = [a for a in arguments if a != "--record"]
    chosen = [p for p in PEERS if not parts or any(a in f"{p.package} {p.name}" for a in parts)]
    rows = []
    for peer in chosen:
        rows.append({**finding(peer), "version": peer.version})
        show(rows[-1])
    if "--record" in arguments:
        RECORDED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    recorded = json.loads(RECORDED.read_text())
    names = {(row["package"], row["name"]) for row in rows}
    before = [row for row in recorded if not parts or (row["package"], row["name"]) in names]
    changed = [
        f"{new['package']}, {new['name']}, {key}: {compared(old).get(key)!r} is recorded, found {value!r}"
        for old, new in zip(before, rows, strict=True)
        for key, value in compared(new).items()
        if compared(old).get(key) != value
    ]
    if changed:
        sys.exit("\n".join(["Findings changed:", *changed]))


if __name__ == "__main__":
    main(*sys.argv[1:])
