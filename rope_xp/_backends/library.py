"""What a library file says about its library. The defaults are what the array API standard says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

Array = Any
A = TypeVar("A", bound=Any)  # an array whose type comes back
Namespace = Any
Dtype = Any
Device = Any
# Which axis of another array each axis of an array goes with; None: with none, so that it stays whole.
Axes = tuple[int | None, ...]


# These are compared by identity: what nothing uses would be generated at each import.
@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class Memory:
    """What kernels that write into memory have to know, of a library whose arrays are memory.

    Parameters
    ----------
    is_accessible : (*arrays or None) -> bool
        Whether these arrays can be read and written here and now, by this processor, without anything
        (a compiler, a gradient, a transform) that has to see it.
    empty : (x) -> array
        Fresh memory with the shape and dtype of ``x``.
    scratch : (count, size, dtype, like) -> list of arrays
        ``count`` arrays of ``size`` numbers to compute in.
    tile_size : (x, scratch=True) -> int
        Elements to work on at a time, with scratch memory for them or without.
    as_complex : (array, dtype) -> array or None
        Pairs of the last axis as complex numbers in the same memory; None where that needs a copy.
    make_complex : (real, imag) -> array
    complex_product_is_exact : bool
        Whether a complex product rounds as the formula does.
    rounds_uniformly : (x, n_pairs) -> bool
        Whether a complex product rounds all pairs of ``x`` alike.
    as_numpy : (array) -> numpy.ndarray
        The same memory as a NumPy array; bfloat16 as uint16.
    mark_written : (out) -> None
        Tells the library that its memory was written behind its back.
    threads : () -> int
        How many threads the library was granted.
    operations_are_threaded : bool
        Whether its own operations use them already.
    """

    is_accessible: Callable[..., bool]
    empty: Callable[[Array], Array]
    scratch: Callable[[int, int, Dtype, Array], list[Array]]
    tile_size: Callable[..., int]
    as_complex: Callable[[Array, Dtype], Array | None]
    make_complex: Callable[[Array, Array], Array]
    complex_product_is_exact: bool
    rounds_uniformly: Callable[[Array, int], bool]
    as_numpy: Callable[[Array], Any]
    mark_written: Callable[[Array], None]
    threads: Callable[[], int]
    operations_are_threaded: bool


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class Cuda:
    """What kernels for CUDA have to know, of a library whose arrays are memory of such devices.

    Parameters
    ----------
    is_accessible : (*arrays or None) -> bool
        Whether these arrays are memory of one CUDA device that can be read and written in the order
        of its current stream, without anything (a compiler, a gradient, a transform) that has to see it.
    empty : (x) -> array
        Fresh memory with the shape and dtype of ``x``, contiguous and aligned.
    address : (array) -> int
    strides : (array) -> tuple of int
        In elements.
    launch : ((source, name), (blocks, threads), arrays, numbers) -> None
        Starts a kernel in the current stream, with the addresses of the arrays and with numbers of 32
        bits. It is compiled once, without contracting products and sums.
    mark_written : (out) -> None
        Tells the library that its memory was written behind its back.
    """

    is_accessible: Callable[..., bool]
    empty: Callable[[Array], Array]
    address: Callable[[Array], int]
    strides: Callable[[Array], tuple[int, ...]]
    launch: Callable[[tuple[str, str], tuple[int, int], tuple[Array, ...], tuple[int, ...]], None]
    mark_written: Callable[[Array], None]


class Operand(NamedTuple):
    """An array whose axes go with those of the first of several operands, and its name for messages."""

    name: str
    array: Array
    axes: Axes


class Result(NamedTuple):
    """What an array will be that is computed block by block."""

    shape: tuple[int, ...]
    axes: Axes
    dtype: Dtype


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class Blocks:
    """What is computed block by block, of a library whose arrays are made of blocks.

    They may be on several devices, each with its process, or computed later.

    Parameters
    ----------
    map : (function, operands, results) -> list of arrays
        What ``function`` returns for a block of each operand: one array, or a tuple of several. The
        blocks are those of the first operand; others have been placed as that is. An axis that goes with
        none is whole in each block.
    is_split_alike : (operand, other, axes) -> bool, or None
        Whether the blocks of two arrays are the same along ``axes``. None where blocks are computed
        later, each in a task that had better need no other.
    indices : (x, axis, first, dtype) -> array, or None
        Integers from ``first`` on, along an axis of ``x`` and in its blocks; None: others are cut.
    """

    map: Callable[[Callable[..., Any], Sequence[Operand], Sequence[Result]], list[Array]]
    is_split_alike: Callable[[Operand, Operand, Sequence[int]], bool] | None = None
    indices: Callable[[Array, int, int, Dtype], Array] | None = None


def _write_lock(array: Array) -> str:
    writable = getattr(getattr(array, "flags", None), "writeable", True)
    return "" if writable else "read-only memory"


def _to_host(array: Array) -> Any:
    try:
        return np.asarray(array)
    except RuntimeError:  # array-api-strict's, on a device of its own
        return np.from_dlpack(array)


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class Library:
    """All that is known about one array library.

    Parameters
    ----------
    name : str
        The top-level module of its array types.
    load : () -> namespace
        Imports its array API namespace.
    device : (array) -> device or None
        Where arrays that meet ``array`` must be made; None where the library decides by itself.
    read_only : (array) -> str
        Why elements cannot be assigned; "" where they can.
    shared_namespace : (first, second, third) -> namespace or None
        A quick check that three eager arrays belong together; None sends them through the full one.
    cache_block_bytes : (array) -> int
        How large arrays should be while something is made of ``array``; 0: whole is best.
    materialize_under_compile : (array) -> array
        The array, and a hint to the library's compiler to keep it in memory.
    place : (operand, like, few) -> array, or None
        An array where ``like``, another operand, is: over its devices or in its blocks, along the axes
        that both have; None where an array is in one piece. Up to ``few`` numbers whose values are at
        hand may stay where they are.
    unsupported : (array) -> str or None
        What an array has to be and what it is instead, for a message, if it is of a kind that nothing
        can be computed with (sparse, masked, …); None for all others.
    from_host : (values, device, copy=True) -> array, or None
        An array of the same values and dtype as a NumPy array: in memory of its own, or maybe in that
        of an array that nobody else has, with ``copy=False``.
    missing_dtypes : (device) -> frozenset of str, or None
        64-bit dtypes that arrays cannot have there; None: the namespace says it.
    missing_dtypes_advice : str
        How to get these.
    register_values : (classes) -> None, or None
        Makes frozen dataclasses known to the library once it is imported: as values that it passes
        through, or as what a file may contain.
    is_dtype : (dtype) -> bool, or None
        Whether functions of the library take it for a dtype; None: if the namespace has it.
    real_dtype : (xp, device) -> dtype
        The dtype of new arrays of real numbers, unless a global setting says otherwise.
    host_values : (array) -> numpy.ndarray or None
        The values of ``array`` where they are at hand: here and now, without waiting for a device, a
        compiler or a transform. They are looked at to refuse what is wrong and to be faster, never for
        another result.
    to_host : (array) -> numpy.ndarray
        The values of ``array``, wherever they are: waits for them and copies them, without a gradient.
    is_near_host : (array) -> bool
        Whether a few numbers are sooner made on the host and copied to ``array`` than made beside it.
        Not where copies wait for a device, or cannot be recorded (CUDA graphs).
    count : (array, axis) -> size or None
        The size of an axis that shapes do not tell, as something that the library computes with; None
        where it cannot.
    reshape : (array, shape) -> array, or None
        The standard's, where shapes may have sizes that are not known: leading ones that do not change.
    has_no_bits : () -> bool
        Whether what is traced goes to a format without bitwise operations on integers.
    is_traced_size : (value) -> bool
        Whether ``value`` is a size that the library traces, of a type that is no int to Python.
    write_slots : (arrays, index, values, valid) -> sequence of arrays or None, or None
        Each of ``arrays`` with its ``values``, of its dtype, in the places ``index`` along axis -2, and
        nothing else copied: in its own memory, or where a compiler can use that again. ``index`` is an
        int, from which on they are one after the other, or integers of shape (n,) or (batch, n), all
        within the arrays and different in each row; then ``valid``, of this shape, says which values to
        write, and None is all. None where an array has to stay as it is: read-only, or part of a gradient
        or a transform.
    vjp : (function, x, grad_out) -> array or None, or None
        The gradient of ``x`` by the library's automatic differentiation of ``function``, which has
        ``grad_out`` as the gradient of its result; None where the result does not depend on ``x`` to it.
    memory : Memory, optional
        None where kernels cannot write into arrays.
    cuda : Cuda, optional
        None where no array is memory of a CUDA device, or nothing is known about it.
    blocks : Blocks, optional
        None where functions take whole arrays.
    """

    name: str
    load: Callable[[], Namespace]
    device: Callable[[Array], Device | None] = lambda array: getattr(array, "device", None)
    read_only: Callable[[Array], str] = _write_lock
    shared_namespace: Callable[[Array, Array, Array], Namespace | None] = lambda *arrays: None
    cache_block_bytes: Callable[[Array], int] = lambda array: 0
    materialize_under_compile: Callable[[Array], Array] = lambda array: array
    place: Callable[[Operand, Operand, int], Array] | None = None
    unsupported: Callable[[Array], str | None] = lambda array: None
    from_host: Callable[..., Array] | None = None
    missing_dtypes: Callable[[Device | None], frozenset[str]] | None = None
    missing_dtypes_advice: str = ""
    register_values: Callable[[tuple[type, ...]], None] | None = None
    is_dtype: Callable[[Any], bool] | None = None
    real_dtype: Callable[[Namespace, Device | None], Dtype] = lambda xp, device: (
        xp.asarray([0.5], device=device).dtype
    )
    host_values: Callable[[Array], Any] = lambda array: None
    to_host: Callable[[Array], Any] = _to_host
    is_near_host: Callable[[Array], bool] = lambda array: False
    count: Callable[[Array, int], Any] = lambda array, axis: None
    reshape: Callable[..., Array] | None = None
    has_no_bits: Callable[[], bool] = lambda: False
    is_traced_size: Callable[[Any], bool] = lambda value: False
    write_slots: Callable[..., Sequence[Array] | None] | None = None
    vjp: Callable[[Callable[[Array], Array], Array, Array], Array | None] | None = None
    memory: Memory | None = None
    cuda: Cuda | None = None
    blocks: Blocks | None = None
