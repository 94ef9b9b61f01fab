"""What llama.cpp does in each layer: what the layers are called, and which rotate."""

from __future__ import annotations

from typing import NamedTuple

from rope_xp._config_reader.gguf.metadata import Metadata
from rope_xp._config_reader.gguf.table import Architecture, Attention, Rotates, Window

FULL, NO_ATTENTION = "full_attention", "linear_attention"
COMPRESSED = "compressed_sparse_attention"
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS


class Layers(NamedTuple):
    """The layers of a file.

    Parameters
    ----------
    types : tuple of str, optional
        What each is called; None: all are alike, or their number is not known.
    rotates : tuple of bool, optional
        Whether each rotates; None: all that have attention.
    window : Window, optional
        What is different in layers of type ``window.name``; None: there are none.
    """

    types: tuple[str, ...] | None
    rotates: tuple[bool, ...] | None
    window: Window | None


def count_layers(metadata: Metadata) -> int | None:
    """How many layers a token runs through: those that predict further tokens do not count."""
    n_all = metadata.count("block_count")
    if n_all is None:
        return None
    rest = metadata.count("nextn_predict_layers", minimum=0) or 0
    if not rest < n_all <= MAX_LAYERS:
        msg = (
            f"`{metadata.prefix}block_count` must be above nextn_predict_layers={rest} and at most "
            f"{MAX_LAYERS}, as in llama.cpp, got {n_all}"
        )
        raise ValueError(msg)
    return n_all - rest


def layers_of(metadata: Metadata, architecture: Architecture) -> Layers:
    """What the layers are called, and which rotate.

    Raises
    ------
    ValueError
        If a key is missing that says it, or is of the wrong kind.
    """
    n = count_layers(metadata)
    if n is None:
        needs_count = (
            architecture.window
            or architecture.attention
            or architecture.compress
            or architecture.rotates not in {Rotates.EVERY_LAYER, Rotates.IF_FINETUNED}
        )
        if needs_count:
            msg = (
                f"`{metadata.prefix}block_count` is required for this architecture, "
                "whose layers differ"
            )
            raise ValueError(msg)
    window = _window_of(metadata, architecture.window, n)
    has_attention = _attention_of(metadata, architecture.attention, n)
    windowed = _windowed(metadata, window, n or 1)
    rotates = _rotates(metadata, architecture.rotates, windowed, n or 1)
    if architecture.has_decision_layers:
        n_last = metadata.count("decision.block_count", minimum=0) or 0
        rotates = [one and i < len(rotates) - n_last for i, one in enumerate(rotates)]
    types: list[str] | None = None
    if architecture.compress:
        ratios = metadata.numbers("attention.compress_ratios", n)
        if ratios is None:
            msg = f"`{metadata.prefix}attention.compress_ratios` is required, a list"
            raise ValueError(msg)
        types = [COMPRESSED if ratio else "sliding_attention" for ratio in ratios]
    elif window is not None:
        types = [window.name if one else FULL for one in windowed]
    elif not all(has_attention):
        types = [FULL] * len(has_attention)
    if types is not None:
        types = [t if has else NO_ATTENTION for t, has in zip(types, has_attention, strict=True)]
    return Layers(
        None if types is None else tuple(types),
        None if all(rotates) else tuple(rotates),
        window,
    )


def _window_of(metadata: Metadata, window: Window | None, n_layers: int | None) -> Window | None:
    """The rule, if the file has layers that it is for."""
    if window is None or window.n_layers not in (None, n_layers):
        return None
    size = metadata.count("attention.sliding_window", minimum=0)
    if (window.if_sized and not size) or (window.unless_zero and size == 0):
        return None
    return window


def _windowed(metadata: Metadata, window: Window | None, n: int) -> list[bool]:
    """Which layers have a window."""
    if window is None:
        return [False] * n
    key = "attention.sliding_window_pattern"
    listed = metadata.numbers(key, n)
    if listed is not None:
        return [bool(one) for one in listed]
    if window.period is None:
        msg = f"`{metadata.prefix}{key}` is required, a list with true for each layer with a window"
        raise ValueError(msg)
    given = metadata.count(key, minimum=0)
    period = window.period if given is None else given
    if period == 0:
        return [True] * n
    full = 0 if window.full_first else period - 1
    return [i % period != full for i in range(n)]


def _attention_of(metadata: Metadata, rule: Attention | None, n: int | None) -> list[bool]:
    """Which layers have attention."""
    found = [True] * (n or 1)
    for key in ("attention.head_count", "attention.head_count_kv"):
        counts = metadata.numbers(key, n)
        if counts is not None and (rule is not None or key == "attention.head_count"):
            found = [a and bool(count) for a, count in zip(found, counts, strict=True)]
    if rule is None or rule.period is None or n is None:
        return found
    recurrent = metadata.numbers("attention.recurrent_layers", n)
    if recurrent is not None:
        return [not one for one in recurrent]
    period = metadata.count("full_attention_interval") or rule.period
    return [(i + 1) % period == 0 for i in range(n)]


def _rotates(metadata: Metadata, rule: Rotates, windowed: list[bool], n: int) -> list[bool]:
    every, has_window = [True] * n, any(windowed)
    match rule:
        case Rotates.EVERY_LAYER:
            return every
        case Rotates.NOT_EVERY_FOURTH:
            return [(i + 1) % 4 != 0 for i in range(n)]
        case Rotates.NOT_EVERY_FOURTH_IF_WINDOWED:
            step = 4 if has_window else n
            return [(i + 1) % step != 0 for i in range(n)]
        case Rotates.NOT_EVERY_FOURTH_FROM_FIRST_IF_WINDOWED:
            return [i % 4 != 0 for i in range(n)] if has_window else every
        case Rotates.WINDOWED:
            return windowed
        case Rotates.WINDOWED_IF_ANY:
            return windowed if has_window else every
        case Rotates.WINDOWED_OR_LEADING_DENSE:
            dense = metadata.count("leading_dense_block_count", minimum=0) or 0
            return [one or i < dense for i, one in enumerate(windowed)]
        case Rotates.IF_FINETUNED:
            return [metadata.flag("rope.scaling.finetuned", default=True)] * n
        case Rotates.ROPE_PATTERN:
            pattern = metadata.numbers("attention.rope_pattern", n)
            return every if pattern is None else [bool(one) for one in pattern]
        case Rotates.IF_32_LAYERS:
            return [n == 32] * n
