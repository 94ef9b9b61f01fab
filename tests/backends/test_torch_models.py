"""``diagnose_model`` on a small model that is built as those of transformers are, and on ones with a mistake."""

import copy
import math
import sys

import pytest

from rope_xp import RoPE
from rope_xp.testing import diagnose_model

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.backend("torch")

nn = torch.nn
HEAD, HEADS, WIDTH = 16, 2, 24
BASE = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": HEAD * HEADS,
    "num_attention_heads": HEADS,
    "vocab_size": 40,
    "max_position_embeddings": 4096,
    "rope_theta": 500000.0,
    "pad_token_id": 0,
}


class Config:
    def __init__(self, **values):
        vars(self).update(values)

    def to_dict(self):
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}


def halves(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def swapped(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def apply_rotary_pos_emb(q, k, cos, sin):
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return q * cos + halves(q) * sin, k * cos + halves(k) * sin


def apply_rotary_pos_emb_interleave(q, k, cos, sin):
    """As DeepSeek's: pairs are interleaved, and are returned in halves."""
    q, k = (torch.cat((x[..., ::2], x[..., 1::2]), dim=-1) for x in (q, k))
    return apply_rotary_pos_emb(q, k, cos, sin)


def turn_interleaved(q, k, cos, sin):
    n = cos.shape[-1] // 2
    cos, sin = (t[..., :n].repeat_interleave(2, -1).unsqueeze(1) for t in (cos, sin))
    return q * cos + swapped(q) * sin, k * cos + swapped(k) * sin


class RotaryEmbedding(nn.Module):
    def __init__(self, base, dim, factor=1.0, slower=1.0):
        super().__init__()
        inv_freq = 1.0 / base ** (torch.arange(0, dim, 2).float() / dim) / slower
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.factor, self.longest = factor, 0

    def forward(self, x, position_ids):
        self.longest = max(self.longest, int(position_ids.max()))  # state that must not stay
        angles = position_ids[..., None].float() * self.inv_freq.float()
        angles = torch.cat((angles, angles), dim=-1)
        return ((f(angles) * self.factor).to(x.dtype) for f in (torch.cos, torch.sin))


class Rounded(RotaryEmbedding):
    def forward(self, x, position_ids):
        return super().forward(x, position_ids.bfloat16())


class Attention(nn.Module):
    turn = staticmethod(lambda *given: apply_rotary_pos_emb(*given))
    rotates, partial, eager = True, HEAD, False

    def __init__(self, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(HEAD * HEADS, HEAD * HEADS, bias=False) for _ in range(4)
        )

    def forward(self, x, cos, sin):
        q, k, v = (
            f(x).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
            for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.rotates:
            n = self.partial
            a, b = self.turn(q[..., :n], k[..., :n], cos[..., :n], sin[..., :n])
            q, k = torch.cat((a, q[..., n:]), dim=-1), torch.cat((b, k[..., n:]), dim=-1)
        if self.eager:
            weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(HEAD), dim=-1)
            y = nn.functional.dropout(weights, 0.3, self.training) @ v
        else:
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(-2))


class Layer(nn.Module):
    def __init__(self, i, rotary):
        super().__init__()
        self.self_attn, self.norm = Attention(i), nn.LayerNorm(HEAD * HEADS)
        self.rotary_emb = rotary

    def forward(self, x, position_ids):
        cos, sin = self.rotary_emb(x, position_ids)
        return x + self.self_attn(self.norm(x), cos, sin)


class Model(nn.Module):
    def __init__(self, config, **options):
        super().__init__()
        self.config = Config(**config)
        self.embed = nn.Embedding(config["vocab_size"], HEAD * HEADS)
        self.layers = nn.ModuleList(
            Layer(i, RotaryEmbedding(config["rope_theta"], HEAD, **options))
            for i in range(config["num_hidden_layers"])
        )

    def forward(self, input_ids, position_ids=None, use_cache=True):
        assert not use_cache
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])[None].expand(input_ids.shape)
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, position_ids)
        return x


def model(config=BASE, **options):
    torch.manual_seed(0)
    return Model(config, **options)


def replaced(rotary):
    """A mistake in layer 2: its rotary module."""
    made = model()
    made.layers[2].rotary_emb = rotary
    return made


def attention(**changes):
    """A mistake in layer 2: its attention."""
    made = model()
    for name, value in changes.items():
        setattr(made.layers[2].self_attn, name, value)
    return made


