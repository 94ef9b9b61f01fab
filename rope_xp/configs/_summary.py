"""What the text and the plot of a config both say about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from rope_xp._config_reader.files import Config
from rope_xp._config_reader.layers import read
from rope_xp._config_reader.spec import ModelSpec
from rope_xp._config_reader.vocabulary import NO_ATTENTION, LayerRule, Rotary
from rope_xp._validation import MAX_LENGTH, quote
from rope_xp.configs._layers import LayerRopes, as_ropes
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE
from rope_xp.scaling import QueryScale

Part = Literal["text", "vision"]
ConfigOrRopes = Config | RoPE | Sequence[RoPE | None]

# What a checkpoint is called whose converter reorders the rows of q and k, by the first word of its model_type.
CARRIERS = {
    "gguf": "the GGUF file",
    "params.json": "the checkpoint of params.json",
    "torchtune": "the checkpoint of torchtune",
}
# Why a layer does not rotate, by the rule of its family.
RULES = {
    LayerRule.SLIDING_ONLY: "only layers of type sliding_attention rotate",
    LayerRule.SLIDING_ONLY_IF_WINDOWED: "only layers of type sliding_attention rotate where there is a window",
    LayerRule.SLIDING_OR_DENSE_PREFIX: "only layers of type sliding_attention and dense ones before them rotate",
    LayerRule.NO_ROPE_LAYERS: "0 in no_rope_layers, without it every no_rope_layer_interval-th layer",
    LayerRule.NONZERO_LAYER_ROPE_THETA: "0 in layer_rope_theta, without it every fourth layer from the last on",
    LayerRule.LAYER_ROPE_THETA: "0 in layer_rope_theta",
    LayerRule.NO_CROSS_ATTENTION: "cross-attention",
    LayerRule.BLOCK_CONFIGS: "no attention in block_configs",
}


class Layer(NamedTuple):
    """What a layer does with scores: its encoding, and what else scales them."""

    rope: RoPE | None
    query_scale: QueryScale | None
    softmax_factor: float


class Kind(NamedTuple):
    """Layers that are alike.

    Parameters
    ----------
    label : str, optional
        What the config calls them.
    layer : Layer
    numbers : list of int
        Which they are.
    reason : str
        Why they do not rotate, if they do not and it is known.
    """

    label: str | None
    layer: Layer
    numbers: list[int]
    reason: str


class Summary(NamedTuple):
    """A model, or encodings without one: its name, kinds of layers, and what is said besides.

    Parameters
    ----------
    name : str
        The model_type; empty for encodings.
    kinds : list of Kind
    layers : tuple of Layer
        All layers if ``has_layer_count``, else one of each kind.
    has_layer_count : bool
    max_positions : int, optional
        The longest context that the config names.
    note : str, optional
        What the family adds.
    slice : str
        With latent attention: what is said of the slice that rotates.
    attentions_per_layer : int
        Encodings of one decoder layer.
    carrier : str
        What has the weights, where their order can be another than in transformers; else empty.
    """

    name: str
    kinds: list[Kind]
    layers: tuple[Layer, ...]
    has_layer_count: bool = True
    max_positions: int | None = None
    note: str | None = None
    slice: str = ""
    attentions_per_layer: int = 1
    carrier: str = ""


def as_layers(name: str, ropes: object) -> tuple[RoPE | None, ...]:
    """A RoPE, or a sequence of RoPE or None, as a tuple.

    Raises
    ------
    ValueError, TypeError
        If it is empty, or something else.
    """
    if isinstance(ropes, RoPE):
        return (ropes,)
    if not isinstance(ropes, list | tuple):
        msg = f"`{name}` must be a RoPE or a sequence of RoPE or None, got {type(ropes).__name__}"
        raise TypeError(msg)
    for i, rope in enumerate(ropes):
        if rope is not None and not isinstance(rope, RoPE):
            msg = f"`{name}` must be a RoPE or None for each layer, got {quote(rope)} in layer {i}"
            raise TypeError(msg)
    if not ropes:
        msg = f"`{name}` must have at least one layer, got none"
        raise ValueError(msg)
    return tuple(ropes)


def read_kinds(config: ConfigOrRopes, layout: Layout | None, part: Part = "text") -> Summary:
    """A config, or encodings, and its layers by kind."""
    if isinstance(config, RoPE | list | tuple):
        if layout is not None:
            msg = f"`layout` must be None for a RoPE, which has its own, got {quote(layout)}"
            raise ValueError(msg)
        layers = layers_of("config_or_ropes", config)
        kinds = _by_kind([(None, layer, "") for layer in layers])
        return Summary("", kinds, layers, has_layer_count=not isinstance(config, RoPE))
    model = read(config, layout=layout, part=part)
    family, layers = model.family, layers_of("config_or_ropes", as_ropes(model, "exact"))
    found = [
        (read_layer.label, layer, _reason(model, read_layer.label) if layer.rope is None else "")
        for read_layer, layer in zip(model.layers, layers, strict=True)
    ]
    return Summary(
        model.model_type,
        _by_kind(found),
        layers,
        model.has_layer_count,
        model.max_positions,
        family.note,
        slice=_slice(model),
        attentions_per_layer=1 if family.attentions_per_layer_key is None else 2,
        carrier=CARRIERS.get(model.model_type.partition(" ")[0], ""),
    )


def layers_of(name: str, ropes: object) -> tuple[Layer, ...]:
    """`as_layers`, with what else scales the scores."""
    layers = as_layers(name, ropes)
    made = ropes if isinstance(ropes, LayerRopes) else LayerRopes(layers)
    return tuple(map(Layer, layers, made.query_scales, made.softmax_factors))


def _by_kind(layers: Sequence[tuple[str | None, Layer, str]]) -> list[Kind]:
    kinds: dict[tuple[str | None, Layer], Kind] = {}
    for i, (label, layer, reason) in enumerate(layers):
        kinds.setdefault((label, layer), Kind(label, layer, [], reason)).numbers.append(i)
    return [*kinds.values()]


def _slice(model: ModelSpec) -> str:
    """With latent attention, where the slice is that rotates; else empty."""
    family, n = model.family, model.n_unrotated
    if family.rotary is not Rotary.MLA:
        return ""
    # All listed families have it at the end; sizes of their own for some layers are not looked up.
    if n is None or not family.is_listed or family.head_dim_of_layer_type:
        return "(qk_rope_head_dim) of each head; the others do not turn"
    return f"(qk_rope_head_dim) after {n} (qk_nope_head_dim) that do not turn"


def _reason(model: ModelSpec, label: str | None) -> str:
    """Why layers of this type do not rotate, as far as the family says it."""
    rule = model.family.enabled_if
    if label in NO_ATTENTION:
        return f"no attention of q and k in layers of type {label}"
    if rule is not None:
        return f"`{rule.key}` is not {quote(rule.equals)}"
    if model.family.per_layer_type:
        return f"no rope parameters for {label}"
    return RULES.get(model.family.layers, "")


def effective_inv_freq(inv_freq: Any) -> Any:
    """One frequency for each pair, (n_pairs,): that of its axis.

    Of a pair that several axes drive it is the one along the direction in which the pair turns fastest.
    """
    if inv_freq.ndim == 1:
        return inv_freq
    has_one_axis = np.count_nonzero(inv_freq, axis=0) <= 1
    return np.where(has_one_axis, inv_freq.sum(axis=0), np.linalg.norm(inv_freq, axis=0))


def unscaled(rope: RoPE) -> Any:
    """The frequencies before the schedule, (n_pairs,)."""
    return effective_inv_freq(replace(rope, scaling=None).frequencies().inv_freq)


def contexts(rope: RoPE, max_positions: int | None) -> tuple[int | None, int | None]:
    """The length that the frequencies were made for, and the one that the schedule stretches it to."""
    scaling = rope.scaling
    original = getattr(scaling, "original_max_position_embeddings", max_positions)
    factor = getattr(scaling, "factor", None) or 1.0
    if original is None or not hasattr(scaling, "original_max_position_embeddings"):
        # What a linear or dynamic schedule calls the maximum differs between files: one length.
        return max_positions, max_positions
    return original, max(max_positions or 0, round(min(original * factor, float(MAX_LENGTH))))
