"""PyTorch's DTensor over four processes (gloo): results, placements, gradients, and no collective.

One group of four processes runs all cases, each on its part, and each test reads what they say of its case.
What a process must have is cut from the result on one device, by offsets that torch computes.
"""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import rope_xp
from rope_xp import RoPE
from rope_xp.attention import attention, linear_attention
from rope_xp.axes import Axial
from rope_xp.positions import mask_positions, packed_positions, shard_indices, zigzag_positions

pytestmark = pytest.mark.backend("torch")
torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.debug import CommDebugMode

WORLD = 4
CASES = {}
BATCH, HEADS, SEQ = 0, 1, 2  # axes of (batch, heads, seq, head_dim)

# Placements on meshes of 4 or of 2 × 2 processes.
PLACEMENTS = {
    "replicated": [Replicate()],
    "batch": [Shard(BATCH)],
    "heads": [Shard(HEADS)],
    "sequence": [Shard(SEQ)],
    "batch and heads": [Shard(BATCH), Shard(HEADS)],
    "heads and sequence": [Shard(HEADS), Shard(SEQ)],
    "sequence twice": [Shard(SEQ), Shard(SEQ)],
    "copies of sequences": [Replicate(), Shard(SEQ)],
    "sequence from the end": [Shard(-2), Replicate()],
}


def case(function):
    CASES[function.__name__] = function
    return function


class Group:
    """One of the four processes, with what cases need."""

    def __init__(self, rank):
        self.rank = rank
        init = torch.distributed.device_mesh.init_device_mesh
        self.line, self.square = init("cpu", (4,)), init("cpu", (2, 2))

    def mesh(self, placements):
        return self.line if len(placements) == 1 else self.square

    def cut(self, whole, placements, mesh=None):
        """What this process has of a tensor that all processes have."""
        mesh = self.mesh(placements) if mesh is None else mesh
        placements = [Shard(p.dim % whole.ndim) if p.is_shard() else p for p in placements]
        sizes, starts = compute_local_shape_and_global_offset(whole.shape, mesh, placements)
        index = tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
        return whole[index] if sizes else whole

    def distribute(self, whole, placements, mesh=None):
        mesh = self.mesh(placements) if mesh is None else mesh
        local = self.cut(whole, placements, mesh).clone()
        options = {"shape": whole.shape, "stride": whole.stride()}
        return DTensor.from_local(local, mesh, placements, run_check=False, **options)

    def is_part(self, found, whole, like):
        """That ``found`` is ``whole``, bit for bit, split as ``like``."""
        assert isinstance(found, DTensor)
        assert found.placements == like.placements
        assert found.shape == whole.shape
        assert found.dtype == whole.dtype
        mine = self.cut(whole, found.placements, found.device_mesh)
        assert found.to_local().shape == mine.shape
        assert torch.equal(found.to_local(), mine)


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def along(placements, seq, batch=None):
    """Placements of positions (batch, seq), or (seq,), of tokens along these axes of what is placed so."""
    place = {BATCH: batch, seq: 0 if batch is None else 1}
    dims = [place.get(p.dim % 4) if p.is_shard() else None for p in placements]
    return [Replicate() if dim is None else Shard(dim) for dim in dims]


