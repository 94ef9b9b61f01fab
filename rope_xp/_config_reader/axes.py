"""Which axis of the positions drives which pair, by a family's ``axes`` and a config's mrope_section."""

from __future__ import annotations

from typing import Any, assert_never

from rope_xp import axes
from rope_xp._config_reader import schema
from rope_xp._config_reader.model import ModelConfig
from rope_xp._config_reader.schedules import RopeParameters
from rope_xp._config_reader.values import get_bool, is_list
from rope_xp._validation import quote
from rope_xp.axes import Axes


def extra_keys_of(model: ModelConfig, parameters: RopeParameters) -> tuple[str, ...]:
    """The keys that rope parameters of this model may have beside those of the schedule.

    Raises
    ------
    ValueError
        If the parameters have sections and the family does not read them.
    """
    family = model.family
    if _default_sections(family.axes) is not None:
        return (*family.extra_keys, *schema.MROPE_KEYS)
    for key in schema.MROPE_KEYS:
        if key in parameters.values and key not in family.extra_keys:
            n_axes = family.n_axes
            have = "positions with one axis" if n_axes == 1 else f"{n_axes} axes of fixed parts"
            msg = (
                f"`{key}` in {parameters.source} must be absent for model_type "
                f"{quote(model.model_type)}, which has {have}, got {quote(parameters.values[key])}"
            )
            raise ValueError(msg)
    return family.extra_keys


def scheme_of(model: ModelConfig, parameters: RopeParameters, n_pairs: int) -> Axes | None:
    """The scheme of several axes; None for one axis.

    Raises
    ------
    ValueError
        If ``mrope_section`` is no list of one number per axis, or does not sum to ``n_pairs``, or
        ``mrope_interleaved`` contradicts the family.
    """
    rule = model.family.axes
    match rule:
        case None | axes.Axial():
            return rule
        case schema.AxisPerPair(mrope_section=None):
            return _in_turns(model, rule.runs[0], n_pairs)
        case schema.AxisPerPair():
            return _in_runs(rule.runs, _sections_of(model, parameters, n_pairs), parameters.source)
        case schema.Sections():
            return axes.Sections(_sections_of(model, parameters, n_pairs))
        case schema.InterleavedSections():
            n_axes = len(rule.mrope_section)
            given = parameters.values.get("mrope_section")
            if given is None and sum(rule.mrope_section) != n_pairs:
                # Its slices fit any number of pairs; what they leave is the first axis's.
                _require_interleaved(model, parameters)
                turns = [i % n_axes for i in range(n_pairs)]
                within = [i < n_axes * rule.mrope_section[a] for i, a in enumerate(turns)]
                return axes.AxisPerPair(
                    tuple(a if w else 0 for a, w in zip(turns, within, strict=True))
                )
            return axes.InterleavedSections(_sections_of(model, parameters, n_pairs))
        case _:
            assert_never(rule)


def _default_sections(rule: Any) -> tuple[int, ...] | None:
    return getattr(rule, "mrope_section", None)


def _in_turns(model: ModelConfig, run: tuple[int, ...], n_pairs: int) -> axes.AxisPerPair:
    """All axes share the pairs, in turns."""
    if n_pairs % len(run):
        msg = (
            f"the rotated pairs of model_type {quote(model.model_type)} must be a multiple of its "
            f"{len(run)} axes, got {n_pairs}"
        )
        raise ValueError(msg)
    return axes.AxisPerPair(run * (n_pairs // len(run)))


def _require_interleaved(model: ModelConfig, parameters: RopeParameters) -> None:
    """ValueError if ``mrope_interleaved`` says otherwise than the family."""
    where = f" in {parameters.source}"
    wanted = isinstance(model.family.axes, schema.InterleavedSections)
    if get_bool(parameters.values, "mrope_interleaved", where, default=wanted) != wanted:
        msg = (
            f"`mrope_interleaved`{where} must be {str(wanted).lower()} or absent for model_type "
            f"{quote(model.model_type)}, got {str(not wanted).lower()}"
        )
        raise ValueError(msg)


def _sections_of(model: ModelConfig, parameters: RopeParameters, n_pairs: int) -> tuple[int, ...]:
    """The sections of the config, or of the family where it has none, checked."""
    _require_interleaved(model, parameters)
    where = f" in {parameters.source}"
    default = _default_sections(model.family.axes) or ()
    given = parameters.values.get("mrope_section")
    if given is None and sum(default) != n_pairs:
        msg = (
            f"`mrope_section` is required{where}: {list(default)} of model_type "
            f"{quote(model.model_type)} sums to {sum(default)}, not to n_pairs={n_pairs}"
        )
        raise ValueError(msg)
    sections = default if given is None else given
    if not is_list(sections) or not all(type(n) is int and n >= 0 for n in sections):
        msg = (
            f"`mrope_section`{where} must be a list of non-negative integers, got {quote(sections)}"
        )
        raise ValueError(msg)
    if len(sections) != len(default):
        msg = (
            f"`mrope_section`{where} must have {len(default)} numbers, one per axis, "
            f"got {quote(list(sections))}"
        )
        raise ValueError(msg)
    if sum(sections) != n_pairs:
        msg = (
            f"`mrope_section`{where} must sum to n_pairs={n_pairs}, got {quote(list(sections))} with sum "
            f"{quote(sum(sections))}"
        )
        raise ValueError(msg)
    return tuple(sections)


def _in_runs(
    runs: tuple[tuple[int, ...], ...], sections: tuple[int, ...], source: str
) -> axes.AxisPerPair:
    """Sections in the order of ``runs``; the axes of a run take turns over equal sections."""
    pairs: list[int] = []
    rest = list(sections)
    for run in runs:
        sizes, rest = rest[: len(run)], rest[len(run) :]
        if len(set(sizes)) > 1:
            msg = (
                f"`mrope_section` in {source} must be equal for axes {list(run)}, which take turns, "
                f"got {quote(list(sections))}"
            )
            raise ValueError(msg)
        pairs += list(run) * sizes[0]
    return axes.AxisPerPair(tuple(pairs))
