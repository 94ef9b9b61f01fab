r"""Which position axis drives which pair: several axes as one matrix of frequencies.

With one axis the angle of pair i is :math:`m\theta_i`. With several it is
:math:`\sum_a m_a \theta_{a,i}`: a linear map again, whose matrix (n_axes, n_pairs) a scheme makes from
the frequencies of the schedule. In most schemes one axis drives each pair, and the matrix has one
entry in each column; `axis_of_pair` says which.

The axes are those of the positions, in their order: (row, column), or (time, row, column).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rope_xp._validation import as_int, require_list, require_number

__all__ = [
    "Axes",
    "Axial",
    "AxisPerPair",
    "Directions",
    "InterleavedSections",
    "Sections",
    "golden_directions",
]

Matrix = tuple[tuple[float, ...], ...]  # (n_axes, n_pairs)

# The schedule's frequencies for a width, and for a base where it is not that of the encoding.
Spectrum = Callable[..., Sequence[float]]


class Axes(Protocol):
    """What `rope_xp.RoPE` asks of its ``axes``: hashable, equal by value, and these three."""

    @property
    def n_axes(self) -> int:
        """Number of position axes."""

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """Widths of the parts that are paired each by themselves; mostly one, ``rotary_dim``."""

    def __call__(self, rotary_dim: int, frequencies: Spectrum) -> Matrix:
        """The matrix, (n_axes, n_pairs), from the schedule's ``frequencies(width, base=None)``."""


