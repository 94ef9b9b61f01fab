"""The transformers of diffusers against their own rotary modules: ``python tests/parity/diffusers_configs.py [NAME]``.

A small model of each class is made; its config is what rope_xp reads, its module makes the tables of a
grid of tokens, and the function of its file turns q by them. Functions inside of an attention processor
are taken out of its source.
"""

import ast
import importlib
import inspect
import sys
import textwrap

import numpy as np
import torch
from diffusers.models import embeddings, transformers

from rope_xp import configs
from rope_xp._config_reader.carriers.diffusers import read_table

T, H, W = 3, 4, 6
GRID = np.stack(np.meshgrid(np.arange(T), np.arange(H), np.arange(W), indexing="ij")).reshape(3, -1)
PLANE = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij")).reshape(2, -1)
LINE = np.arange(T * H * W)
RNG = np.random.default_rng(0)


def ids(n, most=40):
    return RNG.integers(0, most, (n, T * H * W))


def file_of(name):
    return sys.modules[getattr(transformers, name).__module__]


def nested(module, name):
    """A function inside of another one, made by itself."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            source = textwrap.dedent(ast.unparse(node))
            scope = dict(vars(module))
            exec(source, scope)  # noqa: S102 - the peer's own code
            return scope[name]
    raise LookupError(name)


def real(module, **k):
    return lambda x, table: embeddings.apply_rotary_emb(x, table, sequence_dim=1, **k)


def small(name, **changes):
    """A model of one head and one layer, and its config as a file has it."""
    made = getattr(transformers, name)(**changes)
    return made, {"_class_name": name, **made.config}


def latent(frames=T, height=H, width=W, patch=1, patch_t=1):
    return torch.zeros(1, 4, frames * patch_t, height * patch, width * patch)


# Each returns a config, positions (n_axes, seq), and what turns x (1, seq, heads, head_dim).


def by_ids(attribute, apply=None, n=3, **changes):
    def case(name):
        made, config = small(name, **changes)
        at = ids(n)
        table = getattr(made, attribute)(torch.tensor(at.T))
        return config, at, lambda x: (apply or real(None))(x, table)

    return case


def by_grid(attribute, **changes):
    def case(name):
        made, config = small(name, **changes)
        patch = config["patch_size"]
        table = getattr(made, attribute)(latent(patch=patch, patch_t=config["patch_size_t"]))
        return config, GRID, lambda x: real(None)(x, table)

    return case


def wan(source=None, **changes):
    def case(name):
        made, config = small(name, num_layers=1, num_attention_heads=1, **changes)
        table = made.rope(latent(patch=2))
        turn = nested(file_of(source or name), "apply_rotary_emb")
        return config, GRID, lambda x: turn(x, *table)

    return case


def anyflow(name):
    made, config = small(name, num_layers=1, num_attention_heads=1)
    table = made.rope._forward_full_frame(T, H, W, torch.device("cpu")).flatten(0, 2)[None, None]
    turn = file_of(name).apply_rotary_emb
    return config, GRID, lambda x: turn(x.transpose(1, 2), table).transpose(1, 2)


def wan_animate_2(name):
    module = file_of(name)
    config = {"_class_name": name, "dim": 256, "num_heads": 2}
    freqs = torch.cat([module.rope_params(512, d) for d in (44, 42, 42)], 1)
    sizes = torch.tensor([[T, H, W]])
    return config, GRID, lambda x: module.rope_apply(x, sizes, freqs)


def cogvideo(name):
    use = {"use_rotary_positional_embeddings": True} if "Easy" not in name else {"patch_size": 2}
    config = {"_class_name": name, "attention_head_dim": 64, "num_layers": 1, **use}
    table = embeddings.get_3d_rotary_pos_embed(64, ((0, 0), (H, W)), (H, W), T)
    return config, GRID, lambda x: real(None)(x, table)


def easyanimate(name):
    config = cogvideo(name)[0]
    module = file_of(name).EasyAnimateRotaryPosEmbed(2, 64)
    table = module(torch.zeros(1, 4, T, 60, 90))
    at = np.stack(np.meshgrid(range(T), range(30), range(45), indexing="ij")).reshape(3, -1)
    return config, at, lambda x: real(None)(x, table)


def allegro(name):
    scale = 2.5, 1.5, 3.0
    keys = {f"interpolation_scale_{axis}": s for axis, s in zip("thw", scale, strict=True)}
    config = {"_class_name": name, "attention_head_dim": 96, **keys}
    tables = embeddings.get_3d_rotary_pos_embed_allegro(96, ((0, 0), (H, W)), (H, W), T, scale)
    index = torch.tensor(GRID)

    def turn(x):
        x = embeddings.apply_rotary_emb_allegro(x.transpose(1, 2), tables[:3], index[:, None])
        return x.transpose(1, 2)

    return config, GRID, turn


def complex_ids(attribute, **changes):
    def case(name):
        made, config = small(name, **changes)
        at = ids(3)
        table = getattr(made, attribute)(torch.tensor(at.T))[None]
        turn = nested(file_of(name), "apply_rotary_emb")
        return config, at, lambda x: turn(x, table)

    return case


def lumina2(name):
    made, config = small(
        name, num_layers=1, num_refiner_layers=1, hidden_size=96, num_attention_heads=1
    )
    at = ids(3)
    table = made.rope_embedder._get_freqs_cis(torch.tensor(at.T)[None])
    return config, at, lambda x: embeddings.apply_rotary_emb(x, table, use_real=False)


def lumina(name):
    config = {"_class_name": name, "hidden_size": 72, "num_attention_heads": 1}
    table = embeddings.get_2d_rotary_pos_embed_lumina(72, H, W).flatten(0, 1)[None]
    return config, PLANE, lambda x: embeddings.apply_rotary_emb(x, table, use_real=False)


def hunyuan_dit(name):
    config = {"_class_name": name, "attention_head_dim": 88}
    table = embeddings.get_2d_rotary_pos_embed(88, ((0, 0), (H, W)), (H, W))
    return config, PLANE, lambda x: real(None)(x, table)


def plane(attribute, scale=None, unbind=-2, **changes):
    def case(name):
        made, config = small(name, num_layers=1, num_attention_heads=1, **changes)
        patch = config["patch_size"]
        patch = patch if isinstance(patch, int) else patch[0]
        table = getattr(made, attribute)(torch.zeros(1, 4, H * patch, W * patch))
        at = PLANE if scale is None else PLANE * scale // np.array([[H], [W]])
        return config, at, lambda x: real(None, use_real_unbind_dim=unbind)(x, table)

    return case


def cosmos(name):
    made, config = small(name, num_layers=1, num_attention_heads=1, rope_scale=(2.0, 1.5, 1.0))
    table = made.rope(latent(patch=2))
    return config, GRID, lambda x: real(None, use_real_unbind_dim=-2)(x, table)


def framepack(name):
    made, config = small(
        name, num_layers=1, num_single_layers=1, num_refiner_layers=1, num_attention_heads=1
    )
    frames = torch.tensor([2, 5, 9])
    table = made.rope(frames, 2 * H, 2 * W, torch.device("cpu"))
    at = GRID.copy()
    at[0] = frames.numpy()[GRID[0]]
    return config, at, lambda x: real(None)(x, table)


def helios(name):
    module = file_of(name)
    config = {"_class_name": name, "rope_dim": (44, 42, 42), "rope_theta": 10000.0}
    table = module.HeliosRotaryPosEmbed((44, 42, 42), 10000.0)(torch.arange(T)[None], H, W, "cpu")
    table = table.flatten(2).transpose(1, 2)
    return config, GRID, lambda x: module.apply_rotary_emb_transposed(x, table)


def matrices(make, n, **config):
    """Modules whose table is a 2 × 2 matrix for each pair."""

    def case(name):
        module = file_of(name)
        at = ids(n)
        table, turn = make(module, torch.tensor(at.T))
        return {"_class_name": name, **config}, at, lambda x: turn(x, table)

    return case


def hidream(widths):
    def make(module, at):
        table = module.HiDreamImageEmbedND(10000, list(widths))(at[None])

        def turn(x, table):
            n = sum(widths)
            turned = module.apply_rope(x[..., :n], x[..., :n], table)[0]
            return torch.cat((turned, x[..., n:]), -1)

        return table, turn

    return make


def prx(module, at):
    return module.PRXEmbedND(64, 10000, [32, 32])(at[None]), lambda x, t: module.apply_rope(
        x.transpose(1, 2), t
    ).transpose(1, 2)


def kandinsky(rope, turn, widths, scale=(1.0, 1.0, 1.0)):
    def case(name):
        module = file_of(name)
        made = getattr(module, rope)(widths)
        at = [torch.arange(n) for n in (T, H, W)]
        table = made((1, T, H, W), at, scale) if "5" in rope else made(at, scale)
        table = table.reshape(T * H * W, 1, sum(widths) // 2, 2, 2)
        turned = nested(module, turn)
        config = {"_class_name": name, "axes_dims": widths}
        config |= {"scale_factor": scale} if "6" in rope else {}
        return config, GRID, lambda x: turned(x, table)

    return case


def qwen(rope, turn):
    def case(name):
        module = file_of(name)
        made = getattr(module, rope)(10000, [16, 56, 56], scale_rope=True)
        image, text = made([(1, H, W)], max_txt_seq_len=5, device=torch.device("cpu"))
        at = PLANE - np.array([[H - H // 2], [W - W // 2]])
        at = np.vstack([np.zeros((1, H * W), int), at])
        tokens = np.tile(np.arange(5) + max(H, W) // 2, (3, 1))
        table = torch.cat((image, text))
        apply = getattr(module, turn)
        return (
            {"_class_name": name},
            np.hstack([at, tokens]),
            lambda x: apply(x, table, use_real=False),
        )

    return case


def qwen21(name):
    module = file_of(name)
    made = module.QwenImage21Rope(10000, [16, 56, 56])
    mask = torch.zeros(H * W + 5, dtype=torch.bool)
    mask[2 : 2 + H * W] = True
    table = made([(1, H, W)], mask, torch.device("cpu"))
    image = PLANE - np.array([[H - H // 2], [W - W // 2]])
    image = np.vstack([np.full((1, H * W), 2), image])
    at = np.hstack([np.tile([0, 1], (3, 1)), image, np.tile(np.arange(3) + 2 + max(H, W), (3, 1))])
    apply = module.apply_rotary_emb_qwen
    return {"_class_name": name}, at, lambda x: apply(x, table, use_real=False)


def joy(name):
    module = file_of(name)
    made, config = small(name, hidden_size=128, num_attention_heads=1, num_layers=1, text_dim=8)
    if hasattr(made, "get_rotary_pos_embed"):
        table = made.get_rotary_pos_embed([T, H, W])[0]
        return config, GRID, lambda x: module._apply_rotary_emb(x, x, table)[0]
    table = made._get_rotary_pos_embed_for_range((0, 0, 0), (T, H, W))
    return (
        config,
        GRID,
        lambda x: module._apply_rotary_emb_batched(x, x, [t[None] for t in table])[0],
    )


def minimax_h3(name):
    module, at = file_of(name), ids(3)
    table = module.MiniMaxH3RotaryPosEmbed(16, 10000.0)(torch.tensor(at.T))
    return {"_class_name": name}, at, lambda x: module._apply_rotary_emb(x, *table)


def mrope(rope, sections, head_dim, **config):
    def case(name):
        module, at = file_of(name), ids(3)
        made = getattr(module, rope)(head_dim, 5000000.0, sections)
        at_model = torch.tensor(at)[:, None]
        if "Ideogram" in name:
            table = made(at_model.permute(1, 2, 0))
        else:
            table = made(at_model, torch.device("cpu"), torch.float32)
        table = tuple(t[0] for t in table)
        turn = real(None, use_real_unbind_dim=-2)
        return {"_class_name": name, **config}, at, lambda x: turn(x, table)

    return case


def ace_step(name):
    table = file_of(name)._ace_step_rotary_freqs(
        len(LINE), 128, 1e6, torch.device("cpu"), torch.float32
    )
    turn = real(None, use_real_unbind_dim=-2)
    return {"_class_name": name}, LINE, lambda x: turn(x, table)


def stable_audio(name):
    table = embeddings.get_1d_rotary_pos_embed(
        32, len(LINE), use_real=True, repeat_interleave_real=False
    )
    from diffusers.models.attention_processor import StableAudioAttnProcessor2_0

    processor = StableAudioAttnProcessor2_0()

    def turn(x):
        x = x.transpose(1, 2)
        turned = processor.apply_partial_rotary_emb(x[..., :32], table)
        return torch.cat((turned, x[..., 32:]), -1).transpose(1, 2)

    return {"_class_name": name}, LINE, turn


def stable_audio_3(name):
    module = file_of(name)
    freqs = module.StableAudio3RotaryEmbedding(32)(len(LINE), torch.device("cpu"))
    return {"_class_name": name}, LINE, lambda x: module._apply_rotary_partial(x, freqs)


def minimax_music(name):
    module = file_of(name)
    table = module.MiniMaxMusic3RotaryEmbedding(32)(len(LINE), torch.device("cpu"))
    return {"_class_name": name}, LINE, lambda x: module._apply_partial_rotary_emb(x, table)


def longcat_audio(name):
    module = file_of(name)
    table = module.AudioDiTRotaryEmbedding(64, 2048, base=100000.0)(torch.zeros(1, len(LINE), 64))
    return {"_class_name": name}, LINE, lambda x: module._apply_rotary_emb(x, table)


def omnigen(name):
    module = file_of(name)
    lists = {
        "short_factor": [1.0 + i / 48 for i in range(48)],
        "long_factor": [2.0 + i for i in range(48)],
    }
    made = module.OmniGenSuScaledRotaryEmbedding(96, rope_scaling=lists)
    table = made(torch.zeros(1), torch.tensor(LINE)[None])
    config = {"_class_name": name, "rope_scaling": {"type": "su", **lists}}
    turn = real(None, use_real_unbind_dim=-2)
    return config, LINE, lambda x: turn(x, table)


def ltx(name):
    module = file_of(name)
    made = module.LTXVideoRotaryPosEmbed(2048)
    table = made(torch.zeros(1), T, H, W, rope_interpolation_scale=(0.3, 32, 32))
    at = GRID * np.array([[0.3], [32], [32]]) - np.array([[10], [1024], [1024]])
    config = {"_class_name": name}
    return (
        config,
        at,
        lambda x: module.apply_rotary_emb(x[:, :, 0], table)[:, :, None],
    )


def ltx2(name):
    module = importlib.import_module("diffusers.models.transformers.transformer_ltx2")
    made = module.LTX2AudioVideoRotaryPosEmbed(
        4096, base_num_frames=25, base_height=1024, base_width=2048
    )
    coords = made.prepare_video_coords(1, T, H, W, torch.device("cpu"))
    table = made(coords)
    at = coords.mean(-1)[0].numpy().astype(float) - np.array([[12.5], [512], [1024]])
    turn = module.apply_interleaved_rotary_emb
    config = {"_class_name": name, "pos_embed_max_pos": 25, "base_height": 1024}
    return config, at, lambda x: turn(x[:, :, 0], table)[:, :, None]


ONE = {"num_layers": 1, "num_attention_heads": 1}
TWO = {**ONE, "num_single_layers": 1}
FLUX = {**TWO, "joint_attention_dim": 8}
CASES = {
    "FluxTransformer2DModel": by_ids("pos_embed", **FLUX),
    "ChromaTransformer2DModel": by_ids(
        "pos_embed", **FLUX, approximator_hidden_dim=64, approximator_layers=1
    ),
    "Flux2Transformer2DModel": by_ids("pos_embed", n=4, **FLUX),
    "Flux3Transformer2DModel": by_ids("pos_embed", n=4, **FLUX),
    "BriaTransformer2DModel": by_ids("pos_embed", **FLUX),
    "BriaFiboTransformer2DModel": by_ids("pos_embed", **FLUX, text_encoder_dim=8),
    "LongCatImageTransformer2DModel": by_ids("pos_embed", **FLUX, pooled_projection_dim=8),
    "OvisImageTransformer2DModel": by_ids("pos_embed", **FLUX),
    "Krea2Transformer2DModel": by_ids(
        "rotary_emb",
        num_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
    ),
    "BriaFibo2Transformer2DModel": complex_ids(
        "rope_embedder", dim=128, n_layers=1, n_heads=1, n_refiner_layers=1, injection_layer_ids=()
    ),
    "ZImageTransformer2DModel": complex_ids(
        "rope_embedder", dim=128, n_layers=1, n_heads=1, n_kv_heads=1, n_refiner_layers=1
    ),
    "Lumina2Transformer2DModel": lumina2,
    "LuminaNextDiT2DModel": lumina,
    "HunyuanVideoTransformer3DModel": by_grid(
        "rope", **TWO, num_refiner_layers=1, text_embed_dim=8
    ),
    "HunyuanVideo15Transformer3DModel": by_grid("rope", **ONE, num_refiner_layers=1),
    "MotifVideoTransformer3DModel": by_grid("rope", **TWO, text_embed_dim=8),
    "HunyuanVideoFramepackTransformer3DModel": framepack,
    "HunyuanImageTransformer2DModel": plane(
        "rope", unbind=-1, num_single_layers=1, num_refiner_layers=1
    ),
    "WanTransformer3DModel": wan(),
    "WanVACETransformer3DModel": wan("WanTransformer3DModel", vace_layers=[0]),
    "WanAnimateTransformer3DModel": wan(inject_face_latents_blocks=1),
    "SkyReelsV2Transformer3DModel": wan(),
    "ChronoEditTransformer3DModel": wan(attention_head_dim=96),
    "SanaVideoTransformer3DModel": wan(cross_attention_dim=112, num_cross_attention_heads=1),
    "AnyFlowTransformer3DModel": anyflow,
    "AnyFlowFARTransformer3DModel": anyflow,
    "WanAnimate2Transformer3DModel": wan_animate_2,
    "CogVideoXTransformer3DModel": cogvideo,
    "ConsisIDTransformer3DModel": cogvideo,
    "EasyAnimateTransformer3DModel": easyanimate,
    "AllegroTransformer3DModel": allegro,
    "CogView4Transformer2DModel": plane("rope", scale=256),
    "GlmImageTransformer2DModel": plane("rope", prior_vq_quantizer_codebook_size=8),
    "HunyuanDiT2DModel": hunyuan_dit,
    "CosmosTransformer3DModel": cosmos,
    "HeliosTransformer3DModel": helios,
    "HiDreamImageTransformer2DModel": matrices(
        hidream((64, 32, 32)), 3, axes_dims_rope=(64, 32, 32)
    ),
    "HiDreamImageTransformer2DModel, half": matrices(hidream((32, 32)), 2),
    "PRXTransformer2DModel": matrices(prx, 2),
    "Kandinsky5Transformer3DModel": kandinsky("Kandinsky5RoPE3D", "apply_rotary", (16, 24, 24)),
    "Kandinsky6Transformer3DModel": kandinsky(
        "Kandinsky6RoPE3D", "apply_rotary", (32, 48, 48), (1.5, 2.0, 3.0)
    ),
    "Kandinsky6SRTransformer3DModel": kandinsky(
        "Kandinsky6SRRoPE3D", "apply_rotary", (16, 24, 24), (1.0, 2.0, 2.0)
    ),
    "QwenImageTransformer2DModel": qwen("QwenEmbedRope", "apply_rotary_emb_qwen"),
    "NucleusMoEImageTransformer2DModel": qwen("NucleusMoEEmbedRope", "_apply_rotary_emb_nucleus"),
    "QwenImage21Transformer2DModel": qwen21,
    "JoyImageEditTransformer3DModel": joy,
    "JoyImageEditPlusTransformer3DModel": joy,
    "MiniMaxH3Transformer3DModel": minimax_h3,
    "Cosmos3OmniTransformer": mrope("Cosmos3VLTextRotaryEmbedding", (24, 20, 20), 128),
    "Ideogram4Transformer2DModel": mrope("Ideogram4MRoPE", (24, 20, 20), 256),
    "AceStepTransformer1DModel": ace_step,
    "StableAudioDiTModel": stable_audio,
    "StableAudio3DiTModel": stable_audio_3,
    "MiniMaxMusic3Transformer1DModel": minimax_music,
    "LongCatAudioDiTTransformer": longcat_audio,
    "OmniGenTransformer2DModel": omnigen,
    "LTXVideoTransformer3DModel": ltx,
    "LTX2VideoTransformer3DModel": ltx2,
    "SanaWMLTX2RefinerTransformer3DModel": ltx2,
}
# Where the source makes angles of up to 15,000 in float32, or rounds x to bfloat16.
COARSE = {
    "LTX2VideoTransformer3DModel": 1e-2,
    "SanaWMLTX2RefinerTransformer3DModel": 1e-2,
    "LTXVideoTransformer3DModel": 3e-2,
    "Kandinsky5Transformer3DModel": 3e-2,
}


def compare(label):
    """The largest difference between the two rotations of one class."""
    name = label.partition(",")[0]
    config, at, turn = CASES[label](name)
    rope = configs.layer_ropes(config)[0]
    x = torch.from_numpy(
        RNG.standard_normal((1, at.shape[-1], 2, rope.head_dim)).astype(np.float32)
    )
    if "whole width" in configs.explain(config):
        x = x[:, :, :1]
    ours = rope(x.double(), positions=at, seq_axis=1)
    theirs = turn(x.clone()).reshape(ours.shape).double()
    return float((ours - theirs).abs().max())


def main(wanted):
    missing = {*read_table().classes} - {label.partition(",")[0] for label in CASES}
    assert not missing, f"no case for {sorted(missing)}"
    with torch.no_grad():
        failed = []
        for label in CASES:
            if wanted and not label.startswith(wanted):
                continue
            difference = compare(label)
            if not difference < COARSE.get(label, 2e-4):
                failed.append(label)
            print(f"{label:45} {difference:.1e}", flush=True)
    print(
        f"{len(CASES) - len(failed)} of {len(CASES)} cases of {len(read_table().classes)} classes agree"
    )
    assert not failed, failed


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
