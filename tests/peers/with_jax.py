"""equinox, which knows positions 0 to seq - 1 only."""

import equinox
import jax.numpy as jnp
import numpy as np
from peers.table import peer

from rope_xp import RoPE

LENGTHS = (64, 8192)


def sequences(module):
    """``module`` rotates (seq, head_dim) at 0, 1, …: tokens are put where their positions are."""
    rotate = equinox.filter_jit(module)

    def one_head(x, positions):
        length = next(n for n in LENGTHS if positions.max() < n)
        turned, left = np.empty_like(x), np.arange(len(positions))
        while len(left):
            _, first = np.unique(positions[left], return_index=True)  # each position once
            tokens, left = left[first], np.delete(left, first)
            sequence = np.zeros((length, x.shape[-1]), x.dtype)
            sequence[positions[tokens]] = x[tokens]
            turned[tokens] = np.asarray(rotate(jnp.asarray(sequence)))[positions[tokens]]
        return turned

    def fn(x, positions):
        if x.dtype == np.float64:
            msg = "JAX makes float32 of it"
            raise TypeError(msg)
        if positions.max() >= LENGTHS[-1]:
            msg = f"`positions` must be below {LENGTHS[-1]}, got {positions.max()}"
            raise ValueError(msg)
        at = np.broadcast_to(positions, (x.shape[0], x.shape[2]))
        rows = range(x.shape[0])
        return np.stack([[one_head(head, at[i]) for head in x[i]] for i in rows])

    return fn


def equinox_peer(name, base):
    rope = RoPE(64, layout="half", base=base)
    return peer(name, "equinox", rope, library="numpy", max_position=LENGTHS[-1])


@equinox_peer("RotaryPositionalEmbedding", 10_000.0)
def alone():
    equinox.clear_caches()
    return sequences(equinox.nn.RotaryPositionalEmbedding(64))


@equinox_peer("RotaryPositionalEmbedding, the second in a process", 500_000.0)
def second():
    """After a module with another theta has made its table, which is kept by size and dtype alone."""
    equinox.clear_caches()
    equinox.nn.RotaryPositionalEmbedding(64, theta=10_000.0)(jnp.ones((LENGTHS[-1], 64)))
    return sequences(equinox.nn.RotaryPositionalEmbedding(64, theta=500_000.0))
