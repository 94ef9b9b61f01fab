"""Configs to begin with, and what can be done to one: `read_seeds`, `mutate`."""

import copy
import datetime as dt
import decimal
import importlib
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "configs")]

from rope_xp._config_reader import meanings, schedules, unread, vocabulary
from rope_xp._config_reader.gguf.metadata import ROPE_KEYS, TENSORS
from rope_xp._config_reader.table import known_family, tables

# -- configs to begin with -------------------------------------------------------------------------

# A mapping with one of these is a config.
MARKS = {
    "model_type", "dim", "_class_name", "_component_", "general.architecture", "n_embd", "text_config",
}  # fmt: skip
SIZES = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "max_position_embeddings": 131072,
}


def read_seeds():
    """All configs of the tests, and one of each family, composite and architecture."""
    found = []
    for name in (
        "config_cases",
        *sorted(one.stem for one in (TESTS / "configs").glob("test_*.py")),
    ):
        if name not in {"test_schema", "test_families"}:
            for value in [*vars(importlib.import_module(name)).values()]:
                found += _configs_in(value)
    lines = [name for table in tables() for name in table.lines]
    found += [_of_family(name) for name in lines]
    for table in tables():
        found += [
            {"model_type": name, "text_config": _of_family(text)}
            for name, text in table.text_part_of.items()
        ]
        found += [
            {"model_type": name, "vision_config": _of_family(tower), "text_config": SIZES}
            for name, tower in table.vision_part_of.items()
        ]
    unique = {repr(one): one for one in found}
    return [unique[key] for key in sorted(unique)]


def _configs_in(value, depth=0):
    """Those in what a module of tests has."""
    if depth > 4 or type(value) not in {dict, list, tuple}:
        return
    if isinstance(value, dict) and MARKS & {*map(str, value)}:
        yield value
    else:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _configs_in(one, depth + 1)


def _of_family(name):
    family = known_family(name)
    made = {"model_type": name.partition(" ")[0], **SIZES, **family.defaults}
    made |= {
        key: made[new] for key, new in family.aliases.items() if new in made and "." not in key
    }
    if family.rope_parameters is not None:
        made["rope_parameters"] = copy.deepcopy(dict(family.rope_parameters))
    if family.layer_cycle is not None:
        made["layer_types"] = [family.layer_cycle[i % len(family.layer_cycle)] for i in range(4)]
    if family.enabled_if is not None and family.enabled_if.equals is not None:
        made[family.enabled_if.key] = family.enabled_if.equals
    return made


# -- values ----------------------------------------------------------------------------------------


PLANTED = "planted"


class Lying(dict):
    """A mapping whose answers do not fit together."""

    def __getitem__(self, key):
        return -1

    def get(self, key, default=None):
        return 3.5

    def __len__(self):
        return 10**9


class Raising(Mapping):
    """A mapping that cannot be read."""

    def __init__(self, error=KeyError):
        self.error = error

    def __getitem__(self, key):
        raise self.error(PLANTED)

    def __iter__(self):
        return iter(["factor", "rope_type"])

    def __len__(self):
        return 2


class Endless(Mapping):
    """A mapping that always has another key."""

    def __getitem__(self, key):
        return 1.0

    def __iter__(self):
        n = 0
        while True:
            yield f"key{n}"
            n += 1

    def __len__(self):
        return 2


class Odd:
    """No number, whose methods raise."""

    def __eq__(self, other):
        raise RuntimeError(PLANTED)

    __hash__ = None
    __float__ = __int__ = __index__ = __bool__ = __repr__ = __str__ = __len__ = __eq__


class Index(int):
    """An int that says that it is another."""

    def __int__(self):
        return -5

    __index__ = __float__ = __int__


def nested(depth):
    made = 1
    for _ in range(depth):
        made = {"a": [made]}
    return made


def looped():
    made = {"rope_type": "linear", "factor": 2.0}
    made["self"] = [made]
    return made


