"""Makes Airflow environments beside the project's: `.airflow/3` and `.airflow/2`, from hash-locked requirements.

    python3 scripts/airflow_env.py              both, where they are missing or out of date (`make airflow`)
    python3 scripts/airflow_env.py 3            only that of Airflow 3
    python3 scripts/airflow_env.py --check      only say by the exit code (0 or 1) whether all is there
    python3 scripts/airflow_env.py --lock       resolve the inputs below anew; more arguments go to uv

Airflow and TFX can't share an environment, and needn't: the DAG file that `slipway compile` writes imports nothing
but Airflow. The tests that run pipelines by Airflow call this. What cannot work ends in one sentence and exit code
2; the tools' own output is in `.airflow/<version>.log`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from environment import index, installer, interpreters, stamp
from environment.commands import Runner, inherited_environment, to_stderr
from environment.failures import SENTENCES, SPACE, SetupError, sentence_for

ROOT = Path(__file__).resolve().parent.parent
INPUTS = {
    "3": ("apache-airflow>=3.3,<4", "asyncpg", "psycopg2-binary"),
    "2": ("apache-airflow>=2.11,<3", "psycopg2-binary"),
}
"""What is locked, by the environment's name. Tasks that run side by side need a database server, hence the drivers."""

# To be raised when an environment is made in another way than before.
RECIPE = 1
WAITING = "another set-up of this clone is at work; waiting for it"
NEEDED_GB = 1.5


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Bring the environments up to date.

    Args:
        arguments: see the module.
        root: the clone.

    Returns:
        The exit code: 0 done, 1 (`--check`) work to do, 2 impossible, 130 interrupted.
    """
    named = [word for word in arguments if word in INPUTS] or list(INPUTS)
    others = [word for word in arguments if word not in INPUTS]
    try:
        if others[:1] == ["--lock"]:
            _each(named, root, lambda name, runner: lock(name, others[1:], root, runner))
            return 0
        if others not in ([], ["--check"]):
            raise SetupError(f"received {' '.join(others)}; expected {' or '.join(INPUTS)}, --check or --lock")
        missing = [name for name in named if not complete(name, root)]
        if missing and others:
            return 1
        if missing:
            _each(missing, root, lambda name, runner: make(name, root, runner))
    except SetupError as error:
        to_stderr(f"error: {error} (details: .airflow/*.log)")
        return SetupError.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        to_stderr(f"error: {SENTENCES[SPACE]}")
        return SetupError.exit_code
    except KeyboardInterrupt:
        to_stderr("interrupted: the same command begins again")
        return 130
    return 0


def environment(name: str, root: Path = ROOT) -> Path:
    """Return the folder of an environment."""
    return root / ".airflow" / name


def requirements(name: str, root: Path = ROOT) -> Path:
    """Return the lock of an environment."""
    return root / f"requirements-airflow-{name}.lock"


def complete(name: str, root: Path = ROOT) -> bool:
    """Return whether an environment is there, made from the lock of now, in this place, and its Python starts."""
    try:
        found = json.loads(_stamp(name, root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found == _state(name, root) and (environment(name, root) / "bin/python").exists())


def make(name: str, root: Path, runner: Runner) -> None:
    """Make one environment anew, unless somebody else has meanwhile.

    Raises:
        SetupError: with one sentence, at the first thing that is missing.
    """
    if complete(name, root):
        return
    begun = time.monotonic()
    folder, state = environment(name, root), _state(name, root)
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < NEEDED_GB:
        raise SetupError(f"An Airflow environment needs {NEEDED_GB} GB of free disk; {folder.parent} has {free:.1f} GB")
    runner.say(f"making .airflow/{name}, once; 1 to 5 minutes")
    uv, python = _tools(root, runner)
    # The stamp goes first and comes last: what was killed on the way is made anew.
    with contextlib.suppress(FileNotFoundError):
        _stamp(name, root).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    _step(runner, [uv, "venv", "--no-project", "--python", python, str(folder)], f"making .airflow/{name}")
    command = [uv, "pip", "sync", "--require-hashes", "--python", str(folder / "bin/python")]
    bytecode = {"UV_COMPILE_BYTECODE": "1", "UV_COMPILE_BYTECODE_TIMEOUT": "900"}
    _step(runner, [*command, str(requirements(name, root))], "installing Airflow", **bytecode)
    beside = _stamp(name, root).with_suffix(".new")
    beside.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, _stamp(name, root))
    runner.say(f"made .airflow/{name} in {time.monotonic() - begun:.0f} s")


def lock(name: str, arguments: Sequence[str], root: Path, runner: Runner) -> None:
    """Resolve the input of one environment into its lock, for Python 3.10; versions that still fit stay.

    Raises:
        SetupError: nothing fits together.
    """
    uv, python = _tools(root, runner)
    for additional in ("UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"):
        runner.env.pop(additional, None)  # an additional index may hold some files of a version and hide the others
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.in")
        wanted.write_text("\n".join(INPUTS[name]) + "\n", encoding="utf-8")
        command = [uv, "pip", "compile", "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--quiet"]
        command += ["--python", python, "--custom-compile-command", "make airflow-lock"]
        command += [*arguments, "-o", str(requirements(name, root)), str(wanted)]
        _step(runner, command, "resolving the requirements")


def _each(names: Sequence[str], root: Path, act: Callable[[str, Runner], None]) -> None:
    """Do something for each environment under the lock of all of them, with a log for each."""
    folder = root / ".airflow"
    # The lock of the clone's set-up: the two share uv and Python in `.tools`.
    with stamp.one_at_a_time(root / ".tools", lambda: to_stderr(WAITING)) as held:
        for name in names:
            env = inherited_environment()
            env.update(index.variables_for_uv(env))
            act(name, Runner(folder / f"{name}.log", env, keep_open=(held,)))


def _tools(root: Path, runner: Runner) -> tuple[str, str]:
    """Return uv and a Python 3.10, found or fetched as for `.venv`."""
    tools = root / ".tools"
    python = interpreters.find_installed(runner.env, runner)
    uv = installer.obtain_uv(tools, [*([python] if python else []), sys.executable], runner.env, runner)
    return uv, python or interpreters.find_or_fetch_with_uv(uv, runner.env, runner, tools / "python")


def _step(runner: Runner, command: Sequence[str], doing: str, **variables: str) -> None:
    outcome = runner.run(command, **variables)
    if outcome.code != 0:
        raise SetupError(sentence_for(outcome.output, doing))


def _state(name: str, root: Path) -> dict[str, object]:
    digest = hashlib.sha256(requirements(name, root).read_bytes()).hexdigest()
    return {"recipe": RECIPE, "root": str(root), "requirements": digest}


def _stamp(name: str, root: Path) -> Path:
    return environment(name, root) / "slipway-stamp.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
