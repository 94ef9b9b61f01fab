"""Masks by order, window, document and ancestry, against loops over tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_xp import RoPE
from rope_xp.attention import attention, causal_mask, tree_mask
from rope_xp.positions import packed_documents, packed_positions, tree_positions

INTEGERS = ("int8", "uint8", "int32", "uint32", "int64", "uint64")
# Two branches of the first draft, one of which goes on, and a draft beside the first.
PARENTS = [-1, 0, 0, 2, -1, 2]
SEEN = [{0}, {0, 1}, {0, 2}, {0, 2, 3}, {4}, {0, 2, 5}]


def visible(q, k, q_document=0, k_document=0, window=None, sinks=0):
    """Whether one query sees one key."""
    if q_document != k_document or q_document < 0 or k > q:
        return False
    return window is None or q - k < window or (sinks > 0 and k < sinks)


def table(q, k, q_documents=None, k_documents=None, **rule):
    q_documents, k_documents = q_documents or [0] * len(q), k_documents or [0] * len(k)
    return [
        [visible(m, n, a, b, **rule) for n, b in zip(k, k_documents, strict=True)]
        for m, a in zip(q, q_documents, strict=True)
    ]


@pytest.mark.x64
@pytest.mark.parametrize("rule", [{}, {"window": 1}, {"window": 3}, {"window": 2, "sinks": 2}])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
def test_window_and_sinks(lib, rule, dtype):
    q, k = [5, 0, 3, 9], [0, 1, 2, 3, 4, 5, 9, 7]
    got = causal_mask(lib.array(q, dtype), lib.array(k), **rule)
    assert lib.numpy(got).tolist() == table(q, k, **rule)


@pytest.mark.parametrize("rule", [{}, {"window": 2}, {"window": 2, "sinks": 1}])
def test_packed_sequences_do_not_see_each_other(lib, rule):
    """The last two tokens are padding: they see nothing, and nothing sees them."""
    q, documents = [0, 1, 2, 3, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1, -1, -1]
    at, of = lib.array(q), lib.array(documents)
    got = lib.numpy(causal_mask(at, at, q_documents=of, k_documents=of, **rule))
    assert got.tolist() == table(q, q, documents, documents, **rule)
    assert not got[6:].any()
    assert not got[:, 6:].any()


def test_rows_have_documents_of_their_own(lib):
    q, documents = [0, 1, 0], [[3, 3, 5], [7, 7, 7]]
    got = causal_mask(
        lib.array(q),
        lib.array(q),
        q_documents=lib.array(documents),
        k_documents=lib.array(documents),
    )
    assert tuple(got.shape) == (2, 1, 3, 3)
    for row, of in zip(lib.numpy(got)[:, 0], documents, strict=True):
        assert row.tolist() == table(q, q, of, of)
    one = lib.array([documents[0]])
    got = causal_mask(lib.array([q, q]), lib.array(q), q_documents=one, k_documents=one[0, :])
    assert lib.numpy(got)[:, 0].tolist() == [table(q, q, documents[0], documents[0])] * 2


@pytest.mark.x64
@pytest.mark.parametrize("q_dtype", INTEGERS)
@pytest.mark.parametrize("k_dtype", INTEGERS)
def test_documents_of_any_integer_types(lib, q_dtype, k_dtype):
    """Large numbers of one dtype are not the negative ones of another."""
    ends = {
        "int8": [-1, 127],
        "uint8": [0, 255],
        "int32": [-1, 2**31 - 1],
        "uint32": [0, 2**32 - 1],
    }
    ends |= {"int64": [-1, 2**63 - 1], "uint64": [2**63 - 1, 2**64 - 1]}
    if not lib.has_float64:
        ends["int64"], ends["uint64"] = ends["int32"], ends["uint32"]

    def array(numbers, dtype):
        made = np.asarray(numbers, dtype=ends_dtype(lib, dtype))
        return made if lib.name == "numpy" else lib.xp.asarray(made, device=lib.device)

    if lib.name == "dask":
        pytest.skip("NumPy's arithmetic, which numpy tests")
    q, k = ends[q_dtype], ends[k_dtype]
    zeros = array([0, 0], "int8")
    got = causal_mask(zeros, zeros, q_documents=array(q, q_dtype), k_documents=array(k, k_dtype))
    assert lib.numpy(got).tolist() == table([0, 0], [0, 0], q, k)


def ends_dtype(lib, name):
    return name if lib.has_float64 else name.replace("64", "32")


@pytest.mark.eager
@pytest.mark.x64
def test_a_window_at_the_ends_of_integers(lib):
    """Distances beyond the dtype are longer than any window."""
    bits = 64 if lib.has_float64 else 32
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    q, k = [high, 0, low], [low, low + 1, -2, 0, high - 1, high]
    for window in (1, 2, high):
        got = causal_mask(
            lib.array(q, f"int{bits}"), lib.array(k, f"int{bits}"), window=window, sinks=high
        )
        assert lib.numpy(got).tolist() == table(q, k, window=window, sinks=high)
        got = causal_mask(lib.array(q, f"int{bits}"), lib.array(k, f"int{bits}"), window=window)
        assert lib.numpy(got).tolist() == table(q, k, window=window)


def test_a_packed_text_is_as_alone(lib, rng):
    """Attention over a pack is that over each of its texts."""
    rope, sums = RoPE(8, layout="half"), [0, 3, 3, 8]
    x = rng.standard_normal((2, 10, 8)).astype(np.float32)
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    at, of = packed_positions(lib.array(sums), 10), packed_documents(lib.array(sums), 10)
    turned = rope(lib.array(x), positions=at)
    mask = causal_mask(at, at, q_documents=of, k_documents=of)
    got = lib.numpy(attention(turned, turned, lib.array(x), bias=mask))
    for begin, end in ((0, 3), (3, 8)):
        alone = rope(lib.array(x[:, begin:end]))
        alone = attention(alone, alone, lib.array(x[:, begin:end]), causal=True)
        np.testing.assert_allclose(got[:, begin:end], lib.numpy(alone), atol=1e-6)
    np.testing.assert_array_equal(got[:, 8:], 0)


def test_tree_mask(lib):
    want = [[k in seen for k in range(6)] for seen in SEEN]
    assert lib.numpy(tree_mask(lib.array(PARENTS))).tolist() == want
    rows = tree_mask(lib.array([PARENTS, [-1, 0, 1, 2, 3, 4]], "int32"))
    assert tuple(rows.shape) == (2, 1, 6, 6)
    np.testing.assert_array_equal(lib.numpy(rows)[:, 0], [want, np.tril(np.ones((6, 6), bool))])


def test_tree_positions(lib):
    at = tree_positions(lib.array(PARENTS), offset=7)
    assert lib.numpy(at).tolist() == [7, 8, 8, 9, 7, 9]
    rows = tree_positions(lib.array([PARENTS]), offset=lib.array([0, 4]))
    assert lib.numpy(rows).tolist() == [[0, 1, 1, 2, 0, 2], [4, 5, 5, 6, 4, 6]]


@given(st.data(), st.integers(1, 40))
def test_a_tree_is_its_paths(data, n):
    """The ancestors of a token are found by going up, one step at a time."""
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(n)]
    mask, at = tree_mask(parents), tree_positions(parents, offset=3)
    for i in range(n):
        path, token = [], i
        while token >= 0:
            path.append(token)
            token = parents[token]
        assert np.flatnonzero(mask[i]).tolist() == sorted(path)
        assert at[i] == 3 + len(path) - 1


@given(st.integers(1, 8), st.integers(8, 20))
def test_a_window_of_the_whole_is_no_window(length, window):
    at = np.arange(length)
    np.testing.assert_array_equal(causal_mask(at, at, window=window), causal_mask(at, at))
