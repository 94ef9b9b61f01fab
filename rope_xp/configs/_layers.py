"""A config → the `RoPE` of each layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from rope_xp import _backends
from rope_xp._config_reader.files import Config
from rope_xp._config_reader.layers import read
from rope_xp._config_reader.spec import ModelSpec
from rope_xp._validation import Precision, require_precision
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE
from rope_xp.scaling import QueryScale


class LayerRopes(tuple[RoPE | None, ...]):
    """The `RoPE` of every layer, None where a layer does not rotate; and what else scales its scores.

    A tuple, equal to other tuples of the same values. Two `LayerRopes` are equal if their query scales and
    softmax factors are equal, too. To JAX it is a pytree without leaves, as `RoPE` is.

    Parameters
    ----------
    ropes : iterable of RoPE or None
    query_scales : iterable of QueryScale or None, optional
        Default: those of ``ropes``, None where a layer does not rotate.
    softmax_factors : iterable of float, optional
        Default: those of ``ropes``, 1 where a layer does not rotate.

    Attributes
    ----------
    query_scales : tuple of QueryScale or None
        One per layer: called with positions, it gives the factors on their queries. A layer without
        rotation can have one, too.
    softmax_factors : tuple of float
        One per layer, as in `rope_xp.scaling.Frequencies`: a factor on the scale of the softmax.

    Raises
    ------
    ValueError
        If there are not as many of them as ``ropes``.

    Examples
    --------
    >>> config = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}
    >>> layer_ropes(config).query_scales
    (None, None, None, FloorLogScale(length=8192, beta=0.1, offset=1))
    """

    query_scales: tuple[QueryScale | None, ...]
    softmax_factors: tuple[float, ...]

    def __new__(
        cls,
        ropes: Iterable[RoPE | None],
        query_scales: Iterable[QueryScale | None] | None = None,
        softmax_factors: Iterable[float] | None = None,
    ) -> Self:
        made = super().__new__(cls, ropes)
        if query_scales is None:
            query_scales = (None if rope is None else rope.query_scale for rope in made)
        if softmax_factors is None:
            softmax_factors = (
                1.0 if rope is None else rope.frequencies().softmax_factor for rope in made
            )
        made.query_scales, made.softmax_factors = tuple(query_scales), tuple(softmax_factors)
        for name in ("query_scales", "softmax_factors"):
            if len(getattr(made, name)) != len(made):
                n = len(getattr(made, name))
                msg = f"`{name}` must have one entry for each of {len(made)} layers, got {n}"
                raise ValueError(msg)
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.query_scales, self.softmax_factors

    def __eq__(self, other: object) -> bool:
        alike = tuple.__eq__(self, other)
        if alike is True and isinstance(other, LayerRopes):
            mine, theirs = ((each.query_scales, each.softmax_factors) for each in (self, other))
            return mine == theirs
        return alike

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = tuple.__hash__


_backends.register_values((LayerRopes,))


def layer_ropes(
    config: Config,
    *,
    layout: Layout | None = None,
    part: Literal["text", "vision"] = "text",
    precision: Precision = "exact",
) -> LayerRopes:
    """The rotary encoding of every layer of a model.

    Parameters
    ----------
    config : mapping, config object or path
        A ``config.json`` of transformers as a mapping (old style with ``rope_theta`` and
        ``rope_scaling``, or new with ``rope_parameters``), its path or its folder. A config object of
        transformers, or any other with ``to_dict()``, is read as the mapping that this returns.

        The path of a GGUF file, its ``gguf.GGUFReader``, or its metadata, ``{name: field.contents()}``, with
        the tensors ``rope_freqs.weight``, ``rope_factors_short.weight`` and ``rope_factors_long.weight``
        beside them: a list of numbers, or None where the file has none.

        A ``params.json`` of Meta's, Mistral's or DeepSeek's own code; the config of a transformer of diffusers,
        or its pipeline's folder; litgpt's Config; the model of a torchtune recipe.
    layout : {"half", "interleaved"}, optional
        The pairing, instead of the one that the family has: needed for a ``model_type`` that is not
        known, which is then read by Llama's rule, or where weights were permuted. A key that could change
        the rotation and is not part of that rule is refused by name.
    part : {"text", "vision"}
        Of a composite, text with images, the language model or the vision tower.
    precision : {"exact", "float32"}
        As in `RoPE`.

    Returns
    -------
    LayerRopes
        A tuple with one `RoPE` per layer, None where a layer does not rotate; its ``query_scales`` and
        ``softmax_factors`` say what else scales the scores of each layer. With
        ``dual_chunk_attention_config`` (Qwen2.5-1M) each `RoPE` has its ``ranges``, which are the plain
        distances up to ``chunk_size`` tokens.

    Raises
    ------
    ValueError
        If a key is unknown, missing, contradictory or out of range, or the family is unknown.
    TypeError
        If ``config`` is neither a mapping, nor a config object, nor a path.

    Notes
    -----
    Where positions of text with images have several axes, time, row and column, the result has ``axes``;
    called without positions, it rotates text as an encoding of one axis does.

    What layers mask is not part of it: windows (``sliding_window``), and in Llama 4, where layers rotate,
    chunks of ``attention_chunk_size`` positions, which are masked as documents are, with the numbers
    ``positions // attention_chunk_size``.

    The vision tower is read from the composite or from its ``vision_config``. Its positions are row and
    column, and with three axes time, row and column. They begin at 0, but for Inkling 2 at 1, and for
    Llama 4 at 1, with the class token, the last one, at (0, 0); DINOv3's are the centers of patches in
    [−1, 1].

    Where transformers departs from the code that was published with the weights, the latter is followed:
    PhiMoE takes its long factors beyond the original context, and DBRX's base is that of attn_config.

    A GGUF file is read as llama.cpp reads it. Its metadata alone are refused where the schedule can be in
    a tensor: that of Llama 3.1 is, and no key says so. Heads of latent attention are described whole, their
    last features rotate. Without a key the base is 10000, and a factor without a type is linear. YaRN's
    factor on cos and sin is 0.1 ln(factor) + 1 times ``attn_factor`` (over that of
    ``yarn_log_multiplier`` where it is read), whatever ``yarn_attn_factor`` says, and the ends of its ramp
    are whole pairs, also for gpt-oss. LongRoPE's factor is ``attn_factor``, and llama.cpp chooses the list
    once, by the length that was allocated. With three sections that take turns (Qwen 3 VL) llama.cpp turns
    pairs that no section has by a fourth axis, 0 for text; here they are the first axis's, as in
    transformers.

    Examples
    --------
    >>> config = {"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 128}
    >>> [rope is not None for rope in layer_ropes(config)]
    [True, True, True, False]
    """
    require_precision(precision)
    model = read(config, layout=layout, part=part)
    if not model.has_layer_count:
        key = "layer_types" if model.family.hybrid else "num_hidden_layers"
        if model.model_type.startswith("gguf "):
            key = f"{model.model_type.removeprefix('gguf ')}.block_count"
        msg = f"`{key}` is required for one encoding per layer"
        raise ValueError(msg)
    return as_ropes(model, precision)


def as_ropes(model: ModelSpec, precision: Precision) -> LayerRopes:
    """The encodings of the layers that a config describes, with what else scales their scores."""
    ropes = model.make(RoPE, precision)
    factor_of = {spec: rope.frequencies().softmax_factor for spec, rope in ropes.items()}
    made = [None if layer.spec is None else ropes[layer.spec] for layer in model.layers]
    factors = [
        layer.softmax_factor if layer.spec is None else factor_of[layer.spec]
        for layer in model.layers
    ]
    return LayerRopes(made, [layer.query_scale for layer in model.layers], factors)