#: What a file can have for a value.
JSON_VALUES = (
    None, True, False, 0, -1, 1, 2, 3, 7, 64, 96, 127, 128, 1.0, 0.5, 0.1, 1.5, -0.0, 2.0**-40, 1e300, 5e-324,
    10**9, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 1e6, math.nan, math.inf, -math.inf, "", "x", "8",
    "1e4", "yarn", "llama", "full_attention", "\ud800", "a\nb\r\u2028c", "\x1b[31m", "\0", "x" * 5000, "{", "None",
    [], [1], [1.0] * 4, [0, 1, 0, 1], [None], ["full_attention"] * 4, ["sliding_attention", 1], [[1.0, 2.0]],
    [1] * 5000, {}, {"a": 1}, {"": None}, {"rope_type": "linear", "factor": 2.0}, {"full_attention": None},
    {"rope_theta": 1e4}, [True, False, True, False], [math.nan] * 4, [{}], "/etc/passwd", "config.json",
    ["/dev/zero"], "!!python/object:os.system", 10**400,
)  # fmt: skip
#: What else a mapping in memory can have; made for each call.
OTHER_VALUES = (
    lambda: np.float32(2), lambda: np.float16(0.1), lambda: np.int64(4), lambda: np.uint8(200),
    lambda: np.bool_(False), lambda: np.array(3), lambda: np.array([1.0, 2.0]), lambda: np.array([[1]]),
    lambda: np.float64("nan"), lambda: np.str_("yarn"), lambda: np.datetime64("2020"),
    lambda: np.timedelta64(5, "s"), lambda: np.array(["a", None], dtype=object), lambda: Fraction(1, 3),
    lambda: decimal.Decimal(2), lambda: 2j, lambda: b"yarn", lambda: bytearray(b"\2\2"), lambda: (1, 2),
    lambda: {1, 2}, lambda: range(4), lambda: range(10**15), lambda: iter([1]), lambda: object(),
    lambda: dt.date(2020, 1, 1), lambda: int, lambda: np, lambda: math.sin, Lying, Raising,
    lambda: Raising(RuntimeError), lambda: Raising(MemoryError), Endless, Odd, lambda: Index(8), looped,
    lambda: nested(20), lambda: nested(100), lambda: nested(3000), lambda: 10**99999, lambda: "y" * 10**6,
    lambda: [0.5] * 10**5, lambda: {i: i for i in range(3)}, lambda: {"rope_type": Odd()},
    lambda: vocabulary.Layout.HALF, lambda: [Odd()], lambda: np.longdouble(3), lambda: [looped()],
)  # fmt: skip

ROPE_TYPES = (*schedules.ROPE_TYPES, "su", "mrope", "ntk", "axial", "Yarn", "")
PARAMETERS = sorted(
    {key for one in schedules.ROPE_TYPES.values() for key in (*one.required, *one.optional)}
    | schedules.COMMON_KEYS
    | {"alpha", "mrope_section", "mrope_interleaved", "finetuned"}
)
#: Keys that something reads, or that sound like it.
KEYS = sorted(
    {
        *vocabulary.BASE_KEYS,
        *vocabulary.SIZE_KEYS,
        *meanings.MEANINGS,
        *unread.CORRECT,
        *PARAMETERS,
        *{
            key
            for table in tables()
            for line in table.lines.values()
            for key in line.get("aliases", {})
        },
        *(value.value for value in vocabulary.LayerTypesFrom),
        *("text_config", "vision_config", "sliding_window", "rope_xyz", "rope_thetha", "auto_map"),
        *("attention_dropout", "dual_chunk_attention_config", "rope_parameter", "max_seq_len"),
    }
)


class Mutator:
    """What is drawn from a generator."""

    def __init__(self, rng, seeds, *, of_file=False):
        self.rng, self.seeds, self.of_file = rng, seeds, of_file

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, values):
        return values[int(self.rng.integers(len(values)))]

    def value(self):
        """Anything."""
        if self.of_file or self.chance(0.6):
            return copy.deepcopy(self.pick(JSON_VALUES))
        return self.pick(OTHER_VALUES)()

    def number(self):
        return self.pick((1, 2, 4, 8.0, 1.5, 1e4, 5e5, 4096, 32, 0.5, 1.0, 64, 0.25, 8192, 2048))

    def parameters(self):
        """Rope parameters of any rope_type, most of them complete."""
        name = self.pick(ROPE_TYPES)
        entry = schedules.ROPE_TYPES.get(name, schedules.RopeType(None))
        keys = [key for key in entry.required if self.chance(0.93)]
        keys += [key for key in entry.optional if self.chance(0.3)]
        keys += [self.pick(PARAMETERS)] if self.chance(0.2) else []
        made = {key: self.number() for key in keys}
        n = self.pick((16, 32, 48, 64))
        made |= {
            key: [self.pick((1.0, 1.5, 4.0, 32.0))] * n
            for key in ("short_factor", "long_factor")
            if key in made
        }
        for key, value in {"truncate": True, "mrope_section": [16, 24, 24]}.items():
            if key in made:
                made[key] = value
        made["type" if self.chance(0.2) else "rope_type"] = name
        return made | ({"rope_theta": self.pick((1e4, 5e5))} if self.chance(0.3) else {})


