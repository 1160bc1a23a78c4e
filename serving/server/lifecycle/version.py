"""One loaded version and the references to it.

Comes in: a servable. Goes out: `VersionHandle`s that requests hold. Made by the manager; a version is closed when it is
retired and the last handle has been given back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from serving.server.servable import Servable


class LoadedVersion:
    """Counts the references to a servable.

    Args:
        name: Name of the model.
        version: Number of the version.
        servable: The loaded model.
    """

    __slots__ = ("_count", "_lock", "_on_idle", "name", "servable", "version")

    def __init__(self, name: str, version: int, servable: Servable) -> None:
        self.name = name
        self.version = version
        self.servable = servable
        self._lock = threading.Lock()
        self._count = 0
        self._on_idle: Callable[[], None] | None = None

    def acquire(self) -> VersionHandle | None:
        """Take a reference; None if the version is retired. Cheap; any thread."""
        with self._lock:
            if self._on_idle is not None:
                return None
            self._count += 1
        return VersionHandle(self)

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Give no more references, and call `on_idle` once, when the last one is back or at once if there is none."""
        with self._lock:
            if self._on_idle is not None:
                raise RuntimeError(f"version {self.version} of {self.name} is retired already")
            self._on_idle = on_idle
            idle = self._count == 0
        if idle:
            on_idle()

    def give_back(self) -> None:
        """Take a reference off; called by the handle."""
        with self._lock:
            self._count -= 1
            on_idle = self._on_idle if self._count == 0 else None
        if on_idle is not None:
            on_idle()


class VersionHandle:
    """A reference to one loaded version; keeps it from being unloaded.

    Example:
        >>> with models.acquire(ModelSpec("pets")) as handle:
        ...     handle.servable.run("serving_default", inputs)
    """

    __slots__ = ("_loaded", "name", "servable", "version")

    def __init__(self, loaded: LoadedVersion) -> None:
        """Use `LoadedVersion.acquire`."""
        self._loaded: LoadedVersion | None = loaded
        self.name = loaded.name
        self.version = loaded.version
        self.servable = loaded.servable

    def release(self) -> None:
        """Give the reference back, exactly once.

        Raises:
            RuntimeError: It was given back before.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            raise RuntimeError(f"a handle of version {self.version} of {self.name} was released twice")
        loaded.give_back()

    def __enter__(self) -> VersionHandle:
        """Give the handle itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the reference back."""
        self.release()
