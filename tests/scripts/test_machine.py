from __future__ import annotations

import platform
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from environment import machine
from environment.failures import SetupError


def test_a_foreign_processor_and_system_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(SetupError, match="x86-64 and this is Linux on aarch64"):
        machine.check_platform()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SetupError, match="this is Darwin"):
        machine.check_platform()


@pytest.mark.parametrize("found", [("", ""), ("glibc", "2.17"), ("musl", "1.2")])
def test_another_or_an_old_c_library_is_refused(monkeypatch: pytest.MonkeyPatch, found: tuple) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: found)
    with pytest.raises(SetupError, match=r"need glibc 2\.28"):
        machine.check_platform()


def test_the_machine_of_the_tests_will_do() -> None:
    machine.check_platform()


def disk_with(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=gigabytes * 1e9))


def test_too_little_disk_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk_with(monkeypatch, 1.2)
    with pytest.raises(SetupError, match=r"needs 5 GB .* has 1\.2 GB"):
        machine.check_disk(tmp_path, {"HOME": str(tmp_path)})
    machine.check_disk(tmp_path, {"HOME": str(tmp_path)}, changes_only=True)


def test_a_cache_on_another_file_system_is_checked_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(machine, "_device", lambda folder: 1 if folder == cache else 2)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9 if Path(folder) == cache else 9e9)
    )
    with pytest.raises(SetupError, match=f"file system of {cache}"):
        machine.check_disk(tmp_path, {"UV_CACHE_DIR": str(cache)})


def test_the_cache_folder_is_the_nearest_one_that_exists(tmp_path: Path) -> None:
    assert machine.cache_folder({"UV_CACHE_DIR": str(tmp_path / "a/b")}) == tmp_path
    assert machine.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path
