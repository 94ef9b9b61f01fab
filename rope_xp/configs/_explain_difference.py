"""What differs between two configs, as text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rope_xp.configs._compare import (
    TOLERANCE,
    Distance,
    blocks_of,
    distance,
    is_same_scale,
    lengths_of,
    n_axes_of,
)
from rope_xp.configs._explain import (
    pairing,
    ranges,
    rotated_part,
    schedule_text,
    short_repr,
    title,
)
from rope_xp.configs._summary import ConfigOrRopes, Layer, Part, Summary, read_kinds
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE

SAME = "no difference"


class Comparison(NamedTuple):
    """Two configs: the text, and whether their layers turn by the same angles."""

    text: str
    is_same: bool


def explain_difference(
    a: ConfigOrRopes,
    b: ConfigOrRopes,
    seq_len: int | None = None,
    *,
    layout: Layout | None = None,
    part: Part = "text",
) -> str:
    """What differs between two configs, as text: a GGUF file and the config that it was made from.

    Parameters
    ----------
    a, b : mapping, config object, path, RoPE, or sequence of RoPE or None
        Each as in `explain`.
    seq_len : int, optional
        The length in use. Default: several lengths, within and beyond each original context.
    layout : {"half", "interleaved"}, optional
        The pairing of a config that is not read without it.
    part : {"text", "vision"}
        As in `layer_ropes`.

    Returns
    -------
    str
        For each range of layers that differ: pairing, rotated part, base, schedule, axes, the largest
        relative difference of the frequencies and from which position on an angle is off by more than
        0.1, the factors on cos and sin, on the softmax scale and on queries; and which layers rotate in
        one of the two only. Frequencies and factors within 2.4e-7, four roundings to float32, are the same.
        Begins with "no difference" where all of it is the same.

    Raises
    ------
    ValueError, TypeError
        As `explain`.

    Notes
    -----
    llama.cpp turns adjacent features in models of the Llama line, whose weights its converter
    reorders for that; Meta's own checkpoints and torchtune's have this order, too. A difference in
    pairing alone between such a file and a config.json is expected, and is reported as such.

    Examples
    --------
    >>> a = {"model_type": "qwen3", "num_hidden_layers": 2, "rope_theta": 1e6}
    >>> print(explain_difference(a, a | {"rope_theta": 5e6}))
    a: qwen3: 2 layers
    b: qwen3: 2 layers
    <BLANKLINE>
    all layers
      base              1,000,000 in a; 5,000,000 in b
      frequencies       the largest relative difference is 0.795, of pair 63; angles are off by more than 0.1 from position 3 on
    """
    return compare(a, b, seq_len, layout=layout, part=part).text


def compare(
    a: ConfigOrRopes,
    b: ConfigOrRopes,
    seq_len: int | None = None,
    *,
    layout: Layout | None = None,
    part: Part = "text",
) -> Comparison:
    """`explain_difference`, and whether there is a difference that is not expected."""
    first, second = _read("a", a, layout, part), _read("b", b, layout, part)
    heads = [f"a: {_head(a, first)}", f"b: {_head(b, second)}"]
    parts, is_same = ["\n".join(heads)], True
    if first.has_layer_count and second.has_layer_count and len(first.layers) != len(second.layers):
        is_same = False
        counts = f"{len(first.layers)} in a; {len(second.layers)} in b"
        parts.append(f"layers: {counts}; those with the same number are compared")
    groups: dict[tuple[Layer, Layer], list[int]] = {}
    for i, pair in enumerate(_side_by_side(first, second)):
        groups.setdefault(pair, []).append(i)
    n_layers = sum(map(len, groups.values()))
    for (one, other), numbers in groups.items():
        rows = _rows(one, other, (first, second), seq_len)
        is_same &= all(row.is_same for row in rows)
        if rows:
            where = "all layers" if len(numbers) == n_layers else f"layers {ranges(numbers)}"
            parts.append("\n".join([where, *(f"  {row.name:<17} {row.text}" for row in rows)]))
    if is_same:
        parts.insert(0, SAME)
    return Comparison("\n\n".join(parts), is_same)


def _read(name: str, given: ConfigOrRopes, layout: Layout | None, part: Part) -> Summary:
    """One side. A pairing that is known is not replaced: it is what may differ."""
    try:
        try:
            return read_kinds(given, None, part)
        except ValueError:
            if layout is None:
                raise
            return read_kinds(given, layout, part)
    except (ValueError, TypeError) as error:
        msg = f"{error} (in {name})"
        raise (ValueError if isinstance(error, ValueError) else TypeError)(msg) from None


def _head(given: ConfigOrRopes, summary: Summary) -> str:
    where = f" ({given})" if isinstance(given, str | Path) else ""
    return (title(summary) or "one encoding") + where


def _side_by_side(first: Summary, second: Summary) -> list[tuple[Layer, Layer]]:
    """Layer by layer, as far as both have layers."""
    a, b = first.layers, second.layers
    for name, summary in (("a", first), ("b", second)):
        if not summary.has_layer_count and len({*summary.layers}) > 1:
            msg = f"`num_hidden_layers` is required in {name}, whose layers differ"
            raise ValueError(msg)
    if not first.has_layer_count:
        a = a[:1] * len(b)
    if not second.has_layer_count:
        b = b[:1] * len(a)
    return list(zip(a, b, strict=False))


class Row(NamedTuple):
    """One line of the text, and whether what it says leaves the scores of q and k as they are."""

    name: str
    text: str
    is_same: bool = False


def _rows(
    first: Layer, second: Layer, summaries: tuple[Summary, Summary], seq_len: int | None
) -> list[Row]:
    """What differs in layers: how they rotate, and what else scales their scores."""
    one, other, rows = first.rope, second.rope, []
    if one is None and other is None:
        factors = first.softmax_factor, second.softmax_factor
        if abs(factors[0] - factors[1]) > TOLERANCE * max(factors):
            rows.append(Row("softmax factor", _both(*(f"{each:.6g}" for each in factors))))
    elif one is None or other is None:
        rows.append(Row("rotation", f"in {'a' if other is None else 'b'} only"))
    else:
        rows += _encoding_rows(one, other, summaries, seq_len)
    scales = first.query_scale, second.query_scale
    if not is_same_scale(*scales):
        texts = ["none" if each is None else short_repr(each) for each in scales]
        rows.append(Row("query scale", _both(*texts)))
    schemes = [None if each is None else each.ranges for each in (one, other)]
    if schemes[0] != schemes[1]:
        texts = ["none" if each is None else short_repr(each) for each in schemes]
        rows.append(Row("ranges", _both(*texts)))
    return rows


def _encoding_rows(
    one: RoPE, other: RoPE, summaries: tuple[Summary, Summary], seq_len: int | None
) -> list[Row]:
    rows: list[Row] = []
    has_one_size = one.rotary_dim == other.rotary_dim
    if one.layout != other.layout:
        where = _reordered(one, other, summaries)
        why = f", as expected: {where} has the rows of q and k in another order" if where else ""
        rows.append(Row("pairing", _both(one.layout, other.layout) + why, bool(where)))
    elif has_one_size and blocks_of(one) != blocks_of(other):
        rows.append(Row("pairing", _both(pairing(one), pairing(other))))
    parts = [(r.head_dim, r.rotary_dim, r.rotary_start) for r in (one, other)]
    if parts[0] != parts[1]:
        texts = [rotated_part(r, s.slice) for r, s in zip((one, other), summaries, strict=True)]
        is_slice = _is_slice(one, other, summaries)
        why = ", as expected: a config describes the slice of latent attention that rotates"
        rows.append(Row("rotated part", _both(*texts) + why * is_slice, is_slice))
    if one.precision != other.precision:
        rows.append(Row("precision", _both(one.precision, other.precision)))
    if one.axes != other.axes:
        texts = ["one axis" if r.axes is None else short_repr(r.axes) for r in (one, other)]
        rows.append(Row("axes", _both(*texts), n_axes_of(one) == n_axes_of(other)))
    return rows + (
        _number_rows(one, other, seq_len) if has_one_size else _schedule_rows(one, other)
    )


def _schedule_rows(one: RoPE, other: RoPE, *, is_same: bool = False) -> list[Row]:
    """Base and schedule where they differ, which may still make the same angles."""
    bases = [f"{rope.base:,.10g}" for rope in (one, other)]
    schedules = [schedule_text(rope) for rope in (one, other)]
    rows = [Row("base", _both(*bases), is_same)] if one.base != other.base else []
    if one.scaling != other.scaling:
        rows.append(Row("schedule", _both(*schedules), is_same))
    return rows


def _is_slice(one: RoPE, other: RoPE, summaries: tuple[Summary, Summary]) -> bool:
    """Whether one side is the slice of latent attention, and the other the head that ends with it."""
    for part, whole, summary in ((one, other, summaries[0]), (other, one, summaries[1])):
        ends = whole.rotary_start + whole.rotary_dim == whole.head_dim
        if summary.slice and ends and part.head_dim == part.rotary_dim == whole.rotary_dim:
            return True
    return False


def _number_rows(one: RoPE, other: RoPE, seq_len: int | None) -> list[Row]:
    """What is said of base, schedule and factors where they differ, and what follows for the angles."""
    lengths = lengths_of(one, other) if seq_len is None else (seq_len,)
    found = {length: distance(one, other, length) for length in lengths}
    length = next((each for each in lengths if not found[each].is_turn_same), lengths[0])
    apart = found[length]
    rows = _schedule_rows(one, other, is_same=all(each.is_same for each in found.values()))
    most = max(each.largest for each in found.values())
    if rows or most > 0:
        rows.append(Row("frequencies", _angles(apart, most) + _at(length), apart.is_turn_same))
    for number, name in enumerate(("attention factor", "softmax factor")):
        for length in [each for each in lengths if not found[each].factors[number]][:1]:
            values = [f"{rope.frequencies(length)[number + 1]:.6g}" for rope in (one, other)]
            rows.append(Row(name, _both(*values) + _at(length)))
    return rows


def _angles(apart: Distance, most: float) -> str:
    if apart.is_turn_same:
        return "the same" if most == 0 else f"the same within {most:.1g}"
    return (
        f"the largest relative difference is {apart.largest:.3g}, of pair {apart.pair}; angles are off "
        f"by more than 0.1 from position {apart.position:,} on"
    )


def _at(length: int | None) -> str:
    return "" if length is None else f", at {length:,} tokens"


def _both(a: str, b: str) -> str:
    return f"{a} in a; {b} in b"


def _reordered(one: RoPE, other: RoPE, summaries: tuple[Summary, Summary]) -> str:
    """The side whose weights are in another order, if the pairings are such a file's and its original's."""
    pairs = zip((one, other), summaries, strict=True)
    carriers = {rope.layout: summary.carrier for rope, summary in pairs}
    return "" if carriers.get("half") else carriers.get("interleaved", "")
