"""The record of a run that several processes write, one stage each.

Comes in: a work directory and a run id. Goes out: the run's record, changed under a lock, so that stages that end at
the same time don't overwrite each other's lines. Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import ConfigError
from pipeline.records import RunRecord, load_record, new_record
from pipeline.workdir import WorkDir

DRIVER = "node by node"
"""`RunRecord.driver` of runs whose stages are started one by one."""

_RUN_ID = re.compile(r"[!-~]{1,200}")
_LONGEST_NAME = 100
_LOCK = "records"


def check_run_id(run_id: str) -> str:
    """Return a run id that may be used.

    Raises:
        ConfigError: it can't name a run.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(
            f"--run-id: received {run_id!r}; expected 1 to 200 letters, digits and signs of ASCII without blanks, such "
            "as manual__2026-11-22T10:00:00+00:00"
        )
    return run_id


def file_name(run_id: str) -> str:
    """Return a name for files of a run: no separators, no leading dot, different for different ids.

    Args:
        run_id: any text; what is unusual in file names is percent-encoded, and long ids end in their digest.
    """
    name = quote(run_id, safe="").replace("~", "%7E")
    if name.startswith((".", "-")):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 20]}~{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"


class Journal:
    """The record of one run."""

    def __init__(self, workdir: WorkDir, run_id: str):
        """Initialize.

        Args:
            workdir: the work directory.
            run_id: as the scheduler chose it.

        Raises:
            ConfigError: the id can't name a run.
        """
        self._workdir = workdir
        self._run_id = check_run_id(run_id)

    def find(self) -> RunRecord | None:
        """Return the record as it stands, if there is one."""
        path = self._path()
        return load_record(path) if path is not None else None

    def read(self) -> RunRecord:
        """Return the record as it stands.

        Raises:
            ConfigError: there is no such run.
        """
        record = self.find()
        if record is None:
            raise ConfigError(
                f"there is no run {self._run_id!r} in {self._workdir.root}; `slipway prepare-run` begins one"
            )
        return record

    def begin(self, name: str, config_path: str, fingerprint: str) -> RunRecord:
        """Return a record for the run, not saved yet; one that was prepared before keeps its place among the runs.

        Raises:
            ConfigError: a run of another kind has this id.
        """
        record = new_record(name, config_path, str(self._workdir.logs / file_name(self._run_id)), fingerprint)
        if (self._workdir.records / f"{file_name(self._run_id)}.json").exists():
            raise ConfigError(f"--run-id: {self._run_id} is the id of a local run; choose another one")
        known = self._path()
        record.file = known.stem if known is not None else f"{record.run_id}~{file_name(self._run_id)}"
        record.run_id, record.pid, record.driver, record.executed = self._run_id, 0, DRIVER, True
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing records."""
        with self._workdir.lock_part(_LOCK, lambda holder: None):
            yield

    @contextlib.contextmanager
    def update(self) -> Iterator[RunRecord]:
        """Change the record: yields it as it stands and saves it afterwards."""
        with self.locked():
            record = self.read()
            yield record
            record.save(self._workdir.records)

    def _path(self) -> Path | None:
        return next(iter(self._workdir.records.glob(f"*~{file_name(self._run_id)}.json")), None)
