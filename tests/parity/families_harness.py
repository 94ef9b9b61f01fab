"""What transformers itself does with q and k, family by family, for ``parity.py`` to compare with.

::

    family = load("gemma3_text")
    for name, config in family.configs():          # the default config, and each schedule it accepts
        for layer_type in family.layer_types(config):      # (None,) where all layers are alike
            q, k = family.rotate(config, q, k, positions, layer_type=layer_type)
            w = family.inv_freq(config, layer_type=layer_type)

``q`` and ``k`` are torch tensors (batch, heads, seq, head_dim); ``positions`` int64 (batch, seq). All
is done by transformers' own rotary module and apply function, found in the family's modeling file.
Nothing here computes a frequency or turns a pair: the harness knows the *plumbing* of a family (which
class, which function, which slice), never its mathematics. Families that leave the common shape are
in EXCEPTIONS, each with its reason.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SCHEDULES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")


# ---------------------------------------------------------------------------------------------------------------------
# Exceptions: (what) and (why)
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plumbing:
    """Where a family leaves the common shape. Every field left at its default means "as everybody"."""

    why: str
    module: str | None = None  # modeling file, when it is not the config's own package
    rotary: str | None = (
        None  # class name, when the annotation of the class does not name this config
    )
    apply: str | None = None  # function name, when it is not apply_rotary_pos_emb
    runner: str | None = None  # name of one of the functions _run_* below
    overrides: dict = field(
        default_factory=dict
    )  # config fields without which the family has no rotary, or no head
    width: str | None = (
        None  # config field that holds the width of the slice given to the apply function
    )


def _p(why, **kwargs):
    return Plumbing(why, **kwargs)


EXCEPTIONS: dict[str, Plumbing] = {
    # --- which rotary class: several in one file -----------------------------------------------------------------
    "qwen2_5_omni_text": _p("two classes in the file", rotary="Qwen2_5OmniRotaryEmbedding"),
    "qwen2_5_omni_talker": _p("two classes in the file", rotary="Qwen2_5OmniRotaryEmbedding"),
    "qwen3_omni_moe_text": _p(
        "three classes in the file; the default config has heads of 73",
        rotary="Qwen3OmniMoeThinkerTextRotaryEmbedding",
        overrides={"head_dim": 128},
    ),
    "qwen3_omni_moe_talker_text": _p(
        "three classes in the file", rotary="Qwen3OmniMoeTalkerRotaryEmbedding"
    ),
    "qwen3_omni_moe_talker_code_predictor": _p(
        "three classes in the file", rotary="Qwen3OmniMoeRotaryEmbedding"
    ),
    "dots3_note_text": _p(
        "two classes in the file; MLA slice, of another width on sliding layers",
        rotary="Dots3NoteTextRotaryEmbedding",
        apply="apply_rotary_pos_emb_interleave",
    ),
    "dots3_note_audio_encoder": _p(
        "two classes in the file", rotary="Dots3NoteAudioRotaryEmbedding"
    ),
    "evolla": _p(
        "two classes in the file, the other is the protein encoder's",
        rotary="EvollaRotaryEmbedding",
    ),
    # --- which apply function: two in one file, no switch in the config --------------------------------------------
    "deepseek_v32": _p(
        "the plain function is the indexer's; the attention itself turns interleaved pairs",
        apply="apply_rotary_pos_emb_interleave",
    ),
    "axk2": _p(
        "the plain function is the indexer's; the attention itself turns interleaved pairs",
        apply="apply_rotary_pos_emb_interleave",
    ),
    "deepseek_ocr2_encoder": _p(
        "a language model used as vision encoder: one axis, half; the class is annotated with the outer config",
        rotary="DeepseekOcr2VisionRotaryEmbedding",
    ),
    # --- which module ----------------------------------------------------------------------------------------------
    "internlm3": _p(
        "registered on another family's classes", module="llama", rotary="LlamaRotaryEmbedding"
    ),
    "iquestcoder": _p(
        "registered on another family's classes", module="llama", rotary="LlamaRotaryEmbedding"
    ),
    "exaone": _p(
        "registered on another family's classes", module="llama", rotary="LlamaRotaryEmbedding"
    ),
    "sarvam_mla": _p(
        "registered on another family's classes",
        module="deepseek_v3",
        rotary="DeepseekV3RotaryEmbedding",
    ),
    "sarvam_moe": _p(
        "registered on another family's classes", module="glm4_moe", rotary="Glm4MoeRotaryEmbedding"
    ),
    # --- which slice --------------------------------------------------------------------------------------------------
    "mistral4": _p(
        "config.head_dim is nope + rope; the rotated slice is qk_rope_head_dim",
        width="qk_rope_head_dim",
    ),
    "longcat_flash": _p("MLA: the rotated slice is qk_rope_head_dim", width="qk_rope_head_dim"),
    # --- no rotary module at all ---------------------------------------------------------------------------------------
    "gptj": _p(
        "a table of sin|cos and a function for (batch, seq, heads, dim)", runner="_run_gptj"
    ),
    "codegen": _p(
        "a table of sin|cos and a function for (batch, seq, heads, dim)", runner="_run_gptj"
    ),
    "roformer": _p(
        "an embedding of sin|cos and a static method of the attention class", runner="_run_roformer"
    ),
    "clvp_encoder": _p(
        "rotary_dim = max(projection_dim // (2 heads), 32); values are turned too",
        rotary="ClvpRotaryPositionalEmbedding",
        runner="_run_clvp",
    ),
    # --- tables of another form -----------------------------------------------------------------------------------------
    "llama4_text": _p(
        "complex tables; (batch, seq, heads, dim)",
        apply="apply_rotary_emb",
        runner="_run_complex_bshd",
    ),
    "deepseek_v2": _p("complex tables", apply="apply_rotary_emb", runner="_run_complex_bhsd"),
    "esm": _p("rotary only if asked to", overrides={"position_embedding_type": "rotary"}),
    # --- fields that the default config leaves empty -----------------------------------------------------------------
    "zamba2": _p("rotary only if asked to", overrides={"use_mem_rope": True}),
    "granitemoehybrid": _p(
        "rotary only if asked to, and the default config has no attention layer",
        overrides={
            "position_embedding_type": "rope",
            "layer_types": ["linear_attention", "full_attention"] * 16,
        },
    ),
    "bamba": _p(
        "the default config has no attention layer", overrides={"attn_layer_indices": [9, 18, 27]}
    ),
    "glm4v_text": _p(
        "the default config has sections for 32 pairs and a table of 64",
        overrides={
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [8, 12, 12],
            }
        },
    ),
    "glm_image_text": _p(
        "the default config has sections for 32 pairs and a table of 64",
        overrides={
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [8, 12, 12],
            }
        },
    ),
    "glm4_moe": _p(
        "the default config has heads of 42, half of which is odd", overrides={"head_dim": 128}
    ),
    "glm4v_moe_text": _p(
        "the default config has heads of 42, which the sections do not fit",
        overrides={"head_dim": 128},
    ),
    "hunyuan_vl_text": _p(
        "the default config has no sections",
        overrides={
            "head_dim": 128,
            "rope_parameters": {
                "rope_type": "xdrope",
                "alpha": 1000.0,
                "factor": 1.0,
                "xdrope_section": [16, 16, 16, 16],
            },
        },
    ),
    "cohere_compass_text": _p(
        "the default config has no rope_parameters, which its nested rotary needs",
        overrides={
            "layer_types": ["sliding_attention", "full_attention"] * 20,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 50000.0},
                "full_attention": None,
            },
        },
    ),
    "hunyuan_v1_dense": _p(
        "the attention reads config.head_dim, which the default leaves empty",
        overrides={"head_dim": 128},
    ),
    "hunyuan_v1_moe": _p(
        "the attention reads config.head_dim, which the default leaves empty",
        overrides={"head_dim": 128},
    ),
    # --- two tables in one model --------------------------------------------------------------------------------------
    "molmo2_text": _p(
        "layers outside rope_scaling_layers use the unscaled table", runner="_run_molmo2"
    ),
    "granite_swa": _p(
        "one module per base in layer_rope_theta; 0 means no rotary", runner="_run_layer_theta"
    ),
    "granitemoe_swa": _p(
        "one module per base in layer_rope_theta; 0 means no rotary", runner="_run_layer_theta"
    ),
}

# The attention class of these cuts the head before the apply function, which takes the rotated part only.
CUT_BY_ATTENTION = {"persimmon", "phi", "stablelm", "gpt_neox_japanese"}


# ---------------------------------------------------------------------------------------------------------------------
# Discovery
# ---------------------------------------------------------------------------------------------------------------------


@functools.cache
def _rotary_classes(path: Path) -> tuple[tuple[str, str], ...]:
    """(class name, annotated config class) of the text rotary classes of one modeling file, read without importing it."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ClassDef) or not re.search(
            r"Rotary(Positional)?Embedding$", node.name
        ):
            continue
        if re.search(r"Vision|ViT|axial", ast.unparse(node)) and "axial" in ast.unparse(node):
            continue  # two axes, images
        annotation = ""
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                annotation = " ".join(
                    ast.unparse(a.annotation) for a in item.args.args[1:] if a.annotation
                )
        found.append((node.name, annotation))
    return tuple(found)


