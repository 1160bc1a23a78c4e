"""One question to a process of our own, for what may abort the process that asks.

Comes in: a module of this package and plain data. Goes out: the plain data that the module answers. Called by
`serving.convert.tftrt_probe` and `serving.convert.tftrt_segments`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.convert.running import last_words
from serving.errors import ConversionError

_LOG_TAIL = 200_000


def ask(
    module: str, question: Mapping[str, Any], environment: Mapping[str, str], timeout_seconds: float
) -> dict[str, Any]:
    """Run `python -m MODULE QUESTION.json ANSWER.json` and read the answer.

    The process stays in the group of this one, so that whoever kills this one's group ends it, too.

    Args:
        module: The module to run; its `__main__` calls `answer`.
        question: JSON-able.
        environment: Changes to the environment of this process.
        timeout_seconds: Wall time after which the process is killed.

    Returns:
        What it answered.

    Raises:
        ConversionError: It refused with a reason, aborted, crashed, hung, or left no answer.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-child-") as scratch:
        asked, answered, log = (Path(scratch) / name for name in ("question.json", "answer.json", "log.txt"))
        asked.write_text(json.dumps(dict(question)), encoding="utf-8")
        command = [sys.executable, "-W", "ignore", "-m", module, str(asked), str(answered)]
        code = _run(command, log, {**os.environ, "TF_USE_LEGACY_KERAS": "1", **environment}, timeout_seconds)
        words = last_words(log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace"))
        last = f"; its last words: {words}" if words else ""
        if code is None:
            raise ConversionError(f"{module} took longer than {timeout_seconds:g} seconds and was ended{last}")
        if code < 0:
            known = -code in set(signal.Signals)
            name = signal.Signals(-code).name if known else f"signal {-code}"
            raise ConversionError(f"{module} was ended by {name}{last}")
        try:
            data = json.loads(answered.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConversionError(f"{module} ended with exit code {code} and no answer{last}") from error
    if "refused" in data:
        raise ConversionError(data["refused"])
    found: dict[str, Any] = data["answer"]
    return found


def answer(arguments: Sequence[str], respond: Callable[[dict[str, Any]], Mapping[str, Any]]) -> int:
    """Be the process that is asked.

    Args:
        arguments: The paths of the question and of the answer.
        respond: Gives the answer; its `ConversionError` and other errors of ours are passed on in words.

    Returns:
        The exit code.
    """
    asked, answered = map(Path, arguments)
    try:
        data: dict[str, Any] = {"answer": dict(respond(json.loads(asked.read_text(encoding="utf-8"))))}
    except ValueError as error:
        data = {"refused": str(error)}
    answered.write_text(json.dumps(data), encoding="utf-8")
    return 0


def _run(command: list[str], log: Path, environment: dict[str, str], timeout_seconds: float) -> int | None:
    # Run beside the package: whatever the caller's directory holds cannot shadow modules of the child.
    root = Path(__file__).resolve().parents[2]
    with log.open("wb") as stream:
        try:
            return subprocess.run(
                command,
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=timeout_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return None
