"""`explain`, `plot` and the command line."""

import copy
import importlib.util
import json
import subprocess
import sys

import pytest
from config_cases import GEMMA3, GEMMA4, LLAMA31, PHI3, llama, multi, scaled

from rope_xp import configs


def test_explain_says_what_matters():
    text = configs.explain(LLAMA31)
    for words in (
        "llama: 32 layers",
        "half: feature i turns with i + 64",
        "500,000",
        "Llama3(factor=8.0",
        "29 unchanged, 6 blended, 29 interpolated by 8",
        "within 8,192 tokens",
        "within 131,072 tokens",
    ):
        assert words in text
    gemma = configs.explain(GEMMA3)
    assert "full_attention: layers 5, 11 (2)" in gemma
    assert "sliding_attention: layers 0-4, 6-10 (10)" in gemma
    assert "96 stopped" not in gemma
    assert "192 stopped" in configs.explain(GEMMA4)
    assert "rotation          none" in configs.explain(llama("cohere2", num_hidden_layers=8))
    assert "within 100,000 tokens" in configs.explain(PHI3, 100_000)
    assert "LongRoPE(short_factor=(1, …, 5.7)" in configs.explain(PHI3)
    assert configs.explain(PHI3, 100_000) != configs.explain(PHI3)


def test_a_layer_whose_pairs_all_stop_is_explained():
    config = copy.deepcopy(GEMMA4)
    config["rope_parameters"]["full_attention"]["partial_rotary_factor"] = 0.001
    text = configs.explain(config)
    assert "without end to without end tokens per turn" in text
    assert "256 stopped" in text


def test_wavelengths_and_turns_by_hand():
    config = {"model_type": "qwen3", "head_dim": 4, "rope_theta": 100.0}
    text = configs.explain({**config, "max_position_embeddings": 60})
    assert "6.28 to 62.8 tokens per turn" in text  # 2π and 2π · 10
    assert "1 of 2 pairs within 60 tokens" in text
    assert "2 of 2 pairs within 63 tokens" in configs.explain(config, 63)


def test_several_axes_are_explained():
    text = configs.explain({**multi([16, 24, 24]), "max_position_embeddings": 131072})
    for words in (
        "3, by Sections(sections=(16, 24, 24))",
        "axis 0, time      pairs 0-15 (16), 6.28 to 160 steps per turn",
        "axis 2, column    pairs 40-63 (24), 3.53e+04 to ",
        " of 64 pairs within 131,072 tokens",
    ):
        assert words in text
    text = configs.explain({"model_type": "llama4_vision_model"})
    assert "2, by Axial(widths=2, axis_order=(1, 0))" in text
    assert "axis 0, row       pairs 12-23 (12), 6.28 to 2.92e+04 steps per turn" in text
    assert "the class token, the last one, is at (0, 0)" in text
    text = configs.explain({"model_type": "gemma4_vision"})
    assert "feature i turns with i + 16, within the features of each axis" in text
    linear = multi([16, 24, 24], rope_type="linear", factor=2.0)
    assert "pairs: 64 interpolated by 2" in configs.explain(linear)
    nothing = configs.explain(multi([32, 0, 32]))
    assert "axis 1, row       no pairs" in nothing


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "rope_xp", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA31))
    done = command("explain", path, "--seq-len", "8192")
    assert (done.returncode, done.stdout) == (0, configs.explain(LLAMA31, 8192) + "\n")
    path.write_text(json.dumps(scaled(factor=0.5)))
    done = command("explain", tmp_path)
    assert done.returncode == 2
    assert "`factor` in rope_scaling must be at least 1, got 0.5" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    done = command("explain", tmp_path / "nothing.json")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_plot(tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(ImportError, match="needs matplotlib"):
            configs.plot(LLAMA31, tmp_path / "out.png")
        return
    configs.plot(LLAMA31, tmp_path / "out.png")
    configs.plot(GEMMA4, tmp_path / "out.svg")
    configs.plot({"model_type": "pixtral"}, tmp_path / "axes.svg")
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "out.svg").read_text()
    with pytest.raises(ValueError, match="layers that rotate"):
        configs.plot(llama("falcon", num_hidden_layers=2, alibi=True), tmp_path / "none.png")
