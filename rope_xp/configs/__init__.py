"""A model's config.json, or GGUF metadata, to the `RoPE` of each of its layers; and what it means."""

from rope_xp.configs._explain import explain
from rope_xp.configs._layers import LayerRopes, layer_ropes
from rope_xp.configs._plot import plot

__all__ = ["LayerRopes", "explain", "layer_ropes", "plot"]
