"""One container of a specification as a process of this machine.

Comes in: command and arguments, the stage's inputs and outputs. Goes out: what the stage wrote about its outputs.
Called by the rehearsal. The interpreter is this one in place of the image's, buckets and volumes are folders, and
Google's clients are stand-ins (`pipeline.runners.vertex.stand_ins`); all else is what the service would run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.mounts import FOLDERS, MOUNT_ROOT

_PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](\.uri)?\}\}")
_PACKAGES = Path(__file__).resolve().parents[3]
_STAND_INS = "pipeline.runners.vertex.stand_ins"
_LAST_LINES = 6


class ContainerFailed(RuntimeError):
    """A container ended with another exit code than 0.

    Attributes:
        code: the exit code; None: it took too long.
    """

    def __init__(self, sentence: str, code: int | None):
        """Keep sentence and exit code."""
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Machine:
    """This machine in place of the service's.

    Attributes:
        folder: stands for the root of every container's file system, as far as buckets and volumes go.
        volumes: where volumes are mounted.
        here: paths of containers that lie elsewhere on this machine, such as the data.
        timeout_seconds: time limit of a container.
    """

    folder: Path
    volumes: Sequence[str] = ()
    here: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 3600

    def paths_here(self, text: str) -> str:
        """Return a text with every path of a container replaced by that on this machine."""
        for inside, outside in self.here.items():
            text = re.sub(rf"(?<![\w./-]){re.escape(inside)}(?![\w-])", outside.replace("\\", r"\\"), text)
        mounts = [folder.rstrip("/") for folder in FOLDERS.values()] + [volume.rstrip("/") for volume in self.volumes]
        pattern = rf"(?<![\w./-])({'|'.join(map(re.escape, mounts))})/"
        return re.sub(pattern, lambda match: f"{self.folder}{match[1]}/", text)

    def run(self, name: str, container: Mapping[str, Any], call: Mapping[str, Any], log: Path) -> None:
        """Run a container to its end.

        Args:
            name: of the task, for messages.
            container: `command` and `args`.
            call: inputs and outputs, which take the place of `{{$}}`.
            log: file for what it prints.

        Raises:
            ContainerFailed: it failed, or took too long.
            ConfigError: the command isn't Python's.
        """
        words = [filled(word, call) for word in (*container.get("command", []), *container.get("args", []))]
        if words[:2] != ["python", "-m"] or len(words) < 3:
            raise ConfigError(f"{name}: only 'python -m MODULE' can be rehearsed; its command is {words[:3]}")
        command = [sys.executable, "-m", _STAND_INS, *words[2:]]
        paths = os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, MOUNT_ROOT: str(self.folder), "PYTHONPATH": paths}
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(self.timeout_seconds)
            except subprocess.TimeoutExpired:
                _end(process)
                raise ContainerFailed(f"it took more than {self.timeout_seconds:g} seconds; log: {log}", None) from None
            except BaseException:
                _end(process)
                raise
        if code:
            raise ContainerFailed(_why(log), code)


def filled(word: str, call: Mapping[str, Any]) -> str:
    """Return one word of a command with its placeholders filled, as the service does."""
    if word == "{{$}}":
        return json.dumps(call)

    def value(match: re.Match[str]) -> str:
        side, kind, key, uri = match.groups()
        if kind == "parameters":
            parameters = call[side].get("parameterValues", call[side].get("parameters", {}))
            inner = parameters[key]
            return str(next(iter(inner.values())) if isinstance(inner, dict) else inner)
        artifact = call[side]["artifacts"][key]["artifacts"][0]
        return str(artifact["uri"] if uri else artifact["name"])

    try:
        return _PLACEHOLDER.sub(value, word)
    except (KeyError, IndexError) as error:
        raise ConfigError(f"the placeholder in {word!r} asks for something that isn't there: {error}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _why(log: Path) -> str:
    """Return the last lines of a log, our own sentence first if there is one."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ours = [line.removeprefix("slipway: ") for line in lines if line.startswith("slipway: ")]
    return ours[-1] if ours else " | ".join(lines[-_LAST_LINES:]) or f"it printed nothing; log: {log}"
