"""Errors of the typed config -> sentences that name the value, what was expected and how to fix it.

`loading` puts the file and the line before each sentence.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import ValidationError

from pipeline.config.fields import expected, field_at, names_at, type_at
from pipeline.config.yaml_tree import Path, dotted

_LONGEST_VALUE = 60


def sentences(error: ValidationError) -> list[tuple[Path, str]]:
    """Return where each error stands and what to say about it.

    Args:
        error: what validating a whole config raised.

    Returns:
        Pairs of a path in the YAML tree and a sentence.
    """
    found: list[tuple[Path, str]] = []
    for detail in error.errors(include_url=False):
        path: Path = tuple(part for part in detail["loc"] if part != "[key]")
        if detail["type"] == "value_error":
            found += [_pointed(path, line) for line in str(detail["ctx"]["error"]).splitlines()]
        else:
            found.append((path, _sentence(detail["type"], path, detail)))
    return found


def _pointed(section: Path, line: str) -> tuple[Path, str]:
    """Return where a section's own check points: to the field whose path starts its sentence, if one does."""
    path = section
    for part in line.partition(" ")[0].rstrip(":").split("."):
        if type_at((*path, part)) is None:
            break
        path = (*path, part)
    if path != section:
        return path, f"{dotted(section)}.{line}" if section else line
    return path, f"{dotted(path)}: {line}" if path else line


def _sentence(kind: str, path: Path, detail: Any) -> str:
    if kind == "extra_forbidden" or "[key]" in detail["loc"]:
        return unknown_key(path)
    if kind == "missing" and isinstance(path[-1], str):
        return f"{_missing(path)}; it has no default: {_help(path)}"
    if kind == "missing":
        path = path[:-1]  # a list of fixed length that is too short
    value = detail["input"]
    text = f"{dotted(path)}: received {shown(value)}; expected {expected(path)}"
    if kind == "literal_error" and isinstance(value, str):
        near = _nearest(value, expected(path).removeprefix("one of ").split(", "))
        return f"{text}; did you mean {near!r}?" if near else text
    if kind == "string_type" and isinstance(value, (int, float)):
        return f"{text} (put it into quotes)"
    if kind == "string_unicode":
        return f"{text} without lone surrogates (characters \\ud800 to \\udfff)"
    if kind in ("string_too_short", "finite_number"):
        return f"{text} that is {'not empty' if kind == 'string_too_short' else 'finite'}"
    return text


def unknown_key(path: Path) -> str:
    """Return the sentence for a key that its section does not know."""
    section, key = path[:-1], str(path[-1])
    valid = names_at(section)
    where = f"in section {dotted(section)!r}" if section else "at the top level"
    near = _nearest(key, valid)
    hint = f"; did you mean {near!r}?" if near else "."
    return f"unknown key {key!r} {where}{hint} Valid keys: {', '.join(valid)}"


def shown(value: Any) -> str:
    """Return a value as it would be written in YAML, cut where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def printable(text: str) -> str:
    """Return a message without characters that a terminal would obey or refuse."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode("ascii") for char in text
    )


def _missing(path: Path) -> str:
    section = path[:-1]
    what = f"section {path[-1]!r}" if len(path) == 1 and names_at(path) else f"key {path[-1]!r}"
    return f"{what} is missing in section {dotted(section)!r}" if section else f"{what} is missing"


def _help(path: Path) -> str:
    field = field_at(path)
    return (field.description if field else None) or expected(path)


def _nearest(name: str, valid: list[str]) -> str | None:
    near = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.5)
    return near[0] if near else None
