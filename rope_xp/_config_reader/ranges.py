"""Dual chunk attention, which configs of any family ask for with one mapping."""

from __future__ import annotations

from collections.abc import Mapping

from rope_xp._config_reader.values import Config, get_int
from rope_xp._validation import quote
from rope_xp.positions import DualChunk

KEY = "dual_chunk_attention_config"
_KEYS = ("chunk_size", "local_size", "original_max_position_embeddings")


def dual_chunk_of(config: Config) -> DualChunk | None:
    """What is under ``dual_chunk_attention_config``; None if there is nothing.

    Raises
    ------
    ValueError
        If a size is missing or out of range, or a key is not known. Keys of sparse attention, which
        approximates what positions give, are passed over.
    """
    found = config.get(KEY)
    if found is None or (isinstance(found, Mapping) and not found):
        return None
    if not isinstance(found, Mapping):
        msg = f"`{KEY}` must be a mapping, got {quote(found)}"
        raise ValueError(msg)
    where = f" in {KEY}"
    for key in found:
        if key not in _KEYS and not str(key).startswith("sparse_attention_"):
            msg = f"`{key}`{where} must be one of {', '.join(_KEYS)}, got {quote(found[key])}"
            raise ValueError(msg)
    chunk_size = get_int(found, "chunk_size", where)
    local_size = get_int(found, "local_size", where, minimum=0)
    if chunk_size is None or local_size is None:
        missing = "chunk_size" if chunk_size is None else "local_size"
        msg = f"`{missing}` is required{where}"
        raise ValueError(msg)
    original = get_int(found, "original_max_position_embeddings", where, minimum=0)
    try:
        return DualChunk(chunk_size, local_size, original or None)
    except ValueError as error:
        msg = f"{error} (from {KEY})"
        raise ValueError(msg) from None
