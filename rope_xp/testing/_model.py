"""A model of transformers, layer by layer: how it rotates, and what its config says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rope_xp._backends import torch_modules
from rope_xp.configs._explain import ranges
from rope_xp.configs._summary import ConfigOrRopes, Layer, Summary, read_kinds
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE
from rope_xp.testing._model_layer import Seen, look
from rope_xp.testing._model_runs import Run, make_runs

_COLUMNS = ("layers", "rotates", "pairs", "features", "base", "factor", "the config says")


@dataclass(frozen=True)
class LayerDiagnosis:
    """What one layer does with its queries and keys, and what its config says.

    Parameters
    ----------
    number : int
    name : str
        Of the attention module, as in ``model.named_modules()``; empty if none was seen.
    rotates : bool or None
        None: could not be seen.
    layout : {"half", "interleaved"} or None
        Of the queries and keys that the rotation gets. None: other pairs, or not seen.
    output_layout : {"half", "interleaved"} or None
        Of those that are multiplied.
    direction : {1, -1}
    head_dim, rotary_dim, rotary_start : int
        The features of a head as it is multiplied, and which of them turn.
    inv_freq : tuple of float
        Radians per step of each pair.
    base : float or None
        If the frequencies are those of a base, without a schedule.
    attention_factor : float or None
        None: could not be seen.
    rope : RoPE or None
        What the config says; None: no rotation.
    differences, remarks : tuple of str
        Sentences: what differs from the config, and other remarks.
    """

    number: int
    name: str
    rotates: bool | None
    layout: Layout | None
    output_layout: Layout | None
    direction: int
    head_dim: int
    rotary_dim: int
    rotary_start: int
    inv_freq: tuple[float, ...]
    base: float | None
    attention_factor: float | None
    rope: RoPE | None
    differences: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether the layer was seen to do what the config says."""
        return self.rotates is not None and not self.differences

    def _row(self) -> tuple[str, ...]:
        says = "no rotation" if self.rope is None else _short(self.rope)
        if not self.rotates:
            return ("not seen" if self.rotates is None else "no", "", "", "", "", says)
        pairs: str = self.layout or "others"
        if self.output_layout != self.layout:
            pairs += f", returned as {self.output_layout or 'others'}"
        features = f"{self.rotary_dim} of {self.head_dim}"
        features += f" from {self.rotary_start}" if self.rotary_start else ""
        base = "scheduled" if self.base is None else f"{self.base:,.10g}"
        factor = "not seen" if self.attention_factor is None else f"{self.attention_factor:.5g}"
        return ("yes" if self.direction > 0 else "backwards", pairs, features, base, factor, says)


