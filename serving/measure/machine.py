"""On what a measurement was made: CPU, load and versions, as a measured time means nothing without them.

Comes in: nothing. Goes out: a JSON-able description. Called by `serving.measure.worker` before and after timing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The instructions that decide how fast 8-bit and 16-bit arithmetic is.
_FLAGS = frozenset(
    {"sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"}
    | {"avx_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve"}
)
_RUNTIMES = ("tensorflow", "numpy", "onnxruntime", "onnx", "openvino")


def describe(threads: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Describe this machine now.

    Args:
        threads: Threads that each runtime may use.
        cpuinfo: Where Linux describes the CPU; without it model and flags stay empty.

    Returns:
        `cpu`, `cpu_flags` (those that matter to models), `cores`, `threads`, `load_average` (1, 5, 15 minutes),
        `python`, `system`, and `versions` of the runtimes that are installed.
    """
    model, flags = _cpu(cpuinfo)
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cpu_flags": sorted(_FLAGS & flags),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "load_average": load_average(),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": dict(_versions()),
    }


def load_average() -> list[float]:
    """Load of the last 1, 5 and 15 minutes; empty where the system does not tell."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return []


def _cpu(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", frozenset()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags") or fields.get("features") or ""
    return fields.get("model name", ""), frozenset(flags.split())


def _versions() -> Mapping[str, str]:
    found = {}
    for name in _RUNTIMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
