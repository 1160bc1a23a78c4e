"""What a base directory holds, from the point of view of a model server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import PublishError
from serving.publish import publish, rollback, served, versions
from serving.versions import parse_version

Models = Callable[[str], Path]
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(st.integers(0, 2**64), st.integers(0, 30))
def test_numbers_are_read_as_the_model_server_reads_them(number: int, zeros: int) -> None:
    expected = number if number < 2**63 else None
    assert parse_version("0" * zeros + str(number)) == expected


@unhurried
@given(st.text(max_size=6))
def test_other_names_are_no_versions(name: str) -> None:
    expected = int(name) if name and set(name) <= set("0123456789") else None
    assert parse_version(name) == expected


def _content(base: Path) -> str:
    current = served(base)
    assert current is not None
    return (current.path / "saved_model.pb").read_text()


def _make_a_link(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.symlink_to(directory.parent / "1")


def _make_a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("")


@pytest.mark.parametrize(("name", "expected"), [("41", 42), ("0041", 42), ("1764000000", 1764000001), ("0", 1)])
def test_numbers_of_others_are_respected(base: Path, plain_models: Models, name: str, expected: int) -> None:
    (base / name).mkdir(parents=True)
    assert publish(plain_models("a"), base, name="pets").number == expected


@pytest.mark.parametrize("name", ["٣", "-3", "3.0", "3a", " 3", "9" * 19, "9" * 200])
def test_names_that_no_model_server_takes_for_a_version(base: Path, plain_models: Models, name: str) -> None:
    (base / name).mkdir(parents=True)
    assert publish(plain_models("a"), base, name="pets").number == 1
    assert [version.number for version in versions(base)] == [1]


def test_versions_of_nothing(base: Path) -> None:
    assert versions(base) == []
    assert served(base) is None
    with pytest.raises(PublishError, match=r"holds no versions; publish a model first"):
        rollback(base)
    assert not base.exists()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda d: (d / "saved_model.pb").write_text("x"), "saved_model.pb was changed"),
        (lambda d: (d / "manifest.json").unlink(), "cannot be read"),
        (lambda d: (d / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda d: shutil.copyfile(d.parent / "1" / "manifest.json", d / "manifest.json"), "is of version 1"),
        (_make_a_link, "a symbolic link"),
        (_make_a_file, "is no directory"),
        (lambda d: d.rename(d.parent / "0000003"), "is of version 3"),
    ],
)
def test_damaged_versions_are_reported_and_never_chosen(
    base: Path, plain_models: Models, damage: Callable[[Path], object], problem: str
) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    damage(base / "3")
    newest = versions(base)[-1]
    assert newest.number == 3 and not newest.ok and not newest.served
    assert any(problem in text for text in newest.problems)
    assert _content(base) == "b"
    with pytest.raises(PublishError, match=r"version 3 of .* is damaged: .* Choose an intact one: 1, 2 \(served\), 3"):
        rollback(base, 3)

    restored = rollback(base)
    assert (restored.number, restored.restores) == (4, 2), "the best one below has to come above the damaged one"
    assert restored.manifest is not None
    assert (restored.manifest.rolled_back_from, restored.manifest.previous) == (3, 2)
    assert _content(base) == "b"


def test_a_version_removed_while_it_is_verified_is_left_out(
    base: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import versions as module

    for content in "ab":
        publish(plain_models(content), base, name="pets")

    def listing(_base: object) -> list[tuple[int, Path]]:
        return [(1, base / "1"), (2, base / "2"), (3, base / "3")]

    monkeypatch.setattr(module, "version_directories", listing)
    assert [version.number for version in versions(base)] == [1, 2]
    current = served(base)
    assert current is not None and current.number == 2
