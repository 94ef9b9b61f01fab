"""What the text and the plot of a config both say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rope_xp._config_reader.files import SupportsToDict
from rope_xp._config_reader.layers import read
from rope_xp._config_reader.spec import ModelSpec
from rope_xp._validation import MAX_LENGTH
from rope_xp.layouts import Layout
from rope_xp.rope import RoPE
from rope_xp.scaling import QueryScale


class Kind(NamedTuple):
    """Layers that are alike: what the config calls them, their encoding, and their numbers."""

    label: str | None
    rope: RoPE | None
    numbers: list[int]
    query_scale: QueryScale | None


def read_kinds(
    config: Mapping[str, Any] | SupportsToDict | str | Path,
    layout: Layout | None,
    part: str = "text",
) -> tuple[ModelSpec, list[Kind]]:
    """A config, and its layers by kind."""
    model = read(config, layout=layout, part=part)
    kinds: dict[tuple[str | None, RoPE | None, QueryScale | None], list[int]] = {}
    ropes = model.make(RoPE, "exact")
    for i, layer in enumerate(model.layers):
        rope = None if layer.spec is None else ropes[layer.spec]
        kinds.setdefault((layer.label, rope, layer.query_scale), []).append(i)
    return model, [
        Kind(label, rope, numbers, scale) for (label, rope, scale), numbers in kinds.items()
    ]


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
