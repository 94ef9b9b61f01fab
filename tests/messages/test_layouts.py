"""Error messages of `layouts` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, assert_refused, convert, guess

CASES = [
    pytest.param(
        lambda: convert(source="hf"),
        ValueError,
        "`source` must be one of 'half', 'interleaved', got 'hf'",
        id="source",
    ),
    pytest.param(
        lambda: convert(target="meta"),
        ValueError,
        "`target` must be one of 'half', 'interleaved', got 'meta'",
        id="target",
    ),
    pytest.param(
        lambda: convert(np.ones(12), head_dim=8),
        ValueError,
        "`head_dim` must divide axis -1 of `x`, of length 12, got 8",
        id="no multiple",
    ),
    pytest.param(
        lambda: convert(head_dim=0),
        ValueError,
        "`head_dim` must divide axis -1 of `x`, of length 8, got 0",
        id="head_dim zero",
    ),
    pytest.param(
        lambda: convert(rotary_dim=3),
        ValueError,
        "`rotary_dim` must be even and positive, got 3",
        id="convert odd",
    ),
    pytest.param(
        lambda: convert(rotary_dim=10),
        ValueError,
        "`rotary_dim` must fit into head_dim=8 from rotary_start=0 on, got 10",
        id="convert large",
    ),
    pytest.param(
        lambda: convert(axis=4),
        ValueError,
        "`axis` must be an axis of `x`, got 4",
        id="convert axis",
    ),
    pytest.param(
        lambda: guess(head_dim=6),
        ValueError,
        "`head_dim` must be even and at least 8, got 6",
        id="guess head_dim",
    ),
    pytest.param(
        lambda: guess(head_dim=9),
        ValueError,
        "`head_dim` must be even and at least 8, got 9",
        id="guess head_dim odd",
    ),
    pytest.param(
        lambda: guess(significance=1),
        ValueError,
        "`significance` must be above 0 and below 1, got 1",
        id="guess significance",
    ),
    pytest.param(
        lambda: guess(),
        ValueError,
        "`q_weight` and `k_weight` must show which features are pairs, got ",
        id="guess weights that are all alike",
    ),
    pytest.param(
        lambda: guess([], []),
        ValueError,
        "`q_weight` and `k_weight` must have one array per layer, at least one, got 0 and 0",
        id="guess no layers",
    ),
    pytest.param(
        lambda: guess([np.ones((8, 3))] * 2, [np.ones((8, 3))]),
        ValueError,
        "`q_weight` and `k_weight` must have one array per layer, at least one, got 2 and 1",
        id="guess layers",
    ),
    pytest.param(
        lambda: guess(np.ones(8)),
        ValueError,
        "`q_weight` must have shape (heads * 8, in_features), got (8,)",
        id="guess axes",
    ),
    pytest.param(
        lambda: guess(k=np.ones((12, 5), F32)),
        ValueError,
        "`k_weight` must have shape (heads * 8, in_features), got (12, 5)",
        id="guess no heads",
    ),
    pytest.param(
        lambda: guess(k=np.ones((16, 5), F32)),
        ValueError,
        "`k_weight` must have the in_features of `q_weight`, and heads whose number divides that of "
        "its heads, got (16, 5) for (8, 5)",
        id="guess more heads of k",
    ),
    pytest.param(
        lambda: guess(k=np.ones((8, 4), F32)),
        ValueError,
        "`k_weight` must have the in_features of `q_weight`, and",
        id="guess in_features",
    ),
    pytest.param(
        lambda: guess(k=np.full((8, 5), np.nan, F32)),
        ValueError,
        "`k_weight` must be finite, got inf or NaN",
        id="guess NaN",
    ),
    pytest.param(
        lambda: guess(np.ones((8, 5), np.uint8)),
        TypeError,
        "`q_weight` must be one of float16, bfloat16, float32, float64, got uint8",
        id="guess quantized",
    ),
    pytest.param(
        lambda: guess("layers.0.q_proj"),
        TypeError,
        "`q_weight` must be",
        id="guess no array",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