@dataclass(frozen=True)
class Axial:
    """Every axis has pairs of its own: vision towers, video and image diffusion.

    Parameters
    ----------
    widths : int or tuple of int
        A number of axes that share the rotated part equally, or the features of each, even.
    arrangement : {"blocks", "alternating"}
        All pairs of the first axis, then all of the second, …; or the first pair of each axis,
        then the second of each, …, for equal widths.
    frequencies : {"own", "shared"}
        ``"own"``: each axis runs through :math:`b^{-2j/w}` for its width w. ``"shared"``: the axes
        take turns along one list :math:`b^{-2i/d_r}`, so each gets every n-th frequency.
    axis_order : tuple of int, optional
        Which axis of the positions comes first among the pairs, which second, …; default 0, 1, ….
        (1, 0) is for towers whose columns come first.
    split : bool
        Pair the features of each axis by themselves, instead of all of them together. It matters
        with ``layout="half"`` and blocks.
    scale : float
        Multiplies all frequencies; 2π makes them turns per unit, for positions in [−1, 1].
    bases : tuple of float, optional
        Base of each axis, if not the encoding's; for frequencies of their own.

    Notes
    -----
    With `rope_xp.RoPE` (128, …) and positions (row, column) or (time, row, column):

    ================================  ============ ======= =======================================
    models                            layout       base    axes
    ================================  ============ ======= =======================================
    Qwen-VL, GLM-4V vision; CogView4  half         1e4     Axial(2)
    SAM 2, timm ``cat``               interleaved  1e4     Axial(2)
    Pixtral                           half         1e4     Axial(2, frequencies="shared")
    Gemma 4 vision                    half         100     Axial(2, split=True)
    DINOv3, positions in [−1, 1]      half         100     Axial(2, scale=2π)
    Flux, Qwen-Image                  interleaved  1e4     Axial((16, 56, 56))
    Flux 2 (four axes)                interleaved  2000    Axial(4)
    HunyuanVideo                      interleaved  256     Axial((16, 56, 56))
    Wan                               interleaved  1e4     Axial((44, 42, 42))
    CogVideoX                         interleaved  1e4     Axial((32, 48, 48))
    Cosmos                            half         1e4     Axial((44, 42, 42), bases=NTK per axis)
    Allegro (96 features)             half         1e4     Axial(3, split=True)
    LTX, positions in [−1, 1]         interleaved  below 1 Axial(3, arrangement="alternating", …)
    ================================  ============ ======= =======================================

    Frequencies from f to F, both included, n of them for each axis (DINOv3's periods, timm's pixel
    bands, LTX): ``scale=f`` and ``base=(F / f) ** (-n / (n - 1))``. What differs between models
    beside this is where tokens are: `rope_xp.positions`.

    Sources: Heo et al. 2024, arXiv:2403.13298, section 3.2 ("axial frequency"); Agrawal et al. 2024,
    arXiv:2410.07073 (Pixtral, shared); Siméoni et al. 2025, arXiv:2508.10104 (DINOv3, scale 2π).

    Examples
    --------
    >>> Axial((2, 4)).axis_of_pair(6)
    (0, 1, 1)
    >>> Axial(2, arrangement="alternating").axis_of_pair(8)
    (0, 1, 0, 1)
    """

    widths: int | tuple[int, ...]
    arrangement: str = "blocks"
    frequencies: str = "own"
    axis_order: tuple[int, ...] | None = None
    split: bool = False
    scale: float = 1.0
    bases: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # the way to normalise a frozen field

        if isinstance(self.widths, list | tuple):
            settle("widths", _as_ints("widths", self.widths))
            if not self.widths or any(w <= 0 or w % 2 for w in self._given()):
                msg = f"`widths` must be even and positive, got {self.widths}"
                raise ValueError(msg)
        else:
            settle("widths", as_int("widths", self.widths))
            if not self._given():
                msg = (
                    f"`widths` must be a positive number of axes or their widths, got {self.widths}"
                )
                raise ValueError(msg)
        _require_one_of("arrangement", self.arrangement, ("blocks", "alternating"))
        _require_one_of("frequencies", self.frequencies, ("own", "shared"))
        for what in ("arrangement", "frequencies"):
            given = getattr(self, what)
            if given in {"alternating", "shared"} and len(set(self._given())) > 1:
                msg = f"`widths` must be equal for {what}={given!r}, got {self.widths}"
                raise ValueError(msg)
        if self.axis_order is not None:
            settle("axis_order", _as_ints("axis_order", self.axis_order))
            if sorted(self.axis_order) != list(range(self.n_axes)):
                msg = (
                    f"`axis_order` must name each of {self.n_axes} axes once, got {self.axis_order}"
                )
                raise ValueError(msg)
        if self.split and self.arrangement == "alternating":
            msg = "`arrangement` must be 'blocks' where they are split, got 'alternating'"
            raise ValueError(msg)
        require_number("scale", self.scale)
        settle("scale", float(self.scale))
        if not self.scale:
            msg = "`scale` must not be 0, got 0.0"
            raise ValueError(msg)
        if self.bases is not None:
            settle("bases", require_list("bases", self.bases))
            if len(self.bases) != self.n_axes:
                msg = f"`bases` must have one for each of {self.n_axes} axes, got {self.bases}"
                raise ValueError(msg)
            if self.frequencies == "shared":
                msg = f"`bases` must be None for frequencies='shared', got {self.bases}"
                raise ValueError(msg)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self._given())

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        return tuple(axis for axis, _, _ in self._pairs(rotary_dim))

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """Widths of the parts that are paired each by themselves."""
        return self._in_order(rotary_dim)[1] if self.split else (rotary_dim,)

    def __call__(self, rotary_dim: int, frequencies: Spectrum) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        pairs = self._pairs(rotary_dim)
        bases = [()] * self.n_axes if self.bases is None else [(b,) for b in self.bases]
        values = [frequencies(width, *bases[a])[i] * self.scale for a, width, i in pairs]
        return _matrix(self.n_axes, [axis for axis, _, _ in pairs], values)

    def _given(self) -> tuple[int, ...]:
        return self.widths if isinstance(self.widths, tuple) else (0,) * self.widths

    def _in_order(self, rotary_dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes in the order of their pairs, and their widths."""
        widths = self._given()
        if isinstance(self.widths, int):
            if rotary_dim % (2 * self.widths):
                msg = (
                    f"`rotary_dim` must be a multiple of {2 * self.widths} for {self.widths} equal "
                    f"axes, got {rotary_dim}"
                )
                raise ValueError(msg)
            widths = (rotary_dim // self.widths,) * self.widths
        if sum(widths) != rotary_dim:
            msg = (
                f"`widths` must sum to rotary_dim={rotary_dim}, got {widths} with sum {sum(widths)}"
            )
            raise ValueError(msg)
        order = self.axis_order or tuple(range(self.n_axes))
        return order, tuple(widths[a] for a in order)

    def _pairs(self, rotary_dim: int) -> list[tuple[int, int, int]]:
        """Of each pair: its axis, and width and index of its frequency."""
        order, widths = self._in_order(rotary_dim)
        if self.frequencies == "own":
            own = [[(a, w, j) for j in range(w // 2)] for a, w in zip(order, widths, strict=True)]
        else:
            n = len(order)
            own = [
                [(a, rotary_dim, j) for j in range(place, rotary_dim // 2, n)]
                for place, a in enumerate(order)
            ]
        if self.arrangement == "alternating":
            return [pair for together in zip(*own, strict=True) for pair in together]
        return [pair for block in own for pair in block]


class _OneList:
    """Schemes that share one list of frequencies out, a pair to an axis."""

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """One part."""
        return (rotary_dim,)

    def __call__(self: Any, rotary_dim: int, frequencies: Spectrum) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        return _matrix(self.n_axes, self.axis_of_pair(rotary_dim), frequencies(rotary_dim))


@dataclass(frozen=True)
class AxisPerPair(_OneList):
    """One list of frequencies :math:`b^{-2i/d_r}`, and the axis that drives each pair.

    Equal coordinates on all axes give the encoding of one axis, so text keeps its positions.

    Parameters
    ----------
    pairs : tuple of int
        The axis of each pair, n_pairs numbers from 0.

    Examples
    --------
    >>> AxisPerPair((1, 2, 1, 2, 0)).n_axes
    3
    """

    pairs: tuple[int, ...]

    def __post_init__(self) -> None:
        pairs = _as_ints("pairs", self.pairs)
        if not pairs or set(pairs) != set(range(max(pairs) + 1)):
            msg = f"`pairs` must name axes 0, 1, … without a gap, got {pairs}"
            raise ValueError(msg)
        object.__setattr__(self, "pairs", pairs)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return max(self.pairs) + 1

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        if len(self.pairs) != rotary_dim // 2:
            msg = f"`pairs` must have n_pairs={rotary_dim // 2} entries, got {len(self.pairs)}"
            raise ValueError(msg)
        return self.pairs


@dataclass(frozen=True)
class Sections(_OneList):
    """Text with images (M-RoPE): consecutive pairs for time, for rows, for columns.

    Equal coordinates on all axes give the encoding of one axis.

    Parameters
    ----------
    sections : tuple of int
        Pairs of each axis; their sum is n_pairs. A config's ``mrope_section``.

    Notes
    -----
    Source: Wang et al. 2024, arXiv:2409.12191, section 2.1 (Qwen2-VL).

    Examples
    --------
    >>> Sections((2, 1, 1)).axis_of_pair(8)
    (0, 0, 1, 2)
    """

    sections: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", _require_sections(self.sections))

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self.sections)

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        _require_sum(self.sections, rotary_dim)
        return tuple(a for a, n in enumerate(self.sections) for _ in range(n))


@dataclass(frozen=True)
class InterleavedSections(_OneList):
    """Text with images (Qwen3-VL): the axes take turns, so each has fast and slow pairs.

    Axis a drives pairs a, a + n_axes, a + 2·n_axes, … below ``n_axes * sections[a]``; what remains
    belongs to the first axis. Equal coordinates on all axes give the encoding of one axis.

    Parameters
    ----------
    sections : tuple of int
        A config's ``mrope_section`` with ``mrope_interleaved``. Where ``n_axes * sections[a]`` passes
        n_pairs the turns end there, as in transformers; the sum is n_pairs all the same.

    Notes
    -----
    Source: Bai et al. 2025, arXiv:2511.21631 (Qwen3-VL); compared with transformers 5.23.0.

    Examples
    --------
    >>> InterleavedSections((2, 1, 1)).axis_of_pair(8)
    (0, 1, 2, 0)
    """

    sections: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", _require_sections(self.sections))

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self.sections)

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        _require_sum(self.sections, rotary_dim)
        turns = [i % self.n_axes for i in range(rotary_dim // 2)]
        return tuple(a if i < self.n_axes * self.sections[a] else 0 for i, a in enumerate(turns))


@dataclass(frozen=True)
class Directions:
    r"""Dense: every pair turns along a direction of its own, :math:`\sum_a m_a \theta_{a,i}`.

    `RoPE.base` and schedules have no part in it. For learned directions, which need gradients, hand
    an array (n_axes, …, n_pairs) to `rope_xp.cos_sin`.

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
        if not all(hasattr(row, "__iter__") for row in _as_list("matrix", self.matrix)):
            msg = f"`matrix` must have shape (n_axes, n_pairs), got {self.matrix!r}"
            raise ValueError(msg)
        rows = tuple(
            require_list(f"matrix[{a}]", row, positive=False) for a, row in enumerate(self.matrix)
        )
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            msg = f"`matrix` must have shape (n_axes, n_pairs), got rows of {[*map(len, rows)]}"
            raise ValueError(msg)
        object.__setattr__(self, "matrix", rows)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self.matrix)

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """One part."""
        return (rotary_dim,)

    def __call__(self, rotary_dim: int, frequencies: Spectrum) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        if len(self.matrix[0]) != rotary_dim // 2:
            msg = f"`matrix` must have n_pairs={rotary_dim // 2} columns, got {len(self.matrix[0])}"
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
        Part of the pairs, the first ones, that do not turn.
    first : int
        Number of the first direction in the sequence. Heads that shall differ take turns: head h of
        a model has ``first=h * n_pairs``, and their matrices, stacked to (n_axes, heads, 1, n_pairs),
        go to `rope_xp.cos_sin`.

    Returns
    -------
    Directions

    Raises
    ------
    ValueError
        If sizes or frequencies are not positive, ``first`` is negative, or ``still`` not in [0, 1).
    TypeError
        If a size is no int, or a frequency no number.

    Notes
    -----
    Points :math:`\{(k\varphi^{-1}, \dots, k\varphi^{-n})\}` of Roberts' quasi-random sequence, where
    :math:`\varphi^{n+1} = \varphi + 1` to ten steps of iteration, are made normal and then unit
    vectors. Source: Xiong 2025, "On N-dimensional rotary positional embeddings"
    (jerryxio.ng/posts/nd-rope).

    Examples
    --------
    >>> import numpy as np
    >>> matrix = np.asarray(golden_directions(2, 4, slowest=0.1, fastest=0.8).matrix)
    >>> np.linalg.norm(matrix, axis=0).round(3)
    array([0.1, 0.2, 0.4, 0.8])
    """
    n_axes, n_pairs = as_int("n_axes", n_axes), as_int("n_pairs", n_pairs)
    for name, value in (("n_axes", n_axes), ("n_pairs", n_pairs)):
        if value <= 0:
            msg = f"`{name}` must be positive, got {value}"
            raise ValueError(msg)
    if as_int("first", first) < 0:
        msg = f"`first` must be non-negative, got {first}"
        raise ValueError(msg)
    for name, speed in (("slowest", slowest), ("fastest", fastest), ("still", still)):
        require_number(name, speed)
    if not 0 < slowest <= fastest:
        msg = f"`slowest` and `fastest` must be 0 < slowest <= fastest, got {slowest}, {fastest}"
        raise ValueError(msg)
    if not 0 <= still < 1:
        msg = f"`still` must be in [0, 1), got {still}"
        raise ValueError(msg)
    golden = 2.0
    for _ in range(10):
        golden = (1 + golden) ** (1 / (n_axes + 1))
    from statistics import NormalDist  # noqa: PLC0415 - as long to load as the other rooms together

    normal = NormalDist().inv_cdf
    n_still = round(n_pairs * still)
    moving = max(n_pairs - n_still - 1, 1)
    columns = []
    for k in range(n_pairs):
        point = [normal((first + k + 1) * golden ** -(a + 1) % 1) for a in range(n_axes)]
        length = math.hypot(*point)
        speed = 0.0 if k < n_still else slowest * (fastest / slowest) ** ((k - n_still) / moving)
        columns.append([speed * p / length for p in point])
    return Directions(tuple(zip(*columns, strict=True)))


def _matrix(n_axes: int, axes: Sequence[int], values: Sequence[float]) -> Matrix:
    pairs = list(zip(axes, values, strict=True))
    return tuple(tuple(w if a == axis else 0.0 for a, w in pairs) for axis in range(n_axes))


def _as_list(name: str, values: Any) -> Any:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        msg = f"`{name}` must be a tuple, got {values!r}"
        raise TypeError(msg)
    return values


def _as_ints(name: str, values: Any) -> tuple[int, ...]:
    return tuple(as_int(name, value) for value in _as_list(name, values))


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"`{name}` must be one of {', '.join(map(repr, known))}, got {value!r}"
        raise ValueError(msg)


def _require_sections(sections: Any) -> tuple[int, ...]:
    checked = _as_ints("sections", sections)
    if not checked or any(n < 0 for n in checked):
        msg = f"`sections` must be non-negative, at least one, got {checked}"
        raise ValueError(msg)
    return checked


def _require_sum(sections: tuple[int, ...], rotary_dim: int) -> None:
    if sum(sections) != rotary_dim // 2:
        msg = (
            f"`sections` must sum to n_pairs={rotary_dim // 2}, "
            f"got {sections} with sum {sum(sections)}"
        )
        raise ValueError(msg)


def require_axes(axes: Any) -> None:
    """TypeError unless ``axes`` is None or a scheme."""
    if isinstance(axes, type) or not (axes is None or hasattr(axes, "n_axes")):
        msg = f"`axes` must be None or a value from rope_xp.axes, got {axes!r}"
        raise TypeError(msg)
