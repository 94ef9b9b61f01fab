"""Error messages of `additive` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import assert_refused

import rope_xp
from rope_xp.axes import Axial

CASES = [
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 7),
        ValueError,
        "`dim` must be even and positive, got 7",
        id="odd dim",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 8, order="cos"),
        ValueError,
        "`order` must be one of 'interleaved', 'sin_cos', 'cos_sin', got 'cos'",
        id="order",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 2, shift=1),
        ValueError,
        "`shift` must be below n_pairs=1, got 1",
        id="shift",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 8, base=0),
        ValueError,
        "`base` must be positive and finite, got 0.0",
        id="sinusoidal base",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=2),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got 2",
        id="sinusoidal axes",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=Axial),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got <class",
        id="sinusoidal scheme",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=Axial(2)),
        ValueError,
        "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 4), got (3,)",
        id="sinusoidal positions",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.ones((2, 3)), 6, axes=Axial(2)),
        ValueError,
        "must be a multiple of 4 for 2 equal axes, got 6",
        id="sinusoidal dim",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.ones((2, 3)), 8, axes=Axial((2, 4))),
        ValueError,
        "got (2, 4) with sum 6",
        id="sinusoidal widths",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.ones((2, 3)), 4, shift=1, axes=Axial(2)),
        ValueError,
        "`shift` must be below n_pairs=1, got 1",
        id="shift of an axis",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
