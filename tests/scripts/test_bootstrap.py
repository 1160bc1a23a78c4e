from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import bootstrap
import pytest
from environment import machine, stamp
from environment.failures import SetupError

LAUNCHER = Path(bootstrap.__file__).with_suffix(".sh")


@pytest.fixture
def ready(fake, monkeypatch: pytest.MonkeyPatch):
    """A machine that has everything: a Python 3.10, a uv, compilers, disk."""
    fake.uv()
    fake.python(fake.path / "python3.10")
    for name in ("gcc", "g++"):
        fake.program(fake.path / name, "exit 0")
    monkeypatch.setattr(os, "environ", fake.env)
    monkeypatch.setattr(machine, "check_disk", lambda *arguments, **keywords: None)
    return fake


def steps(fake) -> list[str]:
    return [" ".join(call.split()[:2]).replace(" --no-project", "") for call in fake.uv_calls()]


def test_the_first_time_all_is_done_and_the_second_time_nothing(ready, capsys: pytest.CaptureFixture) -> None:
    assert bootstrap.main([], ready.clone) == 0
    assert steps(ready) == ["venv", "pip sync", "pip install"]
    assert "--require-hashes" in ready.uv_calls()[1]
    assert "--no-deps" in ready.uv_calls()[2]
    shown = capsys.readouterr().err
    assert "[4/4]" in shown and "1 locked packages" in shown
    assert bootstrap.main([], ready.clone) == 0
    assert len(ready.uv_calls()) == 3
    assert capsys.readouterr().err == ""


def test_check_only_looks(ready) -> None:
    assert bootstrap.main(["--check"], ready.clone) == 1
    assert ready.uv_calls() == []
    bootstrap.main([], ready.clone)
    assert bootstrap.main(["--check"], ready.clone) == 0


def test_a_changed_lock_is_installed_into_the_same_environment(ready) -> None:
    bootstrap.main([], ready.clone)
    (ready.clone / "requirements.lock").write_text("a==1\nb==2\n", encoding="utf-8")
    assert bootstrap.main([], ready.clone) == 0
    assert steps(ready)[3:] == ["pip sync", "pip install"]


def test_an_unfinished_set_up_is_begun_again(ready) -> None:
    ready.env.update(FAKE_UV_FAILS="pip install", FAKE_UV_SAYS="Killed")
    assert bootstrap.main([], ready.clone) == 2
    assert stamp.work_to_do(ready.clone) == stamp.REDO
    half_done = ready.clone / ".venv/half-done"
    half_done.write_text("", encoding="utf-8")
    ready.env.update(FAKE_UV_FAILS="")
    assert bootstrap.main([], ready.clone) == 0
    assert not half_done.exists()


@pytest.mark.parametrize(
    ("step", "says", "sentence"),
    [
        ("venv", "weird", "Making .venv failed"),
        ("pip sync", "Hash mismatch for absl-py", "does not have the SHA-256"),
        ("pip sync", "dns error", "index cannot be reached"),
        ("pip sync", "No space left on device", "disk became full"),
        ("pip install", "weird", "Installing the project failed"),
    ],
)
def test_a_failed_step_is_one_sentence_with_the_log(ready, capsys, monkeypatch, step, says, sentence) -> None:
    monkeypatch.chdir(ready.clone)
    ready.env.update(FAKE_UV_FAILS=step, FAKE_UV_SAYS=says)
    assert bootstrap.main([], ready.clone) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last
    assert last.endswith("(details: .tools/bootstrap.log)")
    assert says in (ready.clone / ".tools/bootstrap.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SetupError("what is missing: what to do"), 2, "what is missing"),
        (OSError(errno.ENOSPC, "full"), 2, "disk became full"),
        (OSError(errno.EROFS, "read-only", "/somewhere"), 2, "/somewhere"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_way_to_fail_has_its_sentence_and_code(fake, capsys, monkeypatch, error, code, sentence) -> None:
    def fail(root: Path) -> None:
        raise error

    monkeypatch.setattr(bootstrap, "set_up", fail)
    assert bootstrap.main([], fake.clone) == code
    assert sentence in capsys.readouterr().err


def launch(fake, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the launcher beside a bootstrap.py that only tells which Python runs it."""
    scripts = fake.clone / "scripts"
    scripts.mkdir(exist_ok=True)
    (scripts / "bootstrap.py").write_text("import sys; print('runs on', sys.executable)\n", encoding="utf-8")
    (scripts / "bootstrap.sh").write_bytes(LAUNCHER.read_bytes())
    for tool in ("dirname", "cat"):
        if not (fake.path / tool).exists():
            (fake.path / tool).symlink_to(f"/usr/bin/{tool}")
    command = ["/bin/sh", str(scripts / "bootstrap.sh")]
    return subprocess.run(command, env={**fake.env, **extra}, capture_output=True, text=True, check=False)


def test_the_launcher_passes_over_a_python_that_does_not_start(fake) -> None:
    fake.program(fake.path / "python3", "echo 'pyenv: version 3.10 is not installed' >&2; exit 1")
    (fake.path / "python3.11").symlink_to(sys.executable)
    done = launch(fake)
    assert done.returncode == 0
    assert done.stdout.startswith("runs on") and done.stderr == ""


def test_the_launcher_passes_over_a_python_that_is_too_old(fake) -> None:
    fake.program(fake.path / "python3", "exit 1")
    (fake.path / "python3.9").symlink_to(sys.executable)
    assert launch(fake).returncode == 0


def test_the_real_one_says_that_the_environment_of_another_folder_is_not_there(tmp_path: Path) -> None:
    """The script as it is, on the standard library alone, in a process without site-packages."""
    import shutil

    shutil.copytree(LAUNCHER.parent, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in stamp.SOURCES:
        (tmp_path / name).write_text("", encoding="utf-8")
    command = [sys.executable, "-E", "-s", "-S", str(tmp_path / "scripts/bootstrap.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 1
