"""What transformers itself does with q and k of vision towers, for ``parity.py`` to compare with.

::

    for name, config in configs("pixtral"):                 # the default, another base, other heads
        for grid in grids(2):                               # (rows, columns), or (frames, rows, columns)
            q, k = queries_and_keys(head_dim, grid)         # NumPy, (batch, heads, seq, head_dim)
            theirs = load("pixtral")(config, grid, q, k)    # cos, sin (seq, n_pairs); q, k
            at = positions("pixtral", grid)                 # (n_axes, seq), made by hand

As ``families_harness.py``, it knows the plumbing of a family and never its mathematics: tables and
rotation are those of transformers' own modules. Its tables are repeated; ``narrow`` keeps one of each.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_xp._config_reader.table import known_family

PREFIX = 5  # class and register tokens before the patches, where a family has them
MEMORY = ("edgetam_video", "sam2_video", "sam3_tracker_video")
NORMALISED = ("dinov3_vit", "eomt_dinov3", "sapiens2")
# Their columns come first, and their rotary class is given the positions so: Sam3ViTLayer and the
# memory attentions stack (wpos_ids, hpos_ids), MuseSparkVisionModel and MuseGlimmerVisionModel flip them,
# and Gemma 4's image processor makes (x, y).
COLUMNS_FIRST = (
    *MEMORY,
    "gemma4_vision",
    "muse_glimmer_vision",
    "muse_spark_vision",
    "sam3_vit_model",
)
PAIRWISE = (*MEMORY, "inkling2_vision", "llama4_vision_model", "sam3_vit_model")


class Theirs(NamedTuple):
    cos: np.ndarray
    sin: np.ndarray
    q: np.ndarray
    k: np.ndarray


def configs(model_type):
    """(name, config): the default, another base, and heads of other widths."""
    made = CONFIG_MAPPING[model_type]
    yield "default config", made()
    rope = getattr(made(), "rope_parameters", None)
    based = {"rope_parameters": {**rope, "rope_theta": 543.0}} if rope else {"rope_theta": 543.0}
    yield "another base", made(**based)
    for head_dim in (12, 64, 104):
        yield f"heads of {head_dim}", made(**_sizes(model_type, head_dim))


def _sizes(model_type, head_dim):
    if model_type in MEMORY:
        return {
            "memory_attention_hidden_size": 6 * head_dim,
            "memory_attention_num_attention_heads": 3,
            "memory_attention_downsample_rate": 2,
        }
    fields = CONFIG_MAPPING[model_type]().to_dict()
    hidden = "embed_dim" if "embed_dim" in fields else "hidden_size"
    heads = "num_heads" if "num_heads" in fields else "num_attention_heads"
    own = {
        "gemma4_vision": {"head_dim": head_dim},
        "dots3_note_vision_encoder": {"adapter_in_dim": 3 * head_dim},
    }.get(model_type, {})
    return {hidden: 3 * head_dim, heads: 3, **own}


def grids(n_axes):
    """Sizes of images in patches, odd and not square, and of videos."""
    flat = [(1, 1), (3, 5), (7, 4), (9, 9), (1, 37), (23, 14)]
    return [(frames, *grid) for frames, grid in enumerate(flat, 1)] if n_axes == 3 else flat


def queries_and_keys(head_dim, grid):
    generator = np.random.default_rng(list(grid))
    shape = (2, 2, int(np.prod(grid)), head_dim)
    return [generator.standard_normal(shape, dtype=np.float32) for _ in range(2)]


def positions(model_type, grid):
    """Where the patches are, row by row, (n_axes, seq)."""
    at = np.indices(grid).reshape(len(grid), -1)
    if model_type in ("inkling2_vision", "llama4_vision_model"):
        return at + 1
    if model_type in NORMALISED:
        return (2 * (at.T + 0.5) / np.array(grid) - 1).T
    return at


def deviation(cos, sin, their_cos, their_sin):
    """The largest angle between two tables, in radians."""
    ours, theirs = cos + 1j * sin.astype(np.float64), their_cos + 1j * their_sin.astype(np.float64)
    return float(np.max(np.abs(np.angle(ours * theirs.conj()))))


@functools.cache
def _source(model_type):
    """The modeling file of the family, imported, and its rotary class: the one at ``source``."""
    file, line = known_family(model_type).source.rsplit(":", 1)
    module = importlib.import_module("transformers.models." + file[:-3].replace("/", "."))
    lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
    return module, getattr(module, re.match(r"class (\w+)", lines[int(line) - 1])[1])


def load(model_type):
    """The function that turns q and k as the family does."""
    run = {
        "pixtral": _pixtral,
        "gemma4_vision": _gemma4,
        "llama4_vision_model": _llama4,
        "sam3_vit_model": _pairwise,
        **dict.fromkeys(NORMALISED, _normalised),
        **dict.fromkeys(MEMORY, _pairwise),
    }.get(model_type, _vision)

    def call(config, grid, q, k):
        with torch.no_grad():
            module, rotary = _source(model_type)
            at = torch.from_numpy(positions(model_type, grid)).T  # (seq, n_axes)
            at = at.flip(-1) if model_type in COLUMNS_FIRST else at
            found = run(module, rotary, config, grid, at, torch.tensor(q), torch.tensor(k))
            cos, sin, q, k = (x.numpy() for x in found)
        cos, sin = (narrow(model_type, x.reshape(-1, x.shape[-1])) for x in (cos, sin))
        return Theirs(cos, sin, q, k)

    return call


def narrow(model_type, repeated):
    """One entry for each pair of a table that is repeated to the width of the head."""
    if model_type == "llama4_vision_model":
        return repeated
    if model_type in PAIRWISE:
        return repeated[:, ::2]
    half = repeated.shape[-1] // 2
    if model_type == "gemma4_vision":  # columns, columns, rows, rows
        columns, rows = repeated[:, : half // 2], repeated[:, half : half + half // 2]
        return np.concatenate((columns, rows), axis=-1)
    return repeated[:, :half]


def _vision(module, rotary, config, grid, at, q, k):
    """Heads after tokens, and each image of the batch by itself."""
    cos, sin = rotary(config).eval()(q, at)
    turned = [
        module.apply_rotary_pos_emb_vision(a.transpose(0, 1), b.transpose(0, 1), cos, sin)
        for a, b in zip(q, k, strict=True)
    ]
    q, k = (torch.stack([x.transpose(0, 1) for x in each]) for each in zip(*turned, strict=True))
    return cos, sin, q, k


def _pixtral(module, rotary, config, grid, at, q, k):
    cos, sin = rotary(config).eval()(q, at)
    return cos, sin, *module.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=0)


def _gemma4(module, rotary, config, grid, at, q, k):
    at = at[None]
    cos, sin = rotary(config).eval()(q, at)
    turned = [
        module.apply_multidimensional_rope(x.transpose(1, 2), cos, sin, at).transpose(1, 2)
        for x in (q, k)
    ]
    return cos, sin, *turned


def _pairwise(module, rotary, config, grid, at, q, k):
    cos, sin = rotary(config).eval()(q, at)
    name = "apply_rotary_pos_emb_2d"
    apply = getattr(module, name, None) or getattr(module, f"{name}_self_attn")
    return cos, sin, *apply(q, k, cos=cos, sin=sin)


def _normalised(module, rotary, config, grid, at, q, k):
    """From the size of a picture; tokens before the patches stay as they are."""
    cos, sin = rotary(config).eval()(torch.zeros(1, 3, *(n * config.patch_size for n in grid)))
    before = [x[:, :, :1].expand(-1, -1, PREFIX, -1) for x in (q, k)]
    whole = [torch.cat((b, x), dim=-2) for b, x in zip(before, (q, k), strict=True)]
    turned = module.apply_rotary_pos_emb(*whole, cos, sin)
    for b, x in zip(before, turned, strict=True):
        if not torch.equal(b, x[:, :, :PREFIX]):
            msg = "tokens before the patches were turned"
            raise RuntimeError(msg)
    return cos, sin, *(x[:, :, PREFIX:] for x in turned)


def _llama4(module, rotary, config, grid, at, q, k):
    """Tables are for square images: the patches of a smaller one are picked from those of a larger."""
    side = max(grid)
    config.image_size = side * config.patch_size
    table = rotary(config).eval()(q)  # complex, (side² + 1, 1, n_pairs), the class token last
    if not torch.equal(table[-1], torch.ones_like(table[-1])):
        msg = "the class token was turned"
        raise RuntimeError(msg)
    rows, columns = (at - 1).T
    table = table[rows * side + columns]
    q, k = module.vision_apply_rotary_emb(q.transpose(1, 2), k.transpose(1, 2), table)
    return table.real, table.imag, q.transpose(1, 2), k.transpose(1, 2)
