"""Where a run's model comes from, and what was published of it: the lineage as a page shows it.

Comes in: a run's record and its work directory. Goes out: `Origin`, plain data. Called by `pipeline.report.page` and
`pipeline.report.comparison`. The metadata store is asked; where it is away or knows nothing, the manifest of the
published version says what is left to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.records import RunRecord
from pipeline.report.templating import moment, within

if TYPE_CHECKING:
    from pipeline.history.lineage import Lineage
    from pipeline.workdir import WorkDir
    from serving.manifest import Manifest

_PATIENCE_SECONDS = 5
"""A report doesn't wait minutes for a store that is away."""

_DIGITS = 12
"""Of a hash."""


@dataclass(frozen=True)
class Step:
    """One stage on the way from the source to the model."""

    stage: str
    run: str
    """Empty for the run that the page is about."""
    started: str
    made_from: list[str]
    """What it took: stages, or models that have a lineage of their own."""


@dataclass(frozen=True)
class Origin:
    """What a model was made from."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    """The first one first."""
    remarks: list[str] = field(default_factory=list)
    data: str = ""
    """Fingerprint of the data's content."""
    code: dict[str, str] = field(default_factory=dict)
    """Beginning of the SHA-256 of each source file, by module."""


@dataclass(frozen=True)
class Published:
    """A folder that a run published."""

    thing: str
    folder: str
    created: str = ""
    files: int = 0
    bytes: int = 0
    digest: str = ""
    """SHA-256 over the model's files."""
    standing: bool = True
    """Whether the folder is still there."""
    intended_use: str = ""
    """From the model card."""


def origin(record: RunRecord, workdir: WorkDir | None) -> Origin:
    """Return where the model of a run comes from.

    Args:
        record: of the run.
        workdir: where it ran; None if nobody knows.
    """
    manifest = _manifest(record.served)
    if workdir is None:
        return Origin(_of_manifest(manifest, record), data=(manifest.data_fingerprint if manifest else None) or "")
    from pipeline.metadata_connection import MetadataAway

    try:
        lineage = _traced(record, workdir)
    except (ConfigError, MetadataAway) as error:
        return Origin(_of_manifest(manifest, record), remarks=[f"the metadata store can't be asked: {error}"])
    if lineage is None:
        return Origin(_of_manifest(manifest, record), remarks=["the metadata store knows no artifact of this run"])
    return Origin(
        _facts(lineage, record, workdir),
        [_step(lineage, step, record) for step in reversed(lineage.steps)],
        lineage.remarks,
        lineage.ingredients.data,
        lineage.ingredients.code,
    )


def published(record: RunRecord, root: Path | None) -> list[Published]:
    """Return what a run published.

    Args:
        record: of the run.
        root: of the work directory; paths are shown as seen from there.
    """
    folders = (("model", record.served), ("mobile bundle", record.bundle), ("forms for other servers", record.forms))
    return [_publication(thing, folder, root) for thing, folder in folders if folder]


def _publication(thing: str, folder: str, root: Path | None) -> Published:
    shown, manifest = within(root, folder), _manifest(folder)
    if manifest is None:
        return Published(thing, shown, standing=Path(folder).is_dir())
    card = _card(Path(folder))
    return Published(
        thing,
        shown,
        manifest.created,
        len(manifest.everything),
        sum(entry.size for entry in manifest.everything),
        manifest.model_digest[:_DIGITS],
        intended_use=next((case["description"] for case in card.get("considerations", {}).get("use_cases", [])), ""),
    )


def _card(folder: Path) -> dict[str, Any]:
    from pipeline.cards.publishing import JSON_FILE

    try:
        found = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _manifest(folder: str) -> Manifest | None:
    from serving.errors import ServingError
    from serving.manifest import MANIFEST_FILE, Manifest

    try:
        return Manifest.from_json(Path(folder, MANIFEST_FILE).read_text(encoding="utf-8")) if folder else None
    except (OSError, ServingError):
        return None


def _traced(record: RunRecord, workdir: WorkDir) -> Lineage | None:
    """Return the lineage of the version, or of the last artifact on the way to it that the store knows."""
    from pipeline.config.metadata_store import MetadataSettings
    from pipeline.history.lineage import trace_folder
    from pipeline.history.runs import open_history

    settings = MetadataSettings.model_validate(record.settings.get("metadata") or {})
    history = open_history(workdir, settings.model_copy(update={"patience_seconds": _PATIENCE_SECONDS}))
    if history.reader is None:
        return None
    for folder in _candidates(record):
        try:
            return trace_folder(history, folder)
        except ConfigError:
            continue
    return None


def _candidates(record: RunRecord) -> Iterator[Path]:
    if record.served:
        yield Path(record.served)
    outputs = {stage.id: stage.outputs for stage in record.stages}
    for stage in ("Trainer", "Transform", "ExampleGen"):
        yield from sorted(map(Path, outputs.get(stage, ())), key=lambda folder: folder.parent.name != "model")


def _step(lineage: Lineage, step: Any, record: RunRecord) -> Step:
    from pipeline.history.lineage import OTHER_MODELS

    sources = []
    for key, artifacts in step.inputs.items():
        makers = {made.stage for artifact in artifacts if (made := lineage.step_of(artifact)) is not None}
        if key in OTHER_MODELS:
            sources.append(key.replace("_", " "))
        sources += makers
    run = "" if step.run == record.run_id else step.run
    return Step(step.stage, run, moment(step.started), sorted(set(sources)))


def _facts(lineage: Lineage, record: RunRecord, workdir: WorkDir) -> list[tuple[str, str]]:
    """Return examples, training, config, code and commit in words."""
    manifest = lineage.publication.manifest if lineage.publication else None
    facts = []
    if lineage.data is not None:
        counts = ", ".join(f"{split} {count:,}" for split, count in lineage.data.splits.items())
        spans = f"spans {lineage.data.spans}" if lineage.data.spans else ""
        facts.append(("examples", "; ".join(filter(None, (counts, spans, f"from {lineage.data.source}")))))
        facts.append(("content of the data", lineage.data.fingerprint[:_DIGITS]))
        facts.append(("folder of the examples", within(workdir.root, lineage.data.uri)))
    trained = next((step for step in lineage.steps if step.stage == "Trainer"), None)
    if trained is not None:
        which = "this run" if trained.run == record.run_id else f"run {trained.run}"
        facts.append(("trained", f"in {which}, {moment(trained.started)}"))
    if manifest is not None and manifest.config_hash:
        facts.append(("config", f"hash {manifest.config_hash[:_DIGITS]}"))
    facts.append(("commit", lineage.commit or "unknown"))
    if manifest is not None and manifest.git_commit not in (None, lineage.commit):
        facts.append(("published by commit", str(manifest.git_commit)))
    if lineage.ingredients.code:
        facts.append(("code", f"{len(lineage.ingredients.code)} modules, each with its checksum in the store"))
    return [(name, value) for name, value in facts if value]


def _of_manifest(manifest: Manifest | None, record: RunRecord) -> list[tuple[str, str]]:
    facts = [("commit", record.environment.get("commit", ""))]
    if manifest is not None:
        facts.append(("content of the data", (manifest.data_fingerprint or "")[:_DIGITS]))
        facts.append(("config", f"hash {manifest.config_hash[:_DIGITS]}" if manifest.config_hash else ""))
    return [(name, value) for name, value in facts if value]
