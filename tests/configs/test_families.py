"""`families.json` and the registry of rope_types: every line and every entry."""

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import rope_xp
from rope_xp import RoPE
from rope_xp._config_reader import schedules, vocabulary
from rope_xp._config_reader.schema import Family
from rope_xp._config_reader.table import known_family, tables

TABLE, PUBLISHED = tables()
LINES = {**TABLE.lines, **PUBLISHED.lines}


@pytest.mark.parametrize("model_type", LINES)
def test_every_line_is_a_family_with_its_source(model_type):
    family = known_family(model_type)
    assert isinstance(family, Family)
    assert family.is_listed
    # A file of transformers, or one of a repository.
    source = r"\w+/modeling_\w+" if model_type in TABLE.lines else r"[\w.-]+/[\w.-]+/[\w./-]+"
    assert re.fullmatch(source + r"\.py(:\d+)?", family.source)


def test_every_model_type_is_in_one_place():
    assert len(TABLE.lines) >= 244
    assert set(TABLE.vision_part_of.values()) <= set(TABLE.lines)
    assert not set(TABLE.vision_part_of) & set(TABLE.lines)
    left_out = [name for names in TABLE.left_out.values() for name in names]
    assert len(left_out) == len(set(left_out))
    assert not set(left_out) & set(TABLE.lines)
    assert set(TABLE.text_part_of.values()) <= set(TABLE.lines)


def test_what_is_published_is_not_in_transformers():
    """But as a variant, which a key of the config tells apart."""
    left_out = {name for names in TABLE.left_out.values() for name in names}
    composites = {*TABLE.text_part_of, *TABLE.vision_part_of}
    own = {*PUBLISHED.lines, *PUBLISHED.same_as}
    own |= {name for names in PUBLISHED.left_out.values() for name in names}
    assert sorted(own & {*TABLE.lines, *left_out, *composites}) == []
    assert not {*PUBLISHED.text_part_of} & {*TABLE.text_part_of, *LINES}
    parts = [PUBLISHED.text_part_of, PUBLISHED.vision_part_of, PUBLISHED.same_as]
    assert {name for names in parts for name in names.values()} <= {*LINES}
    variants = {one.name for rules in PUBLISHED.variants.values() for one in rules}
    assert variants <= {*LINES, *(name for names in PUBLISHED.left_out.values() for name in names)}
    assert {name for name in PUBLISHED.lines if " " in name} <= variants


def test_a_config_makes_the_one_family_that_it_needs():
    known_family.cache_clear()
    RoPE.from_config({"model_type": "qwen3"})
    assert known_family.cache_info().currsize == 1


def test_every_key_is_used_by_a_family_and_read_by_the_code():
    """A key that nothing reads says something that does not hold."""
    known = {one.name for one in fields(Family)}
    assert known == {key for line in LINES.values() for key in line}
    files = Path(rope_xp.__file__).parent.rglob("*.py")
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert not [name for name in known if not re.search(rf"\.{name}\b", code)]


@pytest.mark.parametrize(
    ("field", "names", "unused"),
    [
        ("layout", vocabulary.Layout, set()),
        ("rotary", vocabulary.Rotary, {"generic"}),
        ("layers", vocabulary.LayerRule, {"every_layer"}),
        ("layer_types_from", vocabulary.LayerTypesFrom, set()),
        ("direction", vocabulary.Direction, {"positive"}),
    ],
)
def test_every_name_is_used_by_a_family(field, names, unused):
    """But for the defaults, which the lines do not repeat."""
    used = {line[field] for line in LINES.values() if field in line}
    assert used == {*names} - unused


@pytest.mark.parametrize("part", ["", "gguf", "carriers"])
def test_the_reader_has_a_map_in_the_order_of_its_imports(part):
    package = importlib.import_module(".".join(filter(None, ["rope_xp._config_reader", part])))
    folder = Path(package.__file__).parent
    listed = re.findall(r"^`(\w+)`", package.__doc__, re.MULTILINE)
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(modules | {path.parent.name for path in folder.glob("*/*.py")})
    for i, name in enumerate(listed):
        paths = [folder / f"{name}.py", *sorted((folder / name).glob("*.py"))]
        text = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.exists())
        dotted = re.escape(package.__name__)
        imported = re.findall(rf"^ *from {dotted}\.(\w+)[\w.]* import", text, re.MULTILINE)
        for names in re.findall(rf"^ *from {dotted} import (.+)$", text, re.MULTILINE):
            imported += names.split(", ")
        assert {*imported} <= {*listed[: i + (folder / name).is_dir()]}, name


ROPE_TYPES = schedules.ROPE_TYPES


@pytest.mark.parametrize("name", ROPE_TYPES)
def test_a_rope_type_has_the_keys_of_its_schedule(name):
    """A misspelt key in the registry would refuse what models say, and drop what it lets through."""
    entry = ROPE_TYPES[name]
    parameters = {} if entry.schedule is None else inspect.signature(entry.schedule).parameters
    assert {*entry.required, *entry.optional} <= {*parameters}
    assert {*entry.nullable} <= {*entry.required}
