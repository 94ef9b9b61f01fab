"""Families whose code is published beside their weights: each against its published formula.

The formulas are written out here in plain Python, from the file that each test names.
"""

import math

import numpy as np
import pytest
from config_cases import llama

from rope_xp import RoPE, configs
from rope_xp.axes import InterleavedSections
from rope_xp.scaling import DynamicNTK, Linear, Llama3, LongRoPE, SteppedNTK


def inverse(dim, base):
    """1 / base^(2i / dim), which all of these files have."""
    return [base ** (-2 * i / dim) for i in range(dim // 2)]


def assert_turns(rope, expected, *, layout, head_dim, seq_len=None):
    """The first features of a head turn by the expected frequencies, in pairs of the layout."""
    found = rope.frequencies(seq_len)
    np.testing.assert_allclose(found.inv_freq, expected, rtol=1e-12)
    assert (rope.layout, rope.head_dim, rope.rotary_start) == (layout, head_dim, 0)
    assert rope.rotary_dim == 2 * len(expected)
    assert found.attention_factor == 1.0


# -- ChatGLM 2 and 3, GLM-4: RotaryEmbedding and apply_rotary_pos_emb of modeling_chatglm.py ------

CHATGLM3 = {
    "model_type": "chatglm",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_layers": 28,
    "kv_channels": 128,
    "original_rope": True,
    "seq_length": 8192,
}


@pytest.mark.parametrize("rope_ratio", [None, 1, 50, 500, 10000])
def test_chatglm(rope_ratio):
    """RotaryEmbedding(kv_channels // 2) of base 10000 · rope_ratio; adjacent pairs."""
    rope = RoPE.from_config({**CHATGLM3, "rope_ratio": rope_ratio})
    base = 10000 * (rope_ratio or 1)
    assert_turns(rope, inverse(64, base), layout="interleaved", head_dim=128)
    assert len(configs.layer_ropes(CHATGLM3)) == 28


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"original_rope": False},
            "`original_rope` must be True or absent for model_type 'chatglm'",
        ),
        ({"rope_theta": 500000}, "`rope_theta` must be 10000 or absent"),
        ({"rope_ratio": 0}, "`rope_ratio` must be a positive number, got 0"),
        ({"position_encoding_2d": True}, "'chatglm': its positions have two parts"),
        ({"inner_hidden_size": 16384}, "'chatglm': its positions have two parts"),
        ({"kv_channels": "128"}, "`kv_channels` must be a positive integer, got '128'"),
        (
            {"num_hidden_layers": 27},
            "conflicting values: 27 as num_hidden_layers but 28 as num_layers",
        ),
    ],
)
def test_what_is_no_chatglm(keys, words):
    with pytest.raises(ValueError, match=words):
        RoPE.from_config({**CHATGLM3, **keys})


# -- Qwen 1: RotaryEmbedding and get_ntk_alpha of modeling_qwen.py --------------------------------

QWEN = {
    "model_type": "qwen",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "kv_channels": 128,
    "max_position_embeddings": 32768,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 8192,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}


def qwen_inv_freq(length, base=10000, dim=128, seq_length=8192):
    context_value = math.log2(length / seq_length) + 1
    alpha = max(2 ** math.ceil(context_value) - 1, 1)
    return inverse(dim, base * alpha ** (dim / (dim - 2)))


def test_qwen():
    rope = RoPE.from_config(QWEN)
    assert rope.scaling == SteppedNTK(8192)
    for length in (1, 8192, 8193, 16384, 20000, 32768):
        assert_turns(rope, qwen_inv_freq(length), layout="half", head_dim=128, seq_len=length)
    off = {"use_dynamic_ntk": False, "use_logn_attn": False}
    plain = RoPE.from_config({**QWEN, **off, "rotary_emb_base": 1e6})
    assert plain == RoPE(128, layout="half", base=1e6)
    assert RoPE.from_config({**QWEN, "use_dynamic_ntk": None}) == rope  # the class has true
    partial = RoPE.from_config({**QWEN, "rotary_pct": 0.25, "use_dynamic_ntk": False})
    assert_turns(partial, inverse(32, 10000), layout="half", head_dim=128)
    # logn_list: math.log(i, seq_length) for i > seq_length, else 1; i is the position and 1.
    at = np.asarray([0, 8191, 8192, 32766])
    logn = [math.log(i, 8192) if i > 8192 else 1 for i in at + 1]
    np.testing.assert_allclose(rope.query_scale(at), logn, rtol=1e-6)


# -- InternLM 1 and 2: InternLMRotaryEmbedding and InternLMDynamicNTKScalingRotaryEmbedding --------


