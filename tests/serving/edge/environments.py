"""Environments of their own for packages that do not live beside TensorFlow and TFX.

They are made with uv on first use and kept in the user's cache, one folder for each set of requirements.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Newest that run on Python 3.10.
LITERT = ("ai-edge-litert==2.3.0", "numpy==2.2.6", "pillow==12.3.0", "protobuf==7.36.2", "flatbuffers==25.12.19")
# The official reader of metadata; it asks for protobuf below 4 and for the system's libusb-1.0.
TFLITE_SUPPORT = (
    "tflite-support==0.4.4", "numpy==1.26.4", "protobuf==3.20.3", "flatbuffers==25.12.19", "absl-py==2.5.1",
    "pybind11==3.1.0", "sounddevice==0.5.6",
)  # fmt: skip


def python_with(requirements: tuple[str, ...]) -> str:
    """Interpreter of an environment with these packages; skips the test, with the reason, if it cannot be made."""
    uv = _uv()
    if uv is None:
        pytest.skip("uv is not installed, so no environment of its own can be made")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway" / "test-environments"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(f"{sys.version}{requirements}".encode()).hexdigest()[:16]
    python = folder / "bin" / "python"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # It outlives the clone that made it, and may have lost the interpreter that it was made from.
        if not (folder / "complete").exists() or not os.access(python, os.X_OK):
            base = os.path.realpath(sys.executable)
            _run(uv, "venv", "--clear", "--no-project", "--python", base, str(folder))
            _run(uv, "pip", "install", "--python", str(python), *requirements)
            (folder / "complete").touch()
    return str(python)


def _uv() -> str | None:
    found = shutil.which("uv")
    beside = [Path(sys.executable).with_name("uv"), *sorted((ROOT / ".tools").glob("**/bin/uv"))]
    return found or next((str(path) for path in beside if os.access(path, os.X_OK)), None)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"`{' '.join(command[1:3])}` failed, perhaps without a network: {done.stderr.strip()[-400:]}")
