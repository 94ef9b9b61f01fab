"""llama.cpp itself against ``rope_xp``: ``python tests/parity/llama_cpp.py [words of the cases' names]``.

Each case is a small random GGUF file. llama.cpp runs it; so does a NumPy decoder
(`llama_cpp_reference`) that asks ``configs.layer_ropes`` for the rotary encoding of each layer. The
logits must agree, and a case must be able to tell: with wrong encodings in their place (the other
pairing, another base in one layer, no schedule, layers alike, …) they must be far apart.

The tolerance is computed, not chosen. llama.cpp works in float32, and its angles come from a product
that grows by one float32 factor per pair. The decoder in float32, with every angle off by as much as
that product can be, up or down, moves the logits by some amount from those in float64: that is what
such arithmetic does to this file, and `SLACK` times that is allowed, since other sums round otherwise.
"""

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import llama_cpp_binary
import numpy as np
from llama_cpp_reference import LLAMA, Decoder, Graph, Sizes, weights

from rope_xp.configs import layer_ropes

N = 200  # tokens
SLACK = 2  # of the change that float32 makes, the larger of two tries
FAR = 20  # tolerances between the logits of right and of wrong encodings, at least


PLAIN, USUAL = Graph(), Sizes()


@dataclass(frozen=True)
class Case:
    """A GGUF file to write: architecture, keys after its name, tensors; and how to run it."""

    name: str
    arch: str
    keys: dict = field(default_factory=dict)
    tensors: str = LLAMA  # of each layer
    graph: Graph = PLAIN
    sizes: Sizes = USUAL
    others: str = "token_embd output_norm output"
    factors: dict = field(default_factory=dict)  # tensors of frequency factors
    shapes: dict = field(default_factory=dict)
    start: int = 0  # the first token's position
    n_ctx: int = 256
    own: dict = field(default_factory=dict)  # layers that have other tensors
    axes: bool = False  # embeddings at positions in time, row and column

    def metadata(self):
        """All keys of the file, with their values."""
        s = self.sizes
        keys = {
            "block_count": s.layers,
            "context_length": 4096,
            "embedding_length": s.width,
            "feed_forward_length": s.mlp,
            "attention.head_count": s.heads,
            "attention.head_count_kv": s.kv_heads,
            "attention.layer_norm_rms_epsilon": np.float32(1e-5),
            "rope.freq_base": 10000.0,
            "rope.dimension_count": s.head_dim,
            "vocab_size": s.vocab,
        }
        if self.graph.mean_removed:
            keys["attention.layer_norm_epsilon"] = keys.pop("attention.layer_norm_rms_epsilon")
        if s.heads * s.head_dim != s.width:
            keys |= {"attention.key_length": s.head_dim, "attention.value_length": s.head_dim}
        keys = {k: v for k, v in (keys | self.keys).items() if v is not None}
        known = {k if "xielu" in k else f"{self.arch}.{k}": v for k, v in keys.items()}
        return {"general.architecture": self.arch, "tokenizer.ggml.model": "no_vocab", **known}

    def weights(self):
        layers = [self.own.get(i, self.tensors) for i in range(self.sizes.layers)]
        made = weights(layers, self.others, self.sizes, len(self.name), **self.shapes)
        return made | {k: np.asarray(v, np.float32) for k, v in self.factors.items()}

    def positions(self, random):
        at = np.arange(self.start, self.start + N)
        if not self.axes:
            return at
        return np.stack([at, *random.integers(0, 90, (2, N)), np.zeros(N, int)])


def write(path, case, tensors):
    writer = gguf.GGUFWriter(path, case.arch)
    for key, value in case.metadata().items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_float32(key, float(value))
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- the cases -------------------------------------------------------------------------------------


def less(names, *gone):
    return " ".join(n for n in names.split() if n not in gone)


