"""Starting `slipway run` and `slipway drift` in processes of their own.

A run leaves memory behind that TensorFlow never gives back, and may abort its process. So `slipway watch` starts the
command that a person would type, and reads its exit code.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SECONDS_TO_END = 30
_DRIFTED = 3


def run_command(config: Path, workdir: Path, overrides: Sequence[str], quiet: bool) -> int:
    """Run the pipeline and return the exit code of `slipway run`.

    Args:
        config: the YAML file.
        workdir: the work directory.
        overrides: for `--set`.
        quiet: whether the run shows no stages.
    """
    command = [*_slipway("run", str(config)), "--workdir", str(workdir), *(["--quiet"] if quiet else [])]
    with subprocess.Popen([*command, *_sets(overrides)], stdin=subprocess.DEVNULL) as process:
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    return 128 - code if code < 0 else code


def drift_command(config: Path, workdir: Path, overrides: Sequence[str]) -> str | None:
    """Compare requests with training data, and return the finding in a sentence if they have drifted.

    Args:
        config: the YAML file.
        workdir: the work directory.
        overrides: for `--set`.
    """
    command = [*_slipway("drift"), "--config", str(config), "--workdir", str(workdir), "--json", *_sets(overrides)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != _DRIFTED:
        return None
    return str(json.loads(done.stdout)["sentence"])


def _slipway(*words: str) -> list[str]:
    # `python -m` would look for the package in the current folder first, which is the user's.
    start = "import runpy, sys; del sys.path[0]; runpy.run_module('pipeline', run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", start, *words]


def _sets(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a run to end as Ctrl-C does, which it notes in its record; kill it if it doesn't."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
