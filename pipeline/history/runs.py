"""The runs of a work directory, from the metadata store and from the records.

Comes in: a work directory. Goes out: `Run`s, whichever orchestrator made them. The store knows what was executed; the
record knows why, what the gates said and how it ended. A run that found nothing to do has a record only; one that
another machine drove may have left its traces in the store only. Called by the other modules of this package.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.records import FAILED, INTERRUPTED, REFUSED, RUNNING, SUCCEEDED, RunRecord, records

if TYPE_CHECKING:
    from pipeline.config.metadata_store import MetadataSettings
    from pipeline.metadata import MetadataReader, StoredArtifact, StoredExecution, StoredRun
    from pipeline.workdir import WorkDir

DESTINATION = "pushed_destination"
"""Property of the artifacts by which something was published: the folder of the version."""

LATEST = "latest"
"""Names the newest run, or the version in service."""

_MOST_NEAR = 3


@dataclass(frozen=True)
class Run:
    """One run; at least one of `record` and `stored` is there."""

    id: str
    started: str
    """UTC, ISO 8601 to the second."""
    record: RunRecord | None = None
    stored: StoredRun | None = None


@dataclass
class History:
    """What is known about the runs of a work directory."""

    workdir: WorkDir
    reader: MetadataReader | None
    """None where no store was made yet."""
    _executions: dict[int, list[StoredExecution]] = field(default_factory=dict)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        recorded = {record.run_id: record for record in records(self.workdir.records)}
        stored = {run.id: run for run in self.reader.runs()} if self.reader else {}
        found = [
            Run(
                run_id,
                recorded[run_id].started if run_id in recorded else utc(stored[run_id].created),
                recorded.get(run_id),
                stored.get(run_id),
            )
            for run_id in recorded.keys() | stored.keys()
        ]
        return sorted(found, key=_order, reverse=True)

    def load(self, runs: Iterable[Run]) -> None:
        """Read what was executed in several runs at once, for `executions`."""
        wanted = [run.stored for run in runs if run.stored is not None and run.stored.context not in self._executions]
        if self.reader is not None and wanted:
            self._executions |= self.reader.runs_executions(wanted)

    def executions(self, run: Run) -> list[StoredExecution]:
        """Return what was executed in a run, or taken from the cache; nothing for a run with a record only."""
        self.load([run])
        return self._executions.get(run.stored.context, []) if run.stored is not None else []

    @cached_property
    def pipelines(self) -> list[str]:
        """Names of the pipelines that share the store."""
        return self.reader.pipelines() if self.reader else []

    @cached_property
    def pushed(self) -> dict[int, StoredArtifact]:
        """The artifacts by which something was published, by id."""
        found = self.reader.artifacts_of_type("PushedModel") if self.reader else []
        return {artifact.id: artifact for artifact in found if artifact.properties.get(DESTINATION)}

    def find(self, name: str) -> Run:
        """Return a run by its id or the beginning of it; `latest` is the newest.

        Raises:
            ConfigError: no run begins like that, or several do.
        """
        if not self.runs:
            raise ConfigError(f"{self.workdir.root} holds no runs; start one with `slipway run`")
        if name == LATEST:
            return self.runs[0]
        begun = [run for run in self.runs if run.id.startswith(name)] if name else []
        exact = [run for run in begun if run.id == name]
        if len(exact or begun) == 1:
            return (exact or begun)[0]
        if begun:
            raise ConfigError(
                f"{len(begun)} runs begin with {name!r}: {_listed(run.id for run in begun)}; expected enough "
                "characters for one of them"
            )
        raise ConfigError(
            f"there is no run {name!r} in {self.workdir.root}; {self._near(name)} `slipway runs list` shows them all"
        )

    def _near(self, name: str) -> str:
        ids = [run.id for run in self.runs]
        near = [found for found in ids if name and name in found][:_MOST_NEAR]
        near += difflib.get_close_matches(name, (found for found in ids if found not in near), cutoff=0.5)
        return f"did you mean {' or '.join(near[:_MOST_NEAR])}?" if near else f"the newest one is {ids[0]}."


def _order(run: Run) -> tuple[str, str, int]:
    """Return by what runs are sorted; within a second the names of records and the ids of contexts go by time."""
    return run.started, run.record.stem if run.record else "", run.stored.context if run.stored else 0


def open_history(workdir: WorkDir, settings: MetadataSettings | None = None) -> History:
    """Open the records and the metadata store of a work directory.

    Args:
        workdir: the work directory.
        settings: the section `metadata`; by default that of the newest run whose record has one.

    Raises:
        ConfigError: the store can't be read.
    """
    from pipeline.config.metadata_store import MetadataSettings
    from pipeline.metadata import MetadataReader
    from pipeline.metadata_connection import MetadataAccess, MetadataAway

    if settings is None:
        kept = (record.settings.get("metadata") for record in records(workdir.records))
        settings = MetadataSettings.model_validate(next(filter(None, kept), {}))
    access = MetadataAccess.of(settings, workdir)
    if settings.kind == "sqlite" and not workdir.metadata.is_file():
        return History(workdir, None)
    history = History(workdir, MetadataReader(access))
    try:
        history.pipelines  # noqa: B018 (the first question connects)
    except RuntimeError as error:
        if isinstance(error, MetadataAway):
            raise
        # What MLMD raises for a file that is none of its own.
        raise ConfigError(f"the metadata store of {workdir.root} can't be read: {error}") from error
    return history


def run_state(run: Run, executions: Iterable[StoredExecution]) -> str:
    """Return how a run ended: as its record says, else as far as its executions tell.

    Args:
        run: the run.
        executions: of the run; only looked at where there is no record.
    """
    if run.record is not None:
        return run.record.state
    states = {execution.state for execution in executions}
    if "FAILED" in states:
        return FAILED
    if states & {"NEW", "RUNNING"}:
        return RUNNING
    if not states or "CANCELED" in states:
        return INTERRUPTED
    verdicts = verdicts_of(uri for e in executions for uris in e.outputs.values() for uri in uris)
    return SUCCEEDED if all(verdict["passed"] for verdict in verdicts) else REFUSED


def verdicts_of(uris: Iterable[str]) -> list[dict[str, object]]:
    """Return the verdicts that artifacts hold, each once; removed and damaged ones are passed over."""
    from pipeline.evaluation.verdict import read_verdict

    found: dict[str, dict[str, object]] = {}
    for uri in uris:
        try:
            verdict = read_verdict(uri)
        except (OSError, ValueError, TypeError):
            continue
        if verdict is not None:
            found[verdict.gate] = vars(verdict)
    return list(found.values())


def utc(milliseconds: int) -> str:
    """Return a time of the store as ISO 8601 to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
