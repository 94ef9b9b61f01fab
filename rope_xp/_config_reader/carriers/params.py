"""The params.json of Meta's, Mistral's and DeepSeek's own code → a mapping like config.json.

All three turn pairs of neighbors, whatever transformers' copy of the model does: its converters permute
the weights. What a file does not say is what the published code has:

- Llama: ``ModelArgs`` and ``precompute_freqs_cis`` in ``llama/model.py`` of meta-llama/llama (0504cf4),
  ``models/llama3/args.py``, ``models/llama3/model.py`` (43e87a3) and ``models/llama4/args.py``,
  ``models/llama4/model.py`` (408c577) of meta-llama/llama-models;
- Mistral: ``mistral/model.py`` (372ba00, version 0.1) and ``src/mistral_inference/transformer.py``
  (16bb637) of mistralai/mistral-inference; the keys ``yarn`` and ``llama_4_scaling``, which are later,
  as ``vllm/transformers_utils/configs/mistral.py`` (01da88c) of vllm-project/vllm reads them;
- DeepSeek: ``inference/model.py`` of deepseek-ai/DeepSeek-V3 and DeepSeek-V3.2-Exp (6d8cb70).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rope_xp._config_reader.carriers.renamed import llama3, require_read, sizes
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.table import known_family
from rope_xp._config_reader.values import (
    Config,
    get_bool,
    get_int,
    get_mapping,
    get_positive,
)
from rope_xp._config_reader.vocabulary import LayerRule, Layout
from rope_xp._validation import quote

SIZES = {
    "dim": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
}
LLAMA_KEYS = {"rope_theta", "use_scaled_rope", "rope_scaling_factor", "rope_high_freq_factor"}
LLAMA4_KEYS = {"nope_layer_interval", "attention_chunk_size", "moe_args", "use_qk_norm", "ffn_exp"}
TEMPERATURE_KEYS = ("attn_temperature_tuning", "floor_scale", "attn_scale")
MISTRAL_KEYS = {"rope_theta", "max_position_embeddings", "yarn", "llama_4_scaling"}
MLA_SIZES = {"qk_rope_head_dim": "qk_rope_head_dim", "qk_nope_head_dim": "qk_nope_head_dim"}
DEEPSEEK_KEYS = {"rope_theta", "rope_factor", "qk_rope_head_dim", "qk_nope_head_dim"}

# The widths of Llama 3.2's language models. Their file says no more than that of Llama 3.1.
LLAMA_3_2_WIDTHS = (2048, 3072)
LLAMA_3_2_NOTE = (
    "the factor 32 is that of Llama 3.2's config.json and of torchtune 0.6.1, by the width of the model: "
    "the file does not say it, and the reference code of llama-models takes 8, that of Llama 3.1"
)


def find(config: Config, layout: str | None) -> Found | None:
    """A params.json with the keys of config.json; None for another mapping.

    Raises
    ------
    ValueError
        If a key is missing, of the wrong kind or not known, or if the model has no attention.
    """
    if config.get("model_type") == "mamba" and "dim" in config:
        msg = "`model_type` must be of a model with attention, got 'mamba'"
        raise ValueError(msg)
    if not {"dim", "n_layers", "n_heads"} <= {*config}:
        return None
    if config.get("model_type") not in (None, "transformer"):
        return None
    if "inter_dim" in config:
        return _deepseek(config, layout)
    if "norm_eps" not in config:  # other code has the same names of sizes
        if config.get("model_type") == "transformer":
            return None
        msg = "`model_type` is required, or `norm_eps` in a params.json of Meta's or Mistral's: got neither"
        raise ValueError(msg)
    return _mistral(config, layout) if "hidden_dim" in config else _llama(config, layout)


def _llama(config: Config, layout: str | None) -> Found:
    """Llama 1 to 4."""
    is_llama4 = any(config.get(key) is not None for key in LLAMA4_KEYS)
    name = "params.json llama4" if is_llama4 else "params.json llama"
    require_read(config, LLAMA_KEYS | ({"nope_layer_interval"} if is_llama4 else set()), name)
    found = sizes(config, SIZES)
    is_scaled = get_bool(config, "use_scaled_rope", default=False)
    found["rope_theta"] = get_positive(config, "rope_theta") or _llama_base(config, is_scaled)
    family = known_family("llama4_text" if is_llama4 else "llama")
    family = replace(family, layout=Layout.INTERLEAVED, reads_head_dim=False)
    factor = get_positive(config, "rope_scaling_factor")
    if is_scaled and factor is None and not is_llama4 and found["hidden_size"] in LLAMA_3_2_WIDTHS:
        factor, family = 32.0, replace(family, note=LLAMA_3_2_NOTE)
    if is_scaled:
        factor_of_code, high_of_code = (16.0, 1.0) if is_llama4 else (8.0, 4.0)
        high = get_positive(config, "rope_high_freq_factor") or high_of_code
        found["rope_scaling"] = llama3(factor or factor_of_code, high)
    if is_llama4:
        interval = get_int(config, "nope_layer_interval")
        if interval is None:
            family = replace(family, layers=LayerRule.EVERY_LAYER)
        found |= {"no_rope_layer_interval": interval, "attn_temperature_tuning": False}
        found |= {key: config[key] for key in TEMPERATURE_KEYS if config.get(key) is not None}
    return Found(found, name, family, layout)


def _llama_base(config: Config, is_scaled: bool) -> float:
    """The base that the code has where the file has none: that of Llama 1 and 2, or of Llama 3."""
    vocabulary = get_int(config, "vocab_size", minimum=-1)
    if vocabulary is None and not is_scaled:
        msg = "`rope_theta` is required where there is no vocab_size that distinguishes Llama 2 from 3"
        raise ValueError(msg)
    return 500000.0 if is_scaled or (vocabulary or 0) > 100_000 else 10000.0


def _mistral(config: Config, layout: str | None) -> Found:
    """Mistral, Mixtral, Pixtral, Ministral 3 and, with latent attention, Mistral Large 3."""
    name = "params.json mistral"
    is_mla = bool(config.get("qk_rope_head_dim"))
    names = {**SIZES, "max_position_embeddings": "max_position_embeddings"}
    require_read(config, MISTRAL_KEYS | ({*MLA_SIZES} if is_mla else set()), name)
    found = sizes(config, names | (MLA_SIZES if is_mla else {}))
    base = get_positive(config, "rope_theta")
    if base is None:  # version 0.1 had windows and no key for the base
        base = 10000.0 if config.get("sliding_window") is not None else 1e6
    yarn, query = get_mapping(config, "yarn"), get_mapping(config, "llama_4_scaling")
    parameters = {"rope_theta": base, **(_mistral_yarn(yarn, is_mla) if yarn else {})}
    if query:
        parameters["llama_4_scaling_beta"] = get_positive(query, "beta", " in llama_4_scaling")
        _require_same_length(query, yarn)
    found["rope_parameters"] = parameters
    family = known_family("mistral4" if is_mla else "ministral3" if query else "mistral")
    if not query:
        family = replace(family, note=None)
    family = replace(family, layout=Layout.INTERLEAVED, interleaved_key=None)
    return Found(found, name, family, layout)


def _mistral_yarn(yarn: Config, is_mla: bool) -> dict[str, Any]:
    names = {
        "factor": "factor",
        "original_max_position_embeddings": "original_max_position_embeddings",
        "beta": "beta_fast",
        "alpha": "beta_slow",
    }
    for key in yarn:
        if key not in {*names, "apply_scale"}:
            msg = f"unknown key {quote(key)} in yarn; known: {', '.join(names)}, apply_scale"
            raise ValueError(msg)
    if "factor" not in yarn or "original_max_position_embeddings" not in yarn:
        msg = "`factor` and `original_max_position_embeddings` are required in yarn"
        raise ValueError(msg)
    found = {new: get_positive(yarn, old, " in yarn") for old, new in names.items() if old in yarn}
    original = get_int(yarn, "original_max_position_embeddings", " in yarn")
    found["original_max_position_embeddings"] = original
    is_applied = get_bool(yarn, "apply_scale", " in yarn", default=True)
    if is_applied and is_mla:
        msg = "`apply_scale` in yarn must be false with latent attention, whose factors are not published"
        raise ValueError(msg)
    factor = {} if is_applied else {"attention_factor": 1.0}
    return {"rope_type": "yarn", **found, **factor}


def _require_same_length(query: Config, yarn: Config | None) -> None:
    """ValueError unless the query is scaled beyond the original length of yarn, as transformers has it."""
    key = "original_max_position_embeddings"
    length = get_int(query, key, " in llama_4_scaling")
    if yarn is None or length != yarn.get(key):
        got = None if yarn is None else yarn.get(key)
        msg = f"`{key}` in llama_4_scaling must be that in yarn, {quote(got)}, got {quote(length)}"
        raise ValueError(msg)


def _deepseek(config: Config, layout: str | None) -> Found:
    """DeepSeek V3, R1, V3.1 and V3.2, as their inference code reads it."""
    name = "params.json deepseek"
    require_read(config, DEEPSEEK_KEYS, name)
    names = {key: new for key, new in SIZES.items() if key != "head_dim"}
    found = {**sizes(config, names), "qk_rope_head_dim": get_int(config, "qk_rope_head_dim") or 64}
    found["rope_theta"] = get_positive(config, "rope_theta") or 10000.0
    original = get_int(config, "original_seq_len") or 4096
    if (get_int(config, "max_seq_len") or 16384) > original:
        mscale = get_positive(config, "mscale") or 1.0
        found["rope_scaling"] = {
            "rope_type": "yarn",
            "factor": get_positive(config, "rope_factor") or 40.0,
            "original_max_position_embeddings": original,
            "beta_fast": get_positive(config, "beta_fast") or 32.0,
            "beta_slow": get_positive(config, "beta_slow") or 1.0,
            "mscale": mscale,
            "mscale_all_dim": mscale,
        }
    family = replace(known_family("deepseek_v3"), interleaved_key=None, layout=Layout.INTERLEAVED)
    return Found(found, name, family, layout)
