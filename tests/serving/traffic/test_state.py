"""The state on disk: strict, atomic, readable at any time."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from serving.traffic.state import HISTORY_KEPT, Guards, StateReader, TrafficError, TrafficFile, TrafficState


def idle() -> TrafficState:
    return TrafficState(model="pets", base_path="/served/pets", stable=2)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = TrafficFile(tmp_path)
    state = idle().decided("start", ("why",), by="command", now=0, canary=3, phase="starting", steps=(0.1, 1.0))
    with file.locked():
        file.write(state)

    assert file.read() == state
    assert state.history[0].time == "1970-01-01T00:00:00Z"


def test_the_history_in_the_state_is_bounded_and_its_numbers_are_not(tmp_path: Path) -> None:
    state = idle()
    for _ in range(HISTORY_KEPT + 5):
        state = state.decided("hold", by="watch", now=0)

    assert len(state.history) == HISTORY_KEPT
    assert state.history[-1].sequence == state.decisions == HISTORY_KEPT + 5


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"weight": 0.5}, "need a canary"),
        ({"canary": 2}, "cannot be stable and canary at once"),
        ({"weight": 1.5, "canary": 3}, "less than or equal to 1"),
        ({"phase": "running"}, "need a canary"),
    ],
)
def test_a_state_that_makes_no_sense_cannot_be_made(updates: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        idle().changed(**updates)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": "pets"}', '{"surprise": 1}'])
def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "traffic.json").write_text(content)

    with pytest.raises(TrafficError, match=r"is damaged: .* Restore it from a backup, or remove it"):
        TrafficFile(tmp_path).read()


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    values = json.loads(idle().model_dump_json())
    (tmp_path / "traffic.json").write_text(json.dumps({**values, "wieght": 0.1}))

    with pytest.raises(TrafficError, match="wieght"):
        TrafficFile(tmp_path).read()


def test_no_state_yet(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="--rollout=manual"):
        TrafficFile(tmp_path).read()


def test_a_second_writer_waits_and_then_gives_up(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with TrafficFile(tmp_path).locked():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(60)
    try:
        with pytest.raises(TrafficError, match="another process has been changing"), TrafficFile(tmp_path).locked(0.1):
            pass
    finally:
        leave.set()
        thread.join()
    with TrafficFile(tmp_path).locked(0.1):
        pass


def test_an_error_of_the_holder_is_its_own(tmp_path: Path) -> None:
    from serving.errors import PublishError

    with pytest.raises(PublishError), TrafficFile(tmp_path).locked():
        raise PublishError("mine")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    with pytest.raises(TrafficError, match="cannot be written"), TrafficFile(tmp_path / "state").locked():
        pass


def test_the_reader_follows_the_file_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    file, reader = TrafficFile(tmp_path), StateReader(tmp_path, check_seconds=0)
    assert reader.current() is None
    file.write(idle())
    assert reader.current() == idle()
    later = idle().changed(stable=5)
    file.write(later)
    assert reader.current() == later
    file.path.write_text("{")
    assert reader.current() == later
    file.path.unlink()
    assert reader.current() == later


def test_the_reader_does_not_look_at_the_file_for_every_request(tmp_path: Path) -> None:
    file, reader = TrafficFile(tmp_path), StateReader(tmp_path, check_seconds=3600)
    file.write(idle())
    reader.current()
    file.write(idle().changed(stable=5))

    assert reader.current() == idle()


@pytest.mark.parametrize("values", [{"quantiles": ()}, {"quantiles": (1.0,)}, {"significance": 0}, {"typo": 1}])
def test_guards_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Guards.model_validate(values)
