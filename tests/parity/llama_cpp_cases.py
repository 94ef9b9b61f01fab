"""Small GGUF files that llama.cpp can run: `CASES` of `llama_cpp`, and `write`.

Keys, tensors and graphs are those of src/models/*.cpp and src/llama-model.cpp in the llama.cpp 0.6.0-dev
of xllamacpp 2026.10.11549 (its sdist, thirdparty/llama.cpp).
"""

from dataclasses import dataclass, field, replace

import gguf
import numpy as np
from llama_cpp_reference import LLAMA, MLP, Graph, Sizes, weights

N = 200  # tokens
PLAIN, USUAL = Graph(), Sizes()


@dataclass(frozen=True)
class Case:
    """A GGUF file to write, and how to run it."""

    arch: str
    keys: dict = field(default_factory=dict)  # after the architecture's name; None: not in the file
    tensors: str = LLAMA  # of each layer
    graph: Graph = PLAIN
    sizes: Sizes = USUAL
    note: str = ""
    others: str = "token_embd output_norm output"
    factors: dict = field(default_factory=dict)  # tensors of frequency factors
    shapes: dict = field(default_factory=dict)  # of tensors that have not the usual one
    own: dict = field(default_factory=dict)  # layers that have other tensors
    start: int = 0  # the first token's position
    n_ctx: int = 256
    axes: bool = False  # embeddings at positions in time, row and column

    @property
    def name(self):
        return f"{self.arch}, {self.note}" if self.note else self.arch

    def metadata(self):
        """All keys of the file, with their values."""
        s = self.sizes
        norm = "attention.layer_norm_epsilon" if self.graph.mean_removed else RMS
        keys = {
            "block_count": s.layers,
            "context_length": 4096,
            "embedding_length": s.width,
            "feed_forward_length": s.mlp,
            "attention.head_count": s.heads,
            "attention.head_count_kv": s.kv_heads,
            norm: 1e-5,
            "rope.freq_base": 10000.0,
            "rope.dimension_count": s.head_dim,
            "vocab_size": s.vocab,
        }
        found = {"general.architecture": self.arch, "tokenizer.ggml.model": "no_vocab"}
        for key, value in (keys | self.keys).items():
            if value is not None:
                found[key if key.startswith("xielu") else f"{self.arch}.{key}"] = value
        return found

    def weights(self):
        """All tensors of the file by name."""
        layers = [self.own.get(i, self.tensors) for i in range(self.sizes.layers)]
        made = weights(layers, self.others, self.sizes, len(self.name), **self.shapes)
        return made | {k: np.asarray(v, np.float32) for k, v in self.factors.items()}

    def positions(self, random):
        """(N,), or (4, N) with axes: time, row, column, and a fourth that only llama.cpp has."""
        at = np.arange(self.start, self.start + N)
        if not self.axes:
            return at
        return np.stack([at, *random.integers(0, 90, (2, N)), at])


