"""Configs that are objects of a class of one's own, and values of other libraries: a result, or a sentence."""

import collections
import datetime as dt
import enum
import types
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from config_cases import GEMMA3_NEW, LLAMA, LLAMA31

from rope_xp import RoPE, configs


class Raising(Mapping):
    """A mapping that cannot be read."""

    def __getitem__(self, key):
        raise self.error

    def __iter__(self):
        return iter(["factor"])

    def __len__(self):
        return 1

    def __init__(self, error):
        self.error = error


class Endless(Raising):
    """A mapping that has another key, always."""

    def __getitem__(self, key):
        return 1.0

    def __iter__(self):
        n = 0
        while True:
            yield f"key{n}"
            n += 1


class Changing(dict):
    """A dictionary that says something else each time."""

    def get(self, key, default=None):
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked

    __getitem__ = get


class Odd:
    """A value whose methods fail."""

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None
    __repr__ = __bool__ = __len__ = __float__ = __index__ = __eq__


class Broken:
    """An object whose attributes fail."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Liar(int):
    """An integer that says that it is another one."""

    def __int__(self):
        return -5

    __index__ = __float__ = __int__


class Config:
    def __init__(self, made):
        self.made = made

    def to_dict(self):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    "config",
    [
        Raising(KeyError("x")),
        Raising(RuntimeError("x")),
        {**LLAMA, "rope_scaling": Raising(RuntimeError("x"))},
        {**LLAMA, "other": [Raising(ValueError("x"))]},
        {**LLAMA, "other": Endless(None)},
        {**LLAMA, "layer_types": range(10**15)},
        Config(RuntimeError("x")),
        Config(ValueError("x")),
        Broken(),
        types.SimpleNamespace(fields=None, tensors=None),
    ],
    ids=lambda config: type(config).__name__,
)
@pytest.mark.parametrize("read", [configs.layer_ropes, configs.explain])
def test_errors_of_the_object(read, config):
    with pytest.raises(
        ValueError, match=r"^`config` must (be a mapping that can be read|have at most)"
    ):
        read(config)


@pytest.mark.parametrize(
    "made", [None, [LLAMA], Config(LLAMA)], ids=lambda made: type(made).__name__
)
def test_to_dict_that_returns_no_mapping(made):
    with pytest.raises(
        TypeError, match=f"`config` must be a mapping.*, got {type(made).__name__}$"
    ):
        RoPE.from_config(Config(made))


@pytest.mark.parametrize(
    "made",
    [
        collections.UserDict(LLAMA31),
        collections.defaultdict(dict, LLAMA31),
        types.MappingProxyType(LLAMA31),
        Config(LLAMA31),
        Changing(LLAMA31),
        {**LLAMA31, "rope_scaling": Changing(LLAMA31["rope_scaling"])},
        {**LLAMA31, "id2label": {0: "a", 1: "b"}, "dtype": np.dtype("f4"), "other": Odd()},
        {**LLAMA31, "hidden_size": np.int32(4096), "rope_theta": np.float32(5e5)},
        {**LLAMA31, "rope_theta": Fraction(500000)},
        {**LLAMA31, "num_attention_heads": Liar(32)},
    ],
    ids=lambda made: type(made).__name__,
)
def test_other_classes_with_the_same_values(made):
    assert configs.layer_ropes(made) == configs.layer_ropes(LLAMA31)


def test_arrays_are_lists():
    types_ = GEMMA3_NEW["layer_types"]
    flags = [1, 0] * 6
    config = {"model_type": "smollm3", "head_dim": 64, "num_hidden_layers": 12}
    expected = configs.layer_ropes({**config, "no_rope_layers": flags})
    assert configs.layer_ropes({**config, "no_rope_layers": np.asarray(flags)}) == expected
    assert configs.layer_ropes({**GEMMA3_NEW, "layer_types": tuple(types_)}) == configs.layer_ropes(
        GEMMA3_NEW
    )


def test_enumerations_are_their_values():
    name = enum.StrEnum("Name", {"LLAMA": "llama"}).LLAMA
    assert RoPE.from_config({**LLAMA31, "model_type": name}) == RoPE.from_config(LLAMA31)


VALUES = (
    Odd(), np.array([[1]]), np.array([1.0, 2.0]), np.array(["a", None]), np.datetime64("2020"), np.bool_(True),
    np.timedelta64(5, "s"), Decimal(2), 2j, b"ab", bytearray(b"\2"), {1, 2}, range(4), object(), int, np,
    dt.date(2020, 1, 1), 10**99999, Fraction(10**99999), ["\ud800"], "\n", [[1]], {"a": Odd()}, True, "8",
)  # fmt: skip
KEYS = (
    "model_type", "head_dim", "hidden_size", "num_hidden_layers", "rope_theta", "rope_scaling", "rope_parameters",
    "layer_types", "partial_rotary_factor", "max_position_embeddings", "text_config", "rotary_dim", "dim", "model",
    "_class_name", "general.architecture", "rope_freq_base", "qk_rope_head_dim",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("layout", [None, "half"])
def test_values_that_no_config_has(key, layout):
    """A result where nothing reads the key, else one line that has its name."""
    for model_type in ("llama", "brand_new", "gemma3_text"):
        for value in VALUES:
            try:
                configs.layer_ropes(
                    {**LLAMA31, "model_type": model_type, key: value}, layout=layout
                )
            except ValueError as error:
                sentence = str(error)
                assert sentence.isprintable()
                assert sentence.startswith("unknown ") or "`" in sentence
                assert len(sentence) < 450


@pytest.mark.parametrize("name", [["full_attention"], None, 7, {}])
def test_names_of_layers_that_are_no_text(name):
    with pytest.raises(
        ValueError, match=r"^unknown layer type .* in layer_types; known: attention"
    ):
        configs.layer_ropes({**LLAMA, "num_hidden_layers": 1, "layer_types": [name]})


def test_text_is_a_list_of_nothing():
    lists = {
        "short_factor": b"\1" * 64,
        "long_factor": [1.0] * 64,
        "original_max_position_embeddings": 8,
    }
    with pytest.raises(
        ValueError, match="`short_factor` in rope_parameters must be a list of numbers"
    ):
        RoPE.from_config(
            {**LLAMA, "rope_parameters": {"rope_type": "longrope", "factor": 2.0, **lists}}
        )


def test_keys_of_rope_parameters_that_are_no_text():
    config = {**LLAMA31, "rope_parameters": {**LLAMA31["rope_scaling"], 7: 8}}
    with pytest.raises(ValueError, match=r"'7'|`7`"):
        RoPE.from_config(config)


class Whole(int):
    """A user's own."""


@pytest.mark.parametrize("kind", [int, Whole])
def test_numbers_that_python_does_not_print(kind):
    with pytest.raises(
        ValueError, match=r"^`hidden_size` must be at most 2\*\*31, got 2\*\*16609 or more"
    ):
        RoPE.from_config({**LLAMA, "hidden_size": kind(10**5000)})
