"""Transforms of torch pass through `torch_autograd`: each gives what it gives with plain operations."""

import functools

import numpy as np
import pytest

import rope_xp
from rope_xp._backends import torch as torch_facts
from rope_xp._kernels import force_kernel, torch_autograd

pytestmark = [
    pytest.mark.backend("torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # forward mode asks for torch.jit
]
torch = pytest.importorskip("torch", reason="torch is not installed")
from torch.func import functionalize, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

forward_ad = torch.autograd.forward_ad


@pytest.fixture(params=[("half", False), ("half", True), ("interleaved", False)])
def case(request, rng):
    """Queries, a tangent, tables, and the rotation as a function of queries and cosines."""
    layout, inverse = request.param
    x, tangent = torch.asarray(rng.standard_normal((2, 2, 3, 4, 8)))
    angles = torch.asarray(rng.uniform(-4, 4, (4, 3)))  # a partial rotation
    cos, sin = 1.5 * torch.cos(angles), 1.5 * torch.sin(angles)

    def rotate(x, cos=cos):
        return rope_xp.rotate(x, cos, sin, layout=layout, inverse=inverse)

    return x, tangent, cos, rotate


def cubes(y):
    return (y**3).sum()


def dual(f, x, tangent):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, tangent))).tangent


def batched_gradients(f, x):
    x = x.clone().requires_grad_()
    gradients = torch.stack([torch.ones_like(x), torch.arange(x.numel()).reshape(x.shape) / 7.0])
    return torch.autograd.grad(f(x), x, gradients, is_grads_batched=True)[0]


OF_QUERIES = {
    "grad": lambda f, x, t, c: grad(lambda x: cubes(f(x)))(x),
    "grad of grad": lambda f, x, t, c: grad(lambda x: cubes(grad(lambda x: cubes(f(x)))(x)))(x),
    "vjp": lambda f, x, t, c: vjp(f, x)[1](t)[0],
    "vmap": lambda f, x, t, c: vmap(f)(x),
    "vmap over axis 1": lambda f, x, t, c: vmap(f, in_dims=1)(x),
    "vmap over the last axis": lambda f, x, t, c: vmap(f, in_dims=-1)(torch.stack((x, t), dim=-1)),
    "vmap of vmap": lambda f, x, t, c: vmap(vmap(f))(x),
    "jvp": lambda f, x, t, c: jvp(f, (x,), (t,))[1],
    "jacfwd": lambda f, x, t, c: jacfwd(f)(x[0, 0]),
    "jacrev": lambda f, x, t, c: jacrev(f)(x[0, 0]),
    "hessian": lambda f, x, t, c: hessian(lambda x: cubes(f(x)))(x[0, 0]),
    "vmap of grad": lambda f, x, t, c: vmap(grad(lambda x: cubes(f(x))))(x),
    "grad of vmap": lambda f, x, t, c: grad(lambda x: cubes(vmap(f)(x)))(x),
    "jvp of grad": lambda f, x, t, c: jvp(grad(lambda x: cubes(f(x))), (x,), (t,))[1],
    "grad of jvp": lambda f, x, t, c: grad(lambda x: cubes(jvp(f, (x,), (t,))[1] * f(x)))(x),
    "dual numbers": lambda f, x, t, c: dual(f, x, t),
    "dual numbers in grad": lambda f, x, t, c: dual(grad(lambda x: cubes(f(x))), x, t),
    "batched gradients": lambda f, x, t, c: batched_gradients(f, x),
    "functionalize of grad": lambda f, x, t, c: functionalize(grad(lambda x: cubes(f(x))))(x),
    "functionalize of vmap": lambda f, x, t, c: functionalize(vmap(f))(x),
    "functionalize of jvp": lambda f, x, t, c: functionalize(lambda x: jvp(f, (x,), (t,))[1])(x),
}
# What is learned or mapped over in the tables is left to torch's own operations.
OF_TABLES = {
    "grad": lambda f, x, t, c: grad(lambda c: cubes(f(x, c)))(c),
    "jvp": lambda f, x, t, c: jvp(lambda c: f(x, c), (c,), (2 * c,))[1],
    "vmap": lambda f, x, t, c: vmap(lambda c: f(x, c))(torch.stack((c, 2 * c))),
    "vmap of both": lambda f, x, t, c: vmap(f)(x, torch.stack((c, 2 * c))),
    "grad around vmap": lambda f, x, t, c: grad(lambda c: cubes(vmap(lambda x: f(x, c))(x)))(c),
    "jvp around vmap": lambda f, x, t, c: jvp(lambda c: vmap(lambda x: f(x, c))(x), (c,), (2 * c,))[
        1
    ],
    "grad around grad": lambda f, x, t, c: grad(lambda c: cubes(grad(lambda x: cubes(f(x, c)))(x)))(
        c
    ),
    "a leaf around vmap": lambda f, x, t, c: leaf_gradient(
        lambda c: cubes(vmap(lambda x: f(x, c))(x)), c
    ),
    "a leaf around grad": lambda f, x, t, c: leaf_gradient(
        lambda c: cubes(grad(lambda x: cubes(f(x, c)))(x)), c
    ),
    "functionalize": lambda f, x, t, c: functionalize(f)(x),
    "functionalize around others": lambda f, x, t, c: functionalize(lambda t: f(x) + t)(t),
    "a minus sign put off": lambda f, x, t, c: f(torch._neg_view(x)),
    "zeros without memory": lambda f, x, t, c: f(torch._efficientzerotensor(x.shape).double()),
}


