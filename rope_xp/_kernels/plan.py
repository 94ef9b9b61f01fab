"""What a kernel is given: a plan that shapes and dtypes decide, and the arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from rope_xp._backends import Array, Dtype, Namespace

#: Elements from which on kernels that write into memory pay for being set up.
MIN_KERNEL_SIZE = 2**16

#: The name of the one kernel to use; set by `force_kernel`.
forced: ContextVar[str | None] = ContextVar("forced_kernel", default=None)


class Operands(NamedTuple):
    """The arrays of one rotation. Tables broadcast with ``x``."""

    x: Array  # (..., head_dim)
    cos: Array  # (..., n_pairs)
    sin: Array
    out: Array = None  # shape and dtype of x


class Kernel(Protocol):
    """A module of this package with these two functions."""

    def supports(self, plan: RotationPlan, arrays: Operands) -> bool:
        """Whether the kernel can rotate these arrays, and is worth setting up for them."""

    def rotate(self, plan: RotationPlan, arrays: Operands, xp: Namespace) -> Array:
        """``arrays.x`` rotated; in ``arrays.out`` if that is given."""


class RotationPlan(NamedTuple):
    """All of a rotation but its arrays."""

    turn: Callable[..., Any]  # the formula
    # First and second features of the pairs, and the columns of the tables that turn them.
    parts: tuple[tuple[slice, slice, slice], ...]
    start: int  # of the rotated features
    end: int
    interleaved: bool  # then there is one part
    inverse: bool
    compute: Dtype
    needs_cast: bool  # whether some array has another dtype
    kernels: tuple[Kernel, ...] = ()  # in order of preference; `concat` needs no mention
    size: int | None = None  # of x, where it is known to be eager
    small: bool = False  # known to be below the size for any of them
    # What rotates small x by cos and sin where shapes and dtypes have decided almost everything.
    rotate_small: Callable[[Array, Array, Array], Array | None] | None = None

    def is_one_part(self, shape: tuple[int, ...]) -> bool:
        """Whether all features of an array of this shape are rotated, as one part."""
        return len(self.parts) == 1 and self.end - self.start == shape[-1]


def below_kernel_size(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is rotated before another kernel than `concat` is set up."""
    return math.prod(shape) < MIN_KERNEL_SIZE


def forced_kernel() -> str | None:
    return forced.get()


def kernel_name(kernel: Kernel) -> str:
    """The name of the kernel's module."""
    return str(getattr(kernel, "__name__", "")).rpartition(".")[2]