def of_queries(group, shape, seq_axis, dtype, layout, placements):
    """`RoPE` of q and k with positions of each kind, on one device and on four."""
    rope = RoPE(16, layout=layout, rotary_dim=12)
    q, k = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    seq = seq_axis % 4
    if seq == 1:  # (batch, seq, heads, head_dim)
        swap = {HEADS: SEQ, SEQ: HEADS}
        dims = [p.dim % 4 if p.is_shard() else None for p in placements]
        placements = [Replicate() if d is None else Shard(swap.get(d, d)) for d in dims]
    dq, dk = (group.distribute(x, placements) for x in (q, k))
    n = shape[seq]
    each = torch.randint(0, 10**6, (shape[0], n), generator=torch.Generator().manual_seed(2))
    kinds = {
        "default": ({}, {}),
        "offset": ({"offset": 70_000}, {"offset": 70_000}),
        "offset of each row": ({"offset": each[:, 0]}, {"offset": each[:, 0]}),
        "positions": ({"positions": each[0]}, {"positions": each[0]}),
        "positions of each row": ({"positions": each}, {"positions": each}),
        "replicated positions": (
            {"positions": each},
            {"positions": group.distribute(each, [Replicate()] * len(placements))},
        ),
        "split positions": (
            {"positions": each},
            {"positions": group.distribute(each, along(placements, seq, batch=0))},
        ),
        "split offsets": (
            {"offset": each[:, 0]},
            {"offset": group.distribute(each[:, 0].clone(), along(placements, -1, batch=0))},
        ),
    }
    for kind, (options, split) in kinds.items():
        try:
            whole = rope(q, k, seq_axis=seq_axis, **options)
            found = rope(dq, dk, seq_axis=seq_axis, **split)
            for f, w in zip(found, whole, strict=True):
                group.is_part(f, w, dq)
            back = rope.inverse(found[0], seq_axis=seq_axis, **split)
            group.is_part(back, rope.inverse(whole[0], seq_axis=seq_axis, **options), dq)
        except Exception as error:
            error.add_note(f"{kind}, shape {shape}, seq_axis {seq_axis}, {layout}, {dtype}")
            raise
    delta = each[:, :1] - 500
    for steps in (3, each[0], delta):
        group.is_part(
            rope.shift(dq, steps, seq_axis=seq_axis), rope.shift(q, steps, seq_axis=seq_axis), dq
        )


SHAPES = [  # even; uneven, and processes without an element; a decode step; more than `few`
    ((4, 4, 8, 16), -2, torch.float32, "half"),
    ((3, 2, 7, 16), -3, torch.bfloat16, "interleaved"),
    ((2, 5, 1, 16), -2, torch.float16, "half"),
    ((1, 5, 701, 16), -2, torch.float32, "interleaved"),
]
for _name, _placements in PLACEMENTS.items():

    def rotates(group, placements=_placements):
        for shape in SHAPES:
            of_queries(group, *shape, placements)

    CASES[f"rotates split over {_name}"] = rotates


@case
def sends_nothing(group):
    rope = RoPE(16, layout="half")
    q, k, g = normal(2, 6, 9, 16), normal(2, 2, 9, 16, seed=1), normal(2, 6, 9, 16, seed=2)
    x = q.clone().requires_grad_()
    rope(x, offset=5).backward(g)
    for placements in PLACEMENTS.values():
        of_keys = [p if p.is_shard() and p.dim != HEADS else Replicate() for p in placements]
        dq, dk = group.distribute(q, placements), group.distribute(k, of_keys)
        dx, dg = dq.detach().requires_grad_(), group.distribute(g, placements)
        rope(dx, offset=5).backward(dg)
        group.is_part(dx.grad, x.grad, dx)
        at = torch.arange(5, 14)
        with CommDebugMode() as sent:
            rope(dx, offset=5).backward(dg)
            rope(dq, dk)
            rope.rotate(dq, *rope.cos_sin(at))
            tables = rope.cos_sin(group.distribute(at, along(placements, SEQ)))
            rope.rotate(dq, *tables)
            rope.shift(dq, 3)
        assert sent.get_total_counts() == 0, sent.get_comm_counts()


@case
def keys_may_be_split_otherwise(group):
    rope = RoPE(16, layout="half")
    q, k = normal(2, 4, 9, 16), normal(2, 2, 9, 16, seed=1)
    whole = rope(q, k, offset=3)
    for of_q, of_k in ((SEQ, BATCH), (HEADS, SEQ), (SEQ, HEADS)):
        parts = group.distribute(q, [Shard(of_q)]), group.distribute(k, [Shard(of_k)])
        for found, want, like in zip(rope(*parts, offset=3), whole, parts, strict=True):
            group.is_part(found, want, like)
    flat = group.distribute(k[0].contiguous(), [Shard(1)])  # without a batch
    group.is_part(rope(group.distribute(q, [Shard(SEQ)]), flat, offset=3)[1], whole[1][0], flat)


@case
def positions_may_be_split_less(group):
    rope, q, at = RoPE(16, layout="half"), normal(2, 4, 9, 16), torch.arange(9) ** 2
    dq = group.distribute(q, [Shard(SEQ), Shard(SEQ)])
    split = group.distribute(at, [Shard(0), Replicate()])
    group.is_part(rope(dq, positions=split), rope(q, positions=at), dq)


