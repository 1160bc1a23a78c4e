"""Programs that some tests drive and that no Python package carries: a browser, databases, Prometheus' tools, load.

    python3 scripts/programs.py             install what is missing (Debian and Ubuntu, as root)
    python3 scripts/programs.py --check     only say by the exit code (0 or 1) whether all is there

Needs no package and any Python from 3.8 on. Without them those tests are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# program: Debian package
PROGRAMS = {
    "chromium": "chromium",
    "redis-server": "redis-server",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "mariadbd": "mariadb-server",
    "pg_ctlcluster": "postgresql",
}
SERVERS = ("/usr/sbin",)  # where servers lie, which not every user has on the PATH
QUIET = ("-y", "-qq", "--no-install-recommends")


def missing() -> dict[str, str]:
    """Package by program, of what is not on the PATH."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SERVERS])
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program, path=places) is None}


def main(arguments: list[str]) -> int:
    """Install what is missing.

    Args:
        arguments: empty, or `--check`.

    Returns:
        The exit code: 0 all there, 1 (`--check`) something is missing, 2 it cannot be installed.
    """
    wanted = missing()
    if not wanted:
        return 0
    if "--check" in arguments:
        return 1
    names = ", ".join(wanted)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        packages = " ".join(wanted.values())
        return _refuse(f"{names} missing; as root on Debian or Ubuntu: apt-get install {packages}")
    print(f"installing {names}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("apt-get", "update", "-qq"), ("apt-get", "install", *QUIET, *wanted.values())):
        outcome = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if outcome.returncode != 0:
            lines = outcome.stdout.decode("utf-8", "replace").strip().splitlines()
            return _refuse(f"{' '.join(command)} failed: {lines[-1] if lines else 'no output'}")
    still = missing()
    return _refuse(f"{', '.join(still)} still missing after the installation") if still else 0


def _refuse(sentence: str) -> int:
    print(f"programs: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
