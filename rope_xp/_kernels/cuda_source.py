"""The text of the kernel for CUDA: the formula of the plan, and a template for all around it.

A thread turns a few adjacent pairs of one row, or copies as many adjacent features that have no pair:
one read and one write of each feature, of adjacent ones by adjacent threads. Sizes and strides (in
elements, any sign, 0 where a table broadcasts) are arguments. What is known when it compiles are dtypes,
the layout, and how many features are adjacent and aligned so that they move at once.

It is C and CUDA C++ alike, without headers: the tests compile the same text for the machine's processor.
Every operation rounds by itself, if the compiler does not contract products and sums: ``-fmad=false`` for
NVRTC, ``-ffp-contract=off`` for others. 16-bit numbers are computed with in float32 and round to nearest
even. GPUs have an instruction for that, the one that CuPy and torch use; other processors do it with
integers, and only that differs between the two. What is not a number stays none, with bits that may differ
from those of other kernels. Copied features keep their bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

NAME = "rope_xp_rotate"
#: Threads of a block.
BLOCK = 256
#: Axes of rows. Of shapes with more, adjacent ones may be merged.
AXES = 4
ARRAYS = ("x", "out", "cos", "sin")
#: The arguments after the four arrays, all ``int``: GPUs divide and multiply these sooner than others.
NUMBERS = (
    "threads",
    "items",  # threads of a row
    "groups",  # those of them that turn pairs; the others copy
    "before",  # features to copy that precede the rotated ones, which are skipped
    "skipped",
    "first",  # feature of the first pair, its partner, and their column in the tables
    "second",
    "column",
    "inverse",
    *(f"size_{axis}" for axis in range(1, AXES)),
    *(f"{array}_{axis}" for array in ARRAYS for axis in (*range(AXES), "last")),
)

#: The C type of each dtype in memory.
STORAGE = {
    "float16": "unsigned short",
    "bfloat16": "unsigned short",
    "float32": "float",
    "float64": "double",
}
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
#: Bytes that a thread moves at once, at most.
VECTOR = 16


class Variant(NamedTuple):
    """What is known when the kernel compiles."""

    x: str  # names of dtypes
    table: str
    interleaved: bool
    pairs: int  # that a thread turns
    width: int  # features that move at once: in the half layout ``pairs``, or 2 * pairs, or 1


class _Expression:
    """An operand of the formula that writes C."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __mul__(self, other: _Expression) -> _Expression:
        return _Expression(f"({self.text} * {other.text})")

    def __add__(self, other: _Expression) -> _Expression:
        return _Expression(f"({self.text} + {other.text})")

    def __sub__(self, other: _Expression) -> _Expression:
        return _Expression(f"({self.text} - {other.text})")


