"""Rotate queries and keys with every array library that is installed, at position 1,000,000.

python examples/quickstart.py
"""

import importlib
import importlib.util
import time

import numpy as np

from rope_xp import RoPE

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "dask": "dask.array"}
LIBRARIES |= {"cupy": "cupy", "array_api_strict": "array_api_strict"}

ROPE = RoPE(128, layout="half", base=500_000.0)  # as in Llama 3, before its scaling


def main():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((1, 32, 256, 128), dtype=np.float32)  # (batch, heads, seq, head_dim)
    k = rng.standard_normal((1, 8, 256, 128), dtype=np.float32)  # fewer heads: shared keys

    print(f"{ROPE}\nq {q.shape}, k {k.shape}, {q.dtype}, positions 1,000,000 … 1,000,255\n")
    print(f"{'library':<18} {'version':<12} {'result':<24} differs from NumPy by")
    reference = ROPE(q, k, offset=1_000_000)
    for name, module in LIBRARIES.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name:<18} not installed")
            continue
        try:
            xp = importlib.import_module(module)
            rotated = ROPE(xp.asarray(q), xp.asarray(k), offset=1_000_000)
            worst = max(
                np.abs(to_numpy(r) - n).max() for r, n in zip(rotated, reference, strict=True)
            )
        except Exception as error:  # noqa: BLE001 - for example CuPy without a GPU
            print(f"{name:<18} cannot run here: {str(error).splitlines()[0][:60]}")
            continue
        version = importlib.import_module(name).__version__
        kind = f"{type(rotated[0]).__module__.partition('.')[0]}.{type(rotated[0]).__name__}"
        print(f"{name:<18} {version:<12} {kind:<24} {worst:.1e}")

    print("\nThe score of one query and one key, 5 tokens apart, wherever they are:\n")
    rounded = RoPE(128, layout="half", base=500_000.0, precision="float32")
    print(f"{'key at position':>15}  {'exact phases':>12}  {'float32 angles':>14}")
    for position in (0, 1_000, 131_072, 1_000_000, 100_000_000):
        scores = [score(rope, q[0, 0, 0], k[0, 0, 0], position) for rope in (ROPE, rounded)]
        print(f"{position:>15,}  {scores[0]:>12.5f}  {scores[1]:>14.5f}")

    print("\nLargest error of cos and sin at position 1,000,000:\n")
    at = np.asarray([1_000_000])
    true = np.concatenate(ROPE.cos_sin(at, dtype=np.float64))
    for name, rope in (("exact phases", ROPE), ("float32 angles", rounded)):
        print(f"{name:>15}  {np.abs(np.concatenate(rope.cos_sin(at)) - true).max():.0e}")


def score(rope, q, k, position):
    """⟨R(position + 5) q, R(position) k⟩."""
    y = rope(np.stack([q, k]), positions=np.asarray([position + 5, position]))
    return float(y[0] @ y[1])


def to_numpy(array):
    return np.asarray(array.get() if hasattr(array, "get") else array)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - started:.1f} s, imports of the libraries included")
