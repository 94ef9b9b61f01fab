"""What the tests of messages share: small arrays, and the assertion."""

import re

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, axes, layouts, relative

F32 = np.float32
X = np.ones((2, 3, 5, 8), dtype=F32)
COS, SIN = rope_xp.cos_sin(np.arange(5), [1.0, 0.1, 0.01, 0.001])
ROPE = RoPE(8, layout="half")
GRID = RoPE(8, layout="half", axes=axes.Axial(2))


def assert_refused(call, error, sentence):
    """``call`` raises ``error``, and its message has ``sentence`` in it."""
    with pytest.raises(error, match=re.escape(sentence)):
        call()


def rotate(x=X, cos=COS, sin=SIN, **options):
    return rope_xp.rotate(x, cos, sin, **{"layout": "half", **options})


def convert(x=X, **options):
    defaults = {"source": "half", "target": "interleaved", "head_dim": 8}
    return rope_xp.convert_layout(x, **{**defaults, **options})


def guess(q=X[0, 0].T, k=X[0, 0].T, **options):
    return layouts.guess_layout(q, k, **{"head_dim": 8, **options})


def shaw(**changes):
    table, index = np.ones((3, 8), F32), np.ones((5, 5), int)
    return relative.shaw_score(**{"q": X, "k": X, "key_table": table, "index": index, **changes})


def transformer_xl(**changes):
    learned = {"r": np.ones((9, 8), F32), "u": np.ones((3, 8), F32), "v": np.ones((3, 8), F32)}
    return relative.transformer_xl_score(**{"q": X, "k": X, **learned, **changes})


def wide(n):
    return {"cos": np.ones((5, n), F32), "sin": np.ones((5, n), F32)}
