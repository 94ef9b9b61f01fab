"""Mistakes in arguments of `rope` get a sentence: the argument, the rule, the value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from message_cases import COS, F32, ROPE, SIN, X, assert_refused, wide

from rope_xp import RoPE, axes, positions, scaling
from rope_xp.scaling import Frequencies


@dataclass(frozen=True)
class Uncallable:
    """A schedule without its method."""


@dataclass(frozen=True)
class OldStyle:
    """A schedule with another signature."""

    def __call__(self, rotary_dim, theta): ...


@dataclass(frozen=True)
class Returning:
    """A schedule that returns what a test wants."""

    make: Callable

    def __call__(self, rotary_dim, base, *, seq_len=None, precision="exact"):
        return self.make()


@dataclass(frozen=True)
class TooLong:
    """A schedule that is right within 100 tokens only."""

    def __call__(self, rotary_dim, base, *, seq_len=None, precision="exact"):
        inv_freq = scaling.inverse_frequencies(rotary_dim, base)
        return Frequencies(inv_freq if seq_len is None or seq_len < 100 else inv_freq[1:])


@dataclass(frozen=True)
class WithList:
    """A schedule with a field that has no hash."""

    factors: list

    __call__ = Returning.__call__


@dataclass
class NotFrozen:
    """A schedule that can be changed, so it has no hash."""

    __call__ = OldStyle.__call__


class EqualToItself:
    """A schedule that is equal to no other."""

    __call__ = OldStyle.__call__


def with_scaling(schedule, **options):
    return lambda: RoPE(8, layout="half", scaling=schedule, **options)


def returning(*values, **options):
    """A RoPE whose schedule returns these frequencies and factors."""
    return with_scaling(Returning(lambda: Frequencies(*values)), **options)


FOUR = (1.0, 0.1, 0.01, 0.001)
SCHEDULES = [
    pytest.param(
        with_scaling(scaling.Linear),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got <class 'rope_xp.scaling.Linear'>, "
        "a class, not a value of it",
        id="a class",
    ),
    pytest.param(
        with_scaling(Uncallable()),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got Uncallable(), "
        "which has no `__call__(rotary_dim, base, *, seq_len, precision)`",
        id="no call",
    ),
    pytest.param(
        with_scaling(scaling.Negated),
        TypeError,
        "got <class 'rope_xp.scaling.Negated'>, a class, not a value of it",
        id="class without fields",
    ),
    pytest.param(
        lambda: scaling.Negated("yarn"),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got 'yarn', which has no `__call__(rotary_dim, base, *, seq_len, precision)`",
        id="negated text",
    ),
    pytest.param(
        with_scaling(OldStyle()),
        TypeError,
        "`scaling` must take the parameters (rotary_dim, base, *, seq_len, precision), got OldStyle(): "
        "got an unexpected keyword argument 'seq_len'",
        id="signature",
    ),
    pytest.param(
        with_scaling(scaling.Negated(OldStyle())),
        TypeError,
        "`scaling` must take the parameters (rotary_dim, base, *, seq_len, precision), got OldStyle()",
        id="negated signature",
    ),
    pytest.param(
        with_scaling(max),
        TypeError,
        "`scaling` must take the parameters (rotary_dim, base, *, seq_len, precision), got <built-in",
        id="a builtin",
    ),
    pytest.param(
        with_scaling(EqualToItself()),
        TypeError,
        "`scaling` must be hashable and equal by value, as a frozen dataclass of numbers is, got <",
        id="equal to itself",
    ),
    pytest.param(
        with_scaling(lambda *_, **__: Frequencies(FOUR)),
        TypeError,
        "which is equal to itself only",
        id="a function",
    ),
    pytest.param(
        with_scaling(NotFrozen()),
        TypeError,
        "got NotFrozen(): unhashable type: 'NotFrozen'",
        id="not frozen",
    ),
    pytest.param(
        with_scaling(WithList([1.0])),
        TypeError,
        "`scaling` must be hashable and equal by value, as a frozen dataclass of numbers is, "
        "got WithList(factors=[1.0]): unhashable type: 'list'",
        id="a list",
    ),
    pytest.param(
        with_scaling(Returning(lambda: None)),
        TypeError,
        "`scaling` must return Frequencies, got None from Returning",
        id="nothing",
    ),
    pytest.param(
        with_scaling(Returning(lambda: FOUR)),
        TypeError,
        "`scaling` must return Frequencies, got (1.0, 0.1, 0.01, 0.001) from Returning",
        id="a tuple",
    ),
    pytest.param(
        with_scaling(Returning(lambda: FOUR), axes=axes.Axial(2)),
        TypeError,
        "`scaling` must return Frequencies, got (1.0, 0.1, 0.01, 0.001) from Returning",
        id="a tuple with axes",
    ),
    pytest.param(
        returning(FOUR[:3]),
        ValueError,
        "`scaling` must return n_pairs=4 frequencies for rotary_dim=8, got 3 from Returning",
        id="too few",
    ),
    pytest.param(
        returning(FOUR + FOUR),
        ValueError,
        "`scaling` must return n_pairs=4 frequencies for rotary_dim=8, got 8 from Returning",
        id="repeated",
    ),
    pytest.param(
        returning(FOUR, axes=axes.Axial(2)),
        ValueError,
        "`scaling` must return n_pairs=2 frequencies for rotary_dim=4, got 4 from Returning",
        id="too many for an axis",
    ),
    pytest.param(
        returning(()),
        ValueError,
        "`scaling` must return n_pairs=4 frequencies for rotary_dim=8, got 0 from Returning",
        id="none",
    ),
    pytest.param(
        returning((1.0, 0.1, float("nan"), 0.001)),
        ValueError,
        "`inv_freq[2]` must be finite, got nan from Returning",
        id="nan",
    ),
    pytest.param(
        returning(np.asarray([1.0, np.inf, 0.1, 0.1])),
        ValueError,
        "`inv_freq[1]` must be finite, got inf from Returning",
        id="inf",
    ),
    pytest.param(
        returning(("1.0", 0.1, 0.01, 0.001)),
        TypeError,
        "`inv_freq[0]` must be a number, got '1.0' from Returning",
        id="text among numbers",
    ),
    pytest.param(
        returning("1234"),
        TypeError,
        "`inv_freq` must be a list of numbers, got '1234' from Returning",
        id="text",
    ),
    pytest.param(
        returning(0.5),
        TypeError,
        "`inv_freq` must be a list of numbers, got 0.5 from Returning",
        id="one number",
    ),
    pytest.param(
        returning(np.asarray(0.5)),
        TypeError,
        "`inv_freq` must be a list of numbers, got array(0.5) from Returning",
        id="a scalar array",
    ),
    pytest.param(
        returning(np.ones((2, 4))),
        TypeError,
        "`inv_freq[0]` must be a number, got array([1., 1., 1., 1.]) from Returning",
        id="a matrix",
    ),
    pytest.param(
        returning(FOUR, 0.0),
        ValueError,
        "`attention_factor` must be positive and finite, got 0.0 from Returning",
        id="attention factor 0",
    ),
    pytest.param(
        returning(FOUR, None),
        TypeError,
        "`attention_factor` must be a number, got None from Returning",
        id="attention factor None",
    ),
    pytest.param(
        returning(FOUR, 1.0, float("nan")),
        ValueError,
        "`softmax_factor` must be positive and finite, got nan from Returning",
        id="softmax factor nan",
    ),
    pytest.param(
        lambda: RoPE(8, layout="half", scaling=TooLong()).frequencies(100),
        ValueError,
        "`scaling` must return n_pairs=4 frequencies for rotary_dim=8, got 3 from TooLong",
        id="too few at a length",
    ),
    pytest.param(
        lambda: RoPE(8, layout="half", scaling=TooLong())(X, seq_len=1000),
        ValueError,
        "`scaling` must return n_pairs=4 frequencies for rotary_dim=8, got 3 from TooLong",
        id="too few in a call",
    ),
]

CASES = [
    pytest.param(
        lambda: RoPE(8, layout="half", ranges=8192),
        TypeError,
        "`ranges` must be None or a value from rope_xp.positions, got 8192, which has no "
        "`__call__(q_positions, k_positions)`",
        id="ranges",
    ),
    pytest.param(
        lambda: RoPE(8, layout="half", ranges=positions.DualChunk),
        TypeError,
        "`ranges` must be None or a value from rope_xp.positions, got <class "
        "'rope_xp.positions.DualChunk'>, a class, not a value of it",
        id="ranges class",
    ),
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
        "`precision` must be one of 'exact', 'float32', got 'bf16'",
        id="precision",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", scaling="yarn"),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got 'yarn', which has no `__call__(rotary_dim, base, *, seq_len, precision)`",
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
        lambda: ROPE(X, positions="01234"),
        TypeError,
        "`positions` must be an array of a library",
        id="positions text",
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
        lambda: ROPE(X, offset=2**63 - 4),
        ValueError,
        "`offset` must keep positions in the range of int64, the widest integers here, "
        "[-2**63, 2**63), got 9223372036854775804 for 5 tokens",
        id="offset past the end",
    ),
    pytest.param(
        lambda: ROPE(X, offset=-(2**63) - 1),
        ValueError,
        "[-2**63, 2**63), got -9223372036854775809 for 5 tokens",
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
        lambda: ROPE.shift(X, 2**63),
        ValueError,
        "`delta` must keep positions in the range of int64, the widest integers here, "
        "[-2**63, 2**63), got 9223372036854775808",
        id="delta far",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.arange(2)),
        ValueError,
        "`delta` must have shape (seq,) with seq=5 (axis 2 of `k`), or (batch, 1) for steps of each "
        "row, `delta[:, None]`, got (2,)",
        id="delta of each row",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.ones((3, 1), int)),
        ValueError,
        "`delta` must have batch=2 (axis 0 of `k`) or 1",
        id="delta batch",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.arange(4)),
        ValueError,
        "`delta` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (4,)",
        id="delta length",
    ),
    pytest.param(
        lambda: ROPE(np.ones((2, 5, 4, 8)), np.ones((2, 5, 2, 8))),
        ValueError,
        "rotate them in two calls, each with its positions, or pass seq_axis=-3 if they are "
        "(..., seq, heads, head_dim)",
        id="heads for seq in k",
    ),
    pytest.param(
        lambda: ROPE(np.ones((2, 5, 4, 8)), positions=np.ones((2, 5))),
        ValueError,
        "with seq=4 (axis 2 of `q`), got (2, 5); pass seq_axis=-3 if tokens are along axis 1 of `q`",
        id="heads for seq in positions",
    ),
    pytest.param(
        lambda: ROPE(X, positions=np.arange(5), seq_axis=1),
        ValueError,
        "with seq=3 (axis 1 of `q`), got (5,); pass seq_axis=-2 if tokens are along axis 2 of `q`",
        id="seq for heads in positions",
    ),
    pytest.param(
        lambda: ROPE.shift(np.ones((2, 5, 4, 8)), np.arange(5)),
        ValueError,
        "got (5,); pass seq_axis=-3 if tokens are along axis 1 of `k`",
        id="heads for seq in delta",
    ),
    pytest.param(
        lambda: ROPE.rotate(np.ones((2, 5, 4, 8), F32), COS, SIN),
        ValueError,
        "it must have size 4 or 1, got 5; pass seq_axis=-3 if tokens are along axis 1 of `x`",
        id="heads for seq in tables",
    ),
    pytest.param(
        lambda: ROPE.shift(X, np.ones((2, 4), int)),
        ValueError,
        "`delta` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (2, 4)",
        id="delta length of rows",
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
        lambda: ROPE.rotate(X, "1", SIN),
        TypeError,
        "`cos` must be an array of a library",
        id="table text",
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


@pytest.mark.parametrize(("call", "error", "sentence"), [*CASES, *SCHEDULES])
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)


def test_an_error_inside_of_a_schedule_is_its_own():
    """Only a signature that does not fit is called so."""

    def broken():
        return len(3)

    assert_refused(with_scaling(Returning(broken)), TypeError, "object of type 'int' has no len()")
