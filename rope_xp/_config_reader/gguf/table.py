"""``gguf.json``: how llama.cpp rotates q and k of each architecture that a GGUF file can name.

A line of the file is made an `Architecture` when a file needs it, not before: the tests make all of
them. Keys of metadata are named without the architecture before them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from rope_xp._config_reader.convert import Known, convert
from rope_xp._config_reader.data import read_json
from rope_xp._config_reader.schema import QueryScaleRule
from rope_xp._config_reader.vocabulary import LAYER_TYPES, Layout


class Rotates(StrEnum):
    """Which layers rotate, of those that have attention."""

    EVERY_LAYER = "every_layer"
    #: All but every fourth.
    NOT_EVERY_FOURTH = "not_every_fourth"
    #: The same; without windows all but the last, which is ``(il + 1) % n_layer`` in llama4.cpp.
    NOT_EVERY_FOURTH_IF_WINDOWED = "not_every_fourth_if_windowed"
    #: All but the first, the fifth and so on; without windows all.
    NOT_EVERY_FOURTH_FROM_FIRST_IF_WINDOWED = "not_every_fourth_from_first_if_windowed"
    #: Those with a window.
    WINDOWED = "windowed"
    #: The same; all where none has one.
    WINDOWED_IF_ANY = "windowed_if_any"
    #: Those with a window, and the first leading_dense_block_count.
    WINDOWED_OR_LEADING_DENSE = "windowed_or_leading_dense"
    #: All, none if rope.scaling.finetuned is false.
    IF_FINETUNED = "if_finetuned"
    #: By the list attention.rope_pattern; without it all.
    ROPE_PATTERN = "rope_pattern"
    #: All if there are 32, else none (Baichuan 13B has a bias on the scores).
    IF_32_LAYERS = "if_32_layers"


class Sections(StrEnum):
    """What rope.dimension_sections does."""

    #: Nothing: it must be absent, or one axis.
    NONE = "none"
    #: Nothing: llama.cpp's converter writes it, its graph does not use it.
    NOT_USED = "not_used"
    #: One axis after another.
    REQUIRED = "required"
    #: The same, if the first two are positive; pairs are then halves apart.
    OPTIONAL = "optional"
    #: The axes take turns.
    INTERLEAVED = "interleaved"


class RopeFreqs(StrEnum):
    """Whether a file has the tensor rope_freqs.weight, a divisor for each pair."""

    #: llama.cpp does not use one.
    NEVER = "never"
    #: llama.cpp uses one, and no published model has it.
    RARE = "rare"
    #: Some published models have it, and no key says which.
    POSSIBLE = "possible"
    REQUIRED = "required"


class LongFactors(StrEnum):
    """When llama.cpp uses the tensors rope_factors_short.weight and rope_factors_long.weight."""

    NEVER = "never"
    IF_LONGROPE = "if_longrope"
    ALWAYS = "always"


@dataclass(frozen=True)
class Window:
    """Layers whose attention has a window, and what is different in them.

    Parameters
    ----------
    period : int, optional
        Without attention.sliding_window_pattern every so manieth layer has none; None: the key is
        required.
    full_first : bool
        That layer is the first of its period, not the last.
    name : str
        What these layers are called.
    if_sized : bool
        There are such layers only if attention.sliding_window is positive.
    unless_zero : bool
        There are none if attention.sliding_window is 0.
    n_layers : int, optional
        There are such layers only in a model of so many.
    base : float, optional
        Their base where there is no rope.freq_base_swa; None: that of the others.
    reads_base : bool
        Whether rope.freq_base_swa is read.
    scaled : bool
        Whether the schedule holds for them.
    head_key : str, optional
        The key of the size of their heads, where it is not that of the others.
    reads_rotary_dim : bool
        Whether rope.dimension_count_swa is read.
    """

    period: int | None = None
    full_first: bool = False
    name: Annotated[str, Known(LAYER_TYPES)] = "sliding_attention"
    if_sized: bool = False
    unless_zero: bool = False
    n_layers: int | None = None
    base: float | None = None
    reads_base: bool = True
    scaled: bool = True
    head_key: str | None = None
    reads_rotary_dim: bool = False


@dataclass(frozen=True)
class Attention:
    """Layers without attention: where attention.head_count_kv is a list with 0.

    With ``period`` by attention.recurrent_layers instead; without that key all but every so manieth,
    full_attention_interval if that is there.
    """

    period: int | None = None


@dataclass(frozen=True)
class Yarn:
    """What an architecture makes of the keys of YaRN.

    Parameters
    ----------
    beta_fast : float
        Where there is no rope.scaling.yarn_beta_fast, or it is not read.
    reads_betas : bool
        Whether yarn_beta_fast and yarn_beta_slow are read.
    reads_factors : bool
        Whether yarn_ext_factor and yarn_attn_factor are read.
    log_divisor : float, optional
        yarn_log_multiplier over this is mscale_all_dim; None: it is not read.
    log_is_mscale : bool
        Whether mscale is mscale_all_dim, too, and not 1.
    scales_softmax : bool
        Whether the scale of the softmax is multiplied, as DeepSeek has it.
    attention_factor : float, optional
        The factor on cos and sin, whatever the keys say.
    """

    beta_fast: float = 32.0
    reads_betas: bool = False
    reads_factors: bool = False
    log_divisor: float | None = None
    log_is_mscale: bool = False
    scales_softmax: bool = False
    attention_factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How llama.cpp rotates q and k of one architecture: a line of ``gguf.json``."""

    #: Where the rotation is, as file:line in ``src/models``; empty for an unknown architecture.
    source: str
    #: Which two features are a pair; with sections always halves apart.
    layout: Layout
    #: The last features of a head rotate, not the first.
    at_end: bool = False
    #: The key of the size of a head, where it is not attention.key_length.
    head_key: str | None = None
    #: rope.dimension_count must be the size of a head.
    whole_head: bool = False
    #: Layers without a window rotate half of rope.dimension_count.
    full_layers_rotate_half: bool = False
    #: Base 10000 without a schedule, whatever the keys say.
    fixed: bool = False
    window: Window | None = None
    rotates: Rotates = Rotates.EVERY_LAYER
    attention: Attention | None = None
    #: The last decision.block_count layers do not rotate.
    has_decision_layers: bool = False
    sections: Sections = Sections.NONE
    rope_freqs: RopeFreqs = RopeFreqs.NEVER
    #: The layers that rope_freqs.weight is for, where it is not for all.
    rope_freqs_in: str | None = None
    long_factors: LongFactors = LongFactors.NEVER
    yarn: Yarn = Yarn()
    #: rope.scaling.alpha is read: the base times alpha^(d / (d - 2)).
    reads_alpha: bool = False
    #: What queries are multiplied by; its keys are those of the metadata.
    query_scale: QueryScaleRule | None = None
    #: Base and schedule by attention.compress_ratios, as DeepSeek V4 has it.
    compress: bool = False


