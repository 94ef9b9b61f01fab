"""Error messages of `relative` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, X, assert_refused, shaw, transformer_xl

from rope_xp import relative

CASES = [
    pytest.param(
        lambda: relative.alibi_slopes(0),
        ValueError,
        "`n_heads` must be in [1, 65536], got 0",
        id="slopes",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8.0),
        TypeError,
        "`n_heads` must be an int, got 8.0",
        id="slopes float",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="slopes dtype",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), -2),
        ValueError,
        "`n_heads` must be in [1, 65536], got -2",
        id="alibi heads",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 8, form="bloom"),
        ValueError,
        "`form` must be one of 'distance', 'key', got 'bloom'",
        id="alibi form",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 8, dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16",
        id="alibi dtype",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.ones(3, bool), np.arange(3), 8),
        TypeError,
        "`q_positions` must be integer or real floating, got bool",
        id="alibi bool",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.asarray(3), 8),
        ValueError,
        "`k_positions` must have shape (seq,) or (batch, seq), got ()",
        id="alibi axes",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.ones((2, 3)), np.ones((3, 3)), 8),
        ValueError,
        "`k_positions` must have the batch of `q_positions`, 2, or 1, got 3",
        id="alibi batch",
    ),
    pytest.param(
        lambda: relative.alibi_bias("0", np.arange(3), 8),
        TypeError,
        "`q_positions` must be an array of a library",
        id="alibi text",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, bias_max=0),
        ValueError,
        "`bias_max` must be positive and finite, got 0.0",
        id="bias_max",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, bias_max="8"),
        TypeError,
        "`bias_max` must be a number, got '8'",
        id="bias_max text",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=range(6, 9)),
        ValueError,
        "`heads` must be in [0, n_heads=8), at least one, got range(6, 9)",
        id="heads beyond",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=slice(4, 9)),
        ValueError,
        "`heads` must be in [0, n_heads=8), at least one, got slice(4, 9, None)",
        id="slice beyond",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=[]),
        ValueError,
        "`heads` must be in [0, n_heads=8), at least one, got []",
        id="no heads",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=[-1]),
        ValueError,
        "`heads` must be in [0, n_heads=8), at least one, got [-1]",
        id="heads negative",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=[0, 1.0]),
        TypeError,
        "`heads[1]` must be an int, got 1.0",
        id="heads float",
    ),
    pytest.param(
        lambda: relative.alibi_slopes(8, heads=4),
        TypeError,
        "`heads` must be a range, a slice or a sequence of int, got 4",
        id="heads int",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 8, slopes=np.ones(4)),
        ValueError,
        "`slopes` must have shape (n_heads,) = (8,), got (4,)",
        id="slopes few",
    ),
    pytest.param(
        lambda: relative.alibi_bias(
            np.arange(3), np.arange(3), 8, slopes=np.ones(4), heads=range(4, 8)
        ),
        ValueError,
        "`slopes` must have shape (n_heads,) = (8,), got (4,): `heads` chooses among those of all heads",
        id="slopes of a rank",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 2, slopes=np.ones(2), bias_max=16),
        ValueError,
        "`bias_max` must be left out where `slopes` are given, got 16",
        id="slopes and bias_max",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 2, slopes=[0.5, float("nan")]),
        ValueError,
        "`slopes` must be finite, got array([0.5, nan])",
        id="slopes nan",
    ),
    pytest.param(
        lambda: relative.alibi_bias(np.arange(3), np.arange(3), 2, slopes=np.ones(2, complex)),
        TypeError,
        "`slopes` must be integer or real floating, got complex128",
        id="slopes complex",
    ),
    pytest.param(
        lambda: relative.alibi_bias(
            np.asarray([0]), np.asarray([2**18]), 8, form="key", dtype=np.float16
        ),
        ValueError,
        "`dtype` must hold a bias of 131072, got float16: pass float32 or bfloat16, or form='distance'",
        id="key beyond float16",
    ),
    pytest.param(
        lambda: relative.alibi_bias(
            np.asarray([0]), np.asarray([2**18]), 1, slopes=[-1.0], dtype=np.float16
        ),
        ValueError,
        "`dtype` must hold a bias of 262144, got float16: pass float32 or bfloat16",
        id="negative slope beyond float16",
    ),
    pytest.param(
        lambda: relative.relative_positions(np.asarray([-2, 0]), np.asarray([0, 2**63 - 2])),
        ValueError,
        "`k_positions` must differ from `q_positions` by no more than int64 holds, "
        "got differences from 0 to 9223372036854775808",
        id="relative far",
    ),
    pytest.param(
        lambda: relative.clipped_index(np.arange(3), np.arange(3), -1),
        ValueError,
        "`max_distance` must be in [0, 2**30), got -1",
        id="clip",
    ),
    pytest.param(
        lambda: relative.clipped_index(np.arange(3), np.arange(3), True),
        TypeError,
        "`max_distance` must be an int, got True",
        id="clip bool",
    ),
    pytest.param(
        lambda: relative.clipped_index(np.arange(3), np.arange(3), 2.0),
        TypeError,
        "`max_distance` must be an int, got 2.0",
        id="clip float",
    ),
    pytest.param(
        lambda: relative.clipped_index(np.arange(3), np.ones(3), 2),
        TypeError,
        "`k_positions` must be integer, got float64",
        id="clip real",
    ),
    pytest.param(
        lambda: shaw(q=X[0]),
        ValueError,
        "`q` and `k` must have shape (..., heads, seq, head_dim) with the same head_dim, got (3, 5, 8), (2, 3, 5, 8)",
        id="shaw axes",
    ),
    pytest.param(
        lambda: shaw(k=X[:, :2]),
        ValueError,
        "`k` must have the leading axes of `q`, (2, 3), or 1, got (2, 2)",
        id="shaw heads",
    ),
    pytest.param(
        lambda: shaw(key_table=np.ones((4, 8), F32)),
        ValueError,
        "`key_table` must have shape (2K + 1, 8), got (4, 8)",
        id="shaw table",
    ),
    pytest.param(
        lambda: shaw(key_table=np.ones((3, 4), F32)),
        ValueError,
        "`key_table` must have shape (2K + 1, 8), got (3, 4)",
        id="shaw width",
    ),
    pytest.param(
        lambda: shaw(index=np.ones((5, 4), int)),
        ValueError,
        "`index` must have shape (..., q_len, k_len) = (..., 5, 5), got (5, 4) for `q` of shape (2, 3, 5, 8)",
        id="shaw index",
    ),
    pytest.param(
        lambda: shaw(index=np.ones((3, 5, 5), int)),
        ValueError,
        "`index` must have the leading axes of `q`, (2,), or 1, got (3,)",
        id="shaw batch",
    ),
    pytest.param(
        lambda: shaw(index=np.ones((5, 5))),
        TypeError,
        "`index` must be integer, got float64",
        id="shaw real index",
    ),
    pytest.param(
        lambda: shaw(k=X.astype(int)), TypeError, "`k` must be one of float16", id="shaw type"
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.ones(3)),
        TypeError,
        "`relative_position` must be integer, got float64",
        id="t5 real",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), num_buckets=31),
        ValueError,
        "`num_buckets` must be even and in [4, 65536], got 31",
        id="t5 odd",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), num_buckets=2),
        ValueError,
        "`num_buckets` must be even and in [4, 65536], got 2",
        id="t5 few",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), num_buckets=1, bidirectional=False),
        ValueError,
        "`num_buckets` must be in [2, 65536], got 1",
        id="t5 one",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), num_buckets=32.0),
        TypeError,
        "`num_buckets` must be an int, got 32.0",
        id="t5 buckets float",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3, dtype=np.int8), num_buckets=256),
        ValueError,
        "`num_buckets` must fit the dtype of `relative_position`, int8, got 256",
        id="t5 narrow",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), max_distance=8),
        ValueError,
        "`max_distance` must be in (8, 2**31), got 8",
        id="t5 near",
    ),
    pytest.param(
        lambda: relative.t5_bucket(np.arange(3), max_distance=2**31),
        ValueError,
        "`max_distance` must be in (8, 2**31), got 2147483648",
        id="t5 far",
    ),
    pytest.param(
        lambda: transformer_xl(u=np.ones(8, F32)),
        ValueError,
        "`u` must have shape (heads, head_dim) = (3, 8), got (8,)",
        id="xl bias",
    ),
    pytest.param(
        lambda: transformer_xl(r=np.ones((6, 8), F32)),
        ValueError,
        "`r` must have a row for each distance, k_len or k_len + q_len - 1, 5 or 9, got 6",
        id="xl rows",
    ),
    pytest.param(
        lambda: transformer_xl(r=np.ones((9, 4), F32)),
        ValueError,
        "`r` must have shape (..., rows, head_dim=8), got (9, 4)",
        id="xl width",
    ),
    pytest.param(
        lambda: transformer_xl(r=np.ones((2, 9, 8), F32)),
        ValueError,
        "`r` must have the leading axes of `q`, (2, 3), or 1, got (2,)",
        id="xl heads",
    ),
    pytest.param(
        lambda: transformer_xl(v=np.ones((3, 8), int)),
        TypeError,
        "`v` must be one of float16",
        id="xl type",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
