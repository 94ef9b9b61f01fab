"""A small decoder in NumPy that takes its rotary encodings from ``rope_xp``; and random weights for it.

One graph for all architectures: what a file has tensors for happens (biases, norms before and after,
norms of q and k, fused q, k, v, sinks), the rest is in `Graph`. The last matrix of every MLP is
zero, so that there are no MLPs, no experts and no difference between parallel and sequential blocks:
attention alone makes the logits. Gates of its output are zero too, hence constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MLP = "ffn_gate ffn_up ffn_down"
LLAMA = f"attn_norm attn_q attn_k attn_v attn_output ffn_norm {MLP}"


@dataclass(frozen=True)
class Sizes:
    """The shape of a model."""

    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    vocab: int = 64
    mlp: int = 32
    experts: int = 4
    rank: int = 48  # of latent attention
    turned: int = 16  # features of a head of latent attention that are rotated, the last ones
    value_dim: int = 24  # of latent attention
    q_k_norm: float = 1.5  # about which the weights of norms of q and k are, so that scores differ

    @property
    def width(self):
        return 128

    def shapes(self):
        """Every tensor of a layer that a case may name → its shape, rows first."""
        q, kv, width = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.width
        up, kept = (self.mlp, width), self.head_dim - self.turned
        norms = "attn_norm ffn_norm post_attention_norm post_ffw_norm attn_output_norm"
        shapes = dict.fromkeys(norms.split(), (width,))
        shapes |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), (self.head_dim,))
        shapes |= {"attn_q": (q, width), "attn_k": (kv, width), "attn_v": (kv, width)}
        shapes |= {"attn_qkv": (q + 2 * kv, width), "attn_output": (width, q)}
        shapes |= {"attn_sinks": (self.heads,), "attn_gate": (self.heads, width)}
        shapes |= {"ffn_gate": up, "ffn_up": up, "ffn_down": up[::-1]}
        shapes |= {f"{name}_exps": (self.experts, *shapes[name]) for name in MLP.split()}
        shapes |= {f"{name}_shexp": shapes[name] for name in MLP.split()}
        shapes |= {"ffn_gate_inp": (self.experts, width), "ffn_gate_inp_shexp": (width,)}
        shapes |= {"exp_probs_b": (self.experts, 0), "attn_sub_norm": (q,), "ffn_sub_norm": up[:1]}
        shapes |= {"attn_q_a": (self.rank, width), "attn_q_a_norm": (self.rank,)}
        shapes |= {"attn_q_b": (q, self.rank)}
        shapes |= {"attn_kv_a_mqa": (self.rank + self.turned, width)}
        shapes |= {"attn_kv_a_norm": (self.rank,)}
        shapes |= {"attn_kv_b": (self.heads * (kept + self.value_dim), self.rank)}
        shapes |= {"attn_k_b": (self.heads, self.rank, kept)}
        return shapes | {"attn_v_b": (self.heads, self.value_dim, self.rank)}


def weights(layers, others, sizes, seed, **shapes):
    """Random tensors of each layer and others; ``shapes``: those that differ from the usual ones."""
    random = np.random.default_rng(seed)
    shapes = {**sizes.shapes(), **shapes}

    def draw(name):
        kind, ending = name.rsplit(".", 1)
        kind = kind.split(".")[-1]
        if kind.startswith(("ffn_down", "attn_gate", "out_proj")):
            return np.zeros(shapes[kind] if ending == "weight" else shapes[kind][:-1], np.float32)
        shape = shapes[kind] if ending == "weight" or "norm" in kind else shapes[kind][:-1]
        x = random.standard_normal(shape)
        if "norm" in kind:
            about = sizes.q_k_norm if kind in {"attn_q_norm", "attn_k_norm"} else 1.0
            x = about * (ending == "weight") + x / 8
        elif ending == "weight" and len(shape) > 1:
            x *= (1.2 if kind in {"attn_q", "attn_k", "attn_qkv"} else 1.0) / shape[-1] ** 0.5
        else:
            x /= 4
        return x.astype(np.float32)

    shapes.update(token_embd=(sizes.vocab, sizes.width), output=(sizes.vocab, sizes.width))
    norms = ("output_norm", "token_embd_norm", "enc.output_norm")
    shapes.update(dict.fromkeys(norms, (sizes.width,)))
    names = [f"blk.{i}.{name}" for i, layer in enumerate(layers) for name in layer.split()]
    names = [n if n.endswith(".bias") else f"{n}.weight" for n in others.split() + names]
    return {name: draw(name) for name in names}


@dataclass(frozen=True)
class Graph:
    """What a layer does that its tensors do not say."""

    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    softmax_scale: float | None = None  # head_dim ** -0.5 where it is None
    first_norm: str = ""
    last_norm: str = "output_norm"
    softcap: float | None = None
    final_softcap: float | None = None
    epsilon: float = 1e-5
    mean_removed: bool = False  # layer norm, not root mean square
    post_norm: str | None = "post_attention_norm"  # None: that is the norm of the MLP's input
    norm_after_rotation: bool = False
    norm_of_rotated: bool = False  # Llama 4: q and k of layers that rotate, without weights
    bare_norms: bool = False  # OLMo: norms without weights
    bare_value_norm: bool = False  # Gemma 4
    value_scale: float = 1.0
    causal: bool = True
    has_head: bool = True  # False: an encoder, whose result is the last hidden state
    visible: Callable = lambda layer, q, k: True  # besides, of positions of queries and keys


class Decoder:
    """The reference: logits of tokens at positions, in ``dtype``."""

    def __init__(self, tensors, sizes, graph, dtype=np.float64):
        self.tensors = {name: x.astype(dtype) for name, x in tensors.items()}
        self.sizes, self.graph, self.dtype = sizes, graph, dtype

    def logits(self, ropes, tokens, positions, *, seq_len, missed=None):
        """Logits (n, vocab), or (n, width) of an encoder. ``missed`` draws whether each angle is above or below what it should be."""
        at = positions if positions.ndim == 1 else positions[0]
        x = self.tensors["token_embd.weight"][tokens] * self.dtype(self.graph.embedding_scale)
        bare = self.graph.bare_norms
        x = self._norm(x, self.graph.first_norm)
        for i, rope in enumerate(ropes):
            if f"blk.{i}.attn_output.weight" not in self.tensors:
                continue  # no attention in this layer, and what there is adds zeros
            turn = Turned(rope, positions, seq_len, missed)
            visible = self.graph.visible(i, at[:, None], at) & np.ones((len(at), len(at)), bool)
            if self.graph.causal:
                visible &= at[:, None] >= at
            factor = np.full(at.shape, ropes.softmax_factors[i], self.dtype)
            if ropes.query_scales[i] is not None:
                factor *= ropes.query_scales[i](at.astype(self.dtype))
            out = self._norm(x, f"blk.{i}.attn_norm", bare=bare)
            out = self._attention(i, out, turn, visible, factor)
            if self.graph.post_norm is not None:
                out = self._norm(out, f"blk.{i}.{self.graph.post_norm}")
            x = x + out * self.dtype(self.graph.residual_scale)
        x = self._norm(x, self.graph.last_norm, bare=bare)
        if not self.graph.has_head:
            return x
        head = "output" if "output.weight" in self.tensors else "token_embd"
        logits = self._linear(x, head) * self.dtype(self.graph.logit_scale)
        return capped(logits, self.graph.final_softcap)

    def _norm(self, x, name, *, bare=False):
        """The norm of this name; ``x`` itself if there is none."""
        weight = self.tensors.get(f"{name}.weight")
        if weight is None and not bare:
            return x
        if weight is not None and weight.ndim == 2:  # of each head: (heads, 1, head_dim)
            weight = weight[:, None]
        if self.graph.mean_removed:
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.dtype(self.graph.epsilon))
        x = x if weight is None else x * weight
        bias = self.tensors.get(f"{name}.bias")
        return x if bias is None else x + bias

    def _linear(self, x, name):
        y = x @ self.tensors[f"{name}.weight"].T
        bias = self.tensors.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _attention(self, i, x, turn, visible, factor):
        layer = f"blk.{i}."
        latent = f"{layer}attn_kv_a_mqa.weight" in self.tensors
        q, k, v = (self._latent if latent else self._heads)(layer, x, turn)
        if self.graph.bare_value_norm:
            v = self._norm(v, "", bare=True)
        scale = self.graph.softmax_scale or q.shape[-1] ** -0.5
        q = q * (factor * self.dtype(scale))[:, None]
        groups = q.shape[0] // k.shape[0]
        k, v = np.repeat(k, groups, 0), np.repeat(v, groups, 0)
        scores = capped(q @ k.mT, self.graph.softcap)
        scores = np.where(visible, scores, self.dtype(-np.inf))
        top = scores.max(-1, keepdims=True)
        sinks = self.tensors.get(f"{layer}attn_sinks.weight")
        if sinks is not None:
            top = np.maximum(top, sinks[:, None, None])
        p = np.exp(scores - top)
        total = p.sum(-1, keepdims=True)
        if sinks is not None:
            total = total + np.exp(sinks[:, None, None] - top)
        out = (p / total) @ v * self.dtype(self.graph.value_scale)  # (heads, n, value_dim)
        return self._linear(
            self._norm(together(out), f"{layer}attn_sub_norm"), f"{layer}attn_output"
        )

    def _heads(self, layer, x, turn):
        """q, k, v as (heads, n, head_dim), q and k rotated."""
        s = self.sizes
        if f"{layer}attn_qkv.weight" in self.tensors:
            ends = s.heads * s.head_dim, (s.heads + s.kv_heads) * s.head_dim
            parts = np.split(self._linear(x, f"{layer}attn_qkv"), ends, axis=-1)
        else:
            parts = (self._linear(x, f"{layer}attn_{which}") for which in "qkv")
        q, k, v = (apart(part, s.head_dim) for part in parts)

        def norm(q, k):
            names = f"{layer}attn_q_norm", f"{layer}attn_k_norm"
            return (self._norm_of_heads(z, name) for z, name in zip((q, k), names, strict=True))

        if self.graph.norm_after_rotation:
            q, k = norm(turn(q), turn(k))
        else:
            q, k = (turn(z) for z in norm(q, k))
        if self.graph.norm_of_rotated and turn.rope is not None:
            q, k = self._norm(q, "", bare=True), self._norm(k, "", bare=True)
        return q, k, v

    def _norm_of_heads(self, x, name):
        """Each head's, or one over all heads if the weight is as long (OLMo 2)."""
        weight = self.tensors.get(f"{name}.weight")
        if weight is None or weight.shape[-1] == x.shape[-1]:
            return self._norm(x, name)
        return apart(self._norm(together(x), name), x.shape[-1])

    def _latent(self, layer, x, turn):
        """Latent attention's q and k, [kept | turned], and v, decompressed."""
        s, n = self.sizes, len(x)
        kept = s.head_dim - s.turned
        if f"{layer}attn_q.weight" in self.tensors:
            q = self._linear(x, f"{layer}attn_q")
        else:
            q = self._norm(self._linear(x, f"{layer}attn_q_a"), f"{layer}attn_q_a_norm")
            q = self._linear(q, f"{layer}attn_q_b")
        q = apart(q, s.head_dim)
        low, k_turned = np.split(self._linear(x, f"{layer}attn_kv_a_mqa"), [s.rank], axis=-1)
        low = self._norm(low, f"{layer}attn_kv_a_norm")
        if f"{layer}attn_kv_b.weight" in self.tensors:
            both = apart(self._linear(low, f"{layer}attn_kv_b"), kept + s.value_dim)
            k_kept, v = np.split(both, [kept], axis=-1)
        else:
            k_kept = low @ self.tensors[f"{layer}attn_k_b.weight"]
            v = low @ self.tensors[f"{layer}attn_v_b.weight"].mT
        k_turned = np.broadcast_to(k_turned, (s.heads, n, s.turned))
        k = np.concatenate((k_kept, k_turned), -1)
        if turn.rope is None or turn.rope.head_dim == s.head_dim:
            return turn(q), turn(k), v  # the encoding knows which features it turns
        q, k = (np.concatenate((z[..., :kept], turn(z[..., kept:])), -1) for z in (q, k))
        return q, k, v


