"""A slow reference implementation in plain Python: complex numbers, loops, and mpmath for exact angles.

It imports nothing from rope_xp and has nothing in common with it except the definition.
"""

import cmath
import functools
import itertools
import math

import mpmath

mpmath.mp.prec = 160  # enough for positions of 31 bits, and frequencies and results of 53


def inv_freq(rotary_dim, base=10000.0):
    """base^(−2i / rotary_dim)."""
    return [base ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2)]


@functools.cache
def exact_cos_sin(position, frequency):
    """cos and sin of the real number integer · float64, as mpmath numbers."""
    angle = mpmath.mpf(position) * mpmath.mpf(frequency)
    return mpmath.cos(angle), mpmath.sin(angle)


def exact_cos_sin_of_sum(coordinates, frequencies):
    """cos and sin of the real number Σ coordinate · float64, with a frequency for each axis."""
    angle = sum(
        mpmath.mpf(m) * mpmath.mpf(w) for m, w in zip(coordinates, frequencies, strict=True)
    )
    return mpmath.cos(angle), mpmath.sin(angle)


def pairs(layout, n_pairs, start=0):
    """The two features of each pair."""
    if layout == "half":
        return [(start + i, start + i + n_pairs) for i in range(n_pairs)]
    return [(start + 2 * i, start + 2 * i + 1) for i in range(n_pairs)]


def rotate_vector(vector, position, frequencies, layout, start=0):
    """The features of one token, each pair as a complex number times e^{i position θ}."""
    result = [float(v) for v in vector]
    for frequency, (first, second) in zip(
        frequencies, pairs(layout, len(frequencies), start), strict=True
    ):
        cos, sin = exact_cos_sin(int(position), float(frequency))
        turned = complex(result[first], result[second]) * complex(float(cos), float(sin))
        result[first], result[second] = turned.real, turned.imag
    return result


def rotate_on_axes(vector, coordinates, pairs_of):
    """The features of one token, each pair as a complex number times e^{i Σ coordinate θ}.

    ``pairs_of`` contains the two features of each pair and its frequency along each axis.
    """
    result = [float(v) for v in vector]
    for first, second, frequencies in pairs_of:
        cos, sin = exact_cos_sin_of_sum(map(int, coordinates), frequencies)
        turned = complex(result[first], result[second]) * complex(float(cos), float(sin))
        result[first], result[second] = turned.real, turned.imag
    return result


def rotate(x, positions, frequencies, layout, start=0):
    """Nested lists (..., seq, head_dim), with the positions (seq,) of the tokens."""
    if isinstance(x[0][0], (list, tuple)):
        return [rotate(part, positions, frequencies, layout, start) for part in x]
    return [
        rotate_vector(v, p, frequencies, layout, start) for v, p in zip(x, positions, strict=True)
    ]