def write(path, case, tensors):
    """The file of a case."""
    writer = gguf.GGUFWriter(path, case.arch)
    for key, value in case.metadata().items():
        if key == "general.architecture":  # the writer has it
            continue
        add = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
        getattr(writer, f"add_{add[type(value)]}")(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- what cases are made of ------------------------------------------------------------------------

RMS = "attention.layer_norm_rms_epsilon"


def less(names, *gone):
    """Names of tensors without some."""
    return " ".join(n for n in names.split() if n not in gone)


def window(size, dense):
    """Sees ``size`` tokens, but all in every ``dense``-th layer."""
    return among(size, lambda i: i % dense == dense - 1)


def among(size, dense):
    """Sees ``size`` tokens, but all in the layers that ``dense`` names."""
    return lambda i, q, k: (q - k < size) | dense(i)


def around(size, dense):
    """Sees as many tokens on both sides, but all in the layers that ``dense`` names."""
    return lambda i, q, k: (abs(q - k) <= size) | dense(i)


def chunk(size, dense):
    """Sees the tokens of its chunk, but all in every ``dense``-th layer."""
    return lambda i, q, k: (q // size == k // size) | (i % dense == dense - 1)


# Tensors.
Q_K_V_BIAS = " attn_q.bias attn_k.bias attn_v.bias"
Q_K_NORM = " attn_q_norm attn_k_norm"
POST_NORMS = " post_attention_norm post_ffw_norm"
NORM_BIAS = " attn_norm.bias ffn_norm.bias"
OTHER_BIAS = " attn_output.bias ffn_up.bias ffn_down.bias"
UNGATED = less(LLAMA, "ffn_gate")
FUSED = less(LLAMA, "attn_q", "attn_k", "attn_v") + " attn_qkv"
EXPERTS = " ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
MOE = less(LLAMA, *MLP.split()) + EXPERTS
SHARED = " ffn_gate_shexp ffn_up_shexp ffn_down_shexp"
OLMO2 = less(LLAMA, "attn_norm", "ffn_norm") + Q_K_NORM + POST_NORMS
LATENT = less(LLAMA, "attn_k", "attn_v") + " attn_kv_a_mqa attn_kv_a_norm"
CONVOLUTION = f"attn_norm ffn_norm {MLP} shortconv.conv shortconv.in_proj shortconv.out_proj"
TIED = "token_embd output_norm"
BIASED = "token_embd output_norm output_norm.bias output"

# Shapes.
DOUBLE_UP = {"ffn_up": (64, 128)}
ACROSS = {"attn_q_norm": (128,), "attn_k_norm": (64,)}
LATENT_OUT = {"attn_output": (128, 96)}
FOUR = Sizes(kv_heads=4)
FIVE = Sizes(layers=5)

# Graphs.
GEMMA = Graph(embedding_scale=128**0.5)
LAYER_NORM = Graph(mean_removed=True)
ENCODER = Graph(causal=False, has_head=False)
NORM_LAST = Graph(norm_after_rotation=True)
NO_POST_NORM = Graph(post_norm=None)
SCALES = {"embedding_scale": 6.0, "residual_scale": 0.7, "logit_scale": 2.0}
SCALED = Graph(embedding_scale=6.0, residual_scale=0.7, logit_scale=0.5)
TWO_DENSE = among(48, lambda i: i in {0, 3})  # as PATTERN says

# Keys.
LOCAL = {"attention.sliding_window": 48}
PATTERN = {"attention.sliding_window_pattern": [False, True, True, False]}
TWO_BASES = {"rope.freq_base": 5e6, "rope.freq_base_swa": 20000.0}
HALVED = {"rope.dimension_count": 16}
ORIGINAL = "rope.scaling.original_context_length"
LINEAR = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0, ORIGINAL: 512}
ATTN_FACTOR = {"rope.scaling.attn_factor": 1.19}
LONG = ATTN_FACTOR | {ORIGINAL: 512}
LONGROPE = LONG | {"rope.scaling.type": "longrope"}
UNREAD = {"rope.scaling.yarn_beta_fast": 4.0, "rope.scaling.yarn_log_multiplier": 0.1}
SECTIONS = {"rope.dimension_sections": [6, 5, 5, 0], "rope.freq_base": 1e6}
UNEVEN = SECTIONS | {"rope.dimension_sections": [8, 4, 4, 0]}
ALPHA = {"rope.scaling.alpha": 1000.0}
SOME_EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32}
SOME_EXPERTS |= {"expert_gating_func": 2, "expert_weights_scale": 1.0, "expert_shared_count": 1}
SOME_EXPERTS |= {"expert_shared_feed_forward_length": 32, "leading_dense_block_count": 0}
NO_EXPERTS = SOME_EXPERTS | {"leading_dense_block_count": 64}
LATENT_KEYS = NO_EXPERTS | HALVED | {"attention.kv_lora_rank": 48, "attention.q_lora_rank": 0}
LATENT_KEYS |= {"attention.key_length": 32, "attention.value_length": 24}
LATENT_KEYS |= {"attention.head_count_kv": 4}
ABSORBED = LATENT_KEYS | {"attention.key_length_mla": 32, "attention.value_length_mla": 24}
ABSORBED |= {"attention.key_length": 64, "attention.value_length": 48}
ABSORBED |= {"attention.head_count_kv": 1}

XIELU = {f"xielu.{name}": [0.5] * 4 for name in ("alpha_n", "alpha_p", "beta", "eps")}

# Frequency factors.
STEPS = {"rope_freqs.weight": np.geomspace(1, 8, 16)}
SHORT_LONG = {"rope_factors_short.weight": np.linspace(1, 1.5, 16)}
SHORT_LONG |= {"rope_factors_long.weight": np.geomspace(1, 30, 16)}


