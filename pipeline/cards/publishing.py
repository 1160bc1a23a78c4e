"""The card of a model as files that are published beside it.

Comes in: the config when the pipeline is built, artifacts when a stage publishes. Goes out: texts by file name.
Called by `pipeline.graph` and by the pushers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cards.content import Subject, model_card
from pipeline.cards.markdown import to_markdown
from pipeline.config.card import CardSettings

if TYPE_CHECKING:
    from pipeline.config.config import Config
    from pipeline.optimizing.results import Certificate

MARKDOWN_FILE, JSON_FILE = "MODEL_CARD.md", "model_card_toolkit.json"


def card_settings(config: Config) -> str:
    """Return what the config knows about the card, as JSON for an execution property.

    Data that nobody described is called by its source's name; the folders above a folder are nobody's business where
    the model goes.
    """
    source = config.data.source.rstrip("/").rpartition("/")[2]
    card = config.card if config.card.data else config.card.model_copy(update={"data": source})
    return json.dumps(
        {
            "card": card.model_dump(mode="json"),
            "architecture": f"{config.model.name}, width {config.model.width:g}",
            "image": [*config.transform.size, config.transform.channels],
            "split": config.evaluate.split,
            "top_k": config.evaluate.top_k,
        },
        sort_keys=True,
    )


def written_card(settings: str) -> CardSettings:
    """Return what people wrote, from `card_settings`."""
    return CardSettings.model_validate(json.loads(settings)["card"])


def documents(
    settings: str,
    examples: Path,
    evaluation: Path,
    manifest: Mapping[str, str],
    commit: str,
    forms: Certificate | None = None,
) -> dict[str, str]:
    """Return the card as Markdown and as JSON, by file name.

    Args:
        settings: what `card_settings` returned.
        examples: folder of the examples artifact.
        evaluation: folder of the evaluation artifact.
        manifest: `name`, `config_hash` and `data_fingerprint`.
        commit: of the code.
        forms: what the Optimizer found, for packages of other forms than the SavedModel.
    """
    known = json.loads(settings)
    card = model_card(
        Subject(
            name=manifest["name"],
            card=written_card(settings),
            architecture=known["architecture"],
            image=tuple(known["image"]),
            ingestion=json.loads((examples / "ingest_report.json").read_text(encoding="utf-8")),
            summary=json.loads((evaluation / "summary.json").read_text(encoding="utf-8")),
            split=known["split"],
            top_k=known["top_k"],
            data_fingerprint=manifest["data_fingerprint"],
            config_hash=manifest["config_hash"],
            git_commit=commit,
            forms=forms,
        )
    )
    return {MARKDOWN_FILE: to_markdown(card), JSON_FILE: json.dumps(card, indent=1, ensure_ascii=False) + "\n"}