def test_a_model_that_does_what_its_config_says():
    found = diagnose_model(model())
    assert found.is_same
    assert found.differences == ()
    assert [layer.number for layer in found.layers] == [0, 1, 2, 3]
    layer = found.layers[3]
    assert (layer.rotates, layer.layout, layer.output_layout) == (True, "half", "half")
    assert (layer.direction, layer.rotary_dim, layer.rotary_start, layer.head_dim) == (1, 16, 0, 16)
    assert layer.base == 500000.0
    assert layer.attention_factor == pytest.approx(1, abs=1e-5)
    want = [500000.0 ** (-i / 8) for i in range(8)]
    assert layer.inv_freq == pytest.approx(want, rel=1e-4)
    assert layer.name == "layers.3.self_attn"
    text = str(found).splitlines()
    assert text[0] == "llama: 4 layers, as the config says"
    assert text[3].startswith("0-3 (4)  yes      half   16 of 16  500,000  1 ")


MISTAKES = {
    "base": (
        lambda: replaced(RotaryEmbedding(10000.0, HEAD)),
        "layer 2: base 10,000, the config says 500,000: pair ",
    ),
    "linear": (
        lambda: replaced(RotaryEmbedding(500000.0, HEAD, slower=4.0)),
        "layer 2: all pairs turn 0.25 times as fast as the config says: pair ",
    ),
    "attention factor": (
        lambda: replaced(RotaryEmbedding(500000.0, HEAD, factor=1.25)),
        "layer 2: attention factor 1.25, the config says 1",
    ),
    "layout": (
        lambda: attention(turn=turn_interleaved),
        "layer 2: the pairs are interleaved (2i with 2i + 1), the config says half (i with i + 8)",
    ),
    "positions in bfloat16": (
        lambda: replaced(Rounded(500000.0, HEAD)),
        "layer 2: positions are rounded to bfloat16: 511 to 512",
    ),
    "no rotation": (
        lambda: attention(rotates=False),
        "layer 2: it does not rotate, the config says that it does",
    ),
    "backwards": (
        lambda: attention(turn=lambda q, k, cos, sin: apply_rotary_pos_emb(q, k, cos, -sin)),
        "layer 2: it turns backwards, by the negative of each angle",
    ),
    "queries only": (
        lambda: attention(turn=lambda q, k, c, s: (q, apply_rotary_pos_emb(q, k, c, s)[1])),
        "layer 2: queries and keys turn by different angles: pair ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("eager", [False, True])
def test_a_mistake_is_found_at_its_layer(monkeypatch, name, eager):
    monkeypatch.setattr(Attention, "eager", eager)
    make, sentence = MISTAKES[name]
    found = diagnose_model(make())
    assert not found.is_same
    assert [layer.number for layer in found.layers if not layer.is_same] == [2]
    assert any(each.startswith(sentence) for each in found.differences), found.differences
    assert all(each.startswith("layer 2: ") for each in found.differences)
    assert f"differs: {sentence}" in str(found)
    assert not found.not_seen


def test_part_of_the_head():
    config = BASE | {"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 10000}
    del config["rope_theta"]
    made = model(BASE | {"rope_theta": 10000.0, "num_hidden_layers": 4})
    made.config = Config(**config)
    for layer in made.layers:
        layer.rotary_emb = RotaryEmbedding(10000.0, 8)
        layer.self_attn.partial = 8
    assert diagnose_model(made).is_same
    made.layers[1].rotary_emb = RotaryEmbedding(10000.0, HEAD)
    made.layers[1].self_attn.partial = HEAD
    found = diagnose_model(made)
    assert found.differences == (
        "layer 1: 16 of 16 features rotate, from 0 on, the config says 8 from 0 on",
    )


def test_a_layer_that_should_not_rotate():
    config = BASE | {"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0]}
    made = model()
    made.config = Config(**config)
    assert diagnose_model(made).differences == (
        "layer 3: it rotates, the config says that it does not",
    )
    made.layers[3].self_attn.rotates = False
    assert diagnose_model(made).is_same


def test_pairs_that_are_returned_in_another_order():
    made = model()
    for layer in made.layers:
        layer.self_attn.turn = lambda *given: apply_rotary_pos_emb_interleave(*given)
    ropes = [RoPE(16, layout="interleaved", base=500000.0)] * 4
    found = diagnose_model(made, ropes)
    assert found.is_same
    assert (found.layers[0].layout, found.layers[0].output_layout) == ("interleaved", "half")
    # The other way round, too.
    assert not diagnose_model(made).is_same


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounded_frequencies(dtype):
    made = model(BASE | {"rope_theta": 10000.0}).to(getattr(torch, dtype))
    found = diagnose_model(made)
    assert len(found.differences) == 1
    assert found.differences[0].startswith(
        f"layers 0-3 (4): inv_freq was rounded to {dtype}: pair "
    )
    assert f"model.to({dtype}) rounds it" in str(found)
    # What float() does not bring back.
    found = diagnose_model(made.float())
    assert found.differences[0].startswith(
        f"layers 0-3 (4): inv_freq was rounded to {dtype}: pair "
    )
    assert "rounds it" not in str(found)
    # Of the same dtype, but frequencies in float32.
    made = model().to(getattr(torch, dtype))
    for layer in made.layers:
        layer.rotary_emb.inv_freq = RotaryEmbedding(500000.0, HEAD).inv_freq
    assert diagnose_model(made).is_same


def test_a_schedule_that_is_not_applied():
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    }
    found = diagnose_model(model(BASE | {"rope_scaling": scaling}))
    assert len(found.differences) == 1
    assert "the schedule Llama3(" in found.differences[0]
    assert " is not applied: pair " in found.differences[0]


def test_buffers_that_nobody_wrote():
    made = model()
    made.layers[1].rotary_emb.inv_freq.fill_(3e38)
    found = diagnose_model(made)
    assert not found.is_same
    assert found.differences == (
        "layer 1: its queries and keys are not finite, so nothing can be seen of them",
    )
    assert found.not_seen == (1, 2, 3)
    assert "layers.1.rotary_emb.inv_freq has values that are no frequencies" in str(found)


def test_positions_that_the_model_does_not_take():
    made = model()
    whole = made.forward
    made.forward = lambda input_ids: whole(input_ids, use_cache=False)
    found = diagnose_model(made)
    assert found.is_same
    assert found.remarks[0] == "positions 0 to 60 only were tried: forward takes no position_ids"
    made.layers[0].rotary_emb = RotaryEmbedding(10000.0, HEAD)
    assert "layer 0: base 10,000, the config says 500,000" in diagnose_model(made).differences[0]


@pytest.mark.parametrize(("projection", "which"), [("k_proj", "keys"), ("q_proj", "queries")])
def test_weights_that_are_zero(projection, which):
    """As those that are learned from zero on, and new."""
    made = model()
    nn.init.zeros_(getattr(made.layers[2].self_attn, projection).weight)
    found = diagnose_model(made)
    assert (found.not_seen, found.differences) == ((2,), ())
    assert f"layer 2: its {which} are all zero, so nothing can be seen of them" in str(found)


def test_what_cannot_be_seen_is_said():
    made = model()
    made.layers[1].self_attn.forward = lambda x, cos, sin: x  # a kernel that no hook sees
    found = diagnose_model(made)
    assert not found.is_same
    assert found.differences == ()
    assert found.not_seen == (1,)
    assert "layer 1: no product of its queries and keys was seen" in str(found)
    made = model()
    whole = made.layers[3].self_attn.forward
    # Keys that depend on the position in another way.
    made.layers[3].self_attn.forward = lambda x, cos, sin: whole(
        x + 0.1 * sin.repeat(1, 1, 2), cos, sin
    )
    found = diagnose_model(made)
    assert found.not_seen == (3,)
    assert "otherwise than by turning pairs" in str(found)


def state(made):
    return (
        {name: (type(m), m.training, dict(vars(m)).keys()) for name, m in made.named_modules()},
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in made.modules()],
        [m.longest for m in made.modules() if isinstance(m, RotaryEmbedding)],
        [p.requires_grad for p in made.parameters()],
        torch.random.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        copy.deepcopy(vars(made.config)),
        {k: v for k, v in vars(sys.modules[__name__]).items() if callable(v)},
    )


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_the_same_afterwards(fails):
    made = model()
    made.train()
    made.layers[0].eval()
    made.config._attn_implementation = "flash_attention_2"
    stored = dict((*made.named_buffers(), *made.named_parameters()))
    values = {name: tensor.clone() for name, tensor in stored.items()}
    if fails:

        def broken(x, cos, sin):
            made.layers[0].rotary_emb.inv_freq.mul_(2)
            msg = "no"
            raise RuntimeError(msg)

        made.layers[3].self_attn.forward = broken
    before = state(made)
    if fails:
        with pytest.raises(ValueError, match=r"`model` must run on token ids.* RuntimeError: no"):
            diagnose_model(made)
    else:
        diagnose_model(made)
    assert state(made) == before
    now = dict((*made.named_buffers(), *made.named_parameters()))
    assert all(now[name] is stored[name] for name in stored)
    assert all(torch.equal(now[name], values[name]) for name in stored)
    assert all(p.grad is None for p in made.parameters())


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got int"):
        diagnose_model(3)
    with pytest.raises(TypeError, match=r"`model` must have a config, or pass `config`"):
        diagnose_model(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"`model` must have values, but .* is on the meta device"):
        diagnose_model(model().to("meta"))
    made = model()
    made.config.model_type = "nobody"
    with pytest.raises(ValueError, match=r"nobody"):
        diagnose_model(made)
    assert diagnose_model(made, RoPE(16, layout="half", base=500000.0)).is_same