def first(factors, n):
    return {name: f[:n] for name, f in factors.items()}


PHI3 = {"tensors": less(FUSED, "ffn_gate"), "shapes": DOUBLE_UP}

# -- the cases -------------------------------------------------------------------------------------

CASES = [
    # Schedules, on the simplest model.
    Case("llama"),
    Case("llama", {"rope.freq_base": None}, note="no base in the file"),
    Case("llama", {"rope.freq_base": 5e5}, note="rope_freqs", factors=STEPS),
    Case("llama", LINEAR, note="linear"),
    Case("llama", {"rope.scaling.factor": 4.0}, note="a factor without type"),
    Case("llama", LINEAR | {"rope.scaling.type": "none"}, note="a factor with type none"),
    Case("llama", {"rope.scale_linear": 4.0}, note="scale_linear"),
    Case("llama", LINEAR, note="rope_freqs and linear", factors=STEPS),
    Case("llama", YARN, note="yarn"),
    Case("llama", YARN | ATTN_FACTOR, note="yarn with attn_factor"),
    Case("llama", YARN | {ORIGINAL: None}, note="yarn, original context not in the file"),
    Case("llama", YARN | UNREAD, note="yarn with keys that are not read"),
    Case("llama", LINEAR | ATTN_FACTOR, note="linear with attn_factor"),
    Case("llama", YARN, note="rope_freqs and yarn", factors=STEPS),
    Case("llama", LONGROPE, note="short", factors=SHORT_LONG),
    Case("llama", LONGROPE, note="long", factors=SHORT_LONG, n_ctx=768),
    Case("qwen2", YARN, LLAMA + Q_K_V_BIAS, note="yarn"),
    Case("phi3", LONG, note="within the original context", factors=SHORT_LONG, **PHI3),
    Case("phi3", LONG | LINEAR, note="linear", factors=SHORT_LONG, **PHI3),
    Case("phi3", LONG, note="beyond it", factors=SHORT_LONG, n_ctx=768, **PHI3),
    Case(
        "phi3",
        LONG | {"rope.dimension_count": 24},
        note="three quarters of a head",
        factors=first(SHORT_LONG, 12),
        n_ctx=768,
        **PHI3,
    ),
    Case(
        "phimoe",
        SOME_EXPERTS | LONG,
        MOE + NORM_BIAS + " attn_output.bias",
        others=f"{BIASED} output.bias",
        factors=SHORT_LONG,
        n_ctx=768,
    ),
    Case(
        "grok",
        YARN
        | SOME_EXPERTS
        | SCALES
        | {"rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 1.0}
        | {"rope.scaling.yarn_ext_factor": 1.0, "rope.scaling.yarn_attn_factor": 1.0}
        | {"attention.output_scale": 0.2},
        MOE + " attn_output_norm post_ffw_norm",
        Graph(
            post_norm="attn_output_norm",
            embedding_scale=6.0,
            logit_scale=2.0,
            softmax_scale=0.2,
            softcap=30.0,
        ),
    ),
    Case("k2-horizon", YARN | {"rope.scaling.yarn_beta_fast": 4.0}),
    Case("hunyuan_vl", ALPHA, LLAMA + Q_K_NORM, NORM_LAST, note="alpha"),
    Case("apertus", {"rope.freq_base": 12e6, **XIELU}, UNGATED + Q_K_NORM, factors=STEPS),
    Case("apertus", LONGROPE | XIELU, UNGATED + Q_K_NORM, note="longrope", factors=SHORT_LONG),
    Case("exaone", {}, factors=STEPS),
    # Layers that differ.
    Case(
        "gemma2",
        LOCAL
        | LINEAR
        | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 30.0}
        | {"rope.freq_base_swa": 500.0},
        LLAMA + POST_NORMS,
        replace(GEMMA, softcap=5.0, final_softcap=30.0, visible=window(48, 2)),
        others=TIED,
    ),
    Case(
        "gemma3",
        LOCAL | LINEAR | {"rope.freq_base": 1e6},
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=window(48, 6)),
        Sizes(layers=7),
        "no local base in the file",
    ),
    Case(
        "gemma3",
        LOCAL | TWO_BASES | PATTERN,
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=TWO_DENSE),
        note="local base and pattern",
    ),
    Case(
        "gemma3",
        LOCAL | YARN,
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=window(48, 6)),
        Sizes(layers=7),
        "yarn",
    ),
    Case("gemma3", LINEAR, LLAMA + POST_NORMS + Q_K_NORM, GEMMA, note="no window"),
    Case(
        "gemma4",
        LOCAL
        | TWO_BASES
        | PATTERN
        | {"attention.key_length": 32, "attention.key_length_swa": 32}
        | {"attention.value_length": 32, "attention.value_length_swa": 32}
        | {"embedding_length_per_layer_input": 0, "rope.dimension_count_swa": 16},
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(
            GEMMA, softmax_scale=1.0, final_softcap=30.0, bare_value_norm=True, visible=TWO_DENSE
        ),
        Sizes(q_k_norm=0.6),
        factors={"rope_freqs.weight": [1.0] * 4 + [1e30] * 12},
    ),
    Case(
        "llama4",
        SOME_EXPERTS | {"expert_count": 16, "interleave_moe_layer_step": 0, "rope.freq_base": 5e5},
        graph=Graph(
            visible=chunk(8192, 4),
            norm_of_rotated=True,
        ),
        sizes=FIVE,
        factors=STEPS,
        start=8100,
    ),
    Case("smollm3", {"rope.freq_base": 5e6}, sizes=FIVE),
    Case("smallthinker", SOME_EXPERTS | {"attention.sliding_window": 4096}, MOE, sizes=FIVE),
    Case("smallthinker", SOME_EXPERTS, MOE, sizes=FIVE, note="no window"),
    Case(
        "cohere2",
        LOCAL | {"logit_scale": 0.25, "rope.freq_base": 50000.0},
        less(LLAMA, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25, visible=window(48, 4)),
        FIVE,
        others=TIED,
    ),
    Case(
        "cohere2moe",
        LOCAL
        | SOME_EXPERTS
        | {"expert_shared_count": None, "expert_shared_feed_forward_length": None}
        | {"logit_scale": 0.25, "leading_dense_block_count": 1},
        less(MOE, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25, visible=among(48, lambda i: i % 4 == 0)),
        FIVE,
        own={0: less(LLAMA, "ffn_norm")},
    ),
    Case("olmo2", LOCAL | YARN, OLMO2, Graph(visible=window(48, 4)), FIVE, shapes=ACROSS),
    Case("olmo2", YARN, OLMO2, note="no window", shapes=ACROSS),
    Case("mellum", SOME_EXPERTS | YARN, MOE + Q_K_NORM, note="no window"),
    Case("mellum", SOME_EXPERTS | LOCAL | YARN, MOE + Q_K_NORM, Graph(visible=window(48, 4)), FIVE),
    Case(
        "exaone4",
        LOCAL | {"rope.freq_base": 1e6},
        OLMO2,
        Graph(visible=window(48, 4)),
        Sizes(layers=64),
        "64 layers",
        factors=STEPS,
    ),
    Case("exaone4", LINEAR, OLMO2, note="4 layers", factors=STEPS),
    Case("exaone-moe", LOCAL | NO_EXPERTS, LLAMA + Q_K_NORM, Graph(visible=window(48, 4)), FIVE),
    Case(
        "gpt-oss",
        LOCAL | YARN | SOME_EXPERTS | {"attention.key_length": 32, "attention.value_length": 32},
        less(MOE, "ffn_norm")
        + f"{Q_K_V_BIAS} attn_output.bias attn_sinks post_attention_norm"
        + " ffn_gate_inp.bias ffn_gate_exps.bias ffn_up_exps.bias ffn_down_exps.bias",
        Graph(post_norm=None, visible=window(48, 2)),
    ),
    Case(
        "mimo2",
        LOCAL | SOME_EXPERTS | PATTERN | TWO_BASES | HALVED,
        LLAMA + " attn_sinks",
        Graph(visible=TWO_DENSE),
    ),
    Case(
        "step35",
        LOCAL | SOME_EXPERTS | PATTERN | TWO_BASES,
        LLAMA + Q_K_NORM,
        Graph(visible=TWO_DENSE),
    ),
    Case(
        "step35",
        LOCAL | SOME_EXPERTS | PATTERN | TWO_BASES | {"rope.dimension_count_swa": 24},
        LLAMA + Q_K_NORM,
        Graph(visible=TWO_DENSE),
        note="rope_freqs",
        factors=first(STEPS, 12),
    ),
    Case(
        "laguna",
        LOCAL | YARN | HALVED | NO_EXPERTS | TWO_BASES | {"rope.dimension_count_swa": 32},
        LLAMA + Q_K_NORM + " attn_gate",
        Graph(value_scale=np.log(2), visible=among(48, lambda i: i % 4 == 0)),
        FIVE,
    ),
    Case(
        "afmoe",
        NO_EXPERTS | LOCAL,
        LLAMA + Q_K_NORM + POST_NORMS + " attn_gate",
        replace(GEMMA, value_scale=0.5, visible=window(48, 4)),
        FIVE,
        shapes={"attn_gate": (128, 128)},
    ),
    Case(
        "mistral3",
        YARN
        | {ORIGINAL: 64, "rope.scaling.yarn_log_multiplier": 1.0}
        | {"rope.scaling.yarn_beta_fast": 4.0, "attention.temperature_scale": 0.1},
    ),
    Case(
        "deci",
        {"attention.head_count": [4, 0, 4, 4], "attention.head_count_kv": [2, 0, 2, 2]},
        own={1: f"ffn_norm {MLP}"},
    ),
    Case(
        "lfm2",
        {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3},
        LLAMA + Q_K_NORM,
        Graph(last_norm="token_embd_norm"),
        others="token_embd token_embd_norm",
        shapes={"conv": (128, 3), "in_proj": (384, 128), "out_proj": (128, 128)},
        own=dict.fromkeys((0, 2), CONVOLUTION),
    ),
    Case(
        "granite_swa",
        LOCAL | PATTERN | SCALES | {"attention.rope_pattern": [True, False, True, False]},
        LLAMA + " attn_sinks",
        replace(SCALED, visible=TWO_DENSE),
    ),
    Case(
        "maple",
        LOCAL | PATTERN | TWO_BASES | SOME_EXPERTS | {"swiglu_clamp_exp": [1.0] * 4},
        MOE + Q_K_NORM,
        Graph(visible=TWO_DENSE),
    ),
    Case(
        "spark2_5",
        LOCAL | PATTERN | TWO_BASES | HALVED | {"rope.dimension_count_swa": 32},
        LLAMA + " attn_gate",
        Graph(value_scale=0.5, visible=TWO_DENSE),
    ),
    Case("granite", SCALES | {"rope.scaling.finetuned": False}, LLAMA, SCALED, note="no rotation"),
    # Latent attention: the last features of a head are rotated.
    Case("deepseek2", LATENT_KEYS, f"{LATENT} attn_kv_b", shapes=LATENT_OUT),
    Case("deepseek2", LATENT_KEYS | YARN, f"{LATENT} attn_kv_b", note="yarn", shapes=LATENT_OUT),
    Case(
        "deepseek2",
        LATENT_KEYS | YARN | {"rope.scaling.yarn_log_multiplier": 0.0707},
        f"{LATENT} attn_kv_b",
        note="yarn, log multiplier",
        shapes=LATENT_OUT,
    ),
    Case(
        "deepseek2",
        ABSORBED | YARN | {"rope.scaling.yarn_log_multiplier": 0.1},
        f"{LATENT} attn_k_b attn_v_b",
        note="absorbed, yarn, log multiplier",
        shapes=LATENT_OUT,
    ),
    Case(
        "mistral4",
        ABSORBED
        | YARN
        | {"attention.temperature_scale": 0.1, "attention.temperature_length": 64}
        | {"rope.scaling.yarn_log_multiplier": 0.1},
        f"{LATENT} attn_k_b attn_v_b",
        shapes=LATENT_OUT,
    ),
    Case(
        "minicpm3",
        LATENT_KEYS | LONG | {"attention.q_lora_rank": 48},
        less(LATENT, "attn_q") + " attn_q_a attn_q_a_norm attn_q_b attn_kv_b",
        Graph(embedding_scale=12.0, residual_scale=0.7, logit_scale=2.0),
        shapes=LATENT_OUT,
        factors=first(SHORT_LONG, 8),
        n_ctx=768,
    ),
    Case(
        "plm", LATENT_KEYS, less(LATENT, "ffn_gate") + " attn_kv_b", others=TIED, shapes=LATENT_OUT
    ),
    # Positions with several axes.
    # The epsilon of this architecture's norms is not read.
    Case("qwen2vl", SECTIONS, LLAMA + Q_K_V_BIAS, Graph(epsilon=0.0), note="text"),
    Case("qwen2vl", SECTIONS, LLAMA + Q_K_V_BIAS, Graph(epsilon=0.0), note="images", axes=True),
    Case("qwen3vl", SECTIONS | YARN, LLAMA + Q_K_NORM, note="yarn", axes=True),
    # As of 24, 20 and 20 the last sections leave two pairs over. llama.cpp turns them by its fourth
    # position, which is 0 for its own text and images; transformers by the first, as here.
    Case("qwen3vl", UNEVEN, LLAMA + Q_K_NORM, note="pairs left over", axes=True),
    Case("qwen3vlmoe", SECTIONS | SOME_EXPERTS, MOE + Q_K_NORM, axes=True),
    Case("paddleocr", SECTIONS, axes=True),
    Case("hunyuan_vl", SECTIONS | ALPHA, LLAMA + Q_K_NORM, NORM_LAST, note="images", axes=True),
    Case(
        "glm4",
        HALVED | {"rope.dimension_sections": [2, 3, 3, 0]},
        UNGATED + POST_NORMS,
        note="images",
        shapes=DOUBLE_UP,
        axes=True,
    ),
    Case(
        "glm4moe",
        NO_EXPERTS | HALVED | {"rope.dimension_sections": [2, 3, 3, 0]},
        less(LLAMA, "ffn_norm") + Q_K_NORM + " post_attention_norm",
        NO_POST_NORM,
        note="images",
        axes=True,
    ),
    # Queries see keys on both sides; the last four have no head.
    Case("dream", {}, LLAMA + Q_K_V_BIAS, Graph(causal=False)),
    Case("llada", {}, LLAMA, Graph(causal=False)),
    Case("llada-moe", SOME_EXPERTS, MOE + Q_K_NORM, Graph(causal=False)),
    Case("rnd1", SOME_EXPERTS, MOE + Q_K_NORM, Graph(causal=False)),
    Case("eurobert", {}, LLAMA, ENCODER, others=TIED),
    Case(
        "gemma-embedding",
        LOCAL | TWO_BASES,
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(ENCODER, embedding_scale=128**0.5, visible=around(24, lambda i: i % 6 == 5)),
        Sizes(layers=7),
        others=TIED,
    ),
    Case(
        "modern-bert",
        LOCAL | TWO_BASES,
        less(FUSED, "ffn_gate"),
        replace(
            ENCODER,
            mean_removed=True,
            first_norm="token_embd_norm",
            visible=around(24, lambda i: i % 3 == 0),
        ),
        Sizes(kv_heads=4),
        others=f"{TIED} token_embd_norm",
        shapes=DOUBLE_UP,
    ),
    Case(
        "neo-bert",
        {},
        less(FUSED, "ffn_gate"),
        replace(ENCODER, last_norm="enc.output_norm"),
        others="token_embd enc.output_norm",
        shapes=DOUBLE_UP,
    ),
    # One encoding for all layers: the pairing, and how much of a head rotates.
    Case("arcee", {}, UNGATED),
    Case(
        "arctic",
        SOME_EXPERTS,
        f"{LLAMA} {EXPERTS} ffn_norm_exps",
        shapes={**dict.fromkeys(MLP.split(), (128, 128)), "ffn_norm_exps": (128,)},
    ),
    Case("baichuan", {}, sizes=Sizes(layers=32)),
    Case("bailingmoe", SOME_EXPERTS, MOE + SHARED),
    Case("bailingmoe2", NO_EXPERTS | HALVED, FUSED + Q_K_NORM),
    Case("bitnet", {}, LLAMA + " attn_sub_norm ffn_sub_norm", others=TIED),
    Case("chatglm", HALVED, UNGATED + Q_K_V_BIAS, shapes=DOUBLE_UP),
    Case("codeshell", {}, UNGATED + NORM_BIAS + OTHER_BIAS, LAYER_NORM, others=BIASED),
    Case(
        "command-r",
        {"logit_scale": 0.25},
        less(LLAMA, "ffn_norm"),
        replace(LAYER_NORM, logit_scale=0.25),
        others=TIED,
    ),
    Case(
        "dbrx",
        SOME_EXPERTS | {"attention.clamp_kqv": 100.0},
        f"attn_norm attn_qkv attn_output attn_output_norm {EXPERTS}",
        LAYER_NORM,
    ),
    Case("deepseek", NO_EXPERTS),
    Case("dots1", NO_EXPERTS, LLAMA + Q_K_NORM, sizes=FOUR),
    Case("ernie4_5"),
    Case("ernie4_5-moe", NO_EXPERTS | {"interleave_moe_layer_step": 1}),
    Case(
        "falcon",
        {},
        less(FUSED, "ffn_norm", "ffn_gate") + " attn_norm.bias",
        LAYER_NORM,
        others=BIASED,
    ),
    Case("gemma", {}, LLAMA, GEMMA, others=TIED),
    Case("glm4", HALVED, UNGATED + POST_NORMS, shapes=DOUBLE_UP),
    Case(
        "glm4moe",
        NO_EXPERTS | HALVED,
        less(LLAMA, "ffn_norm") + Q_K_NORM + " post_attention_norm",
        NO_POST_NORM,
    ),
    Case(
        "gptneox",
        HALVED | {"use_parallel_residual": True},
        less(FUSED, "ffn_gate") + NORM_BIAS + OTHER_BIAS + " attn_qkv.bias",
        LAYER_NORM,
        FOUR,
        others=BIASED,
    ),
    Case("granite", SCALES | {"attention.scale": 0.25}, LLAMA, replace(SCALED, softmax_scale=0.25)),
    Case("granitemoe", SOME_EXPERTS | SCALES, MOE + SHARED, SCALED),
    Case("hunyuan-dense", {}, LLAMA + Q_K_NORM, NORM_LAST),
    Case("hunyuan-moe", SOME_EXPERTS, MOE + SHARED + Q_K_NORM, NORM_LAST),
    Case("internlm2"),
    Case("jais2", {}, UNGATED + NORM_BIAS + OTHER_BIAS, LAYER_NORM, others=BIASED),
    Case("maincoder", {}, LLAMA + Q_K_NORM, NORM_LAST),
    Case("minicpm", SCALES, LLAMA, SCALED),
    Case("minimax-m2", SOME_EXPERTS | HALVED, MOE + Q_K_NORM + " exp_probs_b.bias", shapes=ACROSS),
    Case("nanbeige"),
    Case("nemotron", HALVED, UNGATED + NORM_BIAS, LAYER_NORM, others=BIASED),
    Case(
        "olmo",
        {},
        less(LLAMA, "attn_norm", "ffn_norm"),
        replace(LAYER_NORM, bare_norms=True),
        others="token_embd output",
    ),
    Case("olmoe", SOME_EXPERTS, MOE + Q_K_NORM, sizes=FOUR, shapes=dict.fromkeys(ACROSS, (128,))),
    Case("orion", {}, LLAMA + NORM_BIAS, LAYER_NORM, others=BIASED),
    Case("pangu-embedded", {}, LLAMA + Q_K_V_BIAS + " attn_output.bias"),
    Case(
        "phi2",
        HALVED,
        less(UNGATED, "ffn_norm") + Q_K_V_BIAS + OTHER_BIAS + " attn_norm.bias",
        LAYER_NORM,
        others=f"{BIASED} output.bias",
    ),
    Case("plamo", {}, less(LLAMA, "ffn_norm")),
    Case("qwen", {"feed_forward_length": 64}, FUSED + " attn_qkv.bias", sizes=FOUR),
    Case("qwen2", {"rope.freq_base": 1e6}, LLAMA + Q_K_V_BIAS),
    Case("qwen2moe", SOME_EXPERTS, MOE + Q_K_V_BIAS + SHARED + " ffn_gate_inp_shexp"),
    Case("qwen3", {"rope.freq_base": 1e6}, LLAMA + Q_K_NORM),
    Case("qwen3moe", SOME_EXPERTS, MOE + Q_K_NORM),
    Case(
        "seed_oss", {}, less(LLAMA, "ffn_norm") + Q_K_V_BIAS + " post_attention_norm", NO_POST_NORM
    ),
    Case(
        "stablelm",
        HALVED,
        LLAMA + NORM_BIAS + Q_K_NORM,
        LAYER_NORM,
        others=BIASED,
        shapes={"attn_q_norm": (4, 32), "attn_k_norm": (2, 32)},
    ),
    Case(
        "starcoder2", {}, UNGATED + NORM_BIAS + Q_K_V_BIAS + OTHER_BIAS, LAYER_NORM, others=BIASED
    ),
    Case("xverse"),
]
