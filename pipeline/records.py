"""The record of a run: what each stage did, what the gates said, what was published; one JSON file per run.

Written by the runner after every stage, so that it tells the truth about an interrupted run too. Read by `slipway
status` and by the next run, which ends at once where nothing changed since the last one. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUCCEEDED, REFUSED, FAILED, RUNNING, INTERRUPTED = "succeeded", "refused", "failed", "running", "interrupted"
"""States of a run."""

HIT, RAN, RESOLVED, STAGE_FAILED = "HIT", "MISS", "lookup", "FAILED"
PENDING, LEFT_OUT = "pending", "left out"
"""States of a stage: from the cache, executed, an artifact looked up, failed, not reached, not asked for (`--from`,
`--to`)."""


@dataclass
class StageRecord:
    """What one stage did."""

    id: str
    state: str = PENDING
    reason: str = ""
    """Why it ran, or which run its result is from."""
    detail: str = ""
    """What came out, in a few words."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    """Largest resident set of the process during the stage, in MB."""
    outputs: list[str] = field(default_factory=list)
    """Folders of the output artifacts."""


@dataclass
class RunRecord:
    """What one run did."""

    run_id: str
    name: str
    config: str
    """Path of the YAML file."""
    started: str
    pid: int
    log: str
    fingerprint: str
    """Hash of everything that the stages depend on; equal ones mean that there is nothing to do."""
    state: str = RUNNING
    executed: bool = False
    """Whether TFX was asked; a run in which nothing had changed only repeats the record of the one before."""
    finished: str = ""
    error: str = ""
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    """The effective config."""
    environment: dict[str, str] = field(default_factory=dict)
    """What it ran with: the commit, versions of libraries, the machine."""
    warnings: list[str] = field(default_factory=list)
    """What was known before the first stage ran and keeps a part of the result from being made."""
    stages: list[StageRecord] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    version: int | None = None
    """Number under which the model is published, if it is."""
    served: str = ""
    """Folder of that version."""
    bundle: str = ""
    """Folder of the version of the mobile bundle, if one is published."""
    forms: str = ""
    """Folder of the version of the forms for servers, if any are published."""
    spans: list[tuple[int, int | None]] = field(default_factory=list)
    """Number and version of each span of the data, where it comes in spans."""
    driver: str = ""
    """Who starts its stages, one by one, where that is no process of its own; the `pid` is 0 then."""
    file: str = ""
    """Name of its file where that is not the run id: ids that a scheduler chose don't sort by time."""

    @property
    def stem(self) -> str:
        """Name of the record's file without its ending; names sort by the time at which the runs began."""
        return self.file or self.run_id

    def stage(self, node_id: str) -> StageRecord:
        """Return the record of a stage."""
        return next(stage for stage in self.stages if stage.id == node_id)

    def save(self, folder: Path) -> None:
        """Write the record, atomically."""
        part = folder / f".{self.stem}.{os.getpid()}"
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        part.replace(folder / f"{self.stem}.json")


def new_record(name: str, config_path: str, log: str, fingerprint: str) -> RunRecord:
    """Return the record of a run that begins now; its id is the time, which sorts."""
    started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    run_id = f"{started.replace(':', '')}.{time.time_ns() // 1000 % 1_000_000:06d}"
    return RunRecord(run_id, name, config_path, started + "Z", os.getpid(), log, fingerprint)


def load_record(path: Path) -> RunRecord:
    """Return the record in a file; a run whose process is gone without having said how it ended was interrupted."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    record = RunRecord(**{**fields, "stages": [StageRecord(**stage) for stage in fields["stages"]]})
    if record.state == RUNNING and record.pid and not _alive(record.pid):
        record.state = INTERRUPTED
    return record


def records(folder: Path) -> Iterator[RunRecord]:
    """Yield the records of a work directory, the newest first; damaged files are passed over."""
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            yield load_record(path)
        except (ValueError, KeyError, TypeError, OSError):
            continue


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