_TEMPLATE = """\
typedef $x X;
typedef $table T;
typedef $real R; /* to compute in */
typedef struct __align__($x_bytes) { X v[$width]; } Features; /* adjacent in memory */
typedef struct __align__($table_bytes) { T v[$pairs]; } Factors;

static __inline__ __device__ float read_bfloat16(unsigned short bits)
{
    return __uint_as_float((unsigned) bits << 16);
}

static __inline__ __device__ unsigned short write_bfloat16(float value)
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 800
    unsigned short result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
#else
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0; /* rounding could make a number of it */
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
#endif
}

static __inline__ __device__ float read_float16(unsigned short bits)
{
#ifdef __CUDA_ARCH__
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
    return result;
#else
    /* Exponent and fraction where float32 has them; 2^112 is the distance of the exponents' biases. */
    unsigned size = (bits & 0x7fffu) << 13;
    float value = __uint_as_float(size) * __uint_as_float(0x77800000u);
    if (size >= 0x0f800000u) value = __uint_as_float(size | 0x7f800000u); /* infinite, or no number */
    return __uint_as_float(__float_as_uint(value) | (bits & 0x8000u) << 16);
#endif
}

static __inline__ __device__ unsigned short write_float16(float value)
{
#ifdef __CUDA_ARCH__
    unsigned short result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
#else
    unsigned bits = __float_as_uint(value), size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) size = 0x7e00u;
    else if (size >= 0x47800000u) size = 0x7c00u; /* 65536 and more are infinite */
    else if (size >= 0x38800000u) size = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
    else size = __float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u; /* units of 2^-24 */
    return (bits >> 16 & 0x8000u) | size;
#endif
}

#ifdef __cplusplus
extern "C"
#endif
__global__ void $name(
    const X *x, X *out, const T *__restrict__ cos, const T *__restrict__ sin,
    $numbers)
{
    const unsigned thread = blockIdx.x * ${block}u + threadIdx.x;
    if (thread >= (unsigned) threads) return;
    const int item = thread % (unsigned) items;
    unsigned row = thread / (unsigned) items;
    long long at;
$rows
    if (item >= groups) {
        int feature = (item - groups) * $width;
        if (feature >= before) feature += skipped;
        at = feature;
        *(Features *) (out + at * out_last) = *(const Features *) (x + at * x_last);
        return;
    }
    const int pair = item * $pairs;
    const long long first_at = first + pair * $step, second_at = second + pair * $step;
    const long long column_at = column + pair;
    Features y[$loads];
    y[0] = *(const Features *) (x + first_at * x_last);
    if ($loads > 1) y[$loads - 1] = *(const Features *) (x + second_at * x_last);
    const Factors cosines = *(const Factors *) (cos + column_at * cos_last);
    const Factors sines = *(const Factors *) (sin + column_at * sin_last);
$turned
    *(Features *) (out + first_at * out_last) = y[0];
    if ($loads > 1) *(Features *) (out + second_at * out_last) = y[$loads - 1];
}
"""

_TURNED = """\
    {
        const R a = (R) $read($a), b = (R) $read($b);
        const R c = (R) $read_table(cosines.v[$k]), angle = (R) $read_table(sines.v[$k]);
        const R s = inverse ? -angle : angle;
        $a = $write($rotated_a);
        $b = $write($rotated_b);
    }"""


@lru_cache(maxsize=256)
def source(turn: Callable[..., Any], variant: Variant) -> str:
    """The text of one variant, with the formula ``turn``."""
    from string import Template  # few need it

    x, table, interleaved, pairs, width = variant
    rotated_a, rotated_b = turn(*map(_Expression, "abcs"))
    turned = []
    for k in range(pairs):
        a, b = (2 * k, 2 * k + 1) if interleaved else (k, pairs + k)
        names = {
            "k": k,
            "a": f"y[{a // width}].v[{a % width}]",
            "b": f"y[{b // width}].v[{b % width}]",
            "read": _conversion("read", x),
            "read_table": _conversion("read", table),
            "write": _conversion("write", x) or "(X) ",
            "rotated_a": rotated_a.text,
            "rotated_b": rotated_b.text,
        }
        turned.append(Template(_TURNED).substitute(names))
    return Template(_TEMPLATE).substitute(
        name=NAME,
        block=BLOCK,
        x=STORAGE[x],
        table=STORAGE[table],
        real="double" if "float64" in (x, table) else "float",
        x_bytes=min(VECTOR, width * ITEMSIZE[x]),
        table_bytes=min(VECTOR, pairs * ITEMSIZE[table]),
        width=width,
        pairs=pairs,
        loads=2 * pairs // width,
        step=2 if interleaved else 1,
        numbers=",\n    ".join(f"int {name}" for name in NUMBERS),
        rows="\n".join(_row(axis) for axis in reversed(range(AXES))),
        turned="\n".join(turned),
    )


def _conversion(which: str, dtype: str) -> str:
    return f"{which}_{dtype}" if ITEMSIZE[dtype] == 2 else ""


def _row(axis: int) -> str:
    """C that follows one axis of rows, the last first."""
    steps = " ".join(f"{array} += at * {array}_{axis};" for array in ARRAYS)
    if axis == 0:
        return f"    at = row; {steps}"
    size = f"(unsigned) size_{axis}"
    return f"    if (size_{axis} > 1) {{ at = row % {size}; row /= {size}; {steps} }}"
