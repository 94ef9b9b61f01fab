"""The closed sets of names in ``families.json`` and configs, and what each name means."""

from __future__ import annotations

from enum import StrEnum

# What configs call the types of layers. The second set has no attention, so nothing to rotate.
ATTENTION = frozenset(
    {
        "attention",
        "chunked_attention",
        "compressed_sparse_attention",
        "full_attention",
        "global_attention",
        "heavily_compressed_attention",
        "hybrid",
        "hybrid_sliding",
        "indexed_attention",
        "local_attention",
        "minimax_m3_sparse",
        "reference_sliding_attention",
        "sliding_attention",
        "window_attention",
    }
)
NO_ATTENTION = frozenset({"linear_attention", "conv", "mamba", "mamba2", "recurrent", "moe", "mlp"})
LAYER_TYPES = ATTENTION | NO_ATTENTION
OLD_LAYER_TYPES = {
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}
# DeepSeek V4 keeps its rope parameters under these instead of the layer types.
MAIN, COMPRESS = "main", "compress"

# Where configs keep the base. One that a family does not read must not be there, unless it says the
# same as the one that is read.
BASE_KEYS = (
    "rope_theta",
    "rotary_emb_base",
    "rotary_embedding_base",
    "rope_base",
    "rotary_base",
    "rope_freq_base",
    "rope_base_freq",
    "rope_embedding_base",
    "rope_freq_constant",
    "rope_local_base_freq",
    "global_rope_theta",
    "local_rope_theta",
    "swa_rope_theta",
    "compress_rope_theta",
)
# The sizes of a config that the reader asks for.
SIZE_KEYS = frozenset(
    {
        "head_dim",
        "hidden_size",
        "layer_types",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "original_max_position_embeddings",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
    }
)
# What a family's ``aliases`` may be other names of.
ALIASED_KEYS = SIZE_KEYS | {"partial_rotary_factor", "rope_theta", "rotary_dim"}
# Keys that say how much of a head rotates, and that a family can have without reading them.
PARTIAL_KEYS = frozenset({"partial_rotary_factor", "rotary_dim", "rotary_pct"})


class Layout(StrEnum):
    """Which two features are a pair."""

    HALF = "half"
    INTERLEAVED = "interleaved"


class Rotary(StrEnum):
    """Which part of a head rotates."""

    #: All of it; a partial_rotary_factor must be 1.
    WHOLE = "whole"
    #: The fraction partial_rotary_factor of its features, the first ones.
    PARTIAL = "partial"
    #: Latent attention: the slice of qk_rope_head_dim features, which is all that is described.
    MLA = "mla"
    #: All that the position axes can share equally; the last features are left over.
    AXES = "axes"
    #: GPT-J: the first ``rotary_dim`` features, or all where that is null.
    SPECIAL_GPTJ = "special_gptj"
    #: CLVP: projection_dim // (2 num_attention_heads) features, and at least 32.
    SPECIAL_CLVP = "special_clvp"
    #: A family that is not in the table: whole, by partial_rotary_factor or by rotary_dim.
    GENERIC = "generic"


class Direction(StrEnum):
    """Which way pairs turn."""

    POSITIVE = "positive"
    #: By −θ, as in nanochat.
    NEGATIVE = "negative"


class LayerRule(StrEnum):
    """Which layers rotate, of those that have attention; some rules say more than that."""

    EVERY_LAYER = "every_layer"
    #: Layers of type sliding_attention.
    SLIDING_ONLY = "sliding_only"
    #: The same, but all layers where the config has sliding_window: null.
    SLIDING_ONLY_IF_WINDOWED = "sliding_only_if_windowed"
    #: Layers of type sliding_attention, and those that mlp_layer_types calls dense, if
    #: prefix_dense_sliding_window_pattern is 1 or absent.
    SLIDING_OR_DENSE_PREFIX = "sliding_or_dense_prefix"
    #: Where the list no_rope_layers has 1; without it, all but every no_rope_layer_interval-th.
    NO_ROPE_LAYERS = "no_rope_layers"
    #: Where the list layer_rope_theta is not 0; without it, all but every fourth, from the last on.
    NONZERO_LAYER_ROPE_THETA = "nonzero_layer_rope_theta"
    #: Where the list layer_rope_theta is not 0, and its numbers are the bases.
    LAYER_ROPE_THETA = "layer_rope_theta"
    #: All but the layers whose numbers are in cross_attention_layers.
    NO_CROSS_ATTENTION = "no_cross_attention"
    #: All, but only those whose numbers are in rope_scaling_layers are scaled.
    ROPE_SCALING_LAYERS = "rope_scaling_layers"
    #: All but those whose mapping in block_configs says that there is no attention.
    BLOCK_CONFIGS = "block_configs"
    #: All; sliding_attention by the rope parameters "main", the others by "compress".
    MAIN_OR_COMPRESS = "main_or_compress"


class QueryScaleKind(StrEnum):
    """What queries are multiplied by: the classes of `rope_xp.scaling`."""

    FLOOR_LOG = "FloorLogScale"
    LOG = "LogScale"
    POWER = "PowerScale"
    LEARNED_LOG = "LearnedLogScale"


class ScaledLayers(StrEnum):
    """In which layers with attention queries are multiplied."""

    ALL = "all"
    WITHOUT_ROTATION = "without_rotation"


class LayerTypesFrom(StrEnum):
    """The key that says what layers are called where a config has no layer_types."""

    #: A cycle of names, for as many layers as there are.
    BLOCK_TYPES = "block_types"
    #: Numbers of the layers with attention.
    ATTN_LAYER_INDICES = "attn_layer_indices"
    FULL_ATTN_IDXS = "full_attn_idxs"
    #: A list with 1 for softmax attention, which rotates, and 0 for linear attention, which does not.
    ATTN_TYPE_LIST = "attn_type_list"


class AxesKind(StrEnum):
    """Which position axis drives which pair: the classes of `rope_xp.axes`."""

    #: Every axis has pairs of its own; the fields are those of the class.
    AXIAL = "Axial"
    #: By the config's mrope_section, or by the one here where it has none.
    SECTIONS = "Sections"
    INTERLEAVED_SECTIONS = "InterleavedSections"
    #: The same, in the order of ``runs``; without mrope_section, one run over all pairs.
    AXIS_PER_PAIR = "AxisPerPair"
