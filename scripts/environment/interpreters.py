"""Finds a CPython 3.10 that really starts and has what the packages need.

In come the environment and perhaps uv; out goes the path of the interpreter, or a `SetupError`. Called by the
set-up before the environment is made. Names that merely exist prove nothing: pyenv's `python3.10` is on PATH
and fails unless 3.10 is selected, so every candidate is started and asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from environment.commands import Runner, ask
from environment.failures import NETWORK, SetupError, cause_of

WANTED = (3, 10)
OVERRIDE = "SLIPWAY_PYTHON"

# Run by the candidate. A virtual environment is followed to the interpreter that it was made from.
PROBE = """
import importlib, json, os, platform, struct, sys, sysconfig
missing = []
for name in ("bz2", "ctypes", "sqlite3", "ssl", "zlib"):
    try:
        importlib.import_module(name)
    except ImportError:
        missing.append(name)
base = getattr(sys, "_base_executable", None) if sys.prefix != sys.base_prefix else sys.executable
print(json.dumps({
    "path": os.path.realpath(base or sys.executable),
    "implementation": platform.python_implementation(),
    "version": list(sys.version_info[:3]),
    "bits": struct.calcsize("P") * 8,
    "missing": missing,
    "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
}))
"""


class Examined(NamedTuple):
    """A candidate after it was asked: the interpreter's path, and why it will not do (empty if it will)."""

    path: str
    problem: str


def examine(python: str, env: Mapping[str, str]) -> Examined:
    """Start a candidate and see whether it is a usable CPython 3.10."""
    outcome = ask([python, "-I", "-c", PROBE], env)
    if outcome.code != 0:
        reason = outcome.output.splitlines()[0] if outcome.output else "no output"
        return Examined(python, f"does not start ({reason})")
    try:
        facts = json.loads(outcome.output.splitlines()[-1])
    except (ValueError, IndexError):
        return Examined(python, "gives no sensible answer")
    return Examined(facts["path"], _problem(facts))


def _problem(facts: dict) -> str:
    version = ".".join(str(part) for part in facts["version"])
    if facts["implementation"] != "CPython" or tuple(facts["version"][:2]) != WANTED:
        return "is {} {}".format(facts["implementation"], version)
    if facts["bits"] != 64:
        return "is a {}-bit Python".format(facts["bits"])
    if facts["missing"]:
        return "was built without {}".format(", ".join(facts["missing"]))
    if not facts["headers"]:
        return "has no C headers (Debian and Ubuntu: python3.10-dev)"
    return ""


def find_installed(env: Mapping[str, str], note: Runner) -> str | None:
    """Look for a Python 3.10 on this machine; what was tried is written into the log.

    Raises:
        SetupError: if SLIPWAY_PYTHON names an interpreter that will not do.
    """
    chosen = env.get(OVERRIDE)
    if chosen:
        found = examine(shutil.which(chosen, path=env.get("PATH")) or chosen, env)
        if found.problem:
            raise SetupError(
                f"{OVERRIDE} names {chosen}, which {found.problem}: name a CPython 3.10, or unset it to "
                "have one looked for"
            )
        return found.path
    seen: set[str] = set()
    for candidate in candidates(env):
        if candidate in seen:
            continue
        seen.add(candidate)
        found = examine(candidate, env)
        note.note("{} {}".format(candidate, found.problem or "will do"))
        if not found.problem:
            return found.path
    return None


def candidates(env: Mapping[str, str]) -> Iterator[str]:
    """Every place where a Python 3.10 may stand, the likeliest first."""
    if sys.version_info[:2] == WANTED:
        yield sys.executable
    for folder in (env.get("PATH") or os.defpath).split(os.pathsep):
        named = os.path.join(folder, "python3.10")
        if os.access(named, os.X_OK):
            yield named
    for root in _pyenv_roots(env):
        yield from _newest_first(root / "versions", "3.10.*/bin/python3.10")
    home = Path(env.get("HOME") or os.path.expanduser("~"))
    yield from _newest_first(home / ".local/share/uv/python", "cpython-3.10.*linux-x86_64-gnu/bin/python3.10")
    yield from _newest_first(Path("/opt/python"), "*3.10*/bin/python3.10")
    yield from _newest_first(Path("/usr/local/bin"), "python3.10")


def _pyenv_roots(env: Mapping[str, str]) -> list[Path]:
    roots = [Path(env["PYENV_ROOT"])] if env.get("PYENV_ROOT") else []
    pyenv = shutil.which("pyenv", path=env.get("PATH"))
    if pyenv:
        outcome = ask([pyenv, "root"], env)
        if outcome.code == 0 and outcome.output:
            roots.append(Path(outcome.output.splitlines()[-1]))
    roots.append(Path(env.get("HOME") or os.path.expanduser("~")) / ".pyenv")
    return roots


def _newest_first(folder: Path, pattern: str) -> Iterator[str]:
    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", str(path.relative_to(folder)))]

    for path in sorted(folder.glob(pattern), key=version, reverse=True):
        yield str(path)


def find_or_fetch_with_uv(uv: str, env: Mapping[str, str], runner: Runner, folder: Path) -> str:
    """Ask uv for a Python 3.10, and as the last resort have it download one.

    Args:
        uv: the uv program.
        env: environment of the tools.
        runner: runs the download and writes the log.
        folder: where a downloaded Python goes.

    Raises:
        SetupError: if there is none and none can be downloaded.
    """
    quiet = {**env, "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_INSTALL_DIR": str(folder)}
    known = ask([uv, "python", "find", "--no-project", "--system", "3.10"], quiet)
    if known.code == 0 and known.output:
        found = examine(known.output.splitlines()[-1], env)
        runner.note("{} {}".format(found.path, found.problem or "will do"))
        if not found.problem:
            return found.path
    runner.say("      none on this machine; downloading one (30 MB)")
    outcome = runner.run(
        [uv, "python", "install", "--no-bin", "3.10"],
        UV_PYTHON_DOWNLOADS="manual",
        UV_PYTHON_INSTALL_DIR=str(folder),
    )
    for path in _newest_first(folder, "cpython-3.10.*/bin/python3.10"):
        if not examine(path, env).problem:
            return path
    unreachable = cause_of(outcome.output) == NETWORK
    hindrance = " (the place to download it from cannot be reached)" if unreachable else ""
    raise SetupError(
        f"There is no usable Python 3.10 on this machine and none could be downloaded{hindrance}: install "
        f"one, for example with `pyenv install 3.10` or the system's package manager, or set {OVERRIDE} to "
        "its path"
    )
