"""Configs of litgpt and torchtune against the rotary code of these packages: ``python tests/parity/carriers.py``.

Of each package the files with the rotation are run as they are installed, without all else that the
package imports.
"""

import sys
import types
from dataclasses import asdict
from importlib import metadata

import torch

from rope_xp import configs

POSITIONS = torch.tensor([0, 1, 7, 1000, 4095])


def package(name):
    """An installed package whose ``__init__``, and so what it needs, is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(metadata.distribution(name).locate_file(name))]
    sys.modules[name] = module


def compare(what, rope, head_dim, turned, x):
    """Differences of the rotated features, where the source has float32 angles."""
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


class _WithConfig:
    """What ``GPT.rope_cache`` reads of a model."""

    def __init__(self, config):
        self.config, self.max_seq_length = config, int(POSITIONS.max()) + 1


if __name__ == "__main__":
    litgpt()
