"""CuPy without a GPU: every call that reaches the namespace must fit the real package's signature.

A recorder replaces the namespace of NumPy arrays while the library runs through all it can do.
What it recorded is then bound to the functions of array_api_compat.cupy, which imports without a
GPU. That the library keeps to the standard and to the device of its arrays is array-api-strict's
part (test_messages.py, and every test on ``strict``); what is compiled for CuPy is test_cuda_source.py's.
"""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, analysis, attention, axes, positions, relative, scaling
from rope_xp._backends.namespaces import LIBRARIES
from rope_xp._kernels import force_kernel
from rope_xp.axes import Axial

cupy = pytest.importorskip("cupy", reason="cupy is not installed")
pytestmark = pytest.mark.backend("cupy")


class Recorder:
    """A namespace that passes everything on and writes down what was called, and how."""

    def __init__(self, xp):
        self._xp = xp
        self.calls = {}
        self.names = set()

    def __getattr__(self, name):
        found = getattr(self._xp, name)
        self.names.add(name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*args, **kwargs):
            self.calls.setdefault(name, []).append((len(args), tuple(sorted(kwargs))))
            return found(*args, **kwargs)

        return call


def everything():
    """All that the library can do, on small arrays."""
    x = np.ones((2, 4, 5, 8), dtype=np.float32)
    for layout in ("half", "interleaved"):
        for precision in ("exact", "float32"):
            rope = RoPE(8, layout=layout, rotary_dim=4, rotary_start=2, precision=precision)
            q, k = rope(x, x[:, :2], offset=3)
            rope(x.astype(np.float64), offset=np.asarray([1, 2]))
            rope.inverse(q, k, positions=np.arange(5) * 0.5)
            rope.shift(k, -3)
            rope.shift(k, np.asarray([[1], [2]]))
            rope.rotate(x.copy(), *rope.cos_sin(np.arange(5)), out=np.empty_like(x))
        for order in ("interleaved", "sin_cos", "cos_sin"):
            rope_xp.sinusoidal(np.arange(3), 8, order=order, dtype=np.float16)
        rope_xp.convert_layout(x, source=layout, target="half", head_dim=4, rotary_dim=2)
        for scheme in (
            axes.Axial((2, 4, 2), split=True),
            axes.Sections((2, 1, 1)),
            axes.golden_directions(3, 4, slowest=0.1, fastest=2.0),
        ):
            rope = RoPE(8, layout=layout, axes=scheme)
            k = rope(x, positions=np.ones((3, 2, 5), dtype=np.int64))
            rope(x, positions=np.ones((3, 5)), offset=0)
            if isinstance(scheme, axes.Sections):
                rope(x, offset=np.asarray([1, 2]))
            rope.shift(k, np.ones((3, 2, 1), dtype=np.int64))
            rope.rotate(x.copy(), *rope.cos_sin(np.ones((3, 5), np.int32)), out=np.empty_like(x))
    rope_xp.cos_sin(np.ones((2, 5)), np.ones((2, 4, 1, 4)))
    rope_xp.phases.xpos_scale(np.arange(3), 4)
    rope_xp.phases.xpos_scale(np.ones(3), 4, center=1.5)
    rope = RoPE(8, layout="half")
    q, k = rope(x, x[:, :2])
    rope_xp.cos_sin(np.arange(3), [1.0], attention_factor=1.5)
    positions.token_positions(4, xp=np)
    positions.packed_positions(np.asarray([0, 2, 5]), 6)
    positions.mask_positions(np.asarray([[0, 1, 1]]))
    patches = positions.mask_grid_positions(np.asarray([[0, 1, 1]]), scale=1.0)
    rope_xp.sinusoidal(patches, 8, order="sin_cos", axes=Axial(2, split=True))
    positions.grid_positions(2, 4, 4, merge=2, indexing="xy", xp=np)
    positions.grid_positions(positions.normalized_axis(2), range(3), xp=np)
    positions.text_image_positions([2, (1, 2, 2)], xp=np)
    positions.zigzag_positions(8, 1, 2, xp=np)
    at, table = np.arange(5), np.ones((5, 8), dtype=np.float32)
    relative.t5_bucket(relative.relative_positions(at, at))
    relative.shaw_score(x, x, table, relative.clipped_index(at, at, 2))
    relative.transformer_xl_score(x, x, table, table[:4], table[:4])
    attention.attention(x, x, x, bias=relative.alibi_bias(at, at, 4))
    relative.alibi_slopes(4, xp=np)
    attention.attention(q, k, k, causal=True, bias=np.zeros((5, 5), np.float32))
    attention.attention(q, k, k, bias=attention.causal_mask(np.arange(5), np.arange(5)))
    for scale in (
        scaling.FloorLogScale(9, 0.1, 1),
        scaling.LogScale(9),
        scaling.PowerScale(9, 0.1),
    ):
        for kind in (np.int8, np.int64, np.uint64, np.float16):
            attention.attention(x, x, x, query_scale=scale(np.arange(5, dtype=kind)))
    scaling.LearnedLogScale()(np.arange(5), np.ones(2), np.ones(2))
    for function in (analysis.abel_bound, analysis.score_curve):
        function(x, x, 3, [1.0, 0.1, 0.01, 0.0], "half")
        function(x, x, np.arange(5), [1.0, 0.1, 0.01, 0.0], "interleaved", dtype=np.float32)
    analysis.decay_bound(np.arange(5), [1.0, 0.1])
    analysis.advantage(np.arange(5), [1.0, 0.1])
    for causal in (False, True):
        attention.linear_attention(x, k[:, :, :4, :], k[:, :, :4, :], rope=rope, causal=causal)
    cache = attention.KVCache.empty((2, 2, 9, 8)).append(k, k)
    cache.drop(2, rope, keep=1)


