"""More keys than memory: from a Zarr store to a Zarr store, through Dask workers, one of which may be killed.

Linux, ``pip install "dask[array,distributed]" zarr tqdm``, and a disk for the rotated keys. The input is made
first: keys as a first layer has them before rotation, the same for the same token, so they compress. One task
reads, rotates and writes a chunk. The output gets its name when all are there. The check is a float64 formula.
"""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from rope_xp import RoPE

try:
    import dask.array as da
    import zarr
    from dask.distributed import Client, LocalCluster, as_completed, futures_of, wait
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f'{error}; this example needs: pip install "dask[array,distributed]" zarr tqdm')

HEADS, DIM, ROPE = 8, 128, RoPE(128, layout="half", base=500000.0)
BANK = np.random.default_rng(0).standard_normal((HEADS, 256, DIM)).astype(np.float16)
ZSTD = zarr.codecs.ZstdCodec(level=1, checksum=True)  # damage is found when a chunk is read


def keys(at):
    """Keys of the tokens at these positions, (HEADS, tokens, DIM)."""
    return BANK[:, at * 40503 // 2**8 % 256]


def write(block, path, block_id):
    """Write a chunk, whole: to do it again, after a worker was killed, changes nothing."""
    zarr.open_array(path, mode="r+").blocks[block_id] = block
    return block[:1, :1, :1].copy()


def error_of(y, at):
    """The largest error of rotated keys, relative to what rounding to float16 explains."""
    x, turns = keys(at).astype(float), np.exp(1j * at[:, None] * ROPE.frequencies().inv_freq)
    z = (x[..., : DIM // 2] + 1j * x[..., DIM // 2 :]) * turns
    wanted = np.concatenate((z.real, z.imag), axis=-1)
    return np.max(np.abs(y - wanted) / (2**-11 * np.abs(wanted) + 2**-19), keepdims=True)


def compute(chunks, what, client, kill=False):
    """Compute an array with one task for each chunk; exit if one fails, with its number and why."""
    futures = sorted(futures_of(client.persist(chunks)), key=lambda future: future.key)
    bar = tqdm(as_completed(futures), desc=what, total=len(futures), unit=" chunks")
    for done, future in enumerate(bar, 1):
        if future.status != "finished":
            sys.exit(f"{what}: chunk {futures.index(future)} failed: {future.exception()!r}")
        if kill and done == -(-len(futures) // 4):
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            bar.write(f"killed worker {pid} after {done} of {len(futures)} chunks")
    wait(futures)  # what was lost with a worker is computed again
    return max(part.max() for part in client.gather(futures))


@contextlib.contextmanager
def workers(memory, path):
    """Dask workers, and where to write: it becomes ``path`` when all is done, and is gone if not."""
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed itself
    options = {"memory_limit": f"{(memory - 0.5) / 2} GiB", "silence_logs": 50}  # 0.5 is for this
    try:
        with LocalCluster(2, threads_per_worker=1, **options) as local, Client(local) as client:
            yield client, str(partial)
        for left in partial.rglob("*.partial"):  # of chunks that a killed worker was writing
            left.unlink()
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def peak():
    """The most memory that this process had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=0.5, help="size of the keys, in 2**30 bytes")
    parser.add_argument("--memory", type=float, default=4, help="GiB for all processes together")
    parser.add_argument("--chunk", type=int, default=2**14, help="tokens in a chunk")
    parser.add_argument("--folder", type=Path, default=Path("sharded_dask"))
    parser.add_argument("--kill", action="store_true", help="kill a worker in the middle")
    options = parser.parse_args()
    source, target = options.folder / "keys.zarr", options.folder / "rotated.zarr"
    if target.exists():
        sys.exit(f"{target} exists already: remove it, or choose another --folder")
    at = da.arange(int(options.gib * 2**30) // (2 * HEADS * DIM), chunks=options.chunk)
    chunks = {"chunks": (HEADS, options.chunk, DIM), "dtype": "f2", "compressors": ZSTD}
    done = {"chunks": (1, 1, 1), "meta": np.empty((0, 0, 0), np.float16)}
    if not source.exists():
        with workers(options.memory, source) as (client, path):
            made = da.blockwise(keys, "htd", at, "t", new_axes={"h": HEADS, "d": DIM}, dtype="f2")
            zarr.create_array(path, shape=made.shape, **chunks)
            compute(made.map_blocks(write, path, **done), "making keys", client)
    with workers(options.memory, target) as (client, path):
        x, start = da.from_zarr(str(source)), time.perf_counter()
        zarr.create_array(path, shape=x.shape, **chunks)
        compute(ROPE(x).map_blocks(write, path, **done), "rotating", client, options.kill)
        speed = x.nbytes / 1e9 / (seconds := time.perf_counter() - start)
        most = peak() + sum(client.run(peak).values())
        some = slice(None, None, max(1, at.numblocks[0] // 64))
        pairs = (da.from_zarr(path).blocks[:, some], "htd", at.blocks[some], "t")
        ones = dict.fromkeys("htd", 1)
        errors = da.blockwise(error_of, "htd", *pairs, adjust_chunks=ones, dtype=float)
        worst = compute(errors, "checking", client)
        assert worst <= 1, worst
        assert most < options.memory, most
    print(f"{x.nbytes / 1e9:.2f} GB of keys, {x.npartitions} chunks, {seconds:.1f} s, {speed:.3f} GB/s")
    print(f"at most {most:.2f} GiB of memory; errors are within rounding ({worst:.2f} of it)")


if __name__ == "__main__":
    main()
