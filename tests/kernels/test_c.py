"""A C kernel through ctypes: strided, in place, with tables; and mistakes in it."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rope_xp import RoPE
from rope_xp.testing import RotationError, assert_rotates

SOURCE = Path(__file__).with_name("rope.c")
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
ROPE = RoPE(10, layout="half", rotary_dim=6)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="this machine has no C compiler")


def kernel(folder, *mistakes):
    library = folder / "rope.so"
    flags = ["-O1", "-shared", "-fPIC", *(f"-D{mistake}" for mistake in mistakes)]
    subprocess.run([COMPILER, *flags, str(SOURCE), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).rotate

    def rotate(x, cos, sin, sign=1.0):
        sizes = (ctypes.c_int64 * 4)(*x.shape)
        strides = (ctypes.c_int64 * 3)(*(step // x.itemsize for step in x.strides[:3]))
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (x, cos, sin))
        n_pairs, rows = cos.shape[-1], len(cos) if cos.ndim == 3 else 1
        function(
            *pointers, sizes, strides, *map(ctypes.c_int64, (n_pairs, rows)), ctypes.c_float(sign)
        )

    return rotate


def try_on_cases(rotate, sign=-1.0):
    def gradient(grad_out, cos, sin):
        rotate(grad_out, cos, sin, sign)

    options = {"takes": "tables", "in_place": True, "dtypes": ["float32"]}
    assert_rotates(rotate, ROPE, gradient=gradient, **options)


def test_the_kernel_rotates(tmp_path):
    try_on_cases(kernel(tmp_path))


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ("NO_STRIDES", "'heads and tokens swapped in memory, .*looks like strides of x"),
        ("WHOLE_BLOCKS", "wrote outside of x: .* a mask that is missing at the end"),
        ("FIRST_ROW", "'an offset for each row, float32'.*Errors are only in rows 1 to 2 of 3"),
        ("FLOAT16_ARITHMETIC", "Errors are as large as those of arithmetic in float16"),
    ],
)
def test_a_mistake_is_found(tmp_path, mistake, text):
    with pytest.raises(RotationError, match=text) as found:
        try_on_cases(kernel(tmp_path, mistake))
    print(found.value)


def test_a_gradient_in_the_same_direction_is_found(tmp_path):
    with pytest.raises(RotationError, match="sin has the other sign in a gradient"):
        try_on_cases(kernel(tmp_path), sign=1.0)


def test_the_kernel_is_not_that_of_another_rope(tmp_path):
    rotate = kernel(tmp_path)

    def of_three_pairs(x, cos, sin):
        rotate(x, cos[..., :3].copy(), sin[..., :3].copy())

    other = RoPE(10, layout="half")
    with pytest.raises(RotationError, match="features"):
        assert_rotates(of_three_pairs, other, takes="tables", in_place=True, dtypes=[np.float32])
