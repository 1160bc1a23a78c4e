"""The published versions of a work directory, and the artifacts that they were published from.

Comes in: the history. Goes out: `Publication`s. Called by the lineage, which starts from a version, and by the garbage
collection, which leaves alone whatever a version depends on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.history.runs import DESTINATION, LATEST, History
from pipeline.locating import PublishedKind
from serving import manifest as manifests
from serving.errors import ManifestError
from serving.manifest import Manifest
from serving.versions import version_directories

if TYPE_CHECKING:
    from pipeline.metadata import StoredArtifact

STAGES: dict[str, PublishedKind] = {"Pusher": "model", "EdgePusher": "edge", "FormPusher": "forms"}
"""Stages that publish, and what."""

_RECORDED: dict[str, PublishedKind] = {"served": "model", "bundle": "edge", "forms": "forms"}


@dataclass(frozen=True)
class Publication:
    """One published version.

    Attributes:
        path: its folder.
        number: its number.
        manifest: what was published; None if it can't be read.
        artifacts: those of the pusher that say so, the first one first; empty if the store knows nothing of it.
    """

    path: Path
    number: int
    manifest: Manifest | None
    artifacts: list[StoredArtifact]


def publication(history: History, kind: PublishedKind, name: str) -> Publication:
    """Return a version by its number, or `latest` for the one in service.

    Raises:
        ConfigError: there is no such version.
    """
    from serving.versions import served

    folders = [folder for folder in _bases(history, kind) if version_directories(folder)]
    if not folders:
        raise ConfigError(
            f"{history.workdir.root} holds no published version (of kind {kind}); `slipway runs list` shows what the "
            "runs came to"
        )
    newest = served(folders[0])
    if name == LATEST and newest is not None:
        name = str(newest.number)
    standing = [place for folder in folders for place in version_directories(folder)]
    wanted = standing[-1][0] if name == LATEST else name
    for number, path in standing:
        if str(number) == str(wanted):
            return at(history, path, number)
    numbers = ", ".join(str(number) for number, _ in standing)
    raise ConfigError(
        f"there is no version {name!r} (of kind {kind}); expected one of {numbers}, `{LATEST}`, or the folder of an "
        "artifact or of a version"
    )


def at(history: History, path: Path, number: int) -> Publication:
    """Return the version in a folder."""
    try:
        manifest = manifests.read(path)
    except ManifestError:
        manifest = None
    origin = manifest.restores if manifest and manifest.restores is not None else number
    # A rollback is a copy of an earlier version, whose number the store knows.
    place = path.with_name(str(origin))
    destinations = [(Path(a.properties[DESTINATION]), a) for a in history.pushed.values()]
    found = [artifact for destination, artifact in destinations if destination == place]
    # A work directory that was moved keeps the names below it.
    found = found or [artifact for destination, artifact in destinations if destination.parts[-2:] == place.parts[-2:]]
    return Publication(path, number, manifest, found)


def standing(history: History) -> list[StoredArtifact]:
    """Return the artifacts of pushers whose version can be served or brought back: it stands in its folder, or may.

    What was published to other places than folders counts as standing, and so does everything in a folder where a
    version's manifest can't be read, since nobody can tell which content that version brings back.
    """
    found = list(history.pushed.values())
    needed: dict[Path, set[str] | None] = {}
    for folder in {Path(a.properties[DESTINATION]).parent for a in found}:
        needed[folder] = _contents(folder)
    kept = []
    for artifact in found:
        place = Path(artifact.properties[DESTINATION])
        names = needed[place.parent]
        if not place.is_absolute() or names is None or place.name in names or os.path.lexists(place):
            kept.append(artifact)
    return kept


def _contents(base: Path) -> set[str] | None:
    """Return the numbers of the versions whose content stands in a folder, or None if that can't be told."""
    numbers: set[str] = set()
    for number, path in version_directories(base):
        try:
            manifest = manifests.read(path)
        except ManifestError:
            return None
        numbers |= {str(number), str(number if manifest.restores is None else manifest.restores)}
    return numbers


def _bases(history: History, kind: PublishedKind) -> list[Path]:
    """Return the folders of versions of a kind, the one written last first; of a work directory that was moved too."""
    named = _named_bases(history, kind)
    return list(dict.fromkeys(base if base.is_dir() else history.workdir.root / base.name for base in named))


def _named_bases(history: History, kind: PublishedKind) -> Iterator[Path]:
    for run in history.runs:
        for field, of in _RECORDED.items():
            if of == kind and run.record is not None and (folder := getattr(run.record, field)):
                yield Path(folder).parent
    for artifact in reversed(list(history.pushed.values())):
        # TFX's folders are named `.../<stage>/<output>/<execution>`.
        if STAGES.get(Path(artifact.uri).parent.parent.name) == kind:
            yield Path(artifact.properties[DESTINATION]).parent
