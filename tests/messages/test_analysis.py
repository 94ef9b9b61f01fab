"""Error messages of `analysis` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import X, assert_refused

from rope_xp import analysis

CASES = [
    pytest.param(
        lambda: analysis.wavelengths([]),
        ValueError,
        "`inv_freq` must be finite numbers, at least one, got []",
        id="wavelengths of nothing",
    ),
    pytest.param(
        lambda: analysis.wavelengths([1.0, float("nan")]),
        ValueError,
        "`inv_freq[1]` must be finite, got nan",
        id="wavelengths of nan",
    ),
    pytest.param(
        lambda: analysis.wavelengths(1.0),
        TypeError,
        "`inv_freq` must be a list or a NumPy array, got float",
        id="wavelengths of a number",
    ),
    pytest.param(
        lambda: analysis.turns([1.0], -1),
        ValueError,
        "`length` must be non-negative, got -1",
        id="length",
    ),
    pytest.param(
        lambda: analysis.turns([1.0], float("inf")),
        ValueError,
        "`length` must be finite, got inf",
        id="length inf",
    ),
    pytest.param(
        lambda: analysis.turns([1.0], "4k"),
        TypeError,
        "`length` must be a number, got '4k'",
        id="length text",
    ),
    pytest.param(
        lambda: analysis.decay_bound("far", [1.0]),
        TypeError,
        "`distance` must be integers or real numbers, got 'far'",
        id="distance",
    ),
    pytest.param(
        lambda: analysis.decay_bound(True, [1.0]),
        TypeError,
        "`distance` must be integers or real numbers, got True",
        id="distance bool",
    ),
    pytest.param(
        lambda: analysis.advantage([0, 2**64], [1.0]),
        ValueError,
        "`distance` must be within [-2**63, 2**64), got [0, 18446744073709551616]",
        id="distance far",
    ),
    pytest.param(
        lambda: analysis.decay_bound(1, [1.0], dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="analysis dtype",
    ),
    pytest.param(
        lambda: analysis.decay_bound(1, np.ones((2, 4))),
        ValueError,
        "`inv_freq` must have shape (n_pairs,), got (2, 4)",
        id="analysis axes",
    ),
    pytest.param(
        lambda: analysis.abel_bound(X, X, 0, np.ones(4), "neox"),
        ValueError,
        "`layout` must be one of 'half', 'interleaved', got 'neox'",
        id="bound layout",
    ),
    pytest.param(
        lambda: analysis.abel_bound(X, X, 0, np.ones(3), "half"),
        ValueError,
        "`q` must have shape (..., head_dim=6), two features for each of 3 frequencies, got (2, 3, 5, 8)",
        id="bound q",
    ),
    pytest.param(
        lambda: analysis.score_curve(X, X[..., :7], 0, np.ones(4), "half"),
        ValueError,
        "`k` must have shape (..., head_dim=8), two features for each of 4 frequencies, got (2, 3, 5, 7)",
        id="bound k",
    ),
    pytest.param(
        lambda: analysis.abel_bound(X, X.astype(int), 0, np.ones(4), "half"),
        TypeError,
        "`k` must be one of float16, bfloat16, float32, float64, got int64",
        id="bound integers",
    ),
    pytest.param(
        lambda: analysis.context_bound([1.0], limit=0),
        ValueError,
        "`limit` must be in [1, 2**31], got 0",
        id="limit",
    ),
    pytest.param(
        lambda: analysis.context_bound([1.0], limit=1e6),
        TypeError,
        "`limit` must be an int, got 1000000.0",
        id="limit float",
    ),
    pytest.param(
        lambda: analysis.context_bound(np.ones((2, 4))),
        ValueError,
        "`inv_freq` must have shape (n_pairs,), got (2, 4)",
        id="limit axes",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
