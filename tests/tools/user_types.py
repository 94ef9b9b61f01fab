"""What mypy must say of a user's program: `test_user_types` runs it with ``--strict``."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from rope_xp import RoPE, cos_sin, rotate, sinusoidal
from rope_xp.configs import LayerRopes, explain, layer_ropes
from rope_xp.scaling import FloorLogScale, QueryScale


class Config:
    """As those of transformers."""

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "llama", "num_hidden_layers": 1}


rope = RoPE(64, layout="half", precision="float32")
q: NDArray[np.float32] = np.ones((4, 64), np.float32)
k = q.astype(np.float64)

assert_type(rope(q), NDArray[np.float32])
assert_type(rope(q, positions=[0, 1, 2, 3]), NDArray[np.float32])
assert_type(rope(q, k), tuple[NDArray[np.float32], NDArray[np.float64]])
assert_type(rope.inverse(q, offset=3), NDArray[np.float32])
assert_type(
    rope.inverse(q, k, offset=3, seq_axis=-2), tuple[NDArray[np.float32], NDArray[np.float64]]
)
assert_type(RoPE.from_config(Config()), RoPE)
assert_type(layer_ropes(Config()), LayerRopes)
layers: tuple[RoPE | None, ...] = layer_ropes(Config())
scale: QueryScale | None = layer_ropes(Config()).query_scales[0]
RoPE(64, layout="half", query_scale=FloorLogScale(8192, 0.1))
text: str = explain(Config())
cos, sin = cos_sin([0, 1, 2, 3], [1.0])
rotated = rotate(q, cos, sin, layout="interleaved")

RoPE(64, layout="haIf")  # type: ignore[arg-type]
RoPE(64, layout="half", precision="single")  # type: ignore[arg-type]
sinusoidal(q, 4, order="cos")  # type: ignore[arg-type]
rope(q, sequence=1)  # type: ignore[call-overload]
RoPE.from_config(3)  # type: ignore[arg-type]
