"""transformers' own positions against ``rope_xp.positions``: ``python tests/parity/positions.py``.

One line per model; a mismatch fails the run. Integer positions must be equal, DINOv3's within one
float32 rounding of 1. The text with vision is random: batches of rows with several images and videos,
padded left, right or not at all.
"""

import importlib
import os
import random
import sys
from functools import partial
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from transformers.models.dinov3_vit.modeling_dinov3_vit import get_patches_center_coordinates
from transformers.vision_utils import get_vision_position_ids

from rope_xp import positions

BATCHES = 100

# The class, and how it treats a video: "whole", "timed" (frames at their times), "apart" (text between
# the frames), "merged" (two frames make one), or "newlines" (frames one by one, and in images, too, a
# token at the end of each row).
MODELS = {
    "qwen2_vl": ("Qwen2VLModel", "whole"),
    "qwen2_5_vl": ("Qwen2_5_VLModel", "timed"),
    "qwen3_vl": ("Qwen3VLModel", "apart"),
    "qwen3_vl_moe": ("Qwen3VLMoeModel", "apart"),
    "qwen3_5": ("Qwen3_5Model", "apart"),
    "glm4v": ("Glm4vModel", "apart"),
    "glm4v_moe": ("Glm4vMoeModel", "apart"),
    "glm46v": ("Glm46VModel", "apart"),
    "glm_ocr": ("GlmOcrModel", "apart"),
    "cohere_compass": ("CohereCompassModel", "apart"),
    "paddleocr_vl": ("PaddleOCRVLModel", "whole"),
    "ernie4_5_vl_moe": ("Ernie4_5_VLMoeModel", "merged"),
    "hy_v4_vl": ("HYV4VLModel", "newlines"),
}


def stub(model, merge, tokens_per_second):
    """The part of a model that its ``get_rope_index`` uses."""
    vision = SimpleNamespace(
        spatial_merge_size=merge, tokens_per_second=tokens_per_second, temporal_merge_size=2
    )
    own = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    own.get_vision_position_ids = model.get_vision_position_ids.__get__(own)
    return own


def draw_row(draw, merge, sees):
    """Token types of a row, and its images and videos: grids in patches."""
    types, images, videos = [0] * draw.randrange(4), [], []
    for _ in range(draw.randrange(5)):
        h, w = (merge * draw.randrange(1, 8) for _ in range(2))
        tokens = h // merge * (w // merge + (sees == "newlines"))
        if draw.random() < 0.5:
            images.append((1, h, w))
            types += [1] * tokens
        else:
            t = draw.randrange(1, 30)
            videos.append((t, h, w))
            pieces = [[2] * tokens] * t
            for i, piece in enumerate(pieces):
                types += ([0] * draw.randrange(1, 5) if sees == "apart" and i else []) + piece
        types += [0] * draw.randrange(1, 12)
    return types or [0], images, videos


def frames(part):
    """A video as one part for each frame."""
    return [part] if isinstance(part, int) else [(1, *part[1:])] * part[0]


def both(model, sees, draw, seconds_known):
    """A batch for transformers and for us: positions and deltas of each."""
    merge, per_second = draw.choice([1, 2, 3]), draw.choice([1, 2, 4, 25])
    rows = [draw_row(draw, merge, sees) for _ in range(draw.randrange(1, 5))]
    images = [grid for _, found, _ in rows for grid in found]
    videos = [grid for *_, found in rows for grid in found]
    if sees == "merged":
        videos = [(2 * t, h, w) for t, h, w in videos]
    # At 25 and 50 frames a second, products in float64 would be truncated to other integers.
    seconds = torch.tensor([2 / draw.choice([0.7, 1, 2, 24, 25, 29.97, 50]) for _ in videos])
    steps = iter(seconds.tolist() if seconds_known else [1] * len(videos))

    side = draw.choice(["left", "right", "mixed"])
    length = max(len(types) for types, *_ in rows) + draw.randrange(3)
    all_types, mask, ours, deltas = [], [], [], []
    for types, own_images, own_videos in rows:
        free = length - len(types)
        before = {"left": free, "right": 0, "mixed": draw.randint(0, free)}[side]
        padding = (before, free - before)
        all_types.append([0] * padding[0] + types + [0] * padding[1])
        mask.append([0] * padding[0] + [1] * len(types) + [0] * padding[1])
        if sees == "timed":
            own_videos = [
                (positions.time_axis(t, per_second * step, truncate=True), h, w)
                for (t, h, w), step in zip(own_videos, steps, strict=False)
            ]
        if sees == "newlines":
            own_images, own_videos = (
                [(t, h, w + merge) for t, h, w in found] for found in (own_images, own_videos)
            )
        parts = positions.text_image_parts(
            types, images=own_images, videos=own_videos, merge=merge, frames_apart=sees == "apart"
        )
        if sees == "newlines":
            parts = [one for part in parts for one in frames(part)]
        made, after = positions.text_image_positions(parts, merge=merge, padding=padding, xp=torch)
        ours.append(made)
        deltas.append([after - len(types)])

    theirs = model.get_rope_index(
        stub(model, merge, per_second),
        torch.ones(len(rows), length, dtype=torch.int64),
        torch.tensor(all_types),
        torch.tensor(images) if images else None,
        torch.tensor(videos) if videos else None,
        attention_mask=torch.tensor(mask),
        **({"second_per_grid_ts": seconds} if seconds_known else {}),
    )
    return theirs, (torch.stack(ours, dim=1), torch.tensor(deltas))


def text_and_vision(name):
    kind, sees = MODELS[name]
    model = getattr(importlib.import_module(f"transformers.models.{name}.modeling_{name}"), kind)
    draw, tokens = random.Random(20211), 0
    for n in range(BATCHES):
        theirs, ours = both(model, sees, draw, sees == "timed" and n % 4 > 0)
        if not all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True)):
            return f"MISMATCH in batch {n}"
        tokens += ours[0][0].numel()
    return f"{BATCHES} batches equal, {tokens} tokens, padding included"


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
            axes = positions.normalized_axis(h), positions.normalized_axis(w)
            ours = positions.grid_positions(*axes, xp=torch)
            worst = max(worst, float((ours - theirs).abs().max()))
    return f"{'MISMATCH, ' if worst > 2**-23 else ''}{worst:.1e} apart"


def main():
    checks = {name: partial(text_and_vision, name) for name in MODELS}
    failed = 0
    for name, check in {**checks, "vision towers": vision_towers, "dinov3": dinov3}.items():
        result = check()
        failed += result.startswith("MISMATCH")
        print(f"{name:<40} {result}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
