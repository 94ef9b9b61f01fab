"""Attention with rotated queries and keys: softmax and linear attention, masks, and a KV cache."""

from rope_xp._exports import set_public_module
from rope_xp.attention._cache import KVCache
from rope_xp.attention._linear import linear_attention
from rope_xp.attention._masks import attention_mask, causal_mask, flex_mask_mod, tree_mask
from rope_xp.attention._ranges import rotate_ranges
from rope_xp.attention._softmax import attention
from rope_xp.attention._window_cache import WindowCache

__all__ = [
    "KVCache",
    "WindowCache",
    "attention",
    "attention_mask",
    "causal_mask",
    "flex_mask_mod",
    "linear_attention",
    "rotate_ranges",
    "tree_mask",
]

set_public_module(__name__)
