"""`RoPE`, the one object that ties frequencies, phases and rotation together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rope_xp import _backends, phases, rotation
from rope_xp._backends import Array, Dtype, Namespace
from rope_xp._validation import (
    as_int,
    require_base,
    require_integer,
    require_position_range,
    require_real,
)
from rope_xp.axes._base import checked_matrix, require_axes, require_pairing
from rope_xp.layouts import require_layout
from rope_xp.positions._alignment import (
    require_batch,
    require_line_up,
    require_same_length,
    resolve_positions,
)
from rope_xp.positions._tokens import as_offset
from rope_xp.scaling import Default, Frequencies, Schedule
from rope_xp.scaling._base import call_at_traced_length, checked_frequencies, require_schedule

if TYPE_CHECKING:
    from pathlib import Path  # takes as long to load as three modules of rope_xp

__all__ = ["RoPE"]


@dataclass(frozen=True, repr=False)
class RoPE:
    """A rotary position encoding: everything about it except the arrays.

    Frozen, hashable, equal by value, picklable; holds Python values only, so it can be a static
    argument of ``jax.jit`` and a constant under ``torch.compile``.

    Parameters
    ----------
    head_dim : int
        Features per head.
    layout : {"half", "interleaved"}
        Pair i is features (i, i + n_pairs), or (2i, 2i + 1). There is no default, because models
        differ and the wrong layout gives wrong numbers without an error.
    base : float
        Base of the geometric frequencies, :math:`b` in :math:`b^{-2i/d_r}`.
    rotary_dim : int, optional
        Number of rotated features, even; the others are returned unchanged. Default: all from
        ``rotary_start`` on.
    rotary_start : int
        First rotated feature.
    scaling : rope_xp.scaling.Schedule, optional
        A frequency schedule, from `rope_xp.scaling` or your own; default: no scaling.
    axes : rope_xp.axes.Axes, optional
        An axis scheme, from `rope_xp.axes` or your own, for positions with several axes (images, video,
        text with images); default: one axis.
    precision : {"exact", "float32"}
        ``"exact"``: phases that are correct to about the last bit at every position. ``"float32"``:
        what transformers computes, with its rounded frequencies. See `cos_sin`.

    Raises
    ------
    ValueError, TypeError
        If an argument, or what the schedule or the scheme returns, is out of range or of the wrong
        type; the message has the name, the rule and the value.

    Notes
    -----
    Source: Su et al. 2021, arXiv:2104.09864.
    Book: :eq:`eq-relative-score`, :eq:`eq-unique`, :eq:`eq-block-diagonal`.

    Examples
    --------
    >>> rope = RoPE(4, layout="half", base=100.0)
    >>> rope
    RoPE(4, layout='half', base=100.0)
    >>> q = np.ones((2, 4), dtype=np.float32)  # (seq, head_dim)
    >>> rope(q, offset=1).round(3)
    array([[-0.301,  0.895,  1.382,  1.095],
           [-1.325,  0.781,  0.493,  1.179]], dtype=float32)
    """

    head_dim: int
    _: KW_ONLY
    layout: str
    base: float = 10000.0
    rotary_dim: int = None  # type: ignore[assignment]  # an int after __post_init__
    rotary_start: int = 0
    scaling: Schedule | None = None
    axes: Any = None
    precision: str = "exact"

    # Factors and frequencies at ``seq_len=None``. Text, because torch.compile takes a number that
    # differs between two objects for data, and frequencies must be constants. Without an annotation
    # it is no field: it follows from the fields.
    _frequencies_text = ""

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # how to normalize a field of a frozen class

        settle("head_dim", as_int("head_dim", self.head_dim))
        settle("rotary_start", as_int("rotary_start", self.rotary_start))
        if self.head_dim <= 0:
            msg = f"`head_dim` must be positive, got {self.head_dim}"
            raise ValueError(msg)
        if not 0 <= self.rotary_start < self.head_dim:
            msg = (
                f"`rotary_start` must be in [0, head_dim={self.head_dim}), got {self.rotary_start}"
            )
            raise ValueError(msg)

        available = self.head_dim - self.rotary_start
        rotary_dim = self.rotary_dim
        rotary_dim = available if rotary_dim is None else as_int("rotary_dim", rotary_dim)
        if rotary_dim <= 0 or rotary_dim % 2:
            msg = f"`rotary_dim` must be even and positive, got {rotary_dim}"
            raise ValueError(msg)
        if rotary_dim > available:
            msg = (
                f"`rotary_dim` must be at most head_dim - rotary_start = {available}, "
                f"got {rotary_dim}"
            )
            raise ValueError(msg)
        settle("rotary_dim", rotary_dim)

        settle("base", require_base(self.base))
        require_layout("layout", self.layout)
        phases.require_precision(self.precision)
        require_schedule(self.scaling)
        if type(self.scaling) is Default:
            settle("scaling", None)
        require_axes(self.axes)
        if self.axes is not None:
            require_pairing(self.axes, self.rotary_dim)

        inv_freq, *factors = self._call_schedule(None)
        rows: Any = [inv_freq] if self.axes is None else inv_freq
        flat = [w for row in rows for w in row]
        settle("_frequencies_text", " ".join(map(repr, (*factors, *flat))))

    def __repr__(self) -> str:
        defaults = {
            "base": 10000.0,
            "rotary_dim": self.head_dim - self.rotary_start,
            "rotary_start": 0,
            "scaling": None,
            "axes": None,
            "precision": "exact",
        }
        others = [f"{n}={getattr(self, n)!r}" for n, d in defaults.items() if getattr(self, n) != d]
        return f"RoPE({', '.join([str(self.head_dim), f'layout={self.layout!r}', *others])})"

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any] | str | Path,
        *,
        layer_type: str | None = None,
        layout: str | None = None,
        precision: str = "exact",
    ) -> RoPE:
        """The rotary encoding that a model was trained with, from its config.

        Parameters
        ----------
        config, layout, precision
            As in `rope_xp.configs.layer_ropes`.
        layer_type : str, optional
            Which layers, by their name in ``layer_types``; required where layers rotate differently.

        Returns
        -------
        RoPE
            For latent attention (MLA), ``head_dim`` is the slice that rotates. With ``axes`` for text
            with images and for vision towers: see the notes there.

        Raises
        ------
        ValueError, TypeError
            As `layer_ropes`; also if rotating layers differ and ``layer_type`` does not choose.

        Examples
        --------
        >>> RoPE.from_config({"model_type": "qwen3", "rope_theta": 1e6})
        RoPE(128, layout='half', base=1000000.0)
        """
        # Imported here because it takes longer to load than all that is needed without a config.
        from rope_xp._config_reader.layers import read  # noqa: PLC0415

        phases.require_precision(precision)
        model = read(config, layout=layout)
        # All layers are made, so that a mistake in any of them is refused.
        return model.make(cls, precision)[model.only_spec(layer_type)]

    @property
    def n_pairs(self) -> int:
        """Number of rotated pairs, the width of the tables."""
        return self.rotary_dim // 2

    def frequencies(self, seq_len: int | None = None) -> Frequencies:
        """Frequencies in use at length ``seq_len``.

        Parameters
        ----------
        seq_len : int, optional
            Length in use. It matters only to schedules that depend on it; None: within the original
            context.

        Returns
        -------
        Frequencies
            ``inv_freq`` as NumPy float64, shape (n_pairs,), with axes (n_axes, n_pairs), radians
            per step; ``attention_factor`` and ``softmax_factor`` as float.
        """
        inv_freq, *factors = self._schedule(seq_len)
        return Frequencies(np.asarray(inv_freq, dtype=np.float64), *factors)

    def cos_sin(
        self, positions: Array, *, seq_len: int | None = None, dtype: Dtype | None = None
    ) -> tuple[Array, Array]:
        """Tables for `rotate`, attention factor included: make once, use in every layer.

        Parameters
        ----------
        positions : integer or real array, shape (seq,) or (batch, seq); with axes (n_axes, ...)
        seq_len : int, optional
            As in `frequencies`.
        dtype : floating dtype, optional
            Default float64 if ``positions`` are float64, else float32.

        Returns
        -------
        cos, sin : array, shape (..., seq, n_pairs)

        Raises
        ------
        ValueError, TypeError
            As `rope_xp.cos_sin`.
        """
        inv_freq, factor, _ = self._schedule(seq_len)
        xp = _backends.namespace(positions=positions)
        dtype = phases.result_dtype(positions, dtype, xp)
        if self.axes is not None:
            self._require_axes("positions", positions)
        return self._tables(positions, inv_freq, factor, dtype, xp)

    def rotate(
        self,
        x: Array,
        cos: Array,
        sin: Array,
        *,
        seq_axis: int = -2,
        inverse: bool = False,
        out: Array | None = None,
    ) -> Array:
        """Apply tables from `cos_sin` with this object's layout and rotated part.

        Parameters, result and errors are those of `rope_xp.rotate`; ``x`` must have ``head_dim``
        features, and the tables must have width ``n_pairs``.
        """
        if _backends.is_array(x):  # rotation.rotate refuses anything else
            self._require_features("x", x)
        for name, table in (("cos", cos), ("sin", sin)):
            if _backends.is_array(table) and table.shape[-1:] != (self.n_pairs,):
                msg = (
                    f"`{name}` must have width n_pairs={self.n_pairs} for head_dim={self.head_dim}, "
                    f"got {table.shape[-1] if table.ndim else 'a scalar'}; "
                    f"tables are not repeated to head_dim here"
                )
                raise ValueError(msg)
        return self._rotate(x, cos, sin, seq_axis=seq_axis, inverse=inverse, out=out)

    def __call__(
        self,
        q: Array,
        k: Array | None = None,
        *,
        positions: Array | None = None,
        offset: int | Array = 0,
        seq_len: int | None = None,
        seq_axis: int = -2,
    ) -> Array | tuple[Array, Array]:
        """Rotate queries, or queries and keys, to their positions.

        Parameters
        ----------
        q, k : array, shape (..., seq, head_dim)
            float16, bfloat16, float32 or float64. Their dtypes and numbers of heads may differ.
        positions : integer or real array, shape (seq,) or (batch, seq), optional
            Integers of any dtype, or real numbers, as in `rope_xp.cos_sin`. Default: ``offset + 0 …
            seq − 1``. ``batch`` is the first axis of ``q``. With ``axes`` the shape is (n_axes, seq) or
            (n_axes, batch, seq), and the default is that of text: the same on every axis.
        offset : int or integer array, shape () or (batch,)
            Tokens before the first one (in the cache); not together with ``positions``.
        seq_len : int, optional
            As in `frequencies`; neither inferred nor remembered.
        seq_axis : int
            The axis of tokens in ``q`` and ``k``; -3 for (batch, seq, heads, head_dim).

        Returns
        -------
        array or tuple of two arrays
            With the shapes, dtypes and devices of ``q`` and ``k``. The tables are float64 if ``q`` or
            ``k`` is.

        Raises
        ------
        ValueError
            If shapes do not fit, ``positions`` and ``offset`` are both given, positions after
            ``offset`` leave the library's widest integers, devices differ, or a lazy array's length
            is needed but unknown.
        TypeError
            If dtypes or libraries do not fit.

        Notes
        -----
        Book: :eq:`eq-offset`.
        """
        return self._apply(
            False, q, k, positions=positions, offset=offset, seq_len=seq_len, seq_axis=seq_axis
        )

    def inverse(
        self,
        q: Array,
        k: Array | None = None,
        *,
        positions: Array | None = None,
        offset: int | Array = 0,
        seq_len: int | None = None,
        seq_axis: int = -2,
    ) -> Array | tuple[Array, Array]:
        """Undo the rotation, attention factor included. Arguments and errors as in calling the object."""
        return self._apply(
            True, q, k, positions=positions, offset=offset, seq_len=seq_len, seq_axis=seq_axis
        )

    def shift(
        self, k: Array, delta: int | Array, *, seq_len: int | None = None, seq_axis: int = -2
    ) -> Array:
        """Move keys that are already rotated by ``delta`` positions, as when a cache drops tokens.

        Parameters
        ----------
        k : array, shape (..., seq, head_dim)
            Rotated keys.
        delta : int or integer array, shape (), (batch,) or (batch, seq)
            Steps to move by, negative towards the start. With ``axes`` an array has shape
            (n_axes, ...), and an int moves along every axis.
        seq_len, seq_axis
            As in calling the object.

        Returns
        -------
        array, shape and dtype of ``k``
            Keys as if rotated at their positions + ``delta``, because R(δ) R(m) = R(m + δ). ``k`` has
            the attention factor already; it is not applied again.

        Raises
        ------
        ValueError, TypeError
            As in calling the object.

        Notes
        -----
        Book: :eq:`eq-cache-shift`.
        """
        xp = _backends.namespace(k=k)
        _backends.require_floating(k=k)
        self._require_features("k", k)
        axis = rotation.resolve_seq_axis("k", k.shape, seq_axis)
        if not _backends.is_array(delta) or (isinstance(delta, np.ndarray) and delta.ndim == 0):
            delta = as_offset("delta", delta)
            require_position_range("delta", delta)
            delta = self._on_every_axis(
                xp.full((), delta, dtype=xp.int32, device=_backends.device(k)), xp
            )
        require_integer("delta", delta)
        _backends.namespace(k=k, delta=delta)
        if self.axes is not None:
            self._require_axes("delta", delta)
        one, n_axes = (delta, None) if self.axes is None else (delta[0, ...], self.axes.n_axes)
        if one.ndim > 1:
            require_line_up("delta", one, "k", k, axis, n_axes=n_axes)
        elif one.ndim == 1:
            require_batch("delta", one, "k", k, axis, n_axes=n_axes)
            delta = delta[..., None]  # (batch, 1)
        inv_freq, dtype = self._schedule(seq_len).inv_freq, _backends.compute_dtype(xp, k)
        cos, sin = self._tables(delta, inv_freq, 1.0, dtype, xp)
        return self._rotate(k, cos, sin, seq_axis=seq_axis)

    def _schedule(self, seq_len: int | None) -> Frequencies:
        """Frequencies as Python floats: arrays begin in `phases`."""
        if _backends.is_traced_size(seq_len):
            return call_at_traced_length(self._call_schedule, self.scaling, seq_len)
        if seq_len is not None and as_int("seq_len", seq_len) <= 0:
            msg = f"`seq_len` must be positive, got {seq_len}"
            raise ValueError(msg)
        n_pairs = None if self.axes is None else self.n_pairs
        if _backends.is_compiling():
            text = self._frequencies_text
            return _parse(text, n_pairs) if seq_len is None else self._call_schedule(seq_len)
        if seq_len is None:
            return _parse_once(self._frequencies_text, n_pairs)
        return _call_schedule_once(self, seq_len)

    def _call_schedule(self, seq_len: int | None) -> Frequencies:
        """The schedule's frequencies; with axes, their matrix, and the factors of the last width."""
        schedule = Default() if self.scaling is None else self.scaling

        def call(width: int, base: float) -> Frequencies:
            return checked_frequencies(
                schedule, width, base, seq_len=seq_len, precision=self.precision
            )

        if self.axes is None:
            return call(self.rotary_dim, self.base)
        made: dict[tuple[int, float], Frequencies] = {}

        def frequencies(width: int, base: float | None = None) -> Any:
            key = (as_int("width", width), self.base if base is None else require_base(base))
            if key not in made:
                if key[0] < 2 or key[0] % 2:
                    msg = f"`width` must be even and positive, got {width} from {self.axes!r}"
                    raise ValueError(msg)
                made[key] = call(*key)
            return made[key].inv_freq

        matrix: Any = checked_matrix(self.axes, self.rotary_dim, frequencies)
        if not made and self.scaling is not None:
            msg = (
                f"`scaling` must be None with `axes` that bring their own frequencies, "
                f"got {self.scaling!r}"
            )
            raise ValueError(msg)
        _, *factors = next(reversed(made.values()), Frequencies(()))
        return Frequencies(matrix, *factors)

    def _tables(
        self, positions: Array, inv_freq: Any, factor: float, dtype: Dtype, xp: Namespace
    ) -> tuple[Array, Array]:
        return phases.constant_cos_sin(
            positions,
            inv_freq,
            dtype=dtype,
            precision=self.precision,
            attention_factor=factor,
            xp=xp,
        )

    def _rotate(
        self,
        x: Array,
        cos: Array,
        sin: Array,
        *,
        seq_axis: int,
        inverse: bool = False,
        out: Array | None = None,
    ) -> Array:
        """`rotate` without the checks of sizes."""
        return rotation.rotate(
            x,
            cos,
            sin,
            layout=self.layout,
            seq_axis=seq_axis,
            rotary_start=self.rotary_start,
            inverse=inverse,
            blocks=None if self.axes is None else self.axes.blocks(self.rotary_dim),
            out=out,
        )

    def _apply(
        self,
        inverse: bool,
        q: Array,
        k: Array | None,
        *,
        positions: Array | None,
        offset: int | Array,
        seq_len: int | None,
        seq_axis: int,
    ) -> Array | tuple[Array, Array]:
        xp = _backends.namespace(q=q, k=k, positions=positions)
        _backends.require_floating(q=q, k=k)
        self._require_features("q", q)
        axis = rotation.resolve_seq_axis("q", q.shape, seq_axis)
        if k is not None:
            self._require_features("k", k)
            require_same_length(q, axis, k, rotation.resolve_seq_axis("k", k.shape, seq_axis))
        if positions is not None:
            require_real("positions", positions)
        if self.axes is None:
            positions = resolve_positions(q, axis, positions, offset, xp=xp)
        elif positions is None:
            positions = self._on_every_axis(resolve_positions(q, axis, None, offset, xp=xp), xp)
        else:
            self._require_axes("positions", positions)
            resolve_positions(q, axis, positions[0, ...], offset, self.axes.n_axes, xp=xp)

        inv_freq, factor, _ = self._schedule(seq_len)
        factor, dtype = 1 / factor if inverse else factor, _backends.compute_dtype(xp, q, k)
        cos, sin = self._tables(positions, inv_freq, factor, dtype, xp)
        rotated = [
            self._rotate(x, cos, sin, seq_axis=seq_axis, inverse=inverse)
            for x in (q, k)
            if x is not None
        ]
        return rotated[0] if k is None else tuple(rotated)

    def _on_every_axis(self, positions: Array, xp: Namespace) -> Array:
        """The same positions on all axes, as text has them."""
        if self.axes is None:
            return positions
        return xp.broadcast_to(positions[None, ...], (self.axes.n_axes, *positions.shape))

    def _require_axes(self, name: str, positions: Array) -> None:
        n = self.axes.n_axes
        if positions.ndim == 0 or positions.shape[0] != n:
            msg = (
                f"`{name}` must have shape (n_axes={n}, ...) for {self.axes!r}, "
                f"got {tuple(positions.shape)}"
            )
            raise ValueError(msg)

    def _require_features(self, name: str, x: Array) -> None:
        if x.ndim < 2 or x.shape[-1] != self.head_dim:
            msg = (
                f"`{name}` must have shape (..., seq, head_dim={self.head_dim}), "
                f"got {tuple(x.shape)}"
            )
            raise ValueError(msg)


def _parse(text: str, n_pairs: int | None) -> Frequencies:
    """`RoPE._frequencies_text` as numbers; with ``n_pairs`` as a matrix, (n_axes, n_pairs)."""
    attention_factor, softmax_factor, *flat = (float(n) for n in text.split())
    inv_freq: Any = tuple(flat)
    if n_pairs is not None:
        inv_freq = tuple(inv_freq[i : i + n_pairs] for i in range(0, len(flat), n_pairs))
    return Frequencies(inv_freq, attention_factor, softmax_factor)


# Memos of pure functions. torch.compile warns of memos, so it is given the functions themselves.
_parse_once = lru_cache(maxsize=256)(_parse)
_call_schedule_once = lru_cache(maxsize=256)(RoPE._call_schedule)
