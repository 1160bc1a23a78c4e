"""Patterns of folders with `{SPAN}` and `{VERSION}` in them: from the text to the folders that fit.

Called by `transform.sources.spans`. Both placeholders stand for a decimal number, with or without leading zeros;
`{SPAN:4}` stands for exactly four digits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from transform.errors import DataError
from transform.settings import span_pattern_problem
from transform.sources.refs import printable

_PLACEHOLDER = re.compile(r"\{(SPAN|VERSION)(?::([1-9]\d?))?\}")
_MOST_DIGITS = 18
"""Numbers fit into 64 bits, as the metadata store wants them."""

Folder = tuple[int, "int | None", str]


@dataclass(frozen=True)
class SpanPattern:
    """A pattern, taken apart.

    Attributes:
        base: the folder before the first placeholder.
        parts: the names below it; a string stands for itself.
    """

    PLACEHOLDER: ClassVar[str] = "{SPAN"

    base: str
    parts: tuple[str | re.Pattern[str], ...]

    @classmethod
    def parse(cls, source: str) -> SpanPattern:
        """Take a pattern apart.

        Raises:
            DataError: it is none.
        """
        if problem := span_pattern_problem(source):
            raise DataError(problem)
        names = os.path.normpath(source).split(os.sep)
        first = next(index for index, name in enumerate(names) if _PLACEHOLDER.search(name))
        base = os.sep.join(names[:first]) or (os.sep if source.startswith(os.sep) else os.curdir)
        return cls(os.path.realpath(base), tuple(_part(name) for name in names[first:]))

    def folders(self) -> Iterator[Folder]:
        """Yield number, version (None where the pattern has none) and path of every folder that fits.

        Raises:
            DataError: the folder before the first placeholder cannot be read.
        """
        yield from self._below(self.base, 0, None, None)

    def _below(self, folder: str, depth: int, span: int | None, version: int | None) -> Iterator[Folder]:
        if depth == len(self.parts):
            assert span is not None, "a pattern without {SPAN} is refused when it is parsed"
            yield span, version, folder
            return
        part = self.parts[depth]
        if isinstance(part, str):
            below = os.path.join(folder, part)
            if os.path.isdir(below):
                yield from self._below(below, depth + 1, span, version)
            return
        for name in _subfolders(folder):
            if match := part.fullmatch(name):
                numbers = {key: int(value) for key, value in match.groupdict().items()}
                yield from self._below(
                    os.path.join(folder, name), depth + 1, numbers.get("SPAN", span), numbers.get("VERSION", version)
                )

    def nothing_fits(self) -> str:
        """Return the sentence for a pattern to which no folder fits."""
        wanted = os.path.join(self.base, *(part if isinstance(part, str) else _as_text(part) for part in self.parts))
        try:
            there = _subfolders(self.base)
        except DataError as error:
            return f"data.source: {error}"
        names = ", ".join(printable(name) for name in there[:5]) + (" and more" if there[5:] else "")
        return (
            f"data.source: no folder fits the pattern {wanted!r} (a placeholder stands for digits only); in "
            f"{self.base!r} are {names or 'no folders'}."
        )


def _part(name: str) -> str | re.Pattern[str]:
    """Return a name of the pattern as it is, or as an expression with the groups SPAN and VERSION."""
    if not _PLACEHOLDER.search(name):
        return name
    text, position = "", 0
    for match in _PLACEHOLDER.finditer(name):
        digits = match[2] or f"1,{_MOST_DIGITS}"
        text += f"{re.escape(name[position : match.start()])}(?P<{match[1]}>[0-9]{{{digits}}})"
        position = match.end()
    return re.compile(text + re.escape(name[position:]))


def _as_text(part: re.Pattern[str]) -> str:
    """Return an expression of `_part` as a person would write it."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", part.pattern))


def _subfolders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise DataError(f"the folder {printable(folder)!r} cannot be read: {error.strerror}.") from error
