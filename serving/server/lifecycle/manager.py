"""The manager of all models: keeps what should be served loaded, and hands out references to it.

Comes in: model configs and the settings of the lifecycle. Goes out: `Models`, which the data plane and both transports
use. Made by `serving.server.running`.

One thread polls the base paths and wakes for retries. All state is changed under one lock, and every change is followed
by a round of `VersionSteps`. Requests never take that lock: they read a mapping that is replaced, never changed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from serving.server.config.models import ModelConfig, check_same_platforms, to_models
from serving.server.config.settings import LifecycleSettings
from serving.server.lifecycle import labels as label_rules
from serving.server.lifecycle.entry import ModelEntry
from serving.server.lifecycle.source import SETTLE_SECONDS, Found, SourceError, VersionSource
from serving.server.lifecycle.steps import Load, VersionSteps
from serving.server.lifecycle.version import VersionHandle
from serving.server.model_spec import ModelSpec
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError

_log = logging.getLogger("slipway.serving")
_NEVER = float("inf")


class ModelManager:
    """All models of a server; implements `serving.server.servable.Models`.

    Args:
        settings: How versions come and go.
        load: Makes a servable of a version directory, given model name, version and directory; runs in a thread.
        unloaded: Called after a version was closed, for example to collect garbage.
    """

    def __init__(self, settings: LifecycleSettings, load: Load, unloaded: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._changed = threading.Condition(threading.RLock())
        self._wake = threading.Event()
        self._steps = VersionSteps(settings, load, unloaded, self._changed, self._wake)
        self._labels: label_rules.Labels = {}
        self._reloading = threading.Lock()
        self._rescan = True
        self._thread: threading.Thread | None = None

    def acquire(self, spec: ModelSpec) -> VersionHandle:
        """Resolve a request to a loaded version; takes a few microseconds, in any thread.

        Raises:
            StatusError: The request names no model, or a model, version or label that is not served.
        """
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        version = spec.version
        if spec.label is not None:
            version = label_rules.resolve(self._labels, spec.name, spec.label)
        while True:
            versions = self._steps.serving.get(spec.name)
            loaded = versions.get(version) if versions is not None else None
            if loaded is None:
                asked = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
                raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
            # None means that it was retired since `serving` was read; the next look finds its successor.
            if (handle := loaded.acquire()) is not None:
                return handle

    def states(self, spec: ModelSpec) -> list[VersionState]:
        """Return the states of the versions of a model, the highest version first.

        Like TensorFlow Serving, a label in the request is passed over, and versions that were unloaded stay in the
        answer with the state END.

        Raises:
            StatusError: NOT_FOUND; the model or version was never seen.
        """
        with self._changed:
            model = self._steps.models.get(spec.name)
            found = [entry.public() for entry in model.versions.values()] if model is not None else []
        if not found and spec.version is None:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.version is not None:
            found = [state for state in found if state.version == spec.version]
            if not found:
                raise StatusError(Code.NOT_FOUND, f"Could not find version {spec.version} of model {spec.name}")
        return sorted(found, key=lambda state: state.version, reverse=True)

    def all_states(self) -> list[tuple[str, VersionState]]:
        """Name of the model and state of every version ever seen."""
        with self._changed:
            return [
                (name, entry.public())
                for name, model in self._steps.models.items()
                for entry in model.versions.values()
            ]

    def reload(self, config: Any) -> None:
        """Take over another `ModelServerConfig` and wait until its new models are available; blocking.

        A new model that has no versions yet is not waited for.

        Raises:
            StatusError: The configuration is refused and nothing changed, or (UNKNOWN) a new model did not load.
        """
        new = self.apply(config)
        if failure := self.wait_until_available(new, need_versions=False):
            raise StatusError(Code.UNKNOWN, failure)

    def start(self, config: Any) -> set[str]:
        """Begin to serve.

        Returns:
            Names of the models, at once, before they are loaded.

        Raises:
            StatusError: The configuration is refused.
        """
        if config.WhichOneof("config") is None:
            _log.warning("the model config is empty: nothing is served until another one is given")
        names = self._apply(to_models(config), first=True)
        self._thread = threading.Thread(target=self._run, name="slipway-versions", daemon=True)
        self._thread.start()
        return names

    def apply(self, config: Any) -> set[str]:
        """Take over another configuration without waiting.

        Returns:
            Names of the models that are new.

        Raises:
            StatusError: The configuration is refused and nothing changed.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported",
            )
        return self._apply(to_models(config), first=False)

    def wait_until_available(
        self, names: Collection[str], *, need_versions: bool = True, timeout_seconds: float | None = None
    ) -> str:
        """Wait until each model has a version available, or none left that may become so.

        Args:
            names: The models.
            need_versions: Whether to wait for the first version of a model that has none.
            timeout_seconds: How long to wait; None for as long as it takes.

        Returns:
            What did not become available and why; empty if all did, or if the server was stopped meanwhile.

        Raises:
            TimeoutError: The time was up.
        """
        with self._changed:
            models = [self._steps.models[name] for name in sorted(names)]

            def settled(model: ModelEntry) -> bool:
                return model.verdict() is not None or (not need_versions and model.empty())

            def done() -> bool:
                return self._steps.stopping or all(settled(model) for model in models)

            if not self._changed.wait_for(done, timeout_seconds):
                raise TimeoutError(f"{', '.join(sorted(names))} not available after {timeout_seconds} seconds")
            self._steps.starting = False
            failed = [text for model in models if (text := model.verdict())]
        return f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}" if failed else ""

    def stop(self, timeout_seconds: float = 30) -> bool:
        """Close all models as soon as their requests are done.

        Returns:
            Whether everything was closed in time; what hangs is left to the end of the process.
        """
        with self._changed:
            self._steps.stopping = True
            self._labels = {}
            self._steps.reconcile_all()
            self._wake.set()
            closed = self._changed.wait_for(self._steps.closed, timeout_seconds)
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return closed

    def _apply(self, configs: Mapping[str, ModelConfig], *, first: bool) -> set[str]:
        with self._reloading:
            models = self._steps.models
            current = {name: model.config for name, model in models.items() if model.config is not None}
            check_same_platforms(current, configs)
            if not first:
                _check_base_paths(configs, current)
            with self._changed:
                self._labels = label_rules.check(
                    configs, self._labels, self._available(), self._settings.labels_for_unavailable
                )
                for name in models.keys() - configs.keys():
                    models[name].config, models[name].found = None, {}
                for name, config in configs.items():
                    self._configure(name, config)
                self._steps.reconcile_all()
                self._rescan = True
                self._wake.set()
            return set(configs) - set(current)

    def _configure(self, name: str, config: ModelConfig) -> None:
        model = self._steps.models.get(name)
        if model is None:
            model = self._steps.models[name] = ModelEntry(name, config, VersionSource(config.base_path, name))
        elif model.config is None or model.config.base_path != config.base_path:
            # What was found below the old path counts until somebody has looked below the new one.
            model.source = VersionSource(config.base_path, name)
        if model.config != config or not model.scanned:
            _log.info("(re-)adding model %s: %s, %s", name, config.base_path, config.policy.describe())
        model.config, model.scanned = config, False

    def _available(self) -> dict[str, set[int]]:
        return {
            name: {number for number, entry in model.versions.items() if entry.state == "AVAILABLE"}
            for name, model in self._steps.models.items()
        }

    def _run(self) -> None:
        """Poll and retry until the server stops."""
        next_scan = 0.0
        while not self._steps.stopping:
            with self._changed:
                forced, self._rescan = self._rescan, False
            if self._settings.poll_seconds >= 0 and (forced or time.monotonic() >= next_scan):
                changing = self._scan_all()
                pause = float(self._settings.poll_seconds) or _NEVER
                next_scan = time.monotonic() + (min(pause, SETTLE_SECONDS) if changing else pause)
            with self._changed:
                self._steps.reconcile_all()
                now = time.monotonic()
                pause = (
                    min(next_scan if self._settings.poll_seconds >= 0 else _NEVER, self._steps.next_retry(now)) - now
                )
            if self._wake.wait(None if pause == _NEVER else max(pause, 0)):
                self._wake.clear()

    def _scan_all(self) -> bool:
        """Look below all base paths; whether some directory is still changing."""
        with self._changed:
            sources = [(model, model.source) for model in self._steps.models.values() if model.config is not None]
        changing = False
        for model, source in sources:
            try:
                found = source.scan()
            except SourceError as error:
                # The path may be away for a moment, so what was found before counts.
                _complain(model, str(error))
                continue
            changing = changing or any(version.changing for version in found.values())
            with self._changed:
                if model.source is source:
                    model.found, model.scanned = found, True
            _complain(model, _problems(model, found))
        return changing


def _check_base_paths(configs: Mapping[str, ModelConfig], current: Mapping[str, ModelConfig]) -> None:
    """Refuse new base paths that are not there, for which a client would wait in vain."""
    for name, config in configs.items():
        known = name in current and current[name].base_path == config.base_path
        if not known and not config.base_path.is_dir():
            raise StatusError(Code.INVALID_ARGUMENT, f"Could not find base path {config.base_path} for servable {name}")


def _problems(model: ModelEntry, found: Mapping[int, Found]) -> str:
    """What is worth a line in the log after a look at a base path."""
    problems = [version.problem for version in found.values() if version.problem and not version.changing]
    policy = model.config.policy if model.config is not None else None
    if policy is not None and policy.versions - set(found):
        missing = ", ".join(map(str, sorted(policy.versions - set(found))))
        problems.append(f"version {missing} of {model.name} is asked for by its policy and not there")
    if not found:
        problems.append(f"no versions of {model.name} found below {model.source.base_path}")
    return "; ".join(problems)


def _complain(model: ModelEntry, complaint: str) -> None:
    """Log a problem once, not at every poll."""
    if complaint and complaint != model.complaint:
        _log.warning("%s", complaint)
    model.complaint = complaint
