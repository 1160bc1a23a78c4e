"""Cron expressions: is one well-formed, and has its time come?

`pycron` decides whether a time matches. It takes anything for an expression, and what it does not understand never
matches, so a schedule is checked when the config is read.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))
_PART = re.compile(r"(?P<first>\*|\d{1,2})(?:-(?P<last>\d{1,2}))?(?:/(?P<step>\d{1,2}))?")
_LONGEST = timedelta(days=366)


def cron_problem(text: str) -> str | None:
    """Return what is wrong with a cron expression, or None.

    Args:
        text: minute, hour, day of month, month and day of week (0: Sunday); each `*`, `*/n`, a number, `a-b`, `a-b/n`
            or a list of them.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"received {text!r}, {len(fields)} fields; expected minute, hour, day of month, month, day of week"
    for field, (name, lowest, highest) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, lowest, highest):
                return (
                    f"received {text!r}: {part!r} is no {name}; expected *, */n, a number from {lowest} to {highest}, "
                    "a-b, a-b/n or a list of them"
                )
    return None


def _fits(part: str, lowest: int, highest: int) -> bool:
    match = _PART.fullmatch(part)
    if match is None:
        return False
    first, last, step = match["first"], match["last"], match["step"]
    if step is not None and (int(step) == 0 or (first != "*" and last is None)):
        return False
    if first == "*":
        return last is None
    return lowest <= int(first) <= int(last or first) <= highest


def is_due(text: str, since: float, now: float) -> bool:
    """Return whether a schedule's time came after `since`, up to now.

    Args:
        text: a well-formed cron expression, in UTC.
        since: Unix time of the last look; times up to it don't count.
        now: Unix time.
    """
    import pycron

    end = datetime.fromtimestamp(now, timezone.utc).replace(second=0, microsecond=0)
    begin = datetime.fromtimestamp(since, timezone.utc).replace(second=0, microsecond=0) + timedelta(minutes=1)
    begin = max(begin, end - _LONGEST)
    return begin <= end and bool(pycron.has_been(" ".join(text.split()), begin, end))
