"""Small sabotages of the library, each of which the tests must catch: ``python tests/tools/mutants.py``.

Every mutant is one replacement in a copy of the package. Survivors are printed and fail the run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rope_xp

ROOT = Path(__file__).parents[2]
FILES = [
    "scaling",
    "rotation",
    "evaluation",
    "rope",
    "phases",
    "axes",
    "positions",
    "grids",
    "vision_text",
    "additive",
    "relative",
    "attention",
    "layouts",
    "analysis",
    "configs",
    "messages",
    "laws",
]

MUTANTS = [
    ("rotation.py", "a * cos - b * sin", "a * cos + b * sin"),
    ("rotation.py", "a * sin + b * cos", "b * sin + a * cos"),
    ("_evaluation.py", "        sin = -sin\n", "        sin = +sin\n"),
    ("_evaluation.py", "-s if task.inverse else s", "s"),
    ("_evaluation.py", "xp.negative(held_s, out=held_s)", "pass"),
    ("_evaluation.py", "if at_table != known:\n                known = at_table\n                held_c", "if known is None:\n                known = at_table\n                held_c"),
    ("_evaluation.py", "self.free.append(other.array)", "self.free.append(self.array)"),
    ("_evaluation.py", "(slice(0, task.start), slice(task.end, None))", "(slice(0, task.start),)"),
    ("_evaluation.py", "not dispatch.can_write_over(out, x, cos, sin)", "False"),
    ("_evaluation.py", "if a.shape[axis] > 1 else a for a", "if a is arrays[0] else a for a"),
    ("dispatch.py", "min(most, share_of_x)", "most * 64"),
    ("dispatch.py", "(cos, sin) if itself else (x, cos, sin)", "(cos, sin)"),
    ("dispatch.py", "asked is None and not fast", "False"),
    ("rotation.py", "2: [seq_axis], 3: [0, seq_axis]", "2: [ndim - 2], 3: [0, ndim - 2]"),
    ("rotation.py", "3: [0, seq_axis]", "3: [seq_axis - 1, seq_axis]"),
    ("rotation.py", 'if "float64" in names else xp.float32', "if False else xp.float32"),
    ("rotation.py", "dtypes[0] if same else compute", "dtypes[0]"),
    ("rotation.py", "size not in (1, wanted)", "size > wanted"),
    ("rotation.py", "is type(rotary_start) is int and type(inverse)", "is type(rotary_start) and type(inverse)"),
    ("rotation.py", "slice(start + 1, end, 2)", "slice(start, end, 2)"),
    ("phases.py", "steps=steps)", "steps=1)"),
    ("phases.py", "((position >> 15) & 1)", "0"),
    ("phases.py", "rest *= _UNIT\n", "rest *= 0\n"),
    ("phases.py", "rest += coarse * _UNIT_LOW", "pass"),
    ("phases.py", "rest += xp.astype(turn, dtype)", "rest = xp.astype(turn, dtype)"),
    ("phases.py", "terms = 9 if", "terms = 4 if"),
    ("phases.py", "else 5\n", "else 3\n"),
    ("phases.py", "quarter *= sign", "pass"),
    ("phases.py", "cos * attention_factor, sin * attention_factor", "cos * attention_factor, sin"),
    ("phases.py", 'exact = precision == "exact" and', "exact ="),
    ("phases.py", 'wide = precision == "exact" and "float64" in', 'wide = "float64" in'),
    ("phases.py", "rest += finer", "pass"),
    ("phases.py", "slice(start, start + at_once)", "slice(start, start + at_once - 1)"),
    ("phases.py", "if not 0 < at_once", "if True or not 0 < at_once"),
    ("phases.py", "angles + product", "product"),
    ("phases.py", "total = total + term\n    return", "total = term\n    return"),
    ("phases.py", "(*range(1, positions.ndim), 0))", "tuple(range(positions.ndim))[::-1])"),
    ("phases.py", "i / n_pairs + 0.4", "2 * i / n_pairs + 0.4"),
    ("phases.py", "positions, xp.int32, xp) - centre", "positions, xp.int32, xp)"),
    ("rotation.py", "start + width, column + n", "start + width, column"),
    ("rotation.py", "start, column = start + width,", "start, column = start,"),
    ("axes.py", "range(place, rotary_dim // 2, n)", "range(a, rotary_dim // 2, n)"),
    ("axes.py", "[(a, w, j) for j", "[(a, rotary_dim, j) for j"),
    ("axes.py", "order, tuple(widths[a] for a in order)", "order, widths"),
    ("axes.py", "[i] * self.scale", "[i]"),
    ("axes.py", "*bases[a])[i]", "*bases[-1])[i]"),
    ("axes.py", "i < self.n_axes * self.sections[a]", "i < self.n_axes * self.sections[0]"),
    ("axes.py", "i % self.n_axes for i", "(i + 1) % self.n_axes for i"),
    ("axes.py", "if k < n_still else", "if k < 0 else"),
    ("axes.py", "(first + k + 1) *", "(k + 1) *"),
    ("axes.py", "range(10)", "range(60)"),
    ("axes.py", "if self.split else (rotary_dim,)", "if not self.split else (rotary_dim,)"),
    ("scaling.py", "2 * i / rotary_dim", "i / rotary_dim"),
    ("scaling.py", "r(base) ** r(e)", "r(base) ** e"),
    ("scaling.py", "keep = r(1 - along)", "keep = r(along)"),
    ("scaling.py", "min(last, rotary_dim - 1)", "min(last, rotary_dim // 4)"),
    ("scaling.py", "math.floor(first), math.ceil(last)", "math.ceil(first), math.floor(last)"),
    ("scaling.py", "self._gain(self.mscale_all_dim) ** 2", "self._gain(self.mscale_all_dim)"),
    ("scaling.py", "self._gain(self.mscale) / self._gain(self.mscale_all_dim)", "self._gain(self.mscale)"),
    ("scaling.py", "seq_len > self.original_max", "seq_len >= self.original_max"),
    ("scaling.py", "seq_len > self.max_position", "seq_len > 1.5 * self.max_position"),
    ("scaling.py", "if wavelength < r(length / high)", "if wavelength < r(length / low)"),
    ("scaling.py", "self.partial_rotary_factor * rotary_dim // 2", "self.partial_rotary_factor * rotary_dim"),
    ("scaling.py", "return rotary_dim / (rotary_dim - 2)", "return 1.0"),
    ("rope.py", "1 / factor if inverse else factor", "factor"),
    ("rope.py", "inv_freq, 1.0, table_dtype", "inv_freq, self._schedule(seq_len).attention_factor, table_dtype"),
    ("rope.py", "delta = delta[..., None]", "delta = delta[None, ...]"),
    ("rope.py", "return self._scheduled(seq_len)", "return self._scheduled(None)"),
    ("_alignment.py", 'xp.float64 if "float64" in names else', "xp.float32 if names else"),
    ("rope.py", "rotary_start=self.rotary_start,\n", ""),
    ("positions.py", 'side="right"', 'side="left"'),
    ("positions.py", "xp.where(seen[0] > 0, seen[0] - 1, seen[0])", "seen[0]"),
    ("positions.py", "_backends.cast(offset[..., None], steps.dtype, found)", "offset[..., None]"),
    ("_checks.py", "first + n > POSITION_RANGE[1]", "first > POSITION_RANGE[1]"),
    ("positions.py", "(2 * world_size - 1 - rank) * n", "(world_size + rank) * n"),
    ("grids.py", "indexing=indexing)", "indexing='ij')"),
    ("grids.py", "n, n + 2, n + 1, n + 3", "n, n + 1, n + 2, n + 3"),
    ("grids.py", "range(n // 2 - n, n // 2)", "range(-(n // 2), n - n // 2)"),
    ("grids.py", "(2 * k + 1) / length - 1", "2 * k / length - 1"),
    ("grids.py", "int(to_float32(k * step))", "int(k * step)"),
    ("grids.py", "        step = to_float32(step)", "        step = float(step)"),
    ("grids.py", "require_position_range(name, last)", "pass"),
    ("grids.py", "float(value + step) for value", "float(value) for value"),
    ("vision_text.py", "max(max(times) + 1, h, w)", "max(len(times), h, w)"),
    ("vision_text.py", "if advance == \"max\" else", "if advance else"),
    ("vision_text.py", "        after = max(after, end)", "        after = end"),
    ("vision_text.py", "return times, h // merge, w // merge", "return times, w // merge, h // merge"),
    ("vision_text.py", "] * len(times)", "]"),
    ("additive.py", "(n_pairs - shift).__float__()", "n_pairs"),
    ("additive.py", 'if order == "cos_sin"', "if False"),
    ("additive.py", "start += width // 2", "start += 0"),
    ("additive.py", "else axes.blocks(dim), 0", "else (dim,), 0"),
    ("additive.py", "n_pairs, b = width // 2", "n_pairs, b = dim // 2"),
    ("positions.py", "slice(-1, None), *(slice(None),) * after", "slice(-1, None)"),
    ("positions.py", "(last + 1e-6)", "last"),
    ("positions.py", "for axis in range(-n_axes, 0)]", "for axis in range(-1, -n_axes - 1, -1)]"),
    ("relative.py", "(2 * k + 1) / (2 * lower)", "(2 * k + 2) / (2 * lower)"),
    ("relative.py", "-xp.abs(steps)", "steps"),
    ("relative.py", "in both.values())\n    return key", "in both.values())\n    key, query = both.values()\n    return key"),
    ("relative.py", "[1 - distance for", "[-distance for"),
    ("relative.py", "    r = to_float32\n", "    r = float\n"),
    ("relative.py", "flat[..., q_len - 1 : q_len * width - 1]", "flat[..., q_len : q_len * width]"),
    ("relative.py", "(q + v[:, None, :])", "(q + u[:, None, :])"),
    ("attention.py", "+ (k_len - q_len)", ""),
    ("attention.py", "q.shape[-1] ** -0.5", "v.shape[-1] ** -0.5"),
    ("attention.py", "total == 0", "total < 0"),
    ("attention.py", "<= q_positions", "< q_positions"),
    ("attention.py", "rope.shift(self.k[..., keep + n :, :], -n", "rope.shift(self.k[..., keep + n :, :], n"),
    ("attention.py", "- self.length\n        new", "\n        new"),
    ("attention.py", "steps <= steps[:, None]", "steps < steps[:, None]"),
    ("attention.py", "states[..., :-1, :, :])", "states[..., 1:, :, :])"),
    ("attention.py", "start[..., None, :, :], states", "0 * start[..., None, :, :], states"),
    ("attention.py", "attention_factor ** 2", "attention_factor"),
    ("attention.py", "q = rope(q, offset=k_len - q_len, ", "q = rope(q, "),
    ("attention.py", "xp.where(empty, xp.zeros_like(mixed), mixed)", "mixed"),
    ("attention.py", "_CHUNK = 64", "_CHUNK = 2**20"),
    ("layouts.py", "pair_slices(source", "pair_slices(target"),
    ("analysis.py", "turn(a, b, c, -d)", "turn(a, b, c, d)"),
    ("analysis.py", "xp.concat((part[..., 1:], xp.zeros_like(part[..., :1])), axis=-1) - part", "part[..., 1:] - part[..., :-1]"),
    ("analysis.py", "xp.mean(sums, axis=-1)", "xp.mean(sums[..., :-1], axis=-1)"),
    ("analysis.py", "block < -slack", "block < 0"),
    ("analysis.py", "found if found < limit", "found if found <= limit"),
    ("analysis.py", "np.concatenate((cos, -sin)", "np.concatenate((cos, sin)"),
    ("analysis.py", "length * np.abs(", "length * ("),
    ("_backends.py", 'xp.float64 if "float64" in kinds', "xp.float32 if kinds"),
    ("_layers.py", "layout or family[", "family["),
    ("families.py", "{**{k: v for k, v in group.items()", "{**{k: v for k, v in {}.items()"),
    ("_layers.py", 'case "no_rope_layers":', 'case "no_rope":'),
    ("_layers.py", "(i + 1) % every)", "i % every)"),
    ("_layers.py", "label == \"sliding_attention\"\n            case \"sliding only, if", "True\n            case \"sliding only, if"),
    ("_sizes.py", "int(head_dim * factor)", "round(head_dim * factor / 4) * 2"),
    ("_layers.py", 'head_dim - rotary_dim if family.get("tail") else 0', "0"),
    ("_layers.py", "made = made if scaled else None", "pass"),
    ("_layers.py", "if stray is not None and ropes and stray not in", "if False and stray not in"),
    ("_layers.py", "made = Negated(made)", "pass"),
    ("_layers.py", "{\"mscale_softmax\": False}", "{}"),
    ("_layers.py", "cycle = cycle if family[\"layer_cycle\"][0] == rare else cycle[::-1]", "pass"),
    ("families.py", "if inner or key not in FIELDS:", "if key not in FIELDS:"),
    ("axes_reader.py", "if len(told) != n_axes:", "if False:"),
    ("axes_reader.py", "i < len(default) * default[a]", "True"),
    ("axes_reader.py", "pairs += list(run) * sizes[0]", "pairs += sorted(list(run) * sizes[0])"),
    ("axes_reader.py", "default=interleaved) != interleaved", "default=interleaved) is None"),
    ("_sizes.py", "head_dim % (2 * int(family", "head_dim % (int(family"),
    ("_sizes.py", "heads *= reading", "heads * reading"),
    ("families.py", 'inner or family.get("part", False)', "inner"),
    ("families.py", '"patch_size" in config and', "False and"),
    ("configs.py", "if owner == axis]", "if owner != axis]"),
    ("_config_reading.py", "if len(set(map(repr, told.values()))) > 1:", "if False:"),
    ("_config_reading.py", "if len(set(told.values())) > 1:", "if False:"),
    ("_config_reading.py", "if key not in required | optional | ANYWHERE | set(extra):", "if False:"),
    ("_config_reading.py", "not 0 < value < 2.0**1023", "False"),
    ("_config_reading.py", "length is not None and len(value) != length", "False"),
    ("configs.py", "inv_freq, length) >= 1", "inv_freq, length) >= 0.5"),
    ("configs.py", "abs(s - 1) < 1e-9", "s < 0"),
]  # fmt: skip


def survives(mutant):
    with tempfile.TemporaryDirectory() as folder:
        return survives_in(folder, *mutant)


def survives_in(folder, file, old, new):
    package = Path(folder) / "rope_xp"
    shutil.copytree(Path(rope_xp.__file__).parent, package)
    # Bytecode of a file of the same size, written in the same second, would pass for new.
    for stale in (package / "__pycache__").glob(f"{Path(file).stem}.*.pyc"):
        stale.unlink()
    text = (package / file).read_text()
    if text.count(old) != 1:
        msg = f"{file} has {text.count(old)} of {old!r}; a mutant must name one place"
        raise SystemExit(msg)
    (package / file).write_text(text.replace(old, new))
    stem = {"dispatch.py": "evaluation"}.get(file, Path(file).stem.removeprefix("_"))
    own = stem if stem in FILES else "configs"
    rest = [name for name in FILES if name != own]
    return passes(folder, [own]) and passes(folder, rest)  # its own tests are likeliest to notice


def passes(folder, names):
    # -P: not the package in the current folder, but the copy that PYTHONPATH names.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-x", "-q", *(f"tests/test_{n}.py" for n in names)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), "ROPE_XP_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def main():
    alive = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process of its own
        for (file, old, new), lives in zip(MUTANTS, pool.map(survives, MUTANTS), strict=True):
            alive += lives
            verdict = "SURVIVED" if lives else "caught  "
            print(f"{verdict} {file}: {old.strip()!r} -> {new.strip()!r}", flush=True)
    print(f"{len(MUTANTS) - alive} of {len(MUTANTS)} mutants caught")
    sys.exit(alive > 0)


if __name__ == "__main__":
    main()
