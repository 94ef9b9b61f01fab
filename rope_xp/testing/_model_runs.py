"""The runs of a model in which it is seen what it does at which positions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rope_xp._backends import torch_modules
from rope_xp._backends.torch_modules import Applied, Scored, Table
from rope_xp.configs._compare import lengths_of, n_axes_of
from rope_xp.configs._summary import Summary
from rope_xp.rope import RoPE

_TOKENS = 6
# As many positions, if the model takes no others than 0, 1, 2, …; no head has as many features.
_SEQ = 61
_FARTHEST = 2**17 - 1


class Run(NamedTuple):
    """One run.

    Parameters
    ----------
    positions : numpy.ndarray of int64
        Increasing from 0.
    seq_len : int or None
        What schedules take for the length in use; None: within the original context.
    axis : int or None
        The axis of the positions, 0 on the others; None: the same on all axes.
    scored, applied, tables
        As in `torch_modules.Recording`.
    """

    positions: np.ndarray
    seq_len: int | None
    axis: int | None
    scored: list[Scored]
    applied: list[Applied]
    tables: list[Table]


def make_runs(model: Any, summary: Summary) -> tuple[list[Run], list[str]]:
    """The runs, the first one within the original context; and what is said of how they were made.

    Raises
    ------
    ValueError
        If the model does not run.
    """
    ropes = [layer.rope for layer in summary.layers if layer.rope is not None]
    tokens = _tokens(model)
    original, beyond = _lengths(ropes, summary)
    remarks: list[str] = []
    first, problem = None, "forward takes no position_ids"
    if torch_modules.takes_positions(model):
        for farthest in sorted(
            {min(original - 1, n) for n in (_FARTHEST, 2047, 500, 60)}, reverse=True
        ):
            try:
                first = _run(model, tokens, _ladder(farthest))
            except Exception as error:  # noqa: BLE001  (whatever the model raises)
                problem = f"at positions up to {farthest} it raised {_first_line(error)}"
                continue
            break
    if first is not None and ropes and not _changes(first):
        problem, first = "position_ids changed nothing", None
    if first is None:
        n = max(2, min(_SEQ, original))
        remarks.append(f"positions 0 to {n - 1} only were tried: {problem}")
        try:
            return [_run(model, tokens, np.arange(n), in_sequence=True)], remarks
        except Exception as error:
            msg = f"`model` must run on token ids and positions: {problem}; without position_ids it raised {_first_line(error)}"
            raise ValueError(msg) from error
    tried = [f"positions up to {first.positions[-1]:,}"]
    runs = [first]
    for length in beyond:
        try:
            runs.append(_run(model, tokens, _ladder(length - 1), seq_len=length))
            tried.append(f"up to {length - 1:,}, where another schedule is in use")
        except Exception as error:  # noqa: BLE001
            remarks.append(f"{length} tokens were not tried: it raised {_first_line(error)}")
    n_axes = max((n_axes_of(rope) for rope in ropes), default=1)
    for axis in range(n_axes if n_axes > 1 else 0):
        try:
            runs.append(
                _run(model, tokens, _ladder(min(original - 1, 4095)), axis=axis, n_axes=n_axes)
            )
            tried.append(f"on axis {axis} alone up to {runs[-1].positions[-1]:,}")
        except Exception as error:  # noqa: BLE001
            remarks.append(f"axis {axis} was not tried: it raised {_first_line(error)}")
    return runs, [f"tried: {'; '.join(tried)}", *remarks]


def _run(
    model: Any,
    tokens: np.ndarray,
    positions: np.ndarray,
    *,
    seq_len: int | None = None,
    axis: int | None = None,
    n_axes: int = 1,
    in_sequence: bool = False,
) -> Run:
    n = len(positions)
    if in_sequence:
        rows, given = np.repeat(tokens[:, None], n, axis=1), None
    else:
        rows = np.tile(tokens, n)[:, None]
        given = np.repeat(positions, len(tokens))[:, None]
        if axis is not None:
            given = np.stack([given if a == axis else 0 * given for a in range(n_axes)])
    recording = torch_modules.watch(model, rows, given, n_positions=n)
    return Run(positions, seq_len, axis, *recording)


def _tokens(model: Any) -> np.ndarray:
    """Token ids that have no meaning of their own."""
    config = getattr(model, "config", None)
    parts = [config, getattr(config, "text_config", None)]
    size = next((n for p in parts if isinstance(n := getattr(p, "vocab_size", None), int)), 32)
    special: set[int] = set()
    for part in parts:
        for name, value in vars(part).items() if hasattr(part, "__dict__") else ():
            if "token" in name:
                special |= (
                    {value}
                    if isinstance(value, int)
                    else {*(value if isinstance(value, list) else [])}
                )
    free = [n for n in range(min(size, 4096)) if n not in special and n > 2]
    return np.array((free or [*range(size)])[:: max(1, len(free) // _TOKENS)][:_TOKENS])


def _lengths(ropes: list[RoPE], summary: Summary) -> tuple[int, list[int]]:
    """The context for which no schedule changes, and lengths beyond it at which one does."""
    context = summary.max_positions or 2048
    found: set[int] = set()
    for rope in {*ropes}:
        now = rope.frequencies()
        for length in filter(None, lengths_of(rope)):
            then = rope.frequencies(length)
            if not np.array_equal(now.inv_freq, then.inv_freq) or now[1:] != then[1:]:
                found.add(length)
    if not found:
        return max(2, context), []
    lengths = [n for n in sorted(found) if n <= _FARTHEST + 1]
    return max(2, min(min(found) - 1, context)), lengths[len(lengths) // 2 :][:1]


def _ladder(farthest: int) -> np.ndarray:
    """Positions 0, 1, 7, 31, 127, …: all bits are set, so that a dtype with few of them rounds."""
    found = [0, 1]
    while 4 * found[-1] + 3 < farthest:
        found.append(4 * found[-1] + 3)
    return np.array(sorted({*found, farthest}))


def _changes(run: Run) -> bool:
    """Whether the keys of any layer depend on the position."""
    return any(bool((abs(s.k - s.k[0]) > 1e-3 * abs(s.k).max()).any()) for s in run.scored) or any(
        not np.isfinite(s.k).all() for s in run.scored
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{f': {lines[0][:160]}' if lines else ''}"
