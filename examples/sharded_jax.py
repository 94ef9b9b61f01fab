"""Ring attention in JAX: a causal sequence in zigzag order over 8 devices, rotated where it is.

Run ``python examples/sharded_jax.py``. Needs a JAX with ``jax.shard_map`` (pip install -U jax); the
devices are virtual ones of the CPU. A device has one shard of q, k and v and rotates it by the
positions of its own tokens, which sends nothing. Keys, values and their positions then go from device
to device. Asserted: no collective in the rotation, only permutations in the ring, as much work for
each device, and the result of the whole sequence on one device.
"""

import os
import re

N = 8  # devices
DEVICES = f" --xla_force_host_platform_device_count={N}"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + DEVICES
os.environ["JAX_PLATFORMS"] = "cpu"

try:
    import jax
    from jax import shard_map
except ImportError:
    msg = "This example needs a JAX with jax.shard_map: pip install -U jax"
    raise SystemExit(msg) from None
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from rope_xp import RoPE
from rope_xp.attention import attention, causal_mask
from rope_xp.positions import shard_indices

ROPE = RoPE(64, layout="half", base=500_000.0)
TOKENS = PartitionSpec("sp")  # (seq,)
HEADS = PartitionSpec(None, None, "sp")  # (batch, heads, seq, head_dim)
COLLECTIVES = " (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?[(]"


def ring_attention(q, k, v, positions):
    """Causal attention of the queries of one shard to the keys of all."""
    q, k = ROPE(q, k, positions=positions)  # (batch, heads, seq / N, head_dim)
    total, weight = jnp.zeros_like(q), jnp.zeros_like(q[..., :1])  # both relative to exp(peak)
    peak, theirs = jnp.full_like(weight, -jnp.inf), positions
    for step in range(N):
        scores = q @ jnp.swapaxes(k, -1, -2) * ROPE.head_dim**-0.5
        scores = jnp.where(causal_mask(positions, theirs), scores, -jnp.inf)
        # The own shard is the first: there every query has a key, so the peak is finite.
        higher = jnp.maximum(peak, scores.max(-1, keepdims=True))
        old, new = jnp.exp(peak - higher), jnp.exp(scores - higher)
        total, weight = old * total + new @ v, old * weight + new.sum(-1, keepdims=True)
        peak = higher
        if step < N - 1:
            to_next = [(i, (i + 1) % N) for i in range(N)]
            k, v, theirs = jax.lax.ppermute((k, v, theirs), "sp", to_next)
    return total / weight


def collectives(function, *arrays):
    return re.findall(COLLECTIVES, function.lower(*arrays).compile().as_text())


def main(seq=2048, heads=4):
    mesh = jax.make_mesh((N,), ("sp",))
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, heads, seq, ROPE.head_dim))
    wanted = attention(*ROPE(q, k), v, causal=True)

    for order in ("contiguous", "zigzag"):
        indices = [shard_indices(seq, rank, N, order=order) for rank in range(N)]
        work = [int((shard + 1).sum()) for shard in indices]  # keys that queries attend to
        print(f"{order:>10}: {', '.join(f'{n:,}' for n in work)} scores per device")
    assert len(set(work)) == 1

    order = jnp.concatenate(indices)  # of the tokens; these are their positions, too
    sharding = NamedSharding(mesh, HEADS)
    q_s, k_s, v_s = (jax.device_put(x[:, :, order], sharding) for x in (q, k, v))
    positions = jax.device_put(order, NamedSharding(mesh, TOKENS))

    rotate = jax.jit(lambda q, k, at: ROPE(q, k, positions=at))
    assert collectives(rotate, q_s, k_s, positions) == []
    for x in rotate(q_s, k_s, positions):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)

    specs = (HEADS, HEADS, HEADS, TOKENS)
    ring = jax.jit(shard_map(ring_attention, mesh=mesh, in_specs=specs, out_specs=HEADS))
    sent = collectives(ring, q_s, k_s, v_s, positions)
    assert set(sent) == {"collective-permute"}
    off = float(jnp.abs(ring(q_s, k_s, v_s, positions) - wanted[:, :, order]).max())

    # A score is a sum of head_dim products, whose sizes sum to |q| |k| at most. Weights are off by as
    # much as scores, sums by a rounding per token: numerator and denominator, in both results.
    longest = [float(jnp.linalg.norm(x, axis=-1).max()) for x in (q, k)]
    score = (ROPE.head_dim + 8) * ROPE.head_dim**-0.5 * longest[0] * longest[1]
    bound = 4 * 2**-24 * (score + seq + 8) * float(jnp.abs(v).max())
    print(f"collectives: none in the rotation, {len(sent)} permutations in the ring")
    print(f"furthest from the result on one device: {off:.1e} (bound {bound:.1e})")
    assert off <= bound


if __name__ == "__main__":
    main()
