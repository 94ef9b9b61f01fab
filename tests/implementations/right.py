"""Right implementations of RoPE, as people write them: none may be refused."""

import functools
import math

import numpy as np

from implementations.parts import (
    cos_sin,
    half_with,
    inv_freq,
    llama3,
    rotate_every_two,
    rotate_half,
    table_of,
    turn_half,
    turn_interleaved,
    yarn,
)
from rope_xp import RoPE
from rope_xp.scaling import (
    NTK,
    DynamicNTK,
    FrequencyFactors,
    Linear,
    Llama3,
    LongRoPE,
    Negated,
    Proportional,
    YaRN,
)

RIGHT = []
right = table_of(RIGHT)

HALF = RoPE(16, layout="half")
PAIRS = RoPE(16, layout="interleaved")
HALF32 = RoPE(16, layout="half", precision="float32")
PAIRS32 = RoPE(16, layout="interleaved", precision="float32")


# --- The formula, in NumPy.


@right(HALF)
def halves(x, positions):
    return turn_half(x, *cos_sin(positions, inv_freq(16)))


@right(PAIRS)
def interleaved(x, positions):
    return turn_interleaved(x, *cos_sin(positions, inv_freq(16)))


@right(HALF)
def partner_of_rotate_half(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in cos_sin(positions, inv_freq(16)))
    return (x * cos + rotate_half(x) * sin).astype(x.dtype)


@right(PAIRS)
def partner_of_rotate_every_two(x, positions):
    cos, sin = (np.repeat(t, 2, axis=-1) for t in cos_sin(positions, inv_freq(16)))
    return (x * cos + rotate_every_two(x) * sin).astype(x.dtype)


@right(PAIRS)
def complex_numbers(x, positions):
    z = np.ascontiguousarray(x, dtype=np.float64).view(np.complex128)
    cos, sin = cos_sin(positions, inv_freq(16))
    return (z * (cos + 1j * sin)).view(np.float64).astype(x.dtype)


@right(RoPE(64, layout="half", base=500000.0))
def complex_halves(x, positions):
    z = x[..., :32] + 1j * x[..., 32:].astype(np.float64)
    rows = positions if positions.ndim == 1 else positions[:, None]
    z = z * np.exp(1j * rows[..., None] * inv_freq(64, 500000.0))
    return np.concatenate([z.real, z.imag], axis=-1).astype(x.dtype)


@right(PAIRS)
def matrices_of_two(x, positions):
    cos, sin = cos_sin(np.atleast_2d(positions), inv_freq(16))
    turns = np.array([[cos, -sin], [sin, cos]])
    pairs = x.reshape(*x.shape[:-1], 8, 2)
    turns = np.broadcast_to(turns, (2, 2, x.shape[0], *turns.shape[3:]))[:, :, :, 0]
    return np.einsum("ijbsn,bhsnj->bhsni", turns, pairs).reshape(x.shape).astype(x.dtype)


@right(HALF)
def a_matrix_for_each_token(x, positions):
    turns = np.zeros((*positions.shape, 16, 16))
    cos, sin = (
        np.cos(positions[..., None] * inv_freq(16)),
        np.sin(positions[..., None] * inv_freq(16)),
    )
    i, j = np.arange(8), np.arange(8, 16)
    turns[..., i, i], turns[..., i, j], turns[..., j, i], turns[..., j, j] = cos, -sin, sin, cos
    turns = turns if positions.ndim == 1 else turns[:, None]
    return (turns @ x[..., None])[..., 0].astype(x.dtype)


@right(HALF)
def rolled(x, positions):
    cos, sin = (np.concatenate([t, t], axis=-1) for t in cos_sin(positions, inv_freq(16)))
    return (x * cos + np.roll(x, 8, axis=-1) * sin * np.repeat([-1, 1], 8)).astype(x.dtype)


