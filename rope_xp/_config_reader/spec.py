"""What is read: `ModelSpec`, a plain description of a model and of each of its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from rope_xp._config_reader.schema import Family
from rope_xp._validation import quote
from rope_xp.axes import Axes
from rope_xp.positions import DualChunk
from rope_xp.scaling import QueryScale, Schedule

T = TypeVar("T")


@dataclass(frozen=True)
class LayerSpec:
    """What a config says about a layer that rotates: the arguments of `rope_xp.RoPE`, and where from.

    Parameters
    ----------
    head_dim, layout, base, rotary_dim, rotary_start, scaling, axes, query_scale, ranges
        As in `rope_xp.RoPE`.
    source : str
        Where the rope parameters are, for sentences; does not count when specs are compared.
    """

    head_dim: int
    layout: str
    base: float
    rotary_dim: int
    rotary_start: int
    scaling: Schedule | tuple[Schedule | None, ...] | None
    axes: Axes | None
    source: str = field(compare=False)
    query_scale: QueryScale | None = None
    ranges: DualChunk | None = None

    def make(self, rope_class: Callable[..., T], precision: str) -> T:
        """``rope_class`` of these arguments; what it refuses is said with the source."""
        # Where all features rotate, that follows from ``head_dim``, also in what is made of the object.
        partial = self.rotary_dim != self.head_dim - self.rotary_start
        try:
            return rope_class(
                self.head_dim,
                layout=self.layout,
                base=self.base,
                rotary_dim=self.rotary_dim if partial else None,
                rotary_start=self.rotary_start,
                scaling=self.scaling,
                axes=self.axes,
                precision=precision,
                query_scale=self.query_scale,
                ranges=self.ranges,
            )
        except ValueError as error:
            msg = f"{error} (from {self.source})"
            raise ValueError(msg) from None


class Layer(NamedTuple):
    """One layer: what its config calls it, and what it says about it.

    Parameters
    ----------
    label : str, optional
    spec : LayerSpec, optional
        None: it does not rotate.
    query_scale : QueryScale, optional
        That of the spec, or of a layer that does not rotate.
    softmax_factor : float
        Of a layer that does not rotate: that of the schedule, if its scores have it nevertheless.
    """

    label: str | None
    spec: LayerSpec | None
    query_scale: QueryScale | None = None
    softmax_factor: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """What `read` finds.

    Parameters
    ----------
    model_type : str
    family : Family
    layers : tuple of Layer
        All layers of the model if ``has_layer_count``, else one of each kind.
    has_layer_count : bool
        Whether the config says how many layers there are, and which is which.
    max_positions : int, optional
        The longest context that the config names.
    n_unrotated : int, optional
        With latent attention: features of a head before the slice that rotates, if the config says it.
    """

    model_type: str
    family: Family
    layers: tuple[Layer, ...]
    has_layer_count: bool
    max_positions: int | None
    n_unrotated: int | None = None

    def make(self, rope_class: Callable[..., T], precision: str) -> dict[LayerSpec, T]:
        """``rope_class`` of every distinct layer that rotates, so that what is wrong in any is refused."""
        specs = dict.fromkeys(layer.spec for layer in self.layers if layer.spec is not None)
        return {spec: spec.make(rope_class, precision) for spec in specs}

    def only_spec(self, layer_type: str | None) -> LayerSpec:
        """The one spec of the layers of a type, or of all layers that rotate.

        Raises
        ------
        ValueError
            If there is no layer of this type, if none rotates, or if they differ.
        """
        labels = sorted({layer.label for layer in self.layers if layer.label})
        model = f"model_type {quote(self.model_type)}"
        if layer_type is not None and not labels:
            rotate = {layer.spec is not None for layer in self.layers}
            are = (
                "are alike"
                if len(rotate) == 1
                else "have no types; some do not rotate: use layer_ropes"
            )
            msg = f"`layer_type` must be None for {model}, whose layers {are}, got {quote(layer_type)}"
            raise ValueError(msg)
        if layer_type is not None and layer_type not in labels:
            known = ", ".join(map(repr, labels))
            msg = f"`layer_type` must be one of {known}, got {quote(layer_type)}"
            raise ValueError(msg)
        found = {
            layer.spec
            for layer in self.layers
            if layer.spec is not None and layer_type in (None, layer.label)
        }
        if not found:
            rule = self.family.enabled_if
            where = "" if layer_type is None else f" in layers of type {quote(layer_type)}"
            unless = "" if rule is None else f" unless `{rule.key}` is {quote(rule.equals)}"
            msg = f"{model} has no rotary encoding{where}{unless}"
            raise ValueError(msg)
        if len(found) > 1 and layer_type is None and len(labels) > 1:
            msg = f"`layer_type` is required for {model}, whose layers differ: {', '.join(labels)}"
            raise ValueError(msg)
        if len(found) > 1:
            which = "its layers" if layer_type is None else f"layers of type {quote(layer_type)}"
            msg = f"{which} rotate differently in {model}: use layer_ropes"
            raise ValueError(msg)
        return found.pop()
