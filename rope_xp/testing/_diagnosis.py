"""What was found out about an implementation, and how it prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rope_xp.configs._explain import format_number, short_repr
from rope_xp.rope import RoPE
from rope_xp.scaling import Schedule

PairList = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What `diagnose` found out; prints as a table that ends in the `RoPE`, if there is one.

    Parameters
    ----------
    head_dim : int
    layout : "half", "interleaved", a tuple of pairs of features, or None
        Which features make a pair; None: none do.
    output_layout : "half", "interleaved", a tuple of pairs, or None
        The places of the features in the result, where they are not those that they have in x.
    rotary_dim, rotary_start : int
    direction : {1, -1}
        -1: pairs turn by −pθ.
    inv_freq : numpy.ndarray of float64, shape (n_pairs,), with axes (n_axes, n_pairs)
        Radians per step, as measured.
    base : float or None
        None where the frequencies follow no base.
    scaling : rope_xp.scaling.Schedule, a tuple of them, or None
        None: no scaling.
    attention_factor : float
    precision : str
        "exact", "float32", or what is rounded: "bfloat16 positions", "float16 tables", …
    angle_error : float
        The largest error of an angle up to ``max_position``, in radians.
    max_position : int
        The last position that was measured, and up to which angles grow with it.
    axes : rope_xp.axes.Axes or None
    rope : RoPE or None
        None where no RoPE does the same, but for the rounding and for `output_layout`.
    nearest : RoPE or None
        ``rope``; where that is None, the RoPE that is left if the ``remarks`` are settled.
    remarks : tuple of str
        What else is unusual or wrong, in sentences.
    """

    head_dim: int
    layout: str | PairList | None = None
    output_layout: str | PairList | None = None
    rotary_dim: int = 0
    rotary_start: int = 0
    direction: int = 1
    inv_freq: np.ndarray = field(default_factory=lambda: np.zeros(0))
    base: float | None = None
    scaling: Schedule | tuple[Schedule | None, ...] | None = None
    attention_factor: float = 1.0
    precision: str = "unknown"
    angle_error: float = math.nan
    max_position: int = 0
    axes: Any = None
    rope: RoPE | None = None
    nearest: RoPE | None = None
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [*self._rows(), *(("remark", each) for each in self.remarks)]
        last = repr(self.rope)
        if self.rope is None:
            last = "no RoPE does the same"
            last += "" if self.nearest is None else f"; the nearest is {self.nearest!r}"
        return "\n".join([*(f"{name:<17} {text}" for name, text in rows), last])

    __repr__ = __str__

    def _rows(self) -> Iterator[tuple[str, str]]:
        if self.layout is None:
            yield "pairs", "none"
            return
        yield "pairs", _describe_pairs(self.layout, self.rotary_dim)
        if self.output_layout is not None:
            yield "pairs, result", _describe_pairs(self.output_layout, self.rotary_dim)
        if self.rotary_dim == self.head_dim:
            yield "rotated part", f"the whole head, {self.head_dim} features"
        else:
            part = f"{self.rotary_dim} of {self.head_dim} features, from {self.rotary_start} on"
            yield "rotated part", part
        yield "direction", f"{self.direction:+d}"
        turning = np.abs(self.inv_freq[self.inv_freq != 0])
        if turning.size:
            span = f"{turning.max():.6g} to {turning.min():.6g} radians per step"
            yield "frequencies", span
        if self.axes is not None:
            yield "axes", short_repr(self.axes)
        yield "base", "none" if self.base is None else format_number(self.base)
        each = self.scaling if isinstance(self.scaling, tuple) else (self.scaling,)
        yield "schedule", ", ".join("default" if s is None else short_repr(s) for s in each)
        yield "attention factor", f"{self.attention_factor:.9g}"
        if not math.isnan(self.angle_error):
            reach = f"angles within {self.angle_error:.1e} up to position {self.max_position:,}"
            yield "precision", f"{self.precision}: {reach}"


def _describe_pairs(layout: str | PairList, rotary_dim: int) -> str:
    if layout == "half":
        return f"half: feature i turns with i + {rotary_dim // 2}"
    if layout == "interleaved":
        return "interleaved: feature 2i turns with 2i + 1"
    some = ", ".join(map(str, layout[:4]))
    return f"{some}{', …' if len(layout) > 4 else ''}"
