"""transformers' own attention against ``rope_xp.scaling``'s query scales: ``python tests/parity/query_scales.py``.

One line per family; a mismatch fails the run. A model of one layer and random weights sees one token at
many positions: the lengths of its queries, as they reach the attention function, change by what they
are multiplied by and nothing else, because rotation keeps them. They must be those of what `layer_ropes`
gives for the same config, to 1e-5, in layers that rotate and in layers that do not; and so must be the
scale of the softmax. What YaRN's mscale_all_dim does to that scale is compared for all families, as far
as a config with the defaults of its class makes their attention. Of Llama 4, Ministral 3 and Mistral 4
the output of an attention layer with a cache is compared, too, at positions around the real lengths:
theirs beside the layer's `RoPE`, query scale and softmax factor, and `rope_xp.attention.attention`.
Angles are rounded to float32 in both: exact ones are up to 6e-4 from these at position 65536.
"""

import contextlib
import importlib
import inspect
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from transformers import AutoModel, DynamicCache
from transformers.masking_utils import create_chunked_causal_mask
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_xp._config_reader.table import known_family, read_table
from rope_xp.attention import attention as our_attention
from rope_xp.attention import causal_mask
from rope_xp.configs import layer_ropes
from rope_xp.scaling import LearnedLogScale, LogScale

