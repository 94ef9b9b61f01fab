"""Mistakes in query scales, and in what takes them, get a sentence: the argument, the rule, the value."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
from message_cases import F32, X, assert_refused

from rope_xp import RoPE, attention
from rope_xp.scaling import FloorLogScale, LearnedLogScale, LogScale, PowerScale

AT = np.arange(5)


@dataclass
class NotFrozen:
    """A query scale that can be changed, so it has no hash."""

    def __call__(self, positions): ...


CASES = {
    "length": (
        lambda: LogScale(1),
        "`length` must be an int greater than 1 and below 2**31, got 1",
    ),
    "long": (lambda: LogScale(2**31), "`length` must be an int greater than 1 and below 2**31"),
    "beta": (lambda: FloorLogScale(8, 0), "`beta` must be positive and finite, got 0"),
    "power": (lambda: PowerScale(8, 1.5), "`beta` must be at most 1, got 1.5"),
    "offset": (lambda: LogScale(8, offset=8), "`offset` must be in [0, length=8), got 8"),
    "negative": (lambda: LogScale(8, offset=-1), "`offset` must be in [0, length=8), got -1"),
    "learned": (lambda: LearnedLogScale(0), "`offset` must be positive, got 0"),
    "no weights": (lambda: LearnedLogScale()(AT), "`weight` and `bias` are required: "),
    "weights": (
        lambda: LearnedLogScale()(AT, np.ones(2), np.ones(3)),
        "`weight` and `bias` must have shape (heads,), got (2,) and (3,)",
    ),
    "one position": (
        lambda: LearnedLogScale()(np.int64(3), np.ones(2), np.ones(2)),
        "`positions` must have shape (seq,) or (batch, seq), got ()",
    ),
    "flags": (
        lambda: LogScale(8)(AT > 2),
        "`positions` must be integer or real floating, got bool",
    ),
    "no positions": (lambda: LogScale(8)(None), "`positions` must be an array of a library"),
    "rope": (
        lambda: RoPE(8, layout="half", query_scale=0.5),
        "`query_scale` must be None or a value from rope_xp.scaling, got 0.5, which has no `__call__",
    ),
    "class": (
        lambda: RoPE(8, layout="half", query_scale=LogScale),
        "`query_scale` must be None or a value from rope_xp.scaling, got <class",
    ),
    "hash": (
        lambda: RoPE(8, layout="half", query_scale=NotFrozen()),
        "`query_scale` must be hashable and equal by value, as a frozen dataclass of numbers is",
    ),
    "function": (
        lambda: RoPE(8, layout="half", query_scale=lambda positions: positions),
        "which is equal to itself only",
    ),
    "factors": (
        lambda: attention.attention(X, X, X, query_scale=np.ones(4, F32)),
        "(q_len,), (batch, q_len) or (..., heads, q_len) for queries of shape (2, 3, 5), got (4,)",
    ),
    "heads": (
        lambda: attention.attention(X, X, X, query_scale=np.ones((3, 5), F32)),
        "for queries of shape (2, 3, 5), got (3, 5)",
    ),
    "axes": (
        lambda: attention.attention(X, X, X, query_scale=np.ones((1, 2, 3, 5), F32)),
        "got (1, 2, 3, 5)",
    ),
    "integers": (
        lambda: attention.attention(X, X, X, query_scale=np.ones(5, int)),
        "`query_scale` must be one of float16, bfloat16, float32, float64, got int64",
    ),
    "a scale for factors": (
        lambda: attention.attention(X, X, X, query_scale=LogScale(8)),
        "`query_scale` must be an array of a library",
    ),
}


@pytest.mark.parametrize(("call", "sentence"), CASES.values(), ids=CASES)
def test_messages(call, sentence):
    assert_refused(call, (ValueError, TypeError), sentence)


@pytest.mark.parametrize("kind", [LogScale, FloorLogScale, PowerScale])
def test_numbers_of_any_type_are_pythons(kind):
    given, plain = kind(np.int64(8), np.float32(0.5), np.uint8(1)), kind(8, 0.5, 1)
    assert given == plain
    assert repr(given) == repr(plain)
    assert {type(getattr(given, field.name)) for field in fields(given)} == {int, float}
