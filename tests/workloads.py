"""What threads and processes compute for `test_threads` and `test_processes`, one digest for each piece.

``python tests/workloads.py LIBRARY [THREADS]`` prints them as JSON; with threads, every one of these
computes all, all at once, starting with the first import of the library. Nothing of it, and no array
library, is imported before.
"""

import hashlib
import json
import os
import sys
import threading

import numpy as np

NAMESPACES = {
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax.numpy",
    "strict": "array_api_strict",
    "dask": "dask.array",
}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def namespace(name):
    from importlib import import_module

    return import_module(NAMESPACES[name])


def array(xp, values):
    return values if xp is np else xp.asarray(values)


def numbers(shape, dtype=np.float32):
    """The same numbers everywhere: no generator whose algorithm may change."""
    n = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(n * 12.9898 + 1).reshape(shape).astype(dtype)


def small(name):
    from rope_xp import RoPE

    xp = namespace(name)
    q, k = (array(xp, numbers((1, heads, 5, 64))) for heads in (4, 2))
    for layout in ("half", "interleaved"):
        rope = RoPE(64, layout=layout)
        yield from rope(q, k, offset=1_000_000)
        yield rope.inverse(q, positions=array(xp, np.arange(5, dtype=np.int32)))


def large(name):
    """Above the size from which kernels are chosen, and machine code is compiled."""
    from rope_xp import RoPE

    xp = namespace(name)
    for dtype in (np.float32, np.float64 if name == "strict" else np.float16):
        x = array(xp, numbers((2, 4, 300, 128), dtype))
        for layout in ("interleaved", "half"):
            for rotary_dim in (128, 96):
                yield RoPE(128, layout=layout, rotary_dim=rotary_dim)(x, offset=70_000)


def tables(name):
    from rope_xp import RoPE, cos_sin, scaling, sinusoidal

    xp = namespace(name)
    positions = array(xp, np.asarray([0, 1, 4095, 131_072, 999_999], np.int32))
    for precision in ("exact", "float32"):
        yield from RoPE(32, layout="half", base=5e5, precision=precision).cos_sin(positions)
    yield from cos_sin(positions, scaling.YaRN(4.0, 4096)(64, 10000.0).inv_freq)
    yield sinusoidal(positions, 32)


def axes(name):
    from rope_xp import RoPE
    from rope_xp.axes import Axial, InterleavedSections, Sections
    from rope_xp.positions import grid_positions

    xp = namespace(name)
    x = array(xp, numbers((1, 2, 12, 48)))
    for scheme in (Sections((8, 8, 8)), InterleavedSections((8, 8, 8)), Axial(3)):
        rope = RoPE(48, layout="half", axes=scheme)
        yield rope(x, positions=grid_positions(2, 2, 3, xp=xp))


def configs(name):
    from rope_xp.configs import explain, layer_ropes

    xp = namespace(name)
    x = array(xp, numbers((1, 4, 3, 64)))
    for rope in layer_ropes(CONFIG):
        yield rope(x, offset=20_000)
    yield np.frombuffer(explain(CONFIG).encode(), np.uint8)


def attention(name):
    from rope_xp import RoPE
    from rope_xp.attention import KVCache, WindowCache, attention_mask
    from rope_xp.positions import Tokens, packed_positions
    from rope_xp.relative import alibi_bias

    xp = namespace(name)
    rope = RoPE(16, layout="half")
    k = rope(array(xp, numbers((1, 2, 4, 16))))
    for kind in (KVCache, WindowCache):
        options = (rope,) if kind is WindowCache else ()
        cache = kind.empty((1, 2, 8, 16), *options, xp=xp).append(k, k)
        yield from (cache.k, cache.v, cache.positions, cache.mask(cache.positions[:4]))
    sums = array(xp, np.asarray([0, 3, 5], np.int32))
    tokens = Tokens(packed_positions(sums, 5))
    yield attention_mask(tokens, window=2)
    yield alibi_bias(cache.positions[:4], cache.positions[:4], 2)


def bits(value):
    """All that a value contains, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return type(value).__name__, tuple(map(bits, value))
    return repr(value)


def received(value):
    """In the other process: what has arrived, and what it computes there."""
    from rope_xp import RoPE

    x = numbers((1, 2, 3, value.head_dim)) if isinstance(value, RoPE) else None
    computed = None if x is None or value.axes else value(x, offset=5).tobytes()
    return bits(value), computed, value


PIECES = (small, large, tables, axes, configs, attention)


def digest(piece, name):
    found = hashlib.sha256()
    for result in piece(name):
        values = np.asarray(result.compute() if hasattr(result, "compute") else result)
        found.update(f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).data)
    return found.hexdigest()


def digests(name, first=0):
    """Of every piece, beginning with another one than other threads."""
    # First: Python itself finds a deadlock where one thread imports a package, which imports a module
    # in it, and another thread imports that module.
    import rope_xp  # noqa: F401

    order = [*PIECES[first % len(PIECES) :], *PIECES[: first % len(PIECES)]]
    found = {piece.__name__: digest(piece, name) for piece in order}
    return {piece.__name__: found[piece.__name__] for piece in PIECES}


def in_threads(work, count):
    """What ``work(0)``, ``work(1)``, … return, all of which start at once; an error is raised."""
    together, found = threading.Barrier(count), [None] * count

    def run(i):
        together.wait()
        try:
            found[i] = work(i)
        except BaseException as error:  # noqa: BLE001 - raised below
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if any(thread.is_alive() for thread in threads):
        msg = "threads wait for each other"
        raise RuntimeError(msg)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def main(name, count="1"):
    sys.setswitchinterval(1e-6)
    found = in_threads(lambda i: digests(name, i), int(count)) if count != "1" else [digests(name)]
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # libraries' threads may take long to end


if __name__ == "__main__":
    main(*sys.argv[1:])