TOLERANCE = 1e-5
POSITIONS = [0, 1, 2, 6, 7, 8, 13, 14, 15, 20, 99, 100, 101, 2046, 2047, 2048, 8191, 8192, 60000]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 8,
    "pad_token_id": 0,
    "head_dim": 16,
}
MOE = {
    "n_routed_experts": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
LATENT |= {"qk_rope_head_dim": 8, "num_key_value_heads": 2}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
INKLING = {"swa_num_attention_heads": 2, "swa_num_key_value_heads": 2, "swa_head_dim": 16} | MOE
INKLING |= {"unpadded_vocab_size": 8, "log_scaling_n_floor": 13, "log_scaling_alpha": 0.3}


def yarn(**options):
    given = {"original_max_position_embeddings": 7, "mscale": 1.0, "mscale_all_dim": 0.7}
    return {"rope_parameters": {**YARN, **given, **options}}


# Of each family the configs to try, each with one layer.
CASES = {
    "ministral3": [yarn(llama_4_scaling_beta=0.3), yarn(llama_4_scaling_beta=0)],
    "mistral4": [
        {**LATENT, **MOE, "first_k_dense_replace": 1, **yarn(llama_4_scaling_beta=beta)}
        for beta in (0.1, 0)
    ],
    "mistral_large4_text": [
        {**LATENT, **MOE, "no_rope_layers": [rotates], "mlp_layer_types": ["dense"], **schedule}
        for rotates in (0, 1)
        for schedule in ({}, yarn())
    ],
    "llama4_text": [
        {**MOE, "intermediate_size_mlp": 16, "no_rope_layers": [rotates], "floor_scale": 7, **flag}
        for rotates in (0, 1)
        for flag in ({}, {"attn_temperature_tuning": False})
    ],
    "beam": [{**MOE, "layer_types": [kind]} for kind in ("full_attention", "sliding_attention")],
    "inkling2_text": [{**INKLING, "layer_types": [kind]} for kind in ("hybrid", "hybrid_sliding")],
    "inkling2_loop_text": [
        {**INKLING, "layer_types": [kind]} for kind in ("hybrid", "hybrid_sliding")
    ],
}
# Llama 4 takes the place in the cache for the position.
BY_PLACE = {"llama4_text"}


# A layer of real lengths, the first of 24 positions of queries, and how many keys are before these.
REAL = {"hidden_size": 64, "num_attention_heads": 4}
OUTPUTS = [
    (model_type, {**options, **REAL}, first, n_before)
    for model_type, options, length in (
        ("ministral3", {}, 16384),
        ("mistral4", {**LATENT, **MOE, "num_key_value_heads": 4}, 8192),
        ("mistral4", {**LATENT, **MOE, "num_key_value_heads": 4, "q_lora_rank": None}, 8192),
        ("llama4_text", {**MOE, "no_rope_layers": [0], "use_qk_norm": False}, 8192),
        ("llama4_text", {**MOE, "no_rope_layers": [1], "use_qk_norm": False}, 8192),
    )
    for first, n_before in ((0, 0), (length - 12, length - 12), (4 * length - 7, 4 * length - 7))
]


class Mismatch(Exception):
    pass


def factors_of(config, attention, positions):
    """What we say, (1 or heads, seq)."""
    if config.model_type.startswith("inkling2"):  # no family: it does not rotate
        is_full = config.layer_types == ["hybrid"]
        beta = config.log_scaling_alpha if is_full else 1e-9
        return LogScale(config.log_scaling_n_floor, beta, offset=1)(positions)[None]
    ropes = layer_ropes(config.to_dict())
    softmax_factor = attention.scaling * attention_width(attention) ** 0.5
    if abs(softmax_factor / ropes.softmax_factors[0] - 1) > TOLERANCE:
        msg = f"softmax factor {ropes.softmax_factors[0]}, theirs {softmax_factor}"
        raise Mismatch(msg)
    (scale,) = ropes.query_scales
    if scale is None:
        return torch.ones(1, len(positions))
    if isinstance(scale, LearnedLogScale):
        learned = attention.softmax_scaling
        return scale(positions, learned.scale, learned.bias)[0]
    return scale(positions)[None]


def attention_width(attention):
    return getattr(attention, "qk_head_dim", None) or attention.head_dim


def queries(model, module, positions):
    """The queries of the only layer, (heads, seq, head_dim), and the layer's attention."""
    seen = []

    def record(attention, query, *args, **options):
        seen.append((query[0].detach(), attention))
        return original(attention, query, *args, **options)

    original = module.eager_attention_forward
    module.eager_attention_forward = record
    try:
        model(
            input_ids=torch.ones_like(positions)[None],
            position_ids=positions[None],
            use_cache=False,
        )
    finally:
        module.eager_attention_forward = original
    return next((q, a) for q, a in seen if type(a).__name__.endswith("Attention"))


@torch.no_grad()
def compare(model_type, overrides):
    values = {**SMALL, **overrides}
    known = CONFIG_MAPPING[model_type]
    fields = known.__dataclass_fields__
    config = known(**{name: value for name, value in values.items() if name in fields})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = AutoModel.from_config(config).float().eval()
    for parameter in model.parameters():
        parameter.normal_(0.5, 0.3)
    module = sys.modules[type(model).__module__]
    at = list(range(100)) if model_type in BY_PLACE else POSITIONS
    positions = torch.tensor(at)
    query, attention = queries(model, module, positions)
    ours = factors_of(config, attention, positions).abs()
    theirs = query.norm(dim=-1)
    theirs, ours = theirs / theirs[:, :1], (ours / ours[:, :1]).broadcast_to(theirs.shape)
    worst = float((ours / theirs - 1).abs().max())
    if not worst < TOLERANCE:
        msg = f"off by {worst:.1e}: {ours[0].tolist()}, theirs {theirs[0].tolist()}"
        raise Mismatch(msg)
    return worst, float(theirs.max())


@torch.no_grad()
def compare_outputs(model_type, overrides, first, n_before):
    """The output of an attention layer after ``n_before`` keys in its cache."""
    known = CONFIG_MAPPING[model_type]
    values = {**SMALL, **overrides}
    fields = known.__dataclass_fields__
    config = known(**{name: value for name, value in values.items() if name in fields})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    module = sys.modules[type(AutoModel.from_config(config)).__module__]
    prefix = next(n for n in vars(module) if n.endswith("RotaryEmbedding") and "Vision" not in n)
    prefix = prefix.removesuffix("RotaryEmbedding")
    layer = getattr(module, f"{prefix}Attention")(config, layer_idx=0).float().eval()
    for parameter in layer.parameters():
        parameter.normal_(0.1, 0.4)
    rotary = getattr(module, f"{prefix}RotaryEmbedding")(config)

    hidden = torch.randn(1, 24, config.hidden_size)
    before = torch.randn(1, n_before, config.hidden_size)
    positions = torch.arange(first, first + 24)[None]
    places = torch.arange(first - n_before, first)[None]
    mask = torch.arange(n_before + 24) <= torch.arange(n_before, n_before + 24)[:, None]
    cache = DynamicCache()
    if n_before:
        fill(layer, rotary, before, places, cache)
    theirs, _ = layer(
        hidden_states=hidden,
        position_embeddings=rotary(hidden, positions),
        attention_mask=torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[None, None],
        position_ids=positions,
        cache=cache,
    )

    ropes = layer_ropes(config.to_dict(), precision="float32")  # angles rounded as theirs are
    rope, (scale,), (factor,) = ropes[0], ropes.query_scales, ropes.softmax_factors
    q, k, v, rotated = split(layer, torch.cat([before, hidden], dim=1))
    every = torch.cat([places, positions], dim=1)
    if rope is not None:
        q[..., rotated], k[..., rotated] = rope(q[..., rotated], k[..., rotated], positions=every)
    ours = our_attention(
        q[:, :, n_before:],
        k,
        v,
        bias=mask,
        scale=factor * q.shape[-1] ** -0.5,
        query_scale=None if scale is None else scale(positions),
    )
    ours = layer.o_proj(ours.transpose(1, 2).reshape(1, 24, -1))
    worst = float((ours - theirs).norm() / theirs.norm())
    if not worst < TOLERANCE:
        msg = f"outputs {worst:.1e} apart"
        raise Mismatch(msg)
    largest = 1.0 if scale is None else float(scale(positions).max())
    return worst, largest


def fill(layer, rotary, tokens, where, cache):
    """Put keys of ``tokens`` into the cache without attention over all of them."""
    module = sys.modules[type(layer).__module__]
    original = module.eager_attention_forward

    def nothing(attention, query, key, value, *args, **options):
        width = getattr(attention, "v_head_dim", None) or attention.head_dim
        return query.new_zeros(1, query.shape[2], query.shape[1], width), None

    module.eager_attention_forward = nothing
    try:
        layer(
            hidden_states=tokens,
            position_embeddings=rotary(tokens, where),
            attention_mask=None,
            position_ids=where,
            cache=cache,
        )
    finally:
        module.eager_attention_forward = original


def split(layer, tokens):
    """Unrotated q, k and v of all tokens, (1, heads, seq, head_dim), and which features rotate."""
    n = tokens.shape[1]
    if not hasattr(layer, "kv_b_proj"):
        q, k, v = (
            project(tokens).view(1, n, -1, layer.head_dim).transpose(1, 2)
            for project in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
        return q, k, v, slice(None)
    if layer.q_lora_rank is None:
        q = layer.q_proj(tokens)
    else:
        q = layer.q_b_proj(layer.q_a_layernorm(layer.q_a_proj(tokens)))
    q = q.view(1, n, -1, layer.qk_head_dim).transpose(1, 2)
    widths = [layer.kv_lora_rank, layer.qk_rope_head_dim]
    latent, k_rot = layer.kv_a_proj_with_mqa(tokens).split(widths, dim=-1)
    widths = [layer.qk_nope_head_dim, layer.v_head_dim]
    kv = layer.kv_b_proj(layer.kv_a_layernorm(latent)).view(1, n, -1, sum(widths)).transpose(1, 2)
    k, v = kv.split(widths, dim=-1)
    k = torch.cat([k, k_rot[:, None].expand(-1, k.shape[1], -1, -1)], dim=-1)
    return q, k, v, slice(layer.qk_nope_head_dim, None)


def softmax_factors():
    """For every family that takes YaRN: what mscale_all_dim changes in the scale of its attention."""
    equal, without = 0, []
    for model_type in read_table().lines:
        family = known_family(model_type)
        if "yarn" not in family.rope_types or model_type not in CONFIG_MAPPING:
            continue
        file = family.source.partition(":")[0].removesuffix(".py").replace("/", ".")
        module = importlib.import_module(f"transformers.models.{file}")
        try:
            config, plain = (
                CONFIG_MAPPING[model_type](rope_parameters=full_yarn(family, gain))
                for gain in (0.7, 0.0)
            )
            scaled, unscaled = (scales_of(module, each) for each in (config, plain))
            ours = {round(f, 6) for f in layer_ropes(config.to_dict()).softmax_factors}
        except Exception:  # noqa: BLE001 - no default config, or of another kind: counted
            scaled, ours = {}, None
        theirs = {round(scaled[name] / unscaled[name], 6) for name in scaled}
        if not theirs or ours is None:
            without.append(model_type)
        elif theirs != ours:
            msg = f"{model_type}: softmax factors {ours}, theirs {theirs}"
            raise Mismatch(msg)
        else:
            equal += 1
    return f"{equal} families equal, {len(without)} not compared"


def full_yarn(family, gain):
    made = {**yarn(mscale_all_dim=gain)["rope_parameters"], "original_max_position_embeddings": 512}
    if not family.per_layer_type:
        return made
    return {name: default and dict(made) for name, default in family.rope_parameters.items()}


def scales_of(module, config):
    """The scale of each class of attention in a modeling file that a config alone can make."""
    found = {}
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if name.endswith("Attention") and kind.__module__ == module.__name__:
            with torch.device("meta"), contextlib.suppress(Exception):
                made = kind(config, layer_idx=0)
                if isinstance(getattr(made, "scaling", None), float):
                    found[name] = made.scaling
    return found


def chunks():
    """Llama 4's mask of layers that rotate is one of documents, whatever the padding is."""
    config = CONFIG_MAPPING["llama4_text"](**{**SMALL, "attention_chunk_size": 5})
    config._attn_implementation = "eager"
    for before in range(6):
        mask = torch.ones(2, 17, dtype=torch.int64)
        mask[0, :before] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        theirs = create_chunked_causal_mask(
            config, torch.zeros(2, 17, 32), mask, None, position_ids=positions
        )
        documents = torch.where(mask.bool(), positions // 5, -1)
        ours = causal_mask(positions, positions, q_documents=documents, k_documents=documents)
        seen = mask.bool()[:, None, :, None] & mask.bool()[:, None, None, :]
        if not torch.equal((theirs == 0) & seen, ours & seen):
            msg = f"llama4_text chunks MISMATCH with {before} tokens of padding"
            raise Mismatch(msg)
    return "masks equal"


def main():
    failed = 0
    for model_type in sys.argv[1:] or CASES:
        for overrides in CASES[model_type]:
            try:
                worst, largest = compare(model_type, overrides)
            except Mismatch as error:
                failed += 1
                print(f"{model_type:<20} MISMATCH {error}")
            else:
                print(f"{model_type:<20} up to {largest:.3f}, off by {worst:.0e}")
    for model_type, overrides, first, n_before in OUTPUTS:
        if sys.argv[1:] and model_type not in sys.argv[1:]:
            continue
        name = f"{model_type} from {first}"
        try:
            worst, largest = compare_outputs(model_type, overrides, first, n_before)
        except Mismatch as error:
            failed += 1
            print(f"{name:<25} MISMATCH {error}")
        else:
            print(f"{name:<25} outputs {worst:.0e} apart, scale up to {largest:.3f}")
    if not sys.argv[1:]:
        try:
            print(f"{'llama4_text chunks':<20} {chunks()}")
            print(f"{'softmax factors':<20} {softmax_factors()}")
        except Mismatch as error:
            failed += 1
            print(error)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
