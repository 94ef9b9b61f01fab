"""`cases`: inputs for a kernel, what it must make of them, and how far from that it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rope_xp import _backends
from rope_xp._backends import Array, Device, Namespace
from rope_xp._validation import (
    as_int,
    is_listable,
    quote,
    require_bool,
    require_one_of,
)
from rope_xp.positions._alignment import SeqLen
from rope_xp.rope import RoPE
from rope_xp.testing._definition import Definition
from rope_xp.testing._rounding import ROUNDING
from rope_xp.testing._tolerance import LARGEST, Tolerance
from rope_xp.testing._trial import FARTHEST

Takes = Literal["positions", "tables"]
Tables = tuple[np.ndarray, np.ndarray]

#: What is in memory around x.
_AROUND = 5.0

#: How many of them there are on either side: as many as the blocks of kernels may have.
_MARGIN = 2048


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One call of a kernel: what it gets, and what must come out.

    Prints as its name, so that it can be a parameter of a test with ``ids=str``.

    Parameters
    ----------
    name : str
        What is special about it, and the dtype.
    dtype : str
        Of ``x``.
    x : array, shape (batch, heads, seq, head_dim), with ``seq_axis=-3`` (batch, seq, heads, head_dim)
    positions : integer array, shape (seq,) or (batch, seq), with axes (n_axes, ...)
    cos, sin : array, shape (..., seq, n_pairs), or as wide as the rotated part
        Factor included.
    expected, tolerance : numpy.ndarray of float64, shape of x
        The rotated ``x``, and how far each number may be from it; 0 outside the rotated part.
    grad_out : array, shape of x
        A gradient of the result.
    expected_grad, grad_tolerance : numpy.ndarray of float64, shape of x
        The gradient of ``x``: ``grad_out`` rotated the other way, times the factor.
    memory : array, optional
        The array of which ``x`` is a view, where the library has views. A kernel that works in place
        must leave the rest of it as it is.
    outside : numpy.ndarray of bool, optional
        Which elements of ``memory`` are not in ``x``.
    expanded : bool
        Whether elements of ``x`` share their memory: nothing for a kernel that works in place.
    """

    name: str
    dtype: str
    x: Array
    positions: Array
    cos: Array
    sin: Array
    expected: np.ndarray
    tolerance: np.ndarray
    grad_out: Array
    expected_grad: np.ndarray
    grad_tolerance: np.ndarray
    memory: Array | None = None
    outside: np.ndarray | None = None
    expanded: bool = False

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def cases(
    rope: RoPE,
    *,
    takes: Takes = "positions",
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
) -> tuple[Case, ...]:
    r"""Inputs for a kernel that rotates, with expected results and tolerances.

    Batches of 1 and 3, heads of 1, 3 and 5, sequences of 1, 3, 7, 17 and 131 tokens; positions from 0 on,
    that restart, with another offset in each row, one token for each row, up to ``max_position``; and
    where the library has views, x in memory as tokens before heads, as a part of a larger product, a slice
    of the features, every second token, and one row for the whole batch. The first of ``dtypes`` gets all
    of them, the others those about positions.

    Parameters
    ----------
    rope : RoPE
        What the kernel computes.
    takes : {"positions", "tables"}
        What it gets: for one with tables, ``expected`` is of the tables as they are in ``table_dtype``, so
        that their rounding does not count.
    xp : namespace, optional
        The library of the arrays; default NumPy.
    device : optional
        As in the functions of ``xp`` that make arrays.
    dtypes : sequence of str or dtypes, optional
        Default: float32, float16, bfloat16 and float64, where ``xp`` has them.
    table_dtype : str or dtype, optional
        Of ``cos`` and ``sin``; default float32, for x in float64 that.
    repeated : bool
        Tables have a column for each rotated feature: of width ``rotary_dim``, not ``n_pairs``.
    rows : bool, optional
        True: positions are always (batch, seq), False: always (seq,). Default: both occur.
    views : bool
        False: x always has its elements one after the other.
    seq_axis : {-2, -3}
        -3: x is (batch, seq, heads, head_dim).
    seq_len : int or tuple, optional
        As in `RoPE.frequencies`.
    max_position : int, optional
        The largest position; default a million.
    rounds_once : bool
        The kernel computes in float32 at least and rounds the result alone: float16 and bfloat16 then have
        a smaller tolerance.
    seed : int
        Of the random numbers in x.

    Returns
    -------
    tuple of Case

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Notes
    -----
    With :math:`u` for one rounding in the dtype of x (:math:`2^{-11}` float16, :math:`2^{-8}` bfloat16,
    :math:`2^{-24}` float32, :math:`2^{-53}` float64), a pair :math:`(a, b)` and the result :math:`y`, the
    tolerance of :math:`y = a\cos\phi - b\sin\phi` is

    .. math:: u\,(2 |a \cos\phi| + 2 |b \sin\phi| + |y|) (1 + 4u) + (|a| + |b| + 3)\,t

    Table entries and products may each be rounded to the dtype, then the sum; :math:`4u` is what these
    roundings do to each other, and :math:`t` the smallest number that the dtype tells from zero (half of
    it: :math:`2^{-25}` in float16; :math:`2^{-126}` in float32 and bfloat16, which GPUs may flush). With
    ``rounds_once`` it is :math:`2^{-24}(2|a\cos\phi| + 2|b\sin\phi| + |y|) + u |y|` instead. In float64 it
    is doubled, because ``expected`` has that dtype.

    A kernel that takes positions makes its own tables, in float32 whatever the dtype of x: that adds
    :math:`f (|a| + |b|)(6 \cdot 2^{-24} + ε)`, where :math:`f` is the attention factor, 6 are the roundings of
    cos and sin, and :math:`ε` is what the angle may be wrong: :math:`|p θ| (4 + 3 |\ln θ|)` roundings of
    float64, or with ``precision="float32"`` of float32, for an exponent of three factors, its power or
    exponential, a reciprocal, and the product.

    Examples
    --------
    >>> import numpy as np
    >>> from rope_xp import RoPE
    >>> rope = RoPE(8, layout="half")
    >>> for case in cases(rope, takes="tables", dtypes=["float32"])[:3]:
    ...     error = np.abs(rope.rotate(case.x, case.cos, case.sin) - case.expected)
    ...     print(case, case.x.shape, bool((error <= case.tolerance).all()))
    positions from 0 on, float32 (1, 5, 17, 8) True
    three rows at the same positions, float32 (3, 1, 3, 8) True
    positions that restart, float32 (1, 3, 7, 8) True
    """
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
    return tuple(case for case, _ in maker.cases())


