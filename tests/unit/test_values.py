"""Schedules, axis schemes and RoPE are values: equal by value, hashable, frozen, picklable."""

import copy
import dataclasses
import inspect
import pickle
import sys
import types
import typing

import pytest
from values import (
    NEUTRAL,
    QUERY_SCALES,
    RANGE_SCHEMES,
    SCALED,
    SCHEMES,
    unexported_classes,
    unlisted,
)

import rope_xp
from rope_xp import RoPE, axes, positions, scaling

ROPES = [
    RoPE(64, layout="half"),
    RoPE(64, layout="interleaved", base=500000.0),
    RoPE(64, layout="half", rotary_dim=16, rotary_start=8, precision="float32"),
    RoPE(64, layout="half", rotary_start=32),
    *(RoPE(32, layout="half", scaling=schedule) for schedule in (*NEUTRAL, *SCALED)),
    *(RoPE(12, layout="interleaved", axes=scheme) for scheme in SCHEMES),
    RoPE(12, layout="half", axes=axes.Axial(3), scaling=scaling.YaRN(4.0, 64)),
    *(RoPE(12, layout="half", query_scale=scale) for scale in QUERY_SCALES),
    *(RoPE(12, layout="half", ranges=scheme) for scheme in RANGE_SCHEMES),
]
PACKAGES = [scaling, axes]
NAMES = {name: getattr(each, name) for each in (*PACKAGES, positions) for name in each.__all__}
NAMES["RoPE"] = RoPE


def copied_with_fields(value):
    return dataclasses.replace(value)


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def evaluated(value):
    return eval(repr(value), NAMES)


TWINS = [copy.copy, copy.deepcopy, copied_with_fields, pickled, evaluated]


VALUES = [*NEUTRAL, *SCALED, *SCHEMES, *QUERY_SCALES, *RANGE_SCHEMES]


