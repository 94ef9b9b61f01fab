"""Which tensors have to be handed in with the metadata of a GGUF file."""

from __future__ import annotations

from rope_xp._config_reader.gguf.metadata import LONG, ROPE_FREQS, SHORT, Metadata
from rope_xp._config_reader.gguf.scaling import (
    DEFAULT_BASE,
    base_of,
    has_long_factors,
    original_context_of,
    scaling_factor_of,
)
from rope_xp._config_reader.gguf.table import Architecture, LongFactors, RopeFreqs

# Llama 3.1's schedule: the context that it stretches and the base, in every published file that has it,
# and fewer tokens than any tokenizer of these models has.
STRETCHED_CONTEXT, LLAMA3_BASE, FEWEST_TOKENS = 8192, 500000.0, 100_000


def require_tensors(metadata: Metadata, architecture: Architecture) -> None:
    """ValueError unless the tensors that can have a schedule are handed in, or cannot be there."""
    values = metadata.values
    when, factors = architecture.rope_freqs, values.get(ROPE_FREQS)
    has_long = has_long_factors(metadata, architecture)
    used = {ROPE_FREQS: when is not RopeFreqs.NEVER, SHORT: has_long, LONG: has_long}
    for name, is_used in used.items():
        if not is_used and values.get(name) is not None:
            msg = f"`{name}` must be None or absent: llama.cpp does not use it for such a file"
            raise ValueError(msg)
    is_unknown = ROPE_FREQS not in values and not _excludes_llama3(metadata)
    is_missing = {RopeFreqs.REQUIRED: factors is None, RopeFreqs.POSSIBLE: is_unknown}
    needed = [ROPE_FREQS] if is_missing.get(when) else []
    if _can_have_long_factors(metadata, architecture):
        needed += [name for name in (SHORT, LONG) if name not in values]
    if needed:
        optional = "" if when is RopeFreqs.REQUIRED else ", or None if the file has none"
        msg = (
            f"`{needed[0]}` is required: in files of architecture {metadata.prefix[:-1]} this tensor, "
            "not a key, has the divisors of the frequencies; pass the path of the file or its "
            f"GGUFReader instead of the metadata, or add an entry {needed[0]!r} with its numbers{optional}"
        )
        raise ValueError(msg)


def _excludes_llama3(metadata: Metadata) -> bool:
    """Whether the metadata show that there is no schedule of Llama 3.1 in a tensor.

    llama.cpp's converter (``conversion/llama.py``, ``generate_extra_tensors``) writes the tensor where
    the rope_type of config.json is llama3, and no key says so. It is not there if

    - the file names another schedule, since config.json has one;
    - the context is not longer than the 8192 tokens that the schedule would stretch;
    - the base is absent or at most 10000: that is Llama 1 and 2, the schedule came with a base of 500000;
    - base and vocabulary both are others than those of Llama 3.
    """
    has_other = metadata.values.get(f"{metadata.prefix}rope.scaling.type") not in (None, "none")
    if has_other or scaling_factor_of(metadata) != 1:
        return True
    context, base = metadata.count("context_length"), base_of(metadata)
    if base <= DEFAULT_BASE or (context is not None and context <= STRETCHED_CONTEXT):
        return True
    n_tokens = metadata.count("vocab_size")
    return n_tokens is not None and n_tokens < FEWEST_TOKENS and base != LLAMA3_BASE


def _can_have_long_factors(metadata: Metadata, architecture: Architecture) -> bool:
    """Whether the metadata leave open that there are tensors of LongRoPE.

    For Phi 3 the converter writes them with attn_factor, for a context that is longer than the
    original one (``conversion/phi.py``).
    """
    if not has_long_factors(metadata, architecture) or metadata.values.get(ROPE_FREQS) is not None:
        return False
    if architecture.long_factors is LongFactors.IF_LONGROPE:
        return True
    context, original = metadata.count("context_length"), original_context_of(metadata)
    is_longer = context is not None and original is not None and context > original
    is_named = metadata.values.get(f"{metadata.prefix}rope.scaling.type") == "longrope"
    return is_longer or is_named or metadata.has("rope.scaling.attn_factor")
