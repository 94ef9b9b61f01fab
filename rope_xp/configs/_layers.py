"""A config → the `RoPE` of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rope_xp._config_reader.files import SupportsToDict
from rope_xp._config_reader.layers import read
from rope_xp._validation import Precision, require_precision
from rope_xp.layouts import Layout
from rope_xp.rope import RoPE


def layer_ropes(
    config: Mapping[str, Any] | SupportsToDict | str | Path,
    *,
    layout: Layout | None = None,
    precision: Precision = "exact",
) -> tuple[RoPE | None, ...]:
    """The rotary encoding of every layer of a model.

    Parameters
    ----------
    config : mapping, config object or path
        A ``config.json`` of transformers as a mapping (old style with ``rope_theta`` and
        ``rope_scaling``, or new with ``rope_parameters``), its path or its folder. A config object of
        transformers, or any other with ``to_dict()``, is read as the mapping that this returns. Or the
        path of a GGUF file, its ``gguf.GGUFReader``, or its metadata, ``{name: field.contents()}``, with
        the tensors ``rope_freqs.weight``, ``rope_factors_short.weight`` and ``rope_factors_long.weight``
        beside them: a list of numbers, or None where the file has none.
    layout : {"half", "interleaved"}, optional
        The pairing, instead of the one that the family has: needed for a ``model_type`` that is not
        in ``families.json``, or where weights were permuted.
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
    Of a composite (text with images) the part of the language model is read. Where its positions have
    several axes, time, row and column, the result has ``axes``; called without positions, it rotates
    text as an encoding of one axis does.

    For the vision tower pass the ``vision_config``: its positions are row and column, and with three
    axes time, row and column. They begin at 0, but for Llama 4 at 1, with the class token, the last
    one, at (0, 0); DINOv3's are the centers of patches in [−1, 1].

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
    model = read(config, layout=layout)
    if not model.has_layer_count:
        key = "layer_types" if model.family.hybrid else "num_hidden_layers"
        msg = f"`{key}` is required for one encoding per layer"
        raise ValueError(msg)
    ropes = model.make(RoPE, precision)
    return tuple(None if spec is None else ropes[spec] for _, spec in model.layers)