class Maker:
    """Makes cases from checked arguments; those of `cases`."""

    def __init__(self, rope: RoPE, **options: Any) -> None:
        if not isinstance(rope, RoPE):
            msg = f"`rope` must be a RoPE, got {quote(rope)}"
            raise TypeError(msg)
        self.rope, self.seq_len = rope, options["seq_len"]
        self.takes = require_one_of("takes", options["takes"], ("positions", "tables"))
        self.repeated = require_bool("repeated", options["repeated"])
        self.views = require_bool("views", options["views"])
        self.rounds_once = require_bool("rounds_once", options["rounds_once"])
        self.rows = None if options["rows"] is None else require_bool("rows", options["rows"])
        self.seq_axis: int = as_int("seq_axis", options["seq_axis"])
        if self.seq_axis not in (-2, -3):
            msg = f"`seq_axis` must be -2 or -3, got {quote(options['seq_axis'])}"
            raise ValueError(msg)
        largest = options["max_position"]
        self.far = FARTHEST if largest is None else as_int("max_position", largest)
        if not 8 <= self.far < 2**31:
            msg = f"`max_position` must be in [8, 2**31), got {quote(largest)}"
            raise ValueError(msg)
        self.seed = as_int("seed", options["seed"])
        if self.seed < 0:
            msg = f"`seed` must be at least 0, got {quote(self.seed)}"
            raise ValueError(msg)
        self.xp = _backends.compat_namespace(options["xp"])
        self.device = _backends.require_device(self.xp, options["device"])
        self.definition = Definition(rope, self.seq_len)
        self.tolerance = Tolerance(self.definition, self.seq_axis, self.rounds_once)
        self.dtypes = self._dtypes(options["dtypes"])
        table = options["table_dtype"]
        self.table_dtype = None if table is None else self._dtype("table_dtype", table)

    def cases(self) -> Iterator[tuple[Case, Tables]]:
        """Each case, and its tables in float64."""
        for name, dtype in self.dtypes.items():
            first = name == next(iter(self.dtypes))
            for row in _GRID:
                if (row.every or first) and (row.positions.ndim == 1 or self.rows is not False):
                    yield self._case(row, name, dtype)
            if first and self.views and self._has_views():
                for row in _VIEWS:
                    yield self._case(row, name, dtype)

    def _case(self, row: _Row, name: str, dtype: Any) -> tuple[Case, Tables]:
        batch, heads, seq = row.sizes
        positions = self._place(row.positions, batch)
        random = np.random.default_rng([self.seed, *map(ord, row.name + name)])
        order = (batch, seq, heads) if self.seq_axis == -3 else row.sizes
        shape = (*order, self.rope.head_dim)
        base, as_view = row.view(random.standard_normal(shape), self.seq_axis == -3, self.xp)
        memory = self._array(base, dtype)
        x = as_view(memory)
        grad_out = self._array(random.standard_normal(shape), dtype)

        exact = self.definition.exact
        tables = exact.cos_sin(positions, seq_len=self.seq_len, dtype=np.float64)
        table_dtype = self.table_dtype
        if table_dtype is None:
            table_dtype = dtype if name == "float64" else self.xp.float32
        made = tuple(self._array(t, table_dtype) for t in tables)
        at: np.ndarray | None = positions
        if self.takes == "tables":
            at, tables = None, (_values(made[0]), _values(made[1]))
        if self.repeated:
            repeated = (_values(t)[..., self.tolerance.columns] for t in made)
            made = tuple(self._array(t, table_dtype) for t in repeated)
        results = []
        for values, inverse in ((_values(x), False), (_values(grad_out), True)):
            want = exact.rotate(values, *tables, seq_axis=self.seq_axis, inverse=inverse)
            allowed = self.tolerance(values, tables, want, positions=at, dtype=name)
            results += [want, allowed]
        has_views = self._has_views()
        case = Case(
            name=f"{row.name}, {name}",
            dtype=name,
            x=x,
            positions=self._positions(positions),
            cos=made[0],
            sin=made[1],
            expected=results[0],
            tolerance=results[1],
            grad_out=grad_out,
            expected_grad=results[2],
            grad_tolerance=results[3],
            memory=memory if has_views else None,
            outside=base == _AROUND if has_views else None,
            expanded=row.view is _one_row,
        )
        return case, tables

    def _place(self, positions: np.ndarray, batch: int) -> np.ndarray:
        """Positions as the kernel takes them; each axis gets others."""
        if positions.ndim == 2 and self.rows is False:
            positions = positions[-1]
        if positions.ndim == 1 and self.rows:
            positions = np.broadcast_to(positions, (batch, len(positions)))
        positions = np.minimum(positions, self.far)
        if self.rope.axes is None:
            return positions
        n_axes = len(self.definition.inv_freq)
        return np.stack([np.abs(positions - 3 * axis) for axis in range(n_axes)])

    def _array(self, values: np.ndarray, dtype: Any) -> Array:
        wide = np.float64 if _backends.dtype_name(dtype) == "float64" else np.float32
        made = self.xp.asarray(np.array(values, dtype=wide, order="C"), device=self.device)
        return _backends.cast(made, dtype, self.xp)

    def _positions(self, positions: np.ndarray) -> Array:
        dtype = _backends.default_integer_dtype(self.xp, self.device)
        host = positions.astype(_backends.dtype_name(dtype))
        return self.xp.asarray(host, dtype=dtype, device=self.device)

    def _has_views(self) -> bool:
        """Whether arrays have strides and can be written to."""
        made = self.xp.zeros(2, device=self.device)
        return bool(_backends.strides(made)) and _backends.is_writable(made)

    def _dtypes(self, dtypes: Sequence[Any] | None) -> dict[str, Any]:
        if dtypes is None:
            missing = _backends.missing_dtypes(self.xp, self.device)
            names = ("float32", "float16", "bfloat16", "float64")
            largest = 16 * abs(self.definition.factor)  # of random numbers, rotated
            dtypes = [
                each
                for each in names
                if each not in missing and hasattr(self.xp, each) and largest < LARGEST[each]
            ]
        if not is_listable(dtypes) or len(dtypes) == 0:
            msg = f"`dtypes` must be a sequence of floating dtypes or their names, got {quote(dtypes)}"
            raise TypeError(msg)
        made = [self._dtype(f"dtypes[{i}]", each) for i, each in enumerate(dtypes)]
        return {_backends.dtype_name(each): each for each in made}

    def _dtype(self, name: str, dtype: Any) -> Any:
        """The dtype of the library with this name."""
        text = dtype if isinstance(dtype, str) else _backends.dtype_name(dtype)
        if text not in ROUNDING:
            msg = f"`{name}` must be one of {', '.join(ROUNDING)}, got {quote(dtype)}"
            raise TypeError(msg)
        found = getattr(self.xp, text, None)
        if found is None and _backends.library_name(self.xp) == "numpy":
            try:
                found = np.dtype(text)  # known once ml_dtypes is imported
            except TypeError:
                found = None
        missing = _backends.missing_dtypes(self.xp, self.device)
        if found is None or text in missing:
            library = _backends.library_name(self.xp)
            msg = f"`{name}` must be a dtype that {library} has here, got {text}"
            raise TypeError(msg)
        return found


