"""Peers that are written in PyTorch. Of large packages the file with the rotation alone is run."""

import importlib
import os
import sys
import types
from importlib import metadata

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peers.table import MILLION, peer
from transformers import DeepseekV3Config, GlmConfig, GPTJConfig, GptOssConfig, LlamaConfig

from rope_xp import RoPE
from rope_xp.axes import Axial
from rope_xp.scaling import NTK, Linear, Llama3, YaRN


def module(name):
    """A module, without what the packages above it import, which is not all installed."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        dotted = ".".join(parts[:i])
        if dotted not in sys.modules:
            empty = types.ModuleType(dotted)
            folder = metadata.distribution(PACKAGES.get(parts[0], parts[0])).locate_file("")
            empty.__path__ = [str(folder.joinpath(*parts[:i]))]
            sys.modules[dotted] = empty
    return importlib.import_module(name)


PACKAGES = {"keras_hub": "keras-hub"}


def rows(x, positions):
    """Positions of shape (batch, seq), as models give them to their modules."""
    return positions.expand(x.shape[0], -1)


# -- transformers ----------------------------------------------------------------------------------


def transformers(model, config, prefix, apply="apply_rotary_pos_emb"):
    """The rotary class of a model, and the function that applies its tables."""
    code = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    tables, apply = getattr(code, f"{prefix}RotaryEmbedding")(config), getattr(code, apply)

    def fn(x, positions):
        cos, sin = tables(x, rows(x, positions))
        return apply(x, x, cos, sin)[0]

    return fn


@peer("Llama", "transformers", RoPE(64, layout="half", base=500_000.0))
def llama():
    parameters = {"rope_type": "default", "rope_theta": 500_000.0}
    config = LlamaConfig(head_dim=64, rope_parameters=parameters)
    return transformers("llama", config, "Llama")


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@peer(
    "Llama, llama3",
    "transformers",
    RoPE(128, layout="half", base=500_000.0, scaling=Llama3(**LLAMA3)),
)
def llama3():
    parameters = {"rope_type": "llama3", "rope_theta": 500_000.0, **LLAMA3}
    config = LlamaConfig(head_dim=128, rope_parameters=parameters)
    return transformers("llama", config, "Llama")


@peer("GPT-J", "transformers", RoPE(128, layout="interleaved", rotary_dim=64))
def gptj():
    code = importlib.import_module("transformers.models.gptj.modeling_gptj")
    tables = code.GPTJRotaryEmbedding(GPTJConfig(rotary_dim=64, n_positions=MILLION))

    def fn(x, positions):
        sin, cos = tables(x, rows(x, positions))
        turned = code.apply_rotary_pos_emb(x[..., :64].transpose(1, 2), sin, cos)
        return torch.cat((turned.transpose(1, 2), x[..., 64:]), -1)

    return fn


@peer("GLM", "transformers", RoPE(128, layout="interleaved", rotary_dim=64))
def glm():
    return transformers("glm", GlmConfig(head_dim=128), "Glm")


GPT_OSS = YaRN(factor=32.0, original_max_position_embeddings=4096, truncate=False)


@peer("gpt-oss", "transformers", RoPE(64, layout="half", base=150_000.0, scaling=GPT_OSS))
def gpt_oss():
    return transformers("gpt_oss", GptOssConfig(), "GptOss")


DEEPSEEK = {
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
DEEPSEEK_ROPE = RoPE(64, layout="interleaved", scaling=YaRN(**DEEPSEEK))


@peer("DeepSeek-V3", "transformers", DEEPSEEK_ROPE)
def deepseek():
    """Pairs are read interleaved and written as halves: right for scores, where q and k agree."""
    parameters = {"rope_type": "yarn", "rope_theta": 10_000.0, **DEEPSEEK}
    config = DeepseekV3Config(rope_parameters=parameters)
    return transformers("deepseek_v3", config, "DeepseekV3", "apply_rotary_pos_emb_interleave")


@peer("DeepSeek-V3, reordered", "transformers", DEEPSEEK_ROPE)
def deepseek_reordered():
    fn = deepseek()
    return lambda x, positions: fn(x, positions).unflatten(-1, (2, 32)).mT.flatten(-2)


# -- torchtune, timm, keras-hub --------------------------------------------------------------------


@peer("RotaryPositionalEmbeddings", "torchtune", RoPE(64, layout="interleaved"))
def torchtune():
    """Meta's form."""
    code = module("torchtune.modules.position_embeddings")
    theirs = code.RotaryPositionalEmbeddings(64, max_seq_len=MILLION)

    def fn(x, positions):
        at = positions if positions.ndim == 2 else positions[None]
        return theirs(x.transpose(1, 2), input_pos=at).transpose(1, 2)

    return fn


