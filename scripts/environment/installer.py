"""Gets uv, which installs the lock: the one on PATH if it is recent, else a pinned one through some pip.

In come the interpreters that may have a pip; out goes the path of uv, or a `SetupError`. Called by the
set-up. A Python may have a pip but no venv, a venv but no pip, or (Debian's, as it comes) neither, so several
ways are tried in turn. Whichever pip does it, the file that it installs must have one of the SHA-256 in
`uv.txt`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from environment.commands import Runner, ask
from environment.failures import CERTIFICATE, HASH, NETWORK, SPACE, SetupError, cause_of, sentence_for

# Older ones lack UV_DEFAULT_INDEX, or time out while compiling bytecode on a busy machine.
OLDEST_UV = (0, 7, 0)
PINNED_UV = Path(__file__).with_name("uv.txt")
PIP_INSTALL = (
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
    "--no-deps",
    "--only-binary",
    ":all:",
)
# Another way to get a pip would meet the same obstacle.
FINAL_CAUSES = (NETWORK, CERTIFICATE, HASH, SPACE)


def obtain_uv(tools: Path, pythons: Sequence[str], env: Mapping[str, str], runner: Runner) -> str:
    """Return the path of a uv that starts, installing a private one into `tools` if need be.

    Args:
        tools: the clone's folder for its own tools.
        pythons: interpreters to try, the best first.
        env: environment of the tools.
        runner: runs pip and writes the log.

    Raises:
        SetupError: if no interpreter can install it; or no network, a wrong hash, a full disk.
    """
    for candidate in (shutil.which("uv", path=env.get("PATH")), str(tools / "uv/bin/uv")):
        if candidate and version_of(candidate, env) >= OLDEST_UV:
            return candidate
    runner.say("      fetching the installer uv (25 MB)")
    for python in pythons:
        for pip in _ways_to_pip(python, tools, env, runner):
            target = tools / "uv"
            shutil.rmtree(str(target), ignore_errors=True)
            outcome = runner.run(
                [*pip, *PIP_INSTALL, "--require-hashes", "--target", str(target), "-r", str(PINNED_UV)]
            )
            if outcome.code == 0 and version_of(str(target / "bin/uv"), env) >= OLDEST_UV:
                return str(target / "bin/uv")
            if cause_of(outcome.output) in FINAL_CAUSES:
                raise SetupError(sentence_for(outcome.output, "fetching uv"))
    raise SetupError(
        "uv, which installs the packages, is not here and no Python on this machine has a pip that could "
        "fetch it: install one of the two (Debian: `apt-get install python3-venv`)"
    )


def version_of(uv: str, env: Mapping[str, str]) -> tuple[int, ...]:
    """The version of a uv program, `(0,)` if it does not start."""
    outcome = ask([uv, "--version"], env)
    match = re.match(r"uv (\d+)\.(\d+)\.(\d+)", outcome.output) if outcome.code == 0 else None
    return tuple(int(part) for part in match.groups()) if match else (0,)


def _ways_to_pip(python: str, tools: Path, env: Mapping[str, str], runner: Runner) -> Iterator[list[str]]:
    """Commands that run a pip of this interpreter, tried in turn until one has done its work."""
    if ask([python, "-m", "pip", "--version"], env).code == 0:
        yield [python, "-m", "pip"]
    venv = tools / "pip"
    inside = str(venv / "bin/python")
    shutil.rmtree(str(venv), ignore_errors=True)
    if runner.run([python, "-m", "venv", str(venv)]).code == 0:
        yield [inside, "-m", "pip"]
    shutil.rmtree(str(venv), ignore_errors=True)
    bare = runner.run([python, "-m", "venv", "--without-pip", str(venv)]).code == 0
    if bare and runner.run([inside, "-m", "ensurepip"]).code == 0:
        yield [inside, "-m", "pip"]
    shutil.rmtree(str(venv), ignore_errors=True)
    wheel = _pip_from_debian(tools, env, runner)
    if wheel:
        yield [python, os.path.join(wheel, "pip")]


def _pip_from_debian(tools: Path, env: Mapping[str, str], runner: Runner) -> str | None:
    """Debian's package of the pip wheel, unpacked without being root: pip runs from the wheel as it is."""
    if not (shutil.which("apt-get", path=env.get("PATH")) and shutil.which("dpkg-deb", path=env.get("PATH"))):
        return None
    folder = tools / "debian"
    if not list(folder.glob("**/pip-*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        # apt-get writes into the folder in which it runs.
        script = 'cd "$1" && apt-get download python3-pip-whl && dpkg-deb -x python3-pip-whl_*.deb .'
        runner.run(["sh", "-c", script, "sh", str(folder)])
    wheels = sorted(folder.glob("**/pip-*.whl"))
    return str(wheels[-1]) if wheels else None