def axial(widths, base, layout, split=False):
    """Axial encoding in blocks: the features of each pair, and a frequency for each axis."""
    made, feature, pair = [], 0, 0
    for axis, width in enumerate(widths):
        for j in range(width // 2):
            frequencies = [0.0] * len(widths)
            frequencies[axis] = base ** (-2 * j / width)
            if layout == "interleaved":
                features = (2 * pair, 2 * pair + 1)
            elif split:
                features = (feature + j, feature + j + width // 2)
            else:
                features = (pair, pair + sum(widths) // 2)
            made.append((*features, frequencies))
            pair += 1
        feature += width
    return made


def assigned(axes, n_axes, base, layout):
    """One list of frequencies, and an axis for each pair."""
    made = []
    for i, (axis, (first, second)) in enumerate(zip(axes, pairs(layout, len(axes)), strict=True)):
        frequencies = [0.0] * n_axes
        frequencies[axis] = base ** (-i / len(axes))
        made.append((first, second, frequencies))
    return made


def dense(matrix, layout):
    """Each pair with its own direction; a row of the matrix for each axis."""
    columns = list(zip(*matrix, strict=True))
    features = pairs(layout, len(columns))
    return [(a, b, list(column)) for (a, b), column in zip(features, columns, strict=True)]


def score(q, k, m, n, frequencies, layout):
    """Re Σ q_i conj(k_i) e^{i(m−n)θ_i}: RoFormer's g(q, k, m − n)."""
    total = 0.0
    for frequency, (a, b) in zip(frequencies, pairs(layout, len(frequencies)), strict=True):
        product = complex(q[a], q[b]) * complex(k[a], k[b]).conjugate()
        total += (product * cmath.exp(1j * (m - n) * frequency)).real
    return total


def partial_sums(distance, frequencies):
    """S_1 … S_n, where S_j is the sum of the first j of e^{i distance θ}."""
    total, sums = 0j, []
    for frequency in frequencies:
        cos, sin = exact_cos_sin(distance, frequency)
        total += complex(float(cos), float(sin))
        sums.append(total)
    return sums


def decay_bound(distance, frequencies):
    """RoFormer's figure 2: the mean of |S_j|."""
    return sum(abs(s) for s in partial_sums(distance, frequencies)) / len(frequencies)


def abel_bound(q, k, distance, frequencies, layout):
    """max |h_{j+1} − h_j| · Σ |S_{j+1}|, where the last h is followed by zero."""
    h = [
        complex(q[a], q[b]) * complex(k[a], k[b]).conjugate()
        for a, b in pairs(layout, len(frequencies))
    ] + [0j]
    largest = max(abs(h[j + 1] - h[j]) for j in range(len(frequencies)))
    return largest * sum(abs(s) for s in partial_sums(distance, frequencies))


def first_negative(frequencies, limit):
    """The first distance at which Σ cos(m θ) is negative."""
    for m in range(1, limit):
        if sum(math.cos(m * frequency) for frequency in frequencies) < 0:
            return m
    return None


def attention(q, k, v, *, causal, scale):
    """One head: lists (q_len, d), (k_len, d), (k_len, e)."""
    rows = []
    for i, query in enumerate(q):
        limit = i + len(k) - len(q) + 1 if causal else len(k)
        weights = [
            math.exp(scale * sum(a * b for a, b in zip(query, key, strict=True)))
            for key in k[: max(limit, 0)]
        ]
        total = sum(weights)
        rows.append(
            [
                sum(w * value[j] for w, value in zip(weights, v, strict=False)) / (total or 1.0)
                for j in range(len(v[0]))
            ]
        )
    return rows


def elu_plus_one(x):
    return x + 1 if x > 0 else math.exp(x)


def linear_attention(q, k, v, *, causal, q_positions, k_positions, frequencies, layout, phi):
    """RoFormer's eq. 19 for one head, query by query and key by key; no frequencies: no rotation."""
    q, k = ([[phi(x) for x in row] for row in rows] for rows in (q, k))
    turned_q, turned_k = (
        [rotate_vector(row, p, frequencies, layout) for row, p in zip(rows, at, strict=True)]
        for rows, at in ((q, q_positions), (k, k_positions))
    )
    rows = []
    for m in range(len(q)):
        above, below = [0.0] * len(v[0]), 0.0
        for n in range(len(k)):
            if causal and n > m + len(k) - len(q):
                continue
            below += sum(a * b for a, b in zip(q[m], k[n], strict=True))
            weight = sum(a * b for a, b in zip(turned_q[m], turned_k[n], strict=True))
            above = [a + weight * value for a, value in zip(above, v[n], strict=True)]
        rows.append([a / below if below else 0.0 for a in above])
    return rows


def sinusoidal(position, dim, base=10000.0, order="interleaved", shift=0.0):
    """One row of the table."""
    n_pairs = dim // 2
    angles = [position * base ** (-i / (n_pairs - shift)) for i in range(n_pairs)]
    sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
    if order == "sin_cos":
        return sines + cosines
    if order == "cos_sin":
        return cosines + sines
    return [value for pair in zip(sines, cosines, strict=True) for value in pair]


def alibi_slopes(n_heads, bias_max=8.0):
    """Press et al.: a geometric sequence for powers of two, else with every other slope of twice that."""
    if n_heads & (n_heads - 1) == 0:
        return [2.0 ** (-bias_max * k / n_heads) for k in range(1, n_heads + 1)]
    lower = 2 ** int(math.log2(n_heads))
    rest = alibi_slopes(2 * lower, bias_max)[::2]
    return alibi_slopes(lower, bias_max) + rest[: n_heads - lower]


def t5_bucket(relative, bidirectional, num_buckets, max_distance):
    """The bucket of one distance; None within 1e-6 of a boundary, where rounding decides."""
    start, distance = 0, max(-relative, 0)
    if bidirectional:
        num_buckets //= 2
        start, distance = (num_buckets if relative > 0 else 0), abs(relative)
    exact = num_buckets // 2
    if distance < exact:
        return start + distance
    along = math.log(distance / exact) / math.log(max_distance / exact) * (num_buckets - exact)
    if abs(along - round(along)) < 1e-6 and 0 < round(along) < num_buckets - exact:
        return None
    return start + min(exact + math.floor(along + 1e-6), num_buckets - 1)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def shaw_score(q, k, table, q_positions, k_positions, max_distance):
    """One head: q·k + q·a, where a is the row of the clipped distance."""
    return [
        [
            dot(query, key)
            + dot(query, table[max(-max_distance, min(n - m, max_distance)) + max_distance])
            for key, n in zip(k, k_positions, strict=True)
        ]
        for query, m in zip(q, q_positions, strict=True)
    ]


def transformer_xl_score(q, k, vector, u, v):
    """One head; ``vector[distance]`` is r, and a missing one counts as zeros."""
    zeros = [0.0] * len(u)
    return [
        [
            dot([a + b for a, b in zip(query, u, strict=True)], key)
            + dot(
                [a + b for a, b in zip(query, v, strict=True)],
                vector.get(i + len(k) - len(q) - j, zeros),
            )
            for j, key in enumerate(k)
        ]
        for i, query in enumerate(q)
    ]


def grid(*axes, merge=1):
    """Coordinates of each patch: block after block, and row by row within a block."""
    *lead, rows, columns = axes
    patches = []
    for first in itertools.product(*lead):
        for top in range(0, len(rows), merge):
            for left in range(0, len(columns), merge):
                patches += [
                    (*first, row, column)
                    for row in rows[top : top + merge]
                    for column in columns[left : left + merge]
                ]
    return [list(axis) for axis in zip(*patches, strict=True)]


def text_and_vision(parts, merge, advance):
    """(time, row, column) of each token, and one more than the largest coordinate."""
    tokens, start = [], 0
    for part in parts:
        if isinstance(part, int):
            tokens += [(start + i,) * 3 for i in range(part)]
            start += part
            continue
        times, h, w = part
        rows, columns = range(h // merge), range(w // merge)
        seen = [(start + t, start + r, start + c) for t in times for r in rows for c in columns]
        tokens += seen
        start += max(len(rows), len(columns))
        if advance == "max":
            start = max(max(token) for token in seen) + 1
    return [list(axis) for axis in zip(*tokens, strict=True)], 1 + max(max(t) for t in tokens)
