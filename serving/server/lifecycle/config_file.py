"""The model config file, read again and again.

Comes in: the path of a file that an operator or a rollout controller rewrites. Goes out: calls of the manager. Made by
`serving.server.running` where `--model_config_file_poll_wait_seconds` is set.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.server.config.text_protos import ConfigFileError, parse
from serving.server.status import StatusError

_log = logging.getLogger("slipway.serving")


class ConfigFilePoller:
    """Reads a model config file at intervals and applies it when it says something new.

    A file that is refused is tried again at every poll, because a label may point to a version that is still loading;
    the reason is logged when it changes. Unlike the real server, which applies the file at every poll, a configuration
    that came by HandleReloadConfig stays until the file changes.

    Args:
        path: The file.
        seconds: Pause between two looks.
        apply: Takes a `ModelServerConfig` over.
    """

    def __init__(self, path: Path, seconds: float, apply: Callable[[Any], object]) -> None:
        self._path = path
        self._seconds = seconds
        self._apply = apply
        self._content = _read(path)
        self._refused = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slipway-config", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def poll(self) -> None:
        """Look once."""
        content = _read(self._path)
        if content == self._content and not self._refused:
            return
        refused = self._take_over(content)
        if refused and refused != self._refused:
            _log.error("the model config file is not taken over: %s", refused)
        self._content, self._refused = content, refused

    def _take_over(self, content: bytes | None) -> str:
        """Apply the content; why it was refused, or an empty text."""
        from tensorflow_serving.config import model_server_config_pb2

        if content is None:
            return f"{self._path} cannot be read"
        try:
            self._apply(parse(content, model_server_config_pb2.ModelServerConfig(), str(self._path)))
        except ConfigFileError as error:
            return str(error)
        except StatusError as error:
            return f"{self._path}: {error.message}"
        _log.info("took over the model config file %s", self._path)
        return ""

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.poll()
            except Exception:
                _log.exception("looking at %s failed", self._path)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
