"""Dense schemes: every pair turns along a direction of its own."""

import math
from dataclasses import dataclass

from rope_xp._validation import (
    as_frequencies,
    as_int,
    as_number,
    as_size,
    is_listable,
    quote,
    require_frequency,
)
from rope_xp.axes._base import FrequencyFunction, Matrix, as_sequence
from rope_xp.scaling._base import require_rotary_dim

MOST_AXES = (
    2**10
)  # of golden directions, which are multiples of numbers close to 1 where axes are many


@dataclass(frozen=True)
class Directions:
    r"""Dense: every pair turns along a direction of its own, :math:`\sum_a m_a \theta_{a,i}`.

    The base and the schedule of the encoding are not used. For learned directions, which need
    gradients, pass an array (n_axes, …, n_pairs) to `rope_xp.cos_sin`.

    Parameters
    ----------
    matrix : tuple of tuples of float, shape (n_axes, n_pairs)
        Radians per step along each axis.

    Notes
    -----
    Source: Heo et al. 2024, arXiv:2403.13298, section 3.3 ("mixed learnable frequency").

    Examples
    --------
    >>> Directions(((1.0, 0.0), (1.0, 0.5))).n_axes
    2
    """

    matrix: Matrix

    def __post_init__(self) -> None:
        matrix = as_sequence("matrix", self.matrix)
        if not all(map(is_listable, matrix)):
            msg = f"`matrix` must have shape (n_axes, n_pairs), got {quote(self.matrix)}"
            raise ValueError(msg)
        rows = tuple(as_frequencies(f"matrix[{a}]", row) for a, row in enumerate(matrix))
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            msg = f"`matrix` must have shape (n_axes, n_pairs), got rows of {quote([*map(len, rows)])}"
            raise ValueError(msg)
        object.__setattr__(self, "matrix", rows)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self.matrix)

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """One part."""
        return (require_rotary_dim(rotary_dim),)

    def __call__(self, rotary_dim: int, frequencies: FrequencyFunction) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        n_pairs = require_rotary_dim(rotary_dim) // 2
        if len(self.matrix[0]) != n_pairs:
            msg = f"`matrix` must have n_pairs={n_pairs} columns, got {len(self.matrix[0])}"
            raise ValueError(msg)
        return self.matrix


def golden_directions(
    n_axes: int,
    n_pairs: int,
    *,
    slowest: float,
    fastest: float,
    still: float = 0.0,
    first: int = 0,
) -> Directions:
    r"""Directions spread evenly over the sphere, one per pair, with geometric frequencies.

    Parameters
    ----------
    n_axes, n_pairs : int
    slowest, fastest : float
        Radians per unit along a pair's direction; the pairs run from slow to fast.
    still : float
        Fraction of the pairs, the first ones, that do not turn.
    first : int
        Index of the first direction in the sequence. To give heads different directions, use
        ``first=h * n_pairs`` for head h, stack the matrices to (n_axes, heads, 1, n_pairs), and pass
        them to `rope_xp.cos_sin`.

    Returns
    -------
    Directions

    Raises
    ------
    ValueError
        If sizes or frequencies are not positive, ``first`` is negative, or ``still`` is not in [0, 1).
    TypeError
        If a size is not an int, or a frequency not a number.

    Notes
    -----
    Points :math:`\{(k\varphi^{-1}, \dots, k\varphi^{-n})\}` of Roberts' quasi-random sequence, where
    :math:`\varphi^{n+1} = \varphi + 1` after ten iterations, are mapped to normal and then to unit
    vectors. Source: Xiong 2025, "On N-dimensional rotary positional embeddings"
    (jerryxio.ng/posts/nd-rope).

    Examples
    --------
    >>> import numpy as np
    >>> matrix = np.asarray(golden_directions(2, 4, slowest=0.1, fastest=0.8).matrix)
    >>> np.linalg.norm(matrix, axis=0).round(3)
    array([0.1, 0.2, 0.4, 0.8])
    """
    n_axes, n_pairs = as_size("n_axes", n_axes, maximum=MOST_AXES), as_size("n_pairs", n_pairs)
    first = as_int("first", first)
    if not 0 <= first < 2**32:
        rule = "non-negative" if first < 0 else "below 2**32"
        msg = f"`first` must be {rule}, got {quote(first)}"
        raise ValueError(msg)
    slowest, fastest, still = (
        as_number(name, speed)
        for name, speed in (("slowest", slowest), ("fastest", fastest), ("still", still))
    )
    if not 0 < slowest <= fastest:
        msg = "`slowest` and `fastest` must be 0 < slowest <= fastest, "
        msg += f"got {quote(slowest)}, {quote(fastest)}"
        raise ValueError(msg)
    require_frequency("fastest", fastest)
    if fastest / slowest == math.inf:
        msg = f"`slowest` must not be that far below fastest={quote(fastest)}, got {slowest}"
        raise ValueError(msg)
    if not 0 <= still < 1:
        msg = f"`still` must be in [0, 1), got {still}"
        raise ValueError(msg)
    golden = 2.0
    for _ in range(10):
        golden = (1 + golden) ** (1 / (n_axes + 1))
    from statistics import NormalDist  # noqa: PLC0415 - takes as long to load as all of rope_xp

    normal = NormalDist().inv_cdf
    n_still = round(n_pairs * still)
    moving = max(n_pairs - n_still - 1, 1)
    columns = []
    for k in range(n_pairs):
        point = [
            normal((first + k + 1) * golden ** -(a + 1) % 1 or 2.0**-53) for a in range(n_axes)
        ]
        length = math.hypot(*point)
        speed = 0.0 if k < n_still else slowest * (fastest / slowest) ** ((k - n_still) / moving)
        columns.append([speed * p / length for p in point])
    return Directions(tuple(zip(*columns, strict=True)))
