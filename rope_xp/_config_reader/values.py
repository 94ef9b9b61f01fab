"""Values out of a config: what is under a key, or a sentence that says what is wrong with it.

A key whose value is null counts as absent, as it does in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rope_xp._validation import quote, require_bool, require_positive

Config = Mapping[str, Any]

# No size of a model is larger, and a typing error must not ask for as many layers.
MAX_SIZE = 2**31


def get_int(config: Config, key: str, where: str = "", *, minimum: int = 1) -> int | None:
    """The integer under ``key``; None if there is none. ``where`` follows the key in sentences."""
    value = config.get(key)
    if value is None:
        return None
    is_integer = isinstance(value, int | np.integer)
    if not is_integer or isinstance(value, bool | np.timedelta64) or value < minimum:
        rule = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        msg = f"`{key}`{where} must be {rule}, got {quote(value)}"
        raise ValueError(msg)
    if value > MAX_SIZE:
        power = int(value).bit_length() - 1
        msg = f"`{key}`{where} must be at most 2**31, got 2**{power} or more"
        raise ValueError(msg)
    return int(value)


def get_positive(config: Config, key: str, where: str = "") -> float | None:
    """The positive, finite number under ``key``; None if there is none."""
    value = config.get(key)
    if value is None:
        return None
    try:
        return require_positive(key, value)
    except (TypeError, ValueError):
        msg = f"`{key}`{where} must be a positive number, got {quote(value)}"
        raise ValueError(msg) from None


def get_bool(config: Config, key: str, where: str = "", *, default: bool) -> bool:
    """The true or false under ``key``."""
    value = config.get(key)
    if value is None:
        return default
    try:
        return require_bool(key, value)
    except TypeError:
        msg = f"`{key}`{where} must be true or false, got {quote(value)}"
        raise ValueError(msg) from None


def get_list(config: Config, key: str, n_layers: int | None = None) -> list[Any] | None:
    """The list under ``key``, of one entry per layer if ``n_layers`` is given; None if there is none."""
    value = config.get(key)
    if value is None:
        return None
    if not is_list(value):
        msg = f"`{key}` must be a list, got {quote(value)}"
        raise ValueError(msg)
    if n_layers is not None and len(value) != n_layers:
        msg = f"`{key}` must have num_hidden_layers={n_layers} entries, got {len(value)}"
        raise ValueError(msg)
    return list(value)


def get_mapping(config: Config, key: str) -> dict[str, Any] | None:
    """A copy of the mapping under ``key``; None for null or an empty one."""
    value = config.get(key)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        msg = f"`{key}` must be a mapping or null, got {quote(value)}"
        raise ValueError(msg)
    return dict(value) or None


def is_list(value: object) -> bool:
    """Whether ``value`` is what JSON calls a list."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def require_consistent(key: str, values: Mapping[str, Any]) -> Any:
    """The one value of ``key`` in all places that have one; None if no place has one.

    Parameters
    ----------
    key : str
        What the value is called in the sentence.
    values : mapping
        Place → value, or None where the place has none: ``{"in rope_scaling": 1e4, …}``.

    Raises
    ------
    ValueError
        If two places differ.
    """
    found = {place: value for place, value in values.items() if value is not None}
    if len(set(map(repr, found.values()))) > 1:
        places = " but ".join(f"{quote(value)} {place}" for place, value in found.items())
        msg = f"`{key}` has conflicting values: {places}"
        raise ValueError(msg)
    return next(iter(found.values()), None)
