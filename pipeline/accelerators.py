"""The truth about GPU and TF-TRT on this machine, found out without risk to the asking process.

Nothing comes in but a time limit; an `Accelerators` goes out. Called by `pipeline.doctor`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROBE = Path(__file__).with_name("accelerator_probe.py")
# Importing TensorFlow takes 5 s, and ten times that on a busy machine without bytecode.
TIME_LIMIT = 120.0

# The rungs of the ladder; `unknown` if the probe itself failed.
TFTRT_STATES = ("not_built", "no_gpu", "no_libnvinfer", "version_mismatch", "ok", "unknown")


@dataclass(frozen=True)
class Accelerators:
    """What the probe found.

    Attributes:
        tensorflow: the version that started, empty if it did not.
        gpus: names of the GPUs that TensorFlow sees.
        cuda_build: whether this TensorFlow can use a GPU at all.
        tftrt: one of `TFTRT_STATES`.
        linked: TensorRT version that TensorFlow was built for, empty if unknown.
        loaded: TensorRT version found on this machine, empty if none.
        failure: why the probe failed, empty if it did not.
    """

    tensorflow: str = ""
    gpus: tuple[str, ...] = ()
    cuda_build: bool = False
    tftrt: str = "unknown"
    linked: str = ""
    loaded: str = ""
    failure: str = ""


def probe_accelerators(time_limit: float = TIME_LIMIT) -> Accelerators:
    """Ask TensorFlow in a subprocess.

    Args:
        time_limit: seconds after which the probe is given up.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(PROBE)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return _read(_as_text(error.stdout), f"no answer within {time_limit:.0f} s")
    except OSError as error:
        return Accelerators(failure=str(error))
    return _read(done.stdout, _failure(done.returncode, done.stderr))


def _failure(code: int, errors: str) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"TensorFlow ended the probe by signal {-code}"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"the probe ended with exit code {code}"


def _read(output: str, failure: str) -> Accelerators:
    facts: dict[str, Any] = {}
    for line in output.splitlines():
        try:
            fact = json.loads(line)
        except ValueError:
            continue  # TensorFlow prints there, too
        if isinstance(fact, dict):
            facts.update(fact)
    return Accelerators(
        tensorflow=facts.get("tensorflow", ""),
        gpus=tuple(facts.get("gpus", ())),
        cuda_build=bool(facts.get("cuda_build")),
        tftrt=facts.get("tftrt", "unknown"),
        linked=facts.get("linked", ""),
        loaded=facts.get("loaded", ""),
        failure=failure,
    )


def _as_text(output: bytes | str | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
