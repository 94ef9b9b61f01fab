"""More keys than memory: from a Zarr store to a Zarr store, through Dask workers, one of which may be killed.

Needs Linux, ``pip install "dask[array,distributed]" zarr tqdm``, and a disk for the rotated keys. The input is
made first: keys before rotation, the same for the same token, so they compress. One task is for one chunk.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from resource import getrusage

import numpy as np

from rope_xp import RoPE

try:
    import dask.array as da
    import zarr
    from dask.distributed import Client, LocalCluster, as_completed, futures_of
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f'{error}; this example needs: pip install "dask[array,distributed]" zarr tqdm')

HEADS, DIM, ROPE = 8, 128, RoPE(128, layout="half", base=500000.0)
BANK = np.random.default_rng(0).standard_normal((HEADS, 256, DIM)).astype(np.float16)


def keys(at):  # (tokens,) -> (HEADS, tokens, DIM)
    return BANK[:, at * 40503 // 2**8 % 256]


def write(block, path, block_id):  # to do it again, after a worker was killed, changes nothing
    zarr.open_array(path, mode="r+").blocks[block_id] = block
    return np.zeros((1, 1, 1))


def error_of(y, at):  # the largest of a chunk, relative to what rounding to float16 explains
    x, y = (z[..., : DIM // 2] + 1j * z[..., DIM // 2 :] for z in (keys(at).astype(float), y))
    x *= np.exp(1j * at[:, None] * ROPE.frequencies().inv_freq)
    return np.max(np.abs(y - x) / (2**-11 * np.abs(x) + 2**-18), keepdims=True)


def compute(chunks, what, client, kill=False):  # the maximum; exits if a chunk fails, and says why
    futures = sorted(futures_of(client.persist(chunks)), key=lambda future: future.key)
    bar = tqdm(as_completed(futures), desc=what, total=len(futures), unit=" chunks")
    for done, future in enumerate(bar, 1):
        if future.status != "finished":
            sys.exit(f"{what}: chunk {futures.index(future)} failed: {future.exception()!r}")
        if kill and done == -(-len(futures) // 4):
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            bar.write(f"killed a worker after {done} of {len(futures)} chunks")
    return max(client.gather(futures))  # what was lost with a worker is computed again


def run(client, source, target, options):
    at = da.arange(int(options.gib * 2**30) // (2 * HEADS * DIM), chunks=2**14)
    made = da.blockwise(keys, "htd", at, "t", new_axes={"h": HEADS, "d": DIM}, dtype="f2")
    store = {"shape": made.shape, "chunks": made.chunksize, "dtype": "f2", "overwrite": True}
    ones = {"chunks": (1, 1, 1), "meta": np.empty((0, 0, 0))}
    if not source.exists() or zarr.open_array(source).nchunks_initialized < made.npartitions:
        zarr.create_array(source, compressors=zarr.codecs.ZstdCodec(checksum=True), **store)
        compute(made.map_blocks(write, source, **ones), "making keys", client)
    x, start = da.from_zarr(source), time.perf_counter()  # (heads, tokens, head_dim), lazy
    zarr.create_array(target, compressors=None, **store)
    compute(ROPE(x).map_blocks(write, target, **ones), "rotating", client, options.kill)
    size, t = x.nbytes / 1e9, time.perf_counter() - start
    some = slice(None, None, max(1, x.npartitions // 32))
    pairs = da.from_zarr(target).blocks[:, some], "htd", at.blocks[some], "t"
    off = da.blockwise(error_of, "htd", *pairs, adjust_chunks=dict.fromkeys("htd", 1), dtype="f8")
    assert compute(off, "checking", client) <= 1
    most = sum(u.ru_maxrss for u in (getrusage(0), *client.run(getrusage, 0).values())) / 2**20
    assert most < 4
    print(f"{size:.2f} GB, {t:.1f} s, {size / t:.3f} GB/s, {most:.2f} GiB; {off.size} chunks right")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=0.5, help="size of the keys, in 2**30 bytes")
    parser.add_argument("--folder", type=Path, default=Path("sharded_dask"))
    parser.add_argument("--kill", action="store_true", help="kill a worker in the middle")
    options = parser.parse_args()
    names = ("keys.zarr", "rotated.zarr.partial", "rotated.zarr")
    source, partial, target = (options.folder / name for name in names)
    if target.exists():
        sys.exit(f"{target} exists already: remove it, or choose another --folder")
    limits = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1.7 GiB"}  # 4 GiB in all
    quiet = {"silence_logs": 50, "dashboard_address": None}
    try:
        with LocalCluster(**limits, **quiet) as cluster, Client(cluster) as client:
            run(client, source, partial, options)
        for left in partial.rglob("*.partial"):  # of a chunk that a killed worker was writing
            left.unlink()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
