"""The layout that weights were trained with: planted pairs, a trained model's, and chance."""

import base64
import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from rope_xp import convert_layout
from rope_xp.layouts import guess_layout

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "goldens" / "smollm2_pairs.json").read_text(encoding="utf-8")
)
REFUSED = "must show which features are pairs"


def trained(rng, pairs, *, head_dim=32, heads=4, kv_heads=2, strength=0.3):
    """Weights as a rotation leaves them: each pair of q is a turned pair of k, and much noise."""
    k = rng.standard_normal((kv_heads, head_dim, 96))
    q = rng.standard_normal((heads, head_dim, 96))
    for h in range(heads):
        of_k = k[h * kv_heads // heads]
        for a, b in pairs:
            c, s = strength * np.asarray((np.cos(t := rng.uniform(0, 2 * np.pi)), np.sin(t)))
            q[h, a] += c * of_k[a] - s * of_k[b]
            q[h, b] += s * of_k[a] + c * of_k[b]
    return q.reshape(-1, 96).astype("float32"), k.reshape(-1, 96).astype("float32")


def half(width, start=0):
    return [(start + i, start + i + width // 2) for i in range(width // 2)]


def interleaved(width, start=0):
    return [(start + 2 * i, start + 2 * i + 1) for i in range(width // 2)]


@pytest.mark.eager
@pytest.mark.parametrize(("pairs", "layout"), [(half, "half"), (interleaved, "interleaved")])
def test_planted_pairs(lib, rng, pairs, layout):
    if lib.name == "strict" and lib.device is not None:
        pytest.skip("np.asarray takes no arrays of this device")
    q, k = (lib.array(w) for w in trained(rng, pairs(32)))
    found = guess_layout(q, k, 32)
    assert found.layout == layout
    assert found.p_value < 0.001
    assert found.score > found.next_score
    assert hash(found) == hash(guess_layout(q, k, 32))


@pytest.mark.backend("torch")
def test_parameters_in_bfloat16(rng):
    import torch

    q, k = (torch.nn.Parameter(torch.tensor(w).bfloat16()) for w in trained(rng, half(32)))
    own = type("Own", (torch.Tensor,), {})
    for each in (torch.Tensor.detach, lambda w: w.detach().as_subclass(own), torch._neg_view):
        assert guess_layout(each(q), each(k), 32).layout == "half"
    assert guess_layout(q, k, 32).layout == "half"


@pytest.mark.parametrize("width", [16, 20, 24, 30, 32])
def test_rotated_width_of_half_pairs(rng, width):
    layers = [trained(rng, half(width)) for _ in range(4)]
    found = guess_layout(*zip(*layers, strict=True), 32)
    assert (found.layout, found.rotary_dim) == ("half", width)


@pytest.mark.parametrize(("width", "found_width"), [(16, None), (24, None), (30, None), (32, 32)])
def test_rotated_width_of_interleaved_pairs_only_if_all_rotate(rng, width, found_width):
    layers = [trained(rng, interleaved(width)) for _ in range(8)]
    found = guess_layout(*zip(*layers, strict=True), 32)
    assert (found.layout, found.rotary_dim) == ("interleaved", found_width)


def test_two_sections_of_half_pairs_have_no_one_width(rng):
    layers = [trained(rng, half(16) + half(16, start=16)) for _ in range(4)]
    found = guess_layout(*zip(*layers, strict=True), 32)
    assert (found.layout, found.rotary_dim) == ("half", None)


@pytest.mark.parametrize("pairs", [half(16, start=16), interleaved(30, start=1), []])
def test_other_pairs_are_refused(rng, pairs):
    layers = [trained(rng, pairs) for _ in range(8)]
    with pytest.raises(ValueError, match=REFUSED):
        guess_layout(*zip(*layers, strict=True), 32)


def test_neighbors_in_frequency_are_no_pairs(rng):
    """Of pairs that start late, interleaved ones see neighbors, which resemble each other a little."""
    layers = []
    for _ in range(8):
        q, k = trained(rng, [])
        smooth = 0.2 * k + 0.2 * np.roll(k, 1, 0) + 0.2 * np.roll(k, -1, 0)
        layers.append((q + np.repeat(smooth.reshape(2, 32, -1), 2, 0).reshape(q.shape), k))
    with pytest.raises(ValueError, match=REFUSED) as refused:
        guess_layout(*zip(*layers, strict=True), 32)
    assert float(str(refused.value).split("standard")[0].split()[-1]) > 10  # by chance it is not


def weights_of(layer):
    """Small weights with the cosines of the model's, all in one proportion."""
    head_dim = GOLDEN["head_dim"]
    cosines = np.frombuffer(base64.b64decode(GOLDEN["cosines"][layer]), np.int8)
    cosines = cosines.reshape(-1, head_dim).astype(np.float64)
    squares = (cosines**2).sum(-1)
    q = np.hstack([cosines, np.sqrt(squares.max() - squares)[:, None]])  # rows of one length
    return q, np.eye(head_dim, head_dim + 1)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_smollm2(layout):
    """One group of heads; the file is interleaved, and half once converted."""
    layers = [
        [convert_layout(w, source="interleaved", target=layout, head_dim=64, axis=0) for w in pair]
        for pair in map(weights_of, GOLDEN["cosines"])
    ]
    width = 64 if layout == "half" else None
    for pair in layers[1:]:
        found = guess_layout(*pair, 64)
        assert (found.layout, found.rotary_dim) == (layout, width)
    with pytest.raises(ValueError, match=rf"got {layout}.* as the best guess, 3\.0 standard"):
        guess_layout(*layers[0], 64)  # the first layer says little
    q, k = zip(*layers, strict=True)
    assert guess_layout(list(q), list(k), 64).layout == layout


def test_chance_is_answered_as_seldom_as_stated(rng):
    """1000 layers without pairs: at 0.05 at most 50 answers, at 0.001 about one."""
    p_values = []
    for _ in range(1000):
        q, k = rng.standard_normal((64, 48)), rng.standard_normal((32, 48))
        try:
            p_values.append(guess_layout(q, k, 16, significance=0.05).p_value)
        except ValueError:
            p_values.append(1.0)
    assert 0 < sum(p <= 0.05 for p in p_values) <= 50
    assert sum(p <= 0.001 for p in p_values) <= 3


def test_length_of_rows_does_not_matter(rng):
    """As of the weights of norms of queries and keys; of huge and tiny rows neither."""
    q, k = (w.astype(np.float64) for w in trained(rng, half(32)))
    found = guess_layout(q, k, 32)
    scale = 10.0 ** rng.integers(-200, 200, (32, 1))
    other = guess_layout(np.tile(scale, (4, 1)) * q, np.tile(scale, (2, 1)) * k, 32)
    assert (other.layout, other.rotary_dim) == (found.layout, found.rotary_dim)
    np.testing.assert_allclose(other.score, found.score, rtol=1e-9)


def test_rows_of_zeros_tell_nothing(rng):
    q, k = trained(rng, half(32))
    k[[3, 40]] = q[[3, 17]] = 0
    assert guess_layout(q, k, 32).layout == "half"
    with pytest.raises(ValueError, match=r"0\.0 standard deviations above chance"):
        guess_layout(0 * q, 0 * k, 32)


def test_each_query_head_meets_its_own_key_head(rng):
    q, k = trained(rng, half(32), heads=6, kv_heads=3, strength=0.6)
    with pytest.raises(ValueError, match=REFUSED):
        guess_layout(np.roll(q, 64, 0), k, 32)
    q[:128] = rng.standard_normal((128, 96))  # the last two show it, too
    assert guess_layout(q, k, 32).layout == "half"


def test_p_value_counts_what_was_tried(rng):
    """13 widths of half pairs and interleaved: chance has 14 occasions."""
    answers = 0
    for _ in range(40):
        with contextlib.suppress(ValueError):  # p_value is above 1
            found = guess_layout(*rng.standard_normal((2, 32, 48)), 32, significance=0.999)
            answers += 1
            assert found.p_value >= 14 * math.erfc(found.score / math.sqrt(2)) / 2
    assert answers > 20
