"""Positions of text with images, videos and audio in one sequence."""

import random

import numpy as np
import pytest
import reference

from rope_xp.positions import (
    text_image_parts,
    text_image_positions,
    text_image_types,
    time_axis,
    token_positions,
)


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


# From get_rope_index of Qwen2.5-Omni (chunk) and Qwen3-Omni (no chunk) in transformers 5.24.0, whose
# processors write the tokens in this order. Positions on the three axes, the next one, and types.
OMNI = {
    "audio and an image": (
        [2, ("audio", 3), 2, (1, 1, 2), 2],
        {"chunk": 2},
        [[0, 1, 2, 3, 4, 5, 6, 7, 7, 9, 10]] * 2 + [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
        11,
        [0, 0, 3, 3, 3, 0, 0, 1, 1, 0, 0],
    ),
    "chunks that end with a frame": (
        [1, ((0, 4, 8), 2, 2, 6), 1],
        {"merge": 2, "chunk": 4},
        [
            [0, 1, 1, 2, 2, 3, 4, 5, 6, 6, 7, 10, 11, 11, 12],
            [0, 1, 1, 2, 2, 3, 4, 5, 2, 6, 7, 2, 11, 11, 12],
            [0, 1, 1, 2, 2, 3, 4, 5, 2, 6, 7, 2, 11, 11, 12],
        ],
        13,
        [0, 0, 0, 2, 3, 3, 3, 3, 2, 3, 3, 2, 0, 0, 0],
    ),
    "chunks without a frame: audio is inside of the next one": (
        [((0, 12), 1, 2, 5), 1],
        {"chunk": 4},
        [
            [0, 0, 1, 1, 1, 2, 3, 4, 13, 5, 13, 14, 14, 15],
            [0, 0, 1, 1, 1, 2, 3, 4, 1, 5, 1, 14, 14, 15],
            [0, 0, 1, 2, 1, 2, 3, 4, 1, 5, 2, 14, 14, 15],
        ],
        16,
        [0, 0, 2, 2, 3, 3, 3, 3, 2, 3, 2, 0, 0, 0],
    ),
    "audio at the end: the columns go on beside the text": (
        [((0, 2), 1, 7, 3), 1],
        {"chunk": 2},
        [
            [0, 0, *[1] * 7, 1, 2, *[3] * 7, 3, 4, 4, 5],
            [0, 0, *[1] * 7, 1, 2, *[1] * 7, 3, 4, 4, 5],
            [0, 0, *range(1, 8), 1, 2, *range(1, 8), 3, 4, 4, 5],
        ],
        8,
        [0, 0, *[2] * 7, 3, 3, *[2] * 7, 3, 0, 0, 0],
    ),
    "by time": (
        [1, ((0.0, 2.5, 5.0), 2, 2, 6), 1],
        {"merge": 2, "dtype": "float32"},
        [
            [0, 1, 2, 3, 3, 4, 5, 5.5, 6, 7, 8, 8, 9, 10, 11],
            [0, 1, 2, 3, 3, 4, 5, 3, 6, 7, 3, 8, 9, 10, 11],
            [0, 1, 2, 3, 3, 4, 5, 3, 6, 7, 3, 8, 9, 10, 11],
        ],
        12,
        [0, 0, 0, 2, 3, 3, 3, 2, 3, 3, 2, 3, 0, 0, 0],
    ),
    "by time, the sound is shorter": (
        [((0.0, 4.0), 1, 3, 2), 1],
        {"dtype": "float32"},
        [
            [0, 1, 2, 2, 2, 2, 3, 6, 6, 6, 7, 8, 9],
            [0, 1, 2, 2, 2, 2, 3, 2, 2, 2, 7, 8, 9],
            [0, 1, 2, 3, 4, 2, 3, 2, 3, 4, 7, 8, 9],
        ],
        10,
        [0, 0, 2, 2, 2, 3, 3, 2, 2, 2, 0, 0, 0],
    ),
    "text after fractions": (
        [1, ((0.0, 2.5), 1, 1), 2],
        {"dtype": "float32"},
        [[0, 1, 3.5, 4.5, 5.5]] + [[0, 1, 1, 4.5, 5.5]] * 2,
        6.5,
        [0, 2, 2, 0, 0],
    ),
}


@pytest.mark.parametrize("name", OMNI)
def test_audio_is_transformers(lib, name):
    parts, options, expected, after, types = OMNI[name]
    where = {"xp": lib.xp, "device": lib.device, "padding": (1, 2), "advance": "max"}
    plain = {key: value for key, value in options.items() if key != "dtype"}
    if "dtype" in options:
        options = {**options, "dtype": lib.dtype(options["dtype"])}
    got, end = text_image_positions(parts, **options, **where)
    assert lib.numpy(got).tolist() == [[0, *line, 0, 0] for line in expected]
    assert (end, type(end)) == (after, float if "dtype" in options else int)
    found = text_image_types(parts, **plain, **where)
    assert lib.numpy(found).tolist() == [0, *types, 0, 0]
    videos = [part for part in parts if isinstance(part, tuple) and part[0] not in ("audio", 1)]
    images = [(1, 1, 2)] * types.count(1) if 1 in types else []
    back = text_image_parts(
        types,
        images=images[:1],
        videos=[part[:3] for part in videos],
        merge=options.get("merge", 1),
    )
    assert list(back) == ([0] if len(parts[0:1]) and isinstance(parts[0], tuple) else []) + parts


@pytest.mark.parametrize("chunk", [None, 1, 3, 50])
def test_drawn_videos_with_sound_are_the_oracles(lib, chunk):
    draw = random.Random(20211)
    for _ in range(3 if lib.name in ("dask", "jax") else 25):
        merge, parts = draw.randrange(1, 3), []
        for _ in range(draw.randrange(1, 4)):
            times = sorted(draw.choices(range(12), k=draw.randrange(1, 6)))
            sides = [merge * draw.randrange(1, 5) for _ in range(2)]
            parts += [("audio", draw.randrange(4)), (times, *sides, draw.randrange(1, 20))]
            parts.append(draw.randrange(3))
        wanted, after = reference.text_and_vision(parts, merge, "max", chunk)
        assert made(lib, parts, merge=merge, advance="max", chunk=chunk) == (wanted, after)


def test_rounding_can_decide_what_is_first():
    """As in transformers: 7.000001 is after 7, but not after 1000 is added to both."""
    parts = [998, ((0.0, 7 + 2**-20), 1, 1, 9)]
    got, _ = text_image_positions(parts, dtype=np.float64)
    assert got.dtype == np.float64
    assert got[0, 1000:1010].tolist() == [1000, *range(1000, 1007), 1007, 1007]
    assert text_image_types(parts)[1000:1010].tolist() == [2, *[3] * 7, 2, 3]
    assert text_image_types(parts[1:])[2:12].tolist() == [2, *[3] * 8, 2]


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
    sound = text_image_parts([0, 0, 2, 3, 3, 2, 0, 0, 3, 0], videos=[(2, 1, 1)])
    assert sound == (0, (2, 1, 1, 2), 0, ("audio", 1), 1)


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
    "dtype": (lambda: text_image_positions([1], dtype=np.float16), TypeError, "`dtype` must be an integer dtype, float32 or float64, got float16"),
    "real times, way out": (lambda: text_image_positions([(time_axis(2, 0.5), 4, 4)]), TypeError, "got (0.0, 0.5); others require a `dtype` of float32 or float64"),
    "real offset": (lambda: text_image_positions([1], offset="a", dtype=np.float32), TypeError, "`offset` must be a number, got 'a'"),
    "far real": (lambda: text_image_positions([1, ((0, 2.0**24), 1, 1)], dtype=np.float64), ValueError, "`parts` must keep positions, the next one too, between -2**24 and 2**24, where float32 skips no integer, got 0.0 to 16777216.0"),
    "word": (lambda: text_image_positions([("sound", 3)]), TypeError, "`parts[0]` must be ('audio', n) or a grid (t, h, w), got ('sound', 3)"),
    "audio grid": (lambda: text_image_positions([("audio", 1, 3)]), TypeError, "`parts[0]` must be ('audio', n) or a grid (t, h, w), got ('audio', 1, 3)"),
    "audio float": (lambda: text_image_positions([("audio", 1.5)]), TypeError, "`parts[0][1]` must be an int, got 1.5"),
    "audio negative": (lambda: text_image_positions([("audio", -1)]), ValueError, "`parts[0][1]` must be non-negative, got -1"),
    "no sound": (lambda: text_image_positions([(2, 1, 1, 0)]), ValueError, "`parts[0][3]` must be positive, got 0"),
    "times decrease": (lambda: text_image_positions([((0, 2, 1), 1, 1, 3)]), ValueError, "`parts[0][0]` must have times from 0 on that do not decrease, got (0, 2, 1)"),
    "times before": (lambda: text_image_positions([((-1, 2), 1, 1, 3)]), ValueError, "`parts[0][0]` must have times from 0 on that do not decrease, got (-1, 2)"),
    "chunk": (lambda: text_image_positions([1], chunk=0), ValueError, "`chunk` must be positive, got 0"),
    "chunk float": (lambda: text_image_types([1], chunk=2.5), TypeError, "`chunk` must be an int, got 2.5"),
    "sound no memory": (lambda: text_image_positions([(1, 1, 1, 2**40)], dtype=np.int32), ValueError, "`dtype` must represent the positions 0 to 1099511627777 of `parts`, got int32"),
    "types dtype": (lambda: text_image_types([1], dtype=np.float32), TypeError, "`dtype` must be an integer dtype, got float32"),
    "types of nothing": (lambda: text_image_types([]), ValueError, "`parts` must have at least one part, got none"),
    "two videos and sound": (lambda: text_image_parts([0, 0, 2, 3, 2, 0, 0], videos=[(1, 1, 1)] * 2), ValueError, "`videos` must be one that fills the 2 tokens of type 2 from token 2 on, got grids of 2 tokens"),
    "sound at the start": (lambda: text_image_parts([0, 2, 3, 0, 0], videos=[(1, 1, 1)]), ValueError, "`token_types` must have two tokens of text before and after a video with sound, got fewer at token 1"),
    "sound at the end": (lambda: text_image_parts([0, 0, 2, 3, 0], videos=[(1, 1, 1)]), ValueError, "`token_types` must have two tokens of text before and after a video with sound, got fewer at token 4"),
    "sound before an image": (lambda: text_image_parts([0, 0, 2, 3, 1, 0, 0], images=[(1, 1, 1)], videos=[(1, 1, 1)]), ValueError, "`token_types` must have two tokens of text before and after a video with sound, got fewer at token 4"),
    "huge time": (lambda: text_image_positions([((0, 10**400), 1, 1)], dtype=np.float32), ValueError, "`parts[0][0]"),
    "sound after an image": (lambda: text_image_parts([1, 2, 3, 0, 0], images=[(1, 1, 1)], videos=[(1, 1, 1)]), ValueError, "`token_types` must have two tokens of text before and after a video with sound, got fewer at token 1"),
    "narrow": (lambda: text_image_positions([200], dtype=np.int8), ValueError, "`dtype` must represent the positions 0 to 199 of `parts`, got int8"),
    "type": (lambda: text_image_parts([0, 4]), ValueError, "`token_types[1]` must be 0 (text), 1 (image), 2 (video) or 3 (audio), got 4"),
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
