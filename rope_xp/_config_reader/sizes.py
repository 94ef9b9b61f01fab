"""How large heads are and how much of them rotates: the keys that say so, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rope_xp._config_reader import values as reading
from rope_xp._config_reader.families import Family
from rope_xp._config_reader.values import Config, RopeDict


class Sizes(NamedTuple):
    """Of one config: its keys, its family, and what its layers are called, if they are called anything."""

    config: Config
    family: Family
    model_type: str
    labels: list[str] | None

    def head_dim(self, label: str | None) -> int:
        """Features per head of the layers called ``label``; for latent attention, of the rotated slice."""
        config, family = self.config, self.family
        key = "qk_rope_head_dim" if family["rotary"] == "mla" else "head_dim"
        own = self._own_head_dim(key, label)
        if own is not None:
            return own
        told = reading.integer(config, key)
        if key == "qk_rope_head_dim":
            if told is None:
                msg = f"`qk_rope_head_dim` must be given for model_type {self.model_type!r}, got nothing"
                raise ValueError(msg)
            whole = reading.integer(config, "head_dim")
            if whole not in (None, told) and not family.get("composed_head"):
                msg = f"`head_dim` must be qk_rope_head_dim={told} or absent, got {whole}"
                raise ValueError(msg)
            return told
        if told is not None and family.get("head_dim_read", True):
            return told
        wide = family.get("hidden_key", "hidden_size")
        hidden, heads = (reading.integer(config, k) for k in (wide, "num_attention_heads"))
        if hidden is None or heads is None:
            missing = wide if hidden is None else "num_attention_heads"
            msg = f"`{missing}` must be given where there is no head_dim, got nothing"
            raise ValueError(msg)
        heads *= reading.integer(config, family.get("head_divisor", "")) or 1
        if hidden % heads:
            msg = f"`{wide}` must be a multiple of num_attention_heads={heads}, got {hidden}"
            raise ValueError(msg)
        if told not in (None, hidden // heads):
            msg = (
                f"`head_dim` must be {wide} // num_attention_heads = {hidden // heads} for "
                f"model_type {self.model_type!r}, got {told}"
            )
            raise ValueError(msg)
        return hidden // heads

    def _own_head_dim(self, key: str, label: str | None) -> int | None:
        """Of a kind of layer that is wider or narrower than the others; None for the others."""
        each = reading.require_mapping("per_layer_config", self.config.get("per_layer_config"))
        if self.config.get("per_layer_config") is None:
            if label not in self.family.get("wide", {}):
                return None
            own_key, default, *parts = self.family["wide"][label]
            if parts:  # a whole and its other part, with their defaults
                whole, other = (reading.integer(self.config, k) or d for k, d in parts)
                default = whole - other
            return reading.integer(self.config, own_key) or int(default)
        at = {}
        for i, values in (each or {}).items():
            if not str(i).isdigit() or not (values is None or isinstance(values, Mapping)):
                msg = (
                    f"`per_layer_config` must map layer numbers to mappings, got {i!r}: {values!r}"
                )
                raise ValueError(msg)
            at[int(i)] = values
        found = {
            reading.integer(at.get(i) or {}, key, f" in per_layer_config[{i}]")
            for i, name in enumerate(self.labels or [])
            if name == label
        }
        if len(found) > 1:
            msg = f"`{key}` in per_layer_config must be the same for all layers of type {label!r}"
            raise ValueError(msg)
        return found.pop() if found else None

    def partial(self, entry: RopeDict, kind: str | None, name: str) -> float:
        """The fraction of the head that rotates, by partial_rotary_factor or what stands for it."""
        family = self.family
        keys = {"partial_rotary_factor", family.get("partial_key", "partial_rotary_factor")}
        told = {f"as {k} at the top level": reading.number(self.config, k) for k in sorted(keys)}
        inside = reading.number(entry.values, "partial_rotary_factor", f" in {entry.where}")
        factor = reading.agreed("partial_rotary_factor", {f"in {entry.where}": inside, **told})
        if factor is None:
            default = family.get("partial", 1.0)
            factor = default[kind] if isinstance(default, Mapping) else default
        spelled = f"`partial_rotary_factor` in {entry.where}"
        if inside is None:
            spelled = next((f"`{k}`" for k in sorted(keys) if k in self.config), spelled)
        if factor > 1:
            msg = f"{spelled} must be at most 1, got {factor}"
            raise ValueError(msg)
        if factor != 1 and name != "proportional" and family["rotary"] in ("whole", "own", "axes"):
            msg = (
                f"{spelled} must be 1 or absent for model_type {self.model_type!r}, which rotates "
                f"whole heads, got {factor}"
            )
            raise ValueError(msg)
        return float(factor)

    def rotary_dim(self, head_dim: int, factor: float, name: str) -> int:
        """How many of ``head_dim`` features rotate under a schedule called ``name``."""
        config, family = self.config, self.family
        if name == "proportional":
            return head_dim
        if family["rotary"] == "axes":  # what they can share equally
            return head_dim - head_dim % (2 * int(family["axes"]["widths"]))
        if family["rotary"] == "mla" and not family.get("partial_slice"):
            if "partial_rotary_factor" in family.get("ignores", ()):  # worked out from the sizes
                return head_dim
            composed = head_dim + (reading.integer(config, "qk_nope_head_dim") or 0)
            if factor not in {1.0, head_dim / composed, head_dim / (config.get("head_dim") or 1)}:
                msg = f"`partial_rotary_factor` must be the share of qk_rope_head_dim, got {factor}"
                raise ValueError(msg)
            if head_dim % 2:
                msg = f"`qk_rope_head_dim` must be even, got {head_dim}"
                raise ValueError(msg)
            return head_dim
        if family["rotary"] == "own" and self.model_type == "clvp_encoder":
            heads = reading.integer(config, "num_attention_heads") or 12
            return max((reading.integer(config, "projection_dim") or 768) // (2 * heads), 32)
        key = family.get("rotary_dim_key")
        told = (
            reading.integer(config, key or "rotary_dim", least=0) if key or not factor < 1 else None
        )
        if family["rotary"] == "own":
            return told or head_dim
        rotary_dim = int(head_dim * factor)
        if told and (key or family["rotary"] == "generic"):
            if "partial_rotary_factor" in config and told != rotary_dim:
                msg = f"`{key}` must be {rotary_dim}, by partial_rotary_factor, got {told}"
                raise ValueError(msg)
            rotary_dim = told
        if factor == 1 and head_dim % 2:
            told_as = "head_dim" if "head_dim" in config else "hidden_size // num_attention_heads"
            msg = f"`{told_as}` must be even where the whole head rotates, got {head_dim}"
            raise ValueError(msg)
        if rotary_dim <= 0 or rotary_dim % 2:
            msg = (
                f"`partial_rotary_factor` must give an even number of features, got {factor} of "
                f"head_dim={head_dim}, which is {rotary_dim}"
            )
            raise ValueError(msg)
        return rotary_dim
