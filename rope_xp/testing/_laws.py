"""The laws of a rotary encoding, each a function that tries one of them, in this order."""

from __future__ import annotations

import numpy as np

from rope_xp.testing._black_box import VIEWS, Call
from rope_xp.testing._rounding import ROUNDING
from rope_xp.testing._trial import Trial


def identity(trial: Trial) -> None:
    """At position 0 nothing turns."""
    law = "identity at position 0"
    x = trial.x(2, 3, 4)
    call = trial.call(law, x, trial.place(np.zeros(4, dtype=np.int64), 2))
    trial.compare(law, call, "x of shape (2, 3, 4, head_dim) at position 0")


def same_each_time(trial: Trial) -> None:
    """The same call gives the same result, whatever was called in between; x stays as it was."""
    law = "the same call gives the same result"
    first = trial.first
    x, positions = first.answer.given, first.positions
    changed = first.answer.left != first.answer.given
    if changed.any():
        count = np.count_nonzero(changed)
        text = f"{count} of {x.size} numbers of the caller's x were changed in place."
        trial.fail("x is left as it was", text)
    trial.keeps_its_results(law)
    far = np.array([trial.reach, *range(1, 8)])
    trial.call(law, trial.x(1, 1, 8), trial.place(far))
    again = trial.call(law, x, positions)
    _same(trial, law, first, again, "called again after a longer sequence and larger positions")
    trial.call(law, trial.x(1, 2, 1), trial.place(np.array([3])))
    again = trial.call(law, x, positions)
    _same(trial, law, first, again, "called again after one token")


def _same(trial: Trial, law: str, first: Call, again: Call, tried: str) -> None:
    a, b = first.answer.values, again.answer.values
    error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    trial.record(law, error, np.zeros(error.shape), tried)
    if not (error == 0).all():
        at = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
        a, b = first.answer.values[at], again.answer.values[at]
        text = (
            f"{tried[0].upper()}{tried[1:]} it returns other numbers, {b:.9g} instead of {a:.9g} at {_at(at)}: "
            f"it keeps state between calls, or reads memory that nobody wrote."
        )
        trial.fail(law, text)


def _at(at: tuple[np.intp, ...]) -> str:
    names = ("row", "head", "token", "feature")
    return ", ".join(f"{name} {i}" for name, i in zip(names, at, strict=True))


def norms(trial: Trial) -> None:
    """A rotation keeps norms, but for the attention factor."""
    law = "norms are kept"
    definition = trial.definition
    x = trial.x(2, 3, 9)
    call = trial.call(law, x, trial.place(trial.scattered(9), 2))
    y, given = call.answer.values, call.answer.given
    rotated = ~definition.static
    squares = definition.factor**2 * (given[..., rotated] ** 2).sum(-1)
    want = np.sqrt(squares + (given[..., definition.static] ** 2).sum(-1))
    error = np.abs(np.sqrt((y**2).sum(-1)) - want)
    bounds = 1e-6 * want  # of sums of random numbers: far above roundings, far below any mistake
    trial.record(law, error, bounds, "random x")
    if not (error <= bounds).all():
        trial.compare(law, call, "random x")


def alike(trial: Trial) -> None:
    """Heads and rows at the same positions are rotated alike."""
    law = "heads and rows are rotated alike"
    x = np.repeat(np.repeat(trial.x(1, 1, 5), 3, axis=0), 4, axis=1)
    call = trial.call(law, x, trial.place(trial.scattered(5), 3))
    y = call.answer.values
    error, bounds = np.abs(y - y[:1, :1]), 1e-6 * np.ones(y.shape)
    trial.record(law, error, bounds, "the same x in 3 rows of 4 heads")
    if not (error <= bounds).all():
        trial.compare(law, call, "the same x in 3 rows of 4 heads")


def relative(trial: Trial) -> None:
    """Scores depend on the distance between positions only."""
    law = "scores depend on m - n only"
    q, k = trial.x(1, 3, 4), trial.x(1, 3, 4)
    most = min(trial.reach, 4000)
    at = np.array([1, 0, 5, 2]), np.array([0, 5, 3, 2])
    step = min(most - 5, 611)
    calls = [
        (trial.call(law, q, trial.place(at[0] + s)), trial.call(law, k, trial.place(at[1] + s)))
        for s in (0, step)
    ]
    (q0, k0), (q1, k1) = calls
    scores = [(a.answer.values * b.answer.values).sum(-1) for a, b in calls]
    size = np.sqrt((q0.answer.values**2).sum(-1) * (k0.answer.values**2).sum(-1))
    angles = np.maximum(
        trial.definition.angle_errors(q1.positions), trial.definition.angle_errors(k1.positions)
    )
    error, bounds = np.abs(scores[1] - scores[0]), size * (1e-5 + 2 * angles.max())
    trial.record(law, error, bounds, f"four pairs of tokens, moved by {step}")
    if not (error <= bounds).all():
        for call in (q0, k0, q1, k1):
            trial.compare(law, call, f"tokens moved by {step}")


