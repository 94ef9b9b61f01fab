"""The layout that weights were trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array
from rope_xp._validation import as_int, quote, require_number
from rope_xp.layouts._pairs import Layout, pair_slices

#: No fewer are tried: of fewer, chance alone puts the partners together too often.
_FEWEST_PAIRS = 4


class LayoutGuess(NamedTuple):
    """What the weights of an attention layer show about its pairs: the result of `guess_layout`.

    Parameters
    ----------
    layout : {"half", "interleaved"}
        As in `RoPE`.
    rotary_dim : int or None
        How many features of each head rotate, from the first on. None where the weights do not show it.
    p_value : float
        An upper bound on how often weights without a rotation give any layout.
    score, next_score : float
        Of this pairing and of the next best: the number of standard deviations by which its pairs are
        above random pairs.
    """

    layout: Layout
    rotary_dim: int | None
    p_value: float
    score: float
    next_score: float


def guess_layout(
    q_weight: Array | Sequence[Array],
    k_weight: Array | Sequence[Array],
    head_dim: int,
    *,
    significance: float = 0.001,
) -> LayoutGuess:
    """Find the layout that trained projections of queries and keys were trained with.

    For a checkpoint without a config, or one whose conversion is not known. Where there is a config,
    `RoPE.from_config` reads the layout from it and does not guess.

    Parameters
    ----------
    q_weight, k_weight : array, or sequence of arrays, one per layer
        Shape (heads * head_dim, in_features), as `torch.nn.Linear` has it; heads of k may be fewer. Real
        numbers of any library: quantized weights must be dequantized. Several layers give more
        evidence than one. The values are copied to the host.
    head_dim : int
        Features per head: even, at least 8.
    significance : float
        The risk of an answer that is chance: above 0, below 1.

    Returns
    -------
    LayoutGuess

    Raises
    ------
    ValueError
        If no pairing is clearly best: the weights are not trained, have no rotation, rotate other pairs than
        the two layouts have, or are too few. If a shape or size is wrong, or a weight is not finite.
    TypeError
        If a weight is not an array of real floating numbers.

    Notes
    -----
    Let c be the cosine of row a of W_q and row b of W_k. Scores contain c of the two features of a pair,
    times the sine of the angle between positions; no score contains c of two features that are not
    partners, so training leaves these where they were. For each pairing that is tried, the statistic is
    the sum over pairs of (c(a, b)² + c(b, a)²)^(1/3), where query heads that share a key head add up inside
    the parentheses (a cube root makes sums of squares nearly normal: Wilson and Hilferty, 1931). If no two
    features belonged together, its partners could be exchanged at random: Hoeffding's combinatorial
    central limit theorem (1951) gives mean and variance, hence the score. `p_value` is the larger of two
    tails of the normal distribution: that of the best score, times the number of pairings tried (half with
    each rotary_dim from 8 on, and interleaved), and that of its distance from the next best, over √2.
    Among the latter is interleaved from feature 1 on, whose pairs are neighbors in frequency: these
    resemble each other without being partners.

    The cosines do not change with the length of rows, so weights of a norm of queries or keys need not be
    multiplied in; biases are not needed.

    With half, rotary_dim is part of the pairing; it is None where features further on are paired at the same
    distance, as in images with one section per axis. With interleaved it is head_dim if the last two
    features are a pair on evidence of their own, since then all of them rotate, else None. The rotated
    part must begin at the first feature: of other weights pass the rows of that part alone. A layer
    that is refused can still have a rotation.

    Measured on weights of 4 bits, layer by layer, as stored and converted to the other layout: SmolLM2-135M
    57 answers of 60, Gemma 3 270M (norms of queries and keys) 36 of 36, all of them right; with all layers
    together both are answered, with the right rotary_dim. MiniLM-L6 (BERT) and IgLM (GPT-2), which do not
    rotate: no answer in 13 layers.

    Examples
    --------
    Random numbers are refused:

    >>> import numpy as np
    >>> q, k = np.random.default_rng(0).standard_normal((2, 64, 48))
    >>> guess_layout(q, k, 16)
    Traceback (most recent call last):
    ...
    ValueError: `q_weight` and `k_weight` must show which features are pairs, got ...
    """
    head_dim = as_int("head_dim", head_dim)
    if head_dim < 2 * _FEWEST_PAIRS or head_dim % 2:
        msg = f"`head_dim` must be even and at least {2 * _FEWEST_PAIRS}, got {quote(head_dim)}"
        raise ValueError(msg)
    significance = require_number("significance", significance)
    if not 0 < significance < 1:
        msg = f"`significance` must be above 0 and below 1, got {quote(significance)}"
        raise ValueError(msg)
    layers = _layers(q_weight, k_weight, head_dim)
    sizes = np.stack([head for q, k in layers for head in _cosines(q, k, head_dim)])

    tried: dict[tuple[Layout, int], tuple[slice, slice]] = {
        ("half", width): pair_slices("half", 0, width // 2)
        for width in range(2 * _FEWEST_PAIRS, head_dim + 1, 2)
    }
    tried["interleaved", head_dim] = pair_slices("interleaved", 0, head_dim // 2)
    scores = {pairing: _score(sizes, *slices) for pairing, slices in tried.items()}
    score, (layout, width) = max((score, pairing) for pairing, score in scores.items())
    del scores[layout, width]
    next_score = max(
        *scores.values(), _score(sizes, *pair_slices("interleaved", 1, head_dim // 2 - 1))
    )
    p_value = max(len(tried) * _tail(score), _tail((score - next_score) / math.sqrt(2)))
    if p_value > significance:
        best = f"{layout} with rotary_dim={width}" if layout == "half" else layout
        msg = (
            f"`q_weight` and `k_weight` must show which features are pairs, got {best} as the best guess, "
            f"{score:.1f} standard deviations above chance where the next is {next_score:.1f}: not trained, "
            "not rotated, or too few layers (pass a list of them)"
        )
        raise ValueError(msg)

    rotary_dim: int | None = width
    if layout == "half":
        n_pairs = width // 2
        further = slice(n_pairs, head_dim - n_pairs), slice(width, head_dim)
        if head_dim - width >= _FEWEST_PAIRS and _tail(_score(sizes, *further)) <= significance:
            rotary_dim = None
    elif _tail(_score(sizes, *tried[layout, width], only_last=True)) > significance:
        rotary_dim = None
    return LayoutGuess(layout, rotary_dim, p_value, score, next_score)


def _layers(
    q_weight: Array | Sequence[Array], k_weight: Array | Sequence[Array], head_dim: int
) -> list[tuple[Array, Array]]:
    """The projections layer by layer, checked but for their values."""
    given = {"q_weight": q_weight, "k_weight": k_weight}
    lists = [[*value] if isinstance(value, list | tuple) else [value] for value in given.values()]
    if not 0 < len(lists[0]) == len(lists[1]):
        msg = (
            "`q_weight` and `k_weight` must have one array per layer, at least one, "
            f"got {len(lists[0])} and {len(lists[1])}"
        )
        raise ValueError(msg)
    for q, k in zip(*lists, strict=True):
        _backends.namespace(q_weight=q, k_weight=k)
        for name, weight in (("q_weight", q), ("k_weight", k)):
            _backends.require_floating(**{name: weight})
            if weight.ndim != 2 or 0 in weight.shape or weight.shape[0] % head_dim:
                msg = (
                    f"`{name}` must have shape (heads * {head_dim}, in_features), "
                    f"got {tuple(weight.shape)}"
                )
                raise ValueError(msg)
        if q.shape[1] != k.shape[1] or q.shape[0] % k.shape[0]:
            msg = (
                "`k_weight` must have the in_features of `q_weight`, and heads whose number divides that "
                f"of its heads, got {tuple(k.shape)} for {tuple(q.shape)}"
            )
            raise ValueError(msg)
    return list(zip(*lists, strict=True))


def _cosines(q: Array, k: Array, head_dim: int) -> Iterator[np.ndarray]:
    """For each head of k, of each two features how much their rows of q and k have in common."""
    queries_per_key = q.shape[0] // k.shape[0]
    for start in range(0, k.shape[0], head_dim):
        end = start + head_dim
        rows = _unit_rows("q_weight", q[start * queries_per_key : end * queries_per_key, :])
        cosines = rows @ _unit_rows("k_weight", k[start:end, :]).T
        squares = (cosines.reshape(queries_per_key, head_dim, head_dim) ** 2).sum(0)
        yield np.cbrt(squares + squares.T)


def _unit_rows(name: str, weight: Array) -> np.ndarray:
    rows: np.ndarray = _backends.to_host(weight)
    largest = np.abs(rows).max(-1, keepdims=True)
    if not np.isfinite(largest).all():
        msg = f"`{name}` must be finite, got inf or NaN"
        raise ValueError(msg)
    rows = rows / np.where(largest > 0, largest, 1)  # a row of zeros is no evidence, and no error
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1)
    return unit


def _score(sizes: np.ndarray, first: slice, second: slice, *, only_last: bool = False) -> float:
    """By how many standard deviations the sizes at these pairs exceed those with partners at random."""
    table = sizes[:, first, second]
    table = table - table.mean(-1, keepdims=True) - table.mean(-2, keepdims=True)
    table += sizes[:, first, second].mean((-1, -2), keepdims=True)
    if only_last:
        partners, variance = table[:, -1, -1], (table[:, -1] ** 2).mean(-1).sum()
    else:
        partners = np.diagonal(table, axis1=-2, axis2=-1)
        variance = (table**2).sum() / (table.shape[-1] - 1)
    return float(partners.sum() / math.sqrt(variance)) if variance > 0 else 0.0


def _tail(score: float) -> float:
    """How often a normal number is above ``score``."""
    return math.erfc(score / math.sqrt(2)) / 2
