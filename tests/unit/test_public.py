"""The public surface: names, signatures, what importing costs."""

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
MODULES = sorted(m.name for m in pkgutil.iter_modules([str(PACKAGE)]))

SIGNATURES = {
    "RoPE": "(head_dim, *, layout, base=10000.0, rotary_dim=None, rotary_start=0, scaling=None, "
    "axes=None, precision='exact', query_scale=None, ranges=None)",
    "RoPE.__call__": "(self, q, k=None, *, positions=None, offset=0, seq_len=None, seq_axis=-2)",
    "RoPE.inverse": "(self, q, k=None, *, positions=None, offset=0, seq_len=None, seq_axis=-2)",
    "RoPE.shift": "(self, k, delta, *, seq_len=None, seq_axis=-2)",
    "RoPE.cos_sin": "(self, positions, *, seq_len=None, dtype=None)",
    "RoPE.rotate": "(self, x, cos, sin, *, seq_axis=-2, inverse=False, out=None)",
    "RoPE.frequencies": "(self, seq_len=None)",
    "RoPE.from_config": "(config, *, layer_type=None, layout=None, part='text', precision='exact')",
    "configs.layer_ropes": "(config, *, layout=None, part='text', precision='exact')",
    "configs.explain": "(config_or_ropes, seq_len=None, *, layout=None, part='text')",
    "configs.explain_difference": "(a, b, seq_len=None, *, layout=None, part='text')",
    "configs.to_config": "(ropes, *, form='transformers', model_type=None, architecture=None, "
    "layer_types=None, sliding_window=None)",
    "cos_sin": "(positions, inv_freq, *, dtype=None, precision='exact', attention_factor=1.0)",
    "rotate": "(x, cos, sin, *, layout, seq_axis=-2, rotary_start=0, inverse=False, blocks=None, "
    "out=None)",
    "xpos_scale": "(positions, n_pairs, *, scale_base=512.0, center=0, dtype=None)",
    "axes.Axial": "(widths, arrangement='blocks', frequencies='own', axis_order=None, split=False, "
    "scale=1.0, bases=None)",
    "axes.AxisPerPair": "(pairs)",
    "axes.Sections": "(sections)",
    "axes.InterleavedSections": "(sections)",
    "axes.Directions": "(matrix)",
    "axes.golden_directions": "(n_axes, n_pairs, *, slowest, fastest, still=0.0, first=0)",
    "sinusoidal": "(positions, dim, *, base=10000.0, order='interleaved', shift=0.0, axes=None, "
    "dtype=None)",
    "convert_layout": "(x, *, source, target, head_dim, rotary_dim=None, rotary_start=0, axis=-1)",
    "layouts.guess_layout": "(q_weight, k_weight, head_dim, *, significance=0.001)",
    "positions.token_positions": "(n, *, offset=0, xp=None, dtype=None, device=None)",
    "positions.packed_documents": "(cu_seqlens, total)",
    "positions.packed_positions": "(cu_seqlens, total)",
    "positions.mask_positions": "(mask)",
    "positions.tree_positions": "(parents, *, offset=0)",
    "positions.shard_indices": "(seq_len, rank, world_size, *, order='zigzag', cu_seqlens=None, "
    "xp=None, dtype=None, device=None)",
    "positions.Tokens": "(positions, order=None, documents=None, images=None, walk=None, "
    "next_position=None)",
    "positions.Tokens.sequence": "(n, *, offset=0, xp=None, dtype=None, device=None)",
    "positions.Tokens.packed": "(cu_seqlens, total)",
    "positions.Tokens.padded": "(mask)",
    "positions.Tokens.text_image": "(parts, *, earlier=0, bidirectional=False, merge=1, advance='side', "
    "chunk=None, offset=0, padding=(0, 0), xp=None, dtype=None, device=None)",
    "positions.Tokens.tree": "(parents, *, offset=0)",
    "positions.Tokens.take": "(self, indices)",
    "positions.Tokens.join": "(self, other)",
    "positions.Tokens.following": "(self, n=1)",
    "positions.zigzag_positions": "(seq_len, rank, world_size, *, xp=None, dtype=None, device=None)",
    "positions.grid_positions": "(*shape, indexing='ij', offset=0, merge=1, xp=None, dtype=None, "
    "device=None)",
    "positions.centered_axis": "(n, *, symmetric=False)",
    "positions.normalized_axis": "(n, *, length=None)",
    "positions.rescaled_axis": "(n, reference, *, offset=0, floor=False)",
    "positions.time_axis": "(n, step, *, rate=None, truncate=False)",
    "positions.text_image_positions": "(parts, *, merge=1, advance='side', chunk=None, offset=0, "
    "padding=(0, 0), xp=None, dtype=None, device=None)",
    "positions.text_image_parts": "(token_types, *, images=(), videos=(), merge=1, "
    "frames_apart=False)",
    "positions.text_image_types": "(parts, *, merge=1, advance='side', chunk=None, offset=0, "
    "padding=(0, 0), xp=None, dtype=None, device=None)",
    "positions.mask_grid_positions": "(mask, *, n_axes=2, scale=None, dtype=None)",
    "analysis.wavelengths": "(inv_freq)",
    "analysis.turns": "(inv_freq, length)",
    "analysis.decay_bound": "(distance, inv_freq, *, dtype=None)",
    "analysis.abel_bound": "(q, k, distance, inv_freq, layout, *, dtype=None)",
    "analysis.score_curve": "(q, k, distance, inv_freq, layout, *, dtype=None)",
    "analysis.advantage": "(distance, inv_freq, *, dtype=None)",
    "analysis.context_bound": "(inv_freq, *, limit=1048576)",
    "relative.relative_positions": "(q_positions, k_positions)",
    "relative.alibi_slopes": "(n_heads, *, bias_max=8.0, heads=None, xp=None, dtype=None, "
    "device=None)",
    "relative.alibi_bias": "(q_positions, k_positions, n_heads, *, slopes=None, bias_max=8.0, "
    "heads=None, form='distance', dtype=None)",
    "relative.clipped_index": "(q_positions, k_positions, max_distance)",
    "relative.shaw_score": "(q, k, key_table, index)",
    "relative.t5_bucket": "(relative_position, *, bidirectional=True, num_buckets=32, "
    "max_distance=128)",
    "relative.transformer_xl_score": "(q, k, r, u, v)",
    "attention.attention": "(q, k, v, *, causal=False, bias=None, scale=None, query_scale=None, "
    "ranges=())",
    "attention.rotate_ranges": "(rope, q, k, ranges, *, seq_len=None)",
    "positions.SelfExtend": "(group_size, window)",
    "positions.ReRoPE": "(window, factor=None)",
    "positions.DualChunk": "(chunk_size, local_size, original_max_position_embeddings=None)",
    "positions.DualChunk.softmax_factor": "(self, seq_len)",
    "positions.DualChunk.__call__": "(self, q_positions, k_positions)",
    "attention.causal_mask": "(q_positions, k_positions, *, q_documents=None, k_documents=None, "
    "window=None, sinks=0)",
    "attention.attention_mask": "(q_tokens, k_tokens=None, *, causal=True, window=None, sinks=0)",
    "attention.flex_mask_mod": "(q_tokens, k_tokens=None, *, causal=True, window=None, sinks=0)",
    "attention.tree_mask": "(parents)",
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


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("_")])
def test_all_names_have_one_public_path(module):
    """What a package exports says that it comes from there, not from the file that implements it."""
    found = importlib.import_module(f"rope_xp.{module}")
    for name in found.__all__:
        value = getattr(found, name)
        home = value.__module__.removeprefix("rope_xp.").split(".")
        assert home[0] == module
        assert all(part.startswith("_") for part in home[1:])
        assert value.__doc__
    assert found.__doc__


def test_no_module_bears_the_name_of_an_exported_function():
    for name in rope_xp.__all__:
        if name in MODULES:
            assert inspect.ismodule(getattr(rope_xp, name))


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
    found = {name.removeprefix("rope_xp.") for name in done.stdout.split()}
    assert found >= {"rope", "_backends"}
    late = ("attention", "configs", "_config_reader", "interop")
    assert not {name for name in found if name.startswith(late)}
    assert {name.partition(".")[0] for name in found} <= {"rope_xp", *MODULES}


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
@pytest.mark.parametrize("module", ["attention", "configs"])
def test_a_package_is_there_on_first_use(code, module):
    code = code.replace("configs", module)
    done = run(f"{code}; import rope_xp; assert {module}.__all__ and rope_xp.{module} is {module}")
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