@case
def tables_are_of_this_device(group):
    rope = RoPE(16, layout="interleaved")
    q, at = normal(1, 3, 4099, 16), torch.arange(10, 4109)
    dq = group.distribute(q, [Shard(SEQ)])
    split = group.distribute(at, [Shard(0)])
    cos, sin = rope.cos_sin(split)
    want = rope.cos_sin(at)
    for found, whole in zip((cos, sin), want, strict=True):
        group.is_part(found, whole, split)
    group.is_part(rope.rotate(dq, cos, sin), rope.rotate(q, *want), dq)
    group.is_part(rope_xp.cos_sin(split, [1.0, 0.5])[0], rope_xp.cos_sin(at, [1.0, 0.5])[0], split)
    rotated = rope_xp.rotate(dq, *want, layout="half", rotary_start=0, inverse=True)
    group.is_part(rotated, rope_xp.rotate(q, *want, layout="half", inverse=True), dq)

    most = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal most
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor) and not isinstance(made, DTensor):
                most = max(most, made.numel())
            return made

    with Sizes():
        rope(dq, offset=10)
    assert 0 < most <= max(dq.to_local().numel(), at.numel())  # no tables of 4099 · 8


@case
def tables_of_axes(group):
    for scheme in (Axial(2), Axial(2, frequencies="shared", split=True)):
        rope = RoPE(16, layout="half", axes=scheme)
        q = normal(2, 4, 9, 16)
        grid = torch.randint(0, 50, (2, 2, 9), generator=torch.Generator().manual_seed(3))
        for placements in ([Shard(SEQ)], [Shard(BATCH), Shard(SEQ)], [Shard(HEADS)]):
            dq = group.distribute(q, placements)
            for positions in (grid, grid[:, 0]):
                group.is_part(rope(dq, positions=positions), rope(q, positions=positions), dq)
            spread = [Shard(p.dim + 1) if p.is_shard() else p for p in along(placements, SEQ, 0)]
            split = group.distribute(grid, spread)
            group.is_part(rope(dq, positions=split), rope(q, positions=grid), dq)
            cos, _ = rope.cos_sin(split)
            assert cos.placements == tuple(along(placements, SEQ, 0))
            group.is_part(rope.shift(dq, grid[:, :, :1]), rope.shift(q, grid[:, :, :1]), dq)


@case
def tables_with_gradients(group):
    rope = RoPE(16, layout="half")
    x, g = normal(2, 4, 9, 16), normal(2, 4, 9, 16, seed=1)
    cos, sin = (t.requires_grad_() for t in rope.cos_sin(torch.arange(9)))
    rope.rotate(x, cos, sin).backward(g)
    for placements, of_tables in (([Shard(SEQ)], [Replicate()]), ([Shard(HEADS)], [Replicate()])):
        dx, dg = group.distribute(x, placements), group.distribute(g, placements)
        tables = [group.distribute(t.detach(), of_tables).requires_grad_() for t in (cos, sin)]
        with CommDebugMode() as sent:
            rope.rotate(dx, *tables).backward(dg)
        assert sent.get_total_counts() == 0
        for table, whole in zip(tables, (cos, sin), strict=True):
            assert table.grad.placements == (Partial(),)
            torch.testing.assert_close(table.grad.full_tensor(), whole.grad)


@case
def writes_into_out(group):
    rope = RoPE(16, layout="half")
    q = normal(2, 4, 9, 16)
    tables = rope.cos_sin(torch.arange(9))
    want = rope.rotate(q, *tables)
    for placements in ([Shard(SEQ)], [Shard(BATCH), Shard(HEADS)]):
        dq = group.distribute(q, placements)
        out = group.distribute(torch.zeros_like(q), placements)
        version = out._version
        assert rope.rotate(dq, *tables, out=out) is out
        assert out._version > version  # or a gradient could need what was there
        group.is_part(out, want, dq)
        assert rope.rotate(dq, *tables, out=dq) is dq
        group.is_part(dq, want, out)
        grown = group.distribute(q, placements).requires_grad_()
        written = rope.rotate(grown, *tables, out=torch.zeros_like(dq))
        written.backward(group.distribute(torch.ones_like(q), placements))
        group.is_part(grown.grad, rope.rotate(torch.ones_like(q), *tables, inverse=True), dq)


