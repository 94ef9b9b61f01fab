"""examples/vision.py and examples/text_image.py.

The library that runs is the one that the environment variable ROPE_XP_BACKEND names: numpy (default),
torch or jax, for what computes on it; the rest, and text_image.py, is NumPy's.
"""

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rope_xp.positions import grid_positions, normalized_axis

EXAMPLES = Path(__file__).parents[2] / "examples"
BACKEND = os.environ.get("ROPE_XP_BACKEND", "numpy")
PHOTOGRAPH = 'examples/vision.py needs scikit-learn and Pillow: pip install ".[vision]"'


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


vision, text_image = load_example("vision"), load_example("text_image")
ON_EACH = pytest.mark.backend(*vision.BACKENDS)


def run(name, *arguments):
    """What the example prints, as a program of its own that no warning leaves."""
    command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def fails(monkeypatch, capsys, example, *arguments):
    """The sentence with which it ends."""
    monkeypatch.setattr(sys, "argv", ["example.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    return (
        capsys.readouterr().err.splitlines()[-1] if stopped.value.code == 2 else stopped.value.code
    )


@pytest.fixture(scope="module")
def xp():
    return importlib.import_module(vision.BACKENDS[BACKEND])


@pytest.fixture
def photograph():
    pytest.importorskip("sklearn", reason=PHOTOGRAPH)
    pytest.importorskip("PIL", reason=PHOTOGRAPH)


@pytest.fixture(scope="module")
def rope():
    return vision.RoPE.from_config(vision.CONFIG)


# ---- vision.py ----


def test_patches_are_cut_row_by_row(rng):
    picture = rng.integers(0, 256, (3 * 16, 2 * 16, 3))
    patches, shape = vision.cut(picture)
    assert shape == (3, 2)
    assert patches.shape == (6, 16 * 16 * 3)
    for i, (row, column) in enumerate(np.ndindex(shape)):
        corner = picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16, :]
        np.testing.assert_array_equal(patches[i], corner.ravel())


def test_projected_products_are_nearly_those_of_pixels(rng):
    patches = rng.integers(0, 256, (20, 768)).astype(float)
    patches[1] = patches[0]
    q = vision.project(patches, 64).astype(np.float64)
    assert q.shape == (6, 20, 64)
    x = patches - patches.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    likeness = np.einsum("hqd,hkd->qk", q, q) / (6 * 64)
    # each of 384 products has variance 1 + cos² at most 2, so 5 standard deviations
    assert np.max(np.abs(likeness - x @ x.T)) < 5 * math.sqrt(2 / 384)


@ON_EACH
def test_weights_are_a_softmax(xp, rng):
    q, k = rng.standard_normal((2, 6, 5, 64)).astype(np.float32)
    found = np.asarray(vision.weights_of(xp.asarray(q[:, :1, :]), xp.asarray(k)))
    scores = np.exp(q[:, :1, :].astype(float) @ np.swapaxes(k, 1, 2).astype(float) / 8)
    expected = np.mean(scores / np.sum(scores, axis=-1, keepdims=True), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@ON_EACH
@pytest.mark.parametrize(("start", "end"), [((0, 0), (2, 1)), ((4, 2), (6, 3)), ((5, 6), (1, 0))])
def test_scores_are_those_of_the_paper(xp, rope, rng, start, end):
    q, k = rng.standard_normal((2, 64)).astype(np.float32)
    rows, columns = 7, 8
    positions = grid_positions(normalized_axis(rows), normalized_axis(columns), xp=xp)
    at = [i * columns + j for i, j in (start, end)]
    found = vision.score(rope, xp.asarray(q), xp.asarray(k), positions, at)

    steps = [2 * (m - n) / size for m, n, size in zip(start, end, (rows, columns), strict=True)]
    expected = 0.0
    for i in range(32):  # 16 pairs for each axis, of periods 100 ** (j / 16) in coordinates
        angle = 2 * math.pi * steps[i // 16] * 100 ** (-(i % 16) / 16)
        a, b = complex(q[i], q[i + 32]), complex(k[i], k[i + 32])
        expected += (a * b.conjugate() * complex(math.cos(angle), math.sin(angle))).real
    assert found == pytest.approx(expected / 8, abs=1e-5)


@ON_EACH
def test_vision_prints_what_rotation_changes(xp, photograph):
    out = run("vision", "--backend", BACKEND)
    assert f"26 × 40 patches, on {BACKEND}" in out
    assert "pairs  0 to 15 turn down the rows      2.00 … 0.03 turns" in out
    near = re.search(r"at most 4 patches away +(\S+)% +(\S+)%", out)
    far = re.search(r"mean distance, in patches +(\S+) +(\S+)", out)
    assert 5 * float(near[1]) < float(near[2])
    assert float(far[1]) > 1.9 * float(far[2])
    table = re.findall(r"^ +\(.*\) +\(.*\) +(\d+) +(\d+) +(\S+)$", out, re.MULTILINE)
    assert len(table) == 9
    by_step = {}
    for *step, found in table:
        by_step.setdefault(tuple(step), []).append(float(found))
    assert len(by_step) == 3
    means = [np.mean(scores) for scores in by_step.values()]
    assert min(np.diff(sorted(means))) > 0.1  # other steps, other scores
    for scores in by_step.values():
        assert max(scores) - min(scores) < 5e-5  # coordinates are rounded to float32


def test_vision_draws(photograph, monkeypatch, capsys, tmp_path):
    figures = pytest.importorskip("matplotlib.figure", reason=PHOTOGRAPH)
    drawn = []
    save = figures.Figure.savefig
    monkeypatch.setattr(
        figures.Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k))
    )
    path = tmp_path / "vision.png"
    monkeypatch.setattr(sys, "argv", ["vision.py", "--patch", "0", "0", "--plot", str(path)])
    vision.main()
    assert f"{path} shows it" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")
    titles = [panel.get_title() for panel in drawn[0].axes if panel.get_title()]
    assert titles[:3] == [
        "the photograph, and the patch that looks",
        "where it looks before rotation",
        "where it looks after rotation",
    ]
    turns = ["2.00", "0.84", "0.36", "0.03"]  # 2 · 100 ** (-j / 16) for j in 0, 3, 6, 15
    pairs = (0, 3, 6, 15, 16, 19, 22, 31)
    assert titles[3:] == [f"pair {i}: {t} turns" for i, t in zip(pairs, 2 * turns, strict=True)]

    ending = fails(monkeypatch, capsys, vision, "--plot", "vision.nope")
    assert ending.startswith("vision.nope cannot be written: Format 'nope' is not supported")
    nowhere = tmp_path / "nowhere" / "vision.png"
    folder = fails(monkeypatch, capsys, vision, "--plot", str(nowhere))
    assert folder.startswith(f"{nowhere} cannot be written: ")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = fails(monkeypatch, capsys, vision, "--plot", str(path))
    assert missing.startswith('--plot needs matplotlib: pip install ".[vision]" (')


