"""Positions of text with images and videos in one sequence."""

import random

import numpy as np
import pytest
import reference

from rope_xp.positions import text_image_parts, text_image_positions, time_axis, token_positions


def made(lib, parts, **options):
    got, after = text_image_positions(parts, xp=lib.xp, device=lib.device, **options)
    assert got.dtype == token_positions(1, xp=lib.xp, device=lib.device).dtype
    if lib.device is not None:
        assert got.device == lib.device
    assert type(after) is int
    return lib.numpy(got).tolist(), after


@pytest.mark.x64
@pytest.mark.parametrize(
    ("parts", "options", "expected", "after"),
    [
        ([3], {}, [[0, 1, 2]] * 3, 3),
        ([2], {"offset": 7}, [[7, 8]] * 3, 9),
        (
            [1, (1, 2, 3), 2],
            {},
            [[0, 1, 1, 1, 1, 1, 1, 4, 5], [0, 1, 1, 1, 2, 2, 2, 4, 5], [0, 1, 2, 3, 1, 2, 3, 4, 5]],
            6,
        ),
        (  # the second image starts after the longer side of the first
            [(1, 4, 2), (1, 2, 2)],
            {"merge": 2},
            [[0, 0, 2], [0, 1, 2], [0, 0, 2]],
            3,
        ),
        (  # five frames of one token: the text overlaps them, the next token comes after them
            [(5, 1, 1), 2],
            {},
            [[0, 1, 2, 3, 4, 1, 2], [0, 0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 0, 1, 2]],
            5,
        ),
        (
            [(5, 1, 1), 2],
            {"advance": "max"},
            [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 5, 6], [0, 0, 0, 0, 0, 5, 6]],
            7,
        ),
        (  # an image that overlaps a long video: the next token comes after both
            [(5, 1, 1), (1, 1, 1)],
            {},
            [[0, 1, 2, 3, 4, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]],
            5,
        ),
        (  # times: a second is 2 steps, a frame half a second
            [1, (time_axis(4, 1.0, truncate=True), 1, 1)],
            {},
            [[0, 1, 2, 3, 4], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]],
            5,
        ),
        ([0, 1], {"padding": (2, 1)}, [[0, 0, 0, 0]] * 3, 1),
        ([np.int64(2)], {"offset": 3, "padding": (1, 0)}, [[0, 3, 4]] * 3, 5),
        ([((0, 3), np.int32(1), 1), 1], {"advance": "max"}, [[0, 3, 4], [0, 0, 4], [0, 0, 4]], 5),
    ],
)
def test_worked_examples(lib, parts, options, expected, after):
    assert made(lib, parts, **options) == (expected, after)


@pytest.mark.parametrize("advance", ["side", "max"])
def test_drawn_sequences_are_the_oracles(lib, advance):
    draw = random.Random(20211)
    for _ in range(5 if lib.name in ("dask", "jax") else 25):
        merge = draw.randrange(1, 4)
        parts = [draw.randrange(4)]
        for _ in range(draw.randrange(5)):
            times = sorted(draw.sample(range(12), draw.randrange(1, 6)))
            parts.append((times, *(merge * draw.randrange(1, 5) for _ in range(2))))
            parts.append(draw.randrange(1, 6))
        if parts == [0]:
            continue
        wanted, after = reference.text_and_vision(parts, merge, advance)
        assert made(lib, parts, merge=merge, advance=advance) == (wanted, after)


def test_a_sequence_in_two_calls_is_the_whole(lib):
    parts = [2, (1, 2, 4), 3, (2, 4, 4), 5]
    whole, after = made(lib, parts, merge=2, advance="max")
    first, then = made(lib, parts[:3], merge=2, advance="max")
    second, end = made(lib, parts[3:], merge=2, advance="max", offset=then)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    assert end == after


@pytest.mark.x64
def test_dtype_is_kept(lib):
    got, _ = text_image_positions([3], xp=lib.xp, dtype=lib.dtype("int16"), device=lib.device)
    assert got.dtype == lib.dtype("int16")


def test_parts_are_found_from_token_types():
    types = [0, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 0]
    images, videos = [(1, 4, 4), (1, 2, 2)], [(2, 2, 4)]
    assert text_image_parts(types, images=images, videos=videos, merge=2) == (
        2, (1, 4, 4), (1, 2, 2), 1, (2, 2, 4), 1,
    )  # fmt: skip
    assert text_image_parts(np.asarray([1, 0]), images=[[1, 1, 1]]) == ([1, 1, 1], 1)
    apart = text_image_parts([2, 0, 2], videos=[((0, 9), 1, 1)], frames_apart=True)
    assert apart == ((1, 1, 1), 1, (1, 1, 1))
    timed = (time_axis(3, 2, truncate=True), 1, 1)
    assert text_image_parts([2, 2, 2], videos=[timed]) == (timed,)
    assert text_image_parts([]) == ()


