"""Caches in torch: memory in place, also compiled; gradients and transforms see copies."""

import warnings

import pytest

from rope_xp import RoPE
from rope_xp.attention import KVCache, WindowCache, attention

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.backend("torch")

ROPE = RoPE(8, layout="half")
LENGTHS = [0, torch.tensor(2, dtype=torch.uint16), torch.tensor([1, 3])]


@pytest.fixture(autouse=True)
def fresh():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own
        import torch._inductor.compile_fx
    torch.manual_seed(0)
    torch._dynamo.reset()


def cache(length=0, capacity=6):
    return KVCache.empty((2, 2, capacity, 8), xp=torch)._replace(length=length)


def apart(one):
    """The same in memory of its own."""
    return one._replace(stored_k=one.stored_k.clone(), v=one.v.clone())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_appends_write_in_place(length, backend):
    def step(cache, x):
        return cache.append(x, x)

    fast, slow = cache(length), apart(cache(length))
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    memory = fast.stored_k.data_ptr(), fast.v.data_ptr()
    for _ in range(3):
        x = torch.randn(2, 2, 1, 8)
        fast, slow = compiled(fast, x), step(slow, x)
        torch.testing.assert_close(fast.k, slow.k, rtol=0, atol=0)
        assert torch.equal(torch.as_tensor(fast.length), torch.as_tensor(slow.length))
    assert memory == (fast.stored_k.data_ptr(), fast.v.data_ptr())


@pytest.mark.parametrize("length", [4, torch.tensor(4), torch.tensor([4, 5])])
def test_compiled_appends_beyond_the_capacity_overwrite_nothing(length):
    full = cache(length)
    full.stored_k.copy_(torch.randn(2, 2, 6, 8))
    before, x = full.k.clone(), torch.ones(2, 2, 3, 8)
    if isinstance(length, int):
        with pytest.raises(ValueError, match=r"`k` must fit into the cache of 6 tokens \(4 used\)"):
            full.append(x, x)
    else:
        compiled = torch.compile(KVCache.append, fullgraph=True, backend="aot_eager")
        after = compiled(full, x, x)
        for row, n in enumerate((4, 4) if length.ndim == 0 else (4, 5)):
            torch.testing.assert_close(after.k[row, :, :n], before[row, :, :n], rtol=0, atol=0)
            assert bool((after.k[row, :, n:] == 1).all())
        with pytest.raises(ValueError, match=r"`length` must be in \[0, 6\], the capacity, got"):
            after.append(x, x)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("of", ["tokens", "cache"])
def test_gradients_go_through_the_cache(length, of):
    """As through a concatenation, and two losses may read the same old cache."""
    k, v = torch.randn(2, 2, 2, 6, 8).requires_grad_(of == "cache")
    old = KVCache(k, v, length)
    token = torch.randn(2, 2, 2, 8, requires_grad=of == "tokens")
    q = torch.randn(2, 2, 1, 8)
    n = torch.as_tensor(length).to(torch.int64).broadcast_to((2,)).tolist()

    def whole(array, token):
        return torch.stack(
            [
                torch.cat((a[:, :i], t, a[:, i + 2 :]), -2)
                for a, t, i in zip(array, token, n, strict=True)
            ]
        )

    def loss(k, v):
        return attention(q, k, v).square().sum()

    new, again = old.append(token, 2 * token), old.append(3 * token, token)
    got = loss(new.k, new.v) + loss(again.k, again.v)
    wanted = loss(whole(k, token), whole(v, 2 * token)) + loss(whole(k, 3 * token), whole(v, token))
    inputs = (token,) if of == "tokens" else (k, v)
    k_of = torch.autograd.grad(got, inputs)
    for one, other in zip(k_of, torch.autograd.grad(wanted, inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("length", [1, torch.tensor([1, 3])])
def test_transforms(length):
    old, q = cache(length), torch.randn(2, 2, 1, 8)
    tokens = torch.randn(3, 2, 2, 1, 8)

    def loss(token):
        new = old.append(token, 2 * token)
        return attention(q, new.k, new.v).square().sum()

    wanted = torch.stack([loss(t.clone().requires_grad_()).detach() for t in tokens])
    torch.testing.assert_close(torch.func.vmap(loss)(tokens), wanted)
    slopes = torch.stack(
        [torch.autograd.grad(loss(t := each.clone().requires_grad_()), t)[0] for each in tokens]
    )
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(tokens), slopes)
    assert not old.stored_k.any()


def test_memory_that_cannot_be_written_is_copied():
    x = torch.ones(2, 2, 1, 8)
    one = torch.zeros(2, 2, 1, 8).expand(2, 2, 6, 8)  # all slots in one place
    made = KVCache(one, one).append(x, 2 * x)
    assert (made.k[0, 0, :, 0].tolist(), made.v[0, 0, :, 0].tolist()) == (
        [1, *[0] * 5],
        [2, *[0] * 5],
    )
    same = torch.zeros(2, 2, 6, 8)  # keys and values in the same place
    made = KVCache(same, same, torch.tensor([0, 1])).append(x, 2 * x)
    assert (made.k[1, 0, 1, 0], made.v[1, 0, 1, 0], same.any()) == (1, 2, False)
    with torch.inference_mode():
        made = cache().append(x, x)
    again = made.append(2 * x, 2 * x)
    assert again.k[0, 0, :3, 0].tolist() == [1, 2, 0]
    assert made.k[0, 0, :3, 0].tolist() == [1, 0, 0]


def test_a_compiled_stream():
    def step(cache, x):
        return cache.append(ROPE(x, offset=cache.length), x)

    empty = WindowCache.empty((2, 2, 5, 8), ROPE, sinks=1, xp=torch)
    fast = slow = empty._replace(length=torch.tensor(0))
    slow = slow._replace(k=slow.k.clone(), v=slow.v.clone(), first_k=slow.first_k.clone())
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    memory = fast.k.data_ptr(), fast.v.data_ptr()
    for _ in range(8):
        x = torch.randn(2, 2, 1, 8)
        fast, slow = compiled(fast, x), step(slow, x)
    torch.testing.assert_close(fast.k, slow.k, rtol=0, atol=1e-6)
    assert torch.equal(fast.positions, slow.positions)
    assert memory == (fast.k.data_ptr(), fast.v.data_ptr())
