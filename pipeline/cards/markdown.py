"""A model card as Markdown, for people.

Comes in: what `pipeline.cards.content` made. Goes out: a page. Called by the pushers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def to_markdown(card: Mapping[str, Any]) -> str:
    """Return a model card as Markdown.

    Args:
        card: in the fields of the Model Card Toolkit.
    """
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    details, parameters = card["model_details"], card["model_parameters"]
    considerations = card["considerations"]
    yield from (f"# {_inline(details['name'])}", "", _inline(details["overview"]), "")
    yield from ("## Intended use", "")
    yield from (f"- {_inline(case['description'])}" for case in considerations["use_cases"])
    if considerations.get("limitations"):
        yield from ("", "## Limits", "")
        yield from (f"- {_inline(limit['description'])}" for limit in considerations["limitations"])
    yield from ("", "## Input and output", "", parameters["input_format"], "", parameters["output_format"], "")
    yield from (f"Network: {_inline(parameters['model_architecture'])}.", "", "## Data", "")
    yield from (f"- {entry['name']}: {_inline(entry['description'])}" for entry in parameters["data"])
    yield from ("", "## Quality", "", "| metric | where | value | 95 % interval |", "|---|---|---|---|")
    yield from map(_row, card["quantitative_analysis"]["performance_metrics"])
    yield from ("", "## Origin", "", f"- {details['version']['name']}")
    yield from (f"- {_inline(entry['reference'])}" for entry in details["references"])
    yield from (f"- by {_inline(owner['name'])}" for owner in details.get("owners", ()))
    license_ = details["licenses"][0]
    yield f"- license: {_inline(license_.get('identifier') or license_['custom_text'])}"


def _row(metric: Mapping[str, Any]) -> str:
    interval = metric.get("confidence_interval")
    bounds = f"{interval['lower_bound']} to {interval['upper_bound']}" if interval else ""
    return f"| {metric['type'].replace('_', ' ')} | {_inline(metric['slice'])} | {metric['value']} | {bounds} |"


def _inline(text: str) -> str:
    """Return text on one line that no Markdown reader takes for markup or for the end of a cell."""
    plain = " ".join(text.split())
    for sign in "\\`*_[]<>|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