@dataclass(frozen=True)
class ModelDiagnosis:
    """What the layers of a model do, and what their config says; prints as a table.

    Parameters
    ----------
    name : str
        The ``model_type``.
    layers : tuple of LayerDiagnosis
    remarks : tuple of str
        Sentences about the whole model: how it was tried, buffers, what could not be seen.
    """

    name: str
    layers: tuple[LayerDiagnosis, ...]
    remarks: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether every layer was seen to do what the config says."""
        return all(layer.is_same for layer in self.layers)

    @property
    def differences(self) -> tuple[str, ...]:
        """Sentences that begin with layers, as ``"layer 3: base 10000, the config says 500000"``."""
        return _sentences(self.layers, [layer.differences for layer in self.layers])

    @property
    def not_seen(self) -> tuple[int, ...]:
        """Layers whose queries and keys could not be seen."""
        return tuple(layer.number for layer in self.layers if layer.rotates is None)

    def __str__(self) -> str:
        groups: dict[tuple[str, ...], list[int]] = {}
        for layer in self.layers:
            groups.setdefault(layer._row(), []).append(layer.number)
        rows = [_COLUMNS, *((ranges(numbers), *row) for row, numbers in groups.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        seen = "as the config says" if self.is_same else "not all as the config says"
        head = f"{self.name or 'a model'}: {len(self.layers)} layers, {seen}"
        sentences = _sentences(self.layers, [layer.remarks for layer in self.layers])
        return "\n".join(
            [
                head,
                "",
                *table,
                *(f"differs: {each}" for each in self.differences),
                *(f"note: {each}" for each in (*sentences, *self.remarks)),
            ]
        )


def diagnose_model(model: Any, config: ConfigOrRopes | None = None) -> ModelDiagnosis:
    """How each layer of a transformers model rotates, and where that is not what its config says.

    The model runs a few times, on one token for each row, at other positions each time. Attention to a
    single token gives back its values whatever its position is, so that queries and keys of every layer
    change by their rotation only. They are seen where they are multiplied.

    Parameters
    ----------
    model : torch.nn.Module
        A text model of transformers, or another module that is called with ``input_ids`` and
        ``position_ids``; its attention multiplies with ``scaled_dot_product_attention`` or ``matmul``.
        Other implementations of attention are replaced by the eager one while it runs.
    config : mapping, config object, path, RoPE, or sequence of RoPE or None, optional
        What it is compared with, as in `rope_xp.configs.explain`. Default: ``model.config``.

    Returns
    -------
    ModelDiagnosis
        Its ``differences`` are sentences, and ``is_same`` says that there are none and that every layer was
        seen. What could not be seen is in ``not_seen`` and in the remarks.

    Raises
    ------
    ValueError, TypeError
        If ``model`` is no module with weights, does not run on token ids, or its config can't be read.

    Notes
    -----
    The model is the same afterwards: training mode, buffers, attributes, hooks, and torch's random state.
    While it runs, functions of its Python modules that rotate (``apply_rotary_pos_emb``) are replaced by
    functions that call them, so do not use the same classes in another thread.

    Not compared: masks, windows, the scale of the softmax, weights (and so not whether their rows are in
    the order of the layout), vision and audio towers, and positions beyond the context.

    Examples
    --------
    >>> from rope_xp.testing import diagnose_model
    >>> model = AutoModelForCausalLM.from_pretrained(path)  # doctest: +SKIP
    >>> print(diagnose_model(model))  # doctest: +SKIP
    llama: 32 layers, as the config says
    """
    model = torch_modules.require_model(model)
    given = getattr(model, "config", None) if config is None else config
    if given is None:
        msg = "`model` must have a config, or pass `config`"
        raise TypeError(msg)
    summary = read_kinds(given, None)
    runs, remarks = make_runs(model, summary)
    numbers = _layers(runs, summary)
    layers = tuple(_layer(number, layer, runs) for number, layer in numbers)
    extra = sorted(
        {s.number for s in runs[0].scored if s.number is not None} - {n for n, _ in numbers}
    )
    if extra:
        remarks.append(
            f"attention in layers {ranges(extra)}, which the config does not have, is not compared"
        )
    name = summary.name or str(getattr(getattr(model, "config", None), "model_type", ""))
    if summary.note is not None and not all(layer.is_same for layer in layers):
        remarks.append(f"of {summary.name}: {summary.note}")
    return ModelDiagnosis(name, layers, (*remarks, *_buffers(model)))


def _layers(runs: list[Run], summary: Summary) -> list[tuple[int, Layer]]:
    """The layers of the config by their numbers in the model."""
    numbers = sorted({s.number for s in runs[0].scored if s.number is not None})
    if summary.has_layer_count:
        # A config can have an entry for the MLP of each layer, too.
        mlps = {n for kind in summary.kinds if kind.label == "mlp" for n in kind.numbers}
        others = [layer for n, layer in enumerate(summary.layers) if n not in mlps]
        return [*enumerate(others if [*range(len(others))] == numbers else summary.layers)]
    if len({*summary.layers}) > 1 or not numbers:
        n = len(summary.layers)
        msg = (
            f"`config` must say how many layers there are, got {n} kinds of layers without a number"
        )
        raise ValueError(msg)
    return [(number, summary.layers[0]) for number in numbers]


def _layer(number: int, layer: Layer, runs: list[Run]) -> LayerDiagnosis:
    names = sorted((s.name for s in runs[0].scored if s.number == number), key=len)
    if not names:
        why = "no product of its queries and keys was seen"
        # A layer without attention has none, as its config says.
        rotates = None if layer.rope is not None else False
        remarks = (why,)
        return LayerDiagnosis(
            number, "", rotates, None, None, 1, 0, 0, 0, (), None, None, layer.rope, (), remarks
        )
    seen: Seen = look(names[0], layer, runs)
    others = tuple(
        f"{name.removeprefix(f'{names[0]}.')} multiplies queries and keys, too: not compared"
        for name in names[1:]
    )
    return LayerDiagnosis(
        number, names[0], *seen.facts, layer.rope, tuple(seen.differences), (*seen.remarks, *others)
    )


def _buffers(model: Any) -> list[str]:
    """What the buffers that hold frequencies tell by themselves."""
    found = []
    for name, values, dtype in torch_modules.frequency_buffers(model):
        if not (abs(values) <= 1e4).all() or not values.any():
            found.append(
                f"{name} has values that are no frequencies ({values.min():.3g} to {values.max():.3g}), as "
                "memory that was never written: a buffer made on the meta device must be computed again"
            )
        elif dtype in ("bfloat16", "float16"):
            found.append(
                f"{name} is {dtype}: model.to({dtype}) rounds it, .float() does not bring it back"
            )
    return found


def _sentences(
    layers: Sequence[LayerDiagnosis], sentences: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """Each sentence with the layers that have it."""
    groups: dict[str, list[int]] = {}
    for layer, own in zip(layers, sentences, strict=True):
        for each in own:
            groups.setdefault(each, []).append(layer.number)
    return tuple(
        f"{'layer' if len(n) == 1 else 'layers'} {n[0] if len(n) == 1 else ranges(n)}: {each}"
        for each, n in groups.items()
    )


def _short(rope: RoPE) -> str:
    text = f"{rope.layout}, base {rope.base:,.10g}"
    if rope.rotary_dim != rope.head_dim:
        text += f", {rope.rotary_dim} of {rope.head_dim}"
    scaling = rope.scaling if isinstance(rope.scaling, tuple) else (rope.scaling,)
    names = [type(each).__name__ for each in scaling if each is not None]
    text += f", {', '.join(names)}" if names else ""
    return text if rope.axes is None else f"{text}, {rope.axes.n_axes} axes"
