"""The body of `test_jax_sharding`, run as a program: JAX makes its devices once, before all else.

Prints, for each function whose name begins with ``check_``, what it raised.
"""

import json
import math
import re
import sys
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rope_xp import RoPE, attention, axes, positions
from rope_xp._kernels import jax_eager

COLLECTIVE = r" (?:all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter)(?:-start)?\("
COLLECTIVE_LINE = rf".*{COLLECTIVE}.*"
ROPE = RoPE(8, layout="half")
PARTIAL = RoPE(8, layout="interleaved", rotary_dim=4, rotary_start=2)
SECTIONS = RoPE(8, layout="half", axes=axes.Sections((2, 1, 1)))
FEW, MANY = 16, 1040  # tokens: 4 pairs of so many are more than the 4096 numbers made on the host
SHAPE = (4, 4, MANY, 8)  # (batch, heads, seq, head_dim)
MESHES = {
    mode: jax.make_mesh((2, 4), ("a", "b"), axis_types=(getattr(AxisType, mode),) * 2)
    for mode in ("Auto", "Explicit")
}
SPECS = [
    P(),
    P("b"),
    P(None, "b"),
    P(None, None, "b"),
    P("a", "b"),
    P("b", None, "a"),
    P(None, None, ("a", "b")),
]


