"""Schemes whose axes have pairs of their own: vision towers, video and image diffusion."""

from dataclasses import dataclass
from typing import Any

from rope_xp._validation import (
    MAX_FEATURES,
    MAX_FREQUENCY,
    as_int,
    quote,
    require_bool,
    require_list,
    require_number,
    require_one_of,
    settle_fields,
)
from rope_xp.axes._base import (
    FrequencyFunction,
    Matrix,
    as_ints,
    call_frequencies,
    one_axis_per_pair,
)
from rope_xp.scaling._base import require_rotary_dim


@dataclass(frozen=True)
class Axial:
    """Every axis has pairs of its own: vision towers, video and image diffusion.

    Parameters
    ----------
    widths : int or tuple of int
        The number of axes, which share the rotated part equally, or the features of each, even.
    arrangement : {"blocks", "alternating"}
        All pairs of the first axis, then all of the second, …; or, for equal widths, the first pair
        of each axis, then the second of each, ….
    frequencies : {"own", "shared"}
        ``"own"``: each axis has the frequencies :math:`b^{-2j/w}` of its width w. ``"shared"``: the
        axes take turns along one list :math:`b^{-2i/d_r}`, so each gets every n-th frequency.
    axis_order : tuple of int, optional
        Which axis of the positions comes first among the pairs, which second, …; default 0, 1, ….
        (1, 0) is for towers whose columns come first.
    split : bool
        Pair the features of each axis independently, instead of all of them together. This matters
        with ``layout="half"`` and blocks.
    scale : float
        Multiplies all frequencies; 2π makes them turns per unit, for positions in [−1, 1].
    bases : tuple of float, optional
        Base of each axis, if not the encoding's; only with ``frequencies="own"``.

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
    Cosmos, NTK in time (below)       half         1e4     Axial((44, 42, 42))
    Allegro, `Linear` (below)         half         1e4     Axial(3, split=True)
    LTX, `Linear` (below)             interleaved  below 1 Axial(3, arrangement="alternating", …)
    ================================  ============ ======= =======================================

    A schedule for one axis is ``scaling=(NTK(2.0), None, None)`` (Cosmos's ``rope_scale``), or a
    `Linear` for each (Kandinsky's ``scale_factor``, Allegro's ``interpolation_scale``, LTX's 20 s and 2048
    pixels).

    Frequencies from f to F, both included, n of them for each axis (DINOv3's periods, timm's pixel
    bands, LTX), are ``scale=f`` and ``base=(F / f) ** (-n / (n - 1))``. Models also differ in where
    their tokens are: `rope_xp.positions`.

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
        settle_fields(
            self,
            widths=_as_widths,
            arrangement=_as_arrangement,
            frequencies=_as_frequencies,
            axis_order=as_ints,
            split=require_bool,
            scale=require_number,
            bases=require_list,
        )
        for what in ("arrangement", "frequencies"):
            value = getattr(self, what)
            if value in {"alternating", "shared"} and len(set(self._nominal_widths())) > 1:
                msg = f"`widths` must be equal for {what}={value!r}, got {quote(self.widths)}"
                raise ValueError(msg)
        if self.axis_order is not None and sorted(self.axis_order) != [*range(self.n_axes)]:
            order = quote(self.axis_order)
            msg = f"`axis_order` must name each of {self.n_axes} axes once, got {order}"
            raise ValueError(msg)
        if self.split and self.arrangement == "alternating":
            msg = "`arrangement` must be 'blocks' when split=True, got 'alternating'"
            raise ValueError(msg)
        if not self.scale:
            msg = "`scale` must not be 0, got 0.0"
            raise ValueError(msg)
        if self.bases is not None:
            if len(self.bases) != self.n_axes:
                msg = (
                    f"`bases` must have one for each of {self.n_axes} axes, got {quote(self.bases)}"
                )
                raise ValueError(msg)
            if self.frequencies == "shared":
                msg = f"`bases` must be None for frequencies='shared', got {quote(self.bases)}"
                raise ValueError(msg)

    @property
    def n_axes(self) -> int:
        """Number of position axes."""
        return len(self._nominal_widths())

    def axis_of_pair(self, rotary_dim: int) -> tuple[int, ...]:
        """The axis that drives each pair, (n_pairs,)."""
        return tuple(axis for axis, _, _ in self._pairs(require_rotary_dim(rotary_dim)))

    def blocks(self, rotary_dim: int) -> tuple[int, ...]:
        """Widths of the parts that are paired independently."""
        rotary_dim = require_rotary_dim(rotary_dim)
        return self._in_order(rotary_dim)[1] if self.split else (rotary_dim,)

    def __call__(self, rotary_dim: int, frequencies: FrequencyFunction) -> Matrix:
        """The matrix, (n_axes, n_pairs)."""
        pairs = self._pairs(require_rotary_dim(rotary_dim))
        bases = (None,) * self.n_axes if self.bases is None else self.bases
        widths = {axis: width for axis, width, _ in pairs}
        lists = {
            axis: call_frequencies(frequencies, width, bases[axis], axis)
            for axis, width in widths.items()
        }
        values = [lists[axis][i] * self.scale for axis, _, i in pairs]
        if max(map(abs, values)) >= MAX_FREQUENCY:
            msg = f"`scale` must keep frequencies below 2**128, got {self.scale}"
            raise ValueError(msg)
        return one_axis_per_pair(self.n_axes, [axis for axis, _, _ in pairs], values)

    def _nominal_widths(self) -> tuple[int, ...]:
        """The width of each axis; 0 if they share the rotated part equally."""
        return self.widths if isinstance(self.widths, tuple) else (0,) * self.widths

    def _in_order(self, rotary_dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes in the order of their pairs, and their widths."""
        widths = self._nominal_widths()
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
                f"`widths` must sum to rotary_dim={rotary_dim}, got {quote(widths)} with "
                f"sum {quote(sum(widths))}"
            )
            raise ValueError(msg)
        order = self.axis_order or tuple(range(self.n_axes))
        return order, tuple(widths[a] for a in order)

    def _pairs(self, rotary_dim: int) -> list[tuple[int, int, int]]:
        """For each pair: its axis, and the width and the index of its frequency."""
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


def _as_widths(name: str, widths: Any) -> int | tuple[int, ...]:
    if isinstance(widths, list | tuple):
        each = as_ints(name, widths)
        if not each or any(w <= 0 or w % 2 for w in each):
            msg = f"`{name}` must be even and positive, got {quote(each)}"
            raise ValueError(msg)
        return each
    n_axes: int = as_int(name, widths)
    if not 0 < n_axes <= MAX_FEATURES:
        msg = f"`{name}` must be a positive number of axes or their widths, got {quote(n_axes)}"
        raise ValueError(msg)
    return n_axes


def _as_arrangement(name: str, value: Any) -> str:
    return require_one_of(name, value, ("blocks", "alternating"))


def _as_frequencies(name: str, value: Any) -> str:
    return require_one_of(name, value, ("own", "shared"))
