"""Mistakes that tests/fuzz found to end in another library's error, or in none."""

import numpy as np
import pytest
from message_cases import X, assert_refused, rotate

from rope_xp import RoPE, analysis, attention, axes, configs, positions, scaling

W = [1.0, 0.1, 0.01, 0.001]
EIGHT = np.ones(8)
BROKEN = attention.KVCache(np.ones((2, 5, 8)), np.ones((2, 4, 8)))
CONFIG = {"model_type": "qwen3", "num_hidden_layers": 1}


def matrix(scheme, frequencies):
    return lambda: scheme(4, frequencies)


CASES = {
    "sections dim": (lambda: axes.Sections((1, 1)).axis_of_pair([4]), TypeError, "`rotary_dim` must be an int, got [4]"),
    "sections odd": (lambda: axes.InterleavedSections((1, 1)).axis_of_pair(5), ValueError, "`rotary_dim` must be even and positive, got 5"),
    "sections blocks": (lambda: axes.Sections((1, 1)).blocks("x"), TypeError, "`rotary_dim` must be an int, got 'x'"),
    "pairs dim": (lambda: axes.AxisPerPair((0, 1)).axis_of_pair(None), TypeError, "`rotary_dim` must be an int, got None"),
    "axial dim": (lambda: axes.Axial(2).axis_of_pair(1e3), TypeError, "`rotary_dim` must be an int, got 1000.0"),
    "axial blocks": (lambda: axes.Axial(2).blocks(len), TypeError, "`rotary_dim` must be an int, got <built-in"),
    "axial call": (lambda: axes.Axial(2)(None, lambda width: W), TypeError, "`rotary_dim` must be an int, got None"),
    "directions dim": (lambda: axes.Directions(((1.0, 1.0),))([4], None), TypeError, "`rotary_dim` must be an int, got [4]"),
    "directions blocks": (lambda: axes.Directions(((1.0, 1.0),)).blocks(3), ValueError, "`rotary_dim` must be even and positive, got 3"),
    "no function": (matrix(axes.Axial(2), None), TypeError, "`frequencies` must take the parameters (width, base=None, axis=None), got None: "),
    "no frequencies": (matrix(axes.Sections((1, 1)), lambda *_, **__: None), TypeError, "`frequencies` must be a list of numbers, got None"),
    "few frequencies": (matrix(axes.Sections((1, 1)), lambda *_, **__: W), ValueError, "`frequencies` must have n_pairs=2 numbers"),
    "proportional dim": (lambda: scaling.Proportional()(None, 1e4), TypeError, "`rotary_dim` must be an int, got None"),
    "negated dim": (lambda: scaling.Negated()([8], 1e4), TypeError, "`rotary_dim` must be an int, got [8]"),
    "no k": (lambda: attention.attention(X, None, X), TypeError, "`k` must be an array of a library"),
    "no q": (lambda: RoPE(8, layout="half")(None, X), TypeError, "`q` must be an array of a library"),
    "no x": (lambda: rotate(None), TypeError, "`x` must be an array of a library"),
    "no key": (lambda: RoPE(8, layout="half").shift(None, 1), TypeError, "`k` must be an array of a library"),
    "no query": (lambda: analysis.abel_bound(None, EIGHT, 1, W, "half"), TypeError, "`q` must be an array of a library"),
    "cache slots": (lambda: BROKEN.append(X[0], X[0]), ValueError, "`v` must have shape (..., capacity=5, head_dim), got (2, 4, 8)"),
    "cache drop": (lambda: BROKEN.drop(1, RoPE(8, layout="half")), ValueError, "`v` must have shape (..., capacity=5, head_dim)"),
    "cache list": (lambda: attention.KVCache([1], X).append(X, X), TypeError, "`k` must be an array of a library"),
    "cache dtype": (lambda: attention.KVCache.empty((4, 2), dtype="x" * 9999), TypeError, "`dtype` must be a dtype of numpy, got 'xxx"),
    "cache memory": (lambda: attention.KVCache.empty((2**60, 4)), ValueError, "`shape` must be at most 2**48, which no memory holds, got"),
    "parts": (lambda: positions.text_image_positions(3), TypeError, "`parts` must be an iterable, got 3"),
    "parts of types": (lambda: positions.text_image_types(3), TypeError, "`parts` must be an iterable, got 3"),
    "types": (lambda: positions.text_image_parts(None), TypeError, "`token_types` must be an iterable, got None"),
    "images": (lambda: positions.text_image_parts([1], images=True), TypeError, "`images` must be an iterable, got True"),
    "patches": (lambda: positions.time_axis(2**31, 1.5), ValueError, "`n` must be at most 2**24, got 2147483648"),
    "long path": (lambda: RoPE.from_config("x" * 10**5), ValueError, "`config` must be a readable config.json, got"),
    "plot path": (lambda: configs.plot(CONFIG, np.float32(2)), TypeError, "`path` must be a str or a Path, got np.float32(2.0)"),
    "one frequency": (lambda: analysis.turns(np.asarray(7), 1), TypeError, "`inv_freq` must be a list of numbers, got array(7)"),
    "ragged": (lambda: analysis.advantage(1, [[1.0], [1.0, 2.0]]), ValueError, "`inv_freq` must have rows of one length, got"),
    "a type": (lambda: analysis.advantage(1, np.float64), ValueError, "`inv_freq` must have shape (n_pairs,), got ()"),
    "far distance": (lambda: analysis.advantage(-(2**80), W), ValueError, "`distance` must be within ±2**63, got 1.2"),
    "bool distance": (lambda: analysis.advantage(np.asarray([True]), W), TypeError, "`distance` must be integer or real floating, got bool"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert_refused(*CASES[name])


def test_a_signature_that_does_not_fit_is_quoted_in_a_line():
    """The error of `inspect` has the whole value in it."""
    with pytest.raises(TypeError, match="`frequencies` must take the parameters") as caught:
        axes.Sections((1, 1))(4, [0.5] * 10**5)
    assert len(str(caught.value)) < 300


@pytest.mark.backend("strict")
def test_arrays_of_other_libraries_are_no_lists():
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    for call, name in (
        (lambda v: scaling.FrequencyFactors(v), "factors"),
        (lambda v: axes.Sections(v), "sections"),
        (lambda v: analysis.turns(v, 1), "inv_freq"),
    ):
        with pytest.raises(TypeError, match=f"`{name}` must be a "):
            call(strict.asarray([1, 2]))
    with pytest.raises(TypeError, match="`dtype` must be a dtype of array_api_strict, got inf"):
        attention.KVCache.empty((4, 2), xp=strict, dtype=float("inf"))
    with pytest.raises(TypeError, match="`dtype` must be a dtype of array_api_strict, got dtype"):
        attention.KVCache.empty((4, 2), xp=strict, dtype=np.dtype("float32"))


@pytest.mark.backend("torch")
def test_frequencies_of_another_library_than_queries():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(TypeError, match="`inv_freq` must be an array of the same library as `q`"):
        analysis.abel_bound(EIGHT, EIGHT, 1, torch.ones(4), "half")
