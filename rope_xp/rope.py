"""`RoPE`, the one object that ties frequencies, phases and rotation together."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import numpy as np

from rope_xp import _backends, phases, rotation
from rope_xp._backends import A, Array, Dtype, Namespace
from rope_xp._host_phases import FEW
from rope_xp._spread_rotation import Place, rotate_spread
from rope_xp._traced_length import frequencies_at_length, schedule_text
from rope_xp._validation import (
    GivenFields,
    Precision,
    as_int,
    as_seq_len,
    as_size,
    quote,
    require_base,
    require_call,
    require_features,
    require_precision,
)
from rope_xp.axes._base import (
    Made,
    combined_frequencies,
    encodes_text,
    refuse_default,
    require_axes,
    require_pairing,
    settle_lengths,
    settle_schedules,
)
from rope_xp.layouts._pairs import Layout, require_layout
from rope_xp.positions._alignment import (
    Placement,
    SeqLen,
    as_steps,
    on_every_axis,
    require_batch_of,
    require_n_axes,
    require_same_length,
    require_steps_along,
    resolve_positions,
)
from rope_xp.scaling import Frequencies, Schedule
from rope_xp.scaling._base import call_at_traced_length, is_traced_length, parse_text

if TYPE_CHECKING:
    from rope_xp._config_reader.files import Config
    from rope_xp.scaling import QueryScale

__all__ = ["RoPE"]

B = TypeVar("B")  # k can be of another type than q


@dataclass(frozen=True, repr=False)
class RoPE:
    """A rotary position encoding: everything about it except the arrays.

    Frozen, hashable, equal by value, picklable; holds Python values only. To JAX it is a pytree without
    leaves, so it can be any argument of ``jax.jit`` and a field of a module; ``torch.load`` takes it
    from a file, also with ``weights_only=True``; under ``torch.compile`` it is a constant. Layers with
    different encodings that are compiled one by one, or get them as an argument, need a program for
    each; torch stops after 8 (``recompile_limit``), unless it is asked to ``isolate_recompiles``.

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
        ``rotary_start`` on. One that was not given is left out of ``fields``, ``asdict`` and the printed
        form, and `dataclasses.replace` computes it anew.
    rotary_start : int
        First rotated feature.
    scaling : rope_xp.scaling.Schedule or a tuple of them, optional
        A frequency schedule, from `rope_xp.scaling` or your own; default: no scaling. With ``axes``, a
        tuple has one, or None, for each axis: the pairs of an axis have the frequencies that its
        schedule gives for the axis's width and base, or where the axes share one list, for the whole
        list. Their factors must be the same, as they are for all pairs. To multiply the tables of one
        axis only (DyPE's YaRN), multiply the columns of its pairs after `cos_sin`.
    axes : rope_xp.axes.Axes, optional
        An axis scheme, from `rope_xp.axes` or your own, for positions with several axes (images, video,
        text with images); default: one axis.
    precision : {"exact", "float32"}
        ``"exact"``: phases that are correct to about the last bit at every position. ``"float32"``:
        what transformers computes, with its rounded frequencies. See `cos_sin`.
    query_scale : rope_xp.scaling.QueryScale, optional
        Factors by which the model also multiplies queries, depending on their positions. No method
        here applies them, because keys are not multiplied. Pass ``rope.query_scale(positions)`` to
        `rope_xp.attention.attention`.
    ranges : optional
        A scheme from `rope_xp.positions`, such as `~rope_xp.positions.DualChunk`, which changes distances
        by the range that they are in. No method here applies it, either: pass
        ``rope.ranges(q_positions, k_positions)`` to `rope_xp.attention.rotate_ranges`.

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
    layout: Layout
    base: float = 10000.0
    rotary_dim: int = None  # type: ignore[assignment]  # an int after __post_init__
    rotary_start: int = 0
    scaling: Schedule | tuple[Schedule | None, ...] | None = None
    axes: Any = None
    precision: Precision = "exact"
    query_scale: QueryScale | None = None
    ranges: Any = None

    # Without annotations these are no fields: they follow from the fields.
    # Factors and frequencies at ``seq_len=None``. Text, because torch.compile takes a number that
    # differs between two objects for data, and frequencies must be constants.
    _frequencies_text = ""
    # What `AtLength` says of a schedule that has other frequencies at every length.
    _schedule_text = ""
    # Whether `rotary_dim` was not given, and whether equal coordinates on all axes give the encoding
    # of one axis.
    _derives_rotary_dim = False
    _encodes_text = True

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # how to normalize a field of a frozen class

        settle("head_dim", as_size("head_dim", self.head_dim))
        settle("rotary_start", as_int("rotary_start", self.rotary_start))
        if not 0 <= self.rotary_start < self.head_dim:
            start = quote(self.rotary_start)
            msg = f"`rotary_start` must be in [0, head_dim={self.head_dim}), got {start}"
            raise ValueError(msg)

        available = self.head_dim - self.rotary_start
        rotary_dim = self.rotary_dim
        settle("_derives_rotary_dim", rotary_dim is None)
        rotary_dim = available if rotary_dim is None else as_int("rotary_dim", rotary_dim)
        if rotary_dim <= 0 or rotary_dim % 2:
            msg = f"`rotary_dim` must be even and positive, got {quote(rotary_dim)}"
            raise ValueError(msg)
        if rotary_dim > available:
            msg = (
                f"`rotary_dim` must be at most head_dim - rotary_start = {available}, "
                f"got {quote(rotary_dim)}"
            )
            raise ValueError(msg)
        settle("rotary_dim", rotary_dim)

        settle("base", require_base(self.base))
        settle("layout", require_layout("layout", self.layout))
        settle("precision", require_precision(self.precision))
        require_call("query_scale", self.query_scale, "positions", package="scaling")
        require_call("ranges", self.ranges, "q_positions, k_positions", package="positions")
        require_axes(self.axes)
        settle("scaling", settle_schedules(self.scaling, self.axes))
        if self.axes is not None:
            require_pairing(self.axes, self.rotary_dim)

        made: Made = {}
        inv_freq, *factors = self._call_schedule(None, made)
        rows: Any = [inv_freq] if self.axes is None else inv_freq
        settle("_encodes_text", encodes_text(self, rows, made))
        flat = [w for row in rows for w in row]
        settle("_frequencies_text", " ".join(map(repr, (*factors, *flat))))
        settle("_schedule_text", schedule_text(self))

    def __repr__(self) -> str:
        fields = self.__dataclass_fields__.items()  # without a rotary_dim that was not given
        defaults = {n: field.default for n, field in fields if n not in ("head_dim", "layout")}
        others = [f"{n}={getattr(self, n)!r}" for n, d in defaults.items() if getattr(self, n) != d]
        return f"RoPE({', '.join([str(self.head_dim), f'layout={self.layout!r}', *others])})"

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        layer_type: str | None = None,
        layout: Layout | None = None,
        part: Literal["text", "vision"] = "text",
        precision: Precision = "exact",
    ) -> RoPE:
        """The rotary encoding that a model was trained with, from its config.

        Some models have layers that do not rotate (Llama 4, SmolLM3, Command A, …): this is the encoding
        of those that do. `rope_xp.configs.layer_ropes` says which is which.

        Parameters
        ----------
        config, layout, part, precision
            As in `rope_xp.configs.layer_ropes`.
        layer_type : str, optional
            Which layers, by their name in ``layer_types``; required where layers rotate differently.

        Returns
        -------
        RoPE
            For latent attention (MLA), ``head_dim`` is the size of the slice that rotates; from a GGUF file,
            it is that of the whole head, whose last features rotate. It has ``axes`` for text with images
            and for vision towers: see the notes there. Its ``query_scale`` is that of the layers that
            rotate; the others can have one, too, as in Llama 4, which `layer_ropes` gives. Its
            ``ranges`` is a `rope_xp.positions.DualChunk` where there is a ``dual_chunk_attention_config``.

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

        require_precision(precision)
        model = read(config, layout=layout, part=part)
        # All layers are made, so that a mistake in any of them is refused.
        return model.make(cls, precision)[model.only_spec(layer_type)]

    @property
    def n_pairs(self) -> int:
        """Number of rotated pairs, the width of the tables."""
        return self.rotary_dim // 2

    def frequencies(self, seq_len: SeqLen = None) -> Frequencies:
        """Frequencies in use at length ``seq_len``.

        Parameters
        ----------
        seq_len : int or a tuple of them, optional
            Length in use. It matters only to schedules that depend on it; None: within the original
            context. With ``axes``, an int is the length along every axis, and a tuple has one, or
            None, for each: a video need not have as many frames as rows.

        Returns
        -------
        Frequencies
            ``inv_freq`` as NumPy float64, shape (n_pairs,), with axes (n_axes, n_pairs), radians
            per step; ``attention_factor`` and ``softmax_factor`` as float.
        """
        inv_freq, *factors = self._schedule(seq_len, as_data=False)
        return Frequencies(np.asarray(inv_freq, dtype=np.float64), *factors)

    def cos_sin(
        self, positions: Array, *, seq_len: SeqLen = None, dtype: Dtype | None = None
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
        frequencies = self._schedule(seq_len)
        xp, positions = _backends.join(positions=positions)
        dtype = phases.result_dtype(positions, dtype, xp)
        if self.axes is not None:
            require_n_axes("positions", positions, self.axes)
        return self._tables(positions, positions, frequencies, dtype, xp)

    def rotate(
        self,
        x: A,
        cos: Array,
        sin: Array,
        *,
        seq_axis: int = -2,
        inverse: bool = False,
        out: Array | None = None,
    ) -> A:
        """Apply tables from `cos_sin` with this object's layout and rotated part.

        Parameters, result and errors are those of `rope_xp.rotate`; ``x`` must have ``head_dim``
        features, and the tables must have width ``n_pairs``.
        """
        if _backends.is_array(x):  # rotation.rotate refuses anything else
            _backends.require_supported("x", x)
            require_features("x", x, self.head_dim)
        cos, sin = (_backends.host_array(*each) for each in (("cos", cos), ("sin", sin)))
        for name, table in (("cos", cos), ("sin", sin)):
            rotation.require_width(name, table, self.n_pairs, self.head_dim)
        turned: A = self._rotate(x, cos, sin, seq_axis=seq_axis, inverse=inverse, out=out)
        return turned

    @overload
    def __call__(self, q: A, k: None = None, **options: Unpack[Placement]) -> A: ...

    @overload
    def __call__(self, q: A, k: B, **options: Unpack[Placement]) -> tuple[A, B]: ...

    def __call__(
        self,
        q: Array,
        k: Array | None = None,
        *,
        positions: Array | None = None,
        offset: int | Array = 0,
        seq_len: SeqLen = None,
        seq_axis: int = -2,
    ) -> Array | tuple[Array, Array]:
        """Rotate queries, or queries and keys, to their positions.

        Parameters
        ----------
        q, k : array, shape (..., seq, head_dim)
            float16, bfloat16, float32 or float64. Their dtypes and numbers of heads may differ.
        positions : integer or real array, shape (seq,) or (batch, seq), optional
            NumPy arrays and sequences of numbers are accepted, whatever the library of ``q``, also for
            ``offset``. Integers of any dtype, or real numbers, as in `rope_xp.cos_sin`. Default: ``offset + 0 …
            seq − 1``. ``batch`` is the first axis of ``q``. With ``axes`` the shape is (n_axes, seq) or
            (n_axes, batch, seq), and the default is that of text: the same on every axis. A scheme of
            images, in which equal coordinates do not give the encoding of one axis, has no default.
        offset : int or integer array, shape () or (batch,)
            Tokens before the first one (in the cache); not together with ``positions``.
        seq_len : int, optional
            As in `frequencies`; neither inferred nor remembered.
        seq_axis : int
            The axis of tokens in ``q`` and ``k``; -3 for (batch, seq, heads, head_dim).

        Returns
        -------
        array or tuple of two arrays
            With the shapes, dtypes and devices of ``q`` and ``k``, and sharded or chunked like them. The
            tables are float64 if ``q`` or ``k`` is.

        Raises
        ------
        ValueError
            If shapes do not fit, ``positions`` and ``offset`` are both given, positions after
            ``offset`` leave the library's widest integers, devices differ, a lazy array's length
            is needed but unknown, ``positions`` are missing for a scheme of images, or features of a
            DTensor are split.
        TypeError
            If dtypes or libraries do not fit, or a DTensor is a partial sum.

        Notes
        -----
        Arrays that are spread over devices (of JAX, and DTensors of PyTorch) stay where they are: each
        device makes the tables of its own tokens, and nothing is sent. ``positions`` and ``offset`` are
        then those of the whole array; within ``jax.shard_map`` or one process they are those of the
        shard, which must be given: ``offset=rank * seq``. Arrays of Dask keep their chunks, of which each
        becomes one task; tables that several chunks share are those of `cos_sin`, for `rotate`.
        Book: :eq:`eq-offset`.
        """
        return self._apply(
            False, q, k, positions=positions, offset=offset, seq_len=seq_len, seq_axis=seq_axis
        )

    @overload
    def inverse(self, q: A, k: None = None, **options: Unpack[Placement]) -> A: ...

    @overload
    def inverse(self, q: A, k: B, **options: Unpack[Placement]) -> tuple[A, B]: ...

    def inverse(
        self,
        q: Array,
        k: Array | None = None,
        *,
        positions: Array | None = None,
        offset: int | Array = 0,
        seq_len: SeqLen = None,
        seq_axis: int = -2,
    ) -> Array | tuple[Array, Array]:
        """Undo the rotation, attention factor included. Arguments and errors as in calling the object."""
        return self._apply(
            True, q, k, positions=positions, offset=offset, seq_len=seq_len, seq_axis=seq_axis
        )

    def shift(
        self, k: Array, delta: int | Array, *, seq_len: SeqLen = None, seq_axis: int = -2
    ) -> Array:
        """Move keys that are already rotated by ``delta`` positions, as when a cache drops tokens.

        Parameters
        ----------
        k : array, shape (..., seq, head_dim)
            Rotated keys.
        delta : int or integer array, shape (), (seq,), (batch, 1) or (batch, seq)
            Steps to move by, negative towards the start. An array is read like ``positions``: one
            axis is that of tokens, and steps for each row are (batch, 1). With ``axes``, (n_axes,),
            (n_axes, seq), (n_axes, batch, 1) or (n_axes, batch, seq); an int or an array without axes
            moves by as much along every axis.
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
        require_features("k", k, self.head_dim)
        axis = rotation.resolve_seq_axis("k", k.shape, seq_axis)
        delta = as_steps("delta", delta, "k", k, xp)
        scheme = None if delta.ndim == 0 else self.axes
        require_steps_along("delta", delta, "k", k, axis, scheme=scheme)
        frequencies = Frequencies(self._schedule(seq_len).inv_freq)
        dtype = _backends.compute_dtype(xp, k)
        if _backends.may_be_spread(k):
            at = Place("delta", delta, scheme, axis, seq_axis, FEW // self.n_pairs)
            done, delta = rotate_spread(self, {"k": k}, at, frequencies, dtype)
            if done:
                return done[0]
        delta = on_every_axis(self.axes, scheme, delta, xp)
        cos, sin = self._tables(k, delta, frequencies, dtype, xp)
        return self._rotate(k, cos, sin, seq_axis=seq_axis)

    def _schedule(self, seq_len: SeqLen, *, as_data: bool = True) -> Frequencies:
        """Frequencies as Python floats: arrays begin in `phases`.

        ``as_data``: or, at a length that torch traces, what becomes data of its program.
        """
        n_pairs = None if self.axes is None else self.n_pairs
        if seq_len is None and not _backends.is_compiling():
            return _parse_once(self._frequencies_text, n_pairs)
        seq_len = settle_lengths(seq_len, self.axes)
        made = frequencies_at_length(self._schedule_text, seq_len, self.n_pairs)
        if made is not None and as_data:
            return made
        if is_traced_length(seq_len):
            return call_at_traced_length(self._call_schedule, self.scaling, seq_len)
        if seq_len is not None and not isinstance(seq_len, tuple):
            seq_len = as_seq_len("seq_len", seq_len)
        if _backends.is_compiling():
            text = self._frequencies_text
            return parse_text(text, n_pairs) if seq_len is None else self._call_schedule(seq_len)
        return _call_schedule_once(self, seq_len)

    def _call_schedule(self, seq_len: SeqLen, made: Made | None = None) -> Frequencies:
        """`combined_frequencies` of this object."""
        return combined_frequencies(
            self.scaling,
            self.axes,
            self.rotary_dim,
            self.base,
            seq_len=seq_len,
            precision=self.precision,
            made=made,
        )

    def _tables(
        self,
        x: Array,
        at: Array,
        frequencies: Frequencies,
        dtype: Dtype,
        xp: Namespace,
        **few: bool,
    ) -> tuple[Array, Array]:
        """`cos_sin` of positions, as arrays beside ``x``."""
        return phases.cos_sin_beside(
            x,
            at,
            frequencies.inv_freq,
            dtype=dtype,
            xp=xp,
            precision=self.precision,
            attention_factor=frequencies.attention_factor,
            **few,
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
        seq_len: SeqLen,
        seq_axis: int,
    ) -> Array | tuple[Array, Array]:
        xp = _backends.namespace(q=q) if k is None else _backends.namespace(q=q, k=k)
        if positions is not None:
            (positions,) = _backends.beside("q", q, xp, may_stay=True, positions=positions)
        if _backends.is_host_array(offset):
            (offset,) = _backends.beside("q", q, xp, may_stay=_backends.is_lazy(q), offset=offset)
        _backends.require_floating(q=q, k=k)
        require_features("q", q, self.head_dim)
        axis = rotation.resolve_seq_axis("q", q.shape, seq_axis)
        if k is not None:
            require_features("k", k, self.head_dim)
            require_same_length(q, axis, k, rotation.resolve_seq_axis("k", k.shape, seq_axis))
        given, scheme = ("offset", None) if positions is None else ("positions", self.axes)
        if positions is None and not self._encodes_text:
            refuse_default("positions", self.axes)
        few = FEW // self.n_pairs if self.precision == "exact" else 0
        positions = resolve_positions(q, axis, positions, offset, scheme=scheme, few=few, xp=xp)
        frequencies = self._schedule(seq_len)
        if inverse:
            frequencies = Frequencies(frequencies.inv_freq, 1 / frequencies.attention_factor)
        dtype = _backends.compute_dtype(xp, q, k)
        if _backends.may_be_spread(q):
            arrays = {"q": q} if k is None else {"q": q, "k": k}
            at = Place(given, positions, scheme, axis, seq_axis, few)
            done, positions = rotate_spread(self, arrays, at, frequencies, dtype, inverse=inverse)
            if done:
                return done[0] if k is None else done
        positions = on_every_axis(self.axes, scheme, positions, xp)
        cos, sin = self._tables(q, positions, frequencies, dtype, xp)
        turned = self._rotate(q, cos, sin, seq_axis=seq_axis, inverse=inverse)
        if k is None:
            return turned
        try:
            return turned, self._rotate(k, cos, sin, seq_axis=seq_axis, inverse=inverse)
        except ValueError:  # `q` has this batch, so `k` does not: a sentence without the tables
            require_batch_of(k, positions if self.axes is None else positions[0, ...], given)
            raise


RoPE.__dataclass_fields__ = GivenFields(RoPE.__dataclass_fields__)


# Memos of pure functions. torch.compile warns of memos, so it is given the functions themselves.
_parse_once = lru_cache(maxsize=256)(parse_text)
_call_schedule_once = lru_cache(maxsize=256)(RoPE._call_schedule)
