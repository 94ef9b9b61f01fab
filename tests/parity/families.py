"""transformers' own rotary modules against ``from_config``: ``python tests/parity/families.py [MODEL_TYPE ...]``.

One line per family of ``families.json``; a mismatch fails the run. For the family's default config and
every schedule that it accepts, for every kind of layer, on the same random q and k:

- frequencies to 1e-6 relative, with ``precision="float32"``; how the exact ones fare is printed;
- the attention factor to the last bit;
- scores of rotated q and k to 1e-4, at positions 0, small ones, the original length ± 1, the model's
  maximum and one million; where positions have several axes, others on each.

For vision towers: angles to 1e-5 and scores to 1e-4 on grids, odd and not square, of two bases and
three widths of heads; see ``vision_harness.py``.

torch's float32 power is up to 2 ulp off and differs between processors, so frequencies can differ in
their last bit; at a million that bit is an angle of 0.1. Where it does, tables are made from the
module's own frequencies instead ("own bits" counts these runs), and the first bullet compares the
frequencies. (With ours, 11 of 219 default tables were up to 3e-2 apart at the model's maximum.)

Besides, the default config without its lists per layer, and in the old spelling, must give what
transformers makes of it.

Where transformers departs from the code that a checkpoint was published with, ours follows the
checkpoint: DEPARTURES and READS say in what, and why. The rest is compared all the same, and so is the
departure: once transformers no longer departs, the line is a mismatch.
"""

import dataclasses
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import families_harness
import numpy as np
import torch
import transformers
import vision_harness
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import rope_xp
from rope_xp import RoPE
from rope_xp._config_reader.layers import read
from rope_xp._config_reader.schema import AxisPerPair, InterleavedSections
from rope_xp._config_reader.table import known_family, read_table
from rope_xp._config_reader.vocabulary import LayerRule
from rope_xp.axes import Axial
from rope_xp.configs._summary import effective_inv_freq
from rope_xp.scaling import LongRoPE

MILLION = 1_000_000
FREQUENCIES, ANGLES, SCORES = 1e-6, 1e-5, 1e-4
# Tables built position by position, in Python or for every position up to the last.
SHORT_TABLES = {"roformer": 2_000, "clvp_encoder": 20_000, "gptj": 20_000, "codegen": 20_000}
# Its frequencies are stored permuted by axis; here they are put back in order.
PERMUTED = {"ernie4_5_vl_moe_text"}
# What transformers has instead, in fields of the RoPE, and where the published code is.
DEPARTURES = {
    # Adjacent features: vLLM's vllm/models/hy_v4/nvidia/attention.py, whose comment says that q and k of
    # the checkpoint are stored so; llama.cpp's conversion/hy_v4.py ("mapped straight through") and
    # LLAMA_ROPE_TYPE_NORM; transformers' own hy_v4_vl, which loads the same weights by the same names.
    # Perplexity of tencent/Hy4-preview in halves 151, in adjacent features 6.4 (pull request 70 of
    # WestWaters/pollard-weights).
    "hy_v4": {"layout": "half"},
}
# How it reads a config, in keys that say the same to us.
READS = {
    # It does not read rotary_dim, and turns whole heads unless there is a partial_rotary_factor. The
    # published file has both, 64 of 128 and 0.5 (vLLM's vllm/transformers_utils/configs/minimax_m3.py
    # has its numbers); for MiniMax-M2 it reads rotary_dim since its pull request 48486.
    "minimax_m3_vl_text": {"rotary_dim": 128},
}
PER_LAYER = ("layer_types", "no_rope_layers", "layer_rope_theta", "rope_scaling_layers")
# The rules that read one of these.
LISTED = (
    LayerRule.NO_ROPE_LAYERS,
    LayerRule.LAYER_ROPE_THETA,
    LayerRule.ROPE_SCALING_LAYERS,
)


class Mismatch(Exception):
    pass


def ropes_of(config, label, precision):
    """The RoPE of the layers that share a table called ``label`` in transformers, as it is there."""
    rope = published_rope(config, label, precision)
    return dataclasses.replace(rope, **DEPARTURES.get(config.model_type, {}))