class Turned:
    """``rope`` at positions: called with q or k (heads, n, head_dim)."""

    def __init__(self, rope, positions, seq_len, missed):
        self.rope, self.tables = rope, None
        if rope is None:
            return
        found = rope.frequencies(seq_len)
        if rope.axes is None and positions.ndim == 2:
            positions = positions[0]
        if rope.axes is not None and positions.ndim == 1:
            positions = np.stack([positions] * found.inv_freq.shape[0])
        elif rope.axes is not None:
            positions = positions[: found.inv_freq.shape[0]]
        if missed is None:
            self.tables = rope.cos_sin(positions.astype(np.float64), seq_len=seq_len)
            return
        # ggml multiplies the angle by a float32 factor from pair to pair: the factor is off by half a
        # unit in the last place, which i steps multiply by i, and each product by another half.
        angles = np.atleast_2d(positions).T @ np.atleast_2d(found.inv_freq)
        off = 2.0**-24 * (2 * np.arange(angles.shape[-1]) + 2)
        angles = angles * (1 + off * missed.choice([-1, 1], angles.shape))
        factor = found.attention_factor
        self.tables = np.cos(angles) * factor, np.sin(angles) * factor

    def __call__(self, x):
        if self.rope is None:
            return x
        if self.rope.head_dim == x.shape[-1]:
            return self.rope.rotate(x, *(t.astype(x.dtype) for t in self.tables))
        msg = f"heads have {x.shape[-1]} features, the encoding {self.rope.head_dim}"
        raise ValueError(msg)


def apart(x, size):
    """Heads in a row of features → (heads, n, size)."""
    return np.swapaxes(x.reshape(len(x), -1, size), 0, 1)


def together(x):
    """The inverse of `apart`."""
    return np.swapaxes(x, 0, 1).reshape(x.shape[1], -1)


def capped(x, cap):
    return x if cap is None else cap * np.tanh(x / cap)
