"""transformers' own masks against ``rope_xp.attention``: ``python tests/parity/masks.py``.

One line per kind of mask; a mismatch fails the run. Texts, packs, images and padding are random.
"""

import os
import random
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from transformers import Gemma3TextConfig, masking_utils
from transformers.models.gemma3 import modeling_gemma3

from rope_xp.attention import attention_mask
from rope_xp.positions import Tokens

BATCHES = 100


def settings(window):
    config = Gemma3TextConfig(sliding_window=window, num_hidden_layers=1)
    config._attn_implementation = "sdpa"
    return config


def arguments(window, tokens, **given):
    made = {"attention_mask": None, "cache": None, "position_ids": None, **given}
    return {"config": settings(window), "inputs_embeds": torch.zeros(*tokens.shape, 1), **made}


def packed(draw, window):
    """Two rows of packed texts."""
    n, rows = draw.randrange(8, 30), []
    for _ in range(2):
        cuts = sorted(draw.sample(range(1, n), draw.randrange(1, 4)))
        rows.append(Tokens.packed(torch.tensor([0, *cuts, n]), n))
    tokens = Tokens(
        torch.stack([row.positions for row in rows]),
        documents=torch.stack([row.documents for row in rows]),
    )
    given = arguments(window, tokens.positions, position_ids=tokens.positions)
    yield masking_utils.create_causal_mask(**given), attention_mask(tokens)
    yield (
        masking_utils.create_sliding_window_causal_mask(**given),
        attention_mask(tokens, window=window),
    )


def padded(draw, window):
    """Rows that are padded left or right. What padding itself sees there is not compared."""
    n = draw.randrange(8, 30)
    lengths = [n, draw.randrange(1, n)]
    rows = [
        [0] * (n - m) + [1] * m if draw.random() < 0.5 else [1] * m + [0] * (n - m) for m in lengths
    ]
    mask = torch.tensor(rows)
    tokens = Tokens.padded(mask)
    given = arguments(window, mask, attention_mask=mask)
    real = mask.bool()[:, None, :, None]
    yield masking_utils.create_causal_mask(**given) & real, attention_mask(tokens)
    want = masking_utils.create_sliding_window_causal_mask(**given)
    yield want & real, attention_mask(tokens, window=window)
    want = masking_utils.create_bidirectional_sliding_window_mask(**given)
    yield want & real, attention_mask(tokens, causal=False, window=window + 1)


def image_types(draw, n):
    types = [0] * n
    for start in range(draw.randrange(1, 5), n, 7):
        size = draw.randrange(1, 6)
        types[start : start + size] = [1] * len(types[start : start + size])
    return types


def gemma3(draw, window):
    """The tokens of an image see each other, in layers with a window within it."""
    n = draw.randrange(8, 30)
    types = torch.tensor([image_types(draw, n) for _ in range(2)])
    images = modeling_gemma3.get_block_sequence_ids_for_mask(types)
    found = modeling_gemma3.create_masks_for_vision_model(
        **arguments(window, types), block_sequence_ids=images
    )
    tokens = Tokens.sequence(n, xp=torch)._replace(images=images)
    yield found["full_attention"], attention_mask(tokens)
    yield found["sliding_attention"], attention_mask(tokens, window=window)


def paligemma(draw, window):
    """The prompt is one block; beyond a window, too."""
    n = draw.randrange(8, 30)
    prompt = draw.randrange(1, n)
    images = torch.tensor([[0] * prompt + [-1] * (n - prompt)])
    given = arguments(window, images) | {"block_sequence_ids": images}
    tokens = Tokens.sequence(n, xp=torch)._replace(images=images)
    yield masking_utils.create_causal_mask(**given), attention_mask(tokens)
    both = (images[:, None, :, None] == 0) & (images[:, None, None, :] == 0)
    mine = attention_mask(tokens, window=window) | both
    yield masking_utils.create_sliding_window_causal_mask(**given), mine


def main():
    failed = False
    for kind in (packed, padded, gemma3, paligemma):
        draw, n, wrong = random.Random(0), 0, 0
        for _ in range(BATCHES):
            for want, got in kind(draw, draw.randrange(1, 12)):
                n += 1
                wrong += not torch.equal(*torch.broadcast_tensors(want, got))
        failed |= wrong > 0
        print(f"{kind.__name__:12} {n} masks, {wrong} different")
    return failed


if __name__ == "__main__":
    sys.exit(main())
