"""GGUF metadata: every architecture of llama.cpp, against its formulas written down here."""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp._config_reader.gguf.table import architecture_of, read_table
from rope_xp.axes import InterleavedSections, Sections
from rope_xp.configs import explain, layer_ropes
from rope_xp.scaling import NTK, FrequencyFactors, Linear, LongRoPE, YaRN

# MODEL_ARCH_NAMES of gguf-py in llama.cpp 0.5.0, from the source of llama_cpp_python 0.3.36, and in
# llama.cpp 0.6.0-dev.
TEXT = """
afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom
chameleon chatglm clef clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek
deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash dots1 dots3note dream eagle3 ernie4_5
ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1 gemma gemma-embedding
gemma-embedding2 gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4 glm4moe glm5-next
gpt-oss gpt2 gptj gptneox granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe
hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2 jamba jina-bert-v2
jina-bert-v3 k2-horizon kimi-k3 kimi-linear laguna lfm2 lfm2moe llada llada-moe llama llama-embed
llama4 maincoder mamba mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3
mistral3 mistral4 modern-bert mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe
neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2
phi3 phimoe plamo plamo2 plamo3 plm pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe
qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 rwkv6qwen2 rwkv7
seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 step35 t5 t5encoder talkie
wavtokenizer-dec xverse
"""
NAMES = TEXT.split()


def covered():
    return {*read_table().lines}


def left_out():
    return [name for names in read_table().left_out.values() for name in names]


def of(architecture, n_layers=8, **keys):
    """Metadata as llama.cpp's converter writes them; ``keys`` with ``__`` for the point."""
    values = {
        "block_count": n_layers,
        "context_length": 8192,
        "embedding_length": 1024,
        "attention.head_count": 8,
        "rope.freq_base": 1e6,
        "rope.dimension_count": 128,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    prefixed = {f"{architecture}.{key}": v for key, v in values.items() if v is not None}
    return {"general.architecture": architecture, **prefixed}


def table(
    n_rot,
    base,
    *,
    freq_scale=1.0,
    ext_factor=0.0,
    attn_factor=1.0,
    n_ctx_orig=0,
    fast=32.0,
    slow=1.0,
    ff=None,
):
    """ggml_rope_cache_init at position 1, before cos and sin: angles, and what multiplies both."""
    corr = [
        n_rot * math.log(n_ctx_orig / (n * 2 * math.pi)) / (2 * math.log(base))
        if ext_factor
        else 0.0
        for n in (fast, slow)
    ]
    low, high = max(0, math.floor(corr[0])), min(n_rot - 1, math.ceil(corr[1]))
    angles = []
    for i in range(n_rot // 2):
        extrap = base ** (-2 * i / n_rot) / (1.0 if ff is None else ff[i])
        theta = freq_scale * extrap
        if ext_factor:
            y = (i - low) / max(0.001, high - low)
            mix = (1 - min(1, max(0, y))) * ext_factor
            theta = theta * (1 - mix) + extrap * mix

        angles.append(theta)
    if ext_factor:
        attn_factor *= 1 + 0.1 * math.log(1 / freq_scale)
    return angles, attn_factor


def context_factor(factor, *, log_mul=0.0, is_deepseek2=False, attn=1.0):
    """cparams.yarn_attn_factor of src/llama-context.cpp with YaRN."""

    def mscale(m):
        return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1

    if log_mul:
        own = log_mul if is_deepseek2 and log_mul != 1 else 1.0
        found = mscale(own) / mscale(log_mul)
    else:
        found = mscale(1.0)
    return found / (1 + 0.1 * math.log(factor)) * attn


def assert_same(rope, expected, softmax=1.0):
    angles, attention = expected
    made = rope.frequencies()
    np.testing.assert_allclose(made.inv_freq, angles, rtol=1e-6)
    assert made.attention_factor == pytest.approx(attention, rel=1e-6)
    assert made.softmax_factor == pytest.approx(softmax, rel=1e-6)


def test_every_architecture_is_in_one_place():
    places = [*read_table().lines, *left_out()]
    assert sorted(places) == sorted(NAMES)
    text = (
        resources.files("rope_xp._config_reader").joinpath("gguf", "gguf.json").read_text("utf-8")
    )

    def once(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys))
        return dict(pairs)

    json.loads(text, object_pairs_hook=once)


def test_every_architecture_of_the_gguf_package_is_in_one_place():
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    names = {*gguf.MODEL_ARCH_NAMES.values()}
    assert names <= {*read_table().lines, *left_out()}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_line_is_right(name):
    if name in left_out():
        with pytest.raises(ValueError, match="must be of a model that rotates q and k"):
            layer_ropes(of(name), layout="half")
        return
    line = architecture_of(name)
    assert re.fullmatch(r"[\w-]+\.cpp:\d+", line.source)


# What llama_model_rope_type of src/llama-model.cpp returns, for some of each group.
@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (
            "llama deepseek command-r chatglm granite arcee ernie4_5 minicpm internlm2 smollm3 baichuan",
            "interleaved",
        ),
        (
            "qwen2 qwen3moe phi3 gemma gemma2 gptneox falcon stablelm olmo2 nemotron dots1 seed_oss",
            "half",
        ),
    ],
)
def test_pairing(names, layout):
    for name in names.split():
        (rope,) = {*layer_ropes(of(name, 32))} - {None}
        assert rope.layout == layout, name
        other = {"half": "interleaved", "interleaved": "half"}[layout]
        assert {r.layout for r in layer_ropes(of(name, 32), layout=other) if r} == {other}


