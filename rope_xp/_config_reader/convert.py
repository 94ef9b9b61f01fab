"""JSON → the value that an annotation describes; what does not fit is refused by the name of its key.

For the annotations that `rope_xp._config_reader.schema` has: plain types, enums of strings, tuples,
mappings, unions, dataclasses, and `Annotated` with `Known` or `Tagged`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from rope_xp._validation import quote


@dataclass(frozen=True, eq=False)  # hashed with the annotation that it is in
class Known:
    """In `Annotated`: the names that a string may be."""

    names: Collection[str]


@dataclass(frozen=True, eq=False)  # hashed with the annotation that it is in
class Tagged:
    """In `Annotated`: the dataclass of a mapping is named by the value of one of its keys."""

    key: str
    classes: Mapping[Any, type]


SCALARS: Mapping[Any, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: ((int, float), "a finite number"),
    str: (str, "a string"),
    NoneType: (NoneType, "null"),
}


def convert(annotation: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as ``annotation``; ``where`` is its key, empty for the whole.

    Raises
    ------
    ValueError
        If it does not fit: the sentence says which key, what it must be and what it is.
    TypeError
        If there is no rule for ``annotation``.
    """
    if get_origin(annotation) is Annotated:
        base, extra = get_args(annotation)
        if isinstance(extra, Tagged):
            return _from_tagged(extra, value, where)
        return _require_known(convert(base, value, where), extra.names, where)
    if not _fits(annotation, value):
        msg = f"`{where}` must be {_description(annotation)}, got {quote(value)}"
        raise ValueError(msg)
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin in {Union, UnionType}:
        fitting = next(each for each in args if _fits(each, value))
        return convert(fitting, value, where)
    if origin is Any:
        return value
    if origin is tuple:
        return _from_list(args, value, where)
    if origin is Mapping and args == (str, str) and all(type(v) is str for v in value.values()):
        return dict(value)  # as with lists
    if origin is Mapping:
        return {
            # JSON has no keys but strings.
            key if args[0] is str else convert(args[0], key, f"key of {where}"): convert(
                args[1], each, f"{where}[{quote(key)}]"
            )
            for key, each in value.items()
        }
    if is_dataclass(origin):
        return _from_mapping(origin, value, where)
    if issubclass(origin, Enum):
        return origin(_require_known(value, [member.value for member in origin], where))
    return float(value) if origin is float else value


def _fits(annotation: Any, value: Any) -> bool:
    """Whether ``value`` is of the kind that JSON has for ``annotation``, whatever is inside of it."""
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return _fits(args[0], value)
    if origin in {Union, UnionType}:
        return any(_fits(each, value) for each in args)
    if origin is Any:
        return True
    if origin is tuple:
        return isinstance(value, list)
    if origin is Mapping or is_dataclass(origin):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return isinstance(value, str)
    if origin not in SCALARS:
        msg = f"no rule for the annotation {quote(annotation)}"
        raise TypeError(msg)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return origin is bool and isinstance(value, bool)
    return isinstance(value, SCALARS[origin][0])


def _description(annotation: Any) -> str:
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return _description(args[0])
    if origin in {Union, UnionType}:
        return " or ".join(dict.fromkeys(map(_description, args)))
    if origin is tuple:
        return "a list"
    if origin in SCALARS:
        return SCALARS[origin][1]
    return "a string" if issubclass(origin, Enum) else "a mapping"


def _require_known(value: Any, names: Collection[str], where: str) -> Any:
    if value not in names:
        msg = f"unknown {where} {quote(value)}; known: {', '.join(sorted(names))}"
        raise ValueError(msg)
    return value


def _from_list(args: tuple[Any, ...], value: list[Any], where: str) -> tuple[Any, ...]:
    """``tuple[X, ...]`` or a tuple of a fixed length."""
    if args == (str, Ellipsis) and all(type(item) is str for item in value):
        return tuple(value)  # lists of hundreds of names
    each = [args[0]] * len(value) if args[-1] is Ellipsis else [*args]
    if len(each) != len(value):
        msg = f"`{where}` must have {len(each)} entries, got {len(value)}"
        raise ValueError(msg)
    pairs = zip(each, value, strict=True)
    return tuple(convert(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(pairs))


def _from_tagged(tagged: Tagged, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        msg = f"`{where}` must be a mapping, got {quote(value)}"
        raise ValueError(msg)
    tag = value.get(tagged.key)
    _require_known(tag, [str(name) for name in tagged.classes], f"{where}.{tagged.key}")
    rest = {key: each for key, each in value.items() if key != tagged.key}
    return convert(tagged.classes[tag], rest, where)


def _from_mapping(made: Any, value: Mapping[str, Any], where: str) -> Any:
    """A dataclass, from a mapping of its fields."""
    annotations, prefix, inside = (
        _annotations(made),
        where and f"{where}.",
        where and f" in {where}",
    )
    for key in value:
        if key not in annotations:
            msg = f"unknown key {quote(key)}{inside}; known: {', '.join(annotations)}"
            raise ValueError(msg)
    for one in fields(made):
        if one.default is MISSING and one.default_factory is MISSING and one.name not in value:
            msg = f"`{one.name}` is required{inside}"
            raise ValueError(msg)
    given = {key: convert(annotations[key], each, prefix + key) for key, each in value.items()}
    try:
        return made(**given)
    except (TypeError, ValueError) as error:
        msg = f"{error}{inside}"
        raise ValueError(msg) from None


@functools.cache  # a constant of the class
def _annotations(made: Any) -> dict[str, Any]:
    hints = get_type_hints(made, include_extras=True)
    return {one.name: hints[one.name] for one in fields(made) if one.init}
