"""The default file of every model_type of transformers: ``python tests/parity/defaults.py``.

What `families.py` compares are families; here it is which file belongs to which. The file that
transformers writes for a model, without what its classes have by default, must be read

- as the config with everything in it, if the family is a line of ``families.json``,
- as the config of its language model, if it is a composite,
- not at all, for the reason in ``left_out``, if it is neither. REFUSED are the others that are not read.

A model_type that is in none of the lists, or in a list and not in transformers, fails the run.
"""

import collections
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_xp._config_reader.table import read_table
from rope_xp.configs import layer_ropes

ODD_HEADS = "heads of no whole or of an odd number of features by default"
SECTIONS = "sections for 32 pairs and a table of 64 by default"
ONLY_VISION = "its vision tower is covered, its language model does not rotate"
REFUSED = {
    "cohere_compass": "rope_parameters without full_attention by default",
    "cohere_compass_text": "rope_parameters without full_attention by default",
    "glm4_moe": ODD_HEADS,
    "glm4v_moe": ODD_HEADS,
    "glm4v_moe_text": ODD_HEADS,
    "qwen3_omni_moe": ODD_HEADS,
    "qwen3_omni_moe_text": ODD_HEADS,
    "qwen3_omni_moe_thinker": ODD_HEADS,
    "glm46v": SECTIONS,
    "glm4v": SECTIONS,
    "glm4v_text": SECTIONS,
    "glm_image": SECTIONS,
    "glm_image_text": SECTIONS,
    "glmga": SECTIONS,
    "lfm2_moe": "layer_types are null by default",
    "fastspeech2_conformer": "its decoder_config has no model_type",
    "glm5_next": ONLY_VISION,
    "inkling2": ONLY_VISION,
    "inkling2_loop": ONLY_VISION,
}
# Left out as composites, but for the part that is read.
PART_READ = {"blt": "decoder_config"}
# Their classes cannot make a config without arguments.
NO_DEFAULT = {"gemma4_assistant", "nougat"}


def read(values):
    try:
        return layer_ropes(values)
    except ValueError as error:
        return str(error)


def check(model_type, reasons):
    """How the default file is read, or a sentence that begins with MISMATCH."""
    config = CONFIG_MAPPING[model_type]()
    file = json.loads(config.to_json_string(use_diff=True))
    found = read({"model_type": model_type, **file})
    table = read_table()
    if model_type in REFUSED:
        wanted, kind = found, f"refused: {REFUSED[model_type]}"
        is_as_wanted = isinstance(found, str)
    elif model_type in table.lines:
        wanted, kind = read({"model_type": model_type, **config.to_dict()}), "read"
        is_as_wanted = found == wanted and not isinstance(found, str)
    elif model_type in PART_READ:
        wanted, kind = read(getattr(config, PART_READ[model_type]).to_dict()), "a part is read"
        is_as_wanted = found == wanted and not isinstance(found, str)
    elif model_type in reasons:
        wanted, kind = reasons[model_type], f"refused: {reasons[model_type]}"
        # Of a composite it is the part that is refused, for a reason of its own.
        is_as_wanted = isinstance(found, str) and found.endswith(tuple(table.left_out))
    else:
        text = config.get_text_config(decoder=True).to_dict()
        wanted, kind = read(text), "read as its language model"
        is_as_wanted = found == wanted and not isinstance(found, str)
    return kind if is_as_wanted else f"MISMATCH: {str(found)[:120]}, not {str(wanted)[:120]}"


def main():
    table = read_table()
    reasons = {name: reason for reason, names in table.left_out.items() for name in names}
    named = {*table.lines, *table.text_part_of, *table.vision_part_of, *reasons}
    failed = 0
    for what, names in (
        ("in no list", {*CONFIG_MAPPING} - named),
        ("not in transformers", named - {*CONFIG_MAPPING}),
    ):
        for name in sorted(names):
            print(f"{name:<40} MISMATCH: {what}")
            failed += 1
    kinds = collections.Counter()
    for name in sorted({*CONFIG_MAPPING} & named - NO_DEFAULT):
        kind = check(name, reasons)
        kinds[kind.split(":")[0]] += 1
        if kind.startswith("MISMATCH"):
            print(f"{name:<40} {kind}", flush=True)
            failed += 1
    for kind, count in kinds.most_common():
        print(f"{count:>4} {kind}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
