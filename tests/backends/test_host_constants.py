"""NumPy arrays and Python numbers beside the arrays of each library: they keep their values."""

import numpy as np
import pytest

import rope_xp
from rope_xp import RoPE, attention, positions, relative

ROPE = RoPE(8, layout="half")
AT = [3, 1, 4, 1]
DTYPES = ("uint8", "int16", "uint32", "int64", "uint64", ">i8", ">i2", ">f4", "float16", "float64")


@pytest.fixture
def q(lib):
    return lib.array(np.random.default_rng(0).standard_normal((2, 3, 4, 8)), "float32")


def close(lib, got, wanted, atol=1e-6):
    np.testing.assert_allclose(lib.numpy(got), lib.numpy(wanted), rtol=0, atol=atol)


def same_kind(got, x):
    assert type(got) is type(x)
    assert got.dtype == x.dtype


@pytest.mark.eager
@pytest.mark.parametrize("at", [AT, tuple(AT), [AT, AT], *(np.asarray(AT, d) for d in DTYPES)])
def test_positions(lib, q, at):
    got = ROPE(q, positions=at)
    same_kind(got, q)
    close(lib, got, ROPE(q, positions=lib.array(AT, "int32")))


@pytest.mark.eager
def test_views_of_every_kind(lib, q):
    wanted = ROPE(q, positions=lib.array([3, 2, 1, 0], "int32"))
    close(lib, ROPE(q, positions=np.arange(4)[::-1]), wanted)
    close(lib, ROPE(q, positions=range(3, -1, -1)), wanted)
    fixed = ROPE(q, positions=np.broadcast_to(np.int64(5), (4,)))  # read-only, one element
    close(lib, fixed, ROPE(q, positions=lib.array([5] * 4, "int32")))


@pytest.mark.eager
def test_positions_that_the_library_cannot_represent_stay_exact(lib, q):
    """JAX without x64 has neither int64 nor float64: tables are then made on the host."""
    x = lib.numpy(q).astype(np.float32)
    for at in (np.asarray([2**30 + 1, 7, 0, 1]), np.asarray([1e9 + 0.25, 0.1, 2.5, 0.0])):
        got = lib.numpy(ROPE(q, positions=at))
        np.testing.assert_allclose(got, ROPE(x, positions=at), rtol=0, atol=1e-6)


@pytest.mark.eager
def test_offsets_and_steps(lib, q):
    ints = lib.array([3, 9], "int32")
    for offset in ([3, 9], np.asarray([3, 9])):
        close(lib, ROPE(q, offset=offset), ROPE(q, offset=ints))
        moved = positions.token_positions(4, offset=offset, xp=lib.xp, device=lib.device)
        close(lib, moved, positions.token_positions(4, offset=ints))
    steps = [AT, AT[::-1]]
    wanted = ROPE.shift(q, lib.array(steps, "int32"))
    for delta in (steps, np.asarray(steps)):
        close(lib, ROPE.shift(q, delta), wanted)


@pytest.mark.eager
def test_tables(lib, q):
    wanted = ROPE(q, positions=lib.array(AT, "int32"))
    for dtype in (np.float32, np.float64):
        cos, sin = ROPE.cos_sin(np.asarray(AT), dtype=dtype)
        for given in ((cos, sin), (cos.tolist(), sin.tolist())):
            for got in (rope_xp.rotate(q, *given, layout="half"), ROPE.rotate(q, *given)):
                same_kind(got, q)
                close(lib, got, wanted)


@pytest.mark.eager
def test_positions_beside_learned_frequencies(lib):
    learned = lib.array([1.0, 0.5], "float32")
    for got in (rope_xp.cos_sin(AT, learned), rope_xp.cos_sin(np.asarray(AT), learned)):
        wanted = rope_xp.cos_sin(lib.array(AT, "int32"), learned)
        for a, b in zip(got, wanted, strict=True):
            same_kind(a, learned)
            close(lib, a, b)


@pytest.mark.eager
def test_relative_positions_and_masks(lib, q):
    at = lib.array(AT, "int32")
    functions = (
        relative.relative_positions,
        lambda a, b: relative.alibi_bias(a, b, 2),
        lambda a, b: relative.clipped_index(a, b, 2),
        attention.causal_mask,
    )
    for function in functions:
        wanted = function(at, at)
        for pair in ((AT, at), (at, AT), (np.asarray(AT), at)):
            same_kind(function(*pair), wanted)
            close(lib, function(*pair), wanted)
    for bias in (np.eye(4, dtype=bool), np.eye(4)):
        wanted = attention.attention(q, q, q, bias=lib.array(bias))
        close(lib, attention.attention(q, q, q, bias=bias), wanted)
    linear = attention.linear_attention(
        q, q, q, rope=ROPE, q_positions=AT, k_positions=np.asarray(AT)
    )
    close(
        lib, linear, attention.linear_attention(q, q, q, rope=ROPE, q_positions=at, k_positions=at)
    )


