"""Runs the tools of the set-up: their output goes to the log, a person sees one line a step.

In comes a command with its environment; out goes an `Outcome`. Called by every step of the set-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HEARTBEAT_SECONDS = 15.0
PROBE_SECONDS = 60.0


class Outcome(NamedTuple):
    """How a tool ended: its exit code (127 where it could not be started) and what it printed."""

    code: int
    output: str


def to_stderr(line: str) -> None:
    """Print one line for the person at the terminal."""
    print(line, file=sys.stderr, flush=True)


def ask(command: Sequence[str], env: Mapping[str, str], seconds: float = PROBE_SECONDS) -> Outcome:
    """Run a short question such as `uv --version`; a tool that hangs or cannot be started is a failed one."""
    try:
        done = subprocess.run(
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Outcome(127, str(error))
    text = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    return Outcome(done.returncode, text.decode("utf-8", "replace").strip())


class Runner:
    """Runs the long steps, keeps their output in a log file and says now and then that they are alive."""

    def __init__(
        self,
        log: Path,
        env: Mapping[str, str],
        say: Callable[[str], None] = to_stderr,
        keep_open: Sequence[int] = (),
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Start a new log.

        Args:
            log: the log file; an older one is replaced.
            env: environment of the tools, extended per call.
            say: shows one line to the person.
            keep_open: file descriptors that the tools inherit. The set-up's lock is one, so that a tool that
                outlives a killed set-up still holds it.
            heartbeat: seconds between two signs of life.
        """
        self.log = log
        self.env = dict(env)
        self.say = say
        self._keep_open = tuple(keep_open)
        self._heartbeat = heartbeat
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")

    def note(self, text: str) -> None:
        """Write a line into the log only."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(text.rstrip("\n") + "\n")

    def run(self, command: Sequence[str], **extra_env: str) -> Outcome:
        """Run one step to its end, its output into the log."""
        self.note("$ " + " ".join(command))
        start = self.log.stat().st_size
        with self.log.open("ab") as log:
            try:
                process = subprocess.Popen(
                    list(command),
                    env={**self.env, **extra_env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=self._keep_open,
                )
            except OSError as error:
                self.note(str(error))
                return Outcome(127, str(error))
            code = self._wait(process, start)
        return Outcome(code, self._printed_since(start))

    def _wait(self, process: subprocess.Popen[bytes], start: int) -> int:
        begun, last = time.monotonic(), ""
        try:
            while True:
                try:
                    return process.wait(timeout=self._heartbeat)
                except subprocess.TimeoutExpired:
                    lines = self._printed_since(start).strip().splitlines()
                    line = lines[-1].strip()[:70] if lines else ""
                    # uv compiles the bytecode after this line, for a minute or more, and says nothing meanwhile.
                    silent = "compiling the packages' bytecode" if line.startswith("Installed ") else "still at work"
                    news, last = (line if line != last else ""), line
                    self.say(f"      {time.monotonic() - begun:.0f} s: {news or silent}")
        except BaseException:
            process.terminate()
            process.wait()
            raise

    def _printed_since(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")


def inherited_environment() -> dict[str, str]:
    """The caller's environment without what would make the tools look at another environment than ours."""
    misleading = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON"}
    misleading |= {"UV_PROJECT_ENVIRONMENT", "UV_PROJECT", "PYENV_VERSION", "__PYVENV_LAUNCHER__"}
    misleading |= {
        "UV_REQUIRE_HASHES",
        "UV_NO_BINARY",
        "UV_NO_BUILD",
        "PIP_USER",
        "PIP_TARGET",
        "PIP_REQUIRE_VIRTUALENV",
    }
    return {key: value for key, value in os.environ.items() if key not in misleading}
