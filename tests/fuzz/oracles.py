"""What the public functions compute, of plain NumPy arrays and Python values, in float64 or exactly.

An oracle returns the result, None where another law than equality holds, or raises what it likes for
arguments that it does not understand. Like `reference` it imports nothing from rope_xp.
"""

import itertools
import math

import mpmath
import numpy as np
import reference


def number(value):
    """A Python number."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, int) else float(value)


def cos_sin_of(positions, inv_freq):
    """cos and sin of exact products, (..., n_pairs); of several axes, of their exact sum."""
    rows = np.asarray(inv_freq, dtype=np.float64)
    if rows.ndim == 1:
        rows, positions = rows[None], np.asarray(positions)[None]
    shape = (*positions.shape[1:], rows.shape[1])
    made = np.full((2, *shape), math.nan)
    with mpmath.workprec(420):
        for *at, i in np.ndindex(shape):
            driving = [a for a in range(len(rows)) if rows[a, i]] or [0]
            where = [number(positions[a, *at]) for a in driving]
            if all(map(math.isfinite, where)):
                weights = [float(rows[a, i]) for a in driving]
                made[:, *at, i] = [*map(float, reference.exact_cos_sin_of_sum(where, weights))]
    return made[0], made[1]


def cos_sin(positions, inv_freq, dtype=None, precision="exact", attention_factor=1.0):
    if precision == "float32":
        f32 = np.float32
        rows = np.asarray(inv_freq, f32)
        if rows.ndim > 1:
            return None
        angles = (positions.astype(f32)[..., None] * rows).astype(float)
        cos, sin = np.cos(angles), np.sin(angles)
    else:
        cos, sin = cos_sin_of(positions, inv_freq)
    return cos * float(attention_factor), sin * float(attention_factor)


def rotate(x, cos, sin, layout, seq_axis=-2, rotary_start=0, inverse=False, blocks=None, out=None):
    x = x.astype(float)
    seq_axis %= x.ndim
    known = {1: [], 2: [seq_axis], 3: [0, seq_axis]}.get(cos.ndim)
    known = [*range(x.ndim - 1)] if cos.ndim == x.ndim else known
    index = (*(slice(None) if i in known else None for i in range(x.ndim - 1)), slice(None))
    cos, sin = cos[index].astype(float), sin[index].astype(float) * (-1 if inverse else 1)
    result, column, start = x.copy(), 0, rotary_start
    for width in blocks or (2 * cos.shape[-1],):
        for a, b in reference.pairs(layout, width // 2, start):
            c, s = cos[..., column], sin[..., column]
            result[..., a] = x[..., a] * c - x[..., b] * s
            result[..., b] = x[..., a] * s + x[..., b] * c
            column += 1
        start += width
    return result


def rotate_at(rope, x, positions, factor, seq_axis=-2, seq_len=None, inverse=False):
    cos, sin = cos_sin_of(positions, rope.frequencies(seq_len).inv_freq)
    blocks = None if rope.axes is None else rope.axes.blocks(rope.rotary_dim)
    return rotate(
        x, cos * factor, sin * factor, rope.layout, seq_axis, rope.rotary_start, inverse, blocks
    )


def positions_of(rope, q, positions, offset, seq_axis):
    if positions is None:
        steps = np.arange(q.shape[seq_axis], dtype=object)
        at = np.asarray(offset).astype(object)
        positions = at[..., None] + steps if at.ndim else number(offset) + steps
        positions = positions if rope.axes is None else np.stack([positions] * rope.axes.n_axes)
    return np.asarray(positions)


def turn(self, q, k=None, positions=None, offset=0, seq_len=None, seq_axis=-2, inverse=False):
    if self.precision == "float32":
        return None
    factor = self.frequencies(seq_len).attention_factor
    factor = 1 / factor if inverse else factor
    positions = positions_of(self, q, positions, offset, seq_axis)
    made = [
        rotate_at(self, x, positions, factor, seq_axis, seq_len, inverse)
        for x in (q, k)
        if x is not None
    ]
    return made[0] if k is None else tuple(made)


def unturn(**arguments):
    return turn(**arguments, inverse=True)


def shift(self, k, delta, seq_len=None, seq_axis=-2):
    if self.precision == "float32":
        return None
    delta = np.asarray(delta)
    if self.axes is not None and delta.ndim == 0:
        delta = np.stack([delta] * self.axes.n_axes)
    return rotate_at(self, k, delta, 1.0, seq_axis, seq_len)


def tables(self, positions, seq_len=None, dtype=None):
    if self.precision == "float32":
        return None
    factor = self.frequencies(seq_len).attention_factor
    return tuple(
        t * factor for t in cos_sin_of(np.asarray(positions), self.frequencies(seq_len)[0])
    )


def rotate_with(self, x, cos, sin, seq_axis=-2, inverse=False, out=None):
    blocks = None if self.axes is None else self.axes.blocks(self.rotary_dim)
    return rotate(x, cos, sin, self.layout, seq_axis, self.rotary_start, inverse, blocks)


def sinusoidal(positions, dim, base=10000.0, order="interleaved", shift=0.0, axes=None, dtype=None):
    if axes is not None:
        return None
    n = dim // 2
    inv_freq = [float(base) ** (-i / (n - shift)) for i in range(n)]
    cos, sin = cos_sin_of(positions, inv_freq)
    if order == "interleaved":
        return np.stack((sin, cos), -1).reshape(*positions.shape, dim)
    return np.concatenate((cos, sin) if order == "cos_sin" else (sin, cos), -1)


def convert_layout(x, source, target, head_dim, rotary_dim=None, rotary_start=0, axis=-1):
    width = head_dim - rotary_start if rotary_dim is None else rotary_dim
    order = np.arange(head_dim)
    for old, new in zip(
        *(reference.pairs(p, width // 2, rotary_start) for p in (source, target)), strict=True
    ):
        order[list(new)] = old
    heads = x.shape[axis] // head_dim
    return np.take(x, [h * head_dim + o for h in range(heads) for o in order], axis)


def xpos_scale(positions, n_pairs, scale_base=512.0, center=0, dtype=None):
    steps = np.vectorize(lambda p: float(number(p) - number(center)), [float])(positions)
    zeta = (np.arange(n_pairs) / n_pairs + 0.4) / 1.4
    return np.exp(steps[..., None] * np.log(zeta) / float(scale_base))


# -- positions -------------------------------------------------------------------------------------


def token_positions(n, offset=0, xp=None, dtype=None, device=None):
    return np.asarray(offset).astype(object)[..., None] + np.arange(n, dtype=object)


def packed_positions(cu_seqlens, total):
    sums = [int(s) for s in cu_seqlens]
    ends = [i for i, s in enumerate(sums) if s > 0]
    sums = sums[: ends[-1] + 1] if ends else sums[:1]
    return np.asarray([t - max(s for s in sums if s <= t) for t in range(total)], dtype=int)


def packed_documents(cu_seqlens, total):
    sums = [int(s) for s in cu_seqlens]
    last = max(sums)
    sums = sums[: sums.index(last) + 1]
    return np.asarray(
        [sum(s <= t for s in sums) - 1 if t < last else -1 for t in range(total)], int
    )


def paths(parents):
    """Each draft token with its ancestors, row by row."""
    rows = []
    for row in np.reshape(parents, (-1, np.shape(parents)[-1])).tolist():
        found = []
        for i, parent in enumerate(row):
            found.append({i} | (found[parent] if parent >= 0 else set()))
        rows.append(found)
    return rows


def tree_positions(parents, offset=0):
    made = [[offset + len(path) - 1 for path in row] for row in paths(parents)]
    return np.reshape(made, np.shape(parents))


def tree_mask(parents):
    n = np.shape(parents)[-1]
    made = np.asarray([[[k in path for k in range(n)] for path in row] for row in paths(parents)])
    return made[0] if np.ndim(parents) == 1 else made[:, None]


def shard_indices(seq_len, rank, world_size, order="zigzag", cu_seqlens=None, **_):
    sums = [0, seq_len] if cu_seqlens is None else [int(s) for s in cu_seqlens]
    own = (rank, 2 * world_size - 1 - rank) if order == "zigzag" else (rank,)
    found = []
    for begin, end in itertools.pairwise([*sums, seq_len]):
        n = (end - begin) // (len(own) * world_size)
        found += [begin + chunk * n + i for chunk in own for i in range(n)]
    return np.asarray(found, dtype=object)


def mask_positions(mask):
    return np.maximum(np.cumsum(mask.astype(bool), -1) - 1, 0)


def mask_grid_positions(mask, n_axes=2, scale=None, dtype=None):
    counts = [np.cumsum(mask.astype(bool), axis) for axis in range(-n_axes, 0)]
    if scale is not None:
        counts = [
            c / (np.take(c, [-1], axis) + 1e-6) * scale
            for c, axis in zip(counts, range(-n_axes, 0), strict=True)
        ]
    return np.stack(counts)


def zigzag_positions(seq_len, rank, world_size, xp=None, dtype=None, device=None):
    n = seq_len // (2 * world_size)
    starts = rank * n, (2 * world_size - 1 - rank) * n
    return np.asarray([s + i for s in starts for i in range(n)], dtype=object)


def grid_positions(*shape, indexing="ij", offset=0, merge=1, xp=None, dtype=None, device=None):
    axes = [range(number(a)) if np.ndim(a) == 0 else [*map(number, a)] for a in shape]
    steps = offset if isinstance(offset, (tuple, list)) else [offset] * len(axes)
    axes = [[v + number(s) for v in axis] for axis, s in zip(axes, steps, strict=True)]
    if len(axes) == 1:
        return np.asarray(axes)
    if indexing == "xy":
        first, second, *others = axes
        made = reference.grid(second, first, *others, merge=merge)
        return np.asarray([made[1], made[0], *made[2:]])
    return np.asarray(reference.grid(*axes, merge=merge))


def time_axis(n, step, rate=None, truncate=False):
    if rate is None and not truncate:
        return tuple(k * step for k in range(n))
    rate = 1 if rate is None else rate
    times = [np.float32(k) * np.float32(step) * np.float32(rate) for k in range(n)]
    return tuple(int(time) if truncate else float(time) for time in times)


def text_image_positions(parts, merge=1, advance="side", chunk=None, offset=0, padding=(0, 0), **_):
    if offset or any(padding):
        return None
    made, end = reference.text_and_vision(as_times(parts), merge, advance, chunk)
    return np.asarray(made), end


def text_image_types(parts, merge=1, chunk=None, padding=(0, 0), **_):
    if any(padding):
        return None
    types = []
    for part in as_times(parts):
        if isinstance(part, int) or part[0] == "audio":
            types += [0] * part if isinstance(part, int) else [3] * part[1]
            continue
        times, h, w, *sound = part
        n = len(times) * (h // merge) * (w // merge)
        if not sound:
            types += [1 if len(times) == 1 else 2] * n
            continue
        # Rows of their own tell apart what has equal positions.
        seen = [(time, "seen") for time in times for _ in range(n // len(times))]
        heard = [(i, "heard") for i in range(sound[0])]
        order = reference.seen_and_heard(seen, heard, 0, chunk)
        types += [0, 0, *({"seen": 2, "heard": 3}[kind] for _, kind in order), 0, 0]
    return np.asarray(types)


def as_times(parts):
    return [
        p
        if isinstance(p, int) or p[0] == "audio" or not isinstance(p[0], int)
        else (range(p[0]), *p[1:])
        for p in parts
    ]


# -- relative, analysis ----------------------------------------------------------------------------


def outer(function, q_positions, k_positions):
    """function(m, n) of Python numbers, (..., q_len, k_len)."""
    shape = np.broadcast_shapes(q_positions[..., None].shape, k_positions[..., None, :].shape)
    pairs = np.broadcast(q_positions[..., None], k_positions[..., None, :])
    return np.asarray([function(number(m), number(n)) for m, n in pairs], object).reshape(shape)


def difference(m, n):
    exact = all(isinstance(p, int) for p in (m, n))
    if exact or not all(map(math.isfinite, (m, n))):
        return n - m
    with mpmath.workprec(2200):
        return float(mpmath.mpf(n) - mpmath.mpf(m))


def relative_positions(q_positions, k_positions):
    return outer(difference, q_positions, k_positions)


def alibi_slopes(n_heads, bias_max=8.0, heads=None, xp=None, dtype=None, device=None):
    slopes = np.asarray(reference.alibi_slopes(n_heads, bias_max))
    return slopes if heads is None else slopes[heads if isinstance(heads, slice) else [*heads]]


def alibi_bias(
    q_positions,
    k_positions,
    n_heads,
    slopes=None,
    bias_max=8.0,
    heads=None,
    form="distance",
    dtype=None,
):
    if slopes is None:
        slopes = alibi_slopes(n_heads, bias_max, heads)
    slopes = np.asarray(slopes)[:, None, None]
    if form == "key":
        return slopes * k_positions.astype(float)[..., None, None, :]
    far = outer(lambda m, n: abs(float(difference(m, n))), q_positions, k_positions).astype(float)
    return -slopes * far[..., None, :, :]


def clipped_index(q_positions, k_positions, max_distance):
    far = int(max_distance)
    return outer(lambda m, n: max(-far, min(n - m, far)) + far, q_positions, k_positions)


def shaw_score(q, k, key_table, index):
    table = key_table.astype(float)[index]
    index_axes = "bijd" if index.ndim == 3 else "ijd"
    q, k = q.astype(float), k.astype(float)
    q_axes = "bhid" if index.ndim == 3 else "...hid"
    relative = np.einsum(f"{q_axes},{index_axes}->{q_axes[:-1]}j", q, table)
    return q @ np.swapaxes(k, -1, -2) + relative


def t5_bucket(relative_position, bidirectional=True, num_buckets=32, max_distance=128):
    made = [
        reference.t5_bucket(int(r), bidirectional, num_buckets, max_distance)
        for r in relative_position.flat
    ]
    return None if None in made else np.asarray(made, int).reshape(relative_position.shape)


def transformer_xl_score(q, k, r, u, v):
    q, k, r, u, v = (a.astype(float) for a in (q, k, r, u, v))
    q_len, k_len = q.shape[-2], k.shape[-2]
    scores = (q + u[:, None]) @ np.swapaxes(k, -1, -2)
    terms = (q + v[:, None]) @ np.swapaxes(r, -1, -2)
    for i, j in itertools.product(range(q_len), range(k_len)):
        row = q_len - 1 - i + j
        scores[..., i, j] += terms[..., i, row] if row < r.shape[-2] else 0
    return scores


def wavelengths(inv_freq):
    inv_freq = np.asarray(inv_freq, float)
    return np.asarray([2 * math.pi / abs(w) if w else math.inf for w in inv_freq.flat]).reshape(
        inv_freq.shape
    )


def turns(inv_freq, length):
    return number(length) * np.abs(np.asarray(inv_freq, float)) / (2 * math.pi)


def partial_sums(distance, inv_freq):
    cos, sin = cos_sin_of(np.asarray(distance), inv_freq)
    return np.abs(np.cumsum(cos + 1j * sin, -1))


def decay_bound(distance, inv_freq, dtype=None):
    return partial_sums(distance, inv_freq).mean(-1)


def advantage(distance, inv_freq, dtype=None):
    return cos_sin_of(np.asarray(distance), inv_freq)[0].sum(-1)


def products(q, k, layout):
    first, second = map(list, zip(*reference.pairs(layout, q.shape[-1] // 2), strict=True))
    q, k = (x[..., first].astype(float) + 1j * x[..., second].astype(float) for x in (q, k))
    return q * k.conj()


def score_curve(q, k, distance, inv_freq, layout, dtype=None):
    cos, sin = cos_sin_of(np.asarray(distance), inv_freq)
    return (products(q, k, layout) * (cos + 1j * sin)).real.sum(-1)


def abel_bound(q, k, distance, inv_freq, layout, dtype=None):
    h = products(q, k, layout)
    steps = np.abs(np.concatenate((h[..., 1:], 0 * h[..., :1]), -1) - h).max(-1)
    return steps * partial_sums(distance, inv_freq).sum(-1)


def context_bound(inv_freq, limit=2**20):
    return (reference.first_negative(inv_freq, limit),)  # in a tuple: it may be None


# -- attention -------------------------------------------------------------------------------------


def shared(q, k):
    return k if q.ndim < 3 else np.repeat(k, q.shape[-3] // k.shape[-3], -3)


def query_scale(self, positions):
    kind = type(self).__name__

    def factor(p):
        at = number(p) + self.offset
        if not -math.inf < at < math.inf:
            return math.nan
        if kind == "FloorLogScale":
            return 1 + self.beta * math.log1p(max(at // self.length, 0))
        at = at / self.length
        if kind == "PowerScale":
            return (1 + max(at, 0)) ** self.beta
        beta = 1 / math.log(self.length) if self.beta is None else self.beta
        return 1 + beta * math.log(max(at, 1))

    return np.vectorize(factor, [float])(positions)


def learned_scale(self, positions, weight, bias):
    weight, bias = (x.astype(float)[:, None] for x in (weight, bias))
    log = np.log(positions.astype(float) + self.offset)[..., None, :]
    scale = weight * log + bias
    return scale if scale.ndim == 3 else scale[None]


def attention(q, k, v, causal=False, bias=None, scale=None, query_scale=None):
    q, k, v = (x.astype(float) for x in (q, k, v))
    if query_scale is not None:
        factors = query_scale.astype(float)
        if factors.ndim == 2 and q.ndim > 3:
            factors = factors[:, None]
        q = q * factors[..., None]
    k, v = shared(q, k), shared(q, v)
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        i, j = np.ogrid[: q.shape[-2], : k.shape[-2]]
        scores = np.where(j <= i + k.shape[-2] - q.shape[-2], scores, -math.inf)
    if bias is not None:
        is_mask = bias.dtype == bool
        scores = np.where(bias, scores, -math.inf) if is_mask else scores + bias.astype(float)
    peak = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(peak), peak, 0))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


def linear_attention(
    q, k, v, rope=None, causal=False, q_positions=None, k_positions=None, seq_len=None,
    feature_map=None,
):  # fmt: skip
    if feature_map is not None:
        return None
    q, k, v = (x.astype(float) for x in (q, k, v))
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    q_len, k_len = q.shape[-2], k.shape[-2]
    turned_q, turned_k = q, k
    if rope is not None:
        if q_positions is None:
            q_positions, k_positions = np.arange(k_len - q_len, k_len), np.arange(k_len)
        turned_q, turned_k = (
            rotate_at(rope, x, np.asarray(p), 1.0) for x, p in ((q, q_positions), (k, k_positions))
        )
    i, j = np.ogrid[:q_len, :k_len]
    mask = (j <= i + k_len - q_len) | (not causal)
    above, below = (
        np.where(mask, a @ np.swapaxes(shared(a, b), -1, -2), 0)
        for a, b in ((turned_q, turned_k), (q, k))
    )
    below = below.sum(-1, keepdims=True)
    return np.where(below == 0, 0, above @ shared(q, v) / np.where(below == 0, 1, below))


def attention_mask(q_tokens, k_tokens, causal=True, window=None, sinks=0):
    def sees(m, n):
        near = window is None or (
            difference(m, n) > -window and (causal or difference(m, n) < window)
        )
        return (not causal or n <= m) and (near or (sinks > 0 and n < sinks))

    mask = outer(sees, q_tokens, k_tokens).astype(bool)
    return mask if mask.ndim == 2 else mask[..., None, :, :]


def causal_mask(q_positions, k_positions, q_documents=None, k_documents=None, **rule):
    mask = attention_mask(q_positions, k_positions, **rule)
    if q_documents is not None:
        same = outer(lambda a, b: a == b, q_documents, k_documents).astype(bool)
        mask = mask & (same if same.ndim == 2 else same[..., None, :, :])
    return mask


def empty(shape, xp=None, dtype=None, device=None):
    return np.zeros(shape), np.zeros(shape), 0


def append(self, k, v):
    length = int(self.length)
    made = []
    for old, new in ((self.k, k), (self.v, v)):
        made.append(old.astype(float))
        made[-1][..., length : length + new.shape[-2], :] = new
    return (*made, length + k.shape[-2])


def drop(self, n, rope, keep=0, seq_len=None):
    k, v = self.k.astype(float), self.v.astype(float)
    k[..., keep + n :, :] = rotate_at(rope, k[..., keep + n :, :], np.asarray(-n), 1.0)
    k, v = (
        np.concatenate((x[..., :keep, :], x[..., keep + n :, :], 0 * x[..., :n, :]), -2)
        for x in (k, v)
    )
    left = int(self.length) - n
    k[..., left:, :] = v[..., left:, :] = 0
    return k, v, left
