"""Paths, folders and what is in files: what is read, and what is refused before it is."""

import json
import os

import pytest
from config_cases import LLAMA31

from rope_xp import RoPE, configs

TEXT = json.dumps(LLAMA31)
MAPPING = "`config` must be a JSON mapping, got list"
# What is in a file, and the words of the sentence; None: it is read.
CONTENTS = {
    "a mark of the byte order": (b"\xef\xbb\xbf" + TEXT.encode(), None),
    "numbers that JSON has not, under keys that nothing reads": (
        TEXT.replace("{", '{"time_step_limit": [0.0, Infinity], "x": NaN, ', 1),
        None,
    ),
    "a key twice, the same": (TEXT.replace("{", '{"rope_theta": 500000.0, ', 1), None),
    "a key twice": (
        TEXT.replace("{", '{"rope_theta": 10000.0, ', 1),
        "'rope_theta' has conflicting values: 10000.0 and 500000.0",
    ),
    "a key twice, inside": (
        TEXT.replace('"factor"', '"factor": 2.0, "factor"'),
        "'factor' has conflicting values: 2.0 and 8.0",
    ),
    "a number that is none": (TEXT.replace("500000.0", "NaN"), "`rope_theta` must be a positive"),
    "a number without end": (TEXT.replace("500000.0", "1e400"), "`rope_theta` must be a positive"),
    "UTF-16": (TEXT.encode("utf-16"), "`config` must be text in UTF-8"),
    "nothing": ("", "`config` must be a JSON file, got .*Expecting value"),
    "a part": ("{", "`config` must be a JSON file"),
    "a list": ("[1]", MAPPING),
    "100,000 lists in each other": (
        f'{{"a": {"[" * 10**5}{"]" * 10**5}}}',
        "`config` must be nested at most 64 deep",
    ),
    "100 mappings in each other": (
        '{"a": ' * 100 + "1" + "}" * 100,
        "`config` must be nested at most 64 deep, got a deeper one",
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_in_a_file(name, tmp_path):
    content, words = CONTENTS[name]
    path = tmp_path / "model.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if words is None:
        assert RoPE.from_config(path) == RoPE.from_config(LLAMA31)
        return
    with pytest.raises(ValueError, match=words) as caught:
        RoPE.from_config(path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


# A path, and the words of the sentence.
PATHS = {
    "empty": ("", "`config` must be a path, got ''"),
    "with a zero": ("a\0b", "`config` must be a path, got "),
    "an address": (
        "https://huggingface.co/google/gemma-2-2b/raw/main/config.json",
        "got the address 'https://.*: download the file first",
    ),
    "a model on a hub": ("google/gemma-2-2b", "No such file.*download its config.json first"),
    "nothing there": (
        "nothing/config.json",
        "got 'nothing/config.json': No such file or directory$",
    ),
    "very long": ("a" * 5000, "`config` must be a readable config.json"),
    "no characters": ("\ud800", "`config` must be a readable config.json.*no name of a file"),
    "the folder": (
        ".",
        r"must be a folder with a config.json, params.json.*model_index.json or GGUF file, got '\.'",
    ),
    "a device": ("/dev/zero", "`config` must be a regular file, got '/dev/zero'"),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, words = PATHS[name]
    with pytest.raises(ValueError, match=words) as caught:
        configs.layer_ropes(path)
    assert len(str(caught.value)) < 250


def test_folders(tmp_path):
    (tmp_path / "params.json").write_text(TEXT)
    assert RoPE.from_config(tmp_path) == RoPE.from_config(LLAMA31)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA31, "rope_theta": 1e4}))
    assert RoPE.from_config(tmp_path).base == 1e4


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match="`config` must be a regular file"):
        RoPE.from_config(tmp_path)
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="`config` must be a regular file"):
        RoPE.from_config(tmp_path / "link")


def test_large_files(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="`config` must be a file of at most 16,384 KiB, got"):
        RoPE.from_config(path)
    path.write_text(TEXT + " " * 2**23)
    assert RoPE.from_config(path) == RoPE.from_config(LLAMA31)


def test_pipelines(tmp_path):
    index = {"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}
    names = ("transformer", "transformer_2")

    def write(*parts):
        listed = {name: ["diffusers", "WanTransformer3DModel"] for name in parts}
        (tmp_path / "model_index.json").write_text(json.dumps({**index, **listed}))

    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(TEXT)
    write(names[0])
    assert RoPE.from_config(tmp_path) == RoPE.from_config(LLAMA31)
    write(*names)
    with pytest.raises(
        ValueError, match=r"one transformer, got .* has transformer, transformer_2$"
    ):
        RoPE.from_config(tmp_path)
    write()
    with pytest.raises(ValueError, match="which has no transformer with a config"):
        RoPE.from_config(tmp_path)


def test_yaml(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = tmp_path / "model_config.yaml"
    path.write_text(yaml.safe_dump(LLAMA31))
    assert RoPE.from_config(path) == RoPE.from_config(LLAMA31)
    broken = {
        "rope_theta: 1.0\nrope_theta: 2.0": "'rope_theta' has conflicting values: 1.0 and 2.0",
        "a: [": "`config` must be a YAML file",
        "? [a]\n: b": "`config` must be a YAML file",
        "[" * 10**5: "`config` must be nested at most 64 deep",
        "a: &a [*a]": "`config` must be a YAML file, got .*recursive",
        " " * 2**21: "`config` must be a file of at most 256 KiB",
        "!!python/object:os.system {}": "`config` must be a YAML file",
        "!!int ''": "`config` must be a YAML file",
        "!!timestamp x": "`config` must be a YAML file",
    }
    for text, words in broken.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            RoPE.from_config(path)


def _endless():
    within = {"model_type": "x"}
    within["text_config"] = within
    listed = []
    listed.append(listed)
    shared = {}
    for _ in range(40):
        shared = {"a": shared, "b": shared}
    many = []
    for _ in range(10):
        many = [many] * 4000
    return {
        "a mapping in itself": (within, "nested at most 64 deep"),
        "a list in itself": ({**LLAMA31, "a": listed}, "nested at most 64 deep"),
        "a mapping often": (shared, "must have fewer than 65,536 mappings and lists in it"),
        "a list often": ({"a": many}, "must have fewer than 65,536 mappings and lists in it"),
        "no string": ({7: 8}, "the keys of `config` must be strings, got 7"),
    }


@pytest.mark.parametrize("name", _endless())
def test_mappings_without_end(name):
    config, words = _endless()[name]
    with pytest.raises(ValueError, match=words):
        configs.layer_ropes(config)
