"""Error messages of `testing` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import assert_refused

from rope_xp import RoPE
from rope_xp.testing import check, diagnose

ROPE = RoPE(8, layout="half")


def fn(x, positions):
    return ROPE(x, positions=positions)


CASES = [
    pytest.param(
        lambda: check(3, ROPE),
        TypeError,
        "`fn` must be callable as fn(x, positions), got 3",
        id="fn",
    ),
    pytest.param(lambda: check(fn, 8), TypeError, "`rope` must be a RoPE, got 8", id="rope"),
    pytest.param(
        lambda: check(fn, ROPE, max_position=7),
        ValueError,
        "`max_position` must be in [8, 2**31), got 7",
        id="max_position",
    ),
    pytest.param(
        lambda: check(fn, ROPE, max_position=8.0),
        TypeError,
        "`max_position` must be an int, got 8.0",
        id="max_position real",
    ),
    pytest.param(
        lambda: check(fn, ROPE, seed=-1), ValueError, "`seed` must be at least 0, got -1", id="seed"
    ),
    pytest.param(
        lambda: check(fn, ROPE, xp="numpy"),
        TypeError,
        "`xp` must be a module of array functions (numpy, torch, …), got 'numpy'",
        id="xp",
    ),
    pytest.param(
        lambda: check(fn, ROPE, xp=np, device="gpu"),
        ValueError,
        "`device` must be a device that numpy has here, got 'gpu'",
        id="device",
    ),
    pytest.param(
        lambda: diagnose(fn, 8, device="cpu"),
        ValueError,
        "`device` must be None without `xp`, the library that has it, got 'cpu'",
        id="device alone",
    ),
    pytest.param(
        lambda: check(fn, ROPE, rows=1),
        TypeError,
        "`rows` must be True or False, got 1",
        id="rows",
    ),
    pytest.param(
        lambda: diagnose(fn, 0), ValueError, "`head_dim` must be positive, got 0", id="head_dim"
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES)
def test_message(call, error, message):
    assert_refused(call, error, message)