# Which layers rotate by which base, from load_arch_hparams and the graph of each src/models/*.cpp: o for
# none, . for rope.freq_base, s for the base of layers with a window.
SIZED = {"attention__sliding_window": 512}
PATTERN = {"attention__sliding_window_pattern": [True, False, True, True, False, True, False, True]}
LAYERS = {
    "afmoe": ({}, "...o...o"),
    "cohere2": (SIZED, "...o...o"),
    "cohere2moe": ({"leading_dense_block_count": 2, **SIZED}, "....o..."),
    "exaone-moe": (SIZED, "...o...o"),
    "exaone4": (SIZED, "........"),
    "gemma2": (SIZED, "........"),
    "gemma3": (SIZED, "sssss.ss"),
    "gemma3n": (SIZED, "ssss.sss"),
    "gemma-embedding": (SIZED, "sssss.ss"),
    "granite_swa": (
        {**SIZED, **PATTERN, "attention__rope_pattern": [1, 0, 1, 1, 1, 1, 1, 0]},
        ".o.....o",
    ),
    "granite": ({"rope__scaling__finetuned": False}, "oooooooo"),
    "granitehybrid": ({"attention__head_count_kv": [0, 0, 8, 0, 0, 8, 0, 0]}, "oo.oo.oo"),
    "granitemoe": ({"rope__scaling__finetuned": False}, "........"),
    "lfm2": ({"attention__head_count_kv": [0, 0, 8, 0, 0, 8, 0, 0]}, "oo.oo.oo"),
    "llama4": (SIZED, "...o...o"),
    "maple": ({**SIZED, **PATTERN}, ".o..o.o."),
    "mimo2": ({**SIZED, **PATTERN}, "s.ss.s.s"),
    "minimax-01": ({}, "ooooooo."),
    "modern-bert": (SIZED, ".ss.ss.s"),
    "muse-glimmer": (SIZED, "...o...o"),
    "olmo2": (SIZED, "........"),
    "gpt-oss": (SIZED, "........"),
    "plamo3": (SIZED, "sssssss."),
    "gemma-embedding2": (SIZED, "sssss.ss"),
    "eurobert": ({"decision__block_count": 2}, "........"),
    "qwen3next": ({}, "ooo.ooo."),
    "qwen3moe": ({}, "........"),
    "smallthinker": (SIZED, "o...o..."),
    "smollm3": ({}, "...o...o"),
    "step35": ({**SIZED, **PATTERN}, "s.ss.s.s"),
    "deci": (
        {
            "attention__head_count": [8, 8, 0, 8, 8, 8, 8, 8],
            "attention__head_count_kv": [8, 0, 0, 8, 8, 8, 8, 8],
            "attention__key_length": 128,
        },
        ".oo.....",
    ),
    "baichuan": ({}, "oooooooo"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layout", [None, "half"])
def test_which_layers_rotate_by_which_base(name, layout):
    keys, expected = LAYERS[name]
    ropes = layer_ropes(of(name, **keys), layout=layout)
    found = ["o" if r is None else {1e6: ".", 1e4: "s"}[r.base] for r in ropes]
    assert "".join(found) == expected


def test_decision_layers():
    ropes = layer_ropes(of("modern-bert", decision__block_count=2, **SIZED))
    assert [r is None for r in ropes] == [False] * 6 + [True] * 2


def test_layers_without_windows():
    for name in ("gemma3", "modern-bert", "plamo3", "olmo2", "smallthinker"):
        for size in (None, 0):
            ropes = layer_ropes(of(name, attention__sliding_window=size))
            assert {r.base for r in ropes} == {1e6}
    # (il + 1) % n_layer in llama4.cpp
    assert [r is None for r in layer_ropes(of("llama4", attention__sliding_window=0))] == [
        False
    ] * 7 + [True]
    assert (
        sum(r is None for r in layer_ropes({**of("exaone4", 64), "rope_freqs.weight": [1.0] * 64}))
        == 16
    )


def test_periods_and_bases_of_windows():
    keys = {"attention__sliding_window": 512, "rope__freq_base_swa": 5e4}
    assert [r.base for r in layer_ropes(of("gemma3", 7, **keys))] == [5e4] * 5 + [1e6, 5e4]
    assert [r.base for r in layer_ropes(of("gpt-oss", 4, **keys))] == [5e4, 1e6] * 2
    keys |= {"attention__sliding_window_pattern": 3}
    assert [r.base for r in layer_ropes(of("gemma3", 6, **keys))] == [5e4, 5e4, 1e6] * 2
    assert [r.base for r in layer_ropes(of("modern-bert", 6, **keys))] == [1e6, 5e4, 5e4] * 2
    for period, bases in ((0, {5e4}), (1, {1e6})):
        keys["attention__sliding_window_pattern"] = period
        assert {r.base for r in layer_ropes(of("gemma3", 6, **keys))} == bases
    with pytest.raises(
        ValueError,
        match=r"`gemma3.rope.freq_base_swa` must be absent or 1000000.0, .*sliding_window",
    ):
        layer_ropes(of("gemma3", rope__freq_base_swa=1e4))
    with pytest.raises(ValueError, match=r"`mimo2.attention.sliding_window_pattern` is required"):
        layer_ropes(of("mimo2"))
    with pytest.raises(
        ValueError,
        match=r"`mimo2.attention.sliding_window_pattern` must have an entry for each of 8",
    ):
        layer_ropes(of("mimo2", attention__sliding_window_pattern=[True]))
    with pytest.raises(ValueError, match=r"`gemma3.block_count` is required"):
        layer_ropes(of("gemma3", None))
    with pytest.raises(ValueError, match=r"`qwen2.block_count` is required for one encoding"):
        layer_ropes(of("qwen2", None))


YARN = {
    "rope__scaling__type": "yarn",
    "rope__scaling__factor": 8.0,
    "rope__scaling__original_context_length": 4096,
}


def test_windows_without_the_schedule():
    """OLMo 3, Laguna, Mellum and Gemma 3 scale layers without a window; gpt-oss scales all."""
    plain = table(128, 1e6)
    yarn = table(
        128, 1e6, freq_scale=1 / 8, ext_factor=1.0, attn_factor=context_factor(8.0), n_ctx_orig=4096
    )
    for name, expected in (
        ("olmo2", "sssY"),
        ("laguna", "Ysss"),
        ("mellum", "sssY"),
        ("gpt-oss", "YYYY"),
    ):
        ropes = layer_ropes(of(name, 4, attention__sliding_window=512, **YARN))
        for rope, kind in zip(ropes, expected, strict=True):
            assert_same(rope, yarn if kind == "Y" else plain)
    linear = {
        "rope__scaling__type": "linear",
        "rope__scaling__factor": 8.0,
        "attention__sliding_window": 512,
    }
    ropes = layer_ropes(of("gemma3", 6, **linear))
    assert [r.scaling for r in ropes] == [None] * 5 + [Linear(8.0)]
    assert [r.base for r in ropes] == [1e4] * 5 + [1e6]
    with pytest.raises(ValueError, match=r"`gemma3.rope.scaling.attn_factor` must be absent or 1"):
        layer_ropes(of("gemma3", 6, rope__scaling__attn_factor=1.2, **linear))


def test_sizes_of_windows():
    keys = {
        "attention__sliding_window": 512,
        "attention__sliding_window_pattern": [True, True, False],
        "attention__key_length": 512,
        "attention__key_length_swa": 256,
        "rope__dimension_count": 512,
        "rope__dimension_count_swa": 256,
    }
    factors = [1.0] * 64 + [
        1e30
    ] * 192  # conversion/gemma.py writes this for partial_rotary_factor 0.25
    ropes = layer_ropes({**of("gemma4", 3, **keys), "rope_freqs.weight": factors})
    assert ropes[0] == ropes[1] == RoPE(256, layout="half")
    assert ropes[2].head_dim == 512
    assert_same(ropes[2], table(512, 1e6, ff=factors))
    keys = {
        "attention__sliding_window_pattern": [True, False],
    }  # step35.cpp:9: layers without a window rotate half of rope.dimension_count
    padded = [1.0] * 16 + [8.0] * 16 + [1.0] * 32  # conversion/step3.py pads to half a head
    ropes = layer_ropes({**of("step35", 2, **keys), "rope_freqs.weight": padded})
    assert ropes[0] == RoPE(128, layout="half")
    assert (ropes[1].rotary_dim, ropes[1].scaling) == (64, FrequencyFactors(padded[:32]))
    with pytest.raises(ValueError, match=r"`qwen2.rope.dimension_count_swa` must be absent or 128"):
        layer_ropes(of("qwen2", rope__dimension_count_swa=64))


def test_latent_attention():
    """The last rope.dimension_count features of a head rotate; the scale of the softmax as DeepSeek's."""
    keys = {
        "attention__key_length": 576,
        "attention__key_length_mla": 192,
        "rope__dimension_count": 64,
        **YARN,
    }
    factor = 1 + 0.1 * math.log(8.0)
    for name, log, attention, softmax in (
        ("deepseek2", None, factor, factor),
        ("deepseek2", np.float32(0.1), 1.0, factor),
        ("deepseek2", np.float32(0.0707), 1.0, 1 + 0.0707 * math.log(8.0)),
        ("mistral4", np.float32(0.1), 1.0, factor),
        ("deepseek32", np.float32(0.0707), factor / (1 + 0.0707 * math.log(8.0)), factor),
        ("glm-dsa", np.float32(0.1), factor, factor),
    ):
        given = {} if log is None else {"rope__scaling__yarn_log_multiplier": log}
        rope = RoPE.from_config(of(name, **keys, **given))
        assert (rope.head_dim, rope.rotary_dim, rope.rotary_start, rope.layout) == (
            192,
            64,
            128,
            "interleaved",
        )
        mul = 0.0 if log is None or name == "glm-dsa" else float(log / np.float32(0.1))
        attn = context_factor(8.0, log_mul=mul, is_deepseek2=name == "deepseek2")
        expected = table(
            64, 1e6, freq_scale=1 / 8, ext_factor=1.0, attn_factor=attn, n_ctx_orig=4096
        )
        assert expected[1] == pytest.approx(attention)
        original = attn * (1 + 0.1 * math.log(8.0))
        assert (original * (1 + 0.1 * mul * math.log(8.0))) ** 2 == pytest.approx(softmax**2)
        assert_same(rope, expected, softmax=softmax**2)
    lite = of("deepseek2", attention__key_length=192, rope__dimension_count=64)
    assert RoPE.from_config(lite) == RoPE(
        192, layout="interleaved", base=1e6, rotary_dim=64, rotary_start=128
    )
    assert (
        RoPE.from_config(
            of("minicpm3", attention__key_length=96, rope__dimension_count=32)
        ).rotary_start
        == 64
    )
    for wrong in ({"rope__scaling__factor": 4.0}, {**YARN, "rope__scaling__attn_factor": 1.2}):
        with pytest.raises(ValueError, match=r"scale of the softmax llama.cpp changes"):
            RoPE.from_config(of("deepseek2", **{**keys, "rope__scaling__type": None, **wrong}))


def test_deepseek4():
    keys = {
        "attention__key_length": 512,
        "rope__dimension_count": 64,
        "attention__compress_ratios": [0, 4, 128, 0],
    }
    keys |= {"attention__compress_rope_freq_base": 160000.0, **YARN}
    ropes = layer_ropes(of("deepseek4", 4, **keys))
    assert (
        ropes[0]
        == ropes[3]
        == RoPE(512, layout="interleaved", base=1e6, rotary_dim=64, rotary_start=448)
    )
    attn = 1 / (1 + 0.1 * math.log(8.0))
    expected = table(
        64, 160000.0, freq_scale=1 / 8, ext_factor=1.0, attn_factor=attn, n_ctx_orig=4096
    )
    for rope in ropes[1:3]:
        assert_same(rope, expected)


def test_yarn():
    rope = RoPE.from_config(of("qwen2", **YARN))
    assert rope.scaling == YaRN(8.0, 4096)
    attn = context_factor(8.0)
    assert_same(
        rope, table(128, 1e6, freq_scale=1 / 8, ext_factor=1.0, attn_factor=attn, n_ctx_orig=4096)
    )
    # Without the key the original context is the context, src/llama-model.cpp:1410.
    short = RoPE.from_config(
        of("qwen2", **{**YARN, "rope__scaling__original_context_length": None})
    )
    assert short.scaling == YaRN(8.0, 8192)
    # attn_factor multiplies cos and sin besides.
    more = RoPE.from_config(of("qwen2", **YARN, rope__scaling__attn_factor=1.5))
    attn = context_factor(8.0, attn=1.5)
    assert_same(
        more, table(128, 1e6, freq_scale=1 / 8, ext_factor=1.0, attn_factor=attn, n_ctx_orig=4096)
    )
    # These are read for some architectures only.
    read = {
        "rope__scaling__yarn_beta_fast": 4.0,
        "rope__scaling__yarn_beta_slow": 2.0,
        "rope__scaling__yarn_log_multiplier": 1.0,
    }
    attn = context_factor(8.0, log_mul=1.0)
    expected = table(
        128,
        1e6,
        freq_scale=1 / 8,
        ext_factor=1.0,
        attn_factor=attn,
        n_ctx_orig=4096,
        fast=4.0,
        slow=2.0,
    )
    assert_same(RoPE.from_config(of("mistral3", **YARN, **read)), expected)
    unread = of(
        "qwen2",
        **YARN,
        **read,
        rope__scaling__yarn_attn_factor=2.0,
        rope__scaling__yarn_ext_factor=1.0,
    )
    assert RoPE.from_config(unread) == rope
    assert (
        "llama.cpp does not read yarn_beta_fast, yarn_beta_slow, yarn_attn_factor, yarn_log_multiplier"
        in explain(unread)
    )
    assert "does not read" not in explain(of("qwen2", **YARN, rope__scaling__yarn_beta_fast=32.0))
    assert (
        RoPE.from_config(of("qwen2", rope__scaling__type="yarn")).scaling is None
    )  # a factor of 1


def test_grok():
    assert RoPE.from_config(of("grok", **YARN)).scaling == YaRN(8.0, 4096, beta_fast=8.0)
    linear = RoPE.from_config(
        of("grok", **YARN, rope__scaling__yarn_ext_factor=0.0, rope__scaling__yarn_attn_factor=1.25)
    )
    assert_same(linear, table(128, 1e6, freq_scale=1 / 8, attn_factor=1.25))
    with pytest.raises(ValueError, match=r"`grok.rope.scaling.yarn_ext_factor` must be 0, 1 or"):
        RoPE.from_config(of("grok", **YARN, rope__scaling__yarn_ext_factor=0.5))


def test_linear():
    for keys in (
        {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
        {"rope__scaling__factor": 4.0},  # src/llama-model.cpp:1417: linear where there is no type
        {"rope__scale_linear": 4.0},
        {"rope__scaling__factor": 4.0, "rope__scale_linear": 2.0},
    ):
        assert RoPE.from_config(of("qwen2", **keys)).scaling == Linear(4.0)
    for keys in (
        {"rope__scaling__factor": 0.0},
        {"rope__scaling__type": "none", "rope__scaling__factor": 4.0},
    ):
        assert RoPE.from_config(of("qwen2", **keys)).scaling is None
    rope = RoPE.from_config(of("qwen2", rope__scaling__factor=4.0, rope__scaling__attn_factor=1.5))
    assert_same(rope, table(128, 1e6, freq_scale=1 / 4, attn_factor=1.5))


def test_alpha():
    rope = RoPE.from_config(
        of("hunyuan-dense", rope__scaling__alpha=1000.0, rope__scaling__type="none")
    )
    assert rope.scaling == NTK(1000.0)
    assert_same(rope, table(128, 1e6 * 1000.0 ** (128 / 126)))
    assert RoPE.from_config(of("qwen2", rope__scaling__alpha=1000.0)).scaling is None


POSITIONS = [0, 1, 4094, 4095, 4096, 8190, 8191, 8192, 100000]


def test_query_scales():
    """llm_graph_input_attn_temp::set_input of src/llama-graph.cpp."""

    def expected(beta, length, offset):
        return [math.log(math.floor((p + offset) / length) + 1) * beta + 1 for p in POSITIONS]

    without = layer_ropes(of("llama4", 4))
    assert without.query_scales[:3] == (None,) * 3
    found = without.query_scales[3](np.asarray(POSITIONS))
    np.testing.assert_allclose(found, expected(0.1, 8192, 1), rtol=1e-6)
    assert layer_ropes(of("llama4", 4, attention__sliding_window=0)).query_scales == (None,) * 4
    scaled = {"attention__temperature_scale": 0.1, **YARN}
    latent = {"attention__key_length": 192, "rope__dimension_count": 64}
    for name, keys, length in (
        ("mistral3", {}, 4096),
        ("mistral4", {"attention__temperature_length": 8192, **latent}, 8192),
        ("deepseek2", {"attention__temperature_length": 8192, **latent}, 8192),
    ):
        ropes = layer_ropes(of(name, 2, **scaled, **keys))
        for scale in ropes.query_scales:
            found = scale(np.asarray(POSITIONS))
            np.testing.assert_allclose(found, expected(0.1, length, 0), rtol=1e-6)
        keys = {"attention__temperature_scale": 0.0, **YARN, **keys}
        assert layer_ropes(of(name, 2, **keys)).query_scales == (None, None)
    with pytest.raises(ValueError, match=r"`mistral4.attention.temperature_length` is required"):
        layer_ropes(of("mistral4", **scaled, **latent))


FACTORS = [1.0] * 32 + [8.0] * 32


def test_rope_freqs():
    given = {"rope_freqs.weight": np.asarray(FACTORS, np.float32)}
    rope = RoPE.from_config({**of("llama", context_length=131072), **given})
    assert rope.scaling == FrequencyFactors(FACTORS)
    assert_same(rope, table(128, 1e6, ff=FACTORS))
    linear = RoPE.from_config({**of("llama", rope__scaling__factor=2.0), **given})
    assert linear.scaling == FrequencyFactors(FACTORS, Linear(2.0))
    assert_same(linear, table(128, 1e6, freq_scale=0.5, ff=FACTORS))
    yarn = RoPE.from_config({**of("llama", **YARN), **given})
    attn = context_factor(8.0)
    assert_same(
        yarn,
        table(
            128,
            1e6,
            freq_scale=1 / 8,
            ext_factor=1.0,
            attn_factor=attn,
            n_ctx_orig=4096,
            ff=FACTORS,
        ),
    )
    ropes = layer_ropes({**of("exaone4", 64, context_length=131072), **given})
    assert {r.scaling for r in ropes if r} == {FrequencyFactors(FACTORS)}
    with pytest.raises(
        ValueError, match=r"`rope_freqs.weight` must have a number for each of 64 pairs, got 3"
    ):
        RoPE.from_config({**of("llama"), "rope_freqs.weight": [1.0] * 3})
    with pytest.raises(
        ValueError, match=r"`rope_freqs.weight` must be None or absent: llama.cpp does not use it"
    ):
        RoPE.from_config({**of("phi3"), **given})


def test_longrope():
    short, long = [1.5] * 64, [4.0] * 64
    given = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    keys = {"context_length": 131072, "rope__scaling__original_context_length": 4096}
    for attn in (None, 1.19):
        rope = RoPE.from_config({**of("phi3", **keys, rope__scaling__attn_factor=attn), **given})
        assert rope.scaling == LongRoPE(short, long, 4096, attention_factor=attn or 1.0)
    assert_same(rope, table(128, 1e6, attn_factor=1.19, ff=short))
    np.testing.assert_allclose(rope.frequencies(4097).inv_freq, table(128, 1e6, ff=long)[0])
    named = of("minicpm", **keys, rope__scaling__type="longrope", rope__scaling__factor=2.0)
    assert RoPE.from_config({**named, **given}).scaling.short_factor == (3.0,) * 64
    # Phi 4 and Phi 3 with 4096 tokens have none.
    assert RoPE.from_config(of("phi3")).scaling is None
    for metadata in (of("phi3", **keys), of("phi3", rope__scaling__attn_factor=1.19), named):
        with pytest.raises(
            ValueError,
            match=r"^`rope_factors_short.weight` is required: .* or None if the file has none",
        ):
            RoPE.from_config(metadata)
    none = dict.fromkeys(given)
    assert RoPE.from_config({**of("phi3", **keys), **none}).scaling is None
    with pytest.raises(ValueError, match=r"`rope_factors_short.weight` must be None or absent"):
        RoPE.from_config({**of("qwen2"), **given})
    with pytest.raises(
        ValueError, match=r"`rope_factors_short.weight` must be absent beside another schedule"
    ):
        RoPE.from_config({**of("phi3", **YARN), **given})


LLAMA31 = of("llama", 32, context_length=131072, rope__freq_base=5e5, vocab_size=128256)


def test_metadata_alone_of_what_can_have_a_schedule_in_a_tensor():
    sentence = r"^`rope_freqs.weight` is required: .*the path of the file or its GGUFReader.*, or None if the file has none"
    for metadata in (
        LLAMA31,
        {**LLAMA31, "llama.vocab_size": 32000},  # the base is Llama 3's
        of("llama", context_length=131072),  # neither says otherwise
        of("llama4", 48, context_length=131072),
        of("apertus", context_length=65536),
        of("exaone4", 64, context_length=131072),
        of("deci", context_length=131072),
    ):
        for layout in (None, "half"):
            with pytest.raises(ValueError, match=sentence):
                layer_ropes(metadata, layout=layout)
        assert len(layer_ropes({**metadata, "rope_freqs.weight": None})) > 0
    with pytest.raises(ValueError, match=r"^`rope_freqs.weight` is required: .* with its numbers$"):
        layer_ropes({**of("gemma4", **SIZED, **PATTERN), "rope_freqs.weight": None})


@pytest.mark.parametrize(
    "keys",
    [
        {"context_length": 4096, "rope__freq_base": None},  # Llama 2
        {"context_length": 32768, "rope__freq_base": 1e4},  # Mistral 7B v0.1
        {"context_length": 32768, "vocab_size": 32768},  # Mistral 7B v0.3, Mixtral
        {"context_length": 8192, "rope__freq_base": 1e5},  # SmolLM2
        {"context_length": 8192, "rope__freq_base": 5e5, "vocab_size": 128256},  # Llama 3
        {
            "context_length": 16384,
            "rope__freq_base": 1e5,
            "rope__scaling__factor": 4.0,
        },  # DeepSeek Coder
    ],
)
def test_metadata_that_exclude_a_tensor(keys):
    rope = RoPE.from_config(of("llama", **keys))
    assert rope.base == (keys.get("rope__freq_base", 1e6) or 10000.0)
    assert rope.scaling in (None, Linear(4.0))


def test_sections():
    sections = {"rope__dimension_sections": [16, 24, 24, 0]}
    for name in ("qwen2vl", "paddleocr", "glm4", "glm4moe", "hunyuan_vl"):
        rope = RoPE.from_config(of(name, **sections))
        assert rope == RoPE(128, layout="half", base=1e6, axes=Sections((16, 24, 24)))
    rope = RoPE.from_config(of("qwen3vl", rope__dimension_sections=[24, 20, 20]))
    assert rope.axes == InterleavedSections((24, 20, 20))
    assert RoPE.from_config(of("hunyuan_vl", rope__dimension_sections=[16] * 4)).axes == Sections(
        (16,) * 4
    )
    assert RoPE.from_config(of("glm4")).layout == "interleaved"
    for name in ("ernie4_5", "glm-dsa"):
        assert RoPE.from_config(of(name, **sections)).axes is None
    for name, given, words in (
        ("qwen2vl", None, "is required"),
        ("qwen2vl", [16, 24], "with the sum 64"),
        ("qwen2vl", 16, "must be a list"),
        ("qwen2vl", [16, -24, 24], r"\[1\]` must be a non-negative integer"),
        ("qwen2", [16, 24, 24, 0], "must be absent"),
    ):
        with pytest.raises(ValueError, match=rf"`{name}.rope.dimension_sections.*{words}"):
            RoPE.from_config(of(name, rope__dimension_sections=given))


def test_sizes():
    assert RoPE.from_config(of("qwen2", rope__freq_base=None)).base == 10000.0
    partial = RoPE.from_config(of("stablelm", rope__dimension_count=32))
    assert partial == RoPE(128, layout="half", base=1e6, rotary_dim=32)
    assert (
        RoPE.from_config(
            of("qwen2", attention__key_length=256, rope__dimension_count=None)
        ).head_dim
        == 256
    )
    counts = of("openelm", 2, attention__head_count=[8, 4], attention__key_length=128)
    assert RoPE.from_config(counts).head_dim == 128
    # The layers that predict further tokens are not those of the model.
    assert len(layer_ropes(of("glm4moe", 47, nextn_predict_layers=1))) == 46


@pytest.mark.parametrize(
    ("name", "keys", "sentence"),
    [
        (
            "qwen2",
            {"rope__freq_scale": 2.0},
            r"^unknown key 'qwen2.rope.freq_scale': llama.cpp has no such key",
        ),
        ("qwen2", {"rope__scaling__low_freq": 2.0}, r"^unknown key 'qwen2.rope.scaling.low_freq'"),
        (
            "qwen2",
            {"rope__scaling__type": "su"},
            r"^unknown qwen2.rope.scaling.type 'su'; known: none, linear",
        ),
        (
            "qwen2",
            {"rope__freq_base": "1e6"},
            r"^`qwen2.rope.freq_base` must be a positive number, got '1e6'",
        ),
        (
            "qwen2",
            {"rope__scaling__factor": -1.0},
            r"^`qwen2.rope.scaling.factor` must be a positive number",
        ),
        (
            "qwen2",
            {"rope__dimension_count": 33},
            r"^`qwen2.rope.dimension_count` must be (even|at most)",
        ),
        (
            "qwen2",
            {"rope__dimension_count": 256},
            r"^`qwen2.rope.dimension_count` must be (even|at most)",
        ),
        (
            "llama",
            {"rope__dimension_count": 64},
            r"^`llama.rope.dimension_count` must be the size of a head, 128",
        ),
        ("cogvlm", {}, r"^`cogvlm.rope.freq_base` must be absent or 10000"),
        (
            "qwen2",
            {"embedding_length": None},
            r"^`qwen2.embedding_length` is required where there is no qwen2.attention.key",
        ),
        (
            "qwen2",
            {"attention__head_count": 2048},
            r"^`qwen2.attention.head_count` is required and at most",
        ),
        (
            "qwen2",
            {"attention__key_length": 2**30},
            r"^`qwen2.attention.key_length` must be at most",
        ),
        ("qwen2", {"embedding_length": 2**30}, r"^`qwen2.embedding_length` must be at most"),
        ("qwen2", {"block_count": 513}, r"^`qwen2.block_count` must be .* at most 512"),
        (
            "qwen2",
            {"nextn_predict_layers": 8},
            r"^`qwen2.block_count` must be above nextn_predict_layers=8",
        ),
        ("deepseek4", {}, r"^`deepseek4.attention.compress_ratios` is required"),
        (
            "qwen3next",
            {"attention__recurrent_layers": [True, "x"] * 4},
            r"^`qwen3next.attention.recurrent_layers\[1\]` must",
        ),
        (
            "bert",
            {},
            r"^`general.architecture` must be of a model that rotates q and k, got 'bert': .*learned",
        ),
        ("clip", {}, r"an mmproj file, .* take the file of the language model"),
        (
            "hunyuan-dense",
            {"rope__scaling__alpha": 2.0, "rope__scaling__factor": 2.0},
            r"^`hunyuan-dense.rope.scaling.alpha` must be absent beside",
        ),
    ],
)
@pytest.mark.parametrize("layout", [None, "half"])
def test_broken_metadata_are_refused_with_a_sentence(name, keys, sentence, layout):
    with pytest.raises(ValueError, match=sentence):
        layer_ropes(of(name, **keys), layout=layout)


def test_an_unknown_architecture():
    with pytest.raises(ValueError, match=r"^unknown model_type 'gguf new': pass layout="):
        RoPE.from_config(of("new"))
    assert RoPE.from_config(of("new", rope__scaling__factor=2.0), layout="half") == RoPE(
        128, layout="half", base=1e6, scaling=Linear(2.0)
    )
    for key in (
        "rope.freq_base_swa",
        "attention.sliding_window_pattern",
        "rope.dimension_sections",
    ):
        with pytest.raises(
            ValueError, match=rf"^`new.{key}` must be absent for an architecture that is not known"
        ):
            RoPE.from_config({**of("new"), f"new.{key}": 4}, layout="half")
    with pytest.raises(ValueError, match=r"^`general.type` must be 'model', got 'adapter'"):
        RoPE.from_config({**of("llama"), "general.type": "adapter"})
