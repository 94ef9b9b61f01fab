"""`check` itself: what it calls, what it says, what it does not try. Implementations: test_zoo."""

import re

import numpy as np
import pytest

from rope_xp import RoPE, axes, scaling
from rope_xp.testing import Report, RotationError, check
from rope_xp.testing._definition import Definition

HALF = RoPE(8, layout="half")


def implementation(rope, seq_len=None):
    return lambda x, positions: rope(x, positions=positions, seq_len=seq_len)


def message(fn, rope=HALF, **options):
    with pytest.raises(RotationError) as raised:
        check(fn, rope, **options)
    return str(raised.value)


@pytest.mark.eager
@pytest.mark.backend("numpy", "torch", "strict")
def test_the_library_is_right(lib):
    if lib.device is not None:
        pytest.skip("np.asarray takes no arrays of this device")
    for rope in (HALF, RoPE(12, layout="interleaved", rotary_dim=6, rotary_start=2)):
        report = check(implementation(rope), rope, xp=lib.xp)
        assert isinstance(report, Report)
        assert report.library == lib.xp.__name__.removeprefix("array_api_compat.")
        assert report.not_tried == ()
        assert all(law.error <= law.bound for law in report.laws)


@pytest.mark.eager
@pytest.mark.backend("jax")
def test_on_jax():
    import jax.numpy as jnp

    report = check(implementation(HALF), HALF, xp=jnp, max_position=5000)
    assert report.not_tried == ()


@pytest.mark.parametrize(
    ("rope", "seq_len"),
    [
        (RoPE(8, layout="half", precision="float32"), None),
        (RoPE(64, layout="half", scaling=scaling.YaRN(4.0, 4096)), None),
        (RoPE(64, layout="half", scaling=scaling.DynamicNTK(2.0, 2048)), 8000),
        (RoPE(16, layout="half", axes=axes.Axial((8, 8))), None),
        (RoPE(16, layout="half", axes=axes.Axial((8, 8), split=True)), None),
        (RoPE(16, layout="interleaved", axes=axes.Sections((2, 3, 3))), None),
        (RoPE(2, layout="half"), None),
    ],
    ids=["float32", "yarn", "dynamic", "axial", "split", "sections", "one pair"],
)
def test_every_kind_of_rope(rope, seq_len):
    assert check(implementation(rope, seq_len), rope, seq_len=seq_len).not_tried == ()


def test_what_differs_is_said_with_both_numbers():
    """Pair 1 of four turns by 0.1 per step: one step too far is cos 0.2 for cos 0.1."""
    text = message(
        lambda x, positions: HALF(x, positions=np.where(positions > 0, positions + 1, 0))
    )
    found = re.search(
        r"position (\d+), pair (\d) \(features (\d) and (\d)\): from \((.*?)\) it", text
    )
    assert int(found[4]) == int(found[3]) + 4
    assert f"`fn` is not {HALF}" in text
    assert re.search(
        r"it computes \(.+\), the definition gives \(.+\); difference .+, bound .+\.", text
    )


def test_pairs_within_the_blocks_of_each_axis():
    rope = RoPE(12, layout="half", axes=axes.Axial((8, 4), split=True))
    definition = Definition(rope)
    assert definition.first.tolist() == [0, 1, 2, 3, 8, 9]
    assert definition.second.tolist() == [4, 5, 6, 7, 10, 11]
    assert definition.partner.tolist() == [4, 5, 6, 7, 0, 1, 2, 3, 10, 11, 8, 9]


@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_bounds_by_hand(precision):
    """Of x = (1, 0) at position 1000 and θ = 1: tables, one angle, two products and a sum."""
    definition = Definition(RoPE(2, layout="half", precision=precision))
    x, positions = np.array([1.0, 0.0]).reshape(1, 1, 1, 2), np.array([1000])
    single, double = 2.0**-24, 2.0**-53
    angle = 1000 * 4 * (single if precision == "float32" else double)
    cos, sin = abs(np.cos(1000.0)), abs(np.sin(1000.0))
    for dtype, unit, products in (("float32", single, 2), ("float16", 2.0**-11, 3)):
        wanted = [6 * single + angle + (products + 1) * unit * size for size in (cos, sin)]
        found = definition.bounds(x, positions, dtype).ravel()
        assert np.all((found >= wanted) & (found <= 1.02 * np.array(wanted) + 1e-6 * unit))
    # 10000 ** -(2 / 4) is 0.01, of which ln is -4.6.
    errors = Definition(RoPE(4, layout="half", precision="float32")).angle_errors(positions)[0]
    assert errors == pytest.approx([4000 * single, 10 * (4 + 3 * np.log(100)) * single])


def test_the_law_is_named():
    for rope, law in (
        (RoPE(8, layout="interleaved"), "the right pairs"),
        (RoPE(8, layout="half", base=9000.0), "frequencies"),
        (RoPE(8, layout="half", scaling=scaling.YaRN(4.0, 4096)), "identity at position 0"),
        (RoPE(8, layout="half", precision="float32"), "the definition"),
    ):
        assert message(implementation(rope)).startswith(f"`fn` is not {HALF}: {law}. ")
    assert ": the direction. " in message(lambda x, p: HALF.inverse(x, positions=p))


