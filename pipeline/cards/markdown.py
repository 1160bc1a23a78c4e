"""A model card as Markdown, for people.

Comes in: what `pipeline.cards.content` made. Goes out: a page. Called by the pushers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    yield from (f"# {_inline(details['name'])}", "", _inline(details["overview"]))
    yield from _listed("Intended use", (case["description"] for case in considerations["use_cases"]))
    yield from _listed("Users", (user["description"] for user in considerations.get("users", ())))
    yield from _listed("Limits", (limit["description"] for limit in considerations["limitations"]))
    yield from _listed("Trade-offs", (each["description"] for each in considerations.get("tradeoffs", ())))
    risks = considerations.get("ethical_considerations", ())
    yield from _listed("Ethical considerations", (f"{r['name']}: {r['mitigation_strategy']}" for r in risks))
    yield from ("", "## Input and output", "", parameters["input_format"], "", parameters["output_format"], "")
    yield _inline(details["documentation"])
    yield from _listed("Data", (f"{entry['name']}: {entry['description']}" for entry in parameters["data"]))
    yield from ("", "## Quality", "", "| metric | where | value | 95 % interval |", "|---|---|---|---|")
    yield from map(_row, card["quantitative_analysis"]["performance_metrics"])
    license_ = details["licenses"][0]
    yield from _listed(
        "Origin",
        (
            details["version"]["name"],
            *(f"by {owner['name']}" for owner in details.get("owners", ())),
            f"license: {license_.get('identifier') or license_['custom_text']}",
            *(entry["reference"] for entry in details.get("references", ())),
        ),
    )


def _listed(heading: str, entries: Iterable[str]) -> Iterator[str]:
    """Return a section with a list; what nobody wrote down is said to be so."""
    yield from ("", f"## {heading}", "")
    yield from [f"- {_inline(entry)}" for entry in entries] or ["- not stated"]


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
