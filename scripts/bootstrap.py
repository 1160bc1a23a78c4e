"""Makes `.venv` complete, and does nothing if it is: the first step of every command in the Makefile.

    python3 scripts/bootstrap.py            set up what is missing
    python3 scripts/bootstrap.py --check    only say by the exit code (0 or 1) whether all is there

Needs no package and any Python from 3.8 on. It finds or fetches Python 3.10, gets uv, installs
`requirements.lock` with every hash checked and the bytecode compiled, and installs the project itself in
editable form. What cannot work ends in one sentence and exit code 2; the tools' own output is in
`.tools/bootstrap.log`.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from pathlib import Path

from environment import compiler, index, installer, interpreters, machine, stamp
from environment.commands import Runner, inherited_environment, to_stderr
from environment.failures import RIGHTS, SENTENCES, SPACE, SetupError, sentence_for

ROOT = Path(__file__).resolve().parent.parent
WAITING = "another set-up of this clone is at work; waiting for it"
ANNOUNCEMENTS = {
    stamp.REDO: "setting up .venv, once; 3 to 10 minutes and 4 GB, less where packages are cached",
    stamp.UPDATE: "bringing .venv up to date",
}


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Bring the environment up to date.

    Args:
        arguments: empty, or `--check`.
        root: the clone.

    Returns:
        The exit code: 0 done, 1 (`--check`) work to do, 2 impossible, 130 interrupted.
    """
    try:
        if stamp.work_to_do(root) == stamp.NOTHING:
            return 0
        if "--check" in arguments:
            return 1
        set_up(root)
    except SetupError as error:
        return _refuse(str(error), root)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _refuse(SENTENCES[SPACE], root)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _refuse(f"{SENTENCES[RIGHTS]} ({error.filename})", root)
        raise
    except KeyboardInterrupt:
        to_stderr("interrupted: the same command begins the set-up again")
        return 130
    return 0


def set_up(root: Path) -> None:
    """Do all the steps under the clone's lock.

    Raises:
        SetupError: with one sentence, at the first thing that is missing.
    """
    tools = root / ".tools"
    with stamp.one_at_a_time(tools, lambda: to_stderr(WAITING)) as lock:
        work = stamp.work_to_do(root)
        if work == stamp.NOTHING:
            return
        begun = time.monotonic()
        env = inherited_environment()
        env.update(index.variables_for_uv(env))
        runner = Runner(tools / "bootstrap.log", env, keep_open=(lock,))
        machine.check_platform()
        machine.check_disk(root, env, changes_only=work == stamp.UPDATE)
        runner.say(ANNOUNCEMENTS[work])
        _fill(root, tools, work, runner)
        runner.say(f"set up in {time.monotonic() - begun:.0f} s")


def _fill(root: Path, tools: Path, work: str, runner: Runner) -> None:
    state = stamp.wanted(root)
    runner.say("[1/4] looking for Python 3.10 and uv")
    python, uv = _python_and_uv(tools, runner)
    runner.say(f"      {python} and {uv}")
    stamp.remove(root)
    if work == stamp.REDO:
        runner.say("[2/4] making .venv")
        _make_environment(uv, python, root, runner)
    runner.say(f"[3/4] installing the {_packages(root)} locked packages, hashes checked")
    _install_lock(uv, python, root, tools, runner)
    runner.say("[4/4] installing the project")
    _install_project(uv, root, runner)
    stamp.write(root, state)


def _python_and_uv(tools: Path, runner: Runner) -> tuple[str, str]:
    python = interpreters.find_installed(runner.env, runner)
    others = [sys.executable] + [found for found in map(shutil.which, ("python3", "python")) if found]
    uv = installer.obtain_uv(tools, ([python] if python else []) + others, runner.env, runner)
    if python is None:
        python = interpreters.find_or_fetch_with_uv(uv, runner.env, runner, tools / "python")
    return python, uv


def _make_environment(uv: str, python: str, root: Path, runner: Runner) -> None:
    shutil.rmtree(str(root / ".venv"), ignore_errors=True)
    outcome = runner.run([uv, "venv", "--no-project", "--python", python, str(root / ".venv")])
    if outcome.code != 0:
        raise SetupError(sentence_for(outcome.output, "making .venv"))


def _install_lock(uv: str, python: str, root: Path, tools: Path, runner: Runner) -> None:
    compilers = compiler.compiler_variables(runner.env)
    if compilers is None:
        compilers = compiler.fetch_compiler(uv, python, tools, runner)
    command = [uv, "pip", "sync", "--require-hashes", "--python", str(root / ".venv/bin/python")]
    # Without bytecode every start would compile all of TFX: 40 s instead of 10. A busy machine may need long
    # for a large file, hence the time limit.
    bytecode = {"UV_COMPILE_BYTECODE": "1", "UV_COMPILE_BYTECODE_TIMEOUT": "900"}
    outcome = runner.run([*command, str(root / "requirements.lock")], **compilers, **bytecode)
    if outcome.code != 0:
        raise SetupError(sentence_for(outcome.output, "installing the packages"))


def _install_project(uv: str, root: Path, runner: Runner) -> None:
    """Install in the editable form that is a plain path entry: new modules count at once."""
    command = [uv, "pip", "install", "--python", str(root / ".venv/bin/python"), "--no-deps"]
    command += ["--no-build-isolation", "--config-settings", "editable_mode=compat"]
    outcome = runner.run([*command, "--editable", str(root)])
    if outcome.code != 0:
        raise SetupError(sentence_for(outcome.output, "installing the project"))


def _packages(root: Path) -> int:
    return (root / "requirements.lock").read_text(encoding="utf-8").count("==")


def _refuse(sentence: str, root: Path) -> int:
    log = root / ".tools/bootstrap.log"
    told = log.exists() and log.stat().st_size > 0
    to_stderr("error: " + sentence.rstrip(".") + (f" (details: {os.path.relpath(str(log))})" if told else ""))
    return SetupError.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