def _values(array: Array) -> np.ndarray:
    """A copy as float64, on the host."""
    return np.array(_backends.to_host(array), dtype=np.float64)


# -- x in memory: of its values, whether tokens come before heads, and the library: what is in memory, and
# the view of it


def _plain(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:  # noqa: ARG001
    memory = np.full(x.size + 2 * _MARGIN, _AROUND)
    memory[_MARGIN:-_MARGIN] = x.ravel()
    return memory, lambda made: xp.reshape(made[_MARGIN : _MARGIN + x.size], x.shape)


def _swapped(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:  # noqa: ARG001
    return np.swapaxes(x, 1, 2), lambda made: xp.permute_dims(made, (0, 2, 1, 3))


def _part_of_product(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:
    x = x if tokens_first else np.swapaxes(x, 1, 2)
    heads = x.shape[2]
    memory = np.full((*x.shape[:2], heads + 3, x.shape[3]), _AROUND)
    memory[:, :, 1 : 1 + heads] = x

    def view(made: Any) -> Any:
        part = made[:, :, 1 : 1 + heads]
        return part if tokens_first else xp.permute_dims(part, (0, 2, 1, 3))

    return memory, view


def _slice_of_features(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:  # noqa: ARG001
    memory = np.full((*x.shape[:3], x.shape[3] + 16), _AROUND)
    memory[..., 8:-8] = x
    return memory, lambda made: made[..., 8 : 8 + x.shape[3]]


def _second_tokens(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:  # noqa: ARG001
    axis = 1 if tokens_first else 2
    memory = np.repeat(x, 2, axis=axis)
    where = (slice(None),) * axis
    memory[(*where, slice(1, None, 2))] = _AROUND
    return memory, lambda made: made[(*where, slice(None, None, 2))]


def _one_row(x: np.ndarray, tokens_first: bool, xp: Any) -> Any:  # noqa: ARG001
    return x[:1], lambda made: xp.broadcast_to(made, x.shape)


#: Larger than any position: the largest of them, wherever that is.
_LAST = 2**31


class _Row(NamedTuple):
    """A line of the grid.

    Parameters
    ----------
    name : str
    sizes : tuple of int
        (batch, heads, seq).
    positions : numpy.ndarray of int
        (seq,) or (batch, seq).
    view : callable
        How x is in memory.
    every : bool
        Whether every dtype gets it, or the first alone.
    """

    name: str
    sizes: tuple[int, int, int]
    positions: np.ndarray
    view: Callable[[np.ndarray, bool, Any], Any] = _plain
    every: bool = False


_OFFSETS = np.array([[0], [7], [1000]])
_LONG = np.array([4095, 65537, 131071, 524289, 999_983, _LAST - 1, _LAST])

_GRID = (
    _Row("positions from 0 on", (1, 5, 17), np.arange(17), every=True),
    _Row("three rows at the same positions", (3, 1, 3), np.arange(5, 8)),
    _Row("positions that restart", (1, 3, 7), np.array([0, 1, 2, 0, 1, 0, 1])),
    _Row("one token", (1, 1, 1), np.array([3])),
    _Row("an offset for each row", (3, 5, 17), _OFFSETS + np.arange(17), every=True),
    _Row("one token for each row", (3, 5, 1), np.array([[2], [17], [4095]]), every=True),
    _Row("as many rows as heads and tokens", (3, 3, 3), _OFFSETS + np.arange(3)),
    _Row("long positions", (1, 3, 7), _LONG, every=True),
    _Row("131 tokens", (1, 1, 131), np.arange(131) + 2),
)

_VIEWS = tuple(
    _Row(name, (3, 5, 7), np.array([[0], [11], [300]]) + np.arange(7), view)
    for name, view in {
        "heads and tokens swapped in memory": _swapped,
        "heads of a product with keys and values": _part_of_product,
        "a slice of the features": _slice_of_features,
        "every second token": _second_tokens,
        "one row for the whole batch": _one_row,
    }.items()
)
