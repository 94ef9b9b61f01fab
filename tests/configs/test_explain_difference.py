"""`explain_difference`, and `explain` with encodings instead of a config."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from config_cases import DEEPSEEK_V3, GEMMA3, GPT_OSS, LLAMA, LLAMA31, PHI3, llama, multi

from rope_xp import RoPE, configs, scaling
from rope_xp.__main__ import main
from rope_xp.configs import explain, explain_difference, layer_ropes

ROPE = RoPE(128, layout="half", base=5e5)


def gguf(**keys):
    """Metadata of Llama 3.1 as its converter writes them; the factors are the tensor's float32."""
    rope = layer_ropes(LLAMA31)[0]
    own = replace(rope, scaling=None).frequencies().inv_freq
    factors = (own / rope.frequencies().inv_freq).astype(np.float32)
    prefixed = {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.rope.dimension_count": 128,
        "llama.rope.freq_base": 500000.0,
        "rope_freqs.weight": factors,
    }
    return prefixed | keys


def test_a_gguf_file_and_its_original_are_the_same():
    text = explain_difference(LLAMA31, gguf())
    assert text.startswith("no difference\n\na: llama: 32 layers\nb: gguf llama: 32 layers\n")
    assert "half in a; interleaved in b, as expected: the GGUF file has the rows of q and k" in text
    assert "Llama3(factor=8.0" in text
    assert "FrequencyFactors(factors=(1, …, 8)) in b" in text
    assert "frequencies       the same within 5e-08" in text
    assert explain_difference(gguf(), LLAMA31).startswith("no difference")
    # The other way round no converter does it.
    adjacent = [replace(rope, layout="interleaved") for rope in layer_ropes(LLAMA31)]
    halves = {**gguf(), "general.architecture": "qwen2", "rope_freqs.weight": None}
    halves = {key.replace("llama.", "qwen2."): value for key, value in halves.items()}
    assert "as expected" not in explain_difference(adjacent, halves)


def test_the_checkpoints_of_meta_are_in_another_order():
    params = {"dim": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 128256}
    params |= {"rope_theta": 5e5, "use_scaled_rope": True, "norm_eps": 1e-5}
    text = explain_difference(LLAMA31, params)
    assert text.startswith("no difference")
    assert "as expected: the checkpoint of params.json has the rows of q and k in another" in text


def test_the_other_pairing_is_a_difference_of_two_files_of_one_kind():
    text = explain_difference([ROPE], [replace(ROPE, layout="interleaved")])
    assert not text.startswith("no difference")
    assert "pairing           half in a; interleaved in b" in text
    assert "as expected" not in text


def test_what_lacks_its_factors_differs():
    text = explain_difference(LLAMA31, gguf(**{"rope_freqs.weight": np.ones(64, np.float32)}))
    # One divided by 8 is off by 7/8; pair 36 is the fastest that is blended.
    assert "the largest relative difference is 0.875" in text
    assert "angles are off by more than 0.1 from position" in text


def test_the_position_from_which_angles_are_off():
    """1 and 1.01 radians per step: 0.1 apart at position 10, more from 11 on; 1/64 exactly."""
    a = RoPE(2, layout="half", scaling=scaling.Custom((1.0,)))
    text = explain_difference(a, replace(a, scaling=scaling.Custom((1.0 + 1 / 64,))))
    assert "largest relative difference is 0.0154, of pair 0" in text  # 1/65
    assert "from position 7 on" in text  # 7/64 > 0.1 > 6/64


