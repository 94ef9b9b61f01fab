"""`check`: an implementation against the definition."""

from __future__ import annotations

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Device, Namespace
from rope_xp._validation import as_int, quote, require_bool
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE
from rope_xp.testing._black_box import BlackBox, Implementation
from rope_xp.testing._definition import Definition
from rope_xp.testing._laws import LAWS
from rope_xp.testing._trial import Report, Trial


def check(
    fn: Implementation,
    rope: RoPE,
    *,
    seq_len: SeqLen = None,
    max_position: int | None = None,
    rows: bool | None = None,
    xp: Namespace | None = None,
    device: Device | None = None,
    seed: int = 0,
) -> Report:
    """Try an implementation of RoPE against the definition, on some 100 calls.

    Parameters
    ----------
    fn : callable
        ``fn(x, positions)`` returns the rotated x. It gets x of shape (batch, heads, seq, head_dim) and
        integer positions of shape (seq,) and (batch, seq), with ``rope.axes`` (n_axes, ...). What it
        refuses with an error of its own is reported as not tried: one of the two shapes, a dtype,
        positions beyond the end of its table. What it computes wrong fails.
    rope : RoPE
        What it should be. Its ``precision`` is tested, too: ``"exact"``, or ``"float32"``, angles that
        are products in float32 of frequencies in float32.
    seq_len : int or tuple, optional
        As in `RoPE.frequencies`, for schedules that depend on the length.
    max_position : int, optional
        The largest position; an error of ``fn`` up to there fails. Default: a million, or as far as it goes.
    rows : bool, optional
        True: ``fn`` must take positions of shape (batch, seq). False: these are not tried. Default: what it
        does with them must be right if it takes them.
    xp : namespace, optional
        The library of the arrays that ``fn`` gets. Default: NumPy, or else the first of those imported
        that it takes.
    device : optional
        As in the functions of ``xp`` that make arrays.
    seed : int
        Of the random numbers in x.

    Returns
    -------
    Report
        Each law with the largest error and its bound, and what was not tried; prints as a table.

    Raises
    ------
    RotationError
        An `AssertionError`: which law is broken, where, by how much, and what it looks like.
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Notes
    -----
    Bounds are derived, for each number of the result: see the source of `rope_xp.testing`. They allow for
    tables in float32, whatever the dtype of x is; for float16 and bfloat16 also for tables, products and
    sums that are rounded to the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> def rotate_half(x, positions):
    ...     inv_freq = 10000.0 ** (-np.arange(0, 8, 2) / 8)
    ...     angles = positions[:, None] * np.concatenate([inv_freq, inv_freq])
    ...     turned = np.concatenate([-x[..., 4:], x[..., :4]], axis=-1)
    ...     return (x * np.cos(angles) + turned * np.sin(angles)).astype(x.dtype)
    >>> report = check(rotate_half, RoPE(8, layout="half"))
    >>> report.not_tried[0]
    'positions of shape (batch, seq): it raised ValueError: ...'
    >>> check(rotate_half, RoPE(8, layout="interleaved"))
    Traceback (most recent call last):
    ...
    rope_xp.testing.RotationError: `fn` is not RoPE(8, layout='interleaved'): ...
    """
    if not isinstance(rope, RoPE):
        msg = f"`rope` must be a RoPE, got {quote(rope)}"
        raise TypeError(msg)
    if max_position is not None:
        max_position = as_int("max_position", max_position)
        if not 8 <= max_position < 2**31:
            msg = f"`max_position` must be in [8, 2**31), got {quote(max_position)}"
            raise ValueError(msg)
    seed = as_int("seed", seed)
    if seed < 0:
        msg = f"`seed` must be at least 0, got {quote(seed)}"
        raise ValueError(msg)
    rows = None if rows is None else require_bool("rows", rows)
    n_axes = None if rope.axes is None else len(rope.frequencies(seq_len).inv_freq)
    box = BlackBox(fn, rope.head_dim, n_axes=n_axes, xp=xp, device=device)
    box.require_rows(rows)
    trial = Trial(box, Definition(rope, seq_len), np.random.default_rng(seed), max_position)
    with np.errstate(all="ignore"):  # of what is not finite, a law says more
        for law in LAWS:
            law(trial)
    return Report(_backends.library_name(box.xp), tuple(trial.found.values()), tuple(trial.skipped))
