"""JSON text into Python values, with the grammar and the error texts of the parser in TensorFlow Serving.

Comes in: the body of a request. Goes out: lists, `JsonObject`, str, int, float, bool and None, or a `StatusError`.
Called by `serving.server.rest.requests` and `serving.server.rest.examples` for bodies that no fast path takes.

That parser (RapidJSON) differs from Python's: the first of two equal keys counts, an integer beyond 64 bits is a
decimal, a decimal beyond the range of a double is an error, `Inf` is a number, and bytes that are no UTF-8 pass.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from serving.server.status import Code, StatusError

_SHOWN = 1000
_CONTEXT = 262_144
_LONG_NUMBER = re.compile(r"\d{19}|\d[eE]\+?\d{3}")
_STRING_OR_SPECIAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?Inf(?:inity)?|-?NaN', re.DOTALL)
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_TEXTS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


class JsonObject(dict[str, Any]):
    """An object; of equal keys the first one counts.

    Attributes:
        members: Number of members, equal keys counted apart.
    """

    members: int

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> JsonObject:
        """Make an object from its members in the order of the text."""
        result = cls(pairs)
        result.members = len(pairs)
        if len(result) != len(pairs):
            result.update(reversed(pairs))
        return result


def parse(body: bytes) -> JsonObject:
    """Parse a request body.

    Args:
        body: JSON text of one object.

    Returns:
        The object. Bytes that are no UTF-8 stand as lone surrogates, as `errors="surrogateescape"` makes them.

    Raises:
        StatusError: INVALID_ARGUMENT, with the text of TensorFlow Serving and the offset of the fault.
    """
    if not body:
        raise _invalid("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        value = _loads(text)
        if _SURROGATE.search(text):
            _refuse_lone_surrogates(value)
    except json.JSONDecodeError as error:
        raise _parse_error(error) from error
    except RecursionError as error:
        raise _invalid("JSON Parse error: The document is nested too deeply.") from error
    if not isinstance(value, JsonObject):
        raise format_error(value, "Is not object")
    return value


def _loads(text: str) -> Any:
    try:
        return _decode(text)
    except json.JSONDecodeError as error:
        # Python's parser knows Infinity and -Infinity, but not the short forms.
        if not text.startswith(("Inf", "-Inf", "-NaN"), error.pos):
            raise
    return _decode(_STRING_OR_SPECIAL.sub(_long_form, text))


def _long_form(found: re.Match[str]) -> str:
    token = found[0]
    if token.startswith('"'):
        return token
    return "NaN" if token.endswith("NaN") else "-Infinity" if token[0] == "-" else "Infinity"


def _decode(text: str) -> Any:
    if not _LONG_NUMBER.search(text):
        return json.loads(text, object_pairs_hook=JsonObject.of)

    def to_float(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise json.JSONDecodeError("Number too big to be stored in double.", text, text.find(digits))
        return number

    def to_int(digits: str) -> int | float:
        if len(digits) > 20:
            return to_float(digits)
        number = int(digits)
        return number if -(2**63) <= number < 2**64 else to_float(digits)

    return json.loads(text, object_pairs_hook=JsonObject.of, parse_float=to_float, parse_int=to_int)


def _refuse_lone_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, JsonObject):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise _invalid("JSON Parse error: The surrogate pair in string is invalid.") from error


def _parse_error(error: json.JSONDecodeError) -> StatusError:
    if not error.doc.strip(" \t\r\n"):
        text, position = "The document is empty.", len(error.doc)
    elif error.msg == "Expecting ',' delimiter":
        closing = "]" if _inside_list(error.doc, error.pos) else "}"
        text = f"Missing a comma or '{closing}' after an {'array element' if closing == ']' else 'object member'}."
        position = error.pos
    elif error.msg == "Unterminated string starting at":
        text, position = _TEXTS[error.msg], len(error.doc)
    else:
        text, position = _TEXTS.get(error.msg, error.msg), error.pos + _later(error)
    offset = len(error.doc[:position].encode("utf-8", "surrogateescape"))
    return _invalid(f"JSON Parse error: {text} at offset: {offset}")


def _later(error: json.JSONDecodeError) -> int:
    """How much further RapidJSON reads than Python before it complains."""
    if error.msg == "Invalid \\uXXXX escape":
        return -1
    if error.msg != "Expecting value":
        return 0
    # It reads a misspelled word up to the letter that is wrong.
    return next(
        (
            length
            for word in ("true", "false", "null")
            for length in range(len(word), 0, -1)
            if error.doc.startswith(word[:length], error.pos)
        ),
        0,
    )


def _inside_list(text: str, position: int) -> bool:
    # Only the tail of a long text is looked at: an error message is not worth seconds of work.
    open_brackets: list[str] = []
    for token in _STRING_OR_BRACKET.finditer(text, max(0, position - _CONTEXT), position):
        if token[0] in "[{":
            open_brackets.append(token[0])
        elif token[0] in "]}" and open_brackets:
            open_brackets.pop()
    return bool(open_brackets) and open_brackets[-1] == "["


def format_error(value: Any, complaint: str) -> StatusError:
    """INVALID_ARGUMENT that shows the value, as TensorFlow Serving words most of its complaints about JSON."""
    return _invalid(f"JSON Value: {show(value)} {complaint}")


def show(value: Any) -> str:
    """A value as pretty-printed JSON, cut off after 1,000 characters."""
    text = ""
    for piece in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        text += piece
        if len(text) > _SHOWN:
            return text[:_SHOWN] + "..."
    return text


def kind_of(value: Any) -> str:
    """Name of the JSON type, as messages show it."""
    if isinstance(value, bool):
        return str(value)
    if value is None:
        return "Null"
    names: dict[type, str] = {str: "String", list: "Array", JsonObject: "Object"}
    return names.get(type(value), "Number")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
