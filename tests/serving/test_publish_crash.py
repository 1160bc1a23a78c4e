"""Publication when things break: kill -9 at every step, several pushers, a full disk, no permission."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving import durable
from serving import publish as publishing
from serving.errors import ManifestError, PublishError
from serving.publish import publish, rollback, served, versions
from tests.serving.saved_models import make_plain_model

ROOT = Path(publishing.__file__).parent.parent
Models = Callable[[str], Path]

# Kills its own process just before the n-th call that changes the disk; prints "survived" if there is none.
_KILL = """
import os, pathlib, shutil, signal, sys
from serving.publish import publish, rollback
countdown = int(sys.argv[1])
def deadly(function):
    def call(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
calls = {os: ["rename", "replace", "fsync", "link"], shutil: ["copyfile", "rmtree"], pathlib.Path: ["mkdir"]}
for module, names in calls.items():
    for name in names:
        setattr(module, name, deadly(getattr(module, name)))
if sys.argv[2] == "publish":
    publish(sys.argv[3], sys.argv[4], name="pets", keep=2)
else:
    rollback(sys.argv[4])
print("survived")
"""

# Says that it is ready, waits for the word to start, publishes, and prints the number or the error.
_PUSH = """
import os, resource, sys
from serving.errors import ServingError
from serving.publish import publish
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[3] == "no space":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
if sys.argv[3] == "nobody" and os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    print(publish(sys.argv[1], sys.argv[2], name="pets", keep=3).number)
except ServingError as error:
    print(error)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


def _push_at_once(base: Path, models: Sequence[Path], mode: str = "") -> list[str]:
    """What each pusher printed after all of them were ready."""
    pushers = [_start(_PUSH, model, base, mode) for model in models]
    for pusher in pushers:
        assert pusher.stdout is not None
        assert pusher.stdout.readline() == "ready\n"
    for pusher in pushers:
        assert pusher.stdin is not None
        pusher.stdin.write("\n")
        pusher.stdin.flush()
    outputs = [pusher.communicate(timeout=120) for pusher in pushers]
    assert not any(errors for _, errors in outputs), outputs
    return [text.strip() for text, _ in outputs]


def _run_and_kill_at(step: int, action: str, model: Path, base: Path) -> bool:
    """True if the process was killed."""
    process = _start(_KILL, step, action, model, base)
    output, errors = process.communicate(timeout=120)
    if process.returncode == -9:
        return True
    assert (process.returncode, output) == (0, "survived\n"), errors
    return False


@pytest.mark.slow
@pytest.mark.parametrize("action", ["publish", "rollback"])
def test_kill_at_every_step(tmp_path: Path, plain_models: Models, action: str) -> None:
    step, killed, outcomes = 0, True, set()
    new, next_one = plain_models("new"), plain_models("next")
    for content in ("one", "two"):
        publish(plain_models(content), tmp_path / "start", name="pets")
    while killed:
        base = Path(shutil.copytree(tmp_path / "start", tmp_path / f"base-{step}"))
        killed = _run_and_kill_at(step, action, new, base)

        # Every name that looks like a version is complete; what is served is the old or the new content.
        assert all(version.ok for version in versions(base)), step
        current = served(base)
        assert current is not None
        assert (current.path / "saved_model.pb").read_text() == {
            2: "two",
            3: "new" if action == "publish" else "one",
        }[current.number]
        outcomes.add(current.number)

        # The next publication works, reuses no number, and clears the remains.
        after = publish(next_one, base, name="pets")
        assert after.number > current.number
        assert sorted(os.listdir(base / ".slipway")) == ["lock", "record.json"], step
        assert not list(base.rglob("removed-*"))
        shutil.rmtree(base)
        step += 1
    assert step > 10, "the steps were really interrupted"
    assert outcomes == {2, 3}, "killed before as well as after the rename"


@pytest.mark.parametrize("pushers", [2, 8])
def test_pushers_at_once_get_different_numbers(tmp_path: Path, plain_models: Models, pushers: int) -> None:
    base = tmp_path / "base"
    numbers = _push_at_once(base, [plain_models(f"m{index}") for index in range(pushers)])
    assert sorted(map(int, numbers)) == list(range(1, pushers + 1))
    assert [version.number for version in versions(base)] == list(range(1, pushers + 1))[-3:]
    assert all(version.ok for version in versions(base))


def test_the_same_model_pushed_by_several_at_once_is_published_once(tmp_path: Path, plain_model: Path) -> None:
    base, results = tmp_path / "base", []
    threads = [
        threading.Thread(target=lambda: results.append(publish(plain_model, base, name="pets"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.number for version in results] == [1] * 8
    assert sum(version.already_published for version in results) == 7


def test_a_held_lock_names_its_holder(tmp_path: Path, plain_models: Models) -> None:
    base = tmp_path / "base"
    publish(plain_models("a"), base, name="pets")
    with (
        durable.exclusive_lock(base / ".slipway" / "lock", 0),
        pytest.raises(PublishError, match=f"still locked after 0 seconds by process {os.getpid()},"),
    ):
        publish(plain_models("b"), base, name="pets", lock_timeout_seconds=0)
    assert publish(plain_models("b"), base, name="pets", lock_timeout_seconds=0).number == 2


def _fails_after(function: Callable[..., Any], calls: int, number: int) -> Callable[..., Any]:
    remaining = [calls]

    def call(*args: Any, **kwargs: Any) -> Any:
        remaining[0] -= 1
        if remaining[0] < 0:
            raise OSError(number, os.strerror(number), str(args[0]))
        return function(*args, **kwargs)

    return call


def _snapshot(base: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(base)): path.read_bytes()
        for path in sorted(base.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [(shutil, "copyfile", 0), (shutil, "copyfile", 2), (Path, "mkdir", 3), (os, "fsync", 0), (os, "fsync", 4),
     (os, "replace", 0), (os, "rename", 0)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"not enough space \(\d+ MiB free\)"),
        (errno.EDQUOT, "not enough space"),
        (errno.EROFS, "not writable for this user"),
        (errno.EIO, "the file system refuses it"),
    ],
)
def test_a_failing_disk_changes_nothing(
    tmp_path: Path,
    plain_models: Models,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    calls: int,
    number: int,
    words: str,
) -> None:
    base, model = tmp_path / "base", plain_models("b")
    publish(plain_models("a"), base, name="pets")
    before = _snapshot(base)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _fails_after(getattr(module, name), calls, number))
        with pytest.raises(PublishError, match=f"nothing was published .*{words}.* What is served is untouched"):
            publish(model, base, name="pets")
    after = _snapshot(base)
    after.pop(".slipway/record.json.new", None)
    # A number may be lost, nothing else may change.
    record = ".slipway/record.json"
    assert {**after, record: b""} == {**before, record: b""}
    assert served(base) == versions(base)[0]
    assert publish(model, base, name="pets").number in (2, 3)


def test_a_real_write_limit(tmp_path: Path, plain_models: Models) -> None:
    base = tmp_path / "base"
    publish(plain_models("a"), base, name="pets")
    (message,) = _push_at_once(base, [plain_models("bbb")], "no space")
    assert "not enough space" in message
    assert [version.number for version in versions(base)] == [1]
    assert not (base / ".slipway" / "incoming").exists()


def test_a_model_that_changes_while_it_is_copied(
    tmp_path: Path, plain_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_and_change(source: Path, target: Path, **_options: Any) -> None:
        Path(target).write_bytes(Path(source).read_bytes() + b"!" * (Path(source).name == "saved_model.pb"))

    monkeypatch.setattr(shutil, "copyfile", copy_and_change)
    with pytest.raises(ManifestError, match=r"changed while it was copied \(saved_model.pb\)"):
        publish(plain_model, tmp_path / "base", name="pets")
    assert versions(tmp_path / "base") == []


def test_a_directory_that_appears_in_between_is_not_overwritten(
    tmp_path: Path, plain_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"

    def foreign_push(path: Path, text: str) -> None:
        (base / "1").mkdir()
        durable.write_durably(path, text)

    monkeypatch.setattr(publishing, "write_durably", foreign_push)
    with pytest.raises(PublishError, match="appeared while it was being published; nothing was overwritten"):
        publish(plain_model, base, name="pets")
    assert os.listdir(base / "1") == []


def test_interrupt_leaves_nothing(tmp_path: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    for content in "ab":
        publish(plain_models(content), base, name="pets")

    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "sync_tree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rollback(base)
    assert not (base / ".slipway" / "incoming").exists()
    assert rollback(base).number == 3


def test_failing_removal_of_old_versions_is_no_failed_publication(
    tmp_path: Path, plain_models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "base"
    for content in "abc":
        publish(plain_models(content), base, name="pets")
    model = plain_models("d")
    monkeypatch.setattr(os, "rename", _fails_after(os.rename, 1, errno.EIO))
    assert publish(model, base, name="pets", keep=1).number == 4
    assert "could not be removed" in caplog.text
    assert [version.number for version in versions(base)] == [1, 2, 3, 4]


@pytest.fixture()
def open_directory() -> Iterator[Path]:
    """Directory that every user may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="slipway-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("published_before", [False, True])
def test_read_only_directory(open_directory: Path, published_before: bool) -> None:
    model, base = make_plain_model(open_directory / "model"), open_directory / "base"
    base.mkdir()
    if published_before:
        publish(model, base, name="pets")
        (model / "saved_model.pb").write_text("other")
    before = _snapshot(base)
    for path in (base, base / ".slipway", base / ".slipway" / "lock"):
        if path.exists():
            path.chmod(0o555)
    try:
        (message,) = _push_at_once(base, [model], "nobody")
        assert "not writable for this user" in message
        assert _snapshot(base) == before
    finally:
        base.chmod(0o755)
        if published_before:
            (base / ".slipway").chmod(0o755)