def dynamic_inv_freq(length, factor, longest, base=10000, dim=128):
    if length > longest:
        base *= (factor * length / longest - (factor - 1)) ** (dim / (dim - 2))
    return inverse(dim, base)


def test_internlm():
    config = llama("internlm", num_hidden_layers=2, max_position_embeddings=2048)
    assert RoPE.from_config(config) == RoPE(128, layout="half")
    origin = {**config, "rotary": {"base": 5000, "type": "origin"}}
    assert RoPE.from_config(origin) == RoPE(128, layout="half", base=5000.0)
    rope = RoPE.from_config({**config, "rotary": {"base": 10000, "type": "dynamic"}})
    assert rope.scaling == DynamicNTK(1.0, 2048)
    for length in (2048, 5000):
        expected = dynamic_inv_freq(length, 1.0, 2048)
        assert_turns(rope, expected, layout="half", head_dim=128, seq_len=length)
    scaled = {"base": 10000, "type": "dynamic", "scaling_factor": 2.0}
    assert RoPE.from_config({**config, "rotary": scaled}).scaling == DynamicNTK(2.0, 2048)
    with pytest.raises(ValueError, match=r"unknown rotary.type 'yarn'; known: origin, dynamic"):
        RoPE.from_config({**config, "rotary": {"base": 10000, "type": "yarn"}})


def test_internlm_2():
    config = llama("internlm2", rope_theta=1e6, max_position_embeddings=32768)
    assert RoPE.from_config(config) == RoPE(128, layout="half", base=1e6)
    dynamic = {**config, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    rope = RoPE.from_config(dynamic)
    expected = dynamic_inv_freq(50000, 2.0, 32768, base=1e6)
    assert_turns(rope, expected, layout="half", head_dim=128, seq_len=50000)


# -- Baichuan: the models of 7B rotate, those of 13B have ALiBi (modeling_baichuan.py of each) ----


def test_baichuan():
    assert RoPE.from_config(llama("baichuan")) == RoPE(128, layout="half")
    large = llama("baichuan", hidden_size=5120, num_attention_heads=40, model_max_length=4096)
    with pytest.raises(ValueError, match=r"'baichuan': its positions are a bias on the scores"):
        RoPE.from_config(large)


# -- MiniCPM 1, 2 and 4: MiniCPMRotaryEmbedding and MiniCPMLongRoPE --------------------------------


def test_minicpm():
    config = {"model_type": "minicpm", "hidden_size": 2304, "num_attention_heads": 36}
    assert RoPE.from_config(config) == RoPE(64, layout="half")
    short, long = [1.0 + i / 100 for i in range(32)], [1.0 + i for i in range(32)]
    lists = {"short_factor": short, "long_factor": long, "original_max_position_embeddings": 8192}
    longrope = {
        "max_position_embeddings": 32768,
        "rope_scaling": {"rope_type": "longrope", **lists},
    }
    rope = RoPE.from_config({**config, **longrope})
    for length, factors in ((8192, short), (8193, long)):
        found = rope.frequencies(length)
        expected = [f / s for f, s in zip(inverse(64, 10000), factors, strict=True)]
        np.testing.assert_allclose(found.inv_freq, expected, rtol=1e-12)
        assert found.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(8192)))


# -- Nomic: NomicBertRotaryEmbedding and NomicBertDynamicNTKRotaryEmbedding ------------------------

NOMIC = {
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 8192,
    "max_trained_positions": 2048,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
}


def test_nomic():
    rope = RoPE.from_config(NOMIC)
    assert_turns(rope, inverse(64, 1000), layout="half", head_dim=64)
    assert len(configs.layer_ropes(NOMIC)) == 12
    changed = {"rotary_emb_fraction": 0.5, "rotary_emb_interleaved": True}
    rope = RoPE.from_config({**NOMIC, **changed})
    assert_turns(rope, inverse(32, 1000), layout="interleaved", head_dim=64)
    rope = RoPE.from_config({**NOMIC, "rotary_scaling_factor": 2})
    for length in (2048, 8192):
        expected = dynamic_inv_freq(length, 2, 2048, base=1000, dim=64)
        assert_turns(rope, expected, layout="half", head_dim=64, seq_len=length)
    with pytest.raises(ValueError, match=r"`rotary_emb_scale_base` must be absent"):
        RoPE.from_config({**NOMIC, "rotary_emb_scale_base": 512})
    # That of transformers has other keys, and another base where there is none.
    native = {"model_type": "nomic_bert", "hidden_size": 768, "num_attention_heads": 12}
    assert RoPE.from_config(native) == RoPE(64, layout="half", base=1000.0)


