"""transformers' own positions against ``rope_xp.positions``: ``python tests/parity_positions.py``.

One line per model; a mismatch fails the run. Integer positions must be equal, DINOv3's within one
float32 rounding of 1. The text with vision is drawn: batches of rows with several images and videos,
padded left, right or not at all.
"""

import os
import random
import sys
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from transformers.models.dinov3_vit.modeling_dinov3_vit import get_patches_center_coordinates
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
from transformers.vision_utils import get_vision_position_ids

from rope_xp import positions

BATCHES = 200


def stub(model, merge, tokens_per_second):
    """As much of a model as its ``get_rope_index`` looks at."""
    vision = SimpleNamespace(spatial_merge_size=merge, tokens_per_second=tokens_per_second)
    own = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    own.get_vision_position_ids = model.get_vision_position_ids.__get__(own)
    return own


def draw_row(draw, merge, frames_apart):
    """Token types of a row, and its images and videos: grids in patches."""
    types, images, videos = [0] * draw.randrange(4), [], []
    for _ in range(draw.randrange(5)):
        h, w = (merge * draw.randrange(1, 8) for _ in range(2))
        tokens = h * w // merge**2
        if draw.random() < 0.5:
            images.append((1, h, w))
            types += [1] * tokens
        else:
            t = draw.randrange(1, 30)
            videos.append((t, h, w))
            pieces = [[2] * tokens] * t
            for i, piece in enumerate(pieces):
                types += ([0] * draw.randrange(1, 5) if frames_apart and i else []) + piece
        types += [0] * draw.randrange(1, 12)
    return types or [0], images, videos


def both(model, draw, seconds_known):
    """A batch in transformers' words and in ours: positions and deltas of each."""
    merge, per_second = draw.choice([1, 2, 3]), draw.choice([1, 2, 4, 25])
    frames_apart = model is Qwen3VLModel
    rows = [draw_row(draw, merge, frames_apart) for _ in range(draw.randrange(1, 5))]
    images = [grid for _, found, _ in rows for grid in found]
    videos = [grid for *_, found in rows for grid in found]
    seconds = torch.tensor([2 / draw.choice([0.7, 1, 2, 3, 24, 29.97, 30]) for _ in videos])

    side = draw.choice(["left", "right", "mixed"])
    length = max(len(types) for types, *_ in rows) + draw.randrange(3)
    all_types, mask, ours, deltas, step = [], [], [], [], iter(seconds.tolist())
    for types, own_images, own_videos in rows:
        free = length - len(types)
        before = {"left": free, "right": 0, "mixed": draw.randint(0, free)}[side]
        padding = (before, free - before)
        all_types.append([0] * padding[0] + types + [0] * padding[1])
        mask.append([0] * padding[0] + [1] * len(types) + [0] * padding[1])
        if model is Qwen2_5_VLModel:
            own_videos = [
                (
                    positions.time_axis(
                        t, per_second * (next(step) if seconds_known else 1), truncate=True
                    ),
                    h,
                    w,
                )
                for t, h, w in own_videos
            ]
        parts = positions.text_image_parts(
            types, images=own_images, videos=own_videos, merge=merge, frames_apart=frames_apart
        )
        made, after = positions.text_image_positions(parts, merge=merge, padding=padding, xp=torch)
        ours.append(made)
        deltas.append([after - len(types)])

    options = {"second_per_grid_ts": seconds} if seconds_known else {}
    theirs = model.get_rope_index(
        stub(model, merge, per_second),
        torch.ones(len(rows), length, dtype=torch.int64),
        torch.tensor(all_types),
        torch.tensor(images) if images else None,
        torch.tensor(videos) if videos else None,
        attention_mask=torch.tensor(mask),
        **options,
    )
    return theirs, (torch.stack(ours, dim=1), torch.tensor(deltas))


def text_and_vision(model):
    draw, tokens = random.Random(20211), 0
    for n in range(BATCHES):
        seconds_known = model is Qwen2_5_VLModel and n % 4 > 0
        theirs, ours = both(model, draw, seconds_known)
        if not all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True)):
            return f"MISMATCH in batch {n}"
        tokens += ours[0][0].numel()
    return f"{BATCHES} batches equal, {tokens} tokens, padding included"


def qwen2_vl():
    return text_and_vision(Qwen2VLModel)


def qwen2_5_vl():
    return text_and_vision(Qwen2_5_VLModel)


def qwen3_vl():
    return text_and_vision(Qwen3VLModel)


def vision_towers():
    """Patches in merge order, as in the towers of Qwen-VL, GLM-4V and others."""
    draw, runs = random.Random(20211), 200
    for _ in range(runs):
        merge = draw.choice([1, 2, 3])
        grid = draw.randrange(1, 5), *(merge * draw.randrange(1, 12) for _ in range(2))
        theirs = get_vision_position_ids(torch.tensor([grid]), merge, include_temporal=True)
        if not torch.equal(positions.grid_positions(*grid, merge=merge, xp=torch).T, theirs):
            return f"MISMATCH for {grid} and merge {merge}"
    return f"{runs} grids equal"


def dinov3():
    worst = 0.0
    for h in range(1, 40):
        for w in (1, 2, 7, 16, 33):
            theirs = get_patches_center_coordinates(h, w, torch.float32, torch.device("cpu")).T
            axes = positions.normalised_axis(h), positions.normalised_axis(w)
            ours = positions.grid_positions(*axes, xp=torch)
            worst = max(worst, float((ours - theirs).abs().max()))
    return f"{'MISMATCH, ' if worst > 2**-23 else ''}{worst:.1e} apart"


def main():
    failed = 0
    for check in (qwen2_vl, qwen2_5_vl, qwen3_vl, vision_towers, dinov3):
        told = check()
        failed += told.startswith("MISMATCH")
        print(f"{check.__name__:<40} {told}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
