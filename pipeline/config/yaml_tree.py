"""YAML text -> plain values and the line on which each of them stands.

The grammar is ruamel.yaml's (YAML 1.2); the values follow the core schema of YAML 1.2.2, section 10.3.2:
`off` and `yes` are text, `2e-3` is a number, there are no dates. What has no place in a config (anchors,
tags, keys that stand twice, several documents) is a problem with a line. `loading` and `overrides` call this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the root."""

MAX_DEPTH = 20
"""Levels of nesting; a config needs five, and the scanner's time grows with the square of the depth."""

_NULL = re.compile(r"(null|Null|NULL|~)?")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 40  # Python refuses to read integers of thousands of digits; such text stays text


@dataclass(frozen=True)
class Problem:
    """Something wrong in the text: the line (from 1; 0 if unknown) and a sentence without file and line."""

    line: int
    text: str


@dataclass
class Tree:
    """What a YAML text holds.

    Attributes:
        value: plain dicts, lists, strings, numbers, booleans and None.
        lines: the line (from 1) of every value below the root; for an entry of a mapping, its key's.
        problems: what the text must not hold.
        empty: whether the text holds no document at all.
        broken: whether the problems leave `value` incomplete, so that nothing can be said about the rest.
    """

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    empty: bool = True
    broken: bool = False


def scalar(text: str) -> Any:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if len(text) <= _LONGEST_NUMBER:
        if _INT.fullmatch(text):
            return int(text)
        if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    if _INF.fullmatch(text) or _NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def parse(text: str) -> Tree:
    """Read a YAML text.

    Args:
        text: one document.

    Returns:
        The tree; a text that is no YAML gives a tree of one problem.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
            if builder.stopped:
                break
    except MarkedYAMLError as error:
        unclosed = re.search("end of stream|stream end", error.problem or "")  # then it starts where the mistake is
        mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
        builder.give_up(mark.line + 1 if mark else 0, _sentence(error))
    except Exception as error:  # the parser gives up on odd text in many ways, and each is the text's fault
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        builder.give_up(line, f"this is not YAML: {reason}; write the file as plain UTF-8 text")
    return builder.tree


def _sentence(error: Any) -> str:
    what = " ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in what:
        return "a tab stands where YAML expects spaces; indent with spaces"
    return f"this is not YAML: {what}; check indentation, quotes and colons"


class _Open:
    """A mapping or list whose end has not been seen."""

    def __init__(self, value: Any, path: Path) -> None:
        self.value = value
        self.path = path
        self.key: str | None = None
        self.waits_for_key = isinstance(value, dict)
        self.first_seen: dict[str, int] = {}


class _Builder:
    """Builds a tree from the parser's events without recursion, so that no text exhausts the stack."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.stopped = False
        self._stack: list[_Open] = []
        self._documents = 0

    def problem(self, line: int, text: str) -> None:
        """Note something that the text must not hold."""
        self.tree.problems.append(Problem(line, text))

    def give_up(self, line: int, text: str) -> None:
        """Note a problem behind which the text cannot be read."""
        self.problem(line, text)
        self.tree.broken = self.stopped = True

    def take(self, event: Any) -> None:
        """Digest the next event."""
        kind = type(event).__name__
        line = event.start_mark.line + 1
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                self.give_up(line, "a second document starts here ('---'); a config is one document")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._stack.pop()
        elif kind in ("ScalarEvent", "AliasEvent", "MappingStartEvent", "SequenceStartEvent"):
            self.tree.empty = False
            self._refuse_references(event, kind, line)
            if self._stack and self._stack[-1].waits_for_key:
                self._take_key(event, kind, line)
            else:
                self._take_value(event, kind, line)

    def _refuse_references(self, event: Any, kind: str, line: int) -> None:
        before = len(self.tree.problems)
        if kind == "AliasEvent":
            self.problem(line, f"alias '*{event.anchor}' is not supported in a config; write the value out")
        elif event.anchor:
            self.problem(line, f"anchor '&{event.anchor}' is not supported in a config; write the value out")
        if getattr(event, "tag", None):
            self.problem(line, f"tag {event.tag!r} is not supported in a config; remove it (quote what is text)")
        self.tree.broken = self.tree.broken or len(self.tree.problems) > before

    def _take_key(self, event: Any, kind: str, line: int) -> None:
        top = self._stack[-1]
        if kind not in ("ScalarEvent", "AliasEvent"):
            self.give_up(
                line,
                "a key must be a word, not a list or a mapping; quote text that starts with '{' or '['",
            )
            return
        key = event.value if kind == "ScalarEvent" else f"*{event.anchor}"
        if key in top.first_seen:
            where = f"section {dotted(top.path)!r}" if top.path else "the file"
            self.problem(line, f"key {key!r} stands twice in {where}, first on line {top.first_seen[key]}; keep one")
        top.first_seen.setdefault(key, line)
        top.key = key
        top.waits_for_key = False
        path: Path = (*top.path, key)
        self.tree.lines[path] = line

    def _take_value(self, event: Any, kind: str, line: int) -> None:
        value: Any = None
        if kind == "ScalarEvent":
            value = scalar(event.value) if event.style is None and event.implicit[0] else event.value
        elif kind == "MappingStartEvent":
            value = {}
        elif kind == "SequenceStartEvent":
            value = []
        path = self._place(value, line)
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._stack.append(_Open(value, path))
            if len(self._stack) > MAX_DEPTH:
                self.give_up(line, f"more than {MAX_DEPTH} levels of nesting; a config needs five at most")

    def _place(self, value: Any, line: int) -> Path:
        if not self._stack:
            self.tree.value = value
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            path: Path = (*top.path, len(top.value))
            top.value.append(value)
            self.tree.lines[path] = line
            return path
        assert top.key is not None
        path = (*top.path, top.key)
        top.value[top.key] = value
        top.waits_for_key = True
        return path


def dotted(path: Path) -> str:
    """Return a path as it is written after `--set`, for example `evaluate.gates.accuracy.min`."""
    return ".".join(str(part) for part in path)