@dataclass(frozen=True)
class Table:
    """The file.

    Parameters
    ----------
    about, version : str
        What the file is, and the version of llama.cpp that it is about.
    architectures : mapping
        A layout → name → the other keys of an `Architecture`.
    left_out : mapping
        A reason → the architectures that are not covered for it.
    """

    about: str
    version: str
    architectures: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @functools.cached_property
    def lines(self) -> dict[str, dict[str, Any]]:
        """The keys of each architecture."""
        return {
            name: {"layout": layout, **own}
            for layout, group in self.architectures.items()
            for name, own in group.items()
        }


@functools.cache  # a constant of the package, not state
def read_table() -> Table:
    """The table of the package."""
    table: Table = convert(Table, read_json("gguf/gguf.json"), "")
    return table


@functools.cache
def architecture_of(name: str) -> Architecture | None:
    """The line of an architecture; None if it is in no table.

    Raises
    ------
    ValueError
        If it is left out.
    """
    for reason, names in read_table().left_out.items():
        if name in names:
            msg = (
                "`general.architecture` must be of a model that rotates q and k, "
                f"got {name!r}: {reason}"
            )
            raise ValueError(msg)
    line = read_table().lines.get(name)
    if line is None:
        return None
    try:
        found: Architecture = convert(Architecture, line, "")
    except ValueError as error:
        msg = f"gguf.json, {name!r}: {error}"
        raise ValueError(msg) from None
    return found
