"""`Metadata`: values out of the metadata of a GGUF file, by the keys that llama.cpp has for them.

A sentence names a key as it is in the file, with the architecture before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rope_xp._config_reader.values import Config, get_bool, get_int, get_positive, is_list
from rope_xp._validation import quote, require_list

# Tensors that say how positions are encoded, by their names in a file.
ROPE_FREQS = "rope_freqs.weight"
SHORT, LONG = "rope_factors_short.weight", "rope_factors_long.weight"
TENSORS = (ROPE_FREQS, SHORT, LONG)

# The keys under rope. and rope.scaling. that llama.cpp knows (src/llama-arch.cpp).
ROPE_KEYS = (
    "freq_base",
    "freq_base_swa",
    "dimension_count",
    "dimension_count_swa",
    "dimension_sections",
    "scale_linear",
    "scaling.type",
    "scaling.factor",
    "scaling.alpha",
    "scaling.attn_factor",
    "scaling.original_context_length",
    "scaling.finetuned",
    "scaling.yarn_log_multiplier",
    "scaling.yarn_ext_factor",
    "scaling.yarn_attn_factor",
    "scaling.yarn_beta_fast",
    "scaling.yarn_beta_slow",
)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file, and what is before the keys of its architecture.

    Parameters
    ----------
    values : mapping
        All of it, and the tensors that matter by `TENSORS`.
    prefix : str
        The architecture with a point.
    """

    values: Config
    prefix: str

    def has(self, key: str) -> bool:
        return self.values.get(self.prefix + key) is not None

    def count(self, key: str, minimum: int = 1) -> int | None:
        """The integer under ``key``; None if there is none."""
        return get_int(self.values, self.prefix + key, minimum=minimum)

    def positive(self, key: str) -> float | None:
        """The positive number under ``key``; None if there is none."""
        return get_positive(self.values, self.prefix + key)

    def positive_or_zero(self, key: str) -> float:
        """The same, where 0 says that there is none."""
        value = self.values.get(self.prefix + key)
        is_number = isinstance(value, int | float | np.number)
        return 0.0 if is_number and value == 0 else self.positive(key) or 0.0

    def flag(self, key: str, *, default: bool) -> bool:
        return get_bool(self.values, self.prefix + key, default=default)

    def numbers(self, key: str, n_layers: int | None = None) -> list[Any] | None:
        """The list of integers or flags under ``key``, of ``n_layers``; None if it is none.

        Raises
        ------
        ValueError
            If it is shorter than ``n_layers``, or has anything else.
        """
        value = self.values.get(self.prefix + key)
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if value is None or not is_list(value):
            return None
        for i, one in enumerate(value):
            if not isinstance(one, int | np.integer | np.bool_) or one < 0:
                msg = f"`{self.prefix}{key}[{i}]` must be a non-negative integer, got {quote(one)}"
                raise ValueError(msg)
        if n_layers is not None and len(value) < n_layers:
            msg = (
                f"`{self.prefix}{key}` must have an entry for each of {n_layers} layers, "
                f"got {len(value)}"
            )
            raise ValueError(msg)
        return [int(one) for one in value[:n_layers]]

    def tensor(
        self, name: str, n_pairs: int, *, is_padded: bool = False
    ) -> tuple[float, ...] | None:
        """The divisors of ``n_pairs`` pairs in a tensor; None if the file has none.

        Raises
        ------
        ValueError
            If it has another length; longer is right where ``is_padded``.
        """
        value = self.values.get(name)
        if value is None:
            return None
        found = require_list(name, value)
        if len(found) != n_pairs and not (is_padded and len(found) > n_pairs):
            msg = f"`{name}` must have a number for each of {n_pairs} pairs, got {len(found)}"
            raise ValueError(msg)
        return found[:n_pairs]

    def require_known_keys(self) -> None:
        """ValueError for a key of the rotation that llama.cpp does not know."""
        start = f"{self.prefix}rope."
        for key in self.values:
            if key.startswith(start) and key.removeprefix(start) not in ROPE_KEYS:
                scaling = "rope.scaling."
                inside = key.startswith(self.prefix + scaling)
                place = scaling if inside else "rope."
                known = [f"rope.{one}" for one in ROPE_KEYS if one.startswith("scaling.") == inside]
                msg = (
                    f"unknown key {quote(key)}: llama.cpp has no such key, and what it changes is not "
                    f"known; leave it out if the rotation does not depend on it; known under "
                    f"{place[:-1]}: {', '.join(one.removeprefix(place) for one in known)}"
                )
                raise ValueError(msg)
