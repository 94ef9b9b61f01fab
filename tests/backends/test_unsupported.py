"""Arrays of kinds that nothing can be computed with are refused by the name of the argument."""

import warnings

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, attention, convert_layout, positions, relative

ROPE = RoPE(8, layout="half")
AT = np.arange(4)


def with_x(x, at):
    """Calls whose argument of this name is ``x``: wherever queries, keys and activations come in."""
    cos, sin = ROPE.cos_sin(at)
    return {
        "q": lambda: ROPE(x),
        "k": lambda: ROPE.shift(x, 3),
        "x": lambda: rope_xp.rotate(x, cos, sin, layout="half"),
        "x of the object": lambda: ROPE.rotate(x, cos, sin),
        "x to convert": lambda: convert_layout(x, source="half", target="interleaved", head_dim=8),
        "q of attention": lambda: attention.attention(x, x, x),
        "q of linear": lambda: attention.linear_attention(x, x, x),
    }


def with_positions(x, q):
    return {
        "positions": lambda: ROPE(q, positions=x),
        "positions of tables": lambda: ROPE.cos_sin(x),
        "positions of phases": lambda: rope_xp.cos_sin(x, [1.0]),
        "positions of a sum": lambda: rope_xp.sinusoidal(x, 4),
        "offset": lambda: ROPE(q, offset=x),
        "delta": lambda: ROPE.shift(q, x),
        "q_positions": lambda: relative.relative_positions(x, x),
        "q_positions of a mask": lambda: attention.causal_mask(x, x),
        "mask": lambda: positions.mask_positions(x),
        "cu_seqlens": lambda: positions.packed_positions(x, 4),
    }


def refused(calls, sentence):
    for what, call in calls.items():
        with pytest.raises(TypeError) as error:
            call()
        assert str(error.value).startswith(f"`{what.split()[0]}` must be {sentence}"), what


@pytest.mark.parametrize("subclass", ["matrix", "masked"])
def test_numpys_subclasses_with_another_arithmetic(subclass):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        make = np.matrix if subclass == "matrix" else np.ma.MaskedArray
        x, at = make(np.ones((4, 8), np.float32)), make(AT)
    sentence = "an array whose * is" if subclass == "matrix" else "an array without a mask"
    refused({**with_x(x, AT), **with_positions(at, np.ones((4, 8), np.float32))}, sentence)
    refused({"inv_freq": lambda: rope_xp.cos_sin(AT, at)}, sentence)
    plain = np.ones((4, 8), np.float32)
    refused(
        {"k": lambda: ROPE(plain, x), "cos": lambda: ROPE.rotate(plain, x[:, :4], x[:, :4])},
        sentence,
    )


def test_other_subclasses_and_byte_orders_are_right():
    class Mine(np.ndarray):
        pass

    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    wanted = ROPE(x, positions=AT)
    for given in (x.view(Mine), x.astype(">f4"), np.asfortranarray(x)):
        np.testing.assert_allclose(ROPE(given, positions=AT.view(Mine)), wanted, atol=1e-6)
        np.testing.assert_allclose(ROPE(given, positions=AT.astype(">i4")), wanted, atol=1e-6)


@pytest.mark.backend("torch")
def test_torchs_kinds():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    plain, at = torch.ones(4, 8), torch.arange(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        sparse = (plain.to_sparse(), plain.to_sparse_csr(), plain.to_mkldnn())
        nested = [
            torch.nested.nested_tensor([plain, plain[:2]], layout=layout)
            for layout in (torch.strided, torch.jagged)
        ]
        quantized = torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)
    for x in sparse:
        refused(with_x(x, at), "a dense tensor")
    for x in nested:
        refused(with_x(x, at), "a tensor that is not nested")
    refused(with_x(quantized, at), "a floating tensor")
    for kind in (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer):
        refused(with_x(kind(), at), "a tensor with values")
    refused(with_positions(at.to_sparse(), plain), "a dense tensor")
    refused({"k": lambda: ROPE(plain, sparse[0])}, "a dense tensor")
    cos, sin = ROPE.cos_sin(at)
    refused({"sin": lambda: ROPE.rotate(plain, cos, sin.to_sparse())}, "a dense tensor")
    for x in nested:  # their shapes cannot be asked for
        calls = {
            "sin": lambda x=x: ROPE.rotate(plain, cos, x),
            "offset": lambda x=x: positions.token_positions(3, offset=x),
            "k": lambda x=x: attention.KVCache(x, x, 1).drop(1, ROPE),
        }
        refused(calls, "a tensor that is not nested")
    assert ROPE(plain.to("meta"), positions=at.to("meta")).is_meta


@pytest.mark.backend("torch")
def test_what_is_advised_for_jagged_tensors_rotates_each_sequence():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    each = [torch.randn(n, 2, 8) for n in (3, 5)]  # (seq, heads, head_dim)
    x = torch.nested.nested_tensor(each, layout=torch.jagged, requires_grad=True)
    with pytest.raises(TypeError, match=r"packed_positions.*nested_tensor_from_jagged"):
        ROPE(x, seq_axis=-3)
    values, offsets = x.values(), x.offsets()
    at = positions.packed_positions(offsets, values.shape[0])
    rotated = ROPE(values, positions=at, seq_axis=-3)
    y = torch.nested.nested_tensor_from_jagged(rotated, offsets)
    for found, one in zip(y.unbind(), each, strict=True):
        torch.testing.assert_close(found, ROPE(one, seq_axis=-3))
    y.values().sum().backward()
    for gradient, one in zip(x.grad.unbind(), each, strict=True):
        torch.testing.assert_close(gradient, ROPE.inverse(torch.ones_like(one), seq_axis=-3))


@pytest.mark.backend("dask")
def test_blocks_that_are_not_numpys():
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    x = da.ma.masked_array(np.ones((4, 8), np.float32), mask=np.zeros((4, 8), bool))
    refused(with_x(x, da.arange(4)), "a Dask array whose blocks are NumPy's or CuPy's")
