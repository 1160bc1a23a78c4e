"""What a stage costs: wall time, CPU time and peak memory of this process and its children."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_CLEAR_PEAK = "5"
"""Written to `/proc/self/clear_refs`, resets the peak of the resident set (Linux, proc(5))."""


class Meter:
    """Measures from its construction on; the peak of memory is that since then, not since the process began."""

    def __init__(self) -> None:
        """Start measuring."""
        with contextlib.suppress(OSError):  # else the peak is that of the whole process, still an upper bound
            Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
        self._start = time.perf_counter()
        self._cpu = _cpu_seconds()

    def read(self) -> tuple[float, float, float]:
        """Return wall seconds, CPU seconds and the peak resident set in MB."""
        wall = time.perf_counter() - self._start
        return round(wall, 3), round(_cpu_seconds() - self._cpu, 3), round(_peak_mb(), 1)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
