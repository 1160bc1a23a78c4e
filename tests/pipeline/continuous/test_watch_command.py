"""`slipway watch` as a process: it starts runs of its own, is killed, and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.app import run
from pipeline.workdir import WorkDir

START = "from pipeline.__main__ import main; main()"

YAML = """
name: watched
data: {source: data}
transform: {size: [8, 8]}
retrain: {quiet_seconds: 0, poll_seconds: 0.2}
"""


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        # No image, so a run of it ends at the ingestion with a sentence.
        (tmp_path / "data" / name / "1.png").write_bytes(b"no image")
    path = tmp_path / "watched.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


@pytest.fixture
def watch(file: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        words = ["watch", str(file), "--workdir", str(tmp_path / "work"), "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-c", START, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.e2e
def test_a_watch_that_is_killed_leaves_a_state_from_which_the_next_goes_on(watch, file, tmp_path, capsys):
    state, lock = tmp_path / "work" / "watch.json", tmp_path / "work" / "lock"

    def last() -> dict[str, Any]:
        return (json.loads(state.read_text())["last"] or {}) if state.exists() else {}

    process = watch()
    until(lambda: last().get("outcome") == "running")
    until(lambda: lock.read_text() not in ("", str(process.pid)))
    holder = int(lock.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    look = ["watch", str(file), "--workdir", str(tmp_path / "work"), "--once", "--set", "retrain.attempts=1"]
    assert run(look) == 0
    assert last()["outcome"] == "running", "the run went on without the watch, and is waited for"
    os.kill(holder, signal.SIGKILL)
    until(lambda: run(look) == 0 and last()["outcome"] == "failed")
    assert "was interrupted" in capsys.readouterr().out
    assert (last()["count"], last()["retry_at"]) == (1, 0), "its only attempt is used up"


def test_one_watch_a_work_directory(file, tmp_path, capsys):
    workdir = WorkDir.of("watched", tmp_path / "work")
    workdir.create()
    with workdir.lock_part("watch"):
        assert run(["watch", str(file), "--workdir", str(workdir.root), "--once"]) == 2
    assert "another `slipway watch` (process" in capsys.readouterr().err


def test_one_look_without_data_says_so_and_ends(file, tmp_path, capsys):
    (tmp_path / "data/a/1.png").unlink()
    assert run(["watch", str(file), "--workdir", str(tmp_path / "work"), "--once"]) == 0
    assert "the data can't be used" in capsys.readouterr().out
