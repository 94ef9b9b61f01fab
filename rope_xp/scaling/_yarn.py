"""YaRN: fast pairs unchanged, slow ones interpolated, a ramp between them."""

import math
from dataclasses import dataclass

from rope_xp._validation import (
    require_bool,
    require_context_length,
    require_number,
    require_positive,
    require_scale_factor,
)
from rope_xp.scaling._base import Frequencies, inverse_frequencies, rounding


@dataclass(frozen=True)
class YaRN:
    r"""Fast pairs unchanged, slow pairs interpolated, a ramp between; and a factor on the scores.

    A pair that makes more than ``beta_fast`` turns within the original context keeps its frequency,
    one that makes fewer than ``beta_slow`` is divided by ``factor``; ``truncate`` rounds the ends of
    the ramp outward to whole pairs (gpt-oss does not). The attention factor is
    ``attention_factor`` if given, else g(mscale) / g(mscale_all_dim) if both are given, else g(1),
    where g(m) = 0.1 m ln(factor) + 1. (Given ``mscale`` alone, vLLM's and Megatron's DeepSeek use
    g(mscale); transformers and this class use g(1).)

    With ``mscale_softmax`` the ``softmax_factor`` is g(mscale_all_dim)², by which DeepSeek's latent
    attention multiplies the scale of the softmax; False is for models that do not.

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
            require_bool(name, getattr(self, name))
        if self.attention_factor is not None:
            require_positive("attention_factor", self.attention_factor)
        for name in ("mscale", "mscale_all_dim"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name))

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
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