@case
def compiled(group):
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    rope = RoPE(16, layout="half")
    q, k = normal(2, 4, 7, 16), normal(2, 4, 7, 16, seed=1)
    cos, sin = rope.cos_sin(torch.arange(7))
    parts = [group.distribute(x, [Shard(HEADS), Shard(SEQ)]) for x in (q, k)]

    graphs = []

    def record(graph, _):
        graphs.append(graph.print_readable(print_output=False))
        return make_boxed_func(graph.forward)

    @torch.compile(fullgraph=True, backend=aot_autograd(fw_compiler=record))
    def forward(q, k, cos, sin):
        return *rope(q, k, offset=5), rope.rotate(q, cos, sin)

    parts[0].requires_grad_()
    found = forward(*parts, cos, sin)
    sum(f.to_local().sum() for f in found).backward()
    assert len(graphs) == 2  # forwards and backwards, of one program
    assert not any("c10d" in graph for graph in graphs)
    for f, w in zip(found, (*rope(q, k, offset=5), rope.rotate(q, cos, sin)), strict=True):
        assert f.placements == parts[0].placements
        mine = group.cut(w, f.placements)
        # Tables that are compiled may differ in the last bit: see `cos_sin`.
        torch.testing.assert_close(f.to_local(), mine, rtol=1e-6, atol=1e-6)
    x = q.clone().requires_grad_()
    (rope(x, offset=5) + rope.rotate(x, cos, sin)).sum().backward()
    mine = group.cut(x.grad, parts[0].placements)
    torch.testing.assert_close(parts[0].grad.to_local(), mine, rtol=1e-6, atol=1e-6)


