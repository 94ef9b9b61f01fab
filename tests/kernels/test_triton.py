"""A Triton kernel, interpreted on the CPU: strides, blocks of pairs, tables; and mistakes in it."""

import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported

torch = pytest.importorskip("torch", reason="torch is not installed")
triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl

from rope_xp import RoPE
from rope_xp.testing import RotationError, assert_rotates

ROPE = RoPE(12, layout="half", rotary_dim=10)  # five pairs, in a block of eight
TOKENS, BLOCK = 16, 8


@triton.jit
def kernel(
    x, y, cos, sin, x_b, x_h, x_s, y_b, y_h, y_s, t_b, t_s, heads, seq, n_pairs, sign,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr, ROWS: tl.constexpr,
    LOW: tl.constexpr,
):  # fmt: skip
    s = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    row = tl.program_id(1)
    b, h = row // heads, row % heads
    i = tl.arange(0, BLOCK)[None, :]
    mask = (s < seq) & (i < n_pairs if MASKED else i < BLOCK)
    table = (b * t_b if ROWS else 0) + s * t_s + i
    c, t = tl.load(cos + table, mask=mask), tl.load(sin + table, mask=mask) * sign
    token = x + b * x_b + h * x_h + s * x_s
    first = tl.load(token + i, mask=mask).to(tl.float32)
    second = tl.load(token + n_pairs + i, mask=mask).to(tl.float32)
    if LOW:
        c, t = c.to(tl.float16), t.to(tl.float16)
        first, second = first.to(tl.float16), second.to(tl.float16)
    token = y + b * y_b + h * y_h + s * y_s
    tl.store(token + i, first * c - second * t, mask=mask)
    tl.store(token + n_pairs + i, first * t + second * c, mask=mask)


def rotate(x, cos, sin, sign=1.0, *, masked=True, rows=True, low=False, strided=True):
    y = x.clone(memory_format=torch.contiguous_format)
    batch, heads, seq, _ = x.shape
    x_steps = x.stride() if strided else y.stride()
    t_steps = (cos.stride(0) if cos.ndim == 3 else 0, cos.stride(-2))
    kernel[(triton.cdiv(seq, TOKENS), batch * heads)](
        x, y, cos, sin, *x_steps[:3], *y.stride()[:3], *t_steps, heads, seq, cos.shape[-1], sign,
        TOKENS=TOKENS, BLOCK=BLOCK, MASKED=masked, ROWS=rows, LOW=low,
    )  # fmt: skip
    return y


class Rotate(torch.autograd.Function):
    """With its gradient, as it would be used."""

    sign = -1.0

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    def backward(ctx, grad_out):
        return rotate(grad_out, *ctx.saved_tensors, Rotate.sign), None, None


OPTIONS = {"takes": "tables", "xp": torch}


def test_the_kernel_rotates():
    low = {"dtypes": ["float32", "float16"], "rounds_once": True}
    assert_rotates(Rotate.apply, ROPE, gradient="autodiff", **low, **OPTIONS)


def test_the_interpreter_cuts_off_the_digits_of_bfloat16():
    assert_rotates(rotate, ROPE, dtypes=["bfloat16"], **OPTIONS)
    with pytest.raises(RotationError, match="rounded to bfloat16 each"):
        assert_rotates(rotate, ROPE, dtypes=["bfloat16"], rounds_once=True, **OPTIONS)


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ({"strided": False}, "in memory, float32'.*looks like strides of x"),
        ({"masked": False}, "features 10 to 11, which do not rotate|Errors are only in|not finite"),
        ({"rows": False}, "'an offset for each row, float32'.*Errors are only in rows 1 to 2 of 3"),
        ({"low": True}, "those of arithmetic in float16"),
    ],
)
def test_a_mistake_is_found(mistake, text):
    with pytest.raises(RotationError, match=text) as found:
        assert_rotates(lambda *a: rotate(*a, **mistake), ROPE, dtypes=["float32"], **OPTIONS)
    print(found.value)


def test_float16_arithmetic_is_allowed_unless_it_rounds_once():
    def low(x, cos, sin):
        return rotate(x, cos, sin, low=True)

    assert_rotates(low, ROPE, dtypes=["float16"], **OPTIONS)
    with pytest.raises(RotationError, match="rounded to float16 each"):
        assert_rotates(low, ROPE, dtypes=["float16"], rounds_once=True, **OPTIONS)


def test_a_gradient_in_the_same_direction_is_found(monkeypatch):
    monkeypatch.setattr(Rotate, "sign", 1.0)
    with pytest.raises(RotationError, match="sin has the other sign in a gradient"):
        assert_rotates(Rotate.apply, ROPE, gradient="autodiff", dtypes=["float32"], **OPTIONS)
