"""Other libraries' own sinusoids against ``rope_xp.sinusoidal``: ``python tests/parity/sinusoids.py``.

One line per scheme; a mismatch fails the run. Their code runs unchanged, within 1e-5 of ours, and once
more with float64 in place of float32, within 1e-9: the rest of the first difference is their rounding.
"""

import contextlib
import importlib.util
import math
import os
import sys
from itertools import product
from types import SimpleNamespace
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from diffusers.models import embeddings as diffusers
from transformers.models.aimv2 import modeling_aimv2
from transformers.models.d_fine import modeling_d_fine
from transformers.models.dab_detr.modeling_dab_detr import DabDetrSinePositionEmbedding
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding
from transformers.models.granite_docling.modeling_granite_docling import (
    GraniteDoclingPositionEmbedding,
)
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoSinePositionEmbedding,
)
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding
from transformers.models.omdet_turbo.modeling_omdet_turbo import OmDetTurboHybridEncoder
from transformers.models.rt_detr import modeling_rt_detr
from transformers.models.sam.modeling_sam import SamPositionalEmbedding
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding
from transformers.models.vit_mae import modeling_vit_mae

from rope_xp import sinusoidal
from rope_xp.axes import Axial, Directions
from rope_xp.positions import mask_grid_positions

# timm's packages import torchvision when they are run; the one file that is needed does not.
for package in ("timm", "timm.layers"):
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed


def grid(*shape):
    """Positions (n_axes, tokens), row by row."""
    return torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(shape)).T


