"""transformers' own relative encodings against ``rope_xp.relative``: ``python tests/parity/relative.py``.

One line per function; a mismatch fails the run. Buckets must be equal, biases within one float32
rounding, scores within 1e-5.
"""

import os
import random
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from transformers import Wav2Vec2BertConfig, XLNetConfig, XLNetModel
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as build_falcon_alibi
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from rope_xp import relative, sinusoidal

HEADS = [*range(1, 65), 71, 96, 112, 128]


def t5_bucket():
    """Distances to ±5000, the usual settings and 1000 random ones."""
    draw = random.Random(20211)
    cases = [
        (each * 2, far, both)
        for each in (2, 3, 4, 5, 8, 10, 16, 17, 32, 64, 128)
        for far in (17, 20, 64, 100, 127, 128, 129, 256, 333, 1024, 8192, 10**6)
        for both in (True, False)
    ]
    cases += [(2 * draw.randrange(2, 150), draw.randrange(2, 6000), True) for _ in range(500)]
    cases += [(draw.randrange(2, 300), draw.randrange(2, 6000), False) for _ in range(500)]
    steps, runs = torch.arange(-5000, 5001), 0
    for buckets, far, both in cases:
        if far <= (buckets // 4 if both else buckets // 2):
            continue  # transformers divides by zero or takes the logarithm of less than one
        theirs = T5Attention._relative_position_bucket(steps, both, buckets, far)
        options = {"bidirectional": both, "num_buckets": buckets, "max_distance": far}
        if not torch.equal(relative.t5_bucket(steps, **options), theirs):
            return f"MISMATCH with {options}"
        runs += 1
    return f"{runs} settings equal"


def close(ours, theirs, rtol=0.0, atol=0.0):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    return float((ours - theirs).abs().max())


def alibi_bias_key():
    """BLOOM's: slope · key position, also in padded rows (positions are the running sum of the mask)."""
    mask = torch.tensor([[1] * 40, [0] * 15 + [1] * 25])
    at = (mask.cumsum(-1) - 1) * mask
    worst = 0.0
    for n in HEADS:
        ours = relative.alibi_bias(at[:, -1:], at, n, form="key")  # (2, n, 1, 40)
        theirs = build_alibi_tensor(mask, n, torch.float32)
        worst = max(worst, close(ours.reshape(theirs.shape), theirs, rtol=1e-6))
    return f"{len(HEADS)} head counts, {worst:.1e} apart"


def alibi_bias_distance():
    """MPT's, of every `alibi_bias_max`: the last query's distances, under a causal mask those of all."""
    worst, runs = 0.0, 0
    for n, top in ((n, top) for n in HEADS for top in (8, 16, 4, 5.5)):
        ours = relative.alibi_bias(torch.tensor([39]), torch.arange(40), n, bias_max=top)
        theirs = build_mpt_alibi_tensor(n, 40, alibi_bias_max=top)
        worst, runs = max(worst, close(ours, theirs, rtol=2e-6)), runs + 1
        ranks = [range(r, n, 3) for r in range(min(n, 3))]
        for heads in ranks:
            options = {"bias_max": top, "heads": heads}
            some = relative.alibi_bias(torch.tensor([39]), torch.arange(40), n, **options)
            assert torch.equal(some, ours[heads])
    return f"{runs} settings, {worst:.1e} apart"


def alibi_bias_of_falcon():
    """Falcon-RW's: slopes and products in bfloat16; its code then scales the bias as the scores."""
    mask = torch.tensor([[1] * 40, [0] * 15 + [1] * 25])
    at = (mask.cumsum(-1) - 1) * mask
    for n in HEADS:
        theirs = build_falcon_alibi(mask, n, torch.float32).reshape(2, n, 1, 40)
        slopes = relative.alibi_slopes(n, xp=torch, dtype=torch.bfloat16)
        options = {"slopes": slopes, "form": "key"}
        ours = relative.alibi_bias(at[:, -1:], at, n, dtype=torch.bfloat16, **options)
        assert torch.equal(ours.float(), theirs)
        scaled = relative.alibi_bias(at[:, -1:], at, n, **{**options, "slopes": slopes / 8})
        close(scaled, theirs / 64**0.5, rtol=2**-8)
    return f"{len(HEADS)} head counts equal"


def transformer_xl_score():
    """XLNet's core, with its sinusoidal rows, which have one more at the beginning."""
    config = XLNetConfig(d_model=32, n_head=2, n_layer=1, d_inner=8, vocab_size=8, dropout=0.0)
    core, model, worst = XLNetRelativeAttention(config), XLNetModel(config), 0.0
    for q_len, k_len in ((5, 5), (3, 9), (1, 4)):
        q, u, v = torch.randn(2, 2, q_len, 16), *torch.randn(2, 2, 16)
        k, project = torch.randn(2, 2, k_len, 16), torch.randn(2, 32, 16)
        core.r_w_bias.data, core.r_r_bias.data = u, v
        theirs = model.relative_positional_encoding(q_len, k_len)[:, 0]  # (k_len + q_len, 32)
        own = sinusoidal(torch.arange(k_len, -q_len, -1), 32, order="sin_cos")
        close(own, theirs, atol=1e-5)
        score = relative.transformer_xl_score(q, k, theirs[1:] @ project, u, v)
        r = (theirs @ project).permute(1, 0, 2)[:, None]  # (rows, 1, heads, 16)
        q, k = (x.permute(2, 0, 1, 3) for x in (q, k))
        _, weights = core.rel_attn_core(q, k, k, r.expand(-1, 2, -1, -1), output_attentions=True)
        theirs = weights.permute(2, 3, 0, 1)
        worst = max(worst, close((score * 16**-0.5).softmax(-1), theirs, atol=1e-5))
    return f"weights {worst:.1e} apart"


def shaw_score():
    """Wav2Vec2-BERT's layer: its weights from our scores."""
    config = Wav2Vec2BertConfig(
        hidden_size=32,
        num_attention_heads=2,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=5,
        right_max_position_embeddings=5,
        attention_dropout=0.0,
    )
    layer = Wav2Vec2BertSelfAttention(config).eval()
    x, at = torch.randn(2, 20, 32), torch.arange(20)
    q, k = (f(x).reshape(2, 20, 2, 16).transpose(1, 2) for f in (layer.linear_q, layer.linear_k))
    index = relative.clipped_index(at, at, 5)
    score = relative.shaw_score(q, k, layer.distance_embedding.weight, index)
    _, weights = layer(x, output_attentions=True)
    return f"weights {close((score * 16**-0.5).softmax(-1), weights, atol=1e-5):.1e} apart"


@torch.no_grad()
def main():
    torch.manual_seed(0)
    failed = 0
    for check in (
        t5_bucket,
        alibi_bias_key,
        alibi_bias_distance,
        alibi_bias_of_falcon,
        transformer_xl_score,
        shaw_score,
    ):
        try:
            result = check()
        except AssertionError as error:
            result = "MISMATCH " + " ".join(str(error).split())
        failed += result.startswith("MISMATCH")
        print(f"{check.__name__:<40} {result}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
