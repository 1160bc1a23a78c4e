"""The model config file is read again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from serving.server.lifecycle.config_file import ConfigFilePoller
from serving.server.status import Code, StatusError
from tests.serving.server.waiting import eventually


class _Taker:
    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.refusal = ""

    def __call__(self, config: Any) -> None:
        self.names.append([model.name for model in config.model_config_list.config])
        if self.refusal:
            raise StatusError(Code.FAILED_PRECONDITION, self.refusal)


def _write(path: Path, *names: str) -> None:
    models = "".join(f'config {{ name: "{name}" }}' for name in names)
    path.write_text(f"model_config_list {{ {models} }}")


def test_only_news_are_applied(tmp_path: Path) -> None:
    file, take = tmp_path / "models", _Taker()
    _write(file, "a")
    poller = ConfigFilePoller(file, 1, take)
    poller.poll()
    assert take.names == []
    _write(file, "a", "b")
    poller.poll()
    poller.poll()
    assert take.names == [["a", "b"]]


def test_a_refused_file_is_tried_again_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, take = tmp_path / "models", _Taker()
    _write(file, "a")
    poller = ConfigFilePoller(file, 1, take)
    take.refusal = "not available yet"
    _write(file, "b")
    with caplog.at_level(logging.INFO, "slipway.serving"):
        poller.poll()
        poller.poll()
        take.refusal = ""
        poller.poll()
        poller.poll()
    assert take.names == [["b"]] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "not available yet" in caplog.text


def test_a_damaged_or_missing_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, take = tmp_path / "models", _Taker()
    _write(file, "a")
    poller = ConfigFilePoller(file, 1, take)
    file.write_text("model_config_list { config {")
    poller.poll()
    file.unlink()
    poller.poll()
    assert take.names == []
    assert f"{file}:1:" in caplog.text and "cannot be read" in caplog.text
    _write(file, "a")
    poller.poll()
    assert take.names == [["a"]]


def test_the_thread(tmp_path: Path) -> None:
    file, take = tmp_path / "models", _Taker()
    _write(file, "a")
    poller = ConfigFilePoller(file, 0.01, take)
    poller.start()
    _write(file, "b")
    eventually(lambda: ["b"] in take.names)
    poller.stop()
    _write(file, "c")
    assert ["c"] not in take.names
