"""Rotate queries and keys that are spread over processes, without sending anything.

From a checkout, with PyTorch (``pip install . torch``); no GPU, and nothing to configure::

    python examples/sharded_torch.py --seq 65536

Four processes on this machine (gloo) are four devices. First ``DTensor``: q and k are sharded over heads, as
tensor parallelism has them, or over the sequence, as context parallelism does; the calls are those of one
device, and every process makes tables of its own tokens only. Then attention that is parallel over the
sequence: each process has two chunks of it in zigzag order, rotates them by their positions, and an
all-to-all gives it all tokens of one head. Both are compared with one process.
"""

import argparse
import sys
import tempfile

try:
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.tensor.debug import CommDebugMode
except ImportError as error:
    sys.exit(f"sharded_torch.py needs PyTorch with torch.distributed: pip install torch ({error})")

from rope_xp import RoPE
from rope_xp.attention import attention
from rope_xp.positions import zigzag_positions

WORLD, HEADS, HEAD_DIM = 4, 4, 64
ROPE = RoPE(HEAD_DIM, layout="half", base=500_000.0)


def show(*line):
    if dist.get_rank() == 0:
        print(*line)


def rotate_dtensors(q, k, mesh):
    """The same calls as on one device."""
    whole = ROPE(q, k)
    for axis, what in ((1, "heads"), (2, "sequence")):
        parts = [x.tensor_split(WORLD, axis)[dist.get_rank()].clone() for x in (q, k)]
        parts = [DTensor.from_local(x, mesh, [Shard(axis)]) for x in parts]
        with CommDebugMode() as sent:
            turned = ROPE(*parts)
        assert sent.get_total_counts() == 0
        for x, want in zip(turned, whole, strict=True):
            assert x.placements == (Shard(axis),)
            assert torch.equal(x.to_local(), want.tensor_split(WORLD, axis)[dist.get_rank()])
        has = tuple(x.to_local().shape)
        show(f"sharded over {what:8}  {has} on each process, 0 collectives, equal to the last bit")


def exchange(x, source, target):
    """All-to-all: split along ``source`` and not ``target`` → the other way around."""
    given = torch.stack(x.tensor_split(WORLD, target))
    dist.all_to_all_single(taken := torch.empty_like(given), given)
    return torch.cat([*taken], source)


def attend_in_parallel(q, k, v):
    seq = q.shape[2]
    at = [zigzag_positions(seq, rank, WORLD, xp=torch) for rank in range(WORLD)]
    mine = at[dist.get_rank()]
    local = [x[:, :, mine] for x in (q, k, v)]
    local[:2] = ROPE(*local[:2], positions=mine)  # positions are cut, not tables
    one_head = [exchange(x, 2, 1) for x in local]  # (1, 1, seq, head_dim), in the order of `at`
    order = torch.cat(at)
    y = exchange(attention(*one_head, bias=order[:, None] >= order), 1, 2)
    error = (y - attention(*ROPE(q, k), v, causal=True)[:, :, mine]).abs().max()
    dist.all_reduce(error, dist.ReduceOp.MAX)
    assert error < 1e-5
    show(f"attention in zigzag order: process 0 has tokens {mine[0]} … {mine[seq // 8 - 1]} and")
    show(f"  {mine[seq // 8]} … {mine[-1]}; off from one process by {error:.1e} at most")


def run(rank, store, seq):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}/s", rank=rank, world_size=WORLD)
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, HEADS, seq, HEAD_DIM, generator=generator)
    rotate_dtensors(q, k, dist.device_mesh.init_device_mesh("cpu", (WORLD,)))
    attend_in_parallel(*(x[:, :, :1024] for x in (q, k, v)))
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seq", type=int, default=4096, help="tokens, a multiple of 8")
    seq = parser.parse_args().seq
    if seq < 8 or seq % (2 * WORLD):
        parser.error(f"--seq must be a positive multiple of {2 * WORLD}, got {seq}")
    with tempfile.TemporaryDirectory() as store:
        torch.multiprocessing.spawn(run, (store, seq), nprocs=WORLD)


if __name__ == "__main__":
    main()
