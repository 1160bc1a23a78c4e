"""A controller that is killed between any two things it does, and the one that comes after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.traffic import history, rollout
from serving.traffic.state import TrafficFile
from tests.serving.traffic.fakes import FakeServer, Scene


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` sees it."""


class Killer:
    """Kills before or after the n-th thing that leaves a trace outside the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: float = float("inf")
        self.done = 0
        for holder, name in (
            (TrafficFile, "write"),
            (history, "catch_up"),
            (rollout, "write_config"),
            (FakeServer, "tell"),
        ):
            monkeypatch.setattr(holder, name, self._around(getattr(holder, name)))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            self._count()
            result = function(*arguments)
            self._count()
            return result

        return watched

    def _count(self) -> None:
        self.done += 1
        if self.done > self.left:
            raise Killed


def check(scene: Scene) -> None:
    """What must hold at every moment, whoever is dead."""
    assert scene.server.unserved == []
    assert scene.server.answer("stable") in (2, 3)
    assert scene.server.answer("canary") in (2, 3)
    state = scene.state
    if state.weight > 0 and state.phase == "running":
        assert scene.server.answer("canary") == state.canary
    versions, labels = rollout_file(scene)
    assert set(labels.values()) <= set(versions)


def rollout_file(scene: Scene) -> tuple[list[int], dict[str, int]]:
    from tests.serving.traffic.fakes import parse

    return parse((scene.state_dir / rollout.CONFIG_FILE).read_text())


COMMANDS: dict[str, Callable[[Scene], Any]] = {
    "start": lambda scene: scene.another().start(3),
    "promote": lambda scene: scene.another().promote(force=True),
    "abort": lambda scene: scene.another().abort(),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_anywhere_the_next_one_goes_on(state_dir: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    killer = Killer(monkeypatch)
    saved = (state_dir / "traffic.json").read_bytes(), (state_dir / "models.config").read_bytes()
    kept_history = (state_dir / "decisions.jsonl").read_bytes()
    kills = 0
    while True:
        for name, content in zip(
            ("traffic.json", "models.config", "decisions.jsonl"), (*saved, kept_history), strict=True
        ):
            (state_dir / name).write_bytes(content)
        scene = Scene(state_dir)
        if command != "start":
            scene.another().start(3)
        killer.done, killer.left = 0, kills
        try:
            COMMANDS[command](scene)
            killed = False
        except Killed:
            killed = True
        killer.left = float("inf")
        check(scene)
        # Whoever comes next, the watching loop or a command, carries on with what was begun.
        state = scene.another(by="watch").settle()
        check(scene)
        if not killed:
            break
        kills += 1
        if state.phase == "idle" and command == "start":
            assert state.canary is None and scene.server.answer("canary") == 2
        sequences = [entry.sequence for entry in history.read(state_dir)]
        assert sequences == list(range(1, len(sequences) + 1))
        assert rollout_file(scene)[1] == scene.server.labels

    final = {"start": (2, 3), "promote": (3, None), "abort": (2, None)}[command]
    assert (scene.state.stable, scene.state.canary) == final
    assert kills > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_the_server_starts_again_wherever_the_controller_was_killed(
    state_dir: Path, published: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    killer = Killer(monkeypatch)
    names = ("traffic.json", "models.config", "decisions.jsonl")
    saved = [(state_dir / name).read_bytes() for name in names]
    for kills in range(0, 50, 5):
        for name, content in zip(names, saved, strict=True):
            (state_dir / name).write_bytes(content)
        scene = Scene(state_dir)
        if command != "start":
            scene.another().start(3)
        killer.done, killer.left = 0, kills
        with contextlib.suppress(Killed):
            COMMANDS[command](scene)
        killer.left = float("inf")
        rollout.ensure(published, "pets", state_dir)
        scene.server.start()
        check(scene)
        scene.another().settle()
        check(scene)


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom serving.traffic.state import TrafficFile\n"
        "with TrafficFile(sys.argv[1]).locked():\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    with TrafficFile(tmp_path).locked(1.0):
        pass