# -- names under which published models share the code of another ---------------------------------


def test_kimi_k2_is_deepseek_v3_with_its_factor_on_the_scores():
    """DeepseekV3Attention of modeling_deepseek.py: softmax_scale · (0.1 mscale_all_dim ln s + 1)²."""
    config = {
        "model_type": "kimi_k2",
        "hidden_size": 7168,
        "num_attention_heads": 64,
        "num_hidden_layers": 2,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "rope_theta": 50000.0,
    }
    yarn = {"type": "yarn", "original_max_position_embeddings": 4096, "mscale": 1.0}
    for factor in (32.0, 64.0):
        scaling = {**yarn, "factor": factor, "mscale_all_dim": 1.0}
        text = {**config, "rope_scaling": scaling}
        for whole in (text, {"model_type": "kimi_k25", "text_config": text}):
            rope = RoPE.from_config(whole)
            expected = (0.1 * math.log(factor) + 1) ** 2
            assert rope.frequencies().softmax_factor == pytest.approx(expected)
            assert rope == RoPE.from_config({**text, "model_type": "deepseek_v3"})


def test_old_names():
    factors = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    phi = llama("phi3_v", hidden_size=3072, max_position_embeddings=131072)
    phi["rope_scaling"] = {"type": "su", **factors, "original_max_position_embeddings": 4096}
    rope = RoPE.from_config(phi)
    assert rope.scaling == LongRoPE([1.0] * 48, [2.0] * 48, 4096, max_position_embeddings=131072)
    assert RoPE.from_config(llama("mimo", rope_theta=640000)) == RoPE(
        128, layout="half", base=640000.0
    )
    assert RoPE.from_config(llama("Yi", rope_theta=5e6)) == RoPE(128, layout="half", base=5e6)
    mm = llama("phi4mm", hidden_size=3072, num_attention_heads=24, partial_rotary_factor=0.75)
    assert RoPE.from_config(mm) == RoPE(128, layout="half", rotary_dim=96)


def test_stablelm_epoch():
    """StableLMEpochAttention: int(head_dim · rope_pct) features, base rope_theta."""
    config = llama("stablelm_epoch", hidden_size=2560, rope_pct=0.25, rope_theta=1e6)
    rope = RoPE.from_config({**config, "rotary_scaling_factor": 1.0})
    assert_turns(rope, inverse(20, 1e6), layout="half", head_dim=80)
    with pytest.raises(ValueError, match=r"`rotary_scaling_factor` must be 1.0 or absent"):
        RoPE.from_config({**config, "rotary_scaling_factor": 2.0})


def test_falcon_by_its_first_names():
    """modelling_RW.py: halves of the whole head, base 10000, or ALiBi."""
    config = {"model_type": "RefinedWebModel", "hidden_size": 4544, "n_head": 71, "n_layer": 2}
    assert configs.layer_ropes({**config, "alibi": False}) == (RoPE(64, layout="half"),) * 2
    assert configs.layer_ropes({**config, "alibi": True}) == (None, None)
    wide = {"model_type": "RefinedWeb", "n_embed": 8192, "n_head": 128, "n_layer": 1}
    assert RoPE.from_config(wide) == RoPE(64, layout="half")


def test_exaone_3():
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    config = llama("exaone", num_layers=3, rope_theta=1e6, max_position_embeddings=32768)
    config["rope_scaling"] = {**scaling, "original_max_position_embeddings": 8192}
    rope = RoPE(128, layout="half", base=1e6, scaling=Llama3(8.0, 1.0, 4.0, 8192))
    assert configs.layer_ropes(config) == (rope,) * 3


def test_nemotron_nas_has_layers_without_attention():
    """DeciLMDecoderLayer of modeling_decilm.py: none where attention.no_op or replace_with_linear."""
    blocks = [
        {"attention": {"n_heads_in_group": 8, "no_op": False, "replace_with_linear": False}},
        {"attention": {"n_heads_in_group": None, "no_op": True, "replace_with_linear": False}},
        {"attention": {"n_heads_in_group": None, "no_op": False, "replace_with_linear": True}},
    ]
    config = llama("nemotron-nas", num_hidden_layers=3, rope_theta=5e5, block_configs=blocks)
    rope = RoPE(128, layout="half", base=5e5)
    assert configs.layer_ropes(config) == (rope, None, None)
    for broken, words in (
        (blocks[:2], "`block_configs` must have num_hidden_layers=3 entries, got 2"),
        ([*blocks[:2], {}], r"`block_configs\[2\]` must have a mapping under attention"),
        (None, "`block_configs` is required for model_type 'nemotron-nas'"),
        ([*blocks[:2], {"attention": {"no_op": "no"}}], "`no_op` in .* must be true or false"),
    ):
        with pytest.raises(ValueError, match=words):
            configs.layer_ropes({**config, "block_configs": broken})


