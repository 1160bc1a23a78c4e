"""What the config's types say about a path: its section, its default, its range in words.

`messages` words its sentences with it, `overrides` finds defaults by it, `show` turns values into plain ones.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.config import Config
from pipeline.config.yaml_tree import Path

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def without_none(annotation: Any) -> Any:
    """Return the type behind `X | None`."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def section_type(annotation: Any) -> type[BaseModel] | None:
    """Return the model behind a type, or None if it is no section."""
    bare = without_none(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def type_at(path: Path) -> Any:
    """Return the type that the config declares for a path, or None where it declares nothing."""
    current: Any = Config
    for part in path:
        bare = without_none(current)
        model = section_type(bare)
        origin, args = typing.get_origin(bare), typing.get_args(bare)
        if model is not None:
            if part not in model.model_fields:
                return None
            current = model.model_fields[str(part)].annotation
        elif origin is dict:
            current = args[1]
        elif origin in (list, tuple) and isinstance(part, int):
            repeated = origin is list or (len(args) == 2 and args[1] is Ellipsis)
            if not repeated and part >= len(args):
                return None
            current = args[0] if repeated else args[part]
        else:
            return None
    return current


def field_at(path: Path) -> FieldInfo | None:
    """Return the field at a path, or None if the path is no field of a section."""
    if not path:
        return None
    model = section_type(type_at(path[:-1]))
    return model.model_fields.get(str(path[-1])) if model else None


def names_at(path: Path) -> list[str]:
    """Return the keys that may stand in the section or mapping at a path."""
    annotation = without_none(type_at(path))
    model = section_type(annotation)
    if model is not None:
        return list(model.model_fields)
    if typing.get_origin(annotation) is dict:
        key = typing.get_args(annotation)[0]
        return list(typing.get_args(key)) if typing.get_origin(key) is Literal else []
    return []


def default_at(path: Path) -> Any:
    """Return the default of the field at a path as plain values, or None if it has none."""
    field = field_at(path)
    if field is None or field.is_required():
        return None
    return plain(field.get_default(call_default_factory=True))


def plain(value: Any) -> Any:
    """Return a config value as YAML and JSON know it: models as dicts, tuples as lists."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def expected(path: Path) -> str:
    """Return in words which values a path takes, for example `a number above 0 and at most 10`."""
    annotation = type_at(path)
    bare = without_none(annotation)
    words = _type_in_words(bare)
    field = field_at(path)
    if field is not None and bare in (int, float):
        words = " ".join(part for part in (words, _range_in_words(field)) if part)
    return f"{words}, or null" if bare is not annotation else words


def _type_in_words(bare: Any) -> str:
    origin, args = typing.get_origin(bare), typing.get_args(bare)
    if bare in _WORDS:
        return _WORDS[bare]
    if origin is Literal:
        return f"one of {', '.join(_word(choice) for choice in args)}" if len(args) > 1 else _word(args[0])
    if origin in (list, tuple) and args:
        if origin is tuple and Ellipsis not in args:
            return f"a list of {len(args)} values, each {_type_in_words(args[0])}"
        return f"a list, each item {_type_in_words(args[0])}"
    if origin is dict or section_type(bare) is not None:
        return f"a section (lines of 'key: value') with keys from {', '.join(_keys_of(bare))}"
    return "another value"


def _word(choice: Any) -> str:
    return choice if isinstance(choice, str) else str(choice)


def _keys_of(bare: Any) -> list[str]:
    model = section_type(bare)
    if model is not None:
        return list(model.model_fields)
    return [str(choice) for choice in typing.get_args(typing.get_args(bare)[0])]


def _range_in_words(field: FieldInfo) -> str:
    bounds = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("gt", "ge", "lt", "le")
        if getattr(part, name, None) is not None
    }
    if "ge" in bounds and "le" in bounds:
        return f"from {_number(bounds['ge'])} to {_number(bounds['le'])}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    parts = [f"{words[name]} {_number(bounds[name])}" for name in words if name in bounds]
    text = " and ".join(parts)
    return f"of {text}" if text.startswith("at ") else text


def _number(bound: Any) -> str:
    if isinstance(bound, int):
        return str(bound)
    return f"{bound:g}"