@right(PAIRS)
def gathered(x, positions):
    partner = np.arange(16) ^ 1
    sign = np.where(np.arange(16) % 2, 1, -1)
    cos, sin = (t[..., np.arange(16) // 2] for t in cos_sin(positions, inv_freq(16)))
    return (x * cos + x[..., partner] * sign * sin).astype(x.dtype)


@right(RoPE(6, layout="half"))
def loops(x, positions):
    y = np.empty_like(x)
    for b, h, s in np.ndindex(*x.shape[:3]):
        p = int(positions[s] if positions.ndim == 1 else positions[b, s])
        for i in range(3):
            angle = p * 10000.0 ** (-2 * i / 6)
            u, v, c, n = (
                float(x[b, h, s, i]),
                float(x[b, h, s, i + 3]),
                math.cos(angle),
                math.sin(angle),
            )
            y[b, h, s, i], y[b, h, s, i + 3] = u * c - v * n, u * n + v * c
    return y


@right(RoPE(8, layout="interleaved"))
def tokens_in_a_loop_with_running_angles(x, positions):
    """ggml's loop, where the angle is multiplied from pair to pair, in double."""
    y = x.copy()
    step = 10000.0 ** (-2.0 / 8)
    for b, s in np.ndindex(x.shape[0], x.shape[2]):
        angle = float(positions[s] if positions.ndim == 1 else positions[b, s])
        for i in range(0, 8, 2):
            u, v = x[b, :, s, i].astype(float), x[b, :, s, i + 1].astype(float)
            y[b, :, s, i] = u * math.cos(angle) - v * math.sin(angle)
            y[b, :, s, i + 1] = u * math.sin(angle) + v * math.cos(angle)
            angle *= step
    return y


@right(HALF)
def heads_in_a_loop(x, positions):
    table = cos_sin(positions, inv_freq(16))
    cos, sin = (t if t.ndim == 2 else t[:, 0] for t in table)
    return np.stack([turn_half(x[:, h], cos, sin) for h in range(x.shape[1])], axis=1)


@right(HALF)
def whole_turns_taken_off(x, positions):
    rows = positions if positions.ndim == 1 else positions[:, None]
    turns = rows[..., None] * (inv_freq(16) / (2 * np.pi))
    angles = 2 * np.pi * (turns - np.rint(turns))
    return turn_half(x, np.cos(angles), np.sin(angles))


@right(HALF)
def two_reflections(x, positions):
    cos, sin = cos_sin(positions, inv_freq(16))
    x1, x2 = x[..., :8], -x[..., 8:]  # the first reflection
    return np.concatenate([x1 * cos + x2 * sin, x1 * sin - x2 * cos], axis=-1).astype(x.dtype)


# --- Tables.


@right(HALF, made=True)
def table_of_4096():
    cos, sin = cos_sin(np.arange(4096), inv_freq(16))

    def fn(x, positions):
        rows = positions if positions.ndim == 1 else positions[:, None]
        return turn_half(x, cos[rows], sin[rows])  # raises beyond

    return fn


@right(RoPE(32, layout="interleaved"), made=True)
def table_of_2048_in_float32():
    cos, sin = (t.astype(np.float32) for t in cos_sin(np.arange(2048), inv_freq(32)))

    def fn(x, positions):
        rows = positions if positions.ndim == 1 else positions[:, None]
        return turn_interleaved(x, cos[rows], sin[rows])

    return fn


@right(HALF, made=True)
def one_table_for_cos_and_sin():
    """vLLM's cache, for tokens of all rows one after another."""
    cache = np.concatenate(cos_sin(np.arange(131072), inv_freq(16)), axis=-1).astype(np.float32)

    def fn(x, positions):
        flat = np.broadcast_to(positions, (x.shape[0], x.shape[2])).reshape(-1)
        cos, sin = np.split(cache[flat][:, None, :], 2, axis=-1)
        tokens = x.transpose(0, 2, 1, 3).reshape(-1, x.shape[1], 16)
        y = turn_half(tokens, cos, sin).reshape(x.shape[0], x.shape[2], x.shape[1], 16)
        return np.ascontiguousarray(y.transpose(0, 2, 1, 3))

    return fn


@right(PAIRS, made=True)
def table_that_grows():
    made = [np.empty((0, 8)), np.empty((0, 8))]

    def fn(x, positions):
        length = int(positions.max()) + 1
        if length > len(made[0]):
            made[:] = cos_sin(np.arange(2 * length), inv_freq(16))
        rows = positions if positions.ndim == 1 else positions[:, None]
        return turn_interleaved(x, made[0][rows], made[1][rows])

    return fn


@right(HALF, made=True)
def tables_of_two_levels():
    """Angles of position = 1024 high + low are added."""
    low = np.exp(1j * np.arange(1024)[:, None] * inv_freq(16))
    high = np.exp(1j * 1024 * np.arange(1024)[:, None] * inv_freq(16))

    def fn(x, positions):
        rows = positions if positions.ndim == 1 else positions[:, None]
        turn = high[rows // 1024] * low[rows % 1024]
        return turn_half(x, turn.real.astype(np.float32), turn.imag.astype(np.float32))

    return fn


@right(HALF, made=True)
def table_by_adding_angles():
    one = np.exp(1j * inv_freq(16))
    table = np.cumprod(np.vstack([np.ones(8), np.tile(one, (4095, 1))]), axis=0)

    def fn(x, positions):
        turn = table[positions if positions.ndim == 1 else positions[:, None]]
        return turn_half(x, turn.real, turn.imag)

    return fn


@right(HALF, made=True)
def remembered_positions():
    @functools.cache
    def row(position):
        return np.cos(position * inv_freq(16)), np.sin(position * inv_freq(16))

    def fn(x, positions):
        rows = [[row(p) for p in each] for each in np.atleast_2d(positions).tolist()]
        cos, sin = np.moveaxis(np.array(rows), 2, 0)[:, :, None]
        return turn_half(x, cos, sin)

    return fn


# --- Precision and dtypes.


@right(HALF32)
def angles_in_float32(x, positions):
    frequencies = (1.0 / np.float32(10000) ** (np.arange(0, 16, 2, dtype=np.float32) / 16)).astype(
        np.float32
    )
    rows = positions if positions.ndim == 1 else positions[:, None]
    angles = rows.astype(np.float32)[..., None] * frequencies
    return turn_half(x, np.cos(angles), np.sin(angles))


@right(RoPE(128, layout="half", precision="float32", base=1000000.0))
def powers_of_a_logarithm_in_float32(x, positions):
    """inv_freq = exp(−2i/d · ln base), as ESM and many notebooks have it."""
    exponents = np.arange(0, 128, 2, dtype=np.float32) * np.float32(-math.log(1000000.0) / 128)
    rows = positions if positions.ndim == 1 else positions[:, None]
    angles = rows.astype(np.float32)[..., None] * np.exp(exponents)
    return turn_half(x, np.cos(angles), np.sin(angles))


@right(RoPE(64, layout="half", precision="float32", base=500000.0))
def powers_of_two_in_float32(x, positions):
    """The logarithm of the base is rounded, and its product again."""
    exponents = np.arange(32, dtype=np.float32) / 32 * np.float32(math.log2(500000.0))
    rows = positions[:, None] if positions.ndim == 2 else positions
    angles = rows.astype(np.float32)[..., None] * np.exp2(-exponents)
    return turn_half(x, np.cos(angles), np.sin(angles))


@right(HALF32)
def exact_where_float32_would_do(x, positions):
    return turn_half(x, *cos_sin(positions, inv_freq(16)))


@right(HALF)
def positions_in_float64(x, positions):
    return turn_half(x, *cos_sin(positions.astype(np.float64), inv_freq(16)))


@right(HALF)
def tables_in_the_dtype_of_x(x, positions):
    cos, sin = (t.astype(x.dtype) for t in cos_sin(positions, inv_freq(16)))
    x1, x2 = x[..., :8], x[..., 8:]
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


@right(PAIRS)
def in_float32_and_back(x, positions):
    cos, sin = (t.astype(np.float32) for t in cos_sin(positions, inv_freq(16)))
    return turn_interleaved(x.astype(np.float32), cos, sin).astype(x.dtype)


@right(HALF)
def float32_only(x, positions):
    if x.dtype != np.float32:
        raise TypeError
    return turn_half(x, *(t.astype(np.float32) for t in cos_sin(positions, inv_freq(16))))


@right(HALF)
def no_float16(x, positions):
    assert x.dtype != np.float16, "float16 is not supported"
    return turn_half(x, *cos_sin(positions, inv_freq(16)))


@right(HALF)
def positions_in_int32(x, positions):
    if positions.max() > np.iinfo(np.int32).max:
        raise OverflowError
    return turn_half(x, *cos_sin(positions.astype(np.int32), inv_freq(16)))


# --- What they take and what they return.


@right(HALF)
def positions_of_a_sequence_only(x, positions):
    (_,) = positions.shape
    return turn_half(x, *cos_sin(positions, inv_freq(16)))


@right(PAIRS)
def positions_of_a_batch_only(x, positions):
    batch, seq = positions.shape
    assert (batch, seq) == (x.shape[0], x.shape[2])
    return turn_interleaved(x, *cos_sin(positions, inv_freq(16)))


@right(HALF)
def heads_last_but_one_and_back(x, positions):
    """The output is a view with other strides."""
    tokens = np.swapaxes(x, 1, 2)
    cos, sin = cos_sin(np.atleast_2d(positions), inv_freq(16))
    return np.swapaxes(turn_half(tokens, cos[:, 0, :, None], sin[:, 0, :, None]), 1, 2)


@right(HALF)
def a_slice_of_a_buffer(x, positions):
    buffer = np.full((*x.shape[:3], 24), np.nan, dtype=x.dtype)
    y = buffer[..., 4:20]
    y[...] = turn_half(x, *cos_sin(positions, inv_freq(16)))
    return y


@right(PAIRS)
def columns_first(x, positions):
    return np.asfortranarray(turn_interleaved(x, *cos_sin(positions, inv_freq(16))))


@right(HALF)
def contiguous_input_only(x, positions):
    if not x.flags.c_contiguous:
        raise ValueError
    return turn_half(x.reshape(-1).reshape(x.shape), *cos_sin(positions, inv_freq(16)))


@right(HALF)
def in_blocks_of_four_tokens(x, positions):
    y = np.empty(x.shape, dtype=x.dtype)
    for start in range(0, x.shape[2], 4):
        some = slice(start, start + 4)
        y[:, :, some] = turn_half(x[:, :, some], *cos_sin(positions[..., some], inv_freq(16)))
    return y


# --- Partial rotations.


@right(RoPE(16, layout="half", rotary_dim=4))
def a_quarter(x, positions):
    rotated = turn_half(x[..., :4], *cos_sin(positions, inv_freq(4)))
    return np.concatenate([rotated, x[..., 4:]], axis=-1)


@right(RoPE(16, layout="interleaved", rotary_dim=8))
def first_half_of_the_features(x, positions):
    y = x.copy()
    y[..., :8] = turn_interleaved(x[..., :8], *cos_sin(positions, inv_freq(8)))
    return y


@right(RoPE(24, layout="interleaved", rotary_start=16))
def latent_tail(x, positions):
    """DeepSeek's head: what does not rotate, then what does."""
    nope, rope = np.split(x, [16], axis=-1)
    return np.concatenate([nope, turn_interleaved(rope, *cos_sin(positions, inv_freq(8)))], axis=-1)


@right(RoPE(20, layout="half", rotary_dim=12, rotary_start=4))
def from_the_fifth_feature_on(x, positions):
    y = x.copy()
    y[..., 4:16] = turn_half(x[..., 4:16], *cos_sin(positions, inv_freq(12)))
    return y


@right(RoPE(16, layout="half", scaling=Proportional(0.25)))
def frequencies_of_zero(x, positions):
    return turn_half(x, *cos_sin(positions, np.where(np.arange(8) < 2, inv_freq(16), 0.0)))


# --- Schedules.

_GAIN = 0.1 * math.log(4.0) + 1
_SHORT = (1.0, 1.05, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0)
_LONG = (1.0, 1.2, 1.9, 3.2, 6.0, 11.0, 16.0, 20.0)


@right(RoPE(64, layout="half", scaling=YaRN(4.0, 4096)))
def yarn_4(x, positions):
    return half_with(yarn(64, 10000.0, 4.0, 4096), _GAIN)(x, positions)


@right(RoPE(64, layout="half", base=150000.0, scaling=YaRN(32.0, 4096, truncate=False)))
def yarn_of_gpt_oss(x, positions):
    frequencies = yarn(64, 150000.0, 32.0, 4096, truncate=False)
    return half_with(frequencies, 0.1 * math.log(32.0) + 1)(x, positions)


@right(RoPE(32, layout="interleaved", rotary_dim=16, scaling=YaRN(4.0, 4096)))
def yarn_of_a_part(x, positions):
    cos, sin = cos_sin(positions, yarn(16, 10000.0, 4.0, 4096), _GAIN)
    return np.concatenate([turn_interleaved(x[..., :16], cos, sin), x[..., 16:]], axis=-1)


@right(RoPE(128, layout="half", base=500000.0, scaling=Llama3(8.0, 1.0, 4.0, 8192)))
def llama_3_1(x, positions):
    return half_with(llama3(128, 500000.0, 8.0, 1.0, 4.0, 8192))(x, positions)


@right(RoPE(16, layout="half", scaling=Linear(4.0)))
def interpolated_positions(x, positions):
    return half_with(inv_freq(16))(x, positions / 4.0)


@right(RoPE(16, layout="half", scaling=NTK(8.0)))
def larger_base(x, positions):
    return half_with(inv_freq(16, 10000.0 * 8.0 ** (16 / 14)))(x, positions)


@right(RoPE(16, layout="half", scaling=DynamicNTK(2.0, 2048)))
def dynamic_within_its_context(x, positions):
    if positions.max() >= 2048:
        raise ValueError
    return half_with(inv_freq(16))(x, positions)


@right(RoPE(16, layout="half", scaling=LongRoPE(_SHORT, _LONG, 4096, factor=32.0)))
def short_factors(x, positions):
    gain = math.sqrt(1 + math.log(32.0) / math.log(4096))
    return half_with(inv_freq(16) / _SHORT, gain)(x, positions)


@right(RoPE(16, layout="half", scaling=FrequencyFactors(_LONG)))
def divided_angles(x, positions):
    return half_with(inv_freq(16) / np.array(_LONG))(x, positions)


@right(RoPE(16, layout="half", scaling=Negated()))
def against_the_sign(x, positions):
    """As nanochat does, on purpose."""
    cos, sin = cos_sin(positions, inv_freq(16))
    return turn_half(x, cos, -sin)


# --- torch, as its model files have it.


def _frequencies_of_torch(dim, base=10000.0):
    import torch

    return 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)


@right(HALF32, library="torch", made=True)
def llama_in_transformers():
    import torch

    frequencies = _frequencies_of_torch(16)

    def fn(x, positions):
        rows = torch.atleast_2d(positions)
        angles = rows[:, :, None].float() * frequencies
        table = torch.cat((angles, angles), dim=-1)
        cos, sin = table.cos().to(x.dtype).unsqueeze(1), table.sin().to(x.dtype).unsqueeze(1)
        x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * cos + torch.cat((-x2, x1), dim=-1) * sin

    return fn


@right(PAIRS32, library="torch", made=True)
def complex_table_of_llama():
    import torch

    angles = torch.outer(torch.arange(4096).float(), _frequencies_of_torch(16))
    table = torch.polar(torch.ones_like(angles), angles)

    def fn(x, positions):
        z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        rows = table[positions] if positions.ndim == 1 else table[positions].unsqueeze(1)
        return torch.view_as_real(z * rows).flatten(3).type_as(x)

    return fn


@right(RoPE(16, layout="interleaved", rotary_dim=8, precision="float32"), library="torch")
def gpt_j(x, positions):
    import torch

    angles = torch.atleast_2d(positions).float()[:, None, :, None] * _frequencies_of_torch(8)
    sin, cos = (t.repeat_interleave(2, dim=-1) for t in (angles.sin(), angles.cos()))
    part, rest = x[..., :8], x[..., 8:]
    partner = torch.stack((-part[..., 1::2], part[..., ::2]), dim=-1).flatten(-2)
    return torch.cat(((part * cos + partner * sin).to(x.dtype), rest), dim=-1)


@right(RoPE(64, layout="half", rotary_dim=16, precision="float32"), library="torch", made=True)
def gpt_neox():
    import torch

    angles = torch.outer(torch.arange(2048).float(), _frequencies_of_torch(16))
    table = torch.cat((angles, angles), dim=-1)[None, None]
    cos, sin = table.cos(), table.sin()

    def fn(x, positions):
        rows = torch.atleast_2d(positions)[:, None, :, None].expand(-1, -1, -1, 16)
        c = torch.gather(cos.expand(len(rows), -1, -1, -1), 2, rows)
        s = torch.gather(sin.expand(len(rows), -1, -1, -1), 2, rows)
        part, rest = x[..., :16], x[..., 16:]
        partner = torch.cat((-part[..., 8:], part[..., :8]), dim=-1)
        return torch.cat(((part * c + partner * s).to(x.dtype), rest), dim=-1)

    return fn


@right(PAIRS, library="torch")
def torch_in_float64(x, positions):
    import torch

    with torch.no_grad():
        frequencies = 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
        angles = torch.atleast_2d(positions)[:, None, :, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        a, b = x.double().unflatten(-1, (8, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)


@right(HALF, library="torch", made=True)
def torch_out_of_two_chunks():
    """Tables in float32 of exact angles, half precision rotated in float32; positions (seq,) only."""
    import torch

    angles = torch.arange(8192, dtype=torch.float64)[:, None] * torch.from_numpy(inv_freq(16))
    cos, sin = angles.cos().float(), angles.sin().float()

    def fn(x, positions):
        if positions.ndim != 1:
            raise ValueError
        x1, x2 = x.float().chunk(2, dim=-1)
        c, s = cos[positions], sin[positions]
        out = torch.empty_like(x)
        out[..., :8], out[..., 8:] = x1 * c - x2 * s, x2 * c + x1 * s
        return out

    return fn


# --- JAX.


@right(HALF32, library="jax", made=True)
def timescales():
    """Of flax and MaxText: positions are divided by base^(2i/d)."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def fn(x, positions):
        timescale = 10000.0 ** (jnp.arange(0, 16, 2, dtype=jnp.float32) / 16)
        angles = jnp.atleast_2d(positions)[:, None, :, None].astype(jnp.float32) / timescale
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)

    return fn


@right(PAIRS, library="jax", made=True)
def sin_and_cos_of_a_host_table():
    """GPT-J's own code: tables by NumPy, each value twice; none beyond 4096."""
    import jax
    import jax.numpy as jnp

    made = (
        np.repeat(t.astype(np.float32), 2, axis=-1) for t in cos_sin(np.arange(4096), inv_freq(16))
    )
    cos, sin = map(jnp.asarray, made)

    @jax.jit
    def turn(x, rows):
        partner = jnp.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)
        return (x * cos[rows] + partner * sin[rows]).astype(x.dtype)

    def fn(x, positions):
        if int(positions.max()) >= 4096:
            raise IndexError
        return turn(x, jnp.atleast_2d(positions)[:, None])

    return fn


@right(HALF32, library="jax", made=True)
def one_token_at_a_time_under_vmap():
    import jax
    import jax.numpy as jnp

    frequencies = 10000.0 ** (-jnp.arange(0, 16, 2) / 16)

    def token(x, position):
        cos, sin = jnp.cos(position * frequencies), jnp.sin(position * frequencies)
        x1, x2 = x[:8].astype(jnp.float32), x[8:].astype(jnp.float32)
        return jnp.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos]).astype(x.dtype)

    heads = jax.vmap(jax.vmap(token), in_axes=(0, None))

    def fn(x, positions):
        rows = jnp.broadcast_to(positions, (x.shape[0], x.shape[2]))
        return jax.jit(jax.vmap(heads))(jnp.asarray(x), rows)

    return fn
