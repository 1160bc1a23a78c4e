"""Publication, versions and rollback, as long as nothing breaks."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving import publish as publishing
from serving.errors import ManifestError, PublishError, ServingError
from serving.manifest import verify
from serving.publish import publish, rollback, served, versions
from tests.serving.saved_models import LABELS, make_plain_model

Models = Callable[[str], Path]


def _numbers(base: Path) -> list[int]:
    return [version.number for version in versions(base)]


def _content(base: Path) -> str:
    current = served(base)
    assert current is not None
    return (current.path / "saved_model.pb").read_text()


def test_first_version(base: Path, plain_models: Models) -> None:
    version = publish(
        plain_models("a"),
        base,
        name="pets",
        metrics={"accuracy": 0.97, "auc": float("nan")},
        config_hash="c" * 64,
        data_fingerprint="d" * 64,
        git_commit="e" * 40,
        slipway_version="0.1.0",
    )
    assert (version.number, version.path, version.served, version.already_published) == (
        1,
        base / "1",
        True,
        False,
    )
    assert version.manifest is not None
    assert version.manifest.labels == LABELS
    assert version.manifest.previous is None
    assert version.metrics == {"accuracy": 0.97, "auc": None}
    data = json.loads((base / "1" / "manifest.json").read_text())
    assert (data["config_hash"], data["data_fingerprint"], data["git_commit"]) == (
        "c" * 64,
        "d" * 64,
        "e" * 40,
    )
    assert data["created"].endswith("Z")
    assert sorted(os.listdir(base)) == [".slipway", "1"]
    assert (base / "1" / "assets").is_dir(), "empty directories belong to a SavedModel"
    assert versions(base) == [version]


def test_another_user_can_read_what_was_published(base: Path, plain_models: Models) -> None:
    old = os.umask(0o022)
    try:
        version = publish(plain_models("a"), base, name="pets")
    finally:
        os.umask(old)
    assert version.path.stat().st_mode & 0o777 == 0o755
    assert (version.path / "saved_model.pb").stat().st_mode & 0o777 == 0o644


def test_numbers_grow_and_know_what_was_before(base: Path, plain_models: Models) -> None:
    for number, content in enumerate("abc", start=1):
        version = publish(plain_models(content), base, name="pets", labels=["x"])
        assert version.number == number
    assert version.manifest is not None
    assert (version.manifest.previous, version.manifest.labels) == (2, ("x",))
    assert [(v.number, v.served, v.ok) for v in versions(base)] == [
        (1, False, True),
        (2, False, True),
        (3, True, True),
    ]


def test_the_same_model_is_not_published_twice(base: Path, plain_models: Models) -> None:
    first = publish(plain_models("a"), base, name="pets")
    again = publish(plain_models("a"), base, name="pets", metrics={"accuracy": 1.0})
    assert (again.number, again.already_published, again.manifest) == (1, True, first.manifest)
    publish(plain_models("b"), base, name="pets")
    assert publish(plain_models("a"), base, name="pets").number == 3, "only the served version counts"


def test_a_published_directory_can_be_published_elsewhere(base: Path, plain_models: Models, tmp_path: Path) -> None:
    publish(plain_models("a"), base, name="pets")
    version = publish(base / "1", tmp_path / "other", name="copy")
    assert version.ok and version.manifest is not None
    assert version.manifest.name == "copy"


def test_the_same_model_is_published_above_a_foreign_version(base: Path, plain_models: Models) -> None:
    publish(plain_models("a"), base, name="pets")
    (base / "5").mkdir()
    assert served(base) == versions(base)[0]
    assert publish(plain_models("a"), base, name="pets").number == 6, "the model server would pick 5"


def test_a_clock_that_goes_back(base: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_utc_now", lambda: "2026-11-22T05:18:06Z")
    publish(plain_models("a"), base, name="pets")
    monkeypatch.setattr(publishing, "_utc_now", lambda: "1970-01-01T00:00:00Z")
    version = publish(plain_models("b"), base, name="pets")
    assert (version.number, version.created) == (2, "1970-01-01T00:00:00Z")
    assert _content(base) == "b"


def test_deleted_numbers_never_come_back(base: Path, plain_models: Models) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    shutil.rmtree(base / "3")
    assert served(base) == versions(base)[-1]
    assert publish(plain_models("d"), base, name="pets").number == 4
    for number in (1, 2, 4):
        shutil.rmtree(base / str(number))
    assert publish(plain_models("e"), base, name="pets").number == 5
    shutil.rmtree(base / ".slipway")
    assert publish(plain_models("f"), base, name="pets").number == 6, "directories count without the record too"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"last_version": "7"}', '{"last_version": true}', "{}", '{"last_version": -1}']
)
def test_a_damaged_record_stops_publication(base: Path, plain_models: Models, text: str) -> None:
    publish(plain_models("a"), base, name="pets")
    (base / ".slipway" / "record.json").write_text(text)
    with pytest.raises(PublishError, match=r"record\.json is damaged .* Write \{\"last_version\": N\}"):
        publish(plain_models("b"), base, name="pets")
    assert _numbers(base) == [1]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [(1, [4, 5]), (2, [4, 5]), (3, [3, 4, 5]), (9, [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])],
)
def test_keep(base: Path, plain_models: Models, keep: int | None, expected: list[int]) -> None:
    for content in "abcd":
        publish(plain_models(content), base, name="pets")
    publish(plain_models("e"), base, name="pets", keep=keep)
    assert _numbers(base) == expected
    assert sorted(os.listdir(base / ".slipway")) == ["lock", "record.json"]


def test_keep_spares_damaged_versions_and_the_one_before(base: Path, plain_models: Models) -> None:
    for content in "abcd":
        publish(plain_models(content), base, name="pets")
    (base / "1" / "saved_model.pb").write_text("damaged")
    rollback(base, 2)
    assert publish(plain_models("e"), base, name="pets", keep=1).number == 6
    assert _numbers(base) == [1, 5, 6]


def test_keep_applies_to_a_model_that_is_already_there(base: Path, plain_models: Models) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    assert publish(plain_models("c"), base, name="pets", keep=1).already_published
    assert _numbers(base) == [2, 3]
    with pytest.raises(PublishError, match="keep is 0; expected 1 or more"):
        publish(plain_models("c"), base, name="pets", keep=0)


def test_rollback_goes_further_back_each_time(base: Path, plain_models: Models) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets", metrics={"accuracy": ord(content)})
    second = rollback(base)
    assert (second.number, second.restores, _content(base)) == (4, 2, "b")
    assert second.metrics == {"accuracy": ord("b")}
    assert second.manifest is not None
    assert (second.manifest.rolled_back_from, second.manifest.previous) == (3, 3)
    first = rollback(base)
    assert (first.number, first.restores, _content(base)) == (5, 1, "a")
    with pytest.raises(PublishError, match=r"nothing to roll back to; it holds 1, 2, 3, 4, 5 .served."):
        rollback(base)
    assert _numbers(base) == [1, 2, 3, 4, 5], "history is kept"
    assert all(version.ok for version in versions(base))


def test_rollback_after_a_rollback_and_a_new_model(base: Path, plain_models: Models) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    rollback(base)
    assert publish(plain_models("d"), base, name="pets").number == 5
    restored = rollback(base)
    assert (restored.number, restored.restores, _content(base)) == (6, 2, "b"), "c was given up before"


def test_rollback_to_a_version(base: Path, plain_models: Models) -> None:
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    restored = rollback(base, to=1)
    assert (restored.number, restored.restores, _content(base)) == (4, 1, "a")
    again = rollback(base, to=1)
    assert (again.number, again.already_published) == (4, True)
    assert rollback(base, to=4).already_published
    forward = rollback(base, to=3)
    assert (forward.number, forward.restores, _content(base)) == (5, 3, "c")
    assert rollback(base, to=4).restores == 1, "the origin, not the copy"
    with pytest.raises(PublishError, match=r"has no version 9; it holds 1, 2, 3, 4, 5, 6 .served."):
        rollback(base, to=9)


def test_rollback_takes_no_space_and_survives_the_loss_of_its_origin(base: Path, plain_models: Models) -> None:
    for content in "ab":
        publish(plain_models(content), base, name="pets")
    restored = rollback(base)
    assert (restored.path / "saved_model.pb").stat().st_ino == (base / "1" / "saved_model.pb").stat().st_ino
    shutil.rmtree(base / "1")
    assert versions(base)[-1].ok
    assert _content(base) == "a"


def test_rollback_copies_where_links_are_impossible(
    base: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_args: object, **_kwargs: object) -> None:
        raise OSError(1, "Operation not permitted")

    for content in "ab":
        publish(plain_models(content), base, name="pets")
    monkeypatch.setattr(os, "link", no_links)
    restored = rollback(base)
    assert restored.ok and _content(base) == "a"
    assert (restored.path / "saved_model.pb").stat().st_nlink == 1


def test_sources_that_are_no_model(base: Path, plain_model: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"is no SavedModel: .* found no such directory"):
        publish(tmp_path / "gone", base, name="pets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PublishError, match="found nothing"):
        publish(tmp_path / "empty", base, name="pets")
    with pytest.raises(PublishError, match="lies inside the model"):
        publish(plain_model, plain_model / "served", name="pets")
    (plain_model / "assets" / "secret").symlink_to("/etc/passwd")
    with pytest.raises(ManifestError, match="assets/secret is a symbolic link"):
        publish(plain_model, base, name="pets")
    assert not base.exists()


def test_bad_fields_publish_nothing(base: Path, plain_model: Path) -> None:
    with pytest.raises(ManifestError, match="metric 'accuracy' is 'high'"):
        publish(plain_model, base, name="pets", metrics={"accuracy": "high"})  # type: ignore[dict-item]
    (plain_model / "assets.extra" / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match=r"labels\.txt cannot be read"):
        publish(plain_model, base, name="pets")
    assert versions(base) == []


class NumbersNeverComeBack(RuleBasedStateMachine):
    """Whatever is published, rolled back or deleted, a number is given out once and numbers only grow."""

    def __init__(self) -> None:
        """Start with an empty base directory."""
        super().__init__()
        import tempfile

        self.root = Path(tempfile.mkdtemp(prefix="slipway-test-"))
        self.base = self.root / "base"
        self.given: list[int] = []

    def _note(self, number: int, already: bool) -> None:
        if already:
            assert number in self.given
        else:
            assert number > max(self.given, default=0)
            self.given.append(number)

    @rule(content=st.sampled_from("abc"), keep=st.none() | st.integers(1, 3))
    def publishes(self, content: str, keep: int | None) -> None:
        """Publish one of three models."""
        model = self.root / content
        if not model.exists():
            make_plain_model(model, content.encode())
        version = publish(model, self.base, name="m", keep=keep)
        self._note(version.number, version.already_published)
        assert _content(self.base) == content

    @precondition(lambda self: bool(versions(self.base)))
    @rule(data=st.data())
    def rolls_back(self, data: st.DataObject) -> None:
        """Roll back to any version there is."""
        to = data.draw(st.sampled_from(_numbers(self.base)))
        expected = (self.base / str(to) / "saved_model.pb").read_text()
        version = rollback(self.base, to)
        self._note(version.number, version.already_published)
        assert _content(self.base) == expected

    @precondition(lambda self: bool(versions(self.base)))
    @rule(data=st.data())
    def deletes(self, data: st.DataObject) -> None:
        """Delete a version by hand."""
        shutil.rmtree(self.base / str(data.draw(st.sampled_from(_numbers(self.base)))))

    @invariant()
    def all_are_intact(self) -> None:
        """Nothing half-published can be seen."""
        assert all(version.ok for version in versions(self.base))

    def teardown(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.root)


TestNumbersNeverComeBack = NumbersNeverComeBack.TestCase
TestNumbersNeverComeBack.settings = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


CARD = {"MODEL_CARD.md": "# Pets\n", "model_card.json": "{}\n"}


def test_documents_lie_beside_the_model_and_are_checked(base: Path, plain_models: Models) -> None:
    version = publish(plain_models("one"), base, name="pets", documents=CARD)
    assert (version.path / "MODEL_CARD.md").read_text("utf-8") == "# Pets\n"
    assert version.manifest is not None
    assert [entry.path for entry in version.manifest.documents] == ["MODEL_CARD.md", "model_card.json"]
    assert verify(version.path) == []
    (version.path / "MODEL_CARD.md").write_text("# Cats\n", "utf-8")
    assert verify(version.path) == ["MODEL_CARD.md was changed"]


def test_other_documents_are_no_other_model(base: Path, plain_models: Models) -> None:
    first = publish(plain_models("one"), base, name="pets", documents=CARD)
    again = publish(plain_models("one"), base, name="pets", documents={"MODEL_CARD.md": "# Pets, again\n"})
    assert again.already_published and again.number == first.number


def test_documents_go_with_a_rollback_and_to_another_base(base: Path, plain_models: Models, tmp_path: Path) -> None:
    first = publish(plain_models("one"), base, name="pets", documents=CARD)
    publish(plain_models("two"), base, name="pets")
    back = rollback(base)
    assert back.manifest is not None and first.manifest is not None
    assert back.manifest.documents == first.manifest.documents and verify(back.path) == []
    elsewhere = publish(back.path, tmp_path / "other", name="pets", documents={"MODEL_CARD.md": "# New\n"})
    assert elsewhere.manifest is not None and elsewhere.manifest.model_digest == first.manifest.model_digest
    assert (elsewhere.path / "MODEL_CARD.md").read_text("utf-8") == "# New\n" and verify(elsewhere.path) == []


@pytest.mark.parametrize("name", ["saved_model.pb", "../card.md", "manifest.json"])
def test_a_document_never_takes_the_place_of_something_else(base: Path, plain_models: Models, name: str) -> None:
    with pytest.raises((PublishError, ManifestError)):
        publish(plain_models("one"), base, name="pets", documents={name: "x"})
    assert versions(base) == []


def test_a_mounted_bucket_gets_the_manifest_last(
    base: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, copyfile, copied = os.rename, shutil.copyfile, []

    def no_folders(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(errno.EMFILE, "Too many open files")
        rename(source, target)

    def remembered(source: Path, target: Path, **options: bool) -> None:
        if Path(target).is_relative_to(base / "1"):
            copied.append(Path(target).name)
        copyfile(source, target, **options)

    monkeypatch.setattr(os, "rename", no_folders)
    monkeypatch.setattr(shutil, "copyfile", remembered)
    version = publish(plain_models("a"), base, name="pets")
    assert version.path == base / "1" and versions(base)[0].ok
    assert copied[-2:] == ["saved_model.pb", "manifest.json"] and len(copied) == len(set(copied))
    assert list((base / ".slipway").glob("incoming")) == []
