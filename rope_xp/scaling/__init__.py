"""How fast pairs turn: schedules of frequencies.

A schedule is a small frozen dataclass with the fields of a model's config and one formula. Called
with the rotated size, the base and a length it gives `Frequencies`: Python floats, computed on the
host, the same for every array library.

Every formula is written once for both precisions: with ``precision="float32"`` each step is rounded
as transformers 5.23.0 rounds it, so that all but one in a hundred of its frequencies come out to the
last bit (the rest is torch's float32 power, which is not always the nearest). Where implementations
differ, transformers is followed and the docstring names the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rope_xp._validation import (
    require_context_length,
    require_list,
    require_number,
    require_positive,
    require_scale_factor,
    to_float32,
)

__all__ = [
    "NTK",
    "Custom",
    "Default",
    "DynamicNTK",
    "Frequencies",
    "FrequencyFactors",
    "Linear",
    "Llama3",
    "LongRoPE",
    "NTKByParts",
    "Negated",
    "Proportional",
    "Schedule",
    "YaRN",
    "inverse_frequencies",
]


class Frequencies(NamedTuple):
    """What a schedule gives.

    Parameters
    ----------
    inv_freq : sequence of float, shape (n_pairs,)
        Radians per step of each pair.
    attention_factor : float
        Multiplies cos and sin, so scores by its square.
    softmax_factor : float
        Multiplies the scale of the softmax, outside of the rotation.
    """

    inv_freq: Sequence[float] | np.ndarray
    attention_factor: float = 1.0
    softmax_factor: float = 1.0


class Schedule(Protocol):
    """What `rope_xp.RoPE` asks of its ``scaling``: hashable, equal by value, and this one call."""

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None, precision: str
    ) -> Frequencies: ...


@dataclass(frozen=True)
class Default:
    r"""No scaling: :math:`\theta_i = b^{-2i/d_r}`.

    Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2. Book: :eq:`eq-inv-freq`.

    Examples
    --------
    >>> Default()(4, 10000.0).inv_freq
    (1.0, 0.01)
    """

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


@dataclass(frozen=True)
class Linear:
    r"""Position interpolation: :math:`\theta_i / s`, every pair slower by ``factor``.

    Source: Chen et al. 2023, arXiv:2306.15595. Numbers compared with transformers 5.23.0.
    Book: :eq:`eq-linear`.
    """

    factor: float

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = _rounding(precision)
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision)
        return Frequencies(tuple(r(f / r(self.factor)) for f in inv_freq))


@dataclass(frozen=True)
class NTK:
    r"""NTK-aware: the base becomes :math:`b\,s^{d_r/(d_r-2)}`, which slows the last pair by ``factor``.

    HunYuan's ``alpha`` is this ``factor``. (diffusers' ``ntk_factor`` has no exponent; vLLM's "ntk"
    is another formula.) Source: bloc97 2023; compared with transformers 5.23.0's HunYuan.
    Book: :eq:`eq-ntk`.
    """

    factor: float

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        base = base * self.factor ** _ntk_exponent(rotary_dim)
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


@dataclass(frozen=True)
class DynamicNTK:
    r"""NTK-aware with a stretch that follows the length: :math:`s\,n/n_0 - (s - 1)`.

    ``n`` is the ``seq_len`` that is asked for and at least ``max_position_embeddings``, :math:`n_0`;
    up to there nothing changes. Nothing is remembered: transformers keeps the longest length it has
    seen until a shorter than n₀ comes; vLLM fixes n at :math:`s\,n_0`. Keys rotated at one length
    do not fit queries rotated at another. Compared with transformers 5.23.0.

    Book: :eq:`eq-dynamic`.
    """

    factor: float
    max_position_embeddings: int

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)
        require_context_length("max_position_embeddings", self.max_position_embeddings)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        if seq_len is not None and seq_len > self.max_position_embeddings:
            r = _rounding(precision)
            stretch = r(r(r(self.factor) * r(seq_len)) / r(self.max_position_embeddings))
            stretch = r(stretch - r(self.factor - 1))
            base = r(r(base) * r(stretch ** _ntk_exponent(rotary_dim)))
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


@dataclass(frozen=True)
class YaRN:
    r"""Fast pairs as they are, slow pairs interpolated, a ramp between; and a factor on the scores.

    A pair that makes more than ``beta_fast`` turns within the original context keeps its frequency,
    one that makes fewer than ``beta_slow`` is divided by ``factor``; ``truncate`` rounds the ends of
    the ramp outwards to whole pairs (gpt-oss does not). The attention factor is
    ``attention_factor`` if given, else g(mscale) / g(mscale_all_dim) if both are given, else g(1),
    where g(m) = 0.1 m ln(factor) + 1. (Given ``mscale`` alone, vLLM's and Megatron's DeepSeek take
    g(mscale); transformers, and this, g(1).)

    ``mscale_softmax``: DeepSeek's latent attention multiplies the softmax scale by
    g(mscale_all_dim)², told as ``softmax_factor``; False where a model does not.

    Source: Peng et al. 2023, arXiv:2309.00071. Compared with transformers 5.23.0.
    Book: :eq:`eq-yarn`.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    mscale_softmax: bool = True

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)
        require_context_length(
            "original_max_position_embeddings", self.original_max_position_embeddings
        )
        for name in ("beta_fast", "beta_slow"):
            require_positive(name, getattr(self, name))
        if self.beta_fast < self.beta_slow:
            msg = f"`beta_fast` must be at least beta_slow={self.beta_slow}, got {self.beta_fast}"
            raise ValueError(msg)
        for name in ("truncate", "mscale_softmax"):
            if not isinstance(getattr(self, name), bool):
                msg = f"`{name}` must be True or False, got {getattr(self, name)!r}"
                raise TypeError(msg)
        if self.attention_factor is not None:
            require_positive("attention_factor", self.attention_factor)
        for name in ("mscale", "mscale_all_dim"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name))

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = _rounding(precision)
        own = inverse_frequencies(rotary_dim, base, precision=precision)
        slow = inverse_frequencies(rotary_dim, base, precision=precision, divisors=self.factor)
        first, last = self.ramp(rotary_dim, base)
        blended = []
        for i, (f, interpolated) in enumerate(zip(own, slow, strict=True)):
            along = min(max(r(r(i - r(first)) / r(last - first)), 0.0), 1.0)
            keep = r(1 - along)
            blended.append(r(r(interpolated * r(1 - keep)) + r(f * keep)))
        return Frequencies(tuple(blended), self._attention_factor(), self._softmax_factor())

    def ramp(self, rotary_dim: int, base: float) -> tuple[float, float]:
        """The pairs at which the ramp starts and ends."""
        if base == 1:
            msg = "`base` must not be 1 for a ramp between fast and slow pairs, got 1.0"
            raise ValueError(msg)

        def pair_of(turns: float) -> float:
            length = self.original_max_position_embeddings
            return rotary_dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

        first, last = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, rotary_dim - 1)
        return first, last + 0.001 if first == last else last

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return float(self.attention_factor)
        if self.mscale and self.mscale_all_dim:
            return self._gain(self.mscale) / self._gain(self.mscale_all_dim)
        return self._gain(1.0)

    def _softmax_factor(self) -> float:
        if self.mscale_softmax and self.mscale_all_dim:
            return self._gain(self.mscale_all_dim) ** 2
        return 1.0

    def _gain(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class NTKByParts:
    """YaRN's frequencies without its factor on the scores.

    Source: Peng et al. 2023, arXiv:2309.00071, section 3.2. Book: :eq:`eq-by-parts`.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        self._yarn()

    def _yarn(self) -> YaRN:
        return YaRN(
            self.factor,
            self.original_max_position_embeddings,
            self.beta_fast,
            self.beta_slow,
            truncate=self.truncate,
            attention_factor=1.0,
        )

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        return self._yarn()(rotary_dim, base, seq_len=seq_len, precision=precision)


@dataclass(frozen=True)
class LongRoPE:
    r"""A divisor for every pair, one list up to the original context and one beyond.

    ``long_factor`` holds where ``seq_len`` exceeds ``original_max_position_embeddings``, for the
    whole call. (vLLM and llama.cpp decide once, by the length that is allocated; mlx-lm always
    takes the long list.) The attention factor is ``attention_factor`` if given, else
    :math:`\sqrt{1 + \ln s / \ln n_0}` with s = ``factor``, or ``max_position_embeddings`` over the
    original context; ``short_mscale`` and ``long_mscale`` replace it (PhiMoE).

    Source: Ding et al. 2024, arXiv:2402.13753. Compared with transformers 5.23.0.
    Book: :eq:`eq-longrope`.
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    factor: float | None = None
    max_position_embeddings: int | None = None
    attention_factor: float | None = None
    short_mscale: float | None = None
    long_mscale: float | None = None

    def __post_init__(self) -> None:
        for name in ("short_factor", "long_factor"):
            object.__setattr__(self, name, require_list(name, getattr(self, name)))
        if len(self.short_factor) != len(self.long_factor):
            msg = (
                f"`long_factor` must be as long as short_factor, {len(self.short_factor)}, "
                f"got {len(self.long_factor)}"
            )
            raise ValueError(msg)
        require_context_length(
            "original_max_position_embeddings", self.original_max_position_embeddings
        )
        if self.max_position_embeddings is not None:
            require_context_length("max_position_embeddings", self.max_position_embeddings)
        if self.factor is not None:
            require_scale_factor("factor", self.factor)
        for name in ("attention_factor", "short_mscale", "long_mscale"):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        if (self.short_mscale is None) != (self.long_mscale is None):
            msg = (
                "`short_mscale` and `long_mscale` must be given together, "
                f"got {self.short_mscale} and {self.long_mscale}"
            )
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        long = seq_len is not None and seq_len > self.original_max_position_embeddings
        name = "long_factor" if long else "short_factor"
        divisors = self.long_factor if long else self.short_factor
        _require_pairs(name, divisors, rotary_dim)
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision, divisors=divisors)
        return Frequencies(inv_freq, self._attention_factor(long=long))

    def _attention_factor(self, *, long: bool) -> float:
        if self.short_mscale is not None and self.long_mscale is not None:
            return float(self.long_mscale if long else self.short_mscale)
        if self.attention_factor is not None:
            return float(self.attention_factor)
        original = self.original_max_position_embeddings
        stretch = self.factor or (self.max_position_embeddings or original) / original
        return 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))


