"""From one config and its family's rules to the `RoPE` of every layer.

The rules follow transformers 5.23.0, with one difference: what it ignores or fills in silently is
refused here, in a sentence that names the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rope_xp._config_reader import axes as axes_reader
from rope_xp._config_reader import families
from rope_xp._config_reader import values as reading
from rope_xp._config_reader.families import Family
from rope_xp._config_reader.sizes import Sizes
from rope_xp._config_reader.values import Config, RopeDict
from rope_xp.rope import RoPE
from rope_xp.scaling import FrequencyFactors, Negated

# Kinds of layers, as configs call them. The second set has no attention, so nothing to rotate.
LABELS = {
    "attention",
    "chunked_attention",
    "compressed_sparse_attention",
    "full_attention",
    "global_attention",
    "heavily_compressed_attention",
    "hybrid",
    "hybrid_sliding",
    "indexed_attention",
    "local_attention",
    "minimax_m3_sparse",
    "reference_sliding_attention",
    "sliding_attention",
    "window_attention",
}
NO_ATTENTION = {"linear_attention", "conv", "mamba", "mamba2", "recurrent", "moe", "mlp"}

OLD_LABELS = {
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}

# Where other families keep the base. One that a family does not read must not be there, unless it
# says the same.
BASE_KEYS = [
    "rope_theta",
    "rotary_emb_base",
    "rotary_embedding_base",
    "rope_base",
    "rope_local_base_freq",
    "global_rope_theta",
    "local_rope_theta",
    "swa_rope_theta",
    "compress_rope_theta",
]


class Layer(NamedTuple):
    """One layer: what its config calls it, and its RoPE if it has one."""

    label: str | None
    rope: RoPE | None


class Model(NamedTuple):
    """What `read` finds. ``counted``: the layers are as many as the model's, not one of each kind."""

    model_type: str
    family: Family
    layers: tuple[Layer, ...]
    counted: bool
    max_positions: int | None


def read(config: object, *, layout: str | None, precision: str) -> Model:
    """All that follows from a config. Parameters and errors as in `rope_xp.configs.layer_ropes`."""
    loaded, model_type, family, layout = families.find(config, layout)
    return _Reader(loaded, model_type, family, layout, precision).model()


