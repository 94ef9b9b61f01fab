"""The field's words: no private vocabulary in code, messages, tests, or documentation.

Some words once meant something in this project only. A reader has to learn such words, so they are
refused, each with the term to use instead. A word counts in text and as a part of a name: snake_case
and CamelCase are split.
"""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = Path(__file__).relative_to(ROOT).as_posix()  # it has to name the words that it refuses
PATTERNS = [
    "rope_xp/**/*.py",
    "tests/**/*.py",
    "examples/*.py",
    "book/*.md",
    "book/*.py",
    "book/_static/*.js",
    "book/_static/*.css",
    "*.md",
    "noxfile.py",
]

# Refused everywhere, in text and in names.
WORDS = {
    "annex": "module",
    "cellar": "private module",
    "driven": "what drives it, in the active voice",
    "facade": "public API",
    "façade": "public API",
    "held": "kept, stored, contained; a variable is named after what it is",
    "lives": "is in, is defined in",
    "room": "module, package; space for arrays and drawings",
    "rooms": "modules, packages",
    "stand": "be",
    "stands": "is",
    "told": "given, passed; a variable is named after what it is",
}
# Ordinary English in a sentence, private as a name. (The name of a test is a sentence.)
NAMES = {
    "neighbour": "interleaved",
    "neighbours": "interleaved",
    "said": "what it is: parameters, text, …",
    "still": "static, unrotated",
    "tell": "report, show",
    "way": "kernel, method",
    "ways": "kernels, methods",
}
# Ordinary English elsewhere (tokens and patches have neighbours), private in the library.
IN_THE_LIBRARY = {
    "neighbour": "interleaved, adjacent",
    "neighbours": "interleaved, adjacent",
    "ways": "kernels",
}
# Names are American, as in NumPy and in the array API standard.
BRITISH = {
    "behaviour": "behavior",
    "centre": "center",
    "centred": "centered",
    "centres": "centers",
    "colour": "color",
    "initialise": "initialize",
    "labelled": "labeled",
    "materialise": "materialize",
    "normalisation": "normalization",
    "normalise": "normalize",
    "normalised": "normalized",
    "optimise": "optimize",
    "quantise": "quantize",
    "serialise": "serialize",
}
PHRASES = {
    r"\bhand(?:s|ed|ing)?\s+on\b": "pass",
    r"\bone\s+an?\s+(?:axis|case|head|layer|pair|row|step|token)\b": "one per …",
    r"\bgot\s+nothing\b": "… is required for …",
}
# Where one of these words is right: the public argument `still` of `golden_directions`.
ALLOWED = {
    ("rope_xp/axes/", "still"),
    ("tests/messages/test_axes.py", "still"),
    ("tests/tools/", "still"),
    ("tests/unit/test_axes.py", "still"),
    ("tests/unit/test_public.py", "still"),
}

