"""Which axis of the positions drives which pair, by a family's ``axes`` and a config's mrope_section.

A family of ``families.json`` with several axes has ``"axes": {"kind": …}``. ``Axial`` has that
class's own fields. ``Sections``, ``InterleavedSections`` and ``AxisPerPair`` read ``mrope_section`` from
the config, and what stands under that name in the table where the config has none. ``runs`` of
``AxisPerPair`` tells the order of the sections: within a run the axes take turns, ``[[1, 2], [0]]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rope_xp._config_reader.families import Family
from rope_xp._config_reader.values import RopeDict, flag
from rope_xp.axes import Axes, Axial, AxisPerPair, InterleavedSections, Sections

KEYS = ("mrope_section", "mrope_interleaved")


def extra_keys(family: Family, entry: RopeDict, model_type: str) -> list[str]:
    """The keys beside those of the schedule that a rope dict of this family may have.

    Raises
    ------
    ValueError
        If the dict has sections and the family does not read them.
    """
    extra = list(family.get("extra_keys", ()))
    told = family.get("axes", {})
    if "mrope_section" in told:
        return [*extra, *KEYS]
    for key in KEYS:
        if key in entry.values and key not in extra:
            axes = told.get("widths") or sum(map(len, told.get("runs", [[0]])))
            have = "positions with one axis" if axes == 1 else f"{axes} axes of fixed parts"
            msg = (
                f"`{key}` in {entry.where} must be absent for model_type {model_type!r}, which has "
                f"{have}, got {entry.values[key]!r}"
            )
            raise ValueError(msg)
    return extra


def scheme(family: Family, entry: RopeDict, n_pairs: int, model_type: str) -> Axes | None:
    """The scheme of several axes; None for one axis.

    Raises
    ------
    ValueError
        If ``mrope_section`` is no list of one number per axis, or does not sum to ``n_pairs``, or
        ``mrope_interleaved`` contradicts the family.
    """
    told = family.get("axes")
    if told is None:
        return None
    kind = told["kind"]
    if kind == "Axial":
        fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
        return Axial(**{k: v for k, v in fields.items() if k != "kind"})
    if "mrope_section" not in told:  # all axes share the pairs, in turns
        (run,) = told["runs"]
        if n_pairs % len(run):
            msg = (
                f"the rotated pairs of model_type {model_type!r} must be a multiple of its {len(run)} "
                f"axes, got {n_pairs}"
            )
            raise ValueError(msg)
        return AxisPerPair(tuple(run) * (n_pairs // len(run)))

    interleaved = kind == "InterleavedSections"
    where = f" in {entry.where}"
    if flag(entry.values, "mrope_interleaved", where, default=interleaved) != interleaved:
        msg = (
            f"`mrope_interleaved`{where} must be {str(interleaved).lower()} or absent for model_type "
            f"{model_type!r}, got {str(not interleaved).lower()}"
        )
        raise ValueError(msg)
    given = entry.values.get("mrope_section")
    default = told["mrope_section"]
    if given is None and sum(default) != n_pairs:
        if interleaved:  # its slices fit any number of pairs; what they leave is the first axis's
            turns = [i % len(default) for i in range(n_pairs)]
            return AxisPerPair(
                tuple(a * (i < len(default) * default[a]) for i, a in enumerate(turns))
            )
        msg = (
            f"`mrope_section` must be given{where} and sum to n_pairs={n_pairs}, got nothing, and "
            f"{default} of model_type {model_type!r} sums to {sum(default)}"
        )
        raise ValueError(msg)
    sections = _sections(default if given is None else given, len(default), n_pairs, where)
    if kind == "AxisPerPair":
        return _in_runs(told["runs"], sections, where)
    return InterleavedSections(sections) if interleaved else Sections(sections)


def _sections(told: Any, n_axes: int, n_pairs: int, where: str) -> tuple[int, ...]:
    numbers = isinstance(told, Sequence) and not isinstance(told, str)
    if not numbers or not all(type(n) is int and n >= 0 for n in told):
        msg = f"`mrope_section`{where} must be a list of non-negative integers, got {told!r}"
        raise ValueError(msg)
    if len(told) != n_axes:
        msg = f"`mrope_section`{where} must have {n_axes} numbers, one per axis, got {list(told)}"
        raise ValueError(msg)
    if sum(told) != n_pairs:
        msg = (
            f"`mrope_section`{where} must sum to n_pairs={n_pairs}, got {list(told)} with sum "
            f"{sum(told)}"
        )
        raise ValueError(msg)
    return tuple(told)


def _in_runs(runs: Sequence[Sequence[int]], sections: tuple[int, ...], where: str) -> AxisPerPair:
    """Sections in the order of ``runs``; the axes of a run take turns over equal sections."""
    pairs: list[int] = []
    rest = list(sections)
    for run in runs:
        sizes, rest = rest[: len(run)], rest[len(run) :]
        if len(set(sizes)) > 1:
            msg = (
                f"`mrope_section`{where} must be equal for axes {list(run)}, which take turns, got "
                f"{list(sections)}"
            )
            raise ValueError(msg)
        pairs += list(run) * sizes[0]
    return AxisPerPair(tuple(pairs))