@pytest.mark.parametrize("value", [*VALUES, *ROPES], ids=repr)
def test_values(value):
    """The four of them, for every class; and printed as the call that makes it."""
    twins = [
        *(again(value) for again in TWINS),
        *(pickle.loads(pickle.dumps(value, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]
    for twin in twins:
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)
        assert vars(twin) == vars(value)
    assert value != object()
    for field in dataclasses.fields(value):
        assert not field.name.startswith("_")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    assert [*dataclasses.asdict(value)] == [field.name for field in dataclasses.fields(value)]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_pickles_name_the_public_path(value):
    """So that a file that is moved inside of its package leaves them readable."""
    text = pickle.dumps(value, 0).decode()
    assert f"{type(value).__module__}\n{type(value).__name__}\n" in text
    assert "._" not in text


@pytest.mark.parametrize(
    ("package", "values", "where"),
    [(scaling, NEUTRAL, "NEUTRAL"), (axes, SCHEMES, "SCHEMES")],
    ids=["scaling", "axes"],
)
def test_every_class_is_listed(package, values, where):
    """What nobody lists here, no test of the laws and values sees."""
    assert unlisted(package, values, where) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_every_class_is_exported(package):
    assert list(unexported_classes(package)) == []


def test_a_class_that_nobody_lists_or_exports_is_found():
    class Truncated(scaling.Linear):
        """A planted one."""

    planted = types.SimpleNamespace(__all__=["Linear", "Truncated"], Truncated=Truncated)
    planted.Linear = scaling.Linear
    assert unlisted(planted, NEUTRAL, "NEUTRAL") == ["add Truncated to NEUTRAL in tests/values.py"]

    file = sys.modules["rope_xp.scaling._llama3"]
    Truncated.__module__, file.Truncated = file.__name__, Truncated
    try:
        assert list(unexported_classes(scaling)) == [
            "export Truncated of rope_xp.scaling._llama3 from rope_xp.scaling"
        ]
    finally:
        del file.Truncated


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_exports_name_their_package(package):
    """Annotations still resolve, and functions and methods still have their source."""
    for name in package.__all__:
        value = getattr(package, name)
        assert value.__module__ == package.__name__
        if dataclasses.is_dataclass(value):
            assert {f.name for f in dataclasses.fields(value)} <= {*typing.get_type_hints(value)}
        function = value.__call__ if isinstance(value, type) else value
        if value is not scaling.Frequencies:
            assert inspect.getsource(function).lstrip().startswith("def ")


@pytest.mark.parametrize("again", TWINS, ids=lambda f: f.__name__)
def test_a_rotary_dim_that_was_not_given_follows_head_dim(again):
    """`dataclasses.replace` derives it anew, and keeps one that was given, also after a copy."""
    kept = {"base": 500.0, "scaling": scaling.Linear(2.0), "axes": axes.Axial(2)}
    whole, rest, given, partial = (
        again(RoPE(64, layout="half", **kept, **options))
        for options in (
            {},
            {"rotary_start": 16},
            {"rotary_dim": 64},
            {"rotary_dim": 32, "rotary_start": 16},
        )
    )
    assert [type(r.rotary_dim) for r in (whole, rest, given, partial)] == [int] * 4
    found = [dataclasses.replace(r, head_dim=128) for r in (whole, rest, given, partial)]
    assert [r.rotary_dim for r in found] == [128, 112, 64, 32]
    assert [dataclasses.replace(r, head_dim=64).rotary_dim for r in found] == [64, 48, 64, 32]
    assert {(r.base, r.scaling, r.axes) for r in found} == {tuple(kept.values())}
    assert dataclasses.replace(rest, rotary_start=32).rotary_dim == 32
    assert dataclasses.replace(whole, rotary_dim=32) == RoPE(
        64, layout="half", rotary_dim=32, **kept
    )
    assert dataclasses.replace(partial, rotary_dim=None).rotary_dim == 48
    assert whole == given
    assert hash(whole) == hash(given)
    if hasattr(copy, "replace"):
        assert copy.replace(whole, head_dim=128).rotary_dim == 128


def test_the_fields_of_an_object_are_those_that_were_given():
    names = [field.name for field in dataclasses.fields(RoPE)]
    assert names == [*inspect.signature(RoPE).parameters]
    given = RoPE(64, layout="half", rotary_dim=64)
    assert [*dataclasses.asdict(given)] == names
    assert dataclasses.asdict(given)["rotary_dim"] == 64
    assert repr(given) == "RoPE(64, layout='half', rotary_dim=64)"
    whole = RoPE(64, layout="half")
    assert dataclasses.is_dataclass(whole)
    assert [*dataclasses.asdict(whole)] == [name for name in names if name != "rotary_dim"]
    assert len(dataclasses.astuple(whole)) == len(names) - 1
    assert repr(whole) == "RoPE(64, layout='half')"
    for rope in (given, whole, RoPE(64, layout="half", rotary_dim=32, base=5e5)):
        again = RoPE(**dataclasses.asdict(rope))
        assert again == rope
        assert vars(again) == vars(rope)
    scaled = RoPE(8, layout="half", scaling=scaling.Linear(2.0), axes=axes.Sections((1, 3)))
    as_dict = dataclasses.asdict(scaled)
    assert as_dict["scaling"] == {"factor": 2.0}
    made = {"scaling": scaling.Linear, "axes": axes.Sections}
    assert RoPE(**as_dict | {n: f(**as_dict[n]) for n, f in made.items()}) == scaled


def test_rope_compares_all_that_matters():
    a, b = RoPE(64, layout="half", base=10000), RoPE(64, layout="half", rotary_dim=64)
    assert a == b
    assert hash(a) == hash(b)
    assert a == RoPE(64, layout="half", scaling=scaling.Default())
    others = [
        RoPE(64, layout="interleaved"),
        RoPE(64, layout="half", base=500000.0),  # the bug of caches keyed on sizes only
        RoPE(64, layout="half", rotary_dim=32),
        RoPE(64, layout="half", rotary_dim=32, rotary_start=32),
        RoPE(64, layout="half", scaling=scaling.Linear(2.0)),
        RoPE(64, layout="half", axes=axes.Axial(1)),
        RoPE(64, layout="half", precision="float32"),
        RoPE(64, layout="half", query_scale=scaling.LogScale(2048)),
    ]
    assert len({a, *others}) == 1 + len(others)
    assert dataclasses.replace(a, base=5.0) == RoPE(64, layout="half", base=5.0)
    assert dataclasses.replace(a, base=5.0).frequencies().inv_freq[1] < 1
    assert rope_xp.RoPE is RoPE
