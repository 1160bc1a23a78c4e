"""JSON into frozen dataclasses, strictly: the files of a bundle may come from anyone.

Comes in: JSON text and a dataclass whose fields have types. Goes out: an instance, or a `BundleError` that names
the place. Called by `serving.edge.card` and `serving.edge.samples`. The standard library is enough, so that a
bundle can be checked anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from serving.errors import BundleError

_Kind = TypeVar("_Kind")


def decode(kind: type[_Kind], text: str) -> _Kind:
    """Read an instance of a dataclass.

    Args:
        kind: A dataclass of texts, numbers, booleans, other dataclasses, `X | None`, `Literal`s, tuples and
            mappings of these. Fields with a default may be missing.
        text: JSON text of one object.

    Returns:
        The instance.

    Raises:
        BundleError: The text is no JSON, a key is unknown, missing or stands twice, or a value has a wrong type.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"not valid JSON: {error}.") from error
    return _value(kind, data, "")


def encode(value: Any) -> str:
    """JSON text that `decode` reads back to an equal instance."""
    return json.dumps(dataclasses.asdict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BundleError("a key stands twice in one object.")
    return result


def _refuse(name: str) -> Any:
    raise BundleError(f"{name} is no JSON number.")


def _value(kind: Any, data: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _object(kind, data, place)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, data, place)
    if origin is typing.Literal:
        if data not in arguments or not isinstance(data, str):
            raise _wrong(place, data, " or ".join(map(repr, arguments)))
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise _wrong(place, data, "a list")
        return tuple(_value(arguments[0], item, f"{place}[{index}]") for index, item in enumerate(data))
    if origin is Mapping:
        if not isinstance(data, dict):
            raise _wrong(place, data, "an object")
        return {key: _value(arguments[1], item, f"{place}[{key!r}]") for key, item in data.items()}
    return _scalar(kind, data, place)


def _one_of(kinds: tuple[Any, ...], data: Any, place: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _value(kind, data, place)
        except BundleError:
            continue
    return _value(others[-1], data, place)


def _scalar(kind: Any, data: Any, place: str) -> Any:
    # bool is an int to isinstance, and no size is True.
    if kind is float and type(data) in (int, float):
        try:
            number = float(data)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    elif type(data) is kind:
        return data
    raise _wrong(
        place, data, {str: "a text", int: "a whole number", float: "a finite number", bool: "a truth value"}[kind]
    )


def _object(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(place, data, "an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected {', '.join(fields)}."
            raise BundleError(f"{_at(place)}unknown key {key!r}{hint}")
    nothing = dataclasses.MISSING
    for name, field in fields.items():
        if name not in data and field.default is nothing and field.default_factory is nothing:
            raise BundleError(f"{_at(place)}key {name!r} is missing.")
    hints = typing.get_type_hints(kind)
    inner = f"{place}." if place else ""
    values = {key: _value(hints[key], value, f"{inner}{key}") for key, value in data.items()}
    try:
        return kind(**values)
    except BundleError as error:
        raise BundleError(f"{_at(place)}{error}") from error


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _wrong(place: str, data: Any, expected: str) -> BundleError:
    received = repr(data)
    return BundleError(f"{_at(place)}received {received[:60]}{'…' if len(received) > 60 else ''}, expected {expected}.")
