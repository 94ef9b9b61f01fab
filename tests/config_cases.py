"""Configs that several files of tests read: as models have them, cut to what is read."""

LLAMA31 = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
LLAMA = {k: v for k, v in LLAMA31.items() if k != "rope_scaling"}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
GEMMA3 = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "num_hidden_layers": 12,
    "head_dim": 256,
    "rope_theta": 1e6,
    "rope_local_base_freq": 10000.0,
    "sliding_window_pattern": 6,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}
GEMMA3_NEW = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 12,
    "head_dim": 256,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
    "rope_theta": 10000,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
}
SHORT, LONG = [1.0 + 0.1 * i for i in range(48)], [1.0 + i for i in range(48)]
PHI3 = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rope_scaling": {"short_factor": SHORT, "long_factor": LONG, "type": "longrope"},
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "head_dim": 64,
    "num_hidden_layers": 36,
    "max_position_embeddings": 131072,
    "rope_theta": 150000,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
}
GEMMA4 = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 6,
    "head_dim": 256,
    "global_head_dim": 512,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1e6,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}


def llama(model_type="llama", **keys):
    return {"model_type": model_type, "hidden_size": 4096, "num_attention_heads": 32, **keys}


def multi(sections, model_type="qwen2_vl_text", **keys):
    return llama(model_type, rope_scaling={"mrope_section": sections, **keys})


def scaled(**keys):
    return {**LLAMA31, "rope_scaling": {**LLAMA31["rope_scaling"], **keys}}
