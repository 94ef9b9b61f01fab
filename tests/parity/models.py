"""Tiny models of transformers through ``diagnose_model``: ``python tests/parity/models.py [MODEL_TYPE ...]``.

Each family's default config is made small, a model of it gets random weights, and what its layers do is
compared with `layer_ropes`. One line each, and counts at the end; the run fails if a model differs from its config
without being in `DIFFERENT`, or if fewer than `FEWEST` families can be seen.
"""

import importlib
import inspect
import os
import sys
import time
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
warnings.simplefilter("ignore")

import torch
from families_harness import EXCEPTIONS
from transformers import AutoModel, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rope_xp._config_reader.families import known_family
from rope_xp._config_reader.table import read_table
from rope_xp.axes import Axial
from rope_xp.testing import diagnose_model

# Model types whose model in transformers does something else than the published one, which is followed.
DIFFERENT = {"hy_v4", "minimax_m3_vl_text"}  # `DEPARTURES` in families.py has the sources
FEWEST = 140

# Sizes that change no rotation: width of the model, counts of heads, experts and layers.
SMALL = {
    "vocab_size": 96,
    "vocab_size_per_layer_input": 96,
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "hidden_size_per_layer_input": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LAYERS = 8
# Of recurrent layers in Python: most of a minute each. They run if they are named.
SLOW = {"qwen3_5_moe_text", "qwen3_5_text"}


def small(model_type):
    """The default config with few and narrow layers, but heads as they are."""
    made = CONFIG_MAPPING[model_type]
    default = made(**SIZES.get(model_type, {}))
    has = default.to_dict()
    given = {}
    named = getattr(default, "attribute_map", {})

    def put(key, value):
        name = named.get(key, key)
        if isinstance(has.get(name), int) and not isinstance(has[name], bool):
            given[name] = value if "token_id" in name else min(value, has[name])

    for key, value in SMALL.items():
        put(key, value)
    heads = has.get(named.get("num_attention_heads", "num_attention_heads"))
    width = has.get(named.get("hidden_size", "hidden_size"))
    few = given.get(named.get("num_attention_heads", "num_attention_heads"))
    if isinstance(has.get("head_dim"), int):
        given["head_dim"] = has["head_dim"]
    elif heads and width and few:
        given[named.get("hidden_size", "hidden_size")] = width // heads * few
    keys = named.get("num_key_value_heads", "num_key_value_heads")
    if has.get(keys) == heads and keys in given:
        given[keys] = few
    count = next(
        (
            n
            for n in ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
            if isinstance(has.get(n), int)
        ),
        None,
    )
    if count:
        given[count] = min(LAYERS, has[count])
        for name, value in has.items():  # a list with an entry for each layer
            if isinstance(value, list) and len(value) == has[count]:
                given[name] = value[:LAYERS]
    return made(**{**given, **SIZES.get(model_type, {})})


SIZES = {model_type: plumbing.overrides for model_type, plumbing in EXCEPTIONS.items()} | {
    "bamba": {"attn_layer_indices": [1, 4]},
    "deepseek_v2": {"num_experts_per_tok": 2},
}


def make(model_type):
    torch.manual_seed(0)
    config = small(model_type)
    model = build(model_type, config)
    for parameter in model.parameters():  # what is learned from zero on
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def build(model_type, config):
    causal = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    try:
        return (AutoModelForCausalLM if causal else AutoModel).from_config(config).eval()
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
    # A part of a composite, which has no automatic class: the first that takes tokens.
    place = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    for made in vars(place).values():
        is_one = isinstance(made, type) and getattr(made, "config_class", None) is type(config)
        if is_one and "input_ids" in inspect.signature(made.forward).parameters:
            return made(config).eval()
    msg = "no class takes tokens"
    raise ValueError(msg)


def describe(model_type):
    """What was found: "same", "differs", "not seen" or "no model", and more about it."""
    try:
        model = make(model_type)
    except Exception as error:  # noqa: BLE001  # of transformers' models, anything
        return (
            "no model",
            f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}",
        )
    try:
        found = diagnose_model(model)
    except (ValueError, TypeError) as error:
        return "not seen", f"{type(error).__name__}: {str(error)[:250]}"
    if found.differences:
        return "differs", "; ".join(found.differences)[:600]
    if not found.is_same:
        return (
            "not seen",
            f"layers {found.not_seen}: {found.layers[found.not_seen[0]].remarks} {found.remarks}",
        )
    kinds = {layer._row()[:5] for layer in found.layers}
    return "same", f"{len(found.layers)} layers, {len(kinds)} kinds; {'; '.join(found.remarks)}"


def main(names):
    counts, failed, begin = {}, 0, time.monotonic()
    for model_type in names or sorted(read_table().lines):
        if model_type not in CONFIG_MAPPING or isinstance(known_family(model_type).axes, Axial):
            continue  # of an image's grid, which has no position_ids
        if model_type in SLOW and not names:
            continue
        started = time.monotonic()
        kind, more = describe(model_type)
        counts[kind] = counts.get(kind, 0) + 1
        failed += kind == "differs" and model_type not in DIFFERENT
        seconds = time.monotonic() - started
        print(f"{model_type:<36} {kind:<9} {seconds:5.1f} s  {more}", flush=True)
    print(f"{counts}, {time.monotonic() - begin:.0f} s")
    return failed or (not names and counts.get("same", 0) < FEWEST)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
