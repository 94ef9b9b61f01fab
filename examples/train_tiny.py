"""Seven ways to say where a token is, trained from scratch: one tiny transformer, the same text, three seeds.

From a checkout: ``pip install . jax optax tqdm``, then ::

    python examples/train_tiny.py --quick            # a minute: few steps, one seed, nothing is written
    python examples/train_tiny.py                    # writes book/train_tiny.json, in minutes on two cores

Bytes of CPython's documentation topics (`pydoc_data.topics`), the last tenth unseen. A model has 2 layers of 4 heads
and is trained on windows of 64 bytes. Its loss (nats per byte) is measured on windows four times as long, over the last
32 bytes of the first 64, 128 and 256: so each target has at least 32 bytes before it. What rotates is measured beyond
64 once more with its frequencies scaled, without further training.
"""

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from rope_xp import RoPE, cos_sin, rotate, sinusoidal
from rope_xp.attention import attention, linear_attention
from rope_xp.relative import alibi_bias
from rope_xp.scaling import NTK, Linear, YaRN

WIDTH, HEADS, LAYERS, LENGTH, BATCH = 64, 4, 2, 64, 32
ROPE = RoPE(WIDTH // HEADS, layout="half", base=10_000.0)
ENCODINGS = (
    "none",
    "learned",
    "sinusoidal",
    "alibi",
    "rope",
    "rope, learned frequencies",
    "linear, rope",
)
SCALED = {
    "linear": Linear,
    "NTK": NTK,
    "YaRN": partial(YaRN, original_max_position_embeddings=LENGTH),
}


def read_text():
    text = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    data = np.frombuffer(text, np.uint8).astype(np.int32)
    return np.split(data, [len(data) * 9 // 10])


def initialize(key, encoding):
    keys = iter(jax.random.split(key, 3 + 2 * LAYERS))

    def draw(*shape, scale=0.02):
        return scale * jax.random.normal(next(keys), shape)

    blocks = [
        {
            "attend": draw(4, WIDTH, WIDTH, scale=WIDTH**-0.5),
            "mlp": draw(2, WIDTH, 4 * WIDTH, scale=0.08),
        }
        for _ in range(LAYERS)
    ]
    weights = {"embed": draw(128, WIDTH, scale=0.1), "blocks": blocks}
    if encoding == "learned":
        weights["positions"] = draw(4 * LENGTH, WIDTH)  # those beyond LENGTH are never trained
    if encoding == "rope, learned frequencies":
        weights["inv_freq"] = jnp.asarray(ROPE.frequencies().inv_freq, jnp.float32)
    return weights


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def forward(weights, tokens, encoding, rope=ROPE):
    """Logits, (batch, seq, 128)."""
    seq = tokens.shape[1]
    at = jnp.arange(seq)
    x = weights["embed"][tokens]  # (batch, seq, width)
    if encoding == "learned":
        x = x + weights["positions"][:seq]
    if encoding == "sinusoidal":
        x = x + 0.1 * sinusoidal(at, WIDTH)  # as large as embeddings are at first
    for block in weights["blocks"]:
        h = norm(x)
        q, k, v = (
            (h @ w).reshape(*h.shape[:2], HEADS, -1).swapaxes(1, 2) for w in block["attend"][:3]
        )  # (batch, heads, seq, head_dim)
        if encoding == "rope":
            q, k = rope(q, k)
        if encoding == "rope, learned frequencies":
            tables = cos_sin(at, weights["inv_freq"])
            q, k = (rotate(each, *tables, layout="half") for each in (q, k))
        if encoding == "linear, rope":
            y = linear_attention(q, k, v, rope=rope, causal=True)
        else:
            bias = alibi_bias(at, at, HEADS) if encoding == "alibi" else None
            y = attention(q, k, v, causal=True, bias=bias)
        x = x + y.swapaxes(1, 2).reshape(x.shape) @ block["attend"][3]
        x = x + jax.nn.gelu(norm(x) @ block["mlp"][0]) @ block["mlp"][1].T
    return norm(x) @ weights["embed"].T * WIDTH**0.5


def losses(weights, window, encoding, rope=ROPE):
    """Nats of each byte but the first, (batch, seq)."""
    logits = forward(weights, window[:, :-1], encoding, rope)
    return optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:])


def train(encoding, seed, steps, text, bar):
    weights = initialize(jax.random.key(seed), encoding)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    @jax.jit
    def step(weights, state, window):
        gradient = jax.grad(lambda w: losses(w, window, encoding).mean())(weights)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(weights, updates), state

    state, rng = optimizer.init(weights), np.random.default_rng(seed)
    for _ in range(steps):
        start = rng.integers(0, len(text) - LENGTH - 1, (BATCH, 1))
        weights, state = step(weights, state, text[start + np.arange(LENGTH + 1)])
        bar.update()
    return weights


def measure(weights, encoding, text, rope=ROPE):
    """The loss over the last half window of 1, 2 and 4 lengths."""
    n = (len(text) - 1) // (4 * LENGTH)
    windows = text[: n * 4 * LENGTH + 1]
    windows = np.stack([windows[i * 4 * LENGTH : (i + 1) * 4 * LENGTH + 1] for i in range(n)])
    per_byte = jax.jit(partial(losses, encoding=encoding, rope=rope))(weights, windows).mean(0)
    ends = [LENGTH, 2 * LENGTH, 4 * LENGTH]
    return [float(per_byte[end - LENGTH // 2 : end].mean()) for end in ends]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="50 steps, one seed, nothing is written"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "book/train_tiny.json"
    )
    options = parser.parse_args()
    steps, seeds = (50, 1) if options.quick else (options.steps, options.seeds)
    text, unseen = read_text()
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
    }
    found = {
        "steps": steps,
        "seeds": seeds,
        "versions": versions,
        "bytes": [len(text), len(unseen)],
        "runs": [],
    }
    with tqdm(total=len(ENCODINGS) * seeds * steps, unit=" steps") as bar:
        for encoding in ENCODINGS:
            for seed in range(seeds):
                bar.set_description(f"{encoding}, seed {seed}")
                weights = train(encoding, seed, steps, text, bar)
                run = {
                    "encoding": encoding,
                    "seed": seed,
                    "loss": measure(weights, encoding, unseen),
                }
                if encoding in ("rope", "linear, rope"):
                    run["scaled"] = {}
                    for name, schedule in SCALED.items():
                        longer = [
                            RoPE(ROPE.head_dim, layout="half", scaling=schedule(factor=f))
                            for f in (2.0, 4.0)
                        ]
                        of_both = [
                            measure(weights, encoding, unseen, rope)[i]
                            for i, rope in enumerate(longer, 1)
                        ]
                        run["scaled"][name] = of_both
                if "inv_freq" in weights:
                    run["inv_freq"] = np.asarray(weights["inv_freq"], float).tolist()
                found["runs"].append(run)
                bar.write(
                    f"{encoding:26} seed {seed}  " + "  ".join(f"{x:.3f}" for x in run["loss"])
                )
    if not options.quick:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
