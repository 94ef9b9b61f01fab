"""The public surface and the house rules that a parser can check."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rope_xp

PACKAGE = Path(rope_xp.__file__).parent
ROOMS = sorted(m.name for m in pkgutil.iter_modules([str(PACKAGE)]))

# Data flows down this list and so do imports.
ORDER = [
    "_compiled",
    "_backend",
    "_ways",
    "_checks",
    "grids",
    "vision_text",
    "positions",
    "scaling",
    "axes",
    "phases",
    "_evaluation",
    "rotation",
    "_alignment",
    "rope",
    "additive",
    "relative",
    "attention",
    "layouts",
    "analysis",
    "_config_reading",
    "_families",
    "_sizes",
    "_axes_reading",
    "_layers",
    "configs",
    "__main__",
]

HANDED_ON = {("positions", "grids"), ("positions", "vision_text")}

SIGNATURES = {
    "RoPE": "(head_dim, *, layout, base=10000.0, rotary_dim=None, rotary_start=0, scaling=None, "
    "axes=None, precision='exact')",
    "RoPE.__call__": "(self, q, k=None, *, positions=None, offset=0, seq_len=None, seq_axis=-2)",
    "RoPE.inverse": "(self, q, k=None, *, positions=None, offset=0, seq_len=None, seq_axis=-2)",
    "RoPE.shift": "(self, k, delta, *, seq_len=None, seq_axis=-2)",
    "RoPE.cos_sin": "(self, positions, *, seq_len=None, dtype=None)",
    "RoPE.rotate": "(self, x, cos, sin, *, seq_axis=-2, inverse=False, out=None)",
    "RoPE.frequencies": "(self, seq_len=None)",
    "RoPE.from_config": "(config, *, layer_type=None, layout=None, precision='exact')",
    "configs.layer_ropes": "(config, *, layout=None, precision='exact')",
    "configs.explain": "(config, seq_len=None, *, layout=None)",
    "cos_sin": "(positions, inv_freq, *, dtype=None, precision='exact', attention_factor=1.0)",
    "rotate": "(x, cos, sin, *, layout, seq_axis=-2, rotary_start=0, inverse=False, blocks=None, "
    "out=None)",
    "xpos_scale": "(positions, n_pairs, *, scale_base=512.0, centre=0, dtype=None)",
    "axes.Axial": "(widths, arrangement='blocks', frequencies='own', axis_order=None, split=False, "
    "scale=1.0, bases=None)",
    "axes.Assigned": "(pairs)",
    "axes.Sections": "(sections)",
    "axes.InterleavedSections": "(sections)",
    "axes.Directions": "(matrix)",
    "axes.golden_directions": "(n_axes, n_pairs, *, slowest, fastest, still=0.0, first=0)",
    "sinusoidal": "(positions, dim, *, base=10000.0, order='interleaved', shift=0.0, axes=None, "
    "dtype=None)",
    "convert_layout": "(x, *, source, target, head_dim, rotary_dim=None, rotary_start=0, axis=-1)",
    "positions.token_positions": "(n, *, offset=0, xp=None, dtype=None, device=None)",
    "positions.packed_positions": "(cu_seqlens, total)",
    "positions.mask_positions": "(mask)",
    "positions.zigzag_positions": "(seq_len, rank, world_size, *, xp=None, dtype=None, device=None)",
    "positions.grid_positions": "(*shape, indexing='ij', offset=0, merge=1, xp=None, dtype=None, "
    "device=None)",
    "positions.centred_axis": "(n, *, symmetric=False)",
    "positions.normalised_axis": "(n, *, length=None)",
    "positions.rescaled_axis": "(n, reference, *, offset=0, floor=False)",
    "positions.time_axis": "(n, step, *, truncate=False)",
    "positions.text_image_positions": "(parts, *, merge=1, advance='side', offset=0, "
    "padding=(0, 0), xp=None, dtype=None, device=None)",
    "positions.text_image_parts": "(token_types, *, images=(), videos=(), merge=1, "
    "frames_apart=False)",
    "positions.mask_grid_positions": "(mask, *, n_axes=2, scale=None, dtype=None)",
    "analysis.wavelengths": "(inv_freq)",
    "analysis.turns": "(inv_freq, length)",
    "analysis.decay_bound": "(distance, inv_freq, *, dtype=None)",
    "analysis.abel_bound": "(q, k, distance, inv_freq, layout, *, dtype=None)",
    "analysis.score_curve": "(q, k, distance, inv_freq, layout, *, dtype=None)",
    "analysis.advantage": "(distance, inv_freq, *, dtype=None)",
    "analysis.context_bound": "(inv_freq, *, limit=1048576)",
    "relative.relative_positions": "(q_positions, k_positions)",
    "relative.alibi_slopes": "(n_heads, *, xp=None, dtype=None, device=None)",
    "relative.alibi_bias": "(q_positions, k_positions, n_heads, *, form='distance', dtype=None)",
    "relative.clipped_index": "(q_positions, k_positions, max_distance)",
    "relative.shaw_score": "(q, k, key_table, index)",
    "relative.t5_bucket": "(relative_position, *, bidirectional=True, num_buckets=32, "
    "max_distance=128)",
    "relative.transformer_xl_score": "(q, k, r, u, v)",
    "attention.attention": "(q, k, v, *, causal=False, bias=None, scale=None)",
    "attention.linear_attention": "(q, k, v, *, rope=None, causal=False, q_positions=None, "
    "k_positions=None, seq_len=None, feature_map=None)",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_fixed(name):
    found = rope_xp
    for part in name.split("."):
        found = getattr(found, part)
    bare = inspect.Signature(
        [
            p.replace(annotation=inspect.Parameter.empty)
            for p in inspect.signature(found).parameters.values()
        ]
    )
    assert str(bare) == SIGNATURES[name]


@pytest.mark.parametrize("room", [r for r in ROOMS if not r.startswith("_")])
def test_all_is_what_a_room_defines(room):
    module = importlib.import_module(f"rope_xp.{room}")
    for name in module.__all__:
        home = getattr(module, name).__module__.removeprefix("rope_xp.")
        # `positions` hands on what two rooms before it make.
        assert home == room or (room, home) in HANDED_ON
        assert getattr(module, name).__doc__
    assert module.__doc__


def test_no_module_bears_the_name_of_an_exported_function():
    for name in rope_xp.__all__:
        if name in ROOMS:
            assert inspect.ismodule(getattr(rope_xp, name))


def test_the_list_of_rooms_is_whole():
    assert sorted(ORDER) == ROOMS
    for room in ORDER[:-1]:
        assert f"`{room}`" in rope_xp.__doc__, f"{room} is missing from the map"


def imports(path):
    """Modules that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("room", ORDER[:-1])
