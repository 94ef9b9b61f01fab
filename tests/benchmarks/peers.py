"""What ours is compared with: the common formulas, and kernels of other libraries.

Every peer gets the tables in the form that it needs, computed beforehand from ours: only the rotation
is timed. Formulas are for ``xp`` in (numpy, torch, jax.numpy).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks import measure
from rope_xp import RoPE


@dataclass(frozen=True)
class Problem:
    """One array to rotate: (batch, heads, seq, head_dim), and how many pairs of it turn."""

    shape: tuple[int, int, int, int]
    n_pairs: int

    def __str__(self):
        partial = "" if 2 * self.n_pairs == self.shape[-1] else f", {self.n_pairs} pairs"
        return "×".join(map(str, self.shape)) + partial

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        """In float32."""
        return 4 * self.size

    def token_bytes(self, dtype):
        """Of one token, all heads."""
        return self.shape[1] * self.shape[3] * (2 if dtype == "bfloat16" else 4)

    def small(self):
        """A small version, to compare numbers instead of times."""
        batch, heads, seq, head_dim = self.shape
        return Problem((min(batch, 2), min(heads, 2), min(seq, 16), head_dim), self.n_pairs)

    def arrays(self):
        """q, k, cos, sin in float32, new at each call."""
        return tuple(array.copy() for array in _made(self))

    def large_arrays(self):
        """x, cos, sin in float32; random numbers that repeat, because they are made in no time."""
        rng = np.random.default_rng(0)
        some = rng.standard_normal(min(self.size, 2**18), dtype=np.float32)
        return np.resize(some, self.shape), *self.tables()

    def q_and_k(self):
        """A fifth of the heads are keys."""
        q_heads = self.shape[1] * 4 // 5
        x = self.arrays()[0]
        return x[:, :q_heads].copy(), x[:, q_heads:].copy()

    def tables(self, precision="exact"):
        """cos, sin in float32, (seq, n_pairs)."""
        rope = RoPE(self.shape[-1], layout="half", rotary_dim=2 * self.n_pairs, precision=precision)
        return rope.cos_sin(np.arange(self.shape[-2]))


@lru_cache(maxsize=1)  # cases of one problem follow each other, and random numbers take time
def _made(problem):
    rng = np.random.default_rng(0)
    q = rng.standard_normal(problem.shape, dtype=np.float32)
    return q, np.flip(q, -1), *problem.tables()


def name(problem):
    """A test's id, in ASCII."""
    return str(problem).replace("×", "x").replace(", ", "-").replace(" ", "-")


# No array of exactly 32 MiB: there glibc switches between fresh and kept pages, and there are two kinds
# of times. These are 24, 96 and 30 MiB in float32.
PROBLEMS = [
    Problem((1, 32, 1536, 128), 64),
    Problem((1, 32, 6144, 128), 64),
    Problem((8, 32, 480, 64), 32),
    Problem((1, 32, 1536, 128), 32),
]
FIRST, LARGEST = PROBLEMS[:2]
DECODE = Problem((1, 32, 1, 128), 64)
DECODE_BOTH = Problem((1, 32 + 8, 1, 128), 64)  # q and k of a token


def of_kib(kib):
    """So much float32: heads of one token up to 16 KiB, then tokens of 32 heads."""
    heads = min(32, 2 * kib)
    return Problem((1, heads, 2 * kib // heads, 128), 64)


BELOW_1_MIB = (1, 4, 16, 64, 128, 240, 256, 512)
FROM_1_MIB = (1, 2, 4, 8, 24, 64, 256, 1024)
SIZES = [of_kib(kib) for kib in (*BELOW_1_MIB, *(1024 * mib for mib in FROM_1_MIB))]
FEW_SIZES = [of_kib(16), of_kib(256)]


# --- formulas ------------------------------------------------------------------------------------


def full_width(xp, cos, sin):
    """Tables repeated to the width of the rotated features, as most libraries keep them."""
    return xp.concatenate((cos, cos), -1), xp.concatenate((sin, sin), -1)


def on_first(xp, formula, width):
    """``formula`` on the first ``width`` features, followed by the others, as in models."""

    def partial(x, *tables):
        if x.shape[-1] == width:
            return formula(x, *tables)
        return xp.concatenate((formula(x[..., :width], *tables), x[..., width:]), -1)

    return partial


def concatenating(xp):
    """x · cos + rotate_half(x) · sin with tables of full width."""

    def formula(x, cos, sin):
        half = x.shape[-1] // 2
        turned = xp.concatenate((-x[..., half:], x[..., :half]), -1)
        return x * cos + turned * sin

    return formula


def by_halves(xp):
    """The bare formula with tables of half the width, as written by hand for a decode step."""

    def formula(x, cos, sin):
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        return xp.concatenate((a * cos - b * sin, b * cos + a * sin), -1)

    return formula


def stacking(xp):
    """Interleaved pairs split, rotated, and stacked again."""

    def formula(x, cos, sin):
        pairs = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2)
        a, b = pairs[..., 0], pairs[..., 1]
        return xp.stack((a * cos - b * sin, b * cos + a * sin), -1).reshape(x.shape)

    return formula


def meta(x, turns):
    """Llama's original: interleaved pairs as complex numbers in float32, times a table of unit numbers."""
    import torch

    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)


def float64_phases(inv_freq):
    """cos and sin of positions by NumPy in three lines."""

    def phases(positions):
        angles = positions[:, None] * inv_freq
        return np.cos(angles), np.sin(angles)

    return phases


# --- onnxruntime ---------------------------------------------------------------------------------


def onnxruntime(problem, layout, x, cos, sin, out):
    """A call of the operator RotaryEmbedding of opset 23 that reads ``x`` and writes ``out``."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    # A table for each row of the batch: with position_ids it would gather them first.
    tables = [np.repeat(table[None], problem.shape[0], axis=0) for table in (cos, sin)]
    node = helper.make_node(
        "RotaryEmbedding",
        ["x", "cos", "sin"],
        ["y"],
        interleaved=int(layout == "interleaved"),
        rotary_embedding_dim=0 if 2 * problem.n_pairs == x.shape[-1] else 2 * problem.n_pairs,
        num_heads=problem.shape[1],
    )
    inputs = [value("x", x.shape), value("cos", tables[0].shape), value("sin", tables[1].shape)]
    graph = helper.make_graph([node], "rotary", inputs, [value("y", x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)

    options = ort.SessionOptions()
    options.intra_op_num_threads = measure.n_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    bound = session.io_binding()
    for name, array in zip(("x", "cos", "sin"), (x, *tables), strict=True):
        bound.bind_cpu_input(name, array)
    bound.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def call():
        session.run_with_iobinding(bound)
        return out

    return call