def test_no_mistake_that_is_known():
    """Then the rotation is measured."""
    assert "RoPE(8, layout='half', base=9000.0)" in message(
        implementation(RoPE(8, layout="half", base=9000.0))
    )


def test_two_mistakes():
    text = message(implementation(RoPE(8, layout="interleaved", base=9000.0)))
    assert "RoPE(8, layout='interleaved', base=9000.0)" in text


def test_what_is_no_number_is_refused():
    for fn, text in (
        (lambda x, p: x * np.nan, "identity at position 0. x of shape (2, 3, 4, head_dim)"),
        (lambda x, p: x.astype(complex), "numpy: it returned an array of dtype complex128"),
        (lambda x, p: x.astype(int), "numpy: it returned an array of dtype int64"),
    ):
        assert text in message(fn)


def along_heads(x, positions):
    """Right for positions (seq,); those of (batch, seq) broadcast along heads, or do not fit."""
    w = 10000.0 ** (-np.arange(0, 8, 2) / 8)
    cos, sin = np.cos(positions[..., None] * w), np.sin(positions[..., None] * w)
    return HALF.rotate(x, cos, sin) if cos.ndim == 2 else by_hand(x, cos, sin)


def by_hand(x, cos, sin):
    a, b = x[..., :4], x[..., 4:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def test_rows_that_fit_by_chance_are_reported():
    refused, chance = check(along_heads, HALF).not_tried
    assert refused.startswith("positions of shape (batch, seq): it raised ValueError: operands")
    assert chance.startswith("positions of shape (batch, seq) with as many rows as heads: it takes")
    text = "positions of shape (batch, seq): not asked for (rows=False)"
    assert check(along_heads, HALF, rows=False).not_tried == (text,)
    expected = (
        r"`fn` must take positions of shape \(batch, seq\) with rows=True: it raised ValueError"
    )
    with pytest.raises(RotationError, match=expected):
        check(along_heads, HALF, rows=True)
    assert check(implementation(HALF), HALF, rows=True).not_tried == ()


def test_a_dtype_that_goes_less_far():
    def fn(x, positions):
        if x.dtype == np.float16 and positions.max() > 40_000:
            raise ValueError(positions.max())
        return HALF(x, positions=positions)

    refused = check(fn, HALF).not_tried
    assert refused[0] == "float16, positions up to 1000000: it raised ValueError: 1000000"
    assert all(each.startswith("float16, positions up to") for each in refused)


def test_rows_only():
    def fn(x, positions):
        return HALF.rotate(x, *HALF.cos_sin(positions.reshape(len(x), -1)))

    assert (
        check(fn, HALF, rows=True).not_tried[0].startswith("positions of shape (seq,): it raised")
    )
    with pytest.raises(
        RotationError, match=r"positions of shape \(seq,\) with rows=False: it raised"
    ):
        check(fn, HALF, rows=False)


def test_what_is_refused_is_not_tried():
    def fn(x, positions):
        if positions.ndim > 1 or positions.max() >= 512 or x.dtype != np.float32:
            msg = "not this"
            raise OverflowError(msg)
        return HALF(x, positions=positions)

    report = check(fn, HALF)
    assert [line.partition(":")[0] for line in report.not_tried] == [
        "positions of shape (batch, seq)",
        "positions from 512 on",
        "float16",
        "float64",
    ]
    assert "not tried: positions from 512 on: it raised OverflowError: not this" in str(report)
    text = message(fn, max_position=600)
    assert "it raised OverflowError: not this" in text
    assert (
        check(fn, HALF, max_position=511).not_tried[0].startswith("positions of shape (batch, seq)")
    )


def test_positions_of_rows_only():
    def fn(x, positions):
        (_batch, _seq) = positions.shape
        return HALF(x, positions=positions)

    assert check(fn, HALF).not_tried == (
        "positions of shape (seq,): it raised ValueError: not enough values to unpack (expected 2, got 1)",
    )


@pytest.mark.backend("torch")
def test_the_library_is_found():
    import torch

    def fn(x, positions):
        assert isinstance(x, torch.Tensor)
        return HALF(x, positions=positions)

    assert check(fn, HALF).library == "torch"


def test_what_takes_no_array_says_what_it_raised():
    def fn(x, positions):
        msg = "no kernel for this"
        raise OSError(msg)

    assert "numpy: it raised OSError: no kernel for this" in message(fn)
    text = message(lambda x, positions: x[..., :4])
    assert "returned an array of shape (2, 3, 5, 4) for x of shape (2, 3, 5, 8)" in text
    assert "it returned None" in message(lambda x, positions: None)
    assert "must leave `positions` as they are" in message(_changes_positions)


def _changes_positions(x, positions):
    y = HALF(x, positions=positions)
    positions += 1
    return y


def test_every_call_is_the_same_for_a_seed():
    calls = []

    def fn(x, positions):
        calls.append((x.copy(), positions.copy()))
        return HALF(x, positions=positions)

    for seed in (0, 0, 1):
        calls.append(seed)
        check(fn, HALF, seed=seed)
    first, second, third = (_after(calls, i) for i in range(3))
    assert all(
        np.array_equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, third, strict=True))


def _after(calls, run):
    starts = [i for i, call in enumerate(calls) if isinstance(call, int)] + [len(calls)]
    return calls[starts[run] + 1 : starts[run + 1]]
