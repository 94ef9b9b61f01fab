"""Llama 3.1's three bands of wavelengths."""

import math
from dataclasses import dataclass

from rope_xp._validation import (
    require_context_length,
    require_positive,
    require_scale_factor,
    settle_fields,
)
from rope_xp.scaling._base import Frequencies, inverse_frequencies, rounding


@dataclass(frozen=True)
class Llama3:
    r"""Short wavelengths unchanged, long ones stretched by ``factor``, a blend of both between.

    Short means below :math:`n_0` / ``high_freq_factor`` tokens, long above :math:`n_0` /
    ``low_freq_factor``, with :math:`n_0` the original context. Where both are equal (Llama 4) nothing
    is between: wavelengths above :math:`n_0` / ``low_freq_factor`` are stretched, the others are not.

    Source: Meta, Llama 3.1, 2024. Compared with transformers 5.24.0. Book: :eq:`eq-llama3`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        settle_fields(
            self,
            factor=require_scale_factor,
            low_freq_factor=require_positive,
            high_freq_factor=require_positive,
            original_max_position_embeddings=require_context_length,
        )
        if self.high_freq_factor < self.low_freq_factor:
            msg = (
                f"`high_freq_factor` must be at least low_freq_factor={self.low_freq_factor}, "
                f"got {self.high_freq_factor}"
            )
            raise ValueError(msg)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        length, low, high = (
            self.original_max_position_embeddings,
            self.low_freq_factor,
            self.high_freq_factor,
        )
        scaled = []
        for f in inverse_frequencies(rotary_dim, base, precision=precision):
            wavelength = r(r(2 * math.pi) * r(1 / f))
            slower = r(f / r(self.factor))
            if wavelength > r(length / low):
                scaled.append(slower)
            elif wavelength < r(length / high) or high == low:
                scaled.append(f)
            else:
                keep = r(r(r(r(length) * r(1 / wavelength)) - r(low)) / r(high - low))
                scaled.append(r(r(r(r(1 - keep) * f) / r(self.factor)) + r(keep * f)))
        return Frequencies(tuple(scaled))
