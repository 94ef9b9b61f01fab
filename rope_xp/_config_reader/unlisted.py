"""The family of a model_type that is in no table."""

from __future__ import annotations

from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.table import read_table
from rope_xp._config_reader.values import Config
from rope_xp._config_reader.vocabulary import Layout, Rotary
from rope_xp._validation import quote


def unlisted_family(config: Config, model_type: str, layout: str | None) -> Family:
    """The rule of Llama for a family that is not in the table, whose pairing must be given."""
    for reason, names in read_table().left_out.items():
        if model_type in names:
            msg = f"`model_type` must be of a covered family, got {quote(model_type)}: {reason}"
            raise ValueError(msg)
    if not model_type and "patch_size" in config:  # a pairing would not be enough: it has axes
        msg = "`model_type` is required for a vision tower, a config with patch_size"
        raise ValueError(msg)
    if layout is None:
        unknown = (
            f"unknown model_type {quote(model_type)}" if model_type else "`model_type` is required"
        )
        msg = f'{unknown}: pass layout="half" or layout="interleaved"'
        raise ValueError(msg)
    is_mla = config.get("qk_rope_head_dim") is not None
    return Family(
        layout=Layout(layout),
        rotary=Rotary.MLA if is_mla else Rotary.GENERIC,
        per_layer_type=False,
        source="",
    )