def leaf_gradient(f, c):
    c = c.clone().requires_grad_()
    return torch.autograd.grad(f(c), c)[0]


def both(monkeypatch, case, transform):
    """The transform of plain operations, of kernels, and how often `torch_autograd` was called."""
    x, tangent, cos, rotate = case
    with force_kernel("concat"):
        expected = transform(rotate, x, tangent, cos)
    calls, kernel = [], torch_autograd.rotate
    monkeypatch.setattr(torch_autograd, "rotate", lambda *args: calls.append(1) or kernel(*args))
    with force_kernel("tiled"):
        found = transform(rotate, x, tangent, cos)
    return expected, found, len(calls)


@pytest.mark.parametrize("name", OF_QUERIES)
def test_of_queries(monkeypatch, case, name):
    expected, found, calls = both(monkeypatch, case, OF_QUERIES[name])
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert calls


@pytest.mark.parametrize("name", OF_TABLES)
def test_of_tables(monkeypatch, case, name):
    expected, found, calls = both(monkeypatch, case, OF_TABLES[name])
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert not calls


@pytest.mark.parametrize("name", ["_len_torch_dispatch_stack", "_functorch"])
def test_a_private_name_that_is_missing_means_plain_operations(monkeypatch, case, name):
    """Another version of torch may not have it: slower, and right."""
    x, _, _, rotate = case
    with force_kernel("tiled"):
        expected = rotate(x)
        torch_facts.private_names.cache_clear()
        with monkeypatch.context() as patched:
            patched.delattr(torch._C, name)
            assert torch_facts.private_names() is None
        assert not torch_facts.is_accessible(x)
        torch.testing.assert_close(rotate(x), expected, rtol=0, atol=0)
        assert "Rotation" not in str(rotate(x.clone().requires_grad_()).grad_fn)
        torch_facts.private_names.cache_clear()
        assert torch_facts.is_accessible(x)


def test_what_is_recorded_or_faked_is_torch_s_own_operations(case):
    """A mode sees operations: writing into memory behind its back would be no operation at all."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    x, _, _, rotate = case
    expected = rotate(x)
    with force_kernel("tiled"):
        graph = make_fx(lambda x: rotate(x))(x)
        torch.testing.assert_close(graph(2 * x), rotate(2 * x), rtol=0, atol=0)
        with FlopCounterMode(display=False):
            torch.testing.assert_close(rotate(x), expected, rtol=0, atol=0)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = rotate(mode.from_tensor(x))
        assert type(fake).__name__ == "FakeTensor"
        assert fake.shape == expected.shape
        assert fake.dtype == expected.dtype
        meta = rope_xp.rotate(
            *(torch.ones(n, device="meta") for n in ((3, 4, 8), (4, 3), (4, 3))), layout="half"
        )
        assert meta.device.type == "meta"


def test_subclasses_keep_their_type_and_values(case):
    class Tagged(torch.Tensor):
        pass

    x, _, _, rotate = case
    expected = rotate(x)
    with force_kernel("tiled"):
        found = rotate(x.as_subclass(Tagged))
    assert type(found) is Tagged
    torch.testing.assert_close(found.as_subclass(torch.Tensor), expected, rtol=0, atol=0)


def test_large_arrays_take_the_step_by_themselves(rng):
    """Without being forced: from 65,536 elements on, in training and under transforms."""
    x = torch.asarray(rng.standard_normal((4, 64, 256)), dtype=torch.float32)
    cos, sin = rope_xp.cos_sin(torch.arange(64), [0.9**i for i in range(128)])
    rotate = functools.partial(rope_xp.rotate, cos=cos, sin=sin, layout="half")
    assert "Rotation" in str(rotate(x.clone().requires_grad_()).grad_fn)
    with force_kernel("concat"):
        expected = grad(lambda x: cubes(rotate(x)))(x)
    found = grad(lambda x: cubes(rotate(x)))(x)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("mode", "early", "seq"),
    [("real", False, 8192), ("real", True, 8192), ("symbolic", False, 4)],
)
def test_make_fx_traces_gradients(mode, early, seq):
    """Above autograd, too, where torch counts its modes apart; and sizes that are traced."""
    from torch.fx.experimental.proxy_tensor import make_fx

    rope = rope_xp.RoPE(64, layout="half")
    q = torch.randn(seq, 64)

    def gradient(q):
        q = q.detach().requires_grad_()
        return torch.autograd.grad((rope(q) ** 3).sum(), q)[0]

    def transformed(q):
        return torch.func.grad(lambda q: (rope(q) ** 3).sum())(q)

    functions = (gradient,) if early else (gradient, transformed)
    for function in functions:
        traced = make_fx(function, tracing_mode=mode, pre_dispatch=early)(q)
        torch.testing.assert_close(traced(q), gradient(q))
