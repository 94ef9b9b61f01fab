"""llama.cpp itself against ``rope_xp``: ``python tests/parity/llama_cpp.py [words of the cases' names]``.

Each case is a small random GGUF file. llama.cpp runs it; so does a NumPy decoder
(`llama_cpp_reference`) that asks ``configs.layer_ropes`` for the rotary encoding of each layer. The
logits must agree, and a case must be able to tell: with wrong encodings in their place (the other
pairing, another base in one layer, no schedule, layers alike, …) they must be far apart.

The tolerance is computed, not chosen. llama.cpp works in float32, and its angles come from a product
that grows by one float32 factor per pair. The decoder in float32, with angles off by as much as that
product can be, moves the logits by some amount from those in float64: this is what such arithmetic
does to this file, and `SLACK` times this is allowed, since sums in another order round otherwise.
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
SLACK = 8  # of the change that float32 makes, measured in two ways
FAR = 20  # tolerances between the logits of right and of wrong encodings, at least


@dataclass(frozen=True)
class Case:
    """A GGUF file to write: architecture, keys after its name, tensors; and how to run it."""

    name: str
    arch: str
    keys: dict = field(default_factory=dict)
    tensors: str = LLAMA  # of each layer
    graph: Graph = Graph()
    sizes: Sizes = Sizes()
    others: str = "token_embd output_norm output"
    factors: dict = field(default_factory=dict)  # tensors of frequency factors
    shapes: dict = field(default_factory=dict)
    start: int = 0  # the first token's position
    n_ctx: int = 256
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
        known = {f"{self.arch}.{k}": v for k, v in keys.items()}
        return {"general.architecture": self.arch, "tokenizer.ggml.model": "no_vocab", **known}

    def weights(self):
        shapes = self.shapes
        made = weights(self.sizes, self.tensors.split(), self.others, seed=len(self.name), **shapes)
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

Q_K_V_BIAS = " attn_q.bias attn_k.bias attn_v.bias"
Q_K_NORM = " attn_q_norm attn_k_norm"
POST_NORMS = " post_attention_norm post_ffw_norm"
NORM_BIAS = " attn_norm.bias ffn_norm.bias"
TIED = "token_embd output_norm"
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 8.0}
YARN |= {"rope.scaling.original_context_length": 512}
STEP = np.geomspace(1, 8, 16)  # what Llama 3's rule looks like in rope_freqs.weight


def less(names, *gone):
    return " ".join(n for n in names.split() if n not in gone)


def window(size, dense):
    """Sees ``size`` tokens, but in every ``dense``-th layer all."""
    return lambda layer, q, k: (q - k < size) | (layer % dense == dense - 1)


def chunk(size, dense):
    return lambda layer, q, k: (q // size == k // size) | (layer % dense == dense - 1)


GEMMA = Graph(embedding_scale=128**0.5)
LONG = {"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.19}
LONG_FACTORS = {
    "rope_factors_short.weight": np.linspace(1, 1.5, 16),
    "rope_factors_long.weight": np.geomspace(1, 30, 16),
}
PHI3 = less(LLAMA, "attn_q", "attn_k", "attn_v", "ffn_gate") + " attn_qkv"

CASES = [
    Case("llama", "llama"),
    Case("llama, no base in the file", "llama", {"rope.freq_base": None}),
    Case("llama, rope_freqs", "llama", {"rope.freq_base": 5e5}, factors={"rope_freqs.weight": STEP}),
    Case("llama, linear", "llama", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    Case("llama, scale_linear", "llama", {"rope.scale_linear": 4.0}),
    Case("llama, yarn", "llama", YARN),
    Case("qwen2", "qwen2", {"rope.freq_base": 1e6}, LLAMA + Q_K_V_BIAS),
    Case("qwen2, yarn", "qwen2", YARN, LLAMA + Q_K_V_BIAS),
    Case("qwen3", "qwen3", {"rope.freq_base": 1e6}, LLAMA + Q_K_NORM),
    Case(
        "gemma2",
        "gemma2",
        {"attention.sliding_window": 48, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 30.0},
        LLAMA + POST_NORMS,
        replace(GEMMA, softcap=5.0, final_softcap=30.0, visible=window(48, 2)),
        others=TIED,
    ),
    Case(
        "gemma3, no local base in the file",
        "gemma3",
        {
            "attention.sliding_window": 48,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        LLAMA + POST_NORMS + Q_K_NORM,
        replace(GEMMA, visible=window(48, 6)),
        Sizes(layers=7),
    ),
    Case("phi3, within the original context", "phi3", LONG, PHI3, shapes={"ffn_up": (64, 128)},
         factors=LONG_FACTORS),
    Case("phi3, beyond the original context", "phi3", LONG, PHI3, shapes={"ffn_up": (64, 128)},
         factors=LONG_FACTORS, n_ctx=768),
    Case("smollm3", "smollm3", {"rope.freq_base": 5e6}),
]


# -- running them ----------------------------------------------------------------------------------


def neighbours(ropes):
    """Wrong encodings: a name, and one per layer."""
    turning = [i for i, rope in enumerate(ropes) if rope is not None]
    first = ropes[turning[0]]

    def changed(change, layers=turning):
        return tuple(change(r) if i in layers else r for i, r in enumerate(ropes))

    yield "the other pairing", changed(
        lambda r: replace(r, layout="half" if r.layout == "interleaved" else "interleaved")
    )
    for i in turning:
        yield f"another base in layer {i}", changed(lambda r: replace(r, base=r.base * 1.2), [i])
    if any(ropes[i].scaling is not None for i in turning):
        yield "no schedule", changed(lambda r: replace(r, scaling=None))
    for rope in set(ropes[i] for i in turning) if len(set(ropes)) > 1 else ():
        yield "layers alike", (rope,) * len(ropes)
    if len(turning) < len(ropes):
        yield "all layers rotate", tuple(r or first for r in ropes)
    if first.rotary_dim != first.head_dim:
        yield "whole heads", changed(lambda r: replace(r, rotary_dim=None, rotary_start=0))
    if first.axes is not None:
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

    ropes = layer_ropes(case.metadata() | case.factors)
    decoder = Decoder(tensors, case.sizes, case.graph)
    run = {"tokens": tokens, "positions": positions, "seq_len": case.n_ctx}
    ours = decoder.logits(ropes, **run)
    single = Decoder(tensors, case.sizes, case.graph, np.float32)
    rounded = [single.logits(ropes, **run, moved=moved) for moved in (1, -1)]
    tolerance = SLACK * max(np.abs(x - ours).max() for x in rounded)
    apart = np.abs(theirs - ours).max()
    wrong = {}
    for name, others in neighbours(ropes):
        distance = np.abs(decoder.logits(others, **run) - theirs).max()
        wrong[name] = min(distance, wrong.get(name, np.inf))
    weakest = min(wrong, key=wrong.get)
    line = f"apart {apart:.1e}, allowed {tolerance:.1e}; {len(wrong)} wrong ones, nearest "
    line += f"{wrong[weakest]:.1e} ({weakest})"
    if not apart <= tolerance:
        raise AssertionError(line)
    if not wrong[weakest] > FAR * tolerance:
        raise AssertionError(f"cannot tell: {line}")
    return line


def main(words):
    engine = llama_cpp_binary.LlamaCpp()
    print(engine.version, flush=True)
    start, failed, kinds = time.perf_counter(), [], set()
    for case in CASES:
        if not all(word in case.name for word in words):
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
