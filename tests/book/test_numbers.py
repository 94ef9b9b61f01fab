"""Each number in the book's prose is computed on its page, or here, or has its source here.

A number is computed on its page if a cell has it, or a cell's output, perhaps with more digits. This
reads the executed pages, so it runs after the book's build: ``nox -s book``. Whole numbers up to 12,
exponents, inline code, sections and links are not looked at.
"""

import math
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat comes with the book's packages")
BOOK = Path(__file__).parents[2] / "book"
EXECUTED = BOOK / "_build" / "jupyter_execute"
PAGES = sorted(path.stem for path in EXECUTED.glob("*.ipynb"))
if not PAGES:
    pytest.skip("the book is not built: nox -s book builds it", allow_module_level=True)

NUMBER = r"\d+(?:\.\d+)?"
# What is typed and in no cell: an expression in Python, which must agree in the digits that are typed.
COMPUTED = {
    "break_it": {"256": "2**8", "2048": "2**11"},
    "comparison": {"113": "ceil(16 * 8 ** (15 / 16))", "2.77": "log(16)"},
    "errata": {"44": "2 * pi * 7", "256": "2**8"},
    "frequencies": {
        "0.6": "200 * 0.003",
        "113": "710 / (2 * pi)",
        "722.5": "(4096 / (2 * pi)) ** (128 / 126)",
        "722": "floor((4096 / (2 * pi)) ** (128 / 126))",
        "1.0007": "4096 / (2 * pi * 722 ** (126 / 128))",
        "1884": "lcm(6, 628)",
        "70": "100 * log(4096 / (2 * pi), 10_000)",
        "23": "ceil(32 * log(4096 / (2 * pi), 10_000))",
        "91": "ceil(128 * log(4096 / (2 * pi), 10_000))",
    },
    "linear_attention": {"33": "ceil((64 * 64 + 64) / (64 + 64))", "1.14": "1 + exp(-2)"},
    "pairs": {
        "0.75": "24 / 32",
        "511": "512 - 1",
        "0.96": "cos(6)",
        "45": "1 + ceil(14 * pi)",
    },
    "planes": {
        "0.01": "10_000 ** (-2 / 4)",
        "0.03": "3 * 10_000 ** (-2 / 4)",
        "0.9900": "-cos(3)",
        "0.1411": "sin(3)",
        "0.9996": "cos(0.03)",
        "0.0300": "sin(0.03)",
        "1.1311": "sin(3) - cos(3)",
        "0.8489": "-(sin(3) + cos(3))",
    },
    "precision": {
        "256": "2**8",
        "65520": "2**16 - 2 ** (15 - 11)",
        "5e-11": "2**-7 * 2**-30 * 2 * pi",
        "0.71": "sin(pi / 4)",
        "0.37": "ceil(51 * 0.71) / 100",
        "0.21": "ceil(33 * 0.62) / 100",
        "9.54e-8": "1.6 * 2**-24",
        "1.8e-16": "1.6 * 2**-53",
        "0.0002": "4096 * 2**-24",
        "0.008": "131_072 * 2**-24",
        "2048": "2**11",
        "1024": "2**10",
        "128000": "2000 * 64",
    },
    "relative": {
        "256": "2**8",
        "0.0046": "log(100) / 1000",
        "0.0039": "2**-8",
        "0.02": "exp(-1000 * 2**-8)",
        "0.0004": "exp(-1000 * 2**-7)",
    },
    "several_axes": {
        "6.28": "2 * pi",
        "11.17": "2 * pi * 10_000 ** (2 / 32)",
        "8.38": "2 * pi * 100 ** (2 / 32)",
    },
    "sharding": {
        "4.8": "4 * 128 * 10_000_000 / 2**30",
        "16.8": "2**24 / 10**6",
        "512": "8192 / 16",
        "61000": "8.03e9 / 131_072",
    },
    "speed": {"0.16": "1.3 / 8"},
    "stretching": {
        "25": "29 - 4",
        "32768": "4 * 8192",
        "20.9": "64 * log(4096 / (2 * pi * 32), 10_000)",
        "45.03": "64 * log(4096 / (2 * pi), 10_000)",
        "20": "floor(64 * log(4096 / (2 * pi * 32), 10_000))",
        "46": "ceil(64 * log(4096 / (2 * pi), 10_000))",
        "0.08": "100 * 2 * pi / 8192",
    },
    "time_stamps": {"2.4e-7": "2.0**-22", "1.2e-7": "2.0**-23"},
    "trained": {"0.05": "pi / 64", "0.14": "exp(-128 / 64)", "0.61": "exp(-128 / 256)"},
}
# What is typed and cannot be computed: where it is from.
FLOAT32, FLOAT64 = "significant bits of float32", "significant bits of float64"
FETCHED = "book/_extra, as nox -s book fetches it"
FIRST = "train_tiny.py: the first context is 64 bytes, of which the last 32 are scored"
SOURCES = {
    "decay": {
        "2048": "huggingface/smollm, config_smollm2_135M.yaml",
        "8192": "general.name of the GGUF file",
        "100000": "llama.rope.freq_base of the GGUF file",
        "32768": "Men et al. 2024 and Su 2024, who are cited there",
    },
    "decoder": {"13": FETCHED, "3.1": "Llama 3.1", "0.27": FETCHED, "2.0": FETCHED},
    "errata": {"169": "the number of the issue"},
    "planes": {"256": "GPT-J's head_dim"},
    "precision": {
        "30": "w, the width of the fixed point, as in the code that is printed below",
        "15": "bits of a limb, half of w",
    },
    "relative": {"128": "T5's relative_attention_max_distance"},
    "speed": {"2.6": "Horowitz 2014, who is cited there"},
    "stretching": {"2048": "as in decay"},
    "time_stamps": {"24": FLOAT32, "53": FLOAT64},
    "trained": {"32": FIRST},
    "why_position": {"301": "a row, and the next"},
    "written_once": {"30": "llama.block_count of the GGUF file"},
}


