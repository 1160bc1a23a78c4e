"""`slipway report`: which run, which file, and what is said where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.app import run
from tests.pipeline.report.made_up import MadeUp

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = MadeUp(tmp_path_factory.mktemp("reporting") / "work")
    project.run("2026-01-01T000000.1", number=1)
    project.run("2026-01-02T000000.2", number=2)
    return project.root


def report(work: Path, *words: str) -> int:
    return run(["report", *words, "--no-open", "--workdir", str(work)])


def test_the_last_run_by_default_and_twice_the_same(work: Path, capsys):
    assert report(work) == 0
    written = work / "reports" / "2026-01-02T000000.2.html"
    assert str(written) in capsys.readouterr().out
    first = written.read_text(encoding="utf-8")
    assert "Version 2 is published" in first
    assert report(work) == 0
    assert written.read_text(encoding="utf-8") == first


def test_a_run_by_the_beginning_of_its_id_and_a_file_of_ones_own(work: Path, tmp_path: Path):
    out = tmp_path / "new" / "page.html"
    assert report(work, "2026-01-01", "--out", str(out)) == 0
    assert "Version 1 is published" in out.read_text(encoding="utf-8")


def test_two_runs_side_by_side(work: Path, tmp_path: Path):
    out = tmp_path / "both.html"
    assert report(work, "--compare", "2026-01-01", "2026-01-02", "--out", str(out)) == 0
    page = out.read_text(encoding="utf-8")
    assert "2026-01-01T000000.1" in page and "2026-01-02T000000.2" in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["2026-01"], "which 2 runs begin with"),
        (["1999"], "received the run '1999'; expected one of"),
        (["2026-01-01", "--compare", "2026-01-01", "2026-01-02"], "expected one of the two"),
        (["--out", "/proc/nowhere/page.html"], "can't be written"),
    ],
)
def test_what_is_wrong_is_said(work: Path, capsys, words: list[str], sentence: str):
    assert report(work, *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_runs(tmp_path: Path, capsys):
    assert report(tmp_path) == 2
    assert "holds no runs" in capsys.readouterr().err
