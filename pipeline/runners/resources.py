"""What a stage costs: wall time, CPU time and peak memory of this process and its children."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

worker_costs: list[tuple[float, float]] = []
"""CPU seconds and peak MB of worker processes that have ended, which are no children of this process."""

_imports: dict[int, float] = {}
"""CPU seconds, counted already, of processes from which workers are forked."""

_CLEAR_PEAK = "5"
"""Written to `/proc/self/clear_refs`, resets the peak of the resident set (Linux, proc(5))."""


def note_worker(cpu_seconds: float, peak_bytes: int, forked_from: int) -> None:
    """Add what a worker process cost to that of the stage at hand.

    Args:
        cpu_seconds: of the worker.
        peak_bytes: its peak resident set, with what it shares with others.
        forked_from: process that has made the imports of all workers; it counts once.
    """
    made = _cpu_seconds_of(forked_from)
    cpu_seconds += max(0.0, made - _imports.get(forked_from, 0.0))
    _imports[forked_from] = made
    worker_costs.append((cpu_seconds, peak_bytes / 1e6))


class Meter:
    """Measures from its construction on; the peak of memory is that since then, not since the process began."""

    def __init__(self) -> None:
        """Start measuring."""
        with contextlib.suppress(OSError):  # else the peak is that of the whole process, still an upper bound
            Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
        self._start = time.perf_counter()
        self._cpu = _cpu_seconds()
        self._workers = len(worker_costs)

    def read(self) -> tuple[float, float, float]:
        """Return wall seconds, CPU seconds of all processes, and the peak resident set of the largest one in MB."""
        wall = time.perf_counter() - self._start
        workers = worker_costs[self._workers :]
        cpu = _cpu_seconds() - self._cpu + sum(seconds for seconds, _ in workers)
        return round(wall, 3), round(cpu, 3), round(max([peak_mb(), *(peak for _, peak in workers)]), 1)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpu_seconds_of(process: int) -> float:
    """Return the CPU seconds of a running process; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)


def peak_mb() -> float:
    """Return the peak resident set of this process in MB, since a meter was last started."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