def test_messages_of_vision(photograph, monkeypatch, capsys):
    for row, column in (("26", "0"), ("0", "-1")):
        found = fails(monkeypatch, capsys, vision, "--patch", row, column)
        assert found.endswith(f"--patch must be in a grid of 26 × 40, got {row} {column}")


def test_message_without_the_photograph(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    expected = r'^the photograph is in scikit-learn: pip install "\.\[vision\]" \('
    with pytest.raises(SystemExit, match=expected):
        vision.load_picture()


def test_message_of_a_backend_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setitem(vision.BACKENDS, "torch", "no_such_library")
    found = fails(monkeypatch, capsys, vision, "--backend", "torch")
    assert found.startswith("the backend torch does not run on this machine: No module named")


# ---- text_image.py ----


def test_text_image_prints_the_sequence():
    out = run("text_image")
    places = re.findall(r"\( *(\d+), *(\d+), *(\d+)\)", out.partition("The image takes")[0])
    places = [tuple(map(int, place)) for place in places]
    image = [(5, 5 + row, 5 + column) for row in range(3) for column in range(5)]
    assert places == [(p,) * 3 for p in range(5)] + image + [(p,) * 3 for p in range(10, 17)]
    assert "takes 15 tokens (3 rows, 5 columns), but only 5 positions" in out
    assert "\n" + "thw" * 20 + "tttt\n" in out
    assert "12 tokens have equal coordinates" in out
    assert "the largest difference is 0.0.\n" in out


@pytest.mark.parametrize("image", [("6", "10"), ("4", "16"), ("2", "2")])
def test_text_around_an_image_sees_positions(image):
    out = run("text_image", "--image", *image)
    number = r" +(-?[\d.]+)"
    rows = re.findall(rf"^ +(none|\d+ × \d+){number * 5}$", out, re.MULTILINE)
    sizes = [row[0] for row in rows]
    h, w = map(int, image)
    assert sizes == list(dict.fromkeys(["none", f"{h} × {w}", f"{w} × {h}", f"{2 * h} × {2 * w}"]))
    for size, tokens, positions, found, text, counted in rows:
        h, w = (0, 0) if size == "none" else map(int, size.split(" × "))
        assert (int(tokens), int(positions)) == (h * w // 4, max(h, w) // 2 + 1)
        assert found == text
        assert (found == counted) == (int(tokens) + 1 == int(positions))


def test_messages_of_text_image(monkeypatch, capsys):
    found = fails(monkeypatch, capsys, text_image, "--image", "3", "16")
    assert found.endswith(
        "--image 3 16 has no place: `merge` must divide both sides of the grid 3 x 16, got 2"
    )
    found = fails(monkeypatch, capsys, text_image, "--image", "4", "0")
    assert "--image 4 0 has no place: " in found
    assert found.endswith(" must be positive, got 0")