def test_imports_go_one_way(room):
    later = ORDER[ORDER.index(room) :]
    # The classmethod from_config imports the room that is built on its own, when it is called.
    later = [r for r in later if (room, r) != ("rope", "configs")]
    upward = {i for i in imports(PACKAGE / f"{room}.py") for r in later if i == f"rope_xp.{r}"}
    assert not upward


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.name)
def test_array_libraries_are_named_in_one_room(path):
    known = {"torch", "jax", "cupy", "dask", "array_api_compat", "numba", "mlx", "tensorflow"}
    named = {i.partition(".")[0] for i in imports(path)} & known
    allowed = {"_backend.py": known, "_ways.py": known, "_compiled.py": {"numba"}}
    assert named <= allowed.get(path.name, set())


def test_the_formula_stands_once():
    text = "".join(p.read_text() for p in sorted(PACKAGE.glob("*.py")))
    assert len(re.findall(r"\w+ \* \w*cos\w* - \w+ \* \w*sin", text)) == 1


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.name)
def test_rooms_are_small_and_never_assert(path):
    text = path.read_text()
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 440  # docstrings included
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def test_importing_loads_no_array_library_but_numpy():
    done = run(
        "import sys, rope_xp; bad = {'torch', 'jax', 'cupy', 'dask', 'array_api_strict', "
        "'array_api_compat.torch'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_importing_costs_little_more_than_numpy():
    """By what is loaded beyond NumPy and a few small modules: time would tell the same, but not every time."""
    done = run(
        "import __future__, array_api_compat, dataclasses, itertools, numbers, numpy, sys; "
        "before = {*sys.modules}; import rope_xp; print(*sorted({*sys.modules} - before))"
    )
    assert done.returncode == 0, done.stderr
    later = {"configs", "_layers", "_axes_reading", "_sizes", "_families", "_config_reading"}
    at_once = {"rope_xp", *(f"rope_xp.{room}" for room in ORDER[:-1] if room not in later)}
    assert set(done.stdout.split()) == at_once


@pytest.mark.parametrize(
    "code",
    [
        "from rope_xp import configs",
        "import rope_xp.configs; configs = rope_xp.configs",
        "from rope_xp import *",
        "import rope_xp; configs = rope_xp.configs",
        "import rope_xp; rope_xp.RoPE.from_config({'model_type': 'qwen3'}); configs = rope_xp.configs",
    ],
)
def test_configs_are_there_on_first_use(code):
    done = run(f"{code}; import rope_xp; assert configs.explain and rope_xp.configs is configs")
    assert done.returncode == 0, done.stderr


def test_dir_names_what_is_public():
    done = run("import rope_xp; assert {*rope_xp.__all__, '__version__'} <= {*dir(rope_xp)}")
    assert done.returncode == 0, done.stderr
    assert not hasattr(rope_xp, "freqs")


def test_using_numpy_loads_no_other_library():
    done = run(
        "import sys, numpy as np, rope_xp; rope_xp.RoPE(8, layout='half')(np.ones((3, 8))); "
        "bad = {'torch', 'jax', 'cupy', 'dask'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_command_line():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "rope_xp"], capture_output=True, text=True, check=True
    )
    for name in rope_xp.__all__:
        assert re.search(rf"^  {name} +\w", done.stdout, re.MULTILINE)
    assert (
        rope_xp.__version__
        in subprocess.run(
            [sys.executable, "-m", "rope_xp", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_typed():
    assert (PACKAGE / "py.typed").exists()
