"""What builders of positions know together, and the masks and shards that follow from it.

The oracle is a loop over tokens: each is a dict of Python values, and the drafts know their parent.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_xp import RoPE, axes
from rope_xp.attention import attention, attention_mask, causal_mask, flex_mask_mod, tree_mask
from rope_xp.positions import (
    Tokens,
    packed_documents,
    packed_positions,
    shard_indices,
    text_image_positions,
    tree_positions,
    zigzag_positions,
)

PARENTS = [-1, 0, 0, 2, -1, 2]


def made(lib, values, dtype="int64"):
    return None if values is None else lib.array(values, dtype)


def sees(q, k, causal=True, window=None, sinks=0):
    """Whether the token ``q`` sees ``k``, each a dict."""
    if q["document"] != k["document"] or q["document"] < 0:
        return False
    if "ancestors" in k and k["name"] not in q.get("ancestors", ()):
        return False
    same_image = q["image"] == k["image"] >= 0
    if causal and k["at"] > q["at"] and not same_image:
        return False
    if window is not None and not (0 < k["at"] + 1 <= sinks):
        return q["at"] - k["at"] < window and (causal or k["at"] - q["at"] < window)
    return True


def described(order, documents=None, images=None):
    n = len(order)
    return [
        {"at": at, "document": document, "image": image}
        for at, document, image in zip(order, documents or [0] * n, images or [-1] * n, strict=True)
    ]


def table(queries, keys, **rule):
    return [[sees(q, k, **rule) for k in keys] for q in queries]


RULES = [
    {},
    {"causal": False},
    {"window": 2},
    {"window": 3, "sinks": 1},
    {"causal": False, "window": 2},
    {"causal": False, "window": 2, "sinks": 2},
]


@pytest.mark.parametrize("rule", RULES)
def test_all_at_once(lib, rule):
    """Two documents with an image in each, and padding."""
    order = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    documents = [0, 0, 0, 0, 0, 1, 1, 1, -1, -1]
    images = [-1, 0, 0, 0, -1, -1, 0, 0, 0, 0]
    tokens = Tokens(
        lib.array(order), documents=lib.array(documents), images=lib.array(images, "int32")
    )
    got = lib.numpy(attention_mask(tokens, **rule))
    assert got.tolist() == table(*[described(order, documents, images)] * 2, **rule)


@pytest.mark.parametrize("rule", RULES)
def test_plain_positions_are_tokens(lib, rule):
    q, k = lib.array([4, 1]), lib.array([0, 1, 2, 3, 4, 5])
    want = table(described([4, 1]), described(range(6)), **rule)
    assert lib.numpy(attention_mask(q, k, **rule)).tolist() == want
    assert lib.numpy(attention_mask(Tokens(q), k, **rule)).tolist() == want
    if rule.get("causal", True):
        np.testing.assert_array_equal(lib.numpy(causal_mask(q, k, **rule)), want)


def test_rows_of_tokens(lib):
    """Rows with fields of their own, beside fields that all rows share."""
    order, documents = [0, 1, 2], [[0, 0, 1], [2, 2, 2]]
    tokens = Tokens(lib.array(order), documents=lib.array(documents))
    got = lib.numpy(attention_mask(tokens))
    assert got.shape == (2, 1, 3, 3)
    for row, of in zip(got[:, 0], documents, strict=True):
        assert row.tolist() == table(*[described(order, of)] * 2)
    images = tokens._replace(images=lib.array([[-1, 0, 0]]))
    got = lib.numpy(attention_mask(images))
    for row, of in zip(got[:, 0], documents, strict=True):
        assert row.tolist() == table(*[described(order, of, [-1, 0, 0])] * 2)


def test_sequence(lib):
    options = {"xp": lib.xp, "device": lib.device}
    tokens = Tokens.sequence(3, offset=2, **options)
    assert lib.numpy(tokens.positions).tolist() == [2, 3, 4]
    assert tokens.next_position == 5
    rows = Tokens.sequence(2, offset=lib.array([0, 5]))
    assert lib.numpy(rows.positions).tolist() == [[0, 1], [5, 6]]
    assert lib.numpy(rows.next_position).tolist() == [2, 7]
    then = rows.following(2)
    assert lib.numpy(then.positions).tolist() == [[2, 3], [7, 8]]
    assert lib.numpy(then.next_position).tolist() == [4, 9]


def test_packed(lib):
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    sums = lib.array([0, 3, 5])
    tokens = Tokens.packed(sums, 6)
    assert tokens.next_position is None
    at, of = lib.numpy(tokens.positions).tolist(), lib.numpy(tokens.documents).tolist()
    assert at == lib.numpy(packed_positions(sums, 6)).tolist()
    assert of == lib.numpy(packed_documents(sums, 6)).tolist()
    want = table(*[described(at, of)] * 2)
    assert lib.numpy(attention_mask(tokens)).tolist() == want


def test_padded(lib):
    mask = [[0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]
    tokens = Tokens.padded(lib.array(mask, "bool"))
    assert lib.numpy(tokens.next_position).tolist() == [2, 3, 0]
    got = lib.numpy(attention_mask(tokens, lib.array([0, 1, 2])))[:, 0]
    at = lib.numpy(tokens.positions).tolist()
    for row, order, of in zip(got, at, mask, strict=True):
        documents = [0 if token else -1 for token in of]
        assert row.tolist() == table(described(order, documents), described(range(3)))


@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
def test_text_image(lib, padding):
    """Order counts tokens, where positions of three axes do not."""
    options = {"xp": lib.xp, "device": lib.device}
    parts = [2, (1, 4, 4), 1, (1, 2, 4)]
    tokens = Tokens.text_image(
        parts, merge=2, offset=7, earlier=20, bidirectional=True, padding=padding, **options
    )
    positions, after = text_image_positions(parts, merge=2, offset=7, padding=padding, **options)
    assert lib.numpy(tokens.positions).tolist() == lib.numpy(positions).tolist()
    assert tokens.next_position == after
    before, behind = padding
    order = [*range(20, 29)]
    images = [-1, -1, 22, 22, 22, 22, -1, 27, 27]
    keys = described([0] * before + order + [0] * behind)
    for key, image in zip(keys, [-1] * before + images + [-1] * behind, strict=True):
        key["image"] = image
    for i in [*range(before), *range(len(keys) - behind, len(keys))]:
        keys[i]["document"] = -1
    assert lib.numpy(attention_mask(tokens)).tolist() == table(keys, keys)
    plain = Tokens.text_image(parts, merge=2, padding=padding, **options)
    assert plain.images is None  # Qwen-VL is causal in images, too
    then = tokens.following(2)
    assert lib.numpy(then.positions).tolist() == [[after, after + 1]] * 3
    assert lib.numpy(then.order).tolist() == [29, 30]
    assert lib.numpy(attention_mask(then, tokens.join(then))).tolist() == table(
        described([29, 30]), [*keys, *described([29, 30])]
    )


def test_what_follows_does_not_count_padding(lib):
    tokens = Tokens(
        lib.array([0, 1, 0]), lib.array([0, 1, 9]), lib.array([0, 0, -1]), next_position=2
    )
    assert lib.numpy(tokens.following().order).tolist() == [2]
    seconds = Tokens.text_image(
        [1, ((0.0, 0.5), 1, 1)], dtype=lib.dtype("float32"), xp=lib.xp, device=lib.device
    )
    then = seconds.following(2)
    assert lib.numpy(then.positions).tolist() == [[2.5, 3.5]] * 3
    assert then.next_position == 4.5


def tree(parents, at):
    """Drafts as dicts, with the names of all that they see."""
    drafts = []
    for i, parent in enumerate(parents):
        above = drafts[parent] if parent >= 0 else {"at": at - 1, "ancestors": set()}
        ancestors = above["ancestors"] | {i}
        draft = {"at": above["at"] + 1, "name": i, "ancestors": ancestors}
        drafts.append({**draft, "document": 0, "image": -1})
    return drafts


@pytest.mark.parametrize("rule", [{}, {"window": 3}, {"window": 2, "sinks": 1}])
def test_drafts_after_a_prefix(lib, rule):
    prefix = Tokens.sequence(4, xp=lib.xp, device=lib.device)
    drafts = Tokens.tree(lib.array(PARENTS), offset=4)
    at = tree_positions(lib.array(PARENTS), offset=4)
    assert lib.numpy(drafts.positions).tolist() == lib.numpy(at).tolist()
    both = prefix.join(drafts)
    keys = [*described(range(4)), *tree(PARENTS, 4)]
    assert lib.numpy(attention_mask(drafts, both, **rule)).tolist() == table(keys[4:], keys, **rule)
    assert lib.numpy(attention_mask(both, **rule)).tolist() == table(keys, keys, **rule)
    if not rule:
        own = lib.numpy(attention_mask(drafts))
        np.testing.assert_array_equal(own, lib.numpy(tree_mask(lib.array(PARENTS))))


def test_rows_of_trees(lib):
    chain = [-1, 0, 1, 2, 3, 4]
    parents = lib.array([PARENTS, chain])
    drafts = Tokens.tree(parents, offset=lib.array([2, 5]))
    prefix = Tokens.sequence(5, xp=lib.xp, device=lib.device)
    got = lib.numpy(attention_mask(drafts, prefix.join(drafts)))
    assert got.shape == (2, 1, 6, 11)
    for row, of, offset in zip(got[:, 0], (PARENTS, chain), (2, 5), strict=True):
        queries = tree(of, offset)
        assert row.tolist() == table(queries, [*described(range(5)), *queries])


def test_a_path_of_a_tree_is_as_alone(lib, rng):
    """What is computed for each draft is what its path alone gives."""
    rope, n = RoPE(8, layout="half"), 3
    prefix, drafts = rng.standard_normal((2, 1, 2, 6, 8)).astype(np.float32)
    prefix = prefix[:, :, :n]
    before = Tokens.sequence(n, xp=lib.xp, device=lib.device)
    tokens = Tokens.tree(lib.array(PARENTS), offset=n)
    both = before.join(tokens)
    x = np.concatenate([prefix, drafts], axis=2)
    k = rope(lib.array(x), positions=both.positions)
    q = rope(lib.array(drafts), positions=tokens.positions)
    got = lib.numpy(attention(q, k, lib.array(x), bias=attention_mask(tokens, both)))
    for i, draft in enumerate(tree(PARENTS, n)):
        path = lib.array(np.concatenate([prefix, drafts[:, :, sorted(draft["ancestors"])]], axis=2))
        alone = lib.numpy(attention(rope(path), rope(path), path, causal=True))
        np.testing.assert_allclose(got[:, :, i], alone[:, :, -1], atol=2e-6)


def test_accepted_drafts_are_plain_tokens(lib):
    prefix = Tokens.sequence(3, xp=lib.xp, device=lib.device)
    accepted = Tokens.tree(lib.array(PARENTS), offset=3).take(lib.array([0, 2, 5]))
    both = prefix.join(accepted._replace(walk=None))
    assert lib.numpy(both.positions).tolist() == [*range(6)]
    np.testing.assert_array_equal(lib.numpy(attention_mask(both)), np.tril(np.ones((6, 6), bool)))


@given(st.data(), st.integers(1, 30))
def test_a_walk_tells_ancestors(data, n):
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(n)]
    drafts = tree(parents, 5)
    got = attention_mask(Tokens.tree(parents, offset=5), causal=False)
    assert got.tolist() == table(drafts, drafts)
    enter, leave = Tokens.tree(parents).walk
    assert sorted(enter) == [*range(1, n + 1)]
    assert (leave - enter).tolist() == [
        sum(i in other["ancestors"] for other in drafts) for i in range(n)
    ]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.sampled_from(RULES))
def test_a_pack_is_each_of_its_texts(lengths, rule):
    sums = np.cumsum([0, *lengths])
    got = attention_mask(Tokens.packed(sums, int(sums[-1])), **rule)
    want = np.zeros_like(got)
    for begin, end in zip(sums, sums[1:], strict=False):
        want[begin:end, begin:end] = attention_mask(np.arange(end - begin), **rule)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rule", RULES)
def test_mask_mod_is_the_mask(lib, rule):
    """What FlexAttention calls for one pair, here for all at once."""
    if lib.name not in ("numpy", "torch"):
        pytest.skip("it is for torch, and indices are arrays")
    before = Tokens(
        lib.array([0, 1, 2, 0]),
        documents=lib.array([[0, 0, 0, 1], [0, 0, -1, 1]]),
        images=lib.array([[-1, 3, 3, 3]]),
    )
    q_tokens = Tokens.tree(lib.array([-1, 0, 0]), offset=3)
    k_tokens = before.join(q_tokens)
    mod = flex_mask_mod(q_tokens, k_tokens, **rule)
    rows, heads, q, k = (
        lib.xp.arange(n)[(slice(None), *[None] * after)]
        for n, after in ((2, 3), (2, 2), (3, 1), (7, 0))
    )
    got = np.broadcast_to(lib.numpy(mod(rows, heads, q, k)), (2, 2, 3, 7))
    want = lib.numpy(attention_mask(q_tokens, k_tokens, **rule))
    np.testing.assert_array_equal(got, np.broadcast_to(want, got.shape))


def zigzag(tokens, rank, world_size):
    """The chunks of one sequence that a device has."""
    n = len(tokens) // (2 * world_size)
    chunks = [tokens[i * n : (i + 1) * n] for i in range(2 * world_size)]
    return chunks[rank] + chunks[2 * world_size - 1 - rank]


@pytest.mark.x64
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("tail", [[], [-1], [0, 0]])
def test_shards_of_a_pack(lib, world_size, tail):
    """Each sequence is cut by itself, one of no tokens too, and padding as one more."""
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    sums = [2 * world_size * n for n in (0, 1, 1, 4, 6)]
    total = 2 * world_size * 7
    for rank in range(world_size):
        got = shard_indices(total, rank, world_size, cu_seqlens=lib.array([*sums, *tail]))
        ends = [*sums[1:], total]
        want = [
            i
            for begin, end in zip(sums, ends, strict=True)
            for i in zigzag([*range(begin, end)], rank, world_size)
        ]
        assert lib.numpy(got).tolist() == want
        got = shard_indices(total, rank, world_size, cu_seqlens=lib.array(sums), order="contiguous")
        want = []
        for begin, end in zip(sums, ends, strict=True):
            n = (end - begin) // world_size
            want += range(begin + rank * n, begin + (rank + 1) * n)
        assert lib.numpy(got).tolist() == want


def test_shards_of_one_sequence(lib):
    options = {"xp": lib.xp, "device": lib.device}
    for rank in range(3):
        got = shard_indices(12, rank, 3, **options)
        want = zigzag([*range(12)], rank, 3)
        assert lib.numpy(got).tolist() == zigzag_positions(12, rank, 3).tolist() == want
        got = shard_indices(12, rank, 3, order="contiguous", **options)
        assert lib.numpy(got).tolist() == [*range(4 * rank, 4 * rank + 4)]


def test_shards_of_host_sums(lib):
    """Sums of NumPy, and the indices where they are wanted."""
    got = shard_indices(
        12, 0, 2, cu_seqlens=[0, 4, 12], xp=lib.xp, dtype=lib.dtype("int32"), device=lib.device
    )
    assert got.dtype == lib.dtype("int32")
    assert lib.numpy(got).tolist() == [0, 3, 4, 5, 10, 11]  # serving-zigzag-packs.py


def binary_search_partition(sums, total, world_size, rank):
    """`thd_get_partitioned_indices` of TransformerEngine, as its kernel computes it."""
    local = [n // world_size for n in sums]
    found = []
    for token in range(total // world_size):
        left, right = 1, len(local) - 1
        while left < right:
            middle = (left + right) // 2
            left, right = (middle + 1, right) if local[middle] <= token else (left, middle)
        start, length = local[left - 1], local[left] - local[left - 1]
        half = rank if token - start < length // 2 else (world_size - 1) * 2 - rank
        found.append(token - start + start * world_size + length // 2 * half)
    return found


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any),
    st.sampled_from(["zigzag", "contiguous"]),
)
def test_shards_are_a_partition(world_size, counts, order):
    sums = np.cumsum([0, *counts]) * 2 * world_size
    total = int(sums[-1])
    options = {"cu_seqlens": sums, "order": order}
    shards = [shard_indices(total, rank, world_size, **options) for rank in range(world_size)]
    assert sorted(np.concatenate(shards)) == [*range(total)]
    if order == "zigzag":
        for rank, shard in enumerate(shards):
            want = binary_search_partition(sums.tolist(), total, world_size, rank)
            assert shard.tolist() == want
        # Under a causal mask a token at p of its sequence looks at p + 1 tokens.
        at = packed_positions(sums, total)
        assert len({int(at[shard].sum()) for shard in shards}) == 1


@pytest.mark.parametrize("order", ["zigzag", "contiguous"])
def test_attention_in_shards_is_the_whole(lib, rng, order):
    if lib.device is not None:
        pytest.skip("array-api-strict's searchsorted makes int64, which its own no_x64 refuses")
    sums, rope = lib.array([0, 4, 12]), RoPE(8, layout="half")
    data = rng.standard_normal((1, 2, 16, 8))
    x = lib.array(data, "float32")
    tokens = Tokens.packed(sums, 16)
    k = rope(x, positions=tokens.positions)
    whole = lib.numpy(attention(k, k, x, bias=attention_mask(tokens)))
    for rank in range(2):
        at = shard_indices(16, rank, 2, cu_seqlens=sums, order=order)
        own = tokens.take(at)
        q = rope(lib.array(data[:, :, lib.numpy(at)], "float32"), positions=own.positions)
        got = lib.numpy(attention(q, k, x, bias=attention_mask(own, tokens)))
        np.testing.assert_allclose(got, whole[:, :, lib.numpy(at)], atol=1e-6)


def test_tokens_in_chunks_with_an_image(lib, rng):
    """Text with an image in one go, and the text after it one token at a time."""
    options = {"xp": lib.xp, "device": lib.device}
    rope = RoPE(12, layout="half", axes=axes.Sections((2, 2, 2)))
    whole = Tokens.text_image([2, (1, 2, 2), 3], **options)
    x = lib.array(rng.standard_normal((1, 9, 12)), "float32")
    k = rope(x, positions=whole.positions)
    want = lib.numpy(attention(k, k, x, bias=attention_mask(whole)))
    seen = Tokens.text_image([2, (1, 2, 2)], **options)
    for i in range(6, 9):
        new = seen.following()
        seen = seen.join(new)
        q = rope(x[:, i : i + 1, :], positions=new.positions)
        keys = rope(x[:, : i + 1, :], positions=seen.positions)
        got = attention(q, keys, x[:, : i + 1, :], bias=attention_mask(new, seen))
        np.testing.assert_allclose(lib.numpy(got)[:, 0], want[:, i], atol=1e-6)
