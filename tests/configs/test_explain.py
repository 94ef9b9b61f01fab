"""`explain`, `plot` and the command line."""

import copy
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
from config_cases import GEMMA3, GEMMA4, LLAMA31, PHI3, llama, multi, scaled

from rope_xp import RoPE, configs, scaling
from rope_xp.axes import Axial, Directions
from rope_xp.configs import _explain
from rope_xp.configs._summary import Summary


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


@dataclass(frozen=True)
class Diagonals:
    """A user's scheme: rows drive the first pairs and columns the last, or both drive every pair."""

    n_axes: int
    drives_all: bool = False

    def blocks(self, rotary_dim):
        return (rotary_dim,)

    def __call__(self, rotary_dim, frequencies):
        inv_freq = frequencies(rotary_dim)
        axis = [i * self.n_axes // len(inv_freq) for i in range(len(inv_freq))]
        return tuple(
            tuple(w * (self.drives_all or a == row) for a, w in zip(axis, inv_freq, strict=True))
            for row in range(self.n_axes)
        )


def explained(axes, head_dim=8):
    rope = RoPE(head_dim, layout="half", base=1e4, axes=axes)
    return "\n".join(
        f"{name}: {text}"
        for name, text in _explain._rows(rope, Summary("", [], (), max_positions=100), None).items()
    )


def test_a_scheme_that_does_not_say_whose_the_pairs_are_is_explained_by_its_matrix():
    """Frequencies 1, 0.1, 0.01, 0.001, so 2π, 20π, … positions per turn."""
    text = explained(Diagonals(2))
    assert "axes: 2, by Diagonals(n_axes=2)" in text
    assert "axis 0, row: pairs 0-1 (2), 6.28 to 62.8 steps per turn" in text
    assert "axis 1, column: pairs 2-3 (2), 628 to 6.28e+03 steps per turn" in text
    assert "whole turns: 2 of 4 pairs within 100 tokens" in text


def test_a_scheme_with_several_axes_for_a_pair_is_explained():
    """Along the diagonal a pair turns √2 times as fast as along an axis."""
    text = explained(Diagonals(2, drives_all=True))
    assert "axes: 2, of which several drive a pair, by Diagonals(n_axes=2, drives_all=True)" in text
    assert "axis 0, row: pairs 0-3 (4), 6.28 to 6.28e+03 steps per turn" in text
    assert "axis 1, column: pairs 0-3 (4), 6.28 to 6.28e+03 steps per turn" in text
    assert "wavelengths: 4.44 to 4.44e+03 steps per turn" in text


def test_a_dense_scheme_of_the_library_is_explained():
    text = explained(Directions([[1.0, 0.5], [0.0, 2.0]]), head_dim=4)
    assert "axes: 2, of which several drive a pair, by Directions(" in text
    assert "axis 0, row: pairs 0-1 (2), 6.28 to 12.6 steps per turn" in text
    assert "axis 1, column: pairs 1 (1), 3.14 to 3.14 steps per turn" in text


def test_four_axes_have_numbers_instead_of_names():
    text = explained(Axial(4), head_dim=16)
    assert "axis 3: pairs 6-7 (2)" in text
    assert "column" not in text


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
    rope = RoPE(8, layout="half", axes=Axial(2), scaling=(scaling.Linear(2.0), None))
    configs.plot(rope, tmp_path / "by_axis.svg")
    assert "<!-- RoPE: Linear, default -->" in (tmp_path / "by_axis.svg").read_text()
    with pytest.raises(ValueError, match="layers that rotate"):
        configs.plot(llama("falcon", num_hidden_layers=2, alibi=True), tmp_path / "none.png")
