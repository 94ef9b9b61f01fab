"""The one key by which mlx-lm's config.json says more about rotation than transformers': rope_traditional.

mlx-lm keeps the model_type and the keys of the model that it converts, and the order of its features.
``rope_traditional`` tells pairs of neighbors from halves, for the models whose ``ModelArgs`` have it.
Source: mlx-lm 0.32.2, ``mlx_lm/models``.
"""

from __future__ import annotations

from rope_xp._config_reader.values import Config, get_bool
from rope_xp._config_reader.vocabulary import Layout
from rope_xp._validation import quote

KEY = "rope_traditional"
# The model_types whose ModelArgs have the key.
READ_BY = frozenset(
    {
        *("apertus", "bailing_moe_linear", "bitnet", "exaone", "falcon_h1", "gemma", "gemma2"),
        *("gemma4_text", "glm4", "internlm2", "internlm3", "llama", "mimo", "minicpm", "minicpm3"),
        *("mixtral", "nemotron", "olmo", "olmo2", "olmoe", "phi3", "plamo", "qwen2", "qwen2_moe"),
        *("seed_oss", "youtu_llm"),
        "mistral",  # by the code of llama, mlx_lm/utils.py
    }
)


def layout_of(config: Config, model_type: str, layout: str | None, own: str | None) -> str | None:
    """The pairing that rope_traditional says, else ``layout``; ``own`` is that of the family.

    Raises
    ------
    ValueError
        If it contradicts ``layout``, or the family whose model in mlx-lm does not read the key.
    """
    if config.get(KEY) is None:
        return layout
    is_traditional = get_bool(config, KEY, default=False)
    found = (Layout.INTERLEAVED if is_traditional else Layout.HALF).value
    got = f"got {str(is_traditional).lower()}"
    if layout not in (None, found):
        msg = f"`{KEY}` must agree with layout={layout!r}, {got}, which is {found!r}"
        raise ValueError(msg)
    if layout is None and model_type not in READ_BY and own not in (None, found):
        msg = (
            f"`{KEY}` is not read by mlx-lm for model_type {quote(model_type)}, whose pairs are {own!r}, "
            f"and must be absent, {got}; pass layout={found!r} if the weights have that layout"
        )
        raise ValueError(msg)
    return found
