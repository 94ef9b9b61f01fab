"""Error messages of `positions` state the argument, the rule and the value."""

import numpy as np
import pytest
from message_cases import F32, assert_refused

from rope_xp import positions

AT = np.arange(3)

CASES = [
    pytest.param(
        lambda: positions.SelfExtend(0, 4),
        ValueError,
        "`group_size` must be positive, got 0",
        id="group size",
    ),
    pytest.param(
        lambda: positions.SelfExtend(2, 4.0),
        TypeError,
        "`window` must be an int, got 4.0",
        id="window",
    ),
    pytest.param(
        lambda: positions.ReRoPE(2**31),
        ValueError,
        "`window` must be at most 2147483647, got 2147483648",
        id="window far",
    ),
    pytest.param(
        lambda: positions.ReRoPE(4, 0.5),
        ValueError,
        "`factor` must be at least 1, got 0.5",
        id="rerope factor",
    ),
    pytest.param(
        lambda: positions.DualChunk(8, 8),
        ValueError,
        "`local_size` must be in [0, chunk_size=8), got 8",
        id="local size",
    ),
    pytest.param(
        lambda: positions.DualChunk(8, 2, 1),
        ValueError,
        "`original_max_position_embeddings` must be an int greater than 1, got 1",
        id="dual chunk length",
    ),
    pytest.param(
        lambda: positions.DualChunk(8, 2, 16).softmax_factor(-1),
        ValueError,
        "`seq_len` must be positive, got -1",
        id="dual chunk seq_len",
    ),
    pytest.param(
        lambda: positions.ReRoPE(4)(AT.astype(F32), AT),
        TypeError,
        "`q_positions` must be integer, got float32",
        id="range positions",
    ),
    pytest.param(
        lambda: positions.DualChunk(8, 2)(AT, AT.astype(np.uint64) + 2**63),
        ValueError,
        "`k_positions` must be integers that int64 holds, got 9223372036854775810",
        id="range unsigned",
    ),
    pytest.param(
        lambda: positions.SelfExtend(8, 2)(AT, AT[None, None]),
        ValueError,
        "`k_positions` must have shape (seq,) or (batch, seq), got (1, 1, 3)",
        id="range axes",
    ),
    pytest.param(
        lambda: positions.token_positions(-1),
        ValueError,
        "`n` must be non-negative, got -1",
        id="n",
    ),
    pytest.param(
        lambda: positions.token_positions(3.0),
        TypeError,
        "`n` must be an int, got 3.0",
        id="n float",
    ),
    pytest.param(
        lambda: positions.token_positions(3, dtype=F32),
        TypeError,
        "`dtype` must be an integer dtype, got float32",
        id="positions dtype",
    ),
    pytest.param(
        lambda: positions.token_positions(3, offset=2**63 - 2),
        ValueError,
        "`offset` must keep positions in int64, the default integer dtype here, "
        "got 9223372036854775806 to 9223372036854775808",
        id="token offset",
    ),
    pytest.param(
        lambda: positions.token_positions(3, offset=-2, dtype=np.uint32),
        ValueError,
        "`dtype` must represent the positions -2 to 0 of `offset`, got uint32",
        id="token offset negative",
    ),
    pytest.param(
        lambda: positions.token_positions(300, dtype=np.uint8),
        ValueError,
        "`dtype` must represent the positions 0 to 299 of `n`, got uint8",
        id="token dtype",
    ),
    pytest.param(
        lambda: positions.token_positions(2**63),
        ValueError,
        "`n` must be at most 2**48, which no memory holds, got 9223372036854775808",
        id="n far",
    ),
    pytest.param(
        lambda: positions.token_positions(3, offset=np.asarray([2**63 - 2])),
        ValueError,
        "`offset` must keep positions in int64, the default integer dtype here, "
        "got 9223372036854775806 to 9223372036854775808",
        id="token offsets",
    ),
    pytest.param(
        lambda: positions.token_positions(300, offset=np.asarray([0, 9]), dtype=np.int8),
        ValueError,
        "`dtype` must represent the positions 0 to 308 of `offset`, got int8",
        id="token offsets dtype",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([3, 2]), 6),
        ValueError,
        "`cu_seqlens` must begin with 0, as cumulative sums of lengths do, got 3",
        id="cu_seqlens lengths",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([-1, -1]), 6),
        ValueError,
        "`cu_seqlens` must begin with 0, as cumulative sums of lengths do, got -1",
        id="cu_seqlens padding only",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([0, 3, 2, 5]), 6),
        ValueError,
        "`cu_seqlens` must be cumulative sums of lengths, which never decrease, got 2 after 3 at index 2",
        id="cu_seqlens decrease",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([0, 3, -1, 5]), 6),
        ValueError,
        "`cu_seqlens` must be cumulative sums of lengths, which never decrease, got -1 after 3 at index 2",
        id="cu_seqlens gap",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([0, 2]), 2**63),
        ValueError,
        "`total` must be at most 2**48, which no memory holds, got 9223372036854775808",
        id="total far",
    ),
    pytest.param(
        lambda: positions.mask_positions(np.asarray([0, 1, 2])),
        ValueError,
        "`mask` must be 1 for tokens and 0 for padding, got 2",
        id="mask value",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.asarray([[0, -1, 1]])),
        ValueError,
        "`mask` must be 1 for tokens and 0 for padding, got -1",
        id="grid mask value",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=1e5, dtype=np.float16),
        ValueError,
        "`dtype` must represent the numbers of `scale`, up to 100000.0, got float16",
        id="grid mask scale dtype",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.ones((2, 2), int), 3),
        ValueError,
        "`cu_seqlens` must have shape (n_sequences + 1,), got (2, 2)",
        id="cu_seqlens",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.ones(2), 3),
        TypeError,
        "`cu_seqlens` must be integer, got float64",
        id="cu_seqlens float",
    ),
    pytest.param(
        lambda: positions.packed_documents(np.asarray([3, 2]), 6),
        ValueError,
        "`cu_seqlens` must begin with 0, as cumulative sums of lengths do, got 3",
        id="documents of lengths",
    ),
    pytest.param(
        lambda: positions.tree_positions(np.asarray([[-1], [-1]]), offset=np.arange(3)),
        ValueError,
        "`offset` must have the batch of `parents`, 2, or 1, got 3",
        id="tree offset batch",
    ),
    pytest.param(
        lambda: positions.shard_indices(6, 0, 4, order="contiguous"),
        ValueError,
        "`seq_len` must be a positive multiple of world_size = 4, got 6",
        id="shards contiguous",
    ),
    pytest.param(
        lambda: positions.shard_indices(8, 0, 2, order="ring"),
        ValueError,
        "`order` must be one of 'zigzag', 'contiguous', got 'ring'",
        id="shards order",
    ),
    pytest.param(
        lambda: positions.shard_indices(12, 0, 2, cu_seqlens=np.asarray([0, 4, 10])),
        ValueError,
        "`cu_seqlens` must have sequences of lengths that are multiples of 2 * world_size = 4, got 6 "
        "tokens up to index 2; pad each sequence",
        id="shards lengths",
    ),
    pytest.param(
        lambda: positions.shard_indices(8, 0, 2, cu_seqlens=np.asarray([0, 4, 12])),
        ValueError,
        "`cu_seqlens` must end within `seq_len`, 8, got 12 at index 2",
        id="shards beyond",
    ),
    pytest.param(
        lambda: positions.shard_indices(8, 0, 2, cu_seqlens=np.asarray([4, 8])),
        ValueError,
        "`cu_seqlens` must begin with 0, as cumulative sums of lengths do, got 4",
        id="shards of lengths",
    ),
    pytest.param(
        lambda: positions.shard_indices(400, 0, 2, cu_seqlens=[0, 400], dtype=np.int8),
        ValueError,
        "`dtype` must represent the positions 0 to 399 of `seq_len`, got int8",
        id="shards dtype",
    ),
    pytest.param(
        lambda: positions.Tokens.padded(np.ones((1, 2, 3), bool)),
        ValueError,
        "`mask` must have shape (seq,) or (batch, seq), got (1, 2, 3)",
        id="tokens padded",
    ),
    pytest.param(
        lambda: positions.Tokens.text_image([3], earlier=-1),
        ValueError,
        "`earlier` must be non-negative, got -1",
        id="tokens earlier",
    ),
    pytest.param(
        lambda: positions.Tokens.sequence(3).take(np.asarray([0, 3])),
        ValueError,
        "`indices` must be in [0, 3), the number of tokens, got 3",
        id="tokens indices",
    ),
    pytest.param(
        lambda: positions.Tokens.sequence(3).take(np.asarray([[0]])),
        ValueError,
        "`indices` must have shape (n,), got (1, 1)",
        id="tokens indices axes",
    ),
    pytest.param(
        lambda: positions.Tokens.sequence(3).take(np.asarray([True, False, True])),
        TypeError,
        "`indices` must be integer, got bool",
        id="tokens indices mask",
    ),
    pytest.param(
        lambda: positions.Tokens.tree([-1]).join(positions.Tokens.sequence(1)),
        ValueError,
        "`walk` must be None where other tokens follow, got that of drafts: take those that were "
        "accepted, and then `tokens._replace(walk=None)`",
        id="tokens after drafts",
    ),
    pytest.param(
        lambda: positions.Tokens.sequence(1).join(np.arange(3)),
        TypeError,
        "`other` must be Tokens, got ndarray",
        id="tokens join array",
    ),
    pytest.param(
        lambda: positions.Tokens.sequence(2, offset=np.arange(2)).join(
            positions.Tokens.sequence(2, offset=np.arange(3))
        ),
        ValueError,
        "`other.positions` must have the axes of `positions`, (2, 2), except the last, got (3, 2)",
        id="tokens join batch",
    ),
    pytest.param(
        lambda: positions.Tokens(np.arange(3)).join(positions.Tokens(np.arange(3.0))),
        TypeError,
        "`other.positions` must have the dtype of `positions`, int64, got float64",
        id="tokens join dtype",
    ),
    pytest.param(
        lambda: positions.Tokens(np.zeros((3, 1, 2), int)).join(positions.Tokens.text_image([1])),
        ValueError,
        "`order` must be given where positions have several axes, got None and positions of shape "
        "(3, 1, 2)",
        id="tokens join axes",
    ),
    pytest.param(
        lambda: positions.Tokens.packed([0, 2], 2).following(),
        ValueError,
        "`next_position` must be given where tokens follow, got None",
        id="tokens following",
    ),
    pytest.param(
        lambda: positions.packed_positions(np.asarray([0, 2]), -1),
        ValueError,
        "`total` must be non-negative, got -1",
        id="total",
    ),
    pytest.param(
        lambda: positions.mask_positions(np.ones(3)),
        TypeError,
        "`mask` must be boolean or integer, got float64",
        id="mask",
    ),
    pytest.param(
        lambda: positions.mask_positions(np.asarray(True)),
        ValueError,
        "`mask` must have shape (..., seq), got ()",
        id="mask scalar",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3))),
        TypeError,
        "`mask` must be boolean or integer, got float64",
        id="grid mask",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones(3, int)),
        ValueError,
        "`mask` must have shape (..., *grid) with n_axes=2 grid axes, got (3,)",
        id="grid mask axes",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 0, 3), int)),
        ValueError,
        "`mask` must have no grid axis of size 0, got (2, 0, 3)",
        id="grid mask empty",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), n_axes=0),
        ValueError,
        "`n_axes` must be positive, got 0",
        id="grid mask n_axes",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=0),
        ValueError,
        "`scale` must be positive and finite, got 0.0",
        id="grid mask scale",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), scale=1, dtype=np.int32),
        TypeError,
        "`dtype` must be one of float16, bfloat16, float32, float64, got int32",
        id="grid mask dtype",
    ),
    pytest.param(
        lambda: positions.mask_grid_positions(np.ones((2, 3), int), dtype=np.float32),
        ValueError,
        "`dtype` must be None without `scale`, where positions are integers, got <class 'numpy.float32'>",
        id="grid mask no scale",
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CASES)
def test_message(call, error, sentence):
    assert_refused(call, error, sentence)
