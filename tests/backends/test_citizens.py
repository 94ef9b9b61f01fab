"""What libraries know of `RoPE`: a pytree without leaves for JAX, a safe class for ``torch.load``."""

import io
import subprocess
import sys

import numpy as np
import pytest
from values import QUERY_SCALES, RANGE_SCHEMES, SCALED, SCHEMES

from rope_xp import RoPE, attention, positions, relative

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
    from rope_xp.configs import layer_ropes

    layers = layer_ropes({"model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 8})
    for value in (*SCALED, *SCHEMES, *QUERY_SCALES, *RANGE_SCHEMES, layers):
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


# -- new arrays: devices and dtypes ----------------------------------------------------------------

BUILDERS = {
    "token_positions": lambda **options: positions.token_positions(3, **options),
    "token_positions after an array": lambda **options: positions.token_positions(
        3, offset=[1, 2], **options
    ),
    "grid_positions": lambda **options: positions.grid_positions(2, 3, **options),
    "zigzag_positions": lambda **options: positions.zigzag_positions(8, 0, 2, **options),
    "shard_indices": lambda **options: positions.shard_indices(
        8, 0, 2, cu_seqlens=[0, 8], **options
    ),
    "alibi_slopes": lambda **options: relative.alibi_slopes(6, **options),
    "KVCache": lambda **options: attention.KVCache.empty((2, 4, 8), **options).k,
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
def test_devices_that_a_library_does_not_have(library, name):
    """One sentence, where each library has an error of its own, from AttributeError to RuntimeError."""
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    kind = library.partition(".")[0]
    with pytest.raises(
        ValueError, match=f"`device` must be a device that {kind} has here, got 'nowhere'"
    ):
        BUILDERS[name](xp=xp, device="nowhere")


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", [None, "float32", "int64"])
def test_devices_may_be_named(name, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    integer = "positions" in name or "indices" in name
    if (integer and dtype == "float32") or (name == "alibi_slopes" and dtype == "int64"):
        dtype = None
    options = {} if dtype is None else {"dtype": getattr(torch, dtype)}
    found = BUILDERS[name](xp=torch, device="meta", **options)
    assert found.device == torch.device("meta")


@pytest.mark.backend("torch")
def test_the_device_of_an_offset():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(ValueError, match="`device` must be that of `offset`, cpu, got meta"):
        positions.token_positions(3, offset=torch.asarray([1, 2]), device="meta")


@pytest.mark.backend("jax")
def test_a_cache_in_a_dtype_that_is_switched_off():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    if jax.config.jax_enable_x64:
        pytest.skip("64-bit dtypes are switched on")
    with pytest.raises(
        TypeError, match="`dtype` must be a dtype that jax has here: jax_enable_x64"
    ):
        attention.KVCache.empty((2, 4, 8), xp=jax.numpy, dtype=jax.numpy.float64)
