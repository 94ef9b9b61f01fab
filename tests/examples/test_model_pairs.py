"""examples/model_pairs.py, without its model: what it measures on small arrays, and the recording of the book."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from rope_xp import RoPE

for package in ("gguf", "jinja2", "tokenizers", "tqdm"):
    pytest.importorskip(package, reason='examples/model_pairs.py needs it: pip install ".[llm]"')

EXAMPLE = Path(__file__).parents[2] / "examples" / "model_pairs.py"
ROPE = RoPE(64, layout="half", base=1e5)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("model_pairs_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def q_and_k():
    return np.random.default_rng(0).standard_normal((2, 1, 3, 24, 64))  # layers, heads, tokens


def test_the_terms_of_the_pairs_add_up_to_the_score(example, q_and_k):
    scores = np.einsum("...md,...nd->...mn", *map(ROPE, q_and_k)) / 8
    rows = np.arange(example.SKIPPED, 24)
    near = example.mean_terms(ROPE, *q_and_k, example.by_distance(24, 2))
    assert np.allclose(near.sum(-1), scores[..., rows, rows - 2].mean(-1), atol=1e-5)
    first, others = (
        example.mean_terms(ROPE, *q_and_k, each) for each in example.first_and_others(24)
    )
    assert np.allclose(first.sum(-1), scores[..., rows, 0].mean(-1), atol=1e-5)
    means = [scores[..., m, 1 : m + 1].mean(-1) for m in rows]
    assert np.allclose(others.sum(-1), np.mean(means, axis=0), atol=1e-5)


def test_a_pair_that_is_removed_adds_nothing_and_one_that_is_not_turned_its_dot_product(example):
    q, k = np.random.default_rng(1).standard_normal((2, 24, 64))
    for i in (0, 5):
        features, rest = [i, i + 32], np.delete(np.arange(64), [i, i + 32])
        turned = [ROPE(x)[:, rest] for x in (q, k)]
        others = turned[0] @ turned[1].T
        without = example.Without(ROPE, [i])
        a, b = (example.rotated(without, x) for x in (q, k))
        assert np.allclose(a @ b.T, others, atol=1e-5)  # tables in float32
        fixed = example.not_turned(ROPE, [i])
        assert np.allclose(fixed(q) @ fixed(k).T, others + q[:, features] @ k[:, features].T)


def test_weights_are_those_of_the_softmax(example, q_and_k):
    weights = example.attention_weights(ROPE, *q_and_k)
    scores = np.einsum("...md,...nd->...mn", *map(ROPE, q_and_k)) / 8
    powers = np.tril(np.exp(scores))
    assert np.allclose(weights, powers / powers.sum(-1, keepdims=True))


def test_what_an_earlier_equal_token_suggests(example):
    found = example.suggested(np.asarray([7, 1, 2, 3, 1, 1]))
    assert {*zip(*map(np.ndarray.tolist, np.nonzero(found)), strict=True)} == {
        (4, 1),  # equal
        (4, 2),  # after an equal one
        (5, 1),
        (5, 2),
        (5, 4),  # equal; that it is the token before does not matter
    }


def test_the_recording_of_the_book_is_complete():
    path = EXAMPLE.parents[1] / "book" / "model_pairs.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 150_000
    assert np.asarray(found["products"]["mean"]).shape == (30, 32)
    assert {np.asarray(rows).shape for rows in found["shares"].values()} == {(30, 9)}
    assert np.asarray(found["terms"]).shape == (8, len(found["distances"]), 32)
    for name in ("not turned", "removed"):
        assert np.asarray(found["loss"][name]).shape == (8, 8)
    for name in ("fastest turn", "slowest turn"):
        assert np.asarray(found["loss"][name]).shape == (8, len(found["turning"]))
    assert np.asarray(found["long loss"]).shape == (8, len(found["long turning"]))
