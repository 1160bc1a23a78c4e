"""Counts of answers, from several processes, through restarts and damage."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from serving.traffic.outcomes import Outcomes, forget_old, gather
from serving.traffic.state import TrafficFile, TrafficState

RUNNING = TrafficState(
    model="pets",
    base_path="/pets",
    stable=2,
    canary=3,
    weight=0.5,
    phase="running",
    rollout="r1",
    steps=(0.5, 1.0),
    step=0,
)


@pytest.fixture()
def file(tmp_path: Path) -> TrafficFile:
    file = TrafficFile(tmp_path)
    file.write(RUNNING)
    return file


def test_answers_are_counted_per_version_over_processes(file: TrafficFile) -> None:
    for _ in range(2):
        outcomes = Outcomes(file.directory, flush_seconds=0)
        outcomes.record("stable", 2, True, 200, 12.0, 1, 0.9)
        outcomes.record("canary", 3, True, 200, 24.0, 1, 0.8)
        outcomes.record("canary", None, False, 503, 1.0, request_id="a")
        outcomes.close()

    found = gather(file.directory, RUNNING)

    assert (found.stable.answers, found.canary.answers, found.canary.failures) == (2, 4, 2)
    assert found.canary.statuses == {"200": 2, "503": 2}
    assert found.canary.failed_requests == ["a", "a"]


def test_flushing_twice_counts_once(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.flush()
    outcomes.flush()
    outcomes.close()

    assert gather(file.directory, RUNNING).stable.answers == 1


def test_steps_are_counted_apart(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record("stable", 2, True, 200, 12.0)
    later = RUNNING.changed(step=1)
    file.write(later)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.close()

    assert gather(file.directory, later, step=0).stable.answers == 1
    assert gather(file.directory, later, step=1).stable.answers == 2
    assert gather(file.directory, later).stable.answers == 3


def test_latecomers_of_another_version_are_not_counted(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record("canary", 2, True, 200, 12.0)
    outcomes.record("strange", 3, True, 200, 12.0)
    outcomes.close()

    assert gather(file.directory, RUNNING).canary.answers == 0


def test_shadow_answers_are_apart_and_know_their_agreement(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record_shadow(3, True, 200, 12.0, 1, 0.9, agreed=True)
    outcomes.record_shadow(3, True, 200, 12.0, 2, 0.9, agreed=False)
    outcomes.record_shadow(None, False, 503, 12.0)
    outcomes.close()

    found = gather(file.directory, RUNNING)

    assert (found.shadow.answers, found.shadow.agreed, found.shadow.disagreed) == (3, 1, 1)
    assert found.canary.answers == found.stable.answers == 0


def test_feedback_is_counted(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    for right in (True, True, False):
        outcomes.record_feedback("canary", 3, right)
    outcomes.close()

    found = gather(file.directory, RUNNING)

    assert (found.canary.right, found.canary.wrong) == (2, 1)


def test_a_thread_writes_them_down(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0.01)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.close()

    assert gather(file.directory, RUNNING).stable.answers == 1
    assert not any(thread.name == "traffic-outcomes" for thread in threading.enumerate())


def test_many_threads_lose_nothing(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0.001)

    def record() -> None:
        for _ in range(500):
            outcomes.record("stable", 2, True, 200, 12.0, 1, 0.5)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes.close()

    assert gather(file.directory, RUNNING).stable.answers == 2000


@pytest.mark.parametrize("content", ["", "{", "[]", '{"epochs": 1}', '{"epochs": {"r1/0": {"stable@2": 5}}}'])
def test_a_damaged_file_is_passed_over(file: TrafficFile, content: str) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.close()
    (file.directory / "outcomes" / "0-damaged.json").write_text(content)

    assert gather(file.directory, RUNNING).stable.answers == 1


def test_a_disk_that_cannot_be_written_does_no_harm_and_loses_nothing(file: TrafficFile) -> None:
    (file.directory / "outcomes").write_text("a file where the folder should be")
    outcomes = Outcomes(file.directory, flush_seconds=0)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.flush()
    (file.directory / "outcomes").unlink()
    outcomes.close()

    assert gather(file.directory, RUNNING).stable.answers == 1


def test_without_a_state_answers_are_counted_for_nobody(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path, flush_seconds=0)
    outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.close()

    assert gather(tmp_path, RUNNING).stable.answers == 0


def test_memory_is_bounded_over_rollouts(file: TrafficFile) -> None:
    outcomes = Outcomes(file.directory, flush_seconds=0)
    for number in range(50):
        file.write(RUNNING.changed(rollout=f"rollout-{number}"))
        outcomes.record("stable", 2, True, 200, 12.0)
    outcomes.close()
    written = json.loads(next((file.directory / "outcomes").glob("*.json")).read_text())

    assert len(written["epochs"]) == 32
    assert "rollout-49/0" in written["epochs"]


def test_only_files_of_processes_long_gone_are_forgotten(file: TrafficFile) -> None:
    folder = file.directory / "outcomes"
    folder.mkdir()
    for name, rollout, age in (("old", "r0", 7200), ("present", "r1", 7200), ("fresh", "r0", 10)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"epochs": {f"{rollout}/0": {}}}))
        os.utime(path, (1e9 - age, 1e9 - age))

    forget_old(file.directory, RUNNING, clock=lambda: 1e9)

    assert sorted(path.stem for path in folder.iterdir()) == ["fresh", "present"]