@pytest.fixture(scope="module")
def recorded():
    patch = pytest.MonkeyPatch()
    numpy = LIBRARIES["numpy"]
    recorder = Recorder(numpy.load())
    recording = replace(numpy, load=lambda: recorder, shared_namespace=lambda *_: recorder)
    patch.setitem(LIBRARIES, "numpy", recording)
    with force_kernel("concat"):  # as CuPy's arrays are rotated; NumPy has kernels of its own
        everything()
    patch.undo()
    return recorder


@pytest.fixture(scope="module")
def cupy_namespace():
    import array_api_compat.cupy as xp

    return xp


def test_the_recorder_saw_the_library_work(recorded):
    assert {"cos", "sin", "concat", "stack", "take", "where", "matrix_transpose"} <= set(
        recorded.names
    )
    assert len(recorded.calls) > 15


def test_every_name_is_there(recorded, cupy_namespace):
    missing = [name for name in sorted(recorded.names) if not hasattr(cupy_namespace, name)]
    assert missing in ([], ["__name__"])


def test_every_call_fits(recorded, cupy_namespace):
    unchecked = []
    for name, calls in sorted(recorded.calls.items()):
        function = getattr(cupy_namespace, name)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            unchecked.append(name)  # CuPy's ufuncs: how many operands they take is known
            for n_args, kwargs in set(calls):
                assert n_args == function.nin, name
                assert set(kwargs) <= {"out", "dtype", "casting", "where"}, name
            continue
        for n_args, kwargs in set(calls):
            try:
                signature.bind(*range(n_args), **dict.fromkeys(kwargs))
            except TypeError as error:
                pytest.fail(f"cupy.{name}{signature}: {n_args} arguments and {kwargs}: {error}")
    assert set(unchecked) <= {"abs", "cos", "exp", "hypot", "isfinite", "sin"}


def test_a_call_that_does_not_fit_is_found(cupy_namespace):
    with pytest.raises(TypeError):
        inspect.signature(cupy_namespace.concat).bind(range(1), dimension=0)


def test_operators_of_the_array(cupy_namespace):
    """What arrays are asked for besides functions."""
    wanted = "__and__ __xor__ __rshift__ __lshift__ __add__ __sub__ __mul__ __neg__ __truediv__"
    wanted += " __rsub__ __rmul__ __radd__ __matmul__ __getitem__ __setitem__ device ndim dtype"
    for name in wanted.split():
        assert hasattr(cupy.ndarray, name)


def test_the_reason_for_no_gpu_is_said():
    """On a machine with a GPU the whole matrix runs instead: ``lib`` includes cupy."""
    from conftest import no_gpu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = no_gpu()
    assert reason is None or reason.startswith("no GPU for cupy: ")