@case
def processes_outside_of_the_mesh(group):
    mesh = torch.distributed.device_mesh.DeviceMesh("cpu", [0, 2])
    rope, q = RoPE(16, layout="half"), normal(2, 4, 9, 16)
    inside = group.rank in (0, 2)
    mine = torch.tensor_split(q, [5], SEQ)[group.rank // 2] if inside else torch.empty(0)
    options = {"shape": q.shape, "stride": q.stride()}
    dq = DTensor.from_local(mine, mesh, [Shard(SEQ)], run_check=False, **options)
    found = rope(dq, offset=torch.tensor([3, 4]))
    assert found.shape == q.shape
    if inside:
        group.is_part(found, rope(q, offset=torch.tensor([3, 4])), dq)
    else:
        assert found.to_local().numel() == 0


@case
def other_functions(group):
    weight = normal(4 * 16, 24)
    layouts = {"source": "interleaved", "target": "half", "head_dim": 16, "axis": 0}
    for placements in ([Shard(0)], [Shard(1)]):
        dw = group.distribute(weight, placements)
        with CommDebugMode() as sent:
            found = rope_xp.convert_layout(dw, **layouts)
        assert sent.get_total_counts() == 0
        group.is_part(found, rope_xp.convert_layout(weight, **layouts), dw)
    mask = normal(4, 16) > -1
    for placements, sent_at_most in (([Shard(0)], 0), ([Shard(1)], 1), ([Shard(0), Shard(1)], 1)):
        dm = group.distribute(mask, placements)
        with CommDebugMode() as sent:
            found = mask_positions(dm)
        assert sent.get_total_counts() <= sent_at_most
        assert torch.equal(found.full_tensor(), mask_positions(mask))  # not of each part alone
    q, k, v = (normal(4, n, 9, 16, seed=i) for i, n in enumerate((8, 4, 4)))
    mask, scale = normal(4, 1, 9, 9) > -1, normal(4, 9)
    for placements, options in (
        ([Shard(BATCH)], {"bias": mask, "query_scale": scale}),
        ([Shard(HEADS)], {"causal": True}),
    ):
        parts = [group.distribute(x, placements) for x in (q, k, v)]
        with CommDebugMode() as sent:
            found = attention(*parts, **options)
        assert sent.get_total_counts() == 0
        assert found.placements == parts[0].placements
        mine = group.cut(attention(q, k, v, **options), placements)
        torch.testing.assert_close(found.to_local(), mine)
    rope = RoPE(16, layout="half")
    for n in (9, 200):  # in one chunk, in several
        q, k, v = (normal(4, h, n, 16, seed=i) for i, h in enumerate((8, 4, 4)))
        for placements in ([Shard(BATCH)], [Shard(HEADS)]):
            parts = [group.distribute(x, placements) for x in (q, k, v)]
            found = linear_attention(*parts, rope=rope, causal=True)
            mine = group.cut(linear_attention(q, k, v, rope=rope, causal=True), placements)
            torch.testing.assert_close(found.to_local(), mine)


@case
def refuses(group):
    rope = RoPE(16, layout="half")
    q = normal(2, 4, 8, 16)
    cos, sin = rope.cos_sin(torch.arange(8))
    split = group.distribute(q, [Shard(SEQ)])
    whole_at = group.distribute(torch.arange(8), [Replicate()])
    learned = cos.clone().requires_grad_()
    mine = group.cut(q, [Shard(SEQ)])
    grown = split.detach().requires_grad_()
    sentences = {
        "`q` must be placed by Shard and Replicate only, got": lambda: rope(
            DTensor.from_local(q, group.line, [Partial()])
        ),
        "`x` must be placed by Shard and Replicate only, got": lambda: rope.rotate(
            DTensor.from_local(q, group.line, [Partial()]), cos, sin
        ),
        "`q` must have whole heads on every device, got": lambda: rope(
            group.distribute(q, [Shard(3)])
        ),
        "`k` must have whole heads on every device, got": lambda: rope.shift(
            group.distribute(q, [Shard(-1)]), 1
        ),
        "`k` must be a DTensor, as `q` is, got a Tensor": lambda: rope(split, q),
        "`k` must be on one device, as `q` is, got a DTensor": lambda: rope(q, split),
        "`positions` must be on one device, as `q` is": lambda: rope(q, positions=whole_at),
        "`cos` must be on one device, as `x` is": lambda: rope.rotate(q, *rope.cos_sin(whole_at)),
        "`positions` must be on one device where `inv_freq` is learned": lambda: rope_xp.cos_sin(
            whole_at, torch.ones(4)
        ),
        "`cu_seqlens` must be on one device where": lambda: packed_positions(whole_at, 9),
        "`positions` must be split as `q` is": lambda: rope(
            group.distribute(q, [Shard(HEADS)]),
            positions=group.distribute(torch.arange(8), [Shard(0)]),
        ),
        "`positions` must have the whole of axis 0 on every device": lambda: RoPE(
            16, layout="half", axes=Axial(2)
        ).cos_sin(group.distribute(torch.ones(2, 8), [Shard(0)])),
        "`positions` must be on the mesh of `q`": lambda: rope(
            split, positions=group.distribute(torch.arange(8), [Replicate()] * 2)
        ),
        "`cos` must be a DTensor where it has a gradient": lambda: rope.rotate(split, learned, sin),
        "`out` must have the placements of `x`": lambda: rope.rotate(
            split, cos, sin, out=group.distribute(q, [Shard(HEADS)])
        ),
        "`out` must be a DTensor, as `x` is": lambda: rope.rotate(split, cos, sin, out=q),
        "`out` must be writable": lambda: rope.rotate(split, cos, sin, out=grown),
    }
    for start, call in sentences.items():
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(start)}"):
            call()
    assert torch.equal(mine, split.to_local())


@case
def tensor_parallel_block(group):
    found, want = run_block(group, "tensor parallel")
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w)


@case
def fully_sharded_block(group):
    found, want = run_block(group, "fully sharded")
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w)


class Block(torch.nn.Module):
    """Attention with the residual, of 4 heads."""

    rope = RoPE(8, layout="half")

    def __init__(self, *, as_dtensor):
        super().__init__()
        for name in ("q", "k", "v", "o"):
            setattr(self, name, torch.nn.Linear(32, 32, bias=False))
        self.as_dtensor = as_dtensor

    def forward(self, x):
        b, s, _ = x.shape
        q, k, v = (
            project(x).view(b, s, -1, 8).transpose(1, 2) for project in (self.q, self.k, self.v)
        )
        q, k = self.rope(q, k, offset=2)
        if self.as_dtensor:  # torch's attention has no rule for DTensor on this device
            y = attention(q, k, v, causal=True)
        else:
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.o(y.transpose(1, 2).reshape(b, s, -1))