@contextlib.contextmanager
def in_float64():
    """Code that asks for float32 gets float64."""
    with (
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


# A scheme returns, for one case, ``theirs()`` and ``ours(dtype)``, which has its reals in the dtype.


def mae(module, shape, dim, base):
    """[sin rows, cos rows, sin columns, cos columns]."""
    return (
        lambda: module.build_2d_sinusoidal_position_embedding(
            *shape, dim, base, dtype=torch.float32
        ),
        lambda dtype: sinusoidal(
            grid(*shape),
            dim,
            base=base,
            order="sin_cos",
            axes=Axial(2, split=True),
            dtype=dtype,
        ),
    )


def granite_docling(n, dim):
    """Columns first in the features."""
    return (
        lambda: GraniteDoclingPositionEmbedding.build(dim, n),
        lambda dtype: sinusoidal(
            grid(n, n),
            dim,
            order="sin_cos",
            axes=Axial(2, split=True, axis_order=(1, 0)),
            dtype=dtype,
        ),
    )


def omdet_turbo(shape, dim):
    """Columns first in the features, and tokens column by column."""
    rows, columns = shape
    return (
        lambda: OmDetTurboHybridEncoder.build_2d_sincos_position_embedding(
            columns, rows, dim, dtype=torch.float32
        )[0],
        lambda dtype: sinusoidal(
            grid(columns, rows), dim, order="sin_cos", axes=Axial(2, split=True), dtype=dtype
        ),
    )


def timm(shape, dim, base, by_axis, reverse):
    """Sines of both axes first, or axis by axis; with the coordinates reversed, tokens are too."""
    return (
        lambda: build_sincos2d_pos_embed(
            shape,
            dim,
            base,
            reverse_coord=reverse,
            interleave_sin_cos=by_axis,
            dtype=torch.float32,
        ),
        lambda dtype: sinusoidal(
            grid(*(shape[::-1] if reverse else shape)),
            dim,
            base=base,
            order="sin_cos",
            axes=Axial(2, split=by_axis),
            dtype=dtype,
        ),
    )


def dit(shape, dim, size, stretch):
    """Columns first, over the coordinates of a grid of ``base_size``."""
    unit = torch.tensor([size / n / stretch for n in shape], dtype=torch.float64)
    return (
        lambda: diffusers.get_2d_sincos_pos_embed(
            dim, shape, base_size=size, interpolation_scale=stretch
        ),
        lambda dtype: sinusoidal(
            (grid(*shape) * unit[:, None]).to(dtype),
            dim,
            order="sin_cos",
            axes=Axial(2, split=True, axis_order=(1, 0)),
            dtype=dtype,
        ),
    )


def cogvideox(shape, frames, dim, stretch):
    """A quarter for time; the spatial size is given as columns, rows."""
    unit = torch.tensor([1.0, 1 / stretch, 1 / stretch], dtype=torch.float64)
    widths = (dim // 4, 3 * dim // 8, 3 * dim // 8)
    return (
        lambda: diffusers.get_3d_sincos_pos_embed(dim, shape[::-1], frames, stretch).flatten(0, 1),
        lambda dtype: sinusoidal(
            (grid(frames, *shape) * unit[:, None]).to(dtype),
            dim,
            order="sin_cos",
            axes=Axial(widths, axis_order=(0, 2, 1), split=True),
            dtype=dtype,
        ),
    )


def masks():
    """Batches of images of different sizes, padded right and below."""
    draw = torch.Generator().manual_seed(20211)
    for rows, columns in [*GRIDS, (25, 38)]:
        mask = torch.zeros(3, rows, columns, dtype=torch.bool)
        mask[0] = True
        for image in mask[1:]:
            r, c = (int(torch.randint(1, n + 1, (), generator=draw)) for n in (rows, columns))
            image[:r, :c] = True
        yield mask


def detr(mask, width, base, scale, kind=DetrSinePositionEmbedding):
    """Plain counts, or all images of one span."""
    module = kind(width, base, scale is not None, scale)
    shape = (mask.shape[0], 1, *mask.shape[1:])

    def ours(dtype):
        real = {} if scale is None else {"scale": scale, "dtype": dtype}
        places = mask_grid_positions(mask, **real)
        table = sinusoidal(places, 2 * width, base=base, axes=Axial(2), dtype=dtype)
        return table.permute(0, 3, 1, 2)

    return lambda: module(shape, "cpu", torch.float32, mask), ours


def mask2former(mask, width, base, scale):
    return detr(mask, width, base, scale, Mask2FormerSinePositionEmbedding)


def grounding_dino(mask, width, base):
    config = SimpleNamespace(d_model=2 * width, positional_embedding_temperature=base)
    module = GroundingDinoSinePositionEmbedding(config)
    return lambda: module(mask, mask), detr(mask, width, base, 2 * math.pi)[1]


def dab_detr(mask, width, base):
    config = SimpleNamespace(
        hidden_size=2 * width,
        temperature_height=base,
        temperature_width=base,
        sine_position_embedding_scale=None,
    )
    module = DabDetrSinePositionEmbedding(config)
    return lambda: module(mask, mask), detr(mask, width, base, 2 * math.pi)[1]


def sam3_boxes(width):
    """Four axes, x, y, width, height, of which y comes first."""
    module, boxes = Sam3SinePositionEmbedding(width), torch.rand(2, 9, 4, dtype=torch.float64)
    return (
        lambda: module.encode_boxes(boxes.float()),
        lambda dtype: sinusoidal(
            torch.moveaxis(boxes, -1, 0).to(dtype) * module.scale,
            4 * width,
            axes=Axial(4, axis_order=(1, 0, 2, 3)),
            dtype=dtype,
        ),
    )


def sam_points(n_pairs):
    """Random Fourier features: every pair has its own direction."""
    module = SamPositionalEmbedding(SimpleNamespace(scale=1.0, num_pos_feats=n_pairs))
    points = torch.rand(2, 3, 9, 2, dtype=torch.float64)
    matrix = 2 * math.pi * module.positional_embedding.detach().double()
    return (
        lambda: module.to(torch.float32)(points.float()),
        lambda dtype: sinusoidal(
            torch.moveaxis(2 * points - 1, -1, 0).to(dtype),  # (2, 2, 3, 9)
            2 * n_pairs,
            order="sin_cos",
            axes=Directions(tuple(map(tuple, matrix.tolist()))),
            dtype=dtype,
        ),
    )


def timesteps(times, scale, dim, flip, shift, period):
    """Odd sizes end in a zero, which the caller has to add."""

    def ours(dtype):
        table = sinusoidal(
            scale * (times.to(dtype) if times.is_floating_point() else times),
            dim - dim % 2,
            base=period,
            shift=shift,
            order="cos_sin" if flip else "sin_cos",
            dtype=dtype,
        )
        return torch.nn.functional.pad(table, (0, dim % 2))

    return (
        lambda: diffusers.get_timestep_embedding(times, dim, flip, shift, scale, period),
        ours,
    )


GRIDS = [(1, 1), (1, 7), (5, 1), (3, 4), (8, 8), (7, 13), (14, 14), (24, 9), (17, 40), (56, 56)]
BASES = [10000.0, 100.0, 20.0]
TABLES = [modeling_vit_mae, modeling_aimv2, modeling_rt_detr, modeling_d_fine]
TIMES = [
    (dim, flip, shift, period)
    for dim, flip, shift, period in product(
        (2, 3, 4, 7, 32, 256, 321), (False, True), (0, 0.5, 1), (10000, 100)
    )
    if dim // 2 > shift  # else diffusers divides by zero
]
# What is compared, the cases of it, and how far from theirs ours may be in float32.
SCHEMES = {
    "ViT-MAE, AIMv2, RT-DETR, D-FINE": (mae, product(TABLES, GRIDS, (4, 60, 192, 768), BASES)),
    "GraniteDocling": (granite_docling, product((1, 3, 16, 27), (8, 64, 768))),
    "OmDet-Turbo": (omdet_turbo, product(GRIDS, (8, 60, 256))),
    "timm": (timm, product(GRIDS, (4, 64, 100, 384), BASES, (False, True), (False, True))),
    "DiT": (dit, product(GRIDS, (8, 60, 1152), (7, 16, 64), (1.0, 1.5))),
    "CogVideoX": (cogvideox, product(GRIDS[:-2], (1, 4, 13), (16, 48, 192), (1.0, 1.875))),
    "DETR": (detr, product(masks(), (2, 10, 64), BASES, (None, 2 * math.pi, 5.0))),
    "Mask2Former": (mask2former, product(masks(), (2, 64), BASES[:1], (None, 2 * math.pi))),
    "Grounding DINO": (grounding_dino, product(masks(), (2, 10, 128), BASES)),
    "DAB-DETR": (dab_detr, product(masks(), (2, 10, 128), BASES)),
    "SAM 3, boxes": (sam3_boxes, product((2, 10, 64))),
    "SAM, points": (sam_points, product((3, 64))),
    "timesteps, real": (
        timesteps,
        ((torch.linspace(-3.3, 50, 77, dtype=torch.float64), 1, *case) for case in TIMES),
    ),
    # A float32 angle of 999, as theirs are, allows no better; ours of integers are exact.
    "timesteps, whole": (timesteps, ((torch.arange(1000), 1, *case) for case in TIMES), 1e-4),
    # For both; with times in [0, 1] that are multiplied by 1000.
    "timesteps, scaled": (
        timesteps,
        ((torch.linspace(0, 1, 97, dtype=torch.float64), 1000, *case) for case in TIMES),
        2e-4,
    ),
}


def compare(scheme, cases, atol=1e-5):
    """The largest differences, of their code unchanged and in float64."""
    apart, wide, runs = 0.0, 0.0, 0
    for case in cases:
        theirs, ours = scheme(*case)
        as_is, narrow = theirs().float(), ours(torch.float32)
        torch.testing.assert_close(narrow, as_is, rtol=0, atol=atol)
        with in_float64():
            exact = theirs()
        apart = max(apart, float((narrow - as_is).abs().max()))
        runs += 1
        if scheme is granite_docling:
            continue  # the dtype of their result is fixed; it is computed in float64
        own = ours(torch.float64)
        torch.testing.assert_close(own, exact, rtol=0, atol=1e-9)  # and of the same dtype
        wide = max(wide, float((own - exact).abs().max()))
    in_double = f", in float64 {wide:.1e}" if wide else ""
    return f"{runs:>4} cases, {apart:.1e} apart{in_double}"


@torch.no_grad()
def main():
    torch.manual_seed(0)
    failed = 0
    for name, scheme in SCHEMES.items():
        try:
            result = compare(*scheme)
        except AssertionError as error:
            result = "MISMATCH " + " ".join(str(error).split())
        failed += result.startswith("MISMATCH")
        print(f"{name:<40} {result}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
