"""Schemes that deal one list of frequencies out to the axes: text with images."""

from dataclasses import dataclass
from typing import Any

from rope_xp._validation import quote
from rope_xp.axes._base import (
    FrequencyFunction,
    Matrix,
    as_ints,
    call_frequencies,
    one_axis_per_pair,
)
from rope_xp.scaling._base import require_rotary_dim


class _SharedFrequencies:
    """Schemes that deal one list of frequencies out, each pair to the axis that drives it."""

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """One part."""
        return (require_rotary_dim(rotary_dim),)

    def __call__(self: Any, rotary_dim: int, frequencies: FrequencyFunction) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        owners = self.axis_of_pair(rotary_dim)
        lists = {a: call_frequencies(frequencies, rotary_dim, None, a) for a in sorted({*owners})}
        return one_axis_per_pair(self.n_axes, owners, [lists[a][i] for i, a in enumerate(owners)])


@dataclass(frozen=True)
class AxisPerPair(_SharedFrequencies):
    """One list of frequencies :math:`b^{-2i/d_r}`, and the axis that drives each pair.

    Equal coordinates on all axes give the encoding of one axis: text is encoded as without axes.

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
        pairs = as_ints("pairs", self.pairs)
        if not pairs or max(pairs) >= len(pairs) or {*pairs} != {*range(max(pairs) + 1)}:
            msg = f"`pairs` must use every axis from 0 to n_axes − 1, got {quote(pairs)}"
            raise ValueError(msg)
        object.__setattr__(self, "pairs", pairs)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return max(self.pairs) + 1

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        n_pairs = require_rotary_dim(rotary_dim) // 2
        if len(self.pairs) != n_pairs:
            msg = f"`pairs` must have n_pairs={n_pairs} entries, got {len(self.pairs)}"
            raise ValueError(msg)
        return self.pairs


@dataclass(frozen=True)
class _PairsPerAxis(_SharedFrequencies):
    """Schemes that know how many pairs each axis has: a config's ``mrope_section``."""

    sections: tuple[int, ...]

    def __post_init__(self) -> None:
        sections = as_ints("sections", self.sections)
        if not sections or any(n < 0 for n in sections):
            msg = f"`sections` must be non-negative, at least one, got {quote(sections)}"
            raise ValueError(msg)
        object.__setattr__(self, "sections", sections)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self.sections)

    def _require_sum(self, rotary_dim: int) -> None:
        n_pairs = require_rotary_dim(rotary_dim) // 2
        if sum(self.sections) != n_pairs:
            msg = (
                f"`sections` must sum to n_pairs={n_pairs}, "
                f"got {quote(self.sections)} with sum {quote(sum(self.sections))}"
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class Sections(_PairsPerAxis):
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

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        self._require_sum(rotary_dim)
        return tuple(a for a, n in enumerate(self.sections) for _ in range(n))


@dataclass(frozen=True)
class InterleavedSections(_PairsPerAxis):
    """Text with images (Qwen3-VL): the axes take turns, so each has fast and slow pairs.

    Axis a drives pairs a, a + n_axes, a + 2·n_axes, … below ``n_axes * sections[a]``; the first axis
    drives the remaining pairs. Equal coordinates on all axes give the encoding of one axis.

    Parameters
    ----------
    sections : tuple of int
        A config's ``mrope_section`` with ``mrope_interleaved``; their sum is n_pairs. If
        ``n_axes * sections[a]`` exceeds n_pairs, the turns end with the pairs, as in transformers.

    Notes
    -----
    Source: Bai et al. 2025, arXiv:2511.21631 (Qwen3-VL); compared with transformers 5.24.0.

    Examples
    --------
    >>> InterleavedSections((2, 1, 1)).axis_of_pair(8)
    (0, 1, 2, 0)
    """

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        self._require_sum(rotary_dim)
        turns = [i % self.n_axes for i in range(rotary_dim // 2)]
        return tuple(a if i < self.n_axes * self.sections[a] else 0 for i, a in enumerate(turns))
