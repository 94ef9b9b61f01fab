"""Values out of a config: what is under a key, or a sentence that says what is wrong with it.

A key whose value is null counts as absent, as it does in transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rope_xp._validation import quote, require_bool, require_positive

Config = Mapping[str, Any]

# Configs are nested a few mappings deep.
MAX_DEPTH = 64

# No size of a model is larger.
MAX_SIZE = 2**31
# No model has more layers, and a typing error must not ask for as many.
MAX_LAYERS = 10_000
# No head is wider, nor a list of numbers for its pairs.
MAX_HEAD_DIM = 2**16


def get_int(
    config: Config, key: str, where: str = "", *, minimum: int = 1, maximum: int = MAX_SIZE
) -> int | None:
    """The integer under ``key``; None if there is none. ``where`` follows the key in sentences."""
    value = config.get(key)
    if value is None:
        return None
    is_integer = isinstance(value, int | np.integer)
    if not is_integer or isinstance(value, bool | np.timedelta64) or value < minimum:
        rule = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        msg = f"`{key}`{where} must be {rule}, got {quote(value)}"
        raise ValueError(msg)
    if value > maximum:
        power = int(value).bit_length() - 1
        given = str(value) if power < 64 else f"2**{power} or more"
        limit = "2**31" if maximum == MAX_SIZE else str(maximum)
        msg = f"`{key}`{where} must be at most {limit}, got {given}"
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
    """The list under ``key``, of one entry per layer if ``n_layers`` is given; None if there is none.

    It is about layers: one that is longer than `MAX_LAYERS` is refused.
    """
    value = config.get(key)
    if value is None:
        return None
    if not is_list(value):
        msg = f"`{key}` must be a list, got {quote(value)}"
        raise ValueError(msg)
    if n_layers is not None and len(value) != n_layers:
        msg = f"`{key}` must have num_hidden_layers={n_layers} entries, got {len(value)}"
        raise ValueError(msg)
    if len(value) > MAX_LAYERS:
        msg = f"`{key}` must have at most {MAX_LAYERS} entries, got {len(value)}"
        raise ValueError(msg)
    return list(value)


def get_numbers(config: Config, key: str) -> list[int] | None:
    """The list of numbers of layers under ``key``; None if there is none."""
    found = get_list(config, key)
    for number in found or ():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            msg = f"`{key}` must be a list of numbers of layers, got {quote(number)} in it"
            raise ValueError(msg)
    return found


def get_flags(config: Config, key: str, n_layers: int | None) -> list[bool] | None:
    """The list of one flag for each layer under ``key``, 0 and 1 or false and true; None if there is none.

    An empty list counts as none: Llama 4 Scout was published with one.
    """
    found = get_list(config, key, n_layers if config.get(key) else None)
    for flag in found or ():
        if not isinstance(flag, int | np.integer | np.bool_) or flag not in (0, 1):
            msg = f"`{key}` must be a list of 0 and 1, got {quote(flag)} in it"
            raise ValueError(msg)
    return [bool(flag) for flag in found] if found else None


def lookup(config: Config, path: str) -> Any:
    """What is under a key; a dot leads into a mapping. None if there is nothing."""
    first, _, rest = path.partition(".")
    value = config.get(path) if path in config else config.get(first)
    if not rest or path in config:
        return value
    return lookup(value, rest) if isinstance(value, Mapping) else None


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
    return isinstance(value, Sequence) and not isinstance(
        value, str | bytes | bytearray | memoryview
    )


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


def fraction_of(rotary_dim: int, head_dim: int) -> float:
    """The partial_rotary_factor that gives ``rotary_dim``: int() must not round it down below that."""
    fraction = rotary_dim / head_dim
    return fraction if int(head_dim * fraction) == rotary_dim else math.nextafter(fraction, 1.0)