@dataclass(frozen=True)
class Llama3:
    r"""Short wavelengths stay, long ones are stretched by ``factor``, between them both are blended.

    Short is below :math:`n_0` / ``high_freq_factor`` tokens, long above :math:`n_0` /
    ``low_freq_factor``, with :math:`n_0` the original context.

    Source: Meta, Llama 3.1, 2024. Compared with transformers 5.23.0. Book: :eq:`eq-llama3`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)
        require_positive("low_freq_factor", self.low_freq_factor)
        require_positive("high_freq_factor", self.high_freq_factor)
        require_context_length(
            "original_max_position_embeddings", self.original_max_position_embeddings
        )
        if self.high_freq_factor <= self.low_freq_factor:
            msg = (
                f"`high_freq_factor` must be above low_freq_factor={self.low_freq_factor}, "
                f"got {self.high_freq_factor}"
            )
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = _rounding(precision)
        length, low, high = (
            self.original_max_position_embeddings,
            self.low_freq_factor,
            self.high_freq_factor,
        )
        scaled = []
        for f in inverse_frequencies(rotary_dim, base, precision=precision):
            wavelength = r(r(2 * math.pi) * r(1 / f))
            slower = r(f / r(self.factor))
            if wavelength < r(length / high):
                scaled.append(f)
            elif wavelength > r(length / low):
                scaled.append(slower)
            else:
                keep = r(r(r(r(length) * r(1 / wavelength)) - r(low)) / r(high - low))
                scaled.append(r(r(r(r(1 - keep) * f) / r(self.factor)) + r(keep * f)))
        return Frequencies(tuple(scaled))


@dataclass(frozen=True)
class Proportional:
    r"""p-RoPE: the fastest pairs turn as in the whole head, the others not at all (Gemma 4).

    Of :math:`d_r/2` pairs the first ``int(partial_rotary_factor * rotary_dim // 2)`` keep
    :math:`b^{-2i/d_r}` over ``factor``, the others get 0. Unlike a partial rotation, pairs and
    exponents are those of the whole head.

    Source: Barbero et al. 2024, arXiv:2410.06205. Compared with transformers 5.23.0.
    """

    partial_rotary_factor: float = 1.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        require_scale_factor("factor", self.factor)
        require_positive("partial_rotary_factor", self.partial_rotary_factor)
        if self.partial_rotary_factor > 1:
            msg = f"`partial_rotary_factor` must be at most 1, got {self.partial_rotary_factor}"
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = _rounding(precision)
        turning = int(self.partial_rotary_factor * rotary_dim // 2)
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision)
        return Frequencies(
            tuple(r(f / r(self.factor)) if i < turning else 0.0 for i, f in enumerate(inv_freq))
        )


@dataclass(frozen=True)
class Custom:
    """Frequencies as given, in radians per step, whatever the base (MLX's ``freqs`` are 1 / these)."""

    inv_freq: tuple[float, ...]

    def __post_init__(self) -> None:
        values = require_list("inv_freq", self.inv_freq, positive=False)
        object.__setattr__(self, "inv_freq", values)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = _rounding(precision)
        _require_pairs("inv_freq", self.inv_freq, rotary_dim)
        return Frequencies(tuple(r(f) for f in self.inv_freq))


@dataclass(frozen=True)
class FrequencyFactors:
    """A divisor for every pair at every length: ggml's ``freq_factors``, GGUF's ``rope_freqs``."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", require_list("factors", self.factors))

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        _require_pairs("factors", self.factors, rotary_dim)
        return Frequencies(
            inverse_frequencies(rotary_dim, base, precision=precision, divisors=self.factors)
        )


@dataclass(frozen=True)
class Negated:
    """The frequencies of another schedule with the sign turned: rotation by −θ (nanochat)."""

    scaling: Schedule | None = None

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        schedule: Schedule = Default() if self.scaling is None else self.scaling
        forward = schedule(rotary_dim, base, seq_len=seq_len, precision=precision)
        return forward._replace(inv_freq=tuple(-w for w in forward.inv_freq))


def inverse_frequencies(
    rotary_dim: int,
    base: float,
    *,
    precision: str = "exact",
    divisors: float | Sequence[float] = 1.0,
) -> tuple[float, ...]:
    r"""The geometric frequencies :math:`b^{-2i/d_r} / c_i`, :math:`i = 0 … d_r/2 - 1`, radians per step.

    With ``precision="float32"`` exponent, power, product and reciprocal are each rounded to float32,
    as in transformers 5.23.0: its frequencies differ from the exact ones in the last bit or two, which
    at position 100,000 is an angle of 0.01.

    Examples
    --------
    >>> inverse_frequencies(4, 100.0)
    (1.0, 0.1)
    """
    n_pairs = rotary_dim // 2
    if isinstance(divisors, int | float):
        divisors = [divisors] * n_pairs
    exponents = [2 * i / rotary_dim for i in range(n_pairs)]
    if precision == "exact":
        return tuple(base**-e / c for e, c in zip(exponents, divisors, strict=True))
    r = to_float32
    return tuple(
        r(1 / r(r(c) * r(r(base) ** r(e)))) for e, c in zip(exponents, divisors, strict=True)
    )


def _rounding(precision: str) -> Callable[[float], float]:
    return float if precision == "exact" else to_float32


def _ntk_exponent(rotary_dim: int) -> float:
    """The exponent d / (d − 2); a single pair turns by 1 whatever the base, so there 0 serves."""
    return rotary_dim / (rotary_dim - 2) if rotary_dim > 2 else 0.0


def require_base(base: float) -> float:
    """``base`` as a Python float; TypeError if it is no number, ValueError if not positive."""
    require_positive("base", base)
    return float(base)  # NumPy's too


def _require_pairs(name: str, values: Sequence[float], rotary_dim: int) -> None:
    if len(values) != rotary_dim // 2:
        msg = (
            f"`{name}` must have n_pairs={rotary_dim // 2} numbers for rotary_dim={rotary_dim}, "
            f"got {len(values)}"
        )
        raise ValueError(msg)
