"""Mistakes in arguments of `axes` get a sentence: the argument, the rule, the value."""

import numpy as np
import pytest
from message_cases import GRID, X, assert_refused

from rope_xp import RoPE, axes

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
        "`axis_order` must be a tuple, got 1",
        id="axis order int",
    ),
    pytest.param(
        lambda: axes.Axial(2, arrangement="alternating", split=True),
        ValueError,
        "`arrangement` must be 'blocks' where they are split, got 'alternating'",
        id="split",
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
        "`pairs` must name axes 0, 1, … without a gap, got (0, 2)",
        id="pairs",
    ),
    pytest.param(
        lambda: axes.AxisPerPair((0, -1)),
        ValueError,
        "`pairs` must name axes 0, 1, … without a gap, got (0, -1)",
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
        "`sections` must be a tuple, got 4",
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
        lambda: GRID.cos_sin([[0], [1]]),
        TypeError,
        "`positions` must be an array of a library",
        id="several list",
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
        lambda: GRID.shift(X, np.ones((2, 2, 4), int)),
        ValueError,
        "`delta` must have shape (n_axes=2, seq) or (n_axes=2, batch, seq) with seq=5 (axis 2 of `k`), got (2, 2, 4)",
        id="several delta length",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
