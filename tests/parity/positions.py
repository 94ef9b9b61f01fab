"""transformers' own positions against ``rope_xp.positions``: ``python tests/parity/positions.py``.

One line per model, or for those that are named; a mismatch fails the run. Integer positions must be equal, DINOv3's within one
float32 rounding of 1. The text with vision is random: batches of rows with several images and videos,
padded left, right or not at all; for Qwen-Omni also with audio, and with videos that have their sound,
whose tokens come in the order in which the model's processor writes them.

Positions of Qwen3-Omni are float32: equal where they are binary fractions of few digits; else within a
rounding or two, because transformers rounds after every run, and markers are runs to it. Its processor
orders the tokens of a video with sound by float64, so at some frame rates a few of them are in another
order than that of the positions; these are counted.
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
    "qwen3_5_moe": ("Qwen3_5MoeModel", "apart"),
    "qwen4_exp": ("Qwen4ExpModel", "apart"),
    "cosmos3_edge": ("Cosmos3EdgeModel", "apart"),
    "cosmos3_omni": ("Cosmos3OmniModel", "apart"),
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


# The prefix of the classes, positions per second, and what a position is.
OMNI = {
    "qwen2_5_omni": ("Qwen2_5Omni", 25, torch.int64),
    "qwen3_omni_moe": ("Qwen3OmniMoe", 13.0, torch.float32),
}
VISION, AUDIO, END_OF_VISION, END_OF_AUDIO = range(4, 8)  # markers; other tokens are their types


def omni_classes(name):
    prefix = OMNI[name][0]
    models = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    processors = importlib.import_module(f"transformers.models.{name}.processing_{name}")
    model = getattr(models, f"{prefix}PreTrainedModelForConditionalGeneration")
    lengths = processors._get_feat_extract_output_lengths
    return (
        model,
        getattr(models, f"{prefix}TalkerForConditionalGeneration"),
        (
            getattr(processors, f"{prefix}Processor"),
            lengths,
        ),
    )


def omni_stub(model, merge, rate, chunk_seconds):
    own = SimpleNamespace(spatial_merge_size=merge)
    own.config = SimpleNamespace(
        image_token_id=1,
        video_token_id=2,
        audio_token_id=3,
        vision_start_token_id=VISION,
        audio_start_token_id=AUDIO,
        position_id_per_seconds=rate,
        seconds_per_chunk=chunk_seconds,
        audio_config=SimpleNamespace(n_window=50),
    )
    for name in ("get_llm_pos_ids_for_vision", "get_chunked_index"):
        setattr(own, name, getattr(model, name).__get__(own))
    return own


def mixed_tokens(processor, grid, step, n_audio, merge, rate, chunk_seconds):
    """Tokens of a video with sound as the processor writes them, with the audio's two markers."""
    own = SimpleNamespace(
        audio_bos_token=chr(AUDIO),
        audio_eos_token=chr(END_OF_AUDIO),
        video_token=chr(2),
        audio_token=chr(3),
        video_processor=SimpleNamespace(merge_size=merge),
    )
    own.get_chunked_index = processor.get_chunked_index.__get__(own)
    text = processor.replace_video_with_audio_token(
        own,
        {"video_grid_thw": [grid], "video_second_per_grid": [step]},
        0,
        {"num_audio_tokens": [n_audio]},
        0,
        position_id_per_seconds=rate,
        seconds_per_chunk=chunk_seconds,
    )
    return [ord(token) for token in text]