def published_rope(config, label, precision):
    values = config.to_dict() | READS.get(config.model_type, {})
    layers = read(values).layers
    if label == "main":
        chosen = [layer for layer in layers if layer.label == "sliding_attention"]
        if not chosen:  # the default config has no such layer
            values["layer_types"] = ["sliding_attention"] * values["num_hidden_layers"]
            chosen = read(values).layers
    elif label == "compress":
        chosen = [layer for layer in layers if layer.label != "sliding_attention"]
    elif label == "unscaled":
        values["rope_scaling_layers"] = []
        chosen = read(values).layers
    elif isinstance(label, str) and label != "scaled":
        return RoPE.from_config(values, layer_type=label, precision=precision)
    else:
        return RoPE.from_config(values, precision=precision)
    (spec,) = {layer.spec for layer in chosen if layer.spec is not None}
    return spec.make(RoPE, precision)


def lengths(config, rope):
    original = getattr(rope.scaling, "original_max_position_embeddings", None)
    longest = getattr(config, "max_position_embeddings", None) or 4096
    return original or longest, longest


def compare(family, config, label):
    """Deviations of one table: frequencies, exact frequencies, scores, and whether bits differ."""
    rope = ropes_of(config, label, "float32")
    exact = ropes_of(config, label, "exact")
    original, longest = lengths(config, rope)
    near = sorted({0, 1, 2, 17, min(100, original - 1), original - 1})
    far = sorted({0, 3, original - 1, original, original + 1, longest - 1, MILLION})
    if family.model_type in SHORT_TABLES:
        far = [p for p in far if p < SHORT_TABLES[family.model_type]]
        near = [p for p in near if p < SHORT_TABLES[family.model_type]]
        if family.model_type == "roformer":  # from float64 angles
            rope = exact
    if family.model_type == "phimoe" and isinstance(rope.scaling, LongRoPE):
        far = []  # transformers takes the short factors there, the published code the long ones
    worst = np.zeros(3)
    own_bits = 0
    for positions in (near, far):
        if not positions:
            continue
        rotary = family._module_for(config, label)
        found, tables = one_call(family, config, label, rope, rotary, positions)
        seq_len = positions[-1] + 1
        ours = np.abs(effective_inv_freq(rope.frequencies(seq_len).inv_freq))
        if found is not None:
            factor = family.attention_scaling(config, label)
            if family.model_type != "phimoe" and rope.frequencies(None).attention_factor != factor:
                msg = f"attention factor {rope.frequencies(None).attention_factor}, theirs {factor}"
                raise Mismatch(msg)
            theirs = np.sort(found)[::-1] if family.model_type in PERMUTED else found
            if ours.shape != theirs.shape:
                msg = f"{len(ours)} frequencies, theirs {len(theirs)}"
                raise Mismatch(msg)
            worst[0] = max(worst[0], deviation(ours, theirs))
            worst[1] = max(
                worst[1],
                deviation(np.abs(effective_inv_freq(exact.frequencies(seq_len).inv_freq)), theirs),
            )
            own_bits += bool(np.any(ours.astype(np.float32) != theirs))
        worst[2] = max(worst[2], tables)
    if worst[0] > FREQUENCIES:
        msg = f"frequencies {worst[0]:.1e} apart"
        raise Mismatch(msg)
    if worst[2] > SCORES:
        msg = f"scores {worst[2]:.1e} apart"
        raise Mismatch(msg)
    return worst, own_bits


def deviation(ours, theirs):
    return float(np.max(np.abs(ours - theirs) / np.where(theirs == 0, 1, theirs)))


