"""ONNX's operator, as ONNX Runtime has it twice and as onnx defines it; a graph made by ndonnx."""

import ndonnx
import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import TensorProto, helper
from peers.table import peer

from rope_xp import RoPE

TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
HALF = RoPE(64, layout="half", base=500_000.0)
PARTIAL = RoPE(64, layout="interleaved", rotary_dim=32)


def model(rope, dtype, *, contrib):
    """A model of one node. Of the two operators, the order of inputs differs."""
    inputs = ("x", "position_ids", "cos", "sin") if contrib else ("x", "cos", "sin", "position_ids")
    attributes = {"interleaved": int(rope.layout == "interleaved")}
    if rope.rotary_dim != rope.head_dim:
        attributes["rotary_embedding_dim"] = rope.rotary_dim
        attributes |= {"num_heads": 3} if contrib else {}
    domain, opset = ("com.microsoft", 1) if contrib else ("", 23)
    node = helper.make_node("RotaryEmbedding", inputs, ["y"], domain=domain, **attributes)
    values = {
        name: helper.make_tensor_value_info(name, TYPES[dtype], [None] * rank)
        for name, rank in {"x": 4, "cos": 2, "sin": 2, "y": 4}.items()
    }
    ids = helper.make_tensor_value_info("position_ids", TensorProto.INT64, [None, None])
    given = [ids if name == "position_ids" else values[name] for name in inputs]
    graph = helper.make_graph([node], "one node", given, [values["y"]])
    imports = [helper.make_opsetid(domain, opset), helper.make_opsetid("", 23)]
    return helper.make_model(
        graph, opset_imports=imports if contrib else imports[1:], ir_version=10
    )


def operator(rope, start, *, contrib=False):
    """The operator gets tables: here ours, of the positions that occur, in the dtype of x."""
    made = {}

    def fn(x, positions):
        name = x.dtype.name
        if name not in made:
            made[name] = start(model(rope, name, contrib=contrib))
        occurring = np.union1d(positions, np.arange(x.shape[2]))  # at least as many rows as tokens
        cos, sin = (t.astype(x.dtype) for t in rope.cos_sin(occurring, dtype=np.float64))
        ids = np.broadcast_to(np.searchsorted(occurring, positions), (x.shape[0], x.shape[2]))
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        return made[name](np.ascontiguousarray(x), cos, sin, ids)

    return fn


def runtime(proto):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(x, cos, sin, ids):
        return session.run(None, {"x": x, "cos": cos, "sin": sin, "position_ids": ids})[0]

    return run


def reference(proto):
    evaluator = onnx.reference.ReferenceEvaluator(proto)

    def run(x, cos, sin, ids):
        return evaluator.run(None, {"x": x, "cos": cos, "sin": sin, "position_ids": ids})[0]

    return run


@peer("com.microsoft RotaryEmbedding", "onnxruntime", HALF, library="numpy")
def contrib():
    return operator(HALF, runtime, contrib=True)


@peer("com.microsoft RotaryEmbedding, partial", "onnxruntime", PARTIAL, library="numpy")
def contrib_partial():
    return operator(PARTIAL, runtime, contrib=True)


@peer("RotaryEmbedding, opset 23", "onnxruntime", HALF, library="numpy")
def opset_23():
    return operator(HALF, runtime)


@peer("RotaryEmbedding, opset 23, partial", "onnxruntime", PARTIAL, library="numpy")
def opset_23_partial():
    return operator(PARTIAL, runtime)


@peer("RotaryEmbedding, opset 23, reference", "onnx", PARTIAL, library="numpy")
def onnx_reference():
    return operator(PARTIAL, reference)


@peer("rope_xp, traced", "ndonnx", HALF, library="numpy")
def traced():
    """Ours, as a graph with sizes that it does not know, run by ONNX Runtime."""
    made = {}

    def fn(x, positions):
        key = x.dtype, positions.ndim
        if key not in made:
            q = ndonnx.argument(
                shape=("batch", "heads", "seq", 64), dtype=getattr(ndonnx, x.dtype.name)
            )
            shape = ("seq",) if positions.ndim == 1 else ("batch", "seq")
            at = ndonnx.argument(shape=shape, dtype=ndonnx.int64)
            graph = ndonnx.build({"q": q, "at": at}, {"y": HALF(q, positions=at)})
            made[key] = onnxruntime.InferenceSession(
                graph.SerializeToString(), providers=["CPUExecutionProvider"]
            )
        return made[key].run(None, {"q": x, "at": positions})[0]

    return fn