WORD = re.compile(r"[^\W\d]\w*")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-zß-ÿ]+")
OPTIONS = r"(?:---\n.*?\n---\n|(?::[^\n]*\n)+)?"  # of a cell, among them a figure's caption
FENCE = re.compile(
    rf"^```(?:\{{code-cell\}} *)?python\n{OPTIONS}(.*?)^```$", re.MULTILINE | re.DOTALL
)
NOT_CODE_IN_JS = re.compile(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|'[^'\n]*'|`[^`]*`", re.DOTALL)
TEXT_TOKENS = {"COMMENT", "STRING", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END"}


def files():
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def python_code(text):
    """``text`` with blanks for its strings and comments."""
    lines = text.splitlines(keepends=True)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return text  # a fragment: all of it counts as code
    for token in tokens:
        if tokenize.tok_name[token.type] not in TEXT_TOKENS:
            continue
        (first, start), (last, end) = token.start, token.end
        for number in range(first - 1, last):
            line = lines[number]
            low = start if number == first - 1 else 0
            high = end if number == last - 1 else len(line)
            lines[number] = line[:low] + blank(line[low:high]) + line[high:]
    return "".join(lines)


def code(path, text):
    """``text`` with blanks where it is no code; every word keeps its place."""
    if path.endswith(".py"):
        return python_code(text)
    if path.endswith(".js"):
        return NOT_CODE_IN_JS.sub(lambda found: blank(found[0]), text)
    kept, last = [], 0
    for found in FENCE.finditer(text) if path.endswith(".md") else ():
        kept += [blank(text[last : found.start(1)]), python_code(found[1])]
        last = found.end(1)
    return "".join([*kept, blank(text[last:])])


def refused(path, text):
    """A sentence for each word of ``text``, the content of the file ``path``, that is refused."""
    in_library = path.startswith("rope_xp/")
    anywhere = {**WORDS, **(IN_THE_LIBRARY if in_library else {})}
    in_names = {**NAMES, **(BRITISH if in_library else {})}
    only_code = code(path, text)
    found = []
    for match in WORD.finditer(text):
        parts = [part.lower() for part in PART.findall(match[0])]
        is_name = "_" in match[0] or len(parts) > 1 or only_code[match.start()] != " "
        is_name = is_name and not match[0].startswith("test_")
        for part in parts:
            better = anywhere.get(part) or (in_names.get(part) if is_name else None)
            if better and not any(path.startswith(p) and part == w for p, w in ALLOWED):
                found.append((match.start(), match[0], better))
    for phrase, better in PHRASES.items():
        found += [(m.start(), " ".join(m[0].split()), better) for m in re.finditer(phrase, text)]
    for start, word, better in sorted(found):
        line = text.count("\n", 0, start) + 1
        yield f"{path}:{line}: {word!r}; better: {better}"


def test_every_pattern_finds_files():
    assert [pattern for pattern in PATTERNS if not list(ROOT.glob(pattern))] == []
    assert THIS in files()


@pytest.mark.parametrize("path", [path for path in files() if path != THIS])
def test_words_are_those_of_the_field(path):
    found = list(refused(path, (ROOT / path).read_text(encoding="utf-8")))
    assert not found, "\n".join(["", *found])


PLANTED = [
    ("rope_xp/rope.py", "room = 1\n"),
    ("rope_xp/rope.py", "def count_rooms(x):\n    return x\n"),
    ("rope_xp/rope.py", "class LargeRoom:\n    pass\n"),
    ("rope_xp/scaling/_yarn.py", '"""A docstring.\n\nThe factor stands here.\n"""\n'),
    ("rope_xp/scaling/_yarn.py", "x = 1  # the façade\n"),
    ("rope_xp/axes/_axial.py", 'msg = f"`width` must be told, got {width}"\n'),
    ("rope_xp/_kernels/tiled.py", '"""Pairs are neighbours."""\n'),
    ("rope_xp/_kernels/dispatch.py", '"""Ways that differ in speed."""\n'),
    ("rope_xp/positions/_grids.py", "def centre(x):\n    return x\n"),
    ("rope_xp/positions/_grids.py", "def grid(*, normalised_axis):\n    return None\n"),
    ("rope_xp/scaling/_base.py", "still = 1\n"),
    ("rope_xp/configs/_explain.py", 'msg = "`layout` must be given, got nothing"\n'),
    ("tests/unit/test_rope.py", "def way_for(x):\n    return x\n"),
    ("tests/unit/test_rope.py", "def test_where_it_stands():\n    pass\n"),
    ("tests/unit/test_rope.py", 'text = """\nhanded\non to the next."""\n'),
    ("book/euler.md", "# A page\n\nThe token stands at 3.\n"),
    ("book/euler.md", "# A page\n\nSee `way_for`.\n"),
    ("book/euler.md", "```{code-cell} python\nways = 3\n```\n"),
    ("book/euler.md", "```{code-cell} python\n---\ntags: [x]\n---\nways = 3\n```\n"),
    ("README.md", "It is written once, with an annex.\n"),
    ("book/_static/figures.js", "// what is told\n"),
    ("book/_static/figures.js", "const held = 1;\n"),
    ("book/_static/figures.js", 'const x = "p.told";\n'),
    ("book/_static/figures.js", "const fourWays = [];\n"),
    ("book/_static/book.css", ".moving .told { margin: 0; }\n"),
]


@pytest.mark.parametrize(("path", "text"), PLANTED)
def test_a_planted_word_is_found(path, text):
    (found,) = refused(path, text)
    assert found.startswith(f"{path}:")


def test_a_finding_has_its_line():
    (found,) = refused("noxfile.py", "x = 1\n\n\nroom = 2\n")
    assert found == f"noxfile.py:4: 'room'; better: {WORDS['room']}"


ORDINARY = [
    ("rope_xp/rope.py", '"""By the way, the standard is still understood. Centre the text."""\n'),
    ("rope_xp/axes/_directions.py", "def golden_directions(*, still=0.0):\n    return still\n"),
    ("tests/unit/test_grids.py", '"""Patches and their neighbours, in two ways."""\n'),
    ("tests/unit/test_grids.py", "def test_axes_go_the_other_way():\n    pass\n"),
    ("book/euler.md", "Two ways to say it: the neighbours of a token tell nothing.\n"),
    ("book/euler.md", "```{code-cell} python\n---\ncaption: one way\n---\nx = 3\n```\n"),
    ("book/_static/figures.js", 'const x = "one way"; // by the way\n'),
]


@pytest.mark.parametrize(("path", "text"), ORDINARY)
def test_ordinary_english_is_left_alone(path, text):
    assert list(refused(path, text)) == []