def one_call(family, config, label, rope, rotary, positions):
    """The module's frequencies in this call, and the largest difference of scores."""
    generator = torch.Generator().manual_seed(len(positions))
    shape = (len(positions), rope.head_dim)
    q = torch.randn(1, 2, *shape, generator=generator)
    k = torch.randn(1, 2, *shape, generator=generator)
    # Every position on every axis, but never all axes at the same one.
    n_axes = rope.axes.n_axes if rope.axes else 1
    axes = np.stack([np.roll(positions, axis) for axis in range(n_axes)])
    at = torch.tensor(axes[:, None] if rope.axes else axes)
    turned = family.rotate(config, q, k, at, layer_type=label, rotary=rotary)
    theirs = scores(*(x.double().numpy() for x in turned))

    frequencies = rope.frequencies(positions[-1] + 1)
    inv_freq, found = frequencies.inv_freq, None
    if rotary is not None and hasattr(rotary, "inv_freq" if label is None else "forward"):
        # PhiMoE's module updates its buffer and then uses the frequencies it began with.
        fresh = family.model_type == "phimoe"
        found = family.inv_freq(config) if fresh else family.inv_freq_of(rotary, label)
        found = found.double().numpy()
        sign = -1.0 if np.ravel(inv_freq)[0] < 0 else 1.0
        if family.model_type not in PERMUTED and found.shape == inv_freq.shape[-1:]:
            inv_freq = sign * found * (np.ones_like(inv_freq) if n_axes == 1 else inv_freq != 0)
    cos, sin = rope_xp.cos_sin(
        axes if rope.axes else axes[0],
        inv_freq,
        precision=rope.precision,
        attention_factor=frequencies.attention_factor,
    )
    ours = scores(*(rope.rotate(x.numpy(), cos, sin).astype(np.float64) for x in (q, k)))
    return found, float(np.max(np.abs(ours - theirs)))


def scores(q, k):
    return q @ np.swapaxes(k, -1, -2)


def specs(values):
    return [layer.spec for layer in read(values).layers]


def check_other_spellings(family, model_type):
    """Mismatch unless the default config says the same without its lists, and in the old spelling."""
    values = family.config().to_dict()
    rules = known_family(model_type)
    short = {k: v for k, v in values.items() if k not in PER_LAYER}
    if model_type == "dory":  # it is written with an entry for every MLP, which counts as a layer
        values = {**values, "layer_types": values["layer_types"][::2]}
        short["num_hidden_layers"] = values["num_hidden_layers"] = len(values["layer_types"])
    has_lists = rules.layer_cycle is not None or rules.layers in LISTED
    if has_lists and specs(short) != specs(values):
        msg = "without its lists per layer the default config reads otherwise"
        raise Mismatch(msg)
    if rules.per_layer_type or rules.base_keys is not None or "linear" not in rules.rope_types:
        return
    parameters = values.pop("rope_parameters")
    old = {
        **values,
        "rope_theta": 54321.0,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    }
    extra = {k: v for k, v in parameters.items() if k in ("partial_rotary_factor", "mrope_section")}
    old["rope_scaling"] |= extra
    if model_type == "cohere2_moe":  # rope_scaling is a plain field of this class, and not read
        return
    new = AutoConfig.for_model(**{k: v for k, v in old.items() if k != "transformers_version"})
    if specs(old) != specs(new.to_dict()):
        msg = "in the old spelling the default config reads otherwise"
        raise Mismatch(msg)


def sectioned(family, model_type):
    """Configs with other sections than the default, and with none where the code fits them."""
    rules = known_family(model_type)
    config = family.config()
    if getattr(rules.axes, "mrope_section", None) is None or rules.per_layer_type:
        return
    n_pairs = family._pairs(config, None)
    most = 3 * n_pairs // 8
    for sections in ([most, most, n_pairs - 2 * most], [n_pairs - 2 * most, most, most]):
        if not isinstance(rules.axes, AxisPerPair) or sections[0] == sections[1]:
            changed = {**config.rope_parameters, "mrope_section": sections}
            yield f"sections {sections}", family.config(rope_parameters=changed)
    if (
        isinstance(rules.axes, InterleavedSections) and model_type != "cosmos3_edge_text"
    ):  # it insists
        kept = {k: v for k, v in config.rope_parameters.items() if k != "mrope_section"}
        yield "no sections, narrow heads", family.config(rope_parameters=kept, head_dim=64)