def composition(trial: Trial) -> None:
    """Rotating twice is rotating by the sum of positions."""
    law = "rotations compose"
    x = trial.x(1, 2, 4)
    m, n = np.array([1, 2, 3, 4]), np.array([3, 1, 0, 1])
    once = trial.call(law, x, trial.place(m))
    twice = trial.call(law, once.answer.values, trial.place(n))
    both = trial.call(law, x, trial.place(m + n))
    scale = np.where(trial.definition.static, 1.0, trial.definition.factor)
    error = np.abs(twice.answer.values - both.answer.values * scale)
    bounds = 1e-5 * np.abs(x).max() * max(1.0, trial.definition.factor**2) * np.ones(error.shape)
    trial.record(law, error, bounds, "two turns, and their sum")
    if not (error <= bounds).all():
        for call in (once, twice, both):
            trial.compare(law, call, "one of two turns")


def pairs(trial: Trial) -> None:
    """Each pair by itself: which features belong together, the direction, the angle."""
    width = trial.definition.rope.head_dim
    x = np.broadcast_to(np.eye(width)[None, :, None, :], (1, width, 4, width))
    call = trial.call("pairs", x, trial.place(np.array([1, 2, 5, 3])))
    y, pair = call.answer.values[0], trial.definition.pair  # (head_dim, 4, head_dim)
    law = "frequencies"
    together = (pair[:, None] == pair) & (pair >= 0) | np.eye(width, dtype=bool)
    if np.abs(y * ~together[:, None, :]).max() > 1e-3:
        law = "the right pairs"
    elif np.allclose(y, trial.definition(x, -call.positions)[0], atol=1e-3):
        law = "the direction"
    trial.compare(law, call, "one feature of x at a time is 1, that of the head's number")


def definition(trial: Trial) -> None:
    """Random x at positions in any order."""
    law = "the definition"
    call = trial.call(law, trial.x(1, 1, 6), trial.place(np.arange(6)))
    trial.compare(law, call, "positions 0 to 5")
    call = trial.call(law, trial.x(2, 3, 16), trial.place(trial.scattered(16), 2))
    trial.compare(law, call, "positions out of order, with gaps")
    # Of the same shape, with the same first, last and largest position, and the same sum.
    positions = trial.scattered(16)
    for again in (positions, np.concatenate([positions[:1], positions[-2:0:-1], positions[-1:]])):
        call = trial.call(law, trial.x(2, 1, 16), trial.place(again, 2))
        trial.compare(law, call, "positions of an earlier call in another order")
    powers = 10.0 ** np.arange(-20, 21, 4)  # (seq,)
    x = trial.x(1, 2, len(powers)) * powers[:, None]
    call = trial.call(law, x, trial.place(trial.scattered(len(powers))))
    trial.compare(law, call, "x from 1e-20 to 1e20")
    for offset in (1, 7, min(trial.reach - 4, 250), min(trial.reach - 4, 3000)):
        call = trial.call(law, trial.x(1, 2, 5), trial.place(offset + np.arange(5)))
        trial.compare(law, call, f"five tokens from position {offset} on")


