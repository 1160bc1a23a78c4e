"""The work directory of a pipeline: where everything that a run makes lies, and who may write there.

Comes in: a path. Goes out: the paths of its parts, and a lock that one run at a time holds. Used by every command
that starts or looks at runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class WorkDir:
    """Paths below the work directory's root."""

    root: Path

    @classmethod
    def of(cls, name: str, chosen: str | os.PathLike[str] | None = None) -> WorkDir:
        """Return the work directory of a pipeline: the chosen one, else `runs/<name>` below the current folder."""
        return cls(Path(chosen).absolute() if chosen is not None else Path("runs", name).absolute())

    @property
    def metadata(self) -> Path:
        """The ML Metadata store, a SQLite file."""
        return self.root / "metadata.sqlite"

    @property
    def artifacts(self) -> Path:
        """TFX's pipeline root: one folder per component, output and execution."""
        return self.root / "artifacts"

    @property
    def ledger(self) -> Path:
        """The split ledger."""
        return self.root / "splits.npz"

    @property
    def data_settings(self) -> Path:
        """The config's section `data` of the run at hand, for ExampleGen."""
        return self.root / "data.json"

    @property
    def stat_cache(self) -> Path:
        """Digests of source files by path, size and time of change."""
        return self.root / "digests.bin"

    @property
    def unfinished(self) -> Path:
        """State of trainings and searches that were interrupted; they continue from it."""
        return self.root / "unfinished"

    @property
    def compressed(self) -> Path:
        """Models that techniques of the section `compress` have trained on, kept between runs."""
        return self.root / "compressed"

    @property
    def logs(self) -> Path:
        """What TensorFlow, Beam and TFX print, one file per run."""
        return self.root / "logs"

    @property
    def records(self) -> Path:
        """One JSON file per run."""
        return self.root / "runs"

    @property
    def plans(self) -> Path:
        """Compiled pipelines of runs whose stages are started one by one, a folder per run."""
        return self.root / "plans"

    @property
    def reports(self) -> Path:
        """Pages about runs."""
        return self.root / "reports"

    def create(self) -> None:
        """Make the folders.

        Raises:
            ConfigError: the file system refuses.
        """
        try:
            for folder in (self.root, self.artifacts, self.logs, self.records):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the work directory {self.root} can't be made: {error.strerror}; choose another one with --workdir"
            ) from error

    def keep_schema(self, schema_file: str | os.PathLike[str]) -> Path:
        """Keep a copy of a curated schema under the name of its content, so that the cache sees its content.

        Args:
            schema_file: a schema as text proto.

        Returns:
            The path of the copy.

        Raises:
            ConfigError: the file can't be read.
        """
        try:
            content = Path(schema_file).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"data.schema_file: {schema_file} can't be read: {error.strerror}; expected a schema as text proto "
                "(such as schema.pbtxt of an earlier run), or leave it out to infer one"
            ) from error
        copy = self.root / "schemas" / f"{hashlib.sha256(content).hexdigest()[:16]}.pbtxt"
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            part = copy.with_suffix(f".{os.getpid()}")
            part.write_bytes(content)
            part.replace(copy)
        return copy

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the work directory for one run; the kernel releases it if the process dies.

        Raises:
            ConfigError: another run holds it, or stages that are started one by one are at work in it.
        """
        with open(self.root / "lock", "a+", encoding="utf-8") as file:
            if not _try_lock(file, fcntl.LOCK_EX):
                raise ConfigError(self._taken(file))
            _sign(file)
            yield

    @contextlib.contextmanager
    def share(self) -> Iterator[None]:
        """Keep whole runs (`lock`) out while one stage of a run is worked on; other stages may work at the same time.

        Raises:
            ConfigError: a whole run holds the work directory.
        """
        with open(self.root / "lock", "a+", encoding="utf-8") as file:
            if not _try_lock(file, fcntl.LOCK_SH):
                raise ConfigError(self._taken(file))
            yield

    @contextlib.contextmanager
    def lock_part(self, name: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold one part of the work directory, such as a stage; the kernel releases it if the process dies.

        Args:
            name: of the part; the name of a file.
            waiting: is told the holder's process id if there is one, before it is waited for; None: no waiting.

        Raises:
            BlockingIOError: somebody else holds the part, and `waiting` is None; its text is the holder's process id.
        """
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with open(folder / name, "a+", encoding="utf-8") as file:
            if not _try_lock(file, fcntl.LOCK_EX):
                if waiting is None:
                    raise BlockingIOError(_holder(file))
                waiting(_holder(file))
                fcntl.flock(file, fcntl.LOCK_EX)
            _sign(file)
            yield

    def _taken(self, file: TextIO) -> str:
        """Return who keeps the work directory from a run, and what to do."""
        if _try_lock(file, fcntl.LOCK_SH):
            return (
                f"stages of a run that is driven node by node are at work in {self.root}; wait for them to end, or "
                "choose another work directory with --workdir"
            )
        return (
            f"another run (process {_holder(file)}) is using {self.root}; wait for it to end, or choose another work "
            "directory with --workdir"
        )


def _try_lock(file: TextIO, kind: int) -> bool:
    """Return whether the lock could be had at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: TextIO) -> None:
    """Write into a locked file who holds it."""
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"
