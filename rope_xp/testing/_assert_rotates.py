"""`assert_rotates`: a kernel on all cases, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Namespace
from rope_xp._validation import quote, require_bool
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE
from rope_xp.testing._black_box import Answer, Call, RotationError
from rope_xp.testing._cases import Case, Maker, Tables, Takes
from rope_xp.testing._rounding import NARROW
from rope_xp.testing._symptoms import describe_difference, looks_like
from rope_xp.testing._tolerance import Tolerance

Gradient = Callable[..., Array] | Literal["autodiff"]


def assert_rotates(
    fn: Callable[..., Array],
    rope: RoPE,
    *,
    takes: Takes = "positions",
    in_place: bool = False,
    gradient: Gradient | None = None,
    xp: Namespace | None = None,
    device: Device | None = None,
    dtypes: Sequence[Any] | None = None,
    table_dtype: Any = None,
    repeated: bool = False,
    rows: bool | None = None,
    views: bool = True,
    seq_axis: int = -2,
    seq_len: SeqLen = None,
    max_position: int | None = None,
    rounds_once: bool = False,
    seed: int = 0,
) -> None:
    """A kernel rotates as ``rope`` does, on all `cases`; for tests.

    Parameters
    ----------
    fn : callable
        ``fn(x, positions)``, or of a kernel that takes tables ``fn(x, cos, sin)``; returns the rotated x
        and leaves its arguments as they are.
    rope : RoPE
    takes : {"positions", "tables"}
    in_place : bool
        ``fn`` writes into x; what it returns is not looked at. Memory around x must stay as it is.
    gradient : callable or "autodiff", optional
        ``gradient(grad_out, positions)`` or ``gradient(grad_out, cos, sin)``, the gradient of x: a rotation
        the other way, times the factor. It is also called with what ``fn`` made of x, which gives x
        back. "autodiff": what the library's autograd (torch) or ``vjp`` (JAX) makes of ``fn``.
    xp, device, dtypes, table_dtype, repeated, rows, views, seq_axis, seq_len, max_position, rounds_once, seed
        As in `cases`; ``dtypes``, ``rows``, ``views`` and ``max_position`` leave out what the kernel does
        not take.

    Raises
    ------
    RotationError
        An `AssertionError`: the case, the element, both numbers, the tolerance, and what it looks like.
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from rope_xp import RoPE
    >>> rope = RoPE(8, layout="half")
    >>> assert_rotates(rope.rotate, rope, takes="tables")
    >>> assert_rotates(lambda x, positions: -x, rope)
    Traceback (most recent call last):
    ...
    rope_xp.testing.RotationError: `fn` is not RoPE(8, layout='half'). Case 'positions from 0 on, float32': ...
    """
    if not callable(fn):
        arguments = "x, cos, sin" if takes == "tables" else "x, positions"
        msg = f"`fn` must be callable as fn({arguments}), got {quote(fn)}"
        raise TypeError(msg)
    in_place = require_bool("in_place", in_place)
    if gradient is not None and not callable(gradient) and gradient != "autodiff":
        msg = f"`gradient` must be a function, 'autodiff' or None, got {quote(gradient)}"
        raise TypeError(msg)
    if gradient == "autodiff" and in_place:
        msg = "`gradient` must be a function or None with in_place=True, got 'autodiff'"
        raise ValueError(msg)
    maker = Maker(
        rope,
        takes=takes,
        xp=np if xp is None else xp,
        device=device,
        dtypes=dtypes,
        table_dtype=table_dtype,
        repeated=repeated,
        rows=rows,
        views=views,
        seq_axis=seq_axis,
        seq_len=seq_len,
        max_position=max_position,
        rounds_once=rounds_once,
        seed=seed,
    )
    if gradient == "autodiff":
        _backends.require_vjp("gradient", maker.xp)
    earlier: list[np.ndarray] = []
    for case, tables in maker.cases():
        if not (in_place and case.expanded):
            _Trial(maker, case, tables, in_place, earlier)(fn, gradient)
            earlier.append(_host(case.positions).astype(int))


class _Trial:
    """A kernel on one case."""

    def __init__(
        self, maker: Maker, case: Case, tables: Tables, in_place: bool, earlier: list[np.ndarray]
    ) -> None:
        self.maker, self.case, self.tables, self.earlier = maker, case, tables, earlier
        self.in_place = in_place
        self.arguments: tuple[Array, ...] = (case.positions,)
        if maker.takes == "tables":
            self.arguments = (case.cos, case.sin)

    def __call__(self, fn: Callable[..., Array], gradient: Gradient | None) -> None:
        case = self.case
        given = _host(case.x)
        if gradient == "autodiff":  # before x can change
            got = self.call("gradient", lambda x, g: self.vjp(fn, x, g), case.x, case.grad_out)
            if got is None:
                self.fail("gradient", "What `fn` returns does not depend on x to autograd.")
            self.compare("gradient", got, case.grad_out, case.expected_grad, case.grad_tolerance)
        memory = None if case.memory is None else _host(case.memory)
        y = self.call("fn", fn, case.x, *self.arguments)
        self.require_memory(memory)
        y = case.x if self.in_place else self.require_array("fn", y)
        if not self.in_place and not np.array_equal(_host(case.x), given):
            self.fail("fn", "It changed x; for a kernel that is meant to, pass in_place=True.")
        self.compare("fn", y, given, case.expected, case.tolerance)
        if callable(gradient):
            rotated = _host(y)
            given = _host(case.grad_out)
            got = self.call("gradient", gradient, case.grad_out, *self.arguments)
            got = case.grad_out if self.in_place and got is None else got
            self.compare("gradient", got, given, case.expected_grad, case.grad_tolerance)
            back = self.call("gradient", gradient, y, *self.arguments)
            back = y if self.in_place and back is None else back
            self.compare_back(rotated, self.require_array("gradient", back))

    def vjp(self, fn: Callable[..., Array], x: Array, grad_out: Array) -> Array:
        return _backends.vjp(lambda x: fn(x, *self.arguments), x, grad_out)

    def call(self, name: str, fn: Callable[..., Array], *arguments: Array) -> Array:
        before = [_host(each) for each in self.arguments]
        try:
            made = fn(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises
            library = _backends.library_name(self.maker.xp)
            self.fail(
                name,
                f"It raised {type(error).__name__}: {quote(str(error))}. Its arrays are those of {library} "
                "(`xp`); dtypes=, rows=, views=False and max_position= leave out what it does not take.",
                error,
            )
        if not all(map(np.array_equal, before, map(_host, self.arguments))):
            which = "the tables" if self.maker.takes == "tables" else "positions"
            self.fail(name, f"It changed {which}.")
        return made

    def require_array(self, name: str, y: Array) -> Array:
        x = self.case.x
        if y is None:
            self.fail(
                name, "It returned None; for a kernel that writes into x, pass in_place=True."
            )
        if not _backends.is_array(y) or _backends.library_of(y) is not _backends.library_of(x):
            library = _backends.library_name(self.maker.xp)
            self.fail(name, f"It returned {quote(y)} for an array of {library}.")
        for what in ("shape", "dtype"):
            got, want = getattr(y, what), getattr(x, what)
            if got != want:
                self.fail(name, f"It returned an array of {what} {got} for x of {what} {want}.")
        return y

    def require_memory(self, before: np.ndarray | None) -> None:
        """What is around x is as it was."""
        memory, outside = self.case.memory, self.case.outside
        if memory is None or before is None or outside is None:
            return
        after = _host(memory)
        changed = np.flatnonzero((after != before) & outside)
        if len(changed):
            at = changed[0]
            text = (
                f"It wrote outside of x: of the {np.count_nonzero(outside)} elements around it in memory, "
                f"{len(changed)} changed, the first from {before.flat[at]:g} to {after.flat[at]:g}. This looks "
                "like strides that are not those of x, or a mask that is missing at the end."
            )
            self.fail("fn", text)

    def compare(
        self, name: str, got: Array, given: Any, want: np.ndarray, allowed: np.ndarray
    ) -> None:
        values = _host(self.require_array(name, got))
        error = np.where(values == want, 0.0, np.abs(values - want))
        if not (error <= allowed).all():
            given = given if isinstance(given, np.ndarray) else _host(given)
            self.fail(name, self.difference(name, values, given, want, allowed))

    def compare_back(self, rotated: np.ndarray, back: Array) -> None:
        """The gradient undoes what ``fn`` did to x, but for the factor."""
        maker, case, tolerance = self.maker, self.case, self.maker.tolerance
        axis, exact = maker.seq_axis, maker.definition.exact
        want = exact.rotate(case.expected, *self.tables, seq_axis=axis, inverse=True)
        positions = None if maker.takes == "tables" else _host(case.positions).astype(int)
        allowed = tolerance(rotated, self.tables, want, positions=positions, dtype=case.dtype)
        turns, partner = tolerance.turns, tolerance.partner
        cos, sin = tolerance.of_features(self.tables)
        spread = case.tolerance[..., turns] * cos + case.tolerance[..., partner] * sin
        allowed[..., turns] += 1.01 * spread
        error = np.abs(_host(back) - want)
        if not (error <= allowed).all():
            text = f"It must undo `fn`: {self.worst(_host(back), want, allowed)}"
            self.fail("gradient", text)

    def difference(
        self, name: str, got: np.ndarray, given: np.ndarray, want: np.ndarray, allowed: np.ndarray
    ) -> str:
        """Where it is wrong, and what it looks like."""
        maker, case = self.maker, self.case
        worst = self.worst(got, want, allowed)
        if maker.seq_axis == -3:
            got, given = np.swapaxes(got, 1, 2), np.swapaxes(given, 1, 2)
        positions = _host(case.positions).astype(int) * (-1 if name == "gradient" else 1)
        call = Call(positions, Answer(got, given, given, case.dtype), case.dtype)
        definition = maker.definition
        want = definition(given, positions)
        error = np.abs(got - want)
        if (error <= definition.bounds(given, positions, case.dtype)).all():
            looks = (
                f"tables, products or sums that are rounded to {case.dtype} each"
                if case.dtype in NARROW
                else "tables that it does not use as they are given, or numbers rounded on the way"
            )
            return f"{worst} The errors are small: this looks like {looks}."
        rounded = self.arithmetic(error, given, want)
        if rounded:
            return f"{worst} Errors are as large as those of arithmetic in {rounded}."
        if name == "gradient" and (text := self.wrong_gradient(got, given, allowed)):
            return f"{worst} This looks like {text}."
        found = looks_like(definition, call, [], self.earlier)
        if found is None and case.memory is not None and case.memory.ndim > 1:
            found = (
                "This looks like strides of x that it ignores: where the elements of x are one after the "
                "other, it is right."
            )
        text = " ".join(filter(None, (describe_difference(definition, call), found)))
        return text if name == "fn" else f"As a rotation to positions times -1: {text}"

    def wrong_gradient(self, got: np.ndarray, given: np.ndarray, allowed: np.ndarray) -> str:
        """What else the gradient may be, or ""."""
        maker = self.maker
        factor, exact, turns = (
            maker.definition.factor,
            maker.definition.exact,
            maker.tolerance.turns,
        )
        if maker.seq_axis == -3:
            got, given = np.swapaxes(got, 1, 2), np.swapaxes(given, 1, 2)
            allowed = np.swapaxes(allowed, 1, 2)
        there, back = (exact.rotate(given, *self.tables, inverse=i) for i in (False, True))
        inverse = np.where(turns, back / factor**2, back) if factor else back
        texts = {
            "the same direction as `fn`: sin has the other sign in a gradient": there,
            "the inverse, which divides by the factor: the gradient multiplies by it": inverse,
            "a gradient that is not rotated": given,
            "zeros": given * 0,
        }
        for text, other in texts.items():
            if (np.abs(got - other) <= 4 * allowed + 1e-6 * np.abs(other)).all():
                return text
        return ""

    def arithmetic(self, error: np.ndarray, given: np.ndarray, want: np.ndarray) -> str:
        """The dtype with fewer digits than that of x, the roundings of which give such errors, or ""."""
        maker, case = self.maker, self.case
        turns = maker.tolerance.turns
        for dtype in NARROW:
            if case.dtype in ("float32", "float64") and want[..., turns].any():
                allowed = Tolerance(maker.definition, -2, rounds_once=False)(
                    given, self.tables, want, positions=None, dtype=dtype
                )
                share = error[..., turns] / allowed[..., turns]
                if share.max() <= 1 and share.mean() > 0.03 and not error[..., ~turns].any():
                    return dtype
        return ""

    def worst(self, got: np.ndarray, want: np.ndarray, allowed: np.ndarray) -> str:
        error = np.nan_to_num(np.abs(got - want), nan=np.inf)
        at = tuple(
            map(int, np.unravel_index(np.argmax(error / np.maximum(allowed, 1e-300)), got.shape))
        )
        names = ("row", "token", "head") if self.maker.seq_axis == -3 else ("row", "head", "token")
        where = ", ".join(f"{name} {i}" for name, i in zip((*names, "feature"), at, strict=True))
        wrong = np.count_nonzero(~(error <= allowed))
        return (
            f"{where}: got {got[at]:.9g}, expected {want[at]:.9g}; difference {error[at]:.2g}, tolerance "
            f"{allowed[at]:.1g}. {wrong} of {got.size} numbers are wrong."
        )

    def fail(self, name: str, text: str, cause: BaseException | None = None) -> NoReturn:
        case, what = self.case, "the gradient of " if name == "gradient" else ""
        shapes = f"x {tuple(case.x.shape)}, positions {tuple(case.positions.shape)}"
        msg = f"`{name}` is not {what}{self.maker.rope!r}. Case '{case}': {shapes}. {text}"
        raise RotationError(msg) from cause


def _host(array: Array) -> np.ndarray:
    return np.array(_backends.to_host(array), dtype=np.float64)