def test_openelm_and_phi_3_small_and_phi_msft():
    openelm = {"model_type": "openelm", "head_dim": 64, "num_transformer_layers": 2}
    openelm |= {"rope_freq_constant": 20000, "num_query_heads": [12, 16], "model_dim": 1280}
    assert configs.layer_ropes(openelm) == (RoPE(64, layout="half", base=20000.0),) * 2
    small = llama("phi3small", rope_embedding_base=1000000, rope_position_scale=1.0)
    assert RoPE.from_config(small) == RoPE(128, layout="half", base=1e6)
    msft = {"model_type": "phi-msft", "n_embd": 2560, "n_head": 32, "n_layer": 2}
    assert RoPE.from_config(msft) == RoPE(80, layout="half", rotary_dim=32)


def test_mpt_with_rotation():
    """gen_rotary_embedding of llm-foundry: halves of d_model // n_heads, base rope_theta."""
    attention = {"rope": True, "rope_theta": 5e5, "rope_impl": "dail"}
    config = {"model_type": "mpt", "d_model": 2048, "n_heads": 16, "n_layers": 2}
    config |= {"max_seq_len": 2048, "attn_config": attention}
    assert RoPE.from_config(config) == RoPE(128, layout="half", base=5e5)
    hf = {**attention, "rope_impl": "hf", "rope_hf_config": {"type": "linear", "factor": 2.0}}
    rope = RoPE.from_config({**config, "attn_config": hf})
    assert rope == RoPE(128, layout="half", base=5e5, scaling=Linear(2.0))
    plain = {**hf, "rope_hf_config": {"type": "no_scaling", "factor": 1.0}}
    assert RoPE.from_config({**config, "attn_config": plain}).scaling is None
    xpos = {**attention, "rope_dail_config": {"type": "xpos"}}
    with pytest.raises(ValueError, match=r"`attn_config.rope_dail_config.type` must be 'original'"):
        RoPE.from_config({**config, "attn_config": xpos})
    with pytest.raises(ValueError, match=r"'mpt': no rotary position encoding"):
        RoPE.from_config({**config, "attn_config": {"alibi": True}})


def test_dbrx_has_the_base_of_its_attn_config():
    """DbrxRotaryEmbedding(base=attn_config.rope_theta) in the published code; not in transformers."""
    config = {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 2}
    config["attn_config"] = {"kv_n_heads": 8, "rope_theta": 500000}
    assert RoPE.from_config(config) == RoPE(128, layout="half", base=5e5)
    with pytest.raises(
        ValueError, match=r"10000.0 in rope_parameters but 500000.0 as attn_config.rope"
    ):
        RoPE.from_config({**config, "rope_parameters": {"rope_theta": 1e4}})


def test_phimoe_takes_its_long_factors():
    """Phi3LongRoPEScaledRotaryEmbedding of modeling_phimoe.py, with short_mscale and long_mscale."""
    short, long = [1.0 + i / 100 for i in range(64)], [1.0 + i for i in range(64)]
    scaling = {"type": "longrope", "short_factor": short, "long_factor": long}
    scaling |= {"short_mscale": 1.25, "long_mscale": 1.5, "original_max_position_embeddings": 4096}
    config = llama("phimoe", max_position_embeddings=131072, rope_theta=1e4, rope_scaling=scaling)
    rope = RoPE.from_config(config)
    for length, factors, mscale in ((4096, short, 1.25), (100000, long, 1.5)):
        found = rope.frequencies(length)
        expected = [f / s for f, s in zip(inverse(128, 10000), factors, strict=True)]
        np.testing.assert_allclose(found.inv_freq, expected, rtol=1e-12)
        assert found.attention_factor == mscale


def test_deepseek_without_latent_attention_is_llama():
    """DeepSeek-VL2-tiny and DeepSeek-OCR: use_mla false takes LlamaAttention."""
    part = llama("deepseek_v2", hidden_size=1280, num_attention_heads=10, use_mla=False)
    part |= {"qk_rope_head_dim": 0, "qk_nope_head_dim": 0}
    rope = RoPE(128, layout="half")
    assert RoPE.from_config(part) == rope
    assert RoPE.from_config({"model_type": "deepseek_vl_v2", "language_config": part}) == rope


