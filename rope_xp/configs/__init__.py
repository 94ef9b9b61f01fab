"""A model's config.json, or GGUF metadata, to the `RoPE` of each of its layers; and what it means."""

from rope_xp.configs._explain import explain
from rope_xp.configs._explain_difference import explain_difference
from rope_xp.configs._layers import LayerRopes, layer_ropes
from rope_xp.configs._plot import plot
from rope_xp.configs._to_config import to_config

__all__ = ["LayerRopes", "explain", "explain_difference", "layer_ropes", "plot", "to_config"]