def omni_row(draw, classes, merge, rate, chunk_seconds, sound, steps_from):
    """Tokens of a row; its images, its videos with their steps, the lengths of its audio."""
    processor, lengths = classes
    tokens, images, videos, steps, audio = [0] * draw.randrange(4), [], [], [], []
    for _ in range(draw.randrange(6)):
        kind = draw.choice(["image", "video", "audio"])
        h, w = (merge * draw.randrange(1, 8) for _ in range(2))
        if kind == "image":
            images.append((1, h, w))
            tokens += [VISION, *[1] * (h * w // merge**2), END_OF_VISION]
        if kind == "audio" or (kind == "video" and sound):
            audio.append(draw.choice([draw.randrange(3, 60), draw.randrange(3, 3000)]))
            n = int(lengths(torch.tensor(audio[-1])))
        if kind == "audio":
            tokens += [AUDIO, *[3] * n, END_OF_AUDIO]
        if kind == "video":
            t = draw.randrange(1, 30)
            videos.append((t, h, w))
            steps.append(draw.choice(steps_from))
            frames = [2] * (t * h * w // merge**2)
            if sound:
                frames = mixed_tokens(
                    processor, videos[-1], steps[-1], n, merge, rate, chunk_seconds
                )
            tokens += [VISION, *frames, END_OF_VISION]
        tokens += [0] * draw.choice([0, 0, draw.randrange(1, 300)])
    return tokens or [0], images, videos, steps, audio


def omni_batch(name, draw, steps_from):
    """A batch for transformers and for us: positions and deltas, as far as rows are not padding."""
    model, talker, classes = omni_classes(name)
    dtype = OMNI[name][2]
    merge = draw.choice([1, 2, 3])
    rate = draw.choice([OMNI[name][1], 25, 13.0, 4])
    chunk_seconds = draw.choice([2, 1, 0.5, 3.3])
    chunk = int(rate * chunk_seconds) if name == "qwen2_5_omni" else None
    sound = draw.random() < 0.7
    rows = [
        omni_row(draw, classes, merge, rate, chunk_seconds, sound, steps_from)
        for _ in range(draw.randrange(1, 4))
    ]
    images, videos, steps, audio = ([one for row in rows for one in row[i]] for i in range(1, 5))

    side = draw.choice(["left", "right", "mixed"])
    length = max(len(tokens) for tokens, *_ in rows) + draw.randrange(3)
    all_tokens, mask, ours, deltas, misplaced = [], [], [], [], 0
    for tokens, own_images, own_videos, own_steps, _ in rows:
        free = length - len(tokens)
        before = {"left": free, "right": 0, "mixed": draw.randint(0, free)}[side]
        padding = (before, free - before)
        all_tokens.append([0] * padding[0] + tokens + [0] * padding[1])
        mask.append([0] * padding[0] + [1] * len(tokens) + [0] * padding[1])
        timed = [
            (positions.time_axis(t, step, rate=rate, truncate=chunk is not None), h, w)
            for (t, h, w), step in zip(own_videos, own_steps, strict=True)
        ]
        types = [token if token <= 3 else 0 for token in tokens]
        parts = positions.text_image_parts(types, images=own_images, videos=timed, merge=merge)
        options = {
            "merge": merge,
            "advance": "max",
            "chunk": chunk,
            "padding": padding,
            "xp": torch,
        }
        made, after = positions.text_image_positions(parts, dtype=dtype, **options)
        found = positions.text_image_types(parts, **options)[padding[0] : length - padding[1]]
        wanted = torch.tensor(types)
        misplaced += int(
            ((found == 3) != (wanted == 3)).sum() + ((found == 0) != (wanted == 0)).sum()
        )
        ours.append(made)
        deltas.append([after - len(tokens)])

    mask = torch.tensor(mask)
    theirs, their_deltas = draw.choice([model, talker]).get_rope_index(
        omni_stub(model, merge, rate, chunk_seconds),
        torch.tensor(all_tokens),
        torch.tensor(images) if images else None,
        torch.tensor(videos) if videos else None,
        attention_mask=mask,
        use_audio_in_video=sound,
        audio_seqlens=torch.tensor(audio),
        second_per_grids=torch.tensor(steps),
    )
    seen = mask.bool()
    ours = torch.stack(ours, dim=1)
    text_only = not images and not videos  # then their deltas are those of a text
    return (
        (theirs[:, seen].to(dtype), ours[:, seen]),
        (their_deltas.to(dtype), torch.tensor(deltas, dtype=dtype)),
        misplaced,
        text_only,
    )


def omni(name, exact):
    """With times of which float32 holds all sums, or with others."""
    draw, tokens, misplaced, worst = random.Random(20211), 0, 0, 0.0
    rates = [0.5, 1, 2, 4] if exact else [0.7, 1, 2, 3, 10, 24, 25, 29.97, 30, 50]
    for n in range(BATCHES):
        pair, deltas, wrong, text_only = omni_batch(name, draw, [2 / fps for fps in rates])
        tokens += pair[0][0].numel()
        misplaced += wrong
        for theirs, ours in (pair,) if text_only else (pair, deltas):
            apart = float((theirs - ours).abs().max())
            largest = max(float(pair[0].max()), 1.0)
            worst = max(worst, apart / largest)
        if worst > (0 if exact or name == "qwen2_5_omni" else 2**-22):
            return f"MISMATCH in batch {n}, {worst:.1e} apart"
    order = f"{misplaced} of other types than the processor's"
    if misplaced and exact:
        order = f"MISMATCH, {order}"
    return f"{BATCHES} batches within {worst:.1e}, {tokens} tokens, {order}"


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


def main(names):
    checks = {name: partial(text_and_vision, name) for name in MODELS}
    for name in OMNI:
        checks[name] = partial(omni, name, exact=True)
        checks[f"{name}, any frame rate"] = partial(omni, name, exact=False)
    failed = 0
    for name, check in {**checks, "vision towers": vision_towers, "dinov3": dinov3}.items():
        if names and name.split(",")[0] not in names:
            continue
        result = check()
        failed += "MISMATCH" in result
        print(f"{name:<40} {result}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
