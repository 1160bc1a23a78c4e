"""The README of a folder of forms for servers.

Comes in: the cards. Goes out: Markdown for whoever deploys a form and has never heard of Slipway. Called by
`serving.delivery.build`.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.delivery.card import FormCard


def render(cards: Sequence[FormCard]) -> str:
    """Markdown text."""
    first = cards[0]
    height, width, channels = first.input.shape[1:]
    color = "gray" if channels == 1 else "RGB"
    rows = [
        f"| `{card.target}/` | `{card.form}` | {card.runtime.package} {card.runtime.version} "
        f"| {sum(file.size for file in card.files):,} | {card.reason} |"
        for card in cards
    ]
    parts = [
        f"# {first.name} {first.version}\n\n{first.description}",
        "| folder | form | runtime | bytes | why |\n|---|---|---|---|---|\n" + "\n".join(rows),
        "\n".join(f"`{card.target}` needs {card.runtime.requires}." for card in cards if card.runtime.requires),
        f"Every form takes `image`, float32 [any, {height}, {width}, {channels}] ({color}, pixels divided by 255; "
        f"{first.resize}), and gives `probabilities` in the order of `labels.txt`.",
        "`python classify.py IMAGE ...` in a folder classifies images; `model.py` beside it is all that a service "
        "needs. `samples/expected.json` holds the probabilities that each form gave for the images in `samples/`; on "
        "another processor allow for small differences. `card.json` has the figures of the form, its quantization "
        "and the checksum of each file.",
        _tensorrt(cards),
        f"## What it is for\n\n{first.intended_use}",
        "## What it is not for\n\n" + "\n".join(f"- {limit}" for limit in first.limits) if first.limits else "",
        f"## Data\n\n{first.data}",
        f"License: {first.license}.{f' Author: {first.author}.' if first.author else ''}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tensorrt(cards: Sequence[FormCard]) -> str:
    if all(card.runtime.name != "tftrt" for card in cards):
        return ""
    return (
        "`server_gpu/serving` is a base path for TensorFlow Serving's GPU image (2.16 or 2.17). The plain SavedModel "
        "stays the fallback, for engines run nowhere but on the GPU and the TensorRT that they were built with."
    )
