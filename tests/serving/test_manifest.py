"""The manifest: round trip, verification, and hostile content."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import manifest as manifests
from serving.errors import ManifestError
from serving.manifest import FileEntry, Manifest, describe_files, model_digest, verify


def make_manifest(directory: Path, **changes: Any) -> Manifest:
    """Manifest of a directory as it is."""
    files = describe_files(directory)
    values = {
        "name": "pets",
        "version": 1,
        "created": "2026-11-22T05:18:06Z",
        "files": files,
        "model_digest": model_digest(files),
        "slipway_version": "0.1.0",
        **changes,
    }
    return Manifest(**values)


# A busy machine is no failure.
unhurried = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_texts = st.text(max_size=20)
_parts = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\:"), min_size=1, max_size=8)
_paths = st.lists(_parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4).map("/".join)
_entries = st.builds(
    FileEntry,
    path=_paths.filter(lambda path: path != manifests.MANIFEST_FILE),
    size=st.integers(0, 2**60),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)
_numbers = st.none() | st.integers(0, 2**63 - 1)


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    entries = draw(st.lists(_entries, max_size=6, unique_by=lambda entry: entry.path))
    cut = draw(st.integers(0, len(entries)))
    files, documents = entries[:cut], entries[cut:]
    return Manifest(
        name=draw(_texts),
        version=draw(st.integers(1, 2**63 - 1)),
        created=draw(_texts),
        files=tuple(files),
        model_digest=model_digest(files),
        slipway_version=draw(_texts),
        metrics=draw(st.dictionaries(_texts, st.none() | st.floats(allow_nan=True) | st.integers(-5, 5), max_size=4)),
        labels=tuple(draw(st.lists(_texts, max_size=4))),
        config_hash=draw(st.none() | _texts),
        data_fingerprint=draw(st.none() | _texts),
        git_commit=draw(st.none() | _texts),
        previous=draw(_numbers),
        restores=draw(_numbers),
        rolled_back_from=draw(_numbers),
        documents=tuple(documents),
    )


@unhurried
@given(_manifests())
def test_round_trip(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text
    assert all(value is None or math.isfinite(value) for value in manifest.metrics.values())


@unhurried
@given(st.lists(_entries, min_size=1, max_size=5, unique_by=lambda entry: entry.path), st.randoms())
def test_digest_depends_on_the_set_of_files_only(entries: list[FileEntry], random: Any) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert model_digest(shuffled) == model_digest(entries)
    assert model_digest(entries[:-1]) != model_digest(entries)
    last = dataclasses.replace(entries[-1], size=entries[-1].size + 1)
    assert model_digest([*entries[:-1], last]) != model_digest(entries)


@unhurried
@given(st.recursive(st.none() | st.booleans() | st.integers() | _texts, lambda inner: st.lists(inner)))
def test_any_json_value_in_any_place_is_refused_or_read(value: Any) -> None:
    files = (FileEntry("saved_model.pb", 1, "0" * 64),)
    good = Manifest("m", 1, "now", files, model_digest(files), "0")
    for key in [*json.loads(good.to_json()), "surprise"]:
        text = json.dumps({**json.loads(good.to_json()), key: value})
        try:
            again = Manifest.from_json(text)
        except ManifestError:
            continue
        assert Manifest.from_json(again.to_json()) == again


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a/.", "..", "a\\b", "C:/x", "C:x",
        "a\0b", "a\nb", "\x7f", "\udcff", "manifest.json", 7, None, ["a"],
    ],
)  # fmt: skip
def test_unsafe_paths_are_refused(plain_model: Path, path: Any) -> None:
    good = json.loads(make_manifest(plain_model).to_json())
    good["files"].append({"path": path, "size": 0, "sha256": "0" * 64})
    (plain_model / "manifest.json").write_text(json.dumps(good))
    with pytest.raises(ManifestError, match=r"manifest\.json: path"):
        manifests.read(plain_model)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "received a list"),
        ("{}", "the format is not 1"),
        ('{"format": 2}', "newer slipway"),
        ('{"format": 1, "format": 1}', "a key stands twice"),
        ('{"format": 1, "owner": "x"}', r"unknown keys \['owner'\]"),
        ('{"format": 1}', r"keys \['created', 'files'"),
        ("[" * 200_000, "not valid JSON"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_malformed_text(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ManifestError, match=words):
        manifests.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": True}, "version is True, expected int"),
        ({"version": "3"}, "version is '3', expected int"),
        ({"version": 0}, "version is 0, expected 1 or more"),
        ({"previous": -1}, "previous is -1, expected 0 or more"),
        ({"name": None}, "name is None, expected str"),
        ({"metrics": {"accuracy": "0.9"}}, "metric 'accuracy' is '0.9'"),
        ({"metrics": {"accuracy": 10**400}}, "metric 'accuracy'"),
        ({"metrics": {1: 0.9}}, "metric name is 1"),
        ({"labels": (1, 2)}, "labels are"),
        ({"model_digest": "0" * 64}, "does not belong to the files"),
    ],
)
def test_wrong_values(plain_model: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        make_manifest(plain_model, **changes)


def test_edited_file_list_is_detected(plain_model: Path) -> None:
    data = json.loads(make_manifest(plain_model).to_json())
    data["files"][0]["sha256"] = "0" * 64
    with pytest.raises(ManifestError, match="does not belong to the files"):
        Manifest.from_json(json.dumps(data))
    data["files"][0]["sha256"] = "0" * 63 + "\n"
    with pytest.raises(ManifestError, match="expected 64 hex digits"):
        Manifest.from_json(json.dumps(data))


def test_write_and_verify(plain_model: Path) -> None:
    manifest = make_manifest(plain_model)
    manifests.write(plain_model, manifest)
    assert manifests.read(plain_model) == manifest
    assert verify(plain_model) == []
    assert describe_files(plain_model) == manifest.files, "the manifest does not list itself"
    with pytest.raises(FileExistsError):
        manifests.write(plain_model, manifest)


def _same_size(path: Path) -> None:
    path.write_bytes(b"X" * path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda d: _same_size(d / "saved_model.pb"), "saved_model.pb was changed"),
        (lambda d: (d / "saved_model.pb").write_bytes(b""), "saved_model.pb was changed"),
        (lambda d: (d / "variables/variables.index").unlink(), "variables/variables.index is missing"),
        (lambda d: (d / "assets/extra.so").write_bytes(b"x"), "assets/extra.so was added"),
        (lambda d: (d / "link").symlink_to("/etc/passwd"), "link is a symbolic link"),
        (lambda d: (d / "more").symlink_to(d / "assets"), "more is a symbolic link"),
        (lambda d: os.mkfifo(d / "pipe"), "pipe is no regular file"),
    ],
)
def test_verify_names_what_is_wrong(plain_model: Path, damage: Any, problem: str) -> None:
    manifests.write(plain_model, make_manifest(plain_model))
    damage(plain_model)
    assert verify(plain_model) == [problem]


def test_a_file_replaced_by_a_link_to_the_same_content(plain_model: Path, tmp_path: Path) -> None:
    manifests.write(plain_model, make_manifest(plain_model))
    original = plain_model / "saved_model.pb"
    original.rename(tmp_path / "elsewhere")
    original.symlink_to(tmp_path / "elsewhere")
    assert verify(plain_model) == ["saved_model.pb is a symbolic link"]


def test_links_are_not_described(plain_model: Path) -> None:
    (plain_model / "assets" / "shadow").symlink_to("/etc/shadow")
    with pytest.raises(ManifestError, match="assets/shadow is a symbolic link; a model consists of plain files"):
        describe_files(plain_model)


def test_a_manifest_that_is_a_link_or_huge_is_not_read(plain_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain_model / "manifest.json"
    path.symlink_to("/dev/zero")
    with pytest.raises(ManifestError, match="link, too large or no regular file"):
        manifests.read(plain_model)
    path.unlink()
    with pytest.raises(ManifestError, match="No such file or directory; expected a published model"):
        manifests.read(plain_model)
    manifests.write(plain_model, make_manifest(plain_model))
    monkeypatch.setattr(manifests, "_MAX_BYTES", 10)
    with pytest.raises(ManifestError, match="too large"):
        manifests.read(plain_model)


def test_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'tensorflow', 'pydantic', 'fcntl']));"
        "import serving.manifest; print(sorted(m for m in sys.modules if m.startswith('serving')))"
    )
    root = Path(manifests.__file__).parent.parent
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.strip() == "['serving', 'serving.errors', 'serving.manifest']", done.stderr
