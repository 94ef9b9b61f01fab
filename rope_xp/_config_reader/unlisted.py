"""The family of a model_type that is in no table."""

from __future__ import annotations

from rope_xp._config_reader.meanings import InUse
from rope_xp._config_reader.parts import is_tower, no_name_of_tower
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.table import tables, why_left_out
from rope_xp._config_reader.unread import unread
from rope_xp._config_reader.values import Config
from rope_xp._config_reader.vocabulary import BASE_KEYS, Layout, Rotary
from rope_xp._validation import quote, shorten

# Other names of sizes; each counts where the usual one is absent.
ALIASES = {
    "num_layers": "num_hidden_layers",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "num_transformer_layers": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_embed": "hidden_size",
    "d_model": "hidden_size",
    "model_dim": "hidden_size",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "max_sequence_length": "max_position_embeddings",
}
# Keys of the base; those of one layer type among several are no other names of it.
BASES = tuple(
    key
    for key in BASE_KEYS
    if not key.startswith(("global", "local", "swa", "compress", "rope_local"))
)


def unlisted_family(
    config: Config, model_type: str, layout: str | None, *, name: str | None = None
) -> Family:
    """The rule of Llama for a family that is in no table, whose pairing must be given.

    ``name`` is what the tables call it, if that is not its model_type.
    """
    reason = why_left_out(name or model_type)
    if reason is not None:
        msg = f"`model_type` must be of a covered family, got {quote(model_type)}: {reason}"
        if config.get("auto_map") is not None:
            msg += (
                " in transformers; if the file's own code (auto_map) rotates q and k, give it another "
                "model_type, and layout="
            )
        raise ValueError(msg)
    if not model_type and is_tower(config):  # a pairing would not be enough: it has axes
        raise ValueError(no_name_of_tower(config))
    if layout is None:
        raise ValueError(_unknown(config, model_type))
    is_mla = _is_mla(config)
    return Family(
        layout=Layout(layout),
        rotary=Rotary.MLA if is_mla else Rotary.GENERIC,
        per_layer_type=False,
        source="",
        base_keys=tuple(key for key in BASES if key == "rope_theta" or config.get(key) is not None),
        aliases=_aliases(config),
        mscale_softmax=is_mla,
    )


def _is_mla(config: Config) -> bool:
    return bool(config.get("qk_rope_head_dim")) and config.get("use_mla") is not False


def _aliases(config: Config) -> dict[str, str]:
    found = {old: new for old, new in ALIASES.items() if config.get(old) is not None}
    return {old: new for old, new in found.items() if config.get(new) is None}


def _unknown(config: Config, model_type: str) -> str:
    """What to do about a model_type that is not known, and what the rule of Llama would make of it."""
    import difflib  # noqa: PLC0415 - takes a tenth of the time of a config

    unknown = (
        f"unknown model_type {quote(model_type)}" if model_type else "`model_type` is required"
    )
    parts = [f'{unknown}: pass layout="half" or layout="interleaved"']
    names = [name for table in tables() for name in (*table.lines, *table.same_as)]
    near = difflib.get_close_matches(model_type, names, 1, 0.8) if model_type else []
    if near:
        parts.append(f"or write {near[0]!r}")
    msg = ", ".join(parts)
    if not model_type:
        return msg
    msg += f" for Llama's rule, which would be {_rule_of_llama(config)}"
    auto_map = config.get("auto_map")
    if auto_map is not None:
        msg += f"; its own code says how it rotates, in auto_map: {quote(auto_map)}"
    keys = [key for key, _ in unread(config, InUse())]
    if keys:
        msg += f"; keys that this rule does not read and that could change the rotation: {shorten(', '.join(keys))}"
    return msg


def _rule_of_llama(config: Config) -> str:
    """What is read for a family that is not known, in words; without checks."""
    values = {**config, **{new: config[old] for old, new in _aliases(config).items()}}
    key = next((key for key in BASES if values.get(key) is not None), None)
    base = (
        "no base (rope_theta is missing)" if key is None else f"base {quote(values[key])} ({key})"
    )
    if _is_mla(config):
        rotated = f"{quote(values['qk_rope_head_dim'])} features (qk_rope_head_dim)"
    elif values.get("rotary_dim") or values.get("partial_rotary_factor"):
        rotated = "a part of the head (rotary_dim or partial_rotary_factor)"
    elif values.get("head_dim") is not None:
        rotated = f"the whole head of {quote(values['head_dim'])} (head_dim)"
    else:
        rotated = "the whole head (hidden_size / num_attention_heads)"
    schedule = "rope_scaling" if values.get("rope_scaling") else "no schedule"
    return f"{base}, {rotated}, {schedule}"
