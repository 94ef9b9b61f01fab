"""Laws that hold for every input, tried by hypothesis on NumPy in float64."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import rope_xp
from rope_xp import RoPE, attention
from rope_xp.positions import packed_positions, token_positions

FAR = st.integers(-(2**29), 2**29)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def ropes(draw):
    head_dim = draw(st.integers(2, 12))
    start = draw(st.integers(0, head_dim - 2))
    n_pairs = draw(st.integers(1, (head_dim - start) // 2))
    return RoPE(
        head_dim,
        layout=draw(st.sampled_from(["half", "interleaved"])),
        base=draw(st.sampled_from([1.0, 2.5, 100.0, 10000.0, 5e5])),
        rotary_dim=2 * n_pairs,
        rotary_start=start,
        precision=draw(st.sampled_from(["exact", "exact", "float32"])),
    )


def vectors(rope, seed, *shape):
    return np.random.default_rng(seed).standard_normal((*shape, rope.head_dim))


def close(a, b, atol=1e-13):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@given(ropes(), SEEDS, FAR)
def test_norms_are_kept(rope, seed, m):
    x = vectors(rope, seed, 3)
    atol = 1e-13 if rope.precision == "exact" else 1e-5
    close(np.linalg.norm(rope(x, offset=m), axis=-1), np.linalg.norm(x, axis=-1), atol)


@given(ropes(), SEEDS, FAR, FAR, FAR)
def test_scores_depend_on_the_difference_only(rope, seed, m, n, step):
    rope = RoPE(**{**vars_of(rope), "precision": "exact"})
    x = vectors(rope, seed, 2)

    def score(a, b):
        y = rope(x, positions=np.asarray([a, b]))
        return y[0] @ y[1]

    close(score(m, n), score(m + step, n + step))


def vars_of(rope):
    names = ("head_dim", "layout", "base", "rotary_dim", "rotary_start")
    return {name: getattr(rope, name) for name in names}


@given(ropes(), SEEDS, FAR, FAR)
def test_rotations_add(rope, seed, m, n):
    rope = RoPE(**vars_of(rope))
    x = vectors(rope, seed, 1)
    close(rope(rope(x, offset=m), offset=n), rope(x, offset=m + n))
    close(rope.shift(rope(x, offset=m), n), rope(x, offset=m + n))


@given(ropes(), SEEDS, FAR)
def test_inverse_undoes_and_position_zero_is_nothing(rope, seed, m):
    x = vectors(rope, seed, 2)
    atol = 1e-13 if rope.precision == "exact" else 1e-5
    close(rope.inverse(rope(x, offset=m), offset=m), x, atol)
    np.testing.assert_array_equal(rope(x[:1]), x[:1])


@given(ropes(), SEEDS, FAR)
def test_layouts_conjugate(rope, seed, m):
    other = {"half": "interleaved", "interleaved": "half"}[rope.layout]
    twin = RoPE(**{**vars_of(rope), "layout": other, "precision": rope.precision})
    parts = {name: vars_of(rope)[name] for name in ("head_dim", "rotary_dim", "rotary_start")}
    x = vectors(rope, seed, 2)

    def there(a):
        return rope_xp.convert_layout(a, source=rope.layout, target=other, **parts)

    np.testing.assert_array_equal(there(rope(x, offset=m)), twin(there(x), offset=m))


@given(ropes(), SEEDS, st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_packed_is_each_sequence_by_itself(rope, seed, lengths):
    starts = np.cumsum([0, *lengths])
    x = vectors(rope, seed, int(starts[-1]))
    packed = rope(x, positions=packed_positions(starts, int(starts[-1])))
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        np.testing.assert_array_equal(packed[begin:end], rope(x[begin:end]))


@given(ropes(), SEEDS, st.integers(0, 7), FAR)
def test_chunks_with_offset_are_the_whole(rope, seed, cut, m):
    x = vectors(rope, seed, 7)
    chunks = [rope(x[:cut], offset=m), rope(x[cut:], offset=m + cut)]
    np.testing.assert_array_equal(np.concatenate(chunks), rope(x, offset=m))


@given(ropes(), SEEDS, FAR)
def test_float32_is_float64_rounded(rope, seed, m):
    x = vectors(rope, seed, 2).astype(np.float32)
    rope = RoPE(**vars_of(rope))
    wide = rope(x.astype(np.float64), offset=m)
    close(rope(x, offset=m), wide, 5e-7 * np.abs(x).max())


@settings(max_examples=30)
@given(ropes(), SEEDS, st.integers(0, 2**30))
def test_causal_attention_is_the_same_at_every_offset(rope, seed, m):
    """The whole of attention, not only a score."""
    rope = RoPE(**vars_of(rope))
    q, k, v = vectors(rope, seed, 3, 5)

    def attended(offset):
        return attention.attention(*rope(q, k, offset=offset), v, causal=True)

    close(attended(m), attended(0))


@given(st.integers(0, 9), FAR)
def test_positions_count(n, m):
    np.testing.assert_array_equal(token_positions(n, offset=m), range(m, m + n))