def test_each_row():
    text = explain_difference(GPT_OSS, GPT_OSS | {"head_dim": 128})
    assert (
        "rotated part      the whole head, 64 features in a; the whole head, 128 features in b"
        in text
    )
    assert "frequencies" not in text
    assert "pairing" not in text
    wider = GPT_OSS | {"head_dim": 128, "rope_theta": 10000}
    assert "base              150,000 in a; 10,000 in b" in explain_difference(GPT_OSS, wider)
    text = explain_difference(GEMMA3, GEMMA3 | {"rope_local_base_freq": 2e4})
    assert "layers 0-4, 6-10 (10)\n  base              10,000 in a; 20,000 in b" in text
    text = explain_difference(DEEPSEEK_V3, DEEPSEEK_V3 | {"model_type": "deepseek_v2"})
    assert text.startswith("no difference")
    changed = {**DEEPSEEK_V3["rope_scaling"], "mscale_all_dim": 0.5}
    text = explain_difference(DEEPSEEK_V3, DEEPSEEK_V3 | {"rope_scaling": changed})
    # g(m) = 0.1 m ln 40 + 1: g(1)² and g(1/2)²; g(1) / g(1) and g(1) / g(1/2).
    assert "softmax factor    1.87385 in a; 1.40291 in b" in text
    assert "attention factor  1 in a; 1.15572 in b" in text
    assert "the largest" not in text
    text = explain_difference(multi([16, 24, 24]), multi([24, 20, 20]))
    assert "axes              Sections(sections=(16, 24, 24)) in a" in text
    assert not text.startswith("no difference")
    text = explain_difference(multi([16, 24, 24]), llama("qwen2", rope_theta=1e6))
    assert "Sections(sections=(16, 24, 24)) in a; one axis in b" in text
    assert not text.startswith("no difference")


def test_layers_that_rotate_in_one_of_the_two():
    a = llama("smollm3", num_hidden_layers=8)
    text = explain_difference(a, a | {"no_rope_layers": [1] * 8})
    assert "layers 3, 7 (2)\n  rotation          in b only" in text
    text = explain_difference(a, a | {"no_rope_layers": [1, 1, 0, 0, 1, 1, 1, 0]})
    assert "layers 2 (1)\n  rotation          in a only" in text
    text = explain_difference(GEMMA3, GEMMA3 | {"num_hidden_layers": 6})
    assert "layers: 12 in a; 6 in b" in text
    assert not text.startswith("no difference")
    assert explain_difference(ROPE, [ROPE] * 4).startswith("no difference")
    with pytest.raises(ValueError, match="`num_hidden_layers` is required in a, whose layers"):
        explain_difference({"model_type": "gemma3_text"}, GEMMA3)


def test_lengths_beyond_the_original_context_are_compared():
    shorter = PHI3 | {"original_max_position_embeddings": 8192}
    text = explain_difference(PHI3, shorter)
    assert "of pair 47; angles are off by more than 0.1 from position 1 on, at 4,097 tokens" in text
    within = explain_difference(PHI3, shorter, 4096)
    assert "frequencies       the same, at 4,096 tokens\n" in within
    assert "attention factor  1.19024 in a; 1.14354 in b, at 4,096 tokens" in within


def test_schedules_that_say_the_same_are_the_same():
    a = replace(ROPE, scaling=scaling.NTKByParts(4.0, 4096))
    b = replace(ROPE, scaling=scaling.YaRN(4.0, 4096, attention_factor=1.0))
    text = explain_difference(a, b)
    assert text.startswith("no difference")
    assert "frequencies       the same" in text


def test_a_known_pairing_is_not_replaced():
    """With the layout given for the unknown one, the known one must still differ."""
    unknown = LLAMA | {"model_type": "of mine"}
    text = explain_difference(LLAMA, unknown, layout="interleaved")
    assert "half in a; interleaved in b" in text
    with pytest.raises(ValueError, match=r"unknown model_type 'of mine'.*\(in b\)"):
        explain_difference(LLAMA, unknown)


