"""`slipway canary` in this process, with a model server that needs no model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.app import run
from tests.serving.traffic.conftest import published, state_dir
from tests.serving.traffic.fakes import FakeServer

__all__ = ["published", "state_dir"]


@pytest.fixture
def server(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer(state_dir)
    monkeypatch.setattr("serving.traffic.stepping.connect", lambda *_: [fake])
    return fake


@pytest.fixture
def given(state_dir: Path, tmp_path: Path) -> list[str]:
    """The options that name the state."""
    settings = tmp_path / "traffic.yaml"
    settings.write_text(f"state_dir: {state_dir}\npoll_seconds: 0.01\n")
    return ["--settings", str(settings)]


def test_off_a_terminal_nothing_is_squeezed_into_80_columns(server, given, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["canary", "start", *given]) == 0
    assert run(["canary", "status", *given]) == 0
    text = capsys.readouterr().out
    assert "start by command: version 3 against 2, steps 5%, 25%, 50%, 100%" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) > 80
    assert "…" not in text


def test_every_command_that_asks_servers_shows_that_it_works(server, given, monkeypatch):
    seen: list[str] = []

    @contextlib.contextmanager
    def noted(what: str) -> Iterator[None]:
        seen.append(what)
        yield

    monkeypatch.setattr("pipeline.cli.canary.working", noted)
    for words in (["start"], ["status"], ["abort"], ["start"], ["promote", "--force"], ["rollback"]):
        assert run(["canary", *words, *given]) == 0
    assert len(seen) == 6
    assert len(set(seen)) == 5


def test_a_start_without_a_server_is_said_in_words_with_exit_code_2(state_dir, given, capsys):
    before = (state_dir / "traffic.json").read_bytes()
    assert run(["canary", "start", "--server", "grpc://127.0.0.1:9", *given]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no model server answers at grpc://127.0.0.1:9" in said
    assert "nothing was changed" in said
    assert (state_dir / "traffic.json").read_bytes() == before
