"""Error messages of `attention` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, ROPE, X, assert_refused

from rope_xp import RoPE, attention

CACHE = attention.KVCache.empty((2, 3, 9, 8))

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
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
