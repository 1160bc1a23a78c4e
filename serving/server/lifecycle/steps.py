"""Loading and unloading, one step after the other, until what is served is what should be served.

Comes in: model entries that the manager changed. Goes out: `serving`, the versions that requests may use. Owned by the
manager, with whom it shares one lock.

Each load and each unload runs in a thread of its own, so that neither requests nor other models wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.server.config.settings import LifecycleSettings
from serving.server.lifecycle.entry import ModelEntry, VersionEntry, explain
from serving.server.lifecycle.policy import next_step
from serving.server.lifecycle.source import verify
from serving.server.lifecycle.version import LoadedVersion
from serving.server.servable import Servable
from serving.server.status import Code

_log = logging.getLogger("slipway.serving")

Load = Callable[[str, int, Path], Servable]


class VersionSteps:
    """Takes the steps that `policy.next_step` names.

    Args:
        settings: Retries and how much may run side by side.
        load: Makes a servable of a version directory.
        unloaded: Called after a version was closed.
        changed: Notified after each change; its lock guards all entries.
        wake: Set when a retry may be due earlier than thought.

    Attributes:
        models: Entries by name.
        serving: Versions that requests may use, by model and number; None stands for the latest. Replaced, never
            changed, so it may be read without the lock.
        starting: Whether nothing is served yet, so that all cores may load.
        stopping: Whether nothing may be loaded any more.
    """

    def __init__(
        self,
        settings: LifecycleSettings,
        load: Load,
        unloaded: Callable[[], None],
        changed: threading.Condition,
        wake: threading.Event,
    ) -> None:
        self.models: dict[str, ModelEntry] = {}
        self.serving: Mapping[str, Mapping[int | None, LoadedVersion]] = {}
        self.starting = True
        self.stopping = False
        self._settings = settings
        self._load = load
        self._unloaded = unloaded
        self._changed = changed
        self._wake = wake
        self._loading = self._unloading = 0

    def closed(self) -> bool:
        """Whether no version is being unloaded; with the lock held. A load that is under way is not waited for."""
        return not self._unloading

    def reconcile_all(self) -> None:
        """Do whatever can be done now; with the lock held."""
        for model in self.models.values():
            self._reconcile(model)
        self._changed.notify_all()

    def next_retry(self, now: float) -> float:
        """Monotonic time of the next attempt that waits for its time; infinity if none does. With the lock held."""
        entries = (entry for model in self.models.values() for entry in model.versions.values())
        times = [entry.retry_at for entry in entries if entry.retry_at is not None and entry.retry_at > now]
        return min(times, default=float("inf"))

    def _reconcile(self, model: ModelEntry) -> None:
        want = frozenset() if self.stopping else model.want()
        for number in want:
            entry = model.versions.get(number)
            if entry is None or not model.forget_failure(entry):
                model.take_up(number)
        for number, entry in model.versions.items():
            if number not in want and not entry.running and entry.state in ("START", "LOADING"):
                entry.state, entry.retry_at = "END", None
        while True:
            now = time.monotonic()
            states = {n: entry.step_state(now) for n, entry in model.versions.items() if entry.state != "END"}
            step = next_step(states, want)
            if step is None:
                return
            if step.kind == "load" and self._loading < self._load_limit():
                self._begin_load(model, model.versions[step.version])
            elif step.kind == "unload" and self._unloading < self._settings.unload_threads:
                self._begin_unload(model.versions[step.version])
            else:
                return

    def _load_limit(self) -> int:
        cores = os.cpu_count() or 1
        return max(self._settings.load_threads, cores) if self.starting else self._settings.load_threads

    def _begin_load(self, model: ModelEntry, entry: VersionEntry) -> None:
        entry.state, entry.running, entry.retry_at = "LOADING", True, None
        entry.attempts += 1
        self._loading += 1
        _log.info("loading version %d of %s from %s", entry.version, model.name, entry.path)
        _start(f"slipway-load-{model.name}", lambda: self._load_in_thread(model, entry))

    def _load_in_thread(self, model: ModelEntry, entry: VersionEntry) -> None:
        servable: Servable | None = None
        failure: tuple[Code, str] | None = None
        try:
            verify(entry.path)
            servable = self._load(model.name, entry.version, entry.path)
        except Exception as error:
            failure = explain(error)
            if failure[0] is Code.INTERNAL:
                _log.exception("loading version %d of %s failed", entry.version, model.name)
        with self._changed:
            entry.running = False
            self._loading -= 1
            if failure is not None:
                self._failed(model.name, entry, *failure)
            elif servable is not None and not self.stopping and model.would_want(entry.version):
                self._available(model.name, entry, servable)
                servable = None
            else:
                entry.state = "END"
            self.reconcile_all()
            self._wake.set()
        if servable is not None:
            servable.close()

    def _available(self, name: str, entry: VersionEntry, servable: Servable) -> None:
        entry.loaded = LoadedVersion(name, entry.version, servable)
        entry.state = "AVAILABLE"
        entry.fail(Code.OK, "")
        self._publish()
        _log.info("version %d of %s is available", entry.version, name)

    def _failed(self, name: str, entry: VersionEntry, code: Code, message: str) -> None:
        entry.fail(code, message)
        left = self._settings.max_retries + 1 - entry.attempts
        if left > 0:
            entry.retry_at = time.monotonic() + self._settings.retry_seconds
            plan = f"trying again in {self._settings.retry_seconds:g} seconds, attempts left: {left}"
        else:
            entry.state = "END"
            plan = "giving up until its files change"
        _log.error("version %d of %s did not load: %s: %s; %s", entry.version, name, code.name, message, plan)

    def _begin_unload(self, entry: VersionEntry) -> None:
        loaded, entry.loaded = entry.loaded, None
        assert loaded is not None, "an available version is loaded"
        entry.state = "UNLOADING"
        self._unloading += 1
        # First out of sight, then retired: whoever finds a retired version looks again and finds its successor.
        self._publish()
        _log.info("unloading version %d of %s when its requests are done", loaded.version, loaded.name)
        loaded.retire(lambda: _start(f"slipway-unload-{loaded.name}", lambda: self._close_in_thread(entry, loaded)))

    def _close_in_thread(self, entry: VersionEntry, loaded: LoadedVersion) -> None:
        try:
            loaded.servable.close()
            self._unloaded()
        except Exception:
            _log.exception("closing version %d of %s failed", loaded.version, loaded.name)
        with self._changed:
            self._unloading -= 1
            entry.state = "END"
            _log.info("version %d of %s is unloaded", loaded.version, loaded.name)
            self.reconcile_all()

    def _publish(self) -> None:
        serving: dict[str, dict[int | None, LoadedVersion]] = {}
        for name, model in self.models.items():
            versions: dict[int | None, LoadedVersion] = {}
            for number, entry in sorted(model.versions.items()):
                if entry.loaded is not None:
                    versions[number] = versions[None] = entry.loaded
            if versions:
                serving[name] = versions
        self.serving = serving


def _start(name: str, target: Callable[[], None]) -> None:
    # A load that hangs must not keep the process from ending.
    threading.Thread(target=target, name=name, daemon=True).start()