def called(family, config, label):
    """The public call with other positions on each axis and in each row; the largest difference."""
    worst = 0.0
    for precision in ("exact", "float32"):
        rope = ropes_of(config, label, precision)
        random = np.random.default_rng(1)
        at = torch.tensor(random.integers(0, 40, (rope.axes.n_axes, 3, 9)))
        q, k = (random.standard_normal((3, 2, 9, rope.head_dim)) for _ in range(2))
        q, k = (torch.tensor(x, dtype=torch.float32) for x in (q, k))
        theirs = scores(*(x.numpy() for x in family.rotate(config, q, k, at, layer_type=label)))
        ours = scores(*(x.numpy() for x in rope(q, k, positions=at)))
        worst = max(worst, float(np.max(np.abs(ours - theirs))))
    if worst > SCORES:
        msg = f"scores of the call {worst:.1e} apart"
        raise Mismatch(msg)
    return worst


def check_vision(model_type):
    worst, runs = np.zeros(2), 0
    for name, config in vision_harness.configs(model_type):
        rope, exact = (RoPE.from_config(config, precision=p) for p in ("float32", "exact"))
        for grid in vision_harness.grids(rope.axes.n_axes):
            q, k = vision_harness.queries_and_keys(rope.head_dim, grid)
            theirs = vision_harness.load(model_type)(config, grid, q, k)
            positions = vision_harness.positions(model_type, grid)
            found = []
            for ours in (rope, exact):
                cos, sin = ours.cos_sin(positions)
                angles = vision_harness.deviation(cos, sin, theirs.cos, theirs.sin)
                turned = [ours.rotate(x, cos, sin) for x in (q, k)]
                found.append((angles, np.max(np.abs(scores(*turned) - scores(theirs.q, theirs.k)))))
            worst, runs = np.maximum(worst, np.max(found, axis=0)), runs + 1
            if worst[0] > ANGLES or worst[1] > SCORES:
                msg = f"{name}, grid {grid}: angles {worst[0]:.1e}, scores {worst[1]:.1e} apart"
                raise Mismatch(msg)
    return f"{runs:3} runs  angles {worst[0]:.1e}  scores {worst[1]:.1e}"


def check(model_type):
    if model_type not in CONFIG_MAPPING:
        msg = f"transformers {transformers.__version__} has no model_type {model_type!r}"
        raise Mismatch(msg)
    rules = known_family(model_type)
    if isinstance(rules.axes, Axial):
        return check_vision(model_type)
    family = families_harness.load(model_type)
    worst, runs, own_bits = np.zeros(3), 0, 0
    check_other_spellings(family, model_type)
    for name, config in (*family.configs(), *sectioned(family, model_type)):
        if name in families_harness.SCHEDULES and name not in rules.rope_types:
            continue  # the module takes it, the config class does not
        for label in family.layer_types(config):
            try:
                found, bits = compare(family, config, label)
                if rules.axes is not None:
                    found[2] = max(found[2], called(family, config, label))
            except (Mismatch, ValueError) as error:
                msg = f"{name}, {label}: {error}"
                raise Mismatch(msg) from error
            worst, runs, own_bits = np.maximum(worst, found), runs + 1, own_bits + bits
    return (
        f"{runs:3} runs  inv_freq {worst[0]:.1e} (exact {worst[1]:.1e})  scores {worst[2]:.1e}"
        f"{f'  own bits in {own_bits}' if own_bits else ''}"
        f"{'  but for a departure' if {model_type} & {*DEPARTURES, *READS} else ''}"
    )


def main(names):
    begin, failed, total = time.monotonic(), 0, np.zeros(1, dtype=int)
    for model_type in names or sorted(read_table().lines):
        try:
            line = check(model_type)
            total += int(line.split()[0])
        except (Mismatch, ValueError) as error:
            line, failed = f"MISMATCH {error}", failed + 1
        print(f"{model_type:<40} {line}", flush=True)
    count = len(names or read_table().lines)
    print(
        f"{count - failed} of {count} families agree, {total[0]} runs, {time.monotonic() - begin:.0f} s"
    )
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
