"""Error messages of `layouts` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import assert_refused, convert

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
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
