"""Mistakes in arguments of `rotation` get a sentence: the argument, the rule, the value."""

import numpy as np
import pytest
from message_cases import COS, F32, SIN, X, assert_refused, rotate, wide

CASES = [
    pytest.param(
        lambda: rotate(**wide(8)),
        ValueError,
        "`cos` must have width n_pairs=4 for head_dim=8, got 8; tables are not repeated to head_dim here",
        id="width",
    ),
    pytest.param(
        lambda: rotate(rotary_start=2),
        ValueError,
        "`cos` must have width n_pairs=3 for head_dim=8 from rotary_start=2 on, got 4",
        id="width after start",
    ),
    pytest.param(
        lambda: rotate(sin=SIN[:, :2]),
        ValueError,
        "`sin` must have the shape of `cos` (5, 4), got (5, 2)",
        id="sin width",
    ),
    pytest.param(
        lambda: rotate(cos=COS[:4], sin=SIN[:4]),
        ValueError,
        "`cos` must line up with `x` of shape (2, 3, 5, 8): along axis 2 of `x` it must have size 5 or 1, got 4",
        id="table length",
    ),
    pytest.param(
        lambda: rotate(cos=np.ones((3, 5, 4), F32), sin=np.ones((3, 5, 4), F32)),
        ValueError,
        "along axis 0 of `x` it must have size 2 or 1, got 3",
        id="table batch",
    ),
    pytest.param(
        lambda: rotate(x=X[0, 0], cos=np.ones((1, 5, 4), F32), sin=np.ones((1, 5, 4), F32)),
        ValueError,
        "`cos` must have shape (seq, n_pairs), (batch, seq, n_pairs) or as many axes as `x`",
        id="table axes",
    ),
    pytest.param(
        lambda: rotate(cos=np.ones((5, 4), int)),
        TypeError,
        "`cos` must be one of float16, bfloat16, float32, float64, got int64",
        id="table type",
    ),
    pytest.param(
        lambda: rotate(x=np.ones((5, 8), int)),
        TypeError,
        "`x` must be one of float16, bfloat16, float32, float64, got int64",
        id="x type",
    ),
    pytest.param(
        lambda: rotate(x=np.ones((5, 8), bool)),
        TypeError,
        "`x` must be one of float16, bfloat16, float32, float64, got bool",
        id="x bool",
    ),
    pytest.param(
        lambda: rotate(layout="interleave"),
        ValueError,
        "`layout` must be one of 'half', 'interleaved', got 'interleave'",
        id="rotate layout",
    ),
    pytest.param(
        lambda: rotate(rotary_start=-1),
        ValueError,
        "`rotary_start` must be in [0, head_dim=8), got -1",
        id="rotate start",
    ),
    pytest.param(
        lambda: rotate(out=X[0].copy()),
        ValueError,
        "`out` must have the shape and dtype of `x`",
        id="out shape",
    ),
    pytest.param(
        lambda: rotate(out=X.astype(np.float64)),
        ValueError,
        "`out` must have the shape and dtype of `x`",
        id="out dtype",
    ),
    pytest.param(
        lambda: rotate(out=[]), TypeError, "`out` must be an array of a library", id="out list"
    ),
    pytest.param(
        lambda: rotate(blocks=(2, 4)),
        ValueError,
        "`blocks` must be even, positive, and sum to 2 n_pairs=8, got (2, 4)",
        id="blocks",
    ),
    pytest.param(
        lambda: rotate(blocks=(3, 5)),
        ValueError,
        "`blocks` must be even, positive, and sum to 2 n_pairs=8, got (3, 5)",
        id="blocks odd",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
