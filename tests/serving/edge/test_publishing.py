"""Publication of bundles: numbers, rollback, and what happens when it breaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving import publish as publishing
from serving.edge.publishing import publish_bundle
from serving.edge.verify import verify_bundle
from serving.errors import BundleError, PublishError
from serving.publish import publish, rollback, served, versions
from tests.serving.edge import tiny
from tests.serving.saved_models import make_plain_model

ROOT = Path(publishing.__file__).parent.parent

# Kills its own process just before the n-th call that changes the disk; prints "survived" if there is none.
_KILL = """
import os, pathlib, shutil, signal, sys
from serving.edge.publishing import publish_bundle
countdown = int(sys.argv[1])
def deadly(function):
    def call(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
calls = {os: ["rename", "replace", "fsync"], shutil: ["copyfile", "rmtree"], pathlib.Path: ["mkdir"]}
for module, names in calls.items():
    for name in names:
        setattr(module, name, deadly(getattr(module, name)))
publish_bundle(sys.argv[2], sys.argv[3], keep=2)
print("survived")
"""

_PUSH = """
import sys
from serving.edge.publishing import publish_bundle
print("ready", flush=True)
sys.stdin.readline()
print(publish_bundle(sys.argv[1], sys.argv[2]).number)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.fixture()
def next_bundle(bundle_copy: Path) -> Path:
    """A bundle of another content."""
    (bundle_copy / "README.md").write_text("# Another one\n")
    tiny.sign(bundle_copy)
    return bundle_copy


def test_versions_and_rollback(bundle: Path, next_bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "edge" / "pets"
    first = publish_bundle(bundle, base, metrics={"accuracy": 0.9}, git_commit="e" * 40)
    assert (first.number, first.served) == (1, True)
    assert first.manifest is not None
    assert (first.manifest.name, first.manifest.labels) == ("pets", tiny.LABELS)
    assert publish_bundle(bundle, base).already_published
    assert publish_bundle(next_bundle, base).number == 2
    restored = rollback(base)
    assert (restored.number, restored.restores) == (3, 1)
    assert [version.number for version in versions(base)] == [1, 2, 3]
    for version in versions(base):
        findings = verify_bundle(version.path, runtime="none")
        assert [finding.check for finding in findings if finding.status != "passed"] == ["answers"]


def test_a_damaged_bundle_is_not_published(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "labels.txt").write_text("dog\ncat\nowl\n")
    with pytest.raises(BundleError, match=r"does not hold what it promises: sums: labels\.txt was changed; labels:"):
        publish_bundle(bundle_copy, tmp_path / "base")
    with pytest.raises(PublishError, match=r"is no mobile bundle: expected model_card\.json in it"):
        publish_bundle(tmp_path / "gone", tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_bundles_and_saved_models_do_not_mix(bundle: Path, tmp_path: Path) -> None:
    model = make_plain_model(tmp_path / "model")
    publish(model, tmp_path / "served", name="pets")
    with pytest.raises(PublishError, match="does not hold mobile bundles"):
        publish_bundle(bundle, tmp_path / "served")
    publish_bundle(bundle, tmp_path / "edge")
    with pytest.raises(PublishError, match="does not hold SavedModels"):
        publish(model, tmp_path / "edge", name="pets")
    assert len(versions(tmp_path / "served")) == len(versions(tmp_path / "edge")) == 1


def test_damage_after_publication_is_found(bundle: Path, tmp_path: Path) -> None:
    version = publish_bundle(bundle, tmp_path / "base")
    (version.path / "README.md").write_text("x")
    tiny.sign(version.path)
    problems = [str(finding) for finding in verify_bundle(version.path, runtime="none") if finding.status == "failed"]
    assert problems == ["manifest: README.md was changed", "manifest: SHA256SUMS was changed"]
    assert served(tmp_path / "base") is None


@pytest.mark.slow
def test_kill_at_every_step(bundle: Path, next_bundle: Path, tmp_path: Path) -> None:
    publish_bundle(bundle, tmp_path / "start")
    after = Path(shutil.copytree(next_bundle, tmp_path / "after"))
    (after / "README.md").write_text("# The one after\n")
    tiny.sign(after)
    step, killed, outcomes = 0, True, set()
    while killed:
        base = Path(shutil.copytree(tmp_path / "start", tmp_path / "base"))
        process = _start(_KILL, step, next_bundle, base)
        output, errors = process.communicate(timeout=300)
        killed = process.returncode == -9
        assert killed or (process.returncode, output) == (0, "survived\n"), errors
        assert all(version.ok for version in versions(base)), step
        current = served(base)
        assert current is not None
        outcomes.add(current.number)
        assert publish_bundle(after, base).number > current.number
        assert sorted(os.listdir(base / ".slipway")) == ["lock", "record.json"], step
        shutil.rmtree(base)
        # Every third step: the rest is the flushing of one file after the other.
        step += 3
    assert step > 30, "the steps were really interrupted"
    assert outcomes == {1, 2}, "killed before as well as after the rename"


def test_two_at_once_get_different_numbers(bundle: Path, next_bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    pushers = [_start(_PUSH, one, base) for one in (bundle, next_bundle)]
    for pusher in pushers:
        assert pusher.stdout is not None and pusher.stdout.readline() == "ready\n"
    outputs = [pusher.communicate("\n", timeout=300) for pusher in pushers]
    assert sorted(text.strip() for text, _ in outputs) == ["1", "2"], outputs
    assert [version.ok for version in versions(base)] == [True, True]