CASES = {
    "no part": (lambda: text_image_positions([]), ValueError, "`parts` must have at least one part, got none"),
    "negative": (lambda: text_image_positions([1, -2]), ValueError, "`parts[1]` must be a non-negative number of text tokens, got -2"),
    "float": (lambda: text_image_positions([2.0]), TypeError, "`parts[0]` must be a number of text tokens or a grid (t, h, w), got 2.0"),
    "bool": (lambda: text_image_positions([True]), TypeError, "`parts[0]` must be an int, got True"),
    "array": (lambda: text_image_positions([np.ones(3)]), TypeError, "`parts[0]` must be a number of text tokens or a grid (t, h, w), got an array of numpy"),
    "flat": (lambda: text_image_positions([(4, 6)]), TypeError, "`parts[0]` must be a grid (t, h, w), got (4, 6)"),
    "zero": (lambda: text_image_positions([1, (1, 0, 4)]), ValueError, "`parts[1][1]` must be positive, got 0"),
    "zero frames": (lambda: text_image_positions([(0, 4, 4)]), ValueError, "`parts[0][0]` must be positive, got 0"),
    "no times": (lambda: text_image_positions([((), 4, 4)]), ValueError, "`parts[0][0]` must have at least one coordinate, got ()"),
    "real times": (lambda: text_image_positions([(time_axis(2, 0.5), 4, 4)]), TypeError, "`parts[0][0]` must have integer times, got (0.0, 0.5)"),
    "bool size": (lambda: text_image_positions([(1, True, 4)]), TypeError, "`parts[0][1]` must be an int, got True"),
    "merge": (lambda: text_image_positions([(1, 4, 5)], merge=2), ValueError, "`merge` must divide both sides of the grid 4 x 5, got 2"),
    "merge zero": (lambda: text_image_positions([(1, 4, 5)], merge=0), ValueError, "`merge` must be positive, got 0"),
    "advance": (lambda: text_image_positions([1], advance="time"), ValueError, "`advance` must be one of 'side', 'max', got 'time'"),
    "offset": (lambda: text_image_positions([1], offset=1.5), TypeError, "`offset` must be an int, got 1.5"),
    "far": (lambda: text_image_positions([1], offset=2**63), ValueError, "`offset` must keep positions in int64, the default integer dtype here, got 9223372036854775808"),
    "far part": (lambda: text_image_positions([1, ((0, 2**63 - 1), 1, 1)]), ValueError, "`parts` must keep positions in int64, the default integer dtype here, got 0 to 9223372036854775808"),
    "before": (lambda: text_image_positions([1, ((-2, 0), 1, 1)], dtype=np.uint64), ValueError, "`dtype` must represent the positions -1 to 1 of `parts`, got uint64"),
    "no memory": (lambda: text_image_positions([1, 2**70]), ValueError, "`parts[1]` must be at most 2**48, which no memory holds, got"),
    "padding no memory": (lambda: text_image_positions([1], padding=(2**63, 0)), ValueError, "`padding[0]` must be at most 2**48, which no memory holds, got"),
    "parts no memory": (lambda: text_image_parts([0], images=[(2**70, 1, 1)]), ValueError, "`images[0][0]` must be at most 2**48, which no memory holds, got"),
    "padding": (lambda: text_image_positions([1], padding=3), TypeError, "`padding` must be two numbers of tokens, before and after, got 3"),
    "padding negative": (lambda: text_image_positions([1], padding=(0, -1)), ValueError, "`padding` must be non-negative, got (0, -1)"),
    "padding bool": (lambda: text_image_positions([1], padding=(True, 0)), TypeError, "`padding[0]` must be an int, got True"),
    "dtype": (lambda: text_image_positions([1], dtype=np.float32), TypeError, "`dtype` must be an integer dtype, got float32"),
    "narrow": (lambda: text_image_positions([200], dtype=np.int8), ValueError, "`dtype` must represent the positions 0 to 199 of `parts`, got int8"),
    "type": (lambda: text_image_parts([0, 3]), ValueError, "`token_types[1]` must be 0 (text), 1 (image) or 2 (video), got 3"),
    "type bool": (lambda: text_image_parts([True]), TypeError, "`token_types[0]` must be an int, got True"),
    "too few": (lambda: text_image_parts([0, 1, 1], images=[(1, 1, 1)]), ValueError, "`images` must fill the 2 tokens of type 1 from token 1 on, got grids of 1 tokens"),
    "too many": (lambda: text_image_parts([2], videos=[(2, 1, 1)]), ValueError, "`videos` must fill the 1 tokens of type 2 from token 0 on, got grids of 2 tokens"),
    "left over": (lambda: text_image_parts([0], images=[(1, 1, 1)]), ValueError, "`images` must all have tokens of type 1, got 1 without"),
    "grid": (lambda: text_image_parts([0], images=[(1, 0, 1)]), ValueError, "`images[0][1]` must be positive, got 0"),
    "parts merge": (lambda: text_image_parts([0], videos=[(1, 3, 2)], merge=2), ValueError, "`merge` must divide both sides of the grid 3 x 2, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, kind, sentence = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    assert sentence in str(caught.value)
