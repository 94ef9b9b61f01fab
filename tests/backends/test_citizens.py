"""What libraries know of `RoPE`: a pytree without leaves for JAX, a safe class for ``torch.load``."""

import io
import subprocess
import sys

import numpy as np
import pytest
from values import SCALED, SCHEMES

from rope_xp import RoPE

ROPE = RoPE(8, layout="half")
ORDERS = {
    "library first": "import {library}, rope_xp; rope = rope_xp.RoPE(8, layout='half')",
    "rope_xp first": "import rope_xp, {library}; rope = rope_xp.RoPE(8, layout='half')",
    "object first": (
        "import importlib.util, rope_xp; rope = rope_xp.RoPE(8, layout='half');"
        "importlib.util.find_spec('{library}'); import {library}"
    ),
}
CHECKS = {
    "jax": (
        "assert jax.tree.leaves(rope) == []; q = jax.numpy.ones((3, 8));"
        "assert jax.numpy.allclose(jax.jit(lambda rope, q: rope(q))(rope, q), rope(q))"
    ),
    "torch": (
        "import io; file = io.BytesIO(); torch.save(rope, file); file.seek(0);"
        "assert torch.load(file, weights_only=True) == rope"
    ),
}


def registers(library, order):
    pytest.importorskip(library, reason=f"{library} is not installed")
    code = f"{ORDERS[order].format(library=library)}; {CHECKS[library]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.backend("jax")
@pytest.mark.parametrize("order", ORDERS)
def test_jax_knows_it_whichever_is_imported_first(order):
    registers("jax", order)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("order", ORDERS)
def test_torch_knows_it_whichever_is_imported_first(order):
    registers("torch", order)


@pytest.mark.backend("torch")
def test_torch_loads_every_schedule_and_scheme():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for value in (*SCALED, *SCHEMES):
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        assert torch.load(file, weights_only=True) == value


@pytest.mark.backend("jax")
def test_jax_without_64_bits_refuses_to_give_32():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    from rope_xp import analysis, cos_sin, positions, relative, sinusoidal, xpos_scale

    jnp, at = jax.numpy, jax.numpy.arange(3)
    assert not jax.config.jax_enable_x64
    for call in (
        lambda: cos_sin(at, [1.0], dtype=jnp.float64),
        lambda: ROPE.cos_sin(at, dtype=np.float64),
        lambda: sinusoidal(at, 4, dtype="float64"),
        lambda: xpos_scale(at, 2, dtype=jnp.float64),
        lambda: relative.alibi_slopes(2, xp=jnp, dtype=jnp.float64),
        lambda: relative.alibi_bias(at, at, 2, dtype=jnp.float64),
        lambda: positions.token_positions(3, xp=jnp, dtype=jnp.int64),
        lambda: positions.token_positions(3, offset=at, dtype=jnp.int64),
        lambda: positions.zigzag_positions(4, 0, 1, xp=jnp, dtype=jnp.uint64),
        lambda: positions.text_image_positions([3], xp=jnp, dtype=jnp.int64),
        lambda: positions.mask_grid_positions(at[None] > 0, scale=1.0, dtype=jnp.float64),
        lambda: analysis.decay_bound(at, [1.0], dtype=jnp.float64),
    ):
        with pytest.raises(
            TypeError, match=r"`dtype` must be .* jax_enable_x64 .* got u?(float|int)64"
        ):
            call()
    with jax.enable_x64(True):
        assert cos_sin(at, [1.0], dtype=jnp.float64)[0].dtype == jnp.float64
