"""Models of litgpt and torchtune against their rotary code: ``python tests/parity/carriers.py``.

Of each package the files with the rotation are run as they are installed, without all else that the
package imports.
"""

import sys
import types
from dataclasses import asdict
from importlib import metadata

import torch

from rope_xp import configs
from rope_xp._config_reader.carriers.torchtune import read_table

POSITIONS = torch.tensor([0, 1, 7, 1000, 4095])


def package(name, part=""):
    """An installed package, or a part of it, whose ``__init__``, and so what it needs, is not run."""
    dotted = f"{name}.{part}".rstrip(".")
    module = types.ModuleType(dotted)
    module.__path__ = [str(metadata.distribution(name).locate_file(dotted.replace(".", "/")))]
    sys.modules[dotted] = module


def compare(what, rope, head_dim, turned, x):
    """The source has float32 angles: at 4095 off by half a step of the product, 2**-13, and by that of the
    frequency, 4095 * 2**-24, together 3.7e-4; times features up to 5 and the two of a pair, 3e-3.
    """
    ours = rope(x.double(), positions=POSITIONS.numpy())
    torch.testing.assert_close(
        turned.double(), ours, rtol=0, atol=3e-3, msg=lambda m: f"{what}: {m}"
    )


def litgpt():
    """Every named config: the cache and the rotation of its own model, layer by layer."""
    package("litgpt")
    sys.modules["litgpt.scripts.convert_hf_checkpoint"] = types.SimpleNamespace(qkv_reassemble=None)
    from litgpt import config as config_module
    from litgpt import model

    generator = torch.Generator().manual_seed(0)
    count = layers = 0
    for named in config_module.configs:
        config = config_module.Config(**named)
        ropes = configs.layer_ropes(asdict(config))
        seen = model.GPT.rope_cache(_WithConfig(config))
        assert len(ropes) == config.n_layer, config.name
        done = set()
        for i, rope in enumerate(ropes):
            kind = None if config.rope_indices is None else config.rope_indices[i]
            if (kind, rope) in done:
                continue
            done.add((kind, rope))
            cos, sin = (t[POSITIONS] if kind is None else t[POSITIONS, :, kind] for t in seen)
            n = config.rope_n_elem
            x = torch.randn(1, 1, len(POSITIONS), config.head_size, generator=generator)
            turned = model.apply_rope(x[..., :n], cos[None], sin[None])
            compare(config.name, rope, n, torch.cat((turned, x[..., n:]), -1), x)
        count, layers = count + 1, layers + len(ropes)
    print(f"litgpt: {count} configs, {layers} layers")


def torchtune():
    """The rotary module of every component, with the arguments that the builder of each model gives."""
    package("torchtune")
    for name in ("models", "modules", *(f"models.{m}" for m in ("llama3_1", "phi3", "qwen2"))):
        package("torchtune", name)
    from torchtune.models.llama3_1._position_embeddings import Llama3ScaledRoPE
    from torchtune.models.phi3._position_embeddings import Phi3RotaryPositionalEmbeddings
    from torchtune.models.qwen2._positional_embeddings import Qwen2RotaryPositionalEmbeddings
    from torchtune.modules.position_embeddings import RotaryPositionalEmbeddings

    modules = {"phi3": Phi3RotaryPositionalEmbeddings, "qwen2": Qwen2RotaryPositionalEmbeddings}
    generator = torch.Generator().manual_seed(0)
    table = read_table()
    for name, model in table.models.items():
        given = {**table.components[model.component].defaults, **model.arguments}
        head_dim = given.get("head_dim") or given["embed_dim"] // given["num_heads"]
        at = {"max_seq_len": 4096, "base": given["rope_base"]}
        if "scale_factor" in given:
            made = Llama3ScaledRoPE(head_dim, scale_factor=given["scale_factor"], **at)
        else:
            made = modules.get(model.component, RotaryPositionalEmbeddings)(head_dim, **at)
        for prefix in ("", "lora_", "qlora_"):
            recipe = {"model": {"_component_": f"torchtune.models.x.{prefix}{name}"}}
            ropes = configs.layer_ropes(recipe)
            assert len(ropes) == given["num_layers"], name
            assert len({*ropes}) == 1, name
        x = torch.randn(1, len(POSITIONS), 1, head_dim, generator=generator)
        turned = made(x, input_pos=POSITIONS[None]).transpose(1, 2)
        compare(name, ropes[0], head_dim, turned, x.transpose(1, 2))
    print(f"torchtune: {len(table.models)} models of {len(table.components)} components")


class _WithConfig:
    """What ``GPT.rope_cache`` reads of a model."""

    def __init__(self, config):
        self.config, self.max_seq_length = config, int(POSITIONS.max()) + 1


if __name__ == "__main__":
    litgpt()
    torchtune()
