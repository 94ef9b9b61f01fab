"""`Found`: the part of a file that says how positions are encoded; what every kind of file comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.values import Config
from rope_xp.scaling import Schedule


class Found(NamedTuple):
    """The part of a config that says how positions are encoded, and whose it is.

    Parameters
    ----------
    config : mapping
        Its keys, by the names that config.json has for them.
    model_type : str
        What the model is called in sentences.
    family : Family
        How it rotates.
    layout : str, optional
        The pairing; None: that of the family.
    frequency_factors : mapping, optional
        Layer type, or None for all layers → a divisor for each pair, from a tensor of the file; None
        where there are none.
    axis_schedules : tuple, optional
        The schedule of each axis of the positions, or None.
    """

    config: Config
    model_type: str
    family: Family
    layout: str | None
    frequency_factors: Mapping[str | None, tuple[float, ...] | None] | None = None
    axis_schedules: tuple[Schedule | None, ...] | None = None
