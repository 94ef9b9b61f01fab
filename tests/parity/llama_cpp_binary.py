"""llama.cpp by its C interface, out of the wheel of xllamacpp: a GGUF file and tokens → logits.

The wheel's extension module exports llama.cpp's functions, so neither a compiler nor the wheel's own
Python interface is needed. Structures are those of thirdparty/llama.cpp/include/llama.h (0.6.0-dev) in
the sdist of xllamacpp 2026.10.11549. Before anything is run, what the binary's two functions of default
parameters return is compared with the defaults in that version's src/llama-model.cpp and
llama-context.cpp: another layout fails there, in a sentence.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path

import numpy as np

F32, FLASH_OFF, WARNING = 0, 0, 3  # ggml_type, llama_flash_attn_type, ggml_log_level
NO_POOLING, CAUSAL, NOT_CAUSAL = 0, 0, 1  # llama_pooling_type, llama_attention_type


def structure(name, **kinds):
    """A C structure of these fields in this order."""
    return type(name, (ctypes.Structure,), {"_fields_": list(kinds.items())})


def of(kind, names):
    """Several fields of one kind."""
    return dict.fromkeys(names.split(), kind)


ModelParams = structure(
    "llama_model_params",
    **of(c_void_p, "devices tensor_buft_overrides"),
    **of(c_int, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
    **of(c_void_p, "tensor_split progress_callback progress_callback_user_data kv_overrides"),
    **of(c_bool, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
)
ContextParams = structure(
    "llama_context_params",
    **of(c_uint, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
    **of(c_int, "n_threads n_threads_batch ctx_type rope_scaling_type pooling_type"),
    **of(c_int, "attention_type flash_attn_type"),
    **of(c_float, "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor"),
    **of(c_float, "yarn_beta_fast yarn_beta_slow"),
    **of(c_uint, "yarn_orig_ctx"),
    **of(c_float, "defrag_thold"),
    **of(c_void_p, "cb_eval cb_eval_user_data"),
    **of(c_int, "type_k type_v"),
    **of(c_void_p, "abort_callback abort_callback_data"),
    **of(c_size_t, "moe_cache_size"),
    **of(c_bool, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
    **of(c_void_p, "samplers"),
    **of(c_size_t, "n_samplers"),
    **of(c_void_p, "ctx_other"),
)
Batch = structure(
    "llama_batch", n_tokens=c_int, **of(c_void_p, "token embd pos n_seq_id seq_id logits")
)

# What the source of the two functions sets, for every field that is not zero.
MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1}
MODEL_DEFAULTS |= {"use_extra_bufts": True}
CONTEXT_DEFAULTS = {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1}
CONTEXT_DEFAULTS |= {"n_outputs_max_per_seq": 1, "n_threads": 4, "n_threads_batch": 4}
CONTEXT_DEFAULTS |= of(-1, "rope_scaling_type pooling_type attention_type flash_attn_type")
CONTEXT_DEFAULTS |= of(-1.0, "yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow")
CONTEXT_DEFAULTS |= {"defrag_thold": -1.0, **of(1, "type_k type_v")}
CONTEXT_DEFAULTS |= of(True, "offload_kqv no_perf op_offload swa_full")

SIGNATURES = {
    "llama_version": (c_char_p,),
    "llama_model_default_params": (ModelParams,),
    "llama_context_default_params": (ContextParams,),
    "llama_backend_init": (None,),
    "llama_log_set": (None, c_void_p, c_void_p),
    "llama_model_load_from_file": (c_void_p, c_char_p, ModelParams),
    "llama_model_free": (None, c_void_p),
    "llama_init_from_model": (c_void_p, c_void_p, ContextParams),
    "llama_free": (None, c_void_p),
    "llama_decode": (c_int, c_void_p, Batch),
    "llama_get_logits": (POINTER(c_float), c_void_p),
    "llama_get_embeddings": (POINTER(c_float), c_void_p),
}


def require_defaults(params, expected):
    """RuntimeError unless the default parameters are those of the header that we know."""
    for field, _ in params._fields_:
        value = getattr(params, field) or 0
        if value != expected.get(field, 0):
            msg = (
                f"the default of {type(params).__name__}.{field} must be {expected.get(field, 0)}, "
                f"got {value}: this binary has another llama.h; compare the structures of this file "
                "with the include/llama.h of its version"
            )
            raise RuntimeError(msg)


class LlamaCpp:
    """The library, loaded and checked; ``version`` names it."""

    def __init__(self):
        os.environ["GGML_NO_BACKTRACE"] = "1"  # where C++ aborts, say so in one line, without gdb
        found = importlib.util.find_spec("xllamacpp")
        if found is None:
            msg = "llama.cpp comes from the wheel of xllamacpp: install the version in noxfile.py"
            raise RuntimeError(msg)
        (path,) = Path(found.origin).parent.glob("xllamacpp.abi3.*")
        self.c = ctypes.CDLL(str(path))
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        require_defaults(self.c.llama_model_default_params(), MODEL_DEFAULTS)
        require_defaults(self.c.llama_context_default_params(), CONTEXT_DEFAULTS)
        version = importlib.metadata.version("xllamacpp")
        self.version = f"llama.cpp {self.c.llama_version().decode()} (xllamacpp {version})"
        self.log = []
        kind = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
        self._log = kind(self._listen)  # kept: the library holds no reference
        self.c.llama_log_set(ctypes.cast(self._log, c_void_p), None)
        self.c.llama_backend_init()

    def _listen(self, level, text, _):
        if level >= WARNING:
            self.log.append(text.decode(errors="replace"))

    def _require(self, done, what):
        if not done:
            msg = f"llama.cpp could not {what}: {''.join(self.log[-6:]).strip()}"
            raise RuntimeError(msg)
        return done

    def run(self, path, inputs, positions, *, width, n_ctx=256, causal=True, has_head=True):
        """Logits, or an encoder's last hidden state, (n, width) of one sequence, in float32 throughout.

        ``inputs`` are tokens, or embeddings (n, features), which a model with several axes takes with
        ``positions`` ``(n_axes, n)``.
        """
        self.log.clear()
        params = self.c.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        model = self.c.llama_model_load_from_file(str(path).encode(), params)
        self._require(model, f"load {path}")
        try:
            context = self._context(model, len(inputs), n_ctx, causal, has_head)
            try:
                self._decode(context, inputs, positions)
                result = self.c.llama_get_logits if has_head else self.c.llama_get_embeddings
                return np.ctypeslib.as_array(result(context), (len(inputs), width)).copy()
            finally:
                self.c.llama_free(context)
        finally:
            self.c.llama_model_free(model)

    def _context(self, model, n, n_ctx, causal, has_head):
        params = self.c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n, n
        params.n_outputs_max_per_seq = n
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = F32  # its cache is float16 else
        params.flash_attn_type = FLASH_OFF  # it rounds k and v to float16
        params.op_offload = params.offload_kqv = False
        params.embeddings, params.pooling_type = not has_head, NO_POOLING
        params.attention_type = CAUSAL if causal else NOT_CAUSAL
        return self._require(self.c.llama_init_from_model(model, params), "make a context")

    def _decode(self, context, inputs, positions):
        n = len(inputs)
        sequence = (c_int * 1)(0)
        sequences = (POINTER(c_int) * n)(*[sequence] * n)
        kind, dtype = ("token", np.int32) if np.ndim(inputs) == 1 else ("embd", np.float32)
        arrays = {  # kept to the end of this function: the batch has their addresses only
            kind: np.ascontiguousarray(inputs, dtype),
            "pos": np.ascontiguousarray(positions, np.int32),
            "n_seq_id": np.ones(n, np.int32),
            "logits": np.ones(n, np.int8),
        }
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        batch = Batch(n_tokens=n, seq_id=ctypes.cast(sequences, c_void_p), **addresses)
        self._require(self.c.llama_decode(context, batch) == 0, "decode")
