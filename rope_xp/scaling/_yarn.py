"""YaRN: fast pairs unchanged, slow ones interpolated, a ramp between them."""

import math
from dataclasses import dataclass

from rope_xp._validation import (
    MAX_FACTOR,
    require_base,
    require_bool,
    require_context_length,
    require_factor,
    require_number,
    require_positive,
    require_scale_factor,
    settle_fields,
)
from rope_xp.scaling._base import Frequencies, inverse_frequencies, require_rotary_dim, rounding


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

    Source: Peng et al. 2023, arXiv:2309.00071. Compared with transformers 5.24.0.
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
        settle_fields(
            self,
            factor=require_scale_factor,
            original_max_position_embeddings=require_context_length,
            beta_fast=require_positive,
            beta_slow=require_positive,
            truncate=require_bool,
            attention_factor=require_factor,
            mscale=require_number,
            mscale_all_dim=require_number,
            mscale_softmax=require_bool,
        )
        if self.beta_fast < self.beta_slow:
            msg = f"`beta_fast` must be at least beta_slow={self.beta_slow}, got {self.beta_fast}"
            raise ValueError(msg)

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
        rotary_dim, base = require_rotary_dim(rotary_dim), require_base(base)
        if base == 1:
            msg = "`base` must not be 1 for a ramp between fast and slow pairs, got 1.0"
            raise ValueError(msg)

        def pair_of(name: str, turns: float) -> float:
            length = self.original_max_position_embeddings
            wavelength = length / (turns * 2 * math.pi)
            if not 0 < wavelength < math.inf:
                msg = f"`{name}` must be a number of turns within {length} tokens, got {turns}"
                raise ValueError(msg)
            return rotary_dim * math.log(wavelength) / (2 * math.log(base))

        first, last = pair_of("beta_fast", self.beta_fast), pair_of("beta_slow", self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, rotary_dim - 1)
        return first, last + 0.001 if first == last else last

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            gain = self._gain("mscale", self.mscale)
            return gain / self._gain("mscale_all_dim", self.mscale_all_dim)
        return self._gain("factor", 1.0)

    def _softmax_factor(self) -> float:
        if self.mscale_softmax and self.mscale_all_dim:
            return self._gain("mscale_all_dim", self.mscale_all_dim) ** 2
        return 1.0

    def _gain(self, name: str, mscale: float) -> float:
        gain = gain_of(self.factor, mscale)
        limit = math.sqrt(MAX_FACTOR)  # for its square, or another over it
        if not 1 / limit < gain < limit:
            msg = (
                f"`{name}` must give a positive gain that float32 has, 0.1 * {name} * ln(factor) + 1, "
                f"got {mscale}, which gives {gain} for factor={self.factor}"
            )
            raise ValueError(msg)
        return gain


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
        yarn = self._yarn()
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, getattr(yarn, name))  # as YaRN settles it

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


def gain_of(factor: float, mscale: float) -> float:
    """What cos and sin are multiplied by for a stretch: 0.1 mscale ln(factor) + 1."""
    return 0.1 * mscale * math.log(factor) + 1.0