def run_block(group, how):
    """Outputs, and gradients of all weights, of the block on four devices and on one."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import parallel

    x = normal(4, 6, 32)
    models = []
    for as_dtensor in (False, how == "tensor parallel"):
        torch.manual_seed(0)
        models.append(Block(as_dtensor=as_dtensor))
    one, many = models
    whole = one(x)
    whole.square().sum().backward()
    if how == "tensor parallel":
        keep = {"use_local_output": False}
        plan = {name: parallel.ColwiseParallel(**keep) for name in "qkv"}
        parallel.parallelize_module(many, group.line, {**plan, "o": parallel.RowwiseParallel()})
        y = many(x)
        y.square().sum().backward()
        want = whole
    else:
        fully_shard(many, mesh=group.line)
        rows = slice(group.rank, group.rank + 1)  # each process has one row of the batch
        y, want = many(x[rows]), whole[rows]
        (4 * y.square().sum()).backward()  # it averages gradients over processes
    gradients = [p.grad.full_tensor() for p in many.parameters()]
    return [y, *gradients], [want, *(p.grad for p in one.parameters())]


@case
def sequence_parallel_attention(group):
    """All-to-all from sequence to heads and back, rotated before by each process's own positions."""
    rope, n = RoPE(16, layout="half"), 16
    q, k, v = (normal(2, 4, n, 16, seed=i) for i in range(3))
    whole = attention(*rope(q, k), v, causal=True)
    for order in ("contiguous", "zigzag"):
        mine = shard_indices(n, group.rank, WORLD, order=order, xp=torch)
        at = zigzag_positions(n, group.rank, WORLD, xp=torch) if order == "zigzag" else mine
        every = torch.cat([shard_indices(n, r, WORLD, order=order, xp=torch) for r in range(WORLD)])
        local = [x[:, :, mine] for x in (q, k, v)]
        local[:2] = rope(*local[:2], positions=at)
        parts = [DTensor.from_local(x, group.line, [Shard(SEQ)]) for x in local]
        with CommDebugMode() as sent:
            parts = [x.redistribute(placements=[Shard(HEADS)]) for x in parts]
        # gloo has all-to-all as an all-gather in some versions of torch: one collective for each.
        assert sent.get_total_counts() == 3
        heads = [x.to_local() for x in parts]
        bias = every[:, None] >= every
        y = DTensor.from_local(attention(*heads, bias=bias), group.line, [Shard(HEADS)])
        y = y.redistribute(placements=[Shard(SEQ)]).to_local()
        torch.testing.assert_close(y, whole[:, :, mine])


@case
def ring_attention(group):
    """torch's context parallelism, load-balanced: its dispatcher has no rule for the CPU, its ring runs."""
    from torch.distributed.tensor.experimental import context_parallel
    from torch.distributed.tensor.experimental._attention import _templated_ring_attention

    rope, n = RoPE(16, layout="half"), 32
    q, k, v = (normal(1, 4, n, 16, seed=i) for i in range(3))
    want = torch.nn.functional.scaled_dot_product_attention(*rope(q, k), v, is_causal=True)

    def attend(q, k, v, *, is_causal, **_):
        function = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return function(q, k, v, 0.0, is_causal)

    at, parts = torch.arange(n), [x.clone() for x in (q, k, v)]
    with context_parallel(group.line, buffers=[at, *parts], buffer_seq_dims=[0, 2, 2, 2]):
        mine = zigzag_positions(n, group.rank, WORLD, xp=torch)
        assert torch.equal(at, mine)  # what it makes of positions, as of every buffer
        turned = rope(*parts[:2], positions=at)
        ring = group.line.get_group()
        found = _templated_ring_attention(ring, 2, attend, *turned, parts[2], is_causal=True)[0]
    torch.testing.assert_close(found, want[:, :, mine])


def run_cases(rank, folder):
    """What one process does: all cases, and a file that says how they ended."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=WORLD,
        timeout=dt.timedelta(seconds=60),
    )
    group, ends = Group(rank), {}
    for name, function in CASES.items():
        try:
            function(group)
            ends[name] = ""
        except BaseException:  # noqa: BLE001 - the test of this case shows it
            ends[name] = traceback.format_exc()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(ends), encoding="utf-8")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How each case ended, on each process."""
    folder = tmp_path_factory.mktemp("group")
    command = [sys.executable, __file__, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{r}.json").read_text(encoding="utf-8")) for r in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_on_four_processes(name, ends):
    for rank, end in enumerate(ends):
        assert not end[name], f"process {rank}: {end[name]}"


if __name__ == "__main__":
    torch.multiprocessing.spawn(run_cases, (sys.argv[1],), nprocs=WORLD)
