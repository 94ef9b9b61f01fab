"""llama.cpp itself against ``rope_xp``: ``python tests/parity/llama_cpp.py [words of the cases' names]``.

Each case is a small random GGUF file. llama.cpp runs it; so does a NumPy decoder
(`llama_cpp_reference`) that asks ``configs.layer_ropes`` for the rotary encoding of each layer. The
logits must agree, and a case must have power: with wrong encodings in their place (the other
pairing, another base in one layer, no schedule, layers alike, …) they must be far apart.

The tolerance is computed, not chosen. llama.cpp works in float32, and its angles come from a product
that grows by one float32 factor per pair. The decoder in float32, with every angle off by as much as
that product can be, up or down, moves the logits by some amount from those in float64: that is what
such arithmetic does to this file, and `SLACK` times that is allowed, since other sums round otherwise.
"""

import contextlib
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import llama_cpp_binary
import numpy as np
from llama_cpp_cases import CASES, N, write
from llama_cpp_reference import Decoder

from rope_xp import RoPE
from rope_xp.configs import LayerRopes, layer_ropes

SLACK = 2  # of the change that float32 makes, the larger of two tries
FAR = 20  # tolerances between the logits of right and of wrong encodings, at least


def wrong_encodings(ropes, attending, axes):
    """Wrong encodings: a name, and one per layer."""
    turning = [i for i in attending if ropes[i] is not None]
    kinds = {ropes[i] for i in attending}
    first = ropes[turning[0]] if turning else RoPE(32, layout="half")

    def besides(others):
        return LayerRopes(others, ropes.query_scales, ropes.softmax_factors)

    def changed(change, layers=turning):
        return besides(change(r) if i in layers else r for i, r in enumerate(ropes))

    def whole(rope):
        return replace(rope, rotary_start=0, rotary_dim=rope.head_dim, scaling=None, axes=None)

    def paired_otherwise(rope):
        return replace(rope, layout="half" if rope.layout == "interleaved" else "interleaved")

    if turning:
        yield "the other pairing", changed(paired_otherwise)
    for i in turning if len(ropes) < 10 else turning[:: len(turning) // 4]:
        yield f"twice the base in layer {i}", changed(lambda r: replace(r, base=r.base * 2), [i])
    if any(ropes[i].scaling is not None for i in turning):
        yield "no schedule", changed(lambda r: replace(r, scaling=None))
    for rope in kinds - {None} if len(kinds) > 1 else ():
        yield "layers alike", besides([rope] * len(ropes))
    if None in kinds:
        yield "all layers rotate", besides(r or first for r in ropes)
    if set(ropes.query_scales) != {None}:
        yield "no query scales", LayerRopes(ropes, [None] * len(ropes), ropes.softmax_factors)
    if set(ropes.softmax_factors) != {1.0}:
        yield "no softmax factors", LayerRopes(ropes, ropes.query_scales, [1.0] * len(ropes))
    if first.rotary_dim != first.head_dim:
        yield "whole heads", changed(whole)
    if axes:
        yield "one axis", changed(lambda r: replace(r, axes=None))


def check(case, engine, folder):
    """A line about this case; AssertionError where logits differ, or would not."""
    path, tensors = Path(folder, "model.gguf"), case.weights()
    write(path, case, tensors)
    random = np.random.default_rng(1)
    tokens, positions = random.integers(0, case.sizes.vocab, N), case.positions(random)
    inputs = tensors["token_embd.weight"][tokens] if case.axes else tokens
    graph = case.graph
    how = {"n_ctx": case.n_ctx, "causal": graph.causal, "has_head": graph.has_head}
    how["width"] = case.sizes.vocab if graph.has_head else case.sizes.width
    theirs = engine.run(path, inputs, positions, **how)

    ropes = layer_ropes(path)
    attending = [i for i in range(len(ropes)) if f"blk.{i}.attn_output.weight" in tensors]
    if any(rope is not None and i not in attending for i, rope in enumerate(ropes)):
        msg = f"layers {attending} have attention; got an encoding of others"
        raise AssertionError(msg)
    decoder = Decoder(tensors, case.sizes, graph)
    run = {"tokens": tokens, "positions": positions, "seq_len": case.n_ctx}
    ours = decoder.logits(ropes, **run)
    single = Decoder(tensors, case.sizes, graph, np.float32)
    rounded = [single.logits(ropes, **run, missed=random) for _ in range(2)]
    tolerance = SLACK * max(np.abs(x - ours).max() for x in rounded)
    apart = np.abs(theirs - ours).max()
    wrong = {}
    for name, others in wrong_encodings(ropes, attending, case.axes):
        distance = np.abs(decoder.logits(others, **run) - theirs).max()
        wrong[name] = min(distance, wrong.get(name, np.inf))
    weakest = min(wrong, key=wrong.get)
    line = f"apart {apart:.1e}, allowed {tolerance:.1e}; {len(wrong)} wrong ones, nearest "
    line += f"{wrong[weakest]:.1e} ({weakest})"
    if not apart <= tolerance:
        raise AssertionError(line)
    if not wrong[weakest] > FAR * tolerance:
        line = f"without power: {line}"
        raise AssertionError(line)
    return line


def main(words):
    engine = llama_cpp_binary.LlamaCpp()
    print(engine.version, flush=True)
    start, failed, kinds = time.perf_counter(), [], set()
    for case in CASES:
        if words and not any(word in case.name for word in words):
            continue
        kinds.add(case.arch)
        print(f"{case.name:<40}", end=" ", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                print(check(case, engine, folder), flush=True)
        except (AssertionError, ValueError, RuntimeError) as error:
            failed.append(case.name)
            print("MISMATCH" if isinstance(error, AssertionError) else "ERROR", error, flush=True)
    seconds = time.perf_counter() - start
    print(f"{len(kinds)} architectures, {seconds:.0f} s, failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
