"""MLX on the CPU: `mlx.core.fast.rope` gets the position of the first token, for all rows or for each."""

import mlx.core as mx
import numpy as np
from peers.table import peer

from rope_xp import RoPE

HALF = RoPE(64, layout="half", base=500_000.0)
PARTIAL = RoPE(64, layout="interleaved", rotary_dim=32)


def fast(rope, x, offset):
    if x.dtype == np.float64:
        msg = "mlx makes float32 of it"
        raise TypeError(msg)
    y = mx.fast.rope(
        mx.array(x),
        rope.rotary_dim,
        traditional=rope.layout == "interleaved",
        base=rope.base,
        scale=1.0,
        offset=offset,
    )
    return np.array(y)


def prefill(rope):
    """A call for each run of consecutive positions, which all rows share."""

    def fn(x, positions):
        if positions.ndim == 2:
            msg = "one offset serves all rows"
            raise TypeError(msg)
        starts = np.flatnonzero(np.diff(positions, prepend=positions[0] - 2) != 1)
        parts = np.split(x, starts[1:], axis=2)
        turned = [
            fast(rope, part, int(positions[i])) for part, i in zip(parts, starts, strict=True)
        ]
        return np.concatenate(turned, axis=2)

    return fn


def decode(rope):
    """A call for each token of all rows, each row with its own offset."""

    def fn(x, positions):
        at = np.broadcast_to(positions, (x.shape[0], x.shape[2])).astype(np.int32)
        steps = range(x.shape[2])
        turned = [fast(rope, x[:, :, i : i + 1], mx.array(at[:, i])) for i in steps]
        return np.concatenate(turned, axis=2)

    return fn


@peer("fast.rope, one offset", "mlx", HALF, library="numpy")
def mlx_prefill():
    return prefill(HALF)


@peer("fast.rope, one offset, traditional, partial", "mlx", PARTIAL, library="numpy")
def mlx_prefill_partial():
    return prefill(PARTIAL)


@peer("fast.rope, an offset for each row", "mlx", HALF, library="numpy")
def mlx_decode():
    return decode(HALF)


@peer("fast.rope, an offset for each row, traditional, partial", "mlx", PARTIAL, library="numpy")
def mlx_decode_partial():
    return decode(PARTIAL)
