"""Keys of published code about positions, by what they mean: for families that are in no table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rope_xp._config_reader.values import is_list


class InUse(NamedTuple):
    """What was found of a config's rotation; None where it is not known yet."""

    layout: str | None = None
    bases: tuple[float, ...] = ()
    head_dim: int | None = None
    rotary_dim: int | None = None


class Meaning(NamedTuple):
    """What a key means in published code: which values agree with what was found, and the remedy."""

    agrees: Callable[[Any, InUse], bool]
    remedy: str


def _fraction(value: Any, found: InUse) -> bool:
    if found.head_dim is None or found.rotary_dim is None:
        return bool(value == 1)
    return bool(value == found.rotary_dim / found.head_dim)


def _interleaved(value: Any, found: InUse) -> bool:
    return isinstance(value, bool) and found.layout == ("interleaved" if value else "half")


def _half(value: Any, found: InUse) -> bool:
    return isinstance(value, bool) and found.layout == ("half" if value else "interleaved")


def _no_layers(value: Any, found: InUse) -> bool:  # noqa: ARG001 - all rules have two arguments
    return value in (False, 0, 1) if isinstance(value, int) else is_list(value) and not value


def _is_rope(value: Any, found: InUse) -> bool:  # noqa: ARG001
    names = {"rope", "rotary", "rotary_embedding", "rotary_embeddings", "default"}
    return value is True or (isinstance(value, str) and value.lower() in names)


FRACTION = Meaning(_fraction, "write the share of the head that rotates as partial_rotary_factor")
HEAD = Meaning(lambda v, found: v == found.head_dim, "write the size of a head as head_dim")
BASE = Meaning(lambda v, found: v in found.bases, "write the base as rope_theta")
WIDTH = Meaning(
    lambda v, found: v == found.rotary_dim, "write the number of rotated features as rotary_dim"
)
FACTOR = Meaning(
    lambda v, _: v == 1 and not isinstance(v, bool),
    "if it multiplies the base, write the product as rope_theta; if it is a schedule, as rope_scaling",
)
ON = Meaning(lambda v, _: v is True, "the model must rotate: true or absent")
OFF = Meaning(lambda v, _: v is False or v == 0, "it must be false or absent: it is not read")
INTERLEAVED = Meaning(_interleaved, "true is layout='interleaved', false layout='half'")
HALF = Meaning(_half, "true is layout='half', false layout='interleaved'")
KIND = Meaning(_is_rope, "it must be 'rope' or 'rotary'")
LAYERS = Meaning(
    _no_layers,
    "layers differ: write layer_types, and rope_parameters with a mapping or null for each type",
)
AXES = Meaning(
    lambda v, _: v is False, "positions of several axes are read for families that are known"
)
MEANINGS: Mapping[str, Meaning] = {
    **dict.fromkeys(
        [
            "rotary_pct",
            "rope_pct",
            "rotary_percentage",
            "rotary_percent",
            "rope_percentage",
            "rope_percent",
            "rotary_emb_fraction",
            "rotary_fraction",
            "rope_fraction",
            "rotary_ratio",
            "pct_rotary",
        ],
        FRACTION,
    ),
    **dict.fromkeys(
        [
            "kv_channels",
            "attention_head_dim",
            "attention_head_size",
            "head_size",
            "head_hidden_size",
            "dim_head",
            "dim_per_head",
            "d_head",
            "d_kv",
            "d_k",
            "q_head_dim",
            "qk_head_dim",
        ],
        HEAD,
    ),
    **dict.fromkeys(
        [
            "position_embedding_base",
            "pos_emb_base",
            "freq_base",
            "freqs_base",
            "base_freq",
            "max_wavelength",
        ],
        BASE,
    ),
    **dict.fromkeys(
        [
            "rope_dim",
            "rope_dims",
            "rotary_dims",
            "rotary_ndims",
            "rotary_emb_dim",
            "rope_head_dim",
            "n_rot",
        ],
        WIDTH,
    ),
    **dict.fromkeys(
        [
            "rope_ratio",
            "rope_scale",
            "rope_factor",
            "rope_scaling_factor",
            "rotary_scaling_factor",
            "rope_position_scale",
            "rope_scaling_factors",
            "rotary_emb_scale",
            "seq_len_interpolation_factor",
            "position_interpolation_factor",
            "pos_interp_factor",
            "interpolation_factor",
            "longrope_factor",
            "ntk_factor",
            "ntk_alpha",
        ],
        FACTOR,
    ),
    **dict.fromkeys(
        [
            "use_rope",
            "rope",
            "use_rotary",
            "rotary",
            "use_rotary_embedding",
            "use_rotary_embeddings",
            "use_rope_embeddings",
            "use_rotary_emb",
            "use_rotary_pos_emb",
            "apply_rope",
            "apply_rotary",
            "original_rope",
            "rope_enabled",
            "use_pos_emb",
        ],
        ON,
    ),
    **dict.fromkeys(
        [
            "alibi",
            "use_alibi",
            "is_alibi",
            "use_alibi_mask",
            "relative_attention",
            "position_interpolation",
            "dynamic_ntk",
            "logn_attn",
            "use_dynamic_ntk",
            "use_dynamic_ntk_rope",
            "use_logn_attn",
            "attn_temperature_tuning",
            "attn_temperature_len",
            "log_scaling_alpha",
            "position_encoding_2d",
            "use_xpos",
            "xpos",
            "rotary_emb_scale_base",
            "rotary_value",
            "use_nope",
            "nope",
        ],
        OFF,
    ),
    **dict.fromkeys(
        [
            "rotary_emb_interleaved",
            "rope_interleave",
            "rope_interleaved",
            "rotary_interleaved",
            "interleaved_rope",
            "use_interleaved_rope",
            "rope_traditional",
            "gptj_style",
        ],
        INTERLEAVED,
    ),
    **dict.fromkeys(
        ["is_neox_style", "rope_is_neox_style", "use_neox_rotary_style", "neox_style"], HALF
    ),
    **dict.fromkeys(
        [
            "position_embedding_type",
            "position_encoding_type",
            "positional_embedding_type",
            "pos_embedding_type",
            "pos_emb_type",
            "position_embedding",
            "positional_embedding",
            "pos_emb",
            "pos_encoding",
            "rope_type",
            "rope_scaling_type",
            "rotary_type",
        ],
        KIND,
    ),
    **dict.fromkeys(
        [
            "no_rope_layers",
            "no_rope_layer_interval",
            "nope_layers",
            "nope_layer_interval",
            "rope_layers",
            "block_configs",
            "layer_rope_theta",
            "rope_scaling_layers",
            "sliding_window_pattern",
            "full_attention_interval",
            "global_attn_every_n_layers",
            "global_attention_layers",
            "full_attn_idxs",
            "attn_layer_indices",
            "attn_layer_period",
            "attn_layer_offset",
            "attn_type_list",
            "hybrid_layer_pattern",
            "hybrid_override_pattern",
            "layers_block_type",
            "block_types",
            "layer_group_size",
            "compress_ratios",
            "cross_attention_layers",
        ],
        LAYERS,
    ),
    **dict.fromkeys(
        [
            "mrope_section",
            "mrope_interleaved",
            "xdrope_section",
            "rope_section",
            "rope_axes",
            "use_mrope",
            "rope_2d",
        ],
        AXES,
    ),
}
