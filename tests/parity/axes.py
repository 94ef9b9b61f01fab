"""timm's and diffusers' own encodings of grids against ours: ``python tests/parity/axes.py``.

One line per scheme; a mismatch fails the run. Angles must agree within 1e-5 and scores of random
queries and keys within 1e-4, over grids of many sizes. Where theirs rounds positions times
frequencies to float32, ours does too (``precision="float32"``): far out on a grid, the rounding alone
is more than 1e-5. xPos is compared with rotary-embedding-torch.
"""

import dataclasses
import importlib.util
import math
import sys
import warnings
from types import ModuleType

import torch
from diffusers.models import embeddings
from diffusers.models.transformers import (
    transformer_cogview4,
    transformer_cosmos,
    transformer_flux,
    transformer_flux2,
    transformer_hunyuan_video,
    transformer_kandinsky,
    transformer_kandinsky6,
    transformer_ltx,
    transformer_mochi,
    transformer_qwenimage,
    transformer_wan,
)
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from rotary_embedding_torch import RotaryEmbedding

import rope_xp
from rope_xp import RoPE, scaling
from rope_xp.axes import Axial, AxisPerPair, InterleavedSections

IMAGES = [(1, 1), (1, 7), (5, 1), (14, 14), (9, 16), (37, 24), (7, 33), (64, 64), (3, 101)]
VIDEOS = [(1, 1, 1), (1, 7, 5), (5, 1, 8), (13, 30, 7), (2, 3, 45), (8, 16, 16), (21, 9, 16)]
ANGLES, SCORES = 1e-5, 1e-4


def timm_layers(name):
    """A module of timm without its package, which loads torchvision for its models."""
    package = importlib.util.find_spec("timm")
    for part, folder in (("timm", ""), ("timm.layers", "/layers")):
        shell = ModuleType(part)
        shell.__path__ = [package.submodule_search_locations[0] + folder]
        sys.modules[part] = shell
    return importlib.import_module(f"timm.layers.{name}")


timm = timm_layers("pos_embed_sincos")


def grid(*axes):
    """Positions (n_axes, tokens) of all combinations; the last axis runs fastest."""
    return torch.stack([a.flatten() for a in torch.meshgrid(*axes, indexing="ij")])


def indices(*shape):
    return grid(*map(torch.arange, shape))


class Worst:
    """The largest differences of a scheme."""

    def __init__(self):
        self.angle, self.score, self.runs = 0.0, 0.0, 0

    def angles(self, ours, theirs):
        """Angle between (cos, sin) and (cos, sin), of the same shape."""
        (a, b), (c, d) = ([t.double() for t in tables] for tables in (ours, theirs))
        assert a.shape == c.shape, (a.shape, c.shape)
        self.angle = max(self.angle, float(torch.atan2(a * d - b * c, a * c + b * d).abs().max()))
        self.runs += 1

    def scores(self, ours, theirs):
        """Of rotated (q, k) and (q, k)."""
        a, b = (q @ k.mT * q.shape[-1] ** -0.5 for q, k in (ours, theirs))
        self.score = max(self.score, float((a - b).abs().max()))

    def summary(self):
        bad = not (self.angle <= ANGLES and self.score <= SCORES and self.runs)
        numbers = f"{self.runs} grids, angles {self.angle:.1e}, scores {self.score:.1e} apart"
        return ("MISMATCH " if bad else "") + numbers