def sizes(trial: Trial) -> None:
    """Every number of tokens, heads and rows."""
    law = "every size"
    most = min(trial.reach, 4000)
    some = (1, 2, 3, 7, 8, 13, 16, 17, 31, 65, 129, 257, 513, 1024, 1025, 2049)
    shapes = [(1, 1, seq) for seq in some]
    shapes += [(1, 8, 3), (1, 33, 2), (5, 1, 3), (3, 3, 3), (4, 4, 1), (17, 1, 2), (2, 5, 33)]
    # A million numbers, for which there may be another way.
    shapes.append((2, 8, 2**20 // (16 * trial.definition.rope.head_dim) + 1))
    for batch, heads, seq in shapes:
        start = trial.random.integers(1, max(2, most - seq))
        positions = np.minimum(start + np.arange(seq), most)
        call = trial.call(law, trial.x(batch, heads, seq), trial.place(positions, batch))
        trial.compare(law, call, f"{batch} rows, {heads} heads, {seq} tokens")


def rows(trial: Trial) -> None:
    """Each row of a batch has positions of its own."""
    law = "rows of a batch"
    if not trial.box.takes_rows:
        if trial.box.rows is None:
            trial.look_at_chance()
        return
    most = min(trial.reach, 4000)
    for batch, heads, seq in (
        (2, 3, 5),
        (3, 2, 1),
        (5, 4, 1),
        (4, 4, 6),
        (3, 3, 1),
        (6, 2, 6),
        (1, 2, 4),
    ):
        offsets = trial.random.permutation(np.linspace(1, most - seq, batch).astype(np.int64))
        positions = trial.rows(offsets[:, None] + np.arange(seq))
        call = trial.call(law, trial.x(batch, heads, seq), positions)
        tokens = "one token" if seq == 1 else f"{seq} tokens"
        trial.compare(law, call, f"{batch} rows with offsets of their own, {heads} heads, {tokens}")
    positions = trial.scattered(4 * 7).reshape(4, 7)
    for order, tried in (
        ([0, 1, 2, 3], "rows with positions out of order"),
        ([0, 2, 1, 3], "rows in another order than in an earlier call"),
    ):
        call = trial.call(law, trial.x(4, 3, 7), trial.rows(positions[order]))
        trial.compare(law, call, tried)


def after_other_dtypes(trial: Trial) -> None:
    """What an earlier call in another dtype made does not round those that follow."""
    for dtype, call in trial.after_dtypes.items():
        tried = f"float32 after a call in {dtype} that went farther than those before"
        trial.compare("the dtype of earlier calls", call, tried)


def dtypes(trial: Trial) -> None:
    """The dtype of x is that of the result, and its numbers are as good as it can have them."""
    law = "dtypes"
    for dtype in [*trial.dtypes]:
        positions = trial.place(trial.scattered(7), 2)
        call = trial.attempt(dtype, trial.x(2, 3, 7), positions, dtype=dtype)
        if call is None:
            trial.dtypes.remove(dtype)
            continue
        found = call.answer.dtype
        if found != dtype:
            text = f"x of dtype {dtype} comes back as {found}: {_promotion(dtype, found)}."
            trial.fail("the dtype is kept", text)
        trial.compare(law, call, dtype)
        zeros = trial.place(np.zeros(4, dtype=np.int64), 2)
        call = trial.call(law, trial.x(2, 2, 4), zeros, dtype=dtype)
        trial.compare(law, call, f"{dtype} at position 0")
    for dtype in trial.box.integer_dtypes():
        positions, tried = trial.place(trial.scattered(7), 2), f"positions of dtype {dtype}"
        call = trial.attempt(tried, trial.x(2, 3, 7), positions, integer=dtype)
        if call is not None:
            trial.compare(law, call, tried)


def _promotion(dtype: str, found: str) -> str:
    if ROUNDING.get(found, 1.0) < ROUNDING[dtype]:
        return "tables of a wider dtype promoted it, or the dtype of an earlier call was kept"
    return "digits were lost"


def long_positions(trial: Trial) -> None:
    """Positions as long as it goes, in the precision that was asked for."""
    law = f"long positions, {trial.definition.rope.precision} angles"
    powers = 2 ** np.arange(3, 31)
    found = np.concatenate(
        [
            powers - 1,
            powers,
            powers + 1,
            10 ** np.arange(1, 8),
            [trial.reach - 1, trial.reach],
            _WRAPS,
        ]
    )
    found = np.unique(found[(found > 0) & (found <= trial.reach)])
    more = np.exp(trial.random.uniform(0, np.log(trial.reach), size=64)).astype(np.int64)
    for positions in (found, more):
        for dtype in trial.dtypes:
            x, placed = trial.x(1, 2, len(positions)), trial.place(positions)
            tried = f"{dtype}, positions up to {positions.max()}"
            if dtype == "float32":
                trial.compare(law, trial.call(law, x, placed), tried)
            elif (call := trial.attempt(tried, x, placed, dtype=dtype)) is not None:
                trial.compare(law, call, tried)


# What does not fit float16, where fast sines end, and what is no multiple of a power of two.
_WRAPS = np.array([300, 3000, 40_000, 48_040, 65_504, 65_520, 99_991, 131_100, 262_200, 777_777])


def views(trial: Trial) -> None:
    """Any view of memory can be rotated."""
    law = "non-contiguous x"
    for view in VIEWS[1:]:
        x, positions = trial.x(3, 4, 6), trial.place(trial.scattered(6), 3)
        if view.startswith("a row"):
            x = np.repeat(x[:1], 3, axis=0)
        call = trial.attempt(f"x that is {view}", x, positions, view=view)
        if call is None:
            continue
        trial.compare(law, call, f"x is {view}")
        if (call.answer.left != call.answer.given).any():
            text = f"x is {view}: numbers of the caller's x were changed in place."
            trial.fail("x is left as it was", text)


LAWS = (
    same_each_time,
    identity,
    alike,
    norms,
    relative,
    composition,
    pairs,
    definition,
    after_other_dtypes,
    sizes,
    rows,
    dtypes,  # before all that are tried with each
    long_positions,
    views,
)
