"""Mistakes with frequencies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rope_xp.rope import RoPE
from rope_xp.testing._definition import Definition
from rope_xp.testing._mistakes import Mistake
from rope_xp.testing._rounding import rounded

# Bases of models, and slips of the pen.
_BASES = (
    *(2.0, math.e, 10.0, 100.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 4e4, 5e4, 1e5, 1.5e5, 1.6e5, 2.5e5),
    *(5e5, 6e5, 1e6, 1.5e6, 2e6, 3e6, 4e6, 5e6, 8e6, 1e7, 5e7, 1e8, 1e9),
)

# Fields of schedules that are taken for each other.
_EXCHANGED = (
    ("beta_fast", "beta_slow"),
    ("low_freq_factor", "high_freq_factor"),
    ("short_factor", "long_factor"),
)


def frequency_mistakes(definition: Definition) -> Iterator[Mistake]:
    rope, theta = definition.rope, definition.inv_freq
    n, width = rope.n_pairs, rope.rotary_dim
    i = np.arange(n)
    unscaled, ratio = theta, np.ones(n)
    if rope.scaling is not None:
        unscaled = _frequencies(rope, scaling=None)
        ratio = np.divide(theta, unscaled, out=np.ones(n), where=unscaled > 0)
        yield _mistake("the scaling is ignored: these are the frequencies without it", unscaled)
        yield _mistake(
            "the scaling is applied the wrong way: frequencies are multiplied, not divided",
            np.divide(unscaled, ratio, out=unscaled.copy(), where=ratio > 0),
        )
        yield _mistake("the scaling is applied twice", theta * ratio)
        yield _mistake(
            "the scaling's ramp is reversed: fast pairs are scaled, slow ones are not",
            unscaled * ratio[::-1],
        )
        yield _mistake("all pairs are divided by the factor of the slowest", unscaled * ratio[-1])
        yield from _other_parameters(rope)
    for base in _BASES:
        if base != rope.base:
            text = f"another base, {base:g} instead of {rope.base:g}"
            yield _mistake(text, _frequencies(rope, definition.seq_len, base=base))
            if rope.scaling is not None:
                made = _frequencies(rope, base=base, scaling=None)
                yield _mistake(f"{text}, and the scaling is ignored", made)
    exponents = {
        "i/d, not 2i/d: frequencies fall half as far": i / width,
        "4i/d, not 2i/d: frequencies fall twice as far": 4 * i / width,
        "2(i+1)/d, not 2i/d: it is off by one pair": 2 * (i + 1) / width,
        "(2i+1)/d, not 2i/d": (2 * i + 1) / width,
        "2i/(d-2), not 2i/d: it is 1 in the last pair": 2 * i / max(width - 2, 1),
        "taken over head_dim, not over rotary_dim": 2 * i / rope.head_dim,
    }
    for text, exponent in exponents.items():
        yield _mistake(f"other frequencies: the exponent is {text}", rope.base**-exponent * ratio)
    yield _mistake("frequencies in reverse order: pair 0 is the slowest", theta[::-1])
    yield _mistake("the direction is wrong in odd pairs", theta * np.where(i % 2, -1.0, 1.0))
    yield _mistake(
        "the direction is wrong in the second half of the pairs",
        theta * np.where(i < n // 2, 1.0, -1.0),
    )
    yield _mistake(
        "wavelengths or periods taken for frequencies: 1/θ",
        np.divide(1.0, theta, out=np.zeros(n), where=theta > 0),
    )
    for name in ("bfloat16", "float16"):
        made = rounded(theta, name)
        text = f"frequencies (inv_freq) rounded to {name}"
        yield Mistake("frequencies", text, lambda _, made=made: made, name)


def _mistake(text: str, values: np.ndarray) -> Mistake:
    return Mistake("frequencies", text, lambda _: values)


def _frequencies(rope: RoPE, seq_len: Any = None, **change: Any) -> np.ndarray:
    other = dataclasses.replace(rope, precision="exact", **change)
    return np.asarray(other.frequencies(seq_len).inv_freq)


def _other_parameters(rope: RoPE) -> Iterator[Mistake]:
    """The schedule with fields exchanged, or at other values."""
    scaling: Any = rope.scaling
    if not dataclasses.is_dataclass(scaling) or isinstance(scaling, type):
        return
    fields = {f.name: getattr(scaling, f.name) for f in dataclasses.fields(scaling)}
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"`{a}` and `{b}` are exchanged", {a: fields[b], b: fields[a]})
        for a, b in _EXCHANGED
        if a in fields and b in fields
    ]
    if isinstance(fields.get("truncate"), bool):
        other = not fields["truncate"]
        changes.append((f"`truncate` is {other}", {"truncate": other}))
    for name in ("factor", "original_max_position_embeddings"):
        value = fields.get(name)
        if isinstance(value, int | float):
            for times in sorted({0.5, 2.0, 4.0, 0.25, float(fields.get("factor") or 8.0)}):
                changed = type(value)(value * times)
                changes.append((f"`{name}` is {changed:g} instead of {value:g}", {name: changed}))
    for text, change in changes:
        try:
            made = _frequencies(rope, scaling=dataclasses.replace(scaling, **change))
        except (ValueError, TypeError, ArithmeticError):
            continue  # out of range
        yield _mistake(f"another {type(scaling).__name__}: {text}", made)