def narrow(tables, layout):
    """Theirs without the repetition to head_dim."""
    return [t[..., ::2] if layout == "interleaved" else t[..., : t.shape[-1] // 2] for t in tables]


def compare(worst, rope, at, tables, turn):
    """Ours at positions ``at`` against their (cos, sin) of width head_dim, applied by ``turn(x)``."""
    worst.angles(rope.cos_sin(at), narrow(tables, rope.layout))
    q, k = torch.randn(2, 2, 3, min(at.shape[-1], 256), rope.head_dim)
    worst.scores(rope(q, k, positions=at[:, -256:]), (turn(q), turn(k)))


def with_frequencies(own, theirs):
    """``own`` with their frequencies of an axis, which differ in the last bits only.

    Where angles are large (LTX: 15,000), those bits are more than 1e-5.
    """
    bands = scaling.Custom(tuple(theirs.tolist()))
    axes = dataclasses.replace(own.axes, scale=1.0)
    rope = dataclasses.replace(own, scaling=bands, axes=axes, precision="float32")
    found, wanted = (torch.asarray(r.frequencies().inv_freq) for r in (own, rope))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    return rope


def diffusers_turn(tables, unbind=-1):
    """Their rotation of the last 256 tokens, to limit the number of scores."""
    last = [t[-256:] for t in tables]
    return lambda x: embeddings.apply_rotary_emb(x, last, use_real_unbind_dim=unbind)


# -- timm ------------------------------------------------------------------------------------------


def against_timm(worst, rope, at, emb):
    sin, cos = emb.chunk(2, -1)  # sine first
    half, last = rope.layout == "half", emb[-256:]
    compare(worst, rope, at, (cos, sin), lambda x: timm.apply_rot_embed_cat(x, last, half=half))


def timm_cat(worst):
    """EVA's: both orders of axes, both layouts, offset, grid of the pretraining."""
    for shape in IMAGES:
        for indexing, half, offset, ref in (
            ("ij", False, 0.0, None),
            ("xy", False, 0.0, None),
            ("ij", True, 1.0, None),
            ("xy", False, 0.0, (16, 16)),
            ("ij", False, 0.5, (14, 20)),
        ):
            theirs = timm.RotaryEmbeddingCat(
                64,
                in_pixels=False,
                grid_offset=offset,
                grid_indexing=indexing,
                rotate_half=half,
                ref_feat_shape=ref,
            ).get_embed(shape)
            steps = [torch.arange(n) + offset for n in shape]
            if ref:
                steps = [s / n * r for s, n, r in zip(steps, shape, ref, strict=True)]
            order = (1, 0) if indexing == "xy" else None
            layout = "half" if half else "interleaved"
            rope = RoPE(64, layout=layout, axes=Axial(2, axis_order=order), precision="float32")
            against_timm(worst, rope, grid(*steps), theirs)


def timm_cat_pixels(worst):
    """From one turn to many across the image, positions in [−1, 1]."""
    for linear in (False, True):
        module = timm.RotaryEmbeddingCat(64, in_pixels=True, max_res=112, linear_bands=linear)
        bands = scaling.Custom(tuple(1 + i * 55 / 15 for i in range(16))) if linear else None
        base = 10000.0 if linear else 56 ** (-16 / 15)
        own = RoPE(64, layout="interleaved", base=base, scaling=bands, axes=Axial(2, scale=math.pi))
        rope = with_frequencies(own, module.bands)
        for shape in IMAGES:
            at = grid(*(torch.linspace(-1, 1, n) for n in shape))
            against_timm(worst, rope, at, module.get_embed(shape))


def timm_dinov3(worst):
    """Centres of patches in [−1, 1], by each side or by the shorter or longer one."""
    for shape in IMAGES:
        for normalize in ("separate", "min", "max"):
            if normalize == "min" and max(shape) > 10 * min(shape):
                continue  # angles of hundreds, whose last bits in float32 are more than 1e-5
            side = {"min": min, "max": max}.get(normalize)
            sides = [side(shape) if side else n for n in shape]
            at = grid(
                *(2 * ((torch.arange(n) + 0.5) / s) - 1 for n, s in zip(shape, sides, strict=True))
            )
            theirs = timm.RotaryEmbeddingDinoV3(64, normalize_coords=normalize)
            rope = RoPE(64, layout="half", base=100.0, axes=Axial(2, scale=2 * math.pi))
            against_timm(worst, rope, at, theirs.get_embed(shape))
            theirs = timm.RotaryEmbeddingDinoV3(
                64, min_period=1.0, max_period=90.0, normalize_coords=normalize
            )
            axes = Axial(2, scale=2 * math.pi)
            rope = RoPE(64, layout="half", base=90 ** (16 / 15), axes=axes)
            against_timm(worst, rope, at, theirs.get_embed(shape))


def timm_mixed(worst):
    """Learned directions of every block and head: (2, depth, heads, 1, n_pairs)."""
    depth, heads = 2, 3
    for shape in IMAGES:
        for indexing in ("xy", "ij"):
            module = timm.RotaryEmbeddingMixed(48, depth, heads, grid_indexing=indexing)
            theirs = module.get_embed(shape)  # (depth, heads, tokens, 2 * head_dim)
            at = indices(*shape).float()
            at = at.flip(0) if indexing == "xy" else at
            cos, sin = rope_xp.cos_sin(at, module.freqs[..., None, :])
            their_sin, their_cos = theirs.chunk(2, -1)
            worst.angles((cos, sin), narrow((their_cos, their_sin), "interleaved"))
            q, k = torch.randn(2, 2, heads, at.shape[-1], 16)[..., -256:, :]
            for block in range(depth):
                tables = [t[block, None, :, -256:] for t in (cos, sin)]
                ours = [rope_xp.rotate(x, *tables, layout="interleaved") for x in (q, k)]
                emb = theirs[block, :, -256:]
                worst.scores(ours, [timm.apply_rot_embed_cat(x, emb) for x in (q, k)])


def timm_mrope(worst):
    """Qwen3-VL's interleaved sections in an image tower; time is 0."""
    for shape in IMAGES:
        at = torch.cat([torch.zeros(1, math.prod(shape), dtype=torch.int64), indices(*shape)])
        for dim, sections, axes in (
            (72, (12, 12, 12), InterleavedSections((12, 12, 12))),
            (64, (8, 12, 12), InterleavedSections((8, 12, 12))),
            (72, (8, 12, 12), AxisPerPair((0, 1, 2) * 12)),
        ):
            theirs = timm.RotaryEmbeddingMRope(dim, sections).get_embed(shape)
            rope = RoPE(dim, layout="half", axes=axes, precision="float32")
            against_timm(worst, rope, at, theirs)


def timm_batch(worst):
    """Images of different sizes in one padded batch: positions (n_axes, batch, seq)."""
    seq = max(h * w for h, w in IMAGES[:7])
    module = timm.RotaryEmbeddingCat(64, in_pixels=False)
    theirs = module.get_batch_embeds(IMAGES[:7], seq_len=seq)
    at = torch.zeros(2, 7, seq, dtype=torch.int64)
    for row, shape in enumerate(IMAGES[:7]):
        at[:, row, : math.prod(shape)] = indices(*shape)
    rope = RoPE(64, layout="interleaved", axes=Axial(2), precision="float32")
    cos, sin = rope.cos_sin(at)
    q, k = torch.randn(2, 7, 2, seq, 64)
    ours = rope(q, k, positions=at)
    for row, shape in enumerate(IMAGES[:7]):
        n = math.prod(shape)
        emb = theirs[row, :n]
        their_sin, their_cos = emb.chunk(2, -1)
        worst.angles((cos[row, :n], sin[row, :n]), narrow((their_cos, their_sin), "interleaved"))
        turned = [timm.apply_rot_embed_cat(x[row, :, :n], emb) for x in (q, k)]
        worst.scores([x[row, :, :n] for x in ours], turned)


# -- diffusers -------------------------------------------------------------------------------------


def flux(worst):
    """Text at zero, then the image; angles in float64."""
    rope = RoPE(128, layout="interleaved", axes=Axial((16, 56, 56)))
    for shape in IMAGES:
        at = torch.cat([torch.zeros(3, 9), indices(1, *shape)], dim=1).long()
        tables = transformer_flux.FluxPosEmbed(10000, [16, 56, 56])(at.mT)
        compare(worst, rope, at, tables, diffusers_turn(tables))


def flux2(worst):
    """Four axes: time, row, column, and the number of a text token."""
    rope = RoPE(128, layout="interleaved", base=2000.0, axes=Axial(4))
    for shape in IMAGES:
        text = torch.cat([torch.zeros(3, 9), torch.arange(9.0)[None]])
        at = torch.cat([text, indices(1, *shape, 1), indices(1, *shape, 1) + 10], dim=1).long()
        tables = transformer_flux2.Flux2PosEmbed(2000, [32] * 4)(at.mT)
        compare(worst, rope, at, tables, diffusers_turn(tables))


def qwen_image(worst):
    """Rows and columns counted from the middle; text goes on along all axes."""
    module = transformer_qwenimage.QwenEmbedRope(10000, [16, 56, 56], scale_rope=True)
    rope = RoPE(128, layout="interleaved", axes=Axial((16, 56, 56)), precision="float32")
    for t, h, w in VIDEOS:
        at = indices(t, h, w) - torch.tensor([0, h - h // 2, w - w // 2])[:, None]
        text = (max(h // 2, w // 2) + torch.arange(9)).expand(3, 9)
        both = torch.cat(module((t, h, w), device=torch.device("cpu"), max_txt_seq_len=9))
        tables = [part.repeat_interleave(2, -1) for part in (both.real, both.imag)]
        compare(worst, rope, torch.cat([at, text], dim=1), tables, diffusers_turn(tables))


def hunyuan_video(worst):
    rope = RoPE(
        128, layout="interleaved", base=256.0, axes=Axial((16, 56, 56)), precision="float32"
    )
    module = transformer_hunyuan_video.HunyuanVideoRotaryPosEmbed(2, 1, [16, 56, 56], 256.0)
    for t, h, w in VIDEOS:
        tables = module(torch.empty(1, 1, t, 2 * h, 2 * w))
        compare(worst, rope, indices(t, h, w), tables, diffusers_turn(tables))


def riflex(worst):
    """HunyuanVideo with RIFLEx: its tables, but for the pair of time that the authors' code slows."""
    module = transformer_hunyuan_video.HunyuanVideoRotaryPosEmbed(2, 1, [16, 56, 56], 256.0)
    for (t, h, w), k, length in (
        (v, k, n) for v in VIDEOS for k, n in ((4, 66), (1, 40), (8, 3000))
    ):
        rope = RoPE(
            128,
            layout="interleaved",
            base=256.0,
            axes=Axial((16, 56, 56)),
            scaling=(scaling.RIFLEx(k, length), None, None),
            precision="float32",
        )
        at, tables = indices(t, h, w), module(torch.empty(1, 1, t, 2 * h, 2 * w))
        angle = torch.outer(at[0].float(), torch.tensor([0.9 * 2 * math.pi / length]))
        for table, turned in zip(tables, (angle.cos(), angle.sin()), strict=True):
            table[:, 2 * k - 2 : 2 * k] = turned
        compare(worst, rope, at, tables, diffusers_turn(tables))


def kandinsky(worst):
    """Kandinsky 5's and 6's scale_factor divides the angles of each axis: a Linear for each."""
    for scales in ((1.0, 2.0, 2.0), (1.5, 1.0, 3.14), (1.0, 1.0, 1.0)):
        rope = RoPE(
            64,
            layout="interleaved",
            axes=Axial((16, 24, 24)),
            scaling=tuple(map(scaling.Linear, scales)),
            precision="float32",
        )
        five = transformer_kandinsky.Kandinsky5RoPE3D((16, 24, 24))
        six = transformer_kandinsky6.Kandinsky6RoPE3D((16, 24, 24))
        for t, h, w in VIDEOS:
            steps = [torch.arange(n) for n in (t, h, w)]
            for made in (five((1, t, h, w), steps, scales), six(steps, scales)):
                matrices = made.reshape(t * h * w, 32, 2, 2)
                tables = matrices[..., 0, 0], matrices[..., 1, 0]
                worst.angles(rope.cos_sin(indices(t, h, w)), tables)


def wan(worst):
    """Head sizes that three does not divide; angles in float64; (batch, seq, heads, head_dim)."""
    for dim in (128, 64, 40):
        side = 2 * (dim // 6)
        rope = RoPE(dim, layout="interleaved", axes=Axial((dim - 2 * side, side, side)))
        module = transformer_wan.WanRotaryPosEmbed(dim, (1, 2, 2), 1024)
        for t, h, w in VIDEOS:
            tables = [x[0, :, 0] for x in module(torch.empty(1, 1, t, 2 * h, 2 * w))]
            compare(worst, rope, indices(t, h, w), tables, diffusers_turn(tables))


def cogvideox(worst):
    """The image laid over a crop of the grid it was trained on (1.0), or counted (1.5)."""
    rope = RoPE(64, layout="interleaved", axes=Axial((16, 24, 24)), precision="float32")
    for t, h, w in VIDEOS:
        start, stop = get_resize_crop_region_for_grid((h, w), 45, 30)
        sides = [
            torch.linspace(a, b * (n - 1) / n, n)
            for a, b, n in zip(start, stop, (h, w), strict=True)
        ]
        tables = embeddings.get_3d_rotary_pos_embed(64, (start, stop), (h, w), t)
        turn = diffusers_turn(tables)
        compare(worst, rope, grid(torch.arange(float(t)), *sides), tables, turn)
        tables = embeddings.get_3d_rotary_pos_embed(
            64, None, (h, w), t, grid_type="slice", max_size=(96, 170)
        )
        compare(worst, rope, indices(t, h, w), tables, diffusers_turn(tables))


def cogview4(worst):
    """Every image spread over 256 × 256 positions."""
    rope = RoPE(64, layout="half", axes=Axial(2), precision="float32")
    module = transformer_cogview4.CogView4RotaryPosEmbed(64, 2, (256, 256))
    for h, w in IMAGES:
        at = grid(torch.arange(h) * 256 // h, torch.arange(w) * 256 // w)
        tables = module(torch.empty(1, 1, 2 * h, 2 * w))
        compare(worst, rope, at, tables, diffusers_turn(tables, -2))


def allegro(worst):
    """Each axis paired separately, positions divided by an interpolation scale, a Linear for each."""
    plain = RoPE(96, layout="half", axes=Axial(3, split=True), precision="float32")
    for (t, h, w), scale in ((v, s) for v in VIDEOS for s in ((1.0, 1.0, 1.0), (1.5, 2.0, 2.5))):
        region = ((0, 0), (h, w))
        *tables, grid_t, grid_h, grid_w = embeddings.get_3d_rotary_pos_embed_allegro(
            96, region, (h, w), t, interpolation_scale=scale
        )
        rope = dataclasses.replace(plain, scaling=tuple(map(scaling.Linear, scale)))
        at, index = grid(grid_t, grid_h, grid_w), indices(t, h, w)
        cos, sin = (
            torch.cat([axis[i][n][:, :16] for axis, n in zip(tables, index, strict=True)], -1)
            for i in (0, 1)
        )
        worst.angles(rope.cos_sin(at), (cos, sin))
        q, k = torch.randn(2, 2, 3, at.shape[-1], 96)[..., -256:, :]
        last = index[:, None, -256:].expand(3, 2, -1)
        turned = [embeddings.apply_rotary_emb_allegro(x, tables, last) for x in (q, k)]
        worst.scores(rope(q, k, positions=at[:, -256:]), turned)


def cosmos(worst):
    """NTK by axis, and time in frames of 24 a second."""
    for dim, scales in ((128, (2.0, 1.0, 1.0)), (96, (1.0, 3.0, 2.5))):
        side = dim // 6 * 2
        widths = (dim - 2 * side, side, side)
        rope = RoPE(
            dim,
            layout="half",
            axes=Axial(widths),
            scaling=tuple(map(scaling.NTK, scales)),
            precision="float32",
        )
        module = transformer_cosmos.CosmosRotaryPosEmbed(dim, rope_scale=scales)
        for t, h, w in VIDEOS:
            for fps in (None, 24, 30):
                tables = module(torch.empty(1, 1, t, 2 * h, 2 * w), fps=fps)
                time = torch.arange(float(t)) / fps * 24 if fps else torch.arange(float(t))
                at = grid(time, torch.arange(float(h)), torch.arange(float(w)))
                compare(worst, rope, at, tables, diffusers_turn(tables, -2))


def ltx(worst):
    """Whole tokens before the split into heads; the remainder of a division by six stays unrotated, in front."""
    for dim in (48, 128, 64):
        n, rest = dim // 6, dim % 6
        axes = Axial(3, arrangement="alternating", scale=math.pi / 2)
        base = 1e4 ** (-n / (n - 1))
        own = RoPE(dim, layout="interleaved", rotary_start=rest, base=base, axes=axes)
        rope = with_frequencies(own, 1e4 ** torch.linspace(0, 1, n) * math.pi / 2)
        module = transformer_ltx.LTXVideoRotaryPosEmbed(dim)
        for t, h, w in VIDEOS:
            at = indices(t, h, w) * torch.tensor([[8 / 25], [32.0], [32.0]])
            at = at / torch.tensor([[20.0], [2048.0], [2048.0]])
            cos, sin = module(
                torch.empty(1), t, h, w, rope_interpolation_scale=(8 / 25, 32.0, 32.0)
            )
            ours = rope.cos_sin(2 * at - 1)
            rotated = [x[0, :, rest:] for x in (cos, sin)]
            worst.angles(ours, narrow(rotated, "interleaved"))
            q, k = torch.randn(2, 1, at.shape[-1], dim)[..., -256:, :]
            last = cos[:, -256:], sin[:, -256:]
            turned = [transformer_ltx.apply_rotary_emb(x, last) for x in (q, k)]
            worst.scores(rope(q, k, positions=(2 * at - 1)[:, -256:]), turned)


def mochi(worst):
    """Learned: (3, heads, n_pairs), positions from the middle, scaled to an area of 192²."""
    module = transformer_mochi.MochiRoPE()
    for t, h, w in VIDEOS:
        learned = torch.randn(3, 4, 32) * 0.05
        at = module._get_positions(t, h, w, dtype=torch.float32).mT
        with warnings.catch_warnings(action="ignore"):  # autocast in float32 is not for CPUs
            cos, sin = module(learned, t, h, w, dtype=torch.float32)  # (tokens, heads, n_pairs)
        cos, sin = cos.transpose(0, 1), sin.transpose(0, 1)
        tables = rope_xp.cos_sin(at, learned[:, :, None])
        worst.angles(tables, (cos, sin))
        q, k = torch.randn(2, 2, 4, min(at.shape[-1], 256), 64)
        tables = [table[None, :, -256:] for table in tables]
        ours = [rope_xp.rotate(x, *tables, layout="interleaved") for x in (q, k)]
        turns = torch.complex(cos, sin)[:, -256:]
        turned = [torch.view_as_complex(x.unflatten(-1, (32, 2))) * turns for x in (q, k)]
        worst.scores(ours, [torch.view_as_real(x).flatten(-2) for x in turned])


def xpos(worst):
    """rotary-embedding-torch: queries grow, keys shrink, from the middle on."""
    for n in (1, 2, 7, 64, 301):
        theirs = RotaryEmbedding(64, use_xpos=True, cache_if_possible=False)
        q, k = torch.randn(2, 2, 3, n, 64)
        rope, at = RoPE(64, layout="interleaved", precision="float32"), torch.arange(n)
        cos, sin = rope.cos_sin(at)
        scale = rope_xp.phases.xpos_scale(at, 32, center=n // 2)
        ours = rope.rotate(q, cos * scale, sin * scale), rope.rotate(k, cos / scale, sin / scale)
        worst.angles((cos, sin), [f(theirs(at))[:, ::2] for f in (torch.cos, torch.sin)])
        worst.scores(ours, theirs.rotate_queries_and_keys(q, k))


SCHEMES = [
    timm_cat,
    timm_cat_pixels,
    timm_dinov3,
    timm_mixed,
    timm_mrope,
    timm_batch,
    flux,
    flux2,
    qwen_image,
    hunyuan_video,
    riflex,
    kandinsky,
    wan,
    cogvideox,
    cogview4,
    allegro,
    cosmos,
    ltx,
    mochi,
    xpos,
]


@torch.no_grad()
def main():
    torch.manual_seed(0)
    failed = 0
    for scheme in SCHEMES:
        worst = Worst()
        scheme(worst)
        result = worst.summary()
        failed += result.startswith("MISMATCH")
        print(f"{scheme.__name__:<20} {result}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
