"""Mistakes get a sentence: the argument, the rule, the value. None goes on with wrong numbers."""

import re

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, analysis, attention, axes, phases, positions, relative, scaling
from rope_xp.axes import Axial

F32 = np.float32
X = np.ones((2, 3, 5, 8), dtype=F32)
COS, SIN = rope_xp.cos_sin(np.arange(5), [1.0, 0.1, 0.01, 0.001])
ROPE = RoPE(8, layout="half")
GRID = RoPE(8, layout="half", axes=axes.Axial(2))


def rotate(x=X, cos=COS, sin=SIN, **options):
    return rope_xp.rotate(x, cos, sin, **{"layout": "half", **options})


def convert(x=X, **options):
    defaults = {"source": "half", "target": "interleaved", "head_dim": 8}
    return rope_xp.convert_layout(x, **{**defaults, **options})


def shaw(**changes):
    table, index = np.ones((3, 8), F32), np.ones((5, 5), int)
    return relative.shaw_score(**{"q": X, "k": X, "key_table": table, "index": index, **changes})


def transformer_xl(**changes):
    learned = {"r": np.ones((9, 8), F32), "u": np.ones((3, 8), F32), "v": np.ones((3, 8), F32)}
    return relative.transformer_xl_score(**{"q": X, "k": X, **learned, **changes})


def wide(n):
    return {"cos": np.ones((5, n), F32), "sin": np.ones((5, n), F32)}


