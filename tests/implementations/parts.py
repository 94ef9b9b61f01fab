"""What the implementations share: a row of the tables, frequencies, tables, and the two rotations.

Nothing here comes from rope_xp except the `RoPE` that says what an implementation should be.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rope_xp import RoPE


class Implementation(NamedTuple):
    """``make()`` is a fresh ``fn(x, positions)``, which should be ``rope``, on arrays of ``library``.

    A wrong one has the words of which at least one must be in the message, in any case, and
    ``known`` says what a reader of its rotations can tell: fields of a `Diagnosis`.
    """

    name: str
    make: Callable[[], Callable]
    rope: RoPE
    library: str = "numpy"
    words: frozenset[str] = frozenset()
    known: dict = {}  # noqa: RUF012  # never changed


def table_of(rows):
    """A decorator that adds a function of a file to ``rows``.

    The function is ``fn(x, positions)`` itself, or with ``made`` it makes one.
    """

    def entry(rope, *words, library="numpy", made=False, **known):
        def add(function):
            make = function if made else (lambda: function)
            name = function.__name__
            rows.append(Implementation(name, make, rope, library, frozenset(words), known))
            return function

        return add

    return entry


def named(name, fn):
    """``fn`` with a name, to be added to a table without a ``def``."""
    fn.__name__ = name
    return fn


def inv_freq(dim, base=10000.0):
    return 1.0 / base ** (np.arange(0, dim, 2) / dim)


def cos_sin(positions, frequencies, factor=1.0):
    """Tables in float64, (seq, n_pairs) or (batch, 1, seq, n_pairs)."""
    if positions.ndim == 2:
        positions = positions[:, None, :]
    angles = positions[..., None] * frequencies
    return np.cos(angles) * factor, np.sin(angles) * factor


def turn_half(x, cos, sin):
    x1, x2 = np.split(x, 2, axis=-1)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)


def turn_interleaved(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return (
        np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape).astype(x.dtype)
    )


def half_with(frequencies, factor=1.0):
    """The half layout with these frequencies."""
    return lambda x, positions: turn_half(x, *cos_sin(positions, frequencies, factor))


def rotate_half(x):
    x1, x2 = np.split(x, 2, axis=-1)
    return np.concatenate([-x2, x1], axis=-1)


def rotate_every_two(x):
    return np.stack([-x[..., 1::2], x[..., 0::2]], axis=-1).reshape(x.shape)


def yarn(dim, base, factor, length, fast=32.0, slow=1.0, truncate=True):
    """YaRN's frequencies, as its authors write them."""

    def pair(turns):
        return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair(fast), pair(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    return inv_freq(dim, base) * (1 - ramp) + inv_freq(dim, base) / factor * ramp


def llama3(dim, base, factor, low, high, length):
    """Llama 3.1's frequencies, as Meta writes them."""
    made = []
    for f in inv_freq(dim, base):
        wavelength = 2 * math.pi / f
        smooth = (length / wavelength - low) / (high - low)
        between = (1 - smooth) * f / factor + smooth * f
        made.append(f if smooth > 1 else f / factor if smooth < 0 else between)
    return np.array(made)


def bfloat16(values):
    """Rounded to bfloat16, as float32."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