def draw(shape=SHAPE, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def put(x, mode, spec):
    return jax.device_put(x, NamedSharding(MESHES[mode], spec))


def same(got, wanted, like):
    """Bit for bit, and on the same devices."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), f"{like.sharding}"
        assert a.sharding.is_equivalent_to(like.sharding, a.ndim), f"{a.sharding}, {like.sharding}"


def compiled(function, *arrays):
    """The program, which has no collective."""
    made = jax.jit(function).lower(*arrays).compile()
    found = re.findall(COLLECTIVE_LINE, made.as_text())
    assert not found, found
    return made


def shifts(program):
    """Shapes of the integers that are split into digits, where the tables are made; one for each."""
    return re.findall(r"= s32\[([\d,]*)\]\S* shift-right-arithmetic\(", program.as_text())


def check_eager_calls_keep_bits_and_sharding():
    x, k = draw((4, 4, FEW, 8)), draw((4, 4, FEW, 8), seed=1)
    for mode in MESHES:
        for spec in SPECS:
            q = put(x, mode, spec)
            same(ROPE(q, put(k, mode, spec), offset=3), ROPE(x, k, offset=3), q)
    for dtype in ("float16", "bfloat16"):
        x = draw((4, FEW, 4, 8), dtype)  # (batch, seq, heads, head_dim)
        q = put(x, "Auto", P("a", "b"))
        same(PARTIAL(q, seq_axis=-3), PARTIAL(x, seq_axis=-3), q)
        same(PARTIAL.inverse(q, seq_axis=-3), PARTIAL.inverse(x, seq_axis=-3), q)
        same(PARTIAL.shift(q, -2, seq_axis=-3), PARTIAL.shift(x, -2, seq_axis=-3), q)


def check_eager_tables_are_of_the_tokens_of_each_device():
    """Then the one compiled call gets everything where it is: no transfer, no collective."""
    calls, made = [], jax_eager._compiled

    def record(*key):
        function = made(*key)

        def call(*arrays):
            calls.append((function, arrays))
            with jax.transfer_guard_device_to_device("disallow"):
                return function(*arrays)

        return call

    x, spec = draw(), P("b", None, "a")
    rows = jnp.arange(MANY) + jnp.arange(4)[:, None]
    several = jnp.stack([rows, 3 * rows, 5 * rows])
    cases = [
        (ROPE, P("a"), lambda rope, x: rope(x)),
        (ROPE, P("a"), lambda rope, x: rope(x, positions=np.arange(MANY) + 5)),
        (ROPE, P("b", None, "a"), lambda rope, x: rope(x, offset=jnp.arange(4))),
        (ROPE, P("b", None, "a"), lambda rope, x: rope.inverse(x, positions=rows)),
        (ROPE, P(None, None, "a"), lambda rope, x: rope.shift(x, rows[:1])),
        (SECTIONS, P("b", None, "a"), lambda rope, x: rope(x, positions=several)),
    ]
    for rope, tables, call in cases:
        for mode in MESHES if rope is ROPE and tables == P("a") else ("Auto",):
            wanted, q = call(rope, x), put(x, mode, spec)
            jax_eager._compiled = record
            try:
                got = call(rope, q)
            finally:
                jax_eager._compiled = made
            same(got, wanted, q)
            function, arrays = calls.pop()
            assert not re.findall(COLLECTIVE, function.lower(*arrays).compile().as_text())
            target = NamedSharding(MESHES[mode], tables)
            for table in arrays[1:]:
                assert table.sharding.is_equivalent_to(target, table.ndim), (
                    f"{table.sharding}, {target}"
                )


def check_tables_of_a_few_positions_are_where_these_are():
    rows = jnp.arange(FEW) + jnp.arange(4)[:, None]
    for spec in (P(), P("a"), P("b", "a")):
        at = put(rows, "Auto", spec)
        same(ROPE.cos_sin(at), ROPE.cos_sin(rows), at)
        same(
            ROPE(put(draw((4, FEW, 8)), "Auto", spec), positions=at),
            ROPE(draw((4, FEW, 8)), positions=rows),
            at,
        )
        at = put(jnp.stack([rows] * 3), "Auto", P(None, *spec))
        cos, _ = SECTIONS.cos_sin(at)
        assert cos.sharding.is_equivalent_to(NamedSharding(MESHES["Auto"], spec), 3)


def check_positions_on_devices_that_somebody_chose_stay_there():
    q = put(draw(), "Auto", P("b", None, "a"))
    elsewhere = jax.device_put(jnp.arange(MANY), jax.devices()[1])
    try:
        ROPE(q, positions=elsewhere)
    except ValueError as error:
        assert "incompatible devices" in str(error)  # noqa: PT017 - there is no pytest here
    else:
        raise AssertionError
    whole = put(jnp.arange(MANY), "Auto", P())
    same(ROPE(q, positions=whole), ROPE(draw(), positions=jnp.arange(MANY)), q)


def check_programs_have_no_collective_and_tables_of_each_shard():
    x = draw()
    rows = jnp.arange(MANY) + jnp.arange(4)[:, None]
    once = len(shifts(compiled(ROPE.cos_sin, rows)))
    calls = [  # and the pairs of a token's tables, for each row where positions have rows
        (lambda q, at, offset: ROPE(q, q), 4, False),
        (lambda q, at, offset: ROPE(q, offset=offset), 4, True),
        (lambda q, at, offset: PARTIAL.inverse(q, positions=at), 2, True),
    ]
    for mode in MESHES:
        for spec, batch, seq in (
            (P("b", "a"), 1, MANY),
            (P("b", None, "a"), 1, MANY // 2),
            (P(None, None, ("a", "b")), 4, MANY // 8),
        ):
            q = put(x, mode, spec)
            along = (*spec, None)  # batch, heads, seq
            at, offset = (
                put(rows, mode, P(along[0], along[2])),
                put(rows[:, 0], mode, P(along[0])),
            )
            for call, n_pairs, has_rows in calls:
                program = compiled(call, q, at, offset)
                same(program(q, at, offset), jax.jit(call)(x, rows, rows[:, 0]), q)
                made = shifts(program)
                assert 0 < len(made) <= once
                largest = max(math.prod(map(int, shape.split(","))) for shape in made)
                assert largest == (batch if has_rows else 1) * seq * n_pairs, (mode, spec, made)


def check_programs_with_shardings_of_their_arguments_and_of_a_context():
    x, spec = draw(), P("a", None, "b")
    for mode, mesh in MESHES.items():
        sharding = NamedSharding(mesh, spec)
        program = jax.jit(ROPE, in_shardings=sharding, out_shardings=sharding)
        q = put(x, mode, spec)
        assert not re.findall(COLLECTIVE, program.lower(q).compile().as_text())
        same(program(q), jax.jit(ROPE)(x), q)
        with jax.set_mesh(mesh):
            same(ROPE(q), ROPE(x), q)
            compiled(ROPE, q)


def check_gradients():
    x, g = draw(), draw(seed=1)
    for mode in MESHES:
        q, weights = (put(each, mode, P("b", None, "a")) for each in (x, g))
        pull = lambda q, g: jax.vjp(ROPE, q)[1](g)[0]
        same(compiled(pull, q, weights)(q, weights), jax.jit(pull)(x, g), q)
        same(pull(q, weights), ROPE.inverse(g), q)


def check_each_shard_by_its_offset_under_shard_map():
    x, spec = draw(), P(None, None, ("a", "b"))
    n = MANY // 8

    def by_offset(q):
        return ROPE(q, offset=jax.lax.axis_index(("a", "b")) * n)

    def by_positions(q):
        rank = jax.lax.axis_index(("a", "b"))
        of_ranks = [positions.zigzag_positions(MANY, r, 8, xp=jnp) for r in range(8)]
        return ROPE(q, positions=jnp.stack(of_ranks)[rank])

    zigzag = np.concatenate([positions.zigzag_positions(MANY, r, 8) for r in range(8)])
    for mode, mesh in MESHES.items():
        for call, at in ((by_offset, jnp.arange(MANY)), (by_positions, jnp.asarray(zigzag))):
            mapped = jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec)
            q = put(x, mode, spec)
            program = compiled(mapped, q)
            same(program(q), jax.jit(lambda q, at: ROPE(q, positions=at))(x, at), q)
            tokens = {shape.partition(",")[0] for shape in shifts(program)}
            assert str(n) in tokens
            assert str(MANY) not in tokens


def check_attention_of_rows_and_heads_sends_nothing():
    x = draw((3, 4, 4, 64, 8))
    for mode in MESHES:
        shards = [put(each, mode, P("a", "b")) for each in x]
        for function in (attention.attention, partial(attention.linear_attention, rope=ROPE)):
            call = partial(function, causal=True)
            got = compiled(call, *shards)(*shards)
            # Matrix products may sum their 64 terms in another order.
            np.testing.assert_allclose(got, jax.jit(call)(*x), rtol=0, atol=64 * 2**-22)
            assert got.sharding.is_equivalent_to(shards[0].sharding, 4)


def check_packs_are_numbered_on_each_device():
    sums = jnp.asarray([0, 3, 700, 1000])
    number = partial(positions.packed_positions, total=MANY)
    call = lambda q, sums: ROPE(q, positions=number(sums))
    for mode in MESHES:
        q = put(draw(), mode, P("b", None, "a"))
        program = compiled(call, q, sums)
        same(program(q, sums), jax.jit(call)(draw(), sums), q)


def check_masks_are_counted_along_all_devices():
    """A sum along a sharded axis communicates: JAX refuses it in explicit mode, else XLA gathers."""
    mask = jnp.asarray(np.random.default_rng(0).random((4, MANY)) < 0.7)
    at = positions.mask_positions(mask)
    sharded = put(mask, "Auto", P("b", "a"))
    same(positions.mask_positions(sharded), at, sharded)
    try:
        positions.mask_positions(put(mask, "Explicit", P("b", "a")))
    except Exception as error:  # noqa: BLE001 - a type of JAX's own
        assert "unsharded" in str(error)  # noqa: PT017
    else:
        raise AssertionError
    for mode in MESHES:  # rows only: nothing is sent
        rows = put(mask, mode, P("b"))
        same(compiled(positions.mask_positions, rows)(rows), at, rows)


def main():
    found = {}
    for name, function in list(globals().items()):
        if name.startswith("check_"):
            try:
                function()
                found[name] = None
            except Exception:  # noqa: BLE001 - whatever it is, the test says so
                found[name] = traceback.format_exc()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