CASES = {
    # RoPE
    "odd": (lambda: RoPE(64, layout="half", rotary_dim=7), ValueError, "`rotary_dim` must be even and positive, got 7"),
    "zero": (lambda: RoPE(64, layout="half", rotary_dim=0), ValueError, "`rotary_dim` must be even and positive, got 0"),
    "odd head": (lambda: RoPE(7, layout="half"), ValueError, "`rotary_dim` must be even and positive, got 7"),
    "too large": (lambda: RoPE(64, layout="half", rotary_dim=80), ValueError, "`rotary_dim` must be at most head_dim - rotary_start = 64, got 80"),
    "too far": (lambda: RoPE(64, layout="half", rotary_dim=60, rotary_start=8), ValueError, "`rotary_dim` must be at most head_dim - rotary_start = 56, got 60"),
    "start": (lambda: RoPE(64, layout="half", rotary_start=64), ValueError, "`rotary_start` must be in [0, head_dim=64), got 64"),
    "negative start": (lambda: RoPE(64, layout="half", rotary_start=-2), ValueError, "`rotary_start` must be in [0, head_dim=64), got -2"),
    "head_dim": (lambda: RoPE(-4, layout="half"), ValueError, "`head_dim` must be positive, got -4"),
    "head_dim float": (lambda: RoPE(64.0, layout="half"), TypeError, "`head_dim` must be an int, got 64.0"),
    "head_dim bool": (lambda: RoPE(True, layout="half"), TypeError, "`head_dim` must be an int, got True"),
    "layout": (lambda: RoPE(64, layout="neox"), ValueError, "`layout` must be one of 'half', 'interleaved', got 'neox'"),
    "no layout": (lambda: RoPE(64), TypeError, "layout"),
    "base": (lambda: RoPE(64, layout="half", base=-1), ValueError, "`base` must be positive and finite, got -1.0"),
    "base inf": (lambda: RoPE(64, layout="half", base=float("inf")), ValueError, "`base` must be positive and finite, got inf"),
    "base nan": (lambda: RoPE(64, layout="half", base=float("nan")), ValueError, "`base` must be positive and finite, got nan"),
    "base text": (lambda: RoPE(64, layout="half", base="1e4"), TypeError, "`base` must be a number, got '1e4'"),
    "precision": (lambda: RoPE(64, layout="half", precision="bf16"), ValueError, "unknown precision 'bf16'; known: 'exact', 'float32'"),
    "scaling": (lambda: RoPE(64, layout="half", scaling="yarn"), TypeError, "`scaling` must be None or a value from rope_xp.scaling, got 'yarn'"),
    "axes": (lambda: RoPE(64, layout="half", axes=2), TypeError, "`axes` must be None or a value from rope_xp.axes, got 2"),
    "axes of none": (lambda: RoPE(64, layout="half", axes=axes.Axial), TypeError, "`axes` must be None or a value from rope_xp.axes, got <class"),
    "axes scaling": (lambda: RoPE(4, layout="half", axes=axes.Directions([[1.0, 2.0]]), scaling=scaling.Linear(2.0)), ValueError, "`scaling` must be None with `axes` that bring their own frequencies, got Linear(factor=2.0)"),
    # axes
    "widths odd": (lambda: axes.Axial((4, 3)), ValueError, "`widths` must be even and positive, got (4, 3)"),
    "widths none": (lambda: axes.Axial(()), ValueError, "`widths` must be even and positive, got ()"),
    "widths zero": (lambda: axes.Axial(0), ValueError, "`widths` must be a positive number of axes or their widths, got 0"),
    "widths float": (lambda: axes.Axial(2.0), TypeError, "`widths` must be an int, got 2.0"),
    "widths sum": (lambda: RoPE(64, layout="half", axes=axes.Axial((16, 56))), ValueError, "`widths` must sum to rotary_dim=64, got (16, 56) with sum 72"),
    "widths equal": (lambda: RoPE(64, layout="half", axes=axes.Axial(3)), ValueError, "`rotary_dim` must be a multiple of 6 for 3 equal axes, got 64"),
    "arrangement": (lambda: axes.Axial(2, arrangement="mixed"), ValueError, "`arrangement` must be one of 'blocks', 'alternating', got 'mixed'"),
    "alternating": (lambda: axes.Axial((2, 4), arrangement="alternating"), ValueError, "`widths` must be equal for arrangement='alternating', got (2, 4)"),
    "shared": (lambda: axes.Axial((2, 4), frequencies="shared"), ValueError, "`widths` must be equal for frequencies='shared', got (2, 4)"),
    "axial frequencies": (lambda: axes.Axial(2, frequencies="all"), ValueError, "`frequencies` must be one of 'own', 'shared', got 'all'"),
    "axis order": (lambda: axes.Axial(2, axis_order=(0, 0)), ValueError, "`axis_order` must name each of 2 axes once, got (0, 0)"),
    "axis order int": (lambda: axes.Axial(2, axis_order=1), TypeError, "`axis_order` must be a tuple, got 1"),
    "split": (lambda: axes.Axial(2, arrangement="alternating", split=True), ValueError, "`arrangement` must be 'blocks' where they are split, got 'alternating'"),
    "scale": (lambda: axes.Axial(2, scale=0), ValueError, "`scale` must not be 0, got 0.0"),
    "scale text": (lambda: axes.Axial(2, scale="2"), TypeError, "`scale` must be a number, got '2'"),
    "bases": (lambda: axes.Axial(2, bases=(1e4,)), ValueError, "`bases` must have one for each of 2 axes, got (10000.0,)"),
    "bases negative": (lambda: axes.Axial(2, bases=(1e4, -1)), ValueError, "`bases[1]` must be positive and finite, got -1.0"),
    "bases shared": (lambda: axes.Axial(2, bases=(2, 3), frequencies="shared"), ValueError, "`bases` must be None for frequencies='shared', got (2.0, 3.0)"),
    "pairs": (lambda: axes.AxisPerPair((0, 2)), ValueError, "`pairs` must name axes 0, 1, … without a gap, got (0, 2)"),
    "pairs negative": (lambda: axes.AxisPerPair((0, -1)), ValueError, "`pairs` must name axes 0, 1, … without a gap, got (0, -1)"),
    "pairs few": (lambda: RoPE(8, layout="half", axes=axes.AxisPerPair((0, 1))), ValueError, "`pairs` must have n_pairs=4 entries, got 2"),
    "sections": (lambda: RoPE(128, layout="half", axes=axes.Sections((16, 24, 23))), ValueError, "`sections` must sum to n_pairs=64, got (16, 24, 23) with sum 63"),
    "interleaved": (lambda: RoPE(128, layout="half", axes=axes.InterleavedSections((24, 20, 21))), ValueError, "`sections` must sum to n_pairs=64, got (24, 20, 21) with sum 65"),
    "sections negative": (lambda: axes.Sections((4, -1)), ValueError, "`sections` must be non-negative, at least one, got (4, -1)"),
    "sections none": (lambda: axes.Sections(()), ValueError, "`sections` must be non-negative, at least one, got ()"),
    "sections int": (lambda: axes.InterleavedSections(4), TypeError, "`sections` must be a tuple, got 4"),
    "sections float": (lambda: axes.Sections((4, 1.5)), TypeError, "`sections` must be an int, got 1.5"),
    "matrix": (lambda: axes.Directions([1.0, 2.0]), ValueError, "`matrix` must have shape (n_axes, n_pairs), got [1.0, 2.0]"),
    "matrix rows": (lambda: axes.Directions([[1.0], [1.0, 2.0]]), ValueError, "`matrix` must have shape (n_axes, n_pairs), got rows of [1, 2]"),
    "matrix nan": (lambda: axes.Directions([[1.0, float("nan")]]), ValueError, "`matrix[0][1]` must be finite, got nan"),
    "matrix text": (lambda: axes.Directions([[1.0, "2"]]), TypeError, "`matrix[0][1]` must be a number, got '2'"),
    "matrix pairs": (lambda: RoPE(8, layout="half", axes=axes.Directions([[1.0, 2.0]])), ValueError, "`matrix` must have n_pairs=4 columns, got 2"),
    "golden axes": (lambda: axes.golden_directions(0, 4, slowest=1, fastest=2), ValueError, "`n_axes` must be positive, got 0"),
    "golden speeds": (lambda: axes.golden_directions(2, 4, slowest=3, fastest=2), ValueError, "`slowest` and `fastest` must be 0 < slowest <= fastest, got 3, 2"),
    "golden still": (lambda: axes.golden_directions(2, 4, slowest=1, fastest=2, still=1), ValueError, "`still` must be in [0, 1), got 1"),
    "golden first": (lambda: axes.golden_directions(2, 4, slowest=1, fastest=2, first=-1), ValueError, "`first` must be non-negative, got -1"),
    "golden text": (lambda: axes.golden_directions(2, 4, slowest="1", fastest=2), TypeError, "`slowest` must be a number, got '1'"),
    "several positions": (lambda: GRID(X, positions=np.ones((3, 5), int)), ValueError, "`positions` must have shape (n_axes=2, ...) for Axial("),
    "one position": (lambda: GRID(X, positions=np.arange(5)), ValueError, "`positions` must have shape (n_axes=2, ...) for Axial("),
    "several lengths": (lambda: GRID(X, positions=np.ones((2, 4), int)), ValueError, "`positions` must have shape (n_axes=2, seq) or (n_axes=2, batch, seq) with seq=5 (axis 2 of `q`), got (2, 4)"),
    "several batches": (lambda: GRID(X, positions=np.ones((2, 3, 5), int)), ValueError, "`positions` must have batch=2 (axis 0 of `q`) or 1 as its second axis, got shape (2, 3, 5)"),
    "several tables": (lambda: GRID.cos_sin(np.arange(5)), ValueError, "`positions` must have shape (n_axes=2, ...)"),
    "several scalar": (lambda: GRID.cos_sin(np.asarray(5)), ValueError, "`positions` must have shape (n_axes=2, ...)"),
    "several list": (lambda: GRID.cos_sin([[0], [1]]), TypeError, "`positions` must be an array of a library"),
    "several both": (lambda: GRID(X, positions=np.ones((2, 5), int), offset=2), ValueError, "`offset` must be 0 when `positions` are given, got 2"),
    "several delta": (lambda: GRID.shift(X, np.arange(3)), ValueError, "`delta` must have shape (n_axes=2, ...)"),
    "several delta length": (lambda: GRID.shift(X, np.ones((2, 2, 4), int)), ValueError, "`delta` must have shape (n_axes=2, seq) or (n_axes=2, batch, seq) with seq=5 (axis 2 of `k`), got (2, 2, 4)"),
    # calling it
    "features": (lambda: ROPE(np.ones((2, 5, 16), F32)), ValueError, "`q` must have shape (..., seq, head_dim=8), got (2, 5, 16)"),
    "one axis": (lambda: ROPE(np.ones(8, F32)), ValueError, "`q` must have shape (..., seq, head_dim=8), got (8,)"),
    "k features": (lambda: ROPE(X, np.ones((2, 5, 4), F32)), ValueError, "`k` must have shape (..., seq, head_dim=8), got (2, 5, 4)"),
    "k length": (lambda: ROPE(X, X[:, :, :4]), ValueError, "`k` must have the sequence length of `q`, 5, got 4"),
    "integer x": (lambda: ROPE(np.ones((5, 8), int)), TypeError, "`q` must be one of float16, bfloat16, float32, float64, got int64"),
    "complex x": (lambda: ROPE(np.ones((5, 8), complex)), TypeError, "`q` must be one of float16, bfloat16, float32, float64, got complex128"),
    "list x": (lambda: ROPE([[1.0] * 8]), TypeError, "`q` must be an array of a library that follows the array API standard"),
    "positions length": (lambda: ROPE(X, positions=np.arange(4)), ValueError, "`positions` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `q`), got (4,)"),
    "positions one": (lambda: ROPE(X, positions=np.arange(1)), ValueError, "got (1,)"),
    "positions batch": (lambda: ROPE(X, positions=np.ones((3, 5), int)), ValueError, "`positions` must have batch=2 (axis 0 of `q`) or 1 as its first axis, got shape (3, 5)"),
    "positions axes": (lambda: ROPE(X, positions=np.ones((1, 1, 5), int)), ValueError, "`positions` must have shape (seq,) or (batch, seq)"),
    "positions scalar": (lambda: ROPE(X, positions=np.asarray(1)), ValueError, "`positions` must have shape (seq,) or (batch, seq)"),
    "positions without batch": (lambda: ROPE(X[0, 0], positions=np.ones((2, 5), int)), ValueError, "`positions` must not have a batch axis, got shape (2, 5)"),
    "positions bool": (lambda: ROPE(X, positions=np.ones(5, bool)), TypeError, "`positions` must be integer or real floating, got bool"),
    "positions list": (lambda: ROPE(X, positions=[0, 1, 2, 3, 4]), TypeError, "`positions` must be an array of a library"),
    "both": (lambda: ROPE(X, positions=np.arange(5), offset=3), ValueError, "`offset` must be 0 when `positions` are given, got 3"),
    "offset float": (lambda: ROPE(X, offset=1.5), TypeError, "`offset` must be an int, got 1.5"),
    "offset bool": (lambda: ROPE(X, offset=True), TypeError, "`offset` must be an int, got True"),
    "offset float array": (lambda: ROPE(X, offset=np.ones(2)), TypeError, "`offset` must be integer, got float64"),
    "offset batch": (lambda: ROPE(X, offset=np.arange(3)), ValueError, "`offset` must have batch=2 (axis 0 of `q`) or 1 as its first axis, got shape (3,)"),
    "offset axes": (lambda: ROPE(X, offset=np.ones((2, 5), int)), ValueError, "`offset` must be an int or have shape () or (batch,), got (2, 5)"),
    "offset past the end": (lambda: ROPE(X, offset=2**31 - 4), ValueError, "`offset` must keep positions in [-2**31, 2**31), got 2147483644 for 5 tokens"),
    "offset before the start": (lambda: ROPE(X, offset=-(2**31) - 1), ValueError, "`offset` must keep positions in [-2**31, 2**31), got -2147483649"),
    "seq_axis": (lambda: ROPE(X, seq_axis=-1), ValueError, "`seq_axis` must be an axis of `q` other than its last, got -1"),
    "seq_axis out": (lambda: ROPE(X, seq_axis=-5), ValueError, "`seq_axis` must be an axis of `q` other than its last, got -5"),
    "seq_len": (lambda: ROPE(X, seq_len=0), ValueError, "`seq_len` must be positive, got 0"),
    "seq_len float": (lambda: ROPE(X, seq_len=5.0), TypeError, "`seq_len` must be an int, got 5.0"),
    "delta": (lambda: ROPE.shift(X, 0.5), TypeError, "`delta` must be an int, got 0.5"),
    "delta far": (lambda: ROPE.shift(X, 2**31), ValueError, "`delta` must keep positions in [-2**31, 2**31), got 2147483648"),
    "delta batch": (lambda: ROPE.shift(X, np.arange(3)), ValueError, "`delta` must have batch=2 (axis 0 of `k`) or 1"),
    "delta length": (lambda: ROPE.shift(X, np.ones((2, 4), int)), ValueError, "`delta` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (2, 4)"),
    "table width": (lambda: ROPE.rotate(X, **wide(8)), ValueError, "`cos` must have width n_pairs=4 for head_dim=8, got 8; tables are not repeated to head_dim here"),
    "table narrow": (lambda: ROPE.rotate(X, **wide(2)), ValueError, "`cos` must have width n_pairs=4 for head_dim=8, got 2"),
    "rotate list": (lambda: ROPE.rotate([[1.0] * 8], COS, SIN), TypeError, "`x` must be an array of a library"),
    "table list": (lambda: ROPE.rotate(X, [1.0], SIN), TypeError, "`cos` must be an array of a library"),
    "table scalar": (lambda: ROPE.rotate(X, COS[0, 0, ...], SIN), ValueError, "`cos` must have width n_pairs=4 for head_dim=8, got a scalar"),
    "shift list": (lambda: ROPE.shift([1.0], 1), TypeError, "`k` must be an array of a library"),
    # rotate
    "width": (lambda: rotate(**wide(8)), ValueError, "`cos` must have width n_pairs=4 for head_dim=8, got 8; tables are not repeated to head_dim here"),
    "width after start": (lambda: rotate(rotary_start=2), ValueError, "`cos` must have width n_pairs=3 for head_dim=8 from rotary_start=2 on, got 4"),
    "sin width": (lambda: rotate(sin=SIN[:, :2]), ValueError, "`sin` must have the shape of `cos` (5, 4), got (5, 2)"),
    "table length": (lambda: rotate(cos=COS[:4], sin=SIN[:4]), ValueError, "`cos` must line up with `x` of shape (2, 3, 5, 8): along axis 2 of `x` it must have size 5 or 1, got 4"),
    "table batch": (lambda: rotate(cos=np.ones((3, 5, 4), F32), sin=np.ones((3, 5, 4), F32)), ValueError, "along axis 0 of `x` it must have size 2 or 1, got 3"),
    "table axes": (lambda: rotate(x=X[0, 0], cos=np.ones((1, 5, 4), F32), sin=np.ones((1, 5, 4), F32)), ValueError, "`cos` must have shape (seq, n_pairs), (batch, seq, n_pairs) or as many axes as `x`"),
    "table type": (lambda: rotate(cos=np.ones((5, 4), int)), TypeError, "`cos` must be one of float16, bfloat16, float32, float64, got int64"),
    "x type": (lambda: rotate(x=np.ones((5, 8), int)), TypeError, "`x` must be one of float16, bfloat16, float32, float64, got int64"),
    "x bool": (lambda: rotate(x=np.ones((5, 8), bool)), TypeError, "`x` must be one of float16, bfloat16, float32, float64, got bool"),
    "rotate layout": (lambda: rotate(layout="interleave"), ValueError, "`layout` must be one of 'half', 'interleaved', got 'interleave'"),
    "rotate start": (lambda: rotate(rotary_start=-1), ValueError, "`rotary_start` must be in [0, head_dim=8), got -1"),
    "out shape": (lambda: rotate(out=X[0].copy()), ValueError, "`out` must have the shape and dtype of `x`"),
    "out dtype": (lambda: rotate(out=X.astype(np.float64)), ValueError, "`out` must have the shape and dtype of `x`"),
    "out list": (lambda: rotate(out=[]), TypeError, "`out` must be an array of a library"),
    "blocks": (lambda: rotate(blocks=(2, 4)), ValueError, "`blocks` must be even, positive, and sum to 2 n_pairs=8, got (2, 4)"),
    "blocks odd": (lambda: rotate(blocks=(3, 5)), ValueError, "`blocks` must be even, positive, and sum to 2 n_pairs=8, got (3, 5)"),
    # cos_sin
    "no frequencies": (lambda: rope_xp.cos_sin(np.arange(3), []), ValueError, "`inv_freq` must be finite numbers, at least one, got []"),
    "nan frequency": (lambda: rope_xp.cos_sin(np.arange(3), [float("nan")]), ValueError, "`inv_freq` must be finite numbers"),
    "frequency axes": (lambda: rope_xp.cos_sin(np.arange(3), np.ones((2, 2))), ValueError, "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 2), got (3,)"),
    "frequency shape": (lambda: rope_xp.cos_sin(np.arange(3), np.ones((2, 2, 2))), ValueError, "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 2, 2), got (3,)"),
    "frequency scalar": (lambda: rope_xp.cos_sin(np.arange(3), np.asarray(1.0)), ValueError, "`inv_freq` must have shape (n_pairs,) or (n_axes, n_pairs), got ()"),
    "frequency heads": (lambda: rope_xp.cos_sin(np.ones((2, 3)), np.ones((2, 3, 4))), ValueError, "`inv_freq` must have size 1 where tokens are, (n_axes, ..., 1, n_pairs), got (2, 3, 4)"),
    "frequency rows": (lambda: rope_xp.cos_sin(np.ones((2, 3)), [[1.0], [1.0, 2.0]]), ValueError, "`inv_freq` must have rows of one length, got [1, 2]"),
    "integer dtype": (lambda: rope_xp.cos_sin(np.arange(3), [1.0], dtype=np.int32), TypeError, "`dtype` must be one of float16, bfloat16, float32, float64, got int32"),
    "cos_sin precision": (lambda: rope_xp.cos_sin(np.arange(3), [1.0], precision="double"), ValueError, "unknown precision 'double'"),
    "cos_sin list": (lambda: rope_xp.cos_sin([0, 1], [1.0]), TypeError, "`positions` must be an array of a library"),
    "xpos pairs": (lambda: phases.xpos_scale(np.arange(3), 0), ValueError, "`n_pairs` must be positive, got 0"),
    "xpos base": (lambda: phases.xpos_scale(np.arange(3), 4, scale_base=0), ValueError, "`scale_base` must be positive and finite, got 0.0"),
    "xpos centre": (lambda: phases.xpos_scale(np.arange(3), 4, center="mid"), TypeError, "`center` must be a number, got 'mid'"),
    "xpos bool": (lambda: phases.xpos_scale(np.ones(3, bool), 4), TypeError, "`positions` must be integer or real floating, got bool"),
    "xpos dtype": (lambda: phases.xpos_scale(np.arange(3), 4, dtype=np.int32), TypeError, "`dtype` must be one of float16, bfloat16, float32, float64, got int32"),
    # sinusoidal
    "odd dim": (lambda: rope_xp.sinusoidal(np.arange(3), 7), ValueError, "`dim` must be even and positive, got 7"),
    "order": (lambda: rope_xp.sinusoidal(np.arange(3), 8, order="cos"), ValueError, "`order` must be one of 'interleaved', 'sin_cos', 'cos_sin', got 'cos'"),
    "shift": (lambda: rope_xp.sinusoidal(np.arange(3), 2, shift=1), ValueError, "`shift` must be below n_pairs=1, got 1"),
    "sinusoidal base": (lambda: rope_xp.sinusoidal(np.arange(3), 8, base=0), ValueError, "`base` must be positive and finite, got 0.0"),
    "sinusoidal axes": (lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=2), TypeError, "`axes` must be None or a value from rope_xp.axes, got 2"),
    "sinusoidal scheme": (lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=Axial), TypeError, "`axes` must be None or a value from rope_xp.axes, got <class"),
    "sinusoidal positions": (lambda: rope_xp.sinusoidal(np.arange(3), 8, axes=Axial(2)), ValueError, "`positions` must have shape (n_axes=2, ...) for frequencies of shape (2, 4), got (3,)"),
    "sinusoidal dim": (lambda: rope_xp.sinusoidal(np.ones((2, 3)), 6, axes=Axial(2)), ValueError, "must be a multiple of 4 for 2 equal axes, got 6"),
    "sinusoidal widths": (lambda: rope_xp.sinusoidal(np.ones((2, 3)), 8, axes=Axial((2, 4))), ValueError, "got (2, 4) with sum 6"),
    "shift of an axis": (lambda: rope_xp.sinusoidal(np.ones((2, 3)), 4, shift=1, axes=Axial(2)), ValueError, "`shift` must be below n_pairs=1, got 1"),
    # convert_layout
    "source": (lambda: convert(source="hf"), ValueError, "`source` must be one of 'half', 'interleaved', got 'hf'"),
    "target": (lambda: convert(target="meta"), ValueError, "`target` must be one of 'half', 'interleaved', got 'meta'"),
    "no multiple": (lambda: convert(np.ones(12), head_dim=8), ValueError, "`head_dim` must divide axis -1 of `x`, of length 12, got 8"),
    "head_dim zero": (lambda: convert(head_dim=0), ValueError, "`head_dim` must divide axis -1 of `x`, of length 8, got 0"),
    "convert odd": (lambda: convert(rotary_dim=3), ValueError, "`rotary_dim` must be even and positive, got 3"),
    "convert large": (lambda: convert(rotary_dim=10), ValueError, "`rotary_dim` must fit into head_dim=8 from rotary_start=0 on, got 10"),
    "convert axis": (lambda: convert(axis=4), ValueError, "`axis` must be an axis of `x`, got 4"),
    # positions
    "n": (lambda: positions.token_positions(-1), ValueError, "`n` must be non-negative, got -1"),
    "n float": (lambda: positions.token_positions(3.0), TypeError, "`n` must be an int, got 3.0"),
    "positions dtype": (lambda: positions.token_positions(3, dtype=F32), TypeError, "`dtype` must be an integer dtype, got float32"),
    "token offset": (lambda: positions.token_positions(3, offset=2**31), ValueError, "`offset` must keep positions in [-2**31, 2**31)"),
    "cu_seqlens": (lambda: positions.packed_positions(np.ones((2, 2), int), 3), ValueError, "`cu_seqlens` must have shape (n_sequences + 1,), got (2, 2)"),
    "cu_seqlens float": (lambda: positions.packed_positions(np.ones(2), 3), TypeError, "`cu_seqlens` must be integer, got float64"),
    "total": (lambda: positions.packed_positions(np.asarray([0, 2]), -1), ValueError, "`total` must be non-negative, got -1"),
    "mask": (lambda: positions.mask_positions(np.ones(3)), TypeError, "`mask` must be boolean or integer, got float64"),
    "mask scalar": (lambda: positions.mask_positions(np.asarray(True)), ValueError, "`mask` must have shape (..., seq), got ()"),
    "grid mask": (lambda: positions.mask_grid_positions(np.ones((2, 3))), TypeError, "`mask` must be boolean or integer, got float64"),
    "grid mask axes": (lambda: positions.mask_grid_positions(np.ones(3, int)), ValueError, "`mask` must have shape (..., and n_axes=2 axes of the grid), got (3,)"),
    "grid mask empty": (lambda: positions.mask_grid_positions(np.ones((2, 0, 3), int)), ValueError, "`mask` must have no axis of size 0 in its grid, got (2, 0, 3)"),
    "grid mask n_axes": (lambda: positions.mask_grid_positions(np.ones((2, 3), int), n_axes=0), ValueError, "`n_axes` must be positive, got 0"),
    "grid mask scale": (lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=0), ValueError, "`scale` must be positive and finite, got 0.0"),
    "grid mask dtype": (lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=1, dtype=np.int32), TypeError, "`dtype` must be one of float16, bfloat16, float32, float64, got int32"),
    "grid mask no scale": (lambda: positions.mask_grid_positions(np.ones((2, 3), int), dtype=np.float32), ValueError, "`dtype` must be None without `scale`, where positions are integers, got <class 'numpy.float32'>"),
    # relative
    "slopes": (lambda: relative.alibi_slopes(0), ValueError, "`n_heads` must be in [1, 65536], got 0"),
    "slopes float": (lambda: relative.alibi_slopes(8.0), TypeError, "`n_heads` must be an int, got 8.0"),
    "slopes dtype": (lambda: relative.alibi_slopes(8, dtype=np.int32), TypeError, "`dtype` must be one of float16, bfloat16, float32, float64, got int32"),
    "alibi heads": (lambda: relative.alibi_bias(np.arange(3), np.arange(3), -2), ValueError, "`n_heads` must be in [1, 65536], got -2"),
    "alibi form": (lambda: relative.alibi_bias(np.arange(3), np.arange(3), 8, form="bloom"), ValueError, "`form` must be one of 'distance', 'key', got 'bloom'"),
    "alibi dtype": (lambda: relative.alibi_bias(np.arange(3), np.arange(3), 8, dtype=np.int32), TypeError, "`dtype` must be one of float16"),
    "alibi bool": (lambda: relative.alibi_bias(np.ones(3, bool), np.arange(3), 8), TypeError, "`q_positions` must be integer or real floating, got bool"),
    "alibi axes": (lambda: relative.alibi_bias(np.arange(3), np.asarray(3), 8), ValueError, "`k_positions` must have shape (seq,) or (batch, seq), got ()"),
    "alibi batch": (lambda: relative.alibi_bias(np.ones((2, 3)), np.ones((3, 3)), 8), ValueError, "`k_positions` must have the batch of `q_positions`, 2, or 1, got 3"),
    "alibi list": (lambda: relative.alibi_bias([0], np.arange(3), 8), TypeError, "`q_positions` must be an array of a library"),
    "clip": (lambda: relative.clipped_index(np.arange(3), np.arange(3), -1), ValueError, "`max_distance` must be in [0, 2**30), got -1"),
    "clip bool": (lambda: relative.clipped_index(np.arange(3), np.arange(3), True), TypeError, "`max_distance` must be an int, got True"),
    "clip float": (lambda: relative.clipped_index(np.arange(3), np.arange(3), 2.0), TypeError, "`max_distance` must be an int, got 2.0"),
    "clip real": (lambda: relative.clipped_index(np.arange(3), np.ones(3), 2), TypeError, "`k_positions` must be integer, got float64"),
    "shaw axes": (lambda: shaw(q=X[0]), ValueError, "`q` and `k` must be (..., heads, seq, head_dim) with the same head_dim, got (3, 5, 8), (2, 3, 5, 8)"),
    "shaw heads": (lambda: shaw(k=X[:, :2]), ValueError, "`k` must have the leading axes of `q`, (2, 3), or 1, got (2, 2)"),
    "shaw table": (lambda: shaw(key_table=np.ones((4, 8), F32)), ValueError, "`key_table` must have shape (2K + 1, 8), got (4, 8)"),
    "shaw width": (lambda: shaw(key_table=np.ones((3, 4), F32)), ValueError, "`key_table` must have shape (2K + 1, 8), got (3, 4)"),
    "shaw index": (lambda: shaw(index=np.ones((5, 4), int)), ValueError, "`index` must have shape (..., q_len, k_len) = (..., 5, 5), got (5, 4) for `q` of shape (2, 3, 5, 8)"),
    "shaw batch": (lambda: shaw(index=np.ones((3, 5, 5), int)), ValueError, "`index` must have the leading axes of `q`, (2,), or 1, got (3,)"),
    "shaw real index": (lambda: shaw(index=np.ones((5, 5))), TypeError, "`index` must be integer, got float64"),
    "shaw type": (lambda: shaw(k=X.astype(int)), TypeError, "`k` must be one of float16"),
    "t5 real": (lambda: relative.t5_bucket(np.ones(3)), TypeError, "`relative_position` must be integer, got float64"),
    "t5 odd": (lambda: relative.t5_bucket(np.arange(3), num_buckets=31), ValueError, "`num_buckets` must be even and in [4, 65536], got 31"),
    "t5 few": (lambda: relative.t5_bucket(np.arange(3), num_buckets=2), ValueError, "`num_buckets` must be even and in [4, 65536], got 2"),
    "t5 one": (lambda: relative.t5_bucket(np.arange(3), num_buckets=1, bidirectional=False), ValueError, "`num_buckets` must be in [2, 65536], got 1"),
    "t5 buckets float": (lambda: relative.t5_bucket(np.arange(3), num_buckets=32.0), TypeError, "`num_buckets` must be an int, got 32.0"),
    "t5 narrow": (lambda: relative.t5_bucket(np.arange(3, dtype=np.int8), num_buckets=256), ValueError, "`num_buckets` must fit the dtype of `relative_position`, int8, got 256"),
    "t5 near": (lambda: relative.t5_bucket(np.arange(3), max_distance=8), ValueError, "`max_distance` must be in (8, 2**31), got 8"),
    "t5 far": (lambda: relative.t5_bucket(np.arange(3), max_distance=2**31), ValueError, "`max_distance` must be in (8, 2**31), got 2147483648"),
    "xl bias": (lambda: transformer_xl(u=np.ones(8, F32)), ValueError, "`u` must have shape (heads, head_dim) = (3, 8), got (8,)"),
    "xl rows": (lambda: transformer_xl(r=np.ones((6, 8), F32)), ValueError, "`r` must have a row for each distance, k_len or k_len + q_len - 1, 5 or 9, got 6"),
    "xl width": (lambda: transformer_xl(r=np.ones((9, 4), F32)), ValueError, "`r` must have shape (..., rows, head_dim=8), got (9, 4)"),
    "xl heads": (lambda: transformer_xl(r=np.ones((2, 9, 8), F32)), ValueError, "`r` must have the leading axes of `q`, (2, 3), or 1, got (2,)"),
    "xl type": (lambda: transformer_xl(v=np.ones((3, 8), int)), TypeError, "`v` must be one of float16"),
    # attention
    "heads": (lambda: attention.attention(X, np.ones((2, 2, 5, 8), F32), np.ones((2, 2, 5, 8), F32)), ValueError, "the heads of `q` must be a multiple of those of `k`, got (2, 3, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8)"),
    "kv": (lambda: attention.attention(X, X, X[:, :, :4]), ValueError, "`k` and `v` must agree but for their last axis"),
    "head sizes": (lambda: attention.attention(X, X[..., :4], X), ValueError, "`q` and `k` must have the same last axis (head_dim)"),
    "attention axes": (lambda: attention.attention(X, X[0], X[0]), ValueError, "`q`, `k` and `v` must have the same number of axes"),
    "attention type": (lambda: attention.attention(X, X, X.astype(int)), TypeError, "`v` must be one of float16"),
    "bias type": (lambda: attention.attention(X, X, X, bias=np.ones((5, 5), int)), TypeError, "`bias` must be one of float16"),
    "linear heads": (lambda: attention.linear_attention(X, X[:, :2], X[:, :2]), ValueError, "the heads of `q` must be a multiple of those of `k`, got (2, 3, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8)"),
    "linear type": (lambda: attention.linear_attention(X, X.astype(int), X), TypeError, "`k` must be one of float16"),
    "linear rope": (lambda: attention.linear_attention(X, X, X, rope=1e4), TypeError, "`rope` must be a RoPE or None, got 10000.0"),
    "linear rope size": (lambda: attention.linear_attention(X, X, X, rope=RoPE(4, layout="half")), ValueError, "`q` must have shape (..., seq, head_dim=4), got (2, 3, 5, 8)"),
    "linear no rope": (lambda: attention.linear_attention(X, X, X, k_positions=np.arange(5)), ValueError, "`k_positions` must be None without a `rope` that rotates, got an array"),
    "linear one position": (lambda: attention.linear_attention(X, X, X, rope=ROPE, q_positions=np.arange(5)), ValueError, "`q_positions` and `k_positions` must be given together, got only `q_positions`"),
    "linear positions": (lambda: attention.linear_attention(X, X, X, rope=ROPE, q_positions=np.arange(5), k_positions=np.arange(4)), ValueError, "`positions` must have shape (seq,) or (batch, seq) with seq=5"),
    "feature map": (lambda: attention.linear_attention(X, X, X, feature_map="elu"), TypeError, "`feature_map` must be callable or None, got 'elu'"),
    "feature map shape": (lambda: attention.linear_attention(X, X, X, feature_map=lambda x: x[:, 0]), ValueError, "`feature_map` must keep all axes but the last, got (2, 5, 8) from (2, 3, 5, 8)"),
    "feature map type": (lambda: attention.linear_attention(X, X, X, feature_map=lambda x: x.tolist()), TypeError, "`feature_map(q)` must be an array of a library"),
    "full": (lambda: attention.KVCache.empty((2, 3, 4, 8)).append(X, X), ValueError, "`k` must fit into the cache of 4 tokens (0 used), got 5"),
    "cache shape": (lambda: attention.KVCache.empty((2, 4, 9, 8)).append(X, X), ValueError, "`k` must have shape (2, 4, 5, 8), got (2, 3, 5, 8)"),
    "drop": (lambda: attention.KVCache.empty((2, 3, 9, 8)).append(X, X).drop(4, ROPE, keep=2), ValueError, "`n` and `keep` must be within the 5 tokens held, got 4 and 2"),
    # analysis
    "wavelengths of nothing": (lambda: analysis.wavelengths([]), ValueError, "`inv_freq` must be finite numbers, at least one, got []"),
    "wavelengths of nan": (lambda: analysis.wavelengths([1.0, float("nan")]), ValueError, "`inv_freq` must be finite numbers, at least one, got [1.0, nan]"),
    "wavelengths of a number": (lambda: analysis.wavelengths(1.0), TypeError, "`inv_freq` must be a list or a NumPy array, got float"),
    "length": (lambda: analysis.turns([1.0], -1), ValueError, "`length` must be non-negative, got -1"),
    "length inf": (lambda: analysis.turns([1.0], float("inf")), ValueError, "`length` must be finite, got inf"),
    "length text": (lambda: analysis.turns([1.0], "4k"), TypeError, "`length` must be a number, got '4k'"),
    "distance": (lambda: analysis.decay_bound("far", [1.0]), TypeError, "`distance` must be integers or real numbers, got 'far'"),
    "distance bool": (lambda: analysis.decay_bound(True, [1.0]), TypeError, "`distance` must be integers or real numbers, got True"),
    "distance far": (lambda: analysis.advantage([0, 2**31], [1.0]), ValueError, "`distance` must be in [-2**31, 2**31), got [0, 2147483648]"),
    "analysis dtype": (lambda: analysis.decay_bound(1, [1.0], dtype=np.int32), TypeError, "`dtype` must be one of float16, bfloat16, float32, float64, got int32"),
    "analysis axes": (lambda: analysis.decay_bound(1, np.ones((2, 4))), ValueError, "`inv_freq` must have shape (n_pairs,), got (2, 4)"),
    "bound layout": (lambda: analysis.abel_bound(X, X, 0, np.ones(4), "neox"), ValueError, "`layout` must be one of 'half', 'interleaved', got 'neox'"),
    "bound q": (lambda: analysis.abel_bound(X, X, 0, np.ones(3), "half"), ValueError, "`q` must have shape (..., head_dim=6), two features for each of 3 frequencies, got (2, 3, 5, 8)"),
    "bound k": (lambda: analysis.score_curve(X, X[..., :7], 0, np.ones(4), "half"), ValueError, "`k` must have shape (..., head_dim=8), two features for each of 4 frequencies, got (2, 3, 5, 7)"),
    "bound integers": (lambda: analysis.abel_bound(X, X.astype(int), 0, np.ones(4), "half"), TypeError, "`k` must be one of float16, bfloat16, float32, float64, got int64"),
    "limit": (lambda: analysis.context_bound([1.0], limit=0), ValueError, "`limit` must be in [1, 2**31], got 0"),
    "limit float": (lambda: analysis.context_bound([1.0], limit=1e6), TypeError, "`limit` must be an int, got 1000000.0"),
    "limit axes": (lambda: analysis.context_bound(np.ones((2, 4))), ValueError, "`inv_freq` must have shape (n_pairs,), got (2, 4)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, kind, sentence = CASES[name]
    with pytest.raises(kind, match=re.escape(sentence)):
        call()


def test_other_libraries_and_devices_are_named():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict beside NumPy")
    x = xp.asarray(X)
    with pytest.raises(
        TypeError,
        match=r"`positions` must be an array of the same library as `q` \(array_api_strict\), got numpy",
    ):
        ROPE(x, positions=np.arange(5))
    with pytest.raises(TypeError, match=r"`k` must be an array of the same library as `q`"):
        ROPE(x, X)
    with pytest.raises(TypeError, match=r"`cos` must be an array of the same library as `x`"):
        rope_xp.rotate(x, COS, SIN, layout="half")
    with pytest.raises(TypeError, match=r"`offset` must be an array of the same library as `q`"):
        ROPE(x, offset=np.asarray([1, 2]))
    with pytest.raises(TypeError, match=r"`delta` must be an array of the same library as `k`"):
        ROPE.shift(x, np.asarray([1, 2]))
    with pytest.raises(TypeError, match=r"`k_positions` must be .* same library as `q_positions`"):
        relative.alibi_bias(xp.asarray([1]), np.asarray([1]), 2)
    with pytest.raises(TypeError, match=r"`offset` must be an int or an array of numpy"):
        positions.token_positions(3, offset=xp.asarray([1]), xp=np)
    with pytest.raises(TypeError, match=r"`distance` must be an array of the same library as `q`"):
        analysis.score_curve(x, x, np.asarray(1), np.ones(4), "half")
    there = xp.asarray(np.arange(5), device=xp.Device("device1"))
    with pytest.raises(
        ValueError,
        match=r"`positions` must be on the same device as `q` \(.*CPU.*\), got .*device1",
    ):
        ROPE(x, positions=there)
    elsewhere = xp.asarray([1.0], dtype=xp.float32, device=xp.Device("device1"))
    with pytest.raises(ValueError, match=r"`inv_freq` must be on the same device as `positions`"):
        rope_xp.cos_sin(xp.asarray([1]), elsewhere)
    with pytest.raises(TypeError, match=r"`inv_freq` must be an array of the same library as"):
        rope_xp.cos_sin(xp.ones((2, 3)), np.ones((2, 4, 1, 5)))  # data, unlike a matrix of NumPy's


def test_results_stay_on_the_device():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict beside NumPy")
    there = xp.Device("device1")
    x = xp.asarray(X, device=there)
    q, k = ROPE(x, x, offset=xp.asarray([1, 2], device=there))
    shifted = ROPE.shift(k, 3)
    at = xp.asarray(np.arange(5), device=there)
    bias = relative.alibi_bias(at, at, 3)
    steps = relative.relative_positions(at, at)
    near = relative.clipped_index(at, at, 1), relative.t5_bucket(steps)
    shaw = relative.shaw_score(q, k, x[0, 0, :3, :], near[0])
    distant = relative.transformer_xl_score(q, k, x[:, :, :5, :], *(x[0, :, 0, :] for _ in "uv"))
    mixed = attention.attention(q, k, x, causal=True, bias=bias)
    linear = attention.linear_attention(x, x[:, :, :4, :], x[:, :, :4, :], rope=ROPE, causal=True)
    inv_freq = ROPE.frequencies().inv_freq
    curve = analysis.decay_bound(at, inv_freq)
    scores = [f(x, x, 3, inv_freq, "half") for f in (analysis.abel_bound, analysis.score_curve)]
    tables = ROPE.cos_sin(at)
    several = []
    for scheme in (axes.Axial(2, split=True), axes.golden_directions(2, 4, slowest=1, fastest=2)):
        rope, pair = RoPE(8, layout="half", axes=scheme), xp.stack((at, at))
        several += [rope(x), rope(x, positions=pair), rope.shift(x, pair[:, :2])]
        learned = xp.ones((2, 3, 1, 4), device=there)
        several += [*rope.cos_sin(pair), *rope_xp.cos_sin(pair, learned)]
    tables = (*tables, *several, phases.xpos_scale(at, 4))
    patches = positions.mask_grid_positions(xp.astype(at[None, :], xp.bool), scale=1.0)
    tables = *ROPE.cos_sin(at), rope_xp.sinusoidal(patches, 8, axes=Axial(2))
    for array in (q, k, shifted, *near, shaw, distant, mixed, linear, curve, *scores, *tables):
        assert array.device == there
