from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from environment import stamp


@pytest.fixture
def clone(fake) -> Path:
    """A clone with a complete environment."""
    (fake.clone / ".venv/bin").mkdir(parents=True)
    (fake.clone / ".venv/bin/python").symlink_to(sys.executable)
    stamp.write(fake.clone, stamp.wanted(fake.clone))
    return fake.clone


def test_a_complete_environment_needs_nothing(clone: Path) -> None:
    assert stamp.work_to_do(clone) == stamp.NOTHING


@pytest.mark.parametrize("name", stamp.SOURCES)
def test_a_changed_source_is_an_update(clone: Path, name: str) -> None:
    (clone / name).write_text("changed", encoding="utf-8")
    assert stamp.work_to_do(clone) == stamp.UPDATE


def test_no_stamp_a_damaged_stamp_and_a_gone_interpreter_are_redone(clone: Path) -> None:
    (clone / ".venv/slipway-stamp.json").write_text("{", encoding="utf-8")
    assert stamp.work_to_do(clone) == stamp.REDO
    stamp.remove(clone)
    stamp.remove(clone)
    assert stamp.work_to_do(clone) == stamp.REDO
    stamp.write(clone, stamp.wanted(clone))
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to("/nonexistent/python3.10")
    assert stamp.work_to_do(clone) == stamp.REDO


def test_a_moved_clone_is_redone_because_scripts_hold_its_path(clone: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(str(clone), str(moved))
    assert stamp.work_to_do(moved) == stamp.REDO


def test_a_lock_that_changes_during_the_set_up_shows_afterwards(clone: Path) -> None:
    before = stamp.wanted(clone)
    (clone / "requirements.lock").write_text("edited meanwhile", encoding="utf-8")
    stamp.write(clone, before)
    assert stamp.work_to_do(clone) == stamp.UPDATE


def test_a_second_set_up_waits_and_says_so(tmp_path: Path) -> None:
    holder = os.open(str(tmp_path / "lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    waited = []

    def on_wait() -> None:
        waited.append(True)
        os.close(holder)

    with stamp.one_at_a_time(tmp_path, on_wait):
        assert waited == [True]


def test_a_tool_that_outlives_the_set_up_still_holds_the_lock(tmp_path: Path) -> None:
    read, write = os.pipe()
    with stamp.one_at_a_time(tmp_path, lambda: None) as lock:
        orphan = subprocess.Popen(
            [sys.executable, "-c", f"import os; os.read({read}, 1)"], pass_fds=(lock, read), close_fds=True
        )
    descriptor = os.open(str(tmp_path / "lock"), os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(write, b"x")
    assert orphan.wait() == 0
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for each in (descriptor, read, write):
        os.close(each)