@peer(
    "Llama3ScaledRoPE",
    "torchtune",
    RoPE(128, layout="interleaved", base=500_000.0, scaling=Llama3(**LLAMA3)),
    max_position=131_072,
)
def torchtune_llama3():
    code = module("torchtune.models.llama3_1._position_embeddings")
    theirs = code.Llama3ScaledRoPE(128, max_seq_len=131_072, base=500_000, scale_factor=8)

    def fn(x, positions):
        at = positions if positions.ndim == 2 else positions[None]
        return theirs(x.transpose(1, 2), input_pos=at).transpose(1, 2)

    return fn


@peer(
    "RotaryEmbeddingCat",
    "timm",
    RoPE(64, layout="interleaved", axes=Axial(2)),
    max_position=255,
)
def timm():
    """Tables of a grid, of which tokens are picked, as where patches are dropped."""
    code = module("timm.layers.pos_embed_sincos")
    tables = code.RotaryEmbeddingCat(64, in_pixels=False, feat_shape=None).get_embed([256, 256])
    tables = tables.unflatten(0, (256, 256))

    def fn(x, positions):
        at = tables[positions[0], positions[1]]
        return code.apply_rot_embed_cat(x, at if at.ndim == 2 else at[:, None])

    return fn


def keras_hub(head_dim, **options):
    """A layer casts what it gets to its own dtype: one for each."""
    code = module("keras_hub.src.layers.modeling.rotary_embedding")
    layers = {}

    def fn(x, positions):
        name = str(x.dtype).removeprefix("torch.")
        if name not in layers:
            layers[name] = code.RotaryEmbedding(sequence_axis=2, dtype=name, **options)
        return layers[name](x, positions=positions)

    return fn


@peer("RotaryEmbedding", "keras-hub", RoPE(64, layout="half", scaling=Linear(4.0)))
def keras_linear():
    return keras_hub(64, scaling_factor=4.0)


@peer(
    "RotaryEmbedding, yarn",
    "keras-hub",
    RoPE(64, layout="half", base=150_000.0, scaling=GPT_OSS),
)
def keras_yarn():
    return keras_hub(
        64, rope_type="yarn", max_wavelength=150_000, scaling_factor=32.0, truncate=False
    )


# Not named after a formula in its documentation; this is what transformers' "dynamic" gives at
# `factor` times the length, and what the exponent d / (d - 2) is for.
@peer("RotaryEmbedding, dynamic", "keras-hub", RoPE(64, layout="half", scaling=NTK(4.0)))
def keras_dynamic():
    return keras_hub(64, rope_type="dynamic", scaling_factor=4.0)


# -- of lucidrains ---------------------------------------------------------------------------------


@peer(
    "RotaryEmbedding",
    "rotary-embedding-torch",
    RoPE(64, layout="interleaved", rotary_dim=32),
)
def rotary_embedding_torch():
    code = importlib.import_module("rotary_embedding_torch")
    theirs = code.RotaryEmbedding(32)

    def fn(x, positions):
        freqs = theirs(positions)
        return code.apply_rotary_emb(freqs if positions.ndim == 1 else freqs[:, None], x)

    return fn


GRID = RoPE(64, layout="interleaved", axes=Axial(2))


def axial(**options):
    """A grid of one token, at offsets: the frequencies that the second axis gets are in question."""
    code = importlib.import_module("rotary_embedding_torch")
    theirs = code.RotaryEmbedding(32, **options)

    def fn(x, positions):
        if positions.ndim == 3:
            msg = "a grid serves all rows"
            raise TypeError(msg)
        tokens = [theirs.get_axial_freqs(1, 1, offsets=each) for each in positions.T]
        return code.apply_rotary_emb(torch.cat(tokens).flatten(0, 1), x)

    return fn


@peer("get_axial_freqs, offsets", "rotary-embedding-torch", GRID)
def rotary_embedding_torch_axial():
    return axial()


@peer("get_axial_freqs, offsets, no cache", "rotary-embedding-torch", GRID)
def rotary_embedding_torch_axial_uncached():
    return axial(cache_if_possible=False)


@peer("RotaryEmbedding", "x-transformers", RoPE(64, layout="interleaved", rotary_dim=32))
def x_transformers():
    code = importlib.import_module("x_transformers.x_transformers")
    theirs = code.RotaryEmbedding(32)

    def fn(x, positions):
        freqs, scale = theirs(positions)
        return code.apply_rotary_pos_emb(x, freqs, scale)

    return fn
