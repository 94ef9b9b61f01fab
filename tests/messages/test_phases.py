"""Mistakes in arguments of `phases` get a sentence: the argument, the rule, the value."""

import numpy as np
import pytest
from message_cases import assert_refused

import rope_xp
from rope_xp import phases

CASES = [
    pytest.param(
        lambda: rope_xp.cos_sin([2**60 + 1, 0.5], [1.0]),
        ValueError,
        "`positions` must be numbers that one dtype of 64 bits represents, got [1152921504606846977, 0.5]",
        id="an integer that would be rounded beside a real",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin([2**70], [1.0]),
        ValueError,
        "`positions` must be numbers that one dtype of 64 bits represents, got [1180591620717411303424]",
        id="an integer of more than 64 bits",
    ),
    pytest.param(
        lambda: rope_xp.rotate(np.ones((2, 4)).view(np.matrix), *np.ones((2, 2, 2)), layout="half"),
        TypeError,
        "`x` must be",
        id="a matrix",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.ma.MaskedArray([0, 1], mask=[True, False]), [1.0]),
        TypeError,
        "`positions` must be",
        id="a masked array",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.asarray([1.0, -1e19]), [1.0]),
        ValueError,
        "`positions` must be within ±2**63, got 1e+19",
        id="a few large reals",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.asarray([-1e300]), [1.0], precision="float32"),
        ValueError,
        "`positions` must be within ±2**63, got 1e+300",
        id="large reals with rounded products",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), [1e20], precision="float32"),
        ValueError,
        "`inv_freq` must be below 2**64 for precision='float32', got 1e+20",
        id="fast pairs with rounded products",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.linspace(0, 1e19, 5000), [1.0]),
        ValueError,
        "`positions` must be within ±2**63, got 1e+19",
        id="many large reals",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), []),
        ValueError,
        "`inv_freq` must be finite numbers, at least one, got []",
        id="no frequencies",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), [float("nan")]),
        ValueError,
        "`inv_freq[0]` must be finite, got nan",
        id="nan frequency",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), np.ones((2, 2))),
        ValueError,
        "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 2), got (3,)",
        id="frequency axes",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), np.ones((2, 2, 2))),
        ValueError,
        "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 2, 2), got (3,)",
        id="frequency shape",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), np.asarray(1.0)),
        ValueError,
        "`inv_freq` must have shape (n_pairs,) or (n_axes, n_pairs), got ()",
        id="frequency scalar",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.ones((2, 3)), np.ones((2, 3, 4))),
        ValueError,
        "`inv_freq` must have size 1 where tokens are, (n_axes, ..., 1, n_pairs), got (2, 3, 4)",
        id="frequency heads",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.ones((2, 3)), [[1.0], [1.0, 2.0]]),
        ValueError,
        "`inv_freq` must have rows of one length, got [1, 2]",
        id="frequency rows",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), [1.0], dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="integer dtype",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin(np.arange(3), [1.0], precision="double"),
        ValueError,
        "`precision` must be one of 'exact', 'float32', got 'double'",
        id="cos_sin precision",
    ),
    pytest.param(
        lambda: rope_xp.cos_sin("01", [1.0]),
        TypeError,
        "`positions` must be an array of a library",
        id="cos_sin text",
    ),
    pytest.param(
        lambda: phases.xpos_scale(np.arange(3), 0),
        ValueError,
        "`n_pairs` must be positive, got 0",
        id="xpos pairs",
    ),
    pytest.param(
        lambda: phases.xpos_scale(np.arange(3), 4, scale_base=0),
        ValueError,
        "`scale_base` must be positive and finite, got 0.0",
        id="xpos base",
    ),
    pytest.param(
        lambda: phases.xpos_scale(np.arange(3), 4, center="mid"),
        TypeError,
        "`center` must be a number, got 'mid'",
        id="xpos centre",
    ),
    pytest.param(
        lambda: phases.xpos_scale(np.ones(3, bool), 4),
        TypeError,
        "`positions` must be integer or real floating, got bool",
        id="xpos bool",
    ),
    pytest.param(
        lambda: phases.xpos_scale(np.arange(3), 4, dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="xpos dtype",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