def test_sequences_alone_are_numpys():
    cos, sin = rope_xp.cos_sin([0, 1], [1.0])
    assert type(cos) is type(sin) is np.ndarray
    assert cos.dtype == np.float32
    assert rope_xp.cos_sin([0.5], [1.0])[0].dtype == np.float64
    assert rope_xp.cos_sin([], [1.0])[0].shape == (0, 1)
    assert rope_xp.cos_sin(3, [1.0, 0.5])[0].shape == (2,)
    np.testing.assert_array_equal(ROPE.cos_sin(AT)[1], ROPE.cos_sin(np.asarray(AT))[1])
    assert rope_xp.sinusoidal(AT, 4).shape == (4, 4)
    np.testing.assert_array_equal(positions.packed_positions([0, 2, 3], 3), [0, 1, 0])
    np.testing.assert_array_equal(positions.mask_positions([[0, 1, 1]]), [[0, 0, 1]])


@pytest.mark.parametrize(
    ("at", "error", "sentence"),
    [
        ([[1, 2], [3]], ValueError, "`positions` must have rows of one length"),
        ([2**53 + 1, 0.5], ValueError, "`positions` must be numbers that one dtype of 64 bits"),
        ([2**70], ValueError, "`positions` must be numbers that one dtype of 64 bits"),
        (
            [1, "2"],
            TypeError,
            "`positions` must be an array or a sequence of numbers, got one of str",
        ),
        ([True], TypeError, "`positions` must be integer or real floating, got bool"),
        (
            np.ones(2, complex),
            TypeError,
            "`positions` must be integer or real floating, got complex",
        ),
        (np.ones(2, object), TypeError, "`positions` must be integer or real floating, got object"),
        (
            np.ones(2, "M8[s]"),
            TypeError,
            "`positions` must be integer or real floating, got datetime",
        ),
        (np.ones(2, "U3"), TypeError, "`positions` must be integer or real floating, got str"),
        (np.ones(2, "i4,f4"), TypeError, "`positions` must be integer or real floating, got void"),
    ],
)
def test_what_is_no_position(at, error, sentence):
    with pytest.raises(error, match=sentence) as refused:
        rope_xp.cos_sin(at, [1.0])
    assert len(str(refused.value)) < 200


@pytest.mark.backend("jax")
def test_constants_under_jit():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    q = jax.numpy.ones((2, 3, 4, 8))
    tables = ROPE.cos_sin(np.asarray(AT), dtype=np.float64)
    for function in (
        lambda q: ROPE(q, positions=AT),
        lambda q: ROPE(q, positions=np.asarray([2**40, 0, 1, 2])),
        lambda q: ROPE(q, offset=np.asarray([3, 9])),
        lambda q: ROPE.rotate(q, *tables),
    ):
        np.testing.assert_allclose(jax.jit(function)(q), function(q), atol=1e-6)


@pytest.mark.backend("jax")
def test_integers_are_refused_instead_of_wrapped():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    q = jax.numpy.ones((2, 3, 4, 8))
    with pytest.raises(
        ValueError, match=r"`offset` must fit int32 .*jax_enable_x64 .*, got 1099511"
    ):
        ROPE(q, offset=np.asarray([0, 2**40]))
    with pytest.raises(ValueError, match=r"`k_positions` must fit int32"):
        relative.relative_positions(jax.numpy.arange(2), [0, 2**40])


@pytest.mark.backend("torch")
def test_constants_under_compile():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    q = torch.ones(2, 3, 4, 8)
    tables = ROPE.cos_sin(np.asarray(AT))
    number, unsigned = np.int64(3), np.asarray([3, 9], dtype=np.uint64)
    for function in (
        lambda q: ROPE(q, positions=AT),
        lambda q: ROPE(q, positions=np.asarray(AT)),
        lambda q: ROPE(q, offset=[3, 9]),
        lambda q: ROPE(q, offset=number),
        lambda q: ROPE.shift(q, number),
        lambda q: ROPE(q, offset=unsigned),
        lambda q: ROPE.rotate(q, *tables),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        np.testing.assert_allclose(compiled(q), function(q), atol=1e-6)


@pytest.mark.backend("torch")
def test_what_was_taken_is_a_copy():
    """A gradient would otherwise see what the caller writes into its table afterwards."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    q = torch.ones(4, 8, requires_grad=True)
    cos, sin = ROPE.cos_sin(np.asarray(AT))
    y = ROPE.rotate(q, cos, sin)
    wanted = cos - sin, cos + sin
    cos[...] = 0
    y.sum().backward()
    np.testing.assert_allclose(q.grad, np.concatenate((wanted[1], wanted[0]), axis=1), atol=1e-6)


@pytest.mark.backend("torch")
def test_large_numbers_beside_a_subclass():
    """NumPy makes an ulonglong of 2**63, by which torch does not know uint64."""
    import torch

    from rope_xp.attention import causal_mask

    class Tensor(torch.Tensor):
        pass

    k = torch.tensor([0, 2**62]).as_subclass(Tensor)
    assert causal_mask([2**63], k).tolist() == [[True, True]]
