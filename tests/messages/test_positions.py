"""Error messages of `positions` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, assert_refused

from rope_xp import positions

CASES = [
    pytest.param(
        lambda: positions.token_positions(-1),
        ValueError,
        "`n` must be non-negative, got -1",
        id="n",
    ),
    pytest.param(
        lambda: positions.token_positions(3.0),
        TypeError,
        "`n` must be an int, got 3.0",
        id="n float",
    ),
    pytest.param(
        lambda: positions.token_positions(3, dtype=F32),
        TypeError,
        "`dtype` must be an integer dtype, got float32",
        id="positions dtype",
    ),
    pytest.param(
        lambda: positions.token_positions(3, offset=2**31),
        ValueError,
        "`offset` must keep positions in [-2**31, 2**31)",
        id="token offset",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.ones((2, 2), int), 3),
        ValueError,
        "`cu_seqlens` must have shape (n_sequences + 1,), got (2, 2)",
        id="cu_seqlens",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.ones(2), 3),
        TypeError,
        "`cu_seqlens` must be integer, got float64",
        id="cu_seqlens float",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([0, 2]), -1),
        ValueError,
        "`total` must be non-negative, got -1",
        id="total",
    ),
    pytest.param(
        lambda: positions.mask_positions(np.ones(3)),
        TypeError,
        "`mask` must be boolean or integer, got float64",
        id="mask",
    ),
    pytest.param(
        lambda: positions.mask_positions(np.asarray(True)),
        ValueError,
        "`mask` must have shape (..., seq), got ()",
        id="mask scalar",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3))),
        TypeError,
        "`mask` must be boolean or integer, got float64",
        id="grid mask",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones(3, int)),
        ValueError,
        "`mask` must have shape (..., *grid) with n_axes=2 grid axes, got (3,)",
        id="grid mask axes",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 0, 3), int)),
        ValueError,
        "`mask` must have no grid axis of size 0, got (2, 0, 3)",
        id="grid mask empty",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), n_axes=0),
        ValueError,
        "`n_axes` must be positive, got 0",
        id="grid mask n_axes",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=0),
        ValueError,
        "`scale` must be positive and finite, got 0.0",
        id="grid mask scale",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=1, dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="grid mask dtype",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), dtype=np.float32),
        ValueError,
        "`dtype` must be None without `scale`, where positions are integers, got <class 'numpy.float32'>",
        id="grid mask no scale",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
