"""What some tests need and no Python package carries: a browser, databases, Prometheus' tools, load, a data set.

    python3 scripts/programs.py             install what is missing (Debian and Ubuntu, as root)
    python3 scripts/programs.py --check     only say by the exit code (0 or 1) whether all is there

Needs no package and any Python from 3.8 on. Without them those tests are skipped and say so.
"""

from __future__ import annotations

import glob
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
# file that is no program, as a pattern: Debian package
FILES = {
    "/usr/share/datasets/fashion-mnist": "dataset-fashion-mnist",
    "/usr/lib/*/libusb-1.0.so.0": "libusb-1.0-0",  # TensorFlow's reader of the metadata in TFLite files
}
SERVERS = ("/usr/sbin",)  # where servers lie, which not every user has on the PATH
QUIET = ("-y", "-qq", "--no-install-recommends")


def missing() -> dict[str, str]:
    """Package by program or file, of what is not there."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SERVERS])
    programs = {name: package for name, package in PROGRAMS.items() if shutil.which(name, path=places) is None}
    return {**programs, **{name: package for name, package in FILES.items() if not glob.glob(name)}}


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
