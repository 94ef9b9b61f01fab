"""Mistakes with frequencies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rope_xp.rope import RoPE
from rope_xp.testing._definition import Definition
from rope_xp.testing._mistakes import Mistake, rounded


def frequency_mistakes(definition: Definition) -> Iterator[Mistake]:
    rope, theta = definition.rope, definition.inv_freq
    n, width = rope.n_pairs, rope.rotary_dim

    def mistake(text: str, values: Any) -> Mistake:
        return Mistake("frequencies", text, lambda _: values)

    plain = (
        dataclasses.replace(rope, scaling=None, precision="exact")
        if rope.scaling is not None
        else None
    )
    i = np.arange(n)
    if plain is not None:
        unscaled = plain.frequencies().inv_freq
        yield mistake("the scaling is ignored: these are the frequencies without it", unscaled)
        yield mistake(
            "the scaling is applied the wrong way: frequencies are multiplied, not divided",
            unscaled**2 / theta,
        )
        yield mistake(
            "the scaling is applied twice", theta**2 / np.where(unscaled > 0, unscaled, 1.0)
        )
        ratio = np.where(unscaled > 0, theta / np.where(unscaled > 0, unscaled, 1.0), 1.0)
        yield mistake(
            "the scaling's ramp is reversed: fast pairs are scaled and slow ones are not",
            unscaled * ratio[::-1],
        )
        yield mistake("all pairs are divided by the factor of the slowest", unscaled * ratio.min())
        yield from _other_parameters(rope, mistake)
    for base in (
        2,
        math.e,
        10,
        100,
        500,
        1e3,
        2e3,
        5e3,
        1e4,
        2e4,
        4e4,
        5e4,
        1e5,
        1.5e5,
        1.6e5,
        2.5e5,
        5e5,
        6e5,
        1e6,
        1.5e6,
        2e6,
        3e6,
        4e6,
        5e6,
        8e6,
        1e7,
        5e7,
        1e8,
        1e9,
    ):
        if base != rope.base:
            other = dataclasses.replace(rope, base=float(base), precision="exact")
            made = other.frequencies(definition.seq_len).inv_freq
            yield mistake(f"another base, {base:g} instead of {rope.base:g}", made)
            if plain is not None:
                alone = dataclasses.replace(plain, base=float(base)).frequencies().inv_freq
                yield mistake(
                    f"another base, {base:g} instead of {rope.base:g}, and no scaling", alone
                )
    exponents = {
        "the exponent is i/d, not 2i/d: frequencies fall half as far": i / width,
        "the exponent is 4i/d, not 2i/d: frequencies fall twice as far": 4 * i / width,
        "the exponent is 2(i+1)/d, not 2i/d: the exponents are off by one pair": 2
        * (i + 1)
        / width,
        "the exponent is (2i+1)/d, not 2i/d": (2 * i + 1) / width,
        "the exponent is 2i/(d-2): the last pair has the period of the base": 2
        * i
        / max(width - 2, 1),
        "the exponent is taken over head_dim, not over rotary_dim": 2 * i / rope.head_dim,
        "the exponent is taken over half of rotary_dim": 4 * i / width,
        "the exponent is taken over twice the rotated part": i / width,
    }
    for text, exponent in exponents.items():
        with_scaling = 1.0
        if plain is not None:
            with_scaling = np.where(
                unscaled > 0, theta / np.where(unscaled > 0, unscaled, 1.0), 1.0
            )
        yield mistake(f"other frequencies: {text}", rope.base**-exponent * with_scaling)
    yield mistake("frequencies in reverse order: pair 0 is the slowest", theta[::-1])
    yield mistake(
        "the frequencies have the wrong sign in odd pairs", theta * np.where(i % 2, -1.0, 1.0)
    )
    yield mistake(
        "the frequencies have the wrong sign in the second half of the pairs",
        theta * np.where(i < n // 2, 1.0, -1.0),
    )
    yield mistake(
        "wavelengths taken for frequencies: 1/θ",
        np.where(theta > 0, 1 / np.where(theta > 0, theta, 1.0), 0.0),
    )
    for name in ("bfloat16", "float16"):
        yield mistake(f"frequencies (inv_freq) rounded to {name}", rounded(theta, name))


def _other_parameters(rope: RoPE, mistake: Any) -> Iterator[Mistake]:
    """The schedule with fields exchanged or at other values."""
    scaling = rope.scaling
    if not dataclasses.is_dataclass(scaling):
        return
    fields = {f.name: getattr(scaling, f.name) for f in dataclasses.fields(scaling)}
    changes: list[tuple[str, dict[str, Any]]] = []
    for a, b in (
        ("beta_fast", "beta_slow"),
        ("low_freq_factor", "high_freq_factor"),
        ("short_factor", "long_factor"),
    ):
        if a in fields and b in fields:
            changes.append((f"`{a}` and `{b}` are exchanged", {a: fields[b], b: fields[a]}))
    if isinstance(fields.get("truncate"), bool):
        changes.append(
            (f"`truncate` is {not fields['truncate']}", {"truncate": not fields["truncate"]})
        )
    for name in ("factor", "original_max_position_embeddings"):
        if isinstance(fields.get(name), int | float):
            kind = type(fields[name])
            for times in (
                0.25,
                0.5,
                2,
                4,
                1 / fields["factor"] if "factor" in fields else 8,
                fields.get("factor") or 8,
            ):
                changes.append(
                    (
                        f"`{name}` is {times:g} times what it should be",
                        {name: kind(fields[name] * times)},
                    )
                )
    for text, change in changes:
        try:
            other = dataclasses.replace(
                rope, scaling=dataclasses.replace(scaling, **change), precision="exact"
            )
            made = other.frequencies().inv_freq
        except (ValueError, TypeError, ArithmeticError):
            continue  # the exchanged fields are out of range
        yield mistake(f"another {type(scaling).__name__}: {text}", made)