Q_K_V_BIAS = " attn_q.bias attn_k.bias attn_v.bias"
Q_K_NORM = " attn_q_norm attn_k_norm"
POST_NORMS = " post_attention_norm post_ffw_norm"
NORM_BIAS = " attn_norm.bias ffn_norm.bias"
TIED = "token_embd output_norm"
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0}
YARN |= {"rope.scaling.original_context_length": 512}
OLMO2 = less(LLAMA, "attn_norm", "ffn_norm") + Q_K_NORM + POST_NORMS
EXAONE4 = OLMO2
ACROSS = {"attn_q_norm": (128,), "attn_k_norm": (64,)}
XIELU = "alpha_n", "alpha_p", "beta", "eps"
STEP = np.geomspace(1, 8, 16)  # what Llama 3's rule looks like in rope_freqs.weight


def window(size, dense):
    """Sees ``size`` tokens, but in every ``dense``-th layer all."""
    return lambda layer, q, k: (q - k < size) | (layer % dense == dense - 1)


def chunk(size, dense):
    return lambda layer, q, k: (q // size == k // size) | (layer % dense == dense - 1)


GEMMA = Graph(embedding_scale=128**0.5)
LAYER_NORM = Graph(mean_removed=True)
FUSED = less(LLAMA, "attn_q", "attn_k", "attn_v") + " attn_qkv"
EXPERTS = "ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
MOE = less(LLAMA, "ffn_gate", "ffn_up", "ffn_down") + f" {EXPERTS}"
EXPERT_KEYS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32}
LOCAL = {"attention.sliding_window": 48}
HALVED = {"rope.dimension_count": 16}
LONG = {"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.19}
LONG_FACTORS = {
    "rope_factors_short.weight": np.linspace(1, 1.5, 16),
    "rope_factors_long.weight": np.geomspace(1, 30, 16),
}
PHI3 = {
    "tensors": less(FUSED, "ffn_gate"),
    "shapes": {"ffn_up": (64, 128)},
    "factors": LONG_FACTORS,
}
LATENT = less(LLAMA, "attn_k", "attn_v") + " attn_kv_a_mqa attn_kv_a_norm"
LATENT_KEYS = {
    "attention.q_lora_rank": 0,
    "attention.kv_lora_rank": 48,
    "attention.key_length": 32,
    "attention.value_length": 24,
    "attention.head_count_kv": 4,
    "leading_dense_block_count": 4,
    "expert_shared_count": 1,
    **EXPERT_KEYS,
    **HALVED,
}
LATENT_SHAPES = {"attn_output": (128, 96)}
ABSORBED = {
    "attention.key_length": 64,
    "attention.value_length": 48,
    "attention.key_length_mla": 32,
    "attention.value_length_mla": 24,
    "attention.head_count_kv": 1,
}
SECTIONS = {"rope.dimension_sections": [6, 5, 5, 0], "rope.freq_base": 1e6}


def temperature(length, scale, offset, layers):
    """Llama 4's: queries far into the text count more, in some layers."""
    return lambda i, at: (
        1 + scale * np.log(np.floor((at + offset) / length) + 1) if layers(i) else 1.0
    )


CASES = [
    Case("llama", "llama"),
    Case("llama, no base in the file", "llama", {"rope.freq_base": None}),
    Case(
        "llama, rope_freqs", "llama", {"rope.freq_base": 5e5}, factors={"rope_freqs.weight": STEP}
    ),
    Case("llama, linear", "llama", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    Case("llama, a factor without type", "llama", {"rope.scaling.factor": 4.0}),
    Case("llama, scale_linear", "llama", {"rope.scale_linear": 4.0}),
    Case(
        "llama, rope_freqs and linear",
        "llama",
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        factors={"rope_freqs.weight": STEP},
    ),
    Case("llama, yarn", "llama", YARN),
    Case("llama, yarn with attn_factor", "llama", YARN | {"rope.scaling.attn_factor": 1.25}),
    Case(
        "llama, longrope, short",
        "llama",
        LONG | {"rope.scaling.type": "longrope"},
        factors=LONG_FACTORS,
    ),
    Case(
        "llama, longrope, long",
        "llama",
        LONG | {"rope.scaling.type": "longrope"},
        factors=LONG_FACTORS,
        n_ctx=768,
    ),
    Case("qwen2", "qwen2", {"rope.freq_base": 1e6}, LLAMA + Q_K_V_BIAS),
    Case("qwen2, yarn", "qwen2", YARN, LLAMA + Q_K_V_BIAS),
    Case("qwen3", "qwen3", {"rope.freq_base": 1e6}, LLAMA + Q_K_NORM),
    Case("gemma", "gemma", {}, LLAMA, GEMMA, others=TIED),
    Case(
        "gemma2",
        "gemma2",
        LOCAL | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 30.0},
        LLAMA + POST_NORMS,
        replace(GEMMA, softcap=5.0, final_softcap=30.0, visible=window(48, 2)),
        others=TIED,
    ),
    Case(
        "gemma3, no local base in the file",
        "gemma3",
        LOCAL | {"rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=window(48, 6)),
        Sizes(layers=7),
    ),
    Case(
        "gemma3, local base and pattern",
        "gemma3",
        LOCAL
        | {"rope.freq_base": 1e6, "rope.freq_base_swa": 20000.0}
        | {"attention.sliding_window_pattern": [True, False, True, True]},
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=lambda i, q, k: (q - k < 48) | (i == 1)),
    ),
    Case("phi3, within the original context", "phi3", LONG, **PHI3),
    Case("phi3, beyond the original context", "phi3", LONG, n_ctx=768, **PHI3),
    Case(
        "phi3, three quarters of a head",
        "phi3",
        LONG | {"rope.dimension_count": 24},
        n_ctx=768,
        **PHI3 | {"factors": {k: v[:12] for k, v in LONG_FACTORS.items()}},
    ),
    Case(
        "llama4",
        "llama4",
        EXPERT_KEYS | {"expert_count": 16, "interleave_moe_layer_step": 0, "rope.freq_base": 5e5},
        graph=Graph(
            visible=chunk(8192, 4),
            norm_of_rotated=True,
            query_scale=temperature(8192, 0.1, 1, lambda i: i % 4 == 3),
        ),
        sizes=Sizes(layers=5),
        factors={"rope_freqs.weight": STEP},
        start=8100,
    ),
    Case("smollm3", "smollm3", {"rope.freq_base": 5e6}, sizes=Sizes(layers=5)),
    Case(
        "cohere2",
        "cohere2",
        LOCAL | {"logit_scale": 0.25, "rope.freq_base": 50000.0},
        less(LLAMA, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25, visible=window(48, 4)),
        Sizes(layers=5),
        TIED,
    ),
    Case(
        "command-r",
        "command-r",
        {"logit_scale": 0.25, "rope.freq_base": 8e6},
        less(LLAMA, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25),
        others=TIED,
    ),
    Case("deepseek2, joint", "deepseek2", LATENT_KEYS, f"{LATENT} attn_kv_b", shapes=LATENT_SHAPES),
    Case(
        "deepseek2, joint, yarn with log multiplier",
        "deepseek2",
        LATENT_KEYS | YARN | {"rope.scaling.yarn_log_multiplier": 0.0707},
        f"{LATENT} attn_kv_b",
        shapes=LATENT_SHAPES,
    ),
    Case(
        "deepseek2, absorbed, yarn with log multiplier",
        "deepseek2",
        LATENT_KEYS | ABSORBED | YARN | {"rope.scaling.yarn_log_multiplier": 0.1},
        f"{LATENT} attn_k_b attn_v_b",
        shapes=LATENT_SHAPES,
    ),
    Case(
        "olmo",
        "olmo",
        {"attention.clamp_kqv": None},
        less(LLAMA, "attn_norm", "ffn_norm"),
        Graph(mean_removed=True, bare_norms=True),
        others="token_embd output",
    ),
    Case("olmo2", "olmo2", {"rope.freq_base": 5e5}, OLMO2, shapes=ACROSS),
    Case("olmo2, yarn", "olmo2", YARN, OLMO2, shapes=ACROSS),
    Case(
        "olmo2, window, yarn",
        "olmo2",
        LOCAL | YARN | {"rope.freq_base": 5e5},
        OLMO2,
        Graph(visible=window(48, 4)),
        Sizes(layers=5),
        shapes=ACROSS,
    ),
    Case(
        "exaone4, all rotate",
        "exaone4",
        {"rope.freq_base": 1e6},
        EXAONE4,
        factors={"rope_freqs.weight": STEP},
    ),
    Case(
        "exaone4, 64 layers",
        "exaone4",
        LOCAL | {"rope.freq_base": 1e6},
        EXAONE4,
        Graph(visible=window(48, 4)),
        Sizes(layers=64),
        factors={"rope_freqs.weight": STEP},
    ),
    Case(
        "gpt-oss",
        "gpt-oss",
        LOCAL
        | YARN
        | EXPERT_KEYS
        | {"rope.freq_base": 150000.0, "attention.key_length": 32, "attention.value_length": 32},
        f"attn_norm attn_q attn_k attn_v attn_output attn_sinks post_attention_norm {EXPERTS}"
        " attn_q.bias attn_k.bias attn_v.bias attn_output.bias ffn_gate_inp.bias"
        " ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        Graph(post_norm=False, visible=window(48, 2)),
    ),
    Case(
        "glm4", "glm4", HALVED, less(LLAMA, "ffn_gate") + POST_NORMS, shapes={"ffn_up": (64, 128)}
    ),
    Case(
        "chatglm",
        "chatglm",
        HALVED | {"rope.freq_base": 500000.0},
        less(LLAMA, "ffn_gate") + Q_K_V_BIAS,
        shapes={"ffn_up": (64, 128)},
    ),
    Case(
        "stablelm",
        "stablelm",
        HALVED,
        LLAMA + NORM_BIAS + Q_K_NORM,
        LAYER_NORM,
        others="token_embd output_norm output_norm.bias output",
        shapes={"attn_q_norm": (4, 32), "attn_k_norm": (2, 32)},
    ),
    Case(
        "gptneox",
        "gptneox",
        HALVED | {"use_parallel_residual": True},
        less(FUSED, "ffn_gate")
        + f"{NORM_BIAS} attn_qkv.bias attn_output.bias ffn_up.bias ffn_down.bias",
        LAYER_NORM,
        Sizes(kv_heads=4),
        "token_embd output_norm output_norm.bias output",
    ),
    # llama.cpp does not read the epsilon of this architecture: it is 0.
    Case("qwen2vl, text", "qwen2vl", SECTIONS, LLAMA + Q_K_V_BIAS, Graph(epsilon=0.0)),
    Case("qwen2vl, images", "qwen2vl", SECTIONS, LLAMA + Q_K_V_BIAS, Graph(epsilon=0.0), axes=True),
    Case("qwen3vl, images", "qwen3vl", SECTIONS, LLAMA + Q_K_NORM, axes=True),
    Case(
        "minicpm",
        "minicpm",
        {"embedding_scale": 12.0, "residual_scale": 0.7, "logit_scale": 2.0},
        graph=Graph(embedding_scale=12.0, residual_scale=0.7, logit_scale=0.5),
    ),
    Case(
        "granite",
        "granite",
        {
            "embedding_scale": 6.0,
            "residual_scale": 0.7,
            "logit_scale": 2.0,
            "attention.scale": 0.25,
        },
        graph=Graph(embedding_scale=6.0, residual_scale=0.7, logit_scale=0.5, softmax_scale=0.25),
    ),
    Case("ernie4_5", "ernie4_5", {"rope.freq_base": 500000.0}),
    Case("hunyuan-dense", "hunyuan-dense", {}, LLAMA + Q_K_NORM, Graph(norm_after_rotation=True)),
    Case(
        "nemotron",
        "nemotron",
        HALVED,
        less(LLAMA, "ffn_gate") + NORM_BIAS,
        LAYER_NORM,
        others="token_embd output_norm output_norm.bias output",
    ),
    Case(
        "apertus",
        "apertus",
        {"rope.freq_base": 12e6, **{f"xielu.{k}": [0.5] * 4 for k in XIELU}},
        less(LLAMA, "ffn_gate") + Q_K_NORM,
        factors={"rope_freqs.weight": STEP},
    ),
    Case(
        "seed_oss",
        "seed_oss",
        {"rope.freq_base": 1e7},
        less(LLAMA, "ffn_norm") + Q_K_V_BIAS + " post_attention_norm",
        Graph(post_norm=False),
    ),
    Case(
        "starcoder2",
        "starcoder2",
        {"rope.freq_base": 1e6},
        less(LLAMA, "ffn_gate")
        + NORM_BIAS
        + Q_K_V_BIAS
        + " attn_output.bias ffn_up.bias ffn_down.bias",
        LAYER_NORM,
        others="token_embd output_norm output_norm.bias output",
    ),
    Case(
        "mimo2",
        "mimo2",
        LOCAL
        | EXPERT_KEYS
        | {"attention.sliding_window_pattern": [False, True, True, False]}
        | {"rope.freq_base": 5e6, "rope.freq_base_swa": 10000.0}
        | HALVED,
        LLAMA + " attn_sinks",
        Graph(visible=lambda i, q, k: (q - k < 48) | (i in {0, 3})),
    ),
    Case(
        "step35",
        "step35",
        LOCAL
        | EXPERT_KEYS
        | {"attention.sliding_window_pattern": [False, True, True, False]}
        | {"rope.freq_base": 5e6, "rope.freq_base_swa": 10000.0},
        LLAMA + Q_K_NORM,
        Graph(visible=lambda i, q, k: (q - k < 48) | (i in {0, 3})),
    ),
    Case(
        "laguna",
        "laguna",
        LOCAL
        | YARN
        | HALVED
        | EXPERT_KEYS
        | {"rope.freq_base": 500000.0, "rope.freq_base_swa": 10000.0}
        | {"rope.dimension_count_swa": 32, "leading_dense_block_count": 5}
        | {"expert_shared_feed_forward_length": 32},
        LLAMA + Q_K_NORM + " attn_gate",
        Graph(value_scale=np.log(2), visible=lambda i, q, k: (q - k < 48) | (i % 4 == 0)),
        Sizes(layers=5),
    ),
    Case(
        "mistral3",
        "mistral3",
        YARN
        | {"rope.scaling.original_context_length": 64, "rope.scaling.yarn_log_multiplier": 1.0}
        | {"rope.freq_base": 1e6, "attention.temperature_scale": 0.1},
        graph=Graph(query_scale=temperature(64, 0.1, 0, lambda i: True)),
    ),
    Case(
        "smallthinker",
        "smallthinker",
        EXPERT_KEYS
        | {"attention.sliding_window": 4096, "rope.freq_base": 1.5e6, "expert_gating_func": 2},
        MOE,
        sizes=Sizes(layers=5),
    ),
    Case(
        "exaone-moe",
        "exaone-moe",
        LOCAL
        | EXPERT_KEYS
        | {"rope.freq_base": 1e6, "leading_dense_block_count": 5, "expert_gating_func": 2},
        LLAMA + Q_K_NORM,
        Graph(visible=window(48, 4)),
        Sizes(layers=5),
    ),
    Case(
        "gemma4",
        "gemma4",
        LOCAL
        | {"rope.freq_base": 1e6, "rope.freq_base_swa": 10000.0}
        | {"attention.sliding_window_pattern": [True, True, False, True]}
        | {"attention.key_length": 32, "attention.value_length": 32, "attention.key_length_swa": 32}
        | {"attention.value_length_swa": 32, "embedding_length_per_layer_input": 0}
        | {"rope.dimension_count_swa": 32},
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(
            GEMMA,
            softmax_scale=1.0,
            final_softcap=30.0,  # llama.cpp's default
            bare_value_norm=True,
            visible=lambda i, q, k: (q - k < 48) | (i == 2),
        ),
        Sizes(q_k_norm=0.6),
        factors={"rope_freqs.weight": [1.0] * 4 + [1e30] * 12},
    ),
]


CONVOLUTION = "attn_norm shortconv.conv shortconv.in_proj shortconv.out_proj ffn_norm ffn_gate ffn_up ffn_down"
SHARED = " ffn_gate_shexp ffn_up_shexp ffn_down_shexp"
BIASED_OUTPUT = "token_embd output_norm output_norm.bias output"
DENSE = EXPERT_KEYS | {"leading_dense_block_count": 64, "expert_shared_count": 1}
DENSE |= {"expert_weights_scale": 1.0, "expert_shared_feed_forward_length": 32}
MIXED = EXPERT_KEYS | {"expert_shared_count": 1, "leading_dense_block_count": 0}
MIXED |= {"expert_shared_feed_forward_length": 32, "expert_gating_func": 2}
MIXED |= {"expert_weights_scale": 1.0}
FOUR = Sizes(kv_heads=4)
SCALES = {"embedding_scale": 6.0, "residual_scale": 0.7, "logit_scale": 2.0}
SCALED = Graph(embedding_scale=6.0, residual_scale=0.7, logit_scale=0.5)


def plain(arch, keys=None, tensors=LLAMA, graph=PLAIN, sizes=USUAL, **more):
    """A case whose name is its architecture's."""
    return Case(arch, arch, keys or {}, tensors, graph, sizes, **more)


CASES += [
    plain("arcee", {}, less(LLAMA, "ffn_gate")),
    plain("internlm2", {"rope.freq_base": 1e6}),
    plain("xverse"),
    plain("exaone", {}, factors={"rope_freqs.weight": STEP}),
    plain("ernie4_5-moe", DENSE | {"interleave_moe_layer_step": 1}),
    plain("deepseek", DENSE),
    plain("nanbeige"),
    plain("orion", {}, LLAMA + NORM_BIAS, LAYER_NORM, others=BIASED_OUTPUT),
    plain(
        "falcon",
        {},
        less(FUSED, "ffn_norm", "ffn_gate") + " attn_norm.bias",
        LAYER_NORM,
        others=BIASED_OUTPUT,
    ),
    plain(
        "codeshell",
        {},
        less(LLAMA, "ffn_gate") + NORM_BIAS + " attn_output.bias ffn_up.bias ffn_down.bias",
        LAYER_NORM,
        others=BIASED_OUTPUT,
    ),
    plain(
        "phi2",
        HALVED,
        less(LLAMA, "ffn_norm", "ffn_gate")
        + f"{Q_K_V_BIAS} attn_norm.bias attn_output.bias ffn_up.bias ffn_down.bias",
        LAYER_NORM,
        others=f"{BIASED_OUTPUT} output.bias",
    ),
    plain("qwen", {"feed_forward_length": 64}, FUSED + " attn_qkv.bias", PLAIN, FOUR),
    plain("qwen2moe", MIXED, MOE + Q_K_V_BIAS + SHARED + " ffn_gate_inp_shexp"),
    plain("qwen3moe", MIXED | {"rope.freq_base": 1e6}, MOE + Q_K_NORM),
    plain("olmoe", MIXED, MOE + Q_K_NORM, sizes=FOUR, shapes=dict.fromkeys(ACROSS, (128,))),
    plain("dots1", DENSE | {"rope.freq_base": 1e7}, LLAMA + Q_K_NORM, sizes=FOUR),
    plain("bailingmoe", MIXED, MOE + SHARED),
    plain("bailingmoe2", DENSE | HALVED | {"expert_gating_func": 2}, FUSED + Q_K_NORM),
    plain(
        "glm4moe",
        DENSE | HALVED,
        less(LLAMA, "ffn_norm") + Q_K_NORM + " post_attention_norm",
        Graph(post_norm=False),
    ),
    plain("hunyuan-moe", MIXED, MOE + SHARED + Q_K_NORM, Graph(norm_after_rotation=True)),
    plain("granitemoe", MIXED | SCALES, MOE + SHARED, SCALED),
    plain(
        "phimoe",
        MIXED | LONG,
        MOE + NORM_BIAS + " attn_output.bias",
        others=f"{BIASED_OUTPUT} output.bias",
        n_ctx=768,
        factors=LONG_FACTORS,
    ),
    plain("minimax-m2", MIXED | HALVED, MOE + Q_K_NORM + " exp_probs_b.bias", shapes=ACROSS),
    plain(
        "dbrx",
        MIXED | {"attention.clamp_kqv": 100.0},
        f"attn_norm attn_qkv attn_output attn_output_norm {EXPERTS}",
        LAYER_NORM,
        shapes={"attn_output_norm": (128,)},
    ),
    plain("bitnet", {}, LLAMA + " attn_sub_norm ffn_sub_norm", others=TIED),
    plain("maincoder", {}, LLAMA + Q_K_NORM, Graph(norm_after_rotation=True)),
    plain(
        "mellum",
        MIXED | LOCAL | YARN,
        MOE + Q_K_NORM,
        Graph(visible=window(48, 4)),
        Sizes(layers=5),
    ),
    plain("pangu-embedded", {}, LLAMA + Q_K_V_BIAS + " attn_output.bias"),
    plain(
        "jais2",
        {},
        less(LLAMA, "ffn_gate") + f"{NORM_BIAS} attn_output.bias ffn_up.bias ffn_down.bias",
        LAYER_NORM,
        others=BIASED_OUTPUT,
    ),
    plain(
        "deci",
        {"attention.head_count": [4, 0, 4, 4], "attention.head_count_kv": [2, 0, 2, 2]},
        own={1: "ffn_norm ffn_gate ffn_up ffn_down"},
    ),
    plain(
        "lfm2",
        {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3, "rope.freq_base": 1e6},
        LLAMA + Q_K_NORM,
        Graph(last_norm="token_embd_norm"),
        others="token_embd token_embd_norm",
        shapes={"conv": (128, 3), "in_proj": (384, 128), "out_proj": (128, 128)},
        own=dict.fromkeys((0, 2), CONVOLUTION),
    ),
    plain("plm", LATENT_KEYS, less(LATENT, "ffn_gate") + " attn_kv_b", shapes=LATENT_SHAPES),
    plain(
        "mistral4",
        LATENT_KEYS
        | ABSORBED
        | YARN
        | {"attention.temperature_scale": 0.1, "attention.temperature_length": 64}
        | {"rope.scaling.yarn_log_multiplier": 0.1},
        f"{LATENT} attn_k_b attn_v_b",
        Graph(query_scale=temperature(64, 0.1, 0, lambda i: True)),
        shapes=LATENT_SHAPES,
    ),
    plain(
        "hunyuan_vl",
        {"rope.scaling.alpha": 1000.0},
        LLAMA + Q_K_NORM,
        Graph(norm_after_rotation=True),
    ),
    plain("paddleocr", SECTIONS, axes=True),
    plain("qwen3vlmoe", SECTIONS | MIXED, MOE + Q_K_NORM, axes=True),
    plain(
        "afmoe",
        DENSE | LOCAL,
        LLAMA + Q_K_NORM + POST_NORMS + " attn_gate",
        Graph(value_scale=0.5, embedding_scale=128**0.5, visible=window(48, 4)),
        Sizes(layers=5),
        shapes={"attn_gate": (128, 128)},
    ),
    plain(
        "cohere2moe",
        LOCAL | EXPERT_KEYS | {"logit_scale": 0.25, "leading_dense_block_count": 5},
        less(LLAMA, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25, visible=lambda i, q, k: (q - k < 48) | (i % 4 == 0)),
        Sizes(layers=5),
    ),
]


# -- running them ----------------------------------------------------------------------------------


def neighbours(ropes, axes):
    """Wrong encodings: a name, and one per layer."""
    turning = [i for i, rope in enumerate(ropes) if rope is not None]
    first = ropes[turning[0]]

    def changed(change, layers=turning):
        return tuple(change(r) if i in layers else r for i, r in enumerate(ropes))

    def whole(rope):
        return replace(rope, rotary_start=0, rotary_dim=rope.head_dim, scaling=None)

    yield (
        "the other pairing",
        changed(
            lambda r: replace(r, layout="half" if r.layout == "interleaved" else "interleaved")
        ),
    )
    for i in turning if len(ropes) < 10 else turning[:: len(turning) // 4]:
        yield f"twice the base in layer {i}", changed(lambda r: replace(r, base=r.base * 2), [i])
    if any(ropes[i].scaling is not None for i in turning):
        yield "no schedule", changed(lambda r: replace(r, scaling=None))
    for rope in {ropes[i] for i in turning} if len(set(ropes)) > 1 else ():
        yield "layers alike", (rope,) * len(ropes)
    if len(turning) < len(ropes):
        yield "all layers rotate", tuple(r or first for r in ropes)
    if first.rotary_dim != first.head_dim:
        yield "whole heads", changed(whole)
    if axes:
        yield "one axis", changed(lambda r: replace(r, axes=None))


def check(case, engine, folder):
    """A line about this case; AssertionError where logits differ, or would not."""
    path, tensors = Path(folder, "model.gguf"), case.weights()
    write(path, case, tensors)
    random = np.random.default_rng(1)
    tokens, positions = random.integers(0, case.sizes.vocab, N), case.positions(random)
    inputs = {"tokens": tokens}
    if case.axes:
        inputs = {"embeddings": tensors["token_embd.weight"][tokens]}
    theirs = engine.logits(path, positions, n_ctx=case.n_ctx, n_vocab=case.sizes.vocab, **inputs)

    ropes = layer_ropes(path)
    decoder = Decoder(tensors, case.sizes, case.graph)
    run = {"tokens": tokens, "positions": positions, "seq_len": case.n_ctx}
    ours = decoder.logits(ropes, **run)
    single = Decoder(tensors, case.sizes, case.graph, np.float32)
    rounded = [single.logits(ropes, **run, missed=random) for _ in range(2)]
    tolerance = SLACK * max(np.abs(x - ours).max() for x in rounded)
    apart = np.abs(theirs - ours).max()
    wrong = {}
    for name, others in neighbours(ropes, case.axes):
        distance = np.abs(decoder.logits(others, **run) - theirs).max()
        wrong[name] = min(distance, wrong.get(name, np.inf))
    weakest = min(wrong, key=wrong.get)
    line = f"apart {apart:.1e}, allowed {tolerance:.1e}; {len(wrong)} wrong ones, nearest "
    line += f"{wrong[weakest]:.1e} ({weakest})"
    if not apart <= tolerance:
        raise AssertionError(line)
    if not wrong[weakest] > FAR * tolerance:
        line = f"cannot tell: {line}"
        raise AssertionError(line)
    return line


def main(words):
    engine = llama_cpp_binary.LlamaCpp()
    print(engine.version, flush=True)
    start, failed, kinds = time.perf_counter(), [], set()
    for case in CASES:
        if words and not any(word in case.name for word in words):
            continue
        kinds.add(case.arch)
        print(f"{case.name:<40}", end=" ", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                print(check(case, engine, folder), flush=True)
        except (AssertionError, ValueError, RuntimeError) as error:
            failed.append(case.name)
            print("MISMATCH" if isinstance(error, AssertionError) else "ERROR", error, flush=True)
    seconds = time.perf_counter() - start
    print(f"{len(kinds)} architectures, {seconds:.0f} s, failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
