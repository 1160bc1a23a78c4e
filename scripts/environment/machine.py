"""Whether this machine can hold the environment at all: platform, C library, room on the disk.

Nothing comes in but the folder to fill; a `SetupError` goes out where the machine will not do.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from environment.failures import SetupError

GIGABYTE = 1e9
# Measured: 3.1 GB of packages, 0.3 GB of bytecode; uv's cache shares its blocks on the same file system.
NEW_ENVIRONMENT_GB = 5.0
CHANGED_ENVIRONMENT_GB = 1.0
OLDEST_GLIBC = (2, 28)


def check_platform() -> None:
    """Refuse a machine for which the locked packages are not built.

    Raises:
        SetupError: on anything but Linux on x86-64 with glibc 2.28 or newer.
    """
    system, machine = platform.system(), platform.machine().lower()
    if system != "Linux" or machine not in ("x86_64", "amd64"):
        raise SetupError(
            f"The locked packages are built for Linux on x86-64 and this is {system or 'an unknown system'} "
            f"on {machine or 'an unknown processor'}: use such a machine, or a container for linux/amd64"
        )
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name != "glibc" or numbers < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        raise SetupError(
            f"The locked packages need glibc {oldest} or newer and this system has "
            f"{f'{name} {version}'.strip() or 'another C library'}: use a newer Debian, Ubuntu or "
            "Fedora"
        )


def check_disk(root: Path, env: Mapping[str, str], changes_only: bool = False) -> None:
    """Refuse to begin an installation that the disk cannot hold.

    Args:
        root: the clone, whose file system takes `.venv`.
        env: tells where uv keeps its cache, which is checked too where it lies on another file system.
        changes_only: an environment is there and only differences will be installed.

    Raises:
        SetupError: if there is too little room.
    """
    needed = CHANGED_ENVIRONMENT_GB if changes_only else NEW_ENVIRONMENT_GB
    for folder in {_device(folder): folder for folder in (cache_folder(env), root)}.values():
        free = shutil.disk_usage(folder).free / GIGABYTE
        if free < needed:
            raise SetupError(
                f"The set-up needs {needed:.0f} GB of free disk and the file system of {folder} has "
                f"{free:.1f} GB: make room there, or clone to a larger disk and set UV_CACHE_DIR to a "
                "folder on it"
            )


def cache_folder(env: Mapping[str, str]) -> Path:
    """The nearest existing folder to the place where uv keeps its cache."""
    home = env.get("HOME") or os.path.expanduser("~")
    default = os.path.join(env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "uv")
    folder = Path(env.get("UV_CACHE_DIR") or default).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _device(folder: Path) -> int:
    return os.stat(str(folder)).st_dev
