"""Schedules with a divisor or a frequency for every pair, and one that changes the sign."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rope_xp._validation import (
    require_context_length,
    require_list,
    require_positive,
    require_scale_factor,
)
from rope_xp.scaling._base import (
    Default,
    Frequencies,
    Schedule,
    checked_frequencies,
    inverse_frequencies,
    require_schedule,
    rounding,
)


@dataclass(frozen=True)
class LongRoPE:
    r"""A divisor for every pair, one list up to the original context and one beyond.

    ``long_factor`` is used if ``seq_len`` exceeds ``original_max_position_embeddings``, for the whole
    call. (vLLM and llama.cpp decide once, by the allocated length; mlx-lm always uses the long
    list.) The attention factor is ``attention_factor`` if given, else
    :math:`\sqrt{1 + \ln s / \ln n_0}` with s = ``factor``, or ``max_position_embeddings`` divided by
    the original context; ``short_mscale`` and ``long_mscale`` replace it (PhiMoE).

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
class Proportional:
    r"""p-RoPE: the fastest pairs turn as in the whole head, the others do not turn (Gemma 4).

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
        r = rounding(precision)
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
        r = rounding(precision)
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
    """The frequencies of another schedule with the sign changed: rotation by −θ (nanochat)."""

    scaling: Schedule | None = None

    def __post_init__(self) -> None:
        require_schedule(self.scaling)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        schedule: Schedule = Default() if self.scaling is None else self.scaling
        forward = checked_frequencies(
            schedule, rotary_dim, base, seq_len=seq_len, precision=precision
        )
        return forward._replace(inv_freq=tuple(-w for w in forward.inv_freq))


def _require_pairs(name: str, values: Sequence[float], rotary_dim: int) -> None:
    if len(values) != rotary_dim // 2:
        msg = (
            f"`{name}` must have n_pairs={rotary_dim // 2} numbers for rotary_dim={rotary_dim}, "
            f"got {len(values)}"
        )
        raise ValueError(msg)
