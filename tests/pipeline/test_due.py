"""`slipway due`: is there anything that no run has taken?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.cli.app import run as command_line
from pipeline.config.loading import LoadedConfig, load
from pipeline.continuous.looking import input_fingerprint, look
from pipeline.due import reason_to_run
from pipeline.records import FAILED, REFUSED, RUNNING, SUCCEEDED, new_record
from pipeline.workdir import WorkDir

YAML = """
name: shapes
data:
  source: {folder}
transform: {{size: [24, 24]}}
model: {{name: cnn_small}}
train: {{epochs: 2}}
retrain: {{quiet_seconds: {quiet}}}
"""


class Place:
    """A config on a copy of the pictures, and a work directory without runs."""

    def __init__(self, root: Path, shapes: Path, quiet: float):
        self.folder = root / "pictures"
        shutil.copytree(shapes, self.folder)
        self.file = root / "shapes.yaml"
        self.file.write_text(YAML.format(folder=self.folder, quiet=quiet), encoding="utf-8")
        self.workdir = WorkDir(root / "work")
        self.workdir.create()

    @property
    def loaded(self) -> LoadedConfig:
        return load(self.file)

    def note_run(self, state: str, pid: int) -> None:
        """Leave the record of a run of what is there now."""
        fingerprint = input_fingerprint(look(self.loaded.config, 4e9), self.workdir)
        record = new_record("shapes", str(self.file), "log", fingerprint)
        record.state, record.pid = state, pid
        record.save(self.workdir.records)


@pytest.fixture
def place(tmp_path: Path, shapes: Path) -> Place:
    return Place(tmp_path, shapes, 0)


@pytest.mark.parametrize("state", [SUCCEEDED, REFUSED, FAILED, RUNNING])
def test_what_was_run_or_is_running_is_not_due(place: Place, state: str) -> None:
    assert reason_to_run(place.loaded, place.workdir) == "there has been no run"
    place.note_run(state, os.getpid())
    assert reason_to_run(place.loaded, place.workdir) is None


def test_a_run_that_was_interrupted_is_due(place: Place) -> None:
    place.note_run(RUNNING, 2**22 + 1)  # no process has such a number
    assert "was interrupted" in str(reason_to_run(place.loaded, place.workdir))


def test_new_data_and_another_config_are_due(place: Place) -> None:
    place.note_run(SUCCEEDED, os.getpid())
    other = load(place.file, ["train.epochs=3"])
    assert reason_to_run(other, place.workdir) == "data, config or code differ from those of every run"
    picture = next((place.folder / "circle").glob("*.png"))
    picture.with_name("another.png").write_bytes(picture.read_bytes() + b"\0")
    assert reason_to_run(place.loaded, place.workdir) is not None


def test_data_that_still_arrives_is_not_due(tmp_path: Path, shapes: Path) -> None:
    place = Place(tmp_path, shapes, 3600)
    assert reason_to_run(place.loaded, place.workdir) is None


def test_the_command_says_so_by_its_exit_code(place: Place, capsys: pytest.CaptureFixture) -> None:
    words = ["due", str(place.file), "--workdir", str(place.workdir.root)]
    assert command_line(words) == 0
    assert capsys.readouterr().out == "due: there has been no run\n"
    place.note_run(SUCCEEDED, os.getpid())
    assert command_line(words) == 99
    assert capsys.readouterr().out.startswith("not due:")
    shutil.rmtree(place.folder)
    assert command_line(words) == 2