class _Reader:
    """One config on its way to its layers: every method is one question about it."""

    def __init__(
        self, config: Config, model_type: str, family: Family, layout: str | None, precision: str
    ) -> None:
        self.config, self.model_type, self.family = config, model_type, family
        self.precision = precision
        self.n_layers = reading.integer(config, "num_hidden_layers")
        if self.n_layers is None and "two_per" in family:  # two attentions in each of its layers
            self.n_layers = 2 * (reading.integer(config, family["two_per"]) or 0) or None
        self.max_positions = reading.integer(config, "max_position_embeddings")
        self.layout = layout or family["layout"]
        if layout is None and family.get("layout_switch"):
            adjacent = reading.flag(config, family["layout_switch"], default=True)
            self.layout = "interleaved" if adjacent else "half"
        self.labels = self._labels()
        self.sizes = Sizes(config, family, model_type, self.labels)
        self.entries = self._entries()

    def model(self) -> Model:
        labels: list[str | None] = [*(self.labels or [])]
        counted = self.labels is not None and self.n_layers is not None
        if self.labels is None:
            homogeneous = not self.family.get("hybrid") and self.n_layers is not None
            labels, counted = [None] * (self.n_layers or 1), homogeneous
        layers = tuple(
            Layer(label, self._rope(i, label, len(labels))) for i, label in enumerate(labels)
        )
        self._refuse_strays(layers)
        return Model(self.model_type, self.family, layers, counted, self.max_positions)

    def _labels(self) -> list[str] | None:
        """What each layer is called; one of each kind if their number is not told; None if all are alike."""
        labels = reading.listed(self.config, "layer_types", self.n_layers)
        if labels is not None:
            labels = [OLD_LABELS.get(label, label) for label in labels]
            for label in labels:
                if label not in LABELS | NO_ATTENTION:
                    known = ", ".join(sorted(LABELS | NO_ATTENTION))
                    msg = f"unknown layer type {label!r} in layer_types; known: {known}"
                    raise ValueError(msg)
            self.n_layers = len(labels)
            return labels
        family, n = self.family, self.n_layers
        if "compress_ratios" in family and self.config.get("compress_ratios") is not None:
            ratios = reading.listed(self.config, "compress_ratios", None) or []
            for ratio in ratios:
                if str(ratio) not in family["compress_ratios"]:
                    known = ", ".join(family["compress_ratios"])
                    msg = f"`compress_ratios` must be of {known}, got {ratio!r}"
                    raise ValueError(msg)
            return [family["compress_ratios"][str(ratio)] for ratio in ratios[: n or len(ratios)]]
        if family.get("layers") == "block_types":
            block = reading.listed(self.config, "block_types", None) or family["layer_cycle"]
            return [block[i % len(block)] for i in range(n or len(block))]
        for rule in ("attn_layer_indices", "full_attn_idxs"):
            if family.get("layers") == rule and n is not None and rule in self.config:
                at = reading.listed(self.config, rule, None) or []
                return ["full_attention" if i in at else "linear_attention" for i in range(n)]
        cycle = family.get("layer_cycle")
        if cycle is None:
            return None
        key = family.get("layer_cycle_key", "")
        every = reading.integer(self.config, key)
        if self.config.get("first_k_dense_replace") and "dense prefix" in family.get("layers", ""):
            msg = f"`layer_types` must be given with first_k_dense_replace for {self.model_type!r}"
            raise ValueError(msg)
        if every is not None:
            common, rare = (cycle[1], cycle[0]) if cycle[0] != cycle[1] else (cycle[0], cycle[-1])
            cycle = [rare] + [common] * (every - 1)
            cycle = cycle if family["layer_cycle"][0] == rare else cycle[::-1]
        count = n or len(cycle)
        labels = [cycle[i % len(cycle)] for i in range(count)]
        if family.get("layer_cycle_from_end"):
            labels = labels[::-1]
        first = family.get("first_layers", [])[:count]
        labels[: len(first)] = first
        if "last_layer" in family:
            labels[-1] = family["last_layer"]
        return list(labels)

    def _entries(self) -> dict[str | None, RopeDict | None]:
        """The rope dict of each kind of layer, None where it is null; under None if there is one for all."""
        new = reading.require_mapping("rope_parameters", self.config.get("rope_parameters"))
        old = reading.require_mapping("rope_scaling", self.config.get("rope_scaling"))
        family = self.family
        nested = {} if new is None else {k: v for k, v in new.items() if self._is_kind(k, v)}
        if new is not None and old is not None:
            # transformers lets rope_scaling replace rope_parameters; two that say the same are no harm.
            if nested:
                msg = "`rope_scaling` must be absent beside a rope_parameters per layer type, got both"
                raise ValueError(msg)
            for key in sorted({*new, *old} - {"type", "rope_theta", "partial_rotary_factor"}):
                old_value = old.get(key, old.get("type") if key == "rope_type" else None)
                new_value = new.get(key, new.get("type") if key == "rope_type" else None)
                if old_value != new_value:
                    msg = (
                        f"`{key}` must be the same in rope_scaling and rope_parameters, got "
                        f"{old_value!r} and {new_value!r}"
                    )
                    raise ValueError(msg)
            new = {**old, **new}
        if nested:
            if family["nested"] is False:
                msg = (
                    f"`rope_parameters` must be one mapping for model_type {self.model_type!r}, "
                    f"got one per layer type: {', '.join(map(str, nested))}"
                )
                raise ValueError(msg)
            for key in new or {}:
                if key not in nested:
                    msg = f"unknown key {key!r} in rope_parameters beside {', '.join(map(str, nested))}"
                    raise ValueError(msg)
            return {
                k: None if v is None else RopeDict(f"rope_parameters[{k!r}]", dict(v))
                for k, v in nested.items()
            }
        if family["nested"]:
            if new is not None:
                kinds = ", ".join(family["rope_parameters"])
                msg = (
                    f"`rope_parameters` must be one mapping per layer type ({kinds}) for model_type "
                    f"{self.model_type!r}, got keys {', '.join(map(str, new))}"
                )
                raise ValueError(msg)
            return self._legacy_entries(old)
        values = new if new is not None else old
        if values is None and "rope_parameters" in family:
            return {None: RopeDict(f"the defaults of {self.model_type}", family["rope_parameters"])}
        where = "rope_scaling" if new is None and old is not None else "rope_parameters"
        return {None: RopeDict(where, values or {})}

    def _legacy_entries(self, old: Config | None) -> dict[str | None, RopeDict | None]:
        """Per kind of layer, from the class defaults, top-level bases and rope_scaling."""
        goes_to = self.family.get("rope_scaling_goes_to", [])
        listed = self._per_kind("rope_theta"), self._per_kind("partial_rotary_factors")
        if old is not None and not goes_to:
            msg = (
                f"`rope_scaling` must be absent for model_type {self.model_type!r}, got {old!r}: "
                "its layers differ, so write rope_parameters with one mapping per layer type"
            )
            raise ValueError(msg)
        found: dict[str | None, RopeDict | None] = {}
        for label, default in self.family["rope_parameters"].items():
            if default is None:
                found[label] = None
            elif old is not None and label in goes_to:
                found[label] = RopeDict("rope_scaling", dict(old))
            else:
                base_key = self.family.get("base_keys", {}).get(label)
                told = base_key is not None and self.config.get(base_key) is not None
                kept = {k: v for k, v in default.items() if not (told and k == "rope_theta")}
                found[label] = RopeDict(f"the defaults of {self.model_type}", kept)
            for key, each in zip(("rope_theta", "partial_rotary_factor"), listed, strict=True):
                entry = found[label]
                if entry is not None and label in each:
                    entry.values[key] = each[label]
        return found

    def _per_kind(self, key: str) -> Config:
        """A list with a number per layer, as one for each kind of layer; they must agree."""
        told = self.config.get(key)
        if not isinstance(told, list | tuple) or not self.family.get("lists_per_layer"):
            return {}
        labels = self.labels or []
        if len(told) < len(labels):
            msg = f"`{key}` must have num_hidden_layers={len(labels)} entries, got {len(told)}"
            raise ValueError(msg)
        each: Config = {}
        for label, value in zip(labels, told, strict=False):  # some files go on, for later layers
            if each.setdefault(label, value) != value:
                msg = (
                    f"`{key}` must be the same for all layers of type {label!r}, got {value!r} too"
                )
                raise ValueError(msg)
        if key == "rope_theta":
            self.config[key] = None  # it has been handed on
        return each

    def _is_kind(self, key: object, value: object) -> bool:
        kinds = {*(self.labels or ()), *LABELS, "main", "compress"}
        return isinstance(value, Mapping) or (value is None and key in kinds)

    def _rope(self, i: int, label: str | None, n: int) -> RoPE | None:
        """Layer ``i`` of ``n``."""
        family, config = self.family, self.config
        if label in NO_ATTENTION or (
            family.get("layers") == "block_types" and label != "attention"
        ):
            return None
        if "switch" in family:
            key, wanted, default = family["switch"]
            if config.get(key, default) != wanted:
                return None
        kind: str | None = None if None in self.entries else label
        base: float | None = None
        scaled = True
        match family.get("layers"):
            case "sliding only":
                rotates = label == "sliding_attention"
            case "sliding only, if there is a window":
                rotates = label == "sliding_attention" or config.get("sliding_window", 0) is None
            case "sliding only, or a dense prefix":
                rotates = label == "sliding_attention" or self._is_dense_prefix(i)
            case "no_rope_layers":
                every = reading.integer(config, "no_rope_layer_interval") or 4
                told = reading.listed(config, "no_rope_layers", self.n_layers)
                rotates = bool(told[i] if told else (i + 1) % every)
            case "layer_rope_theta is zero":
                told = reading.listed(config, "layer_rope_theta", self.n_layers)
                rotates = bool(told[i] if told else (n - 1 - i) % 4)
            case "layer_rope_theta":
                told = reading.listed(config, "layer_rope_theta", self.n_layers)
                rotates = told is None or bool(told[i])
                if told and rotates:
                    base = reading.number({"layer_rope_theta": told[i]}, "layer_rope_theta")
            case "cross_attention_layers":
                told = reading.listed(config, "cross_attention_layers", None)
                rotates = i not in (told if told is not None else range(3, 40, 5))
            case "rope_scaling_layers":
                told = reading.listed(config, "rope_scaling_layers", None)
                rotates, scaled = True, told is None or i in told
            case "main or compress":
                rotates, kind = True, "main" if label == "sliding_attention" else "compress"
            case _:
                rotates = True
        if not rotates:
            return None
        if kind not in self.entries:
            msg = f"`rope_parameters` must have a mapping or null for {kind!r} of layer_types, got none"
            raise ValueError(msg)
        entry = self.entries[kind]
        return None if entry is None else self._build(entry, label, kind, base, scaled=scaled)

    def _is_dense_prefix(self, i: int) -> bool:
        kinds = reading.listed(self.config, "mlp_layer_types", self.n_layers)
        every = reading.integer(self.config, "prefix_dense_sliding_window_pattern") or 1
        return kinds is not None and kinds[i] == "dense" and every == 1

    def _build(
        self,
        entry: RopeDict,
        label: str | None,
        kind: str | None,
        base: float | None,
        *,
        scaled: bool,
    ) -> RoPE:
        family = self.family
        name = reading.rope_type(
            entry, family.get("rope_types", {}), reads_type=family.get("reads_type", True)
        )
        if name not in family.get("schedules", reading.KEYS):
            aliases = [
                k for k, v in family.get("rope_types", {}).items() if v in family["schedules"]
            ]
            known = ", ".join([*aliases, *family["schedules"]])
            msg = f"`rope_type` in {entry.where} must be of {known} for model_type {self.model_type!r}, got {name!r}"
            raise ValueError(msg)
        fields = self._fields(entry, name, nested=kind is not None)
        extra = axes_reader.extra_keys(family, entry, self.model_type)
        extra = [k for k in extra if name != "longrope" or k != "factor"]
        reading.require_keys(entry, name, extra, set(fields))
        told = self._base(entry, kind)
        base = told if base is None else base

        head_dim = self.sizes.head_dim(label)
        factor = self.sizes.partial(entry, kind, name)
        rotary_dim = self.sizes.rotary_dim(head_dim, factor, name)
        if name == "proportional":
            fields["partial_rotary_factor"] = factor
        if name == "longrope" and family.get("longrope_short_only"):
            fields["long_factor"] = entry.values["short_factor"]  # as its module does: see the note
        if name == "yarn":
            mscale = entry.values.get("mscale_all_dim")
            fields |= (
                {} if family.get("mscale_softmax") or not mscale else {"mscale_softmax": False}
            )
        made = reading.schedule(entry, name, max_positions=self.max_positions, fields=fields)
        if "rope_freqs" in self.config:  # a tensor of a GGUF file
            made = FrequencyFactors(tuple(map(float, self.config["rope_freqs"])))
        made = made if scaled else None
        if family.get("direction") == -1:
            made = Negated(made)
        axes = axes_reader.scheme(family, entry, rotary_dim // 2, self.model_type)
        try:
            return RoPE(
                head_dim,
                layout=self.layout,
                base=base,
                rotary_dim=rotary_dim,
                rotary_start=head_dim - rotary_dim if family.get("tail") else 0,
                scaling=made,
                axes=axes,
                precision=self.precision,
            )
        except ValueError as error:
            msg = f"{error} (from {entry.where})"
            raise ValueError(msg) from None

    def _fields(self, entry: RopeDict, name: str, *, nested: bool) -> dict[str, Any]:
        """What transformers takes from outside of the rope dict."""
        fields: dict[str, Any] = {}
        key = "original_max_position_embeddings"
        if name in ("yarn", "llama3", "longrope") and not nested:
            reading.integer(entry.values, key, f" in {entry.where}")
            outside = reading.integer(self.config, key)
            original = reading.agreed(
                key, {"at the top level": outside, f"in {entry.where}": entry.values.get(key)}
            )
            if outside is not None:
                fields[key] = original
        if name == "yarn" and nested:
            # transformers reads it from the top level of a config whose layers differ.
            outside = reading.flag(self.config, "truncate", default=True)
            if (
                reading.flag(entry.values, "truncate", f" in {entry.where}", default=outside)
                != outside
            ):
                msg = f"`truncate` in {entry.where} must be {outside}, the top-level value, got {not outside}"
                raise ValueError(msg)
            fields["truncate"] = outside
        own = self.family.get("yarn_attention_factor")
        if own and name == "yarn" and entry.where == "rope_scaling":
            fields["attention_factor"] = entry.values.get("attention_factor") or own
        return fields

    def _base(self, entry: RopeDict, kind: str | None) -> float:
        family = self.family
        keys = family.get("base_keys", [] if family["nested"] else ["rope_theta"])
        keys = ([keys[kind]] if kind in keys else []) if isinstance(keys, Mapping) else keys
        inside = reading.number(entry.values, "rope_theta", f" in {entry.where}")
        beside = not keys and entry.where == "rope_scaling" and not family["nested"]
        told = {f"in {entry.where}": inside}
        for key in ["rope_theta"] if beside else keys:
            told[f"as {key} at the top level"] = reading.number(self.config, key)
        base = reading.agreed("rope_theta", told)
        if base is None and kind is None:
            base = family.get("base")
        elif base is None:
            base = (family.get("rope_parameters", {}).get(kind) or {}).get("rope_theta")
        if base is None:
            msg = f"`rope_theta` must be given for model_type {self.model_type!r}, got nothing"
            raise ValueError(msg)
        return float(base)

    def _refuse_strays(self, layers: Iterable[Layer]) -> None:
        """ValueError for a base or a rotated part that the family does not read and that differs."""
        ropes = [layer.rope for layer in layers if layer.rope is not None]
        keys = self.family.get("base_keys", [] if self.family["nested"] else ["rope_theta"])
        read = keys.values() if isinstance(keys, Mapping) else keys
        for key in BASE_KEYS:
            stray = None if key in read else self.config.get(key)
            if stray is not None and ropes and stray not in [rope.base for rope in ropes]:
                msg = (
                    f"`{key}` is not read for model_type {self.model_type!r} and must be absent or the "
                    f"base in use, {ropes[0].base}, got {stray!r}: write it into rope_parameters"
                )
                raise ValueError(msg)
        for key, of in (("rotary_dim", "rotary_dim"), ("rotary_pct", "partial_rotary_factor")):
            stray = self.config.get(key)
            if stray is None or not ropes or key in self.family.get("ignores", ()):
                continue
            if key in (self.family.get("partial_key"), self.family.get("rotary_dim_key")):
                continue
            value = ropes[0].rotary_dim if key == of else ropes[0].rotary_dim / ropes[0].head_dim
            if self.family["rotary"] not in ("own", "generic") and stray != value:
                msg = (
                    f"`{key}` is not read for model_type {self.model_type!r} and must be absent or "
                    f"{value}, got {stray!r}"
                )
                raise ValueError(msg)
