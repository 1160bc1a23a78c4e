"""Where one version of a model stands: the state that status calls show, and what the manager needs to move it on.

Comes in: a version directory that should be served. Goes out: nothing; the manager changes an entry under its lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import ManifestError, RunError, ServingError
from serving.server.config.models import ModelConfig
from serving.server.lifecycle.policy import State, wanted
from serving.server.lifecycle.source import Fingerprint, Found, VersionSource
from serving.server.lifecycle.version import LoadedVersion
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError

_MAX_ENDED = 200  # Versions that are gone stay in the status, as in TensorFlow Serving, but not without bounds.


@dataclass
class VersionEntry:
    """One version.

    Attributes:
        version: Number.
        path: Directory.
        fingerprint: State of the files when it was taken up.
        state: As `ModelVersionStatus.State`.
        code: OK, or why the last attempt failed.
        message: Text of the failure.
        attempts: How often loading was tried.
        retry_at: Monotonic time of the next attempt; None if none is due.
        running: Whether a thread is loading it.
        loaded: The loaded version while it is available.
    """

    version: int
    path: Path
    fingerprint: Fingerprint
    state: State = "START"
    code: Code = Code.OK
    message: str = ""
    attempts: int = 0
    retry_at: float | None = None
    running: bool = False
    loaded: LoadedVersion | None = None

    @property
    def failing(self) -> bool:
        """Whether the last attempt at loading failed."""
        return self.code is not Code.OK

    @property
    def alive(self) -> bool:
        """Whether it is on its way to be served, or served."""
        return self.state in ("START", "LOADING", "AVAILABLE")

    def step_state(self, now: float) -> State:
        """State for `policy.next_step`: START whenever a load may begin."""
        due = self.retry_at is not None and self.retry_at <= now
        return "START" if self.state == "LOADING" and not self.running and due else self.state

    def public(self) -> VersionState:
        """What status calls show."""
        return VersionState(self.version, self.state, self.code, self.message)

    def fail(self, code: Code, message: str) -> None:
        """Keep why an attempt failed."""
        self.code, self.message = code, message


@dataclass
class ModelEntry:
    """One model.

    Attributes:
        name: Name that requests use.
        config: Its configuration; None when it was removed and is on its way out.
        source: Where its versions are looked for.
        found: What the last look found.
        versions: Every version of it that lives or lived, by number.
        scanned: Whether anybody looked since the configuration changed.
        complaint: The last problem that was logged, so that it is logged once.
    """

    name: str
    config: ModelConfig | None
    source: VersionSource
    found: dict[int, Found] = field(default_factory=dict)
    versions: dict[int, VersionEntry] = field(default_factory=dict)
    scanned: bool = False
    complaint: str = ""

    def want(self) -> frozenset[int]:
        """Versions that should be served."""
        if self.config is None:
            return frozenset()
        return wanted(self.config.policy, self.present(), self.failing())

    def would_want(self, number: int) -> bool:
        """Whether a version should be served, given that it loads."""
        if self.config is None:
            return False
        return number in wanted(self.config.policy, self.present(), self.failing() - {number})

    def verdict(self) -> str | None:
        """Empty if a version is available, a text if none will be without help, None if that is open."""
        entries = list(self.versions.values())
        if any(entry.state == "AVAILABLE" for entry in entries):
            return ""
        if self.config is None:
            return f"{{{{name: {self.name}}} due to error: CANCELLED: the model was removed}}, "
        want = self.want()
        mine = [entry for entry in entries if entry.version in want]
        if not mine or len(mine) < len(want) or any(entry.state != "END" for entry in mine):
            return None
        newest = max(mine, key=lambda entry: entry.version)
        error = f"{newest.code.name}: {newest.message}"
        return f"{{{{name: {self.name} version: {newest.version}}} due to error: {error}}}, "

    def empty(self) -> bool:
        """Whether there is nothing to load."""
        return self.scanned and not self.present() and not any(found.changing for found in self.found.values())

    def present(self) -> set[int]:
        """Versions that may be served: complete ones, and those already in hand whose directory is still there."""
        if self.config is None:
            return set()
        alive = {number for number, entry in self.versions.items() if entry.alive}
        return {number for number, found in self.found.items() if found.ready or number in alive}

    def failing(self) -> set[int]:
        """Versions whose last attempt failed and whose files did not change since."""
        return {number for number, entry in self.versions.items() if entry.failing and not self._changed(entry)}

    def take_up(self, number: int) -> VersionEntry | None:
        """Begin a new life of a version that should be served; None if it lives, or failed for good as it is."""
        entry = self.versions.get(number)
        if entry is not None:
            if entry.alive or entry.state == "UNLOADING":
                return None
            if entry.failing and not self._changed(entry):
                return None
        found = self.found[number]
        entry = self.versions[number] = VersionEntry(number, found.path, found.fingerprint)
        self._forget_old()
        return entry

    def forget_failure(self, entry: VersionEntry) -> bool:
        """Whether a version that waits for another attempt has other files now, which deserve a fresh start."""
        if entry.state != "LOADING" or entry.running or not self._changed(entry):
            return False
        found = self.found[entry.version]
        entry.path, entry.fingerprint, entry.attempts, entry.state = found.path, found.fingerprint, 0, "START"
        entry.fail(Code.OK, "")
        return True

    def _changed(self, entry: VersionEntry) -> bool:
        found = self.found.get(entry.version)
        return found is not None and found.ready and (found.path, found.fingerprint) != (entry.path, entry.fingerprint)

    def _forget_old(self) -> None:
        ended = sorted(number for number, entry in self.versions.items() if entry.state == "END")
        for number in ended[: max(len(ended) - _MAX_ENDED, 0)]:
            del self.versions[number]


def explain(error: BaseException) -> tuple[Code, str]:
    """Status code and text of a failure to load."""
    if isinstance(error, StatusError):
        return error.code, error.message
    if isinstance(error, RunError):
        known = {int(code) for code in Code}
        return Code(error.code) if error.code in known and error.code else Code.UNKNOWN, str(error)
    if isinstance(error, ManifestError):
        return Code.DATA_LOSS, str(error)
    if isinstance(error, ServingError):
        return Code.FAILED_PRECONDITION, str(error)
    if isinstance(error, MemoryError):
        return Code.RESOURCE_EXHAUSTED, "out of memory while loading; serve fewer versions or give the machine more."
    return Code.INTERNAL, f"{type(error).__name__}: {error}"
