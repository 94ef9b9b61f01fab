"""The `RoPE` of each layer → the keys of a ``config.json`` of transformers that describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from typing import Any

from rope_xp._config_reader.layer_types import layer_types_of
from rope_xp._config_reader.layers import read
from rope_xp._config_reader.schema import AxisPerPair, Family, InterleavedSections, Sections
from rope_xp._config_reader.spec import ModelSpec
from rope_xp._config_reader.table import family_name, is_known, known_family, part_of, read_table
from rope_xp._config_reader.values import fraction_of
from rope_xp._config_reader.vocabulary import (
    ATTENTION,
    COMPRESS,
    MAIN,
    NO_ATTENTION,
    LayerRule,
    Rotary,
)
from rope_xp._validation import quote
from rope_xp.configs._compare import is_same
from rope_xp.configs._schedule_keys import Keys, schedule_keys
from rope_xp.configs._summary import Layer
from rope_xp.positions import DualChunk
from rope_xp.rope import RoPE

# What kinds of layers are called where neither the caller nor the family says, in this order.
NAMES = ("full_attention", "sliding_attention", *sorted(ATTENTION - {"attention"}))
SLIDING = {
    LayerRule.SLIDING_ONLY,
    LayerRule.SLIDING_ONLY_IF_WINDOWED,
    LayerRule.SLIDING_OR_DENSE_PREFIX,
}


class Target:
    """The family that a config is written for, and the layers that it is to describe."""

    def __init__(
        self, model_type: str | None, layers: Sequence[Layer], *, is_one: bool, is_all: bool
    ) -> None:
        name = family_name(model_type or "", {})
        name = name if is_known(name) else part_of(name, "text") or name
        self.model_type = model_type
        self.family: Family | None = known_family(name) if is_known(name) else None
        if self.family is not None and name not in read_table().lines:
            msg = f"{quote(model_type)} is not in transformers, and its own code reads other keys"
            raise ValueError(msg)
        self.layers, self.is_one = tuple(layer.rope for layer in layers), is_one
        self.rotating = [rope for rope in self.layers if rope is not None]
        scales = [layer.query_scale for layer in layers if layer.query_scale is not None]
        self.is_all = is_all
        self.query_scale: Any = scales[0] if scales else None
        scaled = [rope for rope in self.rotating if rope.scaling is not None]
        # What is written where one mapping is for all layers.
        self.main = (scaled or self.rotating)[0]

    def config(self, layer_types: Sequence[str] | None) -> Keys:
        """All keys; nothing says yet that they would be read as the layers are."""
        made: Keys = {} if self.model_type is None else {"model_type": self.model_type}
        labels = self._labels(layer_types)
        made |= self._sizes(labels)
        if labels is not None and not self.is_one:
            made["layer_types"] = [*labels]
        entries: dict[str | None, Keys | None] = {}
        for name, rope in self._kinds(labels).items():
            if rope is None:
                entries[name] = None
                continue
            keys, top = schedule_keys(rope)
            if name is not None and "truncate" in keys:
                top["truncate"] = keys["truncate"]  # also where transformers reads it
            top |= self._rotary_dim(rope)
            for key, value in top.items():
                if made.setdefault(key, value) != value:
                    msg = f"`{key}` must be one value for all layers, got {made[key]} and {value}"
                    raise ValueError(msg)
            entries[name] = {**keys, **self._fraction(rope, keys, name), **self._sections(rope)}
        self._add_query_scale(made, [entry for entry in entries.values() if entry is not None])
        if isinstance(self.main.ranges, DualChunk):
            sizes = {name: n for name, n in asdict(self.main.ranges).items() if n is not None}
            made["dual_chunk_attention_config"] = sizes
        made["rope_parameters"] = entries.get(None, entries)
        return made | self._switches()

    def read(self, made: Keys) -> ModelSpec:
        """What would be read."""
        sizes = {} if self.family is None else _sizes_of_heads(self.family, self.main.head_dim)
        layout = self.main.layout if self.family is None else None
        return read({**sizes, **made}, layout=layout)

    def _labels(self, given: Sequence[str] | None) -> tuple[str, ...] | None:
        """What each layer is called; one of each kind for one RoPE; None if all layers are alike."""
        if given is not None:
            return tuple(given)
        family, kinds = self.family, [*dict.fromkeys(self.layers)]
        if family is None:
            if len(kinds) > len(NAMES):
                msg = f"layers must be of at most {len(NAMES)} kinds, got {len(kinds)}"
                raise ValueError(msg)
            kinds.sort(key=self.layers.count)
            names = dict(zip(kinds, NAMES, strict=False))
            return tuple(names[rope] for rope in self.layers) if len(kinds) > 1 else None
        n_layers = None if self.is_one else len(self.layers)
        found = layer_types_of({}, family, str(self.model_type), n_layers)
        if family.layers in SLIDING and not self.is_one:
            is_sliding = [label == "sliding_attention" for label in found or ()]
            rotates = [rope is not None for rope in self.layers]
            if is_sliding != rotates and not all(rotates):
                return tuple("sliding_attention" if r else "full_attention" for r in rotates)
        return found

    def _kinds(self, labels: tuple[str, ...] | None) -> Mapping[str | None, RoPE | None]:
        """The encoding of each entry of rope_parameters; under None, that of all layers."""
        family = self.family
        if labels is None or (family is not None and not family.per_layer_type):
            return {None: self.main}
        found: dict[str | None, RoPE | None] = {}
        layers = self.layers * (len(labels) if self.is_one else 1)
        for label, rope in zip(labels, layers, strict=True):
            name = label
            if family is not None and family.layers is LayerRule.MAIN_OR_COMPRESS:
                name = MAIN if label == "sliding_attention" else COMPRESS
            if label in NO_ATTENTION:
                continue
            if not is_same(found.setdefault(name, rope), rope):
                msg = f"layers of type {quote(name)} must be alike: pass `layer_types`"
                raise ValueError(msg)
        return found

    def _sizes(self, labels: tuple[str, ...] | None) -> Keys:
        """How large heads are, and how many layers there are."""
        family, most = self.family, self.main.head_dim
        key = "head_dim"
        if family is None and any(r.frequencies().softmax_factor != 1 for r in self.rotating):
            key = "qk_rope_head_dim"  # only latent attention has that factor
        if family is not None and family.rotary is Rotary.MLA:
            key = "qk_rope_head_dim"
        made: Keys = {key: most}
        by_label = {} if family is None else family.head_dim_of_layer_type
        for label, rope in zip(labels or (), cycle(self.layers), strict=False):
            if label in by_label and rope is not None:
                made[by_label[label].key] = rope.head_dim
            elif by_label and rope is not None:
                made[key] = rope.head_dim
        others = {
            str(i): {key: rope.head_dim}
            for i, rope in enumerate(self.layers)
            if rope is not None and rope.head_dim != most
        }
        if others and not by_label:
            made["per_layer_config"] = others
        if not self.is_one:
            n_layers = len(self.layers)
            twice = None if family is None else family.attentions_per_layer_key
            made |= {twice: n_layers // 2} if twice else {"num_hidden_layers": n_layers}
        return made

    def _rotary_dim(self, rope: RoPE) -> Keys:
        is_gptj = self.family is not None and self.family.rotary is Rotary.SPECIAL_GPTJ
        return {"rotary_dim": rope.rotary_dim} if is_gptj else {}

    def _fraction(self, rope: RoPE, keys: Keys, name: str | None) -> Keys:
        """``partial_rotary_factor``, where it is read and not 1 by default."""
        family = self.family
        if "partial_rotary_factor" in keys:
            return {}
        whole = {Rotary.WHOLE, Rotary.AXES, Rotary.SPECIAL_GPTJ, Rotary.SPECIAL_CLVP}
        if family is not None and (
            family.rotary in whole or (family.rotary is Rotary.MLA and not family.partial_of_slice)
        ):
            return {}
        factor = fraction_of(rope.rotary_dim, rope.head_dim)
        if factor == 1 and family is not None and family.default_partial(name) == 1:
            return {}
        return {"partial_rotary_factor": factor}

    def _sections(self, rope: RoPE) -> Keys:
        """The pairs of each axis, where the family reads them from the config."""
        rule, found = None if self.family is None else self.family.axes, rope.axes
        if found is not None and rule is None:
            msg = (
                f"positions with {found.n_axes} axes belong to a family: pass model_type= of one that "
                f"has them, got {type(found).__name__}"
            )
            raise ValueError(msg)
        match rule:
            case Sections():
                return {"mrope_section": [*getattr(found, "sections", ())]}
            case InterleavedSections() if hasattr(found, "sections"):
                return {"mrope_section": [*found.sections], "mrope_interleaved": True}
            case AxisPerPair() if rule.mrope_section is not None and found is not None:
                owners = found.axis_of_pair(rope.rotary_dim)
                order = [axis for run in rule.runs for axis in run]
                return {"mrope_section": [owners.count(axis) for axis in order]}
            case _:
                return {}

    def _add_query_scale(self, made: Keys, entries: list[Keys]) -> None:
        """By what queries are multiplied; in the rope parameters, where the family has such keys there."""
        family, scale = self.family, self.query_scale
        rule = None if family is None else family.query_scale
        if family is None or rule is None:
            return
        if rule.enabled_key is not None and (self.is_all or scale is not None):
            made[rule.enabled_key] = scale is not None
        for key, name in ((rule.length_key, "length"), (rule.beta_key, "beta")):
            value = getattr(scale, name, None)
            if key is None or value is None or all(key in entry for entry in entries):
                continue  # the length of a schedule can be that of the scale
            for place in entries if key in family.extra_keys else [made]:
                place[key] = value

    def _switches(self) -> Keys:
        """The keys of the family's own rules: pairing, and which layers rotate by what."""
        family, layers = self.family, self.layers
        if family is None:
            return {}
        made: Keys = {}
        if family.interleaved_key is not None:
            made[family.interleaved_key] = self.main.layout == "interleaved"
        if family.enabled_if is not None:
            made[family.enabled_if.key] = family.enabled_if.equals
        if self.is_one:
            return made
        match family.layers:
            case LayerRule.NO_ROPE_LAYERS:
                made["no_rope_layers"] = [int(rope is not None) for rope in layers]
            case LayerRule.LAYER_ROPE_THETA | LayerRule.NONZERO_LAYER_ROPE_THETA:
                made["layer_rope_theta"] = [0.0 if rope is None else rope.base for rope in layers]
            case LayerRule.NO_CROSS_ATTENTION:
                made["cross_attention_layers"] = [i for i, r in enumerate(layers) if r is None]
            case LayerRule.ROPE_SCALING_LAYERS:
                made["rope_scaling_layers"] = [i for i, r in enumerate(layers) if r == self.main]
            case LayerRule.SLIDING_ONLY_IF_WINDOWED if None not in layers:
                made["sliding_window"] = None
        return made


def _sizes_of_heads(family: Family, head_dim: int) -> Keys:
    """For a family that does not read head_dim: sizes from which it follows; those of its class if they do."""
    if family.reads_head_dim:
        return {}
    key, heads = family.hidden_size_key, "num_attention_heads"
    sizes = {key: family.defaults.get(key, head_dim), heads: family.defaults.get(heads, 1)}
    return sizes if sizes[key] == head_dim * sizes[heads] else {key: head_dim, heads: 1}
