"""Wavelengths before and after scaling, as a picture."""

from __future__ import annotations

from pathlib import Path

from rope_xp import analysis
from rope_xp._validation import quote
from rope_xp.configs._summary import (
    ConfigOrRopes,
    Part,
    contexts,
    effective_inv_freq,
    read_kinds,
    unscaled,
)
from rope_xp.layouts._pairs import Layout
from rope_xp.rope import RoPE


def plot(
    config: ConfigOrRopes,
    path: str | Path,
    seq_len: int | None = None,
    *,
    layout: Layout | None = None,
    part: Part = "text",
) -> None:
    """Draw the wavelengths before and after scaling against the context, one panel per kind of layer.

    Parameters
    ----------
    config, seq_len, layout, part
        As in `explain`, encodings included.
    path : str or Path
        The picture to write; its suffix determines the format.

    Raises
    ------
    ValueError, TypeError
        As `explain`.
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - a plot alone needs it
    except ImportError:
        msg = "`plot` needs matplotlib: pip install matplotlib, or rope_xp[plot]"
        raise ImportError(msg) from None
    if not isinstance(path, str | Path):
        msg = f"`path` must be a str or a Path, got {quote(path)}"
        raise TypeError(msg)
    summary = read_kinds(config, layout, part)
    ropes: dict[RoPE, str] = {}
    for kind in summary.kinds:
        if kind.layer.rope is not None:
            ropes.setdefault(kind.layer.rope, kind.label or "all layers")
    if not ropes:
        msg = f"`config` must have layers that rotate to be drawn, got {summary.name!r}"
        raise ValueError(msg)
    figure = Figure(figsize=(5.5 * len(ropes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(ropes), squeeze=False, sharey=True)[0]
    for panel, (rope, label) in zip(panels, ropes.items(), strict=True):
        after = analysis.wavelengths(effective_inv_freq(rope.frequencies(seq_len).inv_freq))
        before = analysis.wavelengths(unscaled(rope))
        panel.plot(before, color="0.6", marker="o", markersize=4, mfc="white", lw=1, label="before")
        panel.plot(after, color="black", marker=".", markersize=4, lw=1.2, label="after scaling")
        original, extended = contexts(rope, summary.max_positions)
        lines = {"original context": (original, "--"), "extended context": (extended, ":")}
        if original == extended:
            lines = {"context": (original, "--")}
        for name, (length, style) in lines.items():
            if length is not None:
                panel.axhline(length, color="0.25", ls=style, lw=1.2, label=f"{name}, {length:,}")
        panel.set_yscale("log")
        panel.set_xlabel("pair")
        panel.set_title(label, fontsize=10)
        panel.legend(fontsize=8, frameon=False, loc="upper left")
    unit = "tokens" if all(rope.axes is None for rope in ropes) else "steps"
    panels[0].set_ylabel(f"wavelength ({unit} per turn)")
    each = [r.scaling if isinstance(r.scaling, tuple) else (r.scaling,) for r in ropes]
    schedules = {"default" if s is None else type(s).__name__ for own in each for s in own}
    figure.suptitle(f"{summary.name or 'RoPE'}: {', '.join(sorted(schedules))}", fontsize=11)
    figure.savefig(path, dpi=150)
