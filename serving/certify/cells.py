"""Cells of a table: typed values, checked, and as text.

Comes in: values and the types that a column allows. Goes out: text for CSV and back. Called by
`serving.certify.table`.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from typing import Any

Kinds = tuple[type, ...]

_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    types.NoneType: "nothing",
}
_TRUTH = {"true": True, "false": False}


def kinds_of(record: type, localns: Mapping[str, Any]) -> dict[str, Kinds]:
    """The types that each annotated field of a class allows; a literal counts as text."""
    found: dict[str, Kinds] = {}
    for name, hint in typing.get_type_hints(record, localns=dict(localns)).items():
        if typing.get_origin(hint) is typing.Literal:
            found[name] = (str,)
        else:
            found[name] = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return found


def fits(value: Any, kinds: Kinds) -> bool:
    """Whether a value is of one of the kinds; a whole number may stand for any number, NaN for none."""
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and float in kinds:
        return True
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


def words(kinds: Kinds) -> str:
    """The kinds in words, for messages."""
    return " or ".join(_NAMES[kind] for kind in kinds)


def to_text(value: Any) -> str:
    """A value as text that `from_text` turns back into an equal value; nothing is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def from_text(text: str, kinds: Kinds) -> Any:
    """Read a cell.

    Raises:
        ValueError: The text is of none of the kinds.
    """
    if not text and types.NoneType in kinds:
        return None
    if bool in kinds:
        if text not in _TRUTH:
            raise ValueError(f"{text!r} is neither true nor false")
        return _TRUTH[text]
    if int in kinds:
        return int(text)
    return float(text) if float in kinds else text
