"""Attention with rotated queries and keys: softmax and linear attention, masks, and a KV cache."""

from rope_xp._exports import set_public_module
from rope_xp.attention._cache import KVCache
from rope_xp.attention._linear import linear_attention
from rope_xp.attention._ranges import rotate_ranges
from rope_xp.attention._softmax import attention, causal_mask

__all__ = ["KVCache", "attention", "causal_mask", "linear_attention", "rotate_ranges"]

set_public_module(__name__)
