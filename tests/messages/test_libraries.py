"""Arrays of other libraries and devices are refused in a sentence; results stay on the device."""

import numpy as np
import pytest
from message_cases import ROPE, X

import rope_xp
from rope_xp import RoPE, analysis, attention, axes, phases, positions, relative
from rope_xp.axes import Axial

pytestmark = pytest.mark.backend("strict")


def test_other_libraries_and_devices_are_named():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict beside NumPy")
    x, at = xp.asarray(X), xp.arange(5)
    with pytest.raises(
        TypeError,
        match=r"`positions` must be an array of the same library as `q` \(numpy\), got array_api",
    ):
        ROPE(X, positions=at)
    with pytest.raises(TypeError, match=r"`k` must be an array of the same library as `q`"):
        ROPE(x, X)
    with pytest.raises(TypeError, match=r"`cos` must be an array of the same library as `x`"):
        rope_xp.rotate(X, *ROPE.cos_sin(at), layout="half")
    with pytest.raises(TypeError, match=r"`offset` must be an array of the same library as `q`"):
        ROPE(X, offset=at[:2])
    with pytest.raises(TypeError, match=r"`delta` must be an array of the same library as `k`"):
        ROPE.shift(X, at)
    with pytest.raises(TypeError, match=r"`offset` must be an int or an array of numpy"):
        positions.token_positions(3, offset=xp.asarray([1]), xp=np)
    with pytest.raises(TypeError, match=r"`distance` must be an array of the same library as `q`"):
        analysis.score_curve(X[..., :5, :], X, at, np.ones(4), "half")
    there = xp.asarray(np.arange(5), device=xp.Device("device1"))
    with pytest.raises(
        ValueError,
        match=r"`positions` must be on the same device as `q` \(.*CPU.*\), got .*device1",
    ):
        ROPE(x, positions=there)
    elsewhere = xp.asarray([1.0], dtype=xp.float32, device=xp.Device("device1"))
    with pytest.raises(ValueError, match=r"`inv_freq` must be on the same device as `positions`"):
        rope_xp.cos_sin(xp.asarray([1]), elsewhere)


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
        several += [rope(x, positions=pair), rope.shift(x, pair), rope.shift(x, pair[:, 0])]
        learned = xp.ones((2, 3, 1, 4), device=there)
        several += [*rope.cos_sin(pair), *rope_xp.cos_sin(pair, learned)]
    tables = (*tables, *several, phases.xpos_scale(at, 4))
    patches = positions.mask_grid_positions(xp.astype(at[None, :], xp.bool), scale=1.0)
    tables = *ROPE.cos_sin(at), rope_xp.sinusoidal(patches, 8, axes=Axial(2))
    for array in (q, k, shifted, *near, shaw, distant, mixed, linear, curve, *scores, *tables):
        assert array.device == there
