"""Looking for versions below a base path."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import ManifestError
from serving.publish import publish
from serving.server.lifecycle import source as module
from serving.server.lifecycle.source import SourceError, VersionSource, verify
from tests.serving.saved_models import make_plain_model


@pytest.fixture()
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture()
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets both clocks of the source run ahead."""
    ahead = 0.0

    class Clock:
        time = staticmethod(lambda: time.time() + ahead)
        monotonic = staticmethod(lambda: time.monotonic() + ahead)

    def advance(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(module, "time", Clock)
    return advance


def test_names_that_are_versions(base: Path, later: Callable[[float], None]) -> None:
    for name in ("1", "00000123", "007", "7", "v2", "-3", "1.5", "3 ", "tmp", ".4", "99999999999999999999"):
        make_plain_model(base / name)
    (base / "12").write_text("a file")
    later(10)
    found = VersionSource(base, "m").scan()
    assert {number: version.path.name for number, version in found.items()} == {1: "1", 7: "7", 123: "00000123"}
    assert all(version.ready for version in found.values())


def test_a_base_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Could not find base path .*/gone for servable m"):
        VersionSource(tmp_path / "gone", "m").scan()
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="Not a directory"):
        VersionSource(tmp_path / "file", "m").scan()


def test_a_directory_without_a_graph_is_passed_over(base: Path, later: Callable[[float], None]) -> None:
    (base / "1" / "variables").mkdir(parents=True)
    (base / "1" / "variables" / "variables.index").touch()
    later(10)
    version = VersionSource(base, "m").scan()[1]
    assert not version.ready and not version.changing
    assert "1 holds none of saved_model.pb, saved_model.pbtxt, model.tflite" in version.problem


def test_a_copy_in_progress_waits_until_it_is_quiet(base: Path, later: Callable[[float], None]) -> None:
    source = VersionSource(base, "m")
    make_plain_model(base / "1")
    assert source.scan()[1].changing
    later(0.6)
    with (base / "1" / "variables" / "variables.index").open("ab") as stream:
        stream.write(b"more")
    os.utime(base / "1" / "variables" / "variables.index", ns=(0, int((time.time() + 0.6) * 1e9)))
    assert source.scan()[1].changing, "it grew"
    later(0.6)
    assert source.scan()[1].changing, "quiet for 0.6 seconds only"
    later(0.6)
    assert source.scan()[1].ready


def test_old_files_need_no_second_look(base: Path, later: Callable[[float], None]) -> None:
    make_plain_model(base / "1")
    later(module.SETTLE_SECONDS + 0.1)
    assert VersionSource(base, "m").scan()[1].ready


def test_renaming_into_place_needs_no_second_look(base: Path, later: Callable[[float], None]) -> None:
    make_plain_model(base / "incoming")
    later(module.SETTLE_SECONDS + 0.1)
    (base / "incoming").rename(base / "2")
    assert VersionSource(base, "m").scan()[2].ready


def test_files_from_the_future_are_looked_at_twice(base: Path, later: Callable[[float], None]) -> None:
    make_plain_model(base / "1")
    ahead = time.time() + 1e6
    for folder, _, names in os.walk(base / "1"):
        for name in [*names, "."]:
            os.utime(os.path.join(folder, name), (ahead, ahead))
    source = VersionSource(base, "m")
    assert source.scan()[1].changing
    later(module.SETTLE_SECONDS + 0.1)
    assert source.scan()[1].ready


def test_what_was_published_waits_for_nothing(base: Path, plain_model: Path) -> None:
    published = publish(plain_model, base, name="m")
    version = VersionSource(base, "m").scan()[published.number]
    assert version.ready
    verify(version.path)


def test_a_published_version_that_is_copied_waits(
    base: Path, tmp_path: Path, plain_model: Path, later: Callable[[float], None]
) -> None:
    published = publish(plain_model, tmp_path / "elsewhere", name="m")
    half = base / str(published.number)
    shutil.copytree(published.path, half)
    data = half / "variables" / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:10])
    source = VersionSource(base, "m")
    assert source.scan()[published.number].changing, "its manifest lists more bytes"
    data.write_bytes(whole)
    assert source.scan()[published.number].ready, "all sizes are there"


@pytest.mark.parametrize("damage", ["change", "remove", "add", "manifest"])
def test_verification_against_the_manifest(base: Path, plain_model: Path, damage: str) -> None:
    path = publish(plain_model, base, name="m").path
    data = path / "variables" / "variables.data-00000-of-00001"
    if damage == "change":
        data.write_bytes(b"x" * data.stat().st_size)
    elif damage == "remove":
        data.unlink()
    elif damage == "add":
        (path / "more").touch()
    else:
        (path / "manifest.json").write_text("{")
    with pytest.raises(ManifestError):
        verify(path)


def test_a_foreign_version_has_nothing_to_verify(base: Path) -> None:
    verify(make_plain_model(base / "1"))


def test_a_directory_that_disappears_is_forgotten(base: Path, later: Callable[[float], None]) -> None:
    source = VersionSource(base, "m")
    make_plain_model(base / "1")
    later(10)
    assert source.scan()[1].ready
    shutil.rmtree(base / "1")
    assert source.scan() == {}
    make_plain_model(base / "1")
    os.utime(base / "1", (time.time() + 10, time.time() + 10))
    assert source.scan()[1].changing, "it has to settle again"
