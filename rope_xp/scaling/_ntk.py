"""One stretch for all pairs, or a larger base: position interpolation and NTK-aware scaling."""

from dataclasses import dataclass

from rope_xp._validation import require_context_length, require_scale_factor, settle_fields
from rope_xp.scaling._base import (
    Frequencies,
    inverse_frequencies,
    is_longer,
    larger_base,
    rounding,
)


@dataclass(frozen=True)
class Linear:
    r"""Position interpolation: :math:`\theta_i / s`, every pair slower by ``factor``.

    Source: Chen et al. 2023, arXiv:2306.15595. Numbers compared with transformers 5.24.0.
    Book: :eq:`eq-linear`.
    """

    factor: float

    def __post_init__(self) -> None:
        settle_fields(self, factor=require_scale_factor)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        inv_freq = inverse_frequencies(rotary_dim, base, precision=precision)
        return Frequencies(tuple(r(f / r(self.factor)) for f in inv_freq))


@dataclass(frozen=True)
class NTK:
    r"""NTK-aware: the base becomes :math:`b\,s^{d_r/(d_r-2)}`, which slows the last pair by ``factor``.

    HunYuan's ``alpha`` is this ``factor``. (diffusers' ``ntk_factor`` has no exponent; vLLM's "ntk"
    is another formula.) Source: bloc97 2023; compared with transformers 5.24.0's HunYuan.
    Book: :eq:`eq-ntk`.
    """

    factor: float

    def __post_init__(self) -> None:
        settle_fields(self, factor=require_scale_factor)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        base = larger_base(base, self.factor, rotary_dim, float, self.factor)
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


@dataclass(frozen=True)
class DynamicNTK:
    r"""NTK-aware with a stretch that follows the length: :math:`s\,n/n_0 - (s - 1)`.

    ``n`` is the given ``seq_len`` and at least ``max_position_embeddings``, :math:`n_0`; up to there
    nothing changes. Nothing is remembered: transformers keeps the longest length it has seen until
    one shorter than n₀ comes; vLLM fixes n at :math:`s\,n_0`. Keys rotated at one length do not fit
    queries rotated at another. Compared with transformers 5.24.0.

    In a program of ``torch.compile`` or ``torch.export`` the frequencies of a `RoPE` without axes are
    data, so one program serves every ``seq_len``; to load what was exported, import `rope_xp` first.
    With axes, or a base below 1, each length is another program, and torch stops after 8: make tables
    with `RoPE.cos_sin` outside and pass them in. Elsewhere a length that is traced is refused.

    Book: :eq:`eq-dynamic`.
    """

    factor: float
    max_position_embeddings: int

    def __post_init__(self) -> None:
        settle_fields(
            self, factor=require_scale_factor, max_position_embeddings=require_context_length
        )

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        if seq_len is not None and is_longer(seq_len, self.max_position_embeddings):
            stretch = r(r(r(self.factor) * r(seq_len)) / r(self.max_position_embeddings))
            stretch = r(stretch - r(self.factor - 1))
            base = larger_base(base, stretch, rotary_dim, r, self.factor, seq_len=seq_len)
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))


@dataclass(frozen=True)
class SteppedNTK:
    r"""NTK-aware with a stretch that grows in steps, :math:`2^{k+1} - 1` (Qwen 1's ``use_dynamic_ntk``).

    ``k`` is how often ``max_position_embeddings``, which Qwen 1 calls ``seq_length``, must be doubled to
    reach the given ``seq_len``: 0 up to there, where nothing changes. As in `DynamicNTK`, nothing is
    remembered.

    Source: modeling_qwen.py of Qwen-7B, ``get_ntk_alpha`` and ``update_rotary_pos_emb_cache``.
    """

    max_position_embeddings: int

    def __post_init__(self) -> None:
        settle_fields(self, max_position_embeddings=require_context_length)

    def __call__(
        self, rotary_dim: int, base: float, *, seq_len: int | None = None, precision: str = "exact"
    ) -> Frequencies:
        r = rounding(precision)
        k, length = 0, self.max_position_embeddings
        while is_longer(seq_len, length):
            k, length = k + 1, 2 * length
        if k:
            stretch = float(2 ** (k + 1) - 1)
            base = larger_base(base, stretch, rotary_dim, r, stretch, seq_len=seq_len)
        return Frequencies(inverse_frequencies(rotary_dim, base, precision=precision))