def test_encodings_are_explained():
    text = explain(ROPE)
    assert text.startswith("all layers\n  pairing           half: feature i turns with i + 64")
    text = explain([ROPE, None, ROPE])
    assert text.startswith("3 layers\n\nlayers 0, 2 (2)")
    assert text.endswith("layers 1 (1)\n  rotation          none")
    ours, theirs = (explain(each).split("\n\n") for each in (layer_ropes(GEMMA3), GEMMA3))
    assert [part.split("\n")[1:4] for part in ours] == [part.split("\n")[1:4] for part in theirs]
    with pytest.raises(ValueError, match="`layout` must be None"):
        explain(ROPE, layout="half")
    with pytest.raises(TypeError, match="`config_or_ropes` must be a RoPE or None"):
        explain([ROPE, "llama"])
    with pytest.raises(ValueError, match="at least one layer"):
        explain([])


def test_why_layers_do_not_rotate():
    for config, words in (
        (llama("smollm3", num_hidden_layers=4), "none: 0 in no_rope_layers"),
        (llama("falcon", num_hidden_layers=2, alibi=True), "none: `alibi` is not False"),
        (llama("cohere2", num_hidden_layers=4), "none: only layers of type sliding_attention"),
        (
            {"model_type": "qwen3_next", "num_hidden_layers": 4},
            "in layers of type linear_attention",
        ),
        ({"model_type": "beam", "num_hidden_layers": 6}, "none: no rope parameters for full_"),
    ):
        assert words in explain(config)


def test_what_a_model_porter_reads():
    text = explain(DEEPSEEK_V3)
    assert "64 features (qk_rope_head_dim) after 128 (qk_nope_head_dim) that do not turn" in text
    assert "the whole head" not in text
    unsaid = {key: value for key, value in DEEPSEEK_V3.items() if key != "qk_nope_head_dim"}
    assert "64 features (qk_rope_head_dim) of each head; the others do not turn" in explain(unsaid)
    assert "longcat_flash: 28 layers of 2 attentions each, 56 in all" in explain(
        {"model_type": "longcat_flash", "num_layers": 28}
    )
    assert "pairs: 1 unchanged, 47 slowed by 2 to 48" in explain(PHI3, 100_000)
    text = explain(LLAMA, 512)
    assert "turns, context" in text
    assert "turns, given" in text
    assert "turns, extended" not in text


@pytest.fixture
def files(tmp_path):
    made = {"a": LLAMA31, "b": LLAMA31 | {"rope_theta": 1e6}, "list": [LLAMA31], "no": {}}
    for name, config in made.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    return {name: str(tmp_path / f"{name}.json") for name in made}


def status(arguments, capsys):
    """The exit status in this process, and the two streams."""
    try:
        main(["explain", *arguments])
        code = 0
    except SystemExit as error:
        code = error.code
    done = capsys.readouterr()
    return code or 0, done.out, done.err


def test_the_command_compares(files, capsys):
    code, out, err = status(["--diff", files["a"], files["a"]], capsys)
    assert (code, err) == (0, "")
    assert out.startswith("no difference")
    assert f"a: llama: 32 layers ({files['a']})" in out
    code, out, err = status(["--diff", files["a"], files["b"]], capsys)
    assert (code, err) == (1, "")
    assert "base              500,000 in a; 1,000,000 in b" in out
    code, out, err = status(["--diff", files["a"], files["no"]], capsys)
    assert (code, out) == (2, "")
    assert err.endswith("(in b)\n")


def test_a_wrong_argument_is_a_sentence(files, tmp_path, capsys):
    binary, deep, wide = tmp_path / "binary", tmp_path / "deep.json", tmp_path / "wide.json"
    binary.write_bytes(bytes(range(256)))
    deep.write_text("[" * 100_000 + "]" * 100_000)
    wide.write_text('{"model_type": "llama", "head_dim": 2147483646}')
    paths = ["", "google/gemma-2-2b", "https://example.com/config.json", "\0", "a" * 5000]
    paths += [str(tmp_path), str(binary), str(deep), str(wide), files["list"], files["no"]]
    for path in paths:
        for arguments in ([path], ["--diff", files["a"], path]):
            code, out, err = status(arguments, capsys)
            assert (code, out) == (2, ""), path
            assert err.startswith("python -m rope_xp explain: "), path
            assert len(err.splitlines()) == 1, path
    for arguments in (
        [],
        [files["a"], "--diff", files["a"], files["b"]],
        ["--diff", files["a"]],
        ["--diff", files["a"], files["b"], "--plot", "x.svg"],
        [files["a"], "--seq-len", "0"],
    ):
        assert status(arguments, capsys)[0] == 2