# -- mutations: each returns a config --------------------------------------------------------------


def places(config, path=()):
    """The paths of all values in mappings and short lists."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        yield (*path, key)
        if type(value) in {dict, list} and len(value) <= 64 and len(path) < 6:
            yield from places(value, (*path, key))


def parent_of(config, path):
    for key in path[:-1]:
        config = config[key]
    return config


def _at(m, config):
    """A place: most often a key that says how positions are encoded."""
    found = [*places(config)]
    strings = [p for p in found if isinstance(p[-1], str) and unread.ROPE_LIKE.search(p[-1])]
    return m.pick(strings) if strings and m.chance(0.4) else m.pick(found)


def delete(m, config):
    path = _at(m, config)
    del parent_of(config, path)[path[-1]]
    return config


def replace(m, config):
    path = _at(m, config)
    parent_of(config, path)[path[-1]] = m.value()
    return config


def rescale(m, config):
    path = _at(m, config)
    inside = parent_of(config, path)
    value = inside[path[-1]]
    if type(value) in {int, float}:
        factor = m.pick((0, 0.5, 2, 3, 10, -1, 1 + 1e-9, 1e-3, 1e6, 1e300))
        made = value * factor
        whole = math.isfinite(made) and made == int(made) and type(value) is int
        inside[path[-1]] = int(made) if whole else made
    elif type(value) is bool:
        inside[path[-1]] = not value
    elif isinstance(value, str):
        inside[path[-1]] = m.pick(
            (value.upper(), value + "s", value[:-1], value[::-1], f" {value}")
        )
    return config


def retype(m, config):
    path = _at(m, config)
    inside = parent_of(config, path)
    value = inside[path[-1]]
    kinds = [str, lambda v: [v], bool, lambda v: {path[-1]: v}, repr]
    if type(value) in {int, float} and abs(value) < 2**60:
        kinds += [float, lambda v: np.asarray(v)[()], lambda v: v + 0.5, np.float32] * 2
    if isinstance(value, list):
        kinds += [tuple, np.asarray, lambda v: {str(i): e for i, e in enumerate(v)}]
    if m.of_file:
        kinds = [kind for kind in kinds if kind not in {np.asarray, np.float32, tuple}][:5]
    try:
        inside[path[-1]] = m.pick(kinds)(value)
    except ValueError:  # a ragged list
        inside[path[-1]] = m.value()
    return config


def rename(m, config):
    path = _at(m, config)
    inside = parent_of(config, path)
    key = path[-1]
    if isinstance(key, str):
        i = int(m.rng.integers(len(key) + 1))
        new = m.pick(
            (key[:i] + key[i + 1 :], key[:i] + key[i : i + 2][::-1] + key[i + 2 :], key.upper(), f"rope_{key}",
             f"{key}_", key.replace("_", ""), key.replace("_", "."), m.pick(KEYS))
        )  # fmt: skip
        inside[new] = inside.pop(key)
    return config


def duplicate(m, config):
    """A value under a second name, the same or another."""
    path = _at(m, config)
    value = copy.deepcopy(parent_of(config, path)[path[-1]])
    mappings = [(), *(p for p in places(config) if isinstance(parent_of(config, (*p, 0)), dict))]
    inside = parent_of(config, (*m.pick(mappings), 0))
    key = path[-1] if isinstance(path[-1], str) and m.chance(0.5) else m.pick(KEYS)
    inside[key] = value if m.chance(0.7) else m.value()
    return config


def add(m, config):
    config[m.pick(KEYS)] = m.number() if m.chance(0.5) else m.value()
    return config


def add_to_parameters(m, config):
    key = m.pick(("rope_scaling", "rope_parameters"))
    inside = config.get(key)
    inside = inside if type(inside) is dict else {}
    config[key] = {
        **inside,
        m.pick((*PARAMETERS, *KEYS)): m.number() if m.chance(0.6) else m.value(),
    }
    return config


def new_schedule(m, config):
    config[m.pick(("rope_scaling", "rope_parameters", "rope_parameters"))] = m.parameters()
    return config


def per_layer_type(m, config):
    names = [
        "full_attention",
        "sliding_attention",
        "main",
        "compress",
        "linear_attention",
        "chunked_attention",
    ]
    config["rope_parameters"] = {
        name: m.pick((None, {})) if m.chance(0.1) else m.parameters()
        for name in names
        if m.chance(0.5)
    }
    return config


def layers(m, config):
    n = config.get("num_hidden_layers")
    n = n if type(n) is int and 0 < n < 100 else 4
    names = ["full_attention", "sliding_attention", *sorted(vocabulary.LAYER_TYPES)]
    names = names[: m.pick((1, 2, 2, 2, len(names)))]
    config["layer_types"] = [m.pick(names) for _ in range(n + m.pick((0, 0, 0, 1, -1)))]
    return config


def many_layers(m, config):
    key = m.pick(
        ("num_hidden_layers", "n_layers", "head_dim", "hidden_size", "num_attention_heads")
    )
    config[key] = m.pick((0, 1, 10_000, 10_001, 2**16, 2**16 + 2, 10**9, 2 * 10**9, 2**31, 2**62))
    return config


def nest(m, config):
    key = m.pick(
        (
            "text_config",
            "llm_config",
            "thinker_config",
            "vision_config",
            "decoder",
            "model",
            "language_model",
        )
    )
    made = {key: config}
    if m.chance(0.6):
        made["model_type"] = m.pick(
            ("qwen2_vl", "llava", "gemma3", "qwen2_5_omni", config.get("model_type"))
        )
    return made


def splice(m, config):
    """Keys of another config."""
    other = copy.deepcopy(m.pick(m.seeds))
    kept = {key: value for key, value in other.items() if m.chance(0.4)}
    return {**config, **kept} if m.chance(0.7) else {**kept, **config}


def move(m, config):
    """A key of the rope parameters to the top level, or the other way."""
    for key in ("rope_parameters", "rope_scaling"):
        inside = config.get(key)
        if type(inside) is dict and inside:
            name = m.pick([*inside])
            return {
                **config,
                name: inside[name],
                key: {k: v for k, v in inside.items() if k != name},
            }
    name = m.pick([*config])
    rest = {key: value for key, value in config.items() if key != name}
    return {**rest, "rope_parameters": {name: config[name]}}


def respell(m, config):
    """rope_scaling as rope_parameters, or the other way, or both."""
    for old, new in (("rope_scaling", "rope_parameters"), ("rope_parameters", "rope_scaling")):
        if config.get(old) is not None:
            config[new] = copy.deepcopy(config[old])
            if m.chance(0.6):
                del config[old]
            return config
    return config


def shape_list(m, config):
    lists = [p for p in places(config) if isinstance(parent_of(config, (*p, 0)), list)]
    if not lists:
        return layers(m, config)
    inside = parent_of(config, (*m.pick(lists), 0))
    match int(m.rng.integers(5)):
        case 0:
            inside.append(m.value())
        case 1:
            inside[:] = inside[:-1]
        case 2:
            inside.reverse()
        case 3:
            inside[:] = inside * 2
        case _:
            inside[:] = [m.value(), *inside[1:]]
    return config


def other_family(m, config):
    key = next(
        (key for key in ("model_type", "_class_name", "general.architecture") if key in config),
        "model_type",
    )
    names = [one[key] for one in m.seeds if key in one]
    config[key] = m.pick(names) if names and m.chance(0.8) else m.value()
    return config


def gguf_key(m, config):
    prefix = config.get("general.architecture", "llama")
    key = m.pick(
        (*(f"{prefix}.rope.{key}" for key in ROPE_KEYS), *TENSORS, f"{prefix}.attention.key_length")
    )
    config[key] = (
        m.value()
        if m.chance(0.5)
        else m.pick((m.number(), [8.0] * 32, "yarn", "longrope", None, 64))
    )
    return config


MUTATIONS = (
    delete, delete, replace, replace, replace, rescale, rescale, retype, rename, duplicate, add, add_to_parameters,
    new_schedule, new_schedule, per_layer_type, layers, many_layers, nest, splice, splice, move, respell, shape_list,
    other_family,
)  # fmt: skip


def mutate(m, config):
    """A mutated copy, and the names of what was done; a half has one mutation only."""
    config, done = copy.deepcopy(config), []
    for _ in range(1 if m.chance(0.5) else int(m.rng.integers(2, 5))):
        pool = (*MUTATIONS, *[gguf_key] * 6) if "general.architecture" in config else MUTATIONS
        one = m.pick(pool)
        try:
            config = one(m, config)
        except (
            AttributeError,
            IndexError,
            KeyError,
            OverflowError,
            TypeError,
            ValueError,
            RecursionError,
            RuntimeError,
        ):
            continue  # of values that an earlier mutation has put in
        done.append(one.__name__)
        if not config or any(not isinstance(key, str) for key in config):
            break
    return config, done