def plain(text):
    """Numbers without separators of thousands, in Python's, LaTeX's and English."""
    text = re.sub(r"(?<=\d)(?:,|_|\{,\})(?=\d{3}(?!\d))", "", text)
    text = re.sub(rf"({NUMBER}) *\\cdot *10\^\{{?(-?\d+)\}}?", r"\1e\2", text)
    return re.sub(r"\^(?:\{[^}]*\}|-?\d+)|(?<=[A-Za-z])_\{?\d+\}?", " ", text)


def prose(text):
    """A page without front matter, cells, sources, roles, inline code, links and section numbers."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = text.partition("\n## Sources")[0]
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`\n]+`|\[[^\]\n]*\]\([^)]*\)|\([a-z-]+\)=", " ", text)
    return re.sub(r"[Ss]ections?[\s\d.,–]+(?:and[\s\d.]+)?", " ", text)


def typed(name):
    """The numbers of a page's prose as (number, paragraph), in order; and those that problems give."""
    found, given, problems = [], set(), False
    for paragraph in re.split(r"\n\s*\n", prose((BOOK / f"{name}.md").read_text())):
        problems |= paragraph.startswith("## Problems")
        pattern = rf"(?<![\w.^\\]){NUMBER}(?:e-?\d+)?(?![\w])"
        numbers = re.findall(pattern, plain(paragraph))
        if problems and re.match(r"\d+\. ", paragraph):
            given |= {float(number) for number in numbers}
        else:
            found += [(number, " ".join(paragraph.split())) for number in numbers]
    large = [(n, where) for n, where in found if "." in n or "e" in n or float(n) > 12]
    return large, given


def computed(name):
    """Numbers of a page's cells, which are exact, and those of their outputs, which may be rounded."""
    exact, rounded = set(), set()
    for cell in nbformat.read(EXECUTED / f"{name}.ipynb", 4).cells:
        if cell.cell_type != "code":
            continue
        texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
        for found, text in ((exact, cell.source), (rounded, "\n".join(texts))):
            text = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text)
            found |= {float(x) for x in re.findall(rf"{NUMBER}(?:e[+-]?\d+)?", text)}
    return exact, rounded


def agrees(number, value):
    """Is ``number`` what one gets by rounding ``value`` to the digits that it has?"""
    digits, _, power = number.partition("e")
    whole, _, decimals = digits.partition(".")
    unit = 10.0 ** (int(power or 0) - len(decimals))
    if not decimals and not power:
        unit = 10.0 ** (len(whole) - max(len(whole.rstrip("0")), 2))
    return abs(float(number) - value) <= 0.5 * unit * (1 + 1e-9)


def has_a_cell(number, exact, rounded):
    if float(number) in exact | rounded:
        return True
    # One digit is too often a rounded number of something else.
    few = len(number.replace(".", "").lstrip("0")) < 2 and len(number) < 4
    return not few and any(agrees(number, value) for value in rounded)


@pytest.mark.parametrize("name", PAGES)
def test_numbers_in_prose_are_computed_or_have_a_source(name):
    exact, rounded = computed(name)
    found, given = typed(name)
    elsewhere = {**COMPUTED.get(name, {}), **SOURCES.get(name, {})}
    without = [
        f"{number}: {where}"
        for number, where in found
        if number not in elsewhere and not has_a_cell(number, exact | given, rounded)
    ]
    assert without == []
    numbers = {number for number, _ in found}
    assert {*elsewhere} <= numbers, f"not on the page: {{*elsewhere}} - {numbers}"


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_numbers_that_are_computed_here(name):
    names = {k: v for k, v in vars(math).items() if not k.startswith("_")}
    wrong = {
        number: eval(expression, names)
        for number, expression in COMPUTED[name].items()
        if not agrees(number, eval(expression, names))
    }
    assert wrong == {}