def _modeling_files(model_type: str) -> list[tuple[str, Path]]:
    """(import path, file) of the modeling files of the package that defines the config."""
    exception = EXCEPTIONS.get(model_type)
    if exception and exception.module:
        package = f"transformers.models.{exception.module}"
    else:
        package = CONFIG_MAPPING[model_type].__module__.rsplit(".", 1)[0]
    folder = Path(importlib.import_module(package).__file__).parent
    return [(f"{package}.{path.stem}", path) for path in sorted(folder.glob("modeling_*.py"))]


def _find_rotary(model_type: str) -> tuple[str, str] | None:
    """(module, class) of the rotary class that this config feeds, or None."""
    exception = EXCEPTIONS.get(model_type)
    config_class = CONFIG_MAPPING[model_type].__name__
    candidates = [
        (module, *c) for module, path in _modeling_files(model_type) for c in _rotary_classes(path)
    ]
    if exception and exception.rotary:
        return next((m, name) for m, name, _ in candidates if name == exception.rotary)
    exact = [(m, name) for m, name, ann in candidates if re.search(rf"\b{config_class}\b", ann)]
    if exact:
        return exact[0]
    return candidates[0][:2] if len(candidates) == 1 else None


class Family:
    """The plumbing of one model_type."""

    def __init__(self, model_type: str):
        self.model_type = model_type
        self.exception = EXCEPTIONS.get(model_type, _p(""))
        found = (
            _find_rotary(model_type)
            if self.exception.runner not in ("_run_gptj", "_run_roformer")
            else None
        )
        if found:
            self.module_name, self.rotary_name = found
        else:
            self.module_name, self.rotary_name = _modeling_files(model_type)[0][0], None

    @functools.cached_property
    def module(self):
        return importlib.import_module(self.module_name)

    # --- configs -----------------------------------------------------------------------------------------------------

    def config(self, **changes):
        """The default config as an instance, with the fields set without which the family has no rotary."""
        return CONFIG_MAPPING[self.model_type](**{**self.exception.overrides, **changes})

    def configs(self):
        """(name, config): the default, and one config per schedule that the family accepts."""
        yield "default config", self.config()
        for schedule in SCHEDULES:
            config = self.scheduled(schedule)
            if config is not None:
                yield schedule, config

    def scheduled(self, schedule: str):
        """The default config with its rope_parameters put on `schedule`, or None where the family refuses it."""
        config = self.config()
        parameters = getattr(config, "rope_parameters", None)
        if not isinstance(parameters, dict) or self.rotary_name is None:
            return None
        nested = [k for k, v in parameters.items() if isinstance(v, dict) and "rope_theta" in v]
        try:
            if nested:
                parameters = copy.deepcopy(parameters)
                for key in nested:
                    pairs = self._pairs(config, key)
                    parameters[key] = _scheduled(parameters[key], schedule, pairs, self.model_type)
            else:
                parameters = _scheduled(
                    parameters, schedule, self._pairs(config, None), self.model_type
                )
            config = self.config()
            config.rope_parameters = parameters
            if schedule in ("yarn", "longrope", "llama3") and getattr(
                config, "max_position_embeddings", None
            ):
                config.max_position_embeddings = 4 * 1024
            if hasattr(config, "original_max_position_embeddings"):
                config.original_max_position_embeddings = 1024
            config.standardize_rope_params()
            for layer_type in self.layer_types(config):
                q = torch.zeros(1, 1, 1, self.head_dim(config, layer_type))
                self.rotate(
                    config, q, q, torch.zeros(1, 1, dtype=torch.int64), layer_type=layer_type
                )
        except Exception as error:  # noqa: BLE001 - whatever the family raises is its way of refusing
            self.__dict__.setdefault("refused", {})[schedule] = repr(error)[:160]
            return None
        return config

    def _pairs(self, config, layer_type):
        rotary = self.rotary(config)
        if layer_type is not None and not hasattr(rotary, f"{layer_type}_inv_freq"):
            return 2  # a label of rope_parameters that no layer of this config bears: never built
        return self.inv_freq_of(rotary, layer_type).shape[-1]

    # --- the pieces ----------------------------------------------------------------------------------------------------

    def rotary(self, config):
        if self.rotary_name is None:
            return None
        return getattr(self.module, self.rotary_name)(config)

    def layer_types(self, config) -> tuple:
        """The names under which the family keeps different tables; (None,) if there is one table."""
        if self.exception.runner == "_run_molmo2":
            return ("scaled", "unscaled")
        if self.exception.runner == "_run_layer_theta":
            return tuple(sorted({theta for theta in config.layer_rope_theta if theta}))
        if self.rotary_name is None:
            return (None,)
        rotary = self.rotary(config)
        names = [
            n[: -len("_inv_freq")] for n, _ in rotary.named_buffers() if n.endswith("_inv_freq")
        ]
        names = sorted(n for n in names if n != "original" and not n.endswith("_original"))
        return tuple(names) or (None,)

    def head_dim(self, config, layer_type=None) -> int:
        """Width of the q and k that the rotary part of the attention is given (MLA: the rotated slice)."""
        if self.exception.runner == "_run_clvp":
            return config.hidden_size // config.num_attention_heads
        if self.exception.runner in ("_run_gptj", "_run_roformer"):
            return config.hidden_size // config.num_attention_heads
        if self.model_type == "dots3_note_text":
            return 2 * self.inv_freq(config, layer_type).shape[-1]
        if layer_type is not None and getattr(config, "is_heterogeneous", False):
            first = list(config.layer_types).index(layer_type)
            config = config.per_layer_config[first]
        if self.exception.width:
            return getattr(config, self.exception.width)
        return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def inv_freq_of(self, rotary, layer_type):
        name = f"{layer_type}_inv_freq"
        return (
            getattr(rotary, name)
            if isinstance(layer_type, str) and hasattr(rotary, name)
            else rotary.inv_freq
        )

    def inv_freq(self, config, layer_type=None):
        """The frequencies as the module holds them after it is built (float32), or None where there is no module."""
        rotary = self._module_for(config, layer_type)
        return None if rotary is None else self.inv_freq_of(rotary, layer_type).clone()

    def attention_scaling(self, config, layer_type=None) -> float:
        rotary = self._module_for(config, layer_type)
        if isinstance(layer_type, str) and hasattr(rotary, f"{layer_type}_attention_scaling"):
            return float(getattr(rotary, f"{layer_type}_attention_scaling"))
        return float(getattr(rotary, "attention_scaling", 1.0))

    def _module_for(self, config, layer_type):
        if self.rotary_name is None:
            return None
        if self.exception.runner == "_run_molmo2":
            return getattr(self.module, self.rotary_name)(config, scaled=layer_type != "unscaled")
        if self.exception.runner == "_run_layer_theta" and layer_type is not None:
            config = copy.copy(config)
            config.rope_parameters = {**config.rope_parameters, "rope_theta": layer_type}
        return self.rotary(config)

    def tables(self, config, positions, layer_type=None, *, dtype=torch.float32, rotary=None):
        """What the rotary module returns: (cos, sin), or one complex tensor."""
        rotary = self._module_for(config, layer_type) if rotary is None else rotary
        x = torch.zeros(1, dtype=dtype)
        named = isinstance(layer_type, str) and hasattr(rotary, f"{layer_type}_inv_freq")
        return rotary(x, positions, layer_type=layer_type) if named else rotary(x, positions)

    # --- the call ------------------------------------------------------------------------------------------------------

    def rotate(self, config, q, k, positions, *, layer_type=None, rotary=None):
        """transformers' own rotated q and k. `rotary` reuses a module (dynamic schedules keep state in it)."""
        run = getattr(self, self.exception.runner) if self.exception.runner else self._run
        with torch.no_grad():
            return run(config, q, k, positions, layer_type, rotary)

    @functools.cached_property
    def apply_name(self):
        if self.exception.apply:
            return self.exception.apply
        return (
            "apply_rotary_pos_emb"
            if hasattr(self.module, "apply_rotary_pos_emb")
            else "apply_rotary_pos_emb_interleave"
        )

    def _apply(self, config):
        name = self.apply_name
        # The DeepSeek line has both functions and a switch in the config.
        if name == "apply_rotary_pos_emb" and getattr(config, "rope_interleave", False):
            name = "apply_rotary_pos_emb_interleave"
        return getattr(self.module, name)

    def _run(self, config, q, k, positions, layer_type, rotary):
        cos, sin = self.tables(config, positions, layer_type, dtype=q.dtype, rotary=rotary)
        apply = self._apply(config)
        width = cos.shape[-1]
        cut = self.model_type in CUT_BY_ATTENTION
        q_in, k_in = (q[..., :width], k[..., :width]) if cut else (q, k)
        if list(inspect.signature(apply).parameters)[1] in (
            "cos",
            "freqs_cis",
        ):  # one tensor at a time
            q_out, k_out = apply(q_in, cos, sin), apply(k_in, cos, sin)
        else:
            q_out, k_out = apply(q_in, k_in, cos, sin)
        if cut:
            q_out, k_out = (
                torch.cat((q_out, q[..., width:]), -1),
                torch.cat((k_out, k[..., width:]), -1),
            )
        return q_out, k_out

    def _run_molmo2(self, config, q, k, positions, layer_type, rotary):
        return self._run(
            config, q, k, positions, None, rotary or self._module_for(config, layer_type)
        )

    def _run_layer_theta(self, config, q, k, positions, layer_type, rotary):
        return self._run(
            config, q, k, positions, None, rotary or self._module_for(config, layer_type)
        )

    def _run_complex_bshd(self, config, q, k, positions, layer_type, rotary):
        freqs = self.tables(config, positions, layer_type, rotary=rotary)
        q, k = self._apply(config)(q.transpose(1, 2), k.transpose(1, 2), freqs)
        return q.transpose(1, 2), k.transpose(1, 2)

    def _run_complex_bhsd(self, config, q, k, positions, layer_type, rotary):
        return self._apply(config)(q, k, self.tables(config, positions, layer_type, rotary=rotary))

    def _run_gptj(self, config, q, k, positions, layer_type, rotary):
        dim = config.rotary_dim or self.head_dim(config)
        table = self.module.create_sinusoidal_positions(int(positions.max()) + 1, dim)
        sin, cos = table[positions].split(dim // 2, dim=-1)
        out = []
        for x in (q, k):
            x = x.transpose(1, 2)
            turned = self.module.apply_rotary_pos_emb(
                x[..., :dim], sin.to(x.dtype), cos.to(x.dtype)
            )
            out.append(torch.cat((turned, x[..., dim:]), -1).transpose(1, 2))
        return tuple(out)

    def _run_roformer(self, config, q, k, positions, layer_type, rotary):
        dim = self.head_dim(config)
        embedding = self.module.RoFormerSinusoidalPositionalEmbedding(int(positions.max()) + 1, dim)
        embedding.weight = torch.nn.Parameter(embedding.create_weight(), requires_grad=False)
        table = embedding(None, position_ids=positions)[:, None]
        return self.module.RoFormerSelfAttention.apply_rotary_position_embeddings(table, q, k)

    def _run_clvp(self, config, q, k, positions, layer_type, rotary):
        rotary = rotary or self.rotary(config)
        angles = rotary(torch.zeros(1, int(positions.max()) + 1, 1)).squeeze(0)
        dim = angles.shape[-1]
        parts = [x[..., :dim] for x in (q, k, k)]
        q_out, k_out, _ = self.module.apply_rotary_pos_emb(
            *parts, angles.cos(), angles.sin(), positions
        )
        return torch.cat((q_out, q[..., dim:]), -1), torch.cat((k_out, k[..., dim:]), -1)


def _scheduled(parameters: dict, schedule: str, pairs: int, model_type: str) -> dict:
    """`parameters` put on `schedule`, keeping base, partial factor and sections."""
    kept = {
        key: value
        for key, value in parameters.items()
        if key
        in (
            "rope_theta",
            "partial_rotary_factor",
            "mrope_section",
            "mrope_interleaved",
            "llama_4_scaling_beta",
        )
        or key == "max_position_embeddings"
    }
    if parameters.get("rope_type") == "proportional" and schedule != "proportional":
        kept.pop(
            "partial_rotary_factor", None
        )  # there it is no width: the apply function takes the whole head
    if schedule == "default":
        extra = {}
    elif schedule in ("linear", "dynamic"):
        extra = {"factor": 4.0}
    elif schedule == "yarn":
        extra = {"factor": 4.0, "original_max_position_embeddings": 1024}
    elif schedule == "llama3":
        extra = {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 1024,
        }
    elif schedule == "longrope":
        extra = {
            "short_factor": [1.0 + 0.01 * i for i in range(pairs)],
            "long_factor": [1.0 + 0.25 * i for i in range(pairs)],
            "original_max_position_embeddings": 1024,
            "factor": 4.0,
        }
        if model_type == "phimoe":
            extra |= {"short_mscale": 1.1, "long_mscale": 1.2}
    elif schedule == "proportional":
        extra = {"partial_rotary_factor": parameters.get("partial_rotary_factor", 0.5)}
    if "llama_4_scaling_beta" in kept:  # whose length that is
        extra.setdefault("original_max_position_embeddings", 1024)
    return {**kept, **extra, "rope_type": schedule}


@functools.cache
def load(model_type: str) -> Family:
    return Family(model_type)
