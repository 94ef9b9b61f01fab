"""A config → the `RoPE` of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rope_xp._config_reader.files import SupportsToDict
from rope_xp._config_reader.layers import read
from rope_xp._validation import Precision, require_precision
from rope_xp.layouts import Layout
from rope_xp.rope import RoPE


def layer_ropes(
    config: Mapping[str, Any] | SupportsToDict | str | Path,
    *,
    layout: Layout | None = None,
    part: Literal["text", "vision"] = "text",
    precision: Precision = "exact",
) -> tuple[RoPE | None, ...]:
    """The rotary encoding of every layer of a model.

    Parameters
    ----------
    config : mapping, config object or path
        A ``config.json`` of transformers as a mapping (old style with ``rope_theta`` and
        ``rope_scaling``, or new with ``rope_parameters``), its path or its folder; or GGUF metadata,
        ``{name: field.contents()}`` of gguf's reader. A config object of transformers, or any other with
        ``to_dict()``, is read as the mapping that this returns.
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
    tuple of RoPE or None
        One per layer; None where a layer does not rotate.

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

    The vision tower is read from the composite or from its ``vision_config``. Its positions are row and
    column, and with three axes time, row and column. They begin at 0, but for Llama 4 at 1, with the class token, the last
    one, at (0, 0); DINOv3's are the centers of patches in [−1, 1].

    Where transformers departs from the code that was published with the weights, the latter is followed:
    PhiMoE takes its long factors beyond the original context, and DBRX's base is that of attn_config.

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
        msg = f"`{key}` is required for one encoding per layer"
        raise ValueError(msg)
    ropes = model.make(RoPE, precision)
    return tuple(None if spec is None else ropes[spec] for _, spec in model.layers)
