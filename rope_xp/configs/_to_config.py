"""The `RoPE` of each layer → the keys of a config that describe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rope_xp._config_reader.layers import read
from rope_xp._config_reader.spec import ModelSpec
from rope_xp._validation import as_size, quote, require_one_of
from rope_xp.configs._compare import is_same
from rope_xp.configs._layers import LayerRopes, as_ropes
from rope_xp.configs._summary import Layer, layers_of
from rope_xp.configs._to_gguf import gguf_keys
from rope_xp.configs._to_transformers import Target
from rope_xp.rope import RoPE

Layers = tuple[Layer, ...]


def to_config(
    ropes: RoPE | Sequence[RoPE | None],
    *,
    form: Literal["transformers", "gguf"] = "transformers",
    model_type: str | None = None,
    architecture: str | None = None,
    layer_types: Sequence[str] | None = None,
    sliding_window: int | None = None,
) -> dict[str, Any]:
    """The keys of a config that describe these encodings: config.json of transformers 5, or GGUF.

    The inverse of `layer_ropes`. The result is read back before it is returned: a
    config that would come out as another encoding is refused.

    Parameters
    ----------
    ropes : RoPE, or sequence of RoPE or None
        The encoding of all layers, or of each; None: the layer does not rotate.
    form : {"transformers", "gguf"}
        The kind of file.
    model_type : str, optional
        The family that a config.json is for, which is then in the result. Without it the result has
        the keys that most families read, for a model_type that is not in ``families.json``.
    architecture : str, optional
        The architecture that GGUF metadata are for; required for them.
    layer_types : sequence of str, optional
        What each layer is called, where layers differ; of GGUF which have a window, sliding_attention.
        Default: as the family has it; without a family the rarest kind is called full_attention, the
        next one sliding_attention, …, which says nothing about their masks.
    sliding_window : int, optional
        The size of the window, for GGUF; required where layers with and without one differ.

    Returns
    -------
    dict
        Of a config.json ``rope_parameters``, one mapping or one for each layer type; ``head_dim``, with
        latent attention ``qk_rope_head_dim``; for a sequence the number of layers; and what else the
        schedule and the family need. All of it can be written as JSON. Of GGUF the metadata, by the names that
        gguf-py has for them, and the tensors ``rope_freqs.weight``, ``rope_factors_short.weight`` and
        ``rope_factors_long.weight``: float32 arrays, shape (n_pairs,), or None.

    Raises
    ------
    ValueError
        If a config cannot describe it: float32 precision, which is no key of a config; frequencies by a
        list of your own; several axes without a model_type whose positions have them; pairs that turn
        the other way; layers without rotation where only a family's own rule says which; two layouts,
        or another than the architecture has.
    TypeError
        If ``ropes`` is neither a `RoPE` nor a sequence of them.

    Notes
    -----
    A config.json is to be joined with the other keys of the model: ``{**config, **to_config(ropes,
    model_type="llama")}``. It is read back by ``layer_ropes(to_config(ropes), layout=…)``, or with a
    model_type of the table by ``layer_ropes(to_config(ropes, model_type=…))``, to which a family whose
    heads are hidden_size // num_attention_heads wide adds these two keys.

    Schedules that give the same encoding are written as one: `NTK` as its larger base, `NTKByParts` as YaRN with
    an attention factor of 1, `FrequencyFactors` as LongRoPE with two equal lists. In GGUF `Llama3` is
    a tensor of divisors, which has its numbers within 6e-8.

    Examples
    --------
    >>> to_config(RoPE(128, layout="half", base=1e6), model_type="qwen3")
    {'model_type': 'qwen3', 'head_dim': 128, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 1000000.0}}
    """
    layers = layers_of("ropes", ropes)
    rotating = [layer.rope for layer in layers if layer.rope is not None]
    require_one_of("form", form, ("transformers", "gguf"))
    if not rotating:
        msg = "`ropes` must have a layer that rotates, got none"
        raise ValueError(msg)
    _require_one_layout(rotating)
    for name, text in (("model_type", model_type), ("architecture", architecture)):
        if text is not None and not isinstance(text, str):
            msg = f"`{name}` must be a string or None, got {quote(text)}"
            raise TypeError(msg)
    if layer_types is not None:
        is_list = isinstance(layer_types, list | tuple)
        if not is_list or not all(isinstance(name, str) for name in layer_types):
            msg = f"`layer_types` must be a list of strings, got {quote(layer_types)}"
            raise TypeError(msg)
    if sliding_window is not None:
        sliding_window = as_size("sliding_window", sliding_window)
    if layer_types is not None and len(layer_types) != len(layers):
        msg = f"`layer_types` must have a name for each of {len(layers)} layers, got {len(layer_types)}"
        raise ValueError(msg)
    options: dict[str, object] = {"model_type": model_type}
    if form == "transformers":
        options = {"architecture": architecture, "sliding_window": sliding_window}
    for name, value in options.items():
        if value is not None:
            msg = f"`{name}` must be None for form={form!r}, got {quote(value)}"
            raise ValueError(msg)
    is_one, is_all = isinstance(ropes, RoPE), isinstance(ropes, LayerRopes)
    where = "a config" if model_type is None else f"a config of {quote(model_type)}"
    try:
        if form == "gguf":
            where = f"a GGUF file of {quote(architecture)}"
            encodings = [layer.rope for layer in layers]
            made = gguf_keys(encodings, architecture, layer_types, sliding_window, is_one=is_one)
            found = read(made)
        else:
            target = Target(model_type, layers, is_one=is_one, is_all=is_all)
            made = target.config(layer_types)
            found = target.read(made)
        _require_same(layers, found, is_one=is_one, is_all=is_all)
    except ValueError as error:
        msg = f"`ropes` must be what {where} can describe: {error}"
        raise ValueError(msg) from None
    return made


def _require_same(layers: Layers, found: ModelSpec, *, is_one: bool, is_all: bool) -> None:
    """ValueError unless what is read is what was written; of one RoPE, in all layers that rotate.

    With ``is_all`` also what else scales the scores of layers that do not rotate.
    """
    made = [*layers_of("ropes", as_ropes(found, "exact"))]
    if is_one:
        made = [layer for layer in made if layer.rope is not None]
        layers = layers * max(len(made), 1)
    elif not found.has_layer_count or len(made) != len(layers):
        msg = "`layer_types` is required, which says which layers have attention"
        raise ValueError(msg)
    if not made:
        msg = "no layer would rotate"
        raise ValueError(msg)
    for i, (layer, got) in enumerate(zip(layers, made, strict=True)):
        where = "" if is_one else f" in layer {i}"
        if not is_same(layer.rope, got.rope):
            msg = f"got {layer.rope}{where}, which would be read as {got.rope}"
            raise ValueError(msg)
        if is_all and layer.rope is None and layer != got:
            msg = (
                f"got query_scale={layer.query_scale} and softmax_factor={layer.softmax_factor}{where}, "
                f"which would be read as {got.query_scale} and {got.softmax_factor}"
            )
            raise ValueError(msg)


def _require_one_layout(ropes: list[RoPE]) -> None:
    layouts = sorted({rope.layout for rope in ropes})
    if len(layouts) > 1:
        msg = f"`ropes` must have one layout in all layers, got {' and '.join(layouts)}"
        raise ValueError(msg)
    if any(rope.precision != "exact" for rope in ropes):
        msg = (
            "`ropes` must have precision='exact', got 'float32': a config does not say how angles are "
            "rounded; write dataclasses.replace(rope, precision='exact') and read it back with "
            "precision='float32'"
        )
        raise ValueError(msg)
