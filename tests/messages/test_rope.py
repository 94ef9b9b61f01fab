"""Mistakes in arguments of `rope` get a sentence: the argument, the rule, the value."""

import numpy as np
import pytest
from message_cases import COS, F32, ROPE, SIN, X, assert_refused, wide

from rope_xp import RoPE, axes, scaling

CASES = [
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_dim=7),
        ValueError,
        "`rotary_dim` must be even and positive, got 7",
        id="odd",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_dim=0),
        ValueError,
        "`rotary_dim` must be even and positive, got 0",
        id="zero",
    ),
    pytest.param(
        lambda: RoPE(7, layout="half"),
        ValueError,
        "`rotary_dim` must be even and positive, got 7",
        id="odd head",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_dim=80),
        ValueError,
        "`rotary_dim` must be at most head_dim - rotary_start = 64, got 80",
        id="too large",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_dim=60, rotary_start=8),
        ValueError,
        "`rotary_dim` must be at most head_dim - rotary_start = 56, got 60",
        id="too far",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_start=64),
        ValueError,
        "`rotary_start` must be in [0, head_dim=64), got 64",
        id="start",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", rotary_start=-2),
        ValueError,
        "`rotary_start` must be in [0, head_dim=64), got -2",
        id="negative start",
    ),
    pytest.param(
        lambda: RoPE(-4, layout="half"),
        ValueError,
        "`head_dim` must be positive, got -4",
        id="head_dim",
    ),
    pytest.param(
        lambda: RoPE(64.0, layout="half"),
        TypeError,
        "`head_dim` must be an int, got 64.0",
        id="head_dim float",
    ),
    pytest.param(
        lambda: RoPE(True, layout="half"),
        TypeError,
        "`head_dim` must be an int, got True",
        id="head_dim bool",
    ),
    pytest.param(
        lambda: RoPE(64, layout="neox"),
        ValueError,
        "`layout` must be one of 'half', 'interleaved', got 'neox'",
        id="layout",
    ),
    pytest.param(lambda: RoPE(64), TypeError, "layout", id="no layout"),
    pytest.param(
        lambda: RoPE(64, layout="half", base=-1),
        ValueError,
        "`base` must be positive and finite, got -1.0",
        id="base",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", base=float("inf")),
        ValueError,
        "`base` must be positive and finite, got inf",
        id="base inf",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", base=float("nan")),
        ValueError,
        "`base` must be positive and finite, got nan",
        id="base nan",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", base="1e4"),
        TypeError,
        "`base` must be a number, got '1e4'",
        id="base text",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", precision="bf16"),
        ValueError,
        "unknown precision 'bf16'; known: 'exact', 'float32'",
        id="precision",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", scaling="yarn"),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got 'yarn'",
        id="scaling",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", axes=2),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got 2",
        id="axes",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", axes=axes.Axial),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got <class",
        id="axes of none",
    ),
    pytest.param(
        lambda: RoPE(
            4, layout="half", axes=axes.Directions([[1.0, 2.0]]), scaling=scaling.Linear(2.0)
        ),
        ValueError,
        "`scaling` must be None with `axes` that bring their own frequencies, got Linear(factor=2.0)",
        id="axes scaling",
    ),
    pytest.param(
        lambda: ROPE(np.ones((2, 5, 16), F32)),
        ValueError,
        "`q` must have shape (..., seq, head_dim=8), got (2, 5, 16)",
        id="features",
    ),
    pytest.param(
        lambda: ROPE(np.ones(8, F32)),
        ValueError,
        "`q` must have shape (..., seq, head_dim=8), got (8,)",
        id="one axis",
    ),
    pytest.param(
        lambda: ROPE(X, np.ones((2, 5, 4), F32)),
        ValueError,
        "`k` must have shape (..., seq, head_dim=8), got (2, 5, 4)",
        id="k features",
    ),
    pytest.param(
        lambda: ROPE(X, X[:, :, :4]),
        ValueError,
        "`k` must have the sequence length of `q`, 5, got 4",
        id="k length",
    ),
    pytest.param(
        lambda: ROPE(np.ones((5, 8), int)),
        TypeError,
        "`q` must be one of float16, bfloat16, float32, float64, got int64",
        id="integer x",
    ),
    pytest.param(
        lambda: ROPE(np.ones((5, 8), complex)),
        TypeError,
        "`q` must be one of float16, bfloat16, float32, float64, got complex128",
        id="complex x",
    ),
    pytest.param(
        lambda: ROPE([[1.0] * 8]),
        TypeError,
        "`q` must be an array of a library that follows the array API standard",
        id="list x",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.arange(4)),
        ValueError,
        "`positions` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `q`), got (4,)",
        id="positions length",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.arange(1)), ValueError, "got (1,)", id="positions one"
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.ones((3, 5), int)),
        ValueError,
        "`positions` must have batch=2 (axis 0 of `q`) or 1 as its first axis, got shape (3, 5)",
        id="positions batch",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.ones((1, 1, 5), int)),
        ValueError,
        "`positions` must have shape (seq,) or (batch, seq)",
        id="positions axes",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.asarray(1)),
        ValueError,
        "`positions` must have shape (seq,) or (batch, seq)",
        id="positions scalar",
    ),
    pytest.param(
        lambda: ROPE(X[0, 0], positions=np.ones((2, 5), int)),
        ValueError,
        "`positions` must not have a batch axis, got shape (2, 5)",
        id="positions without batch",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.ones(5, bool)),
        TypeError,
        "`positions` must be integer or real floating, got bool",
        id="positions bool",
    ),
    pytest.param(
        lambda: ROPE(X, positions=[0, 1, 2, 3, 4]),
        TypeError,
        "`positions` must be an array of a library",
        id="positions list",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.arange(5), offset=3),
        ValueError,
        "`offset` must be 0 when `positions` are given, got 3",
        id="both",
    ),
    pytest.param(
        lambda: ROPE(X, offset=1.5),
        TypeError,
        "`offset` must be an int, got 1.5",
        id="offset float",
    ),
    pytest.param(
        lambda: ROPE(X, offset=True),
        TypeError,
        "`offset` must be an int, got True",
        id="offset bool",
    ),
    pytest.param(
        lambda: ROPE(X, offset=np.ones(2)),
        TypeError,
        "`offset` must be integer, got float64",
        id="offset float array",
    ),
    pytest.param(
        lambda: ROPE(X, offset=np.arange(3)),
        ValueError,
        "`offset` must have batch=2 (axis 0 of `q`) or 1 as its first axis, got shape (3,)",
        id="offset batch",
    ),
    pytest.param(
        lambda: ROPE(X, offset=np.ones((2, 5), int)),
        ValueError,
        "`offset` must be an int or have shape () or (batch,), got (2, 5)",
        id="offset axes",
    ),
    pytest.param(
        lambda: ROPE(X, offset=2**31 - 4),
        ValueError,
        "`offset` must keep positions in [-2**31, 2**31), got 2147483644 for 5 tokens",
        id="offset past the end",
    ),
    pytest.param(
        lambda: ROPE(X, offset=-(2**31) - 1),
        ValueError,
        "`offset` must keep positions in [-2**31, 2**31), got -2147483649",
        id="offset before the start",
    ),
    pytest.param(
        lambda: ROPE(X, seq_axis=-1),
        ValueError,
        "`seq_axis` must be an axis of `q` other than its last, got -1",
        id="seq_axis",
    ),
    pytest.param(
        lambda: ROPE(X, seq_axis=-5),
        ValueError,
        "`seq_axis` must be an axis of `q` other than its last, got -5",
        id="seq_axis out",
    ),
    pytest.param(
        lambda: ROPE(X, seq_len=0), ValueError, "`seq_len` must be positive, got 0", id="seq_len"
    ),
    pytest.param(
        lambda: ROPE(X, seq_len=5.0),
        TypeError,
        "`seq_len` must be an int, got 5.0",
        id="seq_len float",
    ),
    pytest.param(
        lambda: ROPE.shift(X, 0.5), TypeError, "`delta` must be an int, got 0.5", id="delta"
    ),
    pytest.param(
        lambda: ROPE.shift(X, 2**31),
        ValueError,
        "`delta` must keep positions in [-2**31, 2**31), got 2147483648",
        id="delta far",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.arange(3)),
        ValueError,
        "`delta` must have batch=2 (axis 0 of `k`) or 1",
        id="delta batch",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.ones((2, 4), int)),
        ValueError,
        "`delta` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (2, 4)",
        id="delta length",
    ),
    pytest.param(
        lambda: ROPE.rotate(X, **wide(8)),
        ValueError,
        "`cos` must have width n_pairs=4 for head_dim=8, got 8; tables are not repeated to head_dim here",
        id="table width",
    ),
    pytest.param(
        lambda: ROPE.rotate(X, **wide(2)),
        ValueError,
        "`cos` must have width n_pairs=4 for head_dim=8, got 2",
        id="table narrow",
    ),
    pytest.param(
        lambda: ROPE.rotate([[1.0] * 8], COS, SIN),
        TypeError,
        "`x` must be an array of a library",
        id="rotate list",
    ),
    pytest.param(
        lambda: ROPE.rotate(X, [1.0], SIN),
        TypeError,
        "`cos` must be an array of a library",
        id="table list",
    ),
    pytest.param(
        lambda: ROPE.rotate(X, COS[0, 0, ...], SIN),
        ValueError,
        "`cos` must have width n_pairs=4 for head_dim=8, got a scalar",
        id="table scalar",
    ),
    pytest.param(
        lambda: ROPE.shift([1.0], 1),
        TypeError,
        "`k` must be an array of a library",
        id="shift list",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
