"""The environments that tests share: made once, and again if what they were made from is gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.serving.edge import environments


@pytest.fixture()
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Interpreters that environments were made from, in a cache of our own."""
    bases: list[str] = []

    def run(*command: str) -> None:
        if command[1] == "venv":
            folder, base = Path(command[-1]), command[-2]
            bases.append(base)
            (folder / "bin").mkdir(parents=True, exist_ok=True)
            (folder / "bin" / "python").unlink(missing_ok=True)
            (folder / "bin" / "python").symlink_to(base)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environments, "_uv", lambda: "uv")
    monkeypatch.setattr(environments, "_run", run)
    return bases


def test_it_is_made_once_from_an_interpreter_that_outlives_this_clone(made: list[str]) -> None:
    first, second = environments.python_with(("x==1",)), environments.python_with(("x==1",))
    assert first == second
    (base,) = made
    assert not Path(base).is_symlink()
    assert not Path(base).is_relative_to(sys.prefix)


def test_it_is_made_again_if_its_interpreter_is_gone(made: list[str]) -> None:
    python = Path(environments.python_with(("x==1",)))
    python.unlink()
    python.symlink_to(python.parent / "gone")
    assert environments.python_with(("x==1",)) == str(python)
    assert len(made) == 2
