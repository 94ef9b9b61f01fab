"""litgpt's Config, in model_config.yaml or lit_config.json → a mapping like config.json.

Source: ``Config`` in ``litgpt/config.py``, ``GPT.rope_cache``, ``build_rope_cache``, ``apply_rope`` and
``apply_rope_interleave`` in ``litgpt/model.py``, litgpt 0.5.13.
"""

from __future__ import annotations

from typing import Any

from rope_xp._config_reader.carriers.renamed import require_read, sizes
from rope_xp._config_reader.found import Found
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import (
    Config,
    get_bool,
    get_int,
    get_list,
    get_mapping,
    get_positive,
)
from rope_xp._config_reader.vocabulary import Layout, Rotary
from rope_xp._validation import quote

SIZES = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "head_size": "head_dim",
    "block_size": "max_position_embeddings",
}
DEFAULTS = {"n_embd": 4096, "n_head": 32, "n_layer": 16, "block_size": 4096}
# One of these tells a Config from a config.json that has n_embd, n_head and n_layer as well.
OWN_KEYS = {"rotary_percentage", "norm_class_name", "mlp_class_name", "rope_condense_ratio"}
KEYS = {
    "rotary_percentage",
    "rope_base",
    "rope_condense_ratio",
    "rope_adjustments",
    "rope_interleave",
    "rope_local_base_freq",
    "rope_indices",
    "rope_n_elem",  # an attribute of the object, which follows from the others
}
LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_seq_len": "original_max_position_embeddings",
}


def find(config: Config, layout: str | None) -> Found | None:
    """A Config of litgpt with the keys of config.json; None for another mapping.

    Raises
    ------
    ValueError
        If a key is of the wrong kind or not known, or if the schedule is litgpt's YaRN.
    """
    if "model_type" in config or not {"n_embd", "n_head"} <= {*config} or not OWN_KEYS & {*config}:
        return None
    require_read(config, KEYS, "a Config of litgpt")
    latent = get_mapping(config, "latent_attention")
    given = {**DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    found = sizes(given, SIZES)
    if latent:
        found.pop("head_dim", None)
        found["qk_rope_head_dim"] = get_int(latent, "qk_rope_head_dim", " in latent_attention")
    else:
        found["rotary_dim"] = _rotary_dim(config, found)
    ratio = get_positive(config, "rope_condense_ratio") or 1.0
    if ratio < 1:
        msg = f"`rope_condense_ratio` must be at least 1, got {quote(ratio)}"
        raise ValueError(msg)
    base = get_positive(config, "rope_base") or 10000.0
    local = get_positive(config, "rope_local_base_freq")
    parameters = {"rope_theta": base, **_schedule(config, ratio)}
    if local is None and config.get("rope_indices") is not None:
        msg = "`rope_local_base_freq` is required for rope_indices"
        raise ValueError(msg)
    indices = get_list(config, "rope_indices")
    of_local = None if local is None else {"rope_theta": local, **_linear(ratio)}
    differ = of_local is not None and indices is not None
    if differ:
        found["layer_types"] = _layer_types(indices or [], found["num_hidden_layers"])
        parameters = {"full_attention": parameters, "sliding_attention": of_local}
    elif of_local is not None:  # without indices all layers have it
        parameters = of_local
    found["rope_parameters"] = parameters
    is_interleaved = get_bool(config, "rope_interleave", default=False)
    family = Family(
        layout=Layout.INTERLEAVED if is_interleaved else Layout.HALF,
        rotary=Rotary.MLA if latent else Rotary.PARTIAL,
        per_layer_type=differ,
        source="litgpt/model.py:939",
        base=None if differ else base,
        base_keys={} if differ else (),
        rope_parameters=parameters if differ else None,
        rotary_dim_key="rotary_dim",
    )
    return Found(found, "litgpt", family, layout)


def _rotary_dim(config: Config, found: Config) -> int:
    """The features that rotate, which litgpt rounds down to a whole number."""
    share = config.get("rotary_percentage", 0.25)
    share = get_positive({"rotary_percentage": share}, "rotary_percentage") or 0.25
    head_dim = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    rotary_dim = int(share * head_dim)
    for key, value in (("rotary_percentage", share), ("rope_n_elem", config.get("rope_n_elem"))):
        is_count = key == "rope_n_elem" and value not in (None, rotary_dim)
        if is_count or rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
            msg = (
                f"`{key}` must give an even number of the {head_dim} features of a head, "
                f"got {quote(value)}"
            )
            raise ValueError(msg)
    return rotary_dim


def _schedule(config: Config, ratio: float) -> dict[str, Any]:
    """The rope parameters of rope_adjustments and rope_condense_ratio, but for the base."""
    given = get_mapping(config, "rope_adjustments")
    if not given:
        return _linear(ratio)
    where = " in rope_adjustments"
    for key in given:
        if key in {"beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}:
            msg = (
                f"`{key}`{where} must be absent: litgpt 0.5.13 blends YaRN's frequencies the other way "
                "round than the models it is for, so it is not known which of the two was trained"
            )
            raise ValueError(msg)
        if key not in LLAMA3:
            msg = f"unknown key {quote(key)}{where}; known: {', '.join(LLAMA3)}"
            raise ValueError(msg)
    if {*given} == {"factor"}:
        return _linear(ratio * (get_positive(given, "factor", where) or 1.0))
    for key in LLAMA3:
        if given.get(key) is None:
            msg = f"`{key}` is required{where}"
            raise ValueError(msg)
    if ratio != 1:
        msg = f"`rope_condense_ratio` must be 1 beside rope_adjustments, got {quote(ratio)}"
        raise ValueError(msg)
    return {"rope_type": "llama3", **{new: given[old] for old, new in LLAMA3.items()}}


def _linear(factor: float) -> dict[str, Any]:
    return {} if factor == 1 else {"rope_type": "linear", "factor": factor}


def _layer_types(indices: list[Any], n_layers: int) -> list[str]:
    """Layers of the local base, where rope_indices has 1, are called sliding_attention."""
    if len(indices) < n_layers or any(index not in (0, 1) for index in indices):
        msg = f"`rope_indices` must have n_layer={n_layers} numbers 0 or 1, got {quote(indices)}"
        raise ValueError(msg)
    return ["sliding_attention" if index else "full_attention" for index in indices[:n_layers]]