def test_memory_and_depth_are_no_traceback(files, capsys, monkeypatch):
    for error in (MemoryError(), RecursionError("too deep"), OverflowError("1e400")):

        def fail(*args, error=error, **options):
            raise error

        monkeypatch.setattr(configs, "explain", fail)
        code, _, err = status([files["a"]], capsys)
        assert code == 2
        assert len(err.splitlines()) == 1


def test_a_terminal_without_the_characters(files, monkeypatch):
    """LongRoPE's lists are cut with an ellipsis, which ASCII does not have."""
    path = files["a"]
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(PHI3, file)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    main(["explain", path])
    stream.flush()
    assert b"short_factor=(1, \\u2026, 5.7)" in stream.buffer.getvalue()


LLAMA4 = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}


def test_what_else_scales_scores():
    text = explain(LLAMA4)
    assert "query scale       by position, FloorLogScale(length=8192, beta=0.1, offset=1)" in text
    ropes = layer_ropes(LLAMA4)
    assert "query scale       by position, FloorLogScale" in explain(ropes)
    assert "query scale" not in explain(tuple(ropes))
    assert explain_difference(LLAMA4, ropes).startswith("no difference")
    text = explain_difference(LLAMA4, LLAMA4 | {"attn_temperature_tuning": False})
    assert "layers 3 (1)\n  query scale       FloorLogScale(" in text
    assert text.endswith("in a; none in b")
    without = configs.LayerRopes([None], softmax_factors=[2.0])
    assert "softmax factor    2" in explain(without)
    text = explain_difference(without, [None])
    assert text.endswith("softmax factor    2 in a; 1 in b")


def test_query_scales_from_float32_are_the_same():
    scales = [scaling.FloorLogScale(8192, beta) for beta in (0.1, float(np.float32(0.1)), 0.1001)]
    one, rounded, other = (replace(ROPE, query_scale=scale) for scale in scales)
    assert explain_difference(one, rounded).startswith("no difference")
    assert not explain_difference(one, other).startswith("no difference")
    longer = replace(ROPE, query_scale=scaling.FloorLogScale(4096, 0.1))
    assert not explain_difference(one, longer).startswith("no difference")
    log = replace(ROPE, query_scale=scaling.LogScale(8192, 0.1))
    assert not explain_difference(one, log).startswith("no difference")


def test_roundings_are_compared():
    text = explain_difference(ROPE, replace(ROPE, precision="float32"))
    assert "precision         exact in a; float32 in b" in text


def test_a_part_of_a_composite(files, tmp_path, capsys):
    composite = {
        "model_type": "qwen2_vl",
        "text_config": {"model_type": "qwen2_vl_text", "num_hidden_layers": 2},
        "vision_config": {"model_type": "qwen2_vl_vision", "depth": 3},
    }
    path = tmp_path / "composite.json"
    path.write_text(json.dumps(composite), encoding="utf-8")
    code, out, _ = status([str(path), "--part", "vision"], capsys)
    assert (code, out.splitlines()[0]) == (0, "qwen2_vl_vision: 3 layers")
    code, out, _ = status([str(path)], capsys)
    assert (code, out.splitlines()[0]) == (0, "qwen2_vl_text: 2 layers")
    vision = composite["vision_config"]
    assert explain_difference(composite, vision, part="vision").startswith("no difference")
    assert status(["--diff", str(path), files["a"], "--part", "vision"], capsys)[0] == 2
