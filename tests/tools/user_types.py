"""What mypy must say of a user's program: `test_user_types` runs it with ``--strict``."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from rope_xp import RoPE, analysis, axes, convert_layout, cos_sin, rotate, sinusoidal, xpos_scale
from rope_xp.attention import (
    KVCache,
    WindowCache,
    attention,
    attention_mask,
    causal_mask,
    linear_attention,
    tree_mask,
)
from rope_xp.configs import LayerRopes, explain, explain_difference, layer_ropes, plot, to_config
from rope_xp.positions import (
    Range,
    SelfExtend,
    Tokens,
    grid_positions,
    packed_positions,
    text_image_positions,
    token_positions,
)
from rope_xp.relative import alibi_bias, alibi_slopes, relative_positions, t5_bucket
from rope_xp.scaling import FloorLogScale, Frequencies, QueryScale, YaRN, inverse_frequencies
from rope_xp.testing import Report, check


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
assert_type(rotate(q, cos, sin, layout="interleaved"), NDArray[np.float32])
assert_type(rope.rotate(q, cos, sin), NDArray[np.float32])
assert_type(
    convert_layout(q, source="half", target="interleaved", head_dim=64), NDArray[np.float32]
)
assert_type(rope.frequencies(), Frequencies)
assert_type(rope.n_pairs, int)
growing, shrinking = rope.cos_sin(np.arange(4), dtype=np.float64)
several = RoPE(48, layout="half", axes=axes.Sections((8, 8, 8)), scaling=YaRN(4.0, 4096))
several(q, positions=grid_positions(2, 1, 2))

# Attention: what comes back is of the queries' type.
assert_type(attention(q, k, k, causal=True), NDArray[np.float32])
assert_type(linear_attention(q, q, q, rope=rope), NDArray[np.float32])
cache = KVCache.empty((1, 2, 8, 64)).append(q, q)
assert_type(cache, KVCache)
assert_type(cache.crop(2).drop(1, rope), KVCache)
window = WindowCache.empty((1, 2, 8, 64), rope, sinks=1)
assert_type(window.append(q, q), WindowCache)
tokens = Tokens(packed_positions([0, 3, 5], 5), documents=np.arange(5))
assert_type(tokens._replace(order=None), Tokens)
masks = [attention_mask(tokens, window=2), causal_mask(4, 4), tree_mask(np.asarray([-1, 0]))]
masks.append(cache.mask([2]))

# Positions, relative encodings, analysis.
token_positions(3, offset=2, xp=np, dtype=np.int32)
text_image_positions([3, (1, 4, 4), 2], merge=2)
assert_type(SelfExtend(8, 16)(np.arange(4), np.arange(4)), tuple[Range, ...])
alibi_bias(np.arange(4), np.arange(4), 8)
alibi_slopes(8)
t5_bucket(relative_positions(np.arange(4), np.arange(4)))
assert_type(analysis.context_bound([1.0, 0.1]), int | None)
assert_type(inverse_frequencies(64, 10_000.0), tuple[float, ...])
growth = xpos_scale(np.arange(4), 32)

# Configs, and tests of other implementations.
assert_type(to_config(rope), dict[str, Any])
assert_type(explain_difference(Config(), {"model_type": "llama"}), str)
assert_type(check(rope, rope, max_position=4096), Report)


def implementation(x: Any, positions: Any) -> Any:
    """Somebody's own."""
    return rope(x, positions=positions)


check(implementation, rope)

RoPE(64, layout="haIf")  # type: ignore[arg-type]
RoPE(64, layout="half", precision="single")  # type: ignore[arg-type]
sinusoidal(q, 4, order="cos")  # type: ignore[arg-type]
rope(q, sequence=1)  # type: ignore[call-overload]
convert_layout(q, source="half", target="other", head_dim=64)  # type: ignore[arg-type]
check(3, rope)  # type: ignore[arg-type]
KVCache.empty((1, 2, 8, 64)).append(q)  # type: ignore[call-arg]
YaRN("4", 4096)  # type: ignore[arg-type]
plot(Config(), layers="all")  # type: ignore[call-arg]
RoPE.from_config(3)  # type: ignore[arg-type]