def test_jina_embeddings_3_by_its_first_name():
    """xlm-roberta of transformers has no rotation; the file's own code, XLMRobertaFlash, has."""
    config = {"model_type": "xlm-roberta", "hidden_size": 1024, "num_attention_heads": 16}
    jina = {**config, "position_embedding_type": "rotary", "rotary_emb_base": 20000.0}
    assert RoPE.from_config(jina) == RoPE(64, layout="half", base=20000.0)
    with pytest.raises(ValueError, match=r"'xlm-roberta': no rotary position encoding"):
        RoPE.from_config(config)


def test_qwen3_asr_as_published():
    sections = {"mrope_interleaved": True, "interleaved": True, "mrope_section": [24, 20, 20]}
    text = {"model_type": "qwen3_asr_text", "head_dim": 128, "num_hidden_layers": 2}
    text |= {"rope_theta": 1e6, "rope_scaling": {"rope_type": "default", **sections}}
    whole = {"model_type": "qwen3_asr_thinker", "text_config": text}
    rope = RoPE(128, layout="half", base=1e6, axes=InterleavedSections((24, 20, 20)))
    assert RoPE.from_config({"model_type": "qwen3_asr", "thinker_config": whole}) == rope


def test_ling():
    """BailingMoeV2RotaryEmbedding: head_dim · partial_rotary_factor features, in halves."""
    config = {"model_type": "bailing_moe_v2", "head_dim": 128, "partial_rotary_factor": 0.5}
    for model_type in ("bailing_moe", "bailing_moe_v2"):  # Ling 2.0 has either name
        keys = {"model_type": model_type, "rope_theta": 600000, "rotary_dim": 64}
        rope = RoPE.from_config({**config, **keys})
        assert_turns(rope, inverse(64, 600000), layout="half", head_dim=128)
    assert RoPE.from_config(llama("bailing_moe", rope_theta=6e5)) == RoPE(
        128, layout="half", base=6e5
    )


def test_minimax_text_01_and_m1():
    """MiniMaxText01Attention: the first rotary_dim features, in halves; linear attention has none."""
    config = {"model_type": "minimax_text_01", "head_dim": 128, "rotary_dim": 64}
    config |= {"rope_theta": 10000000, "num_hidden_layers": 3, "attn_type_list": [0, 0, 1]}
    rope = RoPE(128, layout="half", rotary_dim=64, base=1e7)
    for model_type in ("minimax_text_01", "minimax_m1"):
        assert configs.layer_ropes({**config, "model_type": model_type}) == (None, None, rope)
    with pytest.raises(
        ValueError, match=r"`attn_type_list` must be a list of 0 and 1, got 2 in it"
    ):
        configs.layer_ropes({**config, "attn_type_list": [0, 2, 1]})
    with pytest.raises(ValueError, match=r"`layer_types` is required"):
        configs.layer_ropes({**config, "attn_type_list": None})


def test_jais_has_a_bias_on_the_scores():
    with pytest.raises(ValueError, match=r"'jais': its positions are a bias on the scores"):
        RoPE.from_config(llama("jais"), layout="half")


LLAMA_LIKE = [
    "aquila",
    "arctic",
    "deepseek",
    "minicpm",
    "orion",
    "internlm2",
    "bailing_moe",
]


@pytest.mark.parametrize("model_type", LLAMA_LIKE)
def test_those_that_copy_llama(model_type):
    """LlamaRotaryEmbedding and apply_rotary_pos_emb under another name."""
    assert RoPE.from_config(llama(model_type)) == RoPE(128, layout="half")
    assert RoPE.from_config(llama(model_type, rope_theta=5e5)).base == 5e5


def test_the_tower_of_kimi_vl():
    """apply_rope of its modeling_kimi_vl.py views neighbors as complex numbers; the column is first."""
    sizes = {
        "hidden_size": 1152,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    }
    tower = {"model_type": "moonvit", **sizes}
    text = {"model_type": "deepseek_v3", "qk_rope_head_dim": 64, "num_hidden_layers": 2}
    whole = {"model_type": "kimi_vl", "text_config": text, "vision_config": tower}
    for config, part in ((whole, "vision"), (tower, "text")):
        rope = RoPE.from_config(config, part=part)
        assert (rope.head_dim, rope.layout, rope.base) == (72, "interleaved", 1e4)
        x = np.zeros((2, 72))
        x[:, [0, 2]] = 1  # the first two pairs: of the column, then of the row
        turned = rope(x, positions=np.asarray([[0, 3], [2, 0]]))
        # The first token is in row 0 and column 2, the second one in row 3 and column 0.
        want = [[np.cos(2), np.sin(2), 1, 0], [1, 0, np.cos(3), np.sin(3)]]
        np.testing.assert_allclose(turned[:, :4], want, atol=1e-12)
