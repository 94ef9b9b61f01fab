"""Schedules with a divisor or a frequency for every pair, and one that changes the sign."""

import math
from dataclasses import dataclass

from rope_xp._validation import (
    MAX_FREQUENCY,
    as_frequencies,
    as_size,
    require_context_length,
    require_factor,
    require_list,
    require_positive,
    require_scale_factor,
    settle_fields,
)
from rope_xp.scaling._base import (
    Default,
    Frequencies,
    Schedule,
    checked_frequencies,
    divided_frequencies,
    inverse_frequencies,
    is_longer,
    require_pairs,
    require_rotary_dim,
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

    Source: Ding et al. 2024, arXiv:2402.13753. Compared with transformers 5.24.0.
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
        settle_fields(
            self,
            short_factor=require_list,
            long_factor=require_list,
            original_max_position_embeddings=require_context_length,
            factor=require_scale_factor,
            max_position_embeddings=require_context_length,
            attention_factor=require_factor,
            short_mscale=require_factor,
            long_mscale=require_factor,
        )
        if len(self.short_factor) != len(self.long_factor):
            msg = (
                f"`long_factor` must be as long as short_factor, {len(self.short_factor)}, "
                f"got {len(self.long_factor)}"
            )
            raise ValueError(msg)
        if (self.short_mscale is None) != (self.long_mscale is None):
            msg = (
                "`short_mscale` and `long_mscale` must be given together, "
                f"got {self.short_mscale} and {self.long_mscale}"
            )
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        long = is_longer(seq_len, self.original_max_position_embeddings)
        name = "long_factor" if long else "short_factor"
        divisors = self.long_factor if long else self.short_factor
        inv_freq = divided_frequencies(rotary_dim, base, name, divisors, precision)
        return Frequencies(inv_freq, self._attention_factor(long=long))

    def _attention_factor(self, *, long: bool) -> float:
        if self.short_mscale is not None and self.long_mscale is not None:
            return self.long_mscale if long else self.short_mscale
        if self.attention_factor is not None:
            return self.attention_factor
        original = self.original_max_position_embeddings
        stretch = self.factor or (self.max_position_embeddings or original) / original
        return 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))


@dataclass(frozen=True)
class Proportional:
    r"""p-RoPE: the fastest pairs turn as in the whole head, the others do not turn (Gemma 4).

    Of :math:`d_r/2` pairs the first ``int(partial_rotary_factor * rotary_dim // 2)`` keep
    :math:`b^{-2i/d_r}` over ``factor``, the others get 0. Unlike a partial rotation, pairs and
    exponents are those of the whole head.

    Source: Barbero et al. 2024, arXiv:2410.06205. Compared with transformers 5.24.0.
    """

    partial_rotary_factor: float = 1.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        settle_fields(self, partial_rotary_factor=require_positive, factor=require_scale_factor)
        if self.partial_rotary_factor > 1:
            msg = f"`partial_rotary_factor` must be at most 1, got {self.partial_rotary_factor}"
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision)
        turning = int(self.partial_rotary_factor * rotary_dim // 2)
        return Frequencies(
            tuple(r(f / r(self.factor)) if i < turning else 0.0 for i, f in enumerate(inv_freq))
        )


@dataclass(frozen=True)
class RIFLEx:
    r"""One pair slowed so that it does not turn around within a longer video, the others as they are.

    Pair ``k``, counted from 1, turns by :math:`0.9 \cdot 2\pi / L_{test}` per frame. It is the pair whose
    period is nearest to the frame at which the model's videos repeat; ``L_test`` is the length in use,
    in latent frames. For the axis of time only: ``scaling=(RIFLEx(4, 66), None, None)`` (HunyuanVideo).
    As in the authors' code, a short ``L_test`` makes the pair faster: leave the schedule out there.

    Source: Zhao et al. 2025, arXiv:2502.15894, equation 8; the factor 0.9 and the names are those of
    its code (github.com/thu-ml/RIFLEx), which it was compared with.

    Examples
    --------
    >>> RIFLEx(2, 100)(4, 10000.0).inv_freq
    (1.0, 0.05654866776461628)
    """

    k: int
    L_test: float

    def __post_init__(self) -> None:
        settle_fields(self, k=as_size, L_test=require_positive)
        if not self._slowed() < MAX_FREQUENCY:
            msg = f"`L_test` must keep frequencies below 2**128, got {self.L_test}"
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision)
        if self.k > len(inv_freq):
            msg = f"`k` must be at most n_pairs={len(inv_freq)}, got {self.k}"
            raise ValueError(msg)
        slowed = rounding(precision)(self._slowed())
        return Frequencies((*inv_freq[: self.k - 1], slowed, *inv_freq[self.k :]))

    def _slowed(self) -> float:
        return 0.9 * 2 * math.pi / self.L_test


@dataclass(frozen=True)
class Custom:
    """Frequencies as given, in radians per step, whatever the base (MLX's ``freqs`` are 1 / these)."""

    inv_freq: tuple[float, ...]

    def __post_init__(self) -> None:
        settle_fields(self, inv_freq=as_frequencies)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        require_pairs("inv_freq", self.inv_freq, rotary_dim)
        return Frequencies(tuple(r(f) for f in self.inv_freq))


@dataclass(frozen=True)
class FrequencyFactors:
    """A divisor for every pair: ggml's ``freq_factors``, GGUF's ``rope_freqs``.

    It divides the frequencies of ``scaling``, another schedule, where ggml divides the angles before
    it interpolates them: the result is the same. Default: the frequencies without a schedule.
    """

    factors: tuple[float, ...]
    scaling: Schedule | None = None

    def __post_init__(self) -> None:
        settle_fields(self, factors=require_list)
        require_schedule(self.scaling)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        if self.scaling is None:
            return Frequencies(
                divided_frequencies(rotary_dim, base, "factors", self.factors, precision)
            )
        require_pairs("factors", self.factors, rotary_dim)
        made = checked_frequencies(
            self.scaling, rotary_dim, base, seq_len=seq_len, precision=precision
        )
        r, smallest = rounding(precision), min(self.factors)
        if max(map(abs, made.inv_freq)) >= MAX_FREQUENCY * smallest:
            msg = f"`factors` must keep frequencies below 2**128, got {smallest}"
            raise ValueError(msg)
        pairs = zip(made.inv_freq, self.factors, strict=True)
        return made._replace(inv_freq=tuple(r(w / r(c)) for w, c in pairs))


@dataclass(frozen=True)
class Negated:
    """The frequencies of another schedule with the sign changed: rotation by −θ (nanochat)."""

    scaling: Schedule | None = None

    def __post_init__(self) -> None:
        require_schedule(self.scaling)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        rotary_dim = require_rotary_dim(rotary_dim)
        schedule: Schedule = Default() if self.scaling is None else self.scaling
        forward = checked_frequencies(
            schedule, rotary_dim, base, seq_len=seq_len, precision=precision
        )
        return forward._replace(inv_freq=tuple(-w for w in forward.inv_freq))
