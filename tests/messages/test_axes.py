"""Mistakes in arguments of `axes` get a sentence: the argument, the rule, the value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from message_cases import GRID, X, assert_refused

import rope_xp
from rope_xp import RoPE, attention, axes, scaling


@dataclass(frozen=True)
class Own:
    """A scheme of two axes that share the frequencies, or whatever a test wants of it."""

    n_axes: Any = 2
    make_blocks: Callable = lambda rotary_dim: (rotary_dim,)
    make_matrix: Callable = lambda rotary_dim, frequencies: [frequencies(rotary_dim)] * 2

    def blocks(self, rotary_dim):
        return self.make_blocks(rotary_dim)

    def __call__(self, rotary_dim, frequencies):
        return self.make_matrix(rotary_dim, frequencies)


@dataclass(frozen=True)
class OwnAxisOfPair(Own):
    owners: Any = (0, 1, 0, 1)

    def axis_of_pair(self, rotary_dim):
        return self.owners


@dataclass(frozen=True)
class OnlyNAxes:
    n_axes: int = 2


@dataclass(frozen=True)
class NoBlocks:
    n_axes: int = 2

    __call__ = Own.__call__


@dataclass(frozen=True)
class BlocksAreNoMethod:
    n_axes: int = 2
    blocks: tuple = (8,)

    __call__ = Own.__call__


@dataclass(frozen=True)
class NAxesIsAMethod:
    def n_axes(self):
        return 2

    blocks, __call__ = Own.blocks, Own.__call__


@dataclass(frozen=True)
class BlocksTakeNothing(Own):
    def blocks(self):
        return (8,)


@dataclass(frozen=True)
class CallTakesTheWidth(Own):
    def __call__(self, rotary_dim): ...


@dataclass(frozen=True)
class WithList(Own):
    order: Any = ()


class EqualToItself:
    n_axes, blocks, __call__ = 2, Own.blocks, Own.__call__


def with_axes(scheme):
    return lambda: RoPE(8, layout="half", axes=scheme)


def returning(matrix):
    return with_axes(Own(make_matrix=lambda rotary_dim, frequencies: matrix))


def asking(*arguments):
    """A scheme that asks for the frequencies of these arguments."""
    return with_axes(Own(make_matrix=lambda rotary_dim, frequencies: [frequencies(*arguments)] * 2))


TWO = axes.Axial(2)


def per_axis(schedules, scheme=TWO):
    return lambda: RoPE(8, layout="half", axes=scheme, scaling=schedules)


def lengths(seq_len, scheme=TWO, schedules=None):
    rope = RoPE(8, layout="half", axes=scheme, scaling=schedules)
    return lambda: rope.frequencies(seq_len)


LINEAR, YARN = scaling.Linear(2.0), scaling.YaRN(4.0, 16, attention_factor=1.0, mscale_all_dim=1.0)
BY_AXIS = [
    pytest.param(
        per_axis((LINEAR, None), None),
        ValueError,
        "`scaling` must be one schedule or None without `axes`, got (Linear(factor=2.0), None)",
        id="tuple without axes",
    ),
    pytest.param(
        per_axis((LINEAR, None, None)),
        ValueError,
        "`scaling` must have a schedule or None for each of n_axes=2 axes, "
        "got (Linear(factor=2.0), None, None)",
        id="three schedules",
    ),
    pytest.param(
        per_axis(()),
        ValueError,
        "`scaling` must have a schedule or None for each of n_axes=2 axes, got ()",
        id="no schedules",
    ),
    pytest.param(
        per_axis((None, 2.0)),
        TypeError,
        "`scaling[1]` must be None or a value from rope_xp.scaling, got 2.0, which has no `__call__(",
        id="no schedule",
    ),
    pytest.param(
        per_axis((scaling.Linear, None)),
        TypeError,
        "`scaling[0]` must be None or a value from rope_xp.scaling, got "
        "<class 'rope_xp.scaling.Linear'>, a class, not a value of it",
        id="class of a schedule",
    ),
    pytest.param(
        lambda: scaling.Negated((LINEAR, None)),
        TypeError,
        "`scaling` must be None or a value from rope_xp.scaling, got (Linear(factor=2.0), None)",
        id="tuple in a schedule",
    ),
    pytest.param(
        per_axis((YARN, None)),
        ValueError,
        "`scaling` must have one softmax_factor for all axes, got 1.29648 for axis 0, 1 for axis 1: "
        "pass mscale_softmax=False to the schedule that has one of its own",
        id="softmax factor",
    ),
    pytest.param(
        per_axis((None, scaling.YaRN(4.0, 16))),
        ValueError,
        "`scaling` must have one attention_factor for all axes, got 1 for axis 0, 1.13863 for axis 1: "
        "pass attention_factor=1.0 to the schedule that has one of its own",
        id="attention factor",
    ),
    pytest.param(
        lengths(
            (5, None),
            schedules=scaling.LongRoPE([1] * 2, [2] * 2, 4, 8.0, long_mscale=2.0, short_mscale=1.0),
        ),
        ValueError,
        "`scaling` must have one attention_factor for all axes, got 2 for axis 0, 1 for axis 1",
        id="attention factor of a length",
    ),
    pytest.param(
        per_axis((scaling.RIFLEx(3, 66), None)),
        ValueError,
        "`k` must be at most n_pairs=2, got 3",
        id="pairs of an axis",
    ),
    pytest.param(
        per_axis((LINEAR, None), Own()),
        ValueError,
        "`axes` must call frequencies(width, base=None, axis=None) with an axis where `scaling` or "
        "`seq_len` has one for each, got none from Own(",
        id="a scheme that names no axis",
    ),
    pytest.param(
        lengths((5, None), Own()),
        ValueError,
        "got none from Own(",
        id="a scheme that names no axis of a length",
    ),
    pytest.param(
        per_axis(
            (LINEAR, None), Own(make_matrix=lambda d, frequencies: [frequencies(d, axis=2)] * 2)
        ),
        ValueError,
        "`axis` must be in [0, n_axes=2), got 2 from Own(",
        id="unknown axis",
    ),
    pytest.param(
        per_axis(
            (LINEAR, None), Own(make_matrix=lambda d, frequencies: [frequencies(d, axis="t")] * 2)
        ),
        TypeError,
        "`axis` must be an int, got 't'",
        id="axis of text",
    ),
    pytest.param(
        per_axis((LINEAR, None), axes.Directions([[1.0] * 4, [0.5] * 4])),
        ValueError,
        "`scaling` must be None with `axes` that bring their own frequencies, got (Linear(",
        id="directions",
    ),
    pytest.param(
        lengths((5,)),
        ValueError,
        "`seq_len` must be an int, or an int or None for each of n_axes=2 axes, got (5,)",
        id="one length",
    ),
    pytest.param(
        lengths((5, 0)), ValueError, "`seq_len[1]` must be positive, got 0", id="no length"
    ),
    pytest.param(
        lengths((5, 2.0)), TypeError, "`seq_len[1]` must be an int, got 2.0", id="real length"
    ),
    pytest.param(
        lengths((5, 6), None),
        TypeError,
        "`seq_len` must be an int without `axes`, got (5, 6)",
        id="lengths without axes",
    ),
]

FOUR = (1.0, 0.1, 0.01, 0.001)
SCHEMES = [
    pytest.param(
        with_axes(axes.Axial),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got <class 'rope_xp.axes.Axial'>, "
        "a class, not a value of it",
        id="a class",
    ),
    pytest.param(
        with_axes("axial"),
        TypeError,
        "`axes` must be None or a value from rope_xp.axes, got 'axial', which has no `n_axes`, "
        "`blocks(rotary_dim)`, `__call__(rotary_dim, frequencies)`",
        id="text",
    ),
    pytest.param(
        with_axes(OnlyNAxes()),
        TypeError,
        "got OnlyNAxes(n_axes=2), which has no `blocks(rotary_dim)`, "
        "`__call__(rotary_dim, frequencies)`",
        id="half made",
    ),
    pytest.param(
        with_axes(NoBlocks()),
        TypeError,
        "got NoBlocks(n_axes=2), which has no `blocks(rotary_dim)`",
        id="no blocks",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.ones((2, 3), int), 8, axes=NoBlocks()),
        TypeError,
        "got NoBlocks(n_axes=2), which has no `blocks(rotary_dim)`",
        id="no blocks in a sinusoid",
    ),
    pytest.param(
        with_axes(BlocksAreNoMethod()),
        TypeError,
        "got BlocksAreNoMethod(n_axes=2, blocks=(8,)), which has no `blocks(rotary_dim)`",
        id="blocks no method",
    ),
    pytest.param(
        with_axes(EqualToItself()),
        TypeError,
        "`axes` must be hashable and equal by value, as a frozen dataclass of numbers is, got <",
        id="equal to itself",
    ),
    pytest.param(
        with_axes(WithList(order=[0])),
        TypeError,
        ": unhashable type: 'list'",
        id="a list",
    ),
    pytest.param(
        with_axes(Own(n_axes=0)),
        ValueError,
        "`n_axes` must be a positive int, got 0 from Own",
        id="no axes",
    ),
    pytest.param(
        with_axes(Own(n_axes=2.0)),
        ValueError,
        "`n_axes` must be a positive int, got 2.0 from Own",
        id="axes float",
    ),
    pytest.param(
        with_axes(Own(n_axes=True)),
        ValueError,
        "`n_axes` must be a positive int, got True from Own",
        id="axes bool",
    ),
    pytest.param(
        with_axes(NAxesIsAMethod()),
        ValueError,
        "`n_axes` must be a positive int, got <bound method NAxesIsAMethod.n_axes",
        id="axes method",
    ),
    pytest.param(
        with_axes(Own(make_blocks=lambda rotary_dim: (3, 5))),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got (3, 5) from Own",
        id="blocks odd",
    ),
    pytest.param(
        with_axes(Own(make_blocks=lambda rotary_dim: (4, 6))),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got (4, 6) from Own",
        id="blocks sum",
    ),
    pytest.param(
        with_axes(Own(make_blocks=lambda rotary_dim: (10, -2))),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got (10, -2) from Own",
        id="blocks negative",
    ),
    pytest.param(
        with_axes(Own(make_blocks=lambda rotary_dim: [4, 4])),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got [4, 4] from Own",
        id="blocks list",
    ),
    pytest.param(
        with_axes(Own(make_blocks=lambda rotary_dim: None)),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got None from Own",
        id="blocks None",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(np.ones((2, 3), int), 8, axes=Own(make_blocks=lambda _: (4,))),
        ValueError,
        "`blocks` must be a tuple of even positive ints with sum rotary_dim=8, got (4,) from Own",
        id="blocks in a sinusoid",
    ),
    pytest.param(
        with_axes(BlocksTakeNothing()),
        TypeError,
        "`blocks` must take the parameters (rotary_dim), got <bound method BlocksTakeNothing.blocks",
        id="blocks signature",
    ),
    pytest.param(
        with_axes(CallTakesTheWidth()),
        TypeError,
        "`axes` must take the parameters (rotary_dim, frequencies), got CallTakesTheWidth(",
        id="signature",
    ),
    pytest.param(
        returning(None),
        TypeError,
        "`matrix` must be a sequence of rows, got None from Own",
        id="matrix None",
    ),
    pytest.param(
        returning(FOUR),
        TypeError,
        "`matrix[0]` must be a list of numbers, got 1.0 from Own",
        id="matrix of one axis",
    ),
    pytest.param(
        returning([FOUR]),
        ValueError,
        "`axes` must return a matrix of shape (n_axes=2, n_pairs=4), got rows of [4] numbers from Own",
        id="matrix too few axes",
    ),
    pytest.param(
        returning([FOUR] * 3),
        ValueError,
        "`axes` must return a matrix of shape (n_axes=2, n_pairs=4), got rows of [4, 4, 4] numbers",
        id="matrix too many axes",
    ),
    pytest.param(
        returning([FOUR, FOUR[:3]]),
        ValueError,
        "`axes` must return a matrix of shape (n_axes=2, n_pairs=4), got rows of [4, 3] numbers",
        id="matrix too few pairs",
    ),
    pytest.param(
        lambda: rope_xp.sinusoidal(
            np.ones((2, 3), int), 8, axes=Own(make_matrix=lambda *_: [FOUR[:3]] * 2)
        ),
        ValueError,
        "`axes` must return a matrix of shape (n_axes=2, n_pairs=4), got rows of [3, 3] numbers",
        id="matrix in a sinusoid",
    ),
    pytest.param(
        returning([FOUR, (1.0, float("nan"), 0.0, 0.0)]),
        ValueError,
        "`matrix[1][1]` must be finite, got nan from Own",
        id="matrix not finite",
    ),
    pytest.param(
        returning([FOUR, "abcd"]),
        TypeError,
        "`matrix[1]` must be a list of numbers, got 'abcd' from Own",
        id="matrix of text",
    ),
    pytest.param(
        asking(7), ValueError, "`width` must be even and positive, got 7 from Own(", id="odd width"
    ),
    pytest.param(
        asking(-2), ValueError, "`width` must be even and positive, got -2", id="negative width"
    ),
    pytest.param(
        asking([8]), TypeError, "`width` must be an int, got [8]", id="width of another kind"
    ),
    pytest.param(
        asking(8, -1.0),
        ValueError,
        "`base` must be positive and finite, got -1.0",
        id="base of an axis",
    ),
    pytest.param(
        with_axes(OwnAxisOfPair(owners=(0, 1))),
        ValueError,
        "`axis_of_pair` must be a tuple of n_pairs=4 ints below n_axes=2, got (0, 1) "
        "from OwnAxisOfPair",
        id="owners too few",
    ),
    pytest.param(
        with_axes(OwnAxisOfPair(owners=(0, 1, 2, 0))),
        ValueError,
        "`axis_of_pair` must be a tuple of n_pairs=4 ints below n_axes=2, got (0, 1, 2, 0)",
        id="owners unknown",
    ),
    pytest.param(
        with_axes(OwnAxisOfPair(owners=None)),
        ValueError,
        "`axis_of_pair` must be a tuple of n_pairs=4 ints below n_axes=2, got None",
        id="owners None",
    ),
]

CASES = [
    pytest.param(
        lambda: axes.Axial((4, 3)),
        ValueError,
        "`widths` must be even and positive, got (4, 3)",
        id="widths odd",
    ),
    pytest.param(
        lambda: axes.Axial(()),
        ValueError,
        "`widths` must be even and positive, got ()",
        id="widths none",
    ),
    pytest.param(
        lambda: axes.Axial(0),
        ValueError,
        "`widths` must be a positive number of axes or their widths, got 0",
        id="widths zero",
    ),
    pytest.param(
        lambda: axes.Axial(2.0), TypeError, "`widths` must be an int, got 2.0", id="widths float"
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", axes=axes.Axial((16, 56))),
        ValueError,
        "`widths` must sum to rotary_dim=64, got (16, 56) with sum 72",
        id="widths sum",
    ),
    pytest.param(
        lambda: RoPE(64, layout="half", axes=axes.Axial(3)),
        ValueError,
        "`rotary_dim` must be a multiple of 6 for 3 equal axes, got 64",
        id="widths equal",
    ),
    pytest.param(
        lambda: axes.Axial(2, arrangement="mixed"),
        ValueError,
        "`arrangement` must be one of 'blocks', 'alternating', got 'mixed'",
        id="arrangement",
    ),
    pytest.param(
        lambda: axes.Axial((2, 4), arrangement="alternating"),
        ValueError,
        "`widths` must be equal for arrangement='alternating', got (2, 4)",
        id="alternating",
    ),
    pytest.param(
        lambda: axes.Axial((2, 4), frequencies="shared"),
        ValueError,
        "`widths` must be equal for frequencies='shared', got (2, 4)",
        id="shared",
    ),
    pytest.param(
        lambda: axes.Axial(2, frequencies="all"),
        ValueError,
        "`frequencies` must be one of 'own', 'shared', got 'all'",
        id="axial frequencies",
    ),
    pytest.param(
        lambda: axes.Axial(2, axis_order=(0, 0)),
        ValueError,
        "`axis_order` must name each of 2 axes once, got (0, 0)",
        id="axis order",
    ),
    pytest.param(
        lambda: axes.Axial(2, axis_order=1),
        TypeError,
        "`axis_order` must be a sequence of int, got 1",
        id="axis order int",
    ),
    pytest.param(
        lambda: axes.Axial(2, arrangement="alternating", split=True),
        ValueError,
        "`arrangement` must be 'blocks' when split=True, got 'alternating'",
        id="split",
    ),
    pytest.param(
        lambda: axes.Axial(2, split="no"),
        TypeError,
        "`split` must be True or False, got 'no'",
        id="split text",
    ),
    pytest.param(
        lambda: axes.Axial(2, arrangement=["blocks"]),
        ValueError,
        "`arrangement` must be one of 'blocks', 'alternating', got ['blocks']",
        id="arrangement list",
    ),
    pytest.param(
        lambda: axes.Directions("ab"),
        TypeError,
        "`matrix` must be a sequence of rows, got 'ab'",
        id="matrix text rows",
    ),
    pytest.param(
        lambda: axes.Axial(2, scale=0), ValueError, "`scale` must not be 0, got 0.0", id="scale"
    ),
    pytest.param(
        lambda: axes.Axial(2, scale="2"),
        TypeError,
        "`scale` must be a number, got '2'",
        id="scale text",
    ),
    pytest.param(
        lambda: axes.Axial(2, bases=(1e4,)),
        ValueError,
        "`bases` must have one for each of 2 axes, got (10000.0,)",
        id="bases",
    ),
    pytest.param(
        lambda: axes.Axial(2, bases=(1e4, -1)),
        ValueError,
        "`bases[1]` must be positive and finite, got -1.0",
        id="bases negative",
    ),
    pytest.param(
        lambda: axes.Axial(2, bases=(2, 3), frequencies="shared"),
        ValueError,
        "`bases` must be None for frequencies='shared', got (2.0, 3.0)",
        id="bases shared",
    ),
    pytest.param(
        lambda: axes.AxisPerPair((0, 2)),
        ValueError,
        "`pairs` must use every axis from 0 to n_axes − 1, got (0, 2)",
        id="pairs",
    ),
    pytest.param(
        lambda: axes.AxisPerPair((0, -1)),
        ValueError,
        "`pairs` must use every axis from 0 to n_axes − 1, got (0, -1)",
        id="pairs negative",
    ),
    pytest.param(
        lambda: RoPE(8, layout="half", axes=axes.AxisPerPair((0, 1))),
        ValueError,
        "`pairs` must have n_pairs=4 entries, got 2",
        id="pairs few",
    ),
    pytest.param(
        lambda: RoPE(128, layout="half", axes=axes.Sections((16, 24, 23))),
        ValueError,
        "`sections` must sum to n_pairs=64, got (16, 24, 23) with sum 63",
        id="sections",
    ),
    pytest.param(
        lambda: RoPE(128, layout="half", axes=axes.InterleavedSections((24, 20, 21))),
        ValueError,
        "`sections` must sum to n_pairs=64, got (24, 20, 21) with sum 65",
        id="interleaved",
    ),
    pytest.param(
        lambda: axes.Sections((4, -1)),
        ValueError,
        "`sections` must be non-negative, at least one, got (4, -1)",
        id="sections negative",
    ),
    pytest.param(
        lambda: axes.Sections(()),
        ValueError,
        "`sections` must be non-negative, at least one, got ()",
        id="sections none",
    ),
    pytest.param(
        lambda: axes.InterleavedSections(4),
        TypeError,
        "`sections` must be a sequence of int, got 4",
        id="sections int",
    ),
    pytest.param(
        lambda: axes.Sections((4, 1.5)),
        TypeError,
        "`sections` must be an int, got 1.5",
        id="sections float",
    ),
    pytest.param(
        lambda: axes.Directions([1.0, 2.0]),
        ValueError,
        "`matrix` must have shape (n_axes, n_pairs), got [1.0, 2.0]",
        id="matrix",
    ),
    pytest.param(
        lambda: axes.Directions([[1.0], [1.0, 2.0]]),
        ValueError,
        "`matrix` must have shape (n_axes, n_pairs), got rows of [1, 2]",
        id="matrix rows",
    ),
    pytest.param(
        lambda: axes.Directions([[1.0, float("nan")]]),
        ValueError,
        "`matrix[0][1]` must be finite, got nan",
        id="matrix nan",
    ),
    pytest.param(
        lambda: axes.Directions([[1.0, "2"]]),
        TypeError,
        "`matrix[0][1]` must be a number, got '2'",
        id="matrix text",
    ),
    pytest.param(
        lambda: RoPE(8, layout="half", axes=axes.Directions([[1.0, 2.0]])),
        ValueError,
        "`matrix` must have n_pairs=4 columns, got 2",
        id="matrix pairs",
    ),
    pytest.param(
        lambda: axes.golden_directions(0, 4, slowest=1, fastest=2),
        ValueError,
        "`n_axes` must be positive, got 0",
        id="golden axes",
    ),
    pytest.param(
        lambda: axes.golden_directions(2, 4, slowest=3, fastest=2),
        ValueError,
        "`slowest` and `fastest` must be 0 < slowest <= fastest, got 3, 2",
        id="golden speeds",
    ),
    pytest.param(
        lambda: axes.golden_directions(2, 4, slowest=1, fastest=2, still=1),
        ValueError,
        "`still` must be in [0, 1), got 1",
        id="golden still",
    ),
    pytest.param(
        lambda: axes.golden_directions(2, 4, slowest=1, fastest=2, first=-1),
        ValueError,
        "`first` must be non-negative, got -1",
        id="golden first",
    ),
    pytest.param(
        lambda: axes.golden_directions(2, 4, slowest="1", fastest=2),
        TypeError,
        "`slowest` must be a number, got '1'",
        id="golden text",
    ),
    pytest.param(
        lambda: GRID(X, positions=np.ones((3, 5), int)),
        ValueError,
        "`positions` must have shape (n_axes=2, ...) for Axial(",
        id="several positions",
    ),
    pytest.param(
        lambda: GRID(X, positions=np.arange(5)),
        ValueError,
        "`positions` must have shape (n_axes=2, ...) for Axial(",
        id="one position",
    ),
    pytest.param(
        lambda: GRID(X, positions=np.ones((2, 4), int)),
        ValueError,
        "`positions` must have shape (n_axes=2, seq) or (n_axes=2, batch, seq) with seq=5 (axis 2 of `q`), got (2, 4)",
        id="several lengths",
    ),
    pytest.param(
        lambda: GRID(X, positions=np.ones((2, 3, 5), int)),
        ValueError,
        "`positions` must have batch=2 (axis 0 of `q`) or 1 as its second axis, got shape (2, 3, 5)",
        id="several batches",
    ),
    pytest.param(
        lambda: GRID.cos_sin(np.arange(5)),
        ValueError,
        "`positions` must have shape (n_axes=2, ...)",
        id="several tables",
    ),
    pytest.param(
        lambda: GRID.cos_sin(np.asarray(5)),
        ValueError,
        "`positions` must have shape (n_axes=2, ...)",
        id="several scalar",
    ),
    pytest.param(
        lambda: GRID.cos_sin("01"),
        TypeError,
        "`positions` must be an array of a library",
        id="several text",
    ),
    pytest.param(
        lambda: GRID(X, positions=np.ones((2, 5), int), offset=2),
        ValueError,
        "`offset` must be 0 when `positions` are given, got 2",
        id="several both",
    ),
    pytest.param(
        lambda: GRID.shift(X, np.arange(3)),
        ValueError,
        "`delta` must have shape (n_axes=2, ...)",
        id="several delta",
    ),
    pytest.param(
        lambda: GRID(X),
        ValueError,
        "`positions` must be given, shape (n_axes=2, seq) or (n_axes=2, batch, seq), for Axial, where "
        "equal coordinates would be the diagonal of a grid; rope_xp.positions.grid_positions makes them",
        id="several default",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, rope=GRID),
        ValueError,
        "`q_positions` and `k_positions` must be given, shape (n_axes=2, seq)",
        id="several default linear",
    ),
    pytest.param(
        lambda: GRID.shift(X, np.ones((2, 2), int)),
        ValueError,
        "`delta` must have shape (n_axes=2, seq) with seq=5 (axis 2 of `k`), or (n_axes=2, batch, 1) "
        "for steps of each row, `delta[..., None]`, got (2, 2)",
        id="several delta of each row",
    ),
    pytest.param(
        lambda: GRID.shift(X, np.ones((2, 2, 4), int)),
        ValueError,
        "`delta` must have shape (n_axes=2, seq) or (n_axes=2, batch, seq) with seq=5 (axis 2 of `k`), got (2, 2, 4)",
        id="several delta length",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), [*CASES, *SCHEMES, *BY_AXIS])
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
