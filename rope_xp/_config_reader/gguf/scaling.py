"""llama.cpp's schedules: metadata and tensors → the rope parameters of transformers that say the same.

Where llama.cpp differs from transformers 5.24.0 (sources: ``src/llama-context.cpp``, 173-214,
``ggml/src/ggml-cpu/ops.cpp``, ``rope_yarn``, ``src/llama-model.cpp``, ``get_rope_factors``):

- A factor without a type is that of a linear schedule; a type ``none`` drops it.
- YaRN's factor on cos and sin is 0.1 ln(factor) + 1 whatever yarn_attn_factor says, times attn_factor.
  With yarn_log_multiplier it is g(mscale) / g(mscale_all_dim), where mscale is 1, or mscale_all_dim for
  architecture deepseek2; only some architectures read that key, and yarn_beta_fast and yarn_beta_slow.
- LongRoPE's factor is attn_factor, 1 where it is absent; the list is chosen once, by the length of the
  context that was allocated.
- attn_factor multiplies cos and sin with any schedule; rope_freqs.weight divides the angles of any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rope_xp._config_reader.gguf.metadata import LONG, SHORT, Metadata
from rope_xp._config_reader.gguf.table import Architecture, LongFactors
from rope_xp._validation import quote
from rope_xp.scaling._yarn import gain_of

TYPES = ("none", "linear", "yarn", "longrope")
DEFAULT_BASE = 10000.0


def base_of(metadata: Metadata) -> float:
    """The base; 10000 where the file has none, as in llama.cpp."""
    return metadata.positive("rope.freq_base") or DEFAULT_BASE


def scaling_type_of(metadata: Metadata) -> str:
    key = f"{metadata.prefix}rope.scaling.type"
    name = metadata.values.get(key)
    if name is None:
        return "linear"
    if name not in TYPES:
        msg = f"unknown {key} {quote(name)}; known: {', '.join(TYPES)}"
        raise ValueError(msg)
    return str(name)


def scaling_factor_of(metadata: Metadata) -> float:
    """By how much positions are interpolated; 1: not."""
    key = "rope.scaling.factor" if metadata.has("rope.scaling.factor") else "rope.scale_linear"
    factor = metadata.positive_or_zero(key) or 1.0
    return 1.0 if scaling_type_of(metadata) == "none" else factor


def original_context_of(metadata: Metadata) -> int | None:
    original = metadata.count("rope.scaling.original_context_length", minimum=0)
    return original or metadata.count("context_length")


def has_long_factors(metadata: Metadata, architecture: Architecture) -> bool:
    """Whether llama.cpp looks for the tensors of LongRoPE."""
    when = architecture.long_factors
    if when is LongFactors.IF_LONGROPE:
        return scaling_type_of(metadata) == "longrope"
    return when is LongFactors.ALWAYS


def rope_parameters_of(
    metadata: Metadata, architecture: Architecture, n_pairs: int, *, has_rope_freqs: bool
) -> dict[str, Any]:
    """The rope parameters of the layers that are scaled, without the base.

    Raises
    ------
    ValueError
        If a key is wrong, or two say what cannot be described together.
    """
    factor = scaling_factor_of(metadata)
    attention = metadata.positive("rope.scaling.attn_factor") or 1.0
    is_yarn, plain = _is_yarn(metadata, architecture)
    alpha = metadata.positive_or_zero("rope.scaling.alpha") if architecture.reads_alpha else 0.0
    lists = None if has_rope_freqs else _long_factors(metadata, architecture, n_pairs)
    if architecture.yarn.scales_softmax and (attention != 1 or not (is_yarn or factor == 1)):
        what = "rope.scaling.attn_factor" if attention != 1 else "rope.scaling.type"
        msg = (
            f"`{metadata.prefix}{what}` must be absent or that of YaRN for this architecture, whose "
            "scale of the softmax llama.cpp changes by it in a way that is not described"
        )
        raise ValueError(msg)
    if alpha:
        _require_no(factor != 1 or attention != 1, metadata, "rope.scaling.alpha")
        return {"rope_type": "dynamic", "factor": 1.0, "alpha": alpha}
    if lists is not None:
        _require_no(is_yarn and factor != 1, metadata, SHORT, "")
        return _longrope(metadata, [[f * factor for f in one] for one in lists], attention)
    if is_yarn and factor != 1:
        return _yarn(metadata, architecture, factor, attention)
    if plain * attention != 1:
        return _longrope(metadata, [[factor] * n_pairs] * 2, plain * attention)
    return {} if factor == 1 else {"rope_type": "linear", "factor": factor}


def _require_no(both: bool, metadata: Metadata, key: str, prefix: str | None = None) -> None:
    if both:
        named = (metadata.prefix if prefix is None else prefix) + key
        msg = f"`{named}` must be absent beside another schedule: what both do together is not described"
        raise ValueError(msg)


def _is_yarn(metadata: Metadata, architecture: Architecture) -> tuple[bool, float]:
    """Whether fast pairs are kept, and the factor on cos and sin where they are not."""
    is_yarn = scaling_type_of(metadata) == "yarn"
    if not architecture.yarn.reads_factors:
        return is_yarn, 1.0
    key = f"{metadata.prefix}rope.scaling.yarn_ext_factor"
    blend = metadata.values.get(key)
    if blend is not None and blend not in (0, 1, -1):
        msg = f"`{key}` must be 0, 1 or, for that of the type, -1, got {quote(blend)}"
        raise ValueError(msg)
    is_yarn = is_yarn if blend in (None, -1) else blend == 1
    return is_yarn, metadata.positive("rope.scaling.yarn_attn_factor") or 1.0


def _long_factors(
    metadata: Metadata, architecture: Architecture, n_pairs: int
) -> list[tuple[float, ...]] | None:
    """The short and the long list; a tensor that the file does not have divides by 1."""
    if not has_long_factors(metadata, architecture):
        return None
    found = [metadata.tensor(name, n_pairs) for name in (SHORT, LONG)]
    return [one or (1.0,) * n_pairs for one in found] if any(found) else None


def _original(metadata: Metadata) -> int:
    original = original_context_of(metadata)
    if original is None:
        msg = (
            f"`{metadata.prefix}rope.scaling.original_context_length` or "
            f"`{metadata.prefix}context_length` is required for this schedule"
        )
        raise ValueError(msg)
    return original


def _longrope(
    metadata: Metadata, lists: list[list[float]], attention_factor: float
) -> dict[str, Any]:
    short, long = lists
    return {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": _original(metadata),
        "attention_factor": attention_factor,
    }


def _yarn(
    metadata: Metadata, architecture: Architecture, factor: float, attention: float
) -> dict[str, Any]:
    rules = architecture.yarn
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": _original(metadata),
        "beta_fast": rules.beta_fast,
    }
    if rules.reads_betas:
        for name in ("beta_fast", "beta_slow"):
            value = metadata.positive(f"rope.scaling.yarn_{name}")
            if value is not None:
                found[name] = value
    all_dims = _mscale_all_dim(metadata, architecture)
    mscale = all_dims if rules.log_is_mscale and all_dims else 1.0
    gain = gain_of(factor, mscale) / gain_of(factor, all_dims)
    if rules.attention_factor is not None:
        found["attention_factor"] = rules.attention_factor
    elif all_dims or attention != 1:
        found["attention_factor"] = gain * attention
    if rules.scales_softmax:
        found["mscale_all_dim"] = mscale
    return found


def _mscale_all_dim(metadata: Metadata, architecture: Architecture) -> float:
    divisor = architecture.yarn.log_divisor
    if divisor is None:
        return 0.0
    value = metadata.positive_or_zero("rope.scaling.yarn_log_multiplier")
    return float(np.float32(value) / np.float32(divisor))  # as llama.cpp divides: 0.1 by 0.1 is 1


def unread_of(metadata: Metadata, architecture: Architecture) -> list[str]:
    """Keys of YaRN that the file has and llama.cpp does not read for this architecture."""
    rules = architecture.yarn
    unread = {
        "yarn_beta_fast": not rules.reads_betas,
        "yarn_beta_slow": not rules.reads_betas,
        "yarn_ext_factor": not rules.reads_factors,
        "yarn_attn_factor": not rules.reads_factors,
        "yarn_log_multiplier": rules.log_divisor is None,
    }
    usual = {"yarn_beta_fast": rules.beta_fast, "yarn_beta_slow": 1.0, "yarn_ext_factor": 1.0}
    return [
        key
        for key, is_unread in unread.items()
        if is_unread
        and metadata.has(f"rope.scaling.{key}")
        and metadata.values[f"{metadata.prefix}rope.scaling.{key}"] != usual.get(key)
    ]
