"""Every decision once, whatever was killed in between."""

from __future__ import annotations

from pathlib import Path

from serving.traffic import history
from serving.traffic.state import TrafficState


def state(decisions: int) -> TrafficState:
    found = TrafficState(model="pets", base_path="/pets", stable=2)
    for number in range(decisions):
        found = found.decided("hold", (f"reason {number}",), by="watch", now=number)
    return found


def test_decisions_are_appended_once(tmp_path: Path) -> None:
    history.catch_up(tmp_path, state(2))
    history.catch_up(tmp_path, state(2))
    history.catch_up(tmp_path, state(3))

    assert [entry.reasons[0] for entry in history.read(tmp_path)] == ["reason 0", "reason 1", "reason 2"]


def test_half_a_line_of_a_killed_writer_is_passed_over_and_written_again(tmp_path: Path) -> None:
    history.catch_up(tmp_path, state(2))
    path = tmp_path / history.HISTORY_FILE
    path.write_bytes(path.read_bytes()[:-30])

    history.catch_up(tmp_path, state(3))

    assert [entry.sequence for entry in history.read(tmp_path)] == [1, 2, 3]


def test_what_was_written_is_never_changed(tmp_path: Path) -> None:
    history.catch_up(tmp_path, state(2))
    before = (tmp_path / history.HISTORY_FILE).read_bytes()
    history.catch_up(tmp_path, state(4))

    assert (tmp_path / history.HISTORY_FILE).read_bytes().startswith(before)


def test_no_history_yet(tmp_path: Path) -> None:
    history.catch_up(tmp_path, state(0))

    assert history.read(tmp_path) == []
    assert not (tmp_path / history.HISTORY_FILE).exists()
