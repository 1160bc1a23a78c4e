"""How a report's values are written: numbers, intervals, times, paths and names; and the templates themselves.

Comes in: plain values. Goes out: a page as text. Called by `pipeline.report.page` and `pipeline.report.comparison`.
Text of the data (class names, file names) is escaped by the template engine and set apart from the text around it, so
that neither markup nor the direction of its script leaves its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent
_LONGEST_NAME = 48
"""Characters of a class name; the whole name stands in the tooltip."""

INTEGERS = frozenset({"example_count"})
"""Metrics that count."""


def page(template: str, **content: Any) -> str:
    """Return a page.

    Args:
        template: name of its file.
        content: what it shows.
    """
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return str(_environment().get_template(template).render(style=style, **content))


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "metric": metric,
        "words": lambda name: name.replace("_", " "),
        "percent": percent,
        "range": percent_range,
        "points": lambda share: "" if share is None else signed(100 * share, 2),
        "signed": signed,
        "kilobytes": lambda size: "" if size is None else f"{size / 1000:,.1f}",
        "thousands": lambda count: f"{count:,}",
        "duration": duration,
        "moment": moment,
        "short": short,
    }
    return environment


def figure(value: Any, places: int = 4) -> str:
    """Return a number as a table shows it; what doesn't exist is empty."""
    if value is None:
        return ""
    return f"{value:.{places}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def metric(value: float | None, name: str) -> str:
    """Return a metric of a name: counts as whole numbers, the others with four places."""
    return "" if value is None else f"{value:,.0f}" if name in INTEGERS else f"{value:.4f}"


def percent(share: float | None, places: int = 2) -> str:
    """Return a share of 1 in percent."""
    return "" if share is None else f"{share:.{places}%}"


def percent_range(ends: tuple[float, float] | None, places: int = 1) -> str:
    """Return an interval of shares in percent."""
    return "" if ends is None else f"{100 * ends[0]:.{places}f} to {100 * ends[1]:.{places}f} %"


def signed(value: float | None, places: int = 4) -> str:
    """Return a change; with the sign for minus that is as wide as a plus."""
    return "" if value is None else f"{value:+.{places}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Return how long something took, as people say it: `0.4 s`, `95 s` as `1 min 35 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(text: str) -> str:
    """Return a time of the record, ISO 8601, as people write it; text that is no time stays as it is."""
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    if when.tzinfo is not None:
        when = when.astimezone(timezone.utc)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def short(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return the beginning of a name that is too long for a table."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def within(root: Path | None, text: str) -> str:
    """Return a path as seen from a folder, so that the page doesn't tell where on which machine the folder is.

    Args:
        root: the folder, or None.
        text: the path; one that lies elsewhere stays as it is.
    """
    if root is None or not text or not os.path.isabs(text):
        return text
    relative = os.path.relpath(os.path.realpath(text), os.path.realpath(root))
    return text if relative.startswith("..") else relative


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
