"""Factors on queries that grow with their position and keep attention sharp over long contexts.

Called with positions, each value here returns the factors, which `rope_xp.attention.attention` takes.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from rope_xp import _backends
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    as_size,
    quote,
    require_factor,
    require_real,
    settle_fields,
)
from rope_xp.positions._range import bounds


class QueryScale(Protocol):
    """What `rope_xp.RoPE` requires of its ``query_scale``: this call, a hash, and equality by value.

    A frozen dataclass whose fields are numbers has the last two. The code that computes scores
    multiplies queries by the result of the call; `rope_xp.RoPE` does not.

    Parameters
    ----------
    positions : integer or real array, shape (seq,) or (batch, seq)
        Of the queries.

    Returns
    -------
    array, shape of ``positions``
        float64 if ``positions`` are, else float32.
    """

    def __call__(self, positions: Array) -> Array: ...


@dataclass(frozen=True)
class FloorLogScale:
    r"""Steps at multiples of ``length``: :math:`1 + \beta \ln(1 + \lfloor (p + o) / L \rfloor)`.

    Known as attention temperature tuning. ``offset``, :math:`o`, is 1 where a model counts positions
    from 1. Llama 4 has it in layers without rotation (``floor_scale``, ``attn_scale``, offset 1),
    Ministral 3 and Mistral 4 in all layers (``original_max_position_embeddings``,
    ``llama_4_scaling_beta``).

    Parameters
    ----------
    length : int
        Positions from one step to the next, :math:`L`.
    beta : float
        Strength.
    offset : int
        Added to positions; less than ``length``.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, or positions are no numbers.

    Notes
    -----
    The steps of integers are exact, whatever their dtype; so are those of whole numbers up to 2²⁴ in
    float32. The factor is right to a few units in the last place. It is 1 before position 0, and NaN
    where a position is not finite.

    Source: Nakanishi 2025, arXiv:2501.19399. Compared with transformers 5.24.0, whose Llama 4 takes the
    place in the cache for the position.

    Examples
    --------
    >>> import numpy as np
    >>> FloorLogScale(8192, 0.1, offset=1)(np.asarray([0, 8190, 8191, 60000])).round(4)
    array([1.    , 1.    , 1.0693, 1.2079], dtype=float32)
    """

    length: int
    beta: float
    offset: int = 0

    def __post_init__(self) -> None:
        _settle(self)

    def __call__(self, positions: Array) -> Array:
        xp, positions, compute = _resolve(positions)
        if _backends.is_integer(positions):
            steps = _whole_lengths(positions, self.length, self.offset, xp)
        else:
            steps = xp.floor(positions / self.length)
            # A quotient can be one off: XLA multiplies by the reciprocal of a constant.
            left = positions - steps * self.length + self.offset
            above, below = (
                _backends.cast(at, compute, xp) for at in (left >= self.length, left < 0)
            )
            steps = steps + above - below
        steps = _backends.cast(xp.clip(steps, 0, None), compute, xp)
        return 1 + self.beta * xp.log1p(steps)


@dataclass(frozen=True)
class LogScale:
    r"""A logarithm from ``length`` on: :math:`1 + \beta \ln \max((p + o) / L, 1)`.

    Without ``beta`` it is :math:`\log_L(p + o)` beyond :math:`L`: Qwen 1's logn attention
    (``seq_length``, offset 1) and Grok 2's temperature (``attn_temperature_len``). Inkling 2 has
    ``log_scaling_n_floor`` and ``log_scaling_alpha`` with offset 1 in its layers of full attention.

    Parameters
    ----------
    length : int
        Positions without a factor, :math:`L`.
    beta : float, optional
        Strength; default: :math:`1 / \ln L`.
    offset : int
        As in `FloorLogScale`.

    Raises
    ------
    ValueError, TypeError
        As `FloorLogScale`.

    Notes
    -----
    Source: Su 2021, https://kexue.fm/archives/8823. Compared with transformers 5.24.0's Inkling 2, with
    Qwen-7B's ``modeling_qwen.py``, whose table ends at 32767, and with SGLang's kernels for Grok 2.

    Examples
    --------
    >>> import numpy as np
    >>> LogScale(2048, offset=1)(np.asarray([0, 2047, 4095, 32766])).round(4)
    array([1.    , 1.    , 1.0909, 1.3636], dtype=float32)
    """

    length: int
    beta: float | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        _settle(self)

    def __call__(self, positions: Array) -> Array:
        xp, positions, compute = _resolve(positions)
        beta = 1 / math.log(self.length) if self.beta is None else self.beta
        lengths = (_backends.cast(positions, compute, xp) + self.offset) / self.length
        return 1 + beta * xp.log(xp.clip(lengths, 1, None))


@dataclass(frozen=True)
class PowerScale:
    r"""A power from the start on: :math:`(1 + (p + o) / L)^\beta`.

    Beam has it in layers without rotation, with length 2048, beta 0.1 and offset 1.

    Parameters
    ----------
    length : int
        Positions after which the factor is :math:`2^\beta`.
    beta : float
        Exponent, at most 1.
    offset : int
        As in `FloorLogScale`.

    Raises
    ------
    ValueError, TypeError
        As `FloorLogScale`.

    Notes
    -----
    It is 1 before position −o. Compared with transformers 5.24.0.

    Examples
    --------
    >>> import numpy as np
    >>> PowerScale(2048, 0.1, offset=1)(np.asarray([0, 2047])).round(4)
    array([1.    , 1.0718], dtype=float32)
    """

    length: int
    beta: float
    offset: int = 0

    def __post_init__(self) -> None:
        _settle(self)
        if self.beta > 1:
            msg = f"`beta` must be at most 1, got {self.beta}"
            raise ValueError(msg)

    def __call__(self, positions: Array) -> Array:
        xp, positions, compute = _resolve(positions)
        lengths = (_backends.cast(positions, compute, xp) + self.offset) / self.length
        return xp.exp(self.beta * xp.log1p(xp.clip(lengths, 0, None)))


@dataclass(frozen=True)
class LearnedLogScale:
    r"""A logarithm with weights of the model for each head: :math:`w_h \ln(p + o) + b_h`.

    Mistral Large 4 has it in all layers. ``weight`` and ``bias`` are not in the config: they are in
    the checkpoint (``softmax_scaling.scale`` and ``.bias`` of each layer) and are arguments of the call.

    Parameters
    ----------
    offset : int
        Positive: positions are counted from it.

    Raises
    ------
    ValueError, TypeError
        If weights are missing or of another shape, positions no numbers, or ``offset`` not positive.

    Notes
    -----
    ``scale(positions, weight, bias)`` takes weights of shape (heads,), in the library of the positions,
    and returns (1, heads, seq) or (batch, heads, seq). Positions before 0 count as 0. Compared with
    transformers 5.24.0.

    Examples
    --------
    >>> import numpy as np
    >>> LearnedLogScale()(np.asarray([0, 1]), np.ones(2), np.zeros(2)).round(4)
    array([[[0.    , 0.6931],
            [0.    , 0.6931]]])
    """

    offset: int = 1

    def __post_init__(self) -> None:
        settle_fields(self, offset=as_size)

    def __call__(
        self, positions: Array, weight: Array | None = None, bias: Array | None = None
    ) -> Array:
        if weight is None or bias is None:
            msg = "`weight` and `bias` are required: the factors are learned, and in the checkpoint"
            raise ValueError(msg)
        xp, positions, weight, bias = _backends.join(positions=positions, weight=weight, bias=bias)
        require_real("positions", positions)
        if positions.ndim not in (1, 2):
            msg = (
                f"`positions` must have shape (seq,) or (batch, seq), got {tuple(positions.shape)}"
            )
            raise ValueError(msg)
        _backends.require_floating(weight=weight, bias=bias)
        if weight.ndim != 1 or weight.shape != bias.shape:
            got = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
            msg = f"`weight` and `bias` must have shape (heads,), got {got}"
            raise ValueError(msg)
        compute = _backends.compute_dtype(xp, positions, weight, bias)
        positions = xp.clip(_backends.cast(positions, compute, xp), 0, None)
        log = xp.log(positions + self.offset)[..., None, :]
        weight, bias = (_backends.cast(each, compute, xp)[:, None] for each in (weight, bias))
        scale = weight * log + bias
        return scale if scale.ndim > 2 else scale[None, ...]


def _settle(scale: Any) -> None:
    """What the fields of several classes have in common."""

    def require_length(name: str, value: Any) -> Any:
        length = as_int(name, value)
        if not 1 < length < 2**31:
            msg = f"`{name}` must be an int greater than 1 and below 2**31, got {quote(length)}"
            raise ValueError(msg)
        return length

    settle_fields(scale, length=require_length, beta=require_factor, offset=as_int)
    if not 0 <= scale.offset < scale.length:
        msg = f"`offset` must be in [0, length={scale.length}), got {quote(scale.offset)}"
        raise ValueError(msg)


def _resolve(positions: Array) -> tuple[Namespace, Array, Dtype]:
    """The namespace, the positions, real ones in the dtype to compute in, and this dtype."""
    xp, positions = _backends.join(positions=positions)
    require_real("positions", positions)
    compute = _backends.compute_dtype(xp, positions)
    if not _backends.is_integer(positions):
        positions = _backends.cast(positions, compute, xp)
        nan = xp.full_like(positions, math.nan)
        positions = xp.where(xp.isfinite(positions), positions, nan)  # as in phases
    return xp, positions, compute


def _whole_lengths(positions: Array, length: int, offset: int, xp: Namespace) -> Array:
    """⌊(positions + offset) / length⌋ of integers, in signed ones; no sum leaves their range."""
    signed = _backends.default_integer_dtype(xp, _backends.device(positions))
    low, high = bounds(signed)
    if bounds(positions.dtype)[1] > high:
        # Unsigned ones with as many bits: minus half of their range, which the offset gives back.
        positions = _backends.cast(positions, signed, xp) ^ low
        offset -= low
    elif _backends.dtype_name(positions.dtype) != "int32":
        positions = _backends.cast(positions, signed, xp)
    whole, rest = divmod(offset, length)
    over = positions % length >= length - rest
    return positions // length + whole + _backends.cast(over, positions.dtype, xp)


_PUBLIC = (FloorLogScale, LearnedLogScale, LogScale, PowerScale)
for _each in (*_PUBLIC, QueryScale):
    _each.__module__ = __package__
_backends.register_values(_PUBLIC)
# doctest looks for them in the package, which does not have them before they are used.
__test__ = {_each.__name__: _each for _each in _PUBLIC}
