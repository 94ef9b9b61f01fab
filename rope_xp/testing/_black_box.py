"""An implementation under test, called with NumPy's values: which arrays it takes, what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Namespace
from rope_xp._validation import as_size, quote

Implementation = Callable[[Array, Array], Array]

# No two sizes are equal and none is 1, so that no wrong shape fits by chance.
_BATCH, _HEADS, _SEQ = 2, 3, 5

#: How x can be in memory.
VIEWS = (
    "plain",
    "(batch, seq, heads, head_dim) in memory",
    "a slice of its last axis",
    "every second token of an array",
    "a row for the whole batch",
)


class RotationError(AssertionError):
    """What an implementation does wrong, in sentences."""


class RefusedError(Exception):
    """The implementation raised an error, which is the cause, or returned no rotated x."""


class Answer(NamedTuple):
    """What an implementation returned.

    Parameters
    ----------
    values : numpy.ndarray of float64, shape of x
    given : numpy.ndarray of float64
        The x that it got, in its dtype.
    left : numpy.ndarray of float64
        What was in the memory of x after the call.
    dtype : str
    """

    values: np.ndarray
    given: np.ndarray
    left: np.ndarray
    dtype: str


class Call(NamedTuple):
    """A call that was made, and what came out.

    Parameters
    ----------
    positions : numpy.ndarray of integers
        As ``fn`` got them: (seq,) or (batch, seq), with axes before.
    answer : Answer
    dtype : str
        Of x.
    """

    positions: np.ndarray
    answer: Answer
    dtype: str


class BlackBox:
    """``fn(x, positions)``, which takes arrays of one library.

    Parameters
    ----------
    fn : callable
        Of x (batch, heads, seq, head_dim) and positions, integers of shape (seq,) or (batch, seq), with
        axes (n_axes, seq) or (n_axes, batch, seq); returns the rotated x.
    head_dim : int
    n_axes : int, optional
        None: positions have no axis of axes.
    xp : namespace, optional
        The library of the arrays that it gets. Default: NumPy, or else the first of those that are
        imported from which it returns an array of the same library.
    device : optional

    Attributes
    ----------
    takes_shared, takes_rows : bool
        Whether positions may be (seq,), (batch, seq).
    refusals : dict of str to str
        What it raised for what it does not take.
    """

    def __init__(
        self,
        fn: Implementation,
        head_dim: int,
        *,
        n_axes: int | None = None,
        xp: Namespace | None = None,
        device: Device | None = None,
    ) -> None:
        if not callable(fn):
            msg = f"`fn` must be callable as fn(x, positions), got {quote(fn)}"
            raise TypeError(msg)
        self.fn, self.head_dim = fn, as_size("head_dim", head_dim)
        self.numpy_errors = np.geterr()  # those of the caller, wherever it is called
        self.n_axes = None if n_axes is None else as_size("n_axes", n_axes)
        if xp is None and device is not None:
            msg = (
                f"`device` must be None without `xp`, the library that has it, got {quote(device)}"
            )
            raise ValueError(msg)
        found = [np, *_backends.imported_libraries()] if xp is None else [xp]
        problems = []
        for each in found:
            self.xp = _backends.compat_namespace(each)
            self.device = _backends.require_device(self.xp, device) if xp is not None else None
            self.refusals: dict[str, str] = {}
            self.takes_shared = self._takes("positions of shape (seq,)", (_SEQ,))
            self.takes_rows = self._takes("positions of shape (batch, seq)", (_BATCH, _SEQ))
            if self.takes_shared or self.takes_rows:
                return
            problems.append(
                f"{_backends.library_name(self.xp)}: {'; '.join(self.refusals.values())}"
            )
        msg = (
            f"`fn` must take x of shape {(_BATCH, _HEADS, _SEQ, head_dim)} and positions of shape "
            f"({_SEQ},) or ({_BATCH}, {_SEQ}), and return the rotated x. {'. '.join(problems)}"
        )
        raise RotationError(msg)

    def require_rows(self, rows: bool | None) -> None:
        """RotationError unless positions of shape (batch, seq) are taken as ``rows`` says."""
        each, shared = "positions of shape (batch, seq)", "positions of shape (seq,)"
        if rows and not self.takes_rows:
            msg = f"`fn` must take {each} with rows=True: {self.refusals[each]}"
            raise RotationError(msg)
        self.rows = rows
        if rows is False:
            if not self.takes_shared:
                msg = f"`fn` must take {shared} with rows=False: {self.refusals[shared]}"
                raise RotationError(msg)
            self.takes_rows = False
            self.refusals[each] = "not asked for (rows=False)"

    def __call__(
        self,
        x: np.ndarray,
        positions: np.ndarray,
        *,
        dtype: str = "float32",
        view: str = "plain",
        integer: str | None = None,
    ) -> Answer:
        """What ``fn`` makes of ``x`` in ``dtype``, as some `view`, at ``positions`` in ``integer``.

        Raises
        ------
        RefusedError
            If it raises an error, or returns something else than an array of the shape of x.
        """
        return self.call(self.array(x, dtype, view), self.positions(positions, integer))

    def call(self, x: Array, positions: Array) -> Answer:
        """As ``fn``, with arrays that were made by `array` and `positions`."""
        given, before = self.values(x), self.values(positions)
        try:
            with np.errstate(**self.numpy_errors):
                y = self.fn(x, positions)
        except Exception as error:
            raise RefusedError(_short(error)) from error
        if (self.values(positions) != before).any():
            msg = "`fn` must leave `positions` as they are, but they were changed in place"
            raise RotationError(msg)
        if y is None:
            msg = "it returned None"
            raise RefusedError(msg)
        if not _backends.is_array(y) or _backends.library_of(y) is not _backends.library_of(x):
            msg = f"it returned {quote(y)} for an array of {_backends.library_name(self.xp)}"
            raise RefusedError(msg)
        if tuple(y.shape) != tuple(x.shape):
            shape = tuple(x.shape)
            msg = f"it returned an array of shape {tuple(y.shape)} for x of shape {shape}"
            raise RefusedError(msg)
        name = _backends.dtype_name(y.dtype)
        if not _backends.is_floating(y):
            msg = f"it returned an array of dtype {name}"
            raise RefusedError(msg)
        try:
            return Answer(self.values(y), given, self.values(x), name)
        except Exception as error:
            raise RefusedError(_short(error)) from error

    def array(self, x: np.ndarray, dtype: str = "float32", view: str = "plain") -> Array:
        """``x`` as an array of the library; ``view``: as which view of a larger one."""
        if view == "plain":
            return self._array(x, dtype)
        if view == "(batch, seq, heads, head_dim) in memory":
            made = self._array(np.ascontiguousarray(np.moveaxis(x, 1, 2)), dtype)
            return self.xp.permute_dims(made, (0, 2, 1, 3))
        if view == "a slice of its last axis":  # as q of a product that has q, k and v
            wide = np.concatenate([x[..., :3] * 0 + 7, x, x * 0 - 9], axis=-1)
            return self._array(wide, dtype)[..., 3 : 3 + x.shape[-1]]
        if view == "every second token of an array":
            wide = np.stack([x, x * 0 + 5], axis=3).reshape(*x.shape[:2], -1, x.shape[-1])
            return self._array(wide, dtype)[:, :, ::2, :]
        if view == "a row for the whole batch":  # expanded: a step of zero
            return self.xp.broadcast_to(self._array(x[:1], dtype), x.shape)
        msg = f"`view` must be one of {', '.join(VIEWS)}, got {view!r}"
        raise ValueError(msg)

    def _array(self, x: np.ndarray, dtype: str) -> Array:
        wide = np.float64 if dtype == "float64" else np.float32
        made = self.xp.asarray(np.array(x, dtype=wide, order="C"), device=self.device)
        return _backends.cast(made, getattr(self.xp, dtype), self.xp)

    def positions(self, positions: np.ndarray, integer: str | None = None) -> Array:
        """``positions`` as an array of the library, in its default dtype or in ``integer``."""
        name = integer or self._integer()
        return self.xp.asarray(
            positions.astype(name), dtype=getattr(self.xp, name), device=self.device
        )

    def _integer(self) -> str:
        return _backends.dtype_name(_backends.default_integer_dtype(self.xp, self.device))

    def values(self, array: Array) -> np.ndarray:
        """A copy as float64, on the host."""
        return np.array(_backends.to_host(array), dtype=np.float64)

    def dtypes(self) -> list[str]:
        """Floating dtypes that the library has here, other than float32."""
        return self._has("float16", "bfloat16", "float64")

    def integer_dtypes(self) -> list[str]:
        """Dtypes that positions may have, other than the default."""
        return [name for name in self._has("int32", "int64") if name != self._integer()]

    def _has(self, *names: str) -> list[str]:
        missing = _backends.missing_dtypes(self.xp, self.device)
        return [name for name in names if name not in missing and hasattr(self.xp, name)]

    def _takes(self, what: str, shape: tuple[int, ...]) -> bool:
        x = np.random.default_rng(0).standard_normal((_BATCH, _HEADS, _SEQ, self.head_dim))
        positions = np.broadcast_to(np.arange(1, _SEQ + 1), self.axes_shape(shape))
        try:
            self(x, positions)
        except RefusedError as refused:
            self.refusals[what] = str(refused)
            return False
        return True

    def axes_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.n_axes is None else (self.n_axes, *shape)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"it raised {type(error).__name__}{f': {lines[0][:200]}' if lines else ''}"
