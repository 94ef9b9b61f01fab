"""Error messages of `attention` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, ROPE, X, assert_refused

from rope_xp import RoPE, attention, positions
from rope_xp.positions import Tokens

NEAR_AND_FAR = positions.ReRoPE(2)(np.arange(5), np.arange(5))
SEEN = np.ones((5, 5), bool)
CACHE = attention.KVCache.empty((2, 3, 9, 8))
HALF = CACHE._replace(length=np.asarray([1, 8]))


def documents_mask(q_documents, k_documents):
    at = np.arange(3)
    return attention.causal_mask(at, at, q_documents=q_documents, k_documents=k_documents)


CASES = [
    pytest.param(
        lambda: attention.causal_mask(np.arange(3), np.arange(6).reshape(1, 2, 3)),
        ValueError,
        "`k_positions` must have shape (seq,) or (batch, seq), got (1, 2, 3)",
        id="mask axes",
    ),
    pytest.param(
        lambda: attention.causal_mask(np.ones((2, 3)), np.ones((3, 3))),
        ValueError,
        "`k_positions` must have the batch of `q_positions`, 2, or 1, got 3",
        id="mask batch",
    ),
    pytest.param(
        lambda: attention.causal_mask(np.arange(3), np.arange(3), q_documents=np.zeros(3, int)),
        ValueError,
        "`q_documents` and `k_documents` must be given together, got only `q_documents`",
        id="mask documents alone",
    ),
    pytest.param(
        lambda: documents_mask(np.zeros(2, int), np.zeros(3, int)),
        ValueError,
        "`q_documents` must have shape (seq,) or (batch, seq) with seq=3 as `q_positions`, got (2,)",
        id="mask documents",
    ),
    pytest.param(
        lambda: documents_mask(np.zeros((2, 3), int), np.zeros((4, 3), int)),
        ValueError,
        "`k_documents` must have the batch of `q_documents`, 2, or 1, got 4",
        id="mask documents batch",
    ),
    pytest.param(
        lambda: documents_mask(np.zeros(3), np.zeros(3, int)),
        TypeError,
        "`q_documents` must be integer, got float64",
        id="mask documents real",
    ),
    pytest.param(
        lambda: attention.causal_mask(np.arange(3), np.arange(3), window=0),
        ValueError,
        "`window` must be in [1, 9223372036854775807], or None for no window, got 0",
        id="mask window",
    ),
    pytest.param(
        lambda: attention.causal_mask(np.arange(3), np.arange(3), window=2.0),
        TypeError,
        "`window` must be an int, got 2.0",
        id="mask window float",
    ),
    pytest.param(
        lambda: attention.causal_mask(np.arange(3), np.arange(3), window=2, sinks=-1),
        ValueError,
        "`sinks` must be in [0, 9223372036854775807], got -1",
        id="mask sinks",
    ),
    pytest.param(
        lambda: attention.attention_mask(Tokens(np.zeros((3, 2, 5)))),
        ValueError,
        "`q_tokens.order` must be given where positions have several axes, got None and positions of "
        "shape (3, 2, 5)",
        id="tokens of several axes",
    ),
    pytest.param(
        lambda: attention.attention_mask(Tokens(np.arange(3), order=np.zeros((1, 1, 3)))),
        ValueError,
        "`q_tokens.order` must have shape (seq,) or (batch, seq), got (1, 1, 3)",
        id="tokens order",
    ),
    pytest.param(
        lambda: attention.attention_mask(np.arange(3), Tokens(np.arange(4), images=np.arange(3))),
        ValueError,
        "`k_tokens.images` must have shape (seq,) or (batch, seq) with seq=4 as `k_tokens.positions`, "
        "got (3,)",
        id="tokens images",
    ),
    pytest.param(
        lambda: attention.flex_mask_mod(Tokens(np.arange(3), walk=np.zeros((3, 3), int))),
        ValueError,
        "`q_tokens.walk` must have shape (2, seq) or (2, batch, seq) with seq=3 as `q_tokens.positions`, "
        "got (3, 3)",
        id="tokens walk",
    ),
    pytest.param(
        lambda: attention.attention_mask(
            Tokens(np.zeros((2, 3)), walk=np.zeros((2, 4, 3), int)), np.arange(3)
        ),
        ValueError,
        "`q_tokens.walk` must have the batch of `q_tokens.positions`, 2, or 1, got 4",
        id="tokens walk batch",
    ),
    pytest.param(
        lambda: attention.attention_mask(np.arange(3), causal=1),
        TypeError,
        "`causal` must be True or False, got 1",
        id="tokens causal",
    ),
    pytest.param(
        lambda: attention.attention_mask("abc"),
        TypeError,
        "`q_tokens` must be an array",
        id="tokens text",
    ),
    pytest.param(
        lambda: attention.tree_mask(np.asarray([-1, 1])),
        ValueError,
        "`parents` must be -1 or the index of an earlier draft token, got 1 for token 1",
        id="parents itself",
    ),
    pytest.param(
        lambda: attention.tree_mask(np.asarray([[-1, 0], [-1, -2]])),
        ValueError,
        "`parents` must be -1 or the index of an earlier draft token, got -2 for token 1",
        id="parents negative",
    ),
    pytest.param(
        lambda: attention.tree_mask(np.asarray(0)),
        ValueError,
        "`parents` must have shape (n,) or (batch, n), got ()",
        id="parents axes",
    ),
    pytest.param(
        lambda: attention.tree_mask(np.asarray([-1.0])),
        TypeError,
        "`parents` must be integer, got float64",
        id="parents real",
    ),
    pytest.param(
        lambda: attention.attention(X, np.ones((2, 2, 5, 8), F32), np.ones((2, 2, 5, 8), F32)),
        ValueError,
        "`q` must have a multiple of the heads of `k`, got (2, 3, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8)",
        id="heads",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X[:, :, :4]),
        ValueError,
        "`k` and `v` must have the same shape except for the last axis",
        id="kv",
    ),
    pytest.param(
        lambda: attention.attention(X, X[..., :4], X),
        ValueError,
        "`q` and `k` must have the same last axis (head_dim)",
        id="head sizes",
    ),
    pytest.param(
        lambda: attention.attention(X, X[0], X[0]),
        ValueError,
        "`q`, `k` and `v` must have the same number of axes",
        id="attention axes",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X.astype(int)),
        TypeError,
        "`v` must be one of float16",
        id="attention type",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, bias=np.ones((5, 5), int)),
        TypeError,
        "`bias` must be one of float16",
        id="bias type",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=None),
        TypeError,
        "`ranges` must be a sequence of (q, k, where), got None",
        id="ranges type",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[X, X]),
        TypeError,
        "`ranges[0]` must be (q, k, where), got numpy.ndarray of shape (2, 3, 5, 8) and dtype float32",
        id="range type",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=NEAR_AND_FAR),
        TypeError,
        "`ranges[0]` must be (q, k, where), as `rotate_ranges` returns them, got positions",
        id="range of positions",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[(X[:1], X, SEEN)]),
        ValueError,
        "`ranges[0][0]` must have the shape of `q`, (2, 3, 5, 8), got (1, 3, 5, 8)",
        id="range of other queries",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[(X, X[0], SEEN)]),
        ValueError,
        "`ranges[0][1]` must have the shape of `k`, (2, 3, 5, 8), got (3, 5, 8)",
        id="range of other keys",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[(X, X.astype(int), SEEN)]),
        TypeError,
        "`ranges[0][1]` must be one of float16",
        id="range dtype",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[(X, X, SEEN.astype(int))]),
        TypeError,
        "`ranges[0][2]` must be boolean, got int64",
        id="range mask dtype",
    ),
    pytest.param(
        lambda: attention.attention(X, X, X, ranges=[(X, X, SEEN), (X, X, SEEN[:4])]),
        ValueError,
        "`ranges[1][2]` must broadcast to the scores (..., heads, q_len, k_len), (2, 3, 5, 5), got (4, 5)",
        id="range mask shape",
    ),
    pytest.param(
        lambda: attention.rotate_ranges(None, X, X, NEAR_AND_FAR),
        TypeError,
        "`rope` must be a RoPE, got None",
        id="ranges rope",
    ),
    pytest.param(
        lambda: attention.rotate_ranges(ROPE, X, X, positions.ReRoPE(2)),
        TypeError,
        "`ranges` must be positions of ranges, as ReRoPE(window=2, factor=None)(q_positions, k_positions) "
        "returns them, got ReRoPE(window=2, factor=None)",
        id="ranges scheme",
    ),
    pytest.param(
        lambda: attention.rotate_ranges(ROPE, X, X, [(1, 2, 3)]),
        TypeError,
        "`ranges` must be positions of ranges, as a scheme of rope_xp.positions returns them, got [(1, 2, 3)]",
        id="ranges none",
    ),
    pytest.param(
        lambda: attention.rotate_ranges(ROPE, X[..., :4, :], X, NEAR_AND_FAR),
        ValueError,
        "`positions` must have shape (seq,) or (batch, seq) with seq=4 (axis 2 of `q`), got (5,)",
        id="ranges length",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X[:, :2], X[:, :2]),
        ValueError,
        "`q` must have a multiple of the heads of `k`, got (2, 3, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8)",
        id="linear heads",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X.astype(int), X),
        TypeError,
        "`k` must be one of float16",
        id="linear type",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, rope=1e4),
        TypeError,
        "`rope` must be a RoPE or None, got 10000.0",
        id="linear rope",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, rope=RoPE(4, layout="half")),
        ValueError,
        "`rope` must have head_dim=8, the width of the features, got RoPE(4, layout='half')",
        id="linear rope size",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, k_positions=np.arange(5)),
        ValueError,
        "`k_positions` must be None without a `rope` that rotates, got an array",
        id="linear no rope",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, rope=ROPE, q_positions=np.arange(5)),
        ValueError,
        "`q_positions` and `k_positions` must be given together, got only `q_positions`",
        id="linear one position",
    ),
    pytest.param(
        lambda: attention.linear_attention(
            X, X, X, rope=ROPE, q_positions=np.arange(5), k_positions=np.arange(4)
        ),
        ValueError,
        "`k_positions` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (4,)",
        id="linear positions",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, feature_map="elu"),
        TypeError,
        "`feature_map` must be callable or None, got 'elu'",
        id="feature map",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, feature_map=lambda x: x[:, 0]),
        ValueError,
        "`feature_map` must keep all axes except the last, got (2, 5, 8) from (2, 3, 5, 8)",
        id="feature map shape",
    ),
    pytest.param(
        lambda: attention.linear_attention(X, X, X, feature_map=lambda x: x.tolist()),
        TypeError,
        "`feature_map(q)` must be an array of a library",
        id="feature map type",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((2, 3, 4, 8)).append(X, X),
        ValueError,
        "`k` must fit into the cache of 4 tokens (0 used), got 5",
        id="full",
    ),
    pytest.param(
        lambda: CACHE.append(X[0, 0, 0], X),
        ValueError,
        "`k` must have shape (2, 3, seq, 8), got (8,)",
        id="cache axes",
    ),
    pytest.param(
        lambda: CACHE.append(X, X[:, :, :4]),
        ValueError,
        "`v` must have shape (2, 3, 5, 8), got (2, 3, 4, 8)",
        id="cache v",
    ),
    pytest.param(
        lambda: CACHE.append(X.astype(int), X),
        TypeError,
        "`k` must have the dtype of the cache, float32, or both must be floating, got int64",
        id="cache int",
    ),
    pytest.param(
        lambda: CACHE.append(X, X.astype(complex)),
        TypeError,
        "`v` must have the dtype of the cache, float32, or both must be floating, got complex128",
        id="cache complex",
    ),
    pytest.param(
        lambda: CACHE._replace(length=True).append(X, X),
        TypeError,
        "`length` must be an int, got True",
        id="length bool",
    ),
    pytest.param(
        lambda: CACHE._replace(length=2.0).drop(1, ROPE),
        TypeError,
        "`length` must be an int, got 2.0",
        id="length float",
    ),
    pytest.param(
        lambda: CACHE._replace(length=np.int64(-1)).append(X, X),
        ValueError,
        "`length` must be in [0, 9], the capacity, got -1",
        id="length negative",
    ),
    pytest.param(
        lambda: CACHE._replace(length=10).append(X, X),
        ValueError,
        "`length` must be in [0, 9], the capacity, got 10",
        id="length beyond",
    ),
    pytest.param(
        lambda: CACHE._replace(length=np.asarray([1, 2, 3])).append(X, X),
        ValueError,
        "`length` must be an int or have shape (batch=2,), got (3,)",
        id="length of rows",
    ),
    pytest.param(
        lambda: CACHE.drop(1, None), TypeError, "`rope` must be a RoPE, got NoneType", id="no rope"
    ),
    pytest.param(
        lambda: CACHE.drop(1, ROPE, seq_len=(40,)),
        TypeError,
        "`seq_len` must be an int without `axes`, got (40,)",
        id="a length for each axis of one",
    ),
    pytest.param(
        lambda: CACHE.keep(np.array([0]), ROPE, seq_len=-4),
        ValueError,
        "`seq_len` must be positive, got -4",
        id="a negative length in use",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((8,)),
        ValueError,
        "`shape` must be (..., capacity, head_dim), non-negative, got (8,)",
        id="empty shape",
    ),
    pytest.param(
        lambda: attention.KVCache(X[0, 0, 0], X[0, 0, 0], 1).drop(1, ROPE),
        ValueError,
        r"`k` must have shape (..., capacity, head_dim), got (8,)",
        id="a cache without capacity",
    ),
    pytest.param(
        lambda: attention.KVCache(X, X[..., :2, :], 1).append(X[..., :1, :], X[..., :1, :]),
        ValueError,
        r"`v` must have shape (..., capacity=5, head_dim), got (2, 3, 2, 8)",
        id="a cache of two capacities",
    ),
    pytest.param(
        lambda: attention.KVCache([[1.0]], [[1.0]], 1).drop(1, ROPE),
        TypeError,
        "`k` must be an array of a library",
        id="a cache of lists",
    ),
    pytest.param(
        lambda: CACHE.drop(10**400, ROPE),
        ValueError,
        "`n` and `keep` must be within the 0 tokens of the cache, got an int of 1329 bits and 0",
        id="a huge drop",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((10**9, 10**9)),
        ValueError,
        "`shape` must be at most 2**48, which no memory holds, got 1000000000000000000",
        id="a huge cache",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((1, 4.0, 8)),
        TypeError,
        "`shape` must be an int, got 4.0",
        id="empty float",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((2, 4, 9, 8)).append(X, X),
        ValueError,
        "`k` must have shape (2, 4, 5, 8), got (2, 3, 5, 8)",
        id="cache shape",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((2, 3, 9, 8)).append(X, X).drop(4, ROPE, keep=2),
        ValueError,
        "`n` and `keep` must be within the 5 tokens of the cache, got 4 and 2",
        id="drop",
    ),
    pytest.param(
        lambda: HALF.append(X[..., :2, :], X[..., :2, :]),
        ValueError,
        "`k` must fit into the cache of 9 tokens (8 used in row 1), got 2",
        id="a row that is full",
    ),
    pytest.param(
        lambda: HALF.append(X, X, counts=[5, 2]),
        ValueError,
        "`k` must fit into the cache of 9 tokens (8 used in row 1), got 2",
        id="tokens of a row",
    ),
    pytest.param(
        lambda: CACHE.append(X, X, counts=[6, 0]),
        ValueError,
        "`counts` must be in [0, 5], got 6",
        id="counts",
    ),
    pytest.param(
        lambda: CACHE.append(X, X, counts=np.ones((2, 5), int)),
        ValueError,
        "`counts` must be an int or have shape (batch=2,), got (2, 5)",
        id="counts of tokens",
    ),
    pytest.param(
        lambda: CACHE.append(X, X, positions=[0, 1]),
        ValueError,
        "`positions` must have shape (seq,) or (batch, seq) with seq=5 (axis 2 of `k`), got (2,)",
        id="positions of tokens",
    ),
    pytest.param(
        lambda: (
            attention.KVCache.empty((1, 300, 8))
            ._replace(length=np.asarray([200], "u1"))
            .append(X[0, :1], X[0, :1])
        ),
        TypeError,
        "`length` must have a dtype that holds 300, got uint8",
        id="narrow lengths",
    ),
    pytest.param(
        lambda: HALF.crop([3, 9]),
        ValueError,
        "`length` must be at most that of the cache, [1, 8], got [3, 9]",
        id="crop to more",
    ),
    pytest.param(lambda: HALF.crop(1.0), TypeError, "`length` must be an int, got 1.0", id="crop"),
    pytest.param(
        lambda: HALF.keep([0, 3]),
        ValueError,
        "`indices` must be in [0, length), [1, 8], got 3",
        id="keep what is not there",
    ),
    pytest.param(
        lambda: HALF.keep([-1]),
        ValueError,
        "`indices` must be in [0, length), [1, 8], got -1",
        id="keep from the end",
    ),
    pytest.param(
        lambda: HALF.keep([[0], [0], [0]]),
        ValueError,
        "`indices` must have shape (n,) or (batch=2, n), got (3, 1)",
        id="keep of other rows",
    ),
    pytest.param(
        lambda: HALF.keep([0] * 10),
        ValueError,
        "`indices` must be at most 9, the capacity, got 10",
        id="keep too many",
    ),
    pytest.param(
        lambda: HALF.keep([0.5]),
        TypeError,
        "`indices` must be integer, got float64",
        id="keep real",
    ),
    pytest.param(
        lambda: HALF.keep([0], "rope"), TypeError, "`rope` must be a RoPE, got str", id="keep rope"
    ),
    pytest.param(
        lambda: CACHE.mask([0, 1], tree=np.ones((2, 2))),
        TypeError,
        "`tree` must be boolean, got float64",
        id="a tree of numbers",
    ),
    pytest.param(
        lambda: CACHE.mask([0, 1], tree=np.ones((3, 3), bool)),
        ValueError,
        "`tree` must have shape (q_len=2, n), (batch, q_len, n) or (batch, 1, q_len, n), n at most 9, "
        "got (3, 3)",
        id="a tree of other queries",
    ),
    pytest.param(
        lambda: attention.KVCache.empty((2, 9, 8), v_dim=-1),
        ValueError,
        "`v_dim` must be non-negative, got -1",
        id="width of values",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 4, 8), ROPE, sinks=4),
        ValueError,
        "`sinks` must be in [0, 4), the capacity, got 4",
        id="sinks",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 4, 6), ROPE),
        ValueError,
        "`sinks` must be in [0, 4), the capacity, got 4",
        id="sinks by default",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 9, 6), ROPE),
        ValueError,
        "`shape` must end in head_dim=8 of `rope`, got 6",
        id="window head_dim",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 9, 8), None),
        TypeError,
        "`rope` must be a RoPE, got NoneType",
        id="window rope",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 3, 6, 8), ROPE, sinks=2).append(X, X),
        ValueError,
        "`k` must have at most 4 tokens, as the window has, got 5",
        id="more than the window",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 3, 9, 8), ROPE)._replace(length=-1).append(X, X),
        ValueError,
        "`length` must be in [0, 2147483647], got -1",
        id="window length",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 9, 8), ROPE)._replace(turn=ROPE).positions,
        TypeError,
        "`turn` must be what `WindowCache.empty` makes of a RoPE, got RoPE(8, layout=",
        id="window turn",
    ),
    pytest.param(
        lambda: attention.WindowCache.empty((2, 9, 8), ROPE)._replace(first_k=X).positions,
        ValueError,
        "`first_k` must be as `k`, of shape (2, sinks, 8), got",
        id="window sinks",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
