"""When a watch starts a run and when not; the run itself is a stand-in that leaves a record."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.continuous.state import FAILED, REFUSED, RUNNING, SUCCEEDED, WatchState
from pipeline.continuous.watching import Watcher
from pipeline.errors import ConfigError
from pipeline.fingerprint import code_hashes
from pipeline.records import STAGE_FAILED, StageRecord, new_record
from pipeline.running import pin_spans, run_fingerprint
from pipeline.stage_keys import data_fingerprint, stage_keys
from pipeline.workdir import WorkDir

YAML = """
name: watched
data:
  source: {source}
transform: {{size: [8, 8]}}
retrain: {{quiet_seconds: 30, attempts: 3, backoff_seconds: 100, backoff_max_seconds: 150}}
"""
HOUR = 3600.0


class Killed(BaseException):
    """What kill -9 does to a process: nothing after it is done."""


class World:
    """A config, its data, a clock, and runs that end as the test says."""

    def __init__(self, root: Path):
        self.root = root
        self.data = root / "data"
        self.now = 0.0
        self.file = root / "watched.yaml"
        self.source("data")
        self.workdir = WorkDir.of("watched", root / "work")
        self.workdir.create()
        self.lines: list[str] = []
        self.calls: list[list[str]] = []
        self.outcome: Callable[[Sequence[str]], int] = self.succeeds
        self.drifted: str | None = None
        self.compared = 0

    def source(self, source: str) -> None:
        self.file.write_text(YAML.format(source=source), encoding="utf-8")

    def write(self, name: str, content: bytes = b"picture", *, old: bool = True) -> None:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        latest = max(p.lstat().st_ctime for p in self.root.rglob("*"))
        self.now = latest + (31 if old else 1)

    def run(self, overrides: Sequence[str]) -> int:
        self.calls.append(list(overrides))
        return self.outcome(overrides)

    def record(self, overrides: Sequence[str], state: str, stages: Sequence[StageRecord] = (), error: str = "") -> None:
        config = pin_spans(load(self.file, overrides).config)
        fingerprint = run_fingerprint(config, stage_keys(config, data_fingerprint(config)))
        record = new_record(config.name, str(self.file), "", fingerprint)
        record.state, record.stages, record.error = state, list(stages), error
        record.save(self.workdir.records)

    def succeeds(self, overrides: Sequence[str]) -> int:
        self.record(overrides, "succeeded")
        return 0

    def is_refused(self, overrides: Sequence[str]) -> int:
        self.record(overrides, "refused")
        return 3

    def breaks(self, overrides: Sequence[str]) -> int:
        return 1

    def finds_a_fault(self, stage: str) -> Callable[[Sequence[str]], int]:
        def outcome(overrides: Sequence[str]) -> int:
            self.record(overrides, "failed", [StageRecord(stage, STAGE_FAILED)], "7 images are unreadable")
            return 2

        return outcome

    def is_killed(self, overrides: Sequence[str]) -> int:
        raise Killed

    def compare(self) -> str | None:
        self.compared += 1
        return self.drifted

    def look(self, *overrides: str, seconds: float = 1.0) -> str | None:
        """Look once with a new watch; return the outcome of the run, if there was one."""
        self.now += seconds
        watcher = Watcher(
            self.file, overrides, self.workdir, self.run, self.compare, self.lines.append, lambda: self.now
        )
        attempt = watcher.step()
        return attempt.outcome if attempt is not None else None

    @property
    def state(self) -> WatchState:
        return WatchState.load(self.workdir.root)


@functools.cache
def hashes_of(entries: tuple[str, ...], extra: tuple[Path, ...]) -> dict[str, str]:
    return code_hashes(entries, extra)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    # The code does not change while the tests run, and hashing it is most of what a look costs.
    monkeypatch.setattr(
        "pipeline.stage_keys.code_hashes", lambda entries, extra: hashes_of(tuple(entries), tuple(extra))
    )
    made = World(tmp_path)
    for name in ("a/1.png", "b/1.png"):
        made.write(name, name.encode())
    return made


def test_data_is_run_once(world):
    assert world.look() == SUCCEEDED
    assert [world.look() for _ in range(3)] == [None] * 3
    world.write("a/2.png", b"more")
    assert world.look() == SUCCEEDED
    assert world.look() is None
    assert len(world.calls) == 2


def test_an_unchanged_folder_is_not_read_again(world, monkeypatch):
    assert world.look() == SUCCEEDED
    monkeypatch.setattr("pipeline.continuous.watching.input_fingerprint", lambda *_: pytest.fail("it was read"))
    assert world.look() is None


def test_names_and_times_are_no_new_data(world):
    assert world.look() == SUCCEEDED
    (world.data / "a/1.png").rename(world.data / "a/9.png")
    os.utime(world.data / "b/1.png", (1, 1))
    assert world.look(seconds=HOUR) is None
    assert len(world.calls) == 1


def test_a_run_by_hand_is_not_made_again(world):
    world.succeeds([])
    assert world.look() is None
    assert world.calls == []


def test_half_a_run_by_hand_does_not_count(world):
    world.record([], "succeeded", [StageRecord("Trainer", "left out")])
    assert world.look() == SUCCEEDED


def test_data_on_its_way_is_left_alone_until_it_rests(world):
    world.write("a/2.png", b"more", old=False)
    assert world.look() is None
    assert "still changing" in world.lines[-1]
    before = len(world.lines)
    assert world.look() is None
    assert len(world.lines) == before
    assert world.look(seconds=40) == SUCCEEDED


def test_a_span_on_its_way_is_left_out_of_a_run_on_the_others(world, monkeypatch):
    world.source("data/span-{SPAN}/v{VERSION}")
    for name in ("span-1/v1/a/1.png", "span-1/v1/b/1.png"):
        world.write(name, name.encode())
    for name in ("span-2/v1/a/1.png", "span-2/v1/b/1.png"):
        world.write(name, name.encode(), old=False)
    changed = {"span-1": world.now - 100, "span-2": world.now}
    monkeypatch.setattr("pipeline.continuous.looking.last_change", lambda folder: changed[Path(folder).parent.name])
    assert world.look() == SUCCEEDED
    assert world.calls[-1] == ['data.spans.only=["1/1"]']
    assert "2/1 left out, still changing" in world.lines[0]
    assert world.look(seconds=60) == SUCCEEDED
    assert world.calls[-1] == ['data.spans.only=["1/1", "2/1"]']


def test_a_refused_input_is_not_run_again_and_a_new_one_is(world):
    world.outcome = world.is_refused
    assert world.look() == REFUSED
    assert [world.look(seconds=HOUR) for _ in range(3)] == [None] * 3
    assert world.look("train.epochs=3") == REFUSED
    assert len(world.calls) == 2


def test_failing_runs_wait_longer_and_longer_and_then_for_a_change(world):
    world.outcome = world.breaks
    assert world.look() == FAILED
    assert "attempt 2 in 100 s" in world.lines[-1]
    assert world.look(seconds=90) is None
    assert world.look(seconds=11) == FAILED
    assert "attempt 3 in 150 s" in world.lines[-1]
    assert world.look(seconds=149) is None
    assert world.look(seconds=2) == FAILED
    assert "nothing runs until data, config or code change" in world.lines[-1]
    assert [world.look(seconds=24 * HOUR) for _ in range(3)] == [None] * 3
    world.write("a/2.png", b"more")
    world.outcome = world.succeeds
    assert world.look() == SUCCEEDED


def test_new_data_does_not_wait_for_the_old_failure(world):
    world.outcome = world.breaks
    assert world.look() == FAILED
    world.write("a/2.png", b"repaired")
    world.now = world.state.last.retry_at - 60
    assert world.look() == FAILED
    assert world.state.last.count == 1


def test_a_fault_of_the_data_is_not_tried_again(world):
    world.outcome = world.finds_a_fault("ExampleGen")
    assert world.look() == FAILED
    assert "7 images are unreadable" in world.lines[-1]
    assert world.look(seconds=24 * HOUR) is None
    assert len(world.calls) == 1


def test_a_full_disk_is_no_fault_of_the_data(world):
    world.outcome = world.finds_a_fault("Pusher")
    assert world.look() == FAILED
    assert world.look(seconds=101) == FAILED


def test_data_that_cannot_be_used_is_said_once_and_looked_at_again(world):
    (world.data / "b/1.png").rename(world.root / "aside.png")
    world.now += 100
    assert world.look() is None
    assert "the data can't be used" in world.lines[-1] and "one class with images" in world.lines[-1]
    assert world.look() is None and len(world.lines) == 1
    (world.root / "aside.png").rename(world.data / "b/1.png")
    assert world.look(seconds=100) == SUCCEEDED


class TestKilled:
    def test_the_run_counts_as_an_attempt_and_is_made_again(self, world):
        world.outcome = world.is_killed
        with pytest.raises(Killed):
            world.look()
        assert world.state.last.outcome == RUNNING
        world.outcome = world.succeeds
        assert world.look() == SUCCEEDED
        assert world.state.last.count == 2

    def test_one_that_kills_the_machine_each_time_is_given_up(self, world):
        world.outcome = world.is_killed
        for _ in range(3):
            with pytest.raises(Killed):
                world.look()
        assert world.look() is None
        assert world.look(seconds=24 * HOUR) is None
        assert len(world.calls) == 3

    def test_the_run_may_have_gone_on_and_finished(self, world):
        def dies_after_it_is_done(overrides: Sequence[str]) -> int:
            world.succeeds(overrides)
            raise Killed

        world.outcome = dies_after_it_is_done
        with pytest.raises(Killed):
            world.look()
        assert world.look() is None
        assert world.state.last.outcome == SUCCEEDED
        assert len(world.calls) == 1

    def test_the_run_may_still_go_on(self, world):
        world.outcome = world.is_killed
        with pytest.raises(Killed):
            world.look()
        with world.workdir.lock():
            assert world.look() is None
        assert len(world.calls) == 1

    def test_a_torn_state_is_never_left(self, world):
        world.look()
        names = [path.name for path in world.workdir.root.glob("watch.json*")]
        assert names == ["watch.json"]
        json.loads((world.workdir.root / "watch.json").read_text())


def test_another_run_in_the_work_directory_is_waited_for(world):
    with world.workdir.lock():
        assert world.look() is None
        assert "another run is using" in world.lines[-1]
    assert world.look() == SUCCEEDED


class TestSchedule:
    ON_SCHEDULE = ("retrain.triggers=[schedule]", "retrain.schedule='0 * * * *'")

    def test_new_data_waits_for_its_hour(self, world):
        world.now = world.now - world.now % HOUR + 90
        assert world.look(*self.ON_SCHEDULE) is None
        assert world.look(*self.ON_SCHEDULE, seconds=60) is None
        assert world.look(*self.ON_SCHEDULE, seconds=HOUR) == SUCCEEDED
        assert world.look(*self.ON_SCHEDULE, seconds=60) is None

    def test_without_new_data_the_hour_passes(self, world):
        world.now = world.now - world.now % HOUR + 90
        world.look(*self.ON_SCHEDULE)
        assert world.look(*self.ON_SCHEDULE, seconds=HOUR) == SUCCEEDED
        assert world.look(*self.ON_SCHEDULE, seconds=HOUR) is None
        assert "nothing new to learn from since run" in world.lines[-1]

    def test_an_hour_that_came_while_no_watch_was_running_is_made_up_for(self, world):
        world.look(*self.ON_SCHEDULE)
        assert world.look(*self.ON_SCHEDULE, seconds=30 * HOUR) == SUCCEEDED

    def test_an_hour_with_data_on_its_way_is_not_forgotten(self, world):
        world.look(*self.ON_SCHEDULE)
        world.now += 2 * HOUR
        with world.workdir.lock():
            assert world.look(*self.ON_SCHEDULE) is None
        assert world.look(*self.ON_SCHEDULE, seconds=60) == SUCCEEDED


class TestDrift:
    ON_DRIFT = ("retrain.triggers=[drift]", "retrain.log=/logs", "retrain.drift_check_seconds=600")

    def test_new_data_is_run_once_requests_have_drifted(self, world):
        assert world.look(*self.ON_DRIFT) is None
        world.drifted = "brightness differs"
        assert world.look(*self.ON_DRIFT) is None
        assert world.compared == 1
        assert world.look(*self.ON_DRIFT, seconds=600) == SUCCEEDED
        assert world.lines[0] == "brightness differs"

    def test_drift_without_new_data_trains_nothing(self, world):
        world.drifted = "brightness differs"
        assert world.look(*self.ON_DRIFT) == SUCCEEDED
        assert world.look(*self.ON_DRIFT, seconds=600) is None
        assert "drift: nothing new to learn from" in world.lines[-1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retrain.triggers=[schedule]", "schedule is not set"),
        ("retrain.triggers=[drift]", "log is not set"),
        ("retrain.triggers=[]", "expected one or more"),
        ("retrain.schedule='61 * * * *'", "'61' is no minute"),
    ],
)
def test_triggers_that_lack_what_they_need(world, override, message):
    with pytest.raises(ConfigError, match=message):
        world.look(override)


def test_a_damaged_state_is_not_overwritten(world):
    path = world.workdir.root / "watch.json"
    path.write_text('{"last": {"unknown": 1}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="expected what `slipway watch` wrote"):
        world.look()
    assert "unknown" in path.read_text()


def test_the_state_comes_back_as_it_was(world):
    world.look()
    state = world.state
    state.save(world.workdir.root)
    assert dataclasses.asdict(world.state) == dataclasses.asdict(state)
